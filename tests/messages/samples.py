"""Requests and responses as the providers' wire formats have them: by format, and by what they show."""

from __future__ import annotations

import base64
import json

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\xfb\xff").decode()
ARGUMENTS = json.dumps({"package": "numpy", "deep": True})
TOOLS = [{"type": "function", "function": {"name": "get_licence", "parameters": {"type": "object"}}}]


def _call(number, arguments=ARGUMENTS):
    return {"id": f"call_{number}", "type": "function", "function": {"name": "get_licence", "arguments": arguments}}


OPENAI_CHAT = {
    "plain": {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi", "name": "Ada"}], "temperature": 0},
    "tools": {
        "model": "gpt-5",
        "tools": TOOLS,
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "Which licence?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [_call(1), _call(2, '{"package":"sci')],
             "refusal": None},
            {"role": "tool", "tool_call_id": "call_1", "content": "BSD-3-Clause"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "no JSON"}]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}},
            ]},
        ],
    },
    "old functions": [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ],
    "response": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "BSD", "annotations": []},
             "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": None, "refusal": "No."}, "finish_reason": "stop"},
            {"index": 2, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [_call(1)]}},
        ],
        "usage": {
            "prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 8},
        },
    },
    "a message alone": {"role": "assistant", "content": "Hi", "audio": None},
}  # fmt: skip

OPENAI_RESPONSES = {
    "text": {"model": "gpt-5", "input": "Which licence?", "instructions": "Be brief."},
    "items": {
        "model": "gpt-5",
        "instructions": None,
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Which?"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                {"type": "input_file", "file_id": "file-2"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [
                {"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
             "encrypted_content": "gAAA"},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_licence", "arguments": ARGUMENTS},
            {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "get_licence", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "BSD"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "MIT"}]},
            {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "a b"},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search",
             "query": "q"}},
            {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "BSD", "annotations": []}, {"type": "refusal", "refusal": "No more."}]},
        ],
    },
    "response": {
        "id": "resp_1",
        "object": "response",
        "instructions": "Be brief.",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "BSD", "annotations": [], "logprobs": []}]},
        ],
        "usage": {
            "input_tokens": 9, "output_tokens": 12, "total_tokens": 21,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 8},
        },
    },
}  # fmt: skip

ANTHROPIC = {
    "a system prompt that is text": {
        "model": "claude-opus-5", "max_tokens": 9, "system": "Be brief.", "messages": [{"role": "user",
         "content": "Hi"}],
    },
    "tools": {
        "model": "claude-opus-5",
        "max_tokens": 1024,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
                   {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "…"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Two packages.", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "Emwx"},
                {"type": "text", "text": "I look.", "citations": None},
                {"type": "tool_use", "id": "tu_1", "name": "get_licence", "input": {"package": "numpy"}},
                {"type": "tool_use", "id": "tu_2", "name": "get_licence", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "tu_1", "content": "BSD"},
                {"type": "tool_result", "tool_use_id": "tu_2", "is_error": True, "content": [
                    {"type": "text", "text": "No such package"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
                {"type": "tool_result", "tool_use_id": "tu_3"},
                {"type": "text", "text": "Go on."},
            ]},
            {"role": "assistant", "content": []},
        ],
    },
    "response": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5", "stop_reason": "tool_use",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "tu_1", "name": "get_licence", "input": {"package": "numpy"}},
        ],
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4,
         "output_tokens": 12},
    },
}  # fmt: skip

GEMINI = {
    "tools": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "Which?"},
                {"inlineData": {"mimeType": "image/png", "data": PNG}},
                {"fileData": {"mimeType": "image/png", "fileUri": "gs://a/b.png"}},
            ]},
            {"role": "model", "parts": [
                {"text": "Two packages.", "thought": True},
                {"functionCall": {"name": "get_licence", "args": {"package": "numpy"}}, "thoughtSignature": "Eq"},
                {"functionCall": {"id": "f2", "name": "get_licence", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "get_licence", "response": {"result": "BSD"}}},
                {"functionResponse": {"id": "f2", "name": "get_licence", "response": {"error": "none"}}},
            ]},
            {"role": "model", "parts": [{"executableCode": {"language": "PYTHON", "code": "1"}}, {"text": ""}]},
            {"parts": [{"text": "Go on."}]},
        ],
        "generationConfig": {"temperature": 0},
    },
    "snake case": {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]},
            {"role": "model", "parts": [{"function_call": {"name": "f", "args": {"a": 1}}}]},
        ],
    },
    "response": {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "BSD", "thoughtSignature": "Eq"}]},
             "finishReason": "STOP"},
            {"finishReason": "SAFETY", "index": 1},
        ],
        "usageMetadata": {
            "promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 8, "cachedContentTokenCount": 4,
        },
    },
}  # fmt: skip

