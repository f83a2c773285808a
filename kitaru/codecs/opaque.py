"""The last resort: pickle, for what has no data form. Reading it runs code, so it is refused unless trusted."""

from __future__ import annotations

import io
import sys
import types
from typing import Any, cast

from ..errors import CodeNotFoundError, UnrecordableValueError, UntrustedValueError
from . import state
from .node import damaged
from .places import subscript
from .types import aliased_modules, name_of

__all__ = ["dumps", "guilty", "is_lazy", "is_live", "is_pydantic", "loads"]

_LIVE_TYPES = (
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
    memoryview,
    cast("type", io.IOBase.__base__),  # which all files extend, and which asks no class anything, as an ABC does
)
_ATOMS = (int, str, float, bytes, bool, type(None))
_LIVE_NAMES = frozenset({
    "_thread:RLock", "_thread:lock", "_asyncio:Future", "_asyncio:Task", "_contextvars:Context",
    "kitaru.references:Ref", "select:epoll", "socket:socket", "sqlite3:Connection", "sqlite3:Cursor", "ssl:SSLContext",
    "ssl:SSLSocket", "weakref:ReferenceType",
})  # fmt: skip
_LAZY_NAMES = frozenset({"polars.lazyframe.frame:LazyFrame", "polars.lazyframe.group_by:LazyGroupBy"})
_LIVE_BASES = frozenset({"socket:socket", "asyncio.futures:Future", "_asyncio:Future"})


def is_pydantic(cls: type) -> bool:
    """Whether `cls` is a pydantic (v2) model; pydantic is never imported for this."""
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and getattr(pydantic, "BaseModel", None) in cls.__mro__


def is_live(value: Any) -> bool:
    """Whether `value` is tied to this process, so that no copy of it can mean anything elsewhere."""
    cls = type(value)
    if issubclass(cls, (io.StringIO, io.BytesIO)):
        return False
    return (
        issubclass(cls, _LIVE_TYPES)
        or name_of(cls) in _LIVE_NAMES
        or any(name_of(b) in _LIVE_BASES for b in cls.__mro__)
    )


def is_lazy(value: Any) -> bool:
    """Whether `value` is a query that has not run: what it will give may change, so it is nothing to record."""
    return name_of(type(value)) in _LAZY_NAMES


def dumps(value: Any) -> bytes:
    """`value` as a pickle of protocol 5. Raises what pickling it raises."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, part: Any) -> Any:
            if is_live(part):  # cloudpickle would copy the content of an open file
                raise UnrecordableValueError(f"{name_of(type(part))} is tied to this process")
            if _forgets(part):
                return _with_attributes, (*part.__reduce__(), part.__dict__)
            return super().reducer_override(part)

    for module in aliased_modules():  # a script's classes travel by value under `__main__`, and so here
        cloudpickle.register_pickle_by_value(module)
    buffer = io.BytesIO()
    Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _forgets(part: Any) -> bool:
    """Whether it is of a subclass of NumPy's array, whose own pickle leaves out what the instance holds beside it."""
    numpy: Any = sys.modules.get("numpy")
    cls = type(part)
    if numpy is None or cls is numpy.ndarray or numpy.ndarray not in cls.__mro__:
        return False
    own = cls.__reduce__ is numpy.ndarray.__reduce__ and cls.__reduce_ex__ is numpy.ndarray.__reduce_ex__
    return own and bool(getattr(part, "__dict__", None))


def _with_attributes(make: Any, args: Any, body: Any, attributes: dict[str, Any]) -> Any:
    made = make(*args)
    made.__setstate__(body)
    made.__dict__.update(attributes)
    return made


def loads(data: bytes, *, trusted: bool) -> Any:
    """The value of a pickle, whose code is run."""
    if not trusted:
        raise UntrustedValueError(
            "this value was pickled, and loading it would run code from a store that is not trusted. "
            "If you trust everybody who can write there, set KITARU_TRUST to its address"
        )
    import pickle

    try:
        return pickle.loads(data)  # noqa: S301
    except (ImportError, AttributeError) as error:
        raise CodeNotFoundError(
            f"a pickled value needs code that is not here: {error}. Install or import what defines it"
        ) from error
    except Exception as error:
        raise damaged(f"its pickle cannot be loaded ({type(error).__name__}: {error})") from error


def guilty(value: Any, place: str) -> tuple[Any, str] | None:
    """The deepest part of `value` that makes it unpicklable, and its place. Bounded: it tries 1,000 parts.

    None where it can be pickled.
    """
    if not _fails(value):
        return None
    tries = 1000
    seen = {id(value)}
    while True:
        for step, part in _parts(value):
            tries -= 1
            if tries < 0:
                return value, place
            if id(part) in seen or any(type(part) is kind for kind in _ATOMS):  # `in` asks a metaclass
                continue
            seen.add(id(part))
            if _fails(part):
                value, place = part, place + step
                break
        else:
            return value, place


def _fails(value: Any) -> bool:
    """Whether it cannot be pickled."""
    try:
        dumps(value)
    except Exception:
        return True
    return False


def _parts(value: Any) -> list[tuple[str, Any]]:
    cls = type(value)
    if is_live(value) or issubclass(cls, (type, types.ModuleType)):
        return []
    parts: list[tuple[str, Any]] = []
    if issubclass(cls, dict):
        parts += [(subscript(k), v) for k, v in dict.items(value)]
    elif issubclass(cls, (list, tuple)):
        parts += [
            (f"[{i}]", v)
            for i, v in enumerate(list.__iter__(value) if issubclass(cls, list) else tuple.__iter__(value))
        ]
    elif issubclass(cls, (set, frozenset)):
        parts += [("{…}", v) for v in value]
    if cls is types.FunctionType:
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                parts.append((f".<{name}>", cell.cell_contents))
            except ValueError:  # not bound yet
                continue
        return parts
    try:
        held = state.of(value)
    except Exception:  # its class has no hash
        held = {}
    return parts + [(f".{name}", part) for name, part in held.items()]
