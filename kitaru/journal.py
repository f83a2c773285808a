"""The journal: an execution's append-only sequence of records, as its owner writes it, one segment at a time.

Segment N is created only after N-1 is known to be durable, one write is in flight, and whoever finds something else
under its next number has been fenced and stops for good. `reading` reads it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from .clock import Clock
from .errors import (
    ExecutionFencedError,
    KeyMissingError,
    KitaruError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from .ids import new_nonce
from .records import Record, Release
from .segments import Segment, journal_key, pack, pack_key, segment_digest
from .stores.base import Store

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["Halt", "Journal", "create", "insist"]

T = TypeVar("T")

SEGMENT_BYTES = 4 << 20
"""A segment is closed when its inline values exceed this, so that no object grows beyond what one PUT carries well."""

PACK_AFTER = 64
"""So many segments, and the execution is worth a pack when its owner lets go of it."""

PACK_BYTES = 16 << 20
"""So many bytes of them, and they are worth a pack at once: until then they are held in memory."""


class Halt(BaseException):
    """This process can record nothing more in this execution. No `except Exception` of a body swallows it.

    The flow's boundary raises `error` in its place.
    """

    def __init__(self, error: KitaruError) -> None:
        super().__init__(error)
        self.error = error


class Journal:
    """The owner's end of a journal. Records are added in order; a commit makes all that was added durable.

    Group commit: whoever waits for a commit while no write is in flight carries it out, with everything that was
    added so far; what is added meanwhile shares the next segment. Safe to use from threads and event loops at once.

    Parameters
    ----------
    budget : float
        Seconds for which a write that gets no answer is sent again before the journal gives up.
    say : callable
        Told once, in one line, when the store does not answer.
    """

    def __init__(
        self,
        store: Store,
        exec_id: str,
        writer: str,
        *,
        epoch: int,
        n: int,
        last_digest: bytes,
        clock: Clock,
        budget: float = 60.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.exec_id, self.writer, self.epoch = exec_id, writer, epoch
        self.n = n
        self.last_life = clock.monotonic()
        self._store, self._clock, self._budget, self._say = store, clock, budget, say
        self.first_nonce = b""
        self._last_digest = last_digest
        self._turn = threading.Condition()
        self._pending: deque[tuple[Record, int]] = deque()  # added, in no segment yet; with the bytes each carries
        self._pending_since: float | None = None
        self._added = self._durable = 0
        self._flying = False
        self._released = False
        self._halted: KitaruError | None = None
        self._async_waiters: list[tuple[int, AbstractEventLoop, Future[None]]] = []
        self._driver: threading.Thread | None = None
        self._closed = False
        self._unpacked: list[bytes] = []
        self._unpacked_bytes = 0
        self._pack_from = n + 1  # 0: nothing is packed any more

    # ------------------------------------------------------------ adding and waiting

    def add(self, record: Record, size: int = 0) -> int:
        """Put `record` behind all others; `size` bytes of values travel in it. Gives the ticket for `wait`."""
        with self._turn:
            if self._halted:
                raise Halt(self._halted)
            if self._released:  # a thread that its body left behind: the execution is somebody else's now
                raise Halt(UsageError(f"{self.exec_id} has ended: what is done after its end is not recorded"))
            self._released = isinstance(record, Release)
            if not self._pending:
                self._pending_since = self._clock.monotonic()
            self._pending.append((record, size))
            self._added += 1
            return self._added

    def wait(self, ticket: int) -> None:
        """Return when everything up to `ticket` is durable. Raises `Halt` where it will not be."""
        while True:
            with self._turn:
                while self._durable < ticket and self._flying and not self._halted:
                    self._turn.wait()
                if self._durable >= ticket:
                    return
                if self._halted:
                    raise Halt(self._halted)
                self._flying = True  # nobody writes: we do, for everybody
                batch = self._take()
            self._fly(batch)

    async def wait_async(self, ticket: int) -> None:
        """As `wait`, without holding up the event loop; a thread writes."""
        import asyncio

        loop = asyncio.get_running_loop()
        with self._turn:
            if self._durable >= ticket:
                return
            if self._halted:
                raise Halt(self._halted)
            done: Future[None] = loop.create_future()
            self._async_waiters.append((ticket, loop, done))
            if self._driver is None:
                self._driver = threading.Thread(target=self._drive, name="kitaru-journal", daemon=True)
                self._driver.start()
            self._turn.notify_all()
        await done

    def _drive(self) -> None:
        """Write for the coroutines, in a thread of its own, for as long as the journal is open."""
        while True:
            with self._turn:
                while not self._async_waiters and not self._closed and not self._halted:
                    self._turn.wait()
                if not self._async_waiters or self._halted:
                    self._driver = None
                    return
                ticket = self._async_waiters[0][0]
            try:
                self.wait(ticket)
            except BaseException:
                return  # whoever halted the journal told those who wait

    def close(self) -> None:
        """Let the thread that writes for coroutines go."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def flush_older_than(self, seconds: float) -> None:
        """Write what nobody waits for, once it has lain here for `seconds`. For the beat's thread."""
        with self._turn:
            since = self._pending_since
            if since is None or self._flying or self._halted or self._clock.monotonic() - since < seconds:
                return
            ticket = self._added
        self.wait(ticket)

    def flush(self) -> None:
        """Make everything that was added so far durable."""
        with self._turn:
            ticket = self._added
        self.wait(ticket)

    # ------------------------------------------------------------ one segment

    def _take(self) -> list[Record]:
        batch: list[Record] = []
        size = 0
        while self._pending and (not batch or size + self._pending[0][1] <= SEGMENT_BYTES):
            record, more = self._pending.popleft()
            batch.append(record)
            size += more
        if not self._pending:
            self._pending_since = None
        return batch

    def _fly(self, batch: list[Record]) -> None:
        """Write one segment, with `_flying` held; then let it go, and tell whoever waits."""
        error: BaseException | None = None
        try:
            self._append(batch)
        except BaseException as e:
            error = e
        with self._turn:
            self._flying = False
            if error is None:
                self._durable += len(batch)
            elif self._halted is None:
                halted = error.error if isinstance(error, Halt) else error
                self._halted = (
                    halted
                    if isinstance(halted, KitaruError)
                    else StoreError(f"the journal of {self.exec_id}: {halted!r}")
                )
            halted_by = self._halted
            ready = [w for w in self._async_waiters if halted_by or w[0] <= self._durable]
            if ready:
                self._async_waiters = [w for w in self._async_waiters if not (halted_by or w[0] <= self._durable)]
            self._turn.notify_all()
        _tell(ready, halted_by)
        if isinstance(error, Exception):
            raise Halt(self._halted or StoreError(repr(error))) from error  # no body may take it for one of its own
        if error is not None:
            raise error

    def _append(self, batch: list[Record]) -> None:
        n = self.n + 1
        now = self._clock.time()
        segment = Segment(self.exec_id, n, self.writer, new_nonce(), self.epoch, self._last_digest, tuple(batch), now)
        if n == 1:
            self.first_nonce = segment.nonce
        data = segment.encode()
        create(self._store, self.exec_id, n, data, clock=self._clock, budget=self._budget, say=self._say)
        with self._turn:
            self.n, self._last_digest = n, segment_digest(data)
            self.last_life = self._clock.monotonic()
            if self._pack_from:
                self._unpacked.append(data)
                self._unpacked_bytes += len(data)

    def insist(self, call: Callable[[], T], what: str) -> T:
        """As the function: for what must be in the store before a record that names it."""
        return insist(call, what, self._store, clock=self._clock, budget=self._budget, say=self._say)

    # ------------------------------------------------------------ for the beat, and at the end

    def is_fenced(self) -> bool:
        """Whether somebody else's segment stands under the next number. One request; also halts the journal."""
        with self._turn:
            if self._halted:
                return isinstance(self._halted, ExecutionFencedError)
            if self._flying:
                return False  # the write in flight will find out
            n = self.n + 1
        try:
            data = self._store.get(journal_key(self.exec_id, n))
        except KeyMissingError:
            return False
        with self._turn:
            if self.n >= n or self._flying:
                return False  # our own, written meanwhile
        self.halt(fenced(self.exec_id, journal_key(self.exec_id, n), data))
        return True

    def alive(self) -> None:
        """A sign of life other than a segment was given."""
        self.last_life = self._clock.monotonic()

    def halt(self, error: KitaruError) -> None:
        """Record nothing more; whoever waits is told why."""
        with self._turn:
            if self._halted is None:
                self._halted = error
            ready, self._async_waiters = self._async_waiters, []
            self._turn.notify_all()
        _tell(ready, error)

    @property
    def halted(self) -> KitaruError | None:
        """Why nothing more can be recorded; None while it can."""
        return self._halted

    def begin_pack(self, first: int, raw: Iterable[bytes]) -> None:
        """Segments from `first` on, read at the claim, which the next pack is to hold as well."""
        with self._turn:
            self._pack_from, self._unpacked = first, [*raw, *self._unpacked]
            self._unpacked_bytes = sum(map(len, self._unpacked))

    def write_pack(self, at_least: int = PACK_AFTER) -> None:
        """Pack what was written since the last pack, if it is worth it.

        Derived: a failure is no failure. Then this writer packs no more, and the next claim's pack holds it all.
        """
        with self._turn:
            raw, first = self._unpacked, self._pack_from
            if len(raw) < at_least and self._unpacked_bytes < PACK_BYTES:
                return
            self._unpacked, self._unpacked_bytes, self._pack_from = [], 0, first + len(raw)
        try:
            self._store.put_if_absent(pack_key(self.exec_id, first, first + len(raw) - 1), pack(raw))
        except StoreError:
            with self._turn:
                self._unpacked, self._unpacked_bytes, self._pack_from = [], 0, 0


