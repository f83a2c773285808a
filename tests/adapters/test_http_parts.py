"""The parts of `record_http` that need no server: what is a call, what is a credential, how streams are cut."""

from __future__ import annotations

import json

import pytest

from kitaru.adapters.http.credentials import HIDDEN, hide, secrets_of, unhide, without_query
from kitaru.adapters.http.endpoints import endpoint_of
from kitaru.adapters.http.framing import framing_of
from kitaru.adapters.http.usage import metadata_of


def endpoint(path, body, method="POST"):
    return endpoint_of(method, path, lambda: json.dumps(body).encode())


CHAT = {"model": "m", "messages": []}


@pytest.mark.parametrize(
    ("path", "body", "name", "model"),
    [
        ("/v1/chat/completions", CHAT, "chat_completions", "m"),
        ("/openai/deployments/d/chat/completions", {"messages": []}, "chat_completions", None),
        ("/v1/responses", {"model": "m", "input": "a"}, "responses", "m"),
        ("/v1/messages", {**CHAT, "max_tokens": 1}, "messages", "m"),
        ("/v1beta/models/g:streamGenerateContent", {"contents": []}, "generate_content", "g"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict", {"messages": [], "max_tokens": 1},
         "messages", "c"),
        ("/model/a%3A0/converse", {"messages": []}, "converse", "a:0"),
        ("/model/arn%3Aaws%3Aprofile%2Fx/converse", {"messages": []}, "converse", "arn:aws:profile/x"),
        ("/model/a/invoke", {"prompt": "a"}, "invoke_model", "a"),
    ],
)  # fmt: skip
def test_a_call_of_a_model_is_known_by_its_path_and_its_json(path, body, name, model):
    found = endpoint(path, body)
    assert (found.wire.name, found.arguments().get("model")) == (name, model)


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        ("/v1/responses", {"text": "of a survey"}, "POST"),
        ("/v1/messages", {"messages": []}, "POST"),
        ("/v1/responses/r/cancel", {"model": "m", "input": "a"}, "POST"),
        ("/v1/chat/completions", CHAT, "GET"),
        ("/v1/chat/completions", [], "POST"),
    ],
)
def test_what_only_looks_like_one_is_none(path, body, method):
    assert endpoint(path, body, method) is None


def test_an_edited_call_keeps_what_was_not_edited_and_its_credentials():
    tools = [{"type": "mcp", "authorization": "sk-1234567890", "headers": {"X-Any": "abc"}}]
    found = endpoint("/v1/responses", {"model": "m", "input": "a", "tools": tools, "top_p": 1, "api_key": "secret"})
    arguments = found.arguments()
    assert arguments["tools"] == [{"type": "mcp", "authorization": HIDDEN, "headers": {"X-Any": HIDDEN}}]
    assert arguments["settings"] == {"top_p": 1, "api_key": HIDDEN}
    edited = {**arguments, "model": "n", "settings": {"api_key": HIDDEN, "temperature": 0}}
    assert json.loads(found.body(edited)) == {
        "model": "n", "input": "a", "tools": tools, "api_key": "secret", "temperature": 0,
    }  # fmt: skip
    assert endpoint("/model/a/converse", {"messages": []}).path("/model/a/converse", {"model": "b:0"}) == (
        "/model/b%3A0/converse"
    )


def test_credentials_are_found_as_they_may_be_repeated():
    headers = [
        ("Authorization", "Bearer sk-1234567890"),
        ("Proxy-Authorization", "Basic bWU6cGFzc3dvcmQtMQ=="),
        ("Cookie", "session=cookie-value-1; b=2"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIA1234567/20260101/r, SignedHeaders=host, Signature=abcdef0123",
        ),
        ("Content-Type", "application/json"),
    ]
    found = secrets_of(
        "https://user-name:pass-word@x/v1?key=AIza12345678&alt=sse-and-more&api_key=b%2Bc12345678", headers
    )
    assert {
        "sk-1234567890", "password-1", "me:password-1", "cookie-value-1", "AKIA1234567", "abcdef0123", "AIza12345678",
        "pass-word", "user-name", "b+c12345678",
    } <= {*found}  # fmt: skip
    assert not {"application/json", "sse-and-more"} & {*found}
    assert without_query("https://me:pass@x:1/v1?key=a") == "https://x:1/v1"


def test_what_is_hidden_comes_back_at_its_place_alone():
    sent = {"a": {"token": "t1"}, "list": [{"password": "p"}], "n": 1}
    assert hide(sent) == {"a": {"token": HIDDEN}, "list": [{"password": HIDDEN}], "n": 1}
    assert unhide(hide(sent), sent) == sent


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_server_sent_events_are_cut_wherever_the_network_cuts(size, newline):
    text = b': ping\n\nevent: a\ndata: {"n": 1}\n\ndata: one\ndata: two\n\ndata:[DONE]\n\nid: 3\n\n'.replace(
        b"\n", newline
    )
    framing = framing_of("text/event-stream; charset=utf-8")
    events = [e for at in range(0, len(text), size) for e in framing.take(text[at : at + size])]
    events += framing.take(b"\n\n") if newline == b"\r" else []
    assert events == [{"event": "a", "data": {"n": 1}}, {"data": "one\ntwo"}, {"data": "[DONE]"}]
    again = framing_of("text/event-stream")
    assert [e for event in events for e in again.take(framing.put(event))] == events


def test_events_of_amazon_are_read_and_made_as_botocore_does():
    from botocore.eventstream import EventStreamBuffer

    events = [{"event": "chunk", "data": {"n": 1}}, {"event": "throttlingException", "kind": "exception", "data": {}}]
    framing = framing_of("application/vnd.amazon.eventstream")
    made = b"".join(framing.put(event) for event in events)
    assert [e for at in range(len(made)) for e in framing.take(made[at : at + 1])] == events
    buffer = EventStreamBuffer()
    buffer.add_data(made)
    first, second = buffer
    assert (first.headers[":event-type"], json.loads(first.payload)) == ("chunk", {"n": 1})
    assert second.headers[":exception-type"] == "throttlingException"


def test_a_key_is_masked_in_an_event_wherever_the_network_cuts():
    framing = framing_of("text/event-stream", lambda data: data.replace(b"sk-long", b"hidden"))
    text = b'data: {"said": "sk-long"}\n\n'
    (event,) = [e for n in range(len(text)) for e in framing.take(text[n : n + 1])]
    assert "sk-long" not in event["data"]["said"]


@pytest.mark.parametrize(
    ("usage", "given", "output", "cached"),
    [
        (
            {"usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}},
            9,
            3,
            4,
        ),
        ({"usage": {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 4}}, 13, 3, 4),
        ({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}}, 9, 5, None),
        ({"usage": {"inputTokens": 9, "outputTokens": 3}}, 9, 3, None),
    ],
)
def test_tokens_are_counted_in_each_format(usage, given, output, cached):
    found = metadata_of("unknown-model", "http://x", usage, is_stream=False)
    assert (found["input_tokens"], found["output_tokens"], found["tokens"]) == (given, output, given + output)
    assert found.get("cached_tokens") == cached
    assert "cost" not in found
    assert metadata_of("gpt-4o-mini", "https://api.openai.com/v1", usage, is_stream=False)["cost"] > 0
    assert metadata_of("m", "http://x", {}, is_stream=False) == {"model": "m"}
