"""A gallery of cells: each with exactly what was read, bound, changed in place, shared, deleted, and cannot be kept."""

from __future__ import annotations

import pytest

from .bench import Bench

BEFORE = """
import collections, contextlib, copy, enum, functools, io, logging, threading, types
import numpy as np, pandas as pd
from dataclasses import dataclass, field

x, n, w = 1, 2, 0
L, M = [1, [2]], {"k": [1]}
s, q = {1, 2}, collections.deque([1], maxlen=3)
ba = bytearray(b"abc")
A, F = np.arange(6.0), np.zeros((3, 4), order="F")
O = np.array([[1], None], dtype=object)
df = pd.DataFrame({"p": [1, 2, 3], "t": list("xyz")})
class P:
    shared = []
    def __init__(self, v=None): self.v = v
    def put(self, v): self.v = v
    def count(self):
        global w
        w += 1
    @property
    def twice(self): return n * 2
    def note(self): P.shared.append(1)
@dataclass
class D:
    v: object
    w: int = 0
class Color(enum.Enum):
    RED = 1
o, d = P(), D(1)
def f(): return x
def g(): return f()
def put(): L.append(x)
def bind():
    global w
    w = n
def counter():
    k = []
    def one(): k.append(1)
    return one
c = counter()
gen = (i for i in [1, 2, 3])
lock = threading.Lock()
"""

ALL = "(everything)"  # what wild code may have read


def case(cell, *, setup="", reads="", bound="", changed="", deleted="", shared=(), lost="", held="", error=None):
    return pytest.param(
        setup,
        cell,
        [reads, bound, changed, deleted, held],
        shared,
        lost,
        error,
        id=(cell if not setup else f"{setup}; {cell}")[:70],
    )


