"""Bytes in this process's memory: for tests, for a look around, for runs that nothing needs to survive."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator

from ..errors import KeyMissingError
from .base import Entry
from .keys import check_key, check_range

__all__ = ["MemoryStore"]


class MemoryStore:
    """A store in memory, shared by all who open the same name in this process.

    Parameters
    ----------
    name
        `MemoryStore("x")` and `memory://x` are the same place until the process ends. Without a name the
        place is new, and gone with the last store object that opened it.
    clock
        The place's clock, in seconds since the epoch; it stands for the store's own. `time.time` by default.

    Examples
    --------
    >>> store = MemoryStore()
    >>> store.put_if_absent("a/b", b"first"), store.put_if_absent("a/b", b"second")
    (True, False)
    >>> store.get("a/b", start=1)
    b'irst'
    """

    def __init__(self, name: str | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._name = os.urandom(6).hex() if name is None else name
        if self._name:
            check_key(self._name)
        self._place = _open_place(self._name, keep=name is not None)
        if clock is not None:
            self._place.clock = clock

    def __repr__(self) -> str:
        return f"MemoryStore({self._name!r})"

    @property
    def url(self) -> str:
        """The address that opens this place again, in this process."""
        return f"memory://{self._name}"

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`. Raises `KeyMissingError` where there is none."""
        check_key(key)
        check_range(start, end)
        with self._place.lock:
            held = self._place.objects.get(key)
        if held is None:
            raise KeyMissingError(f"No object {key!r} in {self.url}.")
        return held[0][start:end]

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key`. False: it exists already."""
        check_key(key)
        with self._place.lock:
            if key in self._place.objects:
                return False
            self._place.objects[key] = (bytes(data), self._place.clock())
            return True

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite `key`."""
        check_key(key)
        with self._place.lock:
            self._place.objects[key] = (bytes(data), self._place.clock())

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        """The entries whose key begins with `prefix` and is greater than `after`, as they are now."""
        with self._place.lock:
            now = self._place.clock()
            entries = [
                Entry(key, len(data), modified, now)
                for key, (data, modified) in self._place.objects.items()
                if key.startswith(prefix) and (after is None or key > after)
            ]
        entries.sort()
        return iter(entries)

    def now(self) -> float:
        """Seconds since the epoch by the place's clock."""
        return self._place.clock()

    def delete(self, keys: Iterable[str]) -> None:
        """Remove `keys`; those that do not exist are no error."""
        doomed = [check_key(key) for key in keys]
        with self._place.lock:
            for key in doomed:
                self._place.objects.pop(key, None)


class _Place:
    """What all stores of one name share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.clock: Callable[[], float] = time.time


_places: weakref.WeakValueDictionary[str, _Place] = weakref.WeakValueDictionary()
_kept: dict[str, _Place] = {}  # the named ones: they live as long as the process
_opening = threading.Lock()


def _open_place(name: str, *, keep: bool) -> _Place:
    with _opening:
        place = _places.get(name)
        if place is None:
            place = _places[name] = _Place()
        if keep:
            _kept[name] = place
        return place
