"""Bytes in an S3 bucket, or in whatever speaks its protocol and honours `If-None-Match`.

The only file that imports boto3, and only when a store is first used. What boto3 raises ends here: see
`_translated`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlencode, urlsplit

from ..errors import (
    InvalidNameError,
    KeyMissingError,
    StoreError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UsageError,
)
from .base import Entry
from .keys import check_key, check_range, is_key

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3.client import S3Client

__all__ = ["S3Store"]

_Answer = TypeVar("_Answer")

_CONFLICT_TRIES = 8  # a 409 says that two conditional writes met: one of them will be first the next time
_READ_TRIES = 3  # boto3 retries requests, not bodies that break off
_DELETE_BATCH = 1000  # S3's limit

_DENIED = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "401",
    "403",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_BROKEN_OFF = {"ResponseStreamingError", "IncompleteReadError", "ReadTimeoutError"}
_CREDENTIAL_ERRORS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "RefreshWithMFAUnsupportedError",
}


class S3Store:
    """Keys below a prefix of a bucket.

    Credentials, region, profile and endpoint are found as every boto3 program finds them (`AWS_*` variables,
    `AWS_ENDPOINT_URL`, `~/.aws`, a pod's or a machine's role), so nothing needs to be given.

    Parameters
    ----------
    bucket, prefix
        Where the keys live. An empty prefix is the whole bucket.
    endpoint_url, region, profile
        Override what boto3 would find. They become part of `url`, so that it opens the same place.
    client
        A boto3 S3 client to use as it is. It is not remade in a forked process.
    config
        A `botocore.config.Config` that is merged over the store's own, which is: 5 s to connect, 30 s to
        read (`KITARU_S3_TIMEOUT`: seconds to read), 5 tries in botocore's standard mode with jitter, 64
        connections, checksums only where S3 requires them.

    Notes
    -----
    `put_if_absent` is one PUT with `If-None-Match: *`. When its response is lost, boto3 sends it again and is
    told 412 by *our own* first write: the answer is then False, as if somebody else had been first. Who needs
    to know puts something of its own into the bytes and reads them back. A conflict (409) is sent again.

    Listings come in the order of the keys, whatever the server does: S3 sorts by UTF-8 bytes, some others as
    a walk through folders does ("a/b" before "a-b"), and directory buckets (`--x-s3`) not at all.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        client: S3Client | None = None,
        config: Config | None = None,
    ) -> None:
        self._bucket = bucket
        self._base = prefix.strip("/")
        if not bucket or "/" in bucket:
            raise InvalidNameError(f"{bucket!r} cannot be a bucket's name: write s3://bucket/prefix.")
        if self._base:
            check_key(self._base)
            self._base += "/"
        if endpoint_url and ("@" in urlsplit(endpoint_url).netloc):
            raise UsageError("An endpoint_url holds no credentials: set AWS_ACCESS_KEY_ID or name a profile.")
        self._options = {
            name: value
            for name, value in (("endpoint_url", endpoint_url), ("region", region), ("profile", profile))
            if value
        }
        self._given = client
        self._config = config
        self._client: S3Client | None = None
        self._client_pid = 0
        self._connecting = threading.Lock()

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, with the options that were given as its query."""
        options = dict(self._options)
        if self._given is not None and not options:
            endpoint = self._given.meta.endpoint_url
            if not (urlsplit(endpoint).hostname or "").endswith(("amazonaws.com", "amazonaws.com.cn")):
                options["endpoint_url"] = endpoint
        query = "?" + urlencode(options, safe=":/") if options else ""
        return f"s3://{self._bucket}/{self._base}".rstrip("/") + query

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`. Raises `KeyMissingError` where there is none."""
        check_key(key)
        check_range(start, end)
        s3 = self._connected()
        where: Any = {"Bucket": self._bucket, "Key": self._base + key}
        if end is not None and end <= (start or 0):
            self._asked(key, lambda: s3.head_object(**where))  # no Range is empty
            return b""
        if start or end is not None:
            where["Range"] = f"bytes={start or 0}-{'' if end is None else end - 1}"
        for attempt in range(_READ_TRIES):
            try:
                return s3.get_object(**where)["Body"].read()
            except Exception as error:
                if _code(error) in {"InvalidRange", "416"}:
                    return b""  # it begins behind the last byte
                broken = type(error).__name__ in {
                    "ResponseStreamingError",
                    "IncompleteReadError",
                    "ReadTimeoutError",
                }
                if not broken or attempt == _READ_TRIES - 1:
                    self._translated(error, key)
        raise AssertionError

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key`. False: it exists already, perhaps by a try of this very call (see the class's Notes).

        Raises `StoreUnavailableError` where no answer came: it was carried out, or not, or will be later.
        """
        check_key(key)
        s3 = self._connected()
        for attempt in range(_CONFLICT_TRIES):
            try:
                s3.put_object(Bucket=self._bucket, Key=self._base + key, Body=data, IfNoneMatch="*")
            except Exception as error:
                code = _code(error)
                if code in {"PreconditionFailed", "412"}:
                    return False
                if code not in {"ConditionalRequestConflict", "409"} or attempt == _CONFLICT_TRIES - 1:
                    self._translated(error, key)
                import random  # a conflict is rare, and `import kitaru` is not

                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311  # jitter, no secret
            else:
                return True
        raise AssertionError

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite `key`."""
        check_key(key)
        s3 = self._connected()
        self._asked(key, lambda: s3.put_object(Bucket=self._bucket, Key=self._base + key, Body=data))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        """The entries whose key begins with `prefix` and is greater than `after`, in the order of keys."""
        if self._bucket.endswith("--x-s3"):  # no order, no StartAfter, and whole folders only
            folder = prefix[: prefix.rfind("/") + 1]
            found = self._pages(folder, prefix, after, {})
            yield from sorted(found)
            return
        options: dict[str, Any] = {}
        if after is not None and after.startswith(prefix) and (start := _before_in_any_order(after, prefix)):
            options["StartAfter"] = self._base + start
        yield from _in_order(self._pages(prefix, prefix, after, options), prefix)

    def now(self) -> float:
        """Seconds since the epoch by the server's clock, whole seconds: the Date of an answer to a HEAD."""
        s3 = self._connected()
        try:
            answer: Any = s3.head_object(Bucket=self._bucket, Key=self._base + "kitaru.json")
        except Exception as error:
            if _code(error) not in {"NoSuchKey", "NotFound", "404"}:
                self._translated(error, "kitaru.json")
            answer = error.response  # type: ignore[attr-defined]
        return self._date(answer)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove `keys`, 1,000 a request; those that do not exist are no error."""
        doomed = iter([check_key(key) for key in keys])
        s3 = self._connected()
        while batch := list(islice(doomed, _DELETE_BATCH)):
            if len(batch) == 1:
                self._asked(batch[0], lambda: s3.delete_object(Bucket=self._bucket, Key=self._base + batch[0]))
                continue
            answer = self._asked(
                batch[0],
                lambda: s3.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": self._base + key} for key in batch], "Quiet": True},
                ),
            )
            for failure in answer.get("Errors", []):
                if failure.get("Code") != "NoSuchKey":
                    key = failure.get("Key", "").removeprefix(self._base)
                    raise self._refusal(failure.get("Code", ""), failure.get("Message", ""), key)

    def _pages(self, asked: str, prefix: str, after: str | None, options: dict[str, Any]) -> Iterator[Entry]:
        """The entries below `asked` as the server sends them, without what was not asked for."""
        s3 = self._connected()
        skip = len(self._base)
        while True:
            page: Any = self._asked(
                prefix,
                lambda: s3.list_objects_v2(Bucket=self._bucket, Prefix=self._base + asked, **options),  # noqa: B023  # called at once
            )
            now = self._date(page)
            for item in page.get("Contents", ()):
                key = item["Key"][skip:]
                if key.startswith(prefix) and (after is None or key > after) and is_key(key):
                    yield Entry(key, item["Size"], item["LastModified"].timestamp(), now)
            if not page.get("IsTruncated"):
                return
            options = {"ContinuationToken": page["NextContinuationToken"]}

    # The client: made at first use, for boto3 takes a third of a second to import, and once a process.

    def _connected(self) -> S3Client:
        if self._given is not None:
            return self._given
        if self._client is None or self._client_pid != os.getpid():  # a fork must not share connections
            with self._connecting:
                if self._client is None or self._client_pid != os.getpid():
                    self._client = self._connect()
                    self._client_pid = os.getpid()
        return self._client

    def _connect(self) -> S3Client:
        import boto3.session
        from botocore.config import Config

        retries: Any = {
            "mode": os.environ.get("AWS_RETRY_MODE", "standard"),
            "total_max_attempts": _number("AWS_MAX_ATTEMPTS", "5", int),
        }
        config = Config(
            connect_timeout=5,
            read_timeout=_number("KITARU_S3_TIMEOUT", "30", float),
            retries=retries,
            max_pool_connections=64,
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="kitaru",
        )
        if self._config is not None:
            config = config.merge(self._config)
        try:
            session = boto3.session.Session(
                profile_name=self._options.get("profile"), region_name=self._options.get("region")
            )
            client: S3Client = session.client("s3", endpoint_url=self._options.get("endpoint_url"), config=config)
        except Exception as error:
            self._translated(error, "")
        return client

    # Errors: what boto3 raises, in Kitaru's words.

    def _asked(self, key: str, request: Callable[[], _Answer]) -> _Answer:
        try:
            return request()
        except Exception as error:
            self._translated(error, key)

    def _translated(self, error: Exception, key: str) -> NoReturn:
        """Raise what `error` means to the caller."""
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            raise self._refusal(_code(error), error.response.get("Error", {}).get("Message", ""), key) from error
        name = type(error).__name__
        where = self._where(key)
        if name in _CREDENTIAL_ERRORS:
            raise StorePermissionError(
                f"No credentials for {where}: {str(error).rstrip('.')}. {self._credentials_advice()}"
            ) from error
        if name in {"ParamValidationError", "InvalidRegionError", "InvalidConfigError", "ConfigParseError"}:
            raise UsageError(f"boto3 cannot ask for {where}: {error}") from error
        if isinstance(error, BotoCoreError):
            raise StoreUnavailableError(
                f"No answer from {where}: {error}. Check the network and the endpoint; a write may have been "
                "carried out all the same. Resume when the store answers again."
            ) from error
        if isinstance(error, ValueError):  # an endpoint that is no URL
            raise UsageError(f"boto3 cannot ask for {where}: {error}") from error
        raise error

    def _refusal(self, code: str, message: str, key: str) -> Exception:
        """What an error code of the server means to the caller."""
        where = self._where(key)
        said = f"{code}: {message}" if message and message != code else code
        if code == "NoSuchBucket":
            return StoreUnavailableError(
                f"There is no bucket {self._bucket!r} ({said}). Create it, or check address, region and the endpoint."
            )
        if code in {"NoSuchKey", "NotFound", "404"}:
            return KeyMissingError(f"No object {where}.")
        if code in _EXPIRED:
            return StorePermissionError(
                f"The credentials for {where} have expired ({said}). Refresh them (aws sso login, a new "
                "session token, or the pod's role), then resume: what was recorded before is intact."
            )
        if code in _DENIED:
            return StorePermissionError(f"The server refused {where} ({said}). {self._credentials_advice()}")
        if code in _FULL:
            return StoreFullError(f"No space for {where} ({said}). Free some, or raise the quota, then resume.")
        if code in {"NotImplemented", "501"}:
            return StoreUnsupportedError(
                f"The server does not know what was asked for {where} ({said}). Kitaru needs conditional "
                "writes (If-None-Match)."
            )
        if code in {"EntityTooLarge", "KeyTooLongError", "InvalidBucketName", "MethodNotAllowed"}:
            return StoreError(f"The server cannot hold {where} ({said}).")
        return StoreUnavailableError(
            f"The server could not serve {where} ({said}). A write may have been carried out all the same. "
            "Try again later, then resume."
        )

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._base}{key}"

    def _credentials_advice(self) -> str:
        if self._given is not None:
            source = "the client that was given"
        elif profile := self._options.get("profile") or os.environ.get("AWS_PROFILE"):
            source = f"the profile {profile!r} in ~/.aws"
        elif "AWS_ACCESS_KEY_ID" in os.environ:
            source = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        else:
            source = "AWS_* variables, ~/.aws, or the role of this machine or pod"
        return (
            f"Credentials come from {source}. They need s3:ListBucket and s3:GetObject to look, and "
            "s3:PutObject and s3:DeleteObject to record."
        )

    def _date(self, answer: Any) -> float:
        """The server's clock, from the answer's Date header."""
        stated = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if not stated:
            raise StoreUnsupportedError(
                f"The server of {self._where('')} sends no Date header, so nobody can tell whether an owner "
                "is alive. Does a proxy remove it?"
            )
        from email.utils import parsedate_to_datetime  # boto3 has loaded it by now

        return parsedate_to_datetime(stated).timestamp()


def _code(error: Exception) -> str:
    """S3's error code of a failed request, or else its HTTP status; "" where no answer came."""
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return code if code not in {"", "Unknown", "None"} else status


def _number(variable: str, default: str, kind: Callable[[str], _Answer]) -> _Answer:
    text = os.environ.get(variable) or default
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{variable}={text!r} is no number.") from None


def _before_in_any_order(after: str, prefix: str) -> str | None:
    """A name that no key above `after` precedes, by bytes or in a folder tree; None: start at the first.

    A tree puts "a/b" before "a-b", for it sorts "/" below all else. So only what stands before the first
    character that bytes sort below "/" can be relied on. Nor may it be a folder's name: a server may take
    "start after a" to skip "a/b". Therefore its last fit character is lowered.

    >>> _before_in_any_order("runs/0041", "runs/")
    'runs/0040~'
    >>> _before_in_any_order("runs/x-y", "runs/")
    'runs/w~'
    """
    sure = len(prefix)
    while sure < len(after) and after[sure] >= "/":
        sure += 1
    for place in range(sure - 1, len(prefix) - 1, -1):
        if "0" < after[place] <= "~":
            return after[:place] + chr(ord(after[place]) - 1) + "~"
    return None


def _in_order(found: Iterable[Entry], prefix: str) -> Iterator[Entry]:
    """Sort a listing that comes in the order of bytes or of a folder tree, holding back little.

    Only a key of a folder, "a/…", can be followed by one that belongs before it, "a-…"; in both orders the
    names that begin with "a" stand together. So what came from there on is held until they are past.
    """
    skip = len(prefix)
    held: list[Entry] = []
    first = ""
    for entry in found:
        rest = entry.key[skip:]
        if held and not rest.startswith(first):
            yield from sorted(held)
            held = []
        if held or "/" in rest:
            if not held:
                first = rest.partition("/")[0]
            held.append(entry)
        else:
            yield entry
    yield from sorted(held)
