"""`verify` finds every damage to an execution's objects, and names it; and no damaged object becomes a value."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, save
from kitaru.errors import CorruptionError, KitaruError, NotFoundError, StoreFormatError
from kitaru.journal import PACK_AFTER
from kitaru.lineage_graph import lineage_key
from kitaru.records import Begun, Claim, Ended, Forked, Release, Started, Value, values_of
from kitaru.segments import Segment, journal_key, pack, pack_key, segment_digest
from kitaru.stores import LocalStore, MemoryStore
from kitaru.verification import verify

np = pytest.importorskip("numpy")

EXEC = "sample-1"


@checkpoint
def numbers(n):
    return np.arange(n, dtype="int64")


@checkpoint
def words(of):
    return [f"{of} {i}: " + "all of it is said again " * 40 for i in range(280)]


@checkpoint
def text(n):
    return "".join(f"line {i} of a text that is long enough to be cut in chunks\n" for i in range(n))


@checkpoint
def grown(history):
    return [*history, {"role": "user", "content": "more " * 30}]


@checkpoint
def count(i):
    return {"n": i}


@flow
def small(name):
    save("report", f"# {name}")
    history = []
    for _ in range(4):
        history = grown(history)
    save("report", history)
    return history


@flow
def large(name):
    """What has segments, packs, chunks, bundles, and parts that are shared."""
    save("report", f"# {name}")
    numbers(40_000)  # 320 kB: one chunk, a blob of its own
    told = words("first")  # a bundle
    words("second")
    text(5_000)
    grown(told)
    for i in range(PACK_AFTER + 3):
        count(i)
    return told[:3]


def run(a_flow, exec_id=EXEC):
    store = MemoryStore()
    kitaru.connect(store)
    try:
        a_flow.options(exec_id=exec_id).run(name="ada")
    finally:
        kitaru.connect(None)
    return store


def objects(store) -> dict[str, bytes]:
    """Everything but the location's own `kitaru.json`."""
    return {e.key: store.get(e.key) for e in store.list("") if e.key != "kitaru.json"}


def loaded(store) -> dict[str, object]:
    """Every value that can be had, by its name; opening it may fail, and so may each."""
    out = {}
    try:
        execution = KitaruClient(store).executions.get(EXEC)
    except KitaruError:
        return out
    named = [*execution.artifacts, *(a for c in execution.checkpoints for a in c.inputs.values())]
    for artifact in named:
        try:
            out[artifact.ref] = artifact.load()
        except KitaruError:
            continue
    return out


def same(a, b):
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


class Damage:
    """Does damage to a store, looks at what comes of it, and undoes it."""

    def __init__(self, a_flow=None, *, store=None):
        self.store = run(a_flow) if store is None else store
        self.objects = objects(self.store)
        self.right = loaded(self.store)
        assert verify(self.store, EXEC).findings == []
        assert self.right

    def found(self, damaged: dict[str, bytes | None], *, load: bool = True) -> None:
        """That this damage is found, under the key of each object, and comes back as no value."""
        for key, data in damaged.items():
            if data is None:
                self.store.delete([key])
            else:
                self.store.put(key, data)
        try:
            report = verify(self.store, EXEC)
            said = [str(f) for f in report.findings]
            assert not report.ok, f"nothing was found of {list(damaged)}"
            for key in damaged:
                assert any(is_about(line, key) for line in said), f"{key} is not named in {said}"
            if load:
                for ref, value in loaded(self.store).items():
                    assert same(value, self.right[ref]), f"{ref} with {list(damaged)}"
        finally:
            for key in damaged:
                self.store.put(key, self.objects[key])


def is_about(line, key):
    if key.startswith("catalog/"):
        return "catalog/" in line and EXEC in line
    return key in line


@pytest.fixture(scope="module")
def a_small_one():
    return Damage(small)


@pytest.fixture(scope="module")
def a_large_one():
    return Damage(large)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 1 << bit
    return bytes(out)


