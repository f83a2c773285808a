"""The time of day, the time that passed, and waiting, as one thing that a test can hold in its hand."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "SystemClock"]


class Clock(Protocol):
    """What the engine asks about time."""

    def time(self) -> float:
        """Seconds since the epoch. It may jump; nothing is decided by it."""
        ...

    def monotonic(self) -> float:
        """Seconds that passed since some moment, the sleep of the machine included where the system tells."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Return after `seconds`, without holding up the event loop."""
        ...


# A laptop that slept must notice that it did: CLOCK_BOOTTIME counts that time, CLOCK_MONOTONIC does not.
_PASSING = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() if _PASSING is None else time.clock_gettime(_PASSING)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)


SYSTEM = SystemClock()
