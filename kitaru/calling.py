"""Steps whose body is somebody else's code: what an adapter is made of. See docs/adapters.md.

`call` makes a step of a function that is given by name, `begin` one of something that is watched while it goes on, such
as a stream, and `block` an execution of a `with` body. Outside of a flow, of a step and of a block they record nothing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from .attempts import Attempt, Durable, Sleep
from .blocks import Block, block
from .calls import Made, Recalled
from .concealing import conceal
from .context import IN_ORDER, Frame, Place, carried, current, tag_of, tagged
from .definitions import Asked
from .effects import Effect, Outcome, Raised, Steps
from .errors import UsageError
from .fingerprints import Fingerprint
from .ids import check_step_name
from .references import Ref
from .steps import later, now, resolved

__all__ = [
    "Block",
    "Course",
    "Live",
    "begin",
    "begin_async",
    "block",
    "call",
    "call_async",
    "carry",
    "conceal",
    "continued",
    "is_asking",
    "is_in_flow",
    "lane",
]

P = ParamSpec("P")
T = TypeVar("T")

_AS_OFTEN_AS_ASKED = 1 << 30


@dataclass(slots=True, unsafe_hash=True)
class _Call:
    """What the engine asks of a step, for one whose body is handed along with its arguments."""

    name: str
    type: str | None
    version: str
    parameters: tuple[str, ...]
    outputs: tuple[str, ...] | None = None
    is_async: bool = False
    retries: int = field(default=0, compare=False)

    @property
    def function(self) -> Callable[..., Any]:
        return _run

    @property
    def timeout(self) -> None:
        return None

    @property
    def in_doubt(self) -> str:
        return "rerun"

    @property
    def awaits(self) -> Asked | None:
        return None

    @property
    def lenient(self) -> bool:
        return False

    @property
    def was(self) -> None:
        return None

    @property
    def lazy(self) -> frozenset[str]:
        return frozenset()

    @property
    def gives_refs(self) -> bool:
        return False

    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        if unknown := values.keys() - kwargs.keys():
            raise UsageError(f"{self.name} was called without {min(unknown)}, which is to be overridden")
        return args, {**kwargs, **values}

    def handed(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        refer: Callable[[str, Any], Any],  # noqa: ARG002
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return args, _loaded(kwargs)

    def code(self) -> Fingerprint:
        return Fingerprint(hashlib.sha256(f"{self.name}\n{self.version}".encode()).digest(), {})

    def source(self) -> str | None:
        return None


def _loaded(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: v.load() if type(v) is Ref else v for name, v in arguments.items()}


def _run(body: Callable[..., Any], /, **arguments: Any) -> Any:
    return body(**arguments)


def is_in_flow() -> bool:
    """Whether what is called here is recorded: in a flow, in a step, in a recorded cell, or in a `block`."""
    return current.get() is not None


def is_asking() -> bool:
    """Whether this is the body of a step of type ``llm_call`` that an adapter made.

    Then that step is the record of the model request that is sent here, and whoever watches what is sent, as
    `record_http` does, leaves it alone. What another step does inside of that one is its own again, and so is what a
    checkpoint of the user does, of whatever type: nobody but its body knows what that sends.
    """
    frame = current.get()
    return frame is not None and isinstance(frame.step, _Call) and frame.step.type == "llm_call"


def lane() -> tuple[Any, str] | None:
    """Which body calls here, and whether in order or in which of its side tasks; None outside of a flow.

    Equal for calls that follow each other. For dicts of what an adapter keeps from one call to the next.
    """
    frame = current.get()
    return None if frame is None else (frame, frame.lane())


def carry(variable: ContextVar[Any]) -> None:
    """From now on a thread that a body starts begins with this variable's value, as a task does."""
    if variable not in carried:
        carried.append(variable)


