"""The subcommand that shows the browser."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from IPython.core.magic_arguments import argument, magic_arguments

from .commands import Room, command

if TYPE_CHECKING:
    from .magics import KitaruMagics

__all__ = ["Browsing"]


class Browsing(Room):
    """A widget is a face: each of its buttons is a subcommand too."""

    magics: KitaruMagics  # whose notebook the widget works on

    @command("browse", completes="executions")
    @magic_arguments()
    @argument("execution", nargs="?", help="an exec_id, last, last-failed, an address; this one, when left out")
    def browse(self, args: argparse.Namespace) -> None:
        """The browser: executions, the lineage, each step; edit, plan and resume by hand."""
        from IPython.core.display_functions import display

        from .browser import Browser  # which loads what draws: not for everybody

        display(Browser(args.execution, magics=self.magics))
