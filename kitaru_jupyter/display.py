"""How executions, checkpoints and values look: as HTML, and as text that is the same in every run.

All of it is made from records and previews; of a model call also its chat is read, and shown as a transcript.
Whatever was recorded is hostile: it is cut, what does not print as
itself (control characters, the marks that turn the direction of text) is written as an escape, and the rest is
escaped for HTML. The HTML holds no script, and nothing from elsewhere; it takes its colours from JupyterLab's
theme, and does without.

The text of executions, checkpoints and values holds no exec_id, no time and no address, so that a test can compare it.
The HTML has those in elements of the class ``kitaru-varies``, which ``notebooks/sanitize.cfg`` masks; so it does those
in the text of `place`, which is about nothing else.
"""

from __future__ import annotations

import datetime as dt
import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pprint import pformat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru.client import Artifact, Checkpoint, Execution, Table
from kitaru.errors import KitaruError
from kitaru.sessions import verdicts

from .capture.documents import is_document
from .capture.readable import described, sharing
from .transcripts import said

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "Face",
    "artifact",
    "block",
    "branch",
    "checkpoint",
    "execution",
    "full",
    "glimpse",
    "heading",
    "kind_of",
    "line",
    "moment",
    "place",
    "publish",
    "register",
    "signed",
    "standing",
    "steps",
    "tabled",
    "unregister",
    "value",
    "values",
]

_ROWS = 200  # checkpoints in a table
_LINE, _BLOCK = 100, 10_000  # characters of a glimpse; of a traceback, a source text, a value
_LARGE = 1_000_000  # bytes of a value that is not shown in full
_NAMES = 8  # names of variables in a cell of a table


class Face(NamedTuple):
    """One thing, as a browser and as a terminal show it."""

    html: str
    text: str


def publish(face: Face) -> None:
    """Show it under the cell."""
    from IPython.core.display_functions import display

    display({"text/html": face.html, "text/plain": face.text}, raw=True)


# ---------------------------------------------------------------- text that may come from anywhere


def line(text: object, most: int = _LINE) -> str:
    r"""One line of at most `most` characters, of which each prints as itself.

    >>> line("a\x1b[31m\nb\u202e")
    'a\\x1b[31m\\nb\\u202e'
    """
    raw = f"{text}"
    shown = "".join(c if c.isprintable() else _escape(c) for c in raw[:most])
    return shown if len(shown) <= most and len(raw) <= most else shown[: most - 1] + "…"


def block(text: str, most: int = _BLOCK) -> str:
    """Several lines; of a text that is too long the beginning, and how much there is more."""
    shown = "\n".join(line(part, most) for part in text[:most].expandtabs(4).split("\n"))
    return shown if len(text) <= most else f"{shown}\n… {len(text) - most:,} more characters"


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _h(text: object, most: int = _LINE) -> str:
    return html.escape(line(text, most))


def _hb(text: str) -> str:
    return html.escape(block(text))


# ---------------------------------------------------------------- small pieces


def glimpse(p: Mapping[str, Any], most: int = _LINE, *, note: str = "") -> str:
    """A value in one line, by its preview."""
    length = p.get("len")
    kind = f"{p.get('type', '?')}({length})" if type(length) is int and length.bit_length() < 64 else p.get("type", "?")
    return line(f"{kind}{note} {p.get('text', '')}", most)


def _glimpse(a: Artifact, most: int = _LINE) -> str:
    return glimpse(a.preview, most, note=" (not restorable)" if a.kind == "reference" else "")


def _took(c: Checkpoint) -> str:
    seconds = c.data.took
    if c.data.ended is None or not isinstance(seconds, float | int):
        return ""
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"


def moment(at: float) -> str:
    """A moment, in this machine's time zone."""
    try:
        return f"{dt.datetime.fromtimestamp(at, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (OverflowError, ValueError, OSError):  # whatever was recorded
        return "?"


def _closing(c: Checkpoint) -> str:
    """Who closed the wait of a step, how and when; empty where nobody has. `notebooks/sanitize.cfg` masks it."""
    if c.data.opened is None:
        return ""
    answer = c.data.answer or c.execution.closings.get(c.data.opened.wait)
    if answer is None:
        return ""
    who = f" by {line(answer.who)}" if answer.who and answer.how != "expired" else ""
    when = f" at {moment(answer.at)}" if answer.at else ""
    return f"{line(answer.how)}{who}{when}{f': {line(answer.reason, 200)}' if answer.reason else ''}"


