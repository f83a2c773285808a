# ruff: noqa: E501 - tables of values read best when they are dense
from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from shelf import Shelf, digest, digests_elsewhere

from kitaru.codecs import Sharer, arrays, cut, decode, libraries
from kitaru.codecs.buffers import CHUNK, SMALL, Chunker, Pieces
from kitaru.codecs.node import array_head, tag_bytes
from kitaru.errors import CodeNotFoundError, CorruptionError, KitaruError, UsageError

StringDType = np.dtypes.StringDType


def there_and_back(value):
    """What comes back, from another shelf."""
    shelf = Shelf()
    kept = shelf.keep(value)
    assert kept.kind == "data"
    return shelf.give(kept.root)


class Chunks(dict):
    """Chunks by their digest: a source that counts the bytes which it is asked for."""

    fetched = 0

    def get(self, name):
        self.fetched += len(self[name])
        return self[name]

    def fill(self, pieces, into):
        at = 0
        for name, length in pieces:
            into[at : at + length] = self.get(name)
            at += length


def assert_same(a, b):
    """Equal in all that counts: type, dtype, shape, order, and bytes."""
    assert type(a) is type(b)
    if isinstance(a, np.dtype):
        assert a == b
        assert (a.type, a.isalignedstruct) == (b.type, b.isalignedstruct)
        return
    if a is np.ma.masked:
        assert b is a
        return
    assert a.dtype == b.dtype
    assert a.dtype.type is b.dtype.type
    assert a.shape == b.shape
    if isinstance(a, np.ma.MaskedArray):
        assert (a._mask is np.ma.nomask) == (b._mask is np.ma.nomask)
        assert (a.tolist(), a.mask.tolist(), a.hardmask) == (b.tolist(), b.mask.tolist(), b.hardmask)
        assert repr(a.fill_value) == repr(b.fill_value)
    elif isinstance(a, np.ndarray):
        assert a.flags.fnc == b.flags.fnc
        if a.dtype.hasobject:
            assert repr(a.tolist()) == repr(b.tolist())
        elif a.dtype.names or a.dtype.char in "gG":
            assert repr(a) == repr(b)
        else:
            assert a.tobytes() == b.tobytes()
    else:
        assert repr(a) == repr(b)


ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), ("c", [("x", ">i2"), ("y", "g")], (2,))], align=True)
SPREAD = np.dtype(
    {"names": ["p", "q"], "formats": ["<i4", "S3"], "offsets": [4, 0], "titles": ["Title", None], "itemsize": 12}
)
UNION = np.dtype({"names": ["all", "low"], "formats": ["<i4", "<i2"], "offsets": [0, 0]})
OBJECTS = np.dtype([("a", "O"), ("b", "M8[ns]"), ("c", [("d", "O"), ("e", "f4", (2,))])])


def filled(dtype, shape=(3,), order="C", **fields):
    made = np.zeros(shape, dtype, order=order)
    for name, value in fields.items():
        made[name] = value
    return made


def objects(order="C"):
    made = np.empty((2, 2), object, order=order)
    made[0, 0], made[0, 1], made[1, 0] = [1, (2,)], np.arange(3), {"a": {1}}
    return made


def records(order="C"):
    made = filled(OBJECTS, (2, 2), order, b=5)
    made["a"][0, 0], made["c"]["d"][1, 1] = "x", [1]
    return made


def noise(*shape):
    return np.random.default_rng(1).random(shape)


