"""A gallery of replays: each a short flow, one thing that is changed in its middle, and what runs then.

`ran` is a log of the bodies that ran; `told(fork)` is what `explain()` says of each step afterwards.
"""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import numpy as np
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.errors import (
    CorruptionError,
    KitaruDivergenceError,
    KitaruWarning,
    NotFoundError,
    UnrecordableValueError,
    UsageError,
)
from kitaru.forks import open_origin
from kitaru.reading import read_journal
from kitaru.records import Forked
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at

from .conftest import Ran


@pytest.fixture
def told(client):
    """What became of each step of an execution: ``told(handle)["risk#2"]``."""
    return lambda handle: {row.step: row.decision for row in client.executions.get(handle.exec_id).explain()}


def foretold(handle, **edits):
    """What the plan says of each step of an execution."""
    return {row.step: row.decision for row in kitaru.plan(handle.exec_id, **edits)}


@pytest.fixture
def pipeline(ran):
    """collect → three times classify and risk → write_report: the flow that several scenarios start from."""

    @checkpoint
    def collect(n):
        ran("collect")
        return [f"package {i}" for i in range(n)]

    @checkpoint
    def classify(package):
        ran(f"classify {package}")
        return {"name": package, "licence": "GPL"}

    @checkpoint
    def risk(found):
        ran(f"risk {found['name']}")
        return 1 if found["licence"] in {"MIT", "BSD"} else 9

    @checkpoint
    def write_report(risks):
        ran("write_report")
        return f"worst is {max(risks)} of {len(risks)}"

    @flow
    def audit(n):
        return write_report([risk(classify(package)) for package in collect(n)])

    return audit


# ---------------------------------------------------------------- an edit, and what reads it


def test_an_edit_in_the_middle_runs_what_reads_it_and_nothing_else(store, ran, told, pipeline) -> None:
    first = pipeline.run(3)
    edit = {"overrides": {"checkpoint.classify#2": {"name": "package 1", "licence": "MIT"}}}
    assert foretold(first, **edit) == {
        "collect#1": "reuse",
        "classify#1": "reuse",
        "risk#1": "reuse",
        "classify#2": "reuse",
        "risk#2": "rerun?",
        "classify#3": "reuse?",
        "risk#3": "reuse?",
        "write_report#1": "rerun?",
    }
    ran.take()
    fork = pipeline.replay(first.exec_id, **edit)
    assert ran.take() == ["risk package 1", "write_report"]
    assert fork.get() == "worst is 9 of 3"
    assert told(fork)["classify#2"] == "edited"
    assert told(fork)["risk#2"] == "ran"
    assert told(fork)["risk#3"] == "reused"


