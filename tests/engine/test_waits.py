"""Waits: a flow suspends, is answered by anybody, and goes on. Sleeps, children, requests, doubt."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import threading
from typing import Literal

import networkx as nx
import pydantic
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.answering import PendingWait
from kitaru.errors import (
    AmbiguousNameError,
    ChildFailedError,
    ExecutionCancelledError,
    ExecutionEndedError,
    ExecutionSuspended,
    KitaruWaitAborted,
    KitaruWaitExpired,
    NotFoundError,
    StepInDoubtError,
    UsageError,
    WaitClosedError,
)
from kitaru.eviction import Leaving
from kitaru.flows import Flow, Options
from kitaru.lineage_text import lineage_text
from kitaru.stores.local import LocalStore
from kitaru.stores.memory import MemoryStore
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at


class Verdict(pydantic.BaseModel):
    ok: bool
    why: str = ""

    @pydantic.field_validator("why")
    @classmethod
    def polite(cls, text):
        if "!" in text:
            raise ValueError("no shouting")
        return text


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def timed(connected, clock):
    """A store whose clock is a test's."""
    return connected(MemoryStore(clock=clock.time))


def on(store, clock, of, **options):
    """The flow, on this store and by this clock."""
    return Flow(of.function, Options(store=store, clock=clock, **options))


@pytest.fixture
def review(ran):
    @checkpoint
    def write(doc):
        ran("write")
        return doc.upper()

    @checkpoint
    def publish(draft):
        ran("publish")
        return f"published {draft}"

    @flow
    def review(doc: str) -> str:
        draft = write(doc)
        verdict = kitaru.wait(
            name="verdict", schema=Verdict, question="Publish this?", metadata={"draft": draft},
            expires=dt.timedelta(days=3), default=Verdict(ok=False),
        )  # fmt: skip
        return publish(draft) if verdict.ok else f"rejected {verdict.why}".strip()

    return review


# ---------------------------------------------------------------- suspending, and going on


def test_it_suspends_is_answered_and_goes_on(review, ran, client, capsys):
    handle = review.run("a")
    assert handle.status == "waiting"
    assert capsys.readouterr().err.splitlines() == [
        f'kitaru: {handle.exec_id} waits for verdict: "Publish this?"',
        f"kitaru: answer  kitaru answer {client.store.url}/{handle.exec_id} verdict '{{\"ok\": true}}'",
    ]
    (waiting,) = client.executions.pending_waits(handle.exec_id)
    assert (waiting.name, waiting.question, waiting.metadata) == ("verdict", "Publish this?", {"draft": "A"})
    client.executions.input(handle.exec_id, "verdict", Verdict(ok=True))
    assert client.executions.pending_waits(handle.exec_id) == []
    assert client.executions.resume(handle.exec_id).get() == "published A"
    assert ran.names == ["write", "publish"]


def test_who_asks_for_the_result_of_what_waits_ends_with_three(review):
    handle = review.run("a")
    with pytest.raises(ExecutionSuspended, match="waits for verdict") as caught:
        handle.get()
    assert caught.value.code == 3
    with pytest.raises(SystemExit):
        review("b")


def test_what_waits_has_that_status_and_is_resumed_to_the_same_wait(review, ran, client):
    handle = review.run("a")
    assert client.executions.get(handle.exec_id).status.value == "waiting"
    before = client.executions.pending_waits(handle.exec_id)
    assert client.executions.resume(handle.exec_id).status == "waiting"
    assert client.executions.pending_waits(handle.exec_id) == before
    assert ran.names == ["write"]


def test_a_named_execution_that_waits_is_left_alone_until_it_can_go_on(review, ran, client):
    named = review.options(exec_id="r-1")
    assert named.run("a").status == "waiting"
    segments = client.executions.get("r-1").reading.n
    assert named.run("a").status == "waiting"
    assert client.executions.get("r-1").reading.n == segments
    client.executions.input("r-1", "verdict", {"ok": False, "why": "dull"})
    assert named.run("a").get() == "rejected dull"


def test_a_named_execution_that_waits_goes_on_with_code_that_was_mended(client):
    def at_first():
        @flow
        def asks():
            return kitaru.wait(name="x", question="Pubish?")

        return asks

    def mended():
        @flow
        def asks():
            return kitaru.wait(name="x", question="Publish?")

        return asks

    for version in (at_first(), mended()):
        assert version.options(exec_id="r-1").run().status == "waiting"
    assert client.executions.pending_waits("r-1")[-1].question == "Publish?"


def test_a_named_execution_that_waits_is_asked_again_where_somebody_can_be(review, store):
    assert review.options(exec_id="r-1").run("a").status == "waiting"
    asks = Flow(review.function, Options(exec_id="r-1", ask=lambda opened: {"ok": True}))
    assert asks.run("a").get() == "published A"


