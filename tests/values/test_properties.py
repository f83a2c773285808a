# ruff: noqa: E501 - tables of values read best when they are dense
"""Over values of any shape: what comes back is what went in, and the two ways of writing agree."""

from __future__ import annotations

import collections
import datetime as dt
import pathlib
import struct
import zoneinfo

import numpy as np
import ormsgpack
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pydantic
from hypothesis import given, settings, strategies as st
from kinds import (
    Bits,
    Colour,
    Default,
    Defined,
    Frozen,
    Holder,
    Items,
    Model,
    Number,
    Old,
    Pairs,
    Point,
    Ratio,
    Slim,
    Text,
    Word,
)
from shelf import Shelf, digests_elsewhere as shared_elsewhere

from kitaru.codecs import cut, decode, encode, encoder, is_opaque, join, kind_of, to_json
from kitaru.errors import CodeNotFoundError, CorruptionError, UntrustedValueError
from kitaru.previews import preview
from kitaru.testing.codecs import digests_elsewhere

HERE = str(pathlib.Path(__file__).parent)
often = settings(max_examples=150)

any_text = st.text(st.characters(exclude_categories=()), max_size=5)
hashable = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False),
    any_text, st.binary(max_size=4), st.dates(), st.uuids(), st.decimals(allow_nan=False), st.fractions(),
    st.sampled_from([Colour.RED, Word.HI, Text("x"), Number(3), Bits.A, pathlib.PurePosixPath("/a"), Frozen(1), Slim("a"), (1, "a"), int]),
)  # fmt: skip
zones = st.sampled_from([None, dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(hours=5), "X")])
leaf = st.one_of(
    hashable, st.floats(), st.binary(max_size=3).map(bytearray), st.datetimes(timezones=zones), st.times(), st.timedeltas(),
    st.complex_numbers(), any_text.map(lambda s: s * 100),
    st.sampled_from([Ratio(-0.0), range(3), slice(1, 2), ..., ValueError("a", 1), OSError(2, "x", "f"), Holder[int]]),
)  # fmt: skip


def grow(inner):
    some = st.lists(inner, max_size=4)
    named = st.dictionaries(any_text, inner, max_size=4)
    return st.one_of(
        some, some.map(tuple), st.dictionaries(hashable, inner, max_size=4), named, st.sets(hashable, max_size=6),
        st.frozensets(hashable, max_size=6), named.map(Pairs), some.map(Items), named.map(collections.OrderedDict),
        some.map(collections.deque), named.map(lambda d: Default(list, d)), st.tuples(inner, inner).map(lambda x: Point(*x)),
        st.tuples(inner, inner).map(lambda x: Old(*x)), inner.map(Defined), inner.map(lambda x: Model(n=x, extra=x)),
        inner.map(lambda x: Model(sub=[Model(n=x)])), inner.map(lambda x: ValueError(x)),
    )  # fmt: skip


values = st.recursive(leaf, grow, max_leaves=20)


def strict(a):
    """An independent picture of a value: type, content, order; a set's order does not matter."""
    name = type(a).__module__ + "." + type(a).__qualname__
    if isinstance(a, float):
        return name, struct.pack(">d", a)
    if isinstance(a, complex):
        return name, struct.pack(">dd", a.real, a.imag)
    if isinstance(a, (set, frozenset)):
        return name, sorted(repr(strict(x)) for x in a)
    if isinstance(a, dict):
        return name, [(strict(k), strict(v)) for k, v in dict.items(a)], repr(getattr(a, "default_factory", None))
    if isinstance(a, (list, tuple, collections.deque)):
        return name, [strict(x) for x in a]
    if isinstance(a, pydantic.BaseModel):
        parts = strict(a.__dict__), strict(a.__pydantic_private__), strict(a.__pydantic_extra__)
        return name, *parts, sorted(a.__pydantic_fields_set__)
    if isinstance(a, (Point, Defined)):
        return name, strict(a.x), strict(getattr(a, "y", None))
    if isinstance(a, (Frozen, Slim)):
        return name, strict(a.x)
    if isinstance(a, BaseException):
        return name, strict(a.args), strict(a.__dict__)
    if isinstance(a, (dt.datetime, dt.time)):
        return name, a.isoformat(), a.fold, repr(a.tzinfo)
    return name, repr(a)


@often
@given(values)
def test_comes_back_and_both_ways_of_writing_agree(value):
    encoded = encode(value, otherwise="refuse")
    assert encoder._by_hand(value, "output", refer=False) == encoded.data
    back = decode(encoded.data, trusted=False)
    assert strict(back) == strict(value)
    assert encode(back, otherwise="refuse") == encoded
    assert encode(value, otherwise="refer") == encoded
    to_json(encoded.data)


@often
@given(values, values)
def test_digests_are_equal_exactly_where_values_are(a, b):
    assert (encode(a).digest == encode(b).digest) == (strict(a) == strict(b))


