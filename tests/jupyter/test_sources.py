"""The text of a function or class that was defined in a cell."""

from __future__ import annotations

import ast
import doctest
import functools
import itertools
import linecache
import types

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kitaru_jupyter.capture import source_of, sources

NUMBERS = itertools.count()


@pytest.fixture
def cell():
    """Runs cells in one namespace, as IPython does: each text in the cache of lines under a name of its own."""
    made, names = {"__name__": "__main__"}, []

    def run(text, name=None):
        name = name or f"<cell {next(NUMBERS)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        names.append(name)
        exec(compile(text, name, "exec"), made)
        return made

    yield run
    for name in names:
        linecache.cache.pop(name, None)


def again(function, made):
    """The same function, made from its source alone."""
    code = source_of(function).code()
    return types.FunctionType(code, made, function.__name__, function.__defaults__, function.__closure__)


def test_a_function_is_defined_again_by_its_text(cell):
    made = cell("import functools\nn = 1\n\n\ndef f(a):\n    # adds\n    return a + n  # here\n\nm = 2")
    source = source_of(made["f"])
    assert source.text == "def f(a):\n    # adds\n    return a + n  # here"
    assert (source.name, source.path, source.free) == ("f", ("f",), ())
    other = {"n": 10}
    exec(source.text, other)
    assert other["f"](1) == 11


def test_decorators_are_in_the_text_and_not_in_the_bare_one(cell):
    made = cell("import functools\n@functools.cache\n@functools.wraps(\n  len)\nasync def f(a):\n  return a")
    source = source_of(made["f"].__wrapped__)
    assert source.text == "@functools.cache\n@functools.wraps(\n  len)\nasync def f(a):\n  return a"
    assert source.bare == "async def f(a):\n  return a"
    assert source_of(made["f"]) is None  # the wrapper is no function of the notebook


def test_what_stands_in_a_block_is_dedented_and_its_texts_are_kept(cell):
    made = cell("if True:\n    try:\n        def f():\n            return '''a\n  b\n        c'''\n    finally: pass")
    source = source_of(made["f"])
    other = {}
    exec(source.text, other)
    assert other["f"]() == made["f"]() == "a\n  b\n        c"
    assert source.text.startswith("def f():\n    return")


def test_lambdas_of_one_line_are_told_apart(cell):
    made = cell("n = 1\na, b = lambda x: x + n, lambda x: (x,\n  lambda: n)\nc = b(1)[1]")
    assert source_of(made["a"]).text == "(lambda x: x + n)"
    assert source_of(made["b"]).text == "(lambda x: (x,\n  lambda: n))"
    assert source_of(made["c"]).text == "a, b = lambda x: x + n, lambda x: (x,\n  lambda: n)"
    assert eval(source_of(made["a"]).text, made)(2) == 3
    assert again(made["c"], made)() == 1


def test_the_same_lambda_twice_on_a_line_and_in_two_statements(cell):
    made = cell("é = 1; a = lambda: é; b = lambda: é; c = [lambda: i for i in range(2)]")
    assert source_of(made["a"]).text == source_of(made["b"]).text == "(lambda: é)"
    assert again(made["c"][0], made)() == 1
    assert source_of(made["c"][0]).text.endswith("[lambda: i for i in range(2)]")
    assert source_of(made["c"][0]).free == ("i",)


def test_nested_functions_are_found_through_the_outermost(cell):
    made = cell(
        "def outer(a):\n  def inner():\n    return a\n  if a:\n    def inner(b=1):\n      return a + b, [lambda: b]\n"
        "  return inner\nf = outer(3)"
    )
    source = source_of(made["f"])
    assert source.text.startswith("def outer(a):")
    assert (source.name, source.path, source.free) == ("", ("outer", "inner#2"), ("a",))
    assert again(made["f"], made)()[0] == 4
    assert source_of(made["f"]()[1][0]).path[:2] == ("outer", "inner#2")


def test_methods_are_found_through_their_class(cell):
    made = cell(
        "class A:\n  def m(self): return 1\n  @staticmethod\n  def s(): return 2\n  class B:\n    def m(self): return 3"
    )
    a = made["A"]
    assert source_of(a.m).path == ("A", "m")
    assert source_of(a().m) == source_of(a.m)
    assert source_of(vars(a)["s"]).path == ("A", "s")
    assert source_of(a.B.m).path == ("A", "B", "m")
    assert again(a.B.m, made)(None) == 3


