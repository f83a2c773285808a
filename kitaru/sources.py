"""Where the code of a recorded flow is: asked for, registered, its module, or its script."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from .errors import CodeNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fingerprints import Fingerprint
    from .flows import Flow
    from .records import Begun
    from .steps import Step


class Body(Protocol):
    """A step, or a flow as one."""

    def code(self) -> Fingerprint: ...
    def source(self) -> str | None: ...


__all__ = ["body_of", "find_flow", "importing", "is_flow", "register", "register_step", "script_of"]

_registered: dict[tuple[str, str], Flow[..., Any]] = {}
_steps: dict[str, WeakSet[Step[..., Any]]] = {}

importing: ContextVar[str | None] = ContextVar("kitaru_importing", default=None)
"""The script that is being imported for its flow: a run() meanwhile is a script without a guard."""


def register(flow: Flow[..., Any]) -> None:
    """Remember `flow` under its module and name; the newest definition stands."""
    _registered[flow.function.__module__, flow.name] = flow


def is_flow(name: str) -> bool:
    """Whether a flow of this name was defined in this process."""
    return any(known == name for _, known in [*_registered])


def register_step(step: Step[..., Any]) -> None:
    """Remember `step` by its name, for as long as anybody else holds it."""
    _steps.setdefault(step.name, WeakSet()).add(step)


def body_of(name: str, module: str) -> Body | None:
    """The step or flow of that name as this process knows it now: the one of this module, else the newest.

    Where there is none, the step that had this name before: ``@checkpoint(was=…)``.
    """
    found = [step for step in _steps.get(name, ()) if step.name == name]
    if not found:
        found = [step for steps in _steps.values() for step in steps if step.was == name]
    of_module = [step for step in found if step.function.__module__ == module] or found
    if of_module:
        return max(of_module, key=lambda step: step.born)
    flow = _registered.get((module, name)) or next((f for (_, n), f in _registered.items() if n == name), None)
    return flow.as_step() if flow is not None else None


def script_of(module: str) -> str | None:
    """The path of the script that `module` is, where it is one: `__main__`, or a script imported on resume."""
    m = sys.modules.get(module)
    path: str | None = getattr(m, "__file__", None)
    if path is None:
        return None
    from .codecs import types

    if module == "__main__" or m in types.aliased_modules():
        return os.path.abspath(path)
    return None


def find_flow(begun: Begun, code: str | None = None) -> tuple[Flow[..., Any], str]:
    """The flow that an execution was begun with, and where it was found.

    Looked for in `code` (a path, ``module``, or ``module:flow``), then among the flows defined in this process, then
    in its module, then in its script.

    Raises
    ------
    CodeNotFoundError
        With the places that were looked at.
    """
    name, looked = begun.flow, []
    if begun.is_block:
        raise CodeNotFoundError(
            f"{name} is no flow but the body of a `with` statement, in {begun.script or begun.module}: run the same "
            "command again with KITARU_EXEC_ID set to this exec_id, and it goes on; or put the `with` into a @flow, "
            "whose executions can be resumed and stepped through from elsewhere"
        )
    if code is not None:
        return _asked_for(code, name)
    for module in (begun.module, "__main__"):
        flow = _registered.get((module, name))
        if flow is not None and (module != "__main__" or _is_same_script(begun)):
            return flow, f"this process ({module})"
    others = [f for (_, n), f in _registered.items() if n == name and f.qualname == begun.qualname]
    if begun.module == "__main__" and not begun.script and len(others) == 1:
        return others[0], f"this process ({others[0].function.__module__})"
    if begun.module and begun.module != "__main__":
        try:
            importlib.import_module(begun.module)
        except ImportError as e:
            looked.append(f"its module {begun.module} ({e})")
        else:
            flow = _registered.get((begun.module, name))
            if flow is not None:
                return flow, f"its module {begun.module}"
            looked.append(f"its module {begun.module} (it has no flow {name})")
    if begun.script:
        if os.path.isfile(begun.script):
            module = _import_script(begun.script)
            flow = _registered.get((module, name))
            if flow is not None:
                return flow, f"its script {begun.script}"
            looked.append(f"its script {begun.script} (it has no flow {name})")
        else:
            looked.append(f"its script {begun.script} (no such file here)")
    raise CodeNotFoundError(
        f"the code of the flow {name} is not to be found here; looked at: {'; '.join(looked) or 'this process'}. "
        "Say where it is: --code PATH or --code module:flow for a command, code= in Python"
    )


def _asked_for(code: str, name: str) -> tuple[Flow[..., Any], str]:
    target, colon, wanted = code.rpartition(":")
    if not colon or os.sep in wanted or wanted.endswith(".py"):
        target, wanted = code, name
    if os.path.isfile(target):
        module = _import_script(target)
    else:
        try:
            importlib.import_module(target)
        except ImportError as e:
            raise CodeNotFoundError(f"--code {code}: neither a file nor a module that can be imported ({e})") from e
        module = target
    flow = _registered.get((module, wanted))
    if flow is None:
        raise CodeNotFoundError(f"--code {code}: there is no flow {wanted} in it")
    return flow, f"--code {code}"


def _is_same_script(begun: Begun) -> bool:
    """Whether `__main__` is the script that the execution was begun by, here or where it was copied to."""
    here = getattr(sys.modules.get("__main__"), "__file__", None)
    if begun.module != "__main__":
        return False
    if not begun.script or not here or os.path.abspath(here) == begun.script:
        return True
    return os.path.basename(here) == os.path.basename(begun.script) and not os.path.isfile(begun.script)


def _import_script(path: str) -> str:
    """Import a script under a name of its own; its folder is where it finds its neighbours, as when it is run."""
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _importing(path):
        from .codecs import types

        return types.import_script(path).__name__


@contextmanager
def _importing(path: str) -> Iterator[None]:
    token = importing.set(path)
    try:
        yield
    finally:
        importing.reset(token)


def check_not_importing(what: str) -> None:
    """Refuse a run in the middle of importing its script."""
    path = importing.get()
    if path is not None:
        raise UsageError(
            f'{path} runs {what} while it is imported: put that below `if __name__ == "__main__":`, so that the '
            "flow in it can be found and resumed"
        )
