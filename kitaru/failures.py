"""What an exception leaves: its type, message, traceback and causes as plain data, and the way back.

`record` never raises, and runs no code of the exception but its `__str__`. `raise_again` makes an exception
that the same `except` catches, without calling the class: an `__init__` may want other arguments than `args`
holds, and may have effects. Where that cannot be done safely it gives a `RecordedFailureError` that says why.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .concealing import holds_secret, without_secrets
from .errors import CodeNotFoundError, KitaruError, RecordedFailureError

__all__ = ["Failure", "raise_again", "record"]

_MOST_TEXT = 64 * 1024  # characters of a traceback
_MOST_MESSAGE = 16 * 1024
_MOST_FRAMES = 200
_MOST_CAUSES = 20
_MOST_MEMBERS = 100
_PRIVATE = {"__kitaru_record__", "__notes__"}  # the engine's own tag; notes are recorded beside
_TRACEBACK_NOTE = "Recorded traceback:"
_DEMO = "kitaru.demo."  # the demonstration's modules are written as a user's own
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code made


@dataclass(frozen=True, slots=True)
class Failure:
    """A recorded exception.

    Attributes
    ----------
    type : str
        "module:qualname" of its class.
    message : str
        ``str(exception)``, at most 16 Ki characters.
    traceback : str
        Where it was raised, without Kitaru's own frames and without the chain; at most 64 Ki characters.
    notes : tuple of str
        What `add_note` added.
    value : bytes or None
        Canonical bytes of (args, attributes, what the builtin class holds). None: it could not be encoded.
    unfit : str
        Why it cannot be had again as an exception of its own type; empty where nothing is known against it.
    cause, context : Failure or None
        What it was raised from; what was being handled when it was raised. At most one of them is recorded.
    suppressed : bool
        Whether the context is hidden (``raise … from …``).
    group : tuple of Failure
        The members of an exception group.
    """

    type: str
    message: str
    traceback: str = ""
    notes: tuple[str, ...] = ()
    value: bytes | None = None
    unfit: str = ""
    cause: Failure | None = None
    context: Failure | None = None
    suppressed: bool = False
    group: tuple[Failure, ...] = ()

    def summary(self) -> str:
        r"""One line of at most 200 characters, without control characters.

        Examples
        --------
        >>> Failure("builtins:TimeoutError", "no answer\nafter 3 s").summary()
        'TimeoutError: no answer after 3 s'
        """
        name = self.type.rpartition(":")[2].rpartition(".")[2]
        text = f"{name}: {self.message}" if self.message else name
        text = "".join(letter if letter.isprintable() else " " for letter in text[:2000])
        line = " ".join(text.split())
        return line if len(line) <= 200 else line[:199] + "…"

    def to_wire(self) -> dict[str, Any]:
        """Plain data of msgpack's own types; what is empty is left out."""
        wire: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.traceback:
            wire["traceback"] = self.traceback
        if self.notes:
            wire["notes"] = list(self.notes)
        if self.value is not None:
            wire["value"] = self.value
        if self.unfit:
            wire["unfit"] = self.unfit
        if self.cause is not None:
            wire["cause"] = self.cause.to_wire()
        if self.context is not None:
            wire["context"] = self.context.to_wire()
        if self.suppressed:
            wire["suppressed"] = True
        if self.group:
            wire["group"] = [member.to_wire() for member in self.group]
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Failure:
        """The failure that `to_wire` wrote. Keys that it does not know are skipped."""
        cause, context = wire.get("cause"), wire.get("context")
        return cls(
            type=wire["type"],
            message=wire["message"],
            traceback=wire.get("traceback", ""),
            notes=tuple(wire.get("notes", ())),
            value=wire.get("value"),
            unfit=wire.get("unfit", ""),
            cause=None if cause is None else cls.from_wire(cause),
            context=None if context is None else cls.from_wire(context),
            suppressed=wire.get("suppressed", False),
            group=tuple(cls.from_wire(member) for member in wire.get("group", ())),
        )


