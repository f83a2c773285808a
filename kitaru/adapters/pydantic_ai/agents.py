"""An agent of Pydantic AI, and its run, durable: requests, tool calls and approvals are steps."""

from __future__ import annotations

import asyncio
import copy
import re
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, NoReturn

from pydantic import TypeAdapter
from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.run import AgentRun, AgentRunResult
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDenied,
)
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from ... import calling
from ...context import Place, current
from ...errors import UsageError
from ...fingerprints import fingerprint
from ...flows import Flow, Options
from ...handles import Handle
from ...steps import Signature
from ...waits import Wait, wait_for
from .. import loops
from .dumping import dump_messages, lean_message
from .requests import VERSION, DurableModel, load_messages, pin

__all__ = ["Course", "Durability", "DurableAgent", "durable"]

_NOT_IN_A_NAME = re.compile(r"[/:#~@.\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_RUNS = uuid.UUID("5f3e1f0e-6a6d-4c6f-9a3b-0a8f3c1d2b47")  # the namespace of the ids of runs

_WRAPS_MODELS = hasattr(AbstractCapability, "get_wrapper_model")
"""Newer versions ask for that. In older ones a capability puts another model into each request."""

APPROVAL = {
    "anyOf": [
        {"type": "boolean"},
        {
            "type": "object",
            "properties": {
                "approved": {"type": "boolean"},
                "message": {"type": "string"},
                "args": {"type": "object"},
            },
            "required": ["approved"],
            "additionalProperties": False,
        },
    ]
}
"""What an approval is answered with: yes or no, or that with a message for the model or with other arguments."""


class Course(calling.Course):
    """The order of one run of an agent: its requests come one after the other, its tool calls as the model made them.

    Pydantic AI makes each of them from a task of its own.
    """

    def __init__(self, first: Place | None = None) -> None:
        super().__init__()
        self._reserved: dict[str, Place | None] = {}
        self._versions: dict[Any, str] = {}
        self._first = first

    def next(self) -> Place | None:
        first, self._first = self._first, None
        return first or super().next()

    def ids(self, options: Mapping[str, Any]) -> dict[str, str]:
        """The ids of the run and of its conversation: the same after a resume, since results are handed on to steps."""
        frame, place = current.get(), self.reserve("run of an agent")
        if frame is None or place is None or place.ordinal is None:
            return {}
        run = uuid.uuid5(_RUNS, f"{frame.engine.exec_id}/{frame.label}/{place.ordinal}")
        continues = options.get("message_history") or options.get("conversation")
        return {"run_id": str(run)} if continues else {"run_id": str(run), "conversation_id": str(run)}

    def expect(self, calls: Iterable[ToolCallPart]) -> None:
        """These tool calls come next, in this order."""
        for call in calls:
            if call.tool_call_id not in self._reserved:
                self._reserved[call.tool_call_id] = self.reserve(step_name(call.tool_name))

    def version_of(self, tool: ToolsetTool[Any]) -> str:
        """Stands for the tool's code, where it is a function of this process. It is looked at once in a run."""
        function = _function_of(tool)
        if function is None:
            return VERSION
        if function not in self._versions:
            self._versions[function] = fingerprint(function).digest.hex()
        return self._versions[function]

    def of(self, tool_call_id: str | None) -> Place | None:
        """The place of a tool call; where it is made once more, such as after its approval, it gets another one."""
        return self._reserved.pop(tool_call_id, None) if tool_call_id is not None else None


def step_name(tool: str) -> str:
    """The name of a tool as a step's, which cannot hold a dot, for one."""
    return _NOT_IN_A_NAME.sub("-", tool)[:200] or "tool"


@dataclass
class _DurableToolset(WrapperToolset[Any]):
    """Each call of a tool is a step of type ``tool_call``, named after the tool."""

    _: KW_ONLY
    course: Course

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        context = replace(ctx, pending_messages=_NothingEnqueued())

        async def call(**given: Any) -> Any:
            return await self.wrapped.call_tool(name, given, context, _in_order(tool))

        return await calling.call_async(
            step_name(name),
            call,
            tool_args,
            type="tool_call",
            version=self.course.version_of(tool),
            place=self.course.of(ctx.tool_call_id),
        )


class _NothingEnqueued(list[Any]):
    """Where a tool would put messages for the model beside what it returns, which a resume would not see."""

    def append(self, message: Any) -> NoReturn:  # noqa: ARG002
        raise UsageError(
            "a tool of a durable agent cannot ctx.enqueue(…): where its recorded result is given back, nothing would "
            "be enqueued. Return it: ToolReturn(value, content=…) gives the model more than the value"
        )


def _schema_of(tool: Any) -> Any:
    """Knows the tool's function; None where that is not of this process."""
    return getattr(getattr(tool, "call_func", None), "__self__", None)


def _function_of(tool: Any) -> Any:
    """The function that the tool is; None where it is none of this process."""
    while (inner := getattr(tool, "source_tool", None)) is not None:
        tool = inner
    return getattr(_schema_of(tool), "function", None)


def _in_order(tool: Any) -> Any:
    """The tool, whose function is still the step's body where the SDK runs it in a thread."""
    if (inner := getattr(tool, "source_tool", None)) is not None:
        return replace(tool, source_tool=_in_order(inner))
    schema = _schema_of(tool)
    if getattr(schema, "function", None) is None or schema.is_async:
        return tool
    return replace(tool, call_func=replace(schema, function=calling.continued(schema.function)).call)


@dataclass
class Durability(AbstractCapability[Any]):
    """Pydantic AI's own hooks, for one run."""

    course: Course
    name: str = "request"

    def get_wrapper_model(self, model: Model) -> Model | None:
        return DurableModel(model, self.course, self.name)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any] | None:
        return _DurableToolset(toolset, course=self.course)

    async def before_model_request(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - the SDK's signature
        request_context: ModelRequestContext,
    ) -> ModelRequestContext:
        if _WRAPS_MODELS:
            return request_context
        return replace(request_context, model=DurableModel(request_context.model, self.course, self.name))

    async def after_model_request(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        request_context: Any,  # noqa: ARG002
        response: ModelResponse,
    ) -> ModelResponse:
        self.course.expect(part for part in response.parts if isinstance(part, ToolCallPart))
        return response

    async def after_run(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        result: AgentRunResult[Any],
    ) -> AgentRunResult[Any]:
        messages = result.all_messages()
        for at in range(len(messages) - 1, 0, -1):
            before = messages[at - 1]
            if isinstance(messages[at], ModelRequest) and isinstance(before, ModelResponse):
                pin(messages[: at + 1], before)  # what the last tools gave was sent to nobody
                break
        return result

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Wait for whoever approves a call, or makes one elsewhere. Outside of a flow they are the caller's."""
        frame = current.get()
        if frame is None or frame.engine.begun.by_hand:
            return None
        waits = [
            (call.tool_call_id, _approval(call).later(frame, self.course.next())) for call in requests.approvals
        ] + [
            (call.tool_call_id, _result(call).later(frame, self.course.of(call.tool_call_id)))
            for call in requests.calls
        ]
        answers = dict(zip([of for of, _ in waits], await asyncio.gather(*[wait for _, wait in waits]), strict=True))
        self.course.expect(requests.approvals)
        return DeferredToolResults(
            calls={call.tool_call_id: answers[call.tool_call_id] for call in requests.calls},
            approvals={call.tool_call_id: _decided(answers[call.tool_call_id]) for call in requests.approvals},
        )


