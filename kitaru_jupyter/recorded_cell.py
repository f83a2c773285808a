"""A recorded cell, to be run again on what it read: beside the notebook's variables, so that these stay as they are."""

from __future__ import annotations

import ast
import builtins
import contextvars
import inspect
import linecache
from typing import TYPE_CHECKING, Any

from kitaru.client import Checkpoint

from . import display as faces
from .namespace import Namespace
from .refusal import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["RecordedCell"]


class RecordedCell:
    """One run of a cell, to be made again. Nothing of it is recorded; steps and flows that it calls just run.

    Attributes
    ----------
    variables : dict
        What it read, as it was; and, once it has run, what it has bound.

    Raises
    ------
    UsageError
        It holds a magic or a shell command, which would work on the notebook's own variables; or something that it
        read cannot be had again.
    UntrustedValueError
        What it read holds code, and its store is not trusted.
    """

    def __init__(self, shell: InteractiveShell, checkpoint: Checkpoint) -> None:
        label, execution = faces.line(checkpoint.label), checkpoint.execution
        source = shell.transform_cell(checkpoint.source or "")
        tree = ast.parse(source)
        if any(isinstance(node, ast.Name) and node.id == "get_ipython" for node in ast.walk(tree)):
            raise UsageError(
                f"{label} is a cell with a magic or a shell command, which works on the variables of this notebook: "
                f"%kitaru checkout {label} --before brings those that it read, and %debug stops where it fails once it "
                "was run again"
            )
        branch = execution.branch()
        place = branch.find(checkpoint.label)
        step = branch.steps[place]
        self.variables: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        moved = Namespace(self.variables).go(
            branch.state(place, reader=step), branch.imports(place, reader=step), execution.ref_to,
            trusted=execution.is_trusted,
        )  # fmt: skip
        lost = {name: "it was no data" for name, value in checkpoint.inputs.items() if value.kind == "reference"}
        for name, why in (lost | moved.lost).items():
            if name in checkpoint.inputs:
                raise UsageError(f"{label} read {faces.line(name)}, which cannot be had again whole: {faces.line(why)}")
        file = f"<{label}>"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        self._code = compile(tree, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)

    @property
    def is_async(self) -> bool:
        """Whether `run` gives a coroutine."""
        return bool(self._code.co_flags & inspect.CO_COROUTINE)

    def run(self) -> Any:
        """Run it. What awaits gives a coroutine."""
        outside = contextvars.Context()  # of whatever step this is asked for in
        value = outside.run(eval, self._code, self.variables)
        return _awaited(value, outside) if self.is_async else value


async def _awaited(coroutine: Any, context: contextvars.Context) -> Any:
    import asyncio

    return await asyncio.get_running_loop().create_task(coroutine, context=context)
