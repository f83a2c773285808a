"""One call of a model endpoint, whatever transport carries it: decided, sent or given from the record, and recorded.

A transport drives it: `begin`, then, where nothing is `given`, what the server answers: `answered`, then `end` with the
body, or `watch` for the parts of a stream and `close`; and `broke`, wherever the connection does. An SDK that tries
again sends the same bytes from the same place: that is a further attempt of the same step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import calling
from ...errors import ModelRequestError
from .credentials import masked, safe_headers, secrets_of, without_query
from .endpoints import Endpoint
from .framing import Event, Framing, framing_of
from .usage import metadata_of

__all__ = ["Exchange", "Failed", "Given", "Recent", "replayed"]

_VERSION = "record_http 1"
_OUTPUTS = ("response", "http")
_NO_RETRY = {"x-should-retry": "false"}
"""Heeded by the SDKs of OpenAI and Anthropic: a recorded refusal stays one, however often it is asked for."""

_LONG = 16

_TYPES = {"sse": "text/event-stream", "aws": "application/vnd.amazon.eventstream"}


class Failed(Exception):
    """A connection that broke, out of the record: each transport raises its own kind of it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Given:
    """A recorded answer.

    Attributes
    ----------
    left : str
        Why the stream goes no further: its reader had left it here.
    """

    status: int
    headers: dict[str, str]
    parts: list[bytes]
    left: str = ""


@dataclass(slots=True)
class Recent:
    """The calls that failed last, each in its lane: what an SDK may try again."""

    calls: dict[Any, Exchange] = field(default_factory=dict)


