"""One run of a flow: how it is begun, resumed and ended."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from .answers import result_of
from .artifacts import Recorder, Values
from .blobs import Upload
from .clock import Clock, SystemClock
from .effects import Outcome, drive, drive_async
from .engine import Cancelled, Engine, OutOfTime, Pause, Settings, Suspend
from .errors import (
    CodeNotFoundError,
    ExecutionCancelledError,
    ExecutionEndedError,
    ExecutionSuspended,
    InputsDifferError,
    StoreError,
    UsageError,
)
from .eviction import ASKED_TO_END, evictable, was_evicted
from .executions import breaks_of, put_together
from .fingerprints import fingerprint, readable, source_of
from .flows import Flow, Options
from .forks import Edits, Origin, gone, listed, open_origin
from .handles import Handle
from .ids import new_exec_id, new_nonce
from .index import Index
from .journal import Halt
from .location import check_format, current_store, prepare, store_budget
from .notices import failure_lines, replay_line, resume_line, say, tell_suspended, waiting_lines
from .ownership import Claimed, State, claim, give_back, state_of
from .pools import Pools
from .previews import preview_line
from .reading import Reading, read_journal
from .records import BLOCK, Argument, Begun, Id, Release, Reused, Started, Value
from .refs import parse_ref
from .replays import begin_fork
from .sources import script_of
from .stores.base import Store
from .terminals import terminal
from .waiting import BEGUN, CANCEL, Waits, inbox_key, persist, put_ready

__all__ = [
    "SUSPENDED",
    "Moved",
    "Opening",
    "Run",
    "begun_of",
    "in_loop",
    "interrupted",
    "left_by",
    "open_run",
    "resume",
    "settle",
    "settle_left",
    "settle_recorded",
    "start",
]

SUSPENDED = frozenset({"paused", "waiting", "interrupted"})
"""Nothing is kept running, and it goes on later: what asks for the result raises `ExecutionSuspended`."""


class Moved(Exception):
    """Somebody else took the execution up meanwhile."""


@dataclass(slots=True)
class Run:
    """A flow about to be run: begun afresh, begun or resumed by name, or resumed."""

    flow: Flow[..., Any]
    options: Options
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None  # None: those that are recorded
    resumed: bool = False  # it must exist
    reading: Reading | None = None  # its journal, where it was read just now
    origin: Origin | None = None  # what is to be forked, and how
    edits: Edits | None = None


def resume(flow: Flow[..., Any], reading: Reading, options: Options) -> Handle:
    """Run `flow` as the next attempt of the execution that was read, with the inputs that are recorded."""
    options = replace(options, exec_id=reading.exec_id)
    return start(Run(flow, options, (), None, resumed=True, reading=reading))


def replay(flow: Flow[..., Any], origin: Origin, edits: Edits, options: Options) -> Handle:
    """Run `flow` as a fork of `origin`: a new execution, which takes over what the edits cannot have changed.

    A fork that has not run yet stays as it is: the new one has the edits of both, and starts where that one would.
    """
    store = options.store or current_store()
    options = replace(options, store=store)
    of = origin.begun.flow
    if of != flow.name:
        raise InputsDifferError(f"{origin.exec_id} is an execution of the flow {of}, not of {flow.name}")
    _check_parameters(origin.exec_id, flow, origin.begun, edits.flow_inputs)
    if edits.gone:
        say(f"kitaru: {gone(edits.gone)}")
    if origin.to_begin is not None:
        prepared = begin_fork(store, origin, edits, clock=options.clock, name=options.exec_id, supersedes=False)
        return resume(flow, read_journal(store, prepared), options)
    recorded = _recorded_inputs(store, origin.exec_id, origin.begun, flow, origin, edits.flow_inputs)
    args, kwargs = flow.signature.call({**recorded, **edits.flow_inputs})
    return start(Run(flow, options, args, kwargs, origin=origin, edits=edits))


def start(run: Run) -> Handle:
    """Run it to its end, and give its handle; an async flow within a running loop is driven by awaiting that."""
    store = run.options.store or current_store()
    run.options = replace(run.options, store=store)
    exec_id = run.options.exec_id or new_exec_id(run.flow.name)
    if run.flow.is_async and in_loop():
        return Handle(exec_id, drive=functools.partial(_run_async, run))
    handle = Handle(exec_id)
    with evictable():
        if run.flow.is_async:
            import asyncio

            asyncio.run(_run_async(run, handle))
        else:
            _run_sync(run, handle)
    if run.options.raises and handle.status not in SUSPENDED:
        handle.get()
    return handle


def in_loop() -> bool:
    """Whether this thread runs an event loop."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _run_sync(run: Run, handle: Handle) -> None:
    engine = open_run(run, handle)
    if engine is None:
        return
    try:
        outcome: Outcome = drive(engine.run(run.flow.function, run.args, run.kwargs or {}))
    except BaseException as e:
        if (left := left_by(e)) is None:
            raise interrupted(engine, e) from None
        settle_left(run, handle, engine, left)
        return
    settle(run, handle, engine, outcome)


