"""`save`, `log` and `load`."""

from __future__ import annotations

import pytest

from kitaru import KitaruClient, checkpoint, flow, load, log, save
from kitaru.errors import InvalidNameError, NotFoundError, UnrecordableValueError

from ..large import noise


def test_outside_of_a_flow_they_do_nothing(store):
    save("x", 1)
    log(tokens=3)
    assert list(store.list("")) == []


def test_a_flows_own_save_and_log_are_recorded_once_however_often_it_resumes(store, client, ran):
    @checkpoint
    def step(n):
        log(tokens=10, cost=0.5, note=f"n{n}")
        log(tokens=5, cost=0.25, note="last")
        save("inner", n)
        return n

    @flow
    def body(stops):
        n = ran("body")
        save("plan", {"attempt": n})
        log(run=n, tokens=1)
        step(1)
        save("plan", {"attempt": n, "version": 2})
        if n <= stops:
            raise KeyboardInterrupt
        return "done"

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            body.options(exec_id="x").run(3)
    assert body.options(exec_id="x").run(3).get() == "done"
    data = client.executions.get("x").data
    saved = [(s.name, s.version, s.label) for s in data.saved]
    assert saved == [("plan", 1, ""), ("inner", 1, "step#1"), ("plan", 2, "")]
    assert load("x", "plan") == {"attempt": 1, "version": 2}, "the newest version, of the first attempt"
    assert [line.data for line in client.executions.logs("x")] == [
        {"run": 1, "tokens": 1},
        {"tokens": 10, "cost": 0.5, "note": "n1"},
        {"tokens": 5, "cost": 0.25, "note": "last"},
    ]
    assert client.executions.get("x").checkpoints[0].metadata == {"tokens": 15, "cost": 0.75, "note": "last"}


def test_what_a_failed_attempt_logged_is_that_attempts(store, timed, ran):
    @checkpoint(retries=1)
    def step():
        log(tokens=10)
        save("draft", ran("step"))
        if ran.counts["step"] == 1:
            raise ValueError("no")

    @flow
    def body():
        step()

    handle = timed(body).run()
    assert load(handle.exec_id, "draft") == 2
    assert KitaruClient().executions.get(handle.exec_id).checkpoints[0].metadata == {"tokens": 10}


def test_load_takes_saved_names_steps_inputs_and_addresses(store, client):
    @checkpoint
    def report(text):
        save("summary", text.upper(), type="report")
        return {"text": text}

    @flow
    def body():
        report("one")
        return report("two")["text"]

    exec_id = body.run().exec_id
    assert load(exec_id, "summary") == "TWO"
    assert load(exec_id, "report") == {"text": "one"}
    assert load(exec_id, "report#2") == {"text": "two"}
    assert load(exec_id, "report#2.output") == {"text": "two"}
    assert load(exec_id, "report#2.in.text") == "two"
    assert load(exec_id, "@2") == {"text": "two"}
    assert load(exec_id, "result") == load(exec_id) == "two"
    assert load(f"{store.url}/{exec_id}:report#2") == {"text": "two"}
    kinds = {a.name: (a.kind, a.type) for a in client.artifacts.list(exec_id)}
    assert kinds["summary"] == ("text", "report")
    assert kinds["report#1.output"] == ("data", None)


def test_load_works_inside_of_a_flow_too(store):
    @flow
    def first():
        save("x", [1, 2])

    @flow
    def second(before):
        return load(before, "x")

    assert second.run(first.run().exec_id).get() == [1, 2]


def test_a_name_that_is_not_there_is_named_with_what_there_is(store):
    @checkpoint
    def step():
        return 1

    @flow
    def body():
        return step()

    exec_id = body.run().exec_id
    with pytest.raises(NotFoundError, match=rf"{exec_id} has no checkpoint other#1; it has: step"):
        load(exec_id, "other")
    with pytest.raises(NotFoundError, match=r"has no checkpoint step#2; it has: step#1"):
        load(exec_id, "step#2")
    with pytest.raises(NotFoundError, match=r"step#1 has no output x; it has: output"):
        load(exec_id, "step.x")
    with pytest.raises(NotFoundError, match=r"step#1 has no input n; it has: none"):
        load(exec_id, "step.in.n")
    with pytest.raises(NotFoundError, match=r"has 1 checkpoints; there is no @2"):
        load(exec_id, "@2")
    with pytest.raises(InvalidNameError, match="is not a REF"):
        load(exec_id, "a#b")
    with pytest.raises(NotFoundError, match=r"there is no execution nobody in memory://.*`kitaru runs` lists"):
        load("nobody", "x")


class Thing:
    def __repr__(self):
        raise RuntimeError("hostile")


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a b", "#1", "x" * 201])
def test_a_saved_name_is_checked(store, name):
    with pytest.raises(InvalidNameError, match="a saved artifact"):
        save(name, 1)


def test_what_cannot_be_saved_fails_where_it_was_saved(store):
    @flow
    def body():
        save("rows", {"all": [1, (n for n in "ab")]})

    with pytest.raises(UnrecordableValueError, match=r"body\.rows\[.all.\]\[1\] is the generator"):
        body.run()


def test_metadata_that_is_no_plain_data_is_logged_by_its_preview(store, client):
    @flow
    def body():
        log(a=1, big=1 << 70, nested={"t": (1, Thing()), 3: None}, thing=Thing())

    (line,) = client.executions.logs(body.run().exec_id)
    assert (line.data["a"], line.data["big"]) == (1, str(1 << 70))
    assert line.data["nested"]["t"][0] == 1
    assert line.data["nested"]["3"] is None
    assert "Thing" in line.data["thing"]


def test_large_values_are_saved_as_blobs(store):
    @flow
    def body():
        save("big", noise(100_000))
        save("big", noise(100_000))

    exec_id = body.run().exec_id
    assert load(exec_id, "big") == noise(100_000)
    assert len(list(store.list("blobs/"))) == 1