MISTRAL = {
    "tools": {
        "model": "mistral-large-latest",
        "safe_prompt": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "document_url", "document_url": "https://example.org/a.pdf"},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Two packages."}], "closed": True},
                {"type": "text", "text": "I look."}]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "a1", "function": {"name": "get_licence", "arguments": ARGUMENTS}, "index": 0},
                {"id": "a2", "function": {"name": "get_licence", "arguments": {"package": "scipy"}}},
            ]},
            {"role": "tool", "tool_call_id": "a1", "name": "get_licence", "content": "BSD"},
            {"role": "assistant", "content": "The licence", "prefix": True},
        ],
    },
    "response": {
        "id": "cmpl", "object": "chat.completion", "model": "mistral-small-latest",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "BSD", "tool_calls": None}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21,
                  "prompt_tokens_details": {"cached_tokens": 4}},
    },
}  # fmt: skip

BEDROCK = {
    "tools": {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {"role": "user", "content": [
                {"text": "Which?"},
                {"image": {"format": "png", "source": {"bytes": PNG}}},
                {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://a/b", "bucketOwner": "1"}}}},
                {"document": {"format": "pdf", "name": "a", "source": {"bytes": "AA=="}}},
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Two packages.", "signature": "Eq"}}},
                {"reasoningContent": {"redactedContent": "AA=="}},
                {"toolUse": {"toolUseId": "t1", "name": "get_licence", "input": {"package": "numpy"}}},
                {"toolUse": {"toolUseId": "t2", "name": "get_licence", "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "BSD"}], "status": "success"}},
                {"toolResult": {"toolUseId": "t2", "content": [{"json": {"no": 1}}, {"text": "x"}], "status": "error"}},
                {"toolResult": {"toolUseId": "t3", "content": []}},
            ]},
        ],
        "inferenceConfig": {"maxTokens": 512},
    },
    "response": {
        "output": {"message": {"role": "assistant", "content": [{"text": "BSD"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 5, "cacheReadInputTokens": 4, "outputTokens": 12, "totalTokens": 21},
        "metrics": {"latencyMs": 3},
    },
}  # fmt: skip

PYDANTIC_AI = {
    "tools": [
        {"kind": "request", "instructions": "Be brief.", "parts": [
            {"part_kind": "system-prompt", "content": "Be kind.", "timestamp": "2026-01-01T00:00:00Z"},
            {"part_kind": "user-prompt", "content": "Hi"},
            {"part_kind": "user-prompt", "content": [
                "Which?",
                {"kind": "image-url", "url": "https://example.org/a.png", "media_type": "image/png"},
                {"kind": "binary", "data": "-_8=", "media_type": "image/png", "identifier": "a"},
                {"kind": "audio-url", "url": "https://example.org/a.mp3"},
            ]},
        ]},
        {"kind": "response", "model_name": "m", "usage": {"input_tokens": 3, "output_tokens": 5}, "parts": [
            {"part_kind": "thinking", "content": "Two packages.", "signature": "Eq", "id": None},
            {"part_kind": "text", "content": "I look."},
            {"part_kind": "tool-call", "tool_name": "get_licence", "args": {"package": "numpy"}, "tool_call_id": "c1"},
            {"part_kind": "tool-call", "tool_name": "get_licence", "args": ARGUMENTS, "tool_call_id": "c2"},
        ]},
        {"kind": "request", "instructions": None, "parts": [
            {"part_kind": "tool-return", "tool_name": "get_licence", "content": {"r": [1]}, "tool_call_id": "c1"},
            {"part_kind": "tool-return", "tool_name": "get_licence", "content": "BSD", "tool_call_id": "c2",
             "outcome": "failed"},
            {"part_kind": "retry-prompt", "tool_name": "f", "content": [{"type": "missing"}], "tool_call_id": "c3"},
            {"part_kind": "retry-prompt", "tool_name": None, "content": "Plain text is not permitted"},
            {"part_kind": "brand-new", "content": 1},
        ]},
    ],
    "response": {
        "kind": "response", "parts": [{"part_kind": "text", "content": "BSD"}],
        "usage": {"input_tokens": 9, "cache_read_tokens": 4, "output_tokens": 12, "output_reasoning_tokens": 8},
    },
}  # fmt: skip

SAMPLES = {
    "anthropic": ANTHROPIC,
    "bedrock": BEDROCK,
    "gemini": GEMINI,
    "mistral": MISTRAL,
    "openai-chat": OPENAI_CHAT,
    "openai-responses": OPENAI_RESPONSES,
    "pydantic-ai": PYDANTIC_AI,
}
EVERY = [(name, about, wire) for name, samples in SAMPLES.items() for about, wire in samples.items()]
IDS = [f"{name}: {about}" for name, about, _ in EVERY]
