"""Flows that wait, in a notebook: what the cell shows, and how people answer, close and go on there."""

from __future__ import annotations

import os
import re

import nbformat
import pytest
from IPython.core.completer import provisionalcompleter
from nbclient import NotebookClient

import kitaru
from kitaru_jupyter import questions
from kitaru_jupyter.asking import Form

REVIEW = """
import enum, kitaru, pydantic
from typing import Literal

ran = []

class Verdict(pydantic.BaseModel):
    ok: bool
    why: str = ""

@kitaru.checkpoint
def write(doc):
    ran.append("write")
    return doc.upper()

@kitaru.flow
def review(doc, schema=None):
    draft = write(doc)
    said = kitaru.wait(name="verdict", schema=schema, question="Publish this?", metadata={"draft": draft})
    return draft, said

def begin(schema=Verdict, **options):
    return review.options(**options).run("a", schema)
"""


@pytest.fixture
def review(cells):
    cells(REVIEW)
    return cells


def begun(cells, schema="Verdict", exec_id="r-1"):
    """An execution that waits, as its cell shows it."""
    return cells(f"handle = begin({schema}, exec_id={exec_id!r})")


def status(cells, exec_id="r-1"):
    return cells.notebook.client.executions.get(exec_id).status.value


# ---------------------------------------------------------------- what the cell shows


def test_a_cell_whose_flow_waits_says_so_and_how_it_is_answered(review):
    ran = begun(review)
    assert ran.error is None
    assert (ran.out, ran.err) == ("", "")
    assert ran.text == (
        'r-1 waits for verdict: "Publish this?"\n'
        "  draft    A\n"
        "  takes    JSON with ok, why\n"
        "  answer   %kitaru answer r-1 verdict '{\"ok\": true}'"
    )
    assert "application/vnd.jupyter.widget-view+json" not in ran.shown[0]["data"]


def test_a_call_whose_result_is_not_there_yet_is_no_traceback(review):
    ran = review("x = review('a', bool)")
    assert type(ran.error) is kitaru.errors.ExecutionSuspended
    assert (ran.out, ran.err) == ("", "")
    assert 'waits for verdict: "Publish this?"' in ran.text
    assert review("1 + 1").value == 2, "the shell is unharmed"


def test_an_async_flow_is_awaited_and_waits_alike(review):
    review("@kitaru.flow\nasync def soon():\n    return await kitaru.wait_async(name='w', schema=bool)")
    ran = review("x = await soon.options(exec_id='s-1').run()")
    assert (ran.out, ran.err) == ("", "")
    assert ran.text.startswith("s-1 waits for w\n")
    review("%kitaru answer w yes")
    assert review("%kitaru resume --ready").out == "s-1 is completed\n"


def test_who_asks_a_handle_again_is_told_again(review):
    begun(review)
    ran = review("handle.get()")
    assert (ran.out, ran.err) == ("", "")
    assert ran.text.startswith("r-1 waits for verdict")


def test_a_run_that_paused_is_one_line_and_no_traceback(review):
    ran = review("review.options(until='write', exec_id='p-1')('a')")
    assert ran.err.startswith("kitaru: p-1 paused before write#1\n")
    assert "Traceback" not in ran.err
    assert "%tb" not in ran.out


def test_a_system_exit_of_the_users_own_is_shown_as_ipython_shows_it(review):
    with pytest.warns(UserWarning, match="To exit"):
        ran = review("import sys; sys.exit(3)")
    assert "SystemExit: 3" in ran.out


def test_several_that_wait_are_shown_each_and_not_without_end(review):
    ran = review("for n in range(7):\n    begin(bool, exec_id=f'r-{n}')")
    assert len(ran.shown) == 5
    assert "kitaru: r-6 waits for verdict" in ran.err


