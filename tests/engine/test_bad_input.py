"""Values that cannot be recorded, or that misbehave: named, and nothing that was recorded is lost."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass

import pytest

from kitaru import KitaruClient, KitaruWarning, checkpoint, codecs, flow
from kitaru.artifacts import INLINE
from kitaru.blobs import BLOB_FROM
from kitaru.codecs.buffers import CHUNK
from kitaru.errors import CodeNotFoundError, NotFoundError, UnrecordableValueError

from ..large import noise


@dataclass
class Box:
    content: object


def closed_socket():
    s = socket.socket()
    s.close()
    return s


# ---------------------------------------------------------------- outputs that cannot be recorded


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: (n for n in "ab"), "bad#1.output is the generator"),
        (lambda: {"rows": [1, (n for n in "ab")]}, 'bad#1.output["rows"][1] is the generator'),
        (lambda: threading.Lock(), "bad#1.output is a _thread:lock"),
        (lambda: Box([threading.Lock()]), "bad#1.output.content[0] is a _thread:lock"),
        (lambda: (1, closed_socket()), "bad#1.output[1] is a socket:socket"),
    ],
)
def test_an_output_that_cannot_be_recorded_fails_its_step_and_names_the_place(store, ran, make, says):
    @checkpoint
    def good():
        return ran("good")

    @checkpoint(ignore=["make"])
    def bad(make):
        ran("bad")
        return make()

    @flow
    def body(n):
        return good(), bad(make if ran("body") == 1 else dict)

    with pytest.raises(UnrecordableValueError) as e:
        body.options(exec_id="x").run(1)
    assert says in str(e.value)
    assert "Give " in str(e.value)
    seen = KitaruClient().executions.get("x")
    assert [(c.label, c.status) for c in seen.checkpoints] == [("good#1", "completed"), ("bad#1", "failed")]
    assert seen.failed_at == "bad#1"
    assert body.options(exec_id="x").run(1).get() == (1, {})
    assert ran.counts["good"] == 1, "what was recorded stands"


def test_a_flows_result_that_cannot_be_recorded_fails_the_flow(store, client):
    @flow
    def body():
        return {"lock": threading.Lock()}

    with pytest.raises(UnrecordableValueError, match=r'result\["lock"\] is a _thread:lock'):
        body.options(exec_id="x").run()
    assert client.executions.get("x").status.value == "failed"


def test_a_structure_that_holds_itself_is_named(store):
    @checkpoint
    def bad():
        rows = [1]
        rows.append({"self": rows})
        return rows

    @flow
    def body():
        return bad()

    with pytest.raises(UnrecordableValueError, match=r"bad#1\.output"):
        body.run()


def test_as_an_argument_it_counts_by_its_type(store, client, ran):
    @checkpoint
    def take(rows):
        ran("take")
        return len(rows)

    @flow
    def body(rows):
        got = take(rows)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    rows = []
    rows.append(rows)
    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run(rows)
    assert body.options(exec_id="x").run(rows).get() == 1
    assert ran.counts["take"] == 1


def test_a_flow_whose_input_is_no_data_says_how_it_is_resumed(store, client, ran):
    @flow
    def body(lock):
        if ran("body") == 1:
            raise ValueError("x")
        return lock.locked()

    body.options(exec_id="x", raises=False).run(threading.Lock())
    with pytest.raises(CodeNotFoundError, match=r"lock=.*resume it from code, body.options\(exec_id='x'\).run"):
        client.executions.resume("x")
    assert client.executions.get("x").status.value == "failed", "as it was before"
    assert body.options(exec_id="x").run(threading.Lock()).get() is False


def test_what_is_no_data_never_fails_a_step_as_its_argument(store):
    @checkpoint
    def use(rows, lock):
        return list(rows)

    @flow
    def body():
        return use((n for n in range(3)), threading.Lock())

    assert body.run().get() == [0, 1, 2]


# ---------------------------------------------------------------- values that change, or misbehave


def test_the_recorded_value_is_that_of_the_return(store, ran):
    held = {}

    @checkpoint(ignore=["held"])
    def make(held):
        held["rows"] = [1]
        return held["rows"]

    @checkpoint
    def count(rows):
        return len(rows)

    @flow
    def body():
        rows = make(held)
        held["rows"].append(2)
        got = count(rows)
        rows.append(3)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    client = KitaruClient()
    assert client.artifacts.get("x:make").load() == [1]
    assert client.artifacts.get("x:count.in.rows").load() == [1, 2]


def test_an_argument_that_the_body_changes_is_recorded_as_it_was_called(store, client):
    @checkpoint
    def clear(rows):
        rows.clear()

    @flow
    def body():
        clear([1, 2])

    with pytest.warns(KitaruWarning, match="clear#1 changed its argument rows in place"):
        body.options(exec_id="x").run()
    assert client.artifacts.get("x:clear.in.rows").load() == [1, 2]


class Hostile:
    """Whatever is asked of it raises."""

    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        raise RuntimeError("__eq__")

    def __hash__(self):
        raise RuntimeError("__hash__")

    def __repr__(self):
        raise RuntimeError("__repr__")

    def __bool__(self):
        raise RuntimeError("__bool__")

    def __len__(self):
        raise RuntimeError("__len__")


@dataclass(eq=False, repr=False)
class HostileData(Hostile):
    n: int


@pytest.mark.parametrize("cls", [Hostile, HostileData])
def test_a_value_whose_methods_raise_is_recorded(store, client, ran, cls):
    @checkpoint
    def make():
        ran("make")
        return cls(3)

    @checkpoint
    def use(value):
        return value.n

    @flow
    def body():
        got = use(make())
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == 3
    assert ran.counts["make"] == 1
    assert cls.__name__ in repr(client.artifacts.get("x:make"))


def test_text_that_is_no_unicode_goes_all_the_way(store, client):
    @checkpoint
    def make():
        return ["\ud800", "\x00", "\u202e", b"\xff"]

    @flow
    def body():
        return make()

    assert body.options(exec_id="x").run().get() == ["\ud800", "\x00", "\u202e", b"\xff"]
    assert client.artifacts.get("x:make").load() == ["\ud800", "\x00", "\u202e", b"\xff"]


# ---------------------------------------------------------------- large ones


@pytest.mark.parametrize("size", [BLOB_FROM - 3, BLOB_FROM - 1, BLOB_FROM, BLOB_FROM + 1, CHUNK, CHUNK + 1])
def test_values_around_the_boundary_of_blobs_come_back(store, client, size):
    @checkpoint
    def make(size):
        return noise(size)

    @flow
    def body(size):
        return make(size)

    assert body.options(exec_id="x").run(size).get() == noise(size)
    artifact = client.artifacts.get("x:make")
    assert artifact.load() == noise(size)
    assert sorted(e.size for e in store.list("blobs/")) == ([min(size, CHUNK)] if size > BLOB_FROM else [])


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_many_small_parts_travel_in_the_record_up_to_a_bound_and_are_one_blob_beyond_it(store, client, more):
    rows = [noise(50_000, n) for n in range(6)]
    _, parts = codecs.cut(codecs.encode(rows).data)
    rows[0] = rows[0][: INLINE + more - sum(len(part) for _, part in parts)]

    @checkpoint
    def make():
        return rows

    @flow
    def body():
        return len(make())

    body.options(exec_id="x").run()
    assert client.artifacts.get("x:make").load() == rows
    assert len(list(store.list("blobs/"))) == (more > 0)


def test_ten_megabytes_go_to_a_blob_and_come_back(store, client, ran):
    text = noise(10 << 20)

    @checkpoint
    def make():
        ran("make")
        return text

    @checkpoint
    def use(data):
        ran("use")
        return len(data)

    @flow
    def body():
        got = use(make())
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == 10 << 20
    assert ran.counts == {"make": 1, "use": 1, "body": 2}
    assert client.artifacts.get("x:make").load() == text
    assert sorted(e.size for e in store.list("blobs/")) == [2 << 20, 4 << 20, 4 << 20], "chunks of 4 MiB"
    assert sum(e.size for e in store.list("executions/")) < 100_000


def test_a_large_flow_input_comes_back_on_resume(store, client, ran):
    @flow
    def body(data):
        if ran("body") == 1:
            raise ValueError("x")
        return len(data)

    body.options(exec_id="x", raises=False).run(noise(1 << 20))
    assert client.executions.resume("x").get() == 1 << 20


# ---------------------------------------------------------------- what does not exist


def test_an_execution_that_does_not_exist_is_not_begun_by_a_resume(store, client):
    with pytest.raises(NotFoundError, match="there is no execution nobody"):
        client.executions.resume("nobody")
    assert not list(store.list("executions/"))
