"""A virtual environment for each peer, since their dependencies conflict.

    python benchmarks/peers/make_envs.py [NAME …]

They stand in `benchmarks/peers/.envs`. One that exists is kept; delete its folder to make it anew.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ENVS = Path(__file__).with_name(".envs")
PACKAGES = {
    "langgraph": ["langgraph>=1.2", "langgraph-checkpoint-sqlite"],
    "burr": ["apache-burr>=0.42"],
    "dbos": ["dbos>=2"],
    "kishu": ["kishu==0.3.4", "pyarrow"],
}
"""What a user would install for the workloads here, and nothing else: import times are measured in it too."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, whether or not it was made."""
    return ENVS / peer / "bin" / "python"


def make(peer: str) -> None:
    """Install a peer, once."""
    done = ENVS / peer / "made"
    if done.exists():
        return
    print(f"making {done.parent}", flush=True)
    venv.create(done.parent, with_pip=True, clear=True)
    subprocess.run([python_of(peer), "-m", "pip", "install", "--quiet", "--compile", *PACKAGES[peer]], check=True)
    done.touch()


def main() -> None:
    for peer in sys.argv[1:] or PACKAGES:
        make(peer)


if __name__ == "__main__":
    main()
