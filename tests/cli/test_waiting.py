"""Waits from the command line: answered, aborted, listed; passes, the worker, cancel and pause."""

from __future__ import annotations

import asyncio
import importlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from kitaru.client import ExecutionStatus, KitaruClient
from kitaru.errors import StoreUnavailableError
from kitaru.stores import LocalStore

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]

PATIENCE = 300
"""Seconds for a process that ends by itself: a machine may be busy."""

REVIEW = """
import datetime as dt, enum, sys
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def write(doc):
    print("writes", flush=True)
    return f"draft of {doc}"

@flow
def review(doc, schema=bool):
    draft = write(doc)
    verdict = kitaru.wait(name="verdict", schema=schema, question=f"Publish {doc}?", metadata={"draft": draft},
                          expires=dt.timedelta(days=3))
    return f"{doc}: {verdict}"

@flow
async def later():
    return await kitaru.wait_async(name="first", schema=int) + kitaru.wait(name="second", schema=int)

@flow
def failing():
    kitaru.wait(name="go")
    raise ValueError("it cannot be done")

if __name__ == "__main__":
    import asyncio
    if sys.argv[1] == "later":
        async def main():
            print("result", await later.run())
        asyncio.run(main())
    elif sys.argv[1] == "failing":
        failing.run()
    else:
        print(review.run(*sys.argv[1:]).get())
"""


@pytest.fixture
def script(here, run_script):
    """A flow that waits, as a script: `script("report", exec_id="r-1")`."""
    (here / "review.py").write_text(REVIEW)

    def run(*words, exec_id="r-1", **env):
        return run_script("review.py", *words, env={"KITARU_EXEC_ID": exec_id, **env})

    return run


@pytest.fixture
def module(here, monkeypatch):
    """The same flows, in this process."""
    (here / "review.py").write_text(REVIEW)
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "review", raising=False)
    yield importlib.import_module("review")
    sys.modules.pop("review")


@pytest.fixture
def waits(module):
    """It waits."""
    assert module.review.options(exec_id="r-1").run("report").status == "waiting"
    return "r-1"


# ---------------------------------------------------------------- a plain script


def test_a_script_that_waits_ends_with_3_says_how_to_answer_and_goes_on_once_it_is_run_again(script, kitaru):
    first = script("report")
    assert (first.code, first.out) == (3, "writes\n")
    told, answer = first.err.splitlines()[-2:]
    assert told == 'kitaru: r-1 waits for verdict: "Publish report?"'
    assert answer == "kitaru: answer  kitaru answer r-1 verdict true"
    assert script("report").code == 3
    assert kitaru("answer", "r-1", "verdict", "true").code == 0
    last = script("report")
    assert (last.code, last.out) == (0, "report: True\n")


def test_an_awaited_flow_ends_the_script_with_3_at_each_of_its_waits(script, kitaru):
    for name in ("first", "second"):
        said = script("later", exec_id="l-1")
        assert (said.code, said.out) == (3, ""), said.err
        assert f"l-1 waits for {name}" in said.err
        assert kitaru("answer", "l-1", name, "20").code == 0
    assert script("later", exec_id="l-1").out == "result 40\n"


async def drive(flow):
    with pytest.raises(SystemExit, match="waits for first"):
        await flow.run()


def test_the_readme_runs_as_written(here):
    text = (ROOT / "README.md").read_text().partition("## Wait for people")[2]
    (here / "review.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    (shown,) = re.findall(r"^```\n(\$ .*?)^```", text.partition("## The command line")[0], re.DOTALL | re.MULTILINE)
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    ended, said = [], ""
    for command in re.findall(r"^\$ (.*)$", shown, re.MULTILINE):
        done = subprocess.run(
            command, shell=True, cwd=here, env={**os.environ, "PATH": path}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=PATIENCE,
        )  # fmt: skip
        ended.append(done.returncode)
        said += done.stdout
    assert ended == [3, 0, 0, 0], said
    promised = [row for row in shown.splitlines() if not row.startswith("$")]
    assert promised
    assert set(promised) <= set(said.splitlines())


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("said", "result"), [("yes", True), ("n", False), ("true", True), ("@said.json", False), ("-", True)]
)
def test_it_is_answered_as_people_type(waits, kitaru, here, said, result):
    (here / "said.json").write_text("false\n")
    done = kitaru("answer", "r-1", "verdict", said, stdin="yes\n")
    assert (done.code, done.out) == (0, "verdict of r-1 is answered\n")
    assert "kitaru resume --ready" in done.err
    assert kitaru("resume", "--ready").out.splitlines()[-1] == "r-1  completed"
    assert KitaruClient().executions.get("r-1").result == f"report: {result}"


