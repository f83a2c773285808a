"""The place of a part inside a value, as Python would write it: `output["rows"][3].client`."""

from __future__ import annotations

__all__ = ["shortened", "subscript"]


def subscript(key: object, otherwise: str = "…") -> str:
    """How an error writes the item of a dict under `key`; a key with code of its own is not asked what it is.

    >>> subscript("rows"), subscript(3), subscript(("a", 1))
    ('["rows"]', '[3]', '[…]')
    """
    if type(key) is str:
        text = key[:80]
        return f'["{text}"]' if text.isprintable() and '"' not in text and "\\" not in text else f"[{text!r}]"
    if type(key) is int and key.bit_length() > 256:
        return f"[{otherwise}]"
    return f"[{key!r:.80}]" if type(key) in {int, bool, float, bytes, type(None)} else f"[{otherwise}]"


def shortened(place: str) -> str:
    """`place` without its middle where it is very long."""
    return place if len(place) <= 200 else f"{place[:90]} … {place[-90:]}"
