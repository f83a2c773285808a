"""What a cell touches: its names, closed over what lives in the namespace.

A name that a cell reads may stand for code of the notebook, or for something that holds such code: a partial, a bound
method, a closure, a generator, an object of a class from a cell, a list of callbacks, a module that a cell has patched.
That code may run, and so what it reads and binds counts as the cell's. The walk from a value is bounded: it sees
what is near, and never costs more than a few thousand objects.
"""

from __future__ import annotations

import ast
import builtins
import collections
import functools
import gc
import itertools
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .cells import names_of, names_of_command
from .names import Names, names_of_code
from .wild import WILD_VALUES

__all__ = ["Touches", "follow", "touches_of"]

_OBJECTS = 1000  # how many objects are looked at for the code that they hold: from one name, and ten times that in all
_ITEMS = 1000  # of one container
_HOPS = 3  # how many objects of libraries deep; what a library keeps is mostly its own

_ATOMS = frozenset({
    int, float, complex, bool, str, bytes, bytearray, type(None), type(...), type(NotImplemented), range, slice,
    types.CodeType, types.FrameType, types.TracebackType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
})  # fmt: skip
_SUSPENDED = {
    types.GeneratorType: ("gi_frame", "gi_yieldfrom"),
    types.CoroutineType: ("cr_frame", "cr_await"),
    types.AsyncGeneratorType: ("ag_frame", "ag_await"),
}
_CONTAINERS = (list, tuple, set, frozenset, collections.deque)
_PLAIN = frozenset({dict, *_CONTAINERS})
_WRAPPERS = (functools.partial, functools.partialmethod, functools.cached_property)
_PATCHABLE, _FROZEN = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE
_DISPLAYED = frozenset({"_", "__", "___", "Out", "_oh"})

Namespace = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Touches(Names):
    """What a cell may touch, with all code of the notebook that it may call.

    `reads`, `binds` and `deletes` are those of `Names`, with what that code does.

    Attributes
    ----------
    touched : frozenset of str
        The variables that it may read, write or change in place: those to be looked at before and after it runs. A
        name stands here if it is in the namespace, or if the cell may bind it. Other names for the same object are
        among them; variables that share something deeper are for the caller to add.
    """

    touched: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def displayed(self) -> tuple[str, ...]:
        """Those of `reads` that are IPython's names for what was displayed: ``_``, ``_3``, ``Out``."""
        return tuple(n for n in self.reads if n in _DISPLAYED or (n[:1] == "_" and n[1:].isdigit()))


def touches_of(tree: ast.Module, namespace: Namespace) -> Touches:
    """What a cell, as IPython has transformed and parsed it, may touch if it runs now.

    Raises
    ------
    SyntaxError
        The cell parses and does not compile.

    Examples
    --------
    >>> namespace = {"__name__": "__main__", "prices": [1, 2], "rate": 3, "other": 4}
    >>> exec("def tax(p): return p * rate", namespace)
    >>> touches = touches_of(ast.parse("total = sum(tax(p) for p in prices)"), namespace)
    >>> touches.reads, touches.binds
    (('sum', 'prices', 'tax', 'rate'), ('total',))
    >>> sorted(touches.touched)
    ['prices', 'rate', 'tax', 'total']
    """
    return follow(names_of(tree), namespace)


def follow(names: Names, namespace: Namespace, also: Iterable[Any] = ()) -> Touches:
    """`names`, closed over the namespace: with all that the code reads and binds which they lead to.

    Parameters
    ----------
    also
        Objects whose code may run too: found by somebody who has walked farther than this does.
    """
    closing = _Closing(namespace, names)
    for name in names.reads:
        closing.add(name, names.settled.get(name, frozenset()))
    for value in also:
        closing.take(closing.code_of(value), frozenset())
    for name in (*names.binds, *names.deletes):
        closing.drop(name)
    closing.run()
    reads, binds, deletes = closing.reads, closing.binds, closing.deletes
    alive = {n for n in {*reads, *closing.uses} if n in namespace}
    touched = alive.union(binds, deletes, closing.aliases())
    if closing.wild:
        touched.update(namespace)
    return Touches(
        reads=tuple(reads),
        binds=tuple(binds),
        deletes=tuple(deletes),
        imports=tuple(n for n in names.imports if n not in closing.bound_inside),
        defines=names.defines,
        uses=names.uses | closing.uses,
        attributes=names.attributes,
        strings=names.strings,
        wild=closing.wild,
        settled=names.settled,
        later=names.later,
        touched=frozenset(touched),
    )


def _is_step(value: Any) -> bool:
    return type(value).__module__ in {"kitaru.steps", "kitaru.flows"} and callable(value)


