"""The catalog: one listing, newest first; never ahead of the journal, and harmless when it is behind."""

from __future__ import annotations

import random

import pytest

from kitaru import checkpoint
from kitaru.catalog import Row, drop, put_status, rows
from kitaru.errors import StoreError
from kitaru.flows import Flow, Options
from kitaru.stores import MemoryStore
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at

from .scene import EXEC, check, let_go, own


def test_executions_are_listed_newest_first_with_one_request():
    store = FaultyStore(MemoryStore())
    for i in random.Random(1).sample(range(50), 50):
        put_status(store, f"run-{i}", "audit", "running", begun=1000.0 + i, at=2000.0, n=1)
    assert [row.exec_id for row in rows(store)] == [f"run-{i}" for i in range(49, -1, -1)]
    assert store.count("list") == 1
    assert store.count("get") == 0


def test_the_highest_number_wins_in_whatever_order_they_came():
    for order in ([1, 3, 12], [12, 1, 3], [3, 12, 1]):
        store = MemoryStore()
        for n in order:
            put_status(store, "run-1", "audit", f"s{n}", begun=1000.0, at=1000.0 + n, n=n)
        put_status(store, "run-1-b", "audit", "s1", begun=1000.0, at=1000.0, n=1)  # a name that begins like it
        assert sorted((row.exec_id, row.status) for row in rows(store)) == [("run-1", "s12"), ("run-1-b", "s1")]


@pytest.mark.parametrize("flow", ["audit", "prüfen", "a.b", "a%2Fb", "审计"])
def test_a_row_gives_back_what_was_reported(flow):
    store = MemoryStore()
    put_status(store, "run.1", flow, "failed", begun=1234.5, at=2345.678, n=7)
    assert [*rows(store)] == [Row("run.1", flow, "failed", 1234.5, 2345.678, 7)]


def test_keys_that_no_version_wrote_are_passed_over():
    store = MemoryStore()
    for key in ("catalog/x", "catalog/1/2/3/4", "catalog/a/b/c.d.e.f", "catalog/0001/run/1.s.f.x", "catalog/.DS_Store"):
        store.put(key, b"")
    put_status(store, "run-1", "audit", "failed", begun=1.0, at=1.0, n=1)
    assert [row.exec_id for row in rows(store)] == ["run-1"]


def test_a_hint_that_cannot_be_deleted_is_left():
    store = FaultyStore(MemoryStore(), lambda op: Fault.UNAVAILABLE)
    drop(store, ["catalog/x"])


def test_an_attempt_leaves_one_status():
    store = MemoryStore()
    for status in ("failed", "interrupted", "completed"):
        let_go(own(store), status)
    found = [e.key.split(".")[1] for e in store.list("catalog/")]
    assert found[-1] == "completed"
    assert [row.status for row in rows(store)] == ["completed"]
    check(store)


@checkpoint
def step(i):
    return i


def flow_of_two(n):
    return step(n) + step(n)


def crash_anywhere(fault):
    """Run a flow in a process that dies at its first operation, at its second, …; then one that lives."""
    for n in range(1, 60):
        inner = MemoryStore()
        store = FaultyStore(inner, fault_at(n, fault))
        try:
            Flow(flow_of_two, Options(exec_id=EXEC, store=store)).run(1)
        except (SimulatedCrash, StoreError):
            assert store.dead
        check(inner)
        if not store.dead:
            break
    assert not store.dead
    assert [row.status for row in rows(inner)] == ["completed"]


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_it_is_never_ahead_of_the_journal_wherever_the_process_dies(fault):
    crash_anywhere(fault)
