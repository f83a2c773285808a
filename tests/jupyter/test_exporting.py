"""An exported session: which cells it is made of, and that it gives what was recorded."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

import kitaru


@pytest.fixture
def exported(cells, tmp_path):
    """Export the session; gives the sources of the notebook's cells behind the first one."""

    def run(options=""):
        ran = cells(f"%kitaru export {tmp_path / 'kept.ipynb'} {options}")
        assert ran.error is None, ran.out + ran.err
        notebook = nbformat.read(tmp_path / "kept.ipynb", as_version=4)
        nbformat.validate(notebook)
        return [cell.source for cell in notebook.cells[1:]]

    return run


@pytest.fixture
def again(cells, exported, tmp_path):
    """Export the session and run that from the top; gives the sources, and those of the cells that failed."""

    def run():
        sources = exported()
        cells("%kitaru close")
        cells.shell.reset(new_session=False)
        notebook = nbformat.read(tmp_path / "kept.ipynb", as_version=4)
        failed = [cell.source for cell in notebook.cells if cells(cell.source).error is not None]
        return sources, failed

    return run


# ---------------------------------------------------------------- in a real kernel


SESSION = [
    "%load_ext kitaru",
    "import pandas as pd\nlimit = [3]",
    "limit.append(1)",
    "%%kitaru_step collect\nprint('collecting')\nrows = [3, 1, 2]\ntable = pd.DataFrame({'n': rows})\ntable",
    "top = max(limit)\ntop",
    "%%kitaru_step clean\nclean = [r for r in rows if r <= top]\ndisplay({'text/html': '<b>'}, raw=True)\nobject()",
    "%%kitaru_step grow\nclean.append(top)\ndef double(n): return 2 * n\nalso = [clean]\nboth = also, also",
    "%%kitaru_step report\nimport datetime\nprint(datetime.datetime.now())\nreport = f'{double(len(clean))} rows'",
    "%%kitaru_edit collect.rows --why 'boto3 is no library of ours'\n[r for r in old if r != 2]",
    "%%kitaru_edit collect.table\nold[old['n'] != 2]",
    "%kitaru resume",
    "%%kitaru_step broken\nprint('trying')\n1 / 0",
    "%kitaru export kept.ipynb",
]


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets of a kernel that was shut down
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Kernel is running over TCP")
def test_nbval_passes_on_an_exported_session_and_sees_what_is_changed_in_it(tmp_path, monkeypatch, nbval):
    monkeypatch.setenv("KITARU_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    session = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in SESSION])
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(session, timeout=60, kernel_name="python3", resources=where, allow_errors=True).execute()
    said = "".join(output.get("text", "") for output in session.cells[-1].outputs)
    assert said == (
        "kept.ipynb: 5 steps, 4 values checked\n"
        "not checked, since they are no plain values: grow.double, grow.also, grow.both, grow.clean\n"
    )
    notebook = nbformat.read(tmp_path / "kept.ipynb", as_version=4)
    text = nbformat.writes(notebook)
    assert str(tmp_path) not in text
    assert "kitaru_edit" not in text
    by_name = {cell.source.partition("\n")[0]: cell for cell in notebook.cells}
    assert "nbval-ignore-output" not in by_name["%%kitaru_step collect"].metadata.get("tags", [])
    assert "text/html" in by_name["%%kitaru_step collect"].outputs[1].data
    assert by_name["%%kitaru_step broken"].metadata.tags == ["raises-exception"]
    assert by_name["%%kitaru_step report"].metadata.tags == ["nbval-ignore-output"]
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (len(notebook.cells), 0), out
    by_name["%%kitaru_step edit_rows"].source = by_name["%%kitaru_step edit_rows"].source.replace("!= 2", "!= 1")
    by_name["%%kitaru_step collect"].outputs[0].text = "another text\n"
    passed, failed, out = nbval(notebook)
    assert failed == 3, out  # what collect says, the edited rows, and what clean makes of them


# ---------------------------------------------------------------- which cells


def test_steps_with_their_checks_in_order(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step clean\nclean = sorted(rows)\nfirst = clean[0]")
    assert again() == (
        [
            "%%kitaru_step collect\nrows = [3, 1]",
            "assert rows == [3, 1]",
            "%%kitaru_step clean\nclean = sorted(rows)\nfirst = clean[0]",
            "assert clean == [1, 3]",
            "assert first == 1",
        ],
        [],
    )


def test_a_step_that_was_run_again_takes_the_place_of_the_first(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step clean\n1 / 0")
    cells("%%kitaru_step report\nreport = 1")
    cells("%%kitaru_step clean\nclean = sorted(rows)")
    sources, failed = again()
    assert [s.partition("\n")[0] for s in sources if s.startswith("%%")] == [
        "%%kitaru_step collect", "%%kitaru_step clean", "%%kitaru_step report",
    ]  # fmt: skip
    assert not failed


def test_a_cell_that_failed_stays_where_nothing_took_its_place(cells, exported, tmp_path):
    cells("%%kitaru_step broken\n1 / 0")
    cells("%%kitaru_step after\nn = 1")
    sources = exported()
    assert sources == ["%%kitaru_step broken\n1 / 0", "%%kitaru_step after\nn = 1", "assert n == 1"]
    cell = nbformat.read(tmp_path / "kept.ipynb", as_version=4).cells[1]
    assert cell.outputs[-1].evalue == "division by zero"
    assert "broken#1 failed" in cell.outputs[-2].text


def test_a_step_that_was_interrupted_is_left_out_and_said_to_be(cells, exported, tmp_path):
    cells("%%kitaru_step slow\nraise KeyboardInterrupt")
    cells("%%kitaru_step after\nn = 1")
    ran = cells(f"%kitaru export {tmp_path / 'kept.ipynb'}")
    assert "left out: slow#1, which is interrupted\n" in ran.out
    assert exported("--force") == ["%%kitaru_step after\nn = 1", "assert n == 1"]


def test_plain_cells_that_a_step_took_something_from_and_no_others(cells, again):
    cells("import math as m\nunused = 1")
    cells("limit = [2]")
    cells("limit")
    cells("other = 5")
    cells("limit.append(m.floor(9.5))")
    cells("print(limit)")
    cells("def double(n): return n * 2")
    cells("%%kitaru_step use\nuse = double(max(limit))")
    cells("limit.append(99)")
    sources, failed = again()
    assert sources == [
        "import math as m\nunused = 1",
        "limit = [2]",
        "limit.append(m.floor(9.5))",
        "def double(n): return n * 2",
        "%%kitaru_step use\nuse = double(max(limit))",
        "assert use == 18",
    ]
    assert not failed


def test_a_plain_cell_that_changes_what_a_step_has_made_stands_between(cells, again):
    cells("%%kitaru_step make\nrows = [1]")
    cells("rows.append(2)")
    cells("%%kitaru_step use\ntotal = sum(rows)")
    sources, failed = again()
    assert sources[2:4] == ["rows.append(2)", "%%kitaru_step use\ntotal = sum(rows)"]
    assert not failed


def test_what_was_there_before_the_extension_is_written_out(bare_shell, capsys, store, tmp_path):
    from .conftest import Cells

    bare_shell.run_cell("import collections.abc as abc\nfrom math import floor as down\nlimit = [2.5]")
    bare_shell.run_cell("%load_ext kitaru")
    cells = Cells(bare_shell, capsys)
    cells("%%kitaru_step use\nuse = down(limit[0]), isinstance(limit, abc.Sized)")
    cells(f"%kitaru export {tmp_path / 'kept.ipynb'}")
    sources = [c.source for c in nbformat.read(tmp_path / "kept.ipynb", as_version=4).cells[1:]]
    assert sorted(sources[:3]) == ["from collections import abc", "from math import floor as down", "limit = [2.5]"]
    bare_shell.reset(new_session=False)
    assert all(cells(source).error is None for source in sources)


def test_what_no_cell_has_made_and_no_code_can_say_is_refused(cells, tmp_path):
    cells.shell.user_ns["thing"] = {"a": [range(3)] * 2}
    cells("%%kitaru_step use\nn = len(thing)")
    ran = cells(f"%kitaru export {tmp_path / 'kept.ipynb'}")
    assert "use#1 has thing, which no cell" in ran.out + ran.err
    assert not [*tmp_path.glob("*.ipynb*")]


def test_cells_without_names_are_kept_as_they_are(cells, again):
    cells("%kitaru record on")
    for cell in ("x = 1", "y = x + 1", "z = [x]", "z.append(y)"):
        cells(cell)
    cells("%kitaru record off")
    sources, failed = again()
    assert [s for s in sources if s.startswith("%%")] == [
        "%%kitaru_step cell\nx = 1", "%%kitaru_step cell\ny = x + 1", "%%kitaru_step cell\nz = [x]",
        "%%kitaru_step cell\nz.append(y)",
    ]  # fmt: skip
    assert not failed


def test_functions_classes_and_shared_variables_are_noted_and_not_checked(cells, again):
    cells("%%kitaru_step make\nclass Box: pass\ndef double(n): return 2 * n\na = [1]\nb = (a, a)\nn = 1")
    sources, failed = again()
    assert sorted(s for s in sources if s.startswith("#")) == [
        "# Box is not checked: it is no plain value (type <class Box>)",
        "# a is not checked: it is no plain value (it shares objects with b)",
        "# b is not checked: it is no plain value (it shares objects with a)",
        "# double is not checked: it is no plain value (function <function double>)",
    ]
    assert sources[-1] == "assert n == 1"
    assert not failed


def test_an_export_goes_up_to_where_the_variables_stand(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step clean\nclean = sorted(rows)")
    cells("%kitaru checkout collect")
    sources, failed = again()
    assert sources == ["%%kitaru_step collect\nrows = [3, 1]", "assert rows == [3, 1]"]
    assert not failed


def test_another_way_is_exported_with_what_it_inherits(cells, again):
    cells("%%kitaru_step collect\nprint('hi')\nrows = [3, 1]")
    cells("%%kitaru_step clean\nclean = sorted(rows)")
    cells("%kitaru checkout collect")
    cells("%%kitaru_step other\nother = rows[0]")
    sources, failed = again()
    assert [s for s in sources if s.startswith("%%")] == [
        "%%kitaru_step collect\nprint('hi')\nrows = [3, 1]", "%%kitaru_step other\nother = rows[0]",
    ]  # fmt: skip
    assert not failed


def test_what_a_checkout_kept_is_a_cell_of_its_own(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("%%kitaru_step more\nmore = 1")
    cells("rows.append(4)")
    cells("%kitaru checkout collect")
    cells("%kitaru undo")
    cells("%%kitaru_step use\nn = len(rows)")
    sources, failed = again()
    assert "rows = [3, 1, 4]" in sources
    assert not failed


def test_a_session_that_was_opened_again_is_exported_the_same(cells, exported):
    cells("import math")
    cells("%%kitaru_step collect\nprint('hi')\nrows = [math.floor(3.5)]")
    cells("%%kitaru_edit collect\n[4]")
    cells("%kitaru resume")
    first, name = exported(), cells.notebook.exec_id
    cells("%reload_ext kitaru")
    cells(f"%kitaru open {name}")
    assert exported("--force") == first


# ---------------------------------------------------------------- edits


@pytest.fixture
def audit(cells):
    cells("%%kitaru_step collect\nrows = [3, 1, 2]")
    cells("%%kitaru_step clean\nclean = sorted(rows)")
    return cells


@pytest.mark.parametrize(
    ("edit", "written"),
    [
        ("%%kitaru_edit collect\n[*old, 7]", "rows = (lambda old: [*old, 7])(rows)"),
        ("%%kitaru_edit collect\nmore = [7]\nold + more", "old = rows\nmore = [7]\nrows = old + more\ndel old"),
        ("%%kitaru_edit collect --json\n[7, 8]", "rows = [7, 8]"),
        ("%%kitaru_edit collect\n[*old, *clean]", "rows = [3, 1, 2, 1, 2, 3]"),  # clean comes later
        ("%%kitaru_edit collect\nclean = 5\n[*old, clean]", "rows = [3, 1, 2, 5]"),  # it binds none of ours
        ("%%kitaru_edit collect\n%time [7]", "rows = [7]"),  # no Python
    ],
)
def test_an_edit_is_code_where_that_can_run_there_and_else_the_value(audit, again, edit, written):
    audit(edit)
    audit("%kitaru resume")
    sources, failed = again()
    assert [s for s in sources if "edit_rows" in s] == [f"%%kitaru_step edit_rows\n{written}"]
    assert not failed


def test_edits_of_one_value_are_made_one_after_the_other(audit, again):
    audit("%%kitaru_edit collect --why 'a fourth'\n[*old, 4]")
    audit("%%kitaru_edit collect\n[*old, 5]")
    audit("%kitaru resume")
    audit("%%kitaru_edit collect\n[*old, 6]")
    audit("%kitaru resume")
    sources, failed = again()
    assert [s.partition("\n")[2] for s in sources if "edit_rows" in s] == [
        "# a fourth\nrows = (lambda old: [*old, 4])(rows)",
        "rows = (lambda old: [*old, 5])(rows)",
        "rows = (lambda old: [*old, 6])(rows)",
    ]
    assert "assert clean == [1, 2, 3, 4, 5, 6]" in sources
    assert not failed


def test_an_edit_of_a_step_that_has_run_again_since_is_none_any_more(audit, again):
    audit("%%kitaru_edit collect\n[*old, 4]")
    audit("%kitaru resume")
    audit("%%kitaru_step collect\nrows = [3, 1, 2]")
    audit("%%kitaru_edit collect#2\n[*old, 5]")
    audit("%kitaru resume")
    sources, failed = again()
    assert [s.partition("\n")[2] for s in sources if "edit_rows" in s] == ["rows = (lambda old: [*old, 5])(rows)"]
    assert not failed


def test_an_edit_by_another_program_stands_as_its_value(audit, again):
    from kitaru.client import KitaruClient

    fork = KitaruClient().executions.fork(audit.notebook.exec_id, overrides={"collect": [9]})
    audit(f"%kitaru open {fork}")
    audit("%kitaru checkout")
    audit("%kitaru resume")
    sources, failed = again()
    assert "%%kitaru_step edit_rows\nrows = [9]" in sources
    assert not failed


def test_a_plain_cell_that_was_taken_as_it_is_stays_so(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("top = rows[0]")
    cells("%%kitaru_step report\nreport = top * 2")
    cells("%%kitaru_edit collect\n[5, 1]")
    cells("%kitaru resume --plain keep")
    sources, failed = again()
    assert sources[-4:] == [
        "top = rows[0]", "%%kitaru_step edit_top\ntop = 3", "%%kitaru_step report\nreport = top * 2",
        "assert report == 6",
    ]  # fmt: skip
    assert not failed


def test_a_plain_cell_that_was_run_too_runs_again(cells, again):
    cells("%%kitaru_step collect\nrows = [3, 1]")
    cells("top = rows[0]")
    cells("%%kitaru_step report\nreport = top * 2")
    cells("%%kitaru_edit collect\n[5, 1]")
    cells("%kitaru resume --plain run")
    sources, failed = again()
    assert sources[-3:] == ["top = rows[0]", "%%kitaru_step report\nreport = top * 2", "assert report == 10"]
    assert not failed


# ---------------------------------------------------------------- refusals


def refused(cells, line):
    ran = cells(f"%kitaru export {line}")
    assert ran.error is not None
    return ran.out + ran.err


def test_a_stale_step_is_to_be_resumed_first(audit, tmp_path):
    audit("%%kitaru_edit collect\n[1]")
    assert "clean#1 would give something else now" in refused(audit, tmp_path / "kept.ipynb")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_is_there_is_replaced_only_by_force(audit, tmp_path):
    file = tmp_path / "kept.ipynb"
    file.write_text("mine")
    assert "is there already" in refused(audit, file)
    assert file.read_text() == "mine"
    assert audit(f"%kitaru export {file} --force").out == f"{file}: 2 steps, 2 values checked\n"
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("name", "says"), [("kept.py", "must end with .ipynb"), ("none/kept.ipynb", "there is no folder")]
)
def test_what_is_no_place_for_a_notebook_is_refused(audit, tmp_path, name, says):
    assert says in refused(audit, tmp_path / name)


def test_nothing_is_no_notebook(cells, audit, tmp_path):
    audit("%kitaru checkout collect --before")
    assert "no step was recorded up to here" in refused(cells, tmp_path / "kept.ipynb")
    cells("%kitaru close")
    assert "there is no execution yet" in refused(cells, tmp_path / "kept.ipynb")


def test_an_execution_of_a_flow_is_kept_by_the_fixture(cells, tmp_path, monkeypatch, replay):
    @kitaru.flow
    def works():
        return 1

    works.run()
    cells("%kitaru open last")
    said = refused(cells, tmp_path / "kept.ipynb")
    assert "by the fixture `replay`: replay('recorded/works-" in said
    monkeypatch.chdir(tmp_path)
    eval(re.search(r"Copy it: (.*?); and", said)[1])
    (recorded,) = (tmp_path / "tests/recorded/executions").iterdir()
    assert replay(tmp_path / f"tests/recorded/{recorded.name}", works).result == 1, "what it says to type does it"
    assert f"recorded/{recorded.name}'" in said
