"""The owner's end of a journal: few writes, in order, one at a time; and what it does when the store fails it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import re
import threading
import time
from datetime import UTC, datetime
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from kitaru import checkpoint, flow
from kitaru.blobs import blob_key
from kitaru.client import KitaruClient
from kitaru.errors import (
    ExecutionFencedError,
    KitaruError,
    StoreError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
    UsageError,
)
from kitaru.flows import Flow, Options
from kitaru.journal import SEGMENT_BYTES, Halt
from kitaru.reading import read_journal
from kitaru.records import Ended, Release
from kitaru.segments import Segment, journal_key
from kitaru.stores import LocalStore, MemoryStore, S3Store
from kitaru.testing.clock import ManualClock
from kitaru.testing.faults import Fault, FaultyStore, Late, fault_at

from ..large import noise
from .scene import EXEC, SlowStore, check, journal_on, let_go, note, notes, own

PATIENCE = 20.0


def together(count, work):
    """Run `work(i)` in so many threads that start at once; give what each returned, or raised."""
    out, start = [None] * count, threading.Barrier(count)

    def one(i):
        start.wait(PATIENCE)
        try:
            out[i] = work(i)
        except BaseException as e:
            out[i] = e

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    return out


# ---------------------------------------------------------------- group commit


def test_two_hundred_threads_share_a_few_writes():
    store = SlowStore(0.01)
    journal = journal_on(store)

    def work(i):
        journal.wait(journal.add(note(i)))
        return i in notes(store)  # durable when `wait` returns: asked of the store

    assert together(200, work) == [True] * 200
    assert sorted(notes(store)) == list(range(200))
    assert store.puts <= 60
    assert store.most == 1


def test_a_thousand_coroutines_share_at_most_sixty_writes():
    store = SlowStore(0.02)
    journal = journal_on(store)

    async def work(i):
        ticket = journal.add(note(i))
        await journal.wait_async(ticket)

    async def main():
        await asyncio.wait_for(asyncio.gather(*(work(i) for i in range(1000))), PATIENCE)

    asyncio.run(main())
    journal.close()
    assert sorted(notes(store)) == list(range(1000))
    assert store.puts <= 60
    assert store.most == 1


def test_threads_and_coroutines_wait_for_the_same_writes():
    store = SlowStore(0.002)
    journal = journal_on(store)

    def work(i):
        if i % 2:
            journal.wait(journal.add(note(i)))
        else:
            asyncio.run(journal.wait_async(journal.add(note(i))))

    assert together(40, work) == [None] * 40
    journal.close()
    assert sorted(notes(store)) == list(range(40))
    assert store.most == 1


def test_what_was_added_during_a_write_shares_the_next_one_in_order():
    store = SlowStore()
    journal = journal_on(store)
    store.gate.clear()
    first = threading.Thread(target=journal.wait, args=(journal.add(note(0)),))
    first.start()
    while not store.puts:
        time.sleep(0.001)
    for i in range(1, 50):
        ticket = journal.add(note(i))
    store.gate.set()
    journal.wait(ticket)
    first.join(PATIENCE)
    assert notes(store) == list(range(50))
    assert [len(s.records) for s in read_journal(store, EXEC).segments] == [1, 49]


def test_a_segment_is_closed_before_it_grows_beyond_what_one_put_carries_well():
    store = SlowStore()
    journal = journal_on(store)
    for i in range(5):
        ticket = journal.add(note(i), SEGMENT_BYTES // 2)
    journal.wait(journal.add(note(5), 3 * SEGMENT_BYTES))
    assert ticket < 6
    assert [len(s.records) for s in read_journal(store, EXEC).segments] == [2, 2, 1, 1]


def test_waiting_for_what_is_durable_already_costs_nothing():
    store = SlowStore()
    journal = journal_on(store)
    ticket = journal.add(note(1))
    journal.wait(ticket)
    journal.wait(ticket)
    journal.flush()
    asyncio.run(journal.wait_async(ticket))
    assert store.puts == 1


def test_the_beat_writes_only_what_has_lain_for_a_while():
    clock, store = ManualClock(), SlowStore()
    journal = journal_on(store, clock=clock)
    journal.flush_older_than(0.2)
    journal.add(note(1))
    clock.advance(0.1)
    journal.flush_older_than(0.2)
    assert store.puts == 0
    clock.advance(0.1)
    journal.flush_older_than(0.2)
    assert notes(store) == [1]
    journal.add(note(2))
    journal.flush_older_than(0.2)  # the time counts from the oldest that waits
    assert notes(store) == [1]


def test_a_closed_journal_still_serves_a_task_that_was_left_behind():
    store = SlowStore()
    journal = journal_on(store)
    asyncio.run(journal.wait_async(journal.add(note(1))))
    journal.close()
    while journal._driver is not None:
        time.sleep(0.001)
    asyncio.run(asyncio.wait_for(journal.wait_async(journal.add(note(2))), PATIENCE))
    assert notes(store) == [1, 2]


def test_nothing_is_recorded_after_the_release():
    store = MemoryStore()
    journal = journal_on(store)
    journal.add(note(1))
    journal.add(Release("completed"))
    with pytest.raises(Halt) as halt:
        journal.add(note(2))
    assert isinstance(halt.value.error, UsageError)
    journal.flush()
    assert notes(store) == [1]


# ---------------------------------------------------------------- cancellation


def test_a_cancelled_waiter_loses_no_record_and_hangs_nobody():
    store = SlowStore()
    journal = journal_on(store)

    async def main():
        store.gate.clear()
        tasks = [asyncio.ensure_future(journal.wait_async(journal.add(note(i)))) for i in range(10)]
        await asyncio.to_thread(expect, lambda: store.puts)
        for task in tasks[::2]:
            task.cancel()
        store.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)

    ends = asyncio.run(main())
    assert [type(e) for e in ends] == [asyncio.CancelledError, type(None)] * 5
    asyncio.run(journal.wait_async(journal.add(note(10))))
    journal.close()
    assert sorted(notes(store)) == list(range(11))


def test_a_loop_that_was_closed_hangs_nobody():
    store = SlowStore()
    journal = journal_on(store)
    store.gate.clear()

    async def leave():
        task = asyncio.ensure_future(journal.wait_async(journal.add(note(1))))
        await asyncio.to_thread(expect, lambda: store.puts)
        task.cancel()

    asyncio.run(leave())
    store.gate.set()
    asyncio.run(asyncio.wait_for(journal.wait_async(journal.add(note(2))), PATIENCE))
    journal.close()
    assert notes(store) == [1, 2]


# ---------------------------------------------------------------- no answer


FAULTS = [Fault.UNAVAILABLE, Fault.LOSE_REQUEST, Fault.LOSE_RESPONSE, Late(1), Late(2)]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_segment_whose_answer_is_lost_is_sent_again(fault):
    store, clock = FaultyStore(MemoryStore()), ManualClock()
    journal = journal_on(store, clock=clock)
    journal.wait(journal.add(note(1)))
    store.plan = fault_at(1, fault)
    journal.wait(journal.add(note(2)))
    journal.wait(journal.add(note(3)))
    assert notes(store) == [1, 2, 3]
    assert len(clock.slept) == 1


def test_it_is_said_once_that_the_store_does_not_answer():
    store, clock, said = FaultyStore(MemoryStore()), ManualClock(), []
    journal = journal_on(store, clock=clock, say=said.append)
    store.plan = lambda op: Fault.UNAVAILABLE if op.n < 6 else None
    journal.wait(journal.add(note(1)))
    assert len(said) == 1
    assert "does not answer, trying for up to 60 s" in said[0]


@checkpoint
def small(x):
    return x + 1


@checkpoint
def large(x):
    return noise(100_000, x)  # beyond what travels in a record


@checkpoint
def measured(data):
    return len(data)


@flow
def mixed(n):
    total = 0
    for i in range(n):
        total += small(i) + len(large(i)) + 0 * measured(noise(90_000, i))
    return total


OUTPUTS = {blob_key(hashlib.sha256(noise(100_000, i)).digest()) for i in range(3)}

KINDS = {
    "segment": lambda op: "/journal/" in op.key and op.method == "put_if_absent",
    "claim": lambda op: op.key.endswith("/journal/0000000001") and op.method == "put_if_absent",
    "blob of an output": lambda op: op.key.startswith("blobs/") and op.key in OUTPUTS,
    "blob of an input": lambda op: op.key.startswith("blobs/") and op.key not in OUTPUTS,
    "heartbeat": lambda op: "/owner/" in op.key and op.method == "put",
    "catalog": lambda op: op.key.startswith("catalog/") and op.method == "put",
    "catalog, delete": lambda op: op.key.startswith("catalog/") and op.method == "delete",
    "pack": lambda op: "/packs/" in op.key and op.method == "put_if_absent",
    "lineage": lambda op: op.key.endswith("/lineage.json"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_write_minds_a_lost_or_late_answer_or_a_conflict(kind, fault, monkeypatch):
    """Each write of that kind meets the fault the first time it is tried; the run does not notice.

    Segments are the claim's, the steps' and the release's; a conflict is the S3 store's own affair, see below.
    """
    monkeypatch.setattr("kitaru.journal.PACK_AFTER", 2)
    monkeypatch.setattr("kitaru.journal.Journal.write_pack.__defaults__", (2,))
    store, clock, met = FaultyStore(MemoryStore()), ManualClock(), set()

    def plan(op):
        if KINDS[kind](op) and op.key not in met:
            met.add(op.key)
            return fault
        return None

    @flow
    def reported(n):
        expect(lambda: any(op.key.startswith("catalog/") for op in store.log))  # else it is over before it is listed
        if kind == "heartbeat":
            clock.advance(21)
            expect(lambda: any(KINDS[kind](op) for op in store.log))
        return mixed.function(n)

    store.plan = plan
    ran = Flow(reported.function, Options(exec_id=EXEC, store=store, clock=clock))
    handle = ran.run(3)
    store.plan = lambda op: None
    store.deliver_late()
    assert met
    assert handle.get() == 6 + 3 * 100_000
    check(store)
    execution = KitaruClient(store.inner).executions.get(EXEC)
    assert execution.status.value == "completed"
    assert [c.status for c in execution.checkpoints] == ["completed"] * 9
    ends = [r.id for r in read_journal(store, EXEC).records if isinstance(r, Ended)]
    assert len(ends) == len(set(ends)) == 9
    assert ran.run(3).get() == handle.get()


@pytest.mark.parametrize("kind", ["kitaru.json", "probe/"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_new_place_that_does_not_answer_is_refused_before_anything_runs_and_used_once_it_does(kind, fault, ran):
    store, met = FaultyStore(MemoryStore()), []

    @checkpoint
    def step():
        return ran("step")

    @flow
    def one():
        return step()

    def plan(op):
        if op.key.startswith(kind) and op.method == "put_if_absent" and not met:
            met.append(op)
            return fault
        return None

    store.plan = plan
    begun = Flow(one.function, Options(exec_id=EXEC, store=store))
    with pytest.raises(StoreUnavailableError):
        begun.run()
    assert ran.take() == []
    assert [*store.inner.list("executions/")] == []
    assert begun.run().get() == 1
    store.deliver_late()
    assert ran.take() == ["step"]
    check(store)


class Conflicting:
    """A client of S3 that answers the first try of each conditional write: it met another one."""

    meta = SimpleNamespace(endpoint_url="http://127.0.0.1:9")

    def __init__(self):
        self.objects, self.met = {}, set()
        self._lock = threading.Lock()

    def put_object(self, *, Bucket, Key, Body, IfNoneMatch=None):
        with self._lock:
            if IfNoneMatch and Key not in self.met:
                self.met.add(Key)
                refuse("ConditionalRequestConflict", 409)
            if IfNoneMatch and Key in self.objects:
                refuse("PreconditionFailed", 412)
            self.objects[Key] = bytes(Body), datetime.now(UTC)

    def get_object(self, *, Bucket, Key, Range=None):
        if Key not in self.objects:
            refuse("NoSuchKey", 404)
        return {"Body": io.BytesIO(self.objects[Key][0])}

    def list_objects_v2(self, *, Bucket, Prefix, StartAfter=""):
        found = sorted(key for key in list(self.objects) if key.startswith(Prefix) and key > StartAfter)
        contents = [{"Key": k, "Size": len(self.objects[k][0]), "LastModified": self.objects[k][1]} for k in found]
        return {"Contents": contents, "ResponseMetadata": {"HTTPHeaders": {"date": formatdate(usegmt=True)}}}

    def delete_object(self, *, Bucket, Key):
        self.objects.pop(Key, None)

    def delete_objects(self, *, Bucket, Delete):
        for item in Delete["Objects"]:
            self.objects.pop(item["Key"], None)
        return {}


def refuse(code, status):
    from botocore.exceptions import ClientError

    raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def test_no_kind_of_conditional_write_minds_a_conflict(monkeypatch):
    monkeypatch.setattr("kitaru.journal.Journal.write_pack.__defaults__", (2,))
    client = Conflicting()
    store = S3Store("bucket", client=client)
    ran = Flow(mixed.function, Options(exec_id=EXEC, store=store))
    handle = ran.run(3)
    assert handle.get() == 6 + 3 * 100_000
    kinds = {key.split("/")[0] if "executions" not in key else key.split("/")[2] for key in client.met}
    assert kinds == {"kitaru.json", "probe", "blobs", "journal", "packs"}
    check(store)
    ends = [r.id for r in read_journal(store, EXEC).records if isinstance(r, Ended)]
    assert len(ends) == len(set(ends)) == 9
    assert ran.run(3).get() == handle.get()


def test_a_heartbeat_that_gets_no_answer_is_given_again():
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    claimed = own(store, clock)
    beats = KINDS["heartbeat"]
    store.plan = lambda op: Fault.LOSE_REQUEST if beats(op) else None
    before = sum(map(beats, store.log))
    for _ in range(3):
        clock.advance(21)
        expect(lambda: sum(map(beats, store.log)) > before)
        before = sum(map(beats, store.log))
    store.plan = lambda op: None
    clock.advance(21)
    expect(lambda: any("/owner/" in e.key for e in store.inner.list("executions/")))
    assert claimed.journal.halted is None
    let_go(claimed)


def expect(happened, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


def test_a_store_that_is_gone_is_given_up_and_the_run_resumes_later(ran):
    store, clock = FaultyStore(MemoryStore()), ManualClock()

    @checkpoint
    def step(i):
        if ran(i) == 1 and i == 2:
            store.plan = lambda op: Fault.UNAVAILABLE
        return i

    @flow
    def three():
        caught = []
        for i in range(4):
            try:
                step(i)
            except Exception as e:
                caught.append(e)
        return caught

    with pytest.raises(StoreUnavailableError, match=r"got no answer .* for 60 s.*resume when the store is back") as e:
        Flow(three.function, Options(exec_id=EXEC, store=store, clock=clock)).run()
    assert e.value.exit_code == 5
    assert re.sub(r"memory://\w+|\d{10}", "…", str(e.value)) == (
        "executions/audit-1/journal/… got no answer from … for 60 s (slow down). "
        "What was recorded before stands; resume when the store is back"
    )
    assert 55 < clock.monotonic() < 70
    assert ran.take() == [0, 1, 2]
    store.plan = lambda op: None
    assert Flow(three.function, Options(exec_id=EXEC, store=store, clock=clock)).run().get() == []
    assert ran.take() == [2, 3]
    check(store)


def test_what_was_sent_late_by_a_journal_that_gave_up_does_no_harm():
    store, clock = FaultyStore(MemoryStore()), ManualClock()
    claimed = own(store, clock)
    store.plan = lambda op: Late() if "/journal/" in op.key and op.method == "put_if_absent" else None
    with pytest.raises(Halt):
        claimed.journal.wait(claimed.journal.add(note(1)))
    let_go(claimed, None)
    store.plan = lambda op: None
    second = own(store, clock)
    assert store.deliver_late() > 1
    second.journal.wait(second.journal.add(note(2)))
    assert notes(store) == [2]
    let_go(second)
    check(store)


# ---------------------------------------------------------------- errors that waiting does not mend


@pytest.mark.parametrize("error", [StoreFullError, StorePermissionError, StoreError, RuntimeError])
def test_a_write_that_is_refused_halts_at_once_and_what_was_recorded_stands(error):
    class Refusing(MemoryStore):
        full = False

        def put_if_absent(self, key, data):
            if self.full:
                raise error("no")
            return super().put_if_absent(key, data)

    store, clock = Refusing(), ManualClock()
    journal = journal_on(store, clock=clock)
    journal.wait(journal.add(note(1)))
    store.full = True
    ticket = journal.add(note(2))
    with pytest.raises(Halt) as halt:
        journal.wait(ticket)
    assert isinstance(halt.value.error, KitaruError)
    assert halt.value.error is journal.halted
    assert clock.slept == []
    for use in (
        lambda: journal.wait(ticket),
        lambda: journal.add(note(3)),
        lambda: asyncio.run(journal.wait_async(ticket)),
    ):
        with pytest.raises(Halt):
            use()
    journal.close()
    journal.flush_older_than(0)
    store.full = False
    assert notes(store) == [1]


def test_everybody_who_waits_is_told_of_the_halt():
    store = SlowStore()
    journal = journal_on(store)
    store.put(journal_key(EXEC, 1), b"somebody else's")
    store.gate.clear()

    def work(i):
        ticket = journal.add(note(i))
        if i == 7:
            while not store.puts:
                time.sleep(0.001)
            store.gate.set()
        if i % 2:
            journal.wait(ticket)
        else:
            asyncio.run(journal.wait_async(ticket))

    ends = together(20, work)
    assert {type(e) for e in ends} == {Halt}
    assert {type(e.error) for e in ends} == {ExecutionFencedError}
    assert store.puts == 1


def test_no_except_exception_of_a_body_swallows_a_halt():
    assert not issubclass(Halt, Exception)
    store, clock, went_on = FaultyStore(MemoryStore()), ManualClock(), []

    @checkpoint(retries=5)
    def outer(i):
        try:
            small(i)
        except Exception as e:
            went_on.append(e)
        return i

    @flow
    def stubborn():
        for i in range(3):
            try:
                outer(i)
            except Exception as e:
                went_on.append(e)

    def taken_over(op):
        if op.method == "put_if_absent" and op.key == journal_key(EXEC, 2):
            other = Segment(EXEC, 2, "other", b"x" * 16, 2, read_journal(store.inner, EXEC).last_digest, ())
            store.inner.put_if_absent(op.key, other.encode())

    store.plan = taken_over
    with pytest.raises(ExecutionFencedError, match=r"taken over by another process \(writer other") as e:
        Flow(stubborn.function, Options(exec_id=EXEC, store=store, clock=clock)).run()
    assert e.value.exit_code == 4
    assert went_on == []


def test_a_failed_pack_is_no_failure_and_the_next_claim_makes_good():
    store = FaultyStore(MemoryStore())
    claimed = own(store)
    for i in range(70):
        claimed.journal.wait(claimed.journal.add(note(i)))
    store.plan = lambda op: Fault.LOSE_REQUEST if "/packs/" in op.key else None
    claimed.journal.write_pack()
    claimed.journal.write_pack()
    assert sum("/packs/" in op.key and op.method == "put_if_absent" for op in store.log) == 1
    let_go(claimed)
    store.plan = lambda op: None
    second = own(store)
    second.journal.write_pack()
    assert packs_of(store) == ["0000000001-0000000073"]
    let_go(second)


def packs_of(store):
    return [entry.key.rpartition("/")[2] for entry in store.list(f"executions/{EXEC}/packs/")]


def gets_of(store):
    before = store.count("get")
    reading = read_journal(store, EXEC)
    return reading.n, store.count("get") - before


def test_a_short_journal_is_one_object_to_read_after_each_owner_that_let_go():
    store = FaultyStore(MemoryStore())
    for turn in range(1, 4):
        claimed = own(store)
        claimed.journal.wait(claimed.journal.add(note(turn)))
        let_go(claimed)
        claimed.journal.write_last_pack(ended=False)
        assert gets_of(store) == (3 * turn, 1)
    assert packs_of(store) == [f"0000000001-{n:010d}" for n in (3, 6, 9)]


def test_a_long_journal_is_not_packed_anew_and_its_end_is_packed_where_nothing_more_comes(monkeypatch):
    monkeypatch.setattr("kitaru.reading._SHORT", 100)
    store = FaultyStore(MemoryStore())
    packs = []
    for ended in (False, False, True):
        claimed = own(store)
        claimed.journal.wait(claimed.journal.add(note(1)))
        let_go(claimed)
        claimed.journal.write_last_pack(ended=ended)
        packs.append(len(packs_of(store)))
    assert packs == [1, 1, 2]
    assert packs_of(store) == ["0000000001-0000000003", "0000000004-0000000009"]
    assert gets_of(store) == (9, 2)


def test_packs_lose_no_segment_that_is_written_meanwhile():
    store = SlowStore()
    journal = journal_on(store)
    over = threading.Event()

    def pack_on():
        while not over.is_set():
            journal.write_pack(3)

    packer = threading.Thread(target=pack_on)
    packer.start()
    for i in range(500):
        journal.wait(journal.add(note(i)))
    over.set()
    packer.join(PATIENCE)
    journal.write_pack(1)
    assert read_journal(store, EXEC).n == 500
    inside = [(int(first), int(last)) for first, last in (name.split("-") for name in packs_of(store))]
    assert [n for first, last in inside for n in range(first, last + 1)] == [*range(1, 501)]


def test_a_folder_that_is_full_says_so_and_keeps_what_it_has(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "runs")
    journal = journal_on(store)
    journal.wait(journal.add(note(1)))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr("kitaru.stores.local._write", full)
        with pytest.raises(Halt) as halt:
            journal.wait(journal.add(note(2)))
    assert isinstance(halt.value.error, StoreFullError)
    assert notes(store) == [1]
    gc.collect()
