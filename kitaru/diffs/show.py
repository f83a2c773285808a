"""Faces of a comparison: as plain text, in colour, and as HTML, all from one page of lines and tables.

Whatever stands on a page may be hostile: what does not print as itself is written as an escape, in each face, and
escaped for HTML, which holds no script and nothing from elsewhere. Spans that *vary* from run to run (exec_ids, times)
are left out of the plain text unless asked for, so that a test can compare it; in HTML they have the class
``kitaru-varies``.
"""

from __future__ import annotations

import html as _html
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..previews import printable

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Column", "Line", "Page", "Row", "Span", "Table", "as_html", "as_rich", "as_text", "cells"]


class Span(NamedTuple):
    """A stretch of a line. `mark` is "", ``add``, ``del``, ``chg``, ``dim``, ``bold``; ``new`` and ``old`` are words of
    a text, told apart from the others without colour too.
    """

    text: str
    mark: str = ""
    varies: bool = False


Line = tuple[Span, ...]


class Column(NamedTuple):
    """A column of a table; its name is printed above it."""

    name: str = ""
    right: bool = False
    varies: bool = False


@dataclass(slots=True)
class Row:
    """A row of a table, and what lies below it. One that *varies* has nothing but what varies."""

    cells: Sequence[Line]
    inside: list[Line] = field(default_factory=list)
    varies: bool = False


@dataclass(slots=True)
class Table:
    """Rows under heads."""

    columns: Sequence[Column]
    rows: list[Row]


Page = list[Line | Table]

_STYLES = {"add": "green", "new": "green", "del": "red", "old": "red", "chg": "yellow", "dim": "dim", "bold": "bold"}
_SIGNS = {"new": ("{+", "+}"), "old": ("[-", "-]")}  # as `git diff --word-diff` writes them


def as_text(page: Page, *, varies: bool = False) -> str:
    """The page as lines of plain text."""
    return "\n".join("".join(map(_plain, line)).rstrip() for line in _lines(page, varies=varies))


def as_rich(page: Page) -> Text:
    """The page as rich prints it, with what varies."""
    from rich.text import Text

    text = Text()
    for n, line in enumerate(_lines(page, varies=True)):
        text.append("\n" if n else "")
        for span in line:
            text.append(_plain(span), style=_STYLES.get(span.mark))
    return text


def _plain(span: Span) -> str:
    left, right = _SIGNS.get(span.mark, ("", ""))
    return f"{left}{printable(span.text)}{right}"


def _lines(page: Page, *, varies: bool) -> Iterator[Line]:
    for part in page:
        if isinstance(part, Table):
            yield from _laid_out(part, varies=varies)
        else:
            yield _kept(part, varies=varies)


def _kept(line: Line, *, varies: bool) -> Line:
    return line if varies else tuple(span for span in line if not span.varies)


def _laid_out(table: Table, *, varies: bool) -> Iterator[Line]:
    """Columns as wide as their widest cell; those that have nothing in them are left out."""
    below = [row for row in table.rows if varies or not row.varies]
    rows = [[_kept(cell, varies=varies) for cell in row.cells] for row in below]
    kept = [
        n
        for n, column in enumerate(table.columns)
        if (varies or not column.varies) and any(map(_width, (row[n] for row in rows)))
    ]
    heads: list[Line] = [(Span(column.name, "bold"),) if column.name else () for column in table.columns]
    widths = {n: max(map(_width, [heads[n], *(row[n] for row in rows)])) for n in kept}
    for cells, inside in [(heads, []), *zip(rows, (row.inside for row in below), strict=True)]:
        spans: list[Span] = []
        for n in kept:
            fill = Span(" " * (widths[n] - _width(cells[n])))
            spans += [fill, *cells[n]] if table.columns[n].right else [*cells[n], fill]
            spans.append(Span("  "))
        yield tuple(spans)
        for line in inside:
            yield (Span("       "), *_kept(line, varies=varies))


def _width(line: Line) -> int:
    return sum(cells(_plain(span)) for span in line)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


