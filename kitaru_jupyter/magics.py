"""The magics: they parse, call, and display. What they do is in `session` and `recorder`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.display_functions import display
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import Bool

from kitaru.errors import KitaruError

from . import display as faces
from .recorder import Recorder, Wanted, blank_magic
from .refusal import UsageError
from .session import Notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["KitaruMagics", "install", "uninstall"]


@magics_class
class KitaruMagics(Magics):
    """Durable cells, and what they left."""

    tracebacks = Bool(
        default_value=False, help="Show the whole traceback of Kitaru's own errors, not their message alone."
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.notebook = Notebook()
        self.recorder = Recorder(shell, self.notebook, self.wanted)
        self.subcommands: dict[str, tuple[Callable[..., Any], int, int]] = {  # with how many words each takes
            "close": (self.notebook.close, 0, 0),
            "connect": (self.notebook.connect, 1, 1),
            "log": (self.log, 0, 0),
            "open": (self.notebook.open, 1, 1),
            "runs": (self.notebook.runs, 0, 0),
            "show": (self.show, 1, 1),
        }

    @magic_arguments()
    @argument("subcommand", nargs="?", help="where am I, when left out")
    @argument("words", nargs="*", help="what the subcommand is about")
    @line_magic
    def kitaru(self, line: str) -> Any:
        """Durable cells: where they are recorded, and what they left.

        %kitaru                  where am I: the store, the execution, the last checkpoint

        %kitaru connect URL      record in s3://bucket/prefix or a folder from now on

        %kitaru open EXEC        go on with a notebook's execution; `last` is the newest one

        %kitaru log              the checkpoints of this execution: status, what they read and bound

        %kitaru show REF         an execution, a checkpoint or a value in full: clean, clean#2, clean.table, @3, last

        %kitaru runs             the executions of the store, as a pandas DataFrame

        %kitaru close            let the execution go; the next step begins another one

        A cell that begins with %%kitaru_step NAME is recorded. Tab completes subcommands and REFs.
        """
        args = parse_argstring(self.kitaru, line)
        if args.subcommand is None:
            return self.call(self.where)
        if args.subcommand not in self.subcommands:
            known = ", ".join(self.subcommands)
            raise UsageError(f"there is no %kitaru {args.subcommand}: there are {known}. See %kitaru?")
        function, least, most = self.subcommands[args.subcommand]
        if not least <= len(args.words) <= most:
            raise UsageError(f"%kitaru {args.subcommand} takes {most or 'no'} word{'s'[: most != 1]}. See %kitaru?")
        return self.call(function, *args.words)

    @magic_arguments()
    @argument("name", help="the step's name: its checkpoints are NAME#1, NAME#2, …")
    @argument("--in", dest="reads", metavar="A,B", help="its inputs, instead of those found in the code")
    @argument("--out", dest="binds", metavar="C,D", help="its outputs, instead of those found in the code")
    @no_var_expand
    @cell_magic
    def kitaru_step(self, line: str, cell: str) -> None:
        """Run the cell and record it as a step: its inputs before it runs, its outputs after it.

        Inputs are the variables that its code, and the functions of this notebook that it calls, read before they
        bind them; outputs are those that it binds. It must be the first line of the cell.
        """
        del line, cell  # the input transformer has taken the line away where it is the first one
        raise UsageError("%%kitaru_step must be the first line of its cell: nothing of this cell was run")

    def wanted(self, line: str) -> Wanted:
        """What a line ``%%kitaru_step …`` says."""
        args = parse_argstring(self.kitaru_step, line)
        return Wanted(args.name, _names("--in", args.reads), _names("--out", args.binds))

    def call(self, function: Callable[..., Any], *words: str) -> Any:
        """Kitaru's errors as one paragraph."""
        try:
            return function(*words)
        except KitaruError as e:
            if self.tracebacks:
                raise
            raise UsageError(f"{e}") from e

    # ------------------------------------------------------------ subcommands

    def where(self) -> None:
        """Where this notebook records, and how far it is."""
        _publish(faces.place(self.notebook.session.store.url, self.notebook.execution()))

    def log(self) -> None:
        """The checkpoints of this notebook's execution; nothing where there are none."""
        execution = self.notebook.execution()
        if execution is not None:
            _publish(faces.execution(execution))

    def show(self, ref: str) -> None:
        """An execution, a checkpoint or a value in full."""
        _publish(faces.full(self.notebook.show(ref)))

    def complete(self, _shell: InteractiveShell, event: Any) -> list[str]:
        """Tab: subcommands, then REFs and executions. A REF holds characters that the completer splits at."""
        before = event.line[: len(event.line)].split()
        ended = event.line[-1:].isspace()
        done, word = (before, "") if ended else (before[:-1], before[-1])
        if len(done) == 1:
            candidates = [*self.subcommands]
        elif len(done) == 2 and done[1] in {"show", "open"}:
            candidates = []
            with contextlib.suppress(KitaruError):  # a completion is no place to complain
                candidates = self.notebook.refs()
        else:
            candidates = []
        split = len(word) - len(event.symbol)
        return [c[split:] for c in dict.fromkeys(candidates) if c.startswith(word)]


def _names(option: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    wrong = [name for name in names if not name.isidentifier()]
    if wrong:
        raise UsageError(f"{option} takes names of variables, separated by commas and no space: {wrong[0]!r} is none")
    return names


def _publish(face: faces.Face) -> None:
    display({"text/html": face.html, "text/plain": face.text}, raw=True)


# ---------------------------------------------------------------- in and out of a shell


def install(shell: InteractiveShell) -> None:
    """Hook everything in. Loading twice is loading once."""
    if _installed(shell) is not None:
        return
    magics = KitaruMagics(shell)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(blank_magic)
    shell.ast_transformers.append(magics.recorder)  # type: ignore[arg-type]
    shell.events.register("pre_run_cell", magics.recorder.before)
    shell.events.register("post_run_cell", magics.recorder.after)
    shell.set_hook("complete_command", magics.complete, str_key="%kitaru")
    faces.register(shell)


def uninstall(shell: InteractiveShell) -> None:
    """Take everything out again, and let the execution go."""
    magics = _installed(shell)
    if magics is None:
        return
    faces.unregister(shell)
    shell.strdispatchers["complete_command"].strs.pop("%kitaru", None)
    shell.events.unregister("post_run_cell", magics.recorder.after)
    shell.events.unregister("pre_run_cell", magics.recorder.before)
    shell.ast_transformers.remove(magics.recorder)  # type: ignore[arg-type]
    shell.input_transformers_cleanup.remove(blank_magic)
    shell.configurables.remove(magics)  # type: ignore[arg-type]
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    magics.notebook.close()


def _installed(shell: InteractiveShell) -> KitaruMagics | None:
    return next((c for c in shell.configurables if isinstance(c, KitaruMagics)), None)
