"""An agent in a process of its own, which `test_killed.py` kills at each request and tool call in turn.

`begin` starts it: forked from a process that has imported every SDK, and that has done nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import json
import multiprocessing
import os
import sys
import urllib.request

import anthropic  # noqa: F401 - what the agents import, once for all of them
import boto3  # noqa: F401
import mistralai.client  # noqa: F401
import openai  # noqa: F401
import pydantic_ai.models.openai  # noqa: F401
import requests  # noqa: F401
from google import genai  # noqa: F401
from pydantic_ai import Agent

import kitaru
from kitaru import checkpoint, flow
from kitaru.adapters.pydantic_ai import durable

from . import agents


def begin(way, url, environment, log):
    """Start the agent that goes this way; it asks the model at `url`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(way, url, environment, log))
    process.start()
    return process


def _run(way, url, environment, log):
    os.environ.update(environment)
    sys.stderr = open(log, "a", encoding="utf-8")
    WAYS[way](url, functools.partial(_call, url))


def _call(url, tool, word):
    """What a tool does to the world: the server is told, and so is this agent's last answer."""
    asked = urllib.request.Request(f"{url}/tool", json.dumps([tool, word]).encode(), method="POST")
    with urllib.request.urlopen(asked, timeout=60):
        return f"{tool}({word})"


def _http(vendor, url, call):
    @checkpoint(type="tool_call")
    def look(word: str) -> str:
        return call("look", word)

    with kitaru.record_http():
        call("end", agents.talk(vendor, url, "Begin", {"look": look}, _last))


def _http_async(vendor, url, call):
    @checkpoint(type="tool_call")
    def look(word: str) -> str:
        return call("look", word)

    async def main():
        async with kitaru.record_http():
            call("end", await agents.talk_async(vendor, url, "Begin", {"look": look}, _last))

    asyncio.run(main())


def _last(turn):
    """The second answer is streamed."""
    return turn == 1


def _look(call):
    def look(word: str) -> str:
        return call("look", word)

    return look


def _llm(url, call, *, stream=False):
    @flow
    def conversation(prompt: str) -> None:
        answer = kitaru.llm(prompt, model=agents.openai_model(url), tools=[_look(call)], stream=stream)
        call("end", "".join(answer))

    conversation("Begin")


def _durable(url, call):
    agent = durable(Agent(agents.openai_model(url), tools=[_look(call)], name="clerk"))
    call("end", agent.run_sync("Begin").output)


def _durable_stream(url, call):
    agent = durable(Agent(agents.openai_model(url), tools=[_look(call)], name="clerk"))

    async def main():
        async with agent.run_stream("Begin") as answer:
            call("end", "".join([piece async for piece in answer.stream_text(delta=True, debounce_by=None)]))

    asyncio.run(main())


WAYS = {
    **{name: functools.partial(_http_async, vendor) for name, vendor in agents.ASYNC.items()},
    **{name: functools.partial(_http, vendor) for name, vendor in agents.BLOCKING.items()},
    "llm": _llm,
    "llm_stream": functools.partial(_llm, stream=True),
    "pydantic_ai": _durable,
    "pydantic_ai_stream": _durable_stream,
}
