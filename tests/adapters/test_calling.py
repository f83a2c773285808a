"""Steps whose body is somebody else's code: what adapters stand on."""

from __future__ import annotations

import asyncio

import pytest

from kitaru import KitaruClient, calling, checkpoint, flow
from kitaru.flows import Flow


class Model:
    """Counts what it is asked, and fails as often as it is told to."""

    def __init__(self):
        self.asked, self.fails, self.crash, self.version = [], 0, True, "1"

    def __call__(self, question, **more):
        self.asked.append((question, more) if more else question)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("reset")
        return question.upper()

    async def later(self, question):
        await asyncio.sleep(0)
        return self(question)


@pytest.fixture
def model():
    return Model()


def steps(handle):
    return KitaruClient().executions.get(handle.exec_id).checkpoints


def test_outside_of_a_flow_the_body_just_runs(model):
    assert not calling.is_in_flow()
    assert calling.call("ask", model, {"question": "a"}) == "A"
    assert asyncio.run(calling.call_async("ask", model.later, {"question": "b"})) == "B"
    live = calling.begin("ask", {"question": "c"})
    assert (live.is_recorded, live.succeed("C"), live.label) == (False, "C", "")
    live.log(tokens=1)
    live.fail(ValueError())


def test_who_asks_a_model_says_so_to_whoever_watches_what_is_sent(store):
    seen = {}

    def note(where):
        seen[where] = calling.is_asking()

    @checkpoint(type="llm_call")
    def own(where: str) -> None:
        note(where)

    def ask(where):
        note(where)
        own(f"a checkpoint in {where}")

    @flow
    def body() -> None:
        note("the flow")
        own("a checkpoint")
        calling.call("ask", ask, {"where": "a call"}, type="llm_call")
        calling.call("use", note, {"where": "a tool"}, type="tool_call")
        live = calling.begin("ask", {}, type="llm_call")
        note("while one goes on")
        with live.inside():
            note("inside of one")
        live.succeed(None)

    note("outside")
    body.run()
    assert [where for where, asking in seen.items() if asking] == ["a call", "inside of one"]
    assert len(seen) == 8


def test_a_call_is_recorded_once_and_its_code_is_its_version(store, model, capsys):
    @flow
    def body() -> list[str]:
        assert calling.is_in_flow()
        out = [
            calling.call("ask", model, {"question": q}, type="llm_call", version=model.version, retries=1) for q in "ab"
        ]
        if model.crash:
            raise RuntimeError("down")
        return out

    with pytest.raises(RuntimeError):
        body.options(exec_id="x").run()
    model.version = "2"
    with pytest.raises(RuntimeError):
        body.options(exec_id="x").run()
    assert model.asked == ["a", "b"]
    model.crash = False
    assert body.options(exec_id="x").run().get() == ["A", "B"]
    assert "the code of ask has changed" in capsys.readouterr().err
    (a, b) = KitaruClient().executions.get("x").checkpoints
    assert (a.label, a.data.type, a.inputs["question"].load(), b.artifacts[0].load()) == ("ask#1", "llm_call", "a", "B")
    assert body.replay("x", rerun="changed").get() == ["A", "B"]  # nobody can tell before it runs
    assert model.asked == ["a", "b"]
    body.replay("x", rerun=["ask"])
    assert model.asked == ["a", "b", "a", "b"]


def test_async_calls_have_their_place_where_they_are_called(store, model):
    @flow
    async def body() -> list[str]:
        return await asyncio.gather(*(calling.call_async("ask", model.later, {"question": q}) for q in "abc"))

    handle = body.run()
    assert handle.get() == ["A", "B", "C"]
    assert [(s.label, s.inputs["question"].load()) for s in steps(handle)] == [
        ("ask#1", "a"), ("ask#2", "b"), ("ask#3", "c"),
    ]  # fmt: skip


