"""The replay contract: which record a call gets, and what becomes of the call. Pure: no I/O, no threads, no clock.

A *body* is the code of the flow or of a step while it runs. It makes *calls*. A call is decided when it is made, not
when a worker starts it. Its *place* is the record around it, its name, and its ordinal among the calls of that name
which the body makes in order, that is from the task or thread that runs it. A call from a side task has no place.

`View` is what an execution knows: it folds records as they are written, so that a decision costs the same at the
first step and at the ten-thousandth. `decide` is a function of the own view, the origin's view with the edits asked
of it (`Fork`), and of what was claimed so far. `plan` forecasts from records alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from .collecting import kept
from .records import NOWHERE, Ended, FlowEnded, Id, Record, Reused, Started

__all__ = [
    "NEVER",
    "Body",
    "Call",
    "Checkpoint",
    "Decision",
    "Fork",
    "Spec",
    "View",
    "cut",
    "decide",
    "fold",
    "from_",
    "plan",
    "recall",
    "rerun",
]

Position = tuple[float, ...]
"""Where something happened in a journal. Inner steps of a reused record lie within its position."""

NEVER: Position = (inf,)


@dataclass(slots=True)
class Checkpoint:
    """One record of a view, from its start to its end."""

    start: Started
    began: Position
    ended: Position | None = None  # None: in flight
    ok: bool = False
    value: Any = None
    reused: bool = False
    firm: bool = True  # it did not follow a failure that was run again later: its place counts
    result: bool = False  # it has an output, or a failure that the code around it went on from
    took: float = 0.0  # seconds of its last attempt

    @property
    def id(self) -> Id:
        return self.start.id

    def moved(self, by: Position = ()) -> Checkpoint:
        """A copy, within the position `by`."""
        s = self
        ended = s.ended and by + s.ended
        return Checkpoint(s.start, by + s.began, ended, s.ok, s.value, s.reused, s.firm, s.result, s.took)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a fork asks for, resolved to records of the origin's view."""

    outputs: Mapping[Id, Any] = field(default_factory=dict)  # overrides of outputs
    inputs: Mapping[Id, tuple[Any, ...]] = field(default_factory=dict)  # overrides of a step's inputs
    forced: frozenset[Id] = frozenset()  # from_, rerun
    flow_inputs: bool = False

    @property
    def edited(self) -> set[Id]:
        return {*self.outputs, *self.inputs, *self.forced}

    @property
    def overridden(self) -> set[Id]:
        return {*self.outputs, *self.inputs}


class _Named:
    """The records of one name in one body, found by place and by inputs. Lists are in the order of the body."""

    __slots__ = ("_by_inputs", "by_ordinal", "known")

    def __init__(self, starts: Iterable[Started]) -> None:
        self.by_ordinal: dict[int | None, list[Id]] = {}
        self._by_inputs: dict[Any, list[Id]] | None = None
        self.known: dict[Id, tuple[int | None, Any]] = {}
        for s in starts:
            if s.id not in self.known:
                self.known[s.id] = s.ordinal, s.inputs
                self.by_ordinal.setdefault(s.ordinal, []).append(s.id)

    @property
    def by_inputs(self) -> dict[Any, list[Id]]:
        """Made when it is first asked for: a resume finds nearly all by their places."""
        made = self._by_inputs
        if made is None:
            made = self._by_inputs = {}
            for q, (_, inputs) in self.known.items():
                made.setdefault(inputs, []).append(q)
        return made

    def add(self, s: Started) -> None:
        """A new record, or one that was taken up again, perhaps with other inputs or at another place."""
        now, old = (s.ordinal, s.inputs), self.known.get(s.id)
        if old == now:
            return
        self.known[s.id] = now
        lists = [self.by_ordinal.setdefault(now[0], [])]
        if self._by_inputs is not None:
            lists.append(self._by_inputs.setdefault(now[1], []))
        if old is None:
            for ids in lists:
                ids.append(s.id)
            return
        self.by_ordinal[old[0]].remove(s.id)
        if self._by_inputs is not None:
            self._by_inputs[old[1]].remove(s.id)
        rank = {q: n for n, q in enumerate(self.known)}
        for ids in lists:
            ids.insert(bisect_left([rank[q] for q in ids], rank[s.id]), s.id)


