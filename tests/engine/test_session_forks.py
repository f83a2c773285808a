"""Forks of what was run by hand: a branch, its edits, what is stale, and going on with it."""

from __future__ import annotations

import pytest

import kitaru
from kitaru.client import KitaruClient
from kitaru.errors import NotFoundError, UsageError
from kitaru.sessions import Document, Session, verdicts


def ran(session, name, inputs, outputs, source="", **notes):
    step = session.step(name, inputs, source=source or f"{name}()")
    return step.succeed(outputs, notes=notes or None)


@pytest.fixture
def session(store):
    """collect -> clean -> report, and beside them count, which reads what collect gave."""
    session = Session(store=store)
    rows = ran(session, "collect", {}, {"rows": [1, 2, 3]})["rows"]
    clean = ran(session, "clean", {"rows": rows}, {"clean": [1, 3]})["clean"]
    ran(session, "count", {"rows": rows}, {"n": 3})
    ran(session, "report", {"clean": clean}, {"report": "1, 3"})
    yield session
    session.close()


def fork(session, **options):
    client = KitaruClient(session.store)
    return client, client.executions.fork(session.exec_id, **options)


def labels(branch):
    return [step.label for step in branch]


def decisions(branch, **asked):
    return {v.step.label: v.decision for v in verdicts(branch, **asked)}


def loaded(execution):
    return {name: execution.values.load(held.value) for name, held in execution.branch().state().items()}


def test_the_outputs_of_a_step_are_given_back_as_refs_that_name_what_is_recorded(session):
    ref = ran(session, "again", {}, {"rows": [1, 2, 3]})["rows"]
    assert ref.load() == [1, 2, 3]
    ran(session, "use", {"rows": ref}, {})
    use = session.execution().checkpoints[-1]
    assert use.inputs["rows"].digest == session.execution().checkpoints[0].artifacts[0].digest


@pytest.mark.parametrize("at", ["nothing", "collect#2", "@9"])
def test_a_fork_does_not_begin_behind_a_step_that_is_not_there(session, at):
    with pytest.raises(NotFoundError):
        fork(session, at=at)
    assert [s.exec_id for s in KitaruClient(session.store).executions.list()] == [session.exec_id]


def test_a_branch_holds_the_steps_in_order_and_the_variables_after_each(session):
    branch = session.execution().branch()
    assert labels(branch) == ["collect#1", "clean#1", "count#1", "report#1"]
    assert sorted(branch.state(2)) == ["clean", "rows"]
    assert branch.state()["report"].step == "report#1"


def test_what_a_step_deleted_is_gone_from_its_state(session):
    ran(session, "tidy", {}, {}, deleted=["rows"])
    assert "rows" not in session.execution().branch().state()


def test_variables_of_one_document_know_each_other(session):
    document = Document({"made": "by a notebook"}, of=[1])
    ran(session, "share", {}, {"a": document, "b": document}, documents=[["a", "b"]])
    state = session.execution().branch().state()
    assert state["a"].names == state["b"].names == ("a", "b")
    assert state["a"].value.digest == state["b"].value.digest
    assert state["a"].value.preview["type"] == "list", "people are shown what it describes"


def test_an_edit_makes_its_readers_stale_and_no_others(session):
    client, name = fork(session, overrides={"collect": [1]}, why="3 was wrong")
    branch = client.executions.get(name).branch()
    assert loaded(client.executions.get(name))["rows"] == [1]
    assert decisions(branch) == {"collect#1": "reuse", "clean#1": "rerun", "count#1": "rerun", "report#1": "rerun?"}
    begun = client.executions.get(name).data.begun
    assert begun.options["why"] == "3 was wrong"
    assert begun.options["who"]


def test_the_original_is_not_touched_by_an_edit(session):
    client, _ = fork(session, overrides={"clean.clean": []})
    assert loaded(client.executions.get(session.exec_id))["clean"] == [1, 3]


