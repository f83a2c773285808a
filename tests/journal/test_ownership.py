"""Who may run an execution: what keeps others out, what lets them in, and who wins a race."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from kitaru import ownership
from kitaru.errors import (
    ExecutionFencedError,
    ExecutionOwnedError,
    InputsDifferError,
    NotFoundError,
    StoreUnavailableError,
    UsageError,
)
from kitaru.journal import Halt
from kitaru.ownership import (
    Process,
    _put_beat,
    claim,
    heartbeat_seconds,
    is_gone,
    looks_alive,
    state_of,
    this_process,
)
from kitaru.reading import read_journal
from kitaru.records import Begun, Claim, Release
from kitaru.stores import MemoryStore
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore

from .scene import EXEC, SlowStore, check, foreign, journal_on, let_go, note, notes, own, write_claim
from .test_journal import PATIENCE, expect, together


@pytest.fixture
def clock():
    """The store's own clock."""
    return ManualClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock.time)


def alive(store, exec_id=EXEC):
    reading = read_journal(store, exec_id)
    return looks_alive(store, reading, state_of(reading.segments))


# ---------------------------------------------------------------- the lease


def test_a_segment_is_a_sign_of_life_for_three_heartbeats(store, clock):
    write_claim(store, heartbeat=20)
    clock.advance(59.9)
    assert alive(store)
    clock.advance(0.2)
    assert not alive(store)


def test_a_beat_is_one_too(store, clock):
    writer = write_claim(store, heartbeat=20)
    clock.advance(59)
    _put_beat(store, EXEC, writer)
    clock.advance(59)
    assert alive(store)
    clock.advance(2)
    assert not alive(store)


def test_the_owner_says_how_long_its_lease_is(store, clock, monkeypatch):
    monkeypatch.setenv("KITARU_HEARTBEAT", "1")  # the reader's own does not matter
    write_claim(store, heartbeat=100)
    clock.advance(299)
    assert alive(store)
    clock.advance(2)
    assert not alive(store)


def test_another_writers_beat_is_no_sign_of_this_ones_life(store, clock):
    writer = write_claim(store)
    clock.advance(61)
    _put_beat(store, EXEC, "other")
    _put_beat(store, EXEC, writer + "0")
    assert not alive(store)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_readers_clock_that_is_wrong_by_days_changes_nothing(store, clock, days):
    reader = ManualClock()
    reader.set_back(86_400 * days)
    write_claim(store)
    with pytest.raises(ExecutionOwnedError):
        claim(store, EXEC, clock=reader)
    clock.advance(61)
    let_go(own(store, reader))
    check(store)


def test_a_store_whose_clock_jumped_back_keeps_the_owner_rather_than_have_two(store, clock):
    write_claim(store)
    clock.set_back(3600)
    clock.advance(61)
    with pytest.raises(ExecutionOwnedError):
        claim(store, EXEC, clock=clock)
    let_go(own(store, clock, take_over=True))


def test_what_was_released_has_no_owner(store, clock):
    for status in ("failed", "interrupted", "waiting", "paused"):
        claimed = own(store, clock)
        let_go(claimed, status)
        assert not alive(store)
    assert state_of(read_journal(store, EXEC).segments).epoch == 4
    check(store)


def test_the_refusal_says_who_where_since_when_and_what_to_do(store, clock):
    write_claim(store, foreign(user="ada", pid=4711))
    with pytest.raises(ExecutionOwnedError) as e:
        claim(store, EXEC, clock=clock)
    assert e.value.exit_code == 4
    for part in (EXEC, "ada", "elsewhere", "4711", "take over: kitaru resume audit-1 --take-over"):
        assert part in str(e.value)


# ---------------------------------------------------------------- what the operating system says


