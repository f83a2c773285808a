"""Where each node of a sketch stands, and how the lines run between them: layers, as `fast_sugiyama` finds them.

The library knows points; boxes have sizes. Its layers, their order and the ways of long lines are taken as they are,
and its places within a layer as far as boxes do not touch.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from kitaru.errors import UsageError

__all__ = ["Placed", "Point", "Size", "place"]

_GAP, _LANE = 16.0, 10.0  # between two nodes of a layer; between a node and a line that passes it
_BETWEEN = 46.0  # layers
_APART = 28.0  # what nothing ties together
_DENSE = 0.25  # of the library's distances: what is packed too tightly moves apart again
_WIDE = 1100.0  # as much as a notebook shows without scrolling
_CLOSE = 3.0  # lines that would be nearer to each other leave from one point
_SWEEPS = 6
_STRAIGHT = 4.0  # how much more a passing line keeps its place than a node does


class Point(NamedTuple):
    """A place; the axes of a picture: to the right and down."""

    x: float
    y: float


class Size(NamedTuple):
    """Of a node."""

    width: float
    height: float


@dataclass(slots=True)
class Placed:
    """The upper left corner of each node, the points that each line runs through, and how large it all is."""

    corners: list[Point]
    ways: list[list[Point]]
    across: bool  # layers follow each other to the right; else downwards
    size: Size


def place(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], room: Sequence[Size]) -> Placed:
    """Lay it out to the right, or downwards where that would be too wide.

    Parameters
    ----------
    edges
        Pairs of numbers of nodes. Circles are allowed, and so are two lines between the same nodes.
    room
        For each node how much space the lines that end there want before it, to be written on: beside and above.
    """
    parts = [_layers(part, ties) for part, ties in _parts(len(sizes), edges)]
    right = _Plan(sizes, edges, room, parts, across=True).placed()
    if right.size.width <= _WIDE:
        return right
    down = _Plan(sizes, edges, room, parts, across=False).placed()
    return down if down.size.width < right.size.width else right


# ---------------------------------------------------------------- layers


@dataclass(slots=True)
class _Layers:
    """What hangs together. A slot is a node, by its number, or a place where a long line passes: negative."""

    layers: list[list[int]]
    wanted: dict[int, float]  # where the library puts a slot within its layer, the least distance being 1
    ways: dict[tuple[int, int], list[int]]  # the slots that a line passes, of lines over more than one layer


def _parts(count: int, edges: Iterable[tuple[int, int]]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """The nodes that hang together, each with the lines between them, all of which run one way."""
    forward = _forward(count, edges)
    root = [*range(count)]

    def find(n: int) -> int:
        while root[n] != n:
            root[n] = root[root[n]]
            n = root[n]
        return n

    for a, b in forward:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    parts: dict[int, tuple[list[int], list[tuple[int, int]]]] = {}
    for n in range(count):
        parts.setdefault(find(n), ([], []))[0].append(n)
    for tie in forward:
        parts[find(tie[0])][1].append(tie)
    return [*parts.values()]


def _forward(count: int, edges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each pair once, turned around where it would close a circle; of which the first in reading order leads."""
    pairs = dict.fromkeys((a, b) for a, b in edges if a != b)
    after: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for a, b in pairs:
        after[a].append(b)
        waits[b] += 1
    place: dict[int, int] = {}
    free = [n for n in range(count) if not waits[n]]
    first = 0
    while len(place) < count:
        if not free:
            while first in place:
                first += 1
            free = [first]
        n = heapq.heappop(free)
        place[n] = len(place)
        for b in after[n]:
            waits[b] -= 1
            if not waits[b] and b not in place:
                heapq.heappush(free, b)
    return [*dict.fromkeys((a, b) if place[a] < place[b] else (b, a) for a, b in pairs)]


