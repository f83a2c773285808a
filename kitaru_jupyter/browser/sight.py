"""What the browser shows, as plain data that JSON can carry.

It is made of records and previews, and no value is loaded; only the chat of a model call is read.

Recorded content is hostile. Here it is cut, and what does not print as itself is written as an escape; the front end
puts it in as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kitaru.client import Artifact, Checkpoint, Execution, PendingWait, Summary
from kitaru.sessions import verdicts

from .. import display, questions
from ..transcripts import heading, said, speaker

__all__ = ["alone", "executions", "opened", "planned", "step", "value", "value_type", "waits"]

State = dict[str, Any]

_MOST_STEPS = 10_000
_NAME, _LINE = 120, 300  # characters
_DECISIONS = {"reuse", "reuse?", "rerun", "rerun?", "reused", "edited", "ran"}


def executions(found: Iterable[Summary]) -> list[State]:
    """The rows of the list on the left, newest first."""
    return [
        {
            "id": s.exec_id,
            "flow": display.line(s.flow, _NAME),
            "status": s.status.value,
            "begun": s.begun,
            "took": max(s.at - s.begun, 0.0) if s.status.is_finished else None,
        }
        for s in found
    ]


def opened(execution: Execution, *, plan: Any = None, origin: Execution | None = None) -> State:
    """The execution in the middle: its head, and its steps.

    Parameters
    ----------
    plan
        Of a fork, what it would do, or did: its rows mark steps.
    origin
        Of a fork that has not run yet, what it was forked from: its steps are shown, for the fork has none.
    """
    shown = origin or execution
    failure = execution.failure
    if not execution.data.begun.by_hand:
        marks, why = _of_flow(plan)
    else:
        marks, why = _of_cells(execution)
    checkpoints, following = shown.checkpoints, shown.next_step
    rows = [
        {
            "ref": c.label,
            "name": display.line(c.label.rpartition("/")[2], _NAME),
            "depth": min(c.label.count("/"), 8),
            "status": c.status,
            "took": display._took(c),
            "marks": [mark for mark, labels in marks.items() if c.label in labels],
            "why": display.line(why.get(c.label, ""), _LINE),
        }
        for c in [*checkpoints[:_MOST_STEPS], *([] if following is None else [following])]
    ]
    return {
        "id": execution.exec_id,
        "of": shown.exec_id,
        "flow": display.line(execution.flow, _NAME),
        "status": execution.status.value,
        "cells": execution.data.begun.by_hand,
        "unrun": origin is not None,
        "origin": execution.forked_from or "",
        "store": display.line(execution.store.url, _LINE),
        "steps": rows,
        "more": max(len(checkpoints) - _MOST_STEPS, 0),
        "failed_at": execution.failed_at or "",
        "next": following.label if following is not None else "",
        "failure": display.line(failure.summary(), _LINE) if failure is not None else "",
        "result": _result(execution),
        "marks": {mark: sorted(labels) for mark, labels in marks.items()},
    }


def waits(exec_id: str, name: str, pending: Iterable[PendingWait]) -> list[State]:
    """What it waits for: of what people answer, the question, what it takes, and the lines that do it.

    A line says `name`, which may have the store's address in front.
    """
    return [
        {
            "id": w.id,
            "name": display.line(w.name, _NAME),
            "said": display.line(questions.said_of(exec_id, w), _LINE),
            "asks": questions.is_asked(w),
            "question": display.block(w.question or "an answer, please"),
            "takes": display.line(w.shape, _LINE),
            "until": w.due,
            "facts": [[display.line(k, 60), display.block(text)] for k, text in questions.metadata(w)],
            "text": _begun_answer(w),
            "answer": display.line(questions.answer_line(name, w), 1000),
            "abort": display.line(questions.abort_line(name, w), 1000),
        }
        for w in pending
    ]


def _begun_answer(w: PendingWait) -> str:
    """What the editor holds at first: of an object its shape, to be filled in."""
    example = w.example if questions.is_asked(w) else None
    return questions.as_json(example, indent=2) if isinstance(example, dict | list) and example else ""


def _of_flow(plan: Any) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Which steps of a fork are edited, which are stale by it or ran again, and why."""
    marks: dict[str, set[str]] = {"edited": set(), "stale": set(), "changed": set()}
    rows = () if plan is None else plan.rows
    for row in rows:
        if row.decision == "ran":
            marks["changed"].add(row.step)
        elif _is_edit(row):
            marks["edited"].add(row.step)
        elif row.decision.startswith("rerun"):
            marks["stale"].add(row.step)
    return marks, {row.step: row.why for row in rows}


def _is_edit(row: Any) -> bool:
    return bool(row.decision == "edited") or (row.decision.startswith("reuse") and row.why.startswith("edited"))


