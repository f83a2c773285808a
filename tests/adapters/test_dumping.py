"""Messages of Pydantic AI as data: read off their fields, as the serializer says them."""

from __future__ import annotations

from types import SimpleNamespace

from pydantic import BaseModel
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from kitaru.adapters.pydantic_ai import dumping
from kitaru.adapters.pydantic_ai.dumping import dump_messages


class Note(BaseModel):
    text: str


HISTORY = [
    ModelRequest([SystemPromptPart("Be brief."), UserPromptPart("Hello")], instructions="Say it."),
    ModelResponse(
        [ThinkingPart("so", signature="s"), TextPart("Hi")], model_name="m", provider_details={"a": [1, None]}
    ),
    ModelRequest([UserPromptPart(["Look:", BinaryContent(b"\x89PNG", media_type="image/png")])]),
    ModelResponse([ToolCallPart("look", {"deep": [{"a": 1.5}]}, "c1"), ToolCallPart("look", '{"a": 1}', "c2")]),
    ModelRequest([ToolReturnPart("look", "nothing", "c1"), ToolReturnPart("look", {"n": [True, None]}, "c2")]),
    ModelRequest([ToolReturnPart("look", Note(text="x"), "c3")]),
]


def test_messages_that_are_read_off_their_fields_are_what_the_serializer_says(monkeypatch):
    asked, adapter = [], dumping.ModelMessagesTypeAdapter

    def ask(messages, **options):
        asked.append([HISTORY.index(message) for message in messages])
        return adapter.dump_python(messages, **options)

    monkeypatch.setattr(dumping, "_is_read_off", {})
    monkeypatch.setattr(dumping, "ModelMessagesTypeAdapter", SimpleNamespace(dump_python=ask))
    first, second, third = (dump_messages(HISTORY) for _ in range(3))
    assert repr(first) == repr(second) == repr(third)
    assert asked == [[0, 1, 2, 3, 4, 5], [2, 4, 5], [2, 4, 5]], "what is more than data it is asked each time"


def test_a_message_that_was_changed_in_place_is_dumped_as_it_is_now():
    message = ModelResponse([ToolCallPart("look", {"a": 1}, "c1")])
    first = [dump_messages([message]) for _ in range(2)][-1]
    message.parts[0].args["a"] = 2
    assert (first[0]["parts"][0]["args"], dump_messages([message])[0]["parts"][0]["args"]) == ({"a": 1}, {"a": 2})
