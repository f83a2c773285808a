"""The text that a function or class of a cell was defined by, and its place in there.

IPython keeps the text of every cell where tracebacks look for it, and so do most who compile text of their own. A
function's code says which text it is from and at which line. The text is believed only if compiling it gives that very
code again: a file may have changed since, and another cell may have had the same name.
"""

from __future__ import annotations
import __future__

import abc
import ast
import dis
import functools
import inspect
import linecache
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Source", "source_of"]

_FUTURE = functools.reduce(
    int.__or__,
    # the flag of the oldest one stands for something else in a code object
    (getattr(__future__, n).compiler_flag for n in __future__.all_feature_names if n != "nested_scopes"),
)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Source:
    """Where a function, lambda or class was defined.

    Attributes
    ----------
    text : str
        A whole statement at the left margin, with its decorators: the outermost `def` or `class`, or the statement that
        a lambda stands in. For a lambda without free variables, the lambda alone in parentheses, an expression.
    bare : str
        The same without the decorators of the statement: for who puts the object itself back, not what was made of it.
    name : str
        What running `text` binds the object to, or what the decorators made of it. Empty for all that lies deeper, and
        for lambdas: these are made from `code()`.
    path : tuple of str
        The way from the statement to the object: names of code objects, with ``#N`` for the Nth of one name. A
        nested function's goes through the function that made it.
    free : tuple of str
        The variables of functions around it that it needs, as cells, in the order of its closure.
    flags : int
        The `__future__` statements that held for it.
    """

    text: str
    bare: str
    name: str
    path: tuple[str, ...]
    free: tuple[str, ...]
    flags: int = 0

    def code(self, filename: str = "<source>") -> types.CodeType:
        """The code of the function, or of the class's body, compiled anew. Nothing of the statement is run.

        With it, `types.FunctionType` makes a function without asking again for its decorators and defaults.

        Raises
        ------
        LookupError
            This Python compiles the text to other parts.
        """
        flags = self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: types.CodeType = compile(self.text, filename, "exec", flags=flags, dont_inherit=True)
        for step in self.path:
            code = dict(_parts(code))[step]
        return code


def source_of(value: Any) -> Source | None:
    r"""The source of a function, method or class, or None: its text is not known, or is not what it was made from.

    A wrapper of a library is not looked through: ask for what it wraps (`functools.lru_cache`, `functools.wraps`).

    Examples
    --------
    >>> text = "n = 1\ndef f(a): return lambda: a + n\n"
    >>> linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    >>> namespace = {}
    >>> exec(compile(text, "<cell 1>", "exec"), namespace)
    >>> source = source_of(namespace["f"](2))
    >>> source.text, source.path, source.free
    ('def f(a): return lambda: a + n', ('f', '<lambda>'), ('a',))
    """
    if isinstance(value, types.MethodType | staticmethod | classmethod):
        return source_of(value.__func__)
    if isinstance(value, types.FunctionType):
        return _of_code(value.__code__)
    return _of_class(value) if isinstance(value, type) else None


def _of_code(code: types.CodeType) -> Source | None:
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    flags = code.co_flags & _FUTURE
    for node in _statements(_parsed(text)):
        if not _first_line(node) <= code.co_firstlineno <= (node.end_lineno or 0):
            continue
        for path, found in _codes(_compiled(node, flags)):
            if _same(found, code):
                return _source(text, node, path, found)
    return None


def _of_class(cls: type) -> Source | None:
    """A class has no code of its own. Its methods say where it stands; else all cells are asked, the newest first."""
    path = tuple(part for part in cls.__qualname__.split(".") if part != "<locals>")
    codes = [f.__code__ for f in _functions(cls) if f.__code__.co_qualname.startswith(f"{cls.__qualname__}.")]
    methods = [code for code in codes if code.co_filename in linecache.cache]
    files = [code.co_filename for code in methods]
    if not files:
        files = [name for name, entry in reversed([*linecache.cache.items()]) if len(entry) > 1 and entry[1] is None]
    flags = methods[0].co_flags & _FUTURE if methods else 0
    likely = None
    for filename in dict.fromkeys(files):
        text = "".join(linecache.getlines(filename))
        if f"class {path[-1]}" not in text:
            continue
        for node in reversed([*_statements(_parsed(text))]):
            inner = _class_node(node, path)
            if inner is None:
                continue
            for found, body in _codes(_compiled(node, flags)):
                if _plain(found) != path or body.co_firstlineno != _first_line(inner):
                    continue
                if methods:
                    own = [code for _, code in _codes(body)]
                    if any(_same(code, method) for code in own for method in methods):
                        return _source(text, node, found, body)
                elif _has_fields(cls, inner) and _has_names(cls, inner, body):
                    likely = likely or _source(text, node, found, body)
                    if _has_values(cls, inner):
                        return _source(text, node, found, body)
    return likely


def _functions(cls: type) -> Iterator[types.FunctionType]:
    for part in vars(cls).values():
        held = (part, getattr(part, "__func__", None), *(getattr(part, n, None) for n in ("fget", "fset", "func")))
        for function in held:
            inner = getattr(function, "__wrapped__", function)
            if isinstance(inner, types.FunctionType):
                yield inner


def _has_fields(cls: type, node: ast.ClassDef) -> bool:
    """Whether a class without methods may be this one, by the names in it and of its bases."""
    fields = vars(cls).get("__annotations__", {})
    told = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    bases = {base.__name__ for base in cls.__mro__[1:]}
    named = {b.attr if isinstance(b, ast.Attribute) else getattr(b, "id", None) for b in node.bases}
    return told == [*fields] and named - {None} <= bases | {"NamedTuple", "TypedDict"}


