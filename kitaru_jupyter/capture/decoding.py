"""Documents into variables: the way back from `encoding`. It imports, and runs the code that a document names."""

from __future__ import annotations

import abc
import ast
import builtins
import collections
import contextlib
import functools
import importlib
import logging
import sys
import types
import typing
from collections.abc import Callable, Generator, Mapping, MutableMapping
from typing import Any

from kitaru.errors import CorruptionError

from .encoding import KEY
from .importable import found
from .snippets import code_in_library, code_of, statement
from .unrestorable import NotRestorable
from .views import view_of

__all__ = ["Decoder"]

Value = Any
Parts = Generator[Any, Value, Value]

_EMPTY = object()
_SIMPLE = frozenset({"import", "module", "variable"})  # nodes that hold no others


class _Child:
    """A node whose value is wanted, and the object that may be taken for it."""

    __slots__ = ("given", "node")

    def __init__(self, node: Any, given: Any) -> None:
        self.node, self.given = node, given


class Decoder:
    """Makes the variables of several documents, which may refer to each other's classes and functions.

    Parameters
    ----------
    documents
        The documents by the variables that they hold.
    namespace
        What functions and classes run in, and where a variable is that no document holds.
    loaded
        Values of other variables that are restored with these.
    """

    def __init__(
        self,
        documents: Mapping[tuple[str, ...], dict[str, Any]],
        namespace: MutableMapping[str, Any],
        loaded: Mapping[str, Any],
        gone: set[str],
    ) -> None:
        self.namespace, self.gone = namespace, gone
        self.variables: dict[str, Any] = dict(loaded)
        self.lost: dict[str, str] = {}
        self._of = {name: document for document in documents.values() for name in document["variables"]}
        self._begun: dict[int, _One] = {}

    def run(self) -> dict[str, Any]:
        """The values of all variables."""
        for document in self._of.values():
            self._one(document).run()
        return self.variables

    def _one(self, document: dict[str, Any]) -> _One:
        if id(document) not in self._begun:
            self._begun[id(document)] = _One(document, self)
        return self._begun[id(document)]

    def variable(self, name: str) -> Any:
        """A class or function by its variable; raises `LookupError` where there is none."""
        if name in self.variables:
            return self.variables[name]
        if name in self._of:
            one = self._one(self._of[name])
            cls = one.bare_class(name)
            if cls is not None:  # its attributes may need what needs this class
                return cls
            one.run()
            return self.variables[name] if name in self.variables else one.early[name]
        if name in self.gone:
            raise LookupError(name)
        return self.namespace[name]