def test_going_on_with_a_fork_puts_each_step_in_its_place(session):
    client, name = fork(session, overrides={"clean": [3]})
    went_on = Session(exec_id=name, store=session.store)
    went_on.reuse("collect#1")
    went_on.reuse("clean#1")
    went_on.reuse("count#1")
    clean = client.executions.get(name).branch().state()["clean"]
    step = went_on.step("report", {"clean": [3]}, source="report()", instead="report#1")
    step.succeed({"report": "3"})
    went_on.close()
    execution = client.executions.get(name)
    assert clean.step == "clean#1"
    assert labels(execution.branch()) == ["collect#1", "clean#1", "count#1", "report#1"]
    assert [step.decision for step in execution.branch()] == ["reused", "edited", "reused", "ran"]
    assert loaded(execution) == {"rows": [1, 2, 3], "clean": [3], "n": 3, "report": "3"}
    assert set(decisions(execution.branch()).values()) == {"reuse"}
    assert [(r.step, r.decision) for r in execution.explain()] == [
        ("collect#1", "reused"), ("clean#1", "edited"), ("count#1", "reused"), ("report#1", "ran"),
    ]  # fmt: skip


def test_a_step_that_gives_the_same_again_ends_the_chain(session):
    client, name = fork(session, overrides={"collect": [1, 3]})
    went_on = Session(exec_id=name, store=session.store)
    went_on.reuse("collect#1")
    went_on.step("clean", {"rows": [1, 3]}, source="clean()", instead="clean#1").succeed({"clean": [1, 3]})
    went_on.close()
    assert decisions(client.executions.get(name).branch()) == {
        "collect#1": "reuse", "clean#1": "reuse", "count#1": "rerun", "report#1": "reuse",
    }  # fmt: skip


def test_a_fork_at_a_step_ends_there_and_new_steps_follow_it(session):
    client, name = fork(session, at="clean#1")
    went_on = Session(exec_id=name, store=session.store)
    ran(went_on, "report", {"clean": [1, 3]}, {"report": "another"})
    went_on.close()
    execution = client.executions.get(name)
    assert labels(execution.branch()) == ["collect#1", "clean#1", "report#2"], "no two steps of a tree have one name"
    assert loaded(execution) == {"rows": [1, 2, 3], "clean": [1, 3], "report": "another"}
    assert execution.checkpoints[0].label == "report#2"


def test_a_fork_before_the_first_step_begins_empty(session):
    client, name = fork(session, at="")
    assert labels(client.executions.get(name).branch()) == []


def test_a_second_edit_of_a_fork_that_has_not_run_takes_both_and_leaves_no_rest(session):
    client, first = fork(session, overrides={"collect": [7, 8]}, why="one")
    second = client.executions.fork(first, overrides={"clean": [7]}, why="two")
    state = loaded(client.executions.get(second))
    assert (state["rows"], state["clean"]) == ([7, 8], [7])
    assert client.executions.get(second).forked_from == session.exec_id
    assert client.executions.get(first).status.value == "cancelled"


def test_an_edit_of_an_edit_takes_its_place(session):
    client, first = fork(session, overrides={"collect": [7, 8]})
    second = client.executions.fork(first, overrides={"collect": [9]})
    assert loaded(client.executions.get(second))["rows"] == [9]


def test_edits_of_two_outputs_of_one_step_are_both_kept(session):
    ran(session, "split", {}, {"left": "a", "right": "b"})
    client, first = fork(session, overrides={"split.left": "X"})
    second = client.executions.fork(first, overrides={"split.right": "Y"})
    state = loaded(client.executions.get(second))
    assert (state["left"], state["right"]) == ("X", "Y")


