"""`record_http`: whether calls are recorded here, and the block around them where there is no flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from typing import Self

from ... import calling
from .endpoints import endpoint_of, may_be_one
from .exchange import Exchange, Recent
from .loading import patch_all

__all__ = ["RecordHttp", "may_meet", "meet", "record_http"]

_recent: ContextVar[Recent | None] = ContextVar("kitaru_record_http", default=None)
calling.carry(_recent)


def may_meet(method: str, path: str) -> bool:
    """Whether `meet` may give an exchange, by the address alone."""
    return _here() is not None and may_be_one(method, path)


def _here() -> Recent | None:
    """What failed last, where calls are recorded: not where another adapter's step is the record of this one."""
    recent = _recent.get()
    return None if recent is None or not calling.is_in_flow() or calling.is_asking() else recent


def meet(
    method: str,
    path: str,
    url: Callable[[], str],
    headers: Callable[[], Iterable[tuple[str, str]]],
    read: Callable[[], bytes],
) -> Exchange | None:
    """The exchange that a request is, where it calls a model and is to be recorded. Of others nothing is read."""
    recent = _here()
    if recent is None or (endpoint := endpoint_of(method, path, read)) is None:
        return None
    return Exchange(recent, endpoint, url(), headers(), read())


class RecordHttp:
    """What `record_http` gives.

    Attributes
    ----------
    exec_id : str or None
        The execution that is recorded in; None before it is entered.
    """

    def __init__(self, exec_id: str | None) -> None:
        self._block = calling.block("record_http", exec_id=exec_id)
        self._tokens: list[Token[Recent | None]] = []

    @property
    def exec_id(self) -> str | None:
        """The execution that is recorded in."""
        return self._block.exec_id

    def __enter__(self) -> Self:
        patch_all()
        self._block.__enter__()
        self._tokens.append(_recent.set(Recent()))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _recent.reset(self._tokens.pop())
        self._block.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        patch_all()
        await self._block.__aenter__()
        self._tokens.append(_recent.set(Recent()))
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _recent.reset(self._tokens.pop())
        await self._block.__aexit__(kind, error, trace)


def record_http(exec_id: str | None = None) -> RecordHttp:
    """Within this, each call of a model endpoint is a step of type ``llm_call``, whichever SDK makes it.

    Known are the wire formats of OpenAI (chat completions and responses), Anthropic, Gemini, Mistral and Bedrock, at
    any host, over httpx, httpx2, requests and botocore; with JSON and with streams, which are shown as they come and
    given again event by event. What is no such call passes through untouched, and so is one that is recorded already:
    the request of a step that `kitaru.llm`, a durable agent or another adapter made. Threads and tasks that are begun
    within belong to it. ``async with`` is the same in an event loop.

    A step's arguments are ``model``, ``messages``, ``system``, ``tools`` and ``settings``, out of the request's own
    JSON; its outputs are ``response`` (the JSON, or the events) and ``http``. Tokens and cost are in its metadata.
    Credentials are not recorded. An answer of 400 or more, or a connection that breaks, is no result: when the SDK
    tries again, that is a further attempt of the same step.

    Parameters
    ----------
    exec_id
        Outside of a flow: a name for the execution that this opens, as for a flow. The same command run again goes on
        with it. ``KITARU_EXEC_ID`` names the first one of a process.

    Raises
    ------
    UsageError
        `exec_id` is given inside of a flow, of a step or of a recorded cell, whose execution this is part of.
    ExecutionEndedError
        It has completed.

    Examples
    --------
    >>> import kitaru
    >>> with kitaru.record_http():  # doctest: +SKIP
    ...     answer = client.chat.completions.create(model="…", messages=[{"role": "user", "content": "Why?"}])
    """
    return RecordHttp(exec_id)
