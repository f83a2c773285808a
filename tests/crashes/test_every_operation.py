"""The campaign in the process: a crash at every store operation, before and after it, on every store.

Each resume crashes once more, at an operation that follows from the first. Then what the campaign must notice: mistakes
that were made on purpose.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import pytest

from kitaru import attempts, calls, engine
from kitaru.artifacts import Recorder
from kitaru.blobs import Upload
from kitaru.context import current
from kitaru.errors import KitaruError
from kitaru.flows import Options
from kitaru.journal import Journal
from kitaru.runs import Run, start
from kitaru.stores import LocalStore, MemoryStore
from kitaru.stores.base import Store
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at

from . import audit as script, oracle

# A crash leaves coroutines behind, as a dead process would; what becomes of them when they are collected is no matter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")

MOST = 40
"""Store operations that the flow makes without a crash, at the most."""
CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)


@dataclass
class Told:
    """What one execution's bodies said: in this attempt, as long as its process is not dead, and how often in all."""

    store: FaultyStore
    lines: list[str] = field(default_factory=list)
    all: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told]:
    """What was said, by execution; and nobody waits before a retry."""
    told: dict[str, Told] = {}
    lock = threading.Lock()

    def say(line: str) -> int:
        frame = current.get()
        assert frame is not None
        to = told[frame.engine.exec_id]
        with lock:
            if not to.store.dead:
                to.lines.append(line)
                to.all[line] += 1
            return to.all[line]

    monkeypatch.setitem(script.sink, "say", say)
    monkeypatch.setattr(engine, "_backoff", lambda tries: 0.0)
    return told


def attempt(store: FaultyStore, exec_id: str, said: dict[str, Told]) -> tuple[dict | None, list[str]]:
    """One process's try; None where it crashed."""
    told = said[exec_id] = Told(store, all=said[exec_id].all if exec_id in said else Counter())
    try:
        handle = start(Run(script.audit, Options(exec_id, store=store), (oracle.TURNS,), {}))
        return handle.get(), told.lines
    except (SimulatedCrash, KitaruError):
        assert store.dead  # the crash may have met the heartbeat's thread, which halts the journal
        return None, told.lines


def crash_and_resume(inner: Store, exec_id: str, faults: list[tuple[int, Fault]], said: dict[str, Told]) -> int:
    """Crash at one operation of each attempt in turn, then let it end. Gives how many attempts came to theirs."""
    before, reader = oracle.Seen(), oracle.ReadOnce(inner)
    for again in count():
        store = FaultyStore(inner, fault_at(*faults[again])) if again < len(faults) else FaultyStore(inner)
        result, lines = attempt(store, exec_id, said)
        after = oracle.look(reader, exec_id)
        oracle.check_attempt(before, after, lines)
        if result is not None:
            oracle.check_result(result, after)
            assert store.dead is False
            return again
        assert again < len(faults), "it crashed though nobody asked for it"
        before = after
    raise AssertionError


def campaign(make_store: Callable[[str], Store], said: dict[str, Told], workers: int = 1) -> tuple[int, int]:
    """Every operation, before and after it. Gives how many executions crashed, and how many of them twice."""
    said.clear()  # of a campaign before it in the same test
    most = 0
    for calm in range(3):  # threads make the number vary a little
        store = FaultyStore(make_store(f"calm-{calm}"))
        assert attempt(store, f"calm-{calm}", said)[0] is not None
        assert said[f"calm-{calm}"].all["begin flaky "] == 2
        most = max(most, store.count())
    assert most <= MOST

    def one(case: tuple[int, Fault]) -> int:
        k, fault = case
        name = f"{k}-{fault.name.lower()}"
        rng = random.Random(name)
        second = rng.randint(1, max(6, most + 6 - k)), rng.choice(CRASHES)
        try:
            return crash_and_resume(make_store(name), f"audit-{name}", [case, second], said)
        except BaseException as e:
            e.add_note(f"crashed at operation {k}, {fault.name}, and then at operation {second[0]}, {second[1].name}")
            raise

    cases = [(k, fault) for k in range(1, most + 2) for fault in CRASHES]
    with ThreadPoolExecutor(workers) as pool:
        crashes = [*pool.map(one, cases)]
    return sum(n > 0 for n in crashes), sum(n > 1 for n in crashes)


def test_a_crash_at_every_operation_in_memory(said) -> None:
    once, twice = campaign(lambda name: MemoryStore(f"campaign-{name}"), said)
    assert once > 50
    assert twice > 40


def test_a_crash_at_every_operation_on_a_folder(said, tmp_path) -> None:
    once, twice = campaign(lambda name: LocalStore(tmp_path / name), said)
    assert once > 50
    assert twice > 40


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto_s3", "seaweedfs_s3"])
def test_a_crash_at_every_operation_on_s3(said, server, request) -> None:
    factory = request.getfixturevalue(server)
    once, twice = campaign(lambda name: factory(), said, workers=4)
    assert once > 50
    assert twice > 40


# ---------------------------------------------------------------- what it must notice


def start_before_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    perform = engine.Engine.perform

    def early(self, made):
        if isinstance(made, calls.Made) and made.blobs:
            with self.lock:
                ticket = self.history.write(made.started)
            yield attempts.Durable(self.journal, ticket)
            yield attempts.Uploads(self.recorder, made.blobs)
            made.blobs = []
        return (yield from perform(self, made))

    monkeypatch.setattr(engine.Engine, "perform", early)


def go_on_before_the_end_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_) -> None:
        return None

    monkeypatch.setattr(attempts.Durable, "run", lambda _: None)
    monkeypatch.setattr(attempts.Durable, "arun", at_once)


def end_before_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, run = engine.Engine._outputs, attempts.Durable.run
    late: list[tuple[Journal, Recorder, Upload]] = []

    def without(self, step, label, value, blobs):
        own: list[Upload] = []
        values = outputs(self, step, label, value, own)
        late.extend((self.journal, self.recorder, upload) for upload in own)
        return values

    def then_upload(self) -> None:
        run(self)
        mine = [x for x in late if x[0] is self.journal]
        late[:] = [x for x in late if x not in mine]
        for _, recorder, upload in mine:
            recorder.upload([upload])

    monkeypatch.setattr(engine.Engine, "_outputs", without)
    monkeypatch.setattr(attempts.Durable, "run", then_upload)


@pytest.mark.parametrize("mistake", [start_before_its_inputs, go_on_before_the_end_is_durable, end_before_its_outputs])
def test_the_campaign_notices_a_mistake(mistake, said, monkeypatch) -> None:
    mistake(monkeypatch)
    for turn in range(5):  # on a busy machine threads take other turns, and one campaign may miss it
        try:
            campaign(lambda name, turn=turn: MemoryStore(f"{mistake.__name__}-{turn}-{name}"), said)
        except (AssertionError, KitaruError) as noticed:
            if any("crashed at operation" in note for note in getattr(noticed, "__notes__", ())):
                return  # without a crash it goes well
    pytest.fail("five campaigns did not notice it")
