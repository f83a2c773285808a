"""Lineage: the graph of what an execution's steps used and made, from its records alone.

Data runs along the edges, so that `networkx.ancestors` says what made a value and `networkx.descendants` what depends
on it::

    artifact  --used-->       checkpoint   role: the argument's name
    checkpoint --generated--> artifact     role: the output's name, or the name it was saved under
    artifact  --part_of-->    artifact     role "part": the first was put into the second;
                                           role "whole": the second was taken out of the first
                                           role "items": all items of the second stand in the first
                                           role "shared": what was put into the first was put into the second, too,
                                           and is tied to the first alone: a history, and one with a message more
    checkpoint --after-->     checkpoint   order alone: the step of the same body that ended last before this one
                                           began, where no data ties the two

The execution is a node too: it used the flow's inputs and generated the flow's result. An edge's key is its relation;
where one pair is tied twice by one relation (two arguments, one value) the further keys are ``used#2``, ….

An artifact's node is its digest, ``sha256:…``. A value that was made again after its first use is a node of its own,
``sha256:…/2``: else ten checks that all said "ok" would each depend on what came after it.

`build` is pure and gives networkx' node-link form as plain data, without networkx; `to_networkx` is the one place that
imports it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import ormsgpack

from .collecting import kept
from .contents import NOTHING, TELLING, Content, Contents, says_something
from .executions import CheckpointData, ExecutionData
from .previews import printable
from .records import Id, Value

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Ties",
    "build",
    "dumps",
    "graph",
    "graphml",
    "lineage_key",
    "ties",
    "to_networkx",
    "to_node_link",
    "together",
]

_RECENT, _ITEMS = 64, 256  # how far a list's items are looked for: so many values back, so many items
_SHARED = 8  # parts that a value has in common with an earlier one, so that they are tied to that one alone
_CHAIN = 64  # how far back it is looked what a value that grew is tied to
_GLIMPSE = 52  # characters of a value: in lists and pictures there is room for no more
_BEGAN, _FINISHED, _SAVED = range(3)  # what happened at a turn
_TURN = itemgetter(0)
_PASSED = b"passed"  # stands for the digest of a None that is an argument

_Tie = tuple[str, str | None, bool]
"""What an edge says: its relation, its role, and whether a value was saved under that."""


def lineage_key(exec_id: str) -> str:
    """Where an ended execution's graph is stored. Derived: `build` makes the same again."""
    return f"executions/{exec_id}/lineage.json"


@kept()
def build(data: ExecutionData, *, after: bool = True) -> dict[str, Any]:
    """The graph as `networkx.node_link_data` would give it: plain data, the same for the same journal.

    Parameters
    ----------
    after
        Whether to tie steps by their order where no data ties them.
    """
    b = _Builder(data, after=after)
    nodes = [{"id": name, **attributes} for name, attributes in b.nodes.items()]
    edges = [
        {**_about(tie), "source": source, "target": target, "key": key}
        for source, targets in b.edges.items()
        for target, ties in targets.items()
        for key, tie in ties.items()
    ]
    return {"directed": True, "multigraph": True, "graph": b.about, "nodes": nodes, "edges": edges}


@kept()
def graph(data: ExecutionData, *, after: bool = True) -> nx.MultiDiGraph[str]:
    """The graph itself: ``to_networkx(build(data))``, without the way over node-link."""
    import networkx as nx

    b = _Builder(data, after=after)
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    made.graph.update(b.about)
    made.add_nodes_from(b.nodes)
    nx.set_node_attributes(made, b.nodes)
    for source, targets in b.edges.items():
        for target, ties in targets.items():
            for key, tie in ties.items():
                made.add_edge(source, target, key, **_about(tie))
    return made