class _One:
    """The making of one document's variables."""

    def __init__(self, document: dict[str, Any], decoder: Decoder) -> None:
        self.document, self.decoder, self.namespace = document, decoder, decoder.namespace
        self.sources: list[str] = document.get("sources", [])
        self.table: dict[int, Any] = {}
        self.frozen: list[Any] = []
        self.early: dict[str, Any] = {}  # what exists already, by its variable: it may not be whole yet
        self.classes: dict[int, Any] = {}  # by the node
        self.variable = ""
        self.has_begun = False

    def bare_class(self, name: str) -> Any:
        """The class that a variable holds, without what was put in it later on; None where it is not so simple."""
        node = self.document["variables"][name]
        if type(node) is dict and node.get(KEY) == "def":
            node = node["value"]
        kind = node.get(KEY) if type(node) is dict else None
        if kind not in {"class", "type"}:
            return None
        if id(node) not in self.classes:
            needs: dict[Any, Any] = node["needs"] if kind == "class" else dict(enumerate(node["bases"]))
            if any(type(n) is dict and n.get(KEY) not in _SIMPLE for n in needs.values()):
                return None
            made = {key: self._begin(n, None, _EMPTY) for key, n in needs.items()}
            if kind == "class":
                self._make_class(node, made)
            else:
                self._make_type(node, tuple(made.values()))
        return self.classes[id(node)]

    def _make_type(self, node: dict[str, Any], bases: tuple[Any, ...]) -> None:
        held: dict[str, Any] = {
            "__module__": self.namespace.get("__name__", "__main__"),
            "__qualname__": node["qualname"],
        }
        attributes = dict(zip(node["attributes"][::2], node["attributes"][1::2], strict=True))
        if "__slots__" in attributes:
            held["__slots__"] = attributes["__slots__"]
        kind = abc.ABCMeta if node["abstract"] else type
        self.classes[id(node)] = kind(node["name"], bases, held)

    def _make_class(self, node: dict[str, Any], needs: dict[str, Any]) -> None:
        try:
            made = self._defined_class(self.sources[node["source"]], needs, node.get("flags", 0))
        except Exception as e:
            made = self._gone(f"class {node['name']}", f"its statement failed: {type(e).__name__}: {e}")
        self.classes[id(node)] = made

    def run(self) -> None:
        """Make the variables, if that has not begun."""
        if self.has_begun:
            return
        self.has_begun = True
        made = {}
        for name, node in self.document["variables"].items():
            self.variable = name
            made[name] = self._trampoline(node)
        for array in self.frozen:  # a view that may be written to may look into an array that may not
            array.flags.writeable = False
        self.decoder.variables.update(made)

    def _trampoline(self, node: Any) -> Any:
        made = self._begin(node, None, _EMPTY)
        if type(made) is not types.GeneratorType:
            return made
        stack: list[tuple[Parts, int | None]] = [(made, None)]
        missing: list[NotRestorable | None] = [None]  # of each of them, a part that could not be had
        given: Any = None
        while stack:
            if isinstance(given, NotRestorable):
                missing[-1] = given
            try:
                child = stack[-1][0].send(given)
            except StopIteration as end:
                given = end.value
                label = stack.pop()[1]
                missing.pop()
                if label is not None:
                    self.table[label] = given
                continue
            except Exception:
                given = missing.pop()
                if given is None:
                    raise
                label = stack.pop()[1]  # without that part it cannot be either: a `memoryview` of nothing, say
                if label is not None:
                    self.table[label] = given
                continue
            node, hint = (child.node, child.given) if type(child) is _Child else (child, _EMPTY)
            label = None
            if type(node) is dict and node.get(KEY) == "def":
                label, node = node["n"], node["value"]
            made = self._begin(node, label, hint)
            if type(made) is types.GeneratorType:
                stack.append((made, label))
                missing.append(None)
                given = None
            else:
                if label is not None:
                    self.table[label] = made
                given = made
        return given

    def _begin(self, node: Any, label: int | None, given: Any) -> Any:
        kind = type(node)
        if kind is list:
            return self._list(node, label)
        if kind is not dict:
            return node
        what = node.get(KEY)
        if what is None:
            return self._map(node, label)
        if what == "def":  # the root of a variable
            return self._defined(node)
        if what == "ref":
            if node["n"] not in self.table:
                return self._gone("object", "it is part of what it is made from")
            return self.table[node["n"]]
        maker = _MAKERS.get(what)
        if maker is None:
            raise CorruptionError(
                f"a document holds a {what!r:.40}, which this Kitaru does not know: a newer one wrote it"
            )
        return maker(self, node, label, given)

    def _defined(self, node: dict[str, Any]) -> Parts:
        return (yield node)

    def _at(self, label: int | None, value: Any) -> Any:
        """Make it known before its parts are made: they may refer to it."""
        if label is not None:
            self.table[label] = value
        return value

    # ------------------------------------------------------------ containers

    def _list(self, node: list[Any], label: int | None) -> Parts:
        made: list[Any] = self._at(label, [])
        for part in node:
            if type(part) in (dict, list):
                part = yield part
            made.append(part)
        return made

    def _map(self, node: dict[str, Any], label: int | None) -> Parts:
        made: dict[str, Any] = self._at(label, {})
        for key, part in node.items():
            made[key] = (yield part) if type(part) in (dict, list) else part
        return made

    def _dict(self, node: Any, label: int | None, _given: Any) -> Parts:
        made: dict[Any, Any] = self._at(label, {})
        items = node["items"]
        for at in range(0, len(items), 2):
            key = yield items[at]
            made[key] = yield items[at + 1]
        return made

    def _tuple(self, node: Any, _label: int | None, _given: Any) -> Parts:
        made = []
        for part in node["items"]:
            made.append((yield part))  # noqa: PERF401 - a generator that is sent to
        return tuple(made)

    def _frozenset(self, node: Any, _label: int | None, _given: Any) -> Parts:
        made = []
        for part in node["items"]:
            made.append((yield part))  # noqa: PERF401
        return frozenset(made)

    def _set(self, node: Any, label: int | None, _given: Any) -> Parts:
        made: set[Any] = self._at(label, set())
        for part in node["items"]:
            made.add((yield part))
        return made

    # ------------------------------------------------------------ arrays

    def _flag(self, array: Any, node: Any) -> Any:
        if not node["writeable"]:
            self.frozen.append(array)
        return array

    def _view(self, node: Any, _label: int | None, _given: Any) -> Parts:
        base = yield node["base"]
        if isinstance(base, NotRestorable):
            return base
        return self._flag(view_of(base, node), node)

    def _buffer(self, node: Any, _label: int | None, _given: Any) -> Parts:
        import numpy as np

        of = yield node["of"]
        array = np.ndarray(tuple(node["shape"]), node["dtype"], of, node["at"], tuple(node["strides"]))
        return self._flag(array, node)

    def _array(self, node: Any, label: int | None, _given: Any) -> Any:
        import numpy as np

        back = np.argsort(node["axes"]) if node["axes"] else ()
        if "cells" in node:
            return self._objects(node, label, back)
        body = node["body"]
        array = body if list(node["axes"]) == list(range(body.ndim)) else body.transpose(back).copy(order="K")
        return self._flag(array, node)

    def _objects(self, node: Any, label: int | None, back: Any) -> Parts:
        import numpy as np

        across = np.empty(tuple(node["shape"]), node["dtype"])
        array = across
        if list(node["axes"]) != list(range(across.ndim)):
            array = across.transpose(back).copy(order="K")
            across = array.transpose(node["axes"])
        self._at(label, array)
        flat = across.reshape(-1)
        for at, part in enumerate(node["cells"]):
            flat[at] = yield part
        return self._flag(array, node)

    def _subclass(self, node: Any, label: int | None, _given: Any) -> Parts:
        kind = yield node["type"]
        plain = yield node["array"]
        if isinstance(kind, NotRestorable):
            return kind
        array = plain.view(kind)
        if node["own"]:
            array = type(plain).copy(array, order="K")
        self._at(label, array)
        state = yield node["state"]
        if state:
            array.__dict__.update(state)
        return self._flag(array, node)

    def _memoryview(self, node: Any, _label: int | None, _given: Any) -> Parts:
        of = yield node["of"]
        made = memoryview(of)
        if made.format != node["format"] or made.shape != tuple(node["shape"]):
            made = made.cast("B").cast(node["format"], list(node["shape"]))
        return made.toreadonly() if node["readonly"] and not made.readonly else made

    # ------------------------------------------------------------ code

    def _imported(self, node: Any, _label: int | None, _given: Any) -> Any:
        try:
            return found(node["name"])
        except Exception as e:
            return self._gone(node["name"].replace(":", "."), f"it cannot be imported here: {type(e).__name__}: {e}")

    def _module(self, node: Any, _label: int | None, _given: Any) -> Any:
        try:
            return sys.modules.get(node["name"]) or importlib.import_module(node["name"])
        except Exception as e:
            return self._gone(f"module {node['name']}", f"it cannot be imported here: {type(e).__name__}: {e}")

    def _by_variable(self, node: Any, _label: int | None, _given: Any) -> Any:
        try:
            return self.decoder.variable(node["name"])
        except LookupError:
            return self._gone(node["name"], f"there is no variable {node['name']} in this notebook")

    def _gone(self, type_name: str, why: str) -> NotRestorable:
        self.decoder.lost.setdefault(self.variable, f"{type_name}: {why}")
        return NotRestorable(type_name, why, self.variable)

    def _lost(self, node: Any, _label: int | None, _given: Any) -> NotRestorable:
        self.decoder.lost.setdefault(self.variable, f"{node['type']}: {node['why']}")
        return NotRestorable(node["type"], node["why"], node["place"])

    def _cell(self, node: Any, label: int | None, given: Any) -> Parts:
        cell = self._at(label, given if type(given) is types.CellType else types.CellType())
        if "of" in node:
            cell.cell_contents = yield node["of"]
        return cell

    def _function(self, node: Any, label: int | None, given: Any) -> Any:
        try:
            code, scope = self._code(node)
        except Exception as e:
            return self._gone(
                node["code"] if "code" in node else ".".join(node["path"]),
                f"its code is not to be had here: {type(e).__name__}: {e}",
            )
        return self._function_of(node, label, code, scope, given)

    def _code(self, node: Any) -> tuple[types.CodeType, dict[str, Any]]:
        if "module" in node:
            code = code_in_library(node["module"], node["code"], node["nth"])
            return code, vars(importlib.import_module(node["module"]))
        code = code_of(self.sources[node["source"]], tuple(node["path"]), node.get("flags", 0))
        return code, self.namespace  # type: ignore[return-value]

    def _function_of(
        self, node: Any, label: int | None, code: types.CodeType, scope: dict[str, Any], given: Any
    ) -> Parts:
        if type(given) is types.FunctionType and given.__code__.co_qualname == code.co_qualname:
            function = given
            cells = list(given.__closure__ or ())
        else:
            cells = [types.CellType() for _ in code.co_freevars]
            nodes = node.get("cells", ())
            wanted = {at: self.table[part["n"]] for at, part in enumerate(nodes) if self._is_made(part)}
            cells = [wanted.get(at, cell) for at, cell in enumerate(cells)]
            function = types.FunctionType(code, scope, code.co_name, None, tuple(cells) or None)
        self._at(label, function)
        if "name" in node:
            function.__name__, function.__qualname__ = node["name"], node["qualname"]
        if "of_module" in node:
            function.__module__ = node["of_module"]
        if "doc" in node:
            function.__doc__ = node["doc"]
        for part, cell in zip(node.get("cells", ()), cells, strict=False):
            yield _Child(part, cell)
        function.__defaults__ = (yield node["defaults"]) if "defaults" in node else None
        function.__kwdefaults__ = (yield node["kwdefaults"]) if "kwdefaults" in node else None
        if "annotations" in node:
            function.__annotations__ = yield node["annotations"]
        if "dict" in node:
            function.__dict__ = yield node["dict"]
        return function

    def _is_made(self, node: Any) -> bool:
        return type(node) is dict and node.get(KEY) == "ref" and type(self.table.get(node["n"])) is types.CellType

    def _class(self, node: Any, label: int | None, _given: Any) -> Parts:
        if id(node) not in self.classes:
            needs = {}
            for name, part in node["needs"].items():
                needs[name] = yield part
            self._make_class(node, needs)
        cls = self._at(label, self.classes[id(node)])
        if isinstance(cls, NotRestorable):
            return cls
        self.early[node["name"]] = cls
        attributes = node["attributes"]
        for at in range(0, len(attributes), 2):
            key = attributes[at]
            fresh = type.__dict__["__dict__"].__get__(cls).get(key, _EMPTY)
            value = yield _Child(attributes[at + 1], fresh)
            if fresh is not _EMPTY and (value is fresh or _holds_lost(value)):
                continue
            try:
                type.__setattr__(cls, key, value)
            except (AttributeError, TypeError):  # the class keeps it from being set: what it made itself stays
                continue
        return cls

    def _defined_class(self, text: str, needs: dict[str, Any], flags: int) -> Any:
        """Run a class's statement, with what it looks up bound to what it was then.

        Decorators of the notebook's own are left out: what they did to the class stands in its attributes.
        """
        node, filename = statement(text)
        node.decorator_list = [d for d in node.decorator_list if not self._is_own(d, needs)]
        code = compile(ast.Module([node], []), filename, "exec", flags=flags, dont_inherit=True)
        made: dict[str, Any] = dict(needs)
        scope: Any = self.namespace
        before = {name: scope.get(name, _EMPTY) for name in needs}
        try:
            scope.update(needs)  # a class's body looks names up there, and nowhere else
            exec(code, scope, made)  # noqa: S102 - the caller has asked whether this document is trusted
        finally:
            for name, value in before.items():
                if value is _EMPTY:
                    scope.pop(name, None)
                else:
                    scope[name] = value
        return made[node.name]

    def _is_own(self, decorator: ast.expr, needs: dict[str, Any]) -> bool:
        root: Any = decorator
        while isinstance(root, (ast.Call, ast.Attribute)):
            root = root.func if isinstance(root, ast.Call) else root.value
        value = needs.get(root.id) if isinstance(root, ast.Name) else None
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        return type(module) is not str or module == self.namespace.get("__name__", "__main__")

    def _type(self, node: Any, label: int | None, _given: Any) -> Parts:
        if id(node) not in self.classes:
            bases = []
            for part in node["bases"]:
                bases.append((yield part))  # noqa: PERF401
            self._make_type(node, tuple(bases))
        cls = self._at(label, self.classes[id(node)])
        self.early[node["name"]] = cls
        attributes = node["attributes"]
        for at in range(0, len(attributes), 2):
            key = attributes[at]
            value = yield attributes[at + 1]
            if key == "__slots__":
                continue
            try:
                setattr(cls, key, value)
            except (AttributeError, TypeError):
                continue
        return cls

    def _namedtuple(self, node: Any, label: int | None, _given: Any) -> Parts:
        module = self.namespace.get("__name__", "__main__")
        make: Any = collections.namedtuple  # noqa: PYI024 - that is what it was
        defaults = list((yield node["defaults"]).values())
        made = make(node["name"], node["fields"], defaults=defaults, module=module)
        return self._at(label, made)

    def _member(self, node: Any, _label: int | None, _given: Any) -> Parts:
        kind = yield node["type"]
        if isinstance(kind, NotRestorable):
            return kind
        if "name" in node:
            return kind[node["name"]]
        return kind((yield node["value"]))

    def _method(self, node: Any, _label: int | None, _given: Any) -> Parts:
        of = yield node["of"]
        return of if isinstance(of, NotRestorable) else getattr(of, node["name"])

    def _bound(self, node: Any, _label: int | None, _given: Any) -> Parts:
        of = yield node["of"]
        function = yield node["function"]
        return types.MethodType(function, of)

    def _wrapper(self, node: Any, _label: int | None, given: Any) -> Parts:
        kind = getattr(builtins, node[KEY])
        inner = given.__func__ if type(given) is kind else _EMPTY
        of = yield _Child(node["of"], inner)
        return given if of is inner else kind(of)

    def _property(self, node: Any, _label: int | None, given: Any) -> Parts:
        old = (given.fget, given.fset, given.fdel) if type(given) is property else (_EMPTY,) * 3
        parts = []
        for key, fresh in zip(("get", "set", "del"), old, strict=True):
            parts.append((yield _Child(node[key], fresh)))
        if all(a is b for a, b in zip(parts, old, strict=True)):
            return given
        return property(parts[0], parts[1], parts[2], node["doc"])

    def _mappingproxy(self, node: Any, _label: int | None, _given: Any) -> Parts:
        return types.MappingProxyType((yield node["of"]))

    def _typevar(self, node: Any, _label: int | None, _given: Any) -> Parts:
        bound = yield node["bound"]
        constraints = yield node["constraints"]
        variance = {key: node[key] for key in ("covariant", "contravariant")}
        make: Any = typing.TypeVar
        made = make(node["name"], *constraints, bound=bound, **variance)
        with contextlib.suppress(AttributeError):  # it says that it is of the module that called
            made.__module__ = self.namespace.get("__name__", "__main__")
        return made

    def _lru_cache(self, node: Any, _label: int | None, _given: Any) -> Parts:
        of = yield node["of"]
        made = functools.lru_cache(node["maxsize"], node["typed"])(of)
        made.__dict__.update((yield node["dict"]))
        return made

    def _step(self, node: Any, _label: int | None, _given: Any) -> Parts:
        from kitaru import checkpoint

        of = yield node["of"]
        return of if isinstance(of, NotRestorable) else checkpoint(**node["options"])(of)

    def _flow(self, node: Any, _label: int | None, _given: Any) -> Parts:
        from kitaru import flow

        of = yield node["of"]
        return of if isinstance(of, NotRestorable) else flow(of)

    def _logger(self, node: Any, _label: int | None, _given: Any) -> Any:
        return logging.getLogger(node["name"])

    # ------------------------------------------------------------ objects

    def _instance(self, node: Any, label: int | None, _given: Any) -> Parts:
        kind = yield node["type"]
        return (yield from self._filled(node, label, lambda: kind.__new__(kind), kind))

    def _object(self, node: Any, label: int | None, _given: Any) -> Parts:
        make = yield node["make"]
        args = []
        for part in node["args"]:
            args.append((yield part))  # noqa: PERF401
        return (yield from self._filled(node, label, lambda: make(*args), make))

    def _filled(self, node: Any, label: int | None, make: Callable[[], Any], by: Any) -> Parts:
        if isinstance(by, NotRestorable):
            return by
        try:
            made = make()
        except Exception as e:
            name = getattr(by, "__qualname__", type(by).__qualname__)
            return self._gone(f"{getattr(by, '__module__', '?')}.{name}", f"{type(e).__name__} when made again: {e}")
        self._at(label, made)
        for part in node.get("items", ()):
            made.append((yield part))
        pairs = node.get("pairs", ())
        for at in range(0, len(pairs), 2):
            key = yield pairs[at]
            made[key] = yield pairs[at + 1]
        if "state" in node:
            state = yield node["state"]
            try:
                _set_state(made, state)
            except Exception as e:
                return self._gone(f"{type(made).__module__}.{type(made).__qualname__}", f"{type(e).__name__}: {e}")
        return made


