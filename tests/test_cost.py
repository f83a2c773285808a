"""What a step costs in requests and bytes. Counted, never timed: `benchmarks/` has the times.

By the manual clock no step ever runs for longer than a moment: on a busy machine its started record would go up alone.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.segments import journal_key
from kitaru.stores.local import LocalStore
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import FaultyStore

from .large import noise

KB = {f"key{i:02d}": "x" * 20 for i in range(30)}  # 813 bytes as msgpack, 1,021 as JSON
BACKGROUND = ("catalog/", "owner/", "packs/", "lineage.json")  # written by the beat's thread, or after the end


@checkpoint
def small(x, i):
    return {**x, "i": i}


@flow
def chain(n):
    x = KB
    for i in range(n):
        x = small(x, i)
    return len(x)


@checkpoint
async def small_async(x, i):
    return {**x, "i": i}


@flow
async def wide(n):
    return len(await asyncio.gather(*(small_async(KB, i) for i in range(n))))


@checkpoint
def breaks():
    raise RuntimeError("stop here")


@flow
def stops(n):
    for i in range(n):
        small(KB, i)
    breaks()


class Far:
    """Another continent: each write takes 20 ms."""

    def __init__(self, inner):
        self.inner = inner

    def put_if_absent(self, key, data):
        time.sleep(0.02)
        return self.inner.put_if_absent(key, data)

    def put(self, key, data):
        time.sleep(0.02)
        self.inner.put(key, data)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.s3)])
def anywhere(request, tmp_path):
    """Each kind of store."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return LocalStore(tmp_path)
    return request.getfixturevalue("bucket")


@pytest.fixture(scope="session")
def _server():
    from kitaru.testing.servers import moto_server

    with moto_server() as server:
        yield server


@pytest.fixture
def bucket(_server, request):
    return _server.store(f"cost/{request.node.name}")


def on_its_path(store):
    """What the step path sent: what the beat's thread writes meanwhile goes to keys of its own."""
    return [o for o in store.log if not any(part in o.key for part in BACKGROUND)]


def journal_puts(store):
    return sum(o.method == "put_if_absent" and "/journal/" in o.key for o in store.log)


def segments(store, exec_id):
    return [len(store.get(e.key)) for e in store.list(journal_key(exec_id))]


def test_a_step_is_one_put_and_no_other_request(anywhere, connected, timed):
    store = connected(FaultyStore(anywhere))
    run = timed(chain).run
    run(1)  # finds the format, probes the store
    del store.log[:]
    run(1)
    one = on_its_path(store)
    del store.log[:]
    run(11)
    eleven = on_its_path(store)
    assert {o.method for o in eleven} == {"put_if_absent"}, "no GET and no LIST, of the whole run"
    assert all("/journal/" in o.key for o in eleven)
    assert len(eleven) - len(one) == 10
    assert len(one) == 3  # begun with the claim; the step; the end with the release


def test_a_step_that_runs_in_a_worker_is_at_most_one_put(connected, timed):
    @flow
    def fan():
        return len([f.result() for f in small.map([KB] * 20, range(20))])

    store = connected(FaultyStore(MemoryStore()))
    timed(fan).run()
    assert journal_puts(store) <= 22


def test_a_thousand_concurrent_steps_share_their_puts(connected):
    store = connected(FaultyStore(Far(MemoryStore())))
    wide.run(1)
    del store.log[:]
    assert wide.run(1000).get() == 1000
    assert store.count("put_if_absent", "put") <= 60
    assert not store.count("get", "list")


def test_a_kilobyte_in_and_out_is_recorded_once(connected, timed):
    """The input stands in the journal as the output of the step before; the output travels with its preview."""
    store = connected(MemoryStore())
    sizes = segments(store, timed(chain).run(30).exec_id)
    assert max(sizes[10:-1]) <= 2200


