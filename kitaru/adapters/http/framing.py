"""How a stream is cut into events: server-sent events, and the event stream of AWS. Both ways, and piece by piece."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["Event", "Framing", "framing_of"]

Event = dict[str, Any]
"""``{"event": name, "data": JSON}``; an event without a name has data alone. Data that is no JSON is text."""


class Framing(Protocol):
    """One way of cutting a stream. An instance reads one stream."""

    name: str

    def take(self, part: bytes) -> Iterator[Event]:
        """The events that are complete by this part."""
        ...

    @staticmethod
    def put(event: Event) -> bytes:
        """An event, as bytes."""
        ...


def framing_of(content_type: str, mask: Callable[[bytes], bytes] = bytes) -> Framing | None:
    """For an answer of this content type; None where it is no stream of events. `mask` hides what is not recorded."""
    kind = content_type.partition(";")[0].strip().lower()
    return _FRAMINGS[kind](mask) if kind in _FRAMINGS else None


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))


class _ServerSent:
    """``text/event-stream``."""

    name = "sse"

    def __init__(self, mask: Callable[[bytes], bytes]) -> None:
        self._rest, self._mask = b"", mask

    def take(self, part: bytes) -> Iterator[Event]:
        self._rest += part
        if b"\r" in self._rest:
            held = self._rest.endswith(b"\r")  # its newline may be yet to come
            text = self._rest[:-1] if held else self._rest
            self._rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held else b"")
        *blocks, self._rest = self._rest.split(b"\n\n")
        for block in blocks:
            lines = self._mask(block).decode("utf-8", "replace").split("\n")
            fields = [line.partition(":") for line in lines]
            data = [value.removeprefix(" ") for name, _, value in fields if name == "data"]
            names = [value.removeprefix(" ") for name, _, value in fields if name == "event"]
            if data:
                yield {**({"event": names[-1]} if names else {}), "data": _data("\n".join(data))}

    @staticmethod
    def put(event: Event) -> bytes:
        name = f"event: {event['event']}\n" if "event" in event else ""
        lines = "".join(f"data: {line}\n" for line in _text(event["data"]).split("\n"))
        return f"{name}{lines}\n".encode()


class _Amazon:
    """``application/vnd.amazon.eventstream``: a length, headers, a payload and checksums."""

    name = "aws"

    def __init__(self, mask: Callable[[bytes], bytes]) -> None:
        self._rest, self._mask = b"", mask

    def take(self, part: bytes) -> Iterator[Event]:
        self._rest += part
        while len(self._rest) >= 12:
            total, held = struct.unpack_from(">II", self._rest)
            if len(self._rest) < total:
                return
            message, self._rest = self._rest[:total], self._rest[total:]
            headers = dict(self._headers(message[12 : 12 + held]))
            name = headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code") or ""
            kind = headers.get(":message-type", "event")
            data = _data(self._mask(message[12 + held : -4]).decode("utf-8", "replace"))
            yield {"event": name, **({"kind": kind} if kind != "event" else {}), "data": data}

    @staticmethod
    def _headers(block: bytes) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(block):
            end = at + 1 + block[at]
            name, kind = block[at + 1 : end].decode(), block[end]
            if kind != 7:  # no text: none of those that count
                return
            (size,) = struct.unpack_from(">H", block, end + 1)
            yield name, block[end + 3 : end + 3 + size].decode()
            at = end + 3 + size

    @staticmethod
    def put(event: Event) -> bytes:
        kind = event.get("kind", "event")
        typed = {"event": ":event-type", "exception": ":exception-type"}.get(kind, ":error-code")
        named = {typed: event["event"], ":content-type": "application/json", ":message-type": kind}
        headers = b"".join(
            bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
            for name, value in named.items()
        )
        payload = _text(event["data"]).encode()
        prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
        message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
        return message + struct.pack(">I", binascii.crc32(message))


_FRAMINGS: dict[str, type[_ServerSent | _Amazon]] = {
    "text/event-stream": _ServerSent,
    "application/vnd.amazon.eventstream": _Amazon,
}