def test_one_that_was_answered_in_its_cell_can_go_on(review):
    ran = review(
        "handle = begin(bool, exec_id='r-1')\n"
        "kitaru.KitaruClient().executions.input('r-1', 'verdict', True)"
    )  # fmt: skip
    assert ran.text == "r-1 was answered and can go on\n  go on    %kitaru resume r-1"


def test_what_is_recorded_is_text(review):
    hostile = "<script>alert(1)</script>\\x1b[31m"
    review(
        "@kitaru.flow\ndef evil():\n"
        f"    kitaru.wait(name='w', question='{hostile}', metadata={{'<b>': '{hostile}'}}, schema=['<i>', 'b'])"
    )
    ran = review("handle = evil.run()")
    assert "<script>" not in ran.html
    assert "<i>" not in ran.html
    assert "<b>:" not in ran.html
    assert "\x1b" not in ran.text + ran.html


def test_without_the_extension_a_line_on_stderr_says_it(review, bare_shell):
    bare_shell.run_cell("%unload_ext kitaru")
    ran = review("handle = begin(bool, exec_id='r-1')")
    assert 'kitaru: r-1 waits for verdict: "Publish this?"' in ran.err
    assert "showtraceback" not in vars(bare_shell)


def test_a_flow_that_sleeps_or_waits_for_others_says_what_goes_on(review):
    review(
        "@kitaru.flow\ndef child(n):\n    return n\n"
        "@kitaru.flow\ndef parent():\n    return kitaru.gather([kitaru.spawn(child, n) for n in range(2)])\n"
        "@kitaru.flow\ndef late():\n    kitaru.sleep(3600)"
    )
    ran = review("h = parent.options(exec_id='p-1').run()")
    assert ran.text == "p-1 waits for 2 executions that it spawned\n  go on    %kitaru resume --ready"
    ran = review("h = late.options(exec_id='l-1').run()")
    assert re.fullmatch(r"l-1 sleeps until 2\d{3}-.*\n  go on    %kitaru resume --ready", ran.text)


# ---------------------------------------------------------------- answering


@pytest.mark.parametrize(
    ("schema", "typed", "answer"),
    [
        ("bool", "yes", True),
        ("bool", "true", True),
        ("str", "as it is, $5 and all", "as it is, $5 and all"),
        ("str", '"in quotes"', "in quotes"),
        ("str", "{text}", "of a variable"),
        ("int", "{number + 1}", 8),
        ("['now', 'later']", "later", "later"),
        ("dict", '{"n":5}', {"n": 5}),
        ("dict", "'{\"n\": 5}'", {"n": 5}),
        ("dict", "{'n': number}", {"n": 7}),
        ("None", "[1, null]", [1, None]),
    ],
)
def test_a_value_is_json_or_typed_or_python_in_braces(review, schema, typed, answer):
    review("text, number = 'of a variable', 7")
    begun(review, schema)
    ran = review(f"%kitaru answer verdict {typed}")
    assert (ran.error, ran.out) == (None, "verdict of r-1 is answered; go on: %kitaru resume r-1\n")
    assert review("%kitaru resume r-1").value == ("A", answer)


def test_an_object_of_the_type_is_an_answer(review):
    begun(review)
    review("%kitaru answer r-1 verdict {Verdict(ok=True, why='good')}")
    ran = review("%kitaru resume r-1")
    assert (ran.value[1].ok, ran.value[1].why) == (True, "good")
    assert review("ran").value == ["write"], "nothing that had finished ran again"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('verdict {"ok": "perhaps"}', "at ok: 'perhaps' is not of type 'boolean'"),
        ("verdict maybe", "verdict of r-1 takes JSON with ok, why"),
        ("r-1 nothing 1", "has no open wait nothing"),
        ("nothing 1", "no execution of this notebook waits for nothing"),
        ("r-9 verdict true", "no execution of this notebook waits for r-9"),
        ("verdict {Verdict(}", "neither JSON nor a Python expression"),
    ],
)
def test_what_is_no_answer_is_one_paragraph_and_changes_nothing(review, line, says):
    begun(review)
    ran = review(f"%kitaru answer {line}")
    assert ran.error is not None
    assert says in ran.err
    assert "Traceback" not in ran.out + ran.err
    assert [w.name for w in review.notebook.client.executions.pending_waits("r-1")] == ["verdict"]


