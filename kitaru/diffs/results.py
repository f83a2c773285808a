"""What `kitaru.diff` gives: of two values, of two steps, of two executions. Each shows itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..failures import Failure
from ..previews import preview_line
from ..records import Value
from ..refs import shortened
from .changes import SUMS, Change
from .show import Column, Line, Page, Row, Span, Table, as_html, as_rich, as_text
from .texts import compare_texts
from .wording import change_lines, counted, from_to, word_lines

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Body", "Diff", "ExecutionDiff", "Side", "StepDiff", "ValueDiff"]

_CHANGES, _INSIDE, _LINES = 60, 8, 12  # shown of a value; of one inside a table; lines of one text
_ROWS = 200  # of a table
_AROUND = 2  # steps that are the same, shown beside those that are not
_LINE = 72  # characters of a value's glimpse


class Diff:
    """What differs. It shows itself in a terminal, in a notebook, and as JSON."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        raise NotImplementedError

    @property
    def changes(self) -> Sequence[Any]:
        """What differs: of values `Change`, of executions the `StepDiff` of each step that is not the same."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """As plain data that `json.dumps` takes."""
        raise NotImplementedError

    def page(self, *, full: bool = False) -> Page:
        """What its faces show; cut where it is long, unless `full`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self.page())

    def _repr_html_(self) -> str:
        return as_html(self.page())

    def __rich__(self) -> Text:
        return as_rich(self.page())


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True, repr=False)
class ValueDiff(Diff):
    """What differs inside a value.

    Attributes
    ----------
    found : tuple of Change
        At most 1,000.
    count : int
        How many there are.
    plain : bool
        They were compared as readable plain data, for one of them could not be loaded here; `why` says why.
    """

    found: tuple[Change, ...] = ()
    count: int = 0
    plain: bool = False
    why: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.count

    @property
    def changes(self) -> tuple[Change, ...]:
        """The first 1,000, in the order of their places."""
        return self.found

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kind": "value",
            "same": self.same,
            "count": self.count,
            "changes": [change.to_json() for change in self.found],
            "compared_as_plain_data": self.plain,
        }

    def page(self, *, full: bool = False) -> Page:
        """The changes, a line each."""
        if self.same:
            return [(Span("no difference"),)]
        head = [(Span(counted(self.count, "difference"), "bold"),)]
        return [*head, *self.lines(_CHANGES if not full else len(self.found), most_lines=_LINES if not full else 10**6)]

    def lines(self, most: int, most_lines: int = 3) -> list[Line]:
        """At most so many changes, as lines."""
        out = [line for change in self.found[:most] for line in change_lines(change, most_lines)]
        rest = self.count - sum(change.kind not in SUMS for change in self.found[:most])
        if rest:
            out.append((Span(f"… {rest:,} more", "dim"),))
        if self.plain:
            out.append((Span(f"compared as plain data: {self.why}", "dim"),))
        return out


# ---------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class Body:
    """One side of a step; or the flow itself, which has inputs, a result, code and a failure as a step has.

    Attributes
    ----------
    label : str
        Its path: ``outer#1/classify#2``; "" is the flow.
    inputs, outputs : Mapping
        By name; of the flow, what was saved is among the outputs.
    took : float or None
        Seconds. None: it has not ended, or it was reused.
    tokens, cost : float or None
        What its body logged under these names; cost in US dollars.
    """

    label: str
    status: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    code: bytes = b""
    source: str | None = None
    failure: Failure | None = None
    took: float | None = None
    tokens: float | None = None
    cost: float | None = None
    reused: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class StepDiff(Diff):
    """A step on both sides, or on one.

    Attributes
    ----------
    a, b : Body or None
        None where that execution has no such step.
    changed : tuple of str
        Of ``inputs``, ``output``, ``code``, ``status``, ``failure``.
    inside : Mapping
        What differs inside: ``output`` or ``in.ARG`` to `ValueDiff`, for those values that were looked into.
    edited : bool
        The second one has another output than what it stands for, without having run: a person put it there.
    """

    a: Body | None
    b: Body | None
    changed: tuple[str, ...] = ()
    inside: Mapping[str, ValueDiff] = field(default_factory=dict)
    edited: bool = False
    depth: int = 0

    @property
    def same(self) -> bool:
        """Whether both have it, and it did the same."""
        return self.verdict == "same"

    @property
    def verdict(self) -> str:
        """``same``, ``changed``, ``only_a`` or ``only_b``."""
        if self.a is None or self.b is None:
            return "only_b" if self.a is None else "only_a"
        return "changed" if self.changed else "same"

    @property
    def label(self) -> str:
        """Its path: in the second execution, if it is there; "" is the flow itself."""
        body = self.b or self.a
        assert body is not None
        return body.label

    @property
    def changes(self) -> tuple[Change, ...]:
        """What differs inside its inputs and outputs, as far as they were looked into."""
        return tuple(change for value in self.inside.values() for change in value.changes)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        a, b = self.a, self.b
        return {
            "kind": "step",
            "same": self.same,
            "verdict": self.verdict,
            "changed": list(self.changed),
            "edited": self.edited,
            "a": None if a is None else _body_json(a),
            "b": None if b is None else _body_json(b),
            "inside": {name: value.to_json() for name, value in self.inside.items()},
        }

    def page(self, *, full: bool = False) -> Page:
        """What changed, and from what to what."""
        head = (Span(self.label or "the flow", "bold"), Span(f": {_what(self)}"))
        facts = [
            (Span(f"  {name} "), *from_to(*(text or "none" for text in shown)))
            for name, a, b in _figures(self.a, self.b)
            if (shown := (_figure(name, a), _figure(name, b)))[0] != shown[1] and name != "took"
        ]
        most = 10**6 if full else _CHANGES
        return [head, *((Span("  "), *line) for line in _inside(self, most, 10**6 if full else _LINES)), *facts]


