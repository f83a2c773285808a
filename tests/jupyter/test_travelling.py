"""Time travel: the variables as they were, what is left alone, and back again."""

from __future__ import annotations

import pytest

from kitaru.client import KitaruClient
from kitaru.testing.faults import Fault

from .conftest import Cells


@pytest.fixture
def audit(cells):
    """collect -> clean -> report, of plain data that shares nothing."""
    cells("%%kitaru_step collect\nrows = [3, 1, 2]")
    cells("%%kitaru_step clean\nclean = sorted(rows)\nfirst = clean[0]")
    cells("%%kitaru_step report\nreport = f'{clean}'\ndel first")
    return cells


def user(cells):
    return {n: cells.shell.user_ns[n] for n in sorted(cells.notebook.namespace.tracker.names())}


def test_a_checkout_makes_the_variables_what_they_were(audit):
    ran = audit("%kitaru checkout clean")
    assert ran.out == "1 loaded, 1 removed\n"
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "first": 1}


def test_before_a_step_are_its_inputs(audit):
    audit("%kitaru checkout clean --before")
    assert user(audit) == {"rows": [3, 1, 2]}


@pytest.mark.parametrize("ref", ["collect", "collect#1", "@1", "{exec}:collect", "{address}"])
def test_every_form_of_a_ref_is_taken(audit, ref):
    first = audit.checkpoints[0]
    audit("%kitaru checkout " + ref.format(exec=audit.notebook.exec_id, address=first.address))
    assert user(audit) == {"rows": [3, 1, 2]}


def test_what_is_the_same_is_not_touched(audit):
    rows = audit.shell.user_ns["rows"]
    audit("%kitaru checkout collect")
    audit("%kitaru checkout report")
    assert audit.shell.user_ns["rows"] is rows


def test_undo_goes_back_and_again(audit):
    audit("%kitaru checkout clean")
    audit("%kitaru checkout collect")
    audit("%kitaru undo")
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "first": 1}
    audit("%kitaru undo")
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "report": "[1, 2, 3]"}
    ran = audit("%kitaru undo")
    assert "there is nothing to undo" in ran.out + ran.err


def test_a_users_own_variables_are_left_alone_and_named(audit):
    audit("mine = 'not recorded'")
    assert audit("%kitaru checkout collect").out == "0 loaded, 2 removed; not recorded, and left alone: mine\n"
    assert user(audit) == {"mine": "not recorded", "rows": [3, 1, 2]}


def test_what_a_plain_cell_has_changed_is_recorded_before_it_is_lost(audit):
    audit("rows.append(4)\nclean = None")
    audit("%kitaru checkout collect")
    assert user(audit) == {"rows": [3, 1, 2]}
    kept = audit.checkpoints[-1]
    assert (kept.label, kept.data.type) == ("kept#1", "kept")
    audit("%kitaru undo")
    assert audit.shell.user_ns["rows"] == [3, 1, 2, 4]
    assert audit.shell.user_ns["clean"] is None


def test_what_changed_through_another_name_is_noticed(cells):
    cells("%%kitaru_step make\nrows = [1]\nalso = rows")
    cells("%%kitaru_step more\nalso.append(2)")
    cells("%kitaru checkout make")
    assert cells("rows, also is rows").value == ([1], True)
    cells("%kitaru checkout more")
    assert cells("rows, also is rows").value == ([1, 2], True)


def test_an_array_view_still_looks_into_its_array(cells):
    cells("%%kitaru_step make\nimport numpy\na = numpy.arange(4.)\nv = a[1:3]")
    cells("%%kitaru_step change\nv[:] = 9")
    cells("%kitaru checkout make")
    assert cells("a.tolist(), v.base is a").value == ([0, 1, 2, 3], True)
    cells("v[0] = 5")
    assert cells("a[1]").value == 5


def test_functions_and_classes_of_cells_work_again(cells):
    cells(
        "%%kitaru_step define\n"
        "factor = 2\n"
        "def double(n): return factor * n\n"
        "class Box:\n    def __init__(self, n): self.n = n\n    def grow(self): self.n = double(self.n)\n"
        "box = Box(3)"
    )
    cells("%%kitaru_step other\nfactor = 10\nbox.grow()")
    cells("del double, Box, box, factor")
    cells("%kitaru checkout define")
    assert cells("box.grow(), box.n, type(box) is Box").value == (None, 6, True)


