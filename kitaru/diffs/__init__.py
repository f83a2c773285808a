"""What differs between two executions, two steps, or two values.

::

    >>> import kitaru
    >>> kitaru.diff("audit-7f3c", "audit-91bb")             # doctest: +SKIP
    audit: 4 steps: 2 the same, 2 changed
       step          what             tokens
    ~  (the flow)    output changed
           result: 'numpy: BSD…' -> 'numpy: MIT…'
    =  collect#1                          12
    =  classify#1                      1,204
    ~  classify#2    output, edited    1,204 -> none
           output: dict(1) {'licence': 'BSD'} -> dict(1) {'licence': 'MIT'}
    ~  report#1      inputs, output changed
           …

Executions are compared by their records alone: steps are paired along the forks, then by what went in and came out,
and nothing is downloaded. ``values=True`` loads what changed and looks inside; so does naming two steps or two values
(``kitaru.diff("audit-7f3c:classify#2", "audit-91bb:classify#2")``), and any two Python objects go as well:

    >>> kitaru.diff({"rows": [{"client": 1}]}, {"rows": [{"client": 2}], "total": 1})
    2 differences
    ~ rows[0].client: 1 -> 2
    + total: 1

Text is compared by word, nested data by path with lists aligned by what is in them, chats by turn, tables by cell
(``keys=["id"]`` names the columns that say which row is which), arrays by statistics and first differences.

The result has `.same`, `.changes` and `.to_json()`, and shows itself in a terminal, in a notebook and as plain text.
Rooms: `sequences` aligns; `forest`, `trees`, `texts`, `chats`, `frames`, `arrays` look into values; `align`, `steps`
compare executions; `results` is what comes of it, `wording` and `show` its faces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..client import Artifact, Checkpoint, Execution, KitaruClient
from ..errors import InvalidNameError, KitaruError, NotFoundError, UsageError
from ..reading import read_journal
from ..records import Id, Value
from ..refs import parse_address, parse_ref
from .align import Link, foreign, read_links
from .changes import NOTHING, Change
from .results import Body, Diff, ExecutionDiff, Side, StepDiff, ValueDiff
from .steps import LookInside, compare_bodies, compare_executions, step_body
from .values import compare_recorded, compare_values

if TYPE_CHECKING:
    from ..stores.base import Store

__all__ = ["NOTHING", "Body", "Change", "Diff", "ExecutionDiff", "Side", "StepDiff", "ValueDiff", "diff"]

_CHAIN = 50  # executions between two in a chain of forks, of which the records are read


def diff(
    a: Any,
    b: Any,
    *,
    keys: Sequence[str] | None = None,
    values: bool = False,
    refs: bool = True,
    store: str | os.PathLike[str] | Store | None = None,
) -> Diff:
    """What differs between two executions, two steps or two values.

    Parameters
    ----------
    a, b
        A REF or an address, as everything takes it (``last``, ``audit-7f3c``, ``audit-7f3c:classify#2.output``); an
        `Execution`, `Checkpoint` or `Artifact` of `kitaru.client`; or any Python object. A text that has the form of
        a REF is taken for one; beside a Python object, if it has a ":" or "/".
    keys
        Columns that say which row of a table is which.
    values
        Of two executions, load the values that changed, and look inside.
    refs
        ``False``: texts are texts, whatever they look like.
    store
        Where REFs are looked up: an address, or an open store; the current one when left out.

    Returns
    -------
    Diff
        An `ExecutionDiff`, a `StepDiff` of two checkpoints, or a `ValueDiff`.

    Raises
    ------
    NotFoundError, AmbiguousNameError
        A REF names nothing, or more than one thing.
    UsageError
        An execution and something else; a key that names no column.
    CorruptionError
        A value is not what was recorded.

    Examples
    --------
    >>> import kitaru
    >>> kitaru.diff({"a": 1}, {"a": 2})
    1 difference
    ~ a: 1 -> 2
    >>> kitaru.diff([1, 2, 3], [1, 9, 2, 3]).changes[0].path
    '[1]'
    >>> kitaru.diff(float("nan"), float("nan")).same
    True
    """
    if isinstance(keys, str):
        raise UsageError(f"keys={keys!r} is one text: give the names of columns as a list, keys=[{keys!r}]")
    names = tuple(keys or ())
    if refs:
        a, b = _looked_up(a, b, store)
    if isinstance(a, Execution) and isinstance(b, Execution):
        return _of_executions(a, b, names, values=values)
    if isinstance(a, Checkpoint) and isinstance(b, Checkpoint):
        look = _look_inside(a._execution, b._execution, names)
        return compare_bodies(step_body(a.data, a._execution.data), step_body(b.data, b._execution.data), look)
    return compare_values(a, b, names)


def _looked_up(a: Any, b: Any, store: str | os.PathLike[str] | Store | None) -> tuple[Any, Any]:
    recorded = (str, Execution, Checkpoint, Artifact)
    wanted = [isinstance(x, str) and _is_ref(x) for x in (a, b)]
    if not (isinstance(a, recorded) and isinstance(b, recorded)):  # beside an object a bare word is a text
        wanted = [is_ref and (":" in x or "/" in x) for is_ref, x in zip(wanted, (a, b), strict=True)]
    if isinstance(a, str) and isinstance(b, str) and not all(wanted):
        return a, b  # two texts
    if not any(wanted):
        return a, b
    client = KitaruClient(store)
    x, y = (_look_up(client, thing) if is_ref else thing for thing, is_ref in zip((a, b), wanted, strict=True))
    return x, y


def _look_up(client: KitaruClient, ref: str) -> Execution | Checkpoint | Artifact:
    try:
        return client.look_up(ref)
    except NotFoundError as e:
        e.add_note("A text that has the form of a REF is taken for one; to compare the texts themselves: refs=False.")
        raise


def _is_ref(text: str) -> bool:
    if not text or len(text) > 2000 or not text.isprintable():
        return False
    try:
        address = parse_address(text)
        if address.store is None and re.search(r"\s", text):
            return False
        if ":" not in address.ref and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", address.ref):
            return True
        parse_ref(address.ref)
    except InvalidNameError:
        return False
    return True


def _of_executions(a: Execution, b: Execution, keys: tuple[str, ...], *, values: bool) -> ExecutionDiff:
    links = read_links(a.reading.records), read_links(b.reading.records)
    look = _look_inside(a, b, keys) if values else None
    return compare_executions(a.data, b.data, links, _between(b, a, links), look)


def _between(b: Execution, a: Execution, links: tuple[Mapping[Id, Link], Mapping[Id, Link]]) -> dict[Id, Link]:
    """The links of the executions that lie between two forks. Only their records are read, and only where needed."""
    known = {a.exec_id, b.exec_id}
    out: dict[Id, Link] = {}
    todo = sorted((foreign(links[0]) | foreign(links[1])) - known)
    while todo and len(known) < _CHAIN:
        exec_id = todo.pop()
        known.add(exec_id)
        for store in {id(s): s for s in (b.store, a.store)}.values():
            try:
                more = read_links(read_journal(store, exec_id).records)
            except KitaruError:  # it was deleted, or is damaged: what is known without it has to do
                continue
            out |= more
            todo += sorted(foreign(more) - known - set(todo))
            break
    return out


def _look_inside(a: Execution, b: Execution, keys: tuple[str, ...]) -> LookInside:
    def look(x: Value, y: Value) -> ValueDiff:
        return compare_recorded(Artifact(a, "value", x), Artifact(b, "value", y), keys)

    return look
