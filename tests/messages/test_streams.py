"""Streams: chunks put together are the response that the plain call would have given."""

from __future__ import annotations

import pytest

from kitaru.errors import UsageError
from kitaru.messages import FORMATS, Text, Thinking, ToolCall, Usage, assemble, read


def chat_chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": [choice], **more}


def call(number, arguments, **more):
    return {"tool_calls": [{"index": number, **more, "function": {"arguments": arguments}}]}


OPENAI_CHAT = [
    chat_chunk({"role": "assistant", "content": "", "refusal": None}),
    chat_chunk({"content": "I "}),
    chat_chunk({"content": "look."}),
    chat_chunk(
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    ),
    chat_chunk(call(0, '{"p":')),
    chat_chunk(
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}
    ),
    chat_chunk(call(0, '"numpy"}')),
    chat_chunk(call(1, "{}")),
    chat_chunk({}, "tool_calls"),
    {**chat_chunk({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}},
    "[DONE]",
]


def test_a_chat_completion():
    assert assemble("openai-chat", OPENAI_CHAT) == {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-5",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": {
            "role": "assistant", "content": "I look.", "refusal": None, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"p":"numpy"}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }  # fmt: skip


def test_two_choices_and_thoughts_of_a_compatible_server():
    chunks = [
        {"choices": [{"index": n, "delta": {"reasoning_content": "Hm", "content": None}}]} for n in (1, 0)
    ] + [{"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]}]  # fmt: skip
    messages = read(assemble("openai-chat", chunks)).messages
    assert [m.parts for m in messages] == [(Thinking("Hm"), Text("A")), (Thinking("Hm"), Text("B"))]


def test_a_chat_completion_that_was_cut_off():
    (message,) = read(assemble("openai-chat", OPENAI_CHAT[:5])).messages
    assert message.parts == (Text("I look."), ToolCall("a", "f", '{"p":'))
    assert assemble("openai-chat", OPENAI_CHAT[:5])["choices"][0]["finish_reason"] is None


def test_mistral_with_thoughts():
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in ("Two ", "packages.")]
    deltas = [
        {"role": "assistant", "content": ""},
        *({"content": [t]} for t in thought),
        {"content": "B"},
        {"content": "SD"},
    ]
    done = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    out = assemble("mistral", [*({"id": "m", "choices": [{"index": 0, "delta": d}]} for d in deltas), done])
    assert out["choices"][0] == {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Two packages."}]}, {"type": "text",
         "text": "BSD"}]}}  # fmt: skip
    plain = assemble("mistral", [{"choices": [{"index": 0, "delta": {"content": c}}]} for c in "BSD"])
    assert plain["choices"][0]["message"]["content"] == "BSD"


ITEM = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
CALL = {"type": "function_call", "id": "f", "call_id": "c", "name": "get", "arguments": "", "status": "in_progress"}
PART = {"output_index": 1, "item_id": "m", "content_index": 0}
OPENAI_RESPONSES = [
    {"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs", "summary": []}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "Two "},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "packages."},
    {"type": "response.output_item.added", "output_index": 1, "item": ITEM},
    {"type": "response.content_part.added", **PART, "part": {"type": "output_text", "text": "", "annotations": []}},
    {"type": "response.output_text.delta", **PART, "delta": "B"},
    {"type": "response.output_text.delta", **PART, "delta": "SD"},
    {"type": "response.output_item.added", "output_index": 2, "item": CALL},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "f", "delta": '{"a": '},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "f", "delta": "1}"},
    {"type": "response.output_item.done", "output_index": 2, "item": {**CALL, "arguments": '{"a": 1}',
     "status": "completed"}},
]  # fmt: skip


def test_a_response_is_what_the_last_event_says_or_what_came():
    end = {"id": "r", "object": "response", "status": "completed", "output": [ITEM], "usage": {"input_tokens": 1}}
    assert assemble("openai-responses", [*OPENAI_RESPONSES, {"type": "response.completed", "response": end}]) == end
    out = assemble("openai-responses", OPENAI_RESPONSES)
    assert out["status"] == "in_progress"
    assert [p for m in read(out).messages for p in m.parts] == [
        Thinking("Two packages."), Text("BSD"), ToolCall("c", "get", {"a": 1})
    ]  # fmt: skip


