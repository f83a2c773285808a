"""Keyed digests of memory: what was looked at is not read again within its block, and is outside of it."""

from __future__ import annotations

import contextvars
import threading

import numpy as np
import pytest

from kitaru.codecs import buffers, memory
from kitaru.codecs.buffers import CHUNK, Chunker
from kitaru.codecs.memory import chunks_of, digest_of_memory, looking, looks, side_by_side

from ..large import noise


@pytest.fixture
def read(monkeypatch):
    """The lengths of what was hashed, digests of digests left out."""
    lengths = []

    def counted(data, real=memory.fast_hash):
        if len(data) > 1000:
            lengths.append(len(data))
        return real(data)

    for room in (memory, buffers):
        monkeypatch.setattr(room, "fast_hash", counted)
    return lengths


def view_of(size):
    return memoryview(np.frombuffer(bytearray(noise(size)), np.uint8)).cast("B")


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (16 << 10) + 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_any_byte_that_changes_is_noticed(size):
    data = view_of(size)
    before = digest_of_memory(data)
    assert digest_of_memory(view_of(size)) == before
    for at in {0, size // 2, size - 1} if size else ():
        data[at] ^= 1
        assert digest_of_memory(data) != before
        data[at] ^= 1
    assert digest_of_memory(data) == before
    assert digest_of_memory(memoryview(bytes(data) + b"\0")) != before


def test_within_a_block_memory_is_read_once(read):
    data = view_of(2 * CHUNK + 20_000)
    with looking():
        first = digest_of_memory(data)
        assert digest_of_memory(data) == first
        assert sorted(read) == [20_000, CHUNK, CHUNK]
    data[5] ^= 1
    assert digest_of_memory(data) != first, "after it, what is there counts"
    with looking():
        assert digest_of_memory(data) != first, "no block knows of another one"


def test_what_was_looked_at_is_recorded_as_it_was_looked_at(read):
    chunker, data = Chunker(), view_of(2 * CHUNK)
    by_hand = chunker.cut(data)
    del read[:]
    with looking():
        digest_of_memory(data)
        assert chunker.cut(data) == by_hand
    assert read == [CHUNK, CHUNK]
    data[5] ^= 1
    with looking():
        digest_of_memory(data)
        changed = chunker.cut(data)
    assert [a.digest == b.digest for a, b in zip(changed, by_hand, strict=True)] == [False, True]


def test_other_memory_of_the_same_content_and_a_part_of_it_are_read(read):
    data = view_of(100_000)
    with looking():
        digest_of_memory(data)
        digest_of_memory(view_of(100_000))
        digest_of_memory(data[:50_000])
    assert read == [100_000, 100_000, 50_000]


def test_what_was_said_to_be_forgotten_is_read_again(read):
    data = view_of(100_000)
    with looking() as known:
        first = digest_of_memory(data)
        data[5] ^= 1
        known.forget()
        assert digest_of_memory(data) != first


def test_a_block_is_of_the_thread_that_entered_it(read):
    """What another thread records meanwhile, it has its own reasons to: it may have changed it a moment ago."""
    data, found = view_of(100_000), []
    with looking():
        first = digest_of_memory(data)

        def other():
            data[5] ^= 1
            found.append((looks(), digest_of_memory(data) == first))

        # With this thread's context, as a pool's work has it.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
        thread.start()
        thread.join()
    assert found == [(None, False)]


def test_an_address_that_is_used_again_is_not_taken_for_what_lay_there():
    with looking():
        seen = set()
        for n in range(50):  # each is freed as soon as nobody else holds it
            array = np.full(40_000, n)
            seen.add(digest_of_memory(memoryview(array).cast("B")))
            del array
    assert len(seen) == 50


def test_what_is_verified_counts_as_looked_at_and_is_known_again(read, monkeypatch):
    chunker, data = Chunker(), view_of(100_000)
    right = buffers.hashlib.sha256(data).digest()
    with looking() as known:
        assert not chunker.verify(data, bytes(32), known)
        assert known.find(data) is None
        assert chunker.verify(data, right, known)
        del read[:]
        digest_of_memory(data)
        assert read == []
    monkeypatch.setattr(buffers, "hashlib", None)  # by its keyed digest from now on
    assert chunker.verify(data, right)
    (piece,) = chunker.cut(data)
    assert piece.digest == right


def test_a_chunk_that_is_known_is_not_taken_for_another_one():
    chunker, one, other = Chunker(), view_of(100_000), memoryview(noise(100_000, 1))
    digests = [chunker.cut(view)[0].digest for view in (one, other)]
    assert not chunker.verify(one, digests[1])
    one[99_999] ^= 1
    assert not chunker.verify(one, digests[0])


# ---- side by side -------------------------------------------------------------------------------------------------


def test_all_is_done_in_its_order_and_on_more_than_one_thread():
    both = threading.Barrier(2, timeout=30)
    threads = set()

    def work(n):
        if n < 2:
            both.wait()
        threads.add(threading.get_ident())
        return n * n

    assert side_by_side(work, range(50)) == [n * n for n in range(50)]
    assert len(threads) > 1


def test_a_failure_is_raised_once_nothing_runs_any_more():
    running, began = set(), []
    both, failed = threading.Barrier(2, timeout=30), threading.Event()

    def work(n):
        began.append(n)
        running.add(n)
        if n < 2:
            both.wait()
        if n == 0:
            running.discard(n)
            failed.set()
            raise ZeroDivisionError
        assert failed.wait(30)
        running.discard(n)

    with pytest.raises(ZeroDivisionError):
        side_by_side(work, range(1000))
    assert not running
    assert len(began) < 1000


def test_few_bytes_stay_in_one_thread():
    assert side_by_side(lambda _: threading.get_ident(), range(3), 1000) == [threading.get_ident()] * 3
    assert [len(chunk) for chunk in chunks_of(memoryview(bytes(CHUNK + 3)))] == [CHUNK, 3]