def test_the_first_answer_holds(review):
    begun(review, "bool")
    review("%kitaru answer verdict yes")
    assert "was answered by" in review("%kitaru answer verdict no").err
    assert review("%kitaru resume r-1").value == ("A", True)


def test_without_a_value_the_question_is_shown(review):
    first = begun(review)
    for line in ("verdict", "r-1 verdict", "r-1", "{handle.exec_id} verdict"):
        assert review(f"%kitaru answer {line}").text == first.text


def test_one_of_several_executions_is_named(review):
    begun(review, "bool", "r-1")
    begun(review, "bool", "r-2")
    assert "several executions wait for verdict" in review("%kitaru answer verdict yes").err
    review("%kitaru answer r-2 verdict yes")
    assert review("%kitaru answer verdict no").out.startswith("verdict of r-1 is answered")


def test_the_current_execution_is_meant_first(review):
    begun(review, "bool", "r-1")
    review("%kitaru run review('b', bool) --exec-id r-2 --until verdict")
    assert review("%kitaru continue").text.startswith("r-2 waits for verdict")
    assert review("%kitaru answer verdict yes").out.startswith("verdict of r-2")


def test_a_wait_is_closed_without_an_answer(review):
    begun(review, "bool")
    assert review("%kitaru abort verdict --reason 'not today'").out.startswith("verdict of r-1 is aborted")
    ran = review("%kitaru resume r-1")
    assert "closed the wait verdict#1 without an answer: not today" in ran.err
    assert "failed at verdict#1; %kitaru resume asks again" in ran.err
    assert review("%kitaru resume").text.startswith("r-1 waits for verdict")
    assert "takes [EXEC] WAIT" in review("%kitaru abort r-1 verdict not today").err


def test_open_waits_are_listed(review):
    assert review("%kitaru waits").out == "nothing is waited for\n"
    begun(review, "bool", "r-1")
    begun(review, "['a', 'b']", "r-2")
    assert review("%kitaru waits").text == (
        "execution  wait     question       takes\n"
        'r-2        verdict  Publish this?  "a", "b"\n'
        "r-1        verdict  Publish this?  yes or no"
    )
    assert "r-2" not in review("%kitaru waits r-1").text
    assert review("%kitaru waits --limit 1").text.endswith("\n… more")


def test_an_execution_is_cancelled_or_paused(review):
    begun(review, "bool", "r-1")
    begun(review, "bool", "r-2")
    assert review("%kitaru pause r-1 --reason lunch").out == "r-1 is paused\n"
    assert review("%kitaru cancel r-2").out == "r-2 is cancelled\n"
    assert (status(review, "r-1"), status(review, "r-2")) == ("paused", "cancelled")
    assert review("%kitaru resume r-1").text.startswith("r-1 waits for verdict")


@pytest.mark.parametrize("line", ["cancel", "pause"])
def test_a_notebooks_own_execution_is_not_cancelled(cells, line):
    cells("%%kitaru_step s\nx = 1")
    assert f"there is no flow to {line}" in cells(f"%kitaru {line}").err


# ---------------------------------------------------------------- going on


def test_a_pass_goes_on_with_all_that_can(review):
    begun(review, "bool", "r-1")
    begun(review, "bool", "r-2")
    assert review("%kitaru resume --ready").out == "nothing can go on now\n"
    review("%kitaru answer r-1 verdict yes\n%kitaru abort r-2 verdict")
    ran = review("%kitaru resume --ready")
    assert sorted(ran.out.splitlines()) == [
        "r-1 is completed",
        "r-2 is failed: KitaruWaitAborted: " + ran.out.partition("KitaruWaitAborted: ")[2].splitlines()[0],
    ]