@dataclass(frozen=True, slots=True)
class Ties:
    """What data ties, and nothing of what the nodes say.

    Attributes
    ----------
    steps : dict
        The nodes of the steps, by the ids of their records.
    edges : dict
        By source, target and key.
    """

    steps: Mapping[Id, str]
    edges: Mapping[str, Mapping[str, Mapping[str, _Tie]]]

    def leading_from(self, node: str) -> Iterator[tuple[str, str, str]]:
        """The targets of a node's edges, their relations, and their roles (``""`` where there is none)."""
        for target, ties in self.edges.get(node, {}).items():
            for relation, role, _ in ties.values():
                yield target, relation, role or ""


@kept()
def ties(data: ExecutionData) -> Ties:
    """The edges of data alone, at a part of what the graph costs."""
    b = _Builder(data, after=False, tells=False)
    return Ties({q: body.name for q, body in b.bodies.items() if q is not None}, b.edges)


def together(graphs: Iterable[nx.MultiDiGraph[str]], edits: Iterable[tuple[str, str, str]]) -> nx.MultiDiGraph[str]:
    """The graphs of a fork and of its origins as one; equal values are one node.

    Parameters
    ----------
    graphs
        The fork's own one first.
    edits
        Digests of a recorded value and of what was put in its place, and the name of the edit.
    """
    import networkx as nx

    graphs = list(graphs)
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for one in reversed(graphs):
        made.add_nodes_from(one.nodes(data=True))
        made.add_edges_from(one.edges(keys=True, data=True))
    made.graph.update(graphs[0].graph)
    for before, after, name in edits:
        old, new = (f"sha256:{digest}" for digest in (before, after))
        if old in made and new in made and old != new:
            made.add_edge(old, new, "edited_from", relation="edited_from", role=name)
    return made


def graphml(graph: nx.MultiDiGraph[str]) -> str:
    """The graph as GraphML, which knows texts, numbers and flags alone: what is none of them is written as JSON."""
    import networkx as nx

    plain: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    plain.graph.update(_flat(graph.graph))
    for node, about in graph.nodes(data=True):
        plain.add_node(node, **_flat(about))
    for source, target, key, about in graph.edges(keys=True, data=True):
        plain.add_edge(source, target, key, **_flat(about))
    return "\n".join(nx.generate_graphml(plain))


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in about.items() if value is not None}
    return {name: v if isinstance(v, (str, int, float, bool)) else json.dumps(v) for name, v in known.items()}