def test_forks_of_forks_keep_what_was_edited_and_run_before(session):
    client, first = fork(session, overrides={"collect": [1]})
    went_on = Session(exec_id=first, store=session.store)
    went_on.step("clean", {"rows": [1]}, source="clean()", instead="clean#1").succeed({"clean": [1]})
    went_on.close()
    second = client.executions.fork(first, overrides={"report": "by hand"})
    execution = client.executions.get(second)
    assert loaded(execution)["rows"] == [1]
    assert loaded(execution)["clean"] == [1]
    assert loaded(execution)["report"] == "by hand"
    assert decisions(execution.branch())["count#1"] == "rerun", "what the first edit asked for is still to be done"


def test_a_plain_cell_between_a_change_and_a_step_is_named(session):
    plain = {"label": "In[7]", "source": "top = clean[:1]", "reads": ["clean"], "binds": ["top"]}
    step = session.step("show", {"top": [1]}, source="show()", notes={"plain": [plain]})
    step.succeed({"shown": "1"})
    assert decisions(session.execution().branch())["show#1"] == "reuse"
    client, name = fork(session, overrides={"clean": [3]})
    (verdict,) = [v for v in verdicts(client.executions.get(name).branch()) if v.step.label == "show#1"]
    assert (verdict.decision, verdict.plain.label, verdict.variable) == ("rerun?", "In[7]", "top")
    plan = client.executions.plan(name)
    assert "the plain cell In[7] is not recorded, and hands top on" in plan.notes[0]


def test_steps_that_are_asked_for_run_again(session):
    branch = session.execution().branch()
    assert decisions(branch, forced={"clean#1"}) == {
        "collect#1": "reuse", "clean#1": "rerun", "count#1": "reuse", "report#1": "rerun?",
    }  # fmt: skip
    assert decisions(branch, start=2) == {
        "collect#1": "reuse", "clean#1": "reuse", "count#1": "rerun", "report#1": "rerun",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        ("nothing", NotFoundError, "collect#1, clean#1, count#1, report#1"),
        ("clean.other", NotFoundError, "it has: clean#1.clean"),
        ("clean.in.rows", UsageError, "edit the output of the step that it comes from"),
        ("input.n", UsageError, "were run by hand"),
    ],
)
def test_an_edit_that_cannot_be_says_what_there_is(session, key, error, says):
    before = len(KitaruClient(session.store).executions.list())
    with pytest.raises(error, match=says):
        fork(session, overrides={key: 1})
    assert len(KitaruClient(session.store).executions.list()) == before


def test_only_what_was_inherited_can_be_reused(session):
    with pytest.raises(NotFoundError, match="is no step that"):
        session.reuse("clean#1")


def test_an_execution_of_a_flow_has_no_branch(store):
    @kitaru.flow
    def audit():
        return 1

    with pytest.raises(UsageError, match="no branch of cells"):
        KitaruClient(store).executions.get(audit.run().exec_id).branch()


def test_an_interrupted_step_says_so(session):
    session.step("long", {}, source="sleep()").fail(KeyboardInterrupt())
    assert session.execution().checkpoints[-1].status == "interrupted"


def test_a_step_that_was_run_again_makes_those_behind_the_first_one_stale(session):
    ran(session, "clean", {"rows": [1, 2, 3]}, {"clean": [3]})
    assert decisions(session.execution().branch()) == {
        "collect#1": "reuse", "clean#2": "reuse", "count#1": "reuse", "report#1": "rerun",
    }  # fmt: skip


def test_a_step_that_goes_on_from_its_own_result_does_not_replace_it(session):
    first = ran(session, "more", {"n": 3}, {"n": 4})["n"]
    ran(session, "more", {"n": first}, {"n": 5})
    decided = decisions(session.execution().branch())
    assert decided["more#1"] == decided["more#2"] == "reuse"


def test_a_failed_step_is_stale_until_one_of_its_name_has_succeeded(session):
    session.step("late", {}, source="1/0").fail(ZeroDivisionError())
    assert decisions(session.execution().branch())["late#1"] == "rerun"
    ran(session, "late", {}, {"done": True})
    assert "late#1" not in decisions(session.execution().branch())
    assert decisions(session.execution().branch())["late#2"] == "reuse"
