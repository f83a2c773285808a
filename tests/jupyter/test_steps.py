"""Cells as steps, in a shell of this process."""

from __future__ import annotations

import re

import pytest

from kitaru import errors
from kitaru.client import KitaruClient
from kitaru.stores.memory import MemoryStore


def test_a_cell_leaves_a_checkpoint_with_what_it_read_and_bound(cells):
    cells("x, unused = 3, 4")
    cells("%%kitaru_step double\ny = 2 * x")
    (c,) = cells.checkpoints
    assert (c.label, c.status) == ("double#1", "completed")
    assert {n: a.load() for n, a in c.inputs.items()} == {"x": 3}
    assert [a.load() for a in c.artifacts] == [6]
    assert c.source == "y = 2 * x"


def test_a_cell_runs_once_and_shows_what_it_always_shows(cells):
    cells("runs = []")
    ran = cells("%%kitaru_step once\nruns.append(1)\nprint('hello')\nlen(runs)")
    assert "hello" in ran.out
    assert ran.value == 1
    assert ran.err == ""
    assert cells("len(runs)").value == 1


def test_ordinals_count_up_and_none_is_reused(cells):
    for _ in range(3):
        cells("%%kitaru_step same\nx = 1")
    assert [c.label for c in cells.checkpoints] == ["same#1", "same#2", "same#3"]


def test_a_failed_cell_shows_its_own_traceback_and_then_what_to_type(cells):
    cells("x = 0")
    ran = cells("%%kitaru_step divide\n\ny = 1 / x")
    assert "ZeroDivisionError: division by zero" in ran.out
    assert "----> 3 y = 1 / x" in ran.out, "the line has the number that the front end shows"
    assert ran.err == "kitaru: divide#1 failed. What it had: %kitaru show divide#1\n"
    (c,) = cells.checkpoints
    assert c.status == "failed"
    assert c.inputs["x"].load() == 0
    assert c.failure.summary() == "ZeroDivisionError: division by zero"
    assert "IPython" not in c.failure.traceback


def test_a_corrected_cell_runs_again(cells):
    cells("%%kitaru_step s\nx = 1 / 0")
    cells("%%kitaru_step s\nx = 1 / 1")
    assert [(c.label, c.status) for c in cells.checkpoints] == [("s#1", "failed"), ("s#2", "completed")]


@pytest.mark.parametrize("code", ["x = (1", "x = 1\nreturn x", "  x = 1\n y = 2", "break", "x = 1\nnonlocal x"])
def test_a_syntax_error_leaves_no_checkpoint_and_runs_nothing(cells, code):
    cells("%%kitaru_step before\nq = 1")
    ran = cells(f"%%kitaru_step bad\n{code}")
    assert isinstance(ran.error, SyntaxError)
    assert re.search(r"(SyntaxError|IndentationError)", ran.out)
    assert "kitaru" not in ran.out
    assert [c.label for c in cells.checkpoints] == ["before#1"]
    assert "x" not in cells.shell.user_ns


def test_an_interrupted_cell_is_recorded_and_the_shell_goes_on(cells):
    ran = cells("%%kitaru_step long\nraise KeyboardInterrupt")
    assert ran.err == "kitaru: long#1 was interrupted. What it had: %kitaru show long#1\n"
    (c,) = cells.checkpoints
    assert c.status == "interrupted"
    assert "interrupted" in c.failure.message
    cells("%%kitaru_step next\nx = 1")
    assert cells.checkpoints[1].status == "completed"


def test_a_cell_that_would_exit_is_recorded_as_failed(cells):
    cells.shell.run_cell("import warnings; warnings.simplefilter('ignore')")
    cells("%%kitaru_step leave\nraise SystemExit(3)")
    assert cells.checkpoints[0].status == "failed"


def test_top_level_await_works_in_a_step(cells):
    cells("import asyncio")
    ran = cells("%%kitaru_step wait\nawait asyncio.sleep(0)\nx = await asyncio.sleep(0, 7)\nx")
    assert ran.value == 7
    assert cells.checkpoints[0].artifacts[0].load() == 7


def test_steps_that_a_cell_calls_nest_under_it(cells):
    cells("import kitaru\n@kitaru.checkpoint\ndef inner(a): return a + 1")
    cells("%%kitaru_step outer\nx = [inner(1), inner(2)]")
    cells("y = inner(3)")
    assert [c.label for c in cells.checkpoints] == ["outer#1", "outer#1/inner#1", "outer#1/inner#2"]


def test_async_steps_that_a_cell_awaits_nest_under_it(cells):
    cells("import kitaru\n@kitaru.checkpoint\nasync def inner(a): return a + 1")
    ran = cells("%%kitaru_step outer\nx = await inner(1)\nx")
    assert ran.value == 2
    assert [c.label for c in cells.checkpoints] == ["outer#1", "outer#1/inner#1"]


