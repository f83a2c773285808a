"""What lies before the person: one execution, one step of it, perhaps a value that is being edited.

It reads the store and gives plain state; it changes nothing that is recorded, and knows of no front end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.client import Artifact, Checkpoint, Execution, KitaruClient
from kitaru.errors import KitaruError, NotFoundError

from .. import questions
from . import forms, lines, sight

__all__ = ["Desk"]

State = dict[str, Any]

_LISTED = 500
_MOST_DRAWN = 5_000  # steps of an execution that is drawn: beyond that the layout takes seconds


class Desk:
    """The execution that is looked at, as it stood when it was last read.

    Parameters
    ----------
    client
        Of the store that is looked at.
    named
        Gives what an execution is called in a line of the notebook.
    """

    def __init__(self, client: KitaruClient, named: Callable[[Execution], str]) -> None:
        self.client, self.named = client, named
        self.execution: Execution | None = None
        self.shown: Execution | None = None  # whose steps are shown: the execution's, or its origin's
        self.plan: Any = None
        self._picture: Any = None

    @property
    def name(self) -> str:
        """What the execution is called in a line of the notebook."""
        assert self.execution is not None
        return self.named(self.execution)

    def executions(self) -> State:
        """The list on the left."""
        found = self.client.executions.list(limit=_LISTED + 1)
        return {"rows": sight.executions(found[:_LISTED]), "more": len(found) > _LISTED}

    def open(self, exec_id: str) -> State:
        """Look at this execution. Its state, with its picture."""
        execution = self.client.executions.get(exec_id)
        origin = self._origin(execution)
        plan = None
        if origin is not None:
            plan = self.client.executions.plan(execution.exec_id)
        elif execution.forked_from is not None and not execution.data.begun.by_hand:
            plan = execution.explain()
        self.execution, self.shown, self.plan = execution, origin or execution, plan
        state = sight.opened(execution, plan=plan, origin=origin)
        waits = [] if execution.status.is_finished else questions.pending(execution)
        return {**state, "waits": sight.waits(execution.exec_id, self.name, waits), **self._drawn(state)}

    def _origin(self, execution: Execution) -> Execution | None:
        """What a fork that has not run yet was forked from; None of anything else."""
        if execution.data.begun.by_hand or execution.forked_from is None or execution.checkpoints:
            return None
        origin = self.client.executions.get(execution.forked_from)
        return self._origin(origin) or origin

    def _drawn(self, state: State, chosen: str | None = None) -> State:
        """The picture as SVG for a place inside of a page, and the REFs in it; empty where there is none."""
        assert self.shown is not None
        if not state["steps"] or len(state["steps"]) > _MOST_DRAWN:
            return {"picture": "", "order": [], "alt": ""}
        from ..picture import picture

        marks = state["marks"]
        graph = self.shown.lineage()
        try:
            drawn = picture(graph, inline=True, chosen=chosen, **marks)
        except KitaruError:  # somebody's store: what is recorded need not hang together
            return {"picture": "", "order": [], "alt": ""}
        return {"picture": drawn.svg, "order": drawn.order, "alt": drawn.alt}

    def still(self) -> Any:
        """The picture that stays where no kernel is; None where nothing can be drawn."""
        if self.shown is None or not self.shown.checkpoints or len(self.shown.checkpoints) > _MOST_DRAWN:
            return None
        from ..picture import picture

        try:
            return picture(self.shown.lineage())
        except KitaruError:
            return None

    def checkpoint(self, ref: str) -> Checkpoint:
        """The step that a REF of what is shown names, or that its value is of."""
        found = self._find(ref)
        if isinstance(found, Artifact):
            label = found.name.partition(".")[0] if "." in found.name else found.name
            following = found.execution.next_step
            there = [*found.execution.checkpoints, *([] if following is None else [following])]
            found = next((c for c in there if c.label == label), None) or found
        if not isinstance(found, Checkpoint):
            raise NotFoundError(f"{ref} is no step")
        return found

    def artifact(self, ref: str) -> Artifact:
        """The value that a REF of what is shown names."""
        found = self._find(ref)
        if not isinstance(found, Artifact):
            raise NotFoundError(f"{ref} is no value")
        return found

    def _find(self, ref: str) -> Execution | Checkpoint | Artifact:
        assert self.shown is not None
        full = ref if ":" in ref else f"{self.shown.exec_id}:{ref}"
        return self.client.look_up(full)

    def has(self, ref: str) -> bool:
        """Whether there is such a step or value in what is shown."""
        try:
            self._find(ref)
        except KitaruError:
            return False
        return True

    def value(self, ref: str) -> State:
        """A value in full."""
        return sight.value(self._as_edited(self.artifact(ref)))

    def step(self, ref: str) -> State:
        """The step on the right. A REF of a value chooses its step, and points at the value."""
        found = self._find(ref)
        if isinstance(found, Artifact):
            return self._of_value(found)
        checkpoint = self.checkpoint(ref)
        return {**sight.step(checkpoint, edited=self._edits(checkpoint)), "value": None}

    def _of_value(self, artifact: Artifact) -> State:
        try:
            checkpoint = self.checkpoint(f"{artifact.execution.exec_id}:{artifact.name}")
            state = sight.step(checkpoint, edited=self._edits(checkpoint), chosen=artifact.name)
        except NotFoundError:  # the result, an input of the flow, something saved
            state = sight.alone(artifact)
        return {**state, "value": sight.value(self._as_edited(artifact))}

    def _edits(self, checkpoint: Checkpoint) -> dict[str, Artifact]:
        """What a fork that has not run yet puts in the place of what a step of its origin read or bound; by REF."""
        execution = self.execution
        if execution is None or checkpoint.execution is execution or (fork := execution.data.begun.fork) is None:
            return {}
        names = {"": fork.outputs, "in.": fork.inputs}
        return {
            (name := f"{checkpoint.label}.{before}{argument}"): Artifact(execution, name, value)
            for before, edits in names.items()
            for of, values in edits
            if of == checkpoint.data.id
            for argument, value in values
        }

    def _as_edited(self, artifact: Artifact) -> Artifact:
        try:
            checkpoint = self.checkpoint(f"{artifact.execution.exec_id}:{artifact.name}")
        except NotFoundError:
            return artifact
        return self._edits(checkpoint).get(artifact.name, artifact)

    def editor(self, ref: str) -> State:
        """A value, ready to be edited. It is loaded, for its type."""
        assert self.execution is not None
        artifact = self.artifact(ref)
        form = forms.form(self._as_edited(artifact), artifact)
        return {
            "ref": artifact.name,
            "mode": form.mode,
            "text": form.text,
            "note": form.note,
            "type": sight.value_type(artifact),
            "line": lines.edit(self.name, artifact.name, mode=form.mode),
            "error": "",
            "other_type": False,
        }

    def lines(self, ref: str, current: str) -> dict[str, str]:
        """For each button, the line that does the same."""
        if self.execution is None:
            return {}
        name, is_current = self.name, self.execution.exec_id == current
        out = {
            "open": lines.opening(name),
            "plan": lines.plan(name),
            "resume": lines.going_on(name, current=is_current),
            "step": lines.step(name, current=is_current),
            "undo": lines.undo(),
            "cancel": lines.cancel(name),
            "show": lines.show(name, ref),
        }
        if ref:
            shown = self.named(self.shown) if self.shown else name
            out |= {
                "checkout": lines.checkout(name, ref, before=False),
                "before": lines.checkout(shown, ref, before=True),
                "debug": lines.debug(shown, ref),
                "until": lines.going_on(name, current=is_current, until=ref),
            }
        return out
