"""Kitaru: the outer harness under any AI agent. Each step of a run is a checkpoint, and a run that died goes on.

>>> import kitaru
>>> from kitaru import checkpoint, flow

Importing this package does nothing and costs next to nothing: each name loads where it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters.http.recording import record_http
    from .adapters.llms import llm, llm_async
    from .api import digest, idempotency_key, lineage, load, log, save
    from .client import KitaruClient
    from .diffs import diff
    from .errors import (
        KitaruDivergenceError,
        KitaruError,
        KitaruWaitAborted,
        KitaruWaitExpired,
        KitaruWarning,
    )
    from .flows import flow
    from .lambdas import lambda_handler
    from .location import connect
    from .passes import resume_ready
    from .references import Ref
    from .repeats import repeat
    from .replays import plan
    from .sessions import Session
    from .steps import checkpoint
    from .waits import Child, cancelled, gather, now, random, sleep, sleep_async, spawn, uuid4, wait, wait_async

__version__ = "0.1.0"

__all__ = [
    "Child",
    "KitaruClient",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruWaitAborted",
    "KitaruWaitExpired",
    "KitaruWarning",
    "Ref",
    "Session",
    "cancelled",
    "checkpoint",
    "connect",
    "diff",
    "digest",
    "flow",
    "gather",
    "idempotency_key",
    "lambda_handler",
    "lineage",
    "llm",
    "llm_async",
    "load",
    "log",
    "now",
    "plan",
    "random",
    "record_http",
    "repeat",
    "resume_ready",
    "save",
    "sleep",
    "sleep_async",
    "spawn",
    "uuid4",
    "wait",
    "wait_async",
]

_WHERE = {
    "Child": "waits",
    "KitaruClient": "client",
    "KitaruDivergenceError": "errors",
    "KitaruError": "errors",
    "KitaruWaitAborted": "errors",
    "KitaruWaitExpired": "errors",
    "KitaruWarning": "errors",
    "Ref": "references",
    "Session": "sessions",
    "cancelled": "waits",
    "checkpoint": "steps",
    "connect": "location",
    "diff": "diffs",
    "digest": "api",
    "flow": "flows",
    "gather": "waits",
    "idempotency_key": "api",
    "lambda_handler": "lambdas",
    "lineage": "api",
    "llm": "adapters.llms",
    "llm_async": "adapters.llms",
    "load": "api",
    "log": "api",
    "now": "waits",
    "plan": "replays",
    "random": "waits",
    "record_http": "adapters.http.recording",
    "repeat": "repeats",
    "resume_ready": "passes",
    "save": "api",
    "sleep": "waits",
    "sleep_async": "waits",
    "spawn": "waits",
    "uuid4": "waits",
    "wait": "waits",
    "wait_async": "waits",
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
