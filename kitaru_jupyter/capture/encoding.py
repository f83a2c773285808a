"""Variables that share objects into one document: see `documents` for what it looks like.

Nothing recurses: each part is a generator that hands out what lies in it and is given that back encoded, so depth
costs no stack. What is met twice leaves a reference; where it stood first, it is labelled at the end.
"""

from __future__ import annotations

import abc
import dis
import enum
import functools
import logging
import sys
import types
import typing
from array import array as buffer_array
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from .importable import Namespace, home, name_of
from .live import why_live
from .parts import Parts, taken_apart, why_whole
from .plain import DOCUMENT, is_plain_array, is_plain_frame
from .reach import ATOMS, attributes_of, is_array, owner_of
from .snippets import NO_PLACE, NO_SOURCE, class_source, function_source, library_place
from .unrestorable import NotRestorable
from .views import layout_of

__all__ = ["KEY", "encoded"]

KEY = "$"
"""The key of what is more than plain data: it says what it is."""

Node = Any
Step = tuple[str, Any]  # how the place goes on, and the object there
Nodes = Generator[Step, Node, Node]

_BUFFERS = frozenset({buffer_array, bytes, bytearray})
_OWN = 2  # references to a dict that its object alone holds, one of them the question's
_IMMUTABLE = frozenset({frozenset, tuple})


class _Again(Exception):
    """Begin again: a frame's memory is shared with an array."""


def encoded(group: Sequence[str], namespace: Namespace) -> dict[str, Any]:
    """The document of a group's variables."""
    opened: set[int] = set()
    while True:
        try:
            return _Encoder(group, namespace, opened).run()
        except _Again:
            continue