# ---------------------------------------------------------------- HTML

_TAGS = {"add": "ins", "new": "ins", "del": "del", "old": "del", "bold": "b"}

# "@" is the class twice: JupyterLab has rules of its own for tables, which are as specific as one class.
_STYLE = """<style>
@{font-size:var(--jp-ui-font-size1,13px);line-height:1.5;color:var(--jp-content-font-color1,inherit)}
@ p{margin:.1em 0;font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,12px);
white-space:pre-wrap;overflow-wrap:anywhere}
@ table{border-collapse:collapse;margin:.25em 0;border:0;font-size:inherit}
@ table th,@ table td{text-align:left;vertical-align:top;padding:.2em .9em .2em 0;max-width:none;border:0;
background:transparent}
@ table tr,@ table tbody tr:nth-child(odd){background:transparent}
@ table th{font-weight:600;color:var(--jp-content-font-color2,inherit);
border-bottom:1px solid var(--jp-border-color1,rgba(128,128,128,.5))}
@ table td{border-bottom:1px solid var(--jp-border-color2,rgba(128,128,128,.25))}
@ table td.kitaru-inside{padding-left:2.5em}
@ table .kitaru-number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
@ table .kitaru-step{white-space:pre}
@ ins{text-decoration:none;color:var(--jp-success-color0,#2e7d32);
color:color-mix(in srgb,var(--jp-success-color0,#2e7d32) 50%,var(--jp-content-font-color1,CanvasText));
background:rgba(46,160,67,.18);border-radius:2px}
@ del{color:var(--jp-error-color1,#d32f2f);
color:color-mix(in srgb,var(--jp-error-color1,#d32f2f) 60%,var(--jp-content-font-color1,CanvasText));
background:rgba(248,81,73,.16);border-radius:2px}
@ .kitaru-chg{color:var(--jp-warn-color0,#b26a00);
color:color-mix(in srgb,var(--jp-warn-color0,#b26a00) 60%,var(--jp-content-font-color1,CanvasText))}
@ .kitaru-dim{color:var(--jp-content-font-color2,inherit)}
</style>""".replace("@", ".kitaru.kitaru-diff").replace("\n", " ")


def as_html(page: Page) -> str:
    """The page as HTML that works in a light and in a dark theme, and without JupyterLab's colours."""
    parts = "".join(_html_table(part) if isinstance(part, Table) else f"<p>{_html_line(part)}</p>" for part in page)
    return f'{_STYLE}<div class="kitaru kitaru-diff">{parts}</div>'


def _html_line(line: Iterable[Span]) -> str:
    return "".join(map(_html_span, line))


def _html_span(span: Span) -> str:
    text = _html.escape(printable(span.text))
    tag = _TAGS.get(span.mark)
    if tag is not None:
        text = f"<{tag}>{text}</{tag}>"
    elif span.mark:
        text = f'<span class="kitaru-{span.mark}">{text}</span>'
    # What masks the spans that vary looks for one element without others in it.
    return f'<span class="kitaru-varies">{_html.escape(printable(span.text))}</span>' if span.varies else text


def _html_table(table: Table) -> str:
    kept = [n for n in range(len(table.columns)) if any(row.cells[n] for row in table.rows)]
    columns = [table.columns[n] for n in kept]
    heads = "".join(f'<th{_class(c)} scope="col">{_html.escape(c.name)}</th>' for c in columns)
    rows = []
    for row in table.rows:
        cells = "".join(f"<td{_class(table.columns[n])}>{_html_line(row.cells[n])}</td>" for n in kept)
        rows.append(f"<tr>{cells}</tr>")
        if row.inside:
            lines = "".join(f"<p>{_html_line(line)}</p>" for line in row.inside)
            rows.append(f'<tr><td class="kitaru-inside" colspan="{len(kept)}">{lines}</td></tr>')
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _class(column: Column) -> str:
    return ' class="kitaru-number"' if column.right else ' class="kitaru-step"' if column.name == "step" else ""
