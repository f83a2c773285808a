"""What becomes of exceptions: recorded, handed on, raised again as their own type."""

from __future__ import annotations

import asyncio
import re

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import RecordedFailureError


class QuotaError(Exception):
    def __init__(self, service, *, left):
        super().__init__(f"{service} has {left} left")
        self.service, self.left = service, left


class StubbornError(Exception):
    """Holds what is no data, so it cannot be had again."""

    def __init__(self, text):
        super().__init__(text)
        self.client = object()


# ---------------------------------------------------------------- what is said, and what is recorded


def test_the_flows_own_exception_comes_with_a_note_that_says_how_to_go_on(store):
    @checkpoint
    def classify(n):
        if n == 1:
            raise TimeoutError("no answer")
        return n

    @flow
    def audit():
        return [classify(n) for n in range(3)]

    with pytest.raises(TimeoutError, match="no answer") as e:
        audit.options(exec_id="audit-1").run()
    (note,) = e.value.__notes__
    assert note.splitlines() == [
        "kitaru: audit failed at classify#2: TimeoutError: no answer",
        f"kitaru: look    kitaru show {store.url}/audit-1:classify#2",
        f"kitaru: resume  kitaru resume {store.url}/audit-1",
    ]
    address = re.search(r"show (\S+)", note)[1]
    assert KitaruClient("memory://elsewhere").look_up(address).status == "failed"


def test_a_store_that_the_default_search_finds_is_not_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    @flow
    def audit():
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as e:
        audit.options(exec_id="audit-1").run()
    assert "kitaru: audit failed in its own body: ValueError: x" in e.value.__notes__[0]
    assert e.value.__notes__[0].endswith("kitaru resume audit-1")


def test_a_recorded_failure_has_type_message_traceback_and_causes(store, client):
    @checkpoint
    def classify():
        try:
            {}["missing"]
        except KeyError as e:
            raise QuotaError("api", left=0) from e

    @flow
    def audit():
        classify()

    handle = audit.options(raises=False).run()
    seen = client.executions.get(handle.exec_id)
    for failure in (seen.failure, seen.checkpoints[0].failure):
        assert failure.type == f"{__name__}:QuotaError"
        assert failure.message == "api has 0 left"
        assert "raise QuotaError" in failure.traceback
        assert "attempts.py" not in failure.traceback.partition("QuotaError:")[0].replace("tests/engine", "")
        assert (failure.cause.type, failure.cause.message) == ("builtins:KeyError", "'missing'")
    assert seen.failed_at == "classify#1"


def test_a_failure_deep_inside_is_found_there(store, client):
    @checkpoint
    def leaf():
        raise ValueError("deep")

    @checkpoint
    def middle():
        leaf()

    @flow
    def top():
        middle()

    handle = top.options(raises=False).run()
    with pytest.raises(ValueError, match="deep") as e:
        handle.get()
    assert "failed at middle#1/leaf#1" in e.value.__notes__[0]
    assert client.executions.get(handle.exec_id).failed_at == "middle#1/leaf#1"


def test_wrapped_failures_are_found_where_they_came_from(store, client):
    @checkpoint
    def leaf():
        raise ValueError("deep")

    @flow
    def top():
        try:
            leaf()
        except ValueError as e:
            raise RuntimeError("wrapped") from e

    handle = top.options(raises=False).run()
    assert client.executions.get(handle.exec_id).failed_at == "leaf#1"


# ---------------------------------------------------------------- caught ones


@pytest.fixture
def stop_after(ran):
    """Interrupt the flow the first time that it comes here."""

    def stop():
        if ran("stop") == 1:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("how", ["call", "submit"])
def test_a_caught_failure_is_raised_again_as_its_own_type(store, ran, stop_after, how):
    @checkpoint
    def ask():
        ran("ask")
        raise QuotaError("api", left=3)

    @checkpoint
    def fallback(text):
        ran("fallback")
        return text

    @flow
    def body():
        try:
            got = ask() if how == "call" else ask.submit().result()
        except QuotaError as e:
            got = fallback(f"{e.service} {e.left} {e} {e.args}")
        stop_after()
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "api 3 api has 3 left ('api has 3 left',)"
    assert ran.counts == {"ask": 1, "fallback": 1, "stop": 2}


def test_a_caught_failure_of_an_async_step(store, ran, stop_after):
    @checkpoint
    async def ask(n):
        ran("ask")
        raise QuotaError("api", left=n)

    @checkpoint
    async def note(n):
        return n

    @flow
    async def body():
        got = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
        total = await note(sum(e.left for e in got))
        stop_after()
        return total

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == 3
    assert ran.counts["ask"] == 2


def test_a_failure_whose_type_cannot_be_had_again_says_so(store, ran, stop_after):
    @checkpoint
    def ask():
        ran("ask")
        raise StubbornError("x")

    @checkpoint
    def fallback():
        return "fell back"

    @flow
    def body():
        try:
            ask()
        except StubbornError:
            got = fallback()
            stop_after()
            return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    with pytest.raises(RecordedFailureError, match=r"StubbornError: x.*catch RecordedFailureError too"):
        body.options(exec_id="x").run()
    assert ran.counts["ask"] == 1


