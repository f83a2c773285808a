"""What a value begins with, in one line: builtin types, models, chat messages, at the first few levels.

No code of a value's own class is called, not even to compare or to hash it: builtin types are read by their own
methods, other classes by what their instances hold, and of other libraries only the types that `samples` knows are
asked. What does not print as itself is escaped.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .codecs import Reference, state
from .codecs.types import is_found, name_of

__all__ = [
    "EVERYDAY",
    "chat_line",
    "chat_of",
    "fitting",
    "glance",
    "is_tame",
    "length_of",
    "library_of",
    "printable",
    "type_name",
]

EVERYDAY = {dict, list, str, int, float, bool, type(None), tuple, bytes}
"""Types whose names need no looking up."""


_TEXT = 240  # bytes of the text in UTF-8; with the type's name and the rest it stays below 500
_TYPE = 100  # characters of a type's name, shown as ASCII
_ITEMS, _INNER, _DEPTH, _WORDS = 5, 3, 3, 80  # of the outer container; of each inner; levels; characters of a text
_LEAST = 20  # characters that each item may have, however many there are beside it
_ROLE, _SAID, _FIELDS = 24, 40, 16  # of a message: characters of its role, and of what it says; fields looked at
_EXACT_REPR = {bool, float, complex, type(None), type(...), dt.date, dt.timedelta}
_SIZED: frozenset[type] = frozenset(state.BUILTIN_BASES) - {int, float, complex}
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def printable(text: str) -> str:
    r"""`text` with everything that does not print as itself escaped, as `repr` escapes it.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


# ---------------------------------------------------------------- classes: looked at, never asked


@functools.cache
def _asks_nobody(metaclass: type) -> bool:
    """Whether classes of this metaclass can be hashed, compared and looked into without code of the user's."""
    own = set(metaclass.__mro__) - {type, object}
    return all(_ASKED.isdisjoint(vars(base)) for base in own)


_ASKED = {"__eq__", "__getattribute__", "__hash__", "__mro__", "__name__", "__qualname__"}


def is_tame(cls: type) -> bool:
    """Whether to hash or to compare `cls` itself, or to look into it, calls no code of its metaclass."""
    metaclass = type(cls)
    return metaclass is type or (type(metaclass) is type and _asks_nobody(metaclass))


def type_name(cls: type) -> str:
    """The name by which people call `cls`, in ASCII."""
    name = name_of(cls)
    if library := library_of(cls):  # numpy.ndarray, pandas.DataFrame, as everybody calls them
        short = name.partition(":")[2]
        if vars(sys.modules[library]).get(short) is cls:
            name = f"{library}:{short}"
    name = name.removeprefix("builtins:").removeprefix("__main__:").replace(":", ".")[:_TYPE]
    return name if name.isascii() and name.isprintable() else ascii(name)[1:-1][:_TYPE]


_LIBRARIES = {"PIL", "numpy", "pandas", "polars", "pyarrow", "torch"}
"""Whose own types `samples` knows."""


def library_of(cls: type) -> str:
    """The library that `cls` is really of; "" for all others, whatever a class says of itself.

    Arrays of somebody's own class are NumPy's: what they hold can be had past that class.
    """
    top = name_of(cls).partition(":")[0].partition(".")[0]
    if top in _LIBRARIES and is_found(cls):
        return top
    array = getattr(sys.modules.get("numpy"), "ndarray", None)
    return "numpy" if is_tame(cls) and array in cls.__mro__ else ""


def _sample(value: Any, library: str, **options: int) -> dict[str, Any]:
    from .samples import sample  # loads where such a value is met

    return sample(value, library, **options)


def length_of(value: Any) -> int | None:
    """The length of a builtin container or text, or of a subclass; None for anything else."""
    cls = type(value)
    if cls in _SIZED:
        return len(value)
    base: Any = state.builtin_base(cls)
    return base.__len__(value) if base in _SIZED else None


def fitting(text: str) -> str:
    """`text` within the bytes that there are for it; surrogates were escaped by `repr`."""
    if len(text) * 4 <= _TEXT:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= _TEXT else data[: _TEXT - 3].decode("utf-8", "ignore") + "…"


