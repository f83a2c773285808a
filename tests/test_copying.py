"""An execution on a folder, copied to a bucket, opens and resumes there, and the other way round."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest

import kitaru
from kitaru import checkpoint, flow, log, save
from kitaru.client import ExecutionStatus, KitaruClient
from kitaru.copying import Progress, copy
from kitaru.errors import CorruptionError, NotFoundError, StoreUnavailableError, UsageError
from kitaru.flows import Flow, Options
from kitaru.lineage_graph import lineage_key
from kitaru.reading import read_journal
from kitaru.records import Logged
from kitaru.segments import Segment, journal_key, segment_digest
from kitaru.stores import LocalStore, MemoryStore
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at
from kitaru.verification import verify

from .large import noise, pages

BIG = noise(100_000)
RAW = pages(600_000)


class Switch:
    """Whether the world is still broken. As a closure's variable it counts by its type alone."""

    on = True

    def __reduce__(self):
        raise TypeError("no data")


@pytest.fixture
def audit(ran):
    """A flow with blobs, notes and saves that fails in its third step for as long as `audit.broken.on`."""
    broken = Switch()

    @checkpoint
    def fetch(n):
        ran(f"fetch {n}")
        return {"n": n, "text": BIG + b"%d" % n}

    @checkpoint
    def judge(page):
        ran(f"judge {page['n']}")
        log(n=page["n"])
        if page["n"] == 2 and broken.on:
            raise TimeoutError("no answer")
        return len(page["text"])

    @flow
    def audit(count):
        save("raw", RAW)
        return sum(judge(fetch(n)) for n in range(1, count + 1))

    audit.broken = broken
    return audit


@pytest.fixture
def places(tmp_path, moto_s3):
    """A new store of a kind: `places("bucket")`."""
    made = iter(range(100))
    kinds = {
        "folder": lambda: LocalStore(tmp_path / f"store-{next(made)}"),
        "bucket": lambda: moto_s3(),
        "memory": lambda: MemoryStore(),
    }
    return lambda kind: kinds[kind]()


def objects(store, *, but=()):
    return {e.key: store.get(e.key) for e in store.list("") if not e.key.startswith(but)}


def check_resumes(store, audit, ran, connected):
    """The failed execution `a` opens in `store`, and goes on there without running again what had finished."""
    connected(store)
    client = KitaruClient(store)
    seen = client.executions.get("a")
    assert (seen.status, seen.failed_at) == (ExecutionStatus.FAILED, "judge#2")
    assert [c.label for c in seen.checkpoints] == ["fetch#1", "judge#1", "fetch#2", "judge#2"]
    assert client.artifacts.get("a:raw").load() == RAW
    assert [s.exec_id for s in client.executions.list(status="failed")] == ["a"]
    ran.take()
    audit.broken.on = False
    assert client.executions.resume("a").get() == sum(len(BIG) + 1 for _ in range(3))
    assert ran.take() == ["judge 2", "fetch 3", "judge 3"]
    assert [s.status.value for s in client.executions.list()] == ["completed"]


def fail(audit, store, connected):
    connected(store)
    audit.options(exec_id="a", raises=False).run(3)


# ---------------------------------------------------------------- kitaru's own copy


@pytest.mark.s3
@pytest.mark.parametrize(
    ("one", "other"),
    [("folder", "bucket"), ("bucket", "folder"), ("folder", "folder"), ("memory", "bucket"), ("bucket", "memory")],
)
def test_a_copy_opens_and_resumes_at_the_other_side(places, audit, ran, connected, one, other):
    source, target = places(one), places(other)
    fail(audit, source, connected)
    before = objects(source)
    told = []
    copied = KitaruClient(source).executions.copy("a", target, progress=told.append)
    assert (copied.status, copied.running, copied.ahead) == ("failed", False, 0)
    assert (copied.blobs, copied.blobs_there, copied.segments_there) == (3, 0, 0), "two chunks and a bundle"
    assert copied.segments == read_journal(source, "a").n
    assert copied.bytes == sum(len(v) for k, v in before.items() if k.startswith(("blobs/", "executions/a/journal/")))
    total = copied.blobs + copied.segments
    assert [p.done for p in told] == [*range(1, total + 1)]
    assert told[-1] == Progress(total, total, copied.bytes, copied.bytes)
    assert json.loads(json.dumps(copied.to_json()))["target"] == target.url
    assert json.dumps(told[-1]._asdict())
    assert objects(source) == before
    hints = ("catalog/", "kitaru.json", "executions/a/owner")
    if (one, other) == ("folder", "bucket"):  # where a request takes long the journal is read by one, from a pack
        assert [e.key for e in target.list("executions/a/packs/")] == [
            f"executions/a/packs/{1:010}-{copied.segments:010}"
        ]
        hints += ("executions/a/packs/",)
    assert objects(target, but=hints) == objects(source, but=hints), "the lineage too"
    check_resumes(target, audit, ran, connected)


