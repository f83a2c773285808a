"""The workloads: each gives its figure and its floor, measured in turns in the same run."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kitaru
from benchmarks.floors import PAYLOAD, ConditionalPut, SyncedFile, timed
from kitaru import KitaruClient, checkpoint, flow
from kitaru.location import open_store
from kitaru.segments import journal_key
from kitaru.stores.base import Store


@dataclass
class Figure:
    """One line of the table. Times in milliseconds, medians; `reach` is the ratio that the project promises."""

    workload: str
    figure: float
    floor: float
    unit: str = "ms"
    reach: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.figure / self.floor


ENTERED: list[float] = []


@checkpoint
def small(x: dict, i: int) -> dict:
    ENTERED.append(time.perf_counter())
    return {**x, "i": i}


@flow
def chain(n: int) -> int:
    x = PAYLOAD
    for i in range(n):
        x = small(x, i)
    return len(x)


@checkpoint
async def small_async(x: dict, i: int) -> dict:
    return {**x, "i": i}


@flow
async def wide(n: int) -> int:
    return len(await asyncio.gather(*(small_async(PAYLOAD, i) for i in range(n))))


@checkpoint
def nap(i: int) -> dict:
    time.sleep(0.05)
    return {**PAYLOAD, "i": i}


@flow
def fan(n: int) -> int:
    return len([f.result() for f in nap.map(range(n))])


@flow
def stops(n: int, at: dict) -> int:
    x = PAYLOAD
    for i in range(n):
        x = small(x, i)
    last(x)
    return n


FAIL = {"now": True}


@checkpoint
def last(x: dict) -> dict:
    ENTERED.append(time.perf_counter())
    if FAIL["now"]:
        raise RuntimeError("stop here")
    return x


def steps_of(n: int) -> list[float]:
    """Seconds from each step's entry to the next one's, in a chain of `n`."""
    ENTERED.clear()
    chain.run(n)
    return [b - a for a, b in zip(ENTERED, ENTERED[1:], strict=False)]


def segment_bytes(store: Store) -> bytes:
    """A segment of the last chain, so that the floor writes as many bytes as a step does."""
    execution = KitaruClient(store).executions.latest(flow="chain")
    return store.get(journal_key(execution.exec_id, 10))


def small_step_on_a_folder(n: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        store = kitaru.connect(f"{folder}/store")
        steps_of(50)
        floor = SyncedFile(folder, segment_bytes(store))
        floors: list[float] = []
        steps: list[float] = []
        early: list[float] = []
        late: list[float] = []
        for _ in range(5):
            floors += timed(floor, n // 5)
            run = steps_of(n)
            steps += run
            early += run[:100]
            late += run[-100:]
        median = statistics.median
        return [
            Figure("small step, folder, durable", median(steps) * 1e3, median(floors) * 1e3, reach=1.6),
            Figure("steps 901–1,000 against 1–100", median(late) * 1e3, median(early) * 1e3, reach=1.15),
        ]


@contextmanager
def s3(delay: float = 0.0) -> Iterator[tuple[Store, Any, str, Any]]:
    """An S3 server on loopback, behind `delay` seconds: a store, a bare client, the bucket, the proxy."""
    from kitaru.testing.servers import FaultProxy, moto_server

    with moto_server() as server, FaultProxy(server.endpoint_url, delay=delay) if delay else _nothing() as proxy:
        os.environ.update(server.environment)
        endpoint = proxy.endpoint_url if proxy is not None else server.endpoint_url
        store = open_store(f"s3://{server.bucket}/bench?endpoint_url={endpoint}")
        yield store, server.client(endpoint_url=endpoint), server.bucket, proxy


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def small_step_on_s3(n: int, delay: float = 0.0) -> list[Figure]:
    with s3(delay) as (store, client, bucket, _):
        kitaru.connect(store)
        steps_of(12)
        floor = ConditionalPut(client, bucket, segment_bytes(store))
        timed(floor, 5)
        floors: list[float] = []
        steps: list[float] = []
        for _ in range(5):
            floors += timed(floor, n // 5)
            steps += steps_of(n // 5)
        where = f"S3 behind {delay * 1e3:.0f} ms" if delay else "S3 on loopback"
        return [
            Figure(
                f"small step, {where}",
                statistics.median(steps) * 1e3,
                statistics.median(floors) * 1e3,
                reach=1.1 if delay else 1.2,
                note="floor: a bare boto3 conditional PUT",
            )
        ]


def concurrent_on_s3(n: int = 1000, delay: float = 0.02) -> list[Figure]:
    from kitaru.testing.faults import FaultyStore

    with s3(delay) as (store, _, _, _):
        counted = FaultyStore(store)
        kitaru.connect(counted)
        wide.run(2)
        before = counted.count("put_if_absent", "put")
        wide.run(n)
        puts = counted.count("put_if_absent", "put") - before
        return [Figure(f"{n} concurrent small steps, S3 behind {delay * 1e3:.0f} ms", puts, 60, "PUTs", 1.0)]


def fan_out(n: int = 100, workers: int = 16) -> list[Figure]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        kitaru.connect(f"{folder}/store")
        run = fan.options(max_workers=workers).run
        run(workers)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            run(n)
            took.append(time.perf_counter() - began)
        ideal = -(-n // workers) * 0.05
        return [Figure(f"{n} × 50 ms, {workers} at a time", statistics.median(took) * 1e3, ideal * 1e3, reach=1.1)]


def reuse(n: int) -> list[Figure]:
    from kitaru import codecs

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        kitaru.connect(f"{folder}/store")
        steps, floors = [], []
        for _ in range(3):
            FAIL["now"] = True
            failed = stops.options(raises=False).run(n, {})
            ENTERED.clear()
            reading = time.perf_counter()
            KitaruClient().executions.get(failed.exec_id)
            reading = time.perf_counter() - reading
            began = time.perf_counter()
            KitaruClient().executions.resume(failed.exec_id, raises=False)
            steps.append((ENTERED[-1] - began - 2 * reading) / n)
            floors += timed(lambda i: codecs.encode({**PAYLOAD, "i": i}), n)
        return [
            Figure(
                "a reused step",
                statistics.median(steps) * 1e3,
                statistics.median(floors) * 1e3,
                reach=3.0,
                note="floor: encoding and hashing its inputs once",
            )
        ]


def import_time(n: int = 15) -> list[Figure]:
    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    pairs = [(run("pass"), run("import kitaru"), run("from kitaru import flow, checkpoint")) for _ in range(n)]
    bare = statistics.median(p[0] for p in pairs)
    lazy = statistics.median(p[1] - p[0] for p in pairs)
    used = statistics.median(p[2] - p[0] for p in pairs)
    return [
        Figure("import kitaru, over bare Python", lazy * 1e3, 100, reach=1.0, note=f"bare Python: {bare * 1e3:.0f} ms"),
        Figure("from kitaru import flow, checkpoint", used * 1e3, 100, reach=1.0, note="the same limit of 100 ms"),
    ]
