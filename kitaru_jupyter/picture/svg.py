"""A sketch as SVG, the same bytes for the same sketch.

There are two dresses. As a picture of its own (``<img>``) it brings its colours, for a light and for a dark scheme, and
each box its own ground, for nobody says what a page looks like behind it. Inline, in a page of JupyterLab, it takes
them from the theme. There are no ids in it, so that several stand on one page, and no script.
"""

from __future__ import annotations

import html
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ..display import kind_of
from .layout import Placed, Point, Size
from .sketch import Edge, Node, Sketch

__all__ = ["draw", "sizes_of"]

_BOX, _PILL = 42.0, 24.0  # heights
_MARGIN = 16.0
_NAME, _ABOUT, _CODE, _SMALL = (
    7.9,
    6.6,
    6.1,
    5.8,
)  # widths of a letter of the widest usual font; what is wider is clipped
_MOST_BOX, _MOST_PILL = 236.0, 216.0
_ROLE = 76.0  # of a word on a line
_CHIP = 13.0  # height of a mark
_LINES = {  # what is most important last: it is drawn above the others
    "inside": "inside",
    "after": "only after",
    "part_of": "part of",
    "generated": "used or made",
    "used": "used or made",
    "edited_from": "edited from",
}
_SAID = {"part_of": "is part of", "edited_from": "was edited to", "after": "came before", "inside": "ran inside it:"}


def sizes_of(sketch: Sketch) -> tuple[list[Size], list[Size]]:
    """How much room each node takes, and how much is written on the lines that end there: beside it, and above it."""
    words: list[list[str]] = [[] for _ in sketch.nodes]
    for edge in sketch.edges:
        if word := _word(sketch.nodes, edge):
            words[edge.target].append(word)
    sizes, room = [], []
    for node, written in zip(sketch.nodes, words, strict=True):
        size = _size(node)
        sizes.append(Size(size.width, max(size.height, 13.0 * len(written) + 12)))
        wide = max((_wide(word, _SMALL) + 62 for word in written), default=0.0)
        room.append(Size(wide, 34 + 13.0 * len(written)))
    return sizes, room


def _size(node: Node) -> Size:
    if node.kind == "value":
        return Size(min(_wide(node.name, _NAME * 0.92) + _wide(f" {node.about}", _CODE) + 24, _MOST_PILL), _PILL)
    below = node.about + (f"  in {node.inner}" if node.inner else "")
    return Size(min(max(_wide(node.name, _NAME), _wide(below, _ABOUT), 72.0) + 30, _MOST_BOX), _BOX)


def _word(nodes: Sequence[Node], edge: Edge) -> str:
    """As what a step uses a value, where the value's own name does not say it."""
    if edge.relation == "edited_from":
        return "edited"
    if edge.relation != "used" or not edge.roles or nodes[edge.target].kind == "fold":
        return ""
    word = ", ".join(edge.roles[:2]) + (", …" if len(edge.roles) > 2 else "")
    return "" if nodes[edge.source].name == word else _cut(word, _ROLE, _SMALL)


def _wide(text: str, letter: float) -> float:
    """About how wide a text is: there is no browser here to ask."""
    return letter * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, width: float, letter: float) -> str:
    if _wide(text, letter) <= width:
        return text
    room = width - letter
    kept = []
    for c in text:
        room -= _wide(c, letter)
        if room < 0:
            break
        kept.append(c)
    return "".join(kept) + "…"


# ---------------------------------------------------------------- the whole


def draw(sketch: Sketch, placed: Placed, sizes: Sequence[Size], *, label: str, inline: bool) -> str:
    """The picture; `label` is what it is called for who does not see it."""
    known = {edge.relation for edge in sketch.edges}
    relations = list({word: r for r, word in _LINES.items() if r in known}.values())[::-1]
    legend = _legend(relations) if len(relations) > 1 else ""
    width = max(placed.size.width, 460.0 if legend else 0.0) + 2 * _MARGIN
    height = placed.size.height + 2 * _MARGIN + (26 if legend else 0)
    role = "group" if inline else "img"
    w, h = _n(width), _n(height)
    head = f'width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="{role}" aria-label="{_h(label)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="kitaru-picture" {head}>',
        f"<style>{_INLINE if inline else _ALONE}{_RULES}</style>",
        f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN)})">',
    ]
    shown = sorted(range(len(sketch.edges)), key=lambda i: [*_LINES].index(sketch.edges[i].relation))
    lines = [(sketch.edges[i], placed.ways[i]) for i in shown]
    parts += [_line(sketch.nodes, edge, way, across=placed.across) for edge, way in lines]
    parts += [
        _node(node, corner, size, inline=inline)
        for node, corner, size in zip(sketch.nodes, placed.corners, sizes, strict=True)
    ]
    met: Counter[int] = Counter()
    for edge, way in lines:
        if word := _word(sketch.nodes, edge):
            parts.append(_written(word, way[-1], met[edge.target], across=placed.across))
            met[edge.target] += 1
    parts.append("</g>")
    if legend:
        parts.append(f'<g transform="translate({_n(_MARGIN)} {_n(height - 18)})">{legend}</g>')
    parts.append("</svg>")
    return "".join(parts)


