"""The magics: they parse, call, and display. What they do is in the rooms of their subcommands."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool

from kitaru.errors import KitaruError

from . import display as faces
from .answering import Answering
from .between import Between
from .browsing import Browsing
from .commands import Rooms, as_typed, expanded, options_of, parsed, saying_which, split
from .debugging import Debugging
from .editing import Editing
from .exporting import Exporting
from .looking import Looking
from .recorder import Recorder, Wanted, blank_magic
from .recording import Recording
from .refusal import UsageError
from .replaying import Replaying
from .resuming import Resuming
from .running import Running
from .session import Notebook
from .tracing import Tracing
from .travelling import Travelling
from .waiting import Suspended

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["KitaruMagics", "install", "loaded", "uninstall"]


AWAIT = "--await"
"""The first word of a line whose result the cell awaits."""

_AWAITED = re.compile(r"%kitaru(?:\s+|_)(resume|run|next|continue|debug)\b([^\n]*)\n?\Z")

_ASKED = re.compile(r"%kitaru(?:\s+|_)([a-z]+)\s*\?{1,2}\s*\Z")

_TYPED = re.compile(r"\s*%(%?)kitaru(?:_([a-z]+))?(\s.*)")

_RAW = re.compile(rf"\s*({AWAIT})?\s*(\S+)\s*(.*)", re.DOTALL)

_SUMMARY = """Durable cells: where they are recorded, what they left, and how to go back and on.

