"""What capture costs a cell, beside one keyed blake3 pass over a 100 MB array: ``python -m benchmarks.capture``.

In the kernel: that array, a frame of 70 MB, a list of 100,000 dicts, 200 small variables.
"""

from __future__ import annotations

import ast
import statistics
import time
from typing import Any

import blake3

from kitaru_jupyter.capture import touches_of
from kitaru_jupyter.capture.tracker import Tracker

BEFORE = """
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
A = rng.random(12_500_000)
DF = pd.DataFrame(rng.random((1_000_000, 8)), columns=list("abcdefgh"))
DF["s"] = [f"s{i % 1000}" for i in range(1_000_000)]
L = [{"id": i, "name": f"n{i}", "v": i * 0.5} for i in range(100_000)]
d = {"a": 1, "b": [1, 2, 3]}
"""
CELLS = {
    "a small dict changed": 'd["a"] += 1',
    "the array read": "s = A.sum()",
    "one element of the array changed": "A[5] += 1",
    "the frame read": 's = DF["a"].sum()',
    "a column added": 'DF["n"] = DF["a"] * 1',
    "a list of 100,000 dicts read": "s = len(L)",
}


def measured(tracker: Tracker, source: str) -> float:
    """Seconds that looking takes, the cell itself left out."""
    namespace: Any = tracker.namespace
    tree, code = ast.parse(source), compile(source, "<cell>", "exec")
    begin = time.perf_counter()
    touches = touches_of(tree, namespace)
    tracker.before(touches)
    took = time.perf_counter() - begin
    exec(code, namespace)
    begin = time.perf_counter()
    tracker.after(touches)
    return took + time.perf_counter() - begin


def floor(array: Any) -> float:
    """Seconds of one keyed pass, on two threads."""
    begin = time.perf_counter()
    blake3.blake3(memoryview(array.view("u1")), key=bytes(32), max_threads=2).digest()
    return time.perf_counter() - begin


def main() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(BEFORE, namespace)
    namespace.update({f"v{n}": [n, {"a": n}] for n in range(200)})
    tracker = Tracker(namespace)
    begin = time.perf_counter()
    tracker.settle()
    print(f"everything looked at for the first time: {time.perf_counter() - begin:.2f} s")
    for what, source in CELLS.items():
        pairs = [(measured(tracker, source), floor(namespace["A"])) for _ in range(9)]
        ms = statistics.median(a for a, _ in pairs) * 1e3
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{what:34s} {ms:8.2f} ms, {ratio:5.2f} passes")
    for _ in range(500):
        measured(tracker, CELLS["a small dict changed"])
    ms = statistics.median(measured(tracker, CELLS["a small dict changed"]) for _ in range(9)) * 1e3
    print(f"{'a small dict, after 500 cells':34s} {ms:8.2f} ms")
    pairs = []
    for _ in range(5):
        begin = time.perf_counter()
        tracker.verify(10)
        pairs.append((time.perf_counter() - begin, floor(namespace["A"])))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{'all of it verified':34s} {statistics.median(a for a, _ in pairs) * 1e3:8.2f} ms, {ratio:5.2f} passes")


if __name__ == "__main__":
    main()
