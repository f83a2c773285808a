"""Completion by Tab: of exec_ids and REFs, from the store that the command line names so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import islice
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from ..catalog import rows
from ..client import Execution, KitaruClient, PendingWait
from ..previews import printable

__all__ = ["SHELLS", "edits", "executions", "flows", "names", "refs", "script", "steps", "waiting", "waits"]

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


def _of_the_execution(complete: Callable[[Execution, str], Iterator[str]]) -> Complete:
    """For an option of a command that has an EXEC, typed before it or after it."""

    @wraps(complete)
    def completer(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        def of(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
            named = context.params.get("execution") or next(iter(context.args), "last")
            execution = client.executions.get(named)
            return (CompletionItem(word) for word in complete(execution, start) if word.startswith(start))

        return _quietly(of)(context, parameter, incomplete)

    return completer


@_quietly
def executions(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    """Completes EXEC: for `shell_complete=` of an argument."""
    yield from _executions(client, start)


@_quietly
def flows(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    """Completes the name of a flow."""
    yield from map(CompletionItem, dict.fromkeys(r.flow for r in rows(client.store) if r.flow.startswith(start)))


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


@_of_the_execution
def steps(execution: Execution, start: str) -> Iterator[str]:
    """Completes the REF of a step of the execution that the command line names: `--from`."""
    return (c.label for c in execution.data.checkpoints if c.label.startswith(start))


@_of_the_execution
def names(execution: Execution, start: str) -> Iterator[str]:
    """Completes the name of a step: `--rerun`."""
    known = dict.fromkeys(["changed", *(c.name for c in execution.data.checkpoints)])
    return (name for name in known if name.startswith(start))


@_of_the_execution
def edits(execution: Execution, start: str) -> Iterator[str]:
    """Completes what `--set` may set, up to its "=": outputs, then inputs of what is typed so far."""
    if "=" in start:
        return
    for name, _ in execution.data.begun.arguments:
        if f"input.{name}".startswith(start):
            yield f"input.{name}="
    for c in execution.data.checkpoints:
        if not c.label.startswith(start) and not start.startswith(f"{c.label}."):
            continue
        yield f"{c.label}="
        if start.startswith(c.label):
            yield from (f"{c.label}.{name}=" for name, _ in c.outputs)
            yield from (f"{c.label}.in.{name}=" for name, _ in c.arguments)


@_quietly
def waiting(client: KitaruClient, start: str) -> Iterator[CompletionItem[str]]:
    """Completes EXEC where only those make sense that wait."""
    for row in rows(client.store):
        if row.status == "waiting" and row.exec_id.startswith(start):
            yield CompletionItem(row.exec_id, help=printable(row.flow))


@_of_the_execution
def waits(execution: Execution, start: str) -> Iterator[str]:
    """Completes the name of an open wait of the execution that the command line names."""
    names = (PendingWait.of(w).name for w in execution.data.waits.open.values())
    return (name for name in names if name.startswith(start))


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
