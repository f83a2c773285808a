"""Async flows and steps: gather, task groups, threads, and which calls have a place."""

from __future__ import annotations

import asyncio

import pytest

from kitaru import KitaruClient, checkpoint, flow


def labels(exec_id):
    return [c.label for c in KitaruClient().executions.get(exec_id).checkpoints]


def test_sync_steps_in_async_flows_and_async_steps_in_sync_ones(store):
    @checkpoint
    def half(n):
        return n / 2

    @checkpoint
    async def third(n):
        await asyncio.sleep(0)
        return n / 3

    @flow
    async def mixed(n):
        return half(n), await third(n)

    @flow
    def plain(n):
        return third.submit(n).result(), asyncio.run(third(n))

    assert mixed.run(6).get() == (3, 2)
    assert plain.run(6).get() == (2, 2)


def test_in_gather_the_place_is_where_the_call_is_written(store):
    gates = {}

    @checkpoint(ignore=["gates"])
    async def work(n, gates):
        if n == 0:
            await gates.setdefault("second", asyncio.Event()).wait()
        else:
            gates.setdefault("second", asyncio.Event()).set()
        return n

    @flow
    async def body():
        return await asyncio.gather(work(0, gates), work(1, gates), work(2, gates))

    handle = body.run()
    assert handle.get() == [0, 1, 2]
    steps = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert [(c.label, c.inputs["n"].load()) for c in steps] == [("work#1", 0), ("work#2", 1), ("work#3", 2)]


def test_side_tasks_are_numbered_apart_and_found_again_whatever_their_order(store, ran):
    @checkpoint
    async def work(n):
        ran(n)
        return n * 10

    @checkpoint
    async def last():
        return "end"

    @flow
    async def body():
        async def branch(n, wait):
            for _ in range(wait):
                await asyncio.sleep(0)
            return await work(n)

        first = ran("body") == 1
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(n, n if first else 5 - n)) for n in range(5)]
        if first:
            raise KeyboardInterrupt
        return [t.result() for t in tasks], await last()

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert ran.take() == ["body", 0, 1, 2, 3, 4]
    assert body.options(exec_id="x").run().get() == ([0, 10, 20, 30, 40], "end")
    assert ran.take() == ["body"], "the order in which they arrive does not matter"
    assert labels("x") == ["work~1", "work~2", "work~3", "work~4", "work~5", "last#1"]
    assert KitaruClient().artifacts.get("x:work~3").load() == 20


def test_threads_of_to_thread_are_side_tasks(store, ran):
    @checkpoint
    def work(n):
        ran(n)
        return n + 1

    @flow
    async def body():
        out = await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(4)))
        if ran("body") == 1:
            raise KeyboardInterrupt
        return out

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    ran.take()
    assert body.options(exec_id="x").run().get() == [1, 2, 3, 4]
    assert ran.take() == ["body"]
    assert sorted(labels("x")) == ["work~1", "work~2", "work~3", "work~4"]


def test_a_side_tasks_inner_steps_are_in_order(store):
    @checkpoint
    async def inner():
        return 1

    @checkpoint
    async def outer():
        return await inner() + await inner()

    @flow
    async def body():
        return await asyncio.create_task(outer()), await asyncio.create_task(_call(outer))

    handle = body.run()
    assert handle.get() == (2, 2)
    assert labels(handle.exec_id) == [
        "outer#1",
        "outer#1/inner#1",
        "outer#1/inner#2",
        "outer~1",
        "outer~1/inner#1",
        "outer~1/inner#2",
    ]


async def _call(step):
    return await step()


def test_a_task_of_a_coroutine_made_in_order_has_its_place(store):
    """`create_task(step(n))` calls the step where it is written; the task only drives it."""

    @checkpoint
    async def work(n):
        return n

    @flow
    async def body():
        tasks = [asyncio.create_task(work(n)) for n in range(3)]
        return [await t for t in tasks]

    assert labels(body.run().exec_id) == ["work#1", "work#2", "work#3"]


def test_a_cancelled_flow_is_interrupted_and_resumes(store, ran):
    @checkpoint
    async def quick():
        return ran("quick")

    @checkpoint
    async def slow(forever):
        ran("slow")
        if forever and ran.counts["slow"] == 1:
            await asyncio.Event().wait()
        return "done"

    @flow
    async def body():
        return await quick(), await slow(True)

    async def main():
        async def drive():
            return await body.options(exec_id="x").run()

        task = asyncio.create_task(drive())
        while "slow" not in ran.names:  # noqa: ASYNC110  # a sync log of any thread
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    seen = KitaruClient().executions.get("x")
    assert (seen.status.value, seen.checkpoints[1].status) == ("interrupted", "interrupted")
    assert body.options(exec_id="x").run().get() == (1, "done")
    assert ran.names == ["quick", "slow", "slow"]


def test_a_flow_that_is_cancelled_as_it_opens_is_let_go(store, ran):
    @flow
    async def body():
        ran("body")
        return "done"

    async def main():
        handle = body.options(exec_id="x").run()

        async def drive():
            return await handle

        task = asyncio.create_task(drive())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert body.options(exec_id="x").run().get() == "done", "nobody is left who would look alive"
    assert ran.counts["body"] == 1


def test_the_event_loop_is_free_while_a_step_is_recorded(store):
    @checkpoint
    async def work(n):
        return n

    @flow
    async def body():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        for n in range(5):
            await work(n)
        ticker.cancel()
        return ticks

    assert body.run().get() >= 5


def test_a_coroutine_as_an_argument_is_refused_and_leaves_no_warning(store):
    @checkpoint
    async def fetch():
        return 1

    async def plain():
        return 1

    @checkpoint
    async def use(a, b=None):
        return a

    @flow
    async def body(which):
        return await (use(fetch()) if which == "step" else use(plain(), b=plain()))

    from kitaru.errors import UsageError

    with pytest.raises(UsageError, match=r"use was given the coroutine fetch\(…\), which has not run: await it first"):
        body.run("step")
    with pytest.raises(UsageError, match=r"the coroutine .*plain\(…\), which has not run: await it first"):
        body.run("plain")
