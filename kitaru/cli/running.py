"""`kitaru resume`: go on with an execution in this process, and say what that came to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import click

from ..client import Checkpoint, Execution, KitaruClient, PendingWait
from ..engine import Tally
from ..errors import ExecutionCancelledError, ExecutionSuspended, UsageError
from ..failures import Failure, record
from ..handles import Handle
from ..location import connect
from ..notices import say
from ..previews import preview, preview_line
from ..repeats import Repetition, repeat as again
from ..runs import SUSPENDED
from . import documents
from .faces import failure_text
from .options import screen_of
from .text import block, duration

__all__ = ["Outcome", "aside", "end", "look_here", "repeat", "resume", "run", "tell"]


@dataclass(slots=True)
class Outcome:
    """How a resumed execution ended. One that had been completed before ran nothing: `found` is empty."""

    execution: Execution
    status: str
    tally: Tally
    found: str  # where the flow's code was found
    result: dict[str, Any] | None = None  # its preview
    failure: Failure | None = None

    @property
    def waits(self) -> list[PendingWait]:
        """What it waits for, if it does."""
        return [PendingWait.of(w) for w in self.execution.data.waits.open.values()] if self.is_suspended else []

    @property
    def is_suspended(self) -> bool:
        """Whether it goes on later: it waits, was paused, or was let go since there was no time."""
        return self.status in SUSPENDED

    def to_json(self) -> dict[str, Any]:
        """The document of `kitaru resume --json`; of a fork also what became of each step."""
        forked_from = self.execution.forked_from
        fork = {"forked_from": forked_from, "steps": self.execution.explain().to_json()["steps"]} if forked_from else {}
        return {
            "exec_id": self.execution.exec_id,
            "address": self.execution.address,
            **fork,
            "status": self.status,
            "code": self.found or None,
            "result": self.result,
            "tally": {"reused": self.tally.reused, "ran": self.tally.ran, "saved_seconds": self.tally.saved},
            "failure": documents.failure(self.failure),
            "waits": [documents.wait(self.execution.exec_id, w) for w in self.waits],
        }


def resume(client: KitaruClient, name: str, *, quiet: bool, retry: bool = False, **options: Any) -> Outcome:
    """Go on with the execution `name` until it ends.

    Parameters
    ----------
    quiet
        What the flow itself prints goes to standard error: standard output is for one JSON document.
    retry
        Refuse an execution that has not failed.
    options
        As `client.executions.resume` takes them.

    Raises
    ------
    SystemExit
        Of code 143 after a SIGTERM; the interruption is recorded.
    ExecutionCancelledError
        Somebody cancelled it meanwhile.
    """

    def go_on(of: KitaruClient, exec_id: str) -> Handle:
        return (of.executions.retry if retry else of.executions.resume)(exec_id, raises=False, **options)

    return run(client, name, go_on, quiet=quiet)


def run(client: KitaruClient, name: str, start: Callable[[KitaruClient, str], Handle], *, quiet: bool) -> Outcome:
    """Have `start` run the flow of the execution `name`, given a client of its store and its exec_id."""
    store, exec_id = client.find(name)
    connect(store)  # what the flow loads and saves by itself is there, too
    found: list[str] = []

    def note(text: str) -> None:
        found.append(text.partition(" found in ")[2])
        say(text)

    client = KitaruClient(store)
    client.note = note
    look_here()
    with aside(quiet):
        handle = start(client, exec_id)
    outcome = Outcome(client.open(store, handle.exec_id), handle.status, handle.tally, found[0] if found else "")
    if outcome.is_suspended:
        return outcome
    try:
        outcome.result = preview(handle.get())
    except ExecutionCancelledError:
        raise
    except Exception as e:
        outcome.failure = record(e)
    return outcome


def repeat(client: KitaruClient, ref: str, times: int, *, code: str | None, quiet: bool) -> Repetition:
    """Run a recorded step again on its recorded inputs. REF is EXEC:STEP, or a step of the last execution."""
    found = client.look_up(ref)
    if not isinstance(found, Checkpoint):
        raise UsageError(f"{ref} is no step: write EXEC:STEP, such as audit-7f3c:classify#2")
    look_here()
    execution = found._execution
    with aside(quiet):
        return again(execution.exec_id, found.label, times, code=code, store=execution.store)


def look_here() -> None:
    """Find modules in the working directory, as `python -m` does: a flow's may lie there."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def aside(quiet: bool) -> Iterator[None]:
    """Where `quiet`, standard output goes to standard error, also what other programs write that a step starts."""
    if not quiet:
        yield
        return
    with redirect_stdout(sys.stderr):
        if sys.__stdout__ is None or sys.__stdout__.closed or sys.__stdout__.fileno() != 1:
            yield
            return
        sys.__stdout__.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def end(outcome: Outcome, tell: Callable[[Outcome], None], *, json: bool) -> None:
    """Say how a run ended, and end the process so."""
    if outcome.failure is not None:
        say(block(failure_text(outcome.failure)))
    if json:
        click.echo(documents.dumps(outcome.to_json()))
    else:
        tell(outcome)
    if outcome.is_suspended:  # by what, and how it goes on, was said
        sys.exit(ExecutionSuspended("").code)
    if outcome.failure is not None:
        sys.exit(1)


def tell(outcome: Outcome) -> None:
    """Show what an execution came to, and what was reused for it."""
    if outcome.result is None:  # it failed, or was paused, and that was said
        return
    screen = screen_of()
    screen.say(preview_line(outcome.result, 200))
    tally = outcome.tally
    if not outcome.found:
        screen.say(f"{outcome.execution.exec_id} had completed: nothing was run")
        return
    saved = f"; {duration(tally.saved)} saved" if tally.reused else ""
    screen.say(f"{tally.reused} reused, {tally.ran} run{saved}")
