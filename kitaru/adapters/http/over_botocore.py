"""botocore: the calls of Bedrock's models, and nothing else that it sends, such as Kitaru's own S3 traffic.

It signs a request anew for each attempt, so a call is decided where botocore makes it (`Endpoint.make_request`), before
the first signature, and what is sent is seen where it is sent (`URLLib3Session.send`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from .exchange import Exchange, Failed
from .raw import Live, Recorded
from .recording import meet

__all__ = ["patch"]


class _Call:
    """A call that botocore is about: its exchange, and whether it has been sent before."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange, self.is_sent = exchange, False


_made: ContextVar[_Call | None] = ContextVar("kitaru_record_botocore", default=None)


def patch(module: ModuleType) -> None:
    """Wrap what this module of botocore has to do with it."""
    of: Any = module
    if of.__name__ == "botocore.endpoint":
        of.Endpoint.make_request = _deciding(of.Endpoint.make_request)
    else:
        of.URLLib3Session.send = _sending(of.URLLib3Session.send)


def _deciding(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_request(self: Any, operation_model: Any, request_dict: dict[str, Any]) -> Any:
        exchange = _meet(operation_model, request_dict)
        if exchange is None:
            return make(self, operation_model, request_dict)
        given = None
        try:
            given = exchange.begin()
        except Failed as e:
            raise _raised(e, request_dict["url"]) from None
        if given is None and (edited := exchange.edited) is not None:
            path = request_dict["url_path"]
            request_dict["url"] = request_dict["url"].replace(path, exchange.endpoint.path(path, edited))
            request_dict["body"] = exchange.endpoint.body(edited)
        call = _Call(exchange)
        token = _made.set(call)
        try:
            return make(self, operation_model, request_dict)
        finally:
            _made.reset(token)

    return make_request


def _meet(operation_model: Any, request: dict[str, Any]) -> Exchange | None:
    if operation_model.service_model.endpoint_prefix != "bedrock-runtime":
        return None
    body = request["body"]
    if not isinstance(body, bytes | str):
        return None
    read = body.encode() if isinstance(body, str) else body
    headers = [(name, str(value)) for name, value in request["headers"].items()]
    return meet(request["method"], request["url_path"], lambda: request["url"], lambda: headers, lambda: read)


def _sending(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def send_recorded(self: Any, request: Any) -> Any:
        call = _made.get()
        if call is None:
            return send(self, request)
        exchange = call.exchange
        given = exchange.given
        if given is not None:
            raw = Recorded(given, given.headers, lambda e: _raised(e, request.url))
            return _answer(request.url, given.status, given.headers, raw)
        exchange.meet_headers(request.url, [(name, _text(value)) for name, value in request.headers.items()])
        if call.is_sent:
            exchange.begin_again()
        call.is_sent = True
        try:
            response = send(self, request)
            headers = list(response.headers.items())
            if exchange.answered(response.status_code, headers):
                return _answer(request.url, response.status_code, response.headers, Live(exchange, response.raw))
            body = response.content
        except BaseException as e:
            exchange.broke(e)
            raise
        exchange.end(body)
        if request.stream_output:  # it is read by whoever made the call
            response.raw = _Read(body, response.status_code, response.headers)
        return response

    return send_recorded


class _Read(Recorded):
    """A body that was read, to be read."""

    def __init__(self, body: bytes, status: int, headers: Any) -> None:
        super(Recorded, self).__init__(iter([body]), status, headers)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _answer(url: str, status: int, headers: Any, raw: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    return AWSResponse(url, status, headers, raw)


def _raised(failed: Failed, url: str) -> Exception:
    from botocore import exceptions

    error: Exception
    if failed.kind in {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"}:
        error = getattr(exceptions, failed.kind)(endpoint_url=url, error=failed)
    else:
        error = exceptions.ConnectionClosedError(endpoint_url=url, request=None, error=failed)
    return error
