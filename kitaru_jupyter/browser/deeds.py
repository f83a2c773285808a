"""What the buttons do. Each is a function of the notebook's, which a magic calls as well."""

from __future__ import annotations

import contextlib
import sys
import threading
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kitaru.client import Execution, Executions, KitaruClient, PendingWait
from kitaru.errors import KitaruError, UsageError
from kitaru.stepping import go_on

from .. import display, questions
from ..debugging import frames_text
from ..newest import flow_of, standing_in
from ..progress import Progress as CellProgress
from ..resuming import StoppedError
from ..travelling import told as told_of_moves
from . import forms, lines, sight
from .desk import Desk
from .work import Progress

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..magics import KitaruMagics

__all__ = ["Deeds", "Told"]

T = TypeVar("T")
State = dict[str, Any]

_WAITING = "waiting for the running cell"
_PATIENCE = 0.05  # seconds in which a stop is noticed while something is waited for


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it.

    Attributes
    ----------
    phase : str
        ``done``, ``failed`` or ``stopped``.
    text : str
        One sentence.
    line : str
        The code that does the same.
    exec_id, ref : str or None
        What to look at now.
    plan : dict or None
        What would run again, or did.
    other_type : bool
        An edit was refused because its type is another one: it can be forced.
    debugged : str
        What came of a step that was run again, with the frames that it failed in.
    """

    phase: str
    text: str
    line: str = ""
    exec_id: str | None = None
    ref: str | None = None
    plan: State | None = None
    other_type: bool = False
    debugged: str = ""


class _Stopped(Exception):
    """Nobody waits for it any more."""


class Deeds:
    """Called on the thread that works.

    Parameters
    ----------
    magics
        Whose notebook it is.
    parent
        The header of the message under whose cell is shown what cells show that run here.
    glance
        Called while an execution runs: what is shown of it may be looked at again. It returns at once.
    """

    NAMES: ClassVar[frozenset[str]] = frozenset(
        {"record", "resume", "step", "checkout", "undo", "debug", "answer", "abort", "cancel"}
    )

    def __init__(self, magics: KitaruMagics, parent: Any = None, glance: Callable[[], None] = lambda: None) -> None:
        self._magics, self._notebook, self._between = magics, magics.notebook, magics.between
        self._parent, self._glance = parent, glance
        self._leave: Callable[[bool], None] | None = None  # told whether it is asked for a second time

    def do(self, name: str, desk: Desk, message: State, progress: Progress) -> Told:
        """Carry it out. Raises whatever goes wrong."""
        deed: Callable[[Desk, State, Progress], Told] = getattr(self, f"_{name}")
        return deed(desk, message, progress)

    def stop(self, progress: Progress) -> None:
        """From any thread: end it at its next step; asked a second time, of async code, at its next await."""
        again = progress.stop.is_set()
        progress.stop.set()
        progress.say(now=True, asked=True)
        if self._leave is not None:
            self._leave(again)

    # ------------------------------------------------------------ on the main thread

    def _between_cells(self, function: Callable[[], T], progress: Progress) -> T:
        """Run it on the main thread while no cell runs, and give what it gives. A stop ends the waiting."""

        async def work() -> T:
            return function()

        asked = _Asked(work)
        return self._waited_for(asked, asked.run_at_once, progress)

    def _awaited_between_cells(self, work: Callable[[], Coroutine[Any, Any, T]], progress: Progress) -> T:
        """As `_between_cells`, of what awaits."""
        asked = _Asked(work)
        return self._waited_for(asked, lambda: self._between.carry_out(asked.run, self._parent), progress)

    def _waited_for(self, asked: _Asked[T], begin: Callable[[], None], progress: Progress) -> T:
        if self._between.is_busy:
            progress.say(now=True, at=_WAITING, stops=True)
        self._between.call(begin)
        while not asked.ended.wait(_PATIENCE):
            if progress.stop.is_set() and asked.take_back():
                raise _Stopped
        return asked.result()

    # ------------------------------------------------------------ editing

    def _record(self, desk: Desk, message: State, progress: Progress) -> Told:
        """An edit, of a value that was put before a person."""
        assert desk.execution is not None
        ref, mode, why = message["ref"], message.get("mode"), message.get("why")
        text, force = message.get("text"), message.get("force") is True
        if mode not in {"json", "text"} or not isinstance(text, str):
            raise UsageError("this value cannot be edited here")
        why = why if isinstance(why, str) else ""
        artifact = desk.artifact(ref)
        name = desk.name
        full = f"{name}:{artifact.name}"
        value = forms.read(artifact, mode, text)

        def edit() -> Any:
            return self._notebook.edit(full, value, why=why, force=force)

        try:
            edited = edit() if not desk.execution.data.begun.by_hand else self._between_cells(edit, progress)
        except UsageError as e:
            return Told("failed", display.line(e, 1000), other_type="Give --force" in f"{e}")
        except _Stopped:
            return Told("stopped", "the edit was not recorded")
        line = lines.edit(name, artifact.name, mode=mode, why=why, text=text)
        stale = len(edited.stale)
        said = f"{stale} step{'' if stale == 1 else 's'} now stale" if stale else "no step depends on it"
        return Told(
            "done", f"{artifact.name} edited: {said}", line, exec_id=edited.exec_id, ref=message.get("at") or ref
        )

    # ------------------------------------------------------------ time travel

    def _checkout(self, desk: Desk, message: State, progress: Progress) -> Told:
        assert desk.shown is not None
        before = message.get("before") is True
        name = desk.named(desk.shown)
        full = f"{name}:{message['ref']}"

        def checkout() -> Any:
            return self._notebook.checkout(full, before=before)

        goes_back = not before and not desk.shown.data.begun.by_hand  # a flow, in a fork: no variable changes
        try:
            moved = checkout() if goes_back else self._between_cells(checkout, progress)
        except _Stopped:
            return Told("stopped", "nothing was checked out")
        line = lines.checkout(name, message["ref"], before=before)
        now = self._notebook.get().exec_id if moved.again else desk.shown.exec_id
        return Told("done", told_of_moves(moved), line, exec_id=now)

    def _undo(self, desk: Desk, message: State, progress: Progress) -> Told:
        del message
        of_flow = self._notebook.is_of_a_flow  # then no variable changes
        try:
            moved = self._notebook.undo() if of_flow else self._between_cells(self._notebook.undo, progress)
        except _Stopped:
            return Told("stopped", "nothing was undone")
        now = self._notebook.get().exec_id
        same = desk.execution is not None and now == desk.execution.exec_id
        text = told_of_moves(moved) if moved.loaded or moved.removed or same else f"back at {now}"
        return Told("done", text, lines.undo(), exec_id=now)

    # ------------------------------------------------------------ debugging

    def _debug(self, desk: Desk, message: State, progress: Progress) -> Told:
        """A step again, on its recorded inputs. Nobody can be asked here: its frames are text."""
        checkpoint = desk.checkpoint(message["ref"])
        room, said = self._magics.debugging, list[str]()
        line = lines.debug(desk.named(checkpoint.execution), checkpoint.label)
        progress.say(now=True, at=display.line(checkpoint.label, 120), line=line)
        again = room.again(checkpoint, tell=said.append)
        try:
            own = self._driven(again, progress)
        except CancelledError:
            return Told(
                "stopped", f"{display.line(checkpoint.label, 120)} was stopped; nothing of it was recorded", line
            )
        told = display.line(said[-1].partition("\n")[0], 300)
        if own is not None:
            said += ["", frames_text(room.shell, own)]
        return Told("done", told, line, ref=checkpoint.label, debugged="\n".join(said))

    def _driven(self, coroutine: Coroutine[Any, Any, T], progress: Progress) -> T:
        """Carry it out in a loop of its own. As soon as it waits for something, a stop ends it."""
        import asyncio

        async def awaited() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None

            def cancel(_again: bool) -> None:
                with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)

            self._leave = cancel
            loop.call_soon(lambda: progress.say(now=True, stops=True))
            return await coroutine

        try:
            return asyncio.run(awaited())
        finally:
            self._leave = None

    # ------------------------------------------------------------ what it waits for

    def _answer(self, desk: Desk, message: State, progress: Progress) -> Told:
        """Checked before it is stored: what does not fit is said, and changes nothing."""
        del progress
        executions, name, wait = self._waiting(desk, message)
        text = message.get("text")
        value = wait.read(text.strip() if isinstance(text, str) else "")
        executions.input(name, wait.id, value)
        line = questions.answer_line(desk.name, wait, value)
        return Told("done", f"{display.line(wait.name, 120)} is answered: Resume goes on", line, exec_id=name)

    def _abort(self, desk: Desk, message: State, progress: Progress) -> Told:
        del progress
        executions, name, wait = self._waiting(desk, message)
        executions.abort_wait(name, wait.id)
        said = f"{display.line(wait.name, 120)} is closed without an answer: Resume goes on"
        return Told("done", said, questions.abort_line(desk.name, wait), exec_id=name)

    def _waiting(self, desk: Desk, message: State) -> tuple[Executions, str, PendingWait]:
        assert desk.execution is not None
        executions, name = KitaruClient(desk.execution.store).executions, desk.execution.exec_id
        wait = message.get("wait")
        if not isinstance(wait, str):
            raise UsageError("say which wait is meant")
        return executions, name, executions.pending_wait(name, wait)

    def _cancel(self, desk: Desk, message: State, progress: Progress) -> Told:
        del message, progress
        assert desk.execution is not None
        name = desk.execution.exec_id
        if desk.execution.data.begun.by_hand:
            raise UsageError(f"{name} is a notebook's: there is no flow to cancel")
        status = KitaruClient(desk.execution.store).executions.cancel(name).value
        later = "" if status == "cancelled" else ": it is cancelled before its next step"
        return Told("done", f"{name} is {status}{later}", lines.cancel(desk.name), exec_id=name)

    # ------------------------------------------------------------ going on

    def _resume(self, desk: Desk, message: State, progress: Progress) -> Told:
        until = message.get("until")
        return self._go_on(desk, progress, until=until if isinstance(until, str) and until else None)

    def _step(self, desk: Desk, message: State, progress: Progress) -> Told:
        del message
        return self._go_on(desk, progress, steps=1)

    def _go_on(self, desk: Desk, progress: Progress, *, until: str | None = None, steps: int | None = None) -> Told:
        execution = desk.execution
        assert execution is not None
        if execution.data.begun.by_hand:
            return self._go_on_with_cells(desk.name, execution, progress, until=until)
        current = self._notebook.execution()
        is_current = current is not None and current.exec_id == execution.exec_id
        line = lines.going_on(desk.name, current=is_current, until=until or "")
        if steps is not None:
            line = lines.step(desk.name, current=is_current)
        if not is_current:
            self._notebook.attend(execution)
        progress.say(now=True, total=_ahead(desk), line=line, stops=True)
        following = _Following(progress, until, self._glance)
        self._leave = following.cancel
        variables, breaks = self._magics.debugging.shell.user_ns, None if steps is None else execution.breaks
        try:
            flow = flow_of(execution, variables)  # the notebook's newest code, as `%kitaru resume` takes it
            with standing_in(flow, variables):
                handle = go_on(execution, flow=flow, until=following, breaks=breaks, steps=steps)
            status = handle.status
        except BaseException as e:
            if not following.cancelled or isinstance(e, KitaruError):
                raise
            status = "interrupted"
        finally:
            self._leave = None
        return _came_of_it(execution, status, following, line)

    def _go_on_with_cells(self, name: str, execution: Execution, progress: Progress, *, until: str | None) -> Told:
        """The cells run on the main thread, where they always do, and where their variables are."""
        notebook, cells = self._notebook, _Cells(self._magics.resuming.shell, progress)
        current = notebook.execution()
        is_current = current is not None and current.exec_id == execution.exec_id
        line = lines.going_on(name, current=is_current, until=until or "")

        async def work() -> tuple[int, int]:
            if not is_current:
                notebook.open(name)
            return await self._magics.resuming.cells(until=until, progress=cells)

        try:
            ran, _ = self._awaited_between_cells(work, progress)
        except _Stopped:
            return Told("stopped", "nothing was run", line)
        except StoppedError as e:
            return Told("failed", f"{e}", line, exec_id=notebook.get().exec_id, ref=e.label)
        text = f"{ran} step{'' if ran == 1 else 's'} run" if ran else "nothing is stale"
        stopped = progress.stop.is_set()
        return Told("stopped" if stopped else "done", text, line, exec_id=notebook.get().exec_id)


class _Asked(Generic[T]):
    """Something that the main thread is asked for. It can be taken back until it begins."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work, self._begun = work, threading.Lock()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.ended = threading.Event()

    def take_back(self) -> bool:
        """Whether that came in time."""
        return self._begun.acquire(blocking=False)

    async def run(self) -> None:
        """On the main thread."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._value.append(await self._work())
        except BaseException as e:
            self._error = e
        finally:
            self.ended.set()

    def run_at_once(self) -> None:
        """As `run`, of what awaits nothing."""
        with contextlib.suppress(StopIteration):
            self.run().send(None)

    def result(self) -> T:
        """What it gave; or what it raised, raised again."""
        if self._error is not None:
            raise self._error
        return self._value[0]


class _Cells(CellProgress):
    """How far a resume of cells is, told to the widget."""

    def __init__(self, shell: InteractiveShell, progress: Progress) -> None:
        super().__init__(shell, "resume")
        self._progress = progress

    @property
    def is_stopped(self) -> bool:  # type: ignore[override]
        return self._progress.stop.is_set()

    def begin(self, steps: int) -> None:
        self._progress.say(now=True, total=steps, stops=True)

    def at(self, label: str) -> None:
        self._progress.say(now=True, at=display.line(label, 120), done=self._done)

    def advance(self) -> None:
        self._done += 1


class _Following:
    """Asked before each step of a run: it says how far that is, and whether to pause here."""

    def __init__(self, progress: Progress, until: str | None, glance: Callable[[], None]) -> None:
        self._progress, self._until, self._glance = progress, until, glance
        self._begun = 0
        self._loop: Any = None
        self.at = ""
        self.stopped = self.cancelled = False

    def __call__(self, label: str) -> bool:
        self.at = label
        asyncio = sys.modules.get("asyncio")
        if self._loop is None and asyncio is not None and asyncio._get_running_loop() is not None:
            self._loop = asyncio.get_running_loop()
            self._progress.say(harder=True)
        if label == self._until:
            return True
        if self._progress.stop.is_set():
            self.stopped = True
            return True
        self._progress.say(at=display.line(label, 120), done=self._begun)
        if "/" not in label:
            self._begun += 1
        self._glance()
        return False

    def cancel(self, again: bool) -> None:
        """From any thread: an async flow has this loop for itself, and ends at its next await."""
        if not again:
            return
        import asyncio

        loop = self._loop
        if loop is None or loop.is_closed():
            return
        self.cancelled = True

        def cancel() -> None:
            for task in asyncio.all_tasks(loop):
                task.cancel()

        loop.call_soon_threadsafe(cancel)


def _ahead(desk: Desk) -> int:
    """How many steps of the flow's own body may run; 0: nobody knows."""
    assert desk.execution is not None
    try:
        unrun = desk.plan is not None and not desk.plan.done
        plan = desk.plan if unrun else desk.client.executions.plan(desk.execution.exec_id)
    except KitaruError:
        return 0
    return sum(row.decision in {"rerun", "rerun?"} and "/" not in row.step for row in plan)


def _came_of_it(execution: Execution, status: str, following: _Following, line: str) -> Told:
    name = execution.exec_id
    now = KitaruClient(execution.store).executions.get(name)
    plan = sight.planned(now.explain()) if now.forked_from else None
    phase, ref = "done", None
    if status == "paused":
        phase = "stopped" if following.stopped else "done"
        ref = now.next_step.label if now.next_step is not None else None
        text = f"{name} paused before {display.line(ref or following.at, 120)}"
    elif status == "interrupted":
        phase, text = "stopped", f"{name} was interrupted; what had finished is recorded"
    elif status == "failed":
        phase, ref = "failed", now.failed_at
        text = f"{name} failed: {display.line(now.failure.summary(), 300)}" if now.failure else f"{name} failed"
    else:  # it has completed, or waits for somebody
        text = f"{name} {'completed' if status == 'completed' else f'is {status}'}"
    return Told(phase, text, line, exec_id=name, ref=ref, plan=plan)
