"""NumPy's arrays, scalars and dtypes: their own bytes, and what they mean. Imported when one is met.

================  ===========================================================================================
tag               items after it
================  ===========================================================================================
`numpy.ndarray`   DTYPE, shape (a list), "C" or "F", body
`numpy.matrix`    the plain `numpy.ndarray`; `numpy.recarray` likewise
`numpy.masked`    the data as a `numpy.ndarray` with zeros under the mask; the mask as one of bools, or nil; the fill
                  value as one of no dimension, or nil for the usual one; whether the mask is hard. No items at all:
                  `numpy.ma.masked`
`numpy.scalar`    DTYPE and the scalar's bytes (a bin); or "U" and a str; or "S" and a bin
`numpy.dtype`     DTYPE
================  ===========================================================================================

DTYPE is `dtype.str`, byte order included ("<f8", ">i4", "|b1", "<U5", "<M8[ns]", "|V3", "|O"), or one of:

- "<f16:63": a long double, and the bits of its mantissa; likewise "<c32:63". 63 is x86's, of 10 bytes and padding;
- ["string", coerce, [the value of what is missing, if there is one]]: NumPy's `StringDType`;
- ["subarray", DTYPE, shape];
- ["struct", itemsize, aligned, [[name, DTYPE, offset], …]]: a field's title stands as a fourth item. "record" in the
  place of "struct" where the items are `numpy.record`. Metadata of a dtype is no part of it, as in its comparison.

The body is a buffer: the items in the order of the array (C, or F where it is contiguous in that order alone), with
zeros where an item has padding. NaN, -0.0 and the bytes behind a text's end are as they were. Where items are objects,
or texts of a `StringDType`, it is a list of them (nil: missing); where some fields hold objects, it is a list with one
`ndarray` for each field.

What differs in these alone is the same value: strides (an array that is not contiguous comes back in C order), whether
it may be written to, whether it is a view or a memory map (which comes back as an `ndarray`), and which of two names
for the same numbers it has (`longlong` comes back as `int64`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import CodeNotFoundError, UsageError
from .buffers import Buffer, Pieces
from .forms import Form, NoDataFormError
from .node import damaged, exact

__all__ = ["MAKERS", "LazyArray", "former", "lazy"]

Array = npt.NDArray[Any]
DType = np.dtype[Any]
Order = Literal["C", "F"]

_SIMPLE = re.compile(r"(?a:[<>|][biufcSUVO]\d*|[<>][mM]8(\[\d*(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)")
_LONG = re.compile(r"(?a:([<>][fc]\d+):(\d+))")
_MANTISSA = np.finfo(np.longdouble).nmant
_DOUBLE = 52  # where a long double is a double, and is spelled so
_X87 = 63  # of its mantissa: then only ten bytes of an item are data
_STRING: Any = getattr(getattr(np, "dtypes", None), "StringDType", ())  # not before NumPy 2
_DEEPEST = 32  # dtypes within dtypes


# ---- dtypes ---------------------------------------------------------------------------------------------------


def _spelled(dtype: DType, depth: int = 0) -> Any:
    """The DTYPE of `dtype`; raises where there is none."""
    if depth > _DEEPEST:
        raise NoDataFormError
    if isinstance(dtype, _STRING):
        missing = [dtype.na_object] if hasattr(dtype, "na_object") else []
        return ["string", dtype.coerce, missing]
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["subarray", _spelled(base, depth + 1), list(shape)]
    if dtype.names is None:
        return _spelled_simple(dtype)
    if dtype.type not in (np.void, np.record):
        raise NoDataFormError  # an integer with fields
    fields = []
    for name in dtype.names:
        part, offset, *title = dtype.fields[name]  # type: ignore[index]
        if not all(type(t) is str for t in title):
            raise NoDataFormError
        fields.append([name, _spelled(part, depth + 1), offset, *title])
    kind = "record" if dtype.type is np.record else "struct"
    return [kind, dtype.itemsize, dtype.isalignedstruct, fields]


def _spelled_simple(dtype: DType) -> str:
    text, kind = _text_of(dtype)
    if dtype.type is not kind and dtype.kind not in "iufc":  # a `longlong` is an int64 in all but its name
        raise NoDataFormError  # a void of a user's own
    return text


@functools.lru_cache(maxsize=1000)
def _text_of(dtype: DType) -> tuple[str, type]:
    """Its text, and the type of the items that it stands for: the same for all dtypes that NumPy calls equal."""
    text = dtype.str
    if np.dtype(text) != dtype:
        raise NoDataFormError  # a library's own, such as bfloat16
    return f"{text}:{_MANTISSA}" if _is_long(dtype) else text, np.dtype(text).type


def _is_long(dtype: DType) -> bool:
    return dtype.char in "gG" and _MANTISSA != _DOUBLE


def _read(spelled: Any, depth: int = 0) -> DType:
    """The dtype of a DTYPE; raises for what `_spelled` does not write."""
    if depth > _DEEPEST:
        raise ValueError("dtypes nested too deep")
    if type(spelled) is str:
        return _read_simple(spelled)
    kind, *parts = exact(spelled, list)
    if kind == "string":
        coerce, missing = parts
        if not _STRING:
            raise CodeNotFoundError("a recorded array holds a StringDType, which NumPy has from 2.0 on: install that")
        if len(exact(missing, list)) > 1:
            raise ValueError("more than one value for what is missing")
        string: DType = _STRING(coerce=exact(coerce, bool), **({"na_object": missing[0]} if missing else {}))
        return string
    if kind == "subarray":
        base, shape = parts
        made = np.dtype((_read(base, depth + 1), tuple(exact(n, int) for n in exact(shape, list))))
    elif kind in ("struct", "record"):
        itemsize, aligned, fields = parts
        made = _struct(kind, exact(itemsize, int), exact(aligned, bool), exact(fields, list), depth)
    else:
        raise ValueError("an unknown kind of dtype")
    if _spelled(made) != spelled:
        raise ValueError("a dtype that is not in its canonical form")
    return made


def _struct(kind: str, itemsize: int, aligned: bool, fields: list[Any], depth: int) -> DType:
    names, formats, offsets, titles = [], [], [], []
    for name, part, offset, *title in fields:
        names.append(exact(name, str))
        formats.append(_read(part, depth + 1))
        offsets.append(exact(offset, int))
        titles.append(exact(title[0], str) if title else None)
    described = {"names": names, "formats": formats, "offsets": offsets, "titles": titles, "itemsize": itemsize}
    made: DType = np.dtype(described, align=aligned)  # type: ignore[call-overload]
    return np.dtype((np.record, made)) if kind == "record" else made


@functools.lru_cache(maxsize=1000)
def _read_simple(text: str) -> DType:
    bits = _MANTISSA
    if found := _LONG.fullmatch(text):
        text, bits = found[1], int(found[2])
    elif not _SIMPLE.fullmatch(text):
        raise ValueError(f"no dtype is spelled {text!r:.40}")
    try:
        made = np.dtype(text)
    except TypeError:
        made = None
    if found and (made is None or not _is_long(made) or bits != _MANTISSA):
        raise CodeNotFoundError(
            f"a recorded array holds long doubles of another kind of machine ({text}, {bits} bits of mantissa), "
            "which this one cannot hold: load it on such a machine, and convert it to float64 there"
        )
    if made is None or made.str != text or (_is_long(made) and not found):
        raise ValueError(f"no dtype is spelled {text!r:.40}")
    return made


def _padding(dtype: DType) -> npt.NDArray[np.bool_] | None:
    """Which bytes of an item are no data; None where all of them are."""
    if dtype.names is None and not (_is_long(dtype) and _MANTISSA == _X87):
        return None
    data = np.zeros(dtype.itemsize, np.bool_)
    _mark(dtype, data)
    return None if data.all() else ~data


def _mark(dtype: DType, data: npt.NDArray[np.bool_]) -> None:
    """Set what is data among the bytes of an item."""
    if dtype.subdtype is not None:
        base = dtype.subdtype[0]
        for row in data.reshape(-1, base.itemsize) if data.size else ():
            _mark(base, row)
    elif dtype.names is not None:
        for name in dtype.names:
            part, offset = dtype.fields[name][:2]  # type: ignore[index]
            _mark(part, data[offset : offset + part.itemsize])
    elif _is_long(dtype) and _MANTISSA == _X87:
        little = data.reshape(-1, np.dtype(np.longdouble).itemsize)
        if dtype.str[0] == ">":
            little = little[:, ::-1]
        little[:, :10] = True
    else:
        data[:] = True


# ---- arrays ---------------------------------------------------------------------------------------------------


def _ndarray(value: Any) -> Form:
    array: Array = np.ndarray.view(value, np.ndarray)
    order: Order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    spelled = _spelled(array.dtype)
    if not array.dtype.hasobject:
        body: Any = Buffer(_bytes_of(array, order))
    elif array.dtype.names is not None:
        body = [array[name] for name in array.dtype.names]
    elif isinstance(array.dtype, _STRING):
        body = [item if type(item) is str else None for item in array.ravel(order).tolist()]
    elif array.dtype.str == "|O":
        body = array.ravel(order).tolist()
    else:
        raise NoDataFormError
    return ["numpy.ndarray", spelled, list(array.shape), order, body]


def _bytes_of(array: Array, order: Order) -> memoryview:
    """The array's own memory where that is what is recorded, else that of a copy."""
    if array.nbytes == 0:
        return memoryview(b"")
    if order == "C" and not array.flags.c_contiguous:
        array = array.copy(order="C")
    flat: Array = _flat(array, order).view(np.uint8)
    padding = _padding(array.dtype)
    if padding is not None:
        items = flat.reshape(-1, array.dtype.itemsize)
        if items[:, padding].any():
            items = items.copy()
            items[:, padding] = 0
            flat = items.reshape(-1)
    return memoryview(flat)  # type: ignore[arg-type]


