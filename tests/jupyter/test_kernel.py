"""Cells in a real kernel, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from kitaru.client import KitaruClient

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:Kernel is running over TCP"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of kernels that were shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Kernel:
    """A kernel that runs cells one by one: `kernel("x = 1")` gives its outputs."""

    def __init__(self, folder, environment):
        self._notebook = nbformat.v4.new_notebook()
        self._loop = asyncio.new_event_loop()
        where = {"metadata": {"path": str(folder)}}
        self._client = NotebookClient(self._notebook, timeout=60, kernel_name="python3", resources=where)
        self._client.create_kernel_manager()
        self._do(self._client.async_start_new_kernel(env=environment))
        self._do(self._client.async_start_new_kernel_client())
        self.failed = False

    def _do(self, work):
        return self._loop.run_until_complete(work)

    def __call__(self, source, during=None):
        cell = nbformat.v4.new_code_cell(source)
        self._notebook.cells.append(cell)
        self._do(self._run(cell, during))
        return "\n".join(map(text_of, cell.outputs))

    async def _run(self, cell, during):
        task = asyncio.ensure_future(self._client.async_execute_cell(cell, len(self._notebook.cells) - 1))
        if during is not None:
            await asyncio.to_thread(during)
        self.failed = True
        with contextlib.suppress(CellExecutionError):
            await task
            self.failed = False

    @property
    def process(self):
        return self._client.km.provisioner.process

    def close(self):
        self._client.kc.stop_channels()
        self._do(self._client.km.shutdown_kernel(now=True))
        self._client.km.context.destroy(0)
        self._do(self._loop.shutdown_default_executor())
        self._loop.close()


def text_of(output):
    text = output.get("text") or output.get("data", {}).get("text/plain") or "\n".join(output.get("traceback", []))
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def kernel(tmp_path):
    """Start a kernel that records in a folder: `kernel()`."""
    started = []

    def start():
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "COV_"))}
        own = Kernel(
            tmp_path, clean | {"KITARU_STORE": str(tmp_path / "runs"), "IPYTHONDIR": str(tmp_path / "ipython")}
        )
        started.append(own)
        assert own("%load_ext kitaru") == ""
        return own

    yield start
    for own in started:
        own.close()


@pytest.fixture
def client(tmp_path):
    return KitaruClient(str(tmp_path / "runs"))


def checkpoints(client):
    return client.executions.latest().checkpoints


def until(what):
    """Wait until `what()` is true; it is about another process."""
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "this did not come about"
        time.sleep(0.02)


@pytest.mark.usefixtures("interruptible")
def test_cells_plain_and_awaiting_nested_failing_and_interrupted(kernel, client):
    run = kernel()
    # A step with an await: the kernel runs it as a task, whose context is gone when the cell has ended.
    assert "7" in run("%%kitaru_step waits\nimport asyncio\nx = await asyncio.sleep(0.01, 7)\nx")
    run("import kitaru\n@kitaru.checkpoint\nasync def inner(n): return n + 1")
    run("@kitaru.checkpoint\ndef plain(n): return n")
    run("%%kitaru_step nests\ny = [await inner(1), plain(2), *await asyncio.gather(inner(3), inner(4))]")
    run("%%kitaru_step again\nz = plain(5)")
    assert "division by zero" in (said := run("%%kitaru_step fails\n\nawait asyncio.sleep(0)\nq = 1 / 0"))
    assert "kitaru: fails#1 failed. What it had: %kitaru show fails#1" in said
    assert run.failed

    def interrupt(label):
        def when():
            until(lambda: label in [c.label for c in checkpoints(client)])
            run.process.send_signal(signal.SIGINT)

        return when

    assert "KeyboardInterrupt" in run("%%kitaru_step sleeps\nimport time\ntime.sleep(60)", interrupt("sleeps#1"))
    # What the kernel makes of an interrupt while it awaits.
    assert "CancelledError" in run("%%kitaru_step asleep\nasyncio.current_task().cancel()\nawait asyncio.sleep(60)")
    assert run("x") == "7", "the kernel is unharmed"
    run("%%kitaru_step after\nok = x")
    assert [(c.label, c.status) for c in checkpoints(client)] == [
        ("waits#1", "completed"),
        ("nests#1", "completed"),
        ("nests#1/inner#1", "completed"),
        ("nests#1/plain#1", "completed"),
        ("nests#1/inner#2", "completed"),
        ("nests#1/inner#3", "completed"),
        ("again#1", "completed"),
        ("again#1/plain#1", "completed"),
        ("fails#1", "failed"),
        ("sleeps#1", "failed"),
        ("asleep#1", "failed"),
        ("after#1", "completed"),
    ]
    assert "interrupted" in checkpoints(client)[-2].failure.message


def test_two_notebooks_on_one_execution(kernel, client):
    first, second = kernel(), kernel()
    first("%%kitaru_step s\nx = 1")
    until(lambda: client.executions.list())
    assert second("%kitaru open last") == ""
    said = second("%%kitaru_step s\nx = 2")
    assert "is run by" in said
    assert "looks alive" in said
    assert "The cell was not run" in said
    assert "NameError" in second("x")
    first("%kitaru close")
    assert second("%%kitaru_step s\nx = 2\nx") == "2"
    assert [c.label for c in checkpoints(client)] == ["s#1", "s#2"]


def test_a_kernel_that_is_killed_leaves_what_was_recorded_and_another_one_goes_on(kernel, client):
    first = kernel()
    first("%%kitaru_step s\nx = 1")
    until(lambda: client.executions.list())
    first.process.kill()
    first.process.wait()
    second = kernel()
    second("%kitaru open last")
    assert second("%%kitaru_step s\nx = 2\nx") == "2"
    assert [(c.label, c.status) for c in checkpoints(client)] == [("s#1", "completed"), ("s#2", "completed")]
