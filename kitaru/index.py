"""Where the bytes of an execution's values stand, by what its journal says. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from .records import Record, Value, values_of

__all__ = ["Index"]


class Index:
    """Where the bytes of an execution's values stand, by what its records say, in their order.

    A record that names a value which an earlier one holds says no more than its digest; `full` has the rest.

    Parameters
    ----------
    beyond
        The index of the execution that this one was forked from: what stands there is not recorded again.
    """

    def __init__(self, records: Iterable[Record] = (), *, beyond: Index | None = None) -> None:
        self._values: dict[bytes, Value] = {}
        self._parts: dict[bytes, bytes] = {}
        self._blobs: set[bytes] = set()
        self._beyond = beyond
        self._upto: dict[bytes, int] = {}  # by value: how many bundles there were once it was recorded
        self.bundles: list[bytes] = [] if beyond is None else list(beyond.bundles)
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> list[bytes]:
        """Take in what a record holds. Gives the digests of the roots, parts and blobs that are new with it."""
        new: list[bytes] = []
        for value in values_of(record):
            if value.data is None:
                if value.preview:  # it stands in the origin, and is named here for the first time
                    self._values.setdefault(value.digest, value)
                continue
            self._values[value.digest] = value
            new.append(value.digest)
            for part in value.parts:
                digest = hashlib.sha256(part).digest()
                self._parts.setdefault(digest, part)
                new.append(digest)
            for digest, _ in value.blobs:
                self._blobs.add(digest)
                new.append(digest)
            if value.bundle:
                self.bundles.append(value.bundle)
            if self.bundles:
                self._upto[value.digest] = len(self.bundles)
        return new

    def upto(self, digest: bytes) -> int:
        """How many of `bundles` may hold parts of a value: its own, and those before it. All, where it is not known."""
        index: Index | None = self
        while index is not None:
            if (found := index._upto.get(digest)) is not None:
                return found
            index = index._beyond
        return len(self.bundles)

    def full(self, value: Value) -> Value:
        """`value` with its root and its preview, where an earlier record holds them."""
        if value.data is not None:
            return value
        found = self._values.get(value.digest)
        if (found is None or found.data is None) and self._beyond is not None:
            beyond = self._beyond.full(value)
            found = beyond if beyond.data is not None else found
        if found is None:
            return value
        return replace(found, preview=value.preview) if value.preview else found  # the same, of another description

    def values(self) -> Iterator[Value]:
        """The values that this journal names, each once; then those of its origins."""
        index: Index | None = self
        while index is not None:
            yield from index._values.values()
            index = index._beyond

    def lean_on(self, beyond: Index) -> None:
        """Say what stands beyond this journal, where that was not known when it was read."""
        self._beyond = beyond
        self.bundles[:0] = beyond.bundles
        self._upto = {digest: n + len(beyond.bundles) for digest, n in self._upto.items()}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._values

    def reaches(self, digest: bytes) -> Value | None:
        """A value that stands in an origin."""
        index = self._beyond
        while index is not None:
            if (found := index._values.get(digest)) is not None and found.data is not None:
                return found
            index = index._beyond
        return None

    def part(self, digest: bytes) -> bytes | None:
        """A part that travels in a journal: also the root of another value."""
        index: Index | None = self
        while index is not None:
            found = index._parts.get(digest)
            if found is None and (value := index._values.get(digest)) is not None:
                found = value.data
            if found is not None:
                return found
            index = index._beyond
        return None

    def has_blob(self, digest: bytes) -> bool:
        """Whether a record says that this is a blob."""
        index: Index | None = self
        while index is not None:
            if digest in index._blobs:
                return True
            index = index._beyond
        return False

    def stored(self) -> Iterator[bytes]:
        """The digests of all parts and blobs; a root is a part of what the value lies in."""
        index: Index | None = self
        while index is not None:
            yield from (digest for digest, value in index._values.items() if value.data is not None)
            yield from index._parts
            yield from index._blobs
            index = index._beyond

    @property
    def blobs(self) -> frozenset[bytes]:
        """The blobs that this journal names."""
        return frozenset(self._blobs)

    @property
    def is_here(self) -> bool:
        """Whether all of it travels in journals, so that reading a value takes no request."""
        return not self._blobs and (self._beyond is None or self._beyond.is_here)
