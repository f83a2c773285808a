"""`kitaru plan` and `kitaru replay`: what a fork would do, and a fork that is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..client import Execution, KitaruClient
from ..handles import Handle
from ..planning import Plan
from .running import Outcome, look_here, run

__all__ = ["Asked", "explain", "in_words", "plan", "replay"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of a fork, as it was typed."""

    start: str | None = None  # --from
    sets: tuple[str, ...] = ()
    again: tuple[str, ...] = ()  # --rerun
    inputs: tuple[str, ...] = ()

    def options(self, client: KitaruClient, exec_id: str, *, load: bool) -> dict[str, Any]:
        """As `client.executions.replay` and `plan` take it."""
        overrides = client.executions.overrides(exec_id, self.sets, self.inputs, load=load)
        return {"from_": self.start, "overrides": overrides, "rerun": self.again}


def plan(client: KitaruClient, exec_id: str, asked: Asked, *, code: str | None) -> Plan:
    """What a fork would do; no step runs, and no value is loaded."""
    look_here()
    return client.executions.plan(exec_id, code=code, **asked.options(client, exec_id, load=False))


def replay(client: KitaruClient, origin: str, asked: Asked, *, quiet: bool, **options: Any) -> Outcome:
    """Fork the execution `origin`, and run the fork until it ends; see `running.run`."""

    def fork(of: KitaruClient, exec_id: str) -> Handle:
        return of.executions.replay(exec_id, raises=False, **asked.options(of, exec_id, load=True), **options)

    return run(client, origin, fork, quiet=quiet)


def explain(execution: Execution) -> Plan:
    """What became of each step and why, with the words of the command line."""
    return in_words(execution.explain())


def in_words(plan: Plan) -> Plan:
    """An edit is called by the option that asked for it."""
    return replace(plan, rows=tuple(_in_words(plan.rows)))


def _in_words(rows: Iterable[Any]) -> Iterable[Any]:
    for row in rows:
        edit, _, what = row.why.partition("edited: ")
        yield row if edit or not what else replace(row, why=f"edited: --set{'' if what == 'output' else f' {what}'}")
