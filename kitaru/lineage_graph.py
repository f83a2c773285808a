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

from .codecs.spans import spans
from .executions import CheckpointData, ExecutionData
from .previews import printable
from .records import Id, Value

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["build", "dumps", "lineage_key", "to_networkx"]

_TELLING = 12  # bytes of a value that is not found in another one by chance
_RECENT, _ITEMS = 64, 256  # how far a list's items are looked for: so many values back, so many items
_NIL = b"\xc0"
_MUTE = {0xC2, 0xC3, 0x80, 0x90, 0xA0}  # true, false, empty map, empty list, empty text
_NUMBERS = {*range(0x80), *range(0xE0, 0x100), *range(0xCC, 0xD4)}
_EVERYWHERE = ("", -2)
_OUTSIDE = ("", -3)

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
class _Held:
    """An artifact, as it was made or first seen at one time."""

    id: str
    value: Value
    node: dict[str, Any]
    producers: list[Body] = field(default_factory=list)
    used: bool = False
    seen: set[Body] = field(default_factory=set)  # bodies that had it in hand
    sources: list[_Held] = field(default_factory=list)  # tied to it by part_of


class _Values:
    """The values of an execution, and which of them lie inside which: by their bytes, never decoded."""

    def __init__(self, values: Iterable[Value]) -> None:
        self._whole: dict[bytes, Value] = {}
        for value in values:
            known = self._whole.get(value.digest)
            if known is None or (known.data is None and not known.parts and (value.data or value.parts)):
                self._whole[value.digest] = value
        self._by_bytes = {v.data: d for d, v in self._whole.items() if v.data is not None}
        self._by_cut = {d[:8]: d for d in self._whole}
        self._sizes = {len(data) for data in self._by_bytes}
        self._least = min(self._sizes, default=0)
        self._parts: dict[bytes, dict[bytes, None]] = {}

    def weight(self, value: Value) -> int:
        """2: not found elsewhere by chance. 1: a short text, a float. 0: a number, a flag, nothing, emptiness."""
        if value.size >= _TELLING:
            return 2
        data = self.data(value)
        return 0 if not data or data == _NIL or data[0] in _MUTE or data[0] in _NUMBERS else 1

    def data(self, value: Value) -> bytes | None:
        whole = self._whole.get(value.digest)
        return whole.data if whole is not None else value.data

    def of(self, digest: bytes) -> Value:
        return self._whole[digest]

    def parts(self, value: Value) -> dict[bytes, None]:
        """The digests of the artifacts that lie inside `value`, numbers and flags left out."""
        found = self._parts.get(value.digest)
        if found is None:
            found = self._parts[value.digest] = dict.fromkeys(self._find(self._whole[value.digest]))
            found.pop(value.digest, None)
        return found

    def _find(self, value: Value) -> Iterable[bytes]:
        data = value.data
        if data is None:
            cuts = (value.parts[at : at + 8] for at in range(0, len(value.parts), 8))
            return [self._by_cut[cut] for cut in cuts if cut in self._by_cut]
        if len(data) <= self._least or data[0] not in _CONTAINERS:
            return ()
        sizes, by_bytes = self._sizes, self._by_bytes
        slices = (data[start:end] for start, end, _ in spans(data) if end - start in sizes)
        found = (by_bytes.get(part) for part in slices)
        return [d for d in found if d is not None and self.weight(self._whole[d])]

    def digest(self, data: bytes) -> bytes | None:
        """The artifact with these bytes; None where there is none."""
        return self._by_bytes.get(data)

    def items(self, value: Value) -> list[bytes]:
        """The bytes of a list's own items, or of a map's values."""
        data = self.data(value)
        if data is None or data[0] not in _CONTAINERS or len(data) > 1 << 15:
            return []
        own = [data[start:end] for start, end, depth in spans(data) if depth == 1]
        return own[1::2] if data[0] in _MAPS else own


_MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
_CONTAINERS = {*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF}


# ---------------------------------------------------------------- the graph


