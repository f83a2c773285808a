"""What a cell touches: its names, closed over the functions, classes and objects that live in the namespace."""

from __future__ import annotations

import ast
import asyncio
import builtins
import dis
import functools
import random
import sys
import types

import pytest
from hypothesis import given, settings, strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

from kitaru_jupyter.capture import names_of, touches_of
from kitaru_jupyter.capture.callees import follow
from kitaru_jupyter.capture.names import names_of_code

from . import programs

SETUP = """
import asyncio, contextlib, fractions, functools, kitaru, logging, sys, threading, types, weakref
import pandas as pd
x = 1; n = 2; w = 0; k = 3; L = [1, 2]; T = int; E = ValueError; D = {"a": 1}; other = [0]; spare = {}
def f(): return x
def g(): return f()
def fw():
    global w
    w += 1
def fd():
    global n
    del n
def make():
    z = [k]
    return lambda: z.append(x)
closure = make()
def rec(i): return rec(i - 1) + k if i else 0
def default(a=L): return a
def f2(q): return x
def caller(): return later_bound()
class O:
    def m(self):
        global w
        w += 1
    @property
    def p(self): return x
    def __add__(self, other): return n
    @staticmethod
    def s(): return k
    @classmethod
    def c(cls): return L
class O2(O): pass
class Dyn:
    def __getattr__(self, name): return x
class Meta(type):
    def __call__(cls): return x
class MC(metaclass=Meta): pass
class Lib(fractions.Fraction): pass
class Fin:
    def __del__(self): return x
o = O(); o2 = O2(); dyn = Dyn(); objs = [O(), O()]; fin = Fin()
def deco(q): return x
async def af(): return x
def gn():
    yield x
def hold(inner):
    yield inner
held = hold(f)
def over(inner): return lambda: inner()
covered = over(f)
gen = gn(); co = af(); co.close()
async def agn():
    yield x
agen = agn()
partial = functools.partial(f2, L)
bound = o.m; append = L.append; alias = L
fl = [f]; big = [f] * 70; reg = {"a": {"b": f}}; keyed = {f: 1}; nested = [[[[f]]]]
lru = functools.lru_cache(f)
@functools.wraps(f)
def wrapper(): return k
@functools.singledispatch
def sd(a): return x
@sd.register
def _of_int(a: int): return k
@contextlib.contextmanager
def cm():
    yield x
ref = weakref.ref(o)
ev = lambda: eval("x")
def shell():
    get_ipython().system("ls {x}")
def timed():
    get_ipython().run_line_magic("time", "n + 1")
def main_of(): return sys.modules["__main__"]
def training(model): return model.eval()
def asked(frame): return frame.query("a > @k")
thread = threading.Thread(target=f)
@kitaru.checkpoint
def step(a): return a + k
@kitaru.flow
def run(a): return step(a) + n
df = pd.DataFrame({"a": [1]})
mod = types.ModuleType("mod"); mod.sub = types.ModuleType("mod.sub"); mod.sub.hook = f; mod.own = fw
Patched = type("Patched", (), {"__module__": "mod", "hook": lambda self: k}); patched = Patched()
_ = L; _3 = L; Out = {3: L}; In = [""]
"""