def test_a_failure_that_came_out_of_the_body_runs_again(store, ran):
    @checkpoint
    def ask():
        if ran("ask") == 1:
            raise ValueError("no")
        return "yes"

    @flow
    def body():
        return ask()

    with pytest.raises(ValueError, match="no"):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "yes"
    (step,) = KitaruClient().executions.get("x").checkpoints
    assert (step.status, step.data.attempts) == ("completed", 2)


@pytest.mark.parametrize("wrap", ["bare", "cause", "context", "group"])
def test_notify_and_raise_runs_the_failed_step_again(store, ran, wrap):
    @checkpoint
    def ask():
        if ran("ask") == 1:
            raise ValueError("no")
        return "yes"

    @checkpoint
    def notify(text):
        ran(text)

    @flow
    def body():
        try:
            got = ask()
        except ValueError as e:
            notify("failed")
            if wrap == "bare":
                raise
            if wrap == "group":
                raise ExceptionGroup("all", [e]) from None
            if wrap == "cause":
                raise RuntimeError("wrapped") from e
            raise RuntimeError("wrapped")
        notify("done")
        return got

    with pytest.raises((ValueError, RuntimeError, ExceptionGroup)):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "yes"
    assert ran.names == ["ask", "failed", "ask", "done"]


def test_finally_runs_each_time_and_its_steps_are_matched(store, ran):
    @checkpoint
    def ask():
        if ran("ask") == 1:
            raise ValueError("no")
        return "yes"

    @checkpoint
    def clean_up(what):
        ran("clean up")

    @flow
    def body():
        try:
            return ask()
        finally:
            clean_up("all")

    with pytest.raises(ValueError, match="no"):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "yes"
    assert ran.names == ["ask", "clean up", "ask"], "what followed the failure matches exactly"


def test_a_task_groups_exception_group(store, ran):
    @checkpoint
    async def work(n):
        ran(n)
        if n and ran.counts[n] == 1:
            raise ValueError(f"no {n}")
        return n

    @flow
    async def body():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(n)) for n in range(3)]
        return [t.result() for t in tasks]

    with pytest.raises(ExceptionGroup) as e:
        body.options(exec_id="x").run()
    # The first failure cancels the others, unless they have failed by then.
    assert {str(x) for x in e.value.exceptions} in ({"no 1"}, {"no 2"}, {"no 1", "no 2"})
    failure = KitaruClient().executions.get("x").failure
    assert failure.type == "builtins:ExceptionGroup"
    assert sorted(f.message for f in failure.group) == ["no 1", "no 2"]
    assert body.options(exec_id="x").run().get() == [0, 1, 2]
    assert ran.counts == {0: 1, 1: 2, 2: 2}


def test_an_exception_group_that_was_caught(store, ran, stop_after):
    @checkpoint
    async def work(n):
        ran("work")
        raise ValueError(f"no {n}")

    @checkpoint
    async def report(text):
        return text

    @flow
    async def body():
        text = "nothing"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(work(1))
                group.create_task(work(2))
        except* ValueError as e:
            text = type(e.exceptions[0]).__name__
        got = await report(text)
        stop_after()
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "ValueError"
    # The group may cancel the second while its failure is recorded: nobody was handed that one, and it runs again.
    assert ran.counts["work"] in {2, 3}


def test_an_exception_that_cannot_carry_a_tag_runs_again(store, ran, capsys):
    class TightError(Exception):
        __slots__ = ()

        def __setattr__(self, name, value):
            raise AttributeError(name)

    @checkpoint
    def ask():
        ran("ask")
        raise TightError("x")

    @flow
    def body():
        ask()

    for _ in range(2):
        with pytest.raises(TightError):
            body.options(exec_id="x").run()
        assert "kitaru resume" in capsys.readouterr().err, "it cannot carry a note either"
    assert ran.counts["ask"] == 2


def test_one_exception_object_raised_by_two_steps(store, ran, stop_after):
    shared = ValueError("shared")

    @checkpoint
    def one():
        ran("one")
        raise shared

    @checkpoint
    def two():
        ran("two")
        raise shared

    @checkpoint
    def end():
        return "end"

    @flow
    def body():
        for step in (one, two):
            try:
                step()
            except ValueError:
                pass
        got = end()
        stop_after()
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "end"
    assert (ran.counts["one"], ran.counts["two"]) == (1, 1)


def test_a_caught_failure_handed_to_a_step_is_the_same_input_on_resume(store, ran, stop_after):
    @checkpoint
    def ask():
        ran("ask")
        raise QuotaError("api", left=3)

    @checkpoint
    def explain(error):
        ran("explain")
        return str(error)

    @flow
    def body():
        try:
            ask()
        except QuotaError as e:
            got = explain(e)
        stop_after()
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "api has 3 left"
    assert ran.counts == {"ask": 1, "explain": 1, "stop": 2}


def test_a_failure_whose_text_is_hostile_is_recorded(store, client):
    class HostileError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

        __repr__ = __str__

    @flow
    def body():
        raise HostileError

    handle = body.options(raises=False).run()
    assert handle.status == "failed"
    assert "HostileError" in client.executions.get(handle.exec_id).failure.type
