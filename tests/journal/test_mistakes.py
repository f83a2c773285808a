"""The mistakes that the protocol's model names, each made on purpose.

Every scenario below is run twice: as the product is, where it must hold; and with one private function replaced so
that the mistake is made, where it must not. So each test is known to be able to fail.
"""

from __future__ import annotations

import threading

import pytest

from kitaru import journal as journal_room, ownership
from kitaru.catalog import put_status
from kitaru.errors import ExecutionFencedError, ExecutionOwnedError, RefusedError
from kitaru.journal import Halt, Journal
from kitaru.ownership import claim, state_of
from kitaru.reading import read_journal
from kitaru.records import Release
from kitaru.segments import Segment, journal_key, segment_digest
from kitaru.stores import MemoryStore
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, fault_at

from .scene import EXEC, check, foreign, journal_on, let_go, note, notes, own, write_claim
from .test_catalog import crash_anywhere
from .test_journal import PATIENCE, expect


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock.time)


@pytest.fixture
def somewhere_else(monkeypatch):
    """From here on this process takes itself for one on another machine: it sees no owner's process."""
    monkeypatch.setattr(ownership, "_said_by_system", lambda process, writer: None)


def shows_the_mistake(scenario):
    """The scenario must fail, on an assertion of its own or by a refusal that should not be."""
    with pytest.raises((AssertionError, RefusedError, Halt)):
        scenario()


# ---------------------------------------------------------------- exists = refuse, writer


def lost_response(store, clock):
    """A segment that was created, and whose answer was lost, is our own success."""
    faulty = FaultyStore(store, fault_at(1, Fault.LOSE_RESPONSE, method="put_if_absent"))
    journal = journal_on(faulty, clock=clock)
    journal.wait(journal.add(note(1)))
    journal.wait(journal.add(note(2)))
    assert notes(store) == [1, 2]


def test_an_existing_key_is_not_always_somebody_elses(store, clock, monkeypatch):
    lost_response(MemoryStore(), clock)
    monkeypatch.setattr(journal_room, "_is_ours", lambda found, data: False)
    shows_the_mistake(lambda: lost_response(store, clock))


def forked(store, clock):
    """After a fork of the owner two processes write with one writer's id. Of what either is told, all is durable."""
    parent = own(store, clock).journal
    child = journal_on(store, writer=parent.writer, n=parent.n, last_digest=parent._last_digest, clock=clock)
    told = []
    for journal, i in ((child, 1), (parent, 2)):
        try:
            journal.wait(journal.add(note(i)))
        except Halt as halt:
            assert isinstance(halt.error, ExecutionFencedError)  # noqa: PT017
        else:
            told.append(i)
    assert told == notes(store)


def test_a_segment_with_our_writers_id_is_not_always_ours(store, clock, monkeypatch):
    forked(MemoryStore(), clock)

    def same_writer(found, data):
        return Segment.decode(found, EXEC, 2).writer == Segment.decode(data, EXEC, 2).writer

    monkeypatch.setattr(journal_room, "_is_ours", same_writer)
    shows_the_mistake(lambda: forked(store, clock))


# ---------------------------------------------------------------- fenced = next


def woken(store, clock):
    """A paused owner that wakes after a take-over records nothing more."""
    first = own(store, clock)
    first.journal.wait(first.journal.add(note(1)))
    second = own(store, clock, take_over=True)
    second.journal.wait(second.journal.add(note(2)))
    try:
        for i in (3, 4):
            with pytest.raises(Halt) as halt:
                first.journal.wait(first.journal.add(note(i)))
            assert isinstance(halt.value.error, ExecutionFencedError)
        second.journal.wait(second.journal.add(note(5)))
        assert notes(store) == [1, 2, 5]
        check(store)
    finally:
        let_go(first, None)
        let_go(second, None)


def test_who_is_fenced_does_not_try_the_next_number(store, clock, monkeypatch):
    woken(MemoryStore(clock=clock.time), clock)
    append = Journal._append

    def insistent(self, batch):
        while True:
            try:
                return append(self, batch)
            except Halt as halt:
                if not isinstance(halt.error, ExecutionFencedError):
                    raise
                self.n += 1
                self._last_digest = segment_digest(self._store.get(journal_key(EXEC, self.n)))

    monkeypatch.setattr(Journal, "_append", insistent)
    with pytest.raises((AssertionError, Halt, pytest.fail.Exception)):
        woken(store, clock)


