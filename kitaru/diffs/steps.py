"""Two executions, or two steps, compared by their records: digests, previews, figures. No value is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..executions import CheckpointData, ExecutionData
from ..records import Id, Value
from .align import Link, Steps, align
from .results import Body, ExecutionDiff, Side, StepDiff, ValueDiff

__all__ = ["LookInside", "compare_bodies", "compare_executions", "flow_body", "step_body"]

_SANE = 1e18  # what is larger, or NaN, is no number of tokens, dollars or seconds
LookInside = Callable[[Value, Value], ValueDiff]
"""Loads both and compares them: the first is of the first execution."""


def compare_executions(
    a: ExecutionData,
    b: ExecutionData,
    links: tuple[Mapping[Id, Link], Mapping[Id, Link]] = ({}, {}),
    between: Mapping[Id, Link] | None = None,
    look: LookInside | None = None,
) -> ExecutionDiff:
    """Align the steps of two executions, and compare each pair.

    Parameters
    ----------
    links
        What the steps of each stand for; see `align.read_links`.
    between
        Likewise of the executions between them in a chain of forks.
    look
        What looks into values that changed; None: nobody does.
    """
    pairs = align(Steps(a.checkpoints, links[0]), Steps(b.checkpoints, links[1]), between)
    steps = [compare_bodies(flow_body(a), flow_body(b), look)]
    for x, y, depth in pairs:
        sides = (None if x is None else step_body(x, a), None if y is None else step_body(y, b))
        steps.append(compare_bodies(*sides, look, depth=depth))
    return ExecutionDiff(_side(a, steps, 0), _side(b, steps, 1), tuple(steps))


def compare_bodies(a: Body | None, b: Body | None, look: LookInside | None = None, *, depth: int = 0) -> StepDiff:
    """What differs between two sides of a step."""
    if a is None or b is None:
        return StepDiff(a, b, depth=depth)
    changed = []
    values: dict[str, ValueDiff] = {}
    for word, group, old, new in (("inputs", "in.", a.inputs, b.inputs), ("output", "", a.outputs, b.outputs)):
        if _equal(old, new):
            continue
        changed.append(word)
        for name in old if look is not None else ():
            if name in new and old[name].digest != new[name].digest:
                assert look is not None
                values[f"{group}{name}"] = look(old[name], new[name])
    if a.code != b.code:
        changed.append("code")
    if a.status != b.status:
        changed.append("status")
    if _failed_with(a) != _failed_with(b):
        changed.append("failure")
    edited = b.reused and not a.reused and "output" in changed and "inputs" not in changed
    return StepDiff(a, b, tuple(changed), values, edited, depth)


def _equal(old: Mapping[str, Value], new: Mapping[str, Value]) -> bool:
    if len(old) != len(new):
        return False
    return all((other := new.get(name)) and other.digest == value.digest for name, value in old.items())


def _failed_with(body: Body) -> Any:
    return None if body.failure is None else (body.failure.type, body.failure.message)


def step_body(c: CheckpointData, e: ExecutionData) -> Body:
    """A step's side."""
    reused = c.reused_from is not None
    return Body(
        c.label,
        c.status,
        dict(c.arguments),
        dict(c.outputs),
        c.own_code,
        e.sources.get(c.own_code),
        c.failure,
        None if reused or c.ended is None else _seconds(c.took),
        _sum_of(c.metadata.get("tokens")),
        _sum_of(c.metadata.get("cost")),
        reused,
    )


def flow_body(e: ExecutionData) -> Body:
    """The flow's own side: its inputs; its result and what was saved; its code and its failure."""
    outputs = {s.name: s.value for s in e.saved}
    if e.result is not None:
        outputs["result"] = e.result
    begun = e.begun
    return Body(
        "",
        e.state.status,
        dict(begun.arguments),
        outputs,
        begun.code,
        e.sources.get(begun.code),
        # That of a step is told where it happened.
        e.failure if e.failed_at is None else None,
        None if e.ended is None else _seconds(e.ended - begun.at),
        _sum_of(e.metadata.get("tokens")),
        _sum_of(e.metadata.get("cost")),
    )


def _side(e: ExecutionData, steps: list[StepDiff], which: int) -> Side:
    bodies = [body for step in steps if (body := (step.a, step.b)[which]) is not None]
    return Side(
        e.exec_id,
        e.begun.flow,
        e.state.status,
        bodies[0].took,
        _total(body.tokens for body in bodies),
        _total(body.cost for body in bodies),
    )


def _total(figures: Any) -> float | None:
    there = [x for x in figures if x is not None]
    return sum(there) if there else None


def _sum_of(logged: Any) -> float | None:
    """A figure that was logged; whoever logged something else under its name has none."""
    is_figure = isinstance(logged, (int, float)) and not isinstance(logged, bool) and abs(logged) < _SANE
    return logged if is_figure else None


def _seconds(x: Any) -> float | None:
    return x if isinstance(x, (int, float)) and abs(x) < _SANE else None
