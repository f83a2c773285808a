"""The replay contract as properties of the engine: random programs, crashed anywhere, resumed, with code that changed.

A program is plain data, drawn from a seed; a flow interprets it, and calls real steps. What a run must give is worked
out here by a plain recursion that knows nothing of records. A failure prints the seed and the program.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import pytest

from kitaru import calls, checkpoint, engine, flow, matching
from kitaru.errors import KitaruError
from kitaru.flows import Options
from kitaru.matching import Spec, View
from kitaru.records import Ended, Started
from kitaru.runs import Run, start
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at

# A crash leaves coroutines behind, as a dead process would; what becomes of them when they are collected is no matter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")

Program = list[tuple[Any, ...]]
PRIME = 1009
CASES, OF_A_TEST = 320, 40


# ---------------------------------------------------------------- programs


def a_program(rng: random.Random, depth: int = 0) -> Program:
    """Statements: a kind, and what it takes."""
    kinds = ["step", "loop", "branch", "nested", "gather", "submit", "tasks", "caught", "retried"]
    out: Program = []
    for _ in range(rng.randint(1, 4 - depth)):
        kind = rng.choice(kinds if depth < 2 else ["step", "caught", "retried"])
        salt = rng.randint(1, 9)  # few of them, so that calls with equal inputs happen
        if kind == "loop":
            out.append((kind, rng.randint(1, 3), a_program(rng, depth + 1)))
        elif kind == "branch":
            out.append((kind, a_program(rng, depth + 1), a_program(rng, depth + 1)))
        elif kind == "nested":
            out.append((kind, salt, a_program(rng, 2)))
        elif kind in {"gather", "submit", "tasks"}:
            out.append((kind, [rng.randint(1, 9) for _ in range(rng.randint(2, 3))]))
        else:
            out.append((kind, salt))
    return out


def value_of(salt: int, x: int) -> int:
    return (x * 31 + salt * 17 + 5) % PRIME


def expected(program: Program, x: int) -> int:
    """The result, without steps."""
    for kind, *rest in program:
        if kind == "loop":
            for _ in range(rest[0]):
                x = expected(rest[1], x)
        elif kind == "branch":
            x = expected(rest[x % 2], x)
        elif kind == "nested":
            x = value_of(rest[0], expected(rest[1], x))
        elif kind in {"gather", "submit", "tasks"}:
            x = sum((n + 1) * value_of(salt, x) for n, salt in enumerate(rest[0])) % PRIME
        elif kind == "caught":
            x = (x + value_of(rest[0], x) + 1) % PRIME
        else:
            x = value_of(rest[0], x)
    return x


# ---------------------------------------------------------------- and the flow that interprets them


class Outside:
    """What the bodies tell outside of the store: which ran, and whose output a caller holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.store = FaultyStore(MemoryStore())
        self.handed: Counter[tuple[Any, ...]] = Counter()
        self.ran: Counter[tuple[Any, ...]] = Counter()
        self.tries: Counter[tuple[Any, ...]] = Counter()

    def attempt(self, store: FaultyStore) -> None:
        """A process begins: what callers hold is told anew."""
        self.store, self.handed, self.ran = store, Counter(), Counter()

    def note(self, into: Counter[tuple[Any, ...]], what: tuple[Any, ...]) -> int:
        with self.lock:
            if not self.store.dead:
                into[what] += 1
            return into[what]


outside = Outside()


def held(what: tuple[Any, ...], value: int) -> int:
    outside.note(outside.handed, what)
    return value


@checkpoint
def step(salt: int, x: int) -> int:
    outside.note(outside.ran, ("step", salt, x))
    return value_of(salt, x)


@checkpoint
async def fetch(salt: int, x: int) -> int:
    outside.note(outside.ran, ("fetch", salt, x))
    await asyncio.sleep(0)
    return value_of(salt, x)


@checkpoint
def fails(salt: int, x: int) -> int:
    outside.note(outside.ran, ("fails", salt, x))
    raise ValueError(value_of(salt, x))


@checkpoint(retries=2)
def flaky(salt: int, x: int) -> int:
    """Every other of its tries fails."""
    if outside.note(outside.tries, (salt, x)) % 2:
        raise ConnectionError("try again")
    outside.note(outside.ran, ("flaky", salt, x))
    return value_of(salt, x)


