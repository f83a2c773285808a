"""Named, versioned artifacts, and their addresses."""

from __future__ import annotations

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, load, save
from kitaru.client import Artifact, Checkpoint
from kitaru.errors import NotFoundError, UntrustedValueError, UsageError
from kitaru.stores.local import LocalStore

from .large import noise, pages


@checkpoint
def write_report(n):
    save("report", f"draft {n}", type="report")
    return n


@checkpoint(outputs=("verdict", "why"))
def judge(text):
    return True, f"because of {text}"


@checkpoint
def report(n):
    save("report", f"own {n}")
    save("result", n)
    return {"n": n}


@flow
def audit():
    for n in (1, 2, 3):
        write_report(n)
    judge("it")
    return "done"


@flow
def clashes():
    """A step that saves under its own name, and something that is saved as what the flow gives is called."""
    report(1)
    report(2)
    return "done"


def test_saving_again_makes_a_version(store, client):
    exec_id = audit.run().exec_id
    found = client.artifacts.list(exec_id, name="report")
    assert [(a.name, a.version, a.ref, a.type, a.load()) for a in found] == [
        ("report", n, f"report#{n}", "report", f"draft {n}") for n in (1, 2, 3)
    ]
    assert client.artifacts.list(name="report")[-1].load() == "draft 3", "of the last execution"
    assert load(exec_id, "report") == "draft 3", "the newest"
    assert load(exec_id, "report#1") == load(exec_id, "report@1") == "draft 1"
    assert client.artifacts.get(f"{exec_id}:report#2").load() == "draft 2"
    assert client.artifacts.get("report@2").load() == "draft 2", "a bare word is of the last execution"


def test_a_name_that_nothing_was_saved_under_lists_the_outputs_of_its_steps(store, client):
    exec_id = audit.run().exec_id
    assert [a.load() for a in client.artifacts.list(exec_id, name="write_report")] == [1, 2, 3]
    assert [a.load() for a in client.artifacts.list(exec_id, name="write_report#2")] == [2]
    assert [a.ref for a in client.artifacts.list(exec_id, name="judge")] == ["judge#1.verdict", "judge#1.why"]
    assert client.artifacts.list(exec_id, name="nothing") == []
    assert [a.version for a in client.artifacts.list(exec_id)[:4]] == [1, 2, 3, None]


def test_a_version_that_is_not_there_is_named_with_those_there_are(store):
    exec_id = audit.run().exec_id
    for ref in ("report#4", "report@4"):
        with pytest.raises(NotFoundError, match=r"has no report@4: it has 3 versions saved under that name"):
            load(exec_id, ref)
    with pytest.raises(NotFoundError, match=r"has no judge@1: it has nothing saved under that name"):
        load(exec_id, "judge@1")
    with pytest.raises(UsageError, match="is not a REF"):
        load(exec_id, "report@0")


@pytest.mark.parametrize("body", [audit, clashes])
@pytest.mark.parametrize("where", ["memory", "folder", "odd folder"])
def test_every_artifact_and_checkpoint_is_found_again_by_its_address(tmp_path, connected, store, body, where):
    if where != "memory":
        connected(LocalStore(tmp_path / ("with space #1 @x" if "odd" in where else "runs")))
    execution = KitaruClient().executions.get(body.run().exec_id)
    things = [*execution.artifacts, *execution.checkpoints]
    things += [a for c in execution.checkpoints for a in c.inputs.values()]
    addresses = [thing.address for thing in things]
    assert len(set(addresses)) == len(addresses)
    kitaru.connect("memory://somewhere-else")
    for thing in things:
        again = KitaruClient().look_up(thing.address)
        assert type(again) is type(thing)
        assert again.address == thing.address
        if isinstance(thing, Artifact):
            assert (again.digest, again.version) == (thing.digest, thing.version)
            assert load(thing.address) == thing.load()
            assert KitaruClient().artifacts.get(thing.address).digest == thing.digest
        else:
            assert isinstance(again, Checkpoint)
            assert again.data.id == thing.data.id
    kitaru.connect()


def test_where_a_step_has_the_name_too_a_bare_word_is_what_was_saved_and_a_numbered_one_the_step(store, client):
    exec_id = clashes.run().exec_id
    assert load(exec_id, "report") == "own 2"
    assert load(exec_id, "report#1") == load(exec_id, "report#1.output") == {"n": 1}
    assert load(exec_id, "report@1") == "own 1"
    assert [a.ref for a in client.artifacts.list(exec_id, name="report")] == ["report@1", "report@2"]
    assert load(exec_id, "result") == 2
    assert load(exec_id, ".output") == load(exec_id) == "done"


def test_a_failure_in_a_step_that_saves_under_its_own_name_is_looked_up(store, client):
    @checkpoint
    def draft():
        save("draft", "half")
        raise ValueError("no")

    @flow
    def body():
        draft()

    with pytest.raises(ValueError, match="no") as raised:
        body.options(exec_id="d-1").run()
    assert "kitaru show memory://" in "".join(raised.value.__notes__)
    found = client.look_up("d-1:draft#1")
    assert isinstance(found, Checkpoint)
    assert found.status == "failed"