def call(
    name: str,
    body: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    type: str | None = None,  # noqa: A002 - as in `checkpoint`
    version: str = "",
    retries: int = 0,
    outputs: tuple[str, ...] | None = None,
) -> Any:
    """Call `body` as a step: its recorded output where there is one, else what ``body(**arguments)`` gives.

    Parameters
    ----------
    name
        The step's name.
    body
        What runs where nothing is recorded. Nothing of it counts: what decides is among the arguments.
    arguments
        What the step is matched by, by name. Where one of them is overridden the body is given that other value.
    type
        What kind of step it is: ``llm_call``, ``tool_call``, …
    version
        Stands for the body's code: another one where an adapter makes something else of the same call. Recorded
        outputs are reused all the same, and whoever resumes is told, as of code that has changed.
    retries
        Further attempts after a failure, as in `checkpoint`.
    outputs
        Names for the members of the tuple that the body gives.

    Raises
    ------
    Exception
        What the body raises, or has raised when it was recorded.
    UnrecordableValueError
        The body's value is no data and cannot be pickled.

    Examples
    --------
    >>> from kitaru import calling, flow
    >>> @flow
    ... def ask(question: str) -> str:
    ...     return calling.call("model", lambda question: question.upper(), {"question": question}, type="llm_call")
    >>> ask.run("why?").get()
    'WHY?'
    """
    frame = current.get()
    if frame is None:
        return body(**_loaded(arguments))
    step = _Call(check_step_name(name), type, version, tuple(arguments), outputs, retries=retries)
    return now(frame.engine, _decided(frame, step, arguments, (body,)))


class Course:
    """The order of the calls of a library that makes each from a task of its own, where it is known all the same.

    A call has its place by the order in which the body's own task makes it, and one from a side task has none. A
    library that starts tasks of its own for what it does one after the other, or beside each other in an order that
    it was given, knows more: `next` and `reserve` say so, as ``place=`` of `call_async` and `begin_async`.

    It is made in the task that begins the run of the library, and stands for that run. Where that is a side task itself
    its calls have no places either, and are found by their arguments. Outside of a flow it does nothing.

    Examples
    --------
    >>> import asyncio, kitaru
    >>> from kitaru import calling, flow
    >>> async def shout(word: str) -> str:
    ...     return word.upper()
    >>> @flow
    ... async def both(first: str, second: str) -> list[str]:
    ...     course = calling.Course()
    ...     places = [course.reserve("shout") for _ in range(2)]
    ...     async def one(n: int, word: str) -> str:
    ...         return await calling.call_async("shout", shout, {"word": word}, place=places[n])
    ...     return await asyncio.gather(one(0, first), one(1, second))
    >>> handle = both.run("a", "b")
    >>> sorted(str(point) for point in kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints)
    ['<checkpoint shout#1: completed>', '<checkpoint shout#2: completed>']
    """

    def __init__(self) -> None:
        self._frame = current.get()
        self._lane = self._frame.lane() if self._frame is not None else None

    def next(self) -> Place | None:
        """The place of a call that comes behind all that this run has called, and has been given, before."""
        return Place(self._lane) if self._is_here() else None

    def reserve(self, name: str) -> Place | None:
        """The place of a later call of `name`: reserve in the order that is known, whichever is made first."""
        if self._frame is None or not self._is_here():
            return None
        if self._lane != IN_ORDER:
            return Place(self._lane)
        with self._frame.engine.lock:
            return Place(ordinal=self._frame.next(name))

    def _is_here(self) -> bool:
        """Not inside of a step that the run has called: there, other calls are counted."""
        return self._frame is not None and current.get() is self._frame


def continued(function: Callable[P, T]) -> Callable[P, T]:
    """`function` as a part of the body that makes this, for a library that runs it in a thread and waits for it.

    What it calls is then in order, as if the body itself called it. Outside of a flow it is `function`, and in a side
    task of a body too.

    Examples
    --------
    >>> import asyncio, kitaru
    >>> from kitaru import calling, checkpoint, flow
    >>> @checkpoint
    ... def shout(word: str) -> str:
    ...     return word.upper()
    >>> @flow
    ... async def greet(name: str) -> str:
    ...     return await asyncio.to_thread(calling.continued(shout), name)
    >>> handle = greet.run("ada")
    >>> [point.label for point in kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints]
    ['shout#1']
    """
    frame = current.get()
    if frame is None or frame.lane() != IN_ORDER:
        return function

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with frame.lent():
            return function(*args, **kwargs)

    return within


def call_async(
    name: str,
    body: Callable[..., Awaitable[Any]],
    arguments: Mapping[str, Any],
    *,
    type: str | None = None,  # noqa: A002 - as in `checkpoint`
    version: str = "",
    retries: int = 0,
    outputs: tuple[str, ...] | None = None,
    place: Place | None = None,
) -> Awaitable[Any]:
    """As `call`, with a body that is awaited. The call's place is here, or as a `Course` gave it."""
    frame = current.get()
    if frame is None:
        return body(**_loaded(arguments))
    step = _Call(check_step_name(name), type, version, tuple(arguments), outputs, is_async=True, retries=retries)
    return later(frame.engine, _decided(frame, step, arguments, (body,), place))


