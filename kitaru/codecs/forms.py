"""Which values have a data form, and what it is: a list whose first item is the tag.

`form` gives the list for one value, never looking deeper than that value. Its items are values again, which the
encoder writes in their turn. No code of a value's own class is called: fields are read from its dict and slots,
builtin content through the builtin type's own methods.
"""

from __future__ import annotations

import collections
import datetime as dt
import enum
import functools
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from . import libraries, opaque, state
from .types import is_found, name_of, qualified_name

__all__ = ["Nested", "NoDataFormError", "Reference", "form", "is_subscriptable", "reference"]

Form = list[Any]
Former = Callable[[Any, bool], Form]

# Libraries whose values lie in buffers: only those that a room of `libraries` knows have a data form.
_BUFFERS = frozenset({"PIL", "numpy", "pandas", "polars", "pyarrow"})
# As arguments these count by their pickle: by type alone, a step would reuse a stale result in silence.
_BY_CONTENT = _BUFFERS | {
    "argparse", "array", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "scipy", "types", "uuid",
}  # fmt: skip
_VALUES = frozenset({  # likewise: single classes of libraries whose others are no data, or are secrets
    "collections:ChainMap", "collections:UserDict", "collections:UserList", "collections:UserString",
    "pydantic.networks:_BaseMultiHostUrl", "pydantic.networks:_BaseUrl", "pydantic_core._pydantic_core:MultiHostUrl",
    "pydantic_core._pydantic_core:Url", "time:struct_time", "torch:Tensor",
})  # fmt: skip


class NoDataFormError(Exception):
    """A value has no data form."""


class Reference(NamedTuple):
    """An argument that was no data, as it comes back: the name of its type, and its own where it has one.

    >>> Reference("logging:Logger")
    <reference to logging:Logger>
    """

    type: str
    name: str | None = None

    def __repr__(self) -> str:
        return f"<reference to {self.name or self.type}>"


def form(value: Any, refer: bool) -> Form:
    """The form of anything that is not exactly None, bool, a small int, float, str, bytes, list or dict.

    With `refer` it is an argument: a class that is not found again by its name keeps its fields, and what has no
    data form is a reference. Raises `NoDataFormError` without. The items of a set are in no order yet.
    """
    cls: Any = type(value)
    try:
        former = _BUILTIN.get(cls) or _former_of(cls)
        return former(value, refer)
    except Exception as error:  # a metaclass or a descriptor may raise anything
        if refer:
            return reference(value)
        raise NoDataFormError from error


def reference(value: Any, name: str | None = None) -> Form:
    """What stands for an argument that is no data: its type, and the qualified name of a function or a class."""
    cls = type(value)
    if any(_package(base) in _BY_CONTENT or name_of(base) in _VALUES for base in cls.__mro__):
        try:
            return ["pickle", opaque.dumps(value)]
        except Exception:  # an array of locks
            return ["reference", _text(name_of(cls)), name]
    if cls is functools.partial:
        return ["tuple", Reference("functools:partial"), value.func, value.args, value.keywords]
    try:
        own = _own_name(value)
    except Exception:  # its class has no hash
        own = None
    return ["reference", _text(name_of(cls)), name or own]


def _package(cls: type) -> str:
    return name_of(cls).partition(":")[0].partition(".")[0]


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _own_name(value: Any) -> str | None:
    if issubclass(type(value), type):
        return _text(name_of(value))
    if name_of(type(value)) == "kitaru.references:Ref":
        return str(value.digest)  # inside of a container: it counts by what it refers to
    if type(value) is types.MethodType:
        value = value.__func__
    if type(value) not in _NAMED:
        return None
    module, qualname = value.__module__, value.__qualname__
    if type(module) is not str:
        module = name_of(type(value.__self__)).partition(":")[0] if hasattr(value, "__self__") else "?"
    return _text(qualified_name(module, qualname)) if type(qualname) is str else None


_NAMED = {
    types.FunctionType,
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
}


# ---- builtin types, exactly ---------------------------------------------------------------------------------


def _pairs(name: str) -> Callable[[Any, bool], Form]:
    return lambda v, _: [name, *itertools.chain.from_iterable(v.items())]


def _items(name: str) -> Callable[[Any, bool], Form]:
    return lambda v, _: [name, *v]


