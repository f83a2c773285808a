"""The mistakes about waits, hints, children and passes that the protocol's model names, each made on purpose.

Every scenario is run twice: with the product as it is, where it must hold; and with the product changed so that it
makes the mistake, where it must not. So each scenario is known to be able to fail. What concerns segments and owners
alone is in `tests/journal/test_mistakes.py`.
"""

from __future__ import annotations

import dataclasses

import pytest

import kitaru
from kitaru import answering, answers, children, engine, passes, runs, waiting
from kitaru.errors import KitaruError
from kitaru.ownership import State
from kitaru.records import Answered
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash

from .scene import CRASHES, ENDED, Scene, before, dying

# A crash leaves threads and coroutines behind, as a dead process would.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")

MOST = 40
"""Operations of one actor, at the most."""


@kitaru.checkpoint
def work(k: str) -> str:
    if evicted.get(k):
        evicted[k] = False
        raise SystemExit(143)
    return k


evicted: dict[str, bool] = {}


@kitaru.flow
def asks() -> str:
    work("a")
    first = kitaru.wait(name="W")
    return work(f"{first}!")


@kitaru.flow
def asks_twice() -> str:
    first = kitaru.wait(name="W")
    second = kitaru.wait(name="V")
    return work(f"{first} {second}")


@kitaru.flow
def asks_for_a_minute() -> str:
    first = kitaru.wait(name="W", expires=60, default="nobody")
    return work(f"{first}!")


@kitaru.checkpoint
def asks_inside() -> str:
    return kitaru.wait(name="W")


@kitaru.flow
def leaves_a_wait_open() -> str:
    asks_inside.submit()
    first = kitaru.wait(name="V")
    if first == "fail":
        raise ValueError(first)
    return first


@kitaru.flow
def child(n: int) -> int:
    work(f"child {n}")
    return 2 * n


@kitaru.flow
def parent() -> int:
    return sum(kitaru.gather([kitaru.spawn(child, 1), kitaru.spawn(child, 2)]))


def everywhere(scenario):
    """The scenario with its actor dying at each of its operations, before it and after it."""
    died = n = 0
    while died > 2 * n - 6:  # threads make their number vary a little
        n += 1
        for fault in CRASHES:
            try:
                died += scenario(n, fault)
            except (AssertionError, KitaruError) as e:
                e.add_note(f"at operation {n}: {fault.name}")
                raise
    assert died >= 4


def shows_the_mistake(scenario):
    with pytest.raises((AssertionError, KitaruError)):
        scenario()


# ---------------------------------------------------------------- timer_hint = after


def suspends_at_a_timed_wait_and_dies(n, fault):
    scene = Scene()
    died = dying(lambda store: scene.begin(asks_for_a_minute, "e", store=store), scene, n, fault)
    scene.server.advance(120)
    scene.end_all()
    return died


def test_a_timer_is_there_before_the_wait_that_it_ends(monkeypatch):
    everywhere(suspends_at_a_timed_wait_and_dies)
    late = []
    monkeypatch.setattr(answers, "put_timer", lambda *a: late.append(a))
    suspend = engine.Engine.suspend

    def then_put(self):
        waits = suspend(self)
        for given in [given for given in late if given[0] is self.store]:
            waiting.put_timer(*given)
        return waits

    monkeypatch.setattr(engine.Engine, "suspend", then_put)
    suspends_at_a_timed_wait_and_dies(1000, Fault.CRASH_AFTER)  # with nobody dying it goes well
    shows_the_mistake(lambda: everywhere(suspends_at_a_timed_wait_and_dies))


# ---------------------------------------------------------------- answer = inbox_first


def answers_and_dies(n, fault):
    scene = Scene()
    scene.begin(asks, "e")
    told = []

    def answer(store):
        told.append(scene.give("e", "W", "yes", store=store))

    died = dying(answer, scene, n, fault)
    scene.passes_alone()
    if told == [True]:
        assert scene.state("e").status == "completed", "it was accepted, and nobody went on"
    scene.end_all()
    return died


def test_a_hint_is_there_before_the_answer(monkeypatch):
    everywhere(answers_and_dies)

    def close_first(store, exec_id, answer, clock):
        carry_out = waiting.persist(store, clock)
        waiting.close(store, exec_id, answer, carry_out)
        waiting.put_ready(store, exec_id, answer.wait, carry_out)

    monkeypatch.setattr(answering, "_close", close_first)
    shows_the_mistake(lambda: everywhere(answers_and_dies))


# ---------------------------------------------------------------- hint_key = per_execution


