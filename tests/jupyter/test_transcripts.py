"""Model calls in the notebook: their transcripts, and chats edited by turn."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pydantic
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import UsageError
from kitaru_jupyter import display, transcripts
from kitaru_jupyter.browser import sight
from kitaru_jupyter.chats import edited, text_of

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which licence?", "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"package":"numpy"}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": HOSTILE},
]  # fmt: skip
ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": "BSD"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}


class Answer(pydantic.BaseModel):
    choices: list[dict]


@checkpoint(type="llm_call")
def model(messages):
    kitaru.log(cost=0.002)
    return ANSWER


@checkpoint
def report(answer):
    return answer["choices"][0]["message"]["content"]


@flow
def agent():
    return report(model(CHAT))


@pytest.fixture
def ran(store, client):
    return client.executions.get(agent.run().exec_id)


class Elements(HTMLParser):
    """The elements of a page, and the classes of its turns."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.turns = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if "kitaru-turn" in (name := dict(attrs).get("class") or ""):
            self.turns.append(name.partition("kitaru-by-")[2])


def test_a_model_call_shows_itself_as_a_transcript(ran):
    face = display.checkpoint(ran.checkpoints[0])
    page = Elements(face.html)
    assert page.turns == ["system", "user", "tool", "tool", "assistant"]
    assert page.tags.isdisjoint({"img", "script"})
    assert "9 tokens in, 1 out, $0.002" in face.html
    assert "\x1b" not in face.html + face.text
    assert "  transcript\n    [system]\n    Be brief.\n" in face.text
    assert face.text.endswith("$0.002\n  logged  cost = 0.002")
    assert "transcript" not in display.checkpoint(ran.checkpoints[1]).text


def test_the_side_pane_has_its_turns(ran):
    state = sight.step(ran.checkpoints[0])
    assert state["chat"]["turns"][1] == ["user", "user", "Which licence?"]
    assert state["chat"]["turns"][3][:2] == ["tool", "tool result c1"]
    assert state["chat"]["figures"] == "9 tokens in, 1 out, $0.002"
    assert json.dumps(state).isascii()
    assert sight.step(ran.checkpoints[1])["chat"] is None


def test_a_speaker_is_one_of_those_that_have_a_colour():
    assert transcripts.speaker(transcripts.Turn('role "x"', "")) == "other"


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("tool call licence_of pyd_ai_0324e510898646bcb3a76fa5a5bcc44a", "tool call licence_of …bcc44a"),
        ("tool result c1", "tool result c1"),
        ("tool call what_the_weather_is_like", "tool call what_the_weather_is_like"),
    ],
)
def test_the_identifier_of_a_call_is_cut_short_and_a_name_is_not(head, shown):
    assert transcripts.heading(transcripts.Turn(head, "")) == shown


# ---------------------------------------------------------------- editing


@pytest.fixture
def opened(cells, ran):
    cells(f"%kitaru open {ran.exec_id}")
    return cells


def test_a_turn_of_what_was_asked_is_edited(opened):
    opened("%kitaru edit model.in.messages --messages")
    form = opened.shell.rl_next_input
    assert form.startswith(
        "%%kitaru_edit model.in.messages --messages\n[system]\nBe brief.\n\n[user]\nWhich licence?\n"
    )
    ran = opened(form.replace("Which licence?", "Which licence, please?"))
    assert ran.out.startswith("model#1.in.messages edited; "), ran
    opened("%kitaru resume")
    new = opened.notebook.value("model.in.messages")
    assert new == [CHAT[0], {**CHAT[1], "content": "Which licence, please?"}, *CHAT[2:]]
    assert json.dumps(new[2:]) == json.dumps(CHAT[2:])


def test_a_turn_of_what_was_answered_is_edited_and_the_flow_goes_on_from_there(opened):
    opened("%%kitaru_edit model --messages --why 'it is MIT'\n[assistant]\nMIT\n")
    opened("%kitaru resume")
    assert opened.notebook.value("model") == {
        **ANSWER,
        "choices": [{"message": {"role": "assistant", "content": "MIT"}}],
    }
    assert opened.notebook.execution().result == "MIT"


def test_what_is_not_edited_is_the_same_value(opened):
    opened("%kitaru edit model.in.messages --messages")
    opened(opened.shell.rl_next_input)
    assert kitaru.digest(opened.notebook.value("model.in.messages")) == kitaru.digest(CHAT)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("%%kitaru_edit report --messages\n[user]\n1", "edit it with --text"),
        ("%%kitaru_edit model --messages --json\n1", "takes one of --json, --text and --messages"),
        ("%%kitaru_edit model --messages\nMIT", "begins with the head of a block"),
        ("%%kitaru_edit model --messages --format nope\n[user]\n1", "no format 'nope'"),
    ],
)
def test_what_is_no_chat_says_so(opened, cell, why):
    ran = opened(cell)
    assert why in f"{ran.out}{ran.err}{ran.error}"


def test_objects_of_an_sdk_stay_what_they_are():
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    history = [ModelRequest(parts=[UserPromptPart("Hi")]), ModelResponse(parts=[TextPart("Hello")])]
    text = text_of(history)
    assert text == "[user]\nHi\n\n[assistant]\nHello\n"
    assert edited(history, text) is history
    new = edited(history, text.replace("Hello", "Good day"))
    assert new[0] == history[0]
    assert (type(new[1]), new[1].parts[0].content, new[1].timestamp) == (
        ModelResponse,
        "Good day",
        history[1].timestamp,
    )
    assert edited(history[1], "[assistant]\nNo.\n").parts == [TextPart("No.")]
    answer = Answer.model_validate(ANSWER)
    assert edited(answer, "[assistant]\nMIT\n") == Answer(
        choices=[{"message": {"role": "assistant", "content": "MIT"}}]
    )
    with pytest.raises(UsageError, match="no messages of a format that is known"):
        text_of({"a": 1})


def test_one_is_not_true():
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]}
    assert edited([call], text_of([call]).replace('"a": 1', '"a": true'))[0]["content"][0]["input"]["a"] is True
