"""LocalStore: the contract on both ways of writing, and what disks, owners and kills do to it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from kitaru.errors import (
    InvalidNameError,
    KeyMissingError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
    StoreUnsupportedError,
)
from kitaru.location import check_format, open_store, prepare
from kitaru.stores import LocalStore
from kitaru.testing.contract import StoreContract


class FolderContract(StoreContract):
    def raw_put(self, store, key, data):
        path = store.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def raw_get(self, store, key):
        path = store.path / key
        return path.read_bytes() if path.is_file() else None


class TestNamelessFiles(FolderContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = LocalStore(tmp_path / "not yet" / "there")
        if not store._nameless:
            pytest.fail("this system has no O_TMPFILE: run the suite where it has")
        return store


class TestNamedFiles(FolderContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "not yet" / "there", nameless=False)


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def store(request, tmp_path):
    return LocalStore(tmp_path / "store", nameless=request.param)


def below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_system_without_nameless_files_is_noticed_by_itself(tmp_path, monkeypatch):
    real, asked = os.open, []

    def refusing(path, flags, *args, **kwargs):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    store = LocalStore(tmp_path)
    assert store.put_if_absent("a/b", b"1")
    assert store.put_if_absent("a/c", b"1")
    assert store.put_if_absent("a/c", b"2") is False
    assert len(asked) == 1
    assert below(tmp_path) == ["a/b", "a/c"]


def test_reading_makes_nothing(store):
    assert list(store.list("")) == []
    assert list(store.list("a/", after="a/b")) == []
    assert store.now() == pytest.approx(time.time(), abs=5)
    store.delete(["a/b"])
    check_format(store)
    assert not store.path.exists()


def test_a_folder_that_comes_later_is_seen(store):
    assert list(store.list("")) == []
    assert LocalStore(store.path).put_if_absent("a", b"1")
    assert store.get("a") == b"1"


def test_what_is_no_key_of_ours_is_not_listed(store):
    store.put("a/b", b"1")
    (store.path / ".gitignore").write_text("*")
    (store.path / ".tmp").mkdir(exist_ok=True)
    (store.path / ".tmp" / "half").write_bytes(b"half")
    (store.path / ".DS_Store").write_bytes(b"")
    (store.path / "a" / "bad\nname").write_bytes(b"")
    os.mkdir(bytes(store.path / "a") + b"/\xff")
    (store.path / "a" / "link").symlink_to("/etc/passwd")
    (store.path / "loop").symlink_to(".")
    os.mkfifo(store.path / "fifo")
    assert [entry.key for entry in store.list("")] == ["a/b"]


def test_the_end_of_a_long_journal_is_found_without_opening_what_came_before(store, monkeypatch):
    for n in range(5):
        for m in range(3):
            store.put(f"executions/e{n}/journal/{m:010d}", b"1")
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or real(path, *a, **k))
    after = "executions/e3/journal/0000000001"
    assert len(list(store.list("executions/", after=after))) == 4
    # By whole parts: the random name of a file of the store's own may hold "e0", too.
    assert not {part for path in opened for part in path.split("/")} & {"e0", "e1", "e2"}


def test_a_key_cannot_be_the_folder_of_another(store):
    store.put("a/b", b"1")
    for write in (store.put_if_absent, store.put):
        with pytest.raises(InvalidNameError, match="a"):
            write("a", b"1")
        with pytest.raises(InvalidNameError, match="a/b/c"):
            write("a/b/c", b"1")
    assert [entry.key for entry in store.list("")] == ["a/b"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_leaves_nothing(store, monkeypatch, number):
    store.put_if_absent("a/first", b"1")
    real = os.write
    calls = []

    def filling(file, data):
        if calls:
            raise OSError(number, os.strerror(number))
        calls.append(1)
        return real(file, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", filling)
    for write in (store.put_if_absent, store.put):
        calls.clear()
        with pytest.raises(StoreFullError, match=r"a/second.*Free some space"):
            write("a/second", b"12345678")
    monkeypatch.undo()
    assert below(store.path) == ["a/first"]
    assert store.put_if_absent("a/second", b"12345678")


@pytest.mark.process
def test_a_real_limit_on_file_sizes_reads_as_a_full_disk(tmp_path):
    code = """
        import resource, sys
        from kitaru.stores import LocalStore
        from kitaru.errors import StoreFullError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        store = LocalStore(sys.argv[1])
        assert store.put_if_absent("small", b"1" * 1000)
        try:
            store.put_if_absent("large", b"1" * 1001)
        except StoreFullError:
            assert [entry.key for entry in store.list("")] == ["small"]
        else:
            raise SystemExit("not noticed")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=60)


