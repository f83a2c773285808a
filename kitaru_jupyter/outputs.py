"""What a recorded cell has shown: kept with its checkpoint, and shown again on request."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from kitaru import Ref
from kitaru.client import Execution, KitaruClient
from kitaru.errors import NotFoundError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Shown", "recorded", "show_again"]

_TEXT = 64 << 10  # characters of each stream that are kept
_DATA = 4 << 20  # bytes of all that is displayed that are kept
_WIDGET = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel


class Shown:
    """Keeps what one cell writes and displays, while it is shown as always.

    A cell's own context decides what is its own; what other threads show belongs to the cell that runs, where that is
    one alone.

    Attributes
    ----------
    outputs : list of dict
        In order: ``{"stream": "stdout", "text": …}``, ``{"data": {MIME: …}}``, and for the value of the cell's last
        expression ``{"result": {MIME: …}}``. What was cleared or updated meanwhile is as it was in the end.
    """

    def __init__(self, around: tuple[Shown, ...] = ()) -> None:
        self.around = around  # the cells that this one is run within
        self.outputs: list[dict[str, Any]] = []
        self.is_publishing = False  # in a terminal that writes its text as well
        self._handles: dict[str, list[dict[str, Any]]] = {}
        self._is_to_be_cleared = False
        self._reset()

    def _reset(self) -> None:
        self.outputs.clear()
        self._handles.clear()
        self._left = {"stdout": _TEXT, "stderr": _TEXT}
        self._room = _DATA
        self._is_to_be_cleared = False

    @classmethod
    def begin(cls, shell: InteractiveShell) -> Shown:
        """From here to `end`, in the context that the cell runs in."""
        shown = cls(_own.get())
        _own.set((*shown.around, shown))
        _Hooks.of(shell).add(shown)
        return shown

    def end(self) -> None:
        """The cell has ended."""
        if _own.get()[-1:] == (self,):
            _own.set(self.around)
        _Hooks.remove(self)

    def display(self, kind: str, data: Mapping[str, Any], handle: str | None = None, *, update: bool = False) -> None:
        """Keep what is displayed, if there is room for it; an update takes the place of what it updates."""
        kept = {mime: part for mime, part in data.items() if mime != _WIDGET}
        size = sum(len(part) if isinstance(part, str | bytes) else 1000 for part in kept.values())
        if not kept or size > self._room:
            return
        if update:
            if handle in self._handles:
                self._room -= size
            for output in self._handles.get(handle or "", ()):
                output[kind] = kept
            return
        self._begin_output()
        self._room -= size
        self.outputs.append({kind: kept})
        if handle is not None:
            self._handles.setdefault(handle, []).append(self.outputs[-1])

    def write(self, name: str, text: str) -> None:
        """Keep what is written."""
        if self.is_publishing or not text:
            return
        self._begin_output()
        text = text[: self._left[name]]
        if not text:
            return
        self._left[name] -= len(text)
        last = self.outputs[-1] if self.outputs else {}
        if last.get("stream") == name:
            last["text"] += text
        else:
            self.outputs.append({"stream": name, "text": text})

    def clear(self, *, wait: bool) -> None:
        """The cell's outputs are cleared; with `wait` as soon as there is another one."""
        self._is_to_be_cleared = wait
        if not wait:
            self._reset()

    def _begin_output(self) -> None:
        if self._is_to_be_cleared:
            self._reset()


_own: ContextVar[tuple[Shown, ...]] = ContextVar("kitaru_shown", default=())


