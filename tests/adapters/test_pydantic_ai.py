"""The adapter for Pydantic AI, driven by its own offline models."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    ApprovalRequired,
    BinaryContent,
    CallDeferred,
    FunctionToolset,
    ModelHTTPError,
    ModelRetry,
    RunContext,
    Tool,
    ToolReturn,
)
from pydantic_ai.capabilities import AbstractCapability, Instrumentation, ProcessHistory
from pydantic_ai.messages import (
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.concurrency import ConcurrencyLimitedModel
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

import kitaru
from kitaru import KitaruClient, checkpoint, flow, flows
from kitaru.adapters.pydantic_ai import durable
from kitaru.adapters.pydantic_ai.dumping import dump_messages
from kitaru.adapters.pydantic_ai.requests import load_messages
from kitaru.errors import ExecutionSuspended, UsageError
from kitaru.testing.adapters import EVENTS, RESULT, TURNS, AdapterContract, World
from kitaru.testing.faults import SimulatedCrash


def scripted(world):
    """A model that answers as a `World` says, whole or streamed."""

    def turn(messages):
        results = [str(p.content) for p in messages[-1].parts if isinstance(p, ToolReturnPart)]
        return world.asked(sum(isinstance(m, ModelResponse) for m in messages), results)

    def whole(messages, info):
        answer = turn(messages)
        return ModelResponse(
            [ToolCallPart(name, {"word": word}) for name, word in answer.calls] or [TextPart(answer.text)]
        )

    async def streamed(messages, info):
        answer = turn(messages)
        for n, (name, word) in enumerate(answer.calls):
            yield {n: DeltaToolCall(name, f'{{"word": "{word}"}}')}
        for letter in answer.text:
            yield letter

    return FunctionModel(whole, stream_function=streamed)


def agent_of(world):
    agent = Agent(scripted(world), name="clerk")

    @agent.tool_plain
    async def look(word: str) -> str:
        return world.called("look", word)

    @agent.tool_plain
    def weigh(word: str) -> str:  # in a thread of its own
        return world.called("weigh", word)

    return durable(agent)


class TestPydanticAI(AdapterContract):
    async def talk(self, world, prompt, *, stream=False):
        agent = agent_of(world)
        if not stream:
            return (await agent.run(prompt)).output
        async with agent.run_stream(prompt) as answer:
            return "".join([chunk async for chunk in answer.stream_text(delta=True, debounce_by=None)])


def calls(*made):
    return ModelResponse([ToolCallPart(name, args) for name, args in made])


def says(*answers):
    """A model that gives these answers in turn; a function makes one of what the model was sent."""

    def answer(messages, info):
        given = answers[sum(isinstance(m, ModelResponse) for m in messages)]
        given = given(messages) if callable(given) else given
        return ModelResponse([TextPart(given)]) if isinstance(given, str) else given

    return FunctionModel(answer)


def last_results(messages):
    return ",".join(str(p.content) for p in messages[-1].parts if hasattr(p, "tool_name"))


IN_ORDER = ["request#1", "look#1", "request#2", "look#2", "weigh#1", "request#3"]
"""The steps of a conversation of `TURNS`."""


def labels(exec_id):
    return [p.label for p in KitaruClient().executions.get(exec_id).checkpoints]


def value(exec_id, ref):
    return kitaru.load(exec_id, ref)


# ---------------------------------------------------------------- approvals are waits


def remover(model, removed):
    agent = Agent(model, name="remover")

    @agent.tool_plain(requires_approval=True)
    def remove(path: str) -> str:
        removed.append(path)
        return f"removed {path}"

    return durable(agent).options(exec_id="x")


@pytest.mark.parametrize(
    ("answer", "result", "effects"),
    [
        (True, "removed a", ["a"]),
        ({"approved": True, "args": {"path": "b"}}, "removed b", ["b"]),
        (False, "The tool call was denied.", []),
        ({"approved": False, "message": "keep it"}, "keep it", []),
    ],
    ids=["yes", "other-arguments", "no", "no-and-why"],
)
def test_an_approval_is_a_wait_that_anybody_answers(store, capsys, answer, result, effects):
    removed = []
    model = says(calls(("remove", {"path": "a"})), last_results)
    with pytest.raises(ExecutionSuspended):
        remover(model, removed).run_sync("Clean up")
    (wait,) = KitaruClient().executions.pending_waits("x")
    assert (wait.name, wait.metadata) == ("approve-remove", {"tool": "remove", "args": {"path": "a"}})
    with pytest.raises(UsageError):
        KitaruClient().executions.input("x", wait="approve-remove", value="perhaps")
    KitaruClient().executions.input("x", wait="approve-remove", value=answer)
    assert remover(model, removed).run_sync("Clean up").output == result
    assert removed == effects


def test_several_approvals_wait_at_once_and_each_is_asked_once(store, capsys):
    removed = []
    model = says(calls(("remove", {"path": "a"}), ("remove", {"path": "b"})), last_results)
    with pytest.raises(ExecutionSuspended):
        remover(model, removed).run_sync("Clean up")
    executions = KitaruClient().executions
    executions.input("x", wait="approve-remove#2", value=True)
    with pytest.raises(ExecutionSuspended):
        remover(model, removed).run_sync("Clean up")
    assert removed == []
    executions.input("x", wait="approve-remove#1", value=False)
    assert remover(model, removed).run_sync("Clean up").output == "The tool call was denied.,removed b"
    assert removed == ["b"]


def test_a_tool_that_asks_for_approval_itself_runs_again_with_it(store, capsys):
    ran = []

    def spender():
        agent = Agent(says(calls(("spend", {"euros": 500})), last_results), name="spender")

        @agent.tool
        def spend(ctx: RunContext, euros: int) -> str:
            ran.append(ctx.tool_call_approved)
            if euros > 100 and not ctx.tool_call_approved:
                raise ApprovalRequired(metadata={"limit": 100})
            return f"spent {euros}"

        return durable(agent).options(exec_id="x")

    with pytest.raises(ExecutionSuspended):
        spender().run_sync("Buy it")
    KitaruClient().executions.input("x", wait="approve-spend", value=True)
    assert spender().run_sync("Buy it").output == "spent 500"
    assert ran == [False, True]
    assert labels("x") == ["request#1", "spend#1", "approve-spend#1", "spend#2", "request#2"]


def test_a_call_that_is_made_elsewhere_is_a_wait_for_its_result(store, capsys):
    def asker():
        agent = Agent(says(calls(("weather", {"city": "Bonn"})), last_results), name="asker")

        @agent.tool_plain
        def weather(city: str) -> str:
            raise CallDeferred

        return durable(agent).options(exec_id="x")

    with pytest.raises(ExecutionSuspended):
        asker().run_sync("How is it?")
    KitaruClient().executions.input("x", wait="weather", value="rain")
    assert asker().run_sync("How is it?").output == "rain"


def test_a_tool_may_wait_itself_beside_another_one(store, capsys):
    done = []

    def asker():
        agent = Agent(says(calls(("ask", {}), ("look", {})), last_results), name="asker")

        @agent.tool_plain
        async def ask() -> str:
            return await kitaru.wait_async(name="word", schema=str)

        @agent.tool_plain
        async def look() -> str:
            done.append("look")
            return "seen"

        return durable(agent).options(exec_id="x")

    with pytest.raises(ExecutionSuspended):
        asker().run_sync("Begin")
    KitaruClient().executions.input("x", wait="ask#1/word", value="yes")
    assert asker().run_sync("Begin").output == "yes,seen"
    assert done == ["look"]


# ---------------------------------------------------------------- a run in no flow


def test_a_run_in_no_flow_is_an_execution_named_by_the_environment(store, monkeypatch):
    monkeypatch.setattr(flows._Environment, "used_by", None)
    monkeypatch.setenv("KITARU_EXEC_ID", "audit-7")
    world = World(TURNS)
    assert agent_of(world).run_sync("Begin").output == RESULT
    assert KitaruClient().executions.get("audit-7").flow == "clerk"


def test_a_completed_run_gives_the_same_result_again(store):
    world = World(TURNS)
    agent = agent_of(world).options(exec_id="x")
    first = agent.run_sync("Begin")
    world.done.clear()
    again = agent_of(world).options(exec_id="x").run_sync("Begin")
    assert (again.output, again.all_messages(), again.usage) == (first.output, first.all_messages(), first.usage)
    assert world.done == []


def test_a_killed_run_goes_on_with_the_same_messages_at_the_same_times(faulty, connected):
    def crash():
        faulty.crash()
        raise SimulatedCrash

    world = World(TURNS, wrong={"request 3": crash})
    with pytest.raises(SimulatedCrash):
        agent_of(world).options(exec_id="x").run_sync("Begin")
    connected(faulty.inner)
    first = agent_of(world).options(exec_id="x").run_sync("Begin")
    assert first.output == RESULT
    assert world.done == list(EVENTS)


class Kept:
    """What a step was handed; no data, which would count as an input of what closes over it."""

    def __init__(self):
        self.handed = []


def test_a_result_is_the_same_after_a_resume_so_that_it_can_be_handed_to_a_step(store):
    kept, world = Kept(), World(TURNS)

    @checkpoint
    def keep(messages: list) -> int:
        kept.handed.append(messages)
        return len(messages)

    @flow
    async def talk(error: bool) -> int:
        result = await agent_of(world).run("Begin")
        n = keep(result.all_messages())
        if len(kept.handed) == 1 and not world.wrong:
            world.wrong["later"] = None
            raise RuntimeError("down")
        return n

    with pytest.raises(RuntimeError):
        talk.options(exec_id="x").run(True)
    assert talk.options(exec_id="x").run(True).get() == 6
    assert len(kept.handed) == 1


def test_dependencies_are_handed_on_and_never_recorded(store):
    seen = []

    def agent():
        made = Agent(says(calls(("use", {})), last_results), name="user", deps_type=dict)

        @made.tool
        def use(ctx: RunContext[dict]) -> str:
            seen.append(ctx.deps["key"])
            return "used"

        return durable(made)

    assert agent().options(exec_id="x").run_sync("Go", deps={"key": "sk-secret-1234"}).output == "used"
    assert seen == ["sk-secret-1234"]
    assert b"sk-secret" not in b"".join(store.get(entry.key) for entry in store.list(""))
    fork = agent().replay("x", overrides={"checkpoint.use": "edited"}, deps={"key": "k"})
    assert fork.get()["output"] == "edited"
    with pytest.raises(UsageError, match="deps, which is not recorded"):
        agent().flow.replay("x", overrides={"checkpoint.use": "edited"})


def test_a_tool_that_gives_nothing_is_in_the_messages_that_are_edited(store):
    agent = durable(Agent(says(calls(("note", {"word": None})), last_results), name="clerk"))
    agent.wrapped.tool_plain(name="note")(lambda word=None: word)
    assert agent.options(exec_id="x").run_sync("Go").output == "None"
    messages = value("x", "request#2.in.messages")
    assert messages[1]["parts"][0]["args"] == {"word": None}
    assert messages[2]["parts"][0]["content"] is None
    messages[2]["parts"].append({"part_kind": "user-prompt", "content": "And?"})
    assert agent.replay("x", overrides={"checkpoint.request#2.in.messages": messages}).get()["output"] == "None"


def test_headers_reach_the_model_and_not_the_record(store):
    settings = []

    def answer(messages, info):
        settings.append(info.model_settings)
        return ModelResponse([TextPart("done")])

    agent = durable(Agent(FunctionModel(answer), name="clerk")).options(exec_id="x")
    agent.run_sync("Go", model_settings={"temperature": 0.5, "extra_headers": {"x-key": "sk-secret-1234"}})
    assert settings[0]["extra_headers"] == {"x-key": "sk-secret-1234"}
    assert value("x", "request.in.settings") == {"temperature": 0.5}
    assert b"sk-secret" not in b"".join(store.get(entry.key) for entry in store.list(""))


# ---------------------------------------------------------------- what survives


class Verdict(BaseModel):
    ok: bool
    why: str


def test_structured_output_and_history_survive(store):
    def agent():
        model = says(calls(("final_result", {"ok": True, "why": "MIT"})))
        return durable(Agent(model, name="judge", output_type=Verdict)).options(exec_id="x")

    first = agent().run_sync("Is it?")
    again = agent().run_sync("Is it?")
    assert first.output == again.output == Verdict(ok=True, why="MIT")
    assert KitaruClient().executions.get("x").result["output"] == Verdict(ok=True, why="MIT")
    chat = durable(Agent(says("", "two"), name="chat")).options(exec_id="y")
    second = chat.run_sync("More?", message_history=first.all_messages())
    assert second.output == "two"
    assert [p["kind"] for p in value("y", "request.in.messages")] == ["request", "response", "request"]
    rebuilt = load_messages(dump_messages(first.all_messages()))
    assert (
        durable(Agent(says("", "other"), name="chat"))
        .options(exec_id="y")
        .run_sync("More?", message_history=rebuilt)
        .output
        == "two"
    )


def test_a_retry_that_a_tool_asks_for_is_a_result_of_its_first_call(store):
    tried = []

    def agent(error=None):
        def last(messages):
            if error is not None:
                raise error
            return last_results(messages)

        made = Agent(says(calls(("count", {"n": 1})), calls(("count", {"n": 2})), last), name="counter")

        @made.tool_plain(retries=2)
        def count(n: int) -> str:
            tried.append(n)
            if n == 1:
                raise ModelRetry("two, please")
            return f"counted {n}"

        return durable(made).options(exec_id="x")

    with pytest.raises(ConnectionError):
        agent(ConnectionError("down")).run_sync("Count")
    assert agent().run_sync("Count").output == "counted 2"
    assert tried == [1, 2]
    assert [p.status for p in KitaruClient().executions.get("x").checkpoints if p.name == "count"] == [
        "failed",
        "completed",
    ]


def test_an_agent_that_another_one_calls_nests_in_that_call(store):
    asked = []

    def inner_answer(messages):
        asked.append("inner")
        return "deep"

    inner = durable(Agent(says(inner_answer), name="inner"))

    def agent(error=None):
        def last(messages):
            if error is not None:
                raise error
            return last_results(messages)

        made = Agent(says(calls(("delegate", {})), last), name="outer")

        @made.tool_plain
        async def delegate() -> str:
            return (await inner.run("Go")).output

        return durable(made).options(exec_id="x")

    with pytest.raises(ConnectionError):
        agent(ConnectionError("down")).run_sync("Go")
    assert agent().run_sync("Go").output == "deep"
    assert asked == ["inner"]
    assert labels("x") == ["request#1", "delegate#1", "delegate#1/request#1", "request#2"]


def test_an_answer_of_the_model_is_edited_as_text_or_as_its_data(store):
    agent = durable(Agent(says(calls(("look", {})), "done"), name="clerk"))
    agent.wrapped.tool_plain(name="look")(lambda: "seen")
    agent.options(exec_id="x").run_sync("Go")
    assert agent.replay("x", overrides={"checkpoint.request#1": "I know it"}).get()["output"] == "I know it"
    data = value("x", "request#2")
    data["parts"][0]["content"] = "edited"
    assert agent.replay("x", overrides={"checkpoint.request#2": data}).get()["output"] == "edited"
    with pytest.raises(UsageError, match="give a text, or a ModelResponse"):
        agent.replay("x", overrides={"checkpoint.request#2": 7})


def test_settings_and_messages_of_all_requests_can_be_overridden(store):
    sent = []

    def answer(messages, info):
        sent.append((info.model_settings, messages[0].parts[0].content))
        return ModelResponse([TextPart("done")])

    agent = durable(Agent(FunctionModel(answer), name="clerk"))
    agent.options(exec_id="x").run_sync("Go", model_settings={"temperature": 1.0})
    agent.replay(
        "x", overrides={"type.llm_call.in.settings": {"temperature": 0.0}}, model_settings={"temperature": 1.0}
    )
    messages = value("x", "request.in.messages")
    messages[0]["parts"][0]["content"] = "Stay"
    agent.replay("x", overrides={"checkpoint.request.in.messages": messages}, model_settings={"temperature": 1.0})
    assert sent == [({"temperature": 1.0}, "Go"), ({"temperature": 0.0}, "Go"), ({"temperature": 1.0}, "Stay")]


def test_a_stream_that_breaks_is_a_failed_step_and_is_asked_for_again(store):
    streams = []

    async def stream(messages, info):
        streams.append(len(streams))
        yield "do"
        if len(streams) == 1:
            raise ConnectionResetError("gone")
        yield "ne"

    @flow
    async def talk() -> str:
        agent = durable(Agent(FunctionModel(stream_function=stream), name="clerk"))
        async with agent.run_stream("Go") as answer:
            return "".join([chunk async for chunk in answer.stream_text(delta=True, debounce_by=None)])

    with pytest.raises(ConnectionResetError):
        talk.options(exec_id="x").run()
    (step,) = KitaruClient().executions.get("x").checkpoints
    assert (step.status, step.failure.type) == ("failed", "builtins:ConnectionResetError")
    assert talk.options(exec_id="x").run().get() == "done"
    assert len(streams) == 2


def test_iterating_in_no_flow_is_an_execution(store, monkeypatch):
    monkeypatch.setattr(flows._Environment, "used_by", None)
    monkeypatch.setenv("KITARU_EXEC_ID", "talk-1")
    world = World(TURNS)

    async def talk():
        async with agent_of(world).iter("Begin") as run:
            async for _ in run:
                pass
        return run.result.output

    assert asyncio.run(talk()) == RESULT
    assert labels("talk-1") == IN_ORDER


def test_a_name_that_no_step_can_have_is_written_another_way(store):
    agent = durable(Agent(says(calls(("files.read", {})), last_results), name="my agent")).options(exec_id="x")
    agent.wrapped.tool_plain(name="files.read")(lambda: "text")
    assert agent.run_sync("Go").output == "text"
    assert agent.flow.name == "my-agent"
    assert labels("x") == ["request#1", "files-read#1", "request#2"]


def test_what_is_no_agent_and_what_is_not_supported_is_refused(store):
    agent = Agent(says("done"), name="clerk")
    made = durable(agent)
    assert durable(made) is made
    with pytest.raises(UsageError, match="takes an agent of Pydantic AI"):
        durable("clerk")
    with pytest.raises(UsageError, match="no requests that could be recorded"):
        made.realtime()
    assert asyncio.run(agent.run("Go")).output == "done"  # the agent itself is as it was
    assert KitaruClient().executions.list() == []


def test_a_flow_that_is_no_coroutine_runs_an_agent_in_order(store):
    world = World(TURNS)

    @flow
    def talk() -> str:
        return agent_of(world).run_sync("Begin").output

    assert talk.options(exec_id="x").run().get() == RESULT
    assert labels("x") == IN_ORDER


def test_a_retry_beside_another_agent_is_a_result_too(store):
    tried = []

    def agent(name, error):
        def last(messages):
            if error:
                raise error.pop()
            return last_results(messages)

        made = Agent(says(calls(("count", {"n": 1, "of": name})), calls(("count", {"n": 2, "of": name})), last))

        @made.tool_plain(retries=2)
        def count(n: int, of: str) -> str:
            tried.append((of, n))
            if n == 1:
                raise ModelRetry("two, please")
            return f"{of} counted"

        return durable(made, name=name)

    def talk(errors):
        @flow
        async def both() -> list[str]:
            made = [agent(name, error) for name, error in zip("ab", errors, strict=True)]
            return [r.output for r in await asyncio.gather(*[a.run(f"Count {n}") for n, a in enumerate(made)])]

        return both.options(exec_id="x", inputs="recorded").run()

    with pytest.raises(ConnectionError):
        talk([[], [ConnectionError("down")]])
    assert talk([[], []]).get() == ["a counted", "b counted"]
    assert sorted(tried) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


# ---------------------------------------------------------------- streams, and what there is of the SDK


def thinker():
    """A model that streams thoughts, a call whose arguments come in pieces, and a text."""

    async def stream(messages, info):
        if len(messages) == 1:
            yield {0: DeltaThinkingPart(content="Let me ")}
            yield {0: DeltaThinkingPart(content="look.", signature="sig")}
            yield {1: DeltaToolCall("look", '{"wo')}
            yield {1: DeltaToolCall(json_args='rd": "ä"}')}
        else:
            for piece in ("It", " is", " ä", "."):
                yield piece

    agent = Agent(FunctionModel(stream_function=stream), name="thinker")
    agent.tool_plain(name="look")(lambda word: word)
    return durable(agent)


def said(event):
    """What a piece of a stream says."""
    if isinstance(event, PartStartEvent):
        part = event.part
        return (event.index, type(part).__name__, getattr(part, "content", None) or getattr(part, "args", None))
    if isinstance(event, PartDeltaEvent):
        delta = event.delta
        return (event.index, getattr(delta, "content_delta", None) or getattr(delta, "args_delta", None))
    return type(event).__name__


def streamed(seen):
    @flow
    async def talk() -> str:
        async with thinker().run_stream_events("Go") as events:
            seen.append([said(event) async for event in events])
        return "done"

    return talk


def test_a_recorded_stream_comes_in_the_pieces_in_which_it_came(store):
    kept = Kept()
    talk = streamed(kept.handed)
    talk.options(exec_id="x").run()
    talk.replay("x")
    live, again = kept.handed
    assert again == live
    assert [s for s in live if isinstance(s, tuple)] == [
        (0, "ThinkingPart", "Let me "),
        (0, "look."),
        (1, "ToolCallPart", '{"wo'),
        (1, 'rd": "ä"}'),
        (0, "TextPart", "It"),
        (0, " is"),
        (0, " ä"),
        (0, "."),
    ]
    assert value("x", "request#2")["pieces"] == [[0, 2, 3, 2, 1]]


def test_an_edited_stream_comes_part_by_part(store):
    kept = Kept()
    talk = streamed(kept.handed)
    talk.options(exec_id="x").run()
    for pieces in ([[0, 2, 3, 2, 1]], [[1, 8]], "none", [[]], [[0, 9, -1]]):
        answer = {**value("x", "request#2"), "pieces": pieces}
        answer["parts"][0]["content"] = "It is an ä."
        talk.replay("x", overrides={"checkpoint.request#2": answer})
        assert [s for s in kept.handed[-1] if isinstance(s, tuple)][-1] == (0, "TextPart", "It is an ä.")


def test_a_step_that_a_tool_calls_in_its_thread_has_its_place_there(store):
    kept = Kept()  # what a step closes over counts, and a list is data

    @checkpoint
    def weigh(word: str) -> int:
        kept.handed.append(word)
        return len(word)

    def agent(error=None):
        made = Agent(says(calls(("sum_up", {}), ("sum_up", {})), last_results), name="clerk")

        @made.tool_plain
        def sum_up() -> int:
            first, second = weigh("a"), weigh("a")
            if error:
                raise error.pop()
            return first + second + weigh("b")

        return durable(made)

    with pytest.raises(ConnectionError):
        agent([ConnectionError("down"), ConnectionError("down")]).options(exec_id="x").run_sync("Go")
    assert agent().options(exec_id="x").run_sync("Go").output == "3,3"
    assert sorted(kept.handed) == ["a", "a", "a", "a", "b", "b"]
    inner = [label for label in labels("x") if "weigh" in label]
    assert sorted(inner) == [f"sum_up#{n}/weigh#{k}" for n in (1, 2) for k in (1, 2, 3)]
    assert agent().replay("x", overrides={"checkpoint.sum_up#2/weigh#1": 5}).get()["output"] == "3,7"
    assert len(kept.handed) == 6


def goes_on(make):
    """What an agent comes to whose last request fails at first, and how often its model was asked in all."""
    asked = []

    def agent(error):
        def model(*answers, then=last_results):
            def last(messages):
                if error:
                    raise error.pop()
                return then(messages) if callable(then) else then

            return counted(says(*answers, last), asked)

        return durable(make(model), name="clerk").options(exec_id="x")

    with pytest.raises(ConnectionError):
        agent([ConnectionError("down")]).run_sync("Begin")
    return agent([]).run_sync("Begin").output, len(asked)


def counted(model, asked):
    function = model.function

    def count(messages, info):
        answer = function(messages, info)
        asked.append(len(messages))
        return answer

    model.function = count
    return model


LOOK = calls(("look", {"word": "a"}))


def look(word: str) -> str:
    return f"look({word})"


def same_tools(ctx, tools):
    return tools


def with_toolset(wrap):
    return lambda model: Agent(model(LOOK), toolsets=[wrap(FunctionToolset([look]))])


def with_a_fallback(model):
    def refuse(messages, info):
        raise ModelHTTPError(503, "refusing")

    return Agent(FallbackModel(FunctionModel(refuse), model(LOOK)), tools=[look])


def with_a_checked_output(model):
    """A function makes the output, and a validator asks for another one once."""

    def verdict(ok: bool) -> str:
        return f"ok={ok}"

    agent = Agent(
        model(LOOK, calls(("final_result", {"ok": False})), then=calls(("final_result", {"ok": True}))),
        tools=[look],
        output_type=verdict,
    )

    @agent.output_validator
    def check(output: str) -> str:
        if output == "ok=False":
            raise ModelRetry("look again")
        return output

    return agent


def with_hooks(model):
    def shorter(messages):
        first, *more = messages
        return [replace(first, parts=first.parts[-1:]), *more]

    agent = Agent(
        model(LOOK, LOOK), tools=[look], capabilities=[ProcessHistory(shorter)], instructions=lambda: "Be brief."
    )

    @agent.system_prompt
    def system() -> str:
        return "You are a clerk."

    return agent


@pytest.mark.parametrize(
    "make",
    [
        with_toolset(lambda tools: tools),
        with_toolset(lambda tools: tools.prefixed("a").renamed({"look": "a_look"})),
        with_toolset(lambda tools: tools.filtered(lambda ctx, tool: tool.name == "look").prepared(same_tools)),
        with_toolset(lambda tools: lambda ctx: tools),
        with_a_fallback,
        with_hooks,
        with_a_checked_output,
        lambda model: Agent(
            model(LOOK), tools=[look], capabilities=[Instrumentation(settings=InstrumentationSettings())]
        ),
        lambda model: Agent(
            model(LOOK), tools=[Tool(look, sequential=True)], end_strategy="exhaustive", tool_timeout=60
        ),
        lambda model: Agent(ConcurrencyLimitedModel(model(LOOK), limiter=1), tools=[look], metadata={"a": 1}),
    ],
    ids=[
        "tools",
        "renamed",
        "filtered",
        "dynamic",
        "fallback",
        "hooks",
        "checked",
        "instrumented",
        "sequential",
        "limited",
    ],
)
def test_what_an_agent_is_made_of_goes_on(store, make):
    output, asked = goes_on(make)
    assert output in {"look(a)", "ok=True"}
    assert asked == len([1 for p in KitaruClient().executions.get("x").checkpoints if p.name == "request"])


def test_a_tool_may_return_more_than_its_value(store):
    kept = Kept()

    def agent(error):
        def last(messages):
            if error:
                raise error.pop()
            kept.handed.append([part.content for part in messages[-1].parts])
            return "done"

        made = Agent(says(calls(("look", {})), last), name="clerk")

        @made.tool_plain
        def look() -> ToolReturn:
            kept.handed.append("look")
            return ToolReturn(
                7, content=["a picture", BinaryContent(b"png", media_type="image/png")], metadata={"n": 1}
            )

        return durable(made).options(exec_id="x")

    with pytest.raises(ConnectionError):
        agent([ConnectionError("down")]).run_sync("Begin")
    result = agent([]).run_sync("Begin")
    assert kept.handed == ["look", [7, ["a picture", BinaryContent(b"png", media_type="image/png")]]]
    (returned,) = [
        part for message in result.all_messages() for part in message.parts if isinstance(part, ToolReturnPart)
    ]
    assert returned.metadata == {"n": 1}


@pytest.fixture
def loop():
    """The event loop of this thread, which the SDK's streams that block take, and leave open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def test_streams_that_are_read_in_other_ways_are_in_order_too(store, loop):
    @flow
    async def events() -> str:
        async with agent_of(World(TURNS)).run_stream_events("Begin") as events:
            (result,) = [event.result async for event in events if isinstance(event, AgentRunResultEvent)]
        return result.output

    @flow
    async def handled() -> str:
        async def read(ctx, events):
            async for _ in events:
                pass

        return (await agent_of(World(TURNS)).run("Begin", event_stream_handler=read)).output

    @flow
    def sync() -> str:
        with agent_of(World(TURNS)).run_stream_sync("Begin") as answer:
            return "".join(answer.stream_text(delta=True, debounce_by=None))

    for each in (events, handled, sync):
        handle = each.run()
        assert handle.get() == RESULT
        assert labels(handle.exec_id) == IN_ORDER
        assert each.replay(handle.exec_id).get() == RESULT


