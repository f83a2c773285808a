"""Change one thing and see what follows: `plan`, `replay`, `explain`, `repeat`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ...notices import address_of
from .. import completion, documents
from ..options import Settings, common, execution_argument, full_option, runs_flow, screen_of, settings_of

__all__ = ["explain", "plan", "repeat", "replay"]

F = TypeVar("F", bound=Callable[..., Any])


def _asks_of_a_fork(command: F) -> F:
    """Give a command what says how a fork differs from its origin."""
    options = (
        click.option(
            "--from", "start", metavar="REF", shell_complete=completion.steps, help="What started at or after it runs."
        ),
        click.option(
            "--set",
            "sets",
            metavar="REF=JSON",
            multiple=True,
            shell_complete=completion.edits,
            help="Put a value in the place of a recorded one: classify#2, classify#2.in.package, input.n, "
            "type.llm_call.in.model; =@FILE reads it. May be given more than once.",
        ),
        click.option(
            "--rerun",
            "again",
            metavar="NAME",
            multiple=True,
            shell_complete=completion.names,
            help="Run all steps of this name again; `changed`: those whose code has changed.",
        ),
        click.option(
            "--input",
            "inputs",
            metavar="NAME=JSON",
            multiple=True,
            help="Another input of the flow: as --set input.NAME.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@execution_argument
@_asks_of_a_fork
@click.option("--code", metavar="PATH", help="For --rerun changed: where the flow's code is.")
@full_option
@common
@settings_of
def plan(settings: Settings, /, execution: str, full: bool, code: str | None, **asked: Any) -> None:
    """Show what a replay would do with each step, and why, before anything runs.

    It takes what `kitaru replay` takes. `reuse` and `rerun` are promises, for unchanged code; `reuse?` and `rerun?` are
    what the recorded data suggest where the flow's own code may decide otherwise. No value is loaded, and nothing is
    written.
    """
    from .. import replaying

    found = replaying.plan(settings.client(), execution, replaying.Asked(**asked), code=code)
    if settings.json:
        click.echo(documents.dumps(found.to_json()))
    else:
        screen_of(full=full).plan(replaying.in_words(found))


@click.command()
@execution_argument
@_asks_of_a_fork
@click.option("--name", metavar="EXEC_ID", help="The fork's exec_id; one is drawn when it is left out.")
@runs_flow
@full_option
@common
@settings_of
def replay(
    settings: Settings,
    /,
    execution: str,
    full: bool,
    start: str | None,
    sets: tuple[str, ...],
    again: tuple[str, ...],
    inputs: tuple[str, ...],
    **options: Any,
) -> None:
    """Fork an execution, with edits, and run the fork: what they cannot have changed is reused.

    The original is not touched. Without --from, --set and --rerun a failed execution is replayed from its failed step.
    JSON takes the type that is recorded at its place, a tuple, a date, a dataclass or a model, where that can be had.
    """
    from .. import replaying, running

    asked = replaying.Asked(start, sets, again, inputs)
    outcome = replaying.replay(settings.client(), execution, asked, quiet=settings.json, **options)

    def tell(outcome: Any) -> None:
        screen = screen_of(full=full)
        fork = outcome.execution
        screen.say(f"{address_of(fork.store, fork.exec_id)}, a fork of {fork.forked_from}")
        screen.plan(replaying.explain(fork))
        running.tell(outcome)

    running.end(outcome, tell, json=settings.json)


@click.command()
@execution_argument
@full_option
@common
@settings_of
def explain(settings: Settings, execution: str, full: bool) -> None:
    """Show what became of each step of an execution, and why: reused, edited or run.

    Of a fork it says what differed from the execution that it was forked from. No value is loaded.
    """
    from .. import replaying

    found = settings.client().executions.get(execution)
    if settings.json:
        click.echo(documents.dumps({"exec_id": found.exec_id, **found.explain().to_json()}))
    else:
        screen_of(full=full).plan(replaying.explain(found))


@click.command()
@click.argument("ref", metavar="EXEC:STEP", shell_complete=completion.refs)
@click.option("-n", "times", type=click.IntRange(min=1), default=5, show_default=True, help="How often.")
@click.option("--code", metavar="PATH", help="Where the flow's code is: a script, a module, or module:flow.")
@common
@settings_of
def repeat(settings: Settings, ref: str, times: int, code: str | None) -> None:
    """Run one recorded step again and again on its recorded inputs.

    It says how the outputs vary, to tell a flaky step from a wrong one. Nothing is recorded; the step's effects happen
    each time.
    """
    from ..running import repeat as run

    found = run(settings.client(), ref, times, code=code, quiet=settings.json)
    click.echo(documents.dumps(found.to_json()) if settings.json else repr(found))