%kitaru alone says where one is; %kitaru help SUBCOMMAND says what one takes. A cell that begins with
%%kitaru_step NAME is recorded. Tab completes subcommands, executions and REFs.
"""


@magics_class
class KitaruMagics(Magics):
    """Durable cells, and what they left."""

    tracebacks = Bool(
        default_value=False, help="Show the whole traceback of Kitaru's own errors, not their message alone."
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.notebook = Notebook(shell.user_ns, shell.user_ns_hidden)
        self.recorder = Recorder(shell, self.notebook, self.wanted)
        self.looking = Looking(shell, self.notebook)
        self.editing = Editing(shell, self.notebook)
        resuming, recording = Resuming(shell, self.notebook), Recording(shell, self.notebook)
        resuming.recorder = recording.recorder = self.recorder
        resuming.running = running = Running(shell, self.notebook)
        self.resuming = resuming
        self.suspended = Suspended(shell, self)
        answering = Answering(shell, self.notebook)
        answering.suspended = running.suspended = self.suspended
        self.answering = answering
        self.debugging = Debugging(shell, self.notebook)
        self._between: Between | None = None
        browsing = Browsing(shell, self.notebook)
        browsing.magics = self
        rooms = [Exporting, Replaying, Tracing, Travelling]
        self.rooms = Rooms(
            [
                self.looking,
                self.editing,
                answering,
                self.debugging,
                browsing,
                recording,
                resuming,
                running,
                *(room(shell, self.notebook) for room in rooms),
            ],
        )

        @context_matcher(identifier="kitaru")
        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            return self.complete(context)

        self.matcher = matcher
        type(self).kitaru.__doc__ = f"{_SUMMARY}\n\n{self.rooms.overview()}\n"  # what `%kitaru?` shows

    @no_var_expand
    @line_magic
    def kitaru(self, line: str) -> Any:
        """Durable cells: where they are recorded, and what they left."""
        raw = _RAW.match(line)
        found = self.rooms.commands.get(raw[2]) if raw is not None else None
        if raw is None or found is None or found.raw is None or not raw[3].strip():
            return self.subcommand(expanded(self.looking.shell, line))
        result = self.call(found.run, parsed(found, found.raw(raw[3])))
        return _driven(result) if found.awaits and not raw[1] else result

    def subcommand(self, line: str) -> Any:
        """What ``%kitaru`` does with its line."""
        words = split(line)
        awaited = words[:1] == [AWAIT]
        if awaited:
            words = words[1:]
        if not words:
            return self.call(self.looking.where)
        if words[0] == "help":
            return self.help(*words[1:])
        found = self.rooms.find(words[0])
        result = self.call(found.run, parsed(found, words[1:]))
        return _driven(result) if found.awaits and not awaited else result

    def help(self, name: str = "", *more: str) -> None:
        """``%kitaru help``: what there is; ``%kitaru help SUBCOMMAND``: what one takes."""
        if more:
            raise UsageError("%kitaru help takes one subcommand")
        print(self.rooms.find(name).help() if name else self.rooms.overview())  # noqa: T201 - what was asked

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

    @magic_arguments()
    @argument("ref", help="an output: collect, clean.table, classify#2; of a flow's step also an input: .in.ARG")
    @argument("--why", metavar="TEXT", help="the reason: recorded with who and when")
    @argument("--json", action="store_true", help="the cell is JSON, and no code")
    @argument("--text", action="store_true", help="the cell is the new text, and no code")
    @argument("--messages", action="store_true", help="the cell is a chat in blocks: [user], [assistant], …")
    @argument("--format", metavar="NAME", help="with --messages: the chat's wire format, where it is not recognised")
    @argument("--force", action="store_true", help="take a value of another type")
    @no_var_expand
    @cell_magic
    def kitaru_edit(self, line: str, cell: str) -> None:
        """Put the value of the cell's last expression in the place of a recorded one; `old` is that one.

        The edit is a fork: what was recorded stays. What reads the value is stale from now on: `%kitaru plan` says
        what would run again, and `%kitaru resume` runs it.
        """
        args = saying_which(self.kitaru_edit.parser, "%%kitaru_edit").parse_args(split(line))
        self.call(self.editing.cell, args, cell)

    @line_magic
    def kitaru_checkout(self, line: str) -> Any:
        """The same as ``%kitaru checkout``."""
        return self.subcommand(f"checkout {line}")

    @line_magic("kitaru_edit")  # type: ignore[arg-type]  # the decorator takes a name as well
    def kitaru_edit_line(self, line: str) -> Any:
        """The same as ``%kitaru edit``."""
        return self.subcommand(f"edit {line}")

    @line_magic
    def kitaru_resume(self, line: str) -> Any:
        """The same as ``%kitaru resume``."""
        return self.subcommand(f"resume {line}")

    @line_magic
    def kitaru_browse(self, line: str) -> Any:
        """The same as ``%kitaru browse``."""
        return self.subcommand(f"browse {line}")

    @property
    def between(self) -> Between:
        """The way to the main thread between cells, for whoever works in another one."""
        if self._between is None:
            assert self.shell is not None
            self._between = Between(self.shell)
        return self._between

    def wanted(self, line: str) -> Wanted:
        """What a line ``%%kitaru_step …`` says."""
        args = saying_which(self.kitaru_step.parser, "%%kitaru_step").parse_args(split(line))
        return Wanted(args.name, _names("--in", args.reads), _names("--out", args.binds))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Kitaru's errors as one paragraph."""
        try:
            result = function(*args)
        except KitaruError as e:
            raise self._shown(e) from e
        return self._awaited(result) if isinstance(result, Awaitable) else result

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except KitaruError as e:
            raise self._shown(e) from e

    def _shown(self, error: KitaruError) -> Exception:
        return error if self.tracebacks else UsageError(as_typed(f"{error}", self.rooms.commands))

    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Tab: subcommands, then REFs, executions and options. In a line of ours nobody else has a say."""
        found = _TYPED.fullmatch(context.text_until_cursor)
        if found is None:
            return {"completions": [], "suppress": False}
        cell, alias, typed = found.groups()
        words = [*([alias] if alias else []), *typed.split(), *([""] if typed[-1:].isspace() else [])]
        word, done = words.pop(), words
        if cell:
            of_edit = alias == "edit"
            magic = self.kitaru_edit if of_edit else self.kitaru_step
            candidates = options_of(magic.parser) if word[:1] == "-" else self._words("refs" if of_edit else "")
        elif not done:
            candidates = [*self.rooms.commands, "help"]
        elif done[0] == "help":
            candidates = [*self.rooms.commands]
        elif (of := self.rooms.commands.get(done[0])) is None:
            candidates = []
        else:
            candidates = of.options if word[:1] == "-" else self._words(of.completes)
        texts = [SimpleCompletion(c) for c in dict.fromkeys(candidates) if c.startswith(word)]
        return {"completions": texts, "suppress": bool(texts), "matched_fragment": word}

    def _words(self, completes: str) -> list[str]:
        with contextlib.suppress(KitaruError):  # a completion is no place to complain
            if completes == "refs":
                return self.notebook.refs()
            if completes == "executions":
                return self.notebook.exec_ids()
            if completes == "waiting":
                return self.answering.exec_ids()
            if completes == "waits":
                return [*self.answering.names(), *self.answering.exec_ids()]
        return []


def await_magic(lines: list[str]) -> list[str]:
    """Await a subcommand that runs the user's code, where it has a cell of its own: that code may be async.

    And a subcommand with a question mark is a question about it.
    """
    code = [n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    asked = _ASKED.match(lines[code[0]]) if len(code) == 1 else None
    if asked is not None:
        return [*lines[: code[0]], f"%kitaru help {asked[1]}\n", *lines[code[0] + 1 :]]
    found = _AWAITED.match(lines[code[0]]) if len(code) == 1 else None
    if found is None or found[2].rstrip().endswith("?"):
        return lines
    out = list(lines)
    out[code[0]] = f"await get_ipython().run_line_magic('kitaru', {f'{AWAIT} {found[1]}{found[2]}'.rstrip()!r})\n"
    return out


await_magic.has_side_effects = False  # type: ignore[attr-defined]


def _driven(result: Awaitable[Any]) -> Any:
    """Carry it out here and now: in a running loop only as far as nothing has to be waited for."""
    import asyncio

    coroutine: Any = result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise UsageError("what runs here is async: give this line a cell of its own, so that it can be awaited")


def _names(option: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    wrong = [name for name in names if not name.isidentifier()]
    if wrong:
        raise UsageError(f"{option} takes names of variables, separated by commas and no space: {wrong[0]!r} is none")
    return names


# ---------------------------------------------------------------- in and out of a shell


def install(shell: InteractiveShell) -> None:
    """Hook everything in. Loading twice is loading once."""
    if _installed(shell) is not None:
        return
    magics = KitaruMagics(shell)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(await_magic)
    shell.input_transformers_cleanup.append(blank_magic)
    shell.ast_transformers.append(magics.recorder)  # type: ignore[arg-type]
    shell.events.register("pre_run_cell", magics.recorder.before)
    shell.events.register("post_run_cell", magics.recorder.after)
    magics.suspended.install()
    assert shell.Completer is not None
    shell.Completer.custom_matchers.append(magics.matcher)
    faces.register(shell)


def uninstall(shell: InteractiveShell) -> None:
    """Take everything out again, and let the execution go."""
    magics = _installed(shell)
    if magics is None:
        return
    faces.unregister(shell)
    magics.suspended.uninstall()
    assert shell.Completer is not None
    shell.Completer.custom_matchers.remove(magics.matcher)
    shell.events.unregister("post_run_cell", magics.recorder.after)
    shell.events.unregister("pre_run_cell", magics.recorder.before)
    shell.ast_transformers.remove(magics.recorder)  # type: ignore[arg-type]
    shell.input_transformers_cleanup.remove(blank_magic)
    shell.input_transformers_cleanup.remove(await_magic)
    shell.configurables.remove(magics)  # type: ignore[arg-type]
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    if magics._between is not None:
        magics._between.close()
    magics.notebook.close()


def loaded() -> KitaruMagics:
    """The magics of the shell that runs this. Raises `UsageError` where there is none, or none of ours."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    magics = _installed(shell) if shell is not None else None
    if magics is None:
        raise UsageError("Kitaru is not loaded in this notebook: %load_ext kitaru")
    return magics


def _installed(shell: InteractiveShell) -> KitaruMagics | None:
    return next((c for c in shell.configurables if isinstance(c, KitaruMagics)), None)
