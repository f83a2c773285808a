"""Edits in place, what they make stale, and resuming just that."""

from __future__ import annotations

import pytest

from kitaru.client import KitaruClient
from kitaru.sessions import verdicts


@pytest.fixture
def audit(cells):
    """collect -> clean -> report; and count, which reads what collect gave. `ran` says which cells run."""
    cells("ran = []")
    cells("%%kitaru_step collect\nrows = [3, 1, 2]")
    cells("%%kitaru_step clean\nclean = sorted(r for r in rows if r > 1)")
    cells("%%kitaru_step count\ncount = len(rows)")
    cells("%%kitaru_step report\nreport = f'{clean}'\nprint('reporting')\nreport")
    return cells


def values(cells, *names):
    return tuple(cells.shell.user_ns.get(name) for name in names)


def test_an_edit_is_set_at_once_and_what_reads_it_is_stale(audit):
    ran = audit("%%kitaru_edit collect --why '3 was wrong'\n[r for r in old if r != 3]")
    assert ran.out == "collect#1.rows edited; 3 steps now stale: clean#1, count#1, report#1\n"
    assert values(audit, "rows", "clean") == ([1, 2], [2, 3])
    assert "old" not in audit.shell.user_ns
    assert "stale: reads collect#1.rows, which is edited" in audit("%kitaru log").text
    begun = audit.notebook.execution().data.begun
    assert begun.options["why"] == "3 was wrong"


def test_resume_runs_what_is_stale_and_ends_early(audit):
    audit("%%kitaru_edit collect\n[9, 3, 2]")  # clean gives [2, 3, 9]; and count the same as before
    ran = audit("%kitaru resume")
    assert ran.out.startswith("reporting\n")
    assert ran.out.endswith("3 steps run; 1 reused\n")
    assert values(audit, "rows", "clean", "count", "report") == ([9, 3, 2], [2, 3, 9], 3, "[2, 3, 9]")
    decisions = {row.step: row.decision for row in audit("%kitaru explain").value}
    assert decisions == {"collect#1": "edited", "clean#1": "ran", "count#1": "ran", "report#1": "ran"}


def test_what_gives_the_same_again_stops_the_chain(audit):
    audit("%%kitaru_edit collect\n[3, 2]")
    ran = audit("%kitaru resume")
    assert ran.out == "2 steps run; 2 reused\n"
    decisions = {row.step: row.decision for row in audit("%kitaru explain").value}
    assert decisions["report#1"] == "reused"


def test_the_plan_says_the_same_beforehand(audit):
    audit("%%kitaru_edit clean\n[0]")
    plan = audit("%kitaru plan").value
    assert [(row.step, row.decision) for row in plan] == [
        ("collect#1", "reuse"), ("clean#1", "reuse"), ("count#1", "reuse"), ("report#1", "rerun"),
    ]  # fmt: skip


def test_nothing_is_stale_without_an_edit(audit):
    assert audit("%kitaru resume").out == "nothing is stale\n"


def test_from_runs_what_comes_behind_and_until_stops(audit):
    ran = audit("%kitaru resume --from count")
    assert ran.out.startswith("reporting\n")
    assert ran.out.endswith("2 steps run; 2 reused\n")
    audit("%%kitaru_edit collect\n[5]")
    audit("%kitaru resume --until count")
    assert values(audit, "clean", "count") == ([5], None)


def test_a_step_that_fails_stops_the_resume_before_it(audit):
    audit("%%kitaru_edit collect --force\n'no list'")
    ran = audit("%kitaru resume")
    assert "TypeError" in ran.out
    assert "clean#1 failed, and nothing behind it was run" in ran.err
    assert values(audit, "rows", "clean") == ("no list", None)
    assert ran.error is not None, "Run All stops"
    audit("%%kitaru_edit collect --force\n[4, 1]")
    assert "3 steps run" in audit("%kitaru resume").out
    assert values(audit, "report") == ("[4]",)


def test_the_newest_source_is_what_runs(audit):
    audit("%%kitaru_step clean\nclean = sorted(rows, reverse=True)")
    assert "stale: reads clean#2.clean" in audit("%kitaru log").text
    audit("%kitaru resume")
    assert values(audit, "report") == ("[3, 2, 1]",)


def test_undo_takes_an_edit_back(audit):
    audit("%%kitaru_edit clean\n[0]")
    audit("%kitaru undo")
    assert values(audit, "clean") == ([2, 3],)
    assert "stale" not in audit("%kitaru log").text


