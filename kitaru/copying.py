"""Copying one execution from one store to another, so that it opens and resumes there.

What is true is copied byte for byte: the segments, each of them verified, and the blobs that they name. What is derived
from it is made again, and what is only a hint of the old place stays there.

Blobs go first and segments follow in their order, each create-only. So whatever stands at the target, also of a copy
that was broken off, is the execution as it stood at some moment, and the same copy can simply be made again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

from .catalog import drop, put_status
from .clock import SYSTEM
from .errors import (
    CorruptionError,
    ExecutionFencedError,
    KeyMissingError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from .executions import read_execution
from .forks import open_origin
from .journal import PACK_AFTER, PACK_WHOLE, Halt, create, insist
from .lineage_graph import build, dumps, lineage_key
from .location import check_format, prepare
from .ownership import looks_alive, state_of
from .reading import Reading, read_journal
from .records import Record, values_of
from .segments import Segment, journal_key, pack, pack_key, segment_digest
from .stores.base import Entry, Store
from .waiting import decode_answer, inbox

__all__ = ["Copied", "Progress", "copy"]

T = TypeVar("T")

_AT_ONCE = 16
_LARGE = 8 << 20  # bytes: blobs beyond this go one by one, since each is held in memory


class Progress(NamedTuple):
    """How far a copy is. Numbers of objects and of their bytes, blobs and segments alike.

    What stands at the target already counts as done.
    """

    done: int
    total: int
    bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to.

    Attributes
    ----------
    source, target : str
        The addresses of the two stores.
    status : str
        What the copied journal says of the execution.
    running : bool
        Its owner looked alive at the source: this is a copy of a moment, and what comes later is not in it.
    segments, blobs : int
        Written by this copy.
    segments_there, blobs_there : int
        Those that the target had already.
    bytes : int
        Of the segments and blobs written.
    ahead : int
        Segments of the target beyond those of the source: it went on there. They were left as they are.
    """

    exec_id: str
    source: str
    target: str
    status: str
    running: bool
    segments: int
    segments_there: int
    blobs: int
    blobs_there: int
    bytes: int
    ahead: int

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def copy(
    source: Store,
    target: Store,
    exec_id: str,
    *,
    progress: Callable[[Progress], None] = lambda p: None,
    say: Callable[[str], None] = lambda line: None,
    budget: float = 60.0,
) -> Copied:
    """Copy the execution with exactly this exec_id; a fork together with what it was forked from.

    Parameters
    ----------
    progress
        Called in this thread, after each object.
    say
        Told in one line when a store does not answer for a while.
    budget
        Seconds for which a store that does not answer is asked again, once the copy has begun.

    Raises
    ------
    NotFoundError
        The source has no such execution.
    UsageError
        The target has another one of this name, or one that has gone another way. Nothing was overwritten.
    CorruptionError
        A segment or blob is damaged or missing. No segment was written.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru.stores import MemoryStore
    >>> here, there = kitaru.connect("memory://copying"), MemoryStore()
    >>> @kitaru.flow
    ... def answer():
    ...     return 42
    >>> exec_id = answer.run().exec_id
    >>> copy(here, there, exec_id).segments, copy(here, there, exec_id).segments
    (2, 0)
    >>> kitaru.KitaruClient(there).executions.get(exec_id).result
    42
    >>> store = kitaru.connect()
    """
    if source.url == target.url:
        raise UsageError(f"{exec_id} is in {source.url} already: name another store to copy it to")
    check_format(source)
    check_format(target)
    reading = read_journal(source, exec_id, Reading(exec_id))  # what is true, not the packs
    if not reading.n:
        raise NotFoundError(
            f"there is no execution {exec_id} in {source.url}: `kitaru runs` lists those that there are"
        )
    found = _compared(target, reading)
    begun = state_of(reading.segments).begun
    if begun is not None and begun.fork is not None:  # its values may stand there
        copy(source, target, begun.fork.origin, say=say, budget=budget)
    answers = inbox(source, exec_id)
    unread = [decode_answer(data, exec_id, key) for key, data in answers.items()]
    blobs = _blobs([*reading.records, *unread])
    prepare(target)
    copying = _Copying(source, target, reading, progress, say, budget, sum(blobs.values()))
    try:
        copying.put_blobs(blobs)
        copying.put_segments(found)
        copying.put_inbox(answers)
    except Halt as e:
        if isinstance(e.error, StoreUnavailableError):
            raise StoreUnavailableError(
                f"{exec_id} is copied in part, and the same copy completes it: {e.error}"
            ) from e.__cause__
        raise e.error from e.__cause__
    ahead = max(0, max(found, default=0) - reading.n)
    whole = read_journal(target, exec_id) if ahead else reading
    status = _make_again(target, whole, packs=source.list(pack_key(exec_id)), raw=reading.raw)
    state = state_of(reading.segments)
    return Copied(
        exec_id,
        source.url,
        target.url,
        status,
        state.status == "running" and looks_alive(source, reading, state),
        copying.segments,
        reading.n - copying.segments,
        copying.blobs,
        len(blobs) - copying.blobs,
        copying.written,
        ahead,
    )


