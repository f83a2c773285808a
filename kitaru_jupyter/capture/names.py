"""What a piece of code does with global names; for compiled code, by its bytecode."""

from __future__ import annotations

import dis
import types
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .wild import TEXTS, WILD_NAMES, is_wild, names_in_text

__all__ = ["Names", "names_of_code"]


@dataclass(frozen=True, slots=True)
class Names:
    """What a piece of code does with global names, each in the order of its first appearance.

    Attributes
    ----------
    reads : tuple of str
        Those that it may read before it has bound them for certain: data, modules, functions and builtins alike.
    binds : tuple of str
        Those that it may bind in any way: assignments, imports, `def`, `class`, `global` in what it calls.
    deletes : tuple of str
        Those that it may delete; the name of an `except … as NAME` is one.
    imports, defines : tuple of str
        Those of `binds` that nothing but an import, and that a `def` or `class`, binds.
    uses : frozenset of str
        All that it may read, also those that it has bound before.
    attributes, strings : frozenset of str
        The attributes that it names, and the texts that stand in it.
    wild : bool
        It may read and bind names that cannot be told from it: `eval`, `globals()`, `from x import *` and their like.
    settled : mapping of str to frozenset of str
        For a name that it reads: what it has bound for certain whenever it reads that name. A function that is called
        there reads those from this code, not from before it.
    later : mapping of str to Names
        For a function or class that it defines: what happens when that is called.
    commands : tuple of (str, tuple of str)
        Magics and shell commands in compiled code, to be taken apart by whoever follows it.
    """

    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    deletes: tuple[str, ...] = field(default=(), repr=False)
    imports: tuple[str, ...] = field(default=(), repr=False)
    defines: tuple[str, ...] = field(default=(), repr=False)
    uses: frozenset[str] = field(default=frozenset(), repr=False)
    attributes: frozenset[str] = field(default=frozenset(), repr=False)
    strings: frozenset[str] = field(default=frozenset(), repr=False)
    wild: bool = field(default=False, repr=False)
    settled: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    later: Mapping[str, Names] = field(default_factory=dict, repr=False)
    commands: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)


def names_of_code(code: types.CodeType) -> Names:
    """What a function's code, and all code inside of it, does with globals when it runs.

    The answer is kept for as long as the code lives.
    """
    names = _KNOWN.get(code)
    if names is None:
        names = _KNOWN[code] = _read_code(code)
    return names


_KNOWN: weakref.WeakKeyDictionary[types.CodeType, Names] = weakref.WeakKeyDictionary()

_OP = dis.opmap
_LOADS = frozenset(_OP[n] for n in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS") if n in _OP)
_LOAD_GLOBAL, _LOAD_NAME, _STORE_NAME, _DELETE_NAME = (
    _OP[n] for n in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_NAME", "DELETE_NAME")
)
_STORE_GLOBAL, _DELETE_GLOBAL, _EXTENDED = _OP["STORE_GLOBAL"], _OP["DELETE_GLOBAL"], _OP["EXTENDED_ARG"]
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs, *(_OP[n] for n in ("FOR_ITER", "SEND") if n in _OP)})


def _read_code(code: types.CodeType) -> Names:
    reads: dict[str, None] = {}
    binds: dict[str, None] = {}
    deletes: dict[str, None] = {}
    strings: set[str] = set()
    attributes: set[str] = set()
    commands: list[tuple[str, tuple[str, ...]]] = []
    # The names that are stored in a class's own body are no globals. A module's are: a walrus in a comprehension that
    # is compiled on its own stands there from Python 3.12.
    module = code.co_name == "<module>"
    own: set[str] = set()  # bound in a class's body for certain
    straight, extended, raw, table = True, 0, code.co_code, code.co_names
    for i in range(0, len(raw), 2):
        op = raw[i]
        arg = raw[i + 1] | extended
        extended = arg << 8 if op == _EXTENDED else 0
        if op in _LOADS:
            name = table[arg >> 1 if op == _LOAD_GLOBAL else arg]
            if op != _LOAD_NAME or name not in own:
                reads[name] = None
        elif op == _STORE_GLOBAL or (module and op == _STORE_NAME):
            binds[table[arg]] = None
        elif op == _DELETE_GLOBAL or (module and op == _DELETE_NAME):
            deletes[table[arg]] = None
        elif op == _STORE_NAME and straight:
            own.add(table[arg])
        elif op == _DELETE_NAME:
            own.discard(table[arg])
        elif op in _JUMPS:
            straight = False
    attributes.update(n for n in table if n not in reads and n not in binds)
    wild = not WILD_NAMES.isdisjoint(reads.keys() - {"get_ipython"})
    for const in code.co_consts:
        if type(const) is str:
            strings.add(const)
    if "get_ipython" in reads or not TEXTS.isdisjoint(table):
        for found in _calls(code):
            if found is None:
                wild = True
            elif isinstance(found, str):
                reads[found] = None
            else:
                commands.append(found)
                attributes.discard(found[0])  # `run_line_magic`, of something else, is wild
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            inner = names_of_code(const)
            reads |= dict.fromkeys(inner.reads)
            binds |= dict.fromkeys(inner.binds)
            deletes |= dict.fromkeys(inner.deletes)
            strings |= inner.strings
            attributes |= inner.attributes
            commands += inner.commands
            wild = wild or inner.wild
    wild = wild or any(is_wild(a, reads, strings) for a in attributes)
    return Names(
        reads=tuple(reads), binds=tuple(binds), deletes=tuple(deletes), uses=frozenset(reads),
        attributes=frozenset(attributes), strings=frozenset(strings), wild=wild, commands=tuple(commands),
    )  # fmt: skip


_SILENT = {"CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME"}


def _calls(code: types.CodeType) -> Iterator[tuple[str, tuple[str, ...]] | str | None]:
    """Magics and commands; names in the texts that pandas evaluates; None for what cannot be told."""
    found = [i for i in dis.get_instructions(code) if i.opname not in _SILENT]
    for at, instruction in enumerate(found):
        if instruction.argval == "get_ipython" and instruction.opname.startswith("LOAD_"):
            name, texts = None, None
            if at + 2 < len(found) and found[at + 1].opname == "CALL" and not found[at + 1].arg:
                name, texts = found[at + 2].argval, _texts(found, at + 3)
            yield (name, texts) if isinstance(name, str) and texts else None
        elif instruction.argval in TEXTS and instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            texts = _texts(found, at + 1)
            if texts is None or len(texts) > 1:
                yield None
            elif texts:
                yield from names_in_text(instruction.argval, texts[0])


def _texts(found: list[dis.Instruction], at: int) -> tuple[str, ...] | None:
    """The arguments of the call that begins here, if they are texts and nothing else."""
    texts = []
    while at < len(found) and found[at].opname == "LOAD_CONST" and isinstance(found[at].argval, str):
        texts.append(found[at].argval)
        at += 1
    done = at < len(found) and found[at].opname == "CALL" and found[at].arg == len(texts)
    return tuple(texts) if done else None
