# ruff: noqa: E501 - a table of values reads best when it is dense, and times are as people write them
"""Values of every kind that needs no library which is compiled, and their classes: the same here and elsewhere."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import pathlib
import uuid
from typing import Any, Generic, NamedTuple, TypeVar

import attrs

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    ODD = (1, math.nan)


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Word(enum.StrEnum):
    HI = "hi"


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slim:
    x: Any


@dataclasses.dataclass
class Box(Generic[T]):
    x: T

    @functools.cached_property
    def twice(self) -> tuple[T, T]:
        return (self.x, self.x)


@attrs.define
class Defined:
    x: Any
    y: int = 3


@attrs.frozen(slots=False, cache_hash=True)
class Hashed:
    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Pairs(dict):
    pass


class Trouble(Exception):
    def __init__(self, a: Any, b: Any) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a


def deep(levels: int) -> Any:
    made: Any = ()
    for n in range(levels):
        made = [made, n]
    return made


def values() -> dict[str, Any]:
    zone = dt.timezone(dt.timedelta(hours=-5, microseconds=1), "X")
    return {
        "plain": [None, True, 1, 1.0, -0.0, math.inf, math.nan, 5e-324, 2**64 - 1, -(2**63), 2**64, -(10**40), complex(1, -0.0)],
        "texts": ["é\0\u202e𝄞", "a\udc80b", "", b"\0\xff", bytearray(b"a"), ...],
        "a text in pieces": "".join(f"line {n}\n" * (n % 3) + "x" * (n * 91 % 2_000) for n in range(60)),
        "containers": [(), (1, (2,)), [[]], {"b": 1, "a": 2}, collections.deque([1], 3), range(1, 9, 2), slice(None, 3)],
        "dicts": [{1: "a", (1, "b"): 2, None: 3, "\ud800": 6}, collections.OrderedDict(b=1), collections.defaultdict(list, a=[1])],
        "sets": [{"a", "b", 3, (4, 5), None, 2**70}, frozenset("kitaru"), set()],
        "times": [dt.date(1, 1, 1), dt.time(2, fold=1), dt.timedelta(-1, 2, 3), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, 3, 4, 5, 6, zone)],
        "numbers": [*map(decimal.Decimal, ["1.00", "-0", "1E+5", "NaN", "sNaN12", "-Infinity"]), fractions.Fraction(-1, 3)],
        "names": [uuid.UUID(int=7), pathlib.PurePosixPath("/a/ü"), pathlib.PureWindowsPath("C:\\a"), pathlib.Path("b")],
        "enums": [Colour.RED, Colour.ODD, Bits.A | Bits.B, Bits(8), Word.HI],
        "classes": [Point(1, (2,)), Slim("a"), Box(1), Defined([1]), Hashed({"a": 1}), Pair(1), Pairs(a=1)],
        "exceptions": [ValueError("a", 1), FileNotFoundError(2, "no", "file"), Trouble(1, 2), ExceptionGroup("g", [KeyError(1)])],
        "types": [int, Point, list[int], int | None],
        "a chat": [{"role": ("user", "assistant")[n % 2], "content": f"{n}: " + "word " * (n * 37 % 300)} for n in range(120)],
        "a long dict": {(n, str(n)): {n} for n in range(300)},
        "deep": deep(60),
    }  # fmt: skip
