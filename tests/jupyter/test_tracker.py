"""What the tracker promises: what is unchanged is not looked at, and nothing is taken for unchanged in vain."""

from __future__ import annotations

import ast
import builtins
import gc
import weakref

import numpy as np
import pytest

import kitaru
from kitaru_jupyter.capture import touches_of, tracker as room
from kitaru_jupyter.capture.plain import plain_value
from kitaru_jupyter.capture.reach import reach
from kitaru_jupyter.capture.unrestorable import NotRestorable

from .bench import Album, Bench


@pytest.fixture
def bench():
    bench = Bench()
    bench.cell("import numpy as np\na = [1]; b = {'a': a}; c = np.arange(4.0); n = 1")
    for group in bench.tracker.pending():
        bench.tracker.record(group, f"token of {group}")
    return bench


@pytest.fixture
def looked_at(monkeypatch):
    """The groups that were looked at since."""
    seen, real = [], room.fingerprint

    def noted(names, namespace, trees=()):
        seen.append(tuple(names))
        return real(names, namespace, trees)

    monkeypatch.setattr(room, "fingerprint", noted)
    return seen


def test_a_cell_costs_what_it_touches_however_much_there_is(bench, looked_at):
    for i in range(300):
        bench.ns[f"v{i}"] = [i]
    bench.cell("pass")
    del looked_at[:]
    bench.cell("n += 1")
    assert looked_at == [("n",)]


def test_what_ipython_keeps_of_each_cell_costs_the_next_ones_nothing():
    """IPython puts the text of each cell into the namespace, as `_i1`, `_i2` and so on."""

    class Namespace(dict):
        asked = ()

        def get(self, name, default=None):
            self.asked = (*self.asked, name)
            return super().get(name, default)

        def values(self):
            raise AssertionError("all of it was walked over")

    namespace = Namespace(a=[1], n=1)
    tracker = room.Tracker(namespace)
    for i in range(50):
        namespace[f"_i{i}"] = "n += 1"
        namespace["n"] += 1
        tracker.settle()
    namespace.asked = ()
    assert tracker.settle() == set()
    assert set(namespace.asked) == {"a", "n"}
    namespace["_i50"], namespace["late"] = "late = 3", 3
    assert tracker.names() == {"a", "n", "late"}
    assert tracker.settle() == {"late"}
    del namespace["_i7"], namespace["a"]
    assert tracker.names() == {"n", "late"}
    assert tracker.settle() == {"a"}
    namespace["a"] = [1]
    assert tracker.settle() == {"a"}


def test_what_was_clean_is_looked_at_after_the_cell_only_and_what_was_dirty_before_it_too(bench, looked_at):
    bench.cell("a.append(2)")
    assert looked_at == [("a", "b")]
    del looked_at[:]
    bench.plain("b['a'].append(3)")
    assert looked_at == []
    changes = bench.cell("len(a)")
    assert looked_at == [("a", "b")] * 2
    assert bench.found.moved == {"a", "b"}
    assert changes.changed == frozenset()


def test_a_token_holds_until_its_group_changes_and_again_once_the_change_is_taken_back(bench):
    group = bench.tracker.group_of("a")
    token = bench.tracker.token(group)
    assert token == "token of ('a', 'b')"
    bench.cell("a.append(2)")
    assert bench.tracker.token(group) is None
    assert bench.tracker.pending() == (group,)
    bench.cell("a.pop()")
    assert bench.tracker.token(group) == token


def test_a_token_does_not_hold_for_what_a_plain_cell_may_have_changed_or_somebody_has_bound(bench):
    bench.plain("a.append(2)")
    assert bench.tracker.token(("a", "b")) is None
    bench.ns["n"] = 2
    assert bench.tracker.token(("n",)) is None
    assert bench.tracker.token(("c",)) is not None
    assert bench.tracker.settle() == {"a", "b", "n"}


def test_a_variable_of_the_same_name_is_not_taken_for_the_one_that_was_recorded(bench):
    bench.cell("del c")
    bench.cell("c = np.arange(4.0) + 1")
    assert bench.tracker.token(("c",)) is None


def test_a_change_behind_the_back_is_found_by_a_verification(bench):
    bench.tracker.namespace["c"][0] = 9  # a library that kept the array
    bench.tracker.namespace["b"]["a"].append(5)
    assert bench.tracker.token(("c",)) is not None
    found = bench.tracker.verify(10)
    assert found.changed == {"a", "b", "c"}
    assert found.unchecked == frozenset()
    assert bench.tracker.token(("c",)) is None


def test_a_verification_always_looks_at_memory_and_says_where_it_stopped(bench):
    bench.ns["c"][0] = 9
    found = bench.tracker.verify(-1)
    assert found.changed == {"c"}
    assert found.unchecked == {"a", "b", "n", "np"}