class _Closing:
    """The closure, while it is found. `reads` begins with the cell's own, in their order."""

    def __init__(self, namespace: Namespace, names: Names) -> None:
        self.namespace, self.names = namespace, names
        self.reads = dict.fromkeys(names.reads)
        self.binds, self.deletes = dict.fromkeys(names.binds), dict.fromkeys(names.deletes)
        self.uses = set(names.uses)
        self.bound_inside: set[str] = set()
        self.wild = names.wild
        self.met: set[int] = set()  # the objects that were walked through; they live, as the namespace holds them
        self._barren: set[int] = set()  # those that led to no code
        self._codes: dict[str, list[types.CodeType]] = {}
        self._todo: list[tuple[str, frozenset[str]]] = []
        self._done: dict[str, frozenset[str]] = {}
        self._left = 10 * _OBJECTS
        self._kept: list[dict[int, Any]] = []  # so that no identity is used again meanwhile

    def add(self, name: str, settled: frozenset[str]) -> None:
        """`name` is read where the cell has bound `settled` for certain."""
        if name == "get_ipython":  # by itself it leads to everything; what is done with it was looked at in the code
            return
        done = self._done.get(name)
        if done is None or not done <= settled:
            self._done[name] = settled if done is None else done & settled
            self._todo.append((name, self._done[name]))

    def run(self) -> None:
        for at in itertools.count():
            if at >= len(self._todo):
                return
            name, settled = self._todo[at]
            if name in self.names.later:  # the cell's own function of that name
                self._take_names(self.names.later[name], settled)
            if name not in settled:
                self.take(self._codes_of(name), settled)

    def take(self, codes: Iterable[types.CodeType], settled: frozenset[str]) -> None:
        for code in codes:
            self._take_names(names_of_code(code), settled)

    def _take_names(self, names: Names, settled: frozenset[str]) -> None:
        self.wild = self.wild or names.wild
        self.binds |= dict.fromkeys(names.binds)
        self.bound_inside.update(names.binds)
        self.deletes |= dict.fromkeys(names.deletes)
        for name in names.reads:
            self.uses.add(name)
            if name not in settled:
                self.reads.setdefault(name)
            self.add(name, settled)
        for call, texts in names.commands:
            self._take_names(names_of_command(call, texts), settled)

    def aliases(self) -> list[str]:
        """The names of what was walked through. What a library has is no variable's own."""
        own = self.namespace.get("__name__", "__main__")
        return [
            name
            for name, value in self.namespace.items()
            if id(value) in self.met
            and not isinstance(value, types.ModuleType)
            and not (isinstance(value, type) and value.__module__ != own)
        ]

    def drop(self, name: str) -> None:
        """What `name` stood for may end here, and its class may have something to say."""
        finalizer = getattr(type(self.namespace.get(name)), "__del__", None)
        if finalizer is not None:
            self.take(self.code_of(finalizer), frozenset())

    def _codes_of(self, name: str) -> list[types.CodeType]:
        codes = self._codes.get(name)
        if codes is None:
            value = self.namespace.get(name, getattr(builtins, name, None))
            codes = self._codes[name] = self.code_of(value)
        return codes

    def code_of(self, value: Any) -> list[types.CodeType]:
        """The code of the notebook that `value` leads to, and nothing else that it reads by name."""
        cls = type(value)
        if cls in _ATOMS or id(value) in self._barren:
            return []
        walk = _Reach(self.namespace, self.names.attributes, self._barren, min(_OBJECTS, max(self._left, 100)))
        walk.run(value)
        self._kept.append(walk.seen)
        self._left -= len(walk.seen)
        self.met |= walk.seen.keys()
        self.wild = self.wild or walk.wild
        if not walk.codes:
            self._barren |= walk.seen.keys()
        return list(walk.codes.values())


