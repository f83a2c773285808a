"""What tests of adapters start from: a model server, and the vendors' own clients."""

from __future__ import annotations

import gc
import warnings

import pytest

from kitaru.testing.model_server import ModelServer


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _vendors_sockets():
    """What a vendor's client leaves open where a stream broke off is closed here, and is no warning in another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.freeze()  # the many classes of the SDKs are looked through once, and not after each test
