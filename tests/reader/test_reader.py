"""docs/format.md says all that a reader needs: the one that was written from it agrees with Kitaru's own."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import math
import os
import random
import re
import struct
import subprocess
import sys
import threading
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pytest

from kitaru import checkpoint, codecs, flow, log, records, save
from kitaru.client import KitaruClient
from kitaru.codecs import decoder
from kitaru.failures import Failure
from kitaru.ids import new_nonce
from kitaru.ownership import Process
from kitaru.previews import preview
from kitaru.reading import read_journal
from kitaru.records import (
    Answered,
    Begun,
    Claim,
    Ended,
    FlowEnded,
    Forked,
    Logged,
    Opened,
    Release,
    Reused,
    Saved,
    Started,
    Value,
)
from kitaru.segments import Segment, journal_key
from kitaru.stores import LocalStore
from tests.reader.reader import Chunk, Columns, Damaged, Execution, Place, Tagged, unpack

READER = Path(__file__).with_name("reader.py")
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture
def folder(tmp_path, connected):
    """A store that is a folder, and the current one."""
    return connected(LocalStore(tmp_path / "store"))


def as_json(value):
    """What the reader gives, as `kitaru show --json` shows a value."""
    match value:
        case Tagged("pickle", [body]):
            return {"$pickle": {"bytes": len(body)}}
        case Tagged("buffer", chunks):
            assert all(type(chunk) is Chunk for chunk in chunks)
            return {"$buffer": {"bytes": sum(c.size for c in chunks), "chunks": [c.digest.hex() for c in chunks]}}
        case Tagged("dict" | "odict" as tag, items):
            plain = [as_json(item) for item in items]
            return {f"${tag}": [list(pair) for pair in zip(plain[::2], plain[1::2], strict=True)]}
        case Tagged(tag, items):
            return {f"${tag}": [as_json(item) for item in items]}
        case list():
            return [as_json(item) for item in value]
        case dict():
            return {f"${k}" if k.startswith("$") else k: as_json(v) for k, v in value.items()}
        case bytes():
            return {"$bytes": value.hex()}
        case float() if not math.isfinite(value):
            bits = struct.pack(">d", value).hex()
            return {
                "$float": str(value)
                if bits in {"7ff0000000000000", "fff0000000000000", "7ff8000000000000"}
                else f"nan:{bits}"
            }
    return value


def agrees(store, exec_id):
    """Whether both readers say the same of everything; gives what this one read."""
    theirs = KitaruClient(store).executions.get(exec_id)
    for packs in (True, False):
        ours = Execution(Place(store.path), exec_id, packs=packs)
        assert (ours.flow, ours.status, ours.attempts) == (theirs.flow, theirs.data.state.status, theirs.data.attempts)
        assert {k: v["digest"] for k, v in ours.inputs.items()} == dict(theirs.data.begun.inputs)
        assert [s["path"] for s in ours.steps] == [c.label for c in theirs.checkpoints]
        for step, c in zip(ours.steps, theirs.checkpoints, strict=True):
            d = c.data
            told = step["status"], step["attempt"], step["superseded"], step["type"], ours.sources[step["own_code"]]
            assert told == (c.status, d.attempts, d.superseded, d.type, c.source)
            assert {k: as_json(ours.value(v)) for k, v in step["inputs"].items()} == {
                k: a.to_json() for k, a in c.inputs.items()
            }
            values = [as_json(ours.value(v)) for v in step["outputs"].values()]
            assert values == [a.to_json() for a in c.artifacts]
            failed(step["failure"], c.failure)
        assert [(s["path"], s["name"], s["type"], as_json(ours.value(s["value"]))) for s in ours.saved] == [
            (s.label, s.name, s.type, a.to_json())
            for s, a in zip(theirs.data.saved, theirs.artifacts[: len(theirs.data.saved)], strict=True)
        ]
        assert sorted((r["at"], r["path"], r["data"]) for r in ours.logged) == [
            (line.at, line.label, line.data) for line in sorted(theirs.data.logs, key=lambda x: (x.at, x.label))
        ]
        failed(ours.failure, theirs.failure)
        if theirs.data.result is not None:
            assert as_json(ours.value(ours.result)) == theirs.artifacts[-1].to_json()
        else:
            assert ours.result is None
    return ours


def failed(ours, theirs):
    """The failures are the same one."""
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert Failure.from_wire(ours) == theirs
        if "value" in ours:
            args, attributes, builtin = unpack(ours["value"]).items
            assert (args.tag, type(attributes), type(builtin)) == ("tuple", dict, dict)


# ---------------------------------------------------------------- executions


def test_steps_in_steps_with_values_of_every_size(folder):
    @checkpoint(outputs=("head", "tail"), type="cut")
    def cut(text):
        log(length=len(text), parts=["a", {"b": 1.5}])
        return text[:3], text[3:]

    @checkpoint
    def around(text):
        head, tail = cut(text)
        save("tail", {"tail": tail, "tags": {1, 2}, "pair": (1, None)}, type="note")
        return [head, cut(tail)]

    @flow
    def tree(text, blob):
        log(begun=True)
        out = around(text), cut(text), around(text[1:])
        save("blob", blob)
        save("blob", blob + b"again")
        return out

    done = tree.run("abcdefgh" * 10_000, b"\0" * 300_000)
    e = agrees(folder, done.exec_id)
    assert [s["path"] for s in e.steps][:4] == ["around#1", "around#1/cut#1", "around#1/cut#2", "cut#1"]
    assert [len(e.value(s["value"])) for s in e.saved if s["name"] == "blob"] == [300_000, 300_005]
    assert any(v.get("blobs") for v in (*e.inputs.values(), *(s["value"] for s in e.saved)))
    assert any("data" not in v for s in e.steps for v in s["inputs"].values()), "said once"


def test_failures_with_their_causes_and_groups(folder):
    @checkpoint
    def lookup(name):
        try:
            {}[name]
        except KeyError as e:
            e.add_note("of a package")
            raise TimeoutError(110, "no answer") from e

    @checkpoint
    def many():
        raise ExceptionGroup("both", [ValueError("one", 1), OSError(2, "gone", "file")])

    @flow
    def failing():
        for step in (lambda: lookup("x"), many):
            try:
                step()
            except Exception as e:
                log(caught=str(e))
        return lookup("y")

    failing.options(exec_id="f", raises=False).run()
    e = agrees(folder, "f")
    assert e.failure["type"] == "builtins:TimeoutError"
    assert e.failure["cause"]["notes"] == ["of a package"]
    assert [f["message"] for f in e.steps[1]["failure"]["group"]] == ["('one', 1)", "[Errno 2] gone: 'file'"]


def test_retried_and_resumed_steps_keep_their_last_word(folder, timed, ran):
    @checkpoint
    def leaf(n):
        log(leaf=ran("leaf"))
        save("draft", ran("draft"))
        return n

    @checkpoint(retries=2)
    def flaky(n):
        log(attempt=ran("flaky"))
        save("seen", ran.counts["flaky"])
        leaf(n)
        if ran.counts["flaky"] < 5:
            raise ValueError(ran.counts["flaky"])
        return ran.counts["flaky"]

    @flow
    def stubborn():
        save("first", leaf(0))
        return flaky(1)

    timed(stubborn, exec_id="r", raises=False).run()
    assert agrees(folder, "r").status == "failed"
    timed(stubborn, exec_id="r").run()
    e = agrees(folder, "r")
    assert (e.status, e.attempts, e.steps[1]["attempt"], e.value(e.result)) == ("completed", 2, 5, 5)
    assert [e.value(s["value"]) for s in e.saved if s["name"] == "seen"] == [5], (
        "what an attempt saved is void after it"
    )


def test_a_run_that_was_interrupted_and_changed_code(folder):
    def version(n):
        @checkpoint
        def one(x):
            return x

        @checkpoint
        def two(x):
            if n == 1:
                raise KeyboardInterrupt
            return x

        if n == 1:

            @flow
            def changing():
                return two(one(1))

        else:

            @flow
            def changing():
                return two(one(2))

        return changing

    with pytest.raises(KeyboardInterrupt):
        version(1).options(exec_id="c").run()
    e = agrees(folder, "c")
    assert [s["status"] for s in e.steps] == ["completed", "interrupted"]
    version(2).options(exec_id="c").run()
    e = agrees(folder, "c")
    assert [s["superseded"] for s in e.steps].count(True) >= 1


def test_calls_of_side_tasks_are_numbered_as_they_come(folder):
    @checkpoint
    def leaf(n):
        return n

    @checkpoint
    def branch():
        threads = [
            threading.Thread(target=__import__("contextvars").copy_context().run, args=(leaf, n)) for n in (1, 2)
        ]
        for t in threads:
            t.start()
            t.join()
        return [leaf(3), *(f.result() for f in leaf.map([4, 5]))]

    @flow
    def beside():
        return branch()

    e = agrees(folder, beside.run().exec_id)
    assert {"branch#1/leaf~1", "branch#1/leaf~2", "branch#1/leaf#1"} <= {s["path"] for s in e.steps}


def test_packs_hold_what_the_segments_hold(folder, monkeypatch):
    monkeypatch.setattr(LocalStore, "is_near", False)  # or a folder gets no packs

    @checkpoint
    def step(n):
        return n

    @flow
    def long():
        return sum(step(n) for n in range(70))

    done = long.run()
    packs = Place(folder.path).names(f"executions/{done.exec_id}/packs", ".*")
    assert packs
    agrees(folder, done.exec_id)
    pack = folder.path / "executions" / done.exec_id / "packs" / packs[0]
    pack.write_bytes(pack.read_bytes()[:-1])
    agrees(folder, done.exec_id)


# ---------------------------------------------------------------- values that share their parts


GIVEN = {}


def values_of(e):
    """The value maps that an execution's steps took and gave, each as it was written."""
    return [v for s in e.steps for v in (*s["inputs"].values(), *s["outputs"].values())]


