"""Effects: what a step does that takes time. A generator yields them; it is driven in the one world or in the other.

The generator does no I/O itself, so that sync and async code are served by one core.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Effect", "Outcome", "Raised", "Rest", "Steps", "drive", "drive_async", "drive_until"]


@dataclass(slots=True)
class Outcome:
    """What a body came to."""

    value: Any = None
    error: BaseException | None = None
    took: float = 0.0
    notes: Mapping[str, Any] | None = None  # of whoever ran it by hand


@dataclass(slots=True)
class Raised:
    """What a generator returns in place of raising: a body's `StopIteration` cannot leave a generator as itself."""

    error: BaseException


class Effect(Protocol):
    """Something that takes time, in both worlds."""

    def run(self) -> Any: ...

    async def arun(self) -> Any: ...


Steps = Generator[Effect, Any, Any]


@dataclass(slots=True)
class Rest:
    """What is left of steps before an effect: another thread may go on with them."""

    _steps: Steps
    _effect: Effect

    def drive(self) -> Any:
        """As the function."""
        return _drive(self._steps, self._effect)


def drive(steps: Steps) -> Any:
    """Carry the effects out in this thread. Gives what the generator returns."""
    return _drive(steps)


def drive_until(steps: Steps, kind: type[Effect]) -> Any | Rest:
    """As `drive`, but not the first effect of this kind, nor what comes after it: that is given back."""
    return _drive(steps, None, kind)


def _drive(steps: Steps, effect: Effect | None = None, until: type[Effect] | tuple[()] = ()) -> Any:
    try:
        while True:
            effect = steps.send(None if effect is None else effect.run())
            if isinstance(effect, until):
                return Rest(steps, effect)
    except StopIteration as end:
        ended = end.value
    except BaseException:
        steps.close()
        raise
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
