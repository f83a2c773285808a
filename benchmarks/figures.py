"""A figure beside its floor, and the tables they stand in."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Figure:
    """One workload: what Kitaru took and what its floor took, in turns.

    `rounds` holds a pair for each turn, each a median of that turn. The ratio is the median of the turns' own ratios:
    whatever else the machine did meanwhile slowed both halves of a turn. One of `ratio_at_most` and `at_most` is what
    the project promises.
    """

    workload: str
    rounds: Sequence[tuple[float, float]]
    floor_is: str
    unit: str = "ms"
    ratio_at_most: float | None = None
    at_most: float | None = None

    @property
    def kitaru(self) -> float:
        return statistics.median(mine for mine, _ in self.rounds)

    @property
    def floor(self) -> float:
        return statistics.median(floor for _, floor in self.rounds)

    @property
    def ratio(self) -> float:
        return statistics.median(mine / floor if floor else float("nan") for mine, floor in self.rounds)

    @property
    def promise(self) -> str:
        if self.ratio_at_most is not None:
            return f"≤ {self.ratio_at_most:g} × floor"
        return "" if self.at_most is None else f"≤ {self.at_most:g} {self.unit}"

    @property
    def kept(self) -> str:
        if self.ratio_at_most is not None:
            return "yes" if self.ratio <= self.ratio_at_most else "**no**"
        return "" if self.at_most is None else "yes" if self.kitaru <= self.at_most else "**no**"


def median_ms(seconds: Iterable[float]) -> float:
    """Their median, in milliseconds."""
    return statistics.median(seconds) * 1e3


def figures_table(figures: Iterable[Figure]) -> str:
    """Markdown: a line for each figure."""
    lines = ["| workload | Kitaru | floor | ratio | promise | kept | the floor is |", "|---|---|---|---|---|---|---|"]
    for f in figures:
        floor, ratio = ("–", "–") if not f.floor else (f"{f.floor:.3g} {f.unit}", f"{f.ratio:.2f}")
        cells = f.workload, f"{f.kitaru:.3g} {f.unit}", floor, ratio, f.promise, f.kept, f.floor_is
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """One workload as each peer does it: medians, by peer. Less is better; a peer that cannot do it is not there."""

    workload: str
    unit: str
    by_peer: dict[str, float]
    notes: str = ""

    def verdict(self, ours: str = "kitaru") -> str:
        """Where we are, in words."""
        mine = self.by_peer[ours]
        others = {peer: figure for peer, figure in self.by_peer.items() if peer != ours}
        if not others:
            return ""
        best = min(others, key=others.__getitem__)
        if not others[best]:
            return f"**behind {best}**, which has none"
        factor = others[best] / mine if mine else float("inf")
        if factor >= 1.05:
            return f"ahead: {factor:.1f} × less than {best}"
        return f"**behind {best}**: {1 / factor:.1f} ×" if factor <= 0.95 else f"level with {best}"


def comparison_table(comparisons: Sequence[Comparison], peers: Sequence[str]) -> str:
    """Markdown: a line for each workload, a column for each peer."""
    lines = [f"| workload | {' | '.join(peers)} | |", "|---" * (len(peers) + 2) + "|"]
    for c in comparisons:
        cells = [f"{c.by_peer[p]:.3g} {c.unit}" if p in c.by_peer else "–" for p in peers]
        said = c.verdict() + (f" ({c.notes})" if c.notes else "")
        lines.append(f"| {c.workload} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def machine() -> str:
    """What was measured on, and with which versions."""
    uname, names = platform.uname(), ("boto3", "moto", "ormsgpack")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d')}, {uname.system} {uname.release} {uname.machine}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {', '.join(found)}; load {load} at the end"
    )
