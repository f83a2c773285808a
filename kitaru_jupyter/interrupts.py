"""Interrupts of what runs cells within a cell."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupts"]


def _wake() -> None:
    """Whatever was left to be done is done."""


class Interrupts:
    """While code of the user's runs within a cell that awaits it: an interrupt stops it.

    There a kernel takes an interrupt for a wish to cancel what is awaited, and code that does not await never hears of
    it. In here it raises `KeyboardInterrupt` in code that does not await; code that does is cancelled; and one that
    comes between the two stops what would run next.

    Examples
    --------
    >>> try:
    ...     with Interrupts() as interrupts, interrupts.stopping():
    ...         signal.raise_signal(signal.SIGINT)
    ... except KeyboardInterrupt:
    ...     print("stopped")
    stopped
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._is_stopping = self._was_heard = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            raise KeyboardInterrupt
        self._was_heard = True

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._before(number, frame)
        asyncio.get_running_loop().call_soon_threadsafe(_wake)  # it sleeps, and was told nothing that wakes it

    def check(self) -> None:
        """Raise `KeyboardInterrupt` where one came since the last code ran."""
        if self._was_heard:
            self._was_heard = False
            raise KeyboardInterrupt

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Code runs that does not await: an interrupt stops it where it is."""
        self.check()
        self._is_stopping = True
        try:
            yield
        finally:
            self._is_stopping = False

    @contextmanager
    def cancelling(self) -> Iterator[None]:
        """Code runs that awaits: an interrupt is the kernel's affair, which cancels it."""
        self.check()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._pass_on)
        try:
            yield
        finally:
            if self._before is not None:
                signal.signal(signal.SIGINT, self._hear)
