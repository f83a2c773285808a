"""A branch: the steps that a person ran by hand, in their order, over the forks that they hang together by.

The branch of a fork is that of its origin up to where it was forked, with what the fork says of those steps in their
place, and behind them what was run in the fork. Folding its outputs gives the namespace after each step. Pure, from
records; no value is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import NotFoundError, UsageError
from .executions import CheckpointData, ExecutionData
from .forks import Origin
from .records import Forked, Id, Value
from .refs import Ref, parse_ref

__all__ = ["Branch", "Held", "Plain", "Step", "branch_of", "forked_by_hand"]


@dataclass(frozen=True, slots=True)
class Plain:
    """A cell that was run between steps and not recorded: what it was, and which names it read and bound.

    Attributes
    ----------
    label : str
        ``In[3]``.
    source : str
    reads, binds : tuple of str
    found : dict of str to str
        The digests of what it read, by name, where a step had given that.
    kept : bool
        It was not run again before the step that was: what it had made was taken as it was.
    """

    label: str
    source: str
    reads: tuple[str, ...]
    binds: tuple[str, ...]
    found: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> Plain:
        reads, binds = tuple(notes["reads"]), tuple(notes["binds"])
        return cls(notes["label"], notes["source"], reads, binds, notes.get("found", {}), bool(notes.get("kept")))

    def to_notes(self) -> dict[str, Any]:
        out = {"label": self.label, "source": self.source, "reads": list(self.reads), "binds": list(self.binds)}
        return {**out, **({"found": dict(self.found)} if self.found else {}), **({"kept": True} if self.kept else {})}


@dataclass(frozen=True, slots=True)
class Held:
    """What a variable holds after a step.

    Attributes
    ----------
    value : Value
        As it is recorded.
    step : str
        The path of the step that it was recorded with.
    names : tuple of str
        Where it is recorded as a document: the variables of that document, which share objects, itself among them.
        Empty where the value stands for itself.
    """

    value: Value
    step: str
    names: tuple[str, ...] = ()
    is_taken: bool = False  # a plain cell made it, and the step has recorded it with what it read


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a branch.

    Attributes
    ----------
    data : CheckpointData
        The newest record of it on this branch.
    exec_id : str
        The execution whose journal that stands in.
    outputs : tuple of (str, Value)
        As this branch has them: an edit takes the place of what was recorded.
    edited : tuple of str
        The outputs that were edited on this branch.
    source : str
        The text of its cell.
    decision : str
        How the branch's own execution came by it: ``inherited`` from the origin, ``reused`` or ``edited`` there, or
        ``ran``.
    inner : tuple of CheckpointData
        The checkpoints of the steps and flows that it called, in the order of their starts.
    owed : tuple of str
        What it has not given, and what stood at its place before gave: it failed since.
    """

    data: CheckpointData
    exec_id: str
    outputs: tuple[tuple[str, Value], ...]
    edited: tuple[str, ...] = ()
    source: str = ""
    decision: str = "ran"
    inner: tuple[CheckpointData, ...] = ()
    owed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.data.label

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def notes(self) -> Mapping[str, Any]:
        return self.data.notes

    @property
    def is_unnamed(self) -> bool:
        """Whether it was recorded without a name of its own: another step of its name is another cell."""
        return bool(self.notes.get("unnamed"))

    @property
    def plain(self) -> tuple[Plain, ...]:
        """The cells that were run before it, and were not recorded."""
        return tuple(Plain.from_notes(n) for n in self.notes.get("plain", ()))

    @property
    def deleted(self) -> tuple[str, ...]:
        return tuple(self.notes.get("deleted", ()))

    @property
    def taken(self) -> dict[str, Held]:
        """What it read that a plain cell had made: it was recorded with this step."""
        unrecorded = self.notes.get("unrecorded", ())
        return {
            name: Held(value, self.label, self.group_of(name, read=True), is_taken=True)
            for name, value in self.data.arguments
            if name in unrecorded
        }

    def group_of(self, name: str, *, read: bool = False) -> tuple[str, ...]:
        """The variables of the document that an output, or what was `read`, is; empty where it is none."""
        groups = self.notes.get("documents_read" if read else "documents", ())
        return next((tuple(g) for g in groups if name in g), ())


