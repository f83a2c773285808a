"""A store that fails under a running flow, and what the step path costs it."""

from __future__ import annotations

import shutil

import pytest

from kitaru import KitaruClient, Session, checkpoint, flow
from kitaru.errors import (
    CorruptionError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
)
from kitaru.stores import LocalStore
from kitaru.testing.faults import Fault

from ..large import noise


@pytest.fixture
def chain(ran):
    """Three steps; `harm` is called in the second."""

    class Harm:
        def __init__(self):
            self.do = lambda: None

        def __reduce__(self):
            raise TypeError("no data")

    harm = Harm()

    @checkpoint
    def first():
        return ran("first")

    @checkpoint
    def second(n):
        ran("second")
        harm.do()
        return n + 1

    @checkpoint
    def third(n):
        ran("third")
        return n + 1

    @flow
    def chain():
        try:
            return third(second(first()))
        except Exception:
            ran("swallowed")
            return "swallowed"

    chain.harm = harm
    return chain


class Broken:
    """A store whose writes raise `error` from when `fails` is set."""

    def __init__(self, inner):
        self.inner, self.error = inner, None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def put_if_absent(self, key, data):
        if self.error is not None:
            raise self.error
        return self.inner.put_if_absent(key, data)

    put = put_if_absent


# ---------------------------------------------------------------- it disappears


def test_a_store_that_does_not_answer_any_more(faulty, connected, monkeypatch, chain, ran, capsys):
    monkeypatch.setenv("KITARU_STORE_BUDGET", "0.2")

    def disappear():
        faulty.plan = lambda _: Fault.UNAVAILABLE

    chain.harm.do = disappear
    with pytest.raises(StoreUnavailableError, match=r"got no answer from memory://.*resume when the store is back"):
        chain.options(exec_id="x").run()
    assert "swallowed" not in ran.names
    assert "does not answer, trying for up to" in capsys.readouterr().err
    faulty.plan, chain.harm.do = lambda _: None, lambda: None
    assert chain.options(exec_id="x").run().get() == 3
    assert ran.names == ["first", "second", "second", "third"]


def test_a_session_waits_for_its_store_as_long_as_was_said(faulty, monkeypatch, capsys):
    monkeypatch.setenv("KITARU_STORE_BUDGET", "0.2")
    session = Session(store=faulty)
    session.step("one", {}).succeed({"x": 1})
    two = session.step("two", {})
    faulty.plan = lambda _: Fault.UNAVAILABLE
    with pytest.raises(StoreUnavailableError, match=r"got no answer from memory://.*for 0 s"):
        two.succeed({"x": 2})
    assert "does not answer, trying for up to 0 s" in capsys.readouterr().err
    faulty.plan = lambda _: None
    session.step("three", {}).succeed({"x": 3})
    session.close()
    labels = [(c.label, c.status) for c in session.execution().checkpoints]
    assert labels[0] == ("one#1", "completed")
    assert labels[-1] == ("three#1", "completed")


def test_a_store_that_is_away_for_a_moment_is_waited_for(faulty, chain, ran):
    left = [3]

    def plan(operation):
        if "/journal/" in operation.key and operation.method == "put_if_absent" and left[0] and "second" in ran.names:
            left[0] -= 1
            return Fault.LOSE_RESPONSE if left[0] == 1 else Fault.LOSE_REQUEST
        return None

    faulty.plan = plan
    assert chain.run().get() == 3
    assert left == [0]


def test_a_blobs_store_that_is_away_for_a_moment_is_waited_for(faulty):
    left = [2]

    def plan(operation):
        if operation.key.startswith("blobs/") and left[0]:
            left[0] -= 1
            return Fault.UNAVAILABLE
        return None

    @checkpoint
    def big():
        return noise(100_000)

    @flow
    def body():
        return len(big())

    faulty.plan = plan
    assert body.run().get() == 100_000
    assert left == [0]


def test_a_folder_that_is_removed_while_the_flow_runs(tmp_path, connected, monkeypatch, chain, ran):
    monkeypatch.setenv("KITARU_STORE_BUDGET", "0.2")
    folder, copy = tmp_path / "runs", tmp_path / "copy"
    connected(LocalStore(folder))

    def remove():
        while not copy.exists():
            try:
                shutil.copytree(folder, copy)
            except shutil.Error:  # a heartbeat came or went meanwhile
                shutil.rmtree(copy)
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)

    chain.harm.do = remove
    with pytest.raises(StoreError, match=str(folder)):
        chain.options(exec_id="x").run()
    assert "swallowed" not in ran.names
    assert not folder.exists(), "it is not made again with half of an execution in it"
    shutil.move(copy, folder)
    connected(LocalStore(folder))
    chain.harm.do = lambda: None
    assert chain.options(exec_id="x").run().get() == 3
    assert ran.names == ["first", "second", "second", "third"]


