"""Bytes under keys: the one thing that Kitaru asks of the world."""

from __future__ import annotations

from .base import Entry, Store
from .local import LocalStore
from .memory import MemoryStore
from .s3 import S3Store

__all__ = ["Entry", "LocalStore", "MemoryStore", "S3Store", "Store"]
