"""Editing a recorded value in place: by code, by data, or by a form that is such a cell."""

from __future__ import annotations

import argparse
import ast
import json
from pprint import pformat
from typing import Any

from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.errors import KitaruError, NotFoundError

from . import chats
from .commands import Room, command
from .debugging import show_own
from .refusal import UsageError
from .session import Edited

__all__ = ["Editing"]

_OLD = "old"


class Editing(Room):
    """Each edit is a fork: what was recorded stays as it was."""

    @command("edit", completes="refs")
    @magic_arguments()
    @argument("ref", help="an output: collect, clean.table, classify#2, …; of a flow's step also an input, .in.ARG")
    @argument("--messages", action="store_true", help="a chat, in blocks: [user], [assistant], [tool call NAME ID], …")
    @argument("--format", metavar="NAME", help="with --messages: its wire format, where it is not recognised")
    def edit(self, args: argparse.Namespace) -> None:
        """Edit a recorded value: the next cell is a form that holds it."""
        options = f"--messages --format {args.format}" if args.format else "--messages"
        try:
            value = self.notebook.value(args.ref)
            form = (
                f"%%kitaru_edit {args.ref} {options}\n{chats.text_of(value, args.format)}"
                if args.messages
                else _form(args.ref, value)
            )
        except NotFoundError:
            if args.messages or not self.notebook.is_without_output(args.ref):
                raise
            form = f"%%kitaru_edit {args.ref}\n# it has given nothing; the last line is what it is to have given\n"
        self.shell.set_next_input(form)

    def cell(self, args: argparse.Namespace, body: str) -> None:
        """``%%kitaru_edit``: the value of the cell takes the place of the recorded one."""
        if args.json + args.text + args.messages > 1:
            raise UsageError("%%kitaru_edit takes one of --json, --text and --messages, not both")
        try:
            before = {_OLD: self.notebook.value(args.ref)}
        except NotFoundError:
            if args.messages or not self.notebook.is_without_output(args.ref):
                raise
            before = {}  # the output of a step that has given none
        if args.messages:
            value: Any = chats.edited(before[_OLD], body, args.format)
        elif args.text:
            value = body.removesuffix("\n")
        elif args.json:
            try:
                value = json.loads(body)
            except ValueError as e:
                raise UsageError(f"the cell is no JSON: {e}") from None
        else:
            value = self._value(body, before)
        code = "" if args.text or args.json or args.messages else body.removesuffix("\n")
        told = self.notebook.edit(args.ref, value, why=args.why or "", force=args.force, code=code)
        print(_told(told))  # noqa: T201 - what was asked

    def _value(self, body: str, before: dict[str, Any]) -> Any:
        """The cell's last expression. It reads the notebook's variables, and binds none of them."""
        source = self.shell.transform_cell(body)
        tree: Any = self.shell.compile.ast_parse(source)
        last = tree.body.pop() if tree.body else None
        if not isinstance(last, ast.Expr):
            raise UsageError("the last line of %%kitaru_edit must be an expression: its value is the new one")
        inside = {**self.shell.user_ns, **before}
        name = self.shell.compile.cache(source, self.shell.execution_count, raw_code=body)
        try:
            exec(compile(tree, name, "exec"), inside)  # noqa: S102 - the user's own cell
            return eval(compile(ast.Expression(last.value), name, "eval"), inside)  # noqa: S307
        except Exception as e:
            show_own(self.shell, e)
            raise


def _form(ref: str, value: Any) -> str:
    """A cell that, run as it stands, changes nothing."""
    text = pformat(value, width=100, sort_dicts=False)
    if isinstance(value, str):
        return f"%%kitaru_edit {ref} --text\n{value}"
    try:
        if ast.literal_eval(text) == value:
            return f"%%kitaru_edit {ref}\n{text}"
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, KitaruError):
        pass
    return f"%%kitaru_edit {ref}\n# old is a {type(value).__name__}; the last line is its new value\nold"


def _told(edited: Edited) -> str:
    stale = len(edited.stale)
    steps = ", ".join(edited.stale[:6]) + (", …" if stale > 6 else "")
    said = f"{stale} step{'' if stale == 1 else 's'} now stale: {steps}" if stale else "no step depends on it"
    return f"{edited.ref} edited; {said}"