@checkpoint
async def nested(salt: int, program: Program, x: int) -> int:
    inner = await interpret(program, x)
    outside.note(outside.ran, ("nested", salt, str(program), x))
    return value_of(salt, inner)


async def aside(salt: int, x: int) -> int:
    """A call that a side task makes: it has no place."""
    await asyncio.sleep(0)
    return held(("fetch", salt, x), await fetch(salt, x))


async def interpret(program: Program, x: int) -> int:
    for kind, *rest in program:
        if kind == "loop":
            for _ in range(rest[0]):
                x = await interpret(rest[1], x)
        elif kind == "branch":
            x = await interpret(rest[x % 2], x)
        elif kind == "nested":
            x = held(("nested", rest[0], str(rest[1]), x), await nested(rest[0], rest[1], x))
        elif kind == "gather":
            values = await asyncio.gather(*[fetch(salt, x) for salt in rest[0]])
            for salt in rest[0]:
                held(("fetch", salt, x), 0)
            x = sum((n + 1) * value for n, value in enumerate(values)) % PRIME
        elif kind == "tasks":
            values = await asyncio.gather(*[aside(salt, x) for salt in rest[0]])
            x = sum((n + 1) * value for n, value in enumerate(values)) % PRIME
        elif kind == "submit":
            futures = [step.submit(salt, x) for salt in rest[0]]
            values = [held(("step", salt, x), await f) for salt, f in zip(rest[0], futures, strict=True)]
            x = sum((n + 1) * value for n, value in enumerate(values)) % PRIME
        elif kind == "caught":
            try:
                x = fails(rest[0], x)
            except ValueError as e:
                x = (x + int(str(e)) + 1) % PRIME
        else:
            x = held((kind if kind == "step" else "flaky", rest[0], x), (step if kind == "step" else flaky)(rest[0], x))
    return x


@flow
async def interpreted(program: Program, x: int) -> int:
    return await interpret(program, x)


def deployed_later() -> Any:
    """The flow of that name with other code: nothing may drift any more, and what is recorded matches exactly."""

    @flow
    async def interpreted(program: Program, x: int) -> int:
        result = await interpret(program, x)
        return int(result)

    return interpreted


VERSIONS = interpreted, deployed_later()


# ---------------------------------------------------------------- the property


def one_attempt(store: FaultyStore, exec_id: str, program: Program, x: int, *, code: Any) -> int | None:
    outside.attempt(store)
    try:
        return start(Run(code, Options(exec_id, store=store), (program, x), {})).get()
    except (SimulatedCrash, KitaruError):
        assert store.dead
        return None


def check_case(seed: int) -> int:
    """One program, crashed up to four times. Gives the number of crashes."""
    rng = random.Random(seed)
    program, x = a_program(rng), rng.randint(0, 9)
    shown = f"seed {seed}, {x=}, program {program}"
    inner, exec_id, calls = MemoryStore(f"contract-{seed}"), f"contract-{seed}", calls_of(program, x)
    outside.tries.clear()
    finished: Counter[tuple[Any, ...]] = Counter()  # told to a caller, in whichever attempt the most of it
    for n in range(5):
        plan = fault_at(rng.randint(1, 30), rng.choice([Fault.CRASH_BEFORE, Fault.CRASH_AFTER]))
        store = FaultyStore(inner, plan) if n < 4 else FaultyStore(inner)
        result = one_attempt(store, exec_id, program, x, code=rng.choice(VERSIONS))
        again = {what: k for what, k in outside.ran.items() if k > calls[what] - finished[what]}
        assert not again, f"these ran a second time: {again}; {shown}"
        if result is not None:
            assert result == expected(program, x), shown
            return n
        finished |= outside.handed
    raise AssertionError(f"it never ended: {shown}")


def calls_of(program: Program, x: int) -> Counter[tuple[Any, ...]]:
    """How often each step's body is to end, by the name and the inputs, in a run without a crash."""
    out: Counter[tuple[Any, ...]] = Counter()

    def walk(program: Program, x: int) -> int:
        for kind, *rest in program:
            if kind == "loop":
                for _ in range(rest[0]):
                    x = walk(rest[1], x)
                continue
            if kind == "branch":
                x = walk(rest[x % 2], x)
                continue
            if kind == "nested":
                out["nested", rest[0], str(rest[1]), x] += 1
                walk(rest[1], x)
            elif kind in {"gather", "submit", "tasks"}:
                out.update(("step" if kind == "submit" else "fetch", salt, x) for salt in rest[0])
            else:
                out[{"caught": "fails", "retried": "flaky"}.get(kind, kind), rest[0], x] += 1
            x = expected([(kind, *rest)], x)
        return x

    walk(program, x)
    return out


