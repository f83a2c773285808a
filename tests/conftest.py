"""What most tests start from: a fresh store, a clock that stands still, and no memory of the test before."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kitaru import flows, location, sources
from kitaru.client import KitaruClient
from kitaru.flows import Flow, Options
from kitaru.stores.memory import MemoryStore
from kitaru.testing.faults import FaultyStore

pytest_plugins = ["kitaru.testing.fixtures"]

ROOT = str(Path(__file__).parents[1])

# The same examples every time, so that it is a change that failed; `--hypothesis-profile=explore` tries others.
settings.register_profile("explore", deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def _this_checkout():
    """Processes that a test starts run this checkout, wherever an installed kitaru may stand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)
        yield


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch):
    """No setting of whoever runs the tests, and nothing that an earlier test left in the process."""
    for name in [n for n in os.environ if n.startswith("KITARU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(flows._Environment, "used_by", None)
    monkeypatch.setattr(location, "_connected", None)
    monkeypatch.setattr(sources, "_registered", dict(sources._registered))


@pytest.fixture
def connected(monkeypatch):
    """Make a store the current one of this process: `connected(store)`."""

    def use(store):
        monkeypatch.setattr(location, "_connected", store)
        return store

    return use


@pytest.fixture
def store(connected):
    """A fresh place in memory, which flows record in."""
    return connected(MemoryStore())


@pytest.fixture
def faulty(connected):
    """The same, behind a wrapper that counts, and harms what a test says. Its `inner` is the place itself."""
    return connected(FaultyStore(MemoryStore()))


@pytest.fixture
def client(store):
    return KitaruClient(store)


@pytest.fixture
def interruptible():
    """Processes that this test starts hear SIGINT, also where whoever runs the tests ignores it, as `nohup` does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Ran:
    """A log outside of the store of the bodies that ran. As an argument or a closure it counts by its type alone."""

    def __init__(self):
        self._lock = threading.Lock()
        self.names = []
        self._all = Counter()

    def __call__(self, name):
        """Note it; gives how often it was noted by now."""
        with self._lock:
            self.names.append(name)
            self._all[name] += 1
            return self._all[name]

    @property
    def counts(self):
        """How often each was noted in all."""
        return Counter(self._all)

    def take(self):
        """What ran since the last time this was asked."""
        with self._lock:
            names, self.names = self.names, []
        return names

    def __reduce__(self):
        raise TypeError("no data")


@pytest.fixture
def ran():
    return Ran()


class ManualClock:
    """Time passes when somebody waits, and at once."""

    def __init__(self, at=1_700_000_000.0):
        self.at, self.passed, self.slept = at, 0.0, []

    def time(self):
        return self.at

    def monotonic(self):
        return self.passed

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.at, self.passed = self.at + seconds, self.passed + seconds

    async def asleep(self, seconds):
        self.sleep(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def timed(clock):
    """The same flow, run by the manual clock: `timed(flow, exec_id=...)`."""
    return lambda flow, **options: Flow(flow.function, Options(clock=clock, **options))


@dataclass
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_script(tmp_path):
    """Run a Python file in a process of its own, in `tmp_path`: `run_script("audit.py", env={...})`."""

    def run(*argv, env=None, cwd=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "COV_", "PYTHONPATH"))}
        paths = [*filter(None, [(env or {}).get("PYTHONPATH")]), ROOT]  # this checkout, whatever is installed
        done = subprocess.run(
            [sys.executable, *map(str, argv)],
            cwd=cwd or tmp_path,
            env={**clean, **(env or {}), "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=300,  # a machine may be busy
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run
