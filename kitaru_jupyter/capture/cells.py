"""What a cell's own level does with names: a walk that follows what is certainly bound at each point.

A name that may be read before the cell binds it is one that the cell reads. Scopes inside of the cell (functions,
lambdas, comprehensions) are compiled, and their bytecode says which globals they use; a class's body runs at once, in a
scope of its own. A function counts when its name is read: whoever reads it may call it.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .commands import CALLS, Command, command
from .names import Names, names_of_code
from .wild import TEXTS, WILD_NAMES, is_wild, names_in_text

__all__ = ["compile_cell", "names_of", "names_of_command"]

_EMPTY: frozenset[str] = frozenset()
_HERE = frozenset({"dir", "locals", "vars"})  # at a cell's own level, without an argument, these are `globals()`
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

# Context managers that never swallow an error: what their bodies bind is bound behind them.
_CLEAR = frozenset({
    "AsyncClient", "Client", "ClientSession", "NamedTemporaryFile", "Pool", "ProcessPoolExecutor", "Session",
    "SpooledTemporaryFile", "TaskGroup", "TemporaryDirectory", "TemporaryFile", "ThreadPoolExecutor", "ZipFile",
    "aclosing", "catch_warnings", "chdir", "closing", "connect", "errstate", "inference_mode", "localcontext",
    "no_grad", "nullcontext", "open", "option_context", "printoptions", "redirect_stderr", "redirect_stdout",
    "timeout", "tqdm", "urlopen",
})  # fmt: skip

_PASSIVE = frozenset({
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "checkpoint", "classmethod", "contextmanager",
    "dataclass", "deleter", "flow", "getter", "lru_cache", "overload", "property", "setter", "staticmethod",
    "total_ordering", "wraps",
})  # fmt: skip


def names_of(tree: ast.Module) -> Names:
    r"""What a cell's code, as IPython has transformed it, does with names.

    Examples
    --------
    >>> names_of(ast.parse("total = sum(prices)\nfor p in prices: total += tax(p)"))
    Names(reads=('sum', 'prices', 'tax'), binds=('total', 'p'))
    """
    walk = _Walk()
    try:
        walk.block(tree.body)
    except RecursionError:  # a sum of a thousand terms; the compiler has more room
        return replace(names_of_code(compile_cell(tree)), wild=True)
    return walk.names()


def names_of_command(call: str, texts: Iterable[str]) -> Names:
    """What ``get_ipython().CALL(*texts)`` does with names, where it stands in a function."""
    walk = _Walk()
    walk.command(command(call, texts))
    return walk.names()


def compile_cell(tree: ast.Module, filename: str = "<cell>") -> types.CodeType:
    """Compile a whole cell, as a trial. Raises the `SyntaxError` of what parses and cannot run."""
    code: types.CodeType = compile(tree, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def _compiled(node: ast.expr) -> types.CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: types.CodeType = compile(ast.Expression(node), "<cell>", "eval", flags=flags, dont_inherit=True)
    return code


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _deleted(body: Iterable[ast.AST]) -> set[str]:
    """The names that may be gone when this is left halfway."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.Delete):
            found.update(n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "handlers", "orelse", "finalbody", "cases"):
                if inner := getattr(node, part, None):
                    found |= _deleted(inner)
    return found