def test_a_number_may_be_negative(module, kitaru):
    asyncio.run(drive(module.later.options(exec_id="l-1")))
    assert kitaru("answer", "l-1", "first", "-5").code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("verdict", "maybe"), "'maybe' is no JSON"),
        (("verdict", "3"), "3 is not of type 'boolean'. Nothing was recorded"),
        (("verdict", "@nowhere.json"), "nowhere.json cannot be read: No such file or directory"),
        (("verdict",), "there is no terminal to ask at: write the answer to verdict behind it (yes or no)"),
        (("licence", "true"), "r-1 has no open wait licence; it has: verdict"),
    ],
)
def test_what_is_no_answer_is_refused_and_changes_nothing(waits, kitaru, words, why):
    said = kitaru("answer", "r-1", *words)
    assert (said.code, said.out) == (2, "")
    assert why in said.err
    assert [w["wait"] for w in kitaru("waits", "--json").document["waits"]] == ["verdict"]


def test_the_first_answer_holds(waits, kitaru):
    first = kitaru("answer", "r-1", "verdict", "yes", "--json").document
    assert first == {"exec_id": "r-1", "wait": "verdict", "id": "verdict#1@1", "status": "answered", "value": True}
    second = kitaru("answer", "r-1", "verdict", "no", "--json")
    assert second.code == 2
    assert second.document["error"]["code"] == "wait-closed"


def test_at_a_terminal_it_asks_until_the_answer_fits(waits, here):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru", "answer", "r-1", "verdict"], stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=here,
    ) as asking:  # fmt: skip
        os.close(theirs)
        os.write(ours, b"perhaps\nyes\n")
        out, err = asking.communicate(timeout=PATIENCE)
    os.close(ours)
    assert (asking.returncode, out) == (0, b"verdict of r-1 is answered\n")
    assert b"verdict: Publish report?  (yes or no)" in err
    assert b"'perhaps' is no JSON" in err


def test_a_resume_asks_at_the_terminal_where_it_is_told_to(waits, here):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru", "resume", "r-1", "--interactive"], stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=here,
    ) as asking:  # fmt: skip
        os.close(theirs)
        os.write(ours, b"no\n")
        out, err = asking.communicate(timeout=PATIENCE)
    os.close(ours)
    assert asking.returncode == 0, err
    assert b"report: False" in out


def test_it_is_aborted_with_the_reason_that_the_flow_is_told(waits, kitaru):
    said = kitaru("abort", "r-1", "verdict", "--reason", "nobody knows")
    assert (said.code, said.out) == (0, "verdict of r-1 is aborted\n")
    done = kitaru("resume", "--ready")
    assert done.code == 1
    assert "r-1  failed  KitaruWaitAborted" in done.out
    assert "nobody knows" in done.out


# ---------------------------------------------------------------- what waits


def test_show_tells_what_is_waited_for_and_how_to_answer(waits, kitaru):
    shown = kitaru("show", "r-1")
    assert "verdict#1   waiting" in shown.out
    assert "waits for\n  verdict  Publish report?" in shown.out
    assert "answer  kitaru answer r-1 verdict true" in shown.out
    assert "waits" in kitaru("runs").err
    step = kitaru("show", "r-1:verdict")
    assert step.out.startswith("verdict#1  waiting\n")
    assert "asked    Publish report?" in step.out
    kitaru("answer", "r-1", "verdict", "yes")
    shown = kitaru("show", "r-1").out
    assert "answered by" in shown
    assert "go on   kitaru resume --ready" in shown
    assert "kitaru answer" not in shown
    assert kitaru("show", "r-1", "--json").document["execution"]["waits"][0]["answer"]["how"] == "answered"


