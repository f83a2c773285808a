"""The same cells under Kitaru and under Kishu, in turns: what each cell takes in all, and what it keeps."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.figures import Comparison
from benchmarks.peers.make_envs import python_of
from benchmarks.workloads import folder

HERE = Path(__file__).with_name("peers")
PEERS = ("kitaru", "kishu")
SCRIPTS = {"kitaru": "peer_cells.py", "kishu": "peer_kishu.py"}
NOTE = """Kishu 0.3.4 with its own hooks, in an environment of its own; every cell is recorded by both. Whole cells, the
body included, and whole checkouts, in turns, medians; in the kernel an array of 100 MB, a frame of 70 MB,
a small dict."""

TIMES = {
    "none": "`1 + 1`",
    "dict": "a small dict changed",
    "late": "a small dict changed, after 100 such cells",
    "read": "one element of the array read",
    "element": "one element of the array changed",
    "all": "all of the array changed",
    "to dict": "checkout, the dict differs",
    "to array": "checkout, the array differs",
}


def compare(megabytes: int, turns: int) -> list[Comparison]:
    """Both of them, in turns."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not python_of("kishu").exists():
        sys.exit("no environment for kishu: python benchmarks/peers/make_envs.py kishu")
    rounds: dict[str, list[dict[str, dict[str, list[float]]]]] = {peer: [] for peer in PEERS}
    for _ in range(turns):
        for peer in PEERS:
            python = sys.executable if peer == "kitaru" else str(python_of(peer))
            with folder() as path:
                script = [python, str(HERE / SCRIPTS[peer]), "--folder", path, "--megabytes", str(megabytes)]
                done = subprocess.run(script, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise RuntimeError(f"{' '.join(script)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
            rounds[peer].append(json.loads(done.stdout.splitlines()[-1]))

    def by_peer(kind: str, what: str, scale: float) -> dict[str, float]:
        return {p: scale * statistics.median(statistics.median(r[kind][what]) for r in rounds[p]) for p in PEERS}

    times = [Comparison(title, "ms", by_peer("took", what, 1e3)) for what, title in TIMES.items()]
    grown = ("dict", "read", "element", "all")
    return times + [Comparison(f"{TIMES[what]}: kept", "MB", by_peer("grown", what, 1e-6)) for what in grown]
