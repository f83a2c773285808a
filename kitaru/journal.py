"""The journal: an execution's append-only sequence of records, as its owner writes it, one segment at a time.

Segment N is created only after N-1 is known to be durable, one write is in flight, and whoever finds something else
under its next number has been fenced and stops for good. `reading` reads it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

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
from .segments import Segment, encode_record, journal_key, pack, pack_key, seal_segment, segment_digest
from .stores.base import Store

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["Halt", "Journal", "create", "insist"]

T = TypeVar("T")

SEGMENT_BYTES = 4 << 20
"""A segment is closed when its inline values exceed this, so that no object grows beyond what one PUT carries well."""

PACK_AFTER = 64
"""So many segments since the last pack, and they are worth one when their owner lets go of the execution."""

PACK_WHOLE = 2
"""So many, where the pack holds the execution from its first segment on, or nothing more is to come."""

PACK_BYTES = 16 << 20
"""So many bytes of them, and they are worth a pack at once: until then they are held in memory."""

GRACE = 5.0
"""Seconds for which an append in flight is sent again after Ctrl-C or SIGTERM."""


class Halt(BaseException):
    """This process can record nothing more in this execution. No `except Exception` of a body swallows it.

    The flow's boundary raises `error` in its place.
    """

    def __init__(self, error: KitaruError) -> None:
        super().__init__(error)
        self.error = error


class _Added(NamedTuple):
    """An encoded record on its way."""

    ticket: int
    wire: bytes
    size: int
    at: float


@dataclass(slots=True, eq=False)
class _Flight:
    """One segment under way, and all that is needed to send it again."""

    thread: int  # whose it is
    n: int
    upto: int  # the last ticket in it
    records: list[bytes]
    began: float
    data: bytes | None = None  # once it may have been sent


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

    A store that says `is_near` gets no packs: reading its segments one by one is as fast, and they would be kept twice.
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
        self.last_written = self.last_life = clock.monotonic()
        self._store, self._clock, self._budget, self._say = store, clock, budget, say
        self.first_nonce = b""
        self._last_digest = last_digest
        # A plain lock for `with`: a signal cannot come between its acquiring and the block, as it can in a Condition's.
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._pending: deque[_Added] = deque()  # added, and not known to be durable
        self._durable = 0  # up to this ticket
        self._flight: _Flight | None = None  # the one write under way
        self._released = False
        self._halted: KitaruError | None = None
        self._async_waiters: list[tuple[int, AbstractEventLoop, Future[None]]] = []
        self._driver: threading.Thread | None = None
        self._closed = False
        self._unpacked: list[bytes] = []
        self._unpacked_bytes = 0
        self._packs = not getattr(store, "is_near", False)
        self._pack_from = n + 1 if self._packs else 0  # 0: nothing is packed any more

    # ------------------------------------------------------------ adding and waiting

    def add(self, record: Record, size: int = 0) -> int:
        """Put `record` behind all others; `size` bytes of values travel in it. Gives the ticket for `wait`.

        Raises
        ------
        UnrecordableValueError
            It cannot be written: nothing was added, and others' records are not touched.
        """
        wire = encode_record(record, self.exec_id)
        with self._lock:
            if self._halted:
                raise Halt(self._halted)
            if self._released:  # a thread that its body left behind: the execution is somebody else's now
                raise Halt(UsageError(f"{self.exec_id} has ended: what is done after its end is not recorded"))
            ticket = self._last_ticket() + 1
            self._pending.append(_Added(ticket, wire, size, self._clock.monotonic()))
            self._released = isinstance(record, Release)
            return ticket

    def _last_ticket(self) -> int:
        return self._pending[-1].ticket if self._pending else self._durable

    def wait(self, ticket: int) -> None:
        """Return when everything up to `ticket` is durable. Raises `Halt` where it will not be."""
        me = threading.get_ident()
        while True:
            with self._lock:
                while self._durable < ticket and self._is_others(self._flight, me) and not self._halted:
                    self._turn.wait()
                if self._durable >= ticket:
                    return
                if self._halted:
                    raise Halt(self._halted)
                if self._flight is None:  # nobody writes: we do, for everybody
                    self._flight = self._take(me)
                flight = self._flight  # else one of ours, that a signal broke off before: it is taken up again
            self._fly(flight)

    @staticmethod
    def _is_others(flight: _Flight | None, me: int) -> bool:
        return flight is not None and flight.thread != me

    async def wait_async(self, ticket: int) -> None:
        """As `wait`, without holding up the event loop; a thread writes."""
        import asyncio

        loop = asyncio.get_running_loop()
        with self._lock:
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
            with self._lock:
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
        with self._lock:
            self._closed = True
            self._turn.notify_all()

    def has_older_than(self, seconds: float) -> bool:
        """Whether something lies here for `seconds` that nobody writes."""
        with self._lock:
            if not self._pending or self._flight is not None or self._halted:
                return False
            return self._clock.monotonic() - self._pending[0].at >= seconds

    def hurry(self) -> None:
        """From now on a write without an answer is sent again for `GRACE` seconds at most: somebody wants to leave."""
        self._budget = min(self._budget, GRACE)

    def flush_older_than(self, seconds: float) -> None:
        """Write what nobody waits for, once it has lain here for `seconds`."""
        if self.has_older_than(seconds):
            self.flush()

    def flush(self) -> None:
        """Make everything that was added so far durable."""
        with self._lock:
            ticket = self._last_ticket()
        self.wait(ticket)

    # ------------------------------------------------------------ one segment

    def _take(self, thread: int) -> _Flight:
        """What the next segment holds. It stays pending until it has landed: a signal may come at any line."""
        records: list[bytes] = []
        upto = size = 0
        for added in self._pending:
            if records and size + added.size > SEGMENT_BYTES:
                break
            records.append(added.wire)
            upto, size = added.ticket, size + added.size
        return _Flight(thread, self.n + 1, upto, records, self._clock.monotonic())

    def _fly(self, flight: _Flight) -> None:
        """Write one segment, and tell whoever waits."""
        try:
            self._append(flight)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            # Ctrl-C or SIGTERM in the main thread. The bytes may have arrived or not, so the identical append is
            # made again; with less patience, for somebody wants to leave.
            try:
                self._append(flight, min(self._budget, GRACE))
            except Halt as halt:
                self.halt(halt.error)
            except Exception as e:
                self.halt(self._as_error(e))
            raise
        except Halt as halt:
            self.halt(halt.error)
            raise
        except Exception as e:
            self.halt(self._as_error(e))
            raise Halt(self._halted or self._as_error(e)) from e  # no body may take it for one of its own
        except BaseException as e:
            self.halt(self._as_error(e))
            raise

    def _as_error(self, error: BaseException) -> KitaruError:
        return error if isinstance(error, KitaruError) else StoreError(f"the journal of {self.exec_id}: {error!r}")

    def _append(self, flight: _Flight, budget: float | None = None) -> None:
        if flight.data is None:  # else it may have been sent: then only these very bytes will do
            nonce, now = new_nonce(), self._clock.time()
            if flight.n == 1:
                self.first_nonce = nonce
            flight.data = seal_segment(
                self.exec_id, flight.n, self.writer, nonce, self.epoch, self._last_digest, flight.records, now
            )
        budget = self._budget if budget is None else budget
        create(self._store, self.exec_id, flight.n, flight.data, clock=self._clock, budget=budget, say=self._say)
        self._land(flight, flight.data)

    def _land(self, flight: _Flight, data: bytes) -> None:
        """The segment is durable. Every line may be carried out twice: a signal may break it off before its end."""
        with self._lock:
            if self._flight is not flight:
                return
            self.n, self._last_digest = flight.n, segment_digest(data)
            self.last_written = self.last_life = flight.began
            if self._pack_from and self._pack_from + len(self._unpacked) == flight.n:
                self._unpacked.append(data)
                self._unpacked_bytes += len(data)
            while self._pending and self._pending[0].ticket <= flight.upto:
                self._pending.popleft()
            self._durable = flight.upto
            self._tell(lambda ticket: ticket <= flight.upto)
            self._flight = None
            self._turn.notify_all()

    def _tell(self, whom: Callable[[int], bool]) -> None:
        """Wake the coroutines whose tickets are settled. With the lock held."""
        if self._async_waiters:
            _settle([w for w in self._async_waiters if whom(w[0])], self._halted)
            self._async_waiters = [w for w in self._async_waiters if not whom(w[0])]

    def insist(self, call: Callable[[], T], what: str) -> T:
        """As the function: for what must be in the store before a record that names it."""
        return insist(call, what, self._store, clock=self._clock, budget=self._budget, say=self._say)

    # ------------------------------------------------------------ for the beat, and at the end

    def is_fenced(self) -> bool | None:
        """Whether somebody else's segment stands under the next number, which halts the journal. At most one request.

        None where that is not known: a write is in flight, which will find out.
        """
        with self._lock:
            if self._halted:
                return isinstance(self._halted, ExecutionFencedError)
            if self._flight is not None:
                return None
            n, began = self.n + 1, self._clock.monotonic()
        try:
            data = self._store.get(journal_key(self.exec_id, n))
        except KeyMissingError:
            with self._lock:
                self.last_life = max(self.last_life, began)  # as of when it was asked, not when the answer came
            return False
        with self._lock:
            if self.n >= n:
                return False  # our own, written meanwhile
            if self._flight is not None:
                return None  # perhaps our own
        self.halt(fenced(self.exec_id, journal_key(self.exec_id, n), data))
        return True

    def look(self) -> None:
        """Return once it is known that nobody took over. For an owner that was away, before it goes on.

        Raises
        ------
        Halt
            Where somebody did, or the store does not tell.
        """
        while self.insist(self.is_fenced, journal_key(self.exec_id, self.n + 1)) is None:
            self.flush()
        if self._halted:
            raise Halt(self._halted)

    def halt(self, error: KitaruError) -> None:
        """Record nothing more; whoever waits is told why."""
        with self._lock:
            if self._halted is None:
                self._halted = error
            self._tell(lambda ticket: True)
            self._flight = None
            self._turn.notify_all()

    @property
    def halted(self) -> KitaruError | None:
        """Why nothing more can be recorded; None while it can."""
        return self._halted

    def begin_pack(self, first: int, raw: Iterable[bytes]) -> None:
        """Segments from `first` on, read at the claim, which the next pack is to hold as well."""
        if not self._packs:
            return
        with self._lock:
            self._pack_from, self._unpacked = first, [*raw, *self._unpacked]
            self._unpacked_bytes = sum(map(len, self._unpacked))

    def is_worth_a_pack(self, at_least: int = PACK_AFTER) -> bool:
        """Whether what was written since the last pack is."""
        return len(self._unpacked) >= at_least or self._unpacked_bytes >= PACK_BYTES

    def write_last_pack(self, *, ended: bool) -> None:
        """The owner lets go: pack what is loose, so that whoever opens or forks the execution needs few requests."""
        self.write_pack(PACK_WHOLE if ended or self._pack_from == 1 else PACK_AFTER)

    def write_pack(self, at_least: int = PACK_AFTER) -> None:
        """Pack what was written since the last pack, if it is worth it.

        Derived: a failure is no failure. Then this writer packs no more, and the next claim's pack holds it all.
        """
        with self._lock:
            raw, first = self._unpacked, self._pack_from
            if not self.is_worth_a_pack(at_least):
                return
            self._unpacked, self._unpacked_bytes, self._pack_from = [], 0, first + len(raw)
        try:
            self._store.put_if_absent(pack_key(self.exec_id, first, first + len(raw) - 1), pack(raw))
        except StoreError:
            with self._lock:
                self._unpacked, self._unpacked_bytes, self._pack_from = [], 0, 0


def _settle(waiters: list[tuple[int, AbstractEventLoop, Future[None]]], error: KitaruError | None) -> None:
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
                        f"{what} got no answer from {store.url} for {budget:.0f} s ({_reason(e, what)}). What was "
                        "recorded before stands; resume when the store is back"
                    )
                ) from e
            if not told:
                say(f"kitaru: {store.url} does not answer, trying for up to {budget:.0f} s: {_reason(e, what)}")
                told = True
            import random

            clock.sleep(min(left, delay * random.uniform(0.5, 1.5)))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, 5.0)
        except StoreError as e:
            raise Halt(e) from e


def _reason(error: StoreError, what: str) -> str:
    """What `error` adds to a sentence that names `what` already, and says itself what to do."""
    first = str(error).partition(". ")[0]
    return (first.partition(what)[2] or first).strip(" .:'\"")


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
