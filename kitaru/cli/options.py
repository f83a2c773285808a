"""What commands have in common: the settings that all of them take, and options that several do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from ..client import KitaruClient
from ..location import check_format, check_there
from . import completion

__all__ = ["Settings", "common", "execution_argument", "full_option", "runs_flow", "screen_of", "settings_of"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Settings:
    """What every command takes, before its name or after it."""

    store: str | None = None
    json: bool = False
    traceback: bool = False

    def client(self, *, writes: bool = False) -> KitaruClient:
        """The executions of the store that was named; one that a newer Kitaru wrote is refused.

        A folder that was named and is not there is a mistake, unless the command `writes`, which makes it.
        """
        client = KitaruClient(self.store)
        if not writes and (self.store is not None or os.environ.get("KITARU_STORE")):
            check_there(client.store)
        check_format(client.store)
        return client


def settings_of(command: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Hand a command its settings first."""
    return click.make_pass_decorator(Settings, ensure=True)(command)


def execution_argument(command: F) -> F:
    """Give a command the execution that it is about."""
    return click.argument("execution", metavar="EXEC", shell_complete=completion.executions)(command)


def common(command: F) -> F:
    """Give a command the options that all of them have."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Settings), str(parameter.name), value)

    options = (
        click.option(
            "--store",
            metavar="ADDRESS",
            help="The store: s3://bucket/prefix, or a folder. By default what KITARU_STORE or pyproject.toml name, "
            "else the nearest .kitaru.",
            expose_value=False,
            callback=keep,
        ),
        click.option(
            "--json",
            is_flag=True,
            help="Print one JSON document on standard output, and everything else on standard error.",
            expose_value=False,
            callback=keep,
        ),
        click.option(
            "--traceback",
            is_flag=True,
            help="Show where in Kitaru an error arose (also: KITARU_TRACEBACK=1).",
            expose_value=False,
            callback=keep,
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def full_option(command: F) -> F:
    """Give a command what cuts nothing."""
    return click.option("--full", is_flag=True, help="Cut nothing, however long. In a pipe nothing is cut anyway.")(
        command
    )


def runs_flow(command: F) -> F:
    """Give a command what those take that run a flow."""
    options = (
        click.option("--code", metavar="PATH", help="Where the flow's code is: a script, a module, or module:flow."),
        click.option(
            "--max-workers",
            type=click.IntRange(min=1),
            default=32,
            show_default=True,
            help="Threads for submitted steps.",
        ),
        click.option(
            "--on-drift",
            type=click.Choice(["reuse", "rerun", "error"]),
            default="reuse",
            show_default=True,
            help="What to do where unchanged code calls a step with other inputs than were recorded.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def screen_of(*, full: bool = False) -> Any:
    """What draws on standard output."""
    from .faces import Screen

    return Screen(full=full, now=time.time())
