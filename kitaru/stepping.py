"""Stepping: what a debugger asks of a flow. To begin it and stop, to go on by steps, and to run one step again.

A stop is a pause at the boundary of a step, no more: each is durable, and the process that made it may end.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .clock import SYSTEM
from .context import current
from .errors import CodeNotFoundError, ExecutionEndedError, UsageError
from .flows import Flow, Options
from .handles import Handle
from .notices import shown_by
from .previews import preview_line
from .references import Ref
from .runs import Run, resume, settle_recorded, start
from .sources import body_of, find_flow
from .steps import Step

if TYPE_CHECKING:
    from .opened import Checkpoint, Execution
    from .stores.base import Store

__all__ = ["Flow", "RecordedCall", "Step", "begin", "find_flow_of", "go_on", "replaced", "shown_by"]


def begin(
    flow: Flow[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    exec_id: str | None = None,
    until: str | None = None,
    breaks: Iterable[str] = (),
    steps: int | None = None,
    store: Store | None = None,
) -> Handle:
    """Run a flow up to a step; its handle is ``paused`` then. Whatever the flow raises, it is in the handle.

    Parameters
    ----------
    until
        The path of a step: it pauses before that.
    breaks
        Names of steps, each for all steps of that name, and paths: it pauses before each. They are recorded.
    steps
        So many steps run; 0 for none.
    store
        Where it is recorded; the current store when left out.

    Returns
    -------
    Handle
        Of an async flow in a running event loop one that is awaited first.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru.stepping import begin, go_on
    >>> @kitaru.checkpoint
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @kitaru.flow
    ... def twice(n: int) -> int:
    ...     return double(double(n))
    >>> client = kitaru.KitaruClient(kitaru.connect("memory://stepping"))
    >>> handle = begin(twice, (3,), steps=1)
    >>> execution = client.executions.get(handle.exec_id)
    >>> execution.next_step, {name: a.load() for name, a in execution.next_step.inputs.items()}
    (<checkpoint double#2: pending>, {'n': 6})
    >>> go_on(execution).get()
    12
    >>> store = kitaru.connect()
    """
    given = kwargs or {}
    flow.signature.signature.bind(*args, **given)  # a wrong call is refused before anything is recorded
    options = Options(
        exec_id, raises=False, store=store, until=until, steps=steps, breaks=tuple(breaks), announces=False
    )
    return start(Run(flow, options, args, given))


def go_on(
    execution: Execution,
    *,
    flow: Flow[..., Any] | None = None,
    until: str | Callable[[str], bool] | None = None,
    breaks: Iterable[str] | None = None,
    steps: int | None = None,
    admit: Callable[[str], None] | None = None,
) -> Handle:
    """Go on with an execution; see `begin`.

    Parameters
    ----------
    flow
        Its flow, where it is not the one that is found.
    until
        As `begin` takes it; or a function that is called with the path of each step that is about to run: where it
        gives True, it pauses there.
    breaks
        As `begin` takes them. None: it heeds none, and those that are recorded stay.
    steps
        So many steps run: those of the depth at which it stands, and what is around them.
    admit
        Asked by its path before a step's body runs, in whatever thread that is; a `KitaruError` ends the run.

    Raises
    ------
    CodeNotFoundError
        With the places that were looked at.
    ExecutionOwnedError
        An owner looks alive.
    ExecutionEndedError
        It was cancelled.
    """
    name, begun = execution.exec_id, execution.data.begun
    status = execution.status.value
    if status == "completed":
        handle = Handle(name)
        settle_recorded(handle, execution.reading, execution.store, begun)
        return handle
    if status == "cancelled":
        raise ExecutionEndedError(f"{name} was cancelled, and does not run again")
    options = Options(
        name,
        raises=False,
        store=execution.store,
        clock=SYSTEM,
        until=until,
        steps=steps,
        breaks=None if breaks is None else tuple(breaks),
        admit=admit,
        announces=False,
    )
    return resume(flow if flow is not None else find_flow_of(execution), execution.reading, options)


def find_flow_of(execution: Execution, code: str | None = None) -> Flow[..., Any]:
    """The flow that an execution was begun with; `code` says where it is, as `kitaru resume` takes it.

    Raises
    ------
    CodeNotFoundError
        With the places that were looked at.
    """
    if execution.data.begun.by_hand:
        raise UsageError(f"{execution.exec_id} was run by hand, step by step: it has no flow")
    return find_flow(execution.data.begun, code)[0]


@contextlib.contextmanager
def replaced(flow: Flow[..., Any], steps: Iterable[Step[..., Any]]) -> Iterator[list[tuple[str, str]]]:
    """Meanwhile, these steps stand in for those of their names in the modules that the flow reaches.

    Where they were defined themselves, nothing is changed. Gives the name of each, and the file or module.
    """
    mine = {step.name: step for step in steps}
    done = [
        (names, name, value)
        for names in _modules_of(flow)
        for name, value in names.items()
        if type(value) is Step and (new := mine.get(value.name)) is not None and new is not value
        if new.function.__globals__ is not names
    ]
    try:
        for names, name, value in done:
            names[name] = mine[value.name]
        yield sorted({(value.name, str(names.get("__file__") or names.get("__name__"))) for names, _, value in done})
    finally:
        for names, name, value in done:
            if names.get(name) is mine[value.name]:
                names[name] = value


def _modules_of(flow: Flow[..., Any]) -> list[dict[str, Any]]:
    """The namespaces of the flow, and of all that it can reach by name and that has steps."""
    todo: list[dict[str, Any]] = [flow.function.__globals__]
    found: dict[int, dict[str, Any]] = {}
    while todo:
        names = todo.pop()
        if id(names) in found:
            continue
        values = list(names.values())
        if not any(isinstance(value, Step | Flow) for value in values):
            continue
        found[id(names)] = names
        for value in values:
            body = value.function if isinstance(value, Step | Flow) else value
            if isinstance(body, types.FunctionType):
                todo.append(body.__globals__)
            elif isinstance(body, types.ModuleType):
                todo.append(body.__dict__)
    return [*found.values()]


class RecordedCall:
    """One recorded call of a step, to be made again. Nothing is recorded of that; steps that it calls just run.

    Parameters
    ----------
    step
        The step that runs. The recorded one is looked for when it is left out.
    code
        Where the flow's code is, as `kitaru resume` takes it.

    Raises
    ------
    CodeNotFoundError
        The step's code is not to be found here.
    UsageError
        An input was no data, and cannot be had again.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru.stepping import RecordedCall
    >>> @kitaru.checkpoint
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @kitaru.flow
    ... def twice(n: int) -> int:
    ...     return double(double(n))
    >>> client = kitaru.KitaruClient(kitaru.connect("memory://again"))
    >>> call = RecordedCall(client.executions.get(twice.run(3).exec_id).checkpoints[1])
    >>> call.arguments(), call.run()
    ({'n': 6}, 12)
    >>> store = kitaru.connect()
    """

    def __init__(self, checkpoint: Checkpoint, *, step: Step[..., Any] | None = None, code: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.step: Any = step if step is not None else _found(checkpoint, code)
        known = {name for name, _ in checkpoint.data.arguments}
        for p in self.step.signature.signature.parameters.values():
            if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD} and p.name not in known:
                raise UsageError(
                    f"{checkpoint.label} takes {p.name}, which is not recorded: it is ignored, or new, and cannot be "
                    "had again"
                )
        for name, value in checkpoint.inputs.items():
            if value.kind == "reference" and name in self.step.parameters:
                raise UsageError(
                    f"{checkpoint.label} was called with {name}={preview_line(value.preview, 60)}, which is no data "
                    "and was recorded by its type alone: it cannot be had again"
                )

    def arguments(self) -> dict[str, Any]:
        """Its inputs by name, loaded anew: a body may change them in place."""
        names = self.step.parameters
        given = self.checkpoint.inputs
        return {name: a.lazy() if name in self.step.lazy else a.load() for name, a in given.items() if name in names}

    def run(self) -> Any:
        """Call the step's body. Gives its value; of an async one a coroutine that gives it."""
        args, kwargs = self.step.handed(*self.step.signature.call(self.arguments()), lambda _, value: Ref.to(value))
        token = current.set(None)
        try:
            value = self.step.function(*args, **kwargs)
        finally:
            current.reset(token)
        return value if self.step.is_async else _whole(value)

    @property
    def is_async(self) -> bool:
        """Whether `run` gives a coroutine."""
        return bool(self.step.is_async)


def _whole(value: Any) -> Any:
    return value.load() if type(value) is Ref else value


def _is_of_a_library(checkpoint: Checkpoint) -> bool:
    """Whether it is a call that an adapter has made a step of: its body is handed along when it is made."""
    return checkpoint.data.type is not None and checkpoint.source is None


def _without_code(checkpoint: Checkpoint) -> CodeNotFoundError:
    return CodeNotFoundError(
        f"{checkpoint.label} is a call of a library, which runs where the code around it does: there is nothing of it "
        "to run alone. Edit what it was given or what it gave, and go on from there"
    )


def _found(checkpoint: Checkpoint, code: str | None) -> Any:
    """The step as the flow has it now. Another one of that name serves where it is the very same code."""
    begun, name = checkpoint.execution.data.begun, checkpoint.name
    if begun.by_hand:
        body = body_of(name, begun.module)
        if body is None:
            raise CodeNotFoundError(f"the code of the step {name} is not to be found here: define it, or import it")
        return body
    try:
        flow = find_flow(begun, code)[0]
    except CodeNotFoundError:
        body = body_of(name, begun.module)
        if code is None and body is not None and body.code().digest == checkpoint.data.own_code:
            return body
        if _is_of_a_library(checkpoint):
            raise _without_code(checkpoint) from None
        raise
    for names in _modules_of(flow):
        for value in names.values():
            if isinstance(value, Step | Flow) and value.name == name:
                return value if isinstance(value, Step) else value.as_step()
    body = body_of(name, flow.function.__module__)
    if _is_of_a_library(checkpoint) and (body is None or body.code().digest != checkpoint.data.own_code):
        raise _without_code(checkpoint)  # who else has a step of that name means another one
    if body is None:
        raise CodeNotFoundError(
            f"the code of the step {name} is not to be found where its flow is, {flow.function.__module__}: import the "
            "module that defines it"
        )
    return body
