"""What a person needs to recognise a value: its type, its length and a glimpse, as plain data of at most 500 bytes.

Made once, when a value is recorded, and kept in its record: listings download no value. A preview looks at the
first few items of the first few levels and calls no code of the value's own class, but for arrays and frames of a few
known libraries, of which it asks shape and columns. Its text holds no control characters, whatever the value does.
"""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import types
from collections.abc import Callable, Iterable
from typing import Any

from .codecs import Reference, state
from .codecs.types import name_of

__all__ = ["preview", "preview_line"]

_TEXT = 240  # bytes of the text in UTF-8; with the type's name and the rest it stays below 500
_TYPE = 100  # characters of a type's name, shown as ASCII
_ITEMS, _INNER, _DEPTH, _WORDS = 5, 3, 3, 80  # of the outer container; of each inner; levels; characters of a text
_EXACT_REPR = {bool, float, complex, type(None), type(...), dt.date, dt.timedelta}
_EVERYDAY = {dict, list, str, int, float, bool, type(None), tuple, bytes}
_SIZED: frozenset[type] = frozenset(state.BUILTIN_BASES) - {int, float, complex}
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def preview(value: Any) -> dict[str, Any]:
    """A glimpse of `value` as plain data.

    Returns
    -------
    dict
        `type`, the name of its type without "builtins."; `len`, where it has one; `text`, what it begins with.
        At most 500 bytes as msgpack or as JSON in UTF-8, printable, and without addresses in memory.

    Examples
    --------
    >>> preview({"name": "numpy", "files": [1, 2, 3]})
    {'type': 'dict', 'len': 2, 'text': "{'name': 'numpy', 'files': [1, 2, 3]}"}
    """
    glimpse: dict[str, Any] = {"type": "object"}
    try:
        glimpse["type"] = _type_name(type(value))
        length = _length(value)
        if length is not None:
            glimpse["len"] = length
        glimpse["text"] = _cut(_glance(value, 0, _TEXT))
    except Exception as error:  # a hostile value: its type is what can be said
        glimpse["text"] = f"<no preview: {type(error).__name__:.60}>"
    return glimpse


def preview_line(p: dict[str, Any], width: int = 80) -> str:
    """A preview in one line of at most `width` characters: for a table. Safe for previews from anywhere.

    >>> preview_line({"type": "dict", "len": 2, "text": "{'name': 'numpy', 'files': [1, 2, 3]}"}, width=30)
    "dict(2) {'name': 'numpy', 'fi…"
    """
    kind, length, text = p.get("type"), p.get("len"), p.get("text")
    line = kind[:_TYPE] if isinstance(kind, str) else "?"
    if type(length) is int and length.bit_length() <= 64:
        line += f"({length})"
    if isinstance(text, str) and text:
        line += f" {text[: 4 * max(width, 0)]}"
    line = printable(line)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"[:width]