def _waits_for(opened: Any) -> str:
    """What a step waits for, in a few words."""
    if opened.about == "sleep":
        return "until a moment that comes by itself"
    if opened.about == "child":
        return "for another execution"
    return f'for "{line(opened.question)}"' if opened.question else "for an answer"


def _size(size: int) -> str:
    return (
        f"{size:,} bytes"
        if size < 10_000
        else f"{size / 1000:,.0f} kB"
        if size < 10_000_000
        else f"{size / 1e6:,.0f} MB"
    )


def _varies(text: str) -> str:
    return f'<span class="kitaru-varies">{_h(text, 300)}</span>'


_STATUSES = {"cancelled", "completed", "failed", "interrupted", "paused", "pending", "running", "waiting"}
_SIGNS = {"completed": "✓", "failed": "✗", "cancelled": "✗", "interrupted": "!", "running": "●"}


def signed(status: str) -> str:
    """A status with its sign, so that it is not told by its colour alone."""
    return f"{_SIGNS.get(status, '·')} {line(status)}"


def kind_of(status: str) -> str:
    """The part of a class's name that stands for a status; one that nobody knows looks as a pending one does."""
    return status if status in _STATUSES else "pending"


def _pill(status: str) -> str:
    return f'<span class="kitaru-status kitaru-{kind_of(status)}">{html.escape(signed(status))}</span>'


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(line(n, 40) for n in names[:_NAMES]) + (f", … {more} more" if more > 0 else "")


def _short_names(artifacts: Iterable[Artifact]) -> list[str]:
    return [a.name.rpartition(".")[2] for a in artifacts]


def _folded(summary: str, inside: str) -> str:
    """`summary` and `inside` are HTML already."""
    return f"<details><summary>{summary}</summary>{inside}</details>"


def _values(values: Mapping[str, Artifact]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_h(name, 60)}</th>'
        f'<td><span class="kitaru-value">{_h(_glimpse(a, 200), 200)}</span></td></tr>'
        for name, a in values.items()
    )
    return f'<table class="kitaru-values"><tbody>{rows}</tbody></table>' if rows else ""


def _outputs(c: Checkpoint) -> dict[str, Artifact]:
    return dict(zip((name for name, _ in c.data.outputs), c.artifacts, strict=True))