@pytest.mark.parametrize("block", range(CASES // OF_A_TEST))
def test_crashes_and_resumes_change_no_result_and_run_no_finished_body_again(block, monkeypatch) -> None:
    monkeypatch.setattr(engine, "_backoff", lambda tries: 0.0)
    crashes = sum(check_case(seed) for seed in range(block * OF_A_TEST, (block + 1) * OF_A_TEST))
    assert crashes > OF_A_TEST * 3 // 4  # a few more or less, as threads share segments


def test_the_cut_that_a_retry_asks_for_is_what_the_contract_says(monkeypatch) -> None:
    """After each record: what is kept of the failures against a walk through all that is known."""
    monkeypatch.setattr(engine, "_backoff", lambda tries: 0.0)
    add, wrong, finite = View.add, [], [0]

    def checked(view, record):
        add(view, record)
        if (found := view.cut()) != (said := matching.cut(view)):
            wrong.append((record, found, said))
        finite[0] += found != matching.NEVER

    monkeypatch.setattr(View, "add", checked)
    for seed in range(CASES + 3 * OF_A_TEST, CASES + 5 * OF_A_TEST):
        check_case(seed)
    assert not wrong
    assert finite[0] > OF_A_TEST


def test_a_failure_inside_of_what_succeeded_in_the_end_is_no_cut() -> None:
    outer, inner = ("x", 1), ("x", 2)
    view = View()
    begun = Started(outer, None, "outer", 1, (), b"")
    for record in (
        begun,
        Started(inner, outer, "inner", 1, (), b""),
        Ended(inner, False, {}),
        Ended(outer, False, {}, (inner,)),
    ):
        view.add(record)
    assert view.cut() == matching.cut(view) == (2,)
    for record in (begun, Ended(outer, True, ())):
        view.add(record)
    assert not view.points[inner].result
    assert view.cut() == matching.cut(view) == matching.NEVER


def test_a_retry_costs_the_same_at_the_first_step_and_at_the_last(monkeypatch, store) -> None:
    monkeypatch.setattr(engine, "_backoff", lambda tries: 0.0)
    failed, looked = set(), [0]

    @checkpoint(retries=1)
    def flaky(n):
        if n not in failed:
            failed.add(n)
            raise ValueError(n)
        return n

    @flow
    def body(n):
        return [flaky(i) for i in range(n)]

    around, inherit = View.around, View.inherit

    def counted(view, rid):
        looked[0] += 1
        return around(view, rid)

    def counted_too(view, of=None):
        of = [*(view.points.values() if of is None else of)]
        looked[0] += len(of)
        return inherit(view, of)

    monkeypatch.setattr(View, "around", counted)
    monkeypatch.setattr(View, "inherit", counted_too)
    for n in (10, 100):
        failed.clear()
        looked[0] = 0
        assert body.run(n).get() == [*range(n)]
        assert looked[0] <= 5 * n


def test_what_is_recalled_at_once_is_what_the_contract_says(monkeypatch) -> None:
    """The short way of a resume against the long one, which knows nothing of it."""
    monkeypatch.setattr(engine, "_backoff", lambda tries: 0.0)
    recall, short, lock = matching.recall, matching._at_its_place, threading.Lock()
    agreed, wrong = [0], []

    def checked(body, name, ordinal, inputs, own, claimed):
        found = recall(body, name, ordinal, inputs, own, claimed)
        if found is not None:
            with lock, monkeypatch.context() as patch:
                patch.setattr(matching, "_at_its_place", lambda *of: None)
                call = matching.Call(body, name, ordinal, inputs)
                d = matching.decide(call, own, matching.cut(own), matching.Fork(View(), Spec()), claimed)
            agreed[0] += 1
            if (d.do, d.how, d.own, d.record) != ("reuse", "exact", True, found):
                wrong.append((call, d, found))
        return found

    monkeypatch.setattr(calls, "recall", checked)
    for seed in range(CASES, CASES + 3 * OF_A_TEST):
        check_case(seed)
    assert not wrong
    assert agreed[0] > OF_A_TEST
    assert matching._at_its_place is short
