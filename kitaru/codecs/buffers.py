"""The bodies of arrays, columns and images: raw bytes, cut into chunks, each named by its SHA-256.

A buffer is never part of a node's own bytes, unless it is short: the node names its chunks. So an array of which one
element changed stores one chunk again, and one that did not change stores none. What did not change is noticed by a
keyed BLAKE3 of each chunk (see `memory`), which is several times faster than SHA-256.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import io
import os
import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..errors import UnrecordableValueError
from .memory import CHUNK, WORTH, Looks, chunks_of, fast_hash, keyed, looks, side_by_side
from .node import damaged
from .source import Source

__all__ = ["CHUNK", "SMALL", "Ahead", "Buffer", "Chunker", "Piece", "Pieces", "chunker", "chunks_of"]

SMALL = 2048  # a buffer of at most so many bytes stands in the node itself, as a bin. Frozen likewise

_COPIED = 16 << 10  # so short a chunk is copied and hashed: cheaper than to remember it
_BLOCK = 256 << 10  # copied and hashed at a time: it stays in the processor's cache
_REMEMBERED = 1 << 16  # chunks: some 16 MB of memory for 256 GB of content
_START = 64  # bytes of a chunk that tell most new ones from the known ones


class Buffer:
    """What a form holds in the place of a buffer: raw bytes that belong to the user's object.

    Attributes
    ----------
    view
        Contiguous bytes, format "B". It keeps the object that they lie in alive, and may change under our hands.
    """

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        if view.format != "B" or view.ndim != 1 or not view.c_contiguous:
            raise TypeError("a buffer is one dimension of contiguous bytes")
        self.view = view


class Piece(NamedTuple):
    """One chunk of a buffer: its raw bytes by their SHA-256 (32 bytes).

    A `memoryview` looks into the user's object: take the bytes to store from `Chunker.check`.
    """

    digest: bytes
    data: bytes | memoryview


class Ahead(Protocol):
    """Who takes new chunks while others are still hashed, to store them. Any thread may ask; none waits."""

    def has_room(self, size: int) -> bool:
        """Whether it takes one more, of so many bytes: if so, `take` follows."""

    def take(self, digest: bytes, copy: bytes | None) -> None:
        """The chunk of this SHA-256, in bytes of its own; None where hashing it failed."""


class Chunker:
    """What is known about buffers: which content has which SHA-256. Any thread may ask.

    No object's identity counts: each chunk is read each time, or was within the same `looking` block.
    """

    def __init__(self, *, remembered: int = _REMEMBERED) -> None:
        self._most = remembered
        self._digests: collections.OrderedDict[bytes, bytes] = collections.OrderedDict()  # BLAKE3 → SHA-256
        self._starts: set[bytes] = set()  # the first bytes of them: what begins like none of them is new
        self._lock = threading.Lock()

    def cut(self, view: memoryview, ahead: Ahead | None = None) -> list[Piece]:
        """The chunks of a buffer, in its order.

        Parameters
        ----------
        view
            Contiguous bytes, format "B". Read once, and a second time where only part of a chunk is new.

        Examples
        --------
        >>> [len(piece.data) for piece in Chunker().cut(memoryview(bytes(CHUNK + 1)))]
        [4194304, 1]
        """
        return self.pieces(chunks_of(view), ahead)

    def pieces(self, chunks: Sequence[memoryview], ahead: Ahead | None = None) -> list[Piece]:
        """These chunks, of as many buffers as it may be, with their digests: this thread hashes, and others with it.

        Those that are new go to `ahead` as soon as they are hashed, where it has room.
        """
        known, size = looks(), sum(map(len, chunks))  # of this thread
        if len(chunks) < 2 or size < WORTH:
            ahead = None
        return side_by_side(lambda chunk: self._piece(chunk, known, ahead), chunks, size)

    def check(self, piece: Piece) -> bytes:
        """The bytes of a piece, to be stored under its digest.

        Raises
        ------
        UnrecordableValueError
            They are no longer what was hashed: another thread has changed them since.
        """
        data = piece.data
        if isinstance(data, bytes):
            return data
        copy = bytes(data)
        self.look(piece if _is_stable(data) else Piece(piece.digest, copy))
        return copy

    def look(self, piece: Piece) -> None:
        """Once more at a piece whose bytes are stored: together, its pieces are what the value was at one moment.

        Raises
        ------
        UnrecordableValueError
            As `check`.
        """
        data = piece.data
        if isinstance(data, memoryview) and _is_stable(data):
            return
        if self._known(fast_hash(data)) != piece.digest and hashlib.sha256(data).digest() != piece.digest:
            raise UnrecordableValueError(
                "a value was changed by another thread while it was recorded, so that no one state of it is known. "
                "Wait for that thread before the value is handed on, or hand on a copy of it"
            )

    def verify(self, chunk: memoryview, digest: bytes, known: Looks | None = None) -> bool:
        """Whether a chunk has this SHA-256; if so, that is remembered, and that it was looked at.

        Parameters
        ----------
        chunk
            Memory of which nobody else knows yet: it is read twice where its content was never met.
        """
        fast = fast_hash(chunk)
        if self._known(fast) != digest:
            if hashlib.sha256(chunk).digest() != digest:
                return False
            self._remember(fast, digest, bytes(chunk[:_START]))
        if known is not None:
            known.add(chunk, fast)
        return True

    def _piece(self, chunk: memoryview, known: Looks | None, ahead: Ahead | None = None) -> Piece:
        if len(chunk) <= _COPIED:
            copy = bytes(chunk)
            return Piece(hashlib.sha256(copy).digest(), copy)
        fast = None if known is None else known.find(chunk)
        if fast is None and bytes(chunk[:_START]) in self._starts:
            fast = fast_hash(chunk)
        digest = None if fast is None else self._known(fast)
        return Piece(digest or self._learn_ahead(chunk, ahead) or self._learn(chunk), chunk)

    def _learn_ahead(self, chunk: memoryview, ahead: Ahead | None) -> bytes:
        """Likewise; of a copy, which is stored meanwhile. Empty where nobody takes it."""
        if ahead is None or not ahead.has_room(len(chunk)):
            return b""
        digest, copy = b"", None
        try:
            copy = bytes(chunk)
            digest = self._learn(memoryview(copy))
        finally:
            ahead.take(digest, copy if digest else None)
        return digest

    def _learn(self, chunk: memoryview) -> bytes:
        """The SHA-256 of a chunk, which is remembered.

        Another thread may write into it meanwhile. Both hashes are taken of the same copies, block by block, so that
        a digest is never remembered for bytes that have another one.
        """
        slow, fast, start = hashlib.sha256(), keyed(), b""
        is_stable = _is_stable(chunk)
        for at in range(0, len(chunk), _BLOCK):
            block = chunk[at : at + _BLOCK] if is_stable else bytes(chunk[at : at + _BLOCK])
            start = start or bytes(block[:_START])
            slow.update(block)
            fast.update(block)
        digest = slow.digest()
        self._remember(fast.digest(), digest, start)
        return digest

    def _remember(self, fast: bytes, digest: bytes, start: bytes) -> None:
        with self._lock:
            self._digests[fast] = digest
            while len(self._digests) > self._most:
                self._digests.popitem(last=False)
            if len(self._starts) >= self._most:  # what is dropped from here alone is hashed once more
                self._starts.clear()
            self._starts.add(start)

    def _known(self, fast: bytes) -> bytes | None:
        with self._lock:
            digest = self._digests.get(fast)
            if digest is not None:
                self._digests.move_to_end(fast)
            return digest


def _is_stable(chunk: memoryview) -> bool:
    """Whether nobody can change it."""
    return type(chunk.obj) is bytes


def chunker() -> Chunker:
    """What this process knows about buffers: what one session has recorded or loaded, another one knows again."""
    return _chunker(os.getpid())


@functools.cache
def _chunker(_pid: int) -> Chunker:
    """A fork begins anew: another thread may have held the lock of its parent's."""
    return Chunker()


