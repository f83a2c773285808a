# ruff: noqa: E501, DTZ001 - tables of values read best when they are dense
"""Arrow and polars: what comes back is equal, and equal values have one spelling."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings, strategies as st
from shelf import Shelf, digest, digests_elsewhere, kind, there_and_back

from kitaru.codecs import Buffer, decode, encode
from kitaru.codecs.forms import Nested
from kitaru.codecs.tables import LazyTable
from kitaru.errors import CorruptionError, KitaruError, UnrecordableValueError, UsageError

often = settings(max_examples=60)

INT8 = pa.int8()
ARRAYS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False] * 5),
    "int64": pa.array([1, None, 3]),
    "uint8": pa.array([1, None, 3], pa.uint8()),
    "float16": pa.array([np.float16(1), None], pa.float16()),
    "float64": pa.array([1.0, float("nan"), None, -0.0]),
    "decimal32": pa.array([decimal.Decimal("1.5"), None], pa.decimal32(5, 2)),
    "decimal128": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-1.5")]),
    "decimal256": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(50, 2)),
    "date32": pa.array([dt.date(2020, 1, 1), None]),
    "date64": pa.array([dt.date(2020, 1, 1), None], pa.date64()),
    "time32": pa.array([1, None], pa.time32("s")),
    "time64": pa.array([1, None], pa.time64("ns")),
    "timestamp": pa.array([dt.datetime(2020, 1, 1), None], pa.timestamp("ms", "Europe/Berlin")),
    "duration": pa.array([1, None], pa.duration("s")),
    "months": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "string": pa.array(["a", None, "é", ""]),
    "large_string": pa.array(["a", None], pa.large_string()),
    "string_view": pa.array(["a", None, "b" * 40], pa.string_view()),
    "binary": pa.array([b"a", None]),
    "binary_view": pa.array([b"a", None, b"c" * 40], pa.binary_view()),
    "fixed_binary": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "no_bytes": pa.array([b"", None], pa.binary(0)),
    "list": pa.array([[1], None, [2, None], []]),
    "large_list": pa.array([[1], None, [2, None], []], pa.large_list(INT8)),
    "list_view": pa.array([[1], None, [2, 3]], pa.list_view(INT8)),
    "large_list_view": pa.array([[1], None, [2, 3]], pa.large_list_view(INT8)),
    "fixed_list": pa.array([[1, 2], None, [3, 4]], pa.list_(INT8, 2)),
    "fixed_list_of_none": pa.array([[], None], pa.list_(INT8, 0)),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "no_fields": pa.array([{}, None], pa.struct([])),
    "map": pa.array([[("a", 1)], None, [("b", 2), ("c", None)]], pa.map_(pa.string(), INT8)),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "ordered": pa.DictionaryArray.from_arrays(pa.array([1, 0], INT8), ["a", "b"], ordered=True),
    "runs": pc.run_end_encode(pa.array([1, 1, None, 2])),
    "sparse_union": pa.UnionArray.from_sparse(pa.array([0, 1, 0], INT8), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]),
    "dense_union": pa.UnionArray.from_dense(pa.array([0, 1, 0], INT8), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["a"])]),
    "uuid": pa.array([b"a" * 16, None], pa.uuid()),
    "json": pa.array(["{}", None], pa.json_()),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], INT8)),
    "opaque": pa.ExtensionArray.from_storage(pa.opaque(INT8, "a", "b"), pa.array([1], INT8)),
    "tensor": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(INT8, [2, 2], dim_names=["a", "b"], permutation=[1, 0]), pa.array([[1, 2, 3, 4], None], pa.list_(INT8, 4))),
    "deep": pa.array([[{"a": [{"b": ["x", None]}]}], None, []]),
    "long": pa.array([*range(5000), None]),
    "nothing": pa.array([], pa.list_(pa.string())),
}  # fmt: skip
POLARS = [
    pl.Series("a", ["x", None, "y"], dtype=pl.Categorical), pl.Series("a", ["x", "y"], dtype=pl.Enum(["y", "x"])),
    pl.Series("a", ["x"], dtype=pl.Categorical(pl.Categories("q", "ns", pl.UInt8))),
    pl.Series("a", [2**100, None], dtype=pl.Int128), pl.Series("a", [1, 2], dtype=pl.UInt128), pl.Series("", [1, None]),
    pl.Series("a", ["1.5"]).cast(pl.Decimal(10, 2)), pl.Series("a", [[1, 2], None], dtype=pl.Array(pl.Int8, 2)),
    pl.Series("a", [{"a": 1, "b": "x"}, None]), pl.Series("a", [None]), pl.Series("a", ["x", None]), pl.Series("a", [b"x"]),
    pl.Series("a", [[["x"]], None], dtype=pl.List(pl.List(pl.Categorical))), pl.Series("a", [True, None]),
    pl.Series("a", [1, None], dtype=pl.Int64).cast(pl.Datetime("ms", "Europe/Berlin")), pl.Series("a", [1.0, float("nan"), None]),
    pl.Series("a", [1, None], dtype=pl.Int64).cast(pl.Duration("ns")), pl.Series("a", [1, None], dtype=pl.Int64).cast(pl.Time),
    pl.Series("a", [1, None], dtype=pl.Int32).cast(pl.Date), pl.Series("a", [1.5, None], dtype=pl.Float16),
    pl.Series("a", [[], None], dtype=pl.Array(pl.Int8, 0)), pl.Series("a", [[[], []], None], dtype=pl.Array(pl.Int8, (2, 0))),
    pl.Series("a", [[[]]], dtype=pl.List(pl.Array(pl.Enum(["x"]), 0))), pl.Series("a\0b", [1]),
    pl.Series("a", [], dtype=pl.String), pl.Series("a", [{"a": ["x"]}], dtype=pl.Struct({"a": pl.List(pl.Enum(["x"]))})),
]  # fmt: skip
named = pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
polars = pytest.mark.parametrize("series", POLARS, ids=lambda s: str(s.dtype))


def same(a, b):
    return a.type == b.type and a.to_pylist().__repr__() == b.to_pylist().__repr__()


@named
def test_an_array_comes_back_however_it_was_sliced(array):
    for part in (array, array[1:], array[:-1], array[1:-1], array[:0]):
        back = there_and_back(part)
        back.validate(full=True)
        assert same(back, part)


@named
def test_a_slice_is_written_as_what_it_holds(array):
    for part in (array[1:], array[1:-1]):
        assert digest(part) == digest(pa.concat_arrays([part]))


@named
def test_chunks_make_no_difference_and_a_chunked_array_is_another_type(array):
    chunks = pa.chunked_array([array[:1], array[1:]])
    assert digest(chunks) == digest(pa.chunked_array([array]))
    assert digest(chunks) != digest(array)
    assert same(there_and_back(chunks), chunks)


@named
def test_types_fields_tables_and_batches_come_back(array):
    field = pa.field("a", array.type, nullable=array.type == pa.null(), metadata={"k": "v"})
    schema = pa.schema([pa.field("a", array.type), pa.field("a", INT8)], metadata={"x": "y", "a": "b"})
    assert there_and_back(array.type) == array.type
    assert there_and_back(field).equals(field, check_metadata=True)
    assert there_and_back(schema).equals(schema, check_metadata=True)
    twice = [array, pa.nulls(len(array), INT8)]
    for cls in (pa.Table, pa.RecordBatch):
        table = cls.from_arrays(twice, schema=schema)
        back = there_and_back(table)
        assert back.schema.equals(schema, check_metadata=True)
        assert same(back.column(0), table.column(0))
        assert there_and_back(table.select([])).num_rows == table.num_rows


@named
def test_scalars_come_back(array):
    if isinstance(array, (pa.UnionArray, pa.RunEndEncodedArray)):
        assert kind(array[0]) == "pickle"
        return
    for scalar in array[:3]:
        back = there_and_back(scalar)
        assert back.type == scalar.type
        assert repr(back.as_py()) == repr(scalar.as_py())


def test_all_differ():
    assert len({digest(array) for array in ARRAYS.values()}) == len(ARRAYS)
    assert len({digest(series) for series in POLARS}) == len(POLARS)


def test_what_nobody_can_see_is_no_part_of_an_array():
    def raw(kind, *buffers, children=None):
        return pa.Array.from_buffers(kind, 3, [pa.py_buffer(b) for b in buffers], children=children)

    valid, offsets = b"\xfd", np.array([1, 2, 4, 5], "i4")
    same_bytes = [
        (raw(pa.int64(), valid, np.array([1, 9, 3, 7])), pa.array([1, None, 3])),
        (raw(pa.bool_(), valid, b"\xff"), pa.array([True, None, True])),
        (raw(pa.string(), valid, offsets, b"?a__b??"), pa.array(["a", None, "b"])),
        (raw(pa.decimal128(3), valid, np.array([1, 0, 9, 9, 3, 0])), pa.array([1, None, 3], pa.decimal128(3))),
        (raw(pa.list_(INT8), valid, offsets, children=[pa.array([9, 1, 9, 9, 2, 9], INT8)]), pa.array([[1], None, [2]], pa.list_(INT8))),
        (raw(pa.list_(INT8, 1), valid, children=[pa.array([1, 9, 2], INT8)]), pa.array([[1], None, [2]], pa.list_(INT8, 1))),
        (raw(pa.struct([("a", INT8)]), valid, children=[pa.array([1, 9, 2], INT8)]), pa.array([{"a": 1}, None, {"a": 2}], pa.struct([("a", INT8)]))),
        (raw(pa.int64(), b"\xff", np.array([1, 2, 3])), pa.array([1, 2, 3])),
        (pa.ListViewArray.from_arrays([2, 0, 1], [1, 1, 0], pa.array([5, 8, 6])), pa.array([[6], [5], []], pa.list_view(pa.int64()))),
        (pa.UnionArray.from_sparse(pa.array([0, 1], INT8), [pa.array([1, 2]), pa.array([3, 4])]), pa.UnionArray.from_sparse(pa.array([0, 1], INT8), [pa.array([1, 9]), pa.array([9, 4])])),
        (pa.RunEndEncodedArray.from_arrays([1, 2, 3], [5, 5, 6]), pa.RunEndEncodedArray.from_arrays([2, 3], [5, 6])),
    ]  # fmt: skip
    for one, other in same_bytes:
        assert digest(one) == digest(other), other.type
        assert same(there_and_back(one), other)


def test_an_array_as_it_lies_in_memory_is_not_copied():
    for array in (pa.array(np.arange(10_000.0)), pa.array(["x" * 10] * 1000, pa.large_string())):
        from kitaru.codecs.columns import former

        views = [part.view for part in former(type(array))(array) if isinstance(part, Buffer)]
        own = [buffer.address for buffer in array.buffers() if buffer is not None]
        assert [np.frombuffer(view, "u1").ctypes.data for view in views] == own


def test_a_type_of_another_library_is_pickled():
    import pandas as pd

    periods = pa.array(pd.period_range("2020", periods=2, freq="M"))
    assert kind(periods) == "pickle"


@polars
def test_polars_come_back(series):
    back = there_and_back(series)
    assert back.equals(series, check_dtypes=True, check_names=True, null_equal=True)
    frame = pl.DataFrame({"q": series, "r": series})
    again = there_and_back(frame)
    assert again.equals(frame)
    assert again.schema == frame.schema
    assert there_and_back(series.dtype) == series.dtype
    assert there_and_back(frame.schema) == frame.schema
    rest = pl.Series(series.name, series[1:].to_list(), dtype=series.dtype)
    assert digest(series[1:]) == digest(rest)


def test_a_frame_of_no_columns_has_its_height():
    assert there_and_back(pl.DataFrame(height=4)).height == 4


def test_categories_do_not_depend_on_the_order_they_were_met_in():
    one = pl.Series(["b", "a"], dtype=pl.Categorical)
    pl.Series(["zz", "a", "b"], dtype=pl.Categorical)
    assert digest(one) == digest(pl.Series(["zz", "b", "a"], dtype=pl.Categorical)[1:])


def test_a_lazy_frame_is_refused_with_what_to_do():
    lazy = pl.LazyFrame({"a": [1]})
    for value, place in (({"q": [lazy]}, 'output["q"][0]'), (lazy.group_by("a"), "output")):
        with pytest.raises(UnrecordableValueError, match=r"lazy object.*collect\(\)") as caught:
            encode(value)
        assert str(caught.value).startswith(place)


def test_a_lazy_frame_as_an_argument_counts_by_its_plan():
    one, other = (encode(pl.LazyFrame({"a": [n]}), otherwise="refer") for n in (1, 2))
    assert one.kind == "pickle"
    assert one.digest != other.digest


@pytest.mark.parametrize("kind", [pa.table, pa.record_batch, pl.DataFrame], ids=["table", "batch", "polars"])
def test_one_column_of_a_table_is_read_alone(kind):
    table = kind({"a": np.arange(5000), "b": [f"row {n}" for n in range(5000)], "c": np.zeros(5000)})
    shelf = Shelf()
    lazy = LazyTable(shelf.keep(table).root, source=shelf, trusted=False)
    assert lazy.columns == ["a", "b", "c"]
    assert lazy.dtypes == list(table.dtypes if kind is pl.DataFrame else table.schema.types)
    assert len(lazy) == 5000
    assert repr(lazy) == "<LazyTable of 5,000 rows, 3 columns>"
    assert not shelf.fetched
    column = lazy["b"]
    assert len(shelf.fetched) == 2
    assert column.equals(table["b"])
    assert type(column) is type(table["b"])
    assert lazy.load().equals(table)
    with pytest.raises(KeyError):
        lazy["d"]


def test_only_a_table_is_read_by_columns():
    with pytest.raises(UsageError, match="load it whole"):
        LazyTable(encode({"a": 1}).data, source=Shelf(), trusted=False)


def test_another_process_reads_the_same():
    values = [*ARRAYS.values(), *POLARS, pa.table({"a": [1]}), *(a.type for a in ARRAYS.values())]
    for seed in (0, 77):
        there, here = digests_elsewhere(values, seed)
        assert there == here


def test_a_new_column_is_all_that_is_new():
    frame = pl.DataFrame({"a": np.arange(100_000), "b": [f"row {n}" for n in range(100_000)]})
    shelf = Shelf()
    shelf.keep(frame)
    before = shelf.size
    shelf.keep(frame.with_columns(c=pl.col("a") * 1.5))
    assert 0 <= shelf.size - before - 800_000 < 4000


def test_what_arrow_would_not_survive_is_refused():
    keys = pa.array([{"key": "a", "value": 1}], pa.struct([("key", pa.string()), ("value", INT8)]))
    no_keys = pa.array([{"key": None, "value": 1}], keys.type)
    offsets, union = Buffer(memoryview(b"\0\0\0\0\1\0\0\0")), ARRAYS["dense_union"].type
    wrong = [
        ["arrow.array", pa.map_(pa.string(), INT8), 1, None, offsets, no_keys],
        ["arrow.type", "dense_union", [0, -1], *map(union.field, range(2))],
        ["arrow.array", pa.string_view(), 1, None, Buffer(memoryview(b"\0" * 15 + b"\1")), Buffer(memoryview(b"a"))],
        ["arrow.array", pa.string(), 1, None, offsets, Buffer(memoryview(b"\xff"))],
        ["arrow.array", pa.list_(pa.string()), 1, None, offsets, pa.array([1])],
        ["arrow.array", pa.int64(), 1 << 40, None, Buffer(memoryview(b"\0" * 8))],
        ["arrow.array", pa.null(), 1, pa.int64()],
        ["polars.frame", 2, pl.Series([1])],
    ]
    assert there_and_back(pa.nulls(3)).null_count == 3
    for form in wrong:
        with pytest.raises(CorruptionError):
            decode(Shelf().keep(Nested(form)).root, trusted=False)
    null = encode(Nested(["arrow.array", pa.null(), 1 << 47]), otherwise="refuse").data
    assert len(decode(null, trusted=False)) == 1 << 47  # and takes no memory


# ---- over random values, and random damage -----------------------------------------------------------------------

leaf = st.sampled_from(
    [pa.int32(), pa.float64(), pa.string(), pa.large_binary(), pa.bool_(), pa.timestamp("us"), pa.binary(3)]
)
cells = {
    pa.int32(): st.integers(-9, 9), pa.float64(): st.floats(), pa.string(): st.text(max_size=3), pa.large_binary(): st.binary(max_size=3),
    pa.bool_(): st.booleans(), pa.timestamp("us"): st.datetimes(), pa.binary(3): st.binary(min_size=3, max_size=3),
}  # fmt: skip


def grow(kinds):
    return st.one_of(
        kinds.map(pa.list_), kinds.map(pa.large_list), kinds.map(pa.list_view), kinds.map(lambda k: pa.list_(k, 2)),
        st.lists(kinds, max_size=3).map(lambda ks: pa.struct([(str(n), k) for n, k in enumerate(ks)])),
    )  # fmt: skip


def values_of(kind):
    if kind in cells:
        some = cells[kind]
    elif pa.types.is_fixed_size_list(kind):
        some = st.lists(values_of(kind.value_type), min_size=2, max_size=2)
    elif pa.types.is_struct(kind):
        some = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    else:
        some = st.lists(values_of(kind.value_type), max_size=3)
    return st.none() | some


arrays = st.recursive(leaf, grow, max_leaves=4).flatmap(
    lambda kind: st.lists(values_of(kind), max_size=12).map(lambda cells: pa.array(cells, kind))
)


@often
@given(arrays, st.data())
def test_any_array_comes_back_and_its_parts_are_written_alike(array, data):
    start = data.draw(st.integers(0, len(array)))
    stop = data.draw(st.integers(start, len(array)))
    part = array[start:stop]
    assert same(there_and_back(array), array)
    assert same(there_and_back(part), part)
    assert digest(part) == digest(pa.array(part.to_pylist(), part.type))
    assert digest(pa.chunked_array([array[:start], array[start:]])) == digest(pa.chunked_array([array]))


@settings(max_examples=400)
@given(st.sampled_from([*ARRAYS.values(), *POLARS, pa.table({"a": [1], "b": ["x"]})]), st.data())
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
    if hasattr(back, "validate"):
        back.validate(full=True)
