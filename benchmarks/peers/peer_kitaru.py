"""Kitaru on a folder, asked the very same as the others."""

from __future__ import annotations

import time
from typing import Any

from plan import FIRST, NAP, WORKERS, Dies, entered, expected, gaps, main, now, payload

import kitaru
from kitaru import checkpoint, flow

BODY = [entered]


@checkpoint
def step(x: dict, i: int) -> dict:
    return BODY[0](x, i)


@flow
def chain(n: int) -> str:
    x = FIRST
    for i in range(n):
        x = step(x, i)
    return x["h"]


@checkpoint
def nap(i: int) -> dict:
    time.sleep(NAP)
    return payload(FIRST, i)


@flow
def naps(n: int) -> int:
    return len([future.result() for future in nap.map(range(n))])


def steps(folder: str, n: int) -> dict[str, Any]:
    kitaru.connect(folder)
    assert chain.run(n).get() == expected(n)
    return gaps()


def fan(folder: str, n: int) -> dict[str, Any]:
    kitaru.connect(folder)
    run = naps.options(max_workers=WORKERS).run
    run(WORKERS)
    began = now()
    assert run(n).get() == n
    return {"seconds": now() - began}


def resume(folder: str, n: int) -> dict[str, Any]:
    ready = now()
    kitaru.connect(f"{folder}/store")
    BODY[0] = dies = Dies(folder, n)
    assert chain.options(exec_id="chain").run(n).get() == expected(n)
    return dies.figure(ready)


if __name__ == "__main__":
    main({"steps": steps, "fan": fan, "resume": resume})
