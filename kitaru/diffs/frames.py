"""What changed in a table: columns, types, rows, and cells. For pandas and polars, by their own methods alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from ..errors import UsageError
from ..previews import preview, printable
from .changes import Change, Found
from .sequences import gaps, matched

__all__ = ["compare_frames", "is_frame"]

_BY_CONTENT = 200_000  # rows that are aligned by what is in them; of equally many a quarter, for none may be new
_TABLES = {("pandas", "DataFrame"), ("pandas", "Series"), ("polars", "DataFrame"), ("polars", "Series")}


def is_frame(value: Any) -> bool:
    """A table or a column of pandas or polars, of their own classes."""
    cls = type(value)
    return (cls.__module__.partition(".")[0], cls.__name__) in _TABLES


def compare_frames(a: Any, b: Any, path: str, found: Found, keys: Sequence[str] = ()) -> None:
    """Compare two tables of the same library. Missing equals missing.

    Parameters
    ----------
    keys
        The columns whose values name a row: rows with the same ones are the same row, wherever they stand; of several
        rows with the same ones the first is paired with the first, the second with the second. Without keys, the rows
        of a pandas frame with an index of its own go by that; any others by their place, and where rows were added or
        removed, by what is in them.

    Raises
    ------
    UsageError
        A key is no column of both.
    """
    x, y = _table(a), _table(b)
    columns = _columns(x, y, path, found)
    rows = _Rows(x, y, columns, keys)
    cells: list[list[int]] = [x.different(i, rows.a, y, j, rows.b) for _, i, j in columns]
    counts = {_label(name): len(at) for (name, _, _), at in zip(columns, cells, strict=True) if at}
    total = sum(counts.values())
    if total or rows.removed or rows.added:
        detail = {
            "rows": [len(x), len(y)],
            "removed": len(rows.removed),
            "added": len(rows.added),
            "cells": total,
            "columns": counts,
            "by": rows.by,
        }
        if rows.repeated:
            detail["repeated"] = rows.repeated
        found.sum_up(Change(path, "rows", detail=detail))
    for side, table, kind in ((rows.removed, x, "removed"), (rows.added, y, "added")):
        for n in side:
            if found.full:
                found.count += 1
                continue
            shown = table.row(n)
            place = f"{path}[{rows.name(table, n)}]"
            found.add(Change(place, kind, a=shown) if kind == "removed" else Change(place, kind, b=shown))
    changed = sorted((n, c) for c, at in enumerate(cells) for n in (at if len(at) < 10_000 else at[:10_000]))
    shown_cells = 0
    for n, c in changed:
        if found.full:
            break
        name, i, j = columns[c]
        here, there = (f"{path}[{rows.name(t, at)}].{_label(name)}" for t, at in ((x, rows.a[n]), (y, rows.b[n])))
        other = there if there != here else ""
        found.add(Change(here, "changed", x.cell(rows.a[n], i), y.cell(rows.b[n], j), other))
        shown_cells += 1
    found.count += total - shown_cells


def _label(name: Any) -> str:
    return printable(name) if isinstance(name, str) and name.isidentifier() else _glimpse(name)


def _column(path: str, name: Any) -> str:
    return f"{path}.{_label(name)}".removeprefix(".")


def _glimpse(value: Any) -> str:
    return str(preview(value)["text"])


def _columns(x: _Table, y: _Table, path: str, found: Found) -> list[tuple[Any, int, int]]:
    """The columns that both have, with their places; the others are noted, as are types that changed."""
    seen_x, seen_y = _numbered(x.names), _numbered(y.names)
    for key, i in seen_x.items():
        if key not in seen_y:
            found.add(Change(_column(path, key[0]), "removed", detail={"column": x.dtype(i)}))
    for key, j in seen_y.items():
        if key not in seen_x:
            found.add(Change(_column(path, key[0]), "added", detail={"column": y.dtype(j)}))
    both = [(key[0], i, seen_y[key]) for key, i in seen_x.items() if key in seen_y]
    in_b = sorted(j for _, _, j in both)
    if [j for _, _, j in both] != in_b:
        names = [[_label(name) for name, _, _ in both], [_label(y.names[j]) for j in in_b]]
        found.add(Change(path, "order", names[0], names[1], detail={"of": "columns"}))
    for name, i, j in both:
        if x.dtype(i) != y.dtype(j):
            found.add(Change(_column(path, name), "dtype", x.dtype(i), y.dtype(j)))
    return both


def _numbered(names: Sequence[Any]) -> dict[tuple[Any, int], int]:
    """Names may come twice."""
    seen: Counter[Any] = Counter()
    out = {}
    for place, name in enumerate(names):
        out[name, seen[name]] = place
        seen[name] += 1
    return out


# ---------------------------------------------------------------- rows


class _Rows:
    """Which rows are the same one: positions in both, in the order of the first."""

    def __init__(self, x: _Table, y: _Table, columns: Sequence[tuple[Any, int, int]], keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self.by = "place"
        self.repeated = 0  # names that several rows of one table have
        if keys:
            self.by = "keys"
            self._by_names(_key_rows(x, keys), _key_rows(y, keys))
        elif (labels := (x.labels(), y.labels()))[0] is not None and labels[1] is not None:
            self.by = "index"
            self._by_names(labels[0], labels[1])
        else:
            self._by_place(x, y, columns)

    def _by_names(self, a: Sequence[Hashable], b: Sequence[Hashable]) -> None:
        rows_a, rows_b = _numbered(a), _numbered(b)
        self.repeated = len({name for name, n in (*rows_a, *rows_b) if n})
        pairs = [(i, rows_b.pop(name)) for name, i in rows_a.items() if name in rows_b]
        self._take(pairs, len(a), len(b))

    def _by_place(self, x: _Table, y: _Table, columns: Sequence[tuple[Any, int, int]]) -> None:
        n, m = len(x), len(y)
        by_place = [(i, i) for i in range(min(n, m))]
        if columns and max(n, m) <= (_BY_CONTENT if n != m else _BY_CONTENT // 4):
            self.by = "content"
            a, b = ([*zip(*(t.hashable(c[side]) for c in columns), strict=True)] for side, t in ((1, x), (2, y)))
            pairs = matched(a, b)
            # What lies between rows that are the same in both: a row that changed stands where it stood.
            by_place = list(pairs)
            for xs, ys in gaps(pairs, n, m):
                by_place += zip(xs, ys, strict=False)
        self._take(sorted(by_place), n, m)

    def _take(self, pairs: list[tuple[int, int]], n: int, m: int) -> None:
        self.a, self.b = [i for i, _ in pairs], [j for _, j in pairs]
        taken_a, taken_b = set(self.a), set(self.b)
        self.removed = [i for i in range(n) if i not in taken_a]
        self.added = [j for j in range(m) if j not in taken_b]

    def name(self, table: _Table, n: int) -> str:
        """How a row is called in a path."""
        if self.keys:
            cells = [_glimpse(table.cell(n, _place_of(table, key))) for key in self.keys]
            return ", ".join(f"{_label(key)}={cell}" for key, cell in zip(self.keys, cells, strict=True))
        if self.by == "index":
            return _glimpse((table.labels() or ())[n])
        return str(n)


def _place_of(table: _Table, key: str) -> int:
    places = [i for i, name in enumerate(table.names) if name == key or str(name) == key]
    if not places:
        raise UsageError(
            f"keys=[{key!r}] names no column of both tables; there are: {', '.join(map(_label, table.names[:20]))}"
        )
    return places[0]


def _key_rows(table: _Table, keys: Sequence[str]) -> list[tuple[Hashable, ...]]:
    return [*zip(*(table.hashable(_place_of(table, key)) for key in keys), strict=True)]


# ---------------------------------------------------------------- the libraries


class _Table(Protocol):
    names: list[Any]

    def __len__(self) -> int: ...
    def dtype(self, column: int) -> str: ...
    def labels(self) -> Sequence[Hashable] | None: ...  # of rows that have some of their own
    def hashable(self, column: int) -> list[Hashable]: ...
    def cell(self, row: int, column: int) -> Any: ...
    def row(self, row: int) -> dict[str, Any]: ...
    def different(self, column: int, rows: list[int], other: Any, its: int, others: list[int]) -> list[int]: ...


def _table(frame: Any) -> _Table:
    module, name = type(frame).__module__.partition(".")[0], type(frame).__name__
    if name == "Series":
        frame = frame.to_frame()
    return _Polars(frame) if module == "polars" else _Pandas(frame)


class _Common:
    names: list[Any]

    def cell(self, row: int, column: int) -> Any:
        raise NotImplementedError

    def row(self, row: int) -> dict[str, Any]:
        return {_label(name): self.cell(row, i) for i, name in enumerate(self.names[:20])}


class _Pandas(_Common):
    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.names = [*frame.columns]
        index = frame.index
        own = type(index).__name__ != "RangeIndex" or index.start != 0 or index.step != 1
        self._labels = _hashable(index.tolist()) if own else None

    def __len__(self) -> int:
        return len(self._frame)

    def dtype(self, column: int) -> str:
        return str(self._frame.dtypes.iloc[column])

    def labels(self) -> Sequence[Hashable] | None:
        return self._labels

    def hashable(self, column: int) -> list[Hashable]:
        return _hashable(self._frame.iloc[:, column].tolist())

    def cell(self, row: int, column: int) -> Any:
        value = self._frame.iloc[row, column]
        item = getattr(value, "item", None)
        return item() if type(value).__module__ == "numpy" and item is not None else value

    def different(self, column: int, rows: list[int], other: Any, its: int, others: list[int]) -> list[int]:
        x = self._frame.iloc[:, column].take(rows).reset_index(drop=True)
        y = other._frame.iloc[:, its].take(others).reset_index(drop=True)
        try:
            if object in (x.dtype, y.dtype):  # cells may be lists, or what compares as it likes
                raise TypeError
            equal = (x == y).to_numpy(dtype=bool, na_value=False)
            missing = x.isna().to_numpy() & y.isna().to_numpy()
        except (TypeError, ValueError):
            return _by_hand(x.tolist(), y.tolist())
        at: list[int] = (~(equal | missing)).nonzero()[0].tolist()
        return at


class _Polars(_Common):
    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.names = list(frame.columns)

    def __len__(self) -> int:
        return int(self._frame.height)

    def dtype(self, column: int) -> str:
        return str(self._frame.dtypes[column])

    def labels(self) -> Sequence[Hashable] | None:
        return None

    def hashable(self, column: int) -> list[Hashable]:
        return _hashable(self._frame.to_series(column).to_list())

    def cell(self, row: int, column: int) -> Any:
        return self._frame.to_series(column)[row]

    def different(self, column: int, rows: list[int], other: Any, its: int, others: list[int]) -> list[int]:
        x, y = self._frame.to_series(column).gather(rows), other._frame.to_series(its).gather(others)
        if x.dtype == y.dtype and not (x.dtype.is_nested() or x.dtype.is_object()):
            at: list[int] = x.ne_missing(y).arg_true().to_list()
            return at
        return _by_hand(x.to_list(), y.to_list())


def _by_hand(a: Sequence[Any], b: Sequence[Any]) -> list[int]:
    from .trees import same

    return [n for n, (x, y) in enumerate(zip(a, b, strict=True)) if not _same_cell(x, y, same)]


def _same_cell(x: Any, y: Any, same: Any) -> bool:
    """Cells of columns of different types: 1 is 1.0 there, as it is between arrays, for the type is told apart."""
    numbers = (int, float, bool)
    if type(x) in numbers and type(y) in numbers and x == y:
        return True
    return bool(same(x, y)) or (_missing(x) and _missing(y))


def _missing(x: Any) -> bool:
    return x is None or (isinstance(x, float) and x != x) or type(x).__name__ in {"NAType", "NaTType"}  # noqa: PLR0124


def _hashable(cells: Sequence[Any]) -> list[Hashable]:
    """Cells as keys: what is missing is equal, and what cannot be a key goes by its text."""
    out: list[Hashable] = []
    for cell in cells:
        if type(cell) in {str, int}:
            out.append(cell)
        elif isinstance(cell, tuple):
            out.append(tuple(_hashable(cell)))
        elif _missing(cell):
            out.append(None)
        else:
            try:
                hash(cell)
            except TypeError:
                out.append(repr(cell))
            else:
                out.append(cell)
    return out
