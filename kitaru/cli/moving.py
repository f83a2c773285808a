"""`kitaru cp`: copy an execution to another store, with a bar that says how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..client import KitaruClient
from ..copying import Copied, Progress
from ..location import open_store
from ..notices import _quoted, address_of, say

__all__ = ["bar", "copy", "count", "told"]


def copy(client: KitaruClient, name: str, to: str, *, quiet: bool) -> Copied:
    """Copy the execution `name` to the store at `to`. The bar is drawn on a terminal's standard error alone."""
    client.note = say
    with bar("copy", shown=not quiet and sys.stderr.isatty()) as progress:
        return client.executions.copy(name, to, progress=progress)


def told(copied: Copied) -> list[str]:
    """What a copy came to, in lines."""
    there = copied.segments_there + copied.blobs_there
    what = f"{count(copied.segments, 'segment')} and {count(copied.blobs, 'blob')} copied, {copied.bytes:,} bytes"
    already = f"; {count(there, 'object')} of it had been there" if there else ""
    lines = [f"{copied.exec_id}, {copied.status}: {what}{already}"]
    if copied.running:
        lines.append("  it still runs: this is a copy of how it stood; the same command adds what came later")
    if copied.ahead:
        lines.append(f"  it went on at the other side, by {count(copied.ahead, 'segment')}: left as they are")
    where = _quoted(address_of(open_store(copied.target), copied.exec_id))
    return [*lines, f"  look    kitaru show {where}"]


def count(n: int, noun: str) -> str:
    """A number and its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


@contextmanager
def bar(what: str, *, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error, told how far it is by what it gives."""
    if not shown:
        yield lambda p: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress as Bar, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.fields[objects]} objects"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as shows:
        task = shows.add_task(what, total=None, objects="…")
        yield lambda p: shows.update(task, completed=p.bytes, total=p.total_bytes, objects=f"{p.done:,} of {p.total:,}")
