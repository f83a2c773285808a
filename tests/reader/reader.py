"""Reads what Kitaru wrote into a folder: from docs/format.md alone, with nothing but the standard library.

    python reader.py FOLDER EXEC

A reader in another language would be this one again: `unpack` is all of msgpack that the format uses, and puts the
parts of a value together; `Place` finds and checks segments, packs and blobs; `Execution` is what the records come to;
`Columns` is what arrays and frames hold, and asks NumPy and pyarrow for the bodies that are theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

FORMAT = 1
SEGMENT, PACK = b"kitaru1\n", b"kitpak1\n"
TAG, REF, RUN, CHUNK = 1, 2, 3, 4

Get = Callable[[bytes], bytes]  # the bytes of a part, by their SHA-256


class Damaged(Exception):
    """An object is not what was written."""


class Tagged(NamedTuple):
    """A value that plain msgpack does not have: the tag's name, and the items after it."""

    tag: str
    items: list[Any]


class Chunk(NamedTuple):
    """Raw bytes that lie elsewhere."""

    digest: bytes
    size: int


class _Tag(str):
    """The first item of a tagged array."""

    __slots__ = ()


# ---------------------------------------------------------------- msgpack, and values from their parts


class _Open:
    """A container whose items are being read."""

    __slots__ = ("is_map", "items", "want")

    def __init__(self, want: int, *, is_map: bool) -> None:
        self.items: list[Any] = []
        self.want, self.is_map = want, is_map

    @property
    def per(self) -> int:
        """How many items one of those that a RUN counts is."""
        return 2 if self.is_map or (self.items and type(self.items[0]) is _Tag and self.items[0] == "map") else 1


class _Input(NamedTuple):
    """A part that is being read, and where to go on behind it."""

    data: bytes
    at: int
    depth: int  # containers that were open
    base: int  # items that the last one of them had
    count: int  # of a RUN; 0: a REF


def unpack(data: bytes, get: Get | None = None) -> Any:
    """The one value that `data` is, with all its parts. It may be nested deeper than Python recurses.

    Where a REF stands, reading goes on in that part, and then behind the REF. So it does for the items of a RUN.
    """
    at = 0
    open_: list[_Open] = []
    inputs: list[_Input] = []

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise Damaged("it ends too early")
        at += count
        return data[at - count : at]

    def number(width: int, *, signed: bool = False) -> int:
        return int.from_bytes(take(width), "big", signed=signed)

    while True:
        code, count, is_map, x = take(1)[0], -1, False, None
        if code < 0x80 or code >= 0xE0:
            x = code if code < 0x80 else code - 256
        elif code < 0xA0:
            count, is_map = code & 15, code < 0x90
        elif code < 0xC0:
            x = take(code & 31).decode()
        elif code in (0xC0, 0xC2, 0xC3):
            x = None if code == 0xC0 else code == 0xC3
        elif 0xC4 <= code <= 0xC6:
            x = take(number(1 << code - 0xC4))
        elif 0xC7 <= code <= 0xC9 or 0xD4 <= code <= 0xD8:
            size = number(1 << code - 0xC7) if code < 0xD4 else 1 << code - 0xD4
            kind, payload = number(1), take(size)
            if kind == TAG:
                x = _Tag(payload.decode())
            elif kind == CHUNK:
                x = Chunk(payload[:32], int.from_bytes(payload[32:], "big"))
            elif kind not in (REF, RUN) or get is None or not open_:
                raise Damaged(f"extension {kind} where it cannot be")
            else:
                top = open_[-1]
                standing_for = int.from_bytes(payload[32:], "big")
                inputs.append(_Input(data, at, len(open_), len(top.items), standing_for))
                data, at = get(payload[:32]), 0
                if kind == RUN:
                    top.want += _head_of_run(take, number) - 1
                continue
        elif code in (0xCA, 0xCB):
            x = struct.unpack(">f" if code == 0xCA else ">d", take(4 if code == 0xCA else 8))[0]
        elif 0xCC <= code <= 0xCF:
            x = number(1 << code - 0xCC)
        elif 0xD0 <= code <= 0xD3:
            x = number(1 << code - 0xD0, signed=True)
        elif 0xD9 <= code <= 0xDB:
            x = take(number(1 << code - 0xD9)).decode()
        elif 0xDC <= code <= 0xDF:
            count, is_map = number(2 if code in (0xDC, 0xDE) else 4), code >= 0xDE
        else:
            raise Damaged(f"no item begins with {code:#x}")
        if count >= 0:
            open_.append(_Open(count * 2 if is_map else count, is_map=is_map))
        elif open_:
            open_[-1].items.append(x)
        while open_:
            if inputs and len(open_) == inputs[-1].depth and at == len(data):
                data, at = _behind(inputs.pop(), open_[-1])
            elif len(open_[-1].items) == open_[-1].want:
                if inputs and len(open_) == inputs[-1].depth:
                    raise Damaged("bytes follow the end of a part")
                x = _closed(open_.pop(), get)
                if open_:
                    open_[-1].items.append(x)
            else:
                break
        if not open_:
            if at != len(data):
                raise Damaged("bytes follow its end")
            return x


