"""`kitaru show` of arrays, frames, images and chats; and `-o`, which writes a value to a file."""

# ruff: noqa: RUF001 - shapes are written with a multiplication sign

from __future__ import annotations

import io
import json

import pytest

import kitaru as library
from kitaru import KitaruClient, checkpoint, flow, save
from kitaru.cli.faces import Screen

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
image = pytest.importorskip("PIL.Image")


class Odd:
    def __reduce__(self):
        return (Odd, ())


@checkpoint
def frame():
    return pd.DataFrame({"n": range(1000), "who": ["Ada\x1b[31m [red]", "Ötzi"] * 500})


@checkpoint
def array():
    return np.arange(6.0)


@checkpoint
def picture():
    return image.new("L", (4, 3))


@checkpoint
def odd():
    return Odd()


@pytest.fixture
def recorded(here):
    """A run of these, in the folder that the command line finds."""

    @flow
    def values():
        save("report", "draft")
        save("report", "läuft")
        frame()
        array()
        picture()
        odd()
        return {"ok": (1, 2)}

    library.connect(None)
    values.options(exec_id="v-1").run()
    return here


def test_a_frame_is_shown_by_its_first_rows(kitaru, recorded):
    said = kitaru("show", "frame.output")
    assert said.out.splitlines() == [
        "pandas.DataFrame 1,000 × 2: n int64, who str",
        "",
        "       n  who",
        "   int64  str",
        "0      0  Ada\\x1b[31m [red]",
        "1      1  Ötzi",
        "2      2  Ada\\x1b[31m [red]",
        "3      3  Ötzi",
        "4      4  Ada\\x1b[31m [red]",
    ]
    assert said.err == "kitaru: 995 more rows; all of it: kitaru show v-1:frame#1.output -o FILE.parquet\n"
    screen_of_a_terminal(said.out.splitlines()[2:])


def screen_of_a_terminal(lines):
    screen = Screen(now=0.0)
    screen.terminal = screen.cuts = True
    screen._stream = io.StringIO()
    screen.value(KitaruClient().artifacts.get("v-1:frame"))
    assert "Ada\\x1b[31m [red]" in screen._stream.getvalue()
    assert "\x1b[31m [red]" not in screen._stream.getvalue()
    assert "int64" in screen._stream.getvalue()


def test_arrays_and_images_are_shown_by_what_they_are(kitaru, recorded):
    assert kitaru("show", "array.output").out == "numpy.ndarray 6 float64 [0, 1, 2, 3, 4, 5], 0 to 5\n"
    assert kitaru("show", "picture.output").out == "PIL.Image.Image 4 × 3 L\n"
    assert "-o FILE.npy" in kitaru("show", "array.output").err


def test_a_value_is_written_in_its_own_format(kitaru, recorded):
    said = kitaru("show", "v-1:report", "-o", "out.md")
    assert (said.code, said.out, said.err) == (0, "out.md: 6 bytes\n", "")
    assert (recorded / "out.md").read_text() == "läuft"
    assert kitaru("show", "v-1:report#1", "--output", "first.txt").code == 0
    assert (recorded / "first.txt").read_text() == "draft"
    assert kitaru("show", "last", "-o", "result.json").code == 0
    assert json.loads((recorded / "result.json").read_text()) == {"ok": {"$tuple": [1, 2]}}
    for ref, name in (("frame", "f.parquet"), ("frame", "f.csv"), ("array", "a.npy"), ("picture", "p.png")):
        assert kitaru("show", ref, "-o", name).code == 0
    assert len(pd.read_parquet("f.parquet")) == len(pd.read_csv("f.csv")) == 1000
    assert np.load("a.npy").tolist() == [0, 1, 2, 3, 4, 5]
    assert (
        kitaru("show", "@1", "-o", ".").out == "frame-1.parquet: " + kitaru("show", "@1", "-o", "g").out.split(": ")[1]
    )


def test_the_document_says_where_it_was_written(kitaru, recorded):
    document = kitaru("show", "report", "-o", "out", "--json").document
    assert (document["file"], document["bytes"], document["value"]["version"]) == ("out", 6, 2)
    assert kitaru("show", document["value"]["address"]).out == "läuft"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["report", "-o", "there.txt"], "there.txt is there already"),
        (["frame", "-o", "x.npy"], "cannot be written as .npy: write it as .parquet or .arrow or .feather or .csv"),
        (["report", "-o", "no/x.txt"], "there is no folder no"),
        (["report", "--force"], "--force is for -o FILE"),
    ],
)
def test_what_cannot_be_written_is_wrong_usage(kitaru, recorded, args, said):
    (recorded / "there.txt").write_text("mine")
    ended = kitaru("show", *args)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert (recorded / "there.txt").read_text() == "mine"


def test_force_replaces(kitaru, recorded):
    (recorded / "there.txt").write_text("mine")
    assert kitaru("show", "report", "-o", "there.txt", "--force").code == 0
    assert (recorded / "there.txt").read_text() == "läuft"


def test_a_pickle_is_written_only_from_a_trusted_store(kitaru, recorded, monkeypatch):
    assert kitaru("show", "odd", "-o", "x.pkl").code == 0
    (recorded / ".kitaru").chmod(0o777)
    refused = kitaru("show", "odd", "-o", "y.pkl")
    assert refused.code == 1
    assert "KITARU_TRUST" in refused.err
    assert not (recorded / "y.pkl").exists()


def test_versions_are_listed_with_their_numbers(kitaru, recorded):
    out = kitaru("show", "v-1").out
    assert "  report#1  str(5) 'draft'\n  report#2  str(5) 'läuft'\n" in out
    document = kitaru("show", "v-1", "--json").document["execution"]
    assert [(s["name"], s["version"]) for s in document["saved"]] == [("report", 1), ("report", 2)]
