# ruff: noqa: E501 - tables of values read best when they are dense
"""A value in its shared form: a function of its bytes alone, that gives them back, and shares what did not change."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import linecache
import random
import struct
import sys
import threading
import time
from zlib import crc32

import ormsgpack
import pytest
from hypothesis import given, settings, strategies as st

from kitaru.codecs import (
    Sharer,
    cut,
    decode,
    decoder,
    digests_within,
    encode,
    encoder,
    join,
    references,
    sharing,
    spans,
    to_json,
)
from kitaru.codecs.buffers import CHUNK, Buffer, Pieces
from kitaru.codecs.forms import Nested
from kitaru.codecs.node import array_head, chunk, ref, run, tag_bytes
from kitaru.errors import CorruptionError, UnrecordableValueError

often = settings(max_examples=200)


def sha(data):
    return hashlib.sha256(data).digest()


def message(i, size=900, seed=0):
    rng = random.Random(f"{seed} {i}")
    text = "".join(rng.choices("abcdefghij     ", k=size))
    return {"role": "user" if i % 2 else "assistant", "content": text, "id": f"msg_{i:08d}", "at": 1.7e9 + i / 7}


def restored(shared, kept=()):
    """The plain node, from what was given now and what was kept before."""
    return join(
        shared.root,
        {**dict(kept), **dict(shared.parts), **{p.digest: bytes(p.data) for p in shared.chunks}}.__getitem__,
    )


# ---- the form: a second implementation, slow and by the words of `cutting` ----------------------------------------


def items_of(node):
    """Its head or TAG, its items, whether it is a map."""
    children = sorted((a, b) for a, b, depth in spans.spans(node) if depth == 1)
    if tag_bytes("buffer") in node[:15]:
        children = [(a, b) for _, a, b in spans.marked(node)][1:]
    first = children[0][0] if children else len(node)
    is_map = 0x80 <= node[0] < 0x90 or node[0] in (0xDE, 0xDF)
    head = 1 if node[0] < 0xA0 else 3 if node[0] in (0xDC, 0xDE) else 5
    return node[head:first], [node[a:b] for a, b in children], is_map


def grouped(items, least, mean, most):
    groups, size, last = [[]], 0, b""
    for item in items:
        if groups[-1] and size >= least and (size >= most or crc32(last) * mean < len(last) << 32):
            groups.append([])
            size = 0
        groups[-1].append(item)
        size, last = size + len(item), item
    return groups


def by_the_book(plain):
    parts = {}

    def part(data):
        parts[sha(data)] = data
        return sha(data)

    def in_runs(tag, items, counts, per):
        while sum(map(len, items)) > 2048:
            groups = grouped(items, 256, 1024, 4096)
            sums, at = [], 0
            for group in groups:
                sums.append(sum(counts[at : at + len(group)]))
                at += len(group)
            items = [run(part(array_head(len(g) * per) + b"".join(g)), n) for g, n in zip(groups, sums, strict=True)]
            counts, per = sums, 1
        return array_head(len(items) + bool(tag)) + tag + b"".join(items)

    def node(x):
        if len(x) <= 2048:
            return x
        if x[0] in (*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
            body = ormsgpack.unpackb(x)
            if isinstance(body, bytes):
                pieces = [body[at : at + (4 << 20)] for at in range(0, len(body), 4 << 20)]
            else:
                body = body.encode()
                lines = [
                    line[at : at + 16384]
                    for line in body.splitlines(keepends=True)
                    for at in range(0, len(line), 16384)
                ]
                pieces = [b"".join(g) for g in grouped(lines, 1024, 4096, 16384)]
            if len(body) <= 8192:
                return x
            links = [chunk(part(piece), len(piece)) for piece in pieces]
            return in_runs(tag_bytes("bytes" if 0xC4 <= x[0] <= 0xC6 else "text"), links, [1] * len(links), 1)
        tag, children, is_map = items_of(x)
        items = []
        for y in children:
            is_atom = y[0] in (*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB)
            items.append(y if len(y) <= 512 or (is_atom and len(y) <= 2048) else ref(part(node(y))))
        if sum(map(len, items)) <= 2048:
            return x[: len(x) - sum(map(len, children))] + b"".join(items)
        if not is_map:
            return in_runs(tag, items, [1] * len(items), 1)
        pairs = [k + v for k, v in zip(items[::2], items[1::2], strict=True)]
        groups = grouped(pairs, 256, 1024, 4096)
        counts = [len(g) for g in groups]
        runs = [run(part(array_head(2 * len(g)) + b"".join(g)), len(g)) for g in groups]
        return in_runs(tag_bytes("map"), runs, counts, 1)

    return node(plain), parts


# Mostly what sizes are about: many items, long items, the edges of each limit.
word = st.sampled_from(
    [
        "",
        "a",
        "Ä\n",
        "x" * 31,
        "y" * 260,
        "line\n" * 50,
        "z" * 509,
        "b\n" * 1100,
        "w" * 2046,
        "q" * 8190,
        "long\n" * 2000,
        "u" * 40_000,
    ]
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), word, st.binary(max_size=9),
    st.sampled_from([b"", b"x" * 600, b"x" * 2100, b"x" * 9000, dt.date(2020, 2, 2), (1, "a"), 2**70, dt.UTC]),
    st.integers(0, 600).map(lambda n: [*range(n)]), st.integers(0, 90).map(lambda n: [f"{i} item" * 3 for i in range(n)]),
)  # fmt: skip


def grow(inner):
    return st.one_of(
        st.lists(inner, max_size=30), st.dictionaries(st.one_of(st.text(max_size=8), word), inner, max_size=20),
        st.lists(inner, max_size=8).map(tuple), st.dictionaries(st.integers(), inner, max_size=8),
        st.tuples(inner, st.integers(2, 60)).map(lambda x: [x[0]] * x[1]),
    )  # fmt: skip


values = st.recursive(leaves, grow, max_leaves=12)


def test_a_value_has_the_same_digest_alone_and_inside_of_another():
    held = {"k": {"a": ["x" * 50] * 14, "b": 1}, "m": "y" * 300}
    alone, _ = cut(encode(held).data)
    _, parts = cut(encode([held, "z" * 1500, ["q" * 100] * 30]).data)
    assert sha(alone) in dict(parts)


@often
@given(values)
def test_the_form_is_what_the_words_say_and_gives_the_value_back(value):
    plain = encode(value).data
    root, parts = cut(plain)
    assert (root, dict(parts)) == by_the_book(plain)
    assert join(root, dict(parts).__getitem__) == plain
    assert len(root) <= 2048 + 40 or root == plain[: len(root)]
    assert [sha(part) for _, part in parts] == [digest for digest, _ in parts]
    assert {link.digest for node in (root, *dict(parts).values()) for link in safely(node)} >= set(dict(parts))


def safely(node):
    try:
        return [*references(node)]
    except CorruptionError:  # a piece of a text
        return []


# ---- a session gives exactly that, whatever it has seen before --------------------------------------------------------


def edited(value, rng):
    """The value with something changed, put in, taken out or moved, in place."""
    if type(value) is dict and value:
        key = rng.choice([*value])
        what = rng.randrange(5)
        if what == 0:
            del value[key]
        elif what == 1:
            value[f"new {rng.random()}"] = rng.randrange(10**6)
        elif what == 2:
            value[key] = rng.choice([1.5, None, b"x", "t" * rng.randrange(3000), bytearray(b"x")])
        else:
            value[key] = edited(value[key], rng)
    elif type(value) is list and value:
        at = rng.randrange(len(value))
        what = rng.randrange(6)
        if what == 0:
            del value[at : at + rng.randrange(1, 4)]
        elif what == 1:
            value.insert(at, rng.choice([7, "s" * rng.randrange(3000), message(rng.randrange(99))]))
        elif what == 2:
            value.append(message(rng.randrange(999)))
        elif what == 3:
            value += value[at : at + 50]
        else:
            value[at] = edited(value[at], rng)
    elif type(value) is str:
        return value + rng.choice(["tail\n", "x"]) if rng.random() < 0.5 else value[len(value) // 3 :]
    elif type(value) is int:
        return value ^ 1
    return value


@settings(often, max_examples=30)
@given(values, st.integers(), st.booleans())
def test_a_session_gives_what_a_fresh_cut_gives(value, seed, confirms):
    rng = random.Random(seed)
    base = message(1, 9000)
    value = [
        value,
        [message(i) for i in range(rng.randrange(60))],
        {f"k{i}": i for i in range(rng.randrange(900))},
        base,
    ]
    value += ["".join(f"{i} line of a log\n" for i in range(rng.randrange(3000)))] * 2
    sharer, kept = Sharer(), {}
    for _ in range(8):
        now = copy.deepcopy(value) if rng.random() < 0.5 else value
        shared = sharer.encode(now)
        fresh = encode(now)
        root, parts = cut(fresh.data)
        assert shared.root == root
        assert (shared.digest, shared.kind, shared.size) == (sha(root), fresh.kind, len(fresh.data))
        given = dict(shared.parts)
        assert given.items() <= dict(parts).items()
        kept.update(given)
        assert set(dict(parts)) <= set(kept)
        if confirms and rng.random() < 0.7:
            assert not sharer.known & set(given)
            sharer.confirm(given)
        elif not confirms:
            assert given == dict(parts)
        value = edited(value, rng)


def test_parts_are_given_until_they_are_said_to_be_stored():
    sharer = Sharer()
    value = {"messages": [message(i) for i in range(300)], "text": "line of a log\n" * 5000, "raw": b"r" * 20_000}
    first = sharer.encode(value)
    assert dict(sharer.encode(value).parts) == dict(first.parts) == dict(cut(encode(value).data)[1])
    sharer.confirm(digest for digest, _ in first.parts)
    assert sharer.encode(value).parts == []
    assert Sharer().encode(value).parts == first.parts
    # What lies below a known part is known, and all else that is new is given.
    other = Sharer()
    messages = encode(value["messages"]).data
    other.confirm([sha(cut(messages)[0])])
    given = dict(other.encode(value).parts)
    assert given.keys().isdisjoint(dict(cut(messages)[1]))
    assert set(given) | set(dict(cut(messages)[1])) | {sha(cut(messages)[0])} == set(dict(first.parts))


def test_a_container_inside_has_the_digest_that_it_has_on_its_own():
    inner = [message(i) for i in range(9)]
    small = {"a": "x" * 600}
    inside = {
        link.digest
        for link in references(Sharer().encode({"inner": inner, "small": small, "t": ["y" * 3000] * 2}).root)
    }
    assert Sharer().encode(inner).digest in inside
    assert Sharer().encode(small).digest in inside
    assert Sharer().encode(inner[0]).digest in {link.digest for link in references(Sharer().encode(inner).root)}
    assert Sharer().encode(inner).digest[:8] in digests_within(Sharer().encode({"inner": inner, "t": ["y" * 3000]}))


# ---- what it costs --------------------------------------------------------------------------------------------------


def test_a_growing_history_stores_each_message_about_three_times_over_at_most():
    sharer, history, total, most = Sharer(), [], 0, 0
    for i in range(1000):
        history.append(message(i))
        shared = sharer.encode(history)
        sharer.confirm(digest for digest, _ in shared.parts)
        total += len(shared.root) + sum(len(part) + 32 for _, part in shared.parts)
        most = max(most, len(shared.parts))
        if i % 100 == 99:
            assert shared.root == cut(ormsgpack.packb(history))[0]
    assert total <= 3_200_000, total
    assert most <= 4


@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_message_changed_in_place_stores_little_again_and_is_noticed(place):
    sharer = Sharer()
    history = [message(i) for i in range(1000)]
    first = sharer.encode(history)
    sharer.confirm(digest for digest, _ in first.parts)
    history[place]["content"] = history[place]["content"].upper()
    second = sharer.encode(history)
    assert second.digest != first.digest
    assert second == Sharer().encode(history)._replace(parts=second.parts)
    assert len(second.root) + sum(len(part) for _, part in second.parts) <= 8192


def test_one_of_ten_thousand_keys_stores_little_again():
    sharer = Sharer()
    value = {f"key {i}": {"n": i, "text": f"value {i}"} for i in range(10_000)}
    sharer.confirm(digest for digest, _ in sharer.encode(value).parts)
    for change in (lambda: value["key 5000"].update(n=-1), lambda: value.pop("key 17"), lambda: value.update(new=1)):
        change()
        shared = sharer.encode(value)
        assert shared.root == cut(ormsgpack.packb(value))[0]
        assert len(shared.root) + sum(len(part) for _, part in shared.parts) <= 8192
        sharer.confirm(digest for digest, _ in shared.parts)


def test_a_log_that_grows_and_loses_its_beginning_shares_its_lines():
    sharer = Sharer()
    lines = [f"{i:06d} something happened at {i * 7919 % 1000}\n" for i in range(20_000)]
    sharer.confirm(digest for digest, _ in sharer.encode("".join(lines)).parts)
    for text in ("".join(lines) + "and one more\n", "".join(lines[100:]), "".join(lines) + "half a line"):
        shared = sharer.encode(text)
        assert shared.root == cut(ormsgpack.packb(text))[0]
        assert sum(len(part) for _, part in shared.parts) <= 40_000
        assert shared.kind == "text"


def test_a_million_numbers_and_a_hundred_thousand_dicts_are_a_few_thousand_parts():
    for value in ([*range(1_000_000)], [{"a": i, "b": "x" * 20} for i in range(100_000)]):
        sharer = Sharer()
        shared = sharer.encode(value)
        assert len(shared.parts) < 6000
        assert restored(shared) == ormsgpack.packb(value)
        sharer.confirm(digest for digest, _ in shared.parts)
        value[len(value) // 2] = -1
        assert len(sharer.encode(value).parts) <= 5


def nested(depth, around):
    value = "end"
    for i in range(depth):
        value = around(value, i)
    return value


@pytest.mark.parametrize(
    "around",
    [lambda x, i: [x] if i % 2 else {"a": x}, lambda x, i: (i, x, "y" * 30), lambda x, i: ["z" * 600, x]],
    ids=["narrow", "tuples", "wide"],
)
def test_twenty_thousand_levels_cost_neither_a_stack_nor_squares(around):
    took = []
    for depth in (4_900, 19_600):
        value, sharer = nested(depth, around), Sharer()
        began = time.process_time()
        shared = sharer.encode(value)
        plain = restored(shared)
        took.append(time.process_time() - began)
        assert cut(plain)[0] == shared.root
    sharer.confirm(digest for digest, _ in shared.parts)
    assert sharer.encode(value).parts == []
    assert took[1] < 4 * took[0] * 2.5 + 0.5  # four times as much, where squares would be sixteen times


def test_what_is_too_long_for_the_memory_is_cut_again_and_right(monkeypatch):
    monkeypatch.setattr(sharing, "_MEMORY", 50_000)
    sharer = Sharer()
    value = [message(i) for i in range(200)]
    root, parts = cut(ormsgpack.packb(value))
    for confirms in (False, False, True, True):
        shared = sharer.encode(value)
        assert shared.root == root
        assert dict(shared.parts) == ({} if sharer.known else dict(parts))
        if confirms:
            sharer.confirm(dict(parts))
        assert sharer._groups._size <= 50_000
        assert sharer._pending_size <= 50_000
        value.append(value.pop())


# ---- types that ormsgpack merges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 300, 3000])
@pytest.mark.parametrize("swap", [bytearray, memoryview], ids=["bytearray", "memoryview"])
def test_bytes_that_become_a_bytearray_in_place_are_noticed(size, swap):
    sharer = Sharer()
    value = [message(i) for i in range(60)] + [{"raw": b"r" * size, "at": 1.5}] + [message(i) for i in range(60)]
    first = sharer.encode(value)
    assert sharer.encode(value).digest == first.digest
    value[60]["raw"] = swap(b"r" * size)
    if swap is memoryview:  # which has no data form and no pickle
        with pytest.raises(UnrecordableValueError, match=r"output\[60\]\[\"raw\"\]"):
            sharer.encode(value)
        return
    second = sharer.encode(value)
    assert second.digest != first.digest
    assert second.root == cut(encode(value).data)[0]
    value[60]["raw"] = b"r" * size
    assert sharer.encode(value).digest == first.digest


def test_a_forged_extension_is_no_tag_even_among_real_ones():
    sharer = Sharer()
    real = [(i, message(i)) for i in range(40)]
    assert sharer.encode(real).kind == "data"
    forged = [*real[:20], [ormsgpack.Ext(1, b"tuple"), 20, message(20)], *real[21:]]
    assert ormsgpack.packb(forged[20]) == encode(real[20]).data
    with pytest.raises(UnrecordableValueError):
        sharer.encode(forged, otherwise="refuse")
    assert sharer.encode(real).root == cut(encode(real).data)[0]


def test_fragments_that_are_no_nodes_are_refused_or_pickled():
    for raw in (ormsgpack.packb(ormsgpack.Ext(2, b"r" * 32)), ormsgpack.packb(ormsgpack.Ext(5, b"r" * 3000))):
        value = [ormsgpack.Fragment(raw), *range(3000)]
        with pytest.raises(UnrecordableValueError):
            Sharer().encode(value, otherwise="refuse")


def interrupted(after, call, *args):
    """Whether `call` came to so many lines of the codecs, and was interrupted there."""
    left, before = after, sys.gettrace()

    def trace(frame, event, _):
        nonlocal left
        if "codecs" not in frame.f_code.co_filename:
            return None
        left -= event == "line"
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if left < 0 and not line.startswith("with "):  # where a signal never comes between a lock and its release
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call(*args)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(
    "value", ["\n".join(f"line {i} " * 9 for i in range(900)), [message(i) for i in range(30)]], ids=["text", "chat"]
)
def test_an_interrupt_at_any_line_leaves_nothing_behind_that_lacks_its_parts(value):
    plain, short = ormsgpack.packb(value), value[: len(value) // 20]
    after = reached = 0
    while True:
        sharer = Sharer()
        sharer.encode(short)
        reached = after
        if not interrupted(after, sharer.encode, value):
            break
        for again in (short, value, [value], value):
            shared = sharer.encode(again)
            assert restored(shared) == (plain if again is value else ormsgpack.packb(again))
        after += 7
    assert reached > 500


def test_long_bytes_are_cut_without_a_copy_and_to_the_same_root():
    data = random.Random(1).randbytes(9 << 20)
    sharer = Sharer()
    shared = sharer.encode(data)
    assert all(isinstance(piece.data, memoryview) for piece in shared.chunks)
    root, parts = cut(encode(data).data)
    assert (shared.root, shared.kind, shared.size) == (root, "bytes", len(data) + 5)
    assert {p.digest: bytes(p.data) for p in shared.chunks} | dict(shared.parts) == dict(parts)
    assert restored(shared) == encode(data).data
    assert sharer.encode([data]).kind == "data"


# ---- buffers ------------------------------------------------------------------------------------------------------------


class Shelf:
    """A source of what a session gave."""

    def __init__(self, *given):
        self.held = {}
        for shared in given:
            self.held |= dict(shared.parts) | {p.digest: bytes(p.data) for p in shared.chunks}

    def get(self, digest):
        return self.held[digest]

    def fill(self, pieces, into):
        at = 0
        for digest, size in pieces:
            into[at : at + size] = self.held[digest]
            at += size


@pytest.mark.parametrize("size", [0, 10, 2048, 2049, CHUNK, CHUNK + 1, 60 * CHUNK // 16])
def test_buffers_stand_apart_both_ways(monkeypatch, size):
    pixels = random.Random(size).randbytes(size)
    image = Nested(["test.image", Buffer(memoryview(pixels)), "x" * 40])
    monkeypatch.setitem(decoder._MAKERS, "test.image", lambda self, *items: items)
    sharer = Sharer()
    fast = sharer.encode([image, 1])
    by_hand = encoder.written([image, 1], "output", "refuse", sharer.chunker)
    assert by_hand.data == encoder.packed([image, 1], refer=False, chunker=sharer.chunker).data
    assert fast.root == cut(by_hand.data)[0]
    assert [p.digest for p in fast.chunks] == [p.digest for p in by_hand.pieces]
    assert b"".join(bytes(p.data) for p in fast.chunks) == (pixels if size > 2048 else b"")
    assert fast.size == len(by_hand.data) + (size if size > 2048 else 0)
    (pieces, extra), one = decode(fast.root, source=Shelf(fast), trusted=False)
    assert (Pieces.of(pieces).read(), extra, one) == (pixels, "x" * 40, 1)
    assert {link.digest for link in references(fast.root) if not link.is_node} == {p.digest for p in fast.chunks}
    to_json(by_hand.data)
    sharer.confirm(p.digest for p in fast.chunks)
    assert sharer.encode([image, 2]).chunks == []


def test_a_buffer_of_very_many_chunks_is_cut_into_runs():
    links = [chunk(sha(b"%d" % i), CHUNK) for i in range(300)]
    plain = array_head(2) + tag_bytes("tuple") + array_head(301) + tag_bytes("buffer") + b"".join(links)
    root, parts = cut(plain)
    assert (root, dict(parts)) == by_the_book(plain)
    assert join(root, dict(parts).__getitem__) == plain


def test_buffers_without_a_source_are_an_error_that_says_so():
    plain = array_head(2) + tag_bytes("buffer") + chunk(sha(b"x" * 4000), 4000)
    with pytest.raises(CorruptionError, match="nobody says where"):
        decode(plain, trusted=False)
    assert to_json(plain) == {"$buffer": {"bytes": 4000, "chunks": [sha(b"x" * 4000).hex()]}}
    for wrong in (
        chunk(sha(b"x"), 5),
        array_head(1) + chunk(sha(b"x"), 5),
        array_head(2) + tag_bytes("tuple") + chunk(sha(b"x"), 5),
    ):
        with pytest.raises(CorruptionError):
            to_json(wrong)


# ---- hostile parts --------------------------------------------------------------------------------------------------------

A, B = b"a" * 32, b"b" * 32
LEAF = array_head(3) + b"\x01\x02\x03"
LINES = b"line\n" * 2000


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        (array_head(1) + ref(A), {A: array_head(1) + ref(A)}),
        (array_head(1) + run(A, 3), {A: array_head(1) + run(A, 3)}),
        (array_head(1) + ref(A), {A: array_head(1) + ref(B), B: array_head(2) + ref(A) + b"\x01"}),
        (array_head(1) + run(A, 4), {A: LEAF}),
        (array_head(1) + run(A, 1 << 40), {A: LEAF}),
        (array_head(1) + run(A, 3), {A: array_head(3) + b"\x01"}),
        (array_head(1) + run(A, 3), {A: b"\xdd\xff\xff\xff\xff\x01"}),
        (array_head(1) + run(A, 3), {A: LEAF + b"\x01"}),
        (array_head(1) + run(A, 3), {A: b"\xc6\xff\xff\xff\xff"}),
        (array_head(1) + run(A, 3), {A: b""}),
        (array_head(1) + ref(A), {A: b"\xc1" + ref(B)}),
        (array_head(2) + run(A, 3) + b"\x01", {A: LEAF}),
        (array_head(2) + tag_bytes("map") + run(A, 1), {A: LEAF}),
        (array_head(2) + tag_bytes("map") + ref(A), {A: LEAF}),
        (array_head(1) + tag_bytes("map") + run(A, 1)[:0], {}),
        (b"\x82\xa1a" + ref(A) + run(A, 3) * 2, {A: LEAF}),
        (array_head(2) + tag_bytes("text") + chunk(A, len(LINES) + 1), {A: LINES}),
        (array_head(2) + tag_bytes("text") + chunk(A, 5), {A: b"short"}),
        (array_head(2) + tag_bytes("text") + ref(A), {A: LEAF}),
        (array_head(2) + tag_bytes("text") + run(A, 3), {A: LEAF}),
        (array_head(2) + tag_bytes("text") + b"\x01", {}),
        (array_head(2) + tag_bytes("text") + chunk(A, 10 << 30), {A: LINES}),
        (array_head(1) + b"\xc7\x1f\x02" + A[1:] + ref(A), {A: LEAF}),
        (array_head(1) + b"\xc7\x21\x03" + A + b"\x00", {A: LEAF}),
        (array_head(1) + b"\xc7\x22\x03" + A + b"\x00\x03", {A: LEAF}),
        (array_head(3) + ref(A), {A: LEAF}),
        (b"\xdd\xff\xff\xff\xff" + ref(A), {A: LEAF}),
        (ref(A), {A: LEAF}),
    ],
)  # fmt: skip
def test_parts_that_no_writer_wrote_are_damage(root, parts):
    with pytest.raises(CorruptionError):
        value = decode(root, source=type("Source", (), {"get": staticmethod(parts.__getitem__)})(), trusted=False)
        pytest.fail(f"read as {value!r:.80}")


def test_few_parts_that_say_to_be_very_many_bytes_are_refused_before_anything_is_made():
    parts, digest = {}, sha(LEAF)
    parts[digest] = LEAF
    for _ in range(60):
        node = array_head(2) + ref(digest) * 2
        digest = sha(node)
        parts[digest] = node
    with pytest.raises(CorruptionError, match="more than"):
        join(array_head(1) + ref(digest), parts.__getitem__)
    root, parts = cut(ormsgpack.packb(["word " * 500] * 100))
    with pytest.raises(CorruptionError, match="more than"):
        join(root, dict(parts).__getitem__, most=100_000)


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6))
def test_damage_anywhere_is_damage_or_another_value_and_never_anything_else(at, byte, which):
    value = {
        "m": [message(i) for i in range(30)],
        "t": "line\n" * 3000,
        "n": [*range(2000)],
        "d": {f"k{i}": i for i in range(500)},
    }
    root, parts = cut(ormsgpack.packb(value))
    nodes = [root, *(part for _, part in parts)]
    digests = [b"", *(digest for digest, _ in parts)]
    which %= len(nodes)
    broken = bytearray(nodes[which])
    broken[at % len(broken)] = byte
    held = dict(zip(digests, [*nodes[:which], bytes(broken), *nodes[which + 1 :]], strict=True))

    class Source:
        def get(self, digest):
            if digest not in held:
                raise CorruptionError("it is missing")
            return held[digest]

    try:
        decode(held[b""], source=Source(), trusted=False)
    except CorruptionError:
        pass


# ---- threads ----------------------------------------------------------------------------------------------------------------


def test_several_threads_may_ask_at_once():
    sharer = Sharer()
    wrong = []

    def work(seed):
        history = []
        for i in range(40):
            history.append(message(i, seed=seed % 2))
            shared = sharer.encode(history)
            sharer.confirm(digest for digest, _ in shared.parts)
            if shared.root != cut(ormsgpack.packb(history))[0]:
                wrong.append((seed, i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_floats_of_any_bits_and_numbers_at_the_edges_survive():
    value = [struct.unpack(">d", bytes([code]) * 8)[0] for code in range(0xC4, 0xD9)] * 200
    shared = Sharer().encode(value)
    assert restored(shared) == encode(value).data
