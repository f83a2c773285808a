"""Real processes: the short campaign of signals and bad networks, one that is cut off, and an eviction's sequence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.ownership import state_of
from kitaru.reading import read_journal

from ..journal.scene import check

pytestmark = [pytest.mark.process, pytest.mark.s3]

ROOT = Path(__file__).parents[2]

PATIENCE = 300
"""Seconds for a process that ends by itself: a machine may be busy."""


def run(*words: str) -> str:
    # In a process of its own: it forks, which a process with threads must not.
    command = [sys.executable, "-m", "tests.faults.processes", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_signals_and_bad_networks_lose_nothing_and_double_nothing():
    assert "nothing lost, nothing doubled, every run ended" in run("7", "10")


def test_who_was_cut_off_and_taken_over_is_fenced():
    assert "nothing was recorded after the other one took over" in run("cut")


# ---------------------------------------------------------------- an eviction

SCRIPT = """
import os, sys, time
import kitaru
from kitaru import checkpoint, flow, ownership

if os.environ.get("ELSEWHERE"):  # a node that cannot see the other one's processes
    ownership._said_by_system = lambda process, writer: None

@checkpoint
def collect(n: int) -> list[int]:
    print("collect", flush=True)
    return [*range(n)]

@checkpoint
def ponder(numbers: list[int]) -> int:
    pod = os.environ.get("POD")
    while True:
        try:
            print("ponder", flush=True)
            if pod is None:
                return sum(numbers)
            while True:  # a signal that comes just before the main thread blocks does not wake it
                time.sleep(0.1)
        except SystemExit:
            if pod == "yields":
                raise

@flow
def review(n: int) -> int:
    total = ponder(collect(n))
    return total if kitaru.wait(name="good", schema=bool, question="Is it?") else 0

if __name__ == "__main__":
    review(4)
"""


@pytest.mark.parametrize("pod", ["yields", "stubborn"])
def test_a_pod_that_is_evicted_goes_on_elsewhere(pod, tmp_path, moto_s3):
    """SIGTERM, a grace period, SIGKILL; then new processes in other folders, and S3 alone between them."""
    store = moto_s3()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    environment |= {"KITARU_STORE": store.url, "KITARU_EXEC_ID": "review-1", "KITARU_HEARTBEAT": "1"}
    environment["KITARU_SUPERVISE"] = "1"

    def start(where: str, *words: str, **more: str) -> subprocess.Popen[str]:
        folder = tmp_path / where
        folder.mkdir()
        (folder / "review.py").write_text(textwrap.dedent(SCRIPT))
        return subprocess.Popen(
            [sys.executable, *(words or ["review.py"])],
            cwd=folder,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = start("first", POD=pod)
    try:
        assert first.stdout is not None
        assert [first.stdout.readline() for _ in range(2)] == ["collect\n", "ponder\n"]
        first.send_signal(signal.SIGTERM)
        if pod == "yields":
            assert first.wait(PATIENCE) == 143
            assert state_of(read_journal(store, "review-1").segments).status == "interrupted"
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                first.wait(1.0)  # the grace period
            first.kill()
            assert first.wait(PATIENCE) == -signal.SIGKILL
            assert state_of(read_journal(store, "review-1").segments).status == "running"
    finally:
        first.kill()
        first.communicate()
    shutil.rmtree(tmp_path / "first")

    second = start("second", ELSEWHERE="1")
    said, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 3, said
    assert said.splitlines().count("collect") == 0
    assert said.splitlines().count("ponder") == 1
    shutil.rmtree(tmp_path / "second")

    client = KitaruClient(store)
    client.executions.input("review-1", wait="good", value=True, who="ann")
    third = start("third", "-c", "import kitaru; print(kitaru.resume_ready(code='review.py'))", ELSEWHERE="1")
    said, _ = third.communicate(timeout=PATIENCE)
    assert third.returncode == 0, said
    assert "collect" not in said.splitlines()
    assert "ponder" not in said.splitlines()
    assert client.executions.get("review-1").result == 6
    assert [e.key for prefix in ("ready/", "timers/") for e in store.list(prefix)] == []
    check(store, "review-1")


# ---------------------------------------------------------------- a pass that is evicted

PASS = """
import os, sys, time
import kitaru
from kitaru import checkpoint, flow
from kitaru.passes import work

@checkpoint
def busy(k: str) -> str:
    os.write(1, b"busy\\n")  # in one piece: two threads say so
    time.sleep(0.5)
    return k

@flow
def asks() -> list[str]:
    name = kitaru.wait(name="name")
    return [busy(f"{name} {i}") for i in range(100)]

if __name__ == "__main__":
    if sys.argv[1] == "begin":
        for name in ("a", "b"):
            asks.options(exec_id=name).run()
    elif sys.argv[1] == "idle":
        work(poll=600, until=lambda: print("busy", flush=True))
    else:
        kitaru.resume_ready(parallel=2)
"""


@pytest.mark.parametrize("how", ["parallel", "idle"])
def test_a_pass_that_is_evicted_lets_go_of_what_it_runs(how, tmp_path):
    """Each of its flows at its next step, which no signal reaches in its thread; and a worker that has none."""
    script = tmp_path / "passes.py"
    script.write_text(textwrap.dedent(PASS))
    command = [sys.executable, str(script)]
    subprocess.run([*command, "begin"], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    client = KitaruClient(tmp_path / ".kitaru")
    if how == "parallel":
        for name in ("a", "b"):
            client.executions.input(name, wait="name", value=name)
    with subprocess.Popen([*command, how], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert [run.stdout.readline() for _ in range(1 + (how == "parallel"))][-1] == "busy\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == {"parallel": 143, "idle": 0}[how]
    status = {"parallel": "interrupted", "idle": "waiting"}[how]
    assert {client.executions.get(name).status.value for name in ("a", "b")} == {status}
