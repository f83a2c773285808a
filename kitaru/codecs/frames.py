"""pandas: frames, series, indexes, arrays, dtypes and scalars, each by its own parts.

Never by way of an Arrow table, which would turn an object column into text and lose frequencies, attributes and
duplicate names. What is hidden under a mask is zero. Arrow's own part is left to `columns`, and only where a dtype is
one of Arrow's. A class that extends one of pandas' has no data form. The tags are described in docs/format.md.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import ormsgpack
import pandas as pd

from ..errors import CodeNotFoundError
from .buffers import SMALL, Buffer, Pieces
from .forms import Form, Nested, NoDataFormError
from .node import EXACT, exact

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAKERS", "former"]

_NUMBERS = "biufc"  # kinds of NumPy's dtypes whose values are numbers
_TIMES = "mM"
_TAKEN_FOR_OTHERS = bytes([*range(0xC4, 0xCA), *range(0xD4, 0xD9)])  # what may begin a bin or an extension
_PLAIN_CELLS = {type(None), bool, int, float, str}
_MASKED_DTYPES = (
    pd.BooleanDtype, pd.Float32Dtype, pd.Float64Dtype, pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype,
    pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype,
)  # fmt: skip
_MASKED = {cls.name: cls for cls in _MASKED_DTYPES}


def former(cls: type) -> Callable[[Any], Form] | None:
    """How values of exactly that class of pandas are written; None for those without a data form."""
    form = _FORMERS.get(cls)
    if form is None and issubclass(cls, pd.offsets.BaseOffset):
        return _offset
    return form


# ---- frames, series, indexes --------------------------------------------------------------------------------------


def _frame(v: Any) -> Form:
    columns = [_content(series.array) for _, series in v.items()]
    return ["pandas.frame", len(v), v.index, v.columns, v.attrs or None, v.flags.allows_duplicate_labels, *columns]


def _made_frame(rows: Any, index: Any, columns: Any, attrs: Any, repeat: Any, *contents: Any) -> Any:
    if not isinstance(index, pd.Index) or not isinstance(columns, pd.Index):
        raise TypeError("a frame without axes")
    if len(index) != exact(rows, int) or len(columns) != len(contents):
        raise ValueError("a frame whose axes do not fit it")
    series = {at: _series_of(content, index) for at, content in enumerate(contents)}
    made = pd.DataFrame(series, index=index, copy=False)
    made.columns = columns
    return _flagged(made, attrs, repeat)


def _series(v: Any) -> Form:
    return ["pandas.series", v.index, v.name, v.attrs or None, v.flags.allows_duplicate_labels, _content(v.array)]


def _made_series(index: Any, name: Any, attrs: Any, repeat: Any, content: Any) -> Any:
    if not isinstance(index, pd.Index):
        raise TypeError("a series without an index")
    made = _series_of(content, index)
    made.name = name
    return _flagged(made, attrs, repeat)


def _series_of(content: Any, index: Any) -> Any:
    values = _column(content)
    if len(values) != len(index):
        raise ValueError("a column that is not as long as its index")
    return pd.Series(values, index=index, dtype=values.dtype, copy=False)


def _flagged(made: Any, attrs: Any, repeat: Any) -> Any:
    if attrs is not None:
        made.attrs = exact(attrs, dict)
    if not exact(repeat, bool):
        made.flags.allows_duplicate_labels = False
    return made


def _index(v: Any) -> Form:
    return ["pandas.index", _content(v.array), v.name, getattr(v, "freq", None) if type(v) in _REGULAR else None]


_REGULAR = (pd.DatetimeIndex, pd.TimedeltaIndex)  # whose frequency is no part of their dtype


def _made_index(content: Any, name: Any, freq: Any) -> Any:
    values = _column(content)
    made = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False, copy=False)
    if freq is not None:
        if type(made) not in _REGULAR or not isinstance(freq, pd.offsets.BaseOffset):
            raise TypeError("a frequency where none can be")
        made = type(made)(made, freq=freq)
    return made


def _range_index(v: Any) -> Form:
    return ["pandas.rangeindex", v.start, v.stop, v.step, v.name]


def _made_range_index(start: Any, stop: Any, step: Any, name: Any) -> Any:
    return pd.RangeIndex(exact(start, int), exact(stop, int), exact(step, int), name=name)


def _multi_index(v: Any) -> Form:
    levels = [level.rename(None) for level in v.levels]
    return ["pandas.multiindex", levels, [_flat(np.asarray(codes)) for codes in v.codes], list(v.names), v.sortorder]


def _made_multi_index(levels: Any, codes: Any, names: Any, sortorder: Any) -> Any:
    for level in exact(levels, list):
        if not isinstance(level, pd.Index):
            raise TypeError("a level that is no index")
    return pd.MultiIndex(levels, [_vector(c, "i") for c in exact(codes, list)], sortorder, names)


# ---- the content of a column, an index or an array ----------------------------------------------------------------


def _content(array: Any) -> Any:
    """What stands for pandas' array in its place: NumPy's own where it is one, or the cells, or the array itself."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        values = array.to_numpy()
        if values.dtype.kind in _NUMBERS:
            return _flat(values)
        if values.dtype == object:
            return Nested(_cells(values))
        raise NoDataFormError
    if type(array) is pd.arrays.TimedeltaArray or (type(array) is pd.arrays.DatetimeArray and array.tz is None):
        return _flat(array.to_numpy())
    return array


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values)


