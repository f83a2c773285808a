"""The records of a journal, and how they stand in it.

A record is plain data: a msgpack map whose first key, ``kind``, says which one it is. A reader skips kinds and keys
that it does not know. `docs/format.md` describes the same for readers in other languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from .errors import CorruptionError

__all__ = [
    "BLOCK",
    "BY_HAND",
    "NOWHERE",
    "Answered",
    "Argument",
    "Begun",
    "Claim",
    "Ended",
    "FlowEnded",
    "Forked",
    "Id",
    "Logged",
    "Opened",
    "Record",
    "Release",
    "Reused",
    "Saved",
    "Started",
    "Value",
    "from_wire",
    "to_wire",
    "values_of",
]

Id: TypeAlias = tuple[str, int]
"""(exec_id, number of its first started record in that execution): unique over all executions."""

NOWHERE: Id = ("", -1)
"""The counterpart of a body that has none."""

BY_HAND = "<session>"
"""Stands for the flow's qualified name in an execution that has none: a person runs its steps."""

BLOCK = "<block>"
"""Likewise, where the flow's body is that of a `with` statement."""

Wire: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """An artifact as a record holds it.

    Attributes
    ----------
    digest : bytes
        SHA-256 of its root node; 32 bytes.
    size : int
        Bytes of its plain node and of its buffers.
    kind : str
        ``data``, ``text``, ``bytes``, ``pickle`` or ``reference``.
    preview : dict
        Plain data that a person recognises the value by; empty where an earlier record of this journal has it.
    data : bytes or None
        Its root node. None: an earlier record of this journal holds it, or in a fork one of its origin's.
    parts : tuple of bytes
        The parts and small chunks that are new with it.
    blobs : tuple of (bytes, int)
        The digests of the blobs that are new with it, and how many bytes each has.
    bundle : bytes
        The digest of the one among them that holds its new parts, where these are many; else empty.
    within : bytes
        Beside a bundle: 8 bytes for each of the values in it, by which lineage finds them.
    """

    digest: bytes
    size: int
    kind: str
    preview: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | None = None
    parts: tuple[bytes, ...] = ()
    blobs: tuple[tuple[bytes, int], ...] = ()
    bundle: bytes = b""
    within: bytes = b""

    def to_wire(self) -> Wire:
        wire: Wire = {"digest": self.digest, "size": self.size, "kind": self.kind}
        if self.preview:
            wire["preview"] = self.preview
        if self.data is None:
            return wire
        wire["data"] = self.data
        if self.parts:
            wire["parts"] = list(self.parts)
        if self.blobs:
            wire["blobs"] = [list(blob) for blob in self.blobs]
        if self.bundle:
            wire["bundle"] = self.bundle
            wire["within"] = self.within
        return wire

    @classmethod
    def from_wire(cls, w: Wire) -> Value:
        digest, size, kind, preview = w["digest"], w["size"], w["kind"], w.get("preview", {})
        if "data" not in w:
            return cls(digest, size, kind, preview)
        if "parts" not in w and "blobs" not in w and "bundle" not in w:  # nearly always
            return cls(digest, size, kind, preview, w["data"])
        parts, blobs = tuple(w.get("parts", ())), tuple([(d, n) for d, n in w.get("blobs", ())])
        return cls(digest, size, kind, preview, w["data"], parts, blobs, w.get("bundle", b""), w.get("within", b""))


Argument: TypeAlias = tuple[str, Value]
"""An argument's or output's name, and its value."""


