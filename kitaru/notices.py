"""What Kitaru says on stderr: one line at a time, never in the way."""

from __future__ import annotations

import os
import sys
import warnings

from .errors import KitaruError, KitaruWarning
from .location import default_would_find
from .refs import format_address
from .stores.base import Store

__all__ = ["address_of", "failure_lines", "resume_line", "say", "warn"]


_HERE = os.path.dirname(__file__) + os.sep


def say(line: str) -> None:
    """Print one line on stderr; a closed stderr is no reason to fail."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def warn(message: str) -> None:
    """Warn whoever wrote the code that called Kitaru: the line named is theirs."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, KitaruWarning, stacklevel=level)


def address_of(store: Store, ref: str) -> str:
    """`ref` as a command in this place takes it: with the store in front unless the default search finds it."""
    try:
        found = default_would_find(store)
    except KitaruError:
        found = False
    return ref if found else format_address(store.url, ref)


def failure_lines(store: Store, exec_id: str, flow: str, failed_at: str | None, summary: str) -> str:
    """What to tell whoever meets a failed execution: what failed, where to look, how to go on."""
    where = f"at {failed_at}" if failed_at else "in its own body"
    look = f"{exec_id}:{failed_at}" if failed_at else exec_id
    return (
        f"kitaru: {flow} failed {where}: {summary}\n"
        f"kitaru: look    kitaru show {_quoted(address_of(store, look))}\n"
        f"{resume_line(store, exec_id)}"
    )


def resume_line(store: Store, exec_id: str) -> str:
    """The command that goes on with an execution."""
    return f"kitaru: resume  kitaru resume {_quoted(address_of(store, exec_id))}"


def _quoted(word: str) -> str:
    from shlex import quote

    return word if "?" not in word and " " not in word else quote(word)