def _approval(call: ToolCallPart) -> Wait:
    name, args = step_name(call.tool_name), call.args_as_dict()
    return wait_for(
        f"approve-{name}"[:200],
        schema=APPROVAL,
        question=f"May {call.tool_name} run with these arguments?",
        metadata={"tool": call.tool_name, "args": args},
    )


def _result(call: ToolCallPart) -> Wait:
    return wait_for(
        step_name(call.tool_name),
        question=f"What does {call.tool_name} give for these arguments?",
        metadata={"tool": call.tool_name, "args": call.args_as_dict()},
    )


def _decided(answer: Any) -> ToolApproved | ToolDenied:
    said = answer if isinstance(answer, Mapping) else {"approved": answer}
    if said["approved"]:
        return ToolApproved(override_args=said.get("args"))
    return ToolDenied(message=said["message"]) if said.get("message") else ToolDenied()


# ---------------------------------------------------------------- a run that is in no flow is one


@dataclass
class _Call:
    """A run that this process asked for: what is not recorded of it, and the result as the SDK made it."""

    prompt: Any
    history: list[dict[str, Any]] | None
    options: dict[str, Any]
    messages: Sequence[ModelMessage] | None = None
    result: AgentRunResult[Any] | None = None


_asked: ContextVar[_Call | None] = ContextVar("kitaru_pydantic_ai_call", default=None)


