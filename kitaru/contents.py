"""Which values lie inside which others, by the bytes that the records hold: nothing is decoded, and nothing fetched."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from .codecs import PLAIN, Link, references
from .codecs.joining import items_of
from .codecs.node import CHUNK, RUN, link, tag_bytes
from .codecs.spans import first_item, spans
from .index import Index
from .records import Value

__all__ = ["NOTHING", "TELLING", "Content", "Contents", "says_something"]

NOTHING = b"\xc0"
"""How None is written."""

TELLING = 12
"""Bytes of a value that is not found in another one by chance."""

_INSIDE = 256  # values that are found inside of one
_MANY_ITEMS = 4096  # a longer list is not looked at item by item

_CONTAINERS = {*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF}
_EXTENSIONS = {*range(0xC7, 0xCA), *range(0xD4, 0xD9)}
_CUT_MAP = tag_bytes("map")
# None, true, false, empty map, list and text, numbers: found everywhere by chance.
_SILENT = {0xC0, 0xC2, 0xC3, 0x80, 0x90, 0xA0, *range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)}


@dataclass(slots=True, eq=False)
class Content:
    """What a digest stands for.

    Attributes
    ----------
    weight : int
        2: not found elsewhere by chance; 1: a short text, a float; 0: a number, a flag, nothing, emptiness.
    holds : bool
        Whether it is a list or a map.
    """

    value: Value
    weight: int
    inside: dict[bytes, Content] | None = None  # artifacts that lie in it, by digest, those of no weight left out
    items: list[bytes] | None = None  # a list's own items, or a map's values
    first: bytes | None = None  # the first of them; empty where that is not plain
    holds: bool = False


class Contents:
    """The contents of an execution, and which of them lie inside which."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._by_digest: dict[bytes, Content] = {}
        self._by_bytes: dict[bytes, Content] = {}
        self._by_cut: dict[bytes, Content] = {}
        self._sizes: set[int] = set()
        self._least = 0  # of these
        self._in_part: dict[bytes, dict[bytes, Content]] = {}  # what lies inside of a part, by its digest
        for named in index.values():
            if named.digest in self._by_digest:
                continue
            value = index.full(named)
            digest, written = value.digest, value.data
            weight = 2 if value.size >= TELLING else int(says_something(written or b""))
            content = self._by_digest[digest] = Content(value, weight)
            content.holds = (written or NOTHING)[0] in _CONTAINERS
            if written is not None:
                self._by_bytes[written] = content
                if weight and len(written) <= PLAIN:
                    self._sizes.add(len(written))
            self._by_cut[digest[:8]] = content
        self._least = min(self._sizes, default=PLAIN)

    def of(self, value: Value) -> Content:
        """What this value stands for."""
        return self._by_digest[value.digest]

    def inside(self, content: Content) -> dict[bytes, Content]:
        """The artifacts that lie inside, by digest."""
        if content.inside is None:
            content.inside = self._look(content)
        return content.inside

    def _look(self, content: Content) -> dict[bytes, Content]:
        """No value is fetched for this: of parts that stand in a bundle, the record says which values they are."""
        value = content.value
        data = value.data
        if data is None or not content.holds:
            return {}
        found = dict(self._within(data))
        cuts = (value.within[at : at + 8] for at in range(0, len(value.within), 8))
        found |= {c.value.digest: c for cut in cuts if (c := self._by_cut.get(cut)) is not None}
        found.pop(value.digest, None)
        return _last(found)

    def _within(self, root: bytes) -> dict[bytes, Content]:
        """What lies inside of a node, with an explicit stack; of each part it is found once."""
        stack: list[tuple[bytes, dict[bytes, Content], Iterator[Link]]] = []
        found, todo = self._directly(root), references(root)
        digest = b""
        while True:
            there = next((x for x in todo if x.is_node), None)
            if there is None:
                if not stack:
                    return found
                inner = self._in_part[digest] = found
                digest, found, todo = stack.pop()
                found.update(inner)
                continue
            content = self._by_digest.get(there.digest)
            if content is not None and content.weight:
                found[there.digest] = content
            known = self._in_part.get(there.digest)
            if known is not None:
                found.update(known)
                continue
            part = self._index.part(there.digest)
            if part is None:
                continue
            stack.append((digest, found, todo))
            digest, found, todo = there.digest, self._directly(part), references(part)

    def _directly(self, node: bytes) -> dict[bytes, Content]:
        """The small artifacts that stand in a node itself."""
        found, sizes, by_bytes = {}, self._sizes, self._by_bytes
        if node[0] in _CONTAINERS and len(node) > self._least:  # else nothing that is known can stand in it
            for start, end, _ in spans(node, self._least):
                if end - start in sizes and (part := by_bytes.get(node[start:end])) is not None and part.weight:
                    found[part.value.digest] = part
        return found

    def added(self, content: Content, before: Content) -> dict[bytes, Content]:
        """The artifacts that lie in `content` and not in `before`, which all of it but the last items stand in."""
        found: dict[bytes, Content] = {}
        for item in self.items(content)[len(self.items(before)) :]:
            itself = self._by_digest.get(hashlib.sha256(item).digest())
            if itself is not None and itself.weight:
                found[itself.value.digest] = itself
            if item[0] in _CONTAINERS:
                found |= self._within(item)
        return _last(found)

    def items(self, content: Content) -> list[bytes]:
        """A list's own items, or a map's values, as their nodes; none where they are many, or not here."""
        if content.items is None:
            data = content.value.data
            content.items = self._items(data) if data is not None and content.holds else []
        return content.items

    def begins_with(self, content: Content, other: Content) -> bool:
        """Whether all items of the other one stand first in this one, and more follow."""
        first, before_first = self.first_item(content), self.first_item(other)
        if first and before_first and first != before_first:
            return False
        items, before = self.items(content), self.items(other)
        n = len(before)
        return 0 < n < len(items) and items[n - 1] == before[-1] and items[:n] == before

    def first_item(self, content: Content) -> bytes:
        """The first of the items, where that is plain without reading them all; else empty."""
        if content.first is None:
            data = content.value.data
            content.first = first_item(data) if data is not None and content.holds else b""
        return content.first

    def _items(self, root: bytes) -> list[bytes]:
        is_map, first = items_of(root)
        is_map = is_map or first[:1] == [_CUT_MAP]
        found: list[bytes] = []
        stack = [iter(first)]
        while stack:
            for item in stack[-1]:
                there = link(item)
                if there is None:
                    found.append(item)
                    continue
                part = self._index.part(there[1])
                if part is None or there[0] == CHUNK or len(found) > _MANY_ITEMS:
                    return []
                if there[0] == RUN:
                    stack.append(iter(items_of(part)[1]))
                    break
                found.append(part)
            else:
                stack.pop()
        found = [item for item in found if item[0] not in _EXTENSIONS]
        return found[1::2] if is_map else found

    def with_bytes(self, data: bytes) -> Content | None:
        """The artifact that is written so."""
        return self._by_bytes.get(data)


def _last(found: dict[bytes, Content]) -> dict[bytes, Content]:
    """The last of them: what came to a history last stands behind what it is tied to already."""
    return found if len(found) <= _INSIDE else dict(itertools.islice(found.items(), len(found) - _INSIDE, None))


def says_something(node: bytes) -> bool:
    """Whether what is written so is more than a number, a flag, nothing or emptiness, which stand everywhere."""
    return bool(node) and node[0] not in _SILENT
