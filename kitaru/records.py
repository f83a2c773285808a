"""The records of a journal, and how they stand in it.

A record is plain data: a msgpack map whose first key, ``kind``, says which one it is. A reader skips kinds and keys
that it does not know. `docs/format.md` describes the same for readers in other languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from .errors import CorruptionError

__all__ = [
    "NOWHERE",
    "Argument",
    "Begun",
    "Claim",
    "Ended",
    "FlowEnded",
    "Id",
    "Logged",
    "Record",
    "Release",
    "Reused",
    "Saved",
    "Started",
    "Value",
    "from_wire",
    "to_wire",
]

Id: TypeAlias = tuple[str, int]
"""(exec_id, number of its first started record in that execution): unique over all executions."""

NOWHERE: Id = ("", -1)
"""The counterpart of a body that has none."""

Wire: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """An artifact as a record holds it.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the canonical bytes; 32 bytes.
    size : int
        Length of the canonical bytes.
    kind : str
        ``data``, ``text``, ``bytes``, ``pickle`` or ``reference``.
    preview : dict
        Plain data that a person recognises the value by.
    data : bytes or None
        The canonical bytes, where they travel in the record. None: they stand earlier in this journal, or in
        ``blobs/``.
    blob : bool
        They stand in ``blobs/``.
    parts : bytes
        Of a value in ``blobs/``: 8 bytes for each of its larger parts, by which lineage finds them; see `codecs.spans`.
    """

    digest: bytes
    size: int
    kind: str
    preview: Mapping[str, Any]
    data: bytes | None = None
    blob: bool = False
    parts: bytes = b""

    def to_wire(self) -> Wire:
        wire: Wire = {"digest": self.digest, "size": self.size, "kind": self.kind, "preview": self.preview}
        if self.data is not None:
            wire["data"] = self.data
        elif self.blob:
            wire["blob"] = True
        if self.parts:
            wire["parts"] = self.parts
        return wire

    @classmethod
    def from_wire(cls, w: Wire) -> Value:
        data, blob, parts = w.get("data"), w.get("blob", False), w.get("parts", b"")
        return cls(w["digest"], w["size"], w["kind"], w["preview"], data, blob, parts)


Argument: TypeAlias = tuple[str, Value]
"""An argument's or output's name, and its value."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An execution was begun: what runs, and with what."""

    kind: ClassVar[str] = "begun"
    flow: str
    arguments: tuple[Argument, ...]
    module: str = ""
    qualname: str = ""
    script: str | None = None  # the path of the file, where the module was `__main__`
    code: bytes = b""  # the fingerprint of the flow's body
    parts: Mapping[str, str] = field(default_factory=dict)  # what that fingerprint was made of
    source: str | None = None
    at: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)  # versions, host, user
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[tuple[str, bytes], ...]:
        """The names and digests of the arguments."""
        return tuple((name, value.digest) for name, value in self.arguments)


