"""Inputs and outputs that are loaded when they are asked for: `kitaru.Ref`."""

from __future__ import annotations

import asyncio
import copy
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import kitaru
from kitaru import KitaruClient, Ref, checkpoint, flow
from kitaru.blobs import blob_key
from kitaru.codecs.buffers import CHUNK
from kitaru.errors import UnrecordableValueError, UsageError
from kitaru.reading import read_journal
from kitaru.records import values_of
from kitaru.stores.local import LocalStore
from kitaru.testing.faults import FaultyStore

ROWS = CHUNK // 8  # float64 in one chunk


@pytest.fixture
def fetched(faulty):
    """The blobs that were downloaded since this was asked the last time."""

    def take():
        got = [key for _, operation, key in faulty.log if operation == "get" and key.startswith("blobs/")]
        faulty.log.clear()
        return got

    return take


@checkpoint
def measure(n) -> Ref[np.ndarray]:
    return np.arange(float(n))


@checkpoint
def table(n) -> kitaru.Ref[pd.DataFrame]:
    return pd.DataFrame({name: np.arange(float(n)) + at for at, name in enumerate("abc")})


@checkpoint
def total(rows):
    assert type(rows) is np.ndarray
    return float(rows.sum())


@checkpoint
def first(rows: Ref[np.ndarray], n):
    assert type(rows) is Ref
    return float(rows[:n].sum())


def test_a_step_that_gives_a_ref_gives_one_afresh_and_on_reuse(store, client, ran):
    @checkpoint
    def make(n) -> Ref:
        ran("make")
        return list(range(n))

    @flow
    def body():
        made = make(3)
        seen = type(made) is Ref, made.load(), made.kind, made.preview["len"], repr(made)
        ran("body")
        if ran.counts["body"] == 1:
            raise KeyboardInterrupt
        return seen

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == (True, [0, 1, 2], "data", 3, "<Ref to list(3) [0, 1, 2]>")
    assert ran.counts["make"] == 1
    assert client.artifacts.get("x:make").load() == [0, 1, 2], "what is recorded is the value"


def test_where_no_ref_is_asked_for_the_value_is_loaded_before_the_body(faulty):
    @flow
    def body():
        rows = measure(10)
        return total(rows), total(rows=rows), first(rows, 3), first(np.arange(10.0), n=3)

    assert body.run().get() == (45.0, 45.0, 3.0, 3.0)


def test_passing_a_ref_counts_as_passing_its_value(store, client, ran):
    @checkpoint
    def use(rows):
        ran("use")
        return len(rows)

    @flow
    def body(lazily):
        rows = measure(10)
        got = use(rows if lazily else rows.load())
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run(lazily=True)
    execution = client.executions.get("x")
    made, used = execution.checkpoints
    assert used.inputs["rows"].digest == made.artifacts[0].digest
    graph = execution.lineage()
    assert graph.has_edge(f"sha256:{made.artifacts[0].digest}", "x:use#1", key="used")
    lazily, eagerly = (body.options(exec_id=name).run(lazily=name == "b").exec_id for name in ("b", "c"))
    one, other = (client.executions.get(name).checkpoints[1].inputs["rows"].digest for name in (lazily, eagerly))
    assert one == other
    assert body.options(exec_id="x").run(lazily=True).get() == 10
    assert ran.counts["use"] == 3


def test_nothing_is_loaded_or_hashed_to_pass_one(faulty, fetched):
    @flow
    def body():
        rows = measure(8 * ROWS)
        fetched()
        seen = first(rows, 10)
        return seen, len(set(fetched()))

    assert body.run().get() == (45.0, 1)


def test_a_slice_of_an_array_downloads_the_chunks_that_hold_it(faulty, fetched):
    exec_id = flow(lambda_flow).run().exec_id
    fetched()
    rows = kitaru.load(exec_id, "measure", lazy=True)
    assert (rows.shape, rows.dtype, rows.size > 8 * CHUNK) == ((8 * ROWS,), np.float64, True)
    assert repr(rows).startswith("<Ref to numpy.ndarray ")
    assert fetched() == []
    assert rows[5] == 5.0
    assert len(fetched()) == 1
    assert rows[ROWS - 1 : ROWS + 1].tolist() == [ROWS - 1.0, ROWS]
    assert len(fetched()) == 2
    assert rows[-1] == 8 * ROWS - 1
    assert len(fetched()) == 1
    assert len(rows.load()) == 8 * ROWS
    assert len(fetched()) == 8


def lambda_flow():
    measure(8 * ROWS)


def test_a_column_of_a_table_downloads_that_column(faulty, fetched):
    @flow
    def body():
        table(2 * ROWS)

    exec_id = body.run().exec_id
    fetched()
    frame = KitaruClient().artifacts.get(f"{exec_id}:table").lazy()
    assert frame.columns == ["a", "b", "c"]
    assert frame.shape == (2 * ROWS, 3)
    assert frame.preview["type"].endswith("DataFrame")
    assert fetched() == []
    assert frame["b"].iloc[0] == 1.0
    assert len(fetched()) == 2
    with pytest.raises(KeyError, match="nothing"):
        frame["nothing"]
    assert len(frame.load()) == 2 * ROWS
    assert len(set(fetched())) == 6


