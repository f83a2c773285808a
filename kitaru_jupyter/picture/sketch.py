"""What of a lineage is drawn, and as what: boxes, pills and the lines between them, still without a place.

Reads the graph of `kitaru.lineage`, or one that has steps alone, and writes nothing that it does not know to be short
and harmless: whatever a graph holds was recorded, and what is recorded is hostile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru.errors import NotFoundError

from ..display import glimpse, line, signed

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Asked", "Edge", "Node", "Sketch", "kind_of", "near", "read", "sketch"]

_REF = 300  # characters of a REF that is written into a picture
_NAME, _GLIMPSE = 40, 60
_RELATIONS = {"used", "generated", "part_of", "edited_from", "after"}
_NEAR = 12  # values beside the chosen step that stay with it


class Asked(NamedTuple):
    """What a picture is to mark, as nodes of the graph."""

    chosen: str | None
    marks: Mapping[str, tuple[str, ...]]  # of a node: stale, edited, changed


@dataclass(slots=True)
class Node:
    """A box (``step``, ``fold``) or a pill (``value``)."""

    kind: str
    ref: str
    name: str
    about: str  # what stands beside or below the name
    title: str  # all of it, for who does not see it
    status: str = ""
    marks: tuple[str, ...] = ()
    inner: str = ""  # of a step inside of another one: that one's name
    count: int = 1  # steps that it stands for
    chosen: bool = False


class Edge(NamedTuple):
    """A line from one node to another, both as numbers in `Sketch.nodes`."""

    source: int
    target: int
    relation: str  # used, generated, part_of, edited_from, after, inside
    roles: tuple[str, ...]


@dataclass(slots=True)
class Sketch:
    """Nodes in the order in which they are read, and what ties them."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    steps: int = 0  # of the graph
    values: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def folds(self) -> bool:
        """Whether a node of the graph has none of its own here."""
        return sum(node.kind != "fold" for node in self.nodes) < self.steps + self.values


def kind_of(about: Mapping[str, Any]) -> str:
    """``checkpoint``, ``artifact``, ``execution``; "" for what is none of them.

    A child of the execution is drawn as what was handed from the step that began it to the one that waited for it.
    """
    kind = about.get("kind")
    if kind == "execution" and "name" not in about:
        return "artifact"
    return kind if kind in {"checkpoint", "artifact", "execution"} else ""


# ---------------------------------------------------------------- what was asked for


def read(
    graph: nx.MultiDiGraph[str],
    *,
    chosen: str | None,
    stale: Iterable[str],
    edited: Iterable[str],
    changed: Iterable[str],
) -> Asked:
    """Find the nodes of these REFs. What is to be marked and is not there is left out: it did not run, perhaps.

    Raises
    ------
    NotFoundError
        What is chosen is not there.
    """
    by_name = _names(graph)
    marks: dict[str, tuple[str, ...]] = {}
    for word, refs in (("stale", stale), ("edited", edited), ("changed", changed)):
        for node in dict.fromkeys(by_name.get(ref) for ref in refs):
            if node is not None:
                marks[node] = (*marks.get(node, ()), word)
    for _, target, edge in graph.edges(data=True):
        if edge.get("relation") == "edited_from" and "edited" not in marks.get(target, ()):
            marks[target] = (*marks.get(target, ()), "edited")
    if chosen is not None and chosen not in by_name:
        raise NotFoundError(f"{line(chosen)}: there is no such step or value in this lineage")
    return Asked(None if chosen is None else by_name[chosen], marks)


def _names(graph: nx.MultiDiGraph[str]) -> dict[str, str]:
    """Every name that a step or value can be asked for by."""
    here = graph.graph.get("exec_id")
    out: dict[str, str] = {}
    for node, about in graph.nodes(data=True):
        kind = kind_of(about)
        if kind == "artifact":
            saved = about.get("saved_as")
            own = [about.get("ref"), *(saved if isinstance(saved, list) else ())]
        elif kind == "checkpoint":
            own = [f"@{about.get('number')}"]
        else:
            continue
        for name in (node, *own):
            if isinstance(name, str):
                out[name] = node
                of, _, short = name.partition(":")
                if short and of == here:
                    out[short] = node
    result = graph.graph.get("result")
    if isinstance(result, str) and result in graph:
        out["result"] = result
    for name, node in [*out.items()]:  # the only one of its name, as `kitaru show` takes it
        if name.endswith("#1") and kind_of(graph.nodes[node]) == "checkpoint":
            out.setdefault(name[:-2], node)
    return out


