"""What durability costs: each workload beside its floor, measured in turns.

    python benchmarks/run.py [--quick] [--write] [--only NAMES] [--peers]

From the project's root, with the `test` extra installed. Ratios bind, milliseconds do not: machines differ, and are
busy. `--quick` runs every workload once, small, and only proves that they run. `--peers` asks LangGraph, Burr and DBOS
the same (first: `python benchmarks/peers/make_envs.py`). `--kishu` runs the same cells under Kishu.
`--write` keeps the tables in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import adapters, cells as c, replays as r, values as v, waits, workloads as w
from benchmarks.figures import Figure, comparison_table, figures_table, machine


def jobs(*, quick: bool) -> dict[str, Callable[[], list[Figure]]]:
    """The workloads by name."""
    n, turns = (100, 1) if quick else (1000, 7)
    return {
        "folder": lambda: w.small_step_on_a_folder(n, turns),
        "s3": lambda: w.small_step_on_s3(n // 5, turns),
        "far": lambda: w.small_step_on_s3(n // 20, turns, delay=0.02),
        "requests": lambda: w.requests_on_s3(n),
        "fan": lambda: w.fan_out(32 if quick else 100, turns),
        "reuse": lambda: w.reuse(n, turns),
        "import": lambda: w.import_time(2 if quick else 15),
        "history": lambda: v.growing_history(n, min(turns, 3)),
        "array": lambda: v.large_array(8 if quick else 100, min(turns, 5)),
        "frame": lambda: v.large_frame(n * 1000, min(turns, 5), strings="Arrow"),
        "objects": lambda: v.large_frame(n * 1000, min(turns, 5), strings="object"),
        "long": lambda: v.long_run_on_a_folder(n * 10, min(turns, 3)),
        "many": lambda: v.reuse_of_many(n, n * 10, min(turns, 5)),
        "opening": lambda: v.opening_on_s3(n * 10),
        "questions": lambda: r.questions(n * 10, min(turns, 5)),
        "forks": lambda: r.requests_of_a_fork(1, n // 3),
        "cells": lambda: c.one_after_the_other(8 if quick else 100, min(turns, 7)),
        "many-cells": lambda: c.many_cells(1 if quick else 100, n // 2, min(turns, 3)),
        "no-step": lambda: c.no_step(n // 5, turns),
        "load-ext": lambda: c.load_ext(2 if quick else 15),
        "pass": lambda: waits.a_pass(100 if quick else 10_000, 10),
        "answer": lambda: waits.an_answer(1 if quick else 7),
        "eviction": lambda: waits.an_eviction(1 if quick else 7),
        "record-http": lambda: adapters.record_http(20 if quick else 200, turns),
        "llm": lambda: adapters.llm(20 if quick else 200, turns),
        "pydantic-ai": lambda: adapters.pydantic_ai(20 if quick else 200, turns),
        "histories": lambda: adapters.histories(20 if quick else 200),
        "memory": lambda: v.memory(100 if quick else 1000),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help=f"some of {', '.join(jobs(quick=True))}; with commas")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--kishu", action="store_true")
    asked = parser.parse_args()
    chosen = jobs(quick=asked.quick)
    unknown = set(filter(None, asked.only.split(","))) - set(chosen)
    if unknown:
        parser.error(f"no workload is called {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name, job in chosen.items():
        if not asked.only or name in asked.only.split(","):
            figures += job()
    text = figures_table(figures)
    print(text)
    if asked.peers:
        from benchmarks.comparison import PEERS, compare

        compared = comparison_table(compare(100 if asked.quick else 1000, 1 if asked.quick else 5), PEERS)
        print(compared)
        text += f"\n\n## Beside the others\n\nEach in its own environment, in turns, medians.\n\n{compared}"
    if asked.kishu:
        from benchmarks.notebooks import NOTE, PEERS as CELLS, compare as compare_cells

        compared = comparison_table(compare_cells(8 if asked.quick else 100, 1 if asked.quick else 5), CELLS)
        print(compared)
        text += f"\n\n## Beside Kishu\n\n{NOTE}\n\n{compared}"
    if asked.write:
        head = f"# What durability costs\n\n`python {shlex.join(sys.argv)}`, {machine()}.\n"
        note = "Medians of turns in which workload and floor alternate. Ratios bind, milliseconds do not."
        Path(__file__).with_name("RESULTS.md").write_text(f"{head}\n{note}\n\n{text}\n")


if __name__ == "__main__":
    main()