def test_no_except_exception_of_a_body_holds_it(client, ran):
    @checkpoint
    def inner():
        try:
            return kitaru.wait(name="x")
        except Exception:
            ran("swallowed")
            return 0

    @flow
    def body():
        try:
            return inner()
        except Exception:
            ran("swallowed")

    assert body.run().status == "waiting"
    assert ran.names == []


def test_a_body_that_swallows_everything_goes_no_further(client, ran):
    @checkpoint
    def after():
        ran("after")

    @flow
    def body():
        try:
            kitaru.wait(name="x")
        except BaseException:
            pass
        after()

    assert body.run().status == "waiting"
    assert ran.names == []


def test_nothing_is_kept_running_while_it_waits(review):
    before = set(threading.enumerate())
    review.run("a")
    assert set(threading.enumerate()) <= before


def test_waits_in_a_loop_are_each_their_own(client):
    @flow
    def body():
        return [kitaru.wait(name="n", schema=int, question=f"the number {i}") for i in range(3)]

    exec_id = body.run().exec_id
    for turn, name in enumerate(["n", "n#2", "n#3"]):
        assert [w.name for w in client.executions.pending_waits(exec_id)] == [name]
        client.executions.input(exec_id, name, turn * 10)
        handle = client.executions.resume(exec_id)
    assert handle.get() == [0, 10, 20]


def test_a_wait_inside_of_a_step_takes_that_step_up_again(client, ran):
    @checkpoint
    def inner(n):
        ran("inner")
        return n

    @checkpoint
    def outer(n):
        ran("outer")
        return inner(n) + kitaru.wait(name="more", schema=int)

    @flow
    def body():
        return outer(1) * 2

    exec_id = body.run().exec_id
    assert [w.name for w in client.executions.pending_waits(exec_id)] == ["outer#1/more"]
    client.executions.input(exec_id, "more", 4)
    assert client.executions.resume(exec_id).get() == 10
    assert ran.names == ["outer", "inner", "outer"]


def test_several_at_once_are_all_asked_before_it_suspends(client):
    @flow
    async def body():
        return await asyncio.gather(
            kitaru.wait_async(name="a"), kitaru.wait_async(name="b"), kitaru.wait_async(name="a")
        )

    exec_id = asyncio.run(_handle(body)).exec_id
    assert [w.name for w in client.executions.pending_waits(exec_id)] == ["a", "b", "a#2"]
    for name, value in (("a#2", 3), ("b", 2), ("a", 1)):
        client.executions.input(exec_id, name, value)
    assert client.executions.resume(exec_id).get() == [1, 2, 3]


async def _handle(of, *args):
    handle = of.run(*args)
    with pytest.raises(ExecutionSuspended):
        await handle.result()
    return handle


def test_what_runs_beside_a_wait_ends_first(client, ran):
    @checkpoint
    async def slow(n):
        await asyncio.sleep(0.05)
        ran(f"slow {n}")
        return n

    @checkpoint
    async def asks():
        return kitaru.wait(name="x")

    @flow
    async def body():
        return await asyncio.gather(asks(), slow(1), slow(2))

    exec_id = body.run().exec_id
    assert sorted(ran.names) == ["slow 1", "slow 2"]
    client.executions.input(exec_id, "x", 0)
    assert client.executions.resume(exec_id).get() == [0, 1, 2]
    assert sorted(ran.names) == ["slow 1", "slow 2"]


def test_submitted_steps_that_wait_are_asked_side_by_side(client, ran):
    @checkpoint
    def asks(name):
        return kitaru.wait(name=name, schema=int)

    @checkpoint
    def work(n):
        ran(n)
        return n

    @flow
    def body():
        futures = asks.map(["a", "b"])
        done = work(5)
        return sum(f.result() for f in futures) + done

    exec_id = body.run().exec_id
    assert sorted(w.name for w in client.executions.pending_waits(exec_id)) == ["asks#1/a", "asks#2/b"]
    assert ran.names == [5]
    client.executions.input(exec_id, "a", 1)
    client.executions.input(exec_id, "b", 2)
    assert client.executions.resume(exec_id).get() == 8
    assert ran.names == [5]


def test_a_submitted_step_that_waits_and_that_nobody_asks_keeps_the_flow_from_ending(client):
    @checkpoint
    def asks():
        return kitaru.wait(name="x")

    @flow
    def body():
        asks.submit()
        return "done"

    handle = body.run()
    assert handle.status == "waiting"
    client.executions.input(handle.exec_id, "x", 1)
    assert client.executions.resume(handle.exec_id).get() == "done"


