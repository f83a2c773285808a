"""Samples of what other libraries hold: an array's first numbers, a frame's first rows, an image's size.

For previews: see there for what each key means. No library is imported here: whoever has a value of it has imported
it. What a frame may hold that is nobody's known type (an extension array, an object in a cell) is not asked anything.
"""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ormsgpack

from .codecs.types import name_of
from .glances import fitting, glance, printable

__all__ = ["sample"]

_COLUMNS, _ROWS, _NAME, _CELL = 16, 5, 40, 24  # of a frame: at most; characters of a name, a dtype or a cell
_FRAME = 1900  # bytes of a frame's sample; with the type's name a preview stays below 2,048
_ARRAY = 420  # bytes of an array's sample
_FIRST = 6  # elements of an array
_MOST_DIMENSIONS = 16
_LARGE = 10_000  # bytes of one element: no more than one of those is looked at
_CHEAP = 1 << 14  # numbers whose least and greatest are found in some 10 µs

_TIMES = " × "  # noqa: RUF001 - as people write it
_KNOWN = {"numpy", "pandas", "polars", "pyarrow"}


def sample(value: Any, library: str, rows: int = _ROWS) -> dict[str, Any]:
    """What a preview says of a value of `library`; nothing where it is of no type that is known here.

    Parameters
    ----------
    rows
        How many of a frame's are wanted; with 0 a line of text is.

    Examples
    --------
    >>> import numpy as np
    >>> sample(np.arange(6.0), "numpy")["text"]
    '6 float64 [0, 1, 2, 3, 4, 5], 0 to 5'
    """
    look: Callable[[Any, Any, int], dict[str, Any]] = _LIBRARIES[library]
    return look(value, sys.modules[library], rows)


# ---------------------------------------------------------------- arrays and images


def _numpy(value: Any, np: Any, rows: int) -> dict[str, Any]:
    cls = type(value)
    if issubclass(cls, np.generic):
        if issubclass(cls, np.character):  # text and bytes, as which they are shown
            return {}
        return {"text": f"{cls.__name__}({_element(value)})"}
    if not issubclass(cls, np.ndarray):
        return {}
    plain = np.ndarray.view(value, np.ndarray)  # past what a subclass makes of itself
    dtype = _dtype(plain.dtype)
    found: dict[str, Any] = {"dtype": dtype}
    if plain.ndim <= _MOST_DIMENSIONS:
        found["shape"] = list(plain.shape)
    shape = _TIMES.join(f"{n:,}" for n in plain.shape[:_MOST_DIMENSIONS])
    text = f"{shape} {dtype}".strip()
    if not issubclass(cls, np.ma.MaskedArray):  # what is under a mask is not its content
        numbers = plain.flat[: _FIRST if plain.itemsize < _LARGE else 1]
        if plain.dtype.kind in "SUV":
            numbers = numbers.tolist()
        shown = ", ".join(_element(x) for x in numbers) + (", …" if plain.size > len(numbers) else "")
        text += f" [{shown}]" if plain.ndim else f" {shown}"
        if rows and 1 < plain.size <= _CHEAP and plain.dtype.kind in "iuf" and plain.dtype.itemsize <= 8:
            with np.errstate(invalid="ignore"):
                least, most = np.fmin.reduce(plain.reshape(-1)), np.fmax.reduce(plain.reshape(-1))
            if np.isfinite(least) and np.isfinite(most):
                found["range"] = [least.item(), most.item()]
                text += f", {_element(least)} to {_element(most)}"
    found["text"] = fitting(printable(text))
    if len(ormsgpack.packb(found)) > _ARRAY:
        found.pop("shape", None)
    return found


def _torch(value: Any, torch: Any, rows: int) -> dict[str, Any]:  # noqa: ARG001
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        return {}
    shape, dtype = [int(n) for n in value.shape[:_MOST_DIMENSIONS]], str(value.dtype)
    return {"shape": shape, "dtype": dtype, "text": f"{_TIMES.join(map(str, shape))} {dtype}".strip()}


