"""Who may run an execution: what its journal says of its owner, whether that owner looks alive, and the claim.

Truth is the journal alone: a claim makes an owner, a release or the next claim unmakes it. A heartbeat is a hint: it
keeps others from claiming, and never lets its writer append.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .catalog import drop, put_status
from .clock import Clock
from .errors import (
    ExecutionFencedError,
    ExecutionOwnedError,
    NotFoundError,
    StoreError,
    UsageError,
)
from .ids import new_writer
from .journal import Halt, Journal
from .reading import Reading, read_journal
from .records import Begun, Claim, Record, Release
from .segments import Segment
from .stores.base import Store

__all__ = [
    "FINAL",
    "Beat",
    "Claimed",
    "Process",
    "State",
    "claim",
    "give_back",
    "heartbeat_seconds",
    "looks_alive",
    "state_of",
]

FINAL = ("completed", "cancelled")
"""Nobody claims these again; `failed` may be retried."""

LEASE = 3
"""An owner that gave no sign of life for so many heartbeats looks dead."""

CLAIM_MOMENT = 1.0
"""Seconds after which a claim that has no answer yet is beaten for: less than any lease."""

REPORT_MOMENT = 0.5
"""Seconds after which a further run is reported: what is over by then is reported once, by how it ended."""

HEED = 5.0
"""Seconds between two looks for requests to cancel or to pause, at most."""

PACK_IN_FLIGHT = 1024
"""So many segments are packed while the flow still runs."""


def heartbeat_seconds() -> float:
    """Seconds between two signs of life: ``KITARU_HEARTBEAT``, 20 by default, at least 1."""
    text = os.environ.get("KITARU_HEARTBEAT", "20")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):  # an owner that beats never would look alive for ever
        raise UsageError(f"KITARU_HEARTBEAT is {text!r}: write a number of seconds, 1 or more")
    return max(1.0, seconds)


# ---------------------------------------------------------------- what a journal says


@dataclass(frozen=True, slots=True)
class State:
    """What a journal says of its execution. The last record that speaks of ownership or status wins."""

    n: int = 0
    epoch: int = 0
    writer: str | None = None  # the last claim's, unless it was released
    claim: Claim | None = None  # that claim
    status: str = "pending"
    status_n: int = 0  # the segment that set the status
    begun: Begun | None = None
    release: Release | None = None

    @property
    def final(self) -> bool:
        """Whether nobody claims it again."""
        return self.status in FINAL


def state_of(segments: Iterable[Segment]) -> State:
    """Fold segments to the state they describe."""
    n = epoch = at = 0
    writer, claimed, status, begun, release = None, None, "pending", None, None
    for segment in segments:
        n = segment.n
        for record in segment.records:
            if isinstance(record, Begun):
                begun = begun or record
            elif isinstance(record, Claim):
                epoch, writer, claimed, status, at, release = (
                    segment.epoch,
                    segment.writer,
                    record,
                    "running",
                    n,
                    None,
                )
            elif isinstance(record, Release):
                writer, claimed, status, at, release = None, None, record.status, n, record
    return State(n, epoch, writer, claimed, status, at, begun, release)


# ---------------------------------------------------------------- who this process is


@dataclass(frozen=True, slots=True)
class Process:
    """What tells a process from every other one, on this machine and elsewhere."""

    machine: str
    boot: str
    namespace: str
    pid: int
    started: str
    host: str
    user: str

    def place(self) -> tuple[str, str, str]:
        """Two processes of one place can see each other."""
        return self.machine, self.boot, self.namespace


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """The state and the start time of a process, where the system tells; ("", "") where there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


@functools.lru_cache(maxsize=1)
def _process_of(pid: int) -> Process:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    machine = _read("/etc/machine-id")
    import socket

    host = socket.gethostname()
    try:
        user = os.environ.get("USER") or str(os.getuid())
    except AttributeError:  # no POSIX
        user = os.environ.get("USERNAME", "")
    boot = _read("/proc/sys/kernel/random/boot_id")
    return Process(machine or host, boot, namespace, pid, _stat(pid)[1], host, user)


def this_process() -> Process:
    """The process that asks; another one after a fork."""
    return _process_of(os.getpid())


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether the operating system says that `process` is no more. False where it cannot say."""
    me = this_process()
    place = process.get("machine"), process.get("boot"), process.get("namespace")
    if place != me.place() or not me.boot:
        return False
    pid = int(process.get("pid", 0))
    state, started = _stat(pid)
    if not state:
        return not _exists(pid)
    return state in {"Z", "X"} or started != process.get("started")


def _exists(pid: int) -> bool:
    """Another user's process may be hidden in /proc, and is there all the same."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