def _column(content: Any) -> Any:
    """The array that a content stands for, to give to pandas."""
    if isinstance(content, np.ndarray):
        if content.ndim != 1 or content.dtype.kind not in _NUMBERS + _TIMES + "O":
            raise TypeError("a column that is none")
        return content
    if not isinstance(content, pd.api.extensions.ExtensionArray):
        raise TypeError("a column that is none")
    return content


def _vector(values: Any, kinds: str) -> NDArray[Any]:
    """A NumPy array of one dimension and of these kinds."""
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in kinds:
        raise TypeError("an array where another one was expected")
    return values


# ---- cells: columns of any Python objects -------------------------------------------------------------------------


def _cells(values: NDArray[Any]) -> Form:
    """Objects: as plain data in a buffer where they are that, else each as a value.

    The buffer is what the list of them would be as a node. `NA` and `NaT` are nil in it, and are told from None by a
    second buffer. So a column of text costs one pass of ormsgpack, which takes exact builtin types alone.
    """
    cells = values.tolist()
    kinds = None
    data = _packed(cells)
    if data is None:
        kinds = _kinds_of_missing(values)
        data = None if kinds is None else _packed([None if kind else c for c, kind in zip(cells, kinds, strict=True)])
    if data is None or len(data) <= SMALL:
        return ["pandas.cells", None, cells]
    return [
        "pandas.cells",
        None if kinds is None else Buffer(memoryview(kinds)),
        Buffer(memoryview(data)),
    ]


def _packed(cells: list[Any]) -> bytes | None:
    try:
        data = ormsgpack.packb(cells, None, EXACT)
    except (TypeError, ValueError):  # a cell that is no plain data, or a big integer, a surrogate, a circle
        return None
    if len(data.translate(None, _TAKEN_FOR_OTHERS)) == len(data) or _PLAIN_CELLS.issuperset(map(type, cells)):
        return data
    return None


def _kinds_of_missing(values: NDArray[Any]) -> bytearray | None:
    """1 where there is `NA`, 2 where there is `NaT`, 0 elsewhere; None where there is neither."""
    kinds = bytearray(len(values))
    for at in np.flatnonzero(pd.isna(values)).tolist():
        cell = values[at]
        kinds[at] = 1 if cell is pd.NA else 2 if cell is pd.NaT else 0
    return kinds if any(kinds) else None


def _made_cells(kinds: Any, given: Any) -> NDArray[Any]:
    if isinstance(given, list):
        if kinds is not None:
            raise TypeError("kinds of cells that say it themselves")
        cells = given
    else:
        data = Pieces.of(given).read()
        cells = exact(ormsgpack.unpackb(data), list)
        if len(data) <= SMALL or ormsgpack.packb(cells, None, EXACT) != data:
            raise ValueError("cells that are not in their canonical form")
    values = np.empty(len(cells), object)
    if _PLAIN_CELLS.issuperset(map(type, cells)):
        values[:] = cells
    else:
        for at, cell in enumerate(cells):  # one by one: NumPy would look into lists
            values[at] = cell
    if kinds is not None:
        raw = Pieces.of(kinds).read()
        marks = np.frombuffer(raw, "u1")
        if len(marks) != len(cells) or not marks.any() or marks.max() > 2:
            raise ValueError("kinds of cells that do not fit them")
        for at in np.flatnonzero(marks).tolist():
            if cells[at] is not None:
                raise ValueError("a missing cell that is there")
            values[at] = pd.NA if marks[at] == 1 else pd.NaT
    return values


# ---- arrays -------------------------------------------------------------------------------------------------------


def _array(v: Any) -> Form:
    content = _content(v)
    if content is not v:
        return ["pandas.array", None, content]
    return ["pandas.array", v.dtype, *_ARRAYS[type(v)](v)]


