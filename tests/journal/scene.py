"""What the tests of this room share: an execution to claim, records to add, and what must hold of any journal."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace

from kitaru.catalog import rows
from kitaru.clock import SYSTEM
from kitaru.ids import new_writer
from kitaru.journal import Journal
from kitaru.ownership import Claimed, claim, state_of, this_process
from kitaru.reading import read_journal
from kitaru.records import Begun, Claim, Logged, Release
from kitaru.segments import Segment, journal_key, segment_digest
from kitaru.stores import MemoryStore
from kitaru.stores.base import Store

EXEC = "audit-1"
BEGUN = Begun("audit", ())


def note(i: int) -> Logged:
    """A small record that can be told from others."""
    return Logged(None, i, {"i": i})


def notes(store: Store, exec_id: str = EXEC) -> list[int]:
    """The notes that the journal holds, in order."""
    return [r.data["i"] for r in read_journal(store, exec_id).records if isinstance(r, Logged)]


def journal_on(store: Store, *, writer: str = "w1", n: int = 0, last_digest: bytes = b"", **options) -> Journal:
    """A journal without the claim."""
    return Journal(store, EXEC, writer, **({"epoch": 1, "n": n, "last_digest": last_digest, "clock": SYSTEM} | options))


def own(store: Store, clock=SYSTEM, exec_id: str = EXEC, **options) -> Claimed:
    """Begin `exec_id`, or claim it."""
    claimed = claim(store, exec_id, clock=clock, **({"begin": BEGUN} | options))
    assert claimed is not None
    return claimed


def let_go(claimed: Claimed, status: str | None = "interrupted") -> None:
    """End gracefully; None: without a word, as a flow that was fenced does."""
    assert claimed.journal is not None
    if status is not None:
        claimed.journal.add(Release(status))
        claimed.journal.flush()
    claimed.journal.close()
    claimed.beat.end(status)


def foreign(**changes):
    """The process of somebody else, on another machine."""
    return asdict(replace(this_process(), machine="elsewhere", host="elsewhere", **changes))


def write_claim(
    store: Store, process=None, *, exec_id: str = EXEC, heartbeat: float = 20.0, records=(), writer: str = ""
) -> str:
    """Put a claim into the journal as another process would. Gives its writer."""
    reading = read_journal(store, exec_id)
    writer, n = writer or new_writer(), reading.n + 1
    claimed = Claim(foreign() if process is None else process, heartbeat)
    first = () if reading.n else (BEGUN,)
    segment = Segment(
        exec_id,
        n,
        writer,
        b"n" * 16,
        state_of(reading.segments).epoch + 1,
        reading.last_digest,
        (*first, claimed, *records),
    )
    assert store.put_if_absent(journal_key(exec_id, n), segment.encode())
    return writer


def check(store: Store, exec_id: str = EXEC) -> None:
    """What holds of every journal: no gaps, one chain, each segment its owner's; the catalog is never ahead of it."""
    segments = read_journal(store, exec_id).segments
    prev = b""
    for n, segment in enumerate(segments, 1):
        assert segment.n == n
        assert segment.prev == prev
        prev = segment_digest(store.get(journal_key(exec_id, n)))
        before = state_of(segments[: n - 1])
        claims = any(isinstance(r, Claim) for r in segment.records)
        spawned = n == 1 and [type(r) for r in segment.records] == [Begun]
        assert claims or spawned or segment.writer == before.writer, f"segment {n} is not its owner's"
        assert not (claims and before.final), f"segment {n} claims what is {before.status}"
        assert segment.epoch == before.epoch + claims
    for row in rows(store):
        if row.exec_id == exec_id:
            there = state_of(segments[: row.n])
            assert (there.status_n or 1, there.status) == (row.n, row.status), f"the catalog is ahead: {row}"


class SlowStore(MemoryStore):
    """A store each of whose conditional writes waits for a turnstile, and which knows how many are under way."""

    def __init__(self, seconds: float = 0.0, **options) -> None:
        super().__init__(**options)
        self.seconds = seconds
        self.puts = self.most = 0
        self._under_way = 0
        self._counting = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    def put_if_absent(self, key, data):
        with self._counting:
            self.puts += 1
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            threading.Event().wait(self.seconds)
            self.gate.wait(20)
            return super().put_if_absent(key, data)
        finally:
            with self._counting:
                self._under_way -= 1
