"""What comes back after a restart: each kind of object, by way of the store, in a namespace of its own."""

# ruff: noqa: E501 - a cell and what holds after it are one line

from __future__ import annotations

import linecache

import pytest

from kitaru.errors import CorruptionError
from kitaru_jupyter.capture.documents import code_in, document, is_document, restored, unrestorable_in
from kitaru_jupyter.capture.unrestorable import NotRestorable, NotRestorableError

from .bench import Album, Bench
from .canonical import canonical

BEFORE = """
import abc, array, collections, contextlib, datetime as dt, decimal, enum, fractions, functools, io, itertools, logging
import operator, pathlib, random, re, threading, types, typing, uuid
import numpy as np, pandas as pd
"""


def again(*cells):
    """The namespaces of a notebook after these cells, and of another one that has restored it."""
    bench, album, other = Bench(), Album(), Bench()
    bench.execute(BEFORE)
    for cell in cells:
        bench.cell(cell)
        assert bench.error is None, bench.error
    album.keep(bench.tracker)
    album.checkout(0, other.tracker)
    assert not album.lost(0), album.lost(0)
    return bench, other


# A cell, and an expression that must be true before and after the restart.
KINDS = [
    ("a = [1]; b = {'a': a, 'again': [a]}", "b['a'] is a and b['again'][0] is a"),
    ("a = []; a.append(a)", "a[0] is a"),
    ("a = {'$': 1, 'kitaru.document': a} if 0 else {'$': 1, 'kitaru.document': 2}", "a == {'$': 1, 'kitaru.document': 2}"),
    ("a = {(1, 2): [3], None: 4, 2.5: {1, 2}}; b = a", "b is a and a[1, 2] == [3] and a[2.5] == {1, 2}"),
    ("x = []\nfor i in range(3000): x = [x, i]\ny = x", "y is x and x[1] == 2999 and x[0][0][1] == 2997"),
    ("a = (x := [1], x)", "a[0] is a[1]"),
    ("a = float('nan'), -0.0, 2**70, b'x', 1j, ..., NotImplemented", "str(a[1]) == '-0.0' and a[2] == 2**70 and a[5] is ..."),
    ("a = [dt.datetime(2020, 1, 1), decimal.Decimal('1.10'), uuid.UUID(int=3), pathlib.Path('x'), fractions.Fraction(1, 3)]\nb = [a]", "b[0] is a and str(a[1]) == '1.10' and a[3].name == 'x'"),
    ("a = collections.Counter('aab'); b = collections.defaultdict(list, k=[1]); c = collections.ChainMap({'x': 1}, {'y': 2})", "a['a'] == 2 and b['new'] == [] and c['y'] == 2"),
    ("a = array.array('d', [1, 2]); b = re.compile('a+'); c = operator.itemgetter(1)", "a[1] == 2 and b.match('aa') and c([5, 6]) == 6"),
    ("a = random.Random(1); a.random(); rng = np.random.default_rng(1); rng.random()", "round(a.random(), 3) == 0.847 and round(rng.random(), 3) == 0.95"),
    ("a = types.SimpleNamespace(x=[1]); b = a.x; c = types.MappingProxyType({'k': b})", "a.x is b and c['k'] is b"),
    ("a = iter([1, 2, 3]); next(a); b = itertools.count(5)", "next(a) == 2 and next(b) == 5"),
    ("a = ValueError('x', [1]); b = a.args[1]", "a.args[1] is b and type(a) is ValueError"),
    ("log = logging.getLogger('here')", "log is logging.getLogger('here')"),
    ("import os.path as p, math", "p.join('a', 'b') and math.tau"),
    ("a = np.add; b = len; c = np.float32; d = str.upper; e = int.from_bytes", "a(1, 2) == 3 and b([1]) == 1 and d('x') == 'X' and e(b'a', 'big') == 97"),
    # ---- functions
    ("n = 2\ndef f(x, y=[1], *, z={'k': 1}) -> int:\n    'doc'\n    return x + n + len(y)", "f(1) == 4 and f.__doc__ == 'doc' and f.__annotations__ == {'return': int}"),
    ("def outer(v):\n    def inner():\n        return v\n    return inner\na = [1]; f = outer(a)", "f() is a"),
    ("fs = [lambda x: x + 1, lambda x: x + 2, lambda x: (lambda y: x * y)]", "fs[0](1) == 2 and fs[1](1) == 3 and fs[2](3)(4) == 12"),
    ("async def go():\n    return 1\ndef gen():\n    yield 1", "list(gen()) == [1] and go.__code__.co_flags & 128"),
    ("@functools.lru_cache(maxsize=3)\ndef fib(k):\n    return k if k < 2 else fib(k - 1) + fib(k - 2)\nfib(5)", "fib(10) == 55 and fib.cache_parameters()['maxsize'] == 3"),
    ("@contextlib.contextmanager\ndef cm(x):\n    yield x", "cm(3).__enter__() == 3"),
    ("@functools.singledispatch\ndef sd(x): return 'any'\n@sd.register\ndef _int(x: int): return 'int'", "sd('') == 'any'"),
    ("def deco(fn):\n    @functools.wraps(fn)\n    def wrapper(*a):\n        wrapper.calls += 1\n        return fn(*a)\n    wrapper.calls = 0\n    return wrapper\n@deco\ndef f(x): return x\nf(1)", "f(2) == 2 and f.calls == 2 and f.__wrapped__(3) == 3"),
    ("p = functools.partial(lambda a, b: (a, b), 1)", "p(2) == (1, 2)"),
    ("def f():\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n\nf()", "f() == 2"),
    ("a = [3, 1]; m = a.sort; m()", "m() is None and a == [1, 3]"),
    # ---- classes
    ("class P:\n    total = 0\n    def __init__(self, x): self.x = x; P.total += 1\n    @classmethod\n    def make(cls): return cls(9)\n    @staticmethod\n    def s(): return 's'\n    @property\n    def double(self): return self.x * 2\n    @functools.cached_property\n    def once(self): return [self.x]\np = P(2); q = P.make()", "type(p) is P and q.x == 9 and p.double == 4 and P.total == 2 and P.s() == 's' and p.once is p.once"),
    ("class A: pass\nclass B(A):\n    def who(self): return super().__repr__()[:3]\nb = B()", "isinstance(b, A) and b.who() and B.__mro__[1] is A"),
    ("class S:\n    __slots__ = ('x', 'y')\n    def __init__(self): self.x = [1]\ns = S(); x = s.x", "s.x is x and not hasattr(s, '__dict__')"),
    ("from dataclasses import dataclass, field\n@dataclass(frozen=True, order=True)\nclass D:\n    x: int\n    y: list = field(default_factory=list)\nd = D(1); y = d.y", "d.y is y and D(1) == D(1) and D(0) < d and hash(D)"),
    ("from dataclasses import dataclass\n@dataclass(slots=True)\nclass D:\n    x: int = 3\nd = D(); e = [d]", "e[0] is d and d.x == 3 and D() == d"),
    ("class C(enum.Enum):\n    RED = 1\n    BLUE = 'b'\n    @property\n    def low(self): return self.name.lower()\nc = C.RED; cs = {C.RED: [1]}", "c is C.RED and cs[C.RED] == [1] and C('b').low == 'blue'"),
    ("class F(enum.Flag):\n    A = 1\n    B = 2\nf = [F.A | F.B]", "f[0] == F.A | F.B"),
    ("class N(typing.NamedTuple):\n    x: int\n    y: list = []\nn = N(1, [2]); y = n.y", "n.y is y and N(3).x == 3"),
    ("Pt = collections.namedtuple('Pt', 'x y', defaults=[5])\np = Pt([1]); x = p.x", "p.x is x and p.y == 5 and Pt(1, 2)._replace(x=3) == (3, 2)"),
    ("class L(list):\n    def first(self): return self[0]\nl = L([1]); l.note = [2]; n = l.note", "l.first() == 1 and l.note is n and type(l) is L"),
    ("class E(Exception):\n    def __init__(self, code): super().__init__(code); self.code = code\ne = E(3)", "e.code == 3 and isinstance(e, E)"),
    ("class Ab(abc.ABC):\n    @abc.abstractmethod\n    def go(self): ...\nclass Im(Ab):\n    def go(self): return 1\ni = Im()", "i.go() == 1 and isinstance(i, Ab)"),
    ("class Meta(type):\n    def __call__(cls, *a): return super().__call__(*a)\nclass M(metaclass=Meta):\n    k = 1\nm = M()", "type(M) is Meta and m.k == 1"),
    ("T = type('T', (), {'at': [1], '__slots__': ('z',)}); t = T(); t.z = 3", "T.at == [1] and t.z == 3"),
    ("def make():\n    base = 3\n    class In:\n        def v(self): return base\n    return In\nInner = make(); i = Inner()", "i.v() == 3 and type(i) is Inner"),
    ("class P: pass\no = P(); o.x = 1\nclass P:\n    new = 1", "type(o) is not P and type(o).__name__ == 'P' and P.new == 1 and o.x == 1"),
    ("class Node:\n    def __init__(self, v): self.v, self.next = v, None\nhead = at = Node(0)\nfor i in range(2000):\n    at.next = Node(i); at = at.next", "at.v == 1999 and head.next.next.v == 1"),
    ("from pydantic import BaseModel\nclass U(BaseModel):\n    name: str\n    tags: list[str] = []\nu = U(name='a'); t = u.tags", "u == U(name='a') and u.tags is t and U.model_validate({'name': 'b'}).name == 'b'"),
    ("import attrs\n@attrs.define\nclass At:\n    x: int\n    y: list = attrs.field(factory=list)\na = At(1); y = a.y", "a.y is y and At(1) == At(1)"),
    ("T = typing.TypeVar('T')\nclass G(typing.Generic[T]):\n    def __init__(s, v): s.v = v\ng = G([1]); al = G[int]", "g.v == [1] and al.__origin__ is G and G.__parameters__ == (T,)"),
    ("import weakref\nclass K: pass\nk = K(); w = weakref.WeakKeyDictionary(); w[k] = [1]; x = w[k]", "w[k] is x"),
    ("class P:\n    def __setattr__(s, k, v): raise TypeError('frozen')\n    def __init__(s): s.__dict__['a'] = [1]\np = P(); a = p.a", "p.a is a"),
    ("class P:\n    def __getstate__(s): return {'y': s.x}\n    def __setstate__(s, st): s.x = st['y']\n    def __init__(s): s.x = [1]\np = P(); x = p.x", "p.x is x"),
    ("x = 5\nclass W:\n    k = x\n    def m(self, z=[x]): return z\nx = 7\nw = W()", "w.k == 5 and w.m() == [5] and x == 7"),
    # ---- arrays and frames
    ("a = np.arange(12).reshape(3, 4); w = np.lib.stride_tricks.sliding_window_view(a, 2, axis=1)", "np.shares_memory(a, w) and w.shape == (3, 3, 2)"),
    ("a = np.array([[[1], 2], [3, None]], dtype=object); c = a[:, 0]; d = a.T; e = a.reshape(4)[::2]; f = a[None, ..., 0]", "c[0] is a[0, 0] and np.shares_memory(a, d) and np.shares_memory(a, e) and np.shares_memory(a, f)"),
    ("import polars as pl\np = pl.DataFrame({'a': [1, 2]}); b = [p]", "b[0] is p and p['a'].sum() == 3"),
    ("a = np.arange(24.).reshape(2, 3, 4); v = a[:, 1]; t = a.T; r = a[::-1, ::2]", "np.shares_memory(a, v) and np.shares_memory(a, t) and np.shares_memory(a, r)"),
    ("m = np.ma.array([1, 2], mask=[0, 1]); x = np.matrix([[1]]); s = np.zeros(2, dtype=[('a', 'i4'), ('b', 'O')])", "m.mask.tolist() == [False, True] and type(x) is np.matrix and s['b'][0] == 0"),
    ("class Sub(np.ndarray): pass\ns = np.arange(3).view(Sub); s.unit = ['m']; u = s.unit", "type(s) is Sub and s.unit is u and s.sum() == 3"),
    ("a = np.arange(3); a.flags.writeable = False; b = a.astype('>i4')", "not a.flags.writeable and b.dtype.str == '>i4'"),
    ("df = pd.DataFrame({'a': [1, 2], 'c': pd.Categorical(['x', 'y']), 't': pd.date_range('2020', periods=2, tz='UTC'), 'i': pd.array([1, None], dtype='Int64'), 'o': [[1], {'k': 2}]}); s = df['a']; same = df; o = df['o']", "same is df and df['o'][0] == [1] and df['i'].isna().tolist() == [False, True] and df['c'].dtype == 'category' and s.tolist() == [1, 2]"),
    ("df = pd.DataFrame({'a': [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 'x'), (2, 'y')])); box = [df]; g = df.iloc[:1]", "box[0] is df and df.loc[(2, 'y'), 'a'] == 2 and g.shape == (1, 1)"),
    ("a = np.arange(4.); s = pd.Series(a, copy=False); a[0] = 9", "s.iloc[0] == 9"),
    ("e = pd.Series([], dtype='object'); i = pd.interval_range(0, 2); p = pd.period_range('2020', periods=2, freq='M'); z = [i, p]", "len(e) == 0 and z[0] is i and z[1] is p"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(("cell", "holds"), KINDS, ids=[cell[:60] for cell, _ in KINDS])
def test_it_comes_back(cell, holds):
    bench, other = again(cell)
    assert eval(holds, other.ns)
    assert eval(holds, bench.ns), "the same question of the original"
    assert bench.tracker.names() == other.tracker.names()


LOST = [
    ("a = (i for i in [1]); b = 1", "a", "generator"),
    ("a = threading.Lock()", "a", "lock"),
    ("class O: pass\no = O(); o.lock = threading.RLock(); o.x = [1]", "o.lock", "lock"),
    ("a = {'f': io.TextIOWrapper(io.BytesIO()), 'x': 1}", "a['f']", "file"),
    ("class Bad:\n    def __reduce__(self): raise RuntimeError('not me')\na = [Bad()]", "a[0]", "not me"),
    ("a = eval('lambda: 1')", "a", "source"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "place", "why"), LOST, ids=[place for _, place, _ in LOST])
def test_what_cannot_be_kept_says_so_where_it_stood_and_when_it_is_used(cell, place, why):
    bench, album, other = Bench(), Album(), Bench()
    bench.execute(BEFORE)
    changes = bench.cell(cell)
    assert list(changes.unrestorable) == [place[0]]
    album.keep(bench.tracker)
    assert list(album.lost(0)) == [place]
    assert why in album.lost(0)[place]
    album.checkout(0, other.tracker)
    gone = eval(place, other.ns)
    assert type(gone) is NotRestorable
    assert place in repr(gone)
    with pytest.raises(NotRestorableError, match="Run the cell"):
        gone()
    with pytest.raises(NotRestorableError):
        gone.anything


def test_a_document_says_what_restoring_it_would_run_and_plain_data_needs_no_trust():
    namespace = {"__name__": "__main__", "a": [1]}
    namespace["b"] = {"a": namespace["a"]}
    plain = document(["a", "b"], namespace)
    assert is_document(plain)
    assert not code_in(plain).needs_trust
    bench = Bench()
    bench.execute("import os\nclass P:\n    x = 1\np = [P(), os.getcwd]")
    made = document(["P", "p"], bench.ns)
    assert code_in(made).needs_trust
    assert "posix:getcwd" in code_in(made).imports
    assert "class P" in code_in(made).sources[0]
    assert not code_in([1]).needs_trust


def test_looking_runs_nothing_and_a_damaged_document_changes_nothing():
    bad = {"kitaru.document": 1, "variables": {"a": {"$": "import", "name": "no_such_module_here:x"}}}
    assert code_in(bad).imports == ("no_such_module_here:x",)
    assert unrestorable_in(bad) == {}
    bench = Bench()
    bench.execute("keep = 1")
    for damage in (
        {"kitaru.document": 1, "variables": {"a": {"$": "what"}}},
        {"kitaru.document": 1, "variables": {"a": {"$": "view"}}},
        {"kitaru.document": 2, "variables": {"a": 1}},
        {"kitaru.document": 1, "variables": {"b": 1}},
        {"kitaru.document": 1},
    ):
        with pytest.raises(CorruptionError):
            bench.tracker.restore({("a",): damage}, ["keep"])
        assert bench.ns["keep"] == 1
        assert "a" not in bench.ns
    made = restored({("a",): bad}, bench.ns)
    assert type(made.variables["a"]) is NotRestorable
    assert list(made.lost) == ["a"]


def test_an_array_in_memory_that_cannot_be_kept_comes_back_by_its_content():
    _, other = again("import mmap\na = np.asarray(memoryview(mmap.mmap(-1, 8)))\na[:] = 7")
    assert other.ns["a"].tolist() == [7] * 8


def test_what_is_made_from_something_lost_is_lost_and_the_rest_comes_back():
    bench = Bench()
    bench.execute("import mmap\na = [1, memoryview(mmap.mmap(-1, 8)), 2]\nb = [3]")
    made = restored({("a", "b"): document(["a", "b"], bench.ns)}, {})
    first, gone, last = made.variables["a"]
    assert (first, last, made.variables["b"]) == (1, 2, [3])
    assert type(gone) is NotRestorable
    assert list(made.lost) == ["a"]


def test_the_same_variables_give_the_same_document_in_another_process():
    one, two = again("a = [1]; b = [a, {2: a}]; c = {3, 'x'}\ndef f(x=a): return x")
    assert canonical(one.ns, one.tracker.names()) == canonical(two.ns, two.tracker.names())
    assert document(["a", "b", "f"], one.ns) == document(["a", "b", "f"], two.ns)


def test_restored_code_shows_its_lines_in_tracebacks():
    _, other = again("def f():\n    return 1 / 0")
    assert "return 1 / 0" in "".join(linecache.getlines(other.ns["f"].__code__.co_filename))
