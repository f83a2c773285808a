"""Forks: what a new execution asks of the one that it starts from, and how that one is read. Nothing is copied.

An edit is named by a REF of the origin, and stands in the fork's `begun` by the id of the record it means::

    checkpoint.classify#2            its output
    checkpoint.outer/split.left      one of several outputs
    checkpoint.classify#2.in.model   an input of that one step
    type.llm_call.in.model           an input of every step of that type
    wait.verdict                     the answer to a wait
    input.limit                      an input of the flow
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import CorruptionError, InvalidNameError, NotFoundError, UsageError
from .executions import CheckpointData, ExecutionData, put_together
from .index import Index
from .matching import Fork, Spec, View, fold, from_, rerun
from .ownership import state_of
from .reading import Reading, read_journal
from .records import Argument, Begun, Forked, Id, Record, Value
from .refs import Part, Ref, parse_ref
from .stores.base import Store

__all__ = [
    "Edits",
    "Origin",
    "edited_outputs",
    "edits_of",
    "find",
    "gone",
    "label_of",
    "listed",
    "open_origin",
    "read_origin",
    "spec_of",
]


@dataclass(slots=True)
class Origin:
    """An execution as its forks see it: its own records, and those that it inherited from its own origin."""

    exec_id: str
    segments: int  # of its journal, as it was read
    last: bytes  # the digest of the newest of them
    begun: Begun
    view: View
    index: Index
    data: ExecutionData
    facts: dict[Id, CheckpointData]  # what each record of the view took and logged, where it ran
    before: Origin | None = None  # what it was forked from itself

    @property
    def to_begin(self) -> Origin | None:
        """What this fork starts from, where it was recorded and has not run yet; else None.

        One that ended without a step has run.
        """
        return self.before if self.data.state.status == "paused" and not self.data.checkpoints else None

    def expect(self) -> Id | None:
        """Have the step before which it paused in its view, so that it can be edited. None: there is none."""
        release, pending = self.data.state.release, self.data.pending
        if release is None or release.before is None or pending is None:
            return None
        if pending.id not in self.view.points:
            self.view.expect(release.before)
            self.facts[pending.id] = pending
        return pending.id


def read_origin(store: Store, exec_id: str) -> Origin:
    """An execution that is to be forked, as it stands now. Raises `NotFoundError` where there is none."""
    reading = read_journal(store, exec_id)
    if not reading.n:
        raise NotFoundError(f"there is no execution {exec_id} in {store.url}")
    return _origin(store, reading, reading.n)


def open_origin(store: Store, forked: Forked, forks: Collection[str] = ()) -> Origin:
    """The origin of a fork, as it was when the fork was begun; what it did since is not looked at.

    Parameters
    ----------
    forks
        The executions that led here, which cannot be what they were forked from.

    Raises
    ------
    CorruptionError
        It is gone, shorter than it was, or another execution that was given its name.
    """
    if forked.origin in forks:
        raise CorruptionError(f"{forked.origin} says of itself that it was forked from itself: no Kitaru wrote that")
    reading = read_journal(store, forked.origin)
    if reading.n < forked.segments:
        raise CorruptionError(
            f"{forked.origin} has {reading.n} segments, and was forked at segment {forked.segments}: restore its "
            f"journal in {store.url} from a copy"
        )
    if reading.digest(forked.segments) != forked.last:
        raise CorruptionError(
            f"{forked.origin} is not the execution that was forked: another one was begun under its name. Restore the "
            f"first one's journal in {store.url} from a copy"
        )
    origin = _origin(store, reading, forked.segments, forks)
    pending = origin.data.pending
    if pending is not None and pending.id in spec_of(forked).edited:
        origin.expect()
    return origin


def _origin(store: Store, reading: Reading, segments: int, forks: Collection[str] = ()) -> Origin:
    upto = reading.segments[:segments]
    records: list[Record] = [r for segment in upto for r in segment.records]
    begun = records[0]
    if not isinstance(begun, Begun):
        raise UsageError(f"{reading.exec_id} does not say what it runs: its first segment is unknown")
    fork, beyond = None, None
    facts: dict[Id, CheckpointData] = {}
    origin: Origin | None = None
    if begun.fork is not None:
        origin = open_origin(store, begun.fork, {reading.exec_id, *forks})
        fork, beyond = Fork(origin.view, spec_of(begun.fork)), origin.index
        facts |= origin.facts
    data = put_together(reading.exec_id, state_of(upto), records, beyond=beyond)
    for c in data.checkpoints:
        is_edited = fork is not None and c.reused_from in fork.spec.outputs  # a person made it, and not that step
        facts[c.id] = facts.get(c.reused_from, c) if c.reused_from is not None and not is_edited else c
    last = reading.digest(segments)
    return Origin(reading.exec_id, segments, last, begun, fold(records, fork), data.index, data, facts, origin)


def spec_of(forked: Forked) -> Spec:
    """What `decide` asks of a fork."""
    return Spec(
        dict(forked.outputs),
        dict(forked.inputs),
        frozenset(forked.forced),
        bool(forked.flow_inputs),
    )


_Asked = dict[Id, dict[str, Any]]
"""Of each record: what is edited of it, by its name."""


@dataclass(slots=True)
class Edits:
    """What was asked for, resolved to records of the origin's view; the values are not recorded yet."""

    outputs: _Asked = field(default_factory=dict)
    inputs: _Asked = field(default_factory=dict)
    forced: set[Id] = field(default_factory=set)
    flow_inputs: dict[str, Any] = field(default_factory=dict)
    names: dict[Id, str] = field(default_factory=dict)  # how each was asked for
    gone: list[str] = field(default_factory=list)  # steps that ran, and have no code any more
    _asked: dict[str, str] = field(default_factory=dict, repr=False)  # by what an override names: how it was written

    def name(self, place: str, key: str) -> None:
        """Note that the override `key` names this place, which one alone can."""
        if place in self._asked:
            raise UsageError(
                f"{place} is given twice, as {self._asked[place]} and as {key}: which of the two is meant?"
            )
        self._asked[place] = key

    def settle(self, rid: Id) -> None:
        """A step whose output is set does not run: it can have no other inputs, unless all steps of its type have."""
        label = self.names[rid]
        for argument in self.inputs.pop(rid, ()):
            if (key := self._asked.get(f"{label}.in.{argument}")) is not None:
                raise UsageError(f"{label} does not run, since its output is given: {key} would have no effect")

    @classmethod
    def recorded(cls, origin: Origin, forked: Forked) -> Edits:
        """Those that stand in a fork of `origin`."""
        edits = cls(forced=set(forked.forced), flow_inputs=dict.fromkeys(forked.flow_inputs))
        for q, values in forked.outputs:
            edits.outputs[q] = edited_outputs(origin, q, values)
        edits.inputs = {q: dict(values) for q, values in forked.inputs}
        edits.names = {q: label_of(origin.view, q) for q in (*edits.outputs, *edits.inputs)}
        return edits

    def upon(self, earlier: Edits) -> Edits:
        """These and earlier ones of the same origin. Of two that exclude each other the later one holds."""

        def joined(old: _Asked, new: _Asked, without: _Asked) -> _Asked:
            kept = {q: of for q, of in old.items() if q not in without}
            return {q: {**kept.get(q, {}), **new.get(q, {})} for q in {**kept, **new}}

        outputs = joined(earlier.outputs, self.outputs, self.inputs)
        return Edits(
            outputs,
            joined(earlier.inputs, self.inputs, self.outputs),
            (earlier.forced | self.forced) - outputs.keys(),
            {**earlier.flow_inputs, **self.flow_inputs},
            {**earlier.names, **self.names},
            self.gone,
        )

    def spec(self, origin: Origin) -> Spec:
        """As `spec_of`, before anything is recorded: an edited value is told by its name alone."""
        return Spec(
            {q: origin.view.points[q].value for q in self.outputs},
            dict.fromkeys(self.inputs, ()),
            frozenset(self.forced),
            bool(self.flow_inputs),
        )

    def forked(self, origin: Origin, held: Callable[[str, Any], Value], flow_inputs: Iterable[str]) -> Forked:
        """What the fork's `begun` says; `held` records a value, given its place."""
        outputs = []
        for q, edited in self.outputs.items():
            p = origin.view.points[q]
            recorded = dict(p.value or ()) if p.ok else {}
            new = {name: held(f"{self.names[q]}.{name}", value) for name, value in edited.items()}
            names = recorded or new  # in the order in which the step names them
            outputs.append((q, tuple((name, new[name] if name in new else recorded[name]) for name in names)))
        inputs = [
            (q, tuple((name, held(f"{self.names[q]}.in.{name}", value)) for name, value in of.items()))
            for q, of in self.inputs.items()
        ]
        return Forked(
            origin.exec_id, origin.segments, tuple(outputs), tuple(inputs), tuple(sorted(self.forced)),
            tuple(flow_inputs), origin.last,
        )  # fmt: skip


