"""One run of a flow: how it is begun, resumed and ended."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import codecs
from .clock import Clock, SystemClock
from .effects import Outcome, drive, drive_async
from .engine import Engine, Settings, read_value
from .errors import (
    CodeNotFoundError,
    ExecutionEndedError,
    InputsDifferError,
    StoreError,
    UsageError,
)
from .eviction import evictable
from .fingerprints import fingerprint, readable, source_of
from .flows import Flow, Options
from .handles import Handle
from .ids import new_exec_id
from .journal import Halt
from .location import check_format, current_store, is_trusted, prepare
from .notices import failure_lines, resume_line, say
from .ownership import Claimed, State, claim
from .previews import preview, preview_line
from .reading import Reading
from .records import Begun, FlowEnded, Value
from .sources import script_of
from .stores.base import Store

__all__ = ["BUDGET", "Run", "resume", "settle_recorded", "start"]

BUDGET = 60.0
"""Seconds for which a store that does not answer is asked again: ``KITARU_STORE_BUDGET`` overrides it."""


@dataclass(slots=True)
class Run:
    """A flow about to be run: begun afresh, begun or resumed by name, or resumed."""

    flow: Flow[..., Any]
    options: Options
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None  # None: those that are recorded
    resumed: bool = False  # it must exist
    reading: Reading | None = None  # its journal, where it was read just now


def resume(flow: Flow[..., Any], reading: Reading, options: Options) -> Handle:
    """Run `flow` as the next attempt of the execution that was read, with the inputs that are recorded."""
    options = replace(options, exec_id=reading.exec_id)
    return start(Run(flow, options, (), None, resumed=True, reading=reading))


def start(run: Run) -> Handle:
    """Run it to its end, and give its handle; an async flow within a running loop is driven by awaiting that."""
    store = run.options.store or current_store()
    run.options = replace(run.options, store=store)
    exec_id = run.options.exec_id or new_exec_id(run.flow.name)
    if run.flow.is_async and _in_loop():
        return Handle(exec_id, drive=functools.partial(_run_async, run))
    handle = Handle(exec_id)
    with evictable():
        if run.flow.is_async:
            import asyncio

            asyncio.run(_run_async(run, handle))
        else:
            _run_sync(run, handle)
    if run.options.raises:
        handle.get()
    return handle


def _in_loop() -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _run_sync(run: Run, handle: Handle) -> None:
    engine = _open(run, handle)
    if engine is None:
        return
    try:
        outcome: Outcome = drive(engine.run(run.flow.function, run.args, run.kwargs or {}))
    except BaseException as e:
        raise _left(engine, e) from None
    _settle(run, handle, engine, outcome)


async def _run_async(run: Run, handle: Handle) -> None:
    import asyncio

    opening = _Opening(run, handle)
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
            raise _left(engine, e) from None
    _settle(run, handle, engine, outcome)


class _Opening:
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
            engine = _open(self._run, self._handle)
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


def _left(engine: Engine, error: BaseException) -> BaseException:
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
        error.error.add_note(resume_line(engine.store, engine.exec_id))
        return error.error
    engine.interrupt(f"{type(error).__name__}: {error}".rstrip(": "))
    say(f"kitaru: {engine.exec_id} was interrupted; what had finished is recorded")
    say(resume_line(engine.store, engine.exec_id))
    return error


def _settle(run: Run, handle: Handle, engine: Engine, outcome: Outcome) -> None:
    handle.tally = engine.tally
    for name, parts in engine.tally.changed.items():
        what = f" ({', '.join(readable(part) for part in parts[:3])})" if parts else ""
        say(f"kitaru: the code of {name} has changed{what}; its recorded outputs were reused")
    if outcome.error is None:
        handle.settle("completed", outcome.value)
        return
    error, store = outcome.error, engine.store
    lines = failure_lines(store, engine.exec_id, run.flow.name, engine.failed_at(error), _summary(error))
    try:
        error.add_note(lines)
    except Exception:  # a class that refuses attributes
        say(lines)
    handle.settle("failed", error=error)


def _summary(error: BaseException) -> str:
    from .failures import record

    return record(error).summary()


def _open(run: Run, handle: Handle) -> Engine | None:
    """Claim the execution. None where it has ended for good: the handle is settled with its recorded end."""
    options, of = run.options, run.flow
    store = options.store
    assert store is not None
    clock = options.clock
    code = fingerprint(of.function)
    if run.resumed:
        check_format(store)
        begin = None
    else:
        prepare(store)
        begin = _begun(run, code.digest, code.parts, store)

    def check(state: State) -> None:
        if state.begun is None:
            raise UsageError(f"{handle.exec_id} exists, and does not say what it runs: its first segment is unknown")
        if state.begun.flow != of.name:
            raise InputsDifferError(
                f"{handle.exec_id} is an execution of the flow {state.begun.flow}, not of {of.name}: "
                "choose another exec_id"
            )
        if begin is None or options.inputs == "recorded":
            _check_parameters(handle.exec_id, of, state.begun)
        if begin is not None and options.inputs != "recorded" and state.begun.inputs != begin.inputs:
            raise InputsDifferError(_differ(handle.exec_id, state.begun, begin))

    digits, fresh = 4, options.exec_id is None
    while True:
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
            say=say,
            budget=_budget(),
        )
        if claimed is not None:
            break
        digits *= 2  # taken: draw again
        handle.exec_id = new_exec_id(of.name, digits)
    begun = claimed.state.begun or begin
    assert begun is not None
    if claimed.journal is None:
        _ended(handle, claimed, store, begun)
        return None
    try:
        if run.kwargs is None or (options.inputs == "recorded" and claimed.state.begun is not None):
            run.args, run.kwargs = of.signature.call(_recorded_inputs(store, claimed.reading, begun, of))
        settings = Settings(options.on_drift, options.max_workers)
        return Engine(store, claimed, begun, settings=settings, clock=clock, code=code, say=say)
    except BaseException:
        _refuse(claimed)
        raise


def _check_parameters(exec_id: str, of: Flow[..., Any], begun: Begun) -> None:
    """The flow as it is now must be able to take the inputs that are recorded."""
    recorded = [name for name, _ in begun.arguments]
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
    """Give a claim back that nothing can be done with, as it was before."""
    from .records import Release

    assert claimed.journal is not None
    assert claimed.beat is not None
    status = claimed.state.status if claimed.state.status not in {"running", "pending"} else "interrupted"
    try:
        claimed.journal.add(Release(status, "its inputs could not be loaded"))
        claimed.journal.flush()
    except Halt:
        claimed.beat.end()
    else:
        claimed.beat.end(status)


def _budget() -> float:
    text = os.environ.get("KITARU_STORE_BUDGET", "")
    try:
        return float(text) if text else BUDGET
    except ValueError:
        raise UsageError(f"KITARU_STORE_BUDGET is {text!r}: write a number of seconds") from None


def _begun(run: Run, code: bytes, parts: Mapping[str, str], store: Store) -> Begun:
    from . import __version__

    of = run.flow
    arguments = []
    for name, value in of.signature.arguments(run.args, run.kwargs or {}):
        encoded = codecs.encode(value, place=f"{of.name}.in.{name}", otherwise="refer")
        if len(encoded.data) > (256 << 10):
            key = encoded.digest.hex()
            store.put_if_absent(f"blobs/{key[:2]}/{key}", encoded.data)
            held = Value(encoded.digest, len(encoded.data), encoded.kind, preview(value), None, True)
        else:
            held = Value(encoded.digest, len(encoded.data), encoded.kind, preview(value), encoded.data)
        arguments.append((name, held))
    module = of.function.__module__
    script = script_of(module)
    import platform

    environment = {
        "kitaru": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    return Begun(
        of.name,
        tuple(arguments),
        "__main__" if script else module,
        of.qualname,
        script,
        code,
        parts,
        source_of(of.function),
        run.options.clock.time(),
        environment,
    )


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


def _recorded_inputs(store: Store, reading: Reading, begun: Begun, of: Flow[..., Any]) -> dict[str, Any]:
    trusted, name, out = is_trusted(store), of.name, {}
    for argument, value in begun.arguments:
        if argument not in of.signature.signature.parameters:
            continue  # a free variable of a closure: the code has it
        if value.kind == "reference":
            raise CodeNotFoundError(
                f"{name} was begun with {argument}={preview_line(dict(value.preview), 60)}, which is no data and was "
                f"recorded by its type alone: resume it from code, {name}.options(exec_id={reading.exec_id!r}).run(…)"
            )
        out[argument] = read_value(store, value, trusted=trusted, script=begun.script)
    return out


def _ended(handle: Handle, claimed: Claimed, store: Store, begun: Begun) -> None:
    """An execution that has ended for good gives its recorded result again."""
    status = claimed.state.status
    if status == "cancelled":
        raise ExecutionEndedError(
            f"{handle.exec_id} was cancelled, and does not run again: choose another exec_id, or fork it"
        )
    settle_recorded(handle, claimed.reading, store, begun)


def settle_recorded(handle: Handle, reading: Reading, store: Store, begun: Begun) -> None:
    """Give a completed execution's handle its recorded result."""
    ends = [r for r in reading.records if isinstance(r, FlowEnded) and r.ok]
    ((_, value),) = ends[-1].value
    data = None
    if value.data is None and not value.blob:
        from .executions import read_execution

        known = read_execution(handle.exec_id, reading.segments).values.get(value.digest)
        data = known.data if known is not None else None
    result = read_value(store, value, trusted=is_trusted(store), script=begun.script, data=data)
    handle.settle("completed", result)
