"""The chat of a model call, as a browser and as a terminal show it.

Its values are read for it, no code of theirs is run, and what they say is shown as text that prints as itself.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kitaru.client import Artifact, Checkpoint
from kitaru.messages import Turn, conversation, figures, transcript, turns

__all__ = ["Said", "heading", "said", "speaker"]

_LONG = 16  # characters of an identifier
_SPEAKERS = {"assistant", "system", "thinking", "tool", "user"}


class Said(NamedTuple):
    """A chat: HTML and text of it, its turns, and what it used in one line."""

    html: str
    text: str
    turns: list[Turn]
    figures: str


def said(c: Checkpoint, instead: Mapping[str, Artifact] = MappingProxyType({})) -> Said | None:
    """The chat of a step of the type ``llm_call``; None where none is recognised.

    Parameters
    ----------
    instead
        By REF, what an edit puts in the place of a value.
    """
    found = conversation(c, instead)
    if found is None:
        return None
    shown, used = turns(found.messages), figures(found.usage, found.cost)
    page = "".join(map(_turn, shown)) + (f'<p class="kitaru-note">{html.escape(used)}</p>' if used else "")
    text = transcript(found.messages, usage=found.usage, cost=found.cost)
    return Said(f'<div class="kitaru-chat">{page}</div>', text, shown, used)


def speaker(turn: Turn) -> str:
    """Whose turn it is, of those that have a colour."""
    word = turn.head.partition(" ")[0]
    return word if word in _SPEAKERS else "other"


def heading(turn: Turn) -> str:
    """Who speaks; the identifier of a tool call is cut short: it tells which result is whose."""
    before, space, last = turn.head.rpartition(" ")
    if len(last) <= _LONG or not any(c.isdigit() for c in last):
        return turn.head
    return f"{before}{space}…{last[-6:]}"


def _turn(turn: Turn) -> str:
    body = f"<pre>{html.escape(turn.body)}</pre>" if turn.body else ""
    head = heading(turn)
    whole = "" if head == turn.head else f' title="{html.escape(turn.head)}"'
    return f'<div class="kitaru-turn kitaru-by-{speaker(turn)}"><b{whole}>{html.escape(head)}</b>{body}</div>'
