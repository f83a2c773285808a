"""How types are named, "module:qualname", and found again.

A script's own classes are `__main__:X` in the canonical bytes whatever name its module has here: a process that
resumes an execution imports the script under a private name, and its values still have equal digests.

Finding a type imports the module that its name says, which runs that installed module's top level, as `import`
does. Nothing else is called: attributes are looked up in the modules' and classes' own dicts.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CodeNotFoundError, KitaruError

__all__ = ["alias", "find", "import_script", "is_found", "name_of", "qualified_name", "standing_in"]

_MAIN = "__main__"
_scripts: dict[str, str | None] = {}  # module written as __main__ → real path of its file
_stand_ins: dict[str, str] = {}  # real path of a script, perhaps of another machine → module that is it here
_importing = threading.RLock()
_module_of = type.__dict__["__module__"].__get__  # past any metaclass that overrides them
_qualname_of = type.__dict__["__qualname__"].__get__
_HIDDEN = {c.__qualname__: c for c in vars(types).values() if isinstance(c, type) and c.__module__ == "builtins"}


def alias(module_name: str) -> None:
    """Write the types of the module of this name as `__main__:X` from now on.

    For a script that was imported under a name of its own, so that its values have the digests that they have
    where the script itself is `__main__`.
    """
    file = getattr(sys.modules.get(module_name), "__file__", None)
    _scripts[module_name] = os.path.realpath(file) if isinstance(file, str) else None


@contextmanager
def standing_in(module_name: str, script: str | None) -> Iterator[None]:
    """Meanwhile the module of this name is the script whose types were recorded as `__main__:X`, wherever that was.

    For a script that was run elsewhere, or in a notebook, and whose code has been imported here as a module.
    """
    if module_name == _MAIN:
        yield
        return
    real = os.path.realpath(script) if script is not None else ""
    own = os.path.realpath(getattr(sys.modules.get(module_name), "__file__", None) or "")
    aside = {name: file for name, file in _scripts.items() if name == module_name or file in {own, real}}
    for name in aside:  # of several that are the same script, one has the types
        del _scripts[name]
    _scripts[module_name] = own
    elsewhere = _stand_ins.get(real)
    _stand_ins[real] = module_name
    try:
        yield
    finally:
        del _scripts[module_name], _stand_ins[real]
        _scripts.update(aside)
        if elsewhere is not None:
            _stand_ins[real] = elsewhere


def aliased_modules() -> list[types.ModuleType]:
    """The modules whose types are written as `__main__:X`."""
    return [sys.modules[name] for name in _scripts if name in sys.modules]


def qualified_name(module: str, qualname: str) -> str:
    """The name "module:qualname", with `__main__` for an aliased module."""
    return f"{_MAIN if module in _scripts else module}:{qualname}"


def name_of(cls: type) -> str:
    """The name that stands for `cls` in canonical bytes, whether or not it can be found again by it.

    >>> import decimal
    >>> name_of(decimal.Decimal), name_of(int)
    ('decimal:Decimal', 'builtins:int')
    """
    module = _module_of(cls)
    return qualified_name(module if isinstance(module, str) else "?", _qualname_of(cls))


def is_found(cls: type) -> bool:
    """Whether `cls` is what its name stands for in this process; local classes are not."""
    module = sys.modules.get(_module_of(cls))
    return module is not None and _within(module, _qualname_of(cls)) is cls


def find(name: str, script: str | None = None) -> type:
    """The class that `name` stands for.

    Parameters
    ----------
    name
        "module:qualname", as `name_of` gives it. Its module is imported if need be.
    script
        The path of the script whose classes are named `__main__:X`: taken from a module that was imported from
        it under another name; else from `__main__`, if that is the script or has the class; else the script is
        imported (`import_script`).

    Raises
    ------
    CodeNotFoundError
        It is not to be found here, or is no class.
    """
    module_name, _, qualname = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *qualname.split("."))):
        raise _missing(name, "no module holds a class of that name")
    found = None
    for module in _candidates(name, module_name, script):
        found = _within(module, qualname)
        if isinstance(found, type):
            return found
    raise _missing(name, "its module has no such name" if found is None else "that is no class")


def import_script(path: str | os.PathLike[str]) -> types.ModuleType:
    """Import the script at `path` under a private name that is the same each time, and alias it.

    Its `__name__` is not `__main__`, so what it guards does not run. Its folder is appended to `sys.path`, as the
    modules beside it may be needed. A second call gives the same module.

    Raises
    ------
    CodeNotFoundError
        There is no such file, or importing it failed.
    """
    import importlib.util
    from pathlib import Path

    real = os.path.realpath(path)
    name = f"_kitaru_script_{hashlib.sha256(real.encode(errors='surrogateescape')).hexdigest()[:12]}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, real)
        if spec is None or spec.loader is None or not Path(real).is_file():
            raise CodeNotFoundError(f"there is no Python script at {real}: say where it is with --code")
        if (folder := str(Path(real).parent)) not in sys.path:
            sys.path.append(folder)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        alias(name)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name], _scripts[name]
            if isinstance(error, KitaruError) or not isinstance(error, (Exception, SystemExit)):
                raise
            raise CodeNotFoundError(
                f"importing {real} failed with {type(error).__name__}: {error}. "
                'Guard what it runs with `if __name__ == "__main__":`, or mend it'
            ) from error
        return module


def _candidates(name: str, module_name: str, script: str | None) -> list[types.ModuleType]:
    if module_name != _MAIN:
        try:
            return [sys.modules.get(module_name) or importlib.import_module(module_name)]
        except (Exception, SystemExit) as error:
            raise _missing(name, f"importing {module_name} failed with {type(error).__name__}: {error}") from error
    main = sys.modules.get(_MAIN)
    mains = [] if main is None else [main]
    if script is None:
        return [*mains, *aliased_modules()]
    real = os.path.realpath(script)
    here = _stand_ins.get(real)
    imported = [sys.modules[m] for m, file in _scripts.items() if m in sys.modules and (file == real or m == here)]
    main_file = getattr(main, "__file__", None)
    if imported or (isinstance(main_file, str) and os.path.realpath(main_file) == real):
        return [*imported, *mains]
    if isinstance(_within(main, name.partition(":")[2]), type):
        return mains
    return [import_script(real)]


def _within(module: types.ModuleType | None, qualname: str) -> object:
    """What `qualname` means in `module`, by their own dicts alone; None where there is nothing."""
    parts = qualname.split(".")
    found: object = module
    for part in parts:
        if isinstance(found, types.ModuleType):
            found = vars(found).get(part)
            if found is None and module is sys.modules["builtins"]:
                found = _HIDDEN.get(part)
        elif isinstance(found, type):
            found = type.__dict__["__dict__"].__get__(found).get(part)
        else:
            return None
    return found


def _missing(name: str, why: str) -> CodeNotFoundError:
    return CodeNotFoundError(
        f"a recorded value is of the type {name}, which is not here: {why}. "
        "Install or import what defines it, or say with --code where the script is"
    )