def _when(name: str) -> Callable[[Any, bool], Form]:
    def former(v: Any, _: bool) -> Form:
        zone = v.tzinfo
        if zone is not None:
            if type(zone) is not dt.timezone and _full_name(type(zone)) not in _ZONES:
                raise NoDataFormError
            v = v.replace(tzinfo=None)
        return [name, v.isoformat(), v.fold, zone]

    return former


_ZONES = {"zoneinfo:ZoneInfo", "pydantic_core._pydantic_core:TzInfo"}


def _full_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _timezone(v: dt.timezone, _: bool) -> Form:
    offset, *name = v.__getinitargs__()  # type: ignore[attr-defined]
    return ["timezone", offset.days * 86400 + offset.seconds, offset.microseconds, *(name or [None])]


def _fixed(v: dt.tzinfo, _: bool) -> Form:
    """Pydantic's zone, of every moment that it reads: the `timezone` that it is equal to."""
    offset = v.utcoffset(None)
    assert offset is not None
    return _timezone(dt.timezone(offset), _)


def _zoneinfo(v: Any, _: bool) -> Form:
    if type(v.key) is not str:
        raise NoDataFormError
    return ["zoneinfo", v.key]


def _defaultdict(v: Any, _: bool) -> Form:
    return ["defaultdict", v.default_factory, *itertools.chain.from_iterable(v.items())]


def _generic_alias(v: Any, _: bool) -> Form:
    if v.__unpacked__ or not is_subscriptable(v.__origin__) or not is_found(v.__origin__):
        raise NoDataFormError  # `*tuple[int]` is not `tuple[int]`
    return ["generic", name_of(v.__origin__), *v.__args__]


def is_subscriptable(cls: type) -> bool:
    """Whether `cls[int]` is a `types.GenericAlias`; of a pydantic class it is a class of its own."""
    if opaque.is_pydantic(cls):
        return False
    return cls is type or any("__class_getitem__" in vars(base) for base in cls.__mro__)


def _union(v: Any, _: bool) -> Form:
    return ["union", *(None if a is type(None) else a for a in v.__args__)]


def _simple(name: str, parts: Callable[[Any], tuple[Any, ...]]) -> Former:
    return lambda v, _: [name, *parts(v)]


_BUILTIN: dict[type, Former] = {
    int: _simple("int", lambda v: (hex(v),)),
    str: _simple("str", lambda v: (v.encode("utf-8", "surrogatepass"),)),
    tuple: _items("tuple"),
    set: _items("set"),
    frozenset: _items("frozenset"),
    dict: _pairs("dict"),
    bytearray: _simple("bytearray", lambda v: (bytes(v),)),
    complex: _simple("complex", lambda v: (v.real, v.imag)),
    range: _simple("range", lambda v: (v.start, v.stop, v.step)),
    slice: _simple("slice", lambda v: (v.start, v.stop, v.step)),
    type(...): _simple("ellipsis", lambda _: ()),
    dt.date: _simple("date", lambda v: (v.isoformat(),)),
    dt.time: _when("time"),
    dt.datetime: _when("datetime"),
    dt.timedelta: _simple("timedelta", lambda v: (v.days, v.seconds, v.microseconds)),
    dt.timezone: _timezone,
    collections.OrderedDict: _pairs("odict"),
    collections.defaultdict: _defaultdict,
    collections.deque: _simple("deque", lambda v: (v.maxlen, *v)),
    types.GenericAlias: _generic_alias,
    types.UnionType: _union,
    Reference: _simple("reference", lambda v: (v.type, v.name)),
}

# Modules that need not be loaded for this: a value of theirs has loaded them.
_LOADED_LATER: dict[str, Former] = {
    # The context's `capitals` decides the case of the exponent.
    "decimal:Decimal": _simple("decimal", lambda v: (str(v).replace("e", "E"),)),
    "fractions:Fraction": _simple("fraction", lambda v: (v.numerator, v.denominator)),
    "uuid:UUID": _simple("uuid", lambda v: (str(v),)),
    "zoneinfo:ZoneInfo": _zoneinfo,
    "pydantic_core:TzInfo": _fixed,
    **{
        f"pathlib:{name}": _simple("path", lambda v, name=name: (name, str(v)))  # type: ignore[misc]
        for name in ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
    },
}


