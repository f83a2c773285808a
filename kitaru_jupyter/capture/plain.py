"""Which values Kitaru's own codecs record whole, exactly and without running code: they need no document."""

from __future__ import annotations

import collections
import sys
from typing import Any

from .reach import ATOMS, Reach, is_array

__all__ = ["DOCUMENT", "is_plain_array", "is_plain_frame", "plain_value"]

DOCUMENT = "kitaru.document"
"""The key by which a document is told from any other dict."""

_KINDS = "biufcmMSU"  # of NumPy's dtypes that are their bytes
_CONTAINERS = frozenset({bytearray, collections.OrderedDict, collections.deque, dict, frozenset, list, set, tuple})
_CELLS = ATOMS - {range}
_OF_FRAMES = frozenset({"DataFrame", "Series"})


def plain_value(value: Any, known: Reach) -> bool:
    """Whether the value of a variable that shares nothing with others is recorded as it is.

    Parameters
    ----------
    known
        What it reaches now.
    """
    cls = type(value)
    if is_plain_frame(value):
        return True
    if not known.is_tree or (cls is dict and DOCUMENT in value):
        return False
    numpy: Any = sys.modules.get("numpy")
    if cls in ATOMS or (numpy is not None and issubclass(cls, (numpy.generic, numpy.dtype))):
        return True
    others = known.types - ATOMS - _CONTAINERS
    if numpy is None or not others:
        return not others
    arrays = {kind for kind in others if kind is numpy.ndarray}
    if any(not issubclass(kind, (numpy.generic, numpy.dtype)) for kind in others - arrays):
        return False
    return not arrays or all(map(is_plain_array, _arrays_in(value)))


def is_plain_array(array: Any) -> bool:
    """Whether it owns its memory, in C or Fortran order, may be written to, and its items are their bytes."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or type(array) is not numpy.ndarray:
        return False
    flags, dtype = array.flags, array.dtype
    return (
        array.base is None
        and flags.writeable
        and flags.owndata
        and (flags.c_contiguous or flags.f_contiguous)
        and _is_bytes(dtype)
    )


def _is_bytes(dtype: Any) -> bool:
    if dtype.metadata is not None:
        return False
    if dtype.names is None:
        return dtype.kind in _KINDS and dtype.char not in "gG"
    return dtype.type is sys.modules["numpy"].void and all(_is_bytes(dtype.fields[name][0]) for name in dtype.names)


def _arrays_in(value: Any) -> list[Any]:
    """The arrays in a tree of containers."""
    found, todo = [], [value]
    while todo:
        part = todo.pop()
        if is_array(type(part)):
            found.append(part)
        elif isinstance(part, dict):
            todo += part.values()
        elif isinstance(part, (list, tuple, set, frozenset, collections.deque)):
            todo += [p for p in part if type(p) not in ATOMS]
    return found


def is_plain_frame(value: Any) -> bool:
    """Whether it is a frame or a series of pandas or polars, with nothing in its cells that could change by itself."""
    cls = type(value)
    library = cls.__module__.partition(".")[0] if type(cls.__module__) is str else ""
    if cls.__name__ not in _OF_FRAMES or library not in {"pandas", "polars"}:
        return False
    if cls is not getattr(sys.modules.get(library), cls.__name__, None):
        return False
    if library == "polars":
        dtypes = value.dtypes if cls.__name__ == "DataFrame" else [value.dtype]
        return not any("Object" in repr(dtype) for dtype in dtypes)
    return _is_plain_pandas(value)


def _is_plain_pandas(value: Any) -> bool:
    pandas: Any = sys.modules["pandas"]
    if value.attrs or not set(value.__dict__) <= {"_mgr", "_name", "_attrs", "_flags", "_item_cache"}:
        return False
    manager = value._mgr
    try:
        return all(_is_plain_axis(axis, pandas) for axis in manager.axes) and all(
            _are_plain_cells(block.values, pandas) for block in manager.blocks
        )
    except AttributeError:  # a pandas that is built otherwise
        return False


def _is_plain_axis(axis: Any, pandas: Any) -> bool:
    if type(axis) is pandas.MultiIndex:
        return all(_is_plain_axis(level, pandas) for level in axis.levels)
    known = {pandas.Index, pandas.RangeIndex, pandas.DatetimeIndex, pandas.TimedeltaIndex, pandas.CategoricalIndex,
             pandas.PeriodIndex}  # fmt: skip
    names = set(map(type, axis.names)) <= _CELLS
    return type(axis) in known and names and (type(axis) is pandas.RangeIndex or _are_plain_cells(axis.array, pandas))


def _are_plain_cells(values: Any, pandas: Any) -> bool:
    if is_array(type(values)):
        if values.dtype.hasobject:
            return set(map(type, values.ravel(order="K").tolist())) <= _CELLS
        return _is_bytes(values.dtype)
    arrays = pandas.arrays
    if isinstance(values, arrays.NumpyExtensionArray):
        return _are_plain_cells(values.to_numpy(), pandas)
    if type(values) is pandas.Categorical:
        return _is_plain_axis(values.categories, pandas)
    return isinstance(
        values,
        (arrays.ArrowStringArray, arrays.StringArray, arrays.DatetimeArray, arrays.TimedeltaArray, arrays.PeriodArray,
         arrays.BooleanArray, arrays.IntegerArray, arrays.FloatingArray, arrays.ArrowExtensionArray),
    )  # fmt: skip