def positions(data: bytes, most: int) -> Iterator[int]:
    """All of them; or the first and the last ones, and some between."""
    if len(data) <= most:
        return iter(range(len(data)))
    edge = most // 4
    between = random.Random(len(data)).sample(range(edge, len(data) - edge), most - 2 * edge)
    return iter([*range(edge), *sorted(between), *range(len(data) - edge, len(data))])


# ------------------------------------------------------------ what is damaged is found


def test_the_samples_hold_every_kind_of_object(a_large_one):
    held = {re.sub(r"[0-9a-f]{10,}", "N", k.split("/")[-2 if "executions" in k else 0]) for k in a_large_one.objects}
    assert {"journal", "packs", "blobs", "catalog"} <= held
    assert lineage_key(EXEC) in a_large_one.objects
    values = [v for s in segments_of(a_large_one.store) for r in s.records for v in values_of(r)]
    assert any(v.bundle for v in values)
    assert any(len(v.blobs) > 1 or (v.blobs and not v.bundle) for v in values)
    assert any(v.parts for v in values)


def test_a_flipped_bit_anywhere_in_a_small_execution_is_found(a_small_one):
    for key, data in a_small_one.objects.items():
        for at in positions(data, 300):
            a_small_one.found({key: flipped(data, at, at * 5 % 8)}, load=at % 16 == 0)


def test_a_flipped_bit_in_any_object_is_found(a_large_one):
    for key, data in a_large_one.objects.items():
        for at in positions(data, 12 if "/journal/" not in key else 4):
            a_large_one.found({key: flipped(data, at, at % 8)}, load="/journal/" not in key and at % 3 == 0)


