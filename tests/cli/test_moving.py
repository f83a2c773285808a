"""`kitaru cp`, `retry` and `completion`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kitaru import Session
from kitaru.cli import moving
from kitaru.client import KitaruClient
from kitaru.stores import LocalStore

from ..large import noise

pytestmark = pytest.mark.process


@pytest.fixture
def tab(here):
    """What Tab offers a shell: `tab("zsh", "kitaru", "show", "au")`."""

    def ask(shell, *words):
        done = subprocess.run(
            [sys.executable, "-m", "kitaru"],
            env={**os.environ, "_KITARU_COMPLETE": f"{shell}_complete", "COMP_WORDS": "\n".join(words)}
            | {"COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line] if shell == "bash" else done.stdout

    return ask


def test_cp_copies_what_then_resumes_there(kitaru, here, failed):
    said = kitaru("cp", "last", "elsewhere")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("audit-7, failed: ")
    look = said.out.splitlines()[-1].split()[-1]
    assert kitaru("show", look).code == 0
    (here / "mended").touch()
    went_on = kitaru("resume", "audit-7", "--store", "elsewhere", "--json").document
    assert (went_on["status"], went_on["tally"]["reused"]) == ("completed", 2)
    again = kitaru("--store", ".kitaru", "cp", "audit-7", "elsewhere", "--json").document
    assert (again["segments"], again["bytes"], again["status"]) == (0, 0, "completed")
    assert again["ahead"] > 0
    assert "it went on at the other side" in kitaru("cp", "audit-7", "elsewhere", "--store", ".kitaru").out


def test_cp_refuses_with_the_exit_codes_of_its_errors(kitaru, here, failed, run_script):
    other = {"KITARU_EXEC_ID": "audit-7", "KITARU_STORE": "other"}
    assert run_script("audit.py", env=other).code == 1
    said = kitaru("cp", "audit-7", "other")
    assert (said.code, said.out) == (2, "")
    assert "is another execution" in said.err
    assert kitaru("cp", "nobody", "other").code == 2
    assert kitaru("cp", "audit-7", ".kitaru").code == 2
    assert kitaru("cp", "audit-7", "gs://bucket").code == 2
    (here / "newer").mkdir()
    (here / "newer" / "kitaru.json").write_text('{"format": 99}')
    assert kitaru("cp", "audit-7", "newer").code == 5
    assert kitaru("cp", "audit-7", "newer", "--json").document["error"]["code"] == "store-format"


def test_a_bar_is_drawn_on_a_terminal_alone(kitaru, here, failed, monkeypatch, capfd):
    client = KitaruClient(LocalStore(here / ".kitaru"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert moving.copy(client, "audit-7", "third", quiet=False).segments > 0
    out, err = capfd.readouterr()
    assert (out, "objects" in err) == ("", True)
    moving.copy(client, "audit-7", "fourth", quiet=True)
    assert capfd.readouterr() == ("", "")


def test_retry_runs_what_failed_and_nothing_else(kitaru, here, failed):
    (here / "mended").touch()
    said = kitaru("retry", "audit-7", "--json")
    assert said.code == 0
    assert (said.document["status"], said.document["tally"]["reused"]) == ("completed", 2)
    refused = kitaru("retry", "audit-7")
    assert (refused.code, refused.out) == (2, "")
    assert "is completed, not failed: nothing is left to run" in refused.err


def test_what_was_run_by_hand_is_not_resumed_and_the_way_on_is_named(kitaru, here):
    session = Session(exec_id="tour", store=LocalStore(here / ".kitaru"))
    session.step("s", {}).succeed({"x": 1})
    refused = kitaru("resume", "tour", "--take-over")  # also while it runs
    session.close()
    for said in (refused, kitaru("resume", "tour"), kitaru("retry", "tour")):
        assert (said.code, said.out) == (2, "")
        assert "tour was run by hand" in said.err
        assert "%kitaru open tour" in said.err
        assert "--code" not in said.err


def test_a_copy_says_what_it_wrote_and_what_had_been_there(kitaru, here):
    session = Session(exec_id="tour", store=LocalStore(here / ".kitaru"))
    session.step("s", {}).succeed({"x": noise(100_000)})
    session.close()
    assert "segments and 1 blob copied" in kitaru("cp", "tour", "there").out
    assert "0 segments and 0 blobs copied, 0 bytes; 4 objects of it had been there" in kitaru("cp", "tour", "there").out


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_prints_a_script_for_the_shell(kitaru, here, shell):
    said = kitaru("completion", shell)
    assert said.code == 0
    assert "_KITARU_COMPLETE" in said.out
    assert kitaru("completion", shell, "--json").document["script"] in said.out + "\n"
    assert os.listdir(here) == []


def test_tab_offers_executions_steps_and_saved_names(kitaru, failed, tab):
    assert tab("bash", "kitaru", "show", "au") == ["audit-7"]
    assert tab("bash", "kitaru", "resume", "la") == ["last", "last-failed"]
    assert tab("bash", "kitaru", "show", "cl") == ["classify#1", "classify#2"]
    assert tab("bash", "kitaru", "show", "audit-7", ":", "cl") == ["classify#1", "classify#2"], "bash parts words at :"
    assert "audit-7:classify#2" in tab("zsh", "kitaru", "show", "audit-7:cl")
    assert "audit, failed" in tab("zsh", "kitaru", "log", "")
    assert "retry" in tab("bash", "kitaru", "re")
    assert tab("bash", "kitaru", "runs", "--flow", "a") == ["audit"]
    assert "--since" in tab("bash", "kitaru", "runs", "--")
    kitaru("cp", "last", "elsewhere")
    assert tab("bash", "kitaru", "--store", "elsewhere", "show", "au") == ["audit-7"]


def test_tab_in_a_place_that_cannot_be_read_offers_nothing(tab, here):
    (here / "pyproject.toml").write_text("[tool.kitaru]\nstore = 3\n")
    assert tab("bash", "kitaru", "show", "a") == []
    assert tab("bash", "kitaru", "--store", "gs", ":", "//x", "show", "a") == []


def test_bash_itself_completes(failed, here):
    script = """
        export PATH="$BIN:$PATH"; eval "$(kitaru completion bash)"
        COMP_WORDS=(kitaru show audit-7 : cl); COMP_CWORD=4; _kitaru_completion kitaru; echo "${COMPREPLY[*]}"
    """
    bin_ = os.path.dirname(sys.executable)
    if not os.path.exists(os.path.join(bin_, "kitaru")):
        pytest.skip("kitaru is not installed as a command here")
    argv = ["bash", "--norc", "-c", script]
    done = subprocess.run(argv, env={**os.environ, "BIN": bin_}, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["classify#1", "classify#2"], done.stderr
