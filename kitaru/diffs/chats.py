"""Messages of a chat: which lists are one, whose turn a message is, and what it says, whatever its wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from ..messages import Message, Part, Text, ToolResult, Unknown, detect, read

__all__ = ["Turn", "is_chat", "role_of", "turns_of"]

_CONTENT = {"content", "parts", "tool_calls"}
_ROLES = ("role", "type", "kind")  # an object says its role by one of these; a plain dict by the first alone


def role_of(named: Mapping[str, Any] | None, *, plain: bool) -> str:
    """Whose turn the message is that has these items or attributes; "" where it is no message.

    >>> role_of({"role": "user", "content": "Hi"}, plain=True)
    'user'
    """
    if named is None or _CONTENT.isdisjoint(named):
        return ""
    for name in _ROLES[: 1 if plain else None]:
        role = named.get(name)
        if isinstance(role, str) and 0 < len(role) <= 40:
            return role
    return ""


def is_chat(roles: Sequence[str]) -> bool:
    """Whether items with these roles are a chat's turns: each has one."""
    return bool(roles) and all(roles)


class Turn(NamedTuple):
    """A message of a known wire format.

    Attributes
    ----------
    says : dict
        Its role, its parts with their fields, and what its format says beyond them.
    plain : bool
        It is a role and a text, and its wire form says that as well as any other.
    """

    role: str
    says: dict[str, Any]
    plain: bool


def turns_of(value: Any) -> list[Turn]:
    """The turns of a list of messages, or of a message alone, one for each; empty where no format is recognised.

    >>> [(turn.role, turn.says["parts"]) for turn in turns_of([{"role": "user", "parts": [{"text": "Hi"}]}])]
    [('user', ({'text': 'Hi'},))]
    """
    if type(value) is not list and not (type(value) is dict and "role" in value):
        return []
    if detect(value) is None:
        return []
    messages = read(value).messages
    one_each = len(messages) == (len(value) if type(value) is list else 1)
    return [_turn(message) for message in messages] if one_each else []


def _turn(message: Message) -> Turn:
    wire = message.origin.wire if message.origin is not None else None
    plain = isinstance(wire, dict) and isinstance(wire.get("content"), str) and _is_text(message.parts)
    says = {"role": message.role, "parts": tuple(_part(part, wire) for part in message.parts), **message.extra}
    return Turn(message.role, says, plain)


def _is_text(parts: Sequence[Part]) -> bool:
    return all(isinstance(part, Text) for part in parts)


def _part(part: Part, around: Any = None) -> Any:
    """What a part says; in tuples, so that it is not taken for messages itself."""
    if isinstance(part, Unknown):
        return part.data
    extra = part.extra if part.origin is not None and part.origin.wire is not around else {}  # said by the message
    said = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "origin"}
    if isinstance(part, ToolResult) and isinstance(part.content, tuple):
        said["content"] = tuple(map(_part, part.content))
    told = {name: v for name, v in said.items() if name == "text" or not (v is None or v is False or v == "")}
    return told | dict(extra)
