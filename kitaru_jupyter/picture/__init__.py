"""A lineage as a picture: what made which value, at one look, in a notebook with or without a kernel.

`sketch` says what is drawn, `folding` what is left out where there is too much, `layout` where each thing stands, and
`svg` writes it down. All of them are pure: the same graph gives the same bytes.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.client import lineage_text

from .. import display
from .folding import fold
from .layout import place
from .sketch import Sketch, read, sketch
from .svg import draw, sizes_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Picture", "picture"]

_FEWEST = 10


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A picture of a lineage. A notebook shows it as an image that stays when the kernel is gone.

    Attributes
    ----------
    svg : str
        For a page of its own or an ``<img>``; made with ``inline=True`` for a place inside of a page.
    text : str
        For a terminal. It holds no exec_id of its own and no times: a test can compare it.
    order : list of str
        The REFs of what is drawn, as a person reads it; each node's ``data-ref``. Of steps that fold into one box the
        first stands for all.
    alt : str
        What it shows, in a sentence or two.
    """

    svg: str
    text: str
    order: list[str]
    alt: str
    head: str
    note: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """The picture in an ``<img>``, for inline SVG is dropped where a notebook is not trusted."""
        size = self.svg[self.svg.index(' width="') : self.svg.index(" viewBox=")]
        data = base64.b64encode(self.svg.encode()).decode()
        image = f'<img alt="{html.escape(self.alt)}"{size} src="data:image/svg+xml;base64,{data}">'
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return display._page(self.head, f'<div class="kitaru-drawn">{image}</div>{note}')

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """For IPython, which narrows it by itself."""
        del include, exclude
        return {"text/plain": self.text, "text/html": self._repr_html_()}


def picture(
    graph: nx.MultiDiGraph[str],
    *,
    chosen: str | None = None,
    stale: Iterable[str] = (),
    edited: Iterable[str] = (),
    changed: Iterable[str] = (),
    most: int = 200,
    inline: bool = False,
) -> Picture:
    """Draw a lineage.

    Parameters
    ----------
    graph
        From `kitaru.lineage`. One with steps alone will do, too.
    chosen
        A REF, or a node of the graph, that is pointed out. The text then says what made it, and what needs it.
    stale, edited, changed
        REFs, or nodes, that are marked so; what is not there is passed over. A value at the end of an ``edited_from``
        is marked without being named.
    most
        Nodes that are drawn; beyond that it folds: values first, then runs of similar steps, then steps inside of
        others. What is chosen, failed or marked never folds away. At least 10.
    inline
        In the colours of JupyterLab's theme, for a place inside of its page; nodes are buttons then.

    Raises
    ------
    NotFoundError
        There is no such step or value as is chosen.
    """
    asked = read(graph, chosen=chosen, stale=stale, edited=edited, changed=changed)
    drawn, shown = fold(graph, asked, max(most, _FEWEST))
    made = sketch(graph, asked, drawn, shown)
    sizes, room = sizes_of(made)
    placed = place(sizes, [(edge.source, edge.target) for edge in made.edges], room)
    alt = _alt(graph, made)
    return Picture(
        svg=draw(made, placed, sizes, label=alt, inline=inline),
        text=lineage_text(graph, asked.chosen, marks=asked.marks, varies=False),
        order=[node.ref for node in made.nodes],
        alt=alt,
        head=_head(graph, made),
        note=_note(made),
    )


def _counted(made: Sketch) -> str:
    values = f", {made.values:,} value{'s' * (made.values != 1)}" if made.values else ""
    return f"{made.steps:,} step{'s' * (made.steps != 1)}{values}"


def _flow(graph: nx.MultiDiGraph[str]) -> str:
    return display.line(graph.graph.get("flow") or "", 60)


def _alt(graph: nx.MultiDiGraph[str], made: Sketch) -> str:
    states = [f"{n:,} {status}" for status, n in sorted(made.statuses.items()) if status != "completed"]
    told = [node.title.partition(",")[0] for node in made.nodes if node.kind == "step" and node.status == "failed"]
    failed = f" Failed: {', '.join(told[:3])}{', …' if len(told) > 3 else ''}." if told else ""
    of = f" of {_flow(graph)}" if _flow(graph) else ""
    return f"Lineage{of}: {_counted(made)}{''.join(f', {state}' for state in states)}.{failed}"


def _head(graph: nx.MultiDiGraph[str], made: Sketch) -> str:
    exec_id = graph.graph.get("exec_id")
    about = graph.nodes[exec_id] if isinstance(exec_id, str) and exec_id in graph else graph.graph
    status = about.get("status")
    return display.heading(
        _flow(graph) or "lineage",
        status if isinstance(status, str) else "",
        exec_id if isinstance(exec_id, str) else "",
        _counted(made),
    )


def _note(made: Sketch) -> str:
    if not made.folds:
        return ""
    hidden = made.values - sum(node.kind == "value" for node in made.nodes)
    folds = sum(node.kind == "fold" for node in made.nodes)
    boxes = sum(node.kind != "value" for node in made.nodes)
    steps = f"{made.steps:,} steps in {boxes:,} boxes" if boxes < made.steps else f"{made.steps:,} steps"
    values = f"{hidden:,} of {made.values:,} values are not drawn" if hidden else ""
    return ". ".join(filter(None, [steps + (f", {folds:,} of them folded" if folds else ""), values])) + "."
