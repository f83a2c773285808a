"""What changed in an array: its shape and type, how many items, by how much, and the first of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .changes import Change, Found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["as_array", "compare_arrays", "is_array"]

_FIRST = 5  # positions that are shown
_BLOCK = 1 << 20  # items compared at a time: a copy of them as float64 is 8 MiB


def is_array(value: Any) -> bool:
    """An array of NumPy or PyTorch, of their own classes: a subclass is the user's own code."""
    cls = type(value)
    return (cls.__module__.partition(".")[0], cls.__name__) in {("numpy", "ndarray"), ("torch", "Tensor")}


def as_array(value: Any) -> NDArray[Any]:
    """The value as a NumPy array, without a copy where that can be."""
    if type(value).__module__.partition(".")[0] == "torch":
        value = value.detach().cpu().resolve_conj().numpy()
    made: NDArray[Any] = value
    return made


def compare_arrays(a: NDArray[Any], b: NDArray[Any], path: str, found: Found) -> None:
    """Compare two arrays. NaN equals NaN; of different lengths, what both have is compared.

    >>> import numpy as np
    >>> found = Found()
    >>> compare_arrays(np.array([1.0, np.nan]), np.array([1.5, np.nan]), "", found)
    >>> found.changes[0].detail["different"], found.changes[1].path
    (1, '[0]')
    """
    if a.dtype != b.dtype:
        found.add(Change(path, "dtype", str(a.dtype), str(b.dtype)))
    if a.shape != b.shape:
        found.add(Change(path, "shape", list(a.shape), list(b.shape)))
        if a.shape[1:] != b.shape[1:] or not a.ndim or not b.ndim:
            return
        least = min(len(a), len(b))
        a, b = a[:least], b[:least]
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    count = 0
    first: list[int] = []
    largest = relative = 0.0
    for start in range(0, a.size, _BLOCK):
        x, y = flat_a[start : start + _BLOCK], flat_b[start : start + _BLOCK]
        at = _different(x, y)
        count += len(at)
        first += [start + int(i) for i in at[: _FIRST - len(first)]]
        if len(at) and _is_number(x) and _is_number(y):
            by, share = _distance(x[at], y[at])
            largest, relative = max(largest, by), max(relative, share)
    if not count:
        return
    detail: dict[str, Any] = {"different": count, "of": a.size}
    if _is_number(a) and _is_number(b):
        detail |= {"largest": _finite(largest), "largest_relative": _finite(relative)}
    found.sum_up(Change(path, "items", detail=detail))
    for n in first:
        place = _place(n, a.shape)
        found.add(Change(f"{path}{place}", "changed", _item(flat_a[n]), _item(flat_b[n])))
    found.count += count - len(first)


def _different(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The positions where they differ."""
    import numpy as np

    if x.dtype.hasobject or y.dtype.hasobject:
        return np.array([i for i in range(len(x)) if not _same_object(x[i], y[i])], dtype=np.intp)
    try:
        different = np.asarray(x != y)
    except (TypeError, ValueError):  # texts and numbers, say
        different = np.ones(len(x), dtype=bool)
    if different.shape != x.shape:  # records with other fields
        different = np.ones(len(x), dtype=bool)
    if x.dtype.kind in "fcmM" and y.dtype.kind in "fcmM":
        different &= ~((x != x) & (y != y))  # noqa: PLR0124 - NaN and NaT alone differ from themselves
    positions: NDArray[Any] = np.flatnonzero(different)
    return positions


def _same_object(x: Any, y: Any) -> bool:
    from .trees import same

    return same(x, y)


def _is_number(x: NDArray[Any]) -> bool:
    return x.dtype.kind in "biufc"


def _distance(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float]:
    """The largest distance, and the largest in relation to the first one."""
    import numpy as np

    wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
    with np.errstate(all="ignore"):
        p, q = x.astype(wide), y.astype(wide)
        distance = np.abs(q - p)
        if x.dtype == y.dtype and x.dtype.kind in "iu":  # beyond 2**53 floats would lose it; this wraps to what it is
            distance = (np.maximum(x, y).astype(np.uint64) - np.minimum(x, y).astype(np.uint64)).astype(np.float64)
        share = np.where(p == 0, 0, distance / np.abs(p))  # nothing has a share of zero
    return _largest(distance), _largest(share)


def _largest(x: NDArray[Any]) -> float:
    """NaN on one side alone is as far away as can be."""
    largest = float(x.max())
    return math.inf if math.isnan(largest) else largest


def _finite(x: float) -> float | str:
    return x if math.isfinite(x) else "infinite"


def _place(n: int, shape: tuple[int, ...]) -> str:
    """Where the `n`-th item stands."""
    if not shape:
        return ""
    indices = []
    for length in reversed(shape):
        n, i = divmod(n, length)
        indices.append(str(i))
    return f"[{', '.join(reversed(indices))}]"


def _item(x: np.generic | Any) -> Any:
    item = getattr(x, "item", None)
    return x if item is None else item()