class _Encoder:
    def __init__(self, group: Sequence[str], namespace: Namespace, opened: set[int]) -> None:
        self.group, self.namespace = group, namespace
        self.opened = opened  # frames that are taken apart
        self.nodes: dict[int, Node] = {}  # by the object's identity; None while it is begun
        self.kept: list[Any] = []  # so that no identity is another object's meanwhile
        self.met_again: dict[int, int] = {}  # object → the reference's number
        self.making: set[int] = set()  # objects that do not exist yet when their parts are made
        self.sources: dict[str, int] = {}
        self.memory: dict[int, int] = {}  # an array's identity → the frame that is recorded whole with it
        self.attributes: set[int] = set()  # dicts of objects' attributes
        self.place: list[str] = []

    def run(self) -> dict[str, Any]:
        variables = {}
        for name in self.group:
            self.place = [name]
            variables[name] = self._trampoline(self.namespace[name])
        if self.met_again:
            whole = {i for i, node in self.nodes.items() if id(node) == i}  # objects that stand for themselves
            _label(variables, {id(self.nodes[i]): i for i in self.met_again}, whole)
        made: dict[str, Any] = {DOCUMENT: 1, "variables": variables}
        if self.sources:
            made["sources"] = list(self.sources)
        return made

    def _trampoline(self, value: Any) -> Node:
        made = self._begin(value)
        if type(made) is not types.GeneratorType:
            return made
        stack: list[tuple[Nodes, Any]] = [(made, value)]
        given: Node = None
        while stack:
            parts, owner = stack[-1]
            try:
                step, part = parts.send(given)
            except StopIteration as end:
                stack.pop()
                self.place.pop() if len(self.place) > 1 else None
                given = self._done(owner, end.value)
                continue
            self.place.append(step)
            made = self._begin(part)
            if type(made) is types.GeneratorType:
                stack.append((made, part))
                given = None
            else:
                self.place.pop()
                given = made
        return given

    def _begin(self, o: Any) -> Node | Nodes:
        """The node of what is done at once, or what gives it."""
        cls = type(o)
        if cls in ATOMS or _is_scalar(cls) or (cls in _IMMUTABLE and ATOMS.issuperset(map(type, o))):
            return o
        i = id(o)
        if i in self.nodes:
            if self.nodes[i] is not None or i not in self.making:
                return self._again(i)
            if cls not in _IMMUTABLE:
                return self._lost(o, "it is part of what it is made from")
        self.kept.append(o)
        self.nodes[i] = None
        if cls in _IMMUTABLE:
            self.making.add(i)
        made = self._node(o, cls)
        return made if type(made) is types.GeneratorType else self._done(o, made)

    def _again(self, i: int) -> Node:
        number = self.met_again.setdefault(i, len(self.met_again))
        return {KEY: "ref", "n": number, "of": i}

    def _done(self, o: Any, node: Node) -> Node:
        i = id(o)
        self.making.discard(i)
        if self.nodes.get(i) is None:
            self.nodes[i] = node
        return node

    def _lost(self, o: Any, why: str) -> Node:
        cls = type(o)
        return {KEY: "lost", "type": f"{cls.__module__}.{cls.__qualname__}", "why": why, "place": "".join(self.place)}

    # ------------------------------------------------------------ by kind

    def _node(self, o: Any, cls: type) -> Node | Nodes:
        if cls is list:
            return o if ATOMS.issuperset(map(type, o)) else self._list(o)
        if cls is dict:
            return self._dict(o)
        if cls in _IMMUTABLE:
            return self._items(cls.__name__, o)
        if cls is set:
            return o if ATOMS.issuperset(map(type, o)) else self._items("set", o)
        if cls is bytearray:
            return o
        if is_array(cls):
            return self._array(o, cls)
        if issubclass(cls, type):
            return self._class(o)
        if cls is types.FunctionType:
            return self._function(o)
        if issubclass(cls, enum.Enum):
            return self._enum(o, cls)
        special = _KINDS.get(cls)
        if special is not None:
            return special(self, o)
        if cls is NotRestorable:
            return {KEY: "lost", "type": o._kitaru_type, "why": o._kitaru_why, "place": o._kitaru_place}
        if (why := why_live(o)) is not None:
            return self._lost(o, why)
        library = cls.__module__.partition(".")[0] if type(cls.__module__) is str else ""
        if library in {"pandas", "polars"} and id(o) not in self.opened and is_plain_frame(o):
            return self._frame(o)
        if library == "functools" and cls.__name__ == "_lru_cache_wrapper":
            return self._lru_cache(o)
        if library == "kitaru" and getattr(cls, "__kitaru_boundary__", False) and (made := self._decorated(o)):
            return made
        return self._object(o, cls)

    def _list(self, o: list[Any]) -> Nodes:
        made: list[Node] = []
        for at, part in enumerate(o):
            made.append((yield f"[{at}]", part))
        return made

    def _dict(self, o: dict[Any, Any]) -> Node | Nodes:
        texts = set(map(type, o)) <= {str}
        if texts and KEY not in o and DOCUMENT not in o:
            return o if ATOMS.issuperset(map(type, o.values())) else self._map(o)
        return self._pairs(o)

    def _map(self, o: dict[str, Any]) -> Nodes:
        made: dict[str, Node] = {}
        own = id(o) in self.attributes
        for key, part in o.items():
            made[key] = yield f".{key}" if own else f"[{key!r}]", part
        return made

    def _pairs(self, o: dict[Any, Any]) -> Nodes:
        made: list[Node] = []
        for key, part in o.items():
            made.append((yield ".keys()", key))
            made.append((yield f"[{key!r:.40}]" if type(key) in ATOMS else "[…]", part))
        return {KEY: "dict", "items": made}

    def _each(self, step: str, parts: Iterable[Any]) -> Generator[Step, Node, list[Node]]:
        made: list[Node] = []
        for at, part in enumerate(parts):
            made.append((yield f"{step}[{at}]", part))
        return made

    def _items(self, kind: str, o: Any) -> Nodes:
        made: list[Node] = []
        for at, part in enumerate(o):
            made.append((yield f"[{at}]" if kind == "tuple" else "{…}", part))
        return {KEY: kind, "items": made}

    # ---- arrays and frames

    def _frame(self, o: Any) -> Node:
        """A frame as one value, as long as no array of the group looks into its memory."""
        for array in _arrays_of_frame(o):
            self.memory[id(array)] = id(o)
            self.kept.append(array)
            if id(array) in self.nodes:
                self._open(id(o))
        return o

    def _open(self, frame: int) -> None:
        self.opened.add(frame)
        raise _Again

    def _array(self, o: Any, cls: type) -> Node | Nodes:
        if id(o) in self.memory:
            self._open(self.memory[id(o)])
        if is_plain_array(o):
            return o
        numpy: Any = sys.modules["numpy"]
        if cls is not numpy.ndarray and cls is not numpy.memmap:
            return o if o is numpy.ma.masked else self._subclass(o, cls)
        owner = owner_of(o)
        if owner is not o:
            return self._view(o, owner)
        return self._body(o)

    def _view(self, o: Any, owner: Any) -> Nodes:
        base = yield ".base", owner
        at = o.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        return {KEY: "view", "base": base, **layout_of(o, at)}

    def _body(self, o: Any) -> Nodes:
        numpy: Any = sys.modules["numpy"]
        if _is_kept_memory(o.base) and not o.dtype.hasobject:
            of = yield ".base", o.base
            start = numpy.frombuffer(o.base, "u1").__array_interface__["data"][0]
            return {KEY: "buffer", "of": of, **layout_of(o, o.__array_interface__["data"][0] - start)}
        order = sorted(range(o.ndim), key=lambda axis: (-abs(o.strides[axis]), axis))
        across = o.view(numpy.ndarray).transpose(order)
        node: dict[str, Node] = {KEY: "array", "axes": order, "writeable": bool(o.flags.writeable)}
        if not o.dtype.hasobject:
            node["body"] = across if across.flags.c_contiguous else numpy.ascontiguousarray(across)
            return node
        node |= {"dtype": o.dtype, "shape": across.shape}
        cells = across.ravel().tolist()
        made: list[Node] = []
        for at, part in enumerate(cells):
            made.append((yield f".flat[{at}]", part))
        return {**node, "cells": made}

    def _subclass(self, o: Any, cls: type) -> Nodes:
        kind = yield ".__class__", cls
        numpy: Any = sys.modules["numpy"]
        owner = owner_of(o)
        plain = yield "", (o.view(numpy.ndarray) if owner is not o else o.view(numpy.ndarray).copy(order="K"))
        state = yield ".__dict__", getattr(o, "__dict__", None) or None
        flags = {"own": owner is o, "writeable": bool(o.flags.writeable)}
        return {KEY: "subclass", "type": kind, "array": plain, **flags, "state": state}

    # ---- code

    def _variable(self, o: Any) -> Node:
        if (name := name_of(o, self.namespace)) is not None:
            return {KEY: "import", "name": name}
        if (name := home(o, self.namespace)) is not None and name not in self.group:
            return {KEY: "variable", "name": name}
        return None

    def _source(self, text: str) -> int:
        return self.sources.setdefault(text, len(self.sources))

    def _function(self, o: types.FunctionType) -> Node | Nodes:
        if (named := self._variable(o)) is not None:
            return named
        code: dict[str, Any]
        if o.__globals__ is self.namespace:
            source = function_source(o)
            if source is None:
                return self._lost(o, NO_SOURCE)
            code = {"source": self._source(source.text), "path": list(source.path)}
            if source.flags:
                code["flags"] = source.flags
        else:
            place = library_place(o)
            if place is None:
                return self._lost(o, NO_PLACE)
            code = {"module": place[0], "code": place[1], "nth": place[2]}
        return self._function_state(o, code)

    def _function_state(self, o: types.FunctionType, code: dict[str, Any]) -> Nodes:
        node = {KEY: "function", **code}
        if (o.__name__, o.__qualname__) != (o.__code__.co_name, o.__code__.co_qualname):
            node |= {"name": o.__name__, "qualname": o.__qualname__}
        if o.__module__ != o.__globals__.get("__name__"):
            node["of_module"] = o.__module__
        if o.__doc__ is not None and o.__doc__ not in o.__code__.co_consts[:1]:
            node["doc"] = o.__doc__
        if o.__closure__:
            cells = []
            for name, cell in zip(o.__code__.co_freevars, o.__closure__, strict=True):
                cells.append((yield f".<{name}>", cell))
            node["cells"] = cells
        if o.__defaults__:
            node["defaults"] = yield ".__defaults__", o.__defaults__
        if o.__kwdefaults__:
            node["kwdefaults"] = yield ".__kwdefaults__", o.__kwdefaults__
        if o.__annotations__:
            node["annotations"] = yield ".__annotations__", o.__annotations__
        if o.__dict__ or sys.getrefcount(o.__dict__) > _OWN:  # empty, but somebody else holds it
            node["dict"] = yield ".__dict__", o.__dict__
        return node

    def _module(self, o: types.ModuleType) -> Node:
        name = vars(o).get("__name__")  # what %run has run is a module that lost it
        if type(name) is str and sys.modules.get(name) is o:
            return {KEY: "module", "name": name}
        return self._lost(o, "no such module can be imported")

    def _cell(self, o: types.CellType) -> Node | Nodes:
        try:
            content = o.cell_contents
        except ValueError:
            return {KEY: "cell"}
        return self._wrapped("cell", {}, {"of": ("", content)})

    def _wrapped(self, kind: str, plain: dict[str, Any], parts: dict[str, Step]) -> Nodes:
        node: dict[str, Node] = {KEY: kind, **plain}
        for key, step in parts.items():
            node[key] = yield step
        return node

    def _class(self, o: type) -> Node | Nodes:
        if (named := self._variable(o)) is not None:
            return named
        if (source := class_source(o)) is not None:
            return self._class_of_source(o, source.text, source.flags)
        if o.__bases__ == (tuple,) and hasattr(o, "_fields"):
            return self._namedtuple(o)
        if type(o) not in (type, abc.ABCMeta):
            return self._lost(o, f"its metaclass {type(o).__qualname__} makes it, and its source is not known")
        return self._class_by_hand(o)

    def _namedtuple(self, o: Any) -> Nodes:
        defaults = yield "._field_defaults", o._field_defaults
        return {KEY: "namedtuple", "name": o.__name__, "fields": list(o._fields), "defaults": defaults}

    def _class_of_source(self, o: type, text: str, flags: int) -> Nodes:
        needs: dict[str, Node] = {}
        node: dict[str, Node] = {KEY: "class", "name": o.__name__, "source": self._source(text), "needs": needs}
        if flags:
            node["flags"] = flags
        bases = {base.__name__: base for base in o.__bases__}
        for name in _names_in_class(text):
            if name in bases:
                needs[name] = yield f".{name}", bases[name]
            elif name in self.group and name != o.__name__:
                needs[name] = yield f".{name}", self.namespace[name]
            elif name in self.namespace and name != o.__name__:
                needs[name] = self._need(name)
        attributes: list[Node] = []
        for key, value in attributes_of(o).items():
            if not _is_made_anew(o, key, value, self.namespace):
                attributes += [key, (yield f".{key}", value)]
        return {**node, "attributes": attributes}

    def _need(self, name: str) -> Node:
        """What a class's statement looks up: what a name stands for now, never a copy of it."""
        value = self.namespace[name]
        if type(value) in ATOMS:
            return value
        if type(value) is types.ModuleType:
            return {KEY: "module", "name": value.__name__}
        imported = name_of(value, self.namespace) if callable(value) else None
        return {KEY: "import", "name": imported} if imported else {KEY: "variable", "name": name}

    def _class_by_hand(self, o: type) -> Nodes:
        bases = yield from self._each(".__bases__", o.__bases__)
        node = {KEY: "type", "name": o.__name__, "qualname": o.__qualname__, "abstract": type(o) is not type}
        attributes: list[Node] = []
        for key, value in attributes_of(o).items():
            attributes += [key, (yield f".{key}", value)]
        return {**node, "bases": bases, "attributes": attributes}

    def _enum(self, o: enum.Enum, cls: type) -> Nodes:
        kind = yield ".__class__", cls
        if o.name is not None and o.name in cls.__members__:  # type: ignore[attr-defined]
            return {KEY: "member", "type": kind, "name": o.name}
        value = yield ".value", o._value_
        return {KEY: "member", "type": kind, "value": value}

    def _method(self, o: types.MethodType) -> Nodes:
        name = getattr(o.__func__, "__name__", "")
        of = yield "", o.__self__
        if getattr(type(o.__self__), name, None) is o.__func__:
            return {KEY: "method", "of": of, "name": name}
        if isinstance(o.__self__, type) and getattr(o.__self__, name, None) == o:
            return {KEY: "method", "of": of, "name": name}
        function = yield ".__func__", o.__func__
        return {KEY: "bound", "of": of, "function": function}

    def _builtin(self, o: types.BuiltinFunctionType) -> Node | Nodes:
        if o.__self__ is None or isinstance(o.__self__, types.ModuleType):
            name = name_of(o, self.namespace)
            return {KEY: "import", "name": name} if name else self._lost(o, "it is not found again by a name")
        return self._wrapped("method", {"name": o.__name__}, {"of": ("", o.__self__)})

    def _lru_cache(self, o: Any) -> Nodes:
        kept = {k: v for k, v in o.__dict__.items() if k != "__wrapped__"}
        plain = o.cache_parameters()
        return self._wrapped("lru_cache", plain, {"of": ("", o.__wrapped__), "dict": (".__dict__", kept)})

    def _decorated(self, o: Any) -> Nodes | None:
        """A step or a flow: its own function, decorated again as its statement says."""
        function = getattr(o, "function", None)
        if type(function) is not types.FunctionType or type(o).__name__ not in {"Step", "Flow"}:
            return None
        options = {
            k: v for k in ("retries", "timeout", "type", "outputs", "was") if (v := getattr(o, k, None)) is not None
        }
        if type(o).__name__ == "Flow":
            return self._wrapped("flow", {}, {"of": ("", function)})
        return self._wrapped("step", {"options": options}, {"of": ("", function)})

    # ---- everything else

    def _object(self, o: Any, cls: type) -> Node | Nodes:
        try:
            parts = taken_apart(o)
        except Exception as e:
            return self._lost(o, why_whole(e))
        if isinstance(parts, str):
            return self._global(o, cls, parts)
        if parts.setter is not None:
            return self._lost(o, "it is put together in a way that only pickle knows")
        self.kept.append(parts)
        return self._put_together(o, cls, parts)

    def _global(self, o: Any, cls: type, name: str) -> Node:
        for module in (getattr(o, "__module__", None), cls.__module__, cls.__module__.partition(".")[0]):
            full = f"{module}:{name}"
            if type(module) is str and module in sys.modules and _is_named(full, o):
                return {KEY: "import", "name": full}
        return self._lost(o, "it is not found again by a name")

    def _put_together(self, o: Any, cls: type, parts: Parts) -> Nodes:
        self.making.add(id(o))
        make, args = parts.make, parts.args
        node: dict[str, Node]
        if getattr(make, "__name__", "") == "__newobj__" and len(args) == 1 and args[0] is cls:
            node = {KEY: "instance", "type": (yield ".__class__", cls)}
        else:
            if getattr(make, "__name__", "") == "_unpickle_block":
                args = (_own_values(o, args[0]), *args[1:])
            node = {KEY: "object", "make": (yield "", make)}
            node["args"] = yield from self._each("", args)
        self.making.discard(id(o))
        if parts.items:
            node["items"] = yield from self._each("", parts.items)
        if parts.pairs:
            filled = []
            for key, part in parts.pairs:
                filled.append((yield ".keys()", key))
                filled.append((yield f"[{key!r:.40}]" if type(key) in ATOMS else "[…]", part))
            node["pairs"] = filled
        for held in parts.state if type(parts.state) is tuple else (parts.state,):
            self.attributes.add(id(held))
        if parts.state is not None:
            node["state"] = yield "", parts.state
        return node


