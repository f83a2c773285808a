"""A recorded step again, on its recorded inputs, with a debugger at the frame that raises."""

from __future__ import annotations

import argparse
import contextlib
import linecache
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic_arguments import argument, magic_arguments

import kitaru
from kitaru import Ref
from kitaru.client import Checkpoint
from kitaru.errors import CodeNotFoundError, KitaruError
from kitaru.stepping import RecordedCall

from . import display as faces
from .commands import Room, command
from .newest import own_steps, tell_source
from .recorded_cell import RecordedCell

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Debugging", "can_ask", "frames_text", "own_traceback", "show_own"]

_FRAMES, _LOCALS = 20, 12
_CODE = type  # stands for what there is not
_NO_DATA = types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type
_SKIPPED = {"kitaru", "kitaru_jupyter", "IPython", "ipykernel", "asyncio"}
_LIBRARIES = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


class Debugging(Room):
    """Nothing of it is recorded."""

    @command("debug", completes="refs", awaits=True)
    @magic_arguments()
    @argument("ref", nargs="?", help="a step: classify#2, EXEC:classify#2; the one in `step`, when left out")
    @argument("--code", metavar="PATH", help="where the flow's code is: a script, a module, or module:flow")
    async def debug(self, args: argparse.Namespace) -> None:
        """Run a step again on its recorded inputs, and stop in the debugger where it fails."""
        own = await self.again(self.notebook.step_named(args.ref), args.code)
        if own is None:
            return
        if can_ask(self.shell):
            _debugger(self.shell, own)
        else:
            print(f"\n{frames_text(self.shell, own)}")  # noqa: T201 - what was asked

    async def again(
        self, checkpoint: Checkpoint, code: str | None = None, tell: Callable[[str], None] = print
    ) -> types.TracebackType | None:
        """Run a step again; `tell` is told what came of it. Gives the user's own frames, where it has failed in them.

        From any thread.
        """
        is_cell = checkpoint.data.type == "cell"
        if is_cell:
            self.notebook.check_code(checkpoint.execution, checkpoint.label, checkpoint.source or "")
        call = RecordedCell(self.shell, checkpoint) if is_cell else self._call(checkpoint, code, tell)
        try:
            value = call.run()
            if call.is_async:
                value = await value
        except Exception as e:
            again = "fails again" if checkpoint.failure is not None else "fails"
            tell(f"{faces.line(checkpoint.label)} {again}: {_summary(e)}")
            return own_traceback(e)
        tell(_told_of_cell(checkpoint) if is_cell else _compared(checkpoint, value))
        return None

    def _call(self, checkpoint: Checkpoint, code: str | None, tell: Callable[[str], None]) -> RecordedCall:
        own = own_steps(self.shell.user_ns).get(checkpoint.name) if code is None else None
        if own is not None and own.source() != checkpoint.source:
            tell(f"{faces.line(own.name)} is the checkpoint of this notebook")
        try:
            return RecordedCall(checkpoint, step=own, code=code)
        except CodeNotFoundError as e:
            if checkpoint.source is None:
                raise
            tell_source(checkpoint.label, checkpoint.source, tell)
            raise CodeNotFoundError(
                f"{e}. Say where: %kitaru debug --code PATH; or define it in a cell: a @checkpoint named "
                f"{checkpoint.name} is taken"
            ) from e


def can_ask(shell: InteractiveShell) -> bool:
    """Whether somebody sits there who can be asked for input."""
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def _debugger(shell: InteractiveShell, own: types.TracebackType) -> None:
    """IPython's debugger, at the deepest frame of the user's own code."""
    start = _deepest(own)

    class Debugger(shell.InteractiveTB.debugger_cls):  # type: ignore[misc,name-defined]
        def get_stack(self, f: Any, t: Any) -> tuple[list[Any], int]:
            stack, at = super().get_stack(f, t)
            return stack, next((n for n, (frame, _) in enumerate(stack) if frame is start), at)

    debugger = Debugger()
    debugger.reset()
    debugger.botframe = own.tb_frame
    debugger.interaction(None, own)


# ---------------------------------------------------------------- frames


def own_traceback(error: BaseException) -> types.TracebackType | None:
    """The traceback of an error without the frames that called the user's code; None where there is no other."""
    frames: list[types.TracebackType] = []
    at = error.__traceback__
    while at is not None:
        if _module(at) not in _SKIPPED:
            frames.append(at)
        at = at.tb_next
    made: types.TracebackType | None = None
    for at in reversed(frames):
        made = types.TracebackType(made, at.tb_frame, at.tb_lasti, at.tb_lineno)
    return made


