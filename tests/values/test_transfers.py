"""Large values go up and come down side by side, within bounds of memory."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from kitaru import checkpoint, flow
from kitaru.blobs import Upload, Uploader, blob_key
from kitaru.client import KitaruClient
from kitaru.codecs import buffers
from kitaru.codecs.buffers import CHUNK, Chunker, chunks_of
from kitaru.errors import CorruptionError, StoreFullError, UnrecordableValueError
from kitaru.pools import Pools
from kitaru.stores.local import LocalStore
from kitaru.stores.memory import MemoryStore

MEMORY = """
import sys
import numpy as np
import kitaru
from kitaru import KitaruClient, checkpoint, flow

SIZE = {size}

@checkpoint
def make():
    return np.random.default_rng(0).integers(0, 255, SIZE, dtype=np.uint8)

@flow
def body():
    rows = make()
    return len(rows)

@checkpoint
def make_small():
    return np.zeros(1 << 20, dtype=np.uint8)

@flow
def small():
    make_small()

def peak():
    with open("/proc/self/status") as status:  # what getrusage says begins with the parent's
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

if __name__ == "__main__":
    kitaru.connect("runs")
    if sys.argv[1] == "record":
        small.run()
        before = peak()
        body.options(exec_id="x").run()
    else:
        KitaruClient().executions.get("x")
        before = peak()
        assert len(KitaruClient().artifacts.load("x:make")) == SIZE
    print((peak() - before) / SIZE)
