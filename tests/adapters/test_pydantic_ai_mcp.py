"""Tools of an MCP server, in a process of its own: each call is a step, and is made once."""

from __future__ import annotations

import sys
from pathlib import Path

import mcp
import pytest
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset

from kitaru import KitaruClient
from kitaru.adapters.pydantic_ai import durable
from kitaru.testing.faults import SimulatedCrash

from .test_pydantic_ai import calls, labels, last_results, says, value

SERVER = Path(__file__).with_name("mcp_server.py")

pytestmark = pytest.mark.process


@pytest.fixture
def made(tmp_path):
    """The calls that reached the server."""
    path = tmp_path / "made"
    path.touch()
    return path


def clerk(made, *answers, prefix=None):
    library = str(Path(mcp.__file__).parents[1])  # its own process knows nothing of this one's path
    process = StdioTransport(sys.executable, [str(SERVER), str(made)], env={"PYTHONPATH": library}, keep_alive=False)
    shelf = MCPToolset(process, init_timeout=120, read_timeout=120)  # seconds
    agent = Agent(says(*answers), name="clerk", toolsets=[shelf.prefixed(prefix) if prefix else shelf], retries=2)
    return durable(agent)


def done(made):
    return made.read_text(encoding="utf-8").splitlines()


def test_a_call_is_a_step_that_a_killed_run_does_not_make_again(faulty, connected, made):
    def crash(messages):
        faulty.crash()
        raise SimulatedCrash

    def talk(last):
        answers = (calls(("look", {"word": "a"})), calls(("measure", {"word": "abc"})), last)
        return clerk(made, *answers).options(exec_id="x").run_sync("Begin")

    with pytest.raises(SimulatedCrash):
        talk(crash)
    connected(faulty.inner)
    assert talk(last_results).output == "{'letters': 3}"
    assert done(made) == ["look a", "measure abc"]
    assert labels("x") == ["request#1", "look#1", "request#2", "measure#1", "request#3"]
    points = KitaruClient().executions.get("x").checkpoints
    assert [p.data.type for p in points] == ["llm_call", "tool_call", "llm_call", "tool_call", "llm_call"]
    assert value("x", "look.in.word") == "a"


def test_an_edited_result_is_what_the_model_is_sent(store, made):
    agent = clerk(made, calls(("shelf_look", {"word": "a"})), last_results, prefix="shelf")
    agent.options(exec_id="x").run_sync("Begin")
    assert agent.replay("x", overrides={"checkpoint.shelf_look": "nothing"}).get()["output"] == "nothing"
    assert done(made) == ["look a"]


def test_what_the_server_refuses_is_the_failure_of_that_call(store, made):
    agent = clerk(made, calls(("refuse", {"word": "a"})), last_results).options(exec_id="x")
    assert "not a" in agent.run_sync("Begin").output
    assert done(made) == ["refuse a"]
    assert [p.status for p in KitaruClient().executions.get("x").checkpoints] == ["completed", "failed", "completed"]
