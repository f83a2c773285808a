"""What people do to an execution from outside: answer its waits, abort them, cancel it, pause it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .artifacts import Recorder
from .blobs import Upload
from .clock import Clock
from .errors import AmbiguousNameError, ExecutionEndedError, NotFoundError, UsageError, WaitClosedError
from .ids import new_nonce
from .notices import moment_of, name_of_wait, say
from .ownership import claim, looks_alive, state_of
from .passes import cancel_at_rest, rest
from .pools import Pools
from .reading import Reading, read_journal
from .records import Answered, Opened, Release, Value
from .schemas import check, checked_by, plain, sample
from .stores.base import Store
from .terminals import shape, typed
from .waiting import CANCEL, Waits, close, pause_request, persist, put_ready, read_answer, request

__all__ = ["PendingWait", "abort", "cancel", "give", "pause", "pending_wait", "pending_waits"]


@dataclass(frozen=True, slots=True)
class PendingWait:
    """A wait that is open.

    Attributes
    ----------
    name : str
        What it is answered by: its path, without ``#1`` at the end.
    id : str
        Its id, which no other wait ever has.
    about : str
        ``answer``; ``sleep``; ``child``: another execution; ``doubt``: whether a step that was in flight runs again.
    schema : dict or None
        The JSON Schema of an answer; None: anything.
    due : float or None
        When it ends by itself, in seconds since the epoch by the store's clock.
    at : float
        When it was asked, in seconds since the epoch.
    """

    name: str
    id: str
    about: str
    question: str = ""
    schema: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    due: float | None = None
    at: float = 0.0

    @classmethod
    def of(cls, w: Opened) -> PendingWait:
        """What a record says."""
        name = w.wait if w.about == "child" else name_of_wait(w.wait)
        return cls(name, w.wait, w.about, w.question, w.schema, w.metadata, w.due, w.at)

    @property
    def shape(self) -> str:
        """What may be answered, in a few words; "" where it takes no answer."""
        return "" if self.about in {"sleep", "child"} else shape(self.schema)

    @property
    def example(self) -> Any:
        """Some data that fits its schema, to be shown in a command that a person completes."""
        return sample(self.schema)

    def read(self, text: str) -> Any:
        """What a person typed, as data: JSON; a text or a choice without quotes as well; ``yes`` and ``no``.

        Raises
        ------
        UsageError
            It is no JSON, and nothing else that is asked for.
        """
        return typed(text, self.schema)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "id": self.id,
            "about": self.about,
            "question": self.question,
            "schema": self.schema,
            "metadata": dict(self.metadata),
            "due": self.due,
            "at": self.at,
        }


def pending_waits(store: Store, exec_id: str) -> list[PendingWait]:
    """The open waits of an execution that nobody has closed in its inbox yet."""
    reading = _read(store, exec_id)
    if state_of(reading.segments).status == "failed":
        return []  # what it waited for beside counts again when it is retried
    waits = Waits.of(reading.records)
    return [PendingWait.of(w) for w in waits.open.values() if read_answer(store, exec_id, w.wait) is None]


def pending_wait(store: Store, exec_id: str, wait: str) -> PendingWait:
    """The open wait that a name, a path or an id means; see `client.Executions.pending_wait`."""
    opened = _named(_read(store, exec_id), wait)
    closed = read_answer(store, exec_id, opened.wait)
    if closed is not None:
        raise WaitClosedError(_closed(exec_id, closed))
    return PendingWait.of(opened)


def give(store: Store, exec_id: str, wait: str, value: Any, *, who: str, clock: Clock) -> None:
    """Answer a wait; see `client.Executions.input`. Checked first, and accepted once it stands in the inbox."""
    reading = _read(store, exec_id)
    opened = _named(reading, wait)
    name = name_of_wait(opened.wait)
    if opened.about in {"sleep", "child"}:
        what = "a sleep" if opened.about == "sleep" else "the end of another execution"
        raise UsageError(f"{wait} of {exec_id} is {what}: it takes no answer. `kitaru abort` ends it")
    data = value if opened.schema is None else plain(value)
    begun = state_of(reading.segments).begun
    script = begun.script if begun is not None else None
    try:
        check(opened.schema, data)
        checked_by(opened.checks, data, script)
    except UsageError as e:
        raise UsageError(f"this is no answer to {name} of {exec_id}: {e}. Nothing was recorded") from e
    held = _held(store, data, f"the answer to {name}")
    answer = Answered(opened.wait, "answered", held, who, "", clock.time(), new_nonce())
    _close(store, exec_id, answer, clock)


def abort(store: Store, exec_id: str, wait: str, *, reason: str, who: str, clock: Clock) -> None:
    """Close a wait without an answer."""
    opened = _named(_read(store, exec_id), wait)
    _close(store, exec_id, Answered(opened.wait, "aborted", None, who, reason, clock.time(), new_nonce()), clock)


def cancel(store: Store, exec_id: str, *, reason: str, who: str, clock: Clock) -> str:
    """Ask for a cancel, and carry it out where nobody runs the execution. Gives its status."""
    reading = _read(store, exec_id)
    state = state_of(reading.segments)
    if state.status == "completed":
        raise ExecutionEndedError(f"{exec_id} has completed: there is nothing to cancel")
    if state.status == "cancelled":
        return "cancelled"
    request(store, exec_id, CANCEL, who=who, reason=reason, at=clock.time(), carry_out=persist(store, clock, say))
    if not looks_alive(store, reading, state) and cancel_at_rest(store, reading, clock):
        return "cancelled"
    return _status(store, exec_id)


def pause(store: Store, exec_id: str, *, reason: str, who: str, clock: Clock) -> str:
    """Ask the owner to pause; where nobody runs the execution, record that it is paused. Gives its status."""
    reading = _read(store, exec_id)
    state = state_of(reading.segments)
    if state.status in {"completed", "failed", "cancelled"}:
        raise ExecutionEndedError(f"{exec_id} has {_ended(state.status)}: there is nothing to pause")
    if state.status == "paused":
        return "paused"
    if state.writer is not None and looks_alive(store, reading, state):
        name, carry_out = pause_request(state.epoch), persist(store, clock, say)
        request(store, exec_id, name, who=who, reason=reason, at=clock.time(), carry_out=carry_out)
        return "running"
    # Whoever dies between the claim and the release leaves it to a pass.
    hint = put_ready(store, exec_id, pause_request(state.epoch), persist(store, clock, say))
    if claimed := claim(store, exec_id, clock=clock, reading=reading, only_there=True, say=say):
        rest(store, claimed, Release("paused", reason, clock.time()), clock, [hint])
    return _status(store, exec_id)


# ---------------------------------------------------------------- the parts


def _read(store: Store, exec_id: str) -> Reading:
    reading = read_journal(store, exec_id)
    if not reading.n:
        raise NotFoundError(f"there is no execution {exec_id} in {store.url}: `kitaru runs` lists those that there are")
    return reading


def _status(store: Store, exec_id: str) -> str:
    state = state_of(read_journal(store, exec_id).segments)
    return state.status


def _ended(status: str) -> str:
    return {"cancelled": "been cancelled"}.get(status, status)


def _named(reading: Reading, wait: str) -> Opened:
    """The open wait that a name, a path or an id means."""
    waits = Waits.of(reading.records)
    exec_id = reading.exec_id

    def last(path: str) -> str:
        return path.rpartition("/")[2].partition("#")[0].partition("~")[0]

    found = [w for w in waits.open.values() if wait == w.wait]
    found = found or [w for w in waits.open.values() if wait in {name_of_wait(w.wait), w.wait.rpartition("@")[0]}]
    found = found or [w for w in waits.open.values() if wait == last(w.wait.rpartition("@")[0])]
    if len(found) == 1:
        return found[0]
    there = ", ".join(PendingWait.of(w).name for w in waits.open.values()) or "none"
    if found:
        raise AmbiguousNameError(f"{exec_id} has several open waits {wait}: write one of {there}")
    closed = [a for a in waits.answers.values() if wait in {a.wait, name_of_wait(a.wait), last(name_of_wait(a.wait))}]
    if closed:
        raise WaitClosedError(_closed(exec_id, closed[-1]))
    raise NotFoundError(f"{exec_id} has no open wait {wait}; it has: {there}")


def _close(store: Store, exec_id: str, answer: Answered, clock: Clock) -> None:
    carry_out = persist(store, clock, say)
    put_ready(store, exec_id, answer.wait, carry_out)  # whoever dies after the answer has told where to look
    there = close(store, exec_id, answer, carry_out)
    if there.nonce != answer.nonce:
        raise WaitClosedError(_closed(exec_id, there))


def _closed(exec_id: str, by: Answered) -> str:
    when = f" at {moment_of(by.at)}" if by.at else ""
    what = {
        "answered": f"was answered by {by.who or 'somebody'}{when}",
        "aborted": f"was aborted by {by.who or 'somebody'}{when}",
        "expired": f"expired{when}",
    }.get(by.how, f"was closed{when}: the execution has ended ({by.reason})")
    return f"{name_of_wait(by.wait)} of {exec_id} {what}. The first answer holds; a fork can take another one"


def _held(store: Store, data: Any, place: str) -> Value:
    """An answer as the inbox holds it; large parts go up first."""
    uploads: list[Upload] = []
    pools = Pools(1, lambda error: None)
    try:
        recorder = Recorder(store, pools, None)
        value = recorder.value(recorder.encode(data, place=place), data, uploads)
        recorder.upload(uploads)
    finally:
        pools.close()
    return value