GALLERY = [
    # ---- names
    case("y = x + 1", reads="x", bound="y"),
    case("x = 5", bound="x"),
    case("x = 1", held="x"),
    case("x += 1", reads="x", bound="x"),
    case("y = z2 = n", reads="n", bound="y z2"),
    case("a, (b, *e) = L[0], [1, 2, 3]", reads="L", bound="a b e"),
    case("del n", deleted="n"),
    case("for i in range(n): pass", reads="n", bound="i"),
    case("y = [i * x for i in L]", reads="x L", bound="y"),
    case("(y := x)", reads="x", bound="y"),
    case("import math", bound="math"),
    case("from math import tau as t", bound="t"),
    case("if x > 5:\n    y = 1\nelse:\n    z2 = 1", reads="x", bound="z2"),
    case("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    y = x", reads="x", bound="y"),
    case("with contextlib.nullcontext(x) as y: pass", reads="contextlib x", bound="y"),
    case("match x:\n    case 1:\n        y = n", reads="x n", bound="y"),
    case("y = f'{x!r:>{n}}'", reads="x n", bound="y"),
    case("x", reads="x"),
    case("pass"),
    # ---- containers changed in place
    case("L.append(3)", reads="L", changed="L"),
    case("L[1].append(3)", reads="L", changed="L"),
    case("L[0] = 1", reads="L"),
    case("M['k'].append(2)", reads="M", changed="M"),
    case("M['new'] = x", reads="M x", changed="M"),
    case("M |= {'z': 1}", reads="M", bound="M"),
    case("s.add(3)", reads="s", changed="s"),
    case("s.add(1)", reads="s"),
    case("q.append(2)", reads="q", changed="q"),
    case("ba[0] = 65", reads="ba", changed="ba"),
    case("L.sort(key=str); L.reverse(); L.reverse()", reads="L"),
    case("print(len(L))", reads="L"),
    # ---- sharing
    case("y = L", reads="L", bound="y", shared=["L y"]),
    case("y = [L, x]", reads="L x", bound="y", shared=["L y"]),
    case("y = (L, 1)", reads="L", bound="y", shared=["L y"]),
    case("y = list(L)", reads="L", bound="y", shared=["L y"]),
    case("y = copy.deepcopy(L)", reads="copy L", bound="y"),
    case("y.append(3)", setup="y = L", reads="y", changed="L y", shared=["L y"]),
    case("y['a'].append(3)", setup="y = {'a': L}", reads="y", changed="L y", shared=["L y"]),
    case("y = 1", setup="y = L", bound="y"),
    case("del y", setup="y = L", deleted="y"),
    case("del L", setup="y = L", deleted="L"),
    case("L = L + [1]", setup="y = L", reads="L", bound="L", shared=["L y"]),
    case("L, M = M, L", reads="L M", bound="L M"),
    case("y = x; z2 = x", reads="x", bound="y z2"),
    case("y = (1, 2); z2 = y", bound="y z2"),
    case("y = [0] * 3; y.append(y)", bound="y"),
    case("_[0] = 9", setup="_ = L", changed="L"),
    case("Out[1].append(3)", setup="Out = {1: L}", changed="L"),
    # ---- arrays
    case("A.sum()", reads="A"),
    case("A[0] = 7", reads="A", changed="A"),
    case("A[0] = 0", reads="A"),
    case("A *= 2", reads="A", bound="A"),
    case("y = A[1:3]", reads="A", bound="y", shared=["A y"]),
    case("y[0] = 9", setup="y = A[1:3]", reads="y", changed="A y", shared=["A y"]),
    case("A[5] = 9", setup="y = A[1:3]", reads="A", changed="A y", shared=["A y"]),
    case("y = A.copy()", reads="A", bound="y"),
    case("y = F.T", reads="F", bound="y", shared=["F y"]),
    case("A.flags.writeable = False", reads="A", changed="A"),
    case("A.shape = (2, 3)", reads="A", changed="A"),
    case("O[0].append(2)", reads="O", changed="O"),
    case("y = O[0]", reads="O", bound="y", shared=["O y"]),
    case("y = np.frombuffer(ba, 'u1')", reads="np ba", bound="y", shared=["ba y"]),
    case("ba[0] = 65", setup="y = np.frombuffer(ba, 'u1')", reads="ba", changed="ba y", shared=["ba y"]),
    case("y = memoryview(ba)", reads="ba", bound="y", shared=["ba y"]),
    # ---- frames
    case("df['p'].sum()", reads="df"),
    case("df['new'] = x", reads="df x", changed="df"),
    case("df.loc[0, 'p'] = 9", reads="df", changed="df"),
    case("df.index.name = 'i'", reads="df", changed="df"),
    case("df.drop(columns='p', inplace=True)", reads="df", changed="df"),
    case("df.attrs['note'] = L", reads="df L", changed="df", shared=["L df"]),
    case("y = df['p']", reads="df", bound="y", shared=["df y"]),
    case("y = df[df.p > 1]", reads="df", bound="y"),
    case("y = pd.Series([L, 1], dtype=object)", reads="pd L", bound="y", shared=["L y"]),
    case("L.append(1)", setup="y = pd.Series([L, 1], dtype=object)", reads="L", changed="L y", shared=["L y"]),
    case("y = df.query('p > @n')", reads="df n", bound="y"),
    # ---- objects and classes
    case("o.v = 1", reads="P n o w", held="w", changed="o"),
    case("o.v = L", reads="L P n o w", held="w", changed="o", shared=["L o"]),
    case("o.put(2)", reads="P n o w", held="w", changed="o"),
    case("o.count()", reads="P n o w", bound="w"),
    case("o.twice", reads="P n o w", held="w"),
    case("o.note()", reads="P n o w", held="w", changed="P"),
    case("P.shared.append(1)", reads="P n w", held="w", changed="P"),
    case("o.shared.append(1)", reads="P n o w", held="w", changed="P"),
    case("P.z = 1", reads="P n w", held="w", changed="P"),
    case("y = P(3)", reads="P n w", held="w", bound="y"),
    case("y = o.put", reads="P n o w", held="w", bound="y", shared=["o y"]),
    case("y(5)", setup="y = o.put", reads="P n w y", held="w", changed="o y", shared=["o y"]),
    case("y = vars(o)", reads="P n o w", held="w", bound="y", shared=["o y"]),
    case("d.v = M", reads="d M", changed="d", shared=["M d"]),
    case("y = Color.RED", reads="Color", bound="y"),
    case("class P:\n    pass", bound="P"),
    case("class R(P):\n    k = n", reads="P n w", held="w", bound="R"),
    # ---- functions
    case("f()", reads="f x"),
    case("g()", reads="g f x"),
    case("put()", reads="put L x", changed="L"),
    case("bind()", reads="bind n", bound="w"),
    case("c()", reads="c", changed="c"),
    case("y = lambda: x", reads="x", bound="y"),
    case("y = lambda a=L: a", reads="L", bound="y", shared=["L y"]),
    case("y = functools.partial(put)", reads="L functools put x", bound="y"),
    case("y()", setup="y = functools.partial(put)", reads="y L x", changed="L"),
    case("y = [put, 1]", reads="L put x", bound="y"),
    case("y = L.append", reads="L", bound="y", shared=["L y"]),
    case("def h(): return n", bound="h"),
    case("list(map(lambda i: L.append(i), [1]))", reads="L", changed="L"),
    case("sorted([2, 1], key=lambda i: n)", reads="n"),
    case("f.calls = 1", reads="f x", changed="f"),
    # ---- ways around the names
    case("exec('L.append(3)')", lost="gen lock", reads=ALL, changed="L"),
    case("globals()['y'] = 1", lost="gen lock", reads=ALL, bound="y"),
    case("eval('L').append(3)", lost="gen lock", reads=ALL, changed="L"),
    # ---- failures
    case("L.append(1); 1 / 0; y = 1", reads="L", changed="L", error=ZeroDivisionError),
    case("y = 1; undefined", bound="y", error=NameError),
    # ---- what cannot be kept
    case("next(gen)", reads="gen", changed="gen", lost="gen"),
    case("y = (i for i in L)", reads="L", bound="y", shared=["L y"], lost="y"),
    case("y = threading.Lock()", reads="threading", bound="y", lost="y"),
    case("lock.acquire()", reads="lock", lost="lock"),
    case("o.lock = lock", reads="P lock n o w", held="w", changed="o", shared=["lock o"], lost="lock o"),
    case("y = io.TextIOWrapper(io.BytesIO())", reads="io", bound="y", lost="y"),
    case("y = logging.getLogger('a')", reads="logging", bound="y"),
    case("y = iter(L)", reads="L", bound="y", shared=["L y"]),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, for a shape that is set
@pytest.mark.parametrize(("setup", "cell", "names", "shared", "lost", "error"), GALLERY)
def test_what_a_cell_did(setup, cell, names, shared, lost, error):
    bench = Bench()
    bench.execute(BEFORE)
    bench.execute(setup)
    had = bench.tracker.names()
    changes = bench.cell(cell)
    assert type(bench.error) is (error or type(None)), bench.error
    reads = {ALL} if changes.reads == had else changes.reads
    found = [reads, changes.bound, changes.changed, changes.deleted, changes.held]
    assert [" ".join(sorted(group)) for group in found] == [" ".join(sorted(group.split())) for group in names]
    assert [" ".join(group) for group in changes.shared] == list(shared)
    assert " ".join(changes.unrestorable) == lost


def test_the_gallery_is_large():
    assert len(GALLERY) > 60
