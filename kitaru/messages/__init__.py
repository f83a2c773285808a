"""Chat messages in one neutral form, read from each wire format and written back without loss.

::

    >>> from dataclasses import replace
    >>> from kitaru.messages import Text, read
    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi", "name": "Ada"}]}
    >>> chat = read(request)
    >>> chat.wire() == request
    True
    >>> (message,) = chat.messages
    >>> replace(chat, messages=(replace(message, parts=(Text("Hello"),)),)).wire()["messages"]
    [{'role': 'user', 'content': 'Hello', 'name': 'Ada'}]

For display, preview, diff and editing. No SDK is needed: the formats are read as the JSON that goes over the wire.
Rooms: `parts` is the form; `lenses` how a format is read and written, and a file for each format says where things
lie in it; `chats` is what is done with them; `forms` the text that a person reads and edits; `recorded` finds the
chat of a checkpoint.
"""

from __future__ import annotations

from .chats import FORMATS, Chat, assemble, convert, detect, read
from .forms import Turn, figures, from_text, to_text, transcript, turns
from .parts import Image, Message, Part, Text, Thinking, ToolCall, ToolResult, Unknown, Usage
from .recorded import Conversation, conversation

__all__ = [
    "FORMATS",
    "Chat",
    "Conversation",
    "Image",
    "Message",
    "Part",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Unknown",
    "Usage",
    "assemble",
    "conversation",
    "convert",
    "detect",
    "figures",
    "from_text",
    "read",
    "to_text",
    "transcript",
    "turns",
]