@dataclass(slots=True)
class _Walk:
    """What was met so far. `bound` is what is certain at this point; `later`, what a call of a name would do.

    A name of a class's own scope stands in `bound` and `later` behind `prefix`, a dot for each class around it.
    """

    reads: dict[str, None] = field(default_factory=dict)
    binds: dict[str, None] = field(default_factory=dict)
    deletes: dict[str, None] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)  # bound otherwise than by an import
    imported: set[str] = field(default_factory=set)
    defined: dict[str, None] = field(default_factory=dict)
    uses: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    wild: bool = False
    settled: dict[str, frozenset[str]] = field(default_factory=dict)
    later: dict[str, Names] = field(default_factory=dict)
    bound: frozenset[str] = _EMPTY
    done: dict[str, frozenset[str]] = field(default_factory=dict)  # what was certain when a name's `later` was followed
    prefix: str = ""
    outer: set[str] = field(default_factory=set)  # declared global in a class's body

    def names(self) -> Names:
        wild = self.wild or any(is_wild(a, self.uses, self.strings) for a in self.attributes)
        return Names(
            reads=tuple(self.reads),
            binds=tuple(self.binds),
            deletes=tuple(self.deletes),
            imports=tuple(n for n in self.binds if n in self.imported and n not in self.assigned),
            defines=tuple(self.defined),
            uses=frozenset(self.uses),
            attributes=frozenset(self.attributes),
            strings=frozenset(self.strings),
            wild=wild,
            settled=self.settled,
            later=self.later,
        )

    # Names. `load` is of a global; `read` looks in a class's scope first.

    def read(self, name: str) -> None:
        key = self.prefix + name
        if self.prefix and key in self.bound:
            self.call(key)
        else:
            self.load(name)

    def load(self, name: str) -> None:
        self.uses.add(name)
        if name not in self.bound:
            self.reads[name] = None
            if name in WILD_NAMES:
                self.wild = True
        before = self.settled.get(name)
        if before is not self.bound:
            self.settled[name] = self.bound if before is None else before & self.bound
        self.call(name)

    def call(self, key: str) -> None:
        """A function of this cell is called, or handed on; at the latest now, with what is bound now."""
        names = self.later.get(key)
        if names is None or ((last := self.done.get(key)) is not None and last <= self.bound):
            return
        self.done[key] = self.bound if last is None else last & self.bound
        self.do(names)

    def do(self, names: Names) -> None:
        for name in names.reads:
            self.load(name)
        self.binds |= dict.fromkeys(names.binds)
        self.assigned.update(names.binds)
        self.deletes |= dict.fromkeys(names.deletes)
        self.bound -= set(names.deletes)
        self.attributes |= names.attributes
        self.strings |= names.strings
        self.wild = self.wild or names.wild
        for call, texts in names.commands:
            self.do(names_of_command(call, texts))

    def bind(self, name: str, *, imported: bool = False) -> None:
        if self.prefix and name not in self.outer:
            self.bound |= {self.prefix + name}
            return
        self.binds[name] = None
        (self.imported if imported else self.assigned).add(name)
        if name not in self.bound:
            self.bound |= {name}

    def unbind(self, name: str) -> None:
        if self.prefix and name not in self.outer:
            self.bound -= {self.prefix + name}
            return
        self.deletes[name] = None
        self.bound -= {name}

    def lose(self, names: set[str]) -> None:
        self.bound -= names | {self.prefix + name for name in names}

    # Statements. Each says whether the code behind it is out of reach.

    def block(self, body: Iterable[ast.stmt]) -> bool:
        return any(self.statement(node) for node in body)

    def statement(self, node: ast.stmt) -> bool:
        special: Callable[[Any], bool | None] | None = getattr(self, f"on_{type(node).__name__}", None)
        if special is not None:
            return bool(special(node))
        self.children(node)
        return isinstance(node, ast.Raise | ast.Return | ast.Break | ast.Continue)

    def on_Assign(self, node: ast.Assign) -> None:  # noqa: N802 - named after the node
        self.expression(node.value)
        for target in node.targets:
            self.expression(target)

    def on_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.expression(node.value)
        self.expression(node.target)

    def on_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        self.expression(node.annotation)
        if node.value is not None:
            self.expression(node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.expression(node.target)

    def on_Assert(self, node: ast.Assert) -> None:  # noqa: N802
        self.expression(node.test)
        if node.msg is not None:
            self.perhaps(node.msg)

    def on_Global(self, node: ast.Global) -> None:  # noqa: N802
        self.outer.update(node.names)

    def on_For(self, node: ast.For | ast.AsyncFor) -> None:  # noqa: N802
        self.expression(node.iter)
        before = self.bound
        self.lose(_deleted([*node.body, *node.orelse]))
        self.expression(node.target)
        self.block(node.body)
        self.bound = before  # there may be nothing to go through
        self.lose(_deleted(node.body))
        self.block(node.orelse)
        self.bound = before
        self.lose(_deleted([*node.body, *node.orelse]))

    on_AsyncFor = on_For  # noqa: N815

    def on_While(self, node: ast.While) -> None:  # noqa: N802
        self.lose(_deleted(node.body))
        self.expression(node.test)
        before = self.bound
        self.block(node.body)
        self.bound = before
        self.block(node.orelse)
        self.bound = before
        self.lose(_deleted(node.orelse))

    def on_If(self, node: ast.If) -> bool:  # noqa: N802
        self.expression(node.test)
        return self.either([node.body, node.orelse])

    def on_With(self, node: ast.With | ast.AsyncWith) -> bool:  # noqa: N802
        before = None
        for item in node.items:
            self.expression(item.context_expr)
            first = before is None and not _is_clear(item.context_expr)
            if first:
                before = self.bound
            if item.optional_vars is not None:
                self.expression(item.optional_vars)
                if first and isinstance(item.optional_vars, ast.Name):
                    before = self.bound  # nothing that it could swallow has happened yet
        ends = self.block(node.body)
        if before is not None:  # it may swallow an error, and then the body has ended anywhere
            self.bound = before
            self.lose(_deleted(node.body))
        return ends and before is None

    on_AsyncWith = on_With  # noqa: N815

    def on_Try(self, node: ast.Try) -> bool:  # noqa: N802
        before = self.bound
        ends = []
        if not (self.block(node.body) or self.block(node.orelse)):
            ends.append(self.bound)
        for handler in node.handlers:
            self.bound = before
            self.lose(_deleted(node.body))
            if isinstance(node, getattr(ast, "TryStar", ())):  # another handler may have run before
                self.lose(_deleted(node.handlers))
            if handler.type is not None:
                self.expression(handler.type)
            if handler.name is not None:
                self.bind(handler.name)
            stops = self.block(handler.body)
            if handler.name is not None:
                self.unbind(handler.name)
            if not stops:
                ends.append(self.bound)
        after = frozenset.intersection(*ends) if ends else before
        if not node.finalbody:
            self.bound = after
            return not ends
        self.bound = before
        self.lose(_deleted([*node.body, *node.handlers, *node.orelse]))
        stops = self.block(node.finalbody)
        last, self.bound = self.bound, after
        self.lose(_deleted(node.finalbody))
        self.bound |= last
        return stops or not ends

    on_TryStar = on_Try  # noqa: N815

    def on_Match(self, node: ast.Match) -> bool:  # noqa: N802
        self.expression(node.subject)
        before, ends, whole = self.bound, [], False
        for case in node.cases:
            self.bound = before
            self.pattern(case.pattern)
            if case.guard is not None:
                self.expression(case.guard)
            if not self.block(case.body):
                ends.append(self.bound)
            whole = whole or (case.guard is None and isinstance(case.pattern, ast.MatchAs) and not case.pattern.pattern)
        if not whole:
            ends.append(before)
        self.bound = frozenset.intersection(*ends) if ends else before
        return not ends

    def pattern(self, pattern: ast.pattern) -> None:
        for part in ast.walk(pattern):
            if isinstance(part, ast.MatchValue):
                self.expression(part.value)
            elif isinstance(part, ast.MatchClass):
                self.expression(part.cls)
            elif isinstance(part, ast.MatchMapping):
                for key in part.keys:
                    self.expression(key)
        for part in ast.walk(pattern):
            for name in (getattr(part, "name", None), getattr(part, "rest", None)):
                if isinstance(name, str):
                    self.bind(name)

    def on_Import(self, node: ast.Import) -> None:  # noqa: N802
        for alias in node.names:
            self.wild = self.wild or alias.name == "__main__"
            self.bind(alias.asname or alias.name.partition(".")[0], imported=True)

    def on_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        self.wild = self.wild or node.module == "__main__"
        for alias in node.names:
            if alias.name == "*":
                self.wild = True
            else:
                self.bind(alias.asname or alias.name, imported=True)

    def on_TypeAlias(self, node: Any) -> None:  # noqa: N802 - from Python 3.12
        with self.parameters(node):
            self.expression(node.value)
        self.bind(node.name.id)

    @contextmanager
    def parameters(self, node: Any) -> Iterator[None]:
        """Within, the type parameters of `node` hide what has their names."""
        names = {p.name for p in getattr(node, "type_params", ())}
        added = names - self.bound
        self.bound |= names | ({self.prefix + n for n in names} if self.prefix else set())
        yield
        self.bound -= added | ({self.prefix + n for n in names} if self.prefix else set())

    def on_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:  # noqa: N802
        for decorator in node.decorator_list:
            self.expression(decorator)
        self.defaults(node.args)
        given = node.args
        with self.parameters(node):
            for one in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg):
                if one is not None and one.annotation is not None:
                    self.expression(one.annotation)
            if node.returns is not None:
                self.expression(node.returns)
        bare = copy.copy(node)
        bare.decorator_list, bare.args, bare.returns = [], _bare(given), None
        code = compile_cell(ast.Module([bare], []))
        self.define(
            node.name,
            [names_of_code(inner) for inner in _inner(code)],
            at_once=not all(map(_is_passive, node.decorator_list)),
        )

    on_AsyncFunctionDef = on_FunctionDef  # noqa: N815

    def defaults(self, given: ast.arguments) -> None:
        for default in (*given.defaults, *given.kw_defaults):
            if default is not None:
                self.expression(default)

    def on_ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        for decorator in node.decorator_list:
            self.expression(decorator)
        with self.parameters(node):
            for given in (*node.bases, *node.keywords):
                self.expression(given)
            outer, self.outer = self.outer, set()
            prefix, self.prefix = self.prefix, self.prefix + "."
            self.block(node.body)
            within, self.prefix, self.outer = self.prefix, prefix, outer
        self.bound = frozenset(n for n in self.bound if not n.startswith(within))
        methods = [self.later.pop(key) for key in [*self.later] if key.startswith(within)]
        self.done = {key: bound for key, bound in self.done.items() if not key.startswith(within)}
        self.define(node.name, methods, at_once=not all(map(_is_passive, node.decorator_list)))

    def define(self, name: str, parts: list[Names], *, at_once: bool) -> None:
        """`name` is bound to code, which reads and binds when it is called."""
        key = self.prefix + name if self.prefix and name not in self.outer else name
        names = _together([*parts, *([self.later[key]] if key in self.later else [])])
        self.bind(name)
        if not self.prefix:
            self.defined[name] = None
        self.later[key] = names
        self.done.pop(key, None)
        if at_once:
            self.call(key)

    def on_Delete(self, node: ast.Delete) -> None:  # noqa: N802
        for target in node.targets:
            self.expression(target)

    def either(self, branches: list[list[ast.stmt]]) -> bool:
        """One of these runs: certain is what each binds that is not left halfway."""
        before, ends = self.bound, []
        for branch in branches:
            self.bound = before
            if not self.block(branch):
                ends.append(self.bound)
        self.bound = frozenset.intersection(*ends) if ends else before
        return not ends

    # Expressions, in the order in which they run.

    def expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            self.name(node)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.strings.add(node.value)
        elif isinstance(node, ast.Attribute):
            self.attributes.add(node.attr)
            if node.attr in TEXTS and isinstance(node.ctx, ast.Load):  # not called here: whoever does may say anything
                self.wild = True
            self.expression(node.value)
        elif isinstance(node, ast.Call):
            self.on_call(node)
        elif isinstance(node, ast.NamedExpr):
            self.expression(node.value)
            self.bind(node.target.id)
        elif isinstance(node, ast.BoolOp):
            self.expression(node.values[0])
            self.perhaps(*node.values[1:])
        elif isinstance(node, ast.Compare):
            self.expression(node.left)
            self.expression(node.comparators[0])
            self.perhaps(*node.comparators[1:])
        elif isinstance(node, ast.IfExp):
            self.expression(node.test)
            self.perhaps(node.body)
            self.perhaps(node.orelse)
        elif isinstance(node, ast.Lambda):
            self.defaults(node.args)
            bare = copy.copy(node)
            bare.args = _bare(node.args)
            self.do(_together([names_of_code(inner) for inner in _inner(_compiled(bare))]))
        elif isinstance(node, _Comprehension):
            self.comprehension(node)
        else:
            self.children(node)

    def children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.expression(child)

    def perhaps(self, *nodes: ast.expr) -> None:
        """These run in order, and may end before any of them."""
        before = self.bound
        for node in nodes:
            self.expression(node)
        self.bound = before & self.bound

    def name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            if node.id in _HERE and not self.prefix and node.id not in self.bound:
                self.wild = True
            self.read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        else:
            self.unbind(node.id)

    def comprehension(self, node: _Comprehension) -> None:
        """The first iterable belongs to the scope around; the rest is a function that runs at once."""
        first, *others = node.generators
        self.expression(first.iter)
        bare = copy.copy(node)
        nothing: ast.expr = ast.copy_location(ast.Constant(None), first.iter)
        bare.generators = [ast.comprehension(first.target, nothing, first.ifs, first.is_async), *others]
        self.do(names_of_code(_compiled(bare)))
        # From Python 3.12 it has no frame of its own: its `locals()` are those around it.
        self.wild = self.wild or any(_is_here(inner) for inner in ast.walk(bare))

    def on_call(self, node: ast.Call) -> None:
        function = node.func
        found = _command(node)
        if found is not None:
            self.command(found)
            return
        if isinstance(function, ast.Name) and function.id in _HERE and (node.args or node.keywords):
            self.load(function.id)
        elif isinstance(function, ast.Attribute) and function.attr in TEXTS:
            self.attributes.add(function.attr)
            self.expression(function.value)
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg in {"expr", None})][:1]
            for text in given:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    for name in names_in_text(function.attr, text.value):
                        self.read(name)
                else:
                    self.wild = True
        else:
            self.expression(function)
        for argument in (*node.args, *node.keywords):
            self.expression(argument)

    def command(self, found: Command) -> None:
        """A magic or a shell command inside of the cell: the Python in it counts."""
        self.wild = self.wild or found.wild
        for text in found.expressions:
            tree = _parsed(text)
            if tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
                self.statement(tree.body[0])
        before = self.bound
        for text in found.code:
            tree = _parsed(text)
            if tree is None:  # no Python after all: the magic itself will say
                continue
            if found.sealed:
                inner = names_of(tree)
                self.do(Names(reads=inner.reads, attributes=inner.attributes, strings=inner.strings, wild=inner.wild))
            else:
                self.block(tree.body)
        if found.quiet:
            self.bound &= before
        for name in found.binds:
            self.bind(name)
        for name in found.deletes:
            self.unbind(name)


