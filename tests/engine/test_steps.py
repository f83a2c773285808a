"""What may be a step, what of a call counts, and what a step is outside of a flow."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import InvalidNameError, UnrecordableValueError, UsageError


def inputs_of(exec_id, step):
    execution = KitaruClient().executions.get(exec_id)
    return [{name: a.to_json() for name, a in c.inputs.items()} for c in execution.checkpoints if c.name == step]


# ---------------------------------------------------------------- outside of a flow


def test_outside_of_a_flow_a_step_just_runs(store):
    @checkpoint(retries=3, timeout=5)
    def half(n):
        return n / 2

    assert half(4) == 2
    assert half.submit(4).result() == 2
    assert [f.result() for f in half.map([2, 4])] == [1, 2]
    with pytest.raises(TypeError):
        half("x")
    with pytest.raises(TypeError):
        half.submit("x").result()
    assert list(store.list("")) == []


def test_outside_of_a_flow_an_async_step_is_a_coroutine(store):
    @checkpoint
    async def half(n):
        await asyncio.sleep(0)
        return n / 2

    assert asyncio.run(half(4)) == 2
    assert half.submit(4).result() == 2

    async def main():
        return await half.submit(4)

    assert asyncio.run(main()) == 2


# ---------------------------------------------------------------- metadata


def test_a_step_looks_like_its_function():
    @checkpoint
    def plain(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    @checkpoint
    async def other():
        """Waits."""

    assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Adds.", __name__)
    assert str(inspect.signature(plain)) == "(a: 'int', b: 'int' = 2) -> 'int'"
    assert plain.__wrapped__(1) == 3
    assert not inspect.iscoroutinefunction(plain)
    assert asyncio.iscoroutinefunction(other)
    assert inspect.iscoroutinefunction(other) or not hasattr(inspect, "markcoroutinefunction")
    assert repr(plain) == "<checkpoint plain>"


def test_runtime_is_accepted_and_type_is_recorded(store, client):
    @checkpoint(type="llm_call", runtime="isolated")
    def ask():
        return "yes"

    @flow
    def body():
        return ask()

    assert client.executions.get(body.run().exec_id).checkpoints[0].data.type == "llm_call"


# ---------------------------------------------------------------- arguments


def test_defaults_keywords_and_variadics_count_by_name(store):
    @checkpoint
    def many(a, /, b, c=3, *rest, d, e=5, **more):
        return [a, b, c, rest, d, e, more]

    @flow
    def body():
        return many(1, 2, d=4), many(1, 2, 3, 9, 8, d=4, x=1)

    handle = body.run()
    assert handle.get() == ([1, 2, 3, (), 4, 5, {}], [1, 2, 3, (9, 8), 4, 5, {"x": 1}])
    first, second = inputs_of(handle.exec_id, "many")
    assert {k: v for k, v in first.items() if k in "abcde"} == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert list(second) == ["a", "b", "c", "rest", "d", "e", "more"]


def test_a_default_that_is_given_is_the_same_call(store, ran):
    @checkpoint
    def add(a, b=2):
        ran("add")
        return a + b

    @flow
    def body(spell):
        got = add(1, b=2) if ran.names else add(1)
        if spell and len(ran.names) == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run(True)
    ran.names.append("again")
    assert body.options(exec_id="x").run(True).get() == 3
    assert ran.counts["add"] == 1


def test_ignored_parameters_do_not_count(store, ran):
    @checkpoint(ignore=["verbose"])
    def work(n, verbose):
        ran("work")
        return n

    @flow
    def body():
        got = work(1, verbose=ran("body"))
        if ran.counts["body"] == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == 1
    assert ran.counts["work"] == 1
    assert [list(i) for i in inputs_of("x", "work")] == [["n", "ran"]]


def test_ignore_names_parameters_that_there_are():
    with pytest.raises(UsageError, match=r"ignore= names b, which .*work does not take"):

        @checkpoint(ignore=["b"])
        def work(a):
            return a


def test_what_is_no_data_counts_by_its_type(store, ran):
    class Client:
        pass

    @checkpoint
    def ask(client, lock, function, text):
        return ran("ask")

    @flow
    def body(n):
        got = ask(Client(), threading.Lock(), lambda: n, "hello")
        if n == ran("body"):
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run(1)
    assert body.options(exec_id="x").run(1).get() == 1, "another lock and another client are the same call"
    (seen,) = KitaruClient().executions.get("x").checkpoints
    assert seen.inputs["client"].kind == seen.inputs["lock"].kind == "reference"
    assert "Client" in str(seen.inputs["client"].preview)


def test_the_free_variables_of_a_closure_count(store, ran):
    def make(rate):
        @checkpoint
        def tax(n):
            ran("tax")
            return n * rate

        return tax

    @flow
    def body():
        got = make(2)(10), make(3)(10)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (20, 30)
    assert ran.counts["tax"] == 2
    assert [i["rate"] for i in inputs_of("x", "tax")] == [2, 3]


def test_a_step_that_names_itself_is_a_closure_too(store):
    @checkpoint
    def down(n):
        return n if n == 0 else down(n - 1)

    @flow
    def body():
        return down(3)

    handle = body.run()
    assert handle.get() == 0
    labels = [c.label for c in KitaruClient().executions.get(handle.exec_id).checkpoints]
    assert labels == ["down#1", "down#1/down#1", "down#1/down#1/down#1", "down#1/down#1/down#1/down#1"]


# ---------------------------------------------------------------- methods


class Agent:
    """Without a data form: counts by its type."""

    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()

    @checkpoint
    def greet(self, whom):
        """Say hello."""
        return f"{self.name} greets {whom}"

    @checkpoint
    async def wave(self, whom):
        return f"{self.name} waves at {whom}"

    @classmethod
    @checkpoint
    def kind(cls):
        return cls.__name__

    @staticmethod
    @checkpoint
    def plain(n):
        return n + 1


class Special(Agent):
    @checkpoint
    def greet(self, whom):
        return f"special: {super().greet(whom)}"


@dataclass
class Rate:
    """A data form: counts by its value."""

    percent: int

    @checkpoint
    def of(self, n):
        return n * self.percent / 100


def test_methods_are_steps(store, client):
    @flow
    def body():
        agent = Agent("A")
        futures = agent.greet.map(["x", "y"])
        return agent.greet("B"), [f.result() for f in futures], agent.greet.submit("z").result(), Agent.plain(1)

    handle = body.run()
    assert handle.get() == ("A greets B", ["A greets x", "A greets y"], "A greets z", 2)
    steps = client.executions.get(handle.exec_id).checkpoints
    assert [c.name for c in steps] == ["greet"] * 4 + ["plain"]
    assert steps[0].inputs["self"].kind == "reference"


def test_methods_outside_of_a_flow_and_their_metadata():
    agent = Agent("A")
    assert agent.greet("B") == "A greets B"
    assert Agent.greet(agent, "B") == "A greets B"
    assert agent.greet.__doc__ == "Say hello."
    assert agent.greet.__name__ == "greet"
    assert agent.greet.__self__ is agent
    assert asyncio.iscoroutinefunction(agent.wave)
    assert asyncio.run(agent.wave("C")) == "A waves at C"
    assert "greet of Agent" in repr(agent.greet)
    assert Special.kind() == "Special"


def test_an_inherited_method_that_calls_its_super_nests(store, client):
    @flow
    def body():
        return Special("S").greet("T")

    handle = body.run()
    assert handle.get() == "special: S greets T"
    assert [c.label for c in client.executions.get(handle.exec_id).checkpoints] == ["greet#1", "greet#1/greet#1"]


def test_self_counts_by_its_data_where_it_has_some(store, ran):
    @flow
    def body():
        got = Rate(10).of(200), Rate(20).of(200)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (20, 40)
    seen = KitaruClient().executions.get("x").checkpoints
    assert [c.inputs["self"].load() for c in seen] == [Rate(10), Rate(20)]


# ---------------------------------------------------------------- outputs


def test_several_outputs_are_artifacts_of_their_own(store, client):
    @checkpoint(outputs=("mean", "rows"))
    def describe(xs):
        return sum(xs) / len(xs), len(xs)

    @flow
    def body():
        mean, rows = describe([1, 2, 3])
        return mean, rows

    handle = body.run()
    assert handle.get() == (2, 3)
    (step,) = client.executions.get(handle.exec_id).checkpoints
    assert [(a.name, a.load()) for a in step.artifacts] == [("describe#1.mean", 2.0), ("describe#1.rows", 3)]
    assert client.artifacts.get(f"{handle.exec_id}:describe.rows").load() == 3


def test_several_outputs_come_back_as_a_tuple_on_resume(store, ran):
    @checkpoint(outputs=("a", "b"))
    def pair():
        ran("pair")
        return [1, 2]

    @flow
    def body():
        got = pair()
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (1, 2)
    assert ran.counts["pair"] == 1


def test_outputs_that_were_named_since_come_back_as_they_were_recorded(store, ran):
    def make(outputs):
        @checkpoint(outputs=outputs)
        def pair():
            ran("pair")
            return "first", "second"

        return pair

    @flow
    def body():
        pair = make(("a", "b") if ran("body") == 1 else None)
        got = pair()
        if ran.counts["body"] == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == ("first", "second")
    assert ran.counts["pair"] == 1


@pytest.mark.parametrize(("value", "got"), [((1,), "1 values"), ("ab", "str"), (None, "NoneType")])
def test_another_number_of_outputs_fails_the_step(store, value, got):
    @checkpoint(outputs=("a", "b"))
    def pair():
        return value

    @flow
    def body():
        return pair()

    with pytest.raises(UnrecordableValueError, match=rf"pair#1 must return a tuple of 2 values \(a, b\).*{got}"):
        body.run()


@pytest.mark.parametrize("outputs", [(), "ab", ("a", "a"), ("a b",), ("in",), (1,)])
def test_names_of_outputs_are_checked(outputs):
    with pytest.raises(UsageError, match="outputs="):

        @checkpoint(outputs=outputs)
        def step():
            return 1


# ---------------------------------------------------------------- what may be a step


def test_a_generator_is_no_step():
    with pytest.raises(
        UsageError, match=r"is a generator: what it yields has no end that could be recorded. Return a list"
    ):

        @checkpoint
        def some():
            yield 1

    with pytest.raises(UsageError, match="is a generator"):

        @checkpoint
        async def others():
            yield 1


def test_a_lambda_is_no_step():
    with pytest.raises(
        InvalidNameError, match="a lambda has no name to find its records by: write the step with `def`"
    ):
        checkpoint(lambda x: x)


@pytest.mark.parametrize("thing", [int, print, 7, Agent("A")])
def test_what_is_no_function_is_no_step(thing):
    with pytest.raises(UsageError, match=r"a step must be a function or a method, and this is .*wrap it in a `def`"):
        checkpoint(thing)


def test_staticmethod_stands_above():
    with pytest.raises(UsageError, match="put @staticmethod above @checkpoint"):

        class _Bad:
            @checkpoint
            @staticmethod
            def f():
                return 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retries": -1}, "retries=-1 of step"),
        ({"retries": 1.5}, "retries=1.5 of step"),
        ({"retries": "2"}, "retries='2' of step"),
        ({"timeout": 0}, "timeout=0 of step"),
        ({"timeout": -2.0}, "timeout=-2.0 of step"),
        ({"timeout": float("nan")}, "timeout=nan of step"),
        ({"timeout": "5"}, "timeout='5' of step"),
        ({"ignore": "n"}, "ignore='n' of step"),
    ],
)
def test_a_bad_option_is_named(options, says):
    def step(n):
        return n

    with pytest.raises(UsageError) as e:
        checkpoint(**options)(step)
    assert says in str(e.value)


@pytest.mark.parametrize(
    "name", ["a/b", "a:b", "a#1", "a~1", "a@b", "a b", "a\n", "a.b", "", "x" * 201, "a\x00", "a\x85"]
)
def test_a_hostile_name_is_refused(name):
    def step():
        return 1

    step.__name__ = name
    with pytest.raises(InvalidNameError, match="cannot be the name of a step or flow"):
        checkpoint(step)


@pytest.mark.parametrize("name", ["größe", "步骤", "x" * 200, "%2F", "a\\b", "$(rm)", "<b>"])
def test_an_odd_name_that_is_allowed_goes_all_the_way(store, client, name):
    def step():
        return 1

    step.__name__ = name
    step = checkpoint(step)

    @flow
    def body():
        return step()

    exec_id = body.run().exec_id
    assert client.artifacts.get(f"{exec_id}:{name}#1.output").load() == 1


# ---------------------------------------------------------------- two of one name


def test_two_steps_of_one_name_in_one_module_are_refused(run_script, tmp_path):
    (tmp_path / "twin.py").write_text(
        "from kitaru import checkpoint\n\n@checkpoint\ndef a():\n    return 1\n\n@checkpoint\ndef a():\n    return 2\n"
    )
    done = run_script("twin.py")
    assert done.code == 1
    assert "two steps are called a" in done.err
    assert "at lines 3 and 7" in done.err
    assert "Rename one" in done.err


def test_a_module_that_is_reloaded_may_have_changed(run_script, tmp_path):
    (tmp_path / "mod.py").write_text("from kitaru import checkpoint\n\n@checkpoint\ndef a():\n    return 1\n")
    (tmp_path / "main.py").write_text(
        "import importlib, mod\n"
        "text = open('mod.py').read()\n"
        "open('mod.py', 'w').write('# a new first line, and more\\n\\n' + text.replace('1', '22'))\n"
        "importlib.reload(mod)\n"
        "print(mod.a())\n"
    )
    done = run_script("main.py")
    assert (done.code, done.out) == (0, "22\n"), done.err


def test_a_cell_that_is_run_again_defines_its_step_anew():
    scope = {"__name__": "__main__", "checkpoint": checkpoint}
    exec(compile("@checkpoint\ndef cell():\n    return 1\n", "<cell 1>", "exec"), scope)
    exec(compile("\n\n@checkpoint\ndef cell():\n    return 2\n", "<cell 2>", "exec"), scope)
    assert scope["cell"]() == 2


def test_a_function_that_makes_steps_may_make_many():
    def make(n):
        @checkpoint
        def made():
            return n

        return made

    assert [make(1)(), make(2)()] == [1, 2]
