"""The engine: it decides each call, runs what has to run, and records what came of it.

One core serves sync and async code alike. What a step does is written once, as a generator that yields *effects*
(upload, run the body, wait until durable, sleep) and does no I/O itself; see `effects`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from . import codecs
from .clock import Clock
from .codecs.spans import part_digests
from .context import IN_ORDER, Frame, current, passed_on, tagged
from .effects import Outcome, Raised, Steps
from .errors import (
    CorruptionError,
    KeyMissingError,
    KitaruDivergenceError,
    KitaruError,
    StepTimeoutError,
    StoreError,
    UnrecordableValueError,
    UsageError,
)
from .executions import put_together
from .failures import Failure, raise_again, record
from .fingerprints import Fingerprint, changed
from .journal import Halt, Journal
from .lineage_graph import build, dumps, lineage_key
from .location import is_trusted
from .matching import Body, Call, Decision, Fork, Spec, View, cut, decide
from .notices import warn
from .ownership import Claimed, State
from .pools import Pools, drain, drain_async
from .previews import preview, preview_line
from .records import (
    NOWHERE,
    Argument,
    Begun,
    Ended,
    FlowEnded,
    Id,
    Logged,
    Record,
    Release,
    Reused,
    Saved,
    Started,
    Value,
)
from .stores.base import Store
from .threads import follow

__all__ = ["Definition", "Engine", "Recorder", "Settings", "Tally", "read_value"]

INLINE = 32 << 10
"""Values up to this many bytes travel inside the record; larger ones are blobs."""


LINEAGE_AT_ONCE = 150
"""Up to so many records the lineage is stored before the run returns: about a hundredth of a second."""


class Definition(Protocol):
    """What the engine asks of a step."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def retries(self) -> int: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def type(self) -> str | None: ...
    @property
    def outputs(self) -> tuple[str, ...] | None: ...
    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of what it takes; the free variables of a closure are not among them."""
        ...

    @property
    def lenient(self) -> bool:
        """An output that cannot be recorded is noted as such, and fails nothing."""
        ...

    def code(self) -> Fingerprint:
        """The fingerprint of its body."""
        ...

    def source(self) -> str | None:
        """The text of its body, where it can be had."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How an execution is run."""

    on_drift: str = "reuse"  # or "rerun", "error"
    max_workers: int = 32


@dataclass(slots=True)
class Tally:
    """What a run of the flow reused and ran: steps directly in the flow, and the seconds that reuse saved."""

    reused: int = 0
    ran: int = 0
    saved: float = 0.0
    changed: dict[str, list[str]] = field(default_factory=dict)  # reused steps whose own code has changed since


# ---------------------------------------------------------------- effects


@dataclass(slots=True)
class _Upload:
    """Large values, as blobs, side by side; durable before the record that names them."""

    recorder: Recorder
    blobs: list[tuple[bytes, bytes]]

    def run(self) -> None:
        if len(self.blobs) == 1:
            self.recorder.put_blob(*self.blobs[0])
            return
        for future in [self.recorder.pools.io.submit(self.recorder.put_blob, *b) for b in self.blobs]:
            future.result()

    async def arun(self) -> None:
        import asyncio

        futures = [self.recorder.pools.io.submit(self.recorder.put_blob, *b) for b in self.blobs]
        await asyncio.gather(*map(asyncio.wrap_future, futures))


@dataclass(slots=True)
class _Load:
    """Recorded values again. What keeps them from being read is no failure of the step: no `except` may swallow it."""

    recorder: Recorder
    values: tuple[Value, ...]

    def run(self) -> tuple[Any, ...]:
        try:
            return tuple(self.recorder.load(value) for value in self.values)
        except KitaruError as e:
            raise self.recorder.stop(e) from e

    async def arun(self) -> tuple[Any, ...]:
        if not any(self.recorder.is_far(value) for value in self.values):
            return self.run()
        import asyncio

        return await asyncio.to_thread(self.run)


