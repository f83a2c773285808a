"""An execution of a flow that ran elsewhere: opened, looked at, edited, gone on with."""

from __future__ import annotations

import sys

import pytest

import kitaru
from kitaru.client import KitaruClient
from kitaru.stepping import begin

from .flows import AUDIT, run, written


@pytest.fixture
def audit(tmp_path, monkeypatch, store):
    """The flow, in a module that was imported here, recorded in memory."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path, "audit_here")
    monkeypatch.delitem(sys.modules, "audit_here", raising=False)
    import audit_here

    yield audit_here.audit
    sys.modules.pop("audit_here", None)


@pytest.fixture
def failed(audit, cells):
    """It has failed at its second step of a name, and nobody has opened it."""
    return audit.options(raises=False).run(2).exec_id


def test_what_failed_is_said_in_one_line_and_its_step_is_bound(cells, failed):
    ran = cells("%kitaru open last-failed")
    assert (ran.out, ran.err, ran.shown) == (f"{failed} failed at classify#2; its inputs are in `step`\n", "", [])
    step = cells("step").value
    assert (step.ref, step.name, step.status) == ("classify#2", "classify", "failed")
    assert step.inputs["package"] == step.inputs.package == {"name": "boto3", "licence": "Apache"}
    assert (dict(step.outputs), step.error.summary()) == ({}, "KeyError: 'Apache'")
    assert "def classify" in step.source
    assert step.metadata == {"tokens": 7}
    assert step.took > 0


def test_the_step_shows_itself_without_ids_times_and_addresses(cells, failed):
    cells("%kitaru open last")
    text = repr(cells.shell.user_ns["step"])
    assert text.startswith("classify#2: failed\n  read    package  dict(2) {'name': 'boto3', 'licence': 'Apache'}")
    assert "KeyError: 'Apache'" in text
    assert failed not in text
    html = cells.shell.user_ns["step"]._repr_html_()
    assert "classify#2" in html
    assert "<script" not in html


def test_inputs_are_loaded_when_they_are_asked_for_and_once(cells, failed, monkeypatch):
    from kitaru.client import Artifact

    loads, load = [], Artifact.load
    monkeypatch.setattr(Artifact, "load", lambda self: loads.append(self.name) or load(self))
    cells("%kitaru open last")
    cells("step; repr(step.inputs); list(step.inputs)")
    assert loads == []
    cells("step.inputs.package['name']; step.inputs['package']")
    assert loads == ["classify#2.in.package"]
    assert cells("repr(step.inputs)").value.startswith("package  dict(2)")
    ran = cells("step.inputs.nothing")
    assert "nothing is recorded under nothing; there is: package" in ran.out


def test_hostile_content_is_text(cells):
    @kitaru.checkpoint
    def bad(text):
        raise ValueError(text)

    @kitaru.flow
    def hostile():
        bad("<script>alert(1)</script>\x1b[31m\u202e")

    hostile.options(raises=False).run()
    cells("%kitaru open last")
    step = cells("step").value
    assert "<script" not in step._repr_html_()
    assert "<script" not in step.inputs._repr_html_()
    for text in (repr(step), repr(step.inputs), cells("%kitaru debug").out):
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize(
    ("how", "says", "ref"),
    [
        ("completed", "completed; its last step, report#1, is in `step`", "report#1"),
        ("paused", "paused before report#1; its inputs are in `step`", "report#1"),
        ("fork", "is a fork that has not run; report#1 of its origin is in `step`", "report#1"),
        ("own", "failed in the flow's own code; its last step, report#1, is in `step`", "report#1"),
        ("interrupted", "was interrupted in classify#1; its inputs are in `step`", "classify#1"),
    ],
)
def test_every_state_is_said(cells, audit, how, says, ref):
    @kitaru.flow
    def own():
        audit(1)
        raise ValueError("late")

    if how == "completed":
        audit.run(1)
    elif how == "paused":
        begin(audit, (1,), until="report")
    elif how == "fork":
        KitaruClient().executions.fork(audit.run(1).exec_id, overrides={"collect": []})
    elif how == "own":
        ref = "audit#1/report#1"
        says = says.replace("report#1", ref)
        own.options(raises=False).run()
    else:
        module = sys.modules["audit_here"]
        stop = KeyboardInterrupt()

        def interrupted(licence):
            raise stop

        module.rule = interrupted
        with pytest.raises(KeyboardInterrupt):
            audit.run(1)
    ran = cells("%kitaru open last")
    assert says in ran.out
    assert cells("step.ref").value == ref


def test_an_execution_without_a_step_binds_none(cells):
    @kitaru.flow
    def idle():
        return 1

    idle.run()
    assert cells("%kitaru open last").out.endswith("is an execution of idle, completed; it has no step\n")
    assert "step" not in cells.shell.user_ns


def test_a_notebooks_own_is_said_to_be_that(cells):
    cells("%%kitaru_step s\nx = 1")
    exec_id = cells.notebook.exec_id
    cells("%kitaru close")
    assert cells(f"%kitaru open {exec_id}").out == (
        f"{exec_id} is a notebook's, paused, with 1 step; %kitaru checkout brings its variables back\n"
    )


def test_a_variable_of_that_name_comes_back(cells, failed):
    cells("step = ['mine']; mine = step")
    cells("%kitaru open last")
    assert cells("step.ref").value == "classify#2"
    cells("%kitaru undo")
    assert cells("step is mine").value is True


def test_an_address_opens_what_is_in_another_store(cells, tmp_path):
    path = written(tmp_path, "audit_apart")
    run(path, str(tmp_path / "runs"), "2")
    address = KitaruClient(str(tmp_path / "runs")).executions.latest().address
    assert "failed at classify#2" in cells(f"%kitaru open {address}").out
    assert cells("step.inputs.package['name']").value == "boto3"


# ---------------------------------------------------------------- its inputs, under their own names


def test_inputs_are_bound_under_their_own_names_and_undo_brings_back_the_very_objects(cells, failed):
    cells("package = ['mine']; mine = package")
    ran = cells(f"%kitaru checkout {failed}:classify#1 --before")
    assert ran.out == "1 loaded, 0 removed\n"
    assert cells("package").value == {"name": "numpy", "licence": "MIT"}
    assert cells("%kitaru undo").error is None
    assert cells("package is mine").value is True
    cells("del package")
    cells(f"%kitaru checkout {failed}:classify#1 --before")
    assert cells("%kitaru undo").out == "0 loaded, 1 removed\n"
    assert "package" not in cells.shell.user_ns


def test_a_recorded_variable_that_has_changed_since_is_recorded_before_it_is_replaced(cells, failed):
    cells("%%kitaru_step make\npackage = [1]")
    cells("package.append(2)")
    cells(f"%kitaru checkout {failed}:classify#1 --before")
    assert [c.label for c in cells.checkpoints] == ["make#1", "kept#1"]
    assert cells.checkpoints[-1].artifacts[0].load() == [1, 2]
    cells("%kitaru undo")
    assert cells("package").value == [1, 2]


def test_an_input_that_is_no_data_is_said(cells):
    @kitaru.checkpoint
    def work(n, how):
        return n

    @kitaru.flow
    def go():
        return work(1, print)

    go.run()
    cells("%kitaru open last")
    ran = cells("%kitaru checkout work --before")
    assert "1 loaded" in ran.out
    assert "how could not be had again whole: it was no data" in ran.out


def test_the_inputs_of_the_step_before_which_it_paused(cells, audit):
    begin(audit, (1,), until="report")
    cells("%kitaru open last")
    cells("%kitaru checkout report --before")
    assert cells("found").value == [{"name": "numpy", "risk": 1}]


def test_a_step_that_has_given_nothing_can_be_given_its_output(cells, failed):
    cells("%kitaru open last-failed")
    cells("%kitaru edit classify#2")
    assert cells.shell.rl_next_input.startswith("%%kitaru_edit classify#2\n# it has given nothing")
    assert isinstance(cells("%%kitaru_edit classify#2\nold").error, NameError), "there is no value before"
    assert "has no output nothing" in f"{cells('%%kitaru_edit classify#2.nothing --json' + chr(10) + '1').error}"
    assert cells("%%kitaru_edit classify#2\n{'name': 'boto3', 'risk': 2}").out.startswith("classify#2 edited; ")
    assert cells("%kitaru resume").value == 2
    assert [row.decision for row in cells("%kitaru explain").value if row.step == "classify#2"] == ["edited"]


def test_a_flow_goes_back_to_behind_a_step_and_what_came_after_runs_again(cells, audit):
    first = audit.run(1).exec_id
    cells("%kitaru open last")
    ran = cells("%kitaru checkout collect")
    assert ran.out == "back in a fork; 2 steps run again when it goes on: classify#1, report#1\n"
    assert cells("%kitaru resume").value == 1
    fork = cells.notebook.get()
    assert fork.forked_from == first
    assert [r.decision for r in fork.explain()] == ["reused", "ran", "ran"]
    assert cells("%kitaru checkout report").out == "nothing came after it: the flow stands there\n"


# ---------------------------------------------------------------- from the failure to the right result


def test_open_edit_plan_resume(cells, failed):
    cells("%kitaru open last-failed")
    ran = cells('%%kitaru_edit collect\n[{**p, "licence": "GPL"} if p["name"] == "boto3" else p for p in old]')
    assert ran.error is None
    plan = cells("%kitaru plan")
    assert plan.out.startswith("2 steps would run again, 1 reused\n")
    assert [r.step for r in plan.value] == ["collect#1", "classify#1", "classify#2"]
    ran = cells("%kitaru resume")
    assert (ran.value, ran.error) == (9, None)
    fork = cells.notebook.get()
    assert ran.out.startswith(f"{fork.exec_id} completed: 2 steps run, 2 reused\n")
    assert (fork.forked_from, fork.status.value) == (failed, "completed")
    assert cells("step.ref, step.outputs.output").value == ("report#1", 9)
    assert KitaruClient().executions.get(failed).status.value == "failed"


def test_a_resume_that_fails_raises_the_flows_own_exception_and_says_what_to_type(cells, failed):
    cells("%kitaru open last")
    ran = cells("%kitaru resume")
    assert type(ran.error) is KeyError
    assert "return RULES[asked]" in ran.out
    assert "in rule(licence)" in ran.out
    assert "kitaru_jupyter" not in ran.out, "nor are the frames between shown"
    assert "drive" not in ran.out
    assert ran.err == f"kitaru: {failed} failed at classify#2; %kitaru debug stops where it fails\n"
    assert cells("step.ref").value == "classify#2"
    assert cells("1").err == "", "it is said once"


def test_a_resume_stops_before_a_step(cells, audit):
    begin(audit, (1,), until="collect")
    cells("%kitaru open last")
    exec_id = cells.notebook.get().exec_id
    assert cells("%kitaru resume --until report").out == f"{exec_id} paused before report#1; its inputs are in `step`\n"
    assert cells("step.inputs.found").value == [{"name": "numpy", "risk": 1}]


def test_new_code_takes_the_place_of_what_was_imported_for_this_run(cells, failed):
    module = sys.modules["audit_here"]
    was = module.classify
    cells("%kitaru open last")
    cells(
        "import kitaru\n@kitaru.checkpoint\ndef classify(package):\n"
        "    return {'name': package['name'], 'risk': {'MIT': 1}.get(package['licence'], 4)}"
    )
    ran = cells("%kitaru resume")
    assert ran.value == 4
    assert "classify of this notebook stands in for that of audit_here.py\n" in ran.out
    assert module.classify is was


def test_a_flow_that_was_defined_again_runs(cells, failed):
    cells("%kitaru open last")
    cells(
        "import kitaru, audit_here\n@kitaru.flow\ndef audit(limit):\n"
        "    return [audit_here.classify(p) for p in audit_here.collect(1)]"
    )
    ran = cells("%kitaru resume")
    assert "audit is the flow of this notebook" in ran.out
    assert ran.value == [{"name": "numpy", "risk": 1}]


def test_where_the_code_is_not_to_be_found_its_recorded_source_is_shown(cells, tmp_path):
    path = written(
        tmp_path, "audit_gone", AUDIT.replace("def audit(", "def audit_gone(").replace("audit.run", "audit_gone.run")
    )
    run(path, str(tmp_path / "runs"), "2")
    path.unlink()
    cells(f"%kitaru connect {tmp_path / 'runs'}")
    cells("%kitaru open last")
    for line in ("resume", "next", "continue"):
        ran = cells(f"%kitaru {line}")
        assert "return report([classify(p) for p in collect(limit)])" in ran.out
        assert "or define it in a cell of this notebook: a flow named audit_gone is taken" in ran.err
        assert "Traceback" not in ran.out + ran.err


def test_code_says_where_it_is(cells, tmp_path):
    path = written(tmp_path, "audit_moved")
    run(path, str(tmp_path / "runs"), "1")
    KitaruClient(str(tmp_path / "runs")).executions.fork("last", from_="report")
    moved = tmp_path / "elsewhere.py"
    path.rename(moved)
    cells(f"%kitaru connect {tmp_path / 'runs'}")
    cells("%kitaru open last")
    assert cells(f"%kitaru resume --code {moved}").value == 1


def test_an_edit_is_undone(cells, failed):
    cells("%kitaru open last-failed")
    cells("%%kitaru_edit collect\n[]")
    assert cells.notebook.get().exec_id != failed
    assert cells("%kitaru undo").out == f"back at {failed}\n"
    assert cells.notebook.get().exec_id == failed
    cells("%kitaru close")
    assert "nothing to undo" in cells("%kitaru undo").err


def test_connecting_lets_an_opened_execution_go(cells, failed, tmp_path):
    cells("%kitaru open last-failed")
    assert cells.notebook.get().exec_id == failed
    cells(f"%kitaru connect {tmp_path / 'other'}")
    assert cells.notebook.execution() is None
    assert cells.notebook.client.store.url == cells.notebook.session.store.url
    assert "nothing to undo" in cells("%kitaru undo").err


def test_seconds_that_a_plan_saves_are_said_where_there_are_some(cells):
    from kitaru_jupyter.replaying import summary

    class Plan:
        count = staticmethod(lambda *what: 2 if "rerun" in what else 11)
        saved = staticmethod(lambda of: 14.2)

    assert summary(Plan()) == "2 steps would run again, 11 reused, saves 14 s"
