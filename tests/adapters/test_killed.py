"""Real processes, killed at each request and tool call in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .killed import EVENTS, RESULT


@pytest.mark.process
@pytest.mark.parametrize("way", ["pydantic_ai", "llm"])
def test_an_agent_killed_at_each_request_and_call_in_turn_repeats_none(way, tmp_path):
    count = tmp_path / "done"
    environment = {**os.environ, "KITARU_STORE": str(tmp_path / "store"), "KITARU_EXEC_ID": "audit-7"}

    def run(kill):
        return subprocess.run(
            [sys.executable, "-m", "tests.adapters.killed", way, str(count), str(kill)],
            cwd=Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    for kill in range(1, len(EVENTS) + 1):
        assert run(kill).returncode == -signal.SIGKILL
    done = run(0)
    assert done.stdout == f"{RESULT}\n", done.stderr
    assert count.read_text(encoding="utf-8").splitlines() == list(EVENTS)