def dumps(graph: Mapping[str, Any]) -> bytes:
    """The node-link form as JSON, which `networkx.node_link_graph(json.loads(…))` opens."""
    return json.dumps(graph, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")


def to_node_link(graph: nx.MultiDiGraph[str]) -> dict[str, Any]:
    """The graph as plain data, in networkx' node-link form."""
    import networkx as nx

    made: dict[str, Any] = nx.node_link_data(graph, edges="edges")
    return made


def to_networkx(graph: Mapping[str, Any]) -> nx.MultiDiGraph[str]:
    """The node-link form as a graph."""
    import networkx as nx

    return nx.node_link_graph(graph, edges="edges")  # type: ignore[no-any-return, call-overload]


# ---------------------------------------------------------------- what a body has in hand


@dataclass(slots=True, eq=False)
class _Held:
    """An artifact, as it was made or first seen at one time: a node of the graph."""

    id: str
    content: Content
    turn: int  # of the nodes, in the order in which they came
    is_used: bool = False  # by a step, or by the flow
    tied: bool = False  # by part_of, to something upstream
    is_taken: bool = False  # it was so out of a larger value
    grown_from: _Held | None = None  # what holds all but the last of what it holds, and is tied to that
    makers: set[_Body] = field(default_factory=set)
    sources: set[_Body] | None = None  # makers of what it is tied to by part_of


@dataclass(slots=True, eq=False)
class _Body:
    """Whose code had a value in hand: a step's or the flow's, or what is outside of it."""

    name: str  # its node
    label: str
    parent: _Body | None
    given: list[_Held] = field(default_factory=list)  # its arguments
    hands: set[_Held] = field(default_factory=set)  # all that it had in hand
    local: dict[bytes, _Held] = field(default_factory=dict)  # what says little is the same thing only within one body
    holders: dict[bytes, list[_Held]] = field(default_factory=dict)  # what it had in hand, by what lies inside
    recent: list[_Held] = field(default_factory=list)  # what it had in hand last
    last_ended: _Body | None = None  # of its steps


def _tied(before: _Body, step: _Body) -> bool:
    """Whether data ties the two. Of a history it is looked at what came to it last: order is true in any case."""
    for given in step.given:
        held: _Held | None = given
        for _ in range(_CHAIN):
            if held is None:
                break
            if before in held.makers or before in (held.sources or ()):
                return True
            held = held.grown_from
    return False


# ---------------------------------------------------------------- the graph


def _about(tie: _Tie) -> dict[str, Any]:
    relation, role, saved = tie
    return {"relation": relation, "role": role, "saved": True} if saved else {"relation": relation, "role": role}


class _Builder:
    """Goes through what happened in its order, and ties what was tied."""

    def __init__(self, data: ExecutionData, *, after: bool, tells: bool = True) -> None:
        self.data, self.tells = data, tells
        self.contents = Contents(data.index)
        self.outside = _Body("", "", None)
        self.flow = _Body(data.exec_id, "", self.outside)
        self.bodies: dict[Id | None, _Body] = {None: self.flow}
        self.made: dict[Content, int] = {}  # how many nodes each has
        self.latest: dict[Content, _Held] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: dict[str, dict[str, dict[str, _Tie]]] = {}  # by source, target and key, as in networkx
        self._name_all()
        result = self._go_through(after=after)
        self._let_go()
        self.about = {"exec_id": data.exec_id, "flow": data.begun.flow, "status": data.state.status, "result": result}

    def _name_all(self) -> None:
        here, taken, bodies = self.data.exec_id, set[str](), self.bodies
        for c in reversed(self.data.checkpoints):  # of two at one place a REF names the later one
            label = c.label
            bodies[c.id] = _Body(f"{here}:{label}" if label not in taken else f"{here}:@{c.index}", label, self.flow)
            taken.add(label)
        for c in self.data.checkpoints:
            if c.parent is not None:
                bodies[c.id].parent = bodies.get(c.parent, self.flow)

    def _let_go(self) -> None:
        """Untie who had what in hand: such rings would stay in memory until somebody looks for them, perhaps never."""
        for body in (self.outside, *self.bodies.values()):
            body.hands.clear()
            body.local.clear()
            body.holders.clear()
            body.given, body.recent, body.last_ended = [], [], None
        self.latest.clear()

    def _go_through(self, *, after: bool) -> str | None:
        """All that happened, in its order; gives the node of the result."""
        data, flow = self.data, self.flow
        self._node(flow.name, self._execution() if self.tells else {})
        self._use(flow, data.begun.arguments)
        for _, what, thing in sorted(self._events(), key=_TURN):
            if what == _SAVED:
                maker = self.bodies.get(thing.record, flow)
                node = self._generate(maker, thing.name, thing.value, thing.name, saved=True).id
                names = self.nodes[node].setdefault("saved_as", [])
                if thing.name not in names:
                    names.append(thing.name)
                continue
            step = self.bodies[thing.id]
            body = step.parent
            assert body is not None
            if what == _BEGAN:
                self._node(step.name, _checkpoint(thing, step, body) if self.tells else {})
                self._use(step, thing.arguments)
                if thing.type in {"spawn", "gather"} and (child := _child_of(thing)) is not None:
                    self._tie_child(child, step.name, thing.type)
                before = body.last_ended
                if after and before is not None and not _tied(before, step):
                    self._edge(before.name, step.name, "after", None)
            else:
                if thing.status == "completed":
                    for name, value in thing.outputs:
                        self._generate(step, name, value, f"{step.label}.{name}")
                body.last_ended = step
        return None if data.result is None else self._generate(flow, "result", data.result, "result").id

    def _events(self) -> Iterator[tuple[int, int, Any]]:
        for c in self.data.checkpoints:
            yield c.began, _BEGAN, c
            if c.finished is not None:
                yield c.finished, _FINISHED, c
        for s in self.data.saved:
            yield s.turn, _SAVED, s

    def _tie_child(self, child: str, step: str, how: str) -> None:
        """Another execution, which this step began, or waited for."""
        if child not in self.nodes:
            self._node(child, {"kind": "execution", "label": child} if self.tells else {})
        if how == "spawn":
            self._edge(step, child, "generated", "child")
        else:
            self._edge(child, step, "used", "child")

    # ------------------------------------------------------------ what happened

    def _use(self, user: _Body, arguments: Iterable[tuple[str, Value]]) -> None:
        body = user.parent
        assert body is not None
        for name, value in arguments:
            content = self.contents.of(value)
            held = self._find(content, body, as_argument=True)
            if held is None:
                held = self._new(content, f"{user.label}.in.{name}" if user is not self.flow else None)
                if body is not self.outside:
                    self._tie(held, body)
                    if not held.tied:
                        self._tie_items(held, body)
            self._keep(held, user, body, as_argument=True)
            held.is_used = True
            self._see(held, body)
            user.hands.add(held)
            user.given.append(held)
            self._edge(held.id, user.name, "used", name)

    def _generate(self, maker: _Body, role: str, value: Value, ref: str, *, saved: bool = False) -> _Held:
        body, content = maker.parent, self.contents.of(value)
        assert body is not None
        held = self._find(content, maker)
        if held is None or held not in maker.hands or held in maker.given:
            held = self._find(content, body)  # else it hands on what its own steps made
            if held is None or held.is_used:  # made again
                held = self._new(content, ref)
                self._tie(held, maker)
        held.makers.add(maker)
        self._keep(held, maker, body)
        self._see(held, body)
        maker.hands.add(held)
        self._edge(maker.name, held.id, "generated", role, saved=saved)
        return held

    def _find(self, content: Content, body: _Body, *, as_argument: bool = False) -> _Held | None:
        """The latest of this content that `body` can mean. A None that is passed is no None that was returned."""
        if content.weight == 2:
            return self.latest.get(content)
        return body.local.get(_PASSED if as_argument and content.value.data == NOTHING else content.value.digest)

    def _keep(self, held: _Held, *bodies: _Body, as_argument: bool = False) -> None:
        content = held.content
        if content.weight == 2:
            self.latest[content] = held
            return
        key = _PASSED if as_argument and content.value.data == NOTHING else content.value.digest
        for body in bodies:
            body.local[key] = held

    def _new(self, content: Content, ref: str | None) -> _Held:
        value = content.value
        digest = value.digest.hex()
        again = self.made[content] = self.made.get(content, 0) + 1
        name = f"sha256:{digest}/{again}" if again > 1 else f"sha256:{digest}"
        self._node(name, self._artifact(value, ref) if self.tells else {})
        return _Held(name, content, len(self.nodes))

    def _artifact(self, value: Value, ref: str | None) -> dict[str, Any]:
        attributes: dict[str, Any] = {"kind": "artifact"}
        if ref is not None:
            attributes["ref"] = f"{self.data.exec_id}:{ref}"
        attributes["size"] = value.size
        if value.kind != "data":
            attributes["format"] = value.kind
        attributes["preview"] = _glimpse(value.preview)
        return attributes

    # ------------------------------------------------------------ parts

    def _see(self, held: _Held, body: _Body) -> None:
        """`body` has it in hand, and can take something out of it."""
        if body is not self.outside and held not in body.hands:
            body.hands.add(held)
            body.recent.append(held)
            for digest in self.contents.inside(held.content):
                body.holders.setdefault(digest, []).append(held)

    def _tie(self, held: _Held, body: _Body) -> None:
        """Tie what `body` brought in to what it was made of, or taken out of: what existed first is upstream.

        What grew is tied to what it was before, and to what came to it since: else a history of 1,000 messages would
        have half a million ties.
        """
        content = held.content
        if content.holds:
            self._tie_parts(held, body)
        if not content.weight:
            return
        digest = content.value.digest
        wholes = dict.fromkeys([w for w in body.given if digest in self.contents.inside(w.content)])
        wholes |= dict.fromkeys(body.holders.get(digest, ()))
        if content.weight == 2 or len(wholes) == 1:
            for whole in wholes:
                if whole.grown_from not in wholes:
                    self._part_of(whole, held, "whole")

    def _tie_parts(self, held: _Held, body: _Body) -> None:
        content = held.content
        inside, before = self.contents.inside(content), self._beginning(content, body)
        if before is not None:
            inside = self.contents.added(content, before.content)
        parts: dict[_Held, None] = {}
        for inner in inside.values():
            part = self._find(inner, body)
            if part is not None and part in body.hands and (inner.weight == 2 or len(part.makers) < 2):
                parts[part] = None
        parts |= self._outputs_in(content, before, body)
        if before is None and (before := self._like(content, parts, body)) is not None:
            known = self.contents.inside(before.content)
            parts = {
                part: None
                for part in parts
                if part.content.value.digest not in known or part.turn > before.turn or part is before
            }
        if before is not None:
            held.grown_from = before
            parts.pop(before, None)
            self._part_of(before, held, "shared")
        for part in parts:
            self._part_of(part, held, "part")

    def _beginning(self, content: Content, body: _Body) -> _Held | None:
        """The latest list that `body` put together itself, and then went on with: this one begins with its items."""
        for held in body.recent[: -_RECENT - 1 : -1]:
            if held.makers or held.is_taken or not held.content.holds:
                continue
            if self.contents.begins_with(content, held.content):
                return held
        return None

    def _like(self, content: Content, parts: Collection[_Held], body: _Body) -> _Held | None:
        """The latest value that `body` had which holds most of these parts, too, and is upstream of them.

        That is so where nothing else lies in it, and `body` put it together itself; or where a step used it that made
        one of the parts. Else what lies in it beside them would be said to be upstream.
        """
        if len(parts) < 2:
            return None
        inside = self.contents.inside(content).keys()
        read = {given for part in parts for maker in part.makers for given in maker.given}
        for held in body.recent[: -_RECENT - 1 : -1]:
            known = self.contents.inside(held.content).keys()
            if held.content is content or len(known) < 2:
                continue
            if not held.makers and not held.is_taken and known <= inside:
                return held
            if held in read and len(known & inside) >= _SHARED:
                return held
        return None

    def _outputs_in(self, content: Content, before: _Held | None, body: _Body) -> dict[_Held, None]:
        """What a list or map was put together from, where each of its items is an output of a step: numbers too.

        Of one that grew, the items that came to it.
        """
        first = self.contents.first_item(content) if before is None else b""
        if first and self._output(first, body) is None:
            return {}
        items = self.contents.items(content)
        if before is not None:
            items = items[len(self.contents.items(before.content)) :]
        elif len(items) < 2:
            return {}
        outputs: dict[_Held, None] = {}
        for data in dict.fromkeys(items):
            output = self._output(data, body)
            if output is None:
                return {}
            outputs[output] = None
        return outputs

    def _output(self, data: bytes, body: _Body) -> _Held | None:
        """What a step of `body` gave, written so."""
        inner = self.contents.with_bytes(data)
        output = self._find(inner, body) if inner is not None else None
        return output if output is not None and any(maker.parent is body for maker in output.makers) else None

    def _tie_items(self, held: _Held, body: _Body) -> None:
        """A list that the body put together from pieces of one value: ``[p["name"] for p in packages]``."""
        items, size = self.contents.items(held.content)[:_ITEMS], held.content.value.size
        if sum(map(len, items)) < TELLING or not all(map(says_something, items)):
            return
        for whole in (*body.recent[: -_RECENT - 1 : -1], *body.given):
            data = whole.content.value.data
            # By chance one item's bytes may stand across two others; hardly those of all items of a list.
            if data is not None and len(data) > size and all(item in data for item in items):
                self._part_of(whole, held, "items")
                return

    def _part_of(self, source: _Held, target: _Held, role: str) -> None:
        if source is not target:
            target.tied = True
            target.is_taken |= role in {"whole", "items"}
            if target.sources is None:
                target.sources = set()
            target.sources |= source.makers
            self._edge(source.id, target.id, "part_of", role)

    # ------------------------------------------------------------ nodes and edges

    def _node(self, name: str, attributes: dict[str, Any]) -> None:
        self.nodes[name] = attributes
        self.edges[name] = {}

    def _edge(self, source: str, target: str, relation: str, role: str | None, *, saved: bool = False) -> None:
        ties = self.edges[source].setdefault(target, {})
        key = relation
        if ties:
            same = [tie[1] for tie in ties.values() if tie[0] == relation]
            if role in same:
                return
            if same:
                key = f"{relation}#{len(same) + 1}"
        ties[key] = relation, role, saved

    def _execution(self) -> dict[str, Any]:
        d = self.data
        return {
            "kind": "execution",
            "label": d.exec_id,
            "name": d.begun.flow,
            "status": d.state.status,
            **_where_it_applies(
                attempts=d.attempts if d.attempts != 1 else None,
                started=_number(d.begun.at),
                ended=_number(d.ended),
                failure=d.failure.summary() if d.failure is not None else None,
                failed_at=d.failed_at,
                parent=d.begun.parent[0] if d.begun.parent is not None else None,
                tokens=_amount(d.metadata.get("tokens")),
                cost=_amount(d.metadata.get("cost")),
                metadata=_plain(d.metadata) or None,
            ),
        }


def _child_of(c: CheckpointData) -> str | None:
    """The execution that a step spawned, or waited for."""
    if c.type == "spawn":
        child = c.metadata.get("child")
    else:
        data = next((v.data for name, v in c.arguments if name == "child"), None)
        child = ormsgpack.unpackb(data) if data is not None else None
    return child if isinstance(child, str) else None


def _checkpoint(c: CheckpointData, step: _Body, around: _Body) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "label": step.label,
        "name": c.name,
        "number": c.index,
        "status": c.status,
        **_where_it_applies(
            parent=around.name if around.label else None,
            attempts=c.attempts if c.attempts != 1 else None,
            type=c.type,
            started=_number(c.started),
            ended=_number(c.ended),
            took=_number(c.took),
            failure=c.failure.summary() if c.failure is not None else None,
            tokens=_amount(c.metadata.get("tokens")),
            cost=_amount(c.metadata.get("cost")),
            metadata=_plain(c.metadata) or None,
            reused_from=c.reused_from[0] if c.reused_from is not None else None,
            superseded=c.superseded or None,
        ),
    }