class _Hooks:
    """What stands before a shell's streams and displays, as long as a cell is recorded."""

    current: _Hooks | None = None

    @classmethod
    def of(cls, shell: InteractiveShell) -> _Hooks:
        """Those of this process: there is one shell in it."""
        with _changing:
            if cls.current is None:
                cls.current = cls(shell)
            return cls.current

    def __init__(self, shell: InteractiveShell) -> None:
        self._cells: list[Shown] = []
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        for name in ("stdout", "stderr"):
            # The stream's own `write` is replaced by IPython, which puts it back when a cell ends, whoever comes after.
            self._replace(sys, name, _Tee(name, getattr(sys, name), self._showing))
        publisher, hook = shell.display_pub, shell.displayhook
        self._replace(publisher, "publish", self._publisher(publisher.publish))
        self._replace(publisher, "clear_output", self._clearer(publisher.clear_output))
        if hasattr(shell, "kernel"):  # a terminal writes it as text
            self._replace(hook, "write_format_data", self._shower(hook.write_format_data))

    def add(self, cell: Shown) -> None:
        self._cells.append(cell)

    @classmethod
    def remove(cls, cell: Shown) -> None:
        with _changing:
            hooks = cls.current
            if hooks is None or cell not in hooks._cells:
                return
            hooks._cells.remove(cell)
            if hooks._cells:
                return
            cls.current = None
            for replaced in hooks._replaced:
                _put_back(*replaced)

    def _replace(self, thing: Any, name: str, new: Any) -> None:
        before = vars(thing).get(name, _ABSENT)
        setattr(thing, name, new)
        self._replaced.append((thing, name, new, before))

    def _showing(self) -> tuple[Shown, ...]:
        """The cells that something is shown by, just now and here."""
        own = tuple(cell for cell in _own.get() if cell in self._cells)
        return own or (tuple(self._cells) if len(self._cells) == 1 else ())

    def _publisher(self, publish: Callable[..., None]) -> Callable[..., None]:
        def both(data: Mapping[str, Any], *args: Any, **options: Any) -> None:
            cells = self._showing()
            handle = (options.get("transient") or {}).get("display_id")
            for cell in cells:
                cell.display("data", data, handle, update=bool(options.get("update")))
            with _publishing(cells):
                publish(data, *args, **options)

        return both

    def _clearer(self, clear: Callable[..., None]) -> Callable[..., None]:
        def both(wait: bool = False) -> None:
            cells = self._showing()
            for cell in cells:
                cell.clear(wait=wait)
            with _publishing(cells):
                clear(wait)

        return both

    def _shower(self, show: Callable[..., None]) -> Callable[..., None]:
        def both(data: Mapping[str, Any], *args: Any, **options: Any) -> None:
            for cell in self._showing():
                cell.display("result", data)
            show(data, *args, **options)

        return both


class _Tee:
    """A stream whose text is kept too. Whoever holds on to it goes on with the stream itself."""

    def __init__(self, name: str, stream: TextIO, showing: Callable[[], Iterable[Shown]]) -> None:
        self._name, self._stream, self._showing = name, stream, showing

    def write(self, text: str) -> int:
        if isinstance(text, str):
            for cell in self._showing():
                cell.write(self._name, text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _put_back(thing: Any, name: str, new: Any, before: Any) -> None:
    if vars(thing).get(name) is not new:  # somebody stands before it, or has taken it away
        return
    if before is _ABSENT:
        delattr(thing, name)
    else:
        setattr(thing, name, before)


_ABSENT: Any = object()
_changing = threading.Lock()


@contextmanager
def _publishing(cells: Iterable[Shown]) -> Iterator[None]:
    for cell in cells:
        cell.is_publishing = True
    try:
        yield
    finally:
        for cell in cells:
            cell.is_publishing = False


def recorded(execution: Execution, label: str) -> list[dict[str, Any]] | None:
    """What the cell of a step of this branch has shown, see `Shown`; None where it has shown nothing."""
    executions = KitaruClient(execution.store).executions
    while True:
        branch = execution.branch()
        try:
            step = branch.steps[branch.find(label)]
        except NotFoundError:
            return None
        where = execution if step.exec_id == execution.exec_id else executions.get(step.exec_id)
        saved = [s for s in where.data.saved if s.record == step.data.id and s.type == "display"]
        if saved:
            return Ref(saved[-1].value, where.values).load()
        if step.decision == "ran" or execution.forked_from is None:
            return None
        execution = executions.get(execution.forked_from)  # a fork that reuses a step has its record there


def show_again(outputs: list[dict[str, Any]]) -> None:
    """Show what a cell has shown, as it did then."""
    from IPython.core.display_functions import display

    for output in outputs:
        if "stream" in output:
            stream = sys.stderr if output["stream"] == "stderr" else sys.stdout
            stream.write(output["text"])
        else:
            display(output.get("data") or output["result"], raw=True)
