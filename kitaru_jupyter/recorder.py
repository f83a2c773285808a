"""Running a cell as a step: from its first line to its checkpoint.

IPython runs the cell itself, once, so that top-level `await`, line numbers, output and interrupts are what they always
are. Around that stand four hooks, in this order:

1. `blank_magic`, an input transformer, empties the line ``%%kitaru_step …``;
2. `Recorder.before` (`pre_run_cell`) notes that line;
3. `Recorder.visit`, an AST transformer, has the cell's code once it has parsed: it begins the step, or refuses to
   run the cell. It is the last point before the body, in the body's own context;
4. `Recorder.after` (`post_run_cell`) records what came of it.

A cell that is not recorded leaves a note, which the next step takes along.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kitaru.errors import KitaruError
from kitaru.sessions import SessionStep

from .capture import Touches, compile_cell, touches_of
from .outputs import Shown
from .refusal import RefusedCellError, RefusedSyntaxError, UsageError
from .session import CELL, Notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

__all__ = ["Recorder", "Wanted", "blank_magic", "failed_line"]

_MAGIC = re.compile(r"\s*%%kitaru_step(?=\s|\Z)[^\S\n]*([^\n]*)\n?")
_MISPLACED = re.compile(r"\s*(?:%%[^\n]*\n\s*)+?%%kitaru_step(?=\s|\Z)")
_OURS = re.compile(r"kitaru(_\w+)?\Z")
_EXTENSIONS = {"load_ext", "reload_ext", "unload_ext"}


def blank_magic(lines: list[str]) -> list[str]:
    """Empty the line ``%%kitaru_step …`` and keep it as a line; drop it where another cell magic follows."""
    if not lines or not _MAGIC.fullmatch(lines[0]):
        return lines
    follows = next((i for i, line in enumerate(lines[1:], 1) if line.strip()), None)
    if follows is not None and lines[follows].startswith("%%"):
        return lines[follows:]
    return ["\n", *lines[1:]]


# It has none. But what has is left out where IPython asks whether a cell is complete: a terminal then waits for the
# blank line that ends a cell magic.
blank_magic.has_side_effects = True  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the magic line says.

    Attributes
    ----------
    reads, binds : tuple of str or None
        `--in` and `--out`; None: found from the code.
    instead : str or None
        The path of an inherited step, whose place this one takes.
    """

    name: str
    reads: tuple[str, ...] | None = None
    binds: tuple[str, ...] | None = None
    instead: str | None = None


_EVERY = Wanted(CELL)  # nobody has asked for this one


@dataclass(slots=True)
class _Pending:
    """A cell that IPython is about to run."""

    info: ExecutionInfo
    cell: str
    line: str | None  # None: it stands behind another cell magic
    source: str
    wanted: Wanted | None = None  # where there is no line to be parsed


@dataclass(slots=True)
class _Running:
    """A cell that has begun."""

    info: ExecutionInfo
    source: str
    touches: Touches
    step: SessionStep | None = None  # None: it is not recorded
    wanted: Wanted | None = None
    shown: Shown | None = None
    thread: int = field(default_factory=threading.get_ident)


