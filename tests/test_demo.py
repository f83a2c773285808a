"""The demonstration is killed at each of its twelve steps, and resumed by a process that has nothing but the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from kitaru.client import ExecutionStatus, KitaruClient
from kitaru.demo import licences, rules
from kitaru.demo.audit import STEPS, audit
from kitaru.previews import preview_line
from kitaru.stores import MemoryStore

pytest_plugins = ["kitaru.testing.fixtures"]

NAMES = [step.name for step in STEPS]

# Stands on the path of the processes as sitecustomize.py: the bodies of all steps tell a log outside of the store when
# they begin. The demonstration itself knows nothing of it.
TELLING = """
import functools, json, os
from kitaru.demo import audit
from kitaru.steps import Step

def telling(function):
    @functools.wraps(function)
    def told(*args, **kwargs):
        line = json.dumps([os.getpid(), function.__name__, repr(args[:1])[:200]])
        os.write(FD, f"{line}\\n".encode())
        return function(*args, **kwargs)
    return told

FD = os.open(os.environ["DEMO_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in vars(audit).values():
    if isinstance(step, Step):
        step.function = telling(step.function)
"""


@pytest.fixture(scope="module")
def undisturbed():
    """The report of a run that nobody disturbed."""
    from kitaru.flows import Options

    store = MemoryStore()
    return type(audit)(audit.function, Options(store=store)).run(3).get()


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this process's but where programs are; a home of its own."""
    (folder / "home").mkdir(parents=True)
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(TELLING)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder / "path"),
        "DEMO_LOG": str(folder / "log"),
    }


