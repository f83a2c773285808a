"""The fast fingerprint of variables that share objects: equal before and after means that nothing in them changed.

A tree of plain data is hashed as msgpack, an array as its memory, anything else as what pickle would write of it: with
memory, code and what lies behind closures put in by `_Writer`. No bytes of it are kept. A fingerprint is of the whole
graph, identities within it included, so that `[a, a]` differs from `[a, b]`.
"""

from __future__ import annotations

import enum
import itertools
import pickle
import sys
import types
import weakref
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import ormsgpack

from .hashing import code_digest, digest_of, digest_of_array, digest_of_memory, hasher
from .importable import Namespace, home, name_of
from .live import is_without_end, why_live
from .parts import taken_apart, why_whole
from .reach import attributes_of, collection_off, is_array, owner_of
from .snippets import NO_PLACE, NO_SOURCE, function_source, is_generated, library_place

__all__ = ["PLAIN", "Fingerprint", "fingerprint"]

PLAIN: frozenset[type] = frozenset({bool, dict, float, int, list, str, type(None)})
"""Types that msgpack tells apart, one by one."""

_EACH = 256 << 10  # bytes of pickle up to which each variable of a group is looked at on its own too


class Fingerprint(NamedTuple):
    """What a group of variables was at one moment.

    Attributes
    ----------
    digest : bytes or None
        None where it cannot be had: nested too deep. Then a change is assumed.
    each : dict of str to bytes
        The digest of each variable as if it stood alone; empty where that would cost too much.
    lost : dict of str to str
        The variables with something in them that cannot be restored, and why.
    """

    digest: bytes | None
    each: dict[str, bytes]
    lost: dict[str, str]


def fingerprint(names: Sequence[str], namespace: Namespace, trees: Collection[str] = ()) -> Fingerprint:
    """The fingerprint of the variables of a group.

    Parameters
    ----------
    trees
        Those of them that are trees, in which nothing is met twice, of the types in `PLAIN` alone.
    """
    if len(names) == 1 and (quick := _quick(namespace[names[0]], is_tree=names[0] in trees)) is not None:
        return Fingerprint(quick, {names[0]: quick}, {})
    memory: dict[int, bytes] = {}
    writer = _Writer(names, namespace, memory)
    try:
        with collection_off():
            for name in names:
                writer.add(name)
            digest = writer.digest()
            each = {names[0]: digest} if len(names) == 1 else {}
            if len(names) > 1 and writer.size <= _EACH:
                for name in names:
                    each[name], lost = _alone(name, namespace, memory, is_tree=name in trees)
                    writer.lost.update(lost)  # what two variables hold, the first one was charged with
    except RecursionError:
        return Fingerprint(None, {}, writer.lost)
    return Fingerprint(digest, each, writer.lost)


def _alone(name: str, namespace: Namespace, memory: dict[int, bytes], *, is_tree: bool) -> tuple[bytes, dict[str, str]]:
    quick = _quick(namespace[name], is_tree=is_tree)
    if quick is not None:
        return quick, {}
    writer = _Writer((name,), namespace, memory)
    writer.add(name)
    return writer.digest(), writer.lost


def _quick(value: Any, *, is_tree: bool) -> bytes | None:
    return _of_tree(value) if is_tree else _of_array(value)


def _of_tree(value: Any) -> bytes | None:
    try:
        return b"tree" + digest_of(ormsgpack.packb(value))
    except (TypeError, ValueError):  # an int over 64 bits, a key that is no str, a surrogate
        return None


def _of_array(value: Any) -> bytes | None:
    """Of an array that owns plain memory, straight from there."""
    if not is_array(type(value)) or type(value) is not sys.modules["numpy"].ndarray:
        return None
    if value.base is not None or value.dtype.hasobject:
        return None
    return b"array" + digest_of(f"{_shape_of(value)}".encode()) + digest_of_array(value)


def _shape_of(array: Any) -> tuple[Any, ...]:
    return repr(array.dtype), array.shape, array.strides, array.flags.writeable


class _Stand:
    """What is pickled in the place of something: its reduce value is made of this class, and means nothing."""