@checkpoint
def priced(n):
    prices = [Decimal(i) / 7 for i in range(n)]
    return pd.DataFrame({"n": np.arange(n), "price": prices, "name": [f"row {i}" for i in range(n)]})


def test_a_column_of_numbers_downloads_nothing_of_the_objects_beside_it(faulty, fetched):
    """Objects that are no plain data are parts of their own, of which many lie in one bundle."""
    n = 20_000

    @flow
    def body():
        priced(n)

    exec_id = body.run().exec_id
    (bundle,) = {v.bundle for r in read_journal(faulty, exec_id).records for v in values_of(r)} - {b""}
    fetched()
    frame = KitaruClient().artifacts.get(f"{exec_id}:priced").lazy()
    assert frame.columns == ["n", "price", "name"]
    assert fetched() == []
    assert frame["n"].iloc[-1] == n - 1
    assert len(fetched()) == 1
    assert frame["name"].iloc[-1] == f"row {n - 1}"
    assert bundle not in {bytes.fromhex(key.rpartition("/")[2]) for key in fetched()}, "text has buffers of its own"
    assert frame["price"].iloc[7] == 1
    assert fetched() == [blob_key(bundle)]


@pytest.mark.parametrize("value", ["text", [1, 2], {"a": 1}, None, 3, np.ma.array([1])])
def test_what_has_no_columns_or_rows_is_loaded_whole(store, value):
    @flow
    def body():
        return value

    ref = kitaru.load(body.run().exec_id, lazy=True)
    with pytest.raises(UsageError, match=r"load\(\) it whole"):
        ref["a"]
    with pytest.raises(AttributeError):
        ref.columns
    assert ref.load() == value
    assert len(ref.digest) == 64


def test_an_array_of_objects_has_no_parts_and_may_be_asked_whether_it_has(store):
    @checkpoint
    def give() -> Ref:
        return np.array(["a", None], object)

    @flow
    def look():
        ref = give()
        assert not hasattr(ref, "dtype")
        assert not hasattr(ref, "columns")
        with pytest.raises(UsageError, match=r"load\(\) it whole"):
            ref[0]
        return ref.load().tolist()

    assert look.run().get() == ["a", None]


def test_a_ref_is_no_sequence_and_stays_where_it_is(store):
    one, other = Ref.to([1, 2]), Ref.to([1, 2])
    assert one == other
    assert hash(one) == hash(other)
    assert one != Ref.to([2, 1])
    assert one != [1, 2]
    assert copy.deepcopy(one) is one
    with pytest.raises(TypeError, match="not iterable"):
        iter(one)
    assert "0x" not in repr(one)
    assert one.digest not in repr(one)


# ---------------------------------------------------------------- between steps


def test_a_body_may_return_the_ref_that_it_was_given(store, client):
    @checkpoint
    def hand_on(rows: Ref) -> Ref:
        return rows

    @checkpoint
    def hand_out(rows: Ref):
        return rows

    @flow
    def body():
        rows = hand_on([1, 2])
        return [type(rows).__name__, rows.load(), hand_out(rows)]

    assert body.options(exec_id="x").run().get() == ["Ref", [1, 2], [1, 2]]
    assert len({a.digest for c in client.executions.get("x").checkpoints for a in c.artifacts}) == 1


def test_several_outputs_are_a_ref_each(store, ran):
    @checkpoint(outputs=("a", "b"))
    def split() -> Ref:
        return [1], Ref.to("two")

    @checkpoint(outputs=("a", "b"))
    def plainly(b: Ref):
        return b, 3

    @flow
    def body():
        a, b = split()
        got = a.load(), b.load(), plainly(b)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got

    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    assert body.options(exec_id="x").run().get() == ([1], "two", ("two", 3))


def test_a_flow_takes_and_gives_values(store):
    @flow
    def make():
        return measure(3)

    @flow
    def use(rows, *, more):
        return [type(rows).__name__, type(more).__name__]

    made = make.run()
    assert made.get().tolist() == [0.0, 1.0, 2.0]
    ref = kitaru.load(made.exec_id, lazy=True)
    assert use.run(ref, more=ref).get() == ["ndarray", "ndarray"]


def test_a_ref_from_another_execution_is_recorded_in_this_one(store, client):
    @flow
    def make():
        return measure(3 * ROWS)

    @flow
    def use(origin):
        rows = kitaru.load(origin, lazy=True)
        kitaru.save("kept", rows)
        return first(rows, 3), total(rows) > 0

    origin = make.run().exec_id
    exec_id = use.run(origin).exec_id
    assert client.executions.get(exec_id).result == (3.0, True)
    there, here = client.artifacts.get(f"{origin}:measure"), client.artifacts.get(f"{exec_id}:first.in.rows")
    assert here.digest == there.digest
    assert here.preview == there.preview
    assert here.load().shape == (3 * ROWS,)
    assert client.artifacts.get(f"{exec_id}:kept").digest == here.digest


