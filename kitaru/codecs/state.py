"""What an instance holds, read and set without its class's own code: its dict, its slots, its builtin content."""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "BUILTIN_BASES",
    "builtin_base",
    "builtin_exception",
    "field_names",
    "has_hidden",
    "of",
    "of_exception",
    "restore",
]

_HEAP_TYPE = 1 << 9
_DERIVED = functools.cached_property  # made from the rest when asked for, so no part of the value
_HASH = "_attrs_cached_hash"  # of attrs' `cache_hash=True`: None until it is asked for, and the hash seed's then
_NO_STATE = {"__orig_class__"}  # typing leaves it on instances of Generic classes; it counts in no comparison
_IMMUTABLE_OR_FOREIGN = {
    "args",
    "exceptions",
    "message",
    "obj",
}  # of exceptions: set by __new__, or no part of it


class _Layout(NamedTuple):
    """Where a class's instances keep their attributes."""

    slots: dict[str, Any]  # name → member descriptor
    told: dict[str, Any]  # those that are part of the value
    dict_of: Callable[[Any], dict[str, Any]] | None
    derived: frozenset[str]


class _Builtin(NamedTuple):
    """How the content of a subclass's instance is taken, and how an instance is made from it."""

    plain: Callable[[Any], Any]
    make: Callable[[type, Any], Any]


def _filled(base: Any, fill: Callable[[Any, Any], Any]) -> Callable[[type, Any], Any]:
    def make(cls: type, plain: Any) -> Any:
        made = base.__new__(cls)
        fill(made, plain)
        return made

    return make


def _fill_ordered(made: Any, plain: Any) -> None:
    for key, value in plain.items():
        collections.OrderedDict.__setitem__(made, key, value)


def _fill_default(made: Any, plain: Any) -> None:
    collections.defaultdict.__init__(made, plain.default_factory)
    dict.update(made, plain)


def _plain_default(v: Any) -> Any:
    factory = vars(collections.defaultdict)["default_factory"].__get__(v)
    return collections.defaultdict(factory, dict.items(v))


def _plain_deque(v: Any) -> Any:
    maxlen = vars(collections.deque)["maxlen"].__get__(v)
    return collections.deque(collections.deque.__iter__(v), maxlen)


_WHOLE = slice(None)
BUILTIN_BASES: dict[type, _Builtin] = {
    collections.OrderedDict: _Builtin(
        lambda v: collections.OrderedDict(collections.OrderedDict.items(v)),
        _filled(collections.OrderedDict, _fill_ordered),
    ),
    collections.defaultdict: _Builtin(_plain_default, _filled(collections.defaultdict, _fill_default)),
    collections.deque: _Builtin(
        _plain_deque,
        _filled(collections.deque, lambda made, p: collections.deque.__init__(made, p, p.maxlen)),
    ),
    dict: _Builtin(lambda v: dict(dict.items(v)), _filled(dict, dict.update)),
    list: _Builtin(lambda v: list.__getitem__(v, _WHOLE), _filled(list, list.extend)),
    tuple: _Builtin(lambda v: tuple.__getitem__(v, _WHOLE), tuple.__new__),
    set: _Builtin(lambda v: set.__or__(set(), v), _filled(set, set.update)),
    frozenset: _Builtin(lambda v: frozenset.__or__(frozenset(), v), frozenset.__new__),
    str: _Builtin(lambda v: str.__getitem__(v, _WHOLE), str.__new__),
    bytes: _Builtin(lambda v: bytes.__getitem__(v, _WHOLE), bytes.__new__),
    bytearray: _Builtin(lambda v: bytearray.__getitem__(v, _WHOLE), _filled(bytearray, bytearray.extend)),
    int: _Builtin(int.__pos__, int.__new__),
    float: _Builtin(float.__pos__, float.__new__),
    complex: _Builtin(complex.__pos__, complex.__new__),
}


def builtin_base(cls: type) -> type | None:
    """The builtin type that a subclass extends; None for those that extend none, or none that is known here."""
    if cls in BUILTIN_BASES or hasattr(cls, "n_sequence_fields"):  # a structseq hides fields behind its tuple
        return None
    return next((base for base in cls.__mro__ if base in BUILTIN_BASES), None)