def edits_of(
    origin: Origin,
    *,
    start: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    again: Iterable[str] = (),
    inputs: Mapping[str, Any] | None = None,
    outputs_of: Callable[[str], tuple[str, ...] | None] = lambda _: None,
) -> Edits:
    """Resolve what a person asks of a fork.

    Parameters
    ----------
    start
        A REF: what started at or after it runs again.
    overrides
        Values by the names that the module's docstring shows.
    again
        Names of steps, all of whose records run again.
    inputs
        Inputs of the flow, by name.
    outputs_of
        The names that a step's code gives its outputs; None where it has one, or is not known. The record of a step
        that failed does not say them.

    Raises
    ------
    NotFoundError
        A name means no record of the origin; the message says what there is.
    InvalidNameError
        It is none of these forms.
    UsageError
        One record is asked for in two ways that exclude each other.
    """
    edits = Edits()
    if overrides is not None and not (
        isinstance(overrides, Mapping) and all(isinstance(key, str) for key in overrides)
    ):
        raise UsageError(f'overrides={overrides!r:.60}: write {{"checkpoint.classify#2": value}}')
    for key, value in (overrides or {}).items():
        _override(edits, origin, key, value, outputs_of)
    for name, value in (inputs or {}).items():
        _flow_input(edits, origin, name, value, f"{name}=")
    for rid, given in edits.outputs.items():
        names = _outputs(origin, rid, outputs_of)
        _check_whole(edits.names[rid], given, names, failed=not origin.view.points[rid].ok)
        edits.outputs[rid] = {name: given[name] for name in names if name in given}
        edits.settle(rid)
    if start is not None:
        edits.forced |= from_(origin.view, find(origin, parse_ref(start)))
    for name in again:
        found = rerun(origin.view, [name])
        if not found:
            names = sorted({p.start.name for p in origin.view.points.values()})
            raise NotFoundError(f"{origin.exec_id} has no step {name} to run again; it has: {', '.join(names)}")
        edits.forced |= found
    edits.forced -= edits.outputs.keys()
    return edits


