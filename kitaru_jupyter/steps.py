"""What is bound in `step`: one step of an execution that was opened, with all that is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kitaru.client import Artifact, Checkpoint, Execution, KitaruClient

from . import display as faces

__all__ = ["NAME", "OpenedStep", "Recorded", "opened_line", "step_of"]

NAME = "step"
"""The variable that it is bound in."""


class Recorded(Mapping[str, Any]):
    """Recorded values by name; each is loaded when it is asked for, once. Names are attributes as well."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts, self._loaded = dict(artifacts), dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._artifacts[name].load()
        return self._loaded[name]

    def __getattr__(self, name: str) -> Any:
        if name[:1] != "_" and name in self._artifacts:
            return self[name]
        there = ", ".join(self._artifacts) or "nothing"
        raise AttributeError(f"nothing is recorded under {name}; there is: {there}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._artifacts if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return [*self._artifacts]

    def __repr__(self) -> str:
        return faces.values(self._artifacts).text

    def _repr_html_(self) -> str:
        return faces.values(self._artifacts).html


class OpenedStep:
    """A step of an execution.

    Attributes
    ----------
    ref, name, status : str
        Its path, ``classify#2``; its name; ``pending`` where the execution paused before it, else as
        `kitaru.client.Checkpoint` has it.
    inputs, outputs : Recorded
        What it was called with, and what it gave.
    error : Failure or None
        What it failed with: its type's name, message and traceback.
    source : str or None
        The text of its function, as it was recorded.
    metadata : dict
        What its body logged.
    took : float or None
        Seconds of its last attempt.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.ref, self.name, self.status = checkpoint.label, checkpoint.name, checkpoint.status
        self.inputs = Recorded(checkpoint.inputs)
        names = [name for name, _ in checkpoint.data.outputs]
        self.outputs = Recorded(dict(zip(names, checkpoint.artifacts, strict=True)))
        self.error, self.source = checkpoint.failure, checkpoint.source
        self.metadata = checkpoint.metadata
        self.took = checkpoint.data.took if checkpoint.data.ended is not None else None

    def __repr__(self) -> str:
        return faces.checkpoint(self.checkpoint).text

    def _repr_html_(self) -> str:
        return faces.checkpoint(self.checkpoint).html


def step_of(execution: Execution) -> Checkpoint | None:
    """The step that a person wants to see first: the one that failed, or before which it paused; else the last one.

    Of a fork that has not run it is that of its origin.
    """
    if execution.next_step is not None:
        return execution.next_step
    checkpoints = execution.checkpoints
    wanted = _failed_cell(checkpoints) if execution.data.begun.by_hand else execution.failed_at
    if wanted is not None:
        return next((c for c in reversed(checkpoints) if c.label == wanted), None)
    if not checkpoints and execution.forked_from is not None:
        return step_of(KitaruClient(execution.store).executions.get(execution.forked_from))
    in_flight = [c for c in checkpoints if c.status == "interrupted"]
    shown = in_flight or checkpoints
    return shown[-1] if shown else None


def _failed_cell(checkpoints: list[Checkpoint]) -> str | None:
    """Where a notebook's newest cell failed: in itself, or in a step that it called. None: it did not."""
    cell = next((c for c in reversed(checkpoints) if "/" not in c.label), None)
    if cell is None or cell.failure is None:
        return None
    same = [c for c in checkpoints if c.label.startswith(f"{cell.label}/") and c.failure is not None]
    told = cell.failure.summary()
    return next((c.label for c in reversed(same) if c.failure and c.failure.summary() == told), cell.label)


def opened_line(execution: Execution, step: Checkpoint | None) -> str:
    """What an execution is, in one line. `notebooks/sanitize.cfg` masks the exec_id that it begins with."""
    name, status = faces.line(execution.exec_id), execution.status.value
    checkpoints = execution.checkpoints
    if execution.data.begun.by_hand:
        steps = len(checkpoints)
        what = f"{steps} step{'' if steps == 1 else 's'}"
        return f"{name} is a notebook's, {status}, with {what}; %kitaru checkout brings its variables back"
    if step is None:
        return f"{name} is an execution of {faces.line(execution.flow)}, {status}; it has no step"
    label = faces.line(step.label)
    if not checkpoints and execution.forked_from is not None and execution.next_step is None:
        return (
            f"{name} is a fork that has not run; {label} of its origin is in `{NAME}`, and %kitaru plan says the rest"
        )
    inputs = f"its inputs are in `{NAME}`"
    if step.status == "pending":
        return f"{name} paused before {label}; {inputs}"
    if execution.failed_at == step.label:
        return f"{name} failed at {label}; {inputs}"
    if status == "waiting":
        return f"{name} waits in {label}; {inputs}"
    if step.status == "interrupted":
        return f"{name} was interrupted in {label}; {inputs}"
    said = {"failed": "failed in the flow's own code", "interrupted": "was interrupted", "cancelled": "was cancelled"}
    what = said.get(status, status if status == "completed" else f"is {status}")
    return f"{name} {what}; its last step, {label}, is in `{NAME}`"
