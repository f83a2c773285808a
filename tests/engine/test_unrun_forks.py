"""Forks of flows that are recorded and do not run yet: what is asked of them, by whom and why, and how they go on."""

from __future__ import annotations

import os

import numpy as np
import pytest

from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.errors import InvalidNameError, NotFoundError, StorePermissionError, UnrecordableValueError, UsageError
from kitaru.stores.local import LocalStore
from kitaru.testing.faults import FaultyStore


@pytest.fixture
def forks(client, ran):
    """The client's `fork`, resumed flow `audit` and what ran: split -> join, and beside them double."""

    @checkpoint(outputs=("left", "right"))
    def split(text):
        ran("split")
        return text[:1], text[1:]

    @checkpoint
    def join(left, right, sep):
        ran("join")
        return f"{left}{sep}{right}"

    @checkpoint
    def double(n):
        ran("double")
        return n * 2

    @flow
    def audit(text, sep="-", n=1):
        left, right = split(text)
        return join(left, right, sep), double(n)

    return Forks(client, audit, ran)


class Forks:
    """One execution of `audit`, its forks one upon the other, and what became of them."""

    def __init__(self, client, audit, ran):
        self.client, self.executions, self.audit, self.ran = client, client.executions, audit, ran
        self.first = audit.run("abc").exec_id
        assert ran.take() == ["split", "join", "double"]

    def __call__(self, *edits, of=None):
        """Fork by each of the edits, each what the one before gave; gives the last."""
        fork = of or self.first
        for asked in edits:
            fork = self.executions.fork(fork, **asked)
        assert self.ran.take() == []
        return fork

    def resumed(self, fork):
        """What it gives, and which bodies ran for that."""
        value = self.executions.resume(fork).get()
        return value, self.ran.take()

    def status(self, fork):
        return self.executions.get(fork).status.value

    def planned(self, fork):
        return {row.step.partition("#")[0]: row.decision for row in self.executions.plan(fork)}


# ---------------------------------------------------------------- one edit


