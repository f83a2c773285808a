"""The flows that are measured. Each notes when its steps are entered: a step's cost is the time to the next one."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

from benchmarks.floors import PAYLOAD
from kitaru import checkpoint, flow

ENTERED: list[float] = []
BROKEN = [False]
"""Whether the last step of `stops` fails: a run that is to be resumed."""


@checkpoint
def small(x: dict[str, Any], i: int) -> dict[str, Any]:
    ENTERED.append(time.perf_counter())
    return {**x, "i": i}


@checkpoint
def last(x: dict[str, Any]) -> dict[str, Any]:
    ENTERED.append(time.perf_counter())
    if BROKEN[0]:
        raise RuntimeError("stop here")
    return x


@checkpoint
async def small_async(x: dict[str, Any], i: int) -> dict[str, Any]:
    return {**x, "i": i}


@checkpoint
def nap(i: int) -> dict[str, Any]:
    time.sleep(0.05)
    return {**PAYLOAD, "i": i}


@flow
def chain(n: int) -> int:
    x = PAYLOAD
    for i in range(n):
        x = small(x, i)
    return len(x)


@flow
def stops(n: int) -> int:
    ENTERED.append(time.perf_counter())
    x = PAYLOAD
    for i in range(n):
        x = small(x, i)
    last(x)
    return n


@flow
async def wide(n: int) -> int:
    return len(await asyncio.gather(*(small_async(PAYLOAD, i) for i in range(n))))


@flow
def fan(n: int) -> int:
    return len([future.result() for future in nap.map(range(n))])


def steps_of(n: int) -> list[float]:
    """Seconds from each step's entry to the next one's, in a chain of `n`."""
    ENTERED.clear()
    chain.run(n)
    settle()
    return [b - a for a, b in pairwise(ENTERED)]


def settle() -> None:
    """Wait for the lineage of a long run, which is stored while the next one would be timed already."""
    for thread in threading.enumerate():
        if thread.name.startswith("kitaru-lineage"):
            thread.join()