def test_a_chat_and_a_table_that_grow_are_put_together_again(folder, monkeypatch):
    monkeypatch.setattr(LocalStore, "is_near", False)  # or a folder gets no packs

    @checkpoint
    def say(history, notes, n):
        said = {
            "role": ("user", "assistant")[n % 2],
            "content": f"{n} " + "word " * (n * 7 % 200),
            "at": (n, b"\0" * n),
        }
        return [*history, said], {**notes, f"note {n}": {n: ["x" * 600] * (n % 3)}}

    @flow
    def chat():
        history, notes = [], {}
        for n in range(66):
            history, notes = say(history, notes, n)
        notes["middle"] = history.pop(40)
        return [history, notes]

    done = chat.run()
    e = agrees(folder, done.exec_id)
    history, notes = e.value(e.result)
    assert [m["content"] for m in history] == [m["content"] for m in done.get()[0]]
    assert history[50]["at"] == Tagged("tuple", [51, b"\0" * 51])
    assert [*notes] == [*done.get()[1]], "the order of a dict that was cut"
    assert Place(folder.path).names(f"executions/{done.exec_id}/packs", ".*")
    assert sum(len(p) for v in values_of(e) for p in (v.get("data", b""), *v.get("parts", ()))) < 2_000_000


def test_long_texts_bytes_deep_lists_and_bundles_are_put_together_again(folder):
    rng = random.Random(5)
    text = "".join(rng.choice(("a line\n", "ö" * 90, "x" * 20_000, "\n")) for _ in range(150))
    deep = []
    for n in range(300):
        deep = [deep, n]
    large = {
        "text": text,
        "long": rng.randbytes(5_000),
        "deep": deep,
        "dict": {(n, str(n)): {n} for n in range(200)},
        "map": {str(n): [n] * 100 for n in range(25)},
        "shared": [[n] * 400 for n in range(3)] * 5,
        "items": [rng.randbytes(40).hex() for _ in range(4_000)],
        "bytes": rng.randbytes(5 << 20),
    }

    GIVEN.update(large)  # a free variable would be an input, of which the outputs are parts

    @checkpoint
    def add(held, key):
        return {**held, key: GIVEN[key]}

    @flow
    def growing():
        held = {}
        for key in GIVEN:
            held = add(held, key)
        held["text"] = "begin " + held["text"]
        save("changed", held)
        return held

    done = growing.run()
    e = agrees(folder, done.exec_id)
    got = e.value(e.result)
    assert got["text"] == "begin " + text
    assert (got["bytes"], got["long"], got["items"]) == (large["bytes"], large["long"], large["items"])
    assert (got["map"], got["shared"]) == (large["map"], large["shared"])
    assert [len(m.items) for m in got["dict"].items[::2]] == [2] * 200
    assert any(v.get("bundle") for v in values_of(e))
    assert any(v.get("parts") for v in values_of(e))


