"""Executions that were opened, their checkpoints and their artifacts, as people and programs look at them."""

from __future__ import annotations

import enum
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import Values
from .branches import Branch, Held, branch_of
from .errors import NotFoundError, UsageError
from .executions import CheckpointData, ExecutionData, SavedData, read_execution
from .failures import Failure
from .forks import edited_outputs, open_origin, spec_of
from .lineage_graph import graph, together
from .lineages import ancestors, descendants, path, producers
from .matching import Fork
from .ownership import looks_alive
from .planning import Plan, explain
from .previews import Table, messages, preview_line, table
from .reading import Reading
from .records import Answered, Value
from .references import Ref as LazyRef
from .refs import format_address
from .stores.base import Store
from .waiting import inbox_key, read_answer

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["FAILED", "Artifact", "Checkpoint", "Execution", "ExecutionStatus"]


class ExecutionStatus(enum.Enum):
    """Where an execution stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Completed, failed or cancelled: nothing more happens unless somebody asks for it."""
        return self in {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}


FAILED = frozenset({ExecutionStatus.FAILED, ExecutionStatus.INTERRUPTED})
"""What ``last-failed`` and ``kitaru runs --failed`` mean: it failed, or whoever ran it died."""


class Artifact:
    """A recorded value: looked at by its preview, loaded when it is asked for.

    Attributes
    ----------
    name : str
        A saved name, or ``step#N.output``.
    version : int or None
        Of what was saved: 1 for the first of its name.
    kind : str
        ``data``, ``text``, ``bytes``, ``pickle`` or ``reference``.
    size : int
        Bytes of its canonical form.
    digest : str
        SHA-256 of that form; 64 hexadecimal digits.
    """

    def __init__(
        self,
        execution: Execution,
        name: str,
        value: Value,
        type: str | None = None,  # noqa: A002
        version: int | None = None,
    ) -> None:
        self._execution, self._value = execution, value
        self.name, self.kind, self.size, self.type, self.version = name, value.kind, value.size, type, version
        self.digest = value.digest.hex()

    @property
    def execution(self) -> Execution:
        """What it is an artifact of."""
        return self._execution

    @property
    def preview(self) -> dict[str, Any]:
        """Plain data that a person recognises the value by."""
        return dict(self._value.preview)

    @property
    def table(self) -> Table | None:
        """The first rows of a frame, by its preview; None for anything else."""
        return table(self.preview)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and beginning of the first and the last of chat messages, by its preview; else empty."""
        return messages(self.preview)

    @property
    def ref(self) -> str:
        """Its name within its execution, with its version where it was saved: ``report#2``.

        Where a step has that name too it is ``report@2``, which is never a step's.
        """
        if self.version is not None:
            return f"{self.name}{'@' if self.name in self._execution.called else '#'}{self.version}"
        hidden = self.name == "result" and any(s.name == "result" for s in self._execution.data.saved)
        return ".output" if hidden else self.name

    @property
    def address(self) -> str:
        """The complete REF: everything that takes one takes this."""
        return format_address(self._execution.store.url, f"{self._execution.exec_id}:{self.ref}")

    def load(self) -> Any:
        """The value, as a fresh object.

        Raises
        ------
        UntrustedValueError
            Where it is pickled and the store is not marked as trusted.
        CorruptionError
            Where its bytes are not what was recorded.
        """
        return self._execution.values.load(self._value)

    def lazy(self) -> LazyRef[Any]:
        """A `kitaru.Ref` to the value: to look at, to read a column or some rows of, to hand to a step."""
        return LazyRef(self._execution.data.index.full(self._value), self._execution.values)

    def to_json(self) -> Any:
        """The value as readable plain data, without running any code: types stand as ``{"$tuple": […]}``.

        A buffer, such as an array's, stands as the digests of its chunks.
        """
        from . import codecs

        return codecs.to_json(self._execution.values.plain(self._value))

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the value to a file, in a format that other programs read; the file's suffix says which.

        Text and bytes as they are; an array as ``.npy``; a frame as ``.parquet``, ``.arrow``, ``.feather`` or
        ``.csv``; an image as ``.png``; anything else that is data as ``.json``; what is pickled as ``.pkl``. The file
        appears whole or not at all.

        Parameters
        ----------
        path
            A file; its parent folder must exist. In a folder the file gets the value's own name. Without a suffix
            the usual format is taken.
        force
            Replace a file that is there.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UsageError
            There is a file already; or the value has no such format: the message says which it has.
        UntrustedValueError, CorruptionError
            As `load`.
        """
        from .exporting import write

        return write(self, path, force=force)

    def __repr__(self) -> str:
        return f"<artifact {self.name if self.version is None else self.ref}: {preview_line(self.preview, 60)}>"


