# ruff: noqa: E501, DTZ001, DTZ901, F405 - tables of values read best when they are dense
from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import math
import pathlib
import struct
import uuid
import zoneinfo

import pydantic
from kinds import *  # noqa: F403
from kinds import Bits, Colour, Holder, Late, Level, Model, Point, Rights, Slotted, Strict, Trouble, Word

from kitaru.testing.codecs import CodecContract

HERE = str(pathlib.Path(__file__).parent)


def with_note(text, note):
    made = Slotted(text)
    made.note = note
    return made


def with_attribute(value, **held):
    value.__dict__.update(held)
    return value


def private(model, value):
    model._private = value
    return model


class TestAtoms(CodecContract):
    values = [
        None, True, False, 0, 1, -1, 127, 128, 255, 256, -32, -33, -128, -129, 65535, 65536, 2**32, -(2**31) - 1,
        2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, 1.0, 0.0, -0.0, 1e308, math.inf, -math.inf,
        math.nan, struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0], "", "a", "é" * 40, "x" * 300, "y" * 70000,
        "\ud800", "a\udfffb\0", b"", b"a", b"b" * 300, b"c" * 70000, bytearray(b"a"), bytearray(),
        1 + 2j, complex(-0.0, math.inf), ...,
    ]  # fmt: skip

    def same(self, a, b):
        if isinstance(a, float):
            return struct.pack(">d", a) == struct.pack(">d", b)
        return a == b


class TestContainers(CodecContract):
    values = [
        [], {}, (), set(), frozenset(), [[]], [()], [1, (2, [3])], list(range(20)), list(range(70000)), [None], [b"x"],
        {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {1: 1}, {"1": 1}, {True: 1}, {1.0: 1}, {(1, "a"): 1}, {None: 1},
        {b"a": 1}, {"\ud800": 1}, {frozenset("ab"): {1: {2: 3}}}, {str(n): n for n in range(20)}, {n: n for n in range(9)},
        {1, 2}, {1, "a", (2, frozenset("xyz"))}, frozenset(range(50)), {"b": bytearray(b"q")}, {"b": b"q"},
        set("abcdefgh"), [set("abcdefgh")], {2**70, "\ud800"},
        collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), collections.OrderedDict(),
        collections.defaultdict(list, {"a": [1], 2: []}), collections.defaultdict(None, a=1), collections.defaultdict(),
        collections.deque([1, 2]), collections.deque([1, 2], 3), collections.deque(), collections.Counter("aab"),
        range(3), range(0, 3, 2), range(2**70), slice(1, None), slice(None, (1,), "x"),
    ]  # fmt: skip


class TestScalars(CodecContract):
    values = [
        dt.date(2020, 1, 1), dt.time(1, 2, 3), dt.time(1, 2, 3, fold=1), dt.time(1, tzinfo=dt.UTC), dt.timedelta(0),
        dt.timedelta(-1, 2, 3), dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, fold=1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2020, 10, 25, 2, 30, 0, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, microseconds=1))),
        dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "X")),
        dt.UTC, zoneinfo.ZoneInfo("UTC"), dt.datetime.min, dt.datetime.max,
        *map(decimal.Decimal, ["1", "1.0", "1.00", "-0", "1E+5", "NaN", "sNaN12", "-Infinity", "0.1e-999999"]),
        fractions.Fraction(1, 3), fractions.Fraction(-5), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1),
        pathlib.PurePosixPath("/a/b"), pathlib.Path("/a/b"), pathlib.PureWindowsPath("C:\\a"), pathlib.Path("a\udc80"),
    ]  # fmt: skip

    def same(self, a, b):
        return repr(a) == repr(b)


class TestTypes(CodecContract):
    paths = (HERE,)
    values = [
        int, type(None), type(...), type, dict, dt.date, decimal.Decimal, Point, Holder, Holder[int], Colour, ValueError,
        list[int], dict[str, list[int]], int | None, list[int | str], Outer.Inner,
    ]  # fmt: skip


class TestNamed(CodecContract):
    paths = (HERE,)
    values = [
        Colour.RED, Colour.BLUE, Colour.ODD, Level.LOW, Word.HI, Rights.READ, Rights.READ | Rights.WRITE, Rights(0),
        Bits.A | Bits.B, Bits(8), 1, "hi",
        Text("x"), with_attribute(Text("x"), a=1), "x", Number(1), Number(2**80), Ratio(-0.0), Ratio(0.0), Raw(b"x"),
        Items([1, (2,)]), with_attribute(Items(), a=(1,)), Pairs(a=1), Pairs({1: 2}), Crowd("abc"), Fixed((1, 2)), (1, 2),
        collections.OrderedDict.fromkeys("ba"), Window([1], 4), Default(int, a=1), with_note("x", [1]), Slotted("x"),
        Point(1), Point(1.0), Point(True, (1,)), Point([Point(1)]), with_attribute(Point(1), more=2), Frozen(1), Slim(1),
        Late(1), Box(1), Outer.Inner(1), {Frozen(1): {Slim("a")}},
        Defined(1), Defined([Plain((1,))]), Plain(1), Pair(1), Pair(1, [2]), Old(1, 2), (1, None),
        Model(), Model(n=None), Model(n=(1,), extra=[Model()]), private(Model(), {1: 2}), Strict(name="a", inner=Model(n=1)),
        Holder(x=1), Holder[int](x=1), Holder[list[int]](x=[1]), Holder[Holder[int]](x=Holder[int](x=1)), Root([1, 2]),
    ]  # fmt: skip

    def test_a_cached_property_is_no_part_of_a_value(self):
        from kitaru.codecs import encode

        box = Box(1)
        before = encode(box)
        assert box.twice == (1, 1)
        assert encode(box) == before


class TestExceptions(CodecContract):
    paths = (HERE,)
    values = [
        ValueError(), ValueError("a"), ValueError("a", 1), with_attribute(ValueError("a"), b=1), KeyError("k"), Trouble(1, 2),
        Coded(3), FileNotFoundError(2, "no", "file"), OSError(2), OSError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3), SystemExit(4), ImportError("m", name="n", path="p"), KeyboardInterrupt(), SyntaxError("s", ("f", 1, 2, "t")),
        ExceptionGroup("g", [ValueError(1), Trouble(1, 2)]), AttributeError("x", name="n"), ZeroDivisionError((1,)),
    ]  # fmt: skip

    def same(self, a, b):
        keys = ("errno", "strerror", "filename", "name", "path", "value", "code", "reason", "object", "lineno", "text")
        held = [
            (e.__dict__, e.args if "Group" not in repr(e) else repr(e), [getattr(e, k, None) for k in keys])
            for e in (a, b)
        ]
        return held[0] == held[1] and str(a) == str(b)


class TestMomentsThatPydanticRead(CodecContract):
    values = [
        pydantic.TypeAdapter(dt.datetime).validate_python(f"2020-01-01T00:00{zone}") for zone in ("Z", "+05:30", "-00:15")
    ]  # fmt: skip

    def same(self, a, b):
        return a == b and a.utcoffset() == b.utcoffset()