def block(number, start, *deltas):
    return [
        {"type": "content_block_start", "index": number, "content_block": start},
        *({"type": "content_block_delta", "index": number, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": number},
    ]


def anthropic():
    usage = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}
    head = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude", "stop_reason": None}
    return [
        {"type": "message_start", "message": {**head, "usage": usage}},
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "H"},
               {"type": "thinking_delta", "thinking": "m"}, {"type": "signature_delta", "signature": "Eq"}),
        {"type": "ping"},
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I "}, {"type": "text_delta",
         "text": "look"},
               {"type": "citations_delta", "citation": {"cited_text": "x"}}),
        *block(2, {"type": "tool_use", "id": "t", "name": "get", "input": {}}, {"type": "input_json_delta",
         "partial_json": ""},
               {"type": "input_json_delta", "partial_json": '{"a": [1'}, {"type": "input_json_delta",
                "partial_json": "]}"}),
        *block(3, {"type": "tool_use", "id": "u", "name": "now", "input": {}}, {"type": "input_json_delta",
         "partial_json": ""}),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]  # fmt: skip


def test_an_anthropic_message():
    assert assemble("anthropic", anthropic()) == {
        "id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "stop_sequence": None, "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 12},
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "Eq"},
            {"type": "text", "text": "I look", "citations": [{"cited_text": "x"}]},
            {"type": "tool_use", "id": "t", "name": "get", "input": {"a": [1]}},
            {"type": "tool_use", "id": "u", "name": "now", "input": {}},
        ],
    }  # fmt: skip
    cut = read(assemble("anthropic", anthropic()[:15]), "anthropic")
    assert cut.messages[0].parts[2] == ToolCall("t", "get", '{"a": [1')
    assert cut.usage == Usage(7, 1, 4)


def test_gemini():
    def chunk(*parts, **more):
        return {"candidates": [{"content": {"role": "model", "parts": [*parts]}, **more}], "modelVersion": "g"}

    call = {"functionCall": {"name": "get", "args": {"a": 1}}, "thoughtSignature": "Eq"}
    out = assemble("gemini", [
        chunk({"text": "Two ", "thought": True}),
        chunk({"text": "packages.", "thought": True}),
        chunk({"text": "I "}),
        {**chunk({"text": "look."}), "usageMetadata": {"promptTokenCount": 3}},
        {**chunk(call, finishReason="STOP"), "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5}},
    ])  # fmt: skip
    assert out == {
        "candidates": [{"content": {"role": "model", "parts": [
            {"text": "Two packages.", "thought": True}, {"text": "I look."}, call]}, "finishReason": "STOP"}],
        "modelVersion": "g",
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5},
    }  # fmt: skip


def test_bedrock():
    def delta(number, **delta):
        return {"contentBlockDelta": {"contentBlockIndex": number, "delta": delta}}

    start = {"toolUse": {"toolUseId": "t", "name": "get"}}
    out = assemble("bedrock", [
        {"messageStart": {"role": "assistant"}},
        delta(0, reasoningContent={"text": "H"}), delta(0, reasoningContent={"text": "m"}),
        delta(0, reasoningContent={"signature": "Eq"}), {"contentBlockStop": {"contentBlockIndex": 0}},
        delta(1, text="I "), delta(1, text="look."),
        {"contentBlockStart": {"contentBlockIndex": 2, "start": start}},
        delta(2, toolUse={"input": '{"a"'}), delta(2, toolUse={"input": ": 1}"}),
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}, "metrics": {"latencyMs": 1}}},
    ])  # fmt: skip
    assert out == {
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "Eq"}}},
            {"text": "I look."},
            {"toolUse": {"toolUseId": "t", "name": "get", "input": {"a": 1}}}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
        "metrics": {"latencyMs": 1},
    }  # fmt: skip


def test_pydantic_ai():
    def event(number, **delta):
        return {"event_kind": "part_delta", "index": number, "delta": delta}

    def start(number, **part):
        return {"event_kind": "part_start", "index": number, "part": part}

    out = assemble("pydantic-ai", [
        start(0, part_kind="thinking", content="", signature=None),
        event(0, content_delta="Hm", part_delta_kind="thinking"),
        event(0, content_delta=None, signature_delta="Eq", part_delta_kind="thinking"),
        start(1, part_kind="text", content="I "), event(1, content_delta="look.", part_delta_kind="text"),
        {"event_kind": "final_result", "tool_name": None},
        start(2, part_kind="tool-call", tool_name="get", args=None, tool_call_id="c"),
        event(2, args_delta='{"a": ', part_delta_kind="tool_call"), event(2, args_delta="1}",
         part_delta_kind="tool_call"),
    ])  # fmt: skip
    assert [p for m in read(out).messages for p in m.parts] == [
        Thinking("Hm", "Eq"), Text("I look."), ToolCall("c", "get", {"a": 1})
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_came(name):
    assert assemble(name, []) == {}
    assert assemble(name, ["[DONE]", {}, {"type": "ping"}, None]) is not None


def test_there_is_no_such_format():
    with pytest.raises(UsageError, match="no format 'nope'"):
        assemble("nope", [])
