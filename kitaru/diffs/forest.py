"""Values as trees in which equal parts are one: whether two parts are the same is a comparison of two numbers.

Two parts get one number if they are equal as Kitaru records them: in type, content and order. ``True`` is not ``1``,
``-0.0`` not ``0.0``, and NaN is NaN. Of instances the attributes are read, past whatever code their class has.
"""

from __future__ import annotations

import enum
import hashlib
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import codecs
from ..codecs import state
from ..codecs.types import name_of
from ..errors import KitaruError
from .arrays import as_array, is_array
from .frames import is_frame

__all__ = ["Forest", "Node", "type_name"]

_SCALARS = {type(None), bool, int, str, bytes, float, complex}
_SEQUENCES = {list, tuple}
_SETS = {set, frozenset}


@dataclass(frozen=True, slots=True)
class Node:
    """One part of a value.

    Attributes
    ----------
    shape : str
        ``map``, ``fields``, ``list``, ``set``; ``text``, ``bytes``, ``array``, ``frame``; ``leaf``: anything else.
    type : str
        Its type's name.
    names : tuple
        Of a map the keys, of fields their names.
    children : tuple of int
        The numbers of the parts: in the order of the names, of a list in its own.
    value : Any
        The value itself.
    """

    shape: str
    type: str
    value: Any
    names: tuple[Any, ...] = ()
    children: tuple[int, ...] = ()


@dataclass(slots=True)
class _Parts:
    shape: str
    type: str
    names: tuple[Any, ...]
    values: Sequence[Any]


