"""Which nodes of a large lineage fold, so that its picture can be read. Before anything is laid out.

Values first; then long runs of similar steps (``classify#1`` to ``#180``) into one box each, the longest first; then
steps inside of others into those; then what is left, similar or not, by its order. What is chosen, failed, edited,
stale or changed has a box of its own. Where there is more of that than a picture holds, similar steps with the same
marks share a box that says how many they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .sketch import Asked, kind_of, near

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["fold"]

_FEWEST = 3  # steps that are worth a fold
_TELLING = {"failed", "interrupted", "running", "waiting", "paused"}


def fold(graph: nx.MultiDiGraph[str], asked: Asked, most: int) -> tuple[dict[str, str], Collection[str]]:
    """What each step is drawn as, and the values that are drawn: together at most `most` nodes."""
    about = graph.nodes
    steps = [node for node, a in graph.nodes(data=True) if kind_of(a) == "checkpoint"]
    values = [node for node, a in graph.nodes(data=True) if kind_of(a) == "artifact"]
    if len(steps) + len(values) <= most:
        return {step: step for step in steps}, values
    marked = sorted((v for v in values if v in asked.marks or v == asked.chosen), key=lambda v: v != asked.chosen)
    ends = [v for v in values if v == graph.graph.get("result") or about[v].get("saved_as")]
    kept = [*dict.fromkeys([*marked, *near(graph, asked.chosen), *ends])][: most // 2]
    drawn = _Folding(about, steps, asked, most - len(kept)).drawn
    room = most - len(kept) - len({*drawn.values()})
    boxes = Counter(drawn.values())
    beside = [v for v in values if v not in {*kept} and _between(graph, v, drawn, boxes)]
    return drawn, [*kept, *(beside if len(beside) <= room else ())]


def _between(graph: nx.MultiDiGraph[str], value: str, drawn: Mapping[str, str], boxes: Mapping[str, int]) -> bool:
    """Whether all steps that made or used it have boxes of their own."""
    steps = [n for n in (*graph.pred[value], *graph.succ[value]) if n in drawn]
    return bool(steps) and all(step == drawn[step] and boxes[step] == 1 for step in steps)


class _Folding:
    """The steps, and what each is drawn as; `drawn` holds no more than `most` different ones."""

    def __init__(self, about: Mapping[str, Any], steps: list[str], asked: Asked, most: int) -> None:
        self._about, self._most, self._asked = about, most, asked
        self.drawn = {step: step for step in steps}
        self._parents = {step: p if (p := about[step].get("parent")) in self.drawn else None for step in steps}
        self._depths: dict[str, int] = {}
        for step in steps:  # a step begins after the one around it
            outer = self._parents[step]
            self._depths[step] = 0 if outer is None else self._depths.get(outer, 0) + 1
        self._count = len(steps)
        self._telling = {step: self._marks(step) for step in steps if self._marks(step)}
        for stage in (self._leaves, self._inner, self._kinds, self._rest, self._telling_ones):
            if self._count <= most:
                break
            stage()

    def _marks(self, step: str) -> tuple[str, ...]:
        status = self._about[step].get("status")
        chosen = ("chosen",) if step == self._asked.chosen else ()
        return (*chosen, *((status,) if status in _TELLING else ()), *self._asked.marks.get(step, ()))

    def _plain(self) -> list[str]:
        """Steps that are drawn as themselves and need not be."""
        return [step for step, as_what in self.drawn.items() if step == as_what and step not in self._telling]

    def _into(self, step: str, what: str) -> None:
        self.drawn[step] = what
        self._count -= 1

    def _similar(self, steps: Iterable[str], key: Callable[[str], Hashable]) -> None:
        """Fold what is similar, the longest runs first, for as long as there are too many boxes."""
        kinds: dict[Hashable, list[str]] = {}
        for step in steps:
            kinds.setdefault(key(step), []).append(step)
        folded = 0
        for members in sorted(kinds.values(), key=len, reverse=True):  # stable
            if (self._count <= self._most and len(members) != folded) or len(members) < _FEWEST:
                return  # of runs that are as long as each other all fold, or none
            folded = len(members)
            for step in members[1:]:
                self._into(step, members[0])

    def _kind(self, step: str) -> Hashable:
        return self._parents[step], f"{self._about[step].get('name')}"

    def _leaves(self) -> None:
        outer = {*self._parents.values()}
        self._similar((step for step in self._plain() if step not in outer), self._kind)

    def _inner(self) -> None:
        """What is inside of a step folds into it, the innermost first."""
        by_depth: dict[int, list[str]] = {}
        for step in self._plain():
            by_depth.setdefault(self._depths[step], []).append(step)
        for depth in sorted(by_depth, reverse=True):
            if depth == 0 or self._count <= self._most:
                break
            into: dict[str, str] = {}
            for step in by_depth[depth]:
                outer = self._parents[step]
                assert outer is not None
                into[step] = self.drawn[outer]
                self._count -= 1
            self._redraw(into)

    def _redraw(self, into: Mapping[str, str]) -> None:
        """Whatever was drawn as one of these is drawn as what that is drawn as now."""
        for step, as_what in self.drawn.items():
            if as_what in into:
                self.drawn[step] = into[as_what]

    def _kinds(self) -> None:
        self._fold_with_inside(self._plain(), self._kind)

    def _fold_with_inside(self, steps: list[str], key: Callable[[str], Hashable]) -> None:
        self._similar(steps, key)
        self._redraw({step: what for step, what in self.drawn.items() if step != what})

    def _rest(self) -> None:
        """Steps that have nothing in common but their order."""
        plain = self._plain()
        room = max(self._most - (self._count - len(plain)), 1)
        size = max(-(-len(plain) // room), _FEWEST)
        place = {step: n // size for n, step in enumerate(plain)}
        self._fold_with_inside(plain, place.__getitem__)

    def _telling_ones(self) -> None:
        marks = self._telling
        same = [step for step in marks if "chosen" not in marks[step]]
        counts = Counter((self._kind(step), marks[step]) for step in same)
        self._fold_with_inside(same, lambda step: (self._kind(step), marks[step]))
        if self._count > self._most and counts:  # of too many kinds: by their marks alone
            left = [step for step in same if self.drawn[step] == step]
            self._fold_with_inside(left, marks.__getitem__)
