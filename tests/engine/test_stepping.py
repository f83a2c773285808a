"""Stepping: an execution that pauses at the boundary of a step, durably, and goes on from there."""

import asyncio
import gc
import sys
import types
import warnings

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import ExecutionSuspended, UsageError
from kitaru.stepping import RecordedCall, begin, go_on, replaced
from kitaru.stores.memory import MemoryStore


@pytest.fixture
def stepped(ran):
    @checkpoint
    def inner(n):
        ran(f"inner {n}")
        return n * 10

    @checkpoint
    def outer(n):
        ran(f"outer {n}")
        return inner(n) + inner(n + 1)

    @checkpoint
    def total(values):
        ran("total")
        return sum(values)

    @flow
    def stepped(count):
        return total([outer(n) for n in range(count)])

    return stepped


def test_it_pauses_before_the_step_that_is_named_and_nothing_of_that_is_recorded(stepped, ran, client):
    handle = stepped.options(until="outer#2").run(2)
    assert handle.status == "paused"
    assert ran.names == ["outer 0", "inner 0", "inner 1"]
    execution = client.executions.get(handle.exec_id)
    assert execution.status.value == "paused"
    assert [c.label for c in execution.checkpoints] == ["outer#1", "outer#1/inner#1", "outer#1/inner#2"]


def test_a_resume_of_what_was_paused_runs_each_step_once(stepped, ran, client):
    handle = stepped.options(until="outer#2").run(2)
    assert client.executions.resume(handle.exec_id).get() == 40
    assert sorted(ran.names) == sorted(["outer 0", "inner 0", "inner 1", "outer 1", "inner 1", "inner 2", "total"])


def test_waiting_for_what_is_paused_ends_a_script_with_three_and_says_how_to_go_on(stepped, capsys):
    handle = stepped.options(until="total").run(1)
    with pytest.raises(ExecutionSuspended, match="kitaru resume") as caught:
        handle.get()
    assert caught.value.code == 3
    assert f"kitaru resume {handle.exec_id}" in capsys.readouterr().err or "kitaru resume" in str(caught.value)


def test_single_steps_count_those_of_the_flow_alone(stepped, ran, client):
    handle = stepped.options(until="outer").run(2)
    assert ran.names == []
    for expected in (["outer 0", "inner 0", "inner 1"], ["outer 1", "inner 1", "inner 2"]):
        before = len(ran.names)
        assert client.executions.resume(handle.exec_id, steps=1).status == "paused"
        assert ran.names[before:] == expected
    last = client.executions.resume(handle.exec_id, steps=1)
    assert (last.status, last.get()) == ("completed", 40)


def test_it_pauses_inside_of_a_step_and_takes_that_up_again(stepped, ran, client):
    handle = stepped.options(until="outer#1/inner#2").run(1)
    assert ran.names == ["outer 0", "inner 0"]
    (outer, _) = client.executions.get(handle.exec_id).checkpoints
    assert outer.status == "interrupted"
    assert client.executions.resume(handle.exec_id).get() == 10
    assert ran.names == ["outer 0", "inner 0", "outer 0", "inner 1", "total"]


def test_what_was_submitted_before_ends_before_it_is_let_go(ran, client):
    @checkpoint
    def work(n):
        ran(n)
        return n

    @flow
    def wide():
        return sum(future.result() for future in [work.submit(n) for n in range(4)])

    handle = wide.options(until="work#3").run()
    assert handle.status == "paused"
    states = {c.label: c.status for c in client.executions.get(handle.exec_id).checkpoints}
    assert set(states) == {"work#1", "work#2"}
    assert client.executions.resume(handle.exec_id).get() == 6


def test_a_body_that_catches_every_exception_cannot_swallow_a_pause(ran, client):
    @checkpoint
    def work(n):
        ran(n)
        return n

    @flow
    def stubborn():
        out = []
        for n in range(3):
            try:
                out.append(work(n))
            except BaseException:
                out.append(None)
        return out

    handle = stubborn.options(until="work#2").run()
    assert (handle.status, ran.names) == ("paused", [0])
    assert client.executions.resume(handle.exec_id).get() == [0, 1, 2]


def test_an_async_flow_pauses_too(ran, client):
    @checkpoint
    async def work(n):
        ran(n)
        return n

    @flow
    async def later():
        return await work(1) + await work(2)

    async def main():
        handle = later.options(until="work#2").run()
        with pytest.raises(ExecutionSuspended):
            await handle
        return handle

    handle = asyncio.run(main())
    assert (handle.status, ran.names) == ("paused", [1])
    assert client.executions.resume(handle.exec_id).get() == 3