def test_a_pass_says_what_it_has_left(review):
    for name in ("r-1", "r-2"):
        begun(review, "bool", name)
        review(f"%kitaru answer {name} verdict yes")
    assert review("%kitaru resume --ready --limit 1").out.count("is completed") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("r-1 --ready", "EXEC is for one execution"),
        ("--ready --until x", "--until is for one execution"),
        ("--limit 3", "are for %kitaru resume --ready"),
        ("--ready --limit 0", "at least one has to run"),
    ],
)
def test_a_pass_is_of_all_and_a_resume_of_one(review, line, says):
    begun(review)
    assert says in review(f"%kitaru resume {line}").err


def test_a_notebooks_execution_is_not_resumed_by_its_name_alone(cells):
    cells("%%kitaru_step s\nx = 1")
    name = cells.notebook.get().exec_id
    cells("%kitaru close")
    assert "is a notebook's" in cells(f"%kitaru resume {name}").err


# ---------------------------------------------------------------- the record


def test_the_record_says_what_is_waited_for_and_who_answered(review):
    begun(review, "bool")
    review("%kitaru open r-1")
    assert (
        '2  verdict#1   waiting    question, schema, metadata  waits for "Publish this?"' in review("%kitaru log").text
    )
    shown = review("%kitaru show verdict")
    assert '  waits for "Publish this?"' in shown.text
    review("kitaru.KitaruClient().executions.input('r-1', 'verdict', False, who='<Ada>')")
    shown = review("%kitaru show verdict")
    assert re.search(r"^  answered by <Ada> at \d{4}-\d\d-\d\d ", shown.text, re.MULTILINE)
    assert "answered by &lt;Ada&gt; at" in shown.html
    review("%kitaru resume")
    assert "answered by <Ada> at" in review("%kitaru show verdict").text
    assert review("%kitaru runs").value["status"].tolist() == ["completed"]


def test_where_says_what_it_waits_for(review):
    begun(review, "bool")
    review("%kitaru open r-1")
    standing, asked = review("%kitaru where").shown
    assert standing["data"]["text/plain"].startswith("review: waiting, 2 checkpoints")
    assert asked["data"]["text/plain"].startswith("r-1 waits for verdict")


def test_a_record_of_what_expired_says_so(review):
    review("@kitaru.flow\ndef quick():\n    return kitaru.wait(name='w', expires=0, default='none')")
    assert review("quick.options(exec_id='q-1').run().get()").value == "none"
    assert "  expired at 2" in review("%kitaru show q-1:w").text


# ---------------------------------------------------------------- cells that are recorded


def test_a_recorded_cell_is_not_suspended(review):
    ran = review("%%kitaru_step s\nx = kitaru.wait(name='w')")
    assert "put it into a flow, and run that one in a cell that is not recorded" in f"{ran.error}"
    assert review.checkpoints[-1].status == "failed"


def test_a_flow_in_a_recorded_cell_names_how_it_can_wait(review):
    ran = review("%%kitaru_step s\nx = review('a', bool)")
    assert "run the flow in a cell that is not recorded, review.run(…)" in f"{ran.error}"
    assert [c.status for c in review.checkpoints if c.label == "s#1"] == ["failed"]
    ran = review("%%kitaru_step t\nx = review.run('a', bool)")
    assert "run the flow in a cell that is not recorded, review.run(…)" in f"{ran.error}"


# ---------------------------------------------------------------- Tab


def completed(cells, line):
    with provisionalcompleter():
        return [c.text for c in cells.shell.Completer.completions(line, len(line))]


def test_tab_offers_waits_and_executions_that_wait(review):
    begun(review, "bool", "r-1")
    review("done = begin(bool, exec_id='r-2')\n%kitaru cancel r-2")
    assert {"verdict", "r-1"} <= {*completed(review, "%kitaru answer ")}
    assert "r-2" not in completed(review, "%kitaru answer ")
    assert completed(review, "%kitaru abort ver")
    assert "r-1" in completed(review, "%kitaru resume ")
    assert "r-1" in completed(review, "%kitaru waits ")


