"""What a fork would do; and, after it ran, what it did and why. From records alone: no value is loaded.

`reuse` and `rerun` are promises, for unchanged code and deterministic bodies. `reuse?` and `rerun?` are what the data
suggest where the flow's own code may decide otherwise: they hold where it only hands outputs on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from .collecting import kept
from .executions import CheckpointData, ExecutionData
from .forks import Edits, Origin, gone, label_of, listed
from .lineage_graph import Ties, ties
from .matching import Checkpoint, Fork, Position, View, plan
from .previews import preview_line
from .records import NOWHERE, Id, Value
from .refs import Part, shortened

if TYPE_CHECKING:
    import pandas as pd

    from .diffs.show import Line, Page

__all__ = ["Plan", "Row", "explain", "forecast"]

_COLUMNS = ("step", "decision", "why", "took", "tokens", "cost")


@dataclass(frozen=True, slots=True)
class Row:
    """One step of a plan, or of what came of it.

    Attributes
    ----------
    step : str
        Its path: ``outer#1/classify#2``.
    decision : str
        ``reuse``, ``rerun``, ``reuse?`` or ``rerun?`` before; ``reused``, ``edited`` or ``ran`` afterwards.
    took : float or None
        Seconds that it took when it was recorded.
    tokens, cost : float or None
        As its body logged them.
    inner : bool
        It lies inside of a step that is reused whole, and is counted there.
    """

    step: str
    decision: str
    why: str
    took: float | None = None
    tokens: float | None = None
    cost: float | None = None
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A table of steps, in the order in which they were recorded."""

    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()  # edits that cannot be met, …
    done: bool = field(default=False, repr=False)  # what was, not what will be

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, *decisions: str) -> int:
        """How many steps were decided so; those inside of reused ones are not counted."""
        return sum(row.decision in decisions and not row.inner for row in self.rows)

    def saved(self, of: str) -> float:
        """What is saved at least, of ``took`` (seconds), ``tokens`` or ``cost`` (as logged)."""
        sure = {"reuse", "reused"}
        return sum(getattr(row, of) or 0 for row in self.rows if row.decision in sure and not row.inner)

    def to_frame(self) -> pd.DataFrame:
        """The table for pandas: one row a step, with the columns step, decision, why, took, tokens and cost."""
        import pandas as pd

        return pd.DataFrame([[getattr(row, c) for c in _COLUMNS] for row in self.rows], columns=list(_COLUMNS))

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {
            "steps": [{c: getattr(row, c) for c in _COLUMNS} for row in self.rows],
            "saves": {of: self.saved(of) for of in ("took", "tokens", "cost")},
            "notes": list(self.notes),
        }

    @property
    def summary(self) -> str:
        """One line: what it saves at least."""
        return "".join(span.text for span in self._summary())

    def _summary(self) -> Line:
        from .diffs.show import Span

        parts = []  # seconds are other ones in each run
        if (took := self.saved("took")) >= _WORTH_SAYING:
            parts.append(Span(_seconds(took), varies=True))
        if tokens := self.saved("tokens"):
            parts.append(Span(f"{tokens:,.0f} tokens"))
        if cost := self.saved("cost"):
            parts.append(Span(_dollars(cost, 2)))
        if not parts:
            return ()
        verb = Span("saved " if self.done else "saves at least ", varies=all(part.varies for part in parts))
        commas = [Span(", ", varies=part.varies) for part in parts[:-1]]
        return (verb, *(span for pair in zip_longest(parts, commas) for span in pair if span is not None))

    @property
    def shown(self) -> dict[str, str]:
        """Each step as tables show it: without ``#1`` where there is one of that name at its place."""
        return shortened(row.step for row in self.rows)

    def page(self) -> Page:
        """The table as `kitaru.diffs.show` draws it: as text, in colour, as HTML."""
        from .diffs import show
        from .diffs.show import Column, Span, Table

        shown = self.shown
        rows = [
            show.Row(
                [
                    (Span(shown[row.step]),),
                    (Span(row.decision, _MARKS.get(row.decision, "")),),
                    (Span(row.why, "dim"),),
                    (Span(_seconds(row.took), varies=True),) if row.took is not None else (),
                    (Span(f"{row.tokens:,.0f}"),) if row.tokens is not None else (),
                    (Span(_dollars(row.cost, 4)),) if row.cost is not None else (),
                ]
            )
            for row in self.rows
        ]
        columns = [Column("step"), Column("decision"), Column("why"), Column("took", right=True, varies=True)]
        table = Table([*columns, Column("tokens", right=True), Column("cost", right=True)], rows)
        summary = self._summary()
        return [table, *([summary] if summary else []), *((Span(note, "chg"),) for note in self.notes)]

    def __repr__(self) -> str:
        """Plain text without times: the same in every run, so that a notebook's output can be compared."""
        if not self.rows:
            return "<plan: no steps>"
        from .diffs.show import as_text

        return "\n".join(filter(None, as_text(self.page()).split("\n")))

    def _repr_html_(self) -> str:
        """For notebooks: without script, in the colours of the theme."""
        from .diffs.show import as_html

        return as_html(self.page() if self.rows else [*self.page()[1:]])


