"""What is compared is hostile: however it looks, its faces stay what they are."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from rich.console import Console

import kitaru
from kitaru import checkpoint, flow
from kitaru.diffs.show import Column, Row, Span, Table, as_text
from kitaru.stores.memory import MemoryStore

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</p></td></table></div><h1>mine",
    "&lt;b&gt; &amp;",
    "\x1b[2J\x1b]0;title\x07\r\b",
    "a\u202eevil\u2066\u200b\ufeff",
    "\ud800 lone",
    "\x00\x7f\x9b31m",
    "line\nline\ttab\u2028line\x1b[31m",
    "[bold red]markup[/bold red]",
    "x" * 50_000,
    "",
]
ANYTHING = st.sampled_from(HOSTILE) | st.text("<>&\"'\\/;= \u202e\x1b\n", max_size=30)
TAGS = {"style", "div", "p", "b", "span", "ins", "del", "table", "thead", "tbody", "tr", "th", "td"}


def test_columns_stand_below_each_other_also_of_wide_characters():
    table = Table(
        [Column("step"), Column("what")], [Row([(Span("収集#1"),), (Span("x"),)]), Row([(Span("a"),), (Span("y"),)])]
    )
    assert as_text([table]).splitlines() == ["step    what", "収集#1  x", "a       y"]


class Skeleton(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.open = set(), set(), []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements nest"


def check(d):
    """All faces of a comparison are harmless; gives the text."""
    page = d._repr_html_()
    skeleton = Skeleton(page)
    assert skeleton.tags <= TAGS
    assert skeleton.attributes <= {"class", "scope", "colspan"}
    assert not skeleton.open
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=200, color_system="truecolor").print(d)
    coloured = stream.getvalue()
    plain = Console(file=io.StringIO(), width=200)
    plain.print(d)
    for text in (page, repr(d)):
        assert text.replace("\n", "").isprintable()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).replace("\n", "").isprintable(), "colours, and nothing else"
    assert len(page) < 100_000
    return repr(d)


@given(ANYTHING, ANYTHING)
@settings(max_examples=60)
def test_values_are_harmless(a, b):
    shared = "the same words "
    check(kitaru.diff({a: 1, "t": shared + a, "x": [a]}, {b: 2, "t": shared + b, "x": [b]}, refs=False))
    check(kitaru.diff([{"role": a, "content": a}], [{"role": a, "content": b}], refs=False))


@pytest.mark.parametrize("text", HOSTILE)
def test_executions_are_harmless(text, connected):
    connected(MemoryStore())

    @checkpoint
    def step(x):
        kitaru.log(tokens=text, cost=float("nan"), note=text)
        if x.endswith("!"):
            raise ValueError(x)
        return {x: x}

    @flow
    def run(x):
        return step(x)

    run.options(exec_id="first").run(text)
    run.options(exec_id="second", raises=False).run(text + "!")
    run.options(exec_id="third").run(text + "?")
    check(kitaru.diff("first", "second"))
    d = kitaru.diff("first", "third", values=True)
    check(d)
    json.dumps(d.to_json(), allow_nan=False)
    check(kitaru.diff("first:step", "third:step"))


def test_rich_markup_stays_text():
    stream = io.StringIO()
    Console(file=stream, width=200).print(kitaru.diff(["[bold]x[/bold] y"], ["[bold]x[/bold] z"]))
    assert "[bold]x[/bold] [-y-]{+z+}" in stream.getvalue()


def test_what_varies_is_masked_in_html_and_left_out_of_the_text(store):
    @flow
    def run(x):
        return x

    run.options(exec_id="varying-1").run(1)
    run.options(exec_id="varying-2").run(2)
    d = kitaru.diff("varying-1", "varying-2")
    assert "varying" not in repr(d)
    masked = d._repr_html_()
    while '<span class="kitaru-varies">' in masked:
        before, _, after = masked.partition('<span class="kitaru-varies">')
        masked = before + after.partition("</span>")[2]
    assert "varying" not in masked
    assert " ms" not in masked


def test_the_document_holds_no_control_characters_and_no_nan():
    d = kitaru.diff(
        {"a": float("nan"), "b": "\x1b[31m", "c": b"\x00", "d": (1,)}, {"a": 1, "b": "x", "c": b"\x01", "d": 1}
    )
    text = json.dumps(d.to_json(), allow_nan=False)
    assert text.isprintable()