def _make_ndarray(spelled: Any, shape: Any, order: Any, body: Any) -> Array:
    dtype, count = _checked(spelled, shape, order)
    if not dtype.hasobject:
        return _filled(dtype, shape, order, _pieces(body, dtype, count))
    if dtype.names is not None:
        return _from_fields(dtype, shape, order, exact(body, list))
    if len(exact(body, list)) != count:
        raise ValueError("it has another number of items than its shape says")
    made: Array = np.ndarray(shape, dtype, order=order)
    flat = _flat(made, order)
    for at, item in enumerate(body):  # one by one: NumPy would look into lists and arrays among the items
        if dtype.str != "|O":
            if item is None and hasattr(dtype, "na_object"):
                item = dtype.na_object
            elif type(item) is not str:
                raise TypeError("a text that is none")
        flat[at] = item
    return _ordered(made, order)


def _checked(spelled: Any, shape: Any, order: Any) -> tuple[DType, int]:
    """The dtype and the number of items. What they claim is compared with what is there before room is made."""
    dtype = _read(spelled)
    if dtype.subdtype is not None:
        raise ValueError("a dtype that no array has")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in exact(shape, list)) or len(shape) > 64:
        raise ValueError("a shape that no array has")
    if order not in ("C", "F"):
        raise ValueError("an unknown order")
    return dtype, math.prod(shape)