def test_a_bare_name_is_found_in_the_last_execution(store, client):
    audit.run()
    assert client.look_up("report").load() == "draft 3"
    assert client.look_up("result").load() == "done"


def test_a_value_is_written_by_its_artifact(store, client, tmp_path):
    exec_id = audit.run().exec_id
    file = client.artifacts.get(f"{exec_id}:report#2").write(tmp_path)
    assert (file.name, file.read_text()) == ("report-2.txt", "draft 2")
    with pytest.raises(UsageError, match="there already"):
        client.artifacts.get(f"{exec_id}:report#2").write(file)
    client.artifacts.get(f"{exec_id}:report#3").write(file, force=True)
    assert file.read_text() == "draft 3"


def test_previews_are_there_without_loading_anything(store, client):
    pd = pytest.importorskip("pandas")

    @checkpoint
    def frame():
        return pd.DataFrame({"a": [1, 2]})

    @flow
    def body():
        frame()
        save("chat", [{"role": "user", "content": "hi"}])

    body.run()
    assert client.artifacts.get("frame.output").table.rows == [["1"], ["2"]]
    assert client.artifacts.get("chat").messages == [("user", "hi")]
    assert client.artifacts.get("chat").table is None
    assert repr(client.artifacts.get("chat")) == "<artifact chat#1: list(1) user: hi>"


# ---------------------------------------------------------------- what is kept of them


class Odd:
    """It has no data format."""

    def __init__(self, data):
        self.data = data
        self.lock = "none"

    def __reduce__(self):
        return Odd, (self.data,)


def kept(store):
    """Bytes of the journals and of the blobs."""
    return sum(e.size for e in store.list("executions/") if "/journal/" in e.key), blobs_of(store)


def blobs_of(store):
    return {e.key: e.size for e in store.list("blobs/")}


def test_a_value_that_was_recorded_is_not_kept_again_inside_a_larger_one(store, client):
    message = {"role": "user", "content": noise(1000).hex()}

    @checkpoint
    def ask():
        return message

    @checkpoint
    def collect():
        return [message, [message] * 10]

    @flow
    def body(n):
        ask()
        return collect() if n else None

    body.options(exec_id="alone").run(0)
    alone, _ = kept(store)
    body.options(exec_id="both").run(1)
    both = kept(store)[0] - alone
    assert both < alone + 1500, "the digest and the preview of the list, and not the message"
    assert client.artifacts.get("both:collect").load() == [message, [message] * 10]
    assert KitaruClient(store).artifacts.get("both:collect").load() == [message, [message] * 10]


def test_what_stands_in_a_bundle_is_not_kept_again_in_a_value_that_grows(store, client):
    @checkpoint
    def begin():
        return [noise(600, n).hex() for n in range(500)]  # 600 KB of small parts

    @checkpoint
    def add(rows, n):
        return [*rows, f"{n} " + noise(400, f"new {n}").hex()]

    @flow
    def grow(rounds):
        rows = begin()
        for n in range(rounds):
            rows = add(rows, n)
        return len(rows)

    assert grow.options(exec_id="x").run(20).get() == 520
    journal, blobs = kept(store)
    assert len(blobs) == 1
    assert 600_000 < sum(blobs.values()) < 700_000
    assert journal < 20 * 6_000
    last = KitaruClient(store).artifacts.get("x:add#20").load()
    assert (last[:500], len(last)) == ([noise(600, n).hex() for n in range(500)], 520)


def test_what_stands_in_a_bundle_is_not_kept_again_after_a_resume(store, client, ran):
    @checkpoint
    def begin():
        ran("begin")
        return [noise(600, n).hex() for n in range(500)]

    @checkpoint
    def add(rows, n):
        return [*rows, n]

    @flow
    def grow():
        rows = begin()
        if ran("body") == 1:
            raise KeyboardInterrupt
        for n in range(3):
            rows = add(rows, n)
        return len(rows)

    with pytest.raises(KeyboardInterrupt):
        grow.options(exec_id="x").run()
    _, before = kept(store)
    assert len(before) == 1
    assert grow.options(exec_id="x").run().get() == 503
    assert ran.counts["begin"] == 1
    journal, blobs = kept(store)
    assert blobs == before
    assert journal < 30_000
    assert KitaruClient(store).artifacts.get("x:add#3").load() == [*(noise(600, n).hex() for n in range(500)), 0, 1, 2]


@pytest.fixture
def bundles(faulty):
    """An execution of 12 steps with a bundle each; gives how many blobs were asked for since the last time."""

    @checkpoint
    def rows(n):
        return [noise(600, f"{n} {m}").hex() for m in range(300)]

    @checkpoint
    def both(some, others):
        return [some, others]

    @flow
    def many():
        made = [rows(n) for n in range(12)]
        both(made[2], made[9])

    many.options(exec_id="x").run()

    def asked():
        keys = [key for _, operation, key in faulty.log if operation == "get" and key.startswith("blobs/")]
        faulty.log.clear()
        return len(keys)

    asked()
    return asked


