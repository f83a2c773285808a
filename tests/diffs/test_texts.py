"""Words, and what of a long text is shown."""

from __future__ import annotations

import time
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given, settings

from kitaru.diffs.sequences import gaps, matched
from kitaru.diffs.texts import Piece, compare_texts, shown_lines

WORDS = st.lists(st.sampled_from(["a", "b", "the", " ", "  ", "\n", ",", "Grüße", "x1"]), max_size=40).map("".join)


@given(WORDS, WORDS)
def test_the_pieces_make_both_texts_again(a, b):
    pieces = compare_texts(a, b)
    assert "".join(p.text for p in pieces if p.sign != "+") == a
    assert "".join(p.text for p in pieces if p.sign != "-") == b


@given(WORDS)
def test_equal_texts_have_no_changes(text):
    assert [p.sign for p in compare_texts(text, text)] in ([], ["="])


def test_two_changed_words_side_by_side_are_one_change():
    assert compare_texts("say old words now", "say new terms now") == [
        Piece("=", "say "), Piece("-", "old words"), Piece("+", "new terms"), Piece("=", " now"),
    ]  # fmt: skip


def test_only_lines_that_changed_are_shown_and_the_rest_of_a_line_is_cut():
    a = "first\n" + "word " * 200 + "old\n" + "last\n"
    lines, rest = shown_lines(compare_texts(a, a.replace("old", "new")), 5, width=20)
    assert rest == 0
    assert len(lines) == 1
    assert [p.sign for p in lines[0]] == ["=", "-", "+"]
    assert len(lines[0][0].text) <= 21
    assert lines[0][0].text.startswith("…")


def test_a_line_break_that_came_is_seen():
    lines, _ = shown_lines(compare_texts("one", "one\n"), 5)
    assert lines == [[Piece("=", "one"), Piece("+", "⏎")]]


def test_lines_beyond_the_limit_are_counted():
    lines, rest = shown_lines(compare_texts("", "x\n" * 10), 4)
    assert (len(lines), rest) == (4, 6)


@given(st.text("abc", max_size=60), st.text("abc", max_size=60))
@settings(max_examples=200)
def test_matched_pairs_are_equal_and_rise_on_both_sides(a, b):
    pairs = matched(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(p[0] < q[0] and p[1] < q[1] for p, q in pairwise(pairs))
    covered = [*gaps(pairs, len(a), len(b))]
    assert sum(len(x) for x, _ in covered) + len(pairs) == len(a)
    assert sum(len(y) for _, y in covered) + len(pairs) == len(b)


@given(st.lists(st.integers(0, 400), min_size=150, max_size=300), st.integers(0, 299))
@settings(max_examples=50)
def test_one_item_put_in_is_all_that_is_not_matched_in_a_long_list(items, at):
    longer = [*items[:at], -1, *items[at:]]
    assert len(matched(items, longer)) == len(items)


def test_long_sequences_of_few_kinds_of_items_take_no_quadratic_time():
    n = 40_000
    a = [i * 7919 % 5 for i in range(n)]
    b = [i * 104_729 % 7 % 5 for i in range(n)]
    began = time.process_time()
    matched(a, b)
    assert time.process_time() - began < 20, "it would take hours"
