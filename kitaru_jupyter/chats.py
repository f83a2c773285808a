"""A recorded chat as the text in which it is edited, and back: plain data of a wire format, or an SDK's own objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kitaru.errors import UsageError
from kitaru.messages import Chat, from_text, read, to_text

__all__ = ["edited", "text_of"]


def text_of(value: Any, format: str | None = None) -> str:  # noqa: A002 - as the option is called
    """A request, a response, or messages, in blocks. Raises `UsageError` where it is no chat."""
    return to_text(_opened(value, format)[0])


def edited(value: Any, text: str, format: str | None = None) -> Any:  # noqa: A002
    """The value with what the text says otherwise. Raises `UsageError` where that cannot be understood."""
    chat, back = _opened(value, format)
    old, new = chat.wire(), from_text(chat, text).wire()
    return value if new is old else back(new)


def _opened(value: Any, format: str | None) -> tuple[Chat, Callable[[Any], Any]]:  # noqa: A002
    wire, back = _wire(value)
    if isinstance(wire, str):
        raise UsageError("it is text alone, and no list of messages: edit it with --text")
    return read(wire, format), back


def _wire(value: Any) -> tuple[Any, Callable[[Any], Any]]:
    """What goes over the wire, and the way back from it."""
    if hasattr(type(value), "model_dump") and hasattr(type(value), "model_validate"):
        return value.model_dump(mode="json"), type(value).model_validate
    first = value[0] if isinstance(value, list | tuple) and value else value
    if type(first).__module__.partition(".")[0] == "pydantic_ai":
        adapter = sys.modules["pydantic_ai.messages"].ModelMessagesTypeAdapter
        if isinstance(value, list | tuple):
            return adapter.dump_python([*value], mode="json"), lambda wire: type(value)(adapter.validate_python(wire))
        (wire,) = adapter.dump_python([value], mode="json")
        return wire, lambda wire: adapter.validate_python([wire])[0]
    return value, lambda wire: wire
