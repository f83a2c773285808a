"""A document: a value that is recorded in the place of another one, which has no data format of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Document"]


@dataclass(frozen=True, slots=True)
class Document:
    """What a step of a session records for an output: `value`, while people are shown what `of` is.

    A notebook records variables that share objects as one document that says so; whoever made it reads it again.

    Attributes
    ----------
    value
        Data that is recorded.
    of
        The object that it describes: its preview stands beside the value.
    preview : dict or None
        That preview, where it is at hand and the object is not.
    """

    value: Any
    of: Any = None
    preview: Mapping[str, Any] | None = None
