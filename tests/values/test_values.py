# ruff: noqa: E501, DTZ001 - tables of values read best when they are dense
from __future__ import annotations

import asyncio
import collections
import copy
import dataclasses
import datetime as dt
import decimal
import functools
import gc
import hashlib
import logging
import re
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import types as types_module
import uuid

import numpy as np
import ormsgpack
import pandas as pd
import pydantic
import pytest
from kinds import (
    Cached,
    CachedBelow,
    Colour,
    Frozen,
    Hashed,
    HashedLoosely,
    Holder,
    Items,
    Model,
    Number,
    Pair,
    Pairs,
    Plainest,
    Point,
    Text,
    Unequal,
    Word,
)

from kitaru.codecs import Reference, Sharer, decode, encode, encoder, is_opaque, kind_of, node, to_json, types
from kitaru.errors import CodeNotFoundError, CorruptionError, UnrecordableValueError, UntrustedValueError
from kitaru.previews import preview, preview_line

NAN = struct.unpack(">d", b"\x7f\xf8" + b"\0" * 5 + b"\1")[0]


def tagged(tag, *items):
    return node.array_head(len(items) + 1) + node.tag_bytes(tag) + b"".join(ormsgpack.packb(i) for i in items)


# ---- what differs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), (1, Number(1)), ("hi", Word.HI), ("x", Text("x")), ([1], (1,)), ([1], Items([1])),
        ({"a": 1}, Pairs(a=1)), (b"a", bytearray(b"a")), ({1}, frozenset([1])), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (str(uuid.UUID(int=1)), uuid.UUID(int=1)), ("2020-01-01", dt.date(2020, 1, 1)), (float("nan"), NAN), (2**64, 2.0**64),
        ("1.0", decimal.Decimal("1.0")), (decimal.Decimal("1.0"), decimal.Decimal("1.00")), ({1: 1}, {"1": 1}), (None, False),
        ((1, 2), Pair(1, 2)), (dt.datetime(2020, 1, 1), dt.date(2020, 1, 1)), (1, Colour.RED), ({}, collections.Counter()),
        ("a", b"a"), ([b"a", "a"], ["a", b"a"]), (Frozen(1), Point(1)), (int, "builtins:int"), ({"a": 1}, [["a", 1]]),
    ],
)  # fmt: skip
def test_values_that_only_look_alike_have_different_digests(a, b):
    for wrap in (lambda v: v, lambda v: [v], lambda v: {"k": (v, [v])}, Point):
        assert encode(wrap(a)).digest != encode(wrap(b)).digest


@pytest.mark.parametrize(
    ("a", "b"), [(tuple[int, str], next(iter(tuple[int, str]))), (Holder[int], types_module.GenericAlias(Holder, (int,)))]
)  # fmt: skip
def test_types_that_only_look_alike_have_different_digests(a, b):
    assert encode(a).digest != encode(b).digest
    assert encode(a).kind == "data"


@pytest.mark.parametrize(
    "value",
    [collections.deque[int], collections.OrderedDict[str, int], collections.abc.Mapping[str, int], re.Pattern[str], type[int]],
)  # fmt: skip
def test_a_parametrised_class_of_the_standard_library_comes_back(value):
    encoded = encode(value)
    assert encoded.kind == "data"
    assert decode(encoded.data, trusted=False) == value


@pytest.mark.parametrize("member", Unequal)
def test_a_member_comes_back_whose_value_equals_nothing_else(member):
    encoded = encode({"is": member})
    assert encoded.kind == "data"
    assert decode(encoded.data, trusted=False)["is"] is member


@pytest.mark.parametrize(
    ("cls", "look"), [(Hashed, hash), (HashedLoosely, hash), (Cached, lambda v: v.twice), (CachedBelow, lambda v: v.twice)]
)  # fmt: skip
def test_what_attrs_remembers_of_an_instance_is_no_part_of_it(cls, look):
    before, after = cls("a"), cls("a")
    seen = look(after)
    assert encode(after) == encode(before)
    back = decode(encode(after).data, trusted=False)
    assert (back, look(back)) == (before, seen)


