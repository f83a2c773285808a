"""Waits, children and timers: what closes a wait, and the hints by which a pass finds who can go on.

Truth is the journal and the inbox. A wait is open from the record that opened it to the record that closed it, and
every closing goes through one object in the inbox, which is created and never changed: the first one wins, and whoever
loses takes what is there. A hint only says where to look::

    executions/EXEC/inbox/WAIT      what closed a wait, or asks for a cancel or a pause; create-only
    ready/EXEC/REASON               somebody may be able to go on: an answer, a child, a begun one, a request
    timers/DUE/EXEC/WAIT            a wait ends by itself at DUE, in milliseconds since the epoch by the store's clock
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import ormsgpack

from .clock import Clock
from .errors import CorruptionError, KeyMissingError
from .ids import new_nonce, to_key_part
from .journal import Halt, insist as _insist
from .location import store_budget
from .ownership import State
from .records import Answered, Opened, Record, from_wire, to_wire
from .segments import seal, unseal
from .stores.base import Store

__all__ = [
    "BEGUN",
    "CANCEL",
    "DEADLINE",
    "FORGOTTEN",
    "Hint",
    "Waits",
    "close",
    "decode_answer",
    "deliver",
    "encode_answer",
    "hints",
    "inbox",
    "inbox_key",
    "is_settled",
    "pause_request",
    "persist",
    "put_ready",
    "put_timer",
    "read_answer",
    "request",
    "timer_key",
    "wait_of",
]

T = TypeVar("T")

CANCEL = "cancel"
"""The name of a request to cancel, in the inbox and among the reasons."""

BEGUN = "begun"
"""The reason of an execution that was begun and is to be looked after: a child, or a supervised one."""

DEADLINE = "deadline"
"""The reason of one that was let go since its process had no more time."""

FORGOTTEN = 3600.0
"""Seconds after which a hint goes whose own write never came: whoever was about to make it died."""

_OF_A_RUN = frozenset({BEGUN, DEADLINE, "pause"})
"""What hints of one run are called, and "@" with what no other run has: whoever deletes one late takes no other."""

_MAGIC = b"kitinb1\n"
_LONGEST = 200  # bytes of one part of a key: a wait deep inside of others has a long path


class Insist(Protocol):
    """Carries a request out, and again where the store does not answer."""

    def __call__(self, call: Callable[[], T], what: str) -> T: ...


# ---------------------------------------------------------------- keys


def _part(text: str) -> str:
    part = to_key_part(text)
    if len(part) <= _LONGEST:
        return part
    return f"{part[:120].rpartition('%')[0] or part[:100]}..{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def inbox_key(exec_id: str, wait: str | None = None) -> str:
    """Where what closes a wait stands; or what all such keys of an execution begin with."""
    return f"executions/{exec_id}/inbox/" + ("" if wait is None else _part(wait))


def pause_request(epoch: int) -> str:
    """The name of a request to pause the run of this epoch, and no later one."""
    return f"pause@{epoch}"


class Hint(NamedTuple):
    """One hint of a listing."""

    key: str
    exec_id: str
    reason: str  # as a part of a key
    due: int | None = None  # of a timer, in milliseconds since the epoch
    age: float = 0.0  # seconds since it was put, by the store's clock


def ready_key(exec_id: str, reason: str) -> str:
    return f"ready/{exec_id}/{_part(reason)}"


def timer_key(due: float, exec_id: str, wait: str) -> str:
    """Where the hint stands that a wait ends by itself."""
    return f"timers/{milliseconds(due):0{_DIGITS}d}/{exec_id}/{_part(wait)}"


_DIGITS = 13  # until the year 2286
_LAST = 9_999_999_999_999


def milliseconds(due: float) -> int:
    """A moment as timers have it. One beyond what the digits hold is the last of those: keys are in the order of time.

    Examples
    --------
    >>> milliseconds(1.5), milliseconds(-1.0), milliseconds(1e11)
    (1500, 0, 9999999999999)
    """
    return min(max(0, round(due * 1000)), _LAST)


def hints(store: Store) -> tuple[list[Hint], float]:
    """Everything that may be ready: two listings, of which the one of timers ends at the first that is not due.

    Gives the store's clock as well.
    """
    found: list[Hint] = []
    now: float | None = None
    for entry in store.list("ready/"):
        parts = entry.key.split("/")
        now = entry.now
        if len(parts) == 3:
            found.append(Hint(entry.key, parts[1], parts[2], None, entry.age))
    for entry in store.list("timers/"):
        parts, now = entry.key.split("/"), entry.now
        if len(parts) != 4 or not (parts[1].isascii() and parts[1].isdecimal() and len(parts[1]) == _DIGITS):
            continue
        if int(parts[1]) > milliseconds(now):
            break  # in the order of keys, and so of time
        found.append(Hint(entry.key, parts[2], parts[3], int(parts[1]), entry.age))
    return found, store.now() if now is None and found else now or 0.0


# ---------------------------------------------------------------- what a journal says of its waits


@dataclass(slots=True)
class Waits:
    """The waits of an execution, folded from its records in their order."""

    open: dict[str, Opened] = field(default_factory=dict)  # by their ids
    answers: dict[str, Answered] = field(default_factory=dict)  # that the flow has got, for ever
    timed: list[Opened] = field(default_factory=list)  # those of them that would have ended by themselves

    @classmethod
    def of(cls, records: Iterable[Record]) -> Waits:
        """Those that `records` tell of."""
        waits = cls()
        for record in records:
            waits.learn(record)
        return waits

    def learn(self, record: Record) -> None:
        """Take in the next record."""
        if isinstance(record, Opened):
            self.open[record.wait] = record
        elif isinstance(record, Answered):
            opened = self.open.pop(record.wait, None)
            if opened is not None and opened.due is not None:
                self.timed.append(opened)
            self.answers[record.wait] = record

    def due(self, now: float) -> Iterator[Opened]:
        """Those that end by themselves, and should have by `now`, by the store's clock."""
        return (w for w in self.open.values() if w.due is not None and w.due <= now)

    def to_close(self, status: str) -> list[str]:
        """Those that an end closes. Of a failure others' ends are none: a retry waits for them on."""
        return [wait for wait, w in self.open.items() if status != "failed" or w.about != "child"]

    def ready(self, inbox: Iterable[str], now: float) -> bool:
        """Whether an execution that waits can go on, given the parts of keys that its inbox holds."""
        there = set(inbox)
        return any(_part(wait) in there for wait in self.open) or any(True for _ in self.due(now))