def test_an_overridden_input_reaches_the_body_and_an_unknown_one_is_refused(store, model):
    names = ["question", "size"]

    @flow
    def body() -> str:
        given = dict(zip(names, ["a", 1], strict=False))
        live = calling.begin("live", given, type="llm_call")
        live.succeed(model(**live.arguments))
        return calling.call("ask", model, given, type="llm_call")

    first = body.run()
    second = body.replay(first.exec_id, overrides={"type.llm_call.in.size": 2})
    assert second.get() == "A"
    assert model.asked == [("a", {"size": 1})] * 2 + [("a", {"size": 2})] * 2


def test_a_live_call_is_recorded_as_it_ends(store, model):
    @flow
    def body() -> list[str]:
        out = []
        for q in "ab":
            live = calling.begin("ask", {"question": q}, type="llm_call", version="1")
            if not live.is_recorded:
                with live.inside():
                    calling.call("inner", model, {"question": q})
                live.log(tokens=2)
                live.succeed(model(q))
                live.leave()
            out.append(live.value)
        if model.crash:
            raise RuntimeError("down")
        return out

    with pytest.raises(RuntimeError):
        body.options(exec_id="x").run()
    model.crash = False
    handle = body.options(exec_id="x").run()
    assert handle.get() == ["A", "B"]
    assert model.asked == ["a", "a", "b", "b"]
    assert [s.label for s in steps(handle)] == ["ask#1", "ask#1/inner#1", "ask#2", "ask#2/inner#1"]
    assert [s.metadata.get("tokens") for s in steps(handle)] == [2, None, 2, None]


def test_a_live_call_that_was_left_runs_again_at_its_place(store, model):
    @flow
    async def body() -> str:
        live = await calling.begin_async("ask", {"question": "a"})
        if not model.crash:
            return await live.succeed_async(model("a"))
        await live.fail_async(asyncio.CancelledError())
        raise RuntimeError("left")

    handle = body.options(exec_id="x", raises=False).run()
    assert [s.status for s in steps(handle)] == ["interrupted"]
    model.crash = False
    assert body.options(exec_id="x").run().get() == "A"
    assert [(s.label, s.status, s.data.attempts) for s in steps(handle)] == [("ask#1", "completed", 2)]


def test_further_attempts_of_a_live_call_and_its_failure_are_recorded(store, model):
    @flow
    def body() -> str:
        live = calling.begin("ask", {"question": "a"})
        live.may_fail(ConnectionError("reset"))
        live.again()
        live.succeed("A")
        try:
            live = calling.begin("ask", {"question": "b"})
            error = ConnectionError("gone")
            live.may_fail(error)
            live.again()
            live.fail(error)
            raise error
        except ConnectionError as e:
            model.fails = 0
            text = calling.call("ask", model, {"question": str(e)})
        if model.crash:
            raise RuntimeError("down")
        return text

    with pytest.raises(RuntimeError):
        body.options(exec_id="x").run()
    model.crash = False
    assert body.options(exec_id="x").run().get() == "GONE"
    assert model.asked == ["gone"]
    found = KitaruClient().executions.get("x").checkpoints
    assert [(s.status, s.data.attempts) for s in found] == [("completed", 2), ("failed", 2), ("completed", 1)]


def test_a_live_call_whose_value_cannot_be_recorded_fails(store):
    @flow
    def body() -> None:
        calling.begin("ask", {}).succeed(object.__new__(type("Odd", (), {"__reduce_ex__": None})))

    with pytest.raises(Exception, match="ask#1"):
        body.run()


def test_a_version_is_a_step_with_one_fingerprint(store, model):
    """The engine keeps no body of a call that is over."""

    @flow
    def body() -> None:
        for q in "abcdef":
            calling.call("ask", model, {"question": q}, version="1")
        calls = calling.current.get().engine.calls
        assert len(calls._codes) == 1

    assert isinstance(body, Flow)
    body.run()


