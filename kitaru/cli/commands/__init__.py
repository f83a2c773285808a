"""The commands, by what they are for. Heavy rooms load when one runs."""

from __future__ import annotations

from .demonstrating import demo
from .forking import explain, plan, repeat, replay
from .going_on import cancel, pause, resume, retry, worker
from .keeping import cp, verify
from .looking import diff, lineage, log, runs, show
from .waiting import abort, answer, waits

__all__ = ["COMMANDS"]

COMMANDS = (
    abort, answer, cancel, cp, demo, diff, explain, lineage, log, pause, plan, repeat, replay, resume, retry, runs,
    show, verify, waits, worker,
)  # fmt: skip
