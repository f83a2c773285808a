"""The client: executions and artifacts of a store, for people and programs that did not run them."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .catalog import Row, rows
from .clock import SYSTEM
from .copying import Copied, Progress, copy
from .engine import read_value
from .errors import (
    AmbiguousNameError,
    CorruptionError,
    ExecutionEndedError,
    InvalidNameError,
    NotFoundError,
    UsageError,
)
from .executions import CheckpointData, ExecutionData, LogLine, read_execution
from .failures import Failure
from .flows import Options
from .handles import Handle
from .ids import check_exec_id
from .lineage_graph import build, to_networkx
from .location import check_format, current_store, is_trusted, open_store
from .ownership import looks_alive
from .previews import preview_line
from .reading import Reading, read_journal
from .records import Value
from .refs import Ref, format_address, parse_address, parse_ref
from .runs import resume, settle_recorded
from .segments import journal_key
from .sources import find_flow
from .stores.base import Store

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Artifact",
    "Artifacts",
    "Checkpoint",
    "Execution",
    "ExecutionStatus",
    "Executions",
    "KitaruClient",
    "Summary",
]


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


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a listing.

    Attributes
    ----------
    begun, at : float
        Seconds since the epoch: when it was begun, and when its status was reported.
    """

    exec_id: str
    flow: str
    status: ExecutionStatus
    begun: float
    at: float


class Artifact:
    """A recorded value: looked at by its preview, loaded when it is asked for.

    Attributes
    ----------
    name : str
        A saved name, or ``step#N.output``.
    kind : str
        ``data``, ``text``, ``bytes``, ``pickle`` or ``reference``.
    size : int
        Bytes of its canonical form.
    digest : str
        SHA-256 of that form; 64 hexadecimal digits.
    """

    def __init__(self, execution: Execution, name: str, value: Value, type: str | None = None) -> None:  # noqa: A002
        self._execution, self._value = execution, value
        self.name, self.kind, self.size, self.type = name, value.kind, value.size, type
        self.digest = value.digest.hex()

    @property
    def preview(self) -> dict[str, Any]:
        """Plain data that a person recognises the value by."""
        return dict(self._value.preview)

    @property
    def address(self) -> str:
        """The complete REF: everything that takes one takes this."""
        return format_address(self._execution.store.url, f"{self._execution.exec_id}:{self.name}")

    def load(self) -> Any:
        """The value, as a fresh object.

        Raises
        ------
        UntrustedValueError
            Where it is pickled and the store is not marked as trusted.
        CorruptionError
            Where its bytes are not what was recorded.
        """
        e = self._execution
        return read_value(
            e.store, self._value, trusted=is_trusted(e.store), script=e.data.begun.script, data=self._bytes()
        )

    def to_json(self) -> Any:
        """The value as readable plain data, without running any code: types stand as ``{"$tuple": […]}``."""
        from . import codecs

        data = self._value.data or self._bytes()
        if data is None:
            key = self.digest
            data = self._execution.store.get(f"blobs/{key[:2]}/{key}")
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise CorruptionError(
                f"{self.name} of {self._execution.exec_id} is not what was recorded: {len(data)} bytes whose SHA-256 "
                f"is not {self.digest}. It is not shown; restore it from a copy"
            )
        return codecs.to_json(data)

    def _bytes(self) -> bytes | None:
        held = self._execution.data.values.get(self._value.digest)
        return held.data if held is not None else None

    def __repr__(self) -> str:
        return f"<artifact {self.name}: {preview_line(self.preview, 60)}>"