FLOWS = """
import kitaru

@kitaru.checkpoint
def half(n):
    return 12 // n

@kitaru.flow
def work(n):
    return half(n) + half(2 * n)

@kitaru.checkpoint
async def tell(n):
    return n

@kitaru.flow
async def listen(n):
    return await tell(n) / n
"""


@pytest.mark.parametrize("call", ["work(2)", "work.run(2).get()", "work.options(raises=False).run(2).get()"])
def test_a_flow_that_a_cell_runs_nests_under_it(cells, call):
    cells(FLOWS)
    ran = cells(f"%%kitaru_step outer\nx = {call}")
    assert (ran.error, cells("x").value) == (None, 9)
    assert [c.label for c in cells.checkpoints] == [
        "outer#1", "outer#1/work#1", "outer#1/work#1/half#1", "outer#1/work#1/half#2",
    ]  # fmt: skip
    assert len(KitaruClient().executions.list()) == 1


def test_its_handle_says_how_it_ended_and_where_it_is_recorded(cells):
    cells(FLOWS)
    cells("%%kitaru_step outer\nh = work.run(2); said = h.status, h.exec_id")
    assert cells("said").value == ("completed", cells.notebook.exec_id)
    ran = cells("%%kitaru_step broken\nwork.run(0)")
    assert isinstance(ran.error, ZeroDivisionError)
    ran = cells("%%kitaru_step caught\nstatus = work.options(raises=False).run(0).status")
    assert (ran.error, cells("status").value) == (None, "failed")
    last = {c.label: c.status for c in cells.checkpoints}
    assert (last["broken#1"], last["caught#1"], last["caught#1/work#1"]) == ("failed", "completed", "failed")


def test_an_async_flow_that_a_cell_runs_nests_under_it(cells):
    cells(FLOWS)
    ran = cells("%%kitaru_step outer\nhandle = listen.run(2)\nx = await handle\nx, handle.status")
    assert ran.value == (1.0, "completed")
    assert cells("%%kitaru_step blocks\nlisten.run(3).get()").value == 1.0, "where no loop runs it blocks"
    assert [c.label for c in cells.checkpoints if "tell" in c.label] == [
        "outer#1/listen#1/tell#1", "blocks#1/listen#1/tell#1",
    ]  # fmt: skip
    ran = cells("%%kitaru_step broken\nawait listen.run(0)")
    assert isinstance(ran.error, ZeroDivisionError)


@pytest.mark.parametrize("option", ["exec_id='mine'", "until='half'"])
def test_a_flow_in_a_recorded_cell_is_no_execution_of_its_own(cells, option):
    cells(FLOWS)
    ran = cells(f"%%kitaru_step outer\nwork.options({option}).run(2)")
    assert "run it in a cell that is not recorded, or by %kitaru run" in f"{ran.error}"


def test_a_step_that_a_cell_called_and_that_failed_is_named(cells):
    cells("import kitaru\n@kitaru.checkpoint\ndef inner(a): return 1 / a")
    cells("%%kitaru_step outer\nx = inner(0)")
    assert [(c.label, c.status) for c in cells.checkpoints] == [("outer#1", "failed"), ("outer#1/inner#1", "failed")]


def test_another_cell_magic_works_inside_of_a_step(cells):
    cells("x = 1")
    ran = cells("%%kitaru_step timed\n%%time\ny = x + 1")
    assert "Wall time" in ran.out
    (c,) = cells.checkpoints
    assert ([*c.inputs], [n for n, _ in c.data.outputs]) == (["x"], ["y"])


def test_in_and_out_say_what_the_code_does_not(cells):
    cells("x = 1; d = {}")
    cells("%%kitaru_step s --in x --out d\nd['k'] = eval('x')")
    (c,) = cells.checkpoints
    assert [*c.inputs] == ["x"]
    assert c.artifacts[0].load() == {"k": 1}


def test_an_out_that_is_not_bound_is_said(cells):
    ran = cells("%%kitaru_step s --out y\nx = 1")
    assert ran.err == "kitaru: s#1: --out names y, which the cell has not bound\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "%%kitaru_step: the following arguments are required: name. See %%kitaru_step?"),
        ("a b", "unrecognized arguments: b"),
        ("a --in nothing", "no such variable"),
        ("a --in x.y", "'x.y' is none"),
        ("a/b", "cannot be the name of a step"),
        ("a --frobnicate", "unrecognized arguments"),
        ('a "', "quotation"),
    ],
)
def test_a_magic_line_that_cannot_be_carried_out_runs_nothing(cells, line, says):
    ran = cells(f"%%kitaru_step {line}\nx = 1")
    assert says in ran.out
    assert "Traceback" not in ran.out
    assert "x" not in cells.shell.user_ns
    assert ran.error is not None


