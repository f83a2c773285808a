"""What a cell reads and binds: found from its code before it runs, and held against the namespace.

The walk over a cell follows what is certainly bound at each point: a name that may be read before the cell binds it
is an input. Scopes inside the cell (functions, classes, comprehensions) are compiled, and their bytecode says which
globals they load. What lives in the namespace comes in only to follow the notebook's own functions into the globals
that they read.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Names", "bound_values", "compile_cell", "follow", "names_of", "read_values"]

_CODE_MAGICS = {"capture", "prun", "time", "timeit"}  # what follows them is Python, and runs in the namespace
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_STORES = {"STORE_GLOBAL", "DELETE_GLOBAL"}
_EXPANDED = re.compile(r"\{([^{}]+)\}|\$([A-Za-z_]\w*)")
_OPTIONS = re.compile(r"(?:\s*-\w+(?:\s+\d+)?)*\s*")
_CLASS_NAMES = {"__module__", "__name__", "__qualname__"}


@dataclass(frozen=True, slots=True)
class Names:
    """What a piece of code does with global names, each in the order of its first appearance.

    Attributes
    ----------
    reads : tuple of str
        Those that it may read before it binds them.
    binds : tuple of str
        Those that it may bind by an assignment of any form; not by `import`, `def` or `class`.
    """

    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()


def names_of(tree: ast.Module) -> Names:
    r"""What a cell's code, as IPython has transformed it, reads and binds.

    >>> names_of(ast.parse("total = sum(prices)\nfor p in prices: total += tax(p)"))
    Names(reads=('sum', 'prices', 'tax'), binds=('total', 'p'))
    """
    walk = _Walk()
    walk.block(tree.body)
    return Names(tuple(walk.reads), tuple(walk.binds))


def compile_cell(tree: ast.Module, filename: str = "<cell>") -> types.CodeType:
    """Compile a whole cell, as a trial. Raises the `SyntaxError` of what parses and cannot run."""
    code: types.CodeType = compile(tree, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


# ---------------------------------------------------------------- against the namespace


def follow(names: Names, namespace: Mapping[str, Any]) -> Names:
    """`names`, and what the notebook's own functions, classes and steps among them read and bind."""
    reads, binds = dict.fromkeys(names.reads), dict.fromkeys(names.binds)
    todo = list(reads)
    while todo:
        name = todo.pop(0)
        for code in _own_code(namespace.get(name), namespace):
            inner = _code_names(code)
            binds |= dict.fromkeys(inner.binds)
            todo += [n for n in inner.reads if n not in reads]
            reads |= dict.fromkeys(inner.reads)
    return Names(tuple(reads), tuple(binds))


def read_values(names: Names, namespace: Mapping[str, Any], hidden: Collection[str] = ()) -> dict[str, Any]:
    """The inputs: what of `names.reads` is data and stands in the namespace. `hidden` are IPython's own names."""
    return _data(names.reads, namespace, hidden)


def bound_values(names: Names, namespace: Mapping[str, Any], hidden: Collection[str] = ()) -> dict[str, Any]:
    """The outputs: what of `names.binds` is data and stands in the namespace after the cell has run."""
    return _data(names.binds, namespace, hidden)