# (cell, read, bound, deleted, what else is touched); builtins are left out of what is read. "*": all of the namespace.
GALLERY = [
    ("y = o.m", "o w n x k L", "y w", "", "O _ _3 alias"),
    ("o.x = 1; L[0] = 2", "o L w n x k", "w", "", "O _ _3 alias"),
    ("n += 1", "n", "n", "", ""),
    ("L[0] += k", "k L", "", "", "_ _3 alias"),
    ("a, (b, *c) = L", "L", "a b c", "", "_ _3 alias"),
    ("v: T = x", "T x", "v", "", ""),
    ("v: T", "T", "", "", ""),
    ("f()", "f x", "", "", ""),
    ("g()", "g f x", "", "", ""),
    ("fw()", "fw w", "w", "", ""),
    ("fd()", "fd", "", "n", ""),
    ("closure()", "closure x", "", "", ""),
    ("rec(2)", "rec k", "", "", ""),
    ("default()", "default", "", "", "L _ _3 alias"),
    ("r = [x + i for i in L]", "L x", "r", "", "_ _3 alias"),
    ("r = sorted(L, key=lambda q: x)", "L x", "r", "", "_ _3 alias"),
    ("r = sum(x for _i in L for y in (n,))", "L n x", "r", "", "_ _3 alias"),
    ("r = [(last := i) for i in L]", "L", "last r", "", "_ _3 alias"),
    ("r = {i: j for i, j in D.items() if i != k}", "D k", "r", "", ""),
    ("(q := x) + q", "x", "q", "", ""),
    ("x or (q := n); q", "x n q", "q", "", ""),
    ("q = x if k else (p := n)", "k x n", "p q", "", ""),
    ("k < x < (q := n)", "k x n", "q", "", ""),
    ("class Z:\n  x = x\n  y = x\n  def m(self): return n", "x", "Z", "", ""),
    ("class Z:\n  y = k\n  k = y\n  z = [k for i in y]", "k", "Z", "", ""),
    ("class Z:\n  x = 1\n  def m(self): return x\nZ().m()", "x", "Z", "", ""),
    ("class Z(O): pass", "O w n x k L", "Z w", "", "_ _3 alias"),
    ("class Z(Lib, metaclass=Meta): pass", "Lib Meta x", "Z", "", ""),
    ("class Z:\n  global made\n  made = x", "x", "made Z", "", ""),
    ("class Z:\n  @property\n  def p(self): return x", "", "Z", "", ""),
    ("class Z:\n  if k: x = 1\n  y = x", "k x", "Z", "", ""),
    ("o.m()", "o w n x k L", "w", "", "O _ _3 alias"),
    ("o2.m()", "o2 w n x k L", "w", "", "O O2 _ _3 alias"),
    ("o.p", "o w n x k L", "w", "", "O _ _3 alias"),
    ("MC()", "MC x", "", "", "Meta"),
    ("dyn.anything", "dyn x", "", "", "Dyn"),
    ("objs[0].m()", "objs w n x k L", "w", "", "O _ _3 alias"),
    ("O.s()", "O w n x k L", "w", "", "_ _3 alias"),
    ("@deco\ndef ff(): return n", "deco n x", "ff", "", ""),
    ("@functools.cache\ndef ff(): return n", "functools", "ff", "", ""),
    ("def ff(a=x, *, b: T = n) -> E: return k", "x n T E", "ff", "", ""),
    ("def ff(): return x", "", "ff", "", ""),
    ("def ff(): return x\nff()", "x", "ff", "", ""),
    ("def ff(): return f()\nff()", "f x", "ff", "", ""),
    ("k = 1\ndef ff(): return k\nff()", "", "k ff", "", ""),
    ("x = 5\nf()", "f", "x", "", ""),
    ("if k: x = 5\nf()", "k f x", "x", "", ""),
    ("def f(): return n\ng()", "g n", "f", "", ""),
    ("x = 1\ndel x\nprint(x)", "x", "x", "x", ""),
    ("del x, D['a'], o.y", "D o w n x k L", "w", "x", "O _ _3 alias"),
    ("del fin", "x", "", "fin", ""),
    ("fin = None", "x", "fin", "", ""),
    ('print(f"{x!r:>{n}} {k=}")', "x n k", "", "", ""),
    ("try:\n  r = x\nexcept E as e: r = n\nelse: s = k\nfinally: print(w)", "x k E n w", "r s e", "e", ""),
    ("try:\n  r = f()\nexcept* E as e: r = n", "f E n x", "r e", "e", ""),
    ("try:\n  r = 1\nfinally: s = 1\nprint(r, s)", "", "r s", "", ""),
    ("try:\n  r = 1\nexcept E: pass\nprint(r)", "E r", "r", "", ""),
    (
        "match x:\n  case 1: r = n\n  case [a, *b] if k: pass\n  case O(p=q) | T(q): pass",
        "x n k O T w L",
        "r a b q w",
        "",
        "_ _3 alias",
    ),
    ("match x:\n  case {'z': c, **d}: pass\n  case _: r = 3\nprint(r)", "x r", "d c r", "", ""),
    ("match x:\n  case K.y as b: r = 1\n  case _: r = 3\nprint(r)", "x K", "b r", "", ""),
    ("k = 1\ntry:\n  del k\n  n()\nexcept E: print(k)", "n E k", "k", "k", ""),
    ("class Z:\n  x = 1\n  try:\n    del x\n    n()\n  except E: y = x", "n E x", "Z", "", ""),
    ("class Z:\n  x = 1\n  for y in L: del x\n  z = x", "L x", "Z", "", "_ _3 alias"),
    ("@O.register\nclass Z(O):\n  def m(self): return T", "O T w n x k L", "Z w", "", "_ _3 alias"),
    ("import pickle; pickle.load(x)", "x", "pickle", "", "*"),
    ("import json; json.load(x)", "x", "json", "", ""),
    ("duckdb.sql('from df')", "duckdb", "", "", "*"),
    ("try:\n  r = 1\nfinally:\n  del r\nprint(r)", "r", "r", "r", ""),
    ("for i in L: r = 1\nelse: print(r, i)", "L r i", "i r", "", "_ _3 alias"),
    ("if k:\n  def ff(): return x\nelse:\n  def ff(): return n\nff()", "k n x", "ff", "", ""),
    ("covered()", "covered x", "", "", "f"),
    ("x = 1\nfl\ndel x\nbig[0]()", "fl big x", "x", "x", "f"),
    ("def ff():\n  def gg():\n    global n\n    del n\n  gg()\nff()", "", "ff", "n", ""),
    ("next(held)()", "held x", "", "", "f"),
    ("with cm() as c: r = 1\nprint(r, c)", "cm r x", "c r", "", ""),
    ("with open(x) as c: r = 1\nprint(r, c)", "x", "c r", "", ""),
    ("async with af() as c: r = c", "af x", "c r", "", ""),
    ("async for i in agen: r = i", "agen x", "i r", "", ""),
    ("r = [i async for i in agen if await af()]", "agen af x", "r", "", ""),
    ("await co", "co", "", "", ""),
    ("next(gen)", "gen x", "", "", ""),
    ("for i in L:\n  if i: break\n  r = i\nelse: r = k\nprint(r, i)", "L k r i", "i r", "", "_ _3 alias"),
    ("while x: r = 1\nprint(r)", "x r", "r", "", ""),
    ("if k: r = 1\nelse: r = n\nprint(r)", "k n", "r", "", ""),
    ("if k: r = 1\nprint(r)", "k r", "r", "", ""),
    ("from math import pi as p, e", "", "p e", "", ""),
    ("import os.path as path, json", "", "path json", "", ""),
    ("from math import *", "", "", "", "*"),
    ("partial()", "partial x", "", "", "L _ _3 alias f2"),
    ("bound()", "bound w n x k L", "w", "", "O _ _3 alias o"),
    ("append(1)", "append", "", "", "L _ _3 alias"),
    ("alias.append(1)", "alias", "", "", "L _ _3"),
    ("fl[0]()", "fl x", "", "", "f"),
    ("big[60]()", "big x", "", "", "f"),
    ('reg["a"]["b"]()', "reg x", "", "", "f"),
    ("for key in keyed: key()", "keyed x", "key", "", "f"),
    ("nested", "nested x", "", "", "f"),
    ("lru()", "lru x", "", "", "f"),
    ("wrapper()", "wrapper k x", "", "", "f"),
    ("sd(1)", "sd x k", "", "", "_of_int"),
    ("ref()", "ref w n x k L", "w", "", "O _ _3 alias o"),
    ("thread.start()", "thread x", "", "", "f"),
    ("step(x)", "step x k", "", "", ""),
    ("run(1)", "run step n k", "", "", ""),
    ("mod.sub.hook()", "mod w x", "w", "", "f fw"),
    ("mod.own()", "mod w", "w", "", "fw"),
    ("patched.anything()", "patched k", "", "", ""),
    ('df["b"] = df.a + x', "df x", "", "", ""),
    ('df.query("a > @x")', "df x", "", "", ""),
    ('df.query("a > 1", inplace=True)', "df", "", "", ""),
    ('df.eval("a + n")', "df a n", "", "", ""),
    ("df.query(text)", "df text", "", "", "*"),
    ("asked(df)", "asked df k", "", "", ""),
    ("training(o)", "training o w n x k L", "w", "", "O _ _3 alias"),
    ('exec("x + 1")', "", "", "", "*"),
    ("ev()", "ev", "", "", "*"),
    ('globals()["x"]', "", "", "", "*"),
    ("vars(o)", "o w n x k L", "w", "", "O _ _3 alias"),
    ("vars()", "", "", "", "*"),
    ("dir(o), [vars(i) for i in objs]", "o objs w n x k L", "w", "", "O _ _3 alias"),
    ("[locals() for i in L]", "L", "", "", "*"),
    ('getattr(sys.modules["__main__"], "x")', "sys", "", "", "*"),
    ("main_of()", "main_of sys", "", "", "*"),
    ("import __main__", "", "__main__", "", "*"),
    ('get_ipython().user_ns["x"]', "get_ipython", "", "", "*"),
    ("ip = get_ipython()", "get_ipython", "ip", "", "*"),
    ("_", "_", "", "", "L _3 alias"),
    ("_3, Out[3], In", "_3 Out In", "", "", "L _ alias"),
    ("%time y = x", "x", "y", "", ""),
    ("%time --no-raise-error y = x\nprint(y)", "x y", "y", "", ""),
    ("%timeit -n 3 -r 1 y = f()", "f x", "", "", ""),
    ("%%time\ny = f()", "f x", "y", "", ""),
    ("%%timeit s = k\ny = s", "k s", "", "", ""),
    ("%%capture out --no-stderr\nr = x", "x", "r out", "", ""),
    ("%prun -l 3 -s cumtime r = f()", "f x", "r", "", ""),
    ("!echo {x} $n ${k} $$w", "n x k", "", "", ""),
    ("r = !ls {L[0]:>{n}}", "L n", "r", "", "_ _3 alias"),
    ("!awk '{print $1}' {D['a']}", "D", "", "", ""),
    ("shell()", "shell get_ipython x", "", "", ""),
    ("timed()", "timed get_ipython n", "", "", ""),
    ("%run file.py", "", "", "", "*"),
    ("%load file.py", "", "", "", ""),
    ("%unknown x", "", "", "", "*"),
    ("%%sql\nselect * from x", "", "", "", "*"),
    ("%%bash --out got\necho $x", "", "got", "", ""),
    ("%matplotlib inline", "", "", "", ""),
    ("%cd {x}", "x", "", "", ""),
    ("L?", "L", "", "", "_ _3 alias"),
    ("%store L", "L", "", "", "_ _3 alias"),
    ("%store -r", "", "", "", "*"),
    ("%kitaru runs", "", "", "", ""),
    ("%kitaru checkout x", "", "", "", "*"),
    ("async def ff(): return await af()\nawait ff()", "af x", "ff", "", ""),
    ("r = lambda a=x: n", "x n", "r", "", ""),
    ("r = (lambda: x)()", "x", "r", "", ""),
    ("global x\nx = 2", "", "x", "", ""),
    ("assert x, n", "x n", "", "", ""),
    ("raise E(x)\nprint(n)", "E x", "", "", ""),
    ("caller()", "caller later_bound", "", "", ""),
    ('d = {**D, "b": [*L]}', "D L", "d", "", "_ _3 alias"),
    ("L[n:k], L[...]", "L n k", "", "", "_ _3 alias"),
]


