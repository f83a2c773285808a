"""Steps in steps, and flows in flows."""

from __future__ import annotations

import asyncio

import pytest

from kitaru import checkpoint, flow


def test_inner_steps_stand_under_the_step_around_them(store, client):
    @checkpoint
    def leaf(n):
        return n

    @checkpoint
    def branch(n):
        return leaf(n) + leaf(n + 1)

    @flow
    def tree():
        return branch(1) + branch(10) + leaf(100)

    handle = tree.run()
    assert handle.get() == 124
    steps = client.executions.get(handle.exec_id).checkpoints
    assert [c.label for c in steps] == [
        "branch#1",
        "branch#1/leaf#1",
        "branch#1/leaf#2",
        "branch#2",
        "branch#2/leaf#1",
        "branch#2/leaf#2",
        "leaf#1",
    ]
    assert client.artifacts.get(f"{handle.exec_id}:branch#2/leaf#2").load() == 11
    assert handle.tally.ran == 3, "the steps directly in the flow"


def test_a_step_in_flight_is_taken_up_with_what_finished_inside(store, client, ran):
    @checkpoint
    def leaf(n):
        ran(f"leaf {n}")
        return n

    @checkpoint
    def branch():
        a = leaf(1)
        if ran("branch") == 1:
            raise KeyboardInterrupt
        return a + leaf(2)

    @flow
    def tree():
        return branch()

    with pytest.raises(KeyboardInterrupt):
        tree.options(exec_id="x").run()
    assert [c.status for c in client.executions.get("x").checkpoints] == ["interrupted", "completed"]
    assert tree.options(exec_id="x").run().get() == 3
    assert ran.names == ["leaf 1", "branch", "branch", "leaf 2"]
    steps = client.executions.get("x").checkpoints
    assert [(c.label, c.data.attempts) for c in steps] == [
        ("branch#1", 2),
        ("branch#1/leaf#1", 1),
        ("branch#1/leaf#2", 1),
    ]


def test_a_finished_step_is_reused_whole(store, ran):
    @checkpoint
    def leaf():
        return ran("leaf")

    @checkpoint
    def branch():
        ran("branch")
        return leaf()

    @flow
    def tree():
        got = branch()
        if ran("tree") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        tree.options(exec_id="x").run()
    handle = tree.options(exec_id="x").run()
    assert handle.get() == 1
    assert ran.counts == {"leaf": 1, "branch": 1, "tree": 2}
    assert (handle.tally.reused, handle.tally.ran) == (1, 0)


def test_a_flow_in_a_flow_is_a_step_of_it(store, client, ran):
    @checkpoint
    def leaf(n):
        ran("leaf")
        return n

    @flow
    def inner(n):
        return leaf(n) + leaf(n)

    @flow
    def outer(n):
        got = inner(n)
        if ran("outer") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        outer.options(exec_id="x").run(2)
    assert outer.options(exec_id="x").run(2).get() == 4
    assert ran.counts["leaf"] == 2
    seen = client.executions.get("x")
    assert [c.label for c in seen.checkpoints] == ["inner#1", "inner#1/leaf#1", "inner#1/leaf#2"]
    assert seen.checkpoints[0].data.type == "flow"
    assert len(client.executions.list()) == 1


def test_an_async_flow_in_an_async_flow(store, client):
    @checkpoint
    async def leaf(n):
        return n

    @flow
    async def inner(n):
        return await leaf(n)

    @flow
    async def outer():
        return sum(await asyncio.gather(inner(1), inner(2)))

    handle = outer.run()
    assert handle.get() == 3
    steps = client.executions.get(handle.exec_id).checkpoints
    assert sorted(c.label for c in steps) == ["inner#1", "inner#1/leaf#1", "inner#2", "inner#2/leaf#1"]


def test_a_recursive_step_of_some_depth(store, client):
    @checkpoint
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    @flow
    def body():
        return down(40)

    handle = body.run()
    assert handle.get() == 40
    assert len(client.executions.get(handle.exec_id).checkpoints) == 41
