"""The S3 servers as pytest fixtures: each is started once a session, when a test first asks for it.

Name this module in `pytest_plugins` of the topmost conftest.py.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ..stores.s3 import S3Store
from .servers import S3Server, moto_server, rclone_server, seaweedfs_server

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["S3Factory", "moto_s3", "rclone_s3", "seaweedfs_s3"]

_prefixes = itertools.count(1)


class S3Factory:
    """Calling it gives a store below a new prefix of `server`'s bucket.

    Its stores share one client, for boto3 takes long to make one. Given options, or opened by its `url` (also
    from another process), a store makes its own, and finds credentials as a user's would, in the environment.
    """

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.client = _client(server)

    def __call__(self, **options: Any) -> S3Store:
        """Open a store below a prefix that no other test uses; `options` are those of `S3Store`."""
        prefix = f"test-{os.getpid()}-{next(_prefixes)}"
        return S3Store(
            self.server.bucket,
            prefix,
            **({"endpoint_url": self.server.endpoint_url} | (options or {"client": self.client})),
        )


@pytest.fixture(scope="session")
def _moto_server() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def _seaweedfs_server() -> Iterator[S3Server]:
    with seaweedfs_server() as server:
        yield server


@pytest.fixture(scope="session")
def _rclone_server() -> Iterator[S3Server]:
    with rclone_server() as server:
        yield server


@pytest.fixture
def moto_s3(_moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Factory:
    """Stores on moto."""
    return _entered(_moto_server, monkeypatch)


@pytest.fixture
def seaweedfs_s3(_seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Factory:
    """Stores on SeaweedFS."""
    return _entered(_seaweedfs_server, monkeypatch)


@pytest.fixture
def rclone_s3(_rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Factory:
    """Stores on rclone, which ignores conditional writes."""
    return _entered(_rclone_server, monkeypatch)


@functools.cache
def _client(server: S3Server) -> S3Client:
    return server.client()


def _entered(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Factory:
    """Let boto3 find this server's credentials, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        if name != "AWS_ENDPOINT_URL":  # it is part of the store's address instead
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return S3Factory(server)