@dataclass(slots=True)
class Branch:
    """The steps of a branch, in order.

    Attributes
    ----------
    exec_id : str
        The execution that the branch ends in.
    """

    exec_id: str
    steps: list[Step] = field(default_factory=list)
    ids: dict[Id, int] = field(default_factory=dict, repr=False)  # where the step of a record stands, here or before

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def find(self, label: str) -> int:
        """The place of the step with this path (``clean`` means ``clean#1``). Raises `NotFoundError`."""
        wanted = label if "#" in label or "~" in label else f"{label}#1"
        for n, step in enumerate(self.steps):
            if step.label == wanted:
                return n
        near = ", ".join(step.label for step in self.steps[-8:])
        raise NotFoundError(f"the branch of {self.exec_id} has no step {label}; it has: {near or 'none yet'}")

    def place_of(self, text: str | Ref) -> int:
        """Likewise, of a REF within the execution; ``@3`` is the third step of the branch."""
        ref = parse_ref(f"{self.exec_id}:{text}") if isinstance(text, str) else text
        if ref.number is None:
            return self.find("/".join(map(str, ref.path[:1])))
        if ref.number > len(self.steps):
            raise NotFoundError(f"the branch of {self.exec_id} has {len(self)} steps; there is no @{ref.number}")
        return ref.number - 1

    def state(
        self, upto: int | None = None, *, places: Iterable[int] | None = None, reader: Step | None = None
    ) -> dict[str, Held]:
        """The variables after the first `upto` steps, or after those at `places`; after all when left out.

        With a `reader`, as that step found them: with what it read that plain cells had made.
        """
        out: dict[str, Held] = {}
        for step in self._steps(upto, places):
            out |= step.taken
            if step.data.status != "completed":
                continue  # what a failed cell left behind was never recorded
            for name in step.deleted:
                out.pop(name, None)
            for name, value in step.outputs:
                names = () if name in step.edited else step.group_of(name)
                out[name] = Held(value, step.label, names)
        return out if reader is None else out | reader.taken

    def _steps(self, upto: int | None, places: Iterable[int] | None) -> list[Step]:
        return self.steps[:upto] if places is None else [self.steps[n] for n in places]

    def imports(
        self, upto: int | None = None, *, places: Iterable[int] | None = None, reader: Step | None = None
    ) -> dict[str, str]:
        """The variables that hold imported code, likewise: "module", or "module:name"."""
        out: dict[str, str] = {}
        for step in self._steps(upto, places):
            out |= step.notes.get("imports_read", {})
            if step.data.status == "completed":
                for name in (*step.deleted, *(name for name, _ in step.outputs)):
                    out.pop(name, None)
                out |= step.notes.get("imports", {})
        return out if reader is None else out | reader.notes.get("imports_read", {})

    def newest_source(self, of: Step) -> str:
        """The text that a step of this one's name was run with last, whatever became of it."""
        if of.is_unnamed:
            return of.source
        return next((step.source for step in reversed(self.steps) if step.name == of.name and step.source), "")

    def current(self) -> list[int]:
        """The places of the steps that count now, in the order in which they count.

        A step that was run again takes the place of the earlier one of its name, so that what comes behind that one
        is held against the new result. One that went on from the earlier one's own result follows it, and so does
        one that nobody has named, for it need not be the same cell.
        """
        out: list[int] = []
        for place, step in enumerate(self.steps):
            before = next((n for n in reversed(out) if self.steps[n].name == step.name), None)
            if before is None or step.is_unnamed:
                out.append(place)
                continue
            earlier = self.steps[before]
            made = {(name, value.digest) for name, value in earlier.outputs}
            if any((name, value.digest) in made for name, value in step.data.arguments):
                out.append(place)
            elif step.data.status == "completed" or earlier.data.status != "completed":
                out[out.index(before)] = place
        return out

    def upto(self, place: int) -> Branch:
        """The branch that ends after the step at this place."""
        return Branch(self.exec_id, self.steps[: place + 1], {q: n for q, n in self.ids.items() if n <= place})