@pytest.fixture
def store_pair(tmp_path, connected, audit):
    """A source with the failed execution, and an empty target."""
    source, target = LocalStore(tmp_path / "one"), LocalStore(tmp_path / "two")
    fail(audit, source, connected)
    return source, target


def test_a_second_copy_writes_nothing(store_pair):
    source, target = store_pair
    first = copy(source, target, "a")
    before = objects(target)
    told = []
    again = copy(source, target, "a", progress=told.append)
    assert (again.segments, again.blobs, again.bytes) == (0, 0, 0)
    assert (again.segments_there, again.blobs_there) == (first.segments, first.blobs)
    assert told[-1].bytes == told[-1].total_bytes == first.bytes
    assert objects(target) == before


def test_what_came_later_is_added_and_the_catalog_follows(store_pair, audit):
    source, target = store_pair
    first = copy(source, target, "a")
    audit.broken.on = False
    audit.options(exec_id="a").run(3)
    again = copy(source, target, "a")
    assert (again.status, again.segments_there) == ("completed", first.segments)
    assert again.segments > 0
    assert [s.status.value for s in KitaruClient(target).executions.list()] == ["completed"]
    assert len([*target.list("catalog/")]) == 1
    assert target.get(lineage_key("a")) == source.get(lineage_key("a"))


def test_a_longer_journal_at_the_target_is_left(store_pair, audit, connected):
    source, target = store_pair
    copy(source, target, "a")
    connected(target)
    audit.broken.on = False
    audit.options(exec_id="a").run(3)
    before = objects(target)
    again = copy(source, target, "a")
    assert (again.segments, again.bytes, again.status) == (0, 0, "completed")
    assert again.ahead == read_journal(target, "a").n - read_journal(source, "a").n
    assert objects(target, but=("catalog/",)) == {k: v for k, v in before.items() if not k.startswith("catalog/")}
    assert [s.status.value for s in KitaruClient(target).executions.list()] == ["completed"]


def test_another_execution_of_the_same_name_is_refused(store_pair, audit, connected):
    source, target = store_pair
    fail(audit, target, connected)
    before = objects(target)
    with pytest.raises(UsageError, match=r"another execution.*Nothing was overwritten"):
        copy(source, target, "a")
    assert objects(target) == before


def test_one_that_went_another_way_is_refused(store_pair, audit, connected):
    source, target = store_pair
    copied = copy(source, target, "a")
    audit.broken.on = False
    for store in (source, target):
        connected(store)
        audit.options(exec_id="a").run(3)
    before = objects(target)
    with pytest.raises(UsageError, match=f"different ways after segment {copied.segments}"):
        copy(source, target, "a")
    assert objects(target) == before


def test_a_foreign_tail_is_refused(store_pair):
    source, target = store_pair
    n = copy(source, target, "a").segments + 1
    segment = Segment("a", n, "w", b"n" * 16, 9, b"somewhere else", (Logged(None, 1, {}),))
    target.put_if_absent(journal_key("a", n), segment.encode())
    with pytest.raises(UsageError, match="does not follow"):
        copy(source, target, "a")