def _body_json(body: Body) -> dict[str, Any]:
    return {
        "step": body.label,
        "status": body.status,
        "reused": body.reused,
        "took": body.took,
        "tokens": body.tokens,
        "cost": body.cost,
        "inputs": {name: value.digest.hex() for name, value in body.inputs.items()},
        "outputs": {name: value.digest.hex() for name, value in body.outputs.items()},
        "failure": body.failure.summary() if body.failure is not None else None,
    }


def _what(step: StepDiff) -> str:
    if step.verdict.startswith("only"):
        return f"only in {'the first' if step.verdict == 'only_a' else 'the second'}"
    if step.same:
        return "the same"
    words = [("output, edited" if step.edited and word == "output" else word) for word in step.changed]
    return f"{', '.join(words)} changed" if not step.edited else ", ".join(words)


def _inside(step: StepDiff, most: int, most_lines: int) -> Iterator[Line]:
    """From what to what: by what was looked into, else by the previews."""
    a, b = step.a, step.b
    if a is None or b is None:
        return
    for group, old, new in (("in.", a.inputs, b.inputs), ("", a.outputs, b.outputs)):
        for name in dict.fromkeys((*old, *new)):
            x, y = old.get(name), new.get(name)
            if x is not None and y is not None and x.digest == y.digest:
                continue
            yield from _value_lines(f"{group}{name}", x, y, step.inside.get(f"{group}{name}"), most, most_lines)
    if "code" in step.changed and a.source and b.source:
        pieces = compare_texts(a.source.strip("\n"), b.source.strip("\n"))
        yield (Span("code", "bold"),)
        yield from ((Span("    "), *line) for line in word_lines(pieces, most_lines))
    if "status" in step.changed:
        yield (Span("status "), *from_to(a.status, b.status))
    if "failure" in step.changed:
        said = [preview_line({"type": f.summary()}, 200) if (f := body.failure) else "none" for body in (a, b)]
        yield (Span("failure "), *from_to(*said))


def _value_lines(
    name: str, x: Value | None, y: Value | None, looked: ValueDiff | None, most: int, most_lines: int
) -> Iterator[Line]:
    if looked is not None and not looked.same:
        lines = looked.lines(most, most_lines)
        if len(lines) == 1 and not looked.found[0].path:
            yield (Span(f"{name}: "), *lines[0][1:])
            return
        yield (Span(name, "bold"),)
        yield from ((Span("    "), *line) for line in lines)
        return
    said = [preview_line(dict(v.preview), _LINE) if v is not None else "" for v in (x, y)]
    if x is None or y is None:
        yield (Span(f"{name}: "), Span(said[1], "add") if x is None else Span(said[0], "del"))
    elif said[0] == said[1]:
        yield (Span(f"{name}: {said[0]} "), Span("differs further inside", "dim"))
    else:
        yield (Span(f"{name}: "), *from_to(*said))


# ---------------------------------------------------------------- executions


@dataclass(frozen=True, slots=True)
class Side:
    """One of the executions, in sums.

    Attributes
    ----------
    took : float or None
        Seconds from its beginning to its end.
    tokens, cost : float or None
        Of all that its bodies logged; what was reused was not spent again.
    """

    exec_id: str
    flow: str
    status: str
    took: float | None
    tokens: float | None
    cost: float | None


