"""What changed in a text, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .sequences import gaps, matched

__all__ = ["Piece", "as_lines", "compare_texts", "shown_lines"]

_WORD = re.compile(r"\n|[^\S\n]+|\w+|[^\w\s]")


class Piece(NamedTuple):
    """A stretch of text: ``=`` on both sides, ``-`` in the first alone, ``+`` in the second alone."""

    sign: str
    text: str


def compare_texts(a: str, b: str) -> list[Piece]:
    """The pieces of two texts: those with ``=`` and ``-`` make the first one, those with ``=`` and ``+`` the second.

    >>> [f"{p.sign}{p.text}" for p in compare_texts("a quick fox", "a slow fox")]
    ['=a ', '-quick', '+slow', '= fox']
    """
    old, new = _WORD.findall(a), _WORD.findall(b)
    pairs = matched(old, new)
    runs: list[tuple[str, str, str]] = []  # removed, added, then what both have
    for (xs, ys), (i, _) in zip(gaps(pairs, len(old), len(new)), [*pairs, (-1, -1)], strict=True):
        gone, come = "".join(old[xs.start : xs.stop]), "".join(new[ys.start : ys.stop])
        both = old[i] if i >= 0 else ""
        if runs and not gone and not come:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + both)
        elif runs and _is_gap(runs[-1]):
            # A space between two changed words is no news: they read better as one change.
            space = runs[-1][2]
            runs[-1] = (runs[-1][0] + space + gone, runs[-1][1] + space + come, both)
        else:
            runs.append((gone, come, both))
    return [piece for run in runs for piece in map(Piece, "-+=", run) if piece.text]


def _is_gap(run: tuple[str, str, str]) -> bool:
    return bool(run[0] and run[1]) and run[2].isspace() and "\n" not in run[2]


def as_lines(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The pieces, divided at line breaks: a line break belongs to the line that it ends."""
    lines: list[list[Piece]] = [[]]
    for sign, text in pieces:
        parts = text.split("\n")
        for n, part in enumerate(parts):
            ended = n < len(parts) - 1
            shown = part + ("⏎" if ended and sign != "=" else "")  # a line break that came, or went, is to be seen
            if shown:
                lines[-1].append(Piece(sign, shown))
            if ended:
                lines.append([])
    if not lines[-1]:
        lines.pop()
    return lines


def shown_lines(pieces: Sequence[Piece], most: int, width: int = 60) -> tuple[list[list[Piece]], int]:
    """The lines that changed, with at most `width` characters of what stands around a change; and how many are left."""
    lines = [line for line in as_lines(pieces) if any(p.sign != "=" for p in line)]
    return [_trimmed(line, width) for line in lines[:most]], max(len(lines) - most, 0)


def _trimmed(line: Sequence[Piece], width: int) -> list[Piece]:
    out, last = [], len(line) - 1
    for n, (sign, text) in enumerate(line):
        limit = width if n in {0, last} else 2 * width
        if sign != "=":
            shown = text if len(text) <= 10 * width else text[: 10 * width] + "…"
        elif len(text) <= limit:
            shown = text
        elif n == 0:
            shown = "…" + text[-width:]
        elif n == last:
            shown = text[:width] + "…"
        else:
            shown = f"{text[:width]} … {text[-width:]}"
        out.append(Piece(sign, shown))
    return out
