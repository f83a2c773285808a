"""What a notebook records in: one execution, whose steps are cells. Every magic has its function here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import kitaru
from kitaru.client import Artifact, Checkpoint, Execution, KitaruClient
from kitaru.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Notebook", "Step"]


class Step(Protocol):
    """A cell's step, from its beginning to its end: what `kitaru.Session.step` gives."""

    label: str

    def enter(self) -> None: ...
    def exit(self) -> None: ...
    def succeed(self, outputs: Mapping[str, Any]) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Notebook:
    """The notebook's side of an execution. It begins at the first step that is recorded.

    Examples
    --------
    >>> from kitaru_jupyter.session import Notebook
    >>> notebook = Notebook()
    >>> notebook.connect("memory://tour")
    >>> notebook.step("add", {"a": 1}, "b = a + 1").succeed({"b": 2})
    >>> notebook.show("add.b").load()
    2
    >>> notebook.close()
    """

    def __init__(self) -> None:
        self._session = kitaru.Session()
        self._named: str | None = None

    @property
    def session(self) -> kitaru.Session:
        """The session that is recorded in now."""
        return self._session

    @property
    def exec_id(self) -> str | None:
        """The execution; None before the first step."""
        return self._session.exec_id or self._named

    def connect(self, address: str | None = None) -> None:
        """Record in the store at this address from now on, in an execution of its own; None: search for one.

        Raises
        ------
        UsageError
            It is no address; nothing has changed.
        """
        kitaru.connect(address)  # refuses before anything is let go of
        self._replace(None)

    def open(self, name: str) -> None:
        """Go on with a notebook's execution: its exec_id, the start of one, ``last``, or a complete address.

        The next step claims it, and is refused where another notebook looks alive.
        """
        execution = KitaruClient().executions.get(name)
        if execution.store.url != KitaruClient().store.url:
            kitaru.connect(execution.store)
        self._replace(execution.exec_id)

    def close(self) -> None:
        """Let the execution go; it is paused. The next step begins another one."""
        self._replace(None)

    def _replace(self, exec_id: str | None) -> None:
        old, self._session, self._named = self._session, kitaru.Session(exec_id=exec_id), exec_id
        old.close()

    def step(self, name: str, inputs: Mapping[str, Any], source: str) -> Step:
        """Begin a step; see `kitaru.Session.step`."""
        return self._session.step(name, inputs, source=source)

    def execution(self) -> Execution | None:
        """The execution as it is recorded by now; None before the first step."""
        return None if self.exec_id is None else self._session.execution()

    def show(self, ref: str) -> Execution | Checkpoint | Artifact:
        """What a REF names: in this notebook's execution first, then in the store.

        Raises
        ------
        NotFoundError, UsageError
            With what there is instead.
        """
        client = KitaruClient(self._session.store)
        if self.exec_id is not None and ":" not in ref and ref not in {self.exec_id, "last", "last-failed"}:
            try:
                return client.look_up(f"{self.exec_id}:{ref}")
            except (NotFoundError, UsageError) as own:
                try:
                    return client.look_up(ref)
                except (NotFoundError, UsageError):
                    raise own from None
        return client.look_up(ref)

    def runs(self) -> pd.DataFrame:
        """The executions of the store, newest first: exec_id, flow, status, begun (UTC), took (seconds)."""
        import pandas as pd

        rows = KitaruClient(self._session.store).executions.list()
        return pd.DataFrame(
            {
                "exec_id": [r.exec_id for r in rows],
                "flow": [r.flow for r in rows],
                "status": [r.status.value for r in rows],
                "begun": pd.to_datetime([r.begun for r in rows], unit="s", utc=True).round("ms"),
                "took": [r.at - r.begun if r.status.is_finished else float("nan") for r in rows],
            }
        )

    def refs(self) -> list[str]:
        """What `%kitaru show` may be completed to: the steps of this execution, and the newest executions."""
        client = KitaruClient(self._session.store)
        execution = self.execution()
        own = [] if execution is None else [c.label for c in execution.checkpoints]
        values = [] if execution is None else [a.name for a in execution.artifacts]
        return [*own, *values, *(s.exec_id for s in client.executions.list(limit=20)), "last", "last-failed"]
