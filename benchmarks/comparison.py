"""The peers, asked the same in turns: each workload is a script of theirs, in an environment of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Comparison
from benchmarks.peers.make_envs import python_of

HERE = Path(__file__).with_name("peers")
OTHERS = ("langgraph", "burr", "dbos")
PEERS = ("kitaru", *OTHERS)
IMPORTS = {
    "kitaru": "from kitaru import flow, checkpoint",
    "langgraph": "from langgraph.func import entrypoint, task; from langgraph.checkpoint.sqlite import SqliteSaver",
    "burr": "from burr.core import ApplicationBuilder, action; from burr.core.persistence import SQLitePersister",
    "dbos": "from dbos import DBOS",
}
"""What a script that uses them begins with."""


def _interpreter(peer: str) -> str:
    return sys.executable if peer == "kitaru" else str(python_of(peer))


def _asked(peer: str, workload: str, folder: str, n: int) -> dict[str, Any] | None:
    """A peer's figures; None where the process was killed, as `resume` does the first time."""
    script = [_interpreter(peer), str(HERE / f"peer_{peer}.py"), workload, "--folder", folder, "--n", str(n)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 9:
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(script)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _figures(peer: str, n: int) -> dict[str, float]:
    """One turn of one peer, in the units of the table."""
    out: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True) as scratch:

        def fresh(name: str) -> str:
            path = f"{scratch}/{name}"
            os.mkdir(path)
            return path

        steps = _asked(peer, "steps", fresh("steps"), n)["steps"]
        tenth = n // 10
        out["step"] = statistics.median(steps) * 1e3
        out["growth"] = statistics.median(steps[-tenth:]) / statistics.median(steps[1 : tenth + 1])
        if peer != "burr":
            out["fan"] = _asked(peer, "fan", fresh("fan"), 100)["seconds"]
        again = fresh("resume")
        assert _asked(peer, "resume", again, n) is None, f"{peer} did not die"
        resumed = _asked(peer, "resume", again, n)
        out["resume"], out["again"] = resumed["seconds"], resumed["again"]
    began = time.perf_counter()
    subprocess.run([_interpreter(peer), "-c", "pass"], check=True)
    bare = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run([_interpreter(peer), "-c", IMPORTS[peer]], check=True)
    out["import"] = time.perf_counter() - began - bare
    return out


def compare(n: int, turns: int) -> list[Comparison]:
    """All peers, in turns."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    missing = [peer for peer in OTHERS if not python_of(peer).exists()]
    if missing:
        sys.exit(f"no environment for {', '.join(missing)}: python benchmarks/peers/make_envs.py")
    for peer in PEERS:  # compiled, and in the page cache, as at a user's
        subprocess.run([_interpreter(peer), "-c", IMPORTS[peer]], check=True)
    rounds: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for _ in range(turns):
        for peer in PEERS:
            rounds[peer].append(_figures(peer, n))

    def by_peer(what: str) -> dict[str, float]:
        return {p: statistics.median(r[what] for r in rounds[p]) for p in PEERS if what in rounds[p][0]}

    again = {p: max(int(r["again"]) for r in rounds[p]) for p in PEERS}
    repeated = ", ".join(f"{p} ran up to {k} finished steps again" for p, k in again.items() if k)
    kept = "Burr keeps the last state alone, and skips nothing"
    notes = "; ".join(filter(None, (kept, repeated)))
    return [
        Comparison("small step of 1 KB, durable, folder or SQLite", "ms", by_peer("step")),
        Comparison(f"its last {n // 10} steps against its first {n // 10}, of {n}", "×", by_peer("growth")),
        Comparison("100 × 50 ms, 16 at a time", "s", by_peer("fan"), "Burr has no such thing"),
        Comparison(f"resume after {n} steps, after imports", "s", by_peer("resume"), notes),
        Comparison("import, over bare Python", "s", by_peer("import")),
    ]
