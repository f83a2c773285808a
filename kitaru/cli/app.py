"""The commands, what they take, and how an error ends them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from .. import __version__
from ..client import Artifact, Checkpoint, ExecutionStatus, KitaruClient
from ..errors import ExecutionSuspended, KitaruError
from ..location import check_format, check_there
from ..notices import address_of, say
from . import completion, documents
from .text import block, duration

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
    epilog="A REF names what to look at: [EXEC:][outer#N/]step[#N][.output], step.in.ARG, or @3 for the third "
    "checkpoint. EXEC is an exec_id, the start of one, last, or last-failed. Exit codes: 0 completed, 1 failed, 2 "
    "wrong usage, 3 waiting or paused, 4 somebody else runs it, 5 the store cannot be used, 143 evicted.",
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
@click.option("--flow", help="Only executions of this flow.")
@click.option("--status", type=click.Choice([s.value for s in ExecutionStatus]), help="Only those that stand so.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@_common
@_settings
def runs(settings: Settings, flow: str | None, status: str | None, limit: int) -> None:
    """List the executions, newest first."""
    client = settings.client()
    found = client.executions.list(flow=flow, status=status, limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    if settings.json:
        document = {"store": client.store.url, "runs": [documents.summary(s) for s in found], "more": more}
        click.echo(documents.dumps(document))
        return
    if not found:
        kind = " ".join(filter(None, (status, "execution", f"of {flow}" if flow else "")))
        say(f"kitaru: there is no {block(kind)} in {client.store.url}")
        return
    _screen().runs(found)
    if more:
        say(f"kitaru: there are more: --limit {5 * limit}")


@app.command()
@click.argument("ref", shell_complete=completion.refs)
@_full
@_common
@_settings
def show(settings: Settings, ref: str, full: bool) -> None:
    """Show an execution, a checkpoint, or a value in full.

    REF is what a failure prints, or a short form of it: `last`, `last-failed`, `audit-7f3c`, `audit-7f3c:classify#2`,
    `classify#2.in.package`, `@3`, `audit-7f3c:report`, `audit-7f3c:result`. In a pipe a value stands alone, without a
    heading, and text and bytes are as they were recorded. Nothing recorded is run or unpickled.
    """
    found = settings.client().look_up(ref)
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
    events = events_of(found.data, found._reading.segments)
    if settings.json:
        document = {"exec_id": found.exec_id, "events": [documents.event(e) for e in events]}
        click.echo(documents.dumps(document))
        return
    _screen().log(events)


@app.command()
@click.argument("ref", metavar="[REF]", default="last", shell_complete=completion.refs)
@_full
@_common
@_settings
def lineage(settings: Settings, ref: str, full: bool) -> None:
    """Show what made which value.

    Of an execution, step by step; of a step or a value, what it was made from and what needs it. REF is what
    `kitaru show` takes; without it, it is the last execution. No value is loaded. With --json it is the graph, in the
    node-link form of networkx.
    """
    from . import tracing

    found = settings.client().look_up(ref)
    if settings.json:
        click.echo(documents.dumps(tracing.document(found)))
        return
    screen = _screen(full=full)
    screen.say(tracing.text(found, width=screen.width))


_EXEC = click.argument("execution", metavar="EXEC", shell_complete=completion.executions)


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


@app.command()
@_EXEC
@click.option("--take-over", is_flag=True, help="Displace an owner that looks alive. Only if you know that it is gone.")
@_runs_flow
@_common
@_settings
def resume(settings: Settings, /, execution: str, **options: Any) -> None:
    """Go on with an execution from its last finished steps.

    EXEC is an exec_id, the start of one, `last`, `last-failed`, or a complete address. Its code is looked for in its
    module, then in the script that began it.
    """
    _go_on(settings, execution, **options)


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

    outcome = running.resume(settings.client(), execution, quiet=settings.json, **options)
    if outcome.failure is not None:
        from .faces import failure_text

        say(block(failure_text(outcome.failure)))
    if settings.json:
        click.echo(documents.dumps(outcome.to_json()))
    elif outcome.failure is None:
        _tell(outcome)
    if outcome.failure is not None:
        sys.exit(1)


def _tell(outcome: Any) -> None:
    from ..previews import preview_line

    screen = _screen()
    screen.say(preview_line(outcome.result, 200))
    tally = outcome.tally
    if not outcome.found:
        screen.say(f"{outcome.execution.exec_id} had completed: nothing was run")
        return
    saved = f"; {duration(tally.saved)} saved" if tally.reused else ""
    screen.say(f"{tally.reused} reused, {tally.ran} run{saved}")


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
@_common
@_settings
def demo(settings: Settings, limit: int, kill_at: int) -> None:
    """Kill a run in the middle, and see it go on.

    A licence audit of the packages that are really installed here, in twelve steps. The process that runs it is killed
    with SIGKILL in step 11; another process, which is given nothing but the store's address and the exec_id, resumes
    it. What that reused, ran and saved is read from the records.
    """
    from ..demo.show import Facts, perform

    client, screen = settings.client(writes=True), _screen()

    def tell(moment: str, facts: Facts) -> None:
        if not settings.json:
            _demo_lines(screen, client, moment, facts)

    facts = perform(client.store, limit, kill_at, tell)
    if settings.json:
        click.echo(documents.dumps(facts.to_json()))
    for problem in facts.problems:
        say(f"kitaru: the demo did not go as promised: {block(problem)}")
    if facts.problems:
        sys.exit(1)


def _demo_lines(screen: Any, client: KitaruClient, moment: str, facts: Any) -> None:
    if moment == "running":
        screen.say(f"kitaru demo: the licences of up to {facts.limit} packages installed here, in 12 steps")
        screen.say(f"  recorded in   {facts.store}")
        screen.say(f"  1st process   pid {facts.first_pid} runs {facts.exec_id}")
    elif moment == "killed":
        screen.say(f"  SIGKILL       in step {facts.step} of 12, {facts.killed_in}")
    else:
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
