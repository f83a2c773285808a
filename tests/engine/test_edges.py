"""Where the engine could keep its word less well than it seems: each of these once went wrong."""

from __future__ import annotations

import asyncio
import random
import sys
import time

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import KitaruDivergenceError, StoreFullError
from kitaru.flows import Options
from kitaru.reading import read_journal
from kitaru.records import Started
from kitaru.runs import Run, start
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import Fault, FaultyStore

from ..large import noise

# What the bodies share with their tests: a free variable of theirs would count as an argument.
ran: list[str] = []
state: dict[str, object] = {}


@pytest.fixture(autouse=True)
def _forget():
    ran.clear()
    state.clear()
    state.update(first=True)


def run(of, store, exec_id="x", **options):
    return start(Run(of, Options(exec_id, store=store, **options), (), {}))


def first_try_is_interrupted(of, store, **options) -> None:
    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        run(of, store, **options)


def test_an_idempotency_key_is_handed_out_once_the_steps_start_is_durable(store) -> None:
    standing: list[bool] = []

    @checkpoint
    def charge() -> str:
        key = kitaru.idempotency_key()
        records = read_journal(store, "x").records
        standing.append(any(isinstance(r, Started) and r.name == "charge" for r in records))
        return key

    @flow
    def pays() -> str:
        return charge()

    assert len(run(pays, store).get()) == 32
    assert standing == [True]


def test_a_store_that_does_not_answer_while_a_recorded_output_is_read_is_no_failure_of_the_step(store) -> None:
    state.update(interrupt=True, asked=0)

    @checkpoint
    def fetch() -> bytes:
        return noise(100_000)

    @checkpoint
    def after(n: int) -> int:
        if state["interrupt"]:
            raise KeyboardInterrupt
        return n

    @flow
    def reads() -> int:
        try:
            page = fetch()
        except Exception:
            page = b""  # what a careless body does
        return after(len(page))

    first_try_is_interrupted(reads, store)
    state["interrupt"] = False

    def plan(operation):
        if operation.method == "get" and operation.key.startswith("blobs/"):
            state["asked"] += 1
            return Fault.UNAVAILABLE if state["asked"] == 1 else None
        return None

    assert run(reads, FaultyStore(store, plan)).get() == 100_000
    assert state["asked"] == 2


def test_a_retry_finds_what_its_failed_attempt_had_reused(store, monkeypatch) -> None:
    monkeypatch.setattr("kitaru.engine._backoff", lambda tries: 0.0)
    state["mode"] = "interrupt"

    @checkpoint
    def inner() -> int:
        ran.append("inner")
        return 1

    @checkpoint(retries=1)
    def outer(x: int) -> int:
        value = inner()
        if state["mode"] == "interrupt":
            raise KeyboardInterrupt
        if state["mode"] == "fail once":
            state["mode"] = "work"
            raise ValueError("once")
        return value

    def code(text: str):
        scope = {"outer": outer}
        exec(text, scope)
        return flow(scope["body"])

    first_try_is_interrupted(code("def body():\n    return outer(1)\n"), store)
    state["mode"] = "fail once"
    ran.clear()
    changed = code("def body():\n    n = 1 + 1\n    return outer(n)\n")
    assert run(changed, store).get() == 1
    assert ran == []


def test_a_failure_that_was_caught_stays_so_when_what_ran_in_the_except_block_fails(store) -> None:
    @checkpoint
    def primary() -> str:
        ran.append("primary")
        raise ValueError("primary")

    @checkpoint
    def fallback() -> str:
        ran.append("fallback")
        if state["first"]:
            raise OSError("fallback")
        return "fallback"

    @flow
    def tries() -> str:
        try:
            return primary()
        except ValueError:
            return fallback()

    with pytest.raises(OSError, match="fallback"):
        run(tries, store)
    state["first"] = False
    ran.clear()
    assert run(tries, store).get() == "fallback"
    assert ran == ["fallback"]


def test_a_failure_that_a_side_task_gathered_and_went_on_from_is_a_result(store) -> None:
    @checkpoint
    async def bad() -> None:
        ran.append("bad")
        raise ValueError

    @checkpoint
    async def after(n: int) -> int:
        ran.append("after")
        return n

    @checkpoint
    async def last(n: int) -> int:
        if state["first"]:
            raise asyncio.CancelledError
        return n

    async def side() -> int:
        failures = await asyncio.gather(bad(), return_exceptions=True)
        return await last(await after(len(failures)))

    @flow
    async def beside() -> int:
        return await asyncio.create_task(side())

    first_try_is_interrupted(beside, store)
    state["first"] = False
    ran.clear()
    assert run(beside, store).get() == 1
    assert ran == []


