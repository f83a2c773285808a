"""Each wire format in the neutral form and back: nothing is lost, and an edit changes just what it says."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from kitaru.errors import UsageError
from kitaru.messages import (
    FORMATS,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
    convert,
    detect,
    read,
)

from .samples import ANTHROPIC, BEDROCK, EVERY, GEMINI, IDS, OPENAI_CHAT, OPENAI_RESPONSES, PYDANTIC_AI, SAMPLES


def leaves(wire, path=()):
    """Every leaf of plain data by its path, in order."""
    if isinstance(wire, dict) and wire:
        return {p: leaf for key, item in wire.items() for p, leaf in leaves(item, (*path, key)).items()}
    if isinstance(wire, list) and wire:
        return {p: leaf for n, item in enumerate(wire) for p, leaf in leaves(item, (*path, n)).items()}
    return {path: repr(wire)}


def edited(chat, m, p, part):
    """The chat with another part at a place."""
    message = chat.messages[m]
    parts = (*message.parts[:p], part, *message.parts[p + 1 :])
    return replace(chat, messages=(*chat.messages[:m], replace(message, parts=parts), *chat.messages[m + 1 :]))


def places(chat):
    return [(m, p, part) for m, message in enumerate(chat.messages) for p, part in enumerate(message.parts)]


def changed(part):
    """The part with something else in it; None where that is no edit of one text or one value."""
    match part:
        case Thinking(text="", signature=str(kept)) if kept:
            return None  # what is encrypted is not edited
        case Text() | Thinking():
            return replace(part, text=f"{part.text}, changed")
        case ToolCall(arguments=dict()):
            return replace(part, arguments={**part.arguments, "new": 1})
        case ToolCall():
            return replace(part, arguments=f"{part.arguments} x")
        case ToolResult(content=str()):
            return replace(part, content=f"{part.content}, changed")
        case Image(source=str()):
            return replace(part, source="https://example.org/other.png")
        case Image():
            return replace(part, source=b"other")
    return None


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=IDS)
def test_a_format_is_recognised_read_and_written_back(name, about, wire):
    before = json.dumps(wire)
    chat = read(wire)
    assert (detect(wire), chat.format) == (name, name)
    assert json.dumps(chat.wire()) == before
    assert chat.messages
    assert json.dumps(read(copy.deepcopy(wire), name).wire()) == before


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=IDS)
def test_an_edit_changes_just_that(name, about, wire):
    chat, before = read(wire), leaves(wire)
    for m, p, part in places(chat):
        if (other := changed(part)) is None:
            continue
        new = edited(chat, m, p, other).wire()
        after = leaves(new)
        differ = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        short = [path for path in differ if not any(path[: len(o)] == o for o in differ - {path})]
        assert 1 <= len(short) <= (3 if isinstance(part, Thinking) else 2), (part, short)
        kept = [path for path in before if path not in differ]
        assert kept == [path for path in after if path in kept], "the order of what stayed"
        assert places(read(new, name))[places(chat).index((m, p, part))][2] == other
        assert json.dumps(chat.wire()) == json.dumps(wire), "what was read stays as it was"


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=IDS)
def test_an_edit_that_is_taken_back_leaves_no_trace(name, about, wire):
    chat = read(wire)
    for m, p, part in places(chat):
        if (other := changed(part)) is not None:
            again = read(edited(chat, m, p, other).wire(), name)
            back = edited(again, m, p, replace(again.messages[m].parts[p], **_fields(part))).wire()
            assert _plain(back) == _plain(wire), part


def _fields(part):
    names = {"Text": ["text"], "Thinking": ["text"], "ToolCall": ["arguments"], "ToolResult": ["content"]}
    return {name: getattr(part, name) for name in names.get(type(part).__name__, ["source", "media_type"])}


def _plain(wire):
    """As JSON; thoughts that came in several blocks are one after an edit."""
    return (
        json.dumps(wire)
        .replace('"tu_3", "content": ""', '"tu_3"')
        .replace('One."}, {"type": "summary_text", "text": "Two', "One.\\n\\nTwo")
    )


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=IDS)
def test_turns_are_taken_out_one_by_one(name, about, wire):
    chat = read(wire)
    for m in range(len(chat.messages)):
        rest = (*chat.messages[:m], *chat.messages[m + 1 :])
        new = replace(chat, messages=rest).wire()
        if (
            isinstance(wire, dict)
            and ("output" not in wire or name == "bedrock")
            and "choices" not in wire
            and len(chat.messages) == 1
        ):
            continue  # it was that message
        assert read(new, name).messages == rest


def test_what_each_format_says():
    chat = read(ANTHROPIC["tools"])
    assert [m.role for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert chat.messages[0].parts == (Text("Be brief."), Text("Be kind."))
    assert chat.messages[0].parts[0].extra == {"type": "text", "cache_control": {"type": "ephemeral"}}
    assert chat.messages[1].parts[1:3] == (
        Image(b"\x89PNG\r\n\x1a\n\xfb\xff", "image/png"), Image("https://example.org/a.png")
    )  # fmt: skip
    assert isinstance(chat.messages[1].parts[3], Unknown)
    assert chat.messages[2].parts[0] == Thinking("Two packages.", "EqQB")
    assert chat.messages[2].parts[3] == ToolCall("tu_1", "get_licence", {"package": "numpy"})
    result = chat.messages[3].parts[1]
    assert (result.id, result.error, result.content[0]) == ("tu_2", True, Text("No such package"))
    chat = read(OPENAI_CHAT["tools"])
    assert chat.messages[3].parts == (
        ToolCall("call_1", "get_licence", {"package": "numpy", "deep": True}),
        ToolCall("call_2", "get_licence", '{"package":"sci'),
    )
    assert chat.messages[5].parts == (ToolResult("call_2", "no JSON"),)
    assert chat.messages[0].extra == {}
    assert read(OPENAI_CHAT["plain"]).messages[0].extra == {"name": "Ada"}
    assert [m.role for m in read(OPENAI_RESPONSES["items"]).messages[:7]] == [
        "developer", "user", "assistant", "assistant", "assistant", "tool", "tool"
    ]  # fmt: skip
    assert read(OPENAI_RESPONSES["text"]).messages == (Message("system", (Text("Be brief."),)), Message("user",
        (Text("Which licence?"),)))  # fmt: skip
    assert read(GEMINI["tools"]).messages[3].parts[0] == ToolResult("", {"result": "BSD"}, name="get_licence")
    assert read(BEDROCK["tools"]).messages[3].parts[1].error
    assert [m.role for m in read(PYDANTIC_AI["tools"]).messages] == [
        "system", "system", "user", "user", "assistant", "tool", "tool", "tool", "user", "unknown"
    ]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_tokens_are_counted_alike(name):
    usage = read(SAMPLES[name]["response"]).usage
    reasoning = 0 if name in {"anthropic", "bedrock", "mistral"} else 8
    assert usage == Usage(9, 12, 4, reasoning)


@pytest.mark.parametrize(
    "thing",
    [
        None, 1, "text", [], {}, [1], [{}], [[]], {"role": "user"}, {"role": "admin", "content": "x"}, {"messages": []},
        {"content": "x"}, {"messages": {"a": 1}}, [{"role": "user", "n": 1}], {"choices": []}, {"output": []},
        {"output": {"message": "x"}}, {"input": "x"}, {"input": [1], "model": "x"}, {"candidates": [1]},
        {"parts": [1]}, {"parts": [{"text": "a"}]}, {"contents": [{"parts": "x"}]}, {"kind": "request", "parts": [1]},
        {"type": "message"}, [{"kind": "response"}], {"system": "linux", "messages": ["booted"]}, {"system": "a"},
    ],
)  # fmt: skip
def test_other_things_are_no_chat(thing):
    assert detect(thing) is None
    with pytest.raises(UsageError, match="no messages of a format that is known"):
        read(thing)


def test_a_turn_can_be_added_and_a_role_changed():
    chat = read(OPENAI_CHAT["plain"])
    more = Message("assistant", (Text("Yes?"), ToolCall("1", "f", {"a": "ä"})))
    (first,) = chat.messages
    wire = replace(chat, messages=(replace(first, role="system"), more)).wire()
    assert wire["messages"] == [
        {"role": "system", "content": "Hi", "name": "Ada"},
        {"role": "assistant", "content": "Yes?", "tool_calls": [
            {"type": "function", "id": "1", "function": {"name": "f", "arguments": '{"a": "ä"}'}}]},
    ]  # fmt: skip


def test_a_text_that_stands_for_a_turn_becomes_one_beside_another():
    chat = read(OPENAI_RESPONSES["text"])
    wire = replace(chat, messages=(*chat.messages, Message("user", (Text("Please."),)))).wire()
    assert wire["input"] == [{"role": "user", "content": "Which licence?"}, {"role": "user", "content": "Please."}]


NEUTRAL = [
    Message("system", (Text("Be brief."),)),
    Message("user", (Text("Which?"), Image(b"png", "image/png"))),
    Message("assistant", (Text("I look."), ToolCall("c1", "get_licence", {"package": "numpy"}))),
    Message("tool", (ToolResult("c1", "BSD"),)),
    Message("assistant", (Text("BSD."),)),
]


@pytest.mark.parametrize("name", FORMATS)
def test_messages_are_written_in_any_format(name):
    wire = convert(NEUTRAL, name)
    said = [(m.role, part) for m in read(wire, name).messages for part in m.parts]
    roles = {role for role, _ in said}
    assert roles <= {"system", "user", "assistant", "tool"}
    assert [part for _, part in said if isinstance(part, Text | ToolCall | Image)] == [
        replace(part, id="c1") if isinstance(part, ToolCall) else part
        for m in NEUTRAL for part in m.parts if isinstance(part, Text | ToolCall | Image)
    ]  # fmt: skip
    (result,) = [part for _, part in said if isinstance(part, ToolResult)]
    assert result.content in ("BSD", {"result": "BSD"})
    assert name in (detect(wire), "mistral")


def test_what_a_format_cannot_say_is_an_error():
    with pytest.raises(UsageError, match="no form for Text in a turn of 'narrator'"):
        convert([Message("narrator", (Text("Hm."),))], "bedrock")
    with pytest.raises(UsageError, match="no list of messages here that another one could be added to"):
        replace(read({"role": "user", "content": "Hi"}), messages=tuple(NEUTRAL)).wire()
    chat = read(ANTHROPIC["tools"])
    with pytest.raises(UsageError, match="holds no text, and none can be given to it"):
        edited(chat, 2, 1, Thinking("Hm.", "Emwx", origin=chat.messages[2].parts[1].origin)).wire()
    with pytest.raises(UsageError, match="no format 'nope'"):
        read({}, "nope")
    with pytest.raises(UsageError, match="names no tool, and answers no call"):
        convert([Message("tool", (ToolResult("c1", "BSD"),))], "pydantic-ai")


@pytest.mark.parametrize(
    ("name", "about", "wire"), [e for e in EVERY if e[1] in {"tools", "plain"} and e[0] != "pydantic-ai"]
)
def test_any_chat_becomes_messages_of_pydantic_ai(name, about, wire):
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    messages = read(wire).messages
    called = {part.id for m in messages for part in m.parts if isinstance(part, ToolCall)}

    def has_a_form(part):
        return not isinstance(part, Unknown) and not (isinstance(part, ToolResult) and part.id not in called)

    said = [replace(m, parts=tuple(filter(has_a_form, m.parts))) for m in messages]
    made = ModelMessagesTypeAdapter.validate_python(convert(said, "pydantic-ai"))
    texts = [part.text for m in said for part in m.parts if isinstance(part, Text) and part.text]
    again = read(ModelMessagesTypeAdapter.dump_python(made, mode="json"))
    assert [part.text for m in again.messages for part in m.parts if isinstance(part, Text) and part.text] == texts
    numbers = itertools.count(1)  # where a format has no ids
    calls = [(p.id or f"call_{next(numbers)}", p.name) for m in said for p in m.parts if isinstance(p, ToolCall)]
    assert [(p.id, p.name) for m in again.messages for p in m.parts if isinstance(p, ToolCall)] == calls
    results = [p.id for m in again.messages for p in m.parts if isinstance(p, ToolResult)]
    assert results == [call for call, _ in calls[: len(results)]]


# ---------------------------------------------------------------- any document

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutations(draw):
    """A sample in which something is anything, and to which something unknown was added."""
    name, _, wire = draw(st.sampled_from(EVERY))
    wire = copy.deepcopy(wire)
    for _ in range(draw(st.integers(1, 3))):
        at = wire
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else range(len(at))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) or not isinstance(at[key], dict | list):
                change = draw(st.sampled_from(["value", "extra", "gone"]))
                if change == "value":
                    at[key] = draw(JSON)
                elif change == "extra" and isinstance(at, dict):
                    at[draw(st.text(min_size=1, max_size=5))] = draw(JSON)
                else:
                    del at[key]
                break
            at = at[key]
    return name, wire


@given(mutations())
@settings(max_examples=300)
def test_nothing_is_lost_whatever_a_document_holds(found):
    name, wire = found
    detect(wire)
    chat, before = read(wire, name), repr(wire)
    assert repr(chat.wire()) == before
    for m, p, part in places(chat):
        if isinstance(part, Text):
            new = edited(chat, m, p, replace(part, text=f"{part.text}!")).wire()
            assert [*places(read(new, name))][places(chat).index((m, p, part))][2].text == f"{part.text}!"
            assert repr(wire) == before
            kept = [(n, other) for n, other in enumerate(leaves(wire).items())]
            assert sum(leaves(new).get(path) != leaf for _, (path, leaf) in kept) == 1


@given(st.sampled_from(FORMATS), JSON)
def test_any_data_is_read_and_written(name, wire):
    detect(wire)
    assert repr(read(wire, name).wire()) == repr(wire)
