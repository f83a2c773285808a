"""The chat of a model call's checkpoint, as it was recorded; and how the command line shows it."""

from __future__ import annotations

import pytest

from kitaru import checkpoint, flow, log
from kitaru.messages import Thinking, Usage, conversation

from .samples import EVERY, SAMPLES

ANSWER = SAMPLES["openai-chat"]["response"]
QUESTION = [{"role": "user", "content": "Which licence?"}]

ANSWERS = []


@pytest.fixture
def recorded(store, client):
    """The checkpoint of a model call that was given this and gave that."""

    def of(answer, kind="llm_call", cost=None, **inputs):
        ANSWERS.append(answer)

        @checkpoint(type=kind)
        def model(messages=None, system=None, model=None, settings=None, tools=None, request=None):
            if cost is not None:
                log(cost=cost)
            return ANSWERS[-1]  # what a closure holds would be an input

        @flow
        def body():
            model(**inputs)

        return client.executions.get(body.run().exec_id).checkpoints[0]

    return of


def said(found):
    return [(m.role, m.text) for m in found.messages]


def test_what_was_asked_stands_before_what_was_answered(recorded):
    found = conversation(recorded(ANSWER, cost=0.002, messages=QUESTION, model="gpt-5", settings={"seed": 1}, tools=[]))
    assert said(found)[:2] == [("user", "Which licence?"), ("assistant", "BSD")]
    assert (found.usage, found.cost) == (Usage(9, 12, 4, 8), 0.002)


@pytest.mark.parametrize(
    ("name", "system", "messages"),
    [
        ("anthropic", "Be brief.", QUESTION),
        ("anthropic", [{"type": "text", "text": "Be brief."}], QUESTION),
        ("gemini", {"parts": [{"text": "Be brief."}]}, [{"role": "user", "parts": [{"text": "Which licence?"}]}]),
        ("bedrock", [{"text": "Be brief."}], [{"role": "user", "content": [{"text": "Which licence?"}]}]),
        ("openai-responses", "Be brief.", "Which licence?"),
    ],
)
def test_a_system_prompt_that_is_recorded_apart_comes_first(recorded, name, system, messages):
    found = conversation(recorded(SAMPLES[name]["response"], system=system, messages=messages))
    assert said(found)[:2] == [("system", "Be brief."), ("user", "Which licence?")]


@pytest.mark.parametrize(("name", "about", "wire"), EVERY, ids=lambda x: x if isinstance(x, str) else "")
def test_a_whole_request_is_recognised_under_any_name(recorded, name, about, wire):
    assert conversation(recorded("done", request=wire)).messages


def test_messages_that_are_objects_are_read_without_their_code(recorded):
    from pydantic_ai.messages import ModelRequest, ModelResponse, ThinkingPart, UserPromptPart

    history = [ModelRequest(parts=[UserPromptPart("Which licence?")])]
    answer = ModelResponse(parts=[ThinkingPart("Hm.")])
    found = conversation(recorded(answer, request=history))
    assert said(found) == [("user", "Which licence?"), ("assistant", "")]
    assert found.messages[1].parts == (Thinking("Hm."),)


def test_what_is_no_model_call_has_none(recorded):
    assert conversation(recorded(ANSWER, kind="tool_call", messages=QUESTION)) is None
    assert conversation(recorded("done", request="Hi")) is None
    assert conversation(recorded(None, messages=[1, {"role": []}])) is None


def test_an_edit_that_has_not_run_yet_is_shown_in_its_place(recorded):
    asked, other = recorded("done", messages=QUESTION), recorded("done", messages=[{**QUESTION[0], "content": "Why?"}])
    assert said(conversation(asked, {"model#1.in.messages": other.inputs["messages"]})) == [("user", "Why?")]
