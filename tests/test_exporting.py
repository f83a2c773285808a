"""Values as files: each in a format of its own, whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, codecs, flow
from kitaru.errors import UntrustedValueError, UsageError
from kitaru.exporting import suffixes, write
from kitaru.previews import preview
from kitaru.stores.memory import MemoryStore

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
image = pytest.importorskip("PIL.Image")


class Odd:
    """Has no data format that is worth a file; is pickled."""

    def __reduce__(self):
        return (Odd, ())


@dataclass
class Recorded:
    """A value as a store has it: what `Artifact` is to `write`."""

    value: Any
    ref: str = "step#1.output"
    kind: str = ""
    preview: dict = field(default_factory=dict)
    trusted: bool = True

    def __post_init__(self):
        self.kind = self.kind or codecs.encode(self.value).kind
        self.preview = preview(self.value)

    def load(self):
        if not self.trusted:
            raise UntrustedValueError("not from there")
        return self.value

    def to_json(self):
        return codecs.to_json(codecs.encode(self.value).data)


FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "ÿ"]})


# ---- formats ---------------------------------------------------------------------------------------


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    for name in ("a.txt", "a.md", "a.html", "a.CSV", "a"):
        assert write(Recorded("läuft\r\n"), tmp_path / name).read_bytes() == "läuft\r\n".encode()
    assert write(Recorded("\ud800"), tmp_path / "odd.txt").read_bytes() == b"\xed\xa0\x80"
    for name in ("b.bin", "b.png", "b.parquet", "b"):
        assert write(Recorded(b"\x00\xff"), tmp_path / name).read_bytes() == b"\x00\xff"
    assert json.loads(write(Recorded("läuft"), tmp_path / "a.json").read_text()) == "läuft"


def test_data_is_written_as_readable_json(tmp_path):
    text = write(Recorded({"ä": (1, 2.5)}), tmp_path / "x.json").read_text()
    assert json.loads(text) == {"ä": {"$tuple": [1, 2.5]}}
    assert text.endswith("}\n")
    assert '"ä"' in text


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.array(["a"]), np.zeros((0, 3)), np.array(3)])
def test_arrays_are_written_as_npy(tmp_path, array):
    back = np.load(write(Recorded(array), tmp_path / "x.npy"), allow_pickle=False)
    assert (back.dtype, back.tolist()) == (array.dtype, array.tolist())


def test_an_array_of_objects_is_written_as_json(tmp_path, connected):
    connected(MemoryStore())

    @checkpoint
    def make():
        return np.array([[1, "a"], [None, (2,)]], dtype=object)

    @flow
    def body():
        make()

    body.options(exec_id="x").run()
    text = KitaruClient().artifacts.get("x:make").write(tmp_path / "x.json").read_text()
    assert json.loads(text)["$numpy.ndarray"][1:] == [[2, 2], "C", [1, "a", None, {"$tuple": [2]}]]


def test_frames_are_written_for_other_programs(tmp_path):
    for frame in (FRAME, pl.DataFrame(FRAME), pa.table(FRAME), pa.table(FRAME).to_batches()[0]):
        pd.testing.assert_frame_equal(
            pd.read_parquet(write(Recorded(frame), tmp_path / "x.parquet", force=True)), FRAME
        )
        for name in ("x.arrow", "x.feather"):
            pd.testing.assert_frame_equal(pd.read_feather(write(Recorded(frame), tmp_path / name, force=True)), FRAME)
        csv = write(Recorded(frame), tmp_path / "x.csv", force=True)
        pd.testing.assert_frame_equal(pd.read_csv(csv), FRAME)
    labelled = write(Recorded(FRAME.set_index("b")), tmp_path / "labelled.csv")
    assert labelled.read_text().splitlines()[0] == "b,a"


@pytest.mark.parametrize("series", [pd.Series([1, 2], name="s"), pl.Series("s", [1, 2])], ids=["pandas", "polars"])
def test_a_series_is_written_as_a_frame_of_one_column(tmp_path, series):
    assert pd.read_parquet(write(Recorded(series), tmp_path / "x.parquet"))["s"].tolist() == [1, 2]
    assert write(Recorded(series), tmp_path / "x.csv").read_text() == "s\n1\n2\n"


def test_images_are_written_as_png(tmp_path):
    red = image.new("RGB", (4, 3), (255, 0, 0))
    with image.open(write(Recorded(red), tmp_path / "x.png")) as back:
        assert (back.size, back.getpixel((0, 0))) == ((4, 3), (255, 0, 0))


def test_only_what_is_opaque_is_pickled_and_only_from_a_trusted_store(tmp_path):
    odd = Recorded(Odd(), kind="pickle")
    assert isinstance(pickle.loads(write(odd, tmp_path / "x.pkl").read_bytes()), Odd)
    odd.trusted = False
    with pytest.raises(UntrustedValueError):
        write(odd, tmp_path / "y.pkl")
    with pytest.raises(UsageError, match=r"cannot be written as \.pkl: write it as \.json"):
        write(Recorded({"a": 1}), tmp_path / "z.pkl")
    assert os.listdir(tmp_path) == ["x.pkl"]


def test_a_container_with_something_pickled_in_it_is_json_without_loading_it(tmp_path):
    held = Recorded({"n": 1}, kind="pickle", trusted=False)
    assert suffixes(held) == (".json", ".pkl")
    assert json.loads(write(held, tmp_path / "x").read_text()) == {"n": 1}


def test_what_was_no_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"step#1\.output was no data when it was recorded"):
        write(Recorded("x", kind="reference"), tmp_path / "x.json")


# ---- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "usual"),
    [("x", ".txt"), (b"x", ".bin"), ([1], ".json"), (np.zeros(1), ".npy"), (FRAME, ".parquet"),
     (image.new("L", (1, 1)), ".png"), (1.5, ".json")],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)  # fmt: skip
def test_without_a_suffix_it_is_the_usual_format(tmp_path, value, usual):
    recorded = Recorded(value, ref="outer#2/make~1.output")
    assert suffixes(recorded)[0] == usual
    assert write(recorded, tmp_path).name == f"outer-2-make-1{usual}"
    named = write(recorded, tmp_path / "named")
    assert named.read_bytes() == (tmp_path / f"outer-2-make-1{usual}").read_bytes()


@pytest.mark.parametrize("ref", ["report#2", ".output", "出力.output", "x" * 200, "step#1.in.a"])
def test_a_folder_gets_a_file_of_the_values_name(tmp_path, ref):
    file = write(Recorded("x", ref=ref), tmp_path)
    assert file.parent == tmp_path
    assert not file.name.startswith(("-", "."))
    assert file.read_text() == "x"


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        ([1], "x.npy", "cannot be written as .npy: write it as .json"),
        ([1], "x.txt", "cannot be written as .txt: write it as .json"),
        ("x", "x.parquet", "write it as .txt or .md or .json"),
        (FRAME, "x.json", "write it as .parquet or .arrow or .feather or .csv"),
        (np.zeros(1), "x.csv", "write it as .npy"),
    ],
)
def test_another_format_is_refused_with_those_there_are(tmp_path, value, name, said):
    with pytest.raises(UsageError) as refused:
        write(Recorded(value), tmp_path / name)
    assert said in str(refused.value)
    assert os.listdir(tmp_path) == []


# ---- whole or not at all ---------------------------------------------------------------------------


def test_a_file_that_is_there_is_replaced_only_when_told(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"x\.txt is there already.*--force"):
        write(Recorded("new"), file)
    assert file.read_text() == "mine"
    assert write(Recorded("new"), file, force=True).read_text() == "new"
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is there already"):
        write(Recorded("new"), tmp_path / "dangling.txt")
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    file = tmp_path / "x.txt"

    class Slow(Recorded):
        def load(self):
            file.write_text("theirs")
            return self.value

    with pytest.raises(UsageError, match="is there already"):
        write(Slow("mine"), file)
    assert file.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (pd.DataFrame({"a": [1, "x", None]}), "x.parquet", "; or write it as .arrow or .feather or .csv"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "x.arrow", "Duplicate column names"),
        (pl.DataFrame({"a": [[1]]}), "x.csv", "CSV format does not support nested data"),
        (
            np.array([object()]),
            "x.npy",
            "hold as a pickle; or write it as .json",
        ),
        (image.new("CMYK", (1, 1)), "x.png", "PNG cannot hold"),
    ],
)
def test_what_a_format_lacks_is_said_and_leaves_nothing(tmp_path, value, name, said):
    with pytest.raises(UsageError) as refused:
        write(Recorded(value, kind="data"), tmp_path / name)
    assert said in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere to write to"):
        write(Recorded("x"), tmp_path / "nowhere" / "x.txt")
    with pytest.raises(UsageError, match="could not be written: File name too long"):
        write(Recorded("x"), tmp_path / f"{'x' * 300}.txt")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"x\.txt could not be written: No space left on device"):
        write(Recorded("x"), tmp_path / "x.txt")
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
    def none(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    assert write(Recorded("x"), tmp_path / "x.txt").read_text() == "x"
    with pytest.raises(UsageError, match="is there already"):
        write(Recorded("y"), tmp_path / "x.txt")


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install pyarrow; or write it as .*\.csv"):
        write(Recorded(FRAME, kind="data"), tmp_path / "x.arrow")
    assert write(Recorded(FRAME, kind="data"), tmp_path / "x.csv").read_text() == "a,b\n1,x\n2,ÿ\n"
