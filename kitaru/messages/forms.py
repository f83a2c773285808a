"""Chats as text: the transcript that a person reads, and the blocks in which one edits.

::

    [user]
    Which licence has numpy?

    [tool call get_licence call_1]
    {"package": "numpy"}

    [tool result call_1]
    BSD-3-Clause
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from ..errors import UsageError
from ..glances import printable
from .chats import Chat
from .lenses import dig, same
from .parts import Image, Message, Part, Text, Thinking, ToolCall, ToolResult, Unknown, Usage

__all__ = ["Turn", "figures", "from_text", "to_text", "transcript", "turns"]

_FIRST, _LAST = 20, 60  # blocks of a long chat that are shown
_BODY, _LINES, _ALL = 4_000, 60, 40_000  # characters and lines of one, and characters of all of them
_WIDE = 88  # characters of JSON that stands in one line
_HEAD = 200


class _Block(NamedTuple):
    """A part of a message, or of one without parts its role; `part` is -1 then.

    To be edited, each part of what a tool gave is a block too, below the result's own; `inner` is its number.
    """

    head: str
    body: str
    message: int
    part: int
    inner: int = -1


# ---------------------------------------------------------------- what is said


def _blocks(messages: Sequence[Message]) -> list[_Block]:
    out = []
    for m, message in enumerate(messages):
        first = message.parts[0] if message.parts else None
        if first is None or (isinstance(first, Image | Unknown) and message.role != "unknown"):
            out.append(_Block(_word(message.role), "", m, -1))
        out += [_Block(*_said(message, part), m, p) for p, part in enumerate(message.parts)]
    return out


def _editable(messages: Sequence[Message]) -> Iterator[_Block]:
    for block in _blocks(messages):
        part = messages[block.message].parts[block.part] if block.part >= 0 else None
        if isinstance(part, ToolResult) and isinstance(part.content, tuple):
            yield block._replace(body="")
            for n, each in enumerate(part.content):
                head, body = (_PART, each.text) if isinstance(each, Text) else _said(Message(""), each)
                yield block._replace(head=head if head == _PART else f"{_PART} {head}", body=body, inner=n)
        else:
            yield block


def _said(message: Message, part: Part) -> tuple[str, str]:
    match part:
        case Text():
            return _word(message.role), part.text
        case Thinking():
            return "thinking", part.text
        case ToolCall():
            return _words("tool call", part.name or "?", *filter(None, [part.id])), _data(part.arguments)
        case ToolResult():
            name = () if part.id else (part.name,)
            return _words("tool result", *filter(None, (part.id, *name))) + (" error" if part.error else ""), _result(
                part
            )
        case Image(source=bytes()):
            return f"{_words('image', part.media_type or 'image')} {len(part.source):,} bytes", ""
        case Image():
            return "image", str(part.source)
    data = part.data if isinstance(part, Unknown) else None
    only = [*data] if isinstance(data, dict) and len(data) == 1 else []
    kinds = [k for key in ("type", "kind", "part_kind") if isinstance(k := dig(data, (key,)), str)]
    return _words("other", *filter(None, [*kinds, *only][:1])), _data(data)


def _result(part: ToolResult) -> str:
    if not isinstance(part.content, tuple):
        return "" if part.content is None else _data(part.content)
    inner = [_said(Message("tool"), p) for p in part.content]
    return "\n".join(body if head == "tool" else f"({head}) {body}".rstrip() for head, body in inner)


def _data(value: Any) -> str:
    """Text as it is, anything else as JSON, in one line if it is short."""
    if isinstance(value, str):
        return value
    try:
        short = json.dumps(value, ensure_ascii=False)
        return short if len(short) <= _WIDE else json.dumps(value, ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _words(what: str, *names: str) -> str:
    return " ".join([what, *(name if _PLAIN.fullmatch(name) else json.dumps(name) for name in names)])


def _word(role: str) -> str:
    return role if _ROLE.fullmatch(role) and role not in _OTHERS else f"role {json.dumps(role)}"


_PLAIN = re.compile(r"[^\s\"\[\]]+")
_ROLE = re.compile(r"[a-z][\w-]*")
_PART = "part"
_OTHERS = ("image", "other", _PART, "role", "thinking")

# ---------------------------------------------------------------- to read


class Turn(NamedTuple):
    """A part of a chat as it is shown: text that prints as itself; `body` may have several lines."""

    head: str
    body: str


def turns(messages: Chat | Iterable[Message]) -> list[Turn]:
    r"""What is said in a chat, cut to what a person reads: of a long one the beginning and the end.

    >>> turns([Message("user", (Text("Hi\x1b[2J"),))])
    [Turn(head='user', body='Hi\\x1b[2J')]
    """
    blocks = _blocks(_messages(messages))
    more = len(blocks) - _FIRST - _LAST
    kept = blocks[:_FIRST] + blocks[-_LAST:] if more > 0 else blocks
    room = min(_BODY, _ALL // max(len(kept), 1))
    shown = [Turn(printable(b.head)[:_HEAD], _cut(b.body, room)) for b in kept]
    if more > 0:
        shown.insert(_FIRST, Turn(f"… {more:,} more", ""))
    return shown


def _cut(body: str, room: int) -> str:
    kept = "\n".join(body[:room].split("\n")[:_LINES])
    shown = "\n".join(printable(text) for text in kept.expandtabs(4).split("\n"))
    more = len(body) - len(kept)
    return f"{shown}\n… {more:,} more characters" if more else shown


def figures(usage: Usage | None, cost: float | None = None) -> str:
    """Tokens and cost (US dollars) in one line.

    >>> figures(Usage(input=1200, output=40, cached=1000), 0.0021)
    '1,200 tokens in (1,000 cached), 40 out, $0.0021'
    """
    said = []
    if usage is not None:
        cached = f" ({usage.cached:,} cached)" if usage.cached else ""
        reasoning = f" ({usage.reasoning:,} for thoughts)" if usage.reasoning else ""
        said = [f"{usage.input:,} tokens in{cached}", f"{usage.output:,} out{reasoning}"]
    if isinstance(cost, int | float) and not isinstance(cost, bool):
        said.append(f"${cost:,.2f}" if cost >= 1 or not cost else f"${cost:.4g}")
    return ", ".join(said)


def transcript(messages: Chat | Iterable[Message], *, usage: Usage | None = None, cost: float | None = None) -> str:
    """A chat as text for a terminal: bounded, and with no control character but line breaks.

    Parameters
    ----------
    usage, cost
        Of a call, said in the last line; of a `Chat` that is a response its own usage.

    Examples
    --------
    >>> from kitaru.messages import read
    >>> print(transcript(read([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])))
    [user]
    Hi
    <BLANKLINE>
    [assistant]
    Hello
    """
    usage = messages.usage if usage is None and isinstance(messages, Chat) else usage
    parts = [f"[{turn.head}]\n{turn.body}".rstrip("\n") for turn in turns(messages)]
    return "\n\n".join([*parts, *filter(None, [figures(usage, cost)])])


def _messages(messages: Chat | Iterable[Message]) -> Sequence[Message]:
    return messages.messages if isinstance(messages, Chat) else [*messages]


# ---------------------------------------------------------------- to edit

_IS_HEAD = re.compile(r"\[(?:tool call|tool result|[a-z][\w-]*)(?: [^\n]*)?\]\s*")
_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')


def to_text(chat: Chat) -> str:
    r"""A chat in blocks that a person edits; `from_text` reads them.

    A line of a text that looks like the head of a block, or begins with a backslash, has a backslash in front.
    """
    return "\n".join(f"[{b.head}]\n{_quoted(b.body)}" for b in _editable(chat.messages))


def _quoted(body: str) -> str:
    lines = [f"\\{line}" if line[:1] == "\\" or _IS_HEAD.fullmatch(line) else line for line in body.split("\n")]
    return "".join(f"{line}\n" for line in lines) if body else ""


def from_text(chat: Chat, text: str) -> Chat:
    """The chat with what was edited in its blocks. A block that says what it said is left as it was, byte for byte.

    A block that was taken out is gone from the chat, and a new one is a turn of its own, or a further call of its turn.

    Raises
    ------
    UsageError
        There is text before the first head; a head or a body says nothing that can be understood.

    Examples
    --------
    >>> from kitaru.messages import read
    >>> chat = read([{"role": "user", "content": "Hi", "name": "Ada"}])
    >>> from_text(chat, to_text(chat).replace("Hi", "Hello")).wire()
    [{'role': 'user', 'content': 'Hello', 'name': 'Ada'}]
    """
    return replace(chat, messages=_Editing(chat.messages, _parsed(text)).run())


def _parsed(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if _IS_HEAD.fullmatch(line):
            found.append((line.strip()[1:-1].strip(), []))
        elif found:
            found[-1][1].append(line[1:] if line[:1] == "\\" else line)
        elif line.strip():
            raise UsageError(f"the text begins with the head of a block, such as [user], and not with {line!r:.80}")
    return [(head, "\n".join(lines[:-1] if lines and not lines[-1] else lines)) for head, lines in found]


def _plainly(body: str) -> str:
    """What counts of a body: an editor may add or take away line breaks at the end of one."""
    return body.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


class _Editing:
    """Puts the blocks that were written in the place of those that a chat has."""

    def __init__(self, messages: Sequence[Message], written: list[tuple[str, str]]) -> None:
        self._old, self._blocks, self._written = messages, [*_editable(messages)], written
        self._new: list[tuple[int, Message]] = []  # each with the number of the message that it is, or -1

    def run(self) -> tuple[Message, ...]:
        pairs = self._pairs()
        for n, (head, body) in enumerate(self._written):
            block = self._blocks[pairs[n]] if n in pairs else None
            if _is_inner(head):
                self._into_result(block, head, body)
            elif block is None:
                following = next(
                    (self._blocks[pairs[k]].message for k in range(n, len(self._written)) if k in pairs), -1
                )
                self._add(head, body, following)
            else:
                self._keep(block, head, body)
        return tuple(message for _, message in self._new)

    def _pairs(self) -> dict[int, int]:
        """For each written block the one that it stands for: the same, else the next of its kind in the same gap."""
        a = [(b.head, _plainly(b.body)) for b in self._blocks]
        b = [(head, _plainly(body)) for head, body in self._written]
        out: dict[int, int] = {}
        i = j = 0
        for x, y, size in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            free = [*range(i, x)]
            for n in range(j, y):
                at = next((k for k in free if _kind(a[k][0]) == _kind(b[n][0])), None)
                if at is not None:
                    out[n] = at
                    free = [k for k in free if k > at]
            out |= {y + k: x + k for k in range(size)}
            i, j = x + size, y + size
        return out

    def _keep(self, block: _Block, head: str, body: str) -> None:
        old = self._old[block.message]
        if not self._new or self._new[-1][0] != block.message:
            self._new.append((block.message, replace(old, parts=())))
        _, message = self._new[-1]
        if _is_role(head) and head != block.head:
            message = replace(message, role=_role(head))
        if block.part >= 0:
            part = old.parts[block.part]
            if isinstance(part, ToolResult) and isinstance(part.content, tuple):  # which is in the blocks that follow
                said = _plainly(body).strip("\n")
                part = replace(_resulted(part, head), content=(Text(said),) if said else ())
            elif head != block.head or _plainly(body) != _plainly(block.body):
                part = _updated(part, block, head, body)
            parts: tuple[Part, ...] = (part,)
        else:
            parts = (Text(body),) if body else ()
        self._new[-1] = (block.message, replace(message, parts=(*message.parts, *parts)))

    def _into_result(self, block: _Block | None, head: str, body: str) -> None:
        """A part of what a tool gave, below the head of that."""
        number, message = self._new[-1] if self._new else (-1, Message(""))
        result = message.parts[-1] if message.parts else None
        if not isinstance(result, ToolResult) or not isinstance(result.content, str | tuple):
            raise UsageError(f"[{head}] is a part of what a tool gave, and stands below its [tool result …]")
        if block is None:
            part = _part(head.removeprefix(_PART).strip() or "tool", body)
        else:
            whole = self._old[block.message].parts[block.part]
            part = whole.content[block.inner]  # type: ignore[attr-defined]
            if head != block.head or _plainly(body) != _plainly(block.body):
                part = _updated(part, block, head, body)
        before = result.content
        if isinstance(before, str):
            before = (Text(before),) if before else ()
        parts = (*message.parts[:-1], replace(result, content=(*before, part)))
        self._new[-1] = (number, replace(message, parts=parts))

    def _add(self, head: str, body: str, following: int) -> None:
        number, last = self._new[-1] if self._new else (-2, Message(""))
        part = _part(head, body)
        role = {ToolCall: "assistant", Thinking: "assistant", ToolResult: "tool"}.get(type(part)) or ""
        joins = role == "assistant" == last.role or not (role or _is_role(head))
        if _is_role(head):
            role = _role(head)
            joins = last.role == role and following == number
        if joins and self._new:
            self._new[-1] = (number, replace(last, parts=(*last.parts, part)))
        else:
            self._new.append((-1, Message(role or "user", (part,))))


def _is_inner(head: str) -> bool:
    return head == _PART or head.startswith(f"{_PART} ")


def _kind(head: str) -> str:
    return "role" if _is_role(head) else " ".join(head.split()[: 2 if head.startswith(("tool ", "part ")) else 1])


def _is_role(head: str) -> bool:
    return head.startswith('role "') or (_ROLE.fullmatch(head) is not None and head not in _OTHERS)


def _role(head: str) -> str:
    return _names(head, "role")[0] if head.startswith("role ") else head


def _names(head: str, what: str) -> list[str]:
    try:
        return [json.loads(n) if n[0] == '"' else n for n in _NAME.findall(head.removeprefix(what))]
    except ValueError:
        raise UsageError(f"[{head}] cannot be understood: names with spaces stand in quotation marks") from None


def _part(head: str, body: str) -> Part:
    """A block that is new."""
    if _is_role(head):
        return Text(_plainly(body))
    match _kind(head):
        case "thinking":
            return Thinking(_plainly(body))
        case "tool call":
            return replace(_called(ToolCall(), head), arguments=_read(body, {}, head))
        case "tool result":
            return replace(_resulted(ToolResult(), head), content=_plainly(body))
        case "image" if body.strip():
            return Image(body.strip())
    raise UsageError(
        f"[{head}] cannot be added as text: a role, thinking, tool call, tool result or image with a URL can"
    )


def _updated(part: Part, block: _Block, head: str, body: str) -> Part:
    """A part that says what its block says now."""
    end = block.body[len(block.body.rstrip("\n")) :]
    same_body = _plainly(body) == _plainly(block.body)
    match part:
        case Text() | Thinking():
            return replace(part, text=_plainly(body) + end)
        case ToolCall():
            call = part if head == block.head else _called(part, head)
            return call if same_body else replace(call, arguments=_read(body, part.arguments, head))
        case ToolResult():
            result = part if head == block.head else _resulted(part, head)
            return result if same_body else replace(result, content=_content(part, head, body))
        case Image(source=str()):
            return replace(part, source=body.strip())
        case Unknown() if head == block.head and not isinstance(part.data, str):
            return replace(part, data=_read(body, part.data, head))
    raise UsageError(f"[{block.head}] cannot be edited as text: keep it as it is, or take it out")


def _called(part: ToolCall, head: str) -> ToolCall:
    names = _names(head, "tool call")
    if not 1 <= len(names) <= 2:
        raise UsageError(f"[{head}] is [tool call NAME ID], or [tool call NAME] where calls have no ID")
    return replace(part, name=names[0], id=names[1] if len(names) > 1 else "")


def _resulted(part: ToolResult, head: str) -> ToolResult:
    names = _names(head, "tool result")
    error = names[-1:] == ["error"]
    names = names[:-1] if error else names
    if len(names) > 1:
        raise UsageError(f"[{head}] is [tool result ID], with error behind it where it is one")
    name = names[0] if names else ""
    return replace(part, error=error, name=name) if part.name and not part.id else replace(part, error=error, id=name)


def _content(part: ToolResult, head: str, body: str) -> Any:
    return _plainly(body) if isinstance(part.content, str | None) else _read(body, part.content, head)


def _read(body: str, old: Any, head: str) -> Any:
    """What a body says: JSON where data was, or text."""
    try:
        if not isinstance(old, str | None) and not same(json.loads(json.dumps(old)), old):
            raise UsageError(f"[{head}] holds what is no JSON: it cannot be edited as text")
        found = json.loads(body)
    except (TypeError, RecursionError):
        raise UsageError(f"[{head}] holds what is no JSON: it cannot be edited as text") from None
    except ValueError as e:
        if isinstance(old, str):
            return _plainly(body)
        raise UsageError(f"[{head}] holds JSON, and this is none: {e}") from None
    return found if isinstance(found, dict) or not isinstance(old, str) else _plainly(body)
