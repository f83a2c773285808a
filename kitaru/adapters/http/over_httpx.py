"""httpx, and httpx2, which is the same by another name: what most SDKs send with."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from ...errors import UsageError
from .exchange import Exchange, Failed, Given, replayed
from .recording import may_meet, meet

__all__ = ["patch"]


def patch(library: ModuleType) -> None:
    """Wrap the transports of this library."""
    http: Any = library
    send, send_async = http.HTTPTransport.handle_request, http.AsyncHTTPTransport.handle_async_request
    streams = _streams(http)

    @functools.wraps(send)
    def handle_request(self: Any, request: Any) -> Any:
        exchange = _meet(request, request.read)
        if exchange is None:
            return send(self, request)
        try:
            given = exchange.begin()
        except Failed as e:
            raise _raised(http, e, request) from None
        if given is not None:
            return http.Response(given.status, headers=given.headers, stream=streams.recorded(request, given))
        try:
            response = send(self, _to_send(http, request, exchange))
            if exchange.answered(response.status_code, response.headers.multi_items()):
                return _with(http, response, streams.live(exchange, response.stream))
            try:
                body = b"".join(response.stream)
            finally:
                response.stream.close()
        except BaseException as e:
            exchange.broke(e)
            raise
        exchange.end(_decoded(http, response, body))
        return _with(http, response, http.ByteStream(body))

    @functools.wraps(send_async)
    async def handle_async_request(self: Any, request: Any) -> Any:
        if may_meet(request.method, _path(request.url)):
            await request.aread()
        exchange = _meet(request, lambda: request.content)
        if exchange is None:
            return await send_async(self, request)
        try:
            given = await exchange.begin_async()
        except Failed as e:
            raise _raised(http, e, request) from None
        if given is not None:
            return http.Response(given.status, headers=given.headers, stream=streams.recorded(request, given))
        try:
            response = await send_async(self, _to_send(http, request, exchange))
            if exchange.answered(response.status_code, response.headers.multi_items()):
                return _with(http, response, streams.live(exchange, response.stream))
            try:
                body = b"".join([part async for part in response.stream])
            finally:
                await response.stream.aclose()
        except BaseException as e:
            exchange.broke(e)
            raise
        await exchange.end_async(_decoded(http, response, body))
        return _with(http, response, http.ByteStream(body))

    http.HTTPTransport.handle_request = handle_request
    http.AsyncHTTPTransport.handle_async_request = handle_async_request


def _meet(request: Any, read: Any) -> Exchange | None:
    url = request.url
    return meet(request.method, _path(url), lambda: str(url), request.headers.multi_items, read)


def _path(url: Any) -> str:
    """As it is sent: the model in it may have a slash that is escaped."""
    path: str = url.raw_path.decode().partition("?")[0]
    return path


def _to_send(http: Any, request: Any, exchange: Exchange) -> Any:
    """The request as it goes out: with what was edited, and asking for an answer that is not compressed."""
    is_signed = request.headers.get("authorization", "").startswith("AWS4-")
    edited = exchange.edited
    if edited is None:
        if not is_signed:
            request.headers["accept-encoding"] = "identity"
        return request
    if is_signed:
        raise UsageError(
            f"{exchange.endpoint.wire.name}: an argument of this call is overridden, and its SDK has signed the "
            "request as it was: use boto3 for Bedrock, or edit the step's output"
        )
    url = request.url
    path = exchange.endpoint.path(_path(url), edited)
    query = url.raw_path.partition(b"?")
    headers = [
        (k, v) for k, v in request.headers.multi_items() if k.lower() not in {"content-length", "accept-encoding"}
    ]
    return http.Request(
        request.method,
        url.copy_with(raw_path=path.encode() + query[1] + query[2]),
        headers=[*headers, ("accept-encoding", "identity")],
        content=exchange.endpoint.body(edited),
        extensions=request.extensions,
    )


def _decoded(http: Any, response: Any, body: bytes) -> bytes:
    """The body, uncompressed where the server compressed it all the same."""
    if "content-encoding" not in response.headers:
        return body
    plain: bytes = http.Response(response.status_code, headers=response.headers, content=body).content
    return plain


def _with(http: Any, response: Any, stream: Any) -> Any:
    return http.Response(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)


def _raised(http: Any, failed: Failed, request: Any) -> Exception:
    kind = getattr(http, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, http.RequestError)):
        kind = http.ConnectError
    error: Exception = kind(str(failed), request=request)
    return error


class _Streams(NamedTuple):
    recorded: Any
    live: Any


@functools.cache
def _streams(http: Any) -> _Streams:
    """The streams of this library, which are sync and async both: recorded ones, and live ones."""

    class Recorded(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, request: Any, given: Given) -> None:
            self._request, self._given = request, given

        def __iter__(self) -> Iterator[bytes]:
            return replayed(self._given, lambda failed: _raised(http, failed, self._request))

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in self:
                yield part

    class Live(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, exchange: Exchange, stream: Any) -> None:
            self._exchange, self._stream = exchange, stream

        def __iter__(self) -> Iterator[bytes]:
            return self._exchange.watch(self._stream)

        def close(self) -> None:
            self._exchange.close()
            self._stream.close()

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._exchange.watch_async(self._stream)

        async def aclose(self) -> None:
            await self._exchange.close_async()
            await self._stream.aclose()

    return _Streams(Recorded, Live)
