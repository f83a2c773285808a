"""What every peer is asked to do, and how it is timed. The standard library alone: it runs in each peer's environment.

A peer's script is called as `python peer_NAME.py WORKLOAD --folder FOLDER --n N` and prints one line of JSON. Its
workloads are the functions it hands to `main`:

steps   a chain of N steps, each of which makes 1 KB from the 1 KB before it: the seconds from each entry to the next
fan     N independent steps that sleep for 50 ms, 16 at a time: seconds in all
resume  a chain of N finished steps, in whose last step the process was killed: seconds from the end of the imports to
        that step's entry. Called twice on one folder: the first call is the one that dies

All of them durable, on a folder or SQLite, as their documentation has it for one machine; telemetry off.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

WORKERS, NAP = 16, 0.05
FIRST: dict[str, Any] = {"i": -1, "h": "0" * 64, "text": ""}

now = time.perf_counter
ENTERED: list[float] = []
"""When each step's body was entered, in this process."""


def payload(before: dict[str, Any], i: int) -> dict[str, Any]:
    """What a step does: about 1 KB that depends on the step before."""
    h = hashlib.sha256(f"{before['h']}:{i}".encode()).hexdigest()
    return {"i": i, "h": h, "text": h * 14}


def expected(n: int) -> str:
    """What a chain of `n` steps must come to, so that nobody is fast by being wrong."""
    x = FIRST
    for i in range(n):
        x = payload(x, i)
    return str(x["h"])


def entered(before: dict[str, Any], i: int) -> dict[str, Any]:
    """A step's body: note the time, then work."""
    ENTERED.append(now())
    return payload(before, i)


class Dies:
    """A step's body whose process is killed in step `n - 1`, once for each folder."""

    def __init__(self, folder: str, n: int) -> None:
        self.n, self.mark = n, os.path.join(folder, "died")
        self.resumed = os.path.exists(self.mark)

    def __call__(self, before: dict[str, Any], i: int) -> dict[str, Any]:
        ENTERED.append(now())
        if i == self.n - 1 and not self.resumed:
            os.close(os.open(self.mark, os.O_CREAT))
            os._exit(9)
        return payload(before, i)

    def figure(self, ready: float) -> dict[str, Any]:
        """Seconds from `ready` to the step that had died, and how many steps ran a second time before it."""
        return {"seconds": ENTERED[-1] - ready, "again": len(ENTERED) - 1}


def gaps() -> dict[str, Any]:
    """The figure of `steps`; call it when the flow has just ended."""
    times = [*ENTERED, now()]
    return {"steps": [b - a for a, b in pairwise(times)]}


def main(workloads: dict[str, Callable[[str, int], dict[str, Any]]]) -> None:
    """Carry out the workload that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(workloads))
    parser.add_argument("--folder", required=True)
    parser.add_argument("--n", type=int, required=True)
    asked = parser.parse_args()
    print(json.dumps(workloads[asked.workload](asked.folder, asked.n)), flush=True)