@dataclass(frozen=True, slots=True, repr=False)
class ExecutionDiff(Diff):
    """Two executions, step by step.

    Attributes
    ----------
    a, b : Side
        Each in sums.
    steps : tuple of StepDiff
        The flow itself first, then each step after the one around it.
    """

    a: Side
    b: Side
    steps: tuple[StepDiff, ...]

    @property
    def same(self) -> bool:
        """Whether both did the same, step by step."""
        return all(step.same for step in self.steps)

    @property
    def changes(self) -> tuple[StepDiff, ...]:
        """The steps that are not the same. The flow itself is one, with the label ""."""
        return tuple(step for step in self.steps if not step.same)

    @property
    def counts(self) -> dict[str, int]:
        """How many steps are ``same``, ``changed``, ``only_a``, ``only_b``; without the flow itself."""
        out = dict.fromkeys(("same", "changed", "only_a", "only_b"), 0)
        for step in self.steps[1:]:
            out[step.verdict] += 1
        return out

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kind": "execution",
            "same": self.same,
            "a": _side_json(self.a),
            "b": _side_json(self.b),
            "counts": self.counts,
            "steps": [step.to_json() for step in self.steps],
        }

    def page(self, *, full: bool = False) -> Page:
        """A table of the steps; those that are the same are counted where they are many."""
        counts = self.counts
        verdicts = [
            f"{counts['same']:,} the same" if counts["same"] else "",
            f"{counts['changed']:,} changed" if counts["changed"] else "",
            f"{counts['only_a']:,} only in the first" if counts["only_a"] else "",
            f"{counts['only_b']:,} only in the second" if counts["only_b"] else "",
        ]
        flows = self.a.flow if self.a.flow == self.b.flow else f"{self.a.flow} -> {self.b.flow}"
        total = sum(counts.values())
        ids = (Span(f"  {self.a.exec_id} -> {self.b.exec_id}", "dim", varies=True),)
        head: Line = (
            Span(flows, "bold"),
            Span(f": {counted(total, 'step')}{': ' if total else ''}{', '.join(filter(None, verdicts))}"),
            *ids,
        )
        rows = [*_rows(self.steps, full=full)]
        figures = _figures(self.a, self.b)
        said = {name for name, a, b in figures if a is not None or b is not None}
        if said:
            cells = _figure_cells(figures, total=True)
            rows.append(Row([(), (Span("in all", "bold"),), (), *cells], varies=said == {"took"}))
        return [head, Table(_COLUMNS, rows)]


_COLUMNS = (
    Column(),
    Column("step"),
    Column("what"),
    Column("took", right=True, varies=True),
    Column("tokens", right=True),
    Column("cost", right=True),
)
_SIGNS = {"same": ("=", "dim"), "changed": ("~", "chg"), "only_a": ("-", "bold"), "only_b": ("+", "bold")}


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "exec_id": side.exec_id,
        "flow": side.flow,
        "status": side.status,
        "took": side.took,
        "tokens": side.tokens,
        "cost": side.cost,
    }


def _rows(steps: Sequence[StepDiff], *, full: bool) -> Iterator[Row]:
    shown = set(range(len(steps)))
    if not full:
        shown = {0} if steps and not steps[0].same else set()
        for n, step in enumerate(steps):
            if n and not step.same:
                shown.update(range(max(n - _AROUND, 1), min(n + _AROUND + 1, len(steps))))
    names = shortened(body.label for step in steps for body in (step.a, step.b) if body is not None)
    left = rows = 0
    for n, step in enumerate(steps):
        if n not in shown:
            left += n > 0
            continue
        if rows == _ROWS and not full:
            rest = sum(not step.same for step in steps[n:])
            yield Row([(), (Span(f"… {rest:,} more that are not the same", "dim"),), *[()] * 4])
            return
        rows += 1
        if left:
            yield _left_out(left)
            left = 0
        yield _row(step, names, full=full)
    if left:
        yield _left_out(left)


def _left_out(n: int) -> Row:
    return Row([(Span("=", "dim"),), (Span(f"… {counted(n, 'step')} the same", "dim"),), *[()] * 4])


def _row(step: StepDiff, names: Mapping[str, str], *, full: bool) -> Row:
    sign, mark = _SIGNS[step.verdict]
    label = names[step.label].rpartition("/")[2] or "(the flow)"
    here: Line = (Span("  " * step.depth + label, "dim" if step.same else ""),)
    if step.a is not None and step.b is not None and step.a.label != step.b.label:
        here = (*here, Span(f" was {names[step.a.label].rpartition('/')[2]}", "dim"))
    what: Line = () if step.same else (Span(_what(step)),)
    inside = [*_inside(step, 10**6 if full else _INSIDE, 10**6 if full else 3)]
    figures = [] if not step.label else _figures(step.a, step.b)
    return Row([(Span(sign, mark),), here, what, *_figure_cells(figures)], inside)


def _figures(a: Body | Side | None, b: Body | Side | None) -> list[tuple[str, float | None, float | None]]:
    return [(name, getattr(a, name, None), getattr(b, name, None)) for name in ("took", "tokens", "cost")]


def _figure_cells(figures: Iterable[tuple[str, float | None, float | None]], *, total: bool = False) -> list[Line]:
    cells: list[Line] = []
    for name, a, b in figures:
        shown = [_figure(name, x) for x in (a, b)]
        if a is None and b is None:
            cells.append(())
        elif shown[0] == shown[1]:
            cells.append((Span(shown[0], "bold" if total else "", varies=name == "took"),))
        else:
            text = f"{shown[0] or 'none'} -> {shown[1] or 'none'}"
            cells.append((Span(text, "bold" if total else "", varies=name == "took"),))
    return [*cells, *[()] * (3 - len(cells))]


def _figure(name: str, x: float | None) -> str:
    if x is None or not math.isfinite(x):
        return ""
    if name == "tokens":
        return f"{x:,.0f}"
    if name == "cost":
        return f"${x:,.2f}" if x >= 1 or not x else f"${x:.4g}"
    return f"{x:.1f} s" if x >= 0.9995 else f"{x * 1000:.0f} ms" if x >= 0.0095 else f"{x * 1000:.1f} ms"
