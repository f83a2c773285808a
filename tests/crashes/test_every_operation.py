"""The campaign in the process: a crash at every store operation, before and after it, on every store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from kitaru.errors import KitaruError
from kitaru.flows import Options
from kitaru.runs import Run, start
from kitaru.stores import LocalStore, MemoryStore
from kitaru.stores.base import Store
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at

from . import audit as script, oracle

# A crash leaves coroutines behind, as a dead process would; what becomes of them when they are collected is no matter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")

MOST = 40
"""Store operations that the flow makes without a crash, at the most."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """What the bodies of this thread's run say, as long as its process is not dead."""
    lines: dict[str, tuple[list[str], FaultyStore]] = {}

    def say(line: str) -> None:
        from kitaru.context import current

        frame = current.get()
        assert frame is not None
        into, store = lines[frame.engine.exec_id]
        if not store.dead:
            into.append(line)

    monkeypatch.setitem(script.sink, "say", say)
    return lines


def attempt(store: FaultyStore, exec_id: str, lines) -> tuple[dict | None, list[str]]:
    """One process's try; None where it crashed."""
    said: list[str] = []
    lines[exec_id] = said, store
    try:
        handle = start(Run(script.audit, Options(exec_id, store=store), (oracle.TURNS,), {}))
        return handle.get(), said
    except (SimulatedCrash, KitaruError):
        assert store.dead  # the crash may have met the heartbeat's thread, which halts the journal
        return None, said


def crash_and_resume(inner: Store, exec_id: str, k: int, fault: Fault, lines) -> bool:
    """Crash at operation `k`, resume until done. False where the run never came to that operation."""
    store = FaultyStore(inner, fault_at(k, fault))
    before: dict = {}
    for again in count():
        result, said = attempt(store, exec_id, lines)
        after = oracle.finished(inner, exec_id)
        oracle.check_attempt(before, after, said)
        if result is not None:
            oracle.check_result(result, after)
            assert store.dead is False
            return again > 0
        assert again == 0, "it crashed though nobody asked for it"
        before, store = after, FaultyStore(inner)
    raise AssertionError


def campaign(make_store, lines, workers: int = 1) -> int:
    """Every operation, before and after it. Gives the number of crashes."""

    def one(case: tuple[int, Fault]) -> bool:
        k, fault = case
        return crash_and_resume(make_store(f"{k}-{fault.name.lower()}"), f"audit-{k}-{fault.name[6]}", k, fault, lines)

    most = 0
    for calm in range(3):  # threads make the number vary a little
        store = FaultyStore(make_store(f"calm-{calm}"))
        assert attempt(store, f"calm-{calm}", lines)[0] is not None
        most = max(most, store.count())
    assert most <= MOST
    cases = [(k, fault) for k in range(1, most + 2) for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)]
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(one, cases))


def test_a_crash_at_every_operation_in_memory(said) -> None:
    assert campaign(lambda name: MemoryStore(f"campaign-{name}"), said) > 40


def test_a_crash_at_every_operation_on_a_folder(said, tmp_path) -> None:
    assert campaign(lambda name: LocalStore(tmp_path / name), said) > 40


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto_s3", "seaweedfs_s3"])
def test_a_crash_at_every_operation_on_s3(said, server, request) -> None:
    factory = request.getfixturevalue(server)
    assert campaign(lambda name: factory(), said, workers=4) > 40