class Checkpoint:
    """What one step left.

    Attributes
    ----------
    name : str
        The step's name; `label` is its path, ``outer#1/classify#2``.
    status : str
        ``running``, ``completed``, ``failed``; ``interrupted`` where it had not ended when its owner went; ``pending``
        where the execution paused before it.
    """

    def __init__(self, execution: Execution, data: CheckpointData) -> None:
        self._execution, self.data = execution, data
        self.name, self.label, self.status = data.name, data.label, data.status

    @property
    def execution(self) -> Execution:
        """What it is a checkpoint of."""
        return self._execution

    @property
    def artifacts(self) -> list[Artifact]:
        """Its outputs; the first is the output where there is one."""
        return [Artifact(self._execution, f"{self.label}.{name}", v) for name, v in self.data.outputs]

    @property
    def inputs(self) -> dict[str, Artifact]:
        """Its inputs, by the names of the arguments."""
        return {name: Artifact(self._execution, f"{self.label}.in.{name}", v) for name, v in self.data.arguments}

    @property
    def failure(self) -> Failure | None:
        """What it failed with."""
        return self.data.failure

    @property
    def metadata(self) -> dict[str, Any]:
        """What its body logged."""
        return self.data.metadata

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted by whoever ran it by hand, such as a notebook: see docs/format.md."""
        return self.data.notes

    @property
    def source(self) -> str | None:
        """The text of its function as it was when it ran."""
        return self._execution.data.sources.get(self.data.own_code)

    @property
    def address(self) -> str:
        """The complete REF."""
        return format_address(self._execution.store.url, f"{self._execution.exec_id}:{self.label}")

    def __repr__(self) -> str:
        return f"<checkpoint {self.label}: {self.status}>"


class Execution:
    """One execution, as its journal stood when it was opened."""

    def __init__(self, store: Store, reading: Reading) -> None:
        self.store, self.reading = store, reading
        self.data: ExecutionData = read_execution(reading.exec_id, reading.segments)
        self.exec_id = reading.exec_id
        self.flow = self.data.begun.flow
        fork = self.data.begun.fork
        self.values = Values(
            store,
            self.data.index,
            script=self.data.begun.script,
            origin=(lambda: open_origin(store, fork).index) if fork is not None else None,
        )
        state = self.data.state
        if state.status == "running" and not looks_alive(store, reading, state):
            self.data.lose_owner()

    @property
    def status(self) -> ExecutionStatus:
        """Where it stands. A run whose owner looks dead is interrupted: it can be resumed."""
        return ExecutionStatus(self.data.state.status)

    @property
    def is_trusted(self) -> bool:
        """Whether code in its values may run: its store is a folder of this user's, or in ``KITARU_TRUST``."""
        return self.values.trusted

    @property
    def failure(self) -> Failure | None:
        """What it failed with: type, message, traceback, causes. None where it did not."""
        return self.data.failure

    @property
    def failed_at(self) -> str | None:
        """The path of the step that its failure came from; None where it is the flow's own."""
        return self.data.failed_at

    @property
    def result(self) -> Any:
        """The flow's result. Raises `NotFoundError` where it has none."""
        if self.data.result is None:
            raise NotFoundError(f"{self.exec_id} has no result: it is {self.status.value}")
        return Artifact(self, "result", self.data.result).load()

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """In the order of their starts; inner ones come after the one around them."""
        return [Checkpoint(self, c) for c in self.data.checkpoints]

    @property
    def next_step(self) -> Checkpoint | None:
        """The step before which it paused, with what that was called with; None where it did not pause before one."""
        pending = self.data.pending
        return Checkpoint(self, pending) if pending is not None else None

    @cached_property
    def closings(self) -> dict[str, Answered]:
        """What has closed waits that are open in its journal, by their ids: it goes on with that. Takes a listing."""
        waits = self.data.waits.open
        inbox = {entry.key for entry in self.store.list(inbox_key(self.exec_id))} if waits else set()
        there = [w for w in waits if inbox_key(self.exec_id, w) in inbox]
        return {w: answer for w in there if (answer := read_answer(self.store, self.exec_id, w)) is not None}

    @property
    def breaks(self) -> tuple[str, ...]:
        """Where it is to pause again when it is stepped through: names of steps, and paths."""
        return self.data.breaks

    @property
    def artifacts(self) -> list[Artifact]:
        """What was saved by name, then the outputs of the checkpoints, then the result."""
        out = [self.saved(s) for s in self.data.saved]
        out += [a for c in self.checkpoints for a in c.artifacts]
        if self.data.result is not None:
            out.append(Artifact(self, "result", self.data.result))
        return out

    @cached_property
    def called(self) -> frozenset[str]:
        """The names of the steps that the flow's own body called: those that a saved name may be taken for."""
        return frozenset(c.name for c in self.data.checkpoints if len(c.path) == 1)

    def saved(self, s: SavedData) -> Artifact:
        """The artifact of what was saved by name."""
        return Artifact(self, s.name, s.value, s.type, s.version)

    @property
    def forked_from(self) -> str | None:
        """The exec_id of the execution that this one was forked from."""
        return self.data.begun.fork.origin if self.data.begun.fork is not None else None

    def ref_to(self, held: Held) -> LazyRef[Any]:
        """A `kitaru.Ref` to what a variable of its branch holds."""
        self.values.look_beyond()
        return LazyRef(self.data.index.full(held.value), self.values)

    def branch(self) -> Branch:
        """The steps that were run by hand up to here, over the forks that it hangs together by.

        Raises `UsageError` where it is an execution of a flow.
        """
        if not self.data.begun.by_hand:
            raise UsageError(f"{self.exec_id} is an execution of the flow {self.flow}: it has no branch of cells")
        fork = self.data.begun.fork
        before = open_origin(self.store, fork) if fork is not None else None
        return branch_of(self.data, before)

    def explain(self) -> Plan:
        """For each step: whether it was reused, edited or run, and why. No value is loaded."""
        fork = self.data.begun.fork
        if fork is None:
            return explain(self.data.checkpoints, None, {})
        origin = open_origin(self.store, fork)
        unmet = origin.view.unmet  # asked of the origin, and so of this one
        asked = (*unmet.outputs.items(), *unmet.inputs.items(), *fork.inputs)
        edited = {q: [name for name, _ in values] for q, values in asked}
        edited |= {q: [*edited_outputs(origin, q, values)] for q, values in fork.outputs}
        of = Fork(origin.view, spec_of(fork))
        return explain(self.data.checkpoints, origin, edited, of.opened - of.edited)

    def lineage(self, *, after: bool = True, origins: bool = False) -> nx.MultiDiGraph[str]:
        """What made which value, and what depends on it: see `kitaru.lineage`. No value is loaded."""
        self.values.look_beyond()
        own = graph(self.data, after=after)
        return self._with_origins(own, after=after) if origins and self.data.begun.fork is not None else own

    def _with_origins(self, own: nx.MultiDiGraph[str], *, after: bool) -> nx.MultiDiGraph[str]:
        graphs, edits = [own], []
        fork = self.data.begun.fork
        while fork is not None:
            origin = open_origin(self.store, fork)
            graphs.append(graph(origin.data, after=after))
            for q, values in fork.outputs:
                p = origin.view.points[q]
                before = dict(p.value or ()) if p.ok else {}
                edits += [(before[n].digest.hex(), v.digest.hex(), n) for n, v in values if n in before]
            for q, values in fork.inputs:
                before = dict(origin.view.points[q].start.given)
                edits += [(before[n].digest.hex(), v.digest.hex(), f"in.{n}") for n, v in values if n in before]
            fork = origin.begun.fork
        return together(graphs, edits)

    def ancestors(self, ref: str) -> list[str]:
        """The steps that made this step or value what it is, over forks; see `kitaru.lineages`."""
        return ancestors(self.lineage(after=False, origins=True), ref)

    def descendants(self, ref: str) -> list[str]:
        """The steps that depend on this step or value, over forks."""
        return descendants(self.lineage(after=False, origins=True), ref)

    def producers(self, value: Any) -> list[str]:
        """The steps whose output is equal to `value`, in type, content and order, over forks."""
        return producers(self.lineage(after=False, origins=True), value)

    def path(self, a: str, b: str) -> list[str]:
        """One of the shortest ways of data from `a` to `b`, over forks; empty where there is none."""
        return path(self.lineage(after=False, origins=True), a, b)

    @property
    def address(self) -> str:
        """The store's address and the exec_id."""
        return format_address(self.store.url, self.exec_id)

    def __repr__(self) -> str:
        return f"<execution {self.exec_id}: {self.status.value}>"
