"""A document as a person reads it: source text, or the value as far as it can be told. Nothing of it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pprint import pformat
from typing import Any

from .documents import code_in, restored
from .encoding import KEY

__all__ = ["described", "sharing", "source_of"]

_DEEP = 20
_WIDTH = 100
_CODE = frozenset({"function", "class", "step", "flow"})


class _Said(str):
    """Text that stands for itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def described(document: Mapping[str, Any], name: str) -> str:
    """One variable of a document: the source of a function or class; else its value, where code would be `<…>`.

    Raises
    ------
    CorruptionError
        It is no document that Kitaru wrote.

    Examples
    --------
    >>> described({"kitaru.document": 1, "sources": ["def f(): ..."],
    ...            "variables": {"f": {"$": "function", "path": ["f"], "source": 0}}}, "f")
    'def f(): ...'
    """
    reader, node = _Reader(document), document["variables"].get(name)
    if (source := reader.source(node)) is not None:
        return source
    if not code_in(document).needs_trust:  # then it is put together of plain data alone
        made = restored({tuple(sorted(document["variables"])): dict(document)}, {})
        if name not in made.lost:
            return pformat(made.variables[name], width=_WIDTH, sort_dicts=False)
    return pformat(reader.plain(node, _DEEP), width=_WIDTH, sort_dicts=False)


def source_of(document: Mapping[str, Any], name: str) -> str | None:
    """The text of the statement that made one variable of a document, where that is a function or a class."""
    return _Reader(document).source(document["variables"].get(name))


def sharing(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The other variables of the document, with which this one shares objects."""
    return tuple(sorted(set(document["variables"]) - {name}))


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._sources = document.get("sources", ())
        self._defined = {node.get("n"): node.get("value") for node in _defs(document["variables"])}

    def source(self, node: Any) -> str | None:
        """The text of a function or class, of a step or a flow."""
        while type(node) is dict and node.get(KEY) in {"def", "ref", "step", "flow"}:
            inner = self._defined.get(node.get("n")) if node[KEY] in {"def", "ref"} else node.get("of")
            if inner is node:
                return None
            node = inner
        if type(node) is not dict or node.get(KEY) not in _CODE:
            return None
        at = node.get("source")
        return str(self._sources[at]) if type(at) is int and 0 <= at < len(self._sources) else None

    def plain(self, node: Any, deep: int) -> Any:
        """A node as something whose `repr` reads well."""
        if deep < 0:
            return _Said("…")
        if type(node) is list:
            return [self.plain(part, deep - 1) for part in node]
        if type(node) is not dict:
            return node
        if KEY not in node:
            return {key: self.plain(part, deep - 1) for key, part in node.items()}
        return self._node(node, deep - 1)

    def _node(self, node: dict[str, Any], deep: int) -> Any:
        kind = node[KEY]
        if kind in {"def", "ref"}:
            return self.plain(self._defined.get(node.get("n")), deep)
        parts = node.get("items")
        items = [self.plain(part, deep) for part in parts] if type(parts) is list else []
        if kind == "tuple":
            return tuple(items)
        if kind == "dict":
            pairs = zip(map(repr, items[::2]), items[1::2], strict=False)
            return {_Said(key): value for key, value in pairs}
        if kind in {"set", "frozenset"}:
            return _Said(f"{kind}({items!r})")
        if kind == "lost":
            return _Said(f"<not restorable: {node.get('type')}: {node.get('why')}>")
        if kind in {"instance", "object"}:
            return self._made(node, items, deep)
        return _Said(f"<{kind}{' ' if (name := self._name(node)) else ''}{name}>")

    def _made(self, node: dict[str, Any], items: list[Any], deep: int) -> _Said:
        """What is put together: `Box(n=3)`."""
        what = self._name(node.get("type") or node.get("make"))
        args = [repr(self.plain(part, deep)) for part in node.get("args") or ()]
        state = self.plain(node.get("state"), deep)
        if type(state) is tuple:  # of the instance, and of its slots
            state = {k: v for part in state if type(part) is dict for k, v in part.items()}
        named = [f"{k}={v!r}" for k, v in state.items()] if type(state) is dict else []
        return _Said(f"{what}({', '.join([*args, *(repr(items) for _ in items[:1]), *named])})")

    def _name(self, node: Any) -> str:
        for _ in range(_DEEP):
            if type(node) is not dict:
                break
            if node.get(KEY) in {"def", "ref"}:
                node = self._defined.get(node.get("n"))
                continue
            if type(path := node.get("path")) is list:
                return ".".join(map(str, path))
            if node.get("name") is not None:
                return str(node["name"]).rpartition(":")[2]
            node = node.get("of") or node.get("type")
        return ""


def _defs(variables: Any) -> Iterator[dict[str, Any]]:
    todo = [variables]
    while todo:
        part = todo.pop()
        if type(part) is dict:
            if part.get(KEY) == "def":
                yield part
            todo += part.values()
        elif type(part) is list:
            todo += part
