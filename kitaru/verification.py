"""`kitaru verify`: whether an execution's objects are what was written, down to every blob. Nothing is decoded or run.

What it finds: any object that was flipped, cut short, exchanged for another one or deleted. What nobody can find
without a signature: a tail of the journal that was removed whole, together with what is derived from it, and a journal
that was rewritten whole; see docs/format.md.

What is derived from the journal can be made again, and a segment can be put back from a pack that holds it: `repair`
does both. A lost blob can only come from a copy of the store.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from . import codecs
from .artifacts import Values, unbundle
from .blobs import blob_key
from .catalog import drop, entries_of, put_status, rows
from .copying import Progress
from .errors import CorruptionError, KeyMissingError, NotFoundError, StoreError, StoreFormatError
from .executions import ExecutionData, put_together
from .index import Index
from .journal import PACK_AFTER, PACK_BYTES
from .lineage_graph import build, dumps, lineage_key
from .location import check_format
from .ownership import State, looks_alive, state_of
from .reading import Reading
from .records import Answered, Begun, Forked, Record, Release, Value, values_of
from .segments import Segment, journal_key, pack, pack_key, segment_digest, unpack
from .stores.base import Entry, Store
from .waiting import Waits, decode_answer, encode_answer, inbox, inbox_key

__all__ = ["Finding", "Verification", "verify"]

T = TypeVar("T")
R = TypeVar("R")

_ENDED = frozenset({"completed", "failed", "cancelled"})  # a lineage is stored at these ends
_AT_ONCE = 16
_LARGE = 8 << 20  # bytes: blobs beyond this go one by one, since each is held in memory
_WHOLE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    where : str
        The object's key.
    what : str
        What is wrong with it.
    needed_by : tuple of str
        The values that cannot be had because of it, as REFs within the execution: ``classify#2.output``. Empty where
        it is none's, or where what names them is lost too.
    derived : bool
        It can be made again from the journal, and nothing is lost.
    mendable : bool
        `verify` with `repair` puts it right.
    mended : bool
        It did.
    """

    where: str
    what: str
    needed_by: tuple[str, ...] = ()
    derived: bool = False
    mendable: bool = False
    mended: bool = False

    def __str__(self) -> str:
        return f"{self.where} {self.what}{self._needed()}"

    def _needed(self) -> str:
        if not self.needed_by:
            return ""
        more = len(self.needed_by) - 3
        listed = ", ".join(self.needed_by[:3]) + (f" and {more:,} more" if more > 0 else "")
        return f" ({listed} need{'s' if len(self.needed_by) == 1 else ''} it)"