def second_answer_comes_while_a_pass_cleans_up(n):
    """A pass goes on with the first answer, and at each of its operations somebody gives the second one, if he can."""
    scene = Scene()
    scene.begin(asks_twice, "e")
    scene.give("e", "W", 1)
    given = []
    scene.ready(FaultyStore(scene.store, before(n, lambda: given.append(scene.give("e", "V", 2)))))
    scene.passes_alone()
    if given == [True]:
        assert scene.state("e").status == "completed"
    scene.end_all()
    return given == [True]


def all_second_answers():
    assert sum(second_answer_comes_while_a_pass_cleans_up(n) for n in range(1, MOST)) >= 3


def test_each_wait_has_a_hint_of_its_own(monkeypatch):
    all_second_answers()
    monkeypatch.setattr(waiting, "ready_key", lambda exec_id, reason: f"ready/{exec_id}/any")
    is_settled = waiting.is_settled

    def rests(hint, state, waits):
        if hint.reason == "any":
            return state.writer is None and state.status not in {"pending", "interrupted"}
        return is_settled(hint, state, waits)

    for room in (engine, passes):
        monkeypatch.setattr(room, "is_settled", rests)
    shows_the_mistake(all_second_answers)


def resumed_by_hand_before_a_pass_has_cleaned_up(n, fault):
    """What is looked after is resumed by somebody who dies, after a pass has decided which hints are settled."""
    scene = Scene()
    scene.begin(asks, "e", supervised=True)
    died = []

    def other():
        died.append(dying(lambda store: scene.resume("e", store), scene, n, fault))

    deletes = lambda op: op.method == "delete" and op.key.startswith("ready/")
    scene.ready(FaultyStore(scene.store, before(1, other, only=deletes)))
    scene.passes_alone()  # looks for claims
    scene.end_all()
    return died == [True]


def test_a_hint_of_one_run_is_no_other_runs(monkeypatch):
    everywhere(resumed_by_hand_before_a_pass_has_cleaned_up)
    put_ready = runs.put_ready
    monkeypatch.setattr(runs, "put_ready", lambda store, name, reason, carry: put_ready(store, name, "begun", carry))
    shows_the_mistake(lambda: everywhere(resumed_by_hand_before_a_pass_has_cleaned_up))


# ---------------------------------------------------------------- hint_delete = on_claim


def a_pass_goes_on_with_an_answer_and_dies(n, fault):
    scene = Scene()
    scene.begin(asks, "e")
    assert scene.give("e", "W", "yes")
    died = dying(scene.ready, scene, n, fault)
    scene.passes_alone()
    assert scene.state("e").status == "completed"
    scene.end_all()
    return died


def test_a_hint_stays_until_what_it_says_is_done(monkeypatch):
    everywhere(a_pass_goes_on_with_an_answer_and_dies)
    go_on = passes._Pass._go_on

    def eager(self, seen, begun, waits, found, now):
        self._store.delete([hint.key for hint in found])
        go_on(self, seen, begun, waits, found, now)

    monkeypatch.setattr(passes._Pass, "_go_on", eager)
    shows_the_mistake(lambda: everywhere(a_pass_goes_on_with_an_answer_and_dies))


# ---------------------------------------------------------------- hint_delete = after_run


def two_passes_of_which_one_dies(n, fault):
    """One claims what the other has found ready as well, and dies."""
    scene = Scene()
    scene.begin(asks, "e")
    assert scene.give("e", "W", "yes")
    died = []

    def other():
        died.append(dying(scene.ready, scene, n, fault))

    claims = lambda op: op.method == "put_if_absent" and "/journal/" in op.key
    scene.ready(FaultyStore(scene.store, before(1, other, only=claims)))
    scene.passes_alone()
    assert scene.state("e").status == "completed"
    scene.end_all()
    return died == [True]


def test_who_lost_a_claim_leaves_the_hints(monkeypatch):
    everywhere(two_passes_of_which_one_dies)
    go_on = passes._Pass._go_on

    def tidy(self, seen, begun, waits, found, now):
        go_on(self, seen, begun, waits, found, now)
        self._store.delete([hint.key for hint in found])

    monkeypatch.setattr(passes._Pass, "_go_on", tidy)
    shows_the_mistake(lambda: everywhere(two_passes_of_which_one_dies))


# ---------------------------------------------------------------- interrupted = settles