def test_a_fork_is_paused_and_says_who_asked_why_and_of_what(forks, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    fork = forks({"overrides": {"join": "other"}, "why": "the separator was wrong"})
    execution = forks.executions.get(fork)
    assert (execution.status.value, execution.forked_from) == ("paused", forks.first)
    assert execution.data.begun.options == {"who": "ada", "why": "the separator was wrong"}
    assert execution.checkpoints == []


def test_who_asked_is_left_open_where_the_system_does_not_know(forks, monkeypatch):
    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    fork = forks({"overrides": {"join": "other"}})
    assert forks.executions.get(fork).data.begun.options == {"who": "", "why": ""}


@pytest.mark.parametrize(
    ("asked", "result", "bodies"),
    [
        ({"overrides": {"join": "other"}}, ("other", 2), []),
        ({"overrides": {"split.left": "X"}}, ("X-bc", 2), ["join"]),
        ({"overrides": {"join.in.left": "L"}}, ("L-bc", 2), ["join"]),
        ({"overrides": {"double.in.n": 4}}, ("a-bc", 8), ["double"]),
        ({"inputs": {"sep": "+"}}, ("a+bc", 2), ["join"]),
        ({"overrides": {"input.sep": "+"}}, ("a+bc", 2), ["join"]),
        ({"rerun": "double"}, ("a-bc", 2), ["double"]),
        ({"from_": "join"}, ("a-bc", 2), ["join", "double"]),
        ({}, ("a-bc", 2), []),
    ],
    ids=str,
)
def test_a_resume_does_what_was_asked_and_no_more(forks, asked, result, bodies):
    fork = forks(asked)
    assert forks.resumed(fork) == (result, bodies)
    assert forks.status(fork) == "completed"
    assert forks.executions.get(forks.first).result == ("a-bc", 2), "the original is not touched"


def test_what_is_resumed_once_is_explained_by_what_was_asked_alone(forks):
    fork = forks({"overrides": {"split.left": "X"}})
    forks.resumed(fork)
    assert [(row.step, row.decision, row.why) for row in forks.executions.get(fork).explain()] == [
        ("split#1", "edited", "its left was set"),
        ("join#1", "ran", "left was str(1) 'a', is str(1) 'X'"),
        ("double#1", "reused", "the same inputs"),
    ]


def test_the_plan_of_a_fork_that_has_not_run_is_that_of_its_edits(forks):
    asked = {"overrides": {"split.left": "X"}, "inputs": {"n": 3}}
    fork = forks(asked)
    plan = forks.executions.plan(fork)
    assert str(plan) == str(forks.executions.plan(forks.first, **asked))
    assert forks.planned(fork) == {"split": "reuse?", "join": "rerun?", "double": "rerun?"}
    assert forks.ran.take() == []


def test_the_plan_with_more_edits_counts_those_that_stand_in_the_fork(forks):
    fork = forks({"overrides": {"split.left": "X"}})
    more = {"overrides": {"double": 7}}
    plan = forks.executions.plan(fork, **more)
    assert str(plan) == str(forks.executions.plan(forks(more, of=fork)))
    assert [(row.step, row.decision) for row in plan] == [
        ("split#1", "reuse"), ("join#1", "rerun?"), ("double#1", "reuse?"),
    ]  # fmt: skip


def test_an_input_set_to_what_it_was_is_no_edit(forks):
    fork = forks({"inputs": {"sep": "-"}})
    assert forks.executions.get(fork).data.begun.fork.flow_inputs == ()
    assert set(forks.planned(fork).values()) == {"reuse"}


# ---------------------------------------------------------------- edits upon edits


@pytest.mark.parametrize(
    ("asked", "result", "bodies"),
    [
        ([{"overrides": {"split.left": "X"}}, {"overrides": {"double": 9}}], ("X-bc", 9), ["join"]),
        ([{"overrides": {"split.left": "X"}}, {"overrides": {"split.right": "Y"}}], ("X-Y", 2), ["join"]),
        ([{"overrides": {"split.left": "X"}}, {"overrides": {"split.left": "a"}}], ("a-bc", 2), []),
        ([{"overrides": {"join.in.left": "L"}}, {"overrides": {"join.in.sep": "*"}}], ("L*bc", 2), ["join"]),
        ([{"overrides": {"join.in.sep": "*"}}, {"overrides": {"join.in.sep": "/"}}], ("a/bc", 2), ["join"]),
        ([{"inputs": {"sep": "+"}}, {"inputs": {"n": 5}}], ("a+bc", 10), ["join", "double"]),
        ([{"inputs": {"sep": "+"}}, {"inputs": {"sep": "*"}}], ("a*bc", 2), ["join"]),
        ([{"inputs": {"sep": "+"}}, {"inputs": {"sep": "-"}}], ("a-bc", 2), []),
        ([{"inputs": {"sep": "+"}}, {"overrides": {"split.left": "X"}}], ("X+bc", 2), ["join"]),
        ([{"rerun": "join"}, {"rerun": "double"}], ("a-bc", 2), ["join", "double"]),
        ([{"rerun": "join"}, {"inputs": {"n": 5}}], ("a-bc", 10), ["join", "double"]),
        ([{"rerun": "join"}, {}], ("a-bc", 2), ["join"]),
    ],
    ids=str,
)
def test_edits_of_a_fork_that_has_not_run_join_those_that_it_has(forks, asked, result, bodies):
    fork = forks(*asked)
    assert forks.executions.get(fork).forked_from == forks.first
    assert forks.resumed(fork) == (result, bodies)


@pytest.mark.parametrize(
    ("asked", "result", "bodies"),
    [
        ([{"overrides": {"join.in.left": "L"}}, {"overrides": {"join": "whole"}}], ("whole", 2), []),
        ([{"overrides": {"join": "whole"}}, {"overrides": {"join.in.left": "L"}}], ("L-bc", 2), ["join"]),
        ([{"rerun": "join"}, {"overrides": {"join": "whole"}}], ("whole", 2), []),
    ],
    ids=str,
)
def test_of_two_edits_that_exclude_each_other_the_later_one_holds(forks, asked, result, bodies):
    fork = forks(*asked)
    before = forks.planned(fork)
    assert forks.resumed(fork) == (result, bodies)
    assert (before["join"] == "rerun") is bool(bodies)


def test_each_edit_cancels_the_fork_that_it_takes_the_place_of(forks):
    one = forks({"overrides": {"join": "1"}, "why": "one"})
    two = forks({"overrides": {"double": 2}, "why": "two"}, of=one)
    three = forks({"inputs": {"n": 7}, "why": "three"}, of=two)
    assert [forks.status(f) for f in (one, two, three)] == ["cancelled", "cancelled", "paused"]
    assert [forks.executions.get(f).data.begun.options["why"] for f in (one, two, three)] == ["one", "two", "three"]
    assert forks.status(forks.first) == "completed"
    assert forks.resumed(three) == (("1", 2), [])


def test_two_forks_of_one_execution_are_beside_each_other(forks):
    one, two = forks({"overrides": {"join": "1"}}), forks({"overrides": {"double": 2}})
    assert [forks.status(one), forks.status(two)] == ["paused", "paused"]
    assert forks.resumed(two) == (("a-bc", 2), [])
    assert forks.resumed(one) == (("1", 2), [])


def test_a_fork_that_has_run_is_an_origin_itself(forks):
    one = forks({"overrides": {"split.left": "X"}})
    forks.resumed(one)
    two = forks({"overrides": {"split.right": "Y"}}, of=one)
    three = forks({"inputs": {"n": 4}}, of=two)
    assert forks.executions.get(three).forked_from == one
    assert [forks.status(f) for f in (one, two)] == ["completed", "cancelled"]
    assert forks.resumed(three) == (("X-Y", 8), ["join", "double"])


def test_large_edits_are_taken_over_whole(forks):
    one = forks({"overrides": {"split.left": np.arange(300_000.0)}, "inputs": {"text": "B" * 3_000_000}})
    two = forks({"overrides": {"double": "small"}}, of=one)
    execution = forks.executions.get(two)
    execution.values.look_beyond()
    outputs = dict(next(values for _, values in execution.data.begun.fork.outputs if len(values) == 2))
    np.testing.assert_array_equal(execution.values.load(outputs["left"]), np.arange(300_000.0))
    text = dict(execution.data.begun.arguments)["text"]
    assert execution.values.load(text) == "B" * 3_000_000


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"overrides": {"nowhere": 1}}, NotFoundError),
        ({"overrides": {"split.middle": 1}}, NotFoundError),
        ({"inputs": {"nowhere": 1}}, NotFoundError),
        ({"rerun": "nowhere"}, NotFoundError),
        ({"from_": "nowhere"}, NotFoundError),
        ({"overrides": {"split": 1}}, UsageError),
        ({"overrides": {"join": 1, "join#1": 2}}, UsageError),
        ({"overrides": {"join": (n for n in ())}}, UnrecordableValueError),
        ({"name": "../elsewhere"}, InvalidNameError),
    ],
)
def test_what_cannot_be_asked_begins_nothing(forks, store, asked, error):
    before = [e.key for e in store.list("")]
    with pytest.raises(error):
        forks(asked)
    assert [e.key for e in store.list("")] == before


