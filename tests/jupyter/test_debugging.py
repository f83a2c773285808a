"""A recorded step again: in the debugger where somebody can be asked, else its frames in print."""

from __future__ import annotations

import builtins
import sys

import pytest

from kitaru import checkpoint
from kitaru_jupyter import debugging

from .flows import AUDIT, run, written

DEFINITIONS = """
import json

import kitaru

calls = []

@kitaru.checkpoint
def parse(text, tries=2):
    calls.append(text)
    size = len(text)
    return json.loads(text)

@kitaru.checkpoint
def twice(n):
    return 2 * n

@kitaru.flow
def work(text):
    return twice(parse(text)["n"])
"""


@pytest.fixture
def failed(cells):
    cells(DEFINITIONS)
    cells("work.options(raises=False).run('{')")
    cells("%kitaru open last")
    return cells


def test_where_nobody_can_be_asked_the_frames_and_their_locals_are_printed(failed):
    ran = failed("%kitaru debug")
    assert ran.error is None
    lines = ran.out.splitlines()
    assert lines[0].startswith("parse#1 fails again: JSONDecodeError: Expecting property name")
    assert lines[2:7] == [
        "In[1]:11 in parse",
        "    return json.loads(text)",
        "      text = str(1) '{'",
        "      tries = int 2",
        "      size = int 1",
    ]
    assert lines[7].startswith("__init__.py:")
    assert "kitaru" not in ran.out.replace("%kitaru", "")
    assert failed("calls").value == ["{", "{"], "it ran once more"


def test_nothing_of_it_is_recorded(failed):
    before = [(c.label, c.status) for c in failed.notebook.get().checkpoints]
    failed("%kitaru debug")
    assert [(c.label, c.status) for c in failed.notebook.get().checkpoints] == before
    assert failed.notebook.get().reading.n == failed.notebook.get().reading.n
    failed("@kitaru.checkpoint\ndef parse(text, tries=2):\n    return twice(1)")
    failed("%%kitaru_step outer\nget_ipython().run_line_magic('kitaru', 'debug parse')")
    failed("%kitaru close")
    assert [c.label for c in failed.checkpoints] == ["outer#1"], "nor where a cell that is a step asks for it"


@pytest.fixture
def typed(monkeypatch):
    """Somebody sits there, and types these lines."""

    def type_(*lines):
        asked = iter(lines)
        monkeypatch.setattr(debugging, "can_ask", lambda shell: True)
        monkeypatch.setattr(builtins, "input", lambda prompt="": next(asked))
        monkeypatch.setattr("pdb.Pdb.use_rawinput", True, raising=False)

    return type_


def test_the_debugger_stops_at_the_deepest_frame_of_the_users_own_code(failed, typed):
    typed("p (text, size)", "down", "p s", "q")
    ran = failed("%kitaru debug")
    assert ran.error is None
    assert "('{', 1)" in ran.out
    assert "json/__init__.py" in ran.out.replace("\\", "/"), "further down lies the library"


