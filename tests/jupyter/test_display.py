"""What is recorded is hostile: however it looks, the picture stays what it is."""

from __future__ import annotations

import dataclasses
import re
import threading
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

import kitaru
from kitaru.client import Artifact
from kitaru.stores.memory import MemoryStore
from kitaru_jupyter import display as faces

from ..large import pages

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</pre></span></table></div><h1>mine",
    "&lt;b&gt; &amp; &#x3c;",
    "\x1b[2J\x1b]0;title\x07\r\b",
    "a\u202eevil\u2066\u200b\u200f\ufeff",
    "\ud800 lone",
    "\x00\x7f\x9b31m",
    "line\nline\ttab\u2028line",
    "x" * 100_000,
    "",
]
ANYTHING = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text("<>&\"'\\/;= \u202e\x1b", max_size=30))


class Skeleton(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], set(), "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements nest"

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


def execution_of(text, fail=False):
    """An execution that recorded `text` wherever text can be recorded."""
    store = MemoryStore()
    session = kitaru.Session(store=store)
    safe = "".join(c for c in text if c.encode("utf-8", "ignore"))  # names and sources are text that can be encoded
    try:
        step = session.step("step", {f"x{safe}": text, "y": {text: [text, Nasty(text)]}}, source=safe)
        if fail:
            try:
                raise ValueError(text)
            except ValueError as e:
                step.fail(e)
        else:
            step.succeed({f"x{safe}": text, "z": {text}})
        return session.execution()
    finally:
        session.close()


