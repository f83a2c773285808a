"""Kishu's own published notebooks, recorded by Kitaru: ``python benchmarks/kishu_notebooks.py DIR [NAME …]``.

DIR is `kishu/tests/notebooks` of a checkout of github.com/illinoisdata/kishu, or that repository's git directory.
Each notebook is run cell by cell in an in-process shell, three times in processes of their own: without Kitaru, again
without (what differs between these two, times and addresses, differs by itself), and under `%kitaru record on`. What
the cells print, show and raise must be the same. Then every variable is compared with what it was, after a checkout of
the middle, and of the end. By hand: it needs scikit-learn and matplotlib, and a minute or two.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "kishu/tests/notebooks"
CANNOT = {
    "ml-ex3": "reads a file that is not published",
    "sklearn_tweet_classification": "reads a file that is not published",
    "nbexec_test_case_4": "fetches a data set",
    "QiskitDemo_NCSA_May2023": "needs a qiskit of 2023",
}
SEEDED = "import random as _r, numpy as _n; _r.seed(0); _n.random.seed(0)"
"""The same random numbers in each run, where a notebook does not choose them itself."""

_BY_ITSELF = re.compile(
    r"Out\[\d+\]|0x[0-9a-f]+|\x1b\[[0-9;]*m|In\[\d+\]|Cell In\s*\[\d+\]|<ipython-input-[^>]*>|line \d+"
)
_OURS = re.compile(r"^kitaru: .* failed\. What it had: .*\n", re.MULTILINE)


# ---------------------------------------------------------------- in a process of its own


def summary(value: Any) -> str:
    """What a value is, by its content; the type's name of what has none that can be compared."""
    import numpy as np
    import pandas as pd

    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()[:16]}"
    if isinstance(value, pd.DataFrame | pd.Series):
        return f"{type(value).__name__} {hashlib.sha256(value.to_json().encode()).hexdigest()[:16]}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {summary(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(summary, value))})"
    if type(value).__module__.startswith("sklearn"):
        return f"{type(value).__name__} {summary(vars(value))}"
    text = repr(value)
    return type(value).__name__ if " at 0x" in text or " object " in text else text


def variables(ip: Any) -> dict[str, str]:
    """Of the user's variables, what each is."""
    hidden = {*ip.user_ns_hidden, "In", "Out", "exit", "quit", "get_ipython", "open"}
    return {n: summary(v) for n, v in list(ip.user_ns.items()) if n not in hidden and n[:1] != "_"}


def shell() -> Any:
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    made = InteractiveShell.instance()
    made.history_manager.enabled = False
    made.colors = "nocolor"
    made.enable_gui = lambda gui=None: None  # for %matplotlib
    made.display_pub = CapturingDisplayPublisher()
    return made


def run(cells: list[str], store: str | None) -> dict[str, Any]:
    """Run a notebook; with `store`, recorded there, and go back to its middle and to its end."""
    ip = shell()

    def cell(code: str) -> dict[str, Any]:
        out, err = io.StringIO(), io.StringIO()
        ip.display_pub.outputs.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            began = time.perf_counter()
            result = ip.run_cell(code, store_history=True)
            took = time.perf_counter() - began
        error = result.error_before_exec or result.error_in_exec
        shown = [{m: (len(d) if "image" in m else d) for m, d in o["data"].items()} for o in ip.display_pub.outputs]
        return {
            "out": out.getvalue(),
            "err": _OURS.sub("", err.getvalue()),
            "said": "\n".join(line for line in err.getvalue().splitlines() if line.startswith("kitaru:")),
            "shown": shown,
            "error": f"{type(error).__name__}: {error}" if error is not None else "",
            "took": took,
        }

    cell(SEEDED)
    if store is not None:
        cell(f"%load_ext kitaru\n%kitaru connect {store}")
        cell("%kitaru record on")
    ran, states = [], {}
    for code in cells:
        ran.append(cell(code))
        states[len(states) if store is None else newest()] = variables(ip)
    done: dict[str, Any] = {"cells": ran, "end": variables(ip), "took": sum(c["took"] for c in ran)}
    if store is not None:
        done["checkouts"] = travelled(ip, cell, states)
        done["bytes"] = sum(p.stat().st_size for p in Path(store).rglob("*") if p.is_file())
    return done


def newest() -> str:
    """The newest checkpoint's path; none before the first one."""
    from kitaru import KitaruClient

    executions = KitaruClient().executions.list(flow="notebook", limit=1)
    checkpoints = KitaruClient().executions.get(executions[0].exec_id).checkpoints if executions else []
    return checkpoints[-1].label if checkpoints else ""


