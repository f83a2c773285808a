"""A value into its node's bytes: the fast way where ormsgpack is sound, else by hand, to the very same bytes."""

from __future__ import annotations

import functools
import hashlib
import itertools
import secrets
import types
from typing import Any, Literal, NamedTuple, cast

import ormsgpack

from ..errors import UnrecordableValueError
from . import opaque
from .buffers import SMALL, Ahead, Buffer, Chunker, Piece, chunks_of
from .forms import Form, NoDataFormError, form, reference
from .node import EXACT, MAX_DEPTH, array_head, chunk, chunk_item, map_head, tag_bytes, tag_item
from .places import shortened, subscript
from .readable import kind_of
from .types import name_of

__all__ = ["Encoded", "Otherwise", "Packed", "encode", "is_ambiguous", "looks_ambiguous", "packed", "written"]

Otherwise = Literal["pickle", "refer", "refuse"]

_ATOMS = {type(None), bool, int, float, str, bytes}
_PLAIN = _ATOMS | {list, dict}
# What ormsgpack writes as if it were bytes, or as raw msgpack: a value that holds one is written by hand.
_TAKEN_FOR_OTHERS = {bytearray, memoryview, ormsgpack.Ext, ormsgpack.Fragment}
BIN_OR_EXT = bytes([*range(0xC4, 0xCA), *range(0xD4, 0xD9)])
_WHOLE = slice(None)
_AXES: dict[str, dict[int, str]] = {
    "pandas.frame": {1: ".index", 2: ".columns", 3: ".attrs"},
    "pandas.series": {0: ".index", 1: ".name", 2: ".attrs"},
}
_COLUMNS_AT = 5
_STATE_AT = {"dataclass": 1, "pydantic": 1, "exception": 2, "sub": 2}


class Encoded(NamedTuple):
    """A value as it is stored.

    `digest` is the SHA-256 of `data`, 32 bytes. `kind` is "text" or "bytes" for exactly those, "pickle" where
    loading it runs code, "reference" for an argument that was no data, else "data".
    """

    digest: bytes
    data: bytes
    kind: str


def encode(value: Any, *, place: str = "output", otherwise: Otherwise = "pickle") -> Encoded:
    """The canonical bytes of `value`, their digest and their kind.

    Parameters
    ----------
    value
        Anything. It is read once and not kept; sharing inside it is not kept either (`[a, a]` has two copies).
    place
        What an error calls it: "output" leads to ``output["rows"][3].client``.
    otherwise
        What becomes of a part that has no data form. "pickle": the whole value is pickled. "refer": the part
        counts by its type and name, or by its pickle (arrays, frames, images, patterns, URLs); the rest is data, and
        nothing fails but what is too deep. "refuse": an error.

    Raises
    ------
    UnrecordableValueError
        It refers to itself, is nested more than 20,000 deep, is tied to this process (a lock, an open file, a
        generator), or cannot be pickled. The message names the place.

    Examples
    --------
    >>> encode({"a": (1, 2)}).kind
    'data'
    >>> encode(1).digest == encode(True).digest
    False
    """
    fast = packed(value, refer=otherwise == "refer")
    if fast is not None and looks_ambiguous(fast.data) and is_ambiguous(value, fast.forms):
        fast = None
    data = (fast or written(value, place, otherwise)).data
    return Encoded(hashlib.sha256(data).digest(), data, kind_of(data))


class Packed(NamedTuple):
    """The plain node of a value.

    `forms` are those of the parts that ormsgpack did not write itself, in its order, and `extensions` is how many
    there are in `data`, where they alone account for it. `pieces` are the chunks of its buffers.
    """

    data: bytes
    forms: list[Form]
    extensions: int
    pieces: list[Piece]


def written(value: Any, place: str, otherwise: Otherwise, chunker: Chunker | None = None) -> Packed:
    """The plain node of any value, by hand, or of its pickle. Raises `UnrecordableValueError`.

    Without a chunker, buffers have no data form.
    """
    buffers = _Buffers(chunker)
    try:
        data = _by_hand(value, place, refer=otherwise == "refer", buffers=buffers)
    except _NotDataError as found:
        if otherwise == "refuse" or opaque.is_live(found.part) or opaque.is_lazy(found.part):
            raise unrecordable(found.part, found.place) from None
        data, buffers = _pickled(value, place, found), _Buffers(None)
    return Packed(data, [], 0, buffers.pieces)