def _head_of_run(take: Callable[[int], bytes], number: Callable[[int], int]) -> int:
    code = take(1)[0]
    if not (0x90 < code < 0xA0 or code in (0xDC, 0xDD)):
        raise Damaged("a run of items that is no array")
    return code & 15 if code < 0xA0 else number(2 if code == 0xDC else 4)


def _behind(part: _Input, top: _Open) -> tuple[bytes, int]:
    """Where reading goes on behind a REF or RUN, whose items stand in `top` now."""
    found = len(top.items) - part.base
    if found != (part.count * top.per if part.count else 1):
        raise Damaged(f"a part stands for {part.count or 1} items, and holds {found // top.per}")
    return part.data, part.at


def _closed(done: _Open, get: Get | None) -> Any:
    items = done.items
    if done.is_map:
        return dict(zip(items[::2], items[1::2], strict=True))
    if not items or type(items[0]) is not _Tag:
        return items
    tag, items = str(items[0]), items[1:]
    if get is not None and tag == "map":
        return dict(zip(items[::2], items[1::2], strict=True))
    if get is not None and tag in ("text", "bytes"):
        whole = _raw(items, get)
        return whole.decode() if tag == "text" else whole
    return Tagged(tag, items)


def _raw(chunks: list[Chunk], get: Get) -> bytes:
    pieces = [get(chunk.digest) for chunk in chunks]
    if [len(piece) for piece in pieces] != [chunk.size for chunk in chunks]:
        raise Damaged("a chunk is not as long as it is said to be")
    return b"".join(pieces)


# ---------------------------------------------------------------- objects


class Place:
    """A folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        if os.path.exists(os.path.join(self.folder, "kitaru.json")):
            stated = json.loads(self.get("kitaru.json"))
            if stated["format"] > FORMAT:
                raise Damaged(f"format {stated['format']} is newer than this reader")

    def get(self, key: str) -> bytes:
        with open(os.path.join(self.folder, key), "rb") as f:
            return f.read()

    def names(self, key: str, shape: str) -> list[str]:
        try:
            found = os.listdir(os.path.join(self.folder, key))
        except FileNotFoundError:
            return []
        return sorted(name for name in found if re.fullmatch(shape, name, re.ASCII))

    def segments(self, exec_id: str, *, packs: bool = True) -> list[dict[str, Any]]:
        """The bodies of an execution's segments, each checked; read from packs as far as there are any."""
        listed = self.names(f"executions/{exec_id}/journal", r"\d{10}")
        if [int(name) for name in listed] != [*range(1, len(listed) + 1)]:
            raise Damaged(f"{exec_id} has a gap: {listed}")
        bodies: list[dict[str, Any]] = []
        prev = b""
        for name in self.names(f"executions/{exec_id}/packs", r"\d{10}-\d{10}") if packs else []:
            first, last = (int(n) for n in name.split("-"))
            if first != len(bodies) + 1 or last > len(listed):
                continue
            try:
                chain = _opened(PACK, self.get(f"executions/{exec_id}/packs/{name}"))
                more, end = _chained(exec_id, first, prev, chain)
                if len(more) != last - first + 1:
                    raise Damaged(name)
            except Damaged:
                continue
            bodies, prev = bodies + more, end
        rest = (self.get(f"executions/{exec_id}/journal/{name}") for name in listed[len(bodies) :])
        return bodies + _chained(exec_id, len(bodies) + 1, prev, rest)[0]

    def executions(self) -> list[dict[str, Any]]:
        """What the catalog says, newest first: hints."""
        best: dict[str, dict[str, Any]] = {}
        for reverse in self.names("catalog", r"\d{13}"):
            for exec_id in self.names(f"catalog/{reverse}", r".*"):
                for name in self.names(f"catalog/{reverse}/{exec_id}", r"\d{10}\..*"):
                    n, status, rest = name.split(".", 2)
                    flow = re.sub(
                        r"(%[0-9A-F]{2})+",
                        lambda m: bytes.fromhex(m[0].replace("%", "")).decode(),
                        rest.rpartition(".")[0],
                    )
                    row = {"n": int(n), "exec_id": exec_id, "status": status, "flow": flow}
                    if exec_id not in best or row["n"] >= best[exec_id]["n"]:
                        best[exec_id] = {**row, "begun": (10**13 - int(reverse)) / 1000}
        return [*best.values()]