@settings(max_examples=1)
@given(st.lists(values, min_size=100, max_size=200))
def test_digests_are_equal_in_other_processes(batch):
    encoded = [encode(value, otherwise="refuse") for value in batch]
    for seed in (0, 77):
        assert [d for d, _ in digests_elsewhere([e.data for e in encoded], paths=[HERE], seed=seed)] == [
            e.digest.hex() for e in encoded
        ]


# ---- with arrays and frames among them, in their shared form ----------------------------------------------------

arrays = st.one_of(
    st.lists(st.floats(width=32), max_size=6).map(lambda x: np.array(x, "f4")),
    st.integers(0, 9_000).map(lambda n: np.arange(n)),
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda s: np.asfortranarray(np.arange(s[0] * s[1], dtype=">i2").reshape(s))),
    st.lists(st.text("abé\0", max_size=4), max_size=4).map(lambda x: np.array(x, "U4")),
    st.lists(st.datetimes(), max_size=4).map(lambda x: np.array(x, "M8[us]")),
    st.lists(st.tuples(st.integers(0, 9), st.floats()), max_size=4).map(lambda x: np.array(x, [("a", "u1"), ("b", "<f8")])),
    st.integers(-9, 9).map(np.int16), st.floats().map(np.float64), st.sampled_from([np.dtype(">c8"), np.ma.masked, np.zeros((3, 0))]),
)  # fmt: skip
columns = st.lists(
    st.one_of(st.none(), st.text(max_size=3), st.integers(-3, 3), st.just(pd.NA), st.just(pd.NaT)),
    min_size=3,
    max_size=3,
)
frames = st.one_of(
    columns.map(lambda x: pd.DataFrame({"a": pd.Series(x, dtype=object), "b": [1, 2, 3]})),
    st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=4).map(lambda x: pd.array(x, dtype="Int16")),
    st.lists(st.sampled_from("abc"), max_size=5).map(lambda x: pd.Series(pd.Categorical(x, categories=list("cba")), name=("n", 1))),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=4).map(lambda x: pa.array(x, pa.string())),
    st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)), max_size=4).map(lambda x: pa.table({"l": pa.array(x, pa.list_(pa.int8()))})),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=4).map(lambda x: pl.DataFrame({"t": pl.Series(x, dtype=pl.String)})),
    st.integers(0, 500).map(lambda n: pd.date_range("2026-01-01", periods=n, freq="D", tz=dt.UTC)),
    st.binary(min_size=12, max_size=12).map(lambda b: PIL.Image.frombytes("RGB", (2, 2), b)),
)  # fmt: skip
long = st.one_of(
    st.tuples(any_text, st.integers(0, 3_000)).map(lambda x: x[0] * x[1]), st.integers(0, 12_000).map(lambda n: b"\xc1a" * n),
    st.integers(0, 3_000).map(lambda n: [*range(n)]), st.integers(0, 900).map(lambda n: {f"k{i}": (i,) for i in range(n)}),
    st.integers(0, 60).map(lambda n: {(i,): "line\n" * i * n for i in range(n)}),
)  # fmt: skip
everything = st.recursive(st.one_of(leaf, leaf, arrays, frames, long), grow, max_leaves=12)
seldom = settings(often, max_examples=60)


@seldom
@given(everything)
def test_shares_its_parts_and_comes_back(value):
    shelf = Shelf()
    kept = shelf.keep(value)
    back = shelf.give(kept.root)
    assert type(back) is type(value)
    assert Shelf().keep(back) == kept
    assert shelf.keep(value) == kept, "what a session knows changes no digest"
    plain = join(kept.root, shelf.get)
    assert cut(plain)[0] == kept.root
    to_json(plain)


@seldom
@given(st.lists(everything, min_size=2, max_size=4))
def test_what_stands_in_another_value_costs_nothing_again(parts):
    shelf = Shelf()
    for part in parts:
        shelf.keep(part)
        shelf.sharer.confirm(shelf.held)
    before = shelf.size
    kept = shelf.keep(parts)
    assert Shelf().keep(shelf.give(kept.root)) == kept
    assert shelf.size - before <= 40_000 + sum(
        len(shelf.plain(part)) for part in parts if len(shelf.plain(part)) <= 2_048
    )


@settings(max_examples=1)
@given(st.lists(everything, min_size=60, max_size=100))
def test_shared_digests_are_equal_in_other_processes(batch):
    for seed in (0, 77):
        there, here = shared_elsewhere(batch, seed)
        assert there == here


@often
@given(values)
def test_previews_are_bounded_and_printable(value):
    glimpse = preview(value)
    assert len(ormsgpack.packb(glimpse)) <= 500
    assert glimpse["text"].isprintable()


@settings(max_examples=400)
@given(values, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_never_raise_anything_else(value, changes):
    data = bytearray(encode(value).data)
    for at, byte in changes:
        data[at % len(data)] = byte
    try_to_read(bytes(data))


@settings(max_examples=400)
@given(st.binary(max_size=60))
def test_bytes_from_nowhere_never_raise_anything_else(data):
    try_to_read(data)


def try_to_read(data):
    for read in (lambda d: decode(d, trusted=False), to_json, is_opaque, kind_of):
        try:
            read(data)
        except (CorruptionError, CodeNotFoundError, UntrustedValueError):
            continue
