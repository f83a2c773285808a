"""What stands in the namespace for an object that could not be recorded: its use says what it was, and what to do."""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru.errors import KitaruError

__all__ = ["NotRestorable", "NotRestorableError"]


class NotRestorableError(KitaruError):
    """An object that could not be recorded is used after it was restored."""

    code = "not-restorable"


class NotRestorable:
    """The place of an object that a checkpoint could not keep.

    Parameters
    ----------
    type_name
        What it was, "module.Class".
    why
        Why it is not here.
    place
        Where it stood: ``o.lock``.

    Examples
    --------
    >>> NotRestorable("_thread.lock", "a lock belongs to this process's threads", "o.lock")
    <not restored: o.lock, a _thread.lock (a lock belongs to this process's threads)>
    """

    __slots__ = ("_kitaru_place", "_kitaru_type", "_kitaru_why")

    def __init__(self, type_name: str, why: str, place: str) -> None:
        self._kitaru_type, self._kitaru_why, self._kitaru_place = type_name, why, place

    def __repr__(self) -> str:
        return f"<not restored: {self._kitaru_place}, a {self._kitaru_type} ({self._kitaru_why})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return NotRestorable, (self._kitaru_type, self._kitaru_why, self._kitaru_place)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith(("__", "_repr_", "_ipython")):
            raise AttributeError(name)  # what others ask every object for
        _refuse(self)


def _refuse(self: NotRestorable, *_args: Any, **_options: Any) -> NoReturn:
    raise NotRestorableError(
        f"{self._kitaru_place} was a {self._kitaru_type}, which a checkpoint cannot keep: {self._kitaru_why}. "
        "Run the cell that made it again"
    )


for _name in (
    "add", "and", "await", "aenter", "aexit", "aiter", "anext", "call", "contains", "delitem", "enter", "exit", "float",
    "floordiv", "ge", "getitem", "gt", "iadd", "index", "int", "iter", "le", "len", "lt", "matmul", "mod", "mul", "neg",
    "bool", "next", "or", "pow", "radd", "rmul", "rsub", "rtruediv", "setitem", "sub", "truediv", "xor",
):  # fmt: skip
    setattr(NotRestorable, f"__{_name}__", _refuse)
