"""DBOS with its default SQLite system database: a step's output is committed before the next one begins."""

from __future__ import annotations

import asyncio
from typing import Any

from dbos import DBOS, SetWorkflowID
from plan import FIRST, NAP, WORKERS, Dies, entered, expected, gaps, main, now, payload

BODY: list[Any] = [entered]


@DBOS.step()
def step(x: dict, i: int) -> dict:
    return BODY[0](x, i)


@DBOS.workflow()
def chain(n: int) -> str:
    x = FIRST
    for i in range(n):
        x = step(x, i)
    return x["h"]


@DBOS.step()
async def nap(i: int) -> dict:
    await asyncio.sleep(NAP)
    return payload(FIRST, i)


@DBOS.workflow()
async def naps(n: int) -> int:
    """As coroutines: its queue of workflows, the other way, takes longer."""
    room = asyncio.Semaphore(WORKERS)

    async def one(i: int) -> dict:
        async with room:
            return await nap(i)

    return len(await asyncio.gather(*(one(i) for i in range(n))))


def launch(folder: str) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/x.db",
            "log_level": "ERROR",
            "application_version": "1",
            "run_admin_server": False,
        }
    )
    DBOS.launch()


def steps(folder: str, n: int) -> dict[str, Any]:
    launch(folder)
    assert chain(n) == expected(n)
    figure = gaps()
    DBOS.destroy()
    return figure


def fan(folder: str, n: int) -> dict[str, Any]:
    async def run() -> float:
        await naps(WORKERS)
        began = now()
        assert await naps(n) == n
        return now() - began

    launch(folder)
    seconds = asyncio.run(run())
    DBOS.destroy()
    return {"seconds": seconds}


def resume(folder: str, n: int) -> dict[str, Any]:
    """The second process only launches: DBOS finds the workflow that was under way by itself."""
    ready = now()
    BODY[0] = dies = Dies(folder, n)
    launch(folder)
    if dies.resumed:
        assert DBOS.retrieve_workflow("chain").get_result() == expected(n)
    else:
        with SetWorkflowID("chain"):
            chain(n)
    DBOS.destroy()
    return dies.figure(ready)


if __name__ == "__main__":
    main({"steps": steps, "fan": fan, "resume": resume})