_NONE = _Named(())


class View:
    """What an execution knows: its records by id, and by the body that made them.

    `inner` maps a record (None: the flow) to the records of its body, in order. `older` holds what was inherited
    and not taken over: exact matches only. `unmet` holds the edits that no call of this execution has met.
    """

    def __init__(self) -> None:
        self.points: dict[Id, Checkpoint] = {}
        self.inner: dict[Id | None, list[Id]] = {}
        self.older: dict[Id | None, list[Id]] = {}
        self.unmet = Spec()
        self._at = 0
        self._caught: set[Id] = set()  # failures that the code around them was handed and went on from
        self._fatal: set[Id] = set()  # failures that came out of a body
        self._began: list[tuple[int, Id]] = []  # in this journal's order
        self._outer: dict[Id, Id | None] | None = None
        self._named: dict[tuple[Id | None, str], _Named] = {}
        self._older: dict[tuple[Id | None, str], _Named] = {}  # likewise, of what was inherited
        self._broken: set[Id] = set()  # what ended in a failure that is no result: it runs again
        self._was: dict[str, str] = {}  # by the new name

    # ------------------------------------------------------------ folding records as they are written

    def add(self, record: Record) -> None:
        """Fold the next record of the journal."""
        at, self._at = self._at, self._at + 1
        if isinstance(record, Started):
            self._start(record, at)
        elif isinstance(record, Reused):
            s = record.start
            self._start(s, at)
            p = self.points[s.id]
            p.ended, p.ok, p.value, p.reused = (at, inf), record.ok, record.value, True
            self._catch((s.id,))
        elif isinstance(record, Ended):
            p = self.points[record.id]
            p.ended, p.ok, p.value, p.took = (at,), record.ok, record.value, record.took
            self._caught.discard(record.id)
            self._settle(record.id)
            self._leave(record.id, record.ok, record.because)
        elif isinstance(record, FlowEnded):
            self._leave(None, record.ok, record.because)

    def expect(self, s: Started) -> None:
        """A call that was made and has not begun: in flight, behind all that there is."""
        last = max((p.began for p in self.points.values()), default=(0,))
        self.points[s.id] = Checkpoint(s, (last[0] + 1,))
        self.inner.setdefault(s.parent, []).append(s.id)
        self._named.pop((s.parent, s.name), None)
        self._outer = None

    def _start(self, s: Started, at: int) -> None:
        old = self.points.get(s.id)
        began: Position = (at,)
        if old is None:
            self.inner.setdefault(s.parent, []).append(s.id)
            if self._outer is not None:
                self._outer[s.id] = s.parent
        else:
            if old.firm and (old.start.ordinal, old.start.code) == (s.ordinal, s.code):
                began = old.began
            if old.ended and not old.ok:
                # A failure runs again: what started after it may not come again.
                for _, q in self._began[bisect_left(self._began, (int(old.ended[0]), ("", -1))) :]:
                    if self.points[q].began >= old.ended:
                        self.points[q].firm = False
        if began == (at,):
            self._began.append((at, s.id))
        self.points[s.id] = Checkpoint(s, began)
        if named := self._named.get((s.parent, s.name)):
            named.add(s)
        self._broken.discard(s.id)
        self._caught.discard(s.id)
        self._fatal.discard(s.id)
        self._catch(s.past)

    def _catch(self, ids: Iterable[Id]) -> None:
        for q in ids:
            self._caught.add(q)
            if q in self.points:
                self._settle(q)

    def _leave(self, body: Id | None, ok: bool, because: tuple[Id, ...]) -> None:
        """A body ended. Well: it went on from every failure in it. Not: what it passed on is no result."""
        if ok:
            self._catch([q for q in self.inner.get(body, ()) if self.points[q].ended])
        self._fatal.update(because)
        for q in because:
            if q in self.points:
                self._settle(q)

    def _settle(self, q: Id) -> None:
        p = self.points[q]
        p.result = p.ended is not None and (p.ok or (q in self._caught and q not in self._fatal))
        if p.ended is not None and not p.result:
            self._broken.add(q)
        else:
            self._broken.discard(q)

    def inherit(self, of: Iterable[Checkpoint] | None = None) -> None:
        """Where a record ran instead of another one at its place, the inner steps of that one are its older ones.

        Done at the beginning of an attempt, and when a step is tried again for what lies inside it: what is recorded
        meanwhile is claimed by then, and not looked for.
        """
        for p in self.points.values() if of is None else of:
            i = p.start.instead
            if i is not None and not p.reused:
                self.older[p.id] = [*self.inner.get(i, ()), *self.older.get(i, ())]
        self._older.clear()

    # ------------------------------------------------------------ asking

    def named(self, body: Id | None, name: str, *, older: bool = False) -> _Named:
        """The records of `name` in `body`."""
        key, known = (body, name), self._older if older else self._named
        found = known.get(key)
        if found is None:
            ids = (self.older if older else self.inner).get(body)
            if not ids:
                return _NONE
            starts = [self.points[q].start for q in ids]
            was = self._was.get(name)
            found = known[key] = _Named(s for s in starts if s.name in (name, was))
        return found

    def rename(self, was: str, name: str) -> None:
        """Records of steps that were called `was` count as those of `name`."""
        if self._was.get(name) != was:
            self._was[name] = was
            for known in (self._named, self._older):
                for key in [key for key in known if key[1] == name]:
                    del known[key]

    def outer(self, rid: Id) -> Id | None:
        """The record whose body made it; None: the flow, or an older record."""
        return self._bodies().get(rid)

    def _bodies(self) -> dict[Id, Id | None]:
        if self._outer is None:
            self._outer = {q: body for body, ids in self.inner.items() for q in ids}
        return self._outer

    def around(self, rid: Id) -> list[Id | None]:
        """The records around it, innermost first; the last is None (the flow) unless an older record lies around it."""
        outer, out = self._bodies(), []
        at: Id | None = rid
        while at is not None and at in outer:
            at = outer[at]
            out.append(at)
        return out

    def walk(self, body: Id | None = None) -> Iterator[Checkpoint]:
        """Its records without the older ones, outer before inner."""
        todo = [iter(self.inner.get(body, ()))]
        while todo:
            q = next(todo[-1], None)
            if q is None:
                todo.pop()
                continue
            yield self.points[q]
            if q in self.inner:
                todo.append(iter(self.inner[q]))

    def cut(self) -> Position:
        """`cut(self)` of a journal's own view, at the cost of its failures alone: each retry asks for it."""
        broken = (self.points[q] for q in self._broken)
        return min((p.ended for p in broken if p.ended and not self._is_inside_a_result(p)), default=NEVER)

    def _is_inside_a_result(self, p: Checkpoint) -> bool:
        return any(self.points[a].result for a in self.around(p.id) if a is not None)

    def claimed(self) -> set[Id]:
        """Origin records that records of this (own) journal have claimed: a resume begins with these."""
        return {p.start.counterpart for p in self.points.values() if p.start.claims}


