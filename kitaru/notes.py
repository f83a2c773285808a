"""Notes: what a body records of itself, by `kitaru.save` and `kitaru.log`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attempts import Uploads
from .blobs import Upload
from .clock import Clock
from .context import IN_ORDER, Frame
from .history import History, size_of
from .previews import preview_line
from .records import Logged, Saved
from .references import preview_of

__all__ = ["Notes"]


class Notes:
    """The notes of one run of an execution."""

    def __init__(self, history: History, clock: Clock) -> None:
        self.history, self.clock, self.lock, self.recorder = history, clock, history.lock, history.recorder

    def save(self, frame: Frame, name: str, value: Any, kind: str | None) -> None:
        """`kitaru.save`: once for each place in the body, however often it resumes."""
        frame.check_open()
        encoded = self.recorder.encode(value, place=f"{frame.label}.{name}")
        blobs: list[Upload] = []
        with self.lock:
            ordinal = self._once(frame, ("save", name), encoded.digest)
            if ordinal is None:
                return
            held = self.recorder.value(encoded, value, blobs)
        if blobs:
            Uploads(self.recorder, blobs).run()
        self.recorder.warn_opaque(frame.label, encoded.kind)
        kind = None if kind is None else _text(kind)
        with self.lock:
            frame.check_open()
            self.history.write(
                Saved(frame.record, name, ordinal, held, kind, self.clock.time()), size_of(((name, held),))
            )

    def log(self, frame: Frame, data: Mapping[str, Any]) -> None:
        """`kitaru.log`: likewise."""
        plain = {_text(key): _plain(v) for key, v in data.items()}
        with self.lock:
            frame.check_open()
            ordinal = self._once(frame, ("log",), repr(plain))
            if ordinal is not None:
                self.history.write(Logged(frame.record, ordinal, plain, self.clock.time()))

    def _once(self, frame: Frame, what: tuple[str, ...], content: Any) -> int | None:
        """The ordinal of the next save or log; None where the flow's body has it recorded.

        In order they are told apart by place, and in side tasks, which may come in another order, by content: those
        have the ordinals 0, -1, … With the lock held.
        """
        in_order = frame.lane() == IN_ORDER
        if in_order:
            ordinal = frame.next(what)
            return None if frame.record is None and (frame.record, *what, ordinal) in self.history.done else ordinal
        turn = frame.next((*what, content))
        if frame.record is None and turn <= self.history.beside.get((*what, content), 0):
            return None
        beside = sum(1 for done in self.history.done if done[:-1] == (frame.record, *what) and done[-1] <= 0)
        return -beside


def _plain(value: Any) -> Any:
    """Metadata is read by people and tools that have none of the user's types."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {_text(str(k)): _plain(v) for k, v in value.items()}
    return preview_line(dict(preview_of(value)))


def _text(text: str) -> str:
    """Text that a record can hold: lone surrogates are written out."""
    return text.encode("utf-8", "backslashreplace").decode()
