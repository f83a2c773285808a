# ruff: noqa: E501 - tables of values read best when they are dense
"""pandas: what comes back is equal and of the same types, and equal frames have one spelling."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import resource
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pandas.testing as tm
import pyarrow as pa
import pytest
import pytz
from hypothesis import given, settings, strategies as st
from hypothesis.extra import pandas as pdst
from shelf import Shelf, digest, digests_elsewhere, kind, there_and_back

from kitaru.codecs.tables import LazyTable
from kitaru.errors import KitaruError

often = settings(max_examples=60)
N = 600
ODD = [
    1,
    1.0,
    True,
    "x",
    (1,),
    None,
    float("nan"),
    pd.NaT,
    pd.NA,
    b"b",
    [1, {"a": 2}],
    decimal.Decimal("1.0"),
    dt.date(2020, 1, 1),
    2**70,
    "\ud800",
]


def objects(cells):
    made = np.empty(len(cells), object)
    for at, cell in enumerate(cells):
        made[at] = cell
    return pd.Series(made, dtype=object)


def twice(*cells):
    return list(cells) * (N // len(cells))


COLUMNS = {
    "float64": np.arange(N) * 1.0,
    "float32": np.arange(N, dtype="f4"),
    "int8": np.arange(N).astype("i1"),
    "bool": np.arange(N) % 2 == 0,
    "complex": np.arange(N) * 1j,
    "nan": np.array(twice(np.nan, -0.0, np.inf)),
    "text objects": objects(twice("a", "é", "ü" * 9)),
    "text objects with none": objects(twice("a", None, float("nan"))),
    "text objects with NA": objects(twice("a", None, pd.NA, pd.NaT)),
    "mixed objects": objects(twice(*ODD)),
    "plain objects": objects(twice(1, 2.5, "x", None, [1, ["a"]], {"k": [1]})),
    "bytes objects": objects(twice(b"a" * 9, bytearray(b"a" * 9))),
    "str": pd.Series(twice("é", None), dtype="str"),
    "string": pd.Series(twice("a", None), dtype="string"),
    "str in python": pd.Series(twice("é", None), dtype=pd.StringDtype("python", na_value=np.nan)),
    "string in python": pd.Series(twice("é", None), dtype=pd.StringDtype("python")),
    "arrow ints": pd.Series(twice(1, None), dtype="int64[pyarrow]"),
    "arrow text": pd.Series(twice("q", None), dtype=pd.ArrowDtype(pa.string())),
    "arrow lists": pd.Series(twice([1], None), dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "Int64": pd.Series(twice(1, None), dtype="Int64"),
    "UInt8": pd.Series(twice(1, 2), dtype="UInt8"),
    "Float32": pd.Series(twice(1.5, None), dtype="Float32"),
    "boolean": pd.Series(twice(True, None), dtype="boolean"),
    "category": pd.Categorical(twice("x", "y", None), categories=["y", "x", "z"], ordered=True),
    "category of ints": pd.Categorical(twice(3, 1)),
    "category of intervals": pd.cut(np.arange(N), 3),
    "zone": pd.date_range("2020", periods=N, tz="Europe/Berlin"),
    "fixed zone": pd.to_datetime(twice("2020-01-01T00:00+05:00")),
    "pytz": pd.date_range("2020", periods=N, tz=pytz.timezone("Europe/Berlin")),
    "dateutil": pd.date_range("2020", periods=N, tz="dateutil/Europe/Berlin"),
    "datetime": pd.DatetimeIndex(twice("2020-01-01", None)).as_unit("ns"),
    "seconds": pd.DatetimeIndex(twice("1000-01-01", "3000-01-01")).as_unit("s"),
    "timedelta": pd.to_timedelta(range(N)),
    "period": pd.period_range("2000", periods=N, freq="M"),
    "interval": pd.interval_range(0, N),
    "interval of times": pd.interval_range(pd.Timestamp("2020", tz="UTC"), periods=N, closed="left"),
    "sparse": pd.arrays.SparseArray(twice(0, 1, 0)),
    "sparse floats": pd.arrays.SparseArray(twice(np.nan, 1.0), kind="block"),
}  # fmt: skip
NO_INDEX = {"sparse", "sparse floats"}
named = pytest.mark.parametrize("name", COLUMNS)


def check(back, frame):
    tm.assert_frame_equal(back, frame, check_exact=True, check_freq=True, check_flags=True)
    assert list(map(repr, back.dtypes)) == list(map(repr, frame.dtypes))
    assert back.attrs == frame.attrs
    for one, other in ((back.index, frame.index), (back.columns, frame.columns)):
        assert type(one) is type(other)
        assert repr(one.dtype) == repr(other.dtype)
        assert list(one.names) == list(other.names)
        assert list(map(type, one.names)) == list(map(type, other.names))
    for at in range(frame.shape[1]):
        assert list(map(type, back.iloc[:, at])) == list(map(type, frame.iloc[:, at]))


@named
def test_a_column_comes_back(name):
    frame = pd.DataFrame({"a": COLUMNS[name], "b": 1})
    frame.attrs["u"] = (1, {"x"})
    check(there_and_back(frame), frame)
    check(there_and_back(frame.iloc[:3]), frame.iloc[:3])
    check(there_and_back(frame.iloc[:0]), frame.iloc[:0])
    series = frame["a"].rename(("t", 1))
    back = there_and_back(series)
    tm.assert_series_equal(back, series, check_exact=True, check_freq=True)
    assert back.attrs == series.attrs
    tm.assert_extension_array_equal(there_and_back(series.array), series.array)
    there_and_back(series.dtype)


@pytest.mark.parametrize(
    "name", [name for name in COLUMNS if name not in NO_INDEX | {"plain objects", "mixed objects", "bytes objects"}]
)
def test_an_index_comes_back(name):
    frame = pd.DataFrame({"a": range(N)}, index=pd.Index(COLUMNS[name], name="i"))
    check(there_and_back(frame), frame)
    tm.assert_index_equal(there_and_back(frame.index), frame.index, exact=True)


FRAMES = {
    "duplicate names": pd.DataFrame([[1, 2.0]], columns=["a", "a"]),
    "labels of several types": pd.DataFrame([[1, 2, 3]], columns=pd.Index([1, "a", (1, 2)], dtype=object)),
    "tuples": pd.DataFrame([[1, 2]], columns=pd.Index([(1, 2), (3, 4)], tupleize_cols=False)),
    "multiindex": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["p", None])),
    "multiindex of columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", 1.5), ("y", None)])),
    "steps": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(6, 0, -3, name="r")),
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="Int64"), "b": pd.Series([], dtype=object)}),
    "no columns": pd.DataFrame(index=pd.Index(["a", "b"], name="q")),
    "no columns, with names": pd.DataFrame(columns=pd.Index([], dtype="int64", name="n")),
    "names of axes": pd.DataFrame([[1]], columns=pd.Index(["a"], name=("c", 1)), index=pd.Index([1.5], name=0)),
    "numbered": pd.DataFrame(np.arange(6).reshape(2, 3)),
    "frequency": pd.DataFrame({"a": range(3)}, index=pd.date_range("2020-03-28", periods=3, freq="D", tz="Europe/Berlin")),
    "business months": pd.DataFrame({"a": range(3)}, index=pd.date_range("2020", periods=3, freq="BME")),
    "lengths": pd.DataFrame({"a": range(3)}, index=pd.timedelta_range("1h", periods=3, freq="2h")),
    "categories": pd.DataFrame({"a": range(2)}, index=pd.CategoricalIndex(["b", "a"], categories=["b", "a", "c"], ordered=True)),
    "no repeats": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "rows of a matrix": pd.DataFrame(np.arange(6000.0).reshape(2000, 3), columns=list("abc")),
    "every other": pd.DataFrame({"a": range(9), "b": list("abcdefghi")}).iloc[::2],
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back(name):
    check(there_and_back(FRAMES[name]), FRAMES[name])


SCALARS = [
    pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01").as_unit("ns"), pd.Timestamp("2020-01-01").as_unit("s"), pd.Timestamp("2020-01-01", tz="UTC"),
    pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin"), pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin"),
    pd.Timestamp("2020-01-01", tz=dt.timezone(dt.timedelta(hours=5))), pd.Timestamp("2020-01-01", tz=pytz.timezone("Europe/Berlin")), pd.Timestamp("2020-01-01", tz=pytz.FixedOffset(60)),
    pd.Timestamp("2020-01-01", tz="dateutil/Europe/Berlin"), pd.Timestamp(1, unit="s").as_unit("s"),
    pd.Timedelta("1s"), pd.Timedelta("1s").as_unit("ns"), pd.Timedelta(-1, unit="ns"), pd.Period("2020-01", "M"), pd.Period("2020-01-01", "2D"), pd.Period("2020-01", "Q-FEB"),
    pd.NaT, pd.NA, pd.Interval(1, 2), pd.Interval(1.0, 2.0), pd.Interval(1, 2, closed="both"), pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021")),
    pd.offsets.Day(2), pd.offsets.MonthEnd(), pd.offsets.Week(weekday=2), pd.offsets.QuarterEnd(startingMonth=2),
]  # fmt: skip
DTYPES = [
    pd.CategoricalDtype(), pd.CategoricalDtype(["a", "b"]), pd.CategoricalDtype(["b", "a"], ordered=True), pd.CategoricalDtype([1, 2]), pd.DatetimeTZDtype("ns", "UTC"),
    pd.DatetimeTZDtype("s", "Europe/Berlin"), pd.PeriodDtype("M"), pd.PeriodDtype("2D"), pd.IntervalDtype(), pd.IntervalDtype("int64", "left"),
    pd.IntervalDtype(pd.DatetimeTZDtype("ns", "UTC"), "left"), pd.SparseDtype("int64"), pd.SparseDtype("int64", 1), pd.SparseDtype("float32"), pd.SparseDtype(bool), pd.StringDtype("python"), pd.StringDtype("pyarrow"),
    pd.StringDtype("python", na_value=np.nan), pd.StringDtype("pyarrow", na_value=np.nan), pd.ArrowDtype(pa.list_(pa.int8())), pd.Int8Dtype(), pd.Float64Dtype(), pd.BooleanDtype(),
]  # fmt: skip


def test_scalars_dtypes_and_offsets_come_back():
    for value in SCALARS + DTYPES:
        back = there_and_back(value)
        assert repr(back) == repr(value)
        assert back is value or back == value
        if isinstance(value, pd.Timestamp):
            assert (back.unit, back.fold, type(back.tz)) == (value.unit, value.fold, type(value.tz))
    assert len({digest(value) for value in SCALARS + DTYPES}) == len(SCALARS + DTYPES)


def test_all_differ():
    frames = [*(pd.DataFrame({"a": column}) for column in COLUMNS.values()), *FRAMES.values()]
    assert len({digest(frame) for frame in frames}) == len(frames)


def test_what_differs_in_little_differs():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.date_range("2020", periods=2, freq="D"))
    changed = [
        frame.astype({"a": "int32"}), frame.astype({"a": "Int64"}), frame.astype({"b": object}), frame[["b", "a"]], frame.iloc[::-1],
        frame.rename(columns={"a": "A"}), frame.rename_axis("i"), frame.rename_axis("c", axis=1), frame.set_axis(pd.DatetimeIndex(list(frame.index))),
        frame.set_flags(allows_duplicate_labels=False), frame.tz_localize("UTC"), frame.set_axis(frame.index.as_unit("ns")), frame.reset_index(),
    ]  # fmt: skip
    noted = frame.copy()
    noted.attrs["a"] = 1
    assert len({digest(f) for f in [frame, noted, *changed]}) == len(changed) + 2
    cells = [[cell, 1] for cell in (None, float("nan"), pd.NA, pd.NaT, "nan", 0, 0.0, -0.0, False, "", [], (), {})]
    assert len({digest(objects(c)) for c in cells}) == len(cells)
    long = [[*["text"] * 1000, cell] for cell in (None, float("nan"), pd.NA, pd.NaT, "nan", b"nan", bytearray(b"nan"))]
    assert len({digest(objects(c)) for c in long}) == len(long)


def test_what_nobody_can_see_is_no_part_of_a_frame():
    hidden = pd.arrays.IntegerArray(np.array([1, 99]), np.array([False, True]))
    sparse = pd.arrays.SparseArray([0, 1, 0])
    stored = pd.arrays.SparseArray(np.array([0, 1, 2])) * pd.arrays.SparseArray(np.array([5, 1, 0]))
    pairs = [
        (pd.Series(hidden), pd.Series([1, None], dtype="Int64")),
        (pd.Series([9, 1, None], dtype="int64[pyarrow]")[1:].reset_index(drop=True), pd.Series([1, None], dtype="int64[pyarrow]")),
        (pd.concat([pd.Series(["a"]), pd.Series([None, "b"], dtype="str")], ignore_index=True), pd.Series(["a", None, "b"])),
        (pd.DataFrame(np.arange(6).reshape(2, 3), columns=list("abc")), pd.DataFrame({"a": [0, 3], "b": [1, 4], "c": [2, 5]})),
        (pd.Series(stored), pd.Series(sparse)),
    ]  # fmt: skip
    for one, other in pairs:
        assert digest(one) == digest(other)


@pytest.mark.parametrize("kind", ["f4", "f8", "c16"])
def test_a_zero_of_the_other_sign_that_a_sparse_array_stores_is_kept(kind):
    def sparse(*values):
        made = pd.arrays.SparseArray(np.array([1, 2, 0], kind), fill_value=0)
        made.sp_values[:] = values
        return made

    negative, positive = sparse(-0.0, 2), sparse(0.0, 2)
    assert digest(negative) != digest(positive)
    assert digest(positive) == digest(pd.arrays.SparseArray(np.array([0, 2, 0], kind), fill_value=0))
    back = np.asarray(there_and_back(negative))
    assert back.tobytes() == np.asarray(negative).tobytes()


@pytest.mark.parametrize("missing", [np.nan, pd.NA])
def test_texts_of_a_class_of_their_own_stay_what_they_are(missing):
    texts = pd.Series([np.str_("a"), "b", None], dtype=pd.StringDtype("python", na_value=missing))
    back = there_and_back(texts)
    assert [type(text) for text in back.array[:2]] == [type(text) for text in texts.array[:2]] == [np.str_, str]
    tm.assert_series_equal(back, texts)


class Map(pd.DataFrame):
    _metadata = ("crs",)
    crs = None

    @property
    def _constructor(self):
        return Map


def test_what_has_no_data_form_is_pickled_as_a_whole():
    frame = Map({"a": [1]})
    frame.crs = 4326
    for value in (frame, pd.DataFrame({"a": objects([object()])}), pd.DataFrame({"a": [1]}).groupby("a")):
        assert kind(value) == "pickle"
    holidays = pd.offsets.CustomBusinessDay(holidays=["2020-01-02"])
    for offset in (holidays, pd.offsets.BusinessHour(start="10:00"), pd.DateOffset(months=2)):
        assert kind(offset) == "pickle"
    dated = pd.DataFrame({"a": range(2)}, index=pd.date_range("2020", periods=2, freq=holidays))
    assert kind(dated) == "pickle"


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (pd.DataFrame({"a": [1.5, 2.5], "c": objects(["x", LOCK])}), 'output["c"][1]'),
        (pd.DataFrame([[1, LOCK]], columns=["a", "a"]), 'output["a"][0]'),
        (pd.DataFrame({("x", 1): [1], ("x", 2): [LOCK]}), "output[column 1][0]"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([LOCK], dtype=object)), "output.index[0]"),
        (pd.DataFrame([[1]], columns=[LOCK]), "output.columns[0]"),
        (pd.Series([1, LOCK]), "output[1]"),
        (pd.Series([1], index=[LOCK]), "output.index[0]"),
    ],
)
def test_the_place_of_what_cannot_be_recorded_is_that_in_the_frame(value, place):
    with pytest.raises(KitaruError, match=re.escape(f"{place} is a _thread:lock")):
        Shelf().keep(value)


def test_another_process_reads_the_same():
    values = [*(pd.DataFrame({"a": column}) for column in COLUMNS.values()), *FRAMES.values(), *SCALARS, *DTYPES]
    for seed in (0, 77):
        there, here = digests_elsewhere(values, seed)
        assert there == here


def test_a_new_column_is_all_that_is_new():
    n = 200_000
    frame = pd.DataFrame({"a": np.arange(n) * 0.1, "b": [f"row {at}" for at in range(n)], "c": np.arange(n)})
    frame["o"] = frame["b"].astype(object)
    shelf = Shelf()
    shelf.keep(frame)
    before = shelf.size
    frame["e"] = 1.5
    frame.loc[0, "e"] = 2.0
    assert len(shelf.keep(frame).root) < 2100
    assert 0 <= shelf.size - before - 8 * n < 4000


def test_a_change_in_place_is_another_frame():
    frame = pd.DataFrame({"a": np.arange(1000.0), "o": objects(["x", None] * 500)})
    before = digest(frame)
    frame.loc[500, "a"] = -1
    between = digest(frame)
    frame.loc[500, "o"] = "y"
    assert len({before, between, digest(frame)}) == 3


@named
def test_one_column_of_a_frame_is_read_alone(name):
    frame = pd.DataFrame({"before": np.arange(N * 9.0)[:N], "a": COLUMNS[name], "after": np.arange(N)})
    frame.attrs["u"] = 1
    shelf = Shelf()
    lazy = LazyTable(shelf.keep(frame).root, source=shelf, trusted=False)
    assert lazy.columns == list(frame.columns)
    assert lazy.dtypes == list(frame.dtypes)
    assert len(lazy) == N
    assert not shelf.fetched
    tm.assert_series_equal(lazy["a"], frame["a"], check_exact=True)
    alone = len(shelf.fetched)
    check(lazy[["a", "after"]], frame[["a", "after"]])
    check(lazy.load(), frame)
    assert len(shelf.fetched) == 3 * alone + 3


def test_columns_are_found_by_any_label():
    levels = pd.DataFrame([[1, 2, 3]], columns=pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)]))
    shelf = Shelf()
    lazy = LazyTable(shelf.keep(levels).root, source=shelf, trusted=False)
    tm.assert_frame_equal(lazy["x"], levels["x"])
    tm.assert_series_equal(lazy["x", 2], levels["x", 2])
    twice = FRAMES["duplicate names"]
    tm.assert_frame_equal(LazyTable(shelf.keep(twice).root, source=shelf, trusted=False)["a"], twice["a"])
    with pytest.raises(KeyError):
        lazy["z"]
    with pytest.raises(TypeError, match="rows"):
        lazy[:1]


@pytest.mark.filterwarnings("ignore:The 'sparse_index' parameter")
@pytest.mark.parametrize("name", sorted(NO_INDEX))
def test_the_one_private_name_is_still_there(name, monkeypatch):
    """`pandas._libs.sparse.IntIndex`: before pandas 3.1, which has `SparseArray.from_indices`, the one way."""
    monkeypatch.delattr(pd.arrays.SparseArray, "from_indices", raising=False)
    tm.assert_extension_array_equal(there_and_back(COLUMNS[name]), COLUMNS[name])


def test_pandas_without_arrow():
    program = """if True:
        import sys
        sys.modules["pyarrow"] = None
        sys.path[:0] = sys.argv[1:]
        import numpy as np, pandas as pd
        from shelf import there_and_back, digest
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.array([1, None], dtype="Int64")})
        assert frame["b"].dtype.storage == "python"
        pd.testing.assert_frame_equal(there_and_back(frame), frame)
        objects = pd.Series(["text", None] * 1000, dtype=object)
        pd.testing.assert_series_equal(there_and_back(objects), objects)
        print(digest(objects).hex())
    """
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(pd.Series(["text", None] * 1000, dtype=object)).hex()


def test_a_million_rows_stay_within_memory():
    program = """if True:
        import sys, resource
        sys.path[:0] = sys.argv[1:]
        import numpy as np, pandas as pd
        from kitaru.codecs import forms
        from kitaru.codecs.frames import former
        n = 1_000_000
        frame = pd.DataFrame({c: np.full(n, 0.5) for c in "abcdefgh"})
        former(pd.DataFrame)(frame.iloc[:10])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parts = former(pd.DataFrame)(frame)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * resource.getpagesize() / 4096 < 10_000  # KB, of 64 MB: nothing is copied


