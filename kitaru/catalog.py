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
from .stores.base import Store

__all__ = ["Row", "drop", "put_status", "rows"]

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
    stem = f"catalog/{_LATEST - round(begun * 1000):013d}/{exec_id}"
    key = f"{stem}/{n:010d}.{status}.{to_key_part(flow)}.{round(at * 1000)}"
    store.put(key, b"")
    return key


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