def _failure(c: Checkpoint | Execution, *, opened: bool = False) -> str:
    f = c.failure
    if f is None:
        return ""
    summary = f'<span class="kitaru-error">{_h(f.summary(), 200)}</span>'
    # A traceback names files, and those of cells are called anew in every kernel.
    text = f'<pre class="kitaru-varies">{_hb(f.traceback or f.message)}</pre>'
    return _folded(summary, text).replace("<details>", "<details open>" if opened else "<details>", 1)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as text, each column as wide as it must be, the last one free."""
    lines = [tuple(heads), *(tuple(r) for r in rows)]
    widths = [max(len(r[i]) for r in lines) for i in range(len(heads) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(r, widths, strict=False)), r[-1]]).rstrip() for r in lines
    )


def _counted(statuses: Sequence[str]) -> str:
    counts = Counter(statuses)
    parts = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
    count = f"{len(statuses)} checkpoint{'' if len(statuses) == 1 else 's'}"
    return f"{count} ({parts})" if len(counts) > 1 else count


# ---------------------------------------------------------------- the things themselves


def execution(e: Execution) -> Face:
    """An execution: its head, and a table of its checkpoints."""
    checkpoints = e.checkpoints
    status = e.status.value
    count = _counted([c.status for c in checkpoints])
    failure = "" if e.failed_at else _failure(e)
    table = steps(checkpoints)
    page = _page(heading(e.flow, status, e.exec_id, count), table.html + failure)
    text = f"{line(e.flow)}: {status}, {count}" + (f"\n\n{table.text}" if table.text else "")
    if e.failure is not None and not e.failed_at:
        text += f"\n\n{line(e.failure.summary(), 200)}"
    return Face(page, text)


def steps(checkpoints: Sequence[Checkpoint]) -> Face:
    """A table of checkpoints, without the page around it; empty where there are none."""
    if not checkpoints:
        return Face("", "")
    shown, more = checkpoints[:_ROWS], len(checkpoints) - _ROWS
    rows = []
    for c in shown:
        depth = c.label.count("/")
        name = f'<span class="kitaru-inner">{"└&nbsp;" if depth else ""}</span>{_h(c.label.rpartition("/")[2])}'
        read = _folded(html.escape(_some([*c.inputs])), _values(c.inputs)) if c.inputs else ""
        outputs = _outputs(c)
        bound = _failure(c) or (_folded(html.escape(_some([*outputs])), _values(outputs)) if outputs else "")
        bound = bound or html.escape(_result_text(c))
        rows.append(
            f'<tr><td class="kitaru-number">{c.data.index}</td>'
            f'<td class="kitaru-name" title="{_h(c.label, 300)}">{"&emsp;" * min(depth, 8)}{name}</td>'
            f"<td>{_pill(c.status)}</td>"
            f'<td class="kitaru-number">{_varies(_took(c))}</td><td>{read}</td><td>{bound}</td></tr>'
        )
    if more > 0:
        rows.append(f'<tr><td></td><td colspan="5">… {more:,} more</td></tr>')
    lines = [(f"{c.data.index}", line(c.label, 60), c.status, _some([*c.inputs]), _result_text(c)) for c in shown]
    text = _table(("", "checkpoint", "status", "read", "bound"), lines)
    return Face(
        tabled(("", "checkpoint", "status", "took", "read", "bound"), rows),
        text + (f"\n… {more:,} more" if more > 0 else ""),
    )


def tabled(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table of rows that are HTML already."""
    names = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<table class="kitaru-table"><thead><tr>{names}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def branch(e: Execution, forks: Mapping[str, Sequence[Execution]] = MappingProxyType({})) -> Face:
    """The steps that a notebook's variables came from, over forks: in order, with those that are stale.

    `forks` are other ways that were gone, by the path of the step that they begin behind ("" before the first).
    """
    whole = e.branch()
    steps = whole.steps
    stale = {v.step.label: v.why for v in verdicts(whole) if v.is_stale and v.step.data.status == "completed"}
    rows: list[str] = []
    lines: list[tuple[str, ...]] = []
    for n, step in enumerate(steps, 1):
        data = step.data
        status = "edited" if step.edited else data.status
        mark = f"stale: {stale[step.label]}" if step.label in stale else ""
        bound = data.failure.summary() if data.failure is not None else _some([name for name, _ in step.outputs])
        read = _some([name for name, _ in data.arguments])
        lines.append((f"{n}", line(step.label, 60), status, read, line(bound), line(mark)))
        rows.append(
            f'<tr><td class="kitaru-number">{n}</td><td class="kitaru-name">{_h(step.label, 300)}</td>'
            f"<td>{_pill(data.status)}{' edited' if step.edited else ''}</td>"
            f"<td>{_h(read)}</td><td>{_h(bound)}</td><td>{_h(mark, 200)}</td></tr>"
        )
        for c in step.inner:
            depth = len(c.path) - 1
            bound = c.failure.summary() if c.failure is not None else _some([name for name, _ in c.outputs])
            read = _some([name for name, _ in c.arguments])
            lines.append(("", f"{'  ' * depth}{line(str(c.path[-1]), 60)}", c.status, read, line(bound), ""))
            rows.append(
                f'<tr><td></td><td class="kitaru-name" title="{_h(c.label, 300)}">{"&emsp;" * min(depth, 8)}'
                f'<span class="kitaru-inner">└&nbsp;</span>{_h(c.path[-1])}</td><td>{_pill(c.status)}</td>'
                f"<td>{_h(read)}</td><td>{_h(bound)}</td><td></td></tr>"
            )
        for other in forks.get(step.label, ()):
            own = len(other.checkpoints)
            way = f"{own} step{'' if own == 1 else 's'}"
            lines.append(("", "  another way from here", "", "", way, ""))
            rows.append(
                f'<tr><td></td><td class="kitaru-name">└&nbsp;{_varies(other.exec_id)}</td>'
                f'<td>{_pill(other.status.value)}</td><td></td><td colspan="2">{way}</td></tr>'
            )
    heads: tuple[str, ...] = ("", "checkpoint", "status", "read", "bound", "stale")
    if not any(r[-1] for r in lines):
        heads, lines = heads[:-1], [r[:-1] for r in lines]
    head_row = "".join(f'<th scope="col">{head}</th>' for head in ("", "checkpoint", "status", "read", "bound", ""))
    table = f'<table class="kitaru-table"><thead><tr>{head_row}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    count = _counted([step.data.status for step in steps])
    if stale:
        count += f", {len(stale)} stale"
    origin = f"<span>a fork of</span> {_varies(e.forked_from)}" if e.forked_from else ""
    head = f"<b>{_h(e.flow)}</b> {_pill(e.status.value)} {_varies(e.exec_id)} <span>{count}</span> {origin}"
    text = f"{line(e.flow)}: {e.status.value}, {count}{', a fork' if e.forked_from else ''}"
    return Face(_page(head, table if rows else ""), f"{text}\n\n{_table(heads, lines)}" if lines else text)


