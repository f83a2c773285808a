"""Executions whose body is that of a `with` statement."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

import kitaru
from kitaru import KitaruClient, calling, flow
from kitaru.errors import CodeNotFoundError, ExecutionEndedError, ExecutionSuspended, InputsDifferError, UsageError

asked = []


@pytest.fixture(autouse=True)
def _nothing_asked():
    asked.clear()


def ask(question):
    asked.append(question)
    return question.upper()


def status(exec_id):
    return KitaruClient().executions.get(exec_id).status.value


def test_a_block_that_failed_goes_on_and_one_that_completed_is_refused(store, capsys):
    def run(error=None):
        with calling.block("talk", exec_id="x") as block:
            out = [calling.call("ask", ask, {"question": q}) for q in "ab"]
            if error is not None:
                raise error
        return block.exec_id, out

    with pytest.raises(RuntimeError) as e:
        run(RuntimeError("down"))
    assert "run the same command again, with KITARU_EXEC_ID=x" in "".join(e.value.__notes__)
    assert status("x") == "failed"
    assert run() == ("x", ["A", "B"])
    assert (asked, status("x")) == (["a", "b"], "completed")
    with pytest.raises(ExecutionEndedError, match="x has completed"):
        run()
    assert asked == ["a", "b"]
    assert not calling.is_in_flow()


def test_an_async_block_is_left_by_a_cancelled_task(store, capsys):
    async def run(stay):
        async with calling.block("talk", exec_id="x"):
            await calling.call_async("ask", later, {"question": "a"})
            if stay:
                asyncio.current_task().cancel()
            await asyncio.sleep(0)
            return await asyncio.gather(*(calling.call_async("ask", later, {"question": q}) for q in "bc"))

    async def later(question):
        await asyncio.sleep(0)
        return ask(question)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run(stay=True))
    assert status("x") == "interrupted"
    assert asyncio.run(run(stay=False)) == ["B", "C"]
    assert (asked, status("x")) == (["a", "b", "c"], "completed")


def test_a_block_waits_and_goes_on_with_the_answer(store, capsys):
    def run():
        with calling.block("talk", exec_id="x"):
            calling.call("ask", ask, {"question": "a"})
            return kitaru.wait(name="ok", schema=bool)

    with pytest.raises(ExecutionSuspended):
        run()
    with pytest.raises(ExecutionSuspended):
        run()
    assert status("x") == "waiting"
    KitaruClient().executions.input("x", wait="ok", value=True)
    assert run() is True
    assert asked == ["a"]


async def _wait_async():
    async with calling.block("talk", exec_id="x"):
        return await kitaru.wait_async(name="ok", schema=bool)


def test_an_async_block_waits(store, capsys):
    with pytest.raises(ExecutionSuspended):
        asyncio.run(_wait_async())
    KitaruClient().executions.input("x", wait="ok", value=True)
    assert asyncio.run(_wait_async()) is True


def test_inside_of_a_flow_a_block_is_part_of_it(store):
    @flow
    def body(name):
        with calling.block("talk", exec_id=name) as block:
            calling.call("ask", ask, {"question": "a"})
        return block.exec_id

    handle = body.options(exec_id="outer").run(None)
    assert handle.get() == "outer"
    assert [c.label for c in KitaruClient().executions.get("outer").checkpoints] == ["ask#1"]
    with pytest.raises(UsageError, match="leave exec_id out"):
        body.run("inner")


def test_blocks_nest_and_an_entered_one_is_not_entered_again(store):
    with calling.block("talk", exec_id="x") as outer:
        with calling.block("other") as inner:
            assert inner.exec_id == outer.exec_id == "x"
        assert calling.is_in_flow()


def test_the_environment_names_the_first_block(store, monkeypatch):
    monkeypatch.setenv("KITARU_EXEC_ID", "named")
    with calling.block("talk") as block:
        assert block.exec_id == "named"
    with pytest.raises(UsageError, match=r"talk\(exec_id=…\)"), calling.block("talk"):
        pass


def test_an_execution_of_something_else_is_refused(store):
    @flow
    def talk():
        return 1

    talk.options(exec_id="x").run()
    with pytest.raises(InputsDifferError), calling.block("talk", exec_id="x"):
        pass
    with pytest.raises(InputsDifferError), calling.block("other", exec_id="x"):
        pass
    with calling.block("talk", exec_id="y"):
        pass
    with pytest.raises(InputsDifferError):
        talk.options(exec_id="y").run()


def test_a_resume_says_what_goes_on(store):
    with pytest.raises(RuntimeError), calling.block("talk", exec_id="x"):
        raise RuntimeError("down")
    with pytest.raises(CodeNotFoundError, match="run the same command again"):
        KitaruClient().executions.resume("x")


def test_a_fork_of_a_block_is_run_by_the_same_code(store):
    def run(exec_id):
        with calling.block("talk", exec_id=exec_id):
            first = calling.call("ask", ask, {"question": "a"})
            return calling.call("ask", ask, {"question": first + "!"})

    assert run("x") == "A!"
    KitaruClient().executions.fork("x", overrides={"checkpoint.ask#1": "B"}, name="y")
    assert run("y") == "B!"
    assert asked == ["a", "A!", "B!"]


def test_drift_is_judged_by_the_code_around_the_block(store):
    def run(clock, crash):
        with calling.block("talk", exec_id="x"):
            answer = calling.call("ask", ask, {"question": clock})
            if crash:
                raise RuntimeError("down")
            return answer

    with pytest.raises(RuntimeError):
        run("1 o'clock", crash=True)
    with pytest.warns(kitaru.KitaruWarning, match="other inputs"):
        assert run("2 o'clock", crash=False) == "1 O'CLOCK"


SCRIPT = """
import os, signal, sys
from kitaru import calling

def ask(question):
    print("asked", question, flush=True)
    if question == os.environ.get("KILL_AT"):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    return question

with calling.block("talk"):
    for q in "abc":
        calling.call("ask", ask, {"question": q})
print("done")
"""


@pytest.mark.process
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_script_that_died_goes_on_by_its_name(tmp_path, by):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(**env):
        return subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, text=True, capture_output=True, timeout=60, check=False,
            env={**os.environ, "KITARU_STORE": str(tmp_path / "store"), "KITARU_EXEC_ID": "x", **env},
        )  # fmt: skip

    died = run(KILL_AT="b", SIGNAL=str(int(by)))
    assert died.returncode == (-9 if by == signal.SIGKILL else 143), died.stderr
    again = run()
    assert (again.returncode, again.stdout) == (0, "asked b\nasked c\ndone\n"), again.stderr