ARRAYS = [
    np.arange(5), np.arange(5, dtype=">i8"), np.arange(5, dtype="i4"), np.arange(5, dtype="u8"), np.array(5), np.array([5]), np.array([[5]]),
    np.array([True, False]), np.array([1, 0], "i1"), np.array([1.5, -2], "e"), np.array([1.5, -2], "f"), np.array([1.5, -2], "g"),
    np.array([1.5, -2], np.dtype("g").newbyteorder()), np.array([1.5 + 2j]), np.array([1.5 + 2j], "F"), np.array([1.5 + 2j], "G"),
    np.array([0.0]), np.array([-0.0]), np.array([np.nan]), np.frombuffer(b"\1\0\0\0\0\0\xf8\x7f", "<f8"),
    np.array(["2020", "NaT"], "M8[D]"), np.array(["2020", "NaT"], "M8[ns]"), np.array(["NaT"], "M8"), np.array([5], "M8[25s]"), np.array([5], "m8[s]"),
    np.array(["a", "bc"]), np.array(["a", "bc"], ">U2"), np.array(["a", "bc"], "U3"), np.array([b"a\0", b""]), np.array(["\ud800"]), np.frombuffer(b"abcdef", "V3"),
    np.empty((0, 5)), np.empty((5, 0)), np.empty(0, "f4"), np.zeros((3, 0), "U3"), np.ndarray((3,), "S0"), np.ndarray((3,), "U0"), np.ndarray((2,), "V0"), np.empty(3, np.dtype([])),
    np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2), np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    filled(ALIGNED, a=1, b=2, c=(3, 4.5)), filled(np.dtype([(name, ALIGNED[name]) for name in "abc"]), a=1, b=2, c=(3, 4.5)), filled(SPREAD, p=1, q=b"x"), filled(UNION, all=99999),
    objects(), objects("F"), np.array(None, object), np.array([None, None], object), records(), records("F"), np.array([(1,)], [("a", "O")]),
    np.array([["a", "b\0c", "é"]], StringDType()), np.array(["a", None], StringDType(na_object=None)), np.array(["a", np.nan], StringDType(na_object=np.nan, coerce=False)),
    np.array([["a", "b"], ["c", "d"], ["e", "f" * 3000]], StringDType(), order="F"), np.empty((0, 2), StringDType()),
    np.array([[1, 2], [3, 4]]).view(np.matrix), np.rec.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")]), np.rec.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")]).view(np.ndarray), np.arange(3).view(np.recarray),
    noise(100, 30), np.asfortranarray(noise(100, 30)), noise(1100, 1000), np.asfortranarray(noise(1100, 1000)),
]  # fmt: skip
MASKED = [
    np.ma.array([1, 2]), np.ma.array([1, 2], mask=[0, 0]), np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 1], hard_mask=True), np.ma.array([1, 2], mask=[0, 1], fill_value=7),
    np.ma.array(np.asfortranarray(np.arange(6.0).reshape(2, 3)), mask=[[0, 1, 0], [0, 0, 1]]), np.ma.array(5, mask=True), np.ma.array(["a", "b"], mask=[0, 1]), np.ma.masked,
    np.ma.array([(1, 2.0), (3, 4.0)], mask=[(0, 1), (1, 0)], dtype=[("a", "i4"), ("b", "f8")]), np.ma.array([1, [2]], dtype=object, mask=[1, 0]), np.ma.array(np.zeros(3, ">i4"), mask=[0, 0, 1]),
    np.ma.array(np.array(["NaT", "2020"], "M8[D]"), mask=[0, 1]),
]  # fmt: skip
SCALARS = [
    np.float64(1.5), np.float32(1.5), np.float16(1.5), np.longdouble(1.5), np.complex64(1.5), np.clongdouble(1 + 2j), np.bool_(True), np.int8(1), np.uint8(1), np.int64(1), np.float64(-0.0), np.float64(0.0),
    np.datetime64("NaT"), np.datetime64(5, "ns"), np.datetime64(5, "s"), np.timedelta64(3, "D"), np.str_("a"), np.str_("a\0"), np.str_(""), np.str_("\ud800"), np.bytes_(b"a"), np.bytes_(b"a\0"), np.void(b"abc"), np.void(b""),
    filled(ALIGNED, a=1, b=2, c=(3, 4.5))[0], filled(SPREAD, p=1)[0], np.rec.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")])[0], 1.5, 1, True, "a", b"a",
]  # fmt: skip
DTYPES = [
    *(np.dtype(name) for name in ["f8", ">f8", "f4", "g", "G", "?", "S", "S3", "U3", "V3", "O", "M8", "M8[ns]", "m8[25s]", "i4"]), ALIGNED, SPREAD, UNION, OBJECTS, np.dtype((np.record, SPREAD)), np.dtype(("i4", (2, 3))),
    np.dtype([("a", ALIGNED, (2,))]), np.dtype([]), StringDType(), StringDType(coerce=False), StringDType(na_object=None), StringDType(na_object="x"),
]  # fmt: skip
VALUES = [*ARRAYS, *MASKED, *SCALARS, *DTYPES]


