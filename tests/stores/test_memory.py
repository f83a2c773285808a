"""MemoryStore: the contract, and what a name means."""

from __future__ import annotations

import gc

import pytest

from kitaru.errors import InvalidNameError
from kitaru.location import open_store
from kitaru.stores import MemoryStore
from kitaru.testing.contract import StoreContract


class TestMemoryStore(StoreContract):
    shared = False

    @pytest.fixture
    def store(self):
        return MemoryStore()

    def raw_put(self, store, key, data):
        store._place.objects[key] = (data, store.now())

    def raw_get(self, store, key):
        return store._place.objects.get(key, (None,))[0]


def test_a_name_is_the_same_place_for_all_of_the_process():
    MemoryStore("memory-named").put("a", b"1")
    gc.collect()
    assert MemoryStore("memory-named").get("a") == b"1"
    assert open_store("memory://memory-named").get("a") == b"1"


def test_a_store_without_a_name_is_a_new_place_that_its_address_opens():
    first, second = MemoryStore(), MemoryStore()
    first.put("a", b"1")
    assert list(second.list("")) == []
    assert open_store(first.url).get("a") == b"1"


def test_the_clock_can_be_held_in_the_hand():
    now = 100.0
    store = MemoryStore(clock=lambda: now)
    store.put("a", b"1")
    now = 130.0
    [entry] = store.list("")
    assert (entry.modified, entry.now, entry.age, store.now()) == (100.0, 130.0, 30.0, 130.0)
    now = 90.0
    assert next(store.list("")).age == 0.0


def test_what_was_put_does_not_change_with_the_buffer_it_came_from():
    store, data = MemoryStore(), bytearray(b"first")
    store.put_if_absent("a", data)
    data[:] = b"later"
    assert store.get("a") == b"first"


def test_a_name_cannot_climb():
    with pytest.raises(InvalidNameError):
        MemoryStore("../x")
