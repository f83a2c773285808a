"""Values compared: any two Python objects, or recorded ones, which are loaded for it unless their digests are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..client import Artifact, Checkpoint, Execution
from ..errors import CodeNotFoundError, NotFoundError, UntrustedValueError, UsageError
from .changes import Change
from .results import ValueDiff
from .trees import compare

__all__ = ["compare_recorded", "compare_values"]


def compare_values(a: Any, b: Any, keys: Sequence[str] = ()) -> ValueDiff:
    """Compare two values, each a Python object or an `Artifact`; of a `Checkpoint` its output counts.

    Raises
    ------
    UsageError
        One of them is an execution; a key names no column.
    """
    a, b = _value_of(a), _value_of(b)
    if isinstance(a, Artifact) and isinstance(b, Artifact):
        return compare_recorded(a, b, keys)
    plain, why = False, ""
    try:
        loaded = [v.load() if isinstance(v, Artifact) else v for v in (a, b)]
    except (UntrustedValueError, CodeNotFoundError) as e:
        from .changes import plain as readable

        plain, why = True, str(e)
        loaded = [v.to_json() if isinstance(v, Artifact) else readable(v) for v in (a, b)]
    found = compare(loaded[0], loaded[1], keys)
    return ValueDiff(tuple(found.changes), found.count, plain, why)


def compare_recorded(a: Artifact, b: Artifact, keys: Sequence[str] = ()) -> ValueDiff:
    """Compare two recorded values. Where one cannot be loaded here, both are compared as readable plain data.

    What is pickled in a store that is not trusted is not unpickled, and what needs code that is not to be found does
    without it.
    """
    if a.digest == b.digest:
        return ValueDiff()
    plain, why = False, ""
    try:
        x, y = a.load(), b.load()
    except (UntrustedValueError, CodeNotFoundError) as e:
        plain, why = True, str(e)
        x, y = a.to_json(), b.to_json()
    found = compare(x, y, keys)
    if not found.count:
        found.add(Change("", "unseen"))
    return ValueDiff(tuple(found.changes), found.count, plain, why)


def _value_of(thing: Any) -> Any:
    if isinstance(thing, Execution):
        raise UsageError(
            f"an execution and a value cannot be compared: name its result, {thing.exec_id}:result, or another of its "
            "values, or two executions"
        )
    if not isinstance(thing, Checkpoint):
        return thing
    artifacts = thing.artifacts
    if not artifacts:
        raise NotFoundError(f"{thing.label} is {thing.status}, and has no output to compare")
    return artifacts[0] if len(artifacts) == 1 else tuple(a.load() for a in artifacts)
