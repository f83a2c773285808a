"""The short simulated campaign, and what it must notice; `python -m tests.faults` has the long one."""

from __future__ import annotations

from collections import Counter

import pytest

from kitaru import answering, answers, children, engine, passes, waiting
from kitaru.ownership import State

from .campaign import one

# A crash leaves threads and coroutines behind, as a dead process would; a clock that jumps makes drift.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

SEED = 8


def test_nothing_is_lost_or_doubled_and_everything_ends():
    tally: Counter[str] = Counter()
    for k in range(120):
        tally += one(SEED, k)
    assert tally["completed"] > 90
    assert min(tally[what] for what in ("crashes", "in the midst", "requests lost, late or refused", "accepted")) > 60


def test_nor_on_a_folder(tmp_path):
    for k in range(40):
        one(SEED, k, tmp_path / str(k))


# ---------------------------------------------------------------- what it must notice


def an_answer_without_a_hint(monkeypatch):
    monkeypatch.setattr(answering, "put_ready", lambda *a: None)


def a_timer_without_a_hint(monkeypatch):
    monkeypatch.setattr(answers, "put_timer", lambda *a: None)


def a_child_without_a_hint(monkeypatch):
    monkeypatch.setattr(children, "put_ready", lambda *a: None)


def the_last_answer_wins(monkeypatch):
    def close(store, exec_id, answer, carry_out):
        store.put(waiting.inbox_key(exec_id, answer.wait), waiting.encode_answer(answer, exec_id))
        return answer

    monkeypatch.setattr(answering, "close", close)


def hints_go_when_an_execution_is_claimed(monkeypatch):
    go_on = passes._Pass._go_on

    def eager(self, seen, begun, waits, found, now):
        self._store.delete([hint.key for hint in found])
        go_on(self, seen, begun, waits, found, now)

    monkeypatch.setattr(passes._Pass, "_go_on", eager)


def a_child_that_tells_nobody(monkeypatch):
    monkeypatch.setattr(engine, "deliver", lambda *a: None)
    monkeypatch.setattr(passes, "deliver", lambda *a: None)


def hints_go_wherever_nobody_runs(monkeypatch):
    def hasty(hint, state, waits):
        return state.writer is None or waiting.is_settled(hint, State(status="waiting"), waits)

    for room in (engine, passes):
        monkeypatch.setattr(room, "is_settled", hasty)


@pytest.mark.parametrize(
    "mistake",
    [
        an_answer_without_a_hint,
        a_timer_without_a_hint,
        a_child_without_a_hint,
        the_last_answer_wins,
        hints_go_when_an_execution_is_claimed,
        a_child_that_tells_nobody,
        hints_go_wherever_nobody_runs,
    ],
)
def test_the_campaign_notices_a_mistake(mistake, monkeypatch):
    mistake(monkeypatch)
    for k in range(400):
        try:
            one(SEED, k)
        except AssertionError:
            return
    pytest.fail("400 runs did not notice it")
