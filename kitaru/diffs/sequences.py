"""Which items of two sequences belong together, in order: what texts, lists, chats, rows and steps are aligned by.

Exact for small gaps (`difflib`), and never quadratic: what is the same at both ends is taken first, then the items
that are rare on both sides hold the rest apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from difflib import SequenceMatcher

__all__ = ["gaps", "matched"]

_SMALL = 10_000  # items of one side times items of the other that difflib compares in a moment
_ROUNDS = 16  # how often a gap is divided; each round costs about one sort of what is left


def matched(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of positions with equal items, rising on both sides.

    >>> matched("abcd", "xabd")
    [(0, 1), (1, 2), (3, 3)]
    """
    pairs: list[tuple[int, int]] = []
    todo = [(0, len(a), 0, len(b), 0)]
    while todo:
        i, i_end, j, j_end, rounds = todo.pop()
        while i < i_end and j < j_end and a[i] == b[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        while i < i_end and j < j_end and a[i_end - 1] == b[j_end - 1]:
            i_end, j_end = i_end - 1, j_end - 1
            pairs.append((i_end, j_end))
        if i == i_end or j == j_end:
            continue
        if (i_end - i) * (j_end - j) <= _SMALL:
            blocks = SequenceMatcher(None, a[i:i_end], b[j:j_end], autojunk=False).get_matching_blocks()
            pairs += [(i + x + k, j + y + k) for x, y, size in blocks for k in range(size)]
            continue
        anchors = _anchors(a, range(i, i_end), b, range(j, j_end))
        pairs += anchors
        if anchors and rounds < _ROUNDS:
            for x, y in [*anchors, (i_end, j_end)]:
                todo.append((i, x, j, y, rounds + 1))
                i, j = x + 1, y + 1
    return sorted(pairs)


def gaps(pairs: Iterable[tuple[int, int]], a: int, b: int) -> Iterable[tuple[range, range]]:
    """What lies between the pairs of sequences of the lengths `a` and `b`: each gap before its pair, and the last one.

    >>> [(list(x), list(y)) for x, y in gaps([(0, 1)], 2, 2)]
    [([], [0]), ([1], [])]
    """
    i = j = 0
    for x, y in [*pairs, (a, b)]:
        yield range(i, x), range(j, y)
        i, j = x + 1, y + 1


def _anchors(a: Sequence[Hashable], xs: range, b: Sequence[Hashable], ys: range) -> list[tuple[int, int]]:
    """Items that there is one of on each side, those that stand in the same order; else the k-th ones of a kind."""
    count_a, count_b = Counter(a[i] for i in xs), Counter(b[j] for j in ys)
    at = {b[j]: j for j in ys if count_b[b[j]] == 1}
    found = [(i, at[a[i]]) for i in xs if count_a[a[i]] == 1 and a[i] in at]
    if not found:
        seen: Counter[Hashable] = Counter()
        place = {(b[j], _next(seen, b[j])): j for j in ys}
        seen = Counter()
        found = [(i, place[key]) for i in xs if (key := (a[i], _next(seen, a[i]))) in place]
    return _rising(found)


def _next(seen: Counter[Hashable], item: Hashable) -> int:
    seen[item] += 1
    return seen[item]


def _rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest selection of the pairs, which rise on the left, that rises on the right too."""
    tails: list[int] = []  # the smallest right side that a selection of each length can end with
    ends: list[int] = []  # which pair that is
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        length = bisect_left(tails, j)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [j]
        ends[length : length + 1] = [n]
    kept = []
    n = ends[-1] if ends else -1
    while n >= 0:
        kept.append(pairs[n])
        n = before[n]
    return kept[::-1]
