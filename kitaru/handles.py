"""A handle: an execution as whoever started it holds it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

from .engine import Tally
from .errors import UsageError

__all__ = ["Handle"]


class Handle:
    """One execution, from the process that ran it.

    `wait` and `get` give the flow's result, or raise its exception. Within a running event loop the handle of an
    async flow has not run yet: awaiting it drives the flow, and gives the result.

    Attributes
    ----------
    exec_id : str
        The execution's name in its store.
    status : str
        ``pending`` before it was driven, then what `client.executions.get` would say.
    tally : Tally
        What this run reused and ran, and the seconds that reuse saved.
    """

    def __init__(
        self,
        exec_id: str,
        *,
        status: str = "pending",
        drive: Callable[[Handle], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.exec_id = exec_id
        self.status = status
        self.tally = Tally()
        self._drive = drive
        self._value: Any = None
        self._error: BaseException | None = None
        self._driving: Any = None

    def settle(self, status: str, value: Any = None, error: BaseException | None = None) -> Handle:
        """The run ended; for the engine."""
        self.status, self._value, self._error = status, value, error
        self._drive = None
        return self

    @property
    def error(self) -> BaseException | None:
        """What `get` would raise; None where it would not."""
        return self._error

    def wait(self, timeout: float | None = None) -> Any:
        """The flow's result, or its exception. A run in this process has ended by the time its handle is given."""
        del timeout
        if self._drive is not None:
            raise UsageError(f"{self.exec_id} is an async flow in a running event loop: `await` its handle")
        if self._error is not None:
            raise self._error
        return self._value

    def get(self) -> Any:
        """As `wait`."""
        return self.wait()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    async def result(self) -> Any:
        """The flow's result, as a coroutine: it drives an async flow that has not run yet."""
        if self._drive is not None:
            import asyncio

            if self._driving is None:  # two that await one handle drive it once
                self._driving = asyncio.ensure_future(self._drive(self))
            await self._driving
        return self.wait()

    def __repr__(self) -> str:
        return f"<execution {self.exec_id}: {self.status}>"
