"""What an execution looks like to a person: its checkpoints by path, status, times, failure. Pure, from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .collecting import kept
from .errors import NotFoundError
from .failures import Failure
from .index import Index
from .ownership import State, state_of
from .records import (
    Answered,
    Argument,
    Begun,
    Claim,
    Ended,
    FlowEnded,
    Id,
    Logged,
    Opened,
    Record,
    Release,
    Reused,
    Saved,
    Started,
    Value,
)
from .refs import Part, Ref
from .segments import Segment
from .waiting import Waits

__all__ = ["CheckpointData", "ExecutionData", "LogLine", "SavedData", "breaks_of", "put_together", "read_execution"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One `kitaru.log` of a body."""

    at: float
    label: str  # the checkpoint's path; "" for the flow's body
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SavedData:
    """One `kitaru.save`."""

    name: str
    value: Value
    type: str | None
    at: float
    label: str
    version: int  # 1 for the first of its name
    record: Id | None = None  # the step in whose body it was saved; None: the flow
    turn: int = 0  # when: see `CheckpointData.began`


@dataclass(slots=True)
class CheckpointData:
    """One checkpoint, put together from its records."""

    id: Id
    name: str
    path: tuple[Part, ...]
    index: int  # its number among the execution's checkpoints, from 1, in the order of their starts
    status: str  # running, completed, failed; waiting; interrupted: it did not end while its owner was there
    started: float
    arguments: tuple[tuple[str, Value], ...]  # what its body was given: where a fork put in another value, that one
    type: str | None = None
    parent: Id | None = None
    reused_from: Id | None = None
    ended: float | None = None
    took: float = 0.0  # seconds of the last attempt
    attempts: int = 1
    outputs: tuple[tuple[str, Value], ...] = ()
    failure: Failure | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)  # of whoever ran it by hand
    own_code: bytes = b""
    start: Started | None = None  # the record that it was begun, or taken up again, with
    superseded: bool = False  # another call stands at its place since the code changed
    began: int = 0  # its turn among what the journal tells, from 1; clocks of several hosts have no such order
    finished: int | None = None  # likewise
    opened: Opened | None = None  # the wait that it came to, of those that it had the newest
    answer: Answered | None = None  # what closed that, once the flow has got it

    @property
    def is_waiting(self) -> bool:
        """Whether its wait is open, as far as the journal says."""
        return self.opened is not None and self.answer is None

    @property
    def label(self) -> str:
        """Its path: ``outer#1/classify#2``."""
        return "/".join(map(str, self.path))


@dataclass(slots=True)
class ExecutionData:
    """One execution, put together from its journal."""

    exec_id: str
    state: State
    checkpoints: list[CheckpointData]
    saved: list[SavedData]
    logs: list[LogLine]
    failure: Failure | None = None
    failed_at: str | None = None
    result: Value | None = None
    index: Index = field(default_factory=Index)  # where the bytes of its values stand
    sources: dict[bytes, str] = field(default_factory=dict)  # by the fingerprint of the code
    ended: float | None = None
    attempts: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    pending: CheckpointData | None = None  # the step before which it paused: it was called, and has not begun
    breaks: tuple[str, ...] = ()  # where it is to pause again: names of steps, and paths
    waits: Waits = field(default_factory=Waits)

    @property
    def begun(self) -> Begun:
        assert self.state.begun is not None
        return self.state.begun

    def lose_owner(self) -> None:
        """Take it for interrupted, as are the steps in flight: its journal calls it running, and its owner is gone."""
        self.state = replace(self.state, status="interrupted")
        _interrupt(self.checkpoints)

    def find(self, ref: Ref) -> CheckpointData:
        """The checkpoint that `ref` names. Raises `NotFoundError` with what there is instead."""
        if ref.number is not None:
            if ref.number <= len(self.checkpoints):
                return self.checkpoints[ref.number - 1]
            raise NotFoundError(f"{self.exec_id} has {len(self.checkpoints)} checkpoints; there is no @{ref.number}")
        found = [c for c in self.checkpoints if c.path == ref.path]
        if found:
            return found[-1]
        names = sorted({c.label for c in self.checkpoints if c.name == ref.path[-1].name} if ref.path else ())
        names = names or sorted({c.name for c in self.checkpoints})
        near = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        wanted = "/".join(map(str, ref.path))
        raise NotFoundError(f"{self.exec_id} has no checkpoint {wanted}; it has: {near or 'none yet'}")


