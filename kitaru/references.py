"""`kitaru.Ref`: a recorded value that is loaded when somebody asks for it, whole or in part."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_origin

from .documents import Document
from .errors import KitaruError, UsageError
from .previews import preview, preview_line

if TYPE_CHECKING:
    from .artifacts import Values
    from .records import Value

__all__ = ["Ref", "is_ref_annotation", "preview_of"]

T = TypeVar("T")


class Ref(Generic[T]):
    """A recorded value that is not loaded until it is asked for.

    A parameter of a step that is annotated with it receives one in the place of the argument; a step whose return is
    annotated with it gives its caller one in the place of the output. Passed on, it counts as the value that it
    refers to: nothing is loaded or hashed. A step whose parameter is not annotated so is given the value.

    Two are equal if they refer to equal values, by type, content and order. It lives in this process alone.

    Examples
    --------
    >>> import numpy as np
    >>> from kitaru import Ref, checkpoint
    >>> @checkpoint
    ... def measure() -> Ref[np.ndarray]:
    ...     return np.arange(10.0)
    >>> @checkpoint
    ... def first(rows: Ref[np.ndarray], n: int) -> float:
    ...     return float(rows[:n].sum())  # of a recorded array, the chunks that hold these rows
    >>> rows = measure()
    >>> rows
    <Ref to numpy.ndarray 10 float64 [0, 1, 2, 3, 4, 5, …], 0 to 9>
    >>> rows.shape, rows.dtype, first(rows, 3)
    ((10,), dtype('float64'), 3.0)
    """

    __slots__ = ("_held", "_opened", "_stop", "_value", "_values")

    __iter__ = None  # by its items' numbers it would be one download after the other

    def __init__(
        self,
        value: Value,
        values: Values,
        stop: Callable[[KitaruError], BaseException] = lambda error: error,
    ) -> None:
        self._value: Value | None = value
        self._values: Values | None = values
        self._stop = stop
        self._held: Any = None
        self._opened: Any = None

    @classmethod
    def to(cls, value: T) -> Ref[T]:
        """To a value that is at hand and recorded nowhere: what a step is given when it runs outside of a flow."""
        made: Ref[T] = cls.__new__(cls)
        made._value = made._values = made._opened = None
        made._stop = lambda error: error
        made._held = value
        return made

    # ------------------------------------------------------------ what is known without loading anything

    @property
    def digest(self) -> str:
        """The SHA-256 of its canonical form; 64 hexadecimal digits."""
        return self._known().digest.hex()

    @property
    def kind(self) -> str:
        """``data``, ``text``, ``bytes`` or ``pickle``."""
        return self._known().kind

    @property
    def size(self) -> int:
        """Bytes of its canonical form."""
        return self._known().size

    @property
    def preview(self) -> dict[str, Any]:
        """Plain data that a person recognises the value by."""
        return preview(self._held) if self._values is None else dict(self._known().preview)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array, a table or a series. Raises `AttributeError` where the value has none."""
        shape = self.preview.get("shape")
        if isinstance(shape, (list, tuple)):
            return tuple(shape)
        raise AttributeError(f"{self!r} has no shape")

    @property
    def dtype(self) -> Any:
        """Of an array. Raises `AttributeError` where the value is none."""
        return self._open("dtype").dtype

    @property
    def columns(self) -> list[Any]:
        """The names of a table's columns, in their order. Raises `AttributeError` where the value is none."""
        table = self._open("columns")
        names = getattr(table, "column_names", None)  # Arrow's own; its columns are the columns themselves
        return list(table.columns if names is None else names)

    # ------------------------------------------------------------ the value

    def load(self) -> T:
        """The value whole, as a fresh object.

        Raises
        ------
        UntrustedValueError
            It is pickled, and the store is not marked as trusted.
        CorruptionError, StoreError
            Its bytes are not what was recorded, or the store does not give them.
        """
        if self._values is None:
            return self._held  # type: ignore[no-any-return]
        values, value = self._values, self._known()
        return self._read(lambda: values.load(value))  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Any:
        """A column of a table by its name, or rows of an array as NumPy would give them: these alone are downloaded.

        Raises
        ------
        UsageError
            The value is something else: load it whole.
        KeyError, IndexError
            As the table or the array itself.
        """
        try:
            opened = self._open("rows or columns")
        except AttributeError as e:
            raise UsageError(f"{e} that could be read alone: load() it whole") from None
        return self._read(lambda: opened[key])

    @property
    def recorded(self) -> Value | None:
        """The value as a record holds it; None where it is recorded nowhere."""
        return None if self._values is None else self._value

    def _known(self) -> Value:
        if self._value is None:
            from .codecs import Sharer
            from .records import Value

            shared = Sharer().encode(self._held, otherwise="refer")
            self._value = Value(shared.digest, shared.size, shared.kind)
        return self._value

    def _open(self, what: str) -> Any:
        """What gives parts of the value; raises `AttributeError` where there is nothing of the sort."""
        if self._opened is None:
            try:
                self._opened = self._held if self._values is None else self._read(self._head)
            except UsageError:  # an array whose items do not lie in a buffer
                self._opened = ()
        kind = "columns" if hasattr(self._opened, "columns") else "dtype" if hasattr(self._opened, "dtype") else ""
        if kind and what in {kind, "rows or columns"}:
            return self._opened
        raise AttributeError(f"{self!r} has no {what}")

    def _head(self) -> Any:
        from .codecs.tables import KINDS, LazyTable, Reader

        values = self._values
        assert values is not None
        root, source = values.root(self._known()), values.near(self._known())
        read = Reader(source, trusted=values.trusted, script=values.script)
        tag, parts = read.opened(root)
        if tag in KINDS:
            return LazyTable(root, source=source, trusted=values.trusted, script=values.script)
        if tag == "numpy.ndarray":
            from .codecs.arrays import lazy

            return lazy([read.value(part) for part in parts])
        return ()

    def _read(self, request: Callable[[], Any]) -> Any:
        """Within a run, what keeps a recorded value from being read is no failure of the step: it ends the run."""
        try:
            return request()
        except UsageError:
            raise
        except KitaruError as e:
            stopped = self._stop(e)
            if stopped is e:
                raise
            raise stopped from e

    # ------------------------------------------------------------ as a thing of its own

    def __eq__(self, other: object) -> bool:
        return self._known().digest == other._known().digest if isinstance(other, Ref) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._known().digest)

    def __copy__(self) -> Ref[T]:
        return self

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Ref[T]:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a Ref lives in this process alone: hand on what its load() gives")

    def __repr__(self) -> str:
        return f"<Ref to {preview_line(self.preview, 60)}>"


def preview_of(value: Any) -> Mapping[str, Any]:
    """`previews.preview`, where a `Ref` stands for what it refers to, and a `Document` for what it describes."""
    if isinstance(value, Ref):
        return value.preview
    if type(value) is Document:
        return preview(value.of) if value.preview is None else value.preview
    return preview(value)


_SPELLED = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:\[.*\])?\s*\Z", re.DOTALL)


def is_ref_annotation(annotation: Any, names: Mapping[str, Any]) -> bool:
    """Whether a parameter or a return is annotated ``Ref`` or ``Ref[…]``, as itself or as text.

    Parameters
    ----------
    names
        The globals of the function. What cannot be found there, such as an import for the type checker alone, counts
        by how it is spelled.
    """
    if not isinstance(annotation, str):
        return annotation is Ref or get_origin(annotation) is Ref
    spelled = _SPELLED.match(annotation)
    if spelled is None:
        return False
    first, *rest = spelled[1].split(".")
    if first not in names:
        return spelled[1] in {"Ref", "kitaru.Ref"}
    found: Any = names[first]
    for name in rest:
        found = getattr(found, name, None)
    return found is Ref
