"""The shared form of a value: a short root, and parts that other values share with it.

`cut` is a function of the plain node's bytes alone, and the digest of a value is the SHA-256 of the root that it
gives. So equal parts of values have equal digests wherever they stand, and a value of which one item changed shares
all its other parts with what it was before. With `node(x)` for the shared form of the node `x`:

- A value of at most 2,048 bytes is its own root.
- A text or bytes of at most 8,192 bytes are themselves; longer ones are `[TAG text, CHUNK, …]` or
  `[TAG bytes, CHUNK, …]`. Bytes have a chunk for each 4 MiB, texts one for each group of lines. A line ends after
  its line feed; a longer one than 16,384 bytes is split at each 16,384 first. A group ends after a line where it has
  1,024 bytes or more, and has 16,384 or more or `crc32(line) * 4096 < len(line) << 32`.
- In a list, map or tagged array, each item `y` (keys and values of a map alike) stands as it is where it takes at
  most 512 bytes, or is a text or bytes and takes at most 2,048; else as a REF to `node(y)`, which is a part, and the
  root that `y` has as a value of its own.
- Where the items are then longer than 2,048 bytes together, they are cut into groups. A group ends after an item (of
  a map: a pair) where it has 256 bytes or more, and has 4,096 or more or
  `crc32(item) * 1024 < len(item) << 32`. In the place of each group stands a RUN; the array of the group's items
  (K, V, … of a map) is a part. RUNs, and likewise the CHUNKs of a text or buffer, are grouped again in the same way
  while they take more than 2,048 bytes; their counts add up. A list is `[RUN, …]` then, a tagged array
  `[TAG, RUN, …]`, and a map `[TAG map, RUN, …]`.

All these numbers are part of every digest: they are frozen with version 1 of the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from zlib import crc32

from .buffers import CHUNK
from .groups import Group, Groups
from .node import TAG, array_head, chunk, ref, run, tag_bytes
from .spans import Ends, opened

__all__ = ["LONG", "PLAIN", "SHARE", "Cutter", "cut"]

PLAIN = 2048  # bytes of a value, or of the items of a container, that are not cut
SHARE = 512  # bytes of a list, map or tagged array that stands inline in a larger value
LONG = 8192  # bytes of a text, or of bytes, that are not cut

_RUN_LEAST, _RUN_MEAN, _RUN_MOST = 256, 1024, 4096
_LINES_LEAST, _LINES_MEAN, _LINES_MOST = 1024, 4096, 16384

# How a session uses its memory; no digest depends on these.
_KEPT_FROM = 16 << 10  # bytes of a container inside another one whose groups are kept on their own
_KEPT_TWICE = 64 << 10  # bytes of a group that is kept though there are such containers in it

_HEADS = {0xC4: 2, 0xC5: 3, 0xC6: 5, 0xD9: 2, 0xDA: 3, 0xDB: 5}  # bin and str: bytes before their body
_TAG_TYPE = {**dict.fromkeys(range(0xD4, 0xD9), 1), 0xC7: 2, 0xC8: 3, 0xC9: 5}  # ext: where its type stands


def cut(plain: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The root of the value whose plain node this is, and its parts.

    Returns
    -------
    root : bytes
        At most some 2 KB; its SHA-256 is the digest of the value.
    parts : list of (bytes, bytes)
        The SHA-256 and the bytes of each part, each once, what lies in a part before it.

    Examples
    --------
    >>> import ormsgpack
    >>> root, parts = cut(ormsgpack.packb(["word " * 500] * 100))
    >>> len(root), [len(part) for _, part in parts]
    (37, [2503, 3503])
    """
    cutter = Cutter(plain)
    root = cutter.root()
    return root, [*cutter.parts.items()]