def test_somebody_who_goes_on_at_the_target_meanwhile_is_not_overwritten(store_pair):
    source, target = store_pair
    first = source.get(journal_key("a", 1))
    theirs = Segment("a", 2, "w", b"n" * 16, 2, segment_digest(first), (Logged(None, 1, {}),)).encode()

    def interfere(operation):
        if operation.method == "put_if_absent" and operation.key == journal_key("a", 2):
            target.put_if_absent(journal_key("a", 2), theirs)

    with pytest.raises(UsageError, match="somebody else wrote"):
        copy(source, FaultyStore(target, interfere), "a")
    assert target.get(journal_key("a", 2)) == theirs
    assert read_journal(target, "a").n == 2


def test_names_that_are_not_there_and_places_that_are_the_same(store_pair):
    source, target = store_pair
    with pytest.raises(NotFoundError, match="no execution nobody"):
        copy(source, target, "nobody")
    with pytest.raises(UsageError, match="already"):
        copy(source, LocalStore(source.path), "a")
    assert objects(target) == {}


# ---------------------------------------------------------------- while it runs, and when it breaks off


def test_a_running_execution_is_copied_as_it_stands_and_the_copy_says_so(tmp_path, connected):
    source, target = LocalStore(tmp_path / "one"), LocalStore(tmp_path / "two")
    connected(source)
    copies = []

    @checkpoint
    def step(n):
        return n

    @flow
    def running():
        step(1)
        copies.append(copy(source, target, "r"))
        return step(2)

    running.options(exec_id="r").run()
    (copied,) = copies
    assert (copied.running, copied.status) == (True, "running")
    assert [c.label for c in KitaruClient(target).executions.get("r").checkpoints] == ["step#1"]
    done = copy(source, target, "r")
    assert (done.running, done.status, done.segments_there) == (False, "completed", copied.segments)
    assert KitaruClient(target).executions.get("r").result == 2


def test_a_run_that_was_killed_is_not_called_running(store_pair, faulty, connected, audit):
    @checkpoint
    def die():
        faulty.crash()

    @flow
    def killed():
        die()

    connected(faulty)
    with pytest.raises(SimulatedCrash):
        killed.options(exec_id="k").run()
    copied = copy(faulty.inner, store_pair[1], "k")
    assert (copied.status, copied.running) == ("running", False)


def test_killed_at_every_write_and_made_again(store_pair):
    source, _ = store_pair
    writes = {"put_if_absent", "put", "delete"}
    whole = FaultyStore(MemoryStore())
    copy(source, whole, "a")
    less = ("kitaru.json", "probe/")
    wanted = objects(whole.inner, but=less)
    for n, operation in enumerate(whole.log, 1):
        if operation.method not in writes:
            continue
        for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
            target = MemoryStore()
            with pytest.raises(SimulatedCrash):
                copy(source, FaultyStore(target, fault_at(n, fault)), "a")
            reading = read_journal(target, "a")  # a prefix, and every blob that it names
            if reading.n:
                assert len([*target.list("blobs/")]) == 3
            copy(source, target, "a")
            assert objects(target, but=less) == wanted


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_RESPONSE, Fault.UNAVAILABLE])
def test_lost_requests_and_responses_are_made_again(store_pair, fault):
    source, _ = store_pair
    whole = FaultyStore(MemoryStore())
    copied = copy(source, whole, "a")
    keys = ("blobs/", "executions/a/journal/")
    for n, operation in enumerate(whole.log, 1):
        if operation.method == "put_if_absent" and operation.key.startswith(keys):
            target = FaultyStore(MemoryStore(), fault_at(n, fault))
            assert copy(source, target, "a").segments == copied.segments
            assert objects(target.inner) == objects(whole.inner)
            break


def test_derived_data_that_cannot_be_put_is_no_failure(store_pair):
    source, _ = store_pair

    def refuse(operation):
        return Fault.UNAVAILABLE if operation.method == "put" else None

    target = FaultyStore(MemoryStore(), refuse)
    assert copy(source, target, "a").status == "failed"
    assert KitaruClient(target.inner).executions.get("a").failed_at == "judge#2"


def test_a_target_that_does_not_answer_is_an_error(store_pair):
    with pytest.raises(StoreUnavailableError):
        copy(store_pair[0], FaultyStore(MemoryStore(), lambda operation: Fault.UNAVAILABLE), "a")