def test_a_write_that_the_system_cuts_short_goes_on(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:1000]))
    assert store.put_if_absent("a", b"0123456789" * 1000)
    assert store.get("a") == b"0123456789" * 1000


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_fails_to_sync_is_not_taken_for_durable(store, monkeypatch, at):
    store.put_if_absent("a/first", b"1")
    real, calls = os.fsync, []

    def failing(file):
        calls.append(file)
        if len(calls) == at:
            raise OSError(errno.EIO, "Input/output error")
        real(file)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreUnavailableError, match=r"a/second.*disk"):
        store.put_if_absent("a/second", b"2")
    # The identical bytes again: it is ours by its content, whether the name had come about or not.
    assert store.put_if_absent("a/second", b"2") is (at == 1)
    assert store.get("a/second") == b"2"


def test_everything_is_synced_before_the_call_returns_and_in_that_order(store, monkeypatch):
    said = []
    real = {name: getattr(os, name) for name in ("fsync", "link", "mkdir")}

    def kind(file):
        return "folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file"

    monkeypatch.setattr(os, "fsync", lambda file: said.append(kind(file)) or real["fsync"](file))
    monkeypatch.setattr(os, "link", lambda *a, **k: said.append("link") or real["link"](*a, **k))
    assert store.put_if_absent("a/b/c", b"1")
    assert said[-3:] == ["file", "link", "folder"]
    assert said[:-3] == ["folder"] * 3  # the store's own parent, the store, and "a"
    said.clear()
    assert store.put_if_absent("a/b/d", b"1")
    assert said == ["file", "link", "folder"]
    said.clear()
    assert store.put_if_absent("a/b/d", b"1") is False
    assert said == ["folder"]  # the winner may not have come to it yet
    said.clear()
    LocalStore(store.path).put_if_absent("a/b/e", b"1")
    assert said[:2] == ["folder", "folder"]  # nor to the names of its folders
    said.clear()
    store.put("hints/x", b"1")
    assert said == []


def test_a_file_system_without_hard_links_is_refused(store, monkeypatch):
    def refusing(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refusing)
    with pytest.raises(StoreUnsupportedError, match="no hard links"):
        prepare(store)
    assert below(store.path) == []


def test_a_store_that_is_removed_meanwhile_is_not_begun_anew(store):
    store.put_if_absent("a/b", b"1")
    shutil.rmtree(store.path)
    for use in (
        lambda: store.put_if_absent("a/c", b"1"),
        lambda: store.put_if_absent("new/c", b"1"),
        lambda: store.put("a/c", b"1"),
        lambda: store.get("a/b"),
        lambda: list(store.list("")),
        lambda: store.delete(["a/b"]),
    ):
        with pytest.raises(StoreUnavailableError, match="removed while it was in use"):
            use()
    assert not store.path.exists()
    assert LocalStore(store.path).put_if_absent("a/c", b"1")


def test_a_store_that_is_moved_meanwhile_goes_on_where_it_is(store, tmp_path):
    store.put_if_absent("a/b", b"1")
    store.path.rename(tmp_path / "moved")
    assert store.put_if_absent("a/c", b"2")
    assert below(tmp_path) == ["moved/a/b", "moved/a/c"]


def test_a_folder_inside_that_was_removed_is_made_again(store):
    store.put_if_absent("a/b/c", b"1")
    shutil.rmtree(store.path / "a")
    assert store.put_if_absent("a/b/c", b"2")
    assert store.get("a/b/c") == b"2"


def test_leftovers_of_killed_processes_are_swept_up_after_a_day(tmp_path):
    first = LocalStore(tmp_path, nameless=False)
    first.put("a", b"1")
    old, new = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    LocalStore(tmp_path, nameless=False).put("b", b"1")
    assert below(tmp_path / ".tmp") == ["new"]


