"""What a person needs to recognise a value: its type, its length or shape, and a glimpse, as small plain data.

Made once, when a value is recorded, and kept in its record: listings download no value. A preview looks at the first
few items of the first few levels and calls no code of the value's own class: builtin types are read by their own
methods, other classes by what their instances hold, and of other libraries only the types that `samples` knows are
asked. It costs the same for a list of ten messages and of a million. No text in it holds a control character or a
mark that turns the direction of text, whatever the value does.

A preview is a map. As msgpack it takes at most 500 bytes, and 2,048 for a frame:

==============  ====================================================================================================
``type``        text: the type's name, without "builtins."; always there
``text``        text: what the value begins with, in one line; always there. Of a list of messages no more than the
                beginning of what ``messages`` says
``len``         integer: its length, for what has one
``messages``    of a list of chat messages: ``[role, text]`` of the first and the last, or of all where it has no more
                than three; `text` may be cut, and ends with "…" then
``shape``       of an array: its dimensions, where they are at most 16; of a frame: rows, columns
``dtype``       text, of an array or a series: the type of its elements
``range``       of an array of at most 16,384 numbers: the least and the greatest that is a number
``columns``     of a frame: ``[name, dtype]`` of the first columns, as text
``rows``        of a frame: its first rows, each an array with a text for each of `columns`
``labels``      of a pandas frame whose rows are not numbered from 0: a text for each of `rows`
``mode``        text, of an image: ``RGB``, ``L``, …
``size``        of an image: width, height in pixels
==============  ====================================================================================================

Whoever shows previews must expect anything in their place: they may come from somebody else's store (`table`,
`messages` and `preview_line` do).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

from .glances import (
    EVERYDAY,
    chat_line,
    chat_of,
    fitting,
    glance,
    is_tame,
    length_of,
    library_of,
    printable,
    type_name,
)

__all__ = ["Table", "messages", "preview", "preview_line", "printable", "table"]

_TYPE, _CELL = 100, 240  # characters of what may come from anywhere
_CHAT = 40  # characters of a chat's text: the rest of its line stands under `messages`


def preview(value: Any) -> dict[str, Any]:
    """A glimpse of `value` as plain data; this module's docstring says what is in it.

    Examples
    --------
    >>> preview({"name": "numpy", "files": [1, 2, 3]})
    {'type': 'dict', 'len': 2, 'text': "{'name': 'numpy', 'files': [1, 2, 3]}"}
    >>> preview([{"role": "user", "content": "Which way?"}, {"role": "assistant", "content": "North."}])["text"]
    'user: Which way?; assistant: North.'
    """
    glimpse: dict[str, Any] = {"type": "object"}
    try:
        cls = type(value)
        if type(cls) is type and cls in EVERYDAY:
            glimpse["type"] = cls.__name__
        else:
            glimpse["type"] = type_name(cls)
            if not is_tame(cls):
                glimpse["text"] = f"<{glimpse['type']}>"
                return glimpse
            if library := library_of(cls):
                from .samples import sample  # loads where such a value is met

                if found := sample(value, library):
                    return glimpse | found
        if (length := length_of(value)) is not None:
            glimpse["len"] = length
            if (cls is list or cls is tuple) and length and (chat := chat_of(value)):
                line = chat_line(chat, length)
                glimpse["text"] = line if len(line) <= _CHAT else line[: _CHAT - 1] + "…"
                glimpse["messages"] = chat
                return glimpse
        glimpse["text"] = fitting(glance(value))
    except Exception as error:  # a hostile value: its type is what can be said
        glimpse["text"] = f"<no preview: {type(error).__name__:.60}>"
    return glimpse


def preview_line(p: dict[str, Any], width: int = 80) -> str:
    """A preview in one line of at most `width` characters: for a table. Safe for previews from anywhere.

    >>> preview_line({"type": "dict", "len": 2, "text": "{'name': 'numpy', 'files': [1, 2, 3]}"}, width=30)
    "dict(2) {'name': 'numpy', 'fi…"
    """
    kind, length, text = p.get("type"), p.get("len"), p.get("text")
    if (chat := messages(p)) and type(length) is int:
        text = chat_line(chat, length)
    line = kind[:_TYPE] if isinstance(kind, str) else "?"
    if type(length) is int and length.bit_length() <= 64:
        line += f"({length})"
    if isinstance(text, str) and text:
        line += f" {text[: 4 * max(width, 0)]}"
    line = printable(line)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"[:width]


class Table(NamedTuple):
    """The first rows of a frame, each cell a text that prints as itself.

    Attributes
    ----------
    names, dtypes : list of str
        Of the columns that are here.
    rows : list of list of str
        A cell for each of them.
    labels : list of str
        One for each row; empty where they are numbered from 0.
    more_rows, more_columns : int
        How many there are beside.
    """

    names: list[str]
    dtypes: list[str]
    rows: list[list[str]]
    labels: list[str]
    more_rows: int
    more_columns: int


def table(p: dict[str, Any]) -> Table | None:
    """The table in the preview of a frame; None in any other. Safe for previews from anywhere.

    >>> table({"columns": [["n", "int64"]], "rows": [["1"], ["2"]], "shape": [2, 1]}).rows
    [['1'], ['2']]
    """
    columns, rows, labels, shape = (p.get(key) for key in ("columns", "rows", "labels", "shape"))
    if not (_are_lists(columns, 2) and _are_lists(rows, len(columns))):
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)):
        return None
    texts = [[_said_safely(cell) for cell in row] for row in rows]
    beside = labels if isinstance(labels, list) and len(labels) == len(rows) else []
    more = [max(all_ - len(here), 0) for all_, here in zip(shape, (rows, columns), strict=True)]
    names, dtypes = ([_said_safely(column[n]) for column in columns] for n in (0, 1))
    return Table(names, dtypes, texts, list(map(_said_safely, beside)), *more)


def messages(p: dict[str, Any]) -> list[tuple[str, str]]:
    """The messages in a preview as (role, text), in their order; of more than three, the first and the last.

    Empty in the preview of anything else. Safe for previews from anywhere.

    >>> messages({"messages": [["user", "Which way?"]]})
    [('user', 'Which way?')]
    """
    found = p.get("messages")
    return [(_said_safely(role), _said_safely(said)) for role, said in found] if _are_lists(found, 2) else []


def _are_lists(things: Any, size: int) -> TypeGuard[list[list[Any]]]:
    return isinstance(things, list) and all(isinstance(thing, list) and len(thing) == size for thing in things)


def _said_safely(text: Any) -> str:
    return printable(text[:_CELL]) if isinstance(text, str) else "?"
