"""Text that may come from anywhere, made harmless for a terminal; and times, as people read them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from ..previews import printable

__all__ = ["ago", "ahead", "block", "clock_time", "cut", "duration", "iso", "line"]


def line(text: object) -> str:
    r"""One line: what does not print as itself, line breaks included, is escaped.

    >>> line("\x1b[2Jgone\n")
    '\\x1b[2Jgone\\n'
    """
    return printable(str(text))


def block(text: str) -> str:
    """Several lines: line breaks and tabs stay, and everything else that does not print as itself is escaped."""
    return "\n".join(
        printable(part).replace("\\t", "    ") if "\t" in part else printable(part) for part in text.split("\n")
    )


def cut(text: str, lines: int, characters: int) -> tuple[str, str]:
    r"""At most so much of `text`, and a word on what was left out; that is empty where nothing was.

    >>> cut("a\nb\nc", lines=2, characters=100)
    ('a\nb', '1 more line')
    """
    parts = text[:characters].split("\n")
    kept = "\n".join(parts[:lines])
    if len(kept) == len(text):
        return text, ""
    if len(parts) > lines:
        more = text.count("\n", len(kept) + 1) + 1
        return kept, f"{more:,} more line{'s' if more > 1 else ''}"
    return kept, f"{len(text) - len(kept):,} more characters"


def duration(seconds: float | None) -> str:
    """A stretch of time in one short word or two.

    >>> duration(0.0423), duration(12.44), duration(754), duration(86400 * 2)
    ('42 ms', '12.4 s', '12 min 34 s', '2 d 0 h')
    """
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return ""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 or not seconds else f"{seconds * 1000:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {small}"
    return f"{seconds:.1f} s"


def ago(at: float, now: float) -> str:
    """How long before `now` that was."""
    passed = now - at if _moment(at) is not None else -1.0
    if passed < 0:
        return clock_time(at)
    return f"{duration(passed).partition(' min')[0]} min ago" if 60 <= passed < 3600 else f"{_coarse(passed)} ago"


def ahead(at: float, now: float) -> str:
    """How long after `now` that is."""
    left = at - now if _moment(at) is not None else -1.0
    if left < 0:
        return clock_time(at)
    return f"in {duration(left).partition(' min')[0]} min" if 60 <= left < 3600 else f"in {_coarse(left)}"


def _coarse(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return " ".join(duration(seconds).split()[:2])


def clock_time(at: float) -> str:
    """A moment, in this machine's own time zone."""
    moment = _moment(at)
    return "?" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(at: Any) -> str | None:
    """A moment as ISO 8601 in UTC; None for what is none.

    >>> iso(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    moment = _moment(at)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _moment(at: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(at, dt.UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None
