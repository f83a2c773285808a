# ruff: noqa: DTZ001, E501 - tables of values read best when they are dense, and times are as people write them
"""The digests of fixed values, so that a change of the format cannot pass unseen.

Every digest that was ever written rests on these: where one differs, what was recorded before is no longer found to be
equal. A new format then needs a new number (`kitaru.segments.FORMAT`) and a reader of the old one; the fixture is not
to be adapted. A value that is added is pinned by running this file: it prints what the fixture lacks.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import json
import math
import pathlib
import struct
import uuid
import zoneinfo

import kinds
import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pytest

from kitaru.codecs import Sharer

PINNED = pathlib.Path(__file__).with_name("pinned.json")


def noise(count):
    """Bytes that look like chance, the same on every machine: a linear congruential generator's high bytes."""
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(state >> 56)
    return bytes(out)


def deep(levels):
    made = ()
    for n in range(levels):
        made = [made, n]
    return made


def private():
    made = kinds.Model(n=(1,), extra=[kinds.Model()])
    made._private = {1: 2}
    return made


def values():
    nan = struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0]
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    records = np.dtype([("a", "<i4"), ("b", "S3"), ("c", "<f8", (2,))], align=True)
    record = np.zeros(3, records)
    record["a"], record["b"], record["c"] = [1, 2, 3], [b"x", b"yz", b""], 0.5
    labels, ab = pd.Index(["n", "x", "t"], dtype=object), pd.Index(["a", "b"], dtype=object)
    words = [f"word {n % 7}" * (n % 5) for n in range(500)]
    when = pd.date_range("2026-03-29", periods=6, freq="h", tz=berlin, unit="ns")
    chat = [{"role": ("user", "assistant")[n % 2], "content": f"{n}: " + "word " * (n * 37 % 300)} for n in range(120)]
    return {
        "none": None,
        "true beside one": [True, 1, 1.0, 0.0, -0.0, False, 0],
        "floats": [math.inf, -math.inf, math.nan, nan, 1e-308, 5e-324],
        "integers": [0, 127, 128, 2**63, 2**64 - 1, -1, -33, -(2**63), 2**64, -(10**40)],
        "complex": 1 - 0.0j,
        "text": "é\0\u202e𝄞",
        "surrogates": "a\udc80b",
        "a text in pieces": "".join(f"line {n}\n" * (n % 3) + "x" * (n * 91 % 2_000) for n in range(200)),
        "a line of 40,000": "é" * 20_000,
        "bytes": noise(9_000),
        "bytes in chunks": noise(1_000) * 10_000,
        "bytearray": bytearray(b"a\0"),
        "ellipsis": ...,
        "list": [[], [[]], [None, [1, "a"]]],
        "tuple": ((), (1, (2,))),
        "dict": {"b": 1, "a": 2},
        "dict in another order": {"a": 2, "b": 1},
        "keys of any type": {1: "a", (1, "b"): 2, None: 3, frozenset({1, 2}): 4, b"x": 5, "\ud800": 6, True + 6: 7},
        "set": {"a", "b", 3, (4, 5), None, 2**70},
        "frozenset": frozenset("kitaru"),
        "odict": collections.OrderedDict(b=1, a=2),
        "defaultdict": collections.defaultdict(list, a=[1]),
        "deque": collections.deque([1, 2], 3),
        "range and slice": [range(1, 10, 2), slice(None, 3)],
        "date and times": [dt.date(1, 1, 1), dt.time(1, 2, 3, 4), dt.time(2, fold=1), dt.timedelta(-1, 2, 3)],
        "datetimes": [
            dt.datetime(2026, 1, 2, 3, 4, 5, 6),
            dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=berlin),
            dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-5, microseconds=1), "X")),
        ],
        "decimals": [*map(decimal.Decimal, ["1", "1.00", "-0", "1E+5", "NaN", "sNaN12", "-Infinity"])],
        "fraction": fractions.Fraction(-1, 3),
        "uuid": uuid.UUID(int=7),
        "paths": [pathlib.PurePosixPath("/a/ü"), pathlib.PureWindowsPath("C:\\a")],
        "enums": [kinds.Colour.ODD, kinds.Level.LOW, kinds.Word.HI, kinds.Rights.READ | kinds.Rights.WRITE, kinds.Bits(8)],
        "subclasses": [kinds.Text("x"), kinds.Number(3), kinds.Ratio(-0.0), kinds.Items([1]), kinds.Pairs(a=1)],
        "dataclasses": [kinds.Point(1, (2,)), kinds.Slim("a"), kinds.Box(1), kinds.Outer.Inner([])],
        "attrs": [kinds.Defined(1), kinds.Plain({"a": 1})],
        "named tuples": [kinds.Pair(1), kinds.Old(1, [2])],
        "pydantic": private(),
        "pydantic, nested and generic": [kinds.Strict(name="a", inner=kinds.Model(n=1)), kinds.Holder[list[int]](x=[1])],
        "exceptions": [ValueError("a", 1), FileNotFoundError(2, "no", "file"), kinds.Trouble(1, 2), ExceptionGroup("g", [KeyError(1)])],
        "types": [int, kinds.Point, kinds.Holder[int], list[int], int | None],
        "a chat": chat,
        "a chat, one message longer": [*chat, {"role": "user", "content": "and?"}],
        "a long dict": {f"key {n}": {"n": n, "text": "x" * (n * 13 % 900)} for n in range(400)},
        "a long dict of any keys": {(n, str(n)): {n} for n in range(400)},
        "50,000 small parts": [*range(50_000)],
        "300 deep": deep(300),
        "an array": np.arange(12, dtype="<i4").reshape(3, 4),
        "an array in chunks": np.arange(1_300_000, dtype="<f8"),
        "fortran, empty, no dimension": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 2)), np.array(5, ">i2")],
        "texts, times, bools": [np.array(["a", "bc"]), np.array(["2026-01-01", "NaT"], "M8[ns]"), np.array([True, False])],
        "a structured array": record,
        "objects and a mask": [np.array([None, "x", (1,)], object), np.ma.masked_array([1, 2, 3], [False, True, False])],
        "scalars and dtypes": [np.float32(0.1), np.int64(-1), np.str_("x"), np.datetime64("2026-01-01"), np.dtype("<U5"), records],
        "an image": PIL.Image.frombytes("RGB", (30, 40), noise(3_600)),
        "a frame": pd.DataFrame({"n": np.arange(500), "x": np.arange(500) / 512, "t": pd.Series(words, dtype=object)}).set_axis(labels, axis=1),
        "duplicate names, mixed types": pd.DataFrame([[1, "a"], [None, 2.5]], columns=ab[[0, 0]], dtype=object),
        "nullable, categorical, zones": pd.DataFrame({
            "int": pd.array([1, None, 3] * 2, dtype="Int64"), "bool": pd.array([True, None, False] * 2, dtype="boolean"),
            "kind": pd.Categorical.from_codes([0, 1, -1] * 2, ab, ordered=True), "when": when,
            "word": pd.array(["é", None, ""] * 2, dtype=pd.StringDtype("pyarrow")),
            "list": pd.array([[1], None, []] * 2, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        }).pipe(lambda f: f.set_axis(f.columns.astype(object), axis=1)),
        "a MultiIndex": pd.Series([1.0, math.nan], pd.MultiIndex.from_arrays([ab, [1, 2]], names=["x", "y"]), name="s"),
        "pandas scalars": [pd.Timestamp("2026-01-02 03:04", tz=dt.UTC).as_unit("ns"), pd.Timedelta(1, "s").as_unit("ns"), pd.Period("2026-01", "M"), pd.Interval(0, 1), pd.NA, pd.NaT],
        "arrow": pa.table({"n": [1, None], "s": ["a", None], "l": [[1.5], []], "d": pa.array(["x", "y"]).dictionary_encode()}),
        "polars": pl.DataFrame({"n": [1, None], "s": ["a", None], "l": [[1], []], "e": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"]))}),
    }  # fmt: skip


VALUES = values()


@pytest.fixture(scope="module")
def pinned():
    return json.loads(PINNED.read_text())


@pytest.mark.parametrize("name", VALUES)
def test_a_digest_is_what_it_was(pinned, name):
    shared = Sharer().encode(VALUES[name], otherwise="refuse")
    assert {name: shared.digest.hex()} == {name: pinned.get(name)}


def test_all_that_is_pinned_is_tried_and_no_two_are_alike(pinned):
    assert pinned.keys() == VALUES.keys()
    assert len(VALUES) >= 60
    assert len(set(pinned.values())) == len(pinned)


if __name__ == "__main__":
    known = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    made = {name: Sharer().encode(value, otherwise="refuse").digest.hex() for name, value in VALUES.items()}
    print(json.dumps(made | known, indent=1, ensure_ascii=False))
