"""Mistral's chat completions: as OpenAI's, with chunks and thoughts of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .lenses import Format, Kind, Place, Shape, arguments, data_url, dig, is_type, joined, text
from .openai_chat import IMAGE, TEXT, USAGE, assembled, has_turns, roles, seats_of, tool_message
from .parts import Image, Text, Thinking, ToolCall

__all__ = ["FORMAT"]

_ROLES = {"assistant", "system", "tool", "user"}
_OWN_SETTINGS = {"guardrails", "prompt_mode", "random_seed", "safe_prompt"}
_OWN_CHUNKS = ("document_url", "reference", "thinking")
_MODELS = ("codestral", "devstral", "magistral", "ministral", "mistral-", "open-mistral", "open-mixtral", "pixtral")

_IMAGE = Kind(Image, (data_url("image_url"),), is_type("image_url"), {"type": "image_url"})
_THINKING = Kind(
    Thinking,
    (joined("thinking", item={"type": "text"}), text("signature", required=False)),
    is_type("thinking"),
    {"type": "thinking"},
)
_CALL = Kind(
    ToolCall,
    (text("id", required=False), text("function", "name"), arguments("function", "arguments", as_text=True)),
)
_TURN = Shape(
    (
        Place(("content",), (TEXT, _IMAGE, IMAGE, _THINKING), bare=Text, kept=True),
        Place(("tool_calls",), (_CALL,)),
    ),
    test=roles(*_ROLES),
    new={"content": ""},
)


def _knows(document: Any) -> bool:
    if isinstance(document, dict) and isinstance(choices := document.get("choices"), list):
        turns = [dig(choice, ("message",)) for choice in choices]
    elif has_turns(document, _ROLES):
        turns = document if isinstance(document, list) else document.get("messages", [document])
    else:
        return False
    if not turns or not all(isinstance(turn, dict) for turn in turns):
        return False
    about = document if isinstance(document, dict) else {}
    if not _OWN_SETTINGS.isdisjoint(about) or f"{about.get('model')}".startswith(_MODELS):
        return True
    return any(_is_own(block) for turn in turns for block in _blocks(turn)) or any("prefix" in turn for turn in turns)


def _blocks(turn: Any) -> Iterable[Any]:
    content = turn.get("content")
    return content if isinstance(content, list) else ()


def _is_own(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    kind = block.get("type")
    if kind == "thinking":
        return isinstance(block.get("thinking"), list)
    return kind in _OWN_CHUNKS or (kind == "image_url" and isinstance(block.get("image_url"), str))


def _assembled(stream: Iterable[Any]) -> Any:
    """As OpenAI's; thoughts come in chunks of content, which go on where they are of one type."""
    chunks = [chunk for chunk in stream if isinstance(chunk, dict)]
    contents: dict[int, list[Any]] = {}
    plain = []
    for chunk in chunks:
        kept = []
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            content = delta.get("content")
            items = content if isinstance(content, list) else [content] if content else []
            held = contents.setdefault(choice.get("index", 0), [])
            for item in items:
                _go_on(held, item)
            kept.append({**choice, "delta": {k: v for k, v in delta.items() if k != "content"}})
        plain.append({**chunk, "choices": kept})
    out = assembled(plain)
    for choice in out.get("choices", ()):
        said = contents[choice["index"]]
        if said and all(isinstance(item, str) for item in said):
            choice["message"]["content"] = "".join(said)
        elif said:
            choice["message"]["content"] = [{"type": "text", "text": i} if isinstance(i, str) else i for i in said]
        elif choice["message"].get("tool_calls"):
            choice["message"]["content"] = ""
    return out


def _go_on(held: list[Any], item: Any) -> None:
    last = held[-1] if held else None
    if isinstance(item, str) and isinstance(last, str):
        held[-1] = last + item
    elif isinstance(item, dict) and isinstance(last, dict) and item.get("type") == last.get("type") == "text":
        held[-1] = {**last, "text": f"{last.get('text')}{item.get('text')}"}
    elif isinstance(item, dict) and isinstance(last, dict) and item.get("type") == last.get("type") == "thinking":
        inner = [*(last.get("thinking") or ())]
        for thought in item.get("thinking") or ():
            _go_on(inner, thought)
        held[-1] = {**last, **item, "thinking": inner}
    else:
        held.append(item)


FORMAT = Format(
    "mistral", seats_of(tool_message(TEXT, _IMAGE), _TURN), _knows, USAGE, _assembled, {"messages": []}
)  # fmt: skip
