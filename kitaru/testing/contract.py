"""What every store promises, as one suite of tests."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..errors import InvalidNameError, KeyMissingError, UsageError
from ..location import check_format, open_store, prepare
from ..stores.base import Store

__all__ = ["StoreContract"]

_RACERS = 32
_BIG = 8 << 20  # bytes


class StoreContract:
    """Subclass it, and every promise of `kitaru.stores.Store` becomes a test of your store.

    Override the fixture `store` with a new, empty store, and `raw_put` and `raw_get` with ways to its bytes
    that go round it, so that no mistake in the store can hide another one. Set `shared` to False where
    another process that opens `store.url` sees another place, and `races` to 1 where each takes seconds.

    Examples
    --------
    ::

        class TestMyStore(StoreContract):
            @pytest.fixture
            def store(self, tmp_path):
                return MyStore(tmp_path)

            def raw_put(self, store, key, data): ...
            def raw_get(self, store, key): ...
    """

    shared = True
    races = 3

    @pytest.fixture
    def store(self) -> Store:
        """A new, empty store."""
        raise NotImplementedError

    def raw_put(self, store: Store, key: str, data: bytes) -> None:
        """Put `data` under `key` without the store."""
        raise NotImplementedError

    def raw_get(self, store: Store, key: str) -> bytes | None:
        """The bytes under `key`, read without the store; None where there is nothing."""
        raise NotImplementedError

    # What is written is there, whole.

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert not store.url.endswith("/") or store.url == "memory://"

    @pytest.mark.parametrize("size", [0, 1, 1400, _BIG], ids=["empty", "byte", "record", "big"])
    def test_what_is_put_is_there_as_it_was(self, store: Store, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert store.put_if_absent("a/created", data)
        store.put("a/put", data)
        for key in ("a/created", "a/put"):
            assert self.raw_get(store, key) == data
            assert store.get(key) == data
        assert [(entry.key, entry.size) for entry in store.list("a/")] == [("a/created", size), ("a/put", size)]

    @pytest.mark.parametrize(
        "key",
        [
            "a",
            "a/b/c/d/e/f",
            "ready/audit-7/wait%2Fapproval%231",
            "a b/ü/日本/🙂",
            "a/.b",
            "a/=+,;:@&$!'()*~",
            "a/" + "x" * 255,
        ],
    )
    def test_keys_are_kept_letter_by_letter(self, store: Store, key: str) -> None:
        assert store.put_if_absent(key, b"1")
        assert self.raw_get(store, key) == b"1"
        assert [entry.key for entry in store.list("")] == [key]
        store.delete([key])
        assert self.raw_get(store, key) is None

    @pytest.mark.parametrize(
        "key",
        [
            *["", "/a", "a/", "a//b", "..", "a/../b", "../a", ".", "a/./b", ".tmp/a", ".gitignore"],
            *["a\\b", "a\0b", "a\nb", "\ud800", "a/" + "x" * 256, "x/" * 600 + "x"],
        ],
    )
    def test_what_cannot_be_a_key_is_refused_before_anything_is_done(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidNameError):
            store.put_if_absent(key, b"1")
        with pytest.raises(InvalidNameError):
            store.put(key, b"1")
        with pytest.raises(InvalidNameError):
            store.get(key)
        store.put("kept", b"1")
        with pytest.raises(InvalidNameError):
            store.delete(["kept", key])
        assert [entry.key for entry in store.list("")] == ["kept"]

    # Create-only.

    def test_the_second_to_create_a_key_is_told_so_and_changes_nothing(self, store: Store) -> None:
        assert store.put_if_absent("a/b", b"first") is True
        assert store.put_if_absent("a/b", b"second") is False
        assert store.put_if_absent("a/b", b"first") is False
        assert self.raw_get(store, "a/b") == b"first"

    def test_creating_respects_what_came_another_way(self, store: Store) -> None:
        self.raw_put(store, "a/b", b"theirs")
        assert store.put_if_absent("a/b", b"ours") is False
        assert store.get("a/b") == b"theirs"

    def test_a_deleted_key_can_be_created_again(self, store: Store) -> None:
        assert store.put_if_absent("a/b", b"1")
        store.delete(["a/b"])
        assert store.put_if_absent("a/b", b"2")

    def test_of_many_who_create_a_key_at_once_one_wins_and_its_bytes_stand(self, store: Store) -> None:
        for turn in range(self.races):
            start = threading.Barrier(_RACERS)

            def race(racer: int, key: str = f"race/{turn}", start: threading.Barrier = start) -> bool:
                start.wait()
                return store.put_if_absent(key, b"%d " % racer * 500)

            with ThreadPoolExecutor(_RACERS) as pool:
                won = [*pool.map(race, range(_RACERS))]
            assert won.count(True) == 1
            assert self.raw_get(store, f"race/{turn}") == b"%d " % won.index(True) * 500

    def test_put_overwrites_and_readers_see_one_or_the_other(self, store: Store) -> None:
        versions = [b"0" * 5000, b"1" * 7000]
        store.put("a", versions[0])
        done = threading.Event()
        seen: set[bytes] = set()

        def read() -> None:
            while not done.is_set():
                seen.add(store.get("a"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for turn in range(20):
                store.put("a", versions[turn % 2])
        finally:
            done.set()
            reader.join()
        assert seen <= set(versions)
        assert self.raw_get(store, "a") == versions[1]

    # Reading.

    def test_what_is_not_there_is_said_to_be_missing(self, store: Store) -> None:
        store.put("folder/key", b"1")
        for key in ("nothing", "folder", "folder/key/below", "folder/ke", "other/key"):
            with pytest.raises(KeyMissingError, match=r"key|nothing|folder"):
                store.get(key)
        with pytest.raises(KeyMissingError):
            store.get("nothing", start=2, end=2)

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            *[(None, None), (0, None), (3, None), (10, None), (12, None)],
            *[(None, 0), (None, 4), (3, 4), (0, 10), (3, 99), (12, 20), (4, 4), (5, 4)],
        ],
    )
    def test_a_range_is_what_a_slice_would_be(self, store: Store, start: int | None, end: int | None) -> None:
        self.raw_put(store, "a", b"0123456789")
        assert store.get("a", start=start, end=end) == b"0123456789"[start:end]

    def test_a_range_of_an_empty_object_is_empty(self, store: Store) -> None:
        self.raw_put(store, "a", b"")
        assert store.get("a", start=0, end=5) == b""
        assert store.get("a", start=3) == b""

    def test_a_range_has_no_negative_bounds(self, store: Store) -> None:
        self.raw_put(store, "a", b"0123456789")
        with pytest.raises(UsageError):
            store.get("a", start=-1)
        with pytest.raises(UsageError):
            store.get("a", end=-1)

    # Listing.

    def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert [*store.list("")] == []
        assert [*store.list("a/b/c")] == []

    def test_a_listing_is_in_the_order_of_keys_whatever_comes_before_a_slash(self, store: Store) -> None:
        keys = ["p/a-b", "p/a.b", "p/a/b", "p/a/c", "p/a-b.c", "p/a/c-d", "p/a-c/d/e", "p/a0", "p/a b", "p/b/c/d"]
        keys += ["p/b%2Fc", "p/b-/x", "p/é/x", "p/z", "p/日", "p/🙂", "p/A", "p/_", "pa", "p-", "q/a!", "q/a/b"]
        for key in keys:
            self.raw_put(store, key, b"1")
        keys.sort(key=str.encode)
        for prefix in ("", "p", "p/", "p/a", "p/a/", "p/a-", "p/b", "p/a/b", "q", "r", "p/a/b/"):
            below = [key for key in keys if key.startswith(prefix)]
            assert [entry.key for entry in store.list(prefix)] == below, prefix
        for after in (*keys, "p/a", "p/a-", "p/a/", "p/b", "p/", "a", "zzz", ""):
            for prefix in ("", "p/", "p/a"):
                below = [key for key in keys if key.startswith(prefix) and key > after]
                assert [entry.key for entry in store.list(prefix, after=after)] == below, (prefix, after)

    def test_a_listing_longer_than_a_page_is_whole(self, store: Store) -> None:
        keys = [f"many/{n:010d}" for n in range(1, 1003)]
        with ThreadPoolExecutor(8) as pool:
            [*pool.map(lambda key: self.raw_put(store, key, b"1"), keys)]
        assert [entry.key for entry in store.list("many/")] == keys
        assert [entry.key for entry in store.list("many/", after=keys[950])] == keys[951:]
        store.delete(keys)
        assert [*store.list("many/")] == []

    def test_an_age_is_by_one_clock(self, store: Store) -> None:
        before = store.now()
        store.put("a", b"1")
        [entry] = store.list("")
        # Whole seconds on S3, jiffies in a folder.
        assert before - 1.5 <= entry.modified <= entry.now + 1.5
        assert entry.now <= store.now() + 1.5
        assert 0 <= entry.age < 60

    # Deleting.

    def test_deleting_leaves_the_rest_alone_and_can_be_done_twice(self, store: Store) -> None:
        for key in ("a/b", "a/c", "ab", "a/d/e"):
            self.raw_put(store, key, b"1")
        store.delete(["a/b", "a/b", "nothing", "no/thing"])
        store.delete(key for key in ["a/b", "a/d/e"])
        store.delete([])
        assert [entry.key for entry in store.list("")] == ["a/c", "ab"]

    # Being a location.

    def test_it_can_be_prepared_and_prepared_again(self, store: Store) -> None:
        check_format(store)
        assert [*store.list("")] == []
        prepare(store)
        prepare(store)
        check_format(store)
        assert [entry.key for entry in store.list("")] == ["kitaru.json"]

    def test_its_address_opens_it_again(self, store: Store) -> None:
        if self.shared:
            store.put("a", b"1")
            again = open_store(store.url)
            assert again.url == store.url
            assert again.get("a") == b"1"

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_another_process_can_use_it(self, store: Store, method: str) -> None:
        if not self.shared:
            return
        opened = open_store(store.url)  # one that has been used, when the process forks
        assert opened.put_if_absent("a/parent", b"parent")
        context = multiprocessing.get_context(method)
        child = context.Process(  # type: ignore[attr-defined]  # every context has it
            target=_use, args=(opened if method == "fork" else opened.url,)
        )
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert opened.get("a/child") == b"child"
        assert opened.put_if_absent("a/child", b"parent") is False


def _use(store: Store | str) -> None:
    opened = open_store(store) if isinstance(store, str) else store
    assert opened.get("a/parent") == b"parent"
    assert opened.put_if_absent("a/parent", b"child") is False
    assert opened.put_if_absent("a/child", b"child")