def _pieces(body: Any, dtype: DType, count: int) -> Pieces:
    pieces = Pieces.of(body)
    if pieces.size != count * dtype.itemsize:
        raise ValueError(f"its shape and dtype say {count * dtype.itemsize} bytes, and it has {pieces.size}")
    return pieces


def _filled(dtype: DType, shape: list[int], order: Order, pieces: Pieces, start: int = 0) -> Array:
    """An array of the bytes from `start` on, which come straight into its own memory."""
    made: Array = np.ndarray(shape, dtype, order=order)
    if made.nbytes:
        flat = _flat(made, order).view(np.uint8)
        pieces.fill(memoryview(flat), start)  # type: ignore[arg-type]
        padding = _padding(dtype)
        if padding is not None and flat.reshape(-1, dtype.itemsize)[:, padding].any():
            raise damaged("the padding of an array is not zero")
    return _ordered(made, order)


def _flat(made: Array, order: Order) -> Array:
    """Its items as they lie in its memory: a view."""
    return made.T.reshape(-1) if order == "F" else made.reshape(-1)


def _ordered(made: Array, order: Order) -> Array:
    if order == "F" and made.flags.c_contiguous:
        raise damaged("an array in C order is said to be in Fortran order")
    return made


def _from_fields(dtype: DType, shape: list[int], order: Order, fields: list[Any]) -> Array:
    if len(fields) != len(dtype.names or ()) or not all(type(part) is np.ndarray for part in fields):
        raise ValueError("its fields are not those of its dtype")
    held = [part.nbytes for part in fields]
    if math.prod(shape) * dtype.itemsize > 64 * sum(held) + 4096:  # padding and nothing else
        raise ValueError("its shape says more than it has")
    made: Array = np.zeros(shape, dtype, order=order)
    for name, part in zip(dtype.names or (), fields, strict=True):
        place = made[name]
        if place.shape != part.shape or place.dtype != part.dtype:
            raise ValueError("a field is not what its dtype says")
        place[...] = part
    return _ordered(made, order)


