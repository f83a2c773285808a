"""Views of NumPy's: how one looks into the memory of its base, as a node of a document says it, and the way back."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["layout_of", "view_of"]


def layout_of(o: Any, at: int) -> dict[str, Any]:
    """How a view looks into memory, from the byte `at` on."""
    return {
        "at": at,
        "dtype": o.dtype,
        "shape": o.shape,
        "strides": o.strides,
        "writeable": bool(o.flags.writeable),
    }


def view_of(base: Any, node: Any) -> Any:
    """The view of an array's memory that a node describes."""
    import numpy as np

    shape, dtype, strides, at = tuple(node["shape"]), node["dtype"], tuple(node["strides"]), node["at"]
    order = sorted(range(base.ndim), key=lambda axis: (-abs(base.strides[axis]), axis))
    across = base.transpose(order)
    if not dtype.hasobject:
        return np.ndarray(shape, dtype, across, at, strides)
    flat = across.reshape(-1)
    for memory in (across, flat):
        if (sliced := _sliced(memory, at, shape, strides)) is not None:
            return sliced
    whole = flat.reshape(shape) if at == 0 and math.prod(shape) == flat.size else None
    if whole is not None and whole.strides == strides:
        return whole
    return np.lib.stride_tricks.as_strided(flat[at // base.itemsize :], shape, strides)


def _sliced(memory: Any, at: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """The view by slices of an array in C order, or None: memory of objects cannot be looked into in another way."""
    import numpy as np

    if not memory.size or 0 in shape or 0 in memory.strides:
        return None
    starts = np.unravel_index(at // memory.itemsize, memory.shape)
    slices: list[Any] = [int(start) for start in starts]
    axes: list[int] = []
    for length, stride in zip(shape, strides, strict=True):
        for axis, (size, step) in enumerate(zip(memory.shape, memory.strides, strict=True)):
            by = stride // step
            last = int(starts[axis]) + (length - 1) * by
            if axis not in axes and by and stride % step == 0 and 0 <= last < size:
                end = last + (1 if by > 0 else -1)
                slices[axis] = slice(int(starts[axis]), None if end < 0 else end, by)
                axes.append(axis)
                break
        else:
            return None
    view = memory[tuple(slices)]
    return view.transpose([sorted(axes).index(axis) for axis in axes]) if axes else memory[(*slices, ...)]
