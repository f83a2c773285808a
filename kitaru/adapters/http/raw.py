"""What requests and botocore read an answer from: urllib3's response, with an exchange that sees its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .exchange import Exchange, Failed, Given, replayed

__all__ = ["Live", "Recorded"]


class _Raw:
    """The part of `urllib3.HTTPResponse` that they use."""

    def __init__(self, parts: Iterator[bytes], status: int, headers: Any, reason: str | None = None) -> None:
        self._parts, self.status, self.headers, self.reason = parts, status, headers, reason
        self._rest, self.closed = b"", False
        self._original_response = None  # where requests looks for cookies

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:
        """The parts as they come, whatever the size asked for."""
        del amt, decode_content
        rest, self._rest = self._rest, b""
        if rest:
            yield rest
        yield from self._parts

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """So many bytes; all of them where it is not said."""
        del decode_content
        while amt is None or len(self._rest) < amt:
            part = next(self._parts, None)
            if part is None:
                break
            self._rest += part
        end = len(self._rest) if amt is None else amt
        out, self._rest = self._rest[:end], self._rest[end:]
        return out

    def close(self) -> None:
        """No more is read."""
        self.closed = True

    def release_conn(self) -> None:
        """The connection may be used again; urllib3's own response sees to that."""


class Recorded(_Raw):
    """A recorded answer. `broken` makes the library's own error of one that stops."""

    def __init__(self, given: Given, headers: Any, broken: Callable[[Failed], Exception]) -> None:
        super().__init__(replayed(given, broken), given.status, headers)


class Live(_Raw):
    """A stream on its way to its reader."""

    def __init__(self, exchange: Exchange, raw: Any) -> None:
        parts = raw.read_chunked(None, True) if raw.chunked else raw.stream(amt=None, decode_content=True)
        super().__init__(exchange.watch(parts), raw.status, raw.headers, raw.reason)
        self._exchange, self._raw = exchange, raw

    def close(self) -> None:
        self._exchange.close()
        self._raw.close()
        super().close()

    def release_conn(self) -> None:
        self._raw.release_conn()
