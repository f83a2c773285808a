"""Lineage: the graph of what an execution's steps used and made, from its records alone.

Data runs along the edges, so that `networkx.ancestors` says what made a value and `networkx.descendants` what depends
on it::

    artifact  --used-->       checkpoint   role: the argument's name
    checkpoint --generated--> artifact     role: the output's name, or the name it was saved under
    artifact  --part_of-->    artifact     role "part": the first was put into the second;
                                           role "whole": the second was taken out of the first
                                           role "items": all items of the second stand in the first
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
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codecs.spans import SHORTEST, spans
from .executions import CheckpointData, ExecutionData
from .previews import printable
from .records import Id, Value

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["build", "dumps", "lineage_key", "to_networkx"]

_TELLING = 12  # bytes of a value that is not found in another one by chance
_RECENT, _ITEMS = 64, 256  # how far a list's items are looked for: so many values back, so many items
_OUTSIDE = ("", -2)

Body = Id | None
"""Whose code had a value in hand: a step's, or (None) the flow's."""


def lineage_key(exec_id: str) -> str:
    """Where an ended execution's graph is stored. Derived: `build` makes the same again."""
    return f"executions/{exec_id}/lineage.json"


def build(data: ExecutionData, *, after: bool = True) -> dict[str, Any]:
    """The graph as `networkx.node_link_data` would give it: plain data, the same for the same journal.

    Parameters
    ----------
    after
        Whether to tie steps by their order where no data ties them.
    """
    return _Builder(data).build(after=after)


def dumps(graph: Mapping[str, Any]) -> bytes:
    """The node-link form as JSON, which `networkx.node_link_graph(json.loads(…))` opens."""
    return json.dumps(graph, separators=(",", ":"), allow_nan=False).encode()


def to_networkx(graph: Mapping[str, Any]) -> nx.MultiDiGraph[str]:
    """The node-link form as a graph."""
    import networkx as nx

    return nx.node_link_graph(graph, edges="edges")  # type: ignore[no-any-return, call-overload]


# ---------------------------------------------------------------- values


@dataclass(slots=True, eq=False)
class _Content:
    """What a digest stands for. What lies inside is found by its bytes, never decoded."""

    value: Value
    weight: int  # 2: not found elsewhere by chance; 1: a short text, a float; 0: a number, a flag, nothing, emptiness
    nil: bool
    inside: dict[bytes, _Content] | None = None  # artifacts that lie in it, by digest, those of no weight left out
    items: list[bytes] = field(default_factory=list)  # a list's own items, or a map's values
    nodes: int = 0  # how many it has in the graph
    now: _Held | None = None  # the latest


@dataclass(slots=True, eq=False)
class _Held:
    """An artifact, as it was made or first seen at one time: a node of the graph."""

    id: str
    content: _Content
    node: dict[str, Any]
    used: bool = False
    makers: set[Body] = field(default_factory=set)
    made_in: set[Body] = field(default_factory=set)  # the bodies around the makers
    seen: set[Body] = field(default_factory=set)  # bodies that had it in hand
    sources: set[Body] = field(default_factory=set)  # makers of what it is tied to by part_of
    tied: bool = False  # by part_of, to something upstream


class _Contents:
    """The contents of an execution, and which of them lie inside which."""

    def __init__(self, values: Iterable[Value]) -> None:
        best: dict[bytes, Value] = {}
        for value in values:
            known = best.get(value.digest)
            if known is None or (known.data is None and not known.parts and (value.data or value.parts)):
                best[value.digest] = value
        self.by_digest = {digest: _content(value) for digest, value in best.items()}
        every = self.by_digest.values()
        self._by_bytes = {c.value.data: c for c in every if c.value.data is not None}
        self._by_cut = {c.value.digest[:8]: c for c in every if c.value.size >= SHORTEST}
        self._sizes = {c.value.size for c in self._by_bytes.values() if c.weight}

    def inside(self, content: _Content) -> dict[bytes, _Content]:
        """The artifacts that lie inside, by digest."""
        if content.inside is None:
            content.inside = found = self._look(content)
            found.pop(content.value.digest, None)
        return content.inside

    def _look(self, content: _Content) -> dict[bytes, _Content]:
        data, parts = content.value.data, content.value.parts
        if data is None:
            cuts = (parts[at : at + 8] for at in range(0, len(parts), 8))
            return {c.value.digest: c for cut in cuts if (c := self._by_cut.get(cut)) is not None}
        found: dict[bytes, _Content] = {}
        if data[0] not in _CONTAINERS:
            return found
        sizes, by_bytes = self._sizes, self._by_bytes
        for start, end, depth in spans(data):
            if depth == 1:
                content.items.append(data[start:end])
            if end - start in sizes and (part := by_bytes.get(data[start:end])) is not None and part.weight:
                found[part.value.digest] = part
        if data[0] in _MAPS:
            del content.items[::2]
        return found

    def with_bytes(self, data: bytes) -> _Content | None:
        """The artifact that is written so."""
        return self._by_bytes.get(data)


