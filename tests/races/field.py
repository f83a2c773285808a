"""Where a race is run: a store, a log that the bodies write, and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from kitaru import KitaruClient

RACER = str(Path(__file__).with_name("racer.py"))
PATIENCE = 300.0


def expect(happened, what: str):
    """Poll until it happened; give what it gave."""
    until = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < until, what
        time.sleep(0.01)
    return found


class Field:
    """One execution that processes race for."""

    def __init__(self, folder, address: str, exec_id: str = "race-1") -> None:
        self.folder, self.address, self.exec_id = folder, address, exec_id
        self.log = folder / f"{exec_id}.log"
        self.client = KitaruClient(address)

    def start(self, word: str, **settings: str) -> subprocess.Popen[str]:
        """Start a process that begins or resumes the execution."""
        # Without compiled modules on disk most of a race would be the compiling of imports.
        other = ("KITARU_", "RACE_", "PYTHONDONTWRITEBYTECODE")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(other)}
        environment = clean | {"KITARU_STORE": self.address, "RACE_LOG": str(self.log)} | settings
        return subprocess.Popen(
            [sys.executable, RACER, word, self.exec_id],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for its end: its exit code, and what it said."""
        said = process.communicate(timeout=PATIENCE)[1]
        return process.returncode, said

    def race(self, word: str, count: int, **settings: str) -> list[tuple[int, str]]:
        """So many processes at once, each of which has done all that it can do before."""
        start = self.folder / "start"
        racers = [self.start(word, RACE_START=str(start), **settings) for _ in range(count)]
        try:
            expect(lambda: len([*self.folder.glob("start.*")]) == count, "not all of them are ready")
            start.touch()
            if "RACE_GO" in settings:  # the winner holds until somebody was refused
                expect(lambda: any(racer.poll() is not None for racer in racers), "nobody ends")
                Path(settings["RACE_GO"]).touch()
            return [self.end(racer) for racer in racers]
        finally:
            for racer in racers:
                racer.kill()
                racer.communicate()

    def ran(self) -> list[tuple[int, int]]:
        """The (step, process) whose bodies ran, in order."""
        if not self.log.exists():
            return []
        return [(int(i), int(pid)) for i, pid in map(str.split, self.log.read_text().splitlines())]

    def times(self) -> Counter[int]:
        """How often each step's body ran."""
        return Counter(i for i, _ in self.ran())

    def execution(self):
        return self.client.executions.get(self.exec_id)