def _opened(magic: bytes, data: bytes) -> Any:
    if data[: len(magic)] != magic or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise Damaged("its checksum does not match")
    return unpack(data[len(magic) : -32])


def _chained(exec_id: str, first: int, prev: bytes, raw: Any) -> tuple[list[dict[str, Any]], bytes]:
    bodies = []
    for n, data in enumerate(raw, first):
        body = _opened(SEGMENT, data)
        if (body["exec"], body["n"], body["prev"]) != (exec_id, n, prev):
            raise Damaged(f"segment {n} of {exec_id} does not belong there")
        bodies.append(body)
        prev = hashlib.sha256(data).digest()
    return bodies, prev


# ---------------------------------------------------------------- what the records come to


class Execution:
    """One execution: its status, steps, values and order."""

    def __init__(self, place: Place, exec_id: str, *, packs: bool = True, upto: int | None = None) -> None:
        self.place, self.exec_id = place, exec_id
        self.fork: dict[str, Any] | None = None
        self.status, self.attempts, self.flow = "pending", 0, ""
        self.inputs: dict[str, Any] = {}  # value maps
        self.result: Any = None
        self.failure: Any = None
        self.steps: list[dict[str, Any]] = []
        self.sources: dict[bytes, str] = {}
        self._by_id: dict[Any, dict[str, Any]] = {}
        self._saved: dict[Any, dict[str, Any]] = {}
        self._logged: dict[Any, dict[str, Any]] = {}
        self._parts: dict[bytes, bytes] = {}  # and roots
        self._blobs: set[bytes] = set()
        self._bundles: list[bytes] = []
        self._origin: Execution | None = None
        ended: dict[str, Any] = {}
        for segment in place.segments(exec_id, packs=packs)[:upto]:
            for record in segment["records"]:
                self._learn(record)
                if record["kind"] in {"claim", "release"}:
                    for step in self.steps:
                        if step["status"] == "running":
                            step["status"] = "interrupted"
                if record["kind"] == "claim":
                    self.status, self.attempts = "running", segment["epoch"]
                elif record["kind"] == "release":
                    self.status = record["status"]
                elif record["kind"] == "flow_ended":
                    ended = record
        if self.status == "completed" and ended.get("ok"):
            self.result = ended["value"][0][1]
        elif self.status == "failed" and not ended.get("ok", True):
            self.failure = ended["value"]
        self.saved, self.logged = [*self._saved.values()], [*self._logged.values()]

    def value(self, held: dict[str, Any]) -> Any:
        """The value of a value map, its tags kept, and the chunks of its buffers named."""
        data = held.get("data")
        return unpack(self.part(held["digest"]) if data is None else _checked(data, held["digest"]), self.part)

    def part(self, digest: bytes) -> bytes:
        """The bytes of a part, wherever they lie."""
        found = self._find(digest)
        if found is None:
            raise Damaged(f"nobody has the part {digest.hex()}")
        return _checked(found, digest)

    def _find(self, digest: bytes) -> bytes | None:
        while digest not in self._parts:
            if digest in self._blobs:
                return self._blob(digest)
            if self._bundles:
                for part in unpack(self._blob(self._bundles.pop())):
                    self._parts.setdefault(hashlib.sha256(part).digest(), part)
            elif self.fork is None:
                return None
            else:
                if self._origin is None:
                    self._origin = Execution(self.place, self.fork["origin"], upto=self.fork["segments"])
                return self._origin._find(digest)
        return self._parts[digest]

    def _blob(self, digest: bytes) -> bytes:
        name = digest.hex()
        return _checked(self.place.get(f"blobs/{name[:2]}/{name}"), digest)

    def _learn(self, r: dict[str, Any]) -> None:
        kind = r["kind"]
        for pairs in (r.get("arguments"), r.get("value") if r.get("ok") else None):
            for _, held in pairs or ():
                self._note(held)
        if "before" in r:  # a call that was not begun: its values are recorded all the same
            for _, held in r["before"]["arguments"]:
                self._note(held)
        if kind == "begun":
            self.flow, self.inputs, self.fork = r["flow"], dict(r["arguments"]), r.get("fork")
            self.sources[r["code"]] = r["source"]
            for _, pairs in (*self.fork["outputs"], *self.fork["inputs"]) if self.fork else ():
                for _, held in pairs:
                    self._note(held)
        elif kind == "started":
            self._start(r)
        elif kind == "reused":
            self._learn(r["start"])
            step = self._by_id[_key(r["start"]["id"])]
            step["reused"] = r["start"].get("counterpart")
            _end(step, r)
        elif kind == "ended":
            _end(self._by_id[_key(r["id"])], r)
        elif kind == "saved":
            self._note(r["value"])
            self._saved[_key(r["record"]), r["name"], r["ordinal"]] = {**r, "path": self._path(r["record"])}
        elif kind == "logged":
            self._logged[_key(r["record"]), r["ordinal"]] = {**r, "path": self._path(r["record"])}

    def _note(self, held: dict[str, Any]) -> None:
        if "data" in held:
            self._parts[held["digest"]] = held["data"]
        for part in held.get("parts", ()):
            self._parts[hashlib.sha256(part).digest()] = part
        self._blobs.update(digest for digest, _ in held.get("blobs", ()))
        if "bundle" in held:
            self._bundles.append(held["bundle"])

    def _path(self, of: Any) -> str:
        return self._by_id[_key(of)]["path"] if of is not None else ""

    def _start(self, r: dict[str, Any]) -> None:
        key = _key(r["id"])
        step = self._by_id.get(key)
        if step is None:
            last = f"{r['name']}#{r['ordinal']}"
            if r["ordinal"] is None:
                like = (r["parent"], r["name"], None)
                last = f"{r['name']}~{sum((s['parent'], s['name'], s['ordinal']) == like for s in self.steps) + 1}"
            path = last if r["parent"] is None else f"{self._path(r['parent'])}/{last}"
            step = {"id": r["id"], "path": path, "parent": r["parent"], "name": r["name"], "ordinal": r["ordinal"]}
            step |= {"type": r.get("type"), "superseded": False, "reused": None}
            self.steps.append(step)
            self._by_id[key] = step
            if "instead" in r and _key(r["instead"]) in self._by_id:
                self._by_id[_key(r["instead"])]["superseded"] = True
        step |= {"status": "running", "inputs": dict(r["arguments"]), "outputs": {}, "failure": None}
        step |= {"attempt": r["attempt"], "own_code": r["own_code"], "again": False}
        for held in (self._saved, self._logged):
            for void in [k for k in held if k[0] == key]:
                del held[void]
        if "source" in r:
            self.sources[r["own_code"]] = r["source"]


