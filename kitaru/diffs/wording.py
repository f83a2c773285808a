"""A change in words: one line, or for a text the lines that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..previews import preview
from .changes import NOTHING, Change
from .show import Line, Span
from .texts import Piece, shown_lines

__all__ = ["change_lines", "counted", "from_to", "word_lines"]

_LINE = 72  # characters of a value's glimpse
_PATH = 200  # of a path


def counted(n: int, noun: str) -> str:
    """
    >>> counted(1, "cell"), counted(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _glimpse(value: Any, most: int = _LINE) -> str:
    text = str(preview(value).get("text", ""))
    return text if len(text) <= most else text[: most - 1] + "…"


_WORDS = {"-": "old", "+": "new", "=": ""}
_KIND_SIGNS = {"added": "+", "removed": "-"}


def change_lines(c: Change, most_lines: int) -> Iterator[Line]:
    """A change, with at most so many lines of a text."""
    sign = _KIND_SIGNS.get(c.kind, "~")
    mark = {"+": "add", "-": "del"}.get(sign, "chg")
    role = (Span(f" ({c.role})", "dim"),) if c.role else ()
    head: Line = (
        Span(f"{sign} ", "chg" if mark == "chg" else "bold"),
        Span(c.path if len(c.path) <= _PATH else f"{c.path[:_PATH]}…"),
        *role,
    )
    colon = Span(": " if c.path or role else "")
    match c.kind:
        case "added":
            yield (*head, colon, Span(_one_side(c.b, c), "add"))
        case "removed":
            yield (*head, colon, Span(_one_side(c.a, c), "del"))
        case "text":
            lines = word_lines(c.pieces, most_lines)
            if len(lines) == 1:
                yield (*head, colon, *lines[0])
                return
            if c.path or role:
                yield (*head, colon)
            yield from ((Span("    "), *line) for line in lines)
        case "type" | "shape" | "dtype" | "order":
            word = c.detail.get("of")
            what = f"{c.kind} of {word} " if word else f"{c.kind} "
            yield (*head, colon, Span(what, "dim"), *from_to(_words(c.a), _words(c.b)))
        case "items" | "rows":
            yield (*head, colon, Span(_summary(c)))
        case "bytes":
            at, sizes = c.detail["first"], c.detail["sizes"]
            size = f"{sizes[0]:,} bytes" if sizes[0] == sizes[1] else f"{sizes[0]:,} -> {sizes[1]:,} bytes"
            yield (*head, colon, Span(f"{size}, from byte {at:,} on: "), *from_to(_glimpse(c.a), _glimpse(c.b)))
        case "unseen":
            yield (*head, colon, Span("equal in all that was compared, yet recorded in different bytes"))
        case _:
            a, b = _glimpse(c.a), _glimpse(c.b)
            if a == b:  # what differs comes later than a glimpse sees, or is the type
                a, b = f"{preview(c.a)['type']} {a}", f"{preview(c.b)['type']} {b}"
            yield (*head, colon, *from_to(a, b))


def _one_side(value: Any, c: Change) -> str:
    return f"column of {c.detail['column']}" if value is NOTHING else _glimpse(value)


def _words(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(x if isinstance(x, str) else _glimpse(x, 30) for x in value[:8])
        return f"({shown}{', …' if len(value) > 8 else ''})"
    return str(value)


def from_to(a: str, b: str) -> Line:
    """From what to what."""
    return (Span(a, "chg"), Span(" -> "), Span(b, "chg"))


def _summary(c: Change) -> str:
    d = c.detail
    if c.kind == "items":
        text = f"{d['different']:,} of {counted(d['of'], 'item')} differ"
        if "largest" in d:
            text += f", by up to {_number(d['largest'])}"
            if d["largest_relative"]:  # zero where all that differs was zero
                text += f" ({_share(d['largest_relative'])} of the value)"
        return text
    parts = []
    if d["rows"][0] != d["rows"][1]:
        parts.append(f"{d['rows'][0]:,} -> {d['rows'][1]:,} rows")
    parts += [f"{d[word]:,} {word}" for word in ("removed", "added") if d[word]]
    if d["cells"]:
        columns = ", ".join(f"{name} {n:,}" for name, n in [*d["columns"].items()][:6])
        more = len(d["columns"]) - 6
        parts.append(f"{counted(d['cells'], 'cell')} changed: {columns}{f', … {more} more' if more > 0 else ''}")
    if repeated := d.get("repeated"):
        parts.append(f"{counted(repeated, 'key')} {'names' if repeated == 1 else 'name'} several rows, paired in order")
    return "; ".join(parts)


def _share(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:.3g}" if x > 10 else f"{x:.1%}"


def _number(x: float | str) -> str:
    return x if isinstance(x, str) else f"{x:.3g}"


def word_lines(pieces: Sequence[Piece], most: int) -> list[Line]:
    """The lines of a text that changed, and how many more there are."""
    lines, rest = shown_lines(pieces, most)
    shown: list[Line] = [tuple(Span(p.text, _WORDS[p.sign]) for p in line) for line in lines]
    return [*shown, (Span(f"… {counted(rest, 'more line')}", "dim"),)] if rest else shown
