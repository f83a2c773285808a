"""A flow in a module of its own, which another process runs: what a notebook opens afterwards."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["AUDIT", "written"]

AUDIT = '''"""Audits packages."""

import sys

from kitaru import checkpoint, flow, log

RULES = {"MIT": 1, "GPL": 9}


@checkpoint
def collect(limit):
    return [{"name": "numpy", "licence": "MIT"}, {"name": "boto3", "licence": "Apache"}][:limit]


def rule(licence):
    asked = licence
    return RULES[asked]


@checkpoint
def classify(package):
    log(tokens=7)
    licence = package["licence"]
    return {"name": package["name"], "risk": rule(licence)}


@checkpoint
def report(found):
    return max(f["risk"] for f in found)


@flow
def audit(limit):
    return report([classify(p) for p in collect(limit)])


if __name__ == "__main__":
    audit.run(int(sys.argv[1]))
'''


def written(folder: Path, name: str, text: str = AUDIT) -> Path:
    """The module, in a folder where it is found."""
    path = folder / f"{name}.py"
    path.write_text(text)
    importlib.invalidate_caches()
    return path


def run(path: Path, store: str, *args: str) -> None:
    """Run it as a script, in another process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "COV_"))}
    subprocess.run(
        [sys.executable, str(path), *args],
        env=environment | {"KITARU_STORE": store}, cwd=path.parent, check=False, capture_output=True, timeout=60,
    )  # fmt: skip