def _made_array(dtype: Any, *parts: Any) -> Any:
    if dtype is None:
        (content,) = parts
        values = _vector(content, _NUMBERS + _TIMES + "O")
        return pd.Series(values, dtype=values.dtype, copy=False).array
    made = _MADE_ARRAYS[type(dtype)](dtype, *parts)
    if made.dtype != dtype:
        raise ValueError(f"an array of {dtype} that is something else")
    return made


def _masked(v: Any) -> Form:
    mask = v.isna()
    data = v.to_numpy(dtype=v.dtype.numpy_dtype, na_value=v.dtype.numpy_dtype.type(0), copy=False)
    return [_flat(data), _flat(mask) if mask.any() else None]


def _made_masked(dtype: Any, data: Any, mask: Any) -> Any:
    values = _vector(data, dtype.numpy_dtype.kind)
    hidden = np.zeros(len(values), bool) if mask is None else _vector(mask, "b")
    return dtype.construct_array_type()(values, hidden)


def _sparse(v: Any) -> Form:
    index = v.sp_index.to_int_index()
    values, places = _flat(v.sp_values), index.indices
    fill = v.fill_value
    kept = ~_is_fill(values, fill)
    if not kept.all():  # stored all the same, and equal to what is not stored
        values, places = values[kept], places[kept]
    return [len(v), v.kind, Nested(_cells(values)) if values.dtype == object else values, _flat(places)]


def _is_fill(values: NDArray[Any], fill: Any) -> Any:
    """Which values are the fill value. `-0.0` is not `0.0`."""
    if pd.isna(fill):
        return pd.isna(values)
    same = values == fill
    for part in (np.real, np.imag)[: {"f": 1, "c": 2}.get(values.dtype.kind, 0)]:
        same &= np.signbit(part(values)) == np.signbit(part(fill))
    return same


def _made_sparse(dtype: Any, length: Any, kind: Any, values: Any, places: Any) -> Any:
    cls, values, places = pd.arrays.SparseArray, _vector(values, dtype.subtype.kind), _vector(places, "i")
    if kind not in ("integer", "block") or len(values) != len(places):
        raise ValueError("a sparse array whose parts do not fit")
    if hasattr(cls, "from_indices"):
        return cls.from_indices(values, places, exact(length, int), dtype.fill_value, kind, dtype.subtype)
    from pandas._libs.sparse import IntIndex  # before pandas 3.1 the one way: the only private name here

    index = IntIndex(exact(length, int), places, check_integrity=True)
    index = index if kind == "integer" else index.to_block_index()
    return cls(values, sparse_index=index, fill_value=dtype.fill_value, dtype=dtype)


def _made_datetimes(dtype: Any, instants: Any) -> Any:
    utc = pd.DatetimeIndex(_vector(instants, "i").view(f"M8[{dtype.unit}]"), copy=False).tz_localize("UTC")
    return utc.tz_convert(dtype.tz).array


def _made_intervals(dtype: Any, left: Any, right: Any) -> Any:
    return pd.arrays.IntervalArray.from_arrays(left, right, dtype.closed, dtype=dtype)


def _made_text(dtype: Any, content: Any) -> Any:
    if dtype.storage == "pyarrow":
        return pd.arrays.ArrowStringArray(_chunked(content), dtype=dtype)
    cells = _vector(content, "O")
    if not all(isinstance(c, str) or c is dtype.na_value for c in cells):
        cells = np.array([c if isinstance(c, str) else dtype.na_value for c in _only_text(cells)], object)
    return pd.arrays.StringArray(cells, dtype=dtype)


def _only_text(cells: Any) -> Any:
    for cell in cells:
        if not isinstance(cell, str) and cell is not pd.NA and not (type(cell) is float and math.isnan(cell)):
            raise TypeError("a text that is none")
    return cells


def _chunked(content: Any) -> Any:
    import pyarrow as pa

    if not isinstance(content, pa.Array):
        raise TypeError("a column of Arrow's that is none")
    return pa.chunked_array([content])


def _arrow(v: Any) -> Form:
    from .columns import one_array

    return [one_array(v.__arrow_array__())]


