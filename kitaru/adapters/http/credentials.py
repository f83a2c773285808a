"""What of a request and of its answer is recorded, and what is a credential."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["HIDDEN", "hide", "masked", "safe_headers", "secrets_of", "unhide", "without_query"]

HIDDEN = "[credential]"
"""Stands in the record for a credential; never sent."""

_SECRET = re.compile(
    r"auth|api[-_]?key|access[-_]?key|secret|token$|password|passwd|cookie|credential|signature", re.IGNORECASE
)
"""Names of headers, of members of a URL's query, and of JSON, whose values are credentials."""
_ALSO_IN_URLS = {"key", "sig"}
_KEPT = re.compile(
    r"^(content-type|location|retry-after|(.+-)?request-?id|x-amzn-(bedrock|errortype).*|openai-(model|version))$",
    re.IGNORECASE,
)


def secrets_of(url: str, headers: Iterable[tuple[str, str]]) -> list[str]:
    """The credentials of a request, as they stand in its headers and its URL, and as a message may repeat them."""
    out: dict[str, None] = {}
    for name, value in headers:
        if _SECRET.search(name):
            out.update(dict.fromkeys(_spellings(value)))
        if name.lower() == "cookie":
            out.update((part.partition("=")[2].strip(), None) for part in value.split(";"))
    parts = urlsplit(url)
    out.update((unquote(part), None) for part in (parts.password, parts.username) if part)
    for name, value in parse_qsl(parts.query):
        if name.lower() in _ALSO_IN_URLS or _SECRET.search(name):
            out[value] = None
    out.update((part, None) for part in re.findall(r"[?&](?:key|sig)=([^&]+)", url))  # percent-encoded, as it was sent
    return sorted((s for s in out if len(s) >= 8), key=len, reverse=True)


def _spellings(value: str) -> Iterator[str]:
    yield value
    scheme, _, rest = value.partition(" ")
    if not rest:
        return
    yield rest
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield pair
        yield from pair.split(":", 1)
    for name, part in re.findall(r"(\w+)=([^,\s]+)", rest):  # AWS Signature Version 4, Digest
        if name in {"Credential", "Signature", "response"}:
            yield part.partition("/")[0]


def without_query(url: str) -> str:
    """The address that was asked, without its query and its user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def safe_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those of an answer that are recorded: few, and by name."""
    out = {name.lower(): value for name, value in headers if _KEPT.match(name)}
    if "location" in out:  # a redirect: the next request is recorded at the place it names
        out["location"] = out["location"].partition("?")[0]
    return out


def masked(data: bytes, secrets: Iterable[str]) -> bytes:
    """An answer, with a mask in the place of each credential of its request that it repeats."""
    for secret in secrets:
        if secret.encode() in data:
            data = data.replace(secret.encode(), HIDDEN.encode())
    return data


def hide(value: Any) -> Any:
    """The tools or settings of a request, with a mask in the place of each credential among them."""
    if isinstance(value, dict):
        return {k: _mask(k, v) for k, v in value.items()}
    return [hide(v) for v in value] if isinstance(value, list) else value


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, str) and value and _SECRET.search(name):
        return HIDDEN
    if isinstance(value, dict) and re.fullmatch(r"(?i)authentication|headers", name):
        return {k: HIDDEN if isinstance(v, str) and k != "type" else hide(v) for k, v in value.items()}
    return hide(value)


def unhide(value: Any, sent: Any) -> Any:
    """`value` with the credentials that stood at the same places in what was `sent`."""
    if value == HIDDEN:
        return sent
    if isinstance(value, dict) and isinstance(sent, Mapping):
        return {k: unhide(v, sent.get(k)) for k, v in value.items()}
    if isinstance(value, list) and isinstance(sent, list) and len(value) == len(sent):
        return [unhide(v, s) for v, s in zip(value, sent, strict=True)]
    return value
