"""What durability costs, beside its floor in the same run.

    python benchmarks/run.py [--quick] [--write]      from the project's root, with the `test` extra installed

Ratios bind, milliseconds do not: machines differ, and are busy. `--quick` runs every workload once, small, and only
proves that they run. `--write` keeps the table in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import workloads as w  # noqa: E402 - after the path


def table(figures: list[w.Figure]) -> str:
    """Markdown."""
    lines = ["| workload | Kitaru | floor | ratio | reach | |", "|---|---|---|---|---|---|"]
    for f in figures:
        reach = "" if f.reach is None else f"≤ {f.reach:g}" + (" ✓" if f.ratio <= f.reach else " **missed**")
        lines.append(f"| {f.workload} | {f.figure:.3g} {f.unit} | {f.floor:.3g} {f.unit} | {f.ratio:.2f} | {reach} | {f.note} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    n = 50 if asked.quick else 1000
    jobs: dict[str, Callable[[], list[w.Figure]]] = {
        "folder": lambda: w.small_step_on_a_folder(max(n, 200)),
        "s3": lambda: w.small_step_on_s3(max(n // 4, 20)),
        "far": lambda: w.small_step_on_s3(max(n // 10, 10), delay=0.02),
        "wide": lambda: w.concurrent_on_s3(n),
        "fan": lambda: w.fan_out(32 if asked.quick else 100),
        "reuse": lambda: w.reuse(n),
        "import": lambda: w.import_time(3 if asked.quick else 15),
    }
    figures: list[w.Figure] = []
    for name, job in jobs.items():
        if not asked.only or name in asked.only.split(","):
            figures += job()
    text = table(figures)
    print(text)
    if asked.write:
        uname = platform.uname()
        where = f"{uname.system} {uname.machine}, {os.cpu_count()} cores, Python {platform.python_version()}"
        head = f"# What durability costs\n\n`python benchmarks/run.py --write`, {time.strftime('%Y-%m-%d')}, {where}.\n"
        Path(__file__).with_name("RESULTS.md").write_text(f"{head}\nMedians. Ratios bind, milliseconds do not.\n\n{text}\n")


if __name__ == "__main__":
    main()
