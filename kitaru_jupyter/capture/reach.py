"""What mutable objects and buffers a variable reaches: variables that reach the same one share it.

The walk goes by levels through `gc.get_referents`, which runs at C speed and calls no code of the objects. What the
collector does not see is added by hand: the base of an array, the cells of an object array. What is left out can
neither change nor tie two variables together: atoms, modules, code that is imported, and the classes and functions
that a variable of their own name holds (they are recorded with that variable, and found again by its name).
"""

from __future__ import annotations

import _thread
import contextvars
import datetime as dt
import decimal
import enum
import fractions
import gc
import io
import logging
import pathlib
import sys
import types
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .importable import Namespace, home, name_of

__all__ = ["ATOMS", "WEAK", "Reach", "attributes_of", "collection_off", "is_array", "owner_of", "reach"]

ATOMS: frozenset[type] = frozenset({
    bool, bytes, complex, float, int, range, str, type(None), type(...), type(NotImplemented),
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
    decimal.Decimal, fractions.Fraction, uuid.UUID,
    pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath,
})  # fmt: skip
"""Types whose values are immutable and hold nothing that is not."""

_LEFT_OUT = ATOMS | {
    types.CodeType, types.FrameType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.MethodDescriptorType, types.ModuleType, types.TracebackType, types.WrapperDescriptorType,
    types.ClassMethodDescriptorType, weakref.ReferenceType, contextvars.ContextVar,
}  # fmt: skip
WEAK: frozenset[type] = frozenset({weakref.WeakKeyDictionary, weakref.WeakValueDictionary})
"""Dicts that let go of what nobody else holds."""

_CONTAINERS = frozenset({dict, frozenset, list, set, slice, tuple})
_IMMUTABLE = frozenset({frozenset, slice, tuple})
# Tied to this process, or found again by a name: an object of its own, with nothing inside that is the user's.
_CLOSED = (io.IOBase, logging.Logger, logging.Handler, _thread.LockType, _thread.RLock)
_CLOSED_LIBRARIES = frozenset({"IPython", "asyncio", "ipykernel", "kitaru_jupyter", "traitlets", "zmq"})
# What Python and pickle note in a class, and what is nobody's state.
_NOTED = frozenset({
    "__abstractmethods__", "__annotate_func__", "__annotations_cache__", "__dict__", "__doc__", "__firstlineno__",
    "__module__", "__slotnames__", "__static_attributes__", "__weakref__", "_abc_impl",
})  # fmt: skip
_MEMBERS = frozenset({types.GetSetDescriptorType, types.MemberDescriptorType})


class Reach(NamedTuple):
    """What one variable reaches.

    Attributes
    ----------
    ids : frozenset of int
        The identities of the mutable objects, buffers included.
    types : frozenset of type
        The types of everything on the way.
    is_tree : bool
        Nothing but an atom is met twice.
    uses : frozenset of str
        The variables whose classes and functions it refers to.
    """

    ids: frozenset[int]
    types: frozenset[type]
    is_tree: bool
    uses: frozenset[str]


def attributes_of(cls: type) -> dict[str, Any]:
    """What a class itself holds that a cell can have put there."""
    held = type.__dict__["__dict__"].__get__(cls)
    return {k: v for k, v in held.items() if k not in _NOTED and type(v) not in _MEMBERS}


def is_array(cls: type) -> bool:
    """Whether it is NumPy's array, or a subclass; NumPy is never imported for this."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and issubclass(cls, getattr(numpy, "ndarray", ()))


def owner_of(array: Any) -> Any:
    """The array that the memory of an array belongs to, itself if it is no view."""
    while True:
        base = array.base
        if type(base).__name__ == "DummyArray":  # what NumPy's stride tricks put in between
            base = base.base
        if not is_array(type(base)):
            return array
        array = base


@contextmanager
def collection_off() -> Iterator[None]:
    """Without the garbage collector, which a walk would set off at every step."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def reach(value: Any, namespace: Namespace) -> Reach:
    """The mutable objects and buffers that `value` reaches.

    >>> shared = []
    >>> one, two = reach([shared, 1], {}), reach({"a": shared}, {})
    >>> one.ids & two.ids == {id(shared)}, one.is_tree
    (True, True)
    """
    if type(value) in _LEFT_OUT:
        return Reach(frozenset(), frozenset({type(value)}), True, frozenset())
    with collection_off():
        return _Walk(value, namespace).run()


