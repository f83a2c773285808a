"""An owner that was away (a laptop that slept) looks whether it still owns the execution before it begins a body."""

from __future__ import annotations

import threading

import pytest

from kitaru import checkpoint, flow, ownership
from kitaru.engine import Engine
from kitaru.errors import ExecutionFencedError, StoreUnavailableError
from kitaru.flows import Flow, Options
from kitaru.journal import Halt, Journal
from kitaru.stores import MemoryStore
from kitaru.testing.clock import ManualClock

from .scene import EXEC, SlowStore, journal_on, let_go, note, own, write_claim
from .test_journal import PATIENCE, expect


class SlowLook(MemoryStore):
    """What the beat's thread reads of the journal comes late, or not at all."""

    def __init__(self, clock, *, fails=False):
        super().__init__(clock=clock.time)
        self.fails, self.away = fails, False
        self.looking, self.go = threading.Event(), threading.Event()

    def get(self, key, **options):
        if self.away and "/journal/" in key and threading.current_thread().name.startswith("kitaru-beat"):
            self.looking.set()
            if self.fails:
                raise StoreUnavailableError("no answer came")
            self.go.wait(PATIENCE)
        return super().get(key, **options)


def wake(store, clock, *, wait_for_the_beat=True):
    """The owner sleeps for ten minutes between two steps, and is taken over. Gives the bodies that it ran."""
    bodies = []

    @checkpoint
    def first():
        bodies.append("first")

    @checkpoint
    def second():
        bodies.append("second")

    @flow
    def two():
        first()
        write_claim(store, exec_id=EXEC, writer="other")
        store.away = True
        clock.advance(600)
        if wait_for_the_beat:
            assert store.looking.wait(PATIENCE)
        try:
            second()
        finally:
            store.go.set()

    with pytest.raises(ExecutionFencedError):
        Flow(two.function, Options(exec_id=EXEC, store=store, clock=clock)).run()
    return bodies


@pytest.fixture
def clock():
    return ManualClock()


def test_an_owner_that_was_away_begins_no_body_once_it_was_taken_over(clock, monkeypatch):
    monkeypatch.setattr(ownership.Beat, "_beat", lambda self: None)  # nobody else looks
    assert wake(SlowLook(clock), clock, wait_for_the_beat=False) == ["first"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_of_the_beat_that_has_no_answer_yet_does_not_count(clock, fails):
    assert wake(SlowLook(clock, fails=fails), clock) == ["first"]


def test_who_does_not_look_begins_a_body_that_another_one_runs(clock, monkeypatch):
    """The mistake, made on purpose: what the tests above say can fail."""
    monkeypatch.setattr(ownership.Beat, "_beat", lambda self: None)
    monkeypatch.setattr(Engine, "_look_after_a_gap", lambda self: None)
    assert wake(SlowLook(clock), clock, wait_for_the_beat=False) == ["first", "second"]


def test_a_write_in_flight_is_waited_for_before_it_is_known(clock):
    store = SlowStore(clock=clock.time)
    journal = journal_on(store, clock=clock)
    journal.wait(journal.add(note(1)))
    store.gate.clear()
    writer = threading.Thread(target=journal.wait, args=(journal.add(note(2)),))
    writer.start()
    expect(lambda: store.puts == 2)
    assert journal.is_fenced() is None
    looked = threading.Event()
    looker = threading.Thread(target=lambda: (journal.look(), looked.set()))
    looker.start()
    assert not looked.wait(0.05)
    store.gate.set()
    assert looked.wait(PATIENCE)
    writer.join(PATIENCE)
    looker.join(PATIENCE)


def test_a_write_in_flight_that_finds_another_owner_ends_the_look(clock):
    store = SlowStore(clock=clock.time)
    claimed = own(store, clock)
    write_claim(store, writer="other")
    store.gate.clear()
    ends = []

    def attempt(work):
        try:
            work()
        except Halt as halt:
            ends.append(type(halt.error))

    ticket = claimed.journal.add(note(1))
    threads = [threading.Thread(target=attempt, args=(lambda: claimed.journal.wait(ticket),))]
    threads[0].start()
    expect(lambda: claimed.journal.is_fenced() is None)
    threads.append(threading.Thread(target=attempt, args=(claimed.journal.look,)))
    threads[1].start()
    store.gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert ends == [ExecutionFencedError] * 2
    let_go(claimed, None)


def test_what_was_found_out_is_as_old_as_the_question(clock):
    """The machine sleeps between the store's answer and its arrival: the answer says nothing of that time."""

    class Sleepy(MemoryStore):
        def get(self, key, **options):
            try:
                return super().get(key, **options)
            finally:
                clock.advance(600)

    journal: Journal = journal_on(Sleepy(), clock=clock)
    assert journal.is_fenced() is False
    assert clock.monotonic() - journal.last_life >= 600