def wait_of(label: str, epoch: int) -> str:
    """The id of a wait, which is never used again: its path, and the epoch that opened it."""
    return f"{label}@{epoch}"


def is_settled(hint: Hint, state: State, waits: Waits) -> bool:
    """May this hint go? Once it may it always may, so that deleting it late or twice does no harm."""
    if state.final:
        return True
    if state.writer is not None or state.status in {"pending", "interrupted"}:
        return False
    if hint.due is not None:
        opened = {_part(wait): w for wait, w in waits.open.items()}.get(hint.reason)
        if opened is not None:
            return opened.due is None or milliseconds(opened.due) != hint.due
        return True
    if hint.reason.partition("%40")[0] in _OF_A_RUN:
        return True  # it came to rest
    if state.status == "failed":
        # No pass goes on with it, and a retry looks into the inbox by itself. A request to cancel may be under way.
        return hint.reason != CANCEL or hint.age > FORGOTTEN
    # A wait that is not open is closed: its record is older than any hint for it. A child's may not be open yet.
    return hint.reason in {_part(wait) for wait in waits.answers}


# ---------------------------------------------------------------- the inbox


def encode_answer(answer: Answered, exec_id: str) -> bytes:
    """What the inbox holds: the record, and whose it is."""
    return seal(_MAGIC, ormsgpack.packb({"exec": exec_id, "answer": to_wire(answer, exec_id)}))


def inbox(store: Store, exec_id: str) -> dict[str, bytes]:
    """Everything in an inbox, by its key."""
    return {entry.key: store.get(entry.key) for entry in store.list(inbox_key(exec_id))}


def read_answer(store: Store, exec_id: str, wait: str) -> Answered | None:
    """What closed a wait, or None: nothing has. Raises `CorruptionError` where it is damaged."""
    key = inbox_key(exec_id, wait)
    try:
        data = store.get(key)
    except KeyMissingError:
        return None
    return decode_answer(data, exec_id, key)


def decode_answer(data: bytes, exec_id: str, key: str) -> Answered:
    """What stands under a key of the inbox."""
    body = unseal(_MAGIC, data, key)
    wire = body.get("answer") if isinstance(body, dict) and body.get("exec") == exec_id else None
    found = from_wire(wire, exec_id) if isinstance(wire, dict) else None
    if not isinstance(found, Answered) or inbox_key(exec_id, found.wait) != key:
        raise CorruptionError(f"{key} holds no answer to this wait: it was moved or copied here")
    return found


def persist(store: Store, clock: Clock, say: Callable[[str], None] = lambda line: None) -> Insist:
    """Carries requests out for as long as the store's budget lasts, and raises its error then."""

    def carry_out(call: Callable[[], T], what: str) -> T:
        try:
            return _insist(call, what, store, clock=clock, budget=store_budget(), say=say)
        except Halt as halt:
            raise halt.error from halt.__cause__

    return carry_out


def close(store: Store, exec_id: str, answer: Answered, carry_out: Insist) -> Answered:
    """Close a wait with `answer`, unless it is closed already. Gives what closed it."""
    key, data = inbox_key(exec_id, answer.wait), encode_answer(answer, exec_id)

    def attempt() -> Answered:
        if store.put_if_absent(key, data):
            return answer
        found = store.get(key)  # perhaps our own, of which we did not hear
        return answer if found == data else decode_answer(found, exec_id, key)

    return carry_out(attempt, key)


def put_ready(store: Store, exec_id: str, reason: str, carry_out: Insist) -> Hint:
    """Hint that an execution may be able to go on."""
    key = ready_key(exec_id, reason)
    carry_out(lambda: store.put(key, b""), key)
    return Hint(key, exec_id, key.rpartition("/")[2])


def put_timer(store: Store, due: float, exec_id: str, wait: str, carry_out: Insist) -> None:
    """Hint that a wait ends by itself at `due`. Before the record that opens it, or nobody would find it."""
    key = timer_key(due, exec_id, wait)
    carry_out(lambda: store.put(key, b""), key)


def request(store: Store, exec_id: str, name: str, *, who: str, reason: str, at: float, carry_out: Insist) -> Answered:
    """Ask the owner, or a pass, for something: the hint first, since whoever dies after the request has asked."""
    put_ready(store, exec_id, name, carry_out)
    return close(store, exec_id, Answered(name, "requested", None, who, reason, at, new_nonce()), carry_out)


def deliver(store: Store, child: str, parent: str, status: str, at: float, carry_out: Insist) -> None:
    """A child's end, to its parent's inbox. Anybody who sees the child ended may do it, any number of times."""
    if read_answer(store, parent, child) is None:
        put_ready(store, parent, child, carry_out)
        close(store, parent, Answered(child, "ended", None, child, status, at, new_nonce()), carry_out)
