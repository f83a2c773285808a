"""Recorded text is from anywhere: none of it moves the cursor, passes for markup, or breaks a line of a table."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from kitaru import checkpoint, flow, log, save
from kitaru.cli import faces, text
from kitaru.cli.faces import Screen

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e[red]bold[/red]\r\n\x00:skull:"


@checkpoint
def step(given):
    log(said=given, nested={given: [given]})
    return {given: given}


@checkpoint
def many(words):
    return len(words)


@checkpoint
def failing(given):
    raise ValueError(given)


@flow
def hostile(given):
    step(given)
    many(["long"] * 3000)
    save("note", given, type=given)
    failing(given)


REFS = ("last", "step", "step.output", "step.in.given", "failing", "last:note")
RAW = ("step.in.given", "last:note")  # text alone: in a pipe it is as it was recorded


@pytest.fixture
def recorded(here):
    hostile.options(exec_id="hostile-1", raises=False).run(EVIL)
    return here


def harmless(said):
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said), said


@pytest.mark.parametrize("args", [("runs",), ("log",), *(("show", ref) for ref in REFS), ("resume", "last")])
def test_no_control_character_that_was_recorded_comes_out(kitaru, recorded, args):
    for more in ([], ["--json"]):
        said = kitaru(*args, *more)
        assert said.out or said.err
        if more or args[1:] not in [(ref,) for ref in RAW]:
            harmless(said.out)
        harmless(said.err)


@pytest.mark.process
@pytest.mark.parametrize("args", [("runs",), ("log",), *(("show", ref) for ref in REFS)])
def test_on_a_terminal_there_are_no_escape_sequences_but_our_own_colours(recorded, args):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "kitaru", *args], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    assert process.wait(30) == 0, shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
    harmless(plain)
    assert "[red]bold[/red]" in plain or args == ("runs",)


def test_text_that_utf8_cannot_hold_is_recorded_and_shown(kitaru, here):
    hostile.options(exec_id="hostile-2", raises=False).run("\ud800 alone")
    assert kitaru("show", "last").code == 0
    assert "@3" in kitaru("show", "failing").out  # it got as far as that: logging and saving such text is no failure
    assert kitaru("show", "step.in.given").bytes == "\ud800 alone".encode("utf-8", "surrogatepass")
    assert kitaru("show", "step.in.given", "--json").code == 0
    assert "said=\\ud800 alone" in kitaru("log").out


def test_markup_in_recorded_text_stays_text(kitaru, recorded):
    assert "[red]bold[/red]" in kitaru("show", "step.in.given").out
    assert ":skull:" in kitaru("show", "step.in.given").out


def test_a_long_value_is_cut_on_a_terminal_with_a_word_on_how_to_see_all(recorded, monkeypatch, capsys):
    from kitaru.client import KitaruClient

    artifact = KitaruClient().artifacts.get("last:many.in.words")
    for full, expected in ((False, True), (True, False)):
        screen = Screen(full=full, now=0.0)
        screen.cuts = not full  # as on a terminal
        screen.value(artifact)
        out = capsys.readouterr().out
        assert ("--full" in out) is expected
        assert (out.count("long") == 3000) is not expected


@pytest.mark.parametrize(
    ("given", "lines", "characters", "kept", "rest"),
    [
        ("a\nb", 2, 10, "a\nb", ""),
        ("a\nb\nc\nd", 2, 100, "a\nb", "2 more lines"),
        ("abcdef", 2, 4, "abcd", "2 more characters"),
        ("", 1, 1, "", ""),
    ],
)
def test_what_is_cut_is_counted(given, lines, characters, kept, rest):
    assert text.cut(given, lines, characters) == (kept, rest)


@pytest.mark.parametrize("at", [float("nan"), 1e300, -1e300, "soon", None])
def test_an_impossible_time_is_no_reason_to_fail(at):
    assert text.clock_time(at) == "?"
    assert text.iso(at) is None
    assert text.ago(at, 0.0) == "?"


def test_a_tree_survives_a_parent_that_is_not_there():
    class Odd:
        def __init__(self, rid, parent):
            self.id, self.parent = rid, parent

    odd = [Odd(("e", 1), ("e", 9)), Odd(("e", 2), ("e", 1))]
    assert list(faces._in_tree(odd)) == odd
