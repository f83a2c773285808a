"""`kitaru repeat`, stepping with `kitaru resume --until/--steps`, and `kitaru lineage --graphml`."""

from __future__ import annotations

import networkx as nx
import pytest

pytestmark = pytest.mark.process

SCRIPT = """\
from kitaru import checkpoint, flow


@checkpoint
def collect(count):
    return [f"package {n}" for n in range(count)]


@checkpoint
def classify(package):
    print("classifies", package)
    return {"licence": f"licence of {package}"}


@flow
def stepped(count):
    return [classify(package)["licence"] for package in collect(count)]


if __name__ == "__main__":
    stepped.options(exec_id="stepped-1", until="classify#1").run(3)
"""


@pytest.fixture
def paused(here, run_script):
    (here / "stepped.py").write_text(SCRIPT)
    said = run_script("stepped.py")
    assert said.code == 0
    assert "stepped-1 paused before classify#1" in said.err
    return "stepped-1"


def test_single_steps_end_with_three_until_the_flow_has_ended(kitaru, paused):
    first = kitaru("resume", paused, "--steps", "1")
    assert (first.code, first.out) == (3, "classifies package 0\n")
    assert "paused before classify#2" in first.err
    second = kitaru("resume", paused, "--until", "classify#3", "--json")
    assert (second.code, second.document["status"]) == (3, "paused")
    last = kitaru("resume", paused)
    assert last.code == 0
    assert "classifies package 2" in last.out
    assert "licence of package 2" in last.out


def test_a_step_is_repeated_from_the_command_line(kitaru, paused):
    assert kitaru("resume", paused).code == 0
    said = kitaru("repeat", f"{paused}:classify#2", "-n", "3")
    assert said.code == 0
    assert "classify#2: 3 runs, the same every time; 100% as recorded" in said.out
    document = kitaru("repeat", "classify#2", "-n", "2", "--json").document
    assert (document["runs"], document["agreement"]) == (2, 1.0)
    assert kitaru("repeat", paused).code == 2


def test_the_lineage_is_written_as_graphml(kitaru, here, paused):
    assert kitaru("resume", paused).code == 0
    said = kitaru("lineage", paused, "--graphml", "lineage.graphml")
    assert (said.code, said.out) == (0, "")
    graph = nx.read_graphml(here / "lineage.graphml", force_multigraph=True)
    assert f"{paused}:classify#2" in graph
    refused = kitaru("lineage", paused, "--graphml", "no/such/folder/x.graphml")
    assert refused.code == 2
    assert "--graphml no/such/folder" in refused.err