@pytest.fixture
def sleeper():
    """A process of this machine that sleeps."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def process_of(pid):
    return asdict(replace(this_process(), pid=pid, started=ownership._stat(pid)[1]))


@pytest.mark.process
@pytest.mark.parametrize("reaped", [True, False])
def test_a_dead_process_of_this_machine_is_decisive(store, clock, sleeper, reaped):
    write_claim(store, process_of(sleeper.pid))
    assert alive(store)
    sleeper.kill()
    if reaped:
        sleeper.wait()
        assert ownership._stat(sleeper.pid)[0] == ""
    else:
        expect(lambda: ownership._stat(sleeper.pid)[0] == "Z")
    assert not alive(store)
    let_go(own(store, clock))
    check(store)


@pytest.mark.process
def test_a_living_process_is_not_decisive(store, clock, sleeper):
    write_claim(store, process_of(sleeper.pid))
    clock.advance(61)
    assert not alive(store)


@pytest.mark.process
def test_a_process_that_has_got_the_owners_number_is_not_the_owner(store, clock, sleeper):
    write_claim(store, process_of(sleeper.pid) | {"started": "1"})
    assert not alive(store)


@pytest.mark.parametrize("where", ["machine", "boot", "namespace"])
def test_of_another_machine_or_container_only_the_lease_tells(store, clock, where):
    gone = asdict(this_process()) | {"pid": 2**22 + 1, "started": "1"}
    assert is_gone(gone)
    assert not is_gone(gone | {where: "another"})
    write_claim(store, gone | {where: "another"})
    assert alive(store)
    clock.advance(61)
    assert not alive(store)


def test_a_process_that_proc_hides_is_not_gone(monkeypatch):
    monkeypatch.setattr(ownership, "_stat", lambda pid: ("", ""))
    other = asdict(this_process()) | {"pid": 1}
    assert not is_gone(other)
    assert is_gone(other | {"pid": 2**22 + 1})


def test_a_flow_of_this_process_that_is_gone_keeps_nobody_out(store, clock):
    claimed = own(store, clock)
    assert alive(store)
    with pytest.raises(ExecutionOwnedError):
        claim(store, EXEC, clock=clock)
    let_go(claimed, None)  # without a word: a kernel whose flow is gone
    assert not alive(store)
    second = own(store, clock)
    with pytest.raises(Halt) as halt:
        claimed.journal.wait(claimed.journal.add(note(1)))
    assert isinstance(halt.value.error, ExecutionFencedError)
    let_go(second)
    check(store)


@pytest.mark.process
def test_a_fork_of_the_owner_is_another_process(tmp_path):
    script = tmp_path / "fork.py"
    script.write_text(
        """
import os, sys
from kitaru.clock import SYSTEM
from kitaru.errors import ExecutionFencedError, ExecutionOwnedError
from kitaru.journal import Halt
from kitaru.ownership import claim, this_process
from kitaru.records import Begun, Logged
from kitaru.stores import LocalStore

store = LocalStore(sys.argv[1])
claimed = claim(store, "audit-1", clock=SYSTEM, begin=Begun("audit", ()))
before = this_process()
child = os.fork()
if child == 0:
    code = 1
    try:
        assert this_process() != before
        try:
            claim(store, "audit-1", clock=SYSTEM)
        except ExecutionOwnedError:
            claimed.journal.wait(claimed.journal.add(Logged(None, 1, {"i": 1})))  # the child is first
            code = 0
    finally:
        os._exit(code)
assert os.waitpid(child, 0)[1] == 0
try:
    claimed.journal.wait(claimed.journal.add(Logged(None, 2, {"i": 2})))
except Halt as halt:
    assert isinstance(halt.error, ExecutionFencedError)
else:
    raise SystemExit("two processes write as one")
