"""How executions, checkpoints and values look: as HTML, and as text that is the same in every run.

All of it is made from records and previews. Whatever was recorded is hostile: it is cut, what does not print as
itself (control characters, the marks that turn the direction of text) is written as an escape, and the rest is
escaped for HTML. The HTML holds no script, and nothing from elsewhere; it takes its colours from JupyterLab's
theme, and does without.

The text holds no exec_id, no time and no address, so that a test can compare it. The HTML has those in elements
of the class ``kitaru-varies``, which ``notebooks/sanitize.cfg`` masks.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pprint import pformat
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru.client import Artifact, Checkpoint, Execution
from kitaru.errors import KitaruError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Face", "artifact", "checkpoint", "execution", "full", "place", "register", "unregister", "value"]

_ROWS = 200  # checkpoints in a table
_LINE, _BLOCK = 100, 10_000  # characters of a glimpse; of a traceback, a source text, a value
_LARGE = 1_000_000  # bytes of a value that is not shown in full
_NAMES = 8  # names of variables in a cell of a table


class Face(NamedTuple):
    """One thing, as a browser and as a terminal show it."""

    html: str
    text: str


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


def _glimpse(a: Artifact, most: int = _LINE) -> str:
    """A value in one line, by its preview."""
    p = a.preview
    length = p.get("len")
    kind = f"{p.get('type', '?')}({length})" if type(length) is int and length.bit_length() < 64 else p.get("type", "?")
    note = " (not restorable)" if a.kind == "reference" else ""
    return line(f"{kind}{note} {p.get('text', '')}", most)


def _took(c: Checkpoint) -> str:
    seconds = c.data.took
    if c.data.ended is None or not isinstance(seconds, float | int):
        return ""
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"


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


def _pill(status: str) -> str:
    kind = status if status in _STATUSES else "pending"
    return f'<span class="kitaru-status kitaru-{kind}">{_SIGNS.get(kind, "·")} {_h(status)}</span>'


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


# ---------------------------------------------------------------- the things themselves


def execution(e: Execution) -> Face:
    """An execution: its head, and a table of its checkpoints."""
    checkpoints = e.checkpoints
    shown, more = checkpoints[:_ROWS], len(checkpoints) - _ROWS
    status = e.status.value
    counts = Counter(c.status for c in checkpoints)
    parts = [f"{n} {s}" for s, n in sorted(counts.items())]
    count = f"{len(checkpoints)} checkpoint{'' if len(checkpoints) == 1 else 's'}"
    count += f" ({', '.join(parts)})" if len(counts) > 1 else ""

    rows = []
    for c in shown:
        depth = c.label.count("/")
        name = f'<span class="kitaru-inner">{"└&nbsp;" if depth else ""}</span>{_h(c.label.rpartition("/")[2])}'
        read = _folded(html.escape(_some([*c.inputs])), _values(c.inputs)) if c.inputs else ""
        outputs = _outputs(c)
        bound = _failure(c) or (_folded(html.escape(_some([*outputs])), _values(outputs)) if outputs else "")
        rows.append(
            f'<tr><td class="kitaru-number">{c.data.index}</td>'
            f'<td title="{_h(c.label, 300)}">{"&emsp;" * min(depth, 8)}{name}</td><td>{_pill(c.status)}</td>'
            f'<td class="kitaru-number">{_varies(_took(c))}</td><td>{read}</td><td>{bound}</td></tr>'
        )
    if more > 0:
        rows.append(f'<tr><td></td><td colspan="5">… {more:,} more</td></tr>')
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("", "checkpoint", "status", "took", "read", "bound"))
    table = f'<table class="kitaru-table"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    head = f"<b>{_h(e.flow)}</b> {_pill(status)} {_varies(e.exec_id)} <span>{count}</span>"
    failure = "" if e.failed_at else _failure(e)
    page = _page(head, (table if rows else "") + failure)

    lines = [(f"{c.data.index}", line(c.label, 60), c.status, _some([*c.inputs]), _result_text(c)) for c in shown]
    text = f"{line(e.flow)}: {status}, {count}"
    if lines:
        text += "\n\n" + _table(("", "checkpoint", "status", "read", "bound"), lines)
    if more > 0:
        text += f"\n… {more:,} more"
    if e.failure is not None and not e.failed_at:
        text += f"\n\n{line(e.failure.summary(), 200)}"
    return Face(page, text)


def _result_text(c: Checkpoint) -> str:
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
    if c.metadata:
        facts = {line(k, 40): line(v) for k, v in c.metadata.items()}
        parts.append("<h4>logged</h4>" + _facts(facts))
        lines += [f"  logged  {k} = {v}" for k, v in facts.items()]
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


def artifact(a: Artifact) -> Face:
    """A value, by its preview."""
    head = f"<b>{_h(a.name, 200)}</b> <span>{_h(a.kind)}, {_size(a.size)}</span>"
    glimpse = _glimpse(a, 400)
    return Face(_page(head, f"<pre>{_h(glimpse, 400)}</pre>"), f"{line(a.name, 200)}: {glimpse}")


def value(a: Artifact) -> Face:
    """A value in full, or as much of it as is fit to be looked at. No code of its own is run."""
    shown, note = "", ""
    if a.size > _LARGE:
        note = f"{_size(a.size)}: load it to see all of it"
    else:
        try:
            plain = a.to_json()
            shown = (
                plain
                if isinstance(plain, str)
                else pformat(plain, width=100, sort_dicts=False, underscore_numbers=False)
            )
        except (
            KitaruError,
            RecursionError,
        ) as e:  # its bytes are gone, or are not what was recorded; or it is too deep
            note = line(e, 500)
    if note:
        face = artifact(a)
        return Face(face.html + f'<p class="kitaru-error">{_h(note, 500)}</p>', f"{face.text}\n{note}")
    head = f"<b>{_h(a.name, 200)}</b> <span>{_h(a.preview.get('type', '?'))}, {_h(a.kind)}, {_size(a.size)}</span>"
    return Face(_page(head, f"<pre>{_hb(shown)}</pre>"), f"{line(a.name, 200)}\n{block(shown)}")


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

# "@" is the class twice, for JupyterLab has rules of its own for tables and code, which are as specific as one.
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
@ table.kitaru-values th{font-weight:600;white-space:nowrap}
@ .kitaru-value,@ pre{
font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,12px);
color:inherit;background:transparent;padding:0;border:0;white-space:pre-wrap;overflow-wrap:anywhere}
@ pre{margin:.35em 0;padding:.5em .75em;border-radius:3px;white-space:pre-wrap;max-height:32em;overflow:auto;
background:var(--jp-layout-color2,rgba(128,128,128,.12))}
@ h4{margin:.75em 0 .15em;font-size:1em;font-weight:600;color:var(--jp-content-font-color2,inherit)}
@ summary{cursor:pointer}
@ td details[open]{min-width:18em}
@ .kitaru-status{white-space:nowrap;font-weight:600;color:var(--jp-content-font-color2,inherit)}
@ .kitaru-completed{color:var(--jp-success-color0,#2e7d32)}
@ .kitaru-failed,@ .kitaru-cancelled,
@ .kitaru-error{color:var(--jp-error-color1,#d32f2f)}
@ .kitaru-interrupted,@ .kitaru-waiting{color:var(--jp-warn-color0,#b26a00)}
@ .kitaru-running,@ .kitaru-paused{color:var(--jp-info-color0,#1976d2)}
</style>""".replace("@", ".kitaru.kitaru")


def _page(head: str, body: str) -> str:
    top = f'<div class="kitaru-head">{head}</div>' if head else ""
    return f'{_STYLE}<div class="kitaru">{top}{body}</div>'


# ---------------------------------------------------------------- as IPython's formatters

_FACES: dict[type, Any] = {Execution: execution, Checkpoint: checkpoint, Artifact: artifact}


def register(shell: InteractiveShell) -> None:
    """From now on this shell shows executions, checkpoints and values by their faces."""
    formatters = shell.display_formatter.formatters  # type: ignore[union-attr]
    for kind, face in _FACES.items():
        formatters["text/html"].for_type(kind, lambda thing, face=face: face(thing).html)
        formatters["text/plain"].for_type(
            kind, lambda thing, printer, _cycle, face=face: printer.text(face(thing).text)
        )


def unregister(shell: InteractiveShell) -> None:
    """Show them as Python does."""
    formatters = shell.display_formatter.formatters  # type: ignore[union-attr]
    for kind in _FACES:
        formatters["text/html"].pop(kind, None)
        formatters["text/plain"].pop(kind, None)
