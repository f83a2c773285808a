"""`kitaru.repeat`: one recorded step again and again, to tell a flaky step from a wrong one."""

import asyncio
import itertools
import json

import pytest

import kitaru
from kitaru import Ref, checkpoint, flow
from kitaru.errors import CodeNotFoundError, NotFoundError, UsageError


@pytest.fixture
def turns():
    return itertools.count()


def run(body, *args):
    return body.run(*args).exec_id


def test_a_step_that_gives_the_same_each_time(store):
    @checkpoint
    def double(n):
        return 2 * n

    @flow
    def body(n):
        return double(n)

    found = kitaru.repeat(run(body, 4), "double", n=4)
    assert (found.runs, found.agreement, len(found.outcomes)) == (4, 1.0, 1)
    assert found.spread == {"min": 8.0, "max": 8.0, "mean": 8.0, "stdev": 0.0}
    assert "the same every time; 100% as recorded" in repr(found)


def test_a_flaky_step_shows_each_outcome_with_its_count(store, turns):
    @checkpoint
    def flaky(text):
        return f"{text} {next(turns) % 2}"

    @flow
    def body():
        return flaky("a")

    found = kitaru.repeat(run(body), "flaky#1", n=5)
    assert sorted((o.count, o.recorded) for o in found.outcomes) == [(2, True), (3, False)]
    assert found.agreement == 2 / 5
    assert not found.numbers


def test_failures_are_outcomes_too(store, turns):
    @checkpoint
    def sometimes():
        if next(turns) % 2:
            raise ValueError("not now")
        return 1

    @flow
    def body():
        return sometimes()

    found = kitaru.repeat(run(body), "sometimes", n=4)
    assert sorted((o.failed, o.count) for o in found.outcomes) == [(False, 2), (True, 2)]


def test_a_step_that_fails_as_it_was_recorded_agrees(store):
    @checkpoint
    def broken():
        raise ValueError("never")

    @flow
    def body():
        return broken()

    exec_id = body.options(raises=False).run().exec_id
    found = kitaru.repeat(exec_id, "broken", n=2)
    assert (found.agreement, found.outcomes[0].failed, found.outcomes[0].count) == (1.0, True, 2)
    assert repr(found).splitlines()[1] == "    2 x ValueError: never (as recorded)"


def test_its_inputs_are_loaded_anew_for_each_run(store):
    @checkpoint
    def consume(items):
        return items.pop()

    @flow
    def body():
        return consume([1, 2, 3])

    with pytest.warns(kitaru.KitaruWarning, match="changed its argument"):
        exec_id = run(body)
    found = kitaru.repeat(exec_id, "consume", n=3)
    assert [(o.count, o.recorded) for o in found.outcomes] == [(3, True)]


def test_an_async_step_and_one_with_several_outputs(store):
    @checkpoint(outputs=("low", "high"))
    async def bounds(values):
        await asyncio.sleep(0)
        return min(values), max(values)

    @flow
    async def body():
        return await bounds([3, 1, 2])

    exec_id = run(body)
    found = kitaru.repeat(exec_id, "bounds", n=2)
    assert [(o.count, o.recorded) for o in found.outcomes] == [(2, True)]

    async def in_a_notebook():
        return kitaru.repeat(exec_id, "bounds", n=2)

    assert asyncio.run(in_a_notebook()).agreement == 1.0


def test_a_step_that_takes_and_gives_refs(store):
    @checkpoint
    def numbers() -> Ref[list]:
        return [1, 2]

    @checkpoint
    def total(numbers: Ref[list]):
        return sum(numbers.load())

    @flow
    def body():
        return total(numbers())

    exec_id = run(body)
    assert [kitaru.repeat(exec_id, step, n=1).agreement for step in ("numbers", "total")] == [1.0, 1.0]


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 10**400])
def test_numbers_that_have_no_mean_have_no_spread(store, number):
    @checkpoint
    def odd():
        return number

    @flow
    def body():
        return odd()

    found = kitaru.repeat(run(body), "odd", n=2)
    assert (found.agreement, found.spread) == (1.0, {})
    json.dumps(found.to_json(), allow_nan=False)


def test_nothing_is_recorded(store):
    @checkpoint
    def double(n):
        kitaru.log(tokens=3)
        return 2 * n

    @flow
    def body(n):
        return double(n)

    exec_id = run(body, 1)
    before = sorted((e.key, e.size) for e in store.list(""))
    kitaru.repeat(exec_id, "double", n=3)
    assert sorted((e.key, e.size) for e in store.list("")) == before


def test_what_cannot_be_repeated_says_why(store):
    import threading

    @checkpoint
    def locked(lock, n):
        return n

    @flow
    def body(n):
        return locked(threading.Lock(), n)

    @checkpoint(ignore=["client"])
    def asked(client, n):
        return n

    @flow
    def asking(n):
        return asked(object(), n)

    with pytest.raises(UsageError, match=r"asked#1 takes client, which is not recorded"):
        kitaru.repeat(run(asking, 1), "asked")
    exec_id = run(body, 1)
    with pytest.raises(UsageError, match=r"lock=.*no data"):
        kitaru.repeat(exec_id, "locked")
    with pytest.raises(UsageError, match="at least once"):
        kitaru.repeat(exec_id, "locked", n=0)
    with pytest.raises(NotFoundError, match="no checkpoint other#1"):
        kitaru.repeat(exec_id, "other")


def test_code_that_is_gone_is_named(store, monkeypatch):
    @checkpoint
    def gone_for_good(n):
        return n

    @flow
    def passing(n):
        return gone_for_good(n)

    exec_id = run(passing, 1)
    monkeypatch.setattr("kitaru.sources._steps", {})
    with pytest.raises(CodeNotFoundError, match="gone_for_good"):
        kitaru.repeat(exec_id, "gone_for_good")