class Nasty:
    """Its repr is somebody else's."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        raise RuntimeError(self.text)


def every_face(e):
    yield faces.execution(e)
    yield faces.place(e.store.url, e)
    for c in e.checkpoints:
        yield faces.checkpoint(c)
        yield faces.checkpoint(c, opened=True)
        for a in (*c.artifacts, *c.inputs.values()):
            yield faces.artifact(a)
            yield faces.value(a)


@pytest.mark.parametrize("fail", [False, True])
@given(text=ANYTHING)
@example(text=HOSTILE[0])
@example(text=HOSTILE[4])
@example(text=HOSTILE[9])
@settings(max_examples=25)
def test_recorded_text_is_text_and_nothing_else(fail, text):
    plain = [Skeleton(face.html) for face in every_face(execution_of("plain", fail))]
    for face, model in zip(every_face(execution_of(text, fail)), plain, strict=True):
        page = Skeleton(face.html)
        assert not page.open
        assert page.attributes <= {"class", "colspan", "open", "scope", "title"}
        assert set(page.tags) <= set(model.tags) | {"h4", "pre", "details", "summary"}
        for shown in (face.text, page.text):
            bad = [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n"]
            assert not bad, bad
        assert len(face.html) < 60_000
        assert len(face.text) < 30_000


def test_there_is_no_script_and_nothing_from_elsewhere():
    for face in every_face(execution_of("plain", fail=True)):
        assert not re.search(r"<script|\bon\w+=|url\(|https?:|@import|<(img|link|iframe|svg)", face.html)


def masked(page):
    pattern = (Path(__file__).parents[2] / "notebooks" / "sanitize.cfg").read_text()
    for regex, replace in re.findall(r"^regex: (.*)\nreplace: (.*)$", pattern, re.MULTILINE):
        page = re.sub(regex, replace, page)
    return page


@pytest.mark.parametrize("fail", [False, True])
def test_two_runs_of_the_same_look_the_same(fail):
    one, two = execution_of("same", fail), execution_of("same", fail)
    for a, b in zip(every_face(one), every_face(two), strict=True):
        assert masked(a.html) == masked(b.html)
        assert one.exec_id not in masked(a.html)
        assert masked(a.text) == masked(b.text)
    assert faces.execution(one).text == faces.execution(two).text, "without any masking"


def test_a_table_is_cut_and_says_so():
    store = MemoryStore()
    session = kitaru.Session(store=store)
    for _ in range(203):
        session.step("s", {}).succeed({})
    face = faces.execution(session.execution())
    session.close()
    assert "… 3 more" in face.text
    assert "… 3 more" in face.html
    assert face.html.count("<tr>") == 202


def test_a_value_whose_bytes_are_gone_is_shown_by_its_preview_and_says_why():
    store = MemoryStore()
    session = kitaru.Session(store=store)
    session.step("s", {}).succeed({"x": "word word\n" + pages(400_000)})
    session.close()
    (c,) = session.execution().checkpoints
    store.delete([e.key for e in store.list("blobs/")])
    face = faces.value(c.artifacts[0])
    assert "word word" in face.text
    assert len(face.text) < 2_000
    assert "blobs/" in face.text


def test_a_huge_value_is_not_shown_in_full():
    store = MemoryStore()
    session = kitaru.Session(store=store)
    session.step("s", {}).succeed({"x": b"\0" * 2_000_000})
    session.close()
    face = faces.value(session.execution().checkpoints[0].artifacts[0])
    assert "load it to see all of it" in face.text


def values_of(**values):
    session = kitaru.Session(store=MemoryStore())
    session.step("s", {}).succeed(values)
    session.close()
    return {a.name.rpartition(".")[2]: a for a in session.execution().artifacts}


def test_what_is_pickled_is_shown_by_its_glimpse_and_says_why():
    found = values_of(whole=Nasty("x"), part={"n": 1, "nasty": Nasty("x")}, lock=threading.Lock(), empty="")
    whole, part = faces.value(found["whole"]), faces.value(found["part"])
    assert "Nasty" in whole.text
    assert "$pickle" not in whole.text
    assert "'n': 1" in part.text
    for face in (whole, part):
        assert "kitaru.load(REF)" in face.text
        assert "kitaru.load(REF)" in Skeleton(face.html).text
    assert faces.value(found["lock"]).text == "s#1.lock: _thread.lock (not restorable) <_thread.lock>"
    assert faces.value(found["empty"]).text == "s#1.empty\n''"


@pytest.mark.parametrize(("seconds", "shown"), [(0.0001, "0.1 ms"), (0.0094, "9.4 ms"), (0.012, "12 ms"), (2, "2.0 s")])
def test_how_long_a_step_took_is_told_by_what_counts(seconds, shown):
    (c,) = execution_of("x").checkpoints
    c.data = dataclasses.replace(c.data, took=seconds, ended=seconds)
    assert faces._took(c) == shown


def test_an_execution_a_checkpoint_and_a_value_show_themselves_in_a_notebook(cells):
    cells("%%kitaru_step s\nx = 1")
    cells("from kitaru import KitaruClient")
    cells.shell.user_ns["e"] = e = cells.notebook.execution()
    formatted = cells.shell.display_formatter.format
    for thing, begins in (
        (e, "notebook: running"),
        (e.checkpoints[0], "s#1: completed"),
        (e.artifacts[0], "s#1.x: int"),
    ):
        data, _ = formatted(thing)
        assert data["text/plain"].startswith(begins)
        assert 'class="kitaru"' in data["text/html"]
    cells("%unload_ext kitaru")
    data, _ = formatted(e)
    assert "text/html" not in data
    assert data["text/plain"] == repr(e)


def test_artifacts_of_a_hostile_store_are_looked_at_without_trust():
    """Previews may hold anything: a store can be written by others."""
    e = execution_of("x")
    a = e.artifacts[0]
    hostile = {"type": ["<b>"], "len": -(10**50), "text": {"<i>": "\x1b"}}
    forged = Artifact.__new__(Artifact)
    forged.__dict__ |= a.__dict__
    object.__setattr__(forged, "_value", type(a._value)(a._value.digest, 1, "data", hostile))
    page = Skeleton(faces.artifact(forged).html)
    assert page.tags == Skeleton(faces.artifact(a).html).tags
