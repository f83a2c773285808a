"""A flow that nothing goes wrong in: what it returns, what it leaves, what may be one."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import InvalidNameError, KitaruError, UsageError
from kitaru.handles import Handle


@checkpoint
def double(n):
    return 2 * n


@flow
def twice(n, *, plus=0):
    """Double it twice."""
    return double(double(n)) + plus


@flow
async def later(n):
    await asyncio.sleep(0)
    return double(n)


def test_run_gives_a_handle_that_has_the_result(store):
    handle = twice.run(3, plus=1)
    assert isinstance(handle, Handle)
    assert (handle.get(), handle.wait(), handle.wait(timeout=1)) == (13, 13, 13)
    assert handle.status == "completed"
    assert handle.exec_id.startswith("twice-")
    assert handle.tally.ran == 2
    assert repr(handle) == f"<execution {handle.exec_id}: completed>"


def test_calling_a_flow_gives_its_result(store):
    assert twice(3) == 12


def test_each_run_is_an_execution_of_its_own(store, client):
    assert twice.run(1).exec_id != twice.run(1).exec_id
    assert len(client.executions.list()) == 2


def test_what_a_run_leaves_is_seen_by_the_client(store, client):
    handle = twice.run(3)
    seen = client.executions.get(handle.exec_id)
    assert (seen.flow, seen.status.value, seen.status.is_finished, seen.result) == ("twice", "completed", True, 12)
    assert seen.failure is None
    assert [(c.label, c.status, c.artifacts[0].load()) for c in seen.checkpoints] == [
        ("double#1", "completed", 6),
        ("double#2", "completed", 12),
    ]
    assert seen.checkpoints[1].inputs["n"].load() == 6
    assert "return 2 * n" in seen.checkpoints[0].source


def test_a_result_of_none_is_a_result(store, client):
    @flow
    def nothing():
        return None

    handle = nothing.run()
    assert handle.get() is None
    assert client.executions.get(handle.exec_id).result is None


def test_a_flow_without_a_step_is_recorded(store, client):
    @flow
    def empty(x):
        return x

    assert client.executions.get(empty.run({"a": (1, 2)}).exec_id).result == {"a": (1, 2)}


def test_a_flow_keeps_its_functions_name_and_text():
    assert twice.__name__ == "twice"
    assert twice.__doc__ == "Double it twice."
    assert list(inspect.signature(twice).parameters) == ["n", "plus"]
    assert repr(twice) == "<flow twice>"


def test_a_wrong_call_is_refused_before_anything_is_recorded(store):
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        twice.run()
    assert list(store.list("")) == []


# ---------------------------------------------------------------- async


def test_an_async_flow_blocks_where_no_loop_runs(store):
    handle = later.run(2)
    assert (handle.status, handle.get()) == ("completed", 4)
    assert later(2) == 4


def test_an_async_flow_within_a_loop_is_driven_by_awaiting_its_handle(store):
    async def main():
        handle = later.run(2)
        assert handle.status == "pending"
        with pytest.raises(UsageError, match="`await` its handle"):
            handle.get()
        assert await handle == 4
        assert await handle == 4, "awaiting it again gives the result again"
        assert handle.status == "completed"
        assert handle.get() == 4
        return await later(5)

    assert asyncio.run(main()) == 10


def test_two_who_await_one_handle_drive_it_once(store, ran):
    @checkpoint
    async def once():
        return ran("once")

    @flow
    async def body():
        return await once()

    async def main():
        handle = body.run()

        async def wait():
            return await handle

        return await asyncio.gather(wait(), wait())

    assert asyncio.run(main()) == [1, 1]


def test_an_async_flows_failure_comes_from_awaiting_it(store):
    @flow
    async def bad():
        raise LookupError("gone")

    async def main():
        handle = bad.run()
        with pytest.raises(LookupError, match="gone"):
            await handle
        assert handle.status == "failed"
        with pytest.raises(LookupError, match="gone"):
            handle.get()

    asyncio.run(main())


def test_many_async_flows_in_one_loop(store):
    async def main():
        return await asyncio.gather(*(later(n) for n in range(8)))

    assert asyncio.run(main()) == [2 * n for n in range(8)]


def test_a_sync_flow_within_a_loop_blocks(store):
    async def main():
        return twice.run(1).get()

    assert asyncio.run(main()) == 4


# ---------------------------------------------------------------- options


def test_without_raises_the_handle_is_given_and_holds_the_exception(store):
    @flow
    def bad():
        raise ValueError("no")

    handle = bad.options(raises=False).run()
    assert handle.status == "failed"
    with pytest.raises(ValueError, match="no"):
        handle.get()
    with pytest.raises(ValueError, match="no"):
        handle.wait()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_drift": "maybe"}, 'on_drift=\'maybe\': write "reuse", "rerun" or "error"'),
        ({"inputs": "old"}, "inputs='old': write \"recorded\""),
        ({"max_workers": 0}, "max_workers=0: at least one worker"),
        ({"max_workers": "3"}, "max_workers='3'"),
        ({"exec_id": ""}, "cannot be an exec_id"),
        ({"exec_id": 7}, "7 cannot be an exec_id"),
    ],
)
def test_a_bad_option_is_named(options, says):
    with pytest.raises(UsageError) as e:
        twice.options(**options)
    assert says in str(e.value)


@pytest.mark.parametrize(
    "exec_id", ["a/b", "a\\b", "../x", "a..b", "", "x" * 101, ".a", "-a", "a b", "ä", "a\n", "a:b"]
)
def test_an_exec_id_that_cannot_be_one_is_refused(store, exec_id):
    with pytest.raises(InvalidNameError, match=r"cannot be an exec_id: it must be 1 to 100 letters"):
        twice.options(exec_id=exec_id)
    assert list(store.list("")) == []


def test_an_exec_id_of_100_characters_is_fine(store):
    name = "Ab9._-" * 16 + "wxyz"
    assert twice.options(exec_id=name).run(1).exec_id == name
    assert KitaruClient().executions.get(name).result == 4


# ---------------------------------------------------------------- what may be a flow


def test_a_generator_is_no_flow():
    def some():
        yield 1

    async def others():
        yield 1

    for function in (some, others):
        with pytest.raises(UsageError, match="is a generator: a flow returns its result"):
            flow(function)


def test_a_class_is_no_flow():
    with pytest.raises(UsageError, match="a flow must be a function, and this is type"):
        flow(int)


def test_a_lambda_is_no_flow():
    with pytest.raises(InvalidNameError, match="a lambda has no name"):
        flow(lambda: 1)


@pytest.mark.parametrize("name", ["exec_id", "from_", "overrides", "rerun", "on_drift"])
def test_a_parameter_that_replay_has_a_meaning_for_is_refused(name):
    scope = {}
    exec(f"def body({name}): return 1", scope)
    with pytest.raises(UsageError, match=f"parameter {name}, which `replay` has a meaning for: rename it"):
        flow(scope["body"])


def test_run_inside_of_a_body_is_refused(store):
    @flow
    def outer():
        return twice.run(1)

    with pytest.raises(UsageError, match=r"call twice\(…\), and it is a step of this one"):
        outer.run()

    @checkpoint
    def step():
        return twice.run(1)

    @flow
    def around():
        return step()

    with pytest.raises(UsageError, match="would be an execution apart"):
        around.run()


def test_every_error_of_a_bad_flow_is_kitarus():
    assert issubclass(InvalidNameError, KitaruError)
    assert issubclass(InvalidNameError, ValueError)
