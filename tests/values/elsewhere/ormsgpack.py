"""What the codecs ask of ormsgpack, by msgpack in plain Python: for an interpreter that ormsgpack is not built for.

The digests tell whether it writes what ormsgpack writes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

OPT_PASSTHROUGH_BIG_INT = OPT_PASSTHROUGH_DATACLASS = OPT_PASSTHROUGH_DATETIME = OPT_PASSTHROUGH_ENUM = 0
OPT_PASSTHROUGH_SUBCLASS = OPT_PASSTHROUGH_TUPLE = OPT_PASSTHROUGH_UUID = OPT_NON_STR_KEYS = 0

Ext = msgpack.ExtType


class Fragment(NamedTuple):
    data: bytes


def packb(value: Any, default: Any = None, option: int | None = None) -> bytes:
    """`default` gives what is written in the place of anything that is not exactly plain data."""
    del option

    def made(part: Any) -> Any:
        if default is None:
            raise TypeError(f"a {type(part).__name__} is no plain data")
        return _plain(default(part))

    try:
        return msgpack.packb(_plain(value), default=made, strict_types=True)
    except (UnicodeEncodeError, OverflowError) as error:  # surrogates, a big integer
        raise TypeError(str(error)) from error


def _plain(value: Any) -> Any:
    """`value`, in which all keys of maps are texts: msgpack would take any."""
    todo = [value]
    for part in todo:
        if type(part) is dict:
            if any(type(key) is not str for key in part):
                raise TypeError("a key is no text")
            todo += part.values()
        elif type(part) is list:
            todo += part
    return value


def unpackb(data: bytes) -> Any:
    """Plain data. `ValueError` for anything else, which is read by other means then."""

    def refused(code: int, _: bytes) -> Any:
        raise ValueError(f"an extension of type {code}")

    return msgpack.unpackb(data, ext_hook=refused)
