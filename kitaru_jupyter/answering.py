"""Subcommands for whoever an execution waits for: what is asked, the answer, and the end of waiting."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any, NamedTuple

from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.client import ExecutionStatus, KitaruClient, PendingWait
from kitaru.errors import AmbiguousNameError, KitaruError, NotFoundError, WaitClosedError

from . import display as faces, questions
from .commands import Room, command, expanded, split
from .refusal import UsageError
from .waiting import Suspended

__all__ = ["Answering", "Asked"]

_WORD = re.compile(r"\s*(\{[^{}]*\}\S*|\S+)")
_NEWEST = 20  # executions whose waits are offered by Tab


class Asked(NamedTuple):
    """A wait that is open, and whose it is."""

    client: KitaruClient
    exec_id: str
    wait: PendingWait


class Answering(Room):
    """The first answer holds. Nothing runs by it: `%kitaru resume` goes on."""

    suspended: Suspended  # which knows what has suspended in this notebook

    @command("answer", completes="waits", raw=lambda rest: ["--", rest])
    @magic_arguments()
    @argument(
        "rest", metavar="[EXEC] WAIT [VALUE]",
        help="VALUE: JSON; yes, no, a choice or a text need no quotes; {object} takes the value of an expression. "
        "Without VALUE the form is shown",
    )  # fmt: skip
    def answer(self, args: argparse.Namespace) -> None:
        """Answer what an execution waits for; the one that suspended here, where EXEC is left out."""
        first, rest = self._word(args.rest)
        try:
            asked = self.find(first)
        except NotFoundError as e:
            client, exec_id = self._execution(first, e)
            name, rest = self._word(rest)
            if not name:
                self.suspended.show(client.executions.get(exec_id))
                return
            asked = Asked(client, exec_id, client.executions.pending_wait(exec_id, name))
        if not rest.strip():
            self.suspended.show(asked.client.executions.get(asked.exec_id))
            return
        self.give(asked, self.value(asked, rest.strip()))
        self._closed(asked, "answered")

    def give(self, asked: Asked, value: Any) -> None:
        """Answer it. Raises as `kitaru.client.Executions.input` does."""
        asked.client.executions.input(asked.exec_id, asked.wait.id, value)

    @command("abort", completes="waits")
    @magic_arguments()
    @argument("words", metavar="[EXEC] WAIT", nargs="+", help="as %%kitaru waits calls it")
    @argument("--reason", default="", metavar="TEXT", help="why: the flow is told")
    def abort(self, args: argparse.Namespace) -> None:
        """Close a wait without an answer: the flow gets KitaruWaitAborted."""
        if len(args.words) > 2:
            raise UsageError("%kitaru abort takes [EXEC] WAIT; a reason of several words stands in quotes")
        if len(args.words) == 1:
            asked = self.find(args.words[0])
        else:
            client, exec_id = self._execution(args.words[0])
            asked = Asked(client, exec_id, client.executions.pending_wait(exec_id, args.words[1]))
        asked.client.executions.abort_wait(asked.exec_id, asked.wait.id, reason=args.reason)
        self._closed(asked, "aborted")

    def _closed(self, asked: Asked, how: str) -> None:
        name = self.notebook.named(asked.client.executions.get(asked.exec_id))
        wait = f"{faces.line(asked.wait.name)} of {faces.line(asked.exec_id)}"
        print(f"{wait} is {how}; go on: {questions.resume_line(name)}")  # noqa: T201 - what was asked

    @command("waits", completes="waiting")
    @magic_arguments()
    @argument("execution", nargs="?", help="of this one; of all that wait, when left out")
    @argument("--limit", type=int, default=_NEWEST, metavar="N", help="of at most so many executions, newest first")
    def waits(self, args: argparse.Namespace) -> None:
        """What executions wait for."""
        found, more = self.open_waits(args.execution, args.limit)
        if found:
            faces.publish(questions.listed(found, more=more))
        else:
            print("nothing is waited for")  # noqa: T201 - likewise

    @command("cancel", completes="executions")
    @magic_arguments()
    @argument("execution", nargs="?", help="this one, when left out")
    @argument("--reason", default="", metavar="TEXT", help="why: it is recorded")
    def cancel(self, args: argparse.Namespace) -> None:
        """Cancel an execution of a flow: it never runs again. One that runs is left before its next step."""
        client, exec_id = self._of_a_flow(args.execution, "cancel")
        self._told(exec_id, client.executions.cancel(exec_id, reason=args.reason), "cancelled")

    @command("pause", completes="executions")
    @magic_arguments()
    @argument("execution", nargs="?", help="this one, when left out")
    @argument("--reason", default="", metavar="TEXT", help="why: it is recorded")
    def pause(self, args: argparse.Namespace) -> None:
        """Pause an execution of a flow before its next step, until it is resumed by its name."""
        client, exec_id = self._of_a_flow(args.execution, "pause")
        self._told(exec_id, client.executions.pause(exec_id, reason=args.reason), "paused")

    # ------------------------------------------------------------ what is meant

    def find(self, wait: str) -> Asked:
        """The open wait of this name: of the current execution, or of one that has suspended in this notebook.

        Raises
        ------
        NotFoundError
            There is none.
        AmbiguousNameError
            Several executions have one.
        WaitClosedError
            It is closed.
        """
        closed: WaitClosedError | None = None
        found: list[Asked] = []
        current = self.notebook.execution() if self.notebook.is_of_a_flow else None
        clients = dict(reversed(self.suspended.clients.items()))
        if current is not None:
            clients = {current.exec_id: self.notebook.client, **clients}
        for exec_id, client in clients.items():
            try:
                pending = client.executions.pending_wait(exec_id, wait)
                if pending.about != "child":  # that is called as the other execution is
                    found.append(Asked(client, exec_id, pending))
            except WaitClosedError as e:
                closed = closed or e
            except NotFoundError:
                continue
            if current is not None and exec_id == current.exec_id:
                break
        if len(found) == 1:
            return found[0]
        if found:
            there = ", ".join(f"%kitaru answer {a.exec_id} {wait}" for a in found[:4])
            raise AmbiguousNameError(f"several executions wait for {wait}: say of which ({there})")
        if closed is not None:
            raise closed
        raise NotFoundError(f"no execution of this notebook waits for {wait}: %kitaru waits says what is waited for")

    def _execution(self, name: str, otherwise: Exception | None = None) -> tuple[KitaruClient, str]:
        """The execution of this name. Raises `NotFoundError`, or what else there was to be said of it."""
        try:
            store, exec_id = self.notebook.client.find(name)
        except NotFoundError:
            if otherwise is None:
                raise
            raise otherwise from None
        return KitaruClient(store), exec_id

    def _of_a_flow(self, name: str | None, what: str) -> tuple[KitaruClient, str]:
        execution = self.notebook.get(name)
        if execution.data.begun.by_hand:
            raise UsageError(
                f"{execution.exec_id} is a notebook's: there is no flow to {what}. %kitaru close lets it go, and "
                "%kitaru runs lists the others"
            )
        return KitaruClient(execution.store), execution.exec_id

    def _told(self, exec_id: str, status: ExecutionStatus, wanted: str) -> None:
        later = "" if status.value == wanted else f": it is {wanted} before its next step"
        print(f"{faces.line(exec_id)} is {status.value}{later}")  # noqa: T201 - what was asked

    # ------------------------------------------------------------ what is open

    def open_waits(
        self, execution: str | None = None, limit: int = _NEWEST
    ) -> tuple[list[tuple[str, PendingWait]], bool]:
        """The open waits with the exec_ids that they are of, and whether more executions wait."""
        client = self.notebook.client
        if execution is not None:
            client, name = self._execution(execution)
            return [(name, w) for w in client.executions.pending_waits(name)], False
        if limit < 1:
            raise UsageError("--limit takes a number of executions, 1 or more")
        found = client.executions.list(status=ExecutionStatus.WAITING, limit=limit + 1)
        waits = [(s.exec_id, w) for s in found[:limit] for w in client.executions.pending_waits(s.exec_id)]
        return waits, len(found) > limit

    def names(self) -> list[str]:
        """What a wait may be completed to: those that are open here."""
        clients = {**self.suspended.clients}
        if self.notebook.is_of_a_flow:
            clients[self.notebook.get().exec_id] = self.notebook.client
        waits = [w for exec_id, client in clients.items() for w in client.executions.pending_waits(exec_id)]
        return [w.name for w in waits if questions.is_asked(w)]

    def exec_ids(self) -> list[str]:
        """What an execution may be completed to: the newest that wait."""
        return [s.exec_id for s in self.notebook.client.executions.list(status=ExecutionStatus.WAITING, limit=_NEWEST)]

    # ------------------------------------------------------------ what was typed

    def _word(self, text: str) -> tuple[str, str]:
        """The first word, with ``{name}`` in it carried out, and what comes after it."""
        found = _WORD.match(text)
        if found is None:
            return "", ""
        word = expanded(self.shell, found[1])
        return "".join(split(word)), text[found.end() :]

    def value(self, asked: Asked, text: str) -> Any:
        """An answer as it was typed: JSON, a text, or Python in braces. Raises `UsageError`."""
        try:
            return self._read(asked.wait, text)
        except (KitaruError, UsageError) as e:
            name, takes = faces.line(asked.wait.name), faces.line(asked.wait.shape, 200)
            raise UsageError(f"{name} of {asked.exec_id} takes {takes}: {e}. Nothing was recorded") from None

    def _read(self, wait: PendingWait, text: str) -> Any:
        if text[:1] == "'" == text[-1:] and len(text) > 1:  # as it is typed for a shell
            return wait.read(" ".join(split(text)))
        try:
            json.loads(text)
        except ValueError:
            pass
        else:
            return wait.read(text)
        return self._python(text) if text[:1] == "{" and text[-1:] == "}" else wait.read(text)

    def _python(self, text: str) -> Any:
        """The value of the expression in braces; or of the braces, where they are a dict's."""
        for code in (text[1:-1].strip(), text):
            try:
                compiled = compile(code, "<%kitaru answer>", "eval")
            except SyntaxError:
                continue
            try:
                return eval(compiled, self.shell.user_ns)  # noqa: S307 - the user's own line
            except Exception as e:
                raise UsageError(f"{text[:80]}: {type(e).__name__}: {e}") from None
        raise UsageError(f"{text[:80]} is neither JSON nor a Python expression in braces")