_WORTH_SAYING = 0.05  # seconds
_MARKS = {"rerun": "chg", "rerun?": "chg", "ran": "chg", "edited": "chg"}


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 0.05 else f"{seconds * 1000:.0f} ms"


def _dollars(amount: float, places: int) -> str:
    """With so many decimals; of less than that, with as many as show what it is."""
    if 0 < amount < 10**-places:
        places = 1 - math.floor(math.log10(amount))
    return f"${amount:,.{places}f}"


# ---------------------------------------------------------------- before


@kept()
def forecast(origin: Origin, edits: Edits) -> Plan:
    """What a fork with these edits would do with each step of its origin."""
    return _Forecast(origin, edits).plan()


class _Forecast:
    """Follows what may change along the lineage: from the edits to all that reads them, and what that made."""

    def __init__(self, origin: Origin, edits: Edits) -> None:
        self.origin, self.edits = origin, edits
        self.fork = Fork(origin.view, edits.spec(origin))
        self.labels = _labels(origin.view)
        shown = shortened(self.labels.values())
        self.shown = {q: shown[label] for q, label in self.labels.items()}

    def plan(self) -> Plan:
        decided = plan(self.fork)
        points = sorted(self.origin.view.walk(), key=lambda p: p.began)
        reasons = self._affected(decided, points) if any(do == "depends" for do, _ in decided.values()) else {}
        rows = []
        for p in points:
            do, why = decided[p.id]
            inner = do == "reuse" and why.startswith("inside")
            decision, why = self._decision(p, do, why, reasons)
            facts = self.origin.facts.get(p.id) if p.id not in self.fork.spec.outputs else None  # a person made it
            rows.append(_row(self.labels[p.id], decision, why, facts, inner=inner))
        far = [label_of(self.origin.view, q) for q in sorted(self.fork.edited) if q not in decided]
        notes = []
        if far:
            notes.append(
                f"{self.origin.exec_id} never came to {listed(far)}: what is asked of it holds if this fork does"
            )
        if self.edits.gone:
            notes.append(gone(self.edits.gone))
        return Plan(tuple(rows), tuple(notes))

    def _decision(self, p: Checkpoint, do: str, why: str, reasons: Mapping[Id, str]) -> tuple[str, str]:
        if p.id in self.fork.spec.outputs:
            names = ", ".join(self.edits.outputs.get(p.id, ()))
            return ("reuse" if do == "reuse" else "reuse?"), f"edited: {names}" if names else "edited before"
        if p.id in self.edits.inputs:
            names = ", ".join(f"in.{name}" for name in self.edits.inputs[p.id])
            return ("rerun" if do == "rerun" else "rerun?"), f"edited: {names}"
        if do == "reuse" and not self.fork.spec.edited and not self.fork.spec.flow_inputs:
            return do, why if why.startswith("inside") else "it has finished"  # no edit is asked for, only to go on
        if do != "depends":
            return do, why
        reads = reasons.get(p.id)
        return ("rerun?", f"reads {reads}") if reads else ("reuse?", "nothing that it reads may change")

    def _affected(self, decided: Mapping[Id, tuple[str, str]], points: Iterable[Checkpoint]) -> dict[Id, str]:
        """All steps that may get other inputs, and what these come from."""
        tied = ties(_as_called(_with_inherited(self.origin)))
        flow = self.origin.exec_id
        todo: list[tuple[str, str]] = []  # an artifact that may change, and what to say of it
        for p in points:
            name, label = tied.steps.get(p.id), self.shown[p.id]
            if name is None:
                continue
            is_edited = p.id in self.fork.spec.outputs
            if is_edited or decided[p.id][0] == "rerun":
                only = self.edits.outputs.get(p.id) if is_edited else None
                todo += _outputs(tied, name, label, "is edited" if is_edited else "may change", only)
        for source in tied.edges if self.edits.flow_inputs else ():
            for target, relation, role in tied.leading_from(source):
                if target == flow and relation == "used" and role in self.edits.flow_inputs:
                    todo.append((source, f"input.{role}, which is edited"))
        labels = {name: self.shown[q] for q, name in tied.steps.items() if q in self.shown}
        out: dict[str, str] = {}
        reads: _Reads = {}
        wholes: _Wholes = {}
        edited_before = {p.id: [name for name, _ in p.start.ran_with] for p in points if p.start.ran_with}
        for source in tied.edges if self.edits.inputs or edited_before else ():
            for target, relation, role in tied.leading_from(source):
                if relation == "used":
                    reads.setdefault(target, []).append((source, role))
                elif relation == "part_of":
                    wholes.setdefault(source, []).append(target)
        for q, names in self.edits.inputs.items():
            out |= self._read_inside(tied.steps, reads, wholes, q, names, "is edited")
        for step in out:
            todo += _outputs(tied, step, labels.get(step, step), "may change")
        lapse = {
            tied.steps[q]: self._read_inside(tied.steps, reads, wholes, q, names, "was edited, for another call")
            for q, names in edited_before.items()
            if q in tied.steps and q not in self.edits.inputs
        }
        out |= _spread(tied, todo, flow, labels, lapse)
        return {q: out[name] for q, name in tied.steps.items() if name in out}

    def _read_inside(
        self, steps: Mapping[Id, str], reads: _Reads, wholes: _Wholes, edited: Id, arguments: Container[str], what: str
    ) -> dict[str, str]:
        """The steps inside of one with edited inputs that read them; nobody outside of it does."""
        inside = [steps[p.id] for p in self.origin.view.walk(edited) if p.id in steps]
        out: dict[str, str] = {}
        for artifact, role in reads.get(steps.get(edited, ""), ()) if inside else ():
            if role not in arguments:
                continue
            seen, todo = {artifact}, [artifact]
            while todo:
                new = [whole for whole in wholes.get(todo.pop(), ()) if whole not in seen]
                seen.update(new)
                todo += new
            for name in inside:
                if any(read in seen for read, _ in reads.get(name, ())):
                    out[name] = f"{self.shown[edited]}.in.{role}, which {what}"
        return out