# ---- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [value for value in VALUES if not isinstance(value, (int, float, str, bytes)) or isinstance(value, np.generic)],
    ids=lambda v: f"{type(v).__name__}-{v!r:.40}",
)
def test_comes_back_equal_with_one_spelling(value):
    back = there_and_back(value)
    assert_same(back, value)
    assert digest(back) == digest(value)
    assert_same(there_and_back({"deep": (value,)})["deep"][0], value)


def test_different_values_have_different_digests():
    seen = collections.defaultdict(list)
    for value in VALUES:
        seen[digest(value)].append(value)
    assert [same for same in seen.values() if len(same) > 1] == []


class Own(np.void):
    pass


@pytest.mark.parametrize("before", [False, True])
def test_a_second_name_for_the_same_numbers_counts_the_same_whatever_was_recorded_before(before):
    arrays._text_of.cache_clear()
    if before:
        digest(np.arange(3)), digest(np.zeros(2, "V8"))
    same = np.arange(3, dtype="q"), np.array([(1,)], [("n", "q")]), np.longlong(1), np.ulonglong(1)
    for value in same:
        assert there_and_back(value).tolist() == value.tolist()
    assert digest(same[0]) == digest(np.arange(3))
    with pytest.raises(KitaruError):  # a void of a class of one's own is none of NumPy's
        digest(np.zeros(2, np.dtype((Own, "V8"))))


def in_order(array, order):
    return np.asfortranarray(array) if order == "F" else np.ascontiguousarray(array) if array.ndim else array


plain_dtypes = st.one_of(
    hnp.scalar_dtypes(), hnp.byte_string_dtypes(endianness="?"), hnp.unicode_string_dtypes(endianness="?"), st.just(np.dtype("g")), st.just(np.dtype("G"))
)  # fmt: skip
dtypes = st.one_of(plain_dtypes, hnp.array_dtypes(plain_dtypes), hnp.nested_dtypes(plain_dtypes))
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
drawn = st.builds(in_order, dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes)), st.sampled_from("CF"))


@settings(max_examples=150)
@given(drawn)
def test_any_array_comes_back(array):
    back = there_and_back(array)
    assert_same(back, array)
    assert digest(back) == digest(array)
    assert back.flags.writeable


small = st.builds(
    in_order,
    st.sampled_from(["i1", "u1", "?", "<i2", ">i2", "e"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=2, max_side=2), elements=st.sampled_from([0, 1]))
    ),
    st.sampled_from("CF"),
)


@settings(max_examples=300)
@given(small, small)
def test_digests_are_equal_for_equal_arrays_alone(a, b):
    equal = (a.dtype, a.shape, a.tobytes(), a.flags.fnc) == (b.dtype, b.shape, b.tobytes(), b.flags.fnc)
    assert (digest(a) == digest(b)) == equal


@pytest.mark.parametrize("seed", [0, 4242])
def test_another_process_with_another_hash_seed_reads_and_writes_the_same(seed):
    there, here = digests_elsewhere(VALUES, seed)
    assert there == here


# ---- what does not count --------------------------------------------------------------------------------------------


def test_strides_views_and_flags_do_not_count():
    array = np.arange(60.0).reshape(3, 4, 5)
    for view in [
        array[::-1],
        array[:, ::2],
        array.transpose(1, 0, 2),
        np.broadcast_to(array[0], (2, 4, 5)),
        array[..., 0],
    ]:
        assert digest(view) == digest(np.ascontiguousarray(view))
    frozen = array.copy()
    frozen.flags.writeable = False
    assert digest(frozen) == digest(array)


def test_a_memory_map_is_its_content(tmp_path):
    mapped = np.memmap(tmp_path / "m", "<f8", "w+", shape=(40, 50))
    mapped[:] = noise(40, 50)
    back = there_and_back(mapped)
    assert type(back) is np.ndarray
    assert np.array_equal(back, mapped)
    assert digest(mapped) == digest(np.array(mapped))


