"""aiohttp: its calls of models are not recorded, and whoever relies on that is told.

google-genai's async client takes it where it is installed. An answer of aiohttp is tied to its connection, so that one
cannot be made out of a record without its private parts.
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from ...errors import KitaruWarning
from .recording import may_meet

__all__ = ["patch"]


def patch(client: ModuleType) -> None:
    """Wrap the session that sends."""
    of: Any = client
    send = of.ClientSession._request

    @functools.wraps(send)
    async def send_and_tell(self: Any, method: str, str_or_url: Any, **kwargs: Any) -> Any:
        path = urlsplit(str(str_or_url)).path
        if may_meet(method.upper(), path):
            warnings.warn(
                f"this call of a model, {path}, goes over aiohttp, and record_http does not record that: let its SDK "
                "use httpx (google-genai: HttpOptions(httpx_async_client=httpx.AsyncClient()); openai and anthropic: "
                "leave out DefaultAioHttpClient)",
                KitaruWarning,
                stacklevel=3,
            )
        return await send(self, method, str_or_url, **kwargs)

    of.ClientSession._request = send_and_tell