# ---------------------------------------------------------------- what a value begins with


def glance(value: Any, depth: int = 0, room: int = _TEXT) -> str:
    """What `value` begins with.

    Parameters
    ----------
    depth
        How many containers it lies in; 0: it is looked at for itself.
    room
        About how many characters are wanted: work stops soon after them.
    """
    cls = type(value)
    if cls is str:
        return _quoted(value, (_WORDS if room > _WORDS else max(room, _LEAST)) if depth else _TEXT)
    if cls is int:
        return str(value) if value.bit_length() <= 256 else f"<int of {value.bit_length()} bits>"
    if cls is dict:
        return _pairs(value.items(), len(value), depth, room, ("{", "}"))
    if type(cls) is not type and not is_tame(cls):
        return f"<{type_name(cls)}>"
    if cls in _EXACT_REPR:
        return repr(value)
    if cls in _BRACKETS:
        around = _BRACKETS[cls]
        if depth and value and (cls is list or cls is tuple) and (chat := chat_of(value, room)):
            return f"{around[0]}{chat_line(chat, len(value))}{around[1]}"
        return _items(value, len(value), depth, room, around)
    if cls is bytes or cls is bytearray:
        return repr(value[:24]) + ("…" if len(value) > 24 else "")
    return _other(value, depth, room)