class Forest:
    """Trees of several values, with equal parts shared.

    >>> forest = Forest()
    >>> forest.plant({"a": [1, float("nan")]}) == forest.plant({"a": [1, float("nan")]})
    True
    >>> forest.plant([1]) == forest.plant([True])
    False
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._numbers: dict[Hashable, int] = {}
        self._done: dict[int, int] = {}  # by the identity of what `_alive` keeps
        self._alive: list[Any] = []

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def plant(self, value: Any) -> int:
        """The number of a value. However deep it is nested, nothing recurses."""
        if type(value) in _SCALARS:
            return self._scalar(value)
        opened: dict[int, _Parts] = {}  # those around what is looked at now
        todo = [(value, False)]
        while todo:
            v, is_open = todo.pop()
            known = id(v)
            if is_open:
                parts = opened.pop(known)
                self._finish(v, parts)
                continue
            if known in self._done:
                continue
            parts_or_leaf = self._parts(v)
            if isinstance(parts_or_leaf, int):
                self._keep(v, parts_or_leaf)
                continue
            opened[known] = parts_or_leaf
            todo.append((v, True))
            todo += [
                (part, False)
                for part in reversed(parts_or_leaf.values)
                if type(part) not in _SCALARS and id(part) not in opened  # or it holds itself
            ]
        return self._done[id(value)]

    def _keep(self, value: Any, number: int) -> None:
        self._alive.append(value)
        self._done[id(value)] = number

    def _finish(self, value: Any, parts: _Parts) -> None:
        children = tuple(self._of(part) for part in parts.values)
        keys: Hashable = tuple(map(self._key, parts.names)) if parts.shape == "map" else parts.names
        held: Hashable = frozenset(children) if parts.shape == "set" else children
        node = Node(parts.shape, parts.type, value, parts.names, children)
        self._keep(value, self._number((parts.shape, parts.type, keys, held), node))
        self._alive.append(parts.values)  # what a class's own state is read into is held by nothing else

    def _of(self, part: Any) -> int:
        if type(part) in _SCALARS:
            return self._scalar(part)
        number = self._done.get(id(part))
        return number if number is not None else self._number("itself", Node("leaf", "itself", part))

    def _number(self, key: Hashable, node: Node) -> int:
        number = self._numbers.setdefault(key, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return number

    def _scalar(self, v: Any) -> int:
        cls = type(v)
        shape = "text" if cls is str else "bytes" if cls is bytes else "leaf"
        return self._number((cls, repr(v) if cls is float or cls is complex else v), Node(shape, type_name(cls), v))

    def _key(self, key: Any) -> Hashable:
        return self._scalar(key) if type(key) in _SCALARS else self.plant(key)

    # ------------------------------------------------------------ what a value consists of

    def _parts(self, v: Any) -> _Parts | int:
        cls = type(v)
        name = type_name(cls)
        if cls is dict:
            return _Parts("map", name, tuple(v), [*v.values()])
        if cls in _SEQUENCES:
            return _Parts("list", name, (), v)
        if cls in _SETS:
            return _Parts("set", name, (), [*v])
        if is_array(v):
            return self._array(v, name)
        if is_frame(v):
            return self._number(("frame", id(v)), Node("frame", name, v))  # compared when it comes to that
        if isinstance(v, enum.Enum):
            return self._number(("enum", name, v._name_), Node("leaf", name, v))
        if issubclass(cls, type):
            return self._leaf(v, name)
        try:
            parts = _instance(v, cls, name)
        except Exception:  # a hostile class: what can be said of it is its type and its record
            parts = None
        return self._leaf(v, name) if parts is None else parts

    def _array(self, v: Any, name: str) -> int:
        held = as_array(v)
        if held.dtype.hasobject:
            return self._number(("array", id(v)), Node("array", name, v))
        digest = hashlib.sha256(held.tobytes()).digest()
        return self._number(("array", name, str(held.dtype), held.shape, digest), Node("array", name, v))

    def _leaf(self, v: Any, name: str) -> int:
        """A value that is one piece: it counts as it is recorded, or by what it is where it cannot be."""
        if type(v) is bytearray:
            return self._number((name, bytes(v)), Node("bytes", name, v))
        try:
            key: Hashable = codecs.encode(v, otherwise="refer").digest
        except (KitaruError, RecursionError):
            key = id(v)
        return self._number((name, key), Node("leaf", name, v))


def _instance(v: Any, cls: type, name: str) -> _Parts | None:
    """The parts of an instance; None for one that is shown as one piece."""
    base = state.builtin_base(cls)
    if base is not None or cls in state.BUILTIN_BASES:
        return _extended(v, cls, base or cls, name)
    if BaseException in cls.__mro__:
        held = {"args": BaseException.args.__get__(v), **state.of_exception(v)}  # type: ignore[attr-defined]
        return _Parts("fields", name, tuple(held), [*held.values()])
    declared = state.field_names(cls)
    if declared is None and (cls.__module__.partition(".")[0] in sys.stdlib_module_names or state.has_hidden(cls)):
        if cls.__module__ != "__main__":
            return None
        if state.has_hidden(cls):
            return None
    held = state.of(v)
    if any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__):
        held = _model(held)
    return _Parts("fields", name, tuple(held), [*held.values()])


def _model(held: dict[str, Any]) -> dict[str, Any]:
    """A pydantic model's fields, extra ones and private ones as one; which of them were set counts by itself."""
    fields = {n: v for n, v in held.items() if not n.startswith("__pydantic_")}
    for name in ("__pydantic_extra__", "__pydantic_private__"):
        if isinstance(more := held.get(name), dict):
            fields |= more
    fields_set = held.get("__pydantic_fields_set__")
    return fields if fields_set is None else {**fields, "(set by hand)": fields_set}


def _extended(v: Any, cls: type, base: Any, name: str) -> _Parts | None:
    """A subclass of a builtin type, or a type of `collections`: its content, and what else it holds."""
    if base is tuple and isinstance(names := getattr(cls, "_fields", None), tuple):
        return _Parts("fields", name, names, [*tuple.__iter__(v)])
    content = state.BUILTIN_BASES[base].plain(v)
    held = state.of(v) if cls is not base else {}
    if held or base in {str, int, float, complex, bytes, bytearray}:
        if cls is bytearray:
            return None
        return _Parts("fields", name, ("(content)", *held), [content, *held.values()])
    if issubclass(base, dict):
        return _Parts("map", name, tuple(content), [*content.values()])
    return _Parts("set" if base in _SETS else "list", name, (), [*content])


def type_name(cls: type) -> str:
    """A type's name for people: ``dict``, ``pathlib.PosixPath``."""
    return name_of(cls).removeprefix("builtins:").removeprefix("__main__:").replace(":", ".")
