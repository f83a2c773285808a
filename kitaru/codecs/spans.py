"""Where the nodes inside a value's bytes begin and end: enough to find one value inside another, building neither.

A canonical value's bytes hold the canonical bytes of each of its parts, so a part is found by its bytes or its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

__all__ = ["SHORTEST", "part_digests", "spans"]

SHORTEST, MOST = 64, 256  # of `part_digests`: bytes of a part, and how many of them
_MOST_NODES = 4096  # looked at by `part_digests`, which stands on a step's path
_CUT = 8  # bytes of a digest that tell the values of one execution apart

_HEAD = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin and str: bytes of the length
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_TAGS = {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # ext, with its type
_EXT = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_MANY = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # bytes of the count, nodes for each


def spans(data: bytes) -> Iterator[tuple[int, int, int]]:
    r"""Each node inside the node `data`, when it ends: where it begins, where it ends, and how deep it lies, from 1.

    Tags are left out. Bytes that are no node end the walk early: whoever reads the value says what is wrong with it.

    Examples
    --------
    >>> from kitaru import codecs
    >>> data = codecs.encode({"a": [1, 2]}).data
    >>> [data[start:end] for start, end, depth in spans(data)]
    [b'\xa1a', b'\x01', b'\x02', b'\x92\x01\x02']
    """
    size, at = len(data), 0
    opened: list[list[int]] = []  # [where it begins, how many nodes are still to come]
    while at < size:
        start, code = at, data[at]
        at += 1
        left, tag = -1, False
        if code < 0x80 or code >= 0xE0:
            pass
        elif code < 0x90:
            left = 2 * (code & 15)
        elif code < 0xA0:
            left = code & 15
        elif code < 0xC0:
            at += code & 31
        elif code in _HEAD:
            width = _HEAD[code]
            at += width + int.from_bytes(data[at : at + width], "big")
        elif code in _FIXED:
            at += _FIXED[code]
        elif code in _MANY:
            width, each = _MANY[code]
            left = each * int.from_bytes(data[at : at + width], "big")
            at += width
        elif code in _TAGS:
            at, tag = at + _TAGS[code], True
        elif code in _EXT:
            width = _EXT[code]
            at, tag = at + width + 1 + int.from_bytes(data[at : at + width], "big"), True
        if at > size:
            return
        if left > 0:
            opened.append([start, left])
            continue
        if not opened:
            return  # the node itself
        if not tag:
            yield start, at, len(opened)
        while opened:
            opened[-1][1] -= 1
            if opened[-1][1]:
                break
            start = opened.pop()[0]
            if opened:
                yield start, at, len(opened)


def part_digests(data: bytes) -> bytes:
    """What a record keeps of a value whose bytes stand elsewhere: the first 8 bytes of the SHA-256 of its parts.

    At most 256 parts of 64 bytes or more, among the first 4,096 nodes, one after the other.
    """
    found: dict[bytes, None] = {}
    for seen, (start, end, _) in enumerate(spans(data)):
        if seen == _MOST_NODES or len(found) == MOST:
            break
        if end - start >= SHORTEST:
            found[hashlib.sha256(memoryview(data)[start:end]).digest()[:_CUT]] = None
    return b"".join(found)