def test_a_step_that_does_not_fail_again_says_so_beside_what_is_recorded(failed):
    failed("@kitaru.checkpoint\ndef parse(text, tries=2):\n    return {'n': 4}")
    ran = failed("%kitaru debug")
    assert ran.out.splitlines() == [
        "parse is the checkpoint of this notebook",
        "parse#1 does not fail this time: it gives dict(1) {'n': 4}",
        "recorded: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ]


def test_a_step_that_has_not_failed_is_compared(cells):
    cells(DEFINITIONS + "work('{\"n\": 3}')")
    cells("%kitaru open last")
    assert cells("%kitaru debug twice").out == "twice#1 does not fail, and gives what is recorded: int 6\n"
    cells("@kitaru.checkpoint\ndef twice(n):\n    return 3 * n")
    assert cells("%kitaru debug twice").out.splitlines() == [
        "twice is the checkpoint of this notebook",
        "twice#1 does not fail, and gives int 9",
        "recorded: int 6",
    ]


def test_an_async_step_is_awaited(cells):
    cells(
        "import asyncio, kitaru\n@kitaru.checkpoint\nasync def fetch(n):\n    await asyncio.sleep(0)\n"
        "    return 1 / n\n"
        "@kitaru.flow\nasync def go(n):\n    return await fetch(n)\n"
        "handle = go.options(raises=False).run(0)\ntry:\n    await handle\nexcept ZeroDivisionError: pass"
    )
    cells("%kitaru open last")
    ran = cells("%kitaru debug")
    assert ran.out.startswith("fetch#1 fails again: ZeroDivisionError: division by zero\n\nIn[1]:5 in fetch\n")
    assert "asyncio" not in ran.out


def test_a_step_before_which_a_flow_stands_runs_on_what_it_was_called_with(cells):
    cells(DEFINITIONS)
    cells("%kitaru run work('{') --until parse")
    assert cells("%kitaru debug").out.startswith("parse#1 fails: JSONDecodeError")


def test_what_frames_hold_is_bounded_and_no_code_of_it_runs(cells):
    cells(
        "import kitaru\nclass Sly:\n    def __repr__(self): raise SystemExit\n"
        "@kitaru.checkpoint\ndef deep(n, big):\n    sly = Sly()\n    if n: return deep.function(n - 1, big)\n"
        "    raise ValueError('x' * 10_000)\n"
        "@kitaru.flow\ndef go():\n    return deep(60, 'y' * 10_000)\n"
        "go.options(raises=False).run()"
    )
    cells("%kitaru open last")
    ran = cells("%kitaru debug")
    assert ran.error is None
    assert "… 41 more frames" in ran.out
    assert max(map(len, ran.out.splitlines())) < 230
    assert "Sly" in ran.out


def test_frames_of_many_locals_show_some(cells):
    names = "\n".join(f"    v{n} = {n}" for n in range(30))
    cells(
        f"import kitaru\n@kitaru.checkpoint\ndef many():\n{names}\n    raise ValueError\n"
        "@kitaru.flow\ndef go(): return many()\ngo.options(raises=False).run()"
    )
    cells("%kitaru open last")
    assert "      … 18 more" in cells("%kitaru debug").out


def test_the_code_is_imported_from_where_it_was(cells, tmp_path):
    path = written(tmp_path, "audit_script")
    run(path, str(tmp_path / "runs"), "2")
    cells(f"%kitaru connect {tmp_path / 'runs'}")
    cells("%kitaru open last-failed")
    ran = cells("%kitaru debug")
    assert ran.out.splitlines()[2:] == [
        "audit_script.py:24 in classify",
        '    return {"name": package["name"], "risk": rule(licence)}',
        "      package = dict(2) {'name': 'boto3', 'licence': 'Apache'}",
        "      licence = str(6) 'Apache'",
        "audit_script.py:17 in rule",
        "    return RULES[asked]",
        "      licence = str(6) 'Apache'",
        "      asked = str(6) 'Apache'",
    ]


def test_where_the_code_cannot_be_had_the_recorded_source_is_shown_and_what_to_do_is_said(cells, tmp_path):
    path = written(tmp_path, "audit_lost", AUDIT.replace("classify", "classify_lost"))
    run(path, str(tmp_path / "runs"), "2")
    path.unlink()
    cells(f"%kitaru connect {tmp_path / 'runs'}")
    cells("%kitaru open last-failed")
    ran = cells("%kitaru debug")
    assert 'licence = package["licence"]' in ran.out
    assert "%kitaru debug --code PATH; or define it in a cell: a @checkpoint named classify_lost is taken" in ran.err
    moved = written(tmp_path, "audit_found", AUDIT.replace("classify", "classify_lost"))
    assert "fails again" in cells(f"%kitaru debug --code {moved}").out


def test_code_that_is_asked_for_and_is_not_there_is_no_other_code(failed, tmp_path):
    ran = failed(f"%kitaru debug --code {tmp_path}/nowhere.py")
    assert "nowhere.py" in f"{ran.error}"
    assert failed("calls").value == ["{"], "nothing has run"


def test_an_input_that_was_no_data_is_said(cells):
    cells(
        "import kitaru\n@kitaru.checkpoint\ndef hold(how): raise ValueError\n"
        "@kitaru.flow\ndef go(): return hold(print)\n"
        "go.options(raises=False).run()"
    )
    cells("%kitaru open last")
    ran = cells("%kitaru debug")
    assert "it cannot be had again" in ran.err


SHARING = """%%kitaru_step make
rows = [1, 2, 0]
alias = rows
def share(n):
    whole = 6
    return whole / n
"""


@pytest.fixture
def cell(cells):
    """A cell that fails in a function of the notebook, and has changed what it read until then."""
    cells(SHARING)
    cells("extra = 5")
    cells("%%kitaru_step use\nalias.append(extra)\nout = [share(r) for r in rows]\nleft = 1")
    cells("rows = 'mine'")
    return cells


def test_a_cell_is_run_again_on_what_it_read_beside_the_variables(cell):
    before = cell.notebook.get().reading.n
    lines = cell("%kitaru debug").out.splitlines()
    assert lines[:6] == [
        "use#1 fails again: ZeroDivisionError: division by zero",
        "",
        "<use#1>:2 in <module>",
        "    out = [share(r) for r in rows]",
        "      alias = list(4) [1, 2, 0, 5]",
        "      extra = int 5",
    ]
    assert lines[-3:] == ["    return whole / n", "      n = int 0", "      whole = int 6"]
    assert cell("rows, alias, 'out' in globals()").value == ("mine", [1, 2, 0, 5], False)
    assert cell.notebook.get().reading.n == before, "nothing of it is recorded"
    assert cell("%kitaru debug make").out == "make#1 does not fail\n"


def test_the_debugger_stops_in_the_function_that_the_cell_called(cell, typed):
    typed("p (whole, n)", "up", "up", "p rows is alias", "q")
    out = cell("%kitaru debug use").out
    assert "(6, 0)" in out
    assert "True" in out


def test_a_cell_that_awaits_and_what_it_calls_are_run_again_unrecorded(cells):
    cells("import asyncio, kitaru\n@kitaru.checkpoint\nasync def ask(n): return 1 / n\nn = 0")
    cells("%%kitaru_step bad\nawait asyncio.sleep(0)\nx = await ask(n)")
    assert "bad#1/ask#1 fails again" in cells("%kitaru debug").out, "the step that it called, and that failed"
    assert "x = await ask(n)" in cells("%kitaru debug bad").out
    cells("%%kitaru_step outer\nget_ipython().run_line_magic('kitaru', 'debug bad')")
    assert [c.label for c in cells.checkpoints] == ["bad#1", "bad#1/ask#1", "outer#1"]


@pytest.mark.parametrize("line", ["%time x = 1 / 0", "!false", "get_ipython().user_ns['x'] = 1 / 0"])
def test_a_cell_that_works_on_the_notebooks_variables_is_not_run_again(cells, line):
    cells(f"%%kitaru_step bad\n{line}")
    ran = cells("%kitaru debug bad")
    assert "bad#1 is a cell with a magic or a shell command" in ran.err
    assert "%kitaru checkout bad#1 --before" in ran.err


def test_a_cell_that_read_what_is_no_data_is_not_run_again(cells):
    cells("import threading\nlock = threading.Lock()")
    cells("%%kitaru_step bad\nwith lock: 1 / 0")
    assert "bad#1 read lock, which cannot be had again whole: " in cells("%kitaru debug bad").err


@pytest.mark.parametrize(("ref", "says"), [("nothing", "nothing"), ("parse.in.text", "names no step")])
def test_what_is_no_step_is_refused(failed, ref, says):
    ran = failed(f"%kitaru debug {ref}")
    assert ran.error is not None
    assert says in ran.err


def test_who_can_be_asked(bare_shell, monkeypatch):
    class Kernel:
        _allow_stdin = False

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert debugging.can_ask(bare_shell)
    monkeypatch.setattr(sys, "stdin", None)
    assert not debugging.can_ask(bare_shell)
    bare_shell.kernel = Kernel()
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert not debugging.can_ask(bare_shell)
    Kernel._allow_stdin = True
    assert debugging.can_ask(bare_shell)
    del bare_shell.kernel


LIBRARY = """
import kitaru
from kitaru import calling

asked = []

def send(question):
    asked.append(question)
    return question.upper()

def talk_to(question):
    return calling.call("model", send, {"question": question}, type="llm_call")

@kitaru.flow
def talk():
    return int(talk_to("a"))
"""


def test_a_call_of_a_library_is_not_run_alone_and_says_what_to_do_instead(cells):
    @checkpoint
    def model(messages):
        """It has the name alone in common."""

    cells(LIBRARY)
    cells("talk.options(raises=False).run()")
    cells("%kitaru open last")
    ran = cells("%kitaru debug")
    assert "model#1 is a call of a library, which runs where the code around it does" in str(ran.error)
    assert "--code" not in str(ran.error)


def test_a_block_says_how_its_cell_goes_on(cells):
    cells(LIBRARY)
    cells("with calling.block('talk', exec_id='x'):\n    talk_to('a')\n    1 / 0")
    cells("%kitaru open x")
    ran = cells("%kitaru resume")
    assert "the body of a `with` statement" in str(ran.error)
    assert str(ran.error).endswith("In a notebook, run its cell again with exec_id='x'")
    assert "model#1 is a call of a library" in str(cells("%kitaru debug").error)
    edited = cells("%%kitaru_edit model#1\n'B'")
    assert edited.out.startswith("model#1 edited")
    cells("name = kitaru.KitaruClient().executions.latest().exec_id")
    again = cells("with calling.block('talk', exec_id=name):\n    said = talk_to('a')\nsaid, asked")
    assert again.value == ("B", ["a"])
