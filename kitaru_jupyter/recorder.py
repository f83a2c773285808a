"""Running a cell as a step: from its first line to its checkpoint.

IPython runs the cell itself, once, so that top-level `await`, line numbers, output and interrupts are what they always
are. Around that stand four hooks, in this order:

1. `blank_magic`, an input transformer, empties the line ``%%kitaru_step …``;
2. `Recorder.before` (`pre_run_cell`) notes that line;
3. `Recorder.visit`, an AST transformer, has the cell's code once it has parsed: it begins the step, or refuses to
   run the cell. It is the last point before the body, in the body's own context;
4. `Recorder.after` (`post_run_cell`) records what came of it.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import KitaruError

from .cells import Names, bound_values, compile_cell, follow, names_of, read_values
from .refusal import RefusedCellError, RefusedSyntaxError, UsageError
from .session import Notebook, Step

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

__all__ = ["Recorder", "Wanted", "blank_magic"]

_MAGIC = re.compile(r"\s*%%kitaru_step(?=\s|\Z)[^\S\n]*([^\n]*)\n?")
_MISPLACED = re.compile(r"\s*(?:%%[^\n]*\n\s*)+?%%kitaru_step(?=\s|\Z)")


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
    """

    name: str
    reads: tuple[str, ...] | None = None
    binds: tuple[str, ...] | None = None


@dataclass(slots=True)
class _Pending:
    """A cell that IPython is about to run."""

    info: ExecutionInfo
    cell: str
    line: str | None  # None: it stands behind another cell magic
    source: str


@dataclass(slots=True)
class _Running:
    """A cell whose step has begun."""

    info: ExecutionInfo
    step: Step
    wanted: Wanted
    binds: Names


class Recorder:
    """Makes steps of the cells that begin with ``%%kitaru_step``.

    Parameters
    ----------
    parse
        Gives what a magic line says, or raises IPython's `UsageError`.
    """

    def __init__(self, shell: InteractiveShell, notebook: Notebook, parse: Callable[[str], Wanted]) -> None:
        self._shell, self._notebook, self._parse = shell, notebook, parse
        self._pending = threading.local()  # a subshell runs its cells in a thread of its own
        self._running: list[_Running] = []

    @property
    def _hidden(self) -> Sequence[str]:
        return list(self._shell.user_ns_hidden)

    def before(self, info: ExecutionInfo) -> None:
        """IPython is about to parse and run a cell."""
        cell = info.raw_cell or ""
        self._pending.cell = None
        if found := _MAGIC.match(cell):
            self._pending.cell = _Pending(info, cell, found[1], cell[found.end() :])
        elif _MISPLACED.match(cell):
            self._pending.cell = _Pending(info, cell, None, cell)

    def visit(self, tree: ast.Module) -> ast.Module:
        """The cell has parsed: begin its step. Raises `RefusedCellError` for a cell that could not be recorded."""
        pending: _Pending | None = getattr(self._pending, "cell", None)
        self._pending.cell = None
        if pending is None or not isinstance(tree, ast.Module):
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

    def _begin(self, pending: _Pending, tree: ast.Module) -> _Running:
        if pending.line is None:
            raise UsageError("%%kitaru_step must be the first line of its cell; other cell magics come after it")
        wanted = self._parse(pending.line)
        namespace = self._shell.user_ns
        names = follow(names_of(tree), namespace)
        if wanted.reads is None:
            inputs = read_values(names, namespace, self._hidden)
        else:
            inputs = {name: _had(namespace, name) for name in wanted.reads}
        binds = names if wanted.binds is None else Names((), wanted.binds)
        step = self._notebook.step(wanted.name, inputs, pending.source)
        step.enter()
        return _Running(pending.info, step, wanted, binds)

    def after(self, result: ExecutionResult | None) -> None:
        """The cell has ended, whatever way: record how."""
        self._pending.cell = None
        cell = self._ended(result)
        if cell is None:
            return
        error: BaseException | None = KeyboardInterrupt()
        if result is not None:
            error = result.error_before_exec or result.error_in_exec
        cell.step.exit()
        try:
            if error is None:
                self._succeed(cell)
            else:
                with _from_the_cell(error):
                    cell.step.fail(error)
                _say(f"{cell.step.label} failed. What it had: %kitaru show {cell.step.label}")
        except Exception as e:  # an exception from here would only be printed: let the cell itself fail
            if result is not None and error is None:
                result.error_in_exec = e
            _say(f"the cell has run, but {cell.step.label} could not be recorded: {e}")

    def _succeed(self, cell: _Running) -> None:
        outputs = bound_values(cell.binds, self._shell.user_ns, () if cell.wanted.binds else self._hidden)
        cell.step.succeed(outputs)
        missing = [name for name in cell.wanted.binds or () if name not in self._shell.user_ns]
        if missing:
            _say(f"{cell.step.label}: --out names {', '.join(missing)}, which the cell has not bound")

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


def _had(namespace: dict[str, Any], name: str) -> Any:
    if name not in namespace:
        raise UsageError(f"--in names {name}, and there is no such variable")
    return namespace[name]


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


def _say(line: str) -> None:
    sys.stderr.write(f"kitaru: {line}\n")