def test_an_attribute_that_was_named_by_a_member_of_an_enum_comes_back():
    named, plain = Point(1), Point(1)
    setattr(named, Word.HI, 3)
    plain.hi = 3
    assert encode(named) == encode(plain)
    assert decode(encode(named).data, trusted=False).hi == 3


def test_an_object_whose_attributes_have_names_that_are_no_texts_is_pickled():
    point = Point(1)
    vars(point)[7] = 3
    encoded = encode([point])
    assert encoded.kind == "pickle"
    assert vars(decode(encoded.data, trusted=True)[0]) == {"x": 1, "y": None, 7: 3}


def test_the_digest_is_the_sha256_of_the_data():
    encoded = encode({"a": 1})
    assert encoded == (hashlib.sha256(encoded.data).digest(), ormsgpack.packb({"a": 1}), "data")


def test_kinds_are_told_from_the_bytes_alone():
    cases = {
        "text": ["", "a" * 99, "\ud800"],
        "bytes": [b"", b"a" * 300],
        "data": [1, ["a"], Text("a"), bytearray(b"a")],
    }
    for kind, values in cases.items():
        for value in values:
            assert encode(value).kind == kind_of(encode(value).data) == kind
    assert encode(len, otherwise="refer").kind == "reference"
    assert not is_opaque(encode([node.tag_bytes("pickle")]).data)


@pytest.mark.parametrize("change", ["list", "dict", "model", "bytearray", "set"])
def test_a_change_in_place_changes_the_digest(change):
    value = {"list": [[1]], "dict": {"a": {}}, "model": Model(n=1), "bytearray": bytearray(b"a"), "set": {1}}
    before = encode(value)
    assert encode(value) == before
    {"list": value["list"][0].append, "dict": value["dict"]["a"].setdefault, "bytearray": value["bytearray"].append,
     "set": value["set"].add, "model": lambda x: setattr(value["model"], "n", x)}[change](7)  # fmt: skip
    assert encode(value).digest != before.digest


def test_a_decimals_digest_does_not_depend_on_the_context():
    before = encode(decimal.Decimal("1E+5"))
    with decimal.localcontext() as context:
        context.capitals = 0
        assert encode(decimal.Decimal("1E+5")) == before


def test_objects_of_ormsgpack_itself_are_not_taken_for_tags():
    forged = [ormsgpack.Ext(node.TAG, b"tuple"), 1]
    with pytest.raises(UnrecordableValueError, match=re.escape("output[0]")):
        encode(forged, otherwise="refuse")
    assert to_json(encode(forged, otherwise="refer").data)[0] == {"$reference": ["ormsgpack:Ext", None]}


# ---- depth and circles -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: {"a": v}, lambda v: {1: v}, lambda v: (v,), lambda v: frozenset([v]), Point, Items],
)
def test_a_value_3000_levels_deep_comes_back(wrap):
    value = wrap(1) if wrap is not Items else Items([1])
    for _ in range(3000):
        value = wrap(value) if wrap is not Items else Items([value])
    encoded = encode(value, otherwise="refuse")
    back = decode(encoded.data, trusted=False)
    assert encode(back) == encoded
    to_json(encoded.data)
    preview(back)


def test_a_value_without_end_of_depth_is_refused_at_both_ends():
    value = []
    for _ in range(50_000):
        value = [value]
    for otherwise in ("pickle", "refer", "refuse"):
        with pytest.raises(UnrecordableValueError, match="nested more than 20,000 deep"):
            encode(value, otherwise=otherwise)
    with pytest.raises(CorruptionError, match="nested more than 20000"):
        decode(b"\x91" * 50_000 + b"\x90", trusted=False)


