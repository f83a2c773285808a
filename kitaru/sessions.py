"""A session: an execution whose steps a person runs one by one, such as the cells of a notebook."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .attempts import Attempt
from .branches import Branch, Held, Plain, Step
from .clock import SYSTEM
from .codecs.memory import Looks, digest_of_memory, looking
from .context import Frame, current
from .documents import Document
from .effects import Outcome, Steps
from .engine import Engine, Settings
from .errors import ExecutionEndedError, InputsDifferError, NotFoundError, UsageError
from .fingerprints import Fingerprint
from .forks import open_origin
from .ids import check_exec_id, check_step_name, new_exec_id
from .journal import Halt
from .location import current_store, prepare, store_budget
from .matching import Checkpoint
from .notices import say
from .ownership import State, claim
from .records import BY_HAND, Argument, Begun
from .references import Ref
from .staleness import Verdict, verdicts
from .stores.base import Store

if TYPE_CHECKING:
    from contextvars import Token

    from .client import Execution

__all__ = [
    "Branch",
    "Document",
    "Held",
    "Looks",
    "Plain",
    "Session",
    "SessionStep",
    "Step",
    "Verdict",
    "digest_of_memory",
    "looking",
    "verdicts",
]


class _Cell:
    """What the engine asks of a step, for one whose body runs outside of it."""

    is_async = False
    retries = 0
    timeout = None
    parameters = ()  # what a cell changes in place is seen by the notebook
    lenient = True
    in_doubt = "rerun"
    awaits = None
    was = None
    lazy: frozenset[str] = frozenset()
    gives_refs = False

    def __init__(self, name: str, text: str | None, type: str | None) -> None:  # noqa: A002 - as in `checkpoint`
        self.name, self.text, self.type = name, text, type
        self.outputs: tuple[str, ...] | None = ()

    def function(self) -> None:
        raise AssertionError("the body of a session's step runs outside of the engine")

    def replaced(self, *call: Any) -> Any:
        raise AssertionError(f"no input of a session's step is overridden, and {self.name} was asked for {call}")

    def handed(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        refer: Callable[[str, Any], Any],  # noqa: ARG002
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return args, kwargs

    def code(self) -> Fingerprint:
        """The text as it was typed: it is all that is known of this body."""
        digest = hashlib.sha256((self.text or "").encode("utf-8", "surrogatepass"))
        return Fingerprint(digest.digest(), {self.name: digest.hexdigest()[:12]})

    def source(self) -> str | None:
        return self.text


class SessionStep:
    """One step of a session, from its beginning to `succeed` or `fail`.

    Attributes
    ----------
    label : str
        Its path: ``clean#1``.
    inputs : dict of str to Ref
        Its inputs as they are recorded.
    """

    def __init__(
        self,
        engine: Engine,
        cell: _Cell,
        inputs: Mapping[str, Any],
        notes: Mapping[str, Any] | None = None,
        instead: Checkpoint | None = None,
    ) -> None:
        engine.frame.enter()
        made = engine.begin(engine.frame, cell, inputs.items(), notes=notes, instead=instead)
        self.label = made.label
        self._engine, self._cell = engine, cell
        self._steps: Steps = engine.perform(made)
        self._token: Token[Frame | None] | None = None
        self._began = engine.clock.monotonic()
        effect = next(self._steps)
        while not isinstance(effect, Attempt):  # a large input goes up first
            effect = self._steps.send(effect.run())
        self._frame = effect.frame
        self.inputs = self._refs(made.started.arguments)

    def enter(self) -> None:
        """From here to `exit`, steps and flows that this context calls nest under this step."""
        self._frame.enter()
        self._frame.awaits = True
        self._token = current.set(self._frame)

    def exit(self) -> None:
        """The end of `enter`, in the same context or in another one."""
        token, self._token = self._token, None
        if token is not None:
            try:
                current.reset(token)
            except ValueError:  # an awaited cell may come back in another context
                current.set(None)

    def succeed(self, outputs: Mapping[str, Any], *, notes: Mapping[str, Any] | None = None) -> dict[str, Ref[Any]]:
        """Record the outputs by name; durable on return. What cannot be recorded is noted by its type.

        Parameters
        ----------
        outputs
            A `kitaru.sessions.Document` is recorded in the place of what it describes.
        notes
            Plain data that is recorded with the step; see docs/format.md for those of a notebook.

        Returns
        -------
        dict of str to Ref
            The outputs as they are recorded: as an input of a further step, one is named and not recorded again.
        """
        self._cell.outputs = tuple(outputs)
        self._end(Outcome(tuple(outputs.values()), took=self._took(), notes=notes))
        return self._refs(self._engine.history.outputs_of(self.label))

    def save(self, name: str, value: Any, type: str | None = None) -> None:  # noqa: A002 - as in `kitaru.save`
        """Record a named artifact of this step; see `kitaru.save`."""
        self._engine.save(self._frame, name, value, type)

    def _refs(self, values: Iterable[Argument]) -> dict[str, Ref[Any]]:
        recorder = self._engine.recorder
        return {name: Ref(recorder.index.full(value), recorder.values) for name, value in values}

    def fail(self, error: BaseException, *, notes: Mapping[str, Any] | None = None) -> None:
        """Record the failure; durable on return.

        A `KeyboardInterrupt` leaves the step ``interrupted``, as does `asyncio.CancelledError`, which is what becomes
        of it where the code awaits.
        """
        if not isinstance(error, Exception):
            cause, name, text = error, type(error).__name__, str(error)
            if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError):
                notes, text = {**(notes or {}), "interrupted": True}, name
                name = "interrupted"
            error = RuntimeError(f"{name}: {text}" if text else name)
            error.__cause__ = cause
        try:
            self._end(Outcome(error=error, took=self._took(), notes=notes))
        except Exception as e:
            if e is not error:
                raise

    def _took(self) -> float:
        return self._engine.clock.monotonic() - self._began

    def _end(self, outcome: Outcome) -> None:
        self.exit()
        self._frame.closed = "has ended"
        try:
            effect = self._steps.send(outcome)
            while True:
                effect = self._steps.send(effect.run())
        except StopIteration:
            return
        except Halt as e:
            raise e.error from e.__cause__
        finally:
            self._steps.close()


class Session:
    """An execution whose steps are run by a person: each call of `step` leaves a checkpoint, and none is reused.

    It begins at its first step, and is let go of by `close`, or when the interpreter ends; then it is ``paused``,
    and a session by its exec_id goes on with it.

    Parameters
    ----------
    name
        What the execution is an execution of; the first part of its exec_id.
    exec_id
        A name for the execution. Where it exists, the session goes on with it.
    store
        Where it is recorded; the current store when left out.

    Examples
    --------
    >>> import kitaru
    >>> session = kitaru.Session("tour", store=kitaru.connect("memory://tour"))
    >>> step = session.step("double", {"n": 4}, source="m = 2 * n")
    >>> step.succeed({"m": 8})
    {'m': <Ref to int 8>}
    >>> session.execution().checkpoints
    [<checkpoint double#1: completed>]
    >>> session.close()
    """

    def __init__(self, name: str = "notebook", *, exec_id: str | None = None, store: Store | None = None) -> None:
        self.name = check_step_name(name)
        self._asked = check_exec_id(exec_id) if exec_id is not None else None
        self._store = store
        self._engine: Engine | None = None
        self.exec_id: str | None = None

    @property
    def store(self) -> Store:
        """Where it is recorded."""
        return self._store if self._store is not None else current_store()

    @property
    def is_open(self) -> bool:
        """Whether this process owns the execution, and can record in it."""
        return self._engine is not None and self._engine.journal.halted is None

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        source: str | None = None,
        type: str | None = "cell",  # noqa: A002 - as in `checkpoint`
        notes: Mapping[str, Any] | None = None,
        instead: str | None = None,
    ) -> SessionStep:
        """Begin a step; whoever runs its body then calls `succeed` or `fail`.

        Parameters
        ----------
        inputs
            By name; a `kitaru.Ref` names what is recorded.
        source
            The text that is run.
        notes
            Plain data that is recorded with the step.
        instead
            In a fork: the path of an inherited step, whose place this one takes.

        Raises
        ------
        ExecutionOwnedError
            Somebody else, another notebook for one, runs this execution.
        StoreError
            The store cannot be used: nothing was begun.
        """
        check_step_name(name)
        if current.get() is not None:
            raise UsageError(f"the step {name} of a session cannot begin inside of another step")
        engine = self._open()
        try:
            place = None if instead is None else self._inherited(engine, instead)
            return SessionStep(engine, _Cell(name, source, type), inputs or {}, notes, place)
        except Halt as e:
            raise e.error from e.__cause__

    def reuse(self, *labels: str) -> None:
        """In a fork: record that inherited steps are not run again; what each stands for is as it was, or edited.

        Durable on return.

        Raises `NotFoundError` where no such step is inherited.
        """
        engine = self._open()
        branch = self.execution().branch()
        records = [(self._inherited(engine, label, branch), branch.steps[branch.find(label)]) for label in labels]
        try:
            for record, step in records:
                engine.calls.stand_in(engine.frame, record, step.outputs)
            engine.journal.flush()
        except Halt as e:
            raise e.error from e.__cause__

    def _inherited(self, engine: Engine, label: str, branch: Branch | None = None) -> Checkpoint:
        """The record of an inherited step, as the fork's origin sees it."""
        branch = branch or self.execution().branch()
        place = branch.find(label)
        origin = engine.calls.fork.origin
        for q, n in branch.ids.items():
            if n == place and q in origin.points:
                return origin.points[q]
        raise NotFoundError(f"{label} is no step that {engine.exec_id} inherited: it was run there")

    def execution(self) -> Execution:
        """The execution as it stands now. Raises `UsageError` before the first step."""
        from .client import KitaruClient

        exec_id = self.exec_id or self._asked
        if exec_id is None:
            raise UsageError("this session has no step yet, so there is no execution")
        return KitaruClient(self.store).executions.get(exec_id)

    def close(self) -> None:
        """Let the execution go; it is ``paused``. Closing twice does nothing."""
        engine, self._engine = self._engine, None
        if engine is not None:
            atexit.unregister(self.close)
            self._asked = engine.exec_id
            engine.release("the session was closed", "paused")

    def _let_go_of_halted(self, engine: Engine) -> None:
        """The store was gone, or an append was broken off: the next step claims the execution anew.

        Somebody else may own it by now; the claim says so.
        """
        self._engine, self._asked = None, engine.exec_id
        atexit.unregister(self.close)
        engine.abandon()

    def _open(self) -> Engine:
        if self._engine is not None:
            if self._engine.journal.halted is None:
                return self._engine
            self._let_go_of_halted(self._engine)
        store = self._store = self.store
        prepare(store)
        environment = {"python": platform.python_version(), "platform": sys.platform}
        begin = Begun(self.name, (), qualname=BY_HAND, at=SYSTEM.time(), environment=environment)

        def check(state: State) -> None:
            if state.begun is None or not state.begun.by_hand:
                raise InputsDifferError(
                    f"{self._asked} is an execution of a flow: steps that are run by hand are not recorded in it. "
                    "Choose another exec_id (in a notebook: %kitaru close, and the next step begins one)"
                )

        digits = 4
        while True:
            exec_id = self._asked or new_exec_id(self.name, digits)
            claimed = claim(
                store,
                exec_id,
                clock=SYSTEM,
                begin=begin,
                fresh=self._asked is None,
                check=check,
                say=say,
                budget=store_budget(),
            )
            if claimed is not None:
                break
            digits *= 2
        if claimed.journal is None:
            raise ExecutionEndedError(f"{exec_id} has ended, and nothing more is recorded in it: choose another one")
        code = Fingerprint(b"", {})
        begun = claimed.state.begun or begin
        origin = open_origin(store, begun.fork) if begun.fork is not None else None
        engine = Engine(store, claimed, begun, settings=Settings(), clock=SYSTEM, code=code, say=say, origin=origin)
        engine.skip_ordinals()
        if claimed.beat is not None:
            claimed.beat.report_now()  # a person asks for `last` as soon as a step has run
        self._engine, self.exec_id = engine, exec_id
        atexit.register(self.close)
        return engine
