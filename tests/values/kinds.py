# ruff: noqa: SLOT000, SLOT001, PYI024 - these are the kinds that users write
"""Classes of every kind that has a data form."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import math
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import pydantic

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"
    ODD = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HI = "hi"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Text(str):
    pass


class Number(int):
    pass


class Ratio(float):
    pass


class Raw(bytes):
    pass


class Items(list):
    pass


class Pairs(dict):
    pass


class Crowd(set):
    pass


class Fixed(tuple):
    pass


class Ordered(collections.OrderedDict):
    def __setitem__(self, key, value):
        raise AssertionError("user code was called")


class Window(collections.deque):
    pass


class Default(collections.defaultdict):
    pass


class Slotted(str):
    __slots__ = ("note",)


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Slim:
    x: Any
    y: Any = 2


@dataclasses.dataclass
class Late:
    x: Any
    double: Any = dataclasses.field(init=False)

    def __post_init__(self):
        self.double = [self.x, self.x]


@dataclasses.dataclass
class Box(Generic[T]):
    x: T

    @functools.cached_property
    def twice(self):
        return (self.x, self.x)


class Outer:
    @dataclasses.dataclass
    class Inner:
        x: Any


@dataclasses.dataclass(eq=False)
class Single:
    x: Any


class Unequal(enum.Enum):
    NAN = math.nan
    ONE = Single(1)
    TWO = Single(2)


@attrs.define
class Defined:
    x: Any
    y: int = 3


@attrs.frozen(cache_hash=True)
class Hashed:
    x: Any


@attrs.frozen(cache_hash=True, slots=False)
class HashedLoosely:
    x: Any


@attrs.define
class Cached:
    x: Any

    @functools.cached_property
    def twice(self):
        return (self.x, self.x)


@attrs.define
class CachedBelow(Cached):
    y: Any = None


@attrs.frozen(slots=False)
class Plain:
    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any = None


Old = collections.namedtuple("Old", "a b")


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    n: Any = None
    sub: list[Any] = []
    _private: Any = pydantic.PrivateAttr(default=None)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str
    inner: Model | None = None


class Holder(pydantic.BaseModel, Generic[T]):
    x: T


class Root(pydantic.RootModel[list[int]]):
    pass


class Trouble(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a = a


@dataclasses.dataclass
class Coded(Exception):
    code: int


class Plainest:
    """No data form."""

    def __init__(self, **held):
        self.__dict__.update(held)
