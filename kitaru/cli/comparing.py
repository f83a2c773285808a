"""What `kitaru diff` prints."""

from __future__ import annotations

import sys

from ..client import KitaruClient
from ..diffs import Diff, diff
from ..diffs.show import as_rich, as_text
from .faces import Screen

__all__ = ["compare", "tell"]


def compare(client: KitaruClient, a: str, b: str, *, keys: str, values: bool) -> Diff:
    """Compare what two REFs name."""
    names = [name for name in (part.strip() for part in keys.split(",")) if name]
    # On a command line everything is a REF, whatever else it may look like.
    return diff(client.look_up(a), client.look_up(b), keys=names, values=values)


def tell(found: Diff, screen: Screen, *, full: bool) -> None:
    """Print it: in colour on a terminal, in full in a pipe."""
    page = found.page(full=full or not screen.terminal)
    if screen.terminal:
        screen._console().print(as_rich(page))
    else:
        sys.stdout.write(f"{as_text(page, varies=True)}\n")
