"""Records: to plain data and back, and what a reader of another version does."""

from __future__ import annotations

import ormsgpack
import pytest
from hypothesis import given, strategies as st

from kitaru.errors import CorruptionError
from kitaru.records import (
    NOWHERE,
    Begun,
    Claim,
    Ended,
    FlowEnded,
    Logged,
    Release,
    Reused,
    Saved,
    Started,
    Value,
    from_wire,
    to_wire,
)

HERE = "audit-7"
texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
times = st.floats(0, 4e9)
digests = st.binary(min_size=32, max_size=32)
ids = st.tuples(st.sampled_from([HERE, "other-1"]), st.integers(1, 1000))
plain = st.dictionaries(texts, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts, max_size=3)
failures = st.fixed_dictionaries({"type": texts, "message": texts})


@st.composite
def values(draw):
    kind = draw(st.sampled_from(["data", "text", "bytes", "pickle", "reference"]))
    named = draw(digests), draw(st.integers(0, 2**40)), kind, draw(plain)
    if draw(st.booleans()):  # an earlier record holds it
        return Value(*named)
    parts = draw(st.lists(st.binary(max_size=8), max_size=3).map(tuple))
    blobs = draw(st.lists(st.tuples(digests, st.integers(0, 2**40)), max_size=3).map(tuple))
    bundle = draw(st.just(b"") | digests)
    within = draw(st.binary(max_size=16)) if bundle else b""
    return Value(*named, draw(st.binary(max_size=8)), parts, blobs, bundle, within)


arguments = st.lists(st.tuples(texts, values()), max_size=3).map(tuple)


@st.composite
def started(draw):
    held = draw(arguments)
    return Started(
        draw(ids),
        draw(st.none() | ids),
        draw(texts),
        draw(st.none() | st.integers(1, 99)),
        tuple((name, value.digest) for name, value in held),
        draw(digests),
        draw(st.just(NOWHERE) | ids),
        draw(st.booleans()),
        draw(st.none() | arguments),
        draw(st.none() | ids),
        draw(st.lists(ids, max_size=2).map(tuple)),
        held,
        draw(digests),
        draw(st.none() | st.dictionaries(texts, texts, max_size=2)),
        draw(st.none() | texts),
        draw(st.none() | texts),
        draw(st.integers(1, 9)),
        draw(times),
    )


@st.composite
def endings(draw):
    ok = draw(st.booleans())
    because = () if ok else tuple(draw(st.lists(ids, max_size=2)))
    value = draw(arguments) if ok else draw(failures)
    kind = draw(st.sampled_from(["ended", "reused", "flow"]))
    if kind == "ended":
        return Ended(draw(ids), ok, value, because, draw(times), draw(times), not ok and draw(st.booleans()))
    if kind == "reused":
        return Reused(draw(started()), ok, value, draw(times))
    return FlowEnded(ok, because, value, draw(times))


others = st.one_of(
    st.builds(Saved, st.none() | ids, texts, st.integers(1, 9), values(), st.none() | texts, times),
    st.builds(Logged, st.none() | ids, st.integers(1, 9), plain, times),
    st.builds(Claim, plain, times, times, st.booleans()),
    st.builds(Release, texts, texts, times),
    st.builds(
        Begun,
        texts,
        arguments,
        texts,
        texts,
        st.none() | texts,
        digests,
        st.dictionaries(texts, texts, max_size=2),
        st.none() | texts,
        times,
        st.dictionaries(texts, texts, max_size=2),
        plain,
    ),
)
records = st.one_of(started(), endings(), others)


@given(records)
def test_every_record_comes_back_from_its_bytes(record):
    wire = to_wire(record, HERE)
    assert next(iter(wire)) == "kind"
    again = ormsgpack.unpackb(ormsgpack.packb(wire), option=ormsgpack.OPT_NON_STR_KEYS)
    assert from_wire(again, HERE) == record


@given(records)
def test_keys_of_a_later_version_are_skipped(record):
    assert from_wire({**to_wire(record, HERE), "a later version's": 1}, HERE) == record


def test_a_kind_of_a_later_version_is_skipped():
    assert from_wire({"kind": "waited", "id": 3}, HERE) is None


@given(records, st.data())
def test_a_record_that_lacks_what_it_must_have_is_corrupt_or_whole(record, data):
    wire = to_wire(record, HERE)
    key = data.draw(st.sampled_from([k for k in wire if k != "kind"]))
    del wire[key]
    try:
        from_wire(wire, HERE)  # some keys may be left out
    except CorruptionError:
        pass  # and no other exception comes out


@pytest.mark.parametrize(
    "wire", [{}, {"kind": "ended"}, {"kind": "started", "id": "x"}, {"kind": "begun", "arguments": 7}, 7, None, []]
)
def test_what_is_no_record_is_corrupt(wire):
    with pytest.raises(CorruptionError, match=r"a record of audit-7 is not what any version wrote"):
        from_wire(wire, HERE)


def test_ids_of_the_same_execution_are_written_as_numbers():
    wire = to_wire(Ended((HERE, 7), True, (), ()), HERE)
    assert wire["id"] == 7
    assert to_wire(Ended(("other-1", 7), True, (), ()), HERE)["id"] == ["other-1", 7]