@dataclass(slots=True)
class _Durable:
    """Everything up to this ticket stands in the journal."""

    journal: Journal
    ticket: int

    def run(self) -> None:
        self.journal.wait(self.ticket)

    async def arun(self) -> None:
        await self.journal.wait_async(self.ticket)


@dataclass(slots=True)
class _Sleep:
    clock: Clock
    seconds: float

    def run(self) -> None:
        self.clock.sleep(self.seconds)

    async def arun(self) -> None:
        await self.clock.asleep(self.seconds)


@dataclass(slots=True)
class _Drain:
    """What a body submitted ends before the body does. After a failure, what has not begun never will."""

    frame: Frame
    cancel: bool

    def run(self) -> None:
        drain(self.frame.submitted, cancel=self.cancel)

    async def arun(self) -> None:
        await drain_async(self.frame.submitted, cancel=self.cancel)


@dataclass(slots=True)
class Attempt:
    """A body, run once, under its frame. Only an `Exception` is an outcome: the rest goes through."""

    frame: Frame
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    timeout: float | None
    clock: Clock

    def run(self) -> Outcome:
        frame, began = self.frame, self.clock.monotonic()
        if self.timeout is not None:
            return self._run_limited(self.timeout, began)
        token = current.set(frame)
        frame.enter()
        try:
            value = self.function(*self.args, **self.kwargs)
        except Exception as e:
            return Outcome(error=e, took=self.clock.monotonic() - began)
        finally:
            current.reset(token)
        return Outcome(value, took=self.clock.monotonic() - began)

    def _run_limited(self, timeout: float, began: float) -> Outcome:
        """In a thread of its own: a synchronous body cannot be stopped, only left alone."""
        done: Future[Outcome] = Future()
        unlimited = replace(self, timeout=None)
        context = contextvars.copy_context()

        def work() -> None:
            try:
                done.set_result(context.run(unlimited.run))
            except BaseException as e:
                done.set_exception(e)

        threading.Thread(target=work, name=f"kitaru-{self.frame.label}", daemon=True).start()
        try:
            return done.result(timeout)
        except TimeoutError:
            if done.done():
                return done.result()
            return self._late(timeout, began)

    def _late(self, timeout: float, began: float) -> Outcome:
        self.frame.closed = "took longer than its timeout"
        error = StepTimeoutError(
            f"{self.frame.label} took longer than its timeout of {timeout:g} s. What it does from here on is not "
            "recorded; raise timeout=, or give it less to do"
        )
        return Outcome(error=error, took=self.clock.monotonic() - began)

    async def arun(self) -> Outcome:
        import asyncio

        frame, began = self.frame, self.clock.monotonic()
        token = current.set(frame)
        frame.enter()
        frame.awaits = True
        try:
            if self.timeout is None:
                value = await self.function(*self.args, **self.kwargs)
            else:
                async with asyncio.timeout(self.timeout) as limit:
                    value = await self.function(*self.args, **self.kwargs)
        except TimeoutError as e:
            if self.timeout is not None and limit.expired():
                return self._late(self.timeout, began)
            return Outcome(error=e, took=self.clock.monotonic() - began)
        except Exception as e:
            return Outcome(error=e, took=self.clock.monotonic() - began)
        finally:
            current.reset(token)
        return Outcome(value, took=self.clock.monotonic() - began)


# ---------------------------------------------------------------- values


def read_value(store: Store, value: Value, *, trusted: bool, script: str | None, data: bytes | None = None) -> Any:
    """The value that a record holds; `data` where the record says that it stands elsewhere in the journal.

    Raises
    ------
    CorruptionError
        Where the bytes do not have the digest that the record names.
    """
    if value.data is not None:
        data = value.data
    elif data is None:
        key = _blob_key(value.digest)
        try:
            data = store.get(key)
        except KeyMissingError as e:
            raise CorruptionError(
                f"{key} is missing, and a record needs it: restore it from a copy of {store.url}"
            ) from e
    if hashlib.sha256(data).digest() != value.digest:
        where = _blob_key(value.digest) if value.blob else "a value in the journal"
        raise CorruptionError(
            f"{where} is not what was recorded: {len(data)} bytes whose SHA-256 is not {value.digest.hex()}. "
            "It is not used; restore it from a copy"
        )
    return codecs.decode(data, trusted=trusted, script=script)