def frames():
    when = pd.date_range("2026-01-01", periods=700, freq="h", tz="Europe/Berlin")
    return pd.DataFrame(
        {
            "n": np.arange(700),
            "x": np.linspace(-1, 1, 700),
            "t": pd.Series([f"text {n % 9}" * (n % 4) for n in range(700)], dtype=object),
            "mixed": pd.Series([None, "a", 1.5, pd.NA, pd.NaT, True, [1, 2]] * 100, dtype=object),
            "missing": pd.Series([None, "ab" * 5, 1.5, pd.NA, pd.NaT, True, 7] * 100, dtype=object),
            "kind": pd.Categorical.from_codes([0, 1, -1, 0, 2, 1, 1] * 100, ["a", "b", "c"]),
            "when": when,
            "plain": when.tz_localize(None),
            "took": pd.to_timedelta(np.arange(700), "s"),
            "maybe": pd.array([1, None] * 350, dtype="Int64"),
            "flag": pd.array([True, None] * 350, dtype="boolean"),
            "word": pd.array(["é", None] * 350, dtype=pd.StringDtype("python")),
            "arrow": pd.array(["é", None] * 350, dtype=pd.StringDtype("pyarrow")),
            "list": pd.array([[1], None] * 350, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            "sparse": pd.arrays.SparseArray([0, 0, 0, 5, 0, 0, 1] * 100, fill_value=0),
            ("a", 1): np.full(700, 1 + 2j),
        }
    )


def test_the_columns_of_frames_are_read_without_pandas(folder):
    frame = frames()

    @checkpoint
    def same(x):
        return x

    @flow
    def tables():
        save("polars", pl.DataFrame({"a": [1, None, 3], "b": ["x", None, "y"], "c": [[1], [], None]}))
        return same(frame), same(frame.assign(more=1.5)), same(frame.set_index(["n", "t"]))

    e = agrees(folder, tables.run().exec_id)
    read = Columns(e.part)
    first, more, indexed = ({str(k): v for k, v in read.columns(x)} for x in e.value(e.result).items)
    assert [*first][-1] == str(Tagged("tuple", ["a", 1]))
    assert all(first[k].tolist() == frame[k].tolist() for k in ("n", "x"))
    assert first["t"] == frame["t"].tolist()
    tagged = {pd.NA: Tagged("pandas.NA", []), pd.NaT: Tagged("pandas.NaT", [])}
    for k in ("mixed", "missing"):
        assert first[k] == [c if isinstance(c, list) else tagged.get(c, c) for c in frame[k].tolist()]
    assert first["kind"] == ["a", "b", None, "a", "c", "b", "b"] * 100
    assert (first["when"] == frame["when"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()).all()
    assert (first["plain"] == frame["plain"].to_numpy()).all()
    assert (first["took"] == frame["took"].to_numpy()).all()
    assert (first["maybe"], first["flag"]) == ([1, None] * 350, [True, None] * 350)
    assert [c if isinstance(c, str) else None for c in first["word"]] == ["é", None] * 350
    assert first["arrow"].to_pylist() == ["é", None] * 350
    assert first["list"].to_pylist() == [[1], None] * 350
    assert first["sparse"] == frame["sparse"].tolist()
    assert more["more"].tolist() == [1.5] * 700
    assert indexed["x"].tolist() == frame["x"].tolist()
    labels = read.labels(e.value(e.result).items[2].items[1])
    assert labels == [*zip(frame["n"], frame["t"], strict=True)]
    (saved,) = e.saved
    assert {k: v.to_pylist() for k, v in read.columns(e.value(saved["value"]))} == {
        "a": [1, None, 3], "b": ["x", None, "y"], "c": [[1], [], None],
    }  # fmt: skip


def arrays():
    record = np.dtype([("a", "<i4"), ("b", "S3"), ("c", "<f8", (2,))], align=True)
    held = np.array([(1, [1, 2]), (2, None)], dtype=[("n", "i8"), ("o", object)])
    return [
        np.arange(3_000_000, dtype="<f4"), np.asfortranarray(np.arange(600).reshape(20, 30)), np.zeros((0, 4)),
        np.array(["a", "bcd"] * 3), np.array(["2026-01-01"], "M8[ns]"), np.zeros(7, record), np.array(5, ">i2"),
        np.arange(100)[::-3], np.array([None, "x", 2], object), held,
    ]  # fmt: skip


def test_arrays_are_read_by_numpy_alone(folder):
    @checkpoint
    def same(x):
        return x

    @flow
    def shapes():
        one, *rest = arrays()
        changed = one.copy()
        changed[5] = -1
        return same(one), same(changed), same(rest)

    done = shapes.run()
    e = agrees(folder, done.exec_id)
    one, changed, rest = done.get()
    read = Columns(e.part)
    nodes = e.value(e.result).items
    for node, array in zip([nodes[0], nodes[1], *nodes[2]], [one, changed, *rest], strict=True):
        got = read.array(node)
        assert (got.dtype, got.shape, got.flags.fnc) == (array.dtype, array.shape, array.flags.fnc)
        assert got.tobytes() == array.tobytes() if not array.dtype.hasobject else got.tolist() == array.tolist()
    assert len({c for v in values_of(e) for c, _ in v.get("blobs", ())}) == 4, "one chunk of three differs"


def test_arrow_types_are_read_by_pyarrow_alone():
    nested = pa.array([{"a": [1, 2], "b": "x"}, None, {"a": None, "b": "y"}])
    some = [
        nested, nested[1:], pa.array([True, None, False]), pa.array([b"a", None, b""]), pa.nulls(4),
        pa.array([1, None], pa.decimal128(10, 2)), pa.array(["x", "y", "x"]).dictionary_encode(),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
        pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        pa.array([0, None], pa.timestamp("us", "UTC")), pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["b"])]
        ),
        pa.array(["view", None, "x" * 40], pa.string_view()), pa.array([["a"], []], pa.list_view(pa.string())),
    ]  # fmt: skip
    for value in some:
        shared = codecs.Sharer().encode(value, otherwise="refuse")
        parts = dict(shared.parts) | {piece.digest: bytes(piece.data) for piece in shared.chunks}
        got = Columns(parts.__getitem__).arrow(unpack(shared.root, parts.__getitem__))
        got.validate(full=True)
        assert got.to_pylist() == value.to_pylist()