def test_two_edits_wait_for_one_resume(audit):
    audit("%%kitaru_edit collect\n[8]")
    audit("%%kitaru_edit clean\n[7]")
    audit("%kitaru resume")
    assert values(audit, "rows", "clean", "count", "report") == ([8], [7], 1, "[7]")
    statuses = sorted(s.status.value for s in KitaruClient().executions.list())
    assert statuses == ["cancelled", "paused", "running"]


@pytest.mark.parametrize(
    ("line", "body", "value"),
    [
        ("--json", '[1, {"a": null}]', [1, {"a": None}]),
        ("", "x = [1]\nx + old", [1, 2, 3]),
        ("--force", "None", None),
        ("--text --force", "two\nlines", "two\nlines"),
    ],
)
def test_the_value_is_code_or_data(audit, line, body, value):
    audit(f"%%kitaru_edit clean {line}\n{body}")
    assert values(audit, "clean") == (value,)
    assert "x" not in audit.shell.user_ns


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%kitaru_edit clean\n'text'", "is a list, and the new value is a str"),
        ("%%kitaru_edit clean --json\n[1", "the cell is no JSON"),
        ("%%kitaru_edit clean --json --text\n1", "not both"),
        ("%%kitaru_edit clean\nx = 1", "must be an expression"),
        ("%%kitaru_edit nothing\n1", "no checkpoint nothing#1"),
        ("%%kitaru_edit clean.other\n1", "names no single output of clean#1: say which of clean#1.clean"),
        ("%%kitaru_edit clean.in.rows\n1", "edit the output of the step that it comes from"),
        ("%%kitaru_edit clean\n1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_edit_that_cannot_be_changes_nothing(audit, cell, says):
    ran = audit(cell)
    assert says in ran.out + ran.err
    assert values(audit, "clean") == ([2, 3],)
    assert len(KitaruClient().executions.list()) == 1


def test_the_form_is_a_cell_that_changes_nothing(audit):
    audit("%kitaru edit clean")
    form = audit.shell.rl_next_input
    assert form == "%%kitaru_edit clean\n[2, 3]"
    audit(form)
    assert values(audit, "clean") == ([2, 3],)


def test_a_plain_cell_between_is_not_used_in_silence(cells):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("top = rows[0]")
    cells("%%kitaru_step report\nreport = top * 2")
    cells("%%kitaru_edit collect\n[5, 1]")
    ran = cells("%kitaru resume")
    assert "the plain cell In[2] bound from what has changed" in ran.out + ran.err
    assert values(cells, "report") == (6,)
    cells("%kitaru resume --plain run")
    assert values(cells, "top", "report") == (5, 10)


def test_a_plain_cell_may_be_taken_as_it_is(cells):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("top = rows[0]")
    cells("%%kitaru_step report\nreport = top * 2")
    cells("%%kitaru_edit collect\n[5, 1]")
    cells("%kitaru resume --plain keep")
    assert values(cells, "top", "report") == (3, 6)


def between(cells):
    """A plain cell between two steps."""
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("top = rows[0]")
    cells("%%kitaru_step report\nreport = top * 2")


PLAIN = "reads top, which the plain cell In[2] bound from what has changed"


def plan(cells):
    rows = cells("%kitaru plan").value
    return {row.step.removesuffix("#1"): row.why if row.decision == "rerun?" else row.decision for row in rows}


@pytest.mark.parametrize("how", ["run", "keep"])
def test_a_resume_keeps_in_mind_what_came_from_plain_cells(cells, how):
    between(cells)
    cells("%%kitaru_edit collect\n[5, 1]")
    assert cells(f"%kitaru resume --plain {how}").out == "1 step run; 1 reused\n"
    assert plan(cells) == {"collect": "reuse", "report": "reuse"}
    (cell,) = cells.notebook.execution().branch().steps[1].plain
    assert (cell.label, cell.source, cell.kept) == ("In[2]", "top = rows[0]", how == "keep")
    cells("%%kitaru_edit collect\n[7, 1]")
    assert plan(cells) == {"collect": "reuse", "report": PLAIN}
    cells("%%kitaru_edit collect\n[5, 1]")
    assert plan(cells) == {"collect": "reuse", "report": "reuse"}, "it is what the plain cell has found"


def test_a_step_that_ran_again_is_not_used_in_silence_behind_a_plain_cell(cells):
    between(cells)
    cells("%%kitaru_step collect\nrows = [5, 1]")
    assert plan(cells) == {"collect#2": "reuse", "report": PLAIN}
    assert "the plain cell In[2]" in f"{cells('%kitaru resume').error}"
    cells("%kitaru resume --plain run")
    assert values(cells, "top", "report") == (5, 10)
    cells("%%kitaru_step collect\nrows = [5, 1]")
    assert plan(cells)["report#2"] == "reuse", "it gave the same"


def test_nor_is_one_that_a_resume_ran_before_it_stopped(cells):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step clean\nclean = sorted(rows)")
    cells("top = clean[-1]")
    cells("%%kitaru_step report\nreport = top * 2")
    cells("%%kitaru_edit collect\n[5, 1]")
    cells("%kitaru resume --until report")
    assert plan(cells)["report"] == PLAIN.replace("In[2]", "In[3]")
    cells("%kitaru resume --plain run")
    assert values(cells, "top", "report") == (5, 10)


def test_a_plain_cell_that_no_step_has_noted_outlives_a_resume_and_a_checkout(cells):
    between(cells)
    cells("mine = rows[1]")
    cells("%%kitaru_edit report\n1")
    cells("%kitaru resume")
    cells("%kitaru checkout report --before")
    cells("%kitaru checkout")
    cells("%%kitaru_step later\nlater = mine + 1")
    assert [cell.source for cell in cells.notebook.execution().branch().steps[-1].plain] == ["mine = rows[1]"]
    cells("%%kitaru_edit collect\n[3, 9]")
    assert plan(cells)["later"].startswith("reads mine, which the plain cell In[4] bound")


def test_a_step_that_has_failed_for_good_is_passed(cells):
    cells("%%kitaru_step a\na = 1")
    cells("%%kitaru_step b\nb = a / 0")
    cells("%%kitaru_step c\nc = a + 1")
    cells("%%kitaru_step d\nd = 2 * c")
    cells("%%kitaru_edit a\n5")
    ran = cells("%kitaru resume")
    assert "the variables are what they were before it; %kitaru resume --from c#1 goes on without it" in ran.err
    assert cells("%kitaru resume --from c").out == "2 steps run; 1 reused\n"
    assert values(cells, "a", "c", "d") == (5, 6, 12)
    assert plan(cells) == {"a": "reuse", "b": "rerun", "c": "reuse", "d": "reuse"}


def test_what_reads_from_a_step_that_has_failed_since_is_stale(cells):
    cells("%%kitaru_step a\na = 2")
    cells("%%kitaru_step b\nb = 6 // a")
    cells("%%kitaru_step c\nc = b")
    cells("%%kitaru_edit a\n0")
    assert "goes on without it" not in cells("%kitaru resume").err, "c reads what b would give"
    assert plan(cells) == {"a": "reuse", "b": "rerun", "c": "reads b#1.b, which may change"}
    cells("%kitaru resume")
    assert plan(cells)["c"] == "reads b#1.b, which may change", "however often it fails"
    cells("%%kitaru_step b\nb = 6 // (a or 1)")
    cells("%kitaru resume")
    assert values(cells, "b", "c") == (6, 6)


def test_a_resume_behind_a_stop_brings_what_is_reused_there(cells):
    cells("%%kitaru_step a\na = [3, 1]")
    cells("%%kitaru_step b\nb = sorted(a)")
    cells("%%kitaru_step c\nc = b[0]")
    cells("%%kitaru_edit a\n[1, 3]")
    cells("%kitaru resume --until c")
    assert "c" not in cells.shell.user_ns
    assert cells("%kitaru resume").out == "nothing is stale\n"
    assert values(cells, "b", "c") == ([1, 3], 1)


def test_code_of_an_edit_that_fails_shows_its_own_frames_alone(audit):
    said = audit("%%kitaru_edit collect\nold.nothing").out
    assert "AttributeError: 'list' object has no attribute 'nothing'" in said
    assert "kitaru_jupyter" not in said


def test_code_that_nobody_has_typed_here_runs_only_from_a_store_that_is_trusted(cells, monkeypatch):
    cells("%%kitaru_step a\na = 1")
    cells("%%kitaru_step b\nprint('it runs')\nb = a")
    monkeypatch.setattr("kitaru.artifacts.is_trusted", lambda store: False)
    cells("%%kitaru_edit a\n2")
    assert "it runs" in cells("%kitaru resume").out, "it was typed here"
    cells("%%kitaru_edit a\n3")
    cells.notebook.typed.clear()  # as in another kernel
    for line in ("%kitaru resume", "%kitaru debug b"):
        ran = cells(line)
        assert "the code of b#1 would run, which was not typed in this notebook" in f"{ran.error}"
        assert "KITARU_TRUST" in f"{ran.error}"
        assert "it runs" not in ran.out


def test_async_cells_run_again(cells):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step wait\nimport asyncio\nawait asyncio.sleep(0)\nwaited = len(rows)")
    cells("%%kitaru_edit collect\n[5]")
    cells("%kitaru resume")
    assert values(cells, "waited") == (1,)


def test_flows_and_steps_that_a_cell_calls_nest_under_it_when_it_runs_again(cells):
    cells("import kitaru\n@kitaru.checkpoint\ndef double(n): return 2 * n")
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step twice\ntwice = [double(r) for r in rows]")
    cells("%%kitaru_edit collect\n[5]")
    cells("%kitaru resume")
    assert values(cells, "twice") == ([10],)
    assert [c.label for c in cells.checkpoints] == ["collect#1", "twice#1", "twice#1/double#1"]


def test_a_frame_and_a_shared_object_are_edited_as_what_they_are(cells):
    cells("%%kitaru_step make\nimport pandas\nframe = pandas.DataFrame({'a': [1, 2]})\nboth = [frame]")
    cells("%%kitaru_step total\ntotal = int(frame['a'].sum())")
    cells("%%kitaru_edit make.frame\nold.assign(a=old['a'] * 10)")
    assert cells("frame['a'].tolist(), both[0]['a'].tolist()").value == ([10, 20], [1, 2])
    cells("%kitaru resume")
    assert values(cells, "total") == (30,)


def test_two_edits_of_one_step_stand_beside_each_other(cells):
    cells("%%kitaru_step make\na = [1]\nb = [2]")
    cells("%%kitaru_edit make.a\n[10]")
    cells("%%kitaru_edit make.b\n[20]")
    (step,) = cells.notebook.execution().branch()
    assert step.edited == ("a", "b")
    cells("del a, b")
    cells("%kitaru checkout")
    assert values(cells, "a", "b") == ([10], [20])
    cells("%%kitaru_edit make.a\n[1]")  # what it was
    cells("%kitaru checkout")
    assert values(cells, "a", "b") == ([1], [20])


def test_how_an_edit_was_made_is_recorded_with_it(audit):
    audit("%%kitaru_edit collect --why 'a fourth'\n[*old, 4]")
    audit("%%kitaru_edit clean --json\n[7]")
    assert audit.notebook.execution().data.begun.options["edits"] == [
        {"ref": "collect#1.rows", "code": "[*old, 4]", "why": "a fourth"},
        {"ref": "clean#1.clean"},
    ]


def test_what_a_plain_cell_has_changed_in_place_is_not_stale(cells):
    cells("%%kitaru_step make\nrows = [1]")
    cells("rows.append(2)")
    cells("%%kitaru_step other\nother = 1")
    cells("%%kitaru_step use\ntotal = sum(rows)")
    assert cells("%kitaru resume").out == "nothing is stale\n"


def test_a_plain_cell_that_changes_an_edited_value_in_place_is_not_used_in_silence(cells):
    cells("%%kitaru_step make\nrows = [1]")
    cells("rows.append(2)")
    cells("%%kitaru_step use\ntotal = sum(rows)")
    cells("%%kitaru_edit make\n[5]")
    ran = cells("%kitaru resume")
    assert "the plain cell In[2]" in ran.out + ran.err
    cells("%kitaru resume --plain run")
    assert values(cells, "rows", "total") == ([5, 2], 7)


def test_a_plain_cell_that_only_looks_hands_nothing_on(cells):
    cells("%%kitaru_step make\nrows = [1]")
    cells("rows")
    cells("%%kitaru_step use\ntotal = sum(rows)")
    cells("%%kitaru_edit make\n[5]")
    assert cells("%kitaru resume").out == "1 step run; 1 reused\n"
    assert values(cells, "total") == (5,)


def test_a_cell_without_a_name_is_no_other_ones_newer_source(cells):
    cells("%kitaru record on")
    for cell in ("x = [1]", "y = len(x)", "z = y + 1"):
        cells(cell)
    assert [v.step.label for v in verdicts(cells.notebook.execution().branch())] == ["cell#1", "cell#2", "cell#3"]
    cells("%kitaru record off")
    cells("%%kitaru_edit cell#1\n[1, 2, 3]")
    cells("%kitaru resume")
    assert values(cells, "x", "y", "z") == ([1, 2, 3], 3, 4)
