"""Go on with what was recorded, or leave it: `resume`, `retry`, `worker`, `cancel`, `pause`."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

from ...client import ExecutionStatus
from ...notices import say
from .. import completion, documents
from ..options import Settings, common, execution_argument, runs_flow, screen_of, settings_of
from ..text import block, line

__all__ = ["cancel", "pause", "resume", "retry", "worker"]

_PARALLEL = click.option(
    "--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="How many at once."
)
_OF_A_PASS = {"limit", "parallel"}
_OF_ONE = {"take_over", "until", "steps", "interactive", "max_workers", "on_drift"}


@click.command()
@click.argument("execution", metavar="EXEC", required=False, shell_complete=completion.executions)
@click.option("--ready", is_flag=True, help="In the place of EXEC: all that has become able to go on.")
@click.option("--limit", type=click.IntRange(min=1), help="With --ready: run at most so many.")
@_PARALLEL
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Begin no step that is not likely to have ended by then: this process ends.",
)
@click.option("--interactive", is_flag=True, help="Where it comes to a wait, ask at this terminal.")
@click.option("--take-over", is_flag=True, help="Displace an owner that looks alive. Only if you know that it is gone.")
@click.option("--until", metavar="STEP", shell_complete=completion.refs, help="Pause before this step begins.")
@click.option("--steps", type=click.IntRange(min=1), help="Pause when so many of the flow's own steps have run.")
@runs_flow
@common
@settings_of
@click.pass_context
def resume(context: click.Context, settings: Settings, /, execution: str | None, ready: bool, **options: Any) -> None:
    """Go on with an execution from its last finished steps; or, with --ready, with all that can.

    EXEC is an exec_id, the start of one, `last`, `last-failed`, or a complete address. Its code is looked for in its
    module, then in the script that began it.

    --ready makes one pass: over what was answered, is due, or has a child that ended; and over executions that were
    spawned, or are supervised, whose process is gone. It costs what is ready, not what waits. Ends with 0 if all went
    well, with 1 if one of those that ran failed.
    """
    if ready == (execution is not None):
        raise click.UsageError("write EXEC, or --ready")
    for name in sorted(_OF_ONE if ready else _OF_A_PASS):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            word = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{word} is for one EXEC" if ready else f"{word} is for --ready")
    wanted = {name: value for name, value in options.items() if name not in (_OF_ONE if ready else _OF_A_PASS)}
    if execution is not None:
        _go_on(settings, execution, **wanted)
        return
    from .. import passing

    report = passing.ready(settings.client(), quiet=settings.json, tell=lambda r: _tell_of(settings, r), **wanted)
    if settings.json:
        click.echo(documents.dumps(report.to_json()))
    elif not report.ran and not report.refused:
        say("kitaru: nothing can go on now")
    if report.left:
        say(f"kitaru: {report.left} more can go on")
    if any(r.status == "failed" for r in report.ran):
        sys.exit(1)


def _tell_of(settings: Settings, ran: Any) -> None:
    """One line on what a pass did with one execution."""
    from ...failures import record

    if ran.status == "ready":
        say(f"kitaru: {ran.exec_id} can go on, and not here: {block(str(ran.failure))}")
    elif not settings.json:
        why = f"  {record(ran.failure).summary()}" if ran.failure is not None else ""
        screen_of().say(line(f"{ran.exec_id}  {ran.status}{why}"))


@click.command()
@execution_argument
@runs_flow
@common
@settings_of
def retry(settings: Settings, /, execution: str, **options: Any) -> None:
    """Run the failed step of an execution again, and go on from there.

    As `resume`, of an execution that has failed; any other one is refused.
    """
    _go_on(settings, execution, retry=True, **options)


def _go_on(settings: Settings, execution: str, **options: Any) -> None:
    from .. import running

    outcome = running.resume(settings.client(), execution, quiet=settings.json, **options)
    running.end(outcome, running.tell, json=settings.json)


@click.command()
@click.option(
    "--poll",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two passes.",
)
@_PARALLEL
@click.option("--code", metavar="PATH", help="Where the flows' code is: a script, a module, or module:flow.")
@common
@settings_of
def worker(settings: Settings, poll: float, parallel: int, code: str | None) -> None:
    """Go on with all that can, again and again: `resume --ready` in a loop.

    A SIGTERM or Ctrl-C ends it: with 0 if nothing runs. Else what runs is recorded as interrupted, another pass takes
    it up, and it ends with 143 (130 after Ctrl-C). With --parallel each execution is left before its next step, and
    after KITARU_GRACE seconds (10) in the midst of one.
    """
    from .. import passing

    passing.work(settings.client(writes=True), quiet=settings.json, poll=poll, parallel=parallel, code=code)


@click.command()
@execution_argument
@click.option("--reason", default="", help="Why. It is recorded.")
@common
@settings_of
def cancel(settings: Settings, execution: str, reason: str) -> None:
    """Cancel an execution: it never runs again.

    One that runs is left before its next step. Executions that it spawned go on.
    """
    _asked_to(settings, execution, settings.client().executions.cancel(execution, reason=reason), "cancelled")


@click.command()
@execution_argument
@click.option("--reason", default="", help="Why. It is recorded.")
@common
@settings_of
def pause(settings: Settings, execution: str, reason: str) -> None:
    """Pause an execution before its next step, until somebody resumes it by its name."""
    _asked_to(settings, execution, settings.client().executions.pause(execution, reason=reason), "paused")


def _asked_to(settings: Settings, execution: str, status: ExecutionStatus, wanted: str) -> None:
    _, name = settings.client().find(execution)
    if settings.json:
        click.echo(documents.dumps({"exec_id": name, "status": status.value}))
    elif status.value == wanted:
        screen_of().say(line(f"{name} is {wanted}"))
    else:
        screen_of().say(line(f"{name} is {status.value}: it will be {wanted} before its next step"))