def test_a_circle_is_refused_with_its_place():
    value = {"a": [1, 2, 3]}
    value["a"].append(value)
    with pytest.raises(UnrecordableValueError, match=re.escape('output["a"][3] refers to itself')):
        encode(value)
    point = Point(1)
    point.y = (point,)
    with pytest.raises(UnrecordableValueError, match=re.escape("report.y[0] refers to itself")):
        encode(point, place="report")
    shared = [1]
    assert decode(encode([shared, shared]).data, trusted=False) == [[1], [1]]


def test_a_circle_in_an_argument_is_a_reference():
    def circle(n):
        value = {"a": [n]}
        value["a"].append(value)
        return encode(value, otherwise="refer")

    assert circle(1) == circle(1) != circle(2)


# ---- what cannot be recorded -----------------------------------------------------------------------


def live():
    yield threading.Lock()
    yield (n for n in ())
    yield open(__file__)
    yield memoryview(b"a")
    yield socket.socket()


@pytest.mark.parametrize("otherwise", ["pickle", "refuse"])
def test_what_is_tied_to_this_process_is_refused_with_its_place(otherwise):
    for value in live():
        for wrapped, place in [
            (value, "output"),
            ({"rows": [0, 1, 2, Point(value)]}, 'output["rows"][3].x'),
            ([(0, {1: value})], "output[0][1][1]"),
            (Model(n={"k": value}), 'output.n["k"]'),
        ]:
            with pytest.raises(UnrecordableValueError, match=re.escape(place) + " is (a|the) ") as raised:
                encode(wrapped, otherwise=otherwise)
            assert "Give " in str(raised.value)
            assert "0x" not in str(raised.value)
        if hasattr(value, "close"):
            value.close()


def test_a_coroutine_is_refused():
    async def work():
        pass

    waiting = work()
    with pytest.raises(UnrecordableValueError, match="coroutine"):
        encode([waiting])
    waiting.close()


def test_the_place_inside_an_object_without_a_data_form_is_found():
    value = {"rows": [0, 1, 2, Plainest(name="x", client=Plainest(lock=threading.Lock()))]}
    with pytest.raises(UnrecordableValueError, match=re.escape('output["rows"][3].client.lock')):
        encode(value)


def test_the_place_after_thousands_of_others_is_found():
    rows = [{"held": [i]} for i in range(3000)]
    with pytest.raises(UnrecordableValueError, match=re.escape('output["rows"][3000].lock')):
        encode({"rows": [*rows, Plainest(lock=threading.Lock())]})


def test_an_object_that_cannot_be_pickled_is_named():
    class Sulky:
        def __reduce_ex__(self, protocol):
            raise RuntimeError("no")

    with pytest.raises(UnrecordableValueError, match=re.escape("output[1] is a ")):
        encode([1, Sulky()])


# ---- pickles ---------------------------------------------------------------------------------------


def test_what_has_no_data_form_is_pickled_as_a_whole_and_read_only_where_trusted():
    encoded = encode({"a": 1, "b": Plainest(x=(1,))})
    assert encoded.kind == "pickle"
    assert is_opaque(encoded.data)
    assert list(to_json(encoded.data)) == ["$pickle"]
    with pytest.raises(UntrustedValueError, match="trust"):
        decode(encoded.data, trusted=False)
    back = decode(encoded.data, trusted=True)
    assert back["b"].__dict__ == {"x": (1,)}
    with pytest.raises(UnrecordableValueError, match=re.escape('output["b"] is a kinds:Plainest')):
        encode({"a": 1, "b": Plainest(x=1)}, otherwise="refuse")


def test_local_classes_and_functions_are_pickled_by_value():
    @dataclasses.dataclass
    class Local:
        x: int

    assert encode(Local(1)).kind == "pickle"
    assert decode(encode(Local(1)).data, trusted=True).x == 1
    assert decode(encode(lambda: 5).data, trusted=True)() == 5
    assert encode(Local).kind == "pickle"


def test_a_pickle_that_is_broken_or_needs_code_that_is_gone_says_so():
    with pytest.raises(CorruptionError, match="pickle"):
        decode(tagged("pickle", b"\x80\x05broken"), trusted=True)
    with pytest.raises(CodeNotFoundError, match="no_such_module"):
        decode(tagged("pickle", b"cno_such_module\nX\n."), trusted=True)