def test_what_a_later_step_imported_is_taken_away_and_what_a_plain_cell_imported_stays(cells):
    cells("import re")
    cells("%%kitaru_step one\nx = 1")
    cells("%%kitaru_step two\nimport json as j\nfrom math import floor")
    for _ in range(2):
        cells("%kitaru checkout one")
        assert {"j", "floor", "re"} & cells.shell.user_ns.keys() == {"re"}
        cells("%kitaru checkout two")
        assert {"j", "floor", "re"} <= cells.shell.user_ns.keys()


def test_imports_come_back_by_their_names(cells):
    cells("%%kitaru_step one\nimport json as j\nfrom math import floor\nx = j.dumps(floor(1.5))")
    cells("del j, floor, x")
    cells("%kitaru checkout")
    assert cells("j.__name__, floor(2.5), x").value == ("json", 2, "1")


def test_a_variable_of_a_plain_cell_comes_back_with_the_step_that_read_it(cells):
    cells("limit = [2]")
    cells("%%kitaru_step use\nuse = limit * 2")
    (c,) = cells.checkpoints
    assert c.notes["unrecorded"] == {"limit": "In[2]"}
    assert c.notes["plain"][0]["source"] == "limit = [2]"
    cells("limit.append(99)")
    cells("%kitaru checkout use")
    assert cells("limit").value == [2]


def test_a_step_after_a_checkout_begins_a_fork_and_nothing_is_lost(audit):
    first = audit.notebook.exec_id
    audit("%kitaru checkout collect")
    audit("%%kitaru_step other\nother = rows[0]")
    fork = audit.notebook.execution()
    assert fork.exec_id != first
    assert fork.forked_from == first
    assert [s.label for s in fork.branch()] == ["collect#1", "other#1"]
    text = audit("%kitaru log").text
    assert "another way from here" in text
    audit(f"%kitaru checkout {first}:report")
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "report": "[1, 2, 3]"}
    audit("%kitaru checkout other")


def test_a_step_of_an_origin_is_found_from_its_fork(audit):
    audit("%kitaru checkout collect")
    audit("%%kitaru_step other\nother = 1")
    audit("%kitaru checkout clean")
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "first": 1}


def test_looking_at_a_checkpoint_begins_no_fork(audit):
    audit("%kitaru checkout collect")
    audit("%kitaru checkout")
    audit("%%kitaru_step more\nmore = 1")
    assert len(KitaruClient().executions.list()) == 1


def test_another_session_goes_on_where_this_one_was(audit, capsys):
    name = audit.notebook.exec_id
    audit("%reload_ext kitaru")
    audit("del rows, clean, report")
    audit(f"%kitaru open {name}")
    assert audit("%kitaru checkout").out == "3 loaded, 0 removed\n"
    assert user(audit) == {"rows": [3, 1, 2], "clean": [1, 2, 3], "report": "[1, 2, 3]"}
    audit("%%kitaru_step more\nmore = report + '!'")
    assert [c.label for c in audit.checkpoints] == ["collect#1", "clean#1", "report#1", "more#1"]


@pytest.mark.parametrize("line", ["connect memory://elsewhere", "close", "open {older}"])
def test_another_execution_begins_at_its_own_place(audit, line):
    """Where the variables stood is a place of the execution that was let go of, and of no other one."""
    older = audit.notebook.exec_id
    audit("%kitaru close")
    audit("%%kitaru_step begin\na = 1")
    audit("%%kitaru_step middle\na = 2")
    audit("%kitaru checkout begin")
    audit(f"%kitaru {line.format(older=older)}")
    audit("%%kitaru_step one\nx = 1")
    audit("%%kitaru_step two\ny = 1")
    labels = [step.label for step in audit.notebook.execution().branch()]
    assert labels[-2:] == ["one#1", "two#1"]
    assert "two#1" in audit("%kitaru log").text