@kept()
def fold(journal: Iterable[Record], fork: Fork | None = None) -> View:
    """The view of a journal: alone, as a resume sees it; or with its `fork`, as a fork of this fork sees it."""
    own = View()
    for record in journal:
        own.add(record)
    if fork is not None:
        return _merge(own, fork)
    own.inherit()
    return own


def _merge(own: View, fork: Fork) -> View:
    """The own records, where a reused one stands for what it reused, over what the origin had and nobody claimed."""
    claimed, o, v = own.claimed(), fork.origin, View()

    def free(of: Mapping[Id | None, list[Id]]) -> dict[Id | None, list[Id]]:
        return {body: [q for q in ids if q not in claimed] for body, ids in of.items()}

    inner, older = free(o.inner), free(o.older)
    v.points = {q: p.moved() for q, p in o.points.items() if q not in claimed}
    v.points |= {q: p.moved() for q, p in own.points.items()}
    v.inner = {body: ids for body, ids in inner.items() if body in v.points}
    v.inner |= {body: list(ids) for body, ids in own.inner.items()}
    v.older = {body: ids for body, ids in older.items() if body in v.points}
    v.older[None] = inner.get(None, []) + older.get(None, [])

    def move(body: Id, by: Position) -> None:  # inner steps of a reused record happen where it stands
        todo = [body]
        while todo:
            for q in v.inner.get(todo.pop(), ()):
                v.points[q] = v.points[q].moved(by)
                todo.append(q)

    for p in own.points.values():
        c, i = p.start.counterpart, p.start.instead
        if p.reused and c not in fork.spec.outputs:
            v.inner[p.id], v.older[p.id] = inner.get(c, []), older.get(c, [])
            move(p.id, p.began)
        else:  # the inner steps of an overridden record did not make its value: older
            before = [*v.inner.get(i, ()), *v.older.get(i, ())] if i else []
            v.older[p.id] = before + inner.get(c, []) + older.get(c, [])
    ran, s = {p.start.counterpart for p in own.points.values()}, fork.spec
    far = {q for q in v.points if None not in v.around(q)}  # not come to, rather than inside a reused record
    v.unmet = Spec(
        {q: x for q, x in s.outputs.items() if q in far},
        {q: x for q, x in s.inputs.items() if q in far},
        (s.forced & far) - ran,
    )
    return v


