"""Reading a journal: two listings, the packs, and what was written since. Each segment is checked against the last."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .errors import CorruptionError, KeyMissingError, StoreFormatError
from .records import Record
from .segments import Segment, journal_key, pack_key, segment_digest, unpack
from .stores.base import Entry, Store

__all__ = ["Reading", "read_journal"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A journal as it stood when it was read: a prefix of what it will be."""

    exec_id: str
    segments: tuple[Segment, ...] = ()
    last_digest: bytes = b""
    last_entry: Entry | None = None  # the newest segment's place in the listing: when it was written
    packed: int = 0  # segments up to this one stand in packs
    raw: tuple[bytes, ...] = field(default=(), repr=False)  # the bytes of those that do not

    @property
    def n(self) -> int:
        """The number of the newest segment; 0 where there is none."""
        return len(self.segments)

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
        known = _read_packs(store, exec_id)
    entries = _listed(store, exec_id, known.n)
    if known.n and (not entries or _number(entries[0]) != known.n):
        known = Reading(exec_id)  # packs are derived: where they say more than the segments, the segments are right
        entries = _listed(store, exec_id, 0)
    for i, entry in enumerate(entries, max(known.n, 1)):
        if _number(entry) != i:
            raise CorruptionError(
                f"{journal_key(exec_id, i)} is missing, though {entry.key} is there: restore it from a copy"
            )
    more = _get_all(store, [e.key for e in entries if _number(e) > known.n])
    segments = (*known.segments, *_chain(exec_id, more, known.n + 1, known.last_digest))
    last = segment_digest(more[-1]) if more else known.last_digest
    return Reading(exec_id, segments, last, entries[-1] if entries else None, known.packed, (*known.raw, *more))


def _read_packs(store: Store, exec_id: str) -> Reading:
    """What stands in packs, from the first segment on, as far as it can be trusted."""
    packs = {n: e.key for e in store.list(pack_key(exec_id)) if (n := _number(e, 21))}
    segments: list[Segment] = []
    last = b""
    while (key := packs.get(len(segments) + 1)) is not None:
        try:
            raw = unpack(store.get(key), key)
            segments += _chain(exec_id, raw, len(segments) + 1, last)
        except (CorruptionError, KeyMissingError, StoreFormatError):
            break  # derived: the segments themselves are still there
        last = segment_digest(raw[-1])
    return Reading(exec_id, tuple(segments), last, packed=len(segments))


def _listed(store: Store, exec_id: str, n: int) -> list[Entry]:
    """The segments from `n` on, as the store lists them; what else may lie there is none."""
    entries = store.list(journal_key(exec_id), after=journal_key(exec_id, max(n - 1, 0)))
    return [e for e in entries if _number(e)]


def _number(entry: Entry, length: int = 10) -> int:
    """The (first) number in the name of a segment or pack; 0 where it is the name of something else."""
    name = entry.key.split("/", 3)[3]
    return int(name[:10]) if len(name) == length and name[:10].isascii() and name[:10].isdecimal() else 0


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