_live: set[str] = set()
"""The writers of this process that can still append: a flow may be gone and its kernel live."""


def _said_by_system(process: Mapping[str, Any], writer: str) -> bool | None:
    """False: that owner is gone. None: unknown. Never True, since a kernel can live and its flow be gone."""
    if process == asdict(this_process()):
        return None if writer in _live else False
    return False if is_gone(process) else None


def looks_alive(store: Store, reading: Reading, state: State, *, beats: Mapping[str, float] | None = None) -> bool:
    """Whether the owner may still be at work, by the store's own clock. At most one request.

    `beats` are the ages of the signs of life, by writer, where they were listed just now.
    """
    if state.writer is None or state.claim is None:
        return False
    said = _said_by_system(state.claim.process, state.writer)
    if said is not None:
        return said
    lease = LEASE * state.claim.heartbeat
    if reading.last_entry is not None and reading.last_entry.age < lease:
        return True
    age = _age_of_beat(store, reading.exec_id, state.writer) if beats is None else beats.get(state.writer)
    return age is not None and age < lease


def _beat_key(exec_id: str, writer: str) -> str:
    return f"executions/{exec_id}/owner/{writer}"


def _put_beat(store: Store, exec_id: str, writer: str) -> None:
    """Give a sign of life, under a key of the writer's own: nobody else's can hide it, or stand for it."""
    store.put(_beat_key(exec_id, writer), b"")


def _age_of_beat(store: Store, exec_id: str, writer: str) -> float | None:
    """Seconds since that writer's last sign of life, by the store's clock; None where it gave none."""
    key = _beat_key(exec_id, writer)
    return next((e.age for e in store.list(key) if e.key == key), None)


# ---------------------------------------------------------------- the claim


@dataclass(slots=True)
class Claimed:
    """What a claim came to. `journal` is None where the execution has ended for good."""

    reading: Reading
    state: State  # before the claim
    journal: Journal | None
    beat: Beat | None = None  # it beats since before the claim; whoever holds this ends it
    heartbeat: float = 20.0
    fresh: bool = False  # begun by this claim


def claim(
    store: Store,
    exec_id: str,
    *,
    clock: Clock,
    begin: Begun | None = None,
    fresh: bool = False,
    take_over: bool = False,
    patient: bool = False,
    check: Callable[[State], None] = lambda state: None,
    reading: Reading | None = None,
    only_there: bool = False,
    ready: Callable[[Reading, State], bool] = lambda reading, state: True,
    prepare: Callable[[State], None] = lambda state: None,
    say: Callable[[str], None] = lambda line: None,
    budget: float = 60.0,
) -> Claimed | None:
    """Own `exec_id`, or find out why not.

    Parameters
    ----------
    begin
        Begin it where it does not exist, in one segment with the claim.
    fresh
        `exec_id` was drawn at random just now: nothing is read first. None is given where it is taken.
    take_over
        Displace the owner that is seen now, alive or not; nobody who claims after this look.
    patient
        Wait while an owner looks alive, and say so once.
    check
        Called with what the journal says before anything is written; raises to refuse.
    reading
        The journal, where it was read just now.
    only_there
        Claim behind what was read, or not at all: None is given where something else stands there.
    ready
        Asked of an execution that waits, where `patient`: where this gives False it is left alone, `journal` is None.
    prepare
        Called before it is claimed, and only where it is; raises what keeps it from being run.

    Raises
    ------
    ExecutionOwnedError
        Where an owner looks alive and neither `take_over` nor `patient` was asked for.
    NotFoundError
        Where it does not exist and `begin` is None.
    """
    heartbeat, process, told = heartbeat_seconds(), this_process(), False
    if reading is None:
        reading = Reading(exec_id) if fresh else read_journal(store, exec_id)
    state = state_of(reading.segments)
    seen = state.writer
    while True:
        if not reading.n and begin is None:
            raise NotFoundError(
                f"there is no execution {exec_id} in {store.url}: `kitaru runs` lists those that there are"
            )
        if reading.n:
            check(state)
        if state.final or (patient and state.status == "waiting" and not ready(reading, state)):
            return Claimed(reading, state, None)
        displaced = state.writer is not None
        asked = take_over and _is_seen(state.writer, seen)
        if displaced and not asked and looks_alive(store, reading, state):
            if not patient:
                raise ExecutionOwnedError(_owned(exec_id, state, clock))
            if not told:
                say(f"kitaru: {_owned(exec_id, state, clock, patient=True)}")
                told = True
            clock.sleep(min(1.0, heartbeat / 2))
            reading = read_journal(store, exec_id, reading)
            state = state_of(reading.segments)
            continue
        prepare(state)
        writer = new_writer()
        journal = Journal(
            store,
            exec_id,
            writer,
            epoch=state.epoch + 1,
            n=reading.n,
            last_digest=reading.last_digest,
            clock=clock,
            budget=budget,
            say=say,
        )
        records: list[Record] = [] if reading.n or begin is None else [begin]
        records.append(Claim(asdict(process), heartbeat, clock.time(), displaced))
        for record in records:
            journal.add(record)
        beat = Beat(store, journal, heartbeat=heartbeat, clock=clock)
        try:
            beat.start()  # a slow claim must not look dead before it knows that it won
            journal.flush()
            begun = state.begun or begin
            if begun is not None:
                beat.won(begun, listed=reading.n > 0)
            journal.begin_pack(reading.packed + 1, reading.raw)
            return Claimed(reading, state, journal, beat, heartbeat, fresh=not reading.n)
        except BaseException as e:
            if not isinstance(e, Halt) and journal.n > reading.n:
                give_back(journal, beat, state)  # a signal came once it was won
            else:
                beat.end()
            if not isinstance(e, Halt):
                raise
            if not isinstance(e.error, ExecutionFencedError):
                raise e.error from e.__cause__
            if fresh or only_there:
                return None
            if beat.has_beaten:
                drop(store, [_beat_key(exec_id, writer)])
            reading = read_journal(store, exec_id, reading)  # whoever loses reads again and decides again
            state = state_of(reading.segments)