class _Copying:
    """The writes of one copy, and the count of them."""

    def __init__(
        self,
        source: Store,
        target: Store,
        reading: Reading,
        progress: Callable[[Progress], None],
        say: Callable[[str], None],
        budget: float,
        blob_bytes: int,
    ) -> None:
        self.source, self.target, self.reading = source, target, reading
        self.segments = self.blobs = self.written = 0
        self._progress, self._say, self._budget, self._told = progress, say, budget, False
        self._done = self._bytes = 0
        self._total_bytes = blob_bytes + sum(map(len, reading.raw))
        self._total = 0

    def put_blobs(self, blobs: Mapping[bytes, int]) -> None:
        """Put what the target lacks of `blobs` (their sizes by digest)."""
        self._total = len(blobs) + self.reading.n
        small = {digest: size for digest, size in blobs.items() if size < _LARGE}
        for digest, wrote in _side_by_side(self._put_blob, small.items()):
            self._count_blob(small[digest], wrote=wrote)
        for digest, size in blobs.items():
            if digest not in small:
                self._count_blob(size, wrote=self._put_blob((digest, size))[1])

    def _put_blob(self, blob: tuple[bytes, int]) -> tuple[bytes, bool]:
        digest, size = blob
        name = digest.hex()
        key = f"blobs/{name[:2]}/{name}"
        listed = self._insist(lambda: [*self.target.list(key)], key, self.target)
        there = next((e for e in listed if e.key == key), None)
        if there is not None:
            if there.size != size:
                raise CorruptionError(
                    f"{key} in {self.target.url} is damaged: it has {there.size} bytes, and should have {size}. Delete "
                    "it there, and copy again"
                )
            return digest, False
        data = self._insist(functools.partial(self._get, key), key, self.source)
        if hashlib.sha256(data).digest() != digest:
            raise CorruptionError(
                f"{key} in {self.source.url} is damaged: its SHA-256 is not its name. It is not copied; restore it"
            )
        # False: somebody else put it meanwhile, with the same content by its name.
        return digest, self._insist(functools.partial(self.target.put_if_absent, key, data), key, self.target)

    def _get(self, key: str) -> bytes:
        try:
            return self.source.get(key)
        except KeyMissingError as e:
            raise CorruptionError(
                f"{key} is missing in {self.source.url}, and {self.reading.exec_id} needs it: restore it from a copy"
            ) from e

    def _insist(self, call: Callable[[], T], what: str, store: Store) -> T:
        return insist(call, what, store, clock=SYSTEM, budget=self._budget, say=self._say_once)

    def _say_once(self, line: str) -> None:
        """Many blobs are under way at a time, and one line will do."""
        told, self._told = self._told, True
        if not told:
            self._say(line)

    def _count_blob(self, size: int, *, wrote: bool) -> None:
        self.blobs += wrote
        self._count(size, wrote=wrote)

    def put_segments(self, found: Mapping[int, Entry]) -> None:
        """Put what the target lacks, in order and one at a time: it never holds a segment without those before it.

        With more in flight, somebody who resumes there meanwhile could take the place of one of them, and would find
        later ones of ours behind it: a journal that nobody can go on with. So a segment is one request, and no more.
        """
        exec_id = self.reading.exec_id
        for n, data in enumerate(self.reading.raw, 1):
            if n not in found:
                try:
                    create(self.target, exec_id, n, data, clock=SYSTEM, budget=self._budget, say=self._say_once)
                except Halt as e:
                    if not isinstance(e.error, ExecutionFencedError):
                        raise
                    raise UsageError(
                        f"somebody else wrote {journal_key(exec_id, n)} in {self.target.url} during this copy: the "
                        "execution goes on there by itself now. What was copied before stands"
                    ) from e
                self.segments += 1
            self._count(len(data), wrote=n not in found)

    def put_inbox(self, answers: Mapping[str, bytes]) -> None:
        """Put what closed waits, after the records that opened them. What was closed there otherwise stays so."""
        for key, data in answers.items():
            self._insist(functools.partial(self.target.put_if_absent, key, data), key, self.target)

    def _count(self, size: int, *, wrote: bool) -> None:
        self._done += 1
        self._bytes += size
        self.written += size if wrote else 0
        self._progress(Progress(self._done, self._total, self._bytes, self._total_bytes))