def unrecordable(part: Any, place: str) -> UnrecordableValueError:
    """The error that names a part without a data form."""
    if type(part) is types.CoroutineType:
        part.close()
        name = part.__qualname__
        return UnrecordableValueError(f"{shortened(place)} is the coroutine {name}, which has not run: await it")
    if type(part) is types.GeneratorType or type(part) is types.AsyncGeneratorType:
        name = part.__qualname__
        return UnrecordableValueError(
            f"{shortened(place)} is the generator {name}, which cannot be recorded. Give the list of what it yields"
        )
    if opaque.is_lazy(part):
        return UnrecordableValueError(
            f"{shortened(place)} is a lazy object ({name_of(type(part))}): a query that has not run. "
            "Call collect() on it, and hand on what that gives"
        )
    return UnrecordableValueError(
        f"{shortened(place)} is a {name_of(type(part))}, which cannot be recorded. Give plain data instead "
        "(text, numbers, lists, dicts, dataclasses, pydantic models), leave it out, or hand on what it "
        "is made from, such as a path, an address or an identifier"
    )


class _NotDataError(Exception):
    def __init__(self, part: Any, place: str) -> None:
        super().__init__(place)
        self.part = part
        self.place = place


def _pickled(value: Any, place: str, first: _NotDataError) -> bytes:
    """The node of its pickle; `first` is the first part that has no data form."""
    try:
        body = opaque.dumps(value)
    except Exception as error:
        part, where = opaque.guilty(first.part, first.place) or opaque.guilty(value, place) or (value, place)
        raise unrecordable(part, where) from error
    return ormsgpack.packb([tag_item("pickle"), body])


# ---- the fast way ---------------------------------------------------------------------------------------------


def packed(value: Any, *, refer: bool, chunker: Chunker | None = None, ahead: Ahead | None = None) -> Packed | None:
    """The plain node by one call of ormsgpack, or None where it cannot write this value.

    It is this value's only if that is not ambiguous: ask `is_ambiguous` where bins or extensions are in it. New
    chunks go to `ahead` once all of the value is known to have a data form.
    """
    forms: list[Form] = []
    buffers = _Buffers(chunker)

    def hook(part: Any) -> Any:
        if type(part) is Buffer:
            return buffers.for_ormsgpack(part)
        made = form(part, refer)
        if type(part) in (set, frozenset):
            if not _ATOMS.issuperset(map(type, part)):
                raise NoDataFormError  # its items are sorted by their bytes: by hand
            made = [made[0], *sorted(part, key=_packed_atom)]
        made[0] = tag_item(made[0])
        forms.append(made)
        return made

    try:
        data = ormsgpack.packb(value, hook, EXACT)
    except Exception:  # too deep, a key that is no str, a surrogate, a class that has no hash, or what the hook raised
        return None
    return Packed(buffers.settled(data, ahead), forms, len(forms) + buffers.extensions, buffers.pieces)


class _Buffers:
    """Puts what stands for a buffer into the node that is being written."""

    def __init__(self, chunker: Chunker | None) -> None:
        self.extensions = 0
        self.pieces: list[Piece] = []
        self._chunker = chunker

    def for_ormsgpack(self, buffer: Buffer) -> Any:
        """What it writes. Chunks have no digest yet: those of all buffers are hashed together, by `settled`."""
        if self._is_short(buffer):
            return bytes(buffer.view)
        chunks = chunks_of(buffer.view)
        first, head = len(self.pieces), _not_hashed()
        self.pieces += [Piece(head + i.to_bytes(8, "big"), chunk) for i, chunk in enumerate(chunks, first)]
        self.extensions += 1 + len(chunks)
        return [tag_item("buffer"), *(chunk_item(p.digest, len(p.data)) for p in self.pieces[first:])]

    def settled(self, data: bytes, ahead: Ahead | None) -> bytes:
        """What ormsgpack wrote, with the digests of the chunks where they belong."""
        if self._chunker is None or not self.pieces:
            return data
        hashed = self._chunker.pieces([cast("memoryview", p.data) for p in self.pieces], ahead)
        out: list[bytes] = []
        at = 0
        for before, piece in zip(self.pieces, hashed, strict=True):  # ormsgpack asks for them in their order
            stands = data.index(before.digest, at)
            out += data[at:stands], piece.digest
            at = stands + len(piece.digest)
        self.pieces = hashed
        return b"".join((*out, data[at:]))

    def by_hand(self, buffer: Buffer) -> bytes:
        if self._is_short(buffer):
            return _packed_atom(bytes(buffer.view))
        assert self._chunker is not None
        pieces = self._chunker.cut(buffer.view)
        self.pieces += pieces
        self.extensions += 1 + len(pieces)
        links = (chunk(p.digest, len(p.data)) for p in pieces)
        return array_head(1 + len(pieces)) + tag_bytes("buffer") + b"".join(links)

    def _is_short(self, buffer: Buffer) -> bool:
        if self._chunker is None:
            raise NoDataFormError
        return len(buffer.view) <= SMALL


