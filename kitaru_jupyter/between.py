"""The main thread between two cells: where a notebook's variables may change without a cell seeing it half done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

__all__ = ["Between"]


class Between:
    """Runs what other threads hand over on the main thread, while no cell runs.

    An event loop's callback alone would be run inside of an async cell, at one of its awaits; so it is asked of
    IPython's events whether a cell is on its way.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel: Any = getattr(shell, "kernel", None)
        self._loop: Any = getattr(self._kernel, "io_loop", None)
        self._running: list[object] = [None] if self._kernel is not None else []  # made by a cell, which still runs
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        shell.events.register("pre_run_cell", self._begins)
        shell.events.register("post_run_cell", self._has_ended)

    def close(self) -> None:
        """Let go of the shell."""
        self._shell.events.unregister("pre_run_cell", self._begins)
        self._shell.events.unregister("post_run_cell", self._has_ended)

    @property
    def is_busy(self) -> bool:
        """Whether a cell runs now."""
        return bool(self._running)

    def _begins(self, info: ExecutionInfo) -> None:
        if threading.current_thread() is threading.main_thread():
            if info.store_history:
                self._running.clear()  # a cell within a cell has no place in the history
            self._running.append(info)

    def _has_ended(self, result: ExecutionResult | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        info = getattr(result, "info", None)
        at = next((n for n, running in enumerate(self._running) if running is info), 0)
        del self._running[at:]
        self._drain()

    def call(self, function: Callable[[], None]) -> None:
        """From any thread: run it there, as soon as no cell runs. It takes care of its own errors."""
        self._todo.put(function)
        if self._loop is not None:
            self._loop.add_callback(self._drain)
        elif threading.current_thread() is threading.main_thread():
            self._drain()

    def _drain(self) -> None:
        while not self._running and not self._todo.empty():
            self._todo.get()()

    def carry_out(self, work: Callable[[], Coroutine[Any, Any, None]], parent: Any = None) -> None:
        """On the main thread: something that awaits. Cells that are asked for meanwhile wait for its end.

        Parameters
        ----------
        parent
            The message of a cell: what is shown meanwhile is shown under that one.
        """
        if self._loop is None:
            import asyncio

            asyncio.run(work())
        else:
            self._loop.add_callback(self._alone, work, parent)

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, None]], parent: Any) -> None:
        # What ipykernel holds while it runs a cell.
        lock = getattr(self._kernel, "_main_asyncio_lock", None) or _NoLock()
        async with lock:
            if parent:
                self._shell.set_parent(parent)  # type: ignore[attr-defined]  # of a kernel's shell
            await work()


class _NoLock(nullcontext[None]):
    """An older ipykernel has none: it runs one request after another by itself."""
