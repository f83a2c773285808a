"""What a node's bytes say without making a value of them: no class is looked up and no code is run."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from .node import array_head, read, tag_bytes

__all__ = ["is_opaque", "kind_of", "to_json"]

_PICKLE = tag_bytes("pickle")
_TEXT = array_head(2) + tag_bytes("str")
_REFERENCE = array_head(3) + tag_bytes("reference")


def kind_of(data: bytes) -> str:
    """What `Encoded.kind` says of it: "text", "bytes", "pickle", "reference" or "data"."""
    first = data[0] if data else 0
    if 0xA0 <= first < 0xC0 or 0xD9 <= first <= 0xDB:
        return "text"
    if 0xC4 <= first <= 0xC6:
        return "bytes"
    if is_opaque(data):
        return "pickle"
    if data.startswith(_TEXT):
        return "text"
    return "reference" if data.startswith(_REFERENCE) else "data"


def is_opaque(data: bytes) -> bool:
    """Whether there is a pickle anywhere in it, so that loading it runs code. Raises `CorruptionError`."""
    if _PICKLE not in data:
        return False
    search = _Search()
    read(data, search)
    return search.found


def to_json(data: bytes) -> Any:
    """The value as plain JSON-able data.

    A tagged value is ``{"$tag": [items]}``, bytes are ``{"$bytes": hex}``, a float that JSON lacks is
    ``{"$float": text}``, and a pickle shows its size alone. A key of a dict that begins with "$" gets a second one.
    Raises `CorruptionError`.

    >>> from kitaru.codecs import encode
    >>> to_json(encode({"at": (1, b"x")}).data)
    {'at': {'$tuple': [1, {'$bytes': '78'}]}}
    """
    return read(data, _Json())


class _Search:
    found = False

    def tagged(self, tag: str, items: list[Any]) -> None:  # noqa: ARG002
        self.found |= tag == "pickle"

    def mapping(self, pairs: dict[str, Any]) -> None:
        pass

    def leaf(self, value: bytes | float) -> None:
        pass

    def chunk(self, digest: bytes, length: int) -> None:
        pass


class _Json:
    def tagged(self, tag: str, items: list[Any]) -> Any:
        if tag == "pickle" and len(items) == 1 and isinstance(items[0], dict):
            return {"$pickle": {"bytes": len(items[0].get("$bytes", "")) // 2}}
        if tag == "buffer" and all(isinstance(item, _Chunk) for item in items):
            return {"$buffer": {"bytes": sum(item.length for item in items), "chunks": [i.digest for i in items]}}
        if tag in ("dict", "odict") and len(items) % 2 == 0:
            items = [list(pair) for pair in zip(items[::2], items[1::2], strict=True)]
        return {f"${tag}": items}

    def mapping(self, pairs: dict[str, Any]) -> Any:
        if any(k.startswith("$") for k in pairs):
            return {f"${k}" if k.startswith("$") else k: v for k, v in pairs.items()}
        return pairs

    def leaf(self, value: bytes | float) -> Any:
        if isinstance(value, bytes):
            return {"$bytes": value.hex()}
        if math.isfinite(value):
            return value
        if math.isinf(value):
            return {"$float": "inf" if value > 0 else "-inf"}
        bits = struct.pack(">d", value).hex()
        return {"$float": "nan" if bits == "7ff8000000000000" else f"nan:{bits}"}

    def chunk(self, digest: bytes, length: int) -> Any:
        return _Chunk(digest.hex(), length)


class _Chunk(NamedTuple):
    digest: str
    length: int
