"""Digests that notice a change within this process: blake3 under a key that nobody else knows.

They are compared and thrown away, never stored. A text that was written to collide cannot: the key is random. That
of memory is Kitaru's own, by the chunks that it stores, so that what is recorded is not read once more.
"""

from __future__ import annotations

import secrets
import types
import weakref
from collections.abc import Iterator
from typing import Any

import blake3

from kitaru.sessions import digest_of_memory

__all__ = ["code_digest", "digest_of", "digest_of_array", "digest_of_memory", "hasher"]

_KEY = secrets.token_bytes(32)
_TWO_THREADS = 1 << 20  # bytes from which on a second thread is worth waking


def hasher() -> Any:
    """A blake3 to which bytes are added."""
    return blake3.blake3(key=_KEY)


def digest_of(data: Any) -> bytes:
    """The digest of bytes, or of a contiguous view of bytes."""
    threads = 2 if len(data) > _TWO_THREADS else 1
    return blake3.blake3(data, key=_KEY, max_threads=threads).digest()


def digest_of_array(array: Any) -> bytes:
    """The digest of what an array holds, in the order of its memory. Only one that has gaps is copied."""
    if not array.size:
        return b""
    flat = array if array.flags.c_contiguous else array.T
    if not flat.flags.c_contiguous:
        flat = array.copy()
    return digest_of_memory(memoryview(flat.reshape(-1).view("u1")).cast("B"))


_codes: weakref.WeakKeyDictionary[types.CodeType, bytes] = weakref.WeakKeyDictionary()


def code_digest(code: types.CodeType) -> bytes:
    """The digest of what a code object does, wherever it stands. It is immutable, and so is kept with it."""
    known = _codes.get(code)
    if known is None:
        known = _codes[code] = digest_of(repr([*_code(code)]).encode("utf-8", "surrogatepass"))
    return known


def _code(code: types.CodeType) -> Iterator[Any]:
    yield from (code.co_name, code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    yield from (code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield [*_code(const)]
        elif type(const) is frozenset:  # its order is the process's, but here only this process counts
            yield "frozenset", sorted(map(repr, const))
        else:
            yield type(const).__name__, repr(const)