async def _run_async(run: Run, handle: Handle) -> None:
    import asyncio

    opening = Opening(run, handle)
    try:
        engine = await asyncio.to_thread(opening.open)
    except asyncio.CancelledError:
        opening.leave()  # a thread cannot be stopped, and what it claims must not look alive for ever
        raise
    if engine is None:
        return
    with evictable():
        try:
            outcome: Outcome = await drive_async(engine.run(run.flow.function, run.args, run.kwargs or {}))
        except BaseException as e:
            if (left := left_by(e)) is None:
                raise interrupted(engine, e) from None
            if isinstance(left, Suspend):
                await engine.land()
            await asyncio.to_thread(settle_left, run, handle, engine, left)
            return
    settle(run, handle, engine, outcome)


class Opening:
    """Opening an execution in a thread, for a task that may be cancelled meanwhile."""

    def __init__(self, run: Run, handle: Handle) -> None:
        self._run, self._handle = run, handle
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._engine: Engine | None = None

    def open(self) -> Engine | None:
        """In the thread. What nobody waits for any more is let go of again."""
        self._run.options = replace(self._run.options, clock=_Impatient(self._run.options.clock, self._left))
        try:
            engine = open_run(self._run, self._handle)
        except _NobodyWaits:
            return None
        with self._lock:
            if not self._left.is_set():
                self._engine = engine
                return engine
        if engine is not None:
            engine.interrupt("cancelled while it was opened")
        return None

    def leave(self) -> None:
        """In the event loop: nobody waits any more."""
        with self._lock:
            self._left.set()
            engine = self._engine
        if engine is not None:
            engine.interrupt("cancelled while it was opened")


class _NobodyWaits(BaseException):
    """Waiting for another owner, or for a store, has lost its purpose."""


class _Impatient:
    """A clock whose sleep ends when nobody waits any more."""

    def __init__(self, clock: Clock, left: threading.Event) -> None:
        self._clock, self._left = clock, left
        self.time, self.monotonic, self.asleep = clock.time, clock.monotonic, clock.asleep

    def sleep(self, seconds: float) -> None:
        if isinstance(self._clock, SystemClock):
            self._left.wait(seconds)
        else:
            self._clock.sleep(seconds)
        if self._left.is_set():
            raise _NobodyWaits


_Left: TypeAlias = Pause | Suspend | Cancelled | OutOfTime


