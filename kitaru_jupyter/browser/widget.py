"""The browser as a widget: messages come in, work is handed to threads, and state goes out.

The kernel alone writes state; the front end sends messages and draws. A handler sets flags and hands work over, for it
may run on the thread of a cell. There are two threads: one looks, and is never long; the other works, as long as it
takes. What changes variables does so on the main thread, between cells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
from traitlets import Dict, Int, Unicode

from kitaru.client import KitaruClient
from kitaru.errors import KitaruError

from .. import display
from ..refusal import UsageError
from . import still
from .deeds import Deeds, Told
from .desk import Desk
from .work import Progress, Worker

if TYPE_CHECKING:
    from ..magics import KitaruMagics

__all__ = ["Browser"]

State = dict[str, Any]
_GLANCES = 0.5  # seconds between two looks at an execution that runs
_HERE = Path(__file__).parent

IDLE: State = {"phase": "idle", "what": "", "done": 0, "total": 0, "at": "", "told": "", "line": "",
              "stops": False, "asked": False, "harder": False}  # fmt: skip
"""The state of the work where none was done."""


class Browser(anywidget.AnyWidget):
    """Executions, the lineage of one of them, and its steps: to look at, to edit, and to run again.

    ``%kitaru browse`` shows one. Everything that its buttons do is done by a line of code too, which it shows.

    Parameters
    ----------
    execution
        What is looked at first: an exec_id, the start of one, ``last``, ``last-failed``, or an address. The notebook's
        current execution when left out, else the newest one.

    Raises
    ------
    NotFoundError
        There is no such execution.
    UsageError
        The extension is not loaded.

    Examples
    --------
    In a notebook: ``kitaru_jupyter.Browser("last-failed")``.
    """

    _esm = _HERE / "browser.js"
    _css = _HERE / "browser.css"

    runs = Dict({}).tag(sync=True)
    opened = Dict({}).tag(sync=True)
    step = Dict({}).tag(sync=True)
    editor = Dict({}).tag(sync=True)
    plan = Dict({}).tag(sync=True)
    job = Dict(IDLE).tag(sync=True)
    lines = Dict({}).tag(sync=True)
    current = Unicode("").tag(sync=True)
    trouble = Unicode("").tag(sync=True)
    views = Int(0).tag(sync=True)  # that have opened

    _is_made = False

    def __init__(self, execution: str | None = None, *, magics: KitaruMagics | None = None) -> None:
        from ..magics import loaded

        self._magics = magics or loaded()
        self._notebook = self._magics.notebook
        client = self._notebook.client
        name = execution or self._first(client)
        if name is not None:
            opened = client.executions.get(name)  # refuses before anything is made
            client, name = KitaruClient(opened.store), opened.exec_id
        super().__init__()
        shell = self._magics.shell
        assert shell is not None
        kernel = getattr(shell, "kernel", None)
        parent = kernel.get_parent("shell") if kernel is not None else None
        self._between = self._magics.between
        self._looks, self._works = Worker("kitaru-looks", parent), Worker("kitaru-works", parent)
        self._lock = threading.RLock()
        self._reading = threading.Lock()  # what is read last is shown last, whichever thread it was
        self._desk = Desk(client, self._notebook.named)
        self._deeds = Deeds(self._magics, parent, self._glance)
        self._glanced = 0.0
        self._progress: Progress | None = None
        self._chosen = ""
        self._list()
        if name is not None:
            self._open(name)
            self._choose(self._first_step())
        self.on_msg(self._on_message)
        self._is_made = True

    def _first(self, client: KitaruClient) -> str | None:
        current = self._notebook.execution()
        if current is not None:
            return current.exec_id
        newest = client.executions.list(limit=1)
        return newest[0].exec_id if newest else None

    # ------------------------------------------------------------ messages

    def _on_message(self, _widget: Any, message: Any, _buffers: Any) -> None:
        self.handle(message)

    def handle(self, message: Any) -> None:
        """What the front end asks for. It returns at once.

        Parameters
        ----------
        message
            ``{"do": NAME, …}``; what is none of ours is passed over.
        """
        deed, ref = (message.get("do"), message.get("ref")) if isinstance(message, dict) else (None, None)
        if not isinstance(deed, str):
            return
        ref = ref if isinstance(ref, str) else ""
        looks: dict[str, Callable[[], None]] = {
            "hello": self._answer,
            "refresh": self._refresh,
            "open": lambda: self._open_and_choose(ref),
            "choose": lambda: self._choose(ref),
            "value": lambda: self._value(ref),
            "edit": lambda: self._edit(ref),
            "leave": self._leave,
            "plan": self._plan,
        }
        if deed == "stop":
            self._stop()
        elif deed in looks:
            self._look(looks[deed])
        elif deed in Deeds.NAMES:
            self._work(deed, {**message, "ref": ref})

    def rest(self, timeout: float | None = None) -> bool:
        """Wait until nothing is on its way; whether that came."""
        return self._works.rest(timeout) and self._looks.rest(timeout)

    def close(self) -> None:
        """Let go of the front end and the threads. What runs ends at its next step."""
        if self._is_made:  # else it was refused, and the garbage collector closes what there is
            if self._progress is not None:
                self._progress.stop.set()
            self._looks.close()
            self._works.close()
        super().close()

    # ------------------------------------------------------------ looking

    def _look(self, look: Callable[[], None]) -> None:
        progress = Progress(lambda state: None)  # for its context: what is published goes the way it came

        def work() -> None:
            try:
                progress.within(look)
            except Exception as e:  # a damaged store's, or a library's own, too
                trouble = _said(e)
                progress.within(lambda: self._say(trouble))

        self._looks.do(work)

    def _say(self, trouble: str) -> None:
        with self._lock:
            self.trouble = trouble

    def _answer(self) -> None:
        """A view has opened. The way that this goes is the one that its next message comes."""
        self._list()
        with self._lock:
            self.views += 1

    def _list(self) -> None:
        runs = self._desk.executions()
        with self._lock:
            self.current = self._current()
            self.runs = runs

    def _current(self) -> str:
        execution = self._notebook.execution()
        return execution.exec_id if execution is not None else ""

    def _refresh(self) -> None:
        self._list()
        if self._desk.execution is not None:
            self._open(self._desk.execution.exec_id)
            self._choose(self._chosen)

    def _open_and_choose(self, exec_id: str) -> None:
        with self._lock:
            self.editor, self.plan = {}, {}
        self._open(exec_id)
        self._choose(self._first_step())

    def _first_step(self) -> str:
        """What a person wants to see first: the step that failed, or before which it paused."""
        return self.opened.get("failed_at") or self.opened.get("next") or ""

    def _open(self, exec_id: str) -> None:
        with self._reading:
            opened = self._desk.open(exec_id)
            with self._lock:
                self.trouble = ""
                self.opened = opened
                if self._desk.plan is not None:
                    from . import sight

                    self.plan = sight.planned(self._desk.plan)

    def _glance(self) -> None:
        """From a thread that runs an execution: look at it again, now and then, and not while it is looked at."""
        now = time.monotonic()
        if not self._looks.is_busy and now - self._glanced >= _GLANCES and self._progress is not None:
            self._glanced = now
            self._progress.within(lambda: self._look(self._look_again))

    def _look_again(self) -> None:
        with self._reading:
            execution = self._desk.execution
            if execution is not None:
                opened = self._desk.open(execution.exec_id)
                with self._lock:
                    self.opened = opened

    def _choose(self, ref: str) -> None:
        step = self._desk.step(ref) if ref and self._desk.has(ref) else {}
        with self._lock:
            self.trouble = ""
            self._chosen = step.get("ref", "")
            self.step = step
            self.lines = self._desk.lines(self._chosen, self._current())

    def _value(self, ref: str) -> None:
        value = self._desk.value(ref)
        with self._lock:
            self.step = {**self.step, "chosen": ref, "value": value}

    def _edit(self, ref: str) -> None:
        editor = self._desk.editor(ref)
        with self._lock:
            self.trouble = ""
            self.editor = editor

    def _leave(self) -> None:
        with self._lock:
            self.editor = {}

    def _plan(self) -> None:
        from . import sight

        assert self._desk.execution is not None
        plan = self._desk.client.executions.plan(self._desk.execution.exec_id)
        with self._lock:
            self.trouble = ""
            self.plan = sight.planned(plan)

    # ------------------------------------------------------------ working

    def _stop(self) -> None:
        progress = self._progress
        if progress is not None and self._works.is_busy:
            self._deeds.stop(progress)

    def _work(self, name: str, message: State) -> None:
        with self._lock:
            if self._works.is_busy or self._desk.execution is None:
                return
            desk = self._desk
            progress = self._progress = Progress(self._publish, **{**IDLE, "phase": "running", "what": name})
            self._works.do(lambda: self._carry_out(name, desk, message, progress))

    def _publish(self, state: State) -> None:
        with self._lock:
            self.job = state

    def _carry_out(self, name: str, desk: Desk, message: State, progress: Progress) -> None:
        progress.say(now=True)
        try:
            told = self._deeds.do(name, desk, message, progress)
        except BaseException as e:  # of the user's code, on its way to be imported, say; the thread goes on
            told = Told("failed", _said(e))
        try:
            progress.within(lambda: self._after(name, told))
        except Exception as e:
            told = Told("failed", _said(e))
        progress.say(now=True, phase=told.phase, told=told.text, line=told.line, stops=False)

    def _after(self, name: str, told: Told) -> None:
        """What was done is looked at again."""
        if name == "record":
            with self._lock:
                if told.phase == "failed":
                    self.editor = {**self.editor, "error": told.text, "other_type": told.other_type}
                else:
                    self.editor = {}
        if told.debugged:
            if self.step.get("ref") != told.ref:  # another one was chosen meanwhile
                self._choose(told.ref or "")
            with self._lock:
                self.step = {**self.step, "debugged": told.debugged}
        if told.exec_id is not None:
            self._list()
            self._open(told.exec_id)
            self._choose(told.ref or self._chosen)
            if told.plan is not None:
                with self._lock:
                    self.plan = told.plan

    # ------------------------------------------------------------ how it shows itself

    def __repr__(self) -> str:
        return "Kitaru's browser: it needs a running kernel. The picture above stays without one"

    def _ipython_display_(self) -> None:
        """Two outputs: a picture that stays, and the live view, which hides that picture once it is alive."""
        from IPython.core.display_functions import display as show

        show(still.bundle(self._desk), raw=True)
        view = self._repr_mimebundle_()
        if view is not None:
            show(view[0] if isinstance(view, tuple) else view, raw=True)


def _said(error: BaseException) -> str:
    """An error in one line; it may quote what was recorded."""
    own = isinstance(error, KitaruError | UsageError)
    return display.line(error if own else f"{type(error).__name__}: {error}", 1000)
