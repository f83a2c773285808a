"""Gemini's contents, with names as JSON has them (``functionCall``) or as protobuf has (``function_call``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .lenses import (
    Format,
    Kind,
    Place,
    Seat,
    Shape,
    arguments,
    base64_image,
    dig,
    is_image,
    result,
    text,
    tokens,
)  # fmt: skip
from .parts import Image, Text, Thinking, ToolCall, ToolResult, Usage
from .streams import chunks_of

__all__ = ["FORMAT"]

_ROLES = ("function", "model", "tool", "user")


def _has(key: str) -> Any:
    return lambda wire: isinstance(wire, dict) and key in wire


def _kinds(call: str, answer: str, inline: str, file: str, mime: str, uri: str, signature: str) -> tuple[Kind, ...]:
    return (
        Kind(
            ToolCall,
            (
                text(call, "id", required=False),
                text(call, "name"),
                arguments(call, "args", as_text=False, required=False),
            ),
            _has(call),
        ),
        Kind(
            ToolResult,
            (
                text(answer, "id", required=False),
                text(answer, "name", required=False),
                result(answer, "response", kinds=(), new=lambda content: {"result": content}),
            ),
            _has(answer),
        ),
        Kind(
            Image,
            (text(inline, mime, to="media_type", required=False), base64_image(inline, "data")),
            _has(inline),
            takes=is_image(bytes),
        ),
        Kind(
            Image,
            (text(file, mime, to="media_type", required=False), text(file, uri, to="source")),
            _has(file),
            takes=is_image(str),
        ),
        Kind(Thinking, (text("text"), text(signature, to="signature", required=False)), _is_thought, {"thought": True}),
    )


def _is_thought(wire: Any) -> bool:
    return isinstance(wire, dict) and wire.get("thought") is True


_CAMEL = _kinds("functionCall", "functionResponse", "inlineData", "fileData", "mimeType", "fileUri", "thoughtSignature")
_SNAKE = _kinds(
    "function_call", "function_response", "inline_data", "file_data", "mime_type", "file_uri", "thought_signature"
)
_TEXT = Kind(Text, (text("text"),), _has("text"))
_PARTS = Place(("parts",), (*_CAMEL, *_SNAKE, _TEXT), bare=Text, kept=True)
_TURN = Shape(
    (_PARTS,),
    test=lambda wire: isinstance(wire, dict) and "role" in wire,
    roles={"model": "assistant"},
    new={"parts": []},
    speaks=frozenset({"user", "assistant"}),
)
_RESULTS = Shape((_PARTS,), lambda _: False, roles={"user": "tool"}, new={"parts": []}, speaks=frozenset({"tool"}))
_NOBODY = Shape((_PARTS,), _has("parts"), role="user", new={"role": "user", "parts": []}, speaks=frozenset({"user"}))
_ANSWER = Shape((_PARTS,), _has("parts"), role="assistant", new={"role": "model", "parts": []})
_SYSTEM = Shape((_PARTS,), _has("parts"), role="system", new={"parts": []})
_SHAPES = (_RESULTS, _TURN, _NOBODY)
_INSTRUCTIONS = ("systemInstruction", "system_instruction")


def _seats(document: Any) -> Sequence[Seat]:
    if isinstance(document, list):
        return [Seat((), _SHAPES)]
    if isinstance(document, dict) and isinstance(document.get("candidates"), list):
        count = len(document["candidates"])
        return [Seat(("candidates", n, "content"), (_TURN, _ANSWER), many=False) for n in range(count)]
    if isinstance(document, dict) and "parts" not in document:
        name = next((name for name in _INSTRUCTIONS if name in document), _INSTRUCTIONS[0])
        return [Seat((name,), (_SYSTEM,), many=False), Seat(("contents",), _SHAPES)]
    return [Seat((), _SHAPES, many=False)]


def _is_content(wire: Any) -> bool:
    return (
        isinstance(wire, dict)
        and isinstance(wire.get("parts"), list)
        and wire.get("role", "user") in _ROLES
        and "kind" not in wire
        and all(isinstance(part, dict) for part in wire["parts"])
    )


def _knows(document: Any) -> bool:
    if isinstance(document, list):
        return bool(document) and all(map(_is_content, document))
    if not isinstance(document, dict):
        return False
    if isinstance(candidates := document.get("candidates"), list):
        return bool(candidates) and all(
            isinstance(c, dict) and ("content" in c or "finishReason" in c) for c in candidates
        )
    if isinstance(contents := document.get("contents"), list):
        return bool(contents) and all(map(_is_content, contents))
    return "role" in document and _is_content(document)


_CAMEL_TOKENS = tokens(
    "usageMetadata",
    input=[("promptTokenCount",), ("toolUsePromptTokenCount",)],
    output=[("candidatesTokenCount",), ("thoughtsTokenCount",)],
    cached=[("cachedContentTokenCount",)],
    reasoning=[("thoughtsTokenCount",)],
)
_SNAKE_TOKENS = tokens(
    "usage_metadata",
    input=[("prompt_token_count",), ("tool_use_prompt_token_count",)],
    output=[("candidates_token_count",), ("thoughts_token_count",)],
    cached=[("cached_content_token_count",)],
    reasoning=[("thoughts_token_count",)],
)


def _usage(document: Any) -> Usage | None:
    return _CAMEL_TOKENS(document) or _SNAKE_TOKENS(document)


def _assemble(stream: Iterable[Any]) -> Any:
    """Each chunk is a response of its own: texts that follow each other are one, the last word on the rest holds."""
    out: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(stream):
        for candidate in chunk.get("candidates") or ():
            if not isinstance(candidate, dict):
                continue
            held = candidates.setdefault(candidate.get("index", 0), {})
            content = candidate.get("content")
            if isinstance(content, dict):
                before = held.get("content") or {}
                parts = [*(before.get("parts") or ())]
                for part in content.get("parts") or ():
                    _go_on(parts, part)
                held["content"] = {**before, **content, "parts": parts}
            held |= {key: value for key, value in candidate.items() if key != "content"}
        out |= {key: value for key, value in chunk.items() if key != "candidates"}
    return {"candidates": [candidates[n] for n in sorted(candidates)], **out} if candidates or out else {}


def _go_on(parts: list[Any], part: Any) -> None:
    last = parts[-1] if parts else None
    if (
        isinstance(last, dict)
        and isinstance(part, dict)
        and isinstance(dig(last, ("text",)), str)
        and isinstance(dig(part, ("text",)), str)
        and last.get("thought") == part.get("thought")
        and "thoughtSignature" not in last
    ):
        parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
    else:
        parts.append(part)


FORMAT = Format("gemini", _seats, _knows, _usage, _assemble, {"contents": []})
