"""`kitaru resume --ready` and `kitaru worker`: passes over what has become able to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..client import KitaruClient
from ..location import connect
from ..notices import say
from ..passes import Ran, Report, resume_ready, work as make_passes
from .running import aside, look_here
from .text import block

__all__ = ["ready", "work"]


def ready(client: KitaruClient, *, quiet: bool, tell: Callable[[Ran], None], **options: Any) -> Report:
    """Make one pass; `options` as `kitaru.resume_ready` takes them, and `quiet` as `running.resume` does."""
    _prepare(client)
    with aside(quiet):
        return resume_ready(client.store, tell=tell, **options)


def work(client: KitaruClient, *, quiet: bool, **options: Any) -> None:
    """Make one pass after the other, as `passes.work` does, and say on standard error what runs."""
    _prepare(client)
    with aside(quiet):
        make_passes(client.store, note=lambda line: say(block(line)), **options)


def _prepare(client: KitaruClient) -> None:
    connect(client.store)  # what flows load and save by themselves is there, too
    look_here()
