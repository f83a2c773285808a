"""What code is found again by importing it, and what stands for it: a name "module:qualname"."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Mapping
from typing import Any

__all__ = ["Namespace", "found", "home", "is_notebook", "name_of"]

Namespace = Mapping[str, Any]

_module_of = type.__dict__["__module__"].__get__  # past any metaclass that overrides it
_qualname_of = type.__dict__["__qualname__"].__get__
_HIDDEN = {c.__qualname__: c for c in vars(types).values() if isinstance(c, type) and c.__module__ == "builtins"}


def is_notebook(namespace: Namespace, module: object) -> bool:
    """Whether what says that it is of this module was defined in the notebook."""
    return module is None or module == namespace.get("__name__", "__main__")


def name_of(code: Any, namespace: Namespace) -> str | None:
    """The name by which a class or function is imported, or None: the notebook's own, and what has no name.

    >>> import collections
    >>> name_of(collections.deque, {}), name_of(lambda: 1, {})
    ('collections:deque', None)
    """
    try:
        if isinstance(code, type):
            module, qualname = _module_of(code), _qualname_of(code)
        else:
            module, qualname = code.__module__, code.__qualname__
        if module is None:  # a builtin method of a class, for one
            return None
        if type(module) is not str or type(qualname) is not str or is_notebook(namespace, module):
            return None
        return f"{module}:{qualname}" if _within(sys.modules.get(module), qualname) is code else None
    except Exception:  # a proxy that raises whatever it is asked
        return None


def found(name: str) -> Any:
    """What the name stands for; imports its module. Raises `ImportError` or `AttributeError`."""
    module, _, qualname = name.partition(":")
    thing = _within(importlib.import_module(module), qualname)
    if thing is None:
        raise AttributeError(f"{module} has no {qualname}")
    return thing


def home(code: Any, namespace: Namespace) -> str | None:
    """The variable that holds this class or function of the notebook, if it is the one of its own name."""
    name = _qualname_of(code) if isinstance(code, type) else getattr(code, "__name__", None)
    return name if type(name) is str and namespace.get(name) is code else None


def _within(module: types.ModuleType | None, qualname: str) -> Any:
    at: Any = module
    for part in qualname.split("."):
        if isinstance(at, types.ModuleType):
            inside = vars(at).get(part)
            if inside is None and module is sys.modules["builtins"]:
                inside = _HIDDEN.get(part)
            if inside is None:
                inside = getattr(at, part, None)  # a module whose names load where they are first used
            at = inside
        elif isinstance(at, type):
            at = getattr(at, part, None)
        else:
            return None
    return at