# ---- over random frames, and random damage -----------------------------------------------------------------------

kinds = st.sampled_from(["int64", "float64", "uint8", "bool", "complex128", "datetime64[ns]", "timedelta64[ns]"])
text = st.none() | st.floats() | st.text(max_size=3) | st.sampled_from([pd.NA, pd.NaT])
columns = st.lists(
    st.one_of(
        kinds.map(lambda kind: pdst.column(dtype=kind)),
        st.just(pdst.column(elements=text, dtype=object)),
        st.just(pdst.column(elements=st.text(max_size=4), dtype=object)),
    ),
    max_size=4,
).map(lambda cs: [pdst.column(f"c{at}", c.elements, c.dtype) for at, c in enumerate(cs)])
indexes = st.one_of(
    pdst.range_indexes(max_size=8),
    pdst.indexes(dtype="int64", max_size=8, unique=False),
    pdst.indexes(elements=st.text(max_size=2), max_size=8),
)
frames = columns.flatmap(lambda cs: pdst.data_frames(cs, index=indexes))


@often
@given(frames)
def test_any_frame_comes_back(frame):
    back = there_and_back(frame)
    check(back, frame)
    masked = frame.convert_dtypes()
    check(there_and_back(masked), masked)


@often
@given(frames, frames)
def test_digests_are_equal_exactly_where_frames_are(a, b):
    assert digest(a) == digest(a.copy())
    if digest(a) == digest(b):
        check(b, a)


@settings(max_examples=400)
@given(
    st.sampled_from(
        [*(pd.DataFrame({"a": c}).iloc[:5] for c in COLUMNS.values()), *FRAMES.values(), *SCALARS, *DTYPES]
    ),
    st.data(),
)
def test_damage_is_named_or_makes_another_sound_value(value, data):
    shelf = Shelf()
    root = bytearray(shelf.plain(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(root) - 1))
        root[at] = data.draw(st.integers(0, 255))
    try:
        back = shelf.give(bytes(root))
    except KitaruError:
        return
    assert back is not None
