"""`kitaru resume`: go on with an execution in this process, and say what that came to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from ..client import Execution, KitaruClient
from ..engine import Tally
from ..failures import Failure, record
from ..location import connect
from ..notices import say
from ..previews import preview

__all__ = ["Outcome", "resume"]


@dataclass(slots=True)
class Outcome:
    """How a resumed execution ended. One that had been completed before ran nothing: `found` is empty."""

    execution: Execution
    status: str
    tally: Tally
    found: str  # where the flow's code was found
    result: dict[str, Any] | None = None  # its preview
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `kitaru resume --json`."""
        from .documents import failure

        return {
            "exec_id": self.execution.exec_id,
            "address": self.execution.address,
            "status": self.status,
            "code": self.found or None,
            "result": self.result,
            "tally": {"reused": self.tally.reused, "ran": self.tally.ran, "saved_seconds": self.tally.saved},
            "failure": failure(self.failure),
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
    """
    store, exec_id = client.find(name)
    connect(store)  # what the flow loads and saves by itself is there, too
    found: list[str] = []

    def note(text: str) -> None:
        found.append(text.partition(" found in ")[2])
        say(text)

    client = KitaruClient(store)
    client.note = note
    here = os.getcwd()
    if here not in sys.path:  # as `python -m` does: a flow's module may lie here
        sys.path.insert(0, here)
    with _away() if quiet else _as_it_is():
        go_on = client.executions.retry if retry else client.executions.resume
        handle = go_on(exec_id, raises=False, **options)
    outcome = Outcome(client.open(store, exec_id), handle.status, handle.tally, found[0] if found else "")
    try:
        outcome.result = preview(handle.get())
    except Exception as e:
        outcome.failure = record(e)
    return outcome


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _away() -> Iterator[None]:
    """Standard output goes to standard error, also what other programs write there that a step starts."""
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
