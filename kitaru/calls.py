"""Calls: each is decided when it is made, and what was decided is recorded."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .blobs import Upload
from .clock import Clock
from .codecs import Shared
from .context import IN_ORDER, Frame, Place
from .definitions import Definition
from .errors import KitaruDivergenceError
from .eviction import ASKED_TO_END, Leaving
from .fingerprints import Fingerprint, changed
from .history import History, size_of
from .matching import Call, Checkpoint, Decision, Fork, cut, decide, recall
from .notices import warn
from .previews import preview_line
from .records import NOWHERE, Answered, Argument, Id, Opened, Reused, Started
from .references import preview_of
from .waiting import Hint

__all__ = ["Calls", "Cancelled", "Made", "OutOfTime", "Pause", "Recalled", "Settings", "Tally"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How an execution is run."""

    on_drift: str = "reuse"  # or "rerun", "error"
    max_workers: int = 32
    until: str | Callable[[str], bool] | None = None  # the path of the step before which it pauses; or says so itself
    steps: int | None = None  # how many steps may run before it pauses: of the depth at which it stands, and above
    breaks: frozenset[str] = frozenset()  # names of steps, and paths: it pauses before each of them
    stands: str | None = None  # the path of the step before which it paused the last time
    admit: Callable[[str], None] | None = None  # asked by path before a step's body runs; a KitaruError ends the run
    ask: Callable[[Opened], Any] | None = None  # asks the person at the terminal; gives `Unanswered` where he leaves it
    deadline: float | None = None  # by the monotonic clock: no step begins that is not likely to have ended by then
    answers: Mapping[str, Answered] = field(default_factory=dict)  # what a pass has read of the inbox already
    now: float | None = None  # the store's clock, as it was by then
    hints: tuple[Hint, ...] = ()  # by which it was found: they go once they are settled
    served: list[str] | None = None  # where the keys of those go, to be deleted together; None: they are deleted
    leaving: Leaving | None = None  # says that its process is to end, which the thread that runs it is not told
    may_exit: bool = True  # else its body has failed where it calls `sys.exit`: this process is not the flow's


class Pause(BaseException):
    """The execution pauses before the step `label`. No `except Exception` of a body swallows it.

    Attributes
    ----------
    record : callable
        Gives the call as it would be recorded, and what has to go up first. It is asked for once nothing runs beside.
    """

    def __init__(self, label: str, record: Callable[[], tuple[Started, list[Upload]]]) -> None:
        super().__init__(label)
        self.label, self.record = label, record


class OutOfTime(BaseException):
    """Its process has to end, or will have to before the next step has: the execution is let go, and taken up again."""


class Cancelled(BaseException):
    """Somebody asked for a cancel: it takes effect before the next step."""

    def __init__(self, request: Answered) -> None:
        super().__init__(request.reason)
        self.request = request


@dataclass(slots=True)
class Tally:
    """What a run of the flow reused and ran: steps directly in the flow, and the seconds that reuse saved."""

    reused: int = 0
    ran: int = 0
    saved: float = 0.0
    changed: dict[str, list[str]] = field(default_factory=dict)  # reused steps whose own code has changed since
    unmet: list[str] = field(default_factory=list)  # edits that no call has met
    spawned: int = 0  # executions that it began
    uncalled: list[str] = field(default_factory=list)  # what was to run again, and no call came to it


_ANEW = Decision("run", "new")
_FIXED = frozenset({bool, int, float, complex, str, bytes, type(None), range})
_COMPARED = 256 << 10
"""Arguments up to this size are looked at again after the body, for changes in place; more would cost too much."""

_Input: TypeAlias = tuple[str, Any, Shared]
"""An argument's name, what was given, and that as bytes."""


@dataclass(slots=True)
class Recalled:
    """A call whose record was found finished at its place: nothing runs, and nothing is written."""

    step: Definition
    frame: Frame  # of the caller
    lane: str
    record: Checkpoint


@dataclass(slots=True)
class Made:
    """A call that was decided."""

    step: Definition
    frame: Frame  # of the caller
    lane: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    decision: Decision
    rid: Id
    label: str
    started: Started
    blobs: list[Upload]
    changeable: list[tuple[str, Any, bytes]]  # arguments that the body can change in place, and their digests
    in_doubt: bool = False  # its body was left by a process that died, and nobody has decided yet what becomes of it


