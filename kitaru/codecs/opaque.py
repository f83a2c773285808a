"""The last resort: pickle, for what has no data form. Reading it runs code, so it is refused unless trusted."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

from ..errors import CodeNotFoundError, UnrecordableValueError, UntrustedValueError
from . import state
from .node import damaged
from .places import subscript
from .types import aliased_modules, name_of

__all__ = ["dumps", "guilty", "is_live", "is_pydantic", "loads"]

_LIVE_TYPES = (
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
    memoryview,
    io.IOBase,
)
_LIVE_NAMES = frozenset({
    "_thread:RLock", "_thread:lock", "_asyncio:Future", "_asyncio:Task", "_contextvars:Context", "select:epoll",
    "socket:socket", "sqlite3:Connection", "sqlite3:Cursor", "ssl:SSLContext", "ssl:SSLSocket", "weakref:ReferenceType",
})  # fmt: skip
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


def dumps(value: Any) -> bytes:
    """`value` as a pickle of protocol 5. Raises what pickling it raises."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, part: Any) -> Any:
            if is_live(part):  # cloudpickle would copy the content of an open file
                raise UnrecordableValueError(f"{name_of(type(part))} is tied to this process")
            return super().reducer_override(part)

    for module in aliased_modules():  # a script's classes travel by value under `__main__`, and so here
        cloudpickle.register_pickle_by_value(module)
    buffer = io.BytesIO()
    Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


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


def guilty(value: Any, place: str) -> tuple[Any, str]:
    """The deepest part of `value` that makes it unpicklable, and its place. Bounded: it tries 1,000 parts."""
    tries = 1000
    seen = {id(value)}
    while True:
        for step, part in _parts(value):
            tries -= 1
            if tries < 0:
                return value, place
            if id(part) in seen or type(part) in (int, str, float, bytes, bool, type(None)):
                continue
            seen.add(id(part))
            try:
                dumps(part)
            except Exception:
                value, place = part, place + step
                break
        else:
            return value, place


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
    return parts + [(f".{name}", part) for name, part in state.of(value).items()]
