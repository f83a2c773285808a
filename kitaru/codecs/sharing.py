"""A session's values in their shared form: what was cut before is known again, what is stored is not given again."""

from __future__ import annotations

import collections
import hashlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import CorruptionError, UnrecordableValueError
from .buffers import Ahead, Piece, chunker
from .cutting import PLAIN, Cutter, cut
from .encoder import BIN_OR_EXT, Otherwise, Packed, is_ambiguous, looks_ambiguous, packed, written
from .groups import Groups
from .joining import MOST, join, links
from .node import CHUNK, REF, chunk
from .places import shortened
from .readable import kind_of
from .spans import marked

__all__ = ["Shared", "Sharer", "cut", "digests_within", "join"]

_MEMORY = 64 << 20  # bytes of groups that are kept, and bytes of parts of which nobody has said that they are stored
_STRAIGHT = 1 << 20  # bytes from which on a value of type bytes is cut without a copy of it
_READ = 64 << 10  # new bytes that are looked through, before the value itself is
_WITHIN, _WITHIN_BYTES = 256, 8
_REUSED = 8 << 20
_LAST, _LAST_FROM, _LAST_UPTO = 2, 64 << 10, 8 << 20


class Shared(NamedTuple):
    """A value in its shared form.

    Attributes
    ----------
    digest : bytes
        The SHA-256 of `root`, 32 bytes. Equal for values of the same type, content and order, and for no others.
    root : bytes
        Its root node, some 2 KB at most.
    kind : str
        "text" or "bytes" for exactly those, "pickle" where loading it runs code, "reference" for an argument that
        was no data, else "data".
    size : int
        The bytes of its plain node and of its buffers.
    parts : sequence of (bytes, bytes)
        The SHA-256 and the bytes of each part that the session does not know to be stored. What lies below one
        that is stored, is stored.
    chunks : sequence of Piece
        Likewise the chunks of its buffers. They may look into the value: `Chunker.check` before they are stored.
    """

    digest: bytes
    root: bytes
    kind: str
    size: int
    parts: Sequence[tuple[bytes, bytes]]
    chunks: Sequence[Piece]


def digests_within(shared: Shared) -> bytes:
    """What a record keeps of a value whose parts stand elsewhere: the first 8 bytes of the digests of values in it.

    At most 256 of them, one after the other: of those in its root, and of those in `shared.parts`.
    """
    found: dict[bytes, None] = {}
    for node in (shared.root, *(part for _, part in shared.parts)):
        try:
            found.update({digest[:_WITHIN_BYTES]: None for code, digest in links(node) if code == REF})
        except (CorruptionError, IndexError):  # a piece of a text, which looks like a node
            continue
        if len(found) >= _WITHIN:
            break
    return b"".join([*found][:_WITHIN])


