"""Uploads and downloads say how far they are when they are slow, somebody looks, and nothing else is shown."""

from __future__ import annotations

import io
import sys

import pytest

from kitaru.progress import Transfer, transfer


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Cell(io.StringIO):
    """As a kernel's stderr."""


Cell.__module__ = "ipykernel.iostream"


@pytest.fixture
def slow(clock):
    """Transfer 10 MB, half of it in two seconds."""

    def move(stream, monkeypatch, seconds=2.0):
        monkeypatch.setattr(sys, "stderr", stream)
        with Transfer("kitaru: uploading", 10_000_000, clock.monotonic) as moving:
            clock.sleep(seconds)
            moving.advance(5_000_000)
            during = stream.getvalue()
            moving.advance(5_000_000)
        return during

    return move


def test_nothing_is_shown_where_nobody_looks(slow, monkeypatch):
    stream = io.StringIO()
    slow(stream, monkeypatch)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [Terminal, Cell])
def test_nothing_is_shown_within_a_second(slow, monkeypatch, stream):
    shown = stream()
    slow(shown, monkeypatch, seconds=0.9)
    assert shown.getvalue() == ""


@pytest.mark.parametrize("stream", [Terminal, Cell])
def test_a_slow_one_is_shown_and_taken_away_again(slow, monkeypatch, stream):
    shown = stream()
    slow(shown, monkeypatch)
    assert "kitaru: uploading" in shown.getvalue()
    assert shown.getvalue().rstrip("\r\n").endswith("\x1b[K") or "\x1b[2K" in shown.getvalue()


def test_a_notebook_has_one_line(slow, monkeypatch):
    assert slow(Cell(), monkeypatch) == "\rkitaru: uploading 5 of 10 MB"


def test_of_two_side_by_side_one_is_shown(clock, monkeypatch):
    stream = Cell()
    monkeypatch.setattr(sys, "stderr", stream)
    with Transfer("one", 10, clock.monotonic) as one, Transfer("other", 10, clock.monotonic) as other:
        clock.sleep(2)
        one.advance(1)
        other.advance(1)
    assert "one" in stream.getvalue()
    assert "other" not in stream.getvalue()


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_stderr_is_no_reason_to_fail(slow, monkeypatch, clock, stream):
    if stream is not None:
        stream = Terminal()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with Transfer("it", 10, clock.monotonic) as moving:
        clock.sleep(2)
        moving.advance(1)


def test_a_display_that_fails_fails_nothing(slow, monkeypatch):
    class Broken(Cell):
        def write(self, text):
            raise OSError("gone")

    Broken.__module__ = "ipykernel.iostream"
    slow(Broken(), monkeypatch)
    with transfer("again", 1) as moving:
        moving.advance(1)