class _Builder:
    """Goes through what happened in its order, and ties what was tied."""

    def __init__(self, data: ExecutionData) -> None:
        self.data = data
        self.values = _Values(_all_values(data))
        self.by_id = {c.id: c for c in data.checkpoints}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        self.names = self._names()
        self.current: dict[tuple[bytes, Any], _Held] = {}
        self.made: dict[bytes, int] = {}  # how many nodes a digest has
        self.given: dict[Body, list[_Held]] = {}  # the arguments of a body
        self.holders: dict[tuple[Body, bytes], list[_Held]] = {}  # what a body had in hand, by what lies inside
        self.recent: dict[Body, deque[_Held]] = {}  # what a body had in hand last
        self.last_ended: dict[Body, CheckpointData] = {}

    def _names(self) -> dict[Body, str]:
        here, taken = self.data.exec_id, set[str]()
        names: dict[Body, str] = {None: here}
        for c in reversed(self.data.checkpoints):  # of two at one place a REF names the later one
            name = f"{here}:{c.label}" if c.label not in taken else f"{here}:@{c.index}"
            taken.add(c.label)
            names[c.id] = name
        return names

    def build(self, *, after: bool) -> dict[str, Any]:
        data = self.data
        self.nodes[data.exec_id] = self._execution()
        self._use(None, data.begun.arguments)
        for _, what, thing in sorted(self._events(), key=lambda event: event[:2]):
            if what == 0:
                assert isinstance(thing, CheckpointData)
                self.nodes[self.names[thing.id]] = self._checkpoint(thing)
                self._use(thing.id, thing.arguments)
                before = self.last_ended.get(self._around(thing.id))
                if after and before is not None and not self._tied(before, thing):
                    self._edge(self.names[before.id], self.names[thing.id], "after", None)
            elif isinstance(thing, CheckpointData):
                if thing.status == "completed":
                    for name, value in thing.outputs:
                        self._generate(thing.id, name, value, f"{thing.label}.{name}")
                self.last_ended[self._around(thing.id)] = thing
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
            {**attributes, "source": source, "target": target, "key": key}
            for source in self.nodes
            for target, keys in self.edges.get(source, {}).items()
            for key, attributes in keys.items()
        ]
        nodes = [{"id": name, **attributes} for name, attributes in self.nodes.items()]
        return {"directed": True, "multigraph": True, "graph": graph, "nodes": nodes, "edges": edges}

    def _events(self) -> Iterable[tuple[int, int, Any]]:
        for c in self.data.checkpoints:
            yield c.began, 0, c
            if c.finished is not None:
                yield c.finished, 1, c
        for s in self.data.saved:
            yield s.turn, 2, s

    def _around(self, body: Body) -> Body:
        if body is None:
            return _OUTSIDE
        parent = self.by_id[body].parent if body in self.by_id else None
        return parent if parent in self.by_id else None

    # ------------------------------------------------------------ what happened

    def _use(self, user: Body, arguments: Iterable[tuple[str, Value]]) -> None:
        body = self._around(user)
        given = self.given[user] = []
        for name, value in arguments:
            held = self._find(value, body, as_argument=True)
            if held is None:
                label = f"{self.by_id[user].label}.in.{name}" if user is not None else None
                held = self._new(value, label)
                self._tie(held, body)
                if not held.sources:
                    self._tie_items(held, body)
            self.current[self._key(value, user, as_argument=True)] = held
            held.used = True
            self._see(held, body)
            held.seen.add(user)
            given.append(held)
            self._edge(held.id, self.names[user], "used", name)

    def _generate(self, maker: Body, role: str, value: Value, ref: str, *, saved: bool = False) -> _Held:
        body = self._around(maker)
        held = self._find(value, maker)
        if held is None or maker not in held.seen or any(held is given for given in self.given[maker]):
            held = self._find(value, body)  # else it hands on what its own steps made
            if held is None or held.used:  # made again
                held = self._new(value, ref)
                self._tie(held, maker)
        held.producers.append(maker)
        self.current[self._key(value, body)] = self.current[self._key(value, maker)] = held
        self._see(held, body)
        held.seen.add(maker)
        self._edge(self.names[maker], held.id, "generated", role, **({"saved": True} if saved else {}))
        return held

    def _key(self, value: Value, body: Body, *, as_argument: bool = False) -> tuple[bytes, Any]:
        """What says little is the same thing only within one body; and a None that is passed is no None returned."""
        if self.values.weight(value) == 2:
            return value.digest, _EVERYWHERE
        if self.values.data(value) == _NIL:
            return value.digest, (body, as_argument)
        return value.digest, body

    def _find(self, value: Value, body: Body, *, as_argument: bool = False) -> _Held | None:
        return self.current.get(self._key(value, body, as_argument=as_argument))

    def _new(self, value: Value, ref: str | None) -> _Held:
        n = self.made[value.digest] = self.made.get(value.digest, 0) + 1
        name = f"sha256:{value.digest.hex()}" + (f"/{n}" if n > 1 else "")
        node = self.nodes[name] = {
            "kind": "artifact",
            "ref": None if ref is None else f"{self.data.exec_id}:{ref}",
            "digest": value.digest.hex(),
            "size": value.size,
            "format": value.kind,
            "preview": _plain(value.preview),
            "saved_as": [],
        }
        return _Held(name, value, node)

    # ------------------------------------------------------------ parts

    def _see(self, held: _Held, body: Body) -> None:
        """`body` has it in hand, and can take something out of it."""
        if body not in held.seen and body != _OUTSIDE:
            held.seen.add(body)
            self.recent.setdefault(body, deque(maxlen=_RECENT)).append(held)
            for digest in self.values.parts(held.value):
                self.holders.setdefault((body, digest), []).append(held)

    def _tie(self, held: _Held, body: Body) -> None:
        """Tie what `body` brought in to what it was made of, or taken out of: what existed first is upstream."""
        tied: dict[str, _Held] = {}
        for digest in self.values.parts(held.value):
            part = self._find(self.values.of(digest), body)
            if part is None or body not in part.seen:
                continue
            if len(part.producers) < 2 or self.values.weight(part.value) == 2:
                tied[part.id] = part
        for part in {**tied, **self._items(held, body)}.values():
            self._part_of(part, held, "part")
        weight = self.values.weight(held.value)
        if not weight:
            return
        digest = held.value.digest
        wholes = {w.id: w for w in self.given.get(body, ()) if digest in self.values.parts(w.value)}
        wholes |= {w.id: w for w in self.holders.get((body, digest), ())}
        if weight == 2 or len(wholes) == 1:
            for whole in wholes.values():
                self._part_of(whole, held, "whole")

    def _items(self, held: _Held, body: Body) -> dict[str, _Held]:
        """What a list or map was put together from, where each of its items is an output of a step: numbers too."""
        items: dict[str, _Held] = {}
        own = self.values.items(held.value)
        for data in own:
            digest = self.values.digest(data)
            item = self._find(self.values.of(digest), body) if digest is not None else None
            if item is None or all(self._around(maker) != body for maker in item.producers):
                return {}
            items[item.id] = item
        return items if len(own) > 1 else {}

    def _tie_items(self, held: _Held, body: Body) -> None:
        """A list that the body put together from pieces of one value: ``[p["name"] for p in packages]``."""
        items = self.values.items(held.value)[:_ITEMS]
        if sum(map(len, items)) < _TELLING or any(i == _NIL or i[0] in _MUTE or i[0] in _NUMBERS for i in items):
            return
        for whole in (*reversed(self.recent.get(body, ())), *self.given.get(body, ())):
            data = self.values.data(whole.value)
            # By chance one item's bytes may stand across two others; hardly those of all items of a list.
            if data is not None and len(data) > held.value.size and all(item in data for item in items):
                self._part_of(whole, held, "items")
                return

    def _part_of(self, source: _Held, target: _Held, role: str) -> None:
        if source is not target:
            target.sources.append(source)
            self._edge(source.id, target.id, "part_of", role)

    def _tied(self, before: CheckpointData, step: CheckpointData) -> bool:
        return any(
            before.id in held.producers or any(before.id in source.producers for source in held.sources)
            for held in self.given[step.id]
        )

    # ------------------------------------------------------------ nodes and edges

    def _edge(self, source: str, target: str, relation: str, role: str | None, **more: Any) -> None:
        keys = self.edges.setdefault(source, {}).setdefault(target, {})
        if any(a["relation"] == relation and a["role"] == role for a in keys.values()):
            return
        key, n = relation, 1
        while key in keys:
            n += 1
            key = f"{relation}#{n}"
        keys[key] = {"relation": relation, "role": role, **more}

    def _execution(self) -> dict[str, Any]:
        d = self.data
        return {
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

    def _checkpoint(self, c: CheckpointData) -> dict[str, Any]:
        return {
            "kind": "checkpoint",
            "label": c.label,
            "name": c.name,
            "number": c.index,
            "parent": self.names[self._around(c.id)],
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


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can say, whatever somebody logged or wrote into a record."""
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