def _result_text(c: Checkpoint) -> str:
    if c.status == "waiting" and c.data.opened is not None:
        return f"waits {_waits_for(c.data.opened)}"
    return line(c.failure.summary(), _LINE) if c.failure is not None else _some(_short_names(c.artifacts))


def checkpoint(c: Checkpoint, *, opened: bool = False) -> Face:
    """A checkpoint: what it read and bound, what it failed with, its code."""
    outputs = _outputs(c)
    parts, lines = [], []
    for title, values in (("read", c.inputs), ("bound", outputs)):
        if values:
            parts.append(f"<h4>{title}</h4>{_values(values)}")
            width = max(len(line(name, 40)) for name in values)
            lines += [f"  {title:<6}  {line(name, 40):<{width}}  {_glimpse(a)}" for name, a in values.items()]
    if c.data.opened is not None:
        closed = _closing(c)
        parts.append(f"<p>{_varies(closed) if closed else f'waits {html.escape(_waits_for(c.data.opened))}'}</p>")
        lines.append(f"  {closed}" if closed else f"  waits {_waits_for(c.data.opened)}")
    if (chat := said(c)) is not None:
        parts.append(f"<h4>transcript</h4>{chat.html}")
        lines += ["  transcript", *(f"    {text}".rstrip() for text in chat.text.split("\n"))]
    if c.metadata:
        facts = {line(k, 40): line(v) for k, v in c.metadata.items()}
        parts.append("<h4>logged</h4>" + _facts(facts))
        lines += [f"  logged  {k} = {v}" for k, v in facts.items()]
    if lost := c.notes.get("unrestorable"):
        facts = {line(k, 40): line(v) for k, v in lost.items()}
        parts.append("<h4>not restorable</h4>" + _facts(facts))
        lines += [f"  not restorable: {k}: {v}" for k, v in facts.items()]
    if c.failure is not None:
        parts.append("<h4>failed</h4>" + _failure(c, opened=opened))
        lines.append(f"  failed  {line(c.failure.summary(), 200)}")
    if c.source and c.source.strip():
        source = f"<pre>{_hb(c.source.strip(chr(10)))}</pre>"
        parts.append("<h4>code</h4>" + source if opened else _folded("code", source))
        if opened:
            lines += ["", *(f"  {part}".rstrip() for part in block(c.source.strip("\n"), 2000).split("\n"))]
    head = f"<b>{_h(c.label, 200)}</b> {_pill(c.status)} {_varies(_took(c))}"
    return Face(_page(head, "".join(parts)), "\n".join([f"{line(c.label, 200)}: {c.status}", *lines]))


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f'<tr><th scope="row">{_h(k)}</th><td>{_h(v)}</td></tr>' for k, v in facts.items())
    return f'<table class="kitaru-values"><tbody>{rows}</tbody></table>'


def values(of: Mapping[str, Artifact]) -> Face:
    """Values by their names."""
    width = max((len(line(name, 40)) for name in of), default=0)
    text = "\n".join(f"{line(name, 40):<{width}}  {_glimpse(a)}" for name, a in of.items())
    return Face(_page("", _values(of)), text or "nothing")


