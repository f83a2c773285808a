"""Real SIGKILLs at random moments; then resumed until done. Run by hand for the long campaign:

    python -m tests.crashes.kill_campaign --kills 500 --seed 1 [--from K] [--store s3://bucket/prefix]

Each execution is killed up to four times. Its moments follow from the seed and its number alone, so a failure can be
repeated, and a long campaign goes on with `--from`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kitaru.location import open_store

from . import oracle, worker


def lines_of(log: Path, skip: int) -> list[str]:
    """What was said after the first `skip` lines."""
    return log.read_text().splitlines()[skip:] if log.exists() else []


def one_try(store: str, exec_id: str, log: Path, patience: float | None) -> bool:
    """Fork, and kill after `patience` seconds. True where it had completed by then."""
    pid = os.fork()
    if pid == 0:
        worker.child(store, exec_id, str(log), oracle.TURNS)
    if patience is not None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0, f"{exec_id} failed by itself"
                return True
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in ((0, -signal.SIGKILL) if patience is not None else (0,)), f"{exec_id} ended with {code}"
    return code == 0


def one_execution(at: str, seed: int, k: int, folder: Path, span: float) -> int:
    """Kill it up to four times, check after each try, and let it end. Gives the number of kills that met it alive."""
    rng = random.Random(f"{seed}/{k}")
    store, exec_id, log = open_store(at), f"kill-{seed}-{k}", folder / f"{k}.log"
    before = oracle.Seen()
    kills = seen = 0
    patiences = [rng.uniform(0, span) for _ in range(rng.randint(1, 4))]
    for patience in [*patiences, None]:
        completed = one_try(at, exec_id, log, patience)
        said = lines_of(log, seen)
        seen += len(said)
        after = oracle.look(store, exec_id)
        oracle.check_attempt(before, after, said)
        before = after
        if completed:
            break
        kills += 1
    result = worker.run(at, exec_id, str(log), oracle.TURNS)  # completed: nothing runs
    assert lines_of(log, seen) == []
    oracle.check_result(result, before)
    return kills


def campaign(at: str, kills: int, seed: int, first: int = 0, tell: Callable[[str], None] = print) -> int:
    """Executions until so many kills were made. Gives their number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        assert one_try(at, f"calm-{seed}-{first}", folder / "calm.log", None)
        span = (time.monotonic() - began) * 0.9
        done, k = 0, first
        while done < kills:
            try:
                done += one_execution(at, seed, k, folder, span)
            except BaseException:
                tell(f"execution {k} of seed {seed}: repeat with --seed {seed} --from {k}")
                raise
            k += 1
            if k % 50 == 0:
                tell(f"{k - first} executions, {done} kills")
        tell(f"{k - first} executions, {done} kills: every result right, no finished step ran twice")
        return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--store", default=None, help="an address; a temporary folder by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        campaign(asked.store or name, asked.kills, asked.seed, asked.first)


if __name__ == "__main__":
    sys.exit(main())