def flat(value):
    """All that a value holds, in its order; Python itself compares no deep lists."""
    seen, todo = [], [value]
    while todo:
        match todo.pop():
            case Tagged(tag, items):
                seen.append((tag, len(items)))
                todo += items
            case list() as items:
                seen.append(("list", len(items)))
                todo += items
            case dict() as pairs:
                seen.append(("map", len(pairs)))
                todo += [*pairs, *pairs.values()]
            case other:
                seen.append(other)
    return seen


def test_any_value_is_joined_as_kitaru_joins_it():
    rng = random.Random(7)

    def grown(depth):
        if not depth or rng.random() < 0.2:
            return rng.choice([n := rng.randrange(99), "x" * n * n, b"y" * n * 9, "line\n" * n * n, None, (n, n)])
        made = [grown(depth - 1) for _ in range(rng.choice([1, 3, 9]))]
        return rng.choice([made, tuple(made), {str(n): x for n, x in enumerate(made)}, dict(enumerate(made))])

    deep = []
    for n in range(9_000):
        deep = [deep, n]
    for value in [deep, *(grown(3) for _ in range(40))]:
        shared = codecs.Sharer().encode(value)
        parts = dict(shared.parts)
        assert flat(unpack(shared.root, parts.__getitem__)) == flat(unpack(codecs.encode(value).data))
        assert hashlib.sha256(shared.root).digest() == shared.digest


