"""`@flow`: a function whose run is durable. What a run needs loads with the first one: see `runs`."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from .clock import SYSTEM, Clock
from .context import current
from .errors import UsageError
from .ids import check_exec_id, check_step_name
from .refs import Ref, parse_ref
from .sources import check_not_importing, register
from .steps import Signature, Step

if TYPE_CHECKING:
    from .context import Frame
    from .eviction import Leaving
    from .handles import Handle
    from .records import Answered, Opened
    from .stores.base import Store
    from .waiting import Hint

__all__ = ["Flow", "Options", "flow", "named"]

P = ParamSpec("P")
R = TypeVar("R")

_RESERVED = frozenset({"exec_id", "from_", "overrides", "rerun", "on_drift"})


@dataclass(frozen=True, slots=True)
class Options:
    """How an execution is run; see `Flow.options`."""

    exec_id: str | None = None
    raises: bool = True
    inputs: str = "check"
    max_workers: int = 32
    on_drift: str = "reuse"
    take_over: bool = False
    store: Store | None = None
    clock: Clock = SYSTEM
    until: str | Callable[[str], bool] | None = None
    steps: int | None = None
    admit: Callable[[str], None] | None = None
    breaks: tuple[str, ...] | None = None  # None: those that are recorded stay, and this run heeds none
    announces: bool = True  # say on stderr that it paused or waits, and what goes on
    deadline: float | None = None  # seconds from its start
    supervised: bool = False  # a pass goes on with it where its process is gone
    interactive: bool = False  # ask whoever is at the terminal
    ask: Callable[[Opened], Any] | None = None  # asks a person; see `answers.Answers`
    only_there: bool = False  # claim it behind what was read, or not at all
    answers: Mapping[str, Answered] = field(default_factory=dict)  # what was read of its inbox already
    now: float | None = None  # the store's clock, as it was by then
    hints: tuple[Hint, ...] = ()  # by which it was found: they go once they are settled
    served: list[str] | None = None  # where the keys of those go, to be deleted together; None: they are deleted
    leaving: Leaving | None = None  # says that its process is to end, which the thread that runs it is not told
    may_exit: bool = True  # else its body has failed where it calls `sys.exit`: this process is not the flow's

    def __post_init__(self) -> None:
        if self.until is not None and not callable(self.until):
            _check_step("until", self.until)
        for ref in self.breaks or ():
            _check_step("breaks", ref)
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 0):
            raise UsageError(f"steps={self.steps!r}: so many steps run, which is 0 or more")
        if self.exec_id is not None:
            check_exec_id(self.exec_id)
        if self.on_drift not in {"reuse", "rerun", "error"}:
            raise UsageError(f'on_drift={self.on_drift!r}: write "reuse", "rerun" or "error"')
        if self.inputs not in {"check", "recorded"}:
            raise UsageError(f'inputs={self.inputs!r}: write "recorded", or leave it out')
        if self.deadline is not None and not (isinstance(self.deadline, (int, float)) and self.deadline > 0):
            raise UsageError(f"deadline={self.deadline!r}: in so many seconds its process ends, which is more than 0")
        if not isinstance(self.max_workers, int) or self.max_workers < 1:
            raise UsageError(f"max_workers={self.max_workers!r}: at least one worker is needed")


class Flow(Generic[P, R]):
    """A function whose run is durable. Made by `flow`."""

    __kitaru_boundary__ = True

    def __init__(self, function: Callable[P, R], options: Options | None = None) -> None:
        if not inspect.isfunction(function):
            raise UsageError(f"a flow must be a function, and this is {type(function).__qualname__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(f"{function.__qualname__} is a generator: a flow returns its result")
        self.name = check_step_name(function.__name__)
        self.qualname = function.__qualname__
        self.signature = Signature(function)
        taken = _RESERVED & set(self.signature.signature.parameters)
        if taken:
            raise UsageError(
                f"the flow {self.name} has a parameter {', '.join(sorted(taken))}, which `replay` has a meaning for: "
                "rename it"
            )
        self.function: Callable[..., Any] = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._options = options or Options()
        self._nested: Step[..., Any] | None = None
        functools.update_wrapper(cast("Any", self), function)
        if options is None:
            register(self)

    def options(
        self,
        *,
        exec_id: str | None = None,
        raises: bool = True,
        inputs: str = "check",
        max_workers: int = 32,
        on_drift: str = "reuse",
        until: str | Callable[[str], bool] | None = None,
        deadline: float | dt.timedelta | None = None,
        supervised: bool = False,
        interactive: bool = False,
    ) -> Flow[P, R]:
        """The same flow, to be run another way.

        Parameters
        ----------
        exec_id
            A name for the execution. Running it begins it; or resumes it where it was, also when it failed; or gives
            its result if it has completed. Other inputs under the same name are an error.
        raises
            False: `run` gives a handle whatever the flow itself raises; `handle.get()` raises that.
        inputs
            ``"recorded"``: where the execution exists, it goes on with the inputs that it was begun with.
        max_workers
            How many bodies of submitted steps run at once, at each depth of nesting.
        on_drift
            What to do where a call in unchanged code has other inputs than the record at its place: ``"reuse"`` with
            a warning, ``"rerun"``, or ``"error"`` (`KitaruDivergenceError`).
        until
            A step, ``classify#2`` or ``outer#1/inner``: the execution pauses before it begins, durably. `run` gives
            a handle with the status ``paused``, and a resume goes on from there. Or a function that is called with
            the path of each step that is about to run, in whatever thread calls that step: where it gives True, the
            execution pauses there. So another thread can follow a run, and stop it at its next step.
        deadline
            Seconds from its start, or a `timedelta`, in which this process ends, as a function's timeout has it. No
            step begins that is not likely to have ended by then, given how long the longest one of this run took; the
            execution is let go, and `kitaru resume --ready` takes it up at once.
        supervised
            `kitaru resume --ready` and `kitaru worker` go on with it where its process is gone. ``KITARU_SUPERVISE=1``
            says so of all.
        interactive
            Where it comes to a wait, ask whoever is at the terminal. ``KITARU_INTERACTIVE=1`` says so of all.
        """
        seconds = deadline.total_seconds() if isinstance(deadline, dt.timedelta) else deadline
        options = Options(
            exec_id, raises, inputs, max_workers, on_drift, until=until, deadline=seconds, supervised=supervised,
            interactive=interactive,
        )  # fmt: skip
        return Flow(cast("Callable[P, R]", self.function), options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        frame = current.get()
        if frame is not None:  # a flow in a flow is a step of it
            return cast("R", self.as_step().call(frame, args, kwargs))
        handle = self.run(*args, **kwargs)
        return cast("R", handle.result() if handle.status == "pending" else handle.get())

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Run the flow until it has ended, and give its handle; raise the flow's own exception where it fails.

        An async flow within a running event loop gives its handle at once: awaiting it drives the flow. In a step of
        a `kitaru.Session`, a recorded cell of a notebook, it nests under that step as a call does; the handle is then
        that of the session's execution, and says how the flow has ended.

        Raises
        ------
        UsageError
            It is called inside of another flow; or in a recorded cell with an `exec_id` or `until` of its own.
        ExecutionOwnedError
            Somebody else runs this execution. (A named one waits for them instead.)
        InputsDifferError
            The named execution was begun with other inputs.
        StoreError
            The store cannot be used. What was recorded stands.
        """
        check_not_importing(f"the flow {self.name}")
        frame = current.get()
        if frame is not None and frame.engine.begun.by_hand:
            return self._run_nested(frame, args, kwargs)
        if frame is not None:
            raise UsageError(
                f"{self.name}.run() inside of a flow would be an execution apart: call {self.name}(…), and it is a "
                "step of this one"
            )
        self.signature.signature.bind(*args, **kwargs)  # a wrong call is refused before anything is recorded
        options = named(self._options, self.name)
        from .runs import Run, start

        return start(Run(self, options, args, kwargs))

    def _run_nested(self, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle:
        """`run` in a step that is run by hand."""
        if self._options.exec_id is not None or self._options.until is not None:
            raise UsageError(
                f"{self.name}.run() in a recorded cell nests under that cell, and is no execution with an exec_id= or "
                "until= of its own: run it in a cell that is not recorded, or by %kitaru run"
            )
        from .handles import Handle

        step, exec_id = self.as_step(), frame.engine.exec_id
        if not step.is_async:
            handle = Handle(exec_id)
            try:
                handle.settle("completed", step.call(frame, args, kwargs))
            except Exception as e:
                handle.settle("failed", error=e)
        else:
            import asyncio

            work = step.call(frame, args, kwargs)  # the call is made here, and not where it is awaited

            async def drive(of: Handle) -> None:
                try:
                    of.settle("completed", await work)
                except Exception as e:
                    of.settle("failed", error=e)

            handle = Handle(exec_id, drive=drive)
            if asyncio._get_running_loop() is not None:
                return handle
            asyncio.run(drive(handle))
        if self._options.raises:
            handle.get()
        return handle

    def replay(
        self,
        exec_id: str,
        *,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        rerun: str | Iterable[str] = (),
        on_drift: str | None = None,
        **inputs: Any,
    ) -> Handle:
        """Fork an execution: run the flow as a new one that takes over what the edits cannot have changed.

        What ran before the edits is reused, and what reads what they changed runs again; a step that then gives the
        same output as before is as far as that goes. The original execution is not touched. Without edits, a failed
        execution is replayed from its failed step.

        Parameters
        ----------
        exec_id
            The execution: an exec_id, the start of one, ``last``, ``last-failed``, or an address.
        from_
            A REF: what started at or after that step runs again.
        overrides
            Values in the place of recorded ones: ``"checkpoint.NAME"``, ``"checkpoint.outer/inner#2"``,
            ``"checkpoint.NAME#2.OUTPUT"`` for an output, ``"checkpoint.NAME.in.ARG"`` for an input of that one step,
            ``"type.TYPE.in.ARG"`` for an input of all steps of a type, ``"input.ARG"`` for an input of the flow.
        rerun
            Names of steps that run again, all of them; or ``"changed"``: those whose code has changed since.
        on_drift
            As `options` takes it.
        **inputs
            Inputs of the flow, by name; the others are as recorded.

        Raises
        ------
        NotFoundError
            There is no such execution, or it has no such step, input or output.
        InputsDifferError
            It is an execution of another flow.
        """
        check_not_importing(f"the flow {self.name}")
        if current.get() is not None:
            raise UsageError(f"{self.name}.replay() inside of a flow would be an execution apart: run it outside")
        from .client import KitaruClient
        from .forks import read_origin
        from .replays import edits_for
        from .runs import replay

        store, name = KitaruClient(self._options.store).find(exec_id)
        origin = read_origin(store, name)
        edits = edits_for(origin, from_=from_, overrides=overrides, rerun=rerun, inputs=inputs, flow=self)
        options = replace(self._options, store=store, on_drift=on_drift or self._options.on_drift)
        return replay(self, origin, edits, options)

    def as_step(self) -> Step[..., Any]:
        """The flow as a step of another one."""
        if self._nested is None:
            self._nested = _as_step(self)
        return self._nested

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


def _as_step(of: Flow[..., Any]) -> Step[..., Any]:
    step: Step[..., Any] = Step.__new__(Step)
    step.name, step.function, step.is_async = of.name, of.function, of.is_async
    step.retries, step.timeout, step.type, step.outputs, step.in_doubt = 0, None, "flow", None, "rerun"
    step.signature = of.signature
    return step


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow() -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(function: Any = None, /) -> Any:
    """Make a function's run durable: what its steps returned is recorded, and a run that died goes on from there.

    The function is plain Python. On resume it runs again from the top, and each step that has finished gives back its
    recorded output without running.

    Raises
    ------
    UsageError
        For what cannot be a flow: a generator, or a function with a parameter that `replay` has a meaning for.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru import checkpoint, flow
    >>> @checkpoint
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @flow
    ... def twice(n: int) -> int:
    ...     return double(double(n))
    >>> store = kitaru.connect("memory://docs")
    >>> twice.run(3).get()
    12
    """
    return Flow if function is None else Flow(function)


def _check_step(option: str, text: str) -> None:
    ref = parse_ref(text) if isinstance(text, str) else Ref()
    if not ref.path or ref.exec_id or ref.output or ref.argument or ref.version:
        raise UsageError(f"{option}={text!r}: name a step of the flow, such as classify#2 or outer#1/inner#2")


# ---------------------------------------------------------------- the first outermost run of a process may be named


class _Environment:
    """`KITARU_EXEC_ID` names the first outermost run of a process."""

    used_by: str | None = None


def named(options: Options, flow_name: str, *, how: str = "") -> Options:
    """The options under the name that the environment gives; `how` says how else another one is given."""
    exec_id = os.environ.get("KITARU_EXEC_ID")
    inputs = os.environ.get("KITARU_INPUTS")
    if inputs and options.inputs == "check":
        if inputs not in {"check", "recorded"}:
            raise UsageError(f'KITARU_INPUTS is {inputs!r}: write "recorded", or leave it out')
        options = replace(options, inputs=inputs)
    if options.exec_id is not None or not exec_id:
        return options
    if _Environment.used_by is not None:
        raise UsageError(
            f"KITARU_EXEC_ID={exec_id} names one execution, and {_Environment.used_by} has run under it in this "
            f"process: {how or f'give {flow_name} a name of its own with {flow_name}.options(exec_id=…).run(…)'}"
        )
    options = replace(options, exec_id=exec_id)
    _Environment.used_by = flow_name
    return options