def record(exception: BaseException, *, skip_frames_of: tuple[str, ...] = ("kitaru",)) -> Failure:
    """What there is to say about `exception`, as plain data. Never raises.

    Parameters
    ----------
    exception
        It is not changed.
    skip_frames_of
        Top-level packages whose frames are left out of the traceback, except at its end.

    Examples
    --------
    >>> record(ValueError("too long")).type
    'builtins:ValueError'
    """
    return _record(exception, skip_frames_of, frozenset())


def _record(exception: BaseException, skipped: tuple[str, ...], seen: frozenset[int]) -> Failure:
    from .codecs.types import name_of

    seen |= {id(exception)}
    message = _cut(_message(exception), _MOST_MESSAGE)
    name = _clean(name_of(type(exception)))
    value, unfit = _value(exception)
    group: list[Failure] = []
    if isinstance(exception, BaseExceptionGroup):
        members = exception.exceptions
        if len(members) > _MOST_MEMBERS or len(seen) >= _MOST_CAUSES:
            unfit = f"it is a group of {len(members)}, nested in {len(seen) - 1} others: too many to record"
        else:
            group = [_record(member, skipped, seen) for member in members]
    further: dict[str, Failure] = {}
    suppressed = exception.__suppress_context__
    which = "cause" if exception.__cause__ is not None else "context"
    behind = exception.__cause__ if which == "cause" or suppressed else exception.__context__
    if behind is not None and id(behind) not in seen and len(seen) < _MOST_CAUSES:
        further[which] = _record(behind, skipped, seen)
    return Failure(
        type=name,
        message=message,
        traceback=_traceback(exception, f"{name.rpartition(':')[2]}: {message}", skipped),
        notes=tuple(_cut(_clean(note), _MOST_TEXT) for note in _notes(exception)),
        value=value,
        unfit=unfit,
        suppressed=suppressed,
        group=tuple(group),
        **further,
    )


def raise_again(failure: Failure, *, script: str | None = None) -> BaseException:
    """An exception of the recorded type with equal `args`, attributes, notes and causes, to be raised.

    It is made without calling its class, and carries the recorded traceback as a note.

    Parameters
    ----------
    failure
        As it was recorded.
    script
        The path of the script whose types are recorded as ``__main__:X``.

    Returns
    -------
    BaseException
        An `Exception` of the recorded type; or a `RecordedFailureError`, with the `Failure` as its attribute
        `failure`, where the type is not to be found here, is no `Exception`, or holds what is no data.
    """
    try:
        exception = _made(failure, script)
    except _Unfit as unfit:
        lost = RecordedFailureError(
            f"a recorded {failure.type} cannot be raised again as its own type: {unfit}. It said: "
            f"{failure.summary()}. Run its step again (kitaru replay EXEC --rerun STEP), or catch "
            "RecordedFailureError too"
        )
        vars(lost)["failure"] = failure
        exception = lost
    if failure.cause is not None:
        exception.__cause__ = raise_again(failure.cause, script=script)
    elif failure.context is not None:
        exception.__context__ = raise_again(failure.context, script=script)
    exception.__suppress_context__ = failure.suppressed
    notes = list(failure.notes)
    if failure.traceback and not any(note.startswith(_TRACEBACK_NOTE) for note in notes):
        notes.append(f"{_TRACEBACK_NOTE}\n{failure.traceback}")
    for note in notes:
        try:
            exception.add_note(note)
        except Exception:  # a class that refuses attributes: it is caught as what it is all the same
            break
    return exception


class _Unfit(Exception):
    """Why an exception cannot be had again."""


# Its value


