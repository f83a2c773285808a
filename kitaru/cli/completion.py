"""Completion by Tab: of exec_ids and REFs, from the store that the command line names so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import islice
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from ..catalog import rows
from ..client import KitaruClient
from ..previews import printable

__all__ = ["SHELLS", "executions", "refs", "script"]

SHELLS = ("bash", "fish", "zsh")

_MOST = 50

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def script(command: click.Command, shell: str) -> str:
    """What `shell` is to evaluate so that Tab asks `command`."""
    found = get_completion_class(shell)
    assert found is not None
    return found(command, {}, "kitaru", "_KITARU_COMPLETE").source()


def _quietly(complete: Callable[[KitaruClient, str], Iterator[CompletionItem[str]]]) -> Complete:
    """Whatever goes wrong, there is nothing to complete: a person who types is not to be disturbed by it."""

    @wraps(complete)
    def completer(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        del parameter
        try:
            client = KitaruClient(getattr(context.obj, "store", None))
            return [i for i in islice(complete(client, incomplete), _MOST) if i.value == printable(i.value)]
        except Exception:
            return []

    return completer


@_quietly
def executions(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    """Completes EXEC: for `shell_complete=` of an argument."""
    yield from _executions(client, start)


@_quietly
def refs(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    """Completes REF: executions, and after a ":" what they hold."""
    name, colon, step = start.partition(":")
    if colon:
        yield from _inside(client, name, f"{name}:", step)
        return
    yield from _executions(client, start)
    if start:  # a bare word is a step of the last execution
        yield from _inside(client, "last", "", start)


def _executions(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    for row in rows(client.store):  # hints will do: one listing, and nothing is opened
        if row.exec_id.startswith(start):
            yield CompletionItem(row.exec_id, help=printable(f"{row.flow}, {row.status}"))
    for word in ("last", "last-failed"):
        if start and word.startswith(start):
            yield CompletionItem(word)


def _inside(client: KitaruClient, name: str, before: str, start: str) -> Iterator[CompletionItem[str]]:
    execution = client.executions.get(name)
    if before:
        words = {s.name for s in execution.data.saved} | ({"result"} if execution.data.result is not None else set())
        yield from (CompletionItem(before + word) for word in sorted(words) if word.startswith(start))
    for checkpoint in execution.data.checkpoints:
        if checkpoint.label.startswith(start):
            yield CompletionItem(before + checkpoint.label)


class _Bash(BashComplete):
    """Bash takes ":" for the end of a word: what it took apart is put together, and it is given what is missing."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        for word in (*args, incomplete):
            if words and (word.startswith(":") or words[-1].endswith(":")):
                words[-1] += word
            else:
                words.append(word)
        return words[:-1], words[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        before = incomplete.rpartition(":")[0]
        items = super().get_completions(args, incomplete)
        for item in items if before else ():
            item.value = item.value.removeprefix(f"{before}:")
        return items


add_completion_class(_Bash, "bash")
