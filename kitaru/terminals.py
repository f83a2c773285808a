"""Asking the person at the terminal for an answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .answers import Unanswered
from .errors import UsageError
from .notices import name_of_wait, say
from .previews import printable
from .records import Opened
from .schemas import check, fits

__all__ = ["ask", "shape", "terminal", "typed"]


def terminal() -> Callable[[Opened], Any] | None:
    """Who asks at this terminal; None where there is none."""
    return _ask if sys.stdin is not None and sys.stdin.isatty() else None


def _ask(opened: Opened) -> Any:
    return ask(name_of_wait(opened.wait), opened.question, opened.schema)


def ask(name: str, question: str, schema: Mapping[str, Any] | None) -> Any:
    """Ask the person at this terminal, until the answer fits; `Unanswered` where he leaves it with Ctrl-D."""
    say(f"kitaru: {name}: {printable(question) or 'an answer, please'}  ({printable(shape(schema))})")
    while True:
        sys.stderr.write("> ")
        sys.stderr.flush()
        text = sys.stdin.readline()
        if not text:
            sys.stderr.write("\n")
            raise Unanswered
        try:
            data = typed(text.strip(), schema)
            check(schema, data)
        except UsageError as e:
            say(f"kitaru: {e}")
        else:
            return data


def typed(text: str, schema: Mapping[str, Any] | None) -> Any:
    """What a person typed, as data: JSON; where a text or a choice is asked for, without quotes as well; yes and no.

    Raises
    ------
    UsageError
        It is no JSON, and nothing else that is asked for.

    Examples
    --------
    >>> typed("yes", {"type": "boolean"}), typed("later", {"enum": ["now", "later"]}), typed("[1]", None)
    (True, 'later', [1])
    >>> either = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    >>> typed("as you like", either), typed("null", either)
    ('as you like', None)
    """
    kind = schema.get("type") if schema is not None else None
    if schema is not None and kind == "string":
        if text[:1] == '"' == text[-1:] and len(text) > 1:
            return _json(text)
        return text
    if schema is not None and text in [c for c in schema.get("enum", ()) if isinstance(c, str)]:
        return text
    if schema is not None and text in [s.get("const") for s in schema.get("oneOf", ()) if isinstance(s, Mapping)]:
        return text
    if kind == "boolean" and text.lower() in _YES | _NO:
        return text.lower() in _YES
    try:
        return _json(text)
    except UsageError:
        if schema is None or not fits(schema, text):
            raise
        return text  # a text is one of several things that are asked for


_YES, _NO = {"yes", "y"}, {"no", "n"}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise UsageError(f"{text!r:.80} is no JSON: {e}. A text stands in double quotes") from e


def shape(schema: Mapping[str, Any] | None) -> str:
    """What may be answered, in a few words.

    Examples
    --------
    >>> shape({"type": "boolean"}), shape({"enum": ["now", "later"]})
    ('yes or no', '"now", "later"')
    """
    if schema is None:
        return "JSON"
    if "enum" in schema:
        return ", ".join(json.dumps(choice, ensure_ascii=False) for choice in schema["enum"][:12])
    if schema.get("type") == "boolean":
        return "yes or no"
    if schema.get("type") == "object":
        parts = schema.get("properties", {})
        return "JSON with " + ", ".join(parts) if parts else "a JSON object"
    return str(schema.get("type", "JSON"))