@pytest.mark.parametrize(
    "dtype",
    [
        ALIGNED,
        SPREAD,
        np.dtype("g"),
        np.dtype("G"),
        np.dtype("g").newbyteorder(),
        np.dtype([("a", "G", (2, 2)), ("b", ">g")]),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_padding_is_zero(dtype, order):
    clean, dirty = np.zeros((3, 2), dtype, order=order), np.zeros((3, 2), dtype, order=order)
    np.ravel(dirty, "K").view(np.uint8).reshape(-1, dtype.itemsize)[:, arrays._padding(dtype)] = 255
    assert np.ravel(dirty, "K").tobytes() != np.ravel(clean, "K").tobytes()
    assert repr(clean) == repr(dirty)
    assert digest(clean) == digest(dirty)
    assert digest(clean[0, 0]) == digest(dirty[0, 0])
    assert np.ravel(dirty, "K").view(np.uint8).any(), "the user's own array was changed"


def test_what_is_under_a_mask_does_not_count():
    a, b = np.ma.array([1, 2, 3], mask=[0, 1, 0]), np.ma.array([1, 99, 3], mask=[0, 1, 0])
    assert digest(a) == digest(b)
    assert b.data[1] == 99
    assert digest(a) != digest(np.ma.array([1, 2, 3], mask=[0, 0, 0]))


@pytest.mark.parametrize(
    "dtype",
    [
        "f8",
        ">f8",
        "i4",
        "U3",
        "S2",
        "M8[ns]",
        "M8",
        "c16",
        "?",
        "g",
        "O",
        StringDType(),
        [("a", "i4"), ("b", "U2"), ("c", "g")],
    ],
    ids=str,
)
def test_looking_at_a_masked_array_changes_nothing(dtype):
    array = np.ma.array(np.zeros(2, dtype))
    before = digest(array)
    assert array.fill_value is not None
    assert array._fill_value is not None
    assert digest(array) == before


def test_metadata_of_a_dtype_does_not_count():
    assert digest(np.zeros(2, np.dtype("i4", metadata={"a": 1}))) == digest(np.zeros(2, "i4"))


# ---- what has no data form ------------------------------------------------------------------------------------------


class Angles(np.ndarray):
    pass


def with_attribute(value, **held):
    value.__dict__.update(held)
    return value


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3).view(Angles), np.random.default_rng(1), np.add, with_attribute(np.array([[1]]).view(np.matrix), mine=1),
        with_attribute(np.ma.array([1]), mine=1), np.ma.array(np.array([[1]]).view(np.matrix)), np.dtype(("i4", [("a", "i2"), ("b", "i2")])),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_data_cannot_say_is_pickled_as_before(value):
    shared = Sharer().encode(value)
    assert shared.kind == "pickle"
    assert type(decode(shared.root, trusted=True)) is type(value)


@pytest.mark.parametrize(
    "value",
    [np.arange(3), noise(100, 100), np.float64(1), objects(), np.ma.array([1], mask=[1]), np.dtype("f8")],
    ids=lambda v: type(v).__name__,
)
def test_an_argument_counts_by_its_data(value):
    shared = Sharer().encode([value], otherwise="refer")
    assert (shared.kind, shared.digest) == ("data", digest([value]))


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("array", "place"),
    [
        (np.array([1, LOCK], object), "[1]"),
        (np.array([[1, 2, LOCK], [4, 5, 6]], object), "[0, 2]"),
        (np.asfortranarray(np.array([[1, 2, LOCK], [4, 5, 6]], object)), "[0, 2]"),
        (np.array(LOCK, object), "[()]"),
        (np.array([(1, LOCK)], [("a", int), ("o", object)]), '["o"][0]'),
    ],
)
def test_the_place_of_what_cannot_be_recorded_is_its_index(array, place):
    with pytest.raises(KitaruError, match=re.escape(f'output["x"]{place} is a _thread:lock')):
        Shelf().keep({"x": array})


def test_an_array_that_holds_itself_is_refused():
    array = np.empty(1, object)
    array[0] = [array]
    with pytest.raises(KitaruError, match="refers to itself"):
        Shelf().keep(array)


def test_an_array_that_claims_more_than_memory_is_refused():
    with pytest.raises(KitaruError):
        Sharer().encode(np.broadcast_to(np.float64(1), (1 << 20, 1 << 20, 1 << 10)))


# ---- what no writer wrote -------------------------------------------------------------------------------------------

DEEP = "<f8"
for _ in range(100):
    DEEP = ["subarray", DEEP, [1]]