def _blob_key(digest: bytes) -> str:
    return f"blobs/{digest.hex()[:2]}/{digest.hex()}"


class Recorder:
    """The values of one execution: which of them stand in its journal or in blobs already, and new ones."""

    def __init__(
        self, store: Store, pools: Pools, script: str | None, journal: Journal, stop: Callable[[KitaruError], Halt]
    ) -> None:
        self.stop = stop
        self.store, self.pools, self.script, self.journal = store, pools, script, journal
        self.trusted = is_trusted(store)
        self._known: dict[bytes, Value] = {}
        self._uploaded: set[bytes] = set()
        self._opaque: set[str] = set()

    def learn(self, record: Record) -> None:
        """The values in `record` stand in the journal: they need not be recorded again."""
        if isinstance(record, Started):
            values: Iterable[Argument] = record.arguments
        elif isinstance(record, Reused):
            values = (*record.start.arguments, *(record.value if record.ok else ()))
        elif isinstance(record, (Ended, FlowEnded)):
            values = record.value if record.ok and record.value is not None else ()
        elif isinstance(record, Begun):
            values = record.arguments
        elif isinstance(record, Saved):
            values = ((record.name, record.value),)
        else:
            return
        for _, value in values:
            if (value.data is not None or value.blob) and value.digest not in self._known:
                self._known[value.digest] = value

    def value(self, encoded: codecs.Encoded, of: Any, blobs: list[tuple[bytes, bytes]]) -> Value:
        """`of` as a record holds it; where it is large and new, its bytes are put onto `blobs`."""
        digest, data, kind = encoded
        known = self._known.get(digest)
        if known is not None:
            return Value(digest, known.size, kind, known.preview, None, known.blob)
        if len(data) <= INLINE:
            return Value(digest, len(data), kind, preview(of), data)
        if digest not in self._uploaded:
            blobs.append((digest, data))
        return Value(digest, len(data), kind, preview(of), None, True, part_digests(data))

    def put_blob(self, digest: bytes, data: bytes) -> None:
        """Make a blob durable. One that exists has the same content, by its name."""
        key = _blob_key(digest)
        self.journal.insist(lambda: self.store.put_if_absent(key, data), key)
        self._uploaded.add(digest)

    def is_far(self, value: Value) -> bool:
        """Whether reading it takes a request."""
        known = self._known.get(value.digest, value)
        return value.data is None and known.data is None

    def load(self, value: Value) -> Any:
        """The value again, as a fresh object. A store that does not answer is asked again, as for a write."""
        known = self._known.get(value.digest)
        data = known.data if known is not None else None

        def read() -> Any:
            return read_value(self.store, value, trusted=self.trusted, script=self.script, data=data)

        return self.journal.insist(read, f"blob {value.digest.hex()}") if self.is_far(value) else read()

    def warn_opaque(self, step: str, kind: str) -> None:
        """Say once that a value was pickled where reading it back will need the user's trust."""
        if kind == "pickle" and not self.trusted and step not in self._opaque:
            self._opaque.add(step)
            warn(
                f"an output of {step} has no data format and was pickled. {self.store.url} is not marked as trusted, "
                "so a resume will refuse to load it: set KITARU_TRUST to that address, or return plain data"
            )


# ---------------------------------------------------------------- the engine

_ANEW = Decision("run", "new")
_FIXED = frozenset({bool, int, float, complex, str, bytes, type(None), range})
_COMPARED = 256 << 10
"""Arguments up to this size are looked at again after the body, for changes in place; more would cost too much."""


