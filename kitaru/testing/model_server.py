"""A server on loopback that speaks the wire formats of models, and fails as it is told to: for tests of adapters.

Its answers are made of the requests alone, so that a run and its replay can be compared; and it keeps every request, so
that one that was sent twice is seen.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["ModelServer", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that came."""

    path: str
    headers: dict[str, str]
    json: Any


class ModelServer:
    """The server, in a thread. A context manager.

    Parameters
    ----------
    says
        What answers a chat of OpenAI's wire format: given the request's messages, it gives the assistant's, as a text
        or with its tool calls as that format has them. Without it the last message is repeated, as in the others.

    Attributes
    ----------
    requests : list of Request
        Every request that came, in order.
    faults : deque of str
        What happens to the next requests, one each: ``429``, ``500``, ``401`` (a status, with a body that repeats the
        request's credentials), ``reset`` (the connection is torn before an answer), ``half`` (in the middle of one),
        ``open`` (a stream ends in the middle, as if it were its end), ``error`` (a stream ends in an event that says
        so); an empty text: nothing.
    on_request : callable
        Called with the number of each request, from 1, before it is answered.

    Examples
    --------
    >>> with ModelServer() as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, says: Callable[[list[dict[str, Any]]], str | dict[str, Any]] | None = None) -> None:
        self.says = says
        self.requests: list[Request] = []
        self.faults: deque[str] = deque()
        self.on_request: Callable[[int], None] = lambda n: None
        self.gate: threading.Event | None = None
        """Where it is set, a stream stops after its first event until this is."""
        handler = type("Handler", (_Handler,), {"model_server": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        serve = functools.partial(self._server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, name="model-server", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _came(self, request: Request) -> str:
        """The fault of this request."""
        with self._lock:
            self.requests.append(request)
            n = len(self.requests)
            fault = self.faults.popleft() if self.faults else ""
        self.on_request(n)
        return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed, or tears its connection, is what tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model_server: ModelServer

    def log_message(self, *args: Any) -> None:
        """Nothing is said."""

    def do_GET(self) -> None:
        self.model_server._came(Request(self.path, dict(self.headers), None))
        self._json(200, {"path": self.path})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"] or 0))
        try:
            asked = json.loads(data)
        except ValueError:
            asked = data.decode("utf-8", "replace")
        fault = self.model_server._came(Request(self.path, dict(self.headers), asked))
        if self.path.startswith("/moved/"):
            self.send_response(308)
            self.send_header("location", self.path.removeprefix("/moved"))
            self.send_header("content-length", "0")
            self.end_headers()
        elif fault.isdigit():
            self._refuse(int(fault))
        elif fault == "reset":
            self._tear()
        else:
            self._answer(self.path.partition("?")[0], asked, fault)

    def _refuse(self, status: int) -> None:
        keys = [v for k, v in self.headers.items() if re.search("key|authorization|cookie|token", k, re.IGNORECASE)]
        text = f"refused at {self.path}, with {keys}"
        self._json(status, {"error": {"type": "refused", "message": text, "code": status}, "message": text})

    def _tear(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def _json(self, status: int, answer: Any, fault: str = "") -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req-1")
        self.send_header("retry-after-ms", "1")  # for SDKs that would sleep between attempts
        self.send_header("set-cookie", "session=planted-cookie")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "half" else body)
        if fault == "half":
            self._tear()

    def _stream(self, content_type: str, events: list[bytes], fault: str, error: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for n, event in enumerate(events):
            if n == 2 and fault == "half":
                self._tear()
                return
            if n == 2 and fault in {"open", "error"}:
                if fault == "error":
                    self._chunk(error)
                break
            self._chunk(event)
            gate = self.model_server.gate
            if n == 0 and gate is not None:
                gate.wait(30)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # ------------------------------------------------------------ the wire formats

    def _answer(self, path: str, asked: Any, fault: str) -> None:
        says = self.model_server.says
        for ending, answer in _FORMATS.items():
            if path.endswith(ending) and isinstance(asked, dict) and asked.keys() & {"messages", "input", "contents"}:
                made = answer(path, asked) if says is None or answer is not _chat else _scripted(says, asked)
                break
        else:
            self._json(200, {"path": path, "asked": asked})
            return
        if isinstance(made, dict):
            self._json(200, made, fault)
        elif path.endswith("stream"):
            error = _amazon("throttlingException", {"message": "slow down"}, "exception")
            self._stream(
                "application/vnd.amazon.eventstream", [_amazon(name or "", data) for name, data in made], fault, error
            )
        else:
            error = _sse(("error", {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}))
            self._stream("text/event-stream", [_sse(e) for e in made], fault, error)


def _sse(event: tuple[str | None, Any]) -> bytes:
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _amazon(name: str, data: Any, kind: str = "event") -> bytes:
    named = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        bytes([len(k)]) + k.encode() + b"\x07" + struct.pack(">H", len(v)) + v.encode() for k, v in named.items()
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))


_Events = list[tuple[str | None, Any]]


def _said(messages: Any) -> str:
    """What the model says: how many messages it was given, and the last one's text."""
    if isinstance(messages, str):
        return f"1: {messages}"
    last = messages[-1]
    content = last.get("content", last.get("parts", ""))
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return f"{len(messages)}: {text}"


