"""Ctrl-C and SIGTERM: they are raised in the main thread between any two lines, in the middle of an append as well."""

from __future__ import annotations

import _thread
import contextlib
import linecache
import os
import signal
import sys
import threading

import pytest

from kitaru import Session, checkpoint, flow, journal as journal_room, wait
from kitaru.client import KitaruClient
from kitaru.flows import Flow, Options
from kitaru.journal import GRACE, Halt
from kitaru.ownership import state_of
from kitaru.reading import read_journal
from kitaru.records import Release
from kitaru.stores import MemoryStore
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash

from .scene import EXEC, check, journal_on, note, notes
from .test_journal import PATIENCE

pytestmark = pytest.mark.usefixtures("interruptible")


class Struck(MemoryStore):
    """The `at`-th segment's write is struck by `raised`, before or after it was carried out."""

    def __init__(self, raised, at, *, after=False):
        super().__init__()
        self.raised, self.at, self.after, self.segments = raised, at, after, 0

    def put_if_absent(self, key, data):
        self.segments += "/journal/" in key
        struck = "/journal/" in key and self.segments == self.at
        if struck and not self.after:
            raise self.raised
        created = super().put_if_absent(key, data)
        if struck:
            raise self.raised
        return created


@contextlib.contextmanager
def no_longer_than(seconds=PATIENCE):
    """Who waits for ever in the main thread is woken, and fails."""
    over = threading.Event()

    def watch():
        if not over.wait(seconds):
            _thread.interrupt_main()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        pytest.fail("it waits for ever")
    finally:
        over.set()
        watcher.join(PATIENCE)


def struck_at(line, journal):
    """A tracer that raises at the `line`-th line that the journal's own code comes to, and the list of what it met."""
    met = []

    def local(frame, event, _):
        if event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if text.startswith("with ") and journal._lock._is_owned():
                return local  # the lock is being let go of: the interpreter looks for no signal there
            met.append(text)
            if len(met) == line:
                raise KeyboardInterrupt
        return local

    return met, lambda frame, event, _: local if frame.f_code.co_filename == journal_room.__file__ else None


def strike(line):
    """Three notes, struck at a line; then the release. Gives whether it was struck at all."""
    store = MemoryStore()
    journal, known = journal_on(store), []
    met, tracer = struck_at(line, journal)
    before = sys.gettrace()
    try:
        sys.settrace(tracer)
        for i in range(3):
            journal.wait(journal.add(note(i)))
            known.append(i)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    with no_longer_than():
        journal.wait(journal.add(Release("interrupted")))
    where = f"struck at {met[-1]!r}, line {line}"
    records = read_journal(store, EXEC).records
    assert isinstance(records[-1], Release), where
    assert notes(store) in ([0, 1, 2][: len(known)], [0, 1, 2][: len(known) + 1]), where
    return len(met) >= line


def test_a_signal_at_any_line_of_the_journal_loses_nothing_and_hangs_nobody():
    line = 1
    while strike(line):
        line += 1
    assert line > 60


@pytest.mark.parametrize("after", [False, True])
def test_a_signal_during_the_claim_gives_it_back(after):
    @flow
    def waits():
        return wait(name="x")

    store = Struck(SystemExit(143), 0, after=after)
    ran = Flow(waits.function, Options(exec_id=EXEC, store=store, ask=lambda opened: "said"))
    Flow(waits.function, Options(exec_id=EXEC, store=store)).run()
    store.at = store.segments + 1
    with no_longer_than(), pytest.raises(SystemExit):
        ran.run()
    check(store)
    state = state_of(read_journal(store, EXEC).segments)
    assert (state.status, state.writer, state.epoch) == ("waiting", None, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kitaru-beat")]
    assert ran.run().get() == "said"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit(143)])
