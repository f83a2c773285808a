"""Work of the browser: in a thread of its own, never in a handler and never in a cell."""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["OFTEN", "Progress", "Worker"]

OFTEN = 0.1
"""Seconds between two updates: a server drops messages where there are too many."""


class Worker:
    """Runs one thing after another in a daemon thread, which begins with the first and ends with `close`.

    Parameters
    ----------
    name
        Of the thread.
    parent
        What its output is shown under: the header of the message that ran the widget's cell.
    """

    def __init__(self, name: str, parent: Mapping[str, Any] | None = None) -> None:
        self._name, self._parent = name, parent
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._left = 0
        self._rests = threading.Event()
        self._rests.set()

    def do(self, work: Callable[[], None]) -> None:
        """From any thread; `work` takes care of its own errors."""
        with self._lock:
            self._left += 1
            self._rests.clear()
            if self._thread is None:
                context = contextvars.Context()  # not the handler's: a flow that is run here stands for itself
                self._thread = threading.Thread(target=context.run, args=(self._run,), name=self._name, daemon=True)
                self._thread.start()
        self._todo.put(work)

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way."""
        return not self._rests.is_set()

    def rest(self, timeout: float | None = None) -> bool:
        """Wait until there is nothing to do; whether that came."""
        return self._rests.wait(timeout)

    def close(self) -> None:
        """What is on its way ends, and then the thread does."""
        if self._thread is not None:
            self._todo.put(None)

    def _run(self) -> None:
        self._speak_under_the_cell()
        while (work := self._todo.get()) is not None:
            try:
                work()
            finally:
                with self._lock:
                    self._left -= 1
                    if not self._left:
                        self._rests.set()

    def _speak_under_the_cell(self) -> None:
        if not self._parent:
            return
        for stream in (sys.stdout, sys.stderr):
            if (tell := getattr(stream, "set_thread_parent", None)) is not None:
                tell(self._parent)


def _later(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


class Progress:
    """How far a piece of work is, published at most ten times a second, as all of it and not as what changed.

    Parameters
    ----------
    publish
        Takes the state. It is called in the context in which this was made, the handler's: there it is known which
        way the front end listens on.
    """

    def __init__(
        self,
        publish: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _later,
        **state: Any,
    ) -> None:
        self._publish, self._clock, self._later = publish, clock, later
        self._context = contextvars.copy_context()
        self._lock = threading.RLock()  # whoever is told may ask for a stop
        self._last = float("-inf")
        self._owes = False  # what was said last is published when it is time
        self.stop = threading.Event()
        self.state: dict[str, Any] = state

    def say(self, *, now: bool = False, **state: Any) -> None:
        """Change the state; it is published when it is time, or `now`. Whoever ends the work says so `now`."""
        with self._lock:
            self.state = {**self.state, **state}
            wait = self._last + OFTEN - self._clock()
            if now or wait <= 0:
                self._last, self._owes = self._clock(), False
                self.within(lambda: self._publish(dict(self.state)))
            elif not self._owes:
                self._owes = True
                self._later(wait, self._pay)

    def _pay(self) -> None:
        with self._lock:
            if self._owes:
                self.say(now=True)

    def within(self, function: Callable[[], None]) -> None:
        """Call it in the context of the handler, where what is published goes the way it came."""
        self._context.copy().run(function)
