"""The cells that a notebook's peers are asked to run, and how they are timed: IPython, NumPy and pandas alone.

A peer's script is called as `python peer_NAME.py --folder FOLDER --megabytes N` and prints one line of JSON: by what a
cell does, the seconds that each such cell took, whole, and the bytes that the folder grew by.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

SETUP = (
    "import numpy as np, pandas as pd",
    "A = np.random.default_rng(0).random({megabytes} * 125_000)",
    """DF = pd.DataFrame(np.random.default_rng(1).random(({megabytes} * 10_000, 8)), columns=list("abcdefgh"))
DF["s"] = [f"s{{i % 1000}}" for i in range({megabytes} * 10_000)]""",
    'd = {{"n": 0, "t": "x" * 1000}}',
)
TURNS, MANY = 3, 100


class Peer(Protocol):
    """A kernel that is checkpointed by somebody."""

    def place(self) -> Any:
        """Where it stands: something to go back to."""

    def go(self, place: Any) -> None:
        """Go back there."""


def shell() -> Any:
    """A real IPython shell in this process, without a history on the disk."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    made.history_manager.enabled = False
    made.displayhook.quiet = lambda: True  # the peers print one line of JSON
    return made


def size(folder: str) -> int:
    """Bytes in all files of a folder."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def main(peer: Callable[[Any, str], Peer]) -> None:
    """Run the cells with a peer that was made from the shell and the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--megabytes", type=int, required=True)
    asked = parser.parse_args()
    ip = shell()
    kernel = peer(ip, asked.folder)
    took: dict[str, list[float]] = {}
    grown: dict[str, list[int]] = {}

    def cell(what: str, code: str) -> None:
        os.sync()
        before = size(asked.folder)
        began = time.perf_counter()
        result = ip.run_cell(code, store_history=True)
        took.setdefault(what, []).append(time.perf_counter() - began)
        result.raise_error()
        grown.setdefault(what, []).append(size(asked.folder) - before)

    def back(what: str, place: Any) -> None:
        began = time.perf_counter()
        kernel.go(place)
        took.setdefault(what, []).append(time.perf_counter() - began)

    for code in SETUP:
        cell("setup", code.format(megabytes=asked.megabytes))
    names = ip.user_ns
    for i in range(TURNS):
        cell("none", f"{i} + 1")
        cell("dict", f"d['n'] = {i}")
        cell("read", f"float(A[{i}])")
        cell("element", f"A[5] = {i} + 0.5")
        cell("all", f"A *= 1 + 1e-3 * {i + 1}")
    for i in range(MANY):
        cell("many", f"d['n'] = {i} + 1000")
    took["late"], grown["late"] = took["many"][-10:], grown["many"][-10:]
    arrays, dicts = [(kernel.place(), float(names["A"][0]))], []
    cell("all", "A *= 1.5")
    arrays.append((kernel.place(), float(names["A"][0])))
    dicts.append((kernel.place(), names["d"]["n"]))
    cell("dict", "d['n'] = -1")
    dicts.append((kernel.place(), names["d"]["n"]))
    for _ in range(TURNS):
        for place, value in dicts:
            back("to dict", place)
            assert names["d"]["n"] == value
    back("to the first", dicts[0][0])
    for _ in range(TURNS):
        for place, value in arrays:
            back("to array", place)
            assert float(names["A"][0]) == value
    print(json.dumps({"took": took, "grown": grown}), flush=True)