def give_back(journal: Journal, beat: Beat, before: State) -> None:
    """Release a claim that came to nothing: the execution is as it was `before`."""
    status = before.status if before.status not in {"running", "pending"} else "interrupted"
    ended = None
    try:
        journal.add(Release(status, "its claim came to nothing"))
        journal.flush()
        ended = status
    except Halt:
        pass
    finally:
        beat.end(ended)


def _is_seen(writer: str | None, seen: str | None) -> bool:
    """A person who takes over means the owner that they saw, and nobody who claimed since."""
    return writer == seen


def _owned(exec_id: str, state: State, clock: Clock, *, patient: bool = False) -> str:
    assert state.claim is not None
    p = state.claim.process
    ago = max(0.0, clock.time() - state.claim.at)
    who = f"{p.get('user')}@{p.get('host')}, pid {p.get('pid')}, for {ago:.0f} s"
    if patient:
        return f"{exec_id} is run by {who}; waiting until it has ended or looks dead"
    if state.begun is not None and state.begun.by_hand:
        lease = LEASE * state.claim.heartbeat
        return (
            f"{exec_id} is run by {who}, and looks alive. Close it there (in a notebook: %kitaru close), or stop that "
            f"process; one that is gone without a word counts as gone {lease:.0f} s after its last sign of life"
        )
    return (
        f"{exec_id} is run by {who}, and looks alive. Wait for it; or stop that process; or, if you know that it is "
        f"gone, take over: kitaru resume {exec_id} --take-over"
    )


# ---------------------------------------------------------------- signs of life, and what else is off the step path