class Checkpoint:
    """What one step left.

    Attributes
    ----------
    name : str
        The step's name; `label` is its path, ``outer#1/classify#2``.
    status : str
        ``running``, ``completed``, ``failed``; ``interrupted`` where it had not ended when its owner went.
    """

    def __init__(self, execution: Execution, data: CheckpointData) -> None:
        self._execution, self.data = execution, data
        self.name, self.label, self.status = data.name, data.label, data.status

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
        self.store, self._reading = store, reading
        self.data: ExecutionData = read_execution(reading.exec_id, reading.segments)
        self.exec_id = reading.exec_id
        self.flow = self.data.begun.flow
        state = self.data.state
        if state.status == "running" and not looks_alive(store, reading, state):
            self.data.lose_owner()

    @property
    def status(self) -> ExecutionStatus:
        """Where it stands. A run whose owner looks dead is interrupted: it can be resumed."""
        return ExecutionStatus(self.data.state.status)

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
    def artifacts(self) -> list[Artifact]:
        """What was saved by name, then the outputs of the checkpoints, then the result."""
        out = [Artifact(self, s.name, s.value, s.type) for s in self.data.saved]
        out += [a for c in self.checkpoints for a in c.artifacts]
        if self.data.result is not None:
            out.append(Artifact(self, "result", self.data.result))
        return out

    def lineage(self, *, after: bool = True) -> nx.MultiDiGraph[str]:
        """What made which value, and what depends on it: see `kitaru.lineage`. No value is loaded."""
        return to_networkx(build(self.data, after=after))

    @property
    def address(self) -> str:
        """The store's address and the exec_id."""
        return format_address(self.store.url, self.exec_id)

    def __repr__(self) -> str:
        return f"<execution {self.exec_id}: {self.status.value}>"


class Executions:
    """The executions of a store."""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def get(self, exec_id: str) -> Execution:
        """Open an execution: an exec_id, the start of one that is unique, ``last``, ``last-failed``, or an address.

        Raises
        ------
        NotFoundError, AmbiguousNameError
            With what there is instead.
        """
        store, name = self._client.find(exec_id)
        return self._client.open(store, name)

    def list(
        self,
        *,
        flow: str | None = None,
        status: str | ExecutionStatus | None = None,
        limit: int | None = None,
    ) -> list[Summary]:
        """The executions, newest first. One listing, and one opening for each that is said to be running."""
        wanted = ExecutionStatus(status) if status is not None else None
        out: list[Summary] = []
        for row in rows(self._client.store):
            if limit is not None and len(out) >= limit:
                break
            if flow is not None and row.flow != flow:
                continue
            summary = self._summary(row)
            if summary is None or (wanted is not None and summary.status is not wanted):
                continue
            out.append(summary)
        return out

    def _summary(self, row: Row) -> Summary | None:
        status = row.status
        if status == "running":  # a list may be behind; whoever opens it sees the truth
            try:
                status = self._client.open(self._client.store, row.exec_id).status.value
            except NotFoundError:
                return None
        return Summary(row.exec_id, row.flow, ExecutionStatus(status), row.begun, row.at)

    def latest(self, *, flow: str | None = None) -> Execution:
        """The newest execution. Raises `NotFoundError` where there is none."""
        found = self.list(flow=flow, limit=1)
        if not found:
            what = f"execution of {flow}" if flow else "execution"
            raise NotFoundError(f"there is no {what} in {self._client.store.url}")
        return self.get(found[0].exec_id)

    def resume(
        self,
        exec_id: str,
        *,
        code: str | None = None,
        take_over: bool = False,
        raises: bool = True,
        max_workers: int = 32,
        on_drift: str = "reuse",
    ) -> Handle:
        """Go on with an execution from its last finished steps. One that has completed gives its handle.

        Parameters
        ----------
        code
            Where the flow's code is: a script's path, a module, or ``module:flow``. By default it is looked for in
            this process, then in its module, then in its script.
        take_over
            Displace an owner that looks alive: only if you know that it is gone.

        Raises
        ------
        CodeNotFoundError
            With the places that were looked at.
        ExecutionOwnedError
            Where an owner looks alive.
        """
        store, name = self._client.find(exec_id)
        execution = self._client.open(store, name)
        begun = execution.data.begun
        if execution.status is ExecutionStatus.COMPLETED:
            handle = Handle(name)
            settle_recorded(handle, execution._reading, store, begun)
            return handle
        if execution.status is ExecutionStatus.CANCELLED:
            raise ExecutionEndedError(f"{name} was cancelled, and does not run again")
        flow, where = find_flow(begun, code)
        options = Options(
            name,
            raises,
            max_workers=max_workers,
            on_drift=on_drift,
            take_over=take_over,
            store=store,
            clock=SYSTEM,
        )
        self._client.note(f"kitaru: {flow.name} found in {where}")
        return resume(flow, execution._reading, options)

    def retry(
        self,
        exec_id: str,
        *,
        code: str | None = None,
        raises: bool = True,
        max_workers: int = 32,
        on_drift: str = "reuse",
    ) -> Handle:
        """`resume` of what has failed: the failed step runs again. Raises `UsageError` for anything else."""
        execution = self.get(exec_id)
        if execution.status is not ExecutionStatus.FAILED:
            raise UsageError(f"{execution.exec_id} is {execution.status.value}, not failed: resume it instead")
        return self.resume(exec_id, code=code, raises=raises, max_workers=max_workers, on_drift=on_drift)

    def copy(
        self,
        exec_id: str,
        to: str | os.PathLike[str] | Store,
        *,
        progress: Callable[[Progress], None] = lambda p: None,
    ) -> Copied:
        """Copy an execution to another store, where it opens and resumes; the copy can be made again at any time.

        Parameters
        ----------
        to
            The other store, or its address. What it holds is never overwritten.
        progress
            Called after each object, with numbers of objects and bytes.

        Raises
        ------
        UsageError
            Another execution of this name is there, or this one went another way there.
        CorruptionError
            Something of it is damaged or missing.
        """
        store, name = self._client.find(exec_id)
        target = open_store(to) if isinstance(to, (str, os.PathLike)) else to
        return copy(store, target, name, progress=progress, say=self._client.note)

    def logs(self, exec_id: str) -> Sequence[LogLine]:
        """What the bodies of its flow and steps logged, in order of time."""
        return self.get(exec_id).data.logs