@dataclass(frozen=True, slots=True)
class Forked:
    """What an execution was forked from, and what is asked of it. It stands in its `begun`.

    Attributes
    ----------
    origin : str
        The exec_id, in the same store.
    segments : int
        Of the origin's journal, as it was then: what it did since is not looked at.
    outputs : tuple of (Id, tuple of Argument)
        Overridden outputs: all outputs of that record.
    inputs : tuple of (Id, tuple of Argument)
        Overridden inputs of steps: those that are overridden.
    forced : tuple of Id
        Records that run again whatever they hold.
    flow_inputs : tuple of str
        Inputs of the flow that differ from the origin's.
    last : bytes
        The digest of the newest of those segments: another execution of that name is not taken for the origin.
    """

    origin: str
    segments: int
    outputs: tuple[tuple[Id, tuple[Argument, ...]], ...] = ()
    inputs: tuple[tuple[Id, tuple[Argument, ...]], ...] = ()
    forced: tuple[Id, ...] = ()
    flow_inputs: tuple[str, ...] = ()
    last: bytes = b""

    def to_wire(self) -> Wire:
        def edits(of: tuple[tuple[Id, tuple[Argument, ...]], ...]) -> list[Any]:
            return [[_id(q, ""), _arguments(values)] for q, values in of]

        return {
            "origin": self.origin,
            "segments": self.segments,
            "outputs": edits(self.outputs),
            "inputs": edits(self.inputs),
            "forced": [_id(q, "") for q in self.forced],
            "flow_inputs": list(self.flow_inputs),
            "last": self.last,
        }

    @classmethod
    def from_wire(cls, w: Wire) -> Forked:
        def edits(of: list[Any]) -> tuple[tuple[Id, tuple[Argument, ...]], ...]:
            return tuple((_an_id(q, ""), _to_arguments(values)) for q, values in of)

        return cls(
            w["origin"],
            w["segments"],
            edits(w["outputs"]),
            edits(w["inputs"]),
            tuple(_an_id(q, "") for q in w["forced"]),
            tuple(w["flow_inputs"]),
            w["last"],
        )


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
    fork: Forked | None = None
    parent: Id | None = None  # the step that spawned it

    @property
    def by_hand(self) -> bool:
        """Whether a person runs its steps one by one, as in a notebook: there is no flow that a resume could run."""
        return self.qualname == BY_HAND

    @property
    def is_block(self) -> bool:
        """Whether its body is that of a `with` statement: the command that came to it goes on with it."""
        return self.qualname == BLOCK

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
    ran_with: tuple[Argument, ...] | None = None  # where inputs were overridden: what its body was given for them
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
    notes: Mapping[str, Any] | None = None  # plain data of whoever runs the step by hand, such as a notebook

    @property
    def given(self) -> tuple[Argument, ...]:
        """The arguments as its body has them: those that were overridden in the place of those of the call."""
        if not self.ran_with:
            return self.arguments
        return tuple({**dict(self.arguments), **dict(self.ran_with)}.items())


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
    notes: Mapping[str, Any] | None = None  # as in `Started`


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
    before: Started | None = None  # the call before which it paused: made, and not begun
    breaks: tuple[str, ...] = ()  # where it is to pause again: names of steps, and paths