# ---------------------------------------------------------------- the graph as it is drawn


def sketch(graph: nx.MultiDiGraph[str], asked: Asked, drawn: Mapping[str, str], shown: Collection[str]) -> Sketch:
    """Write down what is drawn.

    Parameters
    ----------
    drawn
        Of each step: the one that it is drawn as, itself mostly. Steps of one kind that fold are drawn as their first.
    shown
        The values that are drawn. What runs through the others ties the steps around them.
    """
    made = Sketch()
    about = graph.nodes
    inside: dict[str, list[str]] = {}  # what a node stands for
    for step, as_what in drawn.items():
        inside.setdefault(as_what, []).append(step)
        made.statuses[_status(about[step])] += 1
    made.steps = len(drawn)
    made.values = sum(kind_of(a) == "artifact" for _, a in graph.nodes(data=True))

    order = _reading_order(graph, inside, shown)
    number = {key: n for n, key in enumerate(order)}
    refs = _refs(graph, order)
    families = Counter(_family(about[step]) for step in drawn)
    for key, ref in zip(order, refs, strict=True):
        if key not in inside:
            made.nodes.append(_value(graph, key, ref, asked))
        elif (members := _folded(about, inside[key])) is not None:
            made.nodes.append(_fold(about, members, ref, asked, families[_family(about[members[0]])]))
        else:
            made.nodes.append(_step(about, key, ref, asked, len(inside[key])))
    made.edges = _edges(graph, drawn, number)
    return made


def _reading_order(graph: nx.MultiDiGraph[str], steps: Iterable[str], shown: Collection[str]) -> list[str]:
    """Steps as they began; a value behind its maker and what is inside of that, or before its first user."""
    about = graph.nodes
    places: dict[str, tuple[float, int, float]] = {step: (_number(about[step]), 1, 0) for step in steps}
    last: dict[str, float] = {}  # of the steps inside
    for step in reversed([*graph.nodes]):
        if kind_of(about[step]) == "checkpoint":
            last[step] = max(last.get(step, 0), _number(about[step]))
            outer = f"{about[step].get('parent')}"
            last[outer] = max(last.get(outer, 0), last[step])
    for value in shown:
        made = [s for s, _, e in graph.in_edges(value, data=True) if e.get("relation") == "generated"]
        used = [t for _, t, e in graph.out_edges(value, data=True) if e.get("relation") == "used"]
        # The execution has no number: it comes last as a maker, and is passed over as a user.
        if made:
            places[value] = min((last.get(step, _LAST), 2, -_number(about[step])) for step in made)
        else:
            places[value] = (min(map(_number, (about[step] for step in used)), default=_LAST), 0, 0)
    return sorted(places, key=places.__getitem__)  # stable: equals stay in the order of the graph


_LAST = float("inf")


def _number(about: Mapping[str, Any]) -> float:
    number = about.get("number")
    return number if type(number) is int else _LAST


def _refs(graph: nx.MultiDiGraph[str], nodes: Iterable[str]) -> list[str]:
    """A name for each node that `kitaru show` takes within its execution, all different, each one short and plain."""
    here, taken = graph.graph.get("exec_id"), set[str]()
    out: list[str] = []
    for n, node in enumerate(nodes):
        about = graph.nodes[node]
        full = about.get("ref") if kind_of(about) == "artifact" else node
        of, _, short = f"{full or node}".partition(":")
        wanted = [short if short and of == here else f"{full or node}", f"@{about.get('number')}", node]
        fit = (ref for ref in wanted if ref.isprintable() and len(ref) <= _REF and ref not in taken)
        ref = next(fit, f"node {n}")
        taken.add(ref)
        out.append(ref)
    return out


# ---------------------------------------------------------------- its nodes


def _status(about: Mapping[str, Any]) -> str:
    return line(about.get("status") or "", 20)


def _label(about: Mapping[str, Any]) -> str:
    return line(about.get("label") or about.get("name") or "?", 300)


