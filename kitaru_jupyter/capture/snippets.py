"""The text of the notebook's own code in documents: what it is, and how code is had from it again.

A function comes back by compiling the statement that it stands in and taking its code out of that; nothing of the
statement is run. An inner function of a library, such as what `contextlib.contextmanager` gives, needs no text: its
code stands in that library.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import types
import weakref
from collections.abc import Iterator

from .importable import found
from .sources import Source, source_of

__all__ = [
    "NO_PLACE",
    "NO_SOURCE",
    "class_source",
    "code_in_library",
    "code_of",
    "function_source",
    "is_generated",
    "library_place",
    "statement",
]

NO_PLACE = "it was made by a library, and is not found again by a name"
NO_SOURCE = "its source is not known, so it could not be made again"
"""Why a function of the notebook cannot be restored."""

_known: dict[int, tuple[weakref.ref[types.CodeType], Source]] = {}  # codes that are equal may stand in several texts


def function_source(function: types.FunctionType) -> Source | None:
    """Where a function's code stands, or None. It is kept with the code: a text is looked for once."""
    code = function.__code__
    known = _known.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    source, key = source_of(function), id(code)
    if source is not None:
        _known[key] = weakref.ref(code, lambda _: _known.pop(key, None)), source
    return source


def class_source(cls: type) -> Source | None:
    """The statement that a class was made by, at the top level of a cell; None for any other class."""
    source = source_of(cls) if cls.__qualname__ == cls.__name__ else None
    return source if source is not None and source.path == (cls.__name__,) else None


def is_generated(code: types.CodeType) -> bool:
    """Whether a program wrote the text of this code, and kept it nowhere."""
    return code.co_filename.startswith("<") and not linecache.getlines(code.co_filename)


@functools.lru_cache(maxsize=1024)
def code_of(text: str, path: tuple[str, ...], flags: int) -> types.CodeType:
    """The code that stands there. Raises `LookupError` or `SyntaxError` where there is none in this Python."""
    return Source(text, text, "", path, (), flags).code(_filed(text))


def statement(text: str) -> tuple[ast.ClassDef, str]:
    """The class statement in a text, and the name of a file that shows it in tracebacks."""
    node = ast.parse(text).body[0]
    if not isinstance(node, ast.ClassDef):
        raise SyntaxError("it is no class")  # noqa: TRY004 - so is what else may be wrong with it
    return node, _filed(text)


def _filed(text: str) -> str:
    """The name of a file that does not exist, by which tracebacks and `sources` find the text."""
    name = f"<kitaru {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return name


def library_place(function: types.FunctionType) -> tuple[str, str, int] | None:
    """Module, qualified name and which one: where the code of an inner function of a library stands."""
    module, code = function.__globals__.get("__name__"), function.__code__
    if type(module) is not str:
        return None
    try:
        codes = _library_codes(module, code.co_qualname)
    except Exception:  # whatever importing it raises
        return None
    return next(((module, code.co_qualname, nth) for nth, other in enumerate(codes) if other == code), None)


def code_in_library(module: str, name: str, nth: int) -> types.CodeType:
    """The code of an inner function of a library; imports it. Raises `LookupError` where it has no such code."""
    return _library_codes(module, name)[nth]


def _library_codes(module: str, name: str) -> list[types.CodeType]:
    outer = found(f"{module}:{name.partition('.<locals>')[0]}")
    outer = getattr(outer, "__wrapped__", outer)
    code = getattr(getattr(outer, "__func__", outer), "__code__", None)
    if not isinstance(code, types.CodeType):
        raise LookupError(f"{module}:{name}")  # noqa: TRY004 - there is none
    return [inner for inner in _all_codes(code) if inner.co_qualname == name]


def _all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _all_codes(const)
