"""A model request as a step: what it is matched by, what is recorded of it, and the way back.

Messages are recorded in the form in which Pydantic AI itself stores them, without what no model is sent and differs
from run to run (see `dumping`): when a request was made, and the ids of runs and conversations. Credentials are left
out too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, cast

from pydantic import Field, TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models import (
    Model,
    ModelRequestContext,
    ModelRequestParameters,
    StreamedResponse,
    infer_model,
)
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext, ToolDefinition

from ... import calling
from ...api import log
from ...errors import UsageError
from .dumping import dump_messages, lean_message
from .pieces import Pieces, Replayed, watch

__all__ = [
    "VERSION",
    "DurableModel",
    "Request",
    "load_messages",
    "load_response",
    "pin",
]

VERSION = "pydantic-ai 1"
"""Stands for this adapter's code: another one where it makes something else of the same call."""

_SECRET = frozenset({"authorization_token", "headers", "extra_headers"})

_parameters = TypeAdapter(ModelRequestParameters)
_tools = TypeAdapter(list[ToolDefinition])
_pieces = TypeAdapter(list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]])


def _lean(data: Any, without: frozenset[str]) -> Any:
    """What says something: without what is None, and without the keys that are named."""
    if type(data) is dict:
        return {k: _lean(v, without) for k, v in data.items() if v is not None and k not in without}
    if type(data) is list:
        return [_lean(v, without) for v in data]
    return data


def load_messages(data: Any) -> list[ModelMessage]:
    """The messages that `dump_messages` gave, or that somebody edited."""
    return ModelMessagesTypeAdapter.validate_python(data)


def dump_response(response: ModelResponse) -> dict[str, Any]:
    """A response as it is recorded: with its time, which the same request gets again."""
    (data,) = ModelMessagesTypeAdapter.dump_python([response], warnings=False)
    data["usage"] = {k: v for k, v in data["usage"].items() if v}
    return {k: v for k, v in lean_message(data).items() if k not in {"run_id", "conversation_id"}}


def load_pieces(recorded: Any) -> Pieces | None:
    """The pieces that `dump_stream` recorded; None where there are none, or what somebody wrote there is none."""
    try:
        return _pieces.validate_python(recorded["pieces"], strict=True)
    except (LookupError, TypeError, ValueError):
        return None


def dump_stream(response: ModelResponse, pieces: Pieces) -> dict[str, Any]:
    """A response that was streamed: with the lengths of the pieces in which it came."""
    return {**dump_response(response), "pieces": pieces}


def load_response(recorded: Any) -> ModelResponse:
    """The response that a step recorded; or that somebody put in its place: a text, a response, or its data."""
    if isinstance(recorded, ModelResponse):
        return recorded
    if isinstance(recorded, str):
        return ModelResponse(parts=[TextPart(recorded)])
    try:
        (response,) = ModelMessagesTypeAdapter.validate_python([recorded])
    except ValueError as e:
        raise UsageError(f"what stands for a model's response is none: give a text, or a ModelResponse ({e})") from e
    if not isinstance(response, ModelResponse):
        raise UsageError("what stands for a model's response is a request: give a text, or a ModelResponse")
    return response


def pin(messages: Sequence[ModelMessage], response: ModelResponse) -> None:
    """Give what was sent the time of the recorded response, so that it is the same after a resume."""
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        last.timestamp = response.timestamp
        for part in last.parts:
            if hasattr(part, "timestamp"):
                part.timestamp = response.timestamp


