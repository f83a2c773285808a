"""Definitions: what is asked of a step by whoever decides its calls and runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from .fingerprints import Fingerprint
from .schemas import Schema

__all__ = ["NO_DEFAULT", "Asked", "Definition"]

NO_DEFAULT: Final = object()
"""A wait without a default: where nobody answers in time, that is a failure."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a wait waits for.

    Attributes
    ----------
    about : str
        ``answer``, ``sleep``, ``child`` or ``doubt``; see `records.Opened`.
    due : float or None
        Seconds since the epoch by the store's clock, where it was given as a moment.
    expires : float or None
        Seconds from the moment at which it is opened.
    timeout : float
        Seconds for which this process stays and looks before it suspends.
    child : str
        The exec_id that is waited for.
    """

    about: str
    schema: Schema = field(default_factory=Schema)
    question: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    due: float | None = None
    expires: float | None = None
    default: Any = NO_DEFAULT
    timeout: float = 0.0
    child: str = ""


class Definition(Protocol):
    """What the engine asks of a step."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def retries(self) -> int: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def type(self) -> str | None: ...
    @property
    def outputs(self) -> tuple[str, ...] | None: ...
    def replaced(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The args and kwargs of a call, with other values for some arguments."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of what it takes; the free variables of a closure are not among them."""
        ...

    @property
    def in_doubt(self) -> str:
        """What becomes of it where a process died in its body: rerun, ask or fail."""
        ...

    @property
    def awaits(self) -> Asked | None:
        """What it waits for, instead of having a body."""
        ...

    @property
    def lenient(self) -> bool:
        """An output that cannot be recorded is noted as such, and fails nothing."""
        ...

    @property
    def was(self) -> str | None:
        """The name that it had before."""
        ...

    @property
    def lazy(self) -> frozenset[str]:
        """The names of the parameters that take a `Ref`."""
        ...

    @property
    def gives_refs(self) -> bool:
        """Whether its caller is given a `Ref` to each output."""
        ...

    def handed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], refer: Callable[[str, Any], Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The args and kwargs as the body takes them; `refer` makes a `Ref` to an argument."""
        ...

    def code(self) -> Fingerprint:
        """The fingerprint of its body."""
        ...

    def source(self) -> str | None:
        """The text of its body, where it can be had."""
        ...
