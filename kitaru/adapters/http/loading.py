"""The transports are wrapped once, each when its library is there: nothing is imported for it."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

__all__ = ["patch_all"]

_WHERE = {
    "aiohttp.client": "over_aiohttp",
    "httpx": "over_httpx",
    "httpx2": "over_httpx",
    "requests.adapters": "over_requests",
    "botocore.endpoint": "over_botocore",
    "botocore.httpsession": "over_botocore",
}


@functools.cache
def patch_all() -> None:
    """Wrap the transports of every library that is imported, and of the others when they are. Once a process."""
    later: dict[str, Callable[[ModuleType], None]] = {}
    for name in _WHERE:
        module = sys.modules.get(name)
        if module is not None:
            _patch(module)
        else:
            later[name] = _patch
    sys.meta_path.insert(0, _Later(later))


def _patch(module: ModuleType) -> None:
    import_module(f".{_WHERE[module.__name__]}", __package__).patch(module)


class _Later(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it has what others find wrapped as soon as it was imported."""

    def __init__(self, later: dict[str, Callable[[ModuleType], None]]) -> None:
        self._later = later

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the others ask for it themselves
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        then = self._later.pop(fullname, None)
        if then is None:
            return None
        spec = importlib.util.find_spec(fullname)
        loader = spec.loader if spec is not None else None
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        run = loader.exec_module

        def run_and_patch(module: ModuleType) -> None:
            run(module)
            then(module)

        loader.exec_module = run_and_patch  # type: ignore[method-assign]
        return spec