def test_an_answered_wait_says_who_and_when(waits, kitaru):
    kitaru("answer", "r-1", "verdict", "yes")
    kitaru("resume", "--ready")
    found = KitaruClient().executions.get("r-1").checkpoints[1]
    assert found.status == "completed"
    assert found.data.answer.how == "answered"
    assert "closed   answered by" in kitaru("show", "r-1:verdict").out
    closed = kitaru("show", "r-1:verdict", "--json").document["checkpoint"]["wait"]["answer"]
    assert closed["who"] == found.data.answer.who
    events = [(e["event"], e["where"]) for e in kitaru("log", "r-1", "--json").document["events"]]
    assert events == [
        ("begun", ""), ("claimed", ""), ("asked", "verdict#1"), ("waiting", ""), ("answered", "verdict#1"),
        ("claimed", ""), ("completed", ""),
    ]  # fmt: skip


def test_waits_lists_those_of_one_or_of_all(module, waits, kitaru):
    module.review.options(exec_id="r-2").run("other")
    of_all = kitaru("waits").out.splitlines()
    assert [row.split()[:2] for row in of_all[1:]] == [["r-2", "verdict"], ["r-1", "verdict"]]
    assert "Publish other?" in of_all[1]
    document = kitaru("waits", "r-1", "--json").document
    assert [(w["exec_id"], w["wait"], w["metadata"]) for w in document["waits"]] == [
        ("r-1", "verdict", {"draft": "draft of report"})
    ]
    assert document["waits"][0]["expires"] > document["waits"][0]["since"]
    assert kitaru("waits", "--limit", "1", "--json").document["more"] is True
    kitaru("answer", "r-1", "verdict", "yes")
    assert "has no open wait" in kitaru("waits", "r-1").err


def test_a_printed_command_names_the_store_where_the_search_would_not_find_it(script, here, kitaru):
    place = here / "a store"
    said = script("report", KITARU_STORE=str(place))
    assert f"answer  kitaru answer {place.as_uri()}/r-1 verdict true" in said.err
    done = kitaru("answer", f"{place.as_uri()}/r-1", "verdict", "yes")
    assert f"kitaru resume --ready --store {place.as_uri()}" in done.err
    assert kitaru("resume", "--ready", "--store", str(place)).out.endswith("r-1  completed\n")


# ---------------------------------------------------------------- going on


def test_a_resume_of_what_waits_ends_with_3_and_tells_it_once(waits, kitaru):
    said = kitaru("resume", "r-1")
    assert said.code == 3
    assert said.err.count('r-1 waits for verdict: "Publish report?"') == 1
    document = kitaru("resume", "r-1", "--json")
    assert document.code == 3
    assert document.document["status"] == "waiting"
    assert [w["wait"] for w in document.document["waits"]] == ["verdict"]


def test_a_resume_without_time_for_its_next_step_ends_with_3(here, kitaru, run_script):
    (here / "long.py").write_text(
        "import time\nfrom kitaru import checkpoint, flow\n\n"
        "@checkpoint\ndef slow(n):\n    time.sleep(0.01)\n    return n\n\n"
        "@flow\ndef long():\n    return [slow(n) for n in range(3)]\n\n"
        "if __name__ == '__main__':\n    long.options(until='slow#1').run()\n"
    )
    assert run_script("long.py", env={"KITARU_EXEC_ID": "long-1"}).code == 0
    said = kitaru("resume", "long-1", "--deadline", "0.005")
    assert said.code == 3
    assert "long-1 was let go: no time was left for its next step" in said.err
    assert kitaru("resume", "--ready").out == "long-1  completed\n"  # a pass takes it up at once