# ---- arguments -------------------------------------------------------------------------------------


class Hostile:
    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = __repr__ = __str__ = __len__ = __iter__ = __reduce_ex__ = __bool__ = __eq__

    def __getattribute__(self, name):
        raise RuntimeError(name)


class HostileList(list):
    __len__ = __iter__ = __getitem__ = __repr__ = Hostile.__eq__

    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_arguments_that_are_no_data_count_by_type_and_name():
    def digest(value):
        return encode({"a": value}, otherwise="refer").digest

    assert digest(threading.Lock()) == digest(threading.Lock())
    assert digest(logging.getLogger("a")) == digest(logging.getLogger("b"))
    assert digest(Plainest(a=1)) == digest(Plainest(a=2))
    assert digest(len) != digest(print)
    assert digest(test_local_classes_and_functions_are_pickled_by_value) != digest(len)
    assert digest(Point(threading.Lock(), 1)) != digest(Point(threading.Lock(), 2))
    assert digest("a".join) != digest(b"a".join)
    for value in (
        asyncio.sleep,
        functools.partial(len),
        Hostile(),
        Hostile,
        {Colour: Hostile()},
        sys,
        Plainest().__init__,
    ):
        assert encode([value], otherwise="refer").kind == "data"
    for value in live():
        digest(value)
        getattr(value, "close", gc.collect)()


class Request(pydantic.BaseModel):
    url: pydantic.AnyUrl | pydantic.PostgresDsn


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Request(url="http://a"), Request(url="http://b")), (pydantic.HttpUrl("http://a"), pydantic.HttpUrl("http://b")),
        (Request(url="postgres://h/a"), Request(url="postgres://h/b")), (time.gmtime(1), time.gmtime(2)),
        (collections.UserDict(a=1), collections.UserDict(a=2)), (collections.ChainMap({"a": 1}), collections.ChainMap({"a": 2})),
    ],
)  # fmt: skip
def test_values_that_are_no_clients_count_by_their_content_as_arguments(a, b):
    one, other = (encode({"x": [v]}, otherwise="refer").digest for v in (a, b))
    assert one == encode({"x": [copy.deepcopy(a)]}, otherwise="refer").digest
    assert one != other


def test_a_local_dataclass_as_argument_counts_by_its_content():
    @dataclasses.dataclass
    class Local:
        x: int

    assert encode(Local(1), otherwise="refer") != encode(Local(2), otherwise="refer")
    with pytest.raises(CodeNotFoundError, match="Local"):
        decode(encode(Local(1), otherwise="refer").data, trusted=False)


def test_a_reference_comes_back_as_one():
    back = decode(encode({"log": logging.getLogger("x"), "f": len}, otherwise="refer").data, trusted=False)
    assert back["log"] == Reference("logging:Logger")
    assert repr(back["log"]) == "<reference to logging:Logger>"
    assert repr(back["f"]) == "<reference to builtins:len>"
    assert encode(back) == encode({"log": logging.getLogger("x"), "f": len}, otherwise="refer")


class Zone(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)


def test_a_partial_as_argument_counts_by_what_it_holds():
    def digest(value):
        return encode(value, otherwise="refer").digest

    assert digest(functools.partial(len, 1)) == digest(functools.partial(len, 1)) != digest(functools.partial(len, 2))
    assert digest(functools.partial(len)) != digest(functools.partial(print))


def test_arrays_and_frames_as_arguments_are_data():
    for a, b in [
        (np.arange(3), np.arange(4)), (np.float64(1), np.float64(2)),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})), (pd.Timestamp(1), pd.Timestamp(2)),
    ]:  # fmt: skip
        first, again, other = (Sharer().encode({"x": [v]}, otherwise="refer") for v in (a, copy.copy(a), b))
        assert (first.kind, first.digest) == ("data", again.digest)
        assert first.digest != other.digest