def _items(items: Iterable[Any], count: int, depth: int, room: int, around: tuple[str, str]) -> str:
    left, right = around
    if depth >= _DEPTH and count:
        return f"{left}…{right}"
    parts = []
    todo = min(count, _INNER if depth else _ITEMS)
    for item in itertools.islice(items, todo):
        kind = type(item)
        if kind is float or kind is bool or (kind is str and len(item) <= _LEAST):
            text = repr(item)
        else:
            text = glance(item, depth + 1, room // todo)
        parts.append(text)
        room -= len(text) + 2
        todo -= 1
        if room < 0:
            break
    if len(parts) < count:
        parts.append("…")
    elif "{" in left:
        parts.sort()  # a set's own order is the hash seed's
    return f"{left}{', '.join(parts)}{',' if left == '(' and count == 1 else ''}{right}"


def _pairs(
    pairs: Iterable[tuple[Any, Any]],
    count: int,
    depth: int,
    room: int,
    around: tuple[str, str],
    *,
    fields: bool = False,
) -> str:
    left, right = around
    if depth >= _DEPTH and count:
        return f"{left}…{right}"
    parts = []
    todo = min(count, 2 * (_INNER if depth else _ITEMS))
    for key, item in itertools.islice(pairs, todo):
        if fields:
            name = f"{printable(str(key)[:_WORDS])}="
        elif type(key) is str and len(key) <= _WORDS:
            name = f"{key!r}: "
        else:
            name = f"{glance(key, depth + 1, room)}: "
        room -= len(name) + 2
        kind = type(item)  # the most frequent ones without a call: this is on every step's path
        if kind is float or kind is bool or item is None or (kind is str and len(item) <= _LEAST):
            text = repr(item)
        else:  # each has its share, so that one long value does not hide the names of the others
            text = glance(item, depth + 1, room // todo)
        parts.append(name + text)
        room -= len(text)
        todo -= 1
        if room < 0:
            break
    if len(parts) < count:
        parts.append("…")
    return f"{left}{', '.join(parts)}{right}"


def _other(value: Any, depth: int, room: int) -> str:
    cls = type(value)
    if issubclass(cls, type):
        return f"<class {type_name(value)}>"
    if cls is Reference:
        return printable(repr(value)[: 2 * _WORDS])
    if (write := _TEXTS.get(name_of(cls).replace("pathlib._local:", "pathlib:"))) is not None and is_found(cls):
        return printable(write(value)[: 2 * _WORDS])
    name = _short_name(cls)
    if enum.Enum in cls.__mro__ and type(member := state.of(value).get("_name_")) is str:
        return printable(f"{name}.{member[:_WORDS]}")
    if BaseException in cls.__mro__:
        args = BaseException.args.__get__(value)  # type: ignore[attr-defined]
        return _items(args, len(args), depth, room, (f"{name}(", ")"))
    if depth and (library := library_of(cls)) and (found := _sample(value, library, rows=0)):
        return f"{name}({found['text'][: max(room, 2 * _LEAST)]})"
    if (base := cls if cls in state.BUILTIN_BASES else state.builtin_base(cls)) is not None:
        return _extended(value, name, base, depth, room)
    names = state.field_names(cls)
    if names is not None or _is_model(cls):
        held = state.of(value)
        shown = {n: held[n] for n in names if n in held} if names is not None else _model_fields(held)
        return _pairs(shown.items(), len(shown), depth, room, (f"{name}(", ")"), fields=True)
    own = value.__qualname__ if cls in _NAMED else None
    return f"<{type_name(cls)} {printable(own[:_WORDS])}>" if type(own) is str else f"<{type_name(cls)}>"


def _extended(value: Any, name: str, base: Any, depth: int, room: int) -> str:
    """A subclass of a builtin type: its content, by the builtin type's own methods."""
    if base is tuple:
        names = next((vars(each)["_fields"] for each in type(value).__mro__ if "_fields" in vars(each)), None)
        if type(names) is tuple and all(type(n) is str for n in names):
            named = zip(names, tuple.__iter__(value), strict=False)
            return _pairs(named, tuple.__len__(value), depth, room, (f"{name}(", ")"), fields=True)
    if issubclass(base, dict):
        return _pairs(base.items(value), dict.__len__(value), depth, room, (f"{name}({{", "})"))
    if base in (str, bytes, bytearray):
        return f"{name}({glance(base.__getitem__(value, slice(0, _TEXT)), 1, room)})"
    if base in (int, float, complex):
        return f"{name}({glance(state.BUILTIN_BASES[base].plain(value), 1, room)})"
    return _items(base.__iter__(value), base.__len__(value), depth, room, (f"{name}([", "])"))


def _quoted(text: str, most: int) -> str:
    if len(text) <= most:
        return repr(text)
    return repr(text[:most]) + "…"


def _short_name(cls: type) -> str:
    return type_name(cls).rpartition(".")[2]


def _is_model(cls: type) -> bool:
    return any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__)


def _model_fields(held: dict[str, Any]) -> dict[str, Any]:
    extra = held.get("__pydantic_extra__")
    shown = {name: part for name, part in held.items() if not name.startswith("__pydantic_")}
    return {**shown, **extra} if type(extra) is dict else shown


# ---------------------------------------------------------------- chat messages


def chat_of(items: Any, room: int | None = None) -> list[list[str]]:
    """Role and beginning of the first message and of the last, or of all where they are no more than three and there
    is no bound on the `room`. Nothing where these are no messages: costs nearly nothing then.
    """
    first = type(items[0])
    if first is str or first is int or first is float or first is list:
        return []
    last = len(items) - 1
    at = [0, 1, 2] if last == 2 and room is None else [0, last] if last else [0]
    most = _SAID if room is None else min(max(room // 2 - 16, _LEAST), _SAID)
    chat = []
    for n in at:
        message = _message(items[n])
        if message is None:
            return []
        chat.append([message[0], _said(message[1], most)])
    return chat


def chat_line(chat: Sequence[Sequence[str]], count: int) -> str:
    """The first message, how many there are between, and the last, which tells one turn from the next."""
    parts = [f"{role}: {said}" for role, said in (chat[0], chat[-1])[:count]]
    if count > 2:
        parts.insert(1, f"(+{count - 2})")
    return "; ".join(parts)


_SPEAKERS = {"ai", "assistant", "developer", "function", "human", "system", "tool", "user"}


def _message(item: Any) -> tuple[str, Any] | None:
    """The role of a message, and what it says: of a dict with `role` and `content`, or a model with such fields."""
    if type(item) is dict and not any(type(key) is str and key == "role" for key in itertools.islice(item, _FIELDS)):
        return None
    fields = _fields_of(item)
    if not fields:
        return None
    role = fields.get("role")
    if role is None and type(item) is not dict:  # LangChain's messages say by `type` who speaks
        role = fields.get("type")
        role = role if type(role) is str and role in _SPEAKERS else None
    if role is None or not issubclass(type(role), str):
        return None
    for name in ("content", "parts"):
        content = fields.get(name)
        if content is not None and not (type(content) is str and not content):
            break
    else:
        content = fields.get("tool_calls", fields.get("content"))
        if content is None and "content" not in fields:
            return None
    return _short(str.__getitem__(role, slice(0, _ROLE)), _ROLE), content


def _fields_of(item: Any) -> dict[str, Any]:
    """The first fields of a dict or a model that have a text for a name."""
    cls = type(item)
    if cls is not dict:
        if not is_tame(cls) or cls in EVERYDAY or (state.field_names(cls) is None and not _is_model(cls)):
            return {}
        item = state.of(item)
    # Not by looking a name up in it: that would compare the name with keys that may be anything.
    return {k: v for k, v in itertools.islice(item.items(), _FIELDS) if type(k) is str}


def _said(content: Any, room: int) -> str:
    """What a message says, in one line of about `room` bytes."""
    if type(content) is str:
        text = " ".join(content[: 2 * room].split())
        return _short(text, room, more=len(content) > 2 * room)
    if type(content) is list or type(content) is tuple:
        parts: list[str] = []
        left = room
        for block in content[:3]:
            parts.append(_block(block, left))
            left -= len(parts[-1])
            if left <= 0:
                break
        return _short(" ".join([*parts, *(["…"] if len(content) > len(parts) else [])]), room)
    return _short(glance(content, 1, room), room)


def _short(text: str, room: int, *, more: bool = False) -> str:
    """`text` as it prints, in at most `room` bytes and an ellipsis."""
    shown = printable(text[: room + 1])
    if not shown.isascii():
        shown = shown.encode()[: room + 1].decode(errors="ignore")
        more = more or len(text) > len(shown)
    return f"{shown[:room]}…" if more or len(shown) > room else shown


def _block(block: Any, room: int) -> str:
    """One part of a message: its text, the tool that it calls, or what kind of thing it is."""
    room = max(room, _LEAST)
    if type(block) is str:
        return _said(block, room)
    fields = _fields_of(block)
    called = _fields_of(fields.get("function")) or fields
    if type(name := called.get("name")) is str:
        given = next((called[key] for key in ("arguments", "args", "input") if key in called), None)
        shown = "" if given is None else _said(given, room) if type(given) is str else glance(given, 2, room)
        return f"{printable(name[:_ROLE])}({shown[: 2 * room]})"
    for key in ("text", "content", "thinking"):
        if type(text := fields.get(key)) is str:
            return _said(text, room)
    kind = fields.get("type", fields.get("kind"))
    return f"[{printable(kind[:_ROLE])}]" if type(kind) is str else glance(block, 2, room)[: 2 * room]


# ---------------------------------------------------------------- the standard library's own


_ZONES = {"zoneinfo:ZoneInfo", "pydantic_core._pydantic_core:TzInfo"}


def _moment(value: Any) -> str:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone or name_of(type(zone)) in _ZONES:
        return str(value.isoformat())
    return str(value.replace(tzinfo=None).isoformat())  # another zone is the user's own code


_TEXTS: dict[str, Callable[[Any], str]] = {
    "datetime:datetime": _moment,
    "datetime:time": _moment,
    "datetime:timezone": repr,
    "builtins:range": lambda v: repr(v) if max(map(abs, (v.start, v.stop, v.step))).bit_length() <= 256 else "range(…)",
    "decimal:Decimal": str,
    "fractions:Fraction": lambda v: str(v) if v.numerator.bit_length() + v.denominator.bit_length() < 500 else "…",
    "uuid:UUID": str,
    **{f"pathlib:{name}": str for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")},
    "zoneinfo:ZoneInfo": lambda v: str(v.key),
}
_NAMED = {types.FunctionType, types.BuiltinFunctionType, types.MethodType}
