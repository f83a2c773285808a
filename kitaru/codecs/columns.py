"""Arrow's arrays, tables, schemas and scalars by their own buffers, so that their types come back equal.

The buffers are canonical: no slice offset, no chunks, no bitmap where nothing is null, zeros under nulls and in the
padding. So arrays that Arrow calls equal have equal bytes, and are taken as they lie in memory where they are so
already. The tags are described in docs/format.md.

Nothing here belongs to Arrow alone: pandas' columns of Arrow dtypes and polars' columns lie in the same form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .buffers import Buffer, Pieces
from .forms import Form, NoDataFormError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAKERS", "former", "one_array"]

_DEEPEST = 64  # types nested deeper are walked by recursion in Arrow, which hostile bytes must not overflow
_PLAIN = (
    "null", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", "date32", "date64", "string", "large_string", "string_view", "binary", "large_binary", "binary_view",
    "month_day_nano_interval",
)  # fmt: skip
_LISTS = ("list_", "large_list", "list_view", "large_list_view")
_UNITS = ("time32", "time64", "duration")
_DECIMALS = ("decimal32", "decimal64", "decimal128", "decimal256")
_BY_NAME = frozenset({*_PLAIN, *_LISTS, *_UNITS, *_DECIMALS, "timestamp", "uuid", "bool8", "json_", "opaque"})


def former(cls: type) -> Callable[[Any], Form] | None:
    """How values of that class of pyarrow are written; None for those without a data form."""
    if cls.__module__ != "pyarrow.lib":
        return None
    kinds: tuple[tuple[type, Callable[[Any], Form]], ...] = (
        (pa.Array, _array),
        (pa.ChunkedArray, lambda v: ["arrow.chunked", one_array(v)]),
        (pa.Table, _table("arrow.table")),
        (pa.RecordBatch, _table("arrow.batch")),
        (pa.Scalar, _scalar),
        (pa.DataType, _type),
        (pa.Field, lambda v: ["arrow.field", v.name, v.type, v.nullable, v.metadata]),
        (pa.Schema, lambda v: ["arrow.schema", v.metadata, *v]),
    )
    return next((form for kind, form in kinds if issubclass(cls, kind)), None)


# ---- types --------------------------------------------------------------------------------------------------------


@functools.cache
def _plain_types() -> dict[Any, str]:
    return {getattr(pa, name)(): name for name in _PLAIN if hasattr(pa, name)}  # older Arrows lack some


def _type(t: Any) -> Form:
    if _depth(t) > _DEEPEST:
        raise NoDataFormError
    return ["arrow.type", *_spelled(t)]


def _spelled(t: Any) -> Form:
    is_ = pa.types
    if not isinstance(t, pa.BaseExtensionType) and t in _plain_types():
        return [_plain_types()[t]]
    if isinstance(t, pa.BaseExtensionType):
        return _spelled_extension(t)
    for name in _DECIMALS:
        if hasattr(is_, f"is_{name}") and getattr(is_, f"is_{name}")(t):
            return [name, t.precision, t.scale]
    for name in _UNITS:
        if getattr(is_, f"is_{name}")(t):
            return [name, t.unit]
    for name in _LISTS:
        if getattr(is_, f"is_{name.rstrip('_')}")(t):
            return [name, t.value_field]
    if is_.is_timestamp(t):
        return ["timestamp", t.unit, t.tz]
    if is_.is_fixed_size_binary(t):
        return ["fixed_size_binary", t.byte_width]
    if is_.is_fixed_size_list(t):
        return ["fixed_size_list", t.value_field, t.list_size]
    if is_.is_struct(t):
        return ["struct", *t]
    if is_.is_map(t):
        return ["map", t.key_field, t.item_field, t.keys_sorted]
    if is_.is_dictionary(t):
        return ["dictionary", t.index_type, t.value_type, t.ordered]
    if is_.is_union(t):
        return [f"{t.mode}_union", list(t.type_codes), *map(t.field, range(t.num_fields))]
    if is_.is_run_end_encoded(t):
        return ["run_end_encoded", t.run_end_type, t.value_type]
    raise NoDataFormError


def _spelled_extension(t: Any) -> Form:
    """Arrow's own extension types; those that libraries register run their code when they are read."""
    kind = type(t).__name__ if type(t).__module__ == "pyarrow.lib" else ""
    if kind == "UuidType":
        return ["uuid"]
    if kind == "Bool8Type":
        return ["bool8"]
    if kind == "JsonType":
        return ["json_", t.storage_type]
    if kind == "OpaqueType":
        return ["opaque", t.storage_type, t.type_name, t.vendor_name]
    if kind == "FixedShapeTensorType":
        return ["fixed_shape_tensor", t.value_type, t.shape, t.dim_names, t.permutation]
    raise NoDataFormError