def read_execution(exec_id: str, segments: Iterable[Segment], *, beyond: Index | None = None) -> ExecutionData:
    """Put an execution together from its segments."""
    segments = list(segments)
    records = (r for segment in segments for r in segment.records)
    return put_together(exec_id, state_of(segments), records, beyond=beyond)


@kept()
def put_together(
    exec_id: str, state: State, records: Iterable[Record], *, beyond: Index | None = None
) -> ExecutionData:
    """Put an execution together from its records, and from what they say of its state.

    `beyond` is where a fork's values stand that its own journal only names.
    """
    index = Index(beyond=beyond)
    data = ExecutionData(exec_id, state, [], [], [], index=index)
    known: dict[Id, CheckpointData] = {}
    numbers: dict[tuple[Id | None, str], int] = {}
    saved: dict[tuple[Id | None, str, int], tuple[Saved, str, int]] = {}
    logs: dict[tuple[Id | None, int], tuple[Logged, str]] = {}
    failed: dict[Id, str] = {}
    waiting: dict[str, CheckpointData] = {}  # by the ids of the waits that are open
    turn = 0

    def full(values: Iterable[Argument]) -> tuple[Argument, ...]:
        return tuple([(name, v if v.data is not None else index.full(v)) for name, v in values])

    def label_of(rid: Id | None) -> str:
        return known[rid].label if rid is not None and rid in known else ""

    def pending(s: Started) -> CheckpointData:
        around = known[s.parent].path if s.parent is not None and s.parent in known else ()
        beside = numbers.get((s.parent, s.name), 0) + 1
        part = Part(s.name, beside, True) if s.ordinal is None else Part(s.name, s.ordinal)
        if s.source is not None:
            data.sources.setdefault(s.own_code, s.source)
        number, arguments = len(data.checkpoints) + 1, full(s.given)
        return CheckpointData(
            s.id, s.name, (*around, part), number, "pending", s.at, arguments, s.type, s.parent,
            own_code=s.own_code, start=s, began=turn,
        )  # fmt: skip

    def start(s: Started) -> CheckpointData:
        arguments = full(s.given)
        if s.source is not None:
            data.sources[s.own_code] = s.source
        c = known.get(s.id)
        if c is not None:  # taken up again
            c.status = "waiting" if c.is_waiting else "running"
            c.attempts, c.arguments, c.start = s.attempt, arguments, s
            c.failure, c.ended, c.finished, c.own_code = None, None, None, s.own_code
            c.notes = dict(s.notes or {})
            for key in [k for k in (*saved, *logs) if k[0] == s.id]:
                saved.pop(key, None)  # type: ignore[arg-type]
                logs.pop(key, None)  # type: ignore[arg-type]
            c.metadata = {}
            return c
        around = known[s.parent].path if s.parent is not None and s.parent in known else ()
        if s.ordinal is None:
            n = numbers[s.parent, s.name] = numbers.get((s.parent, s.name), 0) + 1
            part = Part(s.name, n, True)
        else:
            part = Part(s.name, s.ordinal)
        c = CheckpointData(
            s.id,
            s.name,
            (*around, part),
            len(data.checkpoints) + 1,
            "running",
            s.at,
            arguments,
            s.type,
            s.parent,
            notes=dict(s.notes or {}),
            own_code=s.own_code,
            start=s,
            began=turn,
        )
        if s.instead is not None and s.instead in known:
            known[s.instead].superseded = True
        known[s.id] = c
        data.checkpoints.append(c)
        return c

    for r in records:
        turn += 1
        index.learn(r)
        data.waits.learn(r)
        if isinstance(r, Begun):
            if r.source is not None:
                data.sources[r.code] = r.source
            data.breaks = breaks_of(r)
        elif isinstance(r, Started):
            start(r)
        elif isinstance(r, Reused):
            c = start(r.start)
            turn += 1
            c.reused_from, c.ended, c.finished = r.start.counterpart, r.at, turn
            _end(c, r.ok, full(r.value or ()) if r.ok else r.value)
        elif isinstance(r, Ended) and r.id in known:
            c = known[r.id]
            c.took, c.ended, c.finished = r.took, r.at, turn
            c.notes |= r.notes or {}
            _end(c, r.ok, full(r.value or ()) if r.ok else r.value)
            if not r.ok:
                failed[r.id] = next((failed[q] for q in r.because if q in failed), c.label)
        elif isinstance(r, Opened) and r.record in known:
            c = waiting[r.wait] = known[r.record]
            c.status, c.opened, c.answer = "waiting", r, None
        elif isinstance(r, Answered) and r.wait in waiting:
            c = waiting.pop(r.wait)
            c.status, c.answer = "running", r
        elif isinstance(r, FlowEnded):
            if r.ok and r.value:
                data.result, data.failure, data.failed_at = index.full(r.value[0][1]), None, None
            elif not r.ok:
                data.failure = Failure.from_wire(r.value)
                data.failed_at = next((failed[q] for q in r.because if q in failed), None)
        elif isinstance(r, Saved):
            saved[r.record, r.name, r.ordinal] = r, label_of(r.record), turn
        elif isinstance(r, Logged):
            logs[r.record, r.ordinal] = r, label_of(r.record)
        elif isinstance(r, (Claim, Release)):
            _interrupt(data.checkpoints)  # whoever was at them is gone; an owner that goes on starts them again
            data.pending = None
            if isinstance(r, Release):
                data.ended, data.breaks = r.at, r.breaks
                data.pending = pending(r.before) if r.before is not None else None
    if data.state.status == "running":
        data.ended = None
    data.attempts = data.state.epoch
    if data.state.status != "failed":
        data.failure = data.failed_at = None
    for r, label in logs.values():
        data.logs.append(LogLine(r.at, label, r.data))
        target = known[r.record].metadata if r.record in known else data.metadata
        for key, value in r.data.items():
            target[key] = _merged(key, target.get(key), value)
    versions: dict[str, int] = {}
    for s, label, when in saved.values():
        versions[s.name] = versions.get(s.name, 0) + 1
        data.saved.append(SavedData(s.name, index.full(s.value), s.type, s.at, label, versions[s.name], s.record, when))
    data.logs.sort(key=lambda line: line.at)
    return data


def breaks_of(begun: Begun) -> tuple[str, ...]:
    """Where an execution is to pause, as it was begun."""
    breaks = begun.options.get("breaks", ())
    return tuple(b for b in breaks if isinstance(b, str)) if isinstance(breaks, (list, tuple)) else ()


def _interrupt(checkpoints: Iterable[CheckpointData]) -> None:
    for c in checkpoints:
        if c.status == "running":
            c.status = "interrupted"


def _end(c: CheckpointData, ok: bool, value: Any) -> None:
    c.status = "completed" if ok else "interrupted" if c.notes.get("interrupted") else "failed"
    if ok:
        c.outputs, c.failure = tuple(value or ()), None
    else:
        c.outputs, c.failure = (), Failure.from_wire(value)


def _merged(key: str, old: Any, new: Any) -> Any:
    """Tokens and cost add up over several logs of one body; anything else is what was logged last."""
    if key in {"tokens", "cost"} and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (old, new)):
        return old + new
    return new
