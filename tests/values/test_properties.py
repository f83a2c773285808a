# ruff: noqa: E501 - tables of values read best when they are dense
"""Over values of any shape: what comes back is what went in, and the two ways of writing agree."""

from __future__ import annotations

import collections
import datetime as dt
import pathlib
import struct
import zoneinfo

import ormsgpack
import pydantic
from hypothesis import HealthCheck, given, settings, strategies as st
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

from kitaru.codecs import decode, encode, encoder, is_opaque, kind_of, to_json
from kitaru.errors import CodeNotFoundError, CorruptionError, UntrustedValueError
from kitaru.previews import preview
from kitaru.testing.codecs import digests_elsewhere

HERE = str(pathlib.Path(__file__).parent)
often = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))

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


@settings(max_examples=1, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(values, min_size=100, max_size=200))
def test_digests_are_equal_in_other_processes(batch):
    encoded = [encode(value, otherwise="refuse") for value in batch]
    for seed in (0, 77):
        assert [d for d, _ in digests_elsewhere([e.data for e in encoded], paths=[HERE], seed=seed)] == [
            e.digest.hex() for e in encoded
        ]


@often
@given(values)
def test_previews_are_bounded_and_printable(value):
    glimpse = preview(value)
    assert len(ormsgpack.packb(glimpse)) <= 500
    assert glimpse["text"].isprintable()


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(values, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_never_raise_anything_else(value, changes):
    data = bytearray(encode(value).data)
    for at, byte in changes:
        data[at % len(data)] = byte
    try_to_read(bytes(data))


@settings(max_examples=400, deadline=None, database=None)
@given(st.binary(max_size=60))
def test_bytes_from_nowhere_never_raise_anything_else(data):
    try_to_read(data)


def try_to_read(data):
    for read in (lambda d: decode(d, trusted=False), to_json, is_opaque, kind_of):
        try:
            read(data)
        except (CorruptionError, CodeNotFoundError, UntrustedValueError):
            continue