def test_a_step_that_is_never_reached_pauses_nothing_and_is_named(stepped, capsys):
    handle = stepped.options(until="outer#9").run(1)
    assert handle.get() == 10
    assert f"{handle.exec_id} never came to outer#9, and has ended" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_pause_among_the_calls_of_one_gather_leaves_no_call_unawaited(ran, client, n):
    @checkpoint
    async def work(n):
        ran(n)
        return n

    @flow
    async def at_once():
        return sum(await asyncio.gather(*[work(i) for i in range(3)]))

    async def main():
        handle = at_once.options(until=f"work#{n}").run()
        with pytest.raises(ExecutionSuspended):
            await handle
        return handle

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        handle = asyncio.run(main())
        gc.collect()
    assert [str(w.message) for w in warned] == []
    assert (handle.status, ran.names) == ("paused", [])
    assert client.executions.resume(handle.exec_id).get() == 3


@pytest.mark.parametrize("until", ["", "a:b", "work.output", "@3", "work.in.n", "work@2", 3])
def test_until_names_a_step(stepped, until):
    with pytest.raises((UsageError, ValueError), match=r"until=|REF"):
        stepped.options(until=until)


# ---------------------------------------------------------------- the step before which it stands


def data_of(step):
    return {name: a.load() for name, a in step.inputs.items() if a.kind != "reference"}


def stands(client, handle):
    execution = client.executions.get(handle.exec_id)
    step = execution.next_step
    return None if step is None else (step.label, data_of(step))


def test_a_pause_records_what_the_next_step_was_called_with(stepped, client):
    handle = begin(stepped, (2,), until="total")
    assert stands(client, handle) == ("total#1", {"values": [10, 30]})
    execution = client.executions.get(handle.exec_id)
    assert execution.next_step.status == "pending"
    assert "def total" in execution.next_step.source
    assert [c.label for c in execution.checkpoints if c.name == "total"] == [], "it is no step yet"
    assert client.artifacts.load(f"{handle.exec_id}:total.in.values") == [10, 30]
    done = go_on(execution)
    assert done.get() == 40
    assert stands(client, done) is None


def test_an_input_of_the_step_before_which_it_stands_is_edited(stepped, ran, client):
    handle = begin(stepped, (2,), until="total")
    fork = client.executions.fork(handle.exec_id, overrides={"checkpoint.total.in.values": [1, 2]})
    assert [(row.step, row.decision, row.why) for row in client.executions.plan(fork)][-1] == (
        "total#1", "rerun", "edited: in.values",
    )  # fmt: skip
    before = list(ran.names)
    assert go_on(client.executions.get(fork)).get() == 3
    assert ran.names[len(before) :] == ["total"], "nothing else runs again"
    done = client.executions.get(fork)
    assert data_of(done.checkpoints[-1]) == {"values": [1, 2]}
    assert [row.why for row in done.explain()][-1] == "its in.values was set"
    assert client.executions.verify(fork).ok
    assert go_on(client.executions.get(handle.exec_id)).get() == 40, "where it was edited it stands as it was"


def test_its_output_can_be_given_instead(stepped, ran, client):
    handle = begin(stepped, (2,), until="total")
    fork = client.executions.fork(handle.exec_id, overrides={"checkpoint.total": 7})
    before = list(ran.names)
    assert go_on(client.executions.get(fork)).get() == 7
    assert ran.names == before


def test_an_edit_of_it_stands_beside_others_and_lies_inside_of_what_is_in_flight(stepped, ran, client):
    handle = begin(stepped, (2,), until="outer#2/inner")
    assert stands(client, handle) == ("outer#2/inner#1", {"n": 1})
    first = client.executions.fork(handle.exec_id, overrides={"checkpoint.outer#1": 100})
    both = client.executions.fork(first, overrides={"checkpoint.outer#2/inner.in.n": 5})
    assert client.executions.get(first).status.value == "cancelled"
    given = go_on(client.executions.get(both), until="total")
    assert stands(client, given) == ("total#1", {"values": [100, 50 + 20]})
    again = client.executions.fork(both, overrides={"checkpoint.total.in.values": [1]})
    assert go_on(client.executions.get(again)).get() == 1, "a fork of a fork"


