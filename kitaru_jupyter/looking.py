"""Subcommands that look: where one is, what ran, what something is, what differs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from IPython.core.display_functions import display
from IPython.core.magic_arguments import argument, magic_arguments

import kitaru
from kitaru.client import FAILED, Artifact, Checkpoint, ExecutionStatus

from . import display as faces
from .commands import Room, command
from .steps import opened_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Looking"]

_STATUSES = [status.value for status in ExecutionStatus]


class Looking(Room):
    """Nothing here changes anything but where the notebook records."""

    def where(self) -> None:
        """Where this notebook records, and how far it is."""
        faces.publish(faces.place(self.notebook.session.store.url, self.notebook.execution()))

    @command("connect")
    @magic_arguments()
    @argument("address", help="s3://bucket/prefix, a folder, or memory://name")
    def connect(self, args: argparse.Namespace) -> None:
        """Record in a bucket or a folder from now on, in an execution of its own."""
        self.notebook.connect(args.address)

    @command("open", completes="executions")
    @magic_arguments()
    @argument("execution", help="an exec_id, the start of one, last, last-failed, or an address")
    def open(self, args: argparse.Namespace) -> None:
        """Attach to an execution: go on with a notebook's, or look into a flow's that ran elsewhere."""
        execution = self.notebook.open(args.execution)
        step = self.notebook.bind_step(execution) if self.notebook.is_of_a_flow else None
        print(opened_line(execution, step))  # noqa: T201 - one line, what it is

    @command("close")
    @magic_arguments()
    def close(self, _args: argparse.Namespace) -> None:
        """Let the execution go; the next step begins another one."""
        self.notebook.close()

    @command("log")
    @magic_arguments()
    def log(self, _args: argparse.Namespace) -> None:
        """The checkpoints up to here: status, what they read and bound, which are stale, and other ways from there."""
        execution = self.notebook.execution()
        if execution is None:
            self.where()
        elif execution.data.begun.by_hand:
            faces.publish(faces.branch(execution, self.notebook.forks()))
        else:
            faces.publish(faces.execution(execution))

    @command("runs")
    @magic_arguments()
    @argument("--flow", help="of this flow, or of several: audit*")
    @argument("--status", action="append", choices=_STATUSES, metavar="STATUS", help=", ".join(_STATUSES))
    @argument("--failed", action="store_true", help="failed or interrupted")
    @argument("--since", metavar="WHEN", help="begun since 2h, 3d, 2026-11-01, 2026-11-01T08:30, today")
    @argument("--limit", type=int, help="at most so many")
    def runs(self, args: argparse.Namespace) -> pd.DataFrame:
        """The executions of the store, newest first, as a pandas DataFrame."""
        wanted = {*map(ExecutionStatus, args.status or ()), *(FAILED if args.failed else ())}
        return self.notebook.runs(flow=args.flow, status=wanted or None, since=args.since, limit=args.limit)

    @command("show", completes="refs")
    @magic_arguments()
    @argument("ref", help="clean, clean#2, clean.table, clean.in.rows, @3, last, an exec_id, an address")
    @argument("-o", "--output", metavar="FILE", help="write the value to a file: .json, .npy, .parquet, .png, …")
    @argument("--force", action="store_true", help="replace a file that is there")
    def show(self, args: argparse.Namespace) -> None:
        """An execution, a checkpoint or a value in full; -o FILE writes a value to a file."""
        thing = self.notebook.show(args.ref)
        if args.output is None:
            faces.publish(faces.full(thing))
        else:
            if isinstance(thing, Checkpoint) and len(thing.artifacts) == 1:
                thing = thing.artifacts[0]
            elif not isinstance(thing, Artifact):
                thing = self.notebook.client.artifacts.get(thing.address)  # says which there are
            print(thing.write(args.output, force=args.force))  # noqa: T201 - asked for

    @command("diff", completes="refs")
    @magic_arguments()
    @argument("a", help="an execution, a checkpoint or a value")
    @argument("b", help="what it is compared with")
    @argument("--keys", metavar="A,B", default="", help="columns that say which row of a table is which")
    @argument("--values", action="store_true", help="of two executions, look inside what changed")
    def diff(self, args: argparse.Namespace) -> None:
        """What differs between two executions, checkpoints or values."""
        names = [name for name in (part.strip() for part in args.keys.split(",")) if name]
        a, b = self.notebook.show(args.a), self.notebook.show(args.b)
        display(kitaru.diff(a, b, keys=names, values=args.values))

    @command("explain", completes="executions")
    @magic_arguments()
    @argument("execution", nargs="?", help="this one, when left out")
    def explain(self, args: argparse.Namespace) -> Any:
        """What became of each step: reused, edited or run, and why."""
        return self.notebook.get(args.execution).explain()
