"""A SIGTERM, as a pod that is evicted gets it, leaves a flow as an exception does: that is recorded, and resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["EVICTED", "evictable"]

EVICTED = 143
"""The exit code of a process that ended on SIGTERM."""


@contextmanager
def evictable() -> Iterator[None]:
    """Within this, SIGTERM raises `SystemExit(143)` in the main thread.

    A handler that somebody else has set is left alone, and so is everything where the main thread is another one.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def evict(number: int, frame: Any) -> None:
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the recording
        raise SystemExit(EVICTED)

    signal.signal(signal.SIGTERM, evict)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