def told(folder: Path) -> list[tuple[int, str, str]]:
    return [tuple(json.loads(line)) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.process
@pytest.mark.parametrize("number", range(1, 13))
def test_killed_at_any_step_it_is_resumed_from_the_store_alone(tmp_path, undisturbed, number):
    store, first, second = tmp_path / "store", tmp_path / "first", tmp_path / "second"
    worker = subprocess.Popen(
        [sys.executable, "-m", "kitaru.demo.worker", "audit-1", "3", str(number)],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**environment(first), "KITARU_STORE": str(store)},
    )  # fmt: skip
    with worker:
        assert worker.stdout.readline() == f"in step {number}\n"
        worker.send_signal(signal.SIGKILL)
    assert worker.returncode == -signal.SIGKILL

    before = KitaruClient(store).executions.get("audit-1")
    assert before.status is ExecutionStatus.INTERRUPTED
    finished = {c.label: c for c in before.checkpoints if c.status == "completed"}
    assert [label.partition("#")[0] for label in finished if "/" not in label] == NAMES[: number - 1]

    around = environment(second)
    resumed = subprocess.run(
        [sys.executable, "-m", "kitaru", "resume", f"{store.as_uri()}/audit-1", "--json"],
        capture_output=True, text=True, cwd=second, env=around, timeout=300, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    tally = json.loads(resumed.stdout)["tally"]
    assert (tally["reused"], tally["ran"]) == (number - 1, 13 - number)

    after = KitaruClient(store).executions.get("audit-1")
    assert after.status is ExecutionStatus.COMPLETED
    assert [c.name for c in after.checkpoints if c.data.parent is None] == NAMES
    now = {c.label: c for c in after.checkpoints}
    for label, was in finished.items():  # the records: what had finished is as it was
        assert (now[label].data.ended, now[label].data.attempts) == (was.data.ended, was.data.attempts)
        assert [a.digest for a in now[label].artifacts] == [a.digest for a in was.artifacts]

    ran = told(second)  # and the log outside: each body that began in the second process had not finished in the first
    top = [name for _, name, _ in ran if name in NAMES]
    assert top == NAMES[number - 1 :]
    assert max(Counter((name, of) for _, name, of in ran).values()) == 1
    began = Counter(name for _, name, _ in ran if name not in NAMES)
    left = Counter(c.name for label, c in now.items() if label not in finished and "/" in label)
    assert began == left
    # The held step's own body never began in the first process: the worker holds it before.
    assert [name for _, name, _ in told(first) if name in NAMES] == NAMES[: number - 1]

    assert after.result == undisturbed
    assert KitaruClient(store).artifacts.get("audit-1:report").load() == undisturbed


@pytest.mark.parametrize("limit", [0, 1, 20])
def test_the_body_makes_twelve_calls_whatever_is_installed(store, client, limit):
    handle = audit.run(limit)
    execution = client.executions.get(handle.exec_id)
    assert [c.name for c in execution.checkpoints if c.data.parent is None] == NAMES
    assert (handle.tally.ran, handle.tally.reused) == (12, 0)
    assert execution.checkpoints[0].metadata["audited"] == limit
    assert f"{limit} packages" in handle.get()


def test_an_environment_without_packages_is_audited_too(store, client, monkeypatch):
    from kitaru.demo import audit as module

    monkeypatch.setattr(module, "metadata", SimpleNamespace(distributions=list))
    report = audit.run().get()
    assert "0 packages" in report


@pytest.mark.process
def test_the_demo_kills_resumes_and_tells(tmp_path, run_script):
    said = run_script("-m", "kitaru", "demo", "--limit", "3")
    assert said.code == 0, said.err
    for text in (
        "SIGKILL       in step 11 of 12, summarise",
        "reused        10 steps",
        "summarise, write_report",
        "# Licence",
    ):
        assert text in said.out, text
    look = said.out.partition("the whole report    ")[2].partition("\n")[0].split()
    assert look[:2] == ["kitaru", "show"]
    shown = run_script("-m", "kitaru", *look[1:])
    assert shown.out.startswith("# Licence audit\n")


@pytest.mark.process
@pytest.mark.s3
def test_the_demo_works_on_s3(moto_s3, run_script):
    url = moto_s3().url
    said = run_script("-m", "kitaru", "demo", "--limit", "2", "--json", env={"KITARU_STORE": url})
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert facts["ok"]
    assert facts["store"] == url
    assert facts["killed"]["signal"] == "SIGKILL"
    assert (facts["resumed"]["reused"], facts["resumed"]["ran"]) == (10, 2)
    assert facts["resumed"]["inner_reused"] >= 4
    assert facts["report"].startswith("# Licence audit\n")


@pytest.mark.process
def test_a_demo_that_does_not_go_as_promised_says_so(tmp_path, run_script):
    """Here the first process cannot even begin: its interpreter is told to fail."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'kitaru.demo.worker' in sys.orig_argv:\n    raise SystemExit('broken')\n"
    )
    said = run_script("-m", "kitaru", "demo", "--limit", "1", env={"PYTHONPATH": str(tmp_path)})
    assert said.code == 1
    assert "before step 11" in said.err


def test_without_sigkill_it_says_so(monkeypatch, tmp_path):
    from kitaru.demo.show import perform
    from kitaru.errors import UsageError
    from kitaru.stores import LocalStore

    monkeypatch.delattr(signal, "SIGKILL")
    with pytest.raises(UsageError, match="Windows"):
        perform(LocalStore(tmp_path / "s"), 1, 11, lambda moment, facts: None)
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------- what the steps know


@pytest.mark.parametrize(
    ("expression", "category"),
    [
        ("MIT", "permissive"),
        ("Apache-2.0 OR GPL-3.0-only", "permissive"),
        ("BSD-3-Clause AND (MIT OR LGPL-2.1-or-later)", "permissive"),
        ("BSD-3-Clause AND LGPL-2.1-or-later", "weak copyleft"),
        ("GPL-2.0+", "strong copyleft"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "weak copyleft"),
        ("MIT AND LicenseRef-Own", "unknown"),
        ("MIT OR LicenseRef-Own", "permissive"),
        ("(MIT", "unknown"),
        ("MIT MIT", "unknown"),
        ("", "unknown"),
        ("(" * 500 + "MIT" + ")" * 500, "unknown"),
    ],
)
def test_an_expression_asks_the_least_of_alternatives_and_the_most_of_what_comes_together(expression, category):
    assert licences.category_of(expression) == category


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("MIT License", "MIT"),
        ("the MIT licence", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("BSD License", "BSD"),
        ("BSD 3-Clause License", "BSD-3-Clause"),
        ("mit or apache-2.0", None),
        ("MIT OR apache-2.0", "MIT OR Apache-2.0"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0"),
        ("LGPLv3+", "LGPL-3.0"),
        ("Python Software Foundation License", "PSF-2.0"),
        ("UNKNOWN", None),
        ("Dual License", None),
        ("", None),
    ],
)
def test_what_is_declared_is_understood(said, meant):
    assert licences.declared(said) == meant


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Licensed under the Apache License,\n   Version 2.0 (the License)", ["Apache-2.0"]),
        ("Redistribution and use in source and binary forms … Neither the name of", ["BSD-3-Clause"]),
        ("Redistribution and use in source and binary forms, with or without", ["BSD-2-Clause"]),
        ("Mozilla Public License, v. 2.0 … This is free and unencumbered software released into the public domain",
         ["MPL-2.0", "Unlicense"]),
        ("All rights reserved.", []),
    ],
)  # fmt: skip
def test_a_licence_text_is_recognised_by_its_own_sentences(text, found):
    assert licences.in_text(text) == found


def test_the_rule_model_answers_the_same_every_time_and_knows_when_it_does_not_know():
    question = {"name": "x", "said": ["GPL"], "texts": ["GNU General Public"]}
    assert rules.ask(question) == rules.ask(question)
    assert rules.ask(question)["licence"] == "GPL-3.0"
    nothing = rules.ask({"name": "x", "said": [], "texts": ["words"]})
    assert (nothing["licence"], nothing["tokens"]) == ("unknown", 1)


def test_text_of_others_does_not_break_the_report(store, client, monkeypatch):
    from kitaru.demo import audit as module

    class Odd:
        metadata = __import__("email").message_from_string("Name: a|b`c\nVersion: 1\x1b[2J\nLicense: <x>\n")
        requires = None

    without_files = SimpleNamespace(files=None)
    installed = SimpleNamespace(distributions=lambda: [Odd], distribution=lambda name: without_files)
    monkeypatch.setattr(module, "metadata", installed)
    handle = audit.run()
    assert "| a\\|b\\`c | 1 \\[2J | unknown | decision |" in handle.get()
    assert "\x1b" not in handle.get()
    assert preview_line(client.artifacts.get(f"{handle.exec_id}:report").preview)


# ---------------------------------------------------------------- a run that waits for approval


@pytest.mark.process
def test_the_demo_waits_is_answered_from_a_second_process_and_goes_on(tmp_path):
    env = environment(tmp_path / "first")
    demo = subprocess.Popen(
        [sys.executable, "-m", "kitaru", "demo", "--approve", "--limit", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    try:
        command = next(line for line in demo.stdout if "kitaru answer " in line).split()
        waiting = KitaruClient(tmp_path / ".kitaru").executions.latest()
        assert waiting.status is ExecutionStatus.WAITING
        (first,) = {pid for pid, _, _ in told(tmp_path / "first")}
        assert not os.path.exists(f"/proc/{first}")  # nothing of it runs
        answered = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, cwd=tmp_path,
            env=environment(tmp_path / "second"), check=False, timeout=300,
        )  # fmt: skip
        assert answered.returncode == 0, answered.stderr
        out, err = demo.communicate(timeout=300)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 0, err
    assert "reused        6 steps" in out
    assert "run           6 steps: check_policy, find_conflicts" in out
    assert "# Licence audit" in out
    done = KitaruClient(tmp_path / ".kitaru").executions.latest()
    assert (done.status, done.data.attempts) == (ExecutionStatus.COMPLETED, 2)


@pytest.mark.process
def test_a_demo_that_nobody_answers_ends_with_3_and_says_how_it_goes_on(tmp_path, run_script):
    said = run_script("-m", "kitaru", "demo", "--approve", "--limit", "1", "--patience", "0", "--json")
    assert said.code == 3, said.err
    facts = json.loads(said.out)
    assert (facts["ok"], facts["suspended"]["exit_code"], facts["answered"]) == (True, 3, None)
    answer = facts["suspended"]["answer"].split()
    assert f"answer  {facts['suspended']['answer']}" in said.err
    assert run_script("-m", *answer).code == 0
    assert run_script("-m", "kitaru", "resume", "--ready").out == f"{facts['exec_id']}  completed\n"


@pytest.mark.parametrize(("answer", "licence"), [(True, "GPL-3.0"), (False, "unknown")])
def test_what_is_not_approved_stays_unknown(store, client, monkeypatch, answer, licence):
    from kitaru.demo import audit as module

    class Unclear:
        metadata = __import__("email").message_from_string("Name: odd\nVersion: 1\nLicense: GPL copyleft\n")
        requires = None

    without_files = SimpleNamespace(files=None)
    installed = SimpleNamespace(distributions=lambda: [Unclear], distribution=lambda name: without_files)
    monkeypatch.setattr(module, "metadata", installed)
    handle = audit.run(1, approve=True)
    (wait,) = client.executions.pending_waits(handle.exec_id)
    assert wait.question.startswith("The model says on unclear licences: odd: GPL-3.0 (")
    assert wait.metadata["odd"]["licence"] == "GPL-3.0"
    client.executions.input(handle.exec_id, "approval", answer)
    assert f"| odd | 1 | {licence} |" in client.executions.resume(handle.exec_id).get()
