"""IPython's formatters: which face stands for which type, and what a list of them is shown as."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru.client import Artifact, Checkpoint, Copied, Execution, Handle, Verification
from kitaru.errors import KitaruError

from . import display, listings
from .display import Face

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["add", "remove"]

_FACES: dict[type, Callable[[Any], Face]] = {
    Artifact: display.artifact,
    Checkpoint: display.checkpoint,
    Copied: listings.copied,
    Execution: display.execution,
    Handle: listings.handle,
    Verification: listings.verification,
}
_LINEAGE = ("networkx.classes.multidigraph", "MultiDiGraph")


def add(shell: InteractiveShell) -> None:
    """From now on this shell shows what Kitaru hands out by its faces."""
    formatters = shell.display_formatter.formatters  # type: ignore[union-attr]
    page, plain = formatters["text/html"], formatters["text/plain"]
    for kind, face in _FACES.items():
        page.for_type(kind, lambda thing, face=face: face(thing).html)
        plain.for_type(kind, lambda thing, printer, _cycle, face=face: printer.text(face(thing).text))
    # Of other lists there is no HTML, and their text is what it was.
    page.for_type(list, _list_html)
    plain.for_type(list, _ListText(plain.lookup_by_type(list)))
    page.for_type_by_name(*_LINEAGE, _lineage_html)
    plain.for_type_by_name(*_LINEAGE, _lineage_text)


def remove(shell: InteractiveShell) -> None:
    """Show it as Python does."""
    formatters = shell.display_formatter.formatters  # type: ignore[union-attr]
    page, plain = formatters["text/html"], formatters["text/plain"]
    for kind in _FACES:
        page.pop(kind, None)
        plain.pop(kind, None)
    page.pop(list, None)
    before = plain.pop(list, None)
    if isinstance(before, _ListText):
        plain.for_type(list, before.before)
    for formatter in (page, plain):
        formatter.pop(".".join(_LINEAGE), None)


def _listed(things: list[Any]) -> Face | None:
    """The face of a list of one type of ours; None for any other."""
    face = listings.LISTED.get(type(things[0])) if things else None
    return face(things) if face is not None and len({*map(type, things)}) == 1 else None


def _list_html(things: list[Any]) -> str | None:
    face = _listed(things)
    return None if face is None else face.html


class _ListText:
    """The text of a list, which is what it was `before` where the list is none of ours."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before

    def __call__(self, things: list[Any], printer: Any, cycle: bool) -> None:
        face = None if cycle else _listed(things)
        if face is None:
            self.before(things, printer, cycle)
        else:
            printer.text(face.text)


def _lineage(graph: Any) -> Any:
    """The picture of a graph that `kitaru.lineage` gave; None of any other."""
    from .picture import picture

    if "exec_id" not in graph.graph or graph.graph["exec_id"] not in graph:
        return None
    try:
        return picture(graph)
    except KitaruError:  # somebody made another graph of it
        return None


def _lineage_html(graph: Any) -> str | None:
    found = _lineage(graph)
    return None if found is None else found._repr_html_()


def _lineage_text(graph: Any, printer: Any, _cycle: bool) -> None:
    found = _lineage(graph)
    printer.text(repr(graph) if found is None else found.text)