def test_undo_goes_back_to_the_store_that_it_came_from(audit, tmp_path):
    here, big = audit.notebook.exec_id, "rows = rows * 1000"
    audit(f"%%kitaru_step grow\n{big}")
    home = audit.notebook.session.store.url
    audit(f"%kitaru connect {tmp_path}")
    audit("%%kitaru_step count\nn = len(rows)\nrows.append(4)")
    there = audit.checkpoints[-1].address
    audit(f"%kitaru connect {home}")
    audit(f"%kitaru open {here}")
    audit("%kitaru checkout collect")
    audit(f"%kitaru checkout {there}")
    assert (user(audit)["n"], user(audit)["rows"]) == (3000, [3, 1, 2] * 1000 + [4])
    assert audit("%kitaru undo").err == ""
    assert (user(audit), audit.notebook.session.store.url) == ({"rows": [3, 1, 2]}, home)
    audit("%%kitaru_step on\nrows.append(5)")
    assert audit.notebook.execution().forked_from == here


def test_a_failed_cell_is_no_state_but_what_it_did_is_noted(audit):
    audit("%%kitaru_step broken\nrows.append(1)\n1 / 0")
    audit("%%kitaru_step use\nuse = len(rows)")
    use = audit.checkpoints[-1]
    assert use.notes["unrecorded"] == {"rows": "broken#1"}
    assert use.inputs["rows"].load() == [3, 1, 2, 1]
    audit("%kitaru checkout report")
    assert audit.shell.user_ns["rows"] == [3, 1, 2]


def test_code_of_a_store_that_is_not_trusted_does_not_run(cells, monkeypatch):
    cells("%%kitaru_step make\nclass Box:\n    print('running')\nbox = Box()")
    monkeypatch.setattr("kitaru.artifacts.is_trusted", lambda store: False)
    cells("del box, Box\nkept = 1")
    ran = cells("%kitaru checkout")
    assert "KITARU_TRUST" in ran.out + ran.err
    assert "running" not in ran.out
    assert user(cells) == {"kept": 1}


def test_what_cannot_be_restored_says_so_when_it_is_used(cells):
    cells("%%kitaru_step make\ng = (n for n in range(3))\nn = 1")
    assert "generator" in cells.checkpoints[0].notes["unrestorable"]["g"]
    cells("del g")
    assert "g could not be had again whole" in cells("%kitaru checkout").out
    ran = cells("next(g)")
    assert "Run the cell that made it again" in str(ran.error)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("checkout nothing", "no checkpoint nothing#1"),
        ("checkout @9", "there is no @9"),
        ("checkout clean.first", "is a value"),
        ("checkout a b", "unrecognized arguments: b"),
    ],
)
def test_what_cannot_be_checked_out_changes_nothing(audit, line, says):
    before = user(audit)
    ran = audit(f"%kitaru {line}")
    assert says in ran.out + ran.err
    assert user(audit) == before


def test_a_checkout_before_the_first_step_says_what_to_do(cells):
    ran = cells("%kitaru checkout")
    assert "there is no execution yet" in ran.out + ran.err


def test_the_alias_does_the_same(audit):
    audit("%kitaru_checkout collect")
    assert user(audit) == {"rows": [3, 1, 2]}


@pytest.mark.parametrize("line", ["%kitaru checkout collect", "%%kitaru_edit collect\n[9]", "%kitaru resume"])
def test_a_store_that_is_gone_changes_no_variable(bare_shell, capsys, faulty, monkeypatch, line):
    monkeypatch.setenv("KITARU_STORE_BUDGET", "0")
    bare_shell.run_cell("%load_ext kitaru")
    cells = Cells(bare_shell, capsys)
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step clean\nclean = sorted(rows)\nrows = [4]")
    before = user(cells)
    faulty.plan = lambda _: Fault.UNAVAILABLE
    ran = cells(line)
    faulty.plan = lambda _: None
    said = ran.out + ran.err
    assert "UsageError" in said
    assert "Traceback" not in said
    assert "slow down" in said or "store" in said
    assert user(cells) == before
    cells("%kitaru checkout collect")
    assert cells.shell.user_ns["rows"] == [3, 1]