@functools.cache
def _not_hashed() -> bytes:
    """What begins a digest that is not known yet. Nobody can know it, so no content holds it."""
    return secrets.token_bytes(24)


def _packed_atom(part: Any) -> bytes:
    return ormsgpack.packb(part, None, EXACT)


def looks_ambiguous(data: bytes) -> bool:
    """Whether bins or extensions may be among these nodes."""
    # Removing bytes is by far the fastest way to ask whether any of them is there; see decisions/008.
    return len(data.translate(None, BIN_OR_EXT)) < len(data)


def is_ambiguous(value: Any, forms: list[Form], also: frozenset[type] = frozenset()) -> bool:
    """Whether ormsgpack was given one of the types that it takes for others (or one of `also`)."""
    wanted, others = _TAKEN_FOR_OTHERS | also, _ATOMS - also
    if type(value) in wanted:
        return True
    todo: list[Any] = [value] if type(value) in (list, dict) else []
    todo += [made[1:] for made in forms]
    for holder in todo:  # grows while it is walked
        parts = holder.values() if type(holder) is dict else holder
        kinds = set(map(type, parts))
        if kinds <= others:
            continue
        if kinds & wanted:
            return True
        todo += [part for part in parts if type(part) in (list, dict)]
    return False


# ---- by hand --------------------------------------------------------------------------------------------------


class _Open:
    """A container whose items are being written."""

    __slots__ = ("at", "children", "name", "out", "sorting", "value")

    def __init__(self, value: Any, name: str, children: list[Any], out: list[bytes]) -> None:
        self.value = value  # held, so that its id stays its own
        self.name = name  # "list", "map", or the tag
        self.children = children
        self.out = out
        self.at = 0
        self.sorting: list[bytes] | None = None


def _by_hand(value: Any, place: str, *, refer: bool, buffers: _Buffers | None = None) -> bytes:
    """The bytes with an explicit stack: depth costs no recursion."""
    out: list[bytes] = []
    stack: list[_Open] = []
    path: set[int] = set()
    buffers = buffers or _Buffers(None)
    try:
        _write(value, out, stack, path, buffers, refer=refer)
        while stack:
            top = stack[-1]
            if top.sorting is not None and top.at:
                top.sorting.append(b"".join(top.out))
                top.out.clear()
            if top.at < len(top.children):
                part = top.children[top.at]
                top.at += 1
                _write(part, top.out, stack, path, buffers, refer=refer)
                continue
            stack.pop()
            path.discard(id(top.value))
            if top.sorting is not None:
                (stack[-1].out if stack else out).extend(sorted(top.sorting))
    except NoDataFormError:
        part = stack[-1].children[stack[-1].at - 1] if stack else value
        raise _NotDataError(part, place + _where(stack)) from None
    except _RefusedError as error:
        raise UnrecordableValueError(f"{shortened(place + _where(stack))} {error}") from None
    return b"".join(out)


class _RefusedError(Exception):
    """What is wrong with the part at hand, as the rest of a sentence that begins with its place."""


