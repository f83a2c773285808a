"""The node format: one canonical msgpack item, with tags inside.

A value is one *node*, and its digest is the SHA-256 of the node's bytes. A node is a msgpack item in its shortest
form, so that one value has exactly one spelling:

========================  ======================================================================================
plain value               msgpack
========================  ======================================================================================
`None`, `True`, `False`   nil, true, false
`int`, -2^63 … 2^64 - 1   the shortest of fixint, uint 8 to 64 (from 0 up), int 8 to 64 (below 0)
`float`                   float 64, its bits as they are (the payload of a NaN, the sign of a zero); never float 32
`str`                     str, UTF-8
`bytes`                   bin
`list`                    array
`dict`, all keys `str`    map, in the order of the dict; no key twice
========================  ======================================================================================

`str` here means exactly `str`, and so on: a subclass is another type, and has a tag. Everything else is a *tagged
array*: its first item is an extension of type 1 whose payload is the tag's name in UTF-8, the others are nodes.
An extension of type 1 stands nowhere else. TYPE below is the name of a class, "module:qualname", with the module
"__main__" for a script's own classes, or a `generic` node; STATE is a map from attribute to value, or nil where
there is none; K, V, … are keys and values in turn.

=============  ==============================================================================================
tag            items after it
=============  ==============================================================================================
`tuple`        the items
`set`          the items, in ascending order of their nodes' bytes; `frozenset` likewise
`dict`         K, V, …: a dict with a key that is no `str`, or is one with surrogates; `odict` any OrderedDict
`defaultdict`  the factory (nil or a type), K, V, …
`deque`        maxlen or nil, the items
`bytearray`    bin
`int`          text, `hex()` of an integer beyond 64 bits: "-0x1…"
`str`          bin: a text with surrogates in UTF-8 with "surrogatepass"
`complex`      real, imaginary
`range`        start, stop, step; `slice` likewise, of any values
`ellipsis`     none
`date`         "YYYY-MM-DD"
`time`         `isoformat()` without a zone, fold, zone: nil, `timezone` or `zoneinfo`
`datetime`     the same three
`timedelta`    days, seconds, microseconds
`timezone`     seconds and microseconds east of UTC, name or nil
`zoneinfo`     key: "Europe/Berlin"
`decimal`      text, exponent with "E"
`fraction`     numerator, denominator
`uuid`         text with hyphens
`path`         the class in `pathlib`: "PurePosixPath"; text
`enum`         TYPE, the member's value
`namedtuple`   TYPE, the items
`dataclass`    TYPE, STATE (never nil): the fields in their order, then other attributes; attrs classes too
`pydantic`     TYPE, map of the fields, fields set (sorted; nil: all those in the map), extra map or nil,
               private attributes or nil
`sub`          TYPE, a value of the builtin type that it extends, STATE: subclasses of str, int, float, list, …
`exception`    TYPE, tuple of its args, STATE (with what the builtin class holds: errno, filename, …)
`type`         "module:qualname"
`generic`      "module:qualname", the arguments as types: a parametrised pydantic class, or `list[int]`
`union`        types: `int | None` (nil stands for None)
`reference`    "module:qualname" of the type of an argument that is no data; its own qualified name or nil
`pickle`       bin: a pickle, protocol 5. Loading it runs code.
=============  ==============================================================================================

In the place of a buffer (the body of an array, a column, an image) stands a bin of at most 2,048 bytes, or:

=============  ==============================================================================================
tag            items after it
=============  ==============================================================================================
`buffer`       CHUNK, …: 4 MiB each, the last one shorter
=============  ==============================================================================================

A value that is longer than 2,048 bytes is not stored like this, but in its *shared form*, which says where its parts
stand (`kitaru.codecs.cutting`), with three more extensions and three more tags:

=============  ==============================================================================================
extension      payload
=============  ==============================================================================================
2, REF         SHA-256 of the node that stands here
3, RUN         SHA-256 of an array, and how many items, or pairs of a map, its own stand for here
4, CHUNK       SHA-256 of raw bytes, and their length
tag            items after it
`text`         CHUNK, …: the UTF-8 of a long text; `bytes` likewise for long bytes
`map`          RUN, …: a map of many pairs. The items of an array, tagged or not, may be RUNs, too
=============  ==============================================================================================

A count or length is big-endian, in as few bytes as it takes. No value is nested more than 20,000 nodes deep.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Protocol

import ormsgpack

from ..errors import CorruptionError

TAG, REF, RUN, CHUNK = 1, 2, 3, 4
MAX_DEPTH = 20_000  # hashing a nested tuple costs C stack, and hostile bytes must not overflow it
EXACT = (  # with all of these, ormsgpack writes exact builtin types itself and hands the rest to the hook
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_LINK_BYTES = range(0x21, 0x29)  # the payload of a RUN or CHUNK: a digest, and a number from 1 byte to 8
_DOUBLE = struct.Struct(">d")
_FIXED_EXT = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}


class Builder(Protocol):
    """What a reader makes of a node: a value, or readable JSON, or nothing."""

    def tagged(self, tag: str, items: list[Any]) -> Any:
        """The value of a tagged array, whose items are built already."""
        ...

    def mapping(self, pairs: dict[str, Any]) -> Any:
        """The value of a map."""
        ...

    def leaf(self, value: bytes | float) -> Any:
        """The value of a bin or a float."""
        ...

    def chunk(self, digest: bytes, length: int) -> Any:
        """The item of a `buffer` that a CHUNK is."""
        ...


def array_head(count: int) -> bytes:
    """The head of an array of `count` items."""
    if count < 16:
        return bytes((0x90 | count,))
    return struct.pack(">BH", 0xDC, count) if count < 1 << 16 else struct.pack(">BI", 0xDD, count)


def map_head(count: int) -> bytes:
    """The head of a map of `count` pairs."""
    if count < 16:
        return bytes((0x80 | count,))
    return struct.pack(">BH", 0xDE, count) if count < 1 << 16 else struct.pack(">BI", 0xDF, count)


def atom_head(length: int, *, is_text: bool) -> bytes:
    """The head of a text of `length` bytes, or of so many bytes, from 32 on."""
    code = 0xD9 if is_text else 0xC4
    if length < 1 << 8:
        return bytes((code, length))
    return struct.pack(">BH", code + 1, length) if length < 1 << 16 else struct.pack(">BI", code + 2, length)


@functools.cache
def tag_item(tag: str) -> ormsgpack.Ext:
    """The first item of a tagged array, for ormsgpack to write."""
    return ormsgpack.Ext(TAG, tag.encode())


@functools.cache
def tag_bytes(tag: str) -> bytes:
    """The first item of a tagged array, written."""
    return ormsgpack.packb(tag_item(tag))


def ref(digest: bytes) -> bytes:
    """What stands in the place of the node of that digest."""
    return b"\xc7\x20\x02" + digest


def run(digest: bytes, count: int) -> bytes:
    """What stands in the place of `count` items."""
    return _with_number(RUN, digest, count)


def chunk(digest: bytes, length: int) -> bytes:
    """What stands in the place of `length` raw bytes."""
    return _with_number(CHUNK, digest, length)


def _with_number(code: int, digest: bytes, number: int) -> bytes:
    width = (number.bit_length() + 7) // 8 or 1
    return bytes((0xC7, len(digest) + width, code)) + digest + number.to_bytes(width, "big")


def chunk_item(digest: bytes, length: int) -> ormsgpack.Ext:
    """A CHUNK, for ormsgpack to write."""
    return ormsgpack.Ext(CHUNK, chunk(digest, length)[3:])


def link(item: bytes) -> tuple[int, bytes, int] | None:
    """The extension, the digest and the number of a REF (0), RUN or CHUNK; None for any other item.

    Raises `CorruptionError` where one of these is not spelt as such.
    """
    if item[:1] != b"\xc7" or len(item) < 3 or item[2] not in (REF, RUN, CHUNK):
        return None
    code, number = item[2], item[35:]
    if len(item) != 3 + item[1] or not (item[1] == 0x20 if code == REF else item[1] in _LINK_BYTES and any(number)):
        raise damaged("the place of a part is not spelt as it should be")
    if len(number) > 1 and not number[0]:
        raise damaged("a count or length is not in its shortest form")
    return code, item[3:35], int.from_bytes(number, "big")


def damaged(why: str, at: int | None = None) -> CorruptionError:
    """The error for bytes that no encoder wrote."""
    where = "" if at is None else f" at byte {at}"
    return CorruptionError(
        f"a recorded value is not what was written: {why}{where}. "
        "Restore the object from a copy, or run the step that made it again"
    )


def exact(value: Any, *kinds: type) -> Any:
    """`value`, which must be of exactly one of these types: what a node says is not believed. Raises `TypeError`."""
    if all(type(value) is not kind for kind in kinds):
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} was expected")
    return value


class _Open:
    """An array or map whose items are being read."""

    __slots__ = ("is_map", "items", "left", "tag")

    def __init__(self, left: int, *, is_map: bool) -> None:
        self.left = left
        self.is_map = is_map
        self.items: list[Any] = []
        self.tag: str | None = None


def read(data: bytes, build: Builder) -> Any:
    """What `build` makes of the node `data`, with an explicit stack: depth costs no recursion.

    Only the one canonical spelling is taken. A head that claims more than there is fails before anything is
    allocated for it. Raises `CorruptionError`, and what `build` raises.
    """
    size, at = len(data), 0
    stack: list[_Open] = []
    x: Any
    while True:
        start = at
        if at >= size:
            raise damaged("it ends too early", at)
        code = data[at]
        at += 1
        opened: _Open | None = None
        if code < 0x80:
            x = code
        elif code >= 0xE0:
            x = code - 256
        elif code in (0xC0, 0xC2, 0xC3):
            x = None if code == 0xC0 else code == 0xC3
        elif 0xA0 <= code < 0xC0 or 0xD9 <= code <= 0xDB:
            count, at = (code & 31, at) if code < 0xC0 else _count(data, at, 1 << (code - 0xD9), (32, 1 << 8, 1 << 16))
            try:
                x = str(_take(data, at, count), "utf-8")
            except UnicodeDecodeError:
                raise damaged("a text is not UTF-8", start) from None
            at += count
        elif 0xC4 <= code <= 0xC6:
            count, at = _count(data, at, 1 << (code - 0xC4), (0, 1 << 8, 1 << 16))
            x = build.leaf(_take(data, at, count))
            at += count
        elif code == 0xCB:
            x = build.leaf(_DOUBLE.unpack(_take(data, at, 8))[0])
            at += 8
        elif 0xCC <= code <= 0xCF:
            x, at = _count(data, at, 1 << (code - 0xCC), (1 << 7, 1 << 8, 1 << 16, 1 << 32))
        elif 0xD0 <= code <= 0xD3:
            width = 1 << (code - 0xD0)
            x = int.from_bytes(_take(data, at, width), "big", signed=True)
            at += width
            if x >= (-32, -(1 << 7), -(1 << 15), -(1 << 31))[code - 0xD0]:
                raise damaged("an integer is not in its shortest form", start)
        elif code < 0xA0 or 0xDC <= code <= 0xDF:
            is_map = code < 0x90 or code >= 0xDE
            if code < 0xA0:
                count = code & 15
            else:
                count, at = _count(data, at, 2 << (code & 1), (16, 1 << 16), widths=(2, 4))
            opened = _Open(count * 2 if is_map else count, is_map=is_map)
            if opened.left > size - at:
                raise damaged("it ends too early", start)
            if len(stack) >= MAX_DEPTH:
                raise damaged(f"it is nested more than {MAX_DEPTH} deep", start)
            stack.append(opened)
            if opened.left:
                continue
            x = _close(stack.pop(), build, start)
        else:
            kind, payload, at = _extension(data, at, code, start)
            if kind == CHUNK:
                found = link(data[start:at])
                if found is None or not stack or stack[-1].tag != "buffer":
                    raise damaged("a chunk stands where none can be", start)
                x = build.chunk(found[1], found[2])
            elif not stack or stack[-1].is_map or stack[-1].items or stack[-1].tag is not None:
                raise damaged("a tag stands where none can be", start)
            else:
                stack[-1].tag = payload
                stack[-1].left -= 1
                if stack[-1].left:
                    continue
                x = _close(stack.pop(), build, start)
        while stack:
            top = stack[-1]
            top.items.append(x)
            top.left -= 1
            if top.left:
                break
            x = _close(stack.pop(), build, start)
        else:
            if at != size:
                raise damaged(f"{size - at} bytes follow its end", at)
            return x


def _close(done: _Open, build: Builder, at: int) -> Any:
    if done.tag is not None:
        return build.tagged(done.tag, done.items)
    if not done.is_map:
        return done.items
    keys = done.items[::2]
    if not all(type(k) is str for k in keys):
        raise damaged("a map has a key that is no text", at)
    pairs = dict(zip(keys, done.items[1::2], strict=True))
    if len(pairs) != len(keys):
        raise damaged("a map has a key twice", at)
    return build.mapping(pairs)


def _take(data: bytes, at: int, count: int) -> bytes:
    if count > len(data) - at:
        raise damaged("it ends too early", at)
    return data[at : at + count]


def _count(
    data: bytes, at: int, width: int, least: tuple[int, ...], *, widths: tuple[int, ...] = (1, 2, 4, 8)
) -> tuple[int, int]:
    """An unsigned number of `width` bytes, and where it ends; it must need that width."""
    count = int.from_bytes(_take(data, at, width), "big")
    if count < least[widths.index(width)]:
        raise damaged("a length or number is not in its shortest form", at)
    return count, at + width


def _extension(data: bytes, at: int, code: int, start: int) -> tuple[int, str, int]:
    """The type of an extension, the name that a TAG holds, and where it ends."""
    if 0xD4 <= code <= 0xD8:
        count = 1 << (code - 0xD4)
    elif 0xC7 <= code <= 0xC9:
        count, at = _count(data, at, 1 << (code - 0xC7), (0, 1 << 8, 1 << 16))
        if count in _FIXED_EXT:
            raise damaged("an extension is not in its shortest form", start)
    else:
        raise damaged(f"no item begins with 0x{code:02x}", start)
    kind = _take(data, at, 1)[0]
    payload = _take(data, at + 1, count)
    if kind == CHUNK:
        return CHUNK, "", at + 1 + count
    if kind in (REF, RUN):
        raise damaged(f"a part of it (extension {kind}) stands elsewhere, and nobody says where", start)
    if kind != TAG:
        raise damaged(f"unknown extension {kind}", start)
    try:
        return TAG, str(payload, "utf-8"), at + 1 + count
    except UnicodeDecodeError:
        raise damaged("a tag is not UTF-8", start) from None
