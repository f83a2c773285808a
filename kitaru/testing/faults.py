"""A store that goes wrong when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

from ..errors import StoreUnavailableError
from ..stores.base import Entry, Store

__all__ = ["Fault", "FaultyStore", "Late", "Operation", "SimulatedCrash", "fault_at"]

_Result = TypeVar("_Result")


class SimulatedCrash(BaseException):
    """The process is dead: it does nothing more, from any thread. No `except Exception` holds it up."""


class Operation(NamedTuple):
    """One call that reached the store.

    Attributes
    ----------
    n
        Its number, from 1, in the order in which the calls were made.
    method
        `get`, `put_if_absent`, `put`, `list`, `now` or `delete`.
    key
        Its key or prefix; the first key of a `delete`; "" for `now`.
    """

    n: int
    method: str
    key: str


class Fault(Enum):
    """What happens to an operation."""

    CRASH_BEFORE = "the process dies, and nothing was carried out"
    CRASH_AFTER = "it is carried out, and the process dies before it hears of it"
    LOSE_REQUEST = "it is not carried out; no answer comes"
    LOSE_RESPONSE = "it is carried out; no answer comes"
    UNAVAILABLE = "it is not carried out; the answer is: slow down"


@dataclass(frozen=True, slots=True)
class Late:
    """No answer comes now, and a write is carried out later: a request that was long under way.

    Attributes
    ----------
    after
        The number of further operations after which it is carried out; None: by `FaultyStore.deliver_late`.
    """

    after: int | None = None


Plan = Callable[[Operation], Fault | Late | None]


def fault_at(n: int, fault: Fault | Late, *, method: str | None = None) -> Plan:
    """A plan with one fault, at the `n`-th operation, or at the `n`-th call of `method`.

    Examples
    --------
    >>> from kitaru.stores import MemoryStore
    >>> store = FaultyStore(MemoryStore(), fault_at(2, Fault.LOSE_RESPONSE))
    >>> store.put_if_absent("a", b"1")
    True
    >>> store.put_if_absent("b", b"2")
    Traceback (most recent call last):
        ...
    kitaru.errors.StoreUnavailableError: Injected at operation 2, put_if_absent 'b': no answer came.
    >>> store.get("b")
    b'2'
    """
    calls = 0

    def plan(operation: Operation) -> Fault | Late | None:
        nonlocal calls
        calls += method is None or operation.method == method
        return fault if calls == n and method in {None, operation.method} else None

    return plan


class FaultyStore:
    """Wraps any store, counts what reaches it, and harms the operations that a plan names.

    A crash is for good: from then on every operation through this wrapper raises `SimulatedCrash`, and so
    does one that was under way, from whatever thread. What comes after it opens the inner store itself.

    Parameters
    ----------
    inner
        The store that keeps the bytes.
    plan
        Called once an operation, one at a time, before it reaches `inner`. Assign another at any time.

    Attributes
    ----------
    log
        The operations, in the order in which they were made. A listing is one.
    bytes_read, bytes_written
        What came out of `inner`, and what was sent to it.
    """

    def __init__(self, inner: Store, plan: Plan = lambda _: None) -> None:
        self.inner = inner
        self.plan = plan
        self.log: list[Operation] = []
        self.bytes_read = 0
        self.bytes_written = 0
        self._dead = False
        self._late: list[tuple[int | None, Callable[[], object]]] = []  # due at that operation, and what
        self._counting = threading.Lock()  # never held while `inner` works

    def __repr__(self) -> str:
        return f"FaultyStore({self.inner!r})"

    @property
    def url(self) -> str:
        """The inner store's address."""
        return self.inner.url

    @property
    def dead(self) -> bool:
        """Whether the process has crashed."""
        return self._dead

    def crash(self) -> None:
        """Die now: operations that are under way are carried out, and nobody hears of it."""
        self._dead = True

    def count(self, *methods: str) -> int:
        """How many operations were made, of `methods` or in all."""
        with self._counting:
            return sum(1 for operation in self.log if not methods or operation.method in methods)

    def deliver_late(self) -> int:
        """Carry out what was late. Gives how many writes that were; they outlive a crash."""
        with self._counting:
            due, self._late = self._late, []
        for _, carry_out in due:
            carry_out()
        return len(due)

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """As the inner store's, unless the plan says otherwise."""
        data = self._do("get", key, lambda: self.inner.get(key, start=start, end=end))
        with self._counting:
            self.bytes_read += len(data)
        return data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """As the inner store's, unless the plan says otherwise."""
        return self._do("put_if_absent", key, lambda: self.inner.put_if_absent(key, data), size=len(data))

    def put(self, key: str, data: bytes) -> None:
        """As the inner store's, unless the plan says otherwise."""
        self._do("put", key, lambda: self.inner.put(key, data), size=len(data))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        """As the inner store's, read to its end at once, unless the plan says otherwise."""
        return iter(self._do("list", prefix, lambda: [*self.inner.list(prefix, after=after)]))

    def now(self) -> float:
        """As the inner store's, unless the plan says otherwise."""
        return self._do("now", "", self.inner.now)

    def delete(self, keys: Iterable[str]) -> None:
        """As the inner store's, unless the plan says otherwise."""
        doomed = [*keys]
        self._do("delete", doomed[0] if doomed else "", lambda: self.inner.delete(doomed))

    def _do(self, method: str, key: str, carry_out: Callable[[], _Result], *, size: int = 0) -> _Result:
        with self._counting:
            self._check_alive()
            operation = Operation(len(self.log) + 1, method, key)
            self.log.append(operation)
            self.bytes_written += size
            due = [late for when, late in self._late if when is not None and when <= operation.n]
            self._late = [(when, late) for when, late in self._late if when is None or when > operation.n]
            fault = self.plan(operation)
            if fault is Fault.CRASH_BEFORE:
                self._dead = True
            elif isinstance(fault, Late) and method in {"put_if_absent", "put", "delete"}:
                self._late.append((None if fault.after is None else operation.n + fault.after, carry_out))
        for late in due:
            late()
        self._check_alive()
        what = f"Injected at operation {operation.n}, {method} {key!r}"
        if fault is Fault.UNAVAILABLE:
            raise StoreUnavailableError(f"{what}: slow down.")
        if fault is Fault.LOSE_REQUEST or isinstance(fault, Late):
            raise StoreUnavailableError(f"{what}: no answer came.")
        result = carry_out()
        if fault is Fault.CRASH_AFTER:
            self._dead = True
        self._check_alive()  # another thread's crash is this one's too
        if fault is Fault.LOSE_RESPONSE:
            raise StoreUnavailableError(f"{what}: no answer came.")
        return result

    def _check_alive(self) -> None:
        if self._dead:
            raise SimulatedCrash("This process was crashed by its test.")
