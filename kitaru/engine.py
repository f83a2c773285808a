"""The engine: it decides each call, runs what has to run, and records what came of it.

One core serves sync and async code alike. What a step does is written once, as a generator that yields *effects*
(upload, run the body, wait until durable, sleep) and does no I/O itself; see `effects`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .answers import Answers, Ask, in_doubt, waits_for
from .artifacts import Recorder
from .attempts import Attempt, Drain, Durable, Hand, Load, Settling, Sleep, Uploads
from .blobs import Upload
from .calls import Calls, Cancelled, Made, OutOfTime, Pause, Recalled, Settings, Tally
from .clock import Clock
from .context import Frame, Suspend, passed_on, tagged
from .definitions import Asked, Definition
from .effects import Effect, Outcome, Raised, Steps, drive, drive_until
from .errors import KitaruError, StepInDoubtError, StoreError, UnrecordableValueError, UsageError
from .eviction import is_own_exit
from .executions import put_together
from .failures import Failure, raise_again, record
from .fingerprints import Fingerprint
from .forks import Origin, label_of, spec_of
from .history import History, size_of
from .ids import new_nonce
from .journal import Halt
from .lineage_graph import build, dumps, lineage_key
from .matching import NEVER, Body, Checkpoint, Fork, Spec, View
from .notes import Notes
from .notices import warn
from .ownership import Claimed, State
from .pools import StepFuture, drain
from .records import NOWHERE, Answered, Argument, Begun, Ended, FlowEnded, Id, Record, Release, Started
from .references import Ref
from .schemas import plain
from .stores.base import Store
from .threads import follow
from .waiting import CANCEL, DEADLINE, close, deliver, is_settled, pause_request, put_ready, read_answer, timer_key

__all__ = ["Cancelled", "Definition", "Engine", "OutOfTime", "Pause", "Settings", "Suspend", "Tally"]

LINEAGE_AT_ONCE = 150
"""Up to so many records the lineage is stored before the run returns: about a hundredth of a second."""


class Engine:
    """One attempt at running an execution."""

    def __init__(
        self,
        store: Store,
        claimed: Claimed,
        begun: Begun,
        *,
        settings: Settings,
        clock: Clock,
        code: Fingerprint,
        say: Callable[[str], None],
        origin: Origin | None = None,
        breaks: tuple[str, ...] = (),
        recorder: Recorder | None = None,
    ) -> None:
        assert claimed.beat is not None
        self.store, self.begun, self.clock, self.say = store, begun, clock, say
        follow()
        self._beyond = origin.index if origin is not None else None
        history = History(
            store, claimed, begun, max_workers=settings.max_workers, beyond=self._beyond, recorder=recorder
        )
        self.history, self.exec_id, self.lock = history, history.exec_id, history.lock
        self.journal, self.recorder, self.pools = history.journal, history.recorder, history.pools
        self.leave = history.leave
        if origin is not None and begun.fork is not None:
            fork = Fork(origin.view, spec_of(begun.fork))
            self._took = {q: c.took for q, c in origin.facts.items()}
        else:
            fork, self._took = Fork(View(), Spec()), {}
        self.tally = Tally()
        self.calls = Calls(history, fork, settings, clock, self.tally)
        self.call, self.begin, self._code_of = self.calls.call, self.calls.begin, self.calls.code_of
        notes = Notes(history, clock)
        self.save, self.log = notes.save, notes.log
        self._may_run, self._breaks = settings.admit, breaks
        self._heartbeat, self.beat = claimed.heartbeat, claimed.beat
        may_pause = settings.until is not None or settings.steps is not None or bool(settings.breaks)
        self.unawaited: dict[Steps, Coroutine[Any, Any, Any]] | None = {} if may_pause else None
        """Calls of async steps that nobody has awaited yet: a pause at the next one of a `gather` leaves them so."""
        self.waits = Answers(
            store,
            history,
            clock,
            known=settings.answers,
            now=settings.now,
            ask=settings.ask,
            script=begun.script,
            leaving=settings.leaving,
            deadline=settings.deadline,
        )
        self.cancel_asked: Answered | None = None
        self._owes = False  # its parent has not been told of its end yet
        self._timed = len(history.waits.timed)  # what others have closed, they have cleared away
        self.in_flight: dict[Any, int] = {}  # tasks that carry out calls of async steps
        self._failed: dict[Id, str] = {}  # where the failure that a record passed on came from
        flow = Body(code.digest, settled=not fork.spec.flow_inputs)
        self.frame = Frame(self, None, flow, None, begun.flow)
        self.beat.heed = self._heed

    def skip_ordinals(self) -> None:
        """Steps that a person runs count on from those that are recorded, here and in what this was forked from."""
        counts = self.frame.counts
        for view in (self.history.view, self.calls.fork.origin):
            for p in view.walk():
                if p.start.parent is None and p.start.ordinal is not None:
                    counts[p.start.name] = max(counts.get(p.start.name, 0), p.start.ordinal)

    # ------------------------------------------------------------ a call is carried out

    def perform(self, made: Made | Recalled) -> Steps:
        """What becomes of a call, as effects. Returns the output, or raises the step's failure."""
        if isinstance(made, Recalled):
            return self._given(made.step, made.record, made.record.value, made.frame)
        if made.decision.do == "reuse":
            return self._recorded(made)
        return self._run(made) if made.step.awaits is None else self._wait(made, made.step.awaits)

    def submit(self, made: Made | Recalled) -> StepFuture:
        """As `perform`, in a worker."""
        return self.pools.submit(made.frame, functools.partial(drive_until, self.perform(made), Settling))

    def carry_out(self, made: Made | Recalled) -> Any:
        """As `perform`, in this thread, which can wait."""
        if not isinstance(made, Recalled):
            return drive(self.perform(made))
        record, step = made.record, made.step
        if made.frame.record is None:
            self._count(record)
        values = record.value
        return _as_returned(step, values, self.recorder.load_all(values, lazily=step.gives_refs))

    def _count(self, reused: Checkpoint) -> None:
        self.tally.reused += 1
        self.tally.saved += self._took.get(reused.id, reused.took)

    def _run(self, made: Made) -> Steps:
        d, step, rid, started = made.decision, made.step, made.rid, made.started
        yield from self._begun(made)
        if made.in_doubt:
            decided = yield from self._decide_doubt(made)
            if decided is not None:
                return (yield from decided)
        if step.in_doubt != "rerun":
            yield Ask(self.journal.flush)  # else nobody would know that its body had begun
        edited: list[Argument] = []
        if d.ran_with:
            given = dict(started.inputs)
            edited = [(name, self.recorder.index.full(v)) for name, v in d.ran_with if given.get(name) != v.digest]
            loaded = yield Load(self.recorder, tuple(edited))
            values = {name: value for (name, _), value in zip(edited, loaded, strict=True)}
            made.args, made.kwargs = step.replaced(made.args, made.kwargs, values)
        if step.lazy or _has_ref(made.args, made.kwargs):
            recorded = dict(started.arguments) | dict(edited)
            made.args, made.kwargs = yield Hand(self.recorder, step.handed, made.args, made.kwargs, recorded)
        self._admit(made.label)
        code = self._code_of(step).digest
        body = Body(code, rid if d.own else d.instead or NOWHERE, d.counterpart, d.own, d.settled)
        if made.frame.record is None:
            self.tally.ran += 1
        tries = 0
        while True:
            made.frame.check_open()
            self._look_after_a_gap()
            frame = Frame(self, rid, body, made.frame, made.label, step)
            outcome: Outcome = yield Attempt(frame, step.function, made.args, made.kwargs, step.timeout, self.clock)
            error = outcome.error
            if frame.loose:
                frame.settle(error=error)
            if frame.submitted and frame.closed is None:
                yield Drain(frame, cancel=error is not None)
            frame.closed = frame.closed or "has ended"
            if frame.left is not None:
                raise frame.left  # its body swallowed that it came to a wait, and has no output without the answer
            blobs: list[Upload] = []
            outputs: tuple[Argument, ...] = ()
            if error is None:
                try:
                    outputs = self._outputs(step, made.label, outcome.value, blobs)
                except UnrecordableValueError as e:
                    error = e
            if blobs:
                yield Uploads(self.recorder, blobs)
            if error is None:
                changes = self._changes(made)
                self.calls.longest = max(self.calls.longest, outcome.took)
                with self.lock:
                    made.frame.check_open()
                    ended = Ended(rid, True, outputs, (), outcome.took, self.clock.time(), notes=outcome.notes)
                    ticket = self.history.write(ended, size_of(outputs))
                yield Settling(self.journal, ticket)
                for name in changes:
                    warn(
                        f"{made.label} changed its argument {name} in place. A resume gives back what a step returned "
                        "and does not run it, so that change would be missing: change a copy, and return that"
                    )
                return (yield from self._returned(step, outputs, outcome.value))
            again = tries < step.retries and not isinstance(error, (UnrecordableValueError, UsageError))
            failure = record(error).to_wire()
            with self.lock:
                made.frame.check_open()
                # One exception object may be raised by several steps: what counts is what happened inside of this one.
                because = tuple(q for q in passed_on(error, self.exec_id) if rid in self.history.view.around(q))
                ended = Ended(rid, False, failure, because, outcome.took, self.clock.time(), again, outcome.notes)
                ticket = self.history.write(ended)
            if not again:
                yield Durable(self.journal, ticket)
                self._failed[rid] = next((self._failed[q] for q in because if q in self._failed), made.label)
                return Raised(tagged(error, rid))
            tries += 1
            yield Sleep(self.clock, _backoff(tries))
            made.frame.check_open()
            again_started = replace(started, attempt=started.attempt + tries, at=self.clock.time())
            body = self._begin_again(again_started, body, frame.claims)

    def _begun(self, made: Made) -> Steps:
        """The record of its start, where large inputs go up before that. One in doubt is begun once that is decided."""
        started = made.started
        if made.blobs:
            yield Uploads(self.recorder, made.blobs)
            if not made.in_doubt:
                self._write_start(made)  # now it has its number
                made.label = self.history.label(made.frame, made.step.name, started.ordinal, made.rid)

    def _write_start(self, made: Made) -> None:
        with self.lock:
            made.frame.check_open()
            self.history.write(made.started, size_of(made.started.arguments))

    def _decide_doubt(self, made: Made) -> Generator[Effect, Any, Steps | None]:
        """What becomes of a step whose body was left by a process that died. None: it runs again."""
        label, step = made.label, made.step
        said: Any = "fail"
        if step.in_doubt == "ask":
            asked = in_doubt(label)
            answer = yield from self.waits.reach(made.frame, made.rid, label, asked)
            outcome: Outcome = yield Ask(functools.partial(self.waits.outcome_of, label, asked, answer))
            if outcome.error is not None:
                return self._settled(made, None, outcome.error)
            said = outcome.value
        if said == "rerun":
            self._write_start(made)
            return None
        if isinstance(said, Mapping) and "value" in said:
            return self._settled(made, said["value"])
        error = StepInDoubtError(
            f"{label} was running when its process died, and may have had its effect; "
            + ("somebody said that it failed" if step.in_doubt == "ask" else 'it does not run again: in_doubt="fail"')
        )
        return self._settled(made, None, error)

    def _settled(self, made: Made, value: Any, error: BaseException | None = None) -> Steps:
        """A step without a body ends: with the output that somebody gave it, or with a failure."""
        rid, now = made.rid, self.clock.time()
        blobs: list[Upload] = []
        outputs: tuple[Argument, ...] = ()
        if error is None:
            try:
                outputs = self._outputs(made.step, made.label, value, blobs)
            except UnrecordableValueError as e:
                error = e
        if blobs:
            yield Uploads(self.recorder, blobs)
        with self.lock:
            made.frame.check_open()
            if error is None:
                self.history.write(Ended(rid, True, outputs, (), 0.0, now), size_of(outputs))
            else:
                ticket = self.history.write(Ended(rid, False, record(error).to_wire(), (), 0.0, now))
        if error is not None:
            yield Durable(self.journal, ticket)
            self._failed[rid] = made.label
            return Raised(tagged(error, rid))
        return (yield from self._returned(made.step, outputs, value))

    def _wait(self, made: Made, asked: Asked) -> Steps:
        """A wait: its output is what closed it. That is in the inbox for ever, so nobody waits for its record."""
        yield from self._begun(made)
        answer = yield from self.waits.reach(made.frame, made.rid, made.label, asked)
        outcome: Outcome = yield Ask(functools.partial(self.waits.outcome_of, made.label, asked, answer))
        return (yield from self._settled(made, outcome.value, outcome.error))

    def _admit(self, label: str) -> None:
        """Ask whether this step's body may run. That it was called, and with what, is recorded by now."""
        if self._may_run is not None:
            try:
                self._may_run(label)
            except KitaruError as e:
                raise self.history.stop(e) from e

    def _changes(self, made: Made) -> list[str]:
        """The arguments that the body changed in place: what a step does to them is not recorded."""
        out = []
        for name, value, digest in made.changeable:
            try:
                now = self.recorder.encode(value, place=f"{made.label}.in.{name}", otherwise="refer").digest
            except UnrecordableValueError:
                now = b""
            if now != digest:
                out.append(name)
        return out

    def _begin_again(self, started: Started, body: Body, claims: set[Id]) -> Body:
        """A retry is a resume of this one record: what finished inside it is found again, and what it took is free."""
        rid = started.id
        with self.lock:
            self.history.write(started)
            self.calls.begin_again(rid, claims)
        return replace(body, own=rid, own_settled=True)

    def _recorded(self, made: Made) -> Steps:
        """The recorded output, or the recorded failure raised again as its own type."""
        d = made.decision
        assert d.record is not None
        if d.how != "edited" and not d.record.ok:
            if made.frame.record is None:
                self._count(d.record)
            self._failed[made.rid] = made.label
            return Raised(tagged(raise_again(Failure.from_wire(d.value), script=self.begun.script), made.rid))
        given = yield from self._given(made.step, d.record, d.value, made.frame)
        if d.how == "edited" and made.step.awaits is not None:
            return made.step.awaits.schema.load(plain(given))  # as an answer is typed, so may an edit of it be
        return given

    def _given(self, step: Definition, reused: Checkpoint, values: tuple[Argument, ...], frame: Frame) -> Steps:
        if frame.record is None:
            self._count(reused)
        if not step.gives_refs and any(self.recorder.is_far(value) for _, value in values):
            loaded = yield Load(self.recorder, values)
        else:
            loaded = self.recorder.load_all(values, lazily=step.gives_refs)
        return _as_returned(step, values, loaded)

    def _returned(self, step: Definition, outputs: tuple[Argument, ...], value: Any) -> Steps:
        """What the caller of a step that ran is given: what a resume would give him."""
        if step.gives_refs:
            return _as_returned(step, outputs, self.recorder.load_all(outputs, lazily=True))
        if type(value) is Ref or (step.outputs is not None and _has_ref(value)):
            return _as_returned(step, outputs, (yield Load(self.recorder, outputs)))
        return value

    def failed_at(self, error: BaseException) -> str | None:
        """The step that a failure of the flow came from; None where it is the flow's own."""
        return next((self._failed[q] for q in passed_on(error, self.exec_id) if q in self._failed), None)

    def _outputs(self, step: Definition, label: str, value: Any, blobs: list[Upload]) -> tuple[Argument, ...]:
        names = step.outputs
        if names is None:
            parts: Iterable[tuple[str, Any]] = (("output", value),)
        elif isinstance(value, (tuple, list)) and len(value) == len(names):
            parts = zip(names, value, strict=True)
        else:
            got = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
            raise UnrecordableValueError(
                f"{label} must return a tuple of {len(names)} values ({', '.join(names)}), as outputs= says; "
                f"it returned {got}"
            )
        out = []
        carried: set[bytes] = set()
        for name, part in parts:
            try:
                encoded = self.recorder.encode(part, place=f"{label}.{name}", ahead=True)
            except UnrecordableValueError:
                if not step.lenient:
                    raise
                encoded = self.recorder.encode(part, place=f"{label}.{name}", otherwise="refer")
            self.recorder.warn_opaque(step.name, encoded.kind)
            out.append((name, self.recorder.value(encoded, part, blobs, carried)))
        return tuple(out)

    def _look_after_a_gap(self) -> None:
        """After a gap of its own (a laptop that slept) an owner looks before it begins another body."""
        if self.clock.monotonic() - self.journal.last_life > 2 * self._heartbeat:
            self.journal.look()

    def idempotency_key(self, frame: Frame) -> str:
        """The same on every attempt of this step, and on no other step of any execution.

        The step's own start is durable before the key is handed out: after a crash its number is its own.
        """
        frame.check_open()
        self.journal.flush()
        text = f"{self.exec_id}/{0 if frame.record is None else frame.record[1]}".encode()
        return hashlib.sha256(self.history.key + text).hexdigest()[:32]

    # ------------------------------------------------------------ the end

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Steps:
        """The flow's body, from its top to its end. Returns its `Outcome`."""
        if _has_ref(args, kwargs):
            args, kwargs = yield Hand(self.recorder, _loaded, args, kwargs, {})
        exits = not self.calls.settings.may_exit
        outcome: Outcome = yield Attempt(self.frame, function, args, kwargs, None, self.clock, exits)
        if self.frame.loose:
            self.frame.settle(error=outcome.error)
        yield Drain(self.frame, cancel=outcome.error is not None)
        try:
            self.history.go_on()
        except SystemExit as e:  # of a step that was submitted
            if not (exits and is_own_exit(e)):
                raise
            outcome.error = e
        if outcome.error is None:
            self.frame.check_not_left()
            self.history.check_whole()
        if type(outcome.value) is Ref:
            (outcome.value,), _ = yield Hand(self.recorder, _loaded, (outcome.value,), {}, {})
        if outcome.error is None:
            outcome.error = yield from self.finish(outcome.value)
        else:
            yield from self.fail(outcome.error)
        return outcome

    def unmet(self) -> list[str]:
        """The edits that no call of this run has met, by the names of their records."""
        fork, claimed = self.calls.fork, self.calls.claimed
        return [label_of(fork.origin, q) for q in sorted(fork.overridden) if q not in claimed]

    def uncalled(self) -> list[str]:
        """The records that were to run again, and that no call of this run was: of nested ones the outermost.

        Not missed are what followed a failure, since it may have been there for that failure alone; and what the
        origin inherited and never came to, where it has other records of that name.
        """
        origin, forced = self.calls.fork.origin, self.calls.fork.spec.forced
        came = self.calls.claimed | {p.start.counterpart for p in self.history.view.points.values()}
        here = list(origin.walk())
        names, points = {p.start.name for p in here}, sorted(here, key=lambda p: p.began)
        failed = min((p.ended for p in here if p.ended and not p.result), default=NEVER)
        wanted = [p.id for p in points if p.id in forced and p.began < failed]
        wanted += [q for q in sorted(forced - {p.id for p in here}) if origin.points[q].start.name not in names]
        missed = dict.fromkeys(q for q in wanted if q not in came)
        return [label_of(origin, q) for q in missed if missed.keys().isdisjoint(origin.around(q))]

    def finish(self, value: Any) -> Steps:
        """The flow's body ended well. Returns the exception that keeps its result from being recorded, if any."""
        try:
            encoded = self.recorder.encode(value, place="result", ahead=True)
        except UnrecordableValueError as e:
            yield from self.fail(e)
            return e
        blobs: list[Upload] = []
        held = self.recorder.value(encoded, value, blobs)
        if blobs:
            yield Uploads(self.recorder, blobs)
        self.recorder.warn_opaque(self.begun.flow, encoded.kind)
        end = FlowEnded(True, (), (("output", held),), self.clock.time())
        yield from self._end("completed", "", (end,), size_of((("output", held),)))
        return None

    def fail(self, error: BaseException) -> Steps:
        """The flow's body raised."""
        failure = record(error).to_wire()
        end = FlowEnded(False, passed_on(error, self.exec_id), failure, self.clock.time())
        yield from self._end("failed", "", (end,))
        return None

    def cancel(self, request: Answered) -> Steps:
        """The flow's body was left since somebody asked for it."""
        yield Drain(self.frame, cancel=True)
        yield from self._end("cancelled", request.reason, ())
        return None

    def _end(self, status: str, reason: str, records: Iterable[Record], size: int = 0) -> Steps:
        """Close what is open, record the end, and tell whoever waits for it."""
        self._owes = self.begun.parent is not None
        closed = []
        for wait in self.history.waits.to_close(status):
            closing = Answered(wait, "closed", None, "", status, self.clock.time(), new_nonce())
            close_it = functools.partial(close, self.store, self.exec_id, closing, self.journal.insist)
            # Nobody is told "accepted" from here on; or somebody was, and it counts.
            closed.append((yield Ask(close_it)))
        with self.lock:
            for r in (*closed, *records):
                self.history.write(r, size if isinstance(r, FlowEnded) else 0)
            ticket = self.history.write(Release(status, reason, self.clock.time()))
        yield Durable(self.journal, ticket)
        if self.begun.parent is not None:
            yield Ask(functools.partial(self._deliver, status))
        self._close(status)
        return None

    def _deliver(self, status: str) -> None:
        """To its parent's inbox. Where that fails, whoever sees this execution ended does it again: its hints stay."""
        assert self.begun.parent is not None
        with contextlib.suppress(StoreError, Halt):
            deliver(self.store, self.exec_id, self.begun.parent[0], status, self.clock.time(), self.journal.insist)
            self._owes = False

    def interrupt(self, reason: str) -> None:
        """The flow's body was left: KeyboardInterrupt, SystemExit, a cancelled task. It can be resumed at once.

        That is recorded where the store answers within a moment: whoever leaves does not wait for long.
        """
        self.journal.hurry()
        self.recorder.give_up()
        self.release(reason, "interrupted")

    def release(self, reason: str, status: str, before: Started | None = None) -> bool:
        """Let the execution go. Gives whether that is durable."""
        ended = None
        try:
            release = Release(status, reason, self.clock.time(), before, self._breaks)
            with contextlib.suppress(Halt), self.lock:  # where its end was under way nothing comes after that
                self.history.write(release, size_of(before.arguments) if before is not None else 0)
            self.journal.flush()
            ended = self.history.released
        except (Halt, StoreError):
            pass
        finally:
            self._close(ended)
        return ended is not None

    def _rest(self, reason: str, status: str, before: Started | None = None) -> None:
        """Let it go, where somebody is told that it rests: who is told so can rely on it."""
        if not self.release(reason, status, before) or self.history.released != status:
            raise Halt(self.journal.halted or StoreError(f"{self.exec_id} could not be let go: it was taken over"))

    def pause(self, pause: Pause) -> None:
        """The flow's body was left at the boundary of a step. What was submitted before ends first."""
        drain(self.frame.submitted, cancel=True)
        for work in (self.unawaited or {}).values():
            work.close()
        try:
            before, uploads = pause.record()
            self.recorder.upload(uploads)
        except (Halt, StoreError):
            before = None
        self._rest("paused before a step", "paused", before)

    async def land(self) -> None:
        """After the flow's body was left at a wait: what its tasks are at ends first, or comes to a wait of its own."""
        import asyncio

        for _ in range(3):  # those that were made just now begin
            await asyncio.sleep(0)
        me = asyncio.current_task()
        while tasks := [task for task in self.in_flight if task is not me and not task.done()]:
            await asyncio.wait(tasks)

    def suspend(self) -> None:
        """The flow's body came to a wait. What it began beside that ends first, or comes to a wait of its own."""
        drain(self.frame.submitted, cancel=False)
        self.history.go_on()
        for work in (self.unawaited or {}).values():
            work.close()
        waits = tuple(map(waits_for, self.history.waits.open.values()))
        self._rest(f"waits for {', '.join(waits[:3])}{', …' if len(waits) > 3 else ''}", "waiting")

    def let_go(self, reason: str) -> None:
        """There is no time for the next step: whoever makes a pass takes it up again."""
        drain(self.frame.submitted, cancel=True)
        put_ready(self.store, self.exec_id, f"{DEADLINE}@{self.journal.epoch}", self.journal.insist)
        self._rest(reason, "interrupted")

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked for a cancel, or for a pause."""
        return self.cancel_asked is not None or self.calls.pause_asked is not None

    def _heed(self) -> None:
        """Look for requests; a thread of the heartbeat does, now and then. They take effect before the next step."""
        with contextlib.suppress(StoreError):
            if self.cancel_asked is None and (found := read_answer(self.store, self.exec_id, CANCEL)) is not None:
                self.cancel_asked = found
                self.leave(Cancelled(found))
            if self.calls.pause_asked is None:
                self.calls.pause_asked = read_answer(self.store, self.exec_id, pause_request(self.journal.epoch))

    def abandon(self) -> None:
        """Let go without a word: fenced, or the store is gone. The lease runs out by itself."""
        self._close(None)

    def _close(self, status: str | None) -> None:
        self.frame.closed = "has ended"
        self.journal.close()
        self.pools.close()
        gone: list[str] = []
        if status is not None and not self._owes:
            rest = State(status=status)
            waits = self.history.waits
            gone = [h.key for h in self.calls.settings.hints if is_settled(h, rest, waits)]
            if status != "interrupted":  # else one of them may be what it is found by
                gone += [timer_key(w.due or 0.0, self.exec_id, w.wait) for w in waits.timed[self._timed :]]
        if (served := self.calls.settings.served) is not None:
            served += gone
            gone = []
        self.beat.end(status, gone)
        if status is None:
            return
        ended = status in {"completed", "failed", "cancelled"}
        self.journal.write_last_pack(ended=ended)
        if ended:
            if len(self.history.records) <= LINEAGE_AT_ONCE:
                self._store_lineage(status)
            else:  # nobody waits for it but the interpreter, when it ends
                store = functools.partial(self._store_lineage, status, late=True)
                later = threading.Timer(0.01, store)  # a busy thread would keep the one that returns waiting
                later.name = f"kitaru-lineage-{self.exec_id}"
                later.start()

    def _store_lineage(self, status: str, *, late: bool = False) -> None:
        """Put the graph beside the journal. It is derived, and made again where it is missing: no failure is one."""
        state = State(epoch=self.journal.epoch, status=status, begun=self.begun)
        with contextlib.suppress(Exception):
            graph = dumps(build(put_together(self.exec_id, state, self.history.records, beyond=self._beyond)))
            # Else it was resumed meanwhile, and whoever did that knows more.
            if not late or not self.journal.is_fenced():
                self.store.put(lineage_key(self.exec_id), graph)


def _as_returned(step: Definition, values: tuple[Argument, ...], loaded: list[Any]) -> Any:
    """The outputs as the step returned them: one value, or a tuple by `outputs=`."""
    if step.outputs is None and len(loaded) == 1 and values[0][0] == "output":
        return loaded[0]
    return tuple(loaded)


def _has_ref(args: Iterable[Any], kwargs: Mapping[str, Any] = MappingProxyType({})) -> bool:
    return Ref in map(type, args) or (bool(kwargs) and Ref in map(type, kwargs.values()))


def _loaded(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Callable[[str, Any], Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """A flow takes values, and gives one."""
    args = tuple(v.load() if type(v) is Ref else v for v in args)
    return args, {name: v.load() if type(v) is Ref else v for name, v in kwargs.items()}


def _backoff(tries: int) -> float:
    """Seconds before the next attempt: exponential, with jitter."""
    from tenacity import RetryCallState, wait_exponential, wait_random

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = tries
    return (wait_exponential(multiplier=0.5, max=60.0) + wait_random(0.0, 0.5))(state)
