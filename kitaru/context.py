"""Where the running code is: the body whose calls are being recorded, found through a context variable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .calling import Live
    from .definitions import Definition
    from .engine import Engine
    from .matching import Body
    from .records import Id

__all__ = ["Frame", "Place", "Suspend", "carried", "current", "tag_of", "tagged"]

_TAG = "__kitaru_record__"
IN_ORDER = ""
"""The lane of the task or thread that runs the body; a side task's lane is its own name."""


class Place(NamedTuple):
    """Where a call stands, where that is known though it is made from a side task. None: as the task tells."""

    lane: str | None = None
    ordinal: int | None = None


def _task() -> Any:
    """The running asyncio task, without loading asyncio where nobody has."""
    events = sys.modules.get("asyncio.events")
    if events is None or events._get_running_loop() is None:
        return None
    return sys.modules["asyncio"].current_task()


class Suspend(BaseException):
    """A body came to a wait that is not over: it is left, and nothing is kept running. No `except Exception` holds it.

    Attributes
    ----------
    label : str
        The path of the wait.
    """

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


class Frame:
    """One attempt of a body while it runs: the flow's, or a step's."""

    __slots__ = (
        "awaits",
        "body",
        "claims",
        "closed",
        "counts",
        "depth",
        "engine",
        "handed",
        "label",
        "left",
        "loose",
        "record",
        "step",
        "submitted",
        "task",
        "thread",
        "up",
    )

    def __init__(
        self,
        engine: Engine,
        record: Id | None,
        body: Body,
        up: Frame | None,
        label: str,
        step: Definition | None = None,
    ) -> None:
        self.engine, self.record, self.body, self.up, self.label = engine, record, body, up, label
        self.step = step  # None: the body is the flow's
        self.depth: int = 0 if up is None else up.depth + 1
        self.counts: dict[Any, int] = {}
        self.handed: list[tuple[str, Id]] = []  # failures that this body was handed, by lane
        self.submitted: set[Future[Any]] = set()  # steps that this body submitted, and that have not ended
        self.claims: set[Id] = set()  # records that calls of this body, and of bodies inside it, have taken
        self.closed: str | None = None
        self.left: Suspend | None = None  # the wait that it came to: it goes no further, whoever caught that
        self.loose: dict[str, Live] = {}  # calls that failed, by lane, and that may be tried again
        self.awaits = False  # it runs in an event loop, and can await
        self.thread = 0
        self.task: Any = None

    def enter(self) -> None:
        """The body begins, in this thread and task."""
        self.thread, self.task = get_ident(), _task()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within this the body goes on in this thread, and the one that runs it waits for that."""
        before = self.thread, self.task, self.awaits
        self.enter()
        self.awaits = False
        try:
            yield
        finally:
            self.thread, self.task, self.awaits = before

    def lane(self) -> str:
        """`IN_ORDER` in the task and thread that run the body; else a name for this side task."""
        thread, task = get_ident(), _task()
        if thread == self.thread and task is self.task:
            return IN_ORDER
        return f"{thread}/{id(task)}"

    def next(self, what: Any) -> int:
        """The ordinal of the next `what` that this body does in order."""
        n = self.counts[what] = self.counts.get(what, 0) + 1
        return n

    def check_open(self) -> None:
        """Refuse what a body does after its attempt was given up, or has ended."""
        at: Frame | None = self
        while at is not None:
            if at.closed is not None:
                from .journal import Halt

                raise Halt(
                    UsageError(
                        f"{at.label} {at.closed}: what its body still does is not recorded. "
                        "Let the body end only when the threads and tasks that it started have"
                    )
                )
            at = at.up

    def check_not_left(self) -> None:
        """Refuse a further call of a body that came to a wait. Those that it made before go on."""
        if self.left is not None:
            raise self.left

    def settle(self, lane: str | None = None, error: BaseException | None = None) -> None:
        """What failed in this lane, or in each, was not tried again: that is what came of it.

        `error` is what this body makes of that, where it has not gone on from it: it carries the failure on.
        """
        for each in [*self.loose] if lane is None else [lane]:
            live = self.loose.pop(each, None)
            if live is not None:
                live.settle(error)

    def hand(self, error: BaseException, lane: str | None = None) -> None:
        """This body is handed a recorded failure: here, and in the `lane` that made the call, which may gather it.

        Or what it called came to a wait: then it has come to that wait itself.
        """
        if isinstance(error, Suspend):
            self.left = self.left or error
            return
        rid = tag_of(error, self.engine.exec_id)
        if rid is not None:
            with self.engine.lock:
                here = self.lane()
                self.handed += [(each, rid) for each in {here, here if lane is None else lane}]

    def claim(self, rid: Id) -> None:
        """A call of this body took a record, for the attempts around it as well: a retry gives it back.

        The flow's own body has no retry.
        """
        at = self
        while at.up is not None:
            at.claims.add(rid)
            at = at.up


current: ContextVar[Frame | None] = ContextVar("kitaru_frame", default=None)

carried: list[ContextVar[Any]] = [current]
"""What a thread that a body starts is handed on; see `threads`."""


def tagged(error: BaseException, rid: Id) -> BaseException:
    """Remember on `error` itself which record it is the failure of."""
    try:
        setattr(error, _TAG, rid)
    except (AttributeError, TypeError):
        pass  # an exception with slots: what it passes on is not known, so its step runs again
    return error


def tag_of(error: BaseException, exec_id: str) -> Id | None:
    """The record of this execution that `error` is the failure of."""
    rid = getattr(error, _TAG, None)
    return rid if isinstance(rid, tuple) and rid[0] == exec_id else None


def passed_on(error: BaseException, exec_id: str) -> tuple[Id, ...]:
    """The recorded failures that `error` carries out of a body: itself, its causes, and the members of a group."""
    out: dict[Id, None] = {}
    todo, seen = [error], set()
    while todo:
        e = todo.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        rid = tag_of(e, exec_id)
        if rid is not None:
            out[rid] = None
            continue  # what that step's failure came from is on its own record
        todo += [x for x in (e.__cause__, e.__context__) if x is not None]
        if isinstance(e, BaseExceptionGroup):
            todo += e.exceptions
    return tuple(out)
