"""`@checkpoint`: a function whose calls are steps."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from .context import Frame, current
from .effects import Steps, drive, drive_async
from .errors import InvalidNameError, UsageError
from .ids import check_step_name
from .pools import StepFuture, in_loop

if TYPE_CHECKING:
    from .fingerprints import Fingerprint

__all__ = ["Step", "checkpoint"]

P = ParamSpec("P")
R = TypeVar("R")


class Signature:
    """Binds the arguments of a call to names, and back."""

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str] = ()) -> None:
        self._function = function
        self._ignore = frozenset(ignore)
        self.signature = inspect.signature(function)
        kinds = [p.kind for p in self.signature.parameters.values()]
        self._plain = all(k is inspect.Parameter.POSITIONAL_OR_KEYWORD for k in kinds) and not self._ignore
        self._names = tuple(self.signature.parameters)
        unknown = self._ignore - set(self._names)
        if unknown:
            raise UsageError(f"ignore= names {', '.join(sorted(unknown))}, which {function.__qualname__} does not take")

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """What counts, by name: each parameter, defaults included, and the free variables of a closure."""
        if self._plain and not kwargs and len(args) == len(self._names):
            out = list(zip(self._names, args, strict=True))
        else:
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            out = [(name, v) for name, v in bound.arguments.items() if name not in self._ignore]
        closure = getattr(self._function, "__closure__", None)
        if closure:
            free = zip(self._function.__code__.co_freevars, closure, strict=True)
            out += [(name, cell.cell_contents) for name, cell in free if _is_filled(cell)]
        return out

    def call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The args and kwargs that `arguments` came from."""
        bound = inspect.BoundArguments(
            self.signature,
            {name: arguments[name] for name in self._names if name in arguments},
        )
        return bound.args, bound.kwargs


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


class Step(Generic[P, R]):
    """A function whose calls inside of a flow are steps; outside of one it just runs.

    Made by `checkpoint`. A call gives the function's own value, so plain code can go on with it.
    """

    __kitaru_boundary__ = True

    def __init__(
        self,
        function: Callable[P, R],
        *,
        retries: int = 0,
        timeout: float | None = None,
        type: str | None = None,  # noqa: A002 - the reference's name
        outputs: tuple[str, ...] | None = None,
        ignore: Iterable[str] = (),
    ) -> None:
        _check_function(function)
        self.name = check_step_name(function.__name__)
        if not isinstance(retries, int) or retries < 0:
            raise UsageError(f"retries={retries!r} of {self.name}: it counts further attempts, so 0 or more")
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise UsageError(f"timeout={timeout!r} of {self.name}: it is in seconds, and more than 0")
        if isinstance(ignore, str):
            raise UsageError(f"ignore={ignore!r} of {self.name}: give a list of parameters' names")
        if outputs is not None:
            if isinstance(outputs, str) or not outputs or len(set(outputs)) != len(outputs):
                raise UsageError(f"outputs={outputs!r} of {self.name}: give a tuple of names, each once")
            for name in outputs:
                if not isinstance(name, str) or not name.isidentifier() or name == "in":
                    raise InvalidNameError(f"outputs= of {self.name}: {name!r} cannot be the name of an output")
        self.function: Callable[..., Any] = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.retries, self.timeout, self.type = retries, timeout, type
        self.outputs = tuple(outputs) if outputs is not None else None
        self.signature = Signature(function, ignore)
        functools.update_wrapper(cast("Any", self), function)
        if self.is_async:
            _mark_coroutine(self)

    lenient = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of what it takes."""
        return tuple(self.signature.signature.parameters)

    def code(self) -> Fingerprint:
        """The fingerprint of its body."""
        from .fingerprints import fingerprint

        return fingerprint(self.function)

    def source(self) -> str | None:
        """The text of its function, where it can be had."""
        from .fingerprints import source_of

        return source_of(self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        frame = current.get()
        if frame is None:
            return cast("R", self.function(*args, **kwargs))
        return cast("R", self.call(frame, args, kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> StepFuture:
        """Call the step in a worker thread, or in the running event loop if it is async; gives its future.

        The call is decided now: its place is here. Outside of a flow it just runs, and its future is done.
        """
        frame = current.get()
        if frame is None:
            return _just_run(self.function, args, kwargs)
        args, kwargs = _resolved(self.name, args, kwargs)  # type: ignore[assignment]
        made = frame.engine.call(frame, self, self._arguments(args, kwargs), args, kwargs)
        steps = frame.engine.perform(made)
        pools = frame.engine.pools
        if not self.is_async:
            return pools.submit(frame, functools.partial(drive, steps))
        if frame.awaits and _running_loop():
            return in_loop(drive_async(steps), frame.submitted, frame.engine.leave)
        return pools.submit(frame, lambda: _run_coroutine(drive_async(steps)))

    def map(self, *iterables: Iterable[Any]) -> list[StepFuture]:
        """`submit` for each tuple of arguments, zipped as the built-in `map` does; gives the list of futures."""
        return [self.submit(*args) for args in zip(*iterables)]  # type: ignore[call-arg]  # noqa: B905

    def call(self, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call in `frame`'s body, waited for; a coroutine for an async step."""
        args, kwargs = _resolved(self.name, args, kwargs)
        made = frame.engine.call(frame, self, self._arguments(args, kwargs), args, kwargs)
        steps = frame.engine.perform(made)
        if self.is_async:
            work: Any = _awaited(steps, made.lane)
            work.__qualname__ = self.name
            return work
        try:
            return drive(steps)
        except Exception as e:
            frame.hand(e)
            raise

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return self.signature.arguments(args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: `self` counts as an argument."""
        return self if instance is None else _BoundStep(self, instance)

    def __repr__(self) -> str:
        return f"<checkpoint {self.name}>"


class _BoundStep:
    """A step that is a method, and the object it was taken from."""

    __kitaru_boundary__ = True

    def __init__(self, step: Step[..., Any], instance: Any) -> None:
        self._step, self.__self__ = step, instance
        self.name, self.__wrapped__ = step.name, step.function
        self.__name__, self.__qualname__ = step.function.__name__, step.function.__qualname__
        self.__doc__, self.__module__ = step.function.__doc__, step.function.__module__
        if step.is_async:
            _mark_coroutine(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._step(self.__self__, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> StepFuture:
        return self._step.submit(self.__self__, *args, **kwargs)

    def map(self, *iterables: Iterable[Any]) -> list[StepFuture]:
        return [self.submit(*args) for args in zip(*iterables)]  # noqa: B905 - as the built-in

    def __repr__(self) -> str:
        return f"<checkpoint {self.name} of {type(self.__self__).__qualname__}>"


async def _awaited(steps: Steps, lane: str) -> Any:
    try:
        return await drive_async(steps)
    except Exception as e:
        frame = current.get()
        if frame is not None:
            frame.hand(e, lane)  # `gather` awaits it in a task of its own, for the task that made the call
        raise


def _run_coroutine(work: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    return asyncio.run(work)


def _running_loop() -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


_outside: set[Future[Any]] = set()
"""Async steps that were submitted outside of a flow, and that have not ended."""


def _just_run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StepFuture:
    future = StepFuture()
    future.set_running_or_notify_cancel()
    try:
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            if _running_loop():
                return in_loop(value, _outside)
            value = _run_coroutine(value)
        future.set_result(value)
    except Exception as e:
        future.set_exception(e)
    return future


def _resolved(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Futures of other steps count by their results; a coroutine was forgotten to be awaited."""
    if not any(isinstance(v, (StepFuture, CoroutineType)) for v in (*args, *kwargs.values())):
        return args, kwargs
    forgotten = [v for v in (*args, *kwargs.values()) if inspect.iscoroutine(v)]
    if forgotten:
        for v in forgotten:
            v.close()
        what = forgotten[0].__qualname__
        raise UsageError(f"{name} was given the coroutine {what}(…), which has not run: await it first")
    args = tuple(a.result() if isinstance(a, StepFuture) else a for a in args)
    kwargs = {k: a.result() if isinstance(a, StepFuture) else a for k, a in kwargs.items()}
    return args, kwargs


def _mark_coroutine(of: Any) -> None:
    """`inspect.iscoroutinefunction` and `asyncio.iscoroutinefunction` say yes to an async step."""
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(of)
    else:
        from asyncio import coroutines

        of._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]