def _h(text: str) -> str:
    return html.escape(text)


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0").replace("-0", "0") if abs(x) < 0.05 else f"{x:.1f}".removesuffix(".0")


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" class="{kind}">{_h(text)}</text>' if text else ""


# ---------------------------------------------------------------- nodes


def _node(node: Node, at: Point, size: Size, *, inline: bool) -> str:
    status = f" k-{kind_of(node.status)}" if node.kind != "value" else ""
    marks = "".join(f" k-{word}" for word in ("stale", "edited", "changed") if any(word in m for m in node.marks))
    chosen = " k-chosen" if node.chosen else ""
    reach = ""
    if inline:
        current = ' aria-current="true"' if node.chosen else ""
        reach = f' role="button" tabindex="-1" aria-label="{_h(node.title)}"{current}'
    count = f' data-count="{node.count}"' if node.kind == "fold" else ""
    body = _pill(node, size) if node.kind == "value" else _box(node, size)
    ring = _rect(-4, -4, size.width + 8, size.height + 8, 16 if node.kind == "value" else 10, "k-ring")
    return (
        f'<g class="k-node k-{node.kind}{status}{marks}{chosen}" data-ref="{_h(node.ref)}"{count}{reach} '
        f'transform="translate({_n(at.x)} {_n(at.y)})"><title>{_h(node.title)}</title>'
        f"{ring if node.chosen else ''}{body}{_chips(node.marks, size.width)}</g>"
    )


def _rect(x: float, y: float, width: float, height: float, radius: float, kind: str) -> str:
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}" class="{kind}"/>'


def _clipped(size: Size, inside: str) -> str:
    """What does not fit is not shown: an estimate of widths may be wrong."""
    return f'<svg width="{_n(size.width - 6)}" height="{_n(size.height)}">{inside}</svg>'


def _box(node: Node, size: Size) -> str:
    w, h = size
    behind = ""
    if node.kind == "fold":
        behind = _rect(6, 6, w, h, 7, "k-shape") + _rect(3, 3, w, h, 7, "k-shape")
    middle = h / 2 - _BOX / 2
    name = _text(16, middle + 17.5, "k-name", _cut(node.name, w - 26, _NAME))
    inner = f"in {node.inner}" if node.inner else ""
    about = _cut(node.about, w - 24, _ABOUT)
    left = w - 28 - _wide(about, _ABOUT)
    beside = f'<tspan dx="7" class="k-dim">{_h(_cut(inner, left, _ABOUT))}</tspan>' if inner and left > 30 else ""
    below = f'<text x="16" y="{_n(middle + 33)}" class="k-about">{_h(about)}{beside}</text>'
    bar = f'<path d="M7 0h1v{_n(h)}h-1a7 7 0 0 1-7-7v-{_n(h - 14)}a7 7 0 0 1 7-7z" class="k-bar"/>'
    return f"{behind}{_rect(0, 0, w, h, 7, 'k-shape')}{bar}{_clipped(size, name + below)}"


def _pill(node: Node, size: Size) -> str:
    w, h = size
    name = _cut(node.name, w * 0.6, _NAME * 0.92)
    glimpse = _cut(node.about, w - 24 - _wide(name, _NAME * 0.92), _CODE)
    text = (
        f'<text x="11" y="16" class="k-role"><tspan>{_h(name)}</tspan>'
        f'<tspan dx="6" class="k-code">{_h(glimpse)}</tspan></text>'
    )
    return f"{_rect(0, 0, w, h, 12, 'k-shape')}{_clipped(size, text)}"


