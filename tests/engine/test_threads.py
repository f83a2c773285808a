"""Threads of the user's own: what they call is recorded, as side tasks of the body that started them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kitaru import KitaruWarning, checkpoint, flow
from kitaru.errors import InputsDifferError

FAIL = {"now": True}


@checkpoint
def double(n: int) -> int:
    return 2 * n


@checkpoint
def breaks(n: int) -> int:
    if FAIL["now"]:
        raise RuntimeError("now")
    return n


@pytest.fixture(autouse=True)
def _fails_first(monkeypatch):
    monkeypatch.setitem(FAIL, "now", True)


def by_pool() -> list[int]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(double, range(3)))


def by_thread() -> list[int]:
    out: list[int] = []
    threads = [threading.Thread(target=lambda n=n: out.append(double(n))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(out)


@pytest.mark.parametrize("fan_out", [by_pool, by_thread])
def test_steps_in_threads_of_the_users_own_are_recorded_and_reused(store, client, fan_out) -> None:
    @flow
    def fans() -> int:
        return sum(fan_out()) + breaks(0)

    failed = fans.options(raises=False).run()
    labels = [c.label for c in client.executions.get(failed.exec_id).checkpoints]
    assert sorted(labels) == ["breaks#1", "double~1", "double~2", "double~3"]
    FAIL["now"] = False
    resumed = client.executions.resume(failed.exec_id)
    assert (resumed.get(), resumed.tally.reused, resumed.tally.ran) == (6, 3, 1)


def test_a_pool_that_outlives_the_flow_belongs_to_nobody_afterwards(store) -> None:
    with ThreadPoolExecutor(1) as pool:

        @flow
        def uses() -> int:
            return pool.submit(double, 2).result()

        assert uses.run().get() == 4
        assert pool.submit(double, 3).result() == 6  # outside of a flow it just runs


def test_a_sync_flow_can_wait_for_its_futures_in_a_running_event_loop(store) -> None:
    @flow
    def fans() -> list[int]:
        return [f.result() for f in double.map(range(3))]

    async def cell() -> list[int]:
        return fans.run().get()

    assert asyncio.run(cell()) == [0, 2, 4]


def test_a_sync_step_of_an_async_flow_can_fan_out_and_wait(store) -> None:
    @checkpoint
    async def half(n: int) -> float:
        return n / 2

    @checkpoint
    def fans(n: int) -> float:
        return sum(f.result() for f in double.map(range(n))) + half.submit(n).result()

    @flow
    async def outer() -> float:
        return fans(3)

    assert outer.run().get() == 7.5


def test_an_async_flow_can_be_made_a_task(store) -> None:
    @flow
    async def plain(n: int) -> int:
        return double(n)

    async def main() -> list[int]:
        tasks = [asyncio.create_task(plain(n)) for n in range(2)]
        return [await task for task in tasks]

    assert asyncio.run(main()) == [0, 2]


SCRIPT = """
import signal, sys, time
from kitaru import checkpoint, flow
signal.signal(signal.SIGINT, signal.default_int_handler)

@checkpoint
def slow(i: int) -> int:
    print("begun\\n", end="", flush=True)  # in one piece: there are two threads
    time.sleep(600)
    return i

@flow
def waits() -> list[int]:
    return [f.result() for f in slow.map(range(2))]

if __name__ == "__main__":
    waits.run()
"""


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_interrupted_does_not_wait_for_what_it_submitted(number, tmp_path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert [run.stdout.readline(), run.stdout.readline()] == ["begun\n", "begun\n"]
        run.send_signal(number)
        assert run.wait(60) in {130, -signal.SIGINT, 143}  # its bodies would sleep for ten minutes
        said = run.stderr.read()
    assert "was interrupted; what had finished is recorded" in said
    assert "kitaru: resume  kitaru resume waits-" in said


def test_a_step_that_changes_its_argument_in_place_is_warned_about(store) -> None:
    @checkpoint
    def add(xs: list[int]) -> int:
        xs.append(1)
        return len(xs)

    @flow
    def appends() -> list[int]:
        xs: list[int] = []
        add(xs)
        return xs

    with pytest.warns(KitaruWarning, match=r"add#1 changed its argument xs in place.*change a copy") as seen:
        appends.run()
    assert seen[0].filename == __file__  # the line of whoever called the step


def test_a_flow_that_needs_more_than_was_recorded_is_refused_before_anything_is_claimed(store, client) -> None:
    @flow
    def grows(n: int) -> int:
        return breaks(n)

    failed = grows.options(raises=False).run(1)
    before = client.executions.get(failed.exec_id).data.state.n

    def grows(n: int, m: int) -> int:
        return breaks(n) + m

    changed = flow(grows)
    with pytest.raises(InputsDifferError, match=r"begun with n, and grows now needs m as well: give it a default"):
        changed.options(exec_id=failed.exec_id, inputs="recorded").run(1, 2)
    assert client.executions.get(failed.exec_id).data.state.n == before
