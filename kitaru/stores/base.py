"""What a store is: bytes under keys, with one conditional write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Entry", "Store"]


class Entry(NamedTuple):
    """One key of a listing.

    Both times are seconds since the epoch by the *store's* clock: `modified` is when the object was last
    written, `now` is when the listing that holds this entry was answered. Their difference is an age that
    no reader's clock can falsify.
    """

    key: str
    size: int
    modified: float
    now: float

    @property
    def age(self) -> float:
        """Seconds since it was written; 0.0 where the store's clock has jumped back."""
        return max(0.0, self.now - self.modified)


@runtime_checkable
class Store(Protocol):
    """Bytes under keys. Keys are relative, "/"-separated, and hold no "..", no empty part and no backslash.

    Every method is safe to call from several threads and from several processes at once.
    """

    @property
    def url(self) -> str:
        """The address that opens this location again, without credentials and without a "/" at the end."""
        ...

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`. Raises `KeyMissingError` where there is none."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key`, whole and durable on return. False: it exists already, with whatever content.

        Raises `StoreUnavailableError` where no answer came: it was carried out, or not, or will be later.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite `key`, whole. For hints alone: the last writer wins."""
        ...

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        """The entries whose key begins with `prefix` and is greater than `after`, in the order of keys.

        That is the order of their UTF-8 bytes, which is Python's order of `str`: "a-b" comes before "a/b".
        """
        ...

    def now(self) -> float:
        """Seconds since the epoch by the store's clock."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove `keys`; those that do not exist are no error."""
        ...