HOSTILE = [
    ["<f8", [10**10], "C", b"x" * 16], ["<f8", [-1], "C", b""], ["<f8", [-1, -2], "C", b"x" * 16], ["<f8", [True], "C", b"x" * 8], ["<f8", [1.0], "C", b"x" * 8],
    ["<f8", [2**62, 2**62, 0], "C", b""], ["<f8", [1] * 65, "C", b"x" * 8], ["<f8", 1, "C", b"x" * 8], ["<f8", [2], "F", b"x" * 16], ["<f8", [1], "K", b"x" * 8], ["<f8", [1], None, b"x" * 8],
    ["|O", [10**10], "C", [1]], ["|O", [2], "C", [1]], ["|O", [1], "C", b"x" * 8], ["O", [1], "C", [1]], ["object", [1], "C", [1]], ["f8", [1], "C", b"x" * 8], ["float64", [1], "C", b"x" * 8],
    ["=f8", [1], "C", b"x" * 8], ["<V8", [1], "C", b"x" * 8], ["i4,i4", [1], "C", b"x" * 8], ["(2,)i4", [1], "C", b"x" * 8], ["<M8[foo]", [1], "C", b"x" * 8], ["<M8[1ns]", [1], "C", b"x" * 8], ["<f3", [1], "C", b"xxx"],
    ["<U99999999999999", [0], "C", b""], ["<U2147483648", [0], "C", b""], ["", [0], "C", b""], [None, [0], "C", b""], [{}, [1], "C", b""], [[], [1], "C", b""], [["nothing"], [1], "C", b""], [DEEP, [1], "C", b"x" * 8],
    [["struct", 8, False, [["a", "<f8", 4]]], [1], "C", b"x" * 8], [["struct", 8, False, [["a", "<i4", 0], ["a", "<i4", 4]]], [1], "C", b"x" * 8], [["struct", 2**40, False, [["a", "<i4", 0]]], [0], "C", b""],
    [["struct", 8, False, [["a", "<i4", -4]]], [1], "C", b"x" * 8], [["struct", 8, False, [["a", "<i4", 0]]], [1], "C", b"x" * 8], [["struct", 8, 1, [["a", "<f8", 0]]], [1], "C", b"x" * 8], [["struct", 8, True, [["a", "<i4", 2]]], [1], "C", bytes(8)],
    [["struct", 8, False, [["a", "|O", 0]]], [10**9], "C", [np.zeros(1000, object)]], [["struct", 8, False, [["a", "|O", 0]]], [1], "C", [np.zeros(1)]], [["struct", 8, False, [["a", "|O", 0]]], [1], "C", []],
    [["struct", 1 << 30, False, [["a", "|O", 0]]], [1 << 10], "C", [np.zeros(1 << 10, object)]], [["struct", 4, False, [["a", ["subarray", "<i4", [2**31]], 0]]], [0], "C", b""], [["subarray", "<f8", [2]], [1], "C", b"x" * 16],
    [["string", True, []], [1], "C", [b"x"]], [["string", True, []], [1], "C", [None]], [["string", 1, []], [0], "C", []], [["string", True, [None, None]], [0], "C", []],
    ["<f8", [1], "C", "x" * 8], ["<f8", [1], "C", None], ["<f8", [1], "C", [1.0]], ["<f8", [1], "C"], ["<f8"], [],
]  # fmt: skip


@pytest.mark.parametrize("items", HOSTILE, ids=lambda items: f"{items!r:.60}")
def test_what_no_writer_wrote_is_refused_before_room_is_made(items):
    tracer = __import__("tracemalloc")
    tracer.start()
    try:
        with pytest.raises(CorruptionError):
            give(tagged("numpy.ndarray", *items))
        assert tracer.get_traced_memory()[1] < 20_000_000
    finally:
        tracer.stop()


def tagged(tag, *items):
    """The node of a tagged array, of any items."""
    shelf = Shelf()
    return array_head(len(items) + 1) + tag_bytes(tag) + b"".join(map(shelf.plain, items))


def give(node):
    """The value of a plain node."""
    shelf = Shelf()
    root, parts = cut(node)
    shelf.held.update(parts)
    return shelf.give(root)


