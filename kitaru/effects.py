"""Effects: what a step does that takes time. A generator yields them; it is driven in the one world or in the other.

The generator does no I/O itself, so that sync and async code are served by one core.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Effect", "Outcome", "Raised", "Steps", "drive", "drive_async"]


@dataclass(slots=True)
class Outcome:
    """What a body came to."""

    value: Any = None
    error: Exception | None = None
    took: float = 0.0


@dataclass(slots=True)
class Raised:
    """What a generator returns in place of raising: a body's `StopIteration` cannot leave a generator as itself."""

    error: BaseException


class Effect(Protocol):
    """Something that takes time, in both worlds."""

    def run(self) -> Any: ...

    async def arun(self) -> Any: ...


Steps = Generator[Effect, Any, Any]


def drive(steps: Steps) -> Any:
    """Carry the effects out in this thread. Gives what the generator returns."""
    result = None
    try:
        while True:
            result = steps.send(result).run()
    except StopIteration as end:
        ended = end.value
    finally:
        steps.close()
    if isinstance(ended, Raised):
        raise ended.error
    return ended


async def drive_async(steps: Steps) -> Any:
    """Carry the effects out without holding up the event loop."""
    result = None
    try:
        while True:
            result = await steps.send(result).arun()
    except StopIteration as end:
        ended = end.value
    finally:
        steps.close()
    if isinstance(ended, Raised):
        raise ended.error
    return ended
