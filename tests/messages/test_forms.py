"""Chats as text: the transcript, and the blocks in which one edits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from kitaru.errors import UsageError
from kitaru.messages import Message, Text, ToolCall, Usage, from_text, read, to_text, transcript, turns

from .samples import ANTHROPIC, EVERY, GEMINI, IDS, OPENAI_CHAT

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which licence?", "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"package":"numpy"}'}},
        {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"package":"scipy"}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "BSD"},
    {"role": "tool", "tool_call_id": "c2", "content": "MIT"},
]  # fmt: skip


def after(wire, *edits):
    """The wire form after edits of its text."""
    chat = read(wire)
    text = to_text(chat)
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return from_text(chat, text).wire()


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=IDS)
def test_what_is_not_edited_stays_byte_for_byte(name, about, wire):
    chat, before = read(wire), json.dumps(wire)
    text = to_text(chat)
    for same in (
        text,
        text.rstrip("\n"),
        text.replace("\n\n[", "\n\n\n["),
        text.replace("\n", "\r\n").replace("\r\n[", "\n["),
    ):
        assert json.dumps(from_text(chat, same.replace("]\r\n", "]\n")).wire()) == before
    assert json.loads(before) == wire


def test_the_blocks_are_what_a_person_reads():
    assert to_text(read(CHAT)) == (
        "[system]\nBe brief.\n\n[user]\nWhich licence?\n\n"
        '[tool call look c1]\n{"package": "numpy"}\n\n[tool call look c2]\n{"package": "scipy"}\n\n'
        "[tool result c1]\nBSD\n\n[tool result c2]\nMIT\n"
    )


def test_one_turn_is_edited_and_nothing_else():
    wire = after(CHAT, ("Which licence?", "Which licence,\nplease?"))
    assert wire[1] == {"role": "user", "content": "Which licence,\nplease?", "name": "Ada"}
    assert [a is b for a, b in zip(wire, CHAT, strict=True)] == [True, False, True, True, True]
    wire = after(
        CHAT, ('{"package": "scipy"}', '{"package": "pandas"}'), ("tool result c2]\nMIT", "tool result c2]\nBSD")
    )
    assert wire[2]["tool_calls"][0] == CHAT[2]["tool_calls"][0]
    assert wire[2]["tool_calls"][1]["function"] == {"name": "look", "arguments": '{"package": "pandas"}'}
    assert (wire[3], wire[4]["content"]) == (CHAT[3], "BSD")


def test_names_ids_roles_and_errors_are_edited_in_the_head():
    wire = after(CHAT, ("[tool call look c1]", "[tool call find c9]"), ("[system]", "[developer]"))
    assert wire[2]["tool_calls"][0]["function"]["arguments"] == '{"package":"numpy"}'
    assert (wire[2]["tool_calls"][0]["function"]["name"], wire[2]["tool_calls"][0]["id"]) == ("find", "c9")
    assert wire[0] == {"role": "developer", "content": "Be brief."}
    wire = after(ANTHROPIC["tools"], ("[tool result tu_1]", "[tool result tu_1 error]"))
    assert wire["messages"][2]["content"][0] == {
        "type": "tool_result", "tool_use_id": "tu_1", "content": "BSD", "is_error": True
    }  # fmt: skip


def test_blocks_are_taken_out_and_put_in():
    gone = after(CHAT, ('[tool call look c2]\n{"package": "scipy"}\n\n', ""), ("[tool result c2]\nMIT\n", ""))
    assert gone == [*CHAT[:2], {**CHAT[2], "tool_calls": CHAT[2]["tool_calls"][:1]}, CHAT[3]]
    more = after(CHAT, ("[tool result c1]", '[tool call look c3]\n{"a": 1}\n\n[tool result c1]'))
    assert [c["id"] for c in more[2]["tool_calls"]] == ["c1", "c2", "c3"]
    more = after(
        CHAT, ("[tool result c2]\nMIT\n", "[tool result c2]\nMIT\n\n[assistant]\nBSD and MIT.\n\n[user]\nThanks.\n")
    )
    assert more == [*CHAT, {"role": "assistant", "content": "BSD and MIT."}, {"role": "user", "content": "Thanks."}]
    more = after(GEMINI["snake case"], ("[tool call f]", "[user]\nGo on.\n\n[tool call f]"))
    assert [c["role"] for c in more["contents"]] == ["user", "user", "model"]
    assert more["contents"][1] == {"role": "user", "parts": [{"text": "Go on."}]}


def test_text_that_looks_like_a_head_is_text():
    chat = read([{"role": "user", "content": "[user]\n\\back\n[tool call f 1]\n[1, 2]\n- [x] done"}])
    assert from_text(chat, to_text(chat)) == chat
    edited = from_text(chat, to_text(chat).replace("done", "to do"))
    assert edited.messages[0].text == "[user]\n\\back\n[tool call f 1]\n[1, 2]\n- [x] to do"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant", "odd role", "image"]),
            st.text() | st.sampled_from(["[user]", "\\", "\n", "a\n\n"]),
        ),
        max_size=5,
    )
)
def test_any_text_comes_back(said):
    wire = [
        {"role": "user", "content": [{"type": "text", "text": text} for _, text in said], "x": role}
        for role, text in said
    ]
    chat = read(wire, "openai-chat")
    assert from_text(chat, to_text(chat)).wire() == wire
    if said:
        text = to_text(chat)
        assert from_text(chat, f"{text}\n[user]\nLast.\n").wire() == [*wire, {"role": "user", "content": "Last."}]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (("[system]", "Hello\n[system]"), "begins with the head of a block"),
        (('{"package": "numpy"}', '{"package": '), "holds JSON, and this is none"),
        (("[tool call look c1]", "[tool call look c1 c2 c3]"), "is \\[tool call NAME ID\\]"),
        (("[tool result c1]", "[tool result c1 c2]"), "is \\[tool result ID\\]"),
        (("[system]", "[image image/png 9 bytes]\n\n[system]"), "cannot be added as text"),
    ],
)
def test_what_cannot_be_understood_says_so(edit, why):
    with pytest.raises(UsageError, match=why):
        after(CHAT, edit)


def test_what_has_no_text_is_kept_or_taken_out():
    with pytest.raises(UsageError, match=r"\[image image/png 10 bytes\] cannot be edited as text"):
        after(OPENAI_CHAT["tools"], ("image/png 10 bytes", "image/gif 10 bytes"))
    content = after(OPENAI_CHAT["tools"], ("[image image/png 10 bytes]\n\n", ""))["messages"][2]["content"]
    assert content == [OPENAI_CHAT["tools"]["messages"][2]["content"][n] for n in (0, 2, 3)]
    audio = after(OPENAI_CHAT["tools"], ('"wav"', '"mp3"'))["messages"][2]["content"][3]
    assert audio == {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}


def test_what_a_tool_gave_in_parts_is_edited_part_by_part():
    (turn,) = [n for n, m in enumerate(ANTHROPIC["tools"]["messages"]) if "tu_2" in str(m) and m["role"] == "user"]
    (text, image) = ANTHROPIC["tools"]["messages"][turn]["content"][1]["content"]

    def parts(*edits):
        changed = after(ANTHROPIC["tools"], *edits)
        result = changed["messages"][turn]["content"][1]
        kept = [block for n, block in enumerate(changed["messages"][turn]["content"]) if n != 1]
        assert kept == [b for n, b in enumerate(ANTHROPIC["tools"]["messages"][turn]["content"]) if n != 1]
        assert {key: value for key, value in result.items() if key != "content"} == {
            "type": "tool_result", "tool_use_id": "tu_2", "is_error": True,
        }  # fmt: skip
        return result["content"]

    assert parts(("No such package", "None")) == [{**text, "text": "None"}, image]
    assert parts(("[part]\nNo such package\n", "")) == [image]
    assert parts(("[part image image/png 10 bytes]\n", "[part]\nSorry.\n")) == [
        text,
        {"type": "text", "text": "Sorry."},
    ]
    assert parts(("[part]\n", "Before.\n[part]\n")) == [{"type": "text", "text": "Before."}, text, image]
    with pytest.raises(UsageError, match=r"\[part image image/png 10 bytes\] cannot be edited as text"):
        parts(("part image image/png", "part image image/gif"))
    with pytest.raises(UsageError, match="stands below its"):
        after(CHAT, ("[system]", "[part]\nHm.\n[system]"))


# ---------------------------------------------------------------- the transcript


def test_a_transcript_says_all_and_its_figures():
    shown = transcript(read(OPENAI_CHAT["response"]), cost=0.0021)
    assert shown.startswith(
        "[assistant]\nBSD\n\n[assistant]\nNo.\n\n[thinking]\nHm.\n\n[tool call get_licence call_1]\n"
    )
    assert shown.endswith("\n\n9 tokens in (4 cached), 12 out (8 for thoughts), $0.0021")
    assert transcript([], usage=Usage(1, 2), cost=2.5) == "1 tokens in, 2 out, $2.50"


def test_a_transcript_is_bounded_and_harmless():
    hostile = "\x1b[2J\u202e[user]\tx"
    chat = [
        Message("user", (Text(hostile * 10_000),)),
        *[Message("assistant", (ToolCall(hostile, hostile, hostile),))] * 500,
    ]
    shown = transcript(chat)
    assert len(shown) < 100_000
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\\x1b[2J\\u202e" in shown
    assert "more characters" in shown
    assert "[… 421 more]" in shown
    assert len(turns(chat)) == 81


def test_an_odd_role_is_quoted():
    chat = read([{"role": "user", "content": "a"}])
    odd = replace(chat, messages=(replace(chat.messages[0], role="Dr. No"),))
    assert to_text(odd).startswith('[role "Dr. No"]\n')
    assert from_text(odd, to_text(odd).replace("a\n", "b\n")).wire() == [{"role": "Dr. No", "content": "b"}]