def _pieces(text: str) -> Iterator[str]:
    yield from re.findall(r"\S+\s*", text)


def _chat(_: str, asked: dict[str, Any]) -> dict[str, Any] | _Events:
    message = {"role": "assistant", "content": _said(asked["messages"])}
    return _completion(asked, message, {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14})


def _scripted(
    says: Callable[[list[dict[str, Any]]], str | dict[str, Any]], asked: dict[str, Any]
) -> dict[str, Any] | _Events:
    said = says(asked["messages"])
    message = {"role": "assistant", "content": None, **(said if isinstance(said, dict) else {"content": said})}
    read, written = (len(json.dumps(text)) // 4 for text in (asked["messages"], said))  # about that many tokens
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return _completion(asked, message, usage)


def _completion(asked: dict[str, Any], message: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any] | _Events:
    common = {"id": "chat-1", "created": 1, "model": asked.get("model")}
    calls = message.get("tool_calls") or []
    ended = "tool_calls" if calls else "stop"
    if not asked.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": ended}
        return {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    chunk = {**common, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": piece} for piece in _pieces(message["content"] or "")
    ]
    deltas += [{"role": "assistant", "tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)]
    out: _Events = [
        (None, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas
    ]
    out.append((None, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": ended}], "usage": usage}))
    return [*out, (None, "[DONE]")]


def _responses(_: str, asked: dict[str, Any]) -> dict[str, Any] | _Events:
    text = _said(asked["input"])
    item = {
        "id": "msg-1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }  # fmt: skip
    usage = {
        "input_tokens": 10, "output_tokens": 4, "total_tokens": 14,
        "input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    answer = {
        "id": "resp-1", "object": "response", "created_at": 1, "model": asked["model"], "status": "completed",
        "output": [item], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    if not asked.get("stream"):
        return answer
    place = {"item_id": "msg-1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": [], "usage": None}},
        *({"type": "response.output_text.delta", **place, "delta": p, "logprobs": []} for p in _pieces(text)),
        {"type": "response.completed", "response": answer},
    ]
    return [(e["type"], {**e, "sequence_number": n}) for n, e in enumerate(events)]


def _messages(_: str, asked: dict[str, Any]) -> dict[str, Any] | _Events:
    text = _said(asked["messages"])
    message = {
        "id": "msg-1", "type": "message", "role": "assistant", "model": asked.get("model"), "stop_sequence": None,
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 4},
    }  # fmt: skip
    if not asked.get("stream"):
        return message
    begun = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}}
            for p in _pieces(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def _generated(text: str, *, last: bool = True) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if not last:
        return {"candidates": [candidate]}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
    return {"candidates": [{**candidate, "finishReason": "STOP"}], "usageMetadata": usage}


def _generate(_: str, asked: dict[str, Any]) -> dict[str, Any]:
    return _generated(_said(asked["contents"]))


def _generate_stream(_: str, asked: dict[str, Any]) -> _Events:
    *before, last = _pieces(_said(asked["contents"]))
    return [*((None, _generated(piece, last=False)) for piece in before), (None, _generated(last))]


_SPENT = {"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}


def _converse(_: str, asked: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"text": _said(asked["messages"])}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": _SPENT, "metrics": {"latencyMs": 1}}


def _converse_stream(_: str, asked: dict[str, Any]) -> _Events:
    return [
        ("messageStart", {"role": "assistant"}),
        *(
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": p}})
            for p in _pieces(_said(asked["messages"]))
        ),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _SPENT, "metrics": {"latencyMs": 1}}),
    ]


def _invoke_stream(path: str, asked: dict[str, Any]) -> _Events:
    events = _messages(path, {**asked, "stream": True})
    assert isinstance(events, list)
    return [("chunk", {"bytes": base64.b64encode(json.dumps(data).encode()).decode()}) for _, data in events]


_FORMATS: dict[str, Callable[[str, dict[str, Any]], dict[str, Any] | _Events]] = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/messages": _messages,
    ":generateContent": _generate,
    ":streamGenerateContent": _generate_stream,
    "/converse": _converse,
    "/converse-stream": _converse_stream,
    "/invoke": _messages,
    "/invoke-with-response-stream": _invoke_stream,
}
