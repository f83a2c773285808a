"""A node's bytes back into the value, whose classes' own code is never called.

Instances are made by the builtin type's `__new__`, and their attributes are put into their dicts and slots. What
does run: importing the module that a type's name says, and the `__hash__` and `__eq__` of a recorded object that
is a key of a dict or an item of a set.
"""

from __future__ import annotations

import collections
import datetime as dt
import enum
import functools
import operator
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import ormsgpack

from ..errors import CodeNotFoundError, KitaruError
from . import libraries, opaque, state
from .buffers import Pieces
from .encoder import encode
from .forms import Reference, form, is_subscriptable
from .joining import join
from .node import EXACT, damaged, exact, read
from .source import Source
from .types import find

__all__ = ["decode"]


def decode(
    data: bytes, *, source: Source | None = None, trusted: bool, script: str | None = None, strict: bool = True
) -> Any:
    """The value whose canonical bytes, or whose root, `data` are.

    Parameters
    ----------
    data
        A node. Whether its digest is right is for the caller to check.
    source
        Where its parts and chunks come from. A value that has none needs none.
    trusted
        Whether a pickle in it may be loaded, which runs the code that it says.
    script
        The path of the script whose classes are named `__main__:X` in it.
    strict
        Whether plain data in another spelling than the encoder's is refused. Where a digest has proved the bytes, to
        ask costs more than it tells.

    Raises
    ------
    UntrustedValueError
        It holds a pickle, and is not trusted.
    CodeNotFoundError
        The class of a value is not to be found here, or is of another kind than it was.
    CorruptionError
        No encoder wrote these bytes.

    Examples
    --------
    >>> from kitaru.codecs import encode
    >>> decode(encode({"a": (1, 2)}).data, trusted=False)
    {'a': (1, 2)}
    """
    if type(data) is not bytes:
        data = bytes(data)
    if source is not None:
        data = join(data, source.get)
    try:
        plain = ormsgpack.unpackb(data)
        # It has no tags, which are refused without a hook. Is it in the one canonical spelling, too?
        if not strict or ormsgpack.packb(plain, None, EXACT) == data:
            return plain
    except (ValueError, TypeError):  # tags, too deep, or damaged: the reader says which
        pass
    return read(data, _Values(source, trusted=trusted, script=script))


class _Values:
    """Builds values."""

    def __init__(self, source: Source | None, *, trusted: bool, script: str | None) -> None:
        self.source = source
        self.trusted = trusted
        self.script = script

    def tagged(self, tag: str, items: list[Any]) -> Any:
        make = _MAKERS.get(tag)
        if make is None and (maker := libraries.maker(tag)) is not None:
            make = _plain(maker)
        if make is None:
            raise damaged(f"nothing is known by the tag {tag!r:.60} (written by a newer Kitaru, or damaged)")
        try:
            value = make(self, *items)
            if tag in _CHECKED:
                _check_same(form(value, refer=False), [tag, *items])
        except KitaruError:
            raise
        except Exception as error:
            raise damaged(f"its {tag!r} cannot be ({type(error).__name__}: {error!s:.200})") from error
        return value

    def mapping(self, pairs: dict[str, Any]) -> Any:
        return pairs

    def leaf(self, value: bytes | float) -> Any:
        return value

    def chunk(self, digest: bytes, length: int) -> _Chunk:
        return _Chunk(digest, length)

    def find(self, name: Any, fits: Callable[[type], Any], kind: str) -> type:
        """The class of that name, if it is one that fits."""
        cls = name if isinstance(name, type) else find(exact(name, str), self.script)
        if not fits(cls):
            raise CodeNotFoundError(
                f"a recorded value is {kind} of the type {name}, but what has that name here is something else. "
                "Load it with the code that recorded it"
            )
        return cls


class _Chunk(NamedTuple):
    digest: bytes
    length: int


def _check_same(again: list[Any], given: list[Any]) -> None:
    """Raise unless a value made from text has this very text as its form, so that it has one spelling."""
    if list(map(type, again)) != list(map(type, given)) or again != given:
        raise ValueError("not in its canonical form")


# ---- builtin types ----------------------------------------------------------------------------------------------


def _dict_of(pairs: tuple[Any, ...], made: Any) -> Any:
    if len(pairs) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        made[key] = value
    if len(made) * 2 != len(pairs) and not any(map(_has_reference, pairs[::2])):
        raise ValueError("a key twice")
    return made


def _set_of(items: tuple[Any, ...], made: Any) -> Any:
    if len(made) != len(items) and not any(map(_has_reference, items)):
        raise ValueError("an item twice")
    return made


def _has_reference(value: Any) -> bool:
    """Several arguments that were no data may be one and the same reference."""
    return type(value) is Reference or (type(value) in (tuple, frozenset) and any(map(_has_reference, value)))


