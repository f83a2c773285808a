"""Random cells over variables that share: a checkout to any point gives what the oracle saw there.

Live, and after a restart; and what ran after that point, runs again to the same end. By hand, longer:
``python -m tests.jupyter.test_capture_properties 5000``.
"""

from __future__ import annotations

import re
import sys
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from kitaru.codecs import memory

from .bench import Album, Bench
from .canonical import canonical

NAMES = "abcdefgh"
BEFORE = """
import numpy as np, pandas as pd, collections, copy, functools, types
from dataclasses import dataclass
class P:
    shared = []
    def __init__(self, x=None): self.x = x
    def add(self, v): self.x = [self.x, v]; P.shared.append(1)
class Q(P):
    __slots__ = ("s",)
    def __init__(self, x): super().__init__(x); self.s = x
@dataclass
class D:
    v: object
    w: int = 0
def mk(o):
    k = [o]
    def g():
        k.append(1); return o
    return g
def mut(o):
    try: o.append(5)
    except Exception: pass
class M1:
    def __enter__(s): return s
    def __exit__(s, *a): return True
"""
# Templates over X and Y, variables, and N, a small number.
DATA = [
    "X=[]", "X={}", "X=[N,Y]", 'X={"k":Y,"n":N}', "X=(N,Y)", "X=Y", "X[0]=N", "X[0]=Y", 'X["k"]=Y', 'X["n"]=N',
    "X.append(N)", "X.append(Y)", "X+=1", "X+=[N]", "X=list(X)", "X=dict(X)", 'X["k"]=list(X["k"])', "X.clear()",
    "X[0].append(N)", 'X["k"].append(N)', 'X["k"]["n"]=N', "X[0][0]=N", "X=set()", "X.add(N)", "X=frozenset([N])",
    "X=collections.deque([Y])", "X.appendleft(N)", "X=collections.defaultdict(list)", "X[N].append(Y)",
    "X=collections.OrderedDict(k=Y)", "X=collections.Counter([N])", 'X=bytearray(b"abc")', "X[0]=65", "X=memoryview(X)",
    "X=N", 'X="s"', 'X=float("nan")', 'X="s"*N', "X=range(N)", "X=slice(N,Y)", "X.append(X)", 'X["me"]=X', "X,Y=Y,X",
    "X=copy.copy(Y)", "X=copy.deepcopy(Y)",
    "X=[Y for _ in range(3)]", "X.sort()", "del X", "X=types.SimpleNamespace(u=Y)",
    "X.u=N", "X=iter(Y) if isinstance(Y,(list,tuple)) else 0", "next(X)", "X=X.append", "X(N)", "X=ValueError(Y)",
]  # fmt: skip
ARRAYS = [
    "X=np.arange(N+6.)", 'X=np.zeros((3,4),order="F")', "X=np.zeros((N+2,4))", "X=Y[1:4]", "X=Y.T",
    "X=Y.reshape(-1)[::2]",
    "X=Y.ravel()", "X[:]=N", "X[0]=N", "X.shape=(-1,)", "X.shape=(2,-1)", "X.flags.writeable=False",
    'X=np.frombuffer(Y,"u1") if isinstance(Y,(bytes,bytearray)) else 0', "X=np.array([Y,N,None],dtype=object)",
    "X=np.broadcast_to(np.arange(3.),(2,3))", "X=np.ma.array([1,2,N])", "X[0]=np.ma.masked", "X=X*2", "X=Y[::-1]",
    'X=np.zeros(2,dtype=[("a","i4"),("b","f8")])', 'X["a"]=N',
    "X=np.arange(24.).reshape(2,3,4).transpose(1,2,0).copy('K')",
    "X=np.float32(N)", "X=np.matrix([[1,N]])", "X=Y.view('i8')",
]  # fmt: skip
FRAMES = [
    'X=pd.DataFrame({"p":[1,2,3],"q":list("xyz")})', 'X["r"]=N', 'X.loc[0,"p"]=N', 'X.drop(columns="p",inplace=True)',
    'X.index.name="i"', "X=pd.Series([Y,N],dtype=object)", 'X=Y["p"]', 'X=Y["p"].to_numpy()', "X.iloc[0]=N",
    'X.attrs["z"]=[N]', "X=pd.Series(Y,copy=False)", "X=Y.copy()", 'X=pd.DataFrame({"c":pd.Categorical(list("aba"))})',
    'X=pd.date_range("2020",periods=N)', "X=X[X.p>1]", "X=Y.iloc[1:]",
]  # fmt: skip
OBJECTS = [
    "X=P(Y)", "X=P()", "X=Q(Y)", "X=D(Y)", "X.x=Y", "X.v=Y", "X.x.append(N)", "X.v.append(N)", "X.add(N)", "X.add(Y)",
    "P.shared.append(N)", "P.z=Y", "X=Y.add",
    'X=type("T",(),{"at":Y})', "X.at=N", "X=X()", "X.x=X.__dict__", "X=vars(Y)",
    'X["x"]=N', "X=P.shared", "X.self=X",
]  # fmt: skip
# A class that is defined again while objects of the old one live. Not among the others, which put objects into classes.
AGAIN = [
    "class P:\n  shared=[N]\n  def __init__(self,x=None): self.x=x",
    "class P:\n  shared=[N]\n  def add(self,v): self.x=v",
    "def mk(o):\n  return lambda: [o,N]", "X=P(Y)", "X=P()", "X=Q(Y)", "X.x=Y", "X.add(N)", "P.shared.append(N)",
    "X=[P(),P]",
    "X=mk", "X=mk(Y)", "X=[mk,Y]", "X=P", "P.z=N", "del P", "X=type(X)", "X.shared.append(N)",
]  # fmt: skip
FUNCTIONS = [
    "X=mk(Y)", "X()", "X().append(N)", "X=lambda q=Y: q", "X=lambda: Y", "X().append(3)", "mut(X)",
    "def hh(): X.append(N)",
    "hh()", "def hh2():\n  global X\n  X=[Y]", "hh2()", "X=hh", "X=(lambda z:[z,z])(Y)", "def X(): Y.append(N)",
    "X=functools.partial(Y)", "def X(): return Y()", "X=functools.lru_cache(Y)", "X[0]()", "X=[Y,Y]",
    "class X:\n  def m(s): Y.append(N)\n  def __call__(s): return Y()", "X.m()", "X=property(lambda s:Y)",
]  # fmt: skip
WAYS = [
    'exec("X.append(N)")', 'globals()["X"]=Y', 'vars()["X"]=[Y]', 'eval("Y").append(N)', "for X in [Y,[N]]: pass",
    "[X:=q for q in [Y]]", "with M1() as X: Y.append(N)", "X=Y; X.append(N); 1/0", "1/0", "X=N; Y",
]  # fmt: skip
TEMPLATES = DATA + ARRAYS + FRAMES + OBJECTS + FUNCTIONS + WAYS
STARTS = [
    "",
    'a=[1,[2]]; b={"k":a,"n":1}; c=np.arange(8.); d=P(a); e=pd.DataFrame({"p":[1,2,3],"q":list("xyz")})',
    'a=[]; b=[a,a]; c=mk(a); d={"k":{"n":b}}; e=c',
    'a=np.zeros((3,4),order="F"); b=a.T; c=a[1]; d=np.array([a,1],dtype=object); e=D(d)',
    'a=P(); b=Q(a); c=D(b); a.x=c; d=b.add; e={"k":[c]}',
    "a=np.arange(9000.); b=a[1:3]; c=np.ones(9000); d=[c]; e=P(np.zeros(9000))",  # blobs, which are filled in
]