def a_pass_is_evicted(flow, hint):
    """SIGTERM comes in a step after the wait; nobody but passes looks after the execution."""
    scene = Scene()
    scene.begin(flow, "e")
    if hint == "answer":
        assert scene.give("e", "W", "yes")
        step = "yes!"
    else:
        scene.server.advance(120)
        step = "nobody!"
    evicted[step] = True
    with pytest.raises(SystemExit):
        scene.ready()
    assert scene.state("e").status == "interrupted"
    scene.passes_alone()
    assert scene.state("e").status == "completed"
    scene.end_all()


@pytest.mark.parametrize(("flow", "hint"), [(asks, "answer"), (asks_for_a_minute, "timer")])
def test_an_interruption_settles_nothing(flow, hint, monkeypatch):
    a_pass_is_evicted(flow, hint)
    is_settled = waiting.is_settled

    def hasty(hint, state, waits):
        if state.status == "interrupted" and state.writer is None:
            state = State(status="waiting")
        return is_settled(hint, state, waits)

    for room in (engine, passes):
        monkeypatch.setattr(room, "is_settled", hasty)
    shows_the_mistake(lambda: a_pass_is_evicted(flow, hint))


# ---------------------------------------------------------------- timeout = journal


def answered_as_it_expires(n):
    """While a pass finds that nobody answered in time, somebody does. Who is told "accepted" is who the flow hears."""
    scene = Scene()
    scene.begin(asks_for_a_minute, "e")
    scene.server.advance(120)
    told = []
    scene.ready(FaultyStore(scene.store, before(n, lambda: told.append(scene.give("e", "W", "yes")))))
    scene.passes_alone()
    (answer,) = scene.waits("e").answers.values()
    result = kitaru.KitaruClient(scene.store).executions.get("e").result
    if told == [True]:
        assert (answer.how, result) == ("answered", "yes!")
    else:
        assert (answer.how, result) == ("expired", "nobody!")
    scene.end_all()
    return told == [True]


def all_answers_as_it_expires():
    came = [answered_as_it_expires(n) for n in range(1, 20)]
    assert any(came)
    assert not all(came)


def test_a_timeout_is_an_answer_like_others(monkeypatch):
    all_answers_as_it_expires()

    def alone(store, exec_id, answer, carry_out):
        return answer if answer.how == "expired" else waiting.close(store, exec_id, answer, carry_out)

    monkeypatch.setattr(answers, "close", alone)
    shows_the_mistake(all_answers_as_it_expires)


# ---------------------------------------------------------------- closing = journal


def answered_as_it_ends(way, n):
    """While an end closes what is open, somebody answers. What was accepted is what closed the wait."""
    scene = Scene()
    scene.begin(leaves_a_wait_open, "e")
    told = []
    store = FaultyStore(scene.store, before(n, lambda: told.append(scene.give("e", "asks_inside#1/W", "yes"))))
    if way == "cancel":
        assert scene.cancel("e", store) == "cancelled"
    else:
        assert scene.give("e", "V", way)
        scene.ready(store)
    (closed,) = [a for a in scene.waits("e").answers.values() if "W" in a.wait]
    assert (closed.how == "answered") == (told == [True]), f"told {told}, and {closed.how} counts"
    assert scene.state("e").status in {"cancelled", "failed"}
    scene.end_all()
    return told == [True]


def all_answers_as_it_ends(way):
    came = [answered_as_it_ends(way, n) for n in range(1, 30)]
    assert any(came)
    assert not all(came)


@pytest.mark.parametrize("way", ["cancel", "fail"])
def test_an_end_closes_in_the_inbox_what_is_open(way, monkeypatch):
    all_answers_as_it_ends(way)

    def alone(store, exec_id, answer, carry_out):
        return answer if answer.how == "closed" else waiting.close(store, exec_id, answer, carry_out)

    for room in (engine, passes):
        monkeypatch.setattr(room, "close", alone)
    shows_the_mistake(lambda: all_answers_as_it_ends(way))


# ---------------------------------------------------------------- child_end = inbox_first


def a_child_is_run_and_dies(n, fault):
    """Whoever is told that a child has ended can read so."""
    scene = Scene()
    scene.begin(parent, "p")
    died = dying(scene.ready, scene, n, fault)
    for entry in scene.store.list("executions/p/inbox/"):
        name = entry.key.rpartition("/")[2]
        assert scene.state(name).status in ENDED, f"{name} is said to have ended"
    scene.passes_alone()
    assert kitaru.KitaruClient(scene.store).executions.get("p").result == 6
    scene.end_all()
    return died