class _AgentFlow(Flow[..., Any]):
    """The flow that a run is in which is in no other. Found again by its name, in the module that made it durable."""

    def __init__(self, agent: DurableAgent, name: str, module: str, options: Options | None = None) -> None:
        async def run(
            user_prompt: Any = None, message_history: list[dict[str, Any]] | None = None, given: tuple[str, ...] = ()
        ) -> dict[str, Any]:
            return await agent._run_in_flow(user_prompt, message_history, given)

        run.__name__, run.__qualname__, run.__module__ = name, name, module
        run.__doc__ = "A run of an agent."
        super().__init__(run, options)
        self._agent, self._module = agent, module
        self.signature = _Inputs(run)

    def options(self, **options: Any) -> Flow[..., Any]:
        changed = super().options(**options)
        return _AgentFlow(self._agent, self.name, self._module, changed._options)


class _Inputs(Signature):
    """The inputs of a run: the agent itself, which it closes over, is none."""

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in super().arguments(args, kwargs) if name in self.signature.parameters]


_results: TypeAdapter[AgentRunResult[Any]] = TypeAdapter(AgentRunResult[Any])


class DurableAgent(WrapperAgent[Any, Any]):
    """An agent whose model requests and tool calls are steps. Made by `durable`.

    Attributes
    ----------
    flow : Flow
        What a run is an execution of where it is in no flow; named after the agent.
    """

    def __init__(self, wrapped: AbstractAgent[Any, Any], name: str, module: str) -> None:
        super().__init__(wrapped)
        self.flow: Flow[..., Any] = _AgentFlow(self, name, module)

    def options(self, **options: Any) -> DurableAgent:
        """The same agent, whose runs in no flow are run another way; see `Flow.options`."""
        other = copy.copy(self)
        other.flow = self.flow.options(**options)
        return other

    async def run(self, user_prompt: Any = None, **options: Any) -> AgentRunResult[Any]:
        """As `Agent.run`. Where it is in no flow it is an execution of its own, named after the agent.

        Raises
        ------
        ExecutionSuspended
            It waits, for an approval for one. Answer that, and run the same command again.
        """
        if calling.is_in_flow():
            return await super().run(user_prompt, **options)
        call = _call(user_prompt, options)
        token = _asked.set(call)
        try:
            value = await self._begin(call)
        finally:
            _asked.reset(token)
        return _as_result(call, value)

    def run_sync(self, user_prompt: Any = None, **options: Any) -> AgentRunResult[Any]:
        """As `Agent.run_sync`; see `run`."""
        if calling.is_in_flow():
            options = _here(options)
            return loops.run(lambda: self.run(user_prompt, **options))
        call = _call(user_prompt, options)
        asked = _asked.set(call)
        try:
            value = self._begin(call).get()
        finally:
            _asked.reset(asked)
        return _as_result(call, value)

    async def _run_in_flow(
        self, prompt: Any, history: list[dict[str, Any]] | None, given: tuple[str, ...]
    ) -> dict[str, Any]:
        """The body of `flow`."""
        call, options = _asked.get(), {}
        if call is not None:
            options = dict(call.options)
        if missing := [name for name in given if name not in options]:
            raise UsageError(
                f"a run of {self.flow.name} was given {', '.join(missing)}, which is not recorded: it may hold a "
                "client or a key. Go on with it by the command that began it, with KITARU_EXEC_ID set to its name; or "
                "run the agent in a flow of your own, which makes them"
            )
        if history is not None:
            same = call is not None and call.history is history
            options["message_history"] = call.messages if call is not None and same else load_messages(history)
        result = await super().run(prompt, **options)
        if call is not None:
            call.result = result
        data = _results.dump_python(result, exclude={"output"}, warnings=False)
        return {"output": result.output, **data, "messages": [lean_message(each) for each in data["messages"]]}

    def _begin(self, call: _Call) -> Handle:
        return self.flow.run(call.prompt, call.history, tuple(sorted(call.options)))

    def replay(self, exec_id: str, **options: Any) -> Handle:
        """Fork an execution of `flow`; see `Flow.replay`. What is no option of that one goes to the run: ``deps=``."""
        own = {"from_", "overrides", "rerun", "on_drift", "user_prompt", "message_history"}
        of_flow = {name: value for name, value in options.items() if name in own}
        if "message_history" in of_flow:
            of_flow["message_history"] = dump_messages(of_flow["message_history"])
        given = {name: value for name, value in options.items() if name not in own}
        token = _asked.set(_Call(None, None, given))
        try:
            return self.flow.replay(exec_id, **of_flow)
        finally:
            _asked.reset(token)

    @asynccontextmanager
    async def iter(
        self, user_prompt: Any = None, *, capabilities: Sequence[Any] | None = None, **options: Any
    ) -> AsyncIterator[AgentRun[Any, Any]]:
        """As `Agent.iter`. Where it is in no flow its ``with`` body is an execution: see `kitaru.calling.block`."""
        async with AsyncExitStack() as stack:
            if not calling.is_in_flow():
                await stack.enter_async_context(calling.block(self.flow.name))
            options = _here({**options, "capabilities": capabilities})
            course = next(each.course for each in options["capabilities"] if isinstance(each, Durability))
            given = {name: value for name, value in options.items() if value is not None}
            options = {**options, **course.ids(given), **given}
            yield await stack.enter_async_context(super().iter(user_prompt, **options))

    def run_stream_sync(self, user_prompt: Any = None, **options: Any) -> Any:
        """As `Agent.run_stream_sync`; see `run`."""
        return super().run_stream_sync(user_prompt, **(_here(options) if calling.is_in_flow() else options))

    def run_stream_events(self, user_prompt: Any = None, **options: Any) -> Any:
        """As `Agent.run_stream_events`; see `run`."""
        return super().run_stream_events(user_prompt, **(_here(options) if calling.is_in_flow() else options))

    def realtime(self, *args: Any, **options: Any) -> Any:  # noqa: ARG002
        """Not supported: what is said in a session is no request that could be recorded."""
        raise UsageError(
            f"{self.flow.name}.realtime(): a realtime session has no requests that could be recorded and given back. "
            "Use the agent itself, without durable(…)"
        )

    def __repr__(self) -> str:
        return f"<durable {self.flow.name}>"


