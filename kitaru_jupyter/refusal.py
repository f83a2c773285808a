"""What IPython shows as one paragraph, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.core.error import InputRejected, UsageError

__all__ = ["RefusedCellError", "RefusedSyntaxError", "UsageError", "check_installed"]

_NEEDED = ("IPython", "ipywidgets", "pandas")


class RefusedCellError(InputRejected):
    """A cell is not run: what it does could not be recorded, or its magic line cannot be carried out."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"kitaru: {self}"]


class RefusedSyntaxError(InputRejected, SyntaxError):
    """A cell is not run: it parses, and does not compile. IPython shows it as it shows any syntax error."""


RefusedSyntaxError.__name__ = "SyntaxError"  # which is what it is to whoever reads it


def check_installed(needed: Sequence[str] = _NEEDED) -> None:
    """Refuse to load without the extra. The message says what to type."""
    from importlib.util import find_spec

    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"Kitaru in a notebook needs {', '.join(missing)}, not installed here. Install the extra: "
            "%pip install 'kitaru[jupyter]' (in a checkout: %pip install -e '.[jupyter]'), then %load_ext kitaru again."
        )
