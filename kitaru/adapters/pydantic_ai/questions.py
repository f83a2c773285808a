"""A question of `kitaru.llm`, as a run of an agent that has nothing but a model, and perhaps tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, infer_model

from ...context import Place
from ...errors import UsageError
from ...ids import check_step_name
from .agents import Course, Durability

__all__ = ["Course", "Question"]


class Question:
    """What is asked of which model, and what the answer must be; see `kitaru.llm`."""

    def __init__(
        self,
        prompt: Any,
        model: str | Model,
        schema: Any,
        tools: Sequence[Callable[..., Any]],
        instructions: str | None,
        settings: Mapping[str, Any] | None,
        retries: int,
        name: str,
        *,
        stream: bool,
    ) -> None:
        if stream and schema is not None:
            raise UsageError("stream=True gives the text piece by piece, and an answer of a schema= is whole: choose")
        self._prompt, self._history = _conversation(prompt)
        self._name, self._settings = check_step_name(name), settings
        self._agent: Agent[None, Any] = Agent(
            _model(model),
            output_type=str if schema is None else schema,
            tools=list(tools),
            instructions=instructions,
            retries=retries,
        )

    def place(self) -> Place | None:
        """The place of its first request, which is where this is called."""
        return Course().reserve(self._name)

    async def answer(self, course: Course | Place | None) -> Any:
        """The answer. `course` is that of a body that blocks for it, or the place of its first request."""
        result = await self._agent.run(self._prompt, **self._options(course))
        return result.output

    async def stream(self, course: Course | Place | None) -> AsyncIterator[str]:
        """The answer's text, piece by piece."""
        async with self._agent.run_stream(self._prompt, **self._options(course)) as answer:
            async for piece in answer.stream_text(delta=True, debounce_by=None):
                yield piece

    def _options(self, course: Course | Place | None) -> dict[str, Any]:
        if not isinstance(course, Course):
            course = Course(course)  # here, in the task that awaits the answer
        return {
            "message_history": self._history,
            "model_settings": self._settings,
            "capabilities": [Durability(course, self._name)],
        }


def _model(model: str | Model) -> Model:
    if model == "local":
        from ..local import local_model

        return local_model()
    return infer_model(model)


def _conversation(prompt: Any) -> tuple[str | None, list[ModelMessage] | None]:
    """The last words of the user, and what was said before."""
    if isinstance(prompt, str):
        return prompt, None
    if not isinstance(prompt, Sequence) or not prompt:
        raise UsageError(f"the prompt {prompt!r:.60} is neither a text nor messages")
    messages = [one if isinstance(one, ModelRequest | ModelResponse) else _message(one) for one in prompt]
    if isinstance(messages[-1], ModelResponse):
        raise UsageError("the last message is the model's own: what is it to answer?")
    return None, messages


def _message(said: Any) -> ModelMessage:
    role = said.get("role") if isinstance(said, Mapping) else None
    content = said.get("content") if isinstance(said, Mapping) else None
    if isinstance(content, str):
        if role == "system":
            return ModelRequest([SystemPromptPart(content)])
        if role == "user":
            return ModelRequest([UserPromptPart(content)])
        if role == "assistant":
            return ModelResponse([TextPart(content)])
    raise UsageError(
        f'the message {said!r:.60} is none: write {{"role": "user", "content": "…"}} (or system, or assistant), or a '
        "message of Pydantic AI"
    )
