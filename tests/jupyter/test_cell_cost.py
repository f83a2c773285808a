"""What a recorded cell stores and asks of the store, counted. What it takes is in the benchmarks, never here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import kitaru
from kitaru.codecs import buffers, memory
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import FaultyStore

CHUNK = 4 << 20


class Cost:
    """Of a cell, by what the store saw of it."""

    def __init__(self, cells, store, counted):
        self.cells, self.store, self.counted = cells, store, counted

    def __call__(self, cell):
        """Bytes of new blobs, PUTs of the truth, and requests to read."""
        before, puts, reads = self._blobs(), self.counted.count("put_if_absent"), self.counted.count("get", "list")
        ran = self.cells(cell)
        assert ran.error is None
        return (
            self._blobs() - before,
            self.counted.count("put_if_absent") - puts,
            self.counted.count("get", "list") - reads,
        )

    def _blobs(self):
        return sum(entry.size for entry in self.store.list("blobs/"))


@pytest.fixture
def cost(cells):
    """A notebook that records every cell, with an array of three chunks, a frame, and a small dict in its kernel."""
    store = MemoryStore()
    counted = FaultyStore(store)
    kitaru.connect(counted)
    cells("%kitaru record on")
    cells("import numpy as np, pandas as pd")
    cells("A = np.random.default_rng(0).random(3 * (1 << 19))")
    cells("DF = pd.DataFrame({c: np.random.default_rng(1).random(1 << 17) for c in 'ab'})")
    cells("d = {'n': 0}")
    return Cost(cells, store, counted)


@pytest.mark.parametrize("read", ["float(A[0])", "DF['a'].sum()", "d['n'], len(A), len(DF)"])
def test_a_cell_that_only_reads_stores_no_value_and_reads_no_journal(cost, read):
    assert cost(read) == (0, 1, 0)


def test_a_small_change_beside_large_values_stores_no_value(cost):
    assert cost("d['n'] += 1") == (0, 1, 0)


def test_the_hundredth_cell_asks_no_more_of_the_store_than_the_first(cost):
    costs = [cost(f"d['n'] = {i}") for i in range(100)]
    assert {*costs} == {(0, 1, 0)}


def test_one_element_of_an_array_stores_its_chunk(cost):
    stored, puts, reads = cost("A[5] += 1")
    assert (stored, puts, reads) == (CHUNK, 2, 0)


def test_one_column_of_a_frame_stores_that_column(cost):
    stored, _, reads = cost("DF['c'] = DF['a'] * 2")
    assert ((1 << 17) * 8, 0) == (stored, reads)


def test_what_is_changed_back_is_stored_once(cost):
    cost("A[5] = 1.5")
    cost("A[5] = 2.5")
    assert cost("A[5] = 1.5")[0] == 0


def test_a_checkout_loads_what_differs_alone(cost):
    cost("d['n'] = 1")
    cost("d['n'] = 2")
    before = cost.counted.bytes_read
    array = cost.cells.shell.user_ns["A"]
    ran = cost.cells("%kitaru checkout cell#5")
    assert ran.out == "1 loaded, 0 removed\n"
    assert cost.cells.shell.user_ns["d"] == {"n": 1}
    assert cost.cells.shell.user_ns["A"] is array
    assert cost.counted.bytes_read - before < 64 << 10, "the journal, and the dict that stands in it"


@pytest.fixture
def hashed(monkeypatch):
    """The bytes that were read to know them again, by the hash: every look at memory takes the first one."""
    count = {"keyed": 0, "sha256": 0}

    def fast(data, real=memory.fast_hash):
        count["keyed"] += len(data)
        return real(data)

    def slow(data=b"", real=buffers.hashlib.sha256):
        count["sha256"] += len(data)
        return real(data)

    for room in (memory, buffers):
        monkeypatch.setattr(room, "fast_hash", fast)
    monkeypatch.setattr(buffers, "hashlib", SimpleNamespace(sha256=slow))
    return count


SHORT = 4096  # what else is read of so small a kernel: digests of digests, chunks that are copied at once


def about(size):
    return range(size, size + SHORT)


ARRAY, FRAME = 3 * CHUNK, 2 * 8 * (1 << 17)


def test_an_array_of_which_one_element_changed_is_read_once_and_its_chunk_again(cost, hashed):
    cost("A[5] += 1")
    assert hashed["keyed"] in about(ARRAY + CHUNK), "the copy of the chunk is compared before it is stored"


def test_an_array_that_is_recorded_as_an_input_is_read_once(cost, hashed):
    cost.cells("%kitaru record off")
    cost.cells("A[5] += 1")
    hashed.update(keyed=0)
    cost.cells("%%kitaru_step reads\nfloat(A[0])")
    assert hashed["keyed"] in about(ARRAY + CHUNK + ARRAY), "before the cell, and after it"


def test_a_checkout_reads_what_it_keeps_and_what_it_replaces_and_what_it_loads_once_each(cost, hashed):
    cost("A[:] = 1.5")
    cost("A[:] = 2.5")
    hashed.update(keyed=0, sha256=0)
    assert cost.cells("%kitaru checkout cell#5").out == "1 loaded, 0 removed\n"
    assert cost.cells.shell.user_ns["A"][7] == 1.5
    assert hashed["keyed"] in about(ARRAY + FRAME + ARRAY)
    assert hashed["sha256"] == 0, "this process has met these chunks"
    assert cost("float(A[0])")[0] == 0, "it is known as it was recorded"


def test_after_a_checkout_a_change_in_place_is_noticed(cost):
    cost("A[:] = 1.5")
    cost("A[:] = 2.5")
    cost.cells("%kitaru checkout cell#5")
    assert cost("A[-1] = 7.0")[0] == CHUNK


def test_what_code_does_to_an_array_on_its_way_back_is_looked_at(cost):
    cost(
        """
class Scaled:
    def __init__(self, values): self.values = values
    def __getstate__(self): return {"values": self.values}
    def __setstate__(self, state):
        self.__dict__.update(state)
        self.values *= 2
"""
    )
    cost("s = Scaled(np.ones(1 << 19))")
    cost("s = None")
    assert cost.cells("%kitaru checkout cell#6").out == "1 loaded, 0 removed\n"
    assert cost.cells.shell.user_ns["s"].values[0] == 2
    assert cost("float(s.values[0])")[0] == 0, "it has not changed since it was put there"