@pytest.mark.parametrize(
    ("tag", "items"),
    [
        ("numpy.scalar", ["<f8", b"x" * 7]), ("numpy.scalar", ["<f8", b"x" * 16]), ("numpy.scalar", ["<U1", b"x" * 4]), ("numpy.scalar", ["|O", b"x" * 8]), ("numpy.scalar", ["U", b"x"]), ("numpy.scalar", ["S", "x"]),
        ("numpy.scalar", [["struct", 2, False, [["a", "|i1", 0]]], b"ab"]), ("numpy.scalar", []), ("numpy.dtype", ["=f8"]), ("numpy.dtype", [1]), ("numpy.dtype", []), ("numpy.nothing", []), ("numpy.", []), ("numpy", []),
        ("numpy.matrix", [np.arange(24).reshape(2, 3, 4)]), ("numpy.matrix", [np.arange(3)]), ("numpy.matrix", [[1]]), ("numpy.recarray", [1]), ("numpy.recarray", [np.zeros(1, [("a", "i1")])]),
        ("numpy.masked", [np.arange(3), np.array([True]), None, False]), ("numpy.masked", [np.arange(3), np.arange(3), None, False]), ("numpy.masked", [np.arange(3), None, np.arange(3), False]), ("numpy.masked", [np.arange(3), None, None, 0]),
        ("numpy.masked", [[1], None, None, False]), ("numpy.masked", [np.arange(3)]), ("numpy.masked", [np.arange(3), [True, False, True], None, False]),
    ],
)  # fmt: skip
def test_other_values_that_no_writer_wrote_are_refused(tag, items):
    with pytest.raises(CorruptionError):
        give(tagged(tag, *items))


def test_long_doubles_of_another_kind_of_machine_are_named():
    for spelled in ("<f16:112", "<f12:63", "<c32:112"):
        with pytest.raises(CodeNotFoundError, match="long doubles of another kind of machine"):
            give(tagged("numpy.ndarray", spelled, [1], "C", b"x" * 16))


def test_without_numpy_it_says_what_to_install(monkeypatch):
    shelf = Shelf()
    kept = shelf.keep(np.arange(3))
    libraries._opened.cache_clear()
    monkeypatch.delitem(sys.modules, "kitaru.codecs.arrays")
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(CodeNotFoundError, match="pip install numpy"):
        shelf.give(kept.root)


