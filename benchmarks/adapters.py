"""Adapters: what recording a request of a model costs, and what it costs the requests that are not recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import httpx

import kitaru
from benchmarks.figures import Figure, median_ms
from benchmarks.workloads import folder
from kitaru import checkpoint, flow

_SERVER = """
import sys
from kitaru.testing.model_server import ModelServer
with ModelServer() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
_ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "why is the sky blue, in 20 words"}]}
_TIMES: dict[str, list[float]] = {}


@contextmanager
def _model() -> Iterator[str]:
    """A model server in a process of its own: it must not share the interpreter with what is measured."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


@checkpoint(type="llm_call")
def step(messages: list[dict[str, str]]) -> dict[str, object]:
    return {"id": "chat-1", "choices": [{"message": {"role": "assistant", "content": "1: " + messages[0]["content"]}}]}


@flow
def requests(url: str, n: int) -> None:
    """Each in turn with the same request unrecorded, and with a step: whatever else the machine does slows all."""
    for work in _TIMES.values():
        work.clear()
    with httpx.Client() as client:

        def other(_: dict[str, object]) -> None:
            client.post(f"{url}/v1/files", json=_ASKED)

        def chat(asked: dict[str, object]) -> None:
            client.post(f"{url}/v1/chat/completions", json=asked)

        def stream(asked: dict[str, object]) -> float:
            with client.stream("POST", f"{url}/v1/chat/completions", json={**asked, "stream": True}) as answer:
                parts = answer.iter_raw()
                next(parts)
                first = time.perf_counter()
                for _ in parts:
                    pass
            return first

        for i in range(n):
            asked = {**_ASKED, "user": i}
            for kind in (other, chat, stream):
                for records in (False, True):
                    with kitaru.record_http() if records else nullcontext():
                        began = time.perf_counter()
                        ended = kind(asked)
                        took = (ended or time.perf_counter()) - began
                    _TIMES.setdefault(f"{kind.__name__}{' recorded' * records}", []).append(took)
            began = time.perf_counter()
            step([{"role": "user", "content": f"why is the sky blue, in {i} words"}])
            _TIMES.setdefault("step", []).append(time.perf_counter() - began)


def _over(kind: str) -> float:
    return median_ms(_TIMES[f"{kind} recorded"]) - median_ms(_TIMES[kind])


def record_http(n: int, turns: int) -> list[Figure]:
    """A recorded request over a bare one against a plain durable step; one that is not recorded; a first event."""
    recorded, others, streams = [], [], []
    with folder() as path, _model() as url:
        kitaru.connect(os.path.join(path, "store"))
        requests.run(url, 10)
        for _ in range(turns):
            requests.run(url, n)
            recorded.append((_over("chat"), median_ms(_TIMES["step"])))
            others.append((_over("other"), 0.0))
            streams.append((_over("stream"), 0.0))
    none = "the same request without it, taken off"
    return [
        Figure("a recorded model request, over the bare one", recorded, "a plain durable step", ratio_at_most=2),
        Figure("a request that is not recorded, over the bare one", others, none, at_most=0.3),
        Figure("the first event of a stream, later than of the bare one", streams, none, at_most=2),
    ]