def written_by_hand(folder, exec_id, *everything):
    """An execution of one segment."""
    segment = Segment(exec_id, 1, "w" * 16, new_nonce(), 1, b"", everything, 1.0)
    assert folder.put_if_absent(journal_key(exec_id, 1), segment.encode())


def test_a_fork_has_the_values_that_stand_in_its_origin(folder):
    """The records are written by hand, so that each of the places is used."""
    shared = codecs.Sharer().encode(["word " * 200 + str(n) for n in range(400)])
    parts = [part for _, part in shared.parts]
    bundle = codecs.encode([*parts[10:]]).data
    name = hashlib.sha256(bundle).digest()
    folder.put_if_absent(f"blobs/{name.hex()[:2]}/{name.hex()}", bundle)
    value = Value(
        shared.digest,
        shared.size,
        "data",
        {"type": "list"},
        shared.root,
        tuple(parts[:10]),
        ((name, len(bundle)),),
        name,
    )
    small = codecs.encode("edited")
    edit = Value(small.digest, 7, "text", {"type": "str"}, small.data)
    claim = Claim(dataclasses.asdict(Process("m", "b", "n", 1, "2", "h", "u")), 20.0, 1.0)
    start = Started(("origin", 1), None, "step", 1, (), b"d", own_code=b"c", source="def step(): …", parts={})
    ended = Ended(("origin", 1), True, (("output", value),))
    begun = Begun("forked", (), code=b"d", source="def forked(): …")
    written_by_hand(folder, "origin", begun, claim, start, ended, Release("interrupted"))
    last = hashlib.sha256(folder.get(journal_key("origin", 1))).digest()
    forked = Forked("origin", 1, ((("origin", 1), (("output", edit),)),), (), (("origin", 1),), (), last)
    again = dataclasses.replace(start, id=("fork", 1), counterpart=("origin", 1), claims=True)
    there = Value(shared.digest, shared.size, "data", {"type": "list"})
    written_by_hand(
        folder,
        "fork",
        dataclasses.replace(begun, fork=forked),
        claim,
        Reused(again, True, (("output", there),)),
        Saved(None, "edit", 1, dataclasses.replace(edit, data=None, preview={})),
        Release("interrupted"),
    )
    e = agrees(folder, "fork")
    assert e.value(e.steps[0]["outputs"]["output"])[399] == "word " * 200 + "399"
    assert e.value(e.saved[0]["value"]) == "edited"