def _value(exception: BaseException) -> tuple[bytes | None, str]:
    """The canonical bytes of what it holds, and what stands against having it again."""
    from .codecs import encode
    from .codecs.node import tag_bytes

    try:
        attributes = object.__getattribute__(exception, "__dict__")
        state = {name: value for name, value in attributes.items() if name not in _PRIVATE}
        args = exception.args
        if isinstance(exception, BaseExceptionGroup):
            args = (exception.message,)  # its members are recorded as failures of their own
        held: dict[str, Any] = {}
        for name, field in _fields(type(exception)):
            value = field.__get__(exception, type(exception)) if _is_set(field, exception) else None
            if value is not None:
                held.setdefault(name, value)
        data = encode((args, state, held), place="the exception", otherwise="refer").data
    except Exception as problem:
        return None, _clean(f"it could not be recorded ({type(problem).__name__}: {_message(problem)[:500]})")
    if holds_secret(data):
        return None, "its arguments or attributes hold a credential, which is not recorded"
    # No text holds these bytes, since they are not UTF-8; a `bytes` that does is refused for nothing.
    return data, "its arguments or attributes hold what is no data" if tag_bytes("reference") in data else ""


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    """What instances hold outside of `args` and `__dict__`: an OSError's errno, a class's own slots."""
    for base in cls.__mro__:
        if base in {BaseException, BaseExceptionGroup, ExceptionGroup}:
            continue
        for name, field in vars(base).items():
            offset = issubclass(base, UnicodeError) and name in {"start", "end"}
            member = isinstance(field, types.MemberDescriptorType) and not name.startswith("__")
            if (member or offset) and not (base is AttributeError and name == "obj"):  # any object at all
                yield name, field


def _is_set(field: Any, exception: BaseException) -> bool:
    try:
        field.__get__(exception, type(exception))
    except Exception:
        return False
    return True


def _made(failure: Failure, script: str | None) -> BaseException:
    from .codecs import decode
    from .codecs.types import find

    if failure.unfit or failure.value is None:
        raise _Unfit(failure.unfit or "its value was not recorded")
    try:
        cls = find(failure.type, script)
    except CodeNotFoundError as missing:
        raise _Unfit(str(missing)) from missing
    if not issubclass(cls, Exception):
        raise _Unfit("that is no Exception")
    try:
        args, state, held = decode(failure.value, trusted=False, script=script)
        builtin: Any = next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)
        exception: Any
        if issubclass(cls, BaseExceptionGroup):
            members = [raise_again(member, script=script) for member in failure.group]
            exception = builtin.__new__(cls, args[0], members)
        else:
            exception = builtin.__new__(cls)
            BaseException.args.__set__(exception, args)  # type: ignore[attr-defined]
        if state:
            object.__getattribute__(exception, "__dict__").update(state)
        for name, field in _fields(cls):
            if name in held:
                field.__set__(exception, held[name])
    except Exception as problem:
        raise _Unfit(f"{type(problem).__name__}: {problem}") from problem
    assert isinstance(exception, BaseException)
    return exception


# Its text


def _clean(text: str) -> str:
    """Text that every reader can decode: lone surrogates are written out, and credentials are not."""
    return without_secrets(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    kept = (most - 60) // 2
    return f"{text[:kept]}\n… {len(text) - 2 * kept} characters left out …\n{text[-kept:]}"


def _message(exception: BaseException) -> str:
    try:
        return _clean(str(exception))
    except Exception as problem:
        return f"<its __str__ raised {type(problem).__name__}>"


def _notes(exception: BaseException) -> list[str]:
    notes = getattr(exception, "__notes__", None)
    return [without_secrets(note) for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _traceback(exception: BaseException, last: str, skipped: tuple[str, ...]) -> str:
    try:
        frames = list(traceback.walk_tb(exception.__traceback__))
        foreign = [index for index, (frame, _) in enumerate(frames) if not _is_skipped(frame, skipped)]
        if not foreign and isinstance(exception, KitaruError):
            return ""  # it says all there is: where in Kitaru it was raised helps nobody
        end = foreign[-1] + 1 if foreign else 0  # what follows raised it: a message alone would say too little
        frames = [frames[index] for index in foreign] + frames[end:]
        if not frames:
            return ""
        left_out = len(frames) - _MOST_FRAMES
        if left_out > 0:
            frames = frames[: _MOST_FRAMES // 2] + frames[-_MOST_FRAMES // 2 :]
        lines = traceback.StackSummary.extract(iter(frames)).format()
        if left_out > 0:
            lines.insert(len(lines) // 2, f"  … {left_out} frames left out …\n")
    except Exception as problem:  # a frame of the user's may hold anything
        return f"<its traceback could not be read: {type(problem).__name__}>"
    return _cut(_clean("".join(["Traceback (most recent call last):\n", *lines, last])), _MOST_TEXT)


def _is_skipped(frame: types.FrameType, skipped: tuple[str, ...]) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and not name.startswith(_DEMO) and name.partition(".")[0] in skipped