# ---- subclasses, scalars, dtypes ----------------------------------------------------------------------------


def _viewed(name: str) -> Callable[[Any], Form]:
    def form(value: Any) -> Form:
        if any(key != "_getitem" for key in vars(value)):  # attributes that a user gave it
            raise NoDataFormError
        return [name, np.ndarray.view(value, np.ndarray)]

    return form


def _make_viewed(cls: Any) -> Callable[..., Array]:
    def make(plain: Any) -> Array:
        made: Array = exact(plain, np.ndarray).view(cls)
        if made.shape != plain.shape or made.dtype.type is not plain.dtype.type:
            raise ValueError(f"it is no {cls.__name__}")
        return made

    return make


_MASKED_STATE = {
    "_baseclass", "_basedict", "_fill_value", "_hardmask", "_isfield", "_mask", "_optinfo", "_sharedmask",
}  # fmt: skip


def _masked(value: Any) -> Form:
    held = vars(value)
    if not held.keys() <= _MASKED_STATE or held["_baseclass"] is not np.ndarray or held["_optinfo"]:
        raise NoDataFormError
    data: Array = np.ndarray.view(value, np.ndarray)
    mask = None if held["_mask"] is np.ma.nomask else np.asarray(held["_mask"], order="C")
    fill = None if held["_fill_value"] is None else np.asarray(held["_fill_value"])
    _check_masked(data, mask, fill)
    if fill is not None and _is_usual(fill, data.dtype):  # it is put there when somebody looks at it
        fill = None
    if mask is not None:
        data = data.copy(order="F" if data.flags.fnc else "C")
        _clear(data, mask)
    return ["numpy.masked", data, mask, fill, bool(held["_hardmask"])]


def _is_usual(fill: Array, dtype: DType) -> bool:
    usual = np.ma.default_fill_value(dtype)
    if fill.dtype.hasobject:
        item: Any = fill[()]
        return type(item) is str and item == usual
    return bool(_bytes_of(fill, "C") == _bytes_of(np.array(usual, fill.dtype), "C"))


def _check_masked(data: Array, mask: Array | None, fill: Array | None) -> None:
    if mask is not None and (mask.shape != data.shape or mask.dtype != np.ma.make_mask_descr(data.dtype)):
        raise ValueError("its mask does not fit")
    if fill is not None and fill.shape != ():  # its dtype is not always the data's
        raise ValueError("its fill value does not fit")


def _clear(data: Array, mask: Array) -> None:
    """Zeros under the mask: what lies there is not to be seen, and no part of the value."""
    if data.dtype.names is None:
        data[mask] = np.zeros((), data.dtype)
        return
    for name in data.dtype.names:
        _clear(data[name], mask[name])


def _make_masked(*items: Any) -> Any:
    if not items:
        return np.ma.masked
    data, mask, fill, hard = items
    for part in items[:3]:
        if part is not None:
            exact(part, np.ndarray)
    _check_masked(data, mask, fill)
    made: Any = np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, hard_mask=exact(hard, bool))
    if fill is not None:
        made._fill_value = fill
    return made


def _scalar(value: Any) -> Form:
    cls = type(value)
    if cls is np.str_:  # its own dtype would drop zeros at its end
        return ["numpy.scalar", "U", str.__getitem__(value, slice(None))]
    if cls is np.bytes_:
        return ["numpy.scalar", "S", bytes.__getitem__(value, slice(None))]
    dtype = value.dtype
    if dtype.type is not cls or dtype.hasobject:
        raise NoDataFormError
    if dtype.kind != "V" and not _is_long(dtype):
        return ["numpy.scalar", _spelled_simple(dtype), value.tobytes()]
    return ["numpy.scalar", _spelled(dtype), bytes(_bytes_of(np.asarray(value), "C"))]


def _make_scalar(spelled: Any, body: Any) -> Any:
    if spelled == "U":
        return np.str_(exact(body, str))
    if spelled == "S":
        return np.bytes_(exact(body, bytes))
    dtype = _read(spelled)
    if dtype.hasobject or dtype.kind in "SU" or dtype.subdtype is not None:
        raise ValueError("a dtype that no scalar has")
    if len(exact(body, bytes)) != dtype.itemsize:
        raise ValueError("it is not as long as its dtype says")
    if dtype.kind != "V" and not _is_long(dtype):
        return np.frombuffer(body, dtype)[0]
    made: Array = np.ndarray((), dtype, bytearray(body))
    if bytes(_bytes_of(made, "C")) != body:
        raise ValueError("its padding is not zero")
    return made[()]