def namespace():
    made = {"__name__": "__main__", "get_ipython": lambda: None}
    exec(compile(SETUP, "<setup>", "exec"), made)
    return made


NAMESPACE = namespace()


def touches(cell, live=NAMESPACE):
    return touches_of(ast.parse(TransformerManager().transform_cell(cell)), live)


@pytest.mark.parametrize(("cell", "reads", "binds", "deletes", "also"), GALLERY, ids=[row[0] for row in GALLERY])
def test_a_cell_touches(cell, reads, binds, deletes, also):
    found = touches(cell)
    assert [n for n in found.reads if not hasattr(builtins, n)] == reads.split()
    assert list(found.binds) == binds.split()
    assert list(found.deletes) == deletes.split()
    assert found.wild == (also == "*")
    named = {*found.reads, *binds.split(), *deletes.split()}
    if found.wild:
        assert found.touched == {*NAMESPACE, *binds.split(), *deletes.split()}
    else:
        assert found.touched - named == set(also.split())
        assert found.touched >= {*binds.split(), *deletes.split(), *(named & NAMESPACE.keys())}


def live(code, **more):
    made = {"__name__": "__main__", **more}
    exec(compile(code, "<cell>", "exec"), made)
    return made


def test_what_a_followed_function_reads_after_the_cell_has_bound_it_is_no_input():
    made = live("def f(): return x\ndef g(): return f() + y\nx = y = 1")
    assert touches("x = 2\ng()", made).reads == ("g", "f", "y")
    assert touches("g()\nx = 2", made).reads == ("g", "f", "y", "x")
    assert touches("if y: x = 2\ng()", made).reads == ("y", "g", "f", "x")
    assert touches("x = 2\ng()", made).touched == {"g", "f", "x", "y"}


