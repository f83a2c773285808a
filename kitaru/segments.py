r"""A segment: one or more records of an execution, as bytes that prove where they belong.

::

    "kitaru1\n"  msgpack map {exec, n, writer, nonce, epoch, prev, at, records}  SHA-256 of all that (32 bytes)

`n` counts from 1 without gaps; `prev` is the SHA-256 of the whole segment before (empty for the first). So a segment
that was truncated, flipped, swapped, renamed or copied to another execution is found out. A *pack* holds the exact
bytes of many segments; it is derived, and made for opening an execution with few requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ormsgpack

from .errors import CorruptionError, StoreFormatError, UnrecordableValueError
from .records import Record, from_wire, to_wire

__all__ = [
    "FORMAT",
    "Segment",
    "encode_record",
    "journal_key",
    "pack",
    "pack_key",
    "seal",
    "seal_segment",
    "segment_digest",
    "unpack",
    "unseal",
]

FORMAT = 1
"""The format's version; see docs/format.md. What is written in it stays readable."""

_MAGIC = b"kitaru%d\n" % FORMAT
_PACK_MAGIC = b"kitpak%d\n" % FORMAT
_OPT = ormsgpack.OPT_PASSTHROUGH_DATETIME | ormsgpack.OPT_PASSTHROUGH_DATACLASS | ormsgpack.OPT_PASSTHROUGH_UUID


def journal_key(exec_id: str, n: int | None = None) -> str:
    """The key of segment `n`, or what all of them begin with."""
    return f"executions/{exec_id}/journal/" + ("" if n is None else f"{n:010d}")


def pack_key(exec_id: str, first: int | None = None, last: int = 0) -> str:
    """The key of the pack of segments `first` to `last`, or what all of them begin with."""
    return f"executions/{exec_id}/packs/" + ("" if first is None else f"{first:010d}-{last:010d}")


def segment_digest(data: bytes) -> bytes:
    """What the next segment's `prev` must be."""
    return hashlib.sha256(data).digest()


def seal(magic: bytes, body: bytes) -> bytes:
    """An object: what it is, its body, and a checksum of both."""
    data = magic + body
    return data + hashlib.sha256(data).digest()


def unseal(magic: bytes, data: bytes, key: str) -> Any:
    """The body of an object, as plain data. Raises as `Segment.decode` does."""
    if len(data) < len(magic) + 32 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise CorruptionError(
            f"{key} is damaged: its {len(data)} bytes do not match their own checksum. Nothing of it is used. "
            "Restore this object from a copy of the store; what stands before it is not affected"
        )
    if data[: len(magic)] != magic:
        if data[:6] == magic[:6] and data[6:].partition(b"\n")[0].isdigit():
            raise StoreFormatError(f"{key} was written by a newer Kitaru (its format is not {FORMAT}): upgrade kitaru")
        raise CorruptionError(f"{key} is no object that Kitaru wrote")
    try:
        return ormsgpack.unpackb(data[len(magic) : -32], option=ormsgpack.OPT_NON_STR_KEYS)
    except ValueError as e:
        raise CorruptionError(f"{key} cannot be read: {e}") from e


@dataclass(frozen=True, slots=True)
class Segment:
    """One object of a journal."""

    exec_id: str
    n: int
    writer: str
    nonce: bytes  # drawn anew for each append
    epoch: int
    prev: bytes
    records: tuple[Record, ...]
    at: float = 0.0

    def encode(self) -> bytes:
        """The bytes of this segment."""
        records = [encode_record(r, self.exec_id) for r in self.records]
        return seal_segment(self.exec_id, self.n, self.writer, self.nonce, self.epoch, self.prev, records, self.at)

    @classmethod
    def decode(cls, data: bytes, exec_id: str, n: int, prev: bytes | None = None) -> Segment:
        """The segment `n` of `exec_id`, which must follow the one with the digest `prev`.

        Raises
        ------
        CorruptionError
            Where it is damaged, or belongs somewhere else.
        StoreFormatError
            Where a newer Kitaru wrote it.
        """
        key = journal_key(exec_id, n)
        w = unseal(_MAGIC, data, key)
        try:
            if (w["exec"], w["n"]) != (exec_id, n):
                raise CorruptionError(f"{key} holds segment {w['n']} of {w['exec']}: it was moved or copied here")
            if prev is not None and w["prev"] != prev:
                raise CorruptionError(f"{key} does not follow the segment before it: one of the two was replaced")
            records = tuple([r for wire in w["records"] if (r := from_wire(wire, exec_id)) is not None])
            return cls(exec_id, n, w["writer"], w["nonce"], w["epoch"], w["prev"], records, w["at"])
        except (KeyError, TypeError) as e:
            raise CorruptionError(f"{key} lacks what a segment must have: {e!r}") from e


def seal_segment(
    exec_id: str, n: int, writer: str, nonce: bytes, epoch: int, prev: bytes, records: Sequence[bytes], at: float
) -> bytes:
    """The bytes of the segment that holds these encoded records."""
    head = {"exec": exec_id, "n": n, "writer": writer, "nonce": nonce, "epoch": epoch, "prev": prev, "at": at}
    # `records` is the last key, so the map ends with its empty array: the encoded records take that one's place.
    empty = ormsgpack.packb(head | {"records": []}, option=_OPT)
    return seal(_MAGIC, b"".join((empty[:-1], _array_of(len(records)), *records)))


def _array_of(count: int) -> bytes:
    """How msgpack begins an array of so many items."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


_FOR_PEOPLE = frozenset({"data", "environment", "label", "parts", "preview", "process", "reason", "script", "source"})
"""Keys of a record below which a text is read by a person, and is nothing's name."""


def encode_record(record: Record, exec_id: str) -> bytes:
    """The bytes of one record of `exec_id`. Lone surrogates in what people read are written out.

    Raises
    ------
    UnrecordableValueError
        Where something in it cannot stand in a record; names the field.
    """
    wire = to_wire(record, exec_id)
    try:
        return ormsgpack.packb(wire, option=_OPT)
    except (TypeError, ValueError):
        wire = _written_out(wire)
    try:
        return ormsgpack.packb(wire, option=_OPT)
    except (TypeError, ValueError) as e:
        field = next((name for name, value in wire.items() if not _can_stand(value)), "?")
        raise UnrecordableValueError(
            f"the record {record.kind!r} of {exec_id} cannot be written: its {field} holds what no record can ({e}). "
            "Nothing of it was recorded; give plain data and text without lone surrogates"
        ) from e


def _can_stand(value: Any) -> bool:
    try:
        ormsgpack.packb(value, option=_OPT)
    except (TypeError, ValueError):
        return False
    return True


def _written_out(of: Any, free: bool = False) -> Any:
    if isinstance(of, str):
        return of.encode("utf-8", "backslashreplace").decode() if free else of
    if isinstance(of, Mapping):
        return {_written_out(k, free): _written_out(v, free or k in _FOR_PEOPLE) for k, v in of.items()}
    if isinstance(of, (list, tuple)):
        return [_written_out(item, free) for item in of]
    return of


def pack(segments: Sequence[bytes]) -> bytes:
    """Many segments as one object."""
    return seal(_PACK_MAGIC, ormsgpack.packb(list(segments)))


def unpack(data: bytes, key: str) -> list[bytes]:
    """What `pack` was given. Raises as `Segment.decode` does."""
    segments = unseal(_PACK_MAGIC, data, key)
    if not isinstance(segments, list) or not segments or not all(isinstance(s, bytes) for s in segments):
        raise CorruptionError(f"{key} is no pack of segments")
    return segments