# ---------------------------------------------------------------- what can be a step

_defined: dict[tuple[str, str], tuple[CodeType, Any]] = {}


def _check_function(function: Any) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        raise UsageError(f"put @{type(function).__name__} above @checkpoint, not below it")
    if not inspect.isfunction(function):
        raise UsageError(
            f"a step must be a function or a method, and this is {type(function).__qualname__}: wrap it in a `def`"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{function.__qualname__} is a generator: what it yields has no end that could be recorded. Return a list"
        )
    check_step_name(function.__name__)
    _check_once(function)


def _check_once(function: Any) -> None:
    """Two steps of one name in one module would take each other's records.

    A cell that is run again and a module that is reloaded define theirs anew, and so does a function that makes one.
    """
    code = function.__code__
    if "<locals>" in function.__qualname__ or not os.path.isfile(code.co_filename):
        return
    key = (function.__module__, function.__qualname__)
    spec = getattr(sys.modules.get(function.__module__), "__spec__", None)
    before = _defined.get(key)
    _defined[key] = (code, spec)
    if before is None or before[1] is not spec:
        return
    if before[0].co_filename == code.co_filename and before[0].co_firstlineno != code.co_firstlineno:
        raise InvalidNameError(
            f"two steps are called {function.__qualname__}, in {code.co_filename} at lines "
            f"{before[0].co_firstlineno} and {code.co_firstlineno}: their records would be mixed up. Rename one"
        )


@overload
def checkpoint(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def checkpoint(
    *,
    retries: int = 0,
    timeout: float | None = None,
    type: str | None = None,
    runtime: str | None = None,
    outputs: tuple[str, ...] | None = None,
    ignore: Iterable[str] = (),
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def checkpoint(
    function: Any = None,
    /,
    *,
    retries: int = 0,
    timeout: float | None = None,
    type: str | None = None,  # noqa: A002 - the reference's name
    runtime: str | None = None,
    outputs: tuple[str, ...] | None = None,
    ignore: Iterable[str] = (),
) -> Any:
    """Make a function's calls steps: recorded when they end, and not run again once they have.

    Parameters
    ----------
    retries
        Further attempts after a failure, with exponential backoff and jitter.
    timeout
        Seconds for one attempt; then it fails with `StepTimeoutError`. A synchronous body may run on, and what it
        records is refused.
    type
        What kind of step it is, for people and pictures: ``llm_call``, ``tool_call``, …
    runtime
        Accepted for the reference's sake; it has no effect.
    outputs
        Names for the members of the tuple that the function returns; each becomes an artifact of its own.
    ignore
        Names of parameters that do not count when a call is matched with its record.

    Raises
    ------
    InvalidNameError
        For a lambda, and for a second step of one name in one module.
    UsageError
        For what cannot be a step: a generator, a class, a negative `retries`.

    Examples
    --------
    >>> from kitaru import checkpoint
    >>> @checkpoint(retries=2)
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> double(4)  # outside of a flow it just runs
    8
    """
    del runtime
    make = functools.partial(Step, retries=retries, timeout=timeout, type=type, outputs=outputs, ignore=ignore)
    return make if function is None else make(function)
