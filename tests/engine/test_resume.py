"""Resuming: what was finished is reused, and what was not runs."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from kitaru import KitaruClient, KitaruDivergenceError, KitaruWarning, checkpoint, flow
from kitaru.errors import ExecutionOwnedError
from kitaru.testing.faults import SimulatedCrash


def labels(exec_id):
    return [c.label for c in KitaruClient().executions.get(exec_id).checkpoints]


@pytest.fixture
def three(ran):
    """A flow of three steps that stops at the second for as long as `stop` says how."""
    stop = Switch()

    @checkpoint
    def first():
        return ran("first")

    @checkpoint
    def second(n):
        ran("second")
        stop()
        return n + 1

    @checkpoint
    def third(n):
        ran("third")
        return n + 1

    @flow
    def three():
        return third(second(first()))

    three.stop = stop
    return three


class Switch:
    """Raises what it holds, or calls it."""

    def __init__(self):
        self.what = None

    def __call__(self):
        what = self.what
        if callable(what) and not isinstance(what, type):
            what()
        elif what is not None:
            raise what

    def __reduce__(self):
        raise TypeError("no data")


# ---------------------------------------------------------------- by how it stopped


def test_after_a_failure(store, client, three, ran):
    three.stop.what = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        three.options(exec_id="x").run()
    three.stop.what = None
    handle = client.executions.resume("x")
    assert handle.get() == 3
    assert ran.names == ["first", "second", "second", "third"]
    assert (handle.tally.reused, handle.tally.ran) == (1, 2)
    seen = client.executions.get("x")
    assert (seen.status.value, seen.failure, seen.data.attempts) == ("completed", None, 2)


@pytest.mark.parametrize("stop", [KeyboardInterrupt("^C"), SystemExit(5), GeneratorExit(), asyncio.CancelledError()])
def test_after_an_interruption(store, client, three, ran, stop):
    three.stop.what = stop
    with pytest.raises(type(stop)) as e:
        three.options(exec_id="x").run()
    assert e.value is stop
    seen = client.executions.get("x")
    assert (seen.status.value, seen.status.is_finished) == ("interrupted", False)
    three.stop.what = None
    assert client.executions.resume("x").get() == 3
    assert ran.names == ["first", "second", "second", "third"]


def test_after_a_crash(faulty, connected, three, ran):
    three.stop.what = faulty.crash
    with pytest.raises(SimulatedCrash):
        three.options(exec_id="x").run()
    connected(faulty.inner)
    client, three.stop.what = KitaruClient(), None
    assert client.executions.get("x").status.value == "interrupted", "nobody who lives owns it"
    assert client.executions.resume("x").get() == 3
    assert ran.names == ["first", "second", "second", "third"]


def test_a_completed_execution_gives_its_handle(store, client, three, ran):
    three.options(exec_id="x").run()
    handle = client.executions.resume("x")
    assert (handle.exec_id, handle.status, handle.get()) == ("x", "completed", 3)
    assert ran.names == ["first", "second", "third"]


def test_one_that_runs_is_refused(store, client, three):
    came = []

    def try_it():
        with pytest.raises(ExecutionOwnedError) as e:
            client.executions.resume("x")
        came.append(str(e.value))

    three.stop.what = try_it
    three.options(exec_id="x").run()
    assert "x is run by" in came[0]
    assert "--take-over" in came[0]


def test_again_and_again(store, three, ran):
    three.stop.what = KeyboardInterrupt()
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            three.options(exec_id="x").run()
    three.stop.what = None
    assert three.options(exec_id="x").run().get() == 3
    assert ran.counts == {"first": 1, "second": 5, "third": 1}
    assert labels("x") == ["first#1", "second#1", "third#1"]


# ---------------------------------------------------------------- by what the body looks like


def test_in_a_loop(store, ran):
    @checkpoint
    def work(n):
        if ran(n) == 1 and n == 3:
            raise KeyboardInterrupt
        return n * n

    @flow
    def body():
        return [work(n) for n in range(6)]

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == [0, 1, 4, 9, 16, 25]
    assert ran.names == [0, 1, 2, 3, 3, 4, 5]


def test_in_branches(store, ran):
    @checkpoint
    def pick(n):
        ran("pick")
        return n % 2 == 0

    @checkpoint
    def even(n):
        if ran("even") == 2:
            raise KeyboardInterrupt
        return f"{n} is even"

    @checkpoint
    def odd(n):
        ran("odd")
        return f"{n} is odd"

    @flow
    def body():
        return [even(n) if pick(n) else odd(n) for n in range(4)]

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == ["0 is even", "1 is odd", "2 is even", "3 is odd"]
    assert ran.counts == {"pick": 4, "even": 3, "odd": 2}


def test_equal_calls_keep_their_own_results(store, ran):
    @checkpoint
    def draw():
        return ran("draw")

    @flow
    def body():
        got = [draw(), draw(), draw()]
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == [1, 2, 3]


def test_a_reused_value_is_a_fresh_object_each_time(store, ran):
    @checkpoint
    def rows():
        return [1]

    @checkpoint
    def count(xs):
        return len(xs)

    @flow
    def body():
        xs = rows()
        xs.append(2)
        got = count(xs)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got, rows(), xs

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (2, [1], [1, 2])


# ---------------------------------------------------------------- changed code


def test_a_step_that_was_inserted_runs_and_the_rest_is_reused(store, ran):
    @checkpoint
    def a():
        return ran("a")

    @checkpoint
    def b(n):
        ran("b")
        return n + 1

    @checkpoint
    def check(n):
        ran("check")

    def old():
        n = b(a())
        if ran("old"):
            raise KeyboardInterrupt
        return n

    def new():
        n = a()
        check(n)
        return b(n)

    old.__name__ = new.__name__ = "body"
    with pytest.raises(KeyboardInterrupt):
        flow(old).options(exec_id="x").run()
    handle = flow(new).options(exec_id="x", inputs="recorded").run()
    assert handle.get() == 2
    assert ran.names == ["a", "b", "old", "check"]
    assert (handle.tally.reused, handle.tally.ran) == (2, 1)


def test_a_step_that_was_removed_is_left_behind(store, ran):
    @checkpoint
    def a(n):
        ran(n)
        return n

    def old():
        got = [a(1), a(2), a(3)]
        if ran("old"):
            raise KeyboardInterrupt
        return got

    def new():
        return [a(1), a(3)]

    old.__name__ = new.__name__ = "body"
    with pytest.raises(KeyboardInterrupt):
        flow(old).options(exec_id="x").run()
    assert flow(new).options(exec_id="x", inputs="recorded").run().get() == [1, 3]
    assert ran.names == [1, 2, 3, "old"]


SCRIPT = """\
import os
from kitaru import checkpoint, flow