def _set_state(made: Any, state: Any) -> None:
    setter = getattr(made, "__setstate__", None)
    if setter is not None:
        setter(state)
        return
    held, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    if held is not None:
        try:
            made.__dict__ = held  # the very dict: others may hold it, and it may still be filling
        except (AttributeError, TypeError):
            made.__dict__.update(held)
    for key, value in (slots or {}).items():
        setattr(made, key, value)


def _holds_lost(value: Any) -> bool:
    return isinstance(value, NotRestorable) or any(
        isinstance(part, NotRestorable) for part in getattr(value, "__dict__", {}).values()
    )


_MAKERS: dict[str, Callable[[_One, Any, int | None, Any], Any]] = {
    "array": _One._array,
    "bound": _One._bound,
    "buffer": _One._buffer,
    "cell": _One._cell,
    "class": _One._class,
    "classmethod": _One._wrapper,
    "dict": _One._dict,
    "flow": _One._flow,
    "frozenset": _One._frozenset,
    "function": _One._function,
    "import": _One._imported,
    "instance": _One._instance,
    "logger": _One._logger,
    "lost": _One._lost,
    "lru_cache": _One._lru_cache,
    "mappingproxy": _One._mappingproxy,
    "member": _One._member,
    "memoryview": _One._memoryview,
    "method": _One._method,
    "module": _One._module,
    "namedtuple": _One._namedtuple,
    "object": _One._object,
    "property": _One._property,
    "set": _One._set,
    "staticmethod": _One._wrapper,
    "step": _One._step,
    "subclass": _One._subclass,
    "tuple": _One._tuple,
    "type": _One._type,
    "typevar": _One._typevar,
    "variable": _One._by_variable,
    "view": _One._view,
}
