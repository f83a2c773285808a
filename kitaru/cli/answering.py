"""`kitaru answer`, `kitaru waits`: what executions wait for, and what people say to that."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

from ..answers import Unanswered
from ..client import ExecutionStatus, KitaruClient, PendingWait
from ..errors import UsageError
from ..terminals import ask, terminal

__all__ = ["answer", "open_waits"]


def answer(client: KitaruClient, execution: str, wait: str, said: str | None) -> tuple[PendingWait, Any]:
    """Answer a wait. Gives it, and the answer as data.

    Parameters
    ----------
    said
        As it was typed: JSON, ``@FILE``, or ``-`` for standard input. None: whoever is at the terminal is asked.

    Raises
    ------
    UsageError
        It is no answer to this wait, which is open still; or there is nobody to ask.
    """
    pending = client.executions.pending_wait(execution, wait)
    value = _asked(pending) if said is None else pending.read(_read(said))
    client.executions.input(execution, pending.id, value)
    return pending, value


def _asked(pending: PendingWait) -> Any:
    takes = pending.shape
    if not takes:
        return None  # a sleep, or the end of another execution: `input` says what ends that
    if terminal() is None:
        raise UsageError(f"there is no terminal to ask at: write the answer to {pending.name} behind it ({takes})")
    try:
        return ask(pending.name, pending.question, pending.schema)
    except Unanswered:
        raise UsageError(f"{pending.name} was not answered") from None


def _read(said: str) -> str:
    if said == "-":
        return sys.stdin.read().strip()
    if not said.startswith("@"):
        return said
    file = pathlib.Path(said[1:])
    try:
        return file.read_text("utf-8").strip()
    except (OSError, ValueError) as e:
        raise UsageError(f"{file} cannot be read: {getattr(e, 'strerror', None) or e}") from None


def open_waits(client: KitaruClient, execution: str | None, limit: int) -> tuple[list[tuple[str, PendingWait]], bool]:
    """The open waits with the exec_ids that they are of, and whether there are more.

    Parameters
    ----------
    execution
        Of this one; None: of all that wait, newest first.
    limit
        Of at most so many executions.
    """
    if execution is not None:
        _, name = client.find(execution)
        return [(name, w) for w in client.executions.pending_waits(execution)], False
    found = client.executions.list(status=ExecutionStatus.WAITING, limit=limit + 1)
    waits = [(s.exec_id, w) for s in found[:limit] for w in client.executions.pending_waits(s.exec_id)]
    return waits, len(found) > limit
