"""Moments, as people write them: how long ago, or a date."""

from __future__ import annotations

import datetime as dt
import re

from .errors import UsageError

__all__ = ["moment"]

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?) ?(min|[smhdw])", re.ASCII)
_AGO = re.compile(rf"{_PART.pattern}(?: ?{_PART.pattern})*(?: ago)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].+)?", re.ASCII)  # what a person means; ISO 8601 has many more


def moment(said: str | dt.datetime | dt.timedelta, now: float) -> float:
    """What was said, in seconds since the epoch.

    Parameters
    ----------
    said
        ``90s``, ``30min``, ``2h``, ``1d 12h``, ``1w``: so long before `now`. ``2026-11-01``, ``2026-11-01 08:30``: in
        this machine's time zone, unless it names another (``2026-11-01T08:30Z``). ``today`` and ``yesterday`` begin
        at midnight.
    now
        Seconds since the epoch.

    Raises
    ------
    UsageError
        It says no moment.

    Examples
    --------
    >>> moment("2h", now=10_000.0), moment("1d 12h", now=200_000.0)
    (2800.0, 70400.0)
    >>> moment("1970-01-02T00:00Z", now=0.0)
    86400.0
    >>> moment("recently", now=0.0)
    Traceback (most recent call last):
        ...
    kitaru.errors.UsageError: 'recently' says no moment: write 90s, 30min, 2h, 3d or 1w; or 2026-11-01, ...
    """
    try:
        if isinstance(said, dt.timedelta):
            return now - said.total_seconds()
        return (said if isinstance(said, dt.datetime) else _written(said.strip(), now)).timestamp()
    except (ValueError, OverflowError, OSError):  # no date of any calendar, or none that this machine can count from
        raise UsageError(
            f"{said!r} says no moment: write 90s, 30min, 2h, 3d or 1w; or 2026-11-01, 2026-11-01T08:30, today or "
            "yesterday"
        ) from None


def _written(text: str, now: float) -> dt.datetime:
    if _AGO.fullmatch(text):
        ago = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
        return dt.datetime.fromtimestamp(now, dt.UTC) - dt.timedelta(seconds=ago)
    if text in {"today", "yesterday"}:
        day = dt.datetime.fromtimestamp(now).date() - dt.timedelta(days=text == "yesterday")  # noqa: DTZ006 - local
        return dt.datetime.combine(day, dt.time())
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return dt.datetime.fromisoformat(text)