_KINDS: dict[type, Callable[[Any, Any], Node | Nodes]] = {
    types.ModuleType: _Encoder._module,
    types.CellType: _Encoder._cell,
    types.MethodType: _Encoder._method,
    types.BuiltinFunctionType: _Encoder._builtin,
    staticmethod: lambda self, o: self._wrapped("staticmethod", {}, {"of": ("", o.__func__)}),
    classmethod: lambda self, o: self._wrapped("classmethod", {}, {"of": ("", o.__func__)}),
    property: lambda self, o: self._wrapped(
        "property",
        {"doc": o.__doc__},
        {"get": (".fget", o.fget), "set": (".fset", o.fset), "del": (".fdel", o.fdel)},
    ),
    typing.TypeVar: lambda self, o: self._wrapped(
        "typevar",
        {"name": o.__name__, "covariant": o.__covariant__, "contravariant": o.__contravariant__},
        {"bound": (".__bound__", o.__bound__), "constraints": (".__constraints__", o.__constraints__)},
    ),
    types.MappingProxyType: lambda self, o: self._wrapped("mappingproxy", {}, {"of": ("", dict(o))}),
    memoryview: lambda self, o: (
        self._wrapped("memoryview", {"format": o.format, "shape": o.shape, "readonly": o.readonly}, {"of": ("", o.obj)})
        if o.contiguous and o.nbytes == memoryview(o.obj).nbytes
        else self._lost(o, "it looks at a part of a buffer")
    ),
    logging.Logger: lambda self, o: {KEY: "logger", "name": o.name},
    logging.RootLogger: lambda self, o: {KEY: "logger", "name": None},
}