def test_a_part_that_is_damaged_is_not_returned(folder):
    @checkpoint
    def step():
        return np.arange(100_000), [f"{n:0600}" for n in range(1_000)]

    @flow
    def short():
        return step()

    exec_id = short.run().exec_id
    blobs = [path for path in (folder.path / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 2, "a chunk and a bundle"
    for path in blobs:
        was = path.read_bytes()
        path.write_bytes(was[:100] + bytes([was[100] ^ 1]) + was[101:])
        e = Execution(Place(folder.path), exec_id)
        with pytest.raises(Damaged):
            Columns(e.part).array(e.value(e.result).items[0])
        path.write_bytes(was)


def test_a_record_that_stands_for_another_one(folder):
    """No command forks yet: the records are written by hand."""
    held, other = (codecs.encode(v) for v in ("held", {"a": (1,)}))
    values = [Value(e.digest, len(e.data), "data", {"type": "x"}, e.data) for e in (held, other)]
    start = Started(("fork", 1), None, "step", 1, (), b"", ("origin", 4), claims=True, own_code=b"c", source="def …")
    start = dataclasses.replace(start, arguments=(("n", values[0]),), parts={})
    inner = Started(("fork", 2), ("fork", 1), "inner", None, (), b"", own_code=b"c")
    everything = (
        Begun("forked", (("n", dataclasses.replace(values[1])),), code=b"d", source="def forked(): …"),
        Claim(dataclasses.asdict(Process("m", "b", "n", 1, "2", "h", "u")), 20.0, 1.0),
        Reused(start, True, (("output", dataclasses.replace(values[1], data=None)),)),
        inner,
        Ended(("fork", 2), False, {"type": "builtins:ValueError", "message": "no"}, (), 0.1),
        Saved(("fork", 2), "kept", 1, values[0]),
        Logged(None, 1, {"a": 1}),
        FlowEnded(True, (), (("output", dataclasses.replace(values[0], data=None)),)),
        Release("completed"),
    )
    segment = Segment("fork", 1, "w" * 16, new_nonce(), 1, b"", everything, 1.0)
    assert folder.put_if_absent(journal_key("fork", 1), segment.encode())
    e = agrees(folder, "fork")
    assert (e.steps[0]["reused"], e.steps[1]["path"]) == (["origin", 4], "step#1/inner~1")
    assert e.value(e.steps[0]["outputs"]["output"]) == {"a": Tagged("tuple", [1])}


def test_the_catalog_lists_what_there_is(folder):
    @flow
    def first():
        return 1

    @flow
    def zweite_ü():
        raise ValueError

    first.run()
    zweite_ü.options(raises=False).run()
    theirs = KitaruClient(folder).executions.list()
    ours = Place(folder.path).executions()
    assert [(r["exec_id"], r["flow"], r["status"]) for r in ours] == [
        (s.exec_id, s.flow, s.status.value) for s in theirs
    ]


# ---------------------------------------------------------------- values, and damage


def samples():
    import datetime as dt
    import decimal
    import enum
    import uuid
    from zoneinfo import ZoneInfo

    class Local:
        pass

    return [
        None, True, 0, -1, 127, 128, 255, 256, 65536, 2**32, 2**64 - 1, -33, -129, -(2**15) - 1, -(2**31) - 1, -(2**63),
        2**64, -(2**90), 1.5, -0.0, math.inf, math.nan, struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0], "", "é" * 200,
        "x" * 70_000, "\ud800", b"", b"b" * 300, b"c" * 70_000, bytearray(b"a"), 1 + 2j, ..., [()], [[]], [(), ()], {},
        {1: 2}, {"$a": 1}, {"a": {(1, 2): {3}}}, list(range(70_000)), {str(n): n for n in range(70_000)}, range(3),
        slice(None), dt.datetime(2026, 1, 2, 3, 4, 5, 6, ZoneInfo("Europe/Berlin"), fold=1), dt.date(1, 1, 1),
        dt.timedelta(-1, 2, 3), decimal.Decimal("-1E+5"), uuid.UUID(int=7), Path("/a"), enum.Enum("E", "A B"),
        int | None, list[int], ValueError("a", 1), Local(), lambda: 1,
    ]  # fmt: skip


def test_values_of_every_kind_read_alike():
    deep = []
    for _ in range(15_000):
        deep = [deep]
    assert unpack(codecs.encode(deep).data)[0][0]
    for value in samples():
        data = codecs.encode(value, otherwise="refer").data
        assert as_json(unpack(data)) == codecs.to_json(data)


@pytest.mark.parametrize("harm", ["flip", "cut", "swap", "lose", "rename"])
def test_what_is_damaged_is_found_by_both(folder, harm):
    @checkpoint
    def step(n):
        return n

    @flow
    def short():
        return step(step(step(1)))

    exec_id = short.run().exec_id
    journal = folder.path / "executions" / exec_id / "journal"
    first, second = sorted(journal.iterdir())[:2]
    if harm == "flip":
        data = bytearray(second.read_bytes())
        data[50] ^= 1
        second.write_bytes(data)
    elif harm == "cut":
        second.write_bytes(second.read_bytes()[:-7])
    elif harm == "swap":
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)
    elif harm == "lose":
        first.unlink()
    else:
        exec_id = "other"
        os.rename(journal.parent, folder.path / "executions" / "other")
    with pytest.raises(Damaged):
        Execution(Place(folder.path), exec_id)
    from kitaru.errors import CorruptionError

    with pytest.raises(CorruptionError):
        read_journal(LocalStore(folder.path), exec_id)


