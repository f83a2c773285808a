"""Further attempts and timeouts. No test here waits: time is the test's own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kitaru import KitaruClient, checkpoint, flow, idempotency_key, log, save
from kitaru.errors import StepTimeoutError, UnrecordableValueError


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_attempts_follow_each_other_with_backoff(store, timed, clock, ran, kind):
    def attempt():
        if ran("try") < 4:
            raise ConnectionError(f"try {ran.counts['try']}")
        return "got it"

    if kind == "sync":

        @checkpoint(retries=3)
        def flaky():
            return attempt()

        @flow
        def body():
            return flaky()
    else:

        @checkpoint(retries=3)
        async def flaky():
            return attempt()

        @flow
        async def body():
            return await flaky()

    handle = timed(body).run()
    assert handle.get() == "got it"
    assert ran.counts["try"] == 4
    assert len(clock.slept) == 3
    assert 0.5 <= clock.slept[0] <= 1.0 <= clock.slept[1] <= 1.5 < 2 <= clock.slept[2] <= 2.5
    (step,) = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert (step.status, step.data.attempts, step.failure) == ("completed", 4, None)


def test_when_all_attempts_fail_the_last_failure_is_the_steps(store, timed, ran):
    @checkpoint(retries=2)
    def bad():
        raise ValueError(f"try {ran('try')}")

    @flow
    def body():
        return bad()

    with pytest.raises(ValueError, match="try 3"):
        timed(body, exec_id="x").run()
    (step,) = KitaruClient().executions.get("x").checkpoints
    assert (step.status, step.data.attempts, step.failure.message) == ("failed", 3, "try 3")


def test_a_resume_of_a_failed_step_has_all_its_attempts_again(store, timed, ran):
    @checkpoint(retries=1)
    def bad():
        if ran("try") < 4:
            raise ValueError("no")
        return "yes"

    @flow
    def body():
        return bad()

    with pytest.raises(ValueError, match="no"):
        timed(body, exec_id="x").run()
    assert timed(body, exec_id="x").run().get() == "yes"
    assert ran.counts["try"] == 4
    assert KitaruClient().executions.get("x").checkpoints[0].data.attempts == 4


def test_what_finished_inside_of_a_failed_attempt_is_reused_by_the_next(store, timed, ran, client):
    @checkpoint
    def fetch(n):
        ran(f"fetch {n}")
        return n

    @checkpoint(retries=2)
    def work():
        total = fetch(1) + fetch(2)
        if ran("work") < 3:
            raise ValueError("no")
        return total + fetch(3)

    @flow
    def body():
        return work()

    handle = timed(body).run()
    assert handle.get() == 6
    assert ran.names == ["fetch 1", "fetch 2", "work", "work", "work", "fetch 3"]
    assert [c.label for c in client.executions.get(handle.exec_id).checkpoints] == [
        "work#1",
        "work#1/fetch#1",
        "work#1/fetch#2",
        "work#1/fetch#3",
    ]


def test_an_inner_failure_that_made_the_attempt_fail_runs_again(store, timed, ran):
    @checkpoint
    def inner():
        if ran("inner") < 3:
            raise ValueError("no")
        return "ok"

    @checkpoint(retries=5)
    def outer():
        return inner()

    @flow
    def body():
        return outer()

    assert timed(body).run().get() == "ok"
    assert ran.counts["inner"] == 3


def test_what_only_the_caller_can_mend_is_not_tried_again(store, timed, ran):
    @checkpoint(retries=5)
    def bad():
        ran("bad")
        return threading.Lock()

    @flow
    def body():
        return bad()

    with pytest.raises(UnrecordableValueError):
        timed(body).run()
    assert ran.counts["bad"] == 1


def test_an_interruption_is_not_tried_again(store, timed, ran):
    @checkpoint(retries=5)
    def stop():
        ran("stop")
        raise SystemExit(7)

    @flow
    def body():
        return stop()

    with pytest.raises(SystemExit) as e:
        timed(body, exec_id="x").run()
    assert (e.value.code, ran.counts["stop"]) == (7, 1)
    assert KitaruClient().executions.get("x").status.value == "interrupted"


def test_the_idempotency_key_is_the_same_on_every_attempt_and_elsewhere_another(store, timed, ran):
    keys = []

    @checkpoint(retries=1)
    def pay(n):
        keys.append((n, idempotency_key()))
        if ran(f"pay {n}") == 1 and n == 1:
            raise ValueError("once more")
        if ran.counts[f"pay {n}"] == 2 and n == 1:
            raise KeyboardInterrupt
        return n

    @flow
    def body():
        return pay(1), pay(2)

    with pytest.raises(KeyboardInterrupt):
        timed(body, exec_id="x").run()
    timed(body, exec_id="x").run()
    timed(body, exec_id="y").run()
    ours = {key for n, key in keys[:3] if n == 1}
    assert len(ours) == 1
    assert len({key for _, key in keys}) == 4, "x: pay#1, pay#2; y: pay#1, pay#2"
    assert all(len(key) == 32 and int(key, 16) >= 0 for _, key in keys)
    assert idempotency_key() != idempotency_key(), "outside of a flow it is drawn at random"


# ---------------------------------------------------------------- timeouts


def test_an_async_body_is_stopped_at_its_timeout(store, ran):
    @checkpoint(timeout=0.02)
    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            ran("stopped")

    @flow
    async def body():
        await slow()

    with pytest.raises(StepTimeoutError, match=r"slow#1 took longer than its timeout of 0.02 s.*raise timeout="):
        body.options(exec_id="x").run()
    assert ran.names == ["stopped"]
    assert KitaruClient().executions.get("x").checkpoints[0].failure.type == "kitaru.errors:StepTimeoutError"


def test_a_timeout_of_the_bodys_own_is_its_own_failure(store):
    @checkpoint(timeout=30)
    async def slow():
        raise TimeoutError("the service's")

    @flow
    async def body():
        await slow()

    with pytest.raises(TimeoutError, match="the service's") as e:
        body.run()
    assert not isinstance(e.value, StepTimeoutError)


def test_what_a_late_body_records_is_refused(store, ran):
    gate, over = threading.Event(), threading.Event()
    came_of = []

    @checkpoint
    def inner():
        return ran("inner")

    @checkpoint(timeout=0.05)
    def slow():
        ran("slow")
        gate.wait(20)
        for late in (inner, lambda: save("late", 1), lambda: log(late=True)):
            try:
                late()
            except BaseException as e:
                came_of.append(str(e))
        over.set()

    @flow
    def body():
        try:
            slow()
        except StepTimeoutError:
            gate.set()
            assert over.wait(20)
            return "went on"

    handle = body.run()
    assert handle.get() == "went on"
    assert len(came_of) == 3
    assert all("slow#1 took longer than its timeout: what its body still does is not recorded" in c for c in came_of)
    seen = KitaruClient().executions.get(handle.exec_id)
    assert [c.label for c in seen.checkpoints] == ["slow#1"]
    assert (seen.data.saved, seen.data.logs, ran.counts["inner"]) == ([], [], 0)


def test_a_body_within_its_timeout_is_as_any_other(store):
    @checkpoint(timeout=30)
    def quick(n):
        log(n=n)
        return n

    @checkpoint(timeout=30)
    async def soon(n):
        return n

    @flow
    async def body():
        return quick(1), await soon(2)

    handle = body.run()
    assert handle.get() == (1, 2)
    assert KitaruClient().executions.get(handle.exec_id).checkpoints[0].metadata == {"n": 1}


def test_a_timeout_counts_for_each_attempt(store, timed, ran):
    @checkpoint(timeout=0.02, retries=2)
    async def slow():
        if ran("try") < 3:
            await asyncio.Event().wait()
        return "done"

    @flow
    async def body():
        return await slow()

    assert timed(body).run().get() == "done"
    assert ran.counts["try"] == 3
