"""The picture that stays where no kernel is: in a notebook that was saved, converted, or opened elsewhere.

It is an image, for inline SVG is dropped where a notebook is not trusted; and an output of its own, for a bundle with a
widget in it is not shown at all where that widget is not found.
"""

from __future__ import annotations

import html

from .. import display
from .desk import Desk

__all__ = ["CLASS", "bundle"]

CLASS = "kitaru-still"
"""Of the element around it: the live view hides it."""


def bundle(desk: Desk) -> dict[str, str]:
    """The output, by its types."""
    execution, picture = desk.execution, desk.still()
    if picture is None:
        text = (
            "Kitaru: nothing is recorded yet" if execution is None else f"Kitaru: {display.execution(execution).text}"
        )
        return {"text/html": f'<div class="{CLASS}"><pre>{html.escape(text)}</pre></div>', "text/plain": text}
    return {"text/html": f'<div class="{CLASS}">{picture._repr_html_()}</div>', "text/plain": f"{picture!r}"}
