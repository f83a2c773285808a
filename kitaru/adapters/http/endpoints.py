"""Which requests call a model, by path and JSON, whatever the host; and what of that JSON is an argument."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from .credentials import hide, unhide

__all__ = ["Endpoint", "Wire", "endpoint_of", "may_be_one"]


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire format.

    Attributes
    ----------
    name : str
        The name of its steps: that of the operation, as its vendor calls it.
    parts : Mapping of str to str
        Arguments of the step, by the keys of the request's JSON. What no argument is made of is among the settings.
    needs : tuple of str
        Keys without which the request is something else at a similar address.
    is_last : callable
        Whether an event, by its name and its data, is the last one of its stream.
    """

    name: str
    parts: Mapping[str, str]
    needs: tuple[str, ...]
    is_last: Callable[[str | None, Any], bool]


def _kind(data: Any) -> Any:
    return data.get("type") if isinstance(data, dict) else None


_CHAT = Wire(
    "chat_completions",
    {"model": "model", "messages": "messages", "tools": "tools"},
    ("messages",),
    lambda _, data: data == "[DONE]",
)
_RESPONSES = Wire(
    "responses",
    {"model": "model", "instructions": "system", "input": "messages", "tools": "tools"},
    ("model", "input"),
    lambda _, data: _kind(data) in {"response.completed", "response.failed", "response.incomplete"},
)
_MESSAGES = Wire(
    "messages",
    {"model": "model", "system": "system", "messages": "messages", "tools": "tools"},
    ("messages", "max_tokens"),
    lambda _, data: _kind(data) == "message_stop",
)
_GENERATE = Wire(
    "generate_content",
    {"systemInstruction": "system", "system_instruction": "system", "contents": "messages", "tools": "tools"},
    ("contents",),
    lambda _, __: False,  # its stream ends where its connection does
)
_CONVERSE = Wire(
    "converse",
    {"system": "system", "messages": "messages", "toolConfig": "tools"},
    ("messages",),
    lambda event, _: event == "metadata",
)
_INVOKE = Wire(
    "invoke_model",
    {"system": "system", "messages": "messages", "tools": "tools"},
    (),
    lambda _, data: _kind(data) == "message_stop",
)

_BEDROCK = {
    "converse": _CONVERSE,
    "converse-stream": _CONVERSE,
    "invoke": _INVOKE,
    "invoke-with-response-stream": _INVOKE,
}
_PATH = re.compile(
    r"(?P<chat>/(?:chat|agents)/completions$)"
    r"|(?P<responses>/responses$)"
    r"|(?P<messages>/messages$)"
    r"|/models/(?P<model>[^/]+):(?P<verb>generateContent|streamGenerateContent|rawPredict|streamRawPredict)$"
    r"|/model/(?P<id>[^/]+)/(?P<operation>converse|converse-stream|invoke|invoke-with-response-stream)$"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a request asks: its format, its JSON, and the model where the path names it."""

    wire: Wire
    json: dict[str, Any]
    model: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The step's arguments: the request's own JSON, cut into what people look at, without credentials."""
        out: dict[str, Any] = {} if self.model is None else {"model": self.model}
        settings: dict[str, Any] = {}
        for key, value in self.json.items():
            name = self.wire.parts.get(key)
            if name is None:
                settings[key] = value
            else:
                out[name] = hide(value) if name == "tools" else value
        return {**out, "settings": hide(settings)}

    def body(self, edited: Mapping[str, Any]) -> bytes:
        """The JSON with other arguments."""
        by_key, out = self._keys(), dict[str, Any]()
        settings = edited["settings"]
        for key, value in self.json.items():
            name = by_key.get(key)
            if name is not None:
                out[key] = unhide(edited[name], value)
            elif key in settings:
                out[key] = unhide(settings[key], value)
        out |= {key: value for key, value in settings.items() if key not in out}
        return json.dumps(out, ensure_ascii=False).encode()

    def _keys(self) -> dict[str, str]:
        return {key: self.wire.parts[key] for key in self.json if key in self.wire.parts}

    def path(self, path: str, edited: Mapping[str, Any]) -> str:
        """The path with another model, where it names one."""
        if self.model is None or edited["model"] == self.model:
            return path
        found = _PATH.search(path)
        assert found is not None
        group = "model" if found["model"] is not None else "id"
        return path[: found.start(group)] + quote(str(edited["model"]), safe="") + path[found.end(group) :]


def may_be_one(method: str, path: str) -> bool:
    """Whether a request may call a model, by its address alone."""
    return method == "POST" and _PATH.search(path) is not None


def endpoint_of(method: str, path: str, read: Callable[[], bytes]) -> Endpoint | None:
    """What a request asks of a model; None where it asks something else. `read` gives its body."""
    if method != "POST" or (found := _PATH.search(path)) is None:
        return None
    try:
        data = json.loads(read())
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    if found["operation"] is not None:
        wire, model = _BEDROCK[found["operation"]], unquote(found["id"])
    elif found["verb"] is not None:
        wire = _GENERATE if found["verb"].endswith("Content") else _MESSAGES
        model = unquote(found["model"])
    else:
        wire, model = (_CHAT if found["chat"] else _RESPONSES if found["responses"] else _MESSAGES), None
    return Endpoint(wire, data, model) if all(key in data for key in wire.needs) else None
