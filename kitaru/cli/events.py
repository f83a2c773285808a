"""What happened to an execution, in order of time: its own events, and what its bodies logged. Pure, from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..executions import ExecutionData
from ..failures import Failure
from ..records import Begun, Claim, Ended, FlowEnded, Release, Started
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
    out: list[Event] = []
    owner, last_at, attempts = "", 0.0, 0
    ending = ""  # what the flow's body failed with, for the release that follows
    for segment in segments:
        for r in segment.records:
            if isinstance(r, Begun):
                out.append(
                    Event(r.at, "begun", "", f"{r.flow} with {', '.join(n for n, _ in r.arguments) or 'no input'}")
                )
            elif isinstance(r, Claim):
                attempts += 1
                if r.took_over:  # whoever owned it said nothing: its newest segment is the last that is known of it
                    out.append(Event(last_at, "interrupted", "", f"{owner} was last heard of"))
                owner = _owner(r.process)
                out.append(Event(r.at, "claimed", "", f"attempt {attempts}, by {owner}", dict(r.process)))
            elif isinstance(r, Started) and r.attempt > 1:
                out.append(Event(r.at, "retried", labels.get(r.id, r.name), f"attempt {r.attempt}"))
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


def _owner(process: Mapping[str, Any]) -> str:
    return f"{process.get('user')}@{process.get('host')}, pid {process.get('pid')}"
