"""Magics and shell commands inside a cell: what they do with variables.

IPython turns ``%time y = f(x)`` into ``get_ipython().run_line_magic('time', 'y = f(x)')``. The Python in there counts
as if it stood in the cell, and what is unknown may do anything.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["CALLS", "Command", "command"]

CALLS = frozenset({"getoutput", "getoutput_err", "magic", "run_cell_magic", "run_line_magic", "system"})


@dataclass(frozen=True, slots=True)
class Command:
    """What a magic or a shell command does.

    Attributes
    ----------
    code : tuple of str
        Python that runs in the namespace, in this order.
    expressions : tuple of str
        What is expanded in its text (``$x``, ``{x + 1}``), if it is an expression at all.
    binds, deletes : tuple of str
        Variables that it is told to set or to take away.
    sealed : bool
        The code runs in a function: what it binds stays in there (`%timeit`).
    quiet : bool
        An error in the code does not end the cell.
    wild : bool
        It may do anything.
    """

    code: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    sealed: bool = False
    quiet: bool = False
    wild: bool = False


# Of the magics that come with IPython and ipykernel: those that neither run the user's code in this process nor set a
# variable. What `load` and `recall` fetch goes into the next cell, and runs there.
_HARMLESS = frozenset({
    "!", "aimport", "alias", "alias_magic", "autoawait", "autocall", "automagic", "autoreload", "autosave",
    "bookmark", "cat", "cd", "clear", "cmd", "code_wrap", "colors", "conda", "config", "connect_info", "cp",
    "dhist", "dirs", "doctest_mode", "env", "file", "gui", "hist", "history", "HTML", "html", "javascript", "js",
    "killbgscripts", "latex", "ldir", "less", "lf", "lk", "ll", "load", "load_ext", "loadpy", "logoff", "logon",
    "logstart", "logstate", "logstop", "ls", "lsmagic", "lx", "magic", "mamba", "man", "markdown", "matplotlib",
    "micromamba", "mkdir", "more", "mv", "notebook", "pastebin", "pdb", "pip", "popd", "pprint", "precision",
    "psearch", "pushd", "pwd", "pycat", "qtconsole", "quickref", "recall", "rehashx", "reload_ext", "rep", "rm",
    "rmdir", "save", "set_env", "subshell", "SVG", "svg", "tb", "unalias", "unload_ext", "uv", "who", "who_ls",
    "writefile", "xmode",
})  # fmt: skip
_LOOKS = frozenset({"page", "pdef", "pdoc", "pfile", "pinfo", "pinfo2", "psource"})  # at a variable
_SCRIPTS = frozenset({"bash", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh"})
_SHELL = frozenset({"!", "system", "sx"})
_OPTIONS = {
    "time": "--no-raise-error",
    "timeit": r"-[nrv]\s*\S+|-[tcpqo]+",
    "prun": r"-[DlsT]\s*\S+|-[rq]+",
    "capture": r"--no-(?:stderr|stdout|display)",
}
_KITARU_LOOKS = frozenset({
    "connect", "diff", "edit", "explain", "export", "lineage", "log", "plan", "runs", "show", "verify", "where",
})  # fmt: skip
_NAME = re.compile(r"[^\W\d]\w*")
_DOLLAR = re.compile(r"(?<!\$)\$([^\W\d]\w*)")


def command(call: str, texts: Iterable[str]) -> Command:
    """What ``get_ipython().CALL(*texts)`` does.

    >>> command("run_line_magic", ["time", "y = f(x)"]).code
    ('y = f(x)',)
    >>> command("system", ["ls {folder}"]).expressions
    ('folder',)
    """
    texts = list(texts)
    if call == "magic" and texts:
        call, texts = "run_line_magic", [*texts[0].lstrip("%").partition(" ")[::2]]
    if call in {"system", "getoutput", "getoutput_err"}:
        return Command(expressions=tuple(_expanded(texts[0]))) if texts else Command(wild=True)
    if call not in {"run_line_magic", "run_cell_magic"} or len(texts) < 2:
        return Command(wild=True)
    return _magic(texts[0], texts[1], texts[2] if len(texts) > 2 else None)


def _magic(name: str, line: str, body: str | None) -> Command:
    if name in _OPTIONS:
        return _code(name, line, body)
    expressions = tuple(_expanded(line if name not in _SHELL or body is None else f"{line}\n{body}"))
    words = line.split()
    if name in _SHELL or name in _HARMLESS:
        return Command(expressions=expressions)
    if name in _LOOKS:
        return Command(expressions=(*expressions, line.strip(" ?")))
    if name in _SCRIPTS:
        return Command(expressions=expressions, binds=tuple(_told(line, ("--out", "--err", "--proc"))))
    if name == "sc":  # %sc [-l] name=command
        told = _NAME.match(line.removeprefix("-l").removeprefix("-v").strip())
        return Command(expressions=expressions, binds=(told[0],) if told else ())
    if name == "macro" and words:
        return Command(expressions=expressions, binds=tuple(w for w in words if _NAME.fullmatch(w))[:1])
    if name == "store" and not any(w.startswith("-") for w in words):
        return Command(expressions=(*expressions, *(w for w in words if _NAME.fullmatch(w))))
    if name == "kitaru" and (not words or words[0] in _KITARU_LOOKS):
        return Command(expressions=expressions)
    return Command(expressions=expressions, wild=True)


def _code(name: str, line: str, body: str | None) -> Command:
    options = re.match(rf"(?:\s*(?:{_OPTIONS[name]})(?=\s|\Z))*\s*", line)
    rest = line[options.end() :] if options else line
    if name == "capture":
        told = rest.split()
        return Command(code=(body or "",), binds=tuple(told[:1]))
    saved = re.search(r"-v\s*(\S+)", line[: options.end()]) if name == "timeit" and options else None
    return Command(
        code=(rest, *([] if body is None else [body])),
        binds=(saved[1],) if saved else (),
        sealed=name == "timeit",
        quiet=name == "prun" or "--no-raise-error" in line,
    )


def _told(line: str, options: tuple[str, ...]) -> Iterator[str]:
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    for word, following in zip(words, [*words, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        if option in options:
            yield value if equals else following


def _expanded(text: str) -> Iterator[str]:
    """What IPython may take for an expression in this text. It leaves the whole as it is if one of them fails."""
    yield from _DOLLAR.findall(text)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return
    for _, expression, form, _ in parts:
        if expression:
            yield expression
        if form:
            yield from _expanded(form)
