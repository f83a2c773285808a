"""Attempts: a body that is run once, and what goes on around it that takes time. See `effects`."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from .artifacts import Recorder
from .blobs import Upload
from .clock import Clock
from .context import Frame, current
from .effects import Outcome
from .errors import KitaruError, StepTimeoutError
from .eviction import is_own_exit
from .journal import Journal
from .pools import drain, drain_async
from .records import Argument, Value
from .references import Ref

__all__ = ["Attempt", "Drain", "Durable", "Hand", "Load", "Settling", "Sleep", "Uploads"]


@dataclass(slots=True)
class Uploads:
    """Large parts of values, as blobs; durable before the record that names them."""

    recorder: Recorder
    uploads: list[Upload]

    def run(self) -> None:
        self.recorder.upload(self.uploads)

    async def arun(self) -> None:
        import asyncio

        await asyncio.to_thread(self.run)


@dataclass(slots=True)
class Load:
    """Recorded values again, of which one at least takes a request."""

    recorder: Recorder
    values: tuple[Argument, ...]

    def run(self) -> list[Any]:
        return self.recorder.load_all(self.values)

    async def arun(self) -> list[Any]:
        import asyncio

        return await asyncio.to_thread(self.run)


@dataclass(slots=True)
class Hand:
    """The arguments as the body takes them, where a `Ref` is among them: which loads some."""

    recorder: Recorder
    handed: Callable[..., tuple[tuple[Any, ...], Mapping[str, Any]]]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    recorded: Mapping[str, Value]

    def run(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        try:
            return self.handed(self.args, self.kwargs, self._ref)
        except KitaruError as e:
            raise self.recorder.stop(e) from e

    def _ref(self, name: str, given: Any) -> Ref[Any]:
        value = self.recorded.get(name)
        return Ref.to(given) if value is None else self.recorder.ref(value, given)

    async def arun(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        import asyncio

        return await asyncio.to_thread(self.run)


@dataclass(slots=True)
class Durable:
    """Everything up to this ticket stands in the journal."""

    journal: Journal
    ticket: int

    def run(self) -> None:
        self.journal.wait(self.ticket)

    async def arun(self) -> None:
        await self.journal.wait_async(self.ticket)


@dataclass(slots=True)
class Settling(Durable):
    """Likewise, where a body has ended well: nothing is left but this, and whoever ran it may do something else."""


@dataclass(slots=True)
class Sleep:
    """The time before another attempt."""

    clock: Clock
    seconds: float

    def run(self) -> None:
        self.clock.sleep(self.seconds)

    async def arun(self) -> None:
        await self.clock.asleep(self.seconds)


@dataclass(slots=True)
class Drain:
    """What a body submitted ends before the body does. After a failure, what has not begun never will."""

    frame: Frame
    cancel: bool

    def run(self) -> None:
        drain(self.frame.submitted, cancel=self.cancel)

    async def arun(self) -> None:
        await drain_async(self.frame.submitted, cancel=self.cancel)


@dataclass(slots=True)
class Attempt:
    """A body, run once, under its frame. Only an `Exception` is an outcome: the rest goes through.

    With `exits`, `sys.exit` is one as well: the process is not the body's to end.
    """

    frame: Frame
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    timeout: float | None
    clock: Clock
    exits: bool = False

    def run(self) -> Outcome:
        frame, began = self.frame, self.clock.monotonic()
        if self.timeout is not None:
            return self._run_limited(self.timeout, began)
        token = current.set(frame)
        frame.enter()
        try:
            value = self.function(*self.args, **self.kwargs)
        except (Exception, SystemExit) as e:
            if not self._is_failure(e):
                raise
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
        except (Exception, SystemExit) as e:
            if not self._is_failure(e):
                raise
            return Outcome(error=e, took=self.clock.monotonic() - began)
        finally:
            current.reset(token)
        return Outcome(value, took=self.clock.monotonic() - began)

    def _is_failure(self, error: BaseException) -> bool:
        return isinstance(error, Exception) or (self.exits and is_own_exit(error))
