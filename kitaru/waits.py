"""What a flow waits for: a person, a moment, another execution. Nothing is kept running meanwhile."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid as _uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .clock import SYSTEM
from .context import Frame, Place, Suspend, current
from .definitions import NO_DEFAULT, Asked
from .errors import StoreError, UsageError
from .fingerprints import Fingerprint
from .ids import check_step_name
from .schemas import Schema, plain, schema_of
from .sources import is_flow
from .steps import Step, checkpoint

if TYPE_CHECKING:
    from .flows import Flow

__all__ = [
    "Child",
    "cancelled",
    "gather",
    "now",
    "random",
    "sleep",
    "sleep_async",
    "spawn",
    "uuid4",
    "wait",
    "wait_async",
]


class Wait:
    """A wait as the engine sees it: a step without a body, whose output is what closed it."""

    is_async = False
    retries = 0
    timeout = None
    outputs = None
    lenient = False
    in_doubt = "rerun"
    was = None
    lazy: frozenset[str] = frozenset()
    gives_refs = False

    def __init__(self, name: str, kind: str, awaits: Asked, arguments: Mapping[str, Any]) -> None:
        self.name, self.type, self.awaits, self.arguments = check_step_name(name), kind, awaits, dict(arguments)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.arguments)

    def function(self) -> None:
        raise AssertionError("a wait has no body")

    def replaced(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        values: Mapping[str, Any],  # noqa: ARG002 - what a wait is asked with decides nothing but whether it matches
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return args, kwargs

    def handed(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        refer: Callable[[str, Any], Any],  # noqa: ARG002
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return args, kwargs

    def code(self) -> Fingerprint:
        return Fingerprint(hashlib.sha256(f"kitaru.{self.type}".encode()).digest(), {})

    def source(self) -> str | None:
        return None

    def reach(self, frame: Frame) -> Any:
        """Wait in `frame`'s body, in this thread. Raises `Suspend` where it is not over."""
        if self.awaits.timeout and frame.awaits and frame.lane() == "":
            raise UsageError(
                f"{self.name}: timeout= would hold up the event loop here: await kitaru.{self.type}_async(…) instead"
            )
        engine = frame.engine
        return engine.carry_out(engine.call(frame, self, self.arguments.items(), (), {}))

    def __call__(self, frame: Frame) -> Any:
        try:
            return self.reach(frame)
        except (Exception, Suspend) as e:
            frame.hand(e)
            raise

    def later(self, frame: Frame, place: Place | None = None) -> Coroutine[Any, Any, Any]:
        """The same, without holding up the event loop. Its place is here, where it is called."""
        from .steps import _awaited

        engine = frame.engine
        made = engine.call(frame, self, self.arguments.items(), (), {}, place)
        return _awaited(engine.perform(made), made.lane, engine)


def _frame(what: str) -> Frame:
    frame = current.get()
    if frame is None:
        raise UsageError(f"kitaru.{what}() stands in the body of a flow or of a step: there is nothing to suspend here")
    if frame.engine.begun.by_hand:
        raise UsageError(f"kitaru.{what}() cannot suspend a cell of a notebook: {_instead(frame)}")
    return frame


def _instead(frame: Frame) -> str:
    """What to do where a cell that is recorded came to a wait."""
    called = (part.partition("#")[0].partition("~")[0] for part in frame.label.split("/")[1:])
    flow = next((name for name in called if is_flow(name)), None)
    if flow is None:
        return "put it into a flow, and run that one in a cell that is not recorded"
    return f"run the flow in a cell that is not recorded, {flow}.run(…): there it waits, and is answered"


def wait(
    *,
    name: str = "wait",
    schema: Any = None,
    question: str = "",
    metadata: Mapping[str, Any] | None = None,
    expires: float | dt.timedelta | dt.datetime | None = None,
    default: Any = NO_DEFAULT,
    timeout: float | dt.timedelta = 0,
) -> Any:
    """Wait until somebody answers, and give the answer. The process may end meanwhile: nothing is kept running.

    The execution suspends, with the status ``waiting``, as soon as it can do nothing else. Whoever answers
    (`kitaru answer`, ``client.executions.input``, ``%kitaru answer``) needs none of the flow's code; an answer that
    does not fit the schema is refused. The first one wins, and `kitaru resume --ready` goes on with it.

    Parameters
    ----------
    name
        What it is answered by; as a step's name. In a loop, or called again, each is a wait of its own: ``verdict#2``.
    schema
        What an answer must be: a type, ``Literal[…]``, an `Enum`, a list of choices, a pydantic model, a JSON Schema as
        a dict; None: anything. The answer comes as that type.
    question
        What whoever answers reads. With another question it is another wait, and is asked again.
    metadata
        Plain data for whoever answers, such as a draft. It counts like the question.
    expires
        Seconds or a `timedelta` from when it is asked, or a `datetime`: then `default` is taken.
    default
        What is taken then. Without one, `KitaruWaitExpired` is raised.
    timeout
        Seconds, or a `timedelta`, for which this process stays and looks for the answer before it suspends.

    Returns
    -------
    Any
        The answer.

    Raises
    ------
    KitaruWaitExpired
        Nobody answered in time, and there is no default.
    KitaruWaitAborted
        Somebody closed it without an answer.
    UsageError
        Outside of a flow; or `schema` is none.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru import KitaruClient
    >>> @kitaru.flow
    ... def review(doc: str) -> str:
    ...     ok = kitaru.wait(name="verdict", schema=bool, question=f"Publish {doc}?")
    ...     return "published" if ok else "rejected"
    >>> client = KitaruClient(kitaru.connect("memory://review"))
    >>> handle = review.run("the report")
    >>> handle.status
    'waiting'
    >>> client.executions.input(handle.exec_id, wait="verdict", value=True)
    >>> client.executions.resume(handle.exec_id).get()
    'published'
    >>> store = kitaru.connect()
    """
    return wait_for(name, schema, question, metadata, expires, default, timeout)(_frame("wait"))


