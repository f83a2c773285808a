"""The vendors' own clients, each asked the same: one answer, and one stream, sync and async."""

from __future__ import annotations

import functools
import warnings

KEY = "sk-planted-0123456789"
QUESTION = "why is the sky blue"


@functools.cache
def openai(url, asynchronous=False):
    import openai

    kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    return kind(base_url=f"{url}/v1", api_key=KEY, max_retries=2)


def chat(url, question=QUESTION, model="gpt-4o-mini"):
    made = openai(url).chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    return made.choices[0].message.content


def chat_stream(url, question=QUESTION):
    messages = [{"role": "user", "content": question}]
    with openai(url).chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def responses(url, question=QUESTION):
    return openai(url).responses.create(model="gpt-4o-mini", input=question, instructions="be brief").output_text


def responses_stream(url, question=QUESTION):
    with openai(url).responses.create(model="gpt-4o-mini", input=question, stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta


@functools.cache
def anthropic(url, asynchronous=False):
    import anthropic

    kind = anthropic.AsyncAnthropic if asynchronous else anthropic.Anthropic
    return kind(base_url=url, api_key=KEY)


def asked_of_anthropic(question):
    messages = [{"role": "user", "content": question}]
    return {"model": "claude-3-5-haiku-latest", "max_tokens": 9, "messages": messages, "system": "be brief"}


def messages(url, question=QUESTION):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the model's name
        return anthropic(url).messages.create(**asked_of_anthropic(question)).content[0].text


def messages_stream(url, question=QUESTION):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with anthropic(url).messages.stream(**asked_of_anthropic(question)) as stream:
            yield from stream.text_stream


@functools.cache
def gemini(url):
    from google import genai

    return genai.Client(api_key=KEY, http_options={"base_url": url})


def generate(url, question=QUESTION):
    return gemini(url).models.generate_content(model="gemini-2.5-flash", contents=question).text


def generate_stream(url, question=QUESTION):
    for chunk in gemini(url).models.generate_content_stream(model="gemini-2.5-flash", contents=question):
        yield chunk.text


@functools.cache
def mistral(url):
    from mistralai.client import Mistral

    return Mistral(api_key=KEY, server_url=url)


def mistral_chat(url, question=QUESTION):
    made = mistral(url).chat.complete(model="mistral-small-latest", messages=[{"role": "user", "content": question}])
    return made.choices[0].message.content


def mistral_stream(url, question=QUESTION):
    messages = [{"role": "user", "content": question}]
    with mistral(url).chat.stream(model="mistral-small-latest", messages=messages) as stream:
        for event in stream:
            yield event.data.choices[0].delta.content or ""


@functools.cache
def bedrock(url):
    return bedrock_client(url, attempts=3)


@functools.cache
def _session():
    import boto3

    return boto3.Session()  # it keeps the descriptions that clients are made of


def bedrock_client(url, attempts):
    from botocore.config import Config

    return _session().client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIAPLANTED012345",
        aws_secret_access_key=KEY,
        aws_session_token="session-planted-0123",
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
    )


HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"


def converse(url, question=QUESTION):
    messages = [{"role": "user", "content": [{"text": question}]}]
    return bedrock(url).converse(modelId=HAIKU, messages=messages)["output"]["message"]["content"][0]["text"]


def converse_stream(url, question=QUESTION):
    messages = [{"role": "user", "content": [{"text": question}]}]
    for event in bedrock(url).converse_stream(modelId=HAIKU, messages=messages)["stream"]:
        if "contentBlockDelta" in event:
            yield event["contentBlockDelta"]["delta"]["text"]


def invoke(url, question=QUESTION):
    import json

    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    body["messages"] = [{"role": "user", "content": question}]
    answer = bedrock(url).invoke_model(modelId=HAIKU, body=json.dumps(body))
    return json.loads(answer["body"].read())["content"][0]["text"]


def invoke_stream(url, question=QUESTION):
    import json

    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    body["messages"] = [{"role": "user", "content": question}]
    answer = bedrock(url).invoke_model_with_response_stream(modelId=HAIKU, body=json.dumps(body))
    for event in answer["body"]:
        data = json.loads(event["chunk"]["bytes"])
        if data["type"] == "content_block_delta":
            yield data["delta"]["text"]


def by_requests(url, question=QUESTION):
    import requests

    asked = {"model": "local", "messages": [{"role": "user", "content": question}]}
    answer = requests.post(f"{url}/v1/chat/completions?key={KEY}", json=asked, timeout=30)
    answer.raise_for_status()
    return answer.json()["choices"][0]["message"]["content"]


def by_requests_stream(url, question=QUESTION):
    import json

    import requests

    asked = {"model": "local", "messages": [{"role": "user", "content": question}], "stream": True}
    answer = requests.post(f"{url}/v1/chat/completions", json=asked, stream=True, timeout=30, auth=("me", KEY))
    answer.raise_for_status()
    with answer:
        for line in answer.iter_lines():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])["choices"][0]["delta"].get("content", "")


ONE = {
    "chat_completions": chat,
    "responses": responses,
    "messages": messages,
    "generate_content": generate,
    "mistral": mistral_chat,
    "converse": converse,
    "invoke_model": invoke,
    "requests": by_requests,
}
STREAMS = {
    "chat_completions": chat_stream,
    "responses": responses_stream,
    "messages": messages_stream,
    "generate_content": generate_stream,
    "mistral": mistral_stream,
    "converse": converse_stream,
    "invoke_model": invoke_stream,
    "requests": by_requests_stream,
}
STEP = {"mistral": "chat_completions", "requests": "chat_completions"}
SAID = f"1: {QUESTION}"
