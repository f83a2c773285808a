"""What must hold after every crash, read from the journal and from the log outside of the store."""

from __future__ import annotations

from typing import Any

from kitaru.client import Execution, KitaruClient
from kitaru.errors import NotFoundError
from kitaru.stores.base import Store

TURNS = 2


def step_of(execution: Execution, checkpoint: Any) -> str:
    """A checkpoint as the log outside calls it."""
    values = {name: a.preview["text"] for name, a in checkpoint.inputs.items()}
    what = {"turn": "n", "outer": "of", "fetch": "n"}.get(checkpoint.name)
    if checkpoint.name == "inner":
        return f"inner {values['of']}.{values['n']}"
    return f"{checkpoint.name} {values[what] if what else ''}"


def finished(store: Store, exec_id: str) -> dict[str, Any]:
    """The steps whose output is durable, and the ids that they drew."""
    try:
        execution = KitaruClient(store).executions.get(exec_id)
    except NotFoundError:
        return {}
    assert len({c.label for c in execution.checkpoints}) == len(execution.checkpoints), "a record was doubled"
    done = [c for c in execution.checkpoints if c.status == "completed"]
    return {step_of(execution, c): c.artifacts[0].load()["id"] for c in done}


def check_attempt(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """One attempt, from what it found finished to what it left finished, with what its bodies said."""
    began = [line.removeprefix("begin ") for line in lines if line.startswith("begin ")]
    got = {line.removeprefix("got ") for line in lines if line.startswith("got ")}
    assert not set(began) & set(before), f"finished steps ran again: {set(began) & set(before)}"
    assert len(began) == len(set(began)), f"a step ran twice in one attempt: {sorted(began)}"
    assert got <= set(after), f"told, and not durable: {got - set(after)}"
    assert before.items() <= after.items(), "what was recorded before has changed or is lost"


def check_result(result: dict[str, Any], done: dict[str, Any]) -> None:
    """The result is made of what the steps recorded, each once."""
    assert len(done) == TURNS + 2 + 4 + 3 + 1
    first, *rest = result["parts"]
    assert first["turns"] == [done[f"turn {n}"] for n in range(TURNS)]
    assert [f["id"] for f in rest[:3]] == [done[f"fetch {n}"] for n in range(3)]
    assert [o["id"] for o in rest[3:]] == [done[f"outer {n}"] for n in range(2)]
    assert [o["inner"] for o in rest[3:]] == [[done[f"inner {o}.{n}"] for n in range(2)] for o in range(2)]
    assert result["id"] == done["report "]
