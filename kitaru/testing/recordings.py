"""Recorded executions as tests: what the fixtures of `kitaru.testing.plugin` do."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from .. import flows, location
from ..client import Execution, KitaruClient
from ..codecs.types import standing_in
from ..copying import copy
from ..errors import KitaruError, NotFoundError, UntrustedValueError
from ..failures import Failure
from ..flows import Flow
from ..handles import Handle
from ..ids import new_exec_id
from ..location import is_trusted
from ..planning import Plan
from ..reading import read_journal
from ..records import values_of
from ..sources import find_flow
from ..stores import LocalStore, MemoryStore, Store

__all__ = ["Replay", "Replayed", "fresh_store", "left_running"]

_KEPT = frozenset({"KITARU_TRUST"})  # the user's own word on what may be loaded; it leads to no place


@contextmanager
def fresh_store(folder: str | os.PathLike[str] | None) -> Iterator[Store]:
    """A new store, current in this process and, in a folder, in those that it starts; None: in memory.

    Meanwhile no `KITARU_*` of the environment counts, but `KITARU_TRUST`.
    """
    store: Store = MemoryStore() if folder is None else LocalStore(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("KITARU_") and n not in _KEPT]:
            patch.delenv(name)
        if folder is not None:
            patch.setenv("KITARU_STORE", store.url)
        patch.setattr(flows._Environment, "used_by", None)
        patch.setattr(location, "_connected", store)
        yield store


def left_running(store: Store) -> list[str]:
    """The executions whose owners still run them, oldest first."""
    return [s.exec_id for s in reversed(KitaruClient(store).executions.list(status="running"))]


class Replay:
    """Replays recorded executions in the store of one test: what the fixture `replay` gives.

    Parameters
    ----------
    store
        Where the recorded executions are copied to and their forks run.
    folder
        What the paths of recordings are relative to: the test file's.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._until_the_end = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._until_the_end.close()

    def __call__(
        self,
        recording: str | os.PathLike[str],
        flow: Flow[..., Any] | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        rerun: str | Iterable[str] = (),
        from_: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        on_drift: str | None = None,
        only: Collection[str] | None = None,
        raises: bool = True,
    ) -> Replayed:
        """Fork the recorded execution and run the fork with the code as it is now.

        What the edits cannot have changed is reused and does not run. Without edits, a failed execution goes on from
        its failed step. The recording itself is copied first, and never written to.

        Parameters
        ----------
        recording
            The path of a recorded execution, STORE/EXEC, relative to the test file: what `kitaru cp EXEC STORE` made.
            The path of a store does, too, where only one execution of it is meant.
        flow
            The flow to run. Without it the recorded one is looked for, as `kitaru resume` does.
        overrides, rerun, from_, on_drift
            As `Flow.replay` takes them.
        inputs
            Inputs of the flow, by name; the others are as recorded.
        only
            The steps that may run, by name (all of that name) or path (``risk#2``); ``()`` for none. Before any other
            one begins the run ends, and the test fails with what was to run, and why.
        raises
            False: give what came of it whatever the flow itself raises; `Replayed.result` raises that.

        Returns
        -------
        Replayed
            In a running event loop that of an async flow is to be awaited: ``run = await replay(…)``.
        """
        __tracebackhide__ = True
        store, exec_id = _found(Path(os.path.abspath(self._folder / recording)))
        _check_trusted(store, exec_id)
        copy(store, self._store, exec_id)
        origin = KitaruClient(self._store).executions.get(exec_id)
        begun = origin.data.begun
        flow = flow or find_flow(begun)[0]
        if begun.module == "__main__":
            self._until_the_end.enter_context(standing_in(flow.function.__module__, begun.script))
        run = Replayed(origin, only, raises=raises)
        options = replace(
            flow._options,
            exec_id=run.exec_id,
            raises=False,
            until=None,
            steps=None,
            admit=run._admit,
            store=self._store,
        )
        with run._judged():
            run._handle = Flow(flow.function, options).replay(
                exec_id, from_=from_, overrides=overrides, rerun=rerun, on_drift=on_drift, **(inputs or {})
            )
        if run._handle.status != "pending":
            run._settle()
        return run