def _with_inherited(origin: Origin) -> ExecutionData:
    """The execution, with what lies inside of the steps that it reused: that happened where they stand."""
    if origin.before is None:
        return origin.data
    view, known = origin.view, {c.id: c for c in origin.data.checkpoints}
    inherited: dict[Id, list[tuple[Position, bool, Id]]] = {}  # by the reused record: what began or ended, and when
    more: dict[Id, CheckpointData] = {}
    for p in view.walk():
        around = view.around(p.id)
        reused = next((q for q in around if q in known), None)
        if p.id in known or reused is None or p.id not in origin.facts:
            continue
        facts, outer = origin.facts[p.id], around[0]
        path = (more.get(outer) or known[outer]).path if outer in known or outer in more else ()
        arguments, outputs = (
            tuple([(name, origin.index.full(value)) for name, value in values])
            for values in (p.start.given, p.value if p.ok else ())
        )
        here = (*path, facts.path[-1])
        more[p.id] = replace(facts, id=p.id, path=here, parent=outer, arguments=arguments, outputs=outputs)
        events = inherited.setdefault(reused, [])
        events += [(at, bool(n), p.id) for n, at in enumerate((p.began, p.ended)) if at is not None]
    for reused, events in inherited.items():
        for n, (_, is_end, q) in enumerate(sorted(events), 1):
            turn: Any = known[reused].began + n / (len(events) + 1)  # between its beginning and its end
            if is_end:
                more[q].finished = turn
            else:
                more[q].began = turn
    return replace(origin.data, checkpoints=[*origin.data.checkpoints, *more.values()])


def _as_called(data: ExecutionData) -> ExecutionData:
    """The execution, where steps whose inputs were edited read what they were called with, too: by that they match."""
    edited = {c.id: c.start.arguments for c in data.checkpoints if c.start is not None and c.start.ran_with}
    if not edited:
        return data
    full = data.index.full
    checkpoints = [
        replace(c, arguments=(*((name, full(value)) for name, value in edited[c.id]), *c.arguments))
        if c.id in edited
        else c
        for c in data.checkpoints
    ]
    return replace(data, checkpoints=checkpoints)


_Reads = dict[str, list[tuple[str, str]]]
"""Of each step: the artifacts that it used, and as what."""

_Wholes = dict[str, list[str]]
"""Of each artifact: what it was put into."""


def _outputs(tied: Ties, step: str, label: str, what: str, only: Container[str] | None = None) -> list[tuple[str, str]]:
    """The artifacts that a step made, all or `only` some, and what to say of them."""
    made = [(target, role) for target, relation, role in tied.leading_from(step) if relation == "generated"]
    return [(artifact, f"{label}.{role}, which {what}") for artifact, role in made if only is None or role in only]


