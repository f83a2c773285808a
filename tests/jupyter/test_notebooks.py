"""The notebooks run as they are written, and what they show is what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FIRST = NOTEBOOKS / "01_first_run.ipynb"
ALL = sorted(NOTEBOOKS.glob("*.ipynb"))


def nbval(notebook, tmp_path, **environment):
    """Run a notebook in a process of its own, and compare every output with the stored one."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "AWS_", "COV_"))}
    own = {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TMPDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "rt"),
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(NOTEBOOKS / "sanitize.cfg"),
         "-p", "no:cacheprovider", "-q", "-c", os.devnull, str(notebook)],
        cwd=tmp_path, env=clean | own | environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def code_cells(notebook):
    return [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.mark.process
@pytest.mark.s3
@pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.stem)
def test_a_notebook_shows_what_it_says_on_s3(notebook, tmp_path, moto_s3):
    """On a folder `pytest --nbval notebooks` shows it, as .ci/run does."""
    bucket = f"s3://{moto_s3.server.bucket}/{tmp_path.name}"
    ran = nbval(notebook, tmp_path, KITARU_STORE=bucket, **moto_s3.server.environment)
    assert ran.returncode == 0, ran.stdout[-5000:]
    listed = moto_s3.client.list_objects_v2(Bucket=moto_s3.server.bucket, Prefix=f"{tmp_path.name}/executions/")
    assert listed["KeyCount"], f"it recorded in {bucket}, as it was told"


@pytest.mark.process
def test_a_value_that_was_recorded_otherwise_is_seen(tmp_path):
    """One value of what a step bound, another one in the text that a magic showed of it."""
    text = FIRST.read_text()
    changed = re.sub(r"('boto3': ')keep its notice(',)", r"\1keep it quiet\2", text)
    assert changed != text
    copy = tmp_path / "changed.ipynb"
    copy.write_text(changed)
    ran = nbval(copy, tmp_path)
    assert ran.returncode == 1
    assert "keep it quiet" in ran.stdout
    failed = int(re.search(r"(\d+) failed", ran.stdout)[1])
    assert 1 <= failed <= 3, "and nothing else fails"


@pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.stem)
def test_at_most_a_fifth_of_the_cells_ignore_their_output_each_with_the_reason(notebook):
    cells = code_cells(notebook)
    ignoring = []
    for cell in cells:
        source = "".join(cell["source"])
        tags = cell["metadata"].get("tags", [])
        assert not {"nbval-ignore-output", "nbval-skip"} & set(tags), "say it in the cell, where the reason can stand"
        assert "NBVAL_SKIP" not in source
        if marker := re.search(r"^# NBVAL_IGNORE_OUTPUT\n(.*)", source, re.MULTILINE):
            ignoring.append(source)
            assert marker[1].startswith("# "), "the line below says why"
    assert len(ignoring) <= len(cells) / 5


@pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.stem)
def test_a_notebook_is_stored_as_it_was_run_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    prose = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "markdown"]
    assert len(prose) >= len(cells) / 2, "it reads like documentation"


@pytest.mark.parametrize("notebook", ALL, ids=lambda n: n.stem)
def test_run_all_goes_on_behind_a_cell_that_is_meant_to_fail(notebook):
    """A usage error is no error among the outputs, and yet a front end stops there."""
    for cell in code_cells(notebook):
        assert "NBVAL_RAISES_EXCEPTION" not in "".join(cell["source"]), "the tag says it, to nbval too"
        fails = any(
            output["output_type"] == "error" or "".join(output.get("text", "")).startswith("UsageError: ")
            for output in cell["outputs"]
        )
        assert fails == ("raises-exception" in cell["metadata"].get("tags", []))