def _pil(value: Any, pil: Any, rows: int) -> dict[str, Any]:  # noqa: ARG001
    image = getattr(pil, "Image", None)
    if image is None or not issubclass(type(value), image.Image):
        return {}
    mode, (width, height) = str(value.mode), value.size
    return {"mode": mode, "size": [int(width), int(height)], "text": f"{width}{_TIMES}{height} {mode}"}


# ---------------------------------------------------------------- frames and series


def _pandas(value: Any, pd: Any, rows: int) -> dict[str, Any]:
    cls = type(value)
    if cls is pd.DataFrame:
        return _pandas_frame(value, pd, rows)
    if cls is pd.Series:
        values, name = value.array, value.name
    elif issubclass(cls, (pd.Index, pd.api.extensions.ExtensionArray)):
        values, name = value, None
    elif cls.__name__ in {"Interval", "NAType", "NaTType", "Period", "Timedelta", "Timestamp"}:
        return {"text": printable(str(value)[: _CELL * 4])}
    else:
        return {}
    first = [] if _is_foreign(value.dtype) else list(values[:_FIRST])
    return _series(len(value), _dtype(value.dtype), first, None if name is None else _cell(name))


def _pandas_frame(frame: Any, pd: Any, rows: int) -> dict[str, Any]:
    names = [_cell(name, _NAME) for name in frame.columns[:_COLUMNS].tolist()]
    dtypes = list(frame.dtypes)
    head = [(name, _dtype(dtype)) for name, dtype in zip(names, dtypes, strict=False)]
    labels: list[str] = []
    cells: list[list[str]] = []
    index = frame.index
    if rows and not _is_foreign(index.dtype) and not any(map(_is_foreign, set(dtypes))):
        top = frame.iloc[:rows, :_COLUMNS]
        columns = []
        for n, dtype in enumerate(dtypes[:_COLUMNS]):
            arrow = getattr(dtype, "pyarrow_dtype", None)
            held = top.iloc[:, n].array
            columns.append(["…"] * len(top) if _is_deep(arrow) else [_cell(x) for x in held])
        cells = [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(len(top))]
        if not (type(index) is pd.RangeIndex and index.start == 0 and index.step == 1):
            labels = [_cell(label) for label in index[:rows].tolist()]
    return _frame(frame.shape, head, cells, labels)


def _polars(value: Any, pl: Any, rows: int) -> dict[str, Any]:
    cls = type(value)
    if cls is pl.Series:
        deep = value.dtype.is_nested()
        first = ["…"] if deep and len(value) else value.head(_FIRST).to_list()
        return _series(len(value), _dtype(value.dtype), first, _cell(value.name) or None)
    if cls is not pl.DataFrame:
        return {}
    shape = value.shape
    head, columns = [], []
    for n in range(min(shape[1], _COLUMNS)):
        column = value.to_series(n)
        head.append((_cell(column.name, _NAME), _dtype(column.dtype)))
        first = column.head(rows)
        columns.append(["…"] * len(first) if column.dtype.is_nested() else [_cell(x) for x in first.to_list()])
    return _frame(shape, head, [list(row) for row in zip(*columns, strict=True)] if rows else [], [])


def _pyarrow(value: Any, pa: Any, rows: int) -> dict[str, Any]:
    cls = type(value)
    if issubclass(cls, (pa.Array, pa.ChunkedArray)):
        return _series(len(value), _dtype(value.type), _arrow_cells(value.slice(0, _FIRST), pa), None)
    if cls is not pa.Table and cls is not pa.RecordBatch:
        return {}
    count = min(value.num_columns, _COLUMNS)
    fields = [value.schema.field(n) for n in range(count)]
    head = [(_cell(field.name, _NAME), _dtype(field.type)) for field in fields]
    columns = [_arrow_cells(value.column(n).slice(0, rows), pa) for n in range(count)]
    cells = [[_cell(x) for x in row] for row in zip(*columns, strict=True)] if rows else []
    return _frame((value.num_rows, value.num_columns), head, cells, [])


def _arrow_cells(values: Any, pa: Any) -> list[Any]:
    kind = values.type
    if _is_deep(kind):
        return ["…"] * len(values)
    if pa.types.is_temporal(kind):  # made to objects, those of nanoseconds would import pandas
        try:
            values = values.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a zone that is not known here
            return ["…"] * len(values)
    return values.to_pylist()  # type: ignore[no-any-return]