def _made_type(name: Any, *items: Any) -> Any:
    if name in _BY_NAME:
        made = getattr(pa, name)(*items)
    elif name == "fixed_size_binary":
        (width,) = items
        made = pa.binary(_count(width))
    elif name == "fixed_size_list":
        field, size = items
        made = pa.list_(field, _count(size))
    elif name == "struct":
        made = pa.struct(items)
    elif name == "map":
        made = pa.map_(*items)
    elif name == "dictionary":
        made = pa.dictionary(*items)
    elif name in ("sparse_union", "dense_union"):
        codes, *fields = items
        if len(set(codes)) != len(fields) or not all(type(c) is int and 0 <= c < 128 for c in codes):
            raise ValueError("a union whose codes cannot be")  # Arrow itself would not look
        made = getattr(pa, name)(fields, codes)
    elif name == "run_end_encoded":
        made = pa.run_end_encoded(*items)
    elif name == "fixed_shape_tensor":
        value, shape, names, permutation = items
        made = pa.fixed_shape_tensor(value, shape, dim_names=names, permutation=permutation)
    else:
        raise ValueError(f"no Arrow type is called {name!r:.40}")
    if _depth(made) > _DEEPEST:
        raise ValueError("a type is nested too deep")
    return made


def _depth(t: Any) -> int:
    """How deep a type is nested, counted no further than is allowed."""
    level, depth = [t], 0
    while level and depth <= _DEEPEST:
        level = [inner for outer in level for inner in _inner(outer)]
        depth += 1
    return depth


def _inner(t: Any) -> list[Any]:
    if isinstance(t, pa.BaseExtensionType):
        return [t.storage_type]
    if pa.types.is_dictionary(t):
        return [t.value_type]
    if pa.types.is_run_end_encoded(t):
        return [t.value_type]
    return [t.field(at).type for at in range(t.num_fields)]


def _field(name: Any, kind: Any, nullable: Any, metadata: Any) -> Any:
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def _schema(metadata: Any, *fields: Any) -> Any:
    return pa.schema(fields, metadata=metadata)


# ---- arrays into canonical buffers --------------------------------------------------------------------------------


def one_array(v: Any) -> Any:
    """A chunked array as one: without a copy where it has one chunk."""
    return v.chunk(0) if v.num_chunks == 1 else v.combine_chunks()


def _array(v: Any) -> Form:
    t, is_ = v.type, pa.types
    if _depth(t) > _DEEPEST:
        raise NoDataFormError
    if isinstance(t, pa.BaseExtensionType):
        parts = [v.storage]
    elif is_.is_null(t):
        parts = []
    elif is_.is_dictionary(t):
        parts = [v.indices, v.dictionary]
    elif is_.is_run_end_encoded(t):
        runs = pc.run_end_encode(pc.run_end_decode(v), run_end_type=t.run_end_type)
        parts = [runs.run_ends, runs.values]
    elif is_.is_union(t):
        parts = _union_parts(v)
    elif is_.is_string_view(t):
        return ["arrow.array", t, *_array(v.cast(pa.large_string()))[2:]]
    elif is_.is_binary_view(t):
        return ["arrow.array", t, *_array(v.cast(pa.large_binary()))[2:]]
    else:
        nulls = v.is_null().to_numpy(zero_copy_only=False) if v.null_count else None
        validity = None if nulls is None else _buffer(np.packbits(~nulls, bitorder="little"))
        parts = [validity, *_content(v, nulls)]
    return ["arrow.array", t, len(v), *parts]