def test_nested_flows_wait(client):
    @flow
    def inner():
        return kitaru.wait(name="x", schema=int)

    @flow
    def outer():
        return inner() + 1

    exec_id = outer.run().exec_id
    client.executions.input(exec_id, "inner#1/x", 1)
    assert client.executions.resume(exec_id).get() == 2


def test_a_process_may_stay_and_look_for_the_answer(timed, clock):
    @flow
    def body():
        return kitaru.wait(name="x", schema=str, timeout=60)

    def meanwhile():
        if len(clock.slept) == 3:
            KitaruClient(timed).executions.input("r-1", "x", "now")

    clock.on_sleep = meanwhile
    assert on(timed, clock, body, exec_id="r-1").run().get() == "now"
    clock.on_sleep = lambda: None
    slept = len(clock.slept)
    assert on(timed, clock, body).run().status == "waiting"
    assert 59 < sum(clock.slept[slept:]) < 61


def test_a_body_that_swallows_a_wait_and_ends_has_not_ended(client):
    @checkpoint
    def asks():
        try:
            return kitaru.wait(name="x")
        except BaseException:
            return "swallowed"

    @flow
    def in_a_step():
        return asks()

    @flow
    def in_the_flow():
        try:
            return kitaru.wait(name="x")
        except BaseException:
            return "swallowed"

    for body in (in_a_step, in_the_flow):
        handle = body.run()
        assert handle.status == "waiting"
        client.executions.input(handle.exec_id, "x", "said")
        assert client.executions.resume(handle.exec_id).get() == "said"


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("schema", "good", "given", "bad", "why"),
    [
        (bool, True, True, "yes", "'yes' is not of type 'boolean'"),
        (int, 3, 3, 3.5, "3.5 is not of type 'integer'"),
        (float, 3, 3.0, "3", "'3' is not of type 'number'"),
        (str, "a", "a", 1, "1 is not of type 'string'"),
        (int, 3.0, 3, True, "True is not of type 'integer'"),
        (list[int], [1, 2], [1, 2], [1, "x"], "at 1: 'x' is not of type 'integer'"),
        (Literal["a", 1, True], 1.0, 1, 2, "2 is not one of"),
        (float | None, 2, 2.0, "2", "is not valid under any of the given schemas"),
        (int | None, None, None, "x", "is not valid under any of the given schemas"),
        (Literal["now", "later"], "later", "later", "never", "'never' is not one of"),
        (["now", "later"], "now", "now", "never", "'never' is not one of"),
        (Colour, Colour.BLUE, Colour.BLUE, "green", "'green' is not one of"),
        (Colour, "red", Colour.RED, 1, "1 is not one of"),
        (Verdict, {"ok": True}, Verdict(ok=True), {"ok": 1}, "at ok: 1 is not of type 'boolean'"),
        (Verdict, Verdict(ok=True, why="x"), Verdict(ok=True, why="x"), {}, "'ok' is a required property"),
        (Verdict, {"ok": True}, Verdict(ok=True), {"ok": True, "why": "No!"}, "at why: Value error, no shouting"),
        ({"type": "array", "maxItems": 1}, [1], [1], [1, 2], "is too long"),
        (None, {"any": (1, 2)}, {"any": (1, 2)}, "nothing is refused", "nothing"),
    ],
    ids=str,
)
def test_answers_come_as_their_type_and_what_does_not_fit_changes_nothing(client, schema, good, given, bad, why):
    @flow
    def body():
        answer = kitaru.wait(name="x", schema=schema)
        kitaru.save("kind", type(answer).__name__)
        return answer

    exec_id = body.run().exec_id
    segments, keys = client.executions.get(exec_id).reading.n, {e.key for e in client.store.list("")}
    if why != "nothing":
        with pytest.raises(UsageError, match="no answer to x") as refused:
            client.executions.input(exec_id, "x", bad)
        assert why in str(refused.value)
        assert client.executions.get(exec_id).reading.n == segments
        assert {e.key for e in client.store.list("")} == keys
    client.executions.input(exec_id, "x", good)
    result = client.executions.resume(exec_id).get()
    assert result == given
    assert type(result) is type(given)


def test_the_first_answer_wins_and_who_gave_it_is_recorded(review, client):
    exec_id = review.run("a").exec_id
    client.executions.input(exec_id, "verdict", {"ok": True}, who="ada")
    with pytest.raises(WaitClosedError, match="was answered by ada"):
        client.executions.input(exec_id, "verdict", {"ok": False}, who="bob")
    assert client.executions.resume(exec_id).get() == "published A"
    with pytest.raises(WaitClosedError, match="was answered by ada"):
        client.executions.input(exec_id, "verdict", {"ok": False}, who="bob")