# ---------------------------------------------------------------- it stands alone, and the page is complete


@pytest.mark.process
def test_the_reader_needs_the_standard_library_alone(folder):
    def imported(nodes):
        return {
            name.partition(".")[0]
            for node in nodes
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            + ([a.name for a in node.names] if isinstance(node, ast.Import) else [])
        }

    tree = ast.parse(READER.read_text())
    assert imported(tree.body) <= sys.stdlib_module_names
    assert imported(ast.walk(tree)) - sys.stdlib_module_names == {"numpy", "pyarrow"}, "for bodies of their own"

    @checkpoint
    def step(n):
        return {"n": n}

    @flow
    def short():
        return step(1)

    exec_id = short.run().exec_id
    argv = [sys.executable, "-I", "-S", str(READER), str(folder.path), exec_id]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.splitlines() == [f"{exec_id}  short  completed", "  step#1  completed  [{'n': 1}]"]


def tables():
    """The tables of docs/format.md: for each, its rows as (words in backticks of the first cell, of the second)."""
    out, rows = [], []
    for line in [*FORMAT.read_text().splitlines(), ""]:
        if line.startswith("| `"):
            left, right = line.strip("|").split(" | ", 1)
            rows.append((re.findall(r"`([^`]+)`", left), re.findall(r"`([^`]+)`", right)))
        elif rows and not line.startswith("|"):
            out, rows = [*out, rows], []
    return out


def table_with(word):
    return next(rows for rows in tables() if any(word in left for left, _ in rows))


