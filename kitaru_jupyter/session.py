"""What a notebook records in: one execution, whose steps are cells. Every magic has its function here."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

import kitaru
from kitaru import Ref
from kitaru.client import Artifact, Checkpoint, Execution, ExecutionStatus, KitaruClient
from kitaru.errors import InvalidNameError, KitaruError, NotFoundError, UntrustedValueError, UsageError
from kitaru.sessions import Branch, Held, SessionStep, Step, looking, verdicts
from kitaru.stepping import Flow, begin, go_on

from .capture import Touches
from .finding import along
from .namespace import Moved, Namespace
from .outputs import recorded
from .steps import NAME as STEP, OpenedStep, step_of

if TYPE_CHECKING:
    import pandas as pd

    from kitaru.client import Handle
    from kitaru.stores import Store

    from .exporting import Exported
    from .picture import Picture

__all__ = ["CELL", "KEPT", "Edited", "Notebook", "Place"]


_LOOKED_AT = 30  # executions, in search of forks

CELL = "cell"
"""The name of a step that was recorded without one, as `%kitaru record on` does."""

KEPT = "kept"
"""The name of a step that records what a checkout would have lost."""


class Place(NamedTuple):
    """Where the variables stand: at the last step of an execution, or at an older one (``""``: before the first)."""

    store: Store
    exec_id: str
    at: str | None


class Attended(NamedTuple):
    """An execution of a flow that was the current one."""

    client: KitaruClient
    exec_id: str


class Bound(NamedTuple):
    """What variables held before others were bound to their names; those that there were not are `missing`."""

    held: dict[str, Any]
    missing: frozenset[str]


class Edited(NamedTuple):
    """What an edit did.

    Attributes
    ----------
    ref : str
        What was edited.
    exec_id : str
        The fork that has the edit.
    stale : tuple of str
        The paths of the steps that may give something else by it.
    """

    ref: str
    exec_id: str
    stale: tuple[str, ...]


def _check_type(name: str, before: Mapping[str, Any], value: Any, *, force: bool) -> None:
    old, new = before.get("type"), Ref.to(value).preview.get("type")
    if old != new and not force:
        raise UsageError(
            f"{name} is a {old}, and the new value is a {new}: what reads it may not take that. Give --force if it "
            "is meant so"
        )


def _begins_behind(fork: Execution, branch: Branch) -> str:
    """The last step of this branch that a fork of it has as well."""
    at = fork.data.begun.options.get("at")
    if isinstance(at, str):
        return at
    edited = [n for n, step in enumerate(fork.branch()) if step.edited]
    place = min([*edited, len(branch)]) - 1
    return branch.steps[place].label if 0 <= place < len(branch) else ""


class Notebook:
    """The notebook's side of an execution. It begins at the first step that is recorded.

    Examples
    --------
    >>> from kitaru_jupyter.session import Notebook
    >>> notebook = Notebook()
    >>> notebook.connect("memory://tour")
    >>> notebook.step("add", {"a": 1}, "b = a + 1").succeed({"b": 2})
    {'b': <Ref to int 2>}
    >>> notebook.show("add.b").load()
    2
    >>> notebook.close()
    """

    def __init__(self, variables: MutableMapping[str, Any] | None = None, hidden: Collection[str] = ()) -> None:
        self.namespace = Namespace({} if variables is None else variables, hidden)
        self._at: str | None = None  # the step that the variables stand at, where that is not the last one
        self._undo: list[Place | Attended | Bound] = []  # where they stood before
        self.typed: set[str] = set()  # the texts of the cells that were run here: whoever wrote them sits here
        self._step: OpenedStep | None = None  # what was bound in `step`
        self._session = kitaru.Session()
        self._named: str | None = None
        self._opened: Attended | None = None

    @property
    def session(self) -> kitaru.Session:
        """The session that is recorded in now."""
        return self._session

    @property
    def exec_id(self) -> str | None:
        """The execution; None before the first step."""
        return self._session.exec_id or self._named

    def connect(self, address: str | None = None) -> None:
        """Record in the store at this address from now on, in an execution of its own; None: search for one.

        Raises
        ------
        UsageError
            It is no address; nothing has changed.
        """
        kitaru.connect(address)  # refuses before anything is let go of
        self._let_go()
        self._replace(None)

    def open(self, name: str) -> Execution:
        """Attach to an execution: its exec_id, the start of one, ``last``, ``last-failed``, or a complete address.

        One whose steps are a notebook's is gone on with: the next step claims it, and is refused where another
        notebook looks alive. An execution of a flow is looked at, edited and gone on with beside this notebook's own
        steps, until `close`.
        """
        execution = KitaruClient(self._session.store).executions.get(name)
        if execution.data.begun.by_hand:
            if execution.store.url != self._session.store.url:
                kitaru.connect(execution.store)
            self._replace(execution.exec_id)
            self._let_go()
        else:
            self._let_go()
            self.attend(execution)
        return execution

    def attend(self, execution: Execution) -> None:
        """From now on an execution of a flow is the current one: what REFs, edits, plans and resumes are about."""
        self._opened = Attended(KitaruClient(execution.store), execution.exec_id)

    def _let_go(self) -> None:
        """The opened execution is no longer the current one, and there is nothing of it to be undone."""
        self._opened = None
        self._undo = [was for was in self._undo if not isinstance(was, Attended)]

    def close(self) -> None:
        """Let go of the opened execution; else of this notebook's own: it is paused, and the next step begins one."""
        if self._opened is not None:
            self._let_go()
        else:
            self._replace(None)

    def _replace(self, exec_id: str | None) -> None:
        old, self._session, self._named = self._session, kitaru.Session(exec_id=exec_id), exec_id
        self._at = None
        old.close()

    def step(self, name: str, inputs: Mapping[str, Any], source: str) -> SessionStep:
        """Begin a step; see `kitaru.Session.step`."""
        return self._session.step(name, inputs, source=source)

    # ------------------------------------------------------------ cells

    def begin(
        self,
        name: str,
        touches: Touches,
        source: str,
        reads: Iterable[str] | None = None,
        instead: str | None = None,
    ) -> SessionStep:
        """A cell is about to run as the step `name`. Behind an old checkpoint that begins a fork.

        Parameters
        ----------
        touches
            What it may touch, from its code.
        reads
            Its inputs, where they were given by name.
        instead
            The path of an inherited step, whose place it takes.
        """
        self._fork_here()
        with looking():
            inputs = self.namespace.begin(touches, reads)
            notes = {**inputs.notes, **({"unnamed": True} if name == CELL else {})}
            step = self._session.step(name, inputs.values, source=source, notes=notes or None, instead=instead)
        self.namespace.begun(inputs, step.inputs)
        return step

    def end(self, step: SessionStep, touches: Touches, binds: Collection[str] | None = None) -> None:
        """The cell has run: record what it has left. `binds` are its outputs, where they were given by name."""
        with looking():
            outputs = self.namespace.end(touches, binds)
            refs = step.succeed(outputs.values, notes=outputs.notes or None)
        self.namespace.ended(outputs, refs)

    def _fork_here(self) -> None:
        """Where the variables stand at an old checkpoint, what runs now goes another way from there."""
        if self._at is None or self.exec_id is None:
            return
        self._replace(KitaruClient(self._session.store).executions.fork(self.exec_id, at=self._at))

    # ------------------------------------------------------------ time travel

    @property
    def place(self) -> Place | None:
        """Where the variables stand; None before the first step."""
        return Place(self._session.store, self.exec_id, self._at) if self.exec_id is not None else None

    def checkout(self, ref: str | None = None, *, before: bool = False) -> Moved:
        """Make the variables what they were after a step of a notebook; or, with `before`, what it read.

        Of an execution of a flow `before` binds the inputs of one of its steps, under their own names. Without it the
        flow goes back to behind that step: in a fork, which is recorded, and which then is the current execution.

        Parameters
        ----------
        ref
            A step: ``clean``, ``clean#2``, ``@3``, with an execution in front if it is of another one. The newest step
            when left out.

        Returns
        -------
        Moved
            What was loaded and removed, and what was left alone.

        Raises
        ------
        NotFoundError
            There is no such step; the message says which there are.
        UntrustedValueError
            It holds code, and its store is not trusted. Nothing has changed.
        """
        _, execution, label = self._step_of(ref)
        if ref is not None and label is not None and "." in ref.rpartition(":")[2]:
            raise UsageError(f"{ref} is a value: check out the step that it comes from, {label}")
        if not execution.data.begun.by_hand:
            return self._checkout_of_flow(execution, label, before=before)
        branch = execution.branch()
        place = len(branch) - 1 if label is None else branch.find(label)
        upto = place if before else place + 1
        was = self._keep(branch.state(upto))
        moved = self._go(execution, branch, upto, reader=branch.steps[place] if before else None)
        self._stand(execution, None if upto == len(branch) else branch.steps[upto - 1].label if upto else "")
        if was is not None:
            self._undo.append(was)
        return moved

    def _stand(self, execution: Execution, at: str | None) -> None:
        """The variables are those of this execution, at this step: what is recorded from now on goes on from there."""
        is_elsewhere = execution.store.url != self._session.store.url
        if is_elsewhere:
            kitaru.connect(execution.store)
        if is_elsewhere or execution.exec_id != self.exec_id:
            self._replace(execution.exec_id)
        self._at = at

    def check_code(self, execution: Execution, label: str, source: str) -> None:
        """Raise `UntrustedValueError` where a cell would run that nobody has typed here, from a store of others."""
        if not execution.is_trusted and source.strip() not in self.typed:
            raise UntrustedValueError(
                f"the code of {label} would run, which was not typed in this notebook, and the store that it comes "
                f"from is not one that you trust. Look at it with %kitaru show {label}; if you trust whoever wrote it, "
                f"set KITARU_TRUST to the store's address, {execution.store.url}, or run that cell here"
            )

    @property
    def is_behind(self) -> bool:
        """Whether the variables stand at an older checkpoint."""
        return self._at is not None

    def go(self, branch: Branch, places: Iterable[int], reader: Step | None = None) -> Moved:
        """Make the variables what the steps at these places of this branch make them; as `reader` would find them."""
        execution = self._session.execution()
        places = list(places)
        state = branch.state(places=places, reader=reader)
        imports = branch.imports(places=places, reader=reader)
        return self.namespace.go(state, imports, execution.ref_to, trusted=execution.is_trusted)

    def fork(self) -> None:
        """Go on in a fork of this notebook's execution, from where the variables stand."""
        if self.exec_id is not None:
            self._replace(KitaruClient(self._session.store).executions.fork(self.exec_id, at=self._at))

    def shown(self, ref: str) -> list[dict[str, Any]] | None:
        """What a recorded cell has shown; None where it has shown nothing. See `outputs.Shown`."""
        _, execution, label = self._step_of(ref)
        if label is None or not execution.data.begun.by_hand:
            return None
        return recorded(execution, label)

    def forks(self) -> dict[str, list[Execution]]:
        """Other ways that were gone from the steps of this branch, by the path of the step that each begins behind."""
        execution = self.execution()
        if execution is None or not execution.data.begun.by_hand:
            return {}
        branch, executions = execution.branch(), KitaruClient(execution.store).executions
        mine = {execution.exec_id, *(step.exec_id for step in branch)}
        out: dict[str, list[Execution]] = {}
        for summary in executions.list(flow=execution.flow, limit=_LOOKED_AT):
            if summary.exec_id in mine or summary.status is ExecutionStatus.CANCELLED:
                continue
            other = executions.get(summary.exec_id)
            if other.forked_from in mine:
                out.setdefault(_begins_behind(other, branch), []).append(other)
        if execution.forked_from is not None:  # the origin went on from where this fork left it
            origin = executions.get(execution.forked_from)
            at = execution.data.begun.options.get("at")
            if at is not None:
                out.setdefault(at, []).append(origin)
        return out

    def reuse(self, *labels: str) -> None:
        """In a fork: record that inherited steps are not run again; see `kitaru.Session.reuse`."""
        self._session.reuse(*labels)

    # ------------------------------------------------------------ edits

    def value(self, ref: str) -> Any:
        """The value that a REF names, as it is on this notebook's branch; of a variable of a notebook, that variable.

        Raises
        ------
        UsageError
            It names no single value.
        """
        found = self._output(ref)
        if found is not None:
            execution, branch, place, name = found
            held = Held(dict(branch.steps[place].outputs)[name], branch.steps[place].label)
            return self.namespace.load(name, execution.ref_to(held), trusted=execution.is_trusted)
        return self.client.artifacts.load(self.show(ref).address)

    def is_without_output(self, ref: str) -> bool:
        """Whether a REF names a step of a flow that has given nothing: it failed, or has not begun."""
        thing = self.show(ref)
        by_hand = isinstance(thing, Checkpoint) and thing.execution.data.begun.by_hand
        return isinstance(thing, Checkpoint) and not by_hand and not thing.artifacts

    def edit(self, ref: str, value: Any, *, why: str = "", force: bool = False, code: str = "") -> Edited:
        """Put another value in the place of a recorded one: in a fork, of which this notebook goes on with.

        Parameters
        ----------
        ref
            An output, ``collect`` or ``collect.rows``; of an execution of a flow also an input, ``classify.in.model``.
        why
            The reason. It is recorded, with who made the edit, and when.
        force
            Take a value of another type.
        code
            The code that made the value, with `old` for the one before; `export` writes it down.

        Returns
        -------
        Edited
            What was edited, and which steps are stale by it.

        Raises
        ------
        UsageError
            The type is another one.
        NotFoundError
            There is no such value; the message says what there is.
        """
        found = self._output(ref)
        if found is None:
            return self._edit_of_flow(ref, value, why=why, force=force)
        execution, branch, place, name = found
        step = branch.steps[place]
        recorded = dict(step.outputs)[name]
        full = f"{step.label}.{name}"
        _check_type(full, execution.data.index.full(recorded).preview, value, force=force)
        was = self.place
        client = KitaruClient(execution.store)
        overrides = {full: self.namespace.form_of(name, value)}
        fork = client.executions.fork(execution.exec_id, overrides=overrides, why=why, code=code, at=self._at)
        self._replace(fork)
        if was is not None:
            self._undo.append(was)
        after = self._session.execution()
        held = after.branch().state().get(name)
        if held is not None and held.step == step.label:
            self.namespace.put(name, after.ref_to(held), trusted=True)
        stale = [v.step.label for v in verdicts(after.branch()) if v.is_stale]
        return Edited(full, fork, tuple(stale))

    def _output(self, ref: str) -> tuple[Execution, Branch, int, str] | None:
        """The output of a step of a notebook that a REF names; None where it is of an execution of a flow."""
        _, execution, label = self._step_of(ref, or_its_value=True)
        if not execution.data.begun.by_hand or label is None:
            return None
        branch = execution.branch()
        place = branch.find(label)
        if (argument := ref.partition(".in.")[2]) and "." not in argument:
            raise UsageError(f"{ref} is an input: edit the output of the step that it comes from")
        outputs = [name for name, _ in branch.steps[place].outputs]
        name = ref.rpartition("/")[2].partition(":")[2] or ref
        name = name.partition(".")[2]
        if not name and len(outputs) == 1:
            name = outputs[0]
        if name not in outputs:
            there = ", ".join(f"{label}.{n}" for n in outputs) or "none"
            raise UsageError(f"{ref} names no single output of {label}: say which of {there}")
        return execution, branch, place, name

    def _edit_of_flow(self, ref: str, value: Any, *, why: str, force: bool) -> Edited:
        thing = self.show(ref)
        if isinstance(thing, Checkpoint):
            if len(thing.artifacts) > 1:
                names = ", ".join(a.name for a in thing.artifacts)
                raise UsageError(f"{ref} has {len(thing.artifacts)} outputs: say which of {names}")
            execution, name = thing.execution, thing.label
            before = thing.artifacts[0].preview if thing.artifacts else {}
        elif isinstance(thing, Artifact):
            execution, name, before = thing.execution, thing.name, thing.preview
        else:
            raise UsageError(f"{ref} is an execution: say which of its steps is edited")
        if before:
            _check_type(name, before, value, force=force)
        client = KitaruClient(execution.store)
        before_it = self._edited_before(ref, execution)  # an edit beside others, in a fork that has not run yet
        fork = client.executions.fork(before_it, overrides={f"checkpoint.{name}": value}, why=why)
        self._undo.append(Attended(client, before_it))
        self.attend(client.executions.get(fork))
        stale = [row.step for row in client.executions.plan(fork) if row.decision.startswith("rerun")]
        return Edited(name, fork, tuple(stale))

    # ------------------------------------------------------------ flows

    def run_flow(
        self,
        flow: Flow[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        exec_id: str | None = None,
        until: str | None = None,
        breaks: Iterable[str] = (),
        steps: int | None = None,
    ) -> Handle:
        """Begin a flow in this notebook's store, up to a step; see `kitaru.stepping.begin`."""
        return begin(
            flow, args, kwargs, exec_id=exec_id, until=until, breaks=breaks, steps=steps, store=self._session.store
        )

    def go_on(
        self,
        flow: Flow[..., Any] | None = None,
        *,
        until: str | Callable[[str], bool] | None = None,
        breaks: Iterable[str] | None = None,
        steps: int | None = None,
        admit: Callable[[str], None] | None = None,
    ) -> Handle:
        """Go on with the current execution of a flow; see `kitaru.stepping.go_on`."""
        return go_on(self.get(), flow=flow, until=until, breaks=breaks, steps=steps, admit=admit)

    def attend_to(self, handle: Handle) -> Execution:
        """The execution of a flow that this notebook has run; it is the current one from now on."""
        execution = self.client.executions.get(handle.exec_id)
        self.attend(execution)
        return execution

    def bind_step(self, execution: Execution) -> Checkpoint | None:
        """Bind in `step` the step that an execution failed at, or before which it paused; else its last one.

        What the user has under that name comes back by `undo`.
        """
        found, variables = step_of(execution), self.namespace.variables
        if found is None:
            return None
        if STEP in variables and not isinstance(variables[STEP], OpenedStep):
            self._undo.append(Bound({STEP: variables[STEP]}, frozenset()))
        variables[STEP] = self._step = OpenedStep(found)
        return found

    def step_named(self, ref: str | None) -> Checkpoint:
        """The step that a REF names; that in `step` when left out.

        Raises
        ------
        UsageError
            It names something else; or there is none.
        """
        if ref is None:
            held = self.namespace.variables.get(STEP)
            held = held if isinstance(held, OpenedStep) else self._step
            found = held.checkpoint if held is not None else step_of(self.get())
            if found is None:
                raise UsageError("the current execution has no step: say which step is meant")
            return found
        thing = self.show(ref)
        if isinstance(thing, Execution):
            found = step_of(thing)
            if found is not None:
                return found
        elif isinstance(thing, Checkpoint):
            return thing
        raise UsageError(f"{ref} names no step: write classify#2, or EXEC:classify#2")

    def _edited_before(self, ref: str, execution: Execution) -> str:
        """What an edit of this execution forks: a fork of it that has not run yet, where the REF is about that one."""
        named = ref.rpartition(":")[0] or (self._opened.exec_id if self._opened is not None else "")
        if named and (origin := self._origin(named)) is not None and origin.exec_id == execution.exec_id:
            return KitaruClient(execution.store).executions.get(named).exec_id
        return execution.exec_id

    def _origin(self, name: str) -> Execution | None:
        """What a fork of a flow's execution that has not run yet was forked from; None of anything else."""
        execution = self.client.executions.get(name)
        if execution.data.begun.by_hand or execution.forked_from is None or execution.checkpoints:
            return None
        return self._origin(execution.forked_from) or KitaruClient(execution.store).executions.get(
            execution.forked_from
        )

    def undo(self) -> Moved:
        """Take the last checkout or edit back.

        Raises
        ------
        UsageError
            There was none.
        """
        if not self._undo:
            raise UsageError("there is nothing to undo: no checkout and no edit was made in this notebook")
        place = self._undo.pop()
        if isinstance(place, Attended):
            self._opened = place
            self.bind_step(self.get())
            return Moved()
        if isinstance(place, Bound):
            return self._put_back(place)
        execution = KitaruClient(place.store).executions.get(place.exec_id)
        branch = execution.branch()
        upto = len(branch) if place.at is None else branch.find(place.at) + 1 if place.at else 0
        moved = self._go(execution, branch, upto)
        self._stand(execution, place.at)
        return moved

    def _step_of(self, ref: str | None, *, or_its_value: bool = False) -> tuple[KitaruClient, Execution, str | None]:
        """The client, the execution and the path of the step that a REF names; no path: the newest.

        With `or_its_value`, a REF may also name what a step read or bound.
        """
        if ref is None:
            return self.client, self.get(), None
        name = self.exec_id if ":" not in ref and not self.is_of_a_flow else None
        while name is not None:  # this branch, then those that it was forked from
            execution = self.client.executions.get(name)
            try:
                branch = execution.branch()
                label = branch.steps[branch.place_of(ref)].label
                return self.client, execution, label
            except InvalidNameError:
                break
            except NotFoundError:
                name = execution.forked_from
        thing = self.show(ref)
        if isinstance(thing, Artifact):
            label, dot, _ = thing.name.partition(".")  # no step's name holds one
            if not (or_its_value and dot):
                raise UsageError(f"{ref} is a value: name the step that it comes from")
            return KitaruClient(thing.execution.store), thing.execution, label
        if isinstance(thing, Execution):
            return KitaruClient(thing.store), thing, None
        return KitaruClient(thing.execution.store), thing.execution, thing.label

    def _keep(self, state: Collection[str]) -> Place | None:
        """Record what going to this state would lose: variables that something unrecorded has changed or made."""
        place = self.place
        if place is None:
            return None
        with looking():
            names = self.namespace.unrecorded(state)
            if not names:
                return place
            self._fork_here()
            step = self._session.step(KEPT, {}, source="", type="kept")
            outputs = self.namespace.keep(names)
            refs = step.succeed(outputs.values, notes=outputs.notes or None)
        self.namespace.ended(outputs, refs)
        return self.place

    def _go(self, execution: Execution, branch: Branch, upto: int, reader: Step | None = None) -> Moved:
        return self.namespace.go(
            branch.state(upto, reader=reader),
            branch.imports(upto, reader=reader),
            execution.ref_to,
            trusted=execution.is_trusted,
        )

    def _checkout_of_flow(self, execution: Execution, label: str | None, *, before: bool) -> Moved:
        if label is None:
            raise UsageError(
                f"say which step of {execution.flow} is meant: %kitaru checkout STEP --before binds its inputs under "
                "their own names, and without --before the flow goes back to behind it"
            )
        there = [*execution.checkpoints, *([] if execution.next_step is None else [execution.next_step])]
        step = next(c for c in reversed(there) if c.label == label)
        if not before:
            return self._back_to(execution, step)
        given = step.inputs
        values = {name: a.load() for name, a in given.items() if a.kind != "reference"}
        lost = dict.fromkeys(given.keys() - values.keys(), "it was no data, and was recorded by its type alone")
        variables = self.namespace.variables
        if self.place is not None and not values.keys().isdisjoint(self.namespace.unrecorded(values)):
            self._keep(values)
        held = {name: variables[name] for name in values if name in variables}
        variables.update(values)
        self._undo.append(Bound(held, frozenset(values.keys() - held.keys())))
        return Moved(loaded=tuple(sorted(values)), lost=lost)

    def _put_back(self, was: Bound) -> Moved:
        """The very objects that the variables held before."""
        variables = self.namespace.variables
        removed = [name for name in was.missing if name in variables]
        for name in removed:
            del variables[name]
        variables.update(was.held)
        return Moved(loaded=tuple(sorted(was.held)), removed=tuple(sorted(removed)))

    def _back_to(self, execution: Execution, step: Checkpoint) -> Moved:
        """A fork of a flow's execution in which what began after this step runs again."""
        end = step.data.finished
        if end is None or step.status != "completed":
            raise UsageError(f"{step.label} is {step.status}: a flow goes back to behind a step that has completed")
        after = next((c for c in execution.checkpoints if c.data.began > end), None)
        client = KitaruClient(execution.store)
        if after is None:
            return Moved(again=())
        fork = client.executions.fork(execution.exec_id, from_=after.label)
        self._undo.append(Attended(client, execution.exec_id))
        self.attend(client.executions.get(fork))
        rows = client.executions.plan(fork)
        return Moved(again=tuple(row.step for row in rows if row.decision.startswith("rerun")))

    @property
    def is_of_a_flow(self) -> bool:
        """Whether the current execution is one of a flow that was opened."""
        return self._opened is not None

    @property
    def client(self) -> KitaruClient:
        """A client of the store that the current execution is in."""
        return self._opened.client if self._opened is not None else KitaruClient(self._session.store)

    def execution(self) -> Execution | None:
        """The current execution as it is recorded by now; None before the first step."""
        if self._opened is not None:
            return self._opened.client.executions.get(self._opened.exec_id)
        return None if self.exec_id is None else self._session.execution()

    def get(self, name: str | None = None) -> Execution:
        """The execution of this name, as `open` takes it; the current one when left out.

        Raises
        ------
        UsageError
            None is named, and there is none yet.
        """
        if name is not None:
            return self.client.executions.get(name)
        current = self.execution()
        if current is None:
            raise UsageError(
                "there is no execution yet: %kitaru open EXEC attaches to one (%kitaru runs lists them), and a cell "
                "that begins with %%kitaru_step NAME begins one"
            )
        return current

    def show(self, ref: str) -> Execution | Checkpoint | Artifact:
        """What a REF names: on this notebook's branch first, over its forks, then in the store.

        Raises
        ------
        NotFoundError, UsageError
            With what there is instead.
        """
        client, exec_id = self.client, self._opened.exec_id if self._opened is not None else self.exec_id
        if exec_id is not None and ":" not in ref and ref not in {exec_id, "last", "last-failed"}:
            saved = self._opened is None and ref in {s.name for s in self._session.execution().data.saved}
            if self._opened is None and not saved and (found := along(client, exec_id, ref)) is not None:
                return found
            try:
                return self._look_up(f"{exec_id}:{ref}")
            except (NotFoundError, UsageError) as own:
                try:
                    return client.look_up(ref)
                except (NotFoundError, UsageError):
                    raise own from None
        return self._look_up(ref)

    def _look_up(self, ref: str) -> Execution | Checkpoint | Artifact:
        """As the client does; the steps of a fork that has not run yet are those of its origin."""
        client = self.client
        try:
            return client.look_up(ref)
        except NotFoundError as own:
            name, colon, rest = ref.rpartition(":")
            try:
                origin = self._origin(name) if colon and name else None
            except KitaruError:
                origin = None
            if origin is None:
                raise own from None
            return KitaruClient(origin.store).look_up(f"{origin.exec_id}:{rest}")

    def runs(
        self,
        *,
        flow: str | None = None,
        status: Iterable[str | ExecutionStatus] | None = None,
        since: str | dt.datetime | dt.timedelta | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """The executions of the store, newest first: exec_id, flow, status, begun (UTC), took (seconds).

        The parameters are those of `KitaruClient.executions.list`.
        """
        import pandas as pd

        client = self.client
        rows = client.executions.list(flow=flow, status=status, since=since, limit=limit)
        return pd.DataFrame(
            {
                "exec_id": [r.exec_id for r in rows],
                "flow": [r.flow for r in rows],
                "status": [r.status.value for r in rows],
                "begun": pd.to_datetime([r.begun for r in rows], unit="s", utc=True).round("ms"),
                "took": [r.at - r.begun if r.status.is_finished else float("nan") for r in rows],
            }
        )

    def lineage(self, ref: str | None = None, exec_id: str | None = None, *, most: int = 200) -> Picture:
        """What made what in an execution, as a picture; of a notebook's along its branch, over forks.

        Parameters
        ----------
        ref
            A step or a value that is pointed out.
        exec_id
            As `open` takes it; the current execution when left out.
        most
            Nodes that are drawn; beyond that the picture folds.

        Raises
        ------
        NotFoundError
            There is no such step or value.
        """
        from .tracing import drawn

        if ref is None or exec_id is not None:
            return drawn(self.get(exec_id), ref, most=most)
        thing = self.show(ref)
        if isinstance(thing, Execution):
            return drawn(thing, most=most)
        if ":" not in ref:
            return drawn(self.get(), ref, most=most)
        return drawn(thing.execution, thing.label if isinstance(thing, Checkpoint) else thing.ref, most=most)

    def export(self, path: str | os.PathLike[str], *, force: bool = False) -> Exported:
        """Write the cells that the variables came from as a notebook, with an assertion for each value.

        It has the steps that count, up to where the variables stand, with the edits in place, and the plain cells that
        they took something from. ``pytest --nbval`` passes on it in a fresh kernel as long as the cells give what was
        recorded.

        Parameters
        ----------
        path
            A file whose name ends with ``.ipynb``. It appears whole or not at all.
        force
            Replace a file that is there.

        Raises
        ------
        UsageError
            There is nothing to export, or a step is stale, or something cannot be written as code: the message says
            what. No file was written.
        """
        from .exporting import write  # which stands on this room

        return write(self.get(), self._at if self._opened is None else None, path, force=force)

    def refs(self) -> list[str]:
        """What a REF may be completed to: the steps of this branch, their values, and the newest executions."""
        execution = self.execution()
        if execution is None:
            return self.exec_ids()
        inherited = [s for s in execution.branch() if s.exec_id != execution.exec_id] if self._opened is None else []
        own = [*(s.label for s in inherited), *(c.label for c in execution.checkpoints)]
        values = [f"{s.label}.{name}" for s in inherited for name, _ in s.outputs]
        return [*own, *values, *(a.name for a in execution.artifacts), *self.exec_ids()]

    def exec_ids(self) -> list[str]:
        """What the name of an execution may be completed to: the newest ones."""
        return [*(s.exec_id for s in self.client.executions.list(limit=20)), "last", "last-failed"]
