"""Two executions, step by step, from their records alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.diffs.align import Link, Steps, align, foreign, read_links
from kitaru.diffs.show import as_text
from kitaru.errors import NotFoundError, UntrustedValueError, UsageError
from kitaru.executions import CheckpointData
from kitaru.records import NOWHERE, Reused, Started, Value
from kitaru.refs import Part
from kitaru.testing.faults import FaultyStore

# ---------------------------------------------------------------- alignment


def value(x):
    return Value(repr(x).encode().rjust(32, b"."), 1, "data", {"type": "int", "text": repr(x)})


def steps(exec_id, *calls, links=None):
    """An execution from (name, input, output), or (name, input, output, the number of the step around it)."""
    made, ordinals = [], {}
    for n, (name, given, made_of, *around) in enumerate(calls, 1):
        parent = made[around[0] - 1] if around else None
        key = (parent and parent.id, name)
        ordinals[key] = ordinals.get(key, 0) + 1
        path = (*(parent.path if parent else ()), Part(name, ordinals[key]))
        c = CheckpointData((exec_id, n), name, path, n, "completed", 0.0, (("x", value(given)),), ended=1.0)
        c.parent, c.outputs = parent.id if parent else None, (("output", value(made_of)),)
        made.append(c)
    return Steps(made, links or {})


def paired(a, b, between=None):
    return [(p.a and p.a.index, p.b and p.b.index) for p in align(a, b, between)]


def test_a_step_put_into_a_loop_is_one_step_more():
    a = steps("a", *(("s", i, i) for i in range(5)))
    b = steps("b", ("s", 0, 0), ("s", 9, 9), *(("s", i, i) for i in range(1, 5)))
    assert paired(a, b) == [(1, 1), (None, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


def test_steps_that_all_changed_go_by_their_places():
    a = steps("a", ("s", 1, 1), ("t", 1, 1), ("s", 2, 2))
    b = steps("b", ("s", 3, 3), ("s", 4, 4), ("t", 5, 5))
    assert paired(a, b) == [(1, 1), (3, 2), (2, 3)]


def test_a_step_that_went_stands_where_it_was():
    a = steps("a", ("s", 1, 1), ("old", 1, 1), ("t", 1, 1))
    b = steps("b", ("s", 1, 1), ("t", 1, 1), ("new", 1, 1))
    assert paired(a, b) == [(1, 1), (2, None), (3, 2), (None, 3)]


def test_inner_steps_are_paired_under_steps_that_belong_together():
    a = steps("a", ("outer", 1, 1), ("inner", 1, 1, 1), ("outer", 2, 2), ("inner", 1, 1, 3))
    b = steps("b", ("outer", 2, 2), ("inner", 1, 5, 1))
    assert paired(a, b) == [(1, None), (2, None), (3, 1), (4, 2)]


def test_what_lies_inside_of_a_step_that_was_reused_whole_is_not_missing():
    a = steps("a", ("outer", 1, 1), ("inner", 1, 1, 1))
    b = steps("b", ("outer", 1, 1), links={("b", 1): Link(("a", 1), 2)})
    b.checkpoints[0].reused_from = ("a", 1)
    assert paired(a, b) == [(1, 1)]
    assert paired(b, a) == [(1, 1)]
    b.checkpoints[0].outputs = (("output", value(2)),)  # edited: the inner step had no part in that
    assert paired(a, b) == [(1, 1), (2, None)]


def test_what_the_records_say_comes_before_what_looks_alike():
    a = steps("a", ("s", 1, 1), ("s", 1, 1))
    b = steps("b", ("s", 1, 1), links={("b", 1): Link(("a", 2), 2)})
    assert paired(a, b) == [(1, None), (2, 1)]
    assert paired(b, a) == [(None, 1), (1, 2)]


def test_an_edited_value_is_found_by_what_it_stands_for():
    a = steps("a", ("s", 1, 1), ("s", 2, 2))
    b = steps("b", ("s", 1, 7), ("s", 7, 2), links={("b", 1): Link(("a", 1), 2)})
    assert paired(a, b) == [(1, 1), (2, 2)]


def test_chains_of_forks_lead_to_one_record():
    a = steps("a", ("s", 1, 1), ("s", 2, 2))
    fork = {("f", 1): Link(("a", 2), 2)}
    b = steps("b", ("s", 8, 8), links={("b", 1): Link(("f", 1), 1)})
    other = steps("c", ("s", 0, 0), ("s", 9, 9), links={("c", 2): Link(("a", 2), 2)})
    assert foreign(b.links) == {"f"}
    assert paired(a, b, fork) == [(1, None), (2, 1)]
    assert paired(b, other, fork) == [(None, 1), (1, 2)], "two forks of one execution"


def test_a_step_that_only_ran_at_a_place_may_be_a_new_one():
    a = steps("a", ("s", 1, 1), ("s", 2, 2))
    links = {("b", 1): Link(("a", 1), 2), ("b", 2): Link(("a", 2), 0), ("b", 3): Link(("a", 2), 2)}
    assert paired(a, steps("b", ("s", 1, 1), ("s", 9, 9), ("s", 2, 2), links=links)) == [(1, 1), (None, 2), (2, 3)]


def test_links_in_a_ring_end():
    links = {("b", 1): Link(("c", 1), 2), ("c", 1): Link(("b", 1), 2)}
    assert paired(steps("a", ("s", 1, 1)), steps("b", ("s", 1, 1), links=links)) == [(1, 1)]


def test_what_was_superseded_does_not_count():
    a = steps("a", ("s", 1, 1), ("inner", 1, 1, 1), ("s", 2, 2))
    a.checkpoints[0].superseded = True
    assert [c.index for c in Steps(a.checkpoints).checkpoints] == [3]


def test_links_are_read_from_records():
    def started(n, counterpart, claims=False):
        return Started(("b", n), None, "s", n, (), b"", counterpart, claims)

    records = [
        started(1, NOWHERE),
        started(2, ("a", 2)),
        started(3, ("a", 3), claims=True),
        Reused(started(4, ("a", 4), claims=True), True, ()),
    ]
    assert {rid[1]: link.strength for rid, link in read_links(records).items()} == {2: 0, 3: 1, 4: 2}


# ---------------------------------------------------------------- whole executions


@checkpoint
def collect(names):
    kitaru.log(tokens=10, cost=0.001)
    return [{"name": n} for n in names]


@checkpoint
def classify(package, strict):
    kitaru.log(tokens=100)
    licence = "MIT" if strict and package["name"] == "boto3" else "BSD"
    return {**package, "licence": licence}


@checkpoint
def report(parts):
    return "\n".join(f"{p['name']} is under {p['licence']}" for p in parts)


@flow
def audit(names, strict=False):
    parts = [classify(p, strict) for p in collect(names)]
    text = report(parts)
    kitaru.save("report", text)
    return text


@pytest.fixture
def two(store):
    audit.options(exec_id="first").run(["numpy", "boto3"])
    audit.options(exec_id="second").run(["numpy", "boto3", "rich"], strict=True)
    return store


def test_two_executions(two):
    d = kitaru.diff("first", "second")
    assert not d.same
    assert [(s.label, s.verdict, s.changed) for s in d.steps] == [
        ("", "changed", ("inputs", "output")),
        ("collect#1", "changed", ("inputs", "output")),
        ("classify#1", "changed", ("inputs",)),
        ("classify#2", "changed", ("inputs", "output")),
        ("classify#3", "only_b", ()),
        ("report#1", "changed", ("inputs", "output")),
    ]
    assert d.counts == {"same": 0, "changed": 4, "only_a": 0, "only_b": 1}
    assert (d.a.tokens, d.b.tokens, d.a.cost) == (210, 310, 0.001)
    json.dumps(d.to_json())


def test_what_one_of_two_steps_did_not_spend_is_said(two):
    audit.replay("first", overrides={"checkpoint.classify#2": {"name": "boto3", "licence": "MIT"}})
    assert "  tokens 100 -> none" in repr(kitaru.diff("first:classify#2", "last:classify#2")).splitlines()


def test_the_text_of_it_is_the_same_in_every_run(two):
    assert repr(kitaru.diff("first", "second", values=True)) == EXPECTED
    varying = as_text(kitaru.diff("first", "second").page(), varies=True)
    assert "first -> second" in varying
    assert " ms" in varying


EXPECTED = """\
audit: 5 steps: 4 changed, 1 only in the second
   step        what                         tokens    cost