VALUE = Value(b"d" * 32, 1, "data", {}, b"\0")
LARGE = Value(b"d" * 32, 1, "data", {"type": "x"}, b"\0", (b"p",), ((b"b" * 32, 3),), b"b" * 32, b"w" * 8)
FORK = Forked("o", 3, ((("o", 1), (("n", VALUE),)),), ((("o", 2), (("n", VALUE),)),), (("o", 3),), ("n",), b"l" * 32)
START = Started(
    ("x", 2), ("x", 1), "step", 1, (("n", b"d"),), b"c", ("y", 1), claims=True, ran_with=(("n", VALUE),),
    instead=("x", 1), past=(("x", 1),), arguments=(("n", VALUE),), own_code=b"c", parts={"a": "b"}, source="s",
    type="t", attempt=2, at=1.0, notes={"a": 1},
)  # fmt: skip
FULL = [
    Begun("f", (("n", VALUE),), "m", "q", "s", b"c", {"a": "b"}, "s", 1.0, {"a": "b"}, {"a": 1}, FORK, ("p", 1)),
    Claim({"pid": 1}, 20.0, 1.0, took_over=True),
    START,
    Ended(("x", 2), False, {"type": "t"}, (("x", 1),), 1.0, 1.0, again=True, notes={"a": 1}),
    Reused(START, True, (("o", VALUE),), 1.0),
    FlowEnded(True, (("x", 1),), (("o", VALUE),), 1.0),
    Saved(("x", 1), "n", 1, VALUE, "t", 1.0),
    Logged(("x", 1), 1, {"a": 1}, 1.0),
    Opened(("x", 2), "w#1@1", "answer", 2.0, "Well?", {"type": "null"}, "m:q", {"a": 1}, 1.0),
    Answered("w#1@1", "answered", VALUE, "ada", "why", 1.0, b"n" * 16),
    Release("failed", "why", 1.0, START, ("step",)),
]  # every field differs from its default


def test_the_samples_leave_no_field_out():
    assert {type(r) for r in FULL} == set(typing.get_args(records.Record))
    for sample in (*FULL, LARGE, FORK):
        for f in dataclasses.fields(sample):
            default = (
                f.default_factory() if f.default is dataclasses.MISSING and callable(f.default_factory) else f.default
            )
            assert getattr(sample, f.name) != default, f"{type(sample).__name__}.{f.name}: give the sample a value"


def test_the_page_names_every_key_of_every_record_and_no_other():
    rows = {left[0]: set(right) for left, right in table_with("flow_ended")}
    wires = {r.kind: set(records.to_wire(r, "x")) - {"kind"} for r in FULL}
    assert rows.keys() == wires.keys()
    for kind, keys in wires.items():
        assert rows[kind] - rows.keys() == keys - rows.keys(), f"docs/format.md, the row of {kind}"


def names(word):
    return {name for left, _ in table_with(word) for name in left}


def test_the_page_names_every_key_of_segments_values_and_failures():
    body = unpack(Segment("x", 1, "w", b"n", 1, b"", (), 1.0).encode()[8:-32])
    assert names("nonce") == set(body)
    assert names("preview") == set(LARGE.to_wire())
    assert names("segments") == set(FORK.to_wire())
    one = Failure("t", "m")
    full = Failure("t", "m", "tb", ("n",), b"v", "u", one, one, suppressed=True, group=(one,))
    assert names("traceback") == set(full.to_wire())
    assert {f.name for f in dataclasses.fields(Failure)} == set(full.to_wire())
    text = FORMAT.read_text()
    assert all(f"`{f.name}`" in text for f in dataclasses.fields(Process))


def test_the_page_names_every_tag():
    listed = {w for left, right in table_with("defaultdict") for w in (*left, *right) if w in decoder._MAKERS}
    assert listed == set(decoder._MAKERS)
    assert {left[0] for left, _ in table_with("defaultdict")} <= set(decoder._MAKERS)


@pytest.mark.parametrize(
    ("rooms", "tag"),
    [
        (("arrays", "images"), "numpy.dtype"),
        (("frames",), "pandas.frame"),
        (("columns",), "arrow.array"),
        (("polars_frames",), "polars.frame"),
    ],
)
def test_the_page_names_every_tag_of_the_libraries(rooms, tag):
    makers = {name for room in rooms for name in importlib.import_module(f"kitaru.codecs.{room}").MAKERS}
    assert {name for name in names(tag) if "." in name} == makers


def test_the_page_names_every_key_of_a_preview():
    rows = [[1, "a"], [2, "b"]]
    frame = pd.DataFrame(rows, columns=["n", "t"], index=["x", "y"])
    seen = (frame, frame["n"], np.arange(4), [{"role": "user", "content": "hi"}], PIL.Image.new("L", (2, 1)))
    assert names("messages") == {key for value in seen for key in preview(value)}