def _is_kept_memory(owner: Any) -> bool:
    """Whether what an array looks into is kept as such. Of other memory, a library's own, the array's content is."""
    if type(owner) is memoryview:
        return type(owner.obj) in _BUFFERS or is_array(type(owner.obj))
    return type(owner) in (bytes, bytearray)


def _label(variables: dict[str, Node], labels: dict[int, int], whole: set[int]) -> None:
    """Wrap what was met again where it stood first, and number it in the order in which it is found again."""
    numbers: dict[int, int] = {}
    todo: list[tuple[Any, Any, Node]] = [(variables, key, node) for key, node in reversed(variables.items())]
    while todo:
        holder, key, node = todo.pop()
        kind = type(node)
        if kind is not dict and kind is not list and id(node) not in labels:
            continue
        if kind is dict and node.get(KEY) == "ref":
            node["n"] = numbers[node.pop("of")]
            continue
        if (of := labels.get(id(node))) is not None and of not in numbers:
            numbers[of] = len(numbers)
            holder[key] = {KEY: "def", "n": numbers[of], "value": node}
        if id(node) in whole:
            continue
        if kind is dict:
            todo += [(node, k, v) for k, v in reversed(node.items())]
        elif kind is list:
            todo += [(node, k, node[k]) for k in range(len(node) - 1, -1, -1)]