def test_a_second_edit_that_cannot_be_asked_leaves_the_first_fork_as_it_is(forks):
    one = forks({"overrides": {"join": "1"}})
    with pytest.raises(NotFoundError):
        forks({"overrides": {"nowhere": 1}}, of=one)
    assert forks.resumed(one) == (("1", 2), [])


def test_a_name_is_given_once(forks):
    assert forks({"name": "tuesday"}) == "tuesday"
    with pytest.raises(UsageError, match="tuesday exists: choose another exec_id for the fork"):
        forks({"overrides": {"join": "1"}, "name": "tuesday"})
    with pytest.raises(UsageError, match="exists"):
        forks({"overrides": {"join": "1"}, "name": forks.first}, of="tuesday")
    assert forks.status("tuesday") == "paused"
    assert forks.resumed("tuesday") == (("a-bc", 2), [])


def test_where_nothing_can_be_written_a_fork_is_refused_and_its_plan_is_not(forks, store):
    before = [e.key for e in store.list("")]
    executions = KitaruClient(ReadOnly(store)).executions
    with pytest.raises(StorePermissionError, match="read-only"):
        executions.fork(forks.first, overrides={"join": "1"})
    assert [e.key for e in store.list("")] == before
    assert len(executions.plan(forks.first, overrides={"join": "1"})) == 3


