"""Subcommands about what is recorded."""

from __future__ import annotations

import argparse

from IPython.core.magic_arguments import argument, magic_arguments

from .commands import Room, command
from .outputs import show_again
from .recorder import Recorder
from .refusal import UsageError

__all__ = ["Recording"]


class Recording(Room):
    """Which cells are steps, and what they have shown."""

    recorder: Recorder

    @command("record")
    @magic_arguments()
    @argument("what", choices=["on", "off"], help="every cell is a step from here on, or those with %%%%kitaru_step")
    def record(self, args: argparse.Namespace) -> None:
        """Record every cell, named by itself: cell#1, cell#2, …; or only those with a name again."""
        self.recorder.every = args.what == "on"

    @command("outputs", completes="refs")
    @magic_arguments()
    @argument("ref", help="a step: clean, clean#2, @3, …")
    def outputs(self, args: argparse.Namespace) -> None:
        """Show again what a recorded cell has shown."""
        shown = self.notebook.shown(args.ref)
        if shown is None:
            raise UsageError(f"{args.ref} has shown nothing, or was run by no notebook")
        show_again(shown)
