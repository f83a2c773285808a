"""`kitaru.llm`: questions to a model, whole and streamed, as text and as data."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import httpx
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import kitaru
from kitaru import KitaruClient, flow
from kitaru.adapters import loops
from kitaru.errors import UsageError
from kitaru.messages import Message, ToolCall, conversation, turns
from kitaru.testing.adapters import EVENTS, RESULT, TURNS, AdapterContract, World
from kitaru.testing.model_server import ModelServer

from .test_pydantic_ai import calls, labels, says, scripted


def tools_of(world):
    async def look(word: str) -> str:
        return world.called("look", word)

    def weigh(word: str) -> str:
        return world.called("weigh", word)

    return [look, weigh]


class TestQuestions(AdapterContract):
    request = "llm"

    async def talk(self, world, prompt, *, stream=False):
        asked = kitaru.llm_async(prompt, model=scripted(world), tools=tools_of(world), stream=stream)
        return "".join([piece async for piece in asked]) if stream else await asked


def test_a_question_is_one_step_and_is_asked_once(store):
    world = World(TURNS)

    @flow
    def talk() -> str:
        return kitaru.llm("Begin", model=scripted(world), tools=tools_of(world))

    assert talk.options(exec_id="x").run().get() == RESULT
    assert labels("x") == ["llm#1", "look#1", "llm#2", "look#2", "weigh#1", "llm#3"]
    assert talk.replay("x").get() == RESULT
    assert world.done == list(EVENTS)


def test_outside_of_a_flow_it_is_just_asked(store):
    assert kitaru.llm("Hello", model=says("Hi")) == "Hi"
    assert asyncio.run(kitaru.llm_async("Hello", model=says("Hi"))) == "Hi"
    assert KitaruClient().executions.list() == []


class Licence(BaseModel):
    name: str
    free: bool


@pytest.mark.parametrize(
    ("schema", "args", "answer"),
    [
        (Licence, {"name": "MIT", "free": True}, Licence(name="MIT", free=True)),
        (list[str], {"response": ["MIT", "BSD"]}, ["MIT", "BSD"]),
        (Literal["yes", "no"], {"response": "yes"}, "yes"),
    ],
    ids=["model", "list", "choice"],
)
def test_an_answer_comes_as_the_type_that_was_asked_for(store, schema, args, answer):
    @flow
    def ask() -> object:
        return kitaru.llm("Which?", model=says(calls(("final_result", args))), schema=schema)

    handle = ask.run()
    assert handle.get() == answer
    assert KitaruClient().executions.get(handle.exec_id).result == answer


def test_an_answer_that_does_not_fit_is_asked_for_again_and_each_is_a_step(store):
    model = says(calls(("final_result", {"name": "MIT"})), calls(("final_result", {"name": "MIT", "free": True})))

    @flow
    def ask(retries: int) -> object:
        return kitaru.llm("Which?", model=model, schema=Licence, retries=retries)

    assert ask.options(exec_id="x").run(1).get() == Licence(name="MIT", free=True)
    assert labels("x") == ["llm#1", "llm#2"]
    with pytest.raises(UnexpectedModelBehavior):
        ask.run(0)


def test_questions_at_once_keep_the_places_where_they_are_asked(store):
    def answer(messages, info):
        word = messages[0].parts[0].content
        return ModelResponse([TextPart(word.upper())])

    @flow
    async def ask() -> list[str]:
        return await asyncio.gather(*[kitaru.llm_async(word, model=FunctionModel(answer)) for word in "abc"])

    assert ask.options(exec_id="x").run().get() == ["A", "B", "C"]
    points = KitaruClient().executions.get("x").checkpoints
    asked = {p.label: p.inputs["messages"].load()[0]["parts"][0]["content"] for p in points}
    assert asked == {"llm#1": "a", "llm#2": "b", "llm#3": "c"}


def test_messages_are_a_prompt(store):
    seen = []

    def answer(messages, info):
        seen.append([(type(p).__name__, p.content) for m in messages for p in m.parts])
        return ModelResponse([TextPart("done")])

    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    assert kitaru.llm(said, model=FunctionModel(answer)) == "done"
    assert seen == [
        [("SystemPromptPart", "Be brief."), ("UserPromptPart", "One?"), ("TextPart", "1"), ("UserPromptPart", "Two?")]
    ]
    with pytest.raises(UsageError, match="the model's own"):
        kitaru.llm(said[:3], model=FunctionModel(answer))
    for wrong in (7, [], [{"role": "robot", "content": "x"}], ["text"]):
        with pytest.raises(UsageError):
            kitaru.llm(wrong, model=FunctionModel(answer))
    with pytest.raises(UsageError, match="is whole"):
        kitaru.llm("x", model=FunctionModel(answer), schema=Licence, stream=True)


def test_a_stream_comes_piece_by_piece_and_is_recorded(store):
    asked = []

    async def pieces(messages, info):
        asked.append(1)
        for letter in "abc":
            yield letter

    @flow
    def ask() -> list[str]:
        return list(kitaru.llm("Spell", model=FunctionModel(stream_function=pieces), stream=True))

    assert ask.options(exec_id="x").run().get() == ["a", "b", "c"]
    assert "".join(ask.replay("x").get()) == "abc"
    assert labels("x") == ["llm#1"]
    assert len(asked) == 1


def test_what_blocks_in_a_running_loop_is_answered_all_the_same(store):
    @flow
    def ask() -> str:
        return kitaru.llm("Hello", model=says("Hi"))

    async def cell():
        return ask.run().get()

    assert asyncio.run(cell()) == "Hi"


def test_the_loop_beside_hands_on_what_ends_a_program_and_stops_what_is_broken_off():
    async def leaves():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        loops.run(leaves)
    stopped = threading.Event()

    async def endless():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            stopped.set()

    pieces = loops.stream(endless)
    assert next(pieces) == 1
    pieces.close()
    assert stopped.wait(10)


def test_a_name_of_its_own_and_tokens_are_recorded(store):
    @flow
    def ask() -> str:
        return kitaru.llm("Hello", model="test", name="greet", settings={"temperature": 0.0})

    ask.options(exec_id="x").run()
    (point,) = KitaruClient().executions.get("x").checkpoints
    assert (point.label, point.data.type) == ("greet#1", "llm_call")
    assert point.metadata["tokens"] > 0
    assert kitaru.load("x", "greet.in.settings") == {"temperature": 0.0}
    assert kitaru.load("x", "greet.in.model") == "test:test"


def test_a_tool_of_a_question_may_be_edited(store):
    world = World(TURNS)

    @flow
    def talk() -> str:
        return kitaru.llm("Begin", model=scripted(world), tools=tools_of(world))

    talk.options(exec_id="x").run()
    assert talk.replay("x", overrides={"checkpoint.look#2": "nothing"}).get() == "so nothing,weigh(b)"


def test_a_model_that_is_asked_for_a_tool_that_is_not_there_says_so(store):
    model = says(ModelResponse([ToolCallPart("fly", {})]), "fine")
    assert kitaru.llm("Go", model=model) == "fine"


def test_what_a_provider_answers_is_data_with_the_times_that_its_client_read(store):
    """As is what the next request says of it: a pickle would be neither shared, nor shown, nor edited."""

    def say(messages):
        if len(messages) > 1:
            return "It is BSD-3-Clause."
        return Message("assistant", (ToolCall("call_1", "licence_of", {"package": "numpy"}),))

    def licence_of(package: str) -> str:
        return {"numpy": "BSD-3-Clause"}[package]

    with ModelServer(say) as server:
        transport = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))  # leaves nothing open
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", http_client=transport)
        model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))

        @flow
        def talk() -> str:
            return kitaru.llm("Which licence has numpy?", model=model, tools=[licence_of])

        talk.options(exec_id="x").run()
    first, _, last = KitaruClient().executions.get("x").checkpoints
    assert (first.artifacts[0].kind, last.inputs["messages"].kind) == ("data", "data")
    assert [turn.head for turn in turns(conversation(last).messages)] == [
        "user",
        "tool call licence_of call_1",
        "tool result call_1",
        "assistant",
    ]
