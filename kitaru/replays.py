"""Replays: a fork asked for by a person, its forecast, and the code that it would run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .artifacts import Recorder, Values
from .blobs import Upload
from .branches import forked_by_hand
from .clock import Clock
from .documents import Document
from .errors import CodeNotFoundError, ExecutionEndedError, ExecutionOwnedError, UsageError
from .forks import Edits, Origin, edits_of
from .ids import new_exec_id
from .location import prepare, store_budget
from .notices import say
from .ownership import Claimed, State, claim
from .planning import Plan
from .pools import Pools
from .previews import printable
from .records import Release, Started, Value
from .sources import body_of

if TYPE_CHECKING:
    from .client import Execution
    from .diffs.show import Page
    from .flows import Flow
    from .stores.base import Store

__all__ = ["CodeChange", "begin_fork", "code_changes", "edits_for", "plan"]


def edits_for(
    origin: Origin,
    *,
    from_: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    rerun: str | Iterable[str] = (),
    inputs: Mapping[str, Any] | None = None,
    flow: Flow[..., Any] | None = None,
) -> Edits:
    """What a person asks of a fork, resolved; see `Flow.replay`. Of a fork that has not run: of what it starts from.

    Raises
    ------
    CodeNotFoundError
        ``rerun="changed"``, and neither the flow's code nor that of a step that the origin ran is to be found here.
    """
    names = [rerun] if isinstance(rerun, str) else list(rerun)
    changed = "changed" in names
    origin = origin.to_begin or origin
    edits = edits_of(
        origin,
        start=from_,
        overrides=overrides,
        again=[name for name in names if name != "changed"],
        inputs=inputs,
        outputs_of=_outputs_of(flow.function.__module__ if flow is not None else origin.begun.module),
    )
    if changed:
        module = flow.function.__module__ if flow is not None else origin.begun.module
        digests: dict[str, bytes] = {}
        starts = [p.start for p in origin.view.points.values()]
        nobodys = {s.own_code for s in starts if s.parts is not None and not s.parts}  # waits, and calls of adapters
        for q, p in origin.view.points.items():
            own = p.start.own_code
            if own and own not in nobodys and _now(digests, p.start, module, known=flow is not None) != own:
                edits.forced.add(q)
        edits.forced -= edits.outputs.keys()
        edits.gone = sorted(name for name, digest in digests.items() if digest == _GONE)
    return edits


def _outputs_of(module: str) -> Callable[[str], tuple[str, ...] | None]:
    def outputs(name: str) -> tuple[str, ...] | None:
        step: Any = body_of(name, module)
        return None if step is None else step.outputs

    return outputs


_GONE = b""
"""Stands for the fingerprint of a step that has no code."""


def _now(digests: dict[str, bytes], start: Started, module: str, *, known: bool) -> bytes:
    """The fingerprint that a step has now; where the flow's code is `known`, and the step in none of it: `_GONE`."""
    if start.name not in digests:
        step = body_of(start.name, module)
        if step is None and known:
            digests[start.name] = _GONE
            return _GONE
        if step is None:
            raise CodeNotFoundError(
                f'rerun="changed": the code of the step {start.name} is not to be found in this process, so whether it '
                f"has changed is not known. Import the module that defines it, or name steps: rerun=[{start.name!r}]"
            )
        digests[start.name] = step.code().digest
    return digests[start.name]