# ---------------------------------------------------------------- the form


def form_of(cells, exec_id="r-1"):
    return Form(cells.magics, cells.notebook.client.executions.get(exec_id))


def press(form, label):
    (section,) = form.sections
    buttons = [*section.buttons, form.goes_on]
    next(b for b in buttons if b.description == label).click()
    assert form.rest(60)


def test_a_form_answers_a_yes_or_no_by_a_button_and_goes_on(review):
    begun(review, "bool")
    form = form_of(review)
    assert [b.description for b in form.sections[0].buttons] == ["Yes", "No", "Abort"]
    press(form, "No")
    assert "%kitaru answer r-1 verdict false" in form.told.value
    assert "%kitaru resume r-1" in form.told.value
    assert form.sections[0].is_off
    press(form, "Go on")
    assert "r-1 completed" in form.told.value
    assert (form.goes_on.layout.display, form.sections) == ("none", [])
    assert review.notebook.client.executions.get("r-1").result == ("A", False)


def test_a_form_has_a_field_for_each_simple_property(review):
    begun(review)
    form = form_of(review)
    assert [b.description for b in form.sections[0].buttons] == ["Answer", "Abort"]
    press(form, "Answer")
    assert "ok: choose one" in form.told.value
    assert not form.sections[0].is_off
    ok, why = (row.children[1] for row in form.sections[0].field.widget.children)
    assert (ok.tooltip, why.tooltip) == ("ok", "why"), "what a screen reader says of them"
    ok.index, why.value = 0, "good"
    press(form, "Answer")
    review("%kitaru resume r-1")
    assert review.notebook.client.executions.get("r-1").artifacts[-1].to_json() != {}
    assert review("said = kitaru.KitaruClient().executions.get('r-1').result[1]\n(said.ok, said.why)").value == (
        True,
        "good",
    )


@pytest.mark.parametrize(
    ("schema", "fill", "answer"),
    [
        ("['a', 'b']", None, "b"),
        ("[str(n) for n in range(9)]", lambda f: setattr(f, "index", 3), "3"),
        ("str", lambda f: setattr(f, "value", "<b>"), "<b>"),
        ("float", lambda f: setattr(f, "value", "2.5"), 2.5),
        ("list[int]", lambda f: setattr(f, "value", "[1, 2]"), [1, 2]),
        ("None", lambda f: setattr(f, "value", "null"), None),
    ],
)
def test_a_form_fits_the_schema(review, schema, fill, answer):
    begun(review, schema)
    form = form_of(review)
    if fill is not None:
        fill(form.sections[0].field.widget)
    press(form, "b" if fill is None else "Answer")
    assert review("%kitaru resume r-1").value == ("A", answer)


def test_a_wrong_answer_in_a_form_is_told_with_the_schemas_message(review):
    begun(review, "list[int]")
    form = form_of(review)
    form.sections[0].field.widget.value = '["x"]'
    press(form, "Answer")
    assert "at 0: &#x27;x&#x27; is not of type &#x27;integer&#x27;" in form.told.value
    assert not form.sections[0].is_off
    assert len(review.notebook.client.executions.pending_waits("r-1")) == 1


def test_a_form_aborts_with_a_reason(review):
    begun(review, "bool")
    form = form_of(review)
    form.sections[0].reason.value = "no <time>"
    press(form, "Abort")
    assert "%kitaru abort r-1 verdict --reason" in form.told.value
    assert "<time>" not in form.told.value
    press(form, "Go on")
    assert "r-1 failed" in form.told.value


def test_a_form_whose_wait_somebody_else_has_closed_goes_on(review):
    begun(review, "bool")
    form = form_of(review)
    review("%kitaru answer r-1 verdict yes")
    press(form, "No")
    assert "The first answer holds" in form.told.value
    assert (form.sections[0].is_off, form.goes_on.layout.display) == (True, None)
    press(form, "Go on")
    assert "r-1 completed" in form.told.value