def wait_async(
    *,
    name: str = "wait",
    schema: Any = None,
    question: str = "",
    metadata: Mapping[str, Any] | None = None,
    expires: float | dt.timedelta | dt.datetime | None = None,
    default: Any = NO_DEFAULT,
    timeout: float | dt.timedelta = 0,
) -> Coroutine[Any, Any, Any]:
    """As `wait`, to be awaited: several at once with `asyncio.gather`, and with a `timeout` beside other tasks."""
    return wait_for(name, schema, question, metadata, expires, default, timeout).later(_frame("wait_async"))


def wait_for(
    name: str,
    schema: Any = None,
    question: str = "",
    metadata: Mapping[str, Any] | None = None,
    expires: float | dt.timedelta | dt.datetime | None = None,
    default: Any = NO_DEFAULT,
    timeout: float | dt.timedelta = 0,
) -> Wait:
    """What is waited for, before anybody waits: see `wait`."""
    if not isinstance(question, str):
        raise UsageError(f"question={question!r:.60} of the wait {name}: it is a text")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise UsageError(f"metadata={metadata!r:.60} of the wait {name}: it is a dict of plain data")
    of: Schema = schema_of(schema)
    told = plain(dict(metadata or {}))
    due, seconds = None, None
    if isinstance(expires, dt.datetime):
        due = _moment(expires)
    elif expires is not None:
        seconds = _seconds("expires", expires)
    asked = Asked("answer", of, question, told, due, seconds, default, _seconds("timeout", timeout))
    arguments: dict[str, Any] = {"question": question}
    if of.json is not None:
        arguments["schema"] = of.json
    if told:
        arguments["metadata"] = told
    return Wait(name, "wait", asked, arguments)


def _seconds(what: str, of: float | dt.timedelta) -> float:
    seconds = of.total_seconds() if isinstance(of, dt.timedelta) else of
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e11:
        or_when = "" if what == "timeout" else ", or a datetime"
        raise UsageError(f"{what}={of!r:.60}: give seconds, 0 or more, or a timedelta{or_when}")
    return float(seconds)


_FIRST, _LAST = 0.0, dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()
"""A moment before these is past, and one beyond them is never: every time zone can tell both."""


def _moment(of: dt.datetime) -> float:
    try:
        return min(max(_FIRST, of.timestamp()), _LAST)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{of!r} is no moment that a computer can count to") from None


def sleep(until: float | dt.timedelta | dt.datetime, *, name: str = "sleep", timeout: float | dt.timedelta = 0) -> None:
    """Sleep durably: the execution suspends, and goes on at that moment, wherever a pass runs then.

    Parameters
    ----------
    until
        Seconds or a `timedelta` from now, or a `datetime`, in this machine's time zone where it names none.
    name
        Its name among the checkpoints.
    timeout
        Seconds for which this process stays. A sleep that is over by then needs no pass.

    Outside of a flow it sleeps, as `time.sleep` does.
    """
    frame = current.get()
    if frame is None:
        wanted = _moment(until) - SYSTEM.time() if isinstance(until, dt.datetime) else _seconds("until", until)
        SYSTEM.sleep(max(0.0, wanted))
        return
    _sleep(until, name, timeout)(_frame("sleep"))


def sleep_async(
    until: float | dt.timedelta | dt.datetime, *, name: str = "sleep", timeout: float | dt.timedelta = 0
) -> Coroutine[Any, Any, None]:
    """As `sleep`, to be awaited."""
    return _sleep(until, name, timeout).later(_frame("sleep_async"))


def _sleep(until: float | dt.timedelta | dt.datetime, name: str, timeout: float | dt.timedelta) -> Wait:
    if isinstance(until, dt.datetime):
        due, seconds, arguments = _moment(until), None, {"until": until}
    else:
        due, seconds = None, _seconds("until", until)
        arguments = {"seconds": seconds}  # type: ignore[dict-item]
    asked = Asked("sleep", due=due, expires=seconds, timeout=_seconds("timeout", timeout))
    return Wait(name, "sleep", asked, arguments)


# ---------------------------------------------------------------- what would differ from run to run


