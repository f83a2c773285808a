"""A kernel is killed at any point, and another one goes on from what was recorded."""

from __future__ import annotations

import signal

import pytest
from nbclient.exceptions import DeadKernelError

from kitaru.client import KitaruClient

from .test_kernel import checkpoints, client, kernel, until

__all__ = ["client", "kernel"]  # fixtures

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:Kernel is running over TCP"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of kernels that were shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DEFINE = """%%kitaru_step define
import numpy as np
from dataclasses import dataclass
whole = np.arange(6.0)
view = whole[1:3]
rows = [1]
held = {"rows": rows}
factor = 2
def scaled(n):
    return factor * n
@dataclass
class Box:
    n: int
    def grow(self):
        self.n = scaled(self.n)
        return self.n
box = Box(3)
alias = box"""
CHANGE = """%%kitaru_step change
view[:] = 7
rows.append(2)
box.grow()"""
TOTAL = """%%kitaru_step total
total = float(whole.sum()) + box.n"""
CELLS = {"define#1": DEFINE, "change#1": CHANGE, "total#1": TOTAL}
LOOK = (
    "view.base is whole, held['rows'] is rows, alias is box, type(box) is Box, Box(1) == Box(1), "
    "whole.tolist() if 'whole' in globals() else None, rows, box.n, scaled(5), globals().get('total')"
)
SAME = (True, True, True, True, True)
SEEN = {
    "define#1": (*SAME, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1], 3, 10, None),
    "change#1": (*SAME, [0.0, 7.0, 7.0, 3.0, 4.0, 5.0], [1, 2], 6, 10, None),
    "total#1": (*SAME, [0.0, 7.0, 7.0, 3.0, 4.0, 5.0], [1, 2], 6, 10, 32.0),
}
FIVE = (*SAME, [0.0, 7.0, 7.0, 3.0, 4.0, 5.0], [1, 2], 15, 25, 41.0)

# What the kernel imports to be killed at a certain write to its store, whatever that is.
FATAL = """
import os, signal
from kitaru.stores.local import LocalStore
from kitaru.stores.s3 import S3Store

def at(n, when):
    left = [n]
    for store in (LocalStore, S3Store):
        for method in ("put", "put_if_absent"):
            setattr(store, method, fatal(getattr(store, method), left, when))

def fatal(carry_out, left, when):
    def method(self, key, data):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = carry_out(self, key, data)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return method
"""


def run_all(run, cells):
    for cell in cells:
        assert not (said := run(cell)).startswith("kitaru:"), said
        assert not run.failed, said


def again(kernel, **environment):
    """A fresh kernel, as a person makes it the state's: three lines."""
    run = kernel(**environment)
    assert "is a notebook's" in run("%kitaru open last")
    assert "loaded" in (said := run("%kitaru checkout")), said
    return run


def seen(run):
    return eval(run(LOOK))


def edited(run):
    assert "2 steps now stale" in run("%%kitaru_edit define.factor\n5")


def resumed(run, ran="2 steps run; 1 reused"):
    assert ran in (said := run("%kitaru resume")), said


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_killed_between_cells_and_after_an_edit(kernel, place, request):
    environment = {}
    if place == "s3":
        url = request.getfixturevalue("moto_s3")().url
        environment = {"KITARU_STORE": url, "KITARU_TRUST": url}
    first = kernel(**environment)
    run_all(first, CELLS.values())
    assert seen(first) == SEEN["total#1"]
    first.kill()
    second = again(kernel, **environment)
    assert seen(second) == SEEN["total#1"]
    second("%kitaru checkout define")
    assert seen(second) == SEEN["define#1"]
    second("%kitaru undo")
    assert seen(second) == SEEN["total#1"]
    edited(second)
    second.kill()
    third = again(kernel, **environment)
    assert third("factor") == "5"
    resumed(third)
    assert seen(third) == FIVE
    run_all(third, ["%%kitaru_step more\nmore = box.grow()"])
    assert third("more") == "75"


def test_killed_right_after_an_edit_it_resumes_without_a_checkout(kernel):
    first = kernel()
    run_all(first, CELLS.values())
    edited(first)
    first.kill()
    second = kernel()
    second("%kitaru open last")
    resumed(second)
    assert seen(second) == FIVE


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_killed_while_a_step_is_recorded(kernel, client, tmp_path, n, when):
    (tmp_path / "fatal.py").write_text(FATAL)
    first = kernel()
    first(f"import fatal; fatal.at({n}, {when!r})")
    ran = []
    with pytest.raises(DeadKernelError):
        for label, cell in [*CELLS.items(), *CELLS.items()]:
            first(cell)
            ran.append(label)
    if not client.executions.list():
        assert not ran
        return
    second = kernel()
    assert "is a notebook's" in second("%kitaru open last")
    there = [c.label for c in checkpoints(client) if c.status == "completed"]
    assert there[: len(ran)] == ran, "what has returned is durable"
    if there:
        assert "loaded" in second("%kitaru checkout")
        if there[-1] in SEEN:
            assert seen(second) == SEEN[there[-1]]
    run_all(second, [cell for label, cell in CELLS.items() if label not in there])
    assert seen(second)[:5] == SAME
    assert second("total") == "32.0"