# ---------------------------------------------------------------- claim_again = insist


def two_resume_what_a_dead_owner_left(store, clock):
    """Both have seen it dead; one claims it; the other one finds an owner that lives."""
    write_claim(store)
    clock.advance(61)
    faster = []

    def race(op):
        if op.method == "put_if_absent" and "/journal/" in op.key and not faster:
            faster.append(own(store, clock))

    slower = None
    try:
        with pytest.raises(ExecutionOwnedError):
            slower = claim(FaultyStore(store, race), EXEC, clock=clock)
        assert state_of(read_journal(store, EXEC).segments).writer == faster[0].journal.writer
    finally:
        let_go(faster[0], None)
        if slower:
            let_go(slower, None)


def test_a_claim_that_lost_does_not_insist_on_what_it_decided(store, clock, monkeypatch):
    two_resume_what_a_dead_owner_left(MemoryStore(clock=clock.time), clock)
    decided = {}
    look = ownership.looks_alive

    def once(store, reading, state):
        return decided.setdefault(id(store), look(store, reading, state))

    monkeypatch.setattr(ownership, "looks_alive", once)
    with pytest.raises(pytest.fail.Exception):
        two_resume_what_a_dead_owner_left(store, clock)


# ---------------------------------------------------------------- take_over = anyone


def two_take_over(store, clock):
    """A person saw one owner; another one has claimed since, and lives."""
    write_claim(store)
    look = read_journal(store, EXEC)
    claimed = own(store, clock, take_over=True)
    second = None
    try:
        with pytest.raises(ExecutionOwnedError):
            second = claim(store, EXEC, clock=clock, take_over=True, reading=look)
        assert state_of(read_journal(store, EXEC).segments).writer == claimed.journal.writer
    finally:
        let_go(claimed, None)
        if second:
            let_go(second, None)


def test_a_take_over_is_of_the_owner_that_was_seen_and_of_nobody_else(store, clock, monkeypatch):
    two_take_over(MemoryStore(clock=clock.time), clock)
    monkeypatch.setattr(ownership, "_is_seen", lambda writer, seen: True)
    with pytest.raises(pytest.fail.Exception):
        two_take_over(store, clock)


# ---------------------------------------------------------------- heartbeat = shared


def displaced_owner_that_still_beats(store, clock):
    """An owner that was displaced, and does not know it yet, beats once more. The new owner lives, in a long step."""
    first = write_claim(store)
    clock.advance(61)
    second = own(store, clock)
    try:
        clock.advance(49)
        expect(lambda: [e for e in store.list(f"executions/{EXEC}/owner/") if e.age < 30])
        ownership._put_beat(store, EXEC, first)
        clock.advance(15)
        reading = read_journal(store, EXEC)
        assert ownership.looks_alive(store, reading, state_of(reading.segments)), "a living owner looks dead"
    finally:
        let_go(second, None)


def dead_owner_and_a_displaced_one_that_beats(store, clock):
    first = write_claim(store)
    clock.advance(61)
    write_claim(store)
    clock.advance(61)  # the second one is dead
    ownership._put_beat(store, EXEC, first)
    reading = read_journal(store, EXEC)
    assert not ownership.looks_alive(store, reading, state_of(reading.segments)), "a dead owner looks alive"


@pytest.mark.parametrize("named", [False, True])
def test_writers_do_not_share_a_heartbeat(store, clock, monkeypatch, somewhere_else, named):
    """Of one key for all writers the last write wins; naming the writer inside does not help."""
    scenario = displaced_owner_that_still_beats if named else dead_owner_and_a_displaced_one_that_beats
    scenario(MemoryStore(clock=clock.time), clock)
    key = f"executions/{EXEC}/owner/all"

    def put_beat(store, exec_id, writer):
        store.put(key, writer.encode())

    def age_of_beat(store, exec_id, writer):
        ages = [e.age for e in store.list(key)]
        return ages[0] if ages and (not named or store.get(key) == writer.encode()) else None

    monkeypatch.setattr(ownership, "_put_beat", put_beat)
    monkeypatch.setattr(ownership, "_age_of_beat", age_of_beat)
    shows_the_mistake(lambda: scenario(store, clock))


