"""See what was recorded: `runs`, `show`, `log`, `lineage`, `diff`."""

from __future__ import annotations

import sys

import click

from ...client import FAILED, Artifact, Checkpoint, ExecutionStatus
from ...notices import say
from .. import completion, documents
from ..options import Settings, common, full_option, screen_of, settings_of
from ..text import block

__all__ = ["diff", "lineage", "log", "runs", "show"]


@click.command()
@click.option("--flow", help="Only executions of this flow, or of several: 'audit*'.", shell_complete=completion.flows)
@click.option(
    "--status",
    type=click.Choice([s.value for s in ExecutionStatus]),
    multiple=True,
    help="Only those that stand so. May be given more than once.",
)
@click.option("--failed", is_flag=True, help="Only those that failed or were interrupted, as last-failed.")
@click.option("--since", metavar="WHEN", help="Only those begun since: 2h, 3d, 2026-11-01, 2026-11-01T08:30, today.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@common
@settings_of
def runs(
    settings: Settings, flow: str | None, status: tuple[str, ...], failed: bool, since: str | None, limit: int
) -> None:
    """List the executions, newest first."""
    client = settings.client()
    wanted = {*map(ExecutionStatus, status), *(FAILED if failed else ())}
    found = client.executions.list(flow=flow, status=wanted or None, since=since, limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    if settings.json:
        document = {"store": client.store.url, "runs": [documents.summary(s) for s in found], "more": more}
        click.echo(documents.dumps(document))
        return
    if not found:
        stands = " or ".join(s.value for s in ExecutionStatus if s in wanted)
        begun = f"begun since {since}" if since else ""
        kind = " ".join(filter(None, (stands, "execution", f"of {flow}" if flow else "", begun)))
        say(f"kitaru: there is no {block(kind)} in {client.store.url}")
        return
    screen_of().runs(found)
    if any(s.status is ExecutionStatus.WAITING for s in found):
        say("kitaru: what is waited for: kitaru waits")
    if more:
        say(f"kitaru: there are more: --limit {5 * limit}")


@click.command()
@click.argument("ref", shell_complete=completion.refs)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Write the value to a file, in the format that its suffix says; into a folder under its own name.",
)
@click.option("--force", is_flag=True, help="With -o: replace a file that is there.")
@full_option
@common
@settings_of
def show(settings: Settings, ref: str, output: str | None, force: bool, full: bool) -> None:
    """Show an execution, a checkpoint, or a value in full; or write a value to a file.

    REF is what a failure prints, or a short form of it: `last`, `last-failed`, `audit-7f3c`, `audit-7f3c:classify#2`,
    `classify#2.in.package`, `@3`, `audit-7f3c:report`, `audit-7f3c:report#2`, `audit-7f3c:result`. In a pipe a value
    stands alone, without a heading, and text and bytes are as they were recorded. Nothing recorded is run or unpickled.

    With -o the value is written to FILE: text and bytes as they are, arrays as .npy, frames as .parquet, .arrow,
    .feather or .csv, images as .png, other data as .json. Only a .pkl is unpickled first, from a trusted store alone.
    """
    client = settings.client()
    if output is not None:
        _write(settings, client.artifacts.get(ref), output, force=force)
        return
    if force:
        raise click.UsageError("--force is for -o FILE")
    found = client.look_up(ref)
    if settings.json:
        if isinstance(found, Artifact):
            document = {"kind": "value", "value": documents.value(found)}
        elif isinstance(found, Checkpoint):
            document = {"kind": "checkpoint", "checkpoint": documents.checkpoint(found)}
        else:
            document = {"kind": "execution", "execution": documents.execution(found)}
        click.echo(documents.dumps(document))
        return
    screen = screen_of(full=full)
    if isinstance(found, Artifact):
        screen.value(found)
    elif isinstance(found, Checkpoint):
        screen.checkpoint(found)
    else:
        screen.execution(found)


def _write(settings: Settings, artifact: Artifact, output: str, *, force: bool) -> None:
    file = artifact.write(output, force=force)
    size = file.stat().st_size
    if settings.json:
        document = {"kind": "file", "file": str(file), "bytes": size, "value": documents.artifact(artifact)}
        click.echo(documents.dumps(document))
        return
    screen_of().say(f"{file}: {size:,} bytes")


@click.command()
@click.argument("execution", metavar="[EXEC]", default="last", shell_complete=completion.executions)
@common
@settings_of
def log(settings: Settings, execution: str) -> None:
    """Show what happened to an execution, in order of time.

    Its own events, and what its flow and steps logged. Without EXEC it is the last one.
    """
    from ..events import events_of

    found = settings.client().executions.get(execution)
    events = events_of(found.data, found.reading.segments)
    if settings.json:
        document = {"exec_id": found.exec_id, "events": [documents.event(e) for e in events]}
        click.echo(documents.dumps(document))
        return
    screen_of().log(events)


@click.command()
@click.argument("ref", metavar="[REF]", default="last", shell_complete=completion.refs)
@click.option("--origins", is_flag=True, help="With --json and --graphml: together with what it was forked from.")
@click.option("--graphml", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file, as GraphML.")
@full_option
@common
@settings_of
def lineage(settings: Settings, ref: str, origins: bool, graphml: str | None, full: bool) -> None:
    """Show what made which value.

    Of an execution, step by step; of a step or a value, what it was made from and what needs it. REF is what
    `kitaru show` takes; without it, it is the last execution. No value is loaded. With --json it is the graph, in the
    node-link form of networkx.
    """
    from .. import tracing

    found = settings.client().look_up(ref)
    if graphml is not None:
        tracing.write_graphml(found, graphml, origins=origins)
    if settings.json:
        click.echo(documents.dumps(tracing.document(found, origins=origins)))
    if settings.json or graphml is not None:
        return
    screen = screen_of(full=full)
    screen.say(tracing.text(found, width=screen.width, full=full))


@click.command()
@click.argument("a", metavar="A", shell_complete=completion.refs)
@click.argument("b", metavar="B", shell_complete=completion.refs)
@click.option("--values", is_flag=True, help="Of two executions, load the values that changed, and look inside.")
@click.option("--keys", metavar="A,B", default="", help="Columns that say which row of a table is which.")
@click.option("--exit-code", is_flag=True, help="End with 1 where something differs, as git diff does.")
@full_option
@common
@settings_of
def diff(settings: Settings, a: str, b: str, values: bool, keys: str, exit_code: bool, full: bool) -> None:
    """Show what differs between two executions, steps or values.

    A and B are what `kitaru show` takes. Of executions the steps are aligned, by what their records say: no value is
    loaded. Two steps or two values are loaded and looked into: text by word, nested data by path, chats by turn,
    tables by cell, arrays by statistics.
    """
    from .. import comparing

    found = comparing.compare(settings.client(), a, b, keys=keys, values=values)
    if settings.json:
        click.echo(documents.dumps(found.to_json()))
    else:
        comparing.tell(found, screen_of(full=full), full=full)
    if exit_code and not found.same:
        sys.exit(1)
