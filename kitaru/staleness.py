"""Which steps of a branch are stale: what they read is not what they would read now. From records alone.

A step is compared with what stands before it on its branch: an edit, or a step that ran again with another output,
makes its readers stale, and what those made may change in turn. A cell that was run between steps without being
recorded carries such a change on unseen; where that may have happened, it is said, and nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from .branches import Branch, Plain, Step
from .planning import Plan, Row

__all__ = ["Verdict", "forecast_branch", "verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one step.

    Attributes
    ----------
    step : Step
    decision : str
        ``reuse``; ``rerun``: it reads another value; ``rerun?``: it reads what may change.
    why : str
    plain : Plain or None
        A cell that is not recorded stands between a change and what this step reads.
    variable : str
        What it hands on.
    """

    step: Step
    decision: str
    why: str
    plain: Plain | None = None
    variable: str = ""

    @property
    def is_stale(self) -> bool:
        return self.decision != "reuse"


@dataclass(slots=True)
class _Now:
    """What a variable would hold at some point of the branch."""

    digest: bytes | None  # None: it may change
    why: str


def verdicts(branch: Branch, *, forced: Collection[str] = (), start: int | None = None) -> list[Verdict]:
    """One for each step that counts, in the order in which they count: see `Branch.current`.

    Parameters
    ----------
    forced
        Paths of steps that run again whatever they read.
    start
        The place of a step: it runs again, and all that come after it.
    """
    return list(_verdicts(branch, frozenset(forced), start))


def _verdicts(branch: Branch, forced: frozenset[str], start: int | None) -> Iterator[Verdict]:
    now: dict[str, _Now] = {}
    plain_by: dict[str, Plain] = {}  # the plain cell that bound a variable, and may have read what changes
    recorded: dict[str, bytes] = {}  # what a step gave, before any edit
    noted: dict[str, tuple[Plain, bool]] = {}  # plain cells by their labels, and whether they may give something else
    changed = False
    edited = any(step.edited for step in branch.steps)
    places = branch.current()
    first = None if start is None else next((i for i, n in enumerate(places) if n >= start), len(places))
    for turn, step in enumerate(branch.steps[n] for n in places):
        for cell in step.plain:
            tainted = [n for n in cell.reads if n in plain_by or _differs(now.get(n), cell.found.get(n))]
            for name in cell.binds:
                now.pop(name, None)
                plain_by.pop(name, None)
                if tainted:
                    plain_by[name] = cell
            noted[cell.label] = cell, bool(tainted)
        for name, value in step.data.arguments:
            label = step.notes.get("unrecorded", {}).get(name)
            if label in noted and recorded.get(name) != value.digest:  # what a step gave was changed in place there
                now.pop(name, None)
                if noted[label][1]:
                    plain_by[name] = noted[label][0]
        verdict = _verdict(step, now, plain_by)
        if step.data.status != "completed":
            verdict = Verdict(step, "rerun", f"it is {step.data.status}")
        elif first is not None and turn >= first:
            verdict = Verdict(step, "rerun", "asked for: it comes at or after the chosen step")
        elif step.label in forced:
            verdict = Verdict(step, "rerun", "asked for")
        if step.edited and step.decision in {"edited", "inherited"} and step.label not in forced:
            verdict = Verdict(step, "reuse", f"edited: {', '.join(step.edited)}")
            changed = True
        elif not verdict.is_stale and not verdict.plain:
            why = "nothing that it reads has changed" if changed or not edited else "it comes before the edit"
            verdict = Verdict(step, "reuse", why)
        changed = changed or verdict.is_stale
        yield verdict
        for name in step.deleted:
            now.pop(name, None)
        now |= {name: _Now(None, f"{step.label}.{name}, which may change") for name in step.owed}
        recorded |= {name: value.digest for name, value in step.data.outputs}
        for name, value in step.outputs:
            plain_by.pop(name, None)
            if verdict.is_stale:
                now[name] = _Now(None, f"{step.label}.{name}, which may change")
            elif name in step.edited:
                now[name] = _Now(value.digest, f"{step.label}.{name}, which is edited")
            else:
                now[name] = _Now(value.digest, f"{step.label}.{name}, which has changed")


def _differs(now: _Now | None, found: str | None) -> bool:
    """Whether a variable would hold something else than a plain cell found in it, as far as its note says."""
    if now is None or now.digest is None:
        return now is not None
    return now.digest.hex() != found if found is not None else "edited" in now.why


def _verdict(step: Step, now: Mapping[str, _Now], plain_by: Mapping[str, Plain]) -> Verdict:
    unsure: Verdict | None = None
    for name, value in step.data.arguments:
        if (cell := plain_by.get(name)) is not None:
            why = f"reads {name}, which the plain cell {cell.label} bound from what has changed"
            return Verdict(step, "rerun?", why, cell, name)
        held = now.get(name)
        if held is None:
            continue
        if held.digest is None:
            unsure = unsure or Verdict(step, "rerun?", f"reads {held.why}")
        elif held.digest != value.digest:
            return Verdict(step, "rerun", f"reads {held.why}")
    return unsure or Verdict(step, "reuse", "")


def forecast_branch(branch: Branch, *, forced: Collection[str] = (), start: int | None = None) -> Plan:
    """What going on with a branch would do with each of its steps, as a table."""
    rows, notes = [], []
    for v in verdicts(branch, forced=forced, start=start):
        data = v.step.data
        rows.append(Row(v.step.label, v.decision, v.why, data.took or None))
        if v.plain is not None:
            notes.append(
                f"the plain cell {v.plain.label} is not recorded, and hands {v.variable} on: run it too, or take "
                f"{v.variable} as it is"
            )
    return Plan(tuple(rows), tuple(dict.fromkeys(notes)))
