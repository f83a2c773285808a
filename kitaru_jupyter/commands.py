"""The subcommands of ``%kitaru``: how one is declared, found, parsed and completed.

A room is a class whose methods are subcommands: each takes what its options were parsed to, and stands for a function
that Python can call as well. Its options are declared by IPython's own `magic_arguments`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.magic_arguments import MagicArgumentParser

from .refusal import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .session import Notebook

__all__ = [
    "Command",
    "Room",
    "Rooms",
    "as_typed",
    "command",
    "expanded",
    "options_of",
    "parsed",
    "quoted",
    "saying_which",
    "split",
]

_PLAIN = re.compile(r"[\w@%+=:,./#~-]+", re.ASCII)


class Room:
    """Subcommands that belong together."""

    def __init__(self, shell: InteractiveShell, notebook: Notebook) -> None:
        self.shell, self.notebook = shell, notebook


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand.

    Attributes
    ----------
    name : str
    run : callable
        Takes what `parser` gives. An async one is awaited where the cell can be.
    parser : argparse.ArgumentParser
    completes : str
        What its words are completed to: ``refs``, ``executions``, ``waiting``, ``waits``, or nothing.
    raw : callable or None
        Takes the rest of its line as it was typed, and gives the words: neither a shell's quotation marks nor
        ``{name}`` mean anything in code, or in JSON.
    """

    name: str
    run: Callable[[argparse.Namespace], Any]
    parser: argparse.ArgumentParser
    completes: str = ""
    awaits: bool = False
    raw: Callable[[str], list[str]] | None = None

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.parser.description or "").strip().partition("\n")[0]

    @property
    def options(self) -> list[str]:
        """Its options, as they are typed."""
        return options_of(self.parser)

    def help(self) -> str:
        """What is typed, and what each part means."""
        return self.parser.format_help().strip()


@dataclass(frozen=True, slots=True)
class _Declared:
    name: str
    completes: str
    awaits: bool
    raw: Callable[[str], list[str]] | None


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long options that a magic takes."""
    return [o for action in parser._actions for o in action.option_strings if o.startswith("--")]


def command(
    name: str, *, completes: str = "", awaits: bool = False, raw: Callable[[str], list[str]] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a method of a `Room` as the subcommand `name`; `magic_arguments` stands below it.

    Parameters
    ----------
    completes, raw
        See `Command`.
    awaits
        What the method gives is awaited: it runs code of the user's, which may be async.
    """

    def declare(method: Callable[..., Any]) -> Callable[..., Any]:
        method.__dict__["_kitaru_command"] = _Declared(name, completes, awaits, raw)
        return method

    return declare


class _Parser(MagicArgumentParser):
    def error(self, message: str) -> Any:
        magic, _, name = self.prog.partition(" ")
        raise UsageError(f"{self.prog}: {message}. See {f'{magic} help {name}' if name else f'{magic}?'}")


def saying_which(parser: argparse.ArgumentParser, prog: str) -> argparse.ArgumentParser:
    """The parser of a magic; IPython's raises errors that do not say which one they are about."""
    parser.__class__, parser.prog = _Parser, prog
    return parser


class Rooms:
    """All subcommands, by name."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.rooms = list(rooms)
        self.commands: dict[str, Command] = {}
        for room in self.rooms:
            for attribute in dir(type(room)):
                method = getattr(type(room), attribute)
                declared = getattr(method, "_kitaru_command", None)
                if isinstance(declared, _Declared):
                    self._add(declared, getattr(room, attribute), method)
        self.commands = dict(sorted(self.commands.items()))

    def _add(self, declared: _Declared, bound: Callable[..., Any], method: Callable[..., Any]) -> None:
        parser = saying_which(method.__dict__["parser"], f"%kitaru {declared.name}")
        parser.usage = None
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.commands[declared.name] = Command(
            declared.name, bound, parser, declared.completes, declared.awaits, declared.raw
        )

    def find(self, name: str) -> Command:
        """The subcommand of this name. Raises `UsageError` with those that there are."""
        if name not in self.commands:
            raise UsageError(f"there is no %kitaru {name}: there are {', '.join(self.commands)}. See %kitaru help")
        return self.commands[name]

    def overview(self) -> str:
        """One line for each subcommand."""
        width = max(map(len, self.commands), default=0)
        lines = [f"  %kitaru {c.name:<{width}}  {c.summary}" for c in self.commands.values()]
        return "\n".join(lines)


def parsed(command: Command, words: list[str]) -> argparse.Namespace:
    """What these words say to a subcommand. Raises `UsageError`."""
    return command.parser.parse_args(words)


def split(line: str) -> list[str]:
    """A line as a shell splits it: IPython would keep the quotation marks. Raises `UsageError`."""
    try:
        return shlex.split(line)
    except ValueError as e:  # a quotation that is not closed
        raise UsageError(f"{line.strip()!r}: {e}") from None


def as_typed(text: str, commands: Iterable[str]) -> str:
    """What Kitaru says, with a shell's ``kitaru runs`` as the magic's ``%kitaru runs``, where there is that one."""
    names = "|".join(map(re.escape, commands))
    return re.sub(rf"(?<=`)kitaru(?= (?:{names})\b)", "%kitaru", text)


def quoted(word: str) -> str:
    """A word as it is typed in a line, which `split` reads back."""
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)


def expanded(shell: InteractiveShell, line: str) -> str:
    """With ``{name}`` and ``$name`` in it, as IPython does it for every line that is no code."""
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None and frame.f_globals is not shell.user_global_ns:
        frame, depth = frame.f_back, depth + 1
    return str(shell.var_expand(line, depth=depth))
