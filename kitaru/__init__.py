"""Kitaru: the outer harness under any AI agent. Each step of a run is a checkpoint, and a run that died goes on.

>>> import kitaru
>>> from kitaru import checkpoint, flow

Importing this package does nothing and costs next to nothing: each name loads where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import idempotency_key, load, log, save
    from .client import KitaruClient
    from .errors import KitaruDivergenceError, KitaruError, KitaruWarning
    from .flows import flow
    from .location import connect
    from .steps import checkpoint

__version__ = "0.1.0"

__all__ = [
    "KitaruClient",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruWarning",
    "checkpoint",
    "connect",
    "flow",
    "idempotency_key",
    "load",
    "log",
    "save",
]

_WHERE = {
    "KitaruClient": "client",
    "KitaruDivergenceError": "errors",
    "KitaruError": "errors",
    "KitaruWarning": "errors",
    "checkpoint": "steps",
    "connect": "location",
    "flow": "flows",
    "idempotency_key": "api",
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
