"""How frames, arrays, images and chats look in a notebook, from their previews alone."""

# ruff: noqa: RUF001 - shapes are written with a multiplication sign

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from kitaru import checkpoint, flow
from kitaru_jupyter import display as faces

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[2J"


class Cells(HTMLParser):
    """The texts of a page's table cells, and its elements."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.cells = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


@pytest.fixture
def shown(store, client):
    """The face of a recorded value."""

    def of(value, face=faces.artifact):
        @checkpoint
        def make():
            return value

        @flow
        def body():
            make()

        return face(client.artifacts.get(f"{body.run().exec_id}:make"))

    return of


def test_a_frame_is_a_table_of_its_first_rows(shown):
    face = shown(pd.DataFrame({"n": range(1000), HOSTILE: [HOSTILE, "ok"] * 500}))
    page = Cells(face.html)
    assert "img" not in page.tags
    assert page.cells[1] == "nint64"
    assert page.cells[2].startswith("<img src=x onerror=alert(1)>\\u202e\\x1b")
    assert page.cells[3:6] == ["0", "0", "<img src=x onerror=aler…"]
    assert "… 995 more rows" in face.html
    assert face.text.splitlines()[0].startswith("make#1.output: pandas.DataFrame 1,000 × 2: n int64, <img")
    assert face.text.splitlines()[-1] == "… 995 more rows"
    assert "\x1b" not in face.text + face.html


def test_labels_and_columns_that_are_not_here_are_said(shown):
    face = shown(pd.DataFrame(np.zeros((2, 30)), index=["first", "second"]))
    page = Cells(face.html)
    assert "first" in page.cells
    assert "second" in page.cells
    assert "…" in page.cells


def test_a_chat_is_shown_by_role(shown):
    chat = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": "hi"}]
    face = shown(chat * 500)
    assert Cells(face.html).cells == [
        "user", "<img src=x onerror=alert(1)>\\u202e\\x1b[2…", "…", "998 more", "assistant", "hi",
    ]  # fmt: skip
    assert face.text.splitlines()[1:] == [
        "  user: <img src=x onerror=alert(1)>\\u202e\\x1b[2…",
        "  …: 998 more",
        "  assistant: hi",
    ]


def test_in_full_an_array_is_what_its_preview_says_and_how_to_have_it(shown):
    face = shown(np.arange(6.0), faces.value)
    assert face.text == (
        "make#1.output: numpy.ndarray 6 float64 [0, 1, 2, 3, 4, 5], 0 to 5\n"
        "All of it: kitaru.load(REF), or %kitaru show REF -o FILE"
    )


def test_a_value_is_written_to_a_file_by_the_magic(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells("%%kitaru_step make\nreport = 'all well'")
    ran = cells("%kitaru show make.report -o report.md")
    assert (ran.error, ran.out) == (None, "report.md\n")
    assert (tmp_path / "report.md").read_text() == "all well"
    assert "is there already" in str(cells("%kitaru show make.report -o report.md").error)
    assert cells("%kitaru show make -o report.md --force").error is None
    assert "%kitaru log: unrecognized arguments: -o x" in str(cells("%kitaru log -o x").error)
