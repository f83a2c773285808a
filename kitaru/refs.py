"""A REF: how a person, a message and a command name a checkpoint or one of its values.

``[EXEC:][outer#N/]step[#N][.output]``, ``[EXEC:]@3``; ``.in.ARG`` is an input; ``#N`` is the ordinal, 1 when left
out; ``~N`` numbers the calls of side tasks. A bare word is what was saved under that name, else a step; with ``#N``
a step, else the Nth version of what was saved; ``NAME@N`` is always the Nth version. With a store's address in front
it is complete::

    s3://bucket/prefix/audit-7f3c:outer#2/classify#2.in.package
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import InvalidNameError

__all__ = ["Address", "Part", "Ref", "format_address", "parse_address", "parse_ref", "shortened"]

_PART = re.compile(r"(?P<name>[^/:#~@\s.]+)(?:#(?P<ordinal>[0-9]+)|~(?P<side>[0-9]+))?\Z")
_VERSION = re.compile(r"(?P<name>[^/:#~@\s.]+)@(?P<version>[1-9][0-9]{0,8})\Z")
_NUMBER = re.compile("[#~]")
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+]*://|\.{0,2}/|~/)")


class Part(NamedTuple):
    """One step on the way in: its name, and which of the calls of that name."""

    name: str
    ordinal: int = 1
    side: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'~' if self.side else '#'}{self.ordinal}"


def shortened(paths: Iterable[str]) -> dict[str, str]:
    """What to show for each of these paths: without ``#1`` where there is one call of that name at its place.

    Both are REFs of the same step.

    Examples
    --------
    >>> shown = shortened(["collect#1", "classify#1", "classify#1/ask#1", "classify#2"])
    >>> shown["collect#1"], shown["classify#1"], shown["classify#1/ask#1"]
    ('collect', 'classify#1', 'classify#1/ask')
    """
    todo = list(paths)
    known: dict[str, tuple[str, str]] = {}  # what stands around each, and its name
    calls: dict[tuple[str, str], int] = {}  # how many there are
    while todo:
        path = todo.pop()
        if path in known:
            continue
        around, _, call = path.rpartition("/")
        known[path] = key = around, _NUMBER.split(call, 1)[0]
        calls[key] = calls.get(key, 0) + 1
        if around:
            todo.append(around)
    out = {"": ""}
    for path in sorted(known, key=len):  # what lies around a step comes before it
        around, name = known[path]
        alone = calls[known[path]] == 1 and path.endswith(f"{name}#1")
        out[path] = out[around] + path[len(around) :].removesuffix("#1" if alone else "")
    return out


class Ref(NamedTuple):
    """A parsed REF; every field may be missing. With a `version` the one part of `path` is a saved name."""

    exec_id: str | None = None
    path: tuple[Part, ...] = ()
    number: int | None = None
    output: str | None = None
    argument: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        step = f"@{self.number}" if self.number is not None else "/".join(map(str, self.path))
        if self.version is not None:
            step = f"{self.path[0].name}@{self.version}"
        value = f".{self.output}" if self.output else f".in.{self.argument}" if self.argument else ""
        return f"{self.exec_id}:{step}{value}" if self.exec_id and step else f"{self.exec_id or ''}{step}{value}"


class Address(NamedTuple):
    """A REF and the address of the store that it is in, where one was given."""

    store: str | None
    ref: str


def parse_address(text: str) -> Address:
    """Split ``s3://bucket/prefix/EXEC:step`` into the store's address and the REF; a bare REF has no store."""
    if not _SCHEME.match(text):
        return Address(None, text)
    address, query, options = text.partition("?")
    # "EXEC:outer#1/step#2" holds a "/" of its own: the store ends before the part that holds the ":".
    scheme = address.index("//") + 2 if "://" in address else 0
    colon = address.find(":", scheme)
    slash = address.rfind("/", scheme, colon if colon >= 0 else None)
    if slash < 0 or slash == len(address) - 1:
        raise InvalidNameError(f"{text!r} names a store but no execution in it: write STORE/EXEC or STORE/EXEC:step#N")
    # A store's options stand between the store and the execution when the address is printed.
    return Address(address[:slash] + query + options, address[slash + 1 :])


def format_address(store: str, ref: str) -> str:
    """The complete address of `ref` in the store at `store`: what `parse_address` takes apart again."""
    base, query, options = store.partition("?")
    return f"{base.rstrip('/')}/{ref}{query}{options}"


def parse_ref(text: str) -> Ref:
    """Parse a REF without a store's address. A bare word may be an exec_id or a step: see `Ref.exec_id`.

    Raises
    ------
    InvalidNameError
        Where it is no REF; the message shows the form.

    Examples
    --------
    >>> parse_ref("audit-7f3c:classify#2.output")  # doctest: +ELLIPSIS
    Ref(exec_id='audit-7f3c', path=(Part(name='classify', ordinal=2, side=False),), number=None, ...)
    >>> str(parse_ref("audit-7f3c:outer/classify~3.in.package"))
    'audit-7f3c:outer#1/classify~3.in.package'
    >>> str(parse_ref("audit-7f3c:report@2"))
    'audit-7f3c:report@2'
    """
    head, colon, rest = text.partition(":")
    exec_id, rest = (head, rest) if colon else (None, head)
    bad = InvalidNameError(
        f"{text!r} is not a REF: write [EXEC:][outer#N/]step[#N][.output], step.in.ARG, or @3 for the third checkpoint"
    )
    if colon and not head:
        raise bad
    if colon and not rest:
        return Ref(exec_id)
    if versioned := _VERSION.match(rest):
        return Ref(exec_id, (Part(versioned["name"]),), version=int(versioned["version"]))
    steps, value = rest, ""
    dot = rest.find(".", rest.rfind("/") + 1)
    if dot >= 0:
        steps, value = rest[:dot], rest[dot + 1 :]
        if not value:
            raise bad
    output = argument = None
    if value.startswith("in."):
        argument = value[3:]
    elif value:
        output = value
    if steps.startswith("@"):
        if not steps[1:].isdecimal() or int(steps[1:]) < 1:
            raise bad
        return Ref(exec_id, (), int(steps[1:]), output, argument)
    path = []
    for part in steps.split("/"):
        found = _PART.match(part)
        if not found or "0" in (found["ordinal"], found["side"]):
            raise bad
        path.append(Part(found["name"], int(found["ordinal"] or found["side"] or 1), found["side"] is not None))
    return Ref(exec_id, tuple(path), None, output, argument)