def _content(v: Any, nulls: NDArray[np.bool_] | None) -> list[Any]:
    """The buffers and children behind the validity of an array that has one."""
    t, is_, n = v.type, pa.types, len(v)
    if is_.is_boolean(t):
        values = v.fill_null(False) if nulls is not None else v
        return [_buffer(np.packbits(values.to_numpy(zero_copy_only=False), bitorder="little"))]
    if is_.is_struct(t):
        return v.flatten() if nulls is not None else [v.field(at) for at in range(t.num_fields)]
    if is_.is_fixed_size_list(t):
        size = t.list_size
        inner = v.values.slice(v.offset * size, n * size)
        if nulls is not None:
            inner = inner.take(pa.array(np.arange(n * size), mask=np.repeat(nulls, size)))
        return [inner]
    if is_.is_list_view(t) or is_.is_large_list_view(t):
        return _unviewed(v, nulls)
    if _offset_type(t) is None:
        return [_fixed_width(v, nulls)]
    if nulls is not None and np.diff(_offsets(v))[nulls].any():
        v = v.take(pa.array(np.arange(n), mask=nulls))
    offsets = _offsets(v)
    start, end = int(offsets[0]), int(offsets[-1])
    placed = _buffer(offsets if start == 0 else offsets - offsets[0])
    if is_.is_list(t) or is_.is_large_list(t) or is_.is_map(t):
        return [placed, v.values.slice(start, end - start)]
    data = v.buffers()[2]
    return [placed, Buffer(memoryview(b"") if data is None else _bytes(data)[start:end])]


def _unviewed(v: Any, nulls: NDArray[np.bool_] | None) -> list[Any]:
    """The offsets and values that a list of the same items would have. (Arrow's own cast drops items.)"""
    kind = _view_offset_type(v.type)
    starts, sizes = (np.frombuffer(raw or b"", kind)[v.offset : v.offset + len(v)] for raw in v.buffers()[1:3])
    if nulls is not None:
        sizes = np.where(nulls, kind.type(0), sizes)
    offsets = np.concatenate((np.zeros(1, kind), np.cumsum(sizes, dtype=kind)))
    rows = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1], dtype=kind)
    return [_buffer(offsets), v.values.take(pa.array(rows))]


def _view_offset_type(t: Any) -> Any:
    return np.dtype("<i8") if pa.types.is_large_list_view(t) else np.dtype("<i4")


def _offset_type(t: Any) -> Any:
    is_ = pa.types
    if is_.is_large_string(t) or is_.is_large_binary(t) or is_.is_large_list(t):
        return np.dtype("<i8")
    short = is_.is_string(t) or is_.is_binary(t) or is_.is_list(t) or is_.is_map(t)
    return np.dtype("<i4") if short else None


def _offsets(v: Any) -> NDArray[Any]:
    kind, raw = _offset_type(v.type), v.buffers()[1]
    if raw is None or not raw.size:  # Arrow allows it where there is nothing
        return np.zeros(1, kind)
    return np.frombuffer(raw, kind)[v.offset : v.offset + len(v) + 1]


def _fixed_width(v: Any, nulls: NDArray[np.bool_] | None) -> Buffer:
    width, raw = v.type.bit_width // 8, v.buffers()[1]
    if raw is None:
        return Buffer(memoryview(b""))
    data = _bytes(raw)[v.offset * width : (v.offset + len(v)) * width]
    if nulls is None or not width:
        return Buffer(data)
    slots: NDArray[Any]
    slots = np.frombuffer(data, f"<u{width}") if width <= 8 and width & (width - 1) == 0 else np.frombuffer(data, "u1")
    hidden = nulls if len(slots) == len(v) else np.repeat(nulls, width)
    if slots[hidden].any():
        slots = np.where(hidden, slots.dtype.type(0), slots)
    return _buffer(slots)


