"""Bad input, in a folder and in a bucket: recorded faithfully, or refused by name, and nothing is lost."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pandas as pd
import polars as pl
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.blobs import blob_key
from kitaru.errors import CorruptionError, UnrecordableValueError, UntrustedValueError
from kitaru.stores.local import LocalStore
from kitaru.testing.faults import FaultyStore


@pytest.fixture(params=["folder", "moto"])
def place(request, tmp_path, connected):
    """A counted store that is no memory: what comes back has been away."""
    if request.param == "folder":
        inner = LocalStore(tmp_path / "runs")
    else:
        inner = request.getfixturevalue("moto_s3")()
    return connected(FaultyStore(inner))


class Slow:
    """Whatever is asked of it takes a second, and then fails."""

    asked = 0

    def __init__(self, n):
        self.n = n

    def _hang(self, *_):
        type(self).asked += 1
        time.sleep(1)
        raise RuntimeError("asked")

    __eq__ = __hash__ = __repr__ = __str__ = __len__ = __bool__ = __iter__ = __format__ = _hang


class Names(dict):
    pass


class Signal(np.ndarray):
    pass


def signal():
    made = np.arange(4.0).view(Signal)
    made.unit = "mV"
    return made


def a_circle():
    rows = [1]
    rows.append({"again": rows})
    return rows


def png(width, height, body):
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b"")


def npy(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def run(value, *, after="well"):
    """A flow with a step that ends well, and one that gives `value`."""

    @checkpoint
    def good():
        return after

    @checkpoint(ignore=["make"])
    def bad(make):
        return make()

    @flow
    def body():
        good()
        return bad(lambda: value)

    return body.options(exec_id="x", raises=False).run()


def what_is_recorded(store):
    return KitaruClient(store).executions.get("x")


FAITHFUL = {
    "a frame with a name twice": lambda: pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["a", "a"]),
    "mixed types in one column": lambda: pd.DataFrame({"a": [1, "two", 3.0, None, b"five", (6,)]}),
    "a subclass of dict": lambda: Names(a=1, b=[2]),
    "a PNG that claims 10 GB": lambda: png(100_000, 100_000, zlib.compress(b"")),
    "an array file that claims 10 GB": lambda: npy((1_250_000_000,)),
    "a decompression bomb": lambda: zlib.compress(bytes(50 << 20)),
    "a text of control characters": lambda: "\x1b[2J\x00\u202e",
}


@pytest.mark.parametrize("name", FAITHFUL)
def test_it_is_recorded_as_it_is(place, name):
    value = FAITHFUL[name]()
    assert run(value).wait() is value
    again = what_is_recorded(place).checkpoints[1].artifacts[0]
    loaded = again.load()
    assert type(loaded) is type(value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(loaded, value)
        assert [type(v) for v in loaded.iloc[:, 0]] == [type(v) for v in value.iloc[:, 0]]
    else:
        assert loaded == value
    assert again.kind != "pickle"
    assert again.preview["type"]


def test_a_subclass_of_ndarray_comes_back_as_one_with_what_it_holds(place, monkeypatch):
    monkeypatch.setenv("KITARU_TRUST", place.url)
    run(signal())
    loaded = what_is_recorded(place).result
    assert (type(loaded), loaded.unit, loaded.tolist()) == (Signal, "mV", [0.0, 1.0, 2.0, 3.0])


def test_an_object_that_hangs_when_it_is_asked_is_not_asked(place, monkeypatch):
    monkeypatch.setenv("KITARU_TRUST", place.url)
    Slow.asked = 0
    began = time.monotonic()
    run({"rows": [Slow(3)]})
    execution = what_is_recorded(place)
    assert execution.status.value == "completed"
    assert "Slow" in repr(execution.checkpoints[1].artifacts[0])
    assert execution.lineage() is not None
    assert Slow.asked == 0
    assert time.monotonic() - began < 10


REFUSED = {
    "what refers to itself": (a_circle, r'bad#1\.output\[1\]\["again"\] refers to itself.*Break the circle'),
    "a lazy frame": (
        lambda: {"rows": [pl.LazyFrame({"a": [1]})]},
        r'bad#1\.output\["rows"\]\[0\] is a lazy object .*collect\(\)',
    ),
    "a generator": (lambda: [(x for x in "ab")], r"bad#1\.output\[0\] is the generator .*the list"),
    "a client deep inside": (
        lambda: {"rows": [1, 2, 3, {"client": io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))}]},
        r'bad#1\.output\["rows"\]\[3\]\["client"\] is a _io:TextIOWrapper.*Give plain data',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_its_place_is_named(place, name):
    make, says = REFUSED[name]
    handle = run(make())
    with pytest.raises(UnrecordableValueError, match=says):
        handle.get()
    execution = what_is_recorded(place)
    assert (execution.status.value, execution.failed_at) == ("failed", "bad#1")
    assert execution.checkpoints[0].artifacts[0].load() == "well"
    assert [c.status for c in execution.checkpoints] == ["completed", "failed"]


# ---------------------------------------------------------------- what a store may hold


def blobs(store):
    return [entry.key for entry in store.list("blobs/")]


def overwrite(store, key, data):
    store.delete([key])
    store.put(key, data)


def test_a_blob_with_the_right_name_and_wrong_bytes_is_never_a_value(place):
    rows = np.arange(1 << 20, dtype=np.float64)
    run(rows, after=np.ones(1 << 20))
    one, *_ = sorted(blobs(place))
    data = place.get(one)
    for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[: len(data) // 2], data + b"\0", bytes(len(data)), b""):
        overwrite(place, one, wrong)
        refused = []
        for artifact in what_is_recorded(place).artifacts:
            try:
                loaded = artifact.load()
            except CorruptionError as e:
                refused.append(str(e))
            else:
                assert isinstance(loaded, np.ndarray) or loaded == "well"
        assert refused
        assert all(one in message and "restore it" in message for message in refused)
        assert what_is_recorded(place).checkpoints[1].artifacts[0].preview["shape"] == [1 << 20]
    overwrite(place, one, data)
    assert (what_is_recorded(place).result == rows).all()


def test_a_blob_that_is_gone_is_named(place):
    run(bytes(1 << 20))
    (key,) = blobs(place)
    place.delete([key])
    execution = what_is_recorded(place)
    with pytest.raises(CorruptionError, match=f"{key} is missing"):
        execution.result
    assert execution.checkpoints[0].artifacts[0].load() == "well"


def test_of_what_is_not_trusted_everything_else_can_be_read(moto_s3, connected, monkeypatch):
    place = connected(moto_s3())

    class Local:
        def __init__(self):
            self.log = print

        def __reduce__(self):
            return (Local, ())

    with pytest.warns(kitaru.KitaruWarning, match="KITARU_TRUST"):
        run(Local())
    execution = what_is_recorded(place)
    good, bad = execution.checkpoints
    (artifact,) = bad.artifacts
    with pytest.raises(UntrustedValueError, match="KITARU_TRUST"):
        artifact.load()
    assert (bad.status, bad.failure, artifact.kind) == ("completed", None, "pickle")
    assert "Local" in artifact.preview["type"]
    assert set(artifact.to_json()) == {"$pickle"}
    assert execution.lineage().has_edge("x:bad#1", f"sha256:{artifact.digest}", key="generated")
    assert good.artifacts[0].load() == "well"
    lazy = artifact.lazy()
    assert lazy.preview == artifact.preview
    with pytest.raises(UntrustedValueError):
        lazy.load()
    monkeypatch.setenv("KITARU_TRUST", place.url)
    assert type(artifact.load()).__name__ == "Local"


# ---------------------------------------------------------------- what is downloaded


def test_listing_showing_and_lineage_download_no_value(place):
    @checkpoint
    def rows():
        return np.arange(1 << 20)

    @checkpoint
    def chat():
        return [{"role": "user", "content": f"{n} " * 300} for n in range(1000)]

    @checkpoint
    def use(rows, chat):
        kitaru.save("both", {"chat": chat, "n": len(rows)})
        return len(chat)

    @flow
    def body():
        return use(rows(), chat())

    body.options(exec_id="x").run()
    place.log.clear()
    client = KitaruClient(place)
    assert [s.exec_id for s in client.executions.list()] == ["x"]
    execution = client.executions.get("x")
    for artifact in client.artifacts.list("x"):
        assert repr(artifact)
        assert artifact.preview
        assert artifact.address
        assert artifact.lazy().preview == artifact.preview
    for c in execution.checkpoints:
        assert (c.status, c.source is None, list(c.inputs)) is not None
    assert len(execution.lineage()) > 3
    assert len(kitaru.lineage("x")) > 3
    assert not [operation for operation in place.log if operation.key.startswith("blobs/")]
    assert client.artifacts.get("x:rows").lazy()[0] == 0
    (fetched,) = [operation for operation in place.log if operation.key.startswith("blobs/")]
    assert fetched.key in {blob_key(bytes.fromhex(key[-64:])) for key in blobs(place)}
