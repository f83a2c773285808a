"""Large, growing and many values: what they cost beside their floors, in time, bytes, objects, requests and memory."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import ormsgpack

import kitaru
from benchmarks.figures import Figure, median_ms
from benchmarks.floors import SyncedFile, encode_and_hash, timed
from benchmarks.flows import BROKEN, ENTERED, settle, steps_of, stops
from benchmarks.workloads import RECIPE, folder, s3, segment_of_a_step
from kitaru import KitaruClient, checkpoint, flow
from kitaru.stores.base import Store
from kitaru.testing.faults import FaultyStore

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHUNK = 4 << 20
TEXT = "The quick brown fox jumps over the lazy dog, and nobody says why it should. "


# ---------------------------------------------------------------- a history that grows

_RECIPE: list[SyncedFile] = []


def message(i: int) -> dict[str, Any]:
    """A message of 1,000 bytes."""
    made = {"role": "assistant" if i % 2 else "user", "content": f"{i}: " + TEXT * 12, "n": i}
    return made | {"content": made["content"] + "." * (1000 - len(ormsgpack.packb(made)))}


@checkpoint
def turn(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*messages, message(len(messages))]


@checkpoint
def idle(n: int) -> int:
    return n + 1


@flow
def talk(n: int, late: int) -> list[tuple[float, float]]:
    """Seconds of each of the last `late` steps, and of its floor directly after it."""
    messages: list[dict[str, Any]] = []
    out = []
    for i in range(n):
        began = time.perf_counter()
        messages = turn(messages)
        took = time.perf_counter() - began
        if i >= n - late:
            out.append((took, timed(lambda i: (message(i), _twice(messages), _RECIPE[-1]()), 1)[0]))
    return out


def _twice(messages: Any) -> None:
    ormsgpack.packb(messages)
    ormsgpack.packb(messages)


@flow
def silence(n: int) -> int:
    for i in range(n):
        idle(i)
    return n


def kept(store: Store) -> dict[str, int]:
    """The size of each object."""
    return {entry.key: entry.size for entry in store.list("")}


def growing_history(n: int, turns: int) -> list[Figure]:
    rounds, lineage, everything, objects = [], [], [], []
    late = max(n // 10, 10)
    for _ in range(turns):
        with folder() as path:
            store = kitaru.connect(f"{path}/store")
            silence.run(n)
            settle()
            without = kept(store)
            _RECIPE[:] = [SyncedFile(path, bytes(2500))]  # a message, its preview and the chain
            steps, floors = zip(*talk.run(n, late).get(), strict=True)
            settle()
            new = {key: size for key, size in kept(store).items() if key not in without}
            rounds.append((median_ms(steps), median_ms(floors)))
            lineage.append((sum(size for key, size in new.items() if key.endswith("/lineage.json")) / 1e6, 0))
            everything.append((sum(new.values()) / 1e6, 0))
            objects.append((len(new) - len(without), 0))
    name = f"a history of {n} messages of 1 KB"
    return [
        Figure(f"{name}, the last {late} steps", rounds, f"2 × ormsgpack, {RECIPE}", ratio_at_most=1.6),
        Figure(f"{name}, kept in all", everything, "–", "MB", at_most=4),
        Figure(f"{name}, kept in all: of that the lineage", lineage, "–", "MB"),
        Figure(f"{name}, objects more than for numbers", objects, "–", "objects", at_most=0),
    ]


# ---------------------------------------------------------------- arrays and frames

_GIVEN: list[Any] = [None]
_VALUES: list[Callable[[], Iterator[Any]]] = []


@checkpoint
def give(i: int) -> Any:  # noqa: ARG001 - tells one call from the next
    ENTERED.append(time.perf_counter())
    return _GIVEN[0]


@flow
def giving() -> list[float]:
    """Seconds that the recording of each value took, from the end of the body to the step's return."""
    out = []
    for i, value in enumerate(_VALUES[-1]()):
        _GIVEN[0] = value
        ENTERED.clear()
        give(i)
        out.append(time.perf_counter() - ENTERED[0])
    _GIVEN[0] = None
    return out


def recorded(store: Store, values: Callable[[], Iterator[Any]]) -> tuple[list[float], list[int]]:
    """The seconds that each value took, and the bytes of blobs that it added."""
    added: list[int] = []

    def watched() -> Iterator[Any]:
        before = 0
        for value in values():
            yield value
            total = sum(size for key, size in kept(store).items() if key.startswith("blobs/"))
            added.append(total - before)
            before = total

    _VALUES[:] = [watched]
    return giving.run().get(), added