class ReadOnly(FaultyStore):
    """What another store holds, and nothing of it to be changed."""

    def put_if_absent(self, key, data):
        raise StorePermissionError(f"read-only: {key}")

    put = put_if_absent


# ---------------------------------------------------------------- replayed


@pytest.mark.parametrize("by", ["flow", "client"])
@pytest.mark.parametrize(
    ("asked", "result", "bodies"),
    [
        ({}, ("X+bc", 2), ["join"]),
        ({"overrides": {"double": 8}}, ("X+bc", 8), ["join"]),
        ({"overrides": {"split.right": "Y"}}, ("X+Y", 2), ["join"]),
        ({"overrides": {"input.sep": "*"}}, ("X*bc", 2), ["join"]),
        ({"rerun": ["double"]}, ("X+bc", 2), ["join", "double"]),
        ({"overrides": {"join.in.right": "Y"}}, ("X+Y", 2), ["join"]),
    ],
    ids=str,
)
def test_a_replay_of_a_fork_that_has_not_run_has_the_edits_of_both(forks, by, asked, result, bodies):
    fork = forks({"overrides": {"split.left": "X"}, "inputs": {"sep": "+"}})
    planned = {row.step: row.decision for row in forks.executions.plan(fork, **asked)}
    replayed = (forks.audit if by == "flow" else forks.executions).replay(fork, **asked)
    assert (replayed.get(), forks.ran.take()) == (result, bodies)
    assert planned["join#1"].startswith("rerun")
    assert forks.executions.get(replayed.exec_id).forked_from == forks.first
    assert forks.status(fork) == "paused", "the one that is replayed is not touched"
    assert forks.resumed(fork) == (("X+bc", 2), ["join"])


def test_a_replay_of_a_fork_that_has_not_run_takes_a_name_and_stops_where_it_is_told(forks):
    fork = forks({"overrides": {"split.left": "X"}})
    replayed = forks.audit.options(exec_id="mine", until="join").replay(fork)
    assert (replayed.exec_id, replayed.status, forks.ran.take()) == ("mine", "paused", [])
    with pytest.raises(UsageError, match="mine exists"):
        forks.executions.replay(fork, name="mine")


# ---------------------------------------------------------------- elsewhere

AUDIT = """
from kitaru import checkpoint, connect, flow

@checkpoint
def double(n):
    print("double", n)
    return 2 * n

@checkpoint
def negate(n):
    print("negate", n)
    return -n

@flow
def audit(n):
    return negate(double(n))

if __name__ == "__main__":
    audit.options(exec_id="audit").run(3)
"""


@pytest.fixture
def places(tmp_path, moto_s3):
    return {"folder": lambda: LocalStore(tmp_path / "store"), "bucket": moto_s3}


@pytest.mark.parametrize("kind", ["folder", pytest.param("bucket", marks=pytest.mark.s3)])
def test_a_fork_is_taken_up_by_another_process(kind, places, tmp_path, run_script):
    store = places[kind]()
    (tmp_path / "audit.py").write_text(AUDIT)
    env = {**os.environ, "KITARU_STORE": store.url}
    recorded = run_script("audit.py", env=env)
    assert recorded.out == "double 3\nnegate 6\n", recorded.err
    executions = KitaruClient(store).executions
    first = executions.fork("audit", overrides={"double": 8}, name="one", why="6 was wrong")
    second = executions.fork(first, rerun="double", inputs={"n": 5}, name="two")
    (tmp_path / "resume.py").write_text(RESUME)
    resumed = run_script("resume.py", second, env=env)
    assert resumed.out == "negate 8\n-8\n", resumed.err
    assert [executions.get(e).status.value for e in ("audit", first, second)] == ["completed", "cancelled", "completed"]
    assert executions.get(second).result == -8
    assert executions.verify(second).findings == []


RESUME = """
import sys
from kitaru.client import KitaruClient
print(KitaruClient().executions.resume(sys.argv[1], code="audit.py").get())
"""