@dataclass(frozen=True, slots=True)
class Opened:
    """A wait was opened: from here on it can be answered, until it is closed.

    Attributes
    ----------
    record : Id
        The step that waits: a wait is a step whose output is the answer.
    wait : str
        Its id, which is never used again: its path and the epoch that opened it, or a child's exec_id.
    about : str
        ``answer``: somebody answers; ``sleep``; ``child``: another execution ends; ``doubt``: whether a step that was
        in flight runs again.
    due : float or None
        When it ends by itself, in seconds since the epoch by the store's clock.
    schema : dict or None
        The JSON Schema of an answer; None: anything.
    checks : str
        "module:qualname" of a type that checks an answer further, where it can be had; else empty.
    """

    kind: ClassVar[str] = "wait"
    record: Id
    wait: str
    about: str
    due: float | None = None
    question: str = ""
    schema: Mapping[str, Any] | None = None
    checks: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A wait was closed. It is what its object in the inbox holds, and in the journal once the owner has read it.

    Attributes
    ----------
    how : str
        ``answered``; ``expired``: it ended by itself; ``aborted``, by a person; ``ended``: the child did, and `reason`
        is its status; ``closed``: its execution ended before; ``requested``, of a cancel or a pause.
    who : str
        Who did it: a person, or a process.
    nonce : bytes
        16 random bytes: whoever finds an object in the inbox knows whether it is his own.
    """

    kind: ClassVar[str] = "answer"
    wait: str
    how: str
    value: Value | None = None
    who: str = ""
    reason: str = ""
    at: float = 0.0
    nonce: bytes = b""


Record: TypeAlias = Begun | Claim | Started | Ended | Reused | FlowEnded | Saved | Logged | Opened | Answered | Release


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
    return tuple([(name, Value.from_wire(value)) for name, value in of])


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
        wire["ran_with"] = _arguments(r.ran_with)
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
    if r.notes is not None:
        wire["notes"] = r.notes
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
        tuple([(name, value.digest) for name, value in arguments]),
        w["code"],
        NOWHERE if counterpart is None else _an_id(counterpart, here),
        w.get("claims", False),
        None if ran_with is None else _to_arguments(ran_with),
        _to_id(w.get("instead"), here),
        tuple([_an_id(q, here) for q in w["past"]]) if "past" in w else (),
        arguments,
        w["own_code"],
        w.get("parts"),
        w.get("source"),
        w.get("type"),
        w["attempt"],
        w["at"],
        w.get("notes"),
    )


def _opened(r: Opened, here: str) -> Wire:
    wire: Wire = {"kind": "wait", "record": _id(r.record, here), "wait": r.wait, "about": r.about, "at": r.at}
    if r.due is not None:
        wire["due"] = r.due
    if r.question:
        wire["question"] = r.question
    if r.schema is not None:
        wire["schema"] = r.schema
    if r.checks:
        wire["checks"] = r.checks
    if r.metadata:
        wire["metadata"] = r.metadata
    return wire


def _answered(r: Answered) -> Wire:
    wire: Wire = {"kind": "answer", "wait": r.wait, "how": r.how, "who": r.who, "at": r.at, "nonce": r.nonce}
    if r.value is not None:
        wire["value"] = r.value.to_wire()
    if r.reason:
        wire["reason"] = r.reason
    return wire


def values_of(record: Record) -> Iterator[Value]:
    """The values that a record holds or names, in its order."""
    r = record
    if isinstance(r, Started):  # first what there is most of
        for _, value in r.arguments:
            yield value
        for _, value in r.ran_with or ():
            yield value
        return
    if isinstance(r, Reused):
        yield from values_of(r.start)
    elif isinstance(r, Release):
        if r.before is not None:
            yield from values_of(r.before)
    elif isinstance(r, Saved):
        yield r.value
    elif isinstance(r, Answered):
        if r.value is not None:
            yield r.value
    elif isinstance(r, Begun):
        for _, value in r.arguments:
            yield value
        for _, values in (*r.fork.outputs, *r.fork.inputs) if r.fork is not None else ():
            for _, value in values:
                yield value
    if isinstance(r, (Ended, FlowEnded, Reused)) and r.ok:
        for _, value in r.value or ():
            yield value


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
        if r.notes is not None:
            wire["notes"] = r.notes
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
    if isinstance(r, Opened):
        return _opened(r, here)
    if isinstance(r, Answered):
        return _answered(r)
    if isinstance(r, Release):
        release: Wire = {"kind": "release", "status": r.status, "reason": r.reason, "at": r.at}
        if r.before is not None:
            release["before"] = _started(r.before, here)
        if r.breaks:
            release["breaks"] = list(r.breaks)
        return release
    begun: Wire = {
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
    if r.fork is not None:
        begun["fork"] = r.fork.to_wire()
    if r.parent is not None:
        begun["parent"] = _id(r.parent, "")
    return begun


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
                because = tuple([_an_id(q, here) for q in w["because"]]) if "because" in w else ()
                value = _to_outcome(w["ok"], w["value"])
                again, notes = w.get("again", False), w.get("notes")
                return Ended(_an_id(w["id"], here), w["ok"], value, because, w["took"], w["at"], again, notes)
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
            case "wait":
                due, schema, metadata = w.get("due"), w.get("schema"), w.get("metadata", {})
                question, checks = w.get("question", ""), w.get("checks", "")
                record = _an_id(w["record"], here)
                return Opened(record, w["wait"], w["about"], due, question, schema, checks, metadata, w["at"])
            case "answer":
                held = Value.from_wire(w["value"]) if "value" in w else None
                return Answered(w["wait"], w["how"], held, w["who"], w.get("reason", ""), w["at"], w["nonce"])
            case "release":
                before = _to_started(w["before"], here) if "before" in w else None
                return Release(w["status"], w["reason"], w["at"], before, tuple(w.get("breaks", ())))
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
                    Forked.from_wire(w["fork"]) if "fork" in w else None,
                    _to_id(w.get("parent"), ""),
                )
            case _:
                return None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise CorruptionError(f"a record of {here} is not what any version wrote: {e!r} in {w!r:.200}") from e
