"""The command line: ``kitaru``. Its rooms load when it runs."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

__all__ = ["main"]


def main() -> None:
    """Run the command line on this process's arguments, and end the process."""
    from .app import app

    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character gets its number, not a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="kitaru")
    except SystemExit as end:
        if end.code in {130, 143}:
            # Bodies of steps may still run in worker threads, and the interpreter would wait for them. What they do is
            # no longer recorded, and whoever sends a SIGTERM does not wait.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise


_usual = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What Kitaru warns of is told as what it says otherwise: where in Kitaru that stands helps nobody."""
    from ..errors import KitaruWarning
    from ..notices import say
    from .text import block

    if issubclass(category, KitaruWarning):
        say(f"kitaru: warning: {block(str(message))}")
    else:
        _usual(message, category, filename, lineno, file, line)
