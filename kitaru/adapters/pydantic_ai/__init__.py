"""Pydantic AI: an agent whose model requests and tool calls are steps.

>>> from kitaru.adapters.pydantic_ai import durable
"""

from __future__ import annotations

try:
    import pydantic_ai as _  # noqa: F401 - for an error that says what is missing
except ModuleNotFoundError as e:
    raise ImportError(
        f"Kitaru's adapter for Pydantic AI needs {e.name}, which is not installed here. Install the extra: "
        "pip install 'kitaru[pydantic-ai]' (in a checkout: pip install -e '.[pydantic-ai]')."
    ) from e

from .agents import DurableAgent, durable

__all__ = ["DurableAgent", "durable"]