def _where_it_applies(**attributes: Any) -> dict[str, Any]:
    """A graph of 10,000 steps would say 100,000 times of what there is none."""
    return {name: value for name, value in attributes.items() if value is not None}


def _number(x: Any) -> float | None:
    return round(float(x), 6) if isinstance(x, (int, float)) and math.isfinite(x) else None


def _amount(x: Any) -> float | int | None:
    return x if isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) else None


_USUAL = {str, int, bool, type(None)}


def _glimpse(preview: Mapping[str, Any]) -> dict[str, Any]:
    """What a line in a list says of a value. The whole preview stands in its record."""
    line: dict[str, Any] = {}
    kind, length, text = preview.get("type"), preview.get("len"), preview.get("text")
    if isinstance(kind, str):
        line["type"] = kind
    if type(length) is int:
        line["len"] = length
    if isinstance(text, str):
        line["text"] = text if len(text) <= _GLIMPSE else text[: _GLIMPSE - 1] + "…"
    return line


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can say, whatever somebody logged or wrote into a record."""
    if type(value) is dict:
        for key, held in value.items():
            if type(key) is not str or type(held) not in _USUAL:
                break
        else:  # a preview, and most of what is logged
            return value.copy()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > 20:
        return "…"
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else str(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    return printable(repr(value)[:200])