def _arrays_of_frame(frame: Any) -> list[Any]:
    """The arrays that hold a frame's cells, views and their owners."""
    found = []
    for block in getattr(getattr(frame, "_mgr", None), "blocks", ()):
        for values in (block.values, getattr(block.values, "_ndarray", None)):
            if is_array(type(values)):
                found += [values, owner_of(values)]
    return found


def _own_values(block: Any, values: Any) -> Any:
    """A block's values; a copy where pandas would copy them before it writes, since others look at them too."""
    refs = getattr(block, "refs", None)
    shared = refs is not None and hasattr(refs, "has_reference") and refs.has_reference()
    return values.copy() if shared else values


def _is_made_anew(cls: type, key: str, value: Any, namespace: Namespace) -> bool:
    """Whether running a class's statement gives this attribute again, with nothing in it that may have changed."""
    if isinstance(value, (functools.cached_property, functools.singledispatchmethod)):
        return True
    function = getattr(value, "__func__", getattr(value, "fget", value))
    if isinstance(function, types.FunctionType):  # what a decorator or a metaclass made, it makes again
        own = function.__globals__ is namespace and function_source(function) is not None
        return not own and name_of(function, namespace) is None
    return key[:2] == "__" or issubclass(cls, enum.Enum) or type(cls) not in (type, abc.ABCMeta)


def _is_named(name: str, o: Any) -> bool:
    from .importable import found

    try:
        return found(name) is o
    except (ImportError, AttributeError):
        return False


def _names_in_class(text: str) -> list[str]:
    """The names that a class's statement looks up when it runs: decorators, bases, and its body's own level."""
    names: dict[str, None] = {}
    todo = [compile(text, "<class>", "exec", dont_inherit=True)]
    while todo:
        code = todo.pop()
        is_function = bool(code.co_flags & 0x2) and code.co_name[:1] != "<"
        if is_function:
            continue
        for instruction in dis.get_instructions(code):
            if instruction.opname in {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}:
                names[instruction.argval] = None
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [name for name in names if name[:2] != "__"]


def _is_scalar(cls: type) -> bool:
    """Whether it is a scalar or a dtype of NumPy's."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and issubclass(cls, (numpy.generic, numpy.dtype))