@pytest.mark.parametrize(
    ("side", "method", "begins"),
    [
        ("target", "list", "blobs/"),
        ("target", "put_if_absent", "blobs/"),
        ("target", "put_if_absent", "executions/a/journal/"),
        ("source", "get", "blobs/"),
    ],
)
def test_a_store_that_falls_silent_is_waited_for_as_long_as_was_said(
    store_pair, monkeypatch, capfd, side, method, begins
):
    def silent(operation):
        return Fault.UNAVAILABLE if operation.method == method and operation.key.startswith(begins) else None

    source, target = store_pair[0], MemoryStore()
    here = FaultyStore(source, silent if side == "source" else lambda _: None)
    there = FaultyStore(target, silent if side == "target" else lambda _: None)
    said = []
    client = KitaruClient(here)
    client.note = said.append
    monkeypatch.setenv("KITARU_STORE_BUDGET", "0.2")
    with pytest.raises(StoreUnavailableError, match=r"copied in part, and the same copy completes it.*for 0 s"):
        client.executions.copy("a", there)
    assert len(said) == 1, "however many objects are under way"
    assert "does not answer, trying for up to 0 s" in said[0]
    copy(source, target, "a")
    assert KitaruClient(target).executions.get("a").failed_at == "judge#2"


def test_a_budget_that_is_none_is_refused_before_anything_is_written(store_pair, monkeypatch):
    source, target = store_pair
    for text in ("soon", "nan", "-1"):
        monkeypatch.setenv("KITARU_STORE_BUDGET", text)
        with pytest.raises(UsageError, match=f"KITARU_STORE_BUDGET is '{text}': write a number of seconds"):
            KitaruClient(source).executions.copy("a", target)
    assert objects(target) == {}


def test_a_segment_is_one_request_and_a_blob_two(store_pair):
    source, _ = store_pair
    here, there = FaultyStore(source), FaultyStore(MemoryStore())
    copied = copy(here, there, "a")
    assert copied.segments > 2

    def asked(store, begins):
        return Counter(o.method for o in store.log if o.key.startswith(begins))

    assert asked(there, "executions/a/journal/") == {"list": 1, "put_if_absent": copied.segments}
    assert asked(there, "blobs/") == {"list": copied.blobs, "put_if_absent": copied.blobs}
    assert asked(here, "executions/a/journal/") == {"list": 1, "get": copied.segments}
    assert asked(here, "blobs/") == {"get": copied.blobs}


def test_holes_that_another_tool_left_are_filled(store_pair):
    source, target = store_pair
    copy(source, target, "a")
    blob = next(target.list("blobs/")).key
    target.delete([journal_key("a", 2), blob])
    with pytest.raises(CorruptionError, match="is missing"):
        read_journal(target, "a")
    copied = copy(source, target, "a")
    assert (copied.segments, copied.blobs) == (1, 1)
    assert read_journal(target, "a").n == read_journal(source, "a").n


# ---------------------------------------------------------------- damage is not copied


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_damaged_blob_is_named_and_no_segment_is_written(store_pair, harm):
    source, target = store_pair
    key = next(source.list("blobs/")).key
    if harm == "flipped":
        source.put(key, b"x" + source.get(key)[1:])
    else:
        source.delete([key])
    with pytest.raises(CorruptionError, match=key):
        copy(source, target, "a")
    assert read_journal(target, "a").n == 0
    assert key not in objects(target)


def test_a_damaged_segment_is_named_and_nothing_is_written(store_pair):
    source, target = store_pair
    key = journal_key("a", 2)
    *kept, last = source.get(key)
    source.put(key, bytes([*kept, last ^ 1]))
    with pytest.raises(CorruptionError, match=key):
        copy(source, target, "a")
    assert objects(target) == {}


def test_a_blob_of_another_size_at_the_target_is_not_taken_for_ours(store_pair):
    source, target = store_pair
    key = next(source.list("blobs/")).key
    target.put_if_absent(key, b"half")
    with pytest.raises(CorruptionError, match="Delete it there"):
        copy(source, target, "a")