# ---------------------------------------------------------------- a fork: one origin, and edits


class Fork:
    """An origin's view, and what is asked of it. Without an origin: a resume."""

    def __init__(self, origin: View, spec: Spec) -> None:
        unmet = origin.unmet  # what the origin was asked for and has not met is asked of its forks
        edited = spec.edited
        kept = {q: x for q, x in unmet.outputs.items() if q not in edited}
        self.origin = origin
        self.spec = Spec(
            {**kept, **spec.outputs},
            {**unmet.inputs, **spec.inputs},
            unmet.forced | spec.forced,
            spec.flow_inputs,
        )
        # Made once: `rerun` and `from_` may force 10,000 records, and each call asks.
        self.edited, self.overridden = self.spec.edited, self.spec.overridden
        # A call that matches one of these runs with the inputs that its counterpart had.
        self.same = {p.start.id for p in origin.walk()} - set(self.spec.inputs)
        self.opened = {a for q in self.edited for a in origin.around(q)}
        self.cut = cut(origin, self.edited | self.opened)


def cut(view: View, edited: Iterable[Id | None] = ()) -> Position:
    """What started before this cannot depend on an edit, or on a failure that runs again."""
    changed = set(edited)

    def runs_again(p: Checkpoint) -> bool:
        if p.id in changed:
            return True
        if p.result:
            return False
        around = (a for a in view.around(p.id) if a is not None)
        return not any(view.points[a].result and a not in changed for a in around)

    return min((p.ended for p in view.walk() if p.ended and runs_again(p)), default=NEVER)


def from_(view: View, rid: Id) -> frozenset[Id]:
    """What started at or after a record, and what it lies inside."""
    begin = view.points[rid].began
    return frozenset(p.id for p in view.walk() if p.began >= begin or rid in view.around(p.id))


def rerun(view: View, names: Iterable[str]) -> frozenset[Id]:
    """All records of these names."""
    wanted = set(names)
    return frozenset(q for q, p in view.points.items() if p.start.name in wanted)


# ---------------------------------------------------------------- a call, and what becomes of it