def _here(options: Mapping[str, Any]) -> dict[str, Any]:
    """A run's options, with the hooks of a run that begins here, whichever task the SDK then makes it in."""
    capabilities = options.get("capabilities") or ()
    if any(isinstance(each, Durability) for each in capabilities):
        return dict(options)
    return {**options, "capabilities": [*capabilities, Durability(Course())]}


def _call(prompt: Any, options: Mapping[str, Any]) -> _Call:
    given = {name: value for name, value in options.items() if value is not None and name != "infer_name"}
    messages = given.pop("message_history", None)
    return _Call(prompt, None if messages is None else dump_messages(messages), given, messages)


def _as_result(call: _Call, recorded: Mapping[str, Any]) -> AgentRunResult[Any]:
    """What the SDK gave; or the same, of a run that had completed before."""
    if call.result is not None:
        return call.result
    result = _results.validate_python({**recorded, "output": None})
    result.output = recorded["output"]
    return result


def _check_durable_once(agent: AbstractAgent[Any, Any]) -> None:
    """Two engines would each run again what the other one has recorded."""
    found: list[Any] = [agent]
    while isinstance(found[-1], WrapperAgent):
        found.append(found[-1].wrapped)
    agent.root_capability.apply(found.append)
    for each in found:
        if any(kind.__module__.startswith("pydantic_ai.durable_exec.") for kind in type(each).__mro__):
            raise UsageError(
                f"the agent is made durable by {type(each).__name__} already, and cannot be by Kitaru too: give "
                "durable(…) the agent without that"
            )


def durable(agent: AbstractAgent[Any, Any], *, name: str | None = None) -> DurableAgent:
    """Make an agent durable: each model request, tool call and approval of its runs is a step.

    Nothing else about the agent changes. In a flow and in a step its steps are recorded there. In no flow, `run` and
    `run_sync` are an execution of their own, which ``KITARU_EXEC_ID`` names, so that the same command run again goes
    on; so is the ``with`` body of `iter` and `run_stream`.

    Parameters
    ----------
    agent
        An `Agent`. What was made durable already is given back.
    name
        What its executions are called; the agent's own name when left out.
    """
    if isinstance(agent, DurableAgent):
        return agent
    if not isinstance(agent, AbstractAgent):
        raise UsageError(f"durable() takes an agent of Pydantic AI, and {agent!r:.60} is none")
    _check_durable_once(agent)
    module = sys._getframe(1).f_globals.get("__name__", "__main__")
    return DurableAgent(agent, step_name(name or agent.name or "agent"), module)
