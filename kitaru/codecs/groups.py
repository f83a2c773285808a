"""Groups of items that were cut before: a session knows them again by their bytes, and does not cut them again.

A group is known by its own content and by nothing else: no object's identity counts, and no hash is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Group", "Groups"]

_START = 256  # bytes that every closed group has: groups are looked up by them
_TRIES = 4  # groups behind the one that is expected, where something was put in or taken out


class Group:
    """Items side by side in a container, or lines of a text, that stand together in its shared form.

    Attributes
    ----------
    plain
        Their bytes in the plain node. Empty for a group that nobody will look for.
    body
        The items as they stand in the shared form, parts by their digest. Of a text: its CHUNK.
    count
        How many items, or pairs; of a text, how many bytes.
    per
        Nodes of an item: 1, 2 for the pairs of a map, 0 for a text.
    closed
        Whether its content ended it, not the end of its container: it ends there in every container.
    run
        Its RUN, once it was needed.
    after
        The group that followed it last time.
    bins, extensions
        How many of them there are in `plain`, at any depth.
    """

    __slots__ = ("after", "bins", "body", "closed", "count", "extensions", "per", "plain", "run")

    def __init__(self, plain: bytes, body: bytes, count: int, per: int, *, closed: bool) -> None:
        self.plain = plain
        self.body = body
        self.count = count
        self.per = per
        self.closed = closed
        self.run = b""
        self.after: Group | None = None
        self.bins = self.extensions = 0

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return len(self.plain) + len(self.body) + 2 * _START


class Groups:
    """The groups of one session: at most `most` bytes of them. Not for several threads at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._by_start: dict[bytes, Group] = {}
        self._met: list[Group] = []  # by the value at hand
        self._new: list[Group] = []
        self._new_size = 0

    @property
    def room(self) -> int:
        """Bytes of groups that may still be kept of the value at hand."""
        return self._most - self._new_size

    def find(self, plain: bytes, at: int, left: int, per: int, expected: Group | None) -> Group | None:
        """A group that stands in `plain` from `at` on, in a container that has `left` items from there on.

        An open one may go on behind that. `expected` is the likeliest.
        """
        group, tries = expected, _TRIES
        while group is not None and tries:
            if group.per == per and group.count <= left and plain.startswith(group.plain, at):
                self._met.append(group)
                return group
            group, tries = group.after, tries - 1
        group = self._by_start.get(plain[at : at + _START])
        if group is None or group.per != per or group.count > left or not plain.startswith(group.plain, at):
            return None
        self._met.append(group)
        return group

    def keep(self, group: Group) -> bool:
        """Keep a group that was cut just now, if there is room, and if the value is what its bytes say (`settle`)."""
        if group.size > self.room:
            return False
        self._new.append(group)
        self._new_size += group.size
        return True

    def settle(self, *, good: bool) -> None:
        """The value at hand is done. With `good`, what was cut of it is looked for from now on."""
        new, met = self._new if good else [], self._met
        self._new, self._met, self._new_size = [], [], 0
        if self._size + sum(group.size for group in new) > self._most:
            self.clear()
            self._insert(met)
        self._insert(new)

    def clear(self) -> None:
        """Start over."""
        self._by_start.clear()
        self._new, self._met = [], []
        self._size = self._new_size = 0

    def _insert(self, groups: Iterable[Group]) -> None:
        for group in groups:
            start = group.plain[:_START]
            before = self._by_start.get(start)
            size = self._size + group.size - (before.size if before is not None else 0)
            if size <= self._most:
                self._by_start[start] = group
                self._size = size
