"""The chat of a checkpoint: what a model call was asked, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import KitaruError
from .chats import _FORMATS, Chat, detect, read
from .parts import Message, Usage

if TYPE_CHECKING:
    from ..opened import Artifact, Checkpoint

__all__ = ["Conversation", "conversation"]

_MOST = 8_000_000  # bytes of what is loaded to be looked at


@dataclass(frozen=True, slots=True)
class Conversation:
    """What went to a model and came back.

    Attributes
    ----------
    messages : tuple of Message
        Those of the request, then those of the response.
    usage : Usage or None
    cost : float or None
        US dollars, as the step logged it.
    """

    messages: tuple[Message, ...]
    usage: Usage | None = None
    cost: float | None = None


def conversation(checkpoint: Checkpoint, instead: Mapping[str, Artifact] = MappingProxyType({})) -> Conversation | None:
    """The chat of a step of the type ``llm_call``; None where there is none to be recognised.

    Its values are read, and no code of their own is run.

    Parameters
    ----------
    instead
        By name, what an edit puts in the place of a value.
    """
    if checkpoint.data.type != "llm_call":
        return None
    outputs, inputs = (
        _plain_values({name: instead.get(a.name, a) for name, a in of.items()})
        for of in ({a.name: a for a in checkpoint.artifacts}, checkpoint.inputs)
    )
    answers = [*filter(None, map(_chat, outputs.values()))]
    asked = _asked(inputs, answers[0].format if answers else None)
    chats = [*asked, *answers]
    messages = tuple(message for chat in chats for message in chat.messages)
    usage = next((chat.usage for chat in reversed(chats) if chat.usage is not None), None)
    cost = checkpoint.metadata.get("cost")
    return Conversation(messages, usage, cost if type(cost) in (int, float) else None) if messages else None


def _plain_values(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    out = {}
    for name, artifact in artifacts.items():
        if artifact.kind in {"data", "text"} and artifact.size <= _MOST:
            try:
                out[name] = _untagged(artifact.to_json())
            except (KitaruError, RecursionError):  # its bytes are gone, or it is nested too deeply to be a chat
                continue
    return out


_TAGS = {"$tuple": None, "$dataclass": 1, "$pydantic": 1, "$enum": 1, "$date": 0, "$datetime": 0, "$uuid": 0}


def _untagged(shown: Any) -> Any:
    """What `Artifact.to_json` shows, without the tags of types: messages may be dataclasses or models."""
    if isinstance(shown, list):
        return [_untagged(item) for item in shown]
    if not isinstance(shown, dict):
        return shown
    if len(shown) == 1 and (tag := next(iter(shown))) in _TAGS:
        inside, at = shown[tag], _TAGS[tag]
        return _untagged(inside if at is None else inside[at])
    if [*shown] == ["$bytes"]:
        return bytes.fromhex(shown["$bytes"])
    return {key[1:] if key.startswith("$$") else key: _untagged(item) for key, item in shown.items()}


def _asked(inputs: Mapping[str, Any], answered: str | None) -> list[Chat]:
    """The chat in a step's inputs: a request's messages and system prompt may stand apart there."""
    said = inputs.get("messages")
    name = answered if said is not None and answered is not None else detect(said)
    known = _FORMATS.get(name or "")
    if known is None or known.request is None:
        return [*filter(None, map(_chat, inputs.values()))]
    request = {}
    for seat in known.seats(known.request):
        value = said if seat.many else inputs.get("system")
        if value is not None:
            request[f"{seat.path[0]}"] = value
    return [chat for chat in [read(request, known.name)] if chat.messages]


def _chat(value: Any) -> Chat | None:
    return read(value) if detect(value) is not None else None
