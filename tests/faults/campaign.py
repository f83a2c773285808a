"""The simulated campaign: random programs, and random actors who work on them, die and are held up.

One run is one store with one or two programs. Owners die before and after any operation, requests and answers are lost
or late, clocks jump, passes and people act in the midst of each other's work. Then all faults end, passes carry on what
they can alone, people answer what is still asked, and everything must have ended as its program says. See `Book.check`.
"""

from __future__ import annotations

import io
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from kitaru import KitaruClient, answering, ownership
from kitaru.context import Frame
from kitaru.errors import KitaruError
from kitaru.ownership import state_of
from kitaru.reading import read_journal
from kitaru.records import Ended
from kitaru.stores import LocalStore
from kitaru.stores.base import Entry, Store
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, Late, Operation, SimulatedCrash
from kitaru.waiting import read_answer

from . import programs
from .programs import DEFAULT, Drawing, Ops
from .scene import CRASHES, ENDED, Scene, apart

TURNS = 12
"""At most so many actors act, one after the other, before the faults end; others act in their midst."""


class Clocked(LocalStore):
    """A folder whose clock is the test's."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        super().__init__(folder)
        self._clock, self._written = clock, dict[str, float]()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        done = super().put_if_absent(key, data)
        if done:
            self._written[key] = self._clock.time()
        return done

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        self._written[key] = self._clock.time()

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        now = self._clock.time()
        for entry in super().list(prefix, after=after):
            yield entry._replace(modified=self._written.get(entry.key, now), now=now)

    def now(self) -> float:
        return self._clock.time()


class Book(Scene):
    """What was begun, who said what, who was told that it counts; and what must be true in the end."""

    def __init__(self, store: Store | None, server: ManualClock | None, rng: Random, drawing: Drawing) -> None:
        super().__init__(store, server)
        self.rng = rng
        self.programs: dict[str, Ops] = {}  # of the roots
        self.flows: dict[str, Any] = {}
        self.supervised: dict[str, bool] = {}
        self.accepted: dict[tuple[str, str], str] = {}  # who was told "accepted", by execution and wait
        self.values: dict[str, Any] = {}  # what they gave
        self.unsure: set[str] = set()  # who was not told
        self.cancelled: set[str] = set()
        self.people = 0
        self.tally: Counter[str] = Counter()
        self.diary: list[str] = []
        self.violations: list[str] = []
        self.others = set(ownership._live)  # of whatever else runs in this process
        for i in range(rng.choice([1, 1, 2])):
            name, ops = drawing.program()
            self.programs[f"root-{i}"], self.flows[f"root-{i}"] = ops, getattr(programs, name)
            self.supervised[f"root-{i}"] = rng.random() < 0.7

    def person(self, exec_id: str, wait: str) -> tuple[str, Callable[[Store], None]]:
        """Somebody who answers a wait, and the act itself."""
        self.people += 1
        who = f"person {self.people}"
        opened = self.waits(exec_id).open.get(wait)
        self.values[who] = "rerun" if opened is not None and opened.about == "doubt" else f"said by {who}"
        self.unsure.add(who)

        def act(store: Store) -> None:
            given = self.give(exec_id, wait, self.values[who], who, store)
            self.unsure.discard(who)
            if given:
                self.tally["accepted"] += 1
                assert (exec_id, wait) not in self.accepted, "two were told that their answer was accepted"
                self.accepted[exec_id, wait] = who
            else:
                self.tally["refused"] += 1

        return who, act

    def answer_late(self, exec_id: str, wait: str) -> None:
        self.person(exec_id, wait)[1](self.store)

    def check(self) -> None:
        """Nothing lost, nothing doubled, everything ended as its program says."""
        assert not self.violations, self.violations
        beats = ownership._live - self.others
        assert not beats, f"an owner that ended still beats: {beats}"
        for name, ops in self.programs.items():
            self._check_execution(name, ops)
        for (exec_id, wait), who in self.accepted.items():
            answer = self.waits(exec_id).answers.get(wait)
            assert answer is not None, f"the answer of {who} to {wait} of {exec_id} was accepted, and is lost"
            assert (answer.how, answer.who) == ("answered", who), f"{who} was accepted, and {answer} counts"
        for name in self.executions():
            for answer in self.waits(name).answers.values():
                if answer.how == "answered" and answer.who not in self.unsure:
                    assert self.accepted.get((name, answer.wait)) == answer.who, f"{answer.who} was refused, and counts"
        self.tally["executions"] += len(self.executions())

    def _check_execution(self, name: str, ops: Ops) -> None:
        execution = KitaruClient(self.store).executions.get(name)
        status = execution.status.value
        self.tally[status] += 1
        if status == "cancelled":
            assert name in self.cancelled
            return
        if status == "failed":
            assert programs.may_fail(ops)
            return
        said: list[Any] = []

        def answered(wait: str, value: Any) -> None:
            if value not in {DEFAULT, None}:
                assert value in self.values.values(), (wait, value)
                said.append(value)

        steps = programs.check_result(ops, execution.result, answered)
        given = [a.who for a in self.waits(name).answers.values() if a.how == "answered"]
        counts = Counter(self.values[who] for who in given if self.values[who] != "rerun")
        assert Counter(said) == counts, f"{name} was given {counts}, and went on with {said}"
        labels = [c.label for c in execution.checkpoints]
        assert len(set(labels)) == len(labels), "two records at one place"
        there = Counter(c.name for c in execution.checkpoints)
        if self.flows.get(name) is programs.tale:
            assert {n: there[n] for n in steps} == dict(steps), (there, steps)


class Run(Book):
    """One run of the campaign, which follows from a seed and a number. (But for how threads take turns.)"""

    def __init__(self, seed: int, k: int, folder: Path | None = None) -> None:
        rng, server = Random(f"{seed}/{k}"), ManualClock()
        super().__init__(None if folder is None else Clocked(folder, server), server, rng, Drawing(rng))
        self.stores: list[FaultyStore] = []
        self.evictions: dict[FaultyStore, int] = {}  # how many bodies begin before a SIGTERM comes
        self.is_over = False
        self.elsewhere = rng.random() < 0.5  # owners see each other's heartbeats alone

    # ------------------------------------------------------------ the whole of it

    def carry_out(self) -> Counter[str]:
        """Gives what happened, by kind."""
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(programs.sink, {"began": self._began}))
            stack.enter_context(redirect_stderr(io.StringIO()))
            if self.elsewhere:
                said = mock.patch.object(ownership, "_said_by_system", return_value=None)
                stack.enter_context(said)
            try:
                self._turns()
                self._recover()
                self.check()
            except BaseException as e:
                e.add_note(f"programs: {self.programs}")
                for line in self.diary:
                    e.add_note(line)
                raise
        return self.tally

    def _turns(self) -> None:
        for name in self.programs:
            deadline = self.rng.choice([None, None, None, 40.0])
            self._attempt(f"begin {name}", lambda store, name=name, d=deadline: self._begin(name, store, deadline=d))
        for _ in range(self.rng.randint(3, TURNS)):
            self._turn(0)

    def _begin(self, name: str, store: Store, **options: Any) -> None:
        options |= {"supervised": self.supervised[name], "max_workers": 4}
        self.begin(self.flows[name], name, self.programs[name], store=store, **options)

    # ------------------------------------------------------------ actors

    def _turn(self, depth: int) -> None:
        """Somebody acts: from the beginning to the end, or till he dies."""
        acts = {
            "pass": 4.0,
            "two passes": 0.7 if depth == 0 else 0,
            "answer": 4.0,
            "resume": 1.0,
            "later": 2.0,
            "jump": 0.3,
            "cancel": 0.15,
            "pause": 0.3,
            "abort": 0.1,
            "late": 0.5 if depth == 0 else 0,
            "hold up": 1.5 if depth else 0,
        }
        (word,) = self.rng.choices([*acts], [*acts.values()])
        getattr(self, "_" + word.replace(" ", "_"))(depth)

    def _attempt(self, what: str, act: Any, depth: int = 0, length: int = 30) -> None:
        """One process's life. It makes about so many requests."""
        store = FaultyStore(self.store, self._plan(depth, length))
        self.stores.append(store)
        if self.rng.random() < 0.15:
            self.evictions[store] = self.rng.randint(0, 3)
        at = len(self.diary)
        self.diary.append(what)
        try:
            act(store)
        except SimulatedCrash:
            pass
        except (KitaruError, SystemExit) as e:
            self.tally["evictions"] += isinstance(e, SystemExit)
            self.diary[at] += f": {type(e).__name__}: {e}"
        if store.dead:
            self.tally["crashes"] += 1
            self.diary[at] += f": died at {store.log[-1] if store.log else 'once'}"
        for name in self.executions():
            for child in {entry.key.rpartition("/")[2] for entry in self.store.list(f"executions/{name}/inbox/")}:
                if (told := read_answer(self.store, name, child)) is not None and told.how == "ended":
                    assert self.state(child).status in ENDED, f"{name} is told of the end of {child}, which has none"

    def _plan(self, depth: int, length: int) -> Any:
        """What goes wrong for one process, drawn beforehand: by the numbers of its operations."""
        rng, what = self.rng, dict[int, Any]()
        if rng.random() < 0.5:
            what[int(rng.expovariate(2 / length)) + 1] = rng.choice(CRASHES)
        if rng.random() < 0.3:
            faults = [Fault.LOSE_REQUEST, Fault.LOSE_RESPONSE, Fault.UNAVAILABLE, Late(rng.randint(1, 30)), Late()]
            for _ in range(rng.randint(1, 4)):
                what.setdefault(rng.randint(1, length), rng.choice(faults))
        if depth < 2 and rng.random() < 0.5:
            for _ in range(rng.randint(1, 2)):
                what.setdefault(rng.randint(1, length), "somebody acts")

        def plan(operation: Operation) -> Fault | Late | None:
            fault = what.get(operation.n)
            if fault == "somebody acts":
                self.tally["in the midst"] += 1
                apart(lambda: self._turn(depth + 1))
                return None
            if fault is not None and fault not in CRASHES:
                self.tally["requests lost, late or refused"] += 1
            return fault

        return plan

    def _pass(self, depth: int) -> None:
        limit = self.rng.choice([None, None, 1])
        parallel, deadline = self.rng.choice([1, 1, 3]), self.rng.choice([None, None, None, 40.0])
        options = {"limit": limit, "parallel": parallel, "deadline": deadline}
        self._attempt("pass", lambda store: self.ready(store, **options), depth)

    def _two_passes(self, depth: int) -> None:
        """At the same time."""
        both = [threading.Thread(target=self._pass, args=(2,)) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()

    def _answer(self, depth: int) -> None:
        open_ones = [*self.asked()]
        if not open_ones:
            return
        exec_id, wait = self.rng.choice(open_ones)
        for _ in range(self.rng.choice([1, 1, 2])):
            self._person_answers(exec_id, wait, depth)

    def _person_answers(self, exec_id: str, wait: str, depth: int) -> None:
        who, act = self.person(exec_id, wait)
        self._attempt(f"{who} answers {wait} of {exec_id}", act, depth, 6)

    def _some(self) -> str | None:
        there = self.executions()
        return self.rng.choice(there) if there else None

    def _resume(self, depth: int) -> None:
        name = self._some()
        if name is not None and self.state(name).status not in ENDED:
            self._attempt(f"resume {name}", lambda store: self.resume(name, store), depth)

    def _cancel(self, depth: int) -> None:
        name = self._some()
        if name is not None and self.state(name).status not in {"completed", "failed"}:
            self.cancelled.add(name)
            self.tally["cancels"] += 1
            self._attempt(f"cancel {name}", lambda store: self.cancel(name, store), depth, 10)

    def _pause(self, depth: int) -> None:
        if (name := self._some()) is not None:
            self._attempt(f"pause {name}", lambda store: self.pause(name, store), depth, 10)

    def _abort(self, depth: int) -> None:
        name = self._some()
        waits = [*self.waits(name).open] if name is not None else []
        if waits:
            wait = self.rng.choice(waits)
            self._attempt(
                f"abort {wait} of {name}",
                lambda store: answering.abort(store, name, wait, reason="", who="carl", clock=self.clock),
                depth,
                6,
            )

    def _later(self, depth: int) -> None:
        seconds = self.rng.choice([1, 5, 30, 70, 700, 4000])
        self.tally["time passes"] += 1
        self.diary.append(f"{seconds} s pass")
        self.server.advance(seconds)
        if self.rng.random() < 0.5:
            self.clock.advance(seconds)

    def _hold_up(self, depth: int) -> None:
        """Whoever is in the midst of something is held up for longer than his lease, and others make a pass."""
        self.tally["held up beyond the lease"] += 1
        self.server.advance(100)
        self._pass(depth)

    def _jump(self, depth: int) -> None:
        self.tally["clock jumps"] += 1
        self.clock.set_back(self.rng.choice([-1e6, -100.0, 100.0, 1e6]))

    def _late(self, depth: int) -> None:
        if self.stores:
            self.rng.choice(self.stores).deliver_late()

    # ------------------------------------------------------------ what a body tells

    def _began(self, frame: Frame) -> None:
        """A body begins, in a process that lives, and owns the execution as far as anybody can know."""
        store, engine = frame.engine.store, frame.engine
        if isinstance(store, FaultyStore) and store.dead:
            return
        reading = read_journal(self.store, engine.exec_id)
        if state_of(reading.segments).writer != engine.journal.writer:
            self.tally["bodies of who was taken over"] += 1  # it will be fenced: nothing of it counts
            return
        self.tally["bodies"] += 1
        self._take_time(frame)
        self._evict(store)
        if any(isinstance(r, Ended) and r.ok and r.id == frame.record for r in reading.records):
            self.violations.append(f"{frame.label} of {engine.exec_id} had finished, and ran again")

    def _take_time(self, frame: Frame) -> None:
        """Some bodies take long, and in some their process is held up for longer than a lease."""
        if self.is_over:
            return
        what = zlib.crc32(f"{frame.engine.exec_id}/{frame.label}".encode()) % 12
        if what < 2:
            self.clock.advance(25)
            self.server.advance(25)
        elif what == 2:
            self.server.advance(70)

    def _evict(self, store: Store) -> None:
        """SIGTERM comes as the body begins, in the main thread of its process."""
        if not threading.current_thread().name.startswith("kitaru-") and store in self.evictions:
            self.evictions[store] -= 1
            if self.evictions[store] < 0:
                raise SystemExit(143)

    # ------------------------------------------------------------ the end

    def passes_alone(self, rounds: int = 3) -> None:
        """The leases of the dead run out first."""
        self.server.advance(self.rng.choice([100, 4000]))
        super().passes_alone(rounds)

    def _recover(self) -> None:
        for store in self.stores:
            store.crash()
            store.deliver_late()
        self.diary.append("all faults end")
        self.is_over = True
        for name in self.programs:
            if name not in self.executions():
                self._begin(name, self.store)
        self.end_all()


def one(seed: int, k: int, folder: Path | None = None) -> Counter[str]:
    """One run. Whatever it finds says how to repeat it."""
    try:
        return Run(seed, k, folder).carry_out()
    except BaseException as e:
        e.add_note(f"repeat it with: python -m tests.faults --seed {seed} --from {k} --runs 1")
        raise
