"""Values so large that they are kept in blobs. Nothing in them repeats: what is the same is kept once."""

from __future__ import annotations

import random

__all__ = ["noise", "pages"]


def noise(size: int, seed: object = 0) -> bytes:
    """So many bytes; one blob where they are more than 64 KiB, up to 4 MiB."""
    return random.Random(str(seed)).randbytes(size)


def pages(size: int, seed: object = 0) -> str:
    """A text of about so many characters, in lines of 100; one bundle where they are more than 256 KiB."""
    line = 100
    return "\n".join(noise(size // 2, seed).hex()[at : at + line - 1] for at in range(0, size, line - 1))