def _layers(nodes: list[int], ties: list[tuple[int, int]]) -> _Layers:
    if not ties:
        return _Layers([nodes], {n: float(i) for i, n in enumerate(nodes)}, {})
    try:
        from fast_sugiyama import from_edges
    except ModuleNotFoundError as e:
        raise UsageError(
            "a picture of a lineage needs fast-sugiyama, which is not installed here. Install the extra: "
            "pip install 'kitaru[jupyter]' (in a checkout: pip install -e '.[jupyter]')"
        ) from e

    local = {
        n: i for i, n in enumerate(nodes)
    }  # numbers without gaps: what the library makes of them is always the same
    [(positions, _, _, drawn)] = from_edges(
        [(local[a], local[b]) for a, b in ties], vertex_spacing=1, dummy_vertices=True, dummy_size=0.5
    )
    slot = {int(n): nodes[int(n)] if int(n) < len(nodes) else -1 - int(n) for n, _ in positions}
    heights = sorted({y for _, (_, y) in positions}, reverse=True)
    ends = next(y for n, (_, y) in positions if slot[int(n)] == ties[0][1])
    starts = next(y for n, (_, y) in positions if slot[int(n)] == ties[0][0])
    if starts < ends:
        heights.reverse()
    level = {y: i for i, y in enumerate(heights)}
    layers: list[list[int]] = [[] for _ in heights]
    wanted = {}
    sign = _reads_on(p for p in positions if int(p[0]) < len(nodes))
    for n, (x, y) in sorted(positions, key=lambda p: (sign * p[1][0], int(p[0]))):
        layers[level[y]].append(slot[int(n)])
        wanted[slot[int(n)]] = sign * float(x)
    onward: dict[int, int] = {}
    starting: list[tuple[int, int]] = []
    for a, b in drawn or ():
        a, b = slot[int(a)], slot[int(b)]
        if a < 0:
            onward[a] = b
        elif b < 0:
            starting.append((a, b))
    ways = {}
    for a, b in starting:
        way = [b]
        while (b := onward[b]) < 0:
            way.append(b)
        ways[a, b] = way
    return _Layers(layers, wanted, ways)


def _reads_on(positions: Iterable[tuple[Any, tuple[float, float]]]) -> int:
    """1 where most neighbours of a layer stand in reading order as the library put them, -1 where most do not."""
    layers: dict[float, list[tuple[float, int]]] = {}
    for n, (x, y) in positions:
        layers.setdefault(y, []).append((x, int(n)))
    rising = [a < b for layer in layers.values() for (_, a), (_, b) in pairwise(sorted(layer))]
    return -1 if 2 * sum(rising) < len(rising) else 1


# ---------------------------------------------------------------- places