def test_restoring_leaves_what_is_the_same_untouched():
    bench, album = Bench(), Album()
    bench.cell("import numpy as np\na = [1]; b = {'a': a}; c = np.arange(4.0); n = 1")
    before = album.keep(bench.tracker)
    kept = bench.ns["c"]
    bench.cell("a.append(2); n = 5; new = 1")
    album.keep(bench.tracker)
    album.checkout(before, bench.tracker)
    assert bench.ns["c"] is kept
    assert (bench.ns["a"], bench.ns["n"]) == ([1], 1)
    assert bench.ns["b"]["a"] is bench.ns["a"]
    assert "new" not in bench.ns
    assert bench.tracker.pending() == ()


def test_restoring_keeps_what_was_not_asked_for(bench):
    bench.ns["own"] = own = [1]
    bench.tracker.restore({("n",): 7})
    assert bench.ns["own"] is own
    assert bench.ns["n"] == 7


def test_what_a_generator_gave_is_noticed_though_it_cannot_be_kept(bench):
    bench.cell("g = (i for i in range(3))")
    changes = bench.cell("next(g)")
    assert changes.changed == {"g"}
    assert "generator" in changes.unrestorable["g"]


def test_a_value_too_deep_for_a_fingerprint_counts_as_changed_whenever_it_is_touched(bench):
    bench.cell("class N:\n    pass\nhead = at = N()\nfor _ in range(5000):\n    at.next = N(); at = at.next")
    assert "head" in bench.cell("head").changed
    assert type(bench.tracker.value_of(bench.tracker.group_of("head"))) is dict


def test_looking_keeps_nothing_alive(bench):
    gc.collect()
    gc.disable()
    try:
        bench.cell("class K:\n    pass\nk = [K(), np.zeros(3)]\nj = k[0]")
        alive = weakref.ref(bench.ns["j"])
        bench.tracker.value_of(("j", "k"))
        bench.cell("del j, k")
        assert alive() is None
    finally:
        gc.enable()


def test_plain_values_are_recorded_as_they_are(bench):
    assert bench.tracker.value_of(("c",)) is bench.ns["c"]
    assert bench.tracker.value_of(("n",)) == 1
    bench.cell("plain = {'rows': [1, (2, {3})], 'x': np.ones(2)}")
    assert bench.tracker.value_of(("plain",)) is bench.ns["plain"]


@pytest.mark.parametrize(
    "value",
    [
        (lambda a: [a, a])([1]), {"kitaru.document": 1}, np.arange(6)[1:], np.broadcast_to(np.arange(2), (2, 2)),
        np.array([[1], None], dtype=object), [object()], {"f": len}, np.arange(3).view(np.matrix), [np.arange(4)[::2]],
        np.ones(2, dtype=np.longdouble), Exception("x"),
    ],
)  # fmt: skip
def test_what_would_lose_something_is_a_document(value):
    assert not plain_value(value, reach(value, {}))


def test_in_a_shell_the_hidden_names_are_no_variables_and_their_objects_are_followed(cells, monkeypatch):
    monkeypatch.delattr(builtins, "_", raising=False)  # a debugger's prompt leaves one, and IPython then binds none
    shell = cells.shell
    tracker = room.Tracker(shell.user_ns, shell.user_ns_hidden)
    shell.run_cell("rows = [1]")
    tracker.settle()
    assert "rows" in tracker.names()
    assert not {"In", "Out", "exit", "quit", "get_ipython", "_"} & tracker.names()
    shell.run_cell("[rows]", store_history=True)
    source = "_[0].append(2)"
    touches = touches_of(ast.parse(source), shell.user_ns)
    tracker.before(touches)
    shell.run_cell(source, store_history=True)
    assert tracker.after(touches).changed == {"rows"}


def test_steps_and_flows_of_a_cell_come_back_as_what_they_were():
    bench, album, other = Bench(), Album(), Bench()
    bench.cell(
        "from kitaru import checkpoint, flow\n"
        "@checkpoint(retries=2, type='tool')\n"
        "def double(x): return 2 * x\n"
        "@flow\n"
        "def doubled(x): return double(x)\n"
    )
    assert bench.error is None
    album.keep(bench.tracker)
    assert album.lost(0) == {}
    album.checkout(0, other.tracker)
    assert (other.ns["double"].retries, other.ns["double"].type, other.ns["double"](4)) == (2, "tool", 8)
    assert type(other.ns["doubled"]) is type(bench.ns["doubled"])
    assert not isinstance(other.ns["checkpoint"], NotRestorable)
    assert other.ns["checkpoint"] is kitaru.checkpoint
