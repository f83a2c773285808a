"""The flow of the crash campaigns: a loop, nesting, threads and gather; and the log that its bodies write outside.

Every body says `begin STEP` when it begins and every caller says `got STEP` once it holds a step's output. Outputs are
drawn at random, so that a step which ran twice shows in the result.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

from kitaru import checkpoint, flow

sink: dict[str, Callable[[str], None]] = {}
"""Where the bodies tell what they do: the campaign puts its `say` here."""


def say(line: str) -> None:
    sink["say"](line)


def to_file(path: str) -> Callable[[str], None]:
    """Lines that survive this process: one write each, to the end of the file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda line: void(os.write(fd, f"{line}\n".encode()))


def void(_: object) -> None:
    return None


def told(step: str, output: dict) -> dict:
    say(f"got {step}")
    return output


@checkpoint
def turn(n: int, so_far: list[str]) -> dict:
    say(f"begin turn {n}")
    return {"id": secrets.token_hex(4), "n": n, "before": len(so_far)}


@checkpoint
def inner(of: int, n: int) -> dict:
    say(f"begin inner {of}.{n}")
    return {"id": secrets.token_hex(4)}


@checkpoint
def outer(of: int) -> dict:
    say(f"begin outer {of}")
    ids = [told(f"inner {of}.{n}", inner(of, n))["id"] for n in range(2)]
    return {"id": secrets.token_hex(4), "inner": ids, "large": "x" * 40_000}


@checkpoint
async def fetch(n: int) -> dict:
    say(f"begin fetch {n}")
    await asyncio.sleep(0)
    return {"id": secrets.token_hex(4), "n": n}


@checkpoint(retries=1)
def report(parts: list[dict]) -> dict:
    say("begin report ")
    return {"id": secrets.token_hex(4), "parts": parts}


@flow
async def audit(turns: int) -> dict:
    ids: list[str] = []
    for n in range(turns):
        ids.append(told(f"turn {n}", turn(n, ids))["id"])
    futures = outer.map(range(2))
    fetched = await asyncio.gather(*[fetch(n) for n in range(3)])
    for n, f in enumerate(fetched):
        told(f"fetch {n}", f)
    nested = [told(f"outer {n}", await future) for n, future in enumerate(futures)]
    parts = [{"turns": ids}, *fetched, *({"id": o["id"], "inner": o["inner"]} for o in nested)]
    return told("report ", report(parts))
