"""A recorded table of which no column has been fetched yet."""

from __future__ import annotations

import functools
import re
from typing import Any, Protocol

from ..errors import UsageError
from .decoder import decode
from .joining import items_of
from .node import REF, RUN, damaged, link, tag_bytes
from .source import Source

__all__ = ["KINDS", "LazyTable", "Reader"]


class LazyTable:
    """A table in a store. A column is fetched when it is asked for, and that column alone.

    Parameters
    ----------
    root
        The root of a recorded pandas or polars `DataFrame`, Arrow `Table` or `RecordBatch`.
    source
        Where its parts and chunks come from.
    trusted, script
        As in `kitaru.codecs.decode`.

    Raises
    ------
    UsageError
        It is something else than a table: load it.
    CorruptionError, StoreError
        No encoder wrote it, or its source cannot give its parts.

    Examples
    --------
    >>> import pandas as pd
    >>> from kitaru.codecs import Sharer
    >>> shared = Sharer().encode(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}))
    >>> table = LazyTable(shared.root, source=None, trusted=False)  # so small that it has no parts
    >>> table
    <LazyTable of 2 rows, 2 columns>
    >>> table.columns, len(table)
    (['a', 'b'], 2)
    >>> float(table["b"].sum())
    2.0
    """

    def __init__(self, root: bytes, *, source: Source | None, trusted: bool, script: str | None = None) -> None:
        self._root, self._read = root, Reader(source, trusted=trusted, script=script)
        tag, parts = self._read.opened(root)
        if tag not in KINDS:
            raise UsageError("only a table (a DataFrame, an Arrow table) can be read column by column: load it whole")
        try:
            self._head: _Head = KINDS[tag](parts, self._read)
        except (IndexError, TypeError, ValueError) as error:
            raise damaged(f"its {tag!r} cannot be ({error!s:.200})") from error

    @property
    def columns(self) -> list[Any]:
        """The names of the columns, in their order."""
        return list(self._head.columns)

    @property
    def dtypes(self) -> list[Any]:
        """The dtypes of the columns, in their order: pandas', Arrow's or polars' own."""
        return self._head.dtypes()

    def __len__(self) -> int:
        return self._head.rows

    def __getitem__(self, key: Any) -> Any:
        """A column by its name, as the table itself would give it; of pandas also several, by a list of names.

        Raises
        ------
        KeyError
            There is no such column.
        """
        return self._head.column(key)

    def load(self) -> Any:
        """The whole table."""
        return self._read.value(self._root)

    def __repr__(self) -> str:
        return f"<LazyTable of {len(self):,} rows, {len(self.columns):,} columns>"


class Reader:
    """Reads the items of a node one by one. What is kept apart is fetched when it is asked for.

    Parameters are those of `LazyTable`.
    """

    def __init__(self, source: Source | None, *, trusted: bool, script: str | None = None) -> None:
        self._source = source
        self._decode = functools.partial(decode, source=source, trusted=trusted, script=script)

    def opened(self, item: bytes) -> tuple[str, list[bytes]]:
        """The tag of a node, of those that are read here ("" for any other), and its items; some are links to parts."""
        node = self._node(item)
        if not _ARRAY.match(node):
            return "", []
        first, *rest = items_of(node)[1] or [b""]
        tag = _TAGS.get(first, "")
        return tag, self._flat(rest) if tag else []

    def value(self, item: bytes) -> Any:
        """The value of an item."""
        return self._decode(self._node(item))

    def _flat(self, items: list[bytes]) -> list[bytes]:
        """These items, and in the place of each run its own."""
        flat: list[bytes] = []
        stack = [(iter(items), 0, -1)]  # where its items begin, and how many there are to be
        while stack:
            left, begin, count = stack[-1]
            for item in left:
                found = link(item)
                if found is not None and found[0] == RUN:
                    stack.append((iter(items_of(self._part(found[1]))[1]), len(flat), found[2]))
                    break
                flat.append(item)
            else:
                stack.pop()
                if len(flat) - begin != count >= 0:
                    raise damaged(f"a run says to be {count:,} items long, and is {len(flat) - begin:,}")
            if len(flat) > _MOST or len(stack) > _MOST:
                raise damaged("its parts say to be more columns than a table has")
        return flat

    def _node(self, item: bytes) -> bytes:
        found = link(item)
        return self._part(found[1]) if found is not None and found[0] == REF else item

    def _part(self, digest: bytes) -> bytes:
        if self._source is None:
            raise damaged("a part of it stands elsewhere, and it is not said where")
        return self._source.get(digest)


