"""What a body says of itself: `save`, `log`, `idempotency_key`; and `load`, from any execution."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from .context import current
from .errors import InvalidNameError

if TYPE_CHECKING:
    import os

    import networkx as nx

    from .stores.base import Store

__all__ = ["digest", "idempotency_key", "lineage", "load", "log", "save"]


def save(name: str, value: Any, type: str | None = None) -> None:  # noqa: A002 - the reference's name
    """Record `value` under `name`, as an artifact of the step or flow whose body this is.

    Saving again under the same name makes a further version: `load` gives the newest, ``report#1`` the first, and
    ``KitaruClient().artifacts.list(name=…)`` all of them. Outside of a flow it does nothing. What a flow's own body
    saves is recorded once, however often the flow resumes.

    Parameters
    ----------
    name
        1 to 200 characters without ``/ : # ~ @ .``, white space and control characters.
    value
        Anything that a step may return.
    type
        What kind of artifact it is, for people: ``report``, ``plot``, …

    Raises
    ------
    UnrecordableValueError
        Where no codec takes `value`; the message names the place and the type.
    """
    from .ids import check_step_name

    try:
        check_step_name(name)
    except InvalidNameError as e:
        raise InvalidNameError(str(e).replace("a step or flow", "a saved artifact")) from None
    frame = current.get()
    if frame is not None:
        frame.engine.save(frame, name, value, type)


def log(**metadata: Any) -> None:
    """Record metadata of the step or flow whose body this is: `tokens` and `cost` (US dollars) add up.

    Outside of a flow it does nothing. Values should be numbers, texts, or lists and dicts of them; anything else is
    recorded by its preview.

    Examples
    --------
    >>> log(model="small-1", tokens=812, cost=0.0004)
    """
    frame = current.get()
    if frame is not None:
        frame.engine.log(frame, metadata)


def idempotency_key() -> str:
    """A key that is the same on every attempt of this step, and no other step's: 32 hexadecimal digits.

    Hand it to a payment or mail service, so that a step which runs again after a crash has its effect once. Outside
    of a flow it is drawn at random.
    """
    frame = current.get()
    return secrets.token_hex(16) if frame is None else frame.engine.idempotency_key(frame)


def load(exec_id: str, name: str | None = None, *, lazy: bool = False) -> Any:
    """A value from a recorded execution.

    Parameters
    ----------
    exec_id
        The execution; or, alone, the complete address of a value, as a failure prints it.
    name
        A saved name, else a step: ``"report"`` (the newest version; ``"report@1"`` the first), ``"classify#2"``,
        ``"classify#2.in.package"``.
    lazy
        Give a `Ref` to the value: its preview, a column or some rows, without loading the rest.

    Returns
    -------
    Any
        A fresh object. Of a step with several outputs that is named without one, the tuple of them.

    Raises
    ------
    NotFoundError
        Where there is no such value.
    UntrustedValueError
        Where it is pickled and the store is not marked as trusted.
    """
    from .client import KitaruClient

    return KitaruClient().artifacts.load(exec_id if name is None else f"{exec_id}:{name}", lazy=lazy)


def digest(value: Any) -> str:
    """The digest that `value` has where it is recorded: what `client.Artifact.digest` says of an equal one.

    Returns
    -------
    str
        64 hexadecimal digits: the SHA-256 of its canonical form. Equal for values that are equal in type, content and
        order, in every process, and for no others. Of what can only be pickled it may differ from run to run.

    Raises
    ------
    UnrecordableValueError
        Where no codec takes `value`; the message names the place and the type.

    Examples
    --------
    >>> digest({"licence": "MIT"}) == digest({"licence": "MIT"}), digest(1) == digest(True)
    (True, False)
    """
    from .codecs import Sharer

    return Sharer().encode(value, place="value").digest.hex()


def lineage(
    exec_id: str,
    *,
    store: str | os.PathLike[str] | Store | None = None,
    after: bool = True,
    origins: bool = False,
) -> nx.MultiDiGraph[str]:
    """What made which value in an execution, as a graph, from its records alone: no value is loaded.

    Data runs along the edges: the ancestors of a node are what it was made of, its descendants what depends on it.

    Parameters
    ----------
    exec_id
        An exec_id, the start of one that is unique, ``last``, ``last-failed``, or an address.
    store
        An address, or an open store; the current one when left out.
    after
        Whether steps that no data ties are tied by their order. Leave it out (``after=False``) for questions about
        data: with it, whatever ran before a step is among the ancestors of that step.
    origins
        Of a fork: together with the executions that it was forked from, of which equal values are one node; what was
        put in the place of a recorded value is tied to that one by ``edited_from``.

    Returns
    -------
    networkx.MultiDiGraph
        Nodes with a ``kind``: ``execution`` (named EXEC), ``checkpoint`` (``EXEC:classify#2``) and ``artifact``
        (``sha256:…``), each with what its records say. Edges by the keys ``used``, ``generated``, ``part_of``,
        ``after``, with ``relation`` and ``role``. A value that was made again after its first use is a node of its
        own: ``sha256:…/2``.

    Raises
    ------
    NotFoundError, AmbiguousNameError
        With what there is instead.

    Examples
    --------
    >>> import kitaru, networkx as nx
    >>> graph = kitaru.lineage("audit-7f3c", after=False)  # doctest: +SKIP
    >>> nx.ancestors(graph, "audit-7f3c:classify#2")  # doctest: +SKIP
    """
    from .client import KitaruClient

    return KitaruClient(store).executions.get(exec_id).lineage(after=after, origins=origins)
