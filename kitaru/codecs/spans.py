"""Where the nodes inside a value's bytes begin and end: enough to find one value inside another, building neither.

A canonical value's bytes hold the canonical bytes of each of its parts, so a part is found by its bytes or its digest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgpack

from .node import damaged

__all__ = ["Ends", "first_item", "marked", "opened", "spans"]

_HEAD = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin and str: bytes of the length
_TAGS = {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # ext, with its type
_EXT = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_LEAVES = (
    *[1] * 0x80,  # numbers
    *[1, *[0] * 15] * 2,  # maps and arrays, of which the empty ones are leaves
    *range(1, 33),  # short texts
    *[1] * 4,  # nil, nothing, false, true
    *[0] * 6,
    *[5, 9, 2, 3, 5, 9, 2, 3, 5, 9],  # floats and longer numbers
    *[0] * 12,
    *[1] * 0x20,  # numbers
)  # by the first byte: how many bytes the node has, where that byte alone says it
_MANY = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # bytes of the count, nodes for each
_SHORT = 512  # bytes of a container into which `Ends` is never asked
_AT_ONCE = 64 << 10  # bytes read before an answer
_RESCANS = 32  # so many times over, reading at C speed costs what reading once in Python does


def spans(data: bytes, least: int = 0) -> Iterator[tuple[int, int, int]]:
    r"""Each node inside the node `data`, when it ends: where it begins, where it ends, and how deep it lies, from 1.

    Tags are left out, and what has fewer bytes than `least`. Bytes that are no node end the walk early: whoever reads
    the value says what is wrong with it.

    Examples
    --------
    >>> from kitaru import codecs
    >>> data = codecs.encode({"a": [1, 2]}).data
    >>> [data[start:end] for start, end, depth in spans(data)]
    [b'\xa1a', b'\x01', b'\x02', b'\x92\x01\x02']
    """
    size, at, depth = len(data), 0, 0
    begin, left = 0, 0  # of the container that is open: where it begins, how many nodes are still to come
    around: list[tuple[int, int]] = []  # the same of those around it
    while at < size:
        start, code, tag = at, data[at], False
        length = _LEAVES[code]
        if length:
            at += length
            if left > 1 and at <= size:  # most nodes: nothing ends with it
                left -= 1
                if length >= least:
                    yield start, at, depth
                continue
        elif code in _HEAD:
            width = _HEAD[code]
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")
        elif code in _TAGS:
            at, tag = at + 1 + _TAGS[code], True
        elif code in _EXT:
            width = _EXT[code]
            at, tag = at + 2 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big"), True
        else:
            if code in _MANY:
                width, each = _MANY[code]
                count = each * int.from_bytes(data[at + 1 : at + 1 + width], "big")
                at += 1 + width
            else:
                count = 2 * (code & 15) if code < 0x90 else code & 15
                at += 1
            if count and at <= size:
                around.append((begin, left))
                begin, left, depth = start, count, depth + 1
                continue
        if at > size or not depth:
            return  # damaged, or the node itself
        if not tag and at - start >= least:
            yield start, at, depth
        left -= 1
        while not left and depth:
            start, depth = begin, depth - 1
            begin, left = around.pop()
            if depth:
                if at - start >= least:
                    yield start, at, depth
                left -= 1


def opened(data: bytes, at: int) -> tuple[bool, int, int]:
    """Whether the container that begins at `at` is a map, how many items or pairs it claims, where they begin.

    Raises `CorruptionError` where none begins there.
    """
    code = data[at] if at < len(data) else 0
    if 0x80 <= code < 0xA0:
        return code < 0x90, code & 15, at + 1
    if code not in _MANY:
        raise damaged("something else stands where a list or a map should", at)
    width, each = _MANY[code]
    return each == 2, int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width


def first_item(data: bytes) -> bytes:
    """The first item of the container `data`, or a map's first value; empty where it has none, or that is tagged.

    Read no further than there.
    """
    is_map, count, begin = opened(data, 0)
    for start, end, depth in spans(data) if count else ():
        if depth > 1:
            continue
        if start != begin:
            return b""  # a tag stands between
        if not is_map:
            return data[start:end]
        is_map, begin = False, end
    return b""


def marked(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each bin and each extension among the nodes in `data`: its first byte, where it begins, where it ends.

    `data` may be nodes side by side. Raises `CorruptionError` where it is neither.
    """
    size, at = len(data), 0
    while at < size:
        code = data[at]
        length = _LEAVES[code]
        if length:
            at += length
            continue
        start = at
        if code in _HEAD:
            width = _HEAD[code]
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")
            if code < 0xC7:
                yield code, start, at
        elif code in _TAGS or code in _EXT:
            at = _end_of_extension(data, at)
            yield code, start, at
        else:
            at = opened(data, at)[2]
    if at != size:
        raise damaged("it ends too early", size)