_ARRAYS: dict[type, Callable[[Any], Form]] = {
    pd.arrays.ArrowExtensionArray: _arrow,
    pd.arrays.ArrowStringArray: _arrow,
    pd.arrays.BooleanArray: _masked,
    pd.Categorical: lambda v: [_flat(v.codes)],
    pd.arrays.DatetimeArray: lambda v: [_flat(v.asi8)],
    pd.arrays.FloatingArray: _masked,
    pd.arrays.IntegerArray: _masked,
    pd.arrays.IntervalArray: lambda v: [Nested(_array(part.array)) for part in (v.left, v.right)],
    pd.arrays.PeriodArray: lambda v: [_flat(v.asi8)],
    pd.arrays.SparseArray: _sparse,
    pd.arrays.StringArray: lambda v: [Nested(_cells(np.asarray(v, object)))],
}
_MADE_ARRAYS: dict[type, Callable[..., Any]] = {
    pd.ArrowDtype: lambda _, content: pd.arrays.ArrowExtensionArray(_chunked(content)),
    pd.CategoricalDtype: lambda dtype, codes: pd.Categorical.from_codes(_vector(codes, "i"), dtype=dtype),
    pd.DatetimeTZDtype: _made_datetimes,
    pd.IntervalDtype: _made_intervals,
    pd.PeriodDtype: lambda dtype, ordinals: pd.arrays.PeriodArray(_vector(ordinals, "i"), dtype=dtype),
    pd.SparseDtype: _made_sparse,
    pd.StringDtype: _made_text,
    **dict.fromkeys(_MASKED_DTYPES, _made_masked),
}


# ---- dtypes -------------------------------------------------------------------------------------------------------


def _dtype(v: Any) -> Form:
    return ["pandas.dtype", *_DTYPES[type(v)](v)]


def _made_dtype(name: Any, *items: Any) -> Any:
    if name in _MASKED:
        return _MASKED[name](*items)
    return _MADE_DTYPES[exact(name, str)](*items)


def _subtype(v: Any) -> Any:
    return v.str if isinstance(v, np.dtype) else v


def _made_subtype(v: Any) -> Any:
    return np.dtype(v) if isinstance(v, str) else v


def _sparse_dtype(v: Any) -> Form:
    fill = v.fill_value
    if isinstance(fill, np.generic):
        if v.subtype.kind not in _NUMBERS:
            raise NoDataFormError
        fill = fill.item()
    return ["sparse", v.subtype.str, fill]


def _made_sparse_dtype(subtype: Any, fill: Any) -> Any:
    return pd.SparseDtype(np.dtype(exact(subtype, str)), fill)


def _made_string_dtype(storage: Any, missing: Any) -> Any:
    if storage == "pyarrow":
        _needs_arrow()
    return pd.StringDtype(exact(storage, str), {"NA": pd.NA, "NaN": np.nan}[missing])


def _made_interval_dtype(subtype: Any, closed: Any) -> Any:
    return pd.IntervalDtype(_made_subtype(subtype), closed)


def _needs_arrow() -> None:
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise CodeNotFoundError("a recorded column lies in Arrow's buffers: pip install pyarrow") from error


_DTYPES: dict[type, Callable[[Any], Form]] = {
    pd.ArrowDtype: lambda v: ["arrow", v.pyarrow_dtype],
    pd.CategoricalDtype: lambda v: ["category", v.categories, v.ordered],
    pd.DatetimeTZDtype: lambda v: ["datetime", v.unit, _zone(v.tz)],
    pd.IntervalDtype: lambda v: ["interval", _subtype(v.subtype), v.closed],
    pd.PeriodDtype: lambda v: ["period", v.name.removeprefix("period[").removesuffix("]")],
    pd.SparseDtype: _sparse_dtype,
    pd.StringDtype: lambda v: ["string", v.storage, "NA" if v.na_value is pd.NA else "NaN"],
    **dict.fromkeys(_MASKED_DTYPES, lambda v: [v.name]),
}
_MADE_DTYPES: dict[str, Callable[..., Any]] = {
    "arrow": pd.ArrowDtype,
    "category": pd.CategoricalDtype,
    "datetime": pd.DatetimeTZDtype,
    "interval": _made_interval_dtype,
    "period": lambda freq: pd.PeriodDtype(exact(freq, str)),
    "sparse": _made_sparse_dtype,
    "string": _made_string_dtype,
}


# ---- scalars, offsets, zones --------------------------------------------------------------------------------------


def _timestamp(v: Any) -> Form:
    return ["pandas.timestamp", int(v.asm8.view("i8")), v.unit, v.fold, _zone(v.tz)]


def _made_timestamp(instant: Any, unit: Any, fold: Any, zone: Any) -> Any:
    made = pd.Timestamp(np.datetime64(exact(instant, int), exact(unit, str)))
    if zone is not None:
        made = made.tz_localize("UTC").tz_convert(zone)
    elif fold:
        made = made.replace(fold=fold)
    return _same(made, _timestamp(made)[1:4], [instant, unit, fold])


