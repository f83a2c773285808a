"""An object taken apart as pickle would: what makes it, of what, and what is put in it then."""

from __future__ import annotations

import collections
import copyreg
import sys
from typing import Any, NamedTuple

from .reach import WEAK

__all__ = ["Parts", "taken_apart", "why_whole"]

_OWN = 3  # references to a dict that its object alone holds, two of them the question's


class Parts(NamedTuple):
    """What an object is put together from.

    Attributes
    ----------
    make, args
        ``make(*args)`` gives the object.
    state
        What is set on it then; None: nothing.
    items, pairs : list or None
        What is appended, and what is put in by key.
    setter
        What sets the state, where that is neither its class nor pickle itself.
    """

    make: Any
    args: tuple[Any, ...]
    state: Any
    items: list[Any] | None
    pairs: list[Any] | None
    setter: Any


def taken_apart(o: Any) -> Parts | str:
    """The parts of any object, or the name by which its module has it. Runs what its class has for pickle, and raises
    what that raises.
    """
    cls: Any = type(o)
    if cls in WEAK:  # what holds its parts strongly holds them still
        return Parts(cls, (), None, None, [*o.items()], None)
    registered: Any = copyreg.dispatch_table.get(cls)
    made = o.__reduce_ex__(4) if registered is None else registered(o)
    if isinstance(made, str):
        return made
    if type(made) is not tuple or not 2 <= len(made) <= 6:
        raise TypeError("its class does not say what it is made of")
    make, args, state, items, pairs, setter = (*made, None, None, None, None)[:6]
    if cls is collections.Counter and o.__dict__:  # which would leave that out
        state = o.__dict__
    elif state is None and cls.__reduce_ex__ is object.__reduce_ex__ and cls.__reduce__ is object.__reduce__:
        held = getattr(o, "__dict__", None)
        if type(held) is dict and sys.getrefcount(held) > _OWN:  # empty, but somebody else holds it
            state = held
    return Parts(make, args, state, None if items is None else [*items], None if pairs is None else [*pairs], setter)


def why_whole(error: BaseException) -> str:
    """Why an object could not be taken apart: what its class has said, in a line."""
    return next(iter(str(error).splitlines()), "") or f"{type(error).__name__} when it was taken apart"