def _together(parts: list[Names]) -> Names:
    """What any of these does."""
    if len(parts) == 1:
        return parts[0]
    return Names(
        reads=tuple(dict.fromkeys(n for p in parts for n in p.reads)),
        binds=tuple(dict.fromkeys(n for p in parts for n in p.binds)),
        deletes=tuple(dict.fromkeys(n for p in parts for n in p.deletes)),
        uses=_EMPTY.union(*(p.uses for p in parts)),
        attributes=_EMPTY.union(*(p.attributes for p in parts)),
        strings=_EMPTY.union(*(p.strings for p in parts)),
        wild=any(p.wild for p in parts),
        commands=tuple(c for p in parts for c in p.commands),
    )


def _bare(given: ast.arguments) -> ast.arguments:
    """The same parameters without defaults and annotations, which run where the function is made."""
    nothing = ast.Constant(None, lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)

    def plain(one: ast.arg | None) -> Any:
        return one and ast.copy_location(ast.arg(one.arg), one)

    return ast.arguments(
        posonlyargs=[plain(a) for a in given.posonlyargs],
        args=[plain(a) for a in given.args],
        vararg=plain(given.vararg),
        kwonlyargs=[plain(a) for a in given.kwonlyargs],
        kw_defaults=[d and nothing for d in given.kw_defaults],
        kwarg=plain(given.kwarg),
        defaults=[nothing for _ in given.defaults],
    )


def _is_here(node: ast.AST) -> bool:
    """Whether it is `locals()`, or another call that gives what is around it."""
    return isinstance(node, ast.Call) and not node.args and isinstance(node.func, ast.Name) and node.func.id in _HERE


def _is_passive(decorator: ast.expr) -> bool:
    """Whether it only wraps a function or a class, without a call of what is in there."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)) in _PASSIVE


def _is_clear(manager: ast.expr) -> bool:
    function = manager.func if isinstance(manager, ast.Call) else None
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return name in _CLEAR


def _parsed(code: str) -> ast.Module | None:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return ast.parse(TransformerManager().transform_cell(code))
    except (SyntaxError, ValueError):  # a null byte is a ValueError
        return None


def _command(node: ast.Call) -> Command | None:
    """What ``get_ipython().run_line_magic(…)`` and its like does; None for any other call."""
    call = node.func
    if not (
        isinstance(call, ast.Attribute)
        and isinstance(call.value, ast.Call)
        and isinstance(call.value.func, ast.Name)
        and call.value.func.id == "get_ipython"
        and call.attr in CALLS
    ):
        return None
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if node.keywords or len(texts) < len(node.args):
        return Command(wild=True)
    return command(call.attr, texts)