def _is_deep(kind: Any) -> bool:
    """Whether a cell of this Arrow type may hold any number of values, or is made by code of the user's."""
    if kind is None:
        return False
    pa = sys.modules["pyarrow"]
    return bool(pa.types.is_nested(kind)) or isinstance(kind, pa.BaseExtensionType)


# ---------------------------------------------------------------- put together


def _series(length: int, dtype: str, first: Sequence[Any], name: str | None) -> dict[str, Any]:
    shown = ", ".join(map(_element, first)) + (", …" if length > len(first) else "")
    text = f"{name}: {dtype} [{shown}]" if name is not None else f"{dtype} [{shown}]"
    return {"len": length, "dtype": dtype, "text": fitting(printable(text))}


def _frame(
    shape: Iterable[int], head: list[tuple[str, str]], cells: list[list[str]], labels: list[str]
) -> dict[str, Any]:
    """A frame's sample, with as many of its rows and columns as there is room for."""
    rows, columns = map(int, shape)
    schema = ", ".join(f"{name} {dtype}" for name, dtype in head) + (", …" if columns > len(head) else "")
    found: dict[str, Any] = {
        "shape": [rows, columns],
        "text": fitting(f"{rows:,}{_TIMES}{columns:,}{': ' if head else ''}{schema}"),
        "columns": [list(column) for column in head],
        "rows": cells,
    }
    if labels:
        found["labels"] = labels
    while len(ormsgpack.packb(found)) > _FRAME:
        if len(found["rows"]) > 3:
            found["rows"].pop()
            if labels:
                labels.pop()
            continue
        fewer = len(found["columns"]) * 7 // 8
        del found["columns"][fewer:]
        for row in found["rows"]:
            del row[fewer:]
    return found


def _is_foreign(dtype: Any) -> bool:
    """Whether it is the type of an extension array of somebody's own."""
    return name_of(type(dtype)).partition(":")[0].partition(".")[0] not in _KNOWN


def _dtype(dtype: Any) -> str:
    """The name of an element's type. One that has fields shows the first of them."""
    if _is_foreign(dtype):
        return printable(name_of(type(dtype)).rpartition(":")[2][:_NAME])
    names = getattr(dtype, "names", None)
    if isinstance(names, tuple):
        shown = [f"{name[:_CELL]} {_dtype(dtype[name])}" for name in itertools.islice(names, 4)]
        return printable(f"({', '.join(shown)}{', …' if len(names) > 4 else ''})"[: 2 * _NAME])
    text = str(dtype)
    return printable(text if len(text) <= _NAME else text[: _NAME - 1] + "…")


def _element(value: Any) -> str:
    """An element as it stands in a list."""
    return glance(value, 2, _CELL)[: 2 * _CELL] if isinstance(value, str | bytes) else _cell(value, 2 * _CELL)


def _cell(value: Any, most: int = _CELL) -> str:
    """A value in one short text: text without quotes, numbers in a few digits."""
    cls = type(value)
    if cls is str:
        text = value[: most + 1]
    elif cls is float:
        text = f"{value:.6g}"
    elif cls is dt.date or cls is dt.timedelta:
        text = str(value)
    else:
        text = _of_library(value) or glance(value, 2, most)
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def _of_library(value: Any) -> str:
    """A number, a moment, or what stands for a missing one, of NumPy or pandas; "" for anything else."""
    module = name_of(type(value)).partition(":")[0].partition(".")[0]
    if module not in _KNOWN:
        return ""
    np, pd = sys.modules.get("numpy"), sys.modules.get("pandas")
    if np is not None and isinstance(value, np.generic):
        kind = value.dtype.kind
        if kind == "V":  # the fields of a structure may be any objects
            return glance(value.item(), 2, _CELL)
        return f"{value.item():.6g}" if kind in "fc" and value.dtype.itemsize <= 16 else str(value)
    if pd is not None and type(value).__name__ in {"NAType", "NaTType", "Period", "Timedelta", "Timestamp"}:
        return str(value)
    return ""


_LIBRARIES: dict[str, Callable[[Any, Any, int], dict[str, Any]]] = {
    "PIL": _pil,
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "torch": _torch,
}
