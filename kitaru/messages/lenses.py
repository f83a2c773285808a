"""How a wire format is read, and written back: tables of where each thing lies, and the few rules that go by them.

From the smallest to the largest: `At` is where a part's fields lie in its block, `Kind` is a kind of block, `Place` is
where in a message blocks lie, `Shape` is a kind of message, `Seat` is where in a document messages lie, and `Format` is
all of that. Each reads, and each writes into what was read: only where the neutral form says something else than what
stands there. So what nobody edited comes back as it was, with everything that the neutral form has no word for.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import UsageError
from .parts import Image, Message, Origin, Part, Text, Thinking, Unknown, Usage

__all__ = [
    "At",
    "Format",
    "Kind",
    "Place",
    "Seat",
    "Shape",
    "arguments",
    "base64_image",
    "beside_system",
    "data",
    "data_url",
    "dig",
    "is_image",
    "is_type",
    "joined",
    "put",
    "result",
    "same",
    "text",
    "tokens",
    "write_block",
]

Path = tuple[str | int, ...]
MISSING: Any = object()

# ---------------------------------------------------------------- plain data


def dig(wire: Any, path: Path) -> Any:
    """What stands at a path; `MISSING` where nothing does."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(wire, list) or step >= len(wire):
                return MISSING
            wire = wire[step]
        elif isinstance(wire, dict):
            wire = wire.get(step, MISSING)
        else:
            return MISSING
    return wire


def put(wire: Any, path: Path, value: Any) -> Any:
    """`wire` with `value` at a path, or without it where that is `MISSING`; what was handed in stays as it was."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        return [put(item, tuple(rest), value) if n == step else item for n, item in enumerate(wire)]
    old = wire if isinstance(wire, dict) else {}
    if value is MISSING and not rest:
        return {key: item for key, item in old.items() if key != step}
    return {**old, step: put(old.get(step), tuple(rest), value)}


def same(a: Any, b: Any) -> bool:
    """Whether two values are one in type, content and order: to Python 1, 1.0 and True are equal.

    >>> same({"a": [1]}, {"a": [1]}), same([1], [True]), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    (True, False, False)
    """
    return a is b or (type(a) is type(b) and repr(a) == repr(b))


def _same_parts(a: Sequence[Part], b: Sequence[Part]) -> bool:
    wires = [[part.origin and part.origin.wire for part in parts] for parts in (a, b)]
    return same([*a], [*b]) and same(*wires)


# ---------------------------------------------------------------- fields of a block


@dataclass(frozen=True)
class At:
    """Where in a block some fields of a part lie.

    Attributes
    ----------
    read : callable
        The fields, of what stands at `path`; None where that cannot be: then it is no such block.
    write : callable
        What stands there from now on, of a part and what stood there.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[Any], dict[str, Any] | None]
    write: Callable[[Any, Any], Any]
    required: bool = True


def text(*path: str, to: str = "", required: bool = True) -> At:
    """A text, or nothing."""
    name = to or path[-1]

    def read(value: Any) -> dict[str, Any] | None:
        return {name: value} if isinstance(value, str) else None

    return At(path, (name,), read, lambda part, _: getattr(part, name), required)


def data(*path: str, to: str, required: bool = True, kind: type = object) -> At:
    """Data as it is."""

    def read(value: Any) -> dict[str, Any] | None:
        return {to: value} if isinstance(value, kind) else None

    return At(path, (to,), read, lambda part, _: getattr(part, to), required)


def arguments(*path: str, as_text: bool, required: bool = True) -> At:
    """The arguments of a call: a JSON object as text or as data. A text that is no JSON object stays a text."""

    def read(value: Any) -> dict[str, Any] | None:
        return {"arguments": _object(value) if isinstance(value, str) else value}

    def write(part: Any, old: Any) -> Any:
        given = part.arguments
        if isinstance(given, str) or not (isinstance(old, str) or (as_text and old is MISSING)):
            return given
        return json.dumps(given, ensure_ascii=False)

    return At(path, ("arguments",), read, write, required)


def _object(said: str) -> Any:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return said
    return found if isinstance(found, dict) else said