# ---- types with a name ---------------------------------------------------------------------------------------


def _named(cls: type, refer: bool) -> Any:
    """What stands for a class as the TYPE of a form: its name, or the generic class and its arguments."""
    if opaque.is_pydantic(cls):
        made = cls.__pydantic_generic_metadata__  # type: ignore[attr-defined]
        if made["args"]:
            if not (refer or is_found(made["origin"])):
                raise NoDataFormError
            return GenericName(_text(name_of(made["origin"])), made["args"])
    if not (refer or is_found(cls)):
        raise NoDataFormError
    return _text(name_of(cls))


class GenericName(NamedTuple):
    """The TYPE of a parametrised pydantic class; the encoder meets it as a value with a form of its own."""

    origin: str
    args: tuple[Any, ...]


_BUILTIN[GenericName] = _simple("generic", lambda v: (v.origin, *v.args))


class Nested(NamedTuple):
    """A form that stands as an item of another form."""

    form: Form


_BUILTIN[Nested] = lambda v, _: [*v.form]


def _class(v: Any, _: bool) -> Form:
    if opaque.is_pydantic(v) and v.__pydantic_generic_metadata__["args"]:
        name = _named(v, refer=False)
        return ["generic", name.origin, *name.args]
    if not is_found(v):
        raise NoDataFormError
    return ["type", name_of(v)]


def _enum(v: enum.Enum, refer: bool) -> Form:
    cls = type(v)
    members = cls._member_map_
    if members.get(v._name_) is not v and not isinstance(v, enum.Flag):
        raise NoDataFormError
    return ["enum", _named(cls, refer), v._value_]


def _namedtuple(v: Any, refer: bool) -> Form:
    if state.of(v):
        return _sub(v, refer)
    return ["namedtuple", _named(type(v), refer), *tuple.__iter__(v)]


def _sub(v: Any, refer: bool) -> Form:
    cls = type(v)
    base = state.builtin_base(cls)
    assert base is not None
    return ["sub", _named(cls, refer), state.BUILTIN_BASES[base].plain(v), state.of(v) or None]


def _exception(v: BaseException, refer: bool) -> Form:
    known = state.of_exception(v)
    args = BaseException.args.__get__(v)  # type: ignore[attr-defined]
    return ["exception", _named(type(v), refer), args, known or None]


def _fields(v: Any, refer: bool) -> Form:
    cls = type(v)
    held = state.of(v)
    names = [n for n in state.field_names(cls) or () if n in held]
    rest = [n for n in held if n not in names] if len(names) < len(held) else ()
    return ["dataclass", _named(cls, refer), {n: held[n] for n in (*names, *rest)}]


def _pydantic(v: Any, refer: bool) -> Form:
    held = state.of(v)
    given = held.pop("__pydantic_fields_set__", set())
    extra, private = held.pop("__pydantic_extra__", None), held.pop("__pydantic_private__", None)
    given = None if given == held.keys() else sorted(given)
    return ["pydantic", _named(type(v), refer), held, given, extra, private]


def _none(_v: Any, _refer: bool) -> Form:
    raise NoDataFormError


@functools.lru_cache(maxsize=10_000)  # classes made in a loop are not kept alive for ever
def _former_of(cls: Any) -> Former:
    """How values of `cls` are written: decided once, by its bases."""
    name = f"{_package(cls)}:{cls.__qualname__}"  # a path's own module is a private one from Python 3.13 on
    if name in _LOADED_LATER:
        module, _, qualname = name.partition(":")
        if getattr(sys.modules.get(module), qualname, None) is cls:
            return _LOADED_LATER[name]
    if type in cls.__mro__:
        return _class
    if enum.Enum in cls.__mro__:
        return _enum
    if (make := libraries.former(cls, _package(cls))) is not None:
        return lambda v, _: make(v)
    if any(_package(base) in _BUFFERS for base in cls.__mro__) or state.has_hidden(cls):
        return _none
    if BaseException in cls.__mro__:
        return _exception
    if (base := state.builtin_base(cls)) is not None:
        if base is tuple and hasattr(cls, "_fields"):
            return _namedtuple
        return _sub
    if opaque.is_pydantic(cls):
        return _pydantic
    if state.field_names(cls) is not None:
        return _fields
    return _none
