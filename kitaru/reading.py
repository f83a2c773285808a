"""Reading a journal: two listings, the packs, and what was written since. Each segment is checked against the last."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .collecting import kept
from .errors import CorruptionError, KeyMissingError, StoreFormatError
from .records import Record
from .segments import Segment, journal_key, pack_key, segment_digest, unpack
from .stores.base import Entry, Store

__all__ = ["Glimpse", "Reading", "glimpse", "read_journal"]

_PAGE = 1000
"""So many keys come with one request."""

_SHORT = 1 << 20
"""So many bytes of segments are packed anew, all of them, rather than those that were written since."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A journal as it stood when it was read: a prefix of what it will be."""

    exec_id: str
    segments: tuple[Segment, ...] = ()
    last_digest: bytes = b""
    last_entry: Entry | None = None  # the newest segment's place in the listing: when it was written
    packed: int = 0  # segments up to this one stand in packs that are not worth being made anew
    raw: tuple[bytes, ...] = field(default=(), repr=False)  # the bytes of the others

    @property
    def n(self) -> int:
        """The number of the newest segment; 0 where there is none."""
        return len(self.segments)

    def digest(self, n: int) -> bytes:
        """The digest of segment `n`, by which the next one names it; n counts from 1."""
        return self.last_digest if n == self.n else self.segments[n].prev

    @property
    def records(self) -> list[Record]:
        """All records, in order."""
        return [r for segment in self.segments for r in segment.records]


def read_journal(store: Store, exec_id: str, known: Reading | None = None) -> Reading:
    """Read a journal to its end: two listings, the packs, and what was written since.

    Parameters
    ----------
    known
        An earlier reading: only what was written since is fetched.

    Raises
    ------
    CorruptionError
        Where a segment is damaged, missing or out of place; the message names it.
    """
    if known is None:
        known = _read_packs(store, exec_id, store.list(pack_key(exec_id)))
    entries = _listed(store, exec_id, known.n)
    if known.n and (not entries or _number(entries[0]) != known.n):
        known = Reading(exec_id)  # packs are derived: where they say more than the segments, the segments are right
        entries = _listed(store, exec_id, 0)
    return _read_on(store, exec_id, known, entries)


def _read_on(store: Store, exec_id: str, known: Reading, entries: list[Entry]) -> Reading:
    """What is known, and the segments behind it; `entries` begin with the last one that is known."""
    for i, entry in enumerate(entries, max(known.n, 1)):
        if _number(entry) != i:
            raise CorruptionError(
                f"{journal_key(exec_id, i)} is missing, though {entry.key} is there: restore it from a copy"
            )
    more = _get_all(store, [e.key for e in entries if _number(e) > known.n])
    segments = (*known.segments, *_chain(exec_id, more, known.n + 1, known.last_digest))
    last = segment_digest(more[-1]) if more else known.last_digest
    newest, raw = entries[-1] if entries else None, (*known.raw, *more)
    return Reading(exec_id, segments, last, newest, known.packed, raw)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A short execution, as one listing shows it.

    Attributes
    ----------
    inbox : frozenset of str
        The names in its inbox, as parts of keys.
    beats : dict of str to float
        Seconds since the last sign of life, by writer.
    """

    reading: Reading
    inbox: frozenset[str]
    beats: Mapping[str, float]


def glimpse(store: Store, exec_id: str) -> Glimpse:
    """Read an execution, its inbox and its heartbeats: one listing and two objects where it is short.

    Raises as `read_journal` does.
    """
    top = f"executions/{exec_id}/"
    entries = [*itertools.islice(store.list(top), _PAGE)]

    def below(part: str) -> Iterator[Entry]:
        return (e for e in entries if e.key.startswith(f"{top}{part}/"))

    if len(entries) < _PAGE:
        reading = _read_packs(store, exec_id, below("packs"))
        segments = [e for e in below("journal") if _number(e)]
        if reading.n > len(segments) or (reading.n and _number(segments[reading.n - 1]) != reading.n):
            reading = Reading(exec_id)
        reading = _read_on(store, exec_id, reading, segments[max(reading.n - 1, 0) :])
    else:
        reading = read_journal(store, exec_id)
        entries = [*store.list(f"{top}inbox/"), *store.list(f"{top}owner/")]
    inbox = frozenset(e.key.rpartition("/")[2] for e in below("inbox"))
    return Glimpse(reading, inbox, {e.key.rpartition("/")[2]: e.age for e in below("owner")})


def _read_packs(store: Store, exec_id: str, packs: Iterable[Entry]) -> Reading:
    """What stands in packs, from the first segment on, as far as it can be trusted."""
    segments: list[Segment] = []
    raw: list[bytes] = []
    last = b""
    keys = _one_after_the_other(packs)
    try:
        for key, data in zip(keys, _get_all(store, keys), strict=True):
            inside = unpack(data, key)
            segments += _chain(exec_id, inside, len(segments) + 1, last)
            raw += inside
            last = segment_digest(inside[-1])
    except (CorruptionError, KeyMissingError, StoreFormatError):
        pass  # derived: the segments themselves are still there
    if sum(map(len, raw)) <= _SHORT:  # the next pack holds them again, so that there is one to read
        return Reading(exec_id, tuple(segments), last, raw=tuple(raw))
    return Reading(exec_id, tuple(segments), last, packed=len(segments))


def _one_after_the_other(packs: Iterable[Entry]) -> list[str]:
    """The keys of packs that hold a journal from its first segment on; of two that begin alike, the longer one."""
    longest: dict[int, tuple[int, str]] = {}
    for entry in packs:
        if first := _number(entry, 21):
            last = entry.key[-10:]
            end = int(last) if last.isascii() and last.isdecimal() else 0
            longest[first] = max(longest.get(first, (0, "")), (end, entry.key))
    keys: list[str] = []
    n = 0
    while (n + 1) in longest and longest[n + 1][0] > n:
        n, key = longest[n + 1]
        keys.append(key)
    return keys


def _listed(store: Store, exec_id: str, n: int) -> list[Entry]:
    """The segments from `n` on, as the store lists them; what else may lie there is none."""
    entries = store.list(journal_key(exec_id), after=journal_key(exec_id, max(n - 1, 0)))
    return [e for e in entries if _number(e)]


def _number(entry: Entry, length: int = 10) -> int:
    """The (first) number in the name of a segment or pack; 0 where it is the name of something else."""
    name = entry.key.split("/", 3)[3]
    return int(name[:10]) if len(name) == length and name[:10].isascii() and name[:10].isdecimal() else 0


@kept()
def _chain(exec_id: str, raw: Iterable[bytes], first: int, prev: bytes) -> list[Segment]:
    out = []
    for n, data in enumerate(raw, first):
        out.append(Segment.decode(data, exec_id, n, prev))
        prev = segment_digest(data)
    return out


def _get_all(store: Store, keys: list[str]) -> list[bytes]:
    """Side by side where one request takes a while; a folder answers faster than a thread starts."""
    if not keys:
        return []
    began = time.perf_counter()
    out = [store.get(keys[0])]
    if time.perf_counter() - began < 0.002 or len(keys) < 4:
        return out + [store.get(key) for key in keys[1:]]
    with ThreadPoolExecutor(16, "kitaru-read") as pool:
        return out + list(pool.map(store.get, keys[1:]))
