"""`kitaru verify`: what was looked at, and what is wrong, in lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..catalog import rows
from ..client import KitaruClient
from ..errors import UsageError
from ..lookups import beginning_with
from ..verification import Finding, Verification
from . import documents
from .moving import bar, count
from .text import line

if TYPE_CHECKING:
    from .faces import Screen

__all__ = ["tell", "verify"]


def verify(
    client: KitaruClient, names: Iterable[str], *, every: bool, repair: bool, quiet: bool
) -> Iterator[Verification]:
    """Verify the executions that are named, or all of them, one after the other."""
    names = [*names]
    if names and every:
        raise UsageError("name executions, or give --all")
    for name in _all(client) if every else names or ["last"]:
        with bar("verify", shown=not quiet and sys.stderr.isatty()) as progress:
            report = client.executions.verify(name, repair=repair, progress=progress)
        yield report


def _all(client: KitaruClient) -> list[str]:
    """Those that the store holds, and those that only the catalog still knows."""
    held = dict.fromkeys(beginning_with(client.store, "", sys.maxsize))
    return [*held, *(row.exec_id for row in rows(client.store) if row.exec_id not in held)]


def tell(reports: Iterable[Verification], screen: Screen | None, *, quiet: bool) -> bool:
    """Print what was found: on `screen` as it comes, or without one as a document. Whether all is well."""
    seen, wrong = [], 0
    for report in reports:
        seen.append(report)
        wrong += not report.ok
        if screen is not None and not (quiet and report.ok):
            screen.say("\n".join(told(report)))
    if screen is None:
        click.echo(documents.dumps({"ok": not wrong, "executions": [report.to_json() for report in seen]}))
    elif len(seen) > 1 and not quiet:
        screen.say(f"{count(len(seen), 'execution')}: {f'{wrong:,} damaged' if wrong else 'all whole'}")
    return not wrong


def told(report: Verification) -> list[str]:
    """What one verification came to, in lines."""
    objects = ", ".join([count(report.segments, "segment"), count(report.values, "value"), count(report.blobs, "blob")])
    looked = f"{objects}, {report.bytes:,} bytes"
    if not report.findings:
        return [f"{report.exec_id}, {report.status}: whole; {looked}"]
    mended = sum(f.mended for f in report.findings)
    said = f"{count(len(report.findings), 'thing')} wrong" + (f", {mended:,} mended" if mended else "")
    lines = [f"{report.exec_id}, {report.status}: {said}; {looked}"]
    for finding in report.findings:
        lines += [f"  {line(finding)}", f"    {_advice(finding, report.exec_id)}"]
    return lines


def _advice(finding: Finding, exec_id: str) -> str:
    if finding.mended:
        return "mended"
    if finding.derived:
        what = "derived: nothing is lost"
        return f"{what}; made again by kitaru verify --repair {exec_id}" if finding.mendable else what
    if finding.mendable:
        return f"put back by kitaru verify --repair {exec_id}"
    return "restore it from a copy of the store"
