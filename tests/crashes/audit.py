"""The flow of the crash campaigns, and the log that its bodies write outside.

It has a loop, nesting, threads and gather; a large input and large outputs; a failure that the flow catches, an attempt
that fails and its retry; and it saves and logs, in its own body and in a step's.

Every body says `begin STEP` when it begins, and `failed STEP` when it fails; every caller says `got STEP` once it holds
a step's output or has caught its failure. Outputs are drawn at random, so that a step which ran twice shows in the
result.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from kitaru import checkpoint, flow, log, save

from ..large import noise

sink: dict[str, Callable[[str], int]] = {}
"""Where the bodies tell what they do: the campaign puts its `say` here."""


def say(line: str) -> int:
    """Tell it. Gives how often this execution told it by now, in all of its attempts."""
    return sink["say"](line)


def to_file(path: str) -> Callable[[str], int]:
    """Lines that survive this process: one write each, to the end of the file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(line: str) -> int:
        os.write(fd, f"{line}\n".encode())
        return Path(path).read_text().splitlines().count(line)

    return tell


def told(step: str, output: dict) -> dict:
    say(f"got {step}")
    return output


def drawn(**more: object) -> dict:
    """An output that no other body gives."""
    return {"id": secrets.token_hex(4), **more}


@checkpoint
def turn(n: int, so_far: list[str]) -> dict:
    say(f"begin turn {n}")
    return drawn(n=n, before=len(so_far))


@checkpoint
def fragile(n: int) -> dict:
    say("begin fragile ")
    say("failed fragile ")
    raise ValueError(f"refused {n}")


@checkpoint
def weigh(data: bytes) -> dict:
    say("begin weigh ")
    return drawn(size=len(data))


@checkpoint
def inner(of: int, n: int) -> dict:
    say(f"begin inner {of}.{n}")
    return drawn()


@checkpoint
def outer(of: int) -> dict:
    say(f"begin outer {of}")
    ids = [told(f"inner {of}.{n}", inner(of, n))["id"] for n in range(2)]
    return drawn(inner=ids, large=noise(80_000, of))


@checkpoint
async def fetch(n: int) -> dict:
    say(f"begin fetch {n}")
    await asyncio.sleep(0)
    return drawn(n=n)


@checkpoint(retries=1)
def flaky() -> dict:
    """Its first try in the whole of an execution fails, after it has saved and logged."""
    first = say("begin flaky ") == 1
    output = drawn()
    save("draft", {**output, "data": noise(70_000)})
    log(tokens=1)
    if first:
        say("failed flaky ")
        raise ConnectionError("the first time it does not work")
    return output


@checkpoint(retries=1)
def report(parts: list[dict]) -> dict:
    say("begin report ")
    return drawn(parts=parts)


@flow
async def audit(turns: int) -> dict:
    ids: list[str] = []
    for n in range(turns):
        ids.append(told(f"turn {n}", turn(n, ids))["id"])
    save("ids", [*ids])
    log(tokens=turns)
    try:
        fragile(turns)
        refused = ""
    except ValueError as e:
        refused = str(e)
        say("got fragile ")
    weighed = told("weigh ", weigh(noise(75_000, "w")))
    futures = outer.map(range(2))
    fetched = await asyncio.gather(*[fetch(n) for n in range(3)])
    for n, f in enumerate(fetched):
        told(f"fetch {n}", f)
    nested = [told(f"outer {n}", await future) for n, future in enumerate(futures)]
    retried = told("flaky ", flaky())
    parts = [{"turns": ids, "refused": refused}, *fetched, *({"id": o["id"], "inner": o["inner"]} for o in nested)]
    return told("report ", report([*parts, weighed, retried]))
