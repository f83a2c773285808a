"""What executions wait for, and answers to that: `waits`, `answer`, `abort`."""

from __future__ import annotations

from typing import Any

import click

from ...client import PendingWait
from ...notices import ready_line, say
from .. import completion, documents
from ..options import Settings, common, screen_of, settings_of
from ..text import block, line

__all__ = ["abort", "answer", "waits"]


@click.command()
@click.argument("execution", metavar="[EXEC]", required=False, shell_complete=completion.waiting)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Of at most so many executions."
)
@common
@settings_of
def waits(settings: Settings, execution: str | None, limit: int) -> None:
    """List what executions wait for, and since when.

    Of EXEC; without it, of all that wait, newest first.
    """
    from .. import answering

    client = settings.client()
    found, more = answering.open_waits(client, execution, limit)
    if settings.json:
        click.echo(documents.dumps({"waits": [documents.wait(*each) for each in found], "more": more}))
        return
    if not found:
        say(f"kitaru: {block(execution or client.store.url)} has no open wait")
        return
    screen_of().waits(found)
    if any(w.shape for _, w in found):
        say("kitaru: answer  kitaru answer EXEC WAIT JSON")
    if more:
        say(f"kitaru: there are more: --limit {5 * limit}")


@click.command(context_settings={"ignore_unknown_options": True})  # an answer may be -1
@click.argument("execution", metavar="EXEC", shell_complete=completion.waiting)
@click.argument("wait", metavar="WAIT", shell_complete=completion.waits)
@click.argument("said", metavar="[JSON]", required=False)
@common
@settings_of
def answer(settings: Settings, execution: str, wait: str, said: str | None) -> None:
    """Answer what an execution waits for.

    WAIT is what `kitaru waits` calls it. JSON may be @FILE, or - for standard input; `yes` and `no`, a choice and a
    text need no quotes; without it you are asked. What does not fit is refused, and the first answer holds. Nothing
    runs here: `kitaru resume --ready` goes on.
    """
    from .. import answering

    pending, value = answering.answer(settings.client(), execution, wait, said)
    _done_to(settings, execution, pending, "answered", value=value)


@click.command()
@click.argument("execution", metavar="EXEC", shell_complete=completion.waiting)
@click.argument("wait", metavar="WAIT", shell_complete=completion.waits)
@click.option("--reason", default="", help="Why. The flow is told.")
@common
@settings_of
def abort(settings: Settings, execution: str, wait: str, reason: str) -> None:
    """Close a wait without an answer: the flow gets KitaruWaitAborted."""
    client = settings.client()
    pending = client.executions.pending_wait(execution, wait)
    client.executions.abort_wait(execution, pending.id, reason=reason)
    _done_to(settings, execution, pending, "aborted", reason=reason)


def _done_to(settings: Settings, execution: str, pending: PendingWait, what: str, **more: Any) -> None:
    store, name = settings.client().find(execution)
    if settings.json:
        click.echo(documents.dumps({"exec_id": name, "wait": pending.name, "id": pending.id, "status": what, **more}))
        return
    screen_of().say(line(f"{pending.name} of {name} is {what}"))
    say(f"kitaru: go on   {ready_line(store)}")
