from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from kitaru.codecs import buffers, memory
from kitaru.codecs.buffers import CHUNK, SMALL, Buffer, Chunker, Piece, Pieces
from kitaru.errors import CorruptionError, UnrecordableValueError


class Chunks(dict):
    """A source that counts the bytes which it is asked for."""

    fetched = 0

    def get(self, digest):
        self.fetched += len(self[digest])
        return self[digest]

    def fill(self, pieces, into):
        at = 0
        for digest, length in pieces:
            into[at : at + length] = self.get(digest)
            at += length
        assert at == len(into)


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def stored(data, chunker=None):
    chunker = chunker or Chunker()
    pieces = chunker.cut(memoryview(data))
    source = Chunks((piece.digest, chunker.check(piece)) for piece in pieces)
    return Pieces([(piece.digest, len(piece.data)) for piece in pieces], source), source


def afresh(view):
    return [hashlib.sha256(view[at : at + CHUNK]).digest() for at in range(0, len(view), CHUNK)]


def digests(pieces):
    return [piece.digest for piece in pieces]


class Counted(Chunker):
    """How many chunks were hashed anew."""

    learned = 0

    def _learn(self, chunk):
        self.learned += 1
        return super()._learn(chunk)


# ---- cutting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, CHUNK - 1, CHUNK, CHUNK + 1, 6 * CHUNK + 5])
def test_a_buffer_is_cut_into_chunks_of_four_mebibytes(size):
    data = noise(size)
    pieces = Chunker().cut(memoryview(data))
    assert b"".join(piece.data for piece in pieces) == data
    assert [len(piece.data) for piece in pieces[:-1]] == [CHUNK] * (len(pieces) - 1)
    assert digests(pieces) == afresh(data)


def test_an_empty_buffer_has_no_chunk():
    assert Chunker().cut(memoryview(b"")) == []


def test_what_is_unchanged_is_not_hashed_anew():
    chunker, data = Counted(), bytearray(noise(6 * CHUNK + 99))
    first = digests(chunker.cut(memoryview(data)))
    assert chunker.learned == 6  # the last one is too short to be remembered
    assert digests(chunker.cut(memoryview(bytes(data)))) == first
    assert chunker.learned == 6
    data[2 * CHUNK + 17] ^= 1
    assert [a == b for a, b in zip(digests(chunker.cut(memoryview(data))), first, strict=True)] == [
        True, True, False, True, True, True, True,
    ]  # fmt: skip
    assert chunker.learned == 7


edits = st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255), st.integers(1, 300)), max_size=6)


@settings(max_examples=60)
@given(start=st.binary(max_size=40), steps=st.lists(edits, max_size=6), remembered=st.integers(1, 5))
def test_what_a_chunker_says_is_what_hashing_afresh_says(start, steps, remembered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "CHUNK", 1000)  # many chunks, of few bytes
        patch.setattr(buffers, "_COPIED", 300)
        patch.setattr(buffers, "_BLOCK", 128)
        chunker = Chunker(remembered=remembered)
        data = bytearray((start or b"x") * 300)
        for step in [[], *steps, []]:
            for at, byte, count in step:
                at %= len(data) - count + 1
                data[at : at + count] = bytes([byte]) * count
            pieces = chunker.cut(memoryview(data))
            assert digests(pieces) == [
                hashlib.sha256(data[at : at + 1000]).digest() for at in range(0, len(data), 1000)
            ]
            assert b"".join(map(chunker.check, pieces)) == data


def test_what_it_remembers_is_bounded():
    chunker = Chunker(remembered=3)
    for seed in range(20):
        chunker.cut(memoryview(noise(20_000, seed)))
        assert len(chunker._digests) <= 3
        assert len(chunker._starts) <= 3


def test_what_a_chunk_is_known_by_differs_between_processes():
    code = "from kitaru.codecs.buffers import fast_hash; print(fast_hash(b'x').hex())"
    said = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(said) == 2
    assert all(len(line) == 65 for line in said)


def test_many_threads_may_ask_one_chunker():
    chunker, datas = Chunker(remembered=8), [noise(200_000, seed) for seed in range(12)]
    wrong = []

    def ask(seed):
        for data in random.Random(seed).choices(datas, k=60):
            if digests(chunker.cut(memoryview(data))) != afresh(data):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- what another thread changes ------------------------------------------------------------------------------------


def test_a_chunk_that_changed_after_it_was_hashed_is_refused():
    chunker, data = Chunker(), bytearray(noise(100_000))
    (piece,) = chunker.cut(memoryview(data))
    assert chunker.check(piece) == data
    data[500] ^= 1
    with pytest.raises(UnrecordableValueError, match="changed by another thread"):
        chunker.check(piece)
    data[500] ^= 1
    assert chunker.check(piece) == data


def test_bytes_that_nobody_can_change_are_looked_at_once(monkeypatch):
    chunker, data = Chunker(), noise(2 * CHUNK)
    pieces = chunker.cut(memoryview(data))
    asked = []
    monkeypatch.setattr(buffers, "fast_hash", lambda chunk: asked.append(chunk) or b"")
    assert b"".join(map(chunker.check, pieces)) == data
    assert not asked
    pieces = Chunker().cut(memoryview(bytearray(data)))
    assert b"".join(map(chunker.check, pieces)) == data
    assert len(asked) == 2