def _tell(waiters: list[tuple[int, AbstractEventLoop, Future[None]]], error: KitaruError | None) -> None:
    """Wake the coroutines, one call for each event loop."""
    loops: dict[AbstractEventLoop, list[Future[None]]] = {}
    for _, loop, done in waiters:
        loops.setdefault(loop, []).append(done)

    def settle(futures: list[Future[None]]) -> None:
        for done in futures:
            if not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(Halt(error))

    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(settle, futures)
        except RuntimeError:
            pass  # that loop is closed: nobody waits in it any more


def fenced(exec_id: str, key: str, data: bytes) -> ExecutionFencedError:
    """The error for whoever finds somebody else's segment under its next number."""
    try:
        other = Segment.decode(data, exec_id, int(key.rpartition("/")[2])).writer
    except StoreError:
        other = "unknown"
    return ExecutionFencedError(
        f"{exec_id} was taken over by another process (writer {other}, {key}) while this one was away. "
        "Nothing more is recorded here, and what was recorded stands; the other process goes on"
    )


def insist(
    call: Callable[[], T],
    what: str,
    store: Store,
    *,
    clock: Clock,
    budget: float = 60.0,
    say: Callable[[str], None] = lambda line: None,
) -> T:
    """What `call` gives. While no answer comes it is made again: it must be one that may be carried out twice.

    Raises
    ------
    Halt
        With the store's error where the call was refused, or got no answer for `budget` seconds.
    """
    began, delay, told = clock.monotonic(), 0.05, False
    while True:
        try:
            return call()
        except (StoreUnavailableError, KeyMissingError) as e:
            # It was carried out, or not, or will be later: only the identical call can tell.
            left = began + budget - clock.monotonic()
            if left <= 0:
                raise Halt(
                    StoreUnavailableError(
                        f"{what} got no answer from {store.url} for {budget:.0f} s ({e}). What was recorded before "
                        "stands; resume when the store is back"
                    )
                ) from e
            if not told:
                say(f"kitaru: {store.url} does not answer, trying for up to {budget:.0f} s: {e}")
                told = True
            import random

            clock.sleep(min(left, delay * random.uniform(0.5, 1.5)))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, 5.0)
        except StoreError as e:
            raise Halt(e) from e


def create(
    store: Store,
    exec_id: str,
    n: int,
    data: bytes,
    *,
    clock: Clock,
    budget: float = 60.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Create segment `n` with these very bytes, or find out that somebody else did.

    Raises
    ------
    Halt
        With `ExecutionFencedError` where somebody else's bytes stand there; else as `insist`.
    """
    key = journal_key(exec_id, n)

    def attempt() -> None:
        if not store.put_if_absent(key, data) and not _is_ours(found := store.get(key), data):
            raise Halt(fenced(exec_id, key, found))

    insist(attempt, key, store, clock=clock, budget=budget, say=say)


def _is_ours(found: bytes, data: bytes) -> bool:
    """Whether what stands there is what we sent, nonce included: a fork of this process has the same writer's id."""
    return found == data