class Recorder:
    """Makes steps of the cells that begin with ``%%kitaru_step``; and of every cell, where `every` is set.

    Parameters
    ----------
    parse
        Gives what a magic line says, or raises IPython's `UsageError`.
    """

    def __init__(self, shell: InteractiveShell, notebook: Notebook, parse: Callable[[str], Wanted]) -> None:
        self._shell, self._notebook, self._parse = shell, notebook, parse
        self._pending = threading.local()  # a subshell runs its cells in a thread of its own
        self._running: list[_Running] = []
        self.every = False
        self.next: Wanted | None = None  # what the next cell is run as: a resume says so
        self.label: str | None = None  # what the next cells were called when they ran first: likewise

    def before(self, info: ExecutionInfo) -> None:
        """IPython is about to parse and run a cell."""
        cell = info.raw_cell or ""
        wanted, self.next = self.next, None
        if wanted is not None:
            self._pending.cell = _Pending(info, cell, "", cell, wanted)
        elif found := _MAGIC.match(cell):
            self._pending.cell = _Pending(info, cell, found[1], cell[found.end() :])
        elif _MISPLACED.match(cell):
            self._pending.cell = _Pending(info, cell, None, cell)
        else:
            self._pending.cell = _Pending(info, cell, None, cell, _EVERY) if cell.strip() else None

    def visit(self, tree: ast.Module) -> ast.Module:
        """The cell has parsed: begin its step. Raises `RefusedCellError` for a cell that could not be recorded."""
        pending: _Pending | None = getattr(self._pending, "cell", None)
        self._pending.cell = None
        if pending is None or not isinstance(tree, ast.Module):
            return tree
        self._notebook.typed.add(pending.source.strip())
        if pending.wanted is _EVERY and self._is_within_a_step():
            return tree  # as %%capture, or a notebook that %run runs, has cells of its own: they are part of that step
        if pending.wanted is _EVERY:
            if not tree.body or is_ours(tree):
                return tree
            if not self.every:
                self._note(pending, tree)
                return tree
        try:
            compile_cell(tree)
        except SyntaxError as e:  # `return` outside of a function: IPython would find out halfway
            raise _refused(e, pending.cell) from None
        try:
            self._running.append(self._begin(pending, tree))
        except (UsageError, KitaruError) as e:
            raise RefusedCellError(f"{e}\nThe cell was not run: nothing runs here that would not be recorded.") from e
        except Exception as e:  # IPython would take this transformer out, and run the cell unrecorded
            raise RefusedCellError(
                f"The cell was not run, because it could not be recorded: {type(e).__name__}: {e}"
            ) from e
        return tree

    def _is_within_a_step(self) -> bool:
        here = threading.get_ident()
        return any(cell.step is not None and cell.thread == here for cell in self._running)

    def _note(self, pending: _Pending, tree: ast.Module) -> None:
        """A plain cell: before the first step of a session nothing of it is looked at."""
        if not self._notebook.namespace.is_followed:
            self._notebook.namespace.note_early(self._label(), pending.source, tree)
            return
        try:
            touches = touches_of(tree, self._shell.user_ns)
        except SyntaxError:
            return  # IPython says so
        self._running.append(_Running(pending.info, pending.source, touches))

    def _label(self) -> str:
        return f"In[{self._shell.execution_count}]"

    def _begin(self, pending: _Pending, tree: ast.Module) -> _Running:
        if pending.line is None and pending.wanted is None:
            raise UsageError("%%kitaru_step must be the first line of its cell; other cell magics come after it")
        wanted = pending.wanted or self._parse(pending.line or "")
        variables = self._shell.user_ns
        touches = touches_of(tree, variables)
        for name in wanted.reads or ():
            if name not in variables:
                raise UsageError(f"--in names {name}, and there is no such variable")
        step = self._notebook.begin(wanted.name, touches, pending.source, wanted.reads, wanted.instead)
        step.enter()
        return _Running(pending.info, pending.source, touches, step, wanted, Shown.begin(self._shell))

    def after(self, result: ExecutionResult | None) -> None:
        """The cell has ended, whatever way: record how."""
        self._pending.cell = None
        cell = self._ended(result)
        if cell is None:
            return
        error: BaseException | None = KeyboardInterrupt()
        if result is not None:
            error = result.error_before_exec or result.error_in_exec
        if cell.step is None:
            self._notebook.namespace.note_plain(self._last_label(result), cell.source, cell.touches)
            return
        cell.step.exit()
        try:
            if cell.shown is not None:
                cell.shown.end()
                if cell.shown.outputs:
                    cell.step.save("display", cell.shown.outputs, "display")
            if error is None:
                self._succeed(cell, cell.step)
            else:
                self._notebook.namespace.note_plain(cell.step.label, cell.source, cell.touches)
                with _from_the_cell(error):
                    cell.step.fail(error)
                interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
                sys.stderr.write(failed_line(cell.step.label, "was interrupted" if interrupted else "failed"))
        except Exception as e:  # an exception from here would only be printed: let the cell itself fail
            if result is not None and error is None:
                result.error_in_exec = e
            _say(f"the cell has run, but {cell.step.label} could not be recorded: {e}")

    def _last_label(self, result: ExecutionResult | None) -> str:
        if self.label is not None:
            return self.label
        count = getattr(result, "execution_count", None)
        return f"In[{count}]" if count is not None else self._label()

    def _succeed(self, cell: _Running, step: SessionStep) -> None:
        assert cell.wanted is not None
        self._notebook.end(step, cell.touches, cell.wanted.binds)
        missing = [name for name in cell.wanted.binds or () if name not in self._shell.user_ns]
        if missing:
            _say(f"{step.label}: --out names {', '.join(missing)}, which the cell has not bound")

    def _ended(self, result: ExecutionResult | None) -> _Running | None:
        """The running cell that this is the result of. A run that was broken off comes with another info, or none."""
        found = [c for c in self._running if result is not None and c.info is result.info]
        if not found and (result is None or not result.success):
            raw = getattr(getattr(result, "info", None), "raw_cell", None)
            found = [c for c in self._running if result is None or c.info.raw_cell == raw]
        if not found:
            return None
        self._running.remove(found[-1])
        return found[-1]


def is_ours(tree: ast.Module) -> bool:
    """Whether a cell, as IPython has transformed it, does nothing but call Kitaru's own magics."""

    def calls_ours(node: ast.stmt) -> bool:
        if not isinstance(node, ast.Expr | ast.Assign):
            return False
        call: Any = node.value.value if isinstance(node.value, ast.Await) else node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
            return False
        if call.func.attr == "_kitaru":
            return True
        first = call.args[0]
        name = first.value if isinstance(first, ast.Constant) else None
        magic = call.func.attr in {"run_line_magic", "run_cell_magic"} and isinstance(name, str)
        return magic and (bool(_OURS.match(str(name))) or name in _EXTENSIONS)

    return bool(tree.body) and all(map(calls_ours, tree.body))


def _refused(error: SyntaxError, cell: str) -> RefusedSyntaxError:
    """The same error as one that IPython lets an AST transformer raise, with the line that it is about."""
    lines = cell.splitlines()
    text = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else None
    place = (error.filename, error.lineno, error.offset, text, error.end_lineno, error.end_offset)
    return RefusedSyntaxError(error.msg, place)


@contextmanager
def _from_the_cell(error: BaseException) -> Iterator[BaseException]:
    """`error` with a traceback that begins in the cell, without the frames of IPython that ran it."""
    whole = at = error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__", "").partition(".")[0] in {"IPython", "ipykernel"}:
        at = at.tb_next
    error.__traceback__ = at if at is not None else whole
    try:
        yield error
    finally:
        error.__traceback__ = whole


def failed_line(label: str, how: str = "failed") -> str:
    """What is said below the traceback of a cell that failed; an exported notebook expects it there."""
    return f"kitaru: {label} {how}. What it had: %kitaru show {label}\n"


def _say(line: str) -> None:
    sys.stderr.write(f"kitaru: {line}\n")
