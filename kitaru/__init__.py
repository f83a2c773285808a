"""Kitaru: the outer harness under any AI agent. Each step of a run is a checkpoint, and a run that died goes on.

>>> import kitaru
>>> from kitaru import checkpoint, flow

Importing this package does nothing and costs next to nothing: each name loads where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import idempotency_key, lineage, load, log, save
    from .client import KitaruClient
    from .errors import KitaruDivergenceError, KitaruError, KitaruWarning
    from .flows import flow
    from .location import connect
    from .sessions import Session
    from .steps import checkpoint

__version__ = "0.1.0"

__all__ = [
    "KitaruClient",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruWarning",
    "Session",
    "checkpoint",
    "connect",
    "flow",
    "idempotency_key",
    "lineage",
    "load",
    "log",
    "save",
]

_WHERE = {
    "KitaruClient": "client",
    "KitaruDivergenceError": "errors",
    "KitaruError": "errors",
    "KitaruWarning": "errors",
    "Session": "sessions",
    "checkpoint": "steps",
    "connect": "location",
    "flow": "flows",
    "idempotency_key": "api",
    "lineage": "api",
    "load": "api",
    "log": "api",
    "save": "api",
}


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{where}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext kitaru``: the one door from the core to the notebook."""
    try:
        from kitaru_jupyter import load
    except ModuleNotFoundError as e:
        raise ImportError(
            f"Kitaru in a notebook needs {e.name}, which is not installed here. Install the extra: "
            "pip install 'kitaru[jupyter]' (in a checkout: pip install -e '.[jupyter]')."
        ) from e
    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext kitaru``."""
    from kitaru_jupyter import unload

    unload(shell)