def test_of_many_who_answer_at_once_one_wins(review, client):
    exec_id = review.run("a").exec_id
    barrier, said = threading.Barrier(8), []

    def answer(n):
        barrier.wait()
        try:
            client.executions.input(exec_id, "verdict", {"ok": False, "why": f"{n}"}, who=f"p{n}")
            said.append(n)
        except WaitClosedError:
            pass

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1
    assert client.executions.resume(exec_id).get() == f"rejected {said[0]}"


def test_a_wait_that_is_not_there_says_what_there_is(client):
    @checkpoint
    def asks():
        return kitaru.wait(name="x")

    @flow
    def body():
        return [f.result() for f in [asks.submit(), asks.submit()]]

    exec_id = body.run().exec_id
    with pytest.raises(NotFoundError, match="has no open wait y; it has: asks#1/x, asks#2/x"):
        client.executions.input(exec_id, "y", 1)
    with pytest.raises(AmbiguousNameError, match="several open waits x"):
        client.executions.input(exec_id, "x", 1)
    client.executions.input(exec_id, "asks#2/x", 1)


def test_an_aborted_wait_raises_and_a_retry_asks_again(client):
    @flow
    def body():
        return kitaru.wait(name="x", schema=int)

    exec_id = body.run().exec_id
    client.executions.abort_wait(exec_id, "x", reason="wrong document", who="ada")
    with pytest.raises(KitaruWaitAborted, match="ada closed the wait x#1 without an answer: wrong document"):
        client.executions.resume(exec_id)
    assert client.executions.retry(exec_id, raises=False).status == "waiting"
    client.executions.input(exec_id, "x", 5)
    assert client.executions.resume(exec_id).get() == 5


def test_a_flow_that_catches_an_abort_is_told_the_same_again(client, ran):
    @checkpoint
    def otherwise():
        ran("otherwise")
        return "otherwise"

    @flow
    def body():
        try:
            kitaru.wait(name="x")
        except KitaruWaitAborted:
            first = otherwise()
            kitaru.wait(name="y")
            return first

    exec_id = body.run().exec_id
    client.executions.abort_wait(exec_id, "x")
    client.executions.resume(exec_id)
    client.executions.input(exec_id, "y", 1)
    assert client.executions.resume(exec_id).get() == "otherwise"
    assert ran.names == ["otherwise"]


def test_another_question_is_another_wait(client, ran):
    asked = ["first"]

    @checkpoint
    def question():
        ran("question")
        return asked[0]

    @flow
    def body():
        return kitaru.wait(name="x", question=question())

    exec_id = body.run().exec_id
    client.executions.input(exec_id, "x", 1)
    assert client.executions.resume(exec_id).get() == 1
    fork = client.executions.replay(exec_id, overrides={"question": "second"})
    assert fork.status == "waiting"
    assert [w.question for w in client.executions.pending_waits(fork.exec_id)] == ["second"]


def test_a_fork_takes_another_answer_or_asks_again(review, client, ran):
    exec_id = review.run("a").exec_id
    client.executions.input(exec_id, "verdict", {"ok": True})
    client.executions.resume(exec_id)
    ran.names.clear()
    assert review.replay(exec_id, overrides={"wait.verdict": Verdict(ok=False, why="x")}).get() == "rejected x"
    assert review.replay(exec_id, overrides={"wait.verdict": {"ok": False}}).get() == "rejected"
    again = review.replay(exec_id, rerun=["verdict"])
    assert again.status == "waiting"
    assert ran.names == []
    with pytest.raises(NotFoundError, match="has no wait write; it has: verdict"):
        review.replay(exec_id, overrides={"wait.write": 1})


# ---------------------------------------------------------------- time


def test_days_of_waiting_end_in_the_default(review, timed, clock):
    handle = on(timed, clock, review).run("a")
    clock.advance(2.9 * 86400)
    assert kitaru.resume_ready(clock=clock).ran == []
    clock.advance(0.2 * 86400)
    assert [r.status for r in kitaru.resume_ready(clock=clock).ran] == ["completed"]
    client = KitaruClient(timed)
    assert client.executions.get(handle.exec_id).result == "rejected"
    with pytest.raises(WaitClosedError, match="expired"):
        client.executions.input(handle.exec_id, "verdict", {"ok": True})


def test_without_a_default_an_expired_wait_raises(timed, clock):
    @flow
    def body():
        return kitaru.wait(name="x", expires=10)

    handle = on(timed, clock, body).run()
    clock.advance(11)
    (ran,) = kitaru.resume_ready(clock=clock).ran
    assert ran.status == "failed"
    assert isinstance(ran.failure, KitaruWaitExpired)
    assert KitaruClient(timed).executions.get(handle.exec_id).failed_at == "x#1"


