"""OpenAI's chat completions, and what is compatible with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .lenses import Format, Kind, Place, Seat, Shape, arguments, data_url, is_type, result, text, tokens
from .parts import Image, Text, Thinking, ToolCall, ToolResult
from .streams import chunks_of, grown

__all__ = ["FORMAT", "IMAGE", "TEXT", "USAGE", "assembled", "has_turns", "roles", "seats_of", "tool_message"]

ROLES = {"assistant", "developer", "function", "system", "tool", "user"}

TEXT = Kind(Text, (text("text"),), is_type("text"), {"type": "text"})
IMAGE = Kind(Image, (data_url("image_url", "url"),), is_type("image_url"), {"type": "image_url"})
_REFUSAL = Kind(Text, (text("refusal", to="text"),), is_type("refusal"), {"type": "refusal"})


_CALL = Kind(
    ToolCall,
    (text("id"), text("function", "name"), arguments("function", "arguments", as_text=True)),
    is_type("function"),
    {"type": "function"},
)
_CUSTOM = Kind(
    ToolCall,
    (text("id"), text("custom", "name"), text("custom", "input", to="arguments")),
    is_type("custom"),
    {"type": "custom"},
)
_LEGACY = Kind(ToolCall, (text("id", required=False), text("name"), arguments("arguments", as_text=True)))


def roles(*names: str) -> Any:
    """Whether a message is of one of these roles."""
    return is_type(*names, key="role")


def tool_message(*kinds: Kind) -> Shape:
    """A message that is a tool's result."""
    ats = (text("tool_call_id", to="id"), text("name", required=False), result("content", kinds=kinds))
    return Shape(test=roles("tool"), role="tool", whole=Kind(ToolResult, ats), new={"role": "tool"})


_FUNCTION = Shape(
    test=roles("function"),
    role="function",
    whole=Kind(ToolResult, (text("name"), result("content", kinds=(TEXT,))), takes=lambda part: not part.id),
    new={"role": "function"},
)
_TURN = Shape(
    (
        Place(("reasoning_content",), bare=Thinking),
        Place(("reasoning",), bare=Thinking),
        Place(("content",), (TEXT, IMAGE, _REFUSAL), bare=Text, kept=True),
        Place(("refusal",), bare=Text),
        Place(("tool_calls",), (_CALL, _CUSTOM)),
        Place(("function_call",), (_LEGACY,), one=True),
    ),
    test=roles(*ROLES),
    new={"content": ""},
)
_SHAPES = (tool_message(TEXT, IMAGE), _FUNCTION, _TURN)


def seats_of(*shapes: Shape) -> Any:
    """Where the messages of such a format are: in a request, in a response, in a list, or a message alone."""

    def seats(document: Any) -> Sequence[Seat]:
        if isinstance(document, list):
            return [Seat((), shapes)]
        if isinstance(document, dict) and isinstance(document.get("choices"), list):
            return [Seat(("choices", n, "message"), shapes, many=False) for n in range(len(document["choices"]))]
        if isinstance(document, dict) and "messages" in document:
            return [Seat(("messages",), shapes)]
        return [Seat((), shapes, many=False)]

    return seats


def has_turns(document: Any, known: set[str], key: str = "messages") -> bool:
    """Whether it is a request with such a list of messages, that list, or a message alone."""
    if isinstance(document, dict) and "role" not in document:
        document = document.get(key)
    turns = [document] if isinstance(document, dict) else document
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(t, dict) and isinstance(t.get("role"), str) and t["role"] in known for t in turns)
        and all("content" in t or "tool_calls" in t or "function_call" in t for t in turns)
    )


def _knows(document: Any) -> bool:
    if isinstance(document, dict) and isinstance(choices := document.get("choices"), list):
        return bool(choices) and all(isinstance(c, dict) and isinstance(c.get("message"), dict) for c in choices)
    return has_turns(document, ROLES)


USAGE = tokens(
    "usage",
    input=[("prompt_tokens",)],
    output=[("completion_tokens",)],
    cached=[("prompt_tokens_details", "cached_tokens")],
    reasoning=[("completion_tokens_details", "reasoning_tokens")],
)


def assembled(stream: Iterable[Any]) -> Any:
    """The completion that chunks make."""
    out: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(stream):
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            number = choice.get("index", 0)
            held = choices.setdefault(number, {"index": number, "message": {"role": "assistant", "content": None}})
            held["message"] = grown(held["message"], choice.get("delta"))
            if "logprobs" in choice:
                held["logprobs"] = grown(held.get("logprobs"), choice["logprobs"])
            rest = {k: v for k, v in choice.items() if k not in {"delta", "index", "logprobs"}}
            held |= {k: v for k, v in rest.items() if v is not None or k not in held}
        said = {key: value for key, value in chunk.items() if key not in {"choices", "obfuscation"}}
        out |= {key: value for key, value in said.items() if value is not None or key not in out}
    if not out and not choices:
        return {}
    if out.get("object") == "chat.completion.chunk":
        out["object"] = "chat.completion"
    for choice in choices.values():
        choice.setdefault("finish_reason", None)
        for call in choice["message"].get("tool_calls") or ():
            call.pop("index", None)
    usage = {"usage": out.pop("usage")} if out.get("usage") is not None else {}
    out.pop("usage", None)
    return {**out, "choices": [choices[n] for n in sorted(choices)], **usage}


FORMAT = Format(
    "openai-chat", seats_of(*_SHAPES), _knows, USAGE, assembled, {"messages": []}
)  # fmt: skip
