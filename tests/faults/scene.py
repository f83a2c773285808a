"""What the tests of this room share: a place with a clock of its own, actors that die, and what must hold after all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from kitaru import answering
from kitaru.errors import KitaruError
from kitaru.flows import Flow, Options
from kitaru.handles import Handle
from kitaru.ownership import State, state_of
from kitaru.passes import Report, resume_ready
from kitaru.reading import read_journal
from kitaru.records import Begun, Ended
from kitaru.runs import Run, resume, start
from kitaru.sources import find_flow
from kitaru.stores import MemoryStore
from kitaru.stores.base import Store
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, Operation, SimulatedCrash, fault_at
from kitaru.verification import verify
from kitaru.waiting import CANCEL, Waits, read_answer

from ..journal.scene import check

ENDED = frozenset({"completed", "failed", "cancelled"})
CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)


class Scene:
    """One store, and whoever works on it. Its clock and theirs are two."""

    def __init__(self, store: Store | None = None, server: ManualClock | None = None) -> None:
        self.server = server or ManualClock()
        self.clock = ManualClock(start=1_700_000_000.0)
        self.store: Store = store or MemoryStore(clock=self.server.time)

    # ------------------------------------------------------------ actors

    def begin(
        self, flow: Flow[..., Any], exec_id: str, *args: Any, store: Store | None = None, **options: Any
    ) -> Handle:
        """Run a flow under a name, or go on with it."""
        return start(Run(flow, self._options(exec_id, store, **options), args, {}))

    def resume(self, exec_id: str, store: Store | None = None, **options: Any) -> Handle:
        """As `kitaru resume`."""
        reading = read_journal(store or self.store, exec_id)
        begun = state_of(reading.segments).begun
        assert begun is not None
        return resume(find_flow(begun, None)[0], reading, self._options(exec_id, store, **options))

    def _options(self, exec_id: str, store: Store | None, **options: Any) -> Options:
        return Options(exec_id, store=store or self.store, clock=self.clock, raises=False, announces=False, **options)

    def ready(self, store: Store | None = None, **options: Any) -> Report:
        """One pass."""
        return resume_ready(store or self.store, clock=self.clock, **options)

    def give(self, exec_id: str, wait: str, value: Any, who: str = "ann", store: Store | None = None) -> bool:
        """Answer a wait. Whether it was accepted; False: it was refused, and nothing is said where that is unknown."""
        try:
            answering.give(store or self.store, exec_id, wait, value, who=who, clock=self.clock)
        except KitaruError as e:
            if isinstance(e, (answering.WaitClosedError, answering.NotFoundError)):
                return False
            raise
        return True

    def cancel(self, exec_id: str, store: Store | None = None) -> str:
        return answering.cancel(store or self.store, exec_id, reason="enough", who="bob", clock=self.clock)

    def pause(self, exec_id: str, store: Store | None = None) -> str:
        return answering.pause(store or self.store, exec_id, reason="later", who="bob", clock=self.clock)

    # ------------------------------------------------------------ what is there

    def executions(self) -> list[str]:
        return sorted({e.key.split("/")[1] for e in self.store.list("executions/") if "/journal/" in e.key})

    def state(self, exec_id: str) -> State:
        return state_of(read_journal(self.store, exec_id).segments)

    def waits(self, exec_id: str) -> Waits:
        return Waits.of(read_journal(self.store, exec_id).records)

    def hints(self) -> list[str]:
        return [e.key for prefix in ("ready/", "timers/") for e in self.store.list(prefix)]

    def asked(self) -> Iterator[tuple[str, str]]:
        """The open waits that a person can answer: (exec_id, wait)."""
        for name in self.executions():
            for wait in self.waits(name).open.values():
                if wait.about in {"answer", "doubt"} and read_answer(self.store, name, wait.wait) is None:
                    yield name, wait.wait

    # ------------------------------------------------------------ what must hold

    def passes_alone(self, rounds: int = 3) -> None:
        """Passes carry on whatever they find, as time goes by; then nothing may be left that they should have found."""
        for _ in range(rounds):
            self.server.advance(1.0)
            self.ready()
            self.ready()  # a hint that lay there already, and is put again meanwhile, is the next pass's
        self.check_found()

    def check_found(self) -> None:
        """Nothing waits for what is there already, and nothing that was answered or spawned lies about."""
        now = self.server.time()
        for name in self.executions():
            state, waits = self.state(name), self.waits(name)
            if state.final:
                continue
            assert read_answer(self.store, name, CANCEL) is None, f"nobody finds the cancel of {name}: {state.status}"
            if state.status in {"paused", "failed"}:
                continue
            for wait in waits.open.values():
                over = read_answer(self.store, name, wait.wait) is not None
                over = over or (wait.due is not None and wait.due <= now)
                over = over or (wait.about == "child" and self.state(wait.wait).status in ENDED)
                assert not over, f"nobody finds {name}, whose {wait.wait} is over: {state.status}"
            begun = state.begun
            assert begun is not None
            watched = self._is_spawned(begun) or begun.options.get("supervised")
            assert not (watched or waits.answers) or waits.open, f"nobody carries on {name}: {state.status}"
            assert not watched or state.writer is None, f"{name} was left claimed by somebody who died"

    def _is_spawned(self, begun: Begun) -> bool:
        """Whether its parent has it: whoever died before that spawns it again, and hints then."""
        if begun.parent is None:
            return False
        records = read_journal(self.store, begun.parent[0]).records
        return any(isinstance(r, Ended) and r.id == begun.parent for r in records)

    def answer_late(self, exec_id: str, wait: str) -> None:
        """What nobody has answered by the end."""
        about = self.waits(exec_id).open[wait].about
        self.give(exec_id, wait, "late" if about == "answer" else "rerun")

    def end_all(self) -> None:
        """Passes alone; then people resume and answer as well. Everything ends, and no hint stays."""
        self.passes_alone()
        for _ in range(60):
            for name in self.executions():
                state = self.state(name)
                if state.status == "paused" or (state.status not in ENDED and not self.waits(name).open):
                    self.resume(name)
            for name, wait in [*self.asked()]:
                self.answer_late(name, wait)
            self.passes_alone(1)
            if all(self.state(name).status in ENDED for name in self.executions()):
                break
        for name in self.executions():
            assert self.state(name).status in ENDED, f"{name} never ends: {self.state(name).status}"
        self.server.advance(4000.0)  # hints of what nobody began go after a while
        self.ready()
        assert not self.hints(), "hints were left behind"
        self.check_journals()

    def check_journals(self) -> None:
        for name in self.executions():
            check(self.store, name)
            lost = [f for f in verify(self.store, name).findings if not f.derived]
            assert not lost, lost  # what is derived may be missing after a crash, and is made again


def apart(act: Callable[[], Any]) -> None:
    """Do it in another thread, as another process would: what is bound in this one is not seen. Raises what it does."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def dying(act: Callable[[Store], Any], scene: Scene, n: int, fault: Fault, method: str | None = None) -> bool:
    """An actor that dies at its `n`-th operation. Whether it came to that."""
    store = FaultyStore(scene.store, fault_at(n, fault, method=method))
    try:
        act(store)
    except SimulatedCrash:
        pass
    except KitaruError:
        if not store.dead:  # the crash may have met the heartbeat's thread, which halts the journal
            raise
    return store.dead


def before(n: int, act: Callable[[], Any], *, only: Callable[[Operation], bool] = lambda op: True):
    """A plan in which somebody else acts, from beginning to end, just before the `n`-th operation of this kind."""
    count = 0

    def plan(operation: Operation) -> None:
        nonlocal count
        count += only(operation)
        if only(operation) and count == n:
            apart(act)

    return plan