def _decided(
    frame: Frame, step: _Call, arguments: Mapping[str, Any], args: tuple[Any, ...], place: Place | None = None
) -> Made | Recalled:
    _, arguments = resolved(step.name, (), arguments)
    return frame.engine.call(frame, step, arguments.items(), args, arguments, place)


class Live:
    """A step that goes on while its caller does: a stream, for one. Made by `begin`.

    One that is never ended stays in flight: a resume begins it again, at the same place.

    Attributes
    ----------
    is_recorded : bool
        Its output is recorded: there is nothing to run, and `value` is that output.
    value : Any
        The output, once there is one.
    arguments : Mapping of str to Any
        Those that it runs with: as they were given, or as they are overridden.
    label : str
        Its path: ``model#2``; empty where nothing is recorded.
    """

    def __init__(
        self, frame: Frame | None, step: _Call, arguments: Mapping[str, Any], place: Place | None = None
    ) -> None:
        self.is_recorded, self.arguments, self.label = False, arguments, ""
        self.value: Any = None
        self._frame: Frame | None = None  # of its own body
        self._steps: Steps | None = None
        self._step = step
        self._error: Exception | None = None  # of an attempt that may be followed by another one
        if frame is None:
            return
        made = _decided(frame, step, arguments, (), place)
        self._steps = frame.engine.perform(made)
        if isinstance(made, Made):
            self._made = made
        self._caller, self._lane = frame, made.lane

    def succeed(self, value: Any) -> Any:
        """Record the output; durable on return. Gives it."""
        self._advance(self._ended(value))
        return value

    async def succeed_async(self, value: Any) -> Any:
        """As `succeed`, without holding up the event loop."""
        await self._advance_async(self._ended(value))
        return value

    def fail(self, error: BaseException) -> None:
        """Record the failure; durable on return. Whoever calls this then raises it, or goes on.

        What is no `Exception`, such as a cancellation, leaves it in flight.
        """
        if (outcome := self._failed(error)) is not None:
            try:
                self._advance(outcome)
            except Exception as e:
                if e is not error:
                    raise

    async def fail_async(self, error: BaseException) -> None:
        """As `fail`, without holding up the event loop."""
        if (outcome := self._failed(error)) is not None:
            try:
                await self._advance_async(outcome)
            except Exception as e:
                if e is not error:
                    raise

    def may_fail(self, error: Exception) -> None:
        """This attempt failed, and somebody else, such as the library that makes the call, may try again.

        `again` is that. Else the failure is recorded before the next call that is made here, or at the body's end.
        """
        if self._steps is not None:
            self._error = error
            self._caller.loose[self._lane] = self

    def again(self) -> None:
        """Begin a further attempt, after `may_fail`. That attempt's failure is recorded beside it."""
        error, self._error = self._error, None
        if self._steps is not None and error is not None:
            self._caller.loose.pop(self._lane, None)
            self._step.retries = _AS_OFTEN_AS_ASKED
            self._advance(Outcome(error=error, took=self._took()))

    @property
    def is_open(self) -> bool:
        """Whether it can still be ended: the body that made the call has not ended itself."""
        at = self._frame if self._steps is not None else None
        while at is not None and at.closed is None:
            if at.up is None:
                return True
            at = at.up
        return False

    @property
    def may_go_on(self) -> bool:
        """Whether `again` would begin a further attempt: it `may_fail`, and nothing else was called since."""
        return self._error is not None and self._steps is not None

    def carries(self, error: BaseException) -> None:
        """`error` is what somebody else raises for this call's failure: where it comes out of the body, so did that."""
        if self._steps is not None:
            tagged(error, self._made.rid)

    def settle(self, into: BaseException | None) -> None:
        """For the engine: nobody tried again. The failure is durable no later than what follows it.

        Parameters
        ----------
        into
            The exception that carries it on.
        """
        error, self._error = self._error, None
        if error is None or (outcome := self._failed(error)) is None:
            return
        try:
            self._advance(outcome, waits=False)
        except Exception as e:
            if e is not error:
                raise
        exec_id = self._caller.engine.exec_id
        if into is not None and tag_of(into, exec_id) is None:
            tagged(into, self._made.rid)

    def leave(self) -> None:
        """Nothing came of it: it stays in flight. What has ended is not touched."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def log(self, **metadata: Any) -> None:
        """Record metadata of this step, as `kitaru.log` does of the one whose body calls it."""
        if self._frame is not None and self._steps is not None:
            self._frame.engine.log(self._frame, metadata)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within this, steps that are called nest under this one."""
        if self._frame is None:
            yield
            return
        token = current.set(self._frame)
        try:
            yield
        finally:
            current.reset(token)

    # ------------------------------------------------------------ the engine's steps, up to the body and from it on

    def _ended(self, value: Any) -> Outcome:
        self.value = value
        return Outcome(value, took=self._took())

    def _failed(self, error: BaseException) -> Outcome | None:
        if not isinstance(error, Exception):
            self.leave()
            return None
        self._step.retries = 0
        return Outcome(error=error, took=self._took())

    def _took(self) -> float:
        return 0.0 if self._frame is None else self._frame.engine.clock.monotonic() - self._began

    def _advance(self, outcome: Outcome | None = None, *, waits: bool = True) -> None:
        if (steps := self._steps) is None:
            return
        try:
            effect = steps.send(outcome)
            while not isinstance(effect, Attempt):
                is_due = waits or not isinstance(effect, Durable)
                effect = steps.send(_at_once(effect).run() if is_due else None)
            self._enter(effect)
        except StopIteration as end:
            self._came_to(end.value, ended=outcome is not None)
        except BaseException:
            self.leave()
            raise

    async def _advance_async(self, outcome: Outcome | None = None) -> None:
        if (steps := self._steps) is None:
            return
        try:
            effect = steps.send(outcome)
            while not isinstance(effect, Attempt):
                effect = steps.send(await _at_once(effect).arun())
            self._enter(effect)
        except StopIteration as end:
            self._came_to(end.value, ended=outcome is not None)
        except BaseException:
            self.leave()
            raise

    def _enter(self, attempt: Attempt) -> None:
        """Its body begins here."""
        self._frame, self.arguments = attempt.frame, attempt.kwargs
        self.label = attempt.frame.label
        self._began = attempt.clock.monotonic()
        self._frame.enter()

    def _came_to(self, value: Any, *, ended: bool) -> None:
        self._steps = None
        if isinstance(value, Raised):
            self._caller.hand(value.error, self._lane)
            raise value.error
        if not ended:
            self.is_recorded, self.value = True, value