def test_a_pass_says_one_line_of_each_and_ends_with_1_if_one_failed(module, waits, kitaru):
    module.failing.options(exec_id="f-1").run()
    assert kitaru("resume", "--ready").code == 0
    assert "nothing can go on now" in kitaru("resume", "--ready").err
    kitaru("answer", "r-1", "verdict", "yes")
    kitaru("answer", "f-1", "go", "1")
    first = kitaru("resume", "--ready", "--limit", "1", "--json")
    assert (first.code, first.document["left"]) == (1, 1)
    assert [(r["exec_id"], r["status"]) for r in first.document["ran"]] == [("f-1", "failed")]
    assert first.document["ran"][0]["failure"] == "ValueError: it cannot be done"
    second = kitaru("resume", "--ready", "--parallel", "2")
    assert (second.code, second.out) == (0, "r-1  completed\n")


def test_a_pass_names_what_it_has_no_code_for(script, here, kitaru):
    script("report")
    (here / "review.py").rename(here / "moved.py")
    kitaru("answer", "r-1", "verdict", "yes")
    said = kitaru("resume", "--ready")
    assert (said.code, said.out) == (0, "")
    assert "r-1 can go on, and not here" in said.err
    assert kitaru("resume", "--ready", "--code", "moved.py").out == "r-1  completed\n"


def test_a_store_that_cannot_be_used_ends_a_pass_with_5(waits, kitaru, monkeypatch):
    def away(self, prefix, *, after=None):
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(LocalStore, "list", away)
    assert kitaru("resume", "--ready").code == 5