class Sharer:
    """What one session knows of the values that it has recorded. Any thread may ask.

    Attributes
    ----------
    known : set of bytes
        The digests of parts and chunks that are stored for this execution: what `confirm` was given.
    chunker : Chunker
        What it knows of buffers.

    Examples
    --------
    >>> sharer = Sharer()
    >>> history = [{"role": "user", "content": "word " * 200}]
    >>> sharer.confirm(digest for digest, _ in sharer.encode(history * 5).parts)
    >>> sharer.encode(history * 6).parts
    []
    """

    def __init__(self) -> None:
        # The allocator of glibc takes a block that is larger than any it was given back from the system, and gives it
        # back, each time: half of what it costs to write a history of 1 MB were the page faults of its bytes. Once it
        # was given one of this size, it keeps so much for the next; see decisions/019. Nothing here is ever touched.
        bytes(_REUSED)
        self.known: set[bytes] = set()
        self.chunker = chunker()
        self._groups = Groups(_MEMORY)
        self._pending: dict[bytes, bytes] = {}  # the parts that known groups need, and that are not known
        self._pending_size = 0
        self._lock = threading.Lock()
        self._last: collections.deque[tuple[bytes, Shared]] = collections.deque(maxlen=_LAST)
        self._torn = False  # between the first and the last step of a cut; an interrupt can come at any point of it

    def encode(
        self, value: Any, *, place: str = "output", otherwise: Otherwise = "pickle", ahead: Ahead | None = None
    ) -> Shared:
        """The shared form of a value: exactly what `cut` makes of its plain node.

        What did not change since it was encoded here before costs one pass of ormsgpack and one comparison of
        bytes. What was changed in place is noticed. Parameters and errors are those of `kitaru.codecs.encode`.
        """
        if type(value) is bytes and len(value) > _STRAIGHT:
            return self._of_bytes(value, ahead)
        fast = packed(value, refer=otherwise == "refer", chunker=self.chunker, ahead=ahead)
        if fast is not None and len(fast.data) <= PLAIN:
            shared = self._short(value, fast)
        else:
            shared = fast and self._shared(fast, _Census(value, fast), place)
        if shared is None:
            shared = self._shared(written(value, place, otherwise, self.chunker), None, place)
            assert shared is not None
        return shared

    def confirm(self, digests: Iterable[bytes]) -> None:
        """Parts and chunks of these digests, and all that lies below them, are stored."""
        with self._lock:
            for digest in digests:
                self.known.add(digest)
                self._pending_size -= len(self._pending.pop(digest, b""))

    def _short(self, value: Any, made: Packed) -> Shared | None:
        """What is its own root: no lock, and nothing to look for."""
        plain = made.data
        if looks_ambiguous(plain) and is_ambiguous(value, made.forms):
            return None
        digest = hashlib.sha256(plain).digest()
        if not made.forms and not made.pieces and plain[0] not in _ATOMS:
            return Shared(digest, plain, "data", len(plain), (), ())
        size = len(plain) + sum([len(piece.data) for piece in made.pieces])
        return Shared(digest, plain, kind_of(plain), size, (), made.pieces and self._unknown(made.pieces))

    def _of_bytes(self, value: bytes, ahead: Ahead | None) -> Shared:
        pieces = self.chunker.cut(memoryview(value), ahead)
        cutter = Cutter(b"")
        root = cutter.tagged("bytes", [chunk(piece.digest, len(piece.data)) for piece in pieces])
        with self._lock:
            parts = [(digest, part) for digest, part in cutter.parts.items() if digest not in self.known]
            chunks = self._unknown(pieces)
        return Shared(hashlib.sha256(root).digest(), root, "bytes", len(value) + 5, parts, chunks)

    def _shared(self, made: Packed, census: _Census | None, place: str) -> Shared | None:
        """None where the census says that the bytes are not those of the value."""
        plain = made.data
        if len(plain) > MOST:
            raise UnrecordableValueError(
                f"{shortened(place)} takes {len(plain):,} bytes outside of arrays, and {MOST:,} can be recorded. "
                "Hand on an array, a frame, or the path of a file"
            )
        with self._lock:
            for before, shared in self._last:  # what a step gave is mostly what the next one takes
                if before == plain:
                    return shared._replace(parts=self._below(shared.root) if shared.parts else ())
            if self._torn:  # what is known of groups then may lack their parts
                self._forget()
            self._torn = True
            cutter = Cutter(plain, self._groups, census.count if census is not None else _counted)
            try:
                root = cutter.root()
                good = census is None or not census.objects_differ(cutter)
            except (CorruptionError, IndexError):  # bytes that an `ormsgpack.Fragment` put there
                if census is None:
                    raise
                root, good = b"", False
            self._groups.settle(good=good)
            self._learn(cutter.parts)
            self._torn = False
            if not good:
                return None
            parts = self._below(root)
            chunks = self._unknown(made.pieces)
            is_json = census is not None and not made.forms and not made.pieces and plain[0] not in _ATOMS
            kind = "data" if is_json else kind_of(plain)
            size = len(plain) + sum(len(piece.data) for piece in made.pieces)
            shared = Shared(hashlib.sha256(root).digest(), root, kind, size, parts, chunks)
            if self._pending_size > _MEMORY:
                self._forget()
            elif is_json and not cutter.bins and not cutter.extensions and _LAST_FROM <= len(plain) <= _LAST_UPTO:
                # Without bins and extensions, nothing else than what these bytes say has these bytes.
                self._last.appendleft((plain, shared))
        return shared

    def _forget(self) -> None:
        self._groups.clear()
        self._last.clear()
        self._pending.clear()
        self._pending_size = 0

    def _learn(self, parts: dict[bytes, bytes]) -> None:
        for digest, part in parts.items():
            if digest not in self.known and digest not in self._pending:
                self._pending[digest] = part
                self._pending_size += len(part)

    def _below(self, root: bytes) -> list[tuple[bytes, bytes]]:
        """The parts that are not known, and that lie below nothing known.

        All of them are pending. A group is forgotten with its parts, so one that is found has them here, or they
        are known.
        """
        found: dict[bytes, bytes] = {}
        todo = [root]
        while todo:
            for code, digest in links(todo.pop()):
                if digest in self.known or digest in found:
                    continue
                part = self._pending.get(digest)
                if part is None:
                    assert code == CHUNK, "a part was forgotten, and its group was not"
                    continue  # of a buffer
                found[digest] = part
                if code != CHUNK:
                    todo.append(part)
        return [*found.items()]

    def _unknown(self, pieces: list[Piece]) -> list[Piece]:
        return [*{piece.digest: piece for piece in pieces if piece.digest not in self.known}.values()]


_ATOMS = frozenset((*range(0xA0, 0xC0), *range(0xC4, 0xC7), *range(0xD9, 0xDC)))


def _counted(nodes: bytes) -> tuple[int, int]:
    """How many bins and extensions are among these nodes."""
    if len(nodes.translate(None, BIN_OR_EXT)) == len(nodes):
        return 0, 0
    codes = [code for code, _, _ in marked(nodes)]
    bins = sum(code < 0xC7 for code in codes)
    return bins, len(codes) - bins


class _Census:
    """Whether what ormsgpack wrote is what the value is.

    It writes a `bytearray` as if it were `bytes`, and its own `Ext` as if it were a tag. Where there is no bin, there
    is no bytearray; where there are as many extensions as our own forms have, there is none of anybody else's. Both
    numbers are known of groups that were cut before, so that only what is new must be looked through.
    """

    def __init__(self, value: Any, made: Packed) -> None:
        self._value = value
        self._made = made
        self._left = _READ
        self._has_none: bool | None = None  # neither bins nor extensions

    def count(self, nodes: bytes) -> tuple[int, int]:
        """How many bins and extensions are among these nodes."""
        if self._has_none:
            return 0, 0
        self._left -= len(nodes)
        if self._left < 0 and self._has_none is None:
            # Where much is new, the types of the value's parts are looked at sooner than its bytes are.
            self._has_none = not self._made.forms and not self._made.pieces
            self._has_none = self._has_none and not is_ambiguous(self._value, [], _BYTES)
            if self._has_none:
                return 0, 0
        return _counted(nodes)

    def objects_differ(self, cutter: Cutter) -> bool:
        """Whether a part is of a type that its bytes do not say."""
        if cutter.extensions != self._made.extensions:
            return True
        return cutter.bins > 0 and is_ambiguous(self._value, self._made.forms)


_BYTES = frozenset({bytes})
