"""Bedrock's converse: blocks that are named by their only key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .lenses import (
    At,
    Format,
    Kind,
    Place,
    Seat,
    Shape,
    arguments,
    base64_image,
    beside_system,
    dig,
    is_image,
    is_type,
    put,
    result,
    text,
    tokens,
)  # fmt: skip
from .parts import Image, Text, Thinking, ToolCall, ToolResult
from .streams import chunks_of, whole

__all__ = ["FORMAT"]

_BLOCKS = {
    "audio", "cachePoint", "citationsContent", "document", "guardContent", "image", "json", "reasoningContent",
    "searchResult", "text", "toolResult", "toolUse", "video",
}  # fmt: skip


def _has(*path: str) -> Any:
    return lambda wire: isinstance(wire, dict) and len(wire) == 1 and dig(wire, path) is not dig({}, path)


def _format() -> At:
    """A media type, of which the format names the second half."""

    def read(value: Any) -> dict[str, Any] | None:
        return {"media_type": f"image/{value}"} if isinstance(value, str) else None

    def write(part: Any, _: Any) -> str:
        return str(part.media_type).removeprefix("image/") or "png"

    return At(("image", "format"), ("media_type",), read, write, required=False)


def _error() -> At:
    def read(value: Any) -> dict[str, Any] | None:
        return {"error": value == "error"}

    return At(
        ("toolResult", "status"), ("error",), read, lambda part, _: "error" if part.error else "success", required=False
    )


def _signed() -> At:
    return text("reasoningContent", "reasoningText", "signature", required=False)


_TEXT = Kind(Text, (text("text"),), _has("text"))
_BYTES = Kind(Image, (_format(), base64_image("image", "source", "bytes")), _has("image"), takes=is_image(bytes))
_PLACED = Kind(
    Image, (_format(), text("image", "source", "s3Location", "uri", to="source")), _has("image"), takes=is_image(str)
)
_THINKING = Kind(Thinking, (text("reasoningContent", "reasoningText", "text"), _signed()), _has("reasoningContent"))
_REDACTED = Kind(Thinking, (text("reasoningContent", "redactedContent", to="signature"),), _has("reasoningContent"))
_CALL = Kind(
    ToolCall,
    (text("toolUse", "toolUseId", to="id"), text("toolUse", "name"), arguments("toolUse", "input", as_text=False)),
    _has("toolUse"),
)


def _blocks_of(content: Any) -> list[Any]:
    return [{"text": content}] if isinstance(content, str) else [{"json": content}]


_RESULT = Kind(
    ToolResult,
    (
        text("toolResult", "toolUseId", to="id"),
        result("toolResult", "content", kinds=(_TEXT, _BYTES), new=_blocks_of, required=True),
        _error(),
    ),
    _has("toolResult"),
)
_TURN = Shape(
    (Place(("content",), (_TEXT, _BYTES, _PLACED, _THINKING, _REDACTED, _CALL, _RESULT), kept=True, blocks=True),),
    test=is_type("user", "assistant", key="role"),
    new={"content": []},
    speaks=frozenset({"user", "assistant"}),
)
_RESULTS = Shape(_TURN.places, lambda _: False, roles={"user": "tool"}, new={"content": []}, speaks=frozenset({"tool"}))
_SYSTEM = Shape((Place(("content",), (_TEXT,), kept=True, blocks=True),), role="system", new={"content": []})


def _seats(document: Any) -> Sequence[Seat]:
    shapes = (_RESULTS, _TURN)
    if isinstance(document, dict) and "output" in document:
        return [Seat(("output", "message"), shapes, many=False)]
    return beside_system(document, shapes, _SYSTEM)


def _is_turn(wire: Any) -> bool:
    return (
        isinstance(wire, dict)
        and wire.get("role") in ("user", "assistant")
        and isinstance(wire.get("content"), list)
        and all(map(_is_block, wire["content"]))
    )


def _is_block(block: Any) -> bool:
    return isinstance(block, dict) and len(block) == 1 and not _BLOCKS.isdisjoint(block)


def _knows(document: Any) -> bool:
    if isinstance(document, dict):
        if isinstance(dig(document, ("output", "message")), dict):
            return _is_turn(document["output"]["message"])
        turns = [document] if "role" in document else document.get("messages")
    else:
        turns = document
    return isinstance(turns, list) and bool(turns) and all(map(_is_turn, turns)) and any(t["content"] for t in turns)


def _assemble(stream: Iterable[Any]) -> Any:
    role, out = "assistant", dict[str, Any]()
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for event in chunks_of(stream):
        ((kind, said),) = [*event.items()][:1] or [("", {})]
        if not isinstance(said, dict):
            continue
        n = said.get("contentBlockIndex", 0)
        if kind == "messageStart":
            role = said.get("role", role)
        elif kind == "contentBlockStart":
            blocks[n] = {name: {**start} for name, start in (said.get("start") or {}).items()}
        elif kind == "contentBlockDelta":
            delta = said.get("delta") or {}
            if "toolUse" in delta:
                inputs[n] = inputs.get(n, "") + (delta["toolUse"].get("input") or "")
            else:
                blocks[n] = _go_on(blocks.get(n, {}), delta)
        elif kind == "messageStop":
            out |= said
        elif kind == "metadata":
            out |= {
                key: value for key, value in said.items() if key in {"metrics", "trace", "usage", "performanceConfig"}
            }
    for n, block in blocks.items():
        if "toolUse" in block:
            blocks[n] = put(block, ("toolUse", "input"), whole(inputs.get(n, "")))
    if not blocks and not out:
        return {}
    return {"output": {"message": {"role": role, "content": [blocks[n] for n in sorted(blocks)]}}, **out}


def _go_on(block: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    if isinstance(delta.get("text"), str):
        return {**block, "text": f"{block.get('text', '')}{delta['text']}"}
    thought = delta.get("reasoningContent")
    if not isinstance(thought, dict):
        return {**block, **delta}
    for key, path in (
        ("text", ("reasoningContent", "reasoningText", "text")),
        ("signature", ("reasoningContent", "reasoningText", "signature")),
        ("redactedContent", ("reasoningContent", "redactedContent")),
    ):
        if key in thought:
            before = dig(block, path)
            joined = before + thought[key] if isinstance(before, type(thought[key])) else thought[key]
            block = put(block, path, joined)
    return block


FORMAT = Format(
    "bedrock",
    _seats,
    _knows,
    tokens(
        "usage",
        input=[("inputTokens",), ("cacheReadInputTokens",), ("cacheWriteInputTokens",)],
        output=[("outputTokens",)],
        cached=[("cacheReadInputTokens",)],
    ),
    _assemble,
    {"messages": []},
)
