"""Which steps of two executions are the same step. Pure, from records: no value is looked at, only digests.

A fork's records say which step of its origin they stand for, and are believed first. Then, under steps that belong
together, the calls of one name are aligned by their inputs and outputs, so that a step which was put in is one step
more and not a change of all that follow; what is left goes by its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..executions import CheckpointData
from ..records import NOWHERE, Id, Record, Reused, Started
from .sequences import matched

__all__ = ["Link", "Pair", "Steps", "align", "foreign", "read_links"]


class Link(NamedTuple):
    """What a record says that it stands for."""

    to: Id
    strength: int  # 2: it gives that one's value again; 1: it takes that one's part; 0: it stands at its place


class Pair(NamedTuple):
    """A step of the first execution and of the second; None where one of them has no such step."""

    a: CheckpointData | None
    b: CheckpointData | None
    depth: int


@dataclass(slots=True)
class Steps:
    """The steps of one execution, in the order of their starts, without those that no longer count."""

    checkpoints: list[CheckpointData]
    links: Mapping[Id, Link] = field(default_factory=dict)
    inside: dict[Id | None, list[CheckpointData]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = set()
        kept = []
        for c in self.checkpoints:  # an inner one comes after the one around it
            if c.superseded or not (c.parent is None or c.parent in there):
                continue
            there.add(c.id)
            kept.append(c)
            self.inside.setdefault(c.parent, []).append(c)
        self.checkpoints = kept


def read_links(records: Iterable[Record]) -> dict[Id, Link]:
    """What the steps of an execution stand for."""
    links = {}
    for r in records:
        s = r if isinstance(r, Started) else r.start if isinstance(r, Reused) else None
        if s is not None and s.counterpart != NOWHERE:
            links[s.id] = Link(s.counterpart, 2 if isinstance(r, Reused) else int(s.claims))
    return links


def foreign(links: Mapping[Id, Link]) -> set[str]:
    """The executions that links lead to and that no links are known of: those in the middle of a chain of forks."""
    return {link.to[0] for link in links.values()} - {rid[0] for rid in links}


def align(a: Steps, b: Steps, between: Mapping[Id, Link] | None = None) -> list[Pair]:
    """Pair the steps of two executions.

    Parameters
    ----------
    between
        The links of the executions that lie between them in a chain of forks.

    Returns
    -------
    list of Pair
        As a tree is read: each after the one around it. Those of the first alone stand where they would have come.
    """
    partner = _linked(a, b, {**(between or {}), **a.links, **b.links})
    taken = {c.id for c in partner.values()}
    todo: list[tuple[Id | None, Id | None]] = [(None, None), *((c.id, bid) for bid, c in partner.items())]
    for around_a, around_b in todo:  # grows as it goes
        left = [c for c in a.inside.get(around_a, ()) if c.id not in taken]
        right = [c for c in b.inside.get(around_b, ()) if c.id not in partner]
        for xs, ys in _by_name(left, right):
            for x, y in _matched(xs, ys):
                partner[y.id] = x
                taken.add(x.id)
                todo.append((x.id, y.id))
    return list(_in_tree(a, b, partner, taken))


def _linked(a: Steps, b: Steps, links: Mapping[Id, Link]) -> dict[Id, CheckpointData]:
    """The steps of `a` that steps of `b` stand for, or that stand for the same as those, by the latter's ids."""

    def first_the_surest(c: CheckpointData) -> int:
        return -links[c.id].strength if c.id in links else 0

    stands_for: dict[Id, CheckpointData] = {c.id: c for c in a.checkpoints}
    for c in sorted(a.checkpoints, key=first_the_surest):
        for rid in _chain(c.id, links):
            stands_for.setdefault(rid, c)
    partner: dict[Id, CheckpointData] = {}
    taken: set[Id] = set()
    for c in sorted(b.checkpoints, key=first_the_surest):
        for rid in (c.id, *_chain(c.id, links)):
            x = stands_for.get(rid)
            if x is not None and x.id not in taken and x.name == c.name:
                partner[c.id] = x
                taken.add(x.id)
                break
    return partner