"""
    )
    done = subprocess.run([sys.executable, script, tmp_path / "runs"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- the claim


def test_begun_and_claim_stand_in_one_segment(store, clock):
    claimed = own(store, clock)
    (segment,) = read_journal(store, EXEC).segments
    assert [type(r) for r in segment.records] == [Begun, Claim]
    assert claimed.fresh
    let_go(claimed)


def test_what_does_not_exist_is_not_claimed(store, clock):
    with pytest.raises(NotFoundError, match="there is no execution audit-1"):
        claim(store, EXEC, clock=clock)
    assert [*store.list("")] == []


def test_a_fresh_name_costs_one_write_and_no_look():
    store = FaultyStore(MemoryStore())
    claimed = own(store, fresh=True)
    expect(lambda: any(op.key.startswith("catalog/") for op in store.log))
    assert [op.method for op in store.log if not op.key.startswith("catalog/")] == ["put_if_absent"]
    assert claim(store.inner, EXEC, clock=ManualClock(), begin=Begun("other", ()), fresh=True) is None  # taken
    let_go(claimed)
    check(store)


def test_thirty_two_threads_that_begin_one_name_begin_it_once(store, clock):
    def work(i):
        return own(store, clock)

    ends = together(32, work)
    winners = [e for e in ends if not isinstance(e, BaseException)]
    assert len(winners) == 1
    assert {type(e) for e in ends if e not in winners} == {ExecutionOwnedError}
    assert [type(r) for r in read_journal(store, EXEC).records] == [Begun, Claim]
    let_go(winners[0])
    left = [e.key for e in store.list(f"executions/{EXEC}/owner/")]
    assert left == []  # who lost takes its heartbeat away
    check(store)


def test_thirty_two_threads_that_resume_one_execution_claim_it_once(store, clock):
    write_claim(store)
    clock.advance(61)
    ends = together(32, lambda i: own(store, clock))
    winners = [e for e in ends if not isinstance(e, BaseException)]
    assert len(winners) == 1
    assert state_of(read_journal(store, EXEC).segments).epoch == 2
    let_go(winners[0])
    check(store)


def test_who_loses_the_race_for_a_name_meets_the_winners_inputs(store, clock):
    def refuse(state):
        assert state.begun is not None
        raise InputsDifferError("other inputs")

    raced = Racing(store, lambda: write_claim(store))
    with pytest.raises(InputsDifferError):
        claim(raced, EXEC, clock=clock, begin=Begun("audit", ()), check=refuse)
    assert len(read_journal(store, EXEC).segments) == 1


class Racing(FaultyStore):
    """Somebody else is faster: before our first claim arrives, `other` does its."""

    def __init__(self, inner, other):
        super().__init__(inner)
        self.other, self.plan = other, self.race

    def race(self, op):
        if "/journal/" in op.key and op.method == "put_if_absent" and self.other:
            other, self.other = self.other, None
            other()


def test_who_loses_reads_again_and_decides_again(store, clock):
    write_claim(store)
    clock.advance(61)
    with pytest.raises(ExecutionOwnedError):
        claim(Racing(store, lambda: write_claim(store, writer="faster")), EXEC, clock=clock)
    assert state_of(read_journal(store, EXEC).segments).writer == "faster"


def test_who_loses_to_one_that_is_gone_already_goes_on(store, clock):
    write_claim(store)
    clock.advance(61)
    claimed = own(Racing(store, lambda: write_claim(store, records=(Release("failed"),))), clock)
    assert claimed.journal.n == 3
    let_go(claimed)
    check(store)


def test_who_loses_to_one_that_completes_it_sees_it_completed(store, clock):
    write_claim(store)
    clock.advance(61)
    claimed = own(Racing(store, lambda: write_claim(store, records=(Release("completed"),))), clock)
    assert claimed.journal is None
    assert claimed.state.status == "completed"
    check(store)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
@pytest.mark.parametrize("take_over", [False, True])
def test_what_has_ended_for_good_is_never_claimed_again(store, clock, status, take_over):
    write_claim(store, records=(Release(status),))
    claimed = own(store, clock, take_over=take_over, patient=True)
    assert claimed.journal is None
    assert read_journal(store, EXEC).n == 1


def test_a_take_over_displaces_the_owner_that_was_seen(store, clock):
    write_claim(store)
    claimed = own(store, clock, take_over=True)
    assert claimed.journal.epoch == 2
    assert [r.took_over for r in read_journal(store, EXEC).records if isinstance(r, Claim)] == [False, True]
    let_go(claimed)


def test_a_take_over_displaces_nobody_who_claimed_since(store, clock):
    write_claim(store)
    with pytest.raises(ExecutionOwnedError):
        claim(Racing(store, lambda: write_claim(store, writer="new")), EXEC, clock=clock, take_over=True)
    assert state_of(read_journal(store, EXEC).segments).writer == "new"


def test_a_claim_that_gets_no_answer_gives_up_and_leaves_nobody_locked_out(clock):
    store = FaultyStore(MemoryStore(clock=clock.time))
    store.plan = lambda op: Fault.LOSE_RESPONSE if op.method == "put_if_absent" else None
    plain = store.get
    store.get = lambda key, **options: plain(key, **options) if "/journal/" not in key else lost()

    def lost():
        raise StoreUnavailableError("no answer came")

    with pytest.raises(StoreUnavailableError, match="for 60 s"):
        own(store, clock)
    store.plan, store.get = lambda op: None, plain
    claimed = own(store, clock)  # it had arrived: this process knows that nobody holds it
    assert claimed.journal.epoch == 2
    let_go(claimed)
    check(store)


def test_a_claim_that_is_won_at_once_is_its_own_sign_of_life(clock):
    store = FaultyStore(MemoryStore(clock=clock.time))
    claimed = own(store, clock)
    time.sleep(2 * claimed.beat.TICK)  # time for it to do what it should not
    assert beats(store) == 0
    let_go(claimed)


# ---------------------------------------------------------------- patience


@pytest.mark.parametrize("how", ["it ends", "it looks dead"])
def test_who_is_patient_goes_on_when_the_owner_has_ended_or_looks_dead(store, clock, how):
    said, waited = [], []
    owner = own(store, clock)
    write = owner.journal

    def meanwhile():
        waited.append(1)
        if len(waited) == 5:
            if how == "it ends":
                write.wait(write.add(note(1)))
                let_go(owner, "failed")
            else:
                let_go(owner, None)

    clock.on_sleep = meanwhile
    second = own(store, clock, patient=True, say=said.append)
    assert len(waited) == 5
    assert len(said) == 1
    assert "waiting until it has ended or looks dead" in said[0]
    assert second.journal.epoch == 2
    let_go(second)
    check(store)


def test_who_is_patient_waits_for_a_lease_to_run_out(store, clock):
    write_claim(store, heartbeat=20)
    counted = FaultyStore(store)
    second = own(counted, clock, patient=True)
    assert 60 <= clock.monotonic() < 63
    assert counted.count("get") == 1  # a segment that it has read is not fetched again
    let_go(second)


def test_who_is_patient_sees_it_completed(store, clock):
    owner = own(store, clock)
    clock.on_sleep = lambda: let_go(owner, "completed") if owner.beat.is_alive() else None
    assert own(store, clock, patient=True).journal is None


# ---------------------------------------------------------------- the beat


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, 20.0), ("2", 2.0), ("0.1", 1.0), ("-5", 1.0), ("1e2", 100.0), (" 7 ", 7.0)]
)
def test_the_heartbeat_is_a_setting(monkeypatch, text, seconds):
    if text is not None:
        monkeypatch.setenv("KITARU_HEARTBEAT", text)
    assert heartbeat_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "2s"])
def test_a_heartbeat_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("KITARU_HEARTBEAT", text)
    with pytest.raises(UsageError, match=r"KITARU_HEARTBEAT is .* write a number of seconds"):
        heartbeat_seconds()


def beats(store):
    return sum("/owner/" in op.key and op.method == "put" for op in store.log)


def test_the_beat_is_silent_while_segments_are_written(clock):
    store = FaultyStore(MemoryStore(clock=clock.time))
    claimed = own(store, clock)
    assert beats(store) == 0
    for i in range(5):
        clock.advance(19)
        claimed.journal.wait(claimed.journal.add(note(i)))
        time.sleep(2 * claimed.beat.TICK)  # time for it to do what it should not
    assert beats(store) == 0
    clock.advance(21)
    expect(lambda: beats(store) == 1)
    let_go(claimed)


def test_the_beat_notices_a_fence(store, clock):
    claimed = own(store, clock)
    write_claim(store, writer="other")
    assert claimed.journal.halted is None
    clock.advance(21)
    expect(lambda: isinstance(claimed.journal.halted, ExecutionFencedError))
    with pytest.raises(Halt, match="writer other"):
        claimed.journal.add(note(1))
    let_go(claimed, None)


def test_the_beat_writes_what_nobody_waits_for(store, clock):
    claimed = own(store, clock)
    claimed.journal.add(note(1))
    clock.advance(0.3)
    expect(lambda: notes(store) == [1])
    let_go(claimed)


def test_the_beat_of_a_claim_begins_before_it_is_won(clock):
    store = SlowStore(clock=clock.time)
    let_go(own(store, clock))
    store.gate.clear()
    claims = []
    slow = threading.Thread(target=lambda: claims.append(own(store, clock)))
    slow.start()
    key = f"executions/{EXEC}/owner/"
    expect(lambda: any(t.name == f"kitaru-beat-{EXEC}" for t in threading.enumerate()))
    clock.advance(2)
    expect(lambda: [*store.list(key)])
    for _ in range(5):  # five heartbeats until the answer comes
        clock.advance(21)
        expect(lambda: [e for e in store.list(key) if e.age < 20])
    store.gate.set()
    slow.join(PATIENCE)
    let_go(claims[0])
    check(store)


def test_an_end_takes_the_heartbeat_away_and_reports_the_status(store, clock):
    claimed = own(store, clock)
    let_go(claimed, "failed")
    assert [*store.list(f"executions/{EXEC}/owner/")] == []
    assert [e.key.split(".")[1] for e in store.list("catalog/")] == ["failed"]


def test_a_beat_whose_store_fails_does_not_ask_twenty_times_a_second(clock):
    store = FaultyStore(MemoryStore(clock=clock.time))
    claimed = own(store, clock)
    store.plan = lambda op: Fault.UNAVAILABLE
    clock.advance(21)
    expect(lambda: beats(store) == 1)
    time.sleep(4 * claimed.beat.TICK)
    assert beats(store) == 1
    let_go(claimed, None)


@pytest.mark.parametrize("stuck", ["/packs/", "/journal/", "catalog/"])
def test_the_beat_goes_on_while_an_upload_is_stuck(clock, monkeypatch, stuck):
    monkeypatch.setattr(ownership, "PACK_IN_FLIGHT", 3)
    arrived, go = threading.Event(), threading.Event()

    class Stuck(MemoryStore):
        held = stuck == "catalog/"

        def put_if_absent(self, key, data):
            self._hold(key)
            return super().put_if_absent(key, data)

        def put(self, key, data):
            self._hold(key)
            super().put(key, data)

        def _hold(self, key):
            if self.held and stuck in key:
                arrived.set()
                go.wait(PATIENCE)

    store = Stuck(clock=clock.time)
    claimed = own(store, clock)
    try:
        if stuck == "/packs/":
            store.held = True
        for i in range(3):
            claimed.journal.wait(claimed.journal.add(note(i)))
        store.held = True
        if stuck == "/journal/":  # else a segment may be the sign of life, and there is no beat to see
            claimed.journal.add(note(3))
            clock.advance(0.3)
        assert arrived.wait(PATIENCE)
        for _ in range(4):
            clock.advance(21)
            expect(lambda: any(e.age < 20 for e in store.list(f"executions/{EXEC}/owner/")), 2.0)
    finally:
        go.set()
        let_go(claimed)
    check(store)


def test_a_process_knows_itself():
    assert this_process() == this_process()
    assert isinstance(this_process(), Process)
    assert this_process().pid == os.getpid()
    assert not is_gone(asdict(this_process()))
    assert journal_on(MemoryStore()).halted is None