class Artifacts:
    """The artifacts of a store."""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def list(self, exec_id: str) -> list[Artifact]:
        """What an execution recorded: saved names, outputs, the result. No value is downloaded."""
        return self._client.executions.get(exec_id).artifacts

    def get(self, ref: str) -> Artifact:
        """The artifact that a REF or an address names: a saved name first, then a step's output or input."""
        found = self._client.look_up(ref)
        if isinstance(found, Artifact):
            return found
        if isinstance(found, Checkpoint):
            return _only_output(found)
        return Artifact(found, "result", _result(found))

    def load(self, ref: str) -> Any:
        """The value that a REF or an address names; of a step with several outputs, the tuple of them.

        Raises
        ------
        NotFoundError, UntrustedValueError, CorruptionError
            As `get` and `Artifact.load`.
        """
        found = self._client.look_up(ref)
        if isinstance(found, Checkpoint):
            artifacts = found.artifacts
            if len(artifacts) > 1:
                return tuple(a.load() for a in artifacts)
            return _only_output(found).load()
        return found.load() if isinstance(found, Artifact) else found.result


def _only_output(checkpoint: Checkpoint) -> Artifact:
    artifacts = checkpoint.artifacts
    if not artifacts:
        raise NotFoundError(f"{checkpoint.label} is {checkpoint.status}, and has no output")
    if len(artifacts) > 1:
        names = [f"{checkpoint.label.removesuffix('#1')}.{name}" for name, _ in checkpoint.data.outputs]
        raise NotFoundError(f"{checkpoint.label} has {len(names)} outputs: say which of {', '.join(names)}")
    return artifacts[0]


def _result(execution: Execution) -> Value:
    if execution.data.result is None:
        raise NotFoundError(f"{execution.exec_id} has no result: it is {execution.status.value}")
    return execution.data.result