def standing(e: Execution) -> Face:
    """An execution that is stepped through: what is done, the step before which it stands, where it stops again."""
    done, following = execution(e), e.next_step
    page, text = done.html, done.text
    if following is not None:
        next_up = checkpoint(following)
        page, text = page + next_up.html, f"{text}\n\nnext  {next_up.text}"
    if e.breaks:
        breaks = ", ".join(line(b, 60) for b in e.breaks[:_NAMES])
        page, text = (
            page + _page(f"<span>stops before</span> {html.escape(breaks)}", ""),
            f"{text}\n\nstops before {breaks}",
        )
    return Face(page, text)


def artifact(a: Artifact) -> Face:
    """A value, by its preview: a frame's first rows, the first and the last of chat messages, or a line."""
    head = f"<b>{_h(_name(a), 200)}</b> <span>{_h(a.kind)}, {_size(a.size)}</span>"
    glimpse, name = _glimpse(a, 400), line(_name(a), 200)
    if (rows := a.table) is not None and rows.names:
        return Face(_page(head, f"<p>{_h(glimpse, 400)}</p>{_frame(rows)}"), f"{name}: {glimpse}\n{_frame_text(rows)}")
    if len(chat := a.messages) > 1:
        count = a.preview.get("len")
        left = count - len(chat) if type(count) is int else 0
        said = [*chat[:-1], ("…", f"{left:,} more"), chat[-1]] if left > 0 else chat
        cells = "".join(f'<tr><th scope="row">{_h(role, 40)}</th><td>{_h(text, 300)}</td></tr>' for role, text in said)
        text = "\n".join(f"  {line(role, 40)}: {line(text, 300)}" for role, text in said)
        return Face(
            _page(head, f'<table class="kitaru-values"><tbody>{cells}</tbody></table>'),
            f"{name}: {line(a.preview.get('type', '?'))}({count})\n{text}",
        )
    return Face(_page(head, f"<pre>{_h(glimpse, 400)}</pre>"), f"{name}: {glimpse}")


def _name(a: Artifact) -> str:
    return a.ref if (a.version or 1) > 1 else a.name


def _rows_of(rows: Table) -> Iterable[tuple[str, list[str]]]:
    """Each row with its label, which is its number where it has none."""
    return zip(rows.labels or map(str, range(len(rows.rows))), rows.rows, strict=True)


def _frame(rows: Table) -> str:
    """The first rows of a frame; each column's name with the type of its elements."""
    more = ["…"] if rows.more_columns else []
    heads = "".join(
        f'<th scope="col">{_h(name)}<br><span class="kitaru-dtype">{_h(dtype)}</span></th>'
        for name, dtype in [*zip(rows.names, rows.dtypes, strict=True), *((m, "") for m in more)]
    )
    body = "".join(
        f'<tr><th scope="row">{_h(label)}</th>{"".join(f"<td>{_h(cell)}</td>" for cell in [*row, *more])}</tr>'
        for label, row in _rows_of(rows)
    )
    rest = f"<p>… {rows.more_rows:,} more rows</p>" if rows.more_rows else ""
    return f'<table class="kitaru-table"><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table>{rest}'


def _frame_text(rows: Table) -> str:
    more = ["…"] if rows.more_columns else []
    cells = [[label, *row, *more] for label, row in _rows_of(rows)]
    rest = f"\n… {rows.more_rows:,} more rows" if rows.more_rows else ""
    return _table(["", *rows.names, *more], cells) + rest


def value(a: Artifact) -> Face:
    """A value in full, or as much of it as is fit to be looked at. No code of its own is run."""
    shown, note = _in_full(a)
    face = artifact(a)
    if shown:
        kind = f"{_h(a.preview.get('type', '?'))}, {_h(a.kind)}, {_size(a.size)}"
        page = _page(f"<b>{_h(_name(a), 200)}</b> <span>{kind}</span>", f"<pre>{_hb(shown)}</pre>")
        face = Face(page, f"{line(_name(a), 200)}\n{block(shown)}")
    if not note:
        return face
    return Face(f'{face.html}<p class="kitaru kitaru-note">{_h(note, 500)}</p>', f"{face.text}\n{note}")


