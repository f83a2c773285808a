"""How far an upload or a download is, on stderr, when it takes more than a second and somebody looks."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

__all__ = ["Transfer", "transfer"]

PATIENCE = 1.0
"""Seconds before anything is shown."""

_OFTEN = 0.1  # seconds between two looks of a notebook's line
_showing = threading.Lock()  # one at a time: of several transfers side by side, the first to be slow is shown


class Transfer:
    """Bytes on their way. Any thread may say that some have arrived; nothing that is shown can make it fail.

    Parameters
    ----------
    what
        What the line begins with: ``kitaru: uploading``.
    total
        Bytes.
    """

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._lock = threading.Lock()
        self._done = 0
        self._began = clock()
        self._face: Callable[[int], None] | None = None
        self._shown = contextlib.ExitStack()

    def advance(self, size: int) -> None:
        """`size` more bytes have arrived."""
        with self._lock:
            self._done += size
            if self._face is None and self._clock() - self._began >= PATIENCE and self._done < self._total:
                self._face = self._open()
            if self._face is not None:
                with contextlib.suppress(Exception):
                    self._face(self._done)

    def _open(self) -> Callable[[int], None]:
        show = _face()
        if show is None or not _showing.acquire(blocking=False):
            return lambda done: None
        self._shown.callback(_showing.release)
        try:
            return self._shown.enter_context(show(self._what, self._total))
        except Exception:  # another live display has the terminal
            return lambda done: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock, contextlib.suppress(Exception):
            self._shown.close()


def transfer(what: str, total: int) -> Transfer:
    """A transfer of `total` bytes, for a `with` block.

    >>> with transfer("kitaru: uploading", 8 << 20) as moving:
    ...     moving.advance(4 << 20)
    """
    return Transfer(what, total)


def _face() -> Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]] | None:
    """How to show it where stderr leads; None where nobody looks."""
    stream: Any = sys.stderr
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return _line
    try:
        return _bar if stream.isatty() else None
    except (AttributeError, ValueError):  # there is none, or it is closed
        return None


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def _line(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A line that is written anew: what a notebook's output area can show."""
    last = 0.0

    def show(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _OFTEN:
            last = now
            sys.stderr.write(f"\r{what} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
            sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