def _content(value: Value) -> _Content:
    if value.size >= _TELLING:
        return _Content(value, 2, False)
    data = value.data or b""
    return _Content(value, int(_says_something(data)), data == _NIL)


def _says_something(node: bytes) -> bool:
    return bool(node) and node[0] not in _SILENT


_MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
_CONTAINERS = {*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF}
_NIL = b"\xc0"
# None, true, false, empty map, list and text, numbers: found everywhere by chance.
_SILENT = {0xC0, 0xC2, 0xC3, 0x80, 0x90, 0xA0, *range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)}


# ---------------------------------------------------------------- the graph


class _Builder:
    """Goes through what happened in its order, and ties what was tied."""

    def __init__(self, data: ExecutionData) -> None:
        self.data = data
        self.contents = _Contents(_all_values(data))
        self.parents: dict[Body, Body] = {None: _OUTSIDE}
        self.labels: dict[Body, str] = {}
        self.names: dict[Body, str] = {None: data.exec_id}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.local: dict[Any, _Held] = {}  # what says little is the same thing only within one body
        self.given: dict[Body, list[_Held]] = {}  # the arguments of a body
        self.holders: dict[tuple[Body, bytes], list[_Held]] = {}  # what a body had in hand, by what lies inside
        self.recent: dict[Body, deque[_Held]] = {}  # what a body had in hand last
        self.last_ended: dict[Body, CheckpointData] = {}
        self._name_all()

    def _name_all(self) -> None:
        here, taken = self.data.exec_id, set[str]()
        known = {c.id for c in self.data.checkpoints}
        for c in reversed(self.data.checkpoints):  # of two at one place a REF names the later one
            label = self.labels[c.id] = c.label
            self.names[c.id] = f"{here}:{label}" if label not in taken else f"{here}:@{c.index}"
            self.parents[c.id] = c.parent if c.parent in known else None
            taken.add(label)

    def build(self, *, after: bool) -> dict[str, Any]:
        data = self.data
        self.nodes[data.exec_id] = self._execution()
        self._use(None, data.begun.arguments)
        for _, what, thing in sorted(self._events(), key=lambda event: event[:2]):
            if what == 0:
                assert isinstance(thing, CheckpointData)
                name, body = self.names[thing.id], self.parents[thing.id]
                self.nodes[name] = self._checkpoint(thing, name, body)
                self._use(thing.id, thing.arguments)
                before = self.last_ended.get(body)
                if after and before is not None and not self._tied(before.id, thing.id):
                    self._edge(self.names[before.id], name, "after", None)
            elif isinstance(thing, CheckpointData):
                if thing.status == "completed":
                    for name, value in thing.outputs:
                        self._generate(thing.id, name, value, f"{self.labels[thing.id]}.{name}")
                self.last_ended[self.parents[thing.id]] = thing
            else:
                held = self._generate(thing.record, thing.name, thing.value, thing.name, saved=True)
                names = held.node["saved_as"]
                if thing.name not in names:
                    names.append(thing.name)
        result = None
        if data.result is not None:
            result = self._generate(None, "result", data.result, "result").id
        graph = {"exec_id": data.exec_id, "flow": data.begun.flow, "status": data.state.status, "result": result}
        edges = [
            edge for source in self.nodes for ties in self.edges.get(source, {}).values() for edge in ties
        ]  # in the order that networkx gives them back in
        return {"directed": True, "multigraph": True, "graph": graph, "nodes": [*self.nodes.values()], "edges": edges}

    def _events(self) -> Iterable[tuple[int, int, Any]]:
        for c in self.data.checkpoints:
            yield c.began, 0, c
            if c.finished is not None:
                yield c.finished, 1, c
        for s in self.data.saved:
            yield s.turn, 2, s

    # ------------------------------------------------------------ what happened

    def _use(self, user: Body, arguments: Iterable[tuple[str, Value]]) -> None:
        body = self.parents[user]
        given = self.given[user] = []
        for name, value in arguments:
            content = self.contents.by_digest[value.digest]
            held = self._find(content, body, as_argument=True)
            if held is None:
                held = self._new(content, f"{self.labels[user]}.in.{name}" if user is not None else None)
                self._tie(held, body)
                if not held.tied:
                    self._tie_items(held, body)
            self._keep(held, user, as_argument=True)
            self._keep(held, body, as_argument=True)
            held.used = True
            self._see(held, body)
            held.seen.add(user)
            given.append(held)
            self._edge(held.id, self.names[user], "used", name)

    def _generate(self, maker: Body, role: str, value: Value, ref: str, *, saved: bool = False) -> _Held:
        maker = maker if maker in self.parents else None
        body, content = self.parents[maker], self.contents.by_digest[value.digest]
        held = self._find(content, maker)
        if held is None or maker not in held.seen or any(held is given for given in self.given[maker]):
            held = self._find(content, body)  # else it hands on what its own steps made
            if held is None or held.used:  # made again
                held = self._new(content, ref)
                self._tie(held, maker)
        held.makers.add(maker)
        held.made_in.add(body)
        self._keep(held, maker)
        self._keep(held, body)
        self._see(held, body)
        held.seen.add(maker)
        self._edge(self.names[maker], held.id, "generated", role, **({"saved": True} if saved else {}))
        return held

    def _find(self, content: _Content, body: Body, *, as_argument: bool = False) -> _Held | None:
        """The latest of this content that `body` can mean. A None that is passed is no None that was returned."""
        if content.weight == 2:
            return content.now
        return self.local.get((content.value.digest, body, content.nil and as_argument))

    def _keep(self, held: _Held, body: Body, *, as_argument: bool = False) -> None:
        content = held.content
        if content.weight == 2:
            content.now = held
        else:
            self.local[content.value.digest, body, content.nil and as_argument] = held

    def _new(self, content: _Content, ref: str | None) -> _Held:
        value = content.value
        content.nodes += 1
        digest = value.digest.hex()
        name = f"sha256:{digest}/{content.nodes}" if content.nodes > 1 else f"sha256:{digest}"
        node = self.nodes[name] = {
            "id": name,
            "kind": "artifact",
            "ref": None if ref is None else f"{self.data.exec_id}:{ref}",
            "digest": digest,
            "size": value.size,
            "format": value.kind,
            "preview": _plain(value.preview),
            "saved_as": [],
        }
        return _Held(name, content, node)

    # ------------------------------------------------------------ parts

    def _see(self, held: _Held, body: Body) -> None:
        """`body` has it in hand, and can take something out of it."""
        if body not in held.seen and body != _OUTSIDE:
            held.seen.add(body)
            self.recent.setdefault(body, deque(maxlen=_RECENT)).append(held)
            for digest in self.contents.inside(held.content):
                self.holders.setdefault((body, digest), []).append(held)

    def _tie(self, held: _Held, body: Body) -> None:
        """Tie what `body` brought in to what it was made of, or taken out of: what existed first is upstream."""
        content = held.content
        parts: dict[str, _Held] = {}
        for inner in self.contents.inside(content).values():
            part = self._find(inner, body)
            if part is not None and body in part.seen and (inner.weight == 2 or len(part.makers) < 2):
                parts[part.id] = part
        if len(content.items) > 1:
            parts |= self._outputs_in(content, body)
        for part in parts.values():
            self._part_of(part, held, "part")
        if not content.weight:
            return
        digest = content.value.digest
        wholes = {w.id: w for w in self.given.get(body, ()) if digest in self.contents.inside(w.content)}
        wholes |= {w.id: w for w in self.holders.get((body, digest), ())}
        if content.weight == 2 or len(wholes) == 1:
            for whole in wholes.values():
                self._part_of(whole, held, "whole")

    def _outputs_in(self, content: _Content, body: Body) -> dict[str, _Held]:
        """What a list or map was put together from, where each of its items is an output of a step: numbers too."""
        outputs: dict[str, _Held] = {}
        for data in content.items:
            inner = self.contents.with_bytes(data)
            output = self._find(inner, body) if inner is not None else None
            if output is None or body not in output.made_in:
                return {}
            outputs[output.id] = output
        return outputs

    def _tie_items(self, held: _Held, body: Body) -> None:
        """A list that the body put together from pieces of one value: ``[p["name"] for p in packages]``."""
        items, size = held.content.items[:_ITEMS], held.content.value.size
        if sum(map(len, items)) < _TELLING or not all(map(_says_something, items)):
            return
        for whole in (*reversed(self.recent.get(body, ())), *self.given.get(body, ())):
            data = whole.content.value.data
            # By chance one item's bytes may stand across two others; hardly those of all items of a list.
            if data is not None and len(data) > size and all(item in data for item in items):
                self._part_of(whole, held, "items")
                return

    def _part_of(self, source: _Held, target: _Held, role: str) -> None:
        if source is not target:
            target.tied = True
            target.sources |= source.makers
            self._edge(source.id, target.id, "part_of", role)

    def _tied(self, before: Id, step: Id) -> bool:
        return any(before in held.makers or before in held.sources for held in self.given[step])

    # ------------------------------------------------------------ nodes and edges

    def _edge(self, source: str, target: str, relation: str, role: str | None, **more: Any) -> None:
        ties = self.edges.setdefault(source, {}).setdefault(target, [])
        key = relation
        if ties:
            same = [edge for edge in ties if edge["relation"] == relation]
            if any(edge["role"] == role for edge in same):
                return
            if same:
                key = f"{relation}#{len(same) + 1}"
        ties.append({"relation": relation, "role": role, **more, "source": source, "target": target, "key": key})

    def _execution(self) -> dict[str, Any]:
        d = self.data
        return {
            "id": d.exec_id,
            "kind": "execution",
            "label": d.exec_id,
            "name": d.begun.flow,
            "status": d.state.status,
            "started": _number(d.begun.at),
            "ended": _number(d.ended),
            "attempts": d.attempts,
            "failure": d.failure.summary() if d.failure is not None else None,
            "failed_at": d.failed_at,
            "tokens": _amount(d.metadata.get("tokens")),
            "cost": _amount(d.metadata.get("cost")),
            "metadata": _plain(d.metadata),
        }

    def _checkpoint(self, c: CheckpointData, name: str, body: Body) -> dict[str, Any]:
        return {
            "id": name,
            "kind": "checkpoint",
            "label": self.labels[c.id],
            "name": c.name,
            "number": c.index,
            "parent": self.names[body],
            "status": c.status,
            "type": c.type,
            "started": _number(c.started),
            "ended": _number(c.ended),
            "took": _number(c.took),
            "attempts": c.attempts,
            "failure": c.failure.summary() if c.failure is not None else None,
            "tokens": _amount(c.metadata.get("tokens")),
            "cost": _amount(c.metadata.get("cost")),
            "metadata": _plain(c.metadata),
            "reused_from": c.reused_from[0] if c.reused_from is not None else None,
            "superseded": c.superseded,
        }


def _all_values(data: ExecutionData) -> Iterable[Value]:
    yield from (value for _, value in data.begun.arguments)
    for c in data.checkpoints:
        yield from (value for _, value in (*c.arguments, *c.outputs))
    yield from (s.value for s in data.saved)
    if data.result is not None:
        yield data.result
    yield from data.values.values()


def _number(x: Any) -> float | None:
    return float(x) if isinstance(x, (int, float)) and math.isfinite(x) else None


def _amount(x: Any) -> float | int | None:
    return x if isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) else None


_USUAL = {str, int, bool, type(None)}


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can say, whatever somebody logged or wrote into a record."""
    if type(value) is dict and _USUAL.issuperset(map(type, value.values())) and {str}.issuperset(map(type, value)):
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