class Request:
    """One request: its arguments as the step's, and the body that sends it.

    Attributes
    ----------
    arguments : dict of str to Any
        ``messages``, ``model``, ``settings``, ``tools`` and ``output``; the last three where there are any.
    """

    def __init__(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> None:
        self._model, self._messages, self._settings, self._parameters = model, messages, settings, parameters
        self.arguments: dict[str, Any] = {"messages": dump_messages(messages), "model": _name(model)}
        shown = _parameters.dump_python(parameters, exclude_defaults=True, warnings=False)
        tools = shown.pop("function_tools", None)
        if settings:
            self.arguments["settings"] = {k: v for k, v in settings.items() if k not in _SECRET}
        if tools:
            self.arguments["tools"] = _lean(tools, _SECRET)
        if shown:
            self.arguments["output"] = _lean(shown, _SECRET)

    def as_given(
        self, given: Mapping[str, Any]
    ) -> tuple[Model, list[ModelMessage], ModelSettings | None, ModelRequestParameters]:
        """What to send: what the agent made, but for what an override put in its place."""
        model, messages, settings, parameters = self._model, self._messages, self._settings, self._parameters
        edited = {name: value for name, value in given.items() if value is not self.arguments.get(name)}
        for name, value in edited.items():
            if name == "messages":
                messages = load_messages(value)
            elif name == "settings":
                secret = {k: v for k, v in (settings or {}).items() if k in _SECRET}
                settings = cast("ModelSettings", {**value, **secret})
            elif name == "model":
                model = infer_model(value)
            elif name == "tools":
                parameters = dataclasses.replace(parameters, function_tools=_tools.validate_python(value))
            else:
                raise UsageError(f"the {name} of a model request cannot be overridden: change the agent's output_type")
        return model, messages, settings, parameters

    async def send(self, **given: Any) -> dict[str, Any]:
        """The body of the step."""
        response = await self.ask(given)
        log(**measures(response))
        return dump_response(response)

    async def ask(self, given: Mapping[str, Any]) -> ModelResponse:
        """Send the request."""
        model, messages, settings, parameters = self.as_given(given)
        return await model.request(messages, settings, parameters)


def _name(model: Model) -> str:
    return str(getattr(model, "model_id", None) or f"{model.system}:{model.model_name}")


def measures(response: ModelResponse) -> dict[str, Any]:
    """What is logged of a request: its tokens, and what it cost where that is known."""
    usage = response.usage
    found: dict[str, Any] = {
        "tokens": usage.total_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
    cost = getattr(usage, "cost", None)
    if cost is None:
        try:
            cost = response.cost().total_price
        except (LookupError, AssertionError, ValueError):  # a model without a price list, or without a name
            return found
    return {**found, "cost": float(cost)}


class DurableModel(WrapperModel):
    """Each request is a step of type ``llm_call``, where it is made in a flow or in a step."""

    def __init__(self, wrapped: Model, course: calling.Course, name: str = "request") -> None:
        super().__init__(wrapped)
        self._course, self._name = course, name

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        request = Request(self.wrapped, messages, model_settings, model_request_parameters)
        recorded = await calling.call_async(
            self._name, request.send, request.arguments, type="llm_call", version=VERSION, place=self._course.next()
        )
        response = load_response(recorded)
        pin(messages, response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        request = Request(self.wrapped, messages, model_settings, model_request_parameters)
        live = await calling.begin_async(
            self._name, request.arguments, type="llm_call", version=VERSION, place=self._course.next()
        )
        if live.is_recorded:
            response = load_response(live.value)
            pin(messages, response)
            yield Replayed(response, model_request_parameters, load_pieces(live.value))
            return
        model, sent, settings, parameters = request.as_given(live.arguments)
        failures: list[Exception] = []
        pieces: Pieces = []
        try:
            async with AsyncExitStack() as stack:
                with live.inside():  # it is sent here, and is this step's own request
                    stream = await stack.enter_async_context(
                        model.request_stream(sent, settings, parameters, run_context)
                    )
                watch(stream, pieces, failures)
                yield stream
                response = stream.get()
        except BaseException as e:
            # Who reads the stream is told of its failure first, and cancels this task then.
            live.fail(failures[0] if failures else e)
            raise
        if failures:
            live.fail(failures[0])
            return
        live.log(**measures(response))
        await live.succeed_async(dump_stream(response, pieces))
        pin(messages, response)

    async def compact_messages(
        self, request_context: ModelRequestContext, *, instructions: str | None = None
    ) -> ModelResponse:
        context = request_context
        request = Request(self.wrapped, context.messages, context.model_settings, context.model_request_parameters)

        async def compact(**given: Any) -> dict[str, Any]:
            model, messages, settings, parameters = request.as_given(
                {name: value for name, value in given.items() if name != "instructions"}
            )
            changed = dataclasses.replace(
                context, messages=messages, model_settings=settings, model_request_parameters=parameters
            )
            response = await model.compact_messages(changed, instructions=given["instructions"])
            log(**measures(response))
            return dump_response(response)

        arguments = {**request.arguments, "instructions": instructions}
        recorded = await calling.call_async(
            "compact", compact, arguments, type="llm_call", version=VERSION, place=self._course.next()
        )
        return load_response(recorded)
