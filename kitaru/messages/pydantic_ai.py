"""Pydantic AI's messages, in the JSON that its `ModelMessagesTypeAdapter` reads and writes.

Each part of a request is a turn of its own: a system prompt, a user's, a tool's result. A response is one turn.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..errors import UsageError
from .lenses import (
    At,
    Format,
    Kind,
    Place,
    Seat,
    Shape,
    arguments,
    base64_image,
    data,
    dig,
    is_type,
    put,
    text,
    tokens,
    write_block,
)  # fmt: skip
from .parts import Image, Message, Part, Text, Thinking, ToolCall, ToolResult, Usage
from .streams import chunks_of

__all__ = ["FORMAT"]


def _part(*names: str) -> Any:
    return is_type(*names, key="part_kind")


def _failed() -> At:
    def read(value: Any) -> dict[str, Any] | None:
        return {"error": value in ("denied", "failed")}

    return At(("outcome",), ("error",), read, lambda part, _: "failed" if part.error else "success", required=False)


_URL = Kind(
    Image,
    (text("url", to="source"), text("media_type", required=False)),
    is_type("image-url", key="kind"),
    {"kind": "image-url"},
    lambda part: isinstance(part.source, str),
)
_BYTES = Kind(
    Image,
    (base64_image("data", encode=base64.urlsafe_b64encode), text("media_type", required=False)),
    lambda wire: is_type("binary", key="kind")(wire) and f"{wire.get('media_type')}".startswith("image/"),
    {"kind": "binary"},
    lambda part: isinstance(part.source, bytes),
)
_SAID = Kind(Text, (text("content", to="text"),), is_type("text-content", key="kind"), {"kind": "text-content"})
_TEXT = Kind(Text, (text("content", to="text"),), _part("text"), {"part_kind": "text"})
_THINKING = Kind(
    Thinking,
    (text("content", to="text"), text("signature", required=False)),
    _part("thinking"),
    {"part_kind": "thinking"},
)
_CALL = Kind(
    ToolCall,
    (
        text("tool_call_id", to="id", required=False),
        text("tool_name", to="name"),
        arguments("args", as_text=False, required=False),
    ),
    _part("tool-call", "builtin-tool-call"),
    {"part_kind": "tool-call"},
)


def _content() -> At:
    """What a tool gave is data; parts, which other formats have, are written as texts and images."""

    def write(part: Any, _: Any) -> Any:
        if not isinstance(part.content, tuple):
            return part.content
        return [inner.text if isinstance(inner, Text) else write_block(inner, (_URL, _BYTES)) for inner in part.content]

    return At(("content",), ("content",), lambda value: {"content": value}, write)


def _returned(*names: str) -> Kind:
    ats = (
        text("tool_name", to="name", required=False),
        _content(),
        text("tool_call_id", to="id", required=False),
        _failed(),
    )
    return Kind(ToolResult, ats, _part(*names), {"part_kind": names[0]})


def _retried() -> Kind:
    ats = (text("tool_name", to="name"), data("content", to="content"), text("tool_call_id", to="id", required=False))
    return Kind(ToolResult, ats, _part("retry-prompt"), takes=lambda part: part.origin is not None)


def _turn(role: str, *names: str) -> Shape:
    place = Place(("content",), (_SAID, _URL, _BYTES), bare=Text, kept=True)
    new = {"content": "", "part_kind": names[0]}
    return Shape((place,), _part(*names), role=role, new=new, speaks=frozenset({role}))


_RETURN = _returned("tool-return")
_RETRY = _retried()
_REQUEST = (
    Shape(test=_RETURN.test, role="tool", whole=_RETURN, new=_RETURN.new),
    Shape(test=_RETRY.test, role="tool", whole=_RETRY),
    _turn("user", "user-prompt", "retry-prompt", "retry-feedback"),
    _turn("system", "system-prompt"),
)
_ANSWER = Shape(
    (Place(("parts",), (_TEXT, _THINKING, _CALL, _returned("builtin-tool-return")), kept=True, blocks=True),),
    is_type("response", key="kind"),
    role="assistant",
    role_at="kind",
    new={"parts": [], "kind": "response"},
)
_INSTRUCTIONS = Shape((Place(("content",), bare=Text),), role="system")


def _seats(document: Any) -> Sequence[Seat]:
    if isinstance(document, list):
        return [seat for n, item in enumerate(document) for seat in _of_message(item, (n,))]
    return _of_message(document, ())


def _of_message(wire: Any, path: tuple[int, ...]) -> list[Seat]:
    if is_type("request", key="kind")(wire):
        system = Seat((*path, "instructions"), (_INSTRUCTIONS,), many=False, content=True)
        return [system, Seat((*path, "parts"), _REQUEST)]
    return [Seat(path, (_ANSWER,), many=False)]


def _compose(messages: Sequence[Message]) -> Any:
    """New messages: what is said between two answers is one request."""
    names: dict[str, str] = {}
    out: list[Any] = []
    for answers, turns in itertools.groupby(
        _numbered(map(_here, messages)), lambda message: message.role == "assistant"
    ):
        if answers:
            for turn in turns:
                names |= {part.id: part.name for part in turn.parts if isinstance(part, ToolCall)}
                out.append(Seat((), (_ANSWER,), many=False).write({}, [turn], 0))
        else:
            said = [one for turn in turns for one in _said(turn, names)]
            out.append(Seat(("parts",), _REQUEST).write({"parts": [], "kind": "request"}, said, 0))
    return out


def _here(turn: Message) -> Message:
    """A turn of another format as a new one of this."""
    if turn.origin is not None and turn.origin.form in (*_REQUEST, _ANSWER):
        return turn
    role = "system" if turn.role == "developer" else turn.role
    return Message(role, tuple(replace(part, origin=None) for part in turn.parts))


def _numbered(turns: Iterable[Message]) -> Iterator[Message]:
    """Calls and results that belong together by their order alone, as Gemini has them, with ids."""
    count = itertools.count(1)
    waiting: dict[str, list[str]] = {}
    for turn in turns:
        parts: list[Part] = []
        for part in turn.parts:
            if isinstance(part, ToolCall) and not part.id:
                part = replace(part, id=f"call_{next(count)}")
                waiting.setdefault(part.name, []).append(part.id)
            elif isinstance(part, ToolResult) and not part.id and waiting.get(part.name):
                part = replace(part, id=waiting[part.name].pop(0))
            parts.append(part)
        yield replace(turn, parts=tuple(parts))


def _said(turn: Message, names: dict[str, str]) -> Iterator[Message]:
    """A turn with one system prompt, and with results that name their tools: as they are here."""
    parts = []
    for part in turn.parts:
        if isinstance(part, ToolResult) and not part.name:
            if part.id not in names:
                raise UsageError(f"the tool result {part.id or part.content!r:.60} names no tool, and answers no call")
            part = replace(part, name=names[part.id])
        parts.append((part,))
    for each in parts if turn.role == "system" else [tuple(part for (part,) in parts)]:
        yield replace(turn, parts=each)


def _is_message(wire: Any) -> bool:
    return (
        is_type("request", "response", key="kind")(wire)
        and isinstance(wire.get("parts"), list)
        and all(isinstance(dig(part, ("part_kind",)), str) for part in wire["parts"])
    )


def _knows(document: Any) -> bool:
    wires = document if isinstance(document, list) else [document]
    return bool(wires) and all(map(_is_message, wires))


_TOKENS = tokens(
    "usage",
    input=[("input_tokens",)],
    output=[("output_tokens",)],
    cached=[("cache_read_tokens",)],
    reasoning=[("output_reasoning_tokens",)],
)


def _usage(document: Any) -> Usage | None:
    return _TOKENS(document) if isinstance(document, dict) else None


_GROWS = {"args_delta": "args", "content_delta": "content", "signature_delta": "signature"}


def _assemble(stream: Iterable[Any]) -> Any:
    """The response that ``part_start`` and ``part_delta`` events make; they say nothing of its usage."""
    parts: dict[int, dict[str, Any]] = {}
    for event in chunks_of(stream):
        n, delta = event.get("index", 0), event.get("delta")
        if event.get("event_kind") in ("part_start", "part_end") and isinstance(event.get("part"), dict):
            parts[n] = event["part"]
        elif event.get("event_kind") == "part_delta" and isinstance(delta, dict):
            part = parts.get(n, {"content": "", "part_kind": "text"})
            for name, key in _GROWS.items():
                said = delta.get(name)
                if isinstance(said, str):
                    part = put(part, (key,), f"{part.get(key) or ''}{said}")
                elif isinstance(said, dict):
                    part = put(part, (key,), {**(part.get(key) or {}), **said})
            for name, key in (("tool_name_delta", "tool_name"), ("tool_call_id", "tool_call_id")):
                if delta.get(name) and not part.get(key):
                    part = put(part, (key,), delta[name])
            parts[n] = part
    return {"parts": [parts[n] for n in sorted(parts)], "kind": "response"} if parts else {}


FORMAT = Format("pydantic-ai", _seats, _knows, _usage, _assemble, None, _compose)