class _Reach:
    """A walk from one value, nearest objects first, to the code of the notebook that it holds."""

    def __init__(self, namespace: Namespace, attributes: Collection[str], barren: set[int], limit: int) -> None:
        self.namespace, self.attributes, self.barren, self.limit = namespace, attributes, barren, limit
        self.module = namespace.get("__name__", "__main__")
        self.seen: dict[int, Any] = {}  # by identity; holds what was made on the way
        self.codes: dict[int, types.CodeType] = {}
        self.classes: set[type] = set()
        self.wild = False

    def run(self, value: Any) -> None:
        front: list[tuple[Any, int]] = [(value, 0)]
        while front and len(self.seen) < self.limit:
            following: list[tuple[Any, int]] = []
            for o, hops in front:
                key = id(o)
                if type(o) in _ATOMS or key in self.seen or key in self.barren:
                    continue
                self.seen[key] = o
                if len(self.seen) >= self.limit:
                    break
                deeper = hops + 1 if self._is_foreign(o) else hops
                if deeper <= _HOPS:
                    following += [(inner, deeper) for inner in self.within(o, hops) if type(inner) not in _ATOMS]
            front = following

    def _is_foreign(self, o: Any) -> bool:
        """Whether this is an object of a library's class."""
        cls = type(o)
        return cls.__module__ not in {"builtins", self.module}

    def within(self, o: Any, hops: int) -> Iterable[Any]:
        """What may be called or held by `o`; notes the code that is in `o` itself."""
        cls = type(o)
        if isinstance(o, (dict, *_CONTAINERS)):
            if o is self.namespace:
                self.wild = self.wild or not hops
                return ()
            items = _items(o, dict.values) + _items(o, dict.keys) if isinstance(o, dict) else _items(o, iter)
            return items if cls in _PLAIN else (cls, getattr(o, "__dict__", None), *items)
        if cls is types.FunctionType:
            return self._function(o)
        if cls is types.MethodType:
            return (o.__func__, o.__self__)
        if cls is types.BuiltinFunctionType or cls is types.MethodWrapperType:
            self.wild = self.wild or any(o is value for value in WILD_VALUES)
            holder = o.__self__
            return () if type(holder) is types.ModuleType else (holder,)
        if isinstance(o, types.ModuleType):
            return self._module(o)
        if cls in _SUSPENDED:
            return self._suspended(o, *_SUSPENDED[cls])
        if cls is types.CellType:
            return gc.get_referents(o)
        if isinstance(o, type):
            return self._class(o)
        if isinstance(o, weakref.ref):
            return (o(), o.__callback__)
        return self._instance(o, cls, hops)

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        if function.__globals__ is self.namespace:
            self.codes[id(function.__code__)] = function.__code__
        for part in (function.__defaults__, function.__kwdefaults__, function.__dict__, function.__closure__):
            if part:
                yield part

    def _suspended(self, o: Any, frame: str, waits_for: str) -> Iterator[Any]:
        inner = getattr(o, frame)
        if inner is not None:
            if inner.f_globals is self.namespace:
                self.codes[id(inner.f_code)] = inner.f_code
            yield from inner.f_locals.values()
        yield getattr(o, waits_for)

    def _module(self, module: types.ModuleType) -> Iterator[Any]:
        """What a cell has put into a module, and the parts of it that the cell names."""
        held = vars(module)
        if held is self.namespace:
            self.wild = True
            return
        if module is sys and "modules" in self.attributes:
            self.wild = True
        yield from [v for v in held.copy().values() if self._is_own(v)]
        for name in self.attributes:
            part = held.get(name)
            if isinstance(part, types.ModuleType | type):
                yield part

    def _class(self, cls: type) -> Iterator[Any]:
        if cls in self.classes:
            return
        self.classes.add(cls)
        if cls.__module__ == self.module:
            yield from list(vars(cls).values())
            yield from cls.__bases__
            yield type(cls)
        else:
            for base in cls.__mro__:
                if base.__flags__ & _PATCHABLE and not base.__flags__ & _FROZEN:
                    if base.__module__ == self.module:
                        yield base
                    else:
                        yield from [v for v in list(vars(base).values()) if self._is_own(v)]

    def _is_own(self, value: Any) -> bool:
        """Whether this was defined in the notebook; asked of everything in a module or class of a library."""
        cls = type(value)
        if cls is types.FunctionType:
            return value.__globals__ is self.namespace or (
                value.__closure__ is not None and any(map(self._is_own_function, gc.get_referents(*value.__closure__)))
            )
        if cls is staticmethod or cls is classmethod or cls is types.MethodType:
            return self._is_own(value.__func__)
        if cls is property:
            return any(self._is_own(f) for f in (value.fget, value.fset, value.fdel) if f is not None)
        if isinstance(value, type):
            return bool(value.__module__ == self.module)
        if isinstance(value, _WRAPPERS):
            return self._is_own(value.func)
        return cls.__module__ == self.module or self._is_own_function(getattr(value, "__wrapped__", None))

    def _is_own_function(self, value: Any) -> bool:
        return type(value) is types.FunctionType and value.__globals__ is self.namespace

    def _instance(self, o: Any, cls: type, hops: int) -> Iterable[Any]:
        if _is_shell(cls):
            self.wild = self.wild or not hops
            return ()
        if _is_step(o):
            return (o.function, cls)
        if cls.__name__ == "ndarray" and cls.__module__ == "numpy":
            return itertools.islice(o.flat, _ITEMS) if o.dtype.hasobject else ()
        coroutine = getattr(o, "get_coro", None) if cls.__module__ in {"asyncio", "_asyncio", "asyncio.tasks"} else None
        if coroutine is not None:  # of a task: its loop leads to everything
            return (coroutine(),)
        found = gc.get_referents(o)
        return found if any(part is cls for part in found) else (cls, *found)


def _items(o: Any, given: Callable[[Any], Iterable[Any]]) -> list[Any]:
    try:
        return list(given(o) if len(o) <= _ITEMS else itertools.islice(given(o), _ITEMS))
    except RuntimeError:  # another thread changes it
        return []


def _is_shell(cls: type) -> bool:
    shell = sys.modules.get("IPython.core.interactiveshell")
    return shell is not None and issubclass(cls, shell.InteractiveShell)