@pytest.mark.process
def test_a_read_only_store_can_be_browsed_and_says_who_may_not_write():
    """Another user, for root may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        store = LocalStore(Path(folder, "store"))
        prepare(store)
        store.put_if_absent("a/b", b"1")
        code = f"""
            import sys
            sys.path[:] = {sys.path!r}
            import os
            if os.geteuid() == 0:
                from kitaru.location import check_format, open_store, prepare
                from kitaru import stores
                os.setgroups([]); os.setgid(65534); os.setuid(65534)
            from kitaru.location import check_format, open_store, prepare
            from kitaru.errors import StorePermissionError
            store = open_store(sys.argv[1])
            check_format(store)
            assert store.get("a/b") == b"1"
            assert [entry.key for entry in store.list("")] == ["a/b", "kitaru.json"]
            assert store.now() > 0
            prepare(store)   # somebody may already write here; this user finds out at the first write
            for write in (store.put_if_absent, store.put):
                try:
                    write("a/c", b"1")
                except StorePermissionError as error:
                    assert "a/c" in str(error) and "may do there" in str(error), error
                else:
                    raise SystemExit("written")
        """
        for path in Path(folder).rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            subprocess.run([sys.executable, "-c", textwrap.dedent(code), store.url], check=True, timeout=60)
        finally:
            for path in Path(folder).rglob("*"):
                path.chmod(0o755)


_WRITER = """
import os, sys, itertools
from kitaru.stores import LocalStore
store = LocalStore(sys.argv[1], nameless=sys.argv[2] == "True")
seed = sys.argv[3]
out = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("go", flush=True)
for n in itertools.count():
    key = f"e{n % 3}/{seed}/{n:06d}"
    data = key.encode() * (1 + n % 7 * 900)
    assert store.put_if_absent(key, data)
    os.write(out, f"{key}\\n".encode())
    store.put(f"hint/{seed}", data)
"""


@pytest.mark.process
@pytest.mark.parametrize("nameless", [True, False])
def test_a_kill_at_any_moment_leaves_nothing_half_and_loses_nothing(tmp_path, nameless):
    root, log = tmp_path / "store", tmp_path / "log"
    chance = random.Random(7)
    for seed in range(6):
        command = [sys.executable, "-c", _WRITER, str(root), str(nameless), f"s{seed}", str(log)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"go\n"
            threading.Event().wait(chance.uniform(0.0, 0.06))  # the moment is the point
            writer.send_signal(signal.SIGKILL)
    store = LocalStore(root)
    listed = {entry.key for entry in store.list("")}
    acknowledged = set(log.read_text().split())
    assert acknowledged <= listed
    for key in listed:
        data = store.get(key)
        if not key.startswith("hint/"):
            assert data == key.encode() * (1 + int(key[-6:]) % 7 * 900)
        else:
            word = data[:12] if data[:1] == b"e" else b""
            assert word
            assert data == word * (len(data) // len(word))


def test_an_address_with_odd_characters_opens_the_same_folder(tmp_path):
    store = LocalStore(tmp_path / "with space" / "100% #1 é?")
    store.put("a", b"1")
    assert open_store(store.url).get("a") == b"1"


def test_a_store_without_the_right_to_be_opened_says_so(store, monkeypatch):
    store.put("a", b"1")

    def refusing(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(StorePermissionError, match="Permission denied"):
        store.get("a")
    with pytest.raises(StorePermissionError, match="Permission denied"):
        LocalStore(store.path).get("a")


# ---- into memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000])
def test_an_object_is_read_to_where_it_is_wanted(store, size):
    data = random.Random(size).randbytes(size)
    store.put_if_absent("a/b", data)
    room = bytearray(size + 2)
    assert store.read_into("a/b", memoryview(room)[1:-1]) == size
    assert room == b"\0" + data + b"\0"


@pytest.mark.parametrize("size", [0, 9, 11])
def test_where_there_is_other_room_than_it_needs_nothing_is_written_and_its_size_is_said(store, size):
    store.put_if_absent("a/b", b"0123456789")
    room = bytearray(size)
    assert store.read_into("a/b", memoryview(room)) == 10
    assert room == bytes(size)


def test_an_object_that_was_cut_off_while_it_was_read_is_said_to_be_shorter(store, monkeypatch):
    store.put_if_absent("a/b", b"0123456789")
    left = [4, 0]
    monkeypatch.setattr(os, "readv", lambda file, into: left.pop(0))
    assert store.read_into("a/b", memoryview(bytearray(10))) == 4


def test_what_is_not_there_is_not_read_into_anything_either(store, tmp_path):
    with pytest.raises(KeyMissingError, match="a/b"):
        store.read_into("a/b", memoryview(bytearray(1)))
    store.put_if_absent("a/b", b"1")
    for key in ("a", "a/b/c", "a/c"):
        with pytest.raises(KeyMissingError, match=key):
            store.read_into(key, memoryview(bytearray(1)))
    with pytest.raises(InvalidNameError):
        store.read_into("../a", memoryview(bytearray(1)))
    shutil.rmtree(store.path)
    with pytest.raises(StoreUnavailableError, match="was removed"):
        store.read_into("a/b", memoryview(bytearray(1)))