def _when(cls: type[Any], text: Any, fold: Any, zone: Any) -> Any:
    made = cls.fromisoformat(exact(text, str))
    if made.tzinfo is not None or not (zone is None or isinstance(zone, dt.tzinfo)):
        raise ValueError("a zone where none can be")
    return made.replace(fold=exact(fold, int), tzinfo=zone)


def _timezone(seconds: Any, microseconds: Any, name: Any) -> Any:
    offset = dt.timedelta(seconds=exact(seconds, int), microseconds=exact(microseconds, int))
    return dt.timezone(offset) if name is None else dt.timezone(offset, exact(name, str))


def _zoneinfo(key: Any) -> Any:
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(exact(key, str))
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise CodeNotFoundError(f"the time zone {key} is not on this machine: pip install tzdata") from error


def _decimal(text: Any) -> Any:
    import decimal

    return decimal.Decimal(exact(text, str))


def _fraction(numerator: Any, denominator: Any) -> Any:
    import fractions

    return fractions.Fraction(exact(numerator, int), exact(denominator, int))


def _uuid(text: Any) -> Any:
    import uuid

    return uuid.UUID(exact(text, str))


def _path(name: Any, text: Any) -> Any:
    import pathlib

    kinds: dict[str, type[pathlib.PurePath]] = {
        "PosixPath": pathlib.PosixPath,
        "PurePosixPath": pathlib.PurePosixPath,
        "PureWindowsPath": pathlib.PureWindowsPath,
        "WindowsPath": pathlib.WindowsPath,
    }
    try:
        return kinds[exact(name, str)](exact(text, str))
    except NotImplementedError as error:
        raise CodeNotFoundError(f"a recorded value is a {name}, which this system does not have") from error


def _deque(maxlen: Any, *items: Any) -> Any:
    if maxlen is not None and exact(maxlen, int) < len(items):
        raise ValueError("longer than its maxlen")
    return collections.deque(items, maxlen)


def _defaultdict(factory: Any, *pairs: Any) -> Any:
    if factory is not None and not isinstance(factory, (type, types.GenericAlias, Reference)):
        raise TypeError("a factory that is no type")
    made: Any = collections.defaultdict(None)
    _dict_of(pairs, made)
    made.default_factory = factory if not isinstance(factory, Reference) else None
    return made


def _int(text: Any) -> int:
    made = int(exact(text, str), 16)
    if -(1 << 63) <= made < 1 << 64:
        raise ValueError("it is no big integer")
    return made


def _str(raw: Any) -> str:
    text: str = exact(raw, bytes).decode("utf-8", "surrogatepass")
    if not any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("it has no surrogates")
    return text


def _range(start: Any, stop: Any, step: Any) -> range:
    return range(exact(start, int, bool), exact(stop, int, bool), exact(step, int, bool))


# ---- types with a name --------------------------------------------------------------------------------------------


def _type(self: _Values, name: Any) -> type:
    return self.find(exact(name, str), lambda _: True, "the class")


def _generic(self: _Values, origin: Any, *args: Any) -> Any:
    cls: Any = self.find(origin, lambda c: opaque.is_pydantic(c) or is_subscriptable(c), "a generic")
    if is_subscriptable(cls):
        return types.GenericAlias(cls, args)
    base = next(b for b in cls.__mro__ if b.__module__ == "pydantic.main" and b.__name__ == "BaseModel")
    if cls.__class_getitem__.__func__ is not base.__class_getitem__.__func__:
        raise CodeNotFoundError(f"{origin} builds its parametrised classes itself, so a recorded one cannot be had")
    return cls[args if len(args) != 1 else args[0]]


def _union(_: _Values, *args: Any) -> Any:
    return functools.reduce(operator.or_, (_exact_type(a) for a in args))


def _exact_type(value: Any) -> Any:
    if value is not None and not isinstance(value, (type, types.GenericAlias, types.UnionType)):
        raise TypeError("a union of what is no type")
    return value


def _enum(self: _Values, name: Any, value: Any) -> Any:
    cls: Any = self.find(name, lambda c: enum.Enum in c.__mro__, "a member")
    members = cls._member_map_.values()
    for member in members:
        if type(member._value_) is type(value) and member._value_ == value:
            return member
    written = encode(value).data  # of NaN, and of objects that are equal to themselves alone
    for member in members:
        if type(member._value_) is type(value) and encode(member._value_).data == written:
            return member
    if enum.Flag in cls.__mro__ and type(value) is int:
        plain_lookup = type(cls).__call__ is enum.EnumType.__call__
        if plain_lookup and cls._missing_.__func__ is enum.Flag._missing_.__func__:  # type: ignore[attr-defined]
            return cls(value)
    raise CodeNotFoundError(f"{name} has no member with the value {value!r:.80} any more: load it with its old code")


def _namedtuple(self: _Values, name: Any, *items: Any) -> Any:
    cls: Any = self.find(name, lambda c: state.builtin_base(c) is tuple and hasattr(c, "_fields"), "a named tuple")
    if len(items) != len(cls._fields):
        raise CodeNotFoundError(
            f"a recorded {name} has {len(items)} fields, and the class has {len(cls._fields)} now: "
            "load it with its old code"
        )
    return tuple.__new__(cls, items)


