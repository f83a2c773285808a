"""What a REF names for a notebook: a step as its branch has it, wherever that was recorded."""

from __future__ import annotations

from dataclasses import replace

from kitaru.client import Artifact, Checkpoint, Execution, KitaruClient
from kitaru.errors import InvalidNameError, NotFoundError
from kitaru.sessions import Step

__all__ = ["BranchStep", "along", "owner_of"]


class BranchStep(Checkpoint):
    """A step as a branch has it: with what was edited of it, and its code wherever that stands."""

    def __init__(self, execution: Execution, step: Step) -> None:
        super().__init__(execution, replace(step.data, outputs=step.outputs))
        self._text = step.source

    @property
    def source(self) -> str | None:
        """The text of its cell."""
        return self._text or super().source


def owner_of(execution: Execution, step: Step) -> Execution:
    """The execution that a step of this one's branch stands in; this one itself where it was edited here."""
    if step.edited or step.exec_id == execution.exec_id:
        return execution
    return KitaruClient(execution.store).executions.get(step.exec_id)


def along(client: KitaruClient, exec_id: str, ref: str) -> Checkpoint | Artifact | None:
    """What a REF names on the branch of a notebook's execution; else on those of what it was forked from.

    ``@3`` is the third step of the branch itself, as a log of it counts. None where they have no such step, or it is
    an execution of a flow.

    Raises
    ------
    NotFoundError
        The step has no such input or output; the message says which it has.
    """
    name: str | None = exec_id
    while name is not None:
        execution = client.executions.get(name)
        if not execution.data.begun.by_hand or "@" in ref[1:]:
            return None
        branch = execution.branch()
        try:
            step = branch.steps[branch.place_of(ref)]
        except InvalidNameError:
            return None
        except NotFoundError:
            if ref.startswith("@"):
                raise
            name = execution.forked_from
            continue
        return _part(client, BranchStep(owner_of(execution, step), step), step, ref)
    return None


def _part(client: KitaruClient, found: Checkpoint, step: Step, ref: str) -> Checkpoint | Artifact | None:
    path, _, rest = ref.partition(".")
    if "/" in path:  # a step inside of it, which stands where it was recorded
        thing = client.look_up(f"{step.exec_id}:{ref}")
        return None if isinstance(thing, Execution) else thing
    if not rest:
        return found
    of_input = rest.startswith("in.")
    values = found.inputs if of_input else {a.name.removeprefix(f"{found.label}."): a for a in found.artifacts}
    wanted = rest.removeprefix("in.") if of_input else rest
    if wanted not in values:
        kind = "input" if of_input else "output"
        raise NotFoundError(f"{found.label} has no {kind} {wanted}; it has: {', '.join(values) or 'none'}")
    return values[wanted]