def _chips(marks: Sequence[str], right: float) -> str:
    """The marks of a node on its upper edge, from the right."""
    out = []
    for mark in reversed(marks):
        wide = _wide(mark, _SMALL) + 10
        right -= wide + 4
        kind = next((word for word in ("stale", "edited", "changed") if word in mark), "")
        inside = _text(wide / 2, 9.6, "k-word", mark)
        out.append(
            f'<g transform="translate({_n(right - 4)} -9)" class="k-chip{f" k-{kind}" if kind else ""}">'
            f"{_rect(0, 0, wide, _CHIP, 6.5, 'k-plate')}{inside}</g>"
        )
    return "".join(out)


# ---------------------------------------------------------------- lines


def _line(nodes: Sequence[Node], edge: Edge, way: Sequence[Point], *, across: bool) -> str:
    *before, end = way
    start = before[0]
    last = before[-1]
    # The head points the way the line comes in.
    sign = (1 if end.x >= last.x else -1) if across else (1 if end.y >= last.y else -1)
    tip = Point(end.x - 6 * sign, end.y) if across else Point(end.x, end.y - 6 * sign)
    path = [f"M{_n(start.x)} {_n(start.y)}"]
    here = start
    for point in [*before[1:], tip]:
        if (point.y == here.y) if across else (point.x == here.x):
            path.append(f"L{_n(point.x)} {_n(point.y)}")
        elif across:
            middle = _n((here.x + point.x) / 2)
            path.append(f"C{middle} {_n(here.y)} {middle} {_n(point.y)} {_n(point.x)} {_n(point.y)}")
        else:
            middle = _n((here.y + point.y) / 2)
            path.append(f"C{_n(here.x)} {middle} {_n(point.x)} {middle} {_n(point.x)} {_n(point.y)}")
        here = point
    head = ""
    if edge.relation != "inside":
        wing = f"v7l{_n(6 * sign)} -3.5z" if across else f"h7l-3.5 {_n(6 * sign)}z"
        first = f"M{_n(tip.x)} {_n(tip.y - 3.5)}" if across else f"M{_n(tip.x - 3.5)} {_n(tip.y)}"
        head = f'<path d="{first}{wing}" class="k-head"/>'
    roles = f" ({', '.join(edge.roles)})" if edge.roles else ""
    said = _SAID.get(edge.relation, "→")
    title = f"{nodes[edge.source].name} {said} {nodes[edge.target].name}{roles}"
    body = f'<title>{_h(title)}</title><path d="{"".join(path)}" class="k-way"/>{head}'
    return f'<g class="k-line k-{edge.relation}">{body}</g>'


def _written(word: str, end: Point, above: int, *, across: bool) -> str:
    """A word on a line, near its end, on a ground of its own; of lines that come from above one word over another."""
    wide = _wide(word, _SMALL) + 8
    x, y = (end.x - 11 - wide, end.y - 6) if across else (end.x - wide / 2, end.y - 22 - 13 * above)
    inside = _text(wide / 2, 9, "k-word", word)
    return (
        f'<g transform="translate({_n(x)} {_n(y)})" class="k-chip k-on-line">'
        f"{_rect(0, 0, wide, 12, 3, 'k-plate')}{inside}</g>"
    )


def _legend(relations: Sequence[str]) -> str:
    out, x = [], 0.0
    for relation in relations:
        word = _LINES[relation]
        wide = _wide(word, _SMALL) + 10
        head = '<path d="M22 2.5v7l6 -3.5z" class="k-head"/>' if relation != "inside" else ""
        line = f'<g class="k-line k-{relation}"><path d="M0 6H22" class="k-way"/>{head}</g>'
        out.append(
            f'<g transform="translate({_n(x)} 0)">{line}'
            f'<g transform="translate(32 0)" class="k-chip">{_rect(0, 0, wide, 12, 3, "k-plate")}'
            f"{_text(wide / 2, 9, 'k-word', word)}</g></g>"
        )
        x += wide + 46
    return "".join(out)


# ---------------------------------------------------------------- how it looks

