"""Passes must not starve anybody, a rest that somebody is told of is durable, and children are waited for again."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from dataclasses import dataclass

import pytest

import kitaru
from kitaru import answering, sources
from kitaru.errors import CorruptionError, ExecutionFencedError, KitaruWaitAborted, StoreUnavailableError
from kitaru.segments import journal_key
from kitaru.stores import MemoryStore
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash

from ..journal.scene import write_claim
from .scene import CRASHES, Scene, apart, before, dying

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")


@kitaru.checkpoint
def note(k: str) -> str:
    return k


@kitaru.flow
def waits() -> str:
    return note(kitaru.wait(name="W"))


@kitaru.flow
def gives(n: int) -> int:
    if n < 0 and broken:
        raise ValueError(n)
    return 10 * n


broken: list[bool] = []


@kitaru.flow
def gathers(*numbers: int) -> list[int]:
    return kitaru.gather([kitaru.spawn(gives, n) for n in numbers])


@dataclass
class Order:
    n: int


@kitaru.flow
def takes(order: Order) -> int:
    return order.n + kitaru.wait(name="W")


@kitaru.checkpoint
def leaves(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


@kitaru.flow
def exits(how: str) -> None:
    kitaru.wait(name="W")
    if how == "body":
        sys.exit(7)
    if how == "step":
        leaves(7)
    if how == "submitted":
        leaves.submit(7)
    else:
        leaves.submit(7).result()


@kitaru.flow
async def exits_async() -> None:
    kitaru.wait(name="W")
    sys.exit(7)


@pytest.fixture
def scene():
    return Scene()


# ---------------------------------------------------------------- who is told that it rests can rely on it


def releases(op):
    """The second segment holds the steps and the release, after the first with the claim."""
    return op.method == "put_if_absent" and op.key.endswith("journal/0000000002")


@pytest.mark.parametrize("until", [None, "note#1"])
def test_who_was_fenced_as_it_came_to_rest_does_not_say_that_it_rests(scene, until):
    def plan(op):
        if releases(op):
            apart(lambda: write_claim(scene.store, exec_id="e"))

    with pytest.raises(ExecutionFencedError, match="taken over"):
        scene.begin(waits if until is None else rests, "e", store=FaultyStore(scene.store, plan), until=until)


@pytest.mark.parametrize("until", [None, "note#1"])
def test_where_the_rest_is_not_durable_nobody_says_that_it_rests(scene, until):
    def plan(op):
        return Fault.LOSE_REQUEST if op.method == "put_if_absent" and "/journal/0000000002" in op.key else None

    with pytest.raises(StoreUnavailableError, match="no answer"):
        scene.begin(waits if until is None else rests, "e", store=FaultyStore(scene.store, plan), until=until)


@kitaru.flow
def rests() -> str:
    return note("a")


# ---------------------------------------------------------------- passes


def test_what_cannot_run_here_does_not_use_up_the_limit(scene):
    elsewhere = kitaru.flow(_flow_called("elsewhere"))
    for name in ("a", "b"):
        scene.begin(elsewhere, name)
        assert scene.give(name, "W", 1)
    del sources._registered[__name__, "elsewhere"]
    scene.begin(waits, "c")
    assert scene.give("c", "W", "yes")
    report = scene.ready(limit=1)
    assert [ran.exec_id for ran in report.ran] == ["c"]
    assert [ran.exec_id for ran in report.refused] == ["a", "b"]


def _flow_called(name):
    def body():
        return kitaru.wait(name="W")

    body.__name__ = body.__qualname__ = name
    return body


def test_a_damaged_execution_does_not_keep_others_waiting(scene):
    for name in ("a", "b"):
        scene.begin(waits, name)
        assert scene.give(name, "W", "yes")
    for entry in [*scene.store.list("executions/a/packs/")]:
        scene.store.delete([entry.key])
    scene.store.put(journal_key("a", 1), b"damaged")
    report = scene.ready()
    assert [(ran.exec_id, type(ran.failure)) for ran in report.refused] == [("a", CorruptionError)]
    assert [(ran.exec_id, ran.status) for ran in report.ran] == [("b", "completed")]


def test_a_run_that_was_let_go_in_time_leaves_no_hint_once_it_waits(scene):
    lasts.append(lambda: scene.clock.advance(50))
    try:
        assert scene.begin(two_steps, "e", deadline=60).status == "interrupted"
    finally:
        lasts.clear()
    scene.ready()
    assert scene.state("e").status == "waiting"
    assert scene.hints() == []


lasts: list = []


@kitaru.checkpoint
def long(n: int) -> int:
    for act in lasts:
        act()
    return n


@kitaru.flow
def two_steps() -> str:
    long(1)
    long(2)
    return kitaru.wait(name="W")


def test_a_notebooks_cancel_leaves_no_hint(scene):
    session = kitaru.Session("looking", exec_id="s", store=scene.store)
    step = session.step("look", inputs={}, source="")
    step.enter()
    step.exit()
    step.succeed({"n": 1})
    session.close()
    assert scene.cancel("s") == "cancelled"
    assert scene.hints()
    scene.ready()
    assert scene.hints() == []


@kitaru.flow
def fails() -> None:
    raise ValueError


def test_a_cancel_that_nobody_came_to_ask_for_leaves_no_hint(scene):
    scene.begin(fails, "e")
    assert dying(lambda store: scene.cancel("e", store), scene, 1, Fault.CRASH_AFTER, "put")
    assert scene.hints() == ["ready/e/cancel"]
    scene.ready()
    assert scene.hints() == ["ready/e/cancel"]  # whoever asks may only be slow
    scene.server.advance(4000)
    scene.ready()
    assert scene.hints() == []
    assert scene.state("e").status == "failed"


def test_whoever_dies_as_he_pauses_leaves_no_claim_behind(scene):
    everywhere = [(n, fault) for n in range(1, 12) for fault in CRASHES]
    for n, fault in everywhere:
        scene = Scene()
        scene.begin(waits, "e", supervised=True)
        scene.ready()
        assert scene.hints() == []
        dying(lambda store, scene=scene: scene.pause("e", store), scene, n, fault)
        scene.passes_alone()  # looks for claims
        scene.end_all()


# ---------------------------------------------------------------- children


def test_a_retry_waits_for_the_children_that_had_not_ended(scene):
    broken.append(True)
    try:
        scene.begin(gathers, "p", -1, 2)
        first, _ = sorted(
            (name for name in scene.executions() if name != "p"),
            key=lambda name: scene.state(name).begun.arguments[0][1].preview["text"],
        )
        scene.resume(first)
        assert scene.state(first).status == "failed"
        scene.resume("p")
        assert scene.state("p").status == "failed"
        assert answering.pending_waits(scene.store, "p") == []
    finally:
        broken.clear()
    scene.resume(first)
    assert scene.resume("p").status == "waiting"
    scene.passes_alone()
    assert kitaru.KitaruClient(scene.store).executions.get("p").result == [-10, 20]
    scene.end_all()


def test_the_wait_for_a_child_can_be_aborted(scene):
    scene.begin(gathers, "p", 1)
    (child,) = scene.waits("p").open
    answering.abort(scene.store, "p", child, reason="too slow", who="ann", clock=scene.clock)
    handle = scene.resume("p")
    assert isinstance(handle.error, KitaruWaitAborted)
    assert "too slow" in str(handle.error)
    scene.end_all()


def test_what_is_spawned_outside_of_a_flow_is_found_wherever_its_caller_dies(connected):
    died = []
    for n in range(1, 9):
        for fault in CRASHES:
            scene = Scene()

            def spawn(store):
                connected(store)
                kitaru.spawn(gives, 1)

            died.append(dying(spawn, scene, n, fault))
            scene.passes_alone()
            scene.end_all()
    assert 6 < sum(died) < len(died)


@kitaru.checkpoint
def beside() -> str:
    turns["beside"].wait(20)
    inner()
    return "beside"


@kitaru.checkpoint
def inner() -> str:
    turns["inner"].set()
    turns["spawned"].wait(20)
    return "inner"


turns: dict[str, threading.Event] = {}


@kitaru.flow
def spawns_beside_others() -> list[int]:
    future = beside.submit()
    turns["body"].wait(20)
    child = kitaru.spawn(gives, 1)
    turns["spawned"].set()
    turns["beside"].set()
    future.result()
    return kitaru.gather([child])


def test_a_child_is_the_same_whatever_ran_beside_it_when_its_parent_died():
    """The step that spawns may have another number after a crash, where other steps take theirs at the same time."""
    scene = Scene(MemoryStore())

    def first_try(op):
        return Fault.CRASH_AFTER if op.method == "put_if_absent" and "executions/gives-" in op.key else None

    turns.update({name: threading.Event() for name in ("beside", "inner", "body", "spawned")})
    turns["beside"].set()  # the inner step begins before the child does
    turns["body"] = turns["inner"]
    store = FaultyStore(scene.store, first_try)
    # A crash lets the threads beside go, as the end of their process does.
    store_dies = threading.Thread(target=lambda: (_until(lambda: store.dead), turns["spawned"].set()))
    store_dies.start()
    with pytest.raises(SimulatedCrash):
        scene.begin(spawns_beside_others, "p", store=store)
    store_dies.join()
    turns.update({name: threading.Event() for name in ("beside", "inner", "body", "spawned")})
    turns["body"].set()  # now the child comes first
    scene.resume("p")
    assert len([name for name in scene.executions() if name != "p"]) == 1
    scene.end_all()


def _until(happened):
    wait = threading.Event()
    while not happened():
        wait.wait(0.001)


def test_a_pass_goes_on_with_a_parent_that_it_had_looked_at_before_the_child_ended(scene):
    scene.begin(gathers_what_waits, "p", supervised=True)  # which leaves a hint to look at
    scene.ready()
    (child,) = scene.waits("p").open
    assert scene.give(child, "W", "yes")
    scene.store.put("ready/p/begun", b"")
    assert [ran.exec_id for ran in scene.ready().ran] == [child, "p"]


@kitaru.flow
def gathers_what_waits() -> list[str]:
    return kitaru.gather([kitaru.spawn(waits)])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_pass_that_is_evicted_as_a_child_has_ended_leaves_it_to_the_next_to_tell(scene, n):
    """The child's end is recorded; the signal comes as its parent's inbox is looked into, or is about to be told."""
    scene.begin(gathers, "p", 1)
    tells = before(n, lambda: sys.exit(143), only=lambda op: op.key.startswith(("ready/p/", "executions/p/inbox/")))
    with pytest.raises(SystemExit):
        scene.ready(FaultyStore(scene.store, tells))
    (child,) = (name for name in scene.executions() if name != "p")
    assert scene.state(child).status == "completed"
    scene.passes_alone()
    assert scene.state("p").status == "completed"
    assert not scene.hints()


@pytest.mark.parametrize("ask", [Scene.cancel, Scene.pause])
def test_who_is_interrupted_as_he_cancels_or_pauses_what_rests_leaves_it_to_nobody(ask):
    """Ctrl-C at each of his requests: it rests as before, or as he asked, and no lease has to run out."""
    for n in itertools.count(1):
        scene = Scene()
        scene.begin(waits, "w")
        struck = before(n, lambda: sys.exit(130))
        try:
            ask(scene, "w", store=FaultyStore(scene.store, struck))
        except SystemExit:
            pass
        else:
            break
        assert scene.state("w").writer is None, n
        scene.passes_alone()
        ask(scene, "w")
        assert scene.state("w").status == ("cancelled" if ask is Scene.cancel else "paused")
    assert n > 6


# ---------------------------------------------------------------- what cannot go on here, or leaves by itself


def test_an_execution_whose_inputs_cannot_be_had_is_claimed_by_no_pass(scene, monkeypatch):
    scene.begin(takes, "t", Order(2))
    scene.give("t", "W", 3)
    segments = scene.state("t").n
    with monkeypatch.context() as gone:
        gone.delattr(sys.modules[__name__], "Order")
        for _ in range(2):
            (refused,) = scene.ready().refused
            assert refused.exec_id == "t"
    assert (scene.state("t").n, scene.state("t").status) == (segments, "waiting")
    assert [r.status for r in scene.ready().ran] == ["completed"]


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("how", ["body", "step", "submitted", "asked", "async"])
def test_a_flow_that_exits_by_itself_has_failed_and_ends_no_pass(scene, how, parallel):
    scene.begin(*((exits_async, "e") if how == "async" else (exits, "e", how)))
    scene.begin(waits, "w")
    for name in ("e", "w"):
        scene.give(name, "W", "said")
    ran = {r.exec_id: r for r in scene.ready(parallel=parallel).ran}
    assert {name: r.status for name, r in ran.items()} == {"e": "failed", "w": "completed"}
    assert isinstance(ran["e"].failure, SystemExit)
    assert ran["e"].failure.code == 7
    assert scene.ready().ran == []
    assert not scene.hints()


def test_a_flow_that_somebody_elses_signal_handler_has_left_is_interrupted(scene):
    """Whoever embeds a pass may handle SIGTERM himself: `sys.exit` may come from there, and then the process ends."""
    scene.begin(exits, "e", "body")
    scene.give("e", "W", "said")
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    try:
        with pytest.raises(SystemExit):
            scene.ready()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert scene.state("e").status == "interrupted"


def test_who_resumes_a_flow_that_exits_by_itself_ends_with_its_code(scene):
    scene.begin(exits, "e", "body")
    scene.give("e", "W", "said")
    scene.ready()
    with pytest.raises(SystemExit, match="7"):
        scene.resume("e")
    assert scene.state("e").status == "interrupted"
