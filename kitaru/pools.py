"""Where submitted steps run: a thread pool for each depth of nesting, so that no step waits for a worker it holds.

A step at depth d waits for steps at depth d + 1 alone, and those have workers of their own: `.submit` inside submitted
steps never deadlocks, whatever `max_workers`.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Executor, Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from .context import Frame, Suspend, current
from .effects import Rest
from .errors import UsageError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

__all__ = ["Pools", "StepFuture", "drain", "drain_async", "in_loop"]


_LOOK_UP = 0.5
"""Seconds."""


class StepFuture(Future[Any]):
    """The output of a submitted step, once it is there. A `concurrent.futures.Future` that can be awaited as well."""

    task: Task[Any] | None = None  # of an async step in an event loop

    def result(self, timeout: float | None = None) -> Any:
        """The step's output, or its failure raised. An async step that runs in this event loop must be awaited."""
        if self.task is not None and not self.done() and self.task.get_loop() is _loop():
            raise UsageError("this step has not ended, and waiting for it here would block the event loop: await it")
        if timeout is None:
            _await_all([self])
        try:
            return super().result(timeout)
        except BaseException as e:
            _handed(e)
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The step's failure, or None. Whoever asks has been handed it."""
        error = super().exception(timeout)
        if error is not None:
            _handed(error)
        return error

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return self._wait(asyncio.wrap_future(self)).__await__()

    async def _wait(self, wrapped: Any) -> Any:
        try:
            return await wrapped
        except BaseException as e:
            _handed(e)
            raise


def _handed(error: BaseException) -> None:
    """The body that asks is handed what the step failed with, or the wait that it came to."""
    frame = current.get()
    if frame is not None and isinstance(error, (Exception, Suspend)):
        frame.hand(error)


def _await_all(futures: Iterable[Future[Any]]) -> None:
    """Return when all have ended. A signal that comes just before the main thread blocks does not wake it by itself,
    so it looks up now and then: Ctrl-C and an eviction must not wait for a step.
    """
    left = set(futures)
    while left:
        left = wait(left, timeout=_LOOK_UP).not_done


def _loop() -> AbstractEventLoop | None:
    import asyncio

    return asyncio._get_running_loop()


_Work: TypeAlias = "Callable[[], _Work | None]"
"""What settles a future, or gives what will, once it was waited for."""

_Task: TypeAlias = "Callable[[], _Task | None]"
"""What a thread does; it gives what the thread does next."""


class _Workers:
    """Threads for submitted steps, of which so many run bodies at once: those have a *place*.

    Whoever has run a body goes on with the next one. That the record of the first becomes durable, another thread
    waits for: no body waits for a disk. So there are up to twice as many threads as places. When all of them are
    taken, who ran a body waits himself: of a store that is too slow, or does not answer, bodies run ahead by one each.

    The threads are daemons: a process that is interrupted or evicted does not wait for them.
    """

    def __init__(self, places: int, name: str) -> None:
        self._free, self._most, self._name = places, 2 * places, name
        self._lock = threading.Lock()
        self._backlog: deque[_Task] = deque()  # bodies without a place
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()  # what the next thread that is idle does
        self._threads = 0
        self._idle = 0  # threads with nothing to do, less what lies in the queue
        self._closed = False

    def submit(self, future: Future[Any], work: _Work) -> None:
        """Run `work` once there is a place; it settles `future`, or gives what is left to be waited for."""
        body = functools.partial(self._run, future, work)
        with self._lock:
            closed = self._closed
            if not closed and not self._free:
                self._backlog.append(body)
                return
            self._free -= 1
            more = not closed and self._hand_on(body)
        if closed:
            _never(future)
        elif more:
            self._start()

    def _run(self, future: Future[Any], work: _Work) -> _Task | None:
        """A body, with a place; then the next one has it."""
        rest = None
        if self._closed:
            _never(future)
        else:
            rest = work()
        if rest is not None and not self._is_handed_on(rest):
            rest()
        with self._lock:
            if self._backlog:
                return self._backlog.popleft()
            self._free += 1
            self._idle += 1
        return None

    def _is_handed_on(self, rest: _Work) -> bool:
        """Whether another thread waits."""
        with self._lock:
            if self._closed or (self._idle <= 0 and self._threads == self._most):
                return False
            more = self._hand_on(functools.partial(self._wait, rest))
        if more:
            self._start()
        return True

    def _wait(self, rest: _Work) -> None:
        rest()
        with self._lock:
            self._idle += 1

    def _hand_on(self, task: _Task) -> bool:
        """To a thread that is idle, or will be. True: one more has to be started. With the lock held."""
        self._queue.put(task)
        more = self._idle <= 0 and self._threads < self._most
        self._threads += more
        self._idle += more - 1
        return more

    def _start(self) -> None:
        threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        while (task := self._queue.get()) is not None:
            while task is not None:
                task = task()
        self._queue.put(None)  # the threads go one after the other: who ends the run has work to do

    def close(self) -> None:
        """Let the threads go as they come free; what has not begun never does."""
        with self._lock:
            self._closed = True
            never, self._backlog = self._backlog, deque()
            self._queue.put(None)
        for body in never:
            body()  # cancels


