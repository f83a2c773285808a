"""Tokens and cost of an answer, out of its JSON or its events. Prices come from genai-prices, where it is installed."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["metadata_of"]

_NAMES = {
    "prompt_tokens": "input",
    "input_tokens": "input",
    "promptTokenCount": "input",
    "inputTokens": "input",
    "completion_tokens": "output",
    "output_tokens": "output",
    "candidatesTokenCount": "output",
    "outputTokens": "output",
    "thoughtsTokenCount": "thoughts",
    "cachedContentTokenCount": "cached",
    "cached_tokens": "cached",
    "cache_read_input_tokens": "read",
    "cacheReadInputTokens": "read",
    "cache_creation_input_tokens": "written",
    "cacheWriteInputTokens": "written",
}
_DETAILS = ("prompt_tokens_details", "input_tokens_details")


def metadata_of(model: Any, url: str, answer: Any, *, is_stream: bool) -> dict[str, Any]:
    """What `kitaru.log` is told: the model, its tokens, and what they cost in US dollars."""
    counts: dict[str, int] = {}
    for data in (event["data"] for event in answer) if is_stream else (answer,):
        counts |= _counts(data)
    if not counts:
        return {"model": model} if isinstance(model, str) else {}
    read, written = counts.get("read", 0), counts.get("written", 0)
    given = counts.get("input", 0) + read + written  # where these are counted apart, they are not among the input
    output = counts.get("output", 0) + counts.get("thoughts", 0)
    out: dict[str, Any] = {"model": model, "tokens": given + output, "input_tokens": given, "output_tokens": output}
    cached = read or counts.get("cached", 0)
    if cached:
        out["cached_tokens"] = cached
    cost = _cost(str(model), url, given, output, cached, written)
    return out if cost is None else {**out, "cost": cost}


def _counts(data: Any) -> dict[str, int]:
    """Of one answer, or of one event."""
    if not isinstance(data, Mapping):
        return {}
    if isinstance(data.get("bytes"), str):  # Bedrock wraps the events of InvokeModelWithResponseStream
        with contextlib.suppress(binascii.Error, ValueError):
            return _counts(json.loads(base64.b64decode(data["bytes"])))
    out: dict[str, int] = {}
    for within in (data, data.get("message"), data.get("response")):
        usage = (within.get("usage") or within.get("usageMetadata")) if isinstance(within, Mapping) else None
        if isinstance(usage, Mapping):
            details = [usage[name] for name in _DETAILS if isinstance(usage.get(name), Mapping)]
            out |= _named((usage, *details))
    return out


def _named(of: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {
        _NAMES[name]: value
        for each in of
        for name, value in each.items()
        if name in _NAMES and isinstance(value, int) and not isinstance(value, bool)
    }


@functools.cache
def _prices() -> Any:
    try:
        import genai_prices
    except ImportError:
        return None
    return genai_prices


def _cost(model: str, url: str, given: int, output: int, read: int, written: int) -> float | None:
    prices = _prices()
    if prices is None:
        return None
    usage = prices.Usage(
        input_tokens=given,
        output_tokens=output,
        **({"cache_read_tokens": read} if read else {}),
        **({"cache_write_tokens": written} if written else {}),
    )
    for where in ({"provider_api_url": url}, {}):
        try:
            return float(prices.calc_price(usage, model, **where).total_price)
        except (LookupError, ValueError):
            continue
    return None
