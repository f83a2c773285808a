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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from ..messages import Message, Text, ToolCall, ToolResult, read
from .adapters import Turn

__all__ = ["ModelServer", "Request", "by_turns"]


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
        Given a request's messages, as `kitaru.messages` has them, it gives the assistant's, or its text alone. An
        `Exception` of it is a refusal (400) with its message. When left out, the model says how many messages it was
        given, and the last one's text.

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
    on_event : callable
        Called with the number of each event of a stream, from 1, when it has been sent.

    What one of these callables raises that is no `Exception`, such as a `SimulatedCrash`, tears the connection.

    Examples
    --------
    >>> with ModelServer() as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, says: Callable[[Sequence[Message]], Message | str] | None = None) -> None:
        self.requests: list[Request] = []
        self.faults: deque[str] = deque()
        self.on_request: Callable[[int], None] = lambda n: None
        self.on_event: Callable[[int], None] = lambda n: None
        self._answer = says
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

    def _says(self, asked: Any) -> Message:
        """What the model answers to this request."""
        said = _echo(asked) if self._answer is None else self._answer(read(asked).messages)
        return said if isinstance(said, Message) else Message("assistant", (Text(said),))


def by_turns(asked: Callable[[int, Sequence[str]], Turn]) -> Callable[[Sequence[Message]], Message]:
    """What a server says where `asked` is given the number of its turn, from 0, and what the tools gave since the last.

    Such as `kitaru.testing.adapters.World.asked`.
    """

    def says(messages: Sequence[Message]) -> Message:
        turn = asked(*_turn(messages))
        calls = [ToolCall(f"call-{name}-{word}-{n}", name, {"word": word}) for n, (name, word) in enumerate(turn.calls)]
        return Message("assistant", (*([Text(turn.text)] if turn.text else []), *calls))

    return says


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
        try:
            self._post()
        except Exception:
            raise
        except BaseException:  # the agent is to die, or to be stopped: no answer comes
            self._tear()

    def _post(self) -> None:
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
            if n == len(events) // 2 and fault == "half":
                self._tear()
                return
            if n == len(events) // 2 and fault in {"open", "error"}:
                if fault == "error":
                    self._chunk(error)
                break
            self._chunk(event)
            self.model_server.on_event(n + 1)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # ------------------------------------------------------------ the wire formats

    def _answer(self, path: str, asked: Any, fault: str) -> None:
        answers = next((made for ending, made in _FORMATS.items() if path.endswith(ending)), None)
        if answers is None or not (isinstance(asked, dict) and asked.keys() & {*_CONVERSATION}):
            self._json(200, {"path": path, "asked": asked})
            return
        try:
            said = self.model_server._says(asked)
        except Exception as e:
            self._json(400, {"error": {"type": "refused", "message": str(e)}, "message": str(e)})
            return
        made = answers(asked, said)
        if isinstance(made, dict):
            self._json(200, made, fault)
        elif path.endswith("stream"):
            error = _amazon("throttlingException", {"message": "slow down"}, "exception")
            events = [_amazon(name or "", data) for name, data in made]
            self._stream("application/vnd.amazon.eventstream", events, fault, error)
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


# ---------------------------------------------------------------- what is asked

_CONVERSATION = ("messages", "input", "contents")
"""Where a request has it, by format."""


def _turn(messages: Sequence[Message]) -> tuple[int, list[str]]:
    """Which turn of the model is asked for, and what the tools gave since the one before."""
    turn, results, was_model = 0, list[str](), False
    for message in messages:
        is_model = message.role == "assistant"
        if is_model and not was_model:  # a format may cut one turn into several messages
            turn, results = turn + 1, []
        results += [_plain(part.content) for part in message.parts if isinstance(part, ToolResult)]
        was_model = is_model
    return turn, results


def _plain(content: Any) -> str:
    """What a tool gave, where a format wraps it."""
    if isinstance(content, dict):
        return str(next(iter(content.values())))
    if isinstance(content, tuple):
        return "".join(part.text for part in content if isinstance(part, Text))
    return str(content)


def _echo(asked: dict[str, Any]) -> str:
    """The model says how many messages it was given, and the last one's text."""
    messages = next(asked[key] for key in _CONVERSATION if key in asked)
    if isinstance(messages, str):
        return f"1: {messages}"
    last = messages[-1]
    content = last.get("content", last.get("parts", ""))
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return f"{len(messages)}: {text}"


# ---------------------------------------------------------------- what is answered, in each format

_Events = list[tuple[str | None, Any]]


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _calls(said: Message) -> list[tuple[str, str, Any]]:
    """Each call of a tool: its id, the tool's name, and its arguments."""
    return [(part.id, part.name, part.arguments) for part in said.parts if isinstance(part, ToolCall)]