def _dtype(value: Any) -> Form:
    return ["numpy.dtype", _spelled(value)]


_FORMERS: dict[type, Callable[[Any], Form]] = {
    np.ndarray: _ndarray,
    np.memmap: _ndarray,
    np.matrix: _viewed("numpy.matrix"),
    np.recarray: _viewed("numpy.recarray"),
    np.ma.MaskedArray: _masked,
    type(np.ma.masked): lambda _: ["numpy.masked"],
}
MAKERS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _read,
    "numpy.masked": _make_masked,
    "numpy.matrix": _make_viewed(np.matrix),
    "numpy.ndarray": _make_ndarray,
    "numpy.scalar": _make_scalar,
    "numpy.recarray": _make_viewed(np.recarray),
}


def former(cls: type) -> Callable[[Any], Form] | None:
    """What makes the form of values of exactly this class; None where they have none (a `Generator`, a ufunc)."""
    if cls in _FORMERS:
        return _FORMERS[cls]
    if issubclass(cls, np.generic):
        return _scalar
    return _dtype if issubclass(cls, np.dtype) else None


# ---- a part of an array -------------------------------------------------------------------------------------


def lazy(items: Sequence[Any]) -> LazyArray:
    """A recorded array of which nothing has been fetched yet.

    Parameters
    ----------
    items
        What follows the tag `ndarray` in a node: DTYPE, shape, order and the body as `Pieces`.

    Raises
    ------
    CorruptionError
        No encoder wrote them.
    UsageError
        Its items are objects or texts, which do not lie in a buffer: load it whole.
    """
    try:
        spelled, shape, order, body = items
        dtype, count = _checked(spelled, shape, order)
        if not dtype.hasobject:
            return LazyArray(dtype, tuple(shape), order, _pieces(body, dtype, count))
    except (TypeError, ValueError) as error:
        raise damaged(f"its 'ndarray' cannot be ({error!s:.200})") from error
    raise UsageError(f"the items of this array ({dtype}) do not lie in a buffer: load it whole")


class LazyArray:
    """An array in a store. Rows are fetched when they are asked for, and only the chunks that hold them.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Examples
    --------
    >>> rows = lazy(["<i8", [3, 2], "C", np.arange(6).tobytes()])
    >>> rows
    <LazyArray of shape (3, 2), int64>
    >>> rows[1:, 0]
    array([2, 4])
    """

    __slots__ = ("_order", "_pieces", "dtype", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...], order: Order, pieces: Pieces) -> None:
        self.dtype = dtype
        self.shape = shape
        self._order = order
        self._pieces = pieces

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What the whole array would take in memory, in bytes."""
        return self._pieces.size

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array of no dimension has no length")
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """What NumPy gives for this key: an array of its own, or a scalar.

        Only the rows (along the first axis) between the first and the last that `key` asks for are fetched, where it
        begins with an integer or a slice; any other key, and an array in Fortran order, needs all of it.
        """
        first, *rest = (key or (...,)) if isinstance(key, tuple) else (key,)
        by_rows = isinstance(first, (slice, int, np.integer)) and not isinstance(first, bool)
        if not by_rows or not self.shape or self._order == "F":
            return self._whole()[key]
        if not isinstance(first, slice):
            at = range(len(self))[first]  # raises IndexError as a list does
            return self._rows(at, at + 1)[(0, *rest)]
        wanted = range(len(self))[first]
        if not wanted:
            return self._rows(0, 0)[(slice(None), *rest)]
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        return self._rows(low, high)[(slice(None, None, wanted.step), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array in a store cannot be had without a copy")
        whole = self._whole()
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<LazyArray of shape {self.shape}, {self.dtype}>"

    def _whole(self) -> Array:
        return _filled(self.dtype, list(self.shape), self._order, self._pieces)

    def _rows(self, start: int, stop: int) -> Array:
        width = math.prod(self.shape[1:]) * self.dtype.itemsize
        return _filled(self.dtype, [stop - start, *self.shape[1:]], "C", self._pieces, start * width)