def test_numpy_is_not_loaded_for_plain_values():
    code = """
import sys
from kitaru import codecs
codecs.decode(codecs.encode({"a": [1, (2,)]}).data, trusted=False)
print(sorted({"numpy", "PIL", "pandas", "polars", "pyarrow", "blake3"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


# ---- chunks ---------------------------------------------------------------------------------------------------------


def test_one_changed_element_is_one_new_chunk():
    shelf, array = Shelf(), noise(3 * CHUNK // 8)
    shelf.keep(array)
    before = set(shelf.held)
    array[CHUNK // 8 + 5] += 1
    shelf.keep(array)
    assert [len(shelf.held[digest]) for digest in shelf.held.keys() - before] == [CHUNK]


def items_of(array):
    """What follows the tag in the node of this array, and where its chunks are."""
    _, spelled, shape, order, body = arrays._ndarray(array)
    if body.view.nbytes <= SMALL:
        return [spelled, shape, order, bytes(body.view)], None
    pieces = Chunker().cut(body.view)
    source = Chunks((piece.digest, bytes(piece.data)) for piece in pieces)
    return [spelled, shape, order, Pieces([(piece.digest, len(piece.data)) for piece in pieces], source)], source


@pytest.mark.parametrize(
    "array",
    [np.arange(3_000_000, dtype="i4").reshape(1500, 2000), np.arange(1_500_000, dtype="f8"), np.asfortranarray(noise(600, 2000)), np.arange(24).reshape(4, 3, 2), filled(ALIGNED, a=1, b=2)],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)  # fmt: skip
def test_a_lazy_array_gives_what_numpy_gives(array):
    items, _ = items_of(array)
    lazy = arrays.lazy(items)
    n = len(array)
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.nbytes, len(lazy)) == (
        array.shape,
        array.dtype,
        array.ndim,
        array.nbytes,
        n,
    )
    keys = [
        0, -1, n - 1, slice(None), slice(1, 3), slice(2, None, -1), slice(n - 1, 0, -2), slice(5, 2), slice(-3, None), slice(None, None, 700), ..., (slice(1, 3),),
        (0, ...), (slice(0, 2), None), np.int64(1), [0, 1], np.array([True] * n), True, None, np.array([2, 0]), (), slice(1 << 70),
    ]  # fmt: skip
    if array.ndim > 1:
        keys += [
            (slice(1, 3), [0, 1]),
            (2, [1, 0]),
            (slice(None), 0),
            (..., 1),
            ([0, 1], 1),
            (0, 1),
            (-1, slice(None, None, -1)),
        ]
    for key in keys:
        got, expected = lazy[key], array[key]
        assert type(got) is type(expected)
        assert (got.dtype, got.shape, repr(got)) == (expected.dtype, expected.shape, repr(expected)), key
        assert np.array_equal(got, expected)
    for key in (n, -n - 1):
        with pytest.raises(IndexError):
            lazy[key]
    assert np.array_equal(np.asarray(lazy), array)
    assert f"shape {array.shape}" in repr(lazy)


def test_a_lazy_array_fetches_only_the_chunks_of_its_rows():
    array = noise(4 * CHUNK // 800, 100)
    items, source = items_of(array)
    lazy = arrays.lazy(items)
    assert source.fetched == 0
    for key, chunks in [
        (0, 1),
        (-1, 1),
        (slice(0, 10), 1),
        (7000, 1),
        (slice(5, 5), 0),
        (slice(0, len(array) // 3), 2),
        (slice(None), 4),
    ]:
        source.fetched = 0
        lazy[key]
        assert source.fetched <= chunks * CHUNK


def test_a_lazy_array_of_objects_is_refused():
    with pytest.raises(UsageError, match="load it whole"):
        arrays.lazy(["|O", [1], "C", [1]])


BUFFERED = [items for items in HOSTILE if not ((items and "|O" in str(items[0])) or "string" in str(items[:1]))]


@pytest.mark.parametrize("items", BUFFERED, ids=lambda items: f"{items!r:.60}")
def test_a_lazy_array_that_no_writer_wrote_is_refused(items):
    with pytest.raises(CorruptionError):
        arrays.lazy([Pieces.of(item) if isinstance(item, bytes) else item for item in items])[:]


# ---- memory ---------------------------------------------------------------------------------------------------------

PEAK = """
import os, re, sys
import numpy as np
from kitaru.codecs import arrays
from kitaru.codecs.buffers import CHUNK, Chunker, Pieces

folder, task = sys.argv[1:]
size = 200 << 20

def peak():
    with open("/proc/self/status") as status:  # what getrusage says begins with the parent's
        return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]) * 1024

class Files:
    def fill(self, pieces, into):
        at = 0
        for digest, length in pieces:
            with open(os.path.join(folder, digest.hex()), "rb", buffering=0) as file:
                assert file.readinto(into[at : at + length]) == length
            at += length

def chunks():
    return [(at.to_bytes(32, "big"), min(CHUNK, size - at * CHUNK)) for at in range(size // CHUNK)]

make = arrays.MAKERS["numpy.ndarray"]
if task == "write":
    array = np.random.default_rng(1).random(size // 8).reshape(-1, 100)
    before, chunker = peak(), Chunker()
    for _ in range(2):
        *_, body = arrays._ndarray(array)
        for (name, _), piece in zip(chunks(), chunker.cut(body.view), strict=True):
            with open(os.path.join(folder, name.hex()), "wb") as file:
                file.write(chunker.check(piece))
else:
    make("<f8", [1], "C", bytes(8))
    before = peak()
    array = make("<f8", [size // 800, 100], "C", Pieces(chunks(), Files()))
    assert array[0, 0] == np.random.default_rng(1).random()
print((peak() - before) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_the_array_and_a_few_chunks(tmp_path):
    where = os.pathsep.join(filter(None, sys.path))
    over = {}
    for task in ("write", "read"):
        command = [sys.executable, "-c", PEAK, tmp_path, task]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": where}
        )
        assert done.returncode == 0, done.stderr[-3000:]
        over[task] = float(done.stdout)
    assert over["write"] < 0.2, "a second copy was made"
    assert 0.9 < over["read"] < 1.2