def test_a_function_that_the_cell_defines_anew_is_the_one_that_others_call():
    made = live("def f(): return old\ndef g(): return f()\nold = new = 1")
    assert touches("def f(): return new\ng()", made).reads == ("g", "new")


def test_what_functions_bind_is_bound_and_no_import_any_more():
    made = live("def f():\n  global json\n  json = 1")
    assert touches("import json, ast\nf()", made).imports == ("ast",)
    assert touches("f()", made).binds == ("json",)


def test_an_expression_too_deep_to_walk_is_told_coarsely():
    found = touches("y = x\nz = " + " + ".join(["x"] * 700) + "\ndel spare")
    assert (found.reads, found.binds, found.deletes, found.wild) == (("x",), ("y", "z"), ("spare",), True)


def test_names_of_displayed_objects_are_told():
    assert touches("_ + _3 + Out[3] + _x + __ + _i", live("_x = 1")).displayed == ("_", "_3", "Out", "__")


@pytest.mark.parametrize("value", [eval, exec, globals, functools.partial(eval), [[exec]], {"a": globals}, sys.modules])
def test_values_that_lead_to_the_namespace_are_wild(value):
    made = live("x = 1", held=value, **({"sys": sys} if value is sys.modules else {}))
    cell = "sys.modules" if value is sys.modules else "held"
    assert touches(cell, made).wild
    assert not touches("x", made).wild


