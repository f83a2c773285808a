"""Questions to a lineage: what made this, what depends on it, who made this value, how one came from the other.

Each takes a graph as `kitaru.lineage` gives it, and REFs, ``result`` or ``input.ARG``; it answers in names that
`kitaru show` takes. For questions about data alone, give a graph without order (``after=False``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import codecs
from .lineage_text import node_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["ancestors", "descendants", "path", "producers"]


def ancestors(graph: nx.MultiDiGraph[str], ref: str) -> list[str]:
    """The steps that made this step or value what it is, in the order in which they began.

    Raises `NotFoundError` where there is no such step or value.
    """
    return _steps(graph, _reached(graph, graph.predecessors, node_of(graph, ref)))


def descendants(graph: nx.MultiDiGraph[str], ref: str) -> list[str]:
    """The steps that depend on this step or value, in the order in which they began."""
    return _steps(graph, _reached(graph, graph.successors, node_of(graph, ref)))


def producers(graph: nx.MultiDiGraph[str], value: Any) -> list[str]:
    """The steps whose output is equal to `value`, in type, content and order.

    Raises
    ------
    UnrecordableValueError
        It is none that could be recorded.
    """
    digest = codecs.Sharer().encode(value).digest.hex()
    found = [
        node
        for node, about in graph.nodes(data=True)
        if about["kind"] == "artifact" and node.removeprefix("sha256:").partition("/")[0] == digest
    ]
    edges = [(maker, about) for node in found for maker, _, about in graph.in_edges(node, data=True)]
    return _steps(graph, [maker for maker, about in edges if about["relation"] == "generated"])


def path(graph: nx.MultiDiGraph[str], a: str, b: str) -> list[str]:
    """One of the shortest ways from `a` to `b`, both included: steps and values in turn; empty where there is none."""
    start, end = node_of(graph, a), node_of(graph, b)
    before: dict[str, str] = {start: start}
    todo = deque([start])
    while todo and end not in before:
        node = todo.popleft()
        for after in graph.successors(node):
            if after not in before and (graph.nodes[after]["kind"] != "execution" or after == end):
                before[after] = node
                todo.append(after)
    if end not in before:
        return []
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return [_name(graph, node) for node in reversed(way)]


def _reached(graph: nx.MultiDiGraph[str], beside: Callable[[str], Iterable[str]], node: str) -> Iterator[str]:
    """All nodes that lie behind this one, itself left out. A circle through a value that was made twice ends.

    Not by way of an execution: what it was given does not lie behind all that it gives.
    """
    seen, todo = {node}, deque([node])
    while todo:
        for other in beside(todo.popleft()):
            if other not in seen and graph.nodes[other]["kind"] != "execution":
                seen.add(other)
                todo.append(other)
                yield other


def _steps(graph: nx.MultiDiGraph[str], nodes: Iterable[str]) -> list[str]:
    steps = {node for node in nodes if graph.nodes[node]["kind"] == "checkpoint"}
    here = graph.graph.get("exec_id", "")
    ordered = sorted(steps, key=lambda node: (node.partition(":")[0] == here, graph.nodes[node]["number"]))
    return [_name(graph, node) for node in ordered]


def _name(graph: nx.MultiDiGraph[str], node: str) -> str:
    """As a REF within the execution that was asked; with its exec_id for what is another one's."""
    about = graph.nodes[node]
    full = about.get("ref", node) if about["kind"] == "artifact" else node
    exec_id, _, name = full.partition(":")
    return name if name and exec_id == graph.graph.get("exec_id") else full