def joined(*path: str, item: Mapping[str, Any]) -> At:
    """The text of a list of small blocks, such as a summary's; once edited it is one block."""

    def read(value: Any) -> dict[str, Any] | None:
        if isinstance(value, str):
            return {"text": value}
        texts = [dig(block, ("text",)) for block in value] if isinstance(value, list) else [MISSING]
        return {"text": "\n\n".join(texts)} if all(isinstance(t, str) for t in texts) else None

    def write(part: Any, old: Any) -> Any:
        return part.text if isinstance(old, str) else [{**item, "text": part.text}] if part.text else []

    return At(path, ("text",), read, write)


def base64_image(*path: str, encode: Callable[[bytes], bytes] = base64.b64encode) -> At:
    """Bytes as base64; or as they are, in the parameters of an SDK."""

    def read(value: Any) -> dict[str, Any] | None:
        found = value if isinstance(value, bytes) else _bytes(value)
        return None if found is None else {"source": found}

    def write(part: Any, old: Any) -> Any:
        return part.source if isinstance(old, bytes) else encode(part.source).decode()

    return At(path, ("source",), read, write)


def data_url(*path: str) -> At:
    """The URL of an image, which may hold it whole."""

    def read(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, str):
            return None
        kind, comma, body = value.removeprefix("data:").partition(";base64,")
        found = _bytes(body) if comma and value.startswith("data:") else None
        return {"source": value} if found is None else {"source": found, "media_type": kind}

    def write(part: Any, _: Any) -> Any:
        if isinstance(part.source, str):
            return part.source
        return f"data:{part.media_type};base64,{base64.b64encode(part.source).decode()}"

    return At(path, ("source", "media_type"), read, write)


_URL_SAFE = str.maketrans("-_", "+/")


def _bytes(said: Any) -> bytes | None:
    try:
        return base64.b64decode(said.translate(_URL_SAFE), validate=True) if isinstance(said, str) else None
    except (binascii.Error, ValueError):
        return None


def result(
    *path: str, kinds: Sequence[Kind], new: Callable[[Any], Any] = lambda content: content, required: bool = False
) -> At:
    """What a tool gave: a text, blocks, or data. One block of text is that text; `new` says how one is written."""

    def read(value: Any) -> dict[str, Any] | None:
        if not (isinstance(value, list) and value and all(isinstance(block, dict) for block in value)):
            return {"content": value}
        parts = tuple(read_block(block, kinds) for block in value)
        return {"content": parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else parts}

    def write(part: Any, old: Any) -> Any:
        content = part.content
        if isinstance(content, tuple):
            return [write_block(inner, kinds) for inner in content]
        if isinstance(content, str) and isinstance(old, list) and len(old) == 1:
            before = read_block(old[0], kinds)
            if isinstance(before, Text):
                return [write_block(replace(before, text=content), kinds)]
        return content if isinstance(old, type(content)) else new(content)

    return At(path, ("content",), read, write, required)


# ---------------------------------------------------------------- blocks


def is_type(*names: str, key: str = "type") -> Callable[[Any], bool]:
    """Whether a block says that it is of one of these types."""
    return lambda wire: isinstance(wire, dict) and wire.get(key) in names


