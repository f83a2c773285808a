"""Answers: how a wait of a running flow is reached, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .artifacts import Values
from .attempts import Sleep
from .blobs import Upload
from .clock import Clock
from .context import Frame, Suspend
from .definitions import NO_DEFAULT, Asked
from .effects import Outcome, Steps
from .errors import (
    ChildFailedError,
    ExecutionCancelledError,
    KitaruWaitAborted,
    KitaruWaitExpired,
    NotFoundError,
    StoreError,
    UsageError,
)
from .eviction import Leaving
from .failures import Failure, raise_again
from .forks import open_origin
from .history import History
from .ids import new_nonce
from .index import Index
from .journal import Journal
from .notices import name_of_wait
from .ownership import state_of, this_process
from .reading import read_journal
from .records import Answered, Begun, FlowEnded, Id, Opened, Record
from .schemas import check, checked_by, plain
from .stores.base import Store
from .waiting import close, put_timer, read_answer, wait_of

__all__ = ["Answers", "Ask", "Unanswered", "result_of", "waits_for"]

_FIRST_LOOK, _LAST_LOOK = 0.05, 2.0
"""Seconds between two looks of a process that stays: they grow from the one to the other."""


class Unanswered(Exception):
    """Whoever was asked at the terminal does not answer now."""


@dataclass(slots=True)
class Ask:
    """Something of the store, or of a person, that takes time."""

    call: Callable[[], Any]

    def run(self) -> Any:
        return self.call()

    async def arun(self) -> Any:
        import asyncio

        return await asyncio.to_thread(self.call)


class Answers:
    """The waits of one run of an execution.

    Parameters
    ----------
    known
        What is known of the inbox already.
    now
        The store's clock as it was a moment ago, where it is known.
    ask
        Asks the person at the terminal, given the wait; gives what he typed, as data. Raises `Unanswered`.
    """

    def __init__(
        self,
        store: Store,
        history: History,
        clock: Clock,
        *,
        known: Mapping[str, Answered],
        now: float | None,
        ask: Callable[[Opened], Any] | None,
        script: str | None,
        leaving: Leaving | None = None,
        deadline: float | None = None,
    ) -> None:
        self._store, self._history, self._clock, self._script = store, history, clock, script
        self._journal: Journal = history.journal
        self._known, self._now, self._ask = dict(known), now, ask
        self._leaving = leaving or Leaving()
        self._deadline = deadline

    # ------------------------------------------------------------ reaching a wait

    def reach(self, frame: Frame, rid: Id, label: str, asked: Asked) -> Steps:
        """What closed the wait of the step `rid`; raises `Suspend` where nothing has."""
        history = self._history
        opened, answer = history.wait_of(rid)
        if answer is not None:
            return answer
        wait = opened.wait if opened is not None else asked.child or self._fresh(label)
        if opened is not None or asked.child:  # nobody may answer before it is open; a child may have ended
            answer = yield Ask(lambda: self._look(wait, opened))
        if answer is None and opened is None:
            opened = yield Ask(lambda: self._opened(rid, wait, asked))
            assert opened is not None
            if opened.due is not None:
                yield Ask(lambda: put_timer(self._store, opened.due, history.exec_id, wait, self._journal.insist))
            with history.lock:
                frame.check_open()
                history.write(opened)
            if opened.due is not None and opened.due <= max(self._now or 0.0, self._clock.time()):
                # The store's clock decides in a moment.
                yield Ask(self._journal.flush)
                answer = yield Ask(lambda: self._look(wait, opened))
        if answer is None and self._ask is not None and asked.about in {"answer", "doubt"}:
            answer = yield Ask(lambda: self._asked_here(opened))
        if answer is None and asked.timeout > 0:
            answer = yield from self._stay(wait, opened, asked.timeout)
        if answer is None:
            raise Suspend(label)
        with history.lock:
            frame.check_open()
            history.write(answer)
        return answer

    def _fresh(self, label: str) -> str:
        """An id that no wait has had: an inner step that is tried again waits anew."""
        waits, wait = self._history.waits, wait_of(label, self._journal.epoch)
        turn = 2
        while wait in waits.open or wait in waits.answers:
            wait, turn = f"{wait_of(label, self._journal.epoch)}.{turn}", turn + 1
        return wait

    def _opened(self, rid: Id, wait: str, asked: Asked) -> Opened:
        due = asked.due  # in milliseconds, as its timer has it
        if asked.expires is not None:
            self._now = self._store_now()
            due = math.floor((self._now + asked.expires) * 1000) / 1000  # what lasts no time is past
        elif due is not None:
            due = round(due * 1000) / 1000
        schema = asked.schema
        return Opened(
            rid, wait, asked.about, due, asked.question, schema.json, schema.checks, asked.metadata, self._clock.time()
        )

    def _store_now(self) -> float:
        return self._journal.insist(self._store.now, "the store's clock")

    def _look(self, wait: str, opened: Opened | None) -> Answered | None:
        """What stands in the inbox; a wait that is due is closed there first."""
        answer = self._known.pop(wait, None)
        if answer is not None:
            return answer
        exec_id = self._history.exec_id
        answer = self._journal.insist(lambda: read_answer(self._store, exec_id, wait), "the inbox")
        if answer is None and opened is not None and opened.due is not None and self._is_past(opened.due):
            expired = Answered(wait, "expired", None, _me(), "", self._clock.time(), new_nonce())
            answer = close(self._store, exec_id, expired, self._journal.insist)
        return answer

    def _is_past(self, due: float) -> bool:
        if self._now is not None and due <= self._now:
            return True  # the clock goes on
        self._now = self._store_now()
        return due <= self._now

    def _stay(self, wait: str, opened: Opened | None, seconds: float) -> Steps:
        """This process stays for so long, and looks now and then."""
        yield Ask(self._journal.flush)  # else nobody could answer it
        until, pause = self._clock.monotonic() + seconds, _FIRST_LOOK
        if self._deadline is not None:
            until = min(until, self._deadline)  # its process ends then
        while True:
            answer = yield Ask(lambda: self._look(wait, opened))
            left = until - self._clock.monotonic()
            if answer is not None or left <= 0 or self._leaving.asked:
                return answer
            self._history.go_on()
            yield Sleep(self._clock, min(left, pause))
            pause = min(pause * 1.5, _LAST_LOOK)

    def _asked_here(self, opened: Opened | None) -> Answered | None:
        """What the person at the terminal says, through the inbox like any other answer."""
        assert opened is not None
        assert self._ask is not None
        self._journal.flush()
        try:
            data = self._ask(opened)
        except Unanswered:
            return None
        recorder, uploads = self._history.recorder, list[Upload]()
        check(opened.schema, plain(data))
        checked_by(opened.checks, plain(data), self._script)
        encoded = recorder.encode(data, place=f"the answer to {opened.wait}")
        value = recorder.index.full(recorder.value(encoded, data, uploads))
        recorder.upload(uploads)
        answer = Answered(opened.wait, "answered", value, _me(), "", self._clock.time(), new_nonce())
        return close(self._store, self._history.exec_id, answer, self._journal.insist)

    # ------------------------------------------------------------ what it comes to

    def outcome_of(self, label: str, asked: Asked, answer: Answered) -> Outcome:
        """What the flow gets, or what is raised in its place. Where the store does not tell, the run ends."""
        try:
            return Outcome(self._value_of(label, asked, answer))
        except StoreError as e:
            raise self._history.stop(e) from e
        except Exception as e:
            return Outcome(error=e)

    def _value_of(self, label: str, asked: Asked, answer: Answered) -> Any:
        if answer.how == "aborted":
            why = f": {answer.reason}" if answer.reason else ""
            raise KitaruWaitAborted(f"{answer.who or 'somebody'} closed the wait {label} without an answer{why}")
        if asked.about == "child":
            return self._result_of(asked.child)
        if answer.how == "expired":
            if asked.about == "sleep":
                return None
            if asked.default is NO_DEFAULT:
                raise KitaruWaitExpired(f"nobody answered {label} in time, and it has no default")
            return asked.default
        if answer.value is None:
            return None
        values = Values(self._store, Index((answer,), beyond=self._history.recorder.index), script=self._script)
        return asked.schema.load(values.load(answer.value))

    def _result_of(self, child: str) -> Any:
        """The result of a child that has ended, or its failure raised."""
        reading = read_journal(self._store, child)
        state = state_of(reading.segments)
        begun = state.begun
        if begun is None:
            raise NotFoundError(f"the execution {child} is not in {self._store.url} any more: restore it from a copy")
        if state.status == "cancelled":
            reason = state.release.reason if state.release is not None else ""
            raise ExecutionCancelledError(f"{child} was cancelled{f': {reason}' if reason else ''}")
        ends = [r for r in reading.records if isinstance(r, FlowEnded)]
        if state.status == "completed" and ends and ends[-1].ok:
            return result_of(self._store, begun, reading.records)
        if ends and not ends[-1].ok:
            failure = Failure.from_wire(ends[-1].value)
            failed = ChildFailedError(f"{child} failed: {failure.summary()}", child)
            raise failed from raise_again(failure, script=begun.script)
        raise UsageError(f"{child} said that it had ended, and goes on again ({state.status}): resume it first")


def result_of(store: Store, begun: Begun, records: list[Record]) -> Any:
    """The recorded result of an execution that has completed."""
    beyond = open_origin(store, begun.fork).index if begun.fork is not None else None
    ((_, value),) = next(r.value for r in reversed(records) if isinstance(r, FlowEnded) and r.ok)
    return Values(store, Index(records, beyond=beyond), script=begun.script).load(value)


def _me() -> str:
    process = this_process()
    return f"{process.user}@{process.host}"


def waits_for(opened: Opened) -> str:
    """What a wait waits for, in the words of a release's reason.

    Examples
    --------
    >>> waits_for(Opened(("a", 1), "verdict#1@1", "answer", question="Publish this?"))
    'verdict'
    """
    return opened.wait if opened.about == "child" else name_of_wait(opened.wait)


DOUBT = {
    "oneOf": [
        {"const": "rerun"},
        {"const": "fail"},
        {"type": "object", "required": ["value"], "additionalProperties": False, "properties": {"value": {}}},
    ]
}
"""The schema of an answer to whether a step that was in flight runs again."""


def in_doubt(label: str) -> Asked:
    """What is asked of a person about a step that was in flight when its process died."""
    from .schemas import Schema

    question = (
        f'{label} was running when its process died, and may have had its effect. Answer "rerun" to run it again, '
        '{"value": …} with its output, or "fail"'
    )
    return Asked("doubt", Schema(DOUBT), question)
