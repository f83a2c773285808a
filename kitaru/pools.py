"""Where submitted steps run: a thread pool for each depth of nesting, so that no step waits for a worker it holds.

A step at depth d waits for steps at depth d + 1 alone, and those have workers of their own: `.submit` inside submitted
steps never deadlocks, whatever `max_workers`.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .context import current
from .errors import UsageError

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["Pools", "StepFuture"]


class StepFuture(Future[Any]):
    """The output of a submitted step, once it is there. A `concurrent.futures.Future` that can be awaited as well."""

    def result(self, timeout: float | None = None) -> Any:
        """The step's output, or its failure raised. In an event loop: await the future instead."""
        if not self.done() and _in_loop():
            raise UsageError("this step has not ended, and waiting for it here would block the event loop: await it")
        try:
            return super().result(timeout)
        except Exception as e:
            frame = current.get()
            if frame is not None:
                frame.hand(e)
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The step's failure, or None. Whoever asks has been handed it."""
        error = super().exception(timeout)
        frame = current.get()
        if frame is not None and error is not None:
            frame.hand(error)
        return error

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return self._wait(asyncio.wrap_future(self)).__await__()

    async def _wait(self, wrapped: Any) -> Any:
        try:
            return await wrapped
        except Exception as e:
            frame = current.get()
            if frame is not None:
                frame.hand(e)
            raise


def _in_loop() -> bool:
    import asyncio

    return asyncio._get_running_loop() is not None


class Pools:
    """The threads of one run of a flow."""

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._lock = threading.Lock()
        self._at: dict[int, ThreadPoolExecutor] = {}
        self._io: ThreadPoolExecutor | None = None
        self._tasks: set[Task[Any]] = set()

    @property
    def io(self) -> ThreadPoolExecutor:
        """For uploads, side by side."""
        with self._lock:
            if self._io is None:
                self._io = ThreadPoolExecutor(8, "kitaru-upload")
            return self._io

    def submit(self, depth: int, work: Callable[[], Any]) -> StepFuture:
        """Run `work` in a worker of this depth, in a copy of the caller's context."""
        with self._lock:
            pool = self._at.get(depth)
            if pool is None:
                pool = self._at[depth] = ThreadPoolExecutor(self._max_workers, f"kitaru-worker-{depth}")
        future, context = StepFuture(), contextvars.copy_context()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(context.run(work))
            except BaseException as e:
                future.set_exception(e)

        inner = pool.submit(run)
        inner.add_done_callback(lambda f: future.cancel() if f.cancelled() else None)
        return future

    def submit_async(self, work: Coroutine[Any, Any, Any]) -> StepFuture:
        """Run a coroutine in the event loop that runs now."""
        import asyncio

        future = StepFuture()
        future.set_running_or_notify_cancel()
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def done(task: Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                future.set_exception(asyncio.CancelledError())
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        task.add_done_callback(done)
        return future

    def drain(self, *, cancel: bool) -> None:
        """Return when everything submitted has ended; with `cancel`, what has not begun never does."""
        for depth in sorted(self._at):
            self._at[depth].shutdown(wait=True, cancel_futures=cancel)

    async def drain_async(self, *, cancel: bool) -> None:
        """As `drain`, without holding up the event loop."""
        import asyncio

        tasks = set(self._tasks)
        if cancel:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._at:
            await asyncio.to_thread(self.drain, cancel=cancel)

    def close(self) -> None:
        """Let the threads go; what has not begun never does."""
        for pool in [*self._at.values(), *([self._io] if self._io else [])]:
            pool.shutdown(wait=False, cancel_futures=True)