def test_a_failure_that_nobody_tried_again_is_a_result_where_the_body_goes_on(store, model):
    @flow
    def body() -> str:
        live = calling.begin("ask", {"question": "a"})
        live.may_fail(ConnectionError("gone"))
        try:
            raise RuntimeError("the library's own")
        except RuntimeError:
            pass
        text = calling.call("other", model, {"question": "b"})
        if model.crash:
            raise RuntimeError("down")
        return text

    with pytest.raises(RuntimeError, match="down"):
        body.options(exec_id="x").run()
    found = KitaruClient().executions.get("x").checkpoints
    assert [(c.label, c.status) for c in found] == [("ask#1", "failed"), ("other#1", "completed")]
    with pytest.raises(ConnectionError, match="gone"):
        body.options(exec_id="x").run()  # it is the result of that call


@pytest.mark.parametrize("notifies", [False, True])
def test_a_failure_that_came_out_of_the_body_runs_again(store, model, notifies):
    @flow
    def body() -> str:
        live = calling.begin("ask", {"question": "a"})
        if not model.crash:
            return live.succeed("A")
        live.may_fail(ConnectionError("gone"))
        try:
            raise RuntimeError("the library's own")
        except RuntimeError:
            if notifies:
                calling.call("notify", model, {"question": "b"})
            raise

    with pytest.raises(RuntimeError, match="own"):
        body.options(exec_id="x").run()
    execution = KitaruClient().executions.get("x")
    assert (execution.checkpoints[0].status, execution.failed_at) == ("failed", "ask#1")
    model.crash = False
    assert body.options(exec_id="x").run().get() == "A"


def test_no_failure_holds_a_credential(store):
    calling.conceal("sk-planted-key", "short")

    @flow
    def body() -> None:
        error = RuntimeError("asked https://x?key=sk-planted-key for short")
        error.add_note("sk-planted-key")
        raise error

    with pytest.raises(RuntimeError):
        body.options(exec_id="x").run()
    failure = KitaruClient().executions.get("x").failure
    assert failure.message == "asked https://x?key=[credential] for short"
    assert all(b"sk-planted" not in data for data in store._place.objects.values())


def test_threads_carry_what_an_adapter_says(store):
    import threading
    from contextvars import ContextVar

    variable = ContextVar("variable", default=None)
    calling.carry(variable)
    seen = []

    @flow
    def body() -> None:
        variable.set("on")
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()

    body.run()
    assert seen == ["on"]


def test_calls_from_side_tasks_have_the_places_that_a_course_gives_them(store):
    begun = []

    @flow
    async def body() -> list[str]:
        course, second = calling.Course(), asyncio.Event()
        places = [course.reserve("ask") for _ in "ab"]

        async def one(n, question):
            async def answer(question):
                begun.append(question)
                second.set()
                return question.upper()

            if n == 0:
                await second.wait()
            return await calling.call_async("ask", answer, {"question": question}, place=places[n])

        out = await asyncio.gather(one(0, "a"), one(1, "b"))

        async def last():
            return await calling.call_async("ask", Model().later, {"question": "c"}, place=course.next())

        return [*out, await asyncio.create_task(last())]

    handle = body.run()
    assert handle.get() == ["A", "B", "C"]
    assert begun == ["b", "a"]
    asked = {p.label: p.inputs["question"].load() for p in steps(handle)}
    assert asked == {"ask#1": "a", "ask#2": "b", "ask#3": "c"}


def test_a_course_of_a_side_task_or_of_another_body_gives_no_places(store):
    @flow
    async def body() -> list[str]:
        outer = calling.Course()

        async def inside(question):
            assert (outer.next(), outer.reserve("ask")) == (None, None)
            return question

        async def beside():
            course = calling.Course()
            assert course.reserve("ask").ordinal is None
            return await calling.call_async("ask", inside, {"question": "a"}, place=course.next())

        return await asyncio.create_task(beside())

    handle = body.run()
    assert [p.label for p in steps(handle)] == ["ask~1"]
    assert calling.Course().next() is None