class _Plan:
    """Along the layers and within them, whichever of the two is to the right."""

    def __init__(
        self,
        sizes: Sequence[Size],
        edges: Sequence[tuple[int, int]],
        room: Sequence[Size],
        parts: Sequence[_Layers],
        *,
        across: bool,
    ) -> None:
        self._sizes, self._edges, self._room, self._parts, self._across = sizes, edges, room, parts, across

    def _thick(self, slot: int) -> float:
        """How much of its layer a slot takes."""
        return 0.0 if slot < 0 else self._sizes[slot].height if self._across else self._sizes[slot].width

    def _deep(self, slot: int) -> float:
        """How much a slot takes along the layers."""
        return 0.0 if slot < 0 else self._sizes[slot].width if self._across else self._sizes[slot].height

    def placed(self) -> Placed:
        middles: dict[int, tuple[float, float]] = {}  # of a slot: along the layers, within its layer
        spans: dict[int, tuple[float, float]] = {}  # where its layer begins and ends
        ways: dict[tuple[int, int], list[int]] = {}
        offset = longest = 0.0
        for n, part in enumerate(self._parts):
            within = self._within(part)
            low = min(within[s] - self._thick(s) / 2 for s in within)
            along = 0.0
            for layer in part.layers:
                gap = max([_BETWEEN, *(self._room[s][not self._across] for s in layer if s >= 0)])
                start = along + (gap if along else 0.0)
                depth = max(map(self._deep, layer))
                for s in layer:
                    key = self._key(n, s)
                    # Boxes of one layer begin at one line: that is how columns are read.
                    middles[key] = start + (self._deep(s) if self._across else depth) / 2, within[s] - low + offset
                    spans[key] = start, start + depth
                along = start + depth
            longest = max(longest, along)
            offset += max(within[s] + self._thick(s) / 2 for s in within) - low + _APART
            ways |= {tie: [self._key(n, s) for s in way] for tie, way in part.ways.items()}
        corners = [self._corner(n, middles[n]) for n in range(len(self._sizes))]
        lines = self._lines(middles, spans, ways)
        width, height = max(longest, 1.0), max(offset - _APART, 1.0)
        return Placed(corners, lines, self._across, Size(width, height) if self._across else Size(height, width))

    @staticmethod
    def _key(part: int, slot: int) -> int:
        """Each part numbers the passages of its lines from one."""
        return slot if slot >= 0 else slot - part * 1_000_000

    def _corner(self, n: int, middle: tuple[float, float]) -> Point:
        x, y = self._turned(*middle)
        return Point(x - self._sizes[n].width / 2, y - self._sizes[n].height / 2)

    def _turned(self, along: float, within: float) -> Point:
        return Point(along, within) if self._across else Point(within, along)

    def _within(self, part: _Layers) -> dict[int, float]:
        """Within its layer each slot as near as may be to the middle of what it is tied to, in the library's order."""
        beside: dict[int, list[int]] = {s: [] for layer in part.layers for s in layer}
        here = beside.keys()
        for a, b in dict.fromkeys(self._edges):
            if a in here and b in here and a != b:
                a, b = (a, b) if (a, b) in part.ways or (b, a) not in part.ways else (b, a)
                for s, t in pairwise([a, *part.ways.get((a, b), ()), b]):
                    beside[s].append(t)
                    beside[t].append(s)
        scale = (max(map(self._thick, part.wanted)) / 2 + _GAP) * _DENSE
        places = {s: x * scale for s, x in part.wanted.items()}
        for layer in part.layers:
            self._settle(layer, places, places)
        for sweep in range(_SWEEPS):
            for layer in part.layers if sweep % 2 == 0 else reversed(part.layers):
                wanted = {}
                for s in layer:
                    # A passing line keeps straight, and a node keeps to the lines that come by themselves.
                    near = [t for t in beside[s] if t < 0] if s < 0 else beside[s]
                    wanted[s] = _median([places[t] for t in near or beside[s]] or [places[s]])
                self._settle(layer, wanted, places)
        return places

    def _settle(self, layer: list[int], wanted: dict[int, float], places: dict[int, float]) -> None:
        """As near to what is wanted as the order and the sizes let them: what collides moves together (isotonic)."""
        shift, at = 0.0, [0.0]
        for before, s in pairwise(layer):
            gap = _GAP if before >= 0 and s >= 0 else _LANE
            shift += self._thick(before) / 2 + gap + self._thick(s) / 2
            at.append(shift)
        blocks: list[tuple[float, float, int]] = []  # sum, weight, count
        for s, shift in zip(layer, at, strict=True):
            weight = _STRAIGHT if s < 0 else 1.0
            block = ((wanted[s] - shift) * weight, weight, 1)
            while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
                total, mass, count = blocks.pop()
                block = (total + block[0], mass + block[1], count + block[2])
            blocks.append(block)
        settled = [total / mass for total, mass, count in blocks for _ in range(count)]
        for s, base, shift in zip(layer, settled, at, strict=True):
            places[s] = base + shift

    def _lines(
        self,
        middles: dict[int, tuple[float, float]],
        spans: dict[int, tuple[float, float]],
        ways: dict[tuple[int, int], list[int]],
    ) -> list[list[Point]]:
        """Of each line its points, from the side of one node to the side of the other, past the nodes between."""
        ends: dict[tuple[int, bool], list[tuple[float, int]]] = {}
        passing: list[list[int]] = []
        for i, (a, b) in enumerate(self._edges):
            way = ways.get((a, b)) or [*reversed(ways.get((b, a), ()))]
            passing.append(way)
            backward = middles[a][0] > middles[b][0]
            ends.setdefault((a, not backward), []).append((middles[(way or [b])[0]][1], i))
            ends.setdefault((b, backward), []).append((middles[(way or [a])[-1]][1], i))
        ports: dict[tuple[int, int], float] = {}
        for (n, _), found in ends.items():
            spread = min(13.0, (self._thick(n) - 12) / max(len(found) - 1, 1))
            spread = spread if spread > _CLOSE else 0.0
            for k, (_, i) in enumerate(sorted(found)):
                ports[n, i] = middles[n][1] + (k - (len(found) - 1) / 2) * spread
        lines = []
        for i, (a, b) in enumerate(self._edges):
            sign = -1 if middles[a][0] > middles[b][0] else 1
            places = [(middles[a][0] + sign * self._deep(a) / 2, ports[a, i]), (spans[a][sign > 0], ports[a, i])]
            for s in passing[i]:
                places += [(along, middles[s][1]) for along in spans[s][::sign]]
            places += [(spans[b][sign < 0], ports[b, i]), (middles[b][0] - sign * self._deep(b) / 2, ports[b, i])]
            lines.append([self._turned(*place) for place, _ in groupby(places)])
        return lines


def _median(numbers: list[float]) -> float:
    found = sorted(numbers)
    half = len(found) // 2
    return found[half] if len(found) % 2 else (found[half - 1] + found[half]) / 2
