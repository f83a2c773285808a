"""Many processes resume one execution at once: one goes on, and the others are refused or see it finished."""

from __future__ import annotations

import signal

import pytest

from ..journal.scene import check
from .field import Field


def has_one_winner(field, ends):
    """One process ran what was left, each step once; all others were refused, or saw it finished."""
    assert {code for code, _ in ends} <= {0, 4}, ends
    for code, said in ends:
        assert code == 0 or said.startswith("ExecutionOwnedError: race-1 is run by"), said
    assert any(code == 0 for code, _ in ends)
    execution = field.execution()
    assert execution.status.value == "completed"
    assert [c.label for c in execution.checkpoints] == [f"step#{i}" for i in range(1, 7)]
    assert [c.status for c in execution.checkpoints] == ["completed"] * 6
    assert [i for i, _ in execution.result] == [*range(6)]
    assert {tuple(pair) for pair in execution.result} <= set(field.ran())
    check(field.client.store, "race-1")


def resumed_after_a_kill(field, count):
    code, _ = field.end(field.start("begin", RACE_DIE="2"))
    assert code == -signal.SIGKILL
    killed = field.ran()
    assert [i for i, _ in killed] == [0, 1, 2]
    ends = field.race("resume", count, RACE_HOLD="3", RACE_GO=str(field.folder / "go"))
    has_one_winner(field, ends)
    assert any(code == 4 for code, _ in ends)
    after = field.ran()[3:]
    assert len({pid for _, pid in after}) == 1, "two processes ran steps"
    assert [i for i, _ in after] == [2, 3, 4, 5]


@pytest.mark.process
def test_of_32_processes_that_resume_one_execution_one_goes_on(tmp_path):
    resumed_after_a_kill(Field(tmp_path, str(tmp_path / "runs")), 32)


@pytest.mark.process
def test_processes_that_run_one_name_at_once_run_each_step_once(tmp_path):
    field = Field(tmp_path, str(tmp_path / "runs"))
    ends = field.race("named", 8)
    assert [code for code, _ in ends] == [0] * 8  # a named run waits, and gives the result
    has_one_winner(field, ends)
    assert field.times() == dict.fromkeys(range(6), 1)


@pytest.mark.process
@pytest.mark.s3
def test_of_8_processes_that_resume_one_execution_on_s3_one_goes_on(tmp_path, moto_s3):
    resumed_after_a_kill(Field(tmp_path, moto_s3().url), 8)
