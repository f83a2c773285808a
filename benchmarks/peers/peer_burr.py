"""Burr with its SQLitePersister: the state is saved after each action. It has no durable steps side by side."""

from __future__ import annotations

from typing import Any

from burr.core import ApplicationBuilder, State, action, expr
from burr.core.persistence import SQLitePersister
from plan import FIRST, Dies, entered, expected, gaps, main, now

BODY: list[Any] = [entered]


@action(reads=["x", "i"], writes=["x", "i"])
def step(state: State) -> State:
    i = state["i"]
    return state.update(x=BODY[0](state["x"], i), i=i + 1)


@action(reads=[], writes=[])
def done(state: State) -> State:
    return state


def chain(folder: str, n: int) -> str:
    saver = SQLitePersister(f"{folder}/x.db")
    saver.initialize()
    application = (
        ApplicationBuilder()
        .with_actions(step=step, done=done)
        .with_transitions(("step", "done", expr(f"i >= {n}")), ("step", "step"))
        .with_identifiers(app_id="chain")
        .initialize_from(
            saver, resume_at_next_action=True, default_state={"x": FIRST, "i": 0}, default_entrypoint="step"
        )
        .with_state_persister(saver)
        .build()
    )
    return application.run(halt_after=["done"])[2]["x"]["h"]


def steps(folder: str, n: int) -> dict[str, Any]:
    assert chain(folder, n) == expected(n)
    return gaps()


def resume(folder: str, n: int) -> dict[str, Any]:
    ready = now()
    BODY[0] = dies = Dies(folder, n)
    assert chain(folder, n) == expected(n)
    return dies.figure(ready)


if __name__ == "__main__":
    main({"steps": steps, "resume": resume})