def test_a_childs_end_is_durable_before_its_parent_is_told(monkeypatch):
    everywhere(a_child_is_run_and_dies)
    end = engine.Engine._end

    def told_first(self, status, reason, records, size=0):
        if self.begun.parent is not None:
            self._deliver(status)
        return (yield from end(self, status, reason, records, size))

    monkeypatch.setattr(engine.Engine, "_end", told_first)
    shows_the_mistake(lambda: everywhere(a_child_is_run_and_dies))


# ---------------------------------------------------------------- spawn = bare


def a_parent_spawns_and_dies(n, fault):
    scene = Scene()
    died = dying(lambda store: scene.begin(parent, "p", store=store), scene, n, fault)
    scene.passes_alone()
    recorded = [name for name in scene.executions() if name != "p"]
    assert len(recorded) <= 2, "one child was begun twice"
    scene.end_all()
    return died


def test_a_child_is_heard_of(monkeypatch):
    everywhere(a_parent_spawns_and_dies)
    monkeypatch.setattr(children, "put_ready", lambda *a: None)
    shows_the_mistake(lambda: everywhere(a_parent_spawns_and_dies))


# ---------------------------------------------------------------- pass_claim = anew


def who_lost_a_claim_dies(n, fault):
    """Two passes find it ready. The one that lost must not claim what the other has left waiting, and die there."""
    scene = Scene()
    scene.begin(asks_twice, "e")
    assert scene.give("e", "W", 1)
    claims = lambda op: op.method == "put_if_absent" and "/journal/" in op.key
    plan, after = before(1, scene.ready, only=claims), 0

    def then_die(op):
        nonlocal after
        if after or claims(op):
            after += 1
        plan(op)
        return fault if after == n + 1 else None

    store = FaultyStore(scene.store, then_die)
    try:
        scene.ready(store)
    except SimulatedCrash:
        pass
    scene.passes_alone()
    assert scene.state("e").status == "waiting"
    scene.end_all()
    return store.dead


def test_a_pass_claims_where_it_read_or_not_at_all(monkeypatch):
    assert any(who_lost_a_claim_dies(n, fault) for n in range(1, 8) for fault in CRASHES)
    options = passes.Options
    monkeypatch.setattr(passes, "Options", lambda *a, **k: dataclasses.replace(options(*a, **k), only_there=False))
    shows_the_mistake(lambda: [who_lost_a_claim_dies(n, fault) for n in range(1, 8) for fault in CRASHES])


# ---------------------------------------------------------------- exists = refuse, in the inbox


def an_answer_whose_response_is_lost(n):
    """Whoever answers alone is told that it was accepted, whatever the network does."""
    scene = Scene()
    scene.begin(asks, "e")
    puts = 0

    def plan(op):
        nonlocal puts
        puts += op.method in {"put", "put_if_absent"}
        return Fault.LOSE_RESPONSE if puts == n and op.method in {"put", "put_if_absent"} else None

    assert scene.give("e", "W", "yes", store=FaultyStore(scene.store, plan)), "it counts, and was called refused"
    scene.end_all()


def test_an_answer_that_is_there_already_may_be_our_own(monkeypatch):
    for n in (1, 2, 3):
        an_answer_whose_response_is_lost(n)

    def close(store, exec_id, answer, carry_out):
        key = waiting.inbox_key(exec_id, answer.wait)
        won = carry_out(lambda: store.put_if_absent(key, waiting.encode_answer(answer, exec_id)), key)
        return answer if won else Answered(answer.wait, "answered", None, "somebody", "", 0.0, b"")

    monkeypatch.setattr(answering, "close", close)
    shows_the_mistake(lambda: [an_answer_whose_response_is_lost(n) for n in (1, 2, 3)])


# ---------------------------------------------------------------- cancels


def a_cancel_is_asked_for_by_somebody_who_dies(n, fault):
    scene = Scene()
    scene.begin(asks, "e")
    told = []
    died = dying(lambda store: told.append(scene.cancel("e", store)), scene, n, fault)
    scene.passes_alone()
    if told:
        assert scene.state("e").status == "cancelled"
    scene.end_all()
    return died


def test_a_cancel_that_was_asked_for_is_carried_out(monkeypatch):
    everywhere(a_cancel_is_asked_for_by_somebody_who_dies)

    def request(store, exec_id, name, *, who, reason, at, carry_out):
        answer = Answered(name, "requested", None, who, reason, at, b"n" * 16)
        waiting.close(store, exec_id, answer, carry_out)
        waiting.put_ready(store, exec_id, name, carry_out)
        return answer

    monkeypatch.setattr(answering, "request", request)
    shows_the_mistake(lambda: everywhere(a_cancel_is_asked_for_by_somebody_who_dies))
