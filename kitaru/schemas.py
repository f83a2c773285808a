"""Schemas: what an answer must look like, as a Python type and as the JSON Schema that is recorded in its place.

Whoever answers needs none of the user's code: the schema alone says what is right. Where the type can be had, it is
asked as well, since a model may check more than a schema can say.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union

from .errors import UsageError

__all__ = ["Schema", "check", "checked_by", "fits", "plain", "sample", "schema_of"]

_JSON: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    list: {"type": "array"},
    dict: {"type": "object"},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """A type, and how it is recorded.

    Attributes
    ----------
    json : dict or None
        JSON Schema, draft 2020-12; None: anything that can be recorded.
    type : Any
        The Python type, or None: what is answered is handed on as it is.
    checks : str
        "module:qualname" of a class that checks an answer further; "" where the schema says all there is.
    """

    json: Mapping[str, Any] | None = None
    type: Any = None
    checks: str = ""

    def load(self, data: Any) -> Any:
        """An answer as the type has it. Raises `UsageError` with the type's own message."""
        return data if self.type is None else _loaded(self.type, data)


def schema_of(of: Any) -> Schema:
    """The schema of a Python type.

    Parameters
    ----------
    of
        ``bool``, ``int``, ``float``, ``str``, ``list[str]``, ``dict[str, int]``, ``X | None``; ``Literal[…]``, an
        `Enum`, or a list of choices; a pydantic model; a JSON Schema, as a dict; None: anything. A dataclass, a
        TypedDict and whatever else pydantic knows, where pydantic is installed.

    Raises
    ------
    UsageError
        It describes nothing that JSON can hold.

    Examples
    --------
    >>> schema_of(bool).json, schema_of(["yes", "no"]).json
    ({'type': 'boolean'}, {'enum': ['yes', 'no']})
    """
    if of is None or of is Any:
        return Schema()
    if isinstance(of, Mapping):
        _check_schema(of)
        return Schema(json.loads(json.dumps(dict(of))))
    if isinstance(of, (list, tuple)) and of:
        return schema_of(Literal[tuple(of)])
    if (simple := _simple(of)) is not None:
        return Schema(simple, of, _name(of) if _is_enum(of) else "")
    adapter = _adapter(of)
    try:
        described = adapter.json_schema()
    except Exception as e:
        raise UsageError(f"schema={of!r:.80} has no JSON Schema: {e}") from e
    return Schema(described, of, _name(of))


def check(schema: Mapping[str, Any] | None, data: Any) -> None:
    """Refuse an answer that does not fit. Raises `UsageError` with the place in it and the schema's own message.

    Examples
    --------
    >>> check({"type": "object", "properties": {"ok": {"type": "boolean"}}}, {"ok": "yes"})
    Traceback (most recent call last):
        ...
    kitaru.errors.UsageError: at ok: 'yes' is not of type 'boolean'
    """
    if schema is None:
        return
    from jsonschema import Draft202012Validator

    found = sorted(Draft202012Validator(schema).iter_errors(data), key=lambda e: list(map(str, e.absolute_path)))
    if found:
        raise UsageError("; ".join(_said(e.absolute_path, e.message) for e in found[:5]))


def fits(schema: Mapping[str, Any] | None, data: Any) -> bool:
    """Whether an answer does."""
    try:
        check(schema, data)
    except UsageError:
        return False
    return True


def checked_by(checks: str, data: Any, script: str | None = None) -> None:
    """Ask the type that a wait names, where it can be had here. Raises `UsageError` with its message."""
    from .codecs.types import find
    from .errors import CodeNotFoundError

    if not checks:
        return
    try:
        of = find(checks, script)
    except CodeNotFoundError:
        return  # the schema was asked, and the flow asks the type again
    _loaded(of, data)


