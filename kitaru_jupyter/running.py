"""Stepping through a flow: it begins in the notebook, stops before a step, and goes on by steps or to the next stop."""

from __future__ import annotations

import argparse
import ast
import contextlib
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from IPython.core.display_functions import display
from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.client import Execution, ExecutionStatus, Handle, KitaruClient
from kitaru.errors import ExecutionSuspended, KitaruError
from kitaru.stepping import Flow

from . import display as faces
from .commands import Room, command, split
from .debugging import show_own
from .interrupts import Interrupts
from .newest import flow_of, standing_in
from .progress import Progress
from .refusal import UsageError
from .steps import opened_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .waiting import Suspended

__all__ = ["Running", "parsed_call"]

_FIRST = re.compile(r"\s*((?:--(?:until|break|exec-id)(?:\s+|=)\S+\s+)*)")


def words_of_call(rest: str) -> list[str]:
    """A line as `%kitaru run` takes it: its options, and the call as it is written."""
    call, words = parsed_call(rest)
    return [*words, "--", call]


class Running(Room):
    """Each stop is a pause before a step: durable, so that the kernel may end there."""

    suspended: Suspended  # which shows what it waits for

    @command("run", awaits=True, raw=words_of_call)
    @magic_arguments()
    @argument("call", metavar="FLOW(ARGS)", help="a call of a flow, as it is written in a cell")
    @argument("--until", metavar="REF", help="stop before this step: classify#2")
    @argument(
        "--break", dest="breaks", action="append", default=[], metavar="REF",
        help="stop before each step of this name, or before the one of this path; may be given again",
    )  # fmt: skip
    @argument("--exec-id", metavar="NAME", help="a name for the execution")
    async def run(self, args: argparse.Namespace) -> Any:
        """Begin a flow and stop before a step: the first one, where none is named."""
        flow, given, named = evaluated(self.shell, args.call)
        steps = 0 if args.until is None and not args.breaks else None
        with standing_in(flow, self.shell.user_ns):
            handle = self.notebook.run_flow(
                flow, given, named, exec_id=args.exec_id, until=args.until, breaks=args.breaks, steps=steps
            )
            await _settled(handle)
        return self._ended(self.notebook.attend_to(handle), handle)

    @command("next", awaits=True)
    @magic_arguments()
    @argument("steps", nargs="?", type=int, default=1, metavar="N", help="so many; one, when left out")
    async def next(self, args: argparse.Namespace) -> Any:
        """Go on by a step, or by N: those of the place where it stands, with all that is inside of them."""
        if args.steps < 1:
            raise UsageError("%kitaru next takes a number of steps, 1 or more")
        return await self._go_on(breaks=self.notebook.get().breaks, steps=args.steps)

    @command("continue", completes="refs", awaits=True)
    @magic_arguments()
    @argument("--until", metavar="REF", help="stop before this step as well")
    @argument(
        "--break", dest="breaks", action="append", default=[], metavar="REF", help="another breakpoint; it is kept"
    )
    @argument("--clear", action="store_true", help="forget the breakpoints that there are")
    async def go_on(self, args: argparse.Namespace) -> Any:
        """Go on to the next breakpoint, or to the end."""
        before = () if args.clear else self.notebook.get().breaks
        return await self._go_on(breaks=dict.fromkeys((*before, *args.breaks)), until=args.until)

    async def resume(self, *, until: str | None = None, code: str | None = None) -> Any:
        """``%kitaru resume`` of an execution of a flow: to its end, whatever breakpoints there are."""
        return await self._go_on(until=until, code=code)

    @command("where")
    @magic_arguments()
    def where(self, _args: argparse.Namespace) -> None:
        """Where the flow stands: the steps that are done, and the next one with its inputs."""
        execution = self.notebook.get()
        if not execution.checkpoints and execution.forked_from is not None and execution.next_step is None:
            print(opened_line(execution, self.notebook.step_named(None)))  # noqa: T201 - what was asked
            display(self.notebook.client.executions.plan(execution.exec_id))
        else:
            faces.publish(faces.standing(execution))
            if execution.status is ExecutionStatus.WAITING:
                self.suspended.show(execution)

    # ------------------------------------------------------------ going on

    async def _go_on(
        self,
        *,
        until: str | None = None,
        breaks: Iterable[str] | None = None,
        steps: int | None = None,
        code: str | None = None,
    ) -> Any:
        execution = self.notebook.get()
        if execution.data.begun.by_hand:
            raise UsageError(
                "the current execution is this notebook's own: %kitaru run FLOW(ARGS) begins a flow, and "
                "%kitaru open EXEC takes one up; %kitaru resume runs cells that are stale"
            )
        flow = flow_of(execution, self.shell.user_ns, code)
        ahead = _ahead(self.notebook.client, execution) if steps is None else 1
        with standing_in(flow, self.shell.user_ns), Progress(self.shell, "resume") as progress:
            progress.begin(ahead)
            with Interrupts() as interrupts, interrupts.stopping():
                handle = self.notebook.go_on(flow, until=until, breaks=breaks, steps=steps, admit=progress.admit)
            await _settled(handle)
        return self._ended(self.notebook.attend_to(handle), handle)

    def _ended(self, execution: Execution, handle: Handle) -> Any:
        """Say how it stands, and give the result where it has one; raise what the flow raised."""
        step = self.notebook.bind_step(execution)
        if handle.status in {"paused", "interrupted"}:
            print(opened_line(execution, step))  # noqa: T201 - what was asked
            return None
        if handle.status == "completed":
            ran, reused = handle.tally.ran, handle.tally.reused
            steps = f"{ran} step{'' if ran == 1 else 's'} run, {reused} reused"
            print(f"{faces.line(execution.exec_id)} completed: {steps}")  # noqa: T201 - likewise
            return handle.get()
        if handle.status == "waiting":
            self.suspended.show(execution)
            return None
        _say_afterwards(self.shell, execution)
        try:
            return handle.get()
        except Exception as e:
            show_own(self.shell, e)
            raise


