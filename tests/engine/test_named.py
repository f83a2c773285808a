"""Named executions: the same command again goes on by itself."""

from __future__ import annotations

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import InputsDifferError, InvalidNameError, UsageError


@pytest.fixture
def audit(ran):
    @checkpoint
    def work(n):
        ran("work")
        return n * 2

    @checkpoint
    def last(n):
        if ran("last") == 1:
            raise ValueError("not yet")
        return n + 1

    @flow
    def audit(n, note="none"):
        return last(work(n))

    return audit


def test_running_it_begins_it_goes_on_after_a_failure_and_then_gives_its_result(store, client, audit, ran):
    named = audit.options(exec_id="audit-7")
    with pytest.raises(ValueError, match="not yet"):
        named.run(5)
    assert named.run(5).get() == 11
    handle = named.run(5)
    assert (handle.exec_id, handle.status, handle.get()) == ("audit-7", "completed", 11)
    assert ran.counts == {"work": 1, "last": 2}
    assert len(client.executions.list()) == 1


def test_other_inputs_are_an_error_that_names_them(store, audit):
    named = audit.options(exec_id="audit-7", raises=False)
    named.run(5)
    with pytest.raises(InputsDifferError) as e:
        named.run(6, note="text")
    assert "audit-7 was begun with other inputs" in str(e.value)
    assert "n: begun with int 5, now int 6" in str(e.value)
    assert "note: begun with" in str(e.value)
    assert 'options(inputs="recorded"), or KITARU_INPUTS=recorded' in str(e.value)
    assert named.run(n=5, note="none").get() == 11, "defaults that are given are the same inputs"
    with pytest.raises(InputsDifferError):
        named.run(6)


def test_recorded_inputs_can_be_taken_instead(store, audit, monkeypatch):
    audit.options(exec_id="audit-7", raises=False).run(5)
    assert audit.options(exec_id="audit-7", inputs="recorded").run(1000).get() == 11
    audit.options(exec_id="audit-8", raises=False).run(6)
    monkeypatch.setenv("KITARU_INPUTS", "recorded")
    assert audit.options(exec_id="audit-8").run(1000).get() == 13
    monkeypatch.setenv("KITARU_INPUTS", "old")
    with pytest.raises(UsageError, match="KITARU_INPUTS is 'old'"):
        audit.options(exec_id="audit-8").run(1000)


def test_where_it_does_not_exist_recorded_inputs_are_those_that_it_begins_with(store, audit, ran):
    ran("last")
    assert audit.options(exec_id="audit-7", inputs="recorded").run(4).get() == 9


def test_a_name_belongs_to_one_flow(store, audit):
    audit.options(exec_id="audit-7", raises=False).run(5)

    @flow
    def other(n, note="none"):
        return n

    with pytest.raises(
        InputsDifferError, match="audit-7 is an execution of the flow audit, not of other: choose another"
    ):
        other.options(exec_id="audit-7").run(5)


def test_the_environment_names_the_first_outermost_run(store, audit, ran, monkeypatch):
    monkeypatch.setenv("KITARU_EXEC_ID", "pod-1")
    ran("last")
    with pytest.raises(TypeError):
        audit.run()
    handle = audit.run(5)
    assert (handle.exec_id, handle.get()) == ("pod-1", 11)
    with pytest.raises(UsageError, match=r"KITARU_EXEC_ID=pod-1 names one execution, and audit has run under it"):
        audit.run(5)
    assert audit.options(exec_id="mine").run(5).exec_id == "mine"


def test_a_flow_in_the_named_one_is_a_step_of_it(store, client, audit, ran, monkeypatch):
    monkeypatch.setenv("KITARU_EXEC_ID", "pod-1")
    ran("last")

    @flow
    def outer():
        return audit(5)

    assert outer.run().get() == 11
    assert [s.exec_id for s in client.executions.list()] == ["pod-1"]


def test_a_bad_name_in_the_environment_is_refused(store, audit, monkeypatch):
    monkeypatch.setenv("KITARU_EXEC_ID", "../pod")
    with pytest.raises(InvalidNameError, match="cannot be an exec_id"):
        audit.run(5)
    monkeypatch.setenv("KITARU_EXEC_ID", "pod")
    assert audit.options(raises=False).run(5).exec_id == "pod"


def test_an_empty_name_in_the_environment_is_none(store, audit, monkeypatch):
    monkeypatch.setenv("KITARU_EXEC_ID", "")
    assert audit.options(raises=False).run(5).exec_id.startswith("audit-")


SCRIPT = """\
import os
from kitaru import checkpoint, flow

@checkpoint
def work(n):
    print("work")
    return n

@checkpoint
def die(n):
    if os.environ.get("DIE"):
        os.kill(os.getpid(), 9)
    return n

@flow
def audit(n):
    return die(work(n))

print(audit.run(int(os.environ["N"])).get())
"""


def test_a_container_that_is_restarted_goes_on(run_script, tmp_path):
    (tmp_path / "audit.py").write_text(SCRIPT)
    env = {"KITARU_EXEC_ID": "pod-1", "KITARU_STORE": str(tmp_path / "store"), "N": "1"}
    assert run_script("-u", "audit.py", env={**env, "DIE": "1"}).out == "work\n"
    again = run_script("audit.py", env=env)
    assert (again.code, again.out) == (0, "1\n"), again.err
    other = run_script("audit.py", env={**env, "N": "2"})
    assert other.code == 1
    assert "n: begun with int 1, now int 2" in other.err
    recorded = run_script("audit.py", env={**env, "N": "2", "KITARU_INPUTS": "recorded"})
    assert (recorded.code, recorded.out) == (0, "1\n"), recorded.err
    seen = KitaruClient(tmp_path / "store").executions.get("pod-1")
    assert (seen.status.value, seen.data.attempts) == ("completed", 2)


def test_closures_of_a_flow_that_are_no_data_do_not_keep_it_from_resuming(store, client, audit, ran):
    """`audit` closes over its steps: they count by name, and the code has them."""
    audit.options(exec_id="x", raises=False).run(5)
    assert client.executions.resume("x").get() == 11