def has_hidden(cls: type) -> bool:
    """Whether its instances hold what only C code sees, so that dict, slots and content are not all of it."""
    solid = builtin_base(cls) or builtin_exception(cls) or object
    own = [base for base in cls.__mro__ if base not in solid.__mro__]
    if not all(base.__flags__ & _HEAP_TYPE or base.__module__ == "builtins" for base in own):
        return True
    visible = sum(isinstance(d, types.MemberDescriptorType) for base in own for d in vars(base).values())
    return cls.__basicsize__ > solid.__basicsize__ + 8 * (visible + 2)  # two: its dict and its weak references


def field_names(cls: type) -> tuple[str, ...] | None:
    """The declared fields of a dataclass or an attrs class, in their order; None for any other class."""
    for base in cls.__mro__:
        own = vars(base)
        if isinstance(fields := own.get("__dataclass_fields__"), dict):
            return tuple(fields)
        if isinstance(fields := own.get("__attrs_attrs__"), tuple):
            return tuple(a.name for a in fields)
    return None


def of(value: Any) -> dict[str, Any]:
    """The attributes that `value` holds, but for those that a cached property derived."""
    cls: Any = type(value)
    layout = _layout(cls)
    held = {}
    if layout.told:
        for name, slot in layout.told.items():
            try:
                held[name] = slot.__get__(value)
            except AttributeError:  # never assigned
                continue
    if layout.dict_of is not None:
        held.update(layout.dict_of(value))
        for name in layout.derived:
            held.pop(name, None)
    if _HASH in held:
        held[_HASH] = None
    return held


def of_exception(value: BaseException) -> dict[str, Any]:
    """The attributes of an exception, with what its builtin class holds: `errno`, `filename`, …"""
    held = {}
    for name, member in _members(builtin_exception(type(value))).items():
        try:
            part = member.__get__(value)
        except AttributeError:
            continue
        if part is not None:
            held[name] = part
    held.update(of(value))
    # An exception that was recorded and raised again is the same value: what that left on it does not count.
    held.pop("__kitaru_record__", None)
    notes = held.pop("__notes__", None)
    if isinstance(notes, list):
        notes = [note for note in notes if not (isinstance(note, str) and note.startswith("Recorded traceback:"))]
    if notes:
        held["__notes__"] = notes
    return held


def restore(made: Any, held: dict[str, Any]) -> None:
    """Give `made` these attributes, past its class's own `__setattr__` and properties.

    Raises `AttributeError` where it has no room for one.
    """
    cls: Any = type(made)
    layout = _layout(cls)
    members = _members(builtin_exception(cls))
    for name, part in held.items():
        slot = layout.slots.get(name) or members.get(name)
        if slot is not None:
            slot.__set__(made, part)
        elif layout.dict_of is not None:
            layout.dict_of(made)[name] = part
        else:
            raise AttributeError(f"{cls.__qualname__} has no attribute {name!r}")


def builtin_exception(cls: type) -> type | None:
    """The most derived builtin class of an exception's class."""
    if BaseException not in cls.__mro__:
        return None
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


@functools.cache
def _members(builtin: type | None) -> dict[str, Any]:
    if builtin is None:
        return {}
    described = types.MemberDescriptorType | types.GetSetDescriptorType
    return {
        name: member
        for base in builtin.__mro__[: builtin.__mro__.index(BaseException)]
        for name, member in vars(base).items()
        if isinstance(member, described) and name not in _IMMUTABLE_OR_FOREIGN
    }


@functools.lru_cache(maxsize=10_000)
def _layout(cls: Any) -> _Layout:
    slots: dict[str, Any] = {}
    dict_of = None
    derived, cached = set(_NO_STATE), set()
    for base in cls.__mro__:
        fields = vars(base).get("__attrs_attrs__")
        known = {_HASH, *(a.name for a in fields)} if isinstance(fields, tuple) else None
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and base.__flags__ & _HEAP_TYPE:
                slots.setdefault(name, member)
                if known is not None and name not in known:
                    cached.add(name)  # attrs keeps what a cached property gave in a slot, where it makes slots
            elif name == "__dict__" and isinstance(member, types.GetSetDescriptorType):
                dict_of = dict_of or member.__get__
            elif isinstance(member, _DERIVED):
                derived.add(name)
    return _Layout(slots, {name: slots[name] for name in slots if name not in cached}, dict_of, frozenset(derived))