class _Sink:
    """The file that is written to: it keeps a hash, and how much it was."""

    def __init__(self) -> None:
        self.hash, self.size = hasher(), 0

    def write(self, data: Any) -> None:
        self.size += len(data)
        self.hash.update(data)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Memory that needs no copy. Not a method of the pickler: a circle would keep alive all that it has met."""
        self.write(digest_of_memory(buffer.raw()))
        return False


class _Writer(pickle.Pickler):
    """Writes what pickle would write into a hash, whatever is in the objects; nothing of it could be loaded."""

    def __init__(self, names: Sequence[str], namespace: Namespace, memory: dict[int, bytes]) -> None:
        self._sink = _Sink()
        super().__init__(self._sink, 5, buffer_callback=self._sink.take)
        self.lost: dict[str, str] = {}
        self._names, self._namespace, self._memory = names, namespace, memory
        self._roots = {id(namespace[name]) for name in names}
        self._current = ""
        self._has_class = False

    @property
    def size(self) -> int:
        """How many bytes were written so far."""
        return self._sink.size

    def add(self, name: str) -> None:
        """Take in one variable."""
        self._current = name
        self.dump((name, self._namespace[name]))

    def digest(self) -> bytes:
        made: bytes = self._sink.hash.digest()
        return made

    def reducer_override(self, o: Any) -> Any:
        cls = type(o)
        if o is _Stand:
            return NotImplemented
        if is_array(cls):
            return self._array(o, cls)
        if issubclass(cls, type):
            return self._class(o)
        if cls is types.FunctionType:
            return self._function(o)
        if cls is types.ModuleType:
            return _stand("module", vars(o).get("__name__"))
        if cls is types.CellType:
            return _stand("cell", inside=_content(o))
        if cls is types.MethodType:
            own = getattr(type(o.__self__), getattr(o.__func__, "__name__", ""), None)
            return _stand("method", o.__func__.__name__, inside=[o.__self__, None if own is o.__func__ else o.__func__])
        if cls is types.BuiltinFunctionType:
            if o.__self__ is None or isinstance(o.__self__, types.ModuleType):
                return _stand("builtin", o.__module__, o.__qualname__)
            return _stand("method", o.__name__, inside=[o.__self__])
        if cls in (staticmethod, classmethod):
            return _stand(cls.__name__, inside=[o.__func__, dict(o.__dict__)])
        if cls is property:
            return _stand("property", inside=[o.fget, o.fset, o.fdel, o.__doc__])
        if cls is types.MappingProxyType:
            return _stand("mappingproxy", inside=dict(o))
        if cls is memoryview:
            return _stand("memoryview", o.format, o.shape, o.strides, o.readonly, inside=[o.obj])
        if issubclass(cls, enum.Enum):
            return _stand("enum", o.name if o.name is not None else repr(o.value), inside=[cls])
        if (why := why_live(o)) is not None:
            return self._live(o, why)
        special = _special(o, cls)
        if special is not None:
            return special
        return self._by_reduce(o, cls)

    def _by_reduce(self, o: Any, cls: type) -> Any:
        try:
            parts = taken_apart(o)
        except RecursionError:
            raise
        except Exception as e:
            return self._live(o, why_whole(e))
        if isinstance(parts, str):
            return _stand("global", str(getattr(o, "__module__", "")), parts)
        return _stand("object", inside=[cls, *parts])

    def _live(self, o: Any, why: str) -> Any:
        """Tied to this process: it counts by what it is, and by what can be seen of where it stands."""
        cls = type(o)
        self.lost.setdefault(self._current, f"{cls.__module__}.{cls.__qualname__}: {why}")
        seen: list[Any] = []
        frame = getattr(o, "gi_frame", None) or getattr(o, "cr_frame", None) or getattr(o, "ag_frame", None)
        if isinstance(frame, types.FrameType):
            seen = [frame.f_lasti, dict(frame.f_locals)]
        elif type(getattr(o, "__dict__", None)) is dict and not is_without_end(o):
            seen = [o.__dict__]
        return _stand("live", f"{cls.__module__}.{cls.__qualname__}", _serials.of(o), inside=seen)

    # ---- code

    def _named(self, o: Any) -> Any:
        if (name := name_of(o, self._namespace)) is not None:
            return _stand("import", name)
        if id(o) not in self._roots and (name := home(o, self._namespace)) is not None:
            return _stand("variable", name)
        return None

    def _class(self, o: Any) -> Any:
        if (named := self._named(o)) is not None:
            return named
        self._has_class = True
        return _stand("class", o.__qualname__, inside=[type(o), list(o.__bases__), o.__doc__, attributes_of(o)])

    def _function(self, o: types.FunctionType) -> Any:
        if (named := self._named(o)) is not None:
            return named
        is_made = self._has_class and is_generated(o.__code__)  # a dataclass makes its methods again
        if o.__globals__ is self._namespace and not is_made and function_source(o) is None:
            self.lost.setdefault(self._current, f"builtins.function: {NO_SOURCE}")
        elif o.__globals__ is not self._namespace and library_place(o) is None:
            self.lost.setdefault(self._current, f"builtins.function: {NO_PLACE}")
        inside = [o.__defaults__, o.__kwdefaults__, o.__dict__, list(o.__closure__ or ()), o.__annotations__]
        return _stand("function", o.__module__, o.__qualname__, o.__doc__, code_digest(o.__code__), inside=inside)

    # ---- memory

    def _array(self, o: Any, cls: type) -> Any:
        numpy = sys.modules["numpy"]
        extra: Any = None if cls is numpy.ndarray else [cls, getattr(o, "__dict__", None)]
        owner = owner_of(o)
        shape = _shape_of(o)
        if owner is not o:
            at = o.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
            return _stand("view", at, shape, inside=[owner, extra])
        if o.dtype.hasobject:
            cells = o.ravel(order="K").tolist()
            return _stand("objects", shape, inside=[cells, extra])
        digest = self._memory.get(id(o))
        if digest is None:
            digest = self._memory[id(o)] = digest_of_array(o.view(numpy.ndarray))
        base = o.base if type(o.base) in (bytes, bytearray, memoryview) else None
        return _stand("array", shape, digest, inside=[base, extra])


def _stand(*what: Any, inside: Any = None) -> Any:
    return _Stand, what, inside


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # empty: not bound yet
        return []


def _special(o: Any, cls: type) -> Any:
    """What pickle would copy, or write differently each time."""
    library = cls.__module__.partition(".")[0] if type(cls.__module__) is str else ""
    if library == "pyarrow":
        if cls.__name__ == "ChunkedArray":
            return _stand("arrow", str(o.type), tuple(_arrow(chunk) for chunk in o.chunks))
        if hasattr(o, "buffers") and hasattr(o, "offset"):
            return _stand("arrow", _arrow(o))
    if library == "functools" and cls.__name__ == "_lru_cache_wrapper":
        return _stand("lru_cache", inside=[o.__wrapped__, o.cache_parameters(), dict(o.__dict__)])
    if library == "functools" and cls.__name__ == "cached_property":
        return _stand("cached_property", o.attrname, inside=[o.func])
    if library == "pandas" and cls.__name__.endswith("ArrowStringArray"):
        return _stand("arrow", inside=[o.dtype, o._pa_array])
    return None


def _arrow(chunk: Any) -> tuple[Any, ...]:
    """What a chunk of Arrow's holds, by its buffers, none of them copied."""
    buffers = tuple(None if b is None else digest_of_memory(memoryview(b).cast("B")) for b in chunk.buffers())
    return str(chunk.type), chunk.offset, len(chunk), buffers


class _Serials:
    """A number for each object that is tied to this process. An identity alone may be another object's by now."""

    def __init__(self) -> None:
        self._next = itertools.count()
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}

    def of(self, o: Any) -> int:
        known = self._known.get(id(o))
        if known is not None and known[0]() is o:
            return known[1]
        number, key = next(self._next), id(o)
        try:
            self._known[key] = weakref.ref(o, lambda _, key=key: self._known.pop(key, None)), number  # type: ignore[misc]
        except TypeError:  # nobody could say whether it is still the same: a new one each time
            pass
        return number


_serials = _Serials()