def filled(template, x, y, n):
    return re.sub(r"\b[XYN]\b", lambda m: {"X": NAMES[x], "Y": NAMES[y], "N": str(n)}[m[0]], template)


def texts(bench):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return canonical(bench.ns, bench.tracker.names())


def difference(got, wanted):
    return "\n".join(
        f"  {name}:\n    wanted {wanted.get(name)}\n    got    {got.get(name)}"
        for name in sorted({*got, *wanted})
        if got.get(name) != wanted.get(name)
    )


def play(cells, start=0, *, run_on=True):
    """Run the cells; then check out every point, live and restarted, and run on from some of them.

    A cell is recorded (True), plain (False), or run by somebody whom nobody sees (None).
    """
    bench, album = Bench(), Album()
    bench.execute(BEFORE)
    bench.execute(STARTS[start])
    wanted, ran = [], []
    for source, recorded in cells:
        if recorded:
            bench.cell(source, album)
        else:
            {False: bench.plain, None: bench.execute}[recorded](source)
        ran.append((source, recorded))
        if recorded:
            wanted.append((texts(bench), len(ran)))
    lost = [album.lost(number) for number in range(len(wanted))]
    order = [*reversed(range(len(wanted))), *range(min(3, len(wanted)))]
    for where in ("live", "restarted"):
        here = bench if where == "live" else Bench()
        for number in order:
            if lost[number]:
                continue
            album.checkout(number, here.tracker)
            got = texts(here)
            assert got == wanted[number][0], (
                f"{where}, checkpoint {number} after {ran[: wanted[number][1]]}:\n{difference(got, wanted[number][0])}"
            )
    # What was restored behaves as what it was. Frames that share memory until one is written have their own then, which
    # nothing but an array that looks into it can tell.
    for number in sorted({0, *order[-1:]}) if wanted and run_on else ():
        if not lost[number] and not any("to_numpy" in source for source, _ in ran):
            album.checkout(number, here.tracker)
            for at, (source, _) in enumerate(ran[wanted[number][1] :], wanted[number][1]):
                here.plain(source)
                then = [n for n, (_, count) in enumerate(wanted) if count == at + 1]
                if then and not lost[then[0]]:
                    got = texts(here)
                    assert got == wanted[then[0]][0], (
                        f"run on from {number} to {then[0]}, {ran}:\n{difference(got, wanted[then[0]][0])}"
                    )
    return len(wanted)


def cells_of(templates):
    name = st.integers(0, 4)
    one = st.builds(filled, st.sampled_from(templates), name, name, st.integers(0, 4))
    return st.lists(st.tuples(one, st.sampled_from([True, True, True, False])), min_size=2, max_size=14)


QUIET = settings(
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.parametrize("kind", ["all", "data", "arrays", "frames", "objects", "functions", "again"])
def test_a_checkout_to_any_point_is_what_was_there(kind):
    run(kind, 50)


def run(kind, examples, *, derandomize=True):
    own = {
        "data": DATA,
        "arrays": ARRAYS,
        "frames": FRAMES,
        "objects": OBJECTS,
        "functions": FUNCTIONS,
        "again": AGAIN,
    }.get(kind, [])
    templates = TEMPLATES if kind == "all" else own * 3 + DATA[:24] + WAYS[:6]

    @settings(QUIET, max_examples=examples, derandomize=derandomize)
    @given(cells_of(templates), st.integers(0, len(STARTS) - 1))
    def one(cells, start):
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore")
            patch.setattr(memory, "_SHORT", 0)  # looks are remembered of short arrays too
            play(cells, start)

    one()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for kind in sys.argv[2:] or ["all", "data", "arrays", "frames", "objects", "functions", "again"]:
        run(kind, count, derandomize=False)
        print(f"{kind}: {count} sequences")