def _any(_: Any) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of block, and the part that it is.

    Attributes
    ----------
    new : Mapping
        What a new one begins with.
    takes : callable
        Whether a part of this type can be written as such a block.
    """

    part: type[Part]
    ats: tuple[At, ...]
    test: Callable[[Any], bool] = _any
    new: Mapping[str, Any] = field(default_factory=dict)
    takes: Callable[[Any], bool] = _any

    def read(self, wire: Any) -> Part | None:
        """The part; None where it is no such block."""
        if not self.test(wire):
            return None
        found: dict[str, Any] = {}
        for at in self.ats:
            value = dig(wire, at.path)
            if value is MISSING or (value is None and not at.required):
                if at.required:
                    return None
                continue
            read = at.read(value)
            if read is None:
                return None
            found |= read
        return self.part(**found, origin=Origin(self, wire))

    def write(self, part: Part, into: Any = None) -> Any:
        """The block: what it was read from, with what has changed since; or a new one, begun with `into`."""
        before = self.read(part.origin.wire) if part.origin is not None and part.origin.form is self else None
        wire = part.origin.wire if before is not None and part.origin else copy.deepcopy(into or dict(self.new))
        defaults = {f.name: f.default for f in fields(self.part)}
        if before is not None:
            self._check(part, before)
        for at in self.ats:
            values = [getattr(part, name) for name in at.names]
            if before is not None:
                changed = not same(values, [getattr(before, name) for name in at.names])
            else:
                changed = at.required or values != [defaults[name] for name in at.names]
            if changed:
                wire = put(wire, at.path, at.write(part, dig(wire, at.path)))
        return wire

    def _check(self, part: Part, before: Part) -> None:
        held = {"origin", *(name for at in self.ats for name in at.names)}
        for name in (f.name for f in fields(self.part) if f.name not in held):
            if not same(getattr(part, name), getattr(before, name)):
                raise UsageError(f"a block of this kind holds no {name}, and none can be given to it: {before!r:.200}")

    def rest(self, wire: Any) -> Mapping[str, Any]:
        """What it says beyond the part's fields."""
        for at in self.ats:
            if dig(wire, at.path) is not MISSING:
                wire = put(wire, at.path, MISSING)
        return wire if isinstance(wire, dict) else {}


class _AsItIs:
    """What no kind reads; and a text that stands where blocks may."""

    def rest(self, wire: Any) -> Mapping[str, Any]:  # noqa: ARG002 - nothing is beyond it
        return {}


_UNKNOWN, _BARE = _AsItIs(), _AsItIs()


def read_block(wire: Any, kinds: Iterable[Kind]) -> Part:
    """The part that a block is."""
    for kind in kinds:
        if (part := kind.read(wire)) is not None:
            return part
    return Unknown(wire, origin=Origin(_UNKNOWN, wire))


def write_block(part: Part, kinds: Sequence[Kind]) -> Any:
    """The block that a part is. Raises `UsageError` where the format has none for it."""
    if isinstance(part, Unknown):
        return part.data
    kind = _kind_of(part, kinds)
    if kind is None:
        raise UsageError(f"this format has no form for {type(part).__name__} here: {part!r:.200}")
    return kind.write(part)


def _kind_of(part: Part, kinds: Sequence[Kind]) -> Kind | None:
    if part.origin is not None and part.origin.form in kinds:
        own = part.origin.form
        if isinstance(own, Kind) and own.takes(part):
            return own
    return next((kind for kind in kinds if kind.part is type(part) and kind.takes(part)), None)


# ---------------------------------------------------------------- messages


@dataclass(frozen=True, eq=False)
class Place:
    """Where in a message blocks lie.

    Attributes
    ----------
    bare : Text, Thinking or None
        What a text is that stands here instead of blocks.
    whole : bool
        The message itself is the block.
    one : bool
        A block stands here, not a list of them.
    kept : bool
        It stays where nothing is in it.
    blocks : bool
        A new text is written as a block.
    """

    path: Path
    kinds: tuple[Kind, ...] = ()
    bare: type[Text | Thinking] | None = None
    one: bool = False
    kept: bool = False
    blocks: bool = False

    def read(self, message: Any) -> list[Part]:
        """The parts."""
        value = dig(message, self.path)
        if value is MISSING or value is None or value == "":
            return []
        if isinstance(value, str) and self.bare is not None:
            return [self.bare(text=value, origin=Origin(_BARE, value))]
        if self.one or not isinstance(value, list):
            return [read_block(value, self.kinds)]
        return [self._item(block) for block in value]

    def _item(self, block: Any) -> Part:
        if isinstance(block, str) and self.bare is not None:
            return self.bare(text=block, origin=Origin(_BARE, block))
        return read_block(block, self.kinds)

    def takes(self, part: Part) -> bool:
        """Whether a part can lie here."""
        if isinstance(part, Unknown):
            return part.origin is not None and not self.one and bool(self.kinds)
        return self.bare is type(part) or _kind_of(part, self.kinds) is not None

    def was_here(self, part: Part, message: Any) -> bool:
        """Whether a part was read here."""
        origin = part.origin
        return origin is not None and any(
            p.origin is not None and p.origin.form is origin.form and same(p.origin.wire, origin.wire)
            for p in self.read(message)
        )

    def write(self, message: Any, parts: Sequence[Part]) -> Any:
        """The message with these parts here."""
        before = self.read(message)
        if _same_parts(before, parts):
            return message
        old = dig(message, self.path)
        if not parts:
            empty: Any = MISSING if not self.kept else [] if isinstance(old, list) or self.blocks else ""
            return put(message, self.path, empty)
        (first, *more) = parts
        if self.bare is type(first) and not more and not isinstance(old, list):
            as_block = self.blocks and not isinstance(old, str)
            if not as_block and not (first.origin and isinstance(first.origin.form, Kind) and self.kinds):
                return put(message, self.path, first.text)
        if self.one:
            if more:
                raise UsageError(f"this format takes one {type(first).__name__} here, not {len(parts)}")
            return put(message, self.path, write_block(first, self.kinds))
        return put(message, self.path, [self._write_item(part, old) for part in parts])

    def _write_item(self, part: Part, old: Any) -> Any:
        bare = part.origin is not None and part.origin.form is _BARE and isinstance(old, list)
        if self.bare is type(part) and (bare or not self.kinds):
            return getattr(part, "text")  # noqa: B009
        return write_block(part, self.kinds)


