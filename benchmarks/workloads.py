"""The workloads: each gives its figures, measured in turns with their floors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import kitaru
from benchmarks.figures import Figure, median_ms
from benchmarks.floors import ConditionalPut, SyncedFile, encode_and_hash, timed
from benchmarks.flows import BROKEN, ENTERED, chain, fan, settle, steps_of, stops, wide
from kitaru import KitaruClient
from kitaru.location import open_store
from kitaru.segments import journal_key
from kitaru.stores.base import Store
from kitaru.testing.faults import FaultyStore
from kitaru.testing.servers import FaultProxy, moto_server

RECIPE = "temporary file, fsync, link, fsync the folder"
BARE_PUT = "a bare boto3 conditional PUT of as many bytes"


@contextmanager
def folder() -> Iterator[str]:
    """A fresh folder, on the disk that `BENCH_DIR` names, or that of temporary files."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True) as path:
        yield path


def segment_of_a_step(store: Store) -> bytes:
    """A segment of the last chain, so that the floor writes as many bytes as a step does."""
    execution = KitaruClient(store).executions.latest(flow="chain")
    return store.get(journal_key(execution.exec_id, 10))


def small_step_on_a_folder(n: int, turns: int) -> list[Figure]:
    with folder() as path:
        store = kitaru.connect(f"{path}/store")
        steps_of(50)
        floor = SyncedFile(path, segment_of_a_step(store))
        all_of_it, late_and_early = [], []
        for _ in range(turns):
            before = timed(floor, n // 4)
            steps = steps_of(n)
            after = timed(floor, n // 4)
            tenth = max(n // 10, 10)
            all_of_it.append((median_ms(steps), median_ms(before + after)))
            late_and_early.append((median_ms(steps[-tenth:]), median_ms(steps[:tenth])))
        which = f"steps {n - n // 10 + 1}–{n} of a run"
        return [
            Figure("small step, folder", all_of_it, RECIPE, ratio_at_most=1.6),
            Figure(which, late_and_early, f"steps 1–{n // 10} of it", ratio_at_most=1.15),
        ]


@contextmanager
def s3(delay: float = 0.0) -> Iterator[tuple[Store, Any, str]]:
    """An S3 server on loopback, behind `delay` seconds: a store in it, a bare client, the bucket."""
    with moto_server() as server, FaultProxy(server.endpoint_url, delay=delay) if delay else nullcontext() as proxy:
        os.environ.update(server.environment)
        endpoint = proxy.endpoint_url if proxy is not None else server.endpoint_url
        store = open_store(f"s3://{server.bucket}/bench?endpoint_url={endpoint}")
        yield store, server.client(endpoint_url=endpoint), server.bucket


def small_step_on_s3(n: int, turns: int, delay: float = 0.0) -> list[Figure]:
    where = f"S3 behind {delay * 1e3:.0f} ms" if delay else "S3 on loopback"
    with s3(delay) as (store, client, bucket):
        kitaru.connect(store)
        steps_of(12)
        floor = ConditionalPut(client, bucket, segment_of_a_step(store))
        timed(floor, 5)
        rounds = []
        for _ in range(turns):
            before = timed(floor, n // 2)
            steps = steps_of(n)
            rounds.append((median_ms(steps), median_ms(before + timed(floor, n // 2))))
        return [Figure(f"small step, {where}", rounds, BARE_PUT, ratio_at_most=1.1 if delay else 1.2)]


def requests_on_s3(n: int) -> list[Figure]:
    """Counted, not timed: what a step sends, and what many at once send together."""
    with s3(delay=0.02) as (store, _, _):
        counted = FaultyStore(store)
        kitaru.connect(counted)
        chain.run(2)
        del counted.log[:]
        chain.run(20)
        journal = [o.method for o in counted.log if "/journal/" in o.key]
        step = journal.count("put_if_absent") - 2  # begun with the claim; flow_ended with the release
        reads = counted.count("get", "list")
        before = counted.count("put_if_absent", "put")
        wide.run(n)
        puts = counted.count("put_if_absent", "put") - before
        none = "–"
        return [
            Figure("PUTs a step, S3", [(step / 20, 0)], none, "PUTs", at_most=1),
            Figure("GETs and LISTs a step, S3", [(reads / 20, 0)], none, "requests", at_most=0),
            Figure(f"{n} concurrent small steps, S3 behind 20 ms", [(puts, 0)], none, "PUTs", at_most=60),
        ]


def fan_out(n: int, turns: int, workers: int = 16) -> list[Figure]:
    with folder() as path:
        kitaru.connect(f"{path}/store")
        run = fan.options(max_workers=workers).run
        run(workers)
        ideal = -(-n // workers) * 50.0
        rounds = []
        for _ in range(turns):
            (took,) = timed(lambda _: run(n), 1)
            settle()
            rounds.append((took * 1e3, ideal))
        return [Figure(f"{n} × 50 ms, {workers} at a time, folder", rounds, "the ideal", ratio_at_most=1.1)]


def reuse(n: int, turns: int) -> list[Figure]:
    """From the flow's first line to the entry of the one step that has to run, over the steps that were skipped."""
    with folder() as path:
        kitaru.connect(f"{path}/store")
        rounds = []
        for _ in range(turns):
            BROKEN[0] = True
            failed = stops.options(raises=False).run(n)
            BROKEN[0] = False
            settle()
            before = timed(encode_and_hash, n // 2)
            ENTERED.clear()
            KitaruClient().executions.resume(failed.exec_id)
            assert len(ENTERED) == 2, "a finished step ran again"
            step = (ENTERED[-1] - ENTERED[0]) / n
            floors = before + timed(encode_and_hash, n // 2)
            rounds.append((step * 1e3, sum(floors) / len(floors) * 1e3))  # a mean beside a mean
        return [Figure("a reused step", rounds, "encoding and hashing its inputs once", ratio_at_most=3.0)]


def import_time(turns: int) -> list[Figure]:
    """Over bare Python, in turns with it."""

    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - began) * 1e3

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as at a user's
    lines = ("import kitaru", "from kitaru import flow, checkpoint")
    for line in lines:
        run(line)
    took = [(run("pass"), *map(run, lines)) for _ in range(turns)]
    return [
        Figure(f"{line}, over bare Python", [(t[i] - t[0], t[0]) for t in took], "bare Python", at_most=100)
        for i, line in enumerate(lines, 1)
    ]