def _chat(asked: dict[str, Any], said: Message) -> dict[str, Any] | _Events:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    common = {"id": "chat-1", "created": 1, "model": asked.get("model")}
    calls = [
        {"id": key, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for key, name, arguments in _calls(said)
    ]
    ended = "tool_calls" if calls else "stop"
    if not asked.get("stream"):
        message = {"role": "assistant", "content": said.text or None, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": ended}
        return {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    chunk = {**common, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in _pieces(said.text)]
    deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)]
    out: _Events = [
        (None, {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]})
        for delta in deltas
    ]
    out.append((None, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": ended}], "usage": usage}))
    return [*out, (None, "[DONE]")]


def _responses(asked: dict[str, Any], said: Message) -> dict[str, Any] | _Events:
    items: list[dict[str, Any]] = []
    if said.text:
        content = {"type": "output_text", "text": said.text, "annotations": []}
        items.append(
            {"id": "msg-1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
        )
    items += [
        {"id": f"fc-{key}", "type": "function_call", "call_id": key, "name": name, "status": "completed",
         "arguments": json.dumps(arguments)}
        for key, name, arguments in _calls(said)
    ]  # fmt: skip
    usage = {
        "input_tokens": 10, "output_tokens": 4, "total_tokens": 14,
        "input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    answer = {
        "id": "resp-1", "object": "response", "created_at": 1, "model": asked["model"], "status": "completed",
        "output": items, "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    if not asked.get("stream"):
        return answer
    place = {"item_id": "msg-1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": [], "usage": None}},
        *({"type": "response.output_text.delta", **place, "delta": p, "logprobs": []} for p in _pieces(said.text)),
        *({"type": "response.output_item.done", "output_index": n, "item": item} for n, item in enumerate(items)
          if item["type"] == "function_call"),
        {"type": "response.completed", "response": answer},
    ]  # fmt: skip
    return [(e["type"], {**e, "sequence_number": n}) for n, e in enumerate(events)]


def _messages(asked: dict[str, Any], said: Message) -> dict[str, Any] | _Events:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    blocks += [{"type": "tool_use", "id": key, "name": name, "input": given} for key, name, given in _calls(said)]
    ended = "tool_use" if _calls(said) else "end_turn"
    message = {
        "id": "msg-1", "type": "message", "role": "assistant", "model": asked.get("model"), "stop_sequence": None,
        "content": blocks, "stop_reason": ended, "usage": {"input_tokens": 10, "output_tokens": 4},
    }  # fmt: skip
    if not asked.get("stream"):
        return message
    begun = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for n, block in enumerate(blocks):
        empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(said.text)]
        else:
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events += [
            {"type": "content_block_start", "index": n, "content_block": {**block, **empty}},
            *({"type": "content_block_delta", "index": n, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": n},
        ]
    stop = {"stop_reason": ended, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": {"output_tokens": 4}}, {"type": "message_stop"}]
    return [(event["type"], event) for event in events]


def _generated(parts: list[dict[str, Any]], *, last: bool = True) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if not last:
        return {"candidates": [candidate]}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
    return {"candidates": [{**candidate, "finishReason": "STOP"}], "usageMetadata": usage}


def _called(said: Message) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": name, "args": arguments}} for _, name, arguments in _calls(said)]


def _generate(_: dict[str, Any], said: Message) -> dict[str, Any]:
    return _generated([*([{"text": said.text}] if said.text else []), *_called(said)])


def _generate_stream(_: dict[str, Any], said: Message) -> _Events:
    parts: list[dict[str, Any]] = [{"text": piece} for piece in _pieces(said.text)]
    *before, last = [*parts, *_called(said)]
    return [*((None, _generated([part], last=False)) for part in before), (None, _generated([last]))]


_SPENT = {"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}


def _converse(_: dict[str, Any], said: Message) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"text": said.text}] if said.text else []
    content += [{"toolUse": {"toolUseId": key, "name": name, "input": given}} for key, name, given in _calls(said)]
    message, ended = {"role": "assistant", "content": content}, "tool_use" if _calls(said) else "end_turn"
    return {"output": {"message": message}, "stopReason": ended, "usage": _SPENT, "metrics": {"latencyMs": 1}}


def _converse_stream(_: dict[str, Any], said: Message) -> _Events:
    out: _Events = [("messageStart", {"role": "assistant"})]
    if said.text:
        out += [
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in _pieces(said.text)
        ]
        out.append(("contentBlockStop", {"contentBlockIndex": 0}))
    for n, (key, name, arguments) in enumerate(_calls(said), start=bool(said.text)):
        begun = {"toolUse": {"toolUseId": key, "name": name}}
        out += [
            ("contentBlockStart", {"contentBlockIndex": n, "start": begun}),
            ("contentBlockDelta", {"contentBlockIndex": n, "delta": {"toolUse": {"input": json.dumps(arguments)}}}),
            ("contentBlockStop", {"contentBlockIndex": n}),
        ]
    out.append(("messageStop", {"stopReason": "tool_use" if _calls(said) else "end_turn"}))
    return [*out, ("metadata", {"usage": _SPENT, "metrics": {"latencyMs": 1}})]


def _invoke_stream(asked: dict[str, Any], said: Message) -> _Events:
    events = _messages({**asked, "stream": True}, said)
    assert isinstance(events, list)
    return [("chunk", {"bytes": base64.b64encode(json.dumps(data).encode()).decode()}) for _, data in events]


_FORMATS: dict[str, Callable[[dict[str, Any], Message], dict[str, Any] | _Events]] = {
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
