"""The S3 servers, for the tests of this folder when it is run alone; and a fence around this machine."""

from __future__ import annotations

import socket

import pytest


def pytest_configure(config):
    config.pluginmanager.import_plugin("kitaru.testing.fixtures")


@pytest.fixture(autouse=True)
def no_request_leaves_loopback(monkeypatch):
    """Whatever the store, boto3 and its search for credentials connect to is on this machine."""
    connect, left = socket.socket.connect, []

    def fenced(self, address):
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            left.append(address)
            raise OSError(f"fenced: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", fenced)
    yield
    assert left == []
