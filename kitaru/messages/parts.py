"""The neutral form: messages, their parts, and what a call used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

__all__ = ["Image", "Message", "Part", "Text", "Thinking", "ToolCall", "ToolResult", "Unknown", "Usage"]


class Form(Protocol):
    """How something of a wire format is read; see `lenses`."""

    def rest(self, wire: Any) -> Mapping[str, Any]:
        """What `wire` says beyond the neutral form."""
        ...


class Origin(NamedTuple):
    """Where something was read: the form that it had there, and what stood there.

    `seat` is the number of a message's place in its document.
    """

    form: Form
    wire: Any
    seat: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What may have been read from a wire format, and then keeps all that was said there."""

    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def extra(self) -> Mapping[str, Any]:
        """What its wire format said beyond the neutral form."""
        return {} if self.origin is None else self.origin.form.rest(self.origin.wire)


@dataclass(frozen=True, slots=True)
class Part(_Read):
    """A part of a message."""


@dataclass(frozen=True, slots=True)
class Text(Part):
    """What is said."""

    text: str


@dataclass(frozen=True, slots=True)
class Image(Part):
    """An image: its bytes, or the URL where it is."""

    source: bytes | str
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall(Part):
    """A tool that is to be called.

    Attributes
    ----------
    id : str
        What its result names; "" in a format that has none.
    arguments
        Data, as a rule a dict; a text where the model wrote what is no JSON object.
    """

    id: str = ""
    name: str = ""
    arguments: Any = None


@dataclass(frozen=True, slots=True)
class ToolResult(Part):
    """What a tool gave.

    Attributes
    ----------
    content
        A text; a tuple of parts; or data.
    name : str
        The tool's, in formats that say it here.
    """

    id: str = ""
    content: Any = ""
    error: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Thinking(Part):
    """What the model thought. `signature` is what its maker knows it by again, or holds it encrypted."""

    text: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Unknown(Part):
    """A part that the neutral form has no word for, as it stands in its format."""

    data: Any


@dataclass(frozen=True, slots=True)
class Message(_Read):
    """One turn.

    Attributes
    ----------
    role : str
        ``system``, ``user``, ``assistant`` or ``tool``; another word where the format has one (``developer``).
    """

    role: str
    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """What it says, without thoughts, calls and results."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call.

    Attributes
    ----------
    input, output : int
        In all: those that were cached, and those of thoughts, are among them.
    cached : int
        Of the input, what was read from a cache.
    reasoning : int
        Of the output, what went into thoughts, as far as it is said.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