def test_a_sleep_suspends_and_goes_on_when_it_is_over(timed, clock, ran):
    @flow
    def body():
        kitaru.sleep(dt.timedelta(days=2))
        ran("after")
        kitaru.sleep(dt.datetime.fromtimestamp(clock.time() + 100, dt.UTC))
        return "slept"

    handle = on(timed, clock, body, exec_id="s-1").run()
    assert handle.status == "waiting"
    clock.advance(2 * 86400 - 1)
    assert kitaru.resume_ready(clock=clock).ran == []
    clock.advance(1)
    assert [r.status for r in kitaru.resume_ready(clock=clock).ran] == ["waiting"]
    clock.advance(101)
    assert [r.status for r in kitaru.resume_ready(clock=clock).ran] == ["completed"]
    assert [*timed.list("timers/")] == []


def test_what_is_past_when_it_is_asked_is_over_at_once(timed, clock):
    @flow
    def body():
        kitaru.sleep(0)
        kitaru.sleep(dt.datetime(1960, 1, 1))  # noqa: DTZ001 - as people write it
        kitaru.sleep(dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))))
        return kitaru.wait(name="x", expires=dt.datetime.fromtimestamp(clock.time() - 1, dt.UTC), default="late")

    assert on(timed, clock, body).run().get() == "late"
    assert [*timed.list("timers/")] == []


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_what_lasts_no_time_is_over_at_once_by_any_clock(tmp_path, kind):
    """The clock of a folder is that of its files, which lags behind by some milliseconds."""
    store = MemoryStore() if kind == "memory" else LocalStore(tmp_path)

    @flow
    def body():
        for _ in range(20):
            kitaru.sleep(0)
        return kitaru.wait(name="x", expires=0, default="late")

    assert Flow(body.function, Options(store=store)).run().get() == "late"


@pytest.mark.parametrize("never", [dt.datetime.max, dt.timedelta(days=100_000), 9e10], ids=str)  # noqa: DTZ901
def test_a_moment_beyond_all_keeps_nobody_waiting(timed, clock, never):
    @flow
    def far():
        return kitaru.wait(name="x", expires=never, default="in the end")

    @flow
    def near():
        return kitaru.sleep(60)

    on(timed, clock, far, exec_id="far").run()
    on(timed, clock, near, exec_id="near").run()
    clock.advance(61)
    assert [(r.exec_id, r.status) for r in kitaru.resume_ready(clock=clock).ran] == [("near", "completed")]
    assert KitaruClient(timed).executions.get("far").status.value == "waiting"


def test_moments_and_chances_are_the_same_after_a_resume(client):
    seen = []

    @flow
    def body():
        seen.append((kitaru.now(), kitaru.random(), kitaru.uuid4()))
        return kitaru.wait(name="x")

    exec_id = body.run().exec_id
    client.executions.input(exec_id, "x", 1)
    client.executions.resume(exec_id)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][0].tzinfo is dt.UTC
    assert 0 <= seen[0][1] < 1


# ---------------------------------------------------------------- children


@flow
def double(n):
    if n < 0:
        raise ValueError(f"{n} is negative")
    if n == 5:
        n = kitaru.wait(name="n", schema=int)
    return 2 * n


@flow
def total(*numbers):
    return kitaru.gather([kitaru.spawn(double, n) for n in numbers])


def test_children_run_apart_and_their_parent_goes_on_when_they_have_ended(client):
    handle = total.run(1, 2, 5)
    assert handle.status == "waiting"
    by_flow = {s.flow: s for s in client.executions.list()}
    assert by_flow["double"].status.value == "pending"
    report = kitaru.resume_ready()
    assert sorted(r.status for r in report.ran if r.flow == "double") == ["completed", "completed", "waiting"]
    (child,) = client.executions.list(flow="double", status="waiting")
    client.executions.input(child.exec_id, "n", 7)
    kitaru.resume_ready()
    assert client.executions.get(handle.exec_id).result == [2, 4, 14]
    assert [*client.store.list("ready/")] == []


def test_lineage_links_parent_and_children(client):
    handle = total.run(1)
    kitaru.resume_ready()
    (child,) = client.executions.list(flow="double")
    graph = kitaru.lineage(handle.exec_id, after=False)
    assert graph.nodes[child.exec_id]["kind"] == "execution"
    assert child.exec_id in nx.ancestors(graph, f"{handle.exec_id}:gather#1")
    assert f"{handle.exec_id}:spawn-double#1" in nx.ancestors(graph, child.exec_id)
    assert kitaru.lineage(child.exec_id).nodes[child.exec_id]["parent"] == handle.exec_id
    told = lineage_text(graph, varies=True)
    assert f"generated  child: {child.exec_id}" in told
    assert f"used       child: spawn-double#1.child  {child.exec_id}" in told
    assert "generated  child: another execution\n" in lineage_text(graph, varies=False)