def _has_own_format(a: Artifact) -> bool:
    """Whether it is an array, a frame or an image: its content is no text that a person would read."""
    return not {"dtype", "mode", "shape"}.isdisjoint(a.preview)


def _in_full(a: Artifact) -> tuple[str, str]:
    """The value as text, and what there is to be said about it. No text: its glimpse has to do."""
    if a.kind == "reference":  # there is no more, as its glimpse says
        return "", ""
    if _has_own_format(a):
        return "", "All of it: kitaru.load(REF), or %kitaru show REF -o FILE"
    if a.size > _LARGE:
        return "", f"{_size(a.size)}: load it to see all of it"
    try:
        plain = a.to_json()
        if is_document(plain):
            return _document(a)
        shown = plain if isinstance(plain, str) else pformat(plain, width=100, sort_dicts=False)
    except (KitaruError, RecursionError) as e:  # its bytes are gone, or are not what was recorded; or it is too deep
        return "", line(e, 500)
    if a.kind != "pickle":
        return shown or "''", ""
    whole = isinstance(plain, dict) and [*plain] == ["$pickle"]
    note = "What is pickled stands as its size: to load it runs code. The value itself: kitaru.load(REF)"
    return "" if whole else shown, note


def _document(a: Artifact) -> tuple[str, str]:
    """A function, a class, or variables that share objects: what was recorded says how to make them again."""
    document = a.load()
    name = a.name.rpartition(".")[2]
    if name not in document["variables"]:
        name = next(iter(document["variables"]), "")
    together = sharing(document, name)
    return described(document, name), f"It shares objects with {_some(together)}" if together else ""


def full(thing: Execution | Checkpoint | Artifact) -> Face:
    """What `%kitaru show` shows."""
    if isinstance(thing, Execution):
        return execution(thing)
    return checkpoint(thing, opened=True) if isinstance(thing, Checkpoint) else value(thing)


def place(store: str, e: Execution | None) -> Face:
    """Where a notebook is."""
    last = e.checkpoints[-1] if e is not None and e.checkpoints else None
    where = line(store, 300)
    facts = [("store", where), ("execution", "none yet: it begins with the first %%kitaru_step cell")]
    shown = [("store", _varies(store)), ("execution", html.escape(facts[1][1]))]
    if e is not None:
        facts[1] = ("execution", f"{line(e.exec_id)} ({e.status.value})")
        shown[1] = ("execution", f"{_varies(e.exec_id)} {_pill(e.status.value)}")
    if last is not None:
        facts.append(("last", f"{line(last.label)} ({last.status})"))
        shown.append(("last", f"{_h(last.label)} {_pill(last.status)}"))
    rows = "".join(f'<tr><th scope="row">{k}</th><td>{v}</td></tr>' for k, v in shown)
    page = _page("", f'<table class="kitaru-values"><tbody>{rows}</tbody></table>')
    return Face(page, "\n".join(f"{k:<9}  {v}" for k, v in facts))


# ---------------------------------------------------------------- the page around it