def test_a_change_to_other_known_content_is_refused_too():
    chunker, one, other = Chunker(), noise(100_000, 1), noise(100_000, 2)
    chunker.cut(memoryview(other))
    data = bytearray(one)
    (piece,) = chunker.cut(memoryview(data))
    data[:] = other
    with pytest.raises(UnrecordableValueError):
        chunker.check(piece)


def test_a_piece_whose_chunk_was_forgotten_is_still_checked():
    chunker = Chunker(remembered=1)
    data = bytearray(noise(100_000))
    (piece,) = chunker.cut(memoryview(data))
    chunker.cut(memoryview(noise(100_000, 2)))
    assert chunker.check(piece) == data
    data[0] ^= 1
    with pytest.raises(UnrecordableValueError):
        chunker.check(piece)


def test_a_change_while_a_chunk_is_hashed_poisons_nothing(monkeypatch):
    """Another thread writes between the two hashes of a block: they must be of the same bytes all the same."""
    chunker, data = Chunker(), bytearray(noise(1 << 20))
    states = [bytes(data)]
    keyed = buffers.keyed

    class Slow:
        def __init__(self):
            self.hash = keyed()

        def update(self, block):
            data[:] = os.urandom(1 << 20)
            states.append(bytes(data))
            return self.hash.update(block)

        def digest(self):
            return self.hash.digest()

    with monkeypatch.context() as patch:
        patch.setattr(buffers, "keyed", Slow)
        chunker.cut(memoryview(data))
    assert len(states) > 3
    for fast, slow in list(chunker._digests.items()):
        torn = b"".join(state[at : at + (256 << 10)] for state, at in zip(states, range(0, 1 << 20, 256 << 10)))
        assert (fast, slow) == (buffers.fast_hash(torn), hashlib.sha256(torn).digest())


def test_a_short_chunk_is_a_copy_from_the_start():
    data = bytearray(noise(5000))
    chunker = Chunker()
    (piece,) = chunker.cut(memoryview(data))
    before = bytes(data)
    data[:] = bytes(5000)
    assert chunker.check(piece) == before


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def body():
    data = noise(3 * CHUNK + 77)
    return (data, *stored(data))


PLACES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 76, 3 * CHUNK + 77]


@pytest.mark.parametrize("start", PLACES)
def test_any_part_of_a_buffer_can_be_had(body, start):
    data, pieces, source = body
    for end in PLACES:
        if start <= end:
            source.fetched = 0
            assert pieces.part(start, end) == data[start:end]
            whole = min(-(-end // CHUNK) * CHUNK, len(data)) - start // CHUNK * CHUNK
            assert source.fetched == (whole if start < end else 0)


def test_a_buffer_is_filled_in_place(body):
    data, pieces, _ = body
    into = bytearray(len(data))
    pieces.fill(memoryview(into))
    assert into == data == pieces.read()
    assert pieces.size == len(data)


def test_more_than_there_is_cannot_be_had(body):
    _, pieces, _ = body
    for start, size in [(0, pieces.size + 1), (pieces.size, 1), (-1, 1)]:
        with pytest.raises(ValueError, match="bytes"):
            pieces.fill(memoryview(bytearray(size)), start)


def test_a_short_buffer_needs_no_source():
    pieces = Pieces.of(b"0123456789")
    assert (pieces.size, pieces.read(), pieces.part(3, 5), Pieces.of(pieces)) == (10, b"0123456789", b"34", pieces)
    into = bytearray(4)
    pieces.fill(memoryview(into), 2)
    assert into == b"2345"


@pytest.mark.parametrize("lengths", [[], [1], [SMALL], [CHUNK, 0], [5000, 5000], [CHUNK + 1], [CHUNK - 1, CHUNK], [-5]])
def test_a_buffer_that_is_cut_otherwise_is_damaged(lengths):
    with pytest.raises(CorruptionError):
        Pieces([(bytes(32), length) for length in lengths], Chunks())


@pytest.mark.parametrize("body", [bytes(SMALL + 1), bytearray(b"x"), "x", None, [], 1])
def test_what_is_no_buffer_is_damaged(body):
    with pytest.raises(CorruptionError):
        Pieces.of(body)


def test_a_chunk_of_another_length_than_claimed_is_damaged():
    pieces = Pieces([(b"a" * 32, CHUNK), (b"b" * 32, 5000)], Chunks({b"a" * 32: bytes(CHUNK), b"b" * 32: bytes(4999)}))
    with pytest.raises(CorruptionError):
        pieces.part(CHUNK + 1, CHUNK + 2)


def test_a_buffer_is_contiguous_bytes():
    for view in [memoryview(b"abcd")[::2], memoryview(b"abcd").cast("H")]:
        with pytest.raises(TypeError):
            Buffer(view)
    assert Buffer(memoryview(b"abcd")).view == b"abcd"


def test_a_piece_of_bytes_is_what_it_says():
    assert Chunker().check(Piece(bytes(32), b"as it is")) == b"as it is"
