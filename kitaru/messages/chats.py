"""Chats: a document of a wire format, in the neutral form, and back."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from . import anthropic, bedrock, gemini, mistral, openai_chat, openai_responses, pydantic_ai
from .lenses import Format
from .parts import Message, Usage

__all__ = ["FORMATS", "Chat", "assemble", "convert", "detect", "read"]

# In the order in which they are asked: those whose signs are their own first.
_FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (pydantic_ai, gemini, bedrock, anthropic, openai_responses, mistral, openai_chat)
}

FORMATS = tuple(sorted(_FORMATS))
"""The names of the wire formats."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages of a request, of a response, or of a list of them.

    To edit one, put other messages into it: ``dataclasses.replace(chat, messages=…)``; then `wire` gives the document
    with just that changed.

    Attributes
    ----------
    format : str
        One of `FORMATS`.
    messages : tuple of Message
        The system prompt first, wherever the format has it.
    usage : Usage or None
        Of a response, what it used.
    """

    format: str
    messages: tuple[Message, ...]
    usage: Usage | None = None
    _document: Any = field(default=None, compare=False, repr=False)

    def wire(self) -> Any:
        """The document in its wire format: as it was read, but for what is another now.

        Raises
        ------
        UsageError
            The format has no form for a part, or no place for it.
        """
        return _FORMATS[self.format].write(self._document, self.messages)


def detect(document: Any) -> str | None:
    """The wire format of a request, a response, a list of messages or a message; None where it is none of them.

    What two formats would write alike (``{"role": "user", "content": "Hi"}``) is the more common one's.

    >>> detect([{"role": "user", "parts": [{"text": "Hi"}]}]), detect([{"role": "user", "content": "Hi"}]), detect([1])
    ('gemini', 'openai-chat', None)
    """
    if not isinstance(document, (dict, list)):
        return None
    return next((name for name, known in _FORMATS.items() if known.knows(document)), None)


def read(document: Any, format: str | None = None) -> Chat:  # noqa: A002 - as people say it
    """A document of a wire format in the neutral form.

    Parameters
    ----------
    document
        A request, a response, a list of messages or a message alone, as parsed JSON.
    format
        Its format; recognised when left out.

    Raises
    ------
    UsageError
        No format is recognised, or there is none of that name.

    Examples
    --------
    >>> chat = read({"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]})
    >>> chat.format, [(m.role, m.text) for m in chat.messages]
    ('anthropic', [('system', 'Be brief.'), ('user', 'Hi')])
    """
    known = _named(format or detect(document) or "")
    return Chat(known.name, known.read(document), known.usage(document), document)


def convert(messages: Iterable[Message], format: str) -> Any:  # noqa: A002
    """Messages as the part of a request that holds them, in a wire format; as a list in that of Pydantic AI.

    Raises
    ------
    UsageError
        The format has no form for a part.

    Examples
    --------
    >>> from kitaru.messages import Message, Text
    >>> convert([Message("system", (Text("Be brief."),)), Message("user", (Text("Hi"),))], "anthropic")
    {'messages': [{'role': 'user', 'content': 'Hi'}], 'system': 'Be brief.'}
    """
    known = _named(format)
    if known.compose is not None:
        return known.compose([*messages])
    return known.write(copy.deepcopy(dict(known.request or {})), [*messages])


def assemble(format: str, chunks: Sequence[Any] | Iterable[Any]) -> Any:  # noqa: A002
    """The response that the chunks of a stream make: what the plain call would have given, as far as they say it.

    Parameters
    ----------
    chunks
        The data of each server-sent event, as parsed JSON. A stream that was cut off gives what came.

    Raises
    ------
    UsageError
        There is no such format.

    Examples
    --------
    >>> said = [{"delta": {"content": text}} for text in ("Hel", "lo")]
    >>> assemble("openai-chat", [{"choices": [choice]} for choice in said])["choices"][0]["message"]
    {'role': 'assistant', 'content': 'Hello'}
    """
    return _named(format).assemble(chunks)


def _named(name: str) -> Format:
    if name not in _FORMATS:
        what = f"there is no format {name!r}" if name else "these are no messages of a format that is known"
        raise UsageError(f"{what}: there are {', '.join(FORMATS)}")
    return _FORMATS[name]