def _override(
    edits: Edits, origin: Origin, key: str, value: Any, outputs_of: Callable[[str], tuple[str, ...] | None]
) -> None:
    kind, dot, rest = key.partition(".")
    if kind == "input" and rest:
        _flow_input(edits, origin, rest, value, key)
        return
    is_wait = kind == "wait" and bool(rest)
    if kind == "type" and rest:
        _of_type(edits, origin, rest, value)
        return
    ref = parse_ref(rest if (kind == "checkpoint" and dot) or is_wait else key)
    rid = find(origin, ref)
    if is_wait and origin.view.points[rid].start.type != "wait":
        waits = sorted({p.start.name for p in origin.view.points.values() if p.start.type == "wait"})
        raise NotFoundError(f"{origin.exec_id} has no wait {rest}; it has: {', '.join(waits) or 'none'}")
    label = edits.names[rid] = label_of(origin.view, rid)
    if ref.argument is not None:
        edits.name(f"{label}.in.{ref.argument}", key)
        _input(edits, origin, rid, ref.argument, value)
        return
    names = _outputs(origin, rid, outputs_of)
    if ref.output is not None:
        if ref.output not in names:
            raise NotFoundError(f"{label} of {origin.exec_id} has no output {ref.output}; it has: {', '.join(names)}")
        new = {ref.output: value}
    else:
        new = {names[0]: value} if len(names) == 1 else _members(label, names, value)
    for name in new:
        edits.name(f"{label}.{name}", key)
    edits.outputs.setdefault(rid, {}).update(new)


def _outputs(origin: Origin, rid: Id, outputs_of: Callable[[str], tuple[str, ...] | None]) -> list[str]:
    """The names of a record's outputs: its own; of one that has none, those that its code says."""
    p = origin.view.points[rid]
    if p.ok and p.value:
        return [name for name, _ in p.value]
    return list(outputs_of(p.start.name) or ("output",))


def _check_whole(label: str, given: Mapping[str, Any], names: list[str], *, failed: bool) -> None:
    """What failed has no outputs that could stand beside those that are given."""
    missing = [name for name in names if name not in given] if failed else []
    if missing:
        raise UsageError(f"{label} failed, and has no output that could stay: give {', '.join(missing)} as well")


