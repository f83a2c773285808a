"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """Time that passes by hand, and by `sleep`, which returns at once. For any thread.

    Parameters
    ----------
    start
        The time of day at first, in seconds since the epoch.

    Attributes
    ----------
    slept
        What `sleep` and `asleep` were asked for, in seconds and in order.
    on_sleep
        Called after each sleep: what the rest of the world did meanwhile.

    Examples
    --------
    >>> clock = ManualClock(start=100.0)
    >>> clock.sleep(5)
    >>> clock.advance(2.5)
    >>> clock.time(), clock.monotonic()
    (107.5, 7.5)
    >>> clock.set_back(3600)
    >>> clock.time(), clock.monotonic()
    (-3492.5, 7.5)
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.slept: list[float] = []
        self.on_sleep: Callable[[], object] = lambda: None
        self._passed = 0.0
        self._start = start
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ManualClock({self.time()})"

    def time(self) -> float:
        """Seconds since the epoch."""
        with self._lock:
            return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds that passed since this clock was made."""
        with self._lock:
            return self._passed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        with self._lock:
            self._passed += seconds

    def set_back(self, seconds: float) -> None:
        """Turn the time of day back, or forward where `seconds` is negative. No time passes by that."""
        with self._lock:
            self._start -= seconds

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass, and return at once."""
        with self._lock:
            self.slept.append(seconds)
            self._passed += seconds
        self.on_sleep()

    async def asleep(self, seconds: float) -> None:
        """Likewise; other tasks have their turn."""
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)