def _chain(rid: Id, links: Mapping[Id, Link]) -> Iterator[Id]:
    """What a step stands for, what that one stands for, and so on. What only runs at a place may be a new step."""
    seen = {rid}
    while (link := links.get(rid)) is not None and link.strength and link.to not in seen:
        rid = link.to
        seen.add(rid)
        yield rid


def _by_name(
    xs: Iterable[CheckpointData], ys: Iterable[CheckpointData]
) -> Iterator[tuple[list[CheckpointData], list[CheckpointData]]]:
    groups: dict[Hashable, tuple[list[CheckpointData], list[CheckpointData]]] = {}
    for n, side in enumerate((xs, ys)):
        for c in side:
            groups.setdefault((c.name, c.path[-1].side), ([], []))[n].append(c)
    return ((x, y) for x, y in groups.values() if x and y)


def _matched(xs: list[CheckpointData], ys: list[CheckpointData]) -> Iterator[tuple[CheckpointData, CheckpointData]]:
    """Calls of one name under one step: those that agree in most come first, and then those at the same place."""
    for key in (_both, _inputs, _outputs):
        left, right = [c for c in xs if key(c)], [c for c in ys if key(c)]
        pairs = [(left[i], right[j]) for i, j in matched([*map(key, left)], [*map(key, right)])]
        yield from pairs
        xs, ys = _without(xs, ys, pairs)
    places = {c.path[-1]: c for c in xs}
    yield from ((places.pop(c.path[-1]), c) for c in ys if c.path[-1] in places)


def _without(
    xs: list[CheckpointData], ys: list[CheckpointData], pairs: Iterable[tuple[CheckpointData, CheckpointData]]
) -> tuple[list[CheckpointData], list[CheckpointData]]:
    gone = {c.id for pair in pairs for c in pair}
    return [c for c in xs if c.id not in gone], [c for c in ys if c.id not in gone]


_Key = tuple[Hashable, ...]


def _inputs(c: CheckpointData) -> _Key:
    return tuple((name, value.digest) for name, value in c.arguments)


def _outputs(c: CheckpointData) -> _Key:
    return tuple((name, value.digest) for name, value in c.outputs)


def _both(c: CheckpointData) -> _Key:
    return (_inputs(c), _outputs(c))


def _in_tree(a: Steps, b: Steps, partner: Mapping[Id, CheckpointData], taken: set[Id]) -> Iterator[Pair]:
    todo: list[tuple[Pair, Iterator[Pair]]] = [
        (Pair(None, None, -1), iter(_children(None, None, a, b, partner, taken)))
    ]
    while todo:
        _, rest = todo[-1]
        pair = next(rest, None)
        if pair is None:
            todo.pop()
            continue
        pair = pair._replace(depth=len(todo) - 1)
        yield pair
        inner = [] if _is_whole(pair) else _children(pair.a, pair.b, a, b, partner, taken)
        if inner:
            todo.append((pair, iter(inner)))


def _is_whole(pair: Pair) -> bool:
    """Whether one of the two gave the other's outputs again: what lies inside that one lies inside both."""
    x, y = pair.a, pair.b
    if x is None or y is None or (x.reused_from is None) == (y.reused_from is None):
        return False
    return x.status == y.status and _outputs(x) == _outputs(y)


def _children(
    x: CheckpointData | None,
    y: CheckpointData | None,
    a: Steps,
    b: Steps,
    partner: Mapping[Id, CheckpointData],
    taken: set[Id],
) -> list[Pair]:
    top = x is None and y is None
    left = a.inside.get(x.id if x else None, []) if x or top else []
    right = b.inside.get(y.id if y else None, []) if y or top else []
    place = {c.id: n for n, c in enumerate(left)}
    out: list[Pair] = []
    done = 0
    for c in right:
        other = partner.get(c.id)
        at = place.get(other.id, -1) if other is not None else -1
        if at >= done:
            out += [Pair(gone, None, 0) for gone in left[done:at] if gone.id not in taken]
            done = at + 1
        out.append(Pair(other, c, 0))
    return [*out, *(Pair(gone, None, 0) for gone in left[done:] if gone.id not in taken)]