class Calls:
    """What the calls of one run of an execution take: records of its own, or of what it was forked from."""

    def __init__(self, history: History, fork: Fork, settings: Settings, clock: Clock, tally: Tally) -> None:
        self.history, self.fork, self.settings, self.clock, self.tally = history, fork, settings, clock, tally
        self.exec_id, self.lock, self.recorder = history.exec_id, history.lock, history.recorder
        self.claimed: set[Id] = history.view.claimed()
        self._own_cut = cut(history.view)
        self._next = max((q[1] for q in history.view.points if q[0] == self.exec_id), default=0) + 1
        self._steps_left = settings.steps
        self._stands: str | None = settings.stands
        self.begun_steps = 0  # in this run
        self.longest = 0.0  # of those that ended in this run, in seconds
        self.pause_asked: Answered | None = None
        self._moved = False  # something has begun in this run
        self._depth = settings.stands.count("/") if settings.stands is not None else 0
        self._codes: dict[Definition, Fingerprint] = {}

    def call(
        self,
        frame: Frame,
        step: Definition,
        arguments: Iterable[tuple[str, Any]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        place: Place | None = None,
    ) -> Made | Recalled:
        """Decide a call of `step` that `frame`'s body makes now. `arguments` are what counts, by name.

        `place` is where whoever makes the call knows more of its order than the task that it is made from tells.
        """
        frame.check_open()
        frame.check_not_left()
        if frame.loose:
            frame.settle(frame.lane(), sys.exception())
        self.history.go_on()
        encoded, inputs = self._encoded(step, arguments)
        code = self.code_of(step)
        name = step.name
        with self.lock:
            lane, ordinal = (None, None) if place is None else place
            if lane is None:
                lane = frame.lane()
            if ordinal is None and lane == IN_ORDER:
                ordinal = frame.next(name)
            if step.was is not None:
                self.history.view.rename(step.was, name)
                self.fork.origin.rename(step.was, name)
            found = recall(frame.body, name, ordinal, inputs, self.history.view, self.claimed)
            if found is not None:
                self._claim(frame, found.start.id)
                if found.start.own_code != code.digest:
                    self._note_change(name, found.start, code)
                return Recalled(step, frame, lane, found)
            call = Call(frame.body, name, ordinal, inputs)
            d = decide(call, self.history.view, self._own_cut, self.fork, self.claimed)
            if d.drifted:
                d = self._drift(frame, call, d, encoded)
            return self._made(frame, step, lane, call, d, encoded, args, kwargs)

    def begin(
        self,
        frame: Frame,
        step: Definition,
        arguments: Iterable[tuple[str, Any]],
        *,
        notes: Mapping[str, Any] | None = None,
        instead: Checkpoint | None = None,
    ) -> Made:
        """As `call`, by a person: it runs, whatever is recorded; in a fork at the place of `instead`, of its origin."""
        frame.check_open()
        self.history.go_on()
        encoded, inputs = self._encoded(step, arguments)
        with self.lock:
            lane = frame.lane()
            if instead is not None:
                ordinal = instead.start.ordinal
                decision = _ANEW._replace(how="forced", counterpart=instead.id, claims=True)
            else:
                ordinal = frame.next(step.name) if lane == IN_ORDER else None
                decision = _ANEW
            call = Call(frame.body, step.name, ordinal, inputs)
            return self._made(frame, step, lane, call, decision, encoded, (), {}, notes)

    def stand_in(self, frame: Frame, reused: Checkpoint, outputs: tuple[Argument, ...]) -> None:
        """Record that a fork's step is not run by hand again: it stands for one of the origin, or for its edit."""
        self.history.go_on()
        with self.lock:
            rid = (self.exec_id, self._next)
            self._next += 1
            start = replace(
                reused.start,
                id=rid,
                parent=None,
                counterpart=reused.id,
                claims=True,
                instead=None,
                past=(),
                arguments=tuple([(name, self.recorder.named(v)) for name, v in reused.start.arguments]),
                at=self.clock.time(),
            )
            self._claim(frame, rid)
            value = tuple([(name, self.recorder.named(v)) for name, v in outputs])
            self.history.write(Reused(start, True, value, start.at))

    def _encoded(
        self, step: Definition, arguments: Iterable[tuple[str, Any]]
    ) -> tuple[list[_Input], tuple[tuple[str, bytes], ...]]:
        """What a call was given, and by what it is matched: names and digests."""
        encode = self.recorder.encode
        encoded = [(name, v, encode(v, place=f"{step.name}.in.{name}", otherwise="refer")) for name, v in arguments]
        return encoded, tuple([(name, e.digest) for name, _, e in encoded])

    def _claim(self, frame: Frame, rid: Id) -> None:
        self.claimed.add(rid)
        frame.claim(rid)

    def _note_change(self, name: str, before: Started, now: Fingerprint) -> None:
        """A finished step is reused though its own code has changed since."""
        if name not in self.tally.changed:
            parts, _ = self._code_before(before)
            self.tally.changed[name] = changed(parts, now.parts) if parts else []

    def _code_before(self, reused: Started) -> tuple[Mapping[str, str] | None, str | None]:
        """The parts and the source of the code that a reused step ran with, where they are known."""
        code = reused.own_code
        if code in self.history.parts:
            return self.history.parts[code], None
        starts = (p.start for p in self.fork.origin.points.values())
        return next(((s.parts, s.source) for s in starts if s.own_code == code and s.parts is not None), (None, None))

    def _made(
        self,
        frame: Frame,
        step: Definition,
        lane: str,
        call: Call,
        d: Decision,
        encoded: list[_Input],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        notes: Mapping[str, Any] | None = None,
    ) -> Made:
        """Claim what was decided, and record it. With the lock held."""
        code, own = self.code_of(step), d.record if d.own else None
        if d.record is not None:
            self._claim(frame, d.record.id)
        if own is not None:
            rid = own.id
        else:
            rid = (self.exec_id, self._next)
            self._next += 1
            self._claim(frame, rid)
        label = self.history.label(frame, step.name, call.ordinal, rid)
        if own is not None and d.do == "reuse":
            if own.start.own_code != code.digest:
                self._note_change(step.name, own.start, code)
            return Made(step, frame, lane, args, kwargs, d, rid, label, own.start, [], [])
        if d.do == "run" and step.awaits is None:
            self._check_time()
        if d.do == "run" and self._pauses_before(frame, label, step.name, own):
            pause = Pause(label, functools.partial(self._before, frame, step, call, d, rid, encoded))
            self.history.leave(pause)
            raise pause
        past = tuple(q for ln, q in frame.handed if lane in (IN_ORDER, ln)) if frame.handed else ()
        if past:
            frame.handed[:] = [x for x in frame.handed if x[1] not in past]  # it is recorded
        blobs: list[Upload] = []
        carried: set[bytes] = set()
        values = tuple([(name, self.recorder.value(e, v, blobs, carried)) for name, v, e in encoded])
        own_code, source = code.digest, None
        parts: Mapping[str, str] | None = None
        if code.digest not in self.history.parts:
            parts, source = code.parts, step.source()
        if d.do == "reuse" and d.how != "edited" and d.record is not None and d.record.start.own_code != own_code:
            own_code = d.record.start.own_code  # what made the output, so that it is still seen to have changed
            self._note_change(step.name, d.record.start, code)
            known = own_code in self.history.parts
            parts, source = (None, None) if known else self._code_before(d.record.start)
        started = Started(
            rid,
            frame.record,
            call.name,
            call.ordinal,
            call.inputs,
            frame.body.code,
            d.counterpart,
            d.claims,
            None if d.ran_with is None else tuple([(name, self.recorder.named(v)) for name, v in d.ran_with]),
            d.instead,
            past,
            values,
            own_code,
            parts,
            source,
            step.type,
            own.start.attempt + 1 if own is not None else 1,
            self.clock.time(),
            notes,
        )
        if d.do == "reuse":
            assert d.record is not None
            ok = d.how == "edited" or d.record.ok
            value = tuple([(name, self.recorder.named(v)) for name, v in d.value]) if ok else d.value
            self.history.write(Reused(started, ok, value, started.at))
            return Made(step, frame, lane, args, kwargs, d, rid, label, started, [], [])
        in_doubt = own is not None and own.ended is None and step.in_doubt != "rerun" and self.history.is_in_doubt(rid)
        if not blobs and not in_doubt:
            self.history.write(started, size_of(values))
        changeable = [
            (name, v, e.digest)
            for name, v, e in encoded
            if name in step.parameters and type(v) not in _FIXED
            if e.kind == "data" and e.size <= _COMPARED
        ]
        return Made(step, frame, lane, args, kwargs, d, rid, label, started, blobs, changeable, in_doubt)

    def _check_time(self) -> None:
        """Before a step begins: leave, if it would likely not have ended by the deadline, or the process is to end."""
        late: OutOfTime | None = None
        deadline = self.settings.deadline
        if deadline is not None and self.begun_steps and self.clock.monotonic() + self.longest > deadline:
            late = OutOfTime("no time was left for its next step")
        elif self.settings.leaving is not None and self.settings.leaving.asked:
            late = OutOfTime(ASKED_TO_END)
        if late is not None:
            self.history.leave(late)
            raise late
        self.begun_steps += 1

    def _pauses_before(self, frame: Frame, label: str, name: str, own: Checkpoint | None) -> bool:
        """A step is about to begin: whether to pause here. Nothing of it is recorded yet."""
        settings, stands, until = self.settings, self._stands, self.settings.until
        if self.pause_asked is not None:
            return True
        if until(label) if callable(until) else label == until:
            return True
        if own is not None and own.ended is None and settings.stands is not None:
            return False  # in flight when it paused: around the place where it stands, or beside it
        if stands is not None and stands.startswith(f"{label}/"):
            return False  # likewise in a fork
        if label == stands and not self._moved:
            self._stands = None  # it has paused here already; in a fork where something before it ran again it has not
        elif label in settings.breaks or name in settings.breaks:
            return True
        self._moved = True
        left = self._steps_left
        if left is None or frame.depth > self._depth:
            return False
        self._steps_left = left - 1 if left else 0
        return left == 0

    def _before(
        self, frame: Frame, step: Definition, call: Call, d: Decision, rid: Id, encoded: list[_Input]
    ) -> tuple[Started, list[Upload]]:
        """A call that was made and is not begun, as it would be recorded; and what has to go up first."""
        blobs: list[Upload] = []
        with self.lock:
            carried: set[bytes] = set()
            values = tuple([(name, self.recorder.value(e, v, blobs, carried)) for name, v, e in encoded])
            ran_with = d.ran_with and tuple([(name, self.recorder.named(v)) for name, v in d.ran_with])
        started = Started(
            rid,
            frame.record,
            call.name,
            call.ordinal,
            call.inputs,
            frame.body.code,
            ran_with=ran_with,
            arguments=values,
            own_code=self.code_of(step).digest,
            source=step.source(),
            type=step.type,
            at=self.clock.time(),
        )
        return started, blobs

    def _drift(self, frame: Frame, call: Call, d: Decision, encoded: list[_Input]) -> Decision:
        """A call at a record's place with other inputs, where nothing but a clock can have moved."""
        assert d.record is not None
        if d.how == "edited" or (d.own and d.counterpart in self.fork.overridden):
            return d  # an edit is met at its place, whatever it was called with
        if d.do == "run":
            return d  # it was in flight: it is taken up, with what it is called with now
        before = d.record.start
        digests = dict(before.inputs)
        names = [name for name, _, e in encoded if digests.get(name) != e.digest] or [
            name for name in digests if name not in dict(call.inputs)
        ]
        old = {name: self.recorder.index.full(value).preview for name, value in before.arguments}
        new = {name: dict(preview_of(v)) for name, v, _ in encoded}
        text = "; ".join(
            f"{name}: recorded {preview_line(dict(old.get(name, {})), 60)}, now {preview_line(new.get(name, {}), 60)}"
            for name in names
        )
        label = self.history.label(frame, call.name, call.ordinal, d.record.id)
        what = f"{label} of {self.exec_id} is called with other inputs than were recorded ({text})"
        if self.settings.on_drift == "error":
            raise self.history.stop(
                KitaruDivergenceError(
                    f"{what}. Nothing but a clock or a random number in the caller can have moved: put it in a step, "
                    'or resume with on_drift="reuse" or "rerun"'
                )
            )
        if self.settings.on_drift == "rerun":
            return Decision("run", "new", instead=d.record.id if d.own else d.instead, counterpart=NOWHERE)
        warn(
            f"{what}; its recorded output is used, since nothing but a clock or a random number in the caller can "
            "have moved. Put that in a step of its own"
        )
        return d

    def code_of(self, step: Definition) -> Fingerprint:
        """The fingerprint of a body, as it is at its first call in this attempt."""
        found = self._codes.get(step)
        if found is None:
            found = self._codes[step] = step.code()
        return found

    def begin_again(self, rid: Id, claims: set[Id]) -> None:
        """A retry is a resume of this one record: what finished inside it is found again, and what it took is free."""
        view = self.history.view
        inside = [*view.walk(rid)]
        view.inherit([view.points[rid], *inside])
        self._own_cut = view.cut()
        self.claimed -= {p.id for p in inside} | claims
        self.claimed |= {p.start.counterpart for p in inside if p.start.claims}
