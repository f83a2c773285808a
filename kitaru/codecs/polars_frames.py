"""polars: series, frames, schemas and dtypes, whose columns lie in Arrow's canonical buffers.

What Arrow has no type for, or none that is the same in another process (categories are numbered as they are met),
travels as text. A lazy frame has no data form: it is a query, not what it gives. The tags are described in
docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from .forms import Form, NoDataFormError
from .node import exact

__all__ = ["MAKERS", "former"]

_PLAIN = frozenset({
    "Binary", "Boolean", "Date", "Float16", "Float32", "Float64", "Int128", "Int16", "Int32", "Int64", "Int8", "Null",
    "String", "Time", "UInt128", "UInt16", "UInt32", "UInt64", "UInt8",
})  # fmt: skip
_AS_TEXT = frozenset({"Categorical", "Enum", "Int128", "UInt128"})


def former(cls: type) -> Callable[[Any], Form] | None:
    """How values of exactly that class of polars are written; None for those without a data form."""
    form = _FORMERS.get(cls)
    if form is None and issubclass(cls, pl.DataType):
        return _dtype
    return form


def _series(v: Any) -> Form:
    dtype, lying = v.dtype, _lying(v.dtype)
    lain = v if lying == dtype else v.cast(lying)
    column = _guarded(lain.alias("").to_arrow)  # without a name that polars cannot hand to Arrow
    if pl.from_arrow(column[:0]).dtype != lying:  # type: ignore[union-attr]
        raise NoDataFormError
    return ["polars.series", v.name, _instance(dtype), column]


def _made_series(name: Any, dtype: Any, column: Any) -> Any:
    if not isinstance(dtype, pl.DataType) or not isinstance(column, pa.Array):
        raise TypeError("a series that is none")
    lying = _lying(dtype)
    made: Any = _guarded(lambda: pl.from_arrow(column))
    if made.dtype != lying:
        raise ValueError(f"a series of {dtype} that lies in something else")
    made = made.alias(exact(name, str))
    return made if lying == dtype else _guarded(lambda: made.cast(dtype))


def _guarded(make: Callable[[], Any]) -> Any:
    """What `make` gives; its panics, which are no `Exception`, as errors."""
    try:
        return make()
    except pl.exceptions.PanicException as error:
        raise ValueError(f"polars has panicked: {error}") from error


def _frame(v: Any) -> Form:
    return ["polars.frame", v.height, *v.get_columns()]


def _made_frame(height: Any, *columns: Any) -> Any:
    if not all(isinstance(c, pl.Series) and len(c) == height for c in columns):
        raise ValueError("a column that does not fit its frame")
    return pl.DataFrame(list(columns)) if columns else pl.DataFrame(height=exact(height, int))


# ---- dtypes -------------------------------------------------------------------------------------------------------


def _dtype(v: Any) -> Form:
    name = type(v).__name__
    if type(v) is not getattr(pl, name, None):
        raise NoDataFormError
    return ["polars.dtype", name, *_parameters(name, v)]


def _parameters(name: str, v: Any) -> list[Any]:
    if name in _PLAIN:
        return []
    if name == "Datetime":
        return [v.time_unit, v.time_zone]
    if name == "Duration":
        return [v.time_unit]
    if name == "Decimal":
        return [v.precision, v.scale]
    if name == "List":
        return [_instance(v.inner)]
    if name == "Array":
        return [_instance(v.inner), v.size]
    if name == "Map":
        return [_instance(v.key), _instance(v.value)]
    if name == "Struct":
        return [item for field in v.fields for item in (field.name, _instance(field.dtype))]
    if name == "Enum":
        return [v.categories.to_list()]
    if name == "Categorical":
        return [v.categories.name(), v.categories.namespace(), _instance(v.categories.physical())]
    raise NoDataFormError


def _instance(dtype: Any) -> Any:
    """A dtype that was given as a class, as polars takes it."""
    return dtype() if isinstance(dtype, type) else dtype


def _made_dtype(name: Any, *items: Any) -> Any:
    if name in _PLAIN or name in ("Datetime", "Duration", "Decimal", "List", "Array", "Enum", "Map"):
        return _guarded(lambda: getattr(pl, name)(*items))
    if name == "Struct":
        fields = [pl.Field(exact(n, str), d) for n, d in zip(items[::2], items[1::2], strict=True)]
        return pl.Struct(fields)
    if name == "Categorical":
        label, namespace, physical = items
        if not label:
            return pl.Categorical()
        return _guarded(lambda: pl.Categorical(pl.Categories(label, namespace, physical)))
    raise ValueError("no dtype of polars has that name")


def _lying(dtype: Any) -> Any:
    """The dtype that a column is turned into for Arrow, and back from."""
    dtype = _instance(dtype)
    name = type(dtype).__name__
    if name in _AS_TEXT:
        return pl.String()
    if name == "List":
        return pl.List(_lying(dtype.inner))
    if name == "Array":  # the number of arrays of no items is lost on the way through Arrow
        return pl.Array(_lying(dtype.inner), dtype.size) if dtype.size else pl.List(_lying(dtype.inner))
    if name == "Map":
        return pl.Map(_lying(dtype.key), _lying(dtype.value))
    if name == "Struct":
        return pl.Struct([pl.Field(f.name, _lying(f.dtype)) for f in dtype.fields])
    return dtype


def _schema(v: Any) -> Form:
    return ["polars.schema", *(item for name, dtype in v.items() for item in (name, _instance(dtype)))]


def _made_schema(*items: Any) -> Any:
    if len(set(items[::2])) * 2 != len(items):
        raise ValueError("a column twice")
    return pl.Schema(list(zip(items[::2], items[1::2], strict=True)))


_FORMERS: dict[type, Callable[[Any], Form]] = {
    pl.DataFrame: _frame,
    pl.Series: _series,
    pl.Schema: _schema,
}
MAKERS: dict[str, Callable[..., Any]] = {
    "polars.dtype": _made_dtype,
    "polars.frame": _made_frame,
    "polars.schema": _made_schema,
    "polars.series": _made_series,
}