def test_a_child_that_failed_or_was_cancelled_is_told_apart(client):
    @flow
    def body():
        children = [kitaru.spawn(double, n) for n in (-1, 5, 1)]
        failed, cancelled, well = kitaru.gather(children, return_exceptions=True)
        return [type(failed), failed.exec_id == children[0].exec_id, str(failed.__cause__), type(cancelled), well]

    handle = body.run()
    kitaru.resume_ready()
    (waiting,) = client.executions.list(flow="double", status="waiting")
    assert client.executions.cancel(waiting.exec_id, reason="not needed").value == "cancelled"
    kitaru.resume_ready()
    result = client.executions.get(handle.exec_id).result
    assert result == [ChildFailedError, True, "-1 is negative", ExecutionCancelledError, 2]


def test_who_catches_that_a_child_failed_need_not_wait_for_the_others(client):
    @flow
    def body():
        try:
            return kitaru.gather([kitaru.spawn(double, -1), kitaru.spawn(double, 5)])
        except ChildFailedError:
            return "well"

    handle = body.run()
    kitaru.resume_ready()
    assert client.executions.get(handle.exec_id).result == "well"


def test_a_failed_child_raises_where_its_parent_gathers(client):
    handle = total.run(-1, 1)
    kitaru.resume_ready()
    execution = client.executions.get(handle.exec_id)
    assert execution.status.value == "failed"
    assert "-1 is negative" in execution.failure.message


def test_a_parent_that_crashes_at_any_write_spawns_each_child_once(connected):
    for n in range(1, 60):
        inner = MemoryStore()
        faulty = FaultyStore(inner, fault_at(n, Fault.CRASH_AFTER))
        crashed = False
        try:
            Flow(total.function, Options(exec_id="t-1", store=faulty)).run(1, 2)
        except SimulatedCrash:
            crashed = True
        connected(inner)
        total.options(exec_id="t-1").run(1, 2)
        for _ in range(3):
            kitaru.resume_ready()
        assert total.options(exec_id="t-1").run(1, 2).get() == [2, 4], n
        children = {e.key.split("/")[1] for e in inner.list("executions/double")}
        assert len(children) == 2, n
        if not crashed:
            return
    raise AssertionError("no run was without a crash")


def test_what_is_no_data_cannot_be_handed_to_a_child(client):
    @flow
    def body():
        return kitaru.spawn(double, threading.Lock())

    with pytest.raises(UsageError, match="is no data, and another process could not have it"):
        body.run()


def test_a_flow_that_is_called_is_not_taken_for_one_that_was_spawned(client):
    spawns = [True]

    @flow
    def body():
        found = kitaru.spawn(double, 1) if spawns[0] else double(1)
        kitaru.wait(name="x")
        return found

    exec_id = body.run().exec_id
    spawns[0] = False
    client.executions.input(exec_id, "x", 0)
    assert client.executions.resume(exec_id).get() == 2


def test_a_pass_within_an_event_loop_runs_async_flows_as_well(client):
    @flow
    async def body():
        await asyncio.sleep(0)
        return kitaru.wait(name="x", schema=int)

    exec_id = asyncio.run(_handle(body)).exec_id
    client.executions.input(exec_id, "x", 3)

    async def within():
        return kitaru.resume_ready()

    assert [r.status for r in asyncio.run(within()).ran] == ["completed"]
    assert client.executions.get(exec_id).result == 3


# ---------------------------------------------------------------- cancel and pause


def test_what_waits_is_cancelled_at_once_and_its_waits_are_closed(review, client):
    exec_id = review.run("a").exec_id
    assert client.executions.cancel(exec_id, reason="a mistake").value == "cancelled"
    with pytest.raises(WaitClosedError, match="the execution has ended"):
        client.executions.input(exec_id, "verdict", {"ok": True})
    with pytest.raises(ExecutionEndedError):
        client.executions.resume(exec_id)
    assert client.executions.get(exec_id).data.state.release.reason == "a mistake"
    assert client.executions.verify(exec_id).ok
    assert kitaru.resume_ready().ran == []
    assert [*client.store.list("ready/")] == []


def test_a_running_execution_is_cancelled_before_its_next_step(client, ran, monkeypatch):
    monkeypatch.setattr("kitaru.ownership.HEED", 0.0)

    @checkpoint
    def first():
        KitaruClient(client.store).executions.cancel("c-1", reason="enough")
        while not kitaru.cancelled():
            threading.Event().wait(0.01)
        ran("first")

    @checkpoint
    def second():
        ran("second")

    @flow
    def body():
        first()
        second()

    handle = body.options(exec_id="c-1", raises=False).run()
    assert handle.status == "cancelled"
    with pytest.raises(ExecutionCancelledError, match="c-1 was cancelled: enough"):
        handle.get()
    assert ran.names == ["first"]
    assert client.executions.get("c-1").status.value == "cancelled"