def test_a_form_of_an_execution_that_somebody_has_cancelled_is_off(review):
    begun(review, "bool")
    form = form_of(review)
    review("%kitaru cancel r-1")
    press(form, "No")
    assert (form.sections[0].is_off, form.goes_on.layout.display) == (True, "none")


def test_what_waits_in_another_store_is_named_with_it(review, tmp_path):
    """A line that is printed works, whatever the notebook has connected to since."""
    begun(review, "['x', 'y']")
    form, address = form_of(review), review.notebook.client.executions.get("r-1").address
    assert "%kitaru answer r-1 verdict x\n" in f"{form._face.text}\n", "a choice needs no quotes"
    review(f"%kitaru connect {tmp_path}")
    shown = review(f"%kitaru answer {address} verdict")
    assert f"  answer   %kitaru answer {address} verdict x" in shown.text
    press(form, "y")
    assert f"%kitaru answer {address} verdict y" in form.told.value
    assert review(f"%kitaru resume {address}").value == ("A", "y")


def test_a_form_asks_on_where_the_flow_waits_again(review):
    review(
        "@kitaru.flow\ndef twice():\n    return [kitaru.wait(name='n', schema=bool, question=q) for q in ('a?', 'b?')]"
    )
    review("handle = twice.options(exec_id='t-1').run()")
    form = form_of(review, "t-1")
    press(form, "Yes")
    press(form, "Go on")
    assert [s.wait.name for s in form.sections] == ["n#2"]
    assert not form.sections[0].is_off


def test_the_form_of_hostile_texts_holds_text(review):
    begun(review, "{'type': 'object', 'properties': {'<img src=x>': {'type': 'string', 'description': '<u>'}}}")
    form = form_of(review)
    pages = [w.value for w in _all(form.widget) if type(w).__name__ == "HTML"]
    assert pages
    assert not any(tag in page for page in pages for tag in ("<img", "<u>"))


def _all(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _all(child)


def test_a_form_stands_below_what_it_is_about_and_that_stays_without_a_kernel(review):
    begun(review)
    shown = questions.shown(review.notebook.client.executions.get("r-1"), "r-1")
    review.shell.display_pub.outputs.clear()
    form_of(review).publish()
    page, form = (output["data"] for output in review.shell.display_pub.outputs)
    assert page == {"text/html": shown.html, "text/plain": shown.text}
    assert form["text/plain"] == "[Answer] [Abort]"
    assert "application/vnd.jupyter.widget-view+json" in form


# ---------------------------------------------------------------- in a kernel


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:Kernel is running over TCP")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_kernel_shows_a_form_runs_no_further_and_is_unharmed(tmp_path, monkeypatch):
    sources = [
        "%load_ext kitaru",
        f"%kitaru connect {tmp_path / 'store'}\n{REVIEW}",
        "x = review('a', bool)",
        "%%kitaru_step s\ny = kitaru.wait(name='w')",
        "%%kitaru_step t\ny = review('a', bool)",
        "%kitaru answer verdict yes",
        "%kitaru resume --ready",
        "kitaru.KitaruClient().executions.list(flow='review')[0].status.value",
    ]
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    waits, direct, nested, answered, went_on, status = (cell.outputs for cell in notebook.cells[2:])
    assert [output.output_type for output in waits] == ["display_data", "display_data"], "no error, no advice to exit"
    assert "waits for verdict" in waits[0].data["text/plain"]
    assert waits[1].data["text/plain"] == "[Yes] [No] [Abort]"
    assert "application/vnd.jupyter.widget-view+json" in waits[1].data
    assert "put it into a flow" in direct[0].evalue
    assert "review.run(…)" in nested[0].evalue
    assert "is answered; go on" in answered[0].text
    assert "is completed" in went_on[0].text
    assert status[0].data["text/plain"] == "'completed'"
