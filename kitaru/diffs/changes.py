"""What a comparison finds: changes, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import codecs
from ..errors import KitaruError
from ..previews import preview
from .texts import Piece

__all__ = ["MOST", "NOTHING", "SUMS", "Change", "Found", "plain"]

MOST = 1000
"""Changes that are kept of a value; the others are counted."""

SUMS = frozenset({"items", "rows"})
"""Kinds of changes that sum others up, and are not counted themselves."""

_LARGE = 64 << 10  # bytes of a value that a JSON document holds in full


class _Nothing:
    """There is nothing on this side."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Any = _Nothing()
"""Stands where one side has no value: what was added has none before."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference inside a value.

    Attributes
    ----------
    path : str
        Its place in the first value, as in Python: ``rows[3].client``; "" is the value itself. Of what was added, its
        place in the second one.
    kind : str
        ``changed``, ``added``, ``removed``; ``text``: see `pieces`; ``type``, ``order``, ``shape``, ``dtype``;
        ``items`` and ``rows`` sum an array and a frame up; ``unseen``: the recorded bytes differ in something that
        was not compared.
    a, b : Any
        What stood there, and what stands there; `NOTHING` where a side has none.
    path_b : str
        Its place in the second value, where that is another one.
    role : str
        Whose turn it is in, in a chat.
    pieces : tuple of Piece
        A text, word by word.
    detail : Mapping
        Numbers: ``{"different": 3, "of": 100}``.
    """

    path: str
    kind: str
    a: Any = NOTHING
    b: Any = NOTHING
    path_b: str = ""
    role: str = ""
    pieces: tuple[Piece, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        out: dict[str, Any] = {"path": self.path, "kind": self.kind}
        if self.path_b:
            out["path_b"] = self.path_b
        if self.role:
            out["role"] = self.role
        if self.pieces:
            out["pieces"] = [[p.sign, p.text] for p in self.pieces]
        else:
            out.update({side: plain(v) for side, v in (("a", self.a), ("b", self.b)) if v is not NOTHING})
        if self.detail:
            out["detail"] = dict(self.detail)
        return out


class Found:
    """The changes found so far. It keeps the first `MOST`, and counts all."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether a further change would only be counted."""
        return len(self.changes) >= MOST

    def sum_up(self, change: Change) -> None:
        """Note what sums changes up: it is none itself."""
        self.changes.append(change)

    def add(self, change: Change) -> None:
        """Note a change."""
        self.count += 1
        if not self.full:
            self.changes.append(change)


def plain(value: Any) -> Any:
    """A value as JSON-able data, by the same spelling as `kitaru show --json`; a large one by its preview."""
    if value is None or type(value) in {bool, int, str}:
        return value
    try:
        data = codecs.encode(value, otherwise="refer").data
        if len(data) <= _LARGE:
            return codecs.to_json(data)
    except (KitaruError, RecursionError):
        pass  # what cannot be recorded can still be shown
    return {"$preview": preview(value)}