def test_a_value_is_looked_for_in_its_own_bundle_and_not_in_those_after_it(faulty, bundles):
    steps = KitaruClient(faulty).executions.get("x").checkpoints
    for n in (0, 7):
        assert steps[n].artifacts[0].load() == [noise(600, f"{n} {m}").hex() for m in range(300)]
        assert bundles() == 1


def test_a_value_whose_parts_are_in_several_bundles_opens_none_twice_however_little_is_kept(
    faulty, bundles, monkeypatch
):
    monkeypatch.setattr("kitaru.artifacts._KEPT", 1)
    steps = KitaruClient(faulty).executions.get("x").checkpoints
    assert steps[12].artifacts[0].load()[1][0] == noise(600, "9 0").hex()
    assert bundles() <= 12
    assert steps[12].artifacts[0].load()[0][0] == noise(600, "2 0").hex()
    assert bundles() <= 2


@checkpoint
def add_row(rows, n):
    return [*rows, n]


@flow
def grow_given(rows):
    for n in range(3):
        rows = add_row(rows, n)
    return len(rows)


FAILS = []


@checkpoint
def fails_once():
    if FAILS:
        raise RuntimeError(FAILS.pop())


def many_rows():
    return [noise(600, n).hex() for n in range(500)]  # 600 KB of small parts


def test_a_flow_input_in_a_bundle_is_not_kept_again_by_the_step_that_changes_it(store, client):
    assert grow_given.options(exec_id="x").run(many_rows()).get() == 503
    journal, blobs = kept(store)
    assert len(blobs) == 1
    assert journal < 30_000
    assert KitaruClient(store).artifacts.get("x:add_row#3").load() == [*many_rows(), 0, 1, 2]


@pytest.mark.parametrize("again", ["resumed", "given again"])
def test_nor_after_a_resume(store, client, again):
    FAILS[:] = ["not yet"]

    @flow
    def waits_and_grows(rows):
        fails_once()
        return len(add_row(rows, 1))

    waits_and_grows.options(exec_id="x", raises=False).run(many_rows())
    _, before = kept(store)
    assert len(before) == 1
    if again == "resumed":
        assert KitaruClient(store).executions.resume("x").get() == 501
    else:
        assert waits_and_grows.options(exec_id="x").run(many_rows()).get() == 501
    journal, blobs = kept(store)
    assert blobs == before
    assert journal < 30_000
    assert KitaruClient(store).artifacts.get("x:add_row").load() == [*many_rows(), 1]


@pytest.mark.parametrize("size", [150, 500], ids=["in the record", "in a bundle"])
def test_what_values_of_one_record_have_in_common_is_kept_once(store, client, size):
    rows = many_rows()[:size]

    @checkpoint(outputs=("all", "most"))
    def split(state, rows, again):
        return [*rows, "more"], rows[:-1]

    @flow
    def body(rows):
        fresh = [row[::-1] for row in rows]
        return len(split({"rows": fresh}, fresh, fresh)[0])

    body.options(exec_id="x").run(rows)
    journal, blobs = kept(store)
    whole = sum(map(len, rows))
    assert journal + sum(blobs.values()) < 2 * 1.1 * whole + 20_000, "the flow's input and the step's"
    step = KitaruClient(store).executions.get("x").checkpoints[0]
    fresh = [row[::-1] for row in rows]
    assert step.inputs["state"].load() == {"rows": fresh}
    assert step.inputs["rows"].load() == step.inputs["again"].load() == fresh
    assert [a.load() for a in step.artifacts] == [[*fresh, "more"], fresh[:-1]]
    assert not KitaruClient(store).executions.verify("x").findings


@pytest.mark.parametrize("kind", [noise, pages])
def test_a_large_value_without_a_data_format_is_a_blob_and_comes_back(store, client, ran, kind):
    @checkpoint
    def make():
        ran("make")
        return Odd(kind(600_000))

    @flow
    def body():
        got = make()
        if ran("body") == 1:
            raise KeyboardInterrupt
        return len(got.data)

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert len(blobs_of(store)) == 1
    assert client.artifacts.get("x:make").kind == "pickle"
    assert body.options(exec_id="x").run().get() == len(kind(600_000))
    assert ran.counts["make"] == 1
    assert KitaruClient(store).artifacts.get("x:make").load().data == kind(600_000)


def test_the_store_can_be_trusted_after_the_artifact_was_looked_up(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)  # anybody may write there
    kitaru.connect(tmp_path / "shared")

    @flow
    def body():
        return Odd(3)

    with pytest.warns(kitaru.KitaruWarning, match="KITARU_TRUST"):
        artifact = KitaruClient().artifacts.get(f"{body.run().exec_id}:result")
    with pytest.raises(UntrustedValueError, match="KITARU_TRUST"):
        artifact.load()
    monkeypatch.setenv("KITARU_TRUST", str(tmp_path))
    assert artifact.load().data == 3
    kitaru.connect()
