"""`kitaru resume --ready`: one pass over what has become able to run, and a worker that makes one after the other.

A pass costs what is ready, not what waits: two listings tell who may be, and of each of those the journal decides.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from .catalog import drop
from .clock import SYSTEM, Clock
from .errors import CorruptionError, KitaruError, StoreError, StoreFormatError, UsageError
from .eviction import ASKED_TO_END, EVICTED, Leaving, evictable, grace_seconds
from .flows import Options
from .forks import read_origin
from .handles import Handle
from .ids import new_nonce
from .journal import Halt
from .lineage_graph import build, dumps, lineage_key
from .location import current_store, open_store, store_budget
from .notices import say
from .ownership import Claimed, State, claim, give_back, looks_alive, state_of
from .reading import Glimpse, Reading, glimpse
from .records import Answered, Begun, Release
from .runs import Moved, in_loop, resume
from .sources import find_flow
from .stores.base import Store
from .waiting import (
    CANCEL,
    FORGOTTEN,
    Hint,
    Waits,
    close,
    deliver,
    hints,
    inbox_key,
    is_settled,
    persist,
    read_answer,
)

__all__ = ["Ran", "Report", "cancel_at_rest", "rest", "resume_ready", "work"]

_LOOK_UP = 0.5
"""Seconds. A signal that comes just before the main thread blocks does not wake it by itself."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a pass did with one execution.

    Attributes
    ----------
    status : str
        How it stands now.
    failure : Exception or None
        Why it could not be run here, such as `CodeNotFoundError`, or what it failed with.
    """

    exec_id: str
    flow: str
    status: str
    failure: BaseException | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        why = f"{type(self.failure).__name__}: {self.failure}" if self.failure is not None else None
        return {"exec_id": self.exec_id, "flow": self.flow, "status": self.status, "failure": why}


@dataclass(slots=True)
class Report:
    """What a pass found and did.

    Attributes
    ----------
    ran : list of Ran
        The executions that it went on with.
    looked : int
        How many executions had a hint.
    left : int
        Those that could have been run as well, beyond `limit`.
    refused : list of Ran
        Those that can go on, and not here: their code is not to be found.
    """

    ran: list[Ran] = field(default_factory=list)
    looked: int = 0
    left: int = 0
    refused: list[Ran] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "ran": [r.to_json() for r in self.ran],
            "refused": [r.to_json() for r in self.refused],
            "looked": self.looked,
            "left": self.left,
        }


def resume_ready(
    store: str | Store | None = None,
    *,
    limit: int | None = None,
    parallel: int = 1,
    code: str | None = None,
    deadline: float | None = None,
    clock: Clock = SYSTEM,
    note: Callable[[str], None] = lambda line: None,
    tell: Callable[[Ran], None] = lambda ran: None,
) -> Report:
    """Go on with all that has become able to: what was answered, is due, has a child that ended, or lost its owner.

    Of executions whose owner is gone these are the ones that somebody spawned, or that run with ``supervised=True``.
    What becomes ready by that is run as well. Costs two listings a round, and eight requests for each that goes on.

    Parameters
    ----------
    store
        An address, or an open store; the current one when left out.
    limit
        Run at most so many.
    parallel
        How many run at once, each in a thread of its own.
    code
        Where the flows' code is: a script, a module, or ``module:flow``; by default it is looked for as by `resume`.
    deadline
        Seconds from now in which this process ends: no execution is begun after that, and each is run with what is
        left of it, as `Flow.options` takes it.
    note
        Told in one line of each that goes on, and of each that cannot.
    tell
        Told of each once it has been run, or could not be.

    Returns
    -------
    Report
        What it found and did.

    Raises
    ------
    StoreError
        The store cannot be used.
    UsageError
        `limit` or `parallel` is less than 1, or `deadline` is not more than 0.
    SystemExit
        Of code 143 after a SIGTERM: what ran is recorded as interrupted, and another pass takes it up. With `parallel`
        it is left before its next step; after ``KITARU_GRACE`` seconds (10) in the midst of one. Ctrl-C does the same.
    """
    if (limit is not None and limit < 1) or parallel < 1:
        raise UsageError(f"limit={limit}, parallel={parallel}: at least one has to run")
    if deadline is not None and not deadline > 0:
        raise UsageError(f"deadline={deadline}: in so many seconds this process ends, which is more than 0")
    the_pass = _Pass(_opened(store), limit, parallel, code, clock, note, tell, deadline)
    with evictable():
        return the_pass.run_apart() if in_loop() else the_pass.run()


def _opened(store: str | Store | None) -> Store:
    return current_store() if store is None else open_store(store) if isinstance(store, str) else store


_Todo: TypeAlias = tuple[str, list[Hint], float]


class _Pass:
    """One pass: rounds, for as long as what ran in one of them may have made something else ready."""

    def __init__(
        self,
        store: Store,
        limit: int | None,
        parallel: int,
        code: str | None,
        clock: Clock,
        note: Callable[[str], None],
        tell: Callable[[Ran], None] = lambda ran: None,
        deadline: float | None = None,
    ) -> None:
        self._store, self._limit, self._parallel, self._code = store, limit, parallel, code
        self._clock, self._note, self._tell = clock, note, tell
        self._until = None if deadline is None else clock.monotonic() + deadline
        self._grace, self._leaving = grace_seconds(), Leaving()
        self._report = Report()
        self._set_aside: set[str] = set()  # looked at, and left alone for the rest of this pass, unless a hint comes
        self._let_go: set[str] = set()  # for this pass it is over, though each has put a hint
        self._known: set[str] = set()  # keys of hints
        self._served: list[str] = []  # keys of hints that are settled
        self._again = False  # what ran may have made something else ready
        self._begun = 0
        self._running: dict[str, str] = {}  # executions, and their flows
        self._lock = threading.Lock()

    @property
    def has_interrupted(self) -> bool:
        """Whether something that it ran was left before its end since this process is to end."""
        return any(r.status == "interrupted" for r in self._report.ran)

    def run(self) -> Report:
        """Make it."""
        report, looked = self._report, set[str]()
        while True:
            found, now = hints(self._store)
            by_name: dict[str, list[Hint]] = {}
            for hint in found:
                by_name.setdefault(hint.exec_id, []).append(hint)
            looked |= by_name.keys()
            new = {hint.exec_id for hint in found if hint.key not in self._known}
            self._known |= {hint.key for hint in found}
            self._again = False
            left_alone = self._let_go | (self._set_aside - new)
            todo = [n for n in by_name if n not in left_alone]
            try:
                self._all([(name, by_name[name], now) for name in todo])
            finally:  # one request for all of them; what stays behind does no harm
                drop(self._store, self._served)
                self._served = []
            report.looked = len(looked)
            if not self._again or (self._limit is not None and len(report.ran) >= self._limit):
                return report

    def _all(self, todo: list[_Todo]) -> None:
        if self._parallel == 1 or len(todo) < 2:
            for each in todo:
                self._one(*each)
            return
        left, failed = deque(todo), list[BaseException]()
        self._in_threads(min(self._parallel, len(todo)), lambda: self._some(left, failed), failed)

    def run_apart(self) -> Report:
        """As `run`, in a thread: within an event loop, since an async flow needs one of its own."""
        done = list[Report]()
        self._in_threads(1, lambda: done.append(self.run()), list[BaseException]())
        return done[0]

    def _in_threads(self, n: int, work: Callable[[], object], failed: list[BaseException]) -> None:
        """Run `work` in so many threads, and wait for them. Raises the first of what is put into `failed`."""
        # An exception of a signal handler within `Thread.join` makes a thread that runs count as ended (bpo-45274).
        ended = [threading.Event() for _ in range(n)]

        def run(end: threading.Event) -> None:
            try:
                work()
            except BaseException as e:
                failed.append(e)
            finally:
                end.set()

        for number, end in enumerate(ended):
            threading.Thread(target=run, args=(end,), name=f"kitaru-pass-{number}", daemon=True).start()
        try:
            for end in ended:
                while not end.wait(_LOOK_UP):
                    pass
        except BaseException:  # SIGTERM, or Ctrl-C
            self._leave(ended)
            raise
        if failed:
            raise failed[0]

    def _some(self, left: deque[_Todo], failed: list[BaseException]) -> None:
        """In a thread: one after the other, until none is left."""
        while not failed and not self._leaving.asked:
            try:
                each = left.popleft()
            except IndexError:
                return
            self._one(*each)

    def _leave(self, ended: Iterable[threading.Event]) -> None:
        """This process ends: what runs in these threads is left before its next step, or when the grace is over."""
        self._leaving.asked = True
        with self._lock:
            if running := ", ".join(self._running):
                self._note(f"kitaru: this process is to end: {running} will be left before the next step")
        until = self._clock.monotonic() + self._grace
        try:
            for end in ended:
                while (rest := until - self._clock.monotonic()) > 0 and not end.wait(min(rest, _LOOK_UP)):
                    pass
        finally:  # Ctrl-C once more ends the grace
            with self._lock:
                for name, flow in self._running.items():
                    self._report.ran.append(Ran(name, flow, "interrupted"))
                    self._note(f"kitaru: {name} is interrupted in the midst of a step")
            self._leaving.interrupt(ASKED_TO_END)

    def _one(self, name: str, found: list[Hint], now: float) -> None:
        """Look at one execution; go on with it if it can. One that is damaged does not keep the others waiting."""
        try:
            self._look_at(name, found, now)
        except (CorruptionError, StoreFormatError) as e:
            self._refuse(name, "", e)

    def _refuse(self, name: str, flow: str, why: KitaruError) -> None:
        ran = Ran(name, flow, "ready", why)
        with self._lock:
            self._set_aside.add(name)
            self._report.refused.append(ran)
        self._note(f"kitaru: {name} cannot go on here: {why}")
        self._tell(ran)

    def _look_at(self, name: str, found: list[Hint], now: float) -> None:
        seen = glimpse(self._store, name)
        state, waits = state_of(seen.reading.segments), Waits.of(seen.reading.records)
        if not seen.reading.n:
            self._served += [h.key for h in found if h.age > FORGOTTEN]
            self._set_aside.add(name)
            return
        if state.begun is None:
            self._set_aside.add(name)
            return
        alive = state.writer is not None and looks_alive(self._store, seen.reading, state, beats=seen.beats)
        if alive:
            self._set_aside.add(name)  # its hints are left: the owner may die
            return
        if CANCEL in seen.inbox and not state.final:
            cancel_at_rest(self._store, seen.reading, self._clock, found)
            self._again = self._again or state.begun.parent is not None
            return
        goes = not state.begun.by_hand and (
            state.writer is not None
            or state.status in {"pending", "interrupted"}
            or (state.status == "waiting" and waits.ready(seen.inbox, now))
        )
        if goes and self._may_run():
            self._go_on(seen, state.begun, waits, found, now)
            return
        if goes:
            self._report.left += 1
            self._set_aside.add(name)
            return
        if state.status in {"completed", "failed", "cancelled"} and state.begun.parent is not None:
            deliver(
                self._store, name, state.begun.parent[0], state.status, self._clock.time(),
                persist(self._store, self._clock, say),
            )  # fmt: skip
        self._served += [h.key for h in found if is_settled(h, state, waits)]
        self._set_aside.add(name)

    def _may_run(self) -> bool:
        with self._lock:
            if self._limit is not None and self._begun >= self._limit:
                return False
            if self._leaving.asked or (self._until is not None and self._clock.monotonic() >= self._until):
                return False
            self._begun += 1
            return True

    def _give_back(self) -> None:
        """It did not run: another one may, of so many as are asked for."""
        with self._lock:
            self._begun -= 1

    def _go_on(self, seen: Glimpse, begun: Begun, waits: Waits, found: list[Hint], now: float) -> None:
        name = seen.reading.exec_id
        try:
            flow, _ = find_flow(begun, self._code)
        except KitaruError as e:
            self._give_back()
            self._refuse(name, begun.flow, e)
            return
        self._note(f"kitaru: {name} goes on")
        options = Options(
            name, raises=False, store=self._store, clock=self._clock, announces=False, only_there=True,
            answers=self._answers(name, seen, waits), now=now, hints=tuple(found), served=self._served,
            deadline=self._time_left(), leaving=self._leaving, may_exit=False,
        )  # fmt: skip
        with self._lock:
            self._running[name] = begun.flow
        try:
            handle = resume(flow, seen.reading, options)
        except Moved:
            self._give_back()
            return  # somebody else goes on with it
        except KitaruError as e:
            if isinstance(e, StoreError) and not isinstance(e, (CorruptionError, StoreFormatError)):
                raise
            self._give_back()
            self._refuse(name, begun.flow, e)
            return
        except BaseException as e:  # the flow's body was left; that is recorded
            ran = Ran(name, begun.flow, "interrupted", e)
            self._let_go.add(name)
            self._report.ran.append(ran)
            self._note(f"kitaru: {name} is interrupted by {type(e).__name__}")
            self._tell(ran)
            raise
        finally:
            self._leaving.remove(name)
            with self._lock:
                self._running.pop(name, None)
        if handle.status == "interrupted":
            self._let_go.add(name)
        elif handle.status == "waiting" or begun.parent is not None or handle.tally.spawned:
            self._again = True
        ran = Ran(name, begun.flow, handle.status, _failure(handle))
        with self._lock:
            self._report.ran.append(ran)
        self._note(f"kitaru: {name} is {handle.status}")
        self._tell(ran)

    def _time_left(self) -> float | None:
        return None if self._until is None else max(self._until - self._clock.monotonic(), 0.001)

    def _answers(self, name: str, seen: Glimpse, waits: Waits) -> dict[str, Answered]:
        """What its inbox holds for waits that are open: the flow asks for it in a moment."""
        known: dict[str, Answered] = {}
        for wait in waits.open:
            if inbox_key(name, wait).rpartition("/")[2] in seen.inbox:
                read = partial(read_answer, self._store, name, wait)
                answer = persist(self._store, self._clock, say)(read, "the inbox")
                if answer is not None:
                    known[wait] = answer
        return known


def _failure(handle: Handle) -> BaseException | None:
    return handle.error if handle.status in {"failed", "cancelled"} else None


def cancel_at_rest(store: Store, reading: Reading, clock: Clock, found: Iterable[Hint] = ()) -> bool:
    """Carry a cancel out on an execution that nobody runs. False: somebody does by now, and will see it."""
    exec_id = reading.exec_id
    request = persist(store, clock, say)(lambda: read_answer(store, exec_id, CANCEL), "the inbox")
    reason = request.reason if request is not None else ""
    claimed = claim(store, exec_id, clock=clock, reading=reading, only_there=True, say=say, budget=store_budget())
    return claimed is not None and rest(store, claimed, Release("cancelled", reason, clock.time()), clock, found)


def rest(store: Store, claimed: Claimed, release: Release, clock: Clock, found: Iterable[Hint] = ()) -> bool:
    """Record how an execution rests that was claimed for nothing else. An end closes its waits, and is delivered."""
    journal, beat, begun = claimed.journal, claimed.beat, claimed.state.begun
    if journal is None or beat is None or begun is None:
        return False
    try:
        exec_id, waits = claimed.reading.exec_id, Waits.of(claimed.reading.records)
        if release.status == "cancelled":
            for wait in waits.to_close(release.status):
                closing = Answered(wait, "closed", None, "", release.status, clock.time(), new_nonce())
                closed = close(store, exec_id, closing, journal.insist)
                journal.add(closed)
                waits.learn(closed)
        journal.add(release)
        journal.flush()
        if begun.parent is not None and release.status == "cancelled":
            deliver(store, exec_id, begun.parent[0], release.status, clock.time(), journal.insist)
        journal.close()
        beat.end(release.status, [h.key for h in found if is_settled(h, State(status=release.status), waits)])
    except Halt as halt:
        beat.end()  # a process that lives on must not look as if it ran this one
        raise halt.error from halt.__cause__
    except BaseException:  # Ctrl-C, or SIGTERM
        give_back(journal, beat, claimed.state)
        raise
    if release.status == "cancelled":
        with suppress(Exception):  # derived: made again where it is missing
            store.put(lineage_key(exec_id), dumps(build(read_origin(store, exec_id).data)))
    return True


def work(
    store: str | Store | None = None,
    *,
    poll: float = 2.0,
    parallel: int = 1,
    code: str | None = None,
    clock: Clock = SYSTEM,
    note: Callable[[str], None] = lambda line: None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Make one pass after the other, until the process is asked to end.

    Parameters
    ----------
    poll
        Seconds between two passes. Where the store does not answer they grow to a minute.
    until
        Asked before each pass; where it gives True, this returns.

    Returns when a SIGTERM or Ctrl-C comes while nothing runs.

    Raises
    ------
    SystemExit, KeyboardInterrupt
        After a SIGTERM, of code 143, or Ctrl-C, where something ran that had to be left: see `resume_ready`.
    UsageError
        `poll` is not more than 0, or `parallel` is less than 1.
    """
    if not poll > 0 or parallel < 1:
        raise UsageError(f"poll={poll}, parallel={parallel}: seconds between two passes, and how many run: more than 0")
    opened, pause = _opened(store), poll
    last: _Pass | None = None
    try:
        with evictable():
            while not until():
                last = _Pass(opened, None, parallel, code, clock, note)
                try:
                    last.run_apart() if in_loop() else last.run()
                    pause = poll
                except StoreError as e:
                    note(f"kitaru: {e}")
                    pause = min(max(pause * 2, poll), 60.0)
                last = None
                _sleep(clock, pause)
    except (SystemExit, KeyboardInterrupt) as e:
        if isinstance(e, SystemExit) and e.code != EVICTED:
            raise
        if last is not None and last.has_interrupted:
            raise


def _sleep(clock: Clock, seconds: float) -> None:
    until = clock.monotonic() + seconds
    while (rest := until - clock.monotonic()) > 0:
        clock.sleep(min(rest, _LOOK_UP))
