"""The campaign of real processes: SIGKILL and SIGTERM at random moments, on a folder and on S3 behind a bad network.

As in `campaign`, but each actor is a process of its own, forked from this one, and time is real. Two passes often run
at once. Between this process and S3 there is no proxy: who looks, and who answers, is not held up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import kitaru
from kitaru.context import Frame
from kitaru.eviction import EVICTED
from kitaru.location import open_store
from kitaru.ownership import state_of
from kitaru.passes import resume_ready
from kitaru.reading import read_journal
from kitaru.records import Ended
from kitaru.testing.clock import ManualClock
from kitaru.testing.servers import FaultProxy, ProxiedRequest, ProxyFault, moto_server

from ..journal.scene import check
from . import programs
from .campaign import Book
from .programs import Drawing
from .scene import ENDED

PATIENCE = 300.0
"""Seconds in which everything ends once the faults have."""

HARMS = (
    ProxyFault.LOSE_REQUEST,
    ProxyFault.LOSE_RESPONSE,
    ProxyFault.RESET,
    ProxyFault.CUT_REQUEST,
    ProxyFault.CUT_RESPONSE,
    ProxyFault.ERROR,
    ProxyFault.SLOW_DOWN,
    ProxyFault.CONFLICT,
)


# ---------------------------------------------------------------- the network, in a process of its own


@contextlib.contextmanager
def network(upstream: str, folder: Path, seed: int) -> Iterator[str]:
    """A proxy in front of S3, by its address. While the file `harm` lies in `folder` one request in 25 comes to harm,
    and half of them are slow; while `cut` lies there nobody gets through.
    """
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _serve(upstream, folder, seed, writes)
        os._exit(0)
    os.close(writes)
    try:
        with os.fdopen(reads) as said:
            yield said.readline().strip()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(upstream: str, folder: Path, seed: int, writes: int) -> None:
    rng = Random(seed)

    def plan(request: ProxiedRequest) -> ProxyFault | None:
        if (folder / "cut").exists():
            return ProxyFault.LOSE_REQUEST
        if not (folder / "harm").exists():
            return None
        if rng.random() < 0.5:
            time.sleep(rng.expovariate(1 / 0.01))
        return rng.choice(HARMS) if rng.random() < 0.04 else None

    with FaultProxy(upstream, plan) as proxy:
        os.write(writes, f"{proxy.endpoint_url}\n".encode())
        while os.getppid() != 1:
            time.sleep(0.2)


# ---------------------------------------------------------------- the processes


class Process:
    """A fork of this process that does one thing, and leaves by its exit code."""

    def __init__(self, what: str, act: Callable[[], object], environment: dict[str, str], log: Path) -> None:
        self.what = what
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            quiet = os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(quiet, 2)
            os.environ.update(environment)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

            def began(frame: Frame) -> None:
                assert frame.record is not None
                os.write(file, f"{frame.engine.exec_id} {frame.record[1]}\n".encode())

            programs.sink["began"] = began
            act()
            code = 0
        except kitaru.KitaruError as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
            code = e.exit_code
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, if it ends by then."""
        until = time.monotonic() + seconds
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until:
                return None
            time.sleep(0.001)

    def kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class RealRun(Book):
    """One run: `address` is where this process finds the store, `through` where the others do."""

    def __init__(self, seed: int, k: int, folder: Path, address: str, through: str) -> None:
        rng = Random(f"processes/{seed}/{k}")
        drawing = Drawing(rng, sleeps=(0, 0.05, 0.3), expires=(None, None, 0.5, 2))
        super().__init__(open_store(address), ManualClock(), rng, drawing)
        self._log, self._harm, self._through = folder / f"{k}.log", folder / "harm", through
        self._environment = {"KITARU_STORE_BUDGET": "20"}

    def carry_out(self) -> Counter[str]:
        try:
            self._harm.touch()
            self._run([self._beginning(name) for name in self.programs])
            for _ in range(self.rng.randint(1, 6)):
                self._people()
                self._run([self._passing() for _ in range(self.rng.choice([1, 1, 2]))])
            self._harm.unlink()
            self._recover()
            self.check()
        except BaseException as e:
            e.add_note(f"programs: {self.programs}")
            for line in self.diary:
                e.add_note(line)
            with contextlib.suppress(OSError):
                e.add_note(self._log.with_suffix(".err").read_text()[-3000:])
            raise
        finally:
            self._harm.unlink(missing_ok=True)
        return self.tally

    # ------------------------------------------------------------ actors

    def _beginning(self, name: str) -> Process:
        def act() -> None:
            kitaru.connect(self._through)
            flow = self.flows[name].options(exec_id=name, supervised=self.supervised[name], raises=False)
            flow.run(self.programs[name])

        return self._process(f"begin {name}", act)

    def _passing(self) -> Process:
        parallel = self.rng.choice([1, 1, 3])
        return self._process("pass", lambda: resume_ready(kitaru.connect(self._through), parallel=parallel))

    def _process(self, what: str, act: Callable[[], object]) -> Process:
        self.tally["processes"] += 1
        return Process(what, act, self._environment, self._log)

    def _run(self, processes: list[Process]) -> None:
        """They run at once, and signals come at random moments. No step that had finished before begins again."""
        finished, skip = self._finished(), len(self._said())
        signals = [
            (self.rng.expovariate(1 / 0.08), self.rng.choice([signal.SIGKILL, signal.SIGTERM]), process)
            for process in processes
            if self.rng.random() < 0.7
        ]
        began = time.monotonic()
        for moment, number, process in sorted(signals, key=lambda each: each[0]):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            process.kill(number)
            self.tally[signal.Signals(number).name] += 1
        for process in processes:
            code = process.wait(PATIENCE)
            self.diary.append(f"{process.what} ended with {code}")
            if code is None:
                process.kill(signal.SIGKILL)
                process.wait(PATIENCE)
                raise AssertionError(f"{process.what} does not end")
            assert code in {0, 4, 5, EVICTED, -signal.SIGKILL, -signal.SIGTERM}, f"{process.what} ended with {code}"
            self.tally["evicted"] += code == EVICTED
        for line in self._said()[skip:]:
            assert line not in finished, f"{line} had finished, and ran again"

    def _said(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def _finished(self) -> set[str]:
        return {
            f"{name} {r.id[1]}"
            for name in self.executions()
            for r in read_journal(self.store, name).records
            if isinstance(r, Ended) and r.ok
        }

    def _people(self) -> None:
        for exec_id, wait in [*self.asked()]:
            for _ in range(self.rng.choice([0, 1, 1, 2])):
                who, act = self.person(exec_id, wait)
                self.diary.append(f"{who} answers {wait} of {exec_id}")
                act(self.store)

    # ------------------------------------------------------------ the end

    def _recover(self) -> None:
        """No faults any more: passes, and people who answer; then nothing is left."""
        self.diary.append("all faults end")
        self._environment = {}
        until = time.monotonic() + PATIENCE
        for name in self.programs:
            if name not in self.executions() or not self.supervised[name]:
                process = self._beginning(name)  # by its name, as a restarted container does
                assert process.wait(PATIENCE) == 0, f"{process.what} did not end well"
        while True:
            process = self._passing()
            code = process.wait(PATIENCE)
            assert code == 0, f"a calm pass ended with {code}"
            if all(self.state(name).status in ENDED for name in self.executions()) and not self.hints():
                break
            assert time.monotonic() < until, f"these do not end: {self._left()}"
            for exec_id, wait in [*self.asked()]:
                self.answer_late(exec_id, wait)
        self.check_journals()

    def _left(self) -> list[str]:
        states = [f"{name}: {self.state(name).status}" for name in self.executions()]
        return [*states, *self.hints()]


# ---------------------------------------------------------------- one process is cut off


@kitaru.checkpoint
def held(k: int, until: str) -> int:
    programs.tell()
    while not os.path.exists(until):
        time.sleep(0.01)
    return k


@kitaru.flow
def holds(until: str) -> list[int]:
    return [held(k, until) for k in range(3)]


def cut_off() -> None:
    """The owner's network is gone while it holds the claim, and another one takes over. The first one is fenced."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(moto_server())
        os.environ.update(server.environment)
        through = stack.enter_context(network(server.endpoint_url, folder, 1))
        place, go, log = f"s3://{server.bucket}/cut", str(folder / "go"), folder / "cut.log"
        near, far = f"{place}?endpoint_url={server.endpoint_url}", f"{place}?endpoint_url={through}"
        store = open_store(near)

        def own() -> None:
            kitaru.connect(far)
            holds.options(exec_id="cut", supervised=True).run(go)

        def status() -> str:
            return state_of(read_journal(store, "cut").segments).status

        slow = {"KITARU_HEARTBEAT": "3", "KITARU_STORE_BUDGET": f"{PATIENCE}"}  # a machine may be busy
        owner = Process("the owner", own, slow, log)
        stack.callback(owner.kill, signal.SIGKILL)
        _until(lambda: log.exists() and log.read_text() != "", "it does not begin")
        _until(lambda: len(read_journal(store, "cut").segments) == 2, "its first step is not durable")
        early = Process("a pass", lambda: resume_ready(kitaru.connect(near)), {}, log)
        assert early.wait(PATIENCE) == 0
        assert len(log.read_text().splitlines()) == 1, "a healthy owner was taken over"
        (folder / "cut").touch()

        def take_over() -> None:
            kitaru.connect(near)
            while not resume_ready().ran:
                time.sleep(0.2)

        other = Process("the other one", take_over, {}, log)
        stack.callback(other.kill, signal.SIGKILL)
        _until(lambda: len(log.read_text().splitlines()) == 2, "nobody takes it over")
        Path(go).touch()
        assert other.wait(PATIENCE) == 0
        assert status() == "completed"
        told = read_journal(store, "cut")
        assert owner.wait(0) is None, "it does not know yet, and tries"
        (folder / "cut").unlink()
        assert owner.wait(PATIENCE) == 4
        assert "ExecutionFencedError: cut was taken over by another process" in log.with_suffix(".err").read_text()
        after = read_journal(store, "cut")
        assert after.last_digest == told.last_digest, "it recorded something"
        assert len({segment.writer for segment in after.segments}) == 2
        check(store, "cut")
    print("fenced: nothing was recorded after the other one took over")


def _until(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, what
        time.sleep(0.02)


# ---------------------------------------------------------------- the campaign


def campaign(seed: int, first: int, runs: int, ended: Callable[[int, Counter[str]], None]) -> None:
    """So many runs, on a folder and on S3 in turn. `ended` is told of each."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(moto_server())
        os.environ.update(server.environment)
        through = stack.enter_context(network(server.endpoint_url, folder, seed))
        for k in range(first, runs):
            if k % 2:
                place = f"s3://{server.bucket}/run-{os.getpid()}-{k}"
                run = RealRun(
                    seed, k, folder, f"{place}?endpoint_url={server.endpoint_url}", f"{place}?endpoint_url={through}"
                )
            else:
                at = str(folder / f"run-{k}")
                run = RealRun(seed, k, folder, at, at)
            try:
                happened = run.carry_out()
            except BaseException as e:
                e.add_note(f"repeat it with: python -m tests.faults --processes --seed {seed} --from {k} --runs 1")
                raise
            happened["on S3" if k % 2 else "on a folder"] += 1
            ended(k, happened)


def main(seed: str, runs: str) -> None:
    """The short profile, in a process without threads: it forks."""
    tally: Counter[str] = Counter()
    campaign(int(seed), 0, int(runs), lambda k, happened: tally.update(happened))
    print(f"{dict(tally)}: nothing lost, nothing doubled, every run ended")


if __name__ == "__main__":
    if sys.argv[1] == "cut":
        cut_off()
    else:
        main(*sys.argv[1:])