def test_nothing_grows_with_history(connected, timed):
    store = connected(MemoryStore())
    sizes = segments(store, timed(chain).run(1000).exec_id)
    assert len(sizes) == 1002
    assert abs(sizes[999] - sizes[10]) <= 32  # the numbers in it have more digits


def test_the_same_value_a_thousand_times_is_stored_once(connected):
    store = connected(FaultyStore(MemoryStore()))
    large = noise(200_000)

    @checkpoint
    def same(i):
        return large

    @flow
    def again(n):
        return sum(len(same(i)) for i in range(n))

    exec_id = again.run(100).exec_id
    assert sum("blobs/" in o.key for o in store.log) == 1
    assert max(segments(store, exec_id)) < 1536  # the closure's value counts as an argument: its digest and preview too


def test_opening_a_thousand_finished_steps_takes_a_handful_of_requests(connected):
    connected(inner := MemoryStore())
    with pytest.raises(RuntimeError):
        stops.options(exec_id="long").run(1000)
    store = FaultyStore(inner)
    execution = KitaruClient(store).executions.get("long")
    assert len(execution.checkpoints) == 1001
    assert store.count("get") + store.count("list") <= 8


def test_a_reused_step_sends_nothing(connected, timed):
    store = connected(FaultyStore(MemoryStore()))
    with pytest.raises(RuntimeError):
        timed(stops, exec_id="short").run(10)
    del store.log[:]
    with pytest.raises(RuntimeError):
        timed(stops, exec_id="short").run(10)
    few = store.count("get", "list"), journal_puts(store)
    with pytest.raises(RuntimeError):
        timed(stops, exec_id="long").run(300)
    del store.log[:]
    with pytest.raises(RuntimeError):
        timed(stops, exec_id="long").run(300)
    many = store.count("get", "list"), journal_puts(store)
    assert many[1] == few[1]
    assert many[0] - few[0] <= 2  # its pack


def test_a_run_leaves_no_threads(connected):
    connected(MemoryStore())
    chain.run(2)
    before = threading.active_count()
    for _ in range(5):
        chain.run(2)
    assert threading.active_count() <= before


class Opened:
    """Pickled, and noted wherever it is unpickled."""

    times = 0

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return opened, (self.n,)


def opened(n):
    Opened.times += 1
    return Opened(n)


@checkpoint
def heavy(i):
    return [noise(100_000, seed=i), "small"]


@checkpoint
def odd(found, i):
    return Opened(i) if found else None


@flow
def audited(n):
    for i in range(n):
        odd(heavy(i), i)
    return n


@pytest.mark.filterwarnings("ignore::kitaru.errors.KitaruWarning")
def test_what_is_asked_of_records_fetches_no_value_and_unpickles_none(connected, monkeypatch) -> None:
    store = connected(FaultyStore(MemoryStore()))
    first = audited.run(4)
    fork = audited.replay(first.exec_id, overrides={"checkpoint.heavy#2": ["other", "small"]})
    execution = KitaruClient().executions.get(fork.exec_id)
    Opened.times, before = 0, len(store.log)
    for rerun in ([], ["odd"], "changed"):
        kitaru.plan(first.exec_id, overrides={"checkpoint.heavy#3": ["another"]}, rerun=rerun)
    kitaru.plan(fork.exec_id, n=3)
    kitaru.lineage(first.exec_id)
    kitaru.lineage(fork.exec_id, origins=True)
    kitaru.diff(first.exec_id, fork.exec_id)
    execution.explain()
    execution.ancestors("odd#2")
    execution.descendants("heavy#2")
    execution.path("heavy#2", "odd#2")
    asked = store.log[before:]
    assert {op.method for op in asked} <= {"get", "list"}
    assert [op.key for op in asked if op.key.startswith("blobs/")] == []
    assert Opened.times == 0
    assert kitaru.load(fork.exec_id, "odd#4").n == 3
    assert Opened.times == 1, "it is pickled, and would have been noted"
    kitaru.load(first.exec_id, "heavy#1")
    assert any(op.key.startswith("blobs/") for op in store.log[before:])
