"""The newest code: what a notebook has defined since takes the place of what was recorded or imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kitaru.client import Execution
from kitaru.errors import CodeNotFoundError
from kitaru.stepping import Flow, Step, find_flow_of, replaced

from . import display as faces

__all__ = ["flow_of", "own_flow", "own_steps", "standing_in", "tell_source"]

_HERE = "__main__"


def own_steps(variables: Mapping[str, Any]) -> dict[str, Step[..., Any]]:
    """The steps that were defined in the notebook, by their names: of several the newest."""
    found: dict[str, Step[..., Any]] = {}
    for value in list(variables.values()):
        if type(value) is Step and value.function.__module__ == _HERE:
            before = found.get(value.name)
            if before is None or value.born > before.born:
                found[value.name] = value
    return found


def own_flow(variables: Mapping[str, Any], name: str) -> Flow[..., Any] | None:
    """The flow of this name that was defined in the notebook."""
    value = variables.get(name)
    return value if isinstance(value, Flow) and value.name == name and value.function.__module__ == _HERE else None


def flow_of(
    execution: Execution, variables: Mapping[str, Any], code: str | None = None, tell: Callable[[str], None] = print
) -> Flow[..., Any]:
    """The flow that goes on with an execution: the notebook's own, where it has defined one; else what is found.

    Parameters
    ----------
    code
        Where it is, as `kitaru resume` takes it.
    tell
        Takes a line that says so, where it is other code than was recorded.

    Raises
    ------
    CodeNotFoundError
        With what to do.
    """
    is_block = execution.data.begun.is_block
    own = own_flow(variables, execution.flow) if code is None and not is_block else None
    if own is not None:
        if execution.data.begun.module != _HERE or execution.data.begun.script:
            tell(f"{faces.line(own.name)} is the flow of this notebook")
        return own
    try:
        return find_flow_of(execution, code)
    except CodeNotFoundError as e:
        if is_block:
            raise CodeNotFoundError(f"{e}. In a notebook, run its cell again with exec_id={execution.exec_id!r}") from e
        tell_source(execution.flow, execution.data.begun.source, tell)
        raise CodeNotFoundError(
            f"{e}; or define it in a cell of this notebook: a flow named {execution.flow} is taken"
        ) from e


def tell_source(name: str, source: str | None, tell: Callable[[str], None]) -> None:
    """The code as it was recorded, where it cannot be had: the next best."""
    if source:
        tell(f"{faces.line(name)}, as it was recorded:\n\n{faces.block(source.rstrip())}\n")


@contextmanager
def standing_in(
    flow: Flow[..., Any], variables: Mapping[str, Any], tell: Callable[[str], None] = print
) -> Iterator[None]:
    """Meanwhile, the notebook's steps stand in for those of their names that the flow calls; `tell` is told so."""
    with replaced(flow, own_steps(variables).values()) as places:
        for name, where in places:
            tell(f"{faces.line(name)} of this notebook stands in for that of {_file(where)}")
        yield


def _file(where: str) -> str:
    return faces.line(os.path.basename(where) or where)
