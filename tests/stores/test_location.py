"""Finding a store, opening it, and refusing what cannot be recorded in."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress

import pytest

from kitaru import location
from kitaru.errors import (
    CorruptionError,
    InvalidNameError,
    StoreFormatError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UsageError,
)
from kitaru.location import (
    check_format,
    connect,
    current_store,
    default_would_find,
    is_trusted,
    open_store,
    prepare,
)
from kitaru.stores import LocalStore, MemoryStore, S3Store
from kitaru.testing.faults import Fault, FaultyStore, SimulatedCrash, fault_at


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """An empty project as the working directory, and nothing set."""
    for name in ("KITARU_STORE", "KITARU_TRUST", *location._SHORT_LIVED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(location, "_connected", None)
    monkeypatch.setattr(location, "_found", {})
    monkeypatch.setattr(location, "_warned_short_lived", False)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


# Addresses.


@pytest.mark.parametrize(
    ("address", "kind", "url"),
    [
        ("s3://bucket", S3Store, "s3://bucket"),
        ("s3://bucket/a/b/", S3Store, "s3://bucket/a/b"),
        (
            "s3://bucket/a?endpoint_url=http://127.0.0.1:9000&region=eu-north-1",
            S3Store,
            "s3://bucket/a?endpoint_url=http://127.0.0.1:9000&region=eu-north-1",
        ),
        ("s3://bucket?profile=work", S3Store, "s3://bucket?profile=work"),
        ("file:///srv/runs", LocalStore, "file:///srv/runs"),
        ("file:///srv/with%20space", LocalStore, "file:///srv/with%20space"),
        ("/srv/runs/", LocalStore, "file:///srv/runs"),
        ("memory://", MemoryStore, "memory://"),
        ("memory://name", MemoryStore, "memory://name"),
    ],
)
def test_an_address_opens_a_store_whose_address_opens_it_again(address, kind, url):
    store = open_store(address)
    assert isinstance(store, kind)
    assert store.url == url
    assert open_store(store.url).url == url


def test_a_path_may_be_relative_or_begin_at_home(nowhere, monkeypatch):
    monkeypatch.setenv("HOME", str(nowhere))
    assert open_store("runs").url == open_store("~/runs").url == (nowhere / "runs").as_uri()
    assert open_store(nowhere / "runs").url == (nowhere / "runs").as_uri()


@pytest.mark.parametrize(
    "address",
    ["", "gs://bucket", "s3://", "s3:///prefix", "file://host/path", "s3://bucket?colour=red", "s3://a:b@bucket",
     "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket?endpoint_url=http://me:secret@host"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError) as refused:
        open_store(address)
    assert "secret" not in str(refused.value)


def test_a_bad_prefix_is_a_bad_name():
    with pytest.raises(InvalidNameError):
        open_store("s3://bucket/a/../b")


# The search.


def test_the_search_goes_from_what_was_said_last_to_what_was_never_said(nowhere, monkeypatch):
    inner = nowhere / "src" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert current_store().url == (inner / ".kitaru").as_uri()

    (nowhere / ".kitaru").mkdir()
    assert current_store().url == (nowhere / ".kitaru").as_uri()

    (nowhere / "pyproject.toml").write_text('[project]\nname = "kitaru-user"\n')
    assert current_store().url == (nowhere / ".kitaru").as_uri()
    (nowhere / "pyproject.toml").write_text('[tool.kitaru]\nstore = "runs/here"\n')
    assert current_store().url == (nowhere / "runs" / "here").as_uri()
    (nowhere / "pyproject.toml").write_text('[tool.kitaru]\nstore = "s3://bucket/prefix"\n')
    assert current_store().url == "s3://bucket/prefix"

    monkeypatch.setenv("KITARU_STORE", "memory://by-environment")
    assert current_store().url == "memory://by-environment"

    assert connect("memory://by-hand").url == "memory://by-hand"
    assert current_store() is current_store()
    assert current_store().url == "memory://by-hand"
    store = MemoryStore()
    assert connect(store) is store is current_store()

    assert connect().url == "memory://by-environment"


def test_asking_makes_nothing(nowhere):
    store = current_store()
    check_format(store)
    assert list(store.list("")) == []
    assert list(nowhere.iterdir()) == []


def test_the_first_write_makes_the_default_and_says_so_once(nowhere, capsys):
    prepare(current_store())
    folder = nowhere / ".kitaru"
    assert (folder / ".gitignore").read_text() == "*\n"
    assert capsys.readouterr().err == f"kitaru: recording in {folder}\n"
    prepare(current_store())
    location._found.clear()
    prepare(current_store())
    assert capsys.readouterr().err == ""


def test_a_store_that_was_asked_for_is_made_in_silence(nowhere, monkeypatch, capsys):
    monkeypatch.setenv("KITARU_STORE", "runs")
    prepare(current_store())
    assert (nowhere / "runs" / "kitaru.json").exists()
    assert not (nowhere / "runs" / ".gitignore").exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("sign", "what"), [("KUBERNETES_SERVICE_HOST", "a pod"), ("AWS_LAMBDA_FUNCTION_NAME", "a function")]
)
def test_a_default_that_dies_with_the_machine_is_warned_about_once(nowhere, monkeypatch, capsys, sign, what):
    monkeypatch.setenv(sign, "x")
    current_store()
    assert capsys.readouterr().err == ""
    prepare(current_store())
    said = capsys.readouterr().err
    assert f"WARNING: this is {what} ({sign} is set)" in said
    assert "set KITARU_STORE=s3://" in said
    location._found.clear()
    prepare(current_store())
    assert "WARNING" not in capsys.readouterr().err
    location._warned_short_lived = False
    monkeypatch.setenv("KITARU_STORE", str(nowhere / "volume"))
    prepare(current_store())
    assert capsys.readouterr().err == ""


def test_a_settings_file_that_cannot_be_read_is_named(nowhere):
    (nowhere / "pyproject.toml").write_text("[tool.kitaru\n")
    with pytest.raises(UsageError, match=r"pyproject\.toml cannot be read"):
        current_store()
    (nowhere / "pyproject.toml").write_text("[tool.kitaru]\nstore = 3\n")
    with pytest.raises(UsageError, match="store is no address"):
        current_store()


def test_a_printed_command_names_the_store_only_where_the_search_would_not_find_it(nowhere, monkeypatch):
    assert default_would_find(LocalStore(nowhere / ".kitaru"))
    assert not default_would_find(LocalStore(nowhere / "other"))
    connect("s3://bucket/prefix")
    assert not default_would_find(current_store())


def test_a_printed_command_does_not_rely_on_this_processs_environment(nowhere, monkeypatch):
    monkeypatch.setenv("KITARU_STORE", "s3://bucket/prefix")
    assert not default_would_find(current_store()), "another shell has no such variable"
    assert not default_would_find(LocalStore(nowhere / ".kitaru")), "this shell has one that leads elsewhere"
    monkeypatch.setenv("KITARU_STORE", str(nowhere / ".kitaru"))
    assert default_would_find(current_store())


# Preparing.


def test_a_new_location_is_probed_once_and_says_what_it_is():
    inner = MemoryStore()
    store = FaultyStore(inner)
    prepare(store)
    assert [entry.key for entry in inner.list("")] == ["kitaru.json"]
    stated = json.loads(inner.get("kitaru.json"))
    assert stated["format"] == 1
    assert "kitaru" in stated
    before = store.count()
    prepare(store)
    check_format(store)
    assert store.count() == before


def test_a_location_that_is_known_costs_one_request_a_process():
    inner = MemoryStore()
    prepare(inner)
    for ask in (prepare, check_format):
        store = FaultyStore(inner)
        ask(store)
        ask(store)
        assert [operation.method for operation in store.log] == ["get"]


def test_threads_that_come_first_together_probe_once():
    store = FaultyStore(MemoryStore())
    threads = [threading.Thread(target=prepare, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count("put_if_absent") == 3


class OverwritingStore(MemoryStore):
    """Accepts the condition, and ignores it."""

    def put_if_absent(self, key, data):
        self.put(key, data)
        return True


class LyingStore(MemoryStore):
    """Says that it refused, and overwrote."""

    def put_if_absent(self, key, data):
        there = any(entry.key == key for entry in self.list(key))
        self.put(key, data)
        return not there


@pytest.mark.parametrize("kind", [OverwritingStore, LyingStore])
def test_a_store_without_conditional_writes_is_refused_with_nothing_left(kind):
    store = kind()
    with pytest.raises(StoreUnsupportedError, match="Nothing was recorded"):
        prepare(store)
    assert list(store.list("")) == []


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOSE_RESPONSE, Fault.UNAVAILABLE])
def test_a_preparation_that_was_cut_short_is_done_again(n, fault):
    inner = MemoryStore()
    with suppress(SimulatedCrash, StoreUnavailableError):
        prepare(FaultyStore(inner, fault_at(n, fault)))
    prepare(inner)
    assert [entry.key for entry in inner.list("k")] == ["kitaru.json"]
    assert inner.put_if_absent("a", b"1")


@pytest.mark.parametrize("ask", [prepare, check_format])
def test_a_format_from_the_future_is_not_touched(ask):
    store = MemoryStore()
    store.put("kitaru.json", b'{"format": 7, "kitaru": "9.1"}')
    with pytest.raises(StoreFormatError, match=r"Kitaru 9\.1 in format 7.*upgrade kitaru"):
        ask(store)
    assert len(list(store.list(""))) == 1


@pytest.mark.parametrize("ask", [prepare, check_format])
@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"{}", b"3", b'{"format": "0"}', b'{"format": -1}', b'{"format": true}', b"\xff", b"null"],
)
def test_a_format_that_cannot_be_read_is_named(ask, text):
    store = MemoryStore()
    store.put("kitaru.json", text)
    with pytest.raises(CorruptionError, match=r"kitaru\.json in memory://"):
        ask(store)


# Trust.


def test_memory_and_a_folder_of_ones_own_are_trusted(tmp_path):
    assert is_trusted(MemoryStore())
    folder = tmp_path / "store"
    assert is_trusted(LocalStore(folder))
    folder.mkdir(mode=0o755)
    assert is_trusted(LocalStore(folder))
    folder.chmod(0o777)
    assert not is_trusted(LocalStore(folder))


def test_a_folder_of_somebody_else_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not is_trusted(LocalStore(tmp_path))
    monkeypatch.setenv("KITARU_TRUST", str(tmp_path))
    assert is_trusted(LocalStore(tmp_path / "below")) or not (tmp_path / "below").exists()
    assert is_trusted(LocalStore(tmp_path))


@pytest.mark.parametrize(
    ("said", "url", "trusted"),
    [
        ("", "s3://bucket/prefix", False),
        ("0", "s3://bucket/prefix", False),
        ("1", "s3://bucket/prefix", True),
        ("s3://bucket", "s3://bucket/prefix", True),
        ("s3://bucket/prefix", "s3://bucket/prefix", True),
        ("s3://bucket/prefix/", "s3://bucket/prefix", True),
        ("s3://other, s3://bucket/pre", "s3://bucket/pre/fix", True),
        ("s3://bucket/pre", "s3://bucket/prefix", False),
        ("s3://buck", "s3://bucket", False),
        ("s3://bucket/prefix/below", "s3://bucket/prefix", False),
        ("s3://bucket", "s3://bucket?endpoint_url=http://elsewhere", False),
        ("s3://bucket?endpoint_url=http://here", "s3://bucket/a?endpoint_url=http://here&region=x", True),
        ("file:///bucket", "s3://bucket", False),
        ("s3://", "s3://bucket", False),
    ],
)
def test_a_bucket_is_trusted_where_the_user_said_so(monkeypatch, said, url, trusted):
    monkeypatch.setenv("KITARU_TRUST", said)
    assert is_trusted(open_store(url)) is trusted


def test_a_project_cannot_say_what_its_user_trusts(nowhere):
    (nowhere / "pyproject.toml").write_text('[tool.kitaru]\ntrust = ["s3://bucket/prefix"]\n')
    assert not is_trusted(open_store("s3://bucket/prefix/a"))


def test_a_wrapper_is_trusted_as_what_it_wraps():
    assert is_trusted(FaultyStore(MemoryStore()))
    assert not is_trusted(FaultyStore(S3Store("bucket")))
