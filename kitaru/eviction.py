"""A SIGTERM, as a pod that is evicted gets it, leaves a flow as an exception does: that is recorded, and resumed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import ExecutionSuspended, UsageError

__all__ = ["ASKED_TO_END", "EVICTED", "Leaving", "evictable", "grace_seconds", "is_own_exit", "was_evicted"]

EVICTED = 143
"""The exit code of a process that ended on SIGTERM."""


ASKED_TO_END = "its process was asked to end"
"""The reason of what such a process has left."""


def grace_seconds() -> float:
    """For how long a process that is asked to end lets steps end that other threads run; ``KITARU_GRACE``, or 10."""
    said = os.environ.get("KITARU_GRACE", "10")
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"KITARU_GRACE is {said!r}: seconds, 0 or more")
    return seconds


class Leaving:
    """Executions that run in threads, which no signal reaches: each is left before its next step once this is asked.

    Attributes
    ----------
    asked : bool
        Whether they are to be left.
    """

    def __init__(self) -> None:
        self.asked = False
        self._running: dict[str, Callable[[str], object]] = {}

    def add(self, exec_id: str, interrupt: Callable[[str], object]) -> None:
        """This one runs now; `interrupt` lets it go, whatever its thread is at."""
        self._running[exec_id] = interrupt

    def remove(self, exec_id: str) -> None:
        """It has ended, or was left."""
        self._running.pop(exec_id, None)

    def interrupt(self, reason: str) -> None:
        """Let those go that are still in the body of a step: what that does from here on is not recorded."""
        for interrupt in list(self._running.values()):
            interrupt(reason)


@contextmanager
def evictable() -> Iterator[None]:
    """Within this, SIGTERM raises `SystemExit(143)` in the main thread.

    A handler that somebody else has set is left alone, and so is everything where the main thread is another one.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    _Process.is_asked = False
    signal.signal(signal.SIGTERM, _evict)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Process:
    """What SIGTERM leaves behind: a task that it breaks off is told no more than that it was cancelled."""

    is_asked = False


def was_evicted() -> bool:
    """Whether a SIGTERM has come since the flow began that runs in the main thread."""
    return _Process.is_asked


def _evict(number: int, frame: Any) -> None:
    del number, frame
    _Process.is_asked = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the recording
    raise SystemExit(EVICTED)


def is_own_exit(error: BaseException) -> bool:
    """Whether a body left by itself, as `sys.exit` does it, and nobody asked this process to end.

    Where somebody else handles SIGTERM, his handler may have raised it.
    """
    if not isinstance(error, SystemExit) or isinstance(error, ExecutionSuspended) or error.code == EVICTED:
        return False
    is_main = threading.current_thread() is threading.main_thread()
    return not is_main or signal.getsignal(signal.SIGTERM) is _evict
