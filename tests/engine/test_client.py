"""What the client sees of executions that others ran."""

from __future__ import annotations

import datetime as dt
import time

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, log
from kitaru.catalog import put_status, rows
from kitaru.client import FAILED, ExecutionStatus
from kitaru.errors import AmbiguousNameError, InvalidNameError, NotFoundError, UntrustedValueError, UsageError
from kitaru.executions import read_execution
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import FaultyStore, SimulatedCrash


@checkpoint
def work(n):
    if n == 13:
        raise ValueError("unlucky")
    log(n=n)
    return n


@flow
def audit(n):
    return work(n)


@flow
def other():
    return "other"


@pytest.fixture
def some(store):
    """Three executions, the oldest first; a moment lies between them, as the catalog counts milliseconds."""
    audit.options(exec_id="audit-1").run(1)
    time.sleep(0.002)
    audit.options(exec_id="audit-2", raises=False).run(13)
    time.sleep(0.002)
    other.options(exec_id="other-1").run()
    return store


def test_statuses_are_those_of_the_design():
    assert [s.value for s in ExecutionStatus] == [
        "pending",
        "running",
        "waiting",
        "paused",
        "interrupted",
        "completed",
        "failed",
        "cancelled",
    ]
    assert [s.value for s in ExecutionStatus if s.is_finished] == ["completed", "failed", "cancelled"]


def test_list_is_newest_first_and_can_be_narrowed(some, client):
    runs = client.executions
    assert [s.exec_id for s in runs.list()] == ["other-1", "audit-2", "audit-1"]
    assert [s.exec_id for s in runs.list(flow="audit")] == ["audit-2", "audit-1"]
    assert [s.exec_id for s in runs.list(status="failed")] == ["audit-2"]
    assert [s.exec_id for s in runs.list(status=ExecutionStatus.COMPLETED, limit=1)] == ["other-1"]
    assert runs.list(limit=0) == []
    assert runs.list(flow="nobody") == []
    assert [s.exec_id for s in runs.list(flow="aud*")] == ["audit-2", "audit-1"]
    assert [s.exec_id for s in runs.list(status=FAILED)] == ["audit-2"]
    assert [s.exec_id for s in runs.list(status=["completed", ExecutionStatus.RUNNING])] == ["other-1", "audit-1"]
    assert runs.list(status=[]) == []
    with pytest.raises(UsageError, match="'nothing' is not a valid ExecutionStatus: there are pending, running"):
        runs.list(status="nothing")


def test_list_since(some, client):
    runs = client.executions
    begun = runs.get("audit-2").data.begun.at
    at = dt.datetime.fromtimestamp(begun, dt.UTC).replace(microsecond=0)
    assert len(runs.list(since=at)) == len(runs.list(since=at.isoformat())) == 3
    assert len(runs.list(since="1h")) == len(runs.list(since=dt.timedelta(hours=1))) == 3
    assert runs.list(since=at + dt.timedelta(days=1)) == []
    with pytest.raises(UsageError, match="'soon' says no moment"):
        runs.list(since="soon")


def test_nothing_older_than_since_is_opened(faulty):
    for n in range(5):
        put_status(faulty, f"old-{n}", "audit", "running", begun=1000.0 + n, at=1000.0, n=1)
    faulty.log.clear()
    assert KitaruClient(faulty).executions.list(since="1h") == []
    assert {o.method for o in faulty.log} == {"list"}, "one that is said to be running would be opened"


def test_a_catalog_that_holds_what_no_version_wrote_is_no_reason_to_fail(some, client):
    put_status(some, "nobody", "audit", "dancing", begun=time.time(), at=0.0, n=1)
    put_status(some, "audit-1", "audit", "dancing", begun=time.time(), at=0.0, n=1)
    assert [(s.exec_id, s.status.value) for s in client.executions.list(flow="audit", limit=1)] == [
        ("audit-1", "completed")
    ]
    assert client.executions.get("last-failed").exec_id == "audit-2"


def test_latest(some, client):
    assert client.executions.latest().exec_id == "other-1"
    assert client.executions.latest(flow="audit").exec_id == "audit-2"
    with pytest.raises(NotFoundError, match="there is no execution of nobody in memory://"):
        client.executions.latest(flow="nobody")


