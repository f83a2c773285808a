"""The show: a process runs the audit and is killed, another one resumes it, and the records tell what that came to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..client import Checkpoint, Execution, ExecutionStatus, KitaruClient
from ..errors import KitaruError, UsageError
from ..ids import new_exec_id
from ..location import prepare
from ..refs import format_address
from .audit import STEPS, audit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..stores.base import Store

__all__ = ["Facts", "Resumed", "perform"]

_PATIENCE = 120.0  # seconds for one process; a machine may be slow


@dataclass(slots=True)
class Resumed:
    """What happened in a show in which one process begins the audit, and a second one ends it.

    Attributes
    ----------
    kept, ran : list of str
        The steps directly in the flow that the second process found finished, and those that it ran.
    inner_kept : int
        Steps inside of those in `kept`.
    saved : float
        Seconds that the kept steps had taken.
    problems : list of str
        What was not as promised. Empty where all is well.
    """

    exec_id: str
    store: str
    limit: int
    packages: int = 0
    first_pid: int = 0
    second_pid: int = 0
    kept: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    inner_kept: int = 0
    saved: float = 0.0
    report: str = ""
    problems: list[str] = field(default_factory=list)

    def told(self, between: Mapping[str, Any], *, resumed: bool = True) -> dict[str, Any]:
        """As plain data, with what happened between the two processes; `resumed`: whether there was a second one."""
        went_on = {
            "pid": self.second_pid,
            "reused": len(self.kept),
            "ran": len(self.ran),
            "inner_reused": self.inner_kept,
            "saved_seconds": self.saved,
            "steps_reused": self.kept,
            "steps_ran": self.ran,
        }
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "exec_id": self.exec_id,
            "store": self.store,
            "limit": self.limit,
            "packages": self.packages,
            **between,
            "resumed": went_on if resumed else None,
            "report": self.report,
        }


@dataclass(slots=True, kw_only=True)
class Facts(Resumed):
    """What happened in the show of a run that is killed in a step."""

    step: int
    killed_in: str

    def to_json(self) -> dict[str, Any]:
        """The facts as plain data; the keys are stable."""
        killed = {"signal": "SIGKILL", "pid": self.first_pid, "number": self.step, "step": self.killed_in}
        return self.told({"steps": len(STEPS), "killed": killed})


def perform(store: Store, limit: int, step: int, tell: Callable[[str, Facts], None], model: str | None = None) -> Facts:
    """Run the audit in a process, kill that in the body of a step, and resume it in another one.

    Parameters
    ----------
    limit
        How many of the installed packages are audited.
    step
        In which of the twelve steps the first process is killed, from 1.
    tell
        Called as things happen: with ``"running"``, ``"killed"``, ``"resumed"``, and the facts as known by then.
    model
        Who judges what is unclear, as `kitaru.llm` takes it; the built-in rules when left out.

    Raises
    ------
    UsageError
        Where there is no SIGKILL, or the store is this process's memory.
    """
    if not hasattr(signal, "SIGKILL"):
        raise UsageError(
            "the demo kills a process with SIGKILL, which Windows does not have: run it in WSL or on Linux"
        )
    if store.url.startswith("memory:"):
        raise UsageError(
            "the demo runs in two processes, and memory:// is one process's own: name a folder or a bucket"
        )
    prepare(store)
    exec_id = new_exec_id(audit.name)
    facts = Facts(exec_id=exec_id, store=store.url, limit=limit, step=step, killed_in=STEPS[step - 1].name)
    client = KitaruClient(store)
    _run_and_kill(facts, client, tell, model)
    before = client.executions.get(exec_id)
    tell("killed", facts)
    answer = _resume(facts)
    after = client.executions.get(exec_id)
    _compare(facts, before, after, answer, [s.name for s in STEPS], facts.step - 1)
    tell("resumed", facts)
    return facts


def _environment(**more: str) -> dict[str, str]:
    """This process's environment without what it says about executions; nobody else's standard input is read."""
    taken = {"KITARU_STORE", "KITARU_EXEC_ID", "KITARU_INPUTS"}
    return {name: value for name, value in os.environ.items() if name not in taken} | more


def _run_and_kill(facts: Facts, client: KitaruClient, tell: Callable[[str, Facts], None], model: str | None) -> None:
    command = [sys.executable, "-m", "kitaru.demo.worker", facts.exec_id, str(facts.limit), str(facts.step)]
    command += [model] if model else []
    with _process(command, _environment(KITARU_STORE=facts.store)) as first:
        facts.first_pid = first.pid
        tell("running", facts)
        assert first.stdout is not None
        said = first.stdout.readline().strip()
        if said != f"in step {facts.step}":
            first.wait(_PATIENCE)
            raise KitaruError(
                f"the demo's first process ended with {first.returncode} before step {facts.step}: see above, and "
                f"`kitaru log {facts.exec_id}`"
            )
        _await_start(client, facts)
        first.send_signal(signal.SIGKILL)
        first.wait(_PATIENCE)
    if first.returncode != -signal.SIGKILL:
        facts.problems.append(f"the first process ended with {first.returncode}, not by SIGKILL")


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], *, quiet: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A process that never outlives this one's interest in it; `quiet`: what it says is not shown."""
    process = subprocess.Popen(  # noqa: S603  # this interpreter, on this package
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        text=True,
        env=dict(environment),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _await_start(client: KitaruClient, facts: Facts) -> None:
    """Until the records say, too, that the step was begun: that goes up a moment after its body began."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        steps = _steps(client.executions.get(facts.exec_id))
        if steps and steps[-1].name == facts.killed_in and steps[-1].status == "running":
            return
        time.sleep(0.05)
    facts.problems.append(f"the start of {facts.killed_in} was not recorded within 10 s")


def _resume(facts: Resumed) -> dict[str, Any]:
    """A second process is given nothing but the store and the exec_id, and goes on."""
    command = [sys.executable, "-m", "kitaru", "resume", format_address(facts.store, facts.exec_id), "--json"]
    for more in ([], ["--take-over"]):
        with _process(command + more, _environment()) as second:
            facts.second_pid = second.pid
            text, _ = second.communicate(timeout=_PATIENCE)
        # Where the system does not tell which processes live, the first one looks alive for a while; here it is known
        # to be gone.
        if second.returncode != 4:
            break
    if second.returncode != 0:
        facts.problems.append(f"the second process ended with {second.returncode}")
    try:
        answer = json.loads(text)
    except ValueError:
        facts.problems.append("the second process gave no JSON")
        return {}
    return answer if isinstance(answer, dict) else {}


def _steps(execution: Execution) -> list[Checkpoint]:
    """The checkpoints directly in the flow."""
    return [c for c in execution.checkpoints if c.data.parent is None]


def _compare(
    facts: Resumed,
    before: Execution,
    after: Execution,
    answer: Mapping[str, Any],
    expected: list[str],
    finished_before: int,
) -> None:
    """Hold what was promised against the records: these steps, of which so many are reused."""
    finished = {c.label: c for c in before.checkpoints if c.status == "completed"}
    now = {c.label: c for c in after.checkpoints}
    top = _steps(after)
    facts.kept = [c.name for c in top if c.label in finished]
    facts.ran = [c.name for c in top if c.label not in finished and c.data.opened is None]  # a wait runs nothing
    facts.inner_kept = sum("/" in label for label in finished)
    facts.saved = sum(c.data.took for c in _steps(before) if c.status == "completed")
    facts.packages = after.checkpoints[0].metadata.get("audited", 0) if top else 0
    wrong = facts.problems
    if after.status is not ExecutionStatus.COMPLETED:
        wrong.append(f"{facts.exec_id} is {after.status.value}, not completed")
        return
    facts.report = next((a.to_json() for a in after.artifacts if a.name == "report"), "")
    if [c.name for c in top] != expected:
        wrong.append(f"the flow made {len(top)} calls, not {len(expected)}")
    if facts.kept != expected[:finished_before]:
        wrong.append(f"{len(facts.kept)} steps were reused, not {finished_before}")
    for label, old in finished.items():
        new = now.get(label)
        if new is None or (new.data.attempts, new.data.ended) != (old.data.attempts, old.data.ended):
            wrong.append(f"{label} had finished, and ran again")
    said = answer.get("tally", {})
    if (said.get("reused"), said.get("ran")) != (len(facts.kept), len(facts.ran)):
        wrong.append(f"the second process counted {said}, and the records say otherwise")
    if after.data.attempts != 2:
        wrong.append(f"it took {after.data.attempts} attempts, not 2")
    if not facts.report:
        wrong.append("there is no report")