def test_packs_are_made_again_and_the_segments_themselves_are_read(tmp_path, connected):
    source, target = MemoryStore(), LocalStore(tmp_path)
    connected(source)

    @checkpoint
    def step(n):
        return n

    @flow
    def long():
        return sum(step(n) for n in range(70))

    exec_id = long.run().exec_id
    (pack,) = source.list(f"executions/{exec_id}/packs/")
    good = source.get(pack.key)
    source.put(pack.key, b"damaged")
    source.put(f"executions/{exec_id}/packs/0000000001-9999999999", b"nonsense")
    copy(source, target, exec_id)
    assert objects(target)[pack.key] == good
    assert len([*target.list(f"executions/{exec_id}/packs/")]) == 1
    assert KitaruClient(target).executions.get(exec_id).result == sum(range(70))


# ---------------------------------------------------------------- any other tool


@pytest.mark.s3
def test_a_folder_uploaded_file_by_file_opens_and_resumes(tmp_path, moto_s3, audit, ran, connected):
    fail(audit, LocalStore(tmp_path / "run"), connected)
    target = moto_s3()
    for file in sorted((tmp_path / "run").rglob("*")):
        if file.is_file():
            key = f"{target.url.partition('?')[0].split('/', 3)[3]}/{file.relative_to(tmp_path / 'run').as_posix()}"
            moto_s3.client.put_object(Bucket=moto_s3.server.bucket, Key=key, Body=file.read_bytes())
    check_resumes(target, audit, ran, connected)


@pytest.mark.s3
def test_a_bucket_downloaded_key_by_key_opens_and_resumes(tmp_path, moto_s3, audit, ran, connected):
    source = moto_s3()
    fail(audit, source, connected)
    prefix = source.url.partition("?")[0].split("/", 3)[3] + "/"
    pages = moto_s3.client.get_paginator("list_objects_v2").paginate(Bucket=moto_s3.server.bucket, Prefix=prefix)
    for found in (item for page in pages for item in page["Contents"]):
        file = tmp_path / "run" / found["Key"].removeprefix(prefix)
        file.parent.mkdir(parents=True, exist_ok=True)
        moto_s3.client.download_file(moto_s3.server.bucket, found["Key"], str(file))
    check_resumes(LocalStore(tmp_path / "run"), audit, ran, connected)


def test_a_folder_copied_as_a_tree_opens_and_resumes(tmp_path, audit, ran, connected):
    fail(audit, LocalStore(tmp_path / "run"), connected)
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    check_resumes(LocalStore(tmp_path / "elsewhere"), audit, ran, connected)


def test_a_fork_is_copied_with_what_it_was_forked_from():
    here, there = MemoryStore(), MemoryStore()

    @checkpoint
    def make(n):
        return noise(n)

    @checkpoint
    def measure(data):
        return len(data)

    @flow
    def body(n):
        return measure(make(n))

    first = Flow(body.function, Options(store=here)).run(200_000)
    options = Options(store=here)
    fork = Flow(body.function, options).replay(first.exec_id, rerun=["measure"])
    copy(here, there, fork.exec_id)
    found = KitaruClient(there).executions.get(fork.exec_id)
    assert len(found.checkpoints[0].artifacts[0].load()) == 200_000
    assert verify(there, fork.exec_id).findings == []


def test_what_waits_takes_its_answers_along(connected):
    @flow
    def asks():
        return kitaru.wait(name="x", schema=str), kitaru.wait(name="y", schema=str)

    source, target = connected(MemoryStore()), MemoryStore()
    client = KitaruClient(source)
    asks.options(exec_id="asks-1").run()
    client.executions.input("asks-1", "x", noise(100_000, 1).hex())
    copy(source, target, "asks-1")
    assert verify(target, "asks-1").ok
    connected(target)
    there = KitaruClient(target)
    assert there.executions.resume("asks-1").status == "waiting"
    there.executions.input("asks-1", "y", "there")
    assert there.executions.resume("asks-1").get()[1] == "there"
    assert [e.key for e in target.list("ready/")] == ["ready/asks-1/y%231%402"]  # no pass goes on with a copy by itself