def _members(label: str, names: list[str], value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and set(value) == set(names):
        return {name: value[name] for name in names}
    if isinstance(value, (tuple, list)) and len(value) == len(names):
        return dict(zip(names, value, strict=True))
    raise UsageError(
        f"{label} has the outputs {', '.join(names)}: give one value for each, as a tuple or a dict, or name one "
        f"of them, {label}.{names[0]}"
    )


def _input(edits: Edits, origin: Origin, rid: Id, argument: str, value: Any) -> None:
    start = origin.view.points[rid].start
    if argument not in dict(start.arguments):
        taken = ", ".join(name for name, _ in start.arguments) or "none"
        label = label_of(origin.view, rid)
        raise NotFoundError(f"{label} of {origin.exec_id} has no input {argument}; it has: {taken}")
    edits.inputs.setdefault(rid, {})[argument] = value


def _of_type(edits: Edits, origin: Origin, rest: str, value: Any) -> None:
    kind, into, argument = rest.partition(".in.")
    if not into or not argument:
        raise InvalidNameError(f"type.{rest} is no override: write type.TYPE.in.ARGUMENT")
    points = [p for p in origin.view.points.values() if p.start.type == kind]
    found = [p.id for p in points if argument in dict(p.start.arguments)]
    if not found:
        if points:
            taken = ", ".join(sorted({name for p in points for name, _ in p.start.arguments})) or "none"
            raise NotFoundError(
                f"{origin.exec_id} has no step of the type {kind} with an input {argument}; such steps have: {taken}"
            )
        kinds = ", ".join(sorted({p.start.type for p in origin.view.points.values() if p.start.type})) or "none"
        raise NotFoundError(f"{origin.exec_id} has no step of the type {kind}; it has the types: {kinds}")
    for rid in found:
        edits.names[rid] = label_of(origin.view, rid)
        edits.inputs.setdefault(rid, {}).setdefault(argument, value)


def _flow_input(edits: Edits, origin: Origin, name: str, value: Any, key: str) -> None:
    names = [n for n, _ in origin.begun.arguments]
    if name not in names:
        raise NotFoundError(f"{origin.begun.flow} has no input {name}; it has: {', '.join(names) or 'none'}")
    edits.name(f"input.{name}", key)
    edits.flow_inputs[name] = value


# ---------------------------------------------------------------- records by their names


def find(origin: Origin, ref: Ref) -> Id:
    """The record that a REF means in the origin's view. Raises `NotFoundError` with what there is instead."""
    if ref.exec_id is not None and ref.exec_id != origin.exec_id:
        raise UsageError(f"{ref} is of another execution than {origin.exec_id}, which is forked")
    if ref.number is not None:
        return origin.data.find(ref).id
    pending = origin.data.pending
    if pending is not None and pending.path == ref.path and (expected := origin.expect()) is not None:
        return expected
    body: Id | None = None
    for part in ref.path:
        found = _named(origin.view, body, part)
        if found is None:
            ids = origin.view.inner.get(body, ())
            near = sorted({origin.view.points[q].start.name for q in ids})
            raise NotFoundError(
                f"{origin.exec_id} has no checkpoint {'/'.join(map(str, ref.path))}; "
                f"{'there is' if body is None else 'inside of it there is'}: {', '.join(near[:8]) or 'none'}"
            )
        body = found
    if body is None:
        raise InvalidNameError(f"{ref} names no checkpoint")
    return body


def _named(view: View, body: Id | None, part: Part) -> Id | None:
    """The newest of the records that one name means."""
    ids = view.named(body, part.name).by_ordinal
    if part.side:
        side = ids.get(None, [])
        return side[part.ordinal - 1] if part.ordinal <= len(side) else None
    found = ids.get(part.ordinal)
    return max(found, key=lambda q: view.points[q].began) if found else None


def edited_outputs(origin: Origin, rid: Id, values: Iterable[Argument]) -> dict[str, Value]:
    """Those of a step's outputs in a fork that are others than were recorded; all, where none is."""
    p = origin.view.points.get(rid)
    before = {name: value.digest for name, value in p.value or ()} if p is not None and p.ok else {}
    return {name: value for name, value in values if before.get(name) != value.digest} or dict(values)


def label_of(view: View, rid: Id) -> str:
    """The path of a record in a view: ``outer#1/classify#2``; of one that was inherited, as far as that is known."""
    way: list[Id | None] = [rid, *view.around(rid)]
    parts = []
    for n, q in enumerate(way):
        if q is None:
            break
        start, body = view.points[q].start, way[n + 1] if n + 1 < len(way) else None
        if start.ordinal is not None:
            parts.append(str(Part(start.name, start.ordinal)))
        else:
            side = view.named(body, start.name).by_ordinal.get(None, [])
            parts.append(str(Part(start.name, side.index(q) + 1 if q in side else 1, True)))
    return "/".join(reversed(parts))


def gone(steps: Iterable[str]) -> str:
    """What to say of steps that ran and have no code any more."""
    return f"the code of {listed(steps)} is not here any more, which counts as changed: nothing of it is reused"


def listed(labels: Iterable[str], most: int = 5) -> str:
    """The first names of many, and how many more there are: ``ask#2, ask#3 and 17 more``."""
    names = list(labels)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