def test_names(some, client):
    get = client.executions.get
    assert get("audit-1").exec_id == "audit-1"
    assert get("oth").exec_id == "other-1"
    assert get("last").exec_id == "other-1"
    assert get("last-failed").exec_id == "audit-2"
    assert get(f"{some.url}/audit-2").exec_id == "audit-2"
    assert get(f"{some.url}/audit-2:work#1").exec_id == "audit-2"
    assert KitaruClient("memory://elsewhere").executions.get(f"{some.url}/audit-1").result == 1


def test_unknown_and_ambiguous_names(some, client):
    with pytest.raises(AmbiguousNameError, match="more than one execution begins with audit: audit-1, audit-2"):
        client.executions.get("audit")
    with pytest.raises(NotFoundError, match=rf"there is no execution nobody in {some.url}: `kitaru runs` lists"):
        client.executions.get("nobody")
    with pytest.raises(InvalidNameError):
        client.executions.get("a..b")
    for call in (client.executions.resume, client.executions.logs, client.executions.retry, client.artifacts.list):
        with pytest.raises(NotFoundError):
            call("nobody")


def test_an_exact_name_is_no_prefix(store, client):
    audit.options(exec_id="a").run(1)
    audit.options(exec_id="ab").run(2)
    assert client.executions.get("a").result == 1


def test_last_of_an_empty_store(store, client):
    with pytest.raises(NotFoundError, match="there is no execution in memory://"):
        client.executions.get("last")
    with pytest.raises(NotFoundError, match="no execution failed in memory://"):
        client.executions.get("last-failed")


def test_a_bare_word_is_a_step_of_the_last_execution_first(some, client):
    audit.options(exec_id="work-2").run(5)
    assert client.look_up("work").label == "work#1"
    assert client.look_up("work-2").exec_id == "work-2"
    assert client.look_up("audit-2:work").status == "failed"
    assert client.look_up("audit-1:result").load() == 1


def test_retry_is_for_what_failed(some, client):
    with pytest.raises(UsageError, match="audit-1 is completed, not failed: nothing is left to run"):
        client.executions.retry("audit-1")
    with pytest.raises(ValueError, match="unlucky"):
        client.executions.retry("audit-2")
    assert client.executions.get("audit-2").data.attempts == 2


def test_resume_without_raises_gives_the_handle(some, client):
    handle = client.executions.resume("audit-2", raises=False)
    assert (handle.exec_id, handle.status) == ("audit-2", "failed")


def test_logs(some, client):
    (line,) = client.executions.logs("audit-1")
    assert (line.label, line.data) == ("work#1", {"n": 1})


def test_a_failed_execution_has_no_result(some, client):
    seen = client.executions.get("audit-2")
    with pytest.raises(NotFoundError, match="audit-2 has no result: it is failed"):
        _ = seen.result
    with pytest.raises(NotFoundError, match="work#1 is failed, and has no output"):
        client.artifacts.get("audit-2:work")
    assert (seen.failure.summary(), seen.checkpoints[0].failure.message) == ("ValueError: unlucky", "unlucky")


def test_addresses_are_complete(some, client):
    seen = client.executions.get("audit-1")
    assert seen.address == f"{some.url}/audit-1"
    assert seen.checkpoints[0].address == f"{some.url}/audit-1:work#1"
    artifact = seen.checkpoints[0].artifacts[0]
    assert artifact.address == f"{some.url}/audit-1:work#1.output"
    assert KitaruClient("memory://elsewhere").artifacts.get(artifact.address).load() == 1
    assert repr(seen) == "<execution audit-1: completed>"
    assert repr(seen.checkpoints[0]) == "<checkpoint work#1: completed>"
    assert repr(artifact).startswith("<artifact work#1.output: ")


def test_a_dead_owners_run_shows_as_interrupted(connected, ran):
    store = connected(FaultyStore(MemoryStore()))

    @checkpoint
    def die():
        if ran("die") == 1:
            while not list(rows(store.inner)):  # the catalog hears of it beside the step path
                time.sleep(0.001)
            store.crash()

    @flow
    def doomed():
        die()

    with pytest.raises(SimulatedCrash):
        doomed.options(exec_id="x").run()
    client = KitaruClient(store.inner)
    assert [r.status for r in rows(store.inner)] == ["running"], "the list is behind"
    assert [s.status for s in client.executions.list()] == [ExecutionStatus.INTERRUPTED]
    assert client.executions.get("last-failed").exec_id == "x"
    assert client.executions.list(status="running") == []
    connected(store.inner)
    assert client.executions.resume("x").status == "completed"


