"""A recorded value as text that a person can edit, and that text as a value of the type that was recorded.

Text is edited as it is. Everything else is edited as JSON, where that comes back as the very value: tuples, dates,
dataclasses and models are made again from what is recorded in their place. Whether it comes back is not guessed but
tried, by the digest. What does not, such as a dict with numbers for keys, is edited in a cell.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import kitaru
from kitaru.client import Artifact, KitaruClient
from kitaru.errors import KitaruError, UsageError

__all__ = ["MOST", "Form", "form", "read"]

MOST = 200_000
"""Bytes of a value that is edited in the browser; beyond that a cell is the better place."""


class Form(NamedTuple):
    """What the editor holds.

    Attributes
    ----------
    mode : str
        ``text``, ``json``; ``cell``: it cannot be edited here.
    text : str
    note : str
        Why it cannot, or what there is to know.
    """

    mode: str
    text: str
    note: str


def form(artifact: Artifact, like: Artifact | None = None) -> Form:
    """A value as it is put before a person. It is loaded: a pickle in a store that is not trusted is refused.

    Parameters
    ----------
    like
        What is recorded at its place, where the value itself stands for an edit of that.

    Raises
    ------
    UntrustedValueError, CorruptionError
        As `Artifact.load`.
    """
    if artifact.kind == "reference":
        return Form("cell", "", "it is no data, and was recorded by its type alone: give another value in a cell")
    if artifact.size > MOST:
        return Form("cell", "", f"it has {artifact.size:,} bytes, which is more than an editor here is good for")
    if artifact.kind == "pickle":
        return Form("cell", "", f"it is a {artifact.preview.get('type', 'value')}, which is pickled")
    if artifact.kind == "text" and artifact.preview.get("type") == "str":
        text = artifact.load()
        # A textarea writes every end of a line as one line feed.
        if isinstance(text, str) and "\r" not in text:
            return Form("text", text, "")
    try:
        text = json.dumps(_plain(artifact.to_json()), ensure_ascii=False, indent=2)
        back = read(like or artifact, "json", text)
    except (KitaruError, TypeError, ValueError, RecursionError):
        return _in_a_cell(artifact)
    return Form("json", text, "") if kitaru.digest(back) == artifact.digest else _in_a_cell(artifact)


def _in_a_cell(artifact: Artifact) -> Form:
    kind = artifact.preview.get("type", "value")
    return Form("cell", "", f"it is a {kind} that JSON cannot hold whole: edit it in a cell")


def _plain(shown: Any) -> Any:
    """What `Artifact.to_json` shows, without the tags of types: the recorded value says what they were."""
    if isinstance(shown, list):
        return [_plain(item) for item in shown]
    if not isinstance(shown, dict):
        return shown
    if len(shown) == 1:
        ((tag, inside),) = shown.items()
        if tag.startswith("$") and not tag.startswith("$$"):
            return _of_tag(tag, inside)
    return {key[1:] if key.startswith("$$") else key: _plain(item) for key, item in shown.items()}


_AT = {  # where the data of a tagged value stands
    "$dataclass": 1, "$pydantic": 1, "$enum": 1, "$path": 1,
    "$date": 0, "$datetime": 0, "$time": 0, "$decimal": 0, "$uuid": 0,
}  # fmt: skip


def _of_tag(tag: str, inside: Any) -> Any:
    if tag in {"$tuple", "$set", "$frozenset"}:
        return _plain(inside)
    if tag == "$namedtuple":
        return _plain(inside[1:])
    if tag == "$float":
        return float(inside)
    if tag == "$int":
        return int(inside[0], 16)
    if tag in _AT:
        return _plain(inside[_AT[tag]])
    raise TypeError(tag)


def read(artifact: Artifact, mode: str, text: str) -> Any:
    """What was written, as a value of the recorded type.

    Raises
    ------
    UsageError
        It is no JSON, or the recorded type does not take it.
    """
    if mode == "text":
        return text
    try:
        json.loads(text)
    except RecursionError:
        raise UsageError("it is nested too deeply") from None
    except ValueError as e:
        raise UsageError(f"this is no JSON yet: {e}") from None
    execution = artifact.execution
    key = f"checkpoint.{artifact.name}"
    typed = KitaruClient(execution.store).executions.overrides(execution.exec_id, [f"{key}={text.strip()}"])
    return typed[key]
