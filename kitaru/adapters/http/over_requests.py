"""requests: every session sends by an `HTTPAdapter`."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from .exchange import Exchange, Failed, Given
from .raw import Live, Recorded
from .recording import meet

__all__ = ["patch"]


def patch(adapters: ModuleType) -> None:
    """Wrap the adapter that sends."""
    of: Any = adapters
    send = of.HTTPAdapter.send

    @functools.wraps(send)
    def send_recorded(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = _meet(request)
        if exchange is None:
            return send(self, request, *args, **kwargs)
        try:
            given = exchange.begin()
        except Failed as e:
            raise _raised(of, e, request) from None
        if given is not None:
            return _response(of, self, request, given)
        try:
            response = send(self, _to_send(request, exchange), *args, **kwargs)
            if exchange.answered(response.status_code, response.headers.items()):
                response.raw = Live(exchange, response.raw)
                return response
            body = response.content  # it keeps it for whoever asks again
        except BaseException as e:
            exchange.broke(e)
            raise
        exchange.end(body)
        return response

    of.HTTPAdapter.send = send_recorded


def _meet(request: Any) -> Exchange | None:
    url, body = request.url, request.body
    if not isinstance(body, bytes | str):
        return None  # an upload, or nothing
    read = body.encode() if isinstance(body, str) else body
    return meet(request.method, urlsplit(url).path, lambda: url, request.headers.items, lambda: read)


def _to_send(request: Any, exchange: Exchange) -> Any:
    """The request as it goes out: with what was edited, and asking for an answer that is not compressed."""
    out, edited = request.copy(), exchange.edited
    out.headers["Accept-Encoding"] = "identity"
    if edited is not None:
        parts = urlsplit(request.url)
        out.url = parts._replace(path=exchange.endpoint.path(parts.path, edited)).geturl()
        out.prepare_body(exchange.endpoint.body(edited), None)
    return out


def _raised(of: Any, failed: Failed, request: Any) -> Exception:
    from requests import exceptions

    kind = getattr(exceptions, failed.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, exceptions.RequestException)):
        kind = of.ConnectionError
    error: Exception = kind(str(failed), request=request)
    return error


def _response(of: Any, adapter: Any, request: Any, given: Given) -> Any:
    def broken(failed: Failed) -> Exception:
        return _raised(of, failed, request)

    response = adapter.build_response(request, Recorded(given, given.headers, broken))
    response.reason = ""
    return response
