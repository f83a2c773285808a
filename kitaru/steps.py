"""`@checkpoint`: a function whose calls are steps."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from .context import Frame, Suspend, current
from .effects import Steps, drive_async
from .errors import InvalidNameError, UsageError
from .ids import check_step_name
from .pools import StepFuture, in_loop
from .references import Ref, is_ref_annotation
from .sources import register_step

if TYPE_CHECKING:
    from .calls import Made, Recalled
    from .definitions import Asked
    from .engine import Engine
    from .fingerprints import Fingerprint

__all__ = ["Step", "checkpoint", "later", "now", "resolved"]

P = ParamSpec("P")
R = TypeVar("R")

_turns = itertools.count()  # which of two steps of one name was defined last


class Signature:
    """Binds the arguments of a call to names, and back."""

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str] = ()) -> None:
        self._function = function
        self._ignore = frozenset(ignore)
        self.signature = inspect.signature(function)
        kinds = [p.kind for p in self.signature.parameters.values()]
        self._plain = all(k is inspect.Parameter.POSITIONAL_OR_KEYWORD for k in kinds) and not self._ignore
        self._names = tuple(self.signature.parameters)
        closure = getattr(function, "__closure__", None) or ()
        self._closure = list(zip(function.__code__.co_freevars, closure, strict=True)) if closure else []
        known = getattr(function, "__globals__", {})
        parameters = self.signature.parameters.values()
        self.lazy = frozenset(p.name for p in parameters if is_ref_annotation(p.annotation, known))
        self.gives_refs = is_ref_annotation(self.signature.return_annotation, known)
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
        if self._closure:
            out += [(name, cell.cell_contents) for name, cell in self._closure if _is_filled(cell)]
        return out

    def handed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], refer: Callable[[str, Any], Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The args and kwargs as the body takes them: where it says so a `Ref`, which `refer` makes; else the value."""
        if not self.lazy and Ref not in map(type, (*args, *kwargs.values())):
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()

        def one(name: str, given: Any, make: Callable[[str, Any], Any]) -> Any:
            is_ref = type(given) is Ref
            if name in self.lazy:
                return given if is_ref else make(name, given)
            return given.load() if is_ref else given

        for name, given in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(one(name, v, _as_held) for v in given)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: one(name, v, _as_held) for key, v in given.items()}
            else:
                bound.arguments[name] = one(name, given, refer)
        return bound.args, bound.kwargs

    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The args and kwargs of a call, with other values for some of its arguments."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in values.items():
            if name not in bound.arguments:
                raise UsageError(
                    f"{self._function.__qualname__} takes no {name}, which is to be overridden: it is a free variable "
                    "of a closure, or was renamed"
                )
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL and not isinstance(value, (tuple, list)):
                raise UsageError(f"*{name} of {self._function.__qualname__} takes a tuple or a list, not {value!r:.60}")
            if kind is inspect.Parameter.VAR_KEYWORD and not isinstance(value, Mapping):
                raise UsageError(f"**{name} of {self._function.__qualname__} takes a dict, not {value!r:.60}")
            bound.arguments[name] = value
        return bound.args, bound.kwargs

    def call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The args and kwargs that `arguments` came from."""
        bound = inspect.BoundArguments(
            self.signature,
            {name: arguments[name] for name in self._names if name in arguments},
        )
        return bound.args, bound.kwargs


def _as_held(_: str, value: Any) -> Ref[Any]:
    return Ref.to(value)


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
        in_doubt: str = "rerun",
        was: str | None = None,
    ) -> None:
        _check_function(function)
        self.name = check_step_name(function.__name__)
        if not isinstance(retries, int) or retries < 0:
            raise UsageError(f"retries={retries!r} of {self.name}: it counts further attempts, so 0 or more")
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise UsageError(f"timeout={timeout!r} of {self.name}: it is in seconds, and more than 0")
        if in_doubt not in {"rerun", "ask", "fail"}:
            raise UsageError(f'in_doubt={in_doubt!r} of {self.name}: write "rerun", "ask" or "fail"')
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
        self.retries, self.timeout, self.type, self.in_doubt = retries, timeout, type, in_doubt
        self.outputs = tuple(outputs) if outputs is not None else None
        self.was = check_step_name(was) if was is not None else None
        self.signature = Signature(function, ignore)
        self.born = next(_turns)
        register_step(self)
        functools.update_wrapper(cast("Any", self), function)
        if self.is_async:
            _mark_coroutine(self)

    lenient = False
    awaits: Asked | None = None
    was: str | None = None

    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The args and kwargs of a call, with other values for some arguments."""
        return self.signature.replaced(args, kwargs, values)

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
            return cast("R", self._run_plainly(*args, **kwargs))
        return self.call(frame, args, kwargs)  # type: ignore[no-any-return]

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> StepFuture:
        """Call the step in a worker thread, or in the running event loop if it is async; gives its future.

        The call is decided now: its place is here. Outside of a flow it just runs, and its future is done.
        """
        frame = current.get()
        if frame is None:
            return _just_run(self._run_plainly, args, kwargs)
        args, kwargs = resolved(self.name, args, kwargs)  # type: ignore[assignment]
        engine = frame.engine
        made = engine.call(frame, self, self.signature.arguments(args, kwargs), args, kwargs)
        if not self.is_async:
            return engine.submit(made)
        steps = engine.perform(made)
        if frame.awaits and _running_loop():
            return in_loop(drive_async(steps), frame.submitted, engine.leave)
        return engine.pools.submit(frame, lambda: _run_coroutine(drive_async(steps)))

    def map(self, *iterables: Iterable[Any]) -> list[StepFuture]:
        """`submit` for each tuple of arguments, zipped as the built-in `map` does; gives the list of futures."""
        return [self.submit(*args) for args in zip(*iterables)]  # type: ignore[call-arg]  # noqa: B905

    def call(self, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call in `frame`'s body, waited for; a coroutine for an async step."""
        args, kwargs = resolved(self.name, args, kwargs)
        engine = frame.engine
        made = engine.call(frame, self, self.signature.arguments(args, kwargs), args, kwargs)
        return later(engine, made) if self.is_async else now(engine, made)

    def handed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], refer: Callable[[str, Any], Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The args and kwargs as the body takes them."""
        return self.signature.handed(args, kwargs, refer)

    @property
    def lazy(self) -> frozenset[str]:
        """The names of the parameters that take a `Ref`."""
        return self.signature.lazy

    @property
    def gives_refs(self) -> bool:
        """Whether its caller is given a `Ref` to each output."""
        return self.signature.gives_refs

    def _run_plainly(self, *args: Any, **kwargs: Any) -> Any:
        """Outside of a flow, where nothing is recorded: its body, with the values themselves behind each `Ref`."""
        args, kwargs = self.handed(args, kwargs, _as_held)  # type: ignore[assignment]
        value = self.function(*args, **kwargs)
        return self._given_later(value) if self.is_async and self.gives_refs else self._given(value)

    async def _given_later(self, work: Any) -> Any:
        return self._given(await work)

    def _given(self, value: Any) -> Any:
        if not self.gives_refs:
            return value.load() if type(value) is Ref else value
        if self.outputs is not None and isinstance(value, (tuple, list)):
            return tuple(v if type(v) is Ref else Ref.to(v) for v in value)
        return value if type(value) is Ref else Ref.to(value)

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


def now(engine: Engine, made: Made | Recalled) -> Any:
    """What a call that was decided comes to, in this thread."""
    try:
        return engine.carry_out(made)
    except (Exception, Suspend) as e:
        made.frame.hand(e)
        raise


def later(engine: Engine, made: Made | Recalled) -> Coroutine[Any, Any, Any]:
    """Likewise, to be awaited."""
    steps = engine.perform(made)
    work: Any = _awaited(steps, made.lane, engine)
    work.__qualname__ = made.step.name
    if engine.unawaited is not None:
        engine.unawaited[steps] = work
    return work  # type: ignore[no-any-return]


async def _awaited(steps: Steps, lane: str, engine: Engine) -> Any:
    import asyncio

    if engine.unawaited is not None:
        engine.unawaited.pop(steps, None)
    task = asyncio.current_task()
    engine.in_flight[task] = engine.in_flight.get(task, 0) + 1
    try:
        return await drive_async(steps)
    except (Exception, Suspend) as e:
        frame = current.get()
        if frame is not None:
            frame.hand(e, lane)  # `gather` awaits it in a task of its own, for the task that made the call
        raise
    finally:
        engine.in_flight[task] -= 1
        if not engine.in_flight[task]:
            del engine.in_flight[task]


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


_PENDING = frozenset({StepFuture, CoroutineType})


def resolved(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Futures of other steps count by their results; a coroutine was forgotten to be awaited."""
    for v in (*args, *kwargs.values()) if kwargs else args:
        if type(v) in _PENDING:
            break
    else:
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
    in_doubt: str = "rerun",
    was: str | None = None,
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
    in_doubt: str = "rerun",
    was: str | None = None,
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
    in_doubt
        What a resume does where the process died while this step ran, so that it may have had its effect or not:
        ``"rerun"`` it; ``"ask"``, and suspend until a person has said whether it runs again, what its output is, or
        that it failed (`kitaru answer`); or let it ``"fail"`` with `StepInDoubtError`. With the last two it is durable
        that the step has begun before its body begins, at the cost of one more write.
    was
        The name that the step had before: its records under that name count as those of this one.

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
    make = functools.partial(
        Step, retries=retries, timeout=timeout, type=type, outputs=outputs, ignore=ignore, in_doubt=in_doubt, was=was
    )
    return make if function is None else make(function)
