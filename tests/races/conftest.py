"""The S3 servers, also for this folder alone."""

from __future__ import annotations


def pytest_configure(config):
    config.pluginmanager.import_plugin("kitaru.testing.fixtures")
