"""S3Store: the contract on two servers, the refusal of a third, and every fault on the way."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from kitaru.errors import (
    KeyMissingError,
    StoreError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UsageError,
)
from kitaru.location import check_format, open_store, prepare
from kitaru.stores import Entry, S3Store
from kitaru.stores.s3 import _before_in_any_order, _in_order
from kitaru.testing.contract import StoreContract
from kitaru.testing.servers import FaultProxy, ProxyFault

pytestmark = pytest.mark.s3


class BucketContract(StoreContract):
    def raw_put(self, store, key, data):
        self.client.put_object(Bucket=store._bucket, Key=store._base + key, Body=data)

    def raw_get(self, store, key):
        try:
            return self.client.get_object(Bucket=store._bucket, Key=store._base + key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None


class TestMoto(BucketContract):
    @pytest.fixture
    def store(self, moto_s3):
        self.client = moto_s3.client
        return moto_s3()


class TestSeaweedFS(BucketContract):
    races = 1  # contended creates stall for seconds

    @pytest.fixture
    def store(self, seaweedfs_s3):
        self.client = seaweedfs_s3.client
        return seaweedfs_s3()


def test_a_server_that_ignores_conditional_writes_is_refused_before_anything_is_recorded(rclone_s3):
    store = rclone_s3()
    for _ in range(2):
        with pytest.raises(StoreUnsupportedError, match="does not honour conditional writes"):
            prepare(store)
    listing = rclone_s3.client.list_objects_v2(Bucket=rclone_s3.server.bucket)
    assert listing.get("Contents", []) == []


def test_importing_the_store_imports_no_boto3():
    code = (
        "import sys, kitaru.stores.s3, kitaru.location; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# The proxy stands between the store and moto.


@pytest.fixture
def proxy(moto_s3):
    with FaultProxy(moto_s3.server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxied(moto_s3, proxy):
    store = moto_s3(endpoint_url=proxy.endpoint_url)
    store.now()  # connect, so that what is counted below is the call alone
    proxy.requests.clear()
    return store


def first(fault, method="PUT"):
    """Harm the first request of this method, and let the rest pass."""
    harmed = []

    def plan(request):
        if request.method == method and not harmed:
            harmed.append(request)
            return fault
        return None

    return plan


def always(fault):
    return lambda request: fault


def test_a_create_is_one_request(proxied, proxy):
    assert proxied.put_if_absent("a", b"1")
    assert [request.method for request in proxy.requests] == ["PUT"]
    proxied.get("a")
    list(proxied.list(""))
    assert [request.method for request in proxy.requests] == ["PUT", "GET", "GET"]


@pytest.mark.parametrize("fault", [ProxyFault.LOSE_RESPONSE, ProxyFault.RESET])
def test_a_lost_response_reads_as_somebody_was_first_and_the_bytes_tell_who(proxied, proxy, fault):
    proxy.plan = first(fault)
    assert proxied.put_if_absent("a", b"ours") is False
    assert len(proxy.requests) == 2
    assert proxied.get("a") == b"ours"


@pytest.mark.parametrize(
    "fault", [ProxyFault.LOSE_REQUEST, ProxyFault.CUT_REQUEST, ProxyFault.SLOW_DOWN, ProxyFault.ERROR]
)
def test_a_request_that_was_lost_is_sent_again(proxied, proxy, fault):
    proxy.plan = first(fault)
    assert proxied.put_if_absent("a", b"12") is True
    proxy.plan = first(fault, "GET")
    assert proxied.get("a") == b"12"


@pytest.mark.parametrize("fault", [ProxyFault.LOSE_RESPONSE, ProxyFault.RESET, ProxyFault.CUT_RESPONSE])
def test_an_answer_that_broke_off_is_asked_for_again(proxied, proxy, fault):
    body = bytes(range(256)) * 400
    proxied.put("a", body)
    proxy.plan = first(fault, "GET")
    assert proxied.get("a") == body
    proxy.plan = first(fault, "GET")
    assert [entry.key for entry in proxied.list("")] == ["a"]


def test_a_conflict_is_sent_again_with_the_same_bytes(proxied, proxy):
    left = [ProxyFault.CONFLICT] * 3
    proxy.plan = lambda request: left.pop() if left else None
    assert proxied.put_if_absent("a", b"1") is True
    assert [request.size for request in proxy.requests] == [1] * 4
    assert proxied.get("a") == b"1"


def test_a_conflict_that_never_ends_is_given_up(proxied, proxy, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    proxy.plan = always(ProxyFault.CONFLICT)
    with pytest.raises(StoreUnavailableError, match="ConditionalRequestConflict"):
        proxied.put_if_absent("a", b"1")
    assert len(proxy.requests) == 8
    assert len(set(waited)) > 1


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (ProxyFault.EXPIRED, StorePermissionError, "have expired.*Refresh them"),
        (ProxyFault.DENIED, StorePermissionError, "AccessDenied.*AWS_ACCESS_KEY_ID.*s3:PutObject"),
        (ProxyFault.SLOW_DOWN, StoreUnavailableError, "SlowDown.*Try again later"),
        (ProxyFault.LOSE_REQUEST, StoreUnavailableError, "No answer from s3://.*Resume when"),
    ],
)
def test_what_the_server_says_is_said_in_our_words_by_every_method(moto_s3, proxy, fault, kind, words):
    from botocore.config import Config

    once = Config(retries={"total_max_attempts": 1})
    store = moto_s3(endpoint_url=proxy.endpoint_url, config=once)
    proxy.plan = always(fault)
    for use in (
        lambda: store.put_if_absent("a", b"1"),
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: list(store.list("")),
        lambda: store.delete(["a"]),
        lambda: store.delete(["a", "b"]),
    ):
        with pytest.raises(kind, match=words):
            use()
    assert store.put_if_absent  # the object lives on: credentials are refreshed behind it
    proxy.plan = lambda request: None
    assert store.put_if_absent("a", b"1")


def test_a_server_that_is_not_there_is_unavailable(moto_s3, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = moto_s3(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match="No answer"):
        store.get("a")


def test_a_slow_server_is_given_up_after_the_time_that_was_set(moto_s3, proxy, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("KITARU_S3_TIMEOUT", "0.2")
    store = moto_s3(endpoint_url=proxy.endpoint_url)
    proxy.delay = 1.0
    with pytest.raises(StoreUnavailableError, match=r"(?i)timeout"):
        store.put("a", b"1")


@pytest.mark.parametrize("variable", ["KITARU_S3_TIMEOUT", "AWS_MAX_ATTEMPTS"])
def test_a_setting_that_is_no_number_is_named(moto_s3, monkeypatch, variable):
    monkeypatch.setenv(variable, "soon")
    with pytest.raises(UsageError, match=f"{variable}='soon'"):
        open_store(moto_s3().url).get("a")


def test_a_bucket_that_does_not_exist_is_named(moto_s3, seaweedfs_s3):
    for factory in (moto_s3, seaweedfs_s3):
        store = S3Store("no-such-bucket", endpoint_url=factory.server.endpoint_url)
        for use in (lambda: store.put_if_absent("a", b"1"), lambda: store.get("a"), lambda: list(store.list(""))):
            with pytest.raises(StoreUnavailableError, match="no bucket 'no-such-bucket'"):
                use()


def test_no_credentials_at_all_says_where_they_could_come_from(moto_s3, monkeypatch):
    store = open_store(moto_s3().url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorePermissionError, match=r"No credentials.*~/\.aws"):
        store.get("a")
    with pytest.raises(StorePermissionError, match="nobody"):
        moto_s3(profile="nobody").get("a")


@pytest.mark.parametrize(("key", "secret"), [("unknown", "testtest"), ("test", "wrong")])
def test_wrong_credentials_are_a_question_of_permission(seaweedfs_s3, monkeypatch, key, secret):
    store = open_store(seaweedfs_s3().url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(StorePermissionError, match="Credentials come from AWS_ACCESS_KEY_ID"):
        store.put_if_absent("a", b"1")
    with pytest.raises(StorePermissionError):
        list(store.list(""))


def test_a_read_only_bucket_can_be_browsed(seaweedfs_s3, monkeypatch):
    store = seaweedfs_s3()
    prepare(store)
    store.put_if_absent("a/b", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "readerreader")
    reader = open_store(store.url)
    check_format(reader)
    assert reader.get("a/b") == b"1"
    assert [entry.key for entry in reader.list("")] == ["a/b", "kitaru.json"]
    assert reader.now() > 0
    with pytest.raises(StorePermissionError, match="s3:PutObject"):
        reader.put_if_absent("a/c", b"1")
    empty = open_store(seaweedfs_s3().url)
    check_format(empty)
    with pytest.raises(StorePermissionError):
        prepare(empty)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("QuotaExceeded", StoreFullError),
        ("NotImplemented", StoreUnsupportedError),
        ("EntityTooLarge", StoreError),
        ("InvalidAccessKeyId", StorePermissionError),
        ("SignatureDoesNotMatch", StorePermissionError),
        ("InternalError", StoreUnavailableError),
        ("NoSuchKey", KeyMissingError),
        ("SomethingNew", StoreUnavailableError),
    ],
)
def test_error_codes_become_what_a_handler_would_do(code, kind):
    assert type(S3Store("b")._refusal(code, "said", "key")) is kind


def test_a_client_of_ones_own_is_used_as_it_is(moto_s3):
    client = moto_s3.client
    store = S3Store(moto_s3.server.bucket, "own-client", client=client)
    assert store.put_if_absent("a", b"1")
    assert open_store(store.url).get("a") == b"1"


def test_the_environment_alone_leads_to_the_server(moto_s3, monkeypatch):
    moto_s3.client.put_object(Bucket="kitaru", Key="by-environment/a", Body=b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.server.endpoint_url)
    store = open_store("s3://kitaru/by-environment")
    assert store.get("a") == b"1"
    assert store.url == "s3://kitaru/by-environment"


def test_what_others_keep_in_the_bucket_is_not_listed(moto_s3):
    store = moto_s3()
    client = moto_s3.client
    for key in ("folder/", "a", "b\\c"):
        client.put_object(Bucket=store._bucket, Key=store._base + key, Body=b"")
    client.put_object(Bucket=store._bucket, Key=store._base.rstrip("/") + "-longer/a", Body=b"")
    assert [entry.key for entry in store.list("")] == ["a"]


# Orders of listings.


def test_any_order_that_a_server_may_list_in_comes_out_as_that_of_keys():
    import itertools
    import random

    chance = random.Random(3)
    parts = ["a", "a-", "a-b", "a.b", "a0", "b", "-", "a!", "ab", "0", "00", "01", "a~", "é"]
    everything = ["/".join(path) for depth in (1, 2, 3) for path in itertools.product(parts, repeat=depth)]
    for _ in range(100):
        keys = chance.sample(everything, 40)
        for order in (None, lambda key: key.split("/")):
            for prefix in ("", "a", "a/", "a-"):
                below = [key for key in sorted(keys, key=order) if key.startswith(prefix)]
                found = [entry.key for entry in _in_order([Entry(key, 0, 0, 0) for key in below], prefix)]
                assert found == sorted(below)
                after = chance.choice(everything)
                start = after.startswith(prefix) and _before_in_any_order(after, prefix)
                if start:
                    rank = order or str
                    skipped = start + "/"  # as SeaweedFS does
                    sent = [k for k in below if rank(k) > rank(start) and not k.startswith(skipped)]
                    assert {key for key in below if key > after} <= set(sent)


def test_the_end_of_a_journal_is_asked_for_alone():
    for n in (1, 9, 10, 100, 109, 4096, 1_000_000):
        start = _before_in_any_order(f"e/journal/{n:010d}", "e/journal/")
        assert f"e/journal/{n - 1:010d}" < start < f"e/journal/{n:010d}"


def test_a_flat_listing_is_not_held_back():
    def endless():
        n = 0
        while True:
            n += 1
            yield Entry(f"catalog/{n:010d}", 0, 0, 0)

    assert next(_in_order(endless(), "catalog/")).key == "catalog/0000000001"


class UnorderedClient:
    """A directory bucket, as far as a listing goes."""

    def list_objects_v2(self, *, Bucket, Prefix, ContinuationToken=None):
        from datetime import UTC, datetime

        assert Prefix.endswith("/")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        pages = {None: ["p/c", "p/a/b"], "more": ["p/ab", "p/a-b"]}
        page = {
            "Contents": [{"Key": key, "Size": 1, "LastModified": now} for key in pages[ContinuationToken]],
            "ResponseMetadata": {"HTTPHeaders": {"date": "Thu, 01 Jan 2026 00:00:10 GMT"}},
        }
        return page if ContinuationToken else page | {"IsTruncated": True, "NextContinuationToken": "more"}


def test_a_directory_bucket_is_sorted_here():
    store = S3Store("express--x-s3", "p", client=UnorderedClient())
    assert [entry.key for entry in store.list("a", after="a-a")] == ["a-b", "a/b", "ab"]
    assert {entry.age for entry in store.list("")} == {10.0}
