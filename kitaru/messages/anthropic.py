"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .lenses import (
    Format,
    Kind,
    Place,
    Seat,
    Shape,
    arguments,
    base64_image,
    beside_system,
    data,
    dig,
    is_image,
    is_type,
    put,
    result,
    text,
    tokens,
)  # fmt: skip
from .parts import Image, Text, Thinking, ToolCall, ToolResult
from .streams import chunks_of, grown, whole

__all__ = ["FORMAT"]

_OWN = (
    "document", "image", "redacted_thinking", "search_result", "server_tool_use", "thinking", "tool_result", "tool_use",
)  # fmt: skip


def _source(kind: str) -> Any:
    return lambda wire: is_type("image")(wire) and dig(wire, ("source", "type")) == kind


_TEXT = Kind(Text, (text("text"),), is_type("text"), {"type": "text"})
_BYTES = Kind(
    Image,
    (text("source", "media_type", required=False), base64_image("source", "data")),
    _source("base64"),
    {"type": "image", "source": {"type": "base64"}},
    is_image(bytes),
)
_URL = Kind(
    Image,
    (text("source", "url", to="source"),),
    _source("url"),
    {"type": "image", "source": {"type": "url"}},
    is_image(str),
)
_THINKING = Kind(
    Thinking,
    (text("thinking", to="text"), text("signature", required=False)),
    is_type("thinking"),
    {"type": "thinking", "thinking": ""},
)
_REDACTED = Kind(Thinking, (text("data", to="signature"),), is_type("redacted_thinking"), {"type": "redacted_thinking"})
_CALL = Kind(
    ToolCall,
    (text("id"), text("name"), arguments("input", as_text=False)),
    is_type("tool_use", "server_tool_use", "mcp_tool_use"),
    {"type": "tool_use"},
)
_RESULT = Kind(
    ToolResult,
    (
        text("tool_use_id", to="id"),
        result("content", kinds=(_TEXT, _BYTES, _URL)),
        data("is_error", to="error", required=False, kind=bool),
    ),
    is_type("tool_result", "mcp_tool_result"),
    {"type": "tool_result"},
)
_TURN = Shape(
    (Place(("content",), (_TEXT, _BYTES, _URL, _THINKING, _REDACTED, _CALL, _RESULT), bare=Text, kept=True),),
    test=is_type("user", "assistant", key="role"),
    new={"content": ""},
    speaks=frozenset({"user", "assistant"}),
)
_RESULTS = Shape(_TURN.places, lambda _: False, roles={"user": "tool"}, speaks=frozenset({"tool"}))
_SYSTEM = Shape((Place(("content",), (_TEXT,), bare=Text, kept=True),), role="system")


def _seats(document: Any) -> Sequence[Seat]:
    return beside_system(document, (_RESULTS, _TURN), _SYSTEM)


def _knows(document: Any) -> bool:
    if isinstance(document, dict) and document.get("role") == "assistant" and document.get("type") == "message":
        content = document.get("content")
        return isinstance(content, list) and not any(map(is_type("output_text", "refusal"), content))
    turns: Any = document if isinstance(document, list) else [document]
    if isinstance(document, dict) and "role" not in document:
        turns = document.get("messages")
    if not isinstance(turns, list) or not turns:
        return False
    if not all(isinstance(t, dict) and t.get("role") in ("user", "assistant") and "content" in t for t in turns):
        return False
    if isinstance(document, dict) and ("anthropic_version" in document or isinstance(document.get("system"), str)):
        return True
    system = document.get("system") if isinstance(document, dict) else None
    blocks = [*(system if isinstance(system, list) else ()), *_blocks(turns)]
    if not all("type" in block for block in blocks if isinstance(block, dict)):
        return False
    return bool(system) or any(_is_own(block) for block in blocks)


def _is_own(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    is_mistral = block.get("type") == "thinking" and not isinstance(block.get("thinking"), str)
    return "cache_control" in block or (block.get("type") in _OWN and not is_mistral)


def _blocks(turns: Iterable[Any]) -> Iterator[Any]:
    for turn in turns:
        content = turn["content"]
        yield from content if isinstance(content, list) else ()


_GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def _assemble(stream: Iterable[Any]) -> Any:
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for event in chunks_of(stream):
        n, delta = event.get("index", 0), event.get("delta") or {}
        match event.get("type"):
            case "message_start":
                message = {**(event.get("message") or {})}
            case "content_block_start":
                blocks[n] = {**(event.get("content_block") or {})}
            case "content_block_delta":
                block = blocks.setdefault(n, {"type": "text", "text": ""})
                kind = delta.get("type")
                if kind == "input_json_delta":
                    inputs[n] = inputs.get(n, "") + delta.get("partial_json", "")
                elif kind == "citations_delta":
                    block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]
                elif kind in _GROWS:
                    key = _GROWS[kind]
                    block[key] = f"{block.get(key) or ''}{delta.get(key) or ''}"
            case "message_delta":
                message |= delta
                usage = {key: item for key, item in (event.get("usage") or {}).items() if item is not None}
                message["usage"] = {**(message.get("usage") or {}), **usage}
    for n, said in inputs.items():
        if said:
            blocks[n] = put(blocks[n], ("input",), whole(said))
    return grown(message, {"content": [blocks[n] for n in sorted(blocks)]}) if message or blocks else {}


FORMAT = Format(
    "anthropic",
    _seats,
    _knows,
    tokens(
        "usage",
        input=[("input_tokens",), ("cache_read_input_tokens",), ("cache_creation_input_tokens",)],
        output=[("output_tokens",)],
        cached=[("cache_read_input_tokens",)],
    ),
    _assemble,
    {"messages": []},
)