@dataclass(frozen=True, slots=True)
class Body:
    """The body that makes a call. *Settled*: it runs with the inputs its counterpart had, or mere drift of them."""

    code: Any
    own: Id | None = None  # its counterpart in the own journal: itself, when it was taken up again
    origin: Id | None = None  # its counterpart in the origin's view
    own_settled: bool = True
    settled: bool = True  # the flow's body: unless a flow input is edited


class Call(NamedTuple):
    """One call of a step: what `decide` is asked about."""

    body: Body
    name: str
    ordinal: int | None
    inputs: tuple[Any, ...]


class Decision(NamedTuple):
    """What becomes of a call."""

    do: str  # reuse (its output, or its failure raised again) | run
    how: str  # exact | drift | edited | forced | new
    record: Checkpoint | None = None  # claimed by this call
    own: bool = False  # that is a record of the own journal: to run means to take it up again, under its id
    value: Any = None
    counterpart: Id = NOWHERE  # for a run: these go into its started record ...
    claims: bool = False
    ran_with: tuple[Any, ...] | None = None
    instead: Id | None = None
    settled: bool = False  # ... and this into its Body
    drifted: bool = False  # warn, naming the input and both previews


_Found = tuple[Checkpoint | None, str, Checkpoint | None]


def _find(
    call: Call, view: View, under: Id | None, drift_before: Position, claimed: set[Id], opened: set[Id | None]
) -> _Found:
    """The record that matches the call and how, and the record at its place."""
    if call.ordinal is not None:
        p = _at_its_place(view, under, call.name, call.ordinal, call.inputs, claimed)
        if p is not None:
            return p, "exact", p
    points = view.points
    inner, older = view.named(under, call.name), view.named(under, call.name, older=True)
    if inner is _NONE and older is _NONE:
        return None, "new", None
    place, own_place = None, False
    if call.ordinal is not None:
        here = [points[q] for q in inner.by_ordinal.get(call.ordinal, ()) if q not in claimed]
        there = [points[q] for q in older.by_ordinal.get(call.ordinal, ()) if q not in claimed]
        exact = [p for at in (here, there) for p in at if p.start.inputs == call.inputs]
        own_place = bool(here)
        if here:
            place = max(here, key=lambda p: p.began)  # the newest
        elif there:
            place = there[0]  # the nearest
        if exact:
            held = [p for p in here if p.start.inputs == call.inputs] or exact
            return min(held, key=lambda p: p.id in opened), "exact", place
    if (
        place is not None
        and own_place
        and place.firm
        and place.start.code == call.body.code
        and place.began < drift_before
    ):
        return place, "drift", place
    side = call.ordinal is None
    for of in (inner, older):
        free = (points[q] for q in of.by_inputs.get(call.inputs, ()) if q not in claimed)
        best = None
        for p in free:
            rank = ((p.start.ordinal is None) != side, p.id in opened)
            if rank == (False, False):
                return p, "exact", place
            if best is None or rank < best[0]:
                best = rank, p
        if best:
            return best[1], "exact", place
    return None, "new", place


def _at_its_place(
    view: View, under: Id | None, name: str, ordinal: int, inputs: tuple[Any, ...], claimed: set[Id]
) -> Checkpoint | None:
    """The one record at a call's place, where it is exact: nearly always. What `_find` says as well, found sooner."""
    ids = view.named(under, name).by_ordinal.get(ordinal)
    if ids is None or len(ids) != 1 or ids[0] in claimed or view.older.get(under):
        return None
    p = view.points[ids[0]]
    return p if p.start.inputs == inputs else None


def recall(
    body: Body, name: str, ordinal: int | None, inputs: tuple[Any, ...], own: View, claimed: set[Id]
) -> Checkpoint | None:
    """The finished record that the own journal has for a call, where that is plain: as nearly always in a resume.

    `decide` says the same, and more: it is asked where this gives None.
    """
    if ordinal is None:
        return None
    p = _at_its_place(own, body.own, name, ordinal, inputs, claimed)
    return p if p is not None and p.result and p.ok else None


