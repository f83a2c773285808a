"""Which room knows the values of which library. It is imported when such a value, or such a tag, is met.

A room has `former(cls)`, which gives what makes the form of values of exactly that class, or None; and `MAKERS`, by
tag, which make a value of a form's other items. Its tags begin with the name of its library and a dot.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import CodeNotFoundError

__all__ = ["former", "maker"]


class _Room(NamedTuple):
    name: str
    library: str  # as its tags begin
    install: str  # as pip calls it


_BY_PACKAGE = {
    "PIL": _Room("images", "pillow", "pillow"),
    "numpy": _Room("arrays", "numpy", "numpy"),
    "pandas": _Room("frames", "pandas", "pandas"),
    "polars": _Room("polars_frames", "polars", "polars"),
    "pyarrow": _Room("columns", "arrow", "pyarrow"),
}
_BY_LIBRARY = {room.library: room for room in _BY_PACKAGE.values()}


@functools.cache  # asking for an imported module again costs more than making a scalar
def _opened(name: str) -> Any:
    return importlib.import_module(f".{name}", __package__)


def former(cls: type, package: str) -> Callable[[Any], list[Any]] | None:
    """What makes the form of values of exactly this class of this package; None where nobody knows it."""
    room = _BY_PACKAGE.get(package)
    if room is None:
        return None
    made: Callable[[Any], list[Any]] | None = _opened(room.name).former(cls)
    return made


def maker(tag: str) -> Callable[..., Any] | None:
    """What makes a value of the items after this tag; None where nobody knows it.

    Raises
    ------
    CodeNotFoundError
        It needs a library that is not installed here.
    """
    room = _BY_LIBRARY.get(tag.partition(".")[0])
    if room is None:
        return None
    try:
        makers = _opened(room.name).MAKERS
    except ImportError as error:
        raise CodeNotFoundError(
            f"a recorded value is of the library {room.library}, which cannot be imported here ({error}): "
            f"pip install {room.install}"
        ) from error
    make: Callable[..., Any] | None = makers.get(tag)
    return make