def left_by(error: BaseException) -> _Left | None:
    """What the body was left by, where that was meant; a TaskGroup wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup):
        inner = error.subgroup(lambda e: isinstance(e, _Left) and not isinstance(e, BaseExceptionGroup))
        if inner is None:
            return None
        error = inner.exceptions[0]
    return error if isinstance(error, _Left) else None


def settle_left(run: Run, handle: Handle, engine: Engine, left: _Left) -> None:
    """The body was left before its end: let the execution go, so that it can go on later."""
    try:
        if isinstance(left, Suspend):
            engine.suspend()
            lines = waiting_lines(engine.store, engine.exec_id, engine.history.waits.open.values())
            status = "waiting"
        elif isinstance(left, Cancelled):
            drive(engine.cancel(left.request))
            lines, status = "", "cancelled"
        elif isinstance(left, OutOfTime):
            engine.let_go(str(left))
            lines, status = f"kitaru: {engine.exec_id} was let go: {left}", "interrupted"
            lines += f"\n{_resume_line(engine)}"
        else:
            engine.pause(left)
            reason = engine.calls.pause_asked.reason if engine.calls.pause_asked is not None else ""
            why = f" ({reason})" if reason else ""
            lines, status = f"kitaru: {engine.exec_id} paused before {left.label}{why}", "paused"
            lines += f"\n{_resume_line(engine)}"
    except BaseException as e:
        if (other := left_by(e)) is not None and other is not left:
            settle_left(run, handle, engine, other)  # asked for a cancel while it suspended
            return
        raise interrupted(engine, e) from None
    handle.tally = engine.tally
    if isinstance(left, Cancelled):
        handle.settle("cancelled", error=ExecutionCancelledError(_cancelled(engine.exec_id, left.request.reason)))
        return
    if run.options.announces:
        tell_suspended(engine.store, engine.exec_id, lines)
    handle.settle(status, error=ExecutionSuspended(lines, engine.exec_id))


def _cancelled(exec_id: str, reason: str) -> str:
    return f"{exec_id} was cancelled{f': {reason}' if reason else ''}"


def interrupted(engine: Engine, error: BaseException) -> BaseException:
    """The body was left otherwise than by its end: what to raise, once the execution was let go."""
    if isinstance(error, BaseExceptionGroup):  # a TaskGroup wraps what its tasks raise
        halt: BaseException | None = error.subgroup(Halt)
        while isinstance(halt, BaseExceptionGroup):
            halt = halt.exceptions[0]
        error = halt or error
    if isinstance(error, Halt):
        if engine.journal.halted is None and not isinstance(error.error, StoreError):
            engine.interrupt(type(error.error).__name__)  # a divergence: the journal itself stands
        else:
            engine.abandon()
        error.error.add_note(_resume_line(engine))
        return error.error
    engine.interrupt(ASKED_TO_END if was_evicted() else f"{type(error).__name__}: {error}".rstrip(": "))
    say(f"kitaru: {engine.exec_id} was interrupted; what had finished is recorded")
    say(_resume_line(engine))
    return error


def settle(run: Run, handle: Handle, engine: Engine, outcome: Outcome) -> None:
    """The body ended, and that is recorded: tell whoever holds its handle, and whoever reads stderr."""
    handle.tally = engine.tally
    for name, parts in engine.tally.changed.items():
        what = f" ({', '.join(readable(part) for part in parts[:3])})" if parts else ""
        say(f"kitaru: the code of {name} has changed{what}; its recorded outputs were reused")
    if engine.tally.changed:
        say(f"kitaru: to run them again  {replay_line(engine.store, engine.exec_id)} --rerun changed")
    engine.tally.unmet = engine.unmet()
    if engine.tally.unmet:
        say(
            f"kitaru: the edit of {listed(engine.tally.unmet)} was not met by any call of this run; a fork of this "
            "one asks for it again"
        )
    if outcome.error is None:
        engine.tally.uncalled = engine.uncalled()
        if engine.tally.uncalled:
            say(
                f"kitaru: never called by this run, though it was to run again: {listed(engine.tally.uncalled)}; a "
                "fork of this one asks for it again"
            )
        if isinstance(run.options.until, str):
            say(f"kitaru: {engine.exec_id} never came to {parse_ref(run.options.until)}, and has ended")
        handle.settle("completed", outcome.value)
        return
    error, store = outcome.error, engine.store
    lines = failure_lines(
        store, engine.exec_id, run.flow.name, engine.failed_at(error), _summary(error), _resume_line(engine)
    )
    try:
        error.add_note(lines)
    except Exception:  # a class that refuses attributes
        say(lines)
    handle.settle("failed", error=error)


def _resume_line(engine: Engine) -> str:
    return resume_line(engine.store, engine.exec_id, block=engine.begun.is_block)


def _summary(error: BaseException) -> str:
    from .failures import record

    return record(error).summary()


def open_run(run: Run, handle: Handle) -> Engine | None:
    """Claim the execution. None where it has ended for good: the handle is settled with its recorded end."""
    options, of = run.options, run.flow
    store = options.store
    assert store is not None
    clock = options.clock
    began = clock.monotonic()
    code = fingerprint(of.function)
    recorder: Recorder | None = None
    if run.resumed:
        check_format(store)
        begin = None
    else:
        prepare(store)
        begin, recorder = _begun(run, code.digest, code.parts, store)

    def check(state: State) -> None:
        if state.begun is None:
            raise UsageError(f"{handle.exec_id} exists, and does not say what it runs: its first segment is unknown")
        if state.begun.flow != of.name or state.begun.is_block != (of.qualname == BLOCK):
            raise InputsDifferError(
                f"{handle.exec_id} is an execution of the flow {state.begun.flow}, not of {of.name}: "
                "choose another exec_id"
            )
        if begin is None or options.inputs == "recorded":
            _check_parameters(handle.exec_id, of, state.begun)
        if begin is not None and options.inputs != "recorded" and state.begun.inputs != begin.inputs:
            raise InputsDifferError(_differ(handle.exec_id, state.begun, begin))
        takes_fork = options.inputs == "recorded" and run.origin is None
        if begin is not None and not takes_fork and state.begun.fork != begin.fork:
            raise InputsDifferError(
                f"{handle.exec_id} exists, and was {_forked(state.begun)}; this is to be {_forked(begin)}, perhaps "
                "with other edits: choose another exec_id"
            )

    asks = options.ask or (terminal() if options.interactive or os.environ.get("KITARU_INTERACTIVE") == "1" else None)
    origin, opened = run.origin, set[bytes]()

    def ready(reading: Reading, state: State) -> bool:
        """Of one that waits and is run again by its name: whether it can go on, or its code is another one now."""
        changed = state.begun is None or state.begun.code != code.digest
        return asks is not None or changed or _is_ready(store, reading)

    def load(state: State) -> None:
        """What it runs with, before it is claimed: where that cannot be had, nothing has begun."""
        nonlocal origin
        begun = state.begun or begin
        if begun is None or begun.fork is None:
            origin = None
        elif origin is None:
            origin = open_origin(store, begun.fork)
        if begun is not None and (run.kwargs is None or (options.inputs == "recorded" and state.begun is not None)):
            run.args, run.kwargs = of.signature.call(
                _recorded_inputs(store, handle.exec_id, begun, of, origin, opened=opened.update)
            )

    digits, fresh = 4, options.exec_id is None
    known = state_of(run.reading.segments).begun if run.reading is not None else begin
    supervised = known is not None and (known.parent is not None or known.options.get("supervised") is True)
    while True:
        if supervised and not options.only_there:
            put_ready(store, handle.exec_id, f"{BEGUN}@{new_nonce().hex()}", persist(store, clock, say))
        claimed = claim(
            store,
            handle.exec_id,
            clock=clock,
            begin=begin,
            fresh=fresh,
            take_over=options.take_over,
            patient=not run.resumed,
            check=check,
            reading=run.reading,
            only_there=options.only_there,
            ready=ready,
            prepare=load,
            say=say,
            budget=store_budget(),
        )
        if claimed is not None:
            break
        if options.only_there:
            raise Moved(handle.exec_id)
        digits *= 2  # taken: draw again
        handle.exec_id = new_exec_id(of.name, digits)
    begun = claimed.state.begun or begin
    assert begun is not None
    if claimed.journal is None:
        _ended(handle, claimed, store, begun)
        return None
    try:
        until = str(parse_ref(options.until)) if isinstance(options.until, str) else options.until
        stands, kept = _stands(claimed, origin)
        settings = Settings(
            options.on_drift,
            options.max_workers,
            until,
            options.steps,
            frozenset(map(_spelt, options.breaks or ())),
            stands,
            options.admit,
            asks,
            None if options.deadline is None else began + options.deadline,
            options.answers,
            options.now,
            options.hints,
            options.served,
            options.leaving,
            options.may_exit,
        )
        engine = Engine(
            store,
            claimed,
            begun,
            settings=settings,
            clock=clock,
            code=code,
            say=say,
            origin=origin,
            recorder=recorder,
            breaks=kept if options.breaks is None else options.breaks,
        )
        engine.recorder.confirm(opened)
        if options.leaving is not None:
            options.leaving.add(handle.exec_id, engine.interrupt)
        return engine
    except BaseException:
        _refuse(claimed)
        raise


def _is_ready(store: Store, reading: Reading) -> bool:
    """Whether an execution that waits can go on, as far as the store tells."""
    waits = Waits.of(reading.records)
    inbox = [entry.key.rpartition("/")[2] for entry in store.list(inbox_key(reading.exec_id))]
    timed = any(w.due is not None for w in waits.open.values())
    return CANCEL in inbox or waits.ready(inbox, store.now() if timed else 0.0)


def _stands(claimed: Claimed, origin: Origin | None) -> tuple[str | None, tuple[str, ...]]:
    """The step before which it paused, if it did, and where it is to pause again. A fork that has not run stands where
    its origin stood.
    """
    records, release = claimed.reading.records, claimed.state.release
    breaks: tuple[str, ...] = ()
    for record in records:
        if isinstance(record, Begun):
            breaks = breaks_of(record)
        elif isinstance(record, Release):
            breaks = record.breaks
    if release is not None and release.before is not None:
        pending = put_together(claimed.reading.exec_id, claimed.state, records).pending
    elif origin is not None and not any(isinstance(r, Started | Reused) for r in records):
        pending = origin.data.pending
    else:
        pending = None
    return pending.label if pending is not None else None, breaks


def _spelt(ref: str) -> str:
    """A breakpoint as paths are written: a bare name stands for all steps of that name."""
    parsed = parse_ref(ref)
    return ref if len(parsed.path) == 1 and "#" not in ref and "~" not in ref else "/".join(map(str, parsed.path))


def _forked(begun: Begun) -> str:
    return f"forked from {begun.fork.origin}" if begun.fork is not None else "begun by itself"


def _check_parameters(exec_id: str, of: Flow[..., Any], begun: Begun, given: Iterable[str] = ()) -> None:
    """The flow as it is now must be able to take the inputs that are recorded."""
    recorded = [*(name for name, _ in begun.arguments), *given]
    missing = [
        p.name
        for p in of.signature.signature.parameters.values()
        if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD} and p.name not in recorded
    ]
    if missing:
        raise InputsDifferError(
            f"{exec_id} was begun with {', '.join(recorded) or 'no inputs'}, and {of.name} now needs "
            f"{', '.join(missing)} as well: give {'it a default' if len(missing) == 1 else 'them defaults'}, or begin "
            "a new execution"
        )


def _refuse(claimed: Claimed) -> None:
    """Give a claim back that came to nothing, as it was before."""
    assert claimed.journal is not None
    assert claimed.beat is not None
    give_back(claimed.journal, claimed.beat, claimed.state)


def _begun(run: Run, code: bytes, parts: Mapping[str, str], store: Store) -> tuple[Begun, Recorder]:
    options: dict[str, Any] = {"breaks": list(run.options.breaks)} if run.options.breaks else {}
    if run.options.supervised or os.environ.get("KITARU_SUPERVISE") == "1":
        options["supervised"] = True
    return begun_of(run, code, parts, store, options)


def begun_of(
    run: Run,
    code: bytes,
    parts: Mapping[str, str],
    store: Store,
    options: Mapping[str, Any],
    parent: Id | None = None,
) -> tuple[Begun, Recorder]:
    """The first record, and who took in what it holds."""
    from . import __version__

    of = run.flow
    arguments: list[Argument] = []
    uploads: list[Upload] = []
    carried: set[bytes] = set()
    pools = Pools(1, lambda error: None)
    recorder = Recorder(store, pools, None, beyond=run.origin.index if run.origin is not None else None)

    def held(place: str, value: Any) -> Value:
        return recorder.value(recorder.encode(value, place=place, otherwise="refer"), value, uploads, carried)

    def edited(place: str, value: Any) -> Value:  # a step is given it again: a note of its type would not do
        return recorder.value(recorder.encode(value, place=place), value, uploads)

    for name, value in of.signature.arguments(run.args, run.kwargs or {}):
        arguments.append((name, held(f"{of.name}.in.{name}", value)))
    fork = None
    if run.origin is not None:
        before = dict(run.origin.begun.inputs)
        other = [name for name, value in arguments if before.get(name) != value.digest]
        fork = (run.edits or Edits()).forked(run.origin, edited, other)
    recorder.upload(uploads)
    pools.close()
    module = of.function.__module__
    script = script_of(module)
    import platform

    environment = {
        "kitaru": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    begun = Begun(
        of.name,
        tuple(arguments),
        "__main__" if script else module,
        of.qualname,
        script or (run.origin.begun.script if run.origin is not None else None),  # what it takes over names its types
        code,
        parts,
        source_of(of.function),
        run.options.clock.time(),
        environment,
        options,
        fork=fork,
        parent=parent,
    )
    return begun, recorder


def _differ(exec_id: str, begun: Begun, now: Begun) -> str:
    old, new = dict(begun.arguments), dict(now.arguments)
    names = [n for n in {**old, **new} if n not in old or n not in new or old[n].digest != new[n].digest]

    def show(values: dict[str, Value], name: str) -> str:
        return preview_line(dict(values[name].preview), 60) if name in values else "nothing"

    what = "; ".join(f"{n}: begun with {show(old, n)}, now {show(new, n)}" for n in names)
    return (
        f"{exec_id} was begun with other inputs ({what}). Choose another exec_id; or go on with the recorded ones: "
        'options(inputs="recorded"), or KITARU_INPUTS=recorded'
    )


def _recorded_inputs(
    store: Store,
    exec_id: str,
    begun: Begun,
    of: Flow[..., Any],
    origin: Origin | None,
    without: Container[str] = (),
    *,
    opened: Callable[[Iterable[bytes]], None] = lambda digests: None,
) -> dict[str, Any]:
    name, out = of.name, {}
    index = Index((begun,), beyond=origin.index if origin is not None else None)
    values = Values(store, index, script=begun.script, opened=opened)
    for argument, value in begun.arguments:
        if argument not in of.signature.signature.parameters or argument in without:
            continue  # a free variable of a closure: the code has it
        if value.kind == "reference":
            raise CodeNotFoundError(
                f"{name} was begun with {argument}={preview_line(dict(value.preview), 60)}, which is no data and was "
                f"recorded by its type alone: resume it from code, {name}.options(exec_id={exec_id!r}).run(…)"
            )
        out[argument] = values.load(value)
    return out


def _ended(handle: Handle, claimed: Claimed, store: Store, begun: Begun) -> None:
    """An execution that has ended for good gives its recorded result again."""
    status = claimed.state.status
    if status == "waiting":
        lines = waiting_lines(store, handle.exec_id, Waits.of(claimed.reading.records).open.values())
        handle.settle("waiting", error=ExecutionSuspended(lines, handle.exec_id))
        tell_suspended(store, handle.exec_id, lines)
        return
    if status == "cancelled":
        raise ExecutionEndedError(
            f"{handle.exec_id} was cancelled, and does not run again: choose another exec_id, or fork it"
        )
    settle_recorded(handle, claimed.reading, store, begun)


def settle_recorded(handle: Handle, reading: Reading, store: Store, begun: Begun) -> None:
    """Give a completed execution's handle its recorded result."""
    handle.settle("completed", result_of(store, begun, reading.records))
