"""The command line in processes of its own: a script that fails, the commands that it prints, pipes and signals."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

KITARU = [sys.executable, "-m", "kitaru"]

PATIENCE = 300
"""Seconds for a process that ends by itself: a machine may be busy."""


def typed(command, here, **env):
    """Run a printed command as if it were typed in `here`."""
    words = shlex.split(command)
    assert words[0] == "kitaru"
    return subprocess.run(
        [*KITARU, *words[1:]], cwd=here, capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={**os.environ, **env},
    )  # fmt: skip


def test_a_script_that_fails_prints_the_commands_that_help(here, failed):
    assert failed.code == 1
    said, look, resume = failed.err.splitlines()[-3:]
    assert said == "kitaru: audit failed at classify#2: TimeoutError: no answer"
    shown = typed(look.removeprefix("kitaru: look").strip(), here)
    assert shown.returncode == 0, shown.stderr
    assert "{'name': 'boto3'}" in shown.stdout
    command = resume.removeprefix("kitaru: resume").strip()
    again = typed(command, here)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.splitlines()[-3:] == [said, look, resume]
    assert "attempts.py" not in again.stderr
    (here / "mended").touch()
    done = typed(command, here)
    assert done.returncode == 0, done.stderr
    assert f"audit found in its script {here / 'audit.py'}" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 reused, 1 run; ")


def test_the_printed_commands_name_the_store_where_the_search_would_not_find_it(here, failed, run_script):
    there = here / "a store"
    script = (here / "audit.py").read_text()
    begun = f"from kitaru import connect\n    connect({str(there)!r})\n    print(audit.run("
    (here / "audit.py").write_text(script.replace("print(audit.run(", begun))
    other = run_script("audit.py")
    look, resume = (line.partition(" kitaru ")[2] for line in other.err.splitlines()[-2:])
    assert there.as_uri() in look
    assert there.as_uri() in resume
    (here / "elsewhere").mkdir()
    assert "classify#2  failed" in typed(f"kitaru {look}", here / "elsewhere").stdout
    (here / "elsewhere" / "mended").touch()
    assert typed(f"kitaru {resume}", here / "elsewhere").returncode == 0


def test_a_container_that_runs_the_same_command_again_goes_on(here, failed, run_script):
    (here / "mended").touch()
    again = run_script("audit.py", env={"KITARU_EXEC_ID": "audit-7"})
    assert again.code == 0, again.err
    events = json.loads(typed("kitaru log audit-7 --json", here).stdout)["events"]
    assert [e["where"] for e in events if e["event"] == "retried"] == ["classify#2"]


def test_standard_output_is_one_document_whatever_the_flow_prints(here, failed):
    script = (here / "audit.py").read_text()
    (here / "audit.py").write_text(script.replace('print("the flow prints")', 'os.system("echo from a program")'))
    (here / "mended").touch()
    done = typed("kitaru resume last --json", here)
    assert json.loads(done.stdout)["status"] == "completed"
    assert "from a program" in done.stderr


def test_a_script_without_a_guard_is_told_to_guard(here, failed):
    script = (here / "audit.py").read_text()
    (here / "audit.py").write_text(script.replace('if __name__ == "__main__":', "if True:"))
    done = typed("kitaru resume audit-7", here)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'if __name__ == "__main__":' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_code_can_be_said(here, failed):
    (here / "mended").touch()
    (here / "audit.py").rename(here / "moved.py")
    lost = typed("kitaru resume audit-7", here)
    assert lost.returncode == 2
    assert "--code" in lost.stderr
    done = typed("kitaru resume audit-7 --code moved.py", here)
    assert done.returncode == 0, done.stderr
    assert "found in --code moved.py" in done.stderr


def test_a_flow_in_a_module_of_this_folder_is_found(here, failed, run_script):
    (here / "mended").touch()
    (here / "begin.py").write_text(
        "import audit\nprint(audit.audit.options(exec_id='m-1').run(['numpy', 'boto3']).get())\n"
    )
    (here / "mended").unlink()
    assert run_script("begin.py").code == 1
    (here / "mended").touch()
    done = typed("kitaru resume m-1", here)
    assert done.returncode == 0, done.stderr
    assert "its module audit" in done.stderr


def test_a_pipe_gets_plain_lines_as_wide_as_they_are(here, failed):
    done = typed("kitaru show audit-7", here, COLUMNS="40", FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b" not in done.stdout
    assert any("classify#2  failed" in line and "TimeoutError: no answer" in line for line in done.stdout.splitlines())


def test_a_reader_that_has_seen_enough_is_no_error(here, failed):
    process = subprocess.Popen([*KITARU, "show", "audit-7"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=here)
    process.stdout.close()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 141
    assert err == b""


@pytest.mark.parametrize("args", [("runs",), ("show", "audit-7"), ("show", "audit-7", "--json"), ("--help",)])
def test_an_output_that_cannot_be_written_is_said_in_one_line(here, failed, args):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*KITARU, *args], cwd=here, stdout=full, stderr=subprocess.PIPE, check=False, timeout=PATIENCE
        )
    assert (done.returncode, done.stderr) == (1, b"kitaru: could not write the output: No space left on device\n")


HELD = """
import sys, threading, time
{imports}
from kitaru import checkpoint, flow

@checkpoint
def done():
    return 1

@checkpoint
{a}def held():
    print("held", flush=True)
    {wait}

@flow
{a}def one():
    done()
    return {call}

if __name__ == "__main__":
    one.options(exec_id="held-1", raises=False).run() if "fail" in sys.argv else None
"""
# A signal that comes just before the main thread blocks wakes nobody: no body sleeps for long in one piece.
WAYS = {
    "in the main thread": ("", "", "while True: threading.Event().wait(0.1)", "held()"),
    "in a worker": ("", "", "while True: time.sleep(0.1)", "held.submit().result()"),
    "in an event loop": ("import asyncio", "async ", "while True: await asyncio.sleep(0.1)", "await held()"),
}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("interruptible")
def test_a_signal_records_the_interruption(here, run_script, way, number, code):
    imports, a, wait, call = WAYS[way]
    text = HELD.format(imports=imports, a=a, wait=wait, call=call)
    (here / "held.py").write_text(text.replace('print("held", flush=True)', 'raise OSError("away")'))
    run_script("held.py", "fail")
    (here / "held.py").write_text(text)
    process = subprocess.Popen(
        [*KITARU, "resume", "held-1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here
    )
    assert process.stdout.readline() == "held\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert "kitaru resume held-1" in err
    shown = json.loads(typed("kitaru show held-1 --json", here).stdout)["execution"]
    assert shown["status"] == "interrupted"
    assert [c["status"] for c in shown["checkpoints"]] == ["completed", "interrupted"]
    assert [e["event"] for e in json.loads(typed("kitaru log --json", here).stdout)["events"]][-1] == "interrupted"


def test_nothing_heavy_is_loaded_for_the_version():
    code = (
        "import sys\n"
        "sys.argv = ['kitaru', '--version']\n"
        "from kitaru.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({m.partition('.')[0] for m in sys.modules} & {'rich', 'boto3', 'networkx'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.splitlines()[-1] == "[]"
