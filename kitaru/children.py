"""Executions that are begun and not run: whoever makes a pass runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .catalog import put_status
from .clock import SYSTEM, Clock
from .errors import ExecutionFencedError, StoreError, UsageError
from .fingerprints import fingerprint
from .flows import Flow, Options
from .ids import new_exec_id, new_nonce
from .journal import Halt, create
from .location import current_store, prepare, store_budget
from .notices import say
from .previews import preview_line
from .reading import read_journal
from .records import Begun
from .runs import Run, begun_of
from .segments import encode_record, seal_segment
from .stores.base import Store
from .waiting import BEGUN, persist, put_ready

if TYPE_CHECKING:
    from .context import Frame

__all__ = ["begin"]


def begin(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], of: Frame | None = None) -> str:
    """Begin an execution of `flow`, and hint that it is to be run. Gives its exec_id.

    Parameters
    ----------
    of
        The body of the step that spawns it. Its name follows from that step, so that it is begun once.
    """
    store: Store = of.engine.store if of is not None else current_store()
    clock: Clock = of.engine.clock if of is not None else SYSTEM
    prepare(store)
    if of is not None:
        of.engine.journal.flush()  # its step's number is its own from here on, whatever runs beside it after a crash
    parent = of.record if of is not None else None
    exec_id = _name_of(flow, of) if of is not None else new_exec_id(flow.name, 12)
    code = fingerprint(flow.function)
    run = Run(flow, Options(exec_id, store=store, clock=clock), args, kwargs)
    begun, _ = begun_of(run, code.digest, code.parts, store, {} if of is not None else {"supervised": True}, parent)
    for name, value in begun.arguments:
        if value.kind == "reference":
            raise UsageError(
                f"kitaru.spawn({flow.name}, …): {name}={preview_line(dict(value.preview), 60)} is no data, and another "
                "process could not have it: give it what it can make that from"
            )
    if of is None:  # nobody would begin it again
        put_ready(store, exec_id, BEGUN, persist(store, clock, say))
    _create(store, exec_id, begun, clock)
    if of is not None:
        put_ready(store, exec_id, BEGUN, persist(store, clock, say))
    try:
        put_status(store, exec_id, flow.name, "pending", begun=begun.at, at=begun.at, n=1)
    except StoreError:
        pass  # a hint
    return exec_id


def _name_of(flow: Flow[..., Any], of: Frame) -> str:
    """The child of this very step: whoever crashes before that is recorded spawns the same one again."""
    assert of.record is not None
    start = of.engine.history.view.points[of.record].start
    text = f"{of.engine.exec_id}/{of.record[1]}/".encode() + b"".join(digest for _, digest in start.inputs)
    digits = hashlib.sha256(of.engine.history.key + text).hexdigest()[:12]
    return f"{new_exec_id(flow.name).rpartition('-')[0]}-{digits}"


def _create(store: Store, exec_id: str, begun: Begun, clock: Clock) -> None:
    record = encode_record(begun, exec_id)
    data = seal_segment(exec_id, 1, "-", new_nonce(), 0, b"", [record], clock.time())

    try:
        create(store, exec_id, 1, data, clock=clock, budget=store_budget(), say=say)
    except Halt as halt:
        if not isinstance(halt.error, ExecutionFencedError):
            raise halt.error from halt.__cause__
        first = next(iter(read_journal(store, exec_id).records), None)
        if not isinstance(first, Begun) or first.parent != begun.parent or first.inputs != begun.inputs:
            raise UsageError(f"{exec_id} exists, and is no child of this execution") from halt