def test_an_argument_too_large_for_a_record_is_there_too_and_is_recorded_once(ran, client, store):
    @checkpoint
    def make(n):
        return n

    @checkpoint
    def use(data, more):
        return len(data) + len(more)

    @flow
    def large():
        return use(make(1) * b"x" * 300_000, b"y" * 300_000)

    handle = begin(large, until="use")
    label, inputs = stands(client, handle)
    assert (label, inputs["more"][:3], len(inputs["data"])) == ("use#1", b"yyy", 300_000)
    blobs = [e.key for e in store.list("blobs/")]
    elsewhere = MemoryStore()
    client.executions.copy(handle.exec_id, elsewhere)
    assert stands(KitaruClient(elsewhere), handle)[1]["more"] == b"y" * 300_000, "a copy has it, too"
    assert go_on(client.executions.get(handle.exec_id)).get() == 600_000
    assert [e.key for e in store.list("blobs/")] == blobs
    assert client.executions.verify(handle.exec_id).ok
    assert client.executions.get(handle.exec_id).checkpoints[1].inputs["more"].load() == b"y" * 300_000


def test_it_stops_before_the_first_step_and_goes_on_by_steps(stepped, ran, client):
    handle = begin(stepped, (2,), steps=0)
    assert (stands(client, handle), ran.names) == (("outer#1", {"n": 0}), [])
    for wanted in ("outer#2", "total#1"):
        go_on(client.executions.get(handle.exec_id), steps=1)
        assert stands(client, handle)[0] == wanted
    assert go_on(client.executions.get(handle.exec_id), steps=1).get() == 40


def test_several_steps_at_once(stepped, client):
    handle = begin(stepped, (4,), steps=0)
    go_on(client.executions.get(handle.exec_id), steps=3)
    assert stands(client, handle)[0] == "outer#4"


def walk(client, handle, **how):
    """The steps before which it stops, until it ends."""
    out = []
    while (at := stands(client, handle)) is not None:
        out.append(at[0])
        assert len(out) < 20, "it does not go on"
        execution = client.executions.get(handle.exec_id)
        go_on(execution, **{name: value(execution) if callable(value) else value for name, value in how.items()})
    return out


def kept(execution):
    return execution.breaks


def test_a_breakpoint_by_name_is_met_at_each_step_of_that_name_and_one_by_path_once(stepped, ran, client):
    handle = begin(stepped, (3,), breaks=["outer", "total#1"])
    assert walk(client, handle, breaks=kept) == ["outer#1", "outer#2", "outer#3", "total#1"]
    assert client.executions.get(handle.exec_id).result == 90
    assert [n for n in ran.names if n.startswith("outer")] == ["outer 0", "outer 1", "outer 2"]


def test_breakpoints_inside_of_steps_and_around_them(stepped, ran, client):
    handle = begin(stepped, (2,), breaks=["outer", "outer#2/inner#2", "inner"])
    assert walk(client, handle, breaks=kept) == [
        "outer#1",
        "outer#1/inner#1",
        "outer#1/inner#2",
        "outer#2",
        "outer#2/inner#1",
        "outer#2/inner#2",
    ]
    assert sorted(n for n in ran.names if n.startswith("inner")) == ["inner 0", "inner 1", "inner 1", "inner 2"]


def test_a_single_step_inside_of_a_step_is_one_of_its_depth_or_of_what_is_around(stepped, client):
    handle = begin(stepped, (2,), until="outer#1/inner#1")
    assert walk(client, handle, steps=1) == ["outer#1/inner#1", "outer#1/inner#2", "outer#2", "total#1"]


def test_breakpoints_are_kept_by_a_run_that_heeds_none_and_by_a_fork(stepped, client):
    handle = begin(stepped, (3,), breaks=["total"], until="outer#1")
    go_on(client.executions.get(handle.exec_id), steps=1)
    execution = client.executions.get(handle.exec_id)
    assert (execution.breaks, stands(client, handle)[0]) == (("total",), "outer#2")
    fork = client.executions.fork(handle.exec_id, overrides={"outer#1": 7})
    assert client.executions.get(fork).breaks == ("total",)
    paused = go_on(client.executions.get(fork), breaks=client.executions.get(fork).breaks)
    assert stands(client, paused) == ("total#1", {"values": [7, 30, 50]})


def test_an_edit_takes_effect_when_it_goes_on(stepped, ran, client):
    handle = begin(stepped, (2,), until="total")
    fork = client.executions.fork(handle.exec_id, overrides={"outer#2": 1})
    ran.names.clear()
    assert go_on(client.executions.get(fork)).get() == 11
    assert ran.names == ["total"]
    assert stands(client, handle) == ("total#1", {"values": [10, 30]}), "the origin is as it was"


def test_a_breakpoint_is_met_again_where_what_led_there_ran_again(stepped, ran, client):
    handle = begin(stepped, (2,), until="outer#2", breaks=["total"])
    assert walk_to(client, handle, "total#1")
    fork = client.executions.fork(handle.exec_id, from_="outer#2")
    paused = go_on(client.executions.get(fork), breaks=["total"])
    assert stands(client, paused)[0] == "total#1"
    unchanged = client.executions.fork(handle.exec_id)
    assert go_on(client.executions.get(unchanged), breaks=["total"]).get() == 40, "and nowhere else"


