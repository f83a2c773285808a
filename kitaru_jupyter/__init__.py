"""Kitaru in the notebook: ``%load_ext kitaru`` makes cells steps, and shows what was recorded.

`magics` parse and call, `recorder` runs a cell as a step, `session` holds what the notebook records in, `capture` finds
what a cell reads and binds, `display`, `listings` and `picture` draw, and `browser` is the widget. It stands on public
`kitaru` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .browser import Browser as Browser

__all__ = ["Browser", "load", "load_ipython_extension", "unload", "unload_ipython_extension"]


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


def __getattr__(name: str) -> Any:
    if name == "Browser":  # what draws loads when it is asked for
        from .browser import Browser

        return Browser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