def plain(value: Any) -> Any:
    """A value as JSON has it: a model, an `Enum`, a dataclass or a tuple by what it holds."""
    if hasattr(type(value), "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    return value


def sample(schema: Mapping[str, Any] | None) -> Any:
    """Some data that fits a schema, to be shown in a command that a person completes.

    Examples
    --------
    >>> sample({"type": "object", "properties": {"ok": {"type": "boolean"}}})
    {'ok': True}
    """
    return _sample(schema or {}, schema or {}, 0)


def _sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if depth > 8:
        return None
    for known in ("default", "const"):
        if known in schema:
            return schema[known]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("examples"):
        return schema["examples"][0]
    if (ref := schema.get("$ref", "")).startswith("#/"):
        at: Any = root
        for part in ref[2:].split("/"):
            at = at.get(part, {}) if isinstance(at, Mapping) else {}
        return _sample(at, root, depth + 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _sample(schema[several][0], root, depth + 1)
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        parts = schema.get("properties", {})
        names = schema.get("required") or parts
        return {name: _sample(parts.get(name, {}), root, depth + 1) for name in names}
    if kind == "array":
        return [_sample(schema["items"], root, depth + 1)] if isinstance(schema.get("items"), Mapping) else []
    return {"boolean": True, "integer": 1, "number": 1.0, "null": None}.get(kind, "…")


# ---------------------------------------------------------------- types


def _simple(of: Any) -> dict[str, Any] | None:
    """The schema of a type that needs no library. The same whether pydantic is there or not."""
    if isinstance(of, type) and of in _JSON:
        return dict(_JSON[of])
    if _is_enum(of):
        return _enum([member.value for member in of], of)
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if origin is Literal:
        return _enum(arguments, of)
    if origin in {Union, types.UnionType}:
        parts = [_simple(part) for part in arguments]
        return None if None in parts else {"anyOf": parts}
    if origin is list and len(arguments) == 1 and (items := _simple(arguments[0])) is not None:
        return {"type": "array", "items": items}
    if origin is dict and len(arguments) == 2 and arguments[0] is str and (part := _simple(arguments[1])) is not None:
        return {"type": "object", "additionalProperties": part}
    return None


def _enum(values: Iterable[Any], of: Any) -> dict[str, Any]:
    choices = [plain(value) for value in values]
    for choice in choices:
        if not (choice is None or isinstance(choice, (str, int, float, bool))):
            raise UsageError(f"schema={of!r:.80}: {choice!r:.40} is no choice that can be typed: use texts or numbers")
    return {"enum": choices}


def _is_enum(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, enum.Enum)


def _name(of: Any) -> str:
    from .codecs.types import name_of

    return name_of(of) if isinstance(of, type) and "<locals>" not in of.__qualname__ else ""


def _adapter(of: Any) -> Any:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise UsageError(
            f"schema={of!r:.80}: without pydantic only plain types, lists, dicts, Literal, Enum and JSON Schema are "
            "known; install it (pip install pydantic), or give a JSON Schema"
        ) from None
    try:
        return TypeAdapter(of)
    except Exception as e:
        raise UsageError(f"schema={of!r:.80} is no type that an answer can have: {e}") from e


def _loaded(of: Any, data: Any) -> Any:
    if _is_enum(of):
        for member in of:
            if plain(member) == data and type(plain(member)) is type(data):
                return member
        raise UsageError(f"{data!r:.80} is none of {', '.join(repr(plain(m)) for m in of)}")
    if (simple := _simple(of)) is not None:
        check(simple, data)
        return _as(of, data)
    try:
        return _adapter(of).validate_json(json.dumps(data))  # as JSON: a date is a text there, a tuple an array
    except ValueError as e:  # pydantic's own
        errors = getattr(e, "errors", None)
        found = errors(include_url=False)[:5] if callable(errors) else []
        raise UsageError("; ".join(_said(x["loc"], x["msg"]) for x in found) or str(e)) from e


def _as(of: Any, data: Any) -> Any:
    """Data that fits a simple type, as that has it: in JSON 1 and 1.0 are one number."""
    if of in {int, float} and isinstance(data, (int, float)):
        return of(data)
    if _is_enum(of):
        return next(member for member in of if plain(member) == data and _is_alike(member, data))
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if origin is Literal:
        return next(choice for choice in arguments if plain(choice) == data and _is_alike(choice, data))
    if origin in {Union, types.UnionType}:
        takes = [part for part in arguments if fits(_simple(part), data)]
        return _as(next((part for part in takes if part is type(data)), takes[0]), data)
    if origin is list:
        return [_as(arguments[0], part) for part in data]
    if origin is dict:
        return {key: _as(arguments[1], part) for key, part in data.items()}
    return data


def _is_alike(choice: Any, data: Any) -> bool:
    return isinstance(plain(choice), bool) == isinstance(data, bool)  # True is no 1 there


def _said(path: Iterable[Any], message: str) -> str:
    place = ".".join(map(str, path))
    return f"at {place}: {message}" if place else message


def _check_schema(schema: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as e:
        raise UsageError(f"schema= is no JSON Schema: {_said(e.absolute_path, e.message)}") from e