def _of_cells(execution: Execution) -> tuple[dict[str, set[str]], dict[str, str]]:
    branch = execution.branch()
    stale = {v.step.label: v.why for v in verdicts(branch) if v.is_stale}
    return {"edited": {step.label for step in branch if step.edited}, "stale": {*stale}, "changed": set()}, stale


def _result(execution: Execution) -> State | None:
    if execution.data.result is None:
        return None
    return _short(Artifact(execution, "result", execution.data.result))


def step(c: Checkpoint, *, edited: Mapping[str, Artifact] = MappingProxyType({}), chosen: str = "") -> State:
    """The step on the right: what it read and bound, what it failed with, its code.

    Parameters
    ----------
    edited
        By REF, what an edit puts in the place of a value.
    chosen
        The REF of a value of it that was pointed at.
    """

    def shown(a: Artifact, name: str) -> State:
        return {**_short(edited.get(a.name, a), name), "edited": a.name in edited}

    outputs = dict(zip((name for name, _ in c.data.outputs), c.artifacts, strict=True))
    failure = None
    if c.failure is not None:
        failure = {
            "summary": display.line(c.failure.summary(), _LINE),
            "traceback": display.block(c.failure.traceback or c.failure.message),
        }
    return {
        "ref": c.label,
        "of": c.execution.exec_id,
        "status": c.status,
        "took": display._took(c),
        "attempts": c.data.attempts,
        "inputs": [shown(a, name) for name, a in c.inputs.items()],
        "outputs": [shown(a, name) for name, a in outputs.items()],
        "failure": failure,
        "code": display.block(c.source.strip("\n")) if c.source and c.source.strip() else "",
        "logged": [[display.line(k, 60), display.line(v, _LINE)] for k, v in c.metadata.items()],
        "chosen": chosen,
        "chat": _chat(c, edited),
    }


def _chat(c: Checkpoint, edited: Mapping[str, Artifact]) -> State | None:
    """The transcript of a model call."""
    found = said(c, edited)
    if found is None:
        return None
    return {"turns": [[speaker(turn), heading(turn), turn.body] for turn in found.turns], "figures": found.figures}


def _short(a: Artifact, name: str = "") -> State:
    """A value by its preview: a line, a table's first rows, or the messages of a chat."""
    out: State = {
        "ref": a.name,
        "name": display.line(name or a.name, _NAME),
        "glimpse": display._glimpse(a, _LINE),
        "kind": a.kind,
        "size": display._size(a.size),
    }
    if (rows := a.table) is not None and rows.names:
        out["table"] = {
            "heads": [display.line(f"{n} ({d})", 60) for n, d in zip(rows.names, rows.dtypes, strict=True)],
            "rows": [[display.line(cell, 80) for cell in (label, *row)] for label, row in display._rows_of(rows)],
            "more": max(rows.more_rows, 0),
        }
    if len(chat := a.messages) > 1:
        out["messages"] = [[display.line(role, 40), display.line(text, _LINE)] for role, text in chat]
    return out


def alone(a: Artifact) -> State:
    """A value that is no step's: a result, something saved."""
    return {
        "ref": a.ref,
        "of": a.execution.exec_id,
        "status": "",
        "took": "",
        "attempts": 1,
        "inputs": [],
        "outputs": [_short(a)],
        "failure": None,
        "code": "",
        "logged": [],
        "chosen": a.name,
        "chat": None,
    }


def value_type(a: Artifact) -> str:
    """The name of its type."""
    return display.line(a.preview.get("type", "?"), 60)


def value(a: Artifact) -> State:
    """A value in full, or as much of it as is fit to be looked at. It is read, and no code of its own is run."""
    shown, note = display._in_full(a)
    return {"ref": a.name, "text": display.block(shown) if shown else "", "note": display.line(note, 500)}


def _seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 0.9995 else f"{took * 1000:.0f} ms" if took >= 0.0095 else f"{took * 1000:.1f} ms"


def planned(plan: Any) -> State:
    """What would run again and why; or, of one that has run, what became of each step."""
    edited = sum(map(_is_edit, plan))
    return {
        "done": plan.done,
        "again": plan.count("rerun", "rerun?", "ran"),
        "reused": plan.count("reuse", "reuse?", "reused", "edited") - edited,
        "edited": edited,
        "summary": display.line(plan.summary, _LINE),
        "notes": [display.line(note, 500) for note in plan.notes],
        "rows": [
            {
                "ref": row.step,
                "decision": "edited" if _is_edit(row) else row.decision if row.decision in _DECISIONS else "reuse",
                "why": display.line(row.why, _LINE),
                "took": "" if row.took is None else _seconds(row.took),
                "inner": row.inner,
            }
            for row in plan.rows[:_MOST_STEPS]
        ],
    }
