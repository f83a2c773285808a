"""Nothing is running while an execution waits, for days by a clock that a test moves."""

from __future__ import annotations

import datetime as dt
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter

import pytest

import kitaru
from kitaru import KitaruClient
from kitaru.stores import LocalStore
from kitaru.testing.faults import FaultyStore

from .scene import Scene

DAY = 86_400.0


@kitaru.checkpoint
def draft(n: int) -> str:
    return f"draft {n}"


@kitaru.checkpoint
async def adraft(n: int) -> str:
    return f"draft {n}"


@kitaru.flow
def child() -> str:
    return kitaru.wait(name="said")


@kitaru.flow
def patient() -> list[object]:
    """Waits of all kinds, with work beside them in threads."""
    futures = draft.map(range(5))
    verdict = kitaru.wait(name="verdict", expires=dt.timedelta(days=3), default="nobody")
    kitaru.sleep(dt.timedelta(days=2))
    children = kitaru.gather([kitaru.spawn(child)])
    return [[f.result() for f in futures], verdict, children]


@kitaru.flow
async def apatient() -> list[object]:
    drafts = [await adraft(n) for n in range(3)]
    return [drafts, await kitaru.wait_async(name="verdict", expires=dt.timedelta(days=3), default="nobody")]


def kept() -> Counter[str]:
    """What this process holds open, by what it is; without what a test before this one has left to the collector."""
    gc.collect()
    out: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        out["socket" if target.startswith("socket:") else target] += 1
    return out


def threads(others: set[threading.Thread]) -> set[str]:
    """Those of kitaru that live beside the `others`: the last of them may still be on its way out."""
    mine = [t for t in threading.enumerate() if t not in others and t.name.startswith(("kitaru", "asyncio"))]
    for thread in mine:
        thread.join(60)
    return {thread.name for thread in mine if thread.is_alive()}


def processes() -> list[str]:
    """Those that this thread has started."""
    with open(f"/proc/self/task/{threading.get_native_id()}/children", encoding="ascii") as f:
        return f.read().split()


@pytest.mark.parametrize("flow", [patient, apatient])
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_no_thread_file_connection_or_process_is_left_while_it_waits(flow, kind, tmp_path):
    others = set(threading.enumerate())  # of tests before this one
    scene = Scene() if kind == "memory" else Scene(LocalStore(tmp_path))
    scene.begin(flow, "warm")  # what a first run loads stays loaded
    assert threads(others) == set()
    before, children = kept(), processes()
    assert scene.begin(flow, "e").status == "waiting"
    assert threads(others) == set()
    assert kept() == before
    assert processes() == children


@pytest.mark.s3
def test_no_connection_is_kept_for_an_execution_that_waits(moto_s3):
    """A store keeps the connections that it has, for its next request; an execution at rest adds none."""
    others = set(threading.enumerate())
    scene = Scene(moto_s3())
    scene.begin(patient, "warm")
    assert threads(others) == set()
    before = kept()["socket"]
    for n in range(5):
        assert scene.begin(patient, f"e-{n}").status == "waiting"
    assert threads(others) == set()
    assert kept()["socket"] <= before + 1  # two of its threads may have asked at once for the first time


def test_while_days_pass_nothing_is_asked_of_the_store():
    others = set(threading.enumerate())
    scene = Scene()
    store = FaultyStore(scene.store)
    scene.begin(patient, "e", store=store)
    assert threads(others) == set()
    asked = store.count()
    for _ in range(5):
        scene.server.advance(DAY)
        scene.clock.advance(DAY)
    assert store.count() == asked


def test_days_of_waiting():
    """Five days by the store's clock, with one pass an hour, of which all but a few find nothing to do."""
    scene = Scene()
    assert scene.begin(patient, "e").status == "waiting"
    ran = []
    for hour in range(1, 24 * 5 + 2):
        scene.server.advance(3600)
        store = FaultyStore(scene.store)
        report = scene.ready(store)
        ran += [(hour, r.exec_id[:5], r.status) for r in report.ran]
        if not report.ran and not report.looked:
            assert store.count() == 2, "a pass that finds nothing makes two requests"
    assert [(hour, status) for hour, name, status in ran if name == "e"] == [(72, "waiting"), (120, "waiting")]
    assert ran[-1] == (120, "child", "waiting")
    (exec_id,) = [name for name in scene.executions() if name != "e"]
    scene.server.advance(30 * DAY)
    assert scene.give(exec_id, "said", "at last")
    scene.ready()
    result = KitaruClient(scene.store).executions.get("e").result
    assert result == [[f"draft {n}" for n in range(5)], "nobody", ["at last"]]
    scene.end_all()


@pytest.mark.process
def test_a_script_that_comes_to_a_wait_ends(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(
        textwrap.dedent(
            """
            import kitaru

            @kitaru.flow
            def asks() -> str:
                return kitaru.wait(name="verdict")

            asks()
            print("not reached")
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert KitaruClient(tmp_path / ".kitaru").executions.latest().status.value == "waiting"
