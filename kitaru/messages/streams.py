"""What the chunks of streams have in common: deltas that grow to what a plain call gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["chunks_of", "grown", "whole"]

_NAMES = {"id", "index", "model", "name", "object", "role", "type"}  # said again, not continued


def chunks_of(stream: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The chunks that are data: not ``[DONE]``, and not what was no JSON."""
    return (chunk for chunk in stream if isinstance(chunk, dict))


def grown(old: Any, delta: Any, key: str = "") -> Any:
    """What `old` is after a delta: texts go on, numbered items of lists too; what is null changes nothing.

    >>> grown({"text": "Hel"}, {"text": "lo", "n": 1})
    {'text': 'Hello', 'n': 1}
    """
    if delta is None or (delta == "" and key in _NAMES):
        return old
    if isinstance(delta, dict):
        return _map(old if isinstance(old, dict) else {}, delta)
    if isinstance(delta, list):
        return _list(old if isinstance(old, list) else [], delta)
    if isinstance(delta, str) and isinstance(old, str) and key not in _NAMES:
        return old + delta
    return delta


def _map(old: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    return {**old, **{key: grown(old.get(key), item, key) for key, item in delta.items()}}


def _list(old: list[Any], delta: list[Any]) -> list[Any]:
    out = [*old]
    for item in delta:
        number = item.get("index") if isinstance(item, dict) else None
        at = next((n for n, o in enumerate(out) if isinstance(o, dict) and o.get("index") == number), None)
        if number is None or at is None:
            out.append(grown(None, item))
        else:
            out[at] = grown(out[at], item)
    return out


def whole(said: str) -> Any:
    """JSON that came in pieces; the text itself where the stream ended amid it."""
    try:
        return json.loads(said) if said else {}
    except (ValueError, RecursionError):
        return said
