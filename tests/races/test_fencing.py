"""A partitioned owner that wakes up after another process took over records nothing more."""

from __future__ import annotations

import os
import signal

import pytest

from kitaru.ownership import looks_alive, state_of
from kitaru.reading import read_journal

from ..journal.scene import check
from .field import Field, expect


def looks_dead(field):
    reading = read_journal(field.client.store, field.exec_id)
    return not looks_alive(field.client.store, reading, state_of(reading.segments))


def hold(field, step, go):
    """An owner that stays in the body of `step` until the file `go` exists."""
    owner = field.start("begin" if not field.ran() else "resume", KITARU_HEARTBEAT="2", RACE_HOLD=step, RACE_GO=str(go))
    expect(lambda: (int(step), owner.pid) in field.ran(), "it has not come to the step")
    return owner


@pytest.mark.process
def test_an_owner_that_was_stopped_beyond_its_lease_is_fenced_when_it_goes_on(tmp_path):
    """Twice at once: the execution that was taken over has completed, or is under way, when the first one wakes."""
    fields = [Field(tmp_path, str(tmp_path / "runs"), name) for name in ("completed", "midway")]
    go, go_second = tmp_path / "go", tmp_path / "go-second"
    processes = [hold(field, "2", go) for field in fields]
    try:
        # What nobody waits for is durable as well by the time a step has run for a moment.
        for field in fields:
            expect(lambda f=field: len(f.execution().checkpoints) == 3, "the step in flight is not in the journal")
        start = tmp_path / "start"  # who comes early must come before the lease runs out
        early = fields[0].start("resume", RACE_START=str(start))
        processes.append(early)
        expect(lambda: [*tmp_path.glob("start.*")], "nobody is ready")
        for process in processes[:2]:
            os.kill(process.pid, signal.SIGSTOP)
        start.touch()
        code, said = fields[0].end(early)
        assert (code, said[:20]) == (4, "ExecutionOwnedError:"), said
        for field in fields:
            expect(lambda f=field: looks_dead(f), "its lease does not run out")

        second = fields[0].start("resume")
        processes.append(second)
        assert fields[0].end(second)[0] == 0
        midway = hold(fields[1], "2", go_second)
        processes.append(midway)

        for process in processes[:2]:
            os.kill(process.pid, signal.SIGCONT)
        go.touch()
        for field, process in zip(fields, processes[:2], strict=True):
            code, said = field.end(process)
            assert (code, said[:21]) == (4, "ExecutionFencedError:"), said
            assert "was taken over by another process" in said
        go_second.touch()
        assert fields[1].end(midway)[0] == 0

        for field, first, other in zip(fields, processes[:2], (second, midway), strict=True):
            execution = field.execution()
            assert execution.status.value == "completed"
            firsts, others = [[0, first.pid], [1, first.pid]], [[i, other.pid] for i in range(2, 6)]
            assert execution.result == firsts + others  # nothing that the first one did after its pause
            assert field.times() == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}
            check(field.client.store, field.exec_id)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
