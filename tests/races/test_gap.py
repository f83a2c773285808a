"""A laptop that slept: its owner looks whether somebody took over before it begins another body."""

from __future__ import annotations

import threading

import pytest

from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.engine import Engine
from kitaru.errors import ExecutionFencedError
from kitaru.flows import Flow, Options
from kitaru.ownership import claim
from kitaru.stores.memory import MemoryStore
from kitaru.testing.clock import ManualClock

ran: list[str] = []
place: dict[str, object] = {}


@checkpoint
def sleeps() -> int:
    """While this body runs, the machine sleeps beyond the lease, and somebody takes over."""
    store, clock = place["store"], place["clock"]
    taken = claim(store, "x", clock=ManualClock(), take_over=True)
    place["taken"] = taken
    clock.advance(100)
    place["next"].wait(place["patience"])  # else this step's own end would find out first
    return 1


@checkpoint
def next_one(n: int) -> int:
    ran.append("next_one")
    place["next"].set()
    return n


@flow
def naps() -> int:
    try:
        return next_one(sleeps())
    except Exception:
        return next_one(0)  # a careless body goes on


@flow
def goes_on() -> int:
    """Its first step is in flight in a thread while the body goes on to the next."""
    first = sleeps.submit()
    while "taken" not in place:
        pass
    while place["clock"].monotonic() - place["began"] < 100:
        pass
    n = next_one(2)
    return n + first.result()


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    # The beat's thread would often find out first: here only the owner's own look can tell.
    monkeypatch.setattr("kitaru.ownership.Beat.run", lambda self: None)
    ran.clear()
    place.clear()
    clock = ManualClock()
    place.update(store=MemoryStore(), clock=clock, began=clock.monotonic(), next=threading.Event(), patience=0.0)
    yield
    if "taken" in place:
        place["taken"].beat.end()


@pytest.mark.parametrize("body", [naps, goes_on])
def test_an_owner_that_was_away_and_taken_over_begins_no_further_body(body) -> None:
    place["patience"] = 0.5 if body is goes_on else 0.0
    with pytest.raises(ExecutionFencedError):
        Flow(body.function, Options("x", store=place["store"], clock=place["clock"])).run()
    assert ran == []
    assert [c.name for c in KitaruClient(place["store"]).executions.get("x").checkpoints] in ([], ["sleeps"])


def test_without_the_look_it_would_begin_one(monkeypatch) -> None:
    place["patience"] = 20.0
    monkeypatch.setattr(Engine, "_look_after_a_gap", lambda self: None)
    with pytest.raises(ExecutionFencedError):
        Flow(goes_on.function, Options("x", store=place["store"], clock=place["clock"])).run()
    assert ran == ["next_one"]
