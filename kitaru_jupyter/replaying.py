"""Subcommands that ask what would have happened: a plan, and the fork that carries it out."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.client import KitaruClient, Plan

from .commands import Room, command

__all__ = ["Replaying", "summary"]


class Replaying(Room):
    """Forks of any execution of the store, with edits as they are typed."""

    @command("plan", completes="executions")
    @magic_arguments()
    @argument("execution", nargs="?", help="this one, when left out")
    @argument("--from", dest="from_", metavar="REF", help="what started at or after it runs")
    @argument("--set", action="append", default=[], metavar="REF=JSON", help="a value in the place of a recorded one")
    @argument("--rerun", action="append", default=[], metavar="NAME", help="all steps of this name run; or: changed")
    @argument("--input", action="append", default=[], metavar="NAME=JSON", help="another input of the flow")
    def plan(self, args: argparse.Namespace) -> Any:
        """What would run again and why; with edits, what a replay with them would do. No value is loaded."""
        execution = self.notebook.get(args.execution)
        executions = KitaruClient(execution.store).executions
        overrides = executions.overrides(execution.exec_id, args.set, args.input, load=False)
        plan = executions.plan(execution.exec_id, from_=args.from_, rerun=args.rerun, overrides=overrides)
        if args.execution is None and self.notebook.is_of_a_flow:
            print(summary(plan))  # noqa: T201 - what was asked
        return plan

    @command("replay", completes="executions")
    @magic_arguments()
    @argument("execution", help="an exec_id, the start of one, last, last-failed, or an address")
    @argument("--from", dest="from_", metavar="REF", help="what started at or after it runs")
    @argument("--set", action="append", default=[], metavar="REF=JSON", help="a value in the place of a recorded one")
    @argument("--rerun", action="append", default=[], metavar="NAME", help="all steps of this name run; or: changed")
    @argument("--input", action="append", default=[], metavar="NAME=JSON", help="another input of the flow")
    @argument("--name", metavar="EXEC_ID", help="the fork's exec_id")
    def replay(self, args: argparse.Namespace) -> Any:
        """Fork an execution with these edits, and run the fork: what they cannot have changed is reused."""
        execution = self.notebook.get(args.execution)
        executions = KitaruClient(execution.store).executions
        overrides = executions.overrides(execution.exec_id, args.set, args.input)
        handle = executions.replay(
            execution.exec_id, from_=args.from_, rerun=args.rerun, overrides=overrides, name=args.name
        )
        print(f"{handle.exec_id}, a fork of {execution.exec_id}")  # noqa: T201 - what was asked
        return executions.get(handle.exec_id).explain()


def summary(plan: Plan) -> str:
    """One line: ``2 steps would run again, 11 reused, saves 14 s``. `notebooks/sanitize.cfg` masks the seconds."""
    again, reused = plan.count("rerun", "rerun?"), plan.count("reuse", "reuse?")
    took = plan.saved("took")
    saves = f", saves {took:,.0f} s" if took >= _WORTH_SAYING else ""
    return f"{again} step{'' if again == 1 else 's'} would run again, {reused} reused{saves}"


_WORTH_SAYING = 0.5  # seconds
