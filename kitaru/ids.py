"""Names: what may be one, how a new one is drawn, and how one stands in a key."""

from __future__ import annotations

import os
import re

from .errors import InvalidNameError

__all__ = [
    "check_exec_id",
    "check_step_name",
    "from_key_part",
    "new_exec_id",
    "new_nonce",
    "new_writer",
    "to_key_part",
]

_EXEC_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_NOT_IN_STEP = re.compile(r"[/:#~@.\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_EXEC_ID = re.compile(r"[^A-Za-z0-9._-]+")


def check_exec_id(exec_id: str) -> str:
    """Give `exec_id` back if it can be one, else raise `InvalidNameError`."""
    if not isinstance(exec_id, str) or not _EXEC_ID.match(exec_id) or ".." in exec_id:
        raise InvalidNameError(
            f"{exec_id!r} cannot be an exec_id: it must be 1 to 100 letters, digits, '.', '_' or '-', "
            "begin with a letter or digit, and hold no '..'"
        )
    return exec_id


def check_step_name(name: str) -> str:
    """Give `name` back if a step can have it, else raise `InvalidNameError`."""
    if name == "<lambda>":
        raise InvalidNameError("a lambda has no name to find its records by: write the step with `def`")
    if not isinstance(name, str) or not name or len(name) > 200 or _NOT_IN_STEP.search(name):
        raise InvalidNameError(
            f"{name!r} cannot be the name of a step or flow: it must be 1 to 200 characters without "
            "'/', ':', '#', '~', '@', '.', white space, control characters and lone surrogates"
        )
    return name


def new_exec_id(flow: str, digits: int = 4) -> str:
    """A fresh exec_id such as ``audit-7f3c``. Whoever finds it taken draws again, with more `digits`."""
    stem = _NOT_IN_EXEC_ID.sub("-", flow.encode("ascii", "replace").decode()).strip("._-")
    stem = re.sub(r"\.{2,}", ".", stem)[:80]
    return f"{stem or 'flow'}-{os.urandom((digits + 1) // 2).hex()}"


def new_writer() -> str:
    """The id of a writer: drawn anew for each claim."""
    return os.urandom(8).hex()


def new_nonce() -> bytes:
    """128 random bits: tells a segment of ours from an equal one of somebody else's."""
    return os.urandom(16)


def to_key_part(text: str) -> str:
    """Any text as one part of a key."""
    from urllib.parse import quote

    return quote(text, safe="-_.") if text not in {".", ".."} else text.replace(".", "%2E")


def from_key_part(part: str) -> str:
    """The text that `to_key_part` was given."""
    from urllib.parse import unquote

    return unquote(part)
