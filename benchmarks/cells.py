"""What a recorded cell costs through the whole extension, in a real IPython shell of this process.

In the kernel: an array of 100 MB, a frame of 70 MB, a small dict. Each cell also runs in a shell without the extension,
and beside the floor that the promise names, in the same turn.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kitaru
from benchmarks.figures import Figure, median_ms
from benchmarks.floors import SyncedFile
from benchmarks.values import CHUNK, kept
from benchmarks.workloads import RECIPE, folder
from kitaru.codecs import buffers
from kitaru.stores.base import Store

KERNEL = """
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
A = rng.random({megabytes} * 125_000)
DF = pd.DataFrame(rng.random(({megabytes} * 10_000, 8)), columns=list("abcdefgh"))
DF["s"] = [f"s{{i % 1000}}" for i in range({megabytes} * 10_000)]
d = {{"n": 0, "t": "x" * 1000}}
"""
PASSES = "a keyed blake3 pass over it, on two threads"
FRESH = "reading, filling a fresh one"


class Kernel:
    """An IPython shell; with `store` the extension is loaded, and records there."""

    def __init__(self, store: Store | None = None) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance(config=config)
        if store is not None:
            kitaru.connect(store)
            self("%load_ext kitaru")

    def __call__(self, cell: str) -> float:
        """Run a cell; the seconds that it took."""
        with contextlib.redirect_stdout(io.StringIO()):
            began = time.perf_counter()
            result = self.shell.run_cell(cell, store_history=True)
            took = time.perf_counter() - began
        result.raise_error()
        return took

    def close(self) -> None:
        """Let the execution go, and the variables."""
        if "kitaru" in self.shell.extension_manager.loaded:
            self.shell.extension_manager.unload_extension("kitaru")
        self.shell.reset(new_session=False)


@contextmanager
def kernels(megabytes: int) -> Iterator[tuple[Kernel, Kernel, Store, str]]:
    """One with the extension, one without, both with everything in it; the store, and a folder beside it."""
    with folder() as path:
        store = kitaru.connect(f"{path}/store")
        bare, ours = Kernel(), Kernel(store)
        for kernel in (bare, ours):
            kernel(KERNEL.format(megabytes=megabytes))
        try:
            yield ours, bare, store, path
        finally:
            ours.close()
            bare.close()


def keyed_pass(*buffers: Any) -> float:
    """Seconds of one keyed pass over these, on two threads."""
    import blake3

    began = time.perf_counter()
    for buffer in buffers:
        blake3.blake3(memoryview(buffer).cast("B"), key=bytes(32), max_threads=2).digest()
    return time.perf_counter() - began


def sha_and_write(array: Any, path: str) -> float:
    """Seconds of one SHA-256 over an array's memory, and to write it and make it durable."""
    data = memoryview(array).cast("B")
    began = time.perf_counter()
    hashlib.sha256(data).digest()
    with open(f"{path}/floor", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    os.unlink(f"{path}/floor")
    return took


def read_and_fill(path: str, size: int) -> float:
    """Seconds to read this many bytes from a file into an array that did not exist before."""
    import numpy as np

    began = time.perf_counter()
    with open(path, "rb") as file:
        fresh = np.empty(size // 8)
        file.readinto(memoryview(fresh).cast("B"))
    took = time.perf_counter() - began
    assert fresh.nbytes == size
    return took


def frame_buffers(frame: Any) -> list[Any]:
    """The memory of a frame's columns."""
    import pyarrow as pa

    out = []
    for block in frame._mgr.blocks:
        values = block.values
        if hasattr(values, "__arrow_array__"):
            made = pa.array(values)
            chunks = made.chunks if isinstance(made, pa.ChunkedArray) else [made]
            out += [b for chunk in chunks for b in chunk.buffers() if b is not None]
        else:
            out.append(values if values.flags.c_contiguous else values.T)
    return out


def blobs(store: Store) -> int:
    """Bytes of blobs in all."""
    return sum(size for key, size in kept(store).items() if key.startswith("blobs/"))


def one_after_the_other(megabytes: int, turns: int) -> list[Figure]:
    """The dict, the array read, one element of it, all of it, and checkouts."""
    over: dict[str, list[tuple[float, float]]] = {}
    added: dict[str, list[tuple[float, float]]] = {}
    with kernels(megabytes) as (ours, bare, store, path):
        array, table = ours.shell.user_ns["A"], ours.shell.user_ns["DF"]
        table_buffers = frame_buffers(table)

        def turn(what: str, cell: str, floor: Any) -> None:
            before = floor()
            plain = bare(cell)
            blobs_before = blobs(store)
            mine = ours(cell) - plain
            added.setdefault(what, []).append((blobs(store) - blobs_before, 0))
            over.setdefault(what, []).append((mine * 1e3, statistics.mean([before, floor()]) * 1e3))

        ours("%kitaru record on")
        began = time.perf_counter()
        ours("s = [A[0], len(DF), d['n']]")  # the first look at everything, and its recording
        first = time.perf_counter() - began
        ours("A[0] += 1; DF.loc[0, 'a'] = 1.0; d['n'] = -1")
        synced = SyncedFile(path, bytes(2000))
        for i in range(turns):
            for j in range(5):
                turn("dict", f"d['n'] = {10 * i + j}", lambda: synced_seconds(synced))
            turn("read", "float(A[5])", lambda: keyed_pass(array))
            turn("element", f"A[{i + 7}] = {i} + 0.5", lambda: keyed_pass(array))
            turn("all", "A *= 1.0001", lambda: sha_and_write(array, path))
        for n in (1, 2):
            ours(f"%%kitaru_step dict{n}\nd['n'] = 'dict{n}'")
        for i in range(turns):
            for n in (1, 2):
                floor = keyed_pass(array, *table_buffers)
                took = ours(f"%kitaru checkout dict{n}")
                assert ours.shell.user_ns["d"]["n"] == f"dict{n}"
                assert ours.shell.user_ns["A"] is array
                floor = (floor + keyed_pass(array, *table_buffers)) / 2
                over.setdefault("to dict", []).append((took * 1e3, floor * 1e3))
        ours("%kitaru checkout dict2")
        for n in (1, 2):
            ours(f"%%kitaru_step array{n}\nA[:] = np.random.default_rng({n}).random(A.size)")
        array.tofile(f"{path}/raw")
        for i in range(turns):
            for n in (1, 2):
                floor = read_and_fill(f"{path}/raw", array.nbytes)
                took = ours(f"%kitaru checkout array{n}")
                again = read_and_fill(f"{path}/raw", array.nbytes)
                over.setdefault("to array", []).append((took * 1e3, (floor + again) / 2 * 1e3))
        for i in range(turns):
            for n in (1, 2):
                buffers._chunker.cache_clear()  # as in a new process
                floor = read_and_fill(f"{path}/raw", array.nbytes)
                took = ours(f"%kitaru checkout array{n}")
                again = read_and_fill(f"{path}/raw", array.nbytes)
                over.setdefault("to new array", []).append((took * 1e3, (floor + again) / 2 * 1e3))
    print(f"the first look at everything, and its recording: {first:.2f} s")
    name = f"a cell beside {megabytes} MB"
    return [
        Figure(f"{name}: a small dict changed, over no extension", over["dict"], RECIPE, at_most=3),
        Figure(f"{name}: that, beyond the bare write", [(a - b, b) for a, b in over["dict"]], RECIPE),
        Figure(f"{name}: the array read, over no extension", over["read"], PASSES, ratio_at_most=1.5),
        Figure(f"{name}: the array read: new blobs", added["read"], "–", "bytes", at_most=0),
        Figure(f"{name}: one element changed, over no extension", over["element"], PASSES, ratio_at_most=3),
        Figure(f"{name}: one element changed: new blobs", added["element"], "–", "bytes", at_most=CHUNK),
        Figure(f"{name}: all of it changed, over no extension", over["all"], "sha256, synced write", ratio_at_most=1.5),
        Figure("checkout, a dict differs", over["to dict"], "such a pass over what is kept", ratio_at_most=1.5),
        Figure("checkout, the array differs", over["to array"], FRESH, ratio_at_most=1.5),
        Figure("checkout, the array differs, new to the process", over["to new array"], FRESH, ratio_at_most=1.5),
    ]


def many_cells(megabytes: int, n: int, turns: int) -> list[Figure]:
    """A cell that changes a small dict, at the beginning and after `n` cells, each by the bare write beside it."""
    rounds, late = [], []
    for _ in range(turns):
        with kernels(megabytes) as (ours, bare, _, path):
            synced = SyncedFile(path, bytes(2000))
            ours("%kitaru record on")
            ours("s = [A[0], len(DF), d['n']]")
            took: list[float] = []
            floors: list[float] = []
            for i in range(n + 30):
                cell = f"d['n'] = {i}"
                floors.append(synced_seconds(synced))
                took.append(ours(cell) - bare(cell))
            early, end = slice(5, 35), slice(n, n + 30)
            late.append((median_ms(took[end]), median_ms(floors[end])))
            rounds.append(
                (
                    median_ms(took[end]) / median_ms(floors[end]),
                    median_ms(took[early]) / median_ms(floors[early]),
                )
            )
    return [
        Figure(f"a small dict changed, after {n} cells, over no extension", late, RECIPE, at_most=3),
        Figure(f"cells {n}–{n + 30}", rounds, "cells 5–35, both by the bare write", "×", ratio_at_most=1.2),
    ]


def synced_seconds(write: SyncedFile) -> float:
    began = time.perf_counter()
    write()
    return time.perf_counter() - began


def no_step(n: int, turns: int) -> list[Figure]:
    """Cells of a notebook in which nothing is recorded."""
    rounds = []
    with kernels(1) as (ours, bare, _, _):
        for _ in range(turns):
            pairs = [(ours(f"d['n'] = {i}"), bare(f"d['n'] = {i}")) for i in range(n)]
            mine, floor = (median_ms(two) for two in zip(*pairs, strict=True))
            rounds.append((mine - floor, floor))
    return [Figure("a cell, the extension loaded and no step run: more", rounds, "the cell", at_most=0.2)]


_LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
import pandas
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
began = time.perf_counter()
shell.run_cell("%load_ext kitaru").raise_error()
print(time.perf_counter() - began)
"""


def load_ext(turns: int) -> list[Figure]:
    """`%load_ext kitaru`, in a fresh process that has imported IPython and pandas."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as at a user's

    def run() -> tuple[float, float]:
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)
        whole, mine = time.perf_counter() - began, float(done.stdout)
        return mine * 1e3, (whole - mine) * 1e3

    run()
    rounds = [run() for _ in range(turns)]
    return [Figure("%load_ext kitaru", rounds, "a process that imports IPython and pandas", at_most=300)]
