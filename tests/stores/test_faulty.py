"""FaultyStore: it does what its plan says, and counts what it let through."""

from __future__ import annotations

import threading

import pytest

from kitaru.errors import StoreUnavailableError
from kitaru.stores import MemoryStore
from kitaru.testing.contract import StoreContract
from kitaru.testing.faults import Fault, FaultyStore, Late, Operation, SimulatedCrash, fault_at


class TestWithoutAPlan(StoreContract):
    shared = False

    @pytest.fixture
    def store(self):
        return FaultyStore(MemoryStore())

    def raw_put(self, store, key, data):
        store.inner.put(key, data)

    def raw_get(self, store, key):
        return store.inner._place.objects.get(key, (None,))[0]


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.mark.parametrize("after", [False, True])
def test_a_crashed_process_does_nothing_more(inner, after):
    store = FaultyStore(inner, fault_at(2, Fault.CRASH_AFTER if after else Fault.CRASH_BEFORE))
    assert store.put_if_absent("a", b"1")
    with pytest.raises(SimulatedCrash):
        store.put_if_absent("b", b"2")
    assert store.dead
    for use in (
        lambda: store.get("a"),
        lambda: store.put("c", b"3"),
        lambda: store.put_if_absent("c", b"3"),
        lambda: store.list(""),
        lambda: store.delete(["a"]),
        store.now,
    ):
        with pytest.raises(SimulatedCrash):
            use()
    assert [entry.key for entry in inner.list("")] == (["a", "b"] if after else ["a"])
    assert not isinstance(SimulatedCrash(), Exception)


def test_a_crash_reaches_the_threads_that_are_under_way():
    under_way, go_on = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def put(self, key, data):
            under_way.set()
            go_on.wait(10)
            super().put(key, data)

    inner = Slow()
    store, seen = FaultyStore(inner), []

    def work():
        try:
            store.put("a", b"1")
        except SimulatedCrash as crash:
            seen.append(crash)

    thread = threading.Thread(target=work)
    thread.start()
    under_way.wait(10)
    assert store.put_if_absent("b", b"1")  # no lock is held meanwhile
    store.crash()
    go_on.set()
    thread.join()
    assert seen
    assert inner.get("a") == b"1"


@pytest.mark.parametrize(
    ("fault", "carried_out"),
    [(Fault.LOSE_REQUEST, False), (Fault.LOSE_RESPONSE, True), (Fault.UNAVAILABLE, False)],
)
@pytest.mark.parametrize("method", ["put", "put_if_absent"])
def test_no_answer_says_nothing_about_what_was_done(inner, fault, carried_out, method):
    store = FaultyStore(inner, fault_at(1, fault))
    with pytest.raises(StoreUnavailableError, match=f"operation 1, {method} 'a'"):
        getattr(store, method)("a", b"1")
    assert bool(list(inner.list(""))) is carried_out
    assert store.put_if_absent("a", b"1") is not carried_out


def test_a_late_write_comes_when_it_is_delivered_even_after_a_crash(inner):
    store = FaultyStore(inner, fault_at(1, Late()))
    with pytest.raises(StoreUnavailableError):
        store.put_if_absent("a", b"late")
    assert list(inner.list("")) == []
    store.crash()
    assert store.deliver_late() == 1
    assert inner.get("a") == b"late"
    assert store.deliver_late() == 0


def test_a_late_write_comes_after_so_many_operations_and_may_be_too_late(inner):
    store = FaultyStore(inner, fault_at(1, Late(after=2)))
    with pytest.raises(StoreUnavailableError):
        store.put("a", b"late")
    store.put("a", b"newer")
    assert inner.get("a") == b"newer"
    assert store.get("a") == b"late"


def test_a_late_read_is_lost(inner):
    store = FaultyStore(inner, fault_at(1, Late()))
    with pytest.raises(StoreUnavailableError):
        store.get("a")
    assert store.deliver_late() == 0


def test_a_fault_can_be_aimed_at_a_call_of_one_method(inner):
    store = FaultyStore(inner, fault_at(2, Fault.UNAVAILABLE, method="put"))
    store.put("a", b"1")
    store.put_if_absent("b", b"1")
    with pytest.raises(StoreUnavailableError):
        store.put("c", b"1")
    store.put("d", b"1")


def test_what_reached_the_store_is_counted(inner):
    store = FaultyStore(inner)
    store.put_if_absent("a/b", b"123")
    store.put("hint", b"12")
    store.get("a/b", start=1)
    list(store.list("a/"))
    store.delete(["hint", "other"])
    store.now()
    assert store.log == [
        Operation(1, "put_if_absent", "a/b"),
        Operation(2, "put", "hint"),
        Operation(3, "get", "a/b"),
        Operation(4, "list", "a/"),
        Operation(5, "delete", "hint"),
        Operation(6, "now", ""),
    ]
    assert (store.count(), store.count("put", "get")) == (6, 2)
    assert (store.bytes_written, store.bytes_read) == (5, 2)
    assert store.url == inner.url