def branch_of(data: ExecutionData, origin: Origin | None) -> Branch:
    """The branch of an execution whose steps were run by hand, with all that it inherited from its `origin`."""
    before = branch_of(origin.data, origin.before) if origin is not None else Branch("")
    fork, options = data.begun.fork, data.begun.options
    steps, ids = list(before.steps), dict(before.ids)
    if (at := options.get("at")) is not None:
        place = before.find(at) if at else -1
        steps, ids = steps[: place + 1], {q: n for q, n in ids.items() if n <= place}
    steps = [replace(step, decision="inherited") for step in steps]
    for q, values in fork.outputs if fork is not None else ():
        if q not in ids:
            continue
        step = steps[ids[q]]
        old = dict(step.outputs)
        names = tuple(name for name, value in values if name not in old or old[name].digest != value.digest)
        outputs = tuple((name, data.index.full(value)) for name, value in values)
        steps[ids[q]] = replace(
            step, outputs=outputs, edited=tuple(dict.fromkeys((*step.edited, *names))), decision="edited"
        )
    inner: dict[Any, list[CheckpointData]] = {}
    for c in data.checkpoints:
        if len(c.path) > 1:
            inner.setdefault(c.path[0], []).append(c)
    for c in data.checkpoints:
        if len(c.path) != 1:
            continue
        inside = tuple(inner.get(c.path[0], ()))
        source = data.sources.get(c.own_code, "")
        there = ids.get(c.start.counterpart) if c.start is not None and c.start.claims else None
        if there is None:
            ids[c.id] = len(steps)
            steps.append(Step(c, data.exec_id, c.outputs, (), source, inner=inside))
            continue
        ids[c.id] = there
        if c.reused_from is not None:
            known = steps[there]
            how = "edited" if known.decision == "edited" else "reused"
            kept = replace(known.data, id=c.id)
            steps[there] = replace(known, data=kept, exec_id=data.exec_id, outputs=c.outputs, decision=how)
        else:
            given = (*steps[there].owed, *(name for name, _ in steps[there].outputs))
            owed = () if c.status == "completed" else tuple(dict.fromkeys(given))
            steps[there] = Step(c, data.exec_id, c.outputs, (), source, inner=inside, owed=owed)
    return Branch(data.exec_id, steps, ids)


def forked_by_hand(
    origin: Origin, overrides: Mapping[str, Any], held: Callable[[str, Any], Value], earlier: Forked | None = None
) -> Forked:
    """What the fork of an execution whose steps were run by hand says in its `begun`; `held` records a value.

    What an earlier fork of the same origin says holds where these overrides say nothing else.

    Raises
    ------
    NotFoundError
        There is no such step or output on the branch; the message says what there is.
    UsageError
        It is no output: an input of such a step is another step's output, and is edited there.
    """
    branch = branch_of(origin.data, origin.before)
    ids = {n: q for q, n in branch.ids.items()}
    outputs: dict[Id, dict[str, Value]] = {}
    for q, values in earlier.outputs if earlier is not None else ():
        outputs[q] = {name: held(name, value) for name, value in values}
    for key, value in overrides.items():
        ref = parse_ref(key.removeprefix("checkpoint."))
        if ref.argument is not None or key.startswith(("input.", "type.", "wait.")):
            raise UsageError(
                f"{key} cannot be edited in {origin.exec_id}, whose steps were run by hand: edit the output of the "
                "step that it comes from"
            )
        place = branch.place_of(ref)
        step = branch.steps[place]
        recorded = dict(step.outputs)
        name = ref.output or (next(iter(recorded)) if len(recorded) == 1 else None)
        if name is None or name not in recorded:
            there = ", ".join(f"{step.label}.{n}" for n in recorded) or "none"
            what = f"no output {ref.output}" if ref.output else "more than one output" if recorded else "no output"
            raise NotFoundError(f"{step.label} of {origin.exec_id} has {what}; it has: {there}")
        outputs.setdefault(ids[place], recorded)[name] = held(f"{step.label}.{name}", value)
    edited = tuple((q, tuple(of.items())) for q, of in outputs.items())
    return Forked(origin.exec_id, origin.segments, edited, last=origin.last)
