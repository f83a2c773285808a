"""`.submit` and `.map`: futures, pools, and no deadlock."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import FIRST_COMPLETED, as_completed, wait

import pytest

from kitaru import checkpoint, flow
from kitaru.errors import UsageError
from kitaru.stores.memory import MemoryStore


@checkpoint
def double(n):
    return 2 * n


@checkpoint
async def triple(n):
    await asyncio.sleep(0)
    return 3 * n


@checkpoint
def fail(n):
    raise ValueError(f"no {n}")


def test_map_zips_as_the_built_in_does(store, client):
    @checkpoint
    def add(a, b):
        return a + b

    @flow
    def body():
        return [f.result() for f in add.map([1, 2, 3], (10, 20))]

    handle = body.run()
    assert handle.get() == [11, 22]
    assert [c.label for c in client.executions.get(handle.exec_id).checkpoints] == ["add#1", "add#2"]


def test_the_standard_librarys_functions_take_the_futures(store):
    @flow
    def body():
        futures = double.map(range(6))
        done, _ = wait(futures[:2], return_when=FIRST_COMPLETED)
        assert done
        return sorted(f.result() for f in as_completed(futures))

    assert body.run().get() == [0, 2, 4, 6, 8, 10]


def test_submitted_steps_run_side_by_side(store):
    barrier = threading.Barrier(3, timeout=20)

    @checkpoint
    def meet(n):
        barrier.wait()
        return n

    @flow
    def body():
        return [f.result() for f in meet.map(range(3))]

    assert body.run().get() == [0, 1, 2]


def test_futures_count_by_their_results(store, client):
    @flow
    def body():
        return double(double.submit(n=double.submit(1)))

    handle = body.run()
    assert handle.get() == 8
    steps = client.executions.get(handle.exec_id).checkpoints
    assert [(c.label, c.inputs["n"].load()) for c in steps] == [("double#1", 1), ("double#2", 2), ("double#3", 4)]


def test_a_future_that_failed_fails_the_call_that_it_is_given_to(store):
    @flow
    def body():
        return double(fail.submit(1))

    with pytest.raises(ValueError, match="no 1"):
        body.run()


@pytest.mark.parametrize("workers", [1, 2, 32])
def test_submit_three_levels_deep_never_deadlocks(store, workers):
    @checkpoint
    def leaf(n):
        return n

    @checkpoint
    def middle(n):
        return sum(f.result() for f in leaf.map([n, n]))

    @checkpoint
    def top(n):
        return sum(f.result() for f in middle.map([n, n]))

    @flow
    def body():
        return sum(f.result() for f in top.map(range(4)))

    assert body.options(max_workers=workers).run().get() == 4 * (0 + 1 + 2 + 3)


def test_max_workers_bounds_how_many_run_at_once(store):
    lock, at_once, most = threading.Lock(), [0], [0]

    def enter(by):
        with lock:
            at_once[0] += by
            most[0] = max(most[0], at_once[0])

    @checkpoint
    def work(n):
        enter(1)
        enter(-1)
        return n

    @flow
    def body():
        return len([f.result() for f in work.map(range(20))])

    assert body.options(max_workers=1).run().get() == 20
    assert most == [1]


class Stuck:
    """A store whose journal takes nothing from the moment that `stick` is called until `gate` is open."""

    def __init__(self, inner):
        self.inner, self.gate, self.url = inner, threading.Event(), inner.url
        self.gate.set()

    def stick(self):
        self.gate.clear()

    def put_if_absent(self, key, data):
        if "/journal/" in key:
            assert self.gate.wait(20)
        return self.inner.put_if_absent(key, data)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_no_body_waits_until_the_record_of_another_is_durable(connected, ran):
    stuck = connected(Stuck(MemoryStore()))
    both = threading.Event()

    @checkpoint
    def work(n):
        ran(n)
        if n == 2:
            both.set()
        return n

    @flow
    def body():
        stuck.stick()
        first, second = work.map([1, 2])
        assert both.wait(20)
        early = first.done(), second.done()
        stuck.gate.set()
        return early, first.result(), second.result()

    assert body.options(max_workers=1).run().get() == ((False, False), 1, 2), "a future tells of what is durable alone"


@pytest.mark.parametrize("workers", [1, 3])
def test_bodies_run_ahead_of_a_stuck_store_by_one_each(connected, ran, workers):
    stuck = connected(Stuck(MemoryStore()))

    @checkpoint
    def work(n):
        ran(n)
        return n

    @flow
    def body():
        stuck.stick()
        futures = work.map(range(5 * workers))
        while len(ran.names) < 2 * workers:
            pass
        time.sleep(0.05)  # in which nothing happens
        ahead = len(ran.names)
        stuck.gate.set()
        return ahead, [f.result() for f in futures]

    assert body.options(max_workers=workers).run().get() == (2 * workers, list(range(5 * workers)))


def test_what_is_called_when_a_future_is_done_may_wait_for_another(store):
    @checkpoint
    def work(n):
        return n

    @flow
    def body():
        seen, told = [], threading.Event()
        gate = threading.Event()

        @checkpoint(ignore=["gate"])
        def second(gate):
            assert gate.wait(20)
            return 2

        later = second.submit(gate)

        def look(first):
            gate.set()
            seen.append((first.result(), later.result(timeout=20)))
            told.set()

        work.submit(1).add_done_callback(look)
        assert told.wait(20)
        return seen

    assert body.options(max_workers=2).run().get() == [(1, 2)]


def test_an_async_step_submitted_from_a_sync_and_from_an_async_flow(store):
    @flow
    def plain():
        return [f.result() for f in triple.map([1, 2])]

    @flow
    async def waiting():
        futures = triple.map([1, 2])
        return [await f for f in futures], await double.submit(5)

    assert plain.run().get() == [3, 6]
    assert waiting.run().get() == ([3, 6], 10)


def test_futures_can_be_gathered(store):
    @flow
    async def body():
        return await asyncio.gather(*triple.map([1, 2]), *double.map([1, 2]))

    assert body.run().get() == [3, 6, 2, 4]


def test_waiting_for_a_future_within_a_loop_says_to_await_it(store):
    @flow
    async def body():
        return triple.submit(1).result()

    with pytest.raises(UsageError, match="would block the event loop: await it"):
        body.run()


def test_what_was_submitted_ends_before_the_flow_does(store, client):
    @flow
    def body():
        double.map(range(5))
        return "not waited for"

    @flow
    async def waiting():
        triple.map(range(5))
        return "not waited for"

    for f in (body, waiting):
        handle = f.run()
        assert [c.status for c in client.executions.get(handle.exec_id).checkpoints] == ["completed"] * 5


def test_a_failure_that_nobody_asks_for_is_recorded_and_the_flow_goes_on(store, client):
    @flow
    def body():
        fail.submit(1)
        return "fine"

    handle = body.run()
    assert handle.get() == "fine"
    assert client.executions.get(handle.exec_id).checkpoints[0].failure.message == "no 1"


def test_after_a_failure_what_has_not_begun_never_does(store, ran):
    gate = threading.Event()

    @checkpoint
    def blocked(n):
        ran(n)
        assert gate.wait(20)
        return n

    @flow
    def body():
        blocked.map(range(5))
        while not ran.names:
            pass
        threading.Timer(0.05, gate.set).start()
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        body.options(exec_id="x", max_workers=1).run()
    assert ran.names == [0]


def test_what_still_runs_when_the_flow_was_left_is_not_recorded(store, ran, client):
    gate, over = threading.Event(), []

    @checkpoint
    def slow():
        ran("slow")
        if ran.counts["slow"] == 1:
            assert gate.wait(20)
        return ran.counts["slow"]

    @flow
    def body():
        future = slow.submit()
        if ran("body") == 1:
            over.append(future)
            while "slow" not in ran.names:
                pass
            raise KeyboardInterrupt
        return future.result()

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x", inputs="recorded").run()
    gate.set()
    with pytest.raises(BaseException, match="not recorded"):
        over[0].result(timeout=20)
    records = client.executions.get("x").reading.records
    assert records[-1].kind == "release"
    assert body.options(exec_id="x", inputs="recorded").run().get() == 2


def test_those_in_flight_are_taken_up_on_resume(store, ran):
    @checkpoint
    def work(n):
        ran(n)
        if n == 2 and ran.counts[2] == 1:
            raise KeyboardInterrupt
        return n

    @flow
    def body():
        return [f.result() for f in work.map(range(4))]

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x", max_workers=1).run()
    assert body.options(exec_id="x").run().get() == [0, 1, 2, 3]
    assert ran.counts[0] == ran.counts[1] == 1
    assert ran.counts[2] == 2


def test_the_exception_of_a_future_is_handed_as_its_result_is(store, ran, client):
    """A body that looks at `future.exception()` and goes on has been handed the failure."""

    @checkpoint
    def risky():
        ran("risky")
        raise ValueError("no")

    @flow
    def body():
        error = risky.submit().exception()
        got = double(1), str(error)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (2, "no")
    assert ran.counts["risky"] == 1


def test_what_a_step_submits_ends_before_the_step_does(store, client) -> None:
    @checkpoint
    def slow(n: int) -> int:
        time.sleep(0.02)
        return n

    @checkpoint
    def starts_and_leaves(n: int) -> int:
        slow.submit(n)
        return n

    @flow
    def leaves() -> int:
        return starts_and_leaves(1)

    execution = client.executions.get(leaves.run().exec_id)
    assert [(c.label, c.status) for c in execution.checkpoints] == [
        ("starts_and_leaves#1", "completed"),
        ("starts_and_leaves#1/slow#1", "completed"),
    ]
