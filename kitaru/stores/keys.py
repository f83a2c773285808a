"""What a key may be: the same rules in every store, so that a location can be copied from one to another."""

from __future__ import annotations

import re

from ..errors import InvalidNameError, UsageError

__all__ = ["check_key", "check_range", "is_key"]

_MAX_PART = 255  # bytes: what file systems allow for one name
_MAX_KEY = 900  # bytes: S3 allows 1,024, and a bucket's prefix wants its share


def check_key(key: str) -> str:
    """Give `key` back if every store can hold it.

    A key is relative and "/"-separated. None of its parts is empty, "." or "..", none holds a backslash or a
    control character, and none is longer than 255 bytes. The first part does not begin with ".": such names
    belong to the store itself. A key is never another key's folder.

    Raises
    ------
    InvalidNameError
        It cannot be a key. The message says why.

    Examples
    --------
    >>> check_key("executions/audit-7/journal/0000000001")
    'executions/audit-7/journal/0000000001'
    >>> check_key("../etc/passwd")
    Traceback (most recent call last):
        ...
    kitaru.errors.InvalidNameError: '../etc/passwd' cannot be a key: it has a part "..".
    """
    why = _objection(key)
    if why:
        raise InvalidNameError(f"{key!r} cannot be a key: {why}.")
    return key


def is_key(name: str) -> bool:
    """Whether `check_key` would take `name`. What else lies in a location is not ours, and is not listed."""
    return _objection(name) is None


def check_range(start: int | None, end: int | None) -> None:
    """Refuse a negative bound: `[start, end)` counts from the first byte."""
    if (start is not None and start < 0) or (end is not None and end < 0):
        raise UsageError(f"The range [{start}, {end}) has a negative bound: count from the first byte.")


_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\\\\]")  # XML, UTF-8 or a path cannot


_USUAL = re.compile("(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


def _objection(key: str) -> str | None:
    if len(key) <= _MAX_PART and _USUAL.fullmatch(key):  # nearly always
        return None
    if not key:
        return "it is empty"
    unfit = _UNFIT.search(key)
    if unfit:
        return f"it holds {unfit.group()!r}"
    if len(key) * 4 > _MAX_PART:  # a shorter one cannot be too long, whatever its characters
        if len(key.encode()) > _MAX_KEY:
            return f"it is longer than {_MAX_KEY} bytes"
        if any(len(part.encode()) > _MAX_PART for part in key.split("/")):
            return f"it has a part longer than {_MAX_PART} bytes"
    for part in key.split("/"):
        if part in {"", ".", ".."}:
            return f'it has a part "{part}"' if part else "it has an empty part"
    return 'it begins with "."' if key[0] == "." else None
