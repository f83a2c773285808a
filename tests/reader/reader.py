"""Reads what Kitaru wrote into a folder: from docs/format.md alone, with nothing but the standard library.

    python reader.py FOLDER EXEC

A reader in another language would be this one again: `unpack` is all of msgpack that the format uses, `Place` finds and
checks segments, packs and blobs, `Execution` is what the records come to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
from typing import Any, NamedTuple

FORMAT = 0
SEGMENT, PACK = b"kitaru0\n", b"kitpak0\n"


class Damaged(Exception):
    """An object is not what was written."""


class Tagged(NamedTuple):
    """A value that plain msgpack does not have: the tag's name, and the items after it."""

    tag: str
    items: list[Any]


class _Tag(str):
    """The first item of a tagged array."""

    __slots__ = ()


# ---------------------------------------------------------------- msgpack


def unpack(data: bytes) -> Any:
    """The one item that `data` is. Its arrays and maps may be nested deeper than Python recurses."""
    at = 0
    open_: list[tuple[list[Any], int, bool]] = []  # items so far, how many there will be, whether it is a map

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
            if number(1) != 1:
                raise Damaged("an extension that is no tag")
            x = _Tag(take(size).decode())
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
            open_.append(([], count * 2 if is_map else count, is_map))
        elif open_:
            open_[-1][0].append(x)
        while open_ and len(open_[-1][0]) == open_[-1][1]:
            items, _, is_map = open_.pop()
            x = _closed(items, is_map=is_map)
            if open_:
                open_[-1][0].append(x)
        if not open_:
            if at != len(data):
                raise Damaged("bytes follow its end")
            return x


def _closed(items: list[Any], *, is_map: bool) -> Any:
    if is_map:
        return dict(zip(items[::2], items[1::2], strict=True))
    if items and type(items[0]) is _Tag:
        return Tagged(str(items[0]), items[1:])
    return items


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

    def __init__(self, place: Place, exec_id: str, *, packs: bool = True) -> None:
        self.place, self.exec_id = place, exec_id
        self.status, self.attempts, self.flow = "pending", 0, ""
        self.inputs: dict[str, Any] = {}  # value maps
        self.result: Any = None
        self.failure: Any = None
        self.steps: list[dict[str, Any]] = []
        self.sources: dict[bytes, str] = {}
        self._by_id: dict[Any, dict[str, Any]] = {}
        self._saved: dict[Any, dict[str, Any]] = {}
        self._logged: dict[Any, dict[str, Any]] = {}
        self._nodes: dict[bytes, bytes] = {}
        ended: dict[str, Any] = {}
        for segment in place.segments(exec_id, packs=packs):
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
        """The value of a value map, its tags kept."""
        digest = held["digest"]
        data = held.get("data")
        if data is None and held.get("blob"):
            data = self.place.get(f"blobs/{digest.hex()[:2]}/{digest.hex()}")
        elif data is None:
            data = self._nodes[digest]
        if hashlib.sha256(data).digest() != digest or len(data) != held["size"]:
            raise Damaged(f"the value {digest.hex()}")
        return unpack(data)

    def _learn(self, r: dict[str, Any]) -> None:
        kind = r["kind"]
        for pairs in (r.get("arguments"), r.get("value") if r.get("ok") else None):
            for _, held in pairs or ():
                self._note(held)
        if kind == "begun":
            self.flow, self.inputs = r["flow"], dict(r["arguments"])
            self.sources[r["code"]] = r["source"]
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
            self._nodes[held["digest"]] = held["data"]

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


def _key(of: Any) -> Any:
    return tuple(of) if isinstance(of, list) else of


def _end(step: dict[str, Any], r: dict[str, Any]) -> None:
    if r["ok"]:
        step |= {"status": "completed", "outputs": dict(r["value"]), "failure": None}
    else:
        step |= {"status": "failed", "outputs": {}, "failure": r["value"]}


def main(folder: str, exec_id: str) -> None:
    e = Execution(Place(folder), exec_id)
    print(f"{exec_id}  {e.flow}  {e.status}")
    for step in e.steps:
        outcome = step["failure"]["message"] if step["failure"] else [e.value(v) for v in step["outputs"].values()]
        print(f"  {step['path']}  {step['status']}  {outcome!r:.80}")


if __name__ == "__main__":
    main(*sys.argv[1:])
