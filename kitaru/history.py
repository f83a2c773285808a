"""The history of an execution: its records so far, and the one way by which this run adds to them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from .artifacts import Recorder
from .context import Frame, Suspend
from .errors import KitaruError, UsageError
from .index import Index
from .journal import Halt
from .matching import View
from .ownership import Claimed
from .pools import Pools
from .records import Answered, Argument, Begun, Ended, Id, Logged, Opened, Record, Release, Reused, Saved, Started
from .stores.base import Store
from .waiting import Waits

__all__ = ["History", "size_of"]


class History:
    """What is recorded of an execution, and whether more of it may be."""

    def __init__(
        self,
        store: Store,
        claimed: Claimed,
        begun: Begun,
        *,
        max_workers: int,
        beyond: Index | None,
        recorder: Recorder | None = None,
    ) -> None:
        assert claimed.journal is not None
        self.exec_id, self.journal = claimed.reading.exec_id, claimed.journal
        self.lock = threading.RLock()
        self.pools = Pools(max_workers, self.leave)
        self.recorder = Recorder(
            store, self.pools, begun.script, self.journal.insist, self.stop, beyond=beyond, before=recorder
        )
        self.view = View()
        self.records: list[Record] = []  # for the lineage at the end; they share their values with what is known
        self.parts: dict[bytes, Mapping[str, str]] = {}  # codes whose source stands in the journal
        self.done: set[tuple[Any, ...]] = set()  # saves and logs that stand in the journal
        self.beside: dict[tuple[Any, ...], int] = {}  # how many of them side tasks of the flow's body made, by content
        self.waits = Waits()
        self.suspended: list[Suspend] = []  # bodies that came to a wait, in this run
        self._waits_of: dict[Id, Opened] = {}  # the last wait of a step that has not ended since
        self._epochs: dict[Id, int] = {}  # in which run a step that has not ended began, of those before this one
        self._releases: dict[int, str] = {}  # how each of those ended
        self.released: str | None = None
        self._stopped: BaseException | None = None
        self.key = b""  # what no other execution has
        for segment in claimed.reading.segments:
            self.key = self.key or segment.nonce
            for r in segment.records:
                self._learn(r)
                if isinstance(r, Started):
                    self._epochs[r.id] = segment.epoch
                elif isinstance(r, Release):
                    self._releases[segment.epoch] = r.status
        if not self.records:
            self._learn(begun)
        self.key = self.key or self.journal.first_nonce
        self.released = None
        self.view.inherit()

    def _learn(self, r: Record) -> None:
        self.records.append(r)
        self.view.add(r)
        self.recorder.learn(r)
        if isinstance(r, Saved):
            self.done.add((r.record, "save", r.name, r.ordinal))
            if r.record is None and r.ordinal <= 0:
                key: tuple[Any, ...] = ("save", r.name, r.value.digest)
                self.beside[key] = self.beside.get(key, 0) + 1
        elif isinstance(r, Logged):
            self.done.add((r.record, "log", r.ordinal))
            if r.record is None and r.ordinal <= 0:
                key = ("log", repr(dict(r.data)))
                self.beside[key] = self.beside.get(key, 0) + 1
        elif isinstance(r, (Started, Reused)):
            start = r.start if isinstance(r, Reused) else r
            if start.parts is not None:
                self.parts[start.own_code] = start.parts
        elif isinstance(r, Release):
            self.released = r.status
        if isinstance(r, (Opened, Answered)):
            self.waits.learn(r)
            if isinstance(r, Opened):
                self._waits_of[r.record] = r
        elif isinstance(r, Ended) or (isinstance(r, Started) and self._is_answered(r.id)):
            self._waits_of.pop(r.id, None)

    def _is_answered(self, rid: Id) -> bool:
        opened = self._waits_of.get(rid)
        return opened is not None and opened.wait in self.waits.answers and opened.about == "doubt"

    def wait_of(self, rid: Id) -> tuple[Opened | None, Answered | None]:
        """The wait that a step opened and has not gone on from, and what closed it."""
        opened = self._waits_of.get(rid)
        answer = self.waits.answers.get(opened.wait) if opened is not None else None
        return (None, None) if answer is not None and answer.how == "closed" else (opened, answer)

    def is_in_doubt(self, rid: Id) -> bool:
        """Whether a step was in flight when the run that began it ended otherwise than at a wait or a pause."""
        epoch = self._epochs.get(rid)
        return epoch is not None and self._releases.get(epoch) not in {"waiting", "paused"}

    def outputs_of(self, label: str) -> tuple[Argument, ...]:
        """The outputs of the newest record of a finished step of the flow's own body."""
        name, _, ordinal = label.partition("#")
        ids = self.view.named(None, name).by_ordinal.get(int(ordinal), ()) if ordinal else ()
        p = self.view.points[ids[-1]] if ids else None
        return p.value if p is not None and p.ok else ()

    def stop(self, error: KitaruError) -> Halt:
        """This run goes no further, whoever swallows what is raised."""
        halt = Halt(error)
        self.leave(halt)
        return halt

    def leave(self, error: BaseException) -> None:
        """Something left a body that is no failure of it: the flow cannot end as if nothing had happened."""
        if isinstance(error, Suspend):
            self.suspended.append(error)  # what does not need the answer goes on
            return
        if self._stopped is None and type(error).__name__ != "CancelledError":
            self._stopped = error

    def go_on(self) -> None:
        """Raise what something left a body by, if anything has."""
        if self._stopped is not None:
            raise self._stopped

    def check_whole(self) -> None:
        """Raise what a body that was submitted came to a wait by: the flow has not ended."""
        if self.suspended:
            raise self.suspended[0]

    def write(self, r: Record, size: int = 0) -> int:
        """Add a record to the journal and to what is known, in one order. With the lock held."""
        if self.released is not None:  # a worker that still ran when the flow's body was left
            raise Halt(UsageError(f"{self.exec_id} was let go ({self.released}): what still runs is not recorded"))
        ticket = self.journal.add(r, size)
        self._learn(r)
        return ticket

    def label(self, frame: Frame, name: str, ordinal: int | None, rid: Id) -> str:
        """The path of a record of this `name` in the body of `frame`: ``outer#1/classify#2``."""
        around = "" if frame.record is None else f"{frame.label}/"
        if ordinal is not None:
            return f"{around}{name}#{ordinal}"
        beside = self.view.named(frame.record, name).by_ordinal.get(None, [])
        return f"{around}{name}~{beside.index(rid) + 1 if rid in self.view.points else len(beside) + 1}"


def size_of(values: Iterable[Argument]) -> int:
    """Bytes of values that a record itself holds."""
    return sum(len(v.data) + sum(map(len, v.parts)) for _, v in values if v.data is not None)