def printable(text: str) -> str:
    r"""`text` with everything that does not print as itself escaped, as `repr` escapes it.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _type_name(cls: type) -> str:
    if cls in _EVERYDAY:
        return cls.__name__
    name = name_of(cls)
    name = name.removeprefix("builtins:").removeprefix("__main__:").replace(":", ".")[:_TYPE]
    return name if name.isascii() and name.isprintable() else ascii(name)[1:-1][:_TYPE]


def _length(value: Any) -> int | None:
    cls = type(value)
    if cls in _SIZED:
        return len(value)
    base: Any = state.builtin_base(cls)
    return base.__len__(value) if base in _SIZED else None


def _cut(text: str) -> str:
    """`text` within the bytes that there are for it; surrogates were escaped by `repr`."""
    if len(text) * 4 <= _TEXT:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= _TEXT else data[: _TEXT - 3].decode("utf-8", "ignore") + "…"


def _glance(value: Any, depth: int, room: int) -> str:
    """What `value` begins with. `room` is about how many characters are wanted: work stops soon after them."""
    cls = type(value)
    if cls is str:
        return _quoted(value, _WORDS if depth else _TEXT)
    if cls is int:
        return str(value) if value.bit_length() <= 256 else f"<int of {value.bit_length()} bits>"
    if cls in _EXACT_REPR:
        return repr(value)
    if cls is dict:
        return _pairs(value.items(), len(value), depth, room, ("{", "}"))
    if cls in _BRACKETS:
        return _items(value, len(value), depth, room, _BRACKETS[cls])
    if cls is bytes or cls is bytearray:
        return repr(value[:24]) + ("…" if len(value) > 24 else "")
    return _other(value, depth, room)


def _items(items: Iterable[Any], count: int, depth: int, room: int, around: tuple[str, str]) -> str:
    left, right = around
    if depth >= _DEPTH and count:
        return f"{left}…{right}"
    parts = []
    for item in itertools.islice(items, _INNER if depth else _ITEMS):
        text = _glance(item, depth + 1, room)
        parts.append(text)
        room -= len(text) + 2
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
    for key, item in itertools.islice(pairs, 2 * (_INNER if depth else _ITEMS)):
        name = f"{printable(str(key)[:_WORDS])}=" if fields else f"{_glance(key, depth + 1, room)}: "
        room -= len(name) + 2
        text = name + _glance(item, depth + 1, room)
        parts.append(text)
        room -= len(text) - len(name)
        if room < 0:
            break
    if len(parts) < count:
        parts.append("…")
    return f"{left}{', '.join(parts)}{right}"


def _other(value: Any, depth: int, room: int) -> str:
    cls = type(value)
    if issubclass(cls, type):
        return f"<class {_type_name(value)}>"
    if cls is Reference:
        return printable(repr(value)[: 2 * _WORDS])
    if (write := _TEXTS.get(name_of(cls).replace("pathlib._local:", "pathlib:"))) is not None:
        return printable(write(value)[: 2 * _WORDS])
    name = _short_name(cls)
    if enum.Enum in cls.__mro__ and isinstance(value._name_, str):
        return printable(f"{name}.{value._name_[:_WORDS]}")
    if BaseException in cls.__mro__:
        args = BaseException.args.__get__(value)  # type: ignore[attr-defined]
        return _items(args, len(args), depth, room, (f"{name}(", ")"))
    if (base := cls if cls in state.BUILTIN_BASES else state.builtin_base(cls)) is not None:
        return _extended(value, name, base, depth, room)
    names = state.field_names(cls)
    if names is not None or _is_model(cls):
        held = state.of(value)
        shown = {n: held[n] for n in names if n in held} if names is not None else _model_fields(held)
        return _pairs(shown.items(), len(shown), depth, room, (f"{name}(", ")"), fields=True)
    if cls.__module__.partition(".")[0] in _TABULAR and (said := _tabular(value, name)):
        return said
    own = getattr(value, "__qualname__", None) if cls in _NAMED else None
    return f"<{_type_name(cls)} {printable(own[:_WORDS])}>" if isinstance(own, str) else f"<{_type_name(cls)}>"


def _extended(value: Any, name: str, base: Any, depth: int, room: int) -> str:
    """A subclass of a builtin type: its content, by the builtin type's own methods."""
    if base is tuple and isinstance(names := getattr(type(value), "_fields", None), tuple):
        named = zip(names, tuple.__iter__(value), strict=False)
        return _pairs(named, tuple.__len__(value), depth, room, (f"{name}(", ")"), fields=True)
    if issubclass(base, dict):
        return _pairs(base.items(value), dict.__len__(value), depth, room, (f"{name}({{", "})"))
    if base in (str, bytes, bytearray):
        return f"{name}({_glance(base.__getitem__(value, slice(0, _TEXT)), 1, room)})"
    if base in (int, float, complex):
        return f"{name}({_glance(state.BUILTIN_BASES[base].plain(value), 1, room)})"
    return _items(base.__iter__(value), base.__len__(value), depth, room, (f"{name}([", "])"))


def _quoted(text: str, most: int) -> str:
    if len(text) <= most:
        return repr(text)
    return repr(text[:most]) + "…"


def _short_name(cls: type) -> str:
    return _type_name(cls).rpartition(".")[2]


def _is_model(cls: type) -> bool:
    return any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__)


def _model_fields(held: dict[str, Any]) -> dict[str, Any]:
    extra = held.get("__pydantic_extra__")
    shown = {name: part for name, part in held.items() if not name.startswith("__pydantic_")}
    return {**shown, **extra} if type(extra) is dict else shown


def _tabular(value: Any, name: str) -> str:
    """An array, series or frame: its shape, and the type of its elements or the names of its columns."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple):
        return ""
    parts = [f"shape={tuple(map(int, shape[: 2 * _ITEMS]))}"]
    columns, dtype = getattr(value, "columns", None), getattr(value, "dtype", None)
    if columns is not None:
        names = [str(c)[:_WORDS] for c in itertools.islice(columns, 2 * _ITEMS)]
        names += ["…"] if len(columns) > len(names) else []
        parts.append(f"columns=[{', '.join(names)}]")
    elif dtype is not None:
        parts.append(f"dtype={str(dtype)[:_WORDS]}")
    return printable(f"{name}({', '.join(parts)})")


def _moment(value: Any) -> str:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone or name_of(type(zone)) == "zoneinfo:ZoneInfo":
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
_TABULAR = {"numpy", "pandas", "polars", "torch"}
"""Whose own arrays and frames say what they are by attributes; a subclass is the user's own code."""
_NAMED = {types.FunctionType, types.BuiltinFunctionType, types.MethodType}
