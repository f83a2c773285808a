"""Blobs: what they are called, and how they get into the store before the record that names them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .codecs.buffers import Chunker, Piece
from .errors import StoreError
from .progress import transfer

if TYPE_CHECKING:
    from .pools import Pools
    from .stores.base import Store

__all__ = ["BLOB_FROM", "Upload", "Uploader", "blob_key"]

BLOB_FROM = 64 << 10
"""A part or a chunk of more bytes is a blob of its own."""

_AHEAD = 8
"""So many chunks are copied and stored at most while others of the same values are hashed."""


_LOOK_UP = 0.5
"""Seconds. A signal that comes just before the main thread blocks does not wake it by itself."""


def blob_key(digest: bytes) -> str:
    """The key of a blob."""
    name = digest.hex()
    return f"blobs/{name[:2]}/{name}"


class Upload(NamedTuple):
    """What must be a blob before the record that names it is written."""

    digest: bytes
    data: bytes | Piece

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data.data if isinstance(self.data, Piece) else self.data)


class Uploader:
    """Stores the blobs of one execution. It is `Ahead` of a chunker: new chunks are stored while others are hashed.

    Of those nothing is said until `upload` is asked for them. One that failed, or was never asked for, is no more
    than bytes that nothing names: only `upload` has failures, and it tries again.

    Parameters
    ----------
    chunker
        Checks the chunks that still lie in the user's objects.
    known
        The digests of what is stored already.
    insist
        Carries a request out, and again where the store does not answer; given the request and what it is for.
    """

    def __init__(
        self,
        store: Store,
        pools: Pools,
        chunker: Chunker,
        known: Collection[bytes],
        insist: Callable[[Callable[[], Any], str], Any],
    ) -> None:
        self._store, self._pools, self._chunker, self._known, self._insist = store, pools, chunker, known, insist
        self._stored: set[bytes] = set()
        self._begun: dict[bytes, Future[None]] = {}
        self._ahead: set[bytes] = set()  # what was taken ahead, and not asked for yet
        self._room = threading.Semaphore(_AHEAD)
        self._given_up = False

    def is_done(self, digest: bytes) -> bool:
        """Whether it was stored as `upload` was asked to."""
        return digest in self._stored and digest not in self._ahead

    def upload(self, uploads: Sequence[Upload]) -> None:
        """Make them durable, side by side. One that exists has the same content, by its name.

        Those that were stored ahead are looked at once more: all chunks of a value were hashed before, so that
        unless one was changed they are of one moment. Returns when nothing of it runs any more. After a failure, what
        has not begun never does. Ctrl-C and SIGTERM wait for nothing: what still runs then is not tried again.
        """
        begun = {one.digest: future for one in uploads if (future := self._begun.get(one.digest)) is not None}
        if len(uploads) == 1 and not begun:
            self._put(uploads[0])
        else:
            with transfer("kitaru: uploading", sum(one.size for one in uploads)) as moving:
                sizes = {begun[one.digest]: one.size for one in uploads if one.digest in begun}
                # What each holds, such as the copy of a chunk, it holds while it runs: the pool's threads bound memory.
                own, left = [], threading.Event()
                put = partial(self._put, left=left)
                try:
                    for one in uploads:
                        own.append(self._pools.io.submit(self._look if one.digest in begun else put, one))
                        sizes[own[-1]] = 0 if one.digest in begun else one.size
                    waiting = set(sizes)
                    while waiting:
                        self._insist(self._check_open, "an upload")
                        ended, waiting = wait(waiting, timeout=_LOOK_UP, return_when=FIRST_COMPLETED)
                        for future in ended:
                            future.result()
                            moving.advance(sizes[future])
                except (KeyboardInterrupt, SystemExit):
                    left.set()
                    raise
                finally:
                    for future in own:
                        future.cancel()
                    if not (left.is_set() or self._given_up):
                        wait(sizes)
        self._ahead.difference_update(one.digest for one in uploads)

    def _look(self, upload: Upload) -> None:
        if isinstance(upload.data, Piece):
            self._chunker.look(upload.data)

    def give_up(self) -> None:
        """The run ends: what is under way is not tried again."""
        self._given_up = True

    def _check_open(self, left: threading.Event | None = None) -> None:
        if self._given_up or (left is not None and left.is_set()):
            raise StoreError("an upload was given up: whoever wanted it has left")

    def _put(self, upload: Upload, left: threading.Event | None = None) -> None:
        digest, data = upload
        if digest in self._stored:
            self._look(upload)
            return
        # A piece looks into the user's object, of which another thread may be the owner: what goes up is a copy.
        content = self._chunker.check(data) if isinstance(data, Piece) else data
        key = blob_key(digest)

        def attempt() -> bool:
            self._check_open(left)
            return self._store.put_if_absent(key, content)

        self._insist(attempt, key)
        self._stored.add(digest)

    # ------------------------------------------------------------ ahead

    def has_room(self, size: int) -> bool:
        """Whether it takes a chunk of so many bytes. Nobody waits here for a store that is slow."""
        return size > BLOB_FROM and self._room.acquire(blocking=False)

    def take(self, digest: bytes, copy: bytes | None) -> None:
        """Begin to store it, if it is new."""
        future: Future[None] | None = None
        if copy is not None and digest not in self._known and digest not in self._begun:
            with suppress(RuntimeError):  # the run has ended, or the interpreter is shutting down
                future = self._begun[digest] = self._pools.io.submit(self._put, Upload(digest, copy))
                self._ahead.add(digest)
        if future is None:
            self._room.release()
        else:
            future.add_done_callback(lambda _: self._end(digest))

    def _end(self, digest: bytes) -> None:
        self._begun.pop(digest, None)
        self._room.release()
