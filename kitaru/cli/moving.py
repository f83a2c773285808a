"""`kitaru cp`: copy an execution to another store, with a bar that says how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..client import KitaruClient
from ..copying import Copied, Progress
from ..location import open_store
from ..notices import _quoted, address_of, say

__all__ = ["copy", "told"]


def copy(client: KitaruClient, name: str, to: str, *, quiet: bool) -> Copied:
    """Copy the execution `name` to the store at `to`. The bar is drawn on a terminal's standard error alone."""
    client.note = say
    with _bar(shown=not quiet and sys.stderr.isatty()) as progress:
        return client.executions.copy(name, to, progress=progress)


def told(copied: Copied) -> list[str]:
    """What a copy came to, in lines."""
    there = copied.segments_there + copied.blobs_there
    what = f"{copied.segments:,} segments and {copied.blobs:,} blobs copied, {copied.bytes:,} bytes"
    already = f"; {there:,} objects were there already" if there else ""
    lines = [f"{copied.exec_id}, {copied.status}: {what}{already}"]
    if copied.running:
        lines.append("  it still runs: this is a copy of how it stood; the same command adds what came later")
    if copied.ahead:
        lines.append(f"  it went on at the other side, by {copied.ahead:,} segments: they were left as they are")
    where = _quoted(address_of(open_store(copied.target), copied.exec_id))
    return [*lines, f"  look    kitaru show {where}"]


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[Progress], None]]:
    if not shown:
        yield lambda p: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress as Bar, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.fields[objects]} objects"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("copy", total=None, objects="…")
        yield lambda p: bar.update(task, completed=p.bytes, total=p.total_bytes, objects=f"{p.done:,} of {p.total:,}")
