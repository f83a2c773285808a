"""A block: an execution whose body is that of a `with` statement, for code that is in no flow."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from .context import Suspend, current
from .effects import Effect, Outcome, Steps, drive, drive_async
from .errors import ExecutionEndedError, UsageError
from .eviction import evictable
from .fingerprints import is_own
from .flows import Flow, Options, named
from .handles import Handle
from .ids import check_step_name, new_exec_id
from .location import current_store
from .records import BLOCK
from .runs import Opening, Run, interrupted, left_by, open_run, settle, settle_left
from .steps import Signature

if TYPE_CHECKING:
    from contextvars import Token

    from .context import Frame
    from .engine import Engine
    from .stores.base import Store

__all__ = ["Block", "block"]


class Block(contextlib.AbstractContextManager["Block"], contextlib.AbstractAsyncContextManager["Block"]):
    """What `block` gives.

    Attributes
    ----------
    exec_id : str or None
        The execution's name; None before it is entered.
    store : Store or None
        Where it is recorded.
    """

    def __init__(self, name: str, *, exec_id: str | None = None, store: Store | None = None) -> None:
        self._name, self._options = check_step_name(name), Options(exec_id, store=store, inputs="recorded")
        self.exec_id: str | None = None
        self.store: Store | None = None
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        run = self._begin(is_async=False)
        if run is not None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(evictable())
                self._enter(open_run(run, self._handle), stack)
        return self

    async def __aenter__(self) -> Self:
        import asyncio

        run = self._begin(is_async=True)
        if run is not None:
            opening = Opening(run, self._handle)
            try:
                engine = await asyncio.to_thread(opening.open)
            except asyncio.CancelledError:
                opening.leave()
                raise
            with contextlib.ExitStack() as stack:
                stack.enter_context(evictable())
                self._enter(engine, stack)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._engine is None:
            return
        with self._exit():
            try:
                outcome: Outcome = drive(self._ended(error))
            except BaseException as e:
                if (why := left_by(e)) is None:
                    self._raise(interrupted(self._engine, e), error)
                    return
                settle_left(self._run, self._handle, self._engine, why)
                self._handle.get()
                return
            settle(self._run, self._handle, self._engine, outcome)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import asyncio

        if self._engine is None:
            return
        with self._exit():
            try:
                outcome: Outcome = await drive_async(self._ended(error))
            except BaseException as e:
                if (why := left_by(e)) is None:
                    self._raise(interrupted(self._engine, e), error)
                    return
                if isinstance(why, Suspend):
                    await self._engine.land()
                await asyncio.to_thread(settle_left, self._run, self._handle, self._engine, why)
                self._handle.get()
                return
            settle(self._run, self._handle, self._engine, outcome)

    # ------------------------------------------------------------ the run of a flow that has no function

    def _begin(self, *, is_async: bool) -> Run | None:
        """The run to open; None inside of a flow, whose execution this belongs to then."""
        around = current.get()
        if around is not None:
            if self._options.exec_id is not None:
                raise UsageError(
                    f"exec_id={self._options.exec_id!r} of {self._name}: what is inside of a flow, of a step or of a "
                    f"recorded cell is recorded there, in {around.engine.exec_id}: leave exec_id out"
                )
            self.exec_id, self.store = around.engine.exec_id, around.engine.store
            return None
        if self._engine is not None:
            raise UsageError(f"this block of {self.exec_id} is entered already: make another one")
        how = f"give this block a name of its own: {self._name}(exec_id=…)"
        options = named(self._options, self._name, how=how)
        self.store = store = options.store or current_store()
        exec_id = options.exec_id or new_exec_id(self._name)
        self._handle = Handle(exec_id)
        self._run = Run(_as_flow(self._name, is_async=is_async), replace(options, store=store), (), {})
        return self._run

    def _enter(self, engine: Engine | None, stack: contextlib.ExitStack) -> None:
        exec_id = self.exec_id = self._handle.exec_id
        if engine is None:
            self._handle.get()  # it waits, and nobody has answered yet
            raise ExecutionEndedError(
                f"{exec_id} has completed, and nothing more is recorded in it: choose another exec_id"
            )
        self._engine = engine
        self._steps: Steps = engine.run(_nothing, (), {})
        next(self._steps)  # up to its body, which is what comes now
        engine.frame.enter()
        engine.frame.awaits = self._run.flow.is_async
        self._token: Token[Frame | None] = current.set(engine.frame)
        self._stack = stack.pop_all()

    @contextlib.contextmanager
    def _exit(self) -> Generator[None]:
        try:
            current.reset(self._token)
        except ValueError:  # left in another context than it was entered in
            current.set(None)
        try:
            yield
        finally:
            self._engine = None
            self._stack.close()

    def _ended(self, error: BaseException | None) -> Generator[Effect, Any, Any]:
        """What comes after the body, as effects."""
        if error is not None and not isinstance(error, Exception):
            self._steps.close()
            raise error
        steps = self._steps
        try:
            effect = steps.send(Outcome(error=error))
            while True:
                effect = steps.send((yield effect))
        except StopIteration as end:
            return end.value

    @staticmethod
    def _raise(now: BaseException, error: BaseException | None) -> None:
        if now is not error:
            raise now from None


def _nothing() -> None:
    """Stands for the body, which somebody else runs."""


def _as_flow(name: str, *, is_async: bool) -> Flow[..., Any]:
    """The function that is about to run a `with` body, as a flow: its code is what drift is judged by."""
    flow: Flow[..., Any] = Flow.__new__(Flow)
    flow.name, flow.qualname, flow.is_async = name, BLOCK, is_async
    flow.function, flow.signature = _caller(), Signature(_nothing)
    return flow


def _caller() -> types.FunctionType:
    """The innermost function on the stack that is the user's own; the module where it is none."""
    frame = at = sys._getframe()
    while not is_own(at.f_globals.get("__name__", "?"), at.f_code.co_filename):
        if at.f_back is None:
            at = frame  # all of it is somebody else's: then only what was called counts
            break
        at = at.f_back
    code, known = at.f_code, at.f_locals
    cells = tuple(types.CellType(known[n]) if n in known else types.CellType() for n in code.co_freevars)
    function = types.FunctionType(code, at.f_globals, code.co_name, None, cells)
    function.__qualname__ = code.co_qualname
    return function


def block(name: str, *, exec_id: str | None = None, store: Store | None = None) -> Block:
    """Make the body of a `with` statement, which is in no flow, an execution: its steps are recorded.

    The same command run again goes on with it, where it has a name: what had finished gives back its recorded output.
    The first block, or flow, of a process is named by ``KITARU_EXEC_ID``. Inside of a flow, of a step and of a recorded
    cell it does nothing: what is called there is recorded already. ``async with`` is the same in an event loop.

    Parameters
    ----------
    name
        What it is an execution of; the first part of its exec_id.
    exec_id
        A name for the execution, which begins it or goes on with it.
    store
        Where it is recorded; the current store when left out.

    Raises
    ------
    ExecutionEndedError
        It has completed, or was cancelled.
    ExecutionSuspended
        It waits, and what it waits for has not come; or its body came to a wait.
    InputsDifferError
        `exec_id` is an execution of something else.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru import calling
    >>> store = kitaru.connect("memory://blocks")
    >>> with calling.block("talk", exec_id="talk-1") as talk:
    ...     calling.call("greet", lambda name: f"Hello, {name}", {"name": "Ada"})
    'Hello, Ada'
    >>> kitaru.KitaruClient().executions.get("talk-1").checkpoints
    [<checkpoint greet#1: completed>]
    """
    return Block(name, exec_id=exec_id, store=store)