def test_events_in_no_flow_are_of_an_execution(store):
    async def talk():
        async with agent_of(World(TURNS)).options(exec_id="x").run_stream_events("Begin") as events:
            (result,) = [event.result async for event in events if isinstance(event, AgentRunResultEvent)]
        return result.output

    assert asyncio.run(talk()) == RESULT
    assert labels("x") == IN_ORDER


def test_a_stream_that_blocks_in_no_flow_is_an_execution(store, monkeypatch, loop):
    monkeypatch.setattr(flows._Environment, "used_by", None)
    monkeypatch.setenv("KITARU_EXEC_ID", "x")
    with agent_of(World(TURNS)).run_stream_sync("Begin") as answer:
        assert "".join(answer.stream_text(delta=True, debounce_by=None)) == RESULT
    assert labels("x") == IN_ORDER


def test_what_two_engines_would_record_is_refused(store):
    class Other(AbstractCapability):
        __module__ = "pydantic_ai.durable_exec.temporal"

    with pytest.raises(UsageError, match="made durable by Other already"):
        durable(Agent(says("done"), capabilities=[Other()]))


def test_what_a_tool_would_enqueue_is_refused(store):
    agent = Agent(says(calls(("look", {})), "done"), name="clerk")

    @agent.tool
    def look(ctx: RunContext) -> str:
        ctx.enqueue("and this")
        return "seen"

    with pytest.raises(UsageError, match="Return it: ToolReturn"):
        durable(agent).run_sync("Begin")
