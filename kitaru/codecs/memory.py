"""How memory is known again in this process: by a keyed BLAKE3 of each chunk of it, which is never written down.

The key is drawn at random, so that nobody can make two chunks that are taken for one. BLAKE3 takes a fraction of what
SHA-256 takes. What was looked at is not read a second time by whoever records it directly afterwards: see `looking`.
"""

from __future__ import annotations

import collections
import functools
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import blake3

__all__ = [
    "CHUNK",
    "WORTH",
    "Looks",
    "chunks_of",
    "digest_of_memory",
    "fast_hash",
    "keyed",
    "looking",
    "looks",
    "side_by_side",
]

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 4 << 20  # bytes of each chunk but the last. Part of every digest: frozen with format 1

_SHORT = 16 << 10  # bytes of memory up to which it is read again: cheaper than to remember it
WORTH = 1 << 20  # bytes that are worth a second thread
_THREADS = 4  # that work side by side, at most: from there on memory is the limit


def chunks_of(view: memoryview) -> list[memoryview]:
    """A buffer, cut."""
    return [view[at : at + CHUNK] for at in range(0, len(view), CHUNK)]


@functools.cache
def _key() -> bytes:
    return secrets.token_bytes(32)


def keyed() -> blake3.blake3:
    """A BLAKE3 to which bytes are added, under the key of this process."""
    import blake3

    return blake3.blake3(key=_key())


def fast_hash(data: bytes | memoryview) -> bytes:
    """The digest by which this process knows bytes again."""
    return keyed().update(data).digest()


# ---- looks --------------------------------------------------------------------------------------------------------


class Looks:
    """The digests of memory that was looked at a moment ago. Any thread may add to it.

    What lies at an address counts as long as it is kept from being freed: each look holds on to its memory.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[memoryview, bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, chunk: memoryview, digest: bytes) -> None:
        """This memory holds what has this digest."""
        place = _place(chunk)
        if place is not None:
            self._known[place] = chunk, digest

    def find(self, chunk: memoryview) -> bytes | None:
        """The digest of this very memory; None where it was not looked at."""
        if not self._known:
            return None
        place = _place(chunk)
        found = None if place is None else self._known.get(place)
        return None if found is None else found[1]

    def forget(self) -> None:
        """Something may have changed what was looked at."""
        self._known.clear()


class _Block(threading.local):
    """The block that a thread is in. Not of a context, which threads and tasks may take along and keep."""

    looks: Looks | None = None


_block = _Block()


def looks() -> Looks | None:
    """Those of the block that this thread is in."""
    return _block.looks


@contextmanager
def looking() -> Iterator[Looks]:
    """A block in which nobody writes to memory between a look at it and the recording of it.

    `digest_of_memory` remembers the chunks that it reads, and so does the loading of a value. What is recorded or
    looked at in the same block is not read again. It holds in the thread that entered it, and ends with the block; who
    lets other code run in it says so by `Looks.forget`.

    Examples
    --------
    >>> data = memoryview(bytes(1 << 20))
    >>> with looking():
    ...     digest_of_memory(data) == digest_of_memory(data)  # read once
    True
    """
    outer, made = _block.looks, Looks()
    _block.looks = made
    try:
        yield made
    finally:
        _block.looks = outer
        made.forget()


def digest_of_memory(view: memoryview) -> bytes:
    """A digest by which this process notices that memory has changed; it is good for nothing else.

    Parameters
    ----------
    view
        Contiguous bytes, format "B". Chunks are read side by side.

    Examples
    --------
    >>> data = bytearray(10)
    >>> before = digest_of_memory(memoryview(data))
    >>> data[3] = 1
    >>> digest_of_memory(memoryview(data)) == before
    False
    """
    if len(view) <= _SHORT:
        return fast_hash(view)
    known = looks()

    def look(chunk: memoryview) -> bytes:
        digest = None if known is None else known.find(chunk)
        if digest is None:
            digest = fast_hash(chunk)
            if known is not None:
                known.add(chunk, digest)
        return digest

    digests = side_by_side(look, chunks_of(view))
    return fast_hash(b"%d " % len(view) + b"".join(digests))


def _place(chunk: memoryview) -> tuple[int, int] | None:
    """Where it lies; None where that is not known, or not worth knowing."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or len(chunk) <= _SHORT:
        return None
    return numpy.frombuffer(chunk, numpy.uint8).__array_interface__["data"][0], len(chunk)


# ---- threads ------------------------------------------------------------------------------------------------------


def side_by_side(work: Callable[[T], R], items: Sequence[T], size: int = WORTH) -> list[R]:
    """What `work` gives for each item: by this thread, and by others with it where `size` bytes are worth that.

    When it returns or raises, nothing of it runs any more. `work` waits for nothing that others do.
    """
    if len(items) < 2 or size < WORTH:
        return [work(item) for item in items]
    found: dict[int, R] = {}
    left = collections.deque(range(len(items)))

    def take() -> None:
        while True:
            try:
                i = left.popleft()
            except IndexError:
                return
            try:
                found[i] = work(items[i])
            except BaseException:
                left.clear()  # nobody begins another one
                raise

    others: list[Future[None]] = []
    with suppress(RuntimeError):  # the interpreter is shutting down: no thread starts any more
        pool = _threads(os.getpid())
        others = [pool.submit(take) for _ in range(min(_side_by_side(), len(items)) - 1)]
    try:
        take()
    finally:
        left.clear()
        others = [other for other in others if not other.cancel()]  # the pool may be busy with somebody else's
        wait(others)
    for other in others:
        other.result()
    return [found[i] for i in range(len(items))]


@functools.cache
def _threads(_pid: int) -> ThreadPoolExecutor:
    """Kept from value to value; a fork has none of its parent's."""
    return ThreadPoolExecutor(_side_by_side(), "kitaru-hash")


@functools.cache
def _side_by_side() -> int:
    return min(os.cpu_count() or 1, _THREADS)
