"""Progress under a cell, where there is somebody to look at it."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Progress"]


class Progress:
    """Which of how many steps runs: a bar in a notebook, in a terminal one line that is written over.

    Its text form says how many steps there are and nothing else, so that a notebook's outputs can be compared.
    """

    is_stopped = False
    """Whether somebody has asked for it to end before the next step."""

    def __init__(self, shell: InteractiveShell, what: str) -> None:
        self._has_kernel = hasattr(shell, "kernel")
        self._what, self._steps, self._done, self._begun = what, 0, 0, False
        self._is_terminal = sys.stderr.isatty()
        self._bar: Any = None

    def begin(self, steps: int) -> None:
        """So many steps may run."""
        self._steps = steps
        if self._has_kernel and steps > 1:
            self._bar = _bar(self._what, steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
        if self._bar is not None and error is not None:
            self._bar.children[0].bar_style = "danger"
        elif self._bar is not None and self._begun:
            self._bar.children[0].value = self._steps

    def at(self, label: str) -> None:
        """This step begins."""
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{self._what}: {self._done + 1} of {self._steps}, {label}")
            sys.stderr.flush()
        if self._bar is not None:
            self._bar.children[1].value = label

    def admit(self, label: str) -> None:
        """This step begins, and the one before it has ended."""
        if self._begun:
            self.advance()
        self._begun = True
        self.at(label)

    def advance(self) -> None:
        """It has ended."""
        self._done += 1
        if self._bar is not None:
            self._bar.children[0].value = min(self._done, self._steps)


def _bar(what: str, steps: int) -> Any:
    from IPython.core.display_functions import display
    from ipywidgets import HBox, IntProgress, Label

    bar = HBox([IntProgress(max=steps, description=what), Label()])
    display(bar)
    return bar
