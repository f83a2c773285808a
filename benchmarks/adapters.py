"""Adapters: what recording a request and a tool call costs, what it costs others, and what a long history keeps."""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import Context
from typing import Any

import httpx
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import kitaru
from benchmarks.figures import Figure, median_ms
from benchmarks.flows import settle
from benchmarks.values import kept
from benchmarks.workloads import folder
from kitaru import checkpoint, flow
from kitaru.adapters.pydantic_ai import durable

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


# ---------------------------------------------------------------- kitaru.llm and Pydantic AI


def _answers(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """A model that asks for the tool where it is told to, and then answers."""
    said = messages[-1].parts[-1].content  # type: ignore[union-attr]
    if len(messages) == 1 and str(said).startswith("look"):
        return ModelResponse([ToolCallPart("look", {"word": said})])
    return ModelResponse([TextPart(f"{len(messages)}: {said}")])


def look(word: str) -> str:
    return f"what there is to say of {word}"


_MODEL = FunctionModel(_answers)
_agent = Agent(_MODEL, name="measured", tools=[look])
_durable = durable(_agent)


def _timed(name: str, work: Callable[[], Any]) -> None:
    began = time.perf_counter()
    work()
    _TIMES.setdefault(name, []).append(time.perf_counter() - began)


@flow
def questions(n: int) -> None:
    """Each in turn outside of the flow, which is not recorded, and with a step."""
    for work in _TIMES.values():
        work.clear()
    outside = Context()
    for i in range(n):
        for kind, asked in (("request", f"why, {i}?"), ("tool", f"look, {i}")):

            def ask(asked: str = asked) -> None:
                kitaru.llm(asked, model=_MODEL, tools=[look])

            _timed(kind, lambda ask=ask: outside.run(ask))  # type: ignore[misc]
            _timed(f"{kind} recorded", ask)
        _timed("step", lambda i=i: step([{"role": "user", "content": f"why, {i}?"}]))  # type: ignore[misc]


@flow
async def runs(n: int) -> None:
    """The same of an agent: the one that is durable, and the one that it was made of."""
    for work in _TIMES.values():
        work.clear()
    for i in range(n):
        for kind, asked in (("request", f"why, {i}?"), ("tool", f"look, {i}")):
            for records, agent in ((False, _agent), (True, _durable)):
                began = time.perf_counter()
                await agent.run(asked)
                _TIMES.setdefault(f"{kind}{' recorded' * records}", []).append(time.perf_counter() - began)
        began = time.perf_counter()
        await step_async([{"role": "user", "content": f"why, {i}?"}])
        _TIMES.setdefault("step", []).append(time.perf_counter() - began)


@checkpoint(type="llm_call")
async def step_async(messages: list[dict[str, str]]) -> dict[str, object]:
    return {"id": "chat-1", "choices": [{"message": {"role": "assistant", "content": "1: " + messages[0]["content"]}}]}


def _beside_steps(name: str, measured: Callable[[int], Any], n: int, turns: int) -> list[Figure]:
    """A run with a tool has two requests and a call of it: what two requests cost is taken off."""
    asked, called = [], []
    with folder() as path:
        kitaru.connect(os.path.join(path, "store"))
        measured(10)
        for _ in range(turns):
            measured(n)
            step_took, request = median_ms(_TIMES["step"]), _over("request")
            asked.append((request, step_took))
            called.append((_over("tool") - 2 * request, step_took))
    plain = "a plain durable step"
    return [
        Figure(f"{name}: a recorded request, over the bare one", asked, plain, ratio_at_most=2),
        Figure(f"{name}: a recorded tool call, over the bare one", called, plain, ratio_at_most=2),
    ]


def llm(n: int, turns: int) -> list[Figure]:
    return _beside_steps("kitaru.llm", questions.run, n, turns)


def pydantic_ai(n: int, turns: int) -> list[Figure]:
    return _beside_steps("Pydantic AI", runs.run, n, turns)


# ---------------------------------------------------------------- a history that grows


def _text(seed: int, size: int) -> str:
    """Words that are in no other message."""
    words = random.Random(seed)
    return "".join(words.choice(string.ascii_lowercase + "  ") for _ in range(size))


@flow
def over_http(url: str, turns: int, size: int) -> int:
    """Gives the bytes of its messages as JSON, as each of these does."""
    messages: list[dict[str, Any]] = []
    with httpx.Client() as client, kitaru.record_http():
        for i in range(turns):
            messages.append({"role": "user", "content": _text(i, size)})
            answer = client.post(f"{url}/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": messages})
            messages.append(answer.json()["choices"][0]["message"])
    return len(json.dumps(messages))


@flow
def by_questions(turns: int, size: int) -> int:
    messages: list[dict[str, Any]] = []
    for i in range(turns):
        messages.append({"role": "user", "content": _text(i, size)})
        messages.append({"role": "assistant", "content": kitaru.llm(messages, model=_MODEL)})
    return len(json.dumps(messages))


@flow
async def by_an_agent(turns: int, size: int) -> int:
    def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        turn = len(messages) // 2
        text = TextPart(_text(-turn, size))
        return ModelResponse([text] if turn == turns else [text, ToolCallPart("read", {"page": turn})])

    def read(page: int) -> str:
        return _text(page, size)

    agent = durable(Agent(FunctionModel(answer), name="long", tools=[read]))
    result = await agent.run("Read it", usage_limits=UsageLimits(request_limit=None))
    return len(result.all_messages_json())


def long_histories(url: str, turns: int, size: int) -> list[Figure]:
    """What is kept of a history to which each turn adds two messages, with all that is derived of it."""
    out = []
    for name, run in (
        ("record_http", lambda: over_http(url, turns, size)),
        ("kitaru.llm", lambda: by_questions(turns, size)),
        ("Pydantic AI", lambda: by_an_agent.run(turns, size).get()),
    ):
        with folder() as path:
            store = kitaru.connect(os.path.join(path, "store"))
            messages = run()
            settle()
            in_all = sum(kept(store).values())
        title = f"{name}: {turns} turns of 2 messages of {size / 1000:g} KB, kept in all"
        out.append(Figure(title, [(in_all / 1e6, messages / 1e6)], "its messages as JSON", "MB", ratio_at_most=3))
    return out


def histories(turns: int) -> list[Figure]:
    with _model() as url:
        return [figure for size in (1000, 2000) for figure in long_histories(url, turns, size)]
