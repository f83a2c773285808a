"""Looking along a branch: what a REF shows over forks, what a document shows, and the lineage."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

import kitaru


@pytest.fixture
def audit(cells):
    cells("%%kitaru_step collect\nrows = [3, 1, 2]")
    cells("%%kitaru_step clean\nclean = sorted(rows)\nprint('cleaning')")
    cells("%%kitaru_step report\nreport = f'{clean}'")
    return cells


@pytest.fixture
def fork(audit):
    """Another way, that begins behind clean."""
    audit("%kitaru checkout clean")
    audit("%%kitaru_step other\nother = clean[0]")
    return audit


# ---------------------------------------------------------------- along the branch


@pytest.mark.parametrize(
    ("ref", "begins"),
    [
        (
            "clean",
            "clean#1: completed\n  read    rows  list(3) [3, 1, 2]\n  bound   clean  list(3) [1, 2, 3]\n\n  clean =",
        ),
        ("clean.clean", "clean#1.clean\n[1, 2, 3]"),
        ("clean.in.rows", "clean#1.in.rows\n[3, 1, 2]"),
        ("@2", "clean#1: completed"),
        ("@3", "other#1: completed"),
        ("report", "report#1: completed"),  # of the origin, which went on
        ("last", "notebook: running"),
    ],
)
def test_show_finds_what_a_fork_inherits(fork, ref, begins):
    assert fork(f"%kitaru show {ref}").text.startswith(begins)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("@9", "has 3 steps; there is no @9"),
        ("clean.other", "clean#1 has no output other; it has: clean"),
        ("clean.in.other", "clean#1 has no input other; it has: rows"),
        ("nothing", "no checkpoint nothing#1"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(fork, ref, says):
    ran = fork(f"%kitaru show {ref}")
    assert says in ran.out + ran.err


def test_show_has_an_edit_before_anything_has_run_on_it(audit, tmp_path):
    audit("%%kitaru_edit clean\n[7]")
    assert audit("%kitaru show clean.clean").text == "clean#1.clean\n[7]"
    shown = audit("%kitaru show clean").text
    assert "bound   clean  list(1) [7]" in shown
    assert "clean = sorted(rows)" in shown
    audit(f"%kitaru show clean -o {tmp_path / 'clean.json'}")
    assert (tmp_path / "clean.json").read_text().split() == ["[", "7", "]"]


def test_show_finds_a_step_inside_of_an_inherited_one(cells):
    cells("import kitaru\n@kitaru.checkpoint\ndef double(n): return 2 * n")
    cells("%%kitaru_step twice\ntwice = [double(1), double(4)]")
    cells("%%kitaru_step more\nmore = 1")
    cells("%kitaru checkout twice")
    cells("%%kitaru_step other\nother = 1")
    assert cells("%kitaru show twice/double#2.output").text == "twice#1/double#2.output\n8"


def test_what_a_step_has_shown_is_found_after_it_was_reused(audit):
    audit("%%kitaru_edit clean\n[7]")
    audit("%kitaru resume")
    assert audit("%kitaru outputs clean").out == "cleaning\n"


def test_what_a_failed_cell_has_shown_is_kept(cells):
    cells("%%kitaru_step broken\nprint('before')\n1 / 0")
    assert cells("%kitaru outputs broken").out.startswith("before\n")


# ---------------------------------------------------------------- documents


@pytest.fixture
def documents(cells):
    cells(
        "%%kitaru_step make\n"
        "class Box:\n    def __init__(self, n):\n        self.n = n\n"
        "def double(n):\n    return 2 * n\n"
        "box = Box({'a': (1, {2})})\n"
        "a = [1, 'two']\nb = {'one': a, 2: (a, a)}\n"
        "import numpy as np\narray = np.arange(6)\nview = array[1:3]\n"
        "lost = [Box(1), (n for n in 'ab')]\nstep = kitaru.checkpoint(double) if 'kitaru' in globals() else double"
    )
    return cells


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Box", "class Box:\n    def __init__(self, n):\n        self.n = n"),
        ("a", "[1, 'two']\nIt shares objects with b"),
        ("b", "{'one': [1, 'two'], 2: ([1, 'two'], [1, 'two'])}\nIt shares objects with a"),
        ("box", "Box(n={'a': (1, {2})})"),
        ("double", "def double(n):\n    return 2 * n\nIt shares objects with step"),
    ],
)
def test_a_document_is_shown_as_what_it_is(documents, name, text):
    ran = documents(f"%kitaru show make.{name}")
    assert ran.text == f"make#1.{name}\n{text}"
    assert "kitaru.document" not in ran.html


def test_what_is_lost_of_it_says_so(documents):
    shown = documents("%kitaru show make.lost").text
    assert shown.startswith("make#1.lost\n[Box(n=1),")
    assert "<not restorable: builtins.generator: " in shown


def test_looking_at_a_document_runs_nothing(cells):
    cells("ran = []")
    cells("%%kitaru_step make\nclass Box:\n    ran.append(1)\n    def __repr__(self): ran.append(2)\nbox = Box()")
    before = list(cells.shell.user_ns["ran"])
    cells("%kitaru show make.box")
    cells("%kitaru show make.Box")
    assert cells.shell.user_ns["ran"] == before


# ---------------------------------------------------------------- lineage


def test_the_lineage_is_that_of_the_branch(fork):
    ran = fork("%kitaru lineage --text")
    assert ran.out == (
        "notebook, running\n"
        "collect#1  completed\n"
        "  generated  rows: list(3) [3, 1, 2]\n"
        "clean#1  completed\n"
        "  used       rows: collect#1.rows  list(3) [3, 1, 2]\n"
        "  generated  clean: list(3) [1, 2, 3]\n"
        "other#1  completed\n"
        "  used       clean: clean#1.clean  list(3) [1, 2, 3]\n"
        "  generated  other: int 1\n"
    )
    assert ran.value is None


def test_the_lineage_marks_what_is_stale_and_edited(audit):
    audit("%%kitaru_edit collect\n[5]")
    text = audit("%kitaru lineage --text").out
    assert "collect#1  completed, edited\n" in text
    assert "clean#1  completed, stale\n" in text
    audit("%kitaru resume")
    text = audit("%kitaru lineage --text").out
    assert "stale" not in text
    assert text.count("clean#1  completed") == 1


@pytest.mark.parametrize("ref", ["clean", "clean#1", "clean.clean", "@2", "other.in.clean", "last:other"])
def test_what_a_ref_names_is_pointed_out(fork, ref):
    picture = fork(f"%kitaru lineage {ref}").value
    assert "needed by" in picture.text
    assert [r.rpartition(":")[2] for r in picture.order] == [
        "collect#1", "collect#1.rows", "clean#1", "clean#1.clean", "other#1", "other#1.other",
    ]  # fmt: skip


def test_the_picture_is_the_same_each_time_and_shows_itself(fork):
    picture = fork("%kitaru lineage").value
    again = fork("%kitaru lineage").value
    assert (picture.svg, picture.text) == (again.svg, again.text)
    assert {*picture._repr_mimebundle_()} == {"text/plain", "text/html"}
    assert picture.alt == "Lineage of notebook: 3 steps, 3 values."


def test_another_execution_and_fewer_nodes(audit):
    @kitaru.checkpoint
    def double(n):
        return 2 * n

    @kitaru.flow
    def works():
        return sum(double(n) for n in range(40))

    works.run()
    assert "works" in audit("%kitaru lineage last --text").out
    assert "double#3" in audit("%kitaru lineage double#3 last --text").out
    assert len(audit("%kitaru lineage last --most 10").value.order) <= 10
    assert "collect#1" in audit("%kitaru lineage --text").out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nothing", "no checkpoint nothing#1"),
        ("clean.nothing", "clean#1 has no output nothing"),
        ("--most few", "invalid int value"),
    ],
)
def test_a_lineage_of_nothing_is_refused(audit, line, says):
    ran = audit(f"%kitaru lineage {line}")
    assert says in ran.out + ran.err


def test_tab_completes_what_is_inherited(fork):
    with provisionalcompleter():
        offered = [c.text for c in fork.shell.Completer.completions("%kitaru lineage cl", 18)]
    assert offered[:2] == ["clean#1", "clean#1.clean"]