~  (the flow)  inputs, output changed
       in.names
           + [2]: 'rich'
       in.strict: False -> True
       report
               boto3 is under {+MIT⏎+}
               {+rich is under +}BSD
       result
               boto3 is under {+MIT⏎+}
               {+rich is under +}BSD
~  collect     inputs, output changed           10  $0.001
       in.names
           + [2]: 'rich'
       output
           + [2]: {'name': 'rich'}
~  classify#1  inputs changed                  100
       in.strict: False -> True
~  classify#2  inputs, output changed          100
       in.strict: False -> True
       output
           ~ licence: 'BSD' -> 'MIT'
+  classify#3  only in the second      none -> 100
~  report      inputs, output changed
       in.parts
           ~ [1].licence: 'BSD' -> 'MIT'
           + [2]: {'name': 'rich', 'licence': 'BSD'}
       output
               boto3 is under {+MIT⏎+}
               {+rich is under +}BSD
   in all                               210 -> 310  $0.001"""


def test_an_execution_and_its_twin_are_the_same(two):
    audit.options(exec_id="third").run(["numpy", "boto3"])
    d = kitaru.diff("first", "third")
    assert d.same
    assert d.changes == ()
    assert repr(d).splitlines()[0] == "audit: 4 steps: 4 the same"


def test_values_are_looked_into_when_asked(two):
    d = kitaru.diff("first", "second", values=True)
    step = next(s for s in d.steps if s.label == "classify#2")
    assert [(name, [c.path for c in v.changes]) for name, v in step.inside.items()] == [
        ("in.strict", [""]), ("output", ["licence"]),
    ]  # fmt: skip


def test_two_steps_are_looked_into(two):
    d = kitaru.diff("first:classify#2", "second:classify#2")
    assert [c.path for c in d.changes] == ["", "licence"]
    assert repr(d).startswith("classify#2: inputs, output changed\n")


def test_two_values_and_a_value_beside_an_object(two):
    d = kitaru.diff("first:report", "second:result")
    assert d.changes[0].kind == "text"
    assert kitaru.diff("first:classify#1", {"name": "numpy", "licence": "BSD"}).same
    client = KitaruClient(two)
    assert kitaru.diff(client.artifacts.get("first:report"), client.look_up("first:result")).same


def test_what_cannot_be_compared_is_refused(two):
    with pytest.raises(UsageError, match="an execution and a value cannot be compared: name its result, first:result"):
        kitaru.diff(KitaruClient(two).executions.get("first"), {"a": 1})
    with pytest.raises(NotFoundError) as caught:
        kitaru.diff("nobody", "first")
    assert "refs=False" in caught.value.__notes__[0]


def test_texts_that_are_no_refs_are_texts(store):
    assert kitaru.diff("a quick fox", "a slow fox").count == 1
    assert kitaru.diff("first", "second", refs=False).count == 1
    assert kitaru.diff("MIT", None).count == 1
    assert kitaru.diff("", "").same


def test_code_and_failures(store):
    def run(exec_id, body):
        @flow
        def trial():
            return checkpoint(body)()

        trial.options(exec_id=exec_id, raises=False).run()

    def judge():
        return 1 + 1

    good = judge

    def judge():
        raise ValueError("no <b>answer</b>")

    run("good", good)
    run("bad", judge)
    d = kitaru.diff("good", "bad")
    assert set(d.steps[1].changed) == {"output", "code", "status", "failure"}
    text = repr(d)
    assert "status completed -> failed" in text
    assert "failure none -> ValueError: no <b>answer</b>" in text
    assert "[-return" in text, "the code, word by word"
    assert "no <b>" not in d._repr_html_()


def test_what_is_the_same_is_counted_where_it_is_much(store):
    @checkpoint
    def s(n, m):
        return n if n != 50 else m

    @flow
    def loop(m):
        for n in range(100):
            s(n, m if n == 50 else 0)

    loop.options(exec_id="first").run(1)
    loop.options(exec_id="second").run(2)
    d = kitaru.diff("first", "second")
    lines = repr(d).splitlines()
    assert "=  … 48 steps the same" in lines
    assert "=  … 47 steps the same" in lines
    assert len(lines) < 20
    assert "… 4" not in as_text(d.page(full=True))


def test_a_pickle_of_a_store_that_is_not_trusted_is_not_unpickled(store, monkeypatch):
    from kitaru import client

    @flow
    def plain(x):
        return {"n": x, "c": complex(0, x), "rows": [{"client": x}]}

    plain.options(exec_id="first").run(1)
    plain.options(exec_id="second").run(2)

    def refused(self):
        raise UntrustedValueError("the store is not trusted")

    monkeypatch.setattr(client.Artifact, "load", refused)
    d = kitaru.diff("first:result", "second:result")
    assert {"n", "rows[0].client"} <= {c.path for c in d.changes}
    assert d.plain
    assert repr(d).endswith("compared as plain data: the store is not trusted")


def test_values_that_differ_in_what_was_not_compared_are_not_called_the_same(store):
    @checkpoint
    def note(x):
        frame = pd.DataFrame({"a": [1]})
        frame.attrs["note"] = x
        return frame

    @flow
    def make(x):
        return note(x)

    make.options(exec_id="first").run(1)
    make.options(exec_id="second").run(2)
    d = kitaru.diff("first:note#1.output", "second:note#1.output")
    assert [c.kind for c in d.changes] == ["unseen"]


# ---------------------------------------------------------------- what it costs


@checkpoint
def big(n):
    return np.full(100_000, n)


@flow
def heavy(start, count):
    for n in range(start, start + count):
        big(n)


def test_no_value_is_loaded_unless_asked(connected, monkeypatch):
    from kitaru.stores.memory import MemoryStore

    store = connected(FaultyStore(MemoryStore()))
    heavy.options(exec_id="first").run(0, 5)
    heavy.options(exec_id="second").run(1, 5)
    client = KitaruClient(store)
    a, b = client.executions.get("first"), client.executions.get("second")
    store.log.clear()
    d = kitaru.diff(a, b)
    assert d.counts == {"same": 4, "changed": 0, "only_a": 1, "only_b": 1}
    repr(d), d._repr_html_(), d.to_json()
    assert store.log == []
    kitaru.diff("first", "second")
    assert not [op for op in store.log if op.key.startswith("blobs/")]
    store.log.clear()
    assert kitaru.diff("first", "second", values=True).counts == d.counts
    looked_into = [op for op in store.log if op.key.startswith("blobs/")]
    assert not looked_into, "of those that changed there is none on both sides"
    kitaru.diff("first:big#1", "second:big#2")
    assert [op for op in store.log if op.method == "get" and op.key.startswith("blobs/")]


def test_equal_values_are_not_loaded(connected):
    from kitaru.stores.memory import MemoryStore

    store = connected(FaultyStore(MemoryStore()))
    heavy.options(exec_id="first").run(0, 1)
    client = KitaruClient(store)
    a = client.look_up("first:big#1.output")
    store.log.clear()
    assert kitaru.diff(a, a).same
    assert store.log == []


def test_the_work_grows_with_the_steps_and_no_faster():
    from kitaru.diffs import sequences

    touched = {}
    for n in (500, 5000):
        a = steps("a", *(("s", i, i) for i in range(n)))
        b = steps("b", *(("s", i + 1 if i > n // 2 else i, i + 1 if i > n // 2 else i) for i in range(n)))
        count = 0
        real = sequences._rising

        def counted(pairs, real=real):
            nonlocal count
            count += len(pairs)
            return real(pairs)

        sequences._rising = counted
        try:
            pairs = align(a, b)
        finally:
            sequences._rising = real
        touched[n] = count
        assert sum(p.a is None for p in pairs) == 1
        assert sum(p.b is None for p in pairs) == 1
    assert touched[5000] <= 12 * max(touched[500], 500)
