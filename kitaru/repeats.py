"""`kitaru.repeat`: one recorded step again and again on its recorded inputs, to tell a flaky step from a wrong one."""

from __future__ import annotations

import asyncio
import contextvars
import math
import statistics
import time
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import codecs
from .errors import UnrecordableValueError, UsageError
from .failures import record
from .opened import Checkpoint
from .previews import preview, preview_line
from .stepping import RecordedCall

if TYPE_CHECKING:
    from .diffs.show import Page
    from .stores.base import Store

__all__ = ["Outcome", "Repetition", "repeat"]


@dataclass(slots=True)
class Outcome:
    """One of the outputs, or failures, that came out.

    Attributes
    ----------
    count : int
        How many times it came out.
    recorded : bool
        It is what the execution recorded.
    """

    preview: dict[str, Any]
    count: int = 1
    recorded: bool = False
    failed: bool = False


@dataclass(slots=True)
class Repetition:
    """How the outputs of a step vary.

    Attributes
    ----------
    step : str
        Its path.
    outcomes : list of Outcome
        The distinct ones, the most frequent first.
    numbers : list of float
        The outputs, where all of them are finite numbers.
    took : list of float
        Seconds of each run.
    """

    step: str
    outcomes: list[Outcome] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """How often it ran."""
        return sum(outcome.count for outcome in self.outcomes)

    @property
    def agreement(self) -> float:
        """The share of runs that gave what was recorded, 0.0 to 1.0."""
        return sum(outcome.count for outcome in self.outcomes if outcome.recorded) / max(self.runs, 1)

    @property
    def spread(self) -> dict[str, float]:
        """Of outputs that are numbers: min, max, mean and standard deviation; else empty."""
        if not self.numbers:
            return {}
        deviation = statistics.stdev(self.numbers) if len(self.numbers) > 1 else 0.0
        mean = statistics.fmean(self.numbers)
        return {"min": min(self.numbers), "max": max(self.numbers), "mean": mean, "stdev": deviation}

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "step": self.step,
            "runs": self.runs,
            "agreement": self.agreement,
            "outcomes": [
                {"count": o.count, "recorded": o.recorded, "failed": o.failed, "preview": o.preview}
                for o in self.outcomes
            ],
            "spread": self.spread,
            "took": list(self.took),
        }

    def page(self) -> Page:
        """The table as `kitaru.diffs.show` draws it."""
        from .diffs.show import Column, Row, Span, Table

        rows = [
            Row(
                [
                    (Span(f"{o.count}"),),
                    (Span(preview_line(o.preview, 200), "del" if o.failed else ""),),
                    (Span("as recorded", "dim"),) if o.recorded else (),
                ]
            )
            for o in self.outcomes
        ]
        spread = ", ".join(f"{name} {value:g}" for name, value in self.spread.items())
        head, _, _ = repr(self).partition("\n")
        name, _, what = head.partition(": ")
        table = Table([Column("times", right=True), Column("outcome"), Column()], rows)
        told = (Span(f"{name}: ", "bold"), Span(what))
        return [told, table, *([(Span(spread),)] if spread and len(rows) > 1 else [])]

    def _repr_html_(self) -> str:
        """For notebooks: without script, in the colours of the theme."""
        from .diffs.show import as_html

        return as_html(self.page())

    def __repr__(self) -> str:
        distinct = len(self.outcomes)
        what = "the same every time" if distinct == 1 else f"{distinct} different outcomes"
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        lines = [f"{self.step}: {runs}, {what}; {self.agreement:.0%} as recorded"]
        lines += [
            f"  {o.count:>3} x {preview_line(o.preview, 80)}{' (as recorded)' if o.recorded else ''}"
            for o in self.outcomes
        ]
        if self.spread and distinct > 1:
            lines.append("  " + ", ".join(f"{name} {value:g}" for name, value in self.spread.items()))
        return "\n".join(lines)


def repeat(exec_id: str, step: str, n: int = 5, *, code: str | None = None, store: Store | None = None) -> Repetition:
    """Run one recorded step `n` times on its recorded inputs, and say how its outputs vary. Nothing is recorded.

    The step's effects happen each time. Steps that it calls just run; its retries and its timeout do not count.

    Parameters
    ----------
    exec_id
        An exec_id, the start of one, ``last``, ``last-failed``, or an address.
    step
        A REF in it: ``classify#2``.
    n
        How often; at least once.
    code
        Where the flow's code is, as `kitaru resume` takes it.

    Raises
    ------
    UsageError
        `n` is less than 1, or an input was no data, or ignored, and cannot be had again.
    CodeNotFoundError
        The step's code is not to be found here.

    Examples
    --------
    >>> import kitaru
    >>> from kitaru import checkpoint, flow
    >>> @checkpoint
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> @flow
    ... def twice(n: int) -> int:
    ...     return double(n)
    >>> store = kitaru.connect("memory://repeating")
    >>> kitaru.repeat(twice.run(3).exec_id, "double", n=3)
    double#1: 3 runs, the same every time; 100% as recorded
        3 x int 6 (as recorded)
    """
    from .client import KitaruClient
    from .refs import parse_ref

    if not isinstance(n, int) or n < 1:
        raise UsageError(f"n={n!r}: the step must run at least once")
    execution = KitaruClient(store).executions.get(exec_id)
    found = execution.data.find(parse_ref(step))
    call = RecordedCall(Checkpoint(execution, found), code=code)
    sharer = codecs.Sharer()
    made = Repetition(found.label)
    outcomes: dict[Any, Outcome] = {}
    recorded: Any = tuple(value.digest for _, value in found.outputs)
    if found.failure is not None:
        recorded = found.failure.summary()
    values: list[Any] = []
    for _ in range(n):
        began = time.perf_counter()
        try:
            value = call.run()
            if call.is_async:
                value = _awaited(value)
        except Exception as e:
            key: Any = record(e).summary()
            shown, failed = {"type": key}, True
        else:
            key, failed = _digests(sharer, value, call.step.outputs), False
            shown = preview(value)
            values.append(value)
        made.took.append(time.perf_counter() - began)
        if key in outcomes:
            outcomes[key].count += 1
        else:
            outcomes[key] = Outcome(shown, 1, key == recorded, failed)
    made.outcomes = sorted(outcomes.values(), key=lambda outcome: -outcome.count)
    made.numbers = _numbers(values)
    return made


def _numbers(values: Iterable[Any]) -> list[float]:
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return []
    try:
        numbers = [float(value) for value in values]
    except OverflowError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _digests(sharer: codecs.Sharer, value: Any, outputs: Sequence[str] | None) -> Any:
    """What tells one output from another: the digests of its parts, or its repr where it cannot be recorded."""
    named = outputs is not None and isinstance(value, (tuple, list)) and len(value) == len(outputs)
    try:
        return tuple(sharer.encode(part).digest for part in (value if named else (value,)))
    except UnrecordableValueError:
        return repr(value)


def _awaited(body: Coroutine[Any, Any, Any]) -> Any:
    """What the body of an async step gives; in a thread of its own where a loop runs in this one, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(body)
    with ThreadPoolExecutor(1, "kitaru-repeat") as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, body).result()