def plan(
    exec_id: str,
    *,
    from_: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    rerun: str | Iterable[str] = (),
    store: Store | None = None,
    **inputs: Any,
) -> Plan:
    """What a replay with these arguments would do, step by step. No step runs, and no value is loaded.

    For ``rerun="changed"`` the flow's code is imported, and found as by a resume.

    Parameters
    ----------
    exec_id
        The execution to be forked: an exec_id, the start of one, ``last``, ``last-failed``, or an address.
    from_, overrides, rerun, **inputs
        As `Flow.replay` takes them.
    store
        Where it is recorded; the current store when left out.

    Returns
    -------
    Plan
        One row a step. ``reuse`` and ``rerun`` are promises, for unchanged code and deterministic bodies; ``reuse?``
        and ``rerun?`` are what the recorded data suggest.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru import checkpoint, flow
    >>> @checkpoint
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @checkpoint
    ... def negate(n: int) -> int:
    ...     return -n
    >>> @flow
    ... def twice(n: int) -> int:
    ...     return negate(double(n))
    >>> store = kitaru.connect("memory://planning")
    >>> handle = twice.run(3)
    >>> kitaru.plan(handle.exec_id, overrides={"checkpoint.double": 8})
    step    decision  why
    double  reuse     edited: output
    negate  rerun?    reads double.output, which is edited
    """
    from .client import KitaruClient

    again = [rerun] if isinstance(rerun, str) else list(rerun)
    client = KitaruClient(store)
    return client.executions.plan(exec_id, from_=from_, overrides=overrides, rerun=again, inputs=inputs)


# ---------------------------------------------------------------- a fork that does not run yet


def begin_fork(
    store: Store,
    origin: Origin,
    edits: Edits | Mapping[str, Any],
    *,
    clock: Clock,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    supersedes: bool = True,
) -> str:
    """Record a fork of `origin` with these edits, and leave it paused. No code of the user's is needed.

    Gives its exec_id. `options` go into its `begun`: who made the edits, and why. Where the steps of `origin` were
    run by hand, `edits` are outputs by their names on its branch.

    An origin that is such a fork itself, and has not run, is no place to fork from: this one stands beside it with
    the edits of both, and that one is cancelled if this one `supersedes` it.
    """
    prepare(store)
    unrun = None
    if (start := origin.to_begin) is not None:
        unrun, origin = origin, start
    uploads: list[Upload] = []
    pools = Pools(1, lambda error: None)
    recorder = Recorder(store, pools, origin.begun.script, beyond=origin.index)
    earlier = unrun.begun.fork if unrun is not None else None

    def held(place: str, value: Any) -> Value:
        if not isinstance(value, Value):
            return recorder.value(recorder.encode(value, place=place), value, uploads)
        if unrun is None or value.data is None or recorder.index.reaches(value.digest) is not None:
            return recorder.named(value)
        # It stands in the journal of the fork that never ran, alone: it is recorded again.
        loaded = Values(store, unrun.index, script=unrun.begun.script).load(value)
        return held(place, Document(loaded, preview=value.preview))

    try:
        given = edits.flow_inputs if isinstance(edits, Edits) else {}
        arguments = tuple((n, held(f"input.{n}", given.get(n, v))) for n, v in (unrun or origin).begun.arguments)
        if isinstance(edits, Edits):
            asked = edits.upon(Edits.recorded(origin, earlier)) if earlier is not None else edits
            before = dict(origin.begun.inputs)
            other = [n for n, value in arguments if before.get(n) != value.digest]
            forked = asked.forked(origin, held, other)
        else:
            forked = forked_by_hand(origin, edits, held, earlier)
        recorder.upload(uploads)
    finally:
        pools.close()
    said = dict(options or {})
    if unrun is not None and "edits" in unrun.begun.options:  # they are this one's as well, and were made before
        said["edits"] = [*unrun.begun.options["edits"], *said.get("edits", ())]
    begun = replace(origin.begun, arguments=arguments, at=clock.time(), options=said, fork=forked)

    def check(state: State) -> None:
        if state.begun is not None:
            raise UsageError(f"{name} exists: choose another exec_id for the fork")

    digits, fresh = 4, name is None
    while True:
        exec_id = name or new_exec_id(origin.begun.flow, digits)
        claimed = claim(
            store, exec_id, clock=clock, begin=begun, fresh=fresh, check=check, say=say, budget=store_budget()
        )
        if claimed is not None:
            break
        digits *= 2
    assert claimed.journal is not None
    assert claimed.beat is not None
    breaks = (unrun or origin).data.breaks
    _let_go(claimed, Release("paused", "forked, and not run yet", clock.time(), breaks=breaks))
    if unrun is not None and supersedes:
        _supersede(store, unrun.exec_id, exec_id, clock)
    return exec_id