def test_what_a_dead_owner_was_at_shows_as_interrupted(connected):
    store = connected(FaultyStore(MemoryStore()))

    @checkpoint
    def outer():
        while not KitaruClient(store.inner).executions.get("x").checkpoints:  # its start goes up beside the step path
            time.sleep(0.001)
        store.crash()

    @flow
    def doomed():
        outer()

    with pytest.raises(SimulatedCrash):
        doomed.options(exec_id="x").run()
    read = KitaruClient(store.inner).executions.get("x")
    told = read_execution("x", read.reading.segments)
    assert {c.status for c in told.checkpoints} == {"running"}, "its journal does not know"
    assert read.status is ExecutionStatus.INTERRUPTED
    assert {c.status for c in read.checkpoints} == {"interrupted"}


def test_one_that_runs_shows_as_running(store, client):
    seen = []

    @checkpoint(ignore=["seen"])
    def look(seen):
        (step,) = client.executions.get("x").checkpoints or [None]
        seen.append((client.executions.get("x").status.value, step))

    @flow
    def body():
        look(seen)

    body.options(exec_id="x").run()
    assert seen[0][0] == "running"
    assert [step and step.status for _, step in seen] == ["running"] or seen[0][1] is None


def test_a_step_that_had_not_ended_when_its_owner_went_is_interrupted_and_runs_once_it_is_started_again(store, client):
    seen = []

    @checkpoint
    def left():
        seen.append([c.status for c in client.executions.get("x").checkpoints])
        if len(seen) == 1:
            raise KeyboardInterrupt

    @flow
    def body():
        left()

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    (step,) = client.executions.get("x").checkpoints
    assert (step.status, step.data.attempts, step.data.ended) == ("interrupted", 1, None)
    body.options(exec_id="x").run()
    assert seen[1] in (["interrupted"], ["running"])  # whether its start is recorded by then
    (step,) = client.executions.get("x").checkpoints
    assert (step.status, step.data.attempts) == ("completed", 2)


def test_a_step_with_several_outputs_is_not_taken_for_its_first(store, client):
    @checkpoint(outputs=("a", "b"))
    def two():
        return 1, "x"

    @flow
    def body():
        two()
        return two()

    body.options(exec_id="x").run()
    assert kitaru.load("x", "two") == (1, "x")
    assert kitaru.load("x", "two#2.b") == "x"
    with pytest.raises(NotFoundError, match=r"two#1 has 2 outputs: say which of two\.a, two\.b"):
        client.artifacts.get("x:two")
    with pytest.raises(NotFoundError, match=r"two#2 has 2 outputs: say which of two#2\.a, two#2\.b"):
        client.artifacts.get("x:@2")


# ---------------------------------------------------------------- trust


class Odd:
    """Has no data form."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return type(other) is Odd and other.n == self.n

    __hash__ = None


@pytest.fixture
def open_folder(tmp_path, connected):
    """A folder that everybody may write to is nobody's to trust."""
    from kitaru.stores import LocalStore

    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return connected(LocalStore(folder))


def test_a_pickled_value_of_a_trusted_store_loads(store, client):
    @flow
    def body():
        return Odd(3)

    exec_id = body.run().exec_id
    assert client.executions.get(exec_id).result == Odd(3)
    assert client.artifacts.get(f"{exec_id}:result").kind == "pickle"


def test_a_pickled_value_of_another_store_is_refused_and_says_how_to_allow_it(open_folder, monkeypatch, ran):
    @checkpoint
    def make():
        return Odd(3)

    @flow
    def body():
        got = make()
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got.n

    from kitaru import KitaruWarning

    with (
        pytest.warns(KitaruWarning, match=r"make has no data format and was pickled.*KITARU_TRUST"),
        pytest.raises(KeyboardInterrupt),
    ):
        body.options(exec_id="x").run()
    artifact = KitaruClient().artifacts.get("x:make")
    with pytest.raises(UntrustedValueError, match="KITARU_TRUST"):
        artifact.load()
    assert "Odd" in str(artifact.preview), "looking at it runs nothing"
    with pytest.raises(UntrustedValueError, match="KITARU_TRUST"):
        body.options(exec_id="x").run()
    monkeypatch.setenv("KITARU_TRUST", "1")
    assert artifact.load() == Odd(3)
    assert body.options(exec_id="x").run().get() == 3