@dataclass(frozen=True, eq=False)
class Shape:
    """A kind of message.

    Attributes
    ----------
    places : tuple of Place
        Where its parts lie, in the order in which they are read.
    role : str
        Whose turn it always is; "" where the message says it at `role_at`.
    roles : Mapping
        The words of the format, as ours.
    new : Mapping
        What a new one begins with.
    whole : Kind or None
        The message itself is one block.
    speaks : frozenset of str
        Whose turns a new one can be; empty for all.
    """

    places: tuple[Place, ...] = ()
    test: Callable[[Any], bool] = _any
    role: str = ""
    role_at: str = "role"
    roles: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)
    whole: Kind | None = None
    speaks: frozenset[str] = frozenset()

    def read(self, wire: Any, seat: int) -> Message | None:
        """The message; None where it is none of this shape."""
        if not self.test(wire):
            return None
        role = self.role or dig(wire, (self.role_at,))
        if not isinstance(role, str):
            return None
        if self.whole is not None:
            part = self.whole.read(wire)
            if part is None:
                return None
            parts = [part]
        else:
            parts = [part for place in self.places for part in place.read(wire)]
        return Message(self.roles.get(role, role), tuple(parts), origin=Origin(self, wire, seat))

    def takes(self, part: Part) -> bool:
        """Whether a part can be in such a message."""
        if self.whole is not None:
            return type(part) is self.whole.part and self.whole.takes(part)
        only = isinstance(part, Unknown) and len(self.places) == 1
        return only or any(place.takes(part) for place in self.places)

    def write(self, message: Message, parts: Sequence[Part], wire: Any) -> Any:
        """The message with these parts; `wire` is what it was read from, None if it is new."""
        if self.whole is not None:
            return self.whole.write(parts[0], dict(self.new))
        if wire is None:
            wire = copy.deepcopy(dict(self.new))
            if not self.role:
                wire = {self.role_at: self._word(message.role), **wire}
        elif not self.role and self.roles.get(wire.get(self.role_at), wire.get(self.role_at)) != message.role:
            wire = put(wire, (self.role_at,), self._word(message.role))
        shares: list[list[Part]] = [[] for _ in self.places]
        for part in parts:
            shares[self._place_of(part, wire)].append(part)
        for place, share in zip(self.places, shares, strict=True):
            wire = place.write(wire, share)
        return wire

    def _place_of(self, part: Part, wire: Any) -> int:
        places = [n for n, place in enumerate(self.places) if place.was_here(part, wire)]
        return next(iter(places or [n for n, place in enumerate(self.places) if place.takes(part)] or [0]))

    def _word(self, role: str) -> str:
        return next((word for word, ours in self.roles.items() if ours == role), role)

    def rest(self, wire: Any) -> Mapping[str, Any]:
        """What the message says beyond its role and its parts."""
        if not isinstance(wire, dict):
            return {}
        if self.whole is not None:
            return self.whole.rest(wire)
        known = {self.role_at, *(place.path[0] for place in self.places if place.path)}
        return {key: value for key, value in wire.items() if key not in known}