def helper(n):
    return n + {more}

@checkpoint
def work(n):
    return helper(n)

@checkpoint
def plain(n):
    return n * 10

@flow
def body():
    got = plain(work(1))
    if os.environ.get("STOP"):
        raise ValueError("stop here")
    return got

if __name__ == "__main__":
    print(body.options(exec_id="x").run().get())
"""


def test_a_changed_helper_is_noticed_and_its_step_reused(run_script, tmp_path):
    script = tmp_path / "audit.py"
    script.write_text(SCRIPT.format(more=1))
    first = run_script("audit.py", env={"STOP": "1"})
    assert first.code == 1
    assert "kitaru resume x" in first.err
    script.write_text(SCRIPT.format(more=1000))
    done = run_script("audit.py")
    assert (done.code, done.out) == (0, "20\n"), done.err
    assert "the code of work has changed (helper)" in done.err
    assert "plain" not in done.err


# ---------------------------------------------------------------- drift


@pytest.fixture
def drifting(ran):
    @checkpoint
    def stamp(when, text):
        ran("stamp")
        return f"{text} at {when}"

    @checkpoint
    def after(text):
        ran("after")
        return text.upper()

    @flow
    def body():
        got = after(stamp(ran("tick"), "made"))
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    return body


def test_drift_is_reused_with_a_warning_that_names_the_input(store, drifting, ran):
    with pytest.warns(KitaruWarning) as caught:
        assert drifting.options(exec_id="x").run().get() == "MADE AT 1"
    (text,) = [str(w.message) for w in caught]
    assert "stamp#1 of x is called with other inputs than were recorded (when: recorded int 1, now int 2)" in text
    assert ran.counts["stamp"] == ran.counts["after"] == 1


def test_drift_runs_again_where_that_is_asked_for(store, drifting, ran):
    assert drifting.options(exec_id="x", on_drift="rerun").run().get() == "MADE AT 2"
    assert ran.counts["stamp"] == 2


def test_drift_is_an_error_where_that_is_asked_for(store, client, drifting, ran):
    with pytest.raises(KitaruDivergenceError, match=r"when: recorded int 1, now int 2.*put it in a step") as e:
        drifting.options(exec_id="x", on_drift="error").run()
    assert 'on_drift="reuse" or "rerun"' in str(e.value)
    state = client.executions.get("x").data.state
    assert (state.status, state.writer) == ("interrupted", None), "it was let go: anybody may go on at once"
    with pytest.warns(KitaruWarning):
        assert drifting.options(exec_id="x").run().get() == "MADE AT 1"


def test_a_divergence_is_not_swallowed_by_the_body(store, ran):
    @checkpoint
    def stamp(when):
        return when

    @flow
    def body():
        try:
            stamp(ran("tick"))
        except Exception:
            ran("swallowed")
        if ran("body") == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    with pytest.raises(KitaruDivergenceError):
        body.options(exec_id="x", on_drift="error").run()
    assert "swallowed" not in ran.names


def test_where_the_callers_code_changed_other_inputs_are_another_call(store, ran):
    @checkpoint
    def work(n):
        ran(n)
        return n

    def old():
        got = work(1)
        if ran("old"):
            raise KeyboardInterrupt
        return got

    def new():
        return work(2)

    old.__name__ = new.__name__ = "body"
    with pytest.raises(KeyboardInterrupt):
        flow(old).options(exec_id="x").run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flow(new).options(exec_id="x", inputs="recorded").run().get() == 2
    assert ran.names == [1, "old", 2]


def test_after_a_failure_that_runs_again_other_inputs_are_another_call(store, ran):
    """What follows the failed step may depend on what it gives now: no drift behind the cut."""

    @checkpoint
    def fails_first():
        if ran("fails") == 1:
            raise ValueError("no")
        return "fine now"

    @checkpoint
    def notify(text):
        ran(f"notify {text}")
        return text

    @flow
    def body():
        try:
            got = fails_first()
        except ValueError as e:
            notify(f"failed: {e}")
            raise
        return notify(got)

    with pytest.raises(ValueError, match="no"):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == "fine now"
    assert ran.names == ["fails", "notify failed: no", "fails", "notify fine now"]