class _Head(Protocol):
    columns: list[Any]
    rows: int

    def dtypes(self) -> list[Any]: ...

    def column(self, key: Any) -> Any: ...


class _PandasHead:
    def __init__(self, parts: list[bytes], read: Reader) -> None:
        rows, self._index, columns, attrs, _, *self._contents = parts
        self._read, self._value = read, read.value
        value = read.value
        self._labels, self._attrs = value(columns), value(attrs)
        self.columns = list(self._labels)
        self.rows: int = value(rows)
        if len(self.columns) != len(self._contents):
            raise ValueError("a frame whose axes do not fit it")

    def dtypes(self) -> list[Any]:
        from .arrays import MAKERS

        found = []
        for content in self._contents:
            tag, parts = self._read.opened(content)
            if tag == "numpy.ndarray":
                found.append(MAKERS["numpy.dtype"](self._value(parts[0])))
            else:
                found.append(MAKERS["numpy.dtype"]("|O") if tag == "pandas.cells" else self._value(parts[0]))
        return found

    def column(self, key: Any) -> Any:
        import pandas as pd

        from .frames import MAKERS

        if isinstance(key, slice):
            raise TypeError("a slice asks for rows: load the table, or one column")
        # A frame that holds where its columns are finds them as the real one would: by tuples, levels, lists.
        places = pd.DataFrame([range(len(self._contents))], columns=self._labels)[key]
        index = self._value(self._index)
        if isinstance(places, pd.Series):
            content = self._value(self._contents[places.iloc[0]])
            return MAKERS["pandas.series"](index, places.name, self._attrs, True, content)
        contents = [self._value(self._contents[at]) for at in places.iloc[0]]
        return MAKERS["pandas.frame"](self.rows, index, places.columns, self._attrs, True, *contents)


class _ArrowHead:
    def __init__(self, parts: list[bytes], read: Reader) -> None:
        schema, rows, *self._contents = parts
        self._value = value = read.value
        self._schema = value(schema)
        self.columns: list[Any] = self._schema.names
        self.rows: int = value(rows)
        if len(self.columns) != len(self._contents):
            raise ValueError("a table whose schema does not fit it")

    def dtypes(self) -> list[Any]:
        return list(self._schema.types)

    def column(self, key: Any) -> Any:
        return self._value(self._contents[_position(self.columns, key)])


class _ArrowTableHead(_ArrowHead):
    def column(self, key: Any) -> Any:
        import pyarrow as pa

        return pa.chunked_array([super().column(key)])


class _PolarsHead:
    def __init__(self, parts: list[bytes], read: Reader) -> None:
        rows, *self._contents = parts
        self._value = value = read.value
        self.rows: int = value(rows)
        self._heads = [read.opened(content)[1][:2] for content in self._contents]
        self.columns = [value(name) for name, _ in self._heads]

    def dtypes(self) -> list[Any]:
        return [self._value(dtype) for _, dtype in self._heads]

    def column(self, key: Any) -> Any:
        return self._value(self._contents[_position(self.columns, key)])


def _position(columns: list[Any], key: Any) -> int:
    found = [at for at, name in enumerate(columns) if name == key]
    if len(found) != 1:
        raise KeyError(key)
    return found[0]


KINDS: dict[str, Any] = {
    "arrow.batch": _ArrowHead,
    "arrow.table": _ArrowTableHead,
    "pandas.frame": _PandasHead,
    "polars.frame": _PolarsHead,
}
"""What reads a table, by its tag."""
_TAGS = {tag_bytes(tag): tag for tag in (*KINDS, "numpy.ndarray", "pandas.array", "pandas.cells", "polars.series")}
_ARRAY = re.compile(rb"[\x90-\x9f\xdc\xdd]")
_MOST = 1 << 20  # columns, or runs within runs, of a table: what says to have more is damaged
