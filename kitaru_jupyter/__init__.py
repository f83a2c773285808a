"""Kitaru in the notebook: ``%load_ext kitaru`` makes cells steps, and shows what was recorded.

`magics` parse and call, `recorder` runs a cell as a step, `session` holds what the notebook records in, `cells` finds
what a cell reads and binds, and `display` draws. It stands on public `kitaru` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "load_ipython_extension", "unload", "unload_ipython_extension"]


def load(shell: InteractiveShell) -> None:
    """Add Kitaru to an IPython shell: magics, recorded cells, and how executions look.

    Raises
    ------
    UsageError
        IPython's, which is shown without a traceback: the extra is not installed; the message says what to type.
    """
    from .refusal import check_installed

    check_installed()
    from .magics import install

    install(shell)


def unload(shell: InteractiveShell) -> None:
    """Take everything away again. The notebook's execution is let go of, and can be gone on with."""
    from .magics import uninstall

    uninstall(shell)


load_ipython_extension = load
unload_ipython_extension = unload
