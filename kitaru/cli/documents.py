"""What `--json` prints: one document a command, with stable keys. Times are ISO 8601 in UTC, durations seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ..client import Artifact, Checkpoint, Execution, PendingWait, Summary
from ..errors import KitaruError
from ..executions import CheckpointData
from ..failures import Failure
from ..records import Answered, Value
from .events import Event
from .text import iso

__all__ = ["artifact", "checkpoint", "dumps", "error", "event", "execution", "failure", "summary", "value", "wait"]

Document = dict[str, Any]


def dumps(document: Any) -> str:
    """The document as text. It is ASCII, so that nothing recorded reaches a terminal as itself."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    """Records are msgpack, which can hold what JSON cannot."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value)


def summary(s: Summary) -> Document:
    """One line of `kitaru runs`."""
    return {
        "exec_id": s.exec_id,
        "flow": s.flow,
        "status": s.status.value,
        "begun": iso(s.begun),
        "took": s.at - s.begun if s.status.is_finished else None,
    }


def artifact(a: Artifact) -> Document:
    """A value by its preview."""
    return {
        "name": a.name,
        "version": a.version,
        "kind": a.kind,
        "type": a.type,
        "size": a.size,
        "digest": a.digest,
        "preview": a.preview,
        "address": a.address,
    }


def value(a: Artifact) -> Document:
    """A value in full. What is pickled in it stands as its size."""
    return {**artifact(a), "value": a.to_json()}


def _input(v: Value) -> Document:
    return {"kind": v.kind, "size": v.size, "digest": v.digest.hex(), "preview": v.preview}


def failure(f: Failure | None) -> Document | None:
    """What somebody failed with, and why that came about."""
    if f is None:
        return None
    return {
        "type": f.type,
        "message": f.message,
        "summary": f.summary(),
        "traceback": f.traceback,
        "notes": list(f.notes),
        "cause": failure(f.cause),
        "context": failure(f.context),
        "group": [failure(member) for member in f.group],
    }


def checkpoint(c: Checkpoint, *, full: bool = True) -> Document:
    """What a step left; its inputs, traceback and source only where `full`."""
    d = c.data
    short = {
        "number": d.index,
        "label": d.label,
        "name": d.name,
        "status": d.status,
        "type": d.type,
        "started": iso(d.started),
        "ended": iso(d.ended) if d.ended is not None else None,
        "took": d.took if d.ended is not None else None,
        "attempts": d.attempts,
        "reused": d.reused_from is not None,
        "superseded": d.superseded,
        "address": c.address,
        "outputs": {name: _input(v) for name, v in d.outputs},
        "metadata": c.metadata,
        "wait": _asked(d),
    }
    if not full:
        return {**short, "failure": c.failure.summary() if c.failure else None}
    return {
        **short,
        "inputs": {name: artifact(a) for name, a in c.inputs.items()},
        "failure": failure(c.failure),
        "source": c.source,
    }


def wait(exec_id: str, w: PendingWait, answer: Answered | None = None) -> Document:
    """A wait that is open; with what has closed it, where its execution has not got that yet."""
    return {
        "exec_id": exec_id,
        "wait": w.name,
        "id": w.id,
        "about": w.about,
        "question": w.question,
        "schema": w.schema,
        "metadata": dict(w.metadata),
        "since": iso(w.at),
        "expires": iso(w.due) if w.due is not None else None,
        "answer": _answer(answer),
    }


def _answer(a: Answered | None) -> Document | None:
    return {"how": a.how, "who": a.who, "at": iso(a.at), "reason": a.reason} if a is not None else None


def _asked(d: CheckpointData) -> Document | None:
    """The wait that a step came to, and what closed it."""
    if d.opened is None:
        return None
    return {k: v for k, v in wait("", PendingWait.of(d.opened), d.answer).items() if k != "exec_id"}


def execution(e: Execution) -> Document:
    """An execution with its checkpoints."""
    d = e.data
    return {
        "exec_id": e.exec_id,
        "flow": e.flow,
        "status": e.status.value,
        "address": e.address,
        "forked_from": e.forked_from,
        "begun": iso(d.begun.at),
        "ended": iso(d.ended) if d.ended is not None else None,
        "took": d.ended - d.begun.at if d.ended is not None else None,
        "attempts": d.attempts,
        "code": {"module": d.begun.module, "qualname": d.begun.qualname, "script": d.begun.script},
        "environment": dict(d.begun.environment),
        "inputs": {name: _input(v) for name, v in d.begun.arguments},
        "checkpoints": [checkpoint(c, full=False) for c in e.checkpoints],
        "saved": [
            {"name": s.name, "version": s.version, "type": s.type, "label": s.label, **_input(s.value)} for s in d.saved
        ],
        "result": _input(d.result) if d.result is not None else None,
        "metadata": d.metadata,
        "failure": failure(e.failure),
        "failed_at": e.failed_at,
        "waits": [
            wait(e.exec_id, PendingWait.of(w), e.closings.get(w.wait))
            for w in ([] if e.status.is_finished else d.waits.open.values())
        ],
    }


def event(e: Event) -> Document:
    """One line of `kitaru log`."""
    return {"at": iso(e.at), "event": e.kind, "where": e.where, "text": e.text, "data": dict(e.data)}


def error(e: KitaruError) -> Document:
    """An error of Kitaru's own."""
    return {"error": {"code": e.code, "message": str(e), "exit_code": e.exit_code}}