def test_what_only_a_pickle_can_say_counts_by_it_as_an_argument():
    pairs = [
        (re.compile("a"), re.compile("b")), (types_module.SimpleNamespace(a=1), types_module.SimpleNamespace(a=2)),
        (dt.datetime(2020, 1, 1, tzinfo=Zone()), dt.datetime(2021, 1, 1, tzinfo=Zone())),
        (np.random.default_rng(1), np.random.default_rng(2)),
    ]  # fmt: skip
    for a, b in pairs:
        first = encode({"x": [a]}, otherwise="refer")
        assert first == encode({"x": [a]}, otherwise="refer")
        assert first.digest != encode({"x": [b]}, otherwise="refer").digest
        assert first.kind == "pickle"
        with pytest.raises(UntrustedValueError):
            decode(first.data, trusted=False)
        assert encode(a).kind == "pickle"
        assert type(decode(encode(a).data, trusted=True)) is type(a)


class Unhashable(type):
    __eq__ = __instancecheck__ = __subclasscheck__ = Hostile.__eq__
    __hash__ = None


class Odd(metaclass=Unhashable):
    pass


def test_hostile_objects_are_never_asked():
    for value in (
        Odd(),
        [Odd, b"\xc4"],
        {"a": [Odd(), 2**70]},
        Hostile(),
        HostileList([1, Hostile()]),
        [Point(Hostile())],
        {"a": (Hostile(),)},
    ):
        encode(value, otherwise="refer")
        glimpse = preview(value)
        assert len(ormsgpack.packb(glimpse)) <= 500
        preview_line(glimpse)
    with pytest.raises(UnrecordableValueError, match=r"^here\[0\] is a .*test_values:Odd,"):
        encode([Odd()], place="here")


# ---- damaged bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa2\xff\xfe", b"\xa2a", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xffab", b"\xca\0\0\0\0", b"\xcc\x01", b"\xd0\x01", b"\xd9\x01a",
        b"\xdc\x00\x01\x01", b"\x81\x01\x02", b"\x82\xa1a\x01\xa1a\x02", node.tag_bytes("tuple"),
        b"\x92\x01" + node.tag_bytes("tuple"), b"\x92" + node.tag_bytes("tuple") * 2, b"\x81" + node.tag_bytes("tuple") + b"\x01",
        b"\x91\xd4\x05a", b"\x91\xc7\x01\x01a", b"\x91\xc7\x02\x01\xff\xfe", tagged("nonsense"), tagged("date"),
        tagged("date", 1), tagged("date", "20200101"), tagged("date", "2020-13-01"), tagged("bytearray", 10**9),
        tagged("int", "0x1"), tagged("int", " 0x1ffffffffffffffffff"), tagged("str", b"abc"), tagged("str", "é".encode()),
        tagged("complex", "1j", 0.0), tagged("complex", 1, 2), tagged("decimal", "1_0"), tagged("decimal", "x"),
        tagged("uuid", "{0}"), tagged("fraction", 2, 4), tagged("fraction", 1, 0), tagged("timedelta", 10**12, 0, 0),
        tagged("time", "01:00", 7, None), tagged("datetime", "2020-01-01T00:00:00", 0, 5), tagged("range", 1, 2, 0),
        tagged("dict", 1), tagged("dict", 1, 2, 1, 3), tagged("dict", [], 1), tagged("set", 1, 1), tagged("set", []),
        tagged("deque", 1, 2, 3), tagged("defaultdict", 1), tagged("path", "os", "x"), tagged("enum", "kinds:Colour"),
        tagged("sub", "kinds:Text", "x", 3), tagged("dataclass", "kinds:Point", None), tagged("exception", "builtins:ValueError", 1, None),
        tagged("zoneinfo", "../../etc/passwd"), tagged("timezone", 10**9, 0, None), tagged("union", 1), tagged("reference", 1, None),
        tagged("pydantic", "kinds:Model", {}, None, 3, None), tagged("type", 3), tagged("pickle", "text"),
    ],
)  # fmt: skip
def test_bytes_that_no_encoder_wrote_are_corruption(data):
    with pytest.raises(CorruptionError):
        decode(data, trusted=True)