@pytest.mark.parametrize(
    "words",
    [
        (), ("r-1", "--ready"), ("--ready", "--until", "x"), ("--ready", "--interactive"), ("r-1", "--limit", "1"),
        ("r-1", "--parallel", "2"), ("r-1", "--deadline", "0"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(kitaru, words):
    assert kitaru("resume", *words).code == 2


def test_cancel_and_pause_of_what_nobody_runs_take_effect_at_once(waits, kitaru):
    assert kitaru("pause", "r-1", "--reason", "holidays").out == "r-1 is paused\n"
    assert "holidays" in kitaru("log", "r-1").out
    assert kitaru("cancel", "r-1", "--reason", "not needed", "--json").document == {
        "exec_id": "r-1", "status": "cancelled",
    }  # fmt: skip
    again = kitaru("resume", "r-1")
    assert again.code == 2
    assert "was cancelled" in again.err
    assert kitaru("waits").out == ""


@pytest.mark.usefixtures("held")
def test_cancel_and_pause_of_what_runs_are_asked_for(here, kitaru):
    with begin(here) as worker:
        name = worker.stdout.readline().split()[1]
        assert kitaru("pause", name).out == f"{name} is running: it will be paused before its next step\n"
        assert kitaru("cancel", name).out == f"{name} is running: it will be cancelled before its next step\n"
    assert statuses()[int(name[-1]) - 1] is ExecutionStatus.INTERRUPTED  # it was killed
    (here / "go").touch()
    assert kitaru("resume", "--ready").code == 0
    assert statuses()[int(name[-1]) - 1] is ExecutionStatus.CANCELLED  # a pass carries it out


# ---------------------------------------------------------------- the worker

HELD = """
import os, sys, time
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def hold(name):
    os.write(1, f"held {name}\\n".encode())
    while not (os.path.exists("go") or os.path.exists("go-" + name)):
        time.sleep(0.01)
    return name

@checkpoint
def after(name):
    os.write(1, f"after {name}\\n".encode())
    return name

@flow
def held(name):
    kitaru.wait(name="begin")
    return after(hold(name))

if __name__ == "__main__":
    for name in sys.argv[1:]:
        held.options(exec_id=name).run(name)
"""


@pytest.fixture
def held(here, run_script, kitaru):
    """Two executions that are answered, and will be held in a step each."""
    (here / "held.py").write_text(HELD)
    run_script("held.py", "h-1", "h-2")
    for name in ("h-1", "h-2"):
        assert kitaru("answer", name, "begin", "1").code == 0


@contextmanager
def begin(here, *words, **env):
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru", "worker", "--poll", "0.05", *words], cwd=here, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def statuses():
    found = (KitaruClient().executions.get(name) for name in ("h-1", "h-2"))
    return [e.status for e in found]


def test_a_worker_goes_on_with_what_is_answered_and_ends_with_0_while_nothing_runs(waits, here, kitaru):
    kitaru("answer", "r-1", "verdict", "yes")
    with begin(here) as worker:
        said = [worker.stderr.readline() for _ in range(2)]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
    assert said == ["kitaru: r-1 goes on\n", "kitaru: r-1 is completed\n"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.usefixtures("interruptible", "held")
def test_a_worker_interrupts_what_it_runs(here, kitaru, number, code):
    with begin(here) as worker:
        assert worker.stdout.readline().startswith("held h-")
        worker.send_signal(number)
        assert worker.wait(PATIENCE) == code
    assert sorted(s.value for s in statuses()) == ["interrupted", "waiting"]
    (here / "go").touch()
    assert kitaru("resume", "--ready").code == 0
    assert statuses() == [ExecutionStatus.COMPLETED] * 2


@pytest.mark.parametrize(("first", "second"), [("h-1", "h-2"), ("h-2", "h-1")])
@pytest.mark.usefixtures("held")
def test_a_worker_of_several_leaves_each_before_its_next_step(here, kitaru, first, second):
    with begin(here, "--parallel", "2", KITARU_GRACE="60") as worker:
        assert sorted([worker.stdout.readline(), worker.stdout.readline()]) == ["held h-1\n", "held h-2\n"]
        worker.send_signal(signal.SIGTERM)
        assert any("this process is to end" in line for line in worker.stderr)
        (here / f"go-{first}").touch()
        while KitaruClient().executions.get(first).status is ExecutionStatus.RUNNING:
            time.sleep(0.01)
        (here / f"go-{second}").touch()  # none ends the wait for another
        rest, _ = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 143
    assert "after" not in rest
    assert statuses() == [ExecutionStatus.INTERRUPTED] * 2
    for name in (first, second):
        steps = KitaruClient().executions.get(name).checkpoints
        assert [(c.name, c.status) for c in steps] == [("begin", "completed"), ("hold", "completed")]
    done = kitaru("resume", "--ready")
    assert "held" not in done.out
    assert statuses() == [ExecutionStatus.COMPLETED] * 2


@pytest.mark.usefixtures("held")
def test_a_worker_whose_steps_do_not_end_within_the_grace_interrupts_them(here, kitaru):
    with begin(here, "--parallel", "2", KITARU_GRACE="0") as worker:
        assert sorted([worker.stdout.readline(), worker.stdout.readline()]) == ["held h-1\n", "held h-2\n"]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 143
    assert statuses() == [ExecutionStatus.INTERRUPTED] * 2
    release = KitaruClient().executions.get("h-1").data.state.release  # recorded: no lease has to run out
    assert release.reason == "its process was asked to end"


@pytest.mark.usefixtures("interruptible", "held")
def test_ctrl_c_once_more_ends_the_grace(here):
    with begin(here, "--parallel", "2", KITARU_GRACE="100000") as worker:
        assert sorted([worker.stdout.readline(), worker.stdout.readline()]) == ["held h-1\n", "held h-2\n"]
        worker.send_signal(signal.SIGINT)
        assert any("this process is to end" in line for line in worker.stderr)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(PATIENCE) == 130
    assert statuses() == [ExecutionStatus.INTERRUPTED] * 2
    release = KitaruClient().executions.get("h-2").data.state.release
    assert release.reason == "its process was asked to end"


def test_a_grace_that_is_no_number_is_refused(kitaru, monkeypatch, here):
    (here / ".kitaru").mkdir()
    monkeypatch.setenv("KITARU_GRACE", "soon")
    assert kitaru("resume", "--ready").code == 2


# ---------------------------------------------------------------- Tab


@pytest.mark.parametrize(
    ("typed", "offers"), [("kitaru answer r", ["r-1"]), ("kitaru answer r-1 v", ["verdict"]), ("kitaru abort x", [])]
)
def test_tab_completes_what_waits(waits, here, typed, offers):
    words = typed.split(" ")
    env = {**os.environ, "_KITARU_COMPLETE": "zsh_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['kitaru']; from kitaru.cli import main; main()"],
        cwd=here, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout.splitlines()[1::3] == offers