def _family(about: Mapping[str, Any]) -> tuple[Any, Any]:
    return f"{about.get('parent')}", f"{about.get('name')}"


def _took(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return f"{seconds:,.1f} s" if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"


def _step(about: Any, key: str, ref: str, asked: Asked, count: int) -> Node:
    a = about[key]
    label = _label(a)
    outer, _, name = label.rpartition("/")
    marks = [word for word in ("reused",) if a.get("reused_from")]
    marks += ["superseded"] if a.get("superseded") else []
    marks += asked.marks.get(key, ())
    said = [signed(_status(a)), *filter(None, [_took(a.get("took"))])]
    inside = f"{count - 1:,} inside" if count > 1 else ""
    told = [label, _status(a), *said[1:], *marks, inside, line(a.get("failure") or "", 200)]
    return Node(
        kind="step",
        ref=ref,
        name=line(name, _NAME),
        about=" · ".join(filter(None, [*said, inside])),
        title=", ".join(filter(None, told)),
        status=_status(a),
        marks=tuple(marks),
        inner=line(outer.rpartition("/")[2], _NAME),
        count=count,
        chosen=key == asked.chosen,
    )


def _folded(about: Any, members: list[str]) -> list[str] | None:
    """The steps that fold into one box, without those inside of them; None for one step with what is inside of it."""
    here = {*members}
    tops = [step for step in members if about[step].get("parent") not in here]
    return tops if len(tops) > 1 else None


def _fold(about: Any, members: list[str], ref: str, asked: Asked, family: int) -> Node:
    first, last = _label(about[members[0]]), _label(about[members[-1]])
    outer, _, name = first.rpartition("/")
    end = last.rpartition("/")[2]
    same = _family(about[members[0]]) == _family(about[members[-1]])
    if same and "#" in end:
        end = f"#{end.rpartition('#')[2]}"
    states = Counter(_status(about[step]) for step in members)
    worst = next((s for s in ("failed", "interrupted", "running") if s in states), max(states, key=lambda s: states[s]))
    words = [f"{n:,} {status}" for status, n in states.most_common()] if len(states) > 1 else [*states]
    of = f" of {family:,}" if same and family > len(members) else ""
    count = f"{len(members):,}{of} steps"
    marks = Counter(mark for step in members for mark in asked.marks.get(step, ()))
    reused = sum(bool(about[step].get("reused_from")) for step in members)
    marks.update({"reused": reused} if reused else {})
    told = [f"{n:,} {mark}" if n < len(members) else mark for mark, n in marks.items()]
    return Node(
        kind="fold",
        ref=ref,
        name=f"{line(name, _NAME)}…{line(end, _NAME)}",
        about=f"{count} · {signed(worst) if len(words) == 1 else ', '.join(words)}",
        title=", ".join([f"{first} to {last}: {count}", *words, *told]),
        status=worst,
        marks=tuple(told),
        inner=line(outer.rpartition("/")[2], _NAME),
        count=len(members),
    )


def _value(graph: nx.MultiDiGraph[str], key: str, ref: str, asked: Asked) -> Node:
    a = graph.nodes[key]
    here = graph.graph.get("exec_id")
    makers = [
        e.get("role") for s, _, e in graph.in_edges(key, data=True) if e.get("relation") == "generated" and s != here
    ]
    users = [(e.get("role"), t) for _, t, e in graph.out_edges(key, data=True) if e.get("relation") == "used"]
    given = [role for role, user in users if user == here]
    saved = a.get("saved_as")
    names = [
        *(saved[-1:] if isinstance(saved, list) else ()),
        *makers[:1],
        *given[:1],
        *(role for role, _ in users[:1]),
    ]
    name = line(next((n for n in names if isinstance(n, str)), "value"), _NAME)
    preview = a.get("preview")
    shown = glimpse(preview if isinstance(preview, dict) else {}, _GLIMPSE)
    if a.get("kind") == "execution":
        shown = "another execution"
    marks = [*(["input"] if given else ()), *(["result"] if key == graph.graph.get("result") else ())]
    marks += asked.marks.get(key, ())
    return Node(
        kind="value",
        ref=ref,
        name=name,
        about=shown,
        title=", ".join([name if ref.startswith("sha256:") else line(ref, 100), *marks, shown]),
        marks=tuple(marks),
        chosen=key == asked.chosen,
    )


# ---------------------------------------------------------------- its edges


def _edges(graph: nx.MultiDiGraph[str], drawn: Mapping[str, str], number: Mapping[str, int]) -> list[Edge]:
    """What is tied, each pair once by each relation. Ties inside of one node are none."""
    hidden = _Hidden(graph, drawn, number)
    found: dict[tuple[int, int, str], dict[str, None]] = {}
    for source, target, a in graph.edges(data=True):
        here = drawn.get(target, target)
        relation, role = a.get("relation"), a.get("role")
        if here not in number or relation not in _RELATIONS:
            continue
        start = drawn.get(source, source)
        for origin in (start,) if start in number else hidden.origins(source) if relation != "after" else ():
            if origin != here and (relation != "after" or number[origin] < number[here]):
                roles = found.setdefault((number[origin], number[here], f"{relation}"), {})
                if isinstance(role, str) and len(roles) < 4:
                    roles[line(role, _NAME)] = None
    entered = {target for _, target, relation in found if relation != "after"}
    for step, as_what in drawn.items():  # what nothing leads to stands beside the step that it is inside of
        outer = drawn.get(graph.nodes[step].get("parent") or "")
        if step == as_what and outer is not None and outer != step and number[step] not in entered:
            found[number[outer], number[step], "inside"] = {}
            entered.add(number[step])
    # Order is worth a line where nothing else says what comes before a step.
    kept = {tie: roles for tie, roles in found.items() if tie[2] != "after" or tie[1] not in entered}
    implied = _implied(len(number), kept)
    return [Edge(*tie, tuple(roles)) for tie, roles in sorted(kept.items()) if tie not in implied]


def _implied(count: int, ties: Iterable[tuple[int, int, str]]) -> set[tuple[int, int, str]]:
    """Of what is part of something: what is so by way of others, too. To say it again would hide what is new."""
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target, _ in ties:
        after[source].append(target)
    reach = [0] * count  # bits: what lies behind a node, as far as it comes later in reading order
    for n in reversed(range(count)):
        for target in after[n]:
            if target > n:
                reach[n] |= 1 << target | reach[target]
    return {
        (source, target, relation)
        for source, target, relation in ties
        if relation == "part_of" and any(u != target and u > source and reach[u] >> target & 1 for u in after[source])
    }


class _Hidden:
    """Values that are not drawn, and what is drawn that they come from."""

    def __init__(self, graph: nx.MultiDiGraph[str], drawn: Mapping[str, str], number: Mapping[str, int]) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._number = number
        self._makers: dict[str, dict[str, None]] = {}  # of a value
        self._wholes: dict[str, list[str]] = {}
        for source, target, a in graph.edges(data=True):
            if target in number:
                continue
            relation = a.get("relation")
            if relation == "generated" and source in drawn:
                self._makers.setdefault(target, {})[drawn[source]] = None
            elif relation in {"part_of", "edited_from"}:
                self._wholes.setdefault(target, []).append(source)

    def origins(self, value: str) -> tuple[str, ...]:
        """Who made it; of what nobody made, who made what it was taken out of, or put together from."""
        known = self._known.get(value)
        if known is None:
            known = self._known[value] = tuple(dict.fromkeys(self._look(value)))
        return known

    def _look(self, value: str) -> Iterator[str]:
        seen, todo = {value}, [value]
        while todo:
            here = todo.pop()
            makers = self._makers.get(here)
            if makers:
                yield from makers
                continue
            for source in self._wholes.get(here, ()):
                if source in self._number:
                    yield source
                elif source not in seen:
                    seen.add(source)
                    todo.append(source)


def near(graph: nx.MultiDiGraph[str], node: str | None) -> Sequence[str]:
    """The values that a step used and made, some of them where they are many."""
    if node is None or kind_of(graph.nodes[node]) != "checkpoint":
        return ()
    beside = [*graph.predecessors(node), *graph.successors(node)]
    return [n for n in dict.fromkeys(beside) if kind_of(graph.nodes[n]) == "artifact"][:_NEAR]