def _compared(target: Store, reading: Reading) -> dict[int, Entry]:
    """The segments that stand at the target, by number. Raises unless they are this execution's."""
    exec_id, listed = reading.exec_id, {}
    for entry in target.list(journal_key(exec_id)):
        name = entry.key.rpartition("/")[2]
        if len(name) == 10 and name.isascii() and name.isdecimal():
            listed[int(name)] = entry
    common = [n for n in listed if n <= reading.n]
    same = dict(_side_by_side(lambda n: (n, target.get(journal_key(exec_id, n)) == reading.raw[n - 1]), common))
    if other := sorted(n for n in common if not same[n]):
        at = (
            f"is another execution than the one in {target.url}"
            if other[0] == 1
            else f"and the one in {target.url} went different ways after segment {other[0] - 1}"
        )
        raise UsageError(
            f"{exec_id} {at}, and one name has room for one. Nothing was overwritten: copy it to a place of its own, "
            "such as another folder or prefix"
        )
    if (n := reading.n + 1) in listed:
        beyond = target.get(journal_key(exec_id, n))
        if n - 1 not in listed or Segment.decode(beyond, exec_id, n).prev != segment_digest(reading.raw[-1]):
            raise UsageError(
                f"{exec_id} in {target.url} holds segment {n}, which does not follow those in the source. Nothing was "
                "overwritten: copy it to a place of its own"
            )
    return listed


def _blobs(records: Iterable[Record]) -> dict[bytes, int]:
    """The sizes of the blobs that the records name, by digest."""
    return dict(blob for r in records for v in values_of(r) for blob in v.blobs)


def _make_again(target: Store, whole: Reading, *, packs: Iterable[Entry], raw: tuple[bytes, ...]) -> str:
    """Put what is derived, and the catalog's entry. Gives the execution's status.

    No failure of these is one: what is true is there, and the rest is made again when it is missed.
    """
    exec_id = whole.exec_id
    state = state_of(whole.segments)
    begun, spoke = state.begun, state.release or state.claim
    with suppress(Exception):
        packed = 0
        for entry in packs:
            first, _, last = entry.key.rpartition("/")[2].partition("-")
            if first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= len(raw):
                same = pack(raw[int(first) - 1 : int(last)])
                target.put_if_absent(pack_key(exec_id, int(first), int(last)), same)
                packed = int(last)
        loose, least = len(raw) - packed, PACK_AFTER if packed else PACK_WHOLE
        if loose >= least and not getattr(target, "is_near", False):  # the source wrote none
            target.put_if_absent(pack_key(exec_id, packed + 1, len(raw)), pack(raw[packed:]))
    if begun is None or spoke is None:
        return state.status
    with suppress(Exception):
        if state.status in {"completed", "failed", "cancelled"}:
            beyond = open_origin(target, begun.fork).index if begun.fork is not None else None
            data = read_execution(exec_id, whole.segments, beyond=beyond)
            target.put(lineage_key(exec_id), dumps(build(data)))
    with suppress(StoreError):
        n = state.status_n
        key = put_status(target, exec_id, begun.flow, state.status, begun=begun.at, at=spoke.at, n=n)
        older = [e.key for e in target.list(key.rpartition("/")[0] + "/") if e.key < key]
        drop(target, older)
    return state.status


def _side_by_side(call: Callable[[Any], T], of: Iterable[Any]) -> Iterator[T]:
    """What `call` gives for each, in the order in which they end."""
    of = list(of)
    if len(of) < 4:
        yield from map(call, of)
        return
    pool = ThreadPoolExecutor(_AT_ONCE, "kitaru-copy")
    try:
        for done in as_completed([pool.submit(call, one) for one in of]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
