"""Where the bytes that a node only names come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Source"]


class Source(Protocol):
    """Parts and chunks by their SHA-256, 32 bytes. What it gives has that digest: it verifies."""

    def get(self, digest: bytes) -> bytes:
        """The bytes of a part or a chunk. Raises `CorruptionError` or another `StoreError`."""
        ...

    def fill(self, pieces: Sequence[tuple[bytes, int]], into: memoryview) -> None:
        """Write chunks of these digests and lengths one after the other over `into`, which they fill.

        Side by side where requests take time. Raises `CorruptionError` or another `StoreError`.
        """
        ...