class Exchange:
    """One request to a model, and its answer.

    Parameters
    ----------
    recent
        What failed last here.
    endpoint
        What is asked.
    url, headers
        Of the request: where credentials may stand.
    raw
        The body of the request.
    """

    def __init__(
        self, recent: Recent, endpoint: Endpoint, url: str, headers: Iterable[tuple[str, str]], raw: bytes
    ) -> None:
        self.endpoint, self._recent = endpoint, recent
        self._secrets = secrets_of(url, headers)
        calling.conceal(*self._secrets)
        self._url, self._raw, self._arguments = without_query(url), raw, endpoint.arguments()
        self.given: Given | None = None
        self._live: calling.Live | None = None
        self._failure: ModelRequestError | None = None  # recorded, and given again
        self._http: dict[str, Any] = {}
        self._framing: Framing | None = None
        self._events: list[Event] = []
        self._error: Any = None  # an event that says so
        self._is_over = False

    # ------------------------------------------------------------ decided

    def begin(self) -> Given | None:
        """The recorded answer; None: send it. Raises `Failed` for a connection that broke when it was recorded."""
        if not self._is_repeated():
            try:
                self._live = calling.begin(**self._call())
            except ModelRequestError as e:
                self._refuse(e)
        self.given = self._given()
        return self.given

    async def begin_async(self) -> Given | None:
        """As `begin`, without holding up the event loop."""
        if not self._is_repeated():
            try:
                self._live = await calling.begin_async(**self._call())
            except ModelRequestError as e:
                self._refuse(e)
        self.given = self._given()
        return self.given

    def meet_headers(self, url: str, headers: Iterable[tuple[str, str]]) -> None:
        """What the transport adds to the request after it was decided, such as a signature."""
        self._secrets = [*self._secrets, *secrets_of(url, headers)]
        calling.conceal(*self._secrets)

    def begin_again(self) -> None:
        """A further attempt, where the transport itself knows that it is one."""
        assert self._live is not None
        self._recent.calls.pop(self._lane, None)
        self._live.again()
        self._http, self._framing, self._events, self._error, self._is_over = {}, None, [], None, False

    def _call(self) -> dict[str, Any]:
        return {
            "name": self.endpoint.wire.name,
            "arguments": self._arguments,
            "type": "llm_call",
            "version": _VERSION,
            "outputs": _OUTPUTS,
        }

    def _is_repeated(self) -> bool:
        """Whether the same was asked just now in this lane, in vain: then it is that step's call."""
        self._lane = calling.lane()
        before = self._recent.calls.pop(self._lane, None)
        if before is None or (before.endpoint.wire, before._url, before._raw) != (
            self.endpoint.wire,
            self._url,
            self._raw,
        ):
            return False
        if before._failure is not None:
            self._refuse(before._failure)
            return True
        if before._live is None or not before._live.may_go_on:
            return False
        self._live = before._live
        self._live.again()
        return True

    def _refuse(self, failure: ModelRequestError) -> None:
        self._failure = failure
        self._recent.calls[self._lane] = self

    def _given(self) -> Given | None:
        if self._failure is not None:
            failure = self._failure
            if failure.status is None:
                raise Failed(failure.kind, failure.detail)
            parts = self._parts(failure.body, failure.headers.get("stream"))
            return Given(failure.status, self._headers(failure.headers) | _NO_RETRY, parts)
        assert self._live is not None
        if not self._live.is_recorded:
            return None
        recorded: tuple[Any, dict[str, Any]] = self._live.value
        response, http = recorded
        stream = http.get("stream")
        left = "" if http.get("complete", True) else f"the reader of {self.endpoint.wire.name} left its stream here"
        return Given(http["status"], self._headers(http["headers"], stream), self._parts(response, stream), left)

    @staticmethod
    def _headers(recorded: Mapping[str, str], stream: str | None = None) -> dict[str, str]:
        out = {name: value for name, value in recorded.items() if name != "stream"}
        stream = stream or recorded.get("stream")
        return out if stream is None else {**out, "content-type": out.get("content-type", _TYPES[stream])}

    @staticmethod
    def _parts(answer: Any, stream: str | None) -> list[bytes]:
        if stream is not None:
            framing = framing_of(_TYPES[stream])
            assert framing is not None
            return [framing.put(event) for event in answer]
        if isinstance(answer, bytes):
            return [answer]
        return [(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)).encode()]

    # ------------------------------------------------------------ sent

    @property
    def edited(self) -> Mapping[str, Any] | None:
        """The arguments to send where one of them is overridden; None: send the request as it is."""
        assert self._live is not None
        given = self._live.arguments
        return given if given != self._arguments else None

    def answered(self, status: int, headers: Iterable[tuple[str, str]]) -> bool:
        """The server has begun to answer. Gives whether its answer is a stream of events."""
        kept = list(headers)
        kind = next((v for name, v in kept if name.lower() == "content-type"), "")
        self._framing = framing_of(kind, self._masked_answer)
        self._http = {"status": status, "url": self._url, "headers": safe_headers(kept)}
        return self._framing is not None and status < 400

    def watch(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """The parts of the stream, as they come. Durable before the last of its events is handed on."""
        try:
            for part in parts:
                if self._take(part):
                    self.end()
                yield part
        except GeneratorExit:
            raise  # its reader stopped: `close` sees to that
        except BaseException as e:
            self.broke(e)
            raise
        self.end()

    async def watch_async(self, parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """As `watch`, without holding up the event loop."""
        try:
            async for part in parts:
                if self._take(part):
                    await self.end_async()
                yield part
        except GeneratorExit:
            raise
        except BaseException as e:
            self.broke(e)
            raise
        await self.end_async()

    def _take(self, part: bytes) -> bool:
        """Gives whether the last event is in this part."""
        if self._framing is None or self._is_over:
            return False
        ended = False
        for event in self._framing.take(part):
            self._events.append(event)
            name, data = event.get("event"), event["data"]
            if name == "error" or event.get("kind") or (isinstance(data, dict) and data.get("error")):
                self._error = data
            ended = ended or self.endpoint.wire.is_last(name, data)
        if self._error is not None:
            recorded = self._http["headers"] | {"stream": self._framing.name}
            self._fail(ModelRequestError(self._says(), 200, recorded, self._events))
            return False
        return ended

    def end(self, body: bytes | None = None) -> None:
        """The answer has come: this body, or the events that were watched. A result is durable on return."""
        if (value := self._came(body)) is not None:
            assert self._live is not None
            self._live.succeed(value)

    async def end_async(self, body: bytes | None = None) -> None:
        """As `end`, without holding up the event loop."""
        if (value := self._came(body)) is not None:
            assert self._live is not None
            await self._live.succeed_async(value)

    def close(self) -> None:
        """Nobody reads the stream any further. Before its end that is a result where the code goes on from there."""
        if self._is_left_for_good() and (value := self._came(complete=False)) is not None:
            assert self._live is not None
            self._live.succeed(value)

    async def close_async(self) -> None:
        """As `close`, without holding up the event loop."""
        if self._is_left_for_good() and (value := self._came(complete=False)) is not None:
            assert self._live is not None
            await self._live.succeed_async(value)

    def _is_left_for_good(self) -> bool:
        """Else an exception, or a cancelled task, tore it away: then the step stays in flight."""
        if self._is_over or self._live is None:
            return False
        torn = sys.exception()
        if self._live.is_open and (torn is None or isinstance(torn, GeneratorExit)):
            return True
        self._is_over = True
        self._live.leave()
        return False

    def _came(self, body: bytes | None = None, *, complete: bool = True) -> tuple[Any, dict[str, Any]] | None:
        """The step's output; None where there is none."""
        if self._is_over or self._live is None:
            return None
        if body is not None and self._http["status"] >= 400:
            self._refused(body)
            return None
        self._is_over = True
        if body is None:
            answer: Any = self._events
            self._http["stream"] = self._stream()
            if not complete:
                self._http["complete"] = False
        else:
            answer = _json(self._masked_answer(body))
        model = self._live.arguments.get("model")
        self._live.log(**metadata_of(model, self._url, answer, is_stream=body is None))
        return answer, self._http

    def _masked_answer(self, data: bytes) -> bytes:
        """Short keys, such as ``not-needed``, are words that a model may say: they are hidden in refusals alone."""
        return masked(data, [secret for secret in self._secrets if len(secret) >= _LONG])

    def _stream(self) -> str:
        return self._framing.name if self._framing is not None else ""

    def _says(self) -> str:
        return f"{self.endpoint.wire.name}: the stream ended in an error: {str(self._error)[:500]}"

    def _refused(self, body: bytes) -> None:
        """The server said no: it is no result, unless the code goes on from it."""
        answer = _json(masked(body, self._secrets))
        status = self._http["status"]
        text = f"{self.endpoint.wire.name} at {self._url}: HTTP {status}: {str(answer)[:500]}"
        self._fail(ModelRequestError(text, status, self._http["headers"], answer))

    def broke(self, error: BaseException) -> None:
        """The connection did not come about, or broke. What is no `Exception` leaves the step in flight."""
        if self._is_over or self._live is None:
            return
        if not isinstance(error, Exception):
            self._is_over = True
            self._live.fail(error)
            return
        detail = masked(str(error).encode("utf-8", "replace"), self._secrets).decode()
        text = f"{self.endpoint.wire.name} at {self._url}: {type(error).__name__}: {detail[:500]}"
        failure = ModelRequestError(text, kind=type(error).__name__, detail=detail)
        self._fail(failure)
        self._live.carries(error)

    def _fail(self, failure: ModelRequestError) -> None:
        assert self._live is not None
        self._is_over = True
        self._live.may_fail(failure)
        self._recent.calls[self._lane] = self


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def replayed(given: Given, raised: Callable[[Failed], Exception]) -> Iterator[bytes]:
    """The parts of a recorded answer, one by one. Where its reader had left it, what the transport raises for that."""
    yield from given.parts
    if given.left:
        raise raised(Failed("ReadError", f"{given.left}; to read on, run the step again: rerun="))
