"""What an execution waits for: as HTML, as text, and as the lines that answer it.

As in `display`, all that was recorded is hostile. The text has exec_ids, for they are typed, and moments;
`notebooks/sanitize.cfg` masks both.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kitaru.client import Execution, PendingWait
from kitaru.errors import UsageError

from . import display
from .commands import quoted
from .display import Face, line, moment

__all__ = [
    "abort_line",
    "answer_line",
    "as_json",
    "as_text",
    "is_asked",
    "listed",
    "metadata",
    "pending",
    "ready_line",
    "resume_line",
    "said_of",
    "shown",
]

_WORD = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_MANY = 20  # entries of metadata, waits


def is_asked(w: PendingWait) -> bool:
    """Whether a person answers it: not a moment, or another execution."""
    return w.about not in {"sleep", "child"}


def pending(e: Execution) -> list[PendingWait]:
    """The waits of an execution that nobody has closed yet, as far as it knows."""
    return [PendingWait.of(w) for name, w in e.data.waits.open.items() if name not in e.closings]


# ---------------------------------------------------------------- the lines that do it


def answer_line(name: str, w: PendingWait, value: Any = ...) -> str:
    """What answers it: with `value`, or with something that would do."""
    said = _typed(w, w.example if value is ... else value)
    return f"%kitaru answer {quoted(name)} {quoted(w.name)} {quoted(said)}"


def _typed(w: PendingWait, value: Any) -> str:
    """An answer as a person would type it: a choice or a text needs no quotes."""
    if isinstance(value, str) and _WORD.fullmatch(value):
        with suppress(UsageError):
            if w.read(value) == value:
                return value
    return as_json(value)


def as_json(value: Any, indent: int | None = None) -> str:
    """Data as it is typed: what does not print as itself is written as JSON's escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def abort_line(name: str, w: PendingWait, reason: str = "") -> str:
    """What closes it without an answer."""
    why = f" --reason {quoted(reason)}" if reason else ""
    return f"%kitaru abort {quoted(name)} {quoted(w.name)}{why}"


def resume_line(name: str) -> str:
    """What goes on with it."""
    return f"%kitaru resume {quoted(name)}"


def ready_line() -> str:
    """What goes on with all that can."""
    return "%kitaru resume --ready"


# ---------------------------------------------------------------- how it looks


def said_of(exec_id: str, w: PendingWait) -> str:
    """One line: who waits, and for what."""
    if w.about == "sleep":
        return f"{line(exec_id)} sleeps until {moment(w.due or 0.0)}"
    if w.about == "child":
        return f"{line(exec_id)} waits for {line(w.name)}"
    asked = f': "{line(w.question, 300)}"' if w.question else ""
    return f"{line(exec_id)} waits for {line(w.name)}{asked}"


def shown(e: Execution, name: str) -> Face:
    """What an execution waits for, and what to type; there it is called `name`."""
    waits = pending(e)
    texts, parts = [], []
    for w in [w for w in waits if w.about != "child"][:_MANY]:
        face = _asked(e.exec_id, name, w) if is_asked(w) else _asleep(e.exec_id, w)
        texts.append(face.text)
        parts.append(face.html)
    if children := [w.name for w in waits if w.about == "child"]:
        count = f"{len(children)} execution{'' if len(children) == 1 else 's'} that it spawned"
        texts.append(f"{line(e.exec_id)} waits for {count}")
        names = ", ".join(line(c) for c in children[:_MANY]) + (", …" if len(children) > _MANY else "")
        parts.append(f"<p>waits for {count}: {display._varies(names)}</p>")
    if not waits:
        texts.append(f"{line(e.exec_id)} {'was answered and can go on' if e.data.waits.open else 'waits for nothing'}")
        parts.append("<p>It was answered, and can go on.</p>" if e.data.waits.open else "")
    if (goes := _going_on(e, name, waits)) is not None:
        texts.append(f"  go on    {goes}")
        parts.append(f"<p>go on {_code(goes)}</p>")
    page = display._page(display.heading(e.flow, e.status.value, e.exec_id, ""), "".join(parts))
    return Face(page, "\n".join(texts))


def _going_on(e: Execution, name: str, waits: Sequence[PendingWait]) -> str | None:
    """What goes on with it; None where a person has to answer first."""
    if e.status.is_finished:
        return None
    if len(waits) < len(e.data.waits.open):
        return resume_line(name)
    return ready_line() if waits and not any(map(is_asked, waits)) else None


def _asked(exec_id: str, name: str, w: PendingWait) -> Face:
    facts = [(line(key, 40), text) for key, text in metadata(w)]
    width = max((len(key) for key, _ in facts), default=0)
    lines = [said_of(exec_id, w), *(f"  {key:<{max(width, 7)}}  {line(text, 200)}" for key, text in facts)]
    rows = [(key, f'<span class="kitaru-value">{display._hb(text[:2000])}</span>') for key, text in facts]
    takes = line(w.shape, 200)
    lines.append(f"  takes    {takes}")
    rows.append(("takes", html.escape(takes)))
    if w.due is not None:
        lines.append(f"  until    {moment(w.due)}")
        rows.append(("until", display._varies(moment(w.due))))
    command = answer_line(name, w)
    lines.append(f"  answer   {line(command, 500)}")
    rows.append(("answer", _code(command)))
    question = display._hb(w.question or "an answer, please")
    body = "".join(f'<tr><th scope="row">{html.escape(key)}</th><td>{value}</td></tr>' for key, value in rows)
    table = f'<table class="kitaru-values"><tbody>{body}</tbody></table>'
    return Face(f"<p><b>{html.escape(line(w.name))}</b> {question}</p>{table}", "\n".join(lines))


def _asleep(exec_id: str, w: PendingWait) -> Face:
    return Face(f"<p>sleeps until {display._varies(moment(w.due or 0.0))}</p>", said_of(exec_id, w))


def _code(command: str) -> str:
    return f'<code class="kitaru-varies">{html.escape(line(command, 500))}</code>'


def metadata(w: PendingWait) -> list[tuple[str, str]]:
    """What whoever answers is told beside the question: texts as they are, all else as JSON."""
    return [(f"{key}", as_text(value)) for key, value in [*dict(w.metadata).items()][:_MANY]]


def as_text(value: Any) -> str:
    """Plain data for a person: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def listed(found: Sequence[tuple[str, PendingWait]], *, more: bool = False) -> Face:
    """Open waits with the exec_ids that they are of, each in a line."""
    heads = ("execution", "wait", "question", "takes")
    texts: list[tuple[str, ...]] = []
    rows: list[str] = []
    for exec_id, w in found:
        what = _about(w)
        texts.append((line(exec_id), line(w.name, 60), what, line(w.shape, 60)))
        cells = (display._varies(exec_id), html.escape(line(w.name, 60)), html.escape(what), display._h(w.shape))
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    text = display._table(heads, texts)
    if more:
        rows.append('<tr><td colspan="4">… more</td></tr>')
    return Face(display._page("", display.tabled(heads, rows)), f"{text}\n… more" if more else text)


def _about(w: PendingWait) -> str:
    if w.about == "sleep":
        return f"sleeps until {moment(w.due or 0.0)}"
    return "another execution ends" if w.about == "child" else line(w.question, 80)
