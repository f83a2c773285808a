"""Subcommands that travel: the variables as they were at any checkpoint, and back again."""

from __future__ import annotations

import argparse

from IPython.core.magic_arguments import argument, magic_arguments

from . import display as faces
from .commands import Room, command
from .namespace import Moved

__all__ = ["Travelling", "told"]

_NAMES = 8


class Travelling(Room):
    """Nothing is ever lost: what a checkout would overwrite is recorded first."""

    @command("checkout", completes="refs")
    @magic_arguments()
    @argument("ref", nargs="?", help="a step: clean, clean#2, @3, EXEC:clean; the newest one, when left out")
    @argument("--before", action="store_true", help="what the step read, under its own names")
    def checkout(self, args: argparse.Namespace) -> None:
        """Time travel: the variables as they were after a checkpoint; only what differs is loaded."""
        print(told(self.notebook.checkout(args.ref, before=args.before)))  # noqa: T201 - what was asked

    @command("undo")
    @magic_arguments()
    def undo(self, _args: argparse.Namespace) -> None:
        """Take the last checkout or edit back."""
        moved = self.notebook.undo()
        is_back = self.notebook.is_of_a_flow and not moved.loaded and not moved.removed  # no variable is a flow's
        print(f"back at {faces.line(self.notebook.get().exec_id)}" if is_back else told(moved))  # noqa: T201 - likewise


def told(moved: Moved) -> str:
    """One line: what was loaded and removed; and one for each thing that a person should know."""
    if moved.again is not None:
        steps = len(moved.again)
        if not steps:
            return "nothing came after it: the flow stands there"
        again = f"{steps} step{' runs' if steps == 1 else 's run'} again"
        return f"back in a fork; {again} when it goes on: {_some(moved.again)}"
    lines = [f"{len(moved.loaded)} loaded, {len(moved.removed)} removed"]
    if moved.kept:
        lines[0] += f"; not recorded, and left alone: {_some(moved.kept)}"
    lines += [f"{name} could not be had again whole: {why}" for name, why in sorted(moved.lost.items())]
    for label in dict.fromkeys(moved.unsure.values()):
        names = tuple(name for name, cell in moved.unsure.items() if cell == label)
        too = "it too" if len(names) == 1 else "them too"
        lines.append(f"{_some(names)}: as recorded before {label}, which has bound {too} and left no record of that")
    return "\n".join(lines)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