# ---------------------------------------------------------------- documents


@dataclass(frozen=True, eq=False)
class Seat:
    """Where in a document messages lie.

    Attributes
    ----------
    shapes : tuple of Shape
        The first that reads a message is its shape; the first that takes a part is a new message's.
    many : bool
        A list of them; else one.
    content : bool
        What stands here is the content of a message, and no more.
    speaker : str
        Whose turn a bare text is where messages are expected.
    """

    path: Path
    shapes: tuple[Shape, ...]
    many: bool = True
    content: bool = False
    speaker: str = ""

    def read(self, document: Any, number: int) -> list[Message]:
        """The messages."""
        value = dig(document, self.path)
        if value is MISSING or value is None or (value == "" and (self.content or self.many)):
            return []
        if self.speaker and isinstance(value, str):
            turn = _bare_turn(self.speaker).read({"content": value}, number)
            return [turn] if turn is not None else []
        if self.content:
            value = [{"content": value}]
        elif not self.many:
            value = [value]
        if not isinstance(value, list):
            return [_odd(value, number)]
        return [self._message(item, number) for item in value]

    def _message(self, wire: Any, number: int) -> Message:
        found = (shape.read(wire, number) for shape in self.shapes)
        return next((message for message in found if message is not None), None) or _odd(wire, number)

    def write(self, document: Any, messages: Sequence[Message], number: int) -> Any:
        """The document with these messages here."""
        if same([*messages], before := self.read(document, number)) and same(_wires(messages), _wires(before)):
            return document
        old = dig(document, self.path)
        if isinstance(old, str) and self.speaker and len(messages) > 1:  # the text becomes a message
            messages = [replace(m, origin=None) if m in before else m for m in messages]
        wires = [wire for message in messages for wire in self._wires_of(message)]
        if not wires:
            return put(document, self.path, [] if self.many else MISSING)
        if self.content or (isinstance(old, str) and len(wires) == 1 and self.speaker and [*wires[0]] == ["content"]):
            if len(wires) > 1:
                raise UsageError("this format takes one system prompt: edit that, or add parts to it")
            return put(document, self.path, wires[0]["content"])
        if not self.many and len(wires) > 1:
            raise UsageError("this is one message, and nothing can be added beside it")
        return put(document, self.path, wires if self.many else wires[0])

    def _wires_of(self, message: Message) -> list[Any]:
        """A message as this format has it: one, or several where parts lie in messages of their own."""
        origin = message.origin
        own = origin.form if origin is not None and origin.form in self._all_shapes() else None
        if origin is not None and origin.form is _UNKNOWN:
            return [write_block(part, ()) for part in message.parts]
        groups: list[tuple[Shape, list[Part]]] = []
        for part in message.parts:
            shape = own if isinstance(own, Shape) and own.takes(part) else self._shape_for(message.role, part)
            if groups and groups[-1][0] is shape and shape.whole is None:
                groups[-1][1].append(part)
            else:
                groups.append((shape, [part]))
        if not groups:
            shape = own if isinstance(own, Shape) else self._shape_for(message.role, Text(""))
            if shape.whole is not None:
                return []
            groups = [(shape, [])]
        out, left = [], own
        for shape, parts in groups:
            out.append(shape.write(message, parts, origin.wire if shape is left and origin else None))
            left = None if shape is left else left
        return out

    def _all_shapes(self) -> tuple[Shape, ...]:
        return (*self.shapes, _bare_turn(self.speaker)) if self.speaker else self.shapes

    def _shape_for(self, role: str, part: Part) -> Shape:
        for shape in self.shapes:
            if (not shape.speaks or role in shape.speaks) and shape.takes(part):
                return shape
        raise UsageError(f"this format has no form for {type(part).__name__} in a turn of {role!r}")