class KitaruClient:
    """Executions and artifacts of a store.

    Parameters
    ----------
    store
        An address, or an open store; the current one (`kitaru.connect`, ``KITARU_STORE``, …) when left out.

    Examples
    --------
    >>> from kitaru import KitaruClient
    >>> KitaruClient("memory://nothing").executions.list()
    []
    """

    def __init__(self, store: str | os.PathLike[str] | Store | None = None) -> None:
        if store is None:
            self.store = current_store()
        elif isinstance(store, (str, os.PathLike)):
            self.store = open_store(store)
        else:
            self.store = store
        self.executions = Executions(self)
        self.artifacts = Artifacts(self)
        self.note: Callable[[str], None] = lambda line: None

    # ------------------------------------------------------------ names

    def open(self, store: Store, exec_id: str) -> Execution:
        """Open the execution with exactly this exec_id."""
        check_format(store)
        reading = read_journal(store, exec_id)
        if not reading.n:
            raise NotFoundError(_no_execution(store, exec_id))
        return Execution(store, reading)

    def find(self, text: str) -> tuple[Store, str]:
        """The store and the exec_id that `text` names."""
        address = parse_address(text)
        store = self.store if address.store is None else open_store(address.store)
        name = address.ref.partition(":")[0]
        return store, self._exec_id(store, name)

    def look_up(self, text: str) -> Execution | Checkpoint | Artifact:
        """What a REF or an address names. A bare word is a step of the last execution first."""
        address = parse_address(text)
        store = self.store if address.store is None else open_store(address.store)
        name, colon, rest = address.ref.partition(":")
        if not text:
            raise InvalidNameError("an empty REF names nothing: write last, an exec_id, a step, or @3")
        if not colon and not _can_be_exec_id(name):
            ref = parse_ref(name)
            return _within(self.open(store, self._exec_id(store, "last")), ref)
        if not colon:
            try:
                execution = self.open(store, self._exec_id(store, name))
            except (NotFoundError, InvalidNameError) as e:
                try:
                    latest = self.open(store, self._exec_id(store, "last"))
                    return _within(latest, parse_ref(name))
                except (NotFoundError, InvalidNameError) as neither:
                    raise type(e)(f"{e}; {neither}") from None
            if address.store is None and name not in {"last", "last-failed"} and execution.exec_id != name:
                latest = self.open(store, self._exec_id(store, "last"))
                try:  # a bare word is a step first
                    return _within(latest, parse_ref(name))
                except (NotFoundError, InvalidNameError):
                    return execution
            return execution
        execution = self.open(store, self._exec_id(store, name))
        if not rest:
            return execution
        for saved in reversed(execution.data.saved):
            if saved.name == rest:
                return Artifact(execution, saved.name, saved.value, saved.type)
        if rest == "result":
            return Artifact(execution, "result", _result(execution))
        return _within(execution, parse_ref(f"{execution.exec_id}:{rest}"))

    def _exec_id(self, store: Store, name: str) -> str:
        if name in {"last", "last-failed"}:
            return self._last(store, failed=name == "last-failed")
        check_exec_id(name)
        if next(iter(store.list(journal_key(name))), None) is not None:
            return name
        found = list(_beginning_with(store, name, 3))
        if not found:
            raise NotFoundError(_no_execution(store, name))
        if len(found) > 1:
            raise AmbiguousNameError(f"more than one execution begins with {name}: {', '.join(found)}, …")
        return found[0]

    def _last(self, store: Store, *, failed: bool) -> str:
        for row in rows(store):
            if not failed or row.status in {"failed", "interrupted"}:
                return row.exec_id
            if row.status == "running":
                execution = self.open(store, row.exec_id)
                if execution.status in {ExecutionStatus.INTERRUPTED, ExecutionStatus.FAILED}:
                    return row.exec_id
        what = "no execution failed" if failed else "there is no execution"
        raise NotFoundError(f"{what} in {store.url}")


def _can_be_exec_id(name: str) -> bool:
    try:
        check_exec_id(name)
    except InvalidNameError:
        return False
    return True


def _no_execution(store: Store, name: str) -> str:
    return f"there is no execution {name} in {store.url}: `kitaru runs` lists those that there are"


def _beginning_with(store: Store, start: str, most: int) -> Iterator[str]:
    """Up to `most` exec_ids that begin with `start`: one request for each, however long their journals are."""
    prefix, after = f"executions/{start}", None
    for _ in range(most):
        entry = next(iter(store.list(prefix, after=after)), None)
        if entry is None:
            return
        exec_id = entry.key.split("/")[1]
        yield exec_id
        after = f"executions/{exec_id}/\U0010ffff"


def _within(execution: Execution, ref: Ref) -> Checkpoint | Artifact:
    """The checkpoint, output or input of `execution` that `ref` names."""
    data = execution.data.find(ref)
    checkpoint = Checkpoint(execution, data)
    if ref.argument is not None:
        inputs = checkpoint.inputs
        if ref.argument not in inputs:
            raise NotFoundError(f"{data.label} has no input {ref.argument}; it has: {', '.join(inputs) or 'none'}")
        return inputs[ref.argument]
    if ref.output is not None:
        for (name, _), artifact in zip(data.outputs, checkpoint.artifacts, strict=True):
            if name == ref.output:
                return artifact
        names = ", ".join(name for name, _ in data.outputs)
        raise NotFoundError(f"{data.label} has no output {ref.output}; it has: {names or 'none'}")
    return checkpoint
