"""Real processes, killed at each request and tool call in turn: the model's server counts what reaches it."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from kitaru.testing.adapters import Turn, World
from kitaru.testing.faults import SimulatedCrash
from kitaru.testing.model_server import ModelServer, by_turns

from .killed import WAYS, begin

TURNS = (Turn(calls=(("look", "a"),)), Turn(text="so {} it is"))
END = "end so look(a) it is"
EVENTS = ("request 1", "look a", "request 2", END)


@pytest.mark.process
@pytest.mark.parametrize("way", WAYS)
def test_an_agent_killed_at_each_request_and_call_in_turn_repeats_no_other(way, tmp_path):
    """Where the next one comes, the one before it is recorded: so each is killed before its answer, and after it."""
    log = tmp_path / "log"
    environment = {"KITARU_STORE": str(tmp_path / "store"), "KITARU_EXEC_ID": "audit-7"}
    world, amid, processes = World(TURNS), [], []

    def kill():
        os.kill(processes[-1].pid, signal.SIGKILL)
        raise SimulatedCrash

    def on_request(n):
        if server.requests[n - 1].path == "/tool":
            world.called(*server.requests[n - 1].json)

    def on_event(_):
        if amid:
            amid.pop()()

    def run():
        processes.append(begin(way, server.url, environment, str(log)))
        processes[-1].join(120)
        return processes[-1].exitcode

    with ModelServer(by_turns(world.asked)) as server:
        server.on_request, server.on_event = on_request, on_event
        for event in EVENTS[:3]:
            world.wrong[event] = kill
            assert run() == -signal.SIGKILL, log.read_text()
        if is_streamed := way not in {"llm", "pydantic_ai"}:
            amid.append(kill)
            assert run() == -signal.SIGKILL, log.read_text()
        world.wrong[END] = kill
        assert run() == -signal.SIGKILL, log.read_text()
        assert run() == 0, log.read_text()
    assert Counter(world.begun) == {"request 1": 2, "look a": 2, "request 2": 2 + is_streamed, END: 2}
    assert not world.wrong
    assert not amid