@dataclass(frozen=True, slots=True)
class Claim:
    """A writer owns the execution from here on, until it is released or another one claims it."""

    kind: ClassVar[str] = "claim"
    process: Mapping[str, Any]  # who: see `ownership.Process`
    heartbeat: float  # seconds between two signs of life
    at: float = 0.0
    took_over: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A call was made, and its body begins, or is taken up again. The first fields are the replay contract's."""

    kind: ClassVar[str] = "started"
    id: Id  # stays the same when it is taken up again, by a resume or a retry
    parent: Id | None  # the record around it; None: the flow
    name: str
    ordinal: int | None  # None: made by a side task
    inputs: tuple[tuple[str, bytes], ...]  # names and digests, as called
    code: bytes  # digest of the code of the body that made the call
    counterpart: Id = NOWHERE  # the record of the origin's view under which its inner calls are looked up
    claims: bool = False  # it takes its counterpart's part: nothing else can match that one any more
    ran_with: tuple[tuple[str, bytes], ...] | None = None  # where the inputs as called were overridden
    instead: Id | None = None  # the own record at its place, which it did not match
    past: tuple[Id, ...] = ()  # failures that its caller had been handed when it made this call
    # what a person wants to know
    arguments: tuple[Argument, ...] = ()
    own_code: bytes = b""  # fingerprint of the step's own body
    parts: Mapping[str, str] | None = None  # what that was made of; in the first record of this code alone
    source: str | None = None  # likewise
    type: str | None = None
    attempt: int = 1
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt of a step ended: with its outputs, or with a failure."""

    kind: ClassVar[str] = "ended"
    id: Id
    ok: bool
    value: Any  # a tuple of Arguments (names and outputs), or the failure as plain data
    because: tuple[Id, ...] = ()  # of a failure: the failures inside that it passed on
    took: float = 0.0  # seconds of this attempt
    at: float = 0.0
    again: bool = False  # a failure after which another attempt follows


@dataclass(frozen=True, slots=True)
class Reused:
    """Started and ended at once: it stands for its counterpart, or for an edited value."""

    kind: ClassVar[str] = "reused"
    start: Started
    ok: bool
    value: Any
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """The flow's body ended: with a result, or with a failure."""

    kind: ClassVar[str] = "flow_ended"
    ok: bool
    because: tuple[Id, ...] = ()
    value: Any = None  # as in `Ended`
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """`kitaru.save`: a named artifact."""

    kind: ClassVar[str] = "saved"
    record: Id | None  # the step in whose body it was saved; None: the flow
    name: str
    ordinal: int  # among the saves of that name in that body
    value: Value
    type: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Logged:
    """`kitaru.log`: metadata of a step, or of the execution."""

    kind: ClassVar[str] = "logged"
    record: Id | None
    ordinal: int  # among the logs in that body
    data: Mapping[str, Any]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """The owner lets go: completed, failed, cancelled, waiting, paused or interrupted."""

    kind: ClassVar[str] = "release"
    status: str
    reason: str = ""
    at: float = 0.0


Record: TypeAlias = Begun | Claim | Started | Ended | Reused | FlowEnded | Saved | Logged | Release


# ---------------------------------------------------------------- to plain data and back


def _id(of: Id | None, here: str) -> Any:
    return None if of is None else of[1] if of[0] == here else list(of)


def _to_id(of: Any, here: str) -> Id | None:
    return None if of is None else (here, of) if isinstance(of, int) else (of[0], of[1])


def _an_id(of: Any, here: str) -> Id:
    return (here, of) if isinstance(of, int) else (of[0], of[1])


def _arguments(of: tuple[Argument, ...]) -> list[Any]:
    return [[name, value.to_wire()] for name, value in of]


def _to_arguments(of: list[Any]) -> tuple[Argument, ...]:
    return tuple((name, Value.from_wire(value)) for name, value in of)


def _outcome(ok: bool, value: Any) -> Any:
    return _arguments(value) if ok and value is not None else value


def _to_outcome(ok: bool, value: Any) -> Any:
    return _to_arguments(value) if ok and value is not None else value


def _started(r: Started, here: str) -> Wire:
    wire: Wire = {
        "kind": "started",
        "id": _id(r.id, here),
        "parent": _id(r.parent, here),
        "name": r.name,
        "ordinal": r.ordinal,
        "arguments": _arguments(r.arguments),
        "code": r.code,
        "own_code": r.own_code,
        "attempt": r.attempt,
        "at": r.at,
    }
    if r.counterpart != NOWHERE:
        wire["counterpart"] = _id(r.counterpart, here)
    if r.claims:
        wire["claims"] = True
    if r.ran_with is not None:
        wire["ran_with"] = [list(pair) for pair in r.ran_with]
    if r.instead is not None:
        wire["instead"] = _id(r.instead, here)
    if r.past:
        wire["past"] = [_id(q, here) for q in r.past]
    if r.parts is not None:
        wire["parts"] = r.parts
    if r.source is not None:
        wire["source"] = r.source
    if r.type is not None:
        wire["type"] = r.type
    return wire


def _to_started(w: Wire, here: str) -> Started:
    arguments = _to_arguments(w["arguments"])
    ran_with = w.get("ran_with")
    counterpart = w.get("counterpart")
    return Started(
        _an_id(w["id"], here),
        _to_id(w["parent"], here),
        w["name"],
        w["ordinal"],
        tuple((name, value.digest) for name, value in arguments),
        w["code"],
        NOWHERE if counterpart is None else _an_id(counterpart, here),
        w.get("claims", False),
        None if ran_with is None else tuple((name, digest) for name, digest in ran_with),
        _to_id(w.get("instead"), here),
        tuple(_an_id(q, here) for q in w.get("past", ())),
        arguments,
        w["own_code"],
        w.get("parts"),
        w.get("source"),
        w.get("type"),
        w["attempt"],
        w["at"],
    )


