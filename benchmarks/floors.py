"""What the same bytes cost without Kitaru: the floors that the figures stand beside."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from kitaru import codecs

PAYLOAD = {f"key{i:02d}": "x" * 20 for i in range(30)}
"""About 1 KB as JSON: what a small step takes and gives."""


def timed(work: Callable[[int], Any], n: int) -> list[float]:
    """Seconds of each of `n` turns of `work`."""
    out = []
    for i in range(n):
        began = time.perf_counter()
        work(i)
        out.append(time.perf_counter() - began)
    return out


class SyncedFile:
    """A temporary file of the same size, fsync, link to its name, fsync the folder."""

    def __init__(self, folder: str, data: bytes) -> None:
        self.folder = tempfile.mkdtemp(dir=folder)
        self.data = data
        self.fd = os.open(self.folder, os.O_RDONLY)
        self.n = 0

    def __call__(self, _: int = 0) -> None:
        self.n += 1
        temporary, name = f"{self.folder}/tmp", f"{self.folder}/{self.n:010d}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, self.data)
        os.fsync(fd)
        os.close(fd)
        os.link(temporary, name)
        os.unlink(temporary)
        os.fsync(self.fd)


class ConditionalPut:
    """A bare boto3 `put_object(IfNoneMatch="*")` of the same size."""

    def __init__(self, client: Any, bucket: str, data: bytes) -> None:
        self.client, self.bucket, self.data = client, bucket, data
        self.prefix = os.urandom(4).hex()
        self.n = 0

    def __call__(self, _: int = 0) -> None:
        self.n += 1
        key = f"floor/{self.prefix}/{self.n:010d}"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=self.data, IfNoneMatch="*")


def encode_and_hash(i: int) -> None:
    """Encode a step's inputs and hash them, once: what a match with a record cannot do without."""
    codecs.encode({**PAYLOAD, "i": i})
    codecs.encode(i)
