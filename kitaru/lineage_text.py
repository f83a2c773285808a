"""Lineage for a terminal: an execution step by step, or what made one value and what depends on it.

Works on the graph of `kitaru.lineage`, whoever made it; its texts come from records and are made harmless here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import InvalidNameError, NotFoundError
from .previews import preview_line, printable
from .refs import parse_ref

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["lineage_text", "node_of"]

_DEEP = 12  # levels of a tree; what lies deeper is a REF away
_LINES = 400  # of a tree
_NAMED = 3  # producers or parts that a line names


def lineage_text(graph: nx.MultiDiGraph[str], ref: str | None = None, *, width: int = 100) -> str:
    """The lineage as text of at most `width` columns: of all steps in their order, or of what `ref` names.

    Parameters
    ----------
    graph
        From `kitaru.lineage`.
    ref
        A step, an output, an input (``classify#2.in.package``), a saved name, ``result``, or a node of the graph;
        the execution's name may stand in front. None, or the execution's name alone: all steps.

    Raises
    ------
    NotFoundError
        Where `ref` names nothing in the graph.
    """
    node = None if ref is None else node_of(graph, ref)
    lines = _execution(graph) if node in {None, graph.graph["exec_id"]} else _value(graph, f"{node}")
    return "\n".join(line if len(line) <= width else line[: max(width - 1, 0)] + "…" for line in lines)


def node_of(graph: nx.MultiDiGraph[str], ref: str) -> str:
    """The node that `ref` names; see `lineage_text`."""
    here = graph.graph["exec_id"]
    ref = ref.removeprefix(f"{here}:")
    if ref in graph:
        return ref
    if ref == "result" and graph.graph["result"] is not None:
        return str(graph.graph["result"])
    saved = [name for name, a in graph.nodes(data=True) if ref in a.get("saved_as", ())]
    if saved:
        return saved[-1]
    try:
        parsed = parse_ref(ref)
    except InvalidNameError:
        parsed = None
    if parsed is not None:
        step = "/".join(map(str, parsed.path))
        found = [
            name
            for name, a in graph.nodes(data=True)
            if a["kind"] == "checkpoint" and (a["number"] == parsed.number if parsed.number else a["label"] == step)
        ]
        if found and parsed.output is None and parsed.argument is None:
            return found[-1]
        for name in reversed(found):
            ties = _makes(graph, name) if parsed.output is not None else _uses(graph, name)
            for role, value in ties:
                if role in {parsed.output, parsed.argument} - {None}:
                    return value
    raise NotFoundError(f"the lineage of {here} has no {ref}: `kitaru lineage {here}` shows what it has")


# ---------------------------------------------------------------- what stands beside a node


def _uses(graph: nx.MultiDiGraph[str], step: str) -> list[tuple[str, str]]:
    """(role, artifact) of what a step used."""
    return [(a["role"], v) for v, _, a in graph.in_edges(step, data=True) if a["relation"] == "used"]


def _makes(graph: nx.MultiDiGraph[str], step: str) -> list[tuple[str, str]]:
    """(role, artifact) of what a step generated."""
    return [(a["role"], v) for _, v, a in graph.out_edges(step, data=True) if a["relation"] == "generated"]


def _makers(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    """(role, checkpoint) of what generated an artifact; the execution alone where no step did."""
    every = [(a["role"], s) for s, _, a in graph.in_edges(value, data=True) if a["relation"] == "generated"]
    once = {s: (role, s) for role, s in every}  # an output rather than the save before it
    steps = [found for s, found in once.items() if graph.nodes[s]["kind"] == "checkpoint"]
    return steps or list(once.values())


def _parts(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    """(role, artifact) of what an artifact was made of or taken out of."""
    return [(a["role"], v) for v, _, a in graph.in_edges(value, data=True) if a["relation"] == "part_of"]


def _origin(graph: nx.MultiDiGraph[str], value: str) -> str:
    """Where a value comes from, in a few words."""
    here = graph.graph["exec_id"]
    makers = [(role, s) for role, s in _makers(graph, value) if s != here]
    if makers:
        return _listed([_ref(graph, s, role) for role, s in makers])
    parts = _parts(graph, value)
    if parts:
        word = "with" if parts[0][0] == "part" else "out of"
        return f"{word} {_listed([_short(graph, v) for _, v in parts])}"
    if here in graph.succ[value]:
        return _listed([f"input {printable(role)}" for role, v in _uses(graph, here) if v == value])
    return "from the code around it"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ref(graph: nx.MultiDiGraph[str], step: str, role: str) -> str:
    return f"{printable(graph.nodes[step]['label'])}.{printable(role)}"


def _short(graph: nx.MultiDiGraph[str], value: str) -> str:
    """A name for a value: as whose output, or as whose input."""
    makers = _makers(graph, value)
    if makers:
        role, step = makers[-1]
        return "result" if step == graph.graph["exec_id"] and role == "result" else _ref(graph, step, role)
    ref = graph.nodes[value]["ref"]
    return printable(ref.partition(":")[2]) if ref else _origin(graph, value)


def _glimpse(graph: nx.MultiDiGraph[str], value: str) -> str:
    return preview_line(graph.nodes[value]["preview"], 60)


def _state(a: dict[str, Any]) -> str:
    words = [a["status"]]
    if a["took"]:
        words.append(f"{a['took']:,.1f} s" if a["took"] >= 1 else f"{a['took'] * 1000:.0f} ms")
    if a["tokens"] is not None:
        words.append(f"{a['tokens']:,} tokens")
    if a["cost"]:
        words.append(f"${a['cost']:.4g}")
    if a["superseded"]:
        words.append("superseded")
    return printable(", ".join(words))


# ---------------------------------------------------------------- an execution


def _execution(graph: nx.MultiDiGraph[str]) -> Iterator[str]:
    here = graph.graph["exec_id"]
    top = graph.nodes[here]
    yield f"{here}  {printable(top['name'])}, {printable(top['status'])}"
    for role, value in _uses(graph, here):
        yield f"  input      {printable(role)}: {_glimpse(graph, value)}"
    if top["failure"]:
        yield f"  failure    {printable(top['failure'])}"
    for step, a in graph.nodes(data=True):
        if a["kind"] != "checkpoint":
            continue
        indent = "  " * a["label"].count("/")
        before = [graph.nodes[s]["label"] for s, _, e in graph.in_edges(step, data=True) if e["relation"] == "after"]
        yield f"{indent}{printable(a['label'])}  {_state(a)}" + "".join(f", after {printable(b)}" for b in before)
        for role, value in _uses(graph, step):
            yield f"{indent}  used       {printable(role)}: {_origin(graph, value)}  {_glimpse(graph, value)}"
        for role, value in _makes(graph, step):
            yield f"{indent}  generated  {printable(role)}: {_glimpse(graph, value)}"
        if a["failure"]:
            yield f"{indent}  failure    {printable(a['failure'])}"
    for role, value in _makes(graph, here):
        yield f"{printable(role)}: {_origin(graph, value)}  {_glimpse(graph, value)}"


# ---------------------------------------------------------------- a value or a step


def _value(graph: nx.MultiDiGraph[str], node: str) -> Iterator[str]:
    a = graph.nodes[node]
    if a["kind"] == "checkpoint":
        yield f"{printable(a['label'])}  {_state(a)}"
    else:
        saved = f"  saved as {printable(', '.join(a['saved_as']))}" if a["saved_as"] else ""
        yield f"{_short(graph, node)}  {_glimpse(graph, node)}{saved}"
    yield "made from" if a["kind"] == "checkpoint" else "made by"
    yield from _tree(graph, _made(graph, node), _upstream) or ["  nothing that was recorded"]
    yield "needed by"
    yield from _tree(graph, _downstream(graph, node), _downstream) or ["  nothing"]


def _made(graph: nx.MultiDiGraph[str], node: str) -> list[tuple[str, str]]:
    """(line, node) of what the node that was asked for came from: its steps with their state, and what it holds."""
    if graph.nodes[node]["kind"] != "artifact":
        return _upstream(graph, node)
    here = graph.graph["exec_id"]
    steps = [
        (f"{printable(graph.nodes[s]['label'])}  {_state(graph.nodes[s])}", s)
        for _, s in _makers(graph, node)
        if s != here
    ]
    return steps + _taken(graph, node)


def _upstream(graph: nx.MultiDiGraph[str], node: str) -> list[tuple[str, str]]:
    """(line, node) of what `node` came from. A value that a step made came from what that step used."""
    kind, here = graph.nodes[node]["kind"], graph.graph["exec_id"]
    if kind == "execution":
        return []
    if kind == "artifact":
        makers = [s for _, s in _makers(graph, node) if s != here]
        return list(dict.fromkeys(line for s in makers for line in _upstream(graph, s))) or _taken(graph, node)
    out = []
    for role, value in _uses(graph, node):
        steps = any(s != here for _, s in _makers(graph, value))
        origin = "" if not steps and _parts(graph, value) else f"{_origin(graph, value)}  "
        out.append((f"{printable(role)}: {origin}{_glimpse(graph, value)}", value))
    return out


def _taken(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    word = {"part": "with", "whole": "out of", "items": "out of"}
    return [(f"{word.get(role, role)} {_short(graph, v)}  {_glimpse(graph, v)}", v) for role, v in _parts(graph, value)]


def _downstream(graph: nx.MultiDiGraph[str], node: str) -> list[tuple[str, str]]:
    """(line, node) of what came from `node`. What needs a step's output needs the step."""
    if graph.nodes[node]["kind"] == "checkpoint":
        return list(dict.fromkeys(line for _, v in _makes(graph, node) for line in _downstream(graph, v)))
    out = []
    for _, other, a in graph.out_edges(node, data=True):
        if a["relation"] == "used" and other != graph.graph["exec_id"]:
            out.append((f"{printable(graph.nodes[other]['label'])}  as {printable(a['role'])}", other))
        elif a["relation"] == "part_of":
            out.append((f"{_short(graph, other)}  {_glimpse(graph, other)}", other))
    if node == graph.graph["result"]:
        out.append(("the result", graph.graph["exec_id"]))
    return out


def _tree(graph: nx.MultiDiGraph[str], roots: list[tuple[str, str]], beside: Any) -> list[str]:
    """A tree of lines, without recursion; what was shown once is not shown again."""
    lines: list[str] = []
    shown = set[str]()
    todo = [("", text, node, last) for text, node, last in _marked(roots)]
    while todo:
        indent, text, node, last = todo.pop()
        if len(lines) >= _LINES:
            lines.append("… and more: ask for one of these")
            break
        below = beside(graph, node) if graph.nodes[node]["kind"] != "execution" else []
        again = node in shown and bool(below)
        deep = len(indent) >= 3 * (_DEEP - 1) and bool(below)
        lines.append(f"{indent}{'└─' if last else '├─'} {text}{' (see above)' if again else ' …' if deep else ''}")
        if again or deep:
            continue
        shown.add(node)
        inner = indent + ("   " if last else "│  ")
        todo += [(inner, text, node, last) for text, node, last in _marked(below)]
    return lines


def _marked(found: list[tuple[str, str]]) -> list[tuple[str, str, bool]]:
    """In the order of a stack, with the last one marked."""
    return [(text, node, n == len(found) - 1) for n, (text, node) in enumerate(found)][::-1]