def _data(names: Iterable[str], namespace: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    return {n: namespace[n] for n in names if n in namespace and n not in hidden and not _is_code(namespace[n])}


def _is_code(value: Any) -> bool:
    """Modules, functions, classes, steps and flows: what a notebook holds beside its data."""
    code = types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type
    return isinstance(value, code) or _is_step(value)


def _is_step(value: Any) -> bool:
    return type(value).__module__ in {"kitaru.steps", "kitaru.flows"} and callable(value)


def _own_code(value: Any, namespace: Mapping[str, Any]) -> Iterator[types.CodeType]:
    """The code of a function, class, step or method that was defined in this notebook."""
    if _is_step(value):
        value = value.function
    if isinstance(value, functools.partial):
        value = value.func
    value = getattr(value, "__func__", value) if isinstance(value, types.MethodType) else value
    if isinstance(value, types.FunctionType):
        inner = inspect.unwrap(value)
        if inner.__globals__ is namespace:
            yield inner.__code__
    elif isinstance(value, type) and value.__module__ == namespace.get("__name__"):
        for part in vars(value).values():
            function = getattr(part, "__func__", getattr(part, "fget", part))
            if isinstance(function, types.FunctionType):
                yield function.__code__


# ---------------------------------------------------------------- bytecode: scopes inside the cell


def _code_names(code: types.CodeType) -> Names:
    """The globals that a code object, and all code inside of it, loads and stores."""
    reads: dict[str, None] = {}
    binds: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS:
            reads[instruction.argval] = None
        elif instruction.opname in _STORES:
            binds[instruction.argval] = None
    for inner in _inner(code):
        names = _code_names(inner)
        reads |= dict.fromkeys(names.reads)
        binds |= dict.fromkeys(names.binds)
    return Names(tuple(reads), tuple(binds))


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _top_names(code: types.CodeType, *, loads: bool) -> list[str]:
    """The names that a module's or a class's own level loads, or else stores."""
    wanted = _LOADS if loads else {"STORE_NAME"}
    return [i.argval for i in dis.get_instructions(code) if i.opname in wanted]


def _compiled(statement: ast.stmt) -> types.CodeType:
    return compile_cell(ast.Module([statement], []))


# ---------------------------------------------------------------- the walk over the cell's own level


@dataclass(slots=True)
class _Walk:
    """What was read and bound so far; `bound` is what is certain at this point, `later` what a call would do."""

    reads: dict[str, None] = field(default_factory=dict)
    binds: dict[str, None] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    later: dict[str, Names] = field(default_factory=dict)

    def read(self, name: str) -> None:
        if name not in self.bound:
            self.reads[name] = None
        names = self.later.pop(name, None)  # a function of this cell is called, or handed on
        if names is not None:
            self.do(names)

    def bind(self, name: str) -> None:
        self.binds[name] = None
        self.bound.add(name)
        self.later.pop(name, None)

    def do(self, names: Names) -> None:
        for name in names.reads:
            self.read(name)
        self.binds |= dict.fromkeys(names.binds)

    # Statements. Each says whether the code behind it is out of reach.

    def block(self, body: Iterable[ast.stmt]) -> bool:
        return any(self.statement(node) for node in body)

    def statement(self, node: ast.stmt) -> bool:
        special: Callable[[Any], bool | None] | None = getattr(self, f"on_{type(node).__name__}", None)
        if special is not None:
            return bool(special(node))
        self.expressions(node)
        return isinstance(node, ast.Raise | ast.Return | ast.Break | ast.Continue)

    def on_Assign(self, node: ast.Assign) -> None:  # noqa: N802 - named after the node
        self.expressions(node.value)
        for target in node.targets:
            self.expressions(target)

    def on_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.expressions(node.value)
        self.expressions(node.target)

    def on_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        self.expressions(node.annotation)
        if node.value is not None:
            self.expressions(node.value)
            self.expressions(node.target)

    def on_For(self, node: ast.For | ast.AsyncFor) -> None:  # noqa: N802
        self.expressions(node.iter)
        before = set(self.bound)
        self.expressions(node.target)
        self.block(node.body)
        self.bound = before  # there may be nothing to go through
        self.block(node.orelse)

    on_AsyncFor = on_For  # noqa: N815

    def on_While(self, node: ast.While) -> None:  # noqa: N802
        self.expressions(node.test)
        before = set(self.bound)
        self.block(node.body)
        self.bound = before
        self.block(node.orelse)

    def on_If(self, node: ast.If) -> bool:  # noqa: N802
        self.expressions(node.test)
        return self.either([node.body, node.orelse])

    def on_With(self, node: ast.With | ast.AsyncWith) -> bool:  # noqa: N802
        for item in node.items:
            self.expressions(item.context_expr)
            if item.optional_vars is not None:
                self.expressions(item.optional_vars)
        return self.block(node.body)

    on_AsyncWith = on_With  # noqa: N815

    def on_Try(self, node: ast.Try) -> bool:  # noqa: N802
        before = set(self.bound)
        ends = []
        if not (self.block(node.body) or self.block(node.orelse)):
            ends.append(self.bound)
        for handler in node.handlers:
            self.bound = set(before)
            if handler.type is not None:
                self.expressions(handler.type)
            if handler.name is not None:
                self.bound.add(handler.name)  # gone again at the handler's end
            if not self.block(handler.body):
                ends.append(self.bound - ({handler.name} - before))
        after = set.intersection(*ends) if ends else set(before)
        self.bound = set(before)
        stops = self.block(node.finalbody)
        self.bound |= after
        return stops or not ends

    on_TryStar = on_Try  # noqa: N815

    def on_Match(self, node: ast.Match) -> None:  # noqa: N802
        self.expressions(node.subject)
        before = set(self.bound)
        for case in node.cases:
            self.bound = set(before)
            for part in ast.walk(case.pattern):
                for name in (getattr(part, "name", None), getattr(part, "rest", None)):
                    if isinstance(name, str):
                        self.bind(name)
                if isinstance(part, ast.MatchValue):
                    self.expressions(part.value)
                elif isinstance(part, ast.MatchClass):
                    self.expressions(part.cls)
            if case.guard is not None:
                self.expressions(case.guard)
            self.block(case.body)
        self.bound = before

    def on_Import(self, node: ast.Import | ast.ImportFrom) -> None:  # noqa: N802
        self.bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}

    on_ImportFrom = on_Import  # noqa: N815

    def on_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:  # noqa: N802
        code = _compiled(node)
        for name in _top_names(code, loads=True):  # decorators, defaults, annotations
            self.read(name)
        self.define(node.name, [_code_names(inner) for inner in _inner(code)], at_once=bool(node.decorator_list))

    on_AsyncFunctionDef = on_FunctionDef  # noqa: N815

    def on_ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        code = _compiled(node)
        for name in _top_names(code, loads=True):
            self.read(name)
        methods = []
        for body in _inner(code):
            own = {*_top_names(body, loads=False), *_CLASS_NAMES}
            for name in _top_names(body, loads=True):  # a class's body runs at once
                if name not in own:
                    self.read(name)
            methods += [_code_names(inner) for inner in _inner(body)]
        self.define(node.name, methods, at_once=bool(node.decorator_list))

    def define(self, name: str, parts: list[Names], *, at_once: bool) -> None:
        """`name` is bound to code, which reads and binds when it is called."""
        names = Names(tuple(n for p in parts for n in p.reads), tuple(n for p in parts for n in p.binds))
        self.bound.add(name)
        if at_once:
            self.do(names)
        else:
            self.later[name] = names

    def on_Delete(self, node: ast.Delete) -> None:  # noqa: N802
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.bound.discard(target.id)
            else:
                self.expressions(target)

    def either(self, branches: list[list[ast.stmt]]) -> bool:
        """One of these runs: certain is what each binds that is not left halfway."""
        before, ends = self.bound, []
        for branch in branches:
            self.bound = set(before)
            if not self.block(branch):
                ends.append(self.bound)
        self.bound = set.intersection(*ends) if ends else before
        return not ends

    # Expressions, in the order in which they stand.

    def expressions(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                self.read(node.id)
            else:
                self.bind(node.id)
        elif isinstance(node, ast.NamedExpr):
            self.expressions(node.value)
            self.bind(node.target.id)
        elif isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            self.do(_code_names(_compiled(ast.copy_location(ast.Expr(node), node))))
        elif isinstance(node, ast.Call) and (magic := _magic(node)) is not None:
            self.magic(*magic)
        else:
            for child in ast.iter_child_nodes(node):
                self.expressions(child)

    def magic(self, name: str, texts: list[str]) -> None:
        """A magic or a shell command inside of the cell: the Python in it counts."""
        if name in _CODE_MAGICS:
            line, *body = texts
            for text in (_OPTIONS.sub("", line, count=1), *body):
                self.text(text)
        else:
            for found in _EXPANDED.finditer("\n".join(texts)):
                self.text(found[1] or found[2])

    def text(self, code: str) -> None:
        from IPython.core.inputtransformer2 import TransformerManager

        try:
            tree = ast.parse(TransformerManager().transform_cell(code))
        except SyntaxError:  # no Python after all: the magic itself will say
            return
        self.block(tree.body)


def _magic(node: ast.Call) -> tuple[str, list[str]] | None:
    """The name and the texts of ``get_ipython().run_line_magic(…)`` and its like; None for any other call."""
    call = node.func
    if not (
        isinstance(call, ast.Attribute)
        and isinstance(call.value, ast.Call)
        and isinstance(call.value.func, ast.Name)
        and call.value.func.id == "get_ipython"
    ):
        return None
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if call.attr in {"run_line_magic", "run_cell_magic"} and len(texts) > 1:
        return texts[0], texts[1:]
    return (call.attr, texts) if call.attr in {"system", "getoutput"} else None
