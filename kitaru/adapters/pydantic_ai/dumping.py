"""Messages as the data of a step: what a model is sent of them, the same whenever they were sent.

A history grows, and each request has all of it. Pydantic's serializer takes some 20 µs for a message, so what is plain
is read off its fields instead: once the serializer has been seen to say the same of parts of that very shape.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

__all__ = ["dump_messages", "lean_message"]

_SENT = frozenset(
    {"kind", "parts", "instructions", "model_name", "provider_name", "provider_details", "provider_response_id"}
)
_EXPENSIVE = {"__all__": {"usage"}}
_ATOMS = frozenset({str, int, float, bool, type(None), dt.datetime})

_Shape = tuple[Any, ...]
_is_read_off: dict[_Shape, bool] = {}
"""By the class of a message or part, the names of the fields that say something and the classes of their values."""


def dump_messages(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    """Messages as data that is the same for the same conversation, whenever it was held: what a model is sent of it."""
    read = [_read(message) for message in messages]
    left = [message for message, data in zip(messages, read, strict=True) if data is None]
    if left:
        dumped = iter(ModelMessagesTypeAdapter.dump_python(left, exclude=_EXPENSIVE, warnings=False))
        return [
            data if data is not None else _compared(message, _sent(next(dumped)))
            for message, data in zip(messages, read, strict=True)
        ]
    return [data for data in read if data is not None]


def lean_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what says nothing. Content and arguments are the user's own: nothing is left out of those."""
    lean = {name: value for name, value in message.items() if value is not None and value != {}}
    lean["parts"] = [
        {name: value for name, value in part.items() if value is not None or name == "content"}
        for part in message["parts"]
    ]
    return lean


def _sent(message: Mapping[str, Any]) -> dict[str, Any]:
    """Of a message, what a model is sent."""
    sent = lean_message({name: value for name, value in message.items() if name in _SENT})
    for part in sent["parts"]:
        part.pop("timestamp", None)
    return sent


def _read(message: ModelMessage) -> dict[str, Any] | None:
    """A message off its fields; None where the serializer is to say it."""
    try:
        data, shapes = _off_fields(message)
    except (TypeError, _NotPlainError):  # it has no fields, or a value that is more than data
        return None
    return data if all(map(_is_read_off.get, shapes)) else None


def _compared(message: ModelMessage, said: dict[str, Any]) -> dict[str, Any]:
    """What the serializer says of a message. Where its fields say the same, the next one like it is read off them."""
    try:
        data, shapes = _off_fields(message)
    except (TypeError, _NotPlainError):
        return said
    same = repr(data) == repr(said)
    for shape in shapes:
        _is_read_off.setdefault(shape, same)
    return said


def _off_fields(message: ModelMessage) -> tuple[dict[str, Any], list[_Shape]]:
    """It as data, and the shapes of it and of its parts."""
    parts = message.parts
    data = _sent({**vars(message), "parts": [vars(part) for part in parts]})
    shapes = [(type(message), *data, *map(type, data.values()))]
    for part, held in zip(parts, data["parts"], strict=True):
        kinds = [*map(type, held.values())]
        shapes.append((type(part), *held, *kinds))
        if not _ATOMS.issuperset(kinds):
            held.update(_copied(held))
    if "provider_details" in data:
        data["provider_details"] = _copied(data["provider_details"])
    return data, shapes


class _NotPlainError(Exception):
    pass


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return {name: one if type(one) in _ATOMS else _copied(one) for name, one in value.items()}
    if kind is list:
        return [_copied(one) for one in value]
    raise _NotPlainError