def _spread(
    tied: Ties,
    todo: Iterable[tuple[str, str]],
    flow: str,
    labels: Mapping[str, str],
    lapse: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    """The steps that lie behind these artifacts, each with the first thing that it reads of them.

    Parameters
    ----------
    lapse
        Of steps with inputs that were edited before: what inside of them reads these. Called with others, a step is
        another call, and has no part in those edits.
    """
    seen: set[str] = set()
    out: dict[str, str] = {}
    queue = deque(todo)
    while queue:
        artifact, why = queue.popleft()
        if artifact in seen:
            continue
        seen.add(artifact)
        for target, relation, _ in tied.leading_from(artifact):
            if relation == "part_of":
                queue.append((target, why))
            elif relation == "used" and target != flow and target not in out:
                for step, reads in {target: why, **lapse.get(target, {})}.items():
                    out.setdefault(step, reads)
                    queue += _outputs(tied, step, labels.get(step, step), "may change")
    return out


def _row(label: str, decision: str, why: str, c: CheckpointData | None, *, inner: bool) -> Row:
    if c is None:
        return Row(label, decision, why, inner=inner)
    tokens, cost = _number(c.metadata.get("tokens")), _number(c.metadata.get("cost"))
    return Row(label, decision, why, c.took or None, tokens, cost, inner)


def _number(x: Any) -> float | None:
    return x if isinstance(x, (int, float)) and not isinstance(x, bool) else None


def _labels(view: View) -> dict[Id, str]:
    """The paths of all records of a view, each made once."""
    out: dict[Id, str] = {}
    todo: list[tuple[Id | None, str]] = [(None, "")]
    while todo:
        body, before = todo.pop()
        sides: dict[str, int] = {}
        for q in view.inner.get(body, ()):
            start = view.points[q].start
            if start.ordinal is not None:
                out[q] = f"{before}{start.name}#{start.ordinal}"
            else:
                n = sides[start.name] = sides.get(start.name, 0) + 1
                out[q] = f"{before}{Part(start.name, n, True)}"
            if q in view.inner:
                todo.append((q, f"{out[q]}/"))
    return out


# ---------------------------------------------------------------- afterwards


def explain(
    checkpoints: Iterable[CheckpointData],
    origin: Origin | None,
    edited: Mapping[Id, Iterable[str]],
    opened: Container[Id | None] = (),
) -> Plan:
    """What was decided for each step of an execution, and why.

    Parameters
    ----------
    checkpoints
        Of the execution.
    origin
        What it was forked from; None where it is no fork.
    edited
        The records of the origin whose outputs or inputs were overridden, and the names of these.
    opened
        The records of the origin that ran again for what was asked inside of them, and were not asked for themselves.
    """
    rows = []
    for c in checkpoints:
        decision, why = _reason(c, origin, edited, opened)
        facts = c
        if decision == "reused" and origin is not None and c.reused_from in origin.facts:
            facts = origin.facts[c.reused_from]
        rows.append(_row(c.label, decision, why, facts, inner=False))
    return Plan(tuple(rows), done=True)


def _reason(
    c: CheckpointData, origin: Origin | None, edited: Mapping[Id, Iterable[str]], opened: Container[Id | None]
) -> tuple[str, str]:
    start = c.start
    assert start is not None
    counterpart = start.counterpart
    if c.reused_from is not None:
        if counterpart in edited:
            return "edited", f"its {', '.join(edited[counterpart])} was set"
        before = origin.view.points.get(counterpart) if origin is not None else None
        if before is not None and before.start.inputs != start.inputs:
            return "reused", f"drift: {_different(origin, before, c)}"
        return "reused", "the same inputs"
    if counterpart == NOWHERE:
        return "ran", "there was no such call" if origin is not None else "new"
    before = origin.view.points.get(counterpart) if origin is not None else None
    if counterpart in edited:
        return "ran", f"its {', '.join(f'in.{name}' for name in edited[counterpart])} was set"
    if before is not None and before.start.inputs != start.inputs:
        return "ran", _different(origin, before, c)
    if before is not None and not before.result:
        return "ran", "it had no result"
    if not start.claims:
        return "ran", "the code around it changed"
    return "ran", "an edit lies inside it" if counterpart in opened else "asked for"


def _different(origin: Origin | None, before: Checkpoint, c: CheckpointData) -> str:
    """The inputs that differ, and how."""
    assert origin is not None
    old = {name: origin.index.full(value) for name, value in before.start.given}
    new = dict(c.arguments)
    out = []
    for name in {**old, **new}:
        if name not in new or name not in old or old[name].digest != new[name].digest:
            was, now = _shown(old.get(name)), _shown(new.get(name))
            out.append(f"{name} was {was}, is {now}" if was != now else f"{name} is another {now}")
    return "; ".join(out) or "its inputs differ"


def _shown(value: Value | None) -> str:
    return preview_line(dict(value.preview), 80) if value is not None else "nothing"
