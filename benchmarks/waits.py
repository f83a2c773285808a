"""Waiting: what a pass asks of the store, how soon an answer is heard, how soon an evicted process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kitaru
from benchmarks.figures import Figure
from benchmarks.workloads import folder, s3
from kitaru import KitaruClient, checkpoint, flow
from kitaru.flows import Flow, Options
from kitaru.passes import work
from kitaru.stores import MemoryStore
from kitaru.testing.faults import FaultyStore

NONE = "–"
_HEARD: list[float] = []
_REQUESTS: list[int] = []
_STORE: list[FaultyStore] = []


@flow
def asks(far: bool) -> int:
    return kitaru.wait(name="n", schema=int, expires=30 * 86400 if far else None, default=0)  # type: ignore[no-any-return]


@checkpoint
def hears(n: int) -> int:
    _HEARD.append(time.perf_counter())
    _REQUESTS.extend(len(store.log) for store in _STORE)
    return n


@flow
def goes_on() -> int:
    return hears(kitaru.wait(name="n", schema=int))


def _waiting(store: MemoryStore, name: str, n: int) -> None:
    Flow(asks.function, Options(exec_id=name, store=store, announces=False)).run(n % 2 == 1)


def a_pass(waiting: int, ready: int) -> list[Figure]:
    """`kitaru resume --ready` over so many executions that wait, half of them with a timer far away."""
    place = MemoryStore()
    client = KitaruClient(place)
    for n in range(waiting):
        _waiting(place, f"e-{n}", n)
    for n in range(ready):
        client.executions.input(f"e-{n * (waiting // ready)}", "n", n)
    counted = FaultyStore(place)
    report = kitaru.resume_ready(counted)
    assert len(report.ran) == ready, "a pass has to find what is ready"
    assert all(ran.status == "completed" for ran in report.ran)
    what = f"a pass over {waiting:,} that wait, {ready} of them ready"
    return [Figure(what, [(len(counted.log), 0)], NONE, "requests", at_most=5 + 8 * ready)]


def an_answer(turns: int, poll: float = 0.5, delay: float = 0.02) -> list[Figure]:
    """From the answer being stored to the flow's next step, under a worker; and the requests of the way there."""
    rounds, counts = [], []
    with s3(delay) as (store, _, _):
        kitaru.connect(store)
        client = KitaruClient(store)
        over = threading.Event()
        worker = threading.Thread(target=work, args=(store,), kwargs={"poll": poll, "until": over.is_set})
        worker.start()
        try:
            for _ in range(turns):
                exec_id = goes_on.run().exec_id
                _HEARD.clear()
                client.executions.input(exec_id, "n", 1)
                answered = time.perf_counter()
                while not _HEARD:
                    time.sleep(0.005)
                rounds.append((_HEARD[0] - answered, poll + 20 * delay))
        finally:
            over.set()
            worker.join()
        exec_id = goes_on.run().exec_id
        client.executions.input(exec_id, "n", 1)
        counted = FaultyStore(store)
        _STORE[:] = [counted]
        _REQUESTS.clear()
        kitaru.resume_ready(counted)
        _STORE.clear()
        counts.append((_REQUESTS[0], 0))
    floor = f"the poll of {poll:g} s, and 20 requests of {delay * 1e3:.0f} ms"
    return [
        Figure("an answer heard by a worker, S3 behind 20 ms", rounds, floor, "s", ratio_at_most=1.0),
        Figure("of that, requests before the next step", counts, NONE, "requests", at_most=20),
    ]


_EVICTED = """
import sys, time
sys.path.insert(0, {root!r})
from kitaru import checkpoint, connect, flow
@checkpoint
def long(n):
    print("in it", flush=True)
    time.sleep(60)
@flow
def evicted():
    long(1)
connect({store!r})
evicted.run()
"""


def an_eviction(turns: int) -> list[Figure]:
    """From SIGTERM in the middle of a step to the end of the process, which has recorded it and let go."""
    rounds = []
    with folder() as path:
        script = Path(path, "evicted.py")
        root = str(Path(__file__).resolve().parents[1])
        script.write_text(_EVICTED.format(root=root, store=f"{path}/store"))
        for _ in range(turns):
            process = subprocess.Popen(
                [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ}
            )
            assert process.stdout is not None
            process.stdout.readline()
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
            rounds.append((time.perf_counter() - began, 0.0))
            assert code == 143, code
        statuses = {s.status.value for s in KitaruClient(f"{path}/store").executions.list()}
        assert statuses == {"interrupted"}, statuses
    return [Figure("from SIGTERM to the end of the process", rounds, NONE, "s", at_most=1.0)]