def _at_once(effect: Effect) -> Effect:
    """Whoever calls `again` has seen to the time before it."""
    if isinstance(effect, Sleep):
        effect.seconds = 0.0
    return effect


def begin(
    name: str,
    arguments: Mapping[str, Any],
    *,
    type: str | None = None,  # noqa: A002 - as in `checkpoint`
    version: str = "",
    outputs: tuple[str, ...] | None = None,
) -> Live:
    """Begin a step that its caller ends: for what is handed on while it goes on, such as a stream.

    The parameters are those of `call`.

    Raises
    ------
    Exception
        The failure that is recorded as this call's result.

    Examples
    --------
    >>> from kitaru import calling, flow
    >>> @flow
    ... def tell(story: str) -> list[str]:
    ...     live = calling.begin("stream", {"story": story}, type="llm_call")
    ...     if live.is_recorded:
    ...         return live.value
    ...     return live.succeed(live.arguments["story"].split())
    >>> tell.run("once upon a time").get()
    ['once', 'upon', 'a', 'time']
    """
    live = Live(current.get(), _Call(check_step_name(name), type, version, (), outputs), arguments)
    live._advance()
    return live


def begin_async(
    name: str,
    arguments: Mapping[str, Any],
    *,
    type: str | None = None,  # noqa: A002 - as in `checkpoint`
    version: str = "",
    outputs: tuple[str, ...] | None = None,
    place: Place | None = None,
) -> Coroutine[Any, Any, Live]:
    """As `begin`, without holding up the event loop. The call's place is here, or as a `Course` gave it."""
    live = Live(current.get(), _Call(check_step_name(name), type, version, (), outputs), arguments, place)

    async def begun() -> Live:
        await live._advance_async()
        return live

    return begun()