def _let_go(claimed: Claimed, release: Release) -> None:
    assert claimed.journal is not None
    assert claimed.beat is not None
    claimed.journal.add(release)
    claimed.journal.flush()
    claimed.journal.close()
    claimed.beat.end(release.status)


def _supersede(store: Store, exec_id: str, by: str, clock: Clock) -> None:
    """A fork that never ran is not to be run any more. Somebody else may have begun to: then it is left to him."""
    try:
        claimed = claim(store, exec_id, clock=clock, say=say, budget=store_budget())
    except (ExecutionOwnedError, ExecutionEndedError):
        return
    if claimed is not None and claimed.journal is not None:
        _let_go(claimed, Release("cancelled", f"superseded by {by}", clock.time()))


# ---------------------------------------------------------------- code


@dataclass(frozen=True, slots=True)
class CodeChange:
    """The code of one step, or of the flow, as it was recorded and as it is now.

    Attributes
    ----------
    name : str
        The step's or flow's name.
    status : str
        ``same``, ``changed``, or ``missing``: it is not to be found in this process.
    recorded, now : str
        The source texts; "" where there is none.
    """

    name: str
    status: str
    recorded: str = ""
    now: str = ""

    @property
    def diff(self) -> str:
        """A unified diff of the two texts; "" where they are equal, as where only a helper has changed."""
        lines = difflib.unified_diff(
            self.recorded.splitlines(), self.now.splitlines(), "recorded", "now", lineterm="", n=3
        )
        return "\n".join(lines)

    def page(self) -> Page:
        """What `kitaru.diffs.show` draws: the difference, line by line."""
        from .diffs.show import Span

        if self.status != "changed" or not self.diff:
            why = "changed in what it calls or reads" if self.status == "changed" else self.status
            return [(Span(f"{self.name}: ", "bold"), Span(why, "chg" if self.status == "changed" else ""))]
        marks = {"+": "add", "-": "del", "@": "dim"}
        lines: Page = [(Span(line.expandtabs(4), marks.get(line[:1], "")),) for line in self.diff.split("\n")[2:]]
        return [(Span(f"{self.name}: ", "bold"), Span("changed", "chg")), *lines]

    def _repr_html_(self) -> str:
        """For notebooks: without script, in the colours of the theme."""
        from .diffs.show import as_html

        return as_html(self.page())

    def __repr__(self) -> str:
        if self.status != "changed":
            return f"<code of {self.name}: {self.status}>"
        lines = [printable(line.expandtabs(4)) for line in self.diff.split("\n")]
        return "\n".join(lines) if self.diff else f"<code of {self.name}: changed in what it calls or reads>"


def code_changes(execution: Execution) -> list[CodeChange]:
    """The code that an execution recorded against what would run now: the flow's first, then each step's.

    Steps are looked for among those that this process has defined or imported.
    """
    begun, sources = execution.data.begun, execution.data.sources
    out = [_change(begun.flow, begun.code, begun.source or "", begun.module)]
    seen: set[tuple[str, bytes]] = set()
    for c in execution.data.checkpoints:
        if c.own_code and (c.name, c.own_code) not in seen:
            seen.add((c.name, c.own_code))
            out.append(_change(c.name, c.own_code, sources.get(c.own_code, ""), begun.module))
    return out


def _change(name: str, digest: bytes, text: str, module: str) -> CodeChange:
    body = body_of(name, module)
    if body is None:
        return CodeChange(name, "missing", text)
    now = body.source() or ""
    return CodeChange(name, "same" if body.code().digest == digest else "changed", text, now)
