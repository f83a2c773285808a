"""The collector of cycles, kept from walking through what is made to stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["kept"]

_MUCH = 20_000  # objects made


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """All that is made in here is kept, and it is much: the collector would walk through it again and again.

    Where it was much, it is as old as anything afterwards: the next collection of what is young does not walk through
    it either. Of several threads in here at once, the first one in lets the collector work again when it leaves.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            # Not for little: what of the caller's is young, and garbage, ages with it. And whoever froze something,
            # before a fork say, wants it to stay so.
            if gc.get_count()[0] > _MUCH and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()  # into the oldest generation, without a look at it
            gc.enable()