def travelled(ip: Any, cell: Any, states: dict[Any, dict[str, str]]) -> list[dict[str, Any]]:
    """Go to the middle, to the end, and to the middle again; what is not as it was."""
    from kitaru import KitaruClient

    last = KitaruClient().executions.latest(flow="notebook")
    checkpoints = last.checkpoints
    lost = {n for c in checkpoints for n in (c.data.notes or {}).get("unrestorable", {})} if checkpoints else set()
    completed = [c for c in checkpoints if c.status == "completed"]
    recorded = {
        n for c in completed for n in (*(a.name for a in c.artifacts), *(c.data.notes or {}).get("imports", {}))
    }
    recorded = {n.rpartition(".")[2] for n in recorded}
    done = []
    good = [i for i, c in enumerate(checkpoints) if c.status == "completed"]
    for at in (good[len(good) // 2], good[-1], good[len(good) // 2]) if good else ():
        ran = cell(f"%kitaru checkout {last.exec_id}:{checkpoints[at].label}")
        now, was = variables(ip), states[checkpoints[at].label]
        names = {*was, *(now.keys() & recorded)}  # what only a failed cell has bound is the user's own, and stays
        differ = sorted(n for n in names if now.get(n) != was.get(n) and n not in lost)
        done.append({"to": checkpoints[at].label, "said": ran["out"] + ran["err"] + ran["error"], "differ": differ})
        for n in differ[:3]:
            done[-1].setdefault("detail", []).append((n, was.get(n, "-")[:200], now.get(n, "-")[:200]))
    return [*done, {"to": "", "said": "", "differ": [], "unrestorable": sorted(lost)}]


# ---------------------------------------------------------------- all of them


def published(where: str) -> dict[str, list[str]]:
    """The code cells of each notebook, by its name."""
    if (folder := Path(where)).is_dir() and any(folder.glob("*.ipynb")):
        texts = {p.stem: p.read_text() for p in sorted(folder.glob("*.ipynb"))}
    else:

        def git(*args: str) -> str:
            return subprocess.run(["git", "-C", where, *args], capture_output=True, text=True, check=True).stdout

        names = git("ls-tree", "--name-only", "HEAD", f"{FOLDER}/").splitlines()
        texts = {Path(n).stem: git("show", f"HEAD:{n}") for n in names if n.endswith(".ipynb")}
    return {
        name: ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        for name, text in texts.items()
    }


def apart(cells: list[str], store: str | None) -> dict[str, Any]:
    """The same as `run`, in a process and a folder of its own."""
    env = {**os.environ, "MPLBACKEND": "agg", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as work:
        code = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--inside", *([store] if store else [])]
        done = subprocess.run(code, input=json.dumps(cells), capture_output=True, text=True, cwd=work, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def plain(part: Any) -> str:
    """What a cell left, without what is another in each run."""
    return _BY_ITSELF.sub("·", json.dumps({k: part[k] for k in ("out", "err", "shown", "error")}))


def compared(name: str, cells: list[str]) -> str:
    """A line of the table; what differs is printed."""
    bare, again = apart(cells, None), apart(cells, None)
    with tempfile.TemporaryDirectory() as folder:
        ours = apart(cells, f"{folder}/store")
    pairs = list(zip(bare["cells"], again["cells"], ours["cells"], strict=True))
    itself = {i for i, (a, b, _) in enumerate(pairs) if plain(a) != plain(b)}
    differ = [i for i, (a, _, c) in enumerate(pairs) if plain(a) != plain(c) and i not in itself]
    for i in differ:
        without, recorded = (plain(pairs[i][n])[:600] for n in (0, 2))
        print(f"{name}, cell {i}:\n{cells[i][:300]}\n  without: {without}\n  with:    {recorded}")
    for i, (_, _, c) in enumerate(pairs):
        if c["said"] and "failed. What it had" not in c["said"]:
            print(f"{name}, cell {i}: {c['said']}")
    for checkout in ours["checkouts"]:
        if checkout["differ"] or "error" in checkout["said"].lower():
            print(f"{name}, at {checkout['to']}: {checkout}")
    end = [n for n in bare["end"] if bare["end"][n] == again["end"][n] != ours["end"].get(n)]
    print(name, "variables at the end that differ:", end) if end else None
    failing = sum(bool(a["error"]) for a, _, _ in pairs)
    lost = ours["checkouts"][-1]["unrestorable"]
    as_was = "as it was" if not any(c["differ"] for c in ours["checkouts"]) else "**differs**"
    same = f"{len(cells) - len(differ)} of {len(cells)}"
    return (
        f"| {name} | {len(cells)} | {failing} | {same} | {len(itself)} | {as_was} | {', '.join(lost) or '–'} "
        f"| {bare['took']:.1f} s | {ours['took']:.1f} s | {ours['bytes'] / 1e6:.1f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--inside", nargs="?", const="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside is not None:
        print(json.dumps(run(json.load(sys.stdin), asked.inside or None)))
        return
    if asked.dir is None:
        parser.error("give the folder of the notebooks")
    head = (
        "| notebook | cells | of them fail in any case | the same outputs | differ by themselves | middle, end, middle "
        "| not restorable | without | recorded | kept |"
    )
    lines = [head, "|---" * 10 + "|"]
    for name, cells in published(asked.dir).items():
        if asked.names and name not in asked.names:
            continue
        of_kishu = any("kishu" in cell for cell in cells)
        why = "is about Kishu's own commands" if of_kishu else CANNOT.get(name, "")
        lines.append(f"| {name} | {len(cells)} | {why}: left out |" + " |" * 7 if why else compared(name, cells))
        print(lines[-1], flush=True)
    print("\n".join(["", *lines]))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
