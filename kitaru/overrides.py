"""Overrides as people type them: ``REF=JSON``, made values of the types that are recorded at their places.

JSON has no tuples, sets, dates, dataclasses or models. Where a step's output was one of these, what is typed in its
place becomes one as well, so that the code that reads it meets what it expects::

    >>> typed([1, 2], (0, 0))
    (1, 2)
    >>> import datetime as dt
    >>> typed({"when": "2026-11-24"}, {"when": dt.date(2026, 1, 1)})
    {'when': datetime.date(2026, 11, 24)}
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from .artifacts import Values
from .errors import KitaruError, UsageError
from .forks import Origin, find
from .records import Argument, Value
from .refs import parse_ref

__all__ = ["as_recorded", "read_overrides", "typed"]

_TEXT = {".txt", ".md"}
_LARGE = 16_000_000  # bytes of a recorded value that is not loaded for its type
_BY_TEXT = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    uuid.UUID: uuid.UUID,
}


def read_overrides(texts: Iterable[str], option: str, before: str = "") -> dict[str, Any]:
    """What was typed behind `option`, as plain data by REF.

    Parameters
    ----------
    texts
        ``REF=JSON``, or ``REF=@FILE``: a file of JSON, or of text where it ends with .txt or .md.
    option
        Its name, for messages: ``--set``.
    before
        What each REF is to begin with: ``input.`` where only the name of an input is typed.

    Raises
    ------
    UsageError
        It is not of this form, is no JSON, or its file cannot be read.
    """
    out: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} {text}: write {option} {'NAME' if before else 'REF'}=JSON, or =@FILE")
        if before + name.strip() in out:
            raise UsageError(f"{option} {name.strip()} is given twice: which of the two is meant?")
        out[before + name.strip()] = _read(value, f"{option} {name.strip()}")
    return out


def _read(text: str, what: str) -> Any:
    if text.startswith("@"):
        file = pathlib.Path(text[1:])
        try:
            text = file.read_text("utf-8")
        except (OSError, ValueError) as e:
            raise UsageError(f"{what}: {file} cannot be read: {getattr(e, 'strerror', None) or e}") from None
        if file.suffix in _TEXT:
            return text
        what = f"{what}=@{file}"
    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"{what}: it is nested too deeply") from None
    except ValueError as e:
        shown = text if len(text) <= 60 else f"{text[:59]}…"
        raise UsageError(
            f"{what}: {shown!r} is no JSON: {e}. Text stands in double quotes, and all of it in single ones for the "
            f"shell: '\"MIT\"'"
        ) from None


def as_recorded(overrides: Mapping[str, Any], origin: Origin, values: Values, option: str = "--set") -> dict[str, Any]:
    """The same overrides, each of the type that is recorded at its place, where that can be had.

    Raises
    ------
    UsageError
        A dataclass or a model does not take what is given.
    """
    out = dict(overrides)
    for key, value in overrides.items():
        recorded = _recorded(origin, key)
        if not recorded:
            continue
        try:
            if len(recorded) == 1:
                out[key] = _of_type(value, recorded[0][1], values)
            elif isinstance(value, Mapping):
                kept = dict(recorded)
                out[key] = {n: _of_type(v, kept[n], values) if n in kept else v for n, v in value.items()}
            elif isinstance(value, list) and len(value) == len(recorded):
                out[key] = [_of_type(v, r, values) for v, (_, r) in zip(value, recorded, strict=True)]
        except _DoesNotFit as e:
            shown = key.removeprefix("input.") if option == "--input" else key
            raise UsageError(f"{option} {shown}: {e}") from None
    return out


def _recorded(origin: Origin, key: str) -> list[Argument]:
    """What stands at the place that an override names; empty where nothing does, which others complain about."""
    kind, _, rest = key.partition(".")
    points = origin.view.points
    if kind == "input" and rest:
        return [(n, v) for n, v in origin.begun.arguments if n == rest]
    if kind == "type" and rest:
        of, _, argument = rest.partition(".in.")
        found = (dict(p.start.arguments).get(argument) for p in points.values() if p.start.type == of)
        return [(argument, v) for v in found if v is not None][:1]
    try:
        ref = parse_ref(rest if kind == "checkpoint" and rest else key)
        p = points[find(origin, ref)]
    except KitaruError:
        return []
    if ref.argument is not None:
        return [(n, v) for n, v in p.start.arguments if n == ref.argument]
    outputs = [*(p.value or ())] if p.ok else []
    return [(n, v) for n, v in outputs if ref.output in {None, n}]


def _of_type(plain: Any, recorded: Value, values: Values) -> Any:
    full = values.index.full(recorded)
    if full.kind in {"reference", "bytes"} or full.size > _LARGE or (full.kind == "pickle" and not values.trusted):
        return plain
    try:
        like = values.load(full)
    except (KitaruError, ImportError):  # its class is gone, say: what is typed is what there is
        return plain
    return typed(plain, like)


# ---------------------------------------------------------------- plain data, like something


class _DoesNotFit(Exception):
    """What is typed is not of the recorded type; told as a `UsageError` that names the option."""


def typed(plain: Any, like: Any) -> Any:
    """Plain data as a value of the type that `like` has, and its parts of the types of their counterparts.

    What has no counterpart stays as it is: JSON's null, say, and another kind of data than was recorded.
    """
    kind = type(like)
    if kind is float and type(plain) is int:
        return float(plain)
    if isinstance(plain, str):
        return _from_text(plain, kind)
    if issubclass(kind, enum.Enum):
        return _from_text(plain, kind)
    if kind is decimal.Decimal and type(plain) is int:
        return decimal.Decimal(plain)
    if isinstance(plain, list):
        return _from_list(plain, like)
    if isinstance(plain, dict):
        return _from_dict(plain, like)
    return plain


def _from_text(plain: Any, kind: type) -> Any:
    if issubclass(kind, str) and not issubclass(kind, enum.Enum):
        return plain
    try:
        if issubclass(kind, (enum.Enum, decimal.Decimal, pathlib.PurePath)):
            return kind(plain)
        return _BY_TEXT[kind](plain) if kind in _BY_TEXT else plain
    except (ValueError, ArithmeticError):
        return plain


def _from_list(plain: list[Any], like: Any) -> Any:
    kind = type(like)
    if kind in {list, tuple}:
        items = [typed(v, like[min(n, len(like) - 1)]) if like else v for n, v in enumerate(plain)]
        return kind(items)
    if kind in {set, frozenset}:
        one = next(iter(like), None)
        try:
            return kind(typed(v, one) for v in plain)
        except TypeError:  # a list in a set
            return plain
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        if len(plain) != len(like):
            raise _DoesNotFit(f"{kind.__qualname__} has the fields {', '.join(like._fields)}")
        return kind(*(typed(v, of) for v, of in zip(plain, like, strict=True)))
    return plain


def _from_dict(plain: dict[str, Any], like: Any) -> Any:
    kind = type(like)
    if kind is dict:
        other = next(iter(like.values())) if len({type(v) for v in like.values()}) == 1 else None
        return {k: typed(v, like.get(k, other)) for k, v in plain.items()}
    if callable(validate := getattr(kind, "model_validate", None)):  # a model of pydantic, without importing it
        try:
            return validate(plain)
        except ValueError as e:
            raise _DoesNotFit(f"{kind.__qualname__} does not take it: {e}") from None
    if dataclasses.is_dataclass(kind):
        given = {f.name: getattr(like, f.name, None) for f in dataclasses.fields(kind) if f.init}
        named = {k: typed(v, given.get(k)) for k, v in plain.items()}
    elif isinstance(like, tuple) and hasattr(like, "_fields"):
        named = {k: typed(v, getattr(like, k, None)) for k, v in plain.items()}
    else:
        return plain
    try:
        return kind(**named)
    except (TypeError, ValueError) as e:
        raise _DoesNotFit(f"{kind.__qualname__} does not take it: {e}") from None