class Beat(threading.Thread):
    """The owner's second thread: it gives signs of life, and sees to it that what nobody waits for is written.

    It is started before the claim is made. It beats only when no segment was written meanwhile, and looks for a fence
    as it does. What may take long, it starts in threads of their own: the upload of records that lie in the journal's
    buffer for longer than a moment, packs, and the status that the claim earned in the catalog.

    Parameters
    ----------
    moment : float
        Seconds after which a started record goes up though its body still runs.
    """

    TICK = 0.05

    def __init__(self, store: Store, journal: Journal, *, heartbeat: float, clock: Clock, moment: float = 0.2) -> None:
        super().__init__(name=f"kitaru-beat-{journal.exec_id}", daemon=True)
        self._store, self._journal, self._clock = store, journal, clock
        self._heartbeat, self._moment = heartbeat, moment
        # A claim that takes longer than a moment is beaten for; once it is won, its own segment is the sign of life.
        self._due = clock.monotonic() + CLAIM_MOMENT
        self.has_beaten = False
        self._wake = threading.Event()
        self._over = False
        self.heed: Callable[[], object] | None = None  # looks for requests, now and then
        self._heed_at = 0.0
        self._begun: Begun | None = None  # once the claim is won
        self._report_at = math.inf
        self._claimed_n = 0
        self._reporting = threading.Lock()
        self._reported = False  # the claim
        self._statuses: list[str] = []
        self._at_work: dict[str, threading.Thread] = {}
        _live.add(journal.writer)

    def won(self, begun: Begun, *, listed: bool = False) -> None:
        """The claim is durable: it is reported; where a list has the execution already, once the run has lasted."""
        self._claimed_n, self._begun = self._journal.n, begun
        now = self._clock.monotonic()
        self._due, self._report_at = now + self._heartbeat, now + REPORT_MOMENT if listed else now
        self._heed_at = now + min(self._heartbeat, HEED)
        self._wake.set()

    def report_now(self) -> None:
        """Put the won claim into the catalog before this returns, rather than a moment later."""
        with self._reporting:  # whoever comes second finds it done: a row is written once, and no row drops itself
            if not self._reported:
                self._reported = True
                self._report("running", self._claimed_n)

    def run(self) -> None:
        try:
            while True:
                self._wake.wait(self.TICK)
                self._wake.clear()
                if self._over or self._journal.halted is not None:
                    return
                now = self._clock.monotonic()
                if now >= self._report_at:
                    self._report_at = math.inf
                    self._aside("report", self.report_now)
                if self.heed is not None and now >= self._heed_at:
                    self._heed_at = now + min(self._heartbeat, HEED)
                    self._aside("heed", self.heed)
                if self._journal.has_older_than(self._moment):
                    self._aside("flush", self._journal.flush)
                if self._journal.is_worth_a_pack(PACK_IN_FLIGHT):
                    self._aside("pack", functools.partial(self._journal.write_pack, PACK_IN_FLIGHT))
                self._beat()
        except BaseException as e:
            self._failed(e)

    def _aside(self, what: str, work: Callable[[], object]) -> None:
        """Do in a thread of its own what may take long: the beat goes on meanwhile. One of each at a time."""
        if what in self._at_work and self._at_work[what].is_alive():
            return

        def run() -> None:
            try:
                work()
            except BaseException as e:
                self._failed(e)

        thread = threading.Thread(target=run, name=f"kitaru-{what}-{self._journal.exec_id}", daemon=True)
        self._at_work[what] = thread
        thread.start()

    def _failed(self, error: BaseException) -> None:
        """A journal that halted says so to whoever waits for it; nothing else may end the process from here."""
        if not isinstance(error, (Halt, StoreError)) and self._journal.halted is None:
            self._journal.halt(StoreError(f"the heartbeat of {self._journal.exec_id} failed: {error!r}"))

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if now < self._due or (self._begun is not None and now - self._journal.last_written < self._heartbeat):
            return
        self._due = now + self._heartbeat / 4  # where the store does not answer
        try:
            self.has_beaten = True
            _put_beat(self._store, self._journal.exec_id, self._journal.writer)
            self._due = now + self._heartbeat
            if self._begun is not None:
                self._journal.is_fenced()
        except StoreError:
            return  # the next append will find out whether the store is gone for good

    def _report(self, status: str, n: int, gone: Iterable[str] = ()) -> None:
        b, served = self._begun, list(gone)
        if b is not None:
            try:
                key = put_status(
                    self._store, self._journal.exec_id, b.flow, status, begun=b.at, at=self._clock.time(), n=n
                )
            except StoreError:
                pass  # a hint
            else:
                served += self._statuses
                self._statuses = [key]
        drop(self._store, served)

    def end(self, status: str | None = None, gone: Iterable[str] = ()) -> None:
        """Stop; with a `status`, which the journal has by now, report it and take the heartbeat away.

        `gone` are hints that have served: they go with it, in one request.
        """
        self._over = True
        self._wake.set()
        _live.discard(self._journal.writer)
        patience = time.monotonic() + 5.0
        for thread in (self, *self._at_work.values()):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, patience - time.monotonic()))
        if status is not None:
            beats = [_beat_key(self._journal.exec_id, self._journal.writer)] if self.has_beaten else []
            self._report(status, self._journal.n, [*beats, *gone])
