"""How lists look, and what is handed back beside executions, checkpoints and values: handles, copies, verifications.

As in `display`, the text has no exec_id, time or address in it, and the HTML marks those as what varies.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kitaru.client import Artifact, Checkpoint, CodeChange, Copied, Handle, Summary, Verification

from . import display
from .display import Face, line

__all__ = ["LISTED", "copied", "handle", "verification"]

_ROWS = 200


def _cut(things: Sequence[Any]) -> tuple[Sequence[Any], str]:
    more = len(things) - _ROWS
    return things[:_ROWS], f"… {more:,} more" if more > 0 else ""


def _face(
    heads: Sequence[str], rows: Sequence[str], texts: tuple[Sequence[str], Sequence[Sequence[str]]], more: str
) -> Face:
    last = [f'<tr><td colspan="{len(heads)}">{more}</td></tr>'] if more else []
    text = display._table(*texts)
    return Face(display._page("", display.tabled(heads, [*rows, *last])), f"{text}\n{more}" if more else text)


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def summaries(found: Sequence[Summary]) -> Face:
    """The executions of a store, as `client.executions.list` gives them."""
    shown, more = _cut(found)
    rows = [
        _row(
            display._varies(s.exec_id),
            display._h(s.flow),
            display._pill(s.status.value),
            display._varies(_when(s.begun)),
        )
        for s in shown
    ]
    texts = [(line(s.flow), s.status.value) for s in shown]
    return _face(("execution", "flow", "status", "begun"), rows, (("flow", "status"), texts), more)


def _when(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # whatever was recorded
        return "?"


def artifacts(found: Sequence[Artifact]) -> Face:
    """Values, each in a line."""
    shown, more = _cut(found)
    rows = [
        _row(
            f"<b>{display._h(display._name(a), 200)}</b>",
            display._h(a.kind),
            display._size(a.size),
            f'<span class="kitaru-value">{display._h(display._glimpse(a, 200), 200)}</span>',
        )
        for a in shown
    ]
    texts = [(line(display._name(a), 60), a.kind, display._size(a.size), display._glimpse(a)) for a in shown]
    heads = ("value", "kind", "size", "begins with")
    return _face(heads, rows, (heads, texts), more)


def checkpoints(found: Sequence[Checkpoint]) -> Face:
    """Checkpoints, as in the table of their execution."""
    table = display.steps(found)
    return Face(display._page("", table.html), table.text)


def code_changes(found: Sequence[CodeChange]) -> Face:
    """What became of the code of each step: those that are the same in a line, the others in full."""
    shown, more = _cut(found)
    pages = "".join(change._repr_html_() for change in shown)
    return Face(f"{pages}{more}", "\n".join([*map(repr, shown), *([more] if more else [])]))


LISTED: Mapping[type, Callable[[Any], Face]] = {
    Artifact: artifacts,
    Checkpoint: checkpoints,
    CodeChange: code_changes,
    Summary: summaries,
}
"""Of what a list may be, and how it looks then."""


def handle(h: Handle) -> Face:
    """A run, by how it stands."""
    page = display._page(display.heading("execution", h.status, h.exec_id, ""), "")
    return Face(page, f"<execution: {line(h.status)}>")


def verification(v: Verification) -> Face:
    """What was looked at, and what is wrong with it."""
    count = f"{v.segments:,} segments, {v.blobs:,} blobs, {v.values:,} values"
    said = "whole" if v.ok else f"{len(v.findings):,} finding{'s' * (len(v.findings) != 1)}"
    mark = "completed" if v.ok else "failed"
    found, more = _cut(v.findings)
    lines = [line(f"{f}{' (mended)' if f.mended else ''}", 300) for f in found]
    items = "".join(f"<p>{display._varies(text)}</p>" for text in [*lines, *([more] if more else [])])
    status = f'<span class="kitaru-status kitaru-{mark}">{display.signed(mark)[0]} {said}</span>'
    head = f"<b>verification</b> {status} {display._varies(v.exec_id)} <span>{count}</span>"
    return Face(display._page(head, items), f"verification: {said}, {count}")


def copied(c: Copied) -> Face:
    """What a copy came to."""
    count = f"{c.segments:,} segments and {c.blobs:,} blobs written, {display._size(c.bytes)}"
    there = f"{c.segments_there:,} and {c.blobs_there:,} were there"
    way = f"{line(c.source, 150)} to {line(c.target, 150)}"
    head = display.heading("copied", c.status, c.exec_id, f"{count}; {there}")
    return Face(display._page(head, f"<p>{display._varies(way)}</p>"), f"copied: {line(c.status)}, {count}; {there}")