@pytest.mark.parametrize("how", ["submit", "map", "varargs", "keywords", "default"])
def test_in_every_kind_of_call(store, how):
    @checkpoint
    def names(*rows: Ref, **more: Ref):
        return [type(v).__name__ for v in (*rows, *more.values())]

    @checkpoint
    def values(*rows, last=1):
        return [type(v).__name__ for v in (*rows, last)]

    @checkpoint
    def with_default(rows: Ref = (1, 2)):
        return rows.load()

    @flow
    def body():
        rows = measure.submit(3)
        made = rows.result()
        if how == "submit":
            return first.submit(rows, 2).result(), total.submit(made).result()
        if how == "map":
            return [f.result() for f in total.map([rows, made])]
        if how == "varargs":
            return names(made, 1), values(made, made)
        if how == "keywords":
            return names(a=made, b=1), values(last=made)
        return with_default(), with_default([1])

    assert (
        body.run().get()
        == {
            "submit": (1.0, 3.0),
            "map": [3.0, 3.0],
            "varargs": (["Ref", "Ref"], ["ndarray", "ndarray", "int"]),
            "keywords": (["Ref", "Ref"], ["ndarray"]),
            "default": ((1, 2), [1]),
        }[how]
    )


def test_async_steps_too(store):
    @checkpoint
    async def make() -> Ref:
        return [1, 2]

    @checkpoint
    async def use(rows: Ref, also):
        return rows.load() + also

    @flow
    async def body():
        rows = await make()
        return await use(rows, rows)

    async def outside():
        return await use(await make(), await make())

    assert body.run().get() == [1, 2, 1, 2]
    assert asyncio.run(outside()) == [1, 2, 1, 2], "outside of a flow too"


def test_outside_of_a_flow_a_ref_holds_the_value_itself():
    rows, frame = measure(10), table(3)
    assert rows.shape == (10,)
    assert (first(rows, 3), total(rows), rows[1]) == (3.0, 45.0, 1.0)
    assert first(np.arange(4.0), 2) == 1.0
    assert frame.columns == ["a", "b", "c"]
    assert frame["a"].tolist() == [0.0, 1.0, 2.0]


def test_an_argument_that_is_no_data_is_kept_at_hand(store, ran):
    @checkpoint
    def use(log: Ref, pair: Ref):
        log.load()("here")
        pair.load()[1]("there")

    @flow
    def body():
        use(ran, [1, ran])

    body.run()
    assert ran.take() == ["here", "there"]


def test_an_ignored_parameter_takes_one_as_well(store):
    @checkpoint(ignore=["rows"])
    def use(rows: Ref):
        return rows.load()

    @flow
    def body():
        return use([1])

    assert body.run().get() == [1]


def test_inside_of_a_container_it_counts_by_what_it_refers_to(store, client):
    @checkpoint
    def use(pair):
        return [ref.load() for ref in pair]

    @checkpoint
    def give(rows: Ref):
        return {"rows": [rows]}

    @flow
    def body():
        return use([Ref.to(1)]), use([Ref.to(2)]), use([Ref.to(1)])

    body.options(exec_id="x").run()
    a, b, c = (cp.inputs["pair"].digest for cp in client.executions.get("x").checkpoints)
    assert a == c != b
    with pytest.raises(UnrecordableValueError, match=r'give#1\.output\["rows"\]\[0\] is a kitaru.references:Ref'):
        flow(give_flow(give)).run()


def give_flow(give):
    def body():
        give([1])

    return body


def test_annotations_are_found_however_they_are_written(store):
    from kitaru import Ref as Lazy

    def here(rows: Lazy, plain: list, other: list[Ref]): ...

    here.__annotations__["rows"] = Lazy  # as without `from __future__ import annotations`
    assert checkpoint(here).lazy == {"rows"}

    def typed(a: Ref, b: Ref[np.ndarray], c: kitaru.Ref, d: kitaru.Ref[list[Ref]], e: Ref | None, f: int) -> Ref: ...

    assert checkpoint(typed).lazy == {"a", "b", "c", "d"}
    assert checkpoint(typed).gives_refs

    def unknown(a: Ref, b: Unknown): ...  # noqa: F821

    assert checkpoint(unknown).lazy == {"a"}


def test_a_resume_by_another_process_loads_as_little(tmp_path, connected, ran):
    @flow
    def body():
        rows = measure(4 * ROWS)
        got = first(rows, 3)
        if ran("body") == 1:
            raise KeyboardInterrupt
        return got, rows.shape

    connected(LocalStore(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        body.options(exec_id="x").run()
    store = connected(FaultyStore(LocalStore(tmp_path)))
    assert body.options(exec_id="x").run().get() == (3.0, (4 * ROWS,))
    assert not [key for _, operation, key in store.log if operation == "get" and key.startswith("blobs/")]