@pytest.mark.parametrize("code", [node.REF, node.RUN, node.CHUNK])
def test_parts_without_a_source_are_damage(code):
    with pytest.raises(CorruptionError, match="stands"):
        decode(ormsgpack.packb([ormsgpack.Ext(code, b"\1" * (32 + (code != node.REF)))]), trusted=False)


def test_an_extension_of_a_newer_format_is_named():
    with pytest.raises(CorruptionError, match="unknown extension 5"):
        decode(ormsgpack.packb([ormsgpack.Ext(5, b"\0" * 32)]), trusted=False)


def test_a_head_that_lies_allocates_nothing():
    tracemalloc.start()
    for head in (
        b"\xdd\x0f\xff\xff\xff",
        b"\xdf\x0f\xff\xff\xff",
        b"\xc6\x7f\xff\xff\xff",
        b"\x92" + node.tag_bytes("range") + b"\xdd\x7f\xff\xff\xff",
    ):
        with pytest.raises(CorruptionError):
            decode(head + b"\xc0" * 1000, trusted=False)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        tagged("type", "os:system"), tagged("type", "no_such_module:X"), tagged("type", "kinds:NoSuch"), tagged("type", "a b:c"),
        tagged("type", "kinds:f.<locals>.X"), tagged("type", ""), tagged("type", ":"), tagged("enum", "kinds:Point", 1),
        tagged("enum", "subprocess:Popen", "true"), tagged("dataclass", "subprocess:Popen", {"args": "true"}),
        tagged("namedtuple", "builtins:list", 1), tagged("namedtuple", "kinds:Old", 1), tagged("sub", "kinds:Point", "x", None),
        tagged("sub", "kinds:Number", "x", None), tagged("sub", "builtins:str", "x", None), tagged("pydantic", "kinds:Point", {}, None, None, None),
        tagged("dataclass", "kinds:Slim", {"z": 1}), tagged("enum", "kinds:Colour", 99), tagged("generic", "builtins:int", None),
        tagged("zoneinfo", "Europe/Atlantis"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_a_class_of_the_right_kind_is_never_called(data):
    with pytest.raises(CodeNotFoundError):
        decode(data, trusted=True)


def test_decoding_runs_no_code_of_a_recorded_class(tmp_path, monkeypatch):
    (tmp_path / "watchful.py").write_text(
        textwrap.dedent("""
            import dataclasses, enum
            def cry(*args, **kwargs): raise SystemError("user code was called")
            @dataclasses.dataclass
            class D:
                x: int = 0
                __init__ = __post_init__ = __setattr__ = __reduce__ = __setstate__ = __new__ = cry
                p = property(cry, cry)
            class L(list):
                __init__ = append = extend = __setitem__ = cry
            class E(enum.Enum):
                A = 1
                _missing_ = cry
            class X(Exception):
                __init__ = cry
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import watchful

    assert decode(tagged("dataclass", "watchful:D", {"x": 1, "p": 2}), trusted=False).__dict__ == {"x": 1, "p": 2}
    assert list.__len__(decode(tagged("sub", "watchful:L", [1, 2], {"a": 1}), trusted=False)) == 2
    assert decode(tagged("enum", "watchful:E", 1), trusted=False) is watchful.E.A
    args = node.array_head(2) + node.tag_bytes("tuple") + b"\x01"
    exception = node.array_head(4) + node.tag_bytes("exception") + ormsgpack.packb("watchful:X") + args + b"\xc0"
    assert decode(exception, trusted=False).args == (1,)
    with pytest.raises(CodeNotFoundError, match="no member"):
        decode(tagged("enum", "watchful:E", 2), trusted=False)


# ---- scripts ---------------------------------------------------------------------------------------


SCRIPT = """
import dataclasses, enum, sys
import beside

@dataclasses.dataclass
class Package:
    name: str
    parts: list

class Kind(enum.Enum):
    GOOD = "good"

def value():
    return {"p": Package("numpy", [Kind.GOOD]), "t": Package}

if __name__ == "__main__":
    from kitaru.codecs import decode, encode
    encoded = encode(value(), otherwise="refuse")
    assert decode(encoded.data, trusted=False, script=__file__) == value()
    print(encoded.digest.hex(), encoded.data.hex())
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("")
    path = tmp_path / "audit.py"
    path.write_text(SCRIPT)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(types, "_scripts", {})
    yield path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_scripts_types_have_the_same_digest_and_load_under_either_name(script):
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    digest, data = done.stdout.split()
    back = decode(bytes.fromhex(data), trusted=False, script=str(script))
    module = types.import_script(script)
    assert type(back["p"]) is module.Package
    assert module.__name__ != "__main__"
    again = encode(module.value(), otherwise="refuse")
    assert again.digest.hex() == digest
    assert b"__main__:Package" in again.data
    assert types.find("__main__:Package", str(script)) is types.find("__main__:Package") is module.Package
    assert decode(encode(lambda: module.Package("a", [])).data, trusted=True)().name == "a"

    sys.path.insert(0, str(script.parent))
    import audit

    assert b"audit:Package" in encode(audit.value()).data
    assert type(decode(encode(audit.value()).data, trusted=False)["p"]) is audit.Package


def test_a_script_that_is_gone_or_fails_says_so(script):
    with pytest.raises(CodeNotFoundError, match="no Python script"):
        types.find("__main__:NoSuchClass", str(script.parent / "gone.py"))
    script.write_text("raise ValueError('broken')")
    with pytest.raises(CodeNotFoundError, match=r"audit\.py failed with ValueError: broken"):
        types.find("__main__:Package", str(script))
    assert not types.aliased_modules()
    with pytest.raises(CodeNotFoundError, match="__main__:NoSuchClass"):
        types.find("__main__:NoSuchClass")


# ---- previews, cost --------------------------------------------------------------------------------


def test_previews_say_what_a_person_needs():
    assert preview({"name": "numpy", "n": [1, 2]}) == {
        "type": "dict",
        "len": 2,
        "text": "{'name': 'numpy', 'n': [1, 2]}",
    }
    assert preview(Point(1, "a"))["text"] == "Point(x=1, y='a')"
    assert preview(Model(n=1))["text"].startswith("Model(n=1")
    assert preview(threading.Lock()) == {"type": "_thread.lock", "text": "<_thread.lock>"}
    assert preview("a\x1b[31m\u202e\n")["text"] == "'a\\x1b[31m\\u202e\\n'"
    assert preview(list(range(10**6)))["len"] == 10**6
    assert "0x" not in preview(Plainest())["text"]
    assert preview({"b", "a"})["text"] == "{'a', 'b'}"


def test_a_line_of_a_preview_is_safe_whatever_it_is_made_from():
    assert preview_line({"type": "dict", "len": 2, "text": "{…}"}) == "dict(2) {…}"
    for p in ({}, {"type": 3, "len": "x", "text": ["a"]}, {"type": "\x1b" * 99, "text": "\n" * 999}):
        line = preview_line(p, 40)
        assert line.isprintable()
        assert len(line) <= 40


def test_importing_the_codecs_imports_nothing_heavy():
    heavy = {
        "numpy",
        "pandas",
        "pydantic",
        "attr",
        "attrs",
        "cloudpickle",
        "boto3",
        "decimal",
        "zoneinfo",
        "asyncio",
        "socket",
    }
    code = "import sys, kitaru.codecs, kitaru.previews; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)


def test_plain_data_is_written_in_one_pass():
    value = {"rows": [{"id": n, "x": n * 0.37, "tags": ["a", "b"]} for n in range(50)]}
    assert encoder.packed(value, refer=False).data == ormsgpack.packb(value)
    assert encoder.packed([(1,), Point(2)], refer=False) is not None
