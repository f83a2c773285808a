"""Plans, lineages, diffs and forks of long executions: beside one parsing of the same records, and in requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kitaru
from benchmarks.figures import Figure
from benchmarks.flows import settle
from benchmarks.workloads import folder, s3
from kitaru import KitaruClient, checkpoint, flow
from kitaru.client import Execution
from kitaru.reading import read_journal
from kitaru.segments import Segment
from kitaru.testing.faults import FaultyStore

MOST = 5.0
"""Times what parsing the records takes."""

_LOGGED: list[int] = []
_STORE: list[FaultyStore] = []


@checkpoint
def collect(i: int) -> dict[str, Any]:
    _LOGGED.append(len(_STORE[-1].log))
    files = [f"src/package_{i}/file_{k}.py" for k in range(6)]
    text = f"Permission is hereby granted, for package {i}, to deal in it without restriction. " * 2
    return {"package": f"package-{i}", "version": f"1.0.{i}", "files": files, "declared": "MIT", "text": text}


@checkpoint
def classify(facts: dict[str, Any]) -> dict[str, Any]:
    return {"package": facts["package"], "licence": facts["declared"], "sure": len(facts["text"]) % 7 / 7}


@checkpoint
def risk(package: str, licence: str, before: int) -> int:
    return before + len(package) + len(licence)


@flow
def audit(n: int) -> int:
    """Three steps for each package: one whose output is read by the next, one that reads parts of it and a number."""
    total = 0
    for i in range(n):
        found = classify(collect(i))
        total = risk(found["package"], found["licence"], total)
    return total


def _parsed(*executions: Execution) -> Callable[[], None]:
    raw = [
        (e.exec_id, [e.store.get(f"executions/{e.exec_id}/journal/{n:010d}") for n in _numbers(e)]) for e in executions
    ]

    def parse() -> None:
        for exec_id, segments in raw:
            for n, data in enumerate(segments, 1):
                Segment.decode(data, exec_id, n)

    return parse


def _numbers(execution: Execution) -> range:
    return range(1, execution.reading.n + 1)


def _ms(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def questions(n: int, turns: int) -> list[Figure]:
    """As they are asked by name, with reading the journal from a folder; and with the same records at hand.

    No value is loaded.
    """
    with folder() as path:
        _STORE.append(FaultyStore(kitaru.connect(f"{path}/store")))
        first = audit.options(exec_id="first").run(n // 3 + 1)
        edit = {f"checkpoint.classify#{n // 6}": {"package": "other", "licence": "GPL", "sure": 1.0}}
        fork = audit.replay(first.exec_id, overrides=edit)
        settle()
        client = KitaruClient()
        a, b = (client.executions.get(handle.exec_id) for handle in (first, fork))
        what = f"of {len(a.checkpoints):,} steps"
        asked: list[tuple[str, Callable[[], Any], Callable[[], Any], tuple[Execution, ...], float]] = [
            ("plan", lambda: kitaru.plan(a.exec_id, overrides=edit), _plan_of(a, edit), (a,), 300),
            ("lineage graph", lambda: kitaru.lineage(a.exec_id), a.lineage, (a,), 600),
            ("diff with a fork", lambda: kitaru.diff(a.exec_id, b.exec_id), lambda: kitaru.diff(a, b), (a, b), 1000),
        ]
        figures = []
        for name, by_name, at_hand, of, at_most in asked:
            named = _rounds(by_name, _read(*of), turns)
            figures.append(
                Figure(f"{name} {what}, by name", named, "reading the records from the folder", at_most=at_most)
            )
            held = _rounds(at_hand, _parsed(*of), turns)
            figures += [
                Figure(f"{name} {what}, at hand", held, "parsing the records once", ratio_at_most=MOST),
                Figure(f"{name} {what}, at hand, in time", [(took, 0) for took, _ in held], "–", at_most=at_most),
            ]
    return figures


def _rounds(ask: Callable[[], Any], floor: Callable[[], Any], turns: int) -> list[tuple[float, float]]:
    rounds = []
    for _ in range(turns):
        before = _ms(floor)
        took = _ms(ask)
        rounds.append((took, (before + _ms(floor)) / 2))
    return rounds


def _read(*executions: Execution) -> Callable[[], Any]:
    """As whoever asks by name does it: listed, read and parsed."""
    return lambda: [read_journal(e.store, e.exec_id) for e in executions]


def _plan_of(execution: Execution, edit: dict[str, Any]) -> Callable[[], Any]:
    from kitaru.forks import read_origin
    from kitaru.planning import forecast
    from kitaru.replays import edits_for

    origin = read_origin(execution.store, execution.exec_id)
    return lambda: forecast(origin, edits_for(origin, overrides=edit))


def requests_of_a_fork(*lengths: int) -> list[Figure]:
    """Counted up to the first step that runs, on S3: where the origin is long, and where it is short."""
    figures = []
    with s3() as (store, _, _):
        _STORE.append(FaultyStore(store))
        kitaru.connect(_STORE[-1])
        for n in lengths:
            first = audit.run(n)
            settle()
            before = len(_STORE[-1].log)
            _LOGGED.clear()
            audit.replay(first.exec_id, from_="collect#1")
            own = [o for o in _STORE[-1].log[before : _LOGGED[0]] if not o.key.startswith("catalog/")]  # beside it
            figures.append(
                Figure(
                    f"a fork of {3 * n:,} steps on S3, before its first", [(len(own), 0)], "–", "requests", at_most=5
                )
            )
    return figures