class Pieces:
    """A recorded buffer, of which nothing has been fetched yet.

    Parameters
    ----------
    chunks
        The SHA-256 and the length of each chunk, in order: `CHUNK` bytes each, the last one from 1 byte on.
    source
        Where the bytes come from when they are asked for, verified.

    Raises
    ------
    CorruptionError
        No encoder cuts a buffer like this.

    Examples
    --------
    >>> body = Pieces.of(b"0123456789")
    >>> body.size, body.part(2, 5)
    (10, b'234')
    """

    __slots__ = ("_bytes", "_chunks", "_source", "size")

    def __init__(self, chunks: Sequence[tuple[bytes, int]], source: Source) -> None:
        self._bytes = b""
        self._source: Source | None = source
        self._chunks = chunks
        if any(length != CHUNK for _, length in chunks[:-1]) or (chunks and not 0 < chunks[-1][1] <= CHUNK):
            raise damaged("a buffer is not cut as buffers are")
        self.size = (len(chunks) - 1) * CHUNK + chunks[-1][1] if chunks else 0
        if self.size <= SMALL:
            raise damaged("a short buffer stands in chunks of its own")

    @classmethod
    def of(cls, data: bytes | Pieces) -> Pieces:
        """What stands in the place of a buffer in a node: itself, or a short buffer's own bytes."""
        if isinstance(data, cls):
            return data
        if type(data) is not bytes or len(data) > SMALL:
            raise damaged("something else stands where a buffer was")
        made = cls.__new__(cls)
        made._bytes, made._source, made._chunks, made.size = data, None, (), len(data)
        return made

    def read(self) -> bytes:
        """All of its bytes. Raises what the source raises."""
        return self.part(0, self.size)

    def part(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, which must lie in it. Only the chunks that hold them are fetched."""
        if self._source is None:
            return self._bytes[start:end]
        whole = io.BytesIO(bytes(end - start))  # its memory is filled in place, and given away without a copy
        with whole.getbuffer() as into:
            self.fill(into, start)
        return whole.getvalue()

    def fill(self, into: memoryview, start: int = 0) -> None:
        """Write its bytes from `start` on over all of `into`: writable contiguous bytes, format "B".

        Raises
        ------
        ValueError
            It has not as many bytes.
        CorruptionError, StoreError
            The source cannot give them.
        """
        end, count = start + len(into), len(self._chunks)
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"bytes {start} to {end} of a buffer of {self.size}")
        if self._source is None:
            into[:] = self._bytes[start:end]
            return
        if start == end:
            return
        # Chunks that are wanted whole go straight to their place; of the first and the last, a part may be.
        first = -(-start // CHUNK)
        last = count if end == self.size else end // CHUNK
        if start % CHUNK:
            self._copy(self._source, start // CHUNK, start, end, into)
        if first < last:
            stop = min(last * CHUNK, end)
            self._source.fill(self._chunks[first:last], into[first * CHUNK - start : stop - start])
        if first <= last < count and end % CHUNK:
            self._copy(self._source, last, start, end, into)

    def _copy(self, source: Source, index: int, start: int, end: int, into: memoryview) -> None:
        """Write what the chunk of this index holds of the bytes from `start` to `end`."""
        digest, length = self._chunks[index]
        data = source.get(digest)
        if len(data) != length:
            raise damaged("a chunk is not as long as its buffer says")
        begin = index * CHUNK
        low, high = max(start, begin), min(end, begin + length)
        into[low - start : high - start] = memoryview(data)[low - begin : high - begin]