def _dataclass(self: _Values, name: Any, held: Any) -> Any:
    cls = self.find(name, lambda c: state.field_names(c) is not None, "a dataclass or attrs instance")
    return _restored(object.__new__(cls), held)


def _pydantic(self: _Values, name: Any, held: Any, given: Any, extra: Any, private: Any) -> Any:
    cls = self.find(name, opaque.is_pydantic, "a pydantic model")
    given = set(exact(held, dict) if given is None else exact(given, list))
    made: Any = object.__new__(cls)
    own = {"__pydantic_fields_set__": given, "__pydantic_extra__": extra, "__pydantic_private__": private}
    for part in (extra, private):
        exact(part, dict, type(None))
    return _restored(_restored(made, held), own)


def _sub(self: _Values, name: Any, plain: Any, held: Any) -> Any:
    base = type(plain)
    cls = self.find(
        name,
        lambda c: state.builtin_base(c) is base and not state.has_hidden(c),
        f"a subclass of {base.__name__}",
    )
    return _restored(state.BUILTIN_BASES[base].make(cls, plain), {} if held is None else held)


def _exception(self: _Values, name: Any, args: Any, held: Any) -> Any:
    cls = self.find(name, lambda c: BaseException in c.__mro__ and not state.has_hidden(c), "an exception")
    base: Any = state.builtin_exception(cls)
    made = base.__new__(cls, *exact(args, tuple))
    if type(made) is not cls:
        raise TypeError(f"it would be a {type(made).__name__}")
    BaseException.args.__set__(made, args)  # type: ignore[attr-defined]
    return _restored(made, {} if held is None else held)


def _restored(made: Any, held: Any) -> Any:
    if not all(type(k) is str for k in exact(held, dict)):
        raise TypeError("an attribute whose name is no text")
    try:
        state.restore(made, held)
    except AttributeError as error:
        raise CodeNotFoundError(
            f"a recorded value does not fit its class here: {error}. Load it with its old code"
        ) from error
    return made


def _reference(_: _Values, kind: Any, name: Any) -> Reference:
    return Reference(exact(kind, str), exact(name, str, type(None)))


def _pickle(self: _Values, body: Any) -> Any:
    return opaque.loads(exact(body, bytes), trusted=self.trusted)


def _buffer(self: _Values, *chunks: Any) -> Pieces:
    if self.source is None:
        raise damaged("it has chunks of its own, and nobody says where they stand")
    return Pieces([(exact(c, _Chunk).digest, c.length) for c in chunks], self.source)


def _plain(make: Callable[..., Any]) -> Callable[..., Any]:
    """A maker that needs no classes."""
    return lambda _, *items: make(*items)


_MAKERS: dict[str, Callable[..., Any]] = {
    "buffer": _buffer,
    "bytearray": _plain(lambda raw: bytearray(exact(raw, bytes))),
    "complex": _plain(lambda real, imag: complex(exact(real, float), exact(imag, float))),
    "dataclass": _dataclass,
    "date": _plain(lambda text: dt.date.fromisoformat(exact(text, str))),
    "datetime": _plain(functools.partial(_when, dt.datetime)),
    "decimal": _plain(_decimal),
    "defaultdict": _plain(_defaultdict),
    "deque": _plain(_deque),
    "dict": _plain(lambda *pairs: _dict_of(pairs, {})),
    "ellipsis": _plain(lambda: ...),
    "enum": _enum,
    "exception": _exception,
    "fraction": _plain(_fraction),
    "frozenset": _plain(lambda *items: _set_of(items, frozenset(items))),
    "generic": _generic,
    "int": _plain(_int),
    "namedtuple": _namedtuple,
    "odict": _plain(lambda *pairs: _dict_of(pairs, collections.OrderedDict())),
    "path": _plain(_path),
    "pickle": _pickle,
    "pydantic": _pydantic,
    "range": _plain(_range),
    "reference": _reference,
    "set": _plain(lambda *items: _set_of(items, set(items))),
    "slice": _plain(slice),
    "str": _plain(_str),
    "sub": _sub,
    "time": _plain(functools.partial(_when, dt.time)),
    "timedelta": _plain(lambda d, s, us: dt.timedelta(exact(d, int), exact(s, int), exact(us, int))),
    "timezone": _plain(_timezone),
    "tuple": _plain(lambda *items: items),
    "type": _type,
    "union": _union,
    "uuid": _plain(_uuid),
    "zoneinfo": _plain(_zoneinfo),
}
# Read from text and numbers by constructors that take more than one spelling.
_CHECKED = frozenset({
    "date", "datetime", "decimal", "fraction", "int", "path", "str", "time", "timedelta", "timezone",
    "uuid", "zoneinfo",
})  # fmt: skip