def synced(path: str, write: Callable[[Any], Any]) -> float:
    """Seconds to write a file and to make it durable."""
    began = time.perf_counter()
    with open(f"{path}/floor", "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    os.unlink(f"{path}/floor")
    return took


def hashing(buffers: Iterable[Any]) -> float:
    """Seconds for one SHA-256 over these buffers."""
    began = time.perf_counter()
    whole = hashlib.sha256()
    for buffer in buffers:
        whole.update(buffer)
    return time.perf_counter() - began


def large_array(megabytes: int, turns: int) -> list[Figure]:
    """Recorded for the first time, unchanged, and with one element changed in place."""
    import numpy as np

    first, again, changed, unchanged_bytes, changed_bytes = [], [], [], [], []
    rng = np.random.default_rng(1)
    for _ in range(turns):
        array = rng.random(megabytes * 1_000_000 // 8)

        def values(array: np.ndarray[Any, Any] = array) -> Iterator[Any]:
            yield array
            yield array
            array[len(array) // 2] += 1
            yield array

        with folder() as path:
            store = kitaru.connect(f"{path}/store")
            before = synced(path, lambda f, a=array: np.save(f, a))
            sha = hashing([memoryview(array).cast("B")])
            times, added = recorded(store, values)
            after = synced(path, lambda f, a=array: np.save(f, a))
            sha = (sha + hashing([memoryview(array).cast("B")])) / 2
            first.append((times[0] * 1e3, ((before + after) / 2 + sha) * 1e3))
            again.append((times[1] * 1e3, sha * 1e3))
            changed.append((times[2] * 1e3, sha * 1e3))
            unchanged_bytes.append((added[1], 0))
            changed_bytes.append((added[2], 0))
    name = f"a float64 array of {megabytes} MB"
    return [
        Figure(f"{name}, first", first, "np.save, fsync, sha256", ratio_at_most=1),
        Figure(f"{name}, unchanged", again, "sha256", ratio_at_most=0.3),
        Figure(f"{name}, unchanged: new blobs", unchanged_bytes, "–", "bytes", at_most=0),
        Figure(f"{name}, one element changed", changed, "sha256"),
        Figure(f"{name}, one element changed: new blobs", changed_bytes, "–", "bytes", at_most=CHUNK),
    ]


def frame(rows: int, *, strings: Any, seed: int) -> pd.DataFrame:
    """Eight columns: four of floats, two of integers, one of times, one of text."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    words = np.array([f"customer-{i:05d}" for i in range(20_000)], dtype=object)
    made = {f"x{i}": rng.random(rows) for i in range(4)}
    made |= {f"n{i}": rng.integers(0, 1 << 40, rows) for i in range(2)}
    made["at"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**9, rows), unit="s")
    table = pd.DataFrame(made)
    table["name"] = pd.Series(words[rng.integers(0, len(words), rows)], dtype=strings)
    return table


def _buffers(table: Any) -> list[Any]:
    """All buffers of an Arrow table."""
    return [b for column in table.columns for c in column.chunks for b in c.buffers() if b is not None]


def large_frame(rows: int, turns: int, *, strings: str) -> list[Figure]:
    """Recorded for the first time, unchanged, and with a column more. `strings` is "Arrow" or "object"."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import feather

    dtype = pd.ArrowDtype(pa.large_string()) if strings == "Arrow" else object
    first, again, more, unchanged_bytes, more_bytes = [], [], [], [], []
    for i in range(turns):
        table = frame(rows, strings=dtype, seed=2 * i + (strings == "Arrow"))  # a process knows content again
        wider = table.assign(y=table["x0"] * 2)

        def values(table: pd.DataFrame = table, wider: pd.DataFrame = wider) -> Iterator[Any]:
            yield table
            yield table
            yield wider

        def floor(path: str, table: pd.DataFrame = table) -> tuple[float, float, float]:
            began = time.perf_counter()
            arrow = pa.Table.from_pandas(table)
            extraction = time.perf_counter() - began
            saved = synced(path, lambda f: feather.write_feather(arrow, f, compression="uncompressed"))
            return saved, hashing(_buffers(arrow)), extraction

        with folder() as path:
            store = kitaru.connect(f"{path}/store")
            before = floor(path)
            times, added = recorded(store, values)
            saved, sha, extraction = (statistics.mean(two) for two in zip(before, floor(path), strict=True))
            whole = saved + sha + (0 if strings == "Arrow" else extraction)
            first.append((times[0] * 1e3, whole * 1e3))
            again.append((times[1] * 1e3, (sha if strings == "Arrow" else extraction + sha) * 1e3))
            more.append((times[2] * 1e3, sha * 1e3))
            unchanged_bytes.append((added[1], 0))
            more_bytes.append((added[2], rows * 8))
    extracted = "" if strings == "Arrow" else "extraction, "
    name, most = f"a frame of {rows:,} × 8, {strings} strings", 0.3 if strings == "Arrow" else 1
    return [
        Figure(f"{name}, first", first, f"{extracted}uncompressed feather, fsync, sha256", ratio_at_most=1.2),
        Figure(f"{name}, unchanged", again, f"{extracted}sha256 of its buffers", ratio_at_most=most),
        Figure(f"{name}, unchanged: new blobs", unchanged_bytes, "–", "bytes", at_most=0),
        Figure(f"{name}, a column more: new blobs", more_bytes, "that column", "bytes", ratio_at_most=1.1),
    ]


# ---------------------------------------------------------------- long executions


def long_run_on_a_folder(n: int, turns: int) -> list[Figure]:
    with folder() as path:
        store = kitaru.connect(f"{path}/store")
        steps_of(50)
        floor = SyncedFile(path, segment_of_a_step(store))
        rounds = []
        for _ in range(turns):
            before = statistics.median(timed(floor, 200))
            steps = steps_of(n)
            after = statistics.median(timed(floor, 200))
            # The disk itself slows down or speeds up within minutes: each end is taken by the floor beside it.
            rounds.append((median_ms(steps[-100:]) / (after * 1e3), median_ms(steps[:100]) / (before * 1e3)))
    return [
        Figure(f"steps {n - 99:,}–{n:,} on a folder", rounds, "steps 1–100, both by the bare write", "×", 1.2),
    ]


def reuse_of_many(few: int, many: int, turns: int) -> list[Figure]:
    """A reused step of a long execution beside one of a shorter one, each by the hashing floor of its own turn."""
    with folder() as path:
        kitaru.connect(f"{path}/store")
        took: dict[int, list[float]] = {few: [], many: []}
        failed = {}
        for n in took:
            BROKEN[0] = True
            failed[n] = stops.options(raises=False).run(n).exec_id
            settle()
        for _ in range(turns):
            for n, of in took.items():
                floor = statistics.mean(timed(encode_and_hash, 500))
                ENTERED.clear()
                KitaruClient().executions.resume(failed[n], raises=False)
                assert len(ENTERED) == 2, "a finished step ran again"
                of.append((ENTERED[-1] - ENTERED[0]) / n / floor)
        BROKEN[0] = False
    rounds = list(zip(took[many], took[few], strict=True))
    return [Figure(f"a reused step of {many:,}", rounds, f"one of {few:,}, both by encoding and hashing", "×", 1.1)]


def opening_on_s3(n: int) -> list[Figure]:
    """Requests, counted."""
    with s3() as (store, _, _):
        kitaru.connect(store)
        BROKEN[0] = True
        failed = stops.options(raises=False).run(n)
        settle()
        BROKEN[0] = False
        counted = FaultyStore(store)
        execution = KitaruClient(counted).executions.get(failed.exec_id)
        assert len(execution.checkpoints) == n + 1
        rounds = [(counted.count("get", "list"), 0)]
    return [Figure(f"opening {n:,} finished steps on S3", rounds, "–", "requests", at_most=20)]


# ---------------------------------------------------------------- memory

_PEAK = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {root!r})
import kitaru
from benchmarks.values import _GIVEN, give
from kitaru import flow

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def current():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024

def forget():
    Path("/proc/self/clear_refs").write_text("5")

kitaru.connect({store!r})

@flow
def recording():
    _GIVEN[0] = np.zeros(8)
    give(0)
    array = np.random.default_rng(0).random({size} // 8)
    _GIVEN[0] = array
    forget()
    before = current()
    give(1)
    print(peak() - before)

if {what!r} == "record":
    recording.options(exec_id="large").run()
else:
    kitaru.load("large", "give")
    forget()
    before = current()
    kitaru.load("large", "give#2")
    print(peak() - before)
"""


def memory(megabytes: int) -> list[Figure]:
    """Peak resident size over what was there before: the array itself counts where it is loaded."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    figures = []
    size = megabytes * 1_000_000
    with folder() as path:
        for what in ("record", "load"):
            code = _PEAK.format(root=root, store=f"{path}/store", size=size, what=what)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            over = int(done.stdout.split()[-1]) + (size if what == "record" else 0)
            rounds = [(over / 1e6, size / 1e6)]
            figures.append(
                Figure(f"{what} an array of {megabytes} MB, peak memory", rounds, "the array", "MB", ratio_at_most=1.2)
            )
    return figures
