"""Twenty questions on the lineage that `kitaru demo` leaves behind: what made this, what depends on it.

The packages that it audits are four that are written here, so that the answers can be written here too. Each answer was
found by reading `kitaru/demo/audit.py`, not by asking.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

import kitaru
from kitaru.lineage_text import node_of
from kitaru.stores import LocalStore

pytestmark = pytest.mark.process

ROOT = str(Path(__file__).parents[1])

# In the order of their names, which is that of the steps inside of others: what each declares, and its licence file.
INSTALLED = {
    "alphabetical-kit": ("License-Expression: MIT\nRequires-Dist: bettering-tools", "Copyright 2024 A\nAs you like."),
    "bettering-tools": ("License: GPLv3+", "Copyright 2023 B\nShare alike."),
    "calculating-all": ("Classifier: License :: OSI Approved :: MIT License", None),
    "doubtful-things": ("Summary: says nothing of its licence", "Copyright 1999 D\nAsk my lawyer."),
}

# Stands on the path of the demo's processes as sitecustomize.py; the demonstration itself knows nothing of it.
NARROW = """
import os
from importlib import metadata
from types import SimpleNamespace

from kitaru.demo import audit

def distributions(**which):
    return metadata.distributions(path=[os.environ["INSTALLED"]], **which)

def distribution(name):
    return next(iter(distributions(name=name)))

audit.metadata = SimpleNamespace(distributions=distributions, distribution=distribution)
"""


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """`kitaru demo` has killed an audit of these packages and resumed it: the lineage, data alone."""
    folder = tmp_path_factory.mktemp("demo")
    for name, (declared, text) in INSTALLED.items():
        info = folder / "installed" / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{declared}\n")
        files = [f"{info.name}/METADATA,,"]
        if text is not None:
            (info / "LICENSE").write_text(text)
            files.append(f"{info.name}/LICENSE,,")
        (info / "RECORD").write_text("\n".join(files))
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(NARROW)
    store = folder / "store"
    said = subprocess.run(
        [sys.executable, "-m", "kitaru", "demo", "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(folder / "path"), ROOT]),
            "INSTALLED": str(folder / "installed"),
            "KITARU_STORE": str(store),
        },
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    facts = json.loads(said.stdout)
    assert facts["ok"]
    assert facts["packages"] == 4
    return kitaru.lineage(facts["exec_id"], store=LocalStore(store), after=False)


# ---------------------------------------------------------------- how questions are put


def label(g, node):
    """How a person calls a node: a step's path, or whose output or input a value is."""
    a = g.nodes[node]
    return a["label"] if a["kind"] == "checkpoint" else a["ref"].partition(":")[2]


def steps(g, nodes):
    return {label(g, n) for n in nodes if g.nodes[n]["kind"] == "checkpoint"}


def made_by(g, ref):
    return steps(g, nx.ancestors(g, node_of(g, ref)))


def needed_by(g, ref):
    return steps(g, nx.descendants(g, node_of(g, ref)))


def read_by(g, step):
    """Of each argument, whose value it was."""
    return {a["role"]: label(g, v) for v, _, a in g.in_edges(node_of(g, step), data=True) if a["relation"] == "used"}


def tied(g, ref, role):
    return {label(g, v) for v, _, a in g.in_edges(node_of(g, ref), data=True) if a["role"] == role}


def inside(g, step):
    """The steps that run inside of a step."""
    return {a["label"] for _, a in g.nodes(data=True) if a.get("parent") == node_of(g, step)}


# ---------------------------------------------------------------- the questions

FOUR = range(1, 5)
READ = {f"read_licences#1/read_texts#{n}" for n in FOUR}
VERDICTS = {f"classify#1/classify_one#{n}" for n in FOUR}
ASKED = {"review_unclear#1/ask_model#1"}  # of the one that says nothing
RULED = {"check_policy#1", "find_conflicts#1", "notices#1", "score#1", "summarise#1", "write_report#1"}
TOP = RULED | {"collect#1", "read_licences#1", "normalise#1", "classify#1", "find_unclear#1", "review_unclear#1"}
TO_RULINGS = (TOP - RULED) | READ | VERDICTS | ASKED | {"check_policy#1"}
LAST = "read_licences/read_texts#4.output"  # the licence file of the package in doubt