def test_the_namespace_itself_and_its_shell_are_wild():
    made = live("x = 1")
    made["me"], made["module"] = made, types.ModuleType("m")
    made["module"].__dict__.update(ns=made)
    assert touches("me['x']", made).wild
    shell = InteractiveShell()
    made["ip"] = shell
    assert touches("ip.config", made).wild


def test_a_walk_is_bounded_and_sees_what_is_near_first():
    made = live("def f(): return x\nx = 1")
    made["wide"] = [*({"i": i, "deep": [[i]]} for i in range(100_000)), made["f"]]
    made["near"] = [made["f"], *({"i": i} for i in range(100_000))]
    assert touches("wide", made).reads == ("wide",)
    assert touches("near", made).reads == ("near", "x")
    assert follow(names_of(ast.parse("wide")), made, also=[made["f"]]).reads == ("wide", "x")


def test_what_a_library_object_holds_far_inside_is_its_own():
    class Library:
        __module__ = "library"

        def __init__(self, held):
            self.held = held

    made = live("def f(): return x\nx = 1")
    made["near"], made["far"] = Library(Library(made["f"])), Library(Library(Library(Library(made["f"]))))
    assert "x" in touches("near", made).reads
    assert "x" not in touches("far", made).reads


def test_a_task_is_followed_to_its_coroutine_and_no_farther():
    made = live("import asyncio\nasync def f(): return x\nx = 1\ndef g(): return y\ny = 1")

    async def main():
        made["task"] = asyncio.ensure_future(made["f"]())
        asyncio.get_running_loop().call_later(1000, made["g"]).cancel()
        found = touches("await task", made)
        made["task"].cancel()
        return found

    found = asyncio.run(main())
    assert (found.reads, found.wild) == (("task", "x"), False)