async def _settled(handle: Handle) -> None:
    """Drive an async flow; how it ended is in its handle. What kept it from running is raised."""
    if handle.status != "pending":
        return
    try:
        await handle
    except ExecutionSuspended:
        pass
    except Exception:
        if handle.status == "pending":
            raise


def _ahead(client: KitaruClient, execution: Execution) -> int:
    """How many steps a resume runs, as far as records can say."""
    try:
        return max(client.executions.plan(execution.exec_id).count("rerun", "rerun?"), 1)
    except KitaruError:
        return 1


def _say_afterwards(shell: InteractiveShell, execution: Execution) -> None:
    """Below the traceback that IPython is about to show: one line, what to type."""
    at = execution.failed_at
    is_wait = any(c.label == at and c.data.opened is not None for c in execution.checkpoints)
    look = "%kitaru debug stops where it fails" if at is not None else "%kitaru resume runs it again"
    look = "%kitaru resume asks again" if is_wait else look
    where = f"failed at {faces.line(at)}" if at is not None else "failed in the flow's own code"

    def say(*_: Any) -> None:
        shell.events.unregister("post_run_cell", say)
        sys.stderr.write(f"kitaru: {faces.line(execution.exec_id)} {where}; {look}\n")

    shell.events.register("post_run_cell", say)


# ---------------------------------------------------------------- FLOW(ARGS)


def parsed_call(rest: str) -> tuple[str, list[str]]:
    """A call as it is written, and the words around it. Raises `UsageError`."""
    first = _FIRST.match(rest)
    before = first[1] if first is not None else ""
    text = rest[first.end() if first is not None else 0 :].strip()
    for end in (n for n, c in enumerate(text, 1) if c == ")"):
        behind = text[end:]
        if behind.strip() and not re.match(r"\s+--", behind):
            continue
        with contextlib.suppress(SyntaxError, ValueError):
            if isinstance(ast.parse(text[:end], mode="eval").body, ast.Call):
                return text[:end], [*split(before), *split(behind)]
    raise UsageError(f"%kitaru run takes a call of a flow, such as audit(3, model='small'), and not {text[:100]!r}")


def evaluated(shell: InteractiveShell, text: str) -> tuple[Flow[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The flow, and the arguments that it is called with. Raises `UsageError` where it is no call of a flow."""
    call: Any = ast.parse(text, mode="eval").body

    def value(node: ast.expr) -> Any:
        code = compile(ast.Expression(node), "<%kitaru run>", "eval")
        try:
            return eval(code, shell.user_ns)  # noqa: S307 - the user's own line
        except Exception as e:
            show_own(shell, e)
            raise

    name = ast.unparse(call.func)
    try:
        flow = value(call.func)
    except (NameError, AttributeError) as e:
        raise UsageError(f"{e}: import the flow, or define it in a cell") from None
    if not isinstance(flow, Flow):
        raise UsageError(f"{name} is no flow, but {type(flow).__name__}: mark its function with @kitaru.flow")
    args: list[Any] = []
    for node in call.args:
        args += value(node.value) if isinstance(node, ast.Starred) else [value(node)]
    kwargs: dict[str, Any] = {}
    for keyword in call.keywords:
        kwargs |= value(keyword.value) if keyword.arg is None else {keyword.arg: value(keyword.value)}
    try:
        flow.signature.signature.bind(*args, **kwargs)
    except TypeError as e:
        raise UsageError(f"{text}: {e}") from None
    return flow, tuple(args), kwargs
