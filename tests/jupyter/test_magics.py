"""The line magic, and coming and going of the extension."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

import kitaru
from kitaru.client import KitaruClient
from kitaru_jupyter import refusal


def test_kitaru_says_where_one_is(cells):
    ran = cells("%kitaru")
    assert cells.notebook.session.store.url in ran.text
    assert "none yet" in ran.text
    cells("%%kitaru_step s\nx = 1")
    ran = cells("%kitaru")
    assert f"{cells.notebook.exec_id} (running)" in ran.text
    assert "s#1 (completed)" in ran.text


def test_nothing_is_printed_where_there_is_nothing_to_say(cells, tmp_path):
    for line in (
        f"%kitaru connect {tmp_path}",
        "%kitaru close",
        "%kitaru close",
        "%%kitaru_step s\nx = 1",
    ):
        ran = cells(line)
        assert (ran.out, ran.err, ran.shown, ran.value, ran.error) == ("", "", [], None, None), line


def test_connect_begins_an_execution_of_its_own_elsewhere(cells, tmp_path):
    cells("%%kitaru_step s\nx = 1")
    first = cells.notebook.exec_id
    cells("place = " + repr(str(tmp_path)))
    cells("%kitaru connect {place}")
    cells("%%kitaru_step s\nx = 1")
    assert cells.notebook.exec_id != first
    assert [s.exec_id for s in KitaruClient(str(tmp_path)).executions.list()] == [cells.notebook.exec_id]


def test_connecting_to_what_is_no_store_changes_nothing(cells):
    cells("%%kitaru_step s\nx = 1")
    before = cells.notebook.exec_id
    ran = cells("%kitaru connect gs://bucket")
    assert "UsageError: 'gs://bucket' is no store" in ran.out + ran.err
    assert cells.notebook.exec_id == before


def test_the_log_of_a_notebook_without_a_step_says_where_it_will_be(cells):
    assert "none yet: it begins with the first %%kitaru_step cell" in cells("%kitaru log").text


def test_log_shows_label_status_and_names(cells):
    cells("%%kitaru_step make\nx = 1")
    cells("%%kitaru_step use\ny = x / 0")
    assert cells("%kitaru log").text == (
        "notebook: running, 2 checkpoints (1 completed, 1 failed)\n"
        "\n"
        "   checkpoint  status     read  bound\n"
        "1  make#1      completed        x\n"
        "2  use#1       failed     x     ZeroDivisionError: division by zero"
    )


@pytest.mark.parametrize(
    ("ref", "begins"),
    [
        ("make", "make#1: completed"),
        ("make#2", "make#2: completed"),
        ("@2", "make#2: completed"),
        ("make#2.x", "make#2.x\n2"),
        ("last", "notebook: running"),
        ("last:make.x", "make#1.x\n1"),
    ],
)
def test_show_takes_every_ref(cells, ref, begins):
    cells("%%kitaru_step make\nx = 1")
    cells("%%kitaru_step make\nx = 2")
    assert cells(f"%kitaru show {ref}").text.startswith(begins)


def test_show_takes_an_exec_id_and_an_address(cells):
    cells("%%kitaru_step make\nx = 1")
    c = cells.checkpoints[0]
    assert cells(f"%kitaru show {cells.notebook.exec_id}").text.startswith("notebook: running")
    assert cells(f"%kitaru show {c.address}").text.startswith("make#1: completed")


def test_runs_is_a_data_frame(cells):
    cells("%%kitaru_step s\nx = 1")
    frame = cells("%kitaru runs").value
    assert list(frame.columns) == ["exec_id", "flow", "status", "begun", "took"]
    assert frame.loc[0, "exec_id"] == cells.notebook.exec_id
    assert str(frame["begun"].dtype).endswith("UTC]")


@pytest.mark.parametrize(
    ("options", "flows"),
    [
        ("", ["fails", "works", "notebook"]),
        ("--failed", ["fails"]),
        ("--status completed --status running", ["works", "notebook"]),
        ("--flow w*", ["works"]),
        ("--since 2h --limit 1", ["fails"]),
        ("--since 2200-01-01", []),
        ("--limit 0", []),
    ],
)
def test_runs_takes_the_options_of_the_command_line(cells, options, flows):
    cells("%%kitaru_step s\nx = 1")

    @kitaru.flow
    def works():
        return 1

    @kitaru.flow
    def fails():
        raise ValueError("no")

    works.run()
    fails.options(raises=False).run()
    assert list(cells(f"%kitaru runs {options}").value["flow"]) == flows


def test_runs_of_an_empty_store_is_empty(cells):
    assert list(cells("%kitaru runs").value.columns) == ["exec_id", "flow", "status", "begun", "took"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frobnicate", "there is no %kitaru frobnicate"),
        ("show", "the following arguments are required: ref. See %kitaru help show"),
        ("show a b", "unrecognized arguments: b"),
        ("log all", "unrecognized arguments: all"),
        ("show nothing", "no execution"),
        ("open nothing", "no execution nothing"),
        ("open nothing", "`%kitaru runs` lists those that there are"),
        ("--frobnicate", "there is no %kitaru --frobnicate"),
        ("log --failed", "%kitaru log: unrecognized arguments: --failed"),
        ("help nothing", "there is no %kitaru nothing"),
        ("help show log", "takes one subcommand"),
        ("plan", "there is no execution yet"),
        ("runs --since recently", "'recently' says no moment: write 90s"),
        ("runs --status odd", "invalid choice: 'odd'"),
        ('show "', "No closing quotation"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_paragraph(cells, line, says):
    ran = cells(f"%kitaru {line}")
    said = ran.out + ran.err
    assert said.startswith("UsageError: ")
    assert says in said
    assert "Traceback" not in said


def test_a_traceback_is_shown_on_request(cells):
    assert cells("%config KitaruMagics.tracebacks = True").error is None
    assert "Traceback" in cells("%kitaru open nothing").out


@pytest.mark.parametrize("magic", ["%kitaru", "%%kitaru_step"])
def test_help_says_what_there_is(cells, magic):
    ran = cells(f"{magic}?")
    said = ran.out + "".join(str(s) for s in ran.shown)
    assert "kitaru" in said
    assert "--in" in said or "%kitaru show" in said


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("%kitaru ", "log"),
        ("%kitaru sh", "show"),
        ("%kitaru show ", "make#1"),
        ("%kitaru show ma", "make#1"),
        ("%kitaru show make#", "make#1"),
        ("%kitaru show make#1.", "make#1.x"),
        ("%kitaru show las", "last-failed"),
        ("%kitaru runs --s", "--since"),
        ("%kitaru_checkout ma", "make#1"),
        ("%kitaru_resume --", "--until"),
        ("%%kitaru_edit make#1.", "make#1.x"),
        ("%%kitaru_edit make --w", "--why"),
        ("%%kitaru_step --", "--in"),
        ("x = 1\n%kitaru show ma", "make#1"),
    ],
)
def test_tab_completes_subcommands_and_refs_and_offers_nothing_else(cells, line, offers):
    cells("%%kitaru_step make\nx = 1")
    with provisionalcompleter():
        offered = [line[: c.start] + c.text for c in cells.shell.Completer.completions(line, len(line))]
    assert f"{line.rpartition(' ')[0]} {offers}" in offered
    assert not {o.rpartition(" ")[2] for o in offered} & {"and", "if", "--abs", "make", "max"}, "no Python"


def test_elsewhere_tab_is_pythons_and_for_files_ipythons(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.ipynb").touch()

    def offered(line):
        with provisionalcompleter():
            return [line[: c.start] + c.text for c in cells.shell.Completer.completions(line, len(line))]

    assert "len" in offered("le")
    assert "%kitaru export kept.ipynb" in offered("%kitaru export kep")


@pytest.mark.parametrize("line", ["%kitaru plan?", "%kitaru  plan ??", "# what?\n%kitaru plan?"])
def test_a_question_mark_asks_about_a_subcommand(cells, line):
    assert cells(line).out.startswith("usage: %kitaru plan ")


def test_loading_twice_is_loading_once(cells):
    cells("%load_ext kitaru")
    cells("import kitaru_jupyter; kitaru_jupyter.load(get_ipython())")
    cells("%%kitaru_step s\nx = 1")
    assert len(cells.checkpoints) == 1


def test_unloading_leaves_nothing_and_lets_the_execution_go(bare_shell, cells):
    cells("%%kitaru_step s\nx = 1")
    exec_id = cells.notebook.exec_id
    cells("%unload_ext kitaru")
    assert KitaruClient().executions.get(exec_id).status.value == "paused"
    assert "not found" in f"{(r := cells('%kitaru')).out}{r.err}"
    assert "blank_magic" not in repr(bare_shell.input_transformers_cleanup)
    assert bare_shell.ast_transformers == []
    assert not [c for c in bare_shell.configurables if "kitaru" in repr(c)]
    assert not [c for c in bare_shell.events.callbacks["post_run_cell"] if "kitaru" in repr(c)]


def test_reloading_begins_afresh(cells):
    cells("%%kitaru_step s\nx = 1")
    cells("%reload_ext kitaru")
    assert cells.notebook.exec_id is None
    cells("%%kitaru_step s\nx = 1")
    assert [c.label for c in cells.checkpoints] == ["s#1"]


def test_without_the_extra_loading_says_what_to_install(bare_shell, capsys, monkeypatch):
    monkeypatch.setattr(refusal.check_installed, "__defaults__", (("no_such_pandas",),))
    bare_shell.run_cell("%load_ext kitaru")
    said = "".join(capsys.readouterr())
    assert "no_such_pandas" in said
    assert "pip install 'kitaru[jupyter]'" in said
    assert "Traceback" not in said


REPLAYED = """
from kitaru import checkpoint, flow, log