# ---------------------------------------------------------------- first_beat = after_claim


class SlowAnswer(FaultyStore):
    """A claim arrives at once, and its answer when `answer` is set."""

    def __init__(self, inner):
        super().__init__(inner)
        self.arrived, self.answer = threading.Event(), threading.Event()

    def put_if_absent(self, key, data):
        won = super().put_if_absent(key, data)
        if "/journal/" in key:
            self.arrived.set()
            self.answer.wait(PATIENCE)
        return won


def slow_claim(clock):
    """The answer to a claim takes longer than a lease. Nobody may take its writer for dead meanwhile."""
    store, claims = MemoryStore(clock=clock.time), []
    write_claim(store)
    clock.advance(61)
    slow_store = SlowAnswer(store)
    slow = threading.Thread(target=lambda: claims.append(own(slow_store, clock)))
    slow.start()
    try:
        assert slow_store.arrived.wait(PATIENCE)
        for _ in range(4):
            clock.advance(20)
            expect(lambda: any(e.age < 20 for e in store.list(f"executions/{EXEC}/owner/")), 0.5)
        reading = read_journal(store, EXEC)
        assert ownership.looks_alive(store, reading, state_of(reading.segments)), "it looks dead, and will go on"
    finally:
        slow_store.answer.set()
        slow.join(PATIENCE)
        let_go(claims[0], None)


def test_a_slow_claim_does_not_look_dead_before_it_knows_that_it_won(clock, monkeypatch, somewhere_else):
    slow_claim(clock)
    monkeypatch.setattr(ownership, "_put_beat", lambda store, exec_id, writer: None)
    monkeypatch.setattr(ownership.Beat, "start", lambda self: None)
    shows_the_mistake(lambda: slow_claim(ManualClock()))


# ---------------------------------------------------------------- os_alive = decisive


def flow_is_gone_and_its_kernel_lives(store, clock):
    """A notebook's kernel lives on after its flow ended without a word. Another process resumes after the lease."""
    process = dict(foreign(), machine=ownership.this_process().machine, pid=1)
    process["started"] = ownership._stat(1)[1]  # the process with number 1 lives, and runs no flow of ours
    write_claim(store, process)
    clock.advance(61)
    claimed = own(store, clock)
    let_go(claimed)
    check(store)


def test_a_living_process_is_not_always_a_living_owner(store, clock, monkeypatch):
    flow_is_gone_and_its_kernel_lives(MemoryStore(clock=clock.time), clock)
    monkeypatch.setattr(ownership, "_said_by_system", lambda process, writer: not ownership.is_gone(process))
    shows_the_mistake(lambda: flow_is_gone_and_its_kernel_lives(store, clock))


# ---------------------------------------------------------------- catalog = before


def test_a_status_is_not_reported_before_its_record_is_durable(monkeypatch):
    crash_anywhere(Fault.CRASH_BEFORE)
    add = Journal.add

    def hasty(self, record, size=0):
        if isinstance(record, Release):
            n = self.n + 1
            put_status(self._store, EXEC, "flow_of_two", record.status, begun=1.0, at=1.0, n=n)
        return add(self, record, size)

    monkeypatch.setattr(Journal, "add", hasty)
    shows_the_mistake(lambda: crash_anywhere(Fault.CRASH_BEFORE))


# ---------------------------------------------------------------- completed = again


def run_what_is_completed(store, clock):
    ended = own(store, clock)
    let_go(ended, "completed")
    again = own(store, clock, take_over=True)
    if again.journal:
        let_go(again, "failed")
    check(store)
    assert state_of(read_journal(store, EXEC).segments).status == "completed"


def test_what_is_completed_is_not_claimed_again(store, clock, monkeypatch):
    run_what_is_completed(MemoryStore(clock=clock.time), clock)
    monkeypatch.setattr(ownership, "FINAL", ("cancelled",))
    shows_the_mistake(lambda: run_what_is_completed(store, clock))
