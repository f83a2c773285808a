"""What must hold after every crash, read from the journal and from the log outside of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kitaru.client import Execution, KitaruClient
from kitaru.errors import NotFoundError
from kitaru.stores.base import Entry, Store

from ..large import noise

TURNS = 2
ASKED = {"turn": "n", "outer": "of", "fetch": "n"}
FLOW = {f"turn {n}" for n in range(TURNS)} | {f"outer {n}" for n in range(2)} | {f"fetch {n}" for n in range(3)}
FLOW |= {"fragile ", "weigh ", "flaky ", "report "}
INNER = {f"inner {of}.{n}" for of in range(2) for n in range(2)}
REFUSED = f"refused {TURNS}"


@dataclass(frozen=True)
class Seen:
    """An execution as it stood after one attempt.

    `done`: the steps that must never run again, and the ids that they drew. `failed`: those whose failure is durable.
    """

    done: dict[str, Any] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    ended: bool = False


class ReadOnce:
    """A store as the oracle reads it: what can never change is read once, and listed each time."""

    def __init__(self, inner: Store) -> None:
        self.inner, self._held = inner, dict[str, bytes]()
        self.url, self.now, self.put = inner.url, inner.now, inner.put
        self.put_if_absent, self.delete = inner.put_if_absent, inner.delete

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        if not ("/journal/" in key or key.startswith("blobs/")) or (start, end) != (None, None):
            return self.inner.get(key, start=start, end=end)
        if key not in self._held:
            self._held[key] = self.inner.get(key)
        return self._held[key]

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        return self.inner.list(prefix, after=after)


def step_of(checkpoint: Any) -> str:
    """A checkpoint as the log outside calls it."""
    values = {name: a.preview["text"] for name, a in checkpoint.inputs.items() if "text" in a.preview}
    if checkpoint.name == "inner":
        return f"inner {values['of']}.{values['n']}"
    what = ASKED.get(checkpoint.name)
    return f"{checkpoint.name} {values[what] if what else ''}"


def look(store: Store, exec_id: str) -> Seen:
    """Read it, with every value that a record names: each must be there before its record is."""
    try:
        execution = KitaruClient(store).executions.get(exec_id)
    except NotFoundError:
        return Seen()
    found = {step_of(c): c for c in execution.checkpoints}
    assert len(found) == len(execution.checkpoints) == len({c.label for c in execution.checkpoints}), "a double record"
    for c in execution.checkpoints:
        for a in c.inputs.values():
            a.load()
    done = {step: c.artifacts[0].load()["id"] for step, c in found.items() if c.status == "completed"}
    failed = frozenset(step for step, c in found.items() if c.status == "failed")
    if "weigh " in found:  # the flow was handed that failure, and went on
        assert "fragile " in failed
        done["fragile "] = REFUSED
    check_notes(execution, found, done)
    return Seen(done, failed, execution.status.is_finished)


def check_notes(execution: Execution, found: dict[str, Any], done: dict[str, Any]) -> None:
    """What was saved and logged is there once, with what follows it; of a body that ran again only the last try's."""
    saved = {(s.label, s.name): a.load() for s, a in zip(execution.data.saved, execution.artifacts, strict=False)}
    assert len(saved) == len(execution.data.saved), "saved twice"
    assert set(saved) <= {("", "ids"), ("flaky#1", "draft")}
    metadata = execution.data.metadata
    assert metadata in ({}, {"tokens": TURNS}), "logged twice"
    if "fragile " in found:
        assert metadata
        assert ("", "ids") in saved
    if ("", "ids") in saved:
        assert saved["", "ids"] == [done[f"turn {n}"] for n in range(TURNS)]
    if "flaky " in found:
        assert found["flaky "].metadata in ({}, {"tokens": 1})
    if "flaky " in done:
        assert saved["flaky#1", "draft"] == {"id": done["flaky "], "data": noise(70_000)}
        assert found["flaky "].metadata == {"tokens": 1}


def check_attempt(before: Seen, after: Seen, lines: list[str]) -> None:
    """One attempt, from what it found finished to what it left finished, with what its bodies said."""
    assert {line.split(" ")[0] for line in lines} <= {"begin", "failed", "got"}
    began, failed, got = (
        Counter(line.removeprefix(verb) for line in lines if line.startswith(verb))
        for verb in ("begin ", "failed ", "got ")
    )
    assert not (again := set(began) & set(before.done)), f"finished steps ran again: {again}"
    for step, count in began.items():
        tries = 1 + failed[step] if step == "flaky " else 1
        assert count <= tries, f"{step} ran {count} times in one attempt"
    assert set(failed) <= {"flaky ", "fragile "}
    assert max(got.values(), default=0) <= 1, f"told twice in one attempt: {got}"
    assert set(got) <= set(after.done) | after.failed, f"told, and not durable: {set(got) - set(after.done)}"
    assert set(got) <= set(before.done) | set(began), f"told of what never ran: {set(got) - set(began)}"
    assert all(lines.index(f"begin {s}") < lines.index(f"got {s}") for s in set(got) & set(began))
    assert before.done.items() <= after.done.items(), "what was recorded before has changed or is lost"
    if before.ended:
        assert not lines
    elif after.ended:
        assert FLOW <= set(got), f"it ended, and was never told of {FLOW - set(got)}"


def check_result(result: dict[str, Any], seen: Seen) -> None:
    """The result is made of what the steps recorded, each once."""
    done = seen.done
    assert seen.ended
    assert set(done) == FLOW | INNER
    first, *rest = result["parts"]
    assert first == {"turns": [done[f"turn {n}"] for n in range(TURNS)], "refused": REFUSED}
    assert [f["id"] for f in rest[:3]] == [done[f"fetch {n}"] for n in range(3)]
    assert [o["id"] for o in rest[3:5]] == [done[f"outer {n}"] for n in range(2)]
    assert [o["inner"] for o in rest[3:5]] == [[done[f"inner {o}.{n}"] for n in range(2)] for o in range(2)]
    assert rest[5:] == [{"id": done["weigh "], "size": 75_000}, {"id": done["flaky "]}]
    assert result["id"] == done["report "]