def test_a_truncated_object_is_found(a_large_one):
    for key, data in a_large_one.objects.items():
        for length in {0, 1, len(data) // 2, len(data) - 1} if data else ():
            a_large_one.found({key: data[:length]}, load=length == 1 and "/journal/" not in key)


def test_an_object_that_became_longer_is_found(a_large_one):
    for key, data in a_large_one.objects.items():
        a_large_one.found({key: data + b"\0"}, load=False)


def test_a_deleted_object_is_found(a_large_one):
    for i, key in enumerate(a_large_one.objects):
        a_large_one.found({key: None}, load=i % 8 == 0 or "/journal/" not in key)


def test_two_objects_that_were_exchanged_are_found(a_small_one):
    pairs = [(a, b) for a in a_small_one.objects for b in a_small_one.objects if a < b]
    for a, b in pairs:
        if a_small_one.objects[a] != a_small_one.objects[b]:
            a_small_one.found({a: a_small_one.objects[b], b: a_small_one.objects[a]})


def test_objects_of_all_kinds_that_were_exchanged_are_found(a_large_one):
    held = a_large_one.objects
    some = [k for k in held if "/journal/" not in k] + [journal_key(EXEC, n) for n in (1, 2, 3, 40, 70)]
    for a in some:
        for b in some:
            if a < b and held[a] != held[b]:
                a_large_one.found({a: held[b], b: held[a]}, load=False)


def test_an_object_of_another_execution_of_the_same_flow_is_found(a_small_one):
    other = objects(run(small, "sample-2"))
    for key in a_small_one.objects:
        twin = key.replace(EXEC, "sample-2")
        if twin in other and other[twin] != a_small_one.objects[key]:
            a_small_one.found({key: other[twin]})


# ------------------------------------------------------------ and named


def segments_of(store, exec_id=EXEC):
    keys = [e.key for e in store.list(journal_key(exec_id))]
    return [Segment.decode(store.get(key), exec_id, n) for n, key in enumerate(keys, 1)]


def blob_of(store, label):
    """The key of a blob that the output `label` of the sample brought."""
    found = KitaruClient(store).artifacts.get(label)
    (key,) = [f"blobs/{d.hex()[:2]}/{d.hex()}" for d, _ in found._value.blobs]
    return key


def unpacked(store):
    """Without its pack, which holds every segment once more."""
    store.delete([e.key for e in store.list(pack_key(EXEC))])
    return store


def test_a_short_execution_whose_tail_was_removed_is_made_whole_by_its_pack():
    store = run(small)
    held = objects(store)
    store.delete([e.key for e in store.list(journal_key(EXEC))][1:])
    assert all(f.mendable for f in verify(store, EXEC).findings)
    verify(store, EXEC, repair=True)
    assert objects(store) == held


def test_a_whole_execution_is_whole():
    store = run(large)
    report = verify(store, EXEC)
    assert report.ok
    assert (report.findings, report.status) == ([], "completed")
    held = objects(store)
    assert report.segments == sum("/journal/" in k for k in held)
    assert report.blobs == sum(k.startswith("blobs/") for k in held)
    assert report.bytes == sum(map(len, held.values()))
    assert report.values > PACK_AFTER


def test_what_is_wrong_with_a_blob_is_said_and_which_values_need_it():
    store = run(large)
    key = blob_of(store, f"{EXEC}:words.output")
    store.put(key, flipped(store.get(key), 100, 0))
    (finding,) = verify(store, EXEC).findings
    assert (finding.where, finding.derived, finding.mendable) == (key, False, False)
    assert finding.what == "is damaged: its SHA-256 is not its name"
    assert finding.needed_by == ("words#1.output", "grown#1.in.history", "grown#1.output", "result")
    assert str(finding).endswith("(words#1.output, grown#1.in.history, grown#1.output and 1 more need it)")


def test_a_missing_blob_is_needed_by_its_value_alone():
    store = run(large)
    key = blob_of(store, f"{EXEC}:numbers.output")
    store.delete([key])
    (finding,) = verify(store, EXEC).findings
    assert str(finding) == f"{key} is missing (numbers#1.output needs it)"


def test_a_damaged_bundle_stands_in_the_way_of_no_other():
    store = run(large)
    key = blob_of(store, f"{EXEC}:words#2.output")
    store.delete([key])
    assert verify(store, EXEC).findings[0].needed_by == ("words#2.output",)
    client = KitaruClient(store)
    assert len(client.artifacts.load(f"{EXEC}:words#1.output")) == 280
    with pytest.raises(CorruptionError, match=key):
        client.artifacts.load(f"{EXEC}:words#2.output")


def test_a_lost_segment_says_that_what_follows_cannot_be_opened():
    store = unpacked(run(small))
    key = journal_key(EXEC, 2)
    store.delete([key])
    (finding,) = verify(store, EXEC).findings[:1]
    assert finding.where == key
    assert finding.what == "is missing. What was recorded from there on cannot be opened"
    assert not finding.derived


def test_a_lost_first_segment_is_survived():
    store = run(small)
    store.put(journal_key(EXEC, 1), b"nothing")
    report = verify(store, EXEC)
    assert report.findings[0].where == journal_key(EXEC, 1)
    assert report.status


def test_segments_that_are_missing_together_are_one_finding():
    store = unpacked(run(small))
    store.delete([journal_key(EXEC, n) for n in (2, 3, 4)])
    where = [f for f in verify(store, EXEC).findings if "/journal/" in f.where]
    assert [f.where for f in where] == [journal_key(EXEC, 2)]
    assert where[0].what.startswith("is missing, and so are the 2 after it. ")


def test_a_segment_that_was_rewritten_with_a_right_checksum_is_found():
    store = unpacked(run(small))
    old = Segment.decode(store.get(journal_key(EXEC, 2)), EXEC, 2)
    new = Segment(EXEC, 2, old.writer, b"another nonce!!!", old.epoch, old.prev, old.records, old.at)
    store.put(journal_key(EXEC, 2), new.encode())
    said = [str(f) for f in verify(store, EXEC).findings]
    assert said == [f"{journal_key(EXEC, 3)} does not follow the segment before it: one of the two was replaced"]


def test_a_tail_that_was_removed_is_told_by_what_is_derived_from_it():
    store = unpacked(run(small))
    last = max(e.key for e in store.list(journal_key(EXEC)))
    store.delete([last])
    said = [str(f) for f in verify(store, EXEC).findings]
    assert re.match(f"{last} is missing: catalog/.* says that the execution was completed there", said[0])
    assert "its tail" in said[1]


def test_a_tail_that_was_removed_with_all_that_tells_of_it_cannot_be_found():
    store = unpacked(run(small))
    last = max(e.key for e in store.list(journal_key(EXEC)))
    store.delete([last, lineage_key(EXEC), *(e.key for e in store.list("catalog/"))])
    assert [f.where for f in verify(store, EXEC).findings] == [f"the entry of {EXEC} in catalog/"]


def test_an_execution_of_which_only_the_derived_is_left_is_found():
    store = run(small)
    store.delete([e.key for e in store.list(journal_key(EXEC))])
    assert verify(store, EXEC).findings[0].where == journal_key(EXEC, 1)


def test_an_execution_that_never_was_is_not_found():
    with pytest.raises(NotFoundError, match="nobody-1"):
        verify(MemoryStore(), "nobody-1")


def test_a_location_of_a_newer_kitaru_is_refused():
    store = run(small)
    newer = MemoryStore()
    for key, data in objects(store).items():
        newer.put(key, data)
    newer.put("kitaru.json", b'{"format": 7}')
    with pytest.raises(StoreFormatError):
        verify(newer, EXEC)


def test_what_lies_there_and_is_no_object_of_kitaru_is_nothing_wrong():
    store = run(small)
    store.put(f"executions/{EXEC}/journal/0000000002.bak", b"a backup")
    store.put(f"executions/{EXEC}/packs/notes.txt", b"a note")
    store.put("blobs/aa/left-by-somebody", b"")
    assert verify(store, EXEC).ok


def test_a_store_that_is_near_needs_no_packs_and_a_copy_of_it_elsewhere_gets_one(tmp_path):
    near, far = LocalStore(tmp_path), MemoryStore()
    kitaru.connect(near)
    large.options(exec_id=EXEC).run(name="ada")
    kitaru.connect(None)
    assert verify(near, EXEC).findings == []
    KitaruClient(near).executions.copy(EXEC, far)
    assert list(far.list(pack_key(EXEC)))
    assert verify(far, EXEC).findings == []


# ------------------------------------------------------------ an execution that has not ended


def test_an_interrupted_execution_is_whole_without_a_lineage(store):
    @checkpoint
    def leave(n):
        if n == 3:
            raise KeyboardInterrupt
        return n

    @flow
    def left():
        for n in range(5):
            leave(n)

    with pytest.raises(KeyboardInterrupt):
        left.options(exec_id=EXEC).run()

    report = verify(store, EXEC)
    assert (report.ok, report.status) == (True, "interrupted"), report.findings


def test_an_execution_in_progress_is_whole(store):
    seen = []

    @checkpoint
    def look():
        seen.append(verify(store, EXEC))

    @flow
    def looking():
        count(1)
        look()

    looking.options(exec_id=EXEC).run()
    assert [(r.status, r.findings) for r in seen] == [("running", [])]


def test_a_lineage_of_an_earlier_end_is_right_while_it_goes_on(store):
    seen, ready = [], []

    @checkpoint
    def may_fail():
        if not ready:
            raise ValueError("not yet")
        seen.append(verify(store, EXEC))

    @flow
    def going_on():
        count(1)
        may_fail()

    again = going_on.options(exec_id=EXEC, raises=False)
    again.run()
    ready.append(True)
    again.run()
    assert [(r.status, r.findings) for r in seen] == [("running", [])]
    assert verify(store, EXEC).ok


# ------------------------------------------------------------ repair


def test_what_is_derived_is_made_again():
    store = run(large)
    right = objects(store)
    (packed,) = [k for k in right if "/packs/" in k]
    (entry,) = [k for k in right if k.startswith("catalog/")]
    for damage in (lambda k: store.put(k, b"nonsense"), lambda k: store.delete([k])):
        for key in (packed, entry, lineage_key(EXEC)):
            damage(key)
        broken = verify(store, EXEC)
        assert not broken.ok
        assert all(f.derived and f.mendable and not f.mended for f in broken.findings)
        mended = verify(store, EXEC, repair=True)
        assert mended.ok
        assert all(f.mended for f in mended.findings)
        again = objects(store)
        assert again.keys() - {entry} >= right.keys() - {entry, packed}
        assert again[lineage_key(EXEC)] == right[lineage_key(EXEC)]
        assert verify(store, EXEC).findings == []


@pytest.mark.parametrize("how", ["flipped", "deleted"])
def test_a_segment_that_a_pack_holds_is_put_back(how):
    store = run(large)
    right, key = objects(store), journal_key(EXEC, 9)
    if how == "flipped":
        store.put(key, flipped(right[key], 20, 3))
    else:
        store.delete([key])
    (finding,) = verify(store, EXEC).findings
    assert (finding.where, finding.derived, finding.mendable) == (key, False, True)
    assert "holds it as it was written" in finding.what
    assert verify(store, EXEC, repair=True).ok
    assert objects(store) == right


def test_a_blob_cannot_be_mended():
    store = run(large)
    key = blob_of(store, f"{EXEC}:numbers.output")
    store.delete([key])
    assert not verify(store, EXEC, repair=True).ok


def test_nothing_is_written_without_being_asked():
    store = run(small)
    store.delete([lineage_key(EXEC)])
    before = objects(store)
    verify(store, EXEC)
    assert objects(store) == before


# ------------------------------------------------------------ forks


ORIGIN = "origin-1"


def fork_of(store, upto):
    """An execution that names the values of its origin, as a fork does."""
    origin = segments_of(store, ORIGIN)[:upto]
    last = segment_digest(store.get(journal_key(ORIGIN, upto)))
    value = next(v for s in origin for r in s.records if isinstance(r, Ended) for _, v in r.value if v.bundle)
    named = Value(value.digest, value.size, value.kind, value.preview)
    start = Started((EXEC, 1), None, "taken", 1, (("of", value.digest),), b"", arguments=(("of", named),), at=1.0)
    records = (
        (Begun("forked", (), fork=Forked(ORIGIN, upto, last=last), at=1.0), Claim({}, 20.0, 1.0)),
        (start, Ended((EXEC, 1), True, (("output", named),), at=2.0)),
        (Release("interrupted", at=3.0),),
    )
    prev = b""
    for n, of in enumerate(records, 1):
        data = Segment(EXEC, n, "w" * 16, bytes(16), 1, prev, of, float(n)).encode()
        store.put(journal_key(EXEC, n), data)
        prev = segment_digest(data)
    from kitaru.catalog import put_status

    put_status(store, EXEC, "forked", "interrupted", begun=1.0, at=3.0, n=3)


@pytest.fixture
def forked():
    store = run(large, ORIGIN)
    fork_of(store, 20)
    return store


def test_a_fork_whose_values_stand_in_its_origin_is_whole(forked):
    report = verify(forked, EXEC)
    assert report.ok, report.findings
    assert report.segments == 23


def test_what_is_damaged_in_the_origin_is_found_for_the_fork(forked):
    key = blob_of(forked, f"{ORIGIN}:words.output")
    forked.delete([key])
    (finding,) = verify(forked, EXEC).findings
    assert finding.where == key
    assert finding.needed_by == ("taken#1.in.of", "taken#1.output")


def test_what_the_origin_did_since_is_not_looked_at(forked):
    forked.delete([journal_key(ORIGIN, 60)])
    assert verify(forked, EXEC).ok


def test_an_origin_that_is_gone_is_named_with_the_values_that_need_it(forked):
    forked.delete([e.key for e in forked.list(f"executions/{ORIGIN}/")])
    (finding,) = verify(forked, EXEC).findings
    assert finding.where == journal_key(ORIGIN, 1)
    assert finding.what == f"is missing: {EXEC} was forked from {ORIGIN}, and that is gone"
    assert finding.needed_by == ("taken#1.in.of", "taken#1.output")


def test_another_execution_under_the_origins_name_is_found(forked):
    forked.delete([e.key for e in forked.list(f"executions/{ORIGIN}/")])
    for e in (other := run(large, ORIGIN)).list(f"executions/{ORIGIN}/"):
        forked.put(e.key, other.get(e.key))
    (finding,) = verify(forked, EXEC).findings
    assert finding.where == journal_key(ORIGIN, 20)
    assert finding.what == f"is not what {EXEC} was forked from: another {ORIGIN} was begun since"


def test_an_origin_that_is_shorter_than_it_was_is_found(forked):
    forked.delete([e.key for e in forked.list(f"executions/{ORIGIN}/packs/")])
    forked.delete([e.key for e in forked.list(journal_key(ORIGIN), after=journal_key(ORIGIN, 18))])
    assert verify(forked, EXEC).findings[0].where == journal_key(ORIGIN, 19)


# ------------------------------------------------------------ what it costs


def test_progress_ends_with_everything_looked_at():
    store, told = run(large), []
    report = verify(store, EXEC, progress=told.append)
    assert [p.done for p in told] == list(range(1, len(told) + 1))
    assert told[-1].bytes == report.bytes
    assert told[-1].done == told[-1].total
    assert all(p.done <= p.total and p.bytes <= p.total_bytes for p in told)


def test_each_object_is_fetched_once():
    asked = []

    class Counting(MemoryStore):
        def get(self, key, **range_):
            asked.append(key)
            return super().get(key, **range_)

    store = Counting()
    for key, data in objects(run(large)).items():
        store.put(key, data)
    assert verify(store, EXEC).ok
    asked = [key for key in asked if key != "kitaru.json"]
    assert len(asked) == len(set(asked))


def test_a_store_that_takes_a_while_is_read_side_by_side():
    import threading

    together, most, lock = 0, 0, threading.Lock()

    class Slow(MemoryStore):
        def get(self, key, **range_):
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
            threading.Event().wait(0.004)
            with lock:
                together -= 1
            return super().get(key, **range_)

    store = Slow()
    for key, data in objects(run(large)).items():
        store.put(key, data)
    assert verify(store, EXEC).ok
    assert most > 4


def test_a_pack_that_was_written_by_nobody_who_read_the_journal_is_found():
    store = run(small)
    raw = [store.get(e.key) for e in store.list(journal_key(EXEC))]
    store.put(pack_key(EXEC, 1, 2), pack([raw[1], raw[0]]))
    (finding,) = verify(store, EXEC).findings
    assert str(finding) == f"{pack_key(EXEC, 1, 2)} holds another segment 1 than the journal"
    assert finding.derived


# ---------------------------------------------------------------- the inbox


@pytest.fixture
def answered(store):
    @flow
    def asks():
        return kitaru.wait(name="x", schema=str), kitaru.wait(name="y", schema=str)

    client = KitaruClient(store)
    exec_id = asks.options(exec_id="asks-1").run().exec_id
    client.executions.input(exec_id, "x", "yes", who="ada")
    client.executions.resume(exec_id)
    client.executions.input(exec_id, "y", "no")
    assert verify(store, exec_id).ok
    return exec_id


def inbox_keys(store, exec_id):
    return {e.key.rpartition("/")[2]: e.key for e in store.list(f"executions/{exec_id}/inbox/")}


def test_every_flip_and_cut_of_an_answer_is_found_and_one_that_was_read_is_put_back(store, answered):
    keys = inbox_keys(store, answered)
    read, unread = keys["x%231%401"], keys["y%231%402"]
    for key in (read, unread):
        whole = store.get(key)
        for bad in [
            *(whole[:n] for n in range(0, len(whole), 7)),
            *(flipped(whole, n, 0) for n in range(0, len(whole), 3)),
        ]:
            store.put(key, bad)
            found = verify(store, answered).findings
            assert [(f.where, f.mendable) for f in found] == [(key, key == read)], bad
        store.put(key, whole)
    store.put(read, store.get(unread))
    assert [f.where for f in verify(store, answered).findings] == [read]
    store.delete([read])
    assert "is missing, and the journal holds it" in verify(store, answered, repair=True).findings[0].what
    assert verify(store, answered).ok