def _end_of_extension(data: bytes, at: int) -> int:
    code = data[at]
    if code in _TAGS:
        return at + 1 + _TAGS[code]
    width = _EXT[code]
    return at + 2 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")


class Ends:
    """Where the nodes of `data` end, side by side, without making values of them.

    A container is read at C speed, as often as somebody asks for the insides of what is in it. What nests too deep
    for that, or is asked for level after level, is read once in Python, and all of its ends are kept: however deep
    a value is, the time is linear in its bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._left = _RESCANS * len(data)  # bytes that may be read at C speed
        self._kept: dict[int, int] = {}  # by where a node begins: where it ends
        self._unpacker: msgpack.Unpacker | None = None
        self._fed = 0  # bytes that it was given, all of which it has read

    def after(self, at: int, most: int, limit: int, least: int = 1) -> list[int]:
        """Where the nodes from `at` on end: a multiple of `least` and at most `most`, which is how many there are.

        Raises `CorruptionError` where one of them would end behind `limit`.
        """
        if at not in self._kept:
            if self._left > 0:
                try:
                    return self._skip(at, most, limit, least)
                except (msgpack.StackError, RecursionError):
                    pass
                except (msgpack.FormatError, ValueError) as error:
                    raise damaged("no item begins with such a byte", at) from error
            self._keep(at, most, limit)
        ends: list[int] = []
        while len(ends) < most:
            at = self._kept[at]
            ends.append(at)
        return ends

    def _skip(self, at: int, most: int, limit: int, least: int) -> list[int]:
        unpacker, base = self._fresh()
        base = at - base
        ends: list[int] = []
        fed = at
        step = _AT_ONCE
        while True:
            until = min(limit, fed + step)
            unpacker.feed(self._view[fed:until])
            self._left -= until - fed
            fed, step = until, 2 * step
            skip, tell = unpacker.skip, unpacker.tell
            try:
                for _ in range(most - len(ends)):
                    skip()
                    ends.append(base + tell())
            except msgpack.OutOfData:
                pass
            if len(ends) == most:
                if ends[-1] == fed:
                    self._unpacker, self._fed = unpacker, fed - base
                return ends
            if len(ends) >= least:
                return ends[: len(ends) - len(ends) % least]
            begin = ends[-1] if ends else at
            if self._data[begin : begin + 1] in _VERY_LONG:  # not worth a copy of it
                begin += 5 + int.from_bytes(self._data[begin + 1 : begin + 5], "big")
                ends.append(begin)
                if begin <= limit:
                    if len(ends) >= least:
                        return ends
                    unpacker, base = self._fresh()
                    fed = begin
                    base = begin - base
                    continue
            if fed >= limit:
                raise damaged("it ends too early", limit)

    def _fresh(self) -> tuple[msgpack.Unpacker, int]:
        """A reader that has read all that it was given, and how much that was."""
        unpacker, fed = self._unpacker, self._fed
        self._unpacker, self._fed = None, 0
        if unpacker is None:
            unpacker = msgpack.Unpacker(read_size=min(_AT_ONCE, len(self._data)), max_buffer_size=0)
        return unpacker, fed

    def _keep(self, at: int, count: int, limit: int) -> None:
        """Learn where `count` nodes end, and where all nodes in the longer containers among them do."""
        data, kept = self._data, self._kept
        around: list[tuple[int, list[int]]] = []  # the containers that are open: what is left of each, its nodes
        left, nodes = count, [at]  # where each of its nodes begins, and the last one ends
        while True:
            while not left:
                end = nodes[-1]
                if end - nodes[0] > _SHORT or not around:
                    kept.update(itertools.pairwise(nodes))
                if not around:
                    return
                left, nodes = around.pop()
                nodes.append(end)
                left -= 1
            start = nodes[-1]
            if start >= limit:
                raise damaged("it ends too early", limit)
            code = data[start]
            end = start + _LEAVES[code]
            if end == start:
                if code in _HEAD:
                    width = _HEAD[code]
                    end += 1 + width + int.from_bytes(data[start + 1 : start + 1 + width], "big")
                elif code in _TAGS or code in _EXT:
                    end = _end_of_extension(data, start)
                else:
                    is_map, inside, end = opened(data, start)
                    if inside:
                        around.append((left, nodes))
                        left, nodes = inside * (1 + is_map), [end]
                        continue
            if end > limit:
                raise damaged("it ends too early", limit)
            nodes.append(end)
            left -= 1


_VERY_LONG = (b"\xc6", b"\xdb")