def _union_parts(v: Any) -> list[Any]:
    """Of each child only what is chosen: the rest is null in a sparse union, and left out of a dense one."""
    buffers, rows_of = v.buffers(), slice(v.offset, v.offset + len(v))  # `type_codes` and `offsets` forget the slice
    codes = np.frombuffer(buffers[1] or b"", "i1")[rows_of]
    parts = [pa.array(codes)]
    for at, code in enumerate(v.type.type_codes):
        chosen = codes == code
        if v.type.mode == "dense":
            rows = pa.array(np.frombuffer(buffers[2] or b"", "<i4")[rows_of][chosen])
        else:
            rows = pa.array(np.arange(len(v)), mask=~chosen)
        parts.append(v.field(at).take(rows))
    return parts


def _buffer(data: NDArray[Any]) -> Buffer:
    whole: Any = np.ascontiguousarray(data)
    return Buffer(memoryview(whole).cast("B") if data.size else memoryview(b""))


def _bytes(raw: Any) -> memoryview:
    return memoryview(raw).cast("B") if raw.size else memoryview(b"")


# ---- arrays from their parts --------------------------------------------------------------------------------------


def _made_array(t: Any, n: Any, *parts: Any) -> Any:
    if not isinstance(t, pa.DataType):
        raise TypeError("an array without a type")
    made = _unchecked(t, _count(n), parts)
    if made.type != t or len(made) != n:
        raise ValueError(f"an array of {t} that is something else")
    made.validate(full=True)
    return made