QUESTIONS = {
    "which steps made the report?": (lambda g: made_by(g, "report"), TOP | READ | VERDICTS | ASKED),
    "is the saved report the flow's result?": (lambda g: node_of(g, "report") == node_of(g, "result"), True),
    "which step wrote it?": (lambda g: steps(g, g.predecessors(node_of(g, "report"))), {"write_report#1"}),
    "from what was it written?": (
        lambda g: read_by(g, "write_report"),
        {
            "summary": "summarise#1.output",
            "packages": "collect#1.output",
            "rulings": "check_policy#1.output",
            "conflicts": "find_conflicts#1.output",
            "attributions": "notices#1.output",
        },
    ),
    "what made the claims?": (lambda g: made_by(g, "normalise.output"), {"collect#1", "normalise#1"}),
    "what made the rulings?": (lambda g: made_by(g, "check_policy.output"), TO_RULINGS),
    "what made the notices?": (lambda g: made_by(g, "notices.output"), TO_RULINGS | {"notices#1"}),
    "where do the names come from, of which the licences are read?": (
        lambda g: tied(g, "read_licences.in.names", "items"),
        {"collect#1.output"},
    ),
    "where was the first of those names taken out of?": (
        lambda g: tied(g, "read_licences/read_texts#1.in.name", "whole"),
        {"read_licences#1.in.names"},
    ),
    "what are the licence texts put together from?": (
        lambda g: {part for part in tied(g, "read_licences.output", "part") if part.endswith(".output")},
        {f"{step}.output" for step in READ},
    ),
    "what are the verdicts put together from?": (
        lambda g: {part for part in tied(g, "classify.output", "part") if part.endswith(".output")},
        {f"{step}.output" for step in VERDICTS},
    ),
    "whose texts did the second verdict read?": (
        lambda g: read_by(g, "classify/classify_one#2")["texts"],
        "read_licences#1/read_texts#2.output",
    ),
    "where was its claim taken out of?": (
        lambda g: tied(g, "classify/classify_one#2.in.claim", "whole"),
        {"normalise#1.output"},
    ),
    "what did the search for conflicts read?": (
        lambda g: read_by(g, "find_conflicts"),
        {"packages": "collect#1.output", "rulings": "check_policy#1.output"},
    ),
    # The model's question quotes it too, but is put together by the code of review_unclear: that leaves no trace.
    "what depends on the last package's licence file?": (
        lambda g: needed_by(g, LAST),
        RULED | {"classify#1", "classify#1/classify_one#4", "find_unclear#1", "review_unclear#1"},
    ),
    "what depends on the model's answer?": (lambda g: needed_by(g, "review_unclear/ask_model.output"), RULED),
    "what depends on the conflicts?": (
        lambda g: needed_by(g, "find_conflicts.output"),
        {"score#1", "summarise#1", "write_report#1"},
    ),
    "what depends on the limit, with what runs inside of it?": (
        lambda g: (found := needed_by(g, "collect.in.limit")).union(*(inside(g, step) for step in found)),
        TOP | READ | VERDICTS | ASKED,
    ),
    "who called a model, and how often?": (
        lambda g: [a["label"] for _, a in g.nodes(data=True) if a.get("type") == "llm_call" and a["tokens"] > 0],
        [*ASKED],
    ),
    "which step was begun twice, since the first process was killed in it?": (
        lambda g: [a["label"] for _, a in g.nodes(data=True) if a["kind"] == "checkpoint" and a.get("attempts") == 2],
        ["summarise#1"],
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_on_the_demo_is_answered_right(demonstrated, question):
    ask, answer = QUESTIONS[question]
    assert ask(demonstrated) == answer


def test_there_are_twenty_of_them():
    assert len(QUESTIONS) == 20
