"""SIGTERM, as a pod that is evicted gets it: the script ends with 143, and has recorded that it was interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from kitaru import KitaruClient
from kitaru.client import ExecutionStatus
from kitaru.eviction import evictable

SCRIPT = """
import asyncio, sys, time
from kitaru import checkpoint, flow

@checkpoint
def first() -> int:
    return 1

@checkpoint
def second(n: int) -> int:
    print("begun", flush=True)
    while True:  # a signal that comes just before the main thread blocks does not wake it
        time.sleep(0.1)

@flow
def plain() -> int:
    return second(first())

@flow
async def awaited() -> int:
    first()
    print("begun", flush=True)
    await asyncio.sleep(60)
    return 2

if __name__ == "__main__":
    {"plain": plain, "awaited": awaited}[sys.argv[1]].run()
"""


@pytest.mark.process
@pytest.mark.parametrize("way", ["plain", "awaited"])
def test_a_script_that_is_evicted_ends_with_143_and_is_interrupted(way, tmp_path) -> None:
    script = tmp_path / "evicted.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), way]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(300) == 143
    execution = KitaruClient(tmp_path / ".kitaru").executions.latest()
    assert execution.status is ExecutionStatus.INTERRUPTED
    assert execution.data.state.release.reason == "its process was asked to end"
    assert [c.status for c in execution.checkpoints][:1] == ["completed"]


def test_a_handler_that_somebody_set_is_left_alone() -> None:
    def mine(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with evictable():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_default_is_back_afterwards() -> None:
    with evictable():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
