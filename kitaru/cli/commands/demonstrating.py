"""Show the main job: `demo`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ...client import KitaruClient
from ...errors import ExecutionSuspended
from ...notices import address_of, ready_line, say
from .. import documents
from ..options import Settings, common, screen_of, settings_of
from ..text import block, duration, line

__all__ = ["demo"]


@click.command()
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Packages to audit.")
@click.option("--kill-at", type=click.IntRange(1, 12), default=11, hidden=True)
@click.option("--approve", is_flag=True, help="Show a run that waits for you, in the place of one that is killed.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --approve: look for the answer for so long; then end with 3. The run waits on.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Who judges what is unclear: openai:gpt-5, with its key in the environment, or another one that Pydantic AI "
    "knows; local, a small one on this machine. The built-in rules when left out.",
)
@common
@settings_of
def demo(settings: Settings, limit: int, kill_at: int, approve: bool, patience: float, model: str | None) -> None:
    """Kill a run in the middle, and see it go on.

    A licence audit of the packages that are really installed here, in twelve steps. The process that runs it is killed
    with SIGKILL in step 11; another process, which is given nothing but the store's address and the exec_id, resumes
    it. What that reused, ran and saved is read from the records.

    With --approve nothing is killed: the run waits for your word on the licences that are unclear, its process ends,
    and a second one goes on when you have answered in another terminal.
    """
    from ...demo import approval, show

    client, screen = settings.client(writes=True), screen_of()

    def tell(moment: str, facts: Any) -> None:
        if not settings.json:
            (_approval_lines if approve else _demo_lines)(screen, client, moment, facts)

    facts: show.Facts | approval.Approval
    if approve:
        facts = approval.ask(client.store, limit, patience, tell, model)
    else:
        facts = show.perform(client.store, limit, kill_at, tell, model)
    if settings.json:
        click.echo(documents.dumps(facts.to_json()))
    for problem in facts.problems:
        say(f"kitaru: the demo did not go as promised: {block(problem)}")
    if facts.problems:
        sys.exit(1)
    if isinstance(facts, approval.Approval) and not facts.answered_at:
        say(f"kitaru: nobody answered in {duration(patience)}; {facts.exec_id} waits on")
        say(f"kitaru: answer  {facts.command}")
        say(f"kitaru: go on   {ready_line(client.store)}")
        sys.exit(ExecutionSuspended("").code)


def _approval_lines(screen: Any, client: KitaruClient, moment: str, facts: Any) -> None:
    if moment == "waiting":
        screen.say(f"kitaru demo: the licences of up to {facts.limit} packages installed here, with your approval")
        screen.say(f"  recorded in   {facts.store}")
        screen.say(f"  1st process   pid {facts.first_pid} ran {facts.exec_id} until it had to ask, and ended with 3")
        screen.say("  waits for     you; nothing is running, and this machine may be switched off")
        screen.say(f"  asks          {line(facts.wait.question)}")
        screen.say()
        screen.say("  in a second terminal, here, yes or no:")
        screen.say(f"    {facts.command}")
        screen.say()
        sys.stdout.flush()
    elif moment == "answered":
        screen.say(f"  answered      by {line(facts.answered_by)}")
    else:
        _resumed_lines(screen, client, facts)


def _demo_lines(screen: Any, client: KitaruClient, moment: str, facts: Any) -> None:
    if moment == "running":
        screen.say(f"kitaru demo: the licences of up to {facts.limit} packages installed here, in 12 steps")
        screen.say(f"  recorded in   {facts.store}")
        screen.say(f"  1st process   pid {facts.first_pid} runs {facts.exec_id}")
    elif moment == "killed":
        screen.say(f"  SIGKILL       in step {facts.step} of 12, {facts.killed_in}")
    else:
        _resumed_lines(screen, client, facts)


def _resumed_lines(screen: Any, client: KitaruClient, facts: Any) -> None:
    where = address_of(client.store, facts.exec_id)
    screen.say(f"  2nd process   pid {facts.second_pid} is given {facts.store} and {facts.exec_id}, and resumes")
    inner = f" (and {facts.inner_kept} inside of them)" if facts.inner_kept else ""
    screen.say(f"  reused        {len(facts.kept)} steps{inner}, which had taken {duration(facts.saved)}")
    screen.say(f"  run           {len(facts.ran)} steps: {', '.join(facts.ran)}")
    screen.say()
    head = facts.report.split("\n")[:24]
    screen.say("\n".join(f"  │ {text}".rstrip() for text in head))
    screen.say()
    from .. import tracing

    screen.say("  what the report was made from")
    made = tracing.text(client.look_up(f"{facts.exec_id}:report"), screen.width - 4).split("\n")
    screen.say("\n".join(f"  │ {text}".rstrip() for text in made[:12]))
    screen.say()
    screen.say(f"  all of its lineage  kitaru lineage {address_of(client.store, f'{facts.exec_id}:report')}")
    screen.say(f"  the whole report    kitaru show {address_of(client.store, f'{facts.exec_id}:report')}")
    screen.say(f"  the execution       kitaru show {where}")
    screen.say(f"  what happened       kitaru log {where}")
    store = "" if where == facts.exec_id else f" --store '{facts.store}'"
    screen.say(f"  all executions      kitaru runs{store}")