def test_a_pause_takes_effect_before_the_next_step_and_a_resume_undoes_it(client, ran, monkeypatch):
    monkeypatch.setattr("kitaru.ownership.HEED", 0.0)

    @checkpoint
    def work(n):
        if n == 1 and not ran.names:
            client.executions.pause("p-1", reason="lunch")
            while not kitaru.cancelled():
                threading.Event().wait(0.01)
        ran(n)
        return n

    @flow
    def body():
        return [work(n) for n in (1, 2)]

    handle = body.options(exec_id="p-1").run()
    assert handle.status == "paused"
    assert ran.names == [1]
    assert kitaru.resume_ready().ran == []
    assert client.executions.resume("p-1").get() == [1, 2]
    assert ran.names == [1, 2]


def test_a_waiting_execution_that_is_paused_is_left_alone_though_it_is_answered(review, client):
    exec_id = review.run("a").exec_id
    assert client.executions.pause(exec_id).value == "paused"
    client.executions.input(exec_id, "verdict", {"ok": True})
    assert kitaru.resume_ready().ran == []
    assert client.executions.resume(exec_id).get() == "published A"


# ---------------------------------------------------------------- doubt, deadlines, supervision


def crash_in_flight(store, body, exec_id="d-1"):
    """Run it until the process dies in the body of its step."""
    faulty = FaultyStore(store)

    def die():
        faulty.crash()
        raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        Flow(body(die).function, Options(exec_id=exec_id, store=faulty)).run()


def doubtful(in_doubt, ran):
    def make(act):
        @checkpoint(in_doubt=in_doubt)
        def charge():
            ran("charge")
            act()
            return "charged"

        @flow
        def pay():
            return charge()

        return pay

    return make


def test_a_step_in_doubt_runs_again_by_default(store, ran):
    make = doubtful("rerun", ran)
    crash_in_flight(store, make)
    assert make(lambda: None).options(exec_id="d-1").run().get() == "charged"
    assert ran.names == ["charge"] * 2


@pytest.mark.parametrize(
    ("said", "result", "runs"),
    [("rerun", "charged", 2), ({"value": "seen in the bank"}, "seen in the bank", 1)],
    ids=str,
)
def test_a_person_decides_about_a_step_in_doubt(store, client, ran, said, result, runs):
    make = doubtful("ask", ran)
    crash_in_flight(store, make)
    handle = make(lambda: None).options(exec_id="d-1").run()
    assert handle.status == "waiting"
    (wait,) = client.executions.pending_waits("d-1")
    assert wait == PendingWait("charge", "charge#1@2", "doubt", wait.question, wait.schema, {}, None, wait.at)
    with pytest.raises(UsageError):
        client.executions.input("d-1", "charge", "perhaps")
    client.executions.input("d-1", "charge", said)
    assert client.executions.resume("d-1").get() == result
    assert len(ran.names) == runs


def test_a_step_in_doubt_that_somebody_says_failed_fails(store, client, ran):
    make = doubtful("ask", ran)
    crash_in_flight(store, make)
    make(lambda: None).options(exec_id="d-1").run()
    client.executions.input("d-1", "charge", "fail")
    with pytest.raises(StepInDoubtError, match="somebody said that it failed"):
        client.executions.resume("d-1")
    assert ran.names == ["charge"]


def test_it_is_asked_again_after_another_crash(store, client, ran):
    make = doubtful("ask", ran)
    crash_in_flight(store, make)
    make(lambda: None).options(exec_id="d-1").run()
    client.executions.input("d-1", "charge", "rerun")
    crash_in_flight(store, make)
    assert make(lambda: None).options(exec_id="d-1").run().status == "waiting"
    assert [w.id for w in client.executions.pending_waits("d-1")] == ["charge#1@4"]


def test_a_step_in_doubt_may_fail_by_itself(store, ran):
    make = doubtful("fail", ran)
    crash_in_flight(store, make)
    with pytest.raises(StepInDoubtError, match='in_doubt="fail"'):
        make(lambda: None).options(exec_id="d-1").run()


def test_a_step_that_waited_inside_is_in_no_doubt(client, ran):
    @checkpoint(in_doubt="ask")
    def outer():
        ran("outer")
        return kitaru.wait(name="x")

    @flow
    def body():
        return outer()

    exec_id = body.run().exec_id
    client.executions.input(exec_id, "x", 1)
    assert client.executions.resume(exec_id).get() == 1