def test_a_function_that_was_defined_again_has_its_own_text(cell):
    made = cell("def f(): return 1")
    first = made["f"]
    cell("def f(): return 2")
    assert source_of(first).text == "def f(): return 1"
    assert source_of(made["f"]).text == "def f(): return 2"


@pytest.mark.parametrize(
    "other", ["def f(): return 2", "def f(): return x.b", "def f():\n  return 1", "def g(): return 1", "f ="]
)
def test_a_text_that_does_not_give_the_code_is_not_believed(cell, other):
    made = cell("def f(): return 1\ndef g(): return x.a", name="<again>")
    linecache.cache["<again>"] = (len(other), None, [*other.splitlines(keepends=True)], "<again>")
    assert source_of(made["f"]) is None
    assert source_of(made["g"]) is None


def test_code_that_was_put_into_a_function_has_the_text_it_came_from(cell):
    made = cell("def f(): return 1")
    kept = made["f"]
    cell("def f(): return 2")
    kept.__code__ = made["f"].__code__  # as %autoreload does
    assert source_of(kept).text == "def f(): return 2"


def test_what_has_no_text_has_no_source():
    made = {}
    exec("def f(): pass\nclass A: x = 1", made)
    assert [source_of(v) for v in (made["f"], made["A"], len, int, functools.partial(len), None)] == [None] * 6


def test_classes_are_found_by_their_methods(cell):
    made = cell("class A:\n  count = 0\n  def m(self): return 1")
    cell("class A:\n  count = 0\n  def m(self): return 2", name="<later>")
    assert source_of(made["A"]).text.endswith("return 2")
    made["A"].count = 5
    assert source_of(made["A"]).text.endswith("return 2")


def test_classes_without_methods_are_found_by_what_stands_in_them(cell):
    made = cell("import enum, dataclasses\nclass E(Exception): code = 1\nclass C(enum.Enum):\n  RED = 1")
    first, colour = made["E"], made["C"]
    cell("class E(Exception): code = 2\n@dataclasses.dataclass\nclass P:\n  'A point.'\n  x: int\n  y: int = 0")
    assert source_of(first).text == "class E(Exception): code = 1"
    assert source_of(made["E"]).text == "class E(Exception): code = 2"
    assert source_of(colour).text == "class C(enum.Enum):\n  RED = 1"
    source = source_of(made["P"])
    assert (source.name, source.path) == ("P", ("P",))
    assert source.text.startswith("@dataclasses.dataclass\n")
    assert source.bare.startswith("class P:")
    made["E"].code = 7
    assert source_of(made["E"]).text == "class E(Exception): code = 2"


def test_a_class_is_not_taken_for_another_of_its_name(cell):
    cell("class A: pass")
    cell("class E(Exception):\n  def __init__(self): self.code = 1\n  code = 1")
    made = {"__name__": "__main__"}
    exec("class A: x = 1\nclass E(Exception): code = 1", made)
    assert source_of(made["A"]) is None
    assert source_of(made["E"]) is None


def test_classes_of_functions_are_found_through_them(cell):
    made = cell("def make(k):\n  class A:\n    y = k\n    def m(self): return k\n  return A\nA = make(1)")
    source = source_of(made["A"])
    assert (source.path, source.free, source.name) == (("make", "A"), ("k",), "")
    assert source.code().co_name == "A"


def test_future_statements_are_kept(cell):
    made = cell(
        "from __future__ import annotations\ndef f(a: No): return a\ndef g():\n  def h(b: No): pass\n  return h"
    )
    source = source_of(made["f"])
    assert source.flags
    assert source_of(made["g"]()).flags == source.flags
    assert again(made["f"], made)(1) == 1


def test_cells_of_a_shell_with_magics_and_await():
    shell = InteractiveShell()
    shell.run_cell(
        "import asyncio\nplace = !echo x\nawait asyncio.sleep(0); f = lambda: place\ndef g():\n  %time 1\n  return 5"
    )
    assert source_of(shell.user_ns["f"]).text == "(lambda: place)"
    source = source_of(shell.user_ns["g"])
    assert source.text.startswith("def g():\n  get_ipython().run_line_magic('time', '1')")
    assert ast.parse(source.text)


def test_the_examples_hold():
    assert doctest.testmod(sources).failed == 0
