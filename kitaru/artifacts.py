"""Artifacts: where an execution's values stand, how they get there, and how they are had again.

A value's root node travels in the record that names it. Its parts are kept once for the execution: small ones in the
first record that needs them, large ones as blobs, many small ones together in a bundle; see docs/format.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import ormsgpack

from . import codecs
from .blobs import BLOB_FROM, Upload, Uploader, blob_key
from .codecs.buffers import chunker
from .codecs.memory import Looks, looks, side_by_side
from .codecs.node import tag_bytes
from .codecs.sharing import Shared, Sharer
from .documents import Document
from .errors import CorruptionError, KeyMissingError, KitaruError, UntrustedValueError
from .index import Index
from .location import is_trusted
from .notices import warn
from .progress import transfer
from .records import Argument, Record, Value, values_of
from .references import Ref, preview_of
from .stores.base import Store

if TYPE_CHECKING:
    from .pools import Pools

__all__ = ["INLINE", "Recorder", "Values", "unbundle"]

T = TypeVar("T")

INLINE = 256 << 10
"""So many bytes of new parts travel in a record; more of them go up together, as one bundle."""

_KEPT = 64 << 20
"""Bytes of bundles that a reader keeps."""

_AT_ONCE = 8

_NO_DATA = tag_bytes("reference")


def unbundle(data: bytes, key: str) -> list[bytes]:
    """The parts in a bundle. Raises `CorruptionError` where it is none."""
    try:
        parts = ormsgpack.unpackb(data)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or not all(type(part) is bytes for part in parts):
        raise CorruptionError(f"{key} is no bundle of parts, and a record says that it is: restore it from a copy")
    return parts


class Values:
    """Loads the values of one execution: a `codecs.Source` over its journal's parts and the store's blobs.

    Parameters
    ----------
    index
        What the journal says of them.
    insist
        Carries a request out, and again where the store does not answer; given the request and what it is for.
    origin
        Reads what this execution was forked from, once something is asked for that its own journal does not hold.
    opened
        Told the digests of the parts in a bundle, once it was opened.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        script: str | None = None,
        insist: Callable[[Callable[[], Any], str], Any] = lambda request, what: request(),
        pool: Executor | None = None,
        origin: Callable[[], Index] | None = None,
        opened: Callable[[Iterable[bytes]], None] = lambda digests: None,
    ) -> None:
        self.store, self.index, self.script = store, index, script
        self._tell_opened = opened
        self._insist, self._pool, self._origin = insist, pool, origin
        self._lock = threading.Lock()
        self._unbundled: dict[bytes, bytes] = {}  # parts out of bundles
        self._size = 0  # of these
        self._opened: set[bytes] = set()  # bundles of which it is known what is in them
        self._where: dict[bytes, bytes] = {}  # by part: the bundle that it is in

    @property
    def trusted(self) -> bool:
        """Whether its pickles may be loaded. Asked anew each time: the user may say so meanwhile."""
        return is_trusted(self.store)

    # ------------------------------------------------------------ values

    def root(self, value: Value) -> bytes:
        """The root node of a value, verified.

        Raises
        ------
        CorruptionError
            Where the journal does not hold it, or holds something else under its name.
        """
        data = self.index.full(value).data
        if data is None and self.look_beyond():
            data = self.index.full(value).data
        if data is None:
            raise CorruptionError(
                f"the journal names the value {value.digest.hex()}, and no record before holds it: restore the "
                f"segments of this execution from a copy of {self.store.url}"
            )
        _check(data, value.digest, "a value in the journal")
        return data

    def load(self, value: Value) -> Any:
        """The value, as a fresh object.

        Raises
        ------
        UntrustedValueError
            It is pickled, and the store is not marked as trusted.
        CorruptionError
            Its bytes are not what was recorded.
        CodeNotFoundError
            Its class is not to be found here.
        """
        root = self.root(value)
        if len(root) <= codecs.PLAIN:  # nearly always: plain data, whole
            try:
                return ormsgpack.unpackb(root)
            except ValueError:  # it has tags, or parts that stand elsewhere
                pass
        try:
            return codecs.decode(root, source=self.near(value), trusted=False, script=self.script, strict=False)
        except UntrustedValueError:
            if not self.trusted:  # asked of pickles alone: to ask costs more than most values
                raise
            return codecs.decode(root, source=self.near(value), trusted=True, script=self.script, strict=False)

    def plain(self, value: Value) -> bytes:
        """The canonical bytes of the value whole, buffers left out."""
        return codecs.join(self.root(value), self.near(value).get)

    def near(self, value: Value) -> codecs.Source:
        """The same, for the parts of this value: of the bundles, its own and those before it are looked into first."""
        return _Near(self, value.digest)

    def look_beyond(self) -> bool:
        """Read the origin, if there is one that was not read yet. Gives whether there was."""
        origin, self._origin = self._origin, None
        if origin is None:
            return False
        self.index.lean_on(origin())
        return True

    # ------------------------------------------------------------ their parts

    def get(self, digest: bytes, near: bytes = b"") -> bytes:
        """The bytes of a part or chunk, verified; `near` is the digest of a value that it is a part of."""
        data = self.index.part(digest)
        if data is not None:
            _check(data, digest, "a part of a value in the journal")
            return data
        if not self.index.has_blob(digest):
            data = self._out_of_bundles(digest, near)
            if data is not None:
                return data
            if self.look_beyond():
                return self.get(digest, near)
        return self._blob(digest)

    def fill(self, pieces: Sequence[tuple[bytes, int]], into: memoryview, near: bytes = b"") -> None:
        """Chunks, one after the other, into a buffer; side by side where there are several.

        Each is verified where it lies, so nobody may look there before this returns. Within a `looking` block it
        counts as looked at.
        """
        todo, at = [], 0
        for digest, size in pieces:
            todo.append((digest, into[at : at + size]))
            at += size
        known = looks()  # of this thread

        def one(piece: tuple[bytes, memoryview]) -> None:
            self._fill(*piece, near, known)
            moving.advance(len(piece[1]))

        with transfer("kitaru: downloading", at) as moving:
            if hasattr(self.store, "read_into"):  # it is near: its processors are what there is to wait for
                side_by_side(one, todo, at)
            elif len(todo) == 1:
                one(todo[0])
            elif self._pool is not None:
                _in_pool(self._pool, one, todo)
            else:
                with ThreadPoolExecutor(_AT_ONCE, "kitaru-load") as pool:
                    _in_pool(pool, one, todo)

    def _fill(self, digest: bytes, place: memoryview, near: bytes, known: Looks | None) -> None:
        """One chunk to its place."""
        if self.index.part(digest) is None and self.index.has_blob(digest):
            key = blob_key(digest)
            if self._insist(lambda: self._read(key, place), key) == len(place):
                if not chunker().verify(place, digest, known):
                    raise _damaged(len(place), digest, key)
                return
        data = self.get(digest, near)
        if len(data) != len(place):
            raise CorruptionError(
                f"a chunk of a value has {len(data)} bytes, and its record says {len(place)}: "
                "restore this execution's journal from a copy"
            )
        place[:] = data

    def _read(self, key: str, place: memoryview) -> int:
        """How many bytes the object has. If they are as many as there is room for, they are there now."""
        read_into = getattr(self.store, "read_into", None)
        with self._said_to_be_needed(key):
            if read_into is not None:
                size: int = read_into(key, place)
                return size
            data = self.store.get(key)
        if len(data) == len(place):
            place[:] = data
        return len(data)

    def _out_of_bundles(self, digest: bytes, near: bytes) -> bytes | None:
        """A part in one of the bundles. A damaged one stands in the way of nothing that is in another."""
        damaged: CorruptionError | None = None
        with self._lock:
            found = self._unbundled.get(digest)
            if found is not None:
                return found
            for bundle in self._bundles_to_open(digest, near):
                try:
                    parts = unbundle(self._blob(bundle), blob_key(bundle))
                except CorruptionError as e:
                    damaged = e
                    continue
                if self._size > _KEPT:
                    self._unbundled, self._size = {}, 0
                by_digest = {hashlib.sha256(part).digest(): part for part in parts}
                self._unbundled |= by_digest
                self._size += sum(map(len, parts))
                self._where |= dict.fromkeys(by_digest, bundle)
                self._opened.add(bundle)
                self._tell_opened(by_digest)
                if digest in by_digest:
                    return by_digest[digest]
        if damaged is not None:
            raise damaged
        return None

    def _bundles_to_open(self, digest: bytes, near: bytes) -> list[bytes]:
        """Where a part may be, the likeliest first: a value's parts stand in its own record, and in those before it.

        What is in a bundle is known once it was opened, so none is looked into twice for what it does not hold.
        """
        where, bundles = self._where.get(digest), self.index.bundles
        upto = self.index.upto(near)
        others = (*reversed(bundles[:upto]), *bundles[upto:])
        return [*([where] if where is not None else ()), *(b for b in others if b not in self._opened)]

    def _blob(self, digest: bytes) -> bytes:
        key = blob_key(digest)

        def request() -> bytes:
            with self._said_to_be_needed(key):
                return self.store.get(key)

        data: bytes = self._insist(request, key)
        _check(data, digest, key)
        return data

    @contextmanager
    def _said_to_be_needed(self, key: str) -> Iterator[None]:
        try:
            yield
        except KeyMissingError as e:
            raise CorruptionError(
                f"{key} is missing, and a record needs it: restore it from a copy of {self.store.url}"
            ) from e