def _never(future: Future[Any]) -> None:
    """Cancel it, and tell whoever waits: `concurrent.futures.wait` takes none for done that was merely cancelled."""
    if future.cancel():
        future.set_running_or_notify_cancel()


class _Side(Executor):
    """Daemon threads for what goes on beside bodies: nobody waits for a store that does not answer to end a process."""

    def __init__(self, threads: int, name: str) -> None:
        self._workers = _Workers(threads, name)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as e:
                    future.set_exception(e)

        self._workers.submit(future, run)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - nobody waits
        self._workers.close()


class Pools:
    """The threads of one run of a flow."""

    def __init__(self, max_workers: int, leave: Callable[[BaseException], None]) -> None:
        self._max_workers = max_workers
        self._leave = leave  # told of what leaves a body that is no failure of it, which nobody may ask its future for
        self._lock = threading.Lock()
        self._at: dict[int, _Workers] = {}
        self._io: _Side | None = None

    @property
    def io(self) -> Executor:
        """For uploads, side by side."""
        with self._lock:
            if self._io is None:
                self._io = _Side(8, "kitaru-upload")
            return self._io

    def submit(self, frame: Frame, work: Callable[[], Any]) -> StepFuture:
        """Run `work` for `frame`'s body, in a worker of its depth and in a copy of the caller's context.

        A `Rest` that it gives is merely waited for.
        """
        with self._lock:
            workers = self._at.get(frame.depth)
            if workers is None:
                workers = self._at[frame.depth] = _Workers(self._max_workers, f"kitaru-worker-{frame.depth}")
        future, context = _submitted(frame.submitted), contextvars.copy_context()

        def settle(work: Callable[[], Any]) -> _Work | None:
            try:
                value = context.run(work)
                if isinstance(value, Rest):
                    return functools.partial(settle, value.drive)
                future.set_result(value)
            except BaseException as e:
                if not isinstance(e, Exception):
                    self._leave(e)
                future.set_exception(e)
            return None

        def run() -> _Work | None:
            return settle(work) if future.set_running_or_notify_cancel() else None

        workers.submit(future, run)
        return future

    def close(self) -> None:
        """Let the threads go; what has not begun never does."""
        with self._lock:
            at = list(self._at.values())
        for workers in at:
            workers.close()
        if self._io is not None:
            self._io.shutdown()


def in_loop(
    work: Coroutine[Any, Any, Any],
    submitted: set[Future[Any]],
    leave: Callable[[BaseException], None] = lambda error: None,
) -> StepFuture:
    """Run a coroutine in the event loop that runs now; it is among `submitted` until it has ended."""
    import asyncio

    future = _submitted(submitted)
    future.set_running_or_notify_cancel()
    task = future.task = asyncio.get_running_loop().create_task(work)

    def done(task: Task[Any]) -> None:
        if task.cancelled():
            future.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            if not isinstance(error, Exception):
                leave(error)
            future.set_exception(error)
        else:
            future.set_result(task.result())

    task.add_done_callback(done)
    return future


def _submitted(among: set[Future[Any]]) -> StepFuture:
    """A new future, which is `among` those submitted until it is done."""
    future = StepFuture()
    among.add(future)
    future.add_done_callback(among.discard)
    return future


def drain(submitted: set[Future[Any]], *, cancel: bool) -> None:
    """Return when all of them have ended; with `cancel`, what has not begun never does."""
    futures = list(submitted)
    if cancel:
        for future in futures:
            future.cancel()
    _await_all(futures)


async def drain_async(submitted: set[Future[Any]], *, cancel: bool) -> None:
    """As `drain`, without holding up the event loop."""
    import asyncio

    futures = list(submitted)
    if cancel:
        for future in futures:
            future.cancel()
            if isinstance(future, StepFuture) and future.task is not None:
                future.task.cancel()
    if futures:
        # Their failures are the caller's, who may never ask: gathered, none is left behind unretrieved.
        await asyncio.gather(*(asyncio.wrap_future(f) for f in futures), return_exceptions=True)