def test_a_signal_during_an_append_finishes_it_and_is_recorded(raised, after):
    @checkpoint
    def step(i):
        return i

    @flow
    def five():
        return [step(i) for i in range(5)]

    store = Struck(raised, 3, after=after)
    ran = Flow(five.function, Options(exec_id=EXEC, store=store))
    with no_longer_than(), pytest.raises((SystemExit, KeyboardInterrupt)):
        ran.run()
    check(store)
    execution = KitaruClient(store).executions.get(EXEC)
    assert execution.status.value == "interrupted"
    assert "completed" in [c.status for c in execution.checkpoints]
    last = read_journal(store, EXEC).records[-1]
    assert isinstance(last, Release), "the interruption is not recorded"
    assert last.status == "interrupted"
    assert ran.run().get() == [0, 1, 2, 3, 4]


def test_who_interrupts_while_the_store_is_away_waits_a_moment_and_no_minute():
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    journal = journal_on(store, clock=clock)
    ticket = journal.add(note(1))
    store.plan = lambda op: Fault.UNAVAILABLE
    clock.on_sleep = lambda: interrupt_once(clock)
    with pytest.raises(KeyboardInterrupt):
        journal.wait(ticket)
    assert journal.halted is not None
    assert clock.monotonic() <= GRACE + 1
    with pytest.raises(Halt):
        journal.flush()


class Hanging(MemoryStore):
    """It does not answer who stores a blob, and has the main thread signalled meanwhile."""

    def __init__(self):
        super().__init__()
        self.goes_on, self.main = threading.Event(), threading.main_thread().ident

    def put_if_absent(self, key, data):
        if key.startswith("blobs/"):
            while not self.goes_on.wait(0.05):
                signal.pthread_kill(self.main, signal.SIGUSR1)  # again: one that comes before it blocks wakes nobody
        return super().put_if_absent(key, data)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_signal_during_uploads_waits_for_none_of_them(is_async):
    @checkpoint
    def several():
        return [os.urandom(1 << 20) for _ in range(4)]

    @checkpoint
    async def aseveral():
        return [os.urandom(1 << 20) for _ in range(4)]

    @flow
    def uploads():
        return len(several())

    @flow
    async def auploads():
        return len(await aseveral())

    store, came = Hanging(), []

    def struck(number, frame):
        came.append(number)
        if len(came) == 1:
            raise SystemExit(143)

    before = signal.signal(signal.SIGUSR1, struck)
    try:
        with no_longer_than(), pytest.raises(SystemExit):
            Flow((auploads if is_async else uploads).function, Options(exec_id=EXEC, store=store)).run()
        assert not store.goes_on.is_set()
        assert read_journal(store, EXEC).records[-1].status == "interrupted"
    finally:
        store.goes_on.set()
        signal.signal(signal.SIGUSR1, before)


def interrupt_once(clock):
    clock.on_sleep = lambda: None
    raise KeyboardInterrupt


def test_a_process_that_died_in_an_append_stays_dead():
    store = FaultyStore(MemoryStore(), lambda op: Fault.CRASH_BEFORE)
    journal = journal_on(store)
    with pytest.raises(SimulatedCrash):
        journal.wait(journal.add(note(1)))
    assert journal.halted is not None
    assert store.count() == 1


def test_a_notebook_goes_on_after_a_cell_was_interrupted_in_an_append():
    session = Session("tour", store=Struck(KeyboardInterrupt, 2))
    step = session.step("a", {}, source="x = 1")
    with pytest.raises(KeyboardInterrupt):
        step.succeed({"x": 1})
    session.step("b", {}, source="y = 1").succeed({"y": 1})
    assert [c.label for c in session.execution().checkpoints] == ["a#1", "b#1"]
    session.close()


def test_a_notebook_claims_its_execution_anew_after_its_journal_halted():
    store = FaultyStore(MemoryStore())
    session = Session("tour", store=store)
    session.step("a", {}, source="x = 1").succeed({"x": 1})
    exec_id = session.exec_id
    session._engine.journal.halt(ConnectionError("the store was away"))
    assert not session.is_open
    session.step("b", {}, source="y = 1").succeed({"y": 1})
    assert session.exec_id == exec_id
    assert [c.label for c in session.execution().checkpoints] == ["a#1", "b#1"]
    session.close()
    check(store.inner, exec_id)