_LIGHT = (
    "--box:#fff;--pill:#f3f5f8;--edge:#8c96a3;--text:#1f2328;--dim:#57606a;--line:#848d97;--plate:#fff;"
    "--good:#1a7f37;--bad:#cf222e;--warn:#9a5b00;--run:#0969da;--none:#6e7781;--pick:#0969da;--made:#8250df"
)
_DARK = (
    "--box:#22272e;--pill:#2d333b;--edge:#768390;--text:#e6edf3;--dim:#a8b3be;--line:#7d8794;--plate:#22272e;"
    "--good:#57ab5a;--bad:#ff7b72;--warn:#d9a441;--run:#6cb6ff;--none:#909dab;--pick:#6cb6ff;--made:#c297ff"
)
_ALONE = (
    f".kitaru-picture{{{_LIGHT};--sans:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;"
    "--mono:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    f"@media (prefers-color-scheme:dark){{.kitaru-picture{{{_DARK}}}}}"
)
_INLINE = (
    f".kitaru-picture{{{_LIGHT};--sans:var(--jp-ui-font-family,system-ui,sans-serif);"
    "--mono:var(--jp-code-font-family,monospace)}"
    f"[data-jp-theme-light=false] .kitaru-picture,.vscode-dark .kitaru-picture{{{_DARK}}}"
    ".kitaru-picture{--box:var(--jp-layout-color1,#fff);--pill:var(--jp-layout-color2,#f3f5f8);"
    "--plate:var(--jp-layout-color1,#fff);--text:var(--jp-content-font-color1,#1f2328);"
    "--dim:var(--jp-content-font-color2,#57606a);--pick:var(--jp-brand-color1,#0969da)}"
)
_RULES = "".join(
    f".kitaru-picture {rule}"
    for rule in (
        "text{font-family:var(--sans);fill:var(--text)}",
        ".k-name{font-size:12.5px;font-weight:600}",
        ".k-about{font-size:11px}",
        ".k-dim{fill:var(--dim)}",
        ".k-role{font-size:11.5px;font-weight:600}",
        ".k-code{font-family:var(--mono);font-size:10px;font-weight:400;fill:var(--dim)}",
        ".k-word{font-size:9.5px;text-anchor:middle;fill:var(--dim)}",
        ".k-shape{fill:var(--box);stroke:var(--edge)}",
        ".k-value .k-shape{fill:var(--pill)}",
        ".k-plate{fill:var(--plate);stroke:var(--edge);stroke-width:.6}",
        ".k-on-line .k-plate{stroke:none}",
        ".k-way{fill:none;stroke:var(--line);stroke-width:1.2}",
        ".k-head{fill:var(--line)}",
        ".k-part_of .k-way{stroke-dasharray:5 3}",
        ".k-after .k-way{stroke-dasharray:1 4;stroke-linecap:round;opacity:.75}",
        ".k-after .k-head{opacity:.75}",
        ".k-inside .k-way{stroke-dasharray:2 2;opacity:.6}",
        ".k-edited_from .k-way{stroke:var(--made);stroke-width:1.8;stroke-dasharray:8 3}",
        ".k-edited_from .k-head{fill:var(--made)}",
        ".k-bar{fill:var(--none)}",
        ".k-completed .k-bar{fill:var(--good)}",
        ".k-failed .k-bar,.kitaru-picture .k-cancelled .k-bar{fill:var(--bad)}",
        ".k-interrupted .k-bar,.kitaru-picture .k-waiting .k-bar{fill:var(--warn)}",
        ".k-running .k-bar,.kitaru-picture .k-paused .k-bar{fill:var(--run)}",
        ".k-failed .k-shape{stroke:var(--bad);stroke-width:1.8}",
        ".k-failed .k-about{fill:var(--bad);font-weight:600}",
        ".k-stale>.k-shape{stroke:var(--warn);stroke-width:1.6;stroke-dasharray:4 3}",
        ".k-edited>.k-shape{stroke:var(--made);stroke-width:1.8}",
        ".k-changed>.k-shape{stroke:var(--run);stroke-width:1.8}",
        ".k-chip.k-stale .k-word{fill:var(--warn);font-weight:600}",
        ".k-chip.k-edited .k-word{fill:var(--made);font-weight:600}",
        ".k-chip.k-changed .k-word{fill:var(--run);font-weight:600}",
        ".k-ring{fill:none;stroke:var(--pick);stroke-width:3}",
        ".k-node[role=button]{cursor:pointer;outline:none}",
        ".k-node:focus-visible>.k-shape{stroke:var(--pick);stroke-width:3;stroke-dasharray:none}",
    )
)