class Replayed:
    """What came of a replay.

    Attributes
    ----------
    exec_id : str
        The fork's, in the test's store.
    origin : Execution
        The recorded execution, as it was copied there: `kitaru.diff(run.origin, run.execution)`.
    """

    _handle: Handle

    def __init__(self, origin: Execution, only: Collection[str] | None, *, raises: bool) -> None:
        self.exec_id, self.origin = new_exec_id(origin.flow, 8), origin
        self._only, self._raises = only, raises

    @property
    def execution(self) -> Execution:
        """The fork, as the client opens it: its checkpoints, artifacts, failure, lineage."""
        return KitaruClient(self.origin.store).executions.get(self.exec_id)

    @property
    def result(self) -> Any:
        """The flow's result, or its exception."""
        return self._handle.wait()

    @property
    def status(self) -> str:
        """``completed`` or ``failed``."""
        return self._handle.status

    @property
    def failure(self) -> Failure | None:
        """What the flow failed with; None where it did not."""
        return self.execution.failure

    @property
    def ran(self) -> list[str]:
        """The steps whose bodies ran, ``["risk#2", "write_report#1"]``, in the order of their starts."""
        return self._decided("ran")

    @property
    def reused(self) -> list[str]:
        """The steps that gave back their recorded output or failure."""
        return self._decided("reused")

    @property
    def edited(self) -> list[str]:
        """The steps that gave back an output of `overrides`."""
        return self._decided("edited")

    def _decided(self, decision: str) -> list[str]:
        return [row.step for row in self.explain() if row.decision == decision]

    def explain(self) -> Plan:
        """For each step: whether it was reused, edited or run, and why."""
        return self.execution.explain()

    def __repr__(self) -> str:
        status = self._handle.status
        return f"<replay of {self.origin.exec_id}: {'to be awaited' if status == 'pending' else status}>"

    # ------------------------------------------------------------ how it gets there

    def __await__(self) -> Generator[Any, None, Replayed]:
        return self._driven().__await__()

    async def _driven(self) -> Replayed:
        __tracebackhide__ = True
        if self._handle.status == "pending":
            with self._judged():
                try:
                    await self._handle.result()
                except Exception:
                    if self._handle.status == "pending":  # it is not the flow's own, which is looked at below
                        raise
        self._settle()
        return self

    def _admit(self, step: str) -> None:
        """Refuse a step that is not among those that may run. Its name stands last in its path."""
        name = step.rpartition("/")[2].partition("#")[0].partition("~")[0]
        if self._only is not None and not {name, step} & {*self._only}:
            raise _UnwantedStepError(step)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """A step that may not run fails the test, with what became of each step until then."""
        __tracebackhide__ = True
        try:
            yield
        except _UnwantedStepError as e:
            step, only = str(e), self._only or ()
            may = f"only {', '.join(sorted(only))} may" if only else "no step may"
            raise self._failed(f"{step} was about to run, and {may}. Up to there:") from None

    def _settle(self) -> None:
        __tracebackhide__ = True
        if self._raises:
            self._handle.wait()
        if unmet := self._handle.tally.unmet:
            raise self._failed(f"no call of this run has met the edit of {', '.join(unmet)}. What came of it:")

    def _failed(self, message: str) -> BaseException:
        """The end of the test, with what became of each step."""
        text = f"{self.origin.exec_id}, replayed: {message}\n{self.explain()!r}"
        return pytest.fail.Exception(text, pytrace=False)


class _UnwantedStepError(KitaruError):
    """The step of this path would have run."""


# ---------------------------------------------------------------- recordings


def _found(path: Path) -> tuple[LocalStore, str]:
    """The store of a recording, and its exec_id."""
    __tracebackhide__ = True
    if _is_store(path):
        return LocalStore(path), _the_one(path)
    store = LocalStore(path.parent)
    if _is_store(path.parent) and read_journal(store, path.name).n:
        return store, path.name
    there = f": there are {', '.join(_names(store)) or 'none'}" if _is_store(path.parent) else ""
    raise NotFoundError(
        f"there is no recorded execution at {path}{there}. `kitaru cp EXEC {os.path.relpath(path.parent)}` copies the "
        "execution EXEC there"
    )


def _is_store(path: Path) -> bool:
    return (path / "kitaru.json").is_file()


def _names(store: Store) -> list[str]:
    return sorted({entry.key.split("/")[1] for entry in store.list("executions/")})


def _the_one(path: Path) -> str:
    """The execution that a store's path alone means: that of its name, else the one that nothing was forked from."""
    client = KitaruClient(path)
    names = _names(client.store)
    if path.name in names:
        return path.name
    origins = {client.executions.get(name).forked_from for name in names}
    ends = [name for name in names if name not in origins]
    if len(ends) != 1:
        raise NotFoundError(f"{path} holds {', '.join(names) or 'no execution'}: say which, {path}/EXEC")
    return ends[0]


def _check_trusted(store: LocalStore, exec_id: str) -> None:
    """Refuse a recording with pickles in a folder that is not trusted: the test's own store, its copy, always is."""
    __tracebackhide__ = True
    if is_trusted(store):
        return
    name: str | None = exec_id
    while name is not None:
        reading = read_journal(store, name)
        if any(value.kind == "pickle" for r in reading.records for value in values_of(r)):
            raise UntrustedValueError(
                f"{name} in {store.url} holds values that are pickled, and that folder is not trusted: it is not this "
                "user's, or everybody may write to it. Loading them would run code. If you trust what is in it: "
                f"KITARU_TRUST={store.path}"
            )
        name = KitaruClient(store).executions.get(name).forked_from