def walk_to(client, handle, label):
    go_on(client.executions.get(handle.exec_id), breaks=client.executions.get(handle.exec_id).breaks)
    return stands(client, handle)[0] == label


def test_a_fork_of_what_stands_inside_of_a_step_goes_on_by_steps_in_there(stepped, client):
    handle = begin(stepped, (2,), until="outer#1/inner#2")
    fork = client.executions.fork(handle.exec_id, overrides={"outer#1/inner#1": 100})
    paused = go_on(client.executions.get(fork), steps=1)
    assert stands(client, paused)[0] == "outer#2"


def test_an_input_that_was_edited_is_what_the_body_is_handed(stepped, client):
    handle = stepped.run(1)
    fork = client.executions.fork(handle.exec_id, overrides={"outer#1.in.n": 5})
    go_on(client.executions.get(fork))
    outer = client.executions.get(fork).checkpoints[0]
    assert outer.inputs["n"].load() == 5
    assert RecordedCall(outer).run() == 110


def test_what_was_mapped_beside_is_stopped_at_one_call(ran, client):
    @checkpoint
    def work(n):
        ran(n)
        return n

    @flow
    def wide():
        return sum(future.result() for future in work.map(range(4)))

    handle = begin(wide, breaks=["work"])
    assert walk(client, handle, breaks=kept) == ["work#1", "work#2", "work#3", "work#4"]
    assert sorted(ran.names) == [0, 1, 2, 3]


def test_gathered_steps_of_an_async_flow_stop_one_by_one(ran, client):
    @checkpoint
    async def work(n):
        ran(n)
        await asyncio.sleep(0)
        return n

    @flow
    async def wide():
        return sum(await asyncio.gather(*(work(n) for n in range(3))))

    async def main():
        handle = begin(wide, steps=0)
        with pytest.raises(ExecutionSuspended):
            await handle
        return handle

    handle = asyncio.run(main())
    assert walk(client, handle, steps=1) == ["work#1", "work#2", "work#3"]
    assert client.executions.get(handle.exec_id).result == 3


def test_a_run_that_is_admitted_nowhere_ends_and_stays_resumable(stepped, client):
    def admit(label):
        raise UsageError(f"not {label}")

    handle = begin(stepped, (1,), steps=0)
    with pytest.raises(UsageError, match="not outer#1"):
        go_on(client.executions.get(handle.exec_id), admit=admit)
    assert go_on(client.executions.get(handle.exec_id)).get() == 10


def test_nothing_is_said_of_a_stop(stepped, capsys):
    begin(stepped, (1,), steps=0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", ["a.b", "x:y", "a/b.in.c"])
def test_a_breakpoint_that_can_be_no_step_is_refused_before_anything_runs(stepped, client, wrong):
    with pytest.raises(UsageError):
        begin(stepped, (1,), breaks=[wrong])
    assert client.executions.list() == []


# ---------------------------------------------------------------- a step again, and another one in its place


def test_one_step_runs_again_and_nothing_of_it_is_recorded(stepped, ran, client):
    handle = stepped.run(2)
    before = [c.label for c in client.executions.get(handle.exec_id).checkpoints]
    ran.names.clear()
    call = RecordedCall(client.executions.get(handle.exec_id).checkpoints[-1])
    assert (call.arguments(), call.run(), ran.names) == ({"values": [10, 30]}, 40, ["total"])
    assert [c.label for c in client.executions.get(handle.exec_id).checkpoints] == before


def test_a_step_stands_in_for_the_one_of_its_name_meanwhile(monkeypatch, client):
    module = types.ModuleType("some_steps")
    source = "from kitaru import checkpoint, flow\n@checkpoint\ndef work(n): return n\n@flow\ndef go(n): return work(n)"
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "some_steps", module)

    @checkpoint
    def work(n):
        return -n

    was = module.work
    with replaced(module.go, [work]) as told:
        assert module.go.run(3).get() == -3
    assert (told, module.work, module.go.run(3).get()) == ([("work", "some_steps")], was, 3)


def test_a_function_follows_a_run_and_pauses_it(ran, client, stepped):
    seen = []

    def until(label):
        seen.append(label)
        return label == "outer#2"

    handle = stepped.options(until=until).run(2)
    assert handle.status == "paused"
    assert seen[-1] == "outer#2"
    assert "outer#1/inner#1" in seen, "steps inside of others, too"
    del seen[:]
    assert client.executions.resume(handle.exec_id, until=lambda label: seen.append(label)).status == "completed"
    assert "outer#1" not in seen, "what has finished is not asked for"