def test_an_edit_cuts_off_early_where_a_step_gives_the_same_output_as_before(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    ran.take()
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.classify#1": {"name": "package 0", "licence": "LGPL"}})
    assert ran.take() == ["risk package 0"]  # 9, as before: nobody asks for a new report
    assert fork.get() == "worst is 9 of 2"
    assert told(fork)["write_report#1"] == "reused"


def test_an_edit_of_the_last_output_runs_nothing(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    ran.take()
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.write_report": "all is well"})
    assert (ran.take(), fork.get()) == ([], "all is well")
    assert told(fork)["write_report#1"] == "edited"


def test_an_edited_output_need_not_be_of_the_type_it_was(store, ran, pipeline) -> None:
    first = pipeline.run(1)
    ran.take()
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.risk": 2.5})
    assert (ran.take(), fork.get()) == (["write_report"], "worst is 2.5 of 1")


def test_the_original_is_not_touched(ran, tmp_path, connected, pipeline) -> None:
    connected(kitaru.connect(str(tmp_path / "store")))
    first = pipeline.run(3)
    folder = tmp_path / "store" / "executions" / first.exec_id

    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    before = content()
    pipeline.replay(first.exec_id, overrides={"checkpoint.collect": ["package 7"]})
    pipeline.replay(first.exec_id, from_="classify#2")
    assert content() == before
    assert KitaruClient().executions.get(first.exec_id).result == "worst is 9 of 3"


def test_two_edits_of_which_the_second_reads_what_the_first_changed(store, ran, told) -> None:
    @checkpoint
    def draft(topic):
        ran("draft")
        return f"a draft on {topic}"

    @checkpoint
    def review(text):
        ran("review")
        return f"a review of {text}"

    @checkpoint
    def publish(text, verdict):
        ran("publish")
        return f"{text}; {verdict}"

    @flow
    def write(topic):
        text = draft(topic)
        return publish(text, review(text))

    first = write.run("tea")
    ran.take()
    fork = write.replay(first.exec_id, overrides={"checkpoint.draft": "my own", "checkpoint.review": "fine"})
    assert ran.take() == ["publish"]
    assert fork.get() == "my own; fine"
    assert told(fork) == {"draft#1": "edited", "review#1": "edited", "publish#1": "ran"}


def test_one_of_several_outputs_is_edited_and_the_others_stay(store, ran) -> None:
    @checkpoint(outputs=("kept", "dropped"))
    def split(numbers):
        ran("split")
        return [n for n in numbers if n > 2], [n for n in numbers if n <= 2]

    @checkpoint
    def total(numbers):
        ran("total")
        return sum(numbers)

    @checkpoint
    def count(numbers):
        ran("count")
        return len(numbers)

    @flow
    def sort(numbers):
        kept, dropped = split(numbers)
        return total(kept), count(dropped)

    first = sort.run([1, 2, 3, 4])
    edit = {"overrides": {"checkpoint.split.kept": [10]}}
    assert foretold(first, **edit) == {"split#1": "reuse", "total#1": "rerun?", "count#1": "reuse?"}
    ran.take()
    fork = sort.replay(first.exec_id, **edit)
    assert (ran.take(), fork.get()) == (["total"], (10, 2))


# ---------------------------------------------------------------- loops, branches, equal calls


def test_identical_tool_calls_keep_their_different_results(store, ran, told) -> None:
    weather = iter(["sun", "rain", "hail"])

    @checkpoint(type="tool_call")
    def look_outside(city):
        ran("look_outside")
        return next(weather)

    @checkpoint
    def summary(seen):
        ran("summary")
        return " ".join(seen)

    @flow
    def watch(city):
        return summary([look_outside(city) for _ in range(3)])

    first = watch.run("Oslo")
    ran.take()
    fork = watch.replay(first.exec_id, overrides={"checkpoint.look_outside#2": "snow"})
    assert (ran.take(), fork.get()) == (["summary"], "sun snow hail")
    assert told(fork)["look_outside#3"] == "reused"


@pytest.fixture
def counting(ran):
    """decide → a loop of so many turns → finish."""

    @checkpoint
    def decide():
        ran("decide")
        return 3

    @checkpoint(type="tool_call")
    def work(turn):
        ran(f"work {turn}")
        return turn * turn

    @checkpoint
    def finish(done):
        ran("finish")
        return sum(done)

    @flow
    def agent():
        return finish([work(turn) for turn in range(decide())])

    return agent


def test_a_loop_grown_by_an_edit_runs_its_new_turns_alone(store, ran, told, counting) -> None:
    first = counting.run()
    ran.take()
    fork = counting.replay(first.exec_id, overrides={"checkpoint.decide": 5})
    assert (ran.take(), fork.get()) == (["work 3", "work 4", "finish"], 30)
    assert told(fork)["work#3"] == "reused"
    assert told(fork)["work#4"] == "ran"


def test_a_loop_cut_short_by_an_edit_leaves_the_rest_out(store, ran, told, counting) -> None:
    first = counting.run()
    ran.take()
    fork = counting.replay(first.exec_id, overrides={"checkpoint.decide": 2})
    assert (ran.take(), fork.get()) == (["finish"], 1)
    assert "work#3" not in told(fork)


def test_a_branch_taken_because_of_an_edit(store, ran, told) -> None:
    @checkpoint
    def ask():
        ran("ask")
        return "yes"

    @checkpoint
    def go():
        ran("go")
        return "went"

    @checkpoint
    def stay():
        ran("stay")
        return "stayed"

    @flow
    def choose():
        return go() if ask() == "yes" else stay()

    first = choose.run()
    # No data leads from the answer to the branch: the plan can only guess, and says so by its question mark.
    assert foretold(first, overrides={"checkpoint.ask": "no"})["go#1"] == "reuse?"
    ran.take()
    fork = choose.replay(first.exec_id, overrides={"checkpoint.ask": "no"})
    assert (ran.take(), fork.get()) == (["stay"], "stayed")
    back = choose.replay(fork.exec_id, overrides={"checkpoint.ask": "yes"})
    assert (ran.take(), back.get()) == ([], "went")
    assert told(back) == {"ask#1": "edited", "go#1": "reused"}


# ---------------------------------------------------------------- clocks


@pytest.fixture
def ticking(ran):
    """A flow that puts the time into its steps' inputs, and a clock that never stands still."""
    time = iter(range(1000, 2000))

    @checkpoint
    def fetch(now):
        ran("fetch")
        return "news"

    @checkpoint
    def write(text):
        ran("write")
        return f"about {text}"

    @flow
    def daily():
        return write(fetch(next(time)))

    return daily


def test_a_clock_in_the_flows_body_is_drift_and_is_said(store, ran, told, ticking) -> None:
    first = ticking.run()
    ran.take()
    with pytest.warns(KitaruWarning, match=r"fetch#1 .*now: recorded int 1000, now int 1001") as caught:
        fork = ticking.replay(first.exec_id, overrides={"checkpoint.write": "nothing new"})
    assert len(caught) == 1
    assert (ran.take(), fork.get()) == ([], "nothing new")
    assert told(fork)["fetch#1"] == "reused"
    row = next(iter(KitaruClient(store).executions.get(fork.exec_id).explain()))
    assert "drift: now was int 1000, is int 1001" in row.why


def test_drift_inside_of_a_step_names_its_whole_path(store, ran, ticking) -> None:
    @checkpoint
    def issue():
        return ticking.function()

    @flow
    def weekly():
        return issue()

    first = weekly.run()
    with pytest.warns(KitaruWarning, match=r"^issue#1/fetch#1 of .*now: recorded int 1000, now int 1001"):
        weekly.replay(first.exec_id, overrides={"checkpoint.issue/write": "nothing new"})


def test_drift_runs_again_where_that_is_asked_for(store, ran, ticking) -> None:
    first = ticking.run()
    ran.take()
    ticking.replay(first.exec_id, overrides={"checkpoint.write": "x"}, on_drift="rerun")
    assert ran.take() == ["fetch"]


def test_drift_is_an_error_where_that_is_asked_for(store, ran, ticking) -> None:
    first = ticking.run()
    ran.take()
    with pytest.raises(KitaruDivergenceError, match="fetch#1"):
        ticking.replay(first.exec_id, overrides={"checkpoint.write": "x"}, on_drift="error")
    assert ran.take() == []


def test_behind_the_edit_other_inputs_are_no_drift(store, ran) -> None:
    @checkpoint
    def ask():
        ran("ask")
        return 1

    @checkpoint
    def answer(x):
        ran("answer")
        return 10 * x

    @flow
    def talk():
        return answer(ask())

    first = talk.run()
    ran.take()
    fork = talk.replay(first.exec_id, overrides={"checkpoint.ask": 2})  # a stale 10 would be silent and wrong
    assert (ran.take(), fork.get()) == (["answer"], 20)


# ---------------------------------------------------------------- things at once


def test_an_unordered_gather_gives_each_call_its_own_record(store, ran, told) -> None:
    order = random.Random(4)

    @checkpoint
    async def fetch(page):
        for _ in range(order.randrange(6)):
            await asyncio.sleep(0)
        ran(f"fetch {page}")
        return f"text of {page}"

    @checkpoint
    async def extract(text):
        for _ in range(order.randrange(6)):
            await asyncio.sleep(0)
        ran(f"extract {text}")
        return text.upper()

    @checkpoint
    async def merge(parts):
        ran("merge")
        return " ".join(parts)

    @flow
    async def crawl(pages):
        texts = await asyncio.gather(*[fetch(page) for page in pages])
        return await merge(await asyncio.gather(*[extract(text) for text in texts]))

    first = crawl.run(["a", "b", "c", "d"])
    for _ in range(5):
        ran.take()
        fork = crawl.replay(first.exec_id, overrides={"checkpoint.fetch#3": "mine"})
        assert ran.take() == ["extract mine", "merge"]
        assert fork.get() == "TEXT OF A TEXT OF B MINE TEXT OF D"
        assert told(fork)["fetch#3"] == "edited"


def test_submitted_steps_that_finish_in_any_order(store, ran) -> None:
    barrier = threading.Barrier(4)  # all four run at once, and end as the scheduler likes

    @checkpoint
    def fetch(n):
        if ran(f"fetch {n}") == 1:
            barrier.wait(10)
        return n * n

    @checkpoint
    def add(numbers):
        ran("add")
        return sum(numbers)

    @flow
    def fan(n):
        return add([f.result() for f in fetch.map(range(n))])

    first = fan.run(4)
    ran.take()
    fork = fan.replay(first.exec_id, overrides={"checkpoint.fetch#2": 100})
    assert (ran.take(), fork.get()) == (["add"], 113)
    again = fan.replay(fork.exec_id, rerun=["fetch"])  # the edited one as well: it is asked for
    assert sorted(ran.take()) == ["fetch 0", "fetch 1", "fetch 2", "fetch 3"]
    assert again.get() == 14  # the sum of the first run is found again


def test_calls_of_side_tasks_are_told_apart_by_their_inputs(store, ran) -> None:
    @checkpoint
    async def fetch(page):
        ran(f"fetch {page}")
        return f"text of {page}"

    @checkpoint
    async def shorten(text):
        ran(f"shorten {text}")
        return text[-1]

    async def one(page):
        return await shorten(await fetch(page))

    @flow
    async def crawl(pages):
        return await asyncio.gather(*[asyncio.ensure_future(one(page)) for page in pages])

    first = crawl.run(["a", "b", "c"])
    ran.take()
    fork = crawl.replay(first.exec_id, overrides={"checkpoint.fetch~2": "mine"})
    assert (ran.take(), fork.get()) == (["shorten mine"], ["a", "e", "c"])


# ---------------------------------------------------------------- code that changed


def test_a_step_inserted_before_the_others_takes_no_record_of_theirs(store, ran, told) -> None:
    def version(steps):
        @checkpoint
        def ask(question):
            ran(f"ask {question}")
            return f"answer to {question}"

        if steps == 2:

            @flow
            def interview():
                return [ask("name"), ask("age")]
        else:

            @flow
            def interview():
                return [ask("greeting"), ask("name"), ask("age")]

        return interview

    first = version(2).run()
    ran.take()
    fork = version(3).replay(first.exec_id)
    assert ran.take() == ["ask greeting"]
    assert fork.get() == ["answer to greeting", "answer to name", "answer to age"]
    assert told(fork) == {"ask#1": "ran", "ask#2": "reused", "ask#3": "reused"}


def test_a_removed_step_leaves_the_others_their_records(store, ran, told) -> None:
    @checkpoint
    def ask(question):
        ran(f"ask {question}")
        return f"answer to {question}"

    def before():
        @flow
        def interview():
            return [ask("greeting"), ask("name"), ask("age")]

        return interview

    def after():
        @flow
        def interview():
            return [ask("name"), ask("age")]

        return interview

    first = before().run()
    ran.take()
    fork = after().replay(first.exec_id)
    assert ran.take() == []
    assert fork.get() == ["answer to name", "answer to age"]


def test_a_renamed_step_that_says_what_it_was_keeps_its_records(store, ran, told) -> None:
    def before():
        @checkpoint
        def look(page):
            ran("look")
            return f"text of {page}"

        @flow
        def crawl():
            return [look("a"), look("b")]

        return crawl

    def after():
        @checkpoint(was="look")
        def fetch(page):
            ran("fetch")
            return f"text of {page}"

        @flow
        def crawl():
            return [fetch("a"), fetch("b"), fetch("c")]

        return crawl

    first = before().run()
    ran.take()
    fork = after().replay(first.exec_id)
    assert ran.take() == ["fetch"]
    assert fork.get() == ["text of a", "text of b", "text of c"]
    assert told(fork) == {"fetch#1": "reused", "fetch#2": "reused", "fetch#3": "ran"}
    after().replay(first.exec_id, rerun=["look"])
    assert ran.take() == ["fetch", "fetch", "fetch"]


def test_a_renamed_step_is_found_by_a_resume_too(connected, ran) -> None:
    store = connected(FaultyStore(MemoryStore()))

    def before():
        @checkpoint
        def look(page):
            ran("look")
            return page

        @checkpoint
        def stop():
            raise ValueError("not yet")

        @flow
        def crawl():
            look("a")
            return stop()

        return crawl

    def after():
        @checkpoint(was="look")
        def fetch(page):
            ran("fetch")
            return page

        @flow
        def crawl():
            return fetch("a") + fetch("b")

        return crawl

    before().options(exec_id="renamed", raises=False).run()
    assert after().options(exec_id="renamed", inputs="recorded").run().get() == "ab"
    assert ran.take() == ["look", "fetch"]
    assert store.dead is False


def test_a_helper_that_changed_is_seen(store, ran, told, capsys) -> None:
    old = _shop(ran, lambda amount: amount // 10)
    first = old.run(100)
    new = _shop(ran, lambda amount: amount // 5)
    ran.take()
    as_is = new.replay(first.exec_id)
    assert (ran.take(), as_is.get()) == ([], "110 EUR")  # not asked for, and not in silence
    assert "the code of price has changed" in capsys.readouterr().err
    for exec_id in (first.exec_id, as_is.exec_id):
        fork = new.replay(exec_id, rerun="changed")
        assert (ran.take(), fork.get()) == (["price", "label"], "120 EUR")
        assert told(fork) == {"price#1": "ran", "label#1": "ran"}


def _shop(ran, tax):
    """A shop whose price has a helper."""

    @checkpoint
    def price(amount):
        ran("price")
        return amount + tax(amount)

    @checkpoint
    def label(amount):
        ran("label")
        return f"{amount} EUR"

    @flow
    def shop(amount):
        return label(price(amount))

    return shop


def test_rerun_changed_runs_nothing_where_nothing_changed(store, ran) -> None:
    old = _shop(ran, lambda amount: amount // 10)
    first = old.run(100)
    ran.take()
    assert old.replay(first.exec_id, rerun="changed").get() == "110 EUR"
    assert ran.take() == []


# ---------------------------------------------------------------- failures


@pytest.fixture
def careful(ran):
    """A flow that tries, catches, and goes on another way."""

    @checkpoint
    def risky(x):
        ran("risky")
        raise ConnectionError(f"no line to {x}")

    @checkpoint
    def instead(why):
        ran("instead")
        return f"made do: {why}"

    @checkpoint
    def report(text):
        ran("report")
        return text.upper()

    @flow
    def careful_one(x):
        try:
            found = risky(x)
        except ConnectionError as e:
            found = instead(str(e))
        return report(found)

    return careful_one


def test_a_caught_exception_is_a_result_and_is_raised_again(store, ran, told, careful) -> None:
    first = careful.run("Rome")
    ran.take()
    fork = careful.replay(first.exec_id, overrides={"checkpoint.instead": "something else"})
    assert (ran.take(), fork.get()) == (["report"], "SOMETHING ELSE")
    assert told(fork)["risky#1"] == "reused"


def test_a_caught_failure_replaced_by_a_value_is_not_raised(store, ran, told, careful) -> None:
    first = careful.run("Rome")
    ran.take()
    fork = careful.replay(first.exec_id, overrides={"checkpoint.risky": "a line"})
    assert (ran.take(), fork.get()) == (["report"], "A LINE")
    assert told(fork) == {"risky#1": "edited", "report#1": "ran"}


def test_a_failed_execution_replayed_without_arguments_begins_at_its_failed_step(store, ran, told) -> None:
    @checkpoint
    def prepare():
        ran("prepare")
        return 4

    @checkpoint
    def send(x):
        ran("send")
        if ran.counts["send"] == 1:
            raise ConnectionError("the line is down")
        return x + 1

    @flow
    def post():
        return send(prepare())

    failed = post.options(raises=False).run()
    assert failed.status == "failed"
    assert foretold(failed) == {"prepare#1": "reuse", "send#1": "rerun"}
    ran.take()
    fork = post.replay(failed.exec_id)
    assert (ran.take(), fork.get()) == (["send"], 5)
    assert told(fork) == {"prepare#1": "reused", "send#1": "ran"}
    assert KitaruClient(store).executions.get(failed.exec_id).status.value == "failed"


def test_what_followed_a_failure_that_now_succeeds_is_not_taken_for_it(store, ran) -> None:
    @checkpoint
    def work():
        if ran("work") == 1:
            raise ValueError("no")
        return "done"

    @checkpoint
    def notify(text):
        ran(f"notify {text}")
        return text

    @flow
    def job():
        try:
            done = work()
        except ValueError:
            notify("it failed")
            raise
        return notify(done)

    failed = job.options(raises=False).run()
    ran.take()
    assert job.replay(failed.exec_id).get() == "done"
    assert ran.take() == ["work", "notify done"]


def test_retries_within_a_fork_count_as_one_step(store, ran, told, timed) -> None:
    @checkpoint
    def ask():
        ran("ask")
        return "small"

    @checkpoint(retries=2)
    def flaky(size):
        if ran("flaky") % 3:
            raise ConnectionError("try again")
        return f"{size} answer"

    @flow
    def call():
        return flaky(ask())

    first = timed(call).run()
    ran.take()
    fork = timed(call).replay(first.exec_id, overrides={"checkpoint.ask": "large"})
    assert (ran.take(), fork.get()) == (["flaky"] * 3, "large answer")
    assert told(fork) == {"ask#1": "edited", "flaky#1": "ran"}
    assert KitaruClient(store).executions.get(fork.exec_id).data.checkpoints[1].attempts == 3


# ---------------------------------------------------------------- steps within steps


@pytest.fixture
def nested(ran):
    """research(topic) makes three notes, one from another; essay reads what it gives."""

    @checkpoint
    def search(topic):
        ran("search")
        return f"facts of {topic}"

    @checkpoint
    def read(facts):
        ran("read")
        return f"notes on {facts}"

    @checkpoint
    def judge(style):
        ran("judge")
        return f"in {style}"

    @checkpoint
    def research(topic, style):
        ran("research")
        return read(search(topic)) + " " + judge(style)

    @checkpoint
    def essay(notes):
        ran("essay")
        return notes.upper()

    @flow
    def write(topic, style):
        return essay(research(topic, style))

    return write


def test_an_override_of_an_inner_step_opens_what_is_around_it(store, ran, told, nested) -> None:
    first = nested.run("tea", "prose")
    edit = {"overrides": {"checkpoint.research/search": "nothing"}}
    assert foretold(first, **edit) == {
        "research#1": "rerun",
        "research#1/search#1": "reuse",
        "research#1/read#1": "rerun?",
        "research#1/judge#1": "reuse?",
        "essay#1": "rerun?",
    }
    ran.take()
    fork = nested.replay(first.exec_id, **edit)
    assert (ran.take(), fork.get()) == (["research", "read", "essay"], "NOTES ON NOTHING IN PROSE")
    assert told(fork)["research#1/search#1"] == "edited"
    assert told(fork)["research#1/judge#1"] == "reused"


def test_inner_steps_are_found_under_a_parent_whose_inputs_changed(store, ran, told, nested) -> None:
    first = nested.run("tea", "prose")
    ran.take()
    fork = nested.replay(first.exec_id, style="verse")
    assert (ran.take(), fork.get()) == (["research", "judge", "essay"], "NOTES ON FACTS OF TEA IN VERSE")
    assert told(fork)["research#1/search#1"] == "reused"
    assert told(fork)["research#1/judge#1"] == "ran"


def test_a_reused_parent_stands_for_all_that_lies_inside_it(store, ran, told, nested) -> None:
    first = nested.run("tea", "prose")
    fork = nested.replay(first.exec_id, overrides={"checkpoint.essay": "mine"})
    assert told(fork) == {"research#1": "reused", "essay#1": "edited"}
    ran.take()
    second = nested.replay(fork.exec_id, overrides={"checkpoint.research/read": "short notes"})
    assert (ran.take(), second.get()) == (["research", "essay"], "SHORT NOTES IN PROSE")


# ---------------------------------------------------------------- inputs


def test_an_override_of_an_input_of_the_flow(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    ran.take()
    by_name = pipeline.replay(first.exec_id, n=3)
    assert (ran.take(), by_name.get()) == (
        ["collect", "classify package 2", "risk package 2", "write_report"],
        "worst is 9 of 3",
    )
    by_ref = pipeline.replay(first.exec_id, overrides={"input.n": 1})
    assert (ran.take(), by_ref.get()) == (["collect", "write_report"], "worst is 9 of 1")
    assert told(by_ref)["classify#1"] == "reused"


def test_an_override_of_one_steps_input(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    edit = {"overrides": {"checkpoint.risk#2.in.found": {"name": "package 1", "licence": "BSD"}}}
    assert foretold(first, **edit)["risk#2"] == "rerun"
    ran.take()
    fork = pipeline.replay(first.exec_id, **edit)
    assert (ran.take(), fork.get()) == (["risk package 1", "write_report"], "worst is 9 of 2")
    assert told(fork)["risk#2"] == "ran"


def test_an_override_of_an_input_of_all_steps_of_a_type(store, ran, told) -> None:
    @checkpoint(type="llm_call")
    def ask(prompt, model="small"):
        ran(f"ask {model}")
        return f"{model}: {prompt}"

    @checkpoint(type="tool_call")
    def fetch(page):
        ran("fetch")
        return page

    @flow
    def chat():
        return [ask(fetch("a")), ask(fetch("b"))]

    first = chat.run()
    ran.take()
    fork = chat.replay(first.exec_id, overrides={"type.llm_call.in.model": "large"})
    assert (ran.take(), fork.get()) == (["ask large", "ask large"], ["large: a", "large: b"])
    assert told(fork) == {"fetch#1": "reused", "ask#1": "ran", "fetch#2": "reused", "ask#2": "ran"}


def test_an_overridden_input_is_what_everybody_is_shown(store, ran, client) -> None:
    @checkpoint(type="llm_call")
    def ask(prompt, model="small"):
        return model[:1] and len(prompt)  # the answer is the same: only the input tells the two apart

    @flow
    def chat():
        return ask("a prompt")

    first = chat.run()
    fork = chat.replay(first.exec_id, overrides={"type.llm_call.in.model": "large"})
    again = chat.replay(fork.exec_id)
    forced = chat.replay(fork.exec_id, rerun=["ask"])
    for handle in (fork, again, forced):
        execution = client.executions.get(handle.exec_id)
        ask_1 = execution.checkpoints[0]
        assert ask_1.inputs["model"].preview["text"] == "'large'", handle
        assert ask_1.inputs["model"].load() == kitaru.load(f"{handle.exec_id}:ask.in.model") == "large"
        used = {
            about["role"]: value for value, _, about in execution.lineage().in_edges(f"{handle.exec_id}:ask#1", True)
        }
        assert execution.lineage().nodes[used["model"]]["preview"]["text"] == "'large'"
    (change,) = kitaru.diff(first.exec_id, fork.exec_id).changes
    assert (change.label, change.changed) == ("ask#1", ("inputs",))
    assert kitaru.diff(fork.exec_id, again.exec_id).same
    assert kitaru.repeat(fork.exec_id, "ask", n=1).agreement == 1.0
    told = {h: [row.why for row in client.executions.get(h.exec_id).explain()] for h in (fork, forced)}
    assert told == {fork: ["its in.model was set"], forced: ["asked for"]}


@pytest.fixture
def judged(store):
    @checkpoint(outputs=("verdict", "why"))
    def judge(text, *more):
        if text == "nothing":
            raise ValueError("there is nothing to judge")
        return "guilty", f"of {text}"

    @checkpoint
    def tell(verdict, why):
        return f"{verdict} {why}"

    @flow
    def trial(text):
        return tell(*judge(text))

    return trial


def test_a_step_with_several_outputs_that_failed_is_given_all_of_them(judged) -> None:
    first = judged.options(raises=False).run("nothing")
    for whole in (("free", "to go"), {"why": "to go", "verdict": "free"}):
        assert judged.replay(first.exec_id, overrides={"checkpoint.judge": whole}).get() == "free to go"
    in_parts = {"checkpoint.judge.why": "to go", "checkpoint.judge.verdict": "free"}
    assert judged.replay(first.exec_id, overrides=in_parts).get() == "free to go"
    with pytest.raises(UsageError, match=r"judge#1 failed, and has no output that could stay: give verdict as well"):
        judged.replay(first.exec_id, overrides={"checkpoint.judge.why": "to go"})


@pytest.mark.parametrize(
    ("overrides", "inputs", "said"),
    [
        ({"checkpoint.judge.why": 1, "judge#1.why": 2}, {}, "judge#1.why is given twice, as checkpoint.judge.why and"),
        ({"checkpoint.judge": (1, 2), "@1.why": 2}, {}, "judge#1.why is given twice"),
        ({"input.text": "a"}, {"text": "b"}, "input.text is given twice, as input.text and as text="),
        ({"judge.why": 1, "judge.in.text": "a"}, {}, "judge#1 does not run, since its output is given: judge.in.text"),
        (["judge"], {}, "overrides="),
        ({1: 2}, {}, "overrides="),
    ],
)
def test_edits_that_exclude_each_other_are_refused(judged, client, overrides, inputs, said) -> None:
    first = judged.run("murder")
    with pytest.raises(UsageError) as refused:
        judged.replay(first.exec_id, overrides=overrides, **inputs)
    assert said in str(refused.value)
    assert [e.exec_id for e in client.executions.list()] == [first.exec_id]


def test_an_edit_must_be_data(judged, client) -> None:
    first = judged.run("murder")
    for place in ("judge.why", "judge.in.text"):
        with pytest.raises(UnrecordableValueError, match=rf"judge#1\.{place[6:]} is a _thread:lock"):
            judged.replay(first.exec_id, overrides={place: threading.Lock()})
    assert [e.exec_id for e in client.executions.list()] == [first.exec_id]


def test_further_arguments_are_overridden_by_a_tuple(judged) -> None:
    first = judged.run("murder")
    assert judged.replay(first.exec_id, overrides={"judge.in.more": ["a", "b"]}).get() == "guilty of murder"
    with pytest.raises(UsageError, match=r"\*more of .*judge takes a tuple or a list, not 3"):
        judged.replay(first.exec_id, overrides={"judge.in.more": 3})


# ---------------------------------------------------------------- again


def test_from_a_step_what_started_before_it_is_kept(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    plan = foretold(first, from_="risk#1")
    assert plan == {
        "collect#1": "reuse",
        "classify#1": "reuse",
        "risk#1": "rerun",
        "classify#2": "rerun",
        "risk#2": "rerun",
        "write_report#1": "rerun",
    }
    ran.take()
    fork = pipeline.replay(first.exec_id, from_="risk#1")
    assert ran.take() == ["risk package 0", "classify package 1", "risk package 1", "write_report"]
    assert told(fork) == {step: "reused" if do == "reuse" else "ran" for step, do in plan.items()}


def test_rerun_by_name_stops_where_the_outputs_are_the_same(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    ran.take()
    fork = pipeline.replay(first.exec_id, rerun=["classify"])
    assert ran.take() == ["classify package 0", "classify package 1"]
    assert fork.get() == first.get()


def test_a_step_that_answers_otherwise_the_second_time_takes_its_readers_with_it(store, ran) -> None:
    @checkpoint
    def dice():
        return ran("dice")

    @checkpoint
    def double(n):
        ran("double")
        return 2 * n

    @flow
    def game():
        return double(dice()), double(100)

    first = game.run()
    ran.take()
    fork = game.replay(first.exec_id, rerun=["dice"])
    assert (ran.take(), fork.get()) == (["dice", "double"], (4, 200))


def test_an_execution_that_is_replayed_as_it_was_runs_nothing(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    ran.take()
    fork = pipeline.replay(first.exec_id)
    assert (ran.take(), fork.get()) == ([], first.get())
    assert set(told(fork).values()) == {"reused"}
    assert (fork.tally.reused, fork.tally.ran) == (6, 0)


# ---------------------------------------------------------------- forks of forks


def test_a_fork_of_a_fork_that_undoes_the_edit_finds_the_first_results(store, ran, told, pipeline) -> None:
    first = pipeline.run(2)
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.classify#1": {"name": "package 0", "licence": "MIT"}})
    other = pipeline.replay(fork.exec_id, overrides={"checkpoint.classify#2": {"name": "x", "licence": "MIT"}})
    assert other.get() == "worst is 1 of 2"
    ran.take()
    undone = pipeline.replay(
        other.exec_id, overrides={"checkpoint.classify#2": {"name": "package 1", "licence": "GPL"}}
    )
    assert (ran.take(), undone.get()) == ([], "worst is 9 of 2")
    assert told(undone)["risk#2"] == "reused"


def test_a_fork_of_a_fork_keeps_the_first_edit(store, ran, told, pipeline) -> None:
    first = pipeline.run(1)
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.classify": {"name": "mine", "licence": "MIT"}})
    ran.take()
    second = pipeline.replay(fork.exec_id, from_="risk")
    assert ran.take() == ["risk mine", "write_report"]
    assert second.get() == "worst is 1 of 1"
    assert told(second)["classify#1"] == "reused"


def test_an_edit_that_is_never_met_is_reported_and_asked_again(store, ran, told, counting, capsys) -> None:
    first = counting.run()
    ran.take()
    fork = counting.replay(first.exec_id, overrides={"checkpoint.decide": 2, "checkpoint.work#3": 1000})
    assert fork.get() == 1
    assert "the edit of work#3 was not met by any call of this run" in capsys.readouterr().err
    plan = kitaru.plan(fork.exec_id, overrides={"checkpoint.decide": 3})
    (note,) = plan.notes
    assert note == f"{fork.exec_id} never came to work#3: what is asked of it holds if this fork does"
    ran.take()
    again = counting.replay(fork.exec_id, overrides={"checkpoint.decide": 3})
    assert (ran.take(), again.get()) == (["finish"], 1001)
    assert told(again)["work#3"] == "edited"


def test_edits_of_steps_that_nobody_came_to_for_long_are_named_in_one_line(store, ran, counting, capsys) -> None:
    first = counting.run()
    short = counting.replay(first.exec_id, overrides={"checkpoint.decide": 0})
    capsys.readouterr()
    plan = kitaru.plan(short.exec_id, rerun=["work"])
    assert [note.partition(":")[0] for note in plan.notes] == [f"{short.exec_id} never came to work#1, work#2, work#3"]
    counting.replay(short.exec_id, overrides={"type.tool_call.in.turn": 7})
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" was not met")[0] for line in said] == ["kitaru: the edit of work#1, work#2, work#3"]


@pytest.fixture
def asking(ran):
    """draft → ask, which reads it and has a model; inside of ask a step reads the model, and one the draft."""

    @checkpoint
    def draft(topic):
        ran("draft")
        return f"{topic}!"

    @checkpoint
    def price(model):
        ran(f"price {model}")
        return f"price of {model}"

    @checkpoint
    def length(text):
        ran(f"length {text}")
        return len(text)

    @checkpoint(type="llm_call")
    def ask(text, model, mood):
        ran(f"ask {text} {model} {mood}")
        return f"{price(model)}, {length(text)}, {mood}"

    @flow
    def talk(topic, model="small", mood="calm"):
        return ask(draft(topic), model, mood)

    return talk


def test_an_edited_input_stays_edited_beside_another_one(store, ran, asking) -> None:
    first = asking.run("cats")
    fork = asking.replay(first.exec_id, overrides={"type.llm_call.in.model": "large"})
    ran.take()
    again = asking.replay(fork.exec_id, overrides={"checkpoint.ask.in.mood": "sad"})
    assert (ran.take(), again.get()) == (["ask cats! large sad"], "price of large, 5, sad")
    assert asking.replay(again.exec_id, rerun=["ask"]).get() == "price of large, 5, sad"
    assert asking.replay(again.exec_id, topic="dogs!").get() == "price of small, 6, calm", (
        "another call has no part in it"
    )


def test_a_plan_knows_what_a_step_was_called_with_beside_what_it_ran_with(store, ran, asking) -> None:
    first = asking.run("cats")
    fork = asking.replay(first.exec_id, overrides={"checkpoint.ask.in.text": "dogs"})
    edit = {"checkpoint.draft": "birds"}
    planned = {row.step: (row.decision, row.why) for row in kitaru.plan(fork.exec_id, overrides=edit)}
    assert planned["ask#1"] == ("rerun?", "reads draft.output, which is edited")
    assert planned["ask#1/length#1"] == ("rerun?", "reads ask.in.text, which was edited, for another call")
    assert planned["ask#1/price#1"][0] == "reuse?"
    ran.take()
    assert asking.replay(fork.exec_id, overrides=edit).get() == "price of small, 5, calm"
    assert ran.take() == ["ask birds small calm", "length birds"]


def test_an_explanation_tells_a_step_that_was_asked_for_from_one_around_an_edit(store, asking) -> None:
    first = asking.run("cats")
    fork = asking.replay(first.exec_id, overrides={"checkpoint.ask/price": "nothing"})
    why = {row.step: row.why for row in KitaruClient().executions.get(fork.exec_id).explain()}
    assert (why["ask#1"], why["ask#1/price#1"]) == ("an edit lies inside it", "its output was set")
    again = asking.replay(first.exec_id, rerun=["ask"])
    assert {row.step: row.why for row in KitaruClient().executions.get(again.exec_id).explain()}["ask#1"] == "asked for"


def test_an_explanation_does_not_say_that_a_value_was_what_it_is(store) -> None:
    @checkpoint
    def rows(n):
        return [*range(60), n, *range(60)]

    @checkpoint
    def count(xs):
        return len(xs)

    @flow
    def counted(n):
        return count(rows(n))

    first = counted.run(1)
    fork = counted.replay(first.exec_id, n=2)
    (why,) = (row.why for row in KitaruClient().executions.get(fork.exec_id).explain() if row.step == "count#1")
    assert why.startswith("xs is another list(121) [0, 1")


def test_an_input_that_no_step_of_a_type_has_is_told_with_those_that_they_have(store, asking) -> None:
    first = asking.run("cats")
    with pytest.raises(NotFoundError, match=r"llm_call with an input mode; such steps have: .*model, mood"):
        kitaru.plan(first.exec_id, overrides={"type.llm_call.in.mode": 1})


def test_a_forced_step_that_is_never_called_is_reported_and_forced_again(store, ran, counting, capsys) -> None:
    first = counting.run()
    ran.take()
    fork = counting.replay(first.exec_id, overrides={"checkpoint.decide": 2}, rerun=["work", "finish"])
    assert ran.take() == ["work 0", "work 1", "finish"]
    said = [line for line in capsys.readouterr().err.splitlines() if "never called" in line]
    assert [line.partition("again: ")[2].partition(";")[0] for line in said] == ["work#3"]
    counting.replay(fork.exec_id, overrides={"checkpoint.decide": 3})
    assert ran.take() == ["work 2"], "what it gives is what the first execution had: finish has summed that up"
    assert "never called" not in capsys.readouterr().err


def test_forced_steps_are_reported_by_what_lies_around_them(store, ran, capsys) -> None:
    @checkpoint
    def inner(n):
        ran(f"inner {n}")
        return n

    @checkpoint
    def outer(n):
        return inner(n) + inner(n + 1)

    @checkpoint
    def decide():
        return True

    @flow
    def nesting():
        return outer(1) if decide() else 0

    first = nesting.run()
    fork = nesting.replay(first.exec_id, from_="outer", overrides={"checkpoint.decide": False})
    assert "it was to run again: outer#1;" in capsys.readouterr().err
    nesting.replay(fork.exec_id, rerun=["inner"])
    assert "it was to run again: outer#1;" in capsys.readouterr().err, "asked again"
    nesting.replay(first.exec_id, rerun=["inner"])
    assert "never called" not in capsys.readouterr().err


def test_what_followed_a_failure_is_not_missed_when_the_failure_is_gone(store, ran, capsys) -> None:
    works = False

    @checkpoint
    def ask():
        if not works:
            raise ConnectionError("down")
        return 1

    @checkpoint
    def notify():
        return None

    @flow
    def careful():
        try:
            return ask()
        except ConnectionError:
            notify()
            raise

    failed = careful.options(raises=False).run()
    works = True
    assert careful.replay(failed.exec_id, from_="ask").get() == 1
    assert "never called" not in capsys.readouterr().err


# ---------------------------------------------------------------- crashes, copies, large values


def test_another_execution_under_the_origins_name_is_not_taken_for_it(store, ran, client, pipeline) -> None:
    pipeline.options(exec_id="first").run(2)
    fork = pipeline.options(exec_id="fork").replay("first", overrides={"checkpoint.risk#2": 1})
    of_fork = pipeline.options(exec_id="of-fork").replay("fork", overrides={"checkpoint.risk#1": 1})
    store.delete([entry.key for entry in store.list("executions/first/")])
    pipeline.options(exec_id="first").run(3)
    for handle in (fork, of_fork):
        with pytest.raises(CorruptionError, match="first is not the execution that was forked: another one was begun"):
            client.executions.get(handle.exec_id).explain()
        with pytest.raises(CorruptionError, match="first is not the execution"):
            pipeline.replay(handle.exec_id)


def test_a_fork_that_says_it_is_its_own_origin_is_refused(store, ran, pipeline) -> None:
    exec_id = pipeline.run(1).exec_id
    reading = read_journal(store, exec_id)
    with pytest.raises(CorruptionError, match="forked from itself"):
        open_origin(store, Forked(exec_id, reading.n, last=reading.last_digest), {exec_id})


@pytest.mark.parametrize("when", [2, 3, 4, 5, 6, 8])
def test_a_fork_that_crashes_in_the_middle_goes_on_as_it_was_decided(connected, ran, told, pipeline, when) -> None:
    inner = MemoryStore()
    connected(inner)
    first = pipeline.run(3)
    edit = {"overrides": {"checkpoint.classify#2": {"name": "mine", "licence": "MIT"}}}
    ran.take()
    connected(FaultyStore(inner, fault_at(when, Fault.CRASH_BEFORE, method="put_if_absent")))
    try:
        pipeline.options(exec_id="fork").replay(first.exec_id, **edit)
    except SimulatedCrash:
        pass
    connected(inner)
    after = pipeline.options(exec_id="fork").replay(first.exec_id, **edit)
    assert after.get() == "worst is 9 of 3"
    assert set(ran.take()) <= {"risk mine", "write_report"}
    decided = {row.step: row.decision for row in KitaruClient(inner).executions.get("fork").explain()}
    assert decided["classify#2"] == "edited"
    assert decided["classify#3"] == decided["risk#1"] == "reused"


def test_a_fork_of_an_execution_that_died(connected, ran, pipeline) -> None:
    inner = MemoryStore()
    connected(FaultyStore(inner, fault_at(6, Fault.CRASH_BEFORE, method="put_if_absent")))
    with pytest.raises(SimulatedCrash):
        pipeline.options(exec_id="died").run(3)
    connected(inner)
    before = set(ran.take())
    fork = pipeline.replay("died", n=3)
    assert fork.get() == "worst is 9 of 3"
    again = ran.take()
    assert "collect" not in again
    assert len(before) + len(again) <= 9  # what was in flight once more, at most


def test_large_values_are_shared_with_the_original_and_not_copied(connected, ran, tmp_path) -> None:
    folder = kitaru.connect(str(tmp_path / "store"))
    store = connected(FaultyStore(folder))
    begun = Ran()  # closures over a log count by its type alone

    @checkpoint
    def simulate(n):
        ran("simulate")
        return np.arange(n, dtype=np.float64)

    @checkpoint
    def scale(field, factor):
        begun(len(store.log))
        return field * factor

    @checkpoint
    def total(field):
        ran("total")
        return float(field.sum())

    @flow
    def physics(n, factor):
        return total(scale(simulate(n), factor))

    size = 500_000
    first = physics.run(size, 1.0)
    ran.take()
    store.bytes_written = store.bytes_read = 0
    before = len(store.log)
    ended = physics.replay(first.exec_id, overrides={"checkpoint.total": 7.0})
    assert (ran.take(), ended.get()) == ([], 7.0)
    assert store.bytes_written < 20_000  # the array is named, and not written again
    files = Path(tmp_path, "store", "executions", ended.exec_id).rglob("*")
    assert sum(p.stat().st_size for p in files if p.is_file()) < 20_000
    begun.take()
    before = len(store.log)
    fork = physics.replay(first.exec_id, overrides={"checkpoint.scale.in.factor": 2.0})
    assert fork.get() == size * (size - 1)
    asked = store.log[before : begun.take()[0]]
    assert not [op for op in asked if op.method.startswith("put") and op.key.startswith("blobs/")]


@pytest.mark.parametrize("n", [1, 20, 300])
def test_a_fork_takes_five_requests_before_its_first_step(connected, n) -> None:
    store = connected(FaultyStore(MemoryStore()))
    begun = Ran()

    @checkpoint
    def work(n):
        begun(len(store.log))
        if broken:
            raise ValueError("stop here")
        return n

    @flow
    def many(n):
        return sum(work(i) for i in range(n))

    broken = True
    many.options(exec_id="first", raises=False).run(n)
    broken = False
    KitaruClient().executions.resume("first")  # what it was packed as when it failed is packed anew
    for thread in threading.enumerate():  # the first one's lineage is stored when nobody waits
        if thread.name.startswith("kitaru-lineage"):
            thread.join()
    before = len(store.log)
    begun.take()
    many.replay("first", from_="work#1")
    requests = [op for op in store.log[before : begun.take()[0]] if not op.key.startswith("catalog/")]  # a hint, beside
    assert len(requests) <= 5, requests


def test_a_copy_in_another_store_is_replayed_there(connected, ran, told, tmp_path, pipeline) -> None:
    here = connected(MemoryStore())
    first = pipeline.run(2)
    fork = pipeline.replay(first.exec_id, overrides={"checkpoint.classify#2": {"name": "x", "licence": "MIT"}})
    there = kitaru.connect(str(tmp_path / "there"))
    for exec_id in (first.exec_id, fork.exec_id):
        KitaruClient(here).executions.copy(exec_id, there)
    connected(there)
    ran.take()
    second = pipeline.replay(fork.exec_id, overrides={"checkpoint.classify#1": {"name": "y", "licence": "MIT"}})
    assert (ran.take(), second.get()) == (["risk y", "write_report"], "worst is 1 of 2")


# ---------------------------------------------------------------- what cannot be asked


def test_a_name_that_means_nothing_is_refused_and_says_what_there_is(store, pipeline) -> None:
    first = pipeline.run(1)
    with pytest.raises(NotFoundError, match="there is: classify, collect, risk, write_report"):
        kitaru.plan(first.exec_id, overrides={"checkpoint.clasify": 1})
    with pytest.raises(NotFoundError, match="has no input found2; it has: found"):
        pipeline.replay(first.exec_id, overrides={"checkpoint.risk.in.found2": 1})
    with pytest.raises(NotFoundError, match="has no input m; it has: n"):
        pipeline.replay(first.exec_id, m=2)


def test_a_plan_runs_nothing_and_writes_nothing(connected, ran, pipeline) -> None:
    store = connected(FaultyStore(MemoryStore()))
    first = pipeline.run(3)
    ran.take()
    before = store.count("put", "put_if_absent", "delete")
    kitaru.plan(first.exec_id, overrides={"checkpoint.collect": []}, rerun=["risk"])
    assert ran.take() == []
    assert store.count("put", "put_if_absent", "delete") == before


def test_a_fork_that_ended_without_a_step_is_planned_as_it_is(store, ran) -> None:
    @checkpoint
    def work(i):
        ran(i)
        return i

    @flow
    def as_many(n):
        return [work(i) for i in range(n)]

    first = as_many.run(2)
    none = as_many.replay(first.exec_id, n=0)
    assert (none.get(), len(kitaru.plan(none.exec_id))) == ([], 0)


def test_what_a_person_made_saves_no_tokens_in_forks_of_that_fork_either(store) -> None:
    @checkpoint
    def ask(n):
        kitaru.log(tokens=100)
        return n

    @flow
    def asked():
        return [ask(n) for n in range(3)]

    first = asked.run()
    fork = asked.replay(first.exec_id, overrides={"checkpoint.ask#1": 7})
    again = asked.replay(fork.exec_id, overrides={"checkpoint.ask#3": 9})
    assert again.get() == [7, 1, 9]
    plan = kitaru.plan(fork.exec_id, overrides={"checkpoint.ask#3": 9})
    assert [row.tokens for row in plan] == [None, 100, None]
    assert KitaruClient().executions.get(again.exec_id).explain().saved("tokens") == 100