@dataclass(slots=True)
class Verification:
    """What was looked at, and what is wrong.

    Attributes
    ----------
    status : str
        How the execution stands, by its journal as far as that can be read.
    segments, values, blobs, bytes : int
        How many were looked at, those of a fork's origin included; bytes of all objects together.
    findings : list of Finding
        In the order in which they were met; empty where the execution is whole.
    """

    exec_id: str
    status: str = ""
    segments: int = 0
    values: int = 0
    blobs: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every object is what was written, or was mended."""
        return all(finding.mended for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "ok": self.ok}

    def __repr__(self) -> str:
        return f"<verification of {self.exec_id}: {'whole' if self.ok else f'{len(self.findings)} findings'}>"


def verify(
    store: Store,
    exec_id: str,
    *,
    repair: bool = False,
    progress: Callable[[Progress], None] = lambda p: None,
) -> Verification:
    """Look at every object of the execution with exactly this exec_id, and of those that it was forked from.

    Parameters
    ----------
    repair
        Make derived objects again where they are wrong, and put lost segments back where a pack holds them.
    progress
        Called in this thread, after each object.

    Raises
    ------
    NotFoundError
        There is no trace of such an execution in this store.
    StoreError
        The store cannot be read.

    Examples
    --------
    >>> import kitaru
    >>> store = kitaru.connect("memory://verifying")
    >>> @kitaru.flow
    ... def answer():
    ...     return 42
    >>> exec_id = answer.run().exec_id
    >>> verify(store, exec_id).ok
    True
    >>> store.put(f"executions/{exec_id}/lineage.json", b"{}")
    >>> [(f.what, f.derived) for f in verify(store, exec_id).findings]
    [('is not the lineage that the journal tells', True)]
    >>> verify(store, exec_id, repair=True).ok, verify(store, exec_id).findings
    (True, [])
    >>> store = kitaru.connect()
    """
    check_format(store)
    return _Verifier(store, exec_id, progress, repair=repair).run()


class _Pack(NamedTuple):
    key: str
    first: int
    last: int


class _Blob(NamedTuple):
    digest: bytes
    size: int  # as the journal says
    is_bundle: bool


class _Looked(NamedTuple):
    """What looking at a blob came to."""

    blob: _Blob
    size: int  # as it is
    wrong: str = ""
    parts: tuple[bytes, ...] = ()  # of a bundle


@dataclass(slots=True)
class _Chain:
    """A journal as far as it can be read."""

    exec_id: str
    segments: list[Segment] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)  # of the segments, as the next one must name them
    sizes: dict[int, int] = field(default_factory=dict)
    n: int = 0  # the last segment that there is, or must have been
    last_entry: Entry | None = None
    sound: bool = True  # no segment is lost, and each follows the one before

    @property
    def records(self) -> Iterator[Record]:
        return (r for segment in self.segments for r in segment.records)


class _Verifier:
    """One verification, from the journal up."""

    def __init__(self, store: Store, exec_id: str, progress: Callable[[Progress], None], *, repair: bool) -> None:
        self.store, self.exec_id, self.repair = store, exec_id, repair
        self.report = Verification(exec_id)
        self.needed: dict[str, dict[str, None]] = {}  # by key: the values that need it
        self._progress = progress
        self._done = self._total = self._total_bytes = 0
        # What is known of values. A blob, and a part in a bundle, is `here` with its size once it was looked at.
        self.looked: set[bytes] = set()
        self.here: dict[bytes, int] = {}
        self.bad: dict[bytes, str] = {}  # blobs that are not what was written, and their keys
        self.lost: list[str] = []  # segments and bundles that cannot be read: who knows what was in them
        self.whole: set[bytes] = set()  # nodes, with all below them
        self.broken: dict[bytes, Value] = {}

    def run(self) -> Verification:
        chain = self._journal(self.exec_id)
        unread = self._inbox(chain)
        state = state_of(chain.segments)
        alive = looks_alive(self.store, Reading(self.exec_id, last_entry=chain.last_entry), state)
        self.report.status = "interrupted" if state.status == "running" and not alive else state.status
        fork = None if state.begun is None else state.begun.fork
        beyond = self._origin(fork, {self.exec_id})
        index = self._values(chain, beyond, unread)
        data = put_together(self.exec_id, state, chain.records, beyond=beyond)
        self._name_broken(data, index)
        self._check_beats()
        self._check_catalog(chain, state)
        self._check_lineage(chain, data, beyond, known=chain.sound and (fork is None or beyond is not None))
        self.report.findings = [replace(f, needed_by=(*self.needed.get(f.where, ()),)) for f in self.report.findings]
        return self.report

    def _find(self, where: str, what: str, *, derived: bool = False, mend: Callable[[], object] | None = None) -> None:
        mended = False
        if self.repair and mend is not None:
            mend()
            mended = True
        self.report.findings.append(Finding(where, what, (), derived, mend is not None, mended))

    def _tick(self, size: int) -> None:
        self._done += 1
        self.report.bytes += size
        done, read = self._done, self.report.bytes
        self._progress(Progress(done, max(done, self._total), read, max(read, self._total_bytes)))

    # ------------------------------------------------------------ the chain

    def _journal(self, exec_id: str, upto: int | None = None) -> _Chain:
        """The segments that can be read, and their packs; what is lost, or does not follow, is found."""
        packs = self._listed_packs(exec_id)  # first: the journal may grow meanwhile, and is then never behind them
        entries = {n: e for e in self.store.list(journal_key(exec_id)) if (n := _number(e))}
        if not entries and not packs and upto is None:
            self._must_leave_a_trace(exec_id)
        chain = _Chain(exec_id, n=max([*entries, *(p.last for p in packs), 1]))
        if upto is not None:
            entries = {n: e for n, e in entries.items() if n <= upto}
            packs = [p for p in packs if p.first <= upto]
            chain.n = upto
        chain.last_entry = entries[max(entries)] if entries else None
        self._total += len(entries) + len(packs)
        self._total_bytes += sum(e.size for e in entries.values())
        after = 0
        for n, data in _in_order(self._segment(exec_id), sorted(entries)):
            self._gap(chain, after + 1, n - 1, packs)
            after = n
            self._one(chain, n, data, packs)
        self._gap(chain, after + 1, chain.n, packs)
        self._packs(chain, packs)
        if upto is None:
            self._unpacked(chain, packs)
        return chain

    def _lose(self, chain: _Chain, key: str, what: str) -> None:
        self._find(key, f"{what}. What was recorded from there on cannot be opened")
        self.lost.append(key)
        chain.sound = False

    def _must_leave_a_trace(self, exec_id: str) -> None:
        left = next(iter(self.store.list(f"executions/{exec_id}/")), None)
        if left is None and not any(row.exec_id == exec_id for row in rows(self.store)):
            raise NotFoundError(
                f"there is no execution {exec_id} in {self.store.url}: `kitaru runs` lists those that there are"
            )

    def _segment(self, exec_id: str) -> Callable[[int], tuple[int, bytes | None]]:
        def get(n: int) -> tuple[int, bytes | None]:
            return n, self._get(journal_key(exec_id, n))

        return get

    def _get(self, key: str) -> bytes | None:
        try:
            return self.store.get(key)
        except KeyMissingError:
            return None

    def _one(self, chain: _Chain, n: int, data: bytes | None, packs: list[_Pack]) -> None:
        """The segment `n`, as the store holds it."""
        if data is None:  # listed, and gone
            self._gap(chain, n, n, packs)
            return
        self._tick(len(data))
        self.report.segments += 1
        key = journal_key(chain.exec_id, n)
        try:
            segment = Segment.decode(data, chain.exec_id, n)
        except (CorruptionError, StoreFormatError) as e:
            if not self._from_packs(chain, n, n, packs, _without(e, key)):
                self._lose(chain, key, _without(e, key))
            return
        if segment.prev != (b"" if n == 1 else chain.digests.get(n - 1, segment.prev)):
            self._find(key, "does not follow the segment before it: one of the two was replaced")
            chain.sound = False
        self._keep(chain, segment, data)

    @staticmethod
    def _keep(chain: _Chain, segment: Segment, data: bytes) -> None:
        chain.segments.append(segment)
        chain.digests[segment.n] = segment_digest(data)
        chain.sizes[segment.n] = len(data)

    def _gap(self, chain: _Chain, first: int, last: int, packs: list[_Pack]) -> None:
        """Segments that are not there."""
        while first <= last:
            key = journal_key(chain.exec_id, first)
            found = self._from_packs(chain, first, last, packs, "is missing")
            if found:
                first += found
                continue
            until = min((p.first - 1 for p in packs if first < p.first <= last), default=last)
            more = f", and so are the {until - first:,} after it" if until > first else ""
            self._lose(chain, key, f"is missing{more}")
            first = until + 1

    def _from_packs(self, chain: _Chain, first: int, last: int, packs: list[_Pack], what: str) -> int:
        """How many of the segments from `first` on a pack holds: these are lost in the journal alone."""
        for p in packs:
            if not p.first <= first <= p.last:
                continue
            try:
                inside = unpack(self._get(p.key) or b"", p.key)[first - p.first : last + 1 - p.first]
                segments = [Segment.decode(raw, chain.exec_id, n) for n, raw in enumerate(inside, first)]
            except (CorruptionError, StoreFormatError):
                continue
            for segment, raw in zip(segments, inside, strict=True):
                key = journal_key(chain.exec_id, segment.n)

                def mend(key: str = key, raw: bytes = raw) -> None:
                    self.store.put(key, raw)  # over what is damaged, at once: nobody sees a gap there

                self._find(key, f"{what}; {p.key} holds it as it was written", mend=mend)
                self._keep(chain, segment, raw)
            if segments:
                return len(segments)
        return 0

    # ------------------------------------------------------------ the packs

    def _listed_packs(self, exec_id: str) -> list[_Pack]:
        found = []
        for entry in self.store.list(pack_key(exec_id)):
            first, last = _number(entry, 21), _number(entry, 21, 11)
            if first and last >= first:
                found.append(_Pack(entry.key, first, last))
        return found

    def _packs(self, chain: _Chain, packs: list[_Pack]) -> None:
        for p in packs:
            data = self._get(p.key)
            if data is None:
                continue
            self._tick(len(data))
            if wrong := _wrong_with_pack(chain, p, data):

                def mend(p: _Pack = p) -> None:
                    self.store.delete([p.key])
                    self._pack(chain, p.first, p.last)

                whole = all(n in chain.digests for n in range(p.first, min(p.last, chain.n) + 1))
                self._find(p.key, wrong, derived=True, mend=mend if whole and p.last <= chain.n else None)

    def _unpacked(self, chain: _Chain, packs: list[_Pack]) -> None:
        """Find the packs that whoever wrote this journal left, and that are not there."""
        last = 0
        for p in sorted(packs, key=lambda p: p.first):
            if p.first > last + 1:
                self._find_unpacked(chain, last + 1, p.first - 1)
            last = max(last, p.last)
        if getattr(self.store, "is_near", False):
            return  # no packs are written there
        released = any(isinstance(r, Release) for s in chain.segments[-1:] for r in s.records)
        size = sum(chain.sizes.get(n, 0) for n in range(last + 1, chain.n + 1))
        if released and (chain.n - last >= PACK_AFTER or size >= PACK_BYTES):
            self._find_unpacked(chain, last + 1, chain.n)

    def _find_unpacked(self, chain: _Chain, first: int, last: int) -> None:
        if chain.sound:
            self._find(
                pack_key(chain.exec_id, first, last),
                "is missing: each of these segments is a request of its own when the execution is opened",
                derived=True,
                mend=lambda: self._pack(chain, first, last),
            )

    def _pack(self, chain: _Chain, first: int, last: int) -> None:
        raw = [self.store.get(journal_key(chain.exec_id, n)) for n in range(first, last + 1)]
        if [segment_digest(data) for data in raw] == [chain.digests[n] for n in range(first, last + 1)]:
            self.store.put_if_absent(pack_key(chain.exec_id, first, last), pack(raw))

    # ------------------------------------------------------------ where a fork's values come from

    def _origin(self, fork: Forked | None, seen: set[str]) -> Index | None:
        """Look at what an execution was forked from, and at what that one was. Gives where its values stand."""
        if fork is None or fork.origin in seen:
            return None
        if not any(_number(e) for e in self.store.list(journal_key(fork.origin))):
            key = journal_key(fork.origin, 1)
            self._find(key, f"is missing: {self.exec_id} was forked from {fork.origin}, and that is gone")
            self.lost.append(key)
            return None
        chain = self._journal(fork.origin, fork.segments)
        if chain.digests.get(fork.segments, fork.last) != fork.last:
            key = journal_key(fork.origin, fork.segments)
            self._find(key, f"is not what {self.exec_id} was forked from: another {fork.origin} was begun since")
            self.lost.append(key)
            return None
        begun = next((r for r in chain.records if isinstance(r, Begun)), None)
        beyond = self._origin(begun.fork if begun else None, {*seen, fork.origin})
        return self._values(chain, beyond)

    # ------------------------------------------------------------ the values

    def _inbox(self, chain: _Chain) -> list[Answered]:
        """What closed its waits. Gives what the journal does not hold yet; the rest must be what it does hold."""
        read = {inbox_key(self.exec_id, a.wait): a for a in Waits.of(chain.records).answers.values()}
        unread: list[Answered] = []
        for key, data in inbox(self.store, self.exec_id).items():
            self._tick(len(data))
            told = read.pop(key, None)
            put_back = None if told is None else partial(self._put_back, key, told)
            try:
                found = decode_answer(data, self.exec_id, key)
            except (CorruptionError, StoreFormatError) as e:
                self._find(key, _without(e, key), derived=told is not None, mend=put_back)
                continue
            if told is None:
                unread.append(found)
            elif data != encode_answer(told, self.exec_id):
                self._find(key, "is not the answer that the journal holds", derived=True, mend=put_back)
        for key, told in read.items():
            self._find(
                key, "is missing, and the journal holds it", derived=True, mend=partial(self._put_back, key, told)
            )
        return unread

    def _put_back(self, key: str, told: Answered) -> None:
        self.store.put(key, encode_answer(told, self.exec_id))

    def _values(self, chain: _Chain, beyond: Index | None, unread: Iterable[Answered] = ()) -> Index:
        """Look at every blob and at every value, in the order of the journal.

        What a value refers to is in its own record, or was met before: so no more than one bundle is held at a time.
        """
        records = [*chain.records, *unread]
        bundles = {v.bundle for r in records for v in values_of(r)}
        named = dict(blob for r in records for v in values_of(r) for blob in v.blobs)
        jobs = [_Blob(d, size, d in bundles) for d, size in named.items() if d not in self.looked]
        self._total += len(jobs)
        self._total_bytes += sum(blob.size for blob in jobs)
        looked = _in_order(self._look_at, jobs, lambda blob: blob.size > _LARGE)
        index = Index(beyond=beyond)
        values = Values(self.store, index)
        seen: set[bytes] = set()
        for record in records:
            index.learn(record)
            for value in values_of(record):
                held: dict[bytes, bytes] = {}
                for digest, _ in value.blobs:
                    while digest not in self.looked:
                        self._met(next(looked), held)
                if value.digest not in seen:
                    seen.add(value.digest)
                    self.report.values += 1
                    if not self._is_whole(value, values, held):
                        self.broken[value.digest] = value
        return index

    def _look_at(self, blob: _Blob) -> _Looked:
        """In any thread."""
        key = blob_key(blob.digest)
        data = self._get(key)
        if data is None:
            return _Looked(blob, 0, "is missing")
        if len(data) != blob.size:
            return _Looked(blob, len(data), f"has {len(data):,} bytes, and the journal says {blob.size:,}")
        if hashlib.sha256(data).digest() != blob.digest:
            return _Looked(blob, len(data), "is damaged: its SHA-256 is not its name")
        try:
            return _Looked(blob, len(data), parts=tuple(unbundle(data, key)) if blob.is_bundle else ())
        except CorruptionError as e:
            return _Looked(blob, len(data), _without(e, key))

    def _met(self, looked: _Looked, held: dict[bytes, bytes]) -> None:
        blob = looked.blob
        self._tick(looked.size)
        self.report.blobs += 1
        self.looked.add(blob.digest)
        if looked.wrong:
            key = self.bad[blob.digest] = blob_key(blob.digest)
            self._find(key, looked.wrong)
            if blob.is_bundle:
                self.lost.append(key)
            return
        self.here[blob.digest] = looked.size
        for part in looked.parts:
            digest = hashlib.sha256(part).digest()
            held[digest], self.here[digest] = part, len(part)

    def _is_whole(self, value: Value, values: Values, held: dict[bytes, bytes]) -> bool:
        """Whether the value and all below it is there. No recursion: a value may be a thousand levels deep."""
        try:
            todo = [*codecs.references(values.root(value))]
            fresh: set[bytes] = set()
            while todo:
                digest, size, is_node = todo.pop()
                if digest in fresh or digest in self.whole:
                    continue
                part = held.get(digest) or values.index.part(digest)
                if not is_node:
                    if (len(part) if part is not None else self.here.get(digest)) != size:
                        return False
                    continue
                if part is None:
                    if not values.index.has_blob(digest) or digest not in self.here:
                        return False
                    part = values.get(digest)
                fresh.add(digest)
                todo += codecs.references(part)
        except CorruptionError:
            return False
        self.whole |= fresh
        return True

    # ------------------------------------------------------------ which values are lost

    def _name_broken(self, data: ExecutionData, index: Index) -> None:
        """Say of what is damaged which values need it. With all that the journal holds, in whatever order."""
        if not self.broken:
            return
        names: dict[bytes, list[str]] = {}
        for label, value in _named(data):
            names.setdefault(value.digest, []).append(label)
        fates = _Fates(self, Values(self.store, index))
        for digest, value in self.broken.items():
            for key in fates.of(value):
                self.needed.setdefault(key, {}).update(dict.fromkeys(names.get(digest, ())))

    # ------------------------------------------------------------ what is made from the journal

    def _check_beats(self) -> None:
        """They hold nothing: when they were written is what they say."""
        for entry in self.store.list(f"executions/{self.exec_id}/owner/"):
            if entry.size:
                self._find_filled(entry)

    def _find_filled(self, entry: Entry) -> None:
        def mend() -> None:
            self.store.put(entry.key, b"")

        self._find(entry.key, f"has {entry.size:,} bytes, and should be empty", derived=True, mend=mend)

    def _went_on(self, chain: _Chain) -> bool:
        """Whether the journal has grown since it was read: then what is derived has changed, too."""
        after = journal_key(chain.exec_id, chain.n)
        return any(_number(e) for e in self.store.list(journal_key(chain.exec_id), after=after))

    def _check_catalog(self, chain: _Chain, state: State) -> None:
        begun, spoke = state.begun, state.release or state.claim
        found = entries_of(self.store, self.exec_id, None if begun is None else begun.at)

        def put() -> None:
            if begun is not None and spoke is not None:
                at, n = spoke.at, state.status_n
                key = put_status(self.store, self.exec_id, begun.flow, state.status, begun=begun.at, at=at, n=n)
                drop(self.store, [entry.key for entry, _ in found if entry.key != key])

        for entry, _ in found:
            if entry.size:
                self._find_filled(entry)
        if begun is None or spoke is None or not chain.sound or self._went_on(chain):
            return
        if not found:
            if self.report.status != "running":  # else the owner, which is at work, may be about to put it
                what = "is missing: no list shows this execution"
                self._find(f"the entry of {self.exec_id} in catalog/", what, derived=True, mend=put)
            return
        entry, best = max(found, key=lambda pair: pair[1].n)
        if best.n > chain.n:
            what = f"is missing: {entry.key} says that the execution was {best.status} there"
            self._find(journal_key(self.exec_id, best.n), what)
        elif best.flow != begun.flow:
            self._find(entry.key, f"names the flow {best.flow}; the journal, {begun.flow}", derived=True, mend=put)
        elif best.status != state.status and (best.n == state.status_n or state.release is not None):
            what = f"says {best.status}, and the journal says {state.status}"
            self._find(entry.key, what, derived=True, mend=put)

    def _check_lineage(self, chain: _Chain, data: ExecutionData, beyond: Index | None, *, known: bool) -> None:
        """Look at the lineage; `known` says whether all is there that it is made from."""
        key = lineage_key(self.exec_id)
        stored = self._get(key)
        if stored is not None:
            self._tick(len(stored))
        if not known:
            if stored is not None and not _is_lineage_of(stored, self.exec_id):
                self._find(key, "is no lineage of this execution", derived=True)
            return
        if self._went_on(chain):
            return
        if data.state.status in _ENDED:
            right = dumps(build(data))
            if stored != right:
                what = (
                    "is missing, though the execution has ended"
                    if stored is None
                    else "is not the lineage that the journal tells"
                )
                self._find(key, what, derived=True, mend=lambda: self.store.put(key, right))
            return
        if stored is None:
            return
        # It went on after an end. Then this is what there was to tell at that end.
        upto = [i for i, s in enumerate(chain.segments) for r in s.records if _is_end(r)]
        if not upto:
            self._find(key, "is there, though the journal has no end: segments may have been removed from its tail")
            return
        before = chain.segments[: upto[-1] + 1]
        records = [r for s in before for r in s.records]
        right = dumps(build(put_together(self.exec_id, state_of(before), records, beyond=beyond)))
        if stored != right:
            what = "is not the lineage that the journal tells of its last end"
            self._find(key, what, derived=True, mend=lambda: self.store.put(key, right))


class _Fates:
    """Which damaged objects stand in the way of which values."""

    def __init__(self, verifier: _Verifier, values: Values) -> None:
        self.verifier, self.values = verifier, values
        self._known: dict[bytes, frozenset[str]] = dict.fromkeys(verifier.whole, _WHOLE)
        self._said: set[str] = set()

    def of(self, value: Value) -> frozenset[str]:
        """The keys of what keeps `value` from being had."""
        journal = journal_key(self.verifier.exec_id)
        try:
            root = self.values.root(value)
        except CorruptionError:
            return self._gone(journal, f"names the value {value.digest.hex()}, which no record holds")
        try:
            return self._below(root)
        except CorruptionError as e:
            return self._gone(journal, f"holds the value {value.digest.hex()}, which cannot be read: {e}")

    def _below(self, root: bytes) -> frozenset[str]:
        # Of each node that is open: what is left to look at below it, and the keys that were found so far.
        above: list[tuple[bytes, Iterator[codecs.Link], set[str]]] = [(b"", codecs.references(root), set())]
        while True:
            digest, left, keys = above[-1]
            for link in left:
                fate = self._known.get(link.digest) if link.is_node else self._of_chunk(link.digest, link.size)
                if fate is None:
                    part = self._part(link.digest)
                    if isinstance(part, bytes):
                        above.append((link.digest, codecs.references(part), set()))
                        break
                    fate = self._known[link.digest] = part
                keys |= fate
            else:
                above.pop()
                fate = frozenset(keys) or _WHOLE
                if not above:
                    return fate
                self._known[digest] = fate
                above[-1][2].update(fate)

    def _of_chunk(self, digest: bytes, size: int) -> frozenset[str]:
        part = self.values.index.part(digest)
        there = len(part) if part is not None else self.verifier.here.get(digest)
        if there == size:
            return _WHOLE
        if there is not None:
            return self._gone(blob_key(digest), f"has {there:,} bytes, and a value says {size:,}")
        return self._lost(digest)

    def _part(self, digest: bytes) -> bytes | frozenset[str]:
        if self.values.index.part(digest) is None and digest not in self.verifier.here:
            return self._lost(digest)
        return self.values.get(digest)

    def _lost(self, digest: bytes) -> frozenset[str]:
        """A part that is nowhere: it was in what is lost."""
        if (key := self.verifier.bad.get(digest)) is not None:
            return frozenset({key})
        return self._gone(blob_key(digest), "is a part that no record, bundle or blob holds")

    def _gone(self, where: str, what: str) -> frozenset[str]:
        if self.verifier.lost:  # it was in one of these
            return frozenset(self.verifier.lost)
        if where not in self._said:
            self._said.add(where)
            self.verifier._find(where, what)
        return frozenset({where})


def _is_lineage_of(data: bytes, exec_id: str) -> bool:
    try:
        return bool(json.loads(data)["graph"]["exec_id"] == exec_id)
    except (ValueError, TypeError, LookupError):
        return False


def _is_end(record: Record) -> bool:
    return isinstance(record, Release) and record.status in _ENDED


def _number(entry: Entry, length: int = 10, at: int = 0) -> int:
    """The number at `at` in the name of a segment (10 digits) or pack (21 characters); 0 where it is no such name."""
    name = entry.key.split("/", 3)[3]
    digits = name[at : at + 10]
    right = len(name) == length and digits.isascii() and digits.isdecimal() and (length == 10 or name[10] == "-")
    return int(digits) if right else 0


def _wrong_with_pack(chain: _Chain, p: _Pack, data: bytes) -> str:
    try:
        inside = unpack(data, p.key)
    except (CorruptionError, StoreFormatError) as e:
        return _without(e, p.key)
    if len(inside) != p.last - p.first + 1:
        return f"holds {len(inside):,} segments, which are not those of its name"
    for n, raw in enumerate(inside, p.first):
        if chain.digests.get(n, segment_digest(raw)) != segment_digest(raw):
            return f"holds another segment {n} than the journal"
    return ""


def _named(data: ExecutionData) -> Iterator[tuple[str, Value]]:
    """The values of an execution, by what a REF calls them."""
    begun = data.state.begun
    for name, value in begun.arguments if begun is not None else ():
        yield f"input.{name}", value
    for c in data.checkpoints:
        for name, value in c.arguments:
            yield f"{c.label}.in.{name}", value
        for name, value in c.outputs:
            yield f"{c.label}.{name}", value
    for saved in data.saved:
        yield f"{saved.name}@{saved.version}", saved.value
    if data.result is not None:
        yield "result", data.result


def _without(error: StoreError, key: str) -> str:
    """An error's first sentence, as what is said of `key`."""
    return str(error).removeprefix(f"{key} ").partition(". ")[0]


def _in_order(
    call: Callable[[T], R], jobs: Iterable[T], is_large: Callable[[T], bool] = lambda job: False
) -> Iterator[R]:
    """What `call` gives for each, in their order; side by side where one takes a while, a large one by itself."""
    pool: ThreadPoolExecutor | None = None
    window: deque[Future[R]] = deque()
    try:
        for job in jobs:
            if pool is not None and not is_large(job):
                window.append(pool.submit(call, job))
                if len(window) == _AT_ONCE:
                    yield window.popleft().result()
                continue
            while window:
                yield window.popleft().result()
            began = time.perf_counter()
            result = call(job)
            if pool is None and time.perf_counter() - began > 0.002:
                pool = ThreadPoolExecutor(_AT_ONCE, "kitaru-verify")
            yield result
        while window:
            yield window.popleft().result()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