class _Near(NamedTuple):
    """A source of one value's parts."""

    values: Values
    value: bytes

    def get(self, digest: bytes) -> bytes:
        return self.values.get(digest, self.value)

    def fill(self, pieces: Sequence[tuple[bytes, int]], into: memoryview) -> None:
        self.values.fill(pieces, into, self.value)


def _check(data: bytes, digest: bytes, where: str) -> None:
    if hashlib.sha256(data).digest() != digest:
        raise _damaged(len(data), digest, where)


def _damaged(size: int, digest: bytes, where: str) -> CorruptionError:
    return CorruptionError(
        f"{where} is not what was recorded: {size} bytes whose SHA-256 is not {digest.hex()}. "
        "It is not used; restore it from a copy"
    )


def _in_pool(pool: Executor, work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do all of it, and return when nothing of it runs any more. After a failure, what has not begun never does.

    What each holds, such as the copy of a chunk, it holds while it runs: memory is bounded by the pool's threads.
    """
    futures = [pool.submit(work, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    for future in sorted(futures, key=Future.cancelled):  # what failed says more than what was cancelled for it
        future.result()


class Recorder:
    """Takes an execution's values in: what of them stands in its journal or in blobs already, and what is new."""

    def __init__(
        self,
        store: Store,
        pools: Pools,
        script: str | None,
        insist: Callable[[Callable[[], Any], str], Any] = lambda request, what: request(),
        stop: Callable[[KitaruError], BaseException] = lambda error: error,
        *,
        beyond: Index | None = None,
        before: Recorder | None = None,
    ) -> None:
        self.store, self.stop = store, stop
        self.index = Index(beyond=beyond)
        self._sharer = Sharer()
        self.values = Values(store, self.index, script=script, insist=insist, opened=self._sharer.confirm)
        self._sharer.confirm(self.index.stored())
        self._uploader = Uploader(store, pools, self._sharer.chunker, self._sharer.known, insist)
        # What is in bundles that no record names yet; `before` took in what the first record holds.
        self._bundled: dict[bytes, list[bytes]] = {} if before is None else dict(before._bundled)
        self._opaque: set[str] = set()

    def learn(self, record: Record) -> None:
        """The values in `record` stand in the journal: they need not be recorded again."""
        self._sharer.confirm(self.index.learn(record))
        for value in values_of(record):
            if value.bundle:
                self._sharer.confirm(self._bundled.pop(value.bundle, ()))

    def encode(self, value: Any, *, place: str, otherwise: codecs.Otherwise = "pickle", ahead: bool = False) -> Shared:
        """As `codecs.encode`; what was recorded before, and has not changed since, costs one pass over it.

        `ahead`: it is sure to be recorded, so its new chunks are stored while others of it are hashed.
        """
        if type(value) is Ref:
            of = value.recorded
            if of is not None and (of.digest in self.index or self.index.reaches(of.digest) is not None):
                return Shared(of.digest, b"", of.kind, of.size, (), ())  # it stands in the journal, as it is
            value = value.load()
        elif type(value) is Document:
            value = value.value
        return self._sharer.encode(value, place=place, otherwise=otherwise, ahead=self._uploader if ahead else None)

    def value(self, shared: Shared, of: Any, uploads: list[Upload], carried: set[bytes] | None = None) -> Value:
        """`of` as a record holds it; what of it is to be a blob, and is none yet, is put onto `uploads`.

        `carried` are the parts that other values of the same record bring along, to which those of this one are added.
        """
        if shared.digest in self.index:
            return Value(shared.digest, shared.size, shared.kind, self._other_preview(shared, of))
        there = self.index.reaches(shared.digest)
        if there is not None:
            return Value(shared.digest, shared.size, shared.kind, there.preview)
        known, carried = self._sharer.known, set() if carried is None else carried
        blobs: list[tuple[bytes, int]] = []
        small: list[bytes] = []
        for digest, part in shared.parts:
            if digest in known or digest in carried:
                continue
            carried.add(digest)
            if len(part) > BLOB_FROM:
                self._blob(Upload(digest, part), blobs, uploads)
            else:
                small.append(part)
        for piece in shared.chunks:
            if piece.digest in known or piece.digest in carried:
                continue
            carried.add(piece.digest)
            if len(piece.data) > BLOB_FROM:
                self._blob(Upload(piece.digest, piece), blobs, uploads)
            else:
                small.append(self._sharer.chunker.check(piece))
        bundle, within = b"", b""
        if sum(map(len, small)) > INLINE:
            data = ormsgpack.packb(small)
            bundle = hashlib.sha256(data).digest()
            within = codecs.digests_within(shared)
            self._bundled[bundle] = [hashlib.sha256(part).digest() for part in small]
            self._blob(Upload(bundle, data), blobs, uploads)
            small = []
        return Value(
            shared.digest,
            shared.size,
            shared.kind,
            preview_of(of),
            shared.root,
            tuple(small),
            tuple(blobs),
            bundle,
            within,
        )

    def confirm(self, digests: Iterable[bytes]) -> None:
        """Parts of these digests are in bundles that the journal names, as somebody found who opened them."""
        self._sharer.confirm(digests)

    def _other_preview(self, shared: Shared, of: Any) -> Mapping[str, Any]:
        """The preview of a value that stands in the journal, where people are to see another one here."""
        if type(of) is not Document and type(of) is not Ref:
            return {}
        preview, known = preview_of(of), self.index.full(Value(shared.digest, 0, "data")).preview
        return {} if preview == known else preview

    def named(self, value: Value) -> Value:
        """A recorded value as a further record names it."""
        if value.digest in self.index:
            return Value(value.digest, value.size, value.kind)
        return Value(value.digest, value.size, value.kind, self.index.full(value).preview)

    def _blob(self, upload: Upload, blobs: list[tuple[bytes, int]], uploads: list[Upload]) -> None:
        blobs.append((upload.digest, upload.size))
        if not self._uploader.is_done(upload.digest):
            uploads.append(upload)

    def upload(self, uploads: Sequence[Upload]) -> None:
        """Make them durable: before the record that names them."""
        self._uploader.upload(uploads)

    def give_up(self) -> None:
        """The run ends before its end: uploads that are under way are not tried again."""
        self._uploader.give_up()

    def is_far(self, value: Value) -> bool:
        """Whether reading it may take a request."""
        return not self.index.is_here and self.index.full(value).size > codecs.PLAIN

    def ref(self, value: Value, given: Any) -> Ref[Any]:
        """To a recorded argument. What was given is kept at hand where reading it back would not give it."""
        full = self.index.full(value)
        if full.kind in {"reference", "pickle"} or (full.data and _NO_DATA in full.data):
            return Ref.to(given)
        return Ref(full, self.values, self.stop)

    def load_all(self, values: Iterable[Argument], *, lazily: bool = False) -> list[Any]:
        """Recorded values again, as fresh objects; or `lazily` a `Ref` to each.

        A store that does not answer is asked again, as for a write.

        What keeps one from being read is no failure of the step: no `except` may swallow it.
        """
        if lazily:
            return [Ref(self.index.full(value), self.values, self.stop) for _, value in values]
        try:
            return [self.values.load(value) for _, value in values]
        except KitaruError as e:
            raise self.stop(e) from e

    def warn_opaque(self, step: str, kind: str) -> None:
        """Say once that a value was pickled where reading it back will need the user's trust."""
        if kind == "pickle" and not self.values.trusted and step not in self._opaque:
            self._opaque.add(step)
            warn(
                f"an output of {step} has no data format and was pickled. {self.store.url} is not marked as trusted, "
                "so a resume will refuse to load it: set KITARU_TRUST to that address, or return plain data"
            )