@checkpoint(type="clock")
def now() -> dt.datetime:
    """The moment at which the flow came here for the first time, with a time zone (UTC): the same on each resume.

    Examples
    --------
    >>> import kitaru
    >>> kitaru.now().tzinfo
    datetime.timezone.utc
    """
    return dt.datetime.now(dt.UTC)


@checkpoint(type="random")
def random() -> float:
    """A number from [0, 1), drawn when the flow came here for the first time: the same on each resume."""
    import random as generator

    return generator.SystemRandom().random()


@checkpoint(type="random")
def uuid4() -> _uuid.UUID:
    """A random UUID, drawn when the flow came here for the first time: the same on each resume."""
    return _uuid.uuid4()


def cancelled() -> bool:
    """Whether somebody asked for a cancel or a pause of this execution: for a step that runs long, and can end early.

    It takes effect before the next step in any case. Outside of a flow it is False.
    """
    frame = current.get()
    return frame is not None and frame.engine.is_asked_to_stop


# ---------------------------------------------------------------- other executions


@dataclass(frozen=True, slots=True)
class Child:
    """An execution that was spawned, with a journal of its own.

    Attributes
    ----------
    exec_id : str
        Its name, in the store of the flow that spawned it.
    flow : str
        The name of its flow.
    """

    exec_id: str
    flow: str


def spawn(flow: Flow[..., Any], *args: Any, **kwargs: Any) -> Child:
    """Begin another execution, and go on at once. Whoever makes a pass runs it: `kitaru resume --ready` or a worker.

    Spawned again by a resume it is the same execution. `gather` waits for it; a flow need not.

    Parameters
    ----------
    flow
        A function that `kitaru.flow` made.
    args, kwargs
        What it is called with.

    Examples
    --------
    >>> import kitaru
    >>> @kitaru.flow
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @kitaru.flow
    ... def both() -> int:
    ...     return sum(kitaru.gather([kitaru.spawn(double, 1), kitaru.spawn(double, 2)]))
    >>> store = kitaru.connect("memory://spawning")
    >>> handle = both.run()
    >>> done = kitaru.resume_ready()  # the children, and then the one that waits for them
    >>> kitaru.KitaruClient().executions.get(handle.exec_id).result
    6
    >>> store = kitaru.connect()
    """
    from .flows import Flow

    if not isinstance(flow, Flow):
        raise UsageError(f"kitaru.spawn() takes a flow, a function under @kitaru.flow, and {flow!r:.60} is none")
    flow.signature.signature.bind(*args, **kwargs)
    frame = current.get()
    if frame is None:
        from .children import begin

        return Child(begin(flow, args, kwargs), flow.name)
    _frame("spawn")
    return _spawning(flow).call(frame, args, kwargs)  # type: ignore[no-any-return]


def _spawning(flow: Flow[..., Any]) -> Step[..., Any]:
    """The step that begins executions of `flow`."""
    step: Step[..., Any] = Step.__new__(Step)
    # A name of its own: a call of the flow itself, as a step, must not be taken for its spawning.
    step.name, step.is_async, step.retries, step.timeout, step.outputs = f"spawn-{flow.name}", False, 0, None, None
    step.type, step.in_doubt, step.signature = "spawn", "rerun", flow.signature

    def begin(*args: Any, **kwargs: Any) -> Child:
        from . import children

        frame = current.get()
        assert frame is not None
        assert frame.record is not None
        try:
            child = Child(children.begin(flow, args, kwargs, frame), flow.name)
        except StoreError as e:
            raise frame.engine.history.stop(e) from e  # no failure of the step: it is spawned again by a resume
        frame.engine.tally.spawned += 1
        frame.engine.log(frame, {"child": child.exec_id})
        return child

    step.function = begin
    step.code = flow.as_step().code  # type: ignore[method-assign]
    step.source = flow.as_step().source  # type: ignore[method-assign]
    return step


def gather(
    children: Iterable[Child], *, return_exceptions: bool = False, timeout: float | dt.timedelta = 0
) -> list[Any]:
    """The results of executions that were spawned, in their order. Suspends until all of them have ended.

    Parameters
    ----------
    children
        What `spawn` gave.
    return_exceptions
        Give the exception of one that failed or was cancelled in its place, instead of raising the first.
    timeout
        Seconds for which this process stays and looks before it suspends.

    Raises
    ------
    ChildFailedError
        One failed; its own exception is the cause.
    ExecutionCancelledError
        One was cancelled.
    """
    frame, stays = _frame("gather"), _seconds("timeout", timeout)
    out: list[Any] = []
    suspended: Suspend | None = None
    failed: Exception | None = None
    for child in list(children):
        if not isinstance(child, Child):
            raise UsageError(f"kitaru.gather() takes what kitaru.spawn() gave, and {child!r:.60} is none")
        asked = Asked("child", child=child.exec_id, timeout=stays)
        try:
            out.append(Wait("gather", "gather", asked, {"child": child.exec_id}).reach(frame))
        except Suspend as e:
            suspended = suspended or e
        except Exception as e:
            frame.hand(e)
            failed = failed or e
            out.append(e)
    if failed is not None and not return_exceptions:
        raise failed
    if suspended is not None:
        frame.hand(suspended)
        raise suspended
    return out