# "@" is the class twice, for JupyterLab has rules of its own for tables and code, which are as specific as one. Its
# orange is too pale to be read on white, and is mixed with the colour of text.
_STYLE = """<style>
@{font-size:var(--jp-ui-font-size1,13px);line-height:1.5;color:var(--jp-content-font-color1,inherit)}
@ .kitaru-head{display:flex;flex-wrap:wrap;gap:.75em;align-items:baseline;margin:.25em 0 .5em}
@ .kitaru-head b{font-size:1.1em}
@ .kitaru-head span:not(.kitaru-status),
@ td span.kitaru-varies{color:var(--jp-content-font-color2,inherit)}
@ table{border-collapse:collapse;margin:0;table-layout:auto;border:0;font-size:inherit}
@ table th,
@ table td{text-align:left;vertical-align:top;padding:.25em .9em .25em 0;max-width:none;
white-space:normal;border:0;background:transparent}
@ table tr,@ table tbody tr:nth-child(odd){background:transparent}
@ table.kitaru-table>thead th{font-weight:600;color:var(--jp-content-font-color2,inherit);
border-bottom:1px solid var(--jp-border-color1,rgba(128,128,128,.5))}
@ table.kitaru-table>tbody>tr>td{border-bottom:1px solid var(--jp-border-color2,rgba(128,128,128,.25))}
@ table.kitaru-table>tbody>tr:hover{background:var(--jp-rendermime-table-row-hover-background,transparent)}
@ table td.kitaru-number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
@ table td.kitaru-name{white-space:nowrap}
@ table.kitaru-values th{font-weight:600;white-space:nowrap}
@ .kitaru-value,@ pre{
font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,12px);
color:inherit;background:transparent;padding:0;border:0;white-space:pre-wrap;overflow-wrap:anywhere}
@ pre{margin:.35em 0;padding:.5em .75em;border-radius:3px;white-space:pre-wrap;max-height:32em;overflow:auto;
background:var(--jp-layout-color2,rgba(128,128,128,.12))}
@ table .kitaru-dtype{font-weight:400;color:var(--jp-content-font-color2,inherit)}
@ h4{margin:.75em 0 .15em;font-size:1em;font-weight:600;color:var(--jp-content-font-color2,inherit)}
@ summary{cursor:pointer}
@ td details[open]{min-width:18em}
@ .kitaru-status{white-space:nowrap;font-weight:600;color:var(--jp-content-font-color2,inherit)}
@ .kitaru-completed{color:var(--jp-success-color0,#2e7d32)}
@ .kitaru-failed,@ .kitaru-cancelled,
@ .kitaru-error{color:var(--jp-error-color1,#d32f2f)}
.kitaru.kitaru-note{font-size:var(--jp-ui-font-size1,13px);color:var(--jp-content-font-color2,inherit);margin:.25em 0}
@ .kitaru-interrupted,@ .kitaru-waiting{color:var(--jp-warn-color0,#b26a00);
color:color-mix(in srgb,var(--jp-warn-color0,#b26a00) 75%,var(--jp-content-font-color1,CanvasText))}
@ .kitaru-running,@ .kitaru-paused{color:var(--jp-info-color0,#1976d2)}
@ .kitaru-turn{margin:.35em 0;padding-left:.6em;border-left:3px solid var(--jp-border-color1,rgba(128,128,128,.5))}
@ .kitaru-turn>b{font-weight:600;color:var(--jp-content-font-color2,inherit)}
@ .kitaru-turn>pre{margin:.1em 0;padding:0;background:transparent}
@ .kitaru-by-user{border-left-color:var(--jp-brand-color1,#1976d2)}
@ .kitaru-by-assistant{border-left-color:var(--jp-success-color1,#2e7d32)}
@ .kitaru-by-tool{border-left-color:var(--jp-warn-color1,#b26a00)}
@ .kitaru-by-thinking>pre{font-style:italic;color:var(--jp-content-font-color2,inherit)}
@ .kitaru-drawn{overflow:auto}
@ .kitaru-drawn img{max-width:none}
@ .kitaru-drawn+p{color:var(--jp-content-font-color2,inherit)}
body[data-jp-theme-light=true] .kitaru-drawn img{color-scheme:light}
body[data-jp-theme-light=false] .kitaru-drawn img,.vscode-dark .kitaru-drawn img{color-scheme:dark}
</style>""".replace("@", ".kitaru.kitaru")


def heading(name: str, status: str, exec_id: str, about: str) -> str:
    """What stands above an execution: HTML, of texts that are none."""
    said = [f"<b>{_h(name)}</b>", _pill(status) if status else "", _varies(exec_id) if exec_id else ""]
    return " ".join([*filter(None, said), f"<span>{_h(about)}</span>"])


def _page(head: str, body: str) -> str:
    """HTML with the style around it; both are HTML already."""
    top = f'<div class="kitaru-head">{head}</div>' if head else ""
    return f'{_STYLE}<div class="kitaru">{top}{body}</div>'


# ---------------------------------------------------------------- as IPython's formatters


def register(shell: InteractiveShell) -> None:
    """From now on this shell shows executions, checkpoints and values by their faces."""
    from .formatters import add  # which stands on this room

    add(shell)


def unregister(shell: InteractiveShell) -> None:
    """Show them as Python does."""
    from .formatters import remove

    remove(shell)
