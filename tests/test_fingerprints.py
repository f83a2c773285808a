"""A body's fingerprint changes with its code and its helpers, and with nothing else."""

from __future__ import annotations

import doctest
import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kitaru import fingerprints
from kitaru.fingerprints import changed, fingerprint, source_of

BODY = '''
import enum, functools, math
from dataclasses import dataclass, field

LIMIT = 3
TOOLS = {"a": 1}
seen = []
count = 0

def make_tags():
    return []

class Colour(enum.Enum):
    RED = 1

@dataclass
class Config:
    size: int = 4
    name: str = "x"
    tags: list = field(default_factory=make_tags)

class Base:
    def shared(self):
        return 1

class Worker(Base):
    FACTOR = 2
    def run(self, x):
        return self.helper(x) * self.FACTOR + super().shared()
    def helper(self, x):
        return x
    def unrelated(self):
        return 9

def inner(x):
    return x * LIMIT

def helper(x, scale=1):
    """What it does."""
    seen.append(x)
    return inner(x) + scale

def unrelated():
    return 1

def body(x):
    global count
    count += 1
    return helper(x) + len(TOOLS) + math.pi

def uses_class(x):
    return Config(x), Colour.RED

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Imports a text as a module; another text under the same name makes another module."""
    made = []

    def make(text, name="own_code", file=None):
        path = tmp_path / (file or f"{name}_{len(made)}.py")
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(loaded)
        made.append(loaded)
        return loaded

    return make


def edit(text, before, after):
    assert before in text
    return text.replace(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def helper(x, scale=1):", "\n\n# why\ndef helper( x , scale = 1 ):"),
        ('"""What it does."""', '"""Something else."""'),
        ('    """What it does."""\n', ""),
        ("def helper(x, scale=1):", "def helper(x: int, scale: float = 1) -> int:"),
        ("return inner(x) + scale", "return (inner(x)\n        + scale)  # so"),
        ("def unrelated():\n    return 1", "def unrelated():\n    return 2"),
        ("seen = []", "seen = [1, 2]"),
        ("count = 0", "count = 17"),
    ],
)
def test_noise_and_unrelated_code_do_not_count(module, before, after):
    first = fingerprint(module(BODY).body)
    assert fingerprint(module(edit(BODY, before, after)).body) == first


@pytest.mark.parametrize(
    ("function", "before", "after", "parts"),
    [
        ("body", "return helper(x) + len", "return helper(x) - len", [".:body"]),
        ("body", "return inner(x) + scale", "return inner(x) - scale", [".:helper"]),
        ("body", "return x * LIMIT", "return x + LIMIT", [".:inner"]),
        ("body", "LIMIT = 3", "LIMIT = 4", [".:LIMIT"]),
        ("body", "LIMIT = 3", "LIMIT = 3.0", [".:LIMIT"]),
        ("body", "LIMIT = 3", "LIMIT = True", [".:LIMIT"]),
        ("body", '{"a": 1}', '{"a": 2}', [".:TOOLS"]),
        ("body", "scale=1", "scale=2", [".:helper"]),
        ("uses_class", "size: int = 4", "size: int = 5", None),
        ("uses_class", "@dataclass\n", "@dataclass(order=True)\n", None),
        ("uses_class", "return []", "return [1]", [".:make_tags"]),
        ("uses_class", "RED = 1", "RED = 2", None),
        ("even", "return n != 0 and", "return n != 1 and", [".:odd"]),
    ],
)
def test_a_change_is_noticed_and_named(module, function, before, after, parts):
    first = fingerprint(getattr(module(BODY), function))
    second = fingerprint(getattr(module(edit(BODY, before, after)), function))
    assert second.digest != first.digest
    found = changed(first.parts, second.parts)
    assert found
    assert parts is None or found == parts


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ("    def helper(self, x):\n        return x", "    def helper(self, x):\n        return -x", True),
        ("FACTOR = 2", "FACTOR = 3", True),
        ("def shared(self):\n        return 1", "def shared(self):\n        return 2", True),
        ("return 9", "return 10", False),
    ],
)
def test_a_method_counts_what_it_reads_from_self(module, before, after, differs):
    first = fingerprint(module(BODY).Worker.run)
    second = fingerprint(module(edit(BODY, before, after)).Worker.run)
    assert (first.digest != second.digest) is differs
    assert fingerprint(module(BODY).Worker().run) == first


def test_a_helper_of_another_own_module_counts_under_any_kind_of_import(module):
    helpers = "RATE = {}\n\ndef clean(x):\n    return x {} RATE\n"
    uses = """
    import own_helpers
    from own_helpers import clean
    def one(x): return own_helpers.clean(x)
    def two(x): return clean(x)
    """
    digests = set()
    for rate, operator in [(1, "+"), (2, "+"), (1, "-")]:
        module(helpers.format(rate, operator), name="own_helpers")
        user = module(uses)
        found = fingerprint(user.one)
        assert set(found.parts) == {".:one", "own_helpers:clean", "own_helpers:RATE"}
        digests |= {found.digest, fingerprint(user.two).digest}
    assert len(digests) == 6


def test_a_global_read_through_its_module_counts(module):
    uses = "import own_config\ndef body(): return own_config.MODEL\n"
    digests = []
    for model in ("'a'", "'b'"):
        module(f"MODEL = {model}", name="own_config")
        digests.append(fingerprint(module(uses).body))
    assert changed(digests[0].parts, digests[1].parts) == ["own_config:MODEL"]


def test_what_is_swapped_between_two_names_is_noticed(module):
    text = "def a(x): return x\ndef b(x): return -x\nf, g = {}\ndef body(x): return f(x), g(x)\n"
    assert fingerprint(module(text.format("a, b")).body) != fingerprint(module(text.format("b, a")).body)


def test_it_stops_at_checkpoints_flows_and_installed_packages(module):
    text = """
    import json, pytest
    class Step:
        __kitaru_boundary__ = True
        def __init__(self, name, function):
            self.name, self.function = name, function
        def __call__(self): return self.function()
    def work(): return {}
    step = Step("work", work)
    STEPS = [step]
    def body(): return step(), STEPS, json.dumps({{}}), pytest.raises
    """
    first, second = fingerprint(module(text.format(1)).body), fingerprint(module(text.format(2)).body)
    assert first == second
    assert set(first.parts) == {".:body", ".:STEPS"}


def test_wrapped_and_partial_helpers_are_followed(module):
    text = """
    import functools, tenacity
    def wrap(function):
        @functools.wraps(function)
        def inner(*args): return function(*args)
        return inner
    @functools.lru_cache
    def cached(x): return x + {0}
    @wrap
    def wrapped(x): return x + {1}
    @tenacity.retry
    def retried(x): return x + {2}
    def plain(x, y): return x + {3}
    part = functools.partial(plain, {4})
    lam = lambda x: x + {5}
    REGISTRY = {{"a": plain}}
    def one(x): return cached(x)
    def two(x): return wrapped(x)
    def three(x): return retried(x)
    def four(x): return part(x)
    def five(x): return lam(x)
    def six(x): return REGISTRY["a"](x, 1)
    """
    base = module(text.format(0, 0, 0, 0, 0, 0))
    for index, names in enumerate([["one"], ["two"], ["three"], ["four", "six"], ["four"], ["five"]]):
        values = [0] * 6
        values[index] = 1
        other = module(text.format(*values))
        differ = [
            name
            for name in ("one", "two", "three", "four", "five", "six")
            if fingerprint(getattr(base, name)).digest != fingerprint(getattr(other, name)).digest
        ]
        assert differ == sorted(names, key=["one", "two", "three", "four", "five", "six"].index)


def test_free_variables_of_the_body_are_arguments_but_functions_in_them_are_code(module):
    text = """
    def plus(x): return x + 1
    def minus(x): return x - 1
    def make(amount, function):
        def body(x): return function(x) * amount
        return body
    """
    own = module(text)
    assert fingerprint(own.make(1, own.plus)) == fingerprint(own.make(2, own.plus))
    assert fingerprint(own.make(1, own.plus)) != fingerprint(own.make(1, own.minus))


def test_what_a_helper_made_by_a_factory_holds_is_code(module):
    text = """
    def make(n):
        def f(x): return x > n
        return f
    large = make({})
    def body(x): return large(x)
    """
    assert fingerprint(module(text.format(1)).body) != fingerprint(module(text.format(2)).body)


def test_a_program_that_runs_does_not_change_its_own_code(module):
    own = module(
        """
        log = []
        cache = {}
        total = 0
        client = None
        class Counter:
            made = 0
        def helper(x):
            global total, client
            total += x
            client = client or object()
            log.append(x)
            cache[x] = x
            Counter.made += 1
            return total
        def body(x): return helper(x) + total + (client is None) + Counter.made
        """
    )
    before = fingerprint(own.body)
    own.body(3)
    assert fingerprint(own.body) == before


def test_a_body_that_was_renamed_or_moved_is_the_same(module):
    one = fingerprint(module("def f(x): return x + 1\n").f)
    two = fingerprint(module("\n\ndef g(x): return x + 1\n", name="elsewhere").g)
    assert one.digest == two.digest


def test_a_file_edited_after_its_import_does_not_stand_for_the_code_that_runs(module, tmp_path):
    own = module("def f(x):\n    return x + 1\n", file="edited.py")
    (tmp_path / "edited.py").write_text("def f(x):\n    return x + 2222\n")
    os.utime(tmp_path / "edited.py", (1, 1))
    assert source_of(own.f) is None
    new = module("def f(x):\n    return x + 2222\n", name="new")
    assert fingerprint(own.f).digest != fingerprint(new.f).digest


def test_code_without_source_counts_by_its_bytecode():
    def made(text):
        scope = {"__name__": "made"}
        exec(textwrap.dedent(text), scope)
        return fingerprint(scope["f"])

    one = made("def f(x):\n    'doc'\n    return [y + 1 for y in x]")
    assert one == made("\n\ndef f(x):\n    'other'\n    return [y + 1 for y in x]")
    assert one.digest != made("def f(x):\n    return [y + 2 for y in x]").digest
    assert made("def f(x): return x in {'a', 'b', 'c'}") == made("def f(x): return x in {'c', 'a', 'b'}")


def test_two_lambdas_on_one_line_are_told_apart(module):
    own = module("one, two = lambda x: x + 1, lambda x: x + 2\n")
    assert fingerprint(own.one).digest != fingerprint(own.two).digest
    assert source_of(own.one) is None


def test_the_source_is_the_definition_with_its_decorators(module):
    own = module(
        """
        import functools
        class A:
            @functools.lru_cache(
                maxsize=3)
            def method(self):
                # why
                return 1
        """
    )
    text = "@functools.lru_cache(\n    maxsize=3)\ndef method(self):\n    # why\n    return 1\n"
    assert source_of(own.A.method) == text
    assert source_of(len) is None
    assert source_of(3) is None


class Hostile:
    def __getattr__(self, name):
        raise AssertionError(name)

    def __getattribute__(self, name):
        raise AssertionError(name)

    def __repr__(self):
        raise AssertionError

    def __eq__(self, other):
        raise AssertionError

    __hash__ = None


def test_odd_objects_never_raise_and_run_no_code(module):
    own = module("THING = None\ndef body(): return THING\n")
    recursive = []
    recursive.extend([recursive, recursive])
    for thing in (
        Hostile(),
        recursive,
        [Hostile()],
        object,
        type("T", (), {}),
        len,
        iter(()),
        sys,
        os.environ,
    ):
        own.THING = thing
        assert len(fingerprint(own.body).digest) == 32
    for body in (len, Hostile(), print, int, "text", None, own):
        assert len(fingerprint(body).digest) == 32


def test_a_huge_global_is_bounded(module):
    own = module("WORDS = list(range(300_000))\nTEXT = 'x' * 1_000_000\ndef body(): return WORDS, TEXT\n")
    began = time.perf_counter()
    fingerprint(own.body)
    assert time.perf_counter() - began < 0.5


SCRIPT = """
import sys, enum
WORDS = frozenset(["b", "a", "c", "d"])
class Kind(enum.Enum):
    A = "a"
class Item:
    size = 3
    def grow(self): return Item()
def helper(x): return x in {"p", "q", "r"} and x in WORDS and Kind.A and Item()
def body(x): return helper(x) or (lambda: x)
if __name__ == "__main__":
    from kitaru.fingerprints import fingerprint
    print(fingerprint(body).digest.hex())
"""


@pytest.mark.process
def test_it_is_equal_in_other_processes_as_a_script_and_as_a_module(module, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    root = str(Path(fingerprints.__file__).parents[1])
    seen = {
        subprocess.run(
            [sys.executable, *options, str(path)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed, options in [("1", []), ("77", ["-X", "importtime"])]
    }
    imported = fingerprint(module(SCRIPT, name="kitaru_script_of_the_test").body)
    assert seen == {imported.digest.hex()}


def test_a_second_fingerprint_of_a_typical_body_takes_about_a_millisecond(module):
    own = module(BODY + "\n".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(200)))
    fingerprint(own.body)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        fingerprint(own.body)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.003  # 0.6 ms on an idle machine


def test_a_cell_of_a_notebook_is_read_from_the_line_cache():
    import linecache

    text = "def cell(x):\n    # why\n    return x + 1\nawait_it = 1\n"
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(keepends=True), "<cell 1>")
    try:
        scope = {"__name__": "__main__"}
        exec(compile(text, "<cell 1>", "exec"), scope)
        assert source_of(scope["cell"]) == "def cell(x):\n    # why\n    return x + 1\n"
    finally:
        del linecache.cache["<cell 1>"]


def test_cells_of_a_shell_are_compared_by_what_was_run_last():
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell.instance()
    try:
        shell.run_cell("LIMIT = 2\ndef helper(x):\n    # note\n    return x * LIMIT")
        shell.run_cell("import asyncio\nawait asyncio.sleep(0)\ndef body(x):\n    return helper(x)")
        names = shell.user_ns
        assert source_of(names["helper"]) == "def helper(x):\n    # note\n    return x * LIMIT\n"
        first = fingerprint(names["body"])
        shell.run_cell("def helper(x):\n    return x * LIMIT  # other note")
        assert fingerprint(names["body"]) == first
        shell.run_cell("def helper(x):\n    return x - LIMIT")
        assert changed(first.parts, fingerprint(names["body"]).parts) == [".:helper"]
    finally:
        shells.InteractiveShell.clear_instance()


def test_the_examples_run():
    assert doctest.testmod(fingerprints).failed == 0


SEEN: list[int] = []
TABLE = {"a": 1}


def notes_what_it_sees(n: int) -> int:
    SEEN.append(n)
    return n + TABLE["a"]


def test_a_container_that_the_module_changes_as_it_runs_is_no_code() -> None:
    before = fingerprint(notes_what_it_sees)
    notes_what_it_sees(1)
    assert fingerprint(notes_what_it_sees) == before
    TABLE["a"] = 2
    try:
        assert changed(before.parts, fingerprint(notes_what_it_sees).parts) == [".:TABLE"]
    finally:
        TABLE["a"] = 1


def test_a_log_of_data_that_has_grown_is_not_looked_through(module, monkeypatch):
    own = module("LOG = []\ndef note(x): LOG.append(x)\ndef f(x):\n    note(x)\n    return x\n")
    looked = []
    monkeypatch.setattr(
        fingerprints, "_has_code", lambda value, real=fingerprints._has_code: looked.append(1) or real(value)
    )
    before = fingerprint(own.f)
    few = len(looked)
    own.LOG.extend({"n": i} for i in range(9_000))
    assert fingerprint(own.f) == before
    assert len(looked) < few + 100
