"""What a cell reads and binds, from its code."""

from __future__ import annotations

import ast
import builtins

import pytest
from IPython.core.inputtransformer2 import TransformerManager

import kitaru
from kitaru_jupyter.capture import compile_cell, names_of, touches_of

GALLERY = [
    # (cell, read, bound); builtins are left out of what is read
    ("y = x", "x", "y"),
    ("x = 1\ny = x", "", "x y"),
    ("x = x + 1", "x", "x"),
    ("x += 1", "x", "x"),
    ("x[0] += y", "x y", ""),
    ("x.a = 1", "x", ""),
    ("x[i] = v", "v x i", ""),
    ("a, (b, *c) = x", "x", "a b c"),
    ("a = b = x", "x", "a b"),
    ("x: int = y", "y", "x"),
    ("x: T", "T", ""),
    ("if (n := f(x)) > 1: print(n)", "f x", "n"),
    ("print([y for y in xs if y > k])", "xs k", ""),
    ("print([(last := y) for y in xs], last)", "xs last", "last"),
    ("print({k: v for k, v in d.items()}, k)", "d k", ""),
    ("g = (x for x in xs)", "xs", "g"),
    ("for i in xs: t = i", "xs", "i t"),
    ("for i in xs: t = i\nprint(t)", "xs t", "i t"),
    ("t = 0\nfor i in xs: t += i\nprint(t)", "xs", "t i"),
    ("while x: x = x - 1\nelse: y = x", "x", "x y"),
    ("if c:\n  x = 1\nprint(x)", "c x", "x"),
    ("if c:\n  x = 1\nelse:\n  x = 2\nprint(x)", "c", "x"),
    ("if c:\n  raise ValueError\nelse:\n  x = 2\nprint(x)", "c", "x"),
    ("with open(p) as f:\n  t = f.read()\nprint(t)", "p", "f t"),
    ("with a, b as (c, d): e = c", "a b", "c d e"),
    ("try:\n  x = f()\nexcept E as e:\n  x = g(e)\nprint(x)", "f E g", "x e"),
    ("try:\n  x = f()\nexcept E:\n  pass\nprint(x)", "f E x", "x"),
    ("try:\n  x = f()\nexcept E:\n  raise\nprint(x)", "f E", "x"),
    ("try:\n  x = f()\nfinally:\n  print(x)", "f x", "x"),
    ("try:\n  x = f()\nexcept* E as g:\n  y = g", "f E", "x y g"),
    (
        "match v:\n  case [a, *b]: x = a\n  case {'k': c, **r}: x = c\n  case P(z=K.q) as w: x = w",
        "v P K",
        "a b x c r w",
    ),
    ("import a, b.c as d\nfrom e import f as g\nprint(a, d, g)", "", "a d g"),
    ("import a.b\na.b.c()", "", "a"),
    ("def f(): return x", "", "f"),
    ("def f(): return x\nf()", "x", "f"),
    ("def f(): return x\nx = 1\nf()", "", "f x"),
    ("def f(a=x): return a", "x", "f"),
    ("@deco\ndef f(): return x", "deco x", "f"),
    ("def f():\n  global n\n  n = 1\nf()", "", "f n"),
    ("def f():\n  def g(): return x\n  return g()\nprint(f())", "x", "f"),
    ("def f(x): return x\nf(1)", "", "f"),
    ("async def f(): return await g(x)\nawait f()", "g x", "f"),
    ("f = lambda a: a + x", "x", "f"),
    ("class A(B):\n  y = x\n  z = y\n  def m(self): return w", "B x", "A"),
    ("class A:\n  def m(self): return w\nA().m()", "w", "A"),
    ("y = [a async for a in s(x)]", "s x", "y"),
    ("async with a as b: c = b", "a", "b c"),
    ("async for a in b: c = a", "b", "a c"),
    ("del x", "", ""),
    ("x = 1\ndel x", "", "x"),
    ("x = 1\ndel x\nprint(x)", "x", "x"),
    ("del d[k]", "d k", ""),
    ("print(f'{x} {y!r:{w}}')", "x y w", ""),
    ("assert x, y", "x y", ""),
    ("for i in xs:\n  if i: break\n  y = i", "xs", "i y"),
    ("%time y = f(x)", "f x", "y"),
    ("%timeit -n 3 f(x)", "f x", ""),
    ("%%time\ny = f(x)", "f x", "y"),
    ("y = !ls {folder}", "folder", "y"),
    ("!echo $name {a.b}", "name a", ""),
    ("%matplotlib inline", "", ""),
    ("%cd {place}", "place", ""),
]


@pytest.mark.parametrize(("cell", "reads", "binds"), GALLERY, ids=[c for c, _, _ in GALLERY])
def test_a_cell_reads_and_binds(cell, reads, binds):
    names = names_of(ast.parse(TransformerManager().transform_cell(cell)))
    seen = [n for n in names.reads if not hasattr(builtins, n) and n != "get_ipython"]
    assert sorted(seen) == sorted(reads.split())
    assert sorted(names.binds) == sorted(binds.split())


def run(cell, namespace):
    exec(compile(cell, "<cell>", "exec"), namespace)
    return namespace


def seen(cell, namespace):
    return touches_of(ast.parse(cell), namespace)


def test_a_function_of_the_notebook_reads_for_the_cell_that_calls_it():
    namespace = run("def f(a): return g(a) + k\ndef g(a): return a * m\nk = m = 1", {"__name__": "__main__"})
    assert seen("y = f(1)", namespace).reads == ("f", "g", "k", "m")


def test_what_a_function_of_the_notebook_binds_is_bound_by_the_cell_that_calls_it():
    namespace = run("def f():\n  global n\n  n = 1", {"__name__": "__main__"})
    assert seen("f()", namespace).binds == ("n",)


def test_classes_methods_partials_wrapped_functions_and_steps_of_the_notebook_are_followed():
    namespace = {"__name__": "__main__", "kitaru": kitaru}
    run(
        "import functools\n"
        "a = b = c = d = e = h = 1\n"
        "class A:\n  def m(self): return a\n  @property\n  def p(self): return b\n"
        "  @staticmethod\n  def s(): return c\n"
        "part = functools.partial(lambda x: d, 1)\n"
        "@functools.cache\ndef cached(): return e\n"
        "@kitaru.checkpoint\ndef step(): return h",
        namespace,
    )
    names = seen("A(); part(); step()", namespace)
    assert {*names.reads} >= {"a", "b", "c", "d", "h"}


def test_functions_from_elsewhere_are_not_followed():
    namespace = run("from ast import parse, PyCF_ONLY_AST as x", {"__name__": "__main__"})
    assert seen("parse('1')", namespace).reads == ("parse",)


def test_recursion_ends():
    namespace = run("def f(): return g()\ndef g(): return f() + k\nk = 1", {"__name__": "__main__"})
    assert seen("f()", namespace).reads == ("f", "g", "k")


def test_what_parses_and_does_not_compile_is_found_before_it_runs():
    with pytest.raises(SyntaxError):
        compile_cell(ast.parse("x = 1\nreturn x"))
    compile_cell(ast.parse("await f()"))