def test_a_folder_that_is_moved_while_the_flow_runs_is_written_to_where_it_is(tmp_path, connected, chain):
    connected(LocalStore(tmp_path / "runs"))
    chain.harm.do = lambda: shutil.move(tmp_path / "runs", tmp_path / "moved")
    assert chain.options(exec_id="x").run().get() == 3
    assert KitaruClient(tmp_path / "moved").executions.get("x").result == 3


@pytest.mark.parametrize(
    "error",
    [
        StoreFullError("No space left on the device."),
        StorePermissionError("AccessDenied: not authorised to perform s3:PutObject."),
        StorePermissionError("ExpiredToken: the provided token has expired. Renew it, then resume."),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_write_that_is_refused_stops_the_flow_with_the_stores_error(store, connected, ran, error, kind):
    broken = connected(Broken(store))

    def work():
        if ran("work") == 1:
            broken.error = error
        return "done"

    if kind == "sync":

        @checkpoint
        def step():
            return work()

        @flow
        def body():
            try:
                return step()
            except Exception:
                return ran("swallowed")
    else:

        @checkpoint
        async def step():
            return work()

        @flow
        async def body():
            try:
                return await step()
            except Exception:
                return ran("swallowed")

    with pytest.raises(type(error)) as e:
        body.options(exec_id="x").run()
    assert e.value is error
    assert "swallowed" not in ran.names
    broken.error = None
    assert body.options(exec_id="x").run().get() == "done"


def test_a_store_that_refuses_from_the_start(store, connected, ran):
    broken = connected(Broken(store))
    broken.error = StorePermissionError("AccessDenied")

    @flow
    def body():
        ran("body")

    with pytest.raises(StorePermissionError, match="AccessDenied"):
        body.run()
    assert ran.names == []


def test_a_submitted_steps_store_error_is_not_swallowed_either(store, connected, ran):
    broken = connected(Broken(store))

    @checkpoint
    def work(n):
        broken.error = StoreFullError("full")
        return n

    @flow
    def body():
        try:
            return [f.result() for f in work.map(range(3))]
        except Exception:
            return ran("swallowed")

    with pytest.raises(StoreFullError):
        body.run()
    assert "swallowed" not in ran.names


# ---------------------------------------------------------------- the clock


def test_a_clock_that_jumps_back_changes_nothing(store, timed, clock, chain, ran):
    def jump():
        clock.at -= 1_000_000

    chain.harm.do = jump
    assert timed(chain, exec_id="x").run().get() == 3
    assert timed(chain, exec_id="x").run().get() == 3
    seen = KitaruClient().executions.get("x")
    assert [c.label for c in seen.checkpoints] == ["first#1", "second#1", "third#1"]
    assert all(c.data.took >= 0 for c in seen.checkpoints)
    assert ran.names == ["first", "second", "third"]


def test_a_clock_that_jumped_back_between_two_attempts(store, timed, clock, chain, ran):
    def stop():
        raise KeyboardInterrupt

    chain.harm.do = stop
    with pytest.raises(KeyboardInterrupt):
        timed(chain, exec_id="x").run()
    clock.at -= 5_000_000
    chain.harm.do = lambda: None
    assert timed(chain, exec_id="x").run().get() == 3
    assert ran.names == ["first", "second", "second", "third"]


# ---------------------------------------------------------------- what was damaged


@pytest.fixture
def damaged(tmp_path, connected, ran):
    """An execution in a folder, stopped after a step with a large output. Gives a way to harm a file of it."""
    folder = tmp_path / "runs"
    connected(LocalStore(folder))

    @checkpoint
    def big():
        ran("big")
        return noise(100_000)

    @checkpoint
    def small(data):
        return len(data)

    @flow
    def body():
        got = small(big())
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()

    def harm(pattern, how):
        path = min(p for p in folder.glob(pattern) if p.is_file())
        data = bytearray(path.read_bytes())
        path.chmod(0o644)
        if how == "truncated":
            data = data[: len(data) // 2]
        elif how == "flipped":
            data[len(data) // 2] ^= 0x10
        elif how == "emptied":
            data = b""
        path.unlink()
        if how != "removed":
            path.write_bytes(data)
        return path.relative_to(folder).as_posix()

    harm.body, harm.folder = body, folder
    return harm


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed"])
def test_a_damaged_blob_is_found_and_named(damaged, connected, ran, how):
    key = damaged("blobs/**/*", how)
    connected(LocalStore(damaged.folder))
    with pytest.raises(CorruptionError) as e:
        damaged.body.options(exec_id="x").run()
    assert key in str(e.value)
    assert "restore it from a copy" in str(e.value)
    assert ran.counts["big"] == 1
    with pytest.raises(CorruptionError):
        KitaruClient().artifacts.get("x:big").load()


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed"])
def test_a_damaged_segment_is_found_and_named(damaged, connected, how):
    key = damaged("executions/x/journal/*1", how)
    connected(LocalStore(damaged.folder))
    for touch in (
        lambda: damaged.body.options(exec_id="x").run(),
        lambda: KitaruClient().executions.get("x"),
        lambda: KitaruClient().executions.resume("x"),
    ):
        with pytest.raises(CorruptionError) as e:
            touch()
        assert key in str(e.value)


def test_a_format_from_the_future_is_refused(damaged, connected):
    (damaged.folder / "kitaru.json").chmod(0o644)
    (damaged.folder / "kitaru.json").write_text('{"format": 99, "kitaru": "9.9"}')
    connected(LocalStore(damaged.folder))
    for touch in (
        lambda: damaged.body.run(),
        lambda: KitaruClient().executions.get("x"),
        lambda: KitaruClient().executions.resume("x"),
    ):
        with pytest.raises(StoreFormatError, match=r"was written by Kitaru 9.9 in format 99.*upgrade kitaru"):
            touch()


# ---------------------------------------------------------------- what a step costs


def off_the_step_path(operation):
    return operation.key.startswith("catalog/") or "/owner/" in operation.key


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_step_costs_one_put_no_get_and_no_list(faulty, kind):
    seen = []

    if kind == "sync":

        @checkpoint
        def work(n):
            return {"n": n, "text": "x" * 1000}

        @flow
        def body():
            for n in range(10):
                before = len(faulty.log)
                work(n)
                seen.append([(o.method, o.key) for o in faulty.log[before:] if not off_the_step_path(o)])
    else:

        @checkpoint
        async def work(n):
            return {"n": n, "text": "x" * 1000}

        @flow
        async def body():
            for n in range(10):
                before = len(faulty.log)
                await work(n)
                seen.append([(o.method, o.key) for o in faulty.log[before:] if not off_the_step_path(o)])

    body.options(exec_id="x").run()
    assert seen == [[("put_if_absent", f"executions/x/journal/{n:010d}")] for n in range(2, 12)]


def test_a_reused_step_costs_nothing(faulty, ran):
    ran.noted = seen = []

    @checkpoint
    def work(n):
        return n

    @flow
    def body():
        before = len(faulty.log)
        got = [work(n) for n in range(20)]
        ran.noted.append([o for o in faulty.log[before:] if not off_the_step_path(o)])
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == list(range(20))
    assert len(seen[0]) == 20
    assert seen[1] == []


def test_the_cost_of_a_step_does_not_grow_with_history(faulty):
    @checkpoint
    def work(n):
        return n

    @flow
    def body(steps):
        for n in range(steps):
            work(n)

    def cost(steps):
        before = len(faulty.log)
        body.run(steps)
        return len([o for o in faulty.log[before:] if not off_the_step_path(o) and not is_derived(o)])

    def is_derived(o):  # whoever stores the lineage looks into the journal before
        return "/packs/" in o.key or "/lineage.json" in o.key or (o.method == "get" and "/journal/" in o.key)

    cost(0)  # the first run of a process looks at the place
    assert cost(200) - cost(100) == 100


def test_a_blob_that_two_steps_share_is_stored_once(faulty):
    @checkpoint
    def make(n):
        return noise(100_000)

    @checkpoint
    def use(text):
        return len(text)

    @flow
    def body():
        return use(make(1)) + use(make(2))

    assert body.run().get() == 200_000
    assert [o.method for o in faulty.log if o.key.startswith("blobs/")] == ["put_if_absent"]
    assert faulty.bytes_written < 150_000