def test_a_function_that_hangs_on_a_class_from_elsewhere_is_found_through_its_objects():
    made = live("def f(self): return x\nx = 1\nimport fractions\no = fractions.Fraction(1)")
    assert touches("o + 1", made).reads == ("o",)
    made["fractions"].Fraction.as_text = made["f"]
    try:
        assert touches("o.as_text()", made).reads == ("o", "x")
        assert touches("fractions.Fraction", made).reads == ("fractions", "x")
    finally:
        del made["fractions"].Fraction.as_text


CODE = """
def outer(a, *, b=1):
    global n
    n = eval_ = a.attribute
    class Inner(Base):
        y = early
        y = y
        if y: z = 1
        z = z
        def method(self): return deep, n
    del m, n
    return [t for t in things if t.x] + [lambda: far]
"""


def test_the_bytecode_is_read_as_dis_reads_it():
    def walk(code):
        for i in dis.get_instructions(code):
            if i.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}:
                loaded.add(i.argval)
            elif i.opname in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
                stored.add(i.argval)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                walk(const)

    made = {}
    exec(CODE, made)
    loaded, stored = set(), set()
    walk(made["outer"].__code__)
    names = names_of_code(made["outer"].__code__)
    assert {*names.reads} == loaded - {"y"}  # which the class has bound for certain
    assert {*names.binds, *names.deletes} == stored
    assert names.deletes == ("n",)
    assert {"attribute", "x"} <= names.attributes
    assert names_of_code(made["outer"].__code__) is names


def compiled(cell):
    try:
        return compile(cell, "<cell>", "exec")
    except SyntaxError:  # a name that is a parameter and global, a walrus over a loop's variable
        return None


@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
def test_what_a_cell_really_reads_binds_and_deletes_was_said(seed):
    writer = programs.Writer(random.Random(seed))
    made = live(programs.BASE)
    for code in filter(None, (compiled(writer.block()) for _ in range(writer.random.randint(0, 2)))):
        programs.Watch(made).run(code)
    cell = writer.block()
    code = compiled(cell)
    if code is None:
        return
    found = touches_of(ast.parse(cell), made)
    existed = {*made}
    watch = programs.Watch(made)
    watch.run(code)
    assert watch.read - {*found.reads} == set(), cell
    assert watch.bound - {*found.binds} == set(), cell
    assert watch.deleted - {*found.deletes} == set(), cell
    assert (watch.loaded & existed) - found.touched == set(), cell
