"""The user's own threads: what a body starts, or hands to a thread pool, knows which body that was.

A context variable does not reach a new thread by itself, so a step called there would just run, and nobody would be
told that it was not recorded. From the first run of a flow on, `threading.Thread.start` and
`ThreadPoolExecutor.submit` hand on the body that calls them, what adapters `carried` with it, and nothing else; outside
of a flow they do what they always did. `asyncio.to_thread` carries the context by itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .context import carried, current

__all__ = ["follow"]

OWN = "kitaru-"
"""What the names of Kitaru's own threads begin with: they belong to no body."""


def _within(values: list[Any], work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    tokens = [variable.set(value) for variable, value in zip(carried, values, strict=False)]
    try:
        return work(*args, **kwargs)
    finally:
        for variable, token in zip(carried, tokens, strict=False):
            variable.reset(token)


def _values() -> list[Any]:
    return [variable.get() for variable in carried]


@functools.cache
def follow() -> None:
    """From now on, threads follow the body that starts them. Once a process; the second call does nothing."""
    from concurrent.futures import thread as pools

    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_within(self: threading.Thread) -> None:
        frame = current.get()
        # A pool's worker outlives the body whose submission started it: `submit` tells it the body of each job.
        is_worker = getattr(self, "_target", None) is pools._worker
        if frame is not None and not is_worker and not self.name.startswith(OWN):
            self.run = functools.partial(_within, _values(), self.run)  # type: ignore[method-assign]
        start(self)

    @functools.wraps(ThreadPoolExecutor.submit)  # type: ignore[arg-type]
    def submit_within(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        frame = current.get()
        return submit(self, fn if frame is None else functools.partial(_within, _values(), fn), *args, **kwargs)

    threading.Thread.start = start_within  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_within  # type: ignore[assignment, method-assign]