class Cutter:
    """Cuts one value.

    Parameters
    ----------
    plain
        The node as the encoder wrote it.
    groups
        What a session has cut before. Without them, `cut` is what this does.
    census
        How many bins and extensions are among the nodes in some bytes: asked for all that no known group holds.
    """

    def __init__(
        self,
        plain: bytes,
        groups: Groups | None = None,
        census: Callable[[bytes], tuple[int, int]] | None = None,
    ) -> None:
        self.parts: dict[bytes, bytes] = {}
        self.bins = self.extensions = 0
        self._plain = plain
        self._ends = Ends(plain)
        self._groups = groups
        self._census = census
        self._kept_inside = 0  # bytes in containers so far whose groups are kept

    def root(self) -> bytes:
        """The root of the value. What it refers to is in `parts` then, but for what is in known groups."""
        size = len(self._plain)
        if size <= PLAIN:
            self._count(self._plain)
            return self._plain
        return self._atom(0, size) or self._driven(size)

    def _driven(self, size: int) -> bytes:
        """The node of the outermost container, with an explicit stack: depth costs no recursion."""
        stack = [self._container(0, size)]
        node: bytes | None = None
        while stack:
            try:
                inner = stack[-1].send(node)  # type: ignore[arg-type]
            except StopIteration as done:
                stack.pop()
                node = done.value
            else:
                stack.append(self._container(*inner))
                node = None
        assert node is not None
        return node

    # ---- parts --------------------------------------------------------------------------------------------------

    def _part(self, data: bytes) -> bytes:
        """The digest of a part, which is found herewith."""
        digest = hashlib.sha256(data).digest()
        self.parts.setdefault(digest, data)
        return digest

    def _count(self, nodes: bytes) -> None:
        if self._census is not None and nodes:
            bins, extensions = self._census(nodes)
            self.bins += bins
            self.extensions += extensions

    # ---- texts and bytes ----------------------------------------------------------------------------------------

    def _atom(self, start: int, end: int) -> bytes:
        """The node of a text or of bytes; empty for a container."""
        code = self._plain[start]
        if code not in _HEADS:
            return b""
        body = start + _HEADS[code]
        self.bins += code < 0xD9
        if end - body <= LONG:
            return self._plain[start:end]
        if code >= 0xD9:
            return self.tagged("text", self._lines(body, end, is_root=not start))
        pieces = [self._plain[at : min(at + CHUNK, end)] for at in range(body, end, CHUNK)]
        return self.tagged("bytes", [chunk(self._part(piece), len(piece)) for piece in pieces])

    def _lines(self, at: int, end: int, *, is_root: bool) -> list[bytes]:
        """The CHUNKs of a text."""
        plain = self._plain
        groups = self._groups if is_root or end - at > _KEPT_FROM else None
        if groups:
            self._kept_inside += end - at
        chunks = []
        expected: Group | None = None
        last: Group | None = None
        while at < end:
            group = groups and groups.find(plain, at, end - at, 0, expected)
            is_kept = bool(group)
            if group:
                expected = group.after
            else:
                piece = plain[at : self._end_of_lines(at, end)]
                group = Group(piece, chunk(self._part(piece), len(piece)), len(piece), 0, closed=True)
                # The last one was ended by the text's end, and may go on in another text.
                is_kept = groups is not None and at + len(piece) < end and groups.keep(group)
            if is_kept and last is not None:
                last.after = group
            last = group if is_kept else None
            at += group.count
            chunks.append(group.body)
        return chunks

    def _end_of_lines(self, at: int, end: int) -> int:
        plain, stop = self._plain, at
        while stop < end:
            begin = stop
            most = min(begin + _LINES_MOST, end)
            stop = plain.find(b"\n", begin, most) + 1 or most
            size = stop - at
            if size >= _LINES_LEAST and (
                size >= _LINES_MOST or crc32(plain[begin:stop]) * _LINES_MEAN < (stop - begin) << 32
            ):
                break
        return stop

    def tagged(self, tag: str, links: list[bytes]) -> bytes:
        """The node of a tag and of these CHUNKs or RUNs."""
        return self._spread(tag_bytes(tag), links, [1] * len(links))

    # ---- containers ---------------------------------------------------------------------------------------------

    def _container(self, start: int, end: int) -> Generator[tuple[int, int], bytes, bytes]:
        """The node of a list, map or tagged array. Yields where the containers in it stand, to be sent their nodes."""
        plain, ends_of = self._plain, self._ends
        is_map, left, at = opened(plain, start)
        tag = b""
        if left and not is_map and plain[at] in _TAG_TYPE and plain[at + _TAG_TYPE[plain[at]]] == TAG:
            stop = ends_of.after(at, 1, end)[0]
            tag = plain[at:stop]
            at, left = stop, left - 1
            self.extensions += 1
        begin = at
        per = 2 if is_map else 1
        memory = self._groups if not start or end - start > _KEPT_FROM else None
        done: list[Group] = []
        expected: Group | None = None
        stops: list[int] = []  # where the next items end, the last one first
        while left:
            first = copied = at
            pieces: list[bytes] = []
            size = count = 0
            counted = self.bins, self.extensions
            kept_inside = self._kept_inside
            if memory:
                group = memory.find(plain, at, left, per, expected)
                if group:
                    expected, stops = group.after, []
                    self.bins += group.bins
                    self.extensions += group.extensions
                    at = copied = first + len(group.plain)
                    left -= group.count
                    if group.closed or not left:
                        if done:
                            done[-1].after = group
                        done.append(group)
                        continue
                    pieces, size, count = [group.body], len(group.body), group.count
            closed = False
            while left and not closed:
                if not stops:
                    stops = ends_of.after(at, left * per, end, per)[per - 1 :: per]
                    stops.reverse()
                stop = stops.pop()
                length = stop - at
                if length <= SHARE:
                    size += length
                    if size >= _RUN_LEAST:
                        closed = size >= _RUN_MOST or crc32(plain[at:stop]) * _RUN_MEAN < length << 32
                else:
                    own = plain[copied:at]
                    self._count(own)
                    item = b""
                    for upto in (stop,) if per == 1 else (ends_of.after(at, 1, stop)[0], stop):
                        if self._is_inline(at, upto):
                            self._count(plain[at:upto])
                            item += plain[at:upto]
                        else:
                            node = self._atom(at, upto) or self._short(at, upto) or (yield at, upto)
                            item += ref(self._part(node))
                        at = upto
                    pieces += own, item
                    copied = stop
                    size += len(item)
                    closed = size >= _RUN_LEAST and (size >= _RUN_MOST or crc32(item) * _RUN_MEAN < len(item) << 32)
                count += 1
                left -= 1
                at = stop
            own = plain[copied:at]
            self._count(own)
            body = b"".join((*pieces, own)) if pieces else own
            group = Group(b"", body, count, per, closed=closed)
            if memory:
                group.bins, group.extensions = self.bins - counted[0], self.extensions - counted[1]
                most = memory.room if self._kept_inside == kept_inside else _KEPT_TWICE
                if _RUN_LEAST <= at - first <= most:
                    group.plain = plain[first:at] if pieces else own
                    if memory.keep(group) and done:
                        done[-1].after = group
            done.append(group)
        if memory:
            self._kept_inside += end - start
        if sum(len(group.body) for group in done) <= PLAIN:
            return b"".join((plain[start:begin], *(group.body for group in done)))
        return self._spread(
            tag_bytes("map") if is_map else tag,
            [group.run or self._run(group) for group in done],
            [group.count for group in done],
        )

    def _is_inline(self, start: int, end: int) -> bool:
        size = end - start
        return size <= SHARE or (size <= PLAIN and self._plain[start] in _HEADS)

    def _short(self, start: int, end: int) -> bytes:
        """The node of a container that is its own root; empty for a longer one."""
        if end - start > PLAIN:
            return b""
        node = self._plain[start:end]
        self._count(node)
        return node

    # ---- runs ---------------------------------------------------------------------------------------------------

    def _run(self, group: Group) -> bytes:
        """The RUN of a group, whose array is a part."""
        array = array_head(group.count * group.per) + group.body
        group.run = run(self._part(array), group.count)
        return group.run

    def _spread(self, tag: bytes, links: Sequence[bytes], counts: Sequence[int]) -> bytes:
        """The array of a tag, or of none, and of links, in runs of runs where there are many."""
        while sum(map(len, links)) > PLAIN:
            runs, sums = [], []
            first = size = 0
            for at, item in enumerate(links, 1):
                size += len(item)
                if at == len(links) or (
                    size >= _RUN_LEAST and (size >= _RUN_MOST or crc32(item) * _RUN_MEAN < len(item) << 32)
                ):
                    sums.append(sum(counts[first:at]))
                    runs.append(run(self._part(array_head(at - first) + b"".join(links[first:at])), sums[-1]))
                    first, size = at, 0
            links, counts = runs, sums
        return array_head(len(links) + bool(tag)) + tag + b"".join(links)
