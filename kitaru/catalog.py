"""The catalog: hints from which `kitaru runs` lists executions, newest first, with one listing.

A key says it all, and its object is empty::

    catalog/<10^13 - milliseconds at which it was begun>/EXEC/<number of the segment>.<status>.<flow>.<milliseconds>

A status is put after the record that it reports, under that segment's number; the highest number wins. So it is never
ahead of the journal, and may be behind it: whoever opens the execution sees the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import StoreError
from .ids import from_key_part, to_key_part
from .stores.base import Entry, Store

__all__ = ["Row", "drop", "entries_of", "put_status", "rows"]

_LATEST = 10**13  # milliseconds; the year 2286


@dataclass(frozen=True, slots=True)
class Row:
    """What a listing says of an execution."""

    exec_id: str
    flow: str
    status: str
    begun: float  # seconds since the epoch, by the clock of whoever began it
    at: float  # when this status was reported
    n: int


def put_status(store: Store, exec_id: str, flow: str, status: str, *, begun: float, at: float, n: int) -> str:
    """Report `status`, which segment `n` holds. Gives the key, to be deleted once a newer one stands."""
    key = f"{_stem(exec_id, begun)}{n:010d}.{status}.{to_key_part(flow)}.{round(at * 1000)}"
    store.put(key, b"")
    return key


def _stem(exec_id: str, begun: float) -> str:
    return f"catalog/{_LATEST - round(begun * 1000):013d}/{exec_id}/"


def entries_of(store: Store, exec_id: str, begun: float | None) -> list[tuple[Entry, Row]]:
    """What the catalog holds of one execution; the one with the highest `Row.n` stands.

    Where it is not known when it was begun, all of the catalog is listed.
    """
    listed = store.list("catalog/" if begun is None else _stem(exec_id, begun))
    return [(e, row) for e in listed if (row := _row(e.key)) is not None and row.exec_id == exec_id]


def drop(store: Store, keys: list[str]) -> None:
    """Delete hints that have served. What stays behind does no harm."""
    try:
        if keys:
            store.delete(keys)
    except StoreError:
        pass


def rows(store: Store) -> Iterator[Row]:
    """The executions that the catalog knows, newest first."""
    best: Row | None = None
    for entry in store.list("catalog/"):
        row = _row(entry.key)
        if row is None:
            continue
        if best is not None and (best.exec_id, best.begun) != (row.exec_id, row.begun):
            yield best
            best = None
        if best is None or row.n >= best.n:
            best = row
    if best is not None:
        yield best


def _row(key: str) -> Row | None:
    """A key as a row; None for a key that no version wrote."""
    try:
        _, reverse, exec_id, name = key.split("/")
        n, status, rest = name.split(".", 2)
        flow, _, at = rest.rpartition(".")
        begun = (_LATEST - int(reverse)) / 1000
        return Row(exec_id, from_key_part(flow), status, begun, int(at) / 1000, int(n))
    except ValueError:
        return None
