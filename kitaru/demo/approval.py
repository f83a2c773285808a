"""The other show: the audit waits for a person, nothing runs meanwhile, and another process goes on with the answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..client import KitaruClient, PendingWait
from ..errors import KitaruError, UsageError
from ..ids import new_exec_id
from ..location import prepare
from ..notices import answer_line
from .audit import STEPS, audit
from .show import _PATIENCE, Resumed, _compare, _environment, _process, _resume, _steps

if TYPE_CHECKING:
    from ..stores.base import Store

__all__ = ["Approval", "ask"]

_LOOK = 0.5
"""Seconds between two looks for the answer."""


@dataclass(slots=True, kw_only=True)
class Approval(Resumed):
    """What happened.

    Attributes
    ----------
    first_code : int
        What the first process ended with: 3, it waits.
    wait : PendingWait or None
        What it waits for; None before it does.
    command : str
        What answers it.
    answered_by, answered_at
        Who did, and when, in seconds since the epoch; empty, and 0, where nobody has.
    """

    first_code: int = 0
    wait: PendingWait | None = None
    command: str = ""
    answered_by: str = ""
    answered_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The facts as plain data; the keys are stable."""
        suspended = {"pid": self.first_pid, "exit_code": self.first_code, "answer": self.command}
        answered = {"by": self.answered_by, "at": self.answered_at} if self.answered_at else None
        return self.told({"suspended": suspended, "answered": answered}, resumed=answered is not None)


def ask(
    store: Store, limit: int, patience: float, tell: Callable[[str, Approval], None], model: str | None = None
) -> Approval:
    """Run the audit in a process until it waits for approval; look for the answer, and resume it in another process.

    Parameters
    ----------
    limit
        How many of the installed packages are audited.
    patience
        Seconds for which this process looks for the answer. The execution waits without it.
    tell
        Called as things happen: with ``"waiting"``, ``"answered"``, ``"resumed"``, and the facts as known by then.
    model
        Who judges what is unclear, as `kitaru.llm` takes it; the built-in rules when left out.

    Raises
    ------
    UsageError
        The store is this process's memory.
    """
    if store.url.startswith("memory:"):
        raise UsageError(
            "the demo runs in several processes, and memory:// is one process's own: name a folder or a bucket"
        )
    prepare(store)
    facts = Approval(exec_id=new_exec_id(audit.name), store=store.url, limit=limit)
    client = KitaruClient(store)
    _run_until_it_waits(facts, client, model)
    tell("waiting", facts)
    if not _is_answered(facts, client, patience):
        return facts
    tell("answered", facts)
    before = client.executions.get(facts.exec_id)
    said = _resume(facts)
    after = client.executions.get(facts.exec_id)
    names = [step.name for step in STEPS]
    done = names.index("review_unclear") + 1
    _compare(facts, before, after, said, [*names[:done], "approval", *names[done:]], done)
    tell("resumed", facts)
    return facts


def _run_until_it_waits(facts: Approval, client: KitaruClient, model: str | None) -> None:
    command = [sys.executable, "-m", "kitaru.demo.worker", facts.exec_id, str(facts.limit), "approve"]
    command += [model] if model else []
    with _process(command, _environment(KITARU_STORE=facts.store), quiet=True) as first:
        facts.first_pid = first.pid
        facts.first_code = first.wait(_PATIENCE)
    if facts.first_code != 3:
        raise KitaruError(
            f"the demo's first process ended with {facts.first_code}, and not with 3 at its wait: "
            f"`kitaru log {facts.exec_id}`"
        )
    execution = client.executions.get(facts.exec_id)
    (opened,) = execution.data.waits.open.values()
    facts.wait = PendingWait.of(opened)
    facts.command = answer_line(client.store, facts.exec_id, opened)
    facts.packages = _steps(execution)[0].metadata.get("audited", 0)


def _is_answered(facts: Approval, client: KitaruClient, patience: float) -> bool:
    """Look until somebody has answered, or patience is over."""
    assert facts.wait is not None
    until = time.monotonic() + patience
    while True:
        closed = client.executions.get(facts.exec_id).closings.get(facts.wait.id)
        if closed is not None:
            facts.answered_by, facts.answered_at = closed.who, closed.at
            return True
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, _LOOK))
