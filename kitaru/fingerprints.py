"""What a body's code is, as one digest: so that a changed helper is noticed, and an edited comment is not.

A fingerprint covers the function and, transitively, what it names in the user's own modules:

- **Functions and classes** by their normalised source. Comments, white space, docstrings, annotations in
  functions, decorators of the definition, line numbers and file names do not count. Source is used only
  where compiling it gives the code that really runs: a file may have been edited since it was imported. Where
  there is no such source (`exec`, two lambdas on one line), the bytecode counts, which holds for one minor
  version of Python.
- **Plain globals** by value. What is immutable (numbers, text, bytes, enums, tuples and frozensets) counts
  always; a list, dict or set only if its name is in CAPITALS, since others are often logs and caches that
  change as the program runs. A global that a function of its module rebinds (`global x`) never counts, and
  neither does a container of data that one of them changes by a method (`SEEN.append(…)`).
- **Other objects** by their type, and by its code where that is the user's own.

It stops at checkpoints and flows (by name: their code is their own), at Kitaru, at the standard library and
at installed packages. Modules that a body imports while it runs count by name alone: whether they are loaded
already must not decide. Nothing is called and no module is imported, so no code of the user runs.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import enum
import functools
import hashlib
import itertools
import linecache
import os
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Fingerprint", "changed", "fingerprint", "is_own", "readable", "source_of"]

_MOST_PARTS = 5_000  # a vendored library that looks like the user's own must not stop a run
_MOST_ITEMS = 10_000  # of one container
_DEEPEST = 20
_DATA = frozenset({bool, int, float, complex, str, bytes, type(None), list, dict, tuple, set, frozenset})
_FUTURES = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})
_CHANGING = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    ]
)
_Function = types.FunctionType
_Chain = tuple[str, ...]  # a name, and the attributes that are read from it


class Fingerprint(NamedTuple):
    """The code of a body.

    `digest` is 32 bytes. `parts` maps "module:qualname" or "module:GLOBAL" to 12 hex digits of that part, so
    that a change can be named; the body's own module is ".".
    """

    digest: bytes
    parts: dict[str, str]


def fingerprint(function: Callable[..., Any]) -> Fingerprint:
    """The code of `function`, and of what it names in the user's own modules. Never raises.

    Equal in every process and on every machine, whether the module is `__main__` or imported under some
    name, and whatever the function itself is called.

    Examples
    --------
    >>> def half(x): return x / 2
    >>> def body(x): return half(x)
    >>> list(fingerprint(body).parts)
    ['.:body', '.:half']
    """
    return _Walk(function).run()


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names of the parts that changed, appeared or vanished, sorted.

    Examples
    --------
    >>> changed({".:f": "1", ".:LIMIT": "2"}, {".:f": "1", ".:LIMIT": "3"})
    ['.:LIMIT']
    """
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def readable(part: str) -> str:
    """A part's name as a person says it: ``.:helper`` is ``helper`` of the body's own module.

    Examples
    --------
    >>> readable(".:helper"), readable("rules.tables:LIMIT")
    ('helper', 'rules.tables.LIMIT')
    """
    module, _, name = part.rpartition(":")
    return name if module in {"", "."} else f"{module}.{name}"


def source_of(function: Callable[..., Any]) -> str | None:
    """The definition of `function` with its decorators, dedented; None where what runs has no such text."""
    try:
        inner = _innermost(function)
        found = _definition(inner.__code__, inner.__globals__) if _is(inner, _Function) else None
    except Exception:  # objects of users may do anything when they are looked at
        return None
    return None if found is None else found.source


# What is the user's own


@functools.lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Folders whose code is not the user's."""
    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@functools.lru_cache(maxsize=4096)
def is_own(name: str, file: str | None) -> bool:
    """Whether the code of a module, by its name and file, is the user's own: none of Kitaru's, nor a library's."""
    top = name.partition(".")[0]
    if top in {"kitaru", "kitaru_jupyter", "builtins"} and not name.startswith("kitaru.demo."):
        return False
    if file is None:  # built in, or made by hand
        return top not in sys.stdlib_module_names
    path = os.path.join(os.getcwd(), file)
    parts = path.split(os.sep)
    return {"site-packages", "dist-packages"}.isdisjoint(parts) and not path.startswith(_installed())


