"""The long profiles, run by hand:

    python -m tests.faults --runs 10000 --seed 1 [--resume]        simulated
    python -m tests.faults --processes --runs 500 --seed 1         real processes, on a folder and on S3

A run follows from the seed and its number. The number of the last one that ended is kept in a small file, with what
happened so far, and `--resume` goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--resume", action="store_true", help="go on behind the last run that ended")
    parser.add_argument("--processes", action="store_true", help="real processes instead of simulated ones")
    parser.add_argument("--file", type=Path, help="where the progress is kept")
    asked = parser.parse_args()
    kind = "processes" if asked.processes else "simulated"
    kept = asked.file or Path(tempfile.gettempdir()) / f"kitaru-faults-{kind}-{asked.seed}.json"
    tally: Counter[str] = Counter()
    first = asked.first
    if asked.resume and kept.exists():
        before = json.loads(kept.read_text(encoding="utf-8"))
        first, tally = before["next"], Counter(before["tally"])
        print(f"goes on with run {first} of seed {asked.seed}")
    warnings.simplefilter("ignore")  # a crash leaves coroutines behind
    began = time.monotonic()

    def ended(k: int, happened: Counter[str]) -> None:
        tally.update(happened)
        kept.write_text(json.dumps({"seed": asked.seed, "next": k + 1, "tally": tally}), encoding="utf-8")
        if (k + 1) % (10 if asked.processes else 500) == 0:
            print(f"{k + 1} runs, {time.monotonic() - began:.0f} s: {dict(tally)}", flush=True)

    if asked.processes:
        from . import processes

        processes.campaign(asked.seed, first, asked.runs + asked.first, ended)
    else:
        from .campaign import one

        for k in range(first, asked.runs + asked.first):
            ended(k, one(asked.seed, k))
    print(f"{asked.runs} runs of seed {asked.seed}: nothing lost, nothing doubled, every run ended. {dict(tally)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
