"""One event loop beside the program's own, for code that blocks and calls a library that is asynchronous.

It is kept, since the connections of a client belong to the loop that opened them; and it runs in a thread, since the
caller's thread may run a loop itself, as a notebook's does.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, TypeVar

__all__ = ["run", "stream"]

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a thread does not outlive a fork


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            thread = threading.Thread(target=Context().run, args=(loop.run_forever,), name="kitaru-loop", daemon=True)
            thread.start()
            atexit.register(_close, loop, thread)
        return loop


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=1)
    if not thread.is_alive():
        loop.close()


class _Work(Future[T]):
    """A coroutine in that loop, with the caller's context."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        super().__init__()
        self._make, self._at = make, _loop()
        self._task: asyncio.Task[None] | None = None
        self._at.call_soon_threadsafe(self._begin, copy_context())

    def _begin(self, context: Context) -> None:
        self._task = self._at.create_task(self._run(), context=context)

    async def _run(self) -> None:
        try:
            self.set_result(await self._make())
        except BaseException as e:  # what ends a program, or suspends a flow, is the caller's
            self.set_exception(e)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._at.call_soon_threadsafe(lambda: self._task is not None and self._task.cancel())


def run(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the coroutine that `make` gives comes to.

    Examples
    --------
    >>> async def double(n): return 2 * n
    >>> run(lambda: double(4))
    8
    """
    work = _Work(make)
    try:
        return work.result()
    finally:
        if not work.done():
            work.stop()


def stream(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """What the asynchronous iterator that `make` gives yields, as it does.

    It begins here, and is broken off where the caller breaks off.

    Examples
    --------
    >>> async def letters():
    ...     yield "a"
    ...     yield "b"
    >>> [*stream(letters)]
    ['a', 'b']
    """
    ready: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for item in make():
                ready.put((item,))
        finally:
            ready.put(None)

    work = _Work(pump)

    def items() -> Iterator[T]:
        try:
            while (item := ready.get()) is not None:
                yield item[0]
            work.result()
        finally:
            if not work.done():
                work.stop()

    return items()
