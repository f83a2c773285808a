"""One agent for each vendor's own client: a loop that asks the model, calls the tools that it names, and asks again.

Whatever the vendor, the conversation is kept in `kitaru.messages`. Clients try nothing again by themselves; what they
do then is in `test_record_http.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitaru.messages import Message, Text, ToolCall, ToolResult, assemble, convert, read

from .vendors import HAIKU, KEY, bedrock_client


@dataclass(frozen=True)
class Vendor:
    """A way of asking a model.

    Attributes
    ----------
    step : str
        The name of its requests' steps.
    format : str
        Of `kitaru.messages`.
    client : callable
        Makes one of a URL: a context manager.
    ask : callable
        Given the client, a request in the vendor's format and whether to stream: the response, or the list of its
        chunks, as JSON.
    """

    step: str
    format: str
    client: Callable[[str], Any]
    ask: Callable[[Any, dict[str, Any], bool], Any]


def talk(vendor, url, prompt, tools, stream):
    """The agent's last answer. `stream` says, by the number of the turn, whether it is streamed."""
    with vendor.client(url) as client:
        turns = _turns(vendor, prompt, tools)
        request, n = next(turns), 0
        try:
            while True:
                request, n = turns.send(vendor.ask(client, request, stream(n))), n + 1
        except StopIteration as end:
            return end.value


async def talk_async(vendor, url, prompt, tools, stream):
    """As `talk`, with a client that is awaited."""
    async with vendor.client(url) as client:
        turns = _turns(vendor, prompt, tools)
        request, n = next(turns), 0
        try:
            while True:
                request, n = turns.send(await vendor.ask(client, request, stream(n))), n + 1
        except StopIteration as end:
            return end.value


def _turns(vendor, prompt, tools):
    """Gives each request, is given its answer, and ends with the last one's text."""
    asked = [Message("user", (Text(prompt),))]
    while True:
        response = yield convert(asked, vendor.format)
        if isinstance(response, list):
            response = assemble(vendor.format, response)
        parts = [part for message in read(response, vendor.format).messages for part in message.parts]
        answer = Message("assistant", tuple(parts))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if not calls:
            return answer.text
        results = [ToolResult(call.id, tools[call.name](**call.arguments), name=call.name) for call in calls]
        asked += [answer, *(Message("tool", (result,)) for result in results)]


def _json(of):
    return of.model_dump(mode="json", by_alias=True, exclude_none=True)


# ---------------------------------------------------------------- the vendors


def _openai(url):
    import openai

    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


async def _chat(client, request, stream):
    made = await client.chat.completions.create(model="gpt-4o-mini", stream=stream, **request)
    return [_json(chunk) async for chunk in made] if stream else _json(made)


async def _responses(client, request, stream):
    made = await client.responses.create(model="gpt-4o-mini", stream=stream, **request)
    return [_json(event) async for event in made] if stream else _json(made)


def _blocking_openai(url):
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


def _blocking_chat(client, request, stream):
    made = client.chat.completions.create(model="gpt-4o-mini", stream=stream, **request)
    return [_json(chunk) for chunk in made] if stream else _json(made)


def _anthropic(url):
    import anthropic

    return anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0)


async def _messages(client, request, stream):
    made = await client.messages.create(model="claude-haiku-4-5", max_tokens=9, stream=stream, **request)
    return [_json(event) async for event in made] if stream else _json(made)


def _gemini(url):
    from google import genai

    return genai.Client(api_key=KEY, http_options={"base_url": url}).aio


async def _generate(client, request, stream):
    if stream:
        made = await client.models.generate_content_stream(model="gemini-2.5-flash", **request)
        return [_json(chunk) async for chunk in made]
    return _json(await client.models.generate_content(model="gemini-2.5-flash", **request))


def _mistral(url):
    from mistralai.client import Mistral

    return Mistral(api_key=KEY, server_url=url)


async def _mistral_chat(client, request, stream):
    if stream:
        async with await client.chat.stream_async(model="mistral-small-latest", **request) as made:
            return [_json(event.data) async for event in made]
    return _json(await client.chat.complete_async(model="mistral-small-latest", **request))


def _bedrock(url):
    return contextlib.closing(bedrock_client(url, attempts=1))


def _converse(client, request, stream):
    if stream:
        return [*client.converse_stream(modelId=HAIKU, **request)["stream"]]
    return client.converse(modelId=HAIKU, **request)


def _invoke(client, request, stream):
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, **request})
    if stream:
        made = client.invoke_model_with_response_stream(modelId=HAIKU, body=body)
        return [json.loads(event["chunk"]["bytes"]) for event in made["body"]]
    return json.loads(client.invoke_model(modelId=HAIKU, body=body)["body"].read())


class _Session:
    """A client of somebody's own, over requests."""

    def __init__(self, url):
        import requests

        self._url, self._session = f"{url}/v1/chat/completions", requests.Session()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._session.close()

    def ask(self, request, stream):
        asked = {"model": "local", "stream": stream, **request}
        headers = {"authorization": f"Bearer {KEY}"}
        with self._session.post(self._url, json=asked, headers=headers, stream=stream, timeout=30) as answer:
            if answer.status_code >= 400:
                raise OSError(answer.text)
            if not stream:
                return answer.json()
            chunks = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith(b"data: {")]
            if any("error" in chunk for chunk in chunks):
                raise OSError(chunks[-1])
            return chunks


ASYNC = {
    "chat_completions": Vendor("chat_completions", "openai-chat", _openai, _chat),
    "responses": Vendor("responses", "openai-responses", _openai, _responses),
    "messages": Vendor("messages", "anthropic", _anthropic, _messages),
    "generate_content": Vendor("generate_content", "gemini", _gemini, _generate),
    "mistral": Vendor("chat_completions", "mistral", _mistral, _mistral_chat),
}
BLOCKING = {
    "chat_blocking": Vendor("chat_completions", "openai-chat", _blocking_openai, _blocking_chat),
    "converse": Vendor("converse", "bedrock", _bedrock, _converse),
    "invoke_model": Vendor("invoke_model", "anthropic", _bedrock, _invoke),
    "requests": Vendor("chat_completions", "openai-chat", _Session, _Session.ask),
}


def openai_model(url):
    """A model of Pydantic AI that asks at this URL."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=_openai(url)))