"""


@pytest.mark.process
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_recording_and_loading_a_large_array_take_little_more_than_the_array(run_script, tmp_path):
    (tmp_path / "large.py").write_text(MEMORY.format(size=200 << 20))
    for what in ("record", "load"):
        done = run_script("large.py", what)
        assert done.code == 0, done.err
        fixed = 64 + 32 if what == "record" else 0  # MB, of any array: copies that are kept, and those under way
        assert float(done.out) <= 1.2 + fixed / 200, f"{what}: {done.out} of the array"


class Watched(MemoryStore):
    """Counts how many transfers of blobs are under way at once; the first ones wait for each other."""

    def __init__(self):
        super().__init__()
        self.meet = threading.Barrier(4)
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.fails = None

    def _under_way(self, key, work):
        if not key.startswith("blobs/"):
            return work()
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if self.fails is not None:
                raise self.fails
            self.meet.wait(10)
            return work()
        finally:
            with self.lock:
                self.now -= 1

    def put_if_absent(self, key, data):
        return self._under_way(key, lambda: MemoryStore.put_if_absent(self, key, data))

    def get(self, key, *, start=None, end=None):
        return self._under_way(key, lambda: MemoryStore.get(self, key, start=start, end=end))


@checkpoint
def make():
    return np.arange(8 << 19, dtype=np.float64)  # 8 chunks


@flow
def body():
    return len(make())


def test_chunks_go_side_by_side_and_not_all_at_once(connected):
    store = connected(Watched())
    body.options(exec_id="x").run()
    assert 4 <= store.most <= 8
    store.most = 0
    assert len(KitaruClient().artifacts.load("x:make")) == 8 << 19
    assert 4 <= store.most <= 8


def test_an_upload_that_fails_leaves_nothing_running_and_nothing_recorded(connected):
    store = connected(Watched())
    store.fails = StoreFullError("the disk is full: make room")
    with pytest.raises(StoreFullError, match="make room"):
        body.options(exec_id="x").run()
    assert store.now == 0
    store.fails = None
    assert body.options(exec_id="x").run().get() == 8 << 19


def test_a_damaged_chunk_ends_a_download(connected):
    store = connected(Watched())
    body.options(exec_id="x").run()
    keys = [e.key for e in store.list("blobs/")]
    data = MemoryStore.get(store, keys[3])
    store.delete([keys[3]])
    store.put(keys[3], data[::-1])
    with pytest.raises(CorruptionError, match=keys[3]):
        KitaruClient().artifacts.load("x:make")
    assert store.now == 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda blob: blob.write_bytes(blob.read_bytes()[:-1] + b"!"), "is not what was recorded"),
        (lambda blob: blob.write_bytes(blob.read_bytes()[:-1]), "is not what was recorded"),
        (lambda blob: blob.write_bytes(b""), "is not what was recorded"),
        (lambda blob: blob.unlink(), "is missing"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["met before", "new to the process"])
def test_a_damaged_chunk_in_a_folder_is_never_returned(tmp_path, connected, monkeypatch, damage, says, known):
    connected(LocalStore(tmp_path / "store"))
    body.options(exec_id="x").run()
    if not known:
        monkeypatch.setattr(buffers, "_chunker", lambda pid, fresh=Chunker(): fresh)
    artifact = KitaruClient().artifacts.get("x:make")
    if known:
        assert artifact.load()[-1] == (8 << 19) - 1
    blob = sorted((tmp_path / "store" / "blobs").glob("*/*"))[3]
    whole = blob.read_bytes()
    damage(blob)
    with pytest.raises(CorruptionError, match=rf"{blob.name}.* {says}"):
        artifact.load()
    blob.write_bytes(whole)
    assert np.array_equal(artifact.load(), np.arange(8 << 19, dtype=np.float64))


def test_a_chunk_that_is_not_as_long_as_the_record_says_is_damage(tmp_path, connected):
    connected(LocalStore(tmp_path / "store"))
    body.options(exec_id="x").run()
    values = KitaruClient().executions.get("x").values
    digest = next(iter(values.index.blobs))
    for size in ((4 << 20) - 1, (4 << 20) + 1):
        with pytest.raises(CorruptionError, match="4194304 bytes, and its record says"):
            values.fill([(digest, size)], memoryview(bytearray(size)))


# ---- ahead: chunks are stored while others of the same value are hashed -------------------------------------------


class Slow(MemoryStore):
    """Blobs go up once they may; until then `fails` is raised, if there is one."""

    def __init__(self):
        super().__init__()
        self.may, self.fails = threading.Event(), None
        self.stored = threading.Semaphore(0)

    def put_if_absent(self, key, data):
        if key.startswith("blobs/"):
            if self.fails is not None:
                raise self.fails
            assert self.may.wait(10)
        won = super().put_if_absent(key, data)
        if key.startswith("blobs/"):
            self.stored.release()
        return won


def noise(chunks):
    return chunks_of(memoryview(np.random.default_rng(1).bytes(chunks * CHUNK)))


@pytest.fixture
def pools():
    made = Pools(1, lambda error: None)
    yield made
    made.close()


def uploader(store, pools, chunker, known=()):
    return Uploader(store, pools, chunker, known, lambda request, what: request())


def test_a_chunk_is_stored_while_others_are_hashed(connected, monkeypatch):
    store, learn, left = connected(Slow()), Chunker._learn, [8]
    store.may.set()

    def slowly(self, chunk):
        left[0] -= 1
        if left[0] == 1:
            assert store.stored.acquire(timeout=10), "nothing is stored before all is hashed"
        return learn(self, chunk)

    monkeypatch.setattr(Chunker, "_learn", slowly)
    assert body.options(exec_id="x").run().get() == 8 << 19
    assert np.array_equal(KitaruClient().artifacts.load("x:make"), np.arange(8 << 19, dtype=np.float64))


def test_hashing_waits_for_no_store_and_keeps_so_many_copies_at_most(pools):
    store, chunker = Slow(), Chunker()
    ahead = uploader(store, pools, chunker)
    pieces = chunker.pieces(noise(20), ahead)
    assert not [*store.list("")]
    assert len(ahead._begun) == 8
    store.may.set()
    ahead.upload([Upload(piece.digest, piece) for piece in pieces])
    assert {e.key for e in store.list("")} == {blob_key(piece.digest) for piece in pieces}
    assert not ahead._begun
    assert ahead.has_room(CHUNK), "a place is free again once a chunk is stored"


def test_what_failed_ahead_is_stored_when_it_is_asked_for(pools):
    store, chunker = Slow(), Chunker()
    store.fails = StoreFullError("the disk is full: make room")
    ahead = uploader(store, pools, chunker)
    pieces = chunker.pieces(noise(4), ahead)
    uploads = [Upload(piece.digest, piece) for piece in pieces]
    with pytest.raises(StoreFullError, match="make room"):
        ahead.upload(uploads)
    store.fails = None
    store.may.set()
    ahead.upload(uploads)
    assert len([*store.list("blobs/")]) == 4


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_value_that_changed_after_it_was_hashed_is_refused_though_its_chunks_are_stored(pools, is_stored):
    store, chunker = Slow(), Chunker()
    data = bytearray(b"".join(noise(3)))
    ahead = uploader(store, pools, chunker)
    pieces = chunker.pieces(chunks_of(memoryview(data)), ahead)
    if is_stored:
        store.may.set()
        assert all(store.stored.acquire(timeout=10) for _ in pieces)
    uploads = [Upload(piece.digest, piece) for piece in pieces if not ahead.is_done(piece.digest)]
    data[CHUNK + 5] ^= 1
    store.may.set()
    with pytest.raises(UnrecordableValueError, match="changed by another thread"):
        ahead.upload(uploads)
    data[CHUNK + 5] ^= 1
    ahead.upload(uploads)
    assert all(ahead.is_done(piece.digest) for piece in pieces)


def test_what_is_known_is_not_stored_ahead(pools):
    store, chunks = MemoryStore(), noise(2)
    known = {piece.digest for piece in Chunker().pieces(chunks)}
    chunker = Chunker()  # as after a resume: it has to hash them, and the journal names them
    ahead = uploader(store, pools, chunker, known)
    for _ in range(20):
        chunker = Chunker()
        chunker.pieces(chunks, ahead)
    assert not ahead._begun
    assert not [*store.list("")]
    assert ahead.has_room(CHUNK), "no place was lost"


def test_nothing_is_stored_ahead_once_the_run_has_ended(pools):
    store, chunker = MemoryStore(), Chunker()
    assert pools.io
    pools.close()
    ahead = uploader(store, pools, chunker)
    pieces = chunker.pieces(noise(2), ahead)
    assert len(pieces) == 2
    assert not ahead._begun
    assert not [*store.list("")]


def test_a_chunk_that_cannot_be_hashed_takes_no_place(pools, monkeypatch):
    chunker = Chunker()
    ahead = uploader(MemoryStore(), pools, chunker)

    def fails(self, chunk):
        raise MemoryError

    monkeypatch.setattr(Chunker, "_learn", fails)
    for _ in range(10):
        with pytest.raises(MemoryError):
            chunker.pieces(noise(2), ahead)
    assert ahead.has_room(CHUNK)


class Odd:
    """Has no data form: the value that holds it is pickled whole."""

    def __reduce__(self):
        return (Odd, ())


def test_of_a_value_that_is_pickled_whole_no_chunk_is_stored_beside_it(connected):
    store = connected(MemoryStore())

    @checkpoint
    def mixed():
        return [np.arange(1 << 20, dtype=np.float64), Odd()]

    @flow
    def mixes():
        mixed()

    mixes.options(exec_id="x").run()
    assert KitaruClient().executions.get("x").checkpoints[0].artifacts[0].kind == "pickle"
    stored = {blob.key for blob in store.list("blobs/")}
    bare = Chunker().cut(memoryview(np.arange(1 << 20, dtype=np.float64)).cast("B"))
    assert stored
    assert not stored & {blob_key(piece.digest) for piece in bare}