def to_wire(record: Record, here: str) -> Wire:
    """`record` as plain data; ids of the execution `here` are written as bare numbers."""
    r = record
    if isinstance(r, Started):
        return _started(r, here)
    if isinstance(r, Ended):
        wire: Wire = {
            "kind": "ended",
            "id": _id(r.id, here),
            "ok": r.ok,
            "value": _outcome(r.ok, r.value),
            "took": r.took,
            "at": r.at,
        }
        if r.because:
            wire["because"] = [_id(q, here) for q in r.because]
        if r.again:
            wire["again"] = True
        return wire
    if isinstance(r, Reused):
        start = _started(r.start, here)
        return {"kind": "reused", "start": start, "ok": r.ok, "value": _outcome(r.ok, r.value), "at": r.at}
    if isinstance(r, FlowEnded):
        because = [_id(q, here) for q in r.because]
        value = _outcome(r.ok, r.value)
        return {"kind": "flow_ended", "ok": r.ok, "value": value, "because": because, "at": r.at}
    if isinstance(r, Saved):
        return {
            "kind": "saved",
            "record": _id(r.record, here),
            "name": r.name,
            "ordinal": r.ordinal,
            "value": r.value.to_wire(),
            "type": r.type,
            "at": r.at,
        }
    if isinstance(r, Logged):
        return {
            "kind": "logged",
            "record": _id(r.record, here),
            "ordinal": r.ordinal,
            "data": r.data,
            "at": r.at,
        }
    if isinstance(r, Claim):
        return {
            "kind": "claim",
            "process": r.process,
            "heartbeat": r.heartbeat,
            "at": r.at,
            "took_over": r.took_over,
        }
    if isinstance(r, Release):
        return {"kind": "release", "status": r.status, "reason": r.reason, "at": r.at}
    return {
        "kind": "begun",
        "flow": r.flow,
        "arguments": _arguments(r.arguments),
        "module": r.module,
        "qualname": r.qualname,
        "script": r.script,
        "code": r.code,
        "parts": r.parts,
        "source": r.source,
        "at": r.at,
        "environment": r.environment,
        "options": r.options,
    }


def from_wire(w: Wire, here: str) -> Record | None:
    """The record that `to_wire` was given; None for a kind that this version does not know.

    Raises
    ------
    CorruptionError
        Where a known kind lacks what it must have.
    """
    try:
        match w["kind"]:
            case "started":
                return _to_started(w, here)
            case "ended":
                because = tuple(_an_id(q, here) for q in w.get("because", ()))
                value = _to_outcome(w["ok"], w["value"])
                return Ended(_an_id(w["id"], here), w["ok"], value, because, w["took"], w["at"], w.get("again", False))
            case "reused":
                value = _to_outcome(w["ok"], w["value"])
                return Reused(_to_started(w["start"], here), w["ok"], value, w["at"])
            case "flow_ended":
                because = tuple(_an_id(q, here) for q in w["because"])
                return FlowEnded(w["ok"], because, _to_outcome(w["ok"], w["value"]), w["at"])
            case "saved":
                value = Value.from_wire(w["value"])
                return Saved(_to_id(w["record"], here), w["name"], w["ordinal"], value, w["type"], w["at"])
            case "logged":
                return Logged(_to_id(w["record"], here), w["ordinal"], w["data"], w["at"])
            case "claim":
                return Claim(w["process"], w["heartbeat"], w["at"], w["took_over"])
            case "release":
                return Release(w["status"], w["reason"], w["at"])
            case "begun":
                return Begun(
                    w["flow"],
                    _to_arguments(w["arguments"]),
                    w["module"],
                    w["qualname"],
                    w["script"],
                    w["code"],
                    w["parts"],
                    w["source"],
                    w["at"],
                    w["environment"],
                    w["options"],
                )
            case _:
                return None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise CorruptionError(f"a record of {here} is not what any version wrote: {e!r} in {w!r:.200}") from e
