"""The commands, what they take, and how an error ends them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from .. import __version__
from ..client import FAILED, Artifact, Checkpoint, ExecutionStatus, KitaruClient, PendingWait
from ..errors import ExecutionSuspended, KitaruError
from ..location import check_format, check_there
from ..notices import address_of, ready_line, say
from . import completion, documents
from .text import block, duration, line

__all__ = ["app"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """What every command takes, before its name or after it."""

    store: str | None = None
    json: bool = False
    traceback: bool = False

    def client(self, *, writes: bool = False) -> KitaruClient:
        """The executions of the store that was named; one that a newer Kitaru wrote is refused.

        A folder that was named and is not there is a mistake, unless the command `writes`, which makes it.
        """
        client = KitaruClient(self.store)
        if not writes and (self.store is not None or os.environ.get("KITARU_STORE")):
            check_there(client.store)
        check_format(client.store)
        return client


_settings = click.make_pass_decorator(Settings, ensure=True)


def _common(command: F) -> F:
    """Give a command the options that all of them have."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Settings), str(parameter.name), value)

    options = (
        click.option(
            "--store",
            metavar="ADDRESS",
            help="The store: s3://bucket/prefix, or a folder. By default what KITARU_STORE or pyproject.toml name, "
            "else the nearest .kitaru.",
            expose_value=False,
            callback=keep,
        ),
        click.option(
            "--json",
            is_flag=True,
            help="Print one JSON document on standard output, and everything else on standard error.",
            expose_value=False,
            callback=keep,
        ),
        click.option(
            "--traceback",
            is_flag=True,
            help="Show where in Kitaru an error arose (also: KITARU_TRACEBACK=1).",
            expose_value=False,
            callback=keep,
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


class _App(click.Group):
    """A group whose commands end with the exit codes of Kitaru's errors."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as e:
            if not _output_is_lost():
                raise
            say(f"kitaru: could not write the output: {e.strerror or e}")
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.ensure_object(Settings)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KitaruError as e:
            _explain(e, settings)
            ctx.exit(e.exit_code)
        except ExecutionSuspended as e:
            say(f"kitaru: {block(str(e))}")
            ctx.exit(3)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            _drop_output()  # whoever read has seen enough
            ctx.exit(141)
        return result


def _output_is_lost() -> bool:
    """Whether what could not be done was to write the output: what remains of it cannot be written either."""
    try:
        sys.stdout.write("\n")  # an unbuffered stream keeps nothing that a flush could fail on
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return True
    return False


def _drop_output() -> None:
    """The interpreter must not stumble over the rest when it ends."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _explain(error: KitaruError, settings: Settings) -> None:
    if settings.traceback or os.environ.get("KITARU_TRACEBACK", "0") not in {"", "0"}:
        import traceback

        say(block("".join(traceback.format_exception(error))).rstrip())
    else:
        say(f"kitaru: {block(str(error))}")
    if settings.json:
        click.echo(documents.dumps(documents.error(error)))


@click.group(
    cls=_App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A REF names what to look at: [EXEC:][outer#N/]step[#N][.output], step.in.ARG, @3 for the third checkpoint, "
    "or a saved name: report, report@2 for its second version. EXEC is an exec_id, the start of one, last, or "
    "last-failed. Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 waiting or paused, 4 somebody else runs it, 5 "
    "the store cannot be used, 143 evicted.",
)
@click.version_option(__version__, prog_name="kitaru")
@_common
def app() -> None:
    """See what durable runs recorded, and go on with them.

    Every step of a flow leaves a checkpoint in a store: a bucket or a folder. A run that died, or failed, goes on from
    its last finished step.
    """


def _screen(*, full: bool = False) -> Any:
    from .faces import Screen

    return Screen(full=full, now=time.time())


def _full(command: F) -> F:
    return click.option("--full", is_flag=True, help="Cut nothing, however long. In a pipe nothing is cut anyway.")(
        command
    )


@app.command()
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
@_common
@_settings
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
    _screen().runs(found)
    if any(s.status is ExecutionStatus.WAITING for s in found):
        say("kitaru: what is waited for: kitaru waits")
    if more:
        say(f"kitaru: there are more: --limit {5 * limit}")


@app.command()
@click.argument("ref", shell_complete=completion.refs)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Write the value to a file, in the format that its suffix says; into a folder under its own name.",
)
@click.option("--force", is_flag=True, help="With -o: replace a file that is there.")
@_full
@_common
@_settings
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
    screen = _screen(full=full)
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
    _screen().say(f"{file}: {size:,} bytes")


@app.command()
@click.argument("execution", metavar="[EXEC]", default="last", shell_complete=completion.executions)
@_common
@_settings
def log(settings: Settings, execution: str) -> None:
    """Show what happened to an execution, in order of time.

    Its own events, and what its flow and steps logged. Without EXEC it is the last one.
    """
    from .events import events_of

    found = settings.client().executions.get(execution)
    events = events_of(found.data, found.reading.segments)
    if settings.json:
        document = {"exec_id": found.exec_id, "events": [documents.event(e) for e in events]}
        click.echo(documents.dumps(document))
        return
    _screen().log(events)


@app.command()
@click.argument("ref", metavar="[REF]", default="last", shell_complete=completion.refs)
@click.option("--origins", is_flag=True, help="With --json and --graphml: together with what it was forked from.")
@click.option("--graphml", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file, as GraphML.")
@_full
@_common
@_settings
def lineage(settings: Settings, ref: str, origins: bool, graphml: str | None, full: bool) -> None:
    """Show what made which value.

    Of an execution, step by step; of a step or a value, what it was made from and what needs it. REF is what
    `kitaru show` takes; without it, it is the last execution. No value is loaded. With --json it is the graph, in the
    node-link form of networkx.
    """
    from . import tracing

    found = settings.client().look_up(ref)
    if graphml is not None:
        tracing.write_graphml(found, graphml, origins=origins)
    if settings.json:
        click.echo(documents.dumps(tracing.document(found, origins=origins)))
    if settings.json or graphml is not None:
        return
    screen = _screen(full=full)
    screen.say(tracing.text(found, width=screen.width, full=full))


@app.command()
@click.argument("a", metavar="A", shell_complete=completion.refs)
@click.argument("b", metavar="B", shell_complete=completion.refs)
@click.option("--values", is_flag=True, help="Of two executions, load the values that changed, and look inside.")
@click.option("--keys", metavar="A,B", default="", help="Columns that say which row of a table is which.")
@click.option("--exit-code", is_flag=True, help="End with 1 where something differs, as git diff does.")
@_full
@_common
@_settings
def diff(settings: Settings, a: str, b: str, values: bool, keys: str, exit_code: bool, full: bool) -> None:
    """Show what differs between two executions, steps or values.

    A and B are what `kitaru show` takes. Of executions the steps are aligned, by what their records say: no value is
    loaded. Two steps or two values are loaded and looked into: text by word, nested data by path, chats by turn,
    tables by cell, arrays by statistics.
    """
    from . import comparing

    found = comparing.compare(settings.client(), a, b, keys=keys, values=values)
    if settings.json:
        click.echo(documents.dumps(found.to_json()))
    else:
        comparing.tell(found, _screen(full=full), full=full)
    if exit_code and not found.same:
        sys.exit(1)


_EXEC = click.argument("execution", metavar="EXEC", shell_complete=completion.executions)


@app.command()
@click.argument("ref", metavar="EXEC:STEP", shell_complete=completion.refs)
@click.option("-n", "times", type=click.IntRange(min=1), default=5, show_default=True, help="How often.")
@click.option("--code", metavar="PATH", help="Where the flow's code is: a script, a module, or module:flow.")
@_common
@_settings
def repeat(settings: Settings, ref: str, times: int, code: str | None) -> None:
    """Run one recorded step again and again on its recorded inputs.

    It says how the outputs vary, to tell a flaky step from a wrong one. Nothing is recorded; the step's effects happen
    each time.
    """
    from .running import repeat as run

    found = run(settings.client(), ref, times, code=code, quiet=settings.json)
    click.echo(documents.dumps(found.to_json()) if settings.json else repr(found))


def _runs_flow(command: F) -> F:
    """Give a command what those take that run a flow."""
    options = (
        click.option("--code", metavar="PATH", help="Where the flow's code is: a script, a module, or module:flow."),
        click.option(
            "--max-workers",
            type=click.IntRange(min=1),
            default=32,
            show_default=True,
            help="Threads for submitted steps.",
        ),
        click.option(
            "--on-drift",
            type=click.Choice(["reuse", "rerun", "error"]),
            default="reuse",
            show_default=True,
            help="What to do where unchanged code calls a step with other inputs than were recorded.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


_PARALLEL = click.option(
    "--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="How many at once."
)
_OF_A_PASS = {"limit", "parallel"}
_OF_ONE = {"take_over", "until", "steps", "interactive", "max_workers", "on_drift"}


@app.command()
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
@_runs_flow
@_common
@_settings
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
    from . import passing

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
    from ..failures import record

    if ran.status == "ready":
        say(f"kitaru: {ran.exec_id} can go on, and not here: {block(str(ran.failure))}")
    elif not settings.json:
        why = f"  {record(ran.failure).summary()}" if ran.failure is not None else ""
        _screen().say(line(f"{ran.exec_id}  {ran.status}{why}"))


@app.command()
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
@_common
@_settings
def worker(settings: Settings, poll: float, parallel: int, code: str | None) -> None:
    """Go on with all that can, again and again: `resume --ready` in a loop.

    A SIGTERM or Ctrl-C ends it: with 0 if nothing runs. Else what runs is recorded as interrupted, another pass takes
    it up, and it ends with 143 (130 after Ctrl-C). With --parallel each execution is left before its next step, and
    after KITARU_GRACE seconds (10) in the midst of one.
    """
    from . import passing

    passing.work(settings.client(writes=True), quiet=settings.json, poll=poll, parallel=parallel, code=code)


@app.command(context_settings={"ignore_unknown_options": True})  # an answer may be -1
@click.argument("execution", metavar="EXEC", shell_complete=completion.waiting)
@click.argument("wait", metavar="WAIT", shell_complete=completion.waits)
@click.argument("said", metavar="[JSON]", required=False)
@_common
@_settings
def answer(settings: Settings, execution: str, wait: str, said: str | None) -> None:
    """Answer what an execution waits for.

    WAIT is what `kitaru waits` calls it. JSON may be @FILE, or - for standard input; `yes` and `no`, a choice and a
    text need no quotes; without it you are asked. What does not fit is refused, and the first answer holds. Nothing
    runs here: `kitaru resume --ready` goes on.
    """
    from . import answering

    pending, value = answering.answer(settings.client(), execution, wait, said)
    _done_to(settings, execution, pending, "answered", value=value)


@app.command()
@click.argument("execution", metavar="EXEC", shell_complete=completion.waiting)
@click.argument("wait", metavar="WAIT", shell_complete=completion.waits)
@click.option("--reason", default="", help="Why. The flow is told.")
@_common
@_settings
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
    _screen().say(line(f"{pending.name} of {name} is {what}"))
    say(f"kitaru: go on   {ready_line(store)}")


@app.command()
@click.argument("execution", metavar="[EXEC]", required=False, shell_complete=completion.waiting)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Of at most so many executions."
)
@_common
@_settings
def waits(settings: Settings, execution: str | None, limit: int) -> None:
    """List what executions wait for, and since when.

    Of EXEC; without it, of all that wait, newest first.
    """
    from . import answering

    client = settings.client()
    found, more = answering.open_waits(client, execution, limit)
    if settings.json:
        click.echo(documents.dumps({"waits": [documents.wait(*each) for each in found], "more": more}))
        return
    if not found:
        say(f"kitaru: {block(execution or client.store.url)} has no open wait")
        return
    _screen().waits(found)
    if any(w.shape for _, w in found):
        say("kitaru: answer  kitaru answer EXEC WAIT JSON")
    if more:
        say(f"kitaru: there are more: --limit {5 * limit}")


@app.command()
@_EXEC
@click.option("--reason", default="", help="Why. It is recorded.")
@_common
@_settings
def cancel(settings: Settings, execution: str, reason: str) -> None:
    """Cancel an execution: it never runs again.

    One that runs is left before its next step. Executions that it spawned go on.
    """
    _asked_to(settings, execution, settings.client().executions.cancel(execution, reason=reason), "cancelled")


@app.command()
@_EXEC
@click.option("--reason", default="", help="Why. It is recorded.")
@_common
@_settings
def pause(settings: Settings, execution: str, reason: str) -> None:
    """Pause an execution before its next step, until somebody resumes it by its name."""
    _asked_to(settings, execution, settings.client().executions.pause(execution, reason=reason), "paused")


def _asked_to(settings: Settings, execution: str, status: ExecutionStatus, wanted: str) -> None:
    _, name = settings.client().find(execution)
    if settings.json:
        click.echo(documents.dumps({"exec_id": name, "status": status.value}))
    elif status.value == wanted:
        _screen().say(line(f"{name} is {wanted}"))
    else:
        _screen().say(line(f"{name} is {status.value}: it will be {wanted} before its next step"))


@app.command()
@_EXEC
@_runs_flow
@_common
@_settings
def retry(settings: Settings, /, execution: str, **options: Any) -> None:
    """Run the failed step of an execution again, and go on from there.

    As `resume`, of an execution that has failed; any other one is refused.
    """
    _go_on(settings, execution, retry=True, **options)


def _go_on(settings: Settings, execution: str, **options: Any) -> None:
    from . import running

    _end(settings, running.resume(settings.client(), execution, quiet=settings.json, **options), _tell)


def _end(settings: Settings, outcome: Any, tell: Callable[[Any], None]) -> None:
    """Say how a run ended, and end the process so."""
    if outcome.failure is not None:
        from .faces import failure_text

        say(block(failure_text(outcome.failure)))
    if settings.json:
        click.echo(documents.dumps(outcome.to_json()))
    else:
        tell(outcome)
    if outcome.is_suspended:  # by what, and how it goes on, was said
        sys.exit(ExecutionSuspended("").code)
    if outcome.failure is not None:
        sys.exit(1)


def _tell(outcome: Any) -> None:
    from ..previews import preview_line

    if outcome.result is None:  # it failed, or was paused, and that was said
        return
    screen = _screen()
    screen.say(preview_line(outcome.result, 200))
    tally = outcome.tally
    if not outcome.found:
        screen.say(f"{outcome.execution.exec_id} had completed: nothing was run")
        return
    saved = f"; {duration(tally.saved)} saved" if tally.reused else ""
    screen.say(f"{tally.reused} reused, {tally.ran} run{saved}")


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


@app.command()
@_EXEC
@_asks_of_a_fork
@click.option("--code", metavar="PATH", help="For --rerun changed: where the flow's code is.")
@_full
@_common
@_settings
def plan(settings: Settings, /, execution: str, full: bool, code: str | None, **asked: Any) -> None:
    """Show what a replay would do with each step, and why, before anything runs.

    It takes what `kitaru replay` takes. `reuse` and `rerun` are promises, for unchanged code; `reuse?` and `rerun?` are
    what the recorded data suggest where the flow's own code may decide otherwise. No value is loaded, and nothing is
    written.
    """
    from . import replaying

    found = replaying.plan(settings.client(), execution, replaying.Asked(**asked), code=code)
    if settings.json:
        click.echo(documents.dumps(found.to_json()))
    else:
        _screen(full=full).plan(replaying.in_words(found))


@app.command()
@_EXEC
@_asks_of_a_fork
@click.option("--name", metavar="EXEC_ID", help="The fork's exec_id; one is drawn when it is left out.")
@_runs_flow
@_full
@_common
@_settings
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
    from . import replaying

    asked = replaying.Asked(start, sets, again, inputs)
    outcome = replaying.replay(settings.client(), execution, asked, quiet=settings.json, **options)

    def tell(outcome: Any) -> None:
        screen = _screen(full=full)
        fork = outcome.execution
        screen.say(f"{address_of(fork.store, fork.exec_id)}, a fork of {fork.forked_from}")
        screen.plan(replaying.explain(fork))
        _tell(outcome)

    _end(settings, outcome, tell)


@app.command()
@_EXEC
@_full
@_common
@_settings
def explain(settings: Settings, execution: str, full: bool) -> None:
    """Show what became of each step of an execution, and why: reused, edited or run.

    Of a fork it says what differed from the execution that it was forked from. No value is loaded.
    """
    from . import replaying

    found = settings.client().executions.get(execution)
    if settings.json:
        click.echo(documents.dumps({"exec_id": found.exec_id, **found.explain().to_json()}))
    else:
        _screen(full=full).plan(replaying.explain(found))


@app.command()
@_EXEC
@click.argument("to", metavar="TO")
@_common
@_settings
def cp(settings: Settings, execution: str, to: str) -> None:
    """Copy an execution to another store, where it opens and resumes.

    TO is that store's address: s3://bucket/prefix, or a folder. What it holds is never overwritten. A copy that was
    broken off, or that is behind, is completed by the same command.
    """
    from . import moving

    copied = moving.copy(settings.client(), execution, to, quiet=settings.json)
    if settings.json:
        click.echo(documents.dumps(copied.to_json()))
        return
    _screen().say("\n".join(moving.told(copied)))


@app.command()
@click.argument("executions", metavar="[EXEC]...", nargs=-1, shell_complete=completion.executions)
@click.option("--all", "every", is_flag=True, help="All executions of the store.")
@click.option("--repair", is_flag=True, help="Make derived objects again; put segments back that a pack holds.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
@_common
@_settings
def verify(settings: Settings, executions: tuple[str, ...], every: bool, repair: bool, quiet: bool) -> None:
    """Check that every object of an execution is what was written.

    Without EXEC it is the last one. The chain of its journal, its packs, every value and every blob down to the last
    byte; nothing is loaded or unpickled. Ends with 1 where something is wrong, and names it, and the values that need
    it. What cannot be found without a signature stands in docs/format.md.
    """
    from . import verifying

    reports = verifying.verify(settings.client(), executions, every=every, repair=repair, quiet=settings.json)
    if not verifying.tell(reports, None if settings.json else _screen(), quiet=quiet):
        sys.exit(1)


@app.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@_common
@_settings
def completion_(settings: Settings, shell: str) -> None:
    """Print what makes a shell complete commands, executions and steps by Tab.

    For bash, put `eval "$(kitaru completion bash)"` into ~/.bashrc; for zsh, the same with zsh into ~/.zshrc; for fish,
    `kitaru completion fish > ~/.config/fish/completions/kitaru.fish`.
    """
    text = completion.script(app, shell)
    click.echo(documents.dumps({"shell": shell, "script": text}) if settings.json else text)


@app.command()
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Packages to audit.")
@click.option("--kill-at", type=click.IntRange(1, 12), default=11, hidden=True)
@click.option("--approve", is_flag=True, help="Show a run that waits for you, in the place of one that is killed.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --approve: look for the answer for so long; then end with 3. The run waits on.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Who judges what is unclear: openai:gpt-5, with its key in the environment, or another one that Pydantic AI "
    "knows; local, a small one on this machine. The built-in rules when left out.",
)
@_common
@_settings
def demo(settings: Settings, limit: int, kill_at: int, approve: bool, patience: float, model: str | None) -> None:
    """Kill a run in the middle, and see it go on.

    A licence audit of the packages that are really installed here, in twelve steps. The process that runs it is killed
    with SIGKILL in step 11; another process, which is given nothing but the store's address and the exec_id, resumes
    it. What that reused, ran and saved is read from the records.

    With --approve nothing is killed: the run waits for your word on the licences that are unclear, its process ends,
    and a second one goes on when you have answered in another terminal.
    """
    from ..demo import approval, show

    client, screen = settings.client(writes=True), _screen()

    def tell(moment: str, facts: Any) -> None:
        if not settings.json:
            (_approval_lines if approve else _demo_lines)(screen, client, moment, facts)

    facts: show.Facts | approval.Approval
    if approve:
        facts = approval.ask(client.store, limit, patience, tell, model)
    else:
        facts = show.perform(client.store, limit, kill_at, tell, model)
    if settings.json:
        click.echo(documents.dumps(facts.to_json()))
    for problem in facts.problems:
        say(f"kitaru: the demo did not go as promised: {block(problem)}")
    if facts.problems:
        sys.exit(1)
    if isinstance(facts, approval.Approval) and not facts.answered_at:
        say(f"kitaru: nobody answered in {duration(patience)}; {facts.exec_id} waits on")
        say(f"kitaru: answer  {facts.command}")
        say(f"kitaru: go on   {ready_line(client.store)}")
        sys.exit(ExecutionSuspended("").code)


def _approval_lines(screen: Any, client: KitaruClient, moment: str, facts: Any) -> None:
    if moment == "waiting":
        screen.say(f"kitaru demo: the licences of up to {facts.limit} packages installed here, with your approval")
        screen.say(f"  recorded in   {facts.store}")
        screen.say(f"  1st process   pid {facts.first_pid} ran {facts.exec_id} until it had to ask, and ended with 3")
        screen.say("  waits for     you; nothing is running, and this machine may be switched off")
        screen.say(f"  asks          {line(facts.wait.question)}")
        screen.say()
        screen.say("  in a second terminal, here, yes or no:")
        screen.say(f"    {facts.command}")
        screen.say()
        sys.stdout.flush()
    elif moment == "answered":
        screen.say(f"  answered      by {line(facts.answered_by)}")
    else:
        _resumed_lines(screen, client, facts)


def _demo_lines(screen: Any, client: KitaruClient, moment: str, facts: Any) -> None:
    if moment == "running":
        screen.say(f"kitaru demo: the licences of up to {facts.limit} packages installed here, in 12 steps")
        screen.say(f"  recorded in   {facts.store}")
        screen.say(f"  1st process   pid {facts.first_pid} runs {facts.exec_id}")
    elif moment == "killed":
        screen.say(f"  SIGKILL       in step {facts.step} of 12, {facts.killed_in}")
    else:
        _resumed_lines(screen, client, facts)


def _resumed_lines(screen: Any, client: KitaruClient, facts: Any) -> None:
    where = address_of(client.store, facts.exec_id)
    screen.say(f"  2nd process   pid {facts.second_pid} is given {facts.store} and {facts.exec_id}, and resumes")
    inner = f" (and {facts.inner_kept} inside of them)" if facts.inner_kept else ""
    screen.say(f"  reused        {len(facts.kept)} steps{inner}, which had taken {duration(facts.saved)}")
    screen.say(f"  run           {len(facts.ran)} steps: {', '.join(facts.ran)}")
    screen.say()
    head = facts.report.split("\n")[:24]
    screen.say("\n".join(f"  │ {text}".rstrip() for text in head))
    screen.say()
    from . import tracing

    screen.say("  what the report was made from")
    made = tracing.text(client.look_up(f"{facts.exec_id}:report"), screen.width - 4).split("\n")
    screen.say("\n".join(f"  │ {text}".rstrip() for text in made[:12]))
    screen.say()
    screen.say(f"  all of its lineage  kitaru lineage {address_of(client.store, f'{facts.exec_id}:report')}")
    screen.say(f"  the whole report    kitaru show {address_of(client.store, f'{facts.exec_id}:report')}")
    screen.say(f"  the execution       kitaru show {where}")
    screen.say(f"  what happened       kitaru log {where}")
    store = "" if where == facts.exec_id else f" --store '{facts.store}'"
    screen.say(f"  all executions      kitaru runs{store}")
