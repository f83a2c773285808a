"""`kitaru diff` and `%kitaru diff`."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from kitaru import checkpoint, flow
from kitaru.cli.app import app
from kitaru.stores.local import LocalStore


@checkpoint
def table(rows):
    return pd.DataFrame({"id": [*rows], "v": [r * 2 for r in rows]})


@checkpoint
def count(frame):
    return len(frame)


@flow
def run(rows):
    return count(table(rows))


@pytest.fixture
def place(tmp_path, connected):
    connected(LocalStore(str(tmp_path)))
    run.options(exec_id="first").run([1, 2])
    run.options(exec_id="second").run([2, 1, 3])
    run.options(exec_id="third").run([1, 2])
    return str(tmp_path)


@pytest.fixture
def said(place):
    def call(*args):
        result = CliRunner().invoke(app, ["diff", *args, "--store", place], prog_name="kitaru")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_two_executions(said):
    result = said("first", "second")
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "run: 2 steps: 2 changed  first -> second"
    assert "table  " in result.output


def test_the_exit_code_is_for_those_who_ask(said):
    assert said("first", "second", "--exit-code").exit_code == 1
    assert said("first", "third", "--exit-code").exit_code == 0
    assert said("first", "nobody", "--exit-code").exit_code == 2


def test_a_document(said):
    document = json.loads(said("first", "second", "--json").output)
    assert (document["kind"], document["same"], document["counts"]["changed"]) == ("execution", False, 2)
    assert [step["verdict"] for step in document["steps"]] == ["changed"] * 3


def test_values_with_keys(said):
    out = said("first:table", "second:table", "--keys", "id").output
    assert "2 -> 3 rows; 1 added" in out
    assert "+ [id=3]" in out
    assert "+ [id=3]" in said("first", "second", "--values", "--keys", "id").output
    wrong = said("first:table", "second:table", "--keys", "uid")
    assert wrong.exit_code == 2
    assert "names no column of both tables; there are: id, v" in wrong.output


def test_the_magic(cells):
    run.options(exec_id="first").run([1, 2])
    run.options(exec_id="second").run([2, 1, 3])
    ran = cells("%kitaru diff first second")
    assert ran.text.startswith("run: 2 steps: 2 changed\n")
    assert 'class="kitaru kitaru-diff"' in ran.html
    assert "[id=3]" in cells("%kitaru diff first:table second:table --keys id").html
    assert "[id=3]" in cells("%kitaru diff first second --values --keys id").html
    ran = cells("%kitaru diff first second --limit 3")
    assert "%kitaru diff: unrecognized arguments: --limit 3" in ran.out + ran.err
    ran = cells("%kitaru diff first")
    assert "%kitaru diff: the following arguments are required: b" in ran.out + ran.err


def test_the_steps_of_the_notebook_itself(cells):
    cells("%%kitaru_step draft\ntext = 'a quick fox'")
    cells("%%kitaru_step draft\ntext = 'a slow fox'")
    assert "a [-quick-]{+slow+} fox" in cells("%kitaru diff draft draft#2").text
