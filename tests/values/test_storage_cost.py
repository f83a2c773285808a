"""What values cost in objects, bytes and requests. Counted, never timed: `benchmarks/` has the times."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from kitaru import checkpoint, codecs, flow
from kitaru.client import KitaruClient
from kitaru.codecs.buffers import CHUNK
from kitaru.stores.local import LocalStore
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import FaultyStore

np = pytest.importorskip("numpy")
PACKS = "packs/"  # for opening fast where a request is slow; a folder has none
GIVEN = []


def message(i):
    """A message of 1,000 bytes."""
    made = {
        "role": "user",
        "content": f"{i}: " + "The quick brown fox jumps over the lazy dog, they say. " * 16,
        "n": i,
    }
    return made | {"content": made["content"] + "." * (1000 - len(codecs.encode(made).data))}


@checkpoint
def turn(messages):
    return [*messages, message(len(messages))]


@checkpoint
def plain(n):
    return n + 1


@checkpoint
def give(i):
    return GIVEN[i]


@checkpoint
def breaks():
    raise RuntimeError("stop here")


@flow
def talk(n):
    messages = []
    for _ in range(n):
        messages = turn(messages)
    return len(messages)


@flow
def silence(n):
    for i in range(n):
        plain(i)
    return n


@flow
def gives(n):
    for i in range(n):
        give(i)
    return n


@flow
def stops(n):
    for i in range(n):
        plain(i)
    breaks()


def kept(store):
    """The size of each object."""
    return {e.key: e.size for e in store.list("") if PACKS not in e.key}


def settled(store, exec_id):
    """What the store holds once the lineage of a long execution is stored, which a thread does."""
    for thread in threading.enumerate():
        if thread.name == f"kitaru-lineage-{exec_id}":
            thread.join()
    found = kept(store)
    assert f"executions/{exec_id}/lineage.json" in found
    return found


def blobs_of(store, *values):
    """The bytes of blobs that each of these values added, given by one step after the other."""
    out = []
    for n in range(len(values) + 1):
        GIVEN[:] = [value() for value in values[:n]]
        gives.options(exec_id=f"run-{n}").run(n)
        out.append(sum(size for key, size in kept(store).items() if key.startswith("blobs/")))
    return [b - a for a, b in pairwise(out)]


def test_a_history_of_a_thousand_messages_takes_little_more_than_its_messages(connected, timed):
    store = connected(MemoryStore())
    before = settled(store, timed(silence).run(1000).exec_id)
    after = settled(store, timed(talk).run(1000).exec_id)
    new = {key: size for key, size in after.items() if key not in before}
    assert len(codecs.encode(message(999)).data) == 1000
    assert sum(new.values()) <= 4_000_000, "with its lineage and its place in the catalog"
    assert len(new) <= len(before), "not one object more than for numbers"
    assert not [key for key in new if key.startswith("blobs/")]


def test_a_folder_keeps_no_journal_twice(tmp_path, connected, timed):
    store = connected(LocalStore(tmp_path))
    timed(silence).run(200)
    assert not [e.key for e in store.list("executions/") if "/packs/" in e.key]


def test_a_message_that_was_changed_in_place_is_noticed(connected):
    connected(MemoryStore())
    messages = [message(i) for i in range(100)]

    @checkpoint
    def same(i):
        if i:
            messages[50]["content"] = "changed"
        return messages

    @flow
    def twice():
        same(0)
        same(0)
        same(1)

    exec_id = twice.run().exec_id
    first, again, changed = (c.artifacts[0].digest for c in KitaruClient().executions.get(exec_id).checkpoints)
    assert first == again != changed


def test_an_unchanged_array_adds_no_blob_and_a_changed_element_one_chunk(connected):
    store = connected(MemoryStore())
    array = np.random.default_rng(1).random(2_500_000)  # 20 MB
    changed = array.copy()
    changed[len(array) // 2] += 1
    first, again, other = blobs_of(store, lambda: array, lambda: array, lambda: changed)
    assert (first, again) == (array.nbytes, 0)
    assert 0 < other <= CHUNK


@pytest.mark.parametrize("strings", ["arrow", "object"])
def test_a_column_more_adds_that_column_alone(connected, strings):
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    store = connected(MemoryStore())
    rng, rows = np.random.default_rng(1), 100_000
    frame = pd.DataFrame({f"x{i}": rng.random(rows) for i in range(3)})
    dtype = pd.ArrowDtype(pa.large_string()) if strings == "arrow" else object
    frame["name"] = pd.Series([f"customer {i}" for i in range(rows)], dtype=dtype)
    wider = frame.assign(y=frame["x0"] * 2)
    first, again, more = blobs_of(store, lambda: frame, lambda: frame, lambda: wider)
    assert first > 3 * 8 * rows
    assert again == 0
    assert more <= 1.1 * 8 * rows


def test_loading_an_array_reads_each_chunk_once(connected):
    inner = MemoryStore()
    connected(inner)
    GIVEN[:] = [np.arange(2_500_000.0)]
    exec_id = gives.run(1).exec_id
    store = FaultyStore(inner)
    artifact = KitaruClient(store).executions.get(exec_id).checkpoints[0].artifacts[0]
    del store.log[:]
    assert np.array_equal(artifact.load(), GIVEN[0])
    assert store.count("get") == -(-GIVEN[0].nbytes // CHUNK)
    assert not store.count("list")


def test_opening_ten_thousand_finished_steps_takes_at_most_twenty_requests(connected, timed):
    inner = connected(MemoryStore())
    with pytest.raises(RuntimeError):
        timed(stops, exec_id="long").run(10_000)
    store = FaultyStore(inner)
    assert len(KitaruClient(store).executions.get("long").checkpoints) == 10_001
    assert store.count("get", "list") <= 20