def beside_system(document: Any, shapes: tuple[Shape, ...], system: Shape) -> list[Seat]:
    """The seats of a request whose system prompt stands beside its turns; of a list of turns; and of one turn."""
    if isinstance(document, dict) and "role" not in document:
        return [Seat(("system",), (system,), many=False, content=True), Seat(("messages",), shapes)]
    return [Seat((), shapes, many=isinstance(document, list))]


def _wires(messages: Sequence[Message]) -> list[Any]:
    return [(m.origin and m.origin.wire, [p.origin and p.origin.wire for p in m.parts]) for m in messages]


_TURNS: dict[str, Shape] = {}


def _bare_turn(speaker: str) -> Shape:
    """A text that stands where messages are expected."""
    if speaker not in _TURNS:
        place = Place(("content",), bare=Text, kept=True)
        _TURNS[speaker] = Shape((place,), role=speaker)
    return _TURNS[speaker]


def _odd(wire: Any, number: int) -> Message:
    """What is no message of the format."""
    part = Unknown(wire, origin=Origin(_UNKNOWN, wire))
    return Message("unknown", (part,), origin=Origin(_UNKNOWN, wire, number))


@dataclass(frozen=True, eq=False)
class Format:
    """A wire format.

    Attributes
    ----------
    seats : callable
        Where messages lie in a document of it.
    knows : callable
        Whether a document is of this format.
    usage : callable
        What a response says of tokens.
    assemble : callable
        The response that chunks of a stream make.
    request : Mapping or None
        An empty request.
    compose : callable or None
        The messages of a new one, where a request is not made by filling an empty one.
    """

    name: str
    seats: Callable[[Any], Sequence[Seat]]
    knows: Callable[[Any], bool]
    usage: Callable[[Any], Usage | None]
    assemble: Callable[[Iterable[Any]], Any]
    request: Mapping[str, Any] | None
    compose: Callable[[Sequence[Message]], Any] | None = None

    def read(self, document: Any) -> tuple[Message, ...]:
        """The messages of a document, in their order."""
        return tuple(m for n, seat in enumerate(self.seats(document)) for m in seat.read(document, n))

    def write(self, document: Any, messages: Sequence[Message]) -> Any:
        """The document with these messages."""
        seats = self.seats(document)
        shares: list[list[Message]] = [[] for _ in seats]
        forms = [{id(shape) for shape in seat._all_shapes()} for seat in seats]
        last = -1
        for message in messages:
            origin = message.origin
            if origin is not None and 0 <= origin.seat < len(seats):
                known = id(origin.form) in forms[origin.seat] or origin.form is _UNKNOWN
                last = origin.seat if known else self._new_seat(message, seats, shares, last)
            else:
                last = self._new_seat(message, seats, shares, last)
            shares[last].append(message)
        for n, seat in enumerate(seats):
            document = seat.write(document, shares[n], n)
        return document

    def _new_seat(self, message: Message, seats: Sequence[Seat], shares: Sequence[Sequence[Message]], last: int) -> int:
        if message.role == "system":
            for n, seat in enumerate(seats):
                if not seat.many and not shares[n] and any(shape.role == "system" for shape in seat.shapes):
                    return n
        lists = [n for n, seat in enumerate(seats) if seat.many]
        if not lists:
            raise UsageError("there is no list of messages here that another one could be added to")
        return next((n for n in lists if n >= last), lists[-1])


def tokens(where: str, **paths: Sequence[Path]) -> Callable[[Any], Usage | None]:
    """How a format says its tokens: for each field of `Usage` the paths whose numbers add up to it."""

    def read(document: Any) -> Usage | None:
        """The tokens that a response says."""
        said = dig(document, (where,))
        if not isinstance(said, dict) or not said:
            return None
        found = {
            name: sum(n for path in every if type(n := dig(said, path)) is int and n > 0)
            for name, every in paths.items()
        }
        return Usage(**found) if any(found.values()) else None

    return read


def is_image(source: type) -> Callable[[Any], bool]:
    """Whether an image is of bytes, or of a URL."""
    return lambda part: isinstance(part, Image) and isinstance(part.source, source)