@pytest.mark.parametrize("magic", ["%%time", "%%capture out", "%%time\n\n%%capture out"])
def test_a_magic_line_behind_another_one_runs_nothing(cells, magic):
    ran = cells(f"{magic}\n%%kitaru_step s\nx = 1")
    assert ran.error is not None
    assert "must be the first line" in ran.out
    assert cells.notebook.exec_id is None
    assert "x" not in cells.shell.user_ns


def test_a_cell_that_only_writes_of_steps_is_a_plain_one(cells, tmp_path):
    ran = cells(f"%%writefile {tmp_path}/notes.txt\nBegin with\n%%kitaru_step NAME")
    assert ran.error is None
    assert cells.notebook.exec_id is None


def test_a_value_without_a_data_form_never_fails_a_cell(cells):
    cells("import threading\nlock = threading.Lock()")
    cells("%%kitaru_step s\nwith lock: g = (i for i in range(3)); n = 1")
    (c,) = cells.checkpoints
    assert c.status == "completed"
    assert "not restorable" in cells("%kitaru show s").text


def test_a_value_whose_repr_raises_is_recorded_and_shown(cells):
    cells("class Bad:\n  def __repr__(self): raise ValueError('no')\n  __str__ = __repr__")
    cells("%%kitaru_step s\nb = Bad()")
    assert cells.checkpoints[0].status == "completed"
    assert "s#1" in cells("%kitaru log").text
    assert cells("%kitaru show s.b").error is None


def test_a_cell_in_a_cell_is_refused_and_the_outer_one_is_recorded(cells):
    cells("%%kitaru_step outer\nr = get_ipython().run_cell('%%kitaru_step inner\\nq = 1')\nx = r.success")
    assert cells.shell.user_ns["x"] is False
    assert "q" not in cells.shell.user_ns
    assert [(c.label, c.status) for c in cells.checkpoints] == [("outer#1", "completed")]


def test_a_plain_cell_is_not_recorded(cells):
    cells("x = 1")
    assert cells.notebook.exec_id is None


class ReadOnly(MemoryStore):
    """A place that this user may only read."""

    def put_if_absent(self, key, data):
        raise errors.StorePermissionError(f"{key}: access denied. Ask for the right to write")

    def put(self, key, data):
        self.put_if_absent(key, data)


def test_on_a_store_that_cannot_be_written_no_step_runs_and_one_paragraph_says_so(cells, connected):
    connected(ReadOnly())
    ran = cells("%%kitaru_step s\nx = 1")
    assert "access denied. Ask for the right to write" in ran.out
    assert "Traceback" not in ran.out
    assert "The cell was not run" in ran.out
    assert "x" not in cells.shell.user_ns
    assert ran.error is not None
    assert cells("x = 2\nx").value == 2, "a plain cell runs"


class Flaky(MemoryStore):
    """A place that is gone when a test says so."""

    gone = False

    def put_if_absent(self, key, data):
        if self.gone:
            raise errors.StorePermissionError("the credentials have expired. Renew them")
        return super().put_if_absent(key, data)


def test_a_store_that_is_gone_when_the_cell_has_run_fails_the_cell_and_says_that_it_ran(cells, connected):
    place = connected(Flaky())
    cells("%%kitaru_step first\nx = 1")
    cells.shell.user_ns["place"] = place
    ran = cells("%%kitaru_step second --in x\nplace.gone = True\ny = x")
    assert isinstance(ran.error, errors.StoreError)
    assert "the cell has run, but second#1 could not be recorded: the credentials have expired" in ran.err
    assert cells.shell.user_ns["y"] == 1
    again = cells("%%kitaru_step third\nz = 1")
    assert again.error is not None
    assert "z" not in cells.shell.user_ns


def test_a_bug_in_the_analysis_does_not_let_a_cell_run_unrecorded(cells, monkeypatch):
    monkeypatch.setattr("kitaru_jupyter.recorder.touches_of", lambda tree, namespace: 1 / 0)
    ran = cells("%%kitaru_step s\nx = 1")
    assert "ZeroDivisionError" in ran.out
    assert "x" not in cells.shell.user_ns
    assert cells.magics.recorder in cells.shell.ast_transformers


def test_a_closed_execution_can_be_gone_on_with(cells):
    cells("%%kitaru_step s\nx = 1")
    exec_id = cells.notebook.exec_id
    cells("%kitaru close")
    assert KitaruClient().executions.get(exec_id).status.value == "paused"
    assert cells.notebook.exec_id is None
    cells(f"%kitaru open {exec_id}")
    cells("%%kitaru_step s\nx = 2")
    assert [c.label for c in cells.checkpoints] == ["s#1", "s#2"]
    assert cells.notebook.exec_id == exec_id


def test_a_terminal_waits_for_the_blank_line_that_ends_the_cell(cells):
    assert cells.shell.check_complete("%%kitaru_step s\n")[0] == "incomplete"
    assert cells.shell.check_complete("%%kitaru_step s\nx = 1\n\n")[0] == "complete"