def _innermost(value: Any) -> Any:
    """The function within bound methods, partials, `staticmethod`s and `functools.wraps`."""
    for _ in range(_DEEPEST):
        if _is(value, types.MethodType | staticmethod | classmethod):
            value = value.__func__
        elif _is(value, functools.partial):
            value = value.func
        elif (inner := _attribute(value, "__wrapped__")) is not None and inner is not value:
            value = inner
        else:
            break
    return value


def _is(value: Any, kind: Any) -> bool:
    """`isinstance` that does not ask the object itself, whose `__class__` may be a property."""
    return issubclass(type(value), kind)


def _attribute(value: Any, name: str) -> Any:
    """An entry of the object's own `__dict__`, found without running anything of the user's."""
    try:
        return object.__getattribute__(value, "__dict__").get(name)
    except (AttributeError, TypeError):
        return None


def _of_type(value: Any, name: str) -> Any:
    """An attribute of the object's type, found without running anything of the user's."""
    return next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), None)


# Source


class _Definition(NamedTuple):
    code: types.CodeType
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    source: str


@functools.lru_cache(maxsize=32)
def _definitions(text: str, flags: int) -> dict[str, list[_Definition]]:
    """Every function of a file by its qualified name, each with its code as the file would compile now."""
    tree = ast.parse(text)
    at: dict[tuple[int, str], list[Any]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            at.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            at.setdefault((node.lineno, "<lambda>"), []).append(node)
    lines = text.splitlines(keepends=True)
    found: dict[str, list[_Definition]] = {}
    # A cell of a notebook may hold a top-level `await`.
    top = compile(tree, "<fingerprint>", "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    for code in _nested(top):
        nodes = at.get((code.co_firstlineno, code.co_name), [])
        if len(nodes) == 1:  # a line may hold several lambdas, and nothing says which is which
            source = textwrap.dedent("".join(lines[code.co_firstlineno - 1 : nodes[0].end_lineno]))
            found.setdefault(code.co_qualname, []).append(_Definition(code, nodes[0], source))
    return found


def _definition(code: types.CodeType, scope: dict[str, Any]) -> _Definition | None:
    """Where `code` is defined, found by its name and content, since lines above it may have moved."""
    try:
        linecache.checkcache(code.co_filename)
        text = "".join(linecache.getlines(code.co_filename, scope))
        if not text:
            return None
        candidates = _definitions(text, code.co_flags & _FUTURES).get(code.co_qualname, [])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    runs = [one for one in candidates if _facts(one.code).bytecode == _facts(code).bytecode]
    same_line = [one for one in runs if one.code.co_firstlineno == code.co_firstlineno]
    return next(iter(same_line or runs), None)


_texts: dict[types.CodeType, str] = {}  # what a code object was compiled from does not change any more


def _text(code: types.CodeType, scope: dict[str, Any]) -> str:
    """The normalised source of `code`; its bytecode where there is none."""
    text = _texts.get(code)
    if text is None:
        found = _definition(code, scope)
        try:
            text = "source " + _normalised(found.node) if found is not None else _facts(code).bytecode
        except RecursionError:
            text = _facts(code).bytecode
        if len(_texts) >= _MOST_PARTS:
            _texts.clear()
        _texts[code] = text
    return text


def _normalised(node: ast.AST) -> str:
    """The definition as text that is equal on every minor version of Python, without what does not run."""
    if isinstance(node, ast.Lambda):
        return f"({_dump(node.args, in_class=False)},{_dump(node.body, in_class=False)})"
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    kind = "async" if isinstance(node, ast.AsyncFunctionDef) else "def"
    # Neither its own name nor its decorators: what they made of it is seen as an object.
    return f"({kind},{_dump(node.args, in_class=False)},{_dump(_undocumented(node.body), in_class=False)})"


def _undocumented(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    text = first.value if isinstance(first, ast.Expr) else None
    return body[1:] if isinstance(text, ast.Constant) and isinstance(text.value, str) else body


def _dump(node: Any, *, in_class: bool) -> str:
    if isinstance(node, list):
        return "[" + ",".join(_dump(item, in_class=in_class) for item in node) + "]"
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if not isinstance(node, ast.AST):
        return repr(node)  # an identifier, or a small number
    fields = []
    skipped = {"ctx", "kind", "type_comment", "returns"}
    if isinstance(node, ast.arg) or (isinstance(node, ast.AnnAssign) and not in_class):
        skipped.add("annotation")
    inner = in_class
    if isinstance(node, ast.ClassDef):
        inner = True  # the annotations of a class make its fields
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inner = False
    for name in node._fields:
        value = getattr(node, name, None)
        if name in skipped or value is None or value == []:  # newer versions add empty fields
            continue
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            value = _undocumented(value)
        fields.append(f"{name}={_dump(value, in_class=inner)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _constant(value: Any) -> str:
    """A constant of code as text, with its type."""
    if isinstance(value, tuple):
        return "(" + ",".join(_constant(item) for item in value) + ")"
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(_constant(item) for item in value)) + "}"
    if isinstance(value, types.CodeType):
        return _facts(value).bytecode
    return f"{type(value).__name__}:{value!r}"


# Bytecode


class _Facts(NamedTuple):
    bytecode: str  # without docstrings, lines and file names
    reads: frozenset[_Chain]  # global names, each with the attributes read from it
    frees: frozenset[_Chain]  # names of the enclosing functions
    of_self: frozenset[str]  # attributes read from the first argument
    # What it assigns while it runs:
    globals: frozenset[str]
    nonlocals: frozenset[str]
    attributes: frozenset[str]  # other than plainly to `self`
    changes: frozenset[str]  # globals on which it calls a method that changes a container


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


def _docstring(code: types.CodeType) -> str | None:
    first = code.co_consts[0] if code.co_consts else None
    if sys.version_info >= (3, 13):
        documented = bool(code.co_flags & 0x4000000)  # CO_HAS_DOCSTRING
    else:
        documented = bool(code.co_flags & 0x1) and not code.co_name.startswith("<")  # CO_OPTIMIZED
    return first if documented and isinstance(first, str) else None


_known: dict[int, tuple[types.CodeType, _Facts]] = {}  # it holds the code, so no id is used again


def _facts(code: types.CodeType) -> _Facts:
    """What one look at the instructions tells, the nested functions' included."""
    known = _known.get(id(code))
    if known is None:
        if len(_known) >= 4 * _MOST_PARTS:
            _known.clear()
        known = _known[id(code)] = (code, _read(code))
    return known[1]


def _read(code: types.CodeType) -> _Facts:
    reads, frees, of_self = set[_Chain](), set[_Chain](), set[str]()
    rebound, nonlocals, attributes, changes = set[str](), set[str](), set[str](), set[str]()
    chain: list[str] = []
    into: set[_Chain] | set[str] | None = None
    first = code.co_varnames[0] if code.co_argcount and code.co_varnames else None
    text = [f"python {sys.version_info[0]}.{sys.version_info[1]} {code.co_argcount} {code.co_posonlyargcount} "]
    text.append(f"{code.co_kwonlyargcount} {code.co_flags & 0x2AC} {code.co_varnames} {code.co_freevars} ")
    documented = _docstring(code) is not None
    to_self = False
    for step in dis.get_instructions(code):
        name, value = step.opname, step.argval
        if name == "EXTENDED_ARG":
            continue
        if step.opcode in dis.hasconst:
            text.append(f"{name} {'doc' if documented and step.arg == 0 else _constant(value)};")
        else:
            text.append(f"{name} {value!r};")
        if name in {"LOAD_ATTR", "LOAD_METHOD"} and into is not None:
            if into is of_self:
                of_self.add(value)
                into = None
            else:
                chain.append(value)
            continue
        if chain:
            (frees if into is frees else reads).add(tuple(chain))
            if into is reads and len(chain) == 2 and chain[1] in _CHANGING:
                changes.add(chain[0])
        chain, into = [], None
        if name in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}:
            chain, into = [value], reads
        elif name in {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}:
            chain, into = [value], frees
        elif name.startswith("LOAD_FAST") and (value[-1] if isinstance(value, tuple) else value) == first:
            into = of_self
        elif name in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            rebound.add(value)
        elif name == "STORE_DEREF":
            nonlocals.add(value)
        elif name == "STORE_ATTR" and not to_self:
            attributes.add(value)
        to_self = name.startswith("LOAD_FAST") and (value[-1] if isinstance(value, tuple) else value) == "self"
    text.append(repr(getattr(code, "co_exceptiontable", b"")))
    for inner in (constant for constant in code.co_consts if isinstance(constant, types.CodeType)):
        facts = _facts(inner)
        reads |= facts.reads
        frees |= facts.frees
        rebound |= facts.globals
        nonlocals |= facts.nonlocals
        attributes |= facts.attributes
        changes |= facts.changes
    return _Facts(
        "".join(text),
        frozenset(reads),
        frozenset(frees),
        frozenset(of_self),
        frozenset(rebound),
        frozenset(nonlocals),
        frozenset(attributes),
        frozenset(changes),
    )


class _Rebound(NamedTuple):
    names: set[str]
    attributes: set[str]
    changes: set[str]


def _functions_in(value: Any) -> Iterator[_Function]:
    """The functions in an entry of a module or of a class."""
    if type(value) is _Function and not value.__dict__:  # nearly all
        yield value
        return
    inner = _innermost(value)
    if _is(inner, _Function):
        yield inner
    elif _is(inner, property):
        yield from (each for each in (inner.fget, inner.fset, inner.fdel) if _is(each, _Function))


def _rebound(scope: dict[str, Any]) -> _Rebound:
    """What the functions of a module assign while the program runs: such values are no code."""
    names, attributes, changes = set[str](), set[str](), set[str]()
    for value in list(scope.values()):
        entries: Iterable[Any] = (value,)
        if type(value) is not _Function and _is(value, type) and value.__module__ == scope.get("__name__"):
            entries = list(vars(value).values())
        for entry in entries:
            for function in _functions_in(entry):
                if function.__globals__ is scope:
                    facts = _facts(function.__code__)
                    if facts.globals or facts.attributes or facts.changes:
                        names |= facts.globals
                        attributes |= facts.attributes
                        changes |= facts.changes
    return _Rebound(names, attributes, changes)


# The walk


class _Walk:
    """One fingerprint in the making: a queue of functions and classes, and the text of each."""

    def __init__(self, function: Any) -> None:
        self.body = function
        inner = _innermost(function)
        if _is(inner, _Function):
            scope, name = inner.__globals__, inner.__globals__.get("__name__")
        else:  # a class, or an object that can be called
            name = (inner if _is(inner, type) else type(inner)).__module__
            scope = getattr(sys.modules.get(name), "__dict__", {})
        self.home = {name}
        self.home_file = scope.get("__file__")
        if "__main__" in self.home and (spec := scope.get("__spec__")) is not None:
            self.home.add(spec.name)  # python -m package.module
        self.home_scope = scope
        self.keys: dict[int, str] = {}
        self.named: dict[str, int] = {}
        self.held: list[Any] = []  # so that no id is used again
        self.queue: list[tuple[str, Any, bool]] = []
        self.parts: dict[str, str] = {}
        self.rebound: dict[int, _Rebound] = {}
        self.budget = _MOST_ITEMS

    def run(self) -> Fingerprint:
        inner = self.body
        while _is(inner, types.MethodType):  # its `self` is an argument
            inner = inner.__func__
        root = self._reference(inner, cells=False, root=True)
        while self.queue:
            key, value, cells = self.queue.pop(0)
            self.budget = _MOST_ITEMS
            try:
                text = self._class(value) if _is(value, type) else self._function(value, cells=cells)
            except Exception as problem:
                text = f"odd {type(value).__name__} {type(problem).__name__}"
            self.parts[key] = text
        whole = hashlib.sha256(b"kitaru code 0\n")
        short: dict[str, str] = {}
        for key in sorted(self.parts):
            digest = hashlib.sha256(self.parts[key].encode("utf-8", "surrogatepass"))
            short[key] = digest.hexdigest()[:12]
            # A body that got another name is the same body.
            whole.update(("" if key == root else key).encode("utf-8", "surrogatepass") + b"\0" + digest.digest())
        if root not in self.parts:
            whole.update(root.encode("utf-8", "surrogatepass"))
        return Fingerprint(whole.digest(), short)

    # Where things belong

    def _module(self, name: Any, scope: Mapping[str, Any] | None = None) -> tuple[str, bool]:
        """A module's name as it is written down, and whether it is the user's own."""
        name = name if isinstance(name, str) else "?"
        if scope is None:
            module = sys.modules.get(name)
            scope = {} if module is None else object.__getattribute__(module, "__dict__")
        file = scope.get("__file__")
        file = file if isinstance(file, str) else None
        if scope is self.home_scope or name in self.home or (file is not None and file == self.home_file):
            return ".", True
        return name, is_own(name, file)

    def _enqueue(self, module: str, qualname: str, value: Any, *, cells: bool) -> str:
        key = self.keys.get(id(value))
        if key is None:
            if len(self.keys) >= _MOST_PARTS:
                return f"beyond {module}:{qualname}"
            key = f"{module}:{qualname}"
            self.named[key] = self.named.get(key, 0) + 1
            if self.named[key] > 1:  # two lambdas, two functions that one factory made
                key = f"{key}#{self.named[key]}"
            self.keys[id(value)] = key
            self.held.append(value)
            self.queue.append((key, value, cells))
        return key

    # What a value is, said in another part's text

    def _reference(
        self, value: Any, *, capitals: bool = False, cells: bool = True, root: bool = False, depth: int = 0
    ) -> str:
        """The text that stands for `value`; the user's own functions and classes are put into the queue."""
        try:
            if _of_type(value, "__kitaru_boundary__") is True and not root:
                return f"step {object.__getattribute__(value, 'name')!r}"
            self.budget -= 1
            if depth > _DEEPEST or self.budget < 0:
                return f"more {type(value).__name__}"
            return self._plain(value, capitals, cells, depth) or self._code(value, cells, depth)
        except Exception:  # whatever it is, its type has a name
            return f"odd {type(value).__module__}.{type(value).__qualname__}"

    def _plain(self, value: Any, capitals: bool, cells: bool, depth: int) -> str | None:
        kind = type(value)
        if value is None or kind in {bool, int, float, complex, type(...)}:
            return _constant(value)
        if kind is str or kind is bytes:
            if kind is str and self.home_file is not None and (folder := os.path.dirname(self.home_file)):
                value = value.replace(folder, ".") if len(folder) > 1 else value  # the same code, elsewhere
            text = _constant(value)
            return text if len(text) < 256 else f"{kind.__name__}#{_hash(text)}"
        if _is(value, enum.Enum):
            member = self._reference(value._value_, capitals=True, depth=depth + 1)
            return f"{self._code(kind, cells, depth)}.{value._name_}={member}"
        if kind in {tuple, frozenset} or (capitals and kind in {list, set, dict}):
            pairs = list(value.items()) if kind is dict else [(item,) for item in value]
            if len(pairs) > self.budget:
                return f"{kind.__name__} of {len(pairs)}"
            items = [
                ":".join(self._reference(each, capitals=capitals, cells=cells, depth=depth + 1) for each in pair)
                for pair in pairs
            ]
            if kind in {set, frozenset}:
                items.sort()
            text = f"{kind.__name__}[{','.join(items)}]"
            return text if len(text) < 256 else f"{kind.__name__}#{_hash(text)}"
        return None

    def _code(self, value: Any, cells: bool, depth: int) -> str:
        if _is(value, _Function):
            module, own = self._module(value.__globals__.get("__name__"), value.__globals__)
            if own:
                return self._enqueue(module, value.__qualname__, value, cells=cells)
            inside = [_attribute(value, "__wrapped__"), *_contents(value).values()]
            found = [self._reference(each, cells=cells, depth=depth + 1) for each in inside if _has_code(each)]
            return f"function {module}:{value.__qualname__}[{','.join(found)}]"
        if _is(value, type):
            module, own = self._module(value.__module__)
            if own:
                return self._enqueue(module, value.__qualname__, value, cells=cells)
            return f"class {module}:{value.__qualname__}"
        if _is(value, types.ModuleType):
            scope = object.__getattribute__(value, "__dict__")
            return f"module {self._module(scope.get('__name__'), scope)[0]}"
        inside = []
        if _is(value, types.MethodType):
            inside = [value.__func__, value.__self__]
        elif _is(value, staticmethod | classmethod):
            inside = [value.__func__]
        elif _is(value, property):
            inside = [value.fget, value.fset, value.fdel]
        elif _is(value, functools.cached_property):
            inside = [value.func]
        elif _is(value, functools.partial):
            inside = [
                value.func,
                value.args,
                *(part for item in sorted(value.keywords.items()) for part in item),
            ]
        elif _is(value, types.BuiltinFunctionType):
            return f"builtin {value.__module__}:{value.__qualname__}"
        else:
            inside = [each for each in (_attribute(value, "__wrapped__"),) if each is not None]
        found = [self._reference(each, cells=cells, depth=depth + 1) for each in inside]
        return f"{self._code(type(value), cells, depth)}[{','.join(found)}]"

    # The parts

    def _function(self, function: _Function, *, cells: bool) -> str:
        facts = _facts(function.__code__)
        scope = function.__globals__
        text = [_text(function.__code__, scope)]
        text.extend(f"default {self._reference(value)}" for value in function.__defaults__ or ())
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            text.append(f"default {name}={self._reference(value)}")
        text.extend(f"{'.'.join(chain)} -> {self._global(scope, chain)}" for chain in sorted(facts.reads))
        contents = _contents(function)
        for chain in sorted(facts.frees):
            if chain[0] in contents and chain[0] != "__class__":
                value = contents[chain[0]]
                if _is(value, types.ModuleType):
                    text.append(f"{'.'.join(chain)} => {self._within(value, chain[1:])}")
                elif _has_code(value) or (cells and chain[0] not in facts.nonlocals):
                    text.append(f"{'.'.join(chain)} => {self._reference(value, cells=cells)}")
        owner: Any = contents.get("__class__")
        if _is(owner, type):  # of `super()`, which means the classes above
            text.extend(f"super -> {self._reference(base)}" for base in owner.__bases__)
        text.extend(self._methods(function, facts.of_self))
        if (wrapped := _attribute(function, "__wrapped__")) is not None:
            text.append(f"wraps {self._reference(wrapped, cells=cells)}")
        return "\n".join(text)

    def _methods(self, function: _Function, names: Iterable[str]) -> Iterator[str]:
        """What a method reads from its `self`, as the class it is written in would give it."""
        owner: Any = None
        scope: Any = function.__globals__
        for name in function.__qualname__.split(".")[:-1]:
            owner = scope.get(name)
            if not _is(owner, type):
                return
            scope = vars(owner)
        if owner is None:
            return
        for name in sorted(names):
            for base in owner.__mro__:
                if name in vars(base) and self._module(base.__module__)[1]:
                    yield f"self.{name} -> {self._member(base, name, vars(base)[name])}"
                    break

    def _class(self, cls: type) -> str:
        text = [f"base {self._reference(base)}" for base in cls.__bases__]
        annotations = vars(cls).get("__annotations__")
        if isinstance(annotations, dict):
            for name, kind in annotations.items():
                said = kind if isinstance(kind, str) else getattr(kind, "__qualname__", type(kind).__name__)
                text.append(f"{name}: {said}")
        for table in ("__dataclass_fields__", "__pydantic_fields__"):
            fields = vars(cls).get(table)
            for name, field in fields.items() if isinstance(fields, dict) else ():
                for what in ("default", "default_factory"):
                    value = object.__getattribute__(field, what)
                    text.append(f"{name} {what} = {self._reference(value, capitals=True)}")
        for name, value in vars(cls).items():
            dunder = name.startswith("__") and name.endswith("__")
            if (
                name.startswith("_abc_")
                or (_is(cls, enum.EnumMeta) and name.startswith("_") and not dunder)
                or (dunder and not _has_code(value))
                or _is(value, types.MemberDescriptorType)
            ):
                continue
            if dunder and (made := _made_by(value, cls)) is not None:
                text.extend([f"{name} by {made}"] if made else [])
            elif _is(value, enum.Enum):
                text.append(f"{name} = {self._plain(value._value_, True, True, 0)}")
            elif name not in {"__annotate__", "__annotate_func__", "_generate_next_value_"}:
                text.append(f"{name} -> {self._member(cls, name, value)}")
        return "\n".join(text)

    def _member(self, cls: type, name: str, value: Any) -> str:
        module = sys.modules.get(cls.__module__)
        scope = self.home_scope if cls.__module__ in self.home else getattr(module, "__dict__", {})
        if not _has_code(value) and name in self._rebound(scope).attributes:
            return "rebound"
        return self._reference(value, capitals=name.isupper())

    def _rebound(self, scope: dict[str, Any]) -> _Rebound:
        if id(scope) not in self.rebound:
            self.rebound[id(scope)] = _rebound(scope)
        return self.rebound[id(scope)]

    def _global(self, scope: dict[str, Any], chain: _Chain) -> str:
        """What a global name means, an attribute of the user's own module too; plain ones become parts."""
        name = chain[0]
        if name not in scope:
            return "builtin" if hasattr(builtins, name) else "unknown"
        value = scope[name]
        if _is(value, types.ModuleType):
            return self._within(value, chain[1:])
        if name.startswith("__") and name.endswith("__"):
            return "module"  # __name__, __file__: not the same everywhere
        if name in self._rebound(scope).names:
            return "rebound"
        if type(value) in {list, dict, set} and name in self._rebound(scope).changes and not _holds_code(value):
            return "changed as it runs"
        self.budget = _MOST_ITEMS
        text = self._reference(value, capitals=name.isupper())
        if _has_code(value):
            return text
        key = f"{self._module(scope.get('__name__'), scope)[0]}:{name}"
        self.parts[key] = text
        return f"value {key}"

    def _within(self, module: types.ModuleType, attributes: _Chain) -> str:
        scope = object.__getattribute__(module, "__dict__")
        name, own = self._module(scope.get("__name__"), scope)
        if own and attributes:
            return f"{name} {self._global(scope, attributes)}"
        if attributes and _is(inner := scope.get(attributes[0]), types.ModuleType) and inner is not module:
            return self._within(inner, attributes[1:])  # a namespace package may hold the user's own
        return f"module {name}"


def _made_by(value: Any, cls: type) -> str | None:
    """None for a method that was written in `cls`: what makes classes adds others to them in each version."""
    inner = _innermost(value)
    if not _is(inner, _Function) or inner.__globals__.get("__name__") != cls.__module__:
        return "" if _is(inner, _Function) else None
    generated = "__dataclass_fields__" in vars(cls) and inner.__code__.co_filename == "<string>"
    return "dataclass" if generated else None


def _contents(function: _Function) -> dict[str, Any]:
    """What the free variables of a function hold; an empty cell is left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _has_code(value: Any) -> bool:
    """Whether a value is code rather than data."""
    kinds = (
        type,
        types.MethodType,
        staticmethod,
        classmethod,
        property,
        functools.partial,
        functools.cached_property,
    )
    return (
        _is(value, (_Function, *kinds))
        or _of_type(value, "__kitaru_boundary__") is True
        or _is(_attribute(value, "__wrapped__"), _Function)
    )


def _holds_code(container: Any) -> bool:
    """Whether a container is a registry: of functions or classes, which are code wherever they were put."""
    # In one call, since another thread may be adding to it.
    items = list(itertools.islice(container.values() if type(container) is dict else container, _MOST_ITEMS))
    return not set(map(type, items)) <= _DATA and any(_has_code(item) for item in items)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
