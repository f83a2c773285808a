"""OpenAI's responses: a list of items, of which a turn's message, each call and each thought is one."""

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
    data_url,
    is_type,
    joined,
    result,
    text,
    tokens,
)  # fmt: skip
from .openai_chat import roles
from .parts import Image, Text, Thinking, ToolCall, ToolResult
from .streams import chunks_of

__all__ = ["FORMAT"]

_ROLES = ("assistant", "developer", "system", "user")
_ITEMS = (
    "custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output", "item_reference", "message",
    "reasoning",
)  # fmt: skip
_CONTENT = ("input_audio", "input_file", "input_image", "input_text", "output_text")

_INPUT = Kind(Text, (text("text"),), is_type("input_text"), {"type": "input_text"})
_OUTPUT = Kind(Text, (text("text"),), is_type("output_text", "text"), {"type": "output_text", "annotations": []})
_REFUSAL = Kind(Text, (text("refusal", to="text"),), is_type("refusal"), {"type": "refusal"})
_IMAGE = Kind(Image, (data_url("image_url"),), is_type("input_image"), {"type": "input_image", "detail": "auto"})
_CONTENTS = (_INPUT, _IMAGE, _OUTPUT, _REFUSAL)


def _item(kind: Kind, role: str) -> Shape:
    return Shape(test=kind.test, role=role, whole=kind, new=kind.new)


_CALL = Kind(
    ToolCall,
    (text("call_id", to="id"), text("name"), arguments("arguments", as_text=True)),
    is_type("function_call"),
    {"type": "function_call"},
)
_CUSTOM = Kind(
    ToolCall,
    (text("call_id", to="id"), text("name"), text("input", to="arguments")),
    is_type("custom_tool_call"),
    {"type": "custom_tool_call"},
)
_RESULT = Kind(
    ToolResult,
    (text("call_id", to="id"), result("output", kinds=_CONTENTS)),
    is_type("function_call_output", "custom_tool_call_output"),
    {"type": "function_call_output"},
)
_THOUGHTS = Kind(
    Thinking,
    (joined("summary", item={"type": "summary_text"}), text("encrypted_content", to="signature", required=False)),
    is_type("reasoning"),
    {"type": "reasoning", "summary": []},
)
_PICTURE = Kind(
    Image,
    (base64_image("result"),),
    is_type("image_generation_call"),
    {"type": "image_generation_call"},
    lambda part: part.origin is not None,
)
_SAID = Shape(
    (Place(("content",), (_OUTPUT, _REFUSAL), bare=Text, kept=True, blocks=True),),
    test=lambda wire: roles("assistant")(wire) and isinstance(wire.get("content"), list),
    new={"type": "message", "role": "assistant", "content": []},
    speaks=frozenset({"assistant"}),
)
_TURN = Shape(
    (Place(("content",), _CONTENTS, bare=Text, kept=True),),
    test=lambda wire: roles(*_ROLES)(wire) and wire.get("type", "message") == "message",
    new={"content": ""},
    speaks=frozenset(_ROLES),
)
_SHAPES = (
    _item(_CALL, "assistant"),
    _item(_CUSTOM, "assistant"),
    _item(_RESULT, "tool"),
    _item(_THOUGHTS, "assistant"),
    _item(_PICTURE, "assistant"),
    _SAID,
    _TURN,
)
_INSTRUCTIONS = Shape((Place(("content",), bare=Text),), role="system")


def _seats(document: Any) -> Sequence[Seat]:
    if isinstance(document, list):
        return [Seat((), _SHAPES)]
    if isinstance(document, dict) and isinstance(document.get("output"), list):
        return [Seat(("output",), _SHAPES)]  # it repeats the request's instructions
    if isinstance(document, dict) and "type" not in document and "role" not in document:
        system = Seat(("instructions",), (_INSTRUCTIONS,), many=False, content=True)
        return [system, Seat(("input",), _SHAPES, speaker="user")]
    return [Seat((), _SHAPES, many=False)]


def _is_item(item: Any) -> bool:
    """Whether it can be an item, or a message of chat completions."""
    if not isinstance(item, dict):
        return False
    return item.get("type") in _ITEMS or f"{item.get('type')}".endswith("_call") or roles(*_ROLES)(item)


def _is_own(item: dict[str, Any]) -> bool:
    content = item.get("content")
    kind = item.get("type")
    return (kind in _ITEMS and (kind != "message" or content is not None)) or (
        isinstance(content, list) and any(map(is_type(*_CONTENT), content))
    )


def _knows(document: Any) -> bool:
    if isinstance(document, dict):
        if isinstance(output := document.get("output"), list):
            is_response = document.get("object") == "response" or bool(output)
            return is_response and all(map(_is_item, output)) and (not output or any(map(_is_own, output)))
        items = document.get("input")
        if "role" in document or "type" in document:
            items = [document]
        elif isinstance(items, str) and ("instructions" in document or "model" in document):
            return True
        elif "model" in document and isinstance(items, list):
            return bool(items) and all(map(_is_item, items))
    else:
        items = document
    return isinstance(items, list) and bool(items) and all(map(_is_item, items)) and any(map(_is_own, items))


_DELTAS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "response.output_text.delta": ("content", "content_index", {"type": "output_text", "annotations": []}, "text"),
    "response.refusal.delta": ("content", "content_index", {"type": "refusal"}, "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", {"type": "reasoning_text"}, "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", {"type": "summary_text"}, "text"),
}
_WORDS = {"response.function_call_arguments.delta": "arguments", "response.custom_tool_call_input.delta": "input"}
_ENDS = {"response.completed", "response.failed", "response.incomplete"}


def _assemble(stream: Iterable[Any]) -> Any:
    response: dict[str, Any] = {}
    items: dict[int, dict[str, Any]] = {}
    for event in chunks_of(stream):
        kind, n = f"{event.get('type')}", event.get("output_index", 0)
        if isinstance(event.get("response"), dict):
            response = event["response"]
            if kind in _ENDS:
                return response
        elif kind in {"response.output_item.added", "response.output_item.done"}:
            items[n] = event.get("item") or {}
        elif kind in _DELTAS and n in items:
            where, index, new, key = _DELTAS[kind]
            items[n] = _go_on(items[n], where, event.get(index, 0), new, key, event.get("delta") or "")
        elif kind in _WORDS and n in items:
            key = _WORDS[kind]
            items[n] = {**items[n], key: f"{items[n].get(key) or ''}{event.get('delta') or ''}"}
    return {**response, "output": [items[n] for n in sorted(items)]} if response or items else {}


def _go_on(item: dict[str, Any], where: str, at: int, new: dict[str, Any], key: str, delta: str) -> dict[str, Any]:
    blocks = [*(item.get(where) or ())]
    blocks += [dict(new) for _ in range(min(at, len(blocks)) - len(blocks) + 1)]
    at = min(at, len(blocks) - 1)
    said = f"{blocks[at].get(key) or ''}{delta}"
    return {**item, where: [{**b, key: said} if n == at else b for n, b in enumerate(blocks)]}


FORMAT = Format(
    "openai-responses",
    _seats,
    _knows,
    tokens(
        "usage",
        input=[("input_tokens",)],
        output=[("output_tokens",)],
        cached=[("input_tokens_details", "cached_tokens")],
        reasoning=[("output_tokens_details", "reasoning_tokens")],
    ),
    _assemble,
    {"input": []},
)
