"""`kitaru plan`, `kitaru replay` and `kitaru explain`: what is typed, what it comes to, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kitaru import load
from kitaru.cli.app import app
from kitaru.cli.faces import Screen
from kitaru.client import KitaruClient

README = Path(__file__).parents[2] / "README.md"
SCRIPT = """
from dataclasses import dataclass
from kitaru import checkpoint, flow, log

@dataclass
class Finding:
    name: str
    licence: str = "unknown"

@checkpoint
def collect(n):
    return ("numpy", "boto3", "click")[:n]

@checkpoint(type="llm_call")
def classify(package, model="small"):
    log(tokens=1204, cost=0.01)
    return Finding(package, "GPL" if package == "boto3" else f"MIT ({model})")

@checkpoint
def risk(found):
    return 9 if found.licence == "GPL" else 1

@checkpoint
def write_report(risks):
    return f"worst: {max(risks)}"

@flow
def audit(n):
    return write_report([risk(classify(package)) for package in collect(n)])

if __name__ == "__main__":
    audit.run(2)
"""
EDIT = 'classify#2={"name": "boto3", "licence": "MIT"}'


@pytest.fixture
def audited(here, run_script):
    """A finished execution, audit-7f3c, of a script in a folder."""
    (here / "audit.py").write_text(SCRIPT)
    done = run_script("audit.py", env={"KITARU_EXEC_ID": "audit-7f3c"})
    assert done.code == 0, done.err
    return here / "audit.py"


def decisions(document):
    return {row["step"]: row["decision"] for row in document["steps"]}


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


# ---------------------------------------------------------------- a plan


def test_a_plan_is_a_table_and_says_what_is_saved_at_least(audited, kitaru):
    said = kitaru("plan", "audit-7f3c", "--set", EDIT)
    assert said.code == 0
    table = said.out.splitlines()
    assert table[0].split() == ["step", "decision", "why", "took", "tokens"]
    assert table[4].split()[:4] == ["classify#2", "reuse", "edited:", "--set"]
    assert "risk#2        rerun?    reads classify#2.output, which is edited" in said.out
    assert "write_report  rerun?    reads risk#2.output, which may change" in said.out
    assert len(table[4].split()) == 4, "no time and no tokens for what a person made"
    assert table[-1] == "saves at least 1,204 tokens, $0.01"
    assert len(kitaru("runs").out.splitlines()) == 2, "nothing was begun"


def test_on_a_narrow_terminal_the_reasons_of_a_plan_are_cut_and_not_its_steps(audited, capsys, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda **_: os.terminal_size((60, 40)))
    screen = Screen(now=0.0)
    screen.terminal = screen.cuts = True
    screen.plan(KitaruClient().executions.plan("audit-7f3c", overrides={"classify#2": 1}))
    out = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[0] for line in out[1:6]] == ["collect", "classify#1", "risk#1", "classify#2", "risk#2"]
    assert out[5].startswith("risk#2        rerun?    reads classify")
    assert "…" in out[5]
    assert max(map(len, out)) <= 60


def test_a_plan_as_json_has_stable_keys(audited, kitaru):
    document = kitaru("plan", "audit-7f3c", "--rerun", "risk", "--json").document
    assert document["saves"]["tokens"] == 2 * 1204 or document["saves"]["tokens"] == 1204
    assert [*document["steps"][0]] == ["step", "decision", "why", "took", "tokens", "cost"]
    assert decisions(document)["risk#1"] == "rerun"


def test_a_plan_from_a_step(audited, kitaru):
    found = decisions(kitaru("plan", "audit-7f3c", "--from", "risk#2", "--json").document)
    assert [name for name, do in found.items() if do == "rerun"] == ["risk#2", "write_report#1"]


def test_a_step_that_was_removed_counts_as_changed_and_is_named(audited, here, run_script):
    without = SCRIPT.replace("[risk(classify(package)) for", "[len(classify(package).licence) for")
    audited.write_text(re.sub(r"@checkpoint\ndef risk.*?\n\n", "", without, flags=re.DOTALL))
    planned = run_script("-m", "kitaru", "plan", "audit-7f3c", "--rerun", "changed")
    said = "the code of risk is not here any more, which counts as changed: nothing of it is reused"
    assert planned.code == 0, planned.err
    assert said in planned.err + planned.out
    replayed = run_script("-m", "kitaru", "replay", "audit-7f3c", "--rerun", "changed", "--json")
    assert replayed.code == 0, replayed.err
    assert f"kitaru: {said}" in replayed.err.splitlines()
    assert json.loads(replayed.out)["tally"]["reused"] == 3, "collect and classify are as they were"


def test_a_step_that_was_renamed_is_found_under_its_new_name(audited, run_script):
    audited.write_text(
        SCRIPT.replace("@checkpoint\ndef risk", '@checkpoint(was="risk")\ndef danger').replace("[risk(", "[danger(")
    )
    planned = run_script("-m", "kitaru", "plan", "audit-7f3c", "--rerun", "changed", "--json")
    plan = json.loads(planned.out)
    assert (decisions(plan)["risk#1"], plan["notes"]) == ("reuse", []), "a name is no code"


def test_a_plan_of_what_changed_finds_the_code(audited, kitaru, run_script, here):
    audited.write_text(SCRIPT.replace("worst: ", "the worst is "))
    said = run_script("-m", "kitaru", "plan", "audit-7f3c", "--rerun", "changed", "--json")
    assert [name for name, do in decisions(json.loads(said.out)).items() if do == "rerun"] == ["write_report#1"]


# ---------------------------------------------------------------- a replay


def test_a_replay_prints_the_fork_what_ran_the_result_and_what_was_reused(audited, kitaru):
    said = kitaru("replay", "audit-7f3c", "--set", EDIT, "--name", "audit-91bb")
    assert said.code == 0, said.err
    out = lines(said.out)
    assert out[0] == "audit-91bb, a fork of audit-7f3c"
    assert "classify#2 edited its output was set" in out
    assert any(line.startswith("risk#2 ran found was ") for line in out)
    assert out[-2] == "str(8) 'worst: 1'"
    assert out[-1].startswith("4 reused, 2 run; ")


def test_a_replay_as_json_is_one_document(audited, kitaru):
    document = kitaru("replay", "audit-7f3c", "--set", EDIT, "--json").document
    assert (document["status"], document["forked_from"]) == ("completed", "audit-7f3c")
    assert decisions(document)["classify#2"] == "edited"


def test_the_origin_of_a_fork_is_named(audited, kitaru):
    kitaru("replay", "audit-7f3c", "--set", EDIT, "--name", "audit-91bb")
    assert "fork of audit-7f3c" in lines(kitaru("show", "audit-91bb").out)
    assert kitaru("show", "audit-91bb", "--json").document["execution"]["forked_from"] == "audit-7f3c"
    assert "a fork of audit-7f3c" in kitaru("log", "audit-91bb").out
    assert "fork of" not in kitaru("show", "audit-7f3c").out


def test_explain_says_afterwards_what_became_of_each_step(audited, kitaru):
    kitaru("replay", "audit-7f3c", "--set", EDIT, "--name", "audit-91bb")
    out = lines(kitaru("explain", "audit-91bb").out)
    assert "classify#2 edited its output was set" in out
    assert "saved 1,204 tokens, $0.01" in out
    assert decisions(kitaru("explain", "audit-91bb", "--json").document)["risk#1"] == "reused"


def test_a_fork_that_fails_ends_with_1_and_is_resumed_as_any_other(audited, kitaru):
    said = kitaru("replay", "audit-7f3c", "--set", 'risk#2="x"', "--name", "audit-bad")
    assert said.code == 1
    assert said.out.startswith("audit-bad, a fork of audit-7f3c\n")
    assert "kitaru resume audit-bad" in said.err
    assert kitaru("resume", "audit-bad").code == 1


def test_inputs_steps_inputs_and_types_are_set(audited, kitaru):
    said = kitaru("replay", "audit-7f3c", "--set", 'type.llm_call.in.model="gpt"', "--name", "all")
    assert said.code == 0, said.err
    assert load("all:classify#1").licence == "MIT (gpt)"
    kitaru("replay", "audit-7f3c", "--set", 'classify#1.in.model="one"', "--name", "one")
    assert load("one:classify#1").licence == "MIT (one)"
    kitaru("replay", "audit-7f3c", "--set", "input.n=3", "--name", "three")
    kitaru("replay", "audit-7f3c", "--input", "n=3", "--name", "three-too")
    assert len(load("three:write_report.in.risks")) == len(load("three-too:write_report.in.risks")) == 3


def test_json_takes_the_type_that_is_recorded(audited, kitaru):
    kitaru("replay", "audit-7f3c", "--set", EDIT, "--name", "typed")
    found = load("typed:classify#2")
    assert (type(found).__name__, found.licence) == ("Finding", "MIT")
    kitaru("replay", "audit-7f3c", "--set", 'collect=["click"]', "--name", "tuple")
    assert load("tuple:collect") == ("click",)


def test_a_value_is_read_from_a_file(audited, kitaru, here):
    (here / "fixed.json").write_text(json.dumps({"name": "boto3", "licence": "MIT"}))
    assert kitaru("replay", "audit-7f3c", "--set", "classify#2=@fixed.json", "--name", "filed").code == 0
    assert load("filed:result") == "worst: 1"
    (here / "note.md").write_text("as it is")
    assert kitaru("replay", "audit-7f3c", "--set", "write_report=@note.md", "--name", "noted").code == 0
    assert load("noted:result") == "as it is"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("classify#2", "--set classify#2: write --set REF=JSON"),
        ("classify#2=MIT", "--set classify#2: 'MIT' is no JSON"),
        ("classify#2=@gone.json", "--set classify#2: gone.json cannot be read: No such file"),
        ('classify#2={"licence": "MIT"}', "--set classify#2: Finding does not take it"),
        ("nothing=1", "has no checkpoint nothing#1; there is: classify, collect, risk, write_report"),
        ("input.m=1", "audit has no input m; it has: n"),
        ("type.llm.in.model=1", "has no step of the type llm; it has the types: llm_call"),
        ("classify.in.m=1", "has no input m; it has: package, model"),
    ],
)
def test_what_is_typed_wrong_is_refused_and_nothing_is_begun(audited, kitaru, typed, said):
    ended = kitaru("replay", "audit-7f3c", "--set", typed)
    assert ended.code == 2
    assert said in ended.err
    assert len(kitaru("runs").out.splitlines()) == 2


def test_an_input_that_is_given_in_two_ways_is_refused(audited, kitaru):
    ended = kitaru("replay", "audit-7f3c", "--set", "input.n=1", "--input", "n=2")
    assert (ended.code, "input.n is given twice, by --set and by --input" in ended.err) == (2, True)


def test_the_command_that_a_resume_prints_for_changed_code_works_as_it_is_printed(here, failed, run_script):
    script = here / "audit.py"
    script.write_text(script.read_text().replace("log(found=len(names))", "log(found=len(names), more=1)"))
    (here / "mended").touch()
    resumed = run_script("-m", "kitaru", "resume", "audit-7")
    assert "the code of collect has changed" in resumed.err
    printed = next(line for line in resumed.err.splitlines() if "to run them again" in line)
    command = printed.partition("kitaru replay ")[2].split()
    assert command == ["audit-7", "--rerun", "changed"]
    again = run_script("-m", "kitaru", "replay", *command, "--json")
    assert again.code == 0, again.err
    assert decisions(json.loads(again.out))["collect#1"] == "ran"
    assert decisions(json.loads(again.out))["classify#1"] == "reused"


def test_a_failed_execution_is_replayed_from_its_failed_step(here, failed, run_script):
    (here / "mended").touch()
    said = run_script("-m", "kitaru", "replay", "audit-7", "--json")
    assert said.code == 0, said.err
    assert decisions(json.loads(said.out)) == {"collect#1": "reused", "classify#1": "reused", "classify#2": "ran"}


# ---------------------------------------------------------------- Tab


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ("plan audit-7f3c --from", "ri", {"risk#1", "risk#2"}),
        ("replay audit-7f3c --rerun", "c", {"changed", "classify", "collect"}),
        ("replay audit-7f3c --set", "inp", {"input.n="}),
        ("replay audit-7f3c --set", "classify#", {"classify#1=", "classify#2="}),
        ("plan audit-7f3c --set", "risk#1.", {"risk#1.output=", "risk#1.in.found="}),
        ("plan gone --set", "risk#1.", set()),
    ],
)
def test_tab_completes_refs_and_names(audited, words, incomplete, offered):
    line = f"kitaru {words} {incomplete}"
    env = {"_KITARU_COMPLETE": "zsh_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    out = CliRunner().invoke(app, [], prog_name="kitaru", env=env).output.splitlines()
    assert {word for kind, word in zip(out[::3], out[1::3], strict=False) if kind == "plain"} == offered


def test_what_a_script_recorded_is_replayed_where_it_is_imported_as_a_module(audited, here, run_script):
    (here / "elsewhere.py").write_text(
        'import audit\nhandle = audit.audit.replay("audit-7f3c", n=1)\nprint(handle.exec_id, handle.get())\n'
    )
    done = run_script("elsewhere.py")
    assert done.code == 0, done.err
    fork, _, result = done.out.strip().partition(" ")
    assert result == "worst: 1"
    again = run_script("-m", "kitaru", "replay", fork, "--input", "n=2", "--json")
    assert json.loads(again.out)["tally"]["ran"] == 0, "what the script had recorded is found again"


# ---------------------------------------------------------------- the README


def test_the_commands_of_the_readme_do_what_it_says(here, run_script):
    section = README.read_text().partition("## Change one thing")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    (here / "licences.py").write_text(next(text for language, text in blocks if language == "python"))
    session = [line for language, text in blocks if not language for line in text.splitlines()]
    commands = [n for n, line in enumerate(session) if line.startswith("$ ")]
    assert len(commands) == 10
    for n, after in zip(commands, [*commands[1:], len(session)], strict=True):
        words = shlex.split(session[n].removeprefix("$ "))
        if words[0] == "kitaru":
            said = run_script("-m", *words)
        else:
            name, value = words[0].split("=")
            said = run_script(words[2], env={name: value})
        assert said.code == 0, said.err
        out = [re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", line) for line in lines(said.out)]
        for shown in lines("\n".join(session[n + 1 : after])):
            wanted = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", shown)
            assert wanted in {*out, "..."}, (words, wanted)
