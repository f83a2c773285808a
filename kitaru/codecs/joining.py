"""A value's plain node again, from its root and its parts; and what a node of the shared form refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from .cutting import LONG
from .node import CHUNK, REF, RUN, array_head, atom_head, damaged, link, map_head, tag_bytes
from .spans import Ends, marked, opened

__all__ = ["Link", "items_of", "join", "links", "references"]

MOST = 1 << 32
"""Bytes of a plain node that nobody writes: a list or text of that length is refused when it is recorded."""

_LINK = re.compile(rb"\xc7[\x20-\x28][\x02-\x04]")  # how every REF, RUN and CHUNK begins, and few other things
_TEXT, _BYTES, _MAP = map(tag_bytes, ("text", "bytes", "map"))
_WITHIN = {_TEXT: "text", _BYTES: "text", _MAP: "map"}  # by the tag: what the links after it are runs of
_ATOMS = {bytes((code,)) for code in (*range(0xA0, 0xC0), *range(0xC4, 0xC7), *range(0xD9, 0xDC))}
_EXTENSIONS = {bytes((code,)) for code in (*range(0xC7, 0xCA), *range(0xD4, 0xD9))}


class Link(NamedTuple):
    """What a node refers to.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the part or chunk.
    size : int
        The bytes of a chunk; 0 of a node.
    is_node : bool
        Whether it is a node, which may refer to others; else it is raw bytes.
    """

    digest: bytes
    size: int
    is_node: bool


def references(node: bytes) -> Iterator[Link]:
    """What a node of the shared form, a root or a part, refers to, in its order. Raises `CorruptionError`."""
    if not _LINK.search(node):
        return
    for code, start, end in marked(node):
        if code == 0xC7 and (found := link(node[start:end])):
            yield Link(found[1], found[2] if found[0] == CHUNK else 0, found[0] != CHUNK)


def links(node: bytes) -> Iterator[tuple[int, bytes]]:
    """The extension and the digest of each item of a node of our own that is a link itself."""
    if _is_atom(node) or not _LINK.search(node):
        return
    is_map, left, at = opened(node, 0)
    left *= 1 + is_map
    ends = Ends(node)
    while left:
        # Where one is a link, all of them are, mostly, and a link says how long it is.
        stops = [at + 3 + node[at + 1]] if _LINK.match(node, at) else ends.after(at, left, len(node))
        for stop in stops:
            if _LINK.match(node, at):
                yield node[at + 2], node[at + 3 : at + 35]
            at = stop
        left -= len(stops)


def join(root: bytes, get: Callable[[bytes], bytes], *, most: int = MOST) -> bytes:
    """The plain node of the value that has this root.

    Parameters
    ----------
    root
        Its root node.
    get
        Gives the bytes of a part by its SHA-256, and has checked them against it. It is asked once for each part
        that is not a text's or bytes' piece standing in several places.
    most
        So many bytes the plain node may have: few parts can name one another so that they say to be very many.

    Raises
    ------
    CorruptionError
        No writer wrote this: a part within itself, a count or length that lies, more bytes than `most`.
        And what `get` raises.

    Examples
    --------
    >>> from kitaru.codecs import cut
    >>> import ormsgpack
    >>> plain = ormsgpack.packb(["word " * 500] * 100)
    >>> root, parts = cut(plain)
    >>> join(root, dict(parts).__getitem__) == plain
    True
    """
    if not _LINK.search(root):
        return root
    return _written(_Plan(get, most).shape(root), get)


def _is_atom(node: bytes) -> bool:
    return node[:1] in _ATOMS


def _inside(node: bytes) -> tuple[bool, int, int]:
    """Whether the container is a map, how many items it has, keys and values of a map alike, and where they begin."""
    is_map, count, begin = opened(node, 0)
    left = count = count * (1 + is_map)
    if left > len(node):
        raise damaged("it ends too early", len(node))
    ends, at = Ends(node), begin
    while left:
        more = ends.after(at, left, len(node))
        at, left = more[-1], left - len(more)
    if at != len(node):
        raise damaged(f"{len(node) - at} bytes follow its end", at)
    return is_map, count, begin


def items_of(node: bytes) -> tuple[bool, list[bytes]]:
    """Whether the container is a map, and its items, its tag among them."""
    is_map, left, at = _inside(node)
    items: list[bytes] = []
    ends = Ends(node)
    while len(items) < left:
        for end in ends.after(at, left - len(items), len(node)):
            items.append(node[at:end])
            at = end
    return is_map, items


class _Shape:
    """A part, and what it is once its links are resolved."""

    __slots__ = ("count", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes | _Shape | _Raw] = []
        self.size = 0  # bytes in the end
        self.count = 0  # of a run: items, pairs or chunks in the end

    def add(self, piece: bytes | _Shape | _Raw) -> None:
        self.pieces.append(piece)
        self.size += len(piece) if isinstance(piece, bytes) else piece.size


class _Raw(NamedTuple):
    """A piece of a text or of bytes."""

    digest: bytes
    size: int


_Key = tuple[bytes, str]  # a digest, and what it is a part of: "value", or a run in a "list", a "map" or a "text"
_Steps = Generator[_Key, _Shape, _Shape]
_ROOT: _Key = (b"", "value")


class _Plan:
    """What stands where. Each part is read once, with an explicit stack, and nothing is made of its size yet."""

    def __init__(self, get: Callable[[bytes], bytes], most: int) -> None:
        self._get = get
        self._most = most

    def shape(self, root: bytes) -> _Shape:
        done: dict[_Key, _Shape] = {}
        begun: set[_Key] = {_ROOT}
        stack = [(_ROOT, self._value(root))]  # each one a part of the one before it
        sent: _Shape | None = None
        while stack:
            key, steps = stack[-1]
            try:
                wanted = steps.send(sent)  # type: ignore[arg-type]
            except StopIteration as end:
                sent = done[key] = end.value
                begun.remove(key)
                stack.pop()
                continue
            sent = done.get(wanted)
            if sent is None:
                if wanted in begun:
                    raise damaged("a part of it lies within itself")
                begun.add(wanted)
                node = self._get(wanted[0])
                stack.append((wanted, self._value(node) if wanted[1] == "value" else self._run(node, wanted[1])))
        return done[_ROOT]

    def _value(self, node: bytes) -> _Steps:
        """The whole of a node that is a value."""
        shape = _Shape()
        if _is_atom(node) or not _LINK.search(node):
            shape.add(node)
            return shape
        is_map, items = items_of(node)
        tag = items[0] if items and not is_map and items[0][:1] in _EXTENSIONS and not link(items[0]) else b""
        inside = yield from self._spliced(items[1:] if tag else items, _WITHIN.get(tag, "map" if is_map else "list"))
        if inside.size > self._most:
            raise damaged(f"its parts say to be {inside.size:,} bytes, more than the {self._most:,} that it can have")
        has_runs = len(items) > bool(tag) and (link(items[-1]) or (0,))[0] == RUN
        if tag == _MAP or is_map:
            if has_runs == is_map:
                raise damaged("a map is not cut as maps are")
            head = map_head(inside.count)
        elif tag in (_TEXT, _BYTES):
            if inside.size <= LONG:
                raise damaged("a short text stands in pieces")
            head = atom_head(inside.size, is_text=tag == _TEXT)
        else:
            head = array_head(inside.count + bool(tag)) + tag
        shape.add(head)
        shape.add(inside)
        return shape

    def _run(self, node: bytes, within: str) -> _Steps:
        """The items of the array that a run names."""
        if _LINK.search(node):
            is_map, items = items_of(node)
            shape = yield from self._spliced(items, within)
        else:
            is_map, count, begin = _inside(node)
            shape = _Shape()
            shape.add(node[begin:])
            shape.count, odd = divmod(count, 2 if within == "map" else 1)
            if odd or within == "text":
                raise damaged("something else stands where a run of items should")
        if is_map or not shape.count:
            raise damaged("something else stands where a run of items should")
        return shape

    def _spliced(self, items: list[bytes], within: str) -> _Steps:
        """These items side by side, all of them runs or none."""
        shape = _Shape()
        runs = 0
        for item in items:
            found = link(item)
            if found is None or (found[0] == CHUNK and within == "list"):
                if within == "text":
                    raise damaged("something else stands where a piece of a text should")
                shape.add(item)
                shape.count += 1
                continue
            code, digest, number = found
            if code == RUN:
                inner = yield digest, within
                if inner.count != number:
                    raise damaged(f"a run says to be {number:,} items long, and is {inner.count:,}")
                shape.add(inner)
                shape.count += number
                runs += 1
            elif within == "text":
                if code != CHUNK:
                    raise damaged("something else stands where a piece of a text should")
                shape.add(_Raw(digest, number))
                shape.count += 1
            elif code == REF:
                shape.add((yield digest, "value"))
                shape.count += 1
            else:
                raise damaged("a chunk stands where none can be")
        if runs not in (0, len(items)):
            raise damaged("runs and items stand side by side")
        if within == "map" and not runs:
            if shape.count % 2:
                raise damaged("a key without a value")
            shape.count //= 2
        return shape


def _written(shape: _Shape, get: Callable[[bytes], bytes]) -> bytes:
    out: list[bytes] = []
    stack: list[Iterator[bytes | _Shape | _Raw]] = [iter(shape.pieces)]
    while stack:
        for piece in stack[-1]:
            if isinstance(piece, bytes):
                out.append(piece)
            elif isinstance(piece, _Shape):
                stack.append(iter(piece.pieces))
                break
            else:
                data = get(piece.digest)
                if len(data) != piece.size:
                    raise damaged(f"a piece of a text has {len(data):,} bytes, and should have {piece.size:,}")
                out.append(data)
        else:
            stack.pop()
    return b"".join(out)