class _Walk:
    def __init__(self, value: Any, namespace: Namespace) -> None:
        self.value, self.namespace = value, namespace
        self.uses: set[str] = set()
        self.is_tree = True
        self._columns: set[int] = set()

    def run(self) -> Reach:
        seen: dict[int, Any] = {}  # holds what is met, so that no identity is used again meanwhile
        immutable: set[int] = set()
        kinds: set[type] = {type(self.value)}
        front: dict[int, Any] = {id(self.value): self.value}
        dropped: set[int] = {id(self.namespace)}
        while front:
            here = set(map(type, front.values()))
            if here <= _CONTAINERS:
                inner: list[Any] = gc.get_referents(*front.values())
            else:
                inner = self._opened(front, dropped)
            if here & _IMMUTABLE:
                immutable.update(i for i, o in front.items() if type(o) in _IMMUTABLE)
            seen.update(front)
            found = set(map(type, inner))
            kinds |= found
            if not found <= _LEFT_OUT:
                inner = [o for o in inner if type(o) not in _LEFT_OUT]
                front = {id(o): o for o in inner}
                again = front.keys() & seen.keys()
                if again or len(front) < len(inner):
                    self.is_tree = False
                for i in (*again, *(front.keys() & dropped)):
                    front.pop(i, None)
            else:
                front = {}
        return Reach(frozenset(seen.keys() - immutable), frozenset(kinds), self.is_tree, frozenset(self.uses))

    def _opened(self, front: dict[int, Any], dropped: set[int]) -> list[Any]:
        """What lies directly in these; what stays out itself is taken from `front`."""
        inner: list[Any] = []
        by_collector: list[Any] = []
        for i, o in list(front.items()):
            cls = type(o)
            if cls in _CONTAINERS:
                by_collector.append(o)
                continue
            parts = self._parts(o, cls)
            if parts is None:
                del front[i]
                dropped.add(i)
            elif parts is _ALL:
                by_collector.append(o)
            else:
                inner += parts
        if by_collector:
            inner += gc.get_referents(*by_collector)
        return inner

    def _parts(self, o: Any, cls: type) -> Any:
        """Its parts; `_ALL`: what the collector sees; None: it stays out."""
        if is_array(cls):
            return self._array(o)
        if issubclass(cls, type):
            return self._class(o)
        if cls is types.FunctionType:
            return self._function(o)
        if cls is types.BuiltinFunctionType:
            return None if o.__self__ is None or isinstance(o.__self__, types.ModuleType) else [o.__self__]
        if cls is types.MethodType:
            return self._method(o)
        if issubclass(cls, enum.Enum):
            self._class(cls)
            return None
        library = getattr(cls, "__module__", None)
        library = library.partition(".")[0] if type(library) is str else ""
        if library == "numpy":
            return None if issubclass(cls, (sys.modules["numpy"].generic, sys.modules["numpy"].dtype)) else _ALL
        if library == "pyarrow":
            return None  # immutable, all of it
        if library == "pandas":
            return self._pandas(cls)
        if issubclass(cls, _CLOSED) or library in _CLOSED_LIBRARIES:
            return []
        if cls in WEAK:
            return [part for pair in o.items() for part in pair]
        if cls is memoryview:
            return [o.obj]
        if issubclass(cls, BaseException):
            return [o.args, o.__dict__, *(e for e in (o.__cause__, o.__context__) if e is not None)]
        return _ALL

    def _array(self, o: Any) -> list[Any]:
        inner: list[Any] = [] if o.base is None else [owner_of(o), owner_of(o).base]
        inner = [o for o in inner if o is not None]
        if o.dtype.hasobject and o.base is None:
            if o.dtype.kind == "O":
                inner += o.ravel(order="K").tolist()
            else:
                inner += _fields(o)
        if type(o) is not sys.modules["numpy"].ndarray:
            inner += [part for part in gc.get_referents(o) if type(part) is dict]
        return inner

    def _class(self, o: Any) -> list[Any] | None:
        if name_of(o, self.namespace) is not None:
            return None
        if o is not self.value and (name := home(o, self.namespace)) is not None:
            self.uses.add(name)
            return None
        return [*attributes_of(o).values(), *o.__bases__, type(o)]

    def _function(self, o: types.FunctionType) -> list[Any] | None:
        if name_of(o, self.namespace) is not None:
            return None
        if o is not self.value and (name := home(o, self.namespace)) is not None:
            self.uses.add(name)
            return None
        parts: Iterable[Any] = (o.__dict__, o.__defaults__, o.__kwdefaults__, *(o.__closure__ or ()))
        return [p for p in parts if p is not None]

    def _method(self, o: types.MethodType) -> list[Any]:
        own = getattr(type(o.__self__), getattr(o.__func__, "__name__", ""), None)
        return [o.__self__] if own is o.__func__ else [o.__self__, o.__func__]

    def _pandas(self, cls: type) -> Any:
        pandas: Any = sys.modules["pandas"]
        if cls.__name__ in {"BlockPlacement", "BlockValuesRefs"} or issubclass(
            cls, pandas.api.extensions.ExtensionDtype
        ):
            return None
        if issubclass(cls, pandas.Index):
            return []  # immutable but for its name
        if issubclass(
            cls, (pandas.Timestamp, pandas.Timedelta, pandas.Period, pandas.Interval, pandas.offsets.BaseOffset)
        ):
            return None
        if cls.__name__ in {"NAType", "NaTType"}:
            return None
        return _ALL


def _fields(array: Any) -> list[Any]:
    """The objects in the fields of a structured array."""
    found: list[Any] = []
    for name in array.dtype.names or ():
        part = array[name]
        if part.dtype.kind == "O":
            found += part.ravel().tolist()
        elif part.dtype.hasobject:
            found += _fields(part)
    return found


_ALL: Any = object()
