"""The short kill campaign: fifty real SIGKILLs; `kill_campaign.py` has the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.process
def test_fifty_kills_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path) -> None:
    # In a process of its own: it forks, which a process with threads must not.
    command = [sys.executable, "-m", "tests.crashes.kill_campaign", "--kills", "50", "--store", str(tmp_path / "store")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "every result right" in done.stdout
