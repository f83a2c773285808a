"""`@flow`: a function whose run is durable. What a run needs loads with the first one: see `runs`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from .clock import SYSTEM, Clock
from .context import current
from .errors import UsageError
from .ids import check_exec_id, check_step_name
from .sources import check_not_importing, register
from .steps import Signature, Step

if TYPE_CHECKING:
    from .handles import Handle
    from .stores.base import Store

__all__ = ["Flow", "Options", "flow"]

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

    def __post_init__(self) -> None:
        if self.exec_id is not None:
            check_exec_id(self.exec_id)
        if self.on_drift not in {"reuse", "rerun", "error"}:
            raise UsageError(f'on_drift={self.on_drift!r}: write "reuse", "rerun" or "error"')
        if self.inputs not in {"check", "recorded"}:
            raise UsageError(f'inputs={self.inputs!r}: write "recorded", or leave it out')
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
            Worker threads for submitted steps, at each depth of nesting.
        on_drift
            What to do where a call in unchanged code has other inputs than the record at its place: ``"reuse"`` with
            a warning, ``"rerun"``, or ``"error"`` (`KitaruDivergenceError`).
        """
        options = Options(exec_id, raises, inputs, max_workers, on_drift)
        return Flow(cast("Callable[P, R]", self.function), options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        frame = current.get()
        if frame is not None:  # a flow in a flow is a step of it
            if self._nested is None:
                self._nested = _as_step(self)
            return cast("R", self._nested.call(frame, args, kwargs))
        handle = self.run(*args, **kwargs)
        return cast("R", handle.result() if handle.status == "pending" else handle.get())

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Run the flow until it has ended, and give its handle; raise the flow's own exception where it fails.

        An async flow within a running event loop gives its handle at once: awaiting it drives the flow.

        Raises
        ------
        ExecutionOwnedError
            Somebody else runs this execution. (A named one waits for them instead.)
        InputsDifferError
            The named execution was begun with other inputs.
        StoreError
            The store cannot be used. What was recorded stands.
        """
        check_not_importing(f"the flow {self.name}")
        if current.get() is not None:
            raise UsageError(
                f"{self.name}.run() inside of a flow would be an execution apart: call {self.name}(…), and it is a "
                "step of this one"
            )
        self.signature.signature.bind(*args, **kwargs)  # a wrong call is refused before anything is recorded
        options = _named(self._options, self.name)
        from .runs import Run, start

        return start(Run(self, options, args, kwargs))

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


def _as_step(of: Flow[..., Any]) -> Step[..., Any]:
    step: Step[..., Any] = Step.__new__(Step)
    step.name, step.function, step.is_async = of.name, of.function, of.is_async
    step.retries, step.timeout, step.type, step.outputs = 0, None, "flow", None
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


# ---------------------------------------------------------------- the first outermost run of a process may be named


class _Environment:
    """`KITARU_EXEC_ID` names the first outermost run of a process."""

    used_by: str | None = None


def _named(options: Options, flow_name: str) -> Options:
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
            f"process: give {flow_name} a name of its own with {flow_name}.options(exec_id=…).run(…)"
        )
    options = replace(options, exec_id=exec_id)
    _Environment.used_by = flow_name
    return options