def test_before_its_deadline_it_is_let_go_and_a_pass_takes_it_up(timed, clock, ran):
    @checkpoint
    def work(n):
        ran(n)
        clock.advance(10)
        return n

    @flow
    def body():
        return sum(work(n) for n in range(4))

    handle = on(timed, clock, body, exec_id="l-1", deadline=25.0).run()
    assert handle.status == "interrupted"
    assert ran.names == [0, 1]
    with pytest.raises(ExecutionSuspended):
        handle.get()
    (went,) = kitaru.resume_ready(clock=clock).ran
    assert went.status == "completed"
    assert ran.names == [0, 1, 2, 3]


def test_a_supervised_execution_whose_owner_died_is_taken_up_by_a_pass(store, clock, ran):
    faulty = FaultyStore(store)

    @checkpoint
    def work(n):
        ran(n)
        if len(ran.names) == 2:
            faulty.crash()
            raise SimulatedCrash
        return n

    @flow
    def body():
        return [work(n) for n in range(3)]

    for supervised in (False, True):
        ran.names.clear()
        faulty._dead = False
        exec_id = f"v-{supervised}"
        with pytest.raises(SimulatedCrash):
            Flow(body.function, Options(exec_id=exec_id, store=faulty, supervised=supervised)).run()
        assert len(kitaru.resume_ready().ran) == supervised
    assert ran.names == [0, 1, 1, 2]


# ---------------------------------------------------------------- bad calls


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: kitaru.wait(name="a b"), "cannot be the name of a step"),
        (lambda: kitaru.wait(name="x", schema=threading.Thread), "is no type that an answer can have"),
        (lambda: kitaru.wait(name="x", schema={"type": "nonsense"}), "is no JSON Schema"),
        (lambda: kitaru.wait(name="x", schema=[object()]), "is no choice that can be typed"),
        (lambda: kitaru.wait(name="x", expires=-1), "give seconds, 0 or more"),
        (lambda: kitaru.wait(name="x", timeout="soon"), "give seconds, 0 or more"),
        (lambda: kitaru.wait(name="x", question=1), "it is a text"),
        (lambda: kitaru.wait(name="x", metadata=[1]), "it is a dict"),
        (lambda: kitaru.spawn(len, [1]), "takes a flow"),
        (lambda: kitaru.spawn(double, 1, 2), "too many positional arguments"),
        (lambda: kitaru.gather([1]), "takes what kitaru.spawn\\(\\) gave"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(store, call, why):
    @flow
    def body():
        call()

    with pytest.raises((UsageError, TypeError), match=why):
        body.run()


@pytest.mark.parametrize("call", [kitaru.wait, lambda: kitaru.gather([]), lambda: kitaru.wait_async()])
def test_outside_of_a_flow_there_is_nothing_to_suspend(call):
    with pytest.raises(UsageError, match="stands in the body of a flow or of a step"):
        call()


def test_outside_of_a_flow_the_rest_just_works(store):
    assert kitaru.now().tzinfo is dt.UTC
    assert kitaru.cancelled() is False
    kitaru.sleep(0)
    child = kitaru.spawn(double, 4)
    kitaru.resume_ready()
    assert KitaruClient(store).executions.get(child.exec_id).result == 8


# ---------------------------------------------------------------- a process that stays, and has to end


def test_a_wait_stays_no_longer_than_its_process_has(timed, clock):
    @flow
    def patient():
        kitaru.wait(name="slow", timeout=3600)

    assert on(timed, clock, patient, deadline=30).run().status == "waiting"
    assert clock.monotonic() <= 30


def test_a_wait_stays_no_longer_once_its_process_is_asked_to_end(connected):
    leaving = Leaving()

    class Asking(ManualClock):
        def sleep(self, seconds):
            super().sleep(seconds)
            leaving.asked = True

    clock = Asking()
    connected(MemoryStore())

    @flow
    def patient():
        kitaru.wait(name="slow", timeout=3600)

    assert Flow(patient.function, Options(clock=clock, leaving=leaving)).run().status == "waiting"
    assert clock.monotonic() < 3600


def test_what_runs_is_let_go_before_its_next_step_once_its_process_is_asked_to_end(connected):
    leaving = Leaving()
    client = KitaruClient(connected(MemoryStore()))

    @checkpoint
    def work(n):
        leaving.asked = True
        return n

    @flow
    def several():
        return [work(n) for n in range(3)]

    handle = Flow(several.function, Options("s-1", leaving=leaving)).run()
    assert handle.status == "interrupted"
    found = client.executions.get("s-1")
    assert [c.status for c in found.checkpoints] == ["completed"]
    assert found.data.state.release.reason == "its process was asked to end"
    leaving.asked = False
    assert [r.status for r in kitaru.resume_ready().ran] == ["completed"]  # a pass takes it up at once