def decide(call: Call, own: View, own_cut: Position, fork: Fork, claimed: set[Id]) -> Decision:
    """What becomes of `call`.

    Parameters
    ----------
    own
        The view of the own journal.
    own_cut
        `cut(own)` as it was when this attempt of the execution, or of the step around, began.
    fork
        The origin's view and the edits; an empty one for a resume.
    claimed
        The records, own and origin's, that calls have taken: each can be taken once.
    """
    body, spec = call.body, fork.spec
    r, how, near = _find(call, own, body.own, own_cut if body.own_settled else (), claimed, set())
    if (
        near is not None
        and near is not r
        and near.start.code == body.code
        and near.start.claims
        and near.start.counterpart in fork.overridden
    ):
        r, how = near, "drift"  # an edit that was met stays met
    if r is not None:  # the own journal first, as a resume does; in flight: taken up as it was decided then
        s = r.start
        settled = s.claims and s.counterpart in fork.same
        do = "reuse" if r.result else "run"
        return Decision(
            do,
            how,
            r,
            True,
            r.value,
            s.counterpart,
            s.claims,
            s.ran_with,
            s.instead,
            settled,
            how == "drift",
        )
    instead = near.id if near is not None else None
    r, how, place = _find(call, fork.origin, body.origin, fork.cut if body.settled else (), claimed, fork.opened)
    if (
        place is not None
        and place is not r
        and place.start.code == body.code
        and (place.id in fork.edited or place.id in fork.opened)
    ):  # an edit is met at its place first
        r, how = (place, "drift") if place.id in fork.overridden else (None, "new")
    if r is None:  # it runs; its inner calls are looked up under the record at its place
        return Decision("run", "new", counterpart=place.id if place else NOWHERE, instead=instead)
    drifted = how == "drift"
    if r.id in spec.outputs:
        return Decision("reuse", "edited", r, False, spec.outputs[r.id], r.id, True, drifted=drifted)
    asked = r.id in fork.edited or r.id in fork.opened
    if r.result and not asked:
        return Decision("reuse", how, r, False, r.value, r.id, True, r.start.ran_with, drifted=drifted)
    ran_with = r.start.ran_with
    if r.id in spec.inputs:  # one edited input stands beside another that was edited before, for the same call
        earlier = dict(ran_with or ()) if r.start.inputs == call.inputs else {}
        ran_with = tuple({**earlier, **dict(spec.inputs[r.id])}.items())
    how = "forced" if asked else how
    return Decision("run", how, r, False, None, r.id, True, ran_with, instead, r.id in fork.same, drifted)


# ---------------------------------------------------------------- the forecast


def plan(fork: Fork) -> dict[Id, tuple[str, str]]:
    """Each record of the origin's view: reuse, rerun or depends, and the reason; from records alone.

    `reuse` and `rerun` are promises, if code is unchanged and bodies are deterministic: the call that made the
    record gets its output, or no call does. `depends`: either.
    """
    out: dict[Id, tuple[str, str]] = {}
    sure: dict[Id | None, bool] = {None: not fork.spec.flow_inputs}  # its call is made again, with the same inputs
    inside: dict[Id, bool] = {}  # a record around it is reused
    spec, origin = fork.spec, fork.origin
    for p in origin.walk():
        q = p.start.id
        outer = origin.outer(q)
        firm = p.start.ordinal is not None and p.firm and p.began < fork.cut
        sure[q] = sure[outer] and outer not in spec.inputs and firm
        inside[q] = outer is not None and (inside[outer] or out[outer][0] == "reuse")
        if inside[q]:
            out[q] = "reuse", "inside a record that is reused"
        elif q in spec.outputs:
            out[q] = ("reuse", "edited") if sure[q] else ("depends", "edited, but its call may not be made")
        elif q in fork.edited:
            out[q] = "rerun", "asked for"
        elif q in fork.opened:
            out[q] = "rerun", "an edit lies inside it"
        elif not p.result:
            out[q] = "rerun", "it has no result"
        else:
            out[q] = ("reuse", "it started before the edit") if sure[q] else ("depends", "an input may change")
    return out
