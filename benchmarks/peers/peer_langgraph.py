"""LangGraph's functional API with SqliteSaver and durability="sync": a task's result is committed before the next."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from plan import FIRST, NAP, WORKERS, Dies, entered, expected, gaps, main, now, payload


def chain(saver: SqliteSaver, body: Any, n: int) -> Any:
    @task
    def step(x: dict, i: int) -> dict:
        return body(x, i)

    @entrypoint(checkpointer=saver)
    def run(x: dict) -> str:
        for i in range(n):
            x = step(x, i).result()
        return x["h"]

    return run


def config(thread: str = "1") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}, "max_concurrency": WORKERS}


def steps(folder: str, n: int) -> dict[str, Any]:
    with SqliteSaver.from_conn_string(f"{folder}/x.db") as saver:
        assert chain(saver, entered, n).invoke(FIRST, config(), durability="sync") == expected(n)
        return gaps()


def fan(folder: str, n: int) -> dict[str, Any]:
    @task
    def nap(i: int) -> dict:
        time.sleep(NAP)
        return payload(FIRST, i)

    with SqliteSaver.from_conn_string(f"{folder}/x.db") as saver:

        @entrypoint(checkpointer=saver)
        def run(n: int) -> int:
            return len([future.result() for future in [nap(i) for i in range(n)]])

        run.invoke(WORKERS, config("warm"), durability="sync")
        began = now()
        assert run.invoke(n, config(), durability="sync") == n
        return {"seconds": now() - began}


def resume(folder: str, n: int) -> dict[str, Any]:
    ready = now()
    dies = Dies(folder, n)
    with SqliteSaver.from_conn_string(f"{folder}/x.db") as saver:
        given = None if dies.resumed else FIRST
        assert chain(saver, dies, n).invoke(given, config(), durability="sync") == expected(n)
        return dies.figure(ready)


if __name__ == "__main__":
    main({"steps": steps, "fan": fan, "resume": resume})