@dataclass(slots=True)
class _Made:
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
    blobs: list[tuple[bytes, bytes]]
    changeable: list[tuple[str, Any, bytes]]  # arguments that the body can change in place, and their digests


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
    ) -> None:
        assert claimed.journal is not None
        assert claimed.beat is not None
        self.store, self.journal, self.begun = store, claimed.journal, begun
        self.exec_id = claimed.reading.exec_id
        self.settings, self.clock, self.say = settings, clock, say
        self.tally = Tally()
        follow()
        self.pools = Pools(settings.max_workers, self.leave)
        self.recorder = Recorder(store, self.pools, begun.script, self.journal, self._stop)
        self._heartbeat = claimed.heartbeat
        self.lock = threading.RLock()
        self._codes: dict[Definition, Fingerprint] = {}
        self._parts: dict[bytes, Mapping[str, str]] = {}  # codes whose source stands in the journal
        self._took: dict[Id, float] = {}
        self._failed: dict[Id, str] = {}  # where the failure that a record passed on came from
        self._key = b""
        self._released: str | None = None
        self._view = View()
        self._records: list[Record] = []  # for the lineage at the end; they share their values with what is known
        self._done: set[tuple[Any, ...]] = set()  # saves and logs that stand in the journal
        self._beside: dict[tuple[Any, ...], int] = {}  # how many of them side tasks of the flow's body made, by content
        self._stopped: BaseException | None = None
        for segment in claimed.reading.segments:
            self._key = self._key or segment.nonce
            for r in segment.records:
                self._learn(r)
        self._key = self._key or claimed.journal.first_nonce
        self._released = None
        self._view.inherit()
        self._own_cut = cut(self._view)
        self._fork = Fork(View(), Spec())
        self._claimed: set[Id] = self._view.claimed()
        self._next = max((q[1] for q in self._view.points if q[0] == self.exec_id), default=0) + 1
        self.recorder.learn(begun)
        self.beat = claimed.beat
        self.frame = Frame(self, None, Body(code.digest), None, begun.flow)

    def _learn(self, r: Record) -> None:
        self._records.append(r)
        self._view.add(r)
        self.recorder.learn(r)
        if isinstance(r, Saved):
            self._done.add((r.record, "save", r.name, r.ordinal))
            if r.record is None and r.ordinal <= 0:
                key: tuple[Any, ...] = ("save", r.name, r.value.digest)
                self._beside[key] = self._beside.get(key, 0) + 1
        elif isinstance(r, Logged):
            self._done.add((r.record, "log", r.ordinal))
            if r.record is None and r.ordinal <= 0:
                key = ("log", repr(dict(r.data)))
                self._beside[key] = self._beside.get(key, 0) + 1
        elif isinstance(r, Started) and r.parts is not None:
            self._parts[r.own_code] = r.parts
        elif isinstance(r, Ended):
            self._took[r.id] = r.took
        elif isinstance(r, Release):
            self._released = r.status

    def _stop(self, error: KitaruError) -> Halt:
        """This run goes no further, whoever swallows what is raised."""
        halt = Halt(error)
        self.leave(halt)
        return halt

    def leave(self, error: BaseException) -> None:
        """Something left a body that is no failure of it: the flow cannot end as if nothing had happened."""
        if self._stopped is None and type(error).__name__ != "CancelledError":
            self._stopped = error

    def _go_on(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _write(self, r: Record, size: int = 0) -> int:
        """Add a record to the journal and to what is known, in one order. With the lock held."""
        if self._released is not None:  # a worker that still ran when the flow's body was left
            raise Halt(UsageError(f"{self.exec_id} was let go ({self._released}): what still runs is not recorded"))
        ticket = self.journal.add(r, size)
        self._learn(r)
        return ticket

    def skip_ordinals(self) -> None:
        """Steps that a person runs count on from those that are recorded."""
        for p in self._view.walk():
            if p.start.parent is None and p.start.ordinal is not None:
                counts = self.frame.counts
                counts[p.start.name] = max(counts.get(p.start.name, 0), p.start.ordinal)

    # ------------------------------------------------------------ a call is made

    def call(
        self,
        frame: Frame,
        step: Definition,
        arguments: Iterable[tuple[str, Any]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        anew: bool = False,
    ) -> _Made:
        """Decide a call of `step` that `frame`'s body makes now. `arguments` are what counts, by name.

        `anew`: a person asks for it to run, whatever is recorded.
        """
        frame.check_open()
        self._go_on()
        encoded = [
            (name, v, codecs.encode(v, place=f"{step.name}.in.{name}", otherwise="refer")) for name, v in arguments
        ]
        inputs = tuple((name, e.digest) for name, _, e in encoded)
        code = self.code_of(step)
        with self.lock:
            lane = frame.lane()
            ordinal = frame.next(step.name) if lane == IN_ORDER else None
            call = Call(frame.body, step.name, ordinal, inputs)
            d = _ANEW if anew else decide(call, self._view, self._own_cut, self._fork, self._claimed)
            if d.drifted:
                d = self._drift(call, d, encoded)
            if d.record is not None:
                self._claimed.add(d.record.id)
                frame.claim(d.record.id)
            if d.own and d.record is not None:
                rid = d.record.id
            else:
                rid = (self.exec_id, self._next)
                self._next += 1
                self._claimed.add(rid)
                frame.claim(rid)
            label = self._label(frame, step.name, ordinal, rid)
            past = tuple(q for ln, q in frame.handed if lane in (IN_ORDER, ln)) if frame.handed else ()
            if past and not (d.own and d.do == "reuse"):
                frame.handed[:] = [x for x in frame.handed if x[1] not in past]  # it is recorded
            blobs: list[tuple[bytes, bytes]] = []
            taken_up = d.record.start if d.own and d.record is not None else None
            if d.do == "reuse" and d.own and taken_up is not None:
                started = taken_up
                if taken_up.own_code != code.digest:
                    before = self._parts.get(taken_up.own_code, {})
                    self.tally.changed[step.name] = changed(before, code.parts)
            else:
                values = tuple((name, self.recorder.value(e, v, blobs)) for name, v, e in encoded)
                first = code.digest not in self._parts
                started = Started(
                    rid,
                    frame.record,
                    step.name,
                    ordinal,
                    inputs,
                    frame.body.code,
                    d.counterpart,
                    d.claims,
                    d.ran_with,
                    d.instead,
                    past,
                    values,
                    code.digest,
                    code.parts if first else None,
                    step.source() if first else None,
                    step.type,
                    taken_up.attempt + 1 if taken_up else 1,
                    self.clock.time(),
                )
                if d.do == "reuse":
                    assert d.record is not None
                    self._write(Reused(started, d.how == "edited" or d.record.ok, d.value, started.at))
                elif not blobs:
                    self._write(started, _size(values))
        changeable = [
            (name, v, e.digest)
            for name, v, e in encoded
            if d.do == "run" and name in step.parameters and type(v) not in _FIXED
            if e.kind == "data" and len(e.data) <= _COMPARED
        ]
        return _Made(step, frame, lane, args, kwargs, d, rid, label, started, blobs, changeable)

    def _drift(self, call: Call, d: Decision, encoded: list[tuple[str, Any, codecs.Encoded]]) -> Decision:
        """A call at a record's place with other inputs, where nothing but a clock can have moved."""
        assert d.record is not None
        before = d.record.start
        digests = dict(before.inputs)
        names = [name for name, _, e in encoded if digests.get(name) != e.digest] or [
            name for name in digests if name not in dict(call.inputs)
        ]
        old = {name: value.preview for name, value in before.arguments}
        new = {name: preview(v) for name, v, _ in encoded}
        text = "; ".join(
            f"{name}: recorded {preview_line(dict(old.get(name, {})), 60)}, now {preview_line(new.get(name, {}), 60)}"
            for name in names
        )
        if d.do == "run":
            return d  # it was in flight: it is taken up, with what it is called with now
        what = f"{call.name}#{call.ordinal} of {self.exec_id} is called with other inputs than were recorded ({text})"
        if self.settings.on_drift == "error":
            raise self._stop(
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

    def _label(self, frame: Frame, name: str, ordinal: int | None, rid: Id) -> str:
        around = "" if frame.record is None else f"{frame.label}/"
        if ordinal is not None:
            return f"{around}{name}#{ordinal}"
        beside = self._view.named(frame.record, name).by_ordinal.get(None, [])
        return f"{around}{name}~{beside.index(rid) + 1 if rid in self._view.points else len(beside) + 1}"

    def code_of(self, step: Definition) -> Fingerprint:
        """The fingerprint of a body, as it is at its first call in this attempt."""
        found = self._codes.get(step)
        if found is None:
            found = self._codes[step] = step.code()
        return found

    # ------------------------------------------------------------ and carried out

    def perform(self, made: _Made) -> Steps:
        """What becomes of a call, as effects. Returns the output, or raises the step's failure."""
        d, step, rid = made.decision, made.step, made.rid
        top = made.frame.record is None
        if d.do == "reuse":
            return (yield from self._recorded(made, top))
        started = made.started
        if made.blobs:
            yield _Upload(self.recorder, made.blobs)
            with self.lock:
                made.frame.check_open()
                self._write(started, _size(started.arguments))
                made.label = self._label(made.frame, step.name, started.ordinal, rid)  # now it has its number
        code = self.code_of(step).digest
        body = Body(code, rid if d.own else d.instead or NOWHERE, d.counterpart, d.own, d.settled)
        if top:
            self.tally.ran += 1
        tries = 0
        while True:
            made.frame.check_open()
            self._look_after_a_gap()
            frame = Frame(self, rid, body, made.frame, made.label)
            outcome: Outcome = yield Attempt(frame, step.function, made.args, made.kwargs, step.timeout, self.clock)
            error = outcome.error
            if frame.submitted and frame.closed is None:
                yield _Drain(frame, cancel=error is not None)
            frame.closed = frame.closed or "has ended"
            blobs: list[tuple[bytes, bytes]] = []
            values: tuple[Argument, ...] = ()
            if error is None:
                try:
                    values = self._outputs(step, made.label, outcome.value, blobs)
                except UnrecordableValueError as e:
                    error = e
            if blobs:
                yield _Upload(self.recorder, blobs)
            if error is None:
                changes = self._changes(made)
                with self.lock:
                    made.frame.check_open()
                    ended = Ended(rid, True, values, (), outcome.took, self.clock.time())
                    ticket = self._write(ended, _size(values))
                yield _Durable(self.journal, ticket)
                for name in changes:
                    warn(
                        f"{made.label} changed its argument {name} in place. A resume gives back what a step returned "
                        "and does not run it, so that change would be missing: change a copy, and return that"
                    )
                return outcome.value
            again = tries < step.retries and not isinstance(error, (UnrecordableValueError, UsageError))
            failure = record(error).to_wire()
            with self.lock:
                made.frame.check_open()
                # One exception object may be raised by several steps: what counts is what happened inside of this one.
                because = tuple(q for q in passed_on(error, self.exec_id) if rid in self._view.around(q))
                ended = Ended(rid, False, failure, because, outcome.took, self.clock.time(), again)
                ticket = self._write(ended)
            if not again:
                yield _Durable(self.journal, ticket)
                self._failed[rid] = next((self._failed[q] for q in because if q in self._failed), made.label)
                return Raised(tagged(error, rid))
            tries += 1
            yield _Sleep(self.clock, _backoff(tries))
            made.frame.check_open()
            again_started = replace(started, attempt=started.attempt + tries, at=self.clock.time())
            body = self._begin_again(again_started, body, frame.claims)

    def _changes(self, made: _Made) -> list[str]:
        """The arguments that the body changed in place: what a step does to them is not recorded."""
        out = []
        for name, value, digest in made.changeable:
            try:
                now = codecs.encode(value, place=f"{made.label}.in.{name}", otherwise="refer").digest
            except UnrecordableValueError:
                now = b""
            if now != digest:
                out.append(name)
        return out

    def _begin_again(self, started: Started, body: Body, claims: set[Id]) -> Body:
        """A retry is a resume of this one record: what finished inside it is found again, and what it took is free."""
        rid = started.id
        with self.lock:
            self._write(started)
            self._view.inherit()
            self._own_cut = cut(self._view)
            self._claimed -= {p.id for p in self._view.walk(rid)} | claims
            self._claimed |= self._view.claimed()
        return replace(body, own=rid, own_settled=True)

    def _recorded(self, made: _Made, top: bool) -> Steps:
        """The recorded output, or the recorded failure raised again as its own type."""
        d = made.decision
        assert d.record is not None
        if top:
            self.tally.reused += 1
            self.tally.saved += self._took.get(d.record.id, 0.0)
        if d.how != "edited" and not d.record.ok:
            self._failed[made.rid] = made.label
            return Raised(tagged(raise_again(Failure.from_wire(d.value), script=self.begun.script), made.rid))
        values = yield _Load(self.recorder, tuple(value for _, value in d.value))
        if made.step.outputs is None and len(d.value) == 1 and d.value[0][0] == "output":
            return values[0]
        return values

    def failed_at(self, error: BaseException) -> str | None:
        """The step that a failure of the flow came from; None where it is the flow's own."""
        return next((self._failed[q] for q in passed_on(error, self.exec_id) if q in self._failed), None)

    def _outputs(
        self, step: Definition, label: str, value: Any, blobs: list[tuple[bytes, bytes]]
    ) -> tuple[Argument, ...]:
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
        for name, part in parts:
            try:
                encoded = codecs.encode(part, place=f"{label}.{name}")
            except UnrecordableValueError:
                if not step.lenient:
                    raise
                encoded = codecs.encode(part, place=f"{label}.{name}", otherwise="refer")
            self.recorder.warn_opaque(step.name, encoded.kind)
            out.append((name, self.recorder.value(encoded, part, blobs)))
        return tuple(out)

    def _look_after_a_gap(self) -> None:
        """After a gap of its own (a laptop that slept) an owner looks before it begins another body."""
        if self.clock.monotonic() - self.journal.last_life > 2 * self._heartbeat:
            self.journal.look()

    # ------------------------------------------------------------ what a body records of itself

    def save(self, frame: Frame, name: str, value: Any, kind: str | None) -> None:
        """`kitaru.save`: once for each place in the body, however often it resumes."""
        frame.check_open()
        encoded = codecs.encode(value, place=f"{frame.label}.{name}")
        blobs: list[tuple[bytes, bytes]] = []
        with self.lock:
            ordinal = self._once(frame, ("save", name), encoded.digest)
            if ordinal is None:
                return
            held = self.recorder.value(encoded, value, blobs)
        if blobs:
            _Upload(self.recorder, blobs).run()
        self.recorder.warn_opaque(frame.label, encoded.kind)
        kind = None if kind is None else _text(kind)
        with self.lock:
            frame.check_open()
            self._write(Saved(frame.record, name, ordinal, held, kind, self.clock.time()), _size(((name, held),)))

    def log(self, frame: Frame, data: Mapping[str, Any]) -> None:
        """`kitaru.log`: likewise."""
        plain = {_text(key): _plain(v) for key, v in data.items()}
        with self.lock:
            frame.check_open()
            ordinal = self._once(frame, ("log",), repr(plain))
            if ordinal is not None:
                self._write(Logged(frame.record, ordinal, plain, self.clock.time()))

    def _once(self, frame: Frame, what: tuple[str, ...], content: Any) -> int | None:
        """The ordinal of the next save or log; None where the flow's body has it recorded.

        In order they are told apart by place, and in side tasks, which may come in another order, by content: those
        have the ordinals 0, -1, … With the lock held.
        """
        in_order = frame.lane() == IN_ORDER
        if in_order:
            ordinal = frame.next(what)
            return None if frame.record is None and (frame.record, *what, ordinal) in self._done else ordinal
        turn = frame.next((*what, content))
        if frame.record is None and turn <= self._beside.get((*what, content), 0):
            return None
        beside = sum(1 for done in self._done if done[:-1] == (frame.record, *what) and done[-1] <= 0)
        return -beside

    def idempotency_key(self, frame: Frame) -> str:
        """The same on every attempt of this step, and on no other step of any execution.

        The step's own start is durable before the key is handed out: after a crash its number is its own.
        """
        frame.check_open()
        self.journal.flush()
        text = f"{self.exec_id}/{0 if frame.record is None else frame.record[1]}".encode()
        return hashlib.sha256(self._key + text).hexdigest()[:32]

    # ------------------------------------------------------------ the end

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Steps:
        """The flow's body, from its top to its end. Returns its `Outcome`."""
        outcome: Outcome = yield Attempt(self.frame, function, args, kwargs, None, self.clock)
        yield _Drain(self.frame, cancel=outcome.error is not None)
        self._go_on()
        if outcome.error is None:
            outcome.error = yield from self.finish(outcome.value)
        else:
            yield from self.fail(outcome.error)
        return outcome

    def finish(self, value: Any) -> Steps:
        """The flow's body ended well. Returns the exception that keeps its result from being recorded, if any."""
        try:
            encoded = codecs.encode(value, place="result")
        except UnrecordableValueError as e:
            yield from self.fail(e)
            return e
        blobs: list[tuple[bytes, bytes]] = []
        held = self.recorder.value(encoded, value, blobs)
        if blobs:
            yield _Upload(self.recorder, blobs)
        self.recorder.warn_opaque(self.begun.flow, encoded.kind)
        now = self.clock.time()
        with self.lock:
            self._write(FlowEnded(True, (), (("output", held),), now), _size((("output", held),)))
            ticket = self._write(Release("completed", "", now))
        yield _Durable(self.journal, ticket)
        self._close("completed")
        return None

    def fail(self, error: Exception) -> Steps:
        """The flow's body raised."""
        now, failure = self.clock.time(), record(error).to_wire()
        with self.lock:
            self._write(FlowEnded(False, passed_on(error, self.exec_id), failure, now))
            ticket = self._write(Release("failed", "", now))
        yield _Durable(self.journal, ticket)
        self._close("failed")
        return None

    def interrupt(self, reason: str, status: str = "interrupted") -> None:
        """The flow's body was left: KeyboardInterrupt, SystemExit, a cancelled task. It can be resumed at once."""
        ended = None
        try:
            if self._released is None:  # else its end was under way: nothing comes after that
                with self.lock:
                    self._write(Release(status, reason, self.clock.time()))
            self.journal.flush()
            ended = self._released
        except (Halt, StoreError):
            pass
        finally:
            self._close(ended)

    def abandon(self) -> None:
        """Let go without a word: fenced, or the store is gone. The lease runs out by itself."""
        self._close(None)

    def _close(self, status: str | None) -> None:
        self.frame.closed = "has ended"
        self.journal.close()
        self.pools.close()
        self.beat.end(status)
        if status is not None:
            self.journal.write_pack()
        if status in {"completed", "failed", "cancelled"}:
            store = functools.partial(self._store_lineage, status)
            if len(self._records) <= LINEAGE_AT_ONCE:
                store()
            else:  # nobody waits for it but the interpreter, when it ends
                later = threading.Timer(0.01, store)  # a busy thread would keep the one that returns waiting
                later.name = f"kitaru-lineage-{self.exec_id}"
                later.start()

    def _store_lineage(self, status: str) -> None:
        """Put the graph beside the journal. It is derived, and made again where it is missing: no failure is one."""
        state = State(epoch=self.journal.epoch, status=status, begun=self.begun)
        with contextlib.suppress(Exception):
            graph = build(put_together(self.exec_id, state, self._records))
            self.store.put(lineage_key(self.exec_id), dumps(graph))


def _size(values: Iterable[Argument]) -> int:
    return sum(len(v.data) for _, v in values if v.data is not None)


def _backoff(tries: int) -> float:
    """Seconds before the next attempt: exponential, with jitter."""
    from tenacity import RetryCallState, wait_exponential, wait_random

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = tries
    return (wait_exponential(multiplier=0.5, max=60.0) + wait_random(0.0, 0.5))(state)


def _plain(value: Any) -> Any:
    """Metadata is read by people and tools that have none of the user's types."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {_text(str(k)): _plain(v) for k, v in value.items()}
    return preview_line(preview(value))


def _text(text: str) -> str:
    """Text that a record can hold: lone surrogates are written out."""
    return text.encode("utf-8", "backslashreplace").decode()
