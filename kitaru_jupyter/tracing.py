"""The lineage of what this notebook's variables came from, as a picture."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.client import Execution
from kitaru.sessions import verdicts

from .commands import Room, command

if TYPE_CHECKING:
    import networkx as nx

    from .picture import Picture

__all__ = ["Tracing", "drawn"]


class Tracing(Room):
    """What made what."""

    @command("lineage", completes="refs")
    @magic_arguments()
    @argument("ref", nargs="?", help="a step or a value that is pointed out: clean, clean.table, @3, …")
    @argument("execution", nargs="?", help="this one, when left out")
    @argument("--most", type=int, default=200, metavar="N", help="so many nodes are drawn; beyond that it folds")
    @argument("--text", action="store_true", help="as text")
    def lineage(self, args: argparse.Namespace) -> Any:
        """What made what, as a picture: of the steps up to here, over forks, with those that are stale or edited."""
        picture = self.notebook.lineage(args.ref, args.execution, most=args.most)
        if not args.text:
            return picture
        print(picture.text)  # noqa: T201 - what was asked
        return None


def drawn(execution: Execution, ref: str | None = None, *, most: int = 200) -> Picture:
    """The picture of an execution; of a notebook's the steps that count on its branch.

    Raises
    ------
    NotFoundError
        It has no such step or value as `ref` names.
    """
    from .picture import picture

    if not execution.data.begun.by_hand:
        return picture(execution.lineage(), chosen=ref, most=most)
    branch = execution.branch()
    steps = [branch.steps[n] for n in branch.current()]
    nodes = {step.label: f"{step.exec_id}:{step.label}" for step in branch}
    edited = [nodes[step.label] for step in steps if step.edited]
    edited += [f"sha256:{v.digest.hex()}" for step in steps for name, v in step.outputs if name in step.edited]
    stale = [nodes[v.step.label] for v in verdicts(branch) if v.is_stale and v.step.data.status == "completed"]
    graph = _of_branch(execution, [nodes[step.label] for step in steps])
    for step in reversed(steps):  # a value is called by the step that gave it first, and not by who reads it
        for name, v in step.outputs:
            if (node := f"sha256:{v.digest.hex()}") in graph:
                graph.nodes[node]["ref"] = f"{nodes[step.label]}.{name}"
    chosen = None if ref is None else _node(execution, ref, nodes, graph)
    return picture(graph, chosen=chosen, stale=stale, edited=edited, most=most)


def _of_branch(execution: Execution, steps: list[str]) -> nx.MultiDiGraph[str]:
    """The graph with those of the steps that count, and what is tied to them; numbered as they count."""
    whole = execution.lineage(origins=True)
    kept: dict[str, None] = dict.fromkeys([execution.exec_id])
    for step in steps:
        kept |= dict.fromkeys(n for n in whole if n == step or n.startswith(f"{step}/"))
    values: dict[str, None] = {}
    for step in kept:
        if step in whole:
            values |= dict.fromkeys([*whole.predecessors(step), *whole.successors(step)])
    about = whole.nodes
    values = {n: None for n in values if about[n]["kind"] == "artifact" and not _was_only_shown(whole, n)}
    values |= {n: None for v in values for n, _, a in whole.in_edges(v, data=True) if a["relation"] == "edited_from"}
    ordered = [n for n in (*kept, *values) if n in whole]
    graph: nx.MultiDiGraph[str] = whole.__class__()
    graph.graph.update(whole.graph)
    numbered = 0
    for node in ordered:
        facts = dict(about[node])
        if facts["kind"] == "checkpoint":
            numbered += 1
            facts["number"] = numbered
        graph.add_node(node, **facts)
    for a, b, key, facts in whole.edges(keys=True, data=True):
        if a in graph and b in graph and facts["relation"] != "after":
            graph.add_edge(a, b, key, **facts)
    return graph


def _was_only_shown(graph: nx.MultiDiGraph[str], value: str) -> bool:
    """Whether it is what a cell has displayed, and nothing else."""
    made = {a["role"] for _, _, a in graph.in_edges(value, data=True) if a["relation"] == "generated"}
    used = any(a["relation"] == "used" for _, _, a in graph.out_edges(value, data=True))
    return made == {"display"} and "display" in graph.nodes[value].get("saved_as", ()) and not used


def _node(execution: Execution, ref: str, nodes: dict[str, str], graph: nx.MultiDiGraph[str]) -> str:
    """The node of what a REF names on the branch; else the REF, for the picture to say what it makes of it."""
    branch = execution.branch()
    path, _, rest = ref.partition(".")
    if "/" in path or ref in graph:
        return ref
    step = branch.steps[branch.place_of(ref)]
    if not rest:
        return nodes[step.label]
    of_input = rest.startswith("in.")
    values = dict(step.data.arguments if of_input else step.outputs)
    value = values.get(rest.removeprefix("in.") if of_input else rest)
    return f"sha256:{value.digest.hex()}" if value is not None else ref
