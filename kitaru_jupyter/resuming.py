"""Going on after an edit: the stale cells run again, in order, each with the variables as it would find them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.magic_arguments import argument, magic_arguments

import kitaru
from kitaru.sessions import Branch, Verdict, verdicts

from .commands import Room, command
from .display import line
from .interrupts import Interrupts
from .progress import Progress
from .recorder import Recorder, Wanted
from .refusal import UsageError
from .running import Running

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

__all__ = ["Resuming", "StoppedError", "run_cell"]


class Resuming(Room):
    """What is stale runs again, and nothing else."""

    recorder: Recorder  # which makes steps of the cells that are run here
    running: Running  # which goes on with flows
    _stopped: tuple[str, int] | None = None  # the branch on which one was ended before a step, and how long that was

    @command("resume", completes="refs", awaits=True)
    @magic_arguments()
    @argument("execution", nargs="?", help="of a flow: it is opened, and goes on; this one, when left out")
    @argument("--ready", action="store_true", help="go on with all that can: answered, due, or with a child that ended")
    @argument("--limit", type=int, metavar="N", help="with --ready: at most so many")
    @argument("--parallel", type=int, metavar="N", help="with --ready: so many at once")
    @argument(
        "--from", dest="from_", metavar="REF",
        help="what comes at or after it runs again, stale or not; what has failed before it does not",
    )  # fmt: skip
    @argument("--until", metavar="REF", help="stop before this step")
    @argument("--code", metavar="PATH", help="where the flow's code is: a script, a module, or module:flow")
    @argument("--plain", choices=["run", "keep"], help="what to do with plain cells in between: run them, or not")
    async def resume(self, args: argparse.Namespace) -> Any:
        """Go on: run what is stale, in order, as long as its inputs differ; or the flow that was opened."""
        if args.ready:
            self._ready(args)
            return None
        if args.limit is not None or args.parallel is not None:
            raise UsageError("--limit and --parallel are for %kitaru resume --ready")
        current = self.notebook.execution()
        if args.execution is not None and (current is None or current.exec_id != args.execution):
            self._open(args.execution)
        execution = self.notebook.get()
        if not execution.data.begun.by_hand:
            return await self._flow(args)
        if args.code:
            raise UsageError("--code says where the code of a flow is, and this execution is a notebook's")
        ran, reused = await self.cells(from_=args.from_, until=args.until, plain=args.plain)
        saved = f"; {reused} reused" if reused else ""
        print(f"{ran} step{'' if ran == 1 else 's'} run{saved}" if ran else "nothing is stale")  # noqa: T201
        return None

    def _open(self, name: str) -> None:
        """Attach to an execution of a flow. Raises `UsageError` for a notebook's: its variables are not there yet."""
        execution = self.notebook.get(name)
        if execution.data.begun.by_hand:
            raise UsageError(
                f"{execution.exec_id} is a notebook's: %kitaru open {name} and %kitaru checkout bring its variables "
                "back, and %kitaru resume goes on then"
            )
        self.notebook.attend(execution)

    def _ready(self, args: argparse.Namespace) -> None:
        """One pass over what has become able to run; one line for each."""
        others = {"EXEC": args.execution, "--from": args.from_, "--until": args.until, "--plain": args.plain}
        if wrong := [name for name, given in others.items() if given is not None]:
            raise UsageError(f"%kitaru resume --ready goes on with all that can: {wrong[0]} is for one execution")
        parallel = 1 if args.parallel is None else args.parallel
        store = self.notebook.client.store
        with Interrupts() as interrupts, interrupts.stopping():
            report = kitaru.resume_ready(store, limit=args.limit, parallel=parallel, code=args.code)
        for ran in report.ran:
            why = f": {line(type(ran.failure).__name__)}: {line(ran.failure, 200)}" if ran.failure is not None else ""
            print(f"{line(ran.exec_id)} is {ran.status}{why}")  # noqa: T201 - what was asked
        for ran in report.refused:
            print(f"{line(ran.exec_id)} can go on, and not here: {line(ran.failure, 1000)}")  # noqa: T201 - likewise
        if not report.ran and not report.refused:
            print("nothing can go on now")  # noqa: T201 - likewise
        elif report.left:
            print(f"{report.left} more can go on")  # noqa: T201 - likewise

    async def _flow(self, args: argparse.Namespace) -> Any:
        """A flow's execution goes on: an unrun fork begins, and one that failed or paused resumes."""
        if args.from_ or args.plain:
            raise UsageError("--from and --plain are for a notebook's own cells: %kitaru replay --from forks a flow")
        return await self.running.resume(until=args.until, code=args.code)

    # ------------------------------------------------------------ cells

    async def cells(
        self,
        *,
        from_: str | None = None,
        until: str | None = None,
        plain: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[int, int]:
        """Run the stale cells of this notebook; how many were run, and how many reused.

        The parameters are those of the subcommand. `progress` is told how far it is, and may end it before a cell.
        """
        if self.notebook.is_behind:
            raise UsageError(
                "the variables stand at an older checkpoint: run a cell to go another way from there, or go back to "
                "the newest one with %kitaru checkout, and resume then"
            )
        branch = self.notebook.get().branch()
        start = branch.place_of(from_) if from_ else None
        stop = branch.steps[branch.place_of(until)].label if until else None
        found = verdicts(branch, start=start)
        stale = [v for v in found if v.is_stale]
        if not stale:
            if self._stopped == (branch.exec_id, len(branch)):  # what comes there is reused as well
                self.notebook.go(branch, branch.current())
            return 0, 0
        done: set[str] = set()
        if start is not None:  # what has failed before that has given nothing, and is passed
            done = {v.step.label for v in stale if branch.find(v.step.label) < start and not _is_done(v)}
        again = {v.step.label for v in stale} - done if start is not None else set()
        if any(v.step.decision != "inherited" for v in stale) and _in_order(branch, found):
            self.notebook.fork()
            branch = self.notebook.get().branch()
        reused: list[str] = []
        ran = kept = 0
        aside = self.notebook.namespace.plain_aside()
        with progress or Progress(self.shell, "resume") as going, Interrupts() as interrupts, aside:
            going.begin(len(stale) - len(done))
            while True:
                interrupts.check()
                found = verdicts(branch, forced=again - done)
                todo = next((v for v in found if v.step.label not in done), None)
                if todo is None:
                    self.notebook.go(branch, branch.current())
                    break
                label = todo.step.label
                done.add(label)
                if label == stop or (todo.is_stale and going.is_stopped):
                    self.notebook.go(branch, [branch.find(v.step.label) for v in found[: found.index(todo)]], todo.step)
                    self._stopped = branch.exec_id, len(branch)
                    break
                if not todo.is_stale:
                    reused.append(label)
                    kept += 1
                    continue
                places = [branch.find(v.step.label) for v in found[: found.index(todo)]]
                await self._prepare(branch, places, todo, plain, interrupts)
                instead = label if todo.step.decision in {"inherited", "edited"} else None
                if instead is not None and reused:
                    self.notebook.reuse(*self._inherited(branch, reused))
                    reused.clear()
                going.at(label)
                gives = todo.step.outputs or todo.step.owed  # then what comes behind it may need that
                behind = None if gives else next((v.step.label for v in found[found.index(todo) + 1 :]), None)
                await self._run(branch, places, todo, instead, interrupts, behind)
                ran += 1
                going.advance()
                branch = self.notebook.get().branch()
                if instead is None:
                    done.add(branch.steps[-1].label)  # it stands behind the one whose place it takes
        inherited = self._inherited(branch, reused)
        if inherited and ran:
            self.notebook.reuse(*inherited)
        return ran, kept

    def _inherited(self, branch: Branch, labels: list[str]) -> list[str]:
        return [n for n in labels if branch.steps[branch.find(n)].decision in {"inherited", "edited"}]

    async def _prepare(
        self, branch: Branch, places: list[int], todo: Verdict, plain: str | None, interrupts: Interrupts
    ) -> None:
        """The variables as the step would find them."""
        if todo.plain is None:
            self.notebook.go(branch, places, todo.step)
            self.notebook.namespace.keep_plain(todo.step)
            return
        if plain is None:
            raise UsageError(
                f"{todo.step.label} reads {todo.variable}, which the plain cell {todo.plain.label} bound from what has "
                f"changed. It was not recorded, so nothing is assumed: %kitaru resume --plain run runs it too, "
                f"--plain keep takes {todo.variable} as it is"
            )
        if plain == "keep":
            self.notebook.go(branch, places, todo.step)
            self.notebook.namespace.keep_plain(todo.step)
            return
        self.notebook.go(branch, places)  # what those cells find, and not what they left
        for cell in todo.step.plain:
            self.notebook.check_code(self.notebook.get(), f"the plain cell {cell.label}", cell.source)
            self.recorder.label = cell.label
            try:
                result = await run_cell(self.shell, cell.source, interrupts)
            finally:
                self.recorder.label = None
            if not result.success:
                raise UsageError(f"the plain cell {cell.label} failed; nothing behind it was run")

    async def _run(
        self,
        branch: Branch,
        places: list[int],
        todo: Verdict,
        instead: str | None,
        interrupts: Interrupts,
        behind: str | None,
    ) -> None:
        """Run a step's newest source; where it fails, the variables are what they were before it.

        `behind` is the path of the step that comes next, where that one can do without.
        """
        label, name = todo.step.label, todo.step.name
        source = branch.newest_source(todo.step)
        self.notebook.check_code(self.notebook.get(), label, source)
        self.recorder.next = Wanted(name, instead=instead)
        try:
            result = await run_cell(self.shell, source, interrupts)
        finally:
            self.recorder.next = None
        if result.success:
            return
        self.notebook.go(branch, places)
        said = f"{label} failed, and nothing behind it was run; the variables are what they were before it"
        without = f"; %kitaru resume --from {behind} goes on without it" if behind is not None else ""
        sys.stderr.write(f"kitaru: {said}{without}\n")
        raise StoppedError(label)


class StoppedError(UsageError):
    """A resume stopped at a step that failed; its own traceback has been shown."""

    def __init__(self, label: str) -> None:
        super().__init__(f"stopped at {label}")
        self.label = label

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"kitaru: {self}"]


async def run_cell(shell: InteractiveShell, source: str, interrupts: Interrupts) -> ExecutionResult:
    """Run a cell within a cell: where that is awaited, top-level `await` works in it."""
    transformed = shell.transform_cell(source)
    awaits = shell.should_run_async(source, transformed_cell=transformed)
    with interrupts.cancelling() if awaits else interrupts.stopping():
        result = await shell.run_cell_async(source, store_history=False, transformed_cell=transformed)
    shell.events.trigger("post_execute")  # whoever awaits a cell says so himself
    shell.events.trigger("post_run_cell", result)
    return result


def _is_done(verdict: Verdict) -> bool:
    return verdict.step.data.status == "completed"


def _in_order(branch: Branch, found: list[Verdict]) -> bool:
    """Whether the steps that count stand in the order in which they were run."""
    places = [branch.find(v.step.label) for v in found]
    return places == sorted(places)
