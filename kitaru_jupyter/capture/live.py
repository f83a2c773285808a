"""What is tied to this process, so that no copy of it can mean anything elsewhere, and how to say so."""

from __future__ import annotations

import _thread
import io
import logging
import types
import weakref
from typing import Any

__all__ = ["is_without_end", "why_live"]

_WHY: dict[type, str] = {
    types.GeneratorType: "a generator has run to a point that only this process knows",
    types.AsyncGeneratorType: "a generator has run to a point that only this process knows",
    types.CoroutineType: "a coroutine has run to a point that only this process knows",
    types.FrameType: "a frame belongs to code that runs",
    types.TracebackType: "a traceback belongs to code that ran",
    weakref.ReferenceType: "a weak reference holds nothing",
    _thread.LockType: "a lock belongs to this process's threads",
    _thread.RLock: "a lock belongs to this process's threads",
}
_BY_NAME = {
    "socket:socket": "a socket is a connection of this process",
    "ssl:SSLSocket": "a socket is a connection of this process",
    "ssl:SSLContext": "it holds keys of this process",
    "sqlite3:Connection": "a connection belongs to this process",
    "sqlite3:Cursor": "a connection belongs to this process",
    "IPython.core.interactiveshell:InteractiveShell": "a shell belongs to this process",
    "asyncio.events:AbstractEventLoop": "an event loop belongs to this process",
    "ipykernel.kernelbase:Kernel": "a kernel belongs to this process",
    "zmq.sugar.context:Context": "it belongs to this process",
    "zmq.sugar.socket:Socket": "a socket is a connection of this process",
    "threading:Thread": "a thread runs in this process alone",
    "_asyncio:Future": "it belongs to an event loop of this process",
    "_asyncio:Task": "it belongs to an event loop of this process",
    "_contextvars:Context": "a context belongs to this process",
    "kitaru_jupyter.outputs:_Tee": "an open file belongs to this process",
    "mmap:mmap": "a mapped file belongs to this process",
    "select:epoll": "it belongs to this process",
    "subprocess:Popen": "a child process belongs to this process",
}
_LEADING_ON = ("IPython.", "asyncio.", "ipykernel.", "kitaru_jupyter.", "zmq.")
_WITHOUT_END = frozenset(name for name in _BY_NAME if name.startswith(_LEADING_ON))


def why_live(value: Any) -> str | None:
    """Why a copy of it would mean nothing, or None.

    >>> why_live(n for n in "abc")
    'a generator has run to a point that only this process knows'
    """
    cls = type(value)
    why = _WHY.get(cls)
    if why is not None:
        return why
    if issubclass(cls, io.IOBase):
        return None if issubclass(cls, (io.StringIO, io.BytesIO)) else "an open file belongs to this process"
    if issubclass(cls, logging.Handler):
        return "a handler of logs writes to what this process has open"
    return next((_BY_NAME[name] for base in cls.__mro__ if (name := _name(base)) in _BY_NAME), None)


def is_without_end(value: Any) -> bool:
    """Whether it leads to all that there is in this process, and to nothing that is its own."""
    return isinstance(value, io.IOBase) or any(_name(base) in _WITHOUT_END for base in type(value).__mro__)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