def _has_names(cls: type, node: ast.ClassDef, body: types.CodeType) -> bool:
    """Whether it holds what the text defines, and nothing that neither the text nor a metaclass puts there."""
    bound = {i.argval for i in dis.get_instructions(body) if i.opname == "STORE_NAME"}
    bound |= {*vars(cls).get("__annotations__", {})}  # the fields of a NamedTuple
    defined = {n.name for n in node.body if isinstance(n, _Definition)}
    if not defined <= {*vars(cls)}:
        return False
    return type(cls) not in (type, abc.ABCMeta) or {n for n in vars(cls) if not n.startswith("_")} <= bound


def _has_values(cls: type, node: ast.ClassDef) -> bool:
    """Whether its plain values are those of the text: none was changed, and it is no other class of its name."""
    for part in node.body:
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant):
            for target in part.targets:
                value = vars(cls).get(getattr(target, "id", ""))
                if getattr(value, "value", value) != part.value.value:  # a member of an enum has one
                    return False
    said = ast.get_docstring(node)
    return said is None or inspect.cleandoc(cls.__doc__ or "") == said


def _class_node(node: ast.stmt, path: tuple[str, ...]) -> ast.ClassDef | None:
    """The class of that path in a statement; the last of its name counts, as it is what stays."""
    if not (isinstance(node, _Definition) and node.name == path[0]):
        return None
    for name in path[1:]:
        within = [n for n in ast.walk(node) if n is not node and isinstance(n, _Definition) and n.name == name]
        if not within:
            return None
        node = within[-1]
    return node if isinstance(node, ast.ClassDef) else None


# ---------------------------------------------------------------- texts


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements at the cell's own level, inner ones first; those of functions and classes belong to these."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, _Definition) and isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _statements(child)
    if isinstance(node, ast.stmt):
        yield node


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _source(text: str, node: ast.stmt, path: tuple[str, ...], code: types.CodeType) -> Source:
    flags = code.co_flags & _FUTURE
    if len(path) == 1 and code.co_name == "<lambda>" and not code.co_freevars:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Lambda) and any(_same(c, code) for _, c in _codes(_compiled_lambda(inner, flags))):
                alone = f"({ast.get_source_segment(text, inner)})"
                return Source(alone, alone, "", ("<lambda>",), (), flags)
    whole = _cut(text, node, _first_line(node))
    bare = _cut(text, node, node.lineno) if isinstance(node, _Definition) else whole
    name = node.name if isinstance(node, _Definition) and len(path) == 1 else ""
    return Source(whole, bare, name, path, code.co_freevars, flags)


def _cut(text: str, node: ast.stmt, first: int) -> str:
    """The lines of a statement at the left margin; what stands in a text of several lines is left as it is."""
    lines = text.splitlines()[first - 1 : node.end_lineno]
    head = node.col_offset
    if not isinstance(node, _Definition):  # another statement may follow on its line; behind these, a comment
        lines[-1] = lines[-1].encode()[: node.end_col_offset].decode()
    if first == node.lineno and lines[0].encode()[:head].strip():  # behind another statement, on its line
        lines[0] = lines[0].encode()[head:].decode()
        return "\n".join(lines)
    texts = [n for n in ast.walk(node) if isinstance(n, ast.Constant | ast.JoinedStr) and n.lineno != n.end_lineno]
    kept = {line for n in texts for line in range(n.lineno + 1, (n.end_lineno or 0) + 1)}
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return "\n".join(line if first + at in kept else line.removeprefix(margin) for at, line in enumerate(lines))


# ---------------------------------------------------------------- code


def _compiled(node: ast.stmt, flags: int) -> types.CodeType:
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: types.CodeType = compile(ast.Module([node], []), "<source>", "exec", flags=flags, dont_inherit=True)
    return code


def _compiled_lambda(node: ast.Lambda, flags: int) -> types.CodeType:
    code: types.CodeType = compile(ast.Expression(node), "<source>", "eval", flags=flags, dont_inherit=True)
    return code


def _parts(code: types.CodeType) -> Iterator[tuple[str, types.CodeType]]:
    """The code objects right inside of one, each under its name, from the second of a name on with its number."""
    seen: dict[str, int] = {}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            seen[const.co_name] = number = seen.get(const.co_name, 0) + 1
            yield const.co_name if number == 1 else f"{const.co_name}#{number}", const


def _codes(code: types.CodeType) -> Iterator[tuple[tuple[str, ...], types.CodeType]]:
    """All code objects inside of one, with their paths."""
    for name, part in _parts(code):
        yield (name,), part
        for path, inner in _codes(part):
            yield (name, *path), inner


def _plain(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without numbers, and without the scope of type parameters."""
    return tuple(name.partition("#")[0] for name in path if not name.startswith("<generic"))


def _same(a: types.CodeType, b: types.CodeType) -> bool:
    """Whether two codes are the same but for the file. Columns tell two lambdas of one line apart."""
    return (
        (a.co_name, a.co_firstlineno, a.co_code) == (b.co_name, b.co_firstlineno, b.co_code)
        and (a.co_names, a.co_varnames, a.co_freevars) == (b.co_names, b.co_varnames, b.co_freevars)
        and _constants(a) == _constants(b)
        and (list(a.co_positions()) == list(b.co_positions()))
    )


def _constants(code: types.CodeType) -> list[Any]:
    return [
        (c.co_name, c.co_code, _constants(c)) if isinstance(c, types.CodeType) else (type(c), repr(c))
        for c in code.co_consts
    ]