def _checked(data: bytes, digest: bytes) -> bytes:
    if hashlib.sha256(data).digest() != digest:
        raise Damaged(f"the part {digest.hex()}")
    return data


def _key(of: Any) -> Any:
    return tuple(of) if isinstance(of, list) else of


def _end(step: dict[str, Any], r: dict[str, Any]) -> None:
    if r["ok"]:
        step |= {"status": "completed", "outputs": dict(r["value"]), "failure": None}
    else:
        step |= {"status": "failed", "outputs": {}, "failure": r["value"]}


# ---------------------------------------------------------------- arrays and frames


class Columns:
    """What arrays, frames and images hold, as NumPy arrays, pyarrow arrays and lists. No pandas, no polars, no PIL.

    What pandas calls `NA` and `NaT` stays `Tagged` in a list of cells, and is None where a mask says it.
    """

    def __init__(self, get: Get) -> None:
        self._get = get

    def body(self, buffer: Any) -> bytes:
        """The bytes of a BUFFER."""
        return buffer if isinstance(buffer, bytes) else _raw(buffer.items, self._get)

    # ---- NumPy

    def array(self, node: Tagged) -> Any:
        """A `numpy.ndarray`."""
        import numpy as np

        spelled, shape, order, body = node.items
        dtype = self.dtype(spelled)
        if not isinstance(body, list):
            return np.frombuffer(self.body(body), dtype).reshape(shape, order=order)
        if dtype.names:
            made = np.zeros(shape, dtype, order=order)
            for name, part in zip(dtype.names, body, strict=True):
                made[name] = self.array(part)
            return made
        flat = np.empty(len(body), object)
        for at, item in enumerate(body):
            flat[at] = item
        return flat.reshape(shape, order=order)

    def dtype(self, spelled: Any) -> Any:
        """The dtype of a DTYPE; objects for a `StringDType`."""
        import numpy as np

        if isinstance(spelled, str):
            return np.dtype(spelled.partition(":")[0])
        kind, *rest = spelled
        if kind == "string":
            return np.dtype(object)
        if kind == "subarray":
            return np.dtype((self.dtype(rest[0]), tuple(rest[1])))
        itemsize, aligned, fields = rest
        said = {"names": [f[0] for f in fields], "formats": [self.dtype(f[1]) for f in fields]}
        said |= {"offsets": [f[2] for f in fields], "titles": [f[3] if f[3:] else None for f in fields]}
        return np.dtype({**said, "itemsize": itemsize}, align=aligned)

    # ---- frames

    def columns(self, node: Tagged) -> list[tuple[Any, Any]]:
        """The columns of a frame or a table: their names, and what they hold."""
        tag, items = node
        if tag == "pandas.frame":
            _, _, names, _, _, *contents = items
            return [*zip(self.labels(names), map(self.column, contents), strict=True)]
        if tag == "polars.frame":
            return [(name, self.arrow(lying)) for _, (name, _, lying) in items[1:]]
        schema, _, *arrays = items
        return [(f.items[0], self.arrow(a)) for f, a in zip(schema.items[1:], arrays, strict=True)]

    def labels(self, index: Tagged) -> list[Any]:
        """The labels in an index."""
        tag, items = index
        if tag == "pandas.rangeindex":
            return [*range(*items[:3])]
        if tag == "pandas.multiindex":
            levels, codes = [self.labels(level) for level in items[0]], [self.array(c).tolist() for c in items[1]]
            rows = zip(*codes, strict=True)
            return [tuple(lv[c] if c >= 0 else None for lv, c in zip(levels, row, strict=True)) for row in rows]
        return self._list(self.column(items[0]))

    def _list(self, column: Any) -> list[Any]:
        return column if isinstance(column, list) else column.tolist()

    def column(self, content: Tagged) -> Any:
        """A CONTENT."""
        tag, items = content
        if tag == "numpy.ndarray":
            return self.array(content)
        if tag == "pandas.cells":
            return self._cells(*items)
        dtype, *parts = items
        if dtype is None:
            return self.column(parts[0])
        name, *parameters = dtype.items
        if name == "category":
            labels = [*self.labels(parameters[0]), None]
            return [labels[code] for code in self.array(parts[0]).tolist()]
        if name == "datetime":
            return self.array(parts[0]).view(f"M8[{parameters[0]}]")
        if name == "period":
            return self.array(parts[0])
        if name == "interval":
            return [*zip(*(self._list(self.column(part)) for part in parts), strict=True)]
        if name == "sparse":
            made = [parameters[1]] * parts[0]
            for at, value in zip(self.array(parts[3]).tolist(), self._list(self.column(parts[2])), strict=True):
                made[at] = value
            return made
        if name == "arrow" or (name == "string" and parameters[0] == "pyarrow"):
            return self.arrow(parts[0])
        if name == "string":
            return self.column(parts[0])
        values = self.array(parts[0]).tolist()
        if parts[1] is None:
            return values
        return [None if m else v for v, m in zip(values, self.array(parts[1]).tolist(), strict=True)]

    def _cells(self, kinds: Any, cells: Any) -> list[Any]:
        if isinstance(cells, list):
            return cells
        made: list[Any] = unpack(self.body(cells))
        for at, kind in enumerate(self.body(kinds) if kinds is not None else b""):
            if kind:
                made[at] = Tagged("pandas.NA" if kind == 1 else "pandas.NaT", [])
        return made

    # ---- Arrow

    def arrow(self, node: Tagged) -> Any:
        """An `arrow.array`; one of an extension type as what it is stored in, a view as what it was cut from."""
        import pyarrow as pa

        kind, length, *parts = node.items
        name, *parameters = kind.items
        if name in ("uuid", "bool8", "json_", "opaque", "fixed_shape_tensor"):
            return self.arrow(parts[0])
        if name == "null":
            return pa.nulls(length)
        if name == "dictionary":
            return pa.DictionaryArray.from_arrays(*map(self.arrow, parts), ordered=parameters[2])
        if name == "run_end_encoded":
            return pa.RunEndEncodedArray.from_arrays(*map(self.arrow, parts))
        if name == "dense_union":
            codes, children = self.arrow(parts[0]), [*map(self.arrow, parts[1:])]
            met = dict.fromkeys(parameters[0], -1)
            offsets = []
            for code in codes.to_pylist():
                met[code] += 1
                offsets.append(met[code])
            names = [f.items[0] for f in parameters[1:]]
            return pa.UnionArray.from_dense(codes, pa.array(offsets, pa.int32()), children, names, parameters[0])
        if name == "sparse_union":
            codes, *children = map(self.arrow, parts)
            return pa.UnionArray.from_sparse(codes, children, [f.items[0] for f in parameters[1:]], parameters[0])
        made = self.type(kind)
        buffers = [None if part is None else pa.py_buffer(self.body(part)) for part in parts if not _is_array(part)]
        children = [self.arrow(part) for part in parts if _is_array(part)]
        return pa.Array.from_buffers(made, length, buffers, children=children)

    def type(self, node: Tagged) -> Any:
        """The type of an `arrow.type`, as it lies in buffers."""
        import pyarrow as pa

        name, *items = node.items
        name = {"string_view": "large_string", "binary_view": "large_binary"}.get(name, name)
        name = {"list_view": "list_", "large_list_view": "large_list"}.get(name, name)
        if name in ("list_", "large_list"):
            return getattr(pa, name)(self._field(items[0]))
        if name == "fixed_size_list":
            return pa.list_(self._field(items[0]), items[1])
        if name == "struct":
            return pa.struct([*map(self._field, items)])
        if name == "map":
            return pa.map_(self._field(items[0]), self._field(items[1]), items[2])
        if name == "fixed_size_binary":
            return pa.binary(items[0])
        if name == "dictionary":
            return pa.dictionary(self.type(items[0]), self.type(items[1]), items[2])
        if name == "run_end_encoded":
            return pa.run_end_encoded(*map(self.type, items))
        return getattr(pa, name)(*items)

    def _field(self, node: Tagged) -> Any:
        import pyarrow as pa

        name, kind, nullable, metadata = node.items
        said = dict(zip(metadata.items[::2], metadata.items[1::2], strict=True)) if metadata else None
        return pa.field(name, self.type(kind), nullable, said)


def _is_array(part: Any) -> bool:
    return isinstance(part, Tagged) and part.tag == "arrow.array"


def main(folder: str, exec_id: str) -> None:
    e = Execution(Place(folder), exec_id)
    print(f"{exec_id}  {e.flow}  {e.status}")
    for step in e.steps:
        outcome = step["failure"]["message"] if step["failure"] else [e.value(v) for v in step["outputs"].values()]
        print(f"  {step['path']}  {step['status']}  {outcome!r:.80}")


if __name__ == "__main__":
    main(*sys.argv[1:])
