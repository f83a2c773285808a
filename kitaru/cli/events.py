"""What happened to an execution, in order of time: its own events, and what its bodies logged. Pure, from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..executions import ExecutionData
from ..failures import Failure
from ..notices import moment_of
from ..records import Answered, Begun, Claim, Ended, FlowEnded, Opened, Release, Started
from ..segments import Segment

__all__ = ["Event", "events_of"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    at : float
        Seconds since the epoch, by the clock of whoever recorded it.
    kind : str
        ``begun``, ``claimed``, ``interrupted``, ``failed``, ``retried``, ``logged``, ``completed``, … .
    where : str
        The checkpoint's path; empty for the execution itself.
    """

    at: float
    kind: str
    where: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def events_of(data: ExecutionData, segments: Iterable[Segment]) -> list[Event]:
    """The events of an execution, in order of time; what happened at one time stays in the order of the journal."""
    labels = {c.id: c.label for c in data.checkpoints}
    waits = {c.id for c in data.checkpoints if c.opened is not None and c.opened.about != "doubt"}
    out: list[Event] = []
    owner, last_at, attempts = "", 0.0, 0
    ending = ""  # what the flow's body failed with, for the release that follows
    for segment in segments:
        for r in segment.records:
            if isinstance(r, Begun):
                what = f"{r.flow} with {', '.join(n for n, _ in r.arguments) or 'no input'}"
                of = f", a fork of {r.fork.origin}" if r.fork is not None else ""
                out.append(Event(r.at, "begun", "", what + of))
            elif isinstance(r, Claim):
                attempts += 1
                if r.took_over:  # whoever owned it said nothing: its newest segment is the last that is known of it
                    out.append(Event(last_at, "interrupted", "", f"{owner} was last heard of"))
                owner = _owner(r.process)
                out.append(Event(r.at, "claimed", "", f"attempt {attempts}, by {owner}", dict(r.process)))
            elif isinstance(r, Started) and r.attempt > 1 and r.id not in waits:  # a wait has no body to run again
                out.append(Event(r.at, "retried", labels.get(r.id, r.name), f"attempt {r.attempt}"))
            elif isinstance(r, Opened):
                out.append(Event(r.at, "asked", labels.get(r.record, ""), _asked(r)))
            elif isinstance(r, Answered):
                out.append(Event(r.at, r.how, _waited(r.wait), _answered(r)))
            elif isinstance(r, Ended) and not r.ok:
                what = Failure.from_wire(r.value).summary()
                again = "; another attempt follows" if r.again else ""
                out.append(Event(r.at, "failed", labels.get(r.id, ""), f"{what}{again}"))
            elif isinstance(r, FlowEnded) and not r.ok:
                ending = Failure.from_wire(r.value).summary()
            elif isinstance(r, Release):
                out.append(Event(r.at, r.status, "", r.reason or ending))
                ending = ""
        last_at = segment.at or last_at
    out += [Event(r.at, "logged", r.label, "", r.data) for r in data.logs]
    return sorted(out, key=lambda event: event.at)


def _asked(r: Opened) -> str:
    """What a wait waits for."""
    ends = f"until {moment_of(r.due)}" if r.due is not None else ""
    what = {"child": f"for {r.wait} to end", "sleep": "to go on"}.get(r.about, r.question)
    return "; ".join(filter(None, (what, ends)))


def _waited(wait: str) -> str:
    return wait.rpartition("@")[0] or wait  # a child's is its exec_id


def _answered(r: Answered) -> str:
    """Who closed a wait, and why; of a child, how that ended."""
    who = f"by {r.who}" if r.who and r.how in {"answered", "aborted"} else ""
    return ": ".join(filter(None, (who, r.reason)))


def _owner(process: Mapping[str, Any]) -> str:
    return f"{process.get('user')}@{process.get('host')}, pid {process.get('pid')}"