def _timedelta(v: Any) -> Form:
    return ["pandas.timedelta", int(v.asm8.view("i8")), v.unit]


def _made_timedelta(length: Any, unit: Any) -> Any:
    made = pd.Timedelta(np.timedelta64(exact(length, int), exact(unit, str)))
    return _same(made, _timedelta(made)[1:], [length, unit])


def _made_period(ordinal: Any, freq: Any) -> Any:
    made = pd.Period(ordinal=exact(ordinal, int), freq=exact(freq, str))
    return _same(made, [made.ordinal, made.freqstr], [ordinal, freq])


def _offset(v: Any) -> Form:
    if pd.tseries.frequencies.to_offset(v.freqstr) != v:  # its text does not say all of it
        raise NoDataFormError
    return ["pandas.offset", v.freqstr]


def _made_offset(text: Any) -> Any:
    made = pd.tseries.frequencies.to_offset(exact(text, str))
    return _same(made, made.freqstr, text)


def _zone(zone: Any) -> Any:
    """A zone as it is written: itself where it is one of the standard library's."""
    if zone is None or type(zone) is dt.timezone:
        return zone
    library = type(zone).__module__.partition(".")[0]
    if library == "zoneinfo":
        return zone
    if library == "pytz":
        name = getattr(zone, "zone", None)
        return Nested(["pandas.zone", "pytz", name or zone.utcoffset(None) // dt.timedelta(minutes=1)])
    if library == "dateutil":
        name = "UTC" if type(zone).__name__ == "tzutc" else repr(zone).partition("zoneinfo/")[2].rstrip("')")
        if name and _made_zone("dateutil", name) == zone:
            return Nested(["pandas.zone", "dateutil", name])
    raise NoDataFormError


def _made_zone(library: Any, name: Any) -> Any:
    try:
        if library == "pytz":
            import pytz

            return pytz.timezone(name) if isinstance(name, str) else pytz.FixedOffset(exact(name, int))
        if library == "dateutil":
            from dateutil import tz

            if exact(name, str).startswith("/") or ".." in name:
                raise ValueError("a zone whose name is a path")
            found = tz.tzutc() if name == "UTC" else tz.gettz(name)
            if found is None:
                raise CodeNotFoundError(f"the time zone {name} is not on this machine: pip install tzdata")
            return found
    except ImportError as error:
        raise CodeNotFoundError(f"a recorded value has a time zone of {library}: pip install {library}") from error
    raise ValueError("a zone of no known library")


def _same(made: Any, again: Any, given: Any) -> Any:
    if again != given:
        raise ValueError("not in its canonical form")
    return made


_FORMERS: dict[type, Callable[[Any], Form]] = {
    pd.DataFrame: _frame,
    pd.Series: _series,
    pd.Index: _index,
    pd.CategoricalIndex: _index,
    pd.DatetimeIndex: _index,
    pd.IntervalIndex: _index,
    pd.PeriodIndex: _index,
    pd.TimedeltaIndex: _index,
    pd.RangeIndex: _range_index,
    pd.MultiIndex: _multi_index,
    pd.arrays.NumpyExtensionArray: _array,
    pd.arrays.TimedeltaArray: _array,
    **dict.fromkeys(_ARRAYS, _array),
    **dict.fromkeys(_DTYPES, _dtype),
    pd.Timestamp: _timestamp,
    pd.Timedelta: _timedelta,
    pd.Period: lambda v: ["pandas.period", v.ordinal, v.freqstr],
    pd.Interval: lambda v: ["pandas.interval", v.left, v.right, v.closed],
    type(pd.NaT): lambda _: ["pandas.NaT"],
    type(pd.NA): lambda _: ["pandas.NA"],
}
MAKERS: dict[str, Callable[..., Any]] = {
    "pandas.NA": lambda: pd.NA,
    "pandas.NaT": lambda: pd.NaT,
    "pandas.array": _made_array,
    "pandas.cells": _made_cells,
    "pandas.dtype": _made_dtype,
    "pandas.frame": _made_frame,
    "pandas.index": _made_index,
    "pandas.interval": pd.Interval,
    "pandas.multiindex": _made_multi_index,
    "pandas.offset": _made_offset,
    "pandas.period": _made_period,
    "pandas.rangeindex": _made_range_index,
    "pandas.series": _made_series,
    "pandas.timedelta": _made_timedelta,
    "pandas.timestamp": _made_timestamp,
    "pandas.zone": _made_zone,
}