def _write(part: Any, out: list[bytes], stack: list[_Open], path: set[int], buffers: _Buffers, *, refer: bool) -> None:
    """Append `part` if it is an atom, else its head, and open it."""
    cls = type(part)
    if cls is str or cls is int or cls is float or cls is bool or cls is bytes or part is None:
        try:
            out.append(_packed_atom(part))
            return
        except TypeError:  # a big integer, a text with surrogates
            pass
    if cls is Buffer:
        out.append(buffers.by_hand(part))
        return
    if id(part) in path:
        made = _circle(part, stack, refer=refer)
    elif len(stack) >= MAX_DEPTH:
        raise _RefusedError(f"is nested more than {MAX_DEPTH:,} deep. Give a flatter value")
    elif cls is list:
        made = ["list", *part]
    elif cls is dict and _is_map(part := _named(part, stack, refer=refer)):
        made = ["map", *itertools.chain.from_iterable(part.items())]
    else:
        made = form(part, refer)
    name, children = made[0], made[1:]
    if name == "list":
        head = array_head(len(children))
    elif name == "map":
        head = map_head(len(children) // 2)
    else:
        head = array_head(len(made)) + tag_bytes(name)
    out.append(head)
    frame = _Open(part, name, children, out)
    if name in ("set", "frozenset"):
        frame.out, frame.sorting = [], []
    path.add(id(part))
    stack.append(frame)


def _circle(part: Any, stack: list[_Open], *, refer: bool) -> Form:
    if not refer:
        raise _RefusedError(
            "refers to itself, and a value that does so cannot be recorded. Break the circle: leave out the "
            "reference back, or put an identifier in its place"
        )
    levels = next(n for n, frame in enumerate(reversed(stack), 1) if frame.value is part)
    return ["reference", *reference(part, f"the value {levels} levels around it")[1:]]


def _named(part: dict[Any, Any], stack: list[_Open], *, refer: bool) -> dict[Any, Any]:
    """`part`; where it is the attributes of an object, with names that are plain texts.

    `setattr` takes a member of a `StrEnum` for a name, and leaves it as it is.
    """
    top = stack[-1] if stack else None
    if top is None or _STATE_AT.get(top.name) != top.at - 1 or all(type(k) is str for k in part):
        return part
    if not refer and not all(isinstance(k, str) for k in part):
        raise NoDataFormError
    return {str.__getitem__(k, _WHOLE) if isinstance(k, str) else k: v for k, v in part.items()}


def _is_map(part: dict[Any, Any]) -> bool:
    if not all(type(k) is str for k in part):
        return False
    try:
        ormsgpack.packb(list(part))
    except TypeError:  # a key with surrogates
        return False
    return True


def _where(stack: list[_Open]) -> str:
    """The place of the part at hand, as Python would write it."""
    place = ""
    inside = ""
    above: _Open | None = None
    for frame in stack:
        at = frame.at - 1
        if frame.name == "map" and inside:
            place += f".{frame.children[at - at % 2]}"
        elif frame.name == "map" or frame.name in ("dict", "odict", "defaultdict"):
            place += _key(frame, at)
        elif frame.name in ("list", "tuple"):
            place += _item_of_array(above, at) if above and above.name == "numpy.ndarray" else f"[{at}]"
        elif frame.name in _AXES:
            place += _AXES[frame.name].get(at, "")
            if frame.name == "pandas.frame" and at >= _COLUMNS_AT:
                place += subscript(frame.value.columns[at - _COLUMNS_AT], f"column {at - _COLUMNS_AT}")
        elif frame.name in ("deque", "namedtuple"):
            place += f"[{at - 1}]"
        elif frame.name in ("set", "frozenset"):
            place += "{…}"
        elif frame.name in ("slice", "range"):
            place += f".{('start', 'stop', 'step')[at]}"
        inside = frame.name if _STATE_AT.get(frame.name) == at else ""
        above = frame
    return place


def _item_of_array(array: _Open, at: int) -> str:
    """The place of an item of an array of objects, of which all items lie in one list; or of one of its fields."""
    if array.value.dtype.names is not None:
        return subscript(array.value.dtype.names[at])
    _, shape, order, _ = array.children
    index: list[int] = []
    for length in shape if order == "F" else reversed(shape):
        at, i = divmod(at, length)
        index.append(i)
    return f"[{', '.join(map(str, index if order == 'F' else reversed(index)))}]" if shape else "[()]"


def _key(frame: _Open, at: int) -> str:
    if frame.name == "defaultdict":
        if at == 0:
            return ".default_factory"
        at -= 1
        key = frame.children[at - at % 2 + 1]
    else:
        key = frame.children[at - at % 2]
    if at % 2 == 0:
        return ".keys()"
    return subscript(key, f"key {at // 2}")