def show_own(shell: InteractiveShell, error: Exception) -> None:
    """Have IPython show the user's frames of an error, without those of Kitaru and of this magic around them."""
    own = own_traceback(error)
    if own is None:
        return

    def render() -> list[str]:
        return shell.InteractiveTB.structured_traceback(type(error), error, own)

    with contextlib.suppress(Exception):  # a class that refuses attributes: then all frames are shown
        error._render_traceback_ = render  # type: ignore[attr-defined]


def _module(at: types.TracebackType) -> str:
    name = at.tb_frame.f_globals.get("__name__")
    if not isinstance(name, str) or name.startswith("kitaru.demo"):
        return ""
    return name.partition(".")[0]


def _walk(own: types.TracebackType) -> Iterator[types.TracebackType]:
    at: types.TracebackType | None = own
    while at is not None:
        yield at
        at = at.tb_next


def _is_library(frame: types.FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith("<frozen") or os.path.realpath(name).startswith(_LIBRARIES)


def _deepest(own: types.TracebackType) -> types.FrameType:
    frames = [at.tb_frame for at in _walk(own)]
    return next((frame for frame in reversed(frames) if not _is_library(frame)), frames[-1])


def frames_text(shell: InteractiveShell, own: types.TracebackType) -> str:
    """The frames, and what the user's own ones hold, by previews: no code of a value's runs."""
    frames = list(_walk(own))
    out = []
    left_out = len(frames) - _FRAMES
    for n, at in enumerate(frames):
        if left_out > 0 and _FRAMES // 2 <= n < _FRAMES // 2 + left_out:
            if n == _FRAMES // 2:
                out.append(f"… {left_out} more frames")
            continue
        frame = at.tb_frame
        out.append(f"{_place(shell, frame.f_code.co_filename, at.tb_lineno)} in {faces.line(frame.f_code.co_qualname)}")
        source = linecache.getline(frame.f_code.co_filename, at.tb_lineno, frame.f_globals).strip()
        if source:
            out.append(f"    {faces.line(source)}")
        if _is_library(frame):
            continue
        if frame.f_code.co_name != "<module>":
            out += [f"      {line}" for line in _locals(frame.f_locals)]
        elif frame.f_globals is not shell.user_ns and frame.f_globals.get("__name__") == "__main__":
            names = frame.f_code.co_names  # a recorded cell: what it speaks of
            held = {n: v for n in names if not isinstance(v := frame.f_locals.get(n, _CODE), _NO_DATA)}
            out += [f"      {line}" for line in _locals(held)]
    return "\n".join(out)


def _place(shell: InteractiveShell, file: str, number: int) -> str:
    named = shell.compile.format_code_name(file)
    what = named[1] if named is not None else os.path.basename(file) or file
    return f"{faces.line(what)}:{number}"


def _locals(held: Mapping[str, Any]) -> list[str]:
    found = [(name, value) for name, value in held.items() if not name.startswith("__")]
    lines = [f"{faces.line(name, 40)} = {faces.glimpse(Ref.to(value).preview)}" for name, value in found[:_LOCALS]]
    more = len(found) - _LOCALS
    return [*lines, f"… {more} more"] if more > 0 else lines


# ---------------------------------------------------------------- what came of it


def _summary(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "<its message cannot be had>"
    name = type(error).__name__
    return faces.line(f"{name}: {text}" if text else name, 200)


def _compared(checkpoint: Checkpoint, value: Any) -> str:
    """What a step gives now, beside what is recorded."""
    label, now = faces.line(checkpoint.label), faces.glimpse(Ref.to(value).preview)
    failure = checkpoint.failure
    if failure is not None:
        return f"{label} does not fail this time: it gives {now}\nrecorded: {faces.line(failure.summary(), 200)}"
    recorded = checkpoint.artifacts
    if checkpoint.status != "completed":
        return f"{label} gives {now}"
    parts = list(value) if len(recorded) > 1 and isinstance(value, tuple | list) else [value]
    if len(parts) == len(recorded) and all(map(_is_same, recorded, parts)):
        return f"{label} does not fail, and gives what is recorded: {now}"
    old = "; ".join(f"{faces.glimpse(a.preview)}" for a in recorded)
    return f"{label} does not fail, and gives {now}\nrecorded: {old}"


def _told_of_cell(checkpoint: Checkpoint) -> str:
    label, failure = faces.line(checkpoint.label), checkpoint.failure
    if failure is None:
        return f"{label} does not fail"
    return f"{label} does not fail this time\nrecorded: {faces.line(failure.summary(), 200)}"


def _is_same(artifact: Any, value: Any) -> bool:
    try:
        return bool(artifact.digest == kitaru.digest(value))
    except KitaruError:
        return False
