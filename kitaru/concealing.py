"""Credentials that an adapter has met: no recorded failure holds one, whatever library wrote the message.

An SDK raises errors with the address it asked, key included, or with an answer that repeats the key. They pass through
the user's code and end as failures of steps and flows, far from whoever knows what is secret in them.
"""

from __future__ import annotations

__all__ = ["conceal", "holds_secret", "without_secrets"]

MASK = "[credential]"
_SHORTEST = 8
"""Shorter ones, such as ``test``, would be found in every other text."""

_secrets: dict[str, None] = {}


def conceal(*secrets: str) -> None:
    """Keep these texts out of failures that this process records. Texts of less than 8 characters are not sought."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            _secrets[secret] = None


def without_secrets(text: str) -> str:
    """The text, with a mask in the place of each credential."""
    for secret in [*_secrets]:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def holds_secret(data: bytes) -> bool:
    """Whether a credential stands in these bytes."""
    return any(secret.encode("utf-8", "surrogatepass") in data for secret in [*_secrets])
