"""A process that is killed at each request and tool call of its agent in turn: run by `test_killed.py`.

``python -m tests.adapters.killed WAY COUNT KILL`` writes a line for each that was done to COUNT, and kills itself at
number KILL, before it is done.
"""

from __future__ import annotations

import os
import signal
import sys

import kitaru
from kitaru import flow
from kitaru.testing.adapters import Turn, World

ONE_BY_ONE = (Turn(calls=(("look", "a"),)), Turn(calls=(("weigh", "b"),)), Turn(text="so {}"))
EVENTS = ("request 1", "look a", "request 2", "weigh b", "request 3")
RESULT = "so weigh(b)"


class Counted(World):
    """Counts in a file, which outlives the process."""

    def __init__(self, count, kill):
        super().__init__(ONE_BY_ONE)
        self._count, self._kill = count, kill

    def _meet(self, event):
        with open(self._count, "a+", encoding="utf-8") as file:
            file.seek(0)
            if len(file.readlines()) + 1 == self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(f"{event}\n")


def pydantic_ai(world):
    """A run that is in no flow; what it comes to."""
    from .test_pydantic_ai import agent_of

    return agent_of(world).run_sync("Begin").output


def llm(world):
    """A flow that asks a question, with tools."""
    from .test_llm import tools_of
    from .test_pydantic_ai import scripted

    @flow
    def conversation(prompt: str) -> str:
        return kitaru.llm(prompt, model=scripted(world), tools=tools_of(world))

    return conversation("Begin")


if __name__ == "__main__":
    way, count, kill = sys.argv[1:]
    print(globals()[way](Counted(count, int(kill))))
