"""Moments are read as people write them, and what says none is refused."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from kitaru.errors import UsageError
from kitaru.moments import moment

NOW = 1_795_000_000.0  # 2026-11-18T11:06:40Z


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request, monkeypatch):
    """This machine's time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("30m", 1800),
        ("2h", 7200),
        ("2 h", 7200),
        ("1.5h", 5400),
        ("3d", 3 * 86400),
        ("1w", 7 * 86400),
        ("1d 12h", 36 * 3600),
        ("1d12h", 36 * 3600),
        ("12 min 34 s", 754),
        ("2h ago", 7200),
        (" 2h ", 7200),
        ("0s", 0),
        (dt.timedelta(hours=2), 7200),
    ],
)
def test_how_long_ago(said, seconds):
    assert moment(said, NOW) == NOW - seconds


@pytest.mark.parametrize(
    ("said", "utc"),
    [
        ("2026-11-01T08:30Z", "2026-11-01T08:30:00+00:00"),
        ("2026-11-01T08:30:15.250Z", "2026-11-01T08:30:15.250000+00:00"),
        ("2026-11-01 08:30+02:00", "2026-11-01T06:30:00+00:00"),
        (dt.datetime(2026, 11, 1, tzinfo=dt.UTC), "2026-11-01T00:00:00+00:00"),
    ],
)
def test_a_date_that_names_its_zone(zone, said, utc):
    assert dt.datetime.fromtimestamp(moment(said, NOW), dt.UTC).isoformat() == utc


@pytest.mark.parametrize(
    ("said", "local"),
    [
        ("2026-11-01", "2026-11-01 00:00:00"),
        ("2026-11-01 08:30", "2026-11-01 08:30:00"),
        ("2026-11-01T08:30:05", "2026-11-01 08:30:05"),
        ("today", time.strftime("%Y-%m-%d 00:00:00", time.gmtime(NOW))),
        ("yesterday", time.strftime("%Y-%m-%d 00:00:00", time.gmtime(NOW - 86400))),
    ],
)
def test_a_date_without_a_zone_is_meant_as_the_clock_on_the_wall(zone, said, local):
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment(said, NOW))) == local


@pytest.mark.parametrize(
    "said",
    [
        "", "recently", "2", "h", "-2h", "2h-", "2y", "2 hours", "2hh", "2026", "2026-11", "20261101", "2026-W45",
        "2026-13-01", "2026-11-31", "2026-11-01T25:00", "2026-11-01x", "9999999999w",
        "٢h", "2h\x1b[31m",
    ],
)  # fmt: skip
def test_what_says_no_moment_is_refused(said):
    with pytest.raises(UsageError, match="says no moment: write 90s, 30min, 2h") as raised:
        moment(said, NOW)
    assert repr(said) in str(raised.value)