@checkpoint
def classify(package):
    return {"licence": "unknown" if package == "boto3" else "MIT"}

@checkpoint
def risk(found):
    return 1 if found["licence"] == "MIT" else 9

@flow
def audit():
    return max(risk(classify(package)) for package in ("numpy", "boto3"))
"""


def test_a_flow_of_the_notebook_is_planned_and_replayed(cells):
    cells(REPLAYED)
    first = cells("handle = audit.run(); handle.exec_id").value
    edit = """--set 'classify#2={"licence": "MIT"}'"""
    planned = cells(f"%kitaru plan {first} {edit}").value
    assert {row.step: row.decision for row in planned} == {
        "classify#1": "reuse",
        "risk#1": "reuse",
        "classify#2": "reuse",
        "risk#2": "rerun?",
    }
    ran = cells(f"%kitaru replay {first} {edit} --name again-1")
    assert f"again-1, a fork of {first}" in ran.out
    assert {row.step: row.decision for row in ran.value}["risk#2"] == "ran"
    assert kitaru.load("again-1:result") == 1
    # What is typed may come from a variable, as in any magic.
    cells("import json; fixed = json.dumps({'licence': 'GPL'})")
    cells(f"%kitaru replay {first} --set 'classify#1={{fixed}}' --name again-2")
    assert kitaru.load("again-2:classify#1") == {"licence": "GPL"}


def test_an_edit_that_is_no_json_is_refused_in_one_paragraph(cells):
    cells(REPLAYED)
    first = cells("audit.run().exec_id").value
    ran = cells(f"%kitaru plan {first} --set classify=MIT")
    assert "--set classify: 'MIT' is no JSON" in ran.out + ran.err
    ran = cells(f"%kitaru show {first} --from classify")
    assert "%kitaru show: unrecognized arguments: --from classify" in ran.out + ran.err


def test_every_subcommand_says_what_it_takes_and_is_completed(cells):
    for name, found in cells.magics.rooms.commands.items():
        said = cells(f"%kitaru help {name}").out
        assert said.startswith(f"usage: %kitaru {name}"), name
        for option in found.options:
            assert option in said
        with provisionalcompleter():
            for line, offers in [("%kitaru ", name), *((f"%kitaru {name} --", option) for option in found.options)]:
                offered = [line[: c.start] + c.text for c in cells.shell.Completer.completions(line, len(line))]
                assert f"{line.rpartition(' ')[0]} {offers}" in offered


def test_a_cell_of_remarks_is_no_step(cells):
    cells("%kitaru record on")
    cells("# only a remark\n\n# and another")
    assert cells.notebook.exec_id is None