def test_killed_in_the_middle_of_a_step(kernel, client):
    first = kernel()
    run_all(first, CELLS.values())
    rows = "rows.append(3)\nbox.n = 100\nimport time\ntime.sleep(600)"

    def kill():
        until(lambda: "slow#1" in [c.label for c in checkpoints(client)])
        first.kill()

    with pytest.raises(DeadKernelError):
        first(f"%%kitaru_step slow\n{rows}", kill)
    second = again(kernel)
    assert seen(second) == SEEN["total#1"], "what the step had done by then is gone with it"
    assert "slow#1" in (log := second("%kitaru log"))
    assert "interrupted" in log
    assert "3 steps now stale: change#1, total#1, slow#1" in second("%%kitaru_edit define.factor\n5")
    second.kill()
    third = again(kernel)
    assert third("factor") == "5"


@pytest.mark.parametrize("n", [1, 2])
def test_killed_while_a_checkout_keeps_what_would_be_lost(kernel, client, tmp_path, n):
    (tmp_path / "fatal.py").write_text(FATAL)
    first = kernel()
    first("import fatal")
    run_all(first, CELLS.values())
    first("rows.append(99)\nbox.n = 50")
    first(f"fatal.at({n}, 'after')")
    with pytest.raises(DeadKernelError):
        for label in ("define", "change", "total"):
            first(f"%kitaru checkout {label}")
            first("rows.append(1)")
    second = again(kernel)
    assert seen(second)[:5] == SAME
    second("%kitaru checkout total#1")
    assert seen(second) == SEEN["total#1"]
    edited(second)
    resumed(second, "2 steps run")
    assert seen(second) == FIVE


@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_killed_during_a_resume(kernel, tmp_path, n):
    (tmp_path / "fatal.py").write_text(FATAL)
    first = kernel()
    first("import fatal")
    run_all(first, CELLS.values())
    edited(first)
    first(f"fatal.at({n}, 'after')")
    with pytest.raises(DeadKernelError):
        first("%kitaru resume")
        first("%%kitaru_step more\nmore = 1")
        first("%%kitaru_step more\nmore = 1")
    second = again(kernel)
    assert second("factor") == "5"
    second("%kitaru resume")
    assert seen(second) == FIVE
    second("%kitaru checkout define")
    assert second("factor, rows, box.n, view.base is whole") == "(5, [1], 3, True)"


def test_killed_at_a_step_of_a_resume_that_sleeps(kernel, client):
    first = kernel()
    run_all(first, CELLS.values())
    run_all(first, ["%%kitaru_step wait\nimport time\ntime.sleep(600 if factor == 5 else 0)\nwaited = factor"])
    assert "3 steps now stale" in first("%%kitaru_edit define.factor\n5")

    def kill():
        until(lambda: [c.label for c in checkpoints(client)][-1:] == ["wait#1"])
        first.kill()

    with pytest.raises(DeadKernelError):
        first("%kitaru resume", kill)
    second = again(kernel)
    assert seen(second) == FIVE
    assert second("globals().get('waited')") in {"", "2"}
    second("%%kitaru_step wait\nwaited = factor")
    assert second("waited") == "5"


@pytest.mark.usefixtures("interruptible")
def test_interrupted_in_a_resume_it_stops_there_and_goes_on(kernel, client):
    run = kernel()
    run_all(run, CELLS.values())
    run_all(run, ["%%kitaru_step wait\nimport time\ntime.sleep(600 if factor == 5 else 0)\nwaited = factor"])
    run_all(run, ["%%kitaru_step last\nlast = waited"])
    run("%%kitaru_edit define.factor\n5")

    def interrupt():
        until(lambda: ("wait#1", "running") in [(c.label, c.status) for c in checkpoints(client)])
        run.process.send_signal(signal.SIGINT)

    said = run("%kitaru resume", interrupt)
    assert run.failed
    assert "KeyboardInterrupt" in said
    assert "nothing behind it was run; the variables are what they were before it" in said
    assert seen(run) == FIVE
    assert ("wait#1", "interrupted") in [(c.label, c.status) for c in checkpoints(client)]
    run("%%kitaru_edit define.factor\n6")
    resumed(run, "4 steps run; 1 reused")
    assert run("waited, last, scaled(1)") == "(6, 6, 6)"


@pytest.mark.usefixtures("interruptible")
def test_interrupted_in_a_resume_of_a_step_that_awaits(kernel, client):
    run = kernel()
    run_all(run, ["%%kitaru_step a\na = 1"])
    run_all(run, ["%%kitaru_step wait\nimport asyncio\nawait asyncio.sleep(600 if a == 2 else 0)\nb = a"])
    run("%%kitaru_edit a\n2")

    def interrupt():
        until(lambda: ("wait#1", "running") in [(c.label, c.status) for c in checkpoints(client)])
        run.process.send_signal(signal.SIGINT)

    said = run("%kitaru resume", interrupt)
    assert "stopped at wait#1" in said
    assert run("a, 'b' in globals()") == "(2, False)"
    run("%%kitaru_edit a\n3")
    resumed(run, "1 step run")
    assert run("b") == "3"


def test_two_kernels_one_after_another_on_a_store_elsewhere(kernel, tmp_path):
    """Another machine: the same store, and nothing else."""
    first = kernel()
    run_all(first, CELLS.values())
    first.kill()
    elsewhere = kernel(KITARU_STORE=str(tmp_path / "other"))
    (name,) = [s.exec_id for s in KitaruClient(str(tmp_path / "runs")).executions.list()]
    elsewhere("# another store is this kernel's own")
    assert "is a notebook's" in elsewhere(f"%kitaru open {tmp_path / 'runs'}/{name}")
    assert "loaded" in elsewhere("%kitaru checkout change")
    assert seen(elsewhere) == SEEN["change#1"]