def _unchecked(t: Any, n: int, parts: tuple[Any, ...]) -> Any:
    is_ = pa.types
    if isinstance(t, pa.BaseExtensionType):
        (storage,) = parts
        return pa.ExtensionArray.from_storage(t, storage)
    if is_.is_null(t):
        () = parts
        return _nulls(n)
    if is_.is_dictionary(t):
        indices, dictionary = parts
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=t.ordered)
    if is_.is_run_end_encoded(t):
        ends, values = parts
        return pa.RunEndEncodedArray.from_arrays(ends, values, type=t)
    if is_.is_union(t):
        return _made_union(t, n, parts)
    if is_.is_string_view(t):
        return _made_array(pa.large_string(), n, *parts).cast(t)
    if is_.is_binary_view(t):
        return _made_array(pa.large_binary(), n, *parts).cast(t)
    validity = None if parts[0] is None else _fetched(parts[0], -(-n // 8))
    if is_.is_struct(t):
        _children(t, parts[1:], n)
        return pa.Array.from_buffers(t, n, [validity], children=list(parts[1:]))
    if is_.is_fixed_size_list(t):
        _children(t, parts[1:], n * t.list_size)
        return pa.Array.from_buffers(t, n, [validity], children=list(parts[1:]))
    if is_.is_list_view(t) or is_.is_large_list_view(t):
        return _made_view(t, n, validity, parts)
    kind = _offset_type(t)
    if kind is None:
        (body,) = parts[1:]
        size = -(-n // 8) if is_.is_boolean(t) else n * (t.bit_width // 8)
        return pa.Array.from_buffers(t, n, [validity, _fetched(body, size)])
    placed, body = parts[1:]
    offsets = _fetched(placed, (n + 1) * kind.itemsize)
    end = int(np.frombuffer(offsets, kind)[-1])
    if is_.is_list(t) or is_.is_large_list(t) or is_.is_map(t):
        _children(t, (body,), end)
        if is_.is_map(t) and (body.null_count or body.field(0).null_count):
            raise ValueError("a map with a key that is null")  # Arrow itself would end the process
        return pa.Array.from_buffers(t, n, [validity, offsets], children=[body])
    return pa.Array.from_buffers(t, n, [validity, offsets, _fetched(body, end)])


def _nulls(n: int) -> Any:
    """Nulls without a type, of which `pa.nulls` would take memory for as many as are claimed."""
    return pa.Array.from_buffers(pa.null(), n, [None])


def _children(t: Any, given: tuple[Any, ...], n: int) -> None:
    """Raise unless these arrays are the children of an array of that type: Arrow itself would not look."""
    if len(given) != t.num_fields:
        raise ValueError("an array with another number of children")
    for at, child in enumerate(given):
        if not isinstance(child, pa.Array) or child.type != t.field(at).type or len(child) != n:
            raise ValueError("a child of an array that does not fit it")


def _made_view(t: Any, n: int, validity: Any, parts: tuple[Any, ...]) -> Any:
    placed, inner = parts[1:]
    kind = _view_offset_type(t)
    offsets = np.frombuffer(_fetched(placed, (n + 1) * kind.itemsize), kind)
    _children(t, (inner,), int(offsets[-1]))
    starts, sizes = offsets[:-1], np.diff(offsets)
    return pa.Array.from_buffers(t, n, [validity, pa.py_buffer(starts), pa.py_buffer(sizes)], children=[inner])


def _made_union(t: Any, n: int, parts: tuple[Any, ...]) -> Any:
    codes, *children = parts
    chosen = codes.to_numpy(zero_copy_only=False)
    if codes.type != pa.int8() or len(codes) != n or len(children) != t.num_fields:
        raise ValueError("a union whose parts do not fit it")
    names = [t.field(at).name for at in range(t.num_fields)]
    offsets = np.zeros(n, "<i4")
    for at, code in enumerate(t.type_codes):
        offsets[chosen == code] = np.arange((chosen == code).sum())
        _children(pa.struct([t.field(at)]), (children[at],), int((chosen == code).sum()) if t.mode == "dense" else n)
    if t.mode == "dense":
        made = pa.UnionArray.from_dense(codes, pa.array(offsets), children, names, list(t.type_codes))
    else:
        made = pa.UnionArray.from_sparse(codes, children, names, list(t.type_codes))
    return made


def _fetched(part: Any, size: int) -> Any:
    """A buffer of exactly that size, filled from where its bytes are."""
    pieces = Pieces.of(part)
    if pieces.size != size:
        raise ValueError(f"a buffer of {pieces.size} bytes where {size} are needed")
    buffer = pa.allocate_buffer(size)
    if size:
        pieces.fill(memoryview(buffer).cast("B"))
    return buffer


def _count(n: Any) -> int:
    if type(n) is not int or not 0 <= n < 1 << 48:
        raise ValueError("a length that cannot be")
    return n


# ---- tables and scalars -------------------------------------------------------------------------------------------


def _table(tag: str) -> Callable[[Any], Form]:
    def form(v: Any) -> Form:
        columns = [one_array(c) if isinstance(c, pa.ChunkedArray) else c for c in v.columns]
        return [tag, v.schema, v.num_rows, *columns]

    return form


def _made_table(kind: Any) -> Callable[..., Any]:
    def make(schema: Any, rows: Any, *columns: Any) -> Any:
        _children(pa.struct(schema), columns, _count(rows))
        if columns:
            return kind.from_arrays(list(columns), schema=schema)
        held = pa.schema([("", pa.null())], metadata=schema.metadata)
        return kind.from_arrays([_nulls(rows)], schema=held).select([])

    return make


def _scalar(v: Any) -> Form:
    if not v.is_valid and not isinstance(v, pa.DictionaryScalar):
        return ["arrow.scalar", pa.nulls(1, v.type)]
    if isinstance(v, pa.DictionaryScalar):
        indices = pa.array([v.index.as_py()], v.type.index_type)
        return ["arrow.scalar", pa.DictionaryArray.from_arrays(indices, v.dictionary, ordered=v.type.ordered)]
    if isinstance(v, pa.ExtensionScalar):
        return ["arrow.scalar", pa.ExtensionArray.from_storage(v.type, pa.array([v.value], v.type.storage_type))]
    return ["arrow.scalar", pa.array([v], v.type)]


def _made_scalar(array: Any) -> Any:
    if not isinstance(array, pa.Array) or len(array) != 1:
        raise ValueError("a scalar that is not one")
    return array[0]


def _made_chunked(array: Any) -> Any:
    if not isinstance(array, pa.Array):
        raise TypeError("a chunked array without an array")
    return pa.chunked_array([array])


MAKERS: dict[str, Callable[..., Any]] = {
    "arrow.array": _made_array,
    "arrow.batch": _made_table(pa.RecordBatch),
    "arrow.chunked": _made_chunked,
    "arrow.field": _field,
    "arrow.scalar": _made_scalar,
    "arrow.schema": _schema,
    "arrow.table": _made_table(pa.Table),
    "arrow.type": _made_type,
}
