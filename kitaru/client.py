"""The client: executions and artifacts of a store, for people and programs that did not run them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .answering import PendingWait, abort, cancel, give, pause, pending_wait, pending_waits
from .branches import branch_of
from .catalog import Row, rows
from .clock import SYSTEM
from .copying import Copied, Progress, copy
from .errors import CodeNotFoundError, ExecutionEndedError, NotFoundError, UsageError
from .executions import LogLine
from .flows import Options
from .forks import Edits, read_origin
from .handles import Handle
from .lineage_text import lineage_text
from .location import current_store, open_store, store_budget
from .lookups import find, look_up, only_output, open_execution, result_of
from .moments import moment
from .opened import FAILED, Artifact, Checkpoint, Execution, ExecutionStatus
from .overrides import as_recorded, read_overrides
from .planning import Plan, forecast
from .previews import Table
from .replays import CodeChange, begin_fork, code_changes, edits_for
from .runs import replay, resume, settle_recorded
from .sources import find_flow
from .staleness import forecast_branch
from .stores.base import Store
from .verification import Verification, verify

__all__ = [
    "FAILED",
    "Artifact",
    "Artifacts",
    "Checkpoint",
    "CodeChange",
    "Copied",
    "Execution",
    "ExecutionStatus",
    "Executions",
    "Handle",
    "KitaruClient",
    "PendingWait",
    "Plan",
    "Summary",
    "Table",
    "Verification",
    "lineage_text",
]


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
        status: str | ExecutionStatus | Iterable[str | ExecutionStatus] | None = None,
        since: str | dt.datetime | dt.timedelta | None = None,
        limit: int | None = None,
    ) -> list[Summary]:
        """The executions, newest first. One listing, and one opening for each that is said to be running.

        Parameters
        ----------
        flow
            Of this flow; ``audit*``, ``audit_v?`` and the like for several.
        status
            Which stand so; one, or any of several: `FAILED` are those that failed or were interrupted.
        since
            Begun since then: ``2h``, ``3d``, ``2026-11-01``, ``2026-11-01T08:30``, ``today``; a moment, or how long
            ago that was.
        limit
            At most so many.

        Raises
        ------
        UsageError
            There is no such status; or `since` says no moment.

        Examples
        --------
        >>> import kitaru
        >>> from kitaru.client import FAILED, KitaruClient
        >>> client = KitaruClient(kitaru.connect("memory://listing"))
        >>> @kitaru.flow
        ... def audit():
        ...     return 42
        >>> handle = audit.run()
        >>> [s.status.value for s in client.executions.list(flow="aud*", since="1h")]
        ['completed']
        >>> client.executions.list(status=FAILED)
        []
        >>> store = kitaru.connect()
        """
        wanted = _statuses(status)
        earliest = None if since is None else moment(since, SYSTEM.time())
        out: list[Summary] = []
        for row in rows(self._client.store):
            if (limit is not None and len(out) >= limit) or (earliest is not None and row.begun < earliest):
                break
            if flow is not None and row.flow != flow and not fnmatchcase(row.flow, flow):
                continue
            summary = self._summary(row)
            if summary is not None and (wanted is None or summary.status in wanted):
                out.append(summary)
        return out

    def _summary(self, row: Row) -> Summary | None:
        status = row.status
        # A list may be behind, or hold what no version wrote; whoever opens it sees the truth.
        if status == "running" or status not in {s.value for s in ExecutionStatus}:
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
        until: str | Callable[[str], bool] | None = None,
        steps: int | None = None,
        deadline: float | None = None,
        interactive: bool = False,
    ) -> Handle:
        """Go on with an execution from its last finished steps. One that has completed gives its handle.

        Parameters
        ----------
        code
            Where the flow's code is: a script's path, a module, or ``module:flow``. By default it is looked for in
            this process, then in its module, then in its script.
        take_over
            Displace an owner that looks alive: only if you know that it is gone.
        until
            A step: the execution pauses before it begins, and the handle's status is ``paused``. Or a function that is
            called with the path of each step that is about to run: where it gives True, the execution pauses there.
        steps
            So many steps of the flow's own body run, with all that is inside of them; before the next one the
            execution pauses. Steps that have finished do not count.
        deadline, interactive
            As `Flow.options` takes them.

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
            settle_recorded(handle, execution.reading, store, begun)
            return handle
        if execution.status is ExecutionStatus.CANCELLED:
            raise ExecutionEndedError(f"{name} was cancelled, and does not run again")
        _refuse_by_hand(execution)
        flow, where = find_flow(begun, code)
        options = Options(
            name,
            raises,
            max_workers=max_workers,
            on_drift=on_drift,
            take_over=take_over,
            store=store,
            clock=SYSTEM,
            until=until,
            steps=steps,
            deadline=deadline,
            interactive=interactive,
        )
        self._client.note(f"kitaru: {flow.name} found in {where}")
        return resume(flow, execution.reading, options)

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
        _refuse_by_hand(execution)
        if execution.status is not ExecutionStatus.FAILED:
            instead = "nothing is left to run" if execution.status.is_finished else "resume it instead"
            raise UsageError(f"{execution.exec_id} is {execution.status.value}, not failed: {instead}")
        return self.resume(exec_id, code=code, raises=raises, max_workers=max_workers, on_drift=on_drift)

    def replay(
        self,
        exec_id: str,
        *,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        rerun: str | Iterable[str] = (),
        on_drift: str = "reuse",
        code: str | None = None,
        raises: bool = True,
        max_workers: int = 32,
        name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Handle:
        """Fork an execution; see `Flow.replay`. Its flow's code is found as by `resume`.

        Parameters
        ----------
        name
            An exec_id for the fork; one is drawn when it is left out.
        inputs
            Inputs of the flow, by name; the others are as recorded.
        """
        store, found = self._client.find(exec_id)
        origin = read_origin(store, found)
        _refuse_by_hand(self._client.open(store, found))
        flow, where = find_flow(origin.begun, code)
        self._client.note(f"kitaru: {flow.name} found in {where}")
        edits = edits_for(origin, from_=from_, overrides=overrides, rerun=rerun, inputs=inputs, flow=flow)
        options = Options(name, raises, max_workers=max_workers, on_drift=on_drift, store=store, clock=SYSTEM)
        return replay(flow, origin, edits, options)

    def fork(
        self,
        exec_id: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        from_: str | None = None,
        rerun: str | Iterable[str] = (),
        inputs: Mapping[str, Any] | None = None,
        name: str | None = None,
        why: str = "",
        code: str = "",
        at: str | None = None,
    ) -> str:
        """Record a fork with these edits, and leave it paused: `resume` runs it. Its code is not needed for this.

        The fork of a fork that has not run yet has the edits of both, and that one is cancelled. Of two edits that
        exclude each other the later one holds.

        Parameters
        ----------
        overrides, from_, rerun, inputs, name
            As `replay` takes them.
        why
            The reason of the edits. It is recorded with them, and with who made them, and when.
        code
            The code that made their values, with `old` for the value before, of an execution whose steps are run by
            hand. It is recorded, so that the edit can be made again elsewhere; nothing runs it here.
        at
            Of an execution whose steps are run by hand: the step after which the fork begins; "" for before the
            first one.

        Returns
        -------
        str
            The fork's exec_id.

        Raises
        ------
        NotFoundError
            There is no such step or output; the message says what there is.

        Examples
        --------
        >>> import kitaru
        >>> from kitaru.client import KitaruClient
        >>> @kitaru.checkpoint
        ... def double(n: int) -> int:
        ...     return 2 * n
        >>> @kitaru.flow
        ... def audit(n: int) -> int:
        ...     return double(n) + 1
        >>> client = KitaruClient(kitaru.connect("memory://forking"))
        >>> fork = client.executions.fork(audit.run(3).exec_id, overrides={"double": 8}, why="it was 4")
        >>> client.executions.get(fork).status.value, client.executions.resume(fork).get()
        ('paused', 9)
        >>> store = kitaru.connect()
        """
        store, found = self._client.find(exec_id)
        origin = read_origin(store, found)
        options: dict[str, Any] = {"who": _user(), "why": why}
        edits: Edits | dict[str, Any]
        if origin.begun.by_hand:
            edits = dict(overrides or {})
            made = {key: text for key, text in (("code", code), ("why", why)) if text}
            if edits:
                options["edits"] = [{"ref": ref.removeprefix("checkpoint."), **made} for ref in edits]
        else:
            edits = edits_for(origin, from_=from_, overrides=overrides, rerun=rerun, inputs=inputs)
        if at is not None:
            if at and origin.begun.by_hand:
                branch_of(origin.data, origin.before).place_of(at)  # else nobody could read the fork
            options["at"] = at
        return begin_fork(store, origin, edits, clock=SYSTEM, name=name, options=options)

    def overrides(
        self, exec_id: str, sets: Iterable[str] = (), inputs: Iterable[str] = (), *, load: bool = True
    ) -> dict[str, Any]:
        """Overrides as they are typed, ``classify#2={"licence": "MIT"}``, for `replay` and `plan`.

        Parameters
        ----------
        sets
            ``REF=JSON``, or ``REF=@FILE``.
        inputs
            The same with ``NAME=`` of an input of the flow.
        load
            Load what is recorded there, to make values of its type: a tuple, a date, a dataclass, a model. A plan
            asks for no values.

        Raises
        ------
        UsageError
            It is no JSON, or the recorded type does not take it.
        """
        out = read_overrides(sets, "--set")
        given = read_overrides(inputs, "--input", "input.")
        if twice := sorted(out.keys() & given.keys()):
            raise UsageError(f"{twice[0]} is given twice, by --set and by --input: which of the two is meant?")
        if not load or not (out or given):
            return {**out, **given}
        store, found = self._client.find(exec_id)
        origin, values = read_origin(store, found), self._client.open(store, found).values
        return {**as_recorded(out, origin, values), **as_recorded(given, origin, values, "--input")}

    def plan(
        self,
        exec_id: str,
        *,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        rerun: str | Collection[str] = (),
        code: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Plan:
        """What `replay` with these arguments would do; see `kitaru.plan`.

        For ``rerun="changed"`` its flow's code is imported, and found as by `resume`. Of a fork that has not run yet
        it is what resuming it would do, with these edits upon its own; of an execution whose steps are run by hand,
        which of them are stale.
        """
        store, found = self._client.find(exec_id)
        origin = read_origin(store, found)
        if origin.begun.by_hand:
            return forecast_branch(branch_of(origin.data, origin.before))
        earlier, start = Edits(), origin.to_begin
        if origin.begun.fork is not None and start is not None:
            earlier, origin = Edits.recorded(start, origin.begun.fork), start
        flow = None
        if "changed" in ([rerun] if isinstance(rerun, str) else rerun):
            try:
                flow, _ = find_flow(origin.begun, code)
            except CodeNotFoundError:
                if code is not None:
                    raise  # else its steps may be in this process all the same, and what is missing is told then
        edits = edits_for(origin, from_=from_, overrides=overrides, rerun=rerun, inputs=inputs, flow=flow)
        return forecast(origin, edits.upon(earlier))

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
        return copy(store, target, name, progress=progress, say=self._client.note, budget=store_budget())

    def verify(
        self,
        exec_id: str,
        *,
        repair: bool = False,
        progress: Callable[[Progress], None] = lambda p: None,
    ) -> Verification:
        """Check that every object of an execution is what was written: its chain, its digests, each blob.

        Parameters
        ----------
        repair
            Make again what is derived, and put back segments that a pack holds.
        progress
            Called after each object, with numbers of objects and bytes.

        Returns
        -------
        Verification
            What was looked at, and in its `findings` what is wrong, where, and which values need it.

        Raises
        ------
        NotFoundError
            There is no such execution.
        """
        store, name = self._client.find(exec_id)
        return verify(store, name, repair=repair, progress=progress)

    def pending_waits(self, exec_id: str) -> Sequence[PendingWait]:
        """What an execution waits for: the waits that are open, in the order in which they were asked."""
        store, name = self._client.find(exec_id)
        return pending_waits(store, name)

    def pending_wait(self, exec_id: str, wait: str) -> PendingWait:
        """The open wait that a name, ``verdict``, a path or an id means: what it asks, and what it takes.

        Raises
        ------
        NotFoundError, AmbiguousNameError, WaitClosedError
            As `input`.
        """
        store, name = self._client.find(exec_id)
        return pending_wait(store, name, wait)

    def input(self, exec_id: str, wait: str, value: Any, *, who: str = "") -> None:
        """Answer a wait. The first answer wins; nothing runs here: `kitaru resume --ready` goes on with it.

        Parameters
        ----------
        wait
            Its name, ``verdict``, or its path, ``review#2/verdict``, or its id.
        value
            Data that fits its schema: plain data, or an object of the type. None of the flow's code is needed.
        who
            Who answers; this machine's user where it is left out.

        Raises
        ------
        NotFoundError, AmbiguousNameError
            There is no such wait, or more than one.
        WaitClosedError
            It is not open any more.
        UsageError
            The answer does not fit; nothing has changed.
        """
        store, name = self._client.find(exec_id)
        give(store, name, wait, value, who=who or _user(), clock=SYSTEM)

    def abort_wait(self, exec_id: str, wait: str, *, reason: str = "", who: str = "") -> None:
        """Close a wait without an answer: the flow gets `KitaruWaitAborted`. Raises as `input` does."""
        store, name = self._client.find(exec_id)
        abort(store, name, wait, reason=reason, who=who or _user(), clock=SYSTEM)

    def cancel(self, exec_id: str, *, reason: str = "", who: str = "") -> ExecutionStatus:
        """Cancel an execution: it never runs again. One that runs is left before its next step.

        Gives how it stands: ``cancelled``, or ``running`` where its owner has yet to see it. Executions that it spawned
        go on.

        Raises
        ------
        ExecutionEndedError
            It has completed.
        """
        store, name = self._client.find(exec_id)
        return ExecutionStatus(cancel(store, name, reason=reason, who=who or _user(), clock=SYSTEM))

    def pause(self, exec_id: str, *, reason: str = "", who: str = "") -> ExecutionStatus:
        """Pause an execution before its next step; `resume` goes on with it, and no pass does.

        Gives how it stands: ``paused``, or ``running`` where its owner has yet to see it.

        Raises
        ------
        ExecutionEndedError
            It has ended.
        """
        store, name = self._client.find(exec_id)
        return ExecutionStatus(pause(store, name, reason=reason, who=who or _user(), clock=SYSTEM))

    def logs(self, exec_id: str) -> Sequence[LogLine]:
        """What the bodies of its flow and steps logged, in order of time."""
        return self.get(exec_id).data.logs


def _user() -> str:
    """Whom this process works for, as the operating system has it; "" where it does not say."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _statuses(
    said: str | ExecutionStatus | Iterable[str | ExecutionStatus] | None,
) -> frozenset[ExecutionStatus] | None:
    """What a listing is narrowed to; None: nothing."""
    if said is None:
        return None
    try:
        return frozenset(map(ExecutionStatus, [said] if isinstance(said, (str, ExecutionStatus)) else said))
    except ValueError as e:
        there = ", ".join(s.value for s in ExecutionStatus)
        raise UsageError(f"{e}: there are {there}") from None


def _refuse_by_hand(execution: Execution) -> None:
    if execution.data.begun.by_hand:
        raise UsageError(
            f"{execution.exec_id} was run by hand, step by step: there is no flow to go on with. In a notebook, "
            f"%kitaru open {execution.exec_id} takes it up again"
        )


class Artifacts:
    """The artifacts of a store."""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def list(self, exec_id: str = "last", *, name: str | None = None) -> list[Artifact]:
        """What an execution recorded: saved names, outputs, the result. No value is downloaded.

        Parameters
        ----------
        exec_id
            The execution, as `Executions.get` takes it.
        name
            Only what was saved under this name, the newest version last; where nothing was, the outputs of the steps
            of this name or path, in the order of their starts.

        Examples
        --------
        >>> import kitaru
        >>> from kitaru import KitaruClient
        >>> store = kitaru.connect("memory://versions")
        >>> @kitaru.flow
        ... def audit():
        ...     kitaru.save("report", "a draft")
        ...     kitaru.save("report", "all well")
        >>> handle = audit.run()
        >>> [(a.version, a.load()) for a in KitaruClient().artifacts.list(name="report")]
        [(1, 'a draft'), (2, 'all well')]
        >>> store = kitaru.connect()
        """
        execution = self._client.executions.get(exec_id)
        if name is None:
            return execution.artifacts
        saved = [execution.saved(s) for s in execution.data.saved if s.name == name]
        steps = [c for c in execution.checkpoints if name in (c.name, c.label)]
        return saved or [a for c in steps for a in c.artifacts]

    def get(self, ref: str) -> Artifact:
        """The artifact that a REF or an address names: a saved name first, then a step's output or input."""
        found = self._client.look_up(ref)
        if isinstance(found, Artifact):
            return found
        if isinstance(found, Checkpoint):
            return only_output(found)
        return Artifact(found, "result", result_of(found))

    def load(self, ref: str, *, lazy: bool = False) -> Any:
        """The value that a REF or an address names; of a step with several outputs, the tuple of them.

        With `lazy`, a `kitaru.Ref` in the place of each.

        Raises
        ------
        NotFoundError, UntrustedValueError, CorruptionError
            As `get` and `Artifact.load`.
        """
        found = self._client.look_up(ref)
        if isinstance(found, Checkpoint):
            artifacts = found.artifacts
            if len(artifacts) > 1:
                return tuple(a.lazy() if lazy else a.load() for a in artifacts)
            found = only_output(found)
        elif isinstance(found, Execution):
            found = Artifact(found, "result", result_of(found))
        return found.lazy() if lazy else found.load()


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

    def code_diff(self, exec_id: str, *, code: str | None = None) -> list[CodeChange]:
        """The code that an execution recorded against what would run now: the flow's first, then each step's.

        Parameters
        ----------
        exec_id
            An exec_id, the start of one, ``last``, ``last-failed``, or an address.
        code
            Where the flow's code is, as `resume` takes it. What is not to be found here is told as ``missing``.
        """
        execution = self.executions.get(exec_id)
        if not execution.data.begun.by_hand:
            with suppress(CodeNotFoundError):
                find_flow(execution.data.begun, code)
        return code_changes(execution)

    # ------------------------------------------------------------ names

    def open(self, store: Store, exec_id: str) -> Execution:
        """Open the execution with exactly this exec_id."""
        return open_execution(store, exec_id)

    def find(self, text: str) -> tuple[Store, str]:
        """The store and the exec_id that `text` names."""
        return find(self.store, text)

    def look_up(self, text: str) -> Execution | Checkpoint | Artifact:
        """What a REF or an address names. A bare word is of the last execution first: see `kitaru.refs`."""
        return look_up(self.store, text)