class Full(MemoryStore):
    """Its disk is full after the claim and one more segment."""

    segments = 0

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.segments += "/journal/" in key
        if self.segments > 2:
            raise StoreFullError("no space left")
        return super().put_if_absent(key, data)


def test_a_full_disk_within_a_task_group_is_the_stores_error() -> None:
    @checkpoint
    async def nap(n: int) -> int:
        await asyncio.sleep(0.01 * n)
        return n

    @flow
    async def groups() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(nap(n)) for n in range(4)]
        return [task.result() for task in tasks]

    with pytest.raises(StoreFullError, match="no space left"):
        run(groups, Full())


def test_a_divergence_cannot_be_gathered_away(store) -> None:
    @checkpoint
    async def inner(x: float) -> float:
        return x

    @checkpoint
    async def outer(n: int) -> float:
        value = await inner(random.random())
        if state["first"]:
            raise asyncio.CancelledError
        return value

    @flow
    async def gathers() -> int:
        await asyncio.gather(*(outer(n) for n in range(2)), return_exceptions=True)
        if state["first"]:
            raise asyncio.CancelledError
        return 1

    first_try_is_interrupted(gathers, store)
    state["first"] = False
    with pytest.raises(KitaruDivergenceError):
        run(gathers, store, on_drift="error")


def test_a_submitted_step_that_leaves_takes_the_flow_with_it(store, client) -> None:
    @checkpoint
    def leaves() -> None:
        sys.exit(7)

    @flow
    def careless() -> str:
        leaves.submit()
        return "done"

    with pytest.raises(SystemExit) as left:
        run(careless, store)
    assert left.value.code == 7
    assert client.executions.get("x").status.value == "interrupted"


def test_what_side_tasks_save_and_log_is_kept_whatever_their_order(store, client) -> None:
    state["order"] = [0.0, 0.05]

    @checkpoint
    def durable() -> int:
        return 1

    async def side(part: str, delay: float) -> None:
        await asyncio.sleep(delay)
        kitaru.save("part", part)
        kitaru.log(part=part)
        if state["first"]:
            durable()
            raise asyncio.CancelledError

    @flow
    async def beside() -> None:
        one, two = state["order"]
        await asyncio.gather(side("one", one), side("two", two))

    first_try_is_interrupted(beside, store)
    state["first"] = False
    state["order"] = [0.05, 0.0]
    run(beside, store)
    execution = client.executions.get("x")
    assert sorted(a.load() for a in execution.artifacts if a.name == "part") == ["one", "two"]
    assert sorted(line.data["part"] for line in execution.data.logs) == ["one", "two"]


class Slow(MemoryStore):
    """What begins with an A takes longer to upload."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key.startswith("blobs/"):
            time.sleep(0.05 if data[:1] == b"A" else 0.001)
        return super().put_if_absent(key, data)


def test_the_address_of_a_failed_side_call_with_a_large_input_is_its_records() -> None:
    store = Slow()

    @checkpoint
    async def reads(data: bytes) -> bytes:
        if data[:1] == b"A":
            raise ValueError("A")
        return data[:1]

    async def side(letter: bytes) -> bytes:
        return await reads(letter + noise(100_000))

    @flow
    async def both() -> list[bytes]:
        return await asyncio.gather(side(b"A"), side(b"B"))

    with pytest.raises(ValueError, match="A") as failed:
        run(both, store)
    execution = kitaru.KitaruClient(store).executions.get("x")
    assert len([*store.list("blobs/")]) == 2
    (label,) = [c.label for c in execution.checkpoints if c.status == "failed"]
    assert execution.failed_at == label
    assert f"failed at {label}:" in failed.value.__notes__[0]


def test_a_stop_iteration_is_raised_as_what_it_is(store) -> None:
    @checkpoint
    def ends() -> None:
        raise StopIteration("no more")

    @flow
    def asks() -> str:
        try:
            ends()
        except StopIteration as e:
            return str(e)
        return "nothing"

    assert run(asks, store).get() == "no more"
