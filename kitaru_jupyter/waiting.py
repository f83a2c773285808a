"""What suspended while a cell ran is shown below that cell: what it waits for, and how it is answered."""

from __future__ import annotations

import sys
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kitaru.client import Execution, KitaruClient
from kitaru.errors import ExecutionSuspended, KitaruError
from kitaru.stepping import shown_by

from . import display as faces, questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from .magics import KitaruMagics

__all__ = ["Suspended"]

_in_a_cell: ContextVar[bool] = ContextVar("kitaru_in_a_cell", default=False)

_MOST = 5
"""Executions whose questions are shown below one cell."""


class Suspended:
    """The executions that came to a wait in cells of this notebook.

    A flow that suspends raises a `SystemExit`, which IPython takes for a wish to leave. Here it is one line and a form,
    and the cell is one that did not succeed: what comes after it is not run by "run all".
    """

    def __init__(self, shell: InteractiveShell, magics: KitaruMagics) -> None:
        self._shell, self._magics = shell, magics
        self._found: dict[str, tuple[KitaruClient, str]] = {}  # what suspended in the running cell, and its lines
        self._quiet: warnings.catch_warnings[Any] | None = None
        self._end: Callable[[], None] | None = None
        self.clients: dict[str, KitaruClient] = {}  # of those that have suspended here, by their exec_ids, oldest first

    def install(self) -> None:
        """From now on it is heard of what suspends."""
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)
        self._end = shown_by(self._hear)
        shell: Any = self._shell
        shell.showtraceback = self._showtraceback

    def uninstall(self) -> None:
        """IPython shows it as it shows any `SystemExit`."""
        self._shell.events.unregister("pre_run_cell", self._before)
        self._shell.events.unregister("post_run_cell", self._after)
        if self._end is not None:
            self._end()
        vars(self._shell).pop("showtraceback", None)

    # ------------------------------------------------------------ hearing of it

    def _before(self, _info: Any = None) -> None:
        _in_a_cell.set(True)

    def _hear(self, store: Any, exec_id: str, lines: str) -> bool:
        """In the thread that ran it. One that runs for no cell, such as the browser's, has none to show it below."""
        if _in_a_cell.get():
            self._found[exec_id] = KitaruClient(store), lines
        return _in_a_cell.get()

    def _showtraceback(self, *args: Any, **kwargs: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ExecutionSuspended):
            type(self._shell).showtraceback(self._shell, *args, **kwargs)
            return
        client = self.clients.get(error.exec_id) or self._magics.notebook.client
        self._found.setdefault(error.exec_id, (client, error.message))
        if hasattr(self._shell, "_last_traceback"):  # a kernel's: it replies with it
            self._shell._last_traceback = [error.message]
        if self._quiet is None:
            self._quiet = warnings.catch_warnings()  # until the cell has ended, in a moment
            self._quiet.__enter__()
        warnings.filterwarnings("ignore", "To exit: use", UserWarning)  # what IPython says of any SystemExit

    # ------------------------------------------------------------ showing it

    def _after(self, _result: Any = None) -> None:
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        found, self._found = self._found, {}
        for n, (exec_id, (client, lines)) in enumerate(found.items()):
            try:
                execution = client.executions.get(exec_id) if n < _MOST else None
            except KitaruError:  # the store is gone: what was known is said
                execution = None
            if execution is not None and execution.data.waits.open:
                self.show(execution)
            else:
                sys.stderr.write(f"{lines}\n")

    def show(self, execution: Execution) -> None:
        """What it waits for; where there is a front end, with a form. From now on it is answered without its name."""
        exec_id = execution.exec_id
        self.clients.pop(exec_id, None)
        self.clients[exec_id] = KitaruClient(execution.store)
        if hasattr(self._shell, "kernel") and any(map(questions.is_asked, questions.pending(execution))):
            from .asking import Form  # which loads what draws

            Form(self._magics, execution).publish()
        else:
            faces.publish(questions.shown(execution, self._magics.notebook.named(execution)))
