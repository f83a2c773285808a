"""`kitaru.llm`: one question to a model, durable. Pydantic AI speaks with the models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import Model

    Prompt = str | Sequence[ModelMessage | Mapping[str, Any]]

__all__ = ["llm", "llm_async"]


@overload
def llm(
    prompt: Prompt,
    *,
    model: str | Model,
    stream: Literal[True],
    tools: Sequence[Callable[..., Any]] = (),
    instructions: str | None = None,
    settings: Mapping[str, Any] | None = None,
    retries: int = 1,
    name: str = "llm",
) -> Iterator[str]: ...


@overload
def llm(
    prompt: Prompt,
    *,
    model: str | Model,
    schema: Any = None,
    tools: Sequence[Callable[..., Any]] = (),
    stream: Literal[False] = False,
    instructions: str | None = None,
    settings: Mapping[str, Any] | None = None,
    retries: int = 1,
    name: str = "llm",
) -> Any: ...


def llm(
    prompt: Prompt,
    *,
    model: str | Model,
    schema: Any = None,
    tools: Sequence[Callable[..., Any]] = (),
    stream: bool = False,
    instructions: str | None = None,
    settings: Mapping[str, Any] | None = None,
    retries: int = 1,
    name: str = "llm",
) -> Any:
    """Ask a model. In a flow and in a step each request is a step of type ``llm_call``; elsewhere it is just sent.

    Parameters
    ----------
    prompt
        A text; or messages: those of Pydantic AI, or dicts with a ``role`` (system, user, assistant) and a ``content``.
    model
        Its name, as Pydantic AI writes them (``"openai:gpt-5"``, ``"anthropic:claude-opus-4-5"``, ``"test"``);
        ``"local"`` for a small one on this machine (the extra ``local-llm``); or a `pydantic_ai.models.Model`.
    schema
        What the answer must be: a type that pydantic can check, such as a model, a dataclass, ``Literal[…]``,
        ``list[str]``. The answer comes as that type.
    tools
        Functions that the model may call, with annotations and a docstring for it to read. Each call is a step of type
        ``tool_call``, named after the function, and the answer is the one that follows the last of them.
    stream
        Give the text piece by piece, as an iterator. A recorded answer comes in the same pieces.
    instructions
        What stands above the conversation, as a system prompt.
    settings
        Of the model: ``{"temperature": 0}``. Headers are not recorded.
    retries
        How often the model is asked again, where its answer does not fit `schema`, or a tool raises ``ModelRetry``.
    name
        The name of the requests' steps.

    Returns
    -------
    Any
        The text, or an instance of `schema`.

    Raises
    ------
    UsageError
        `prompt` or a combination of options is none.
    pydantic_ai.exceptions.UnexpectedModelBehavior
        The answer did not fit `schema`, however often the model was asked.

    Examples
    --------
    >>> import kitaru
    >>> @kitaru.flow
    ... def greet(name: str) -> str:
    ...     return kitaru.llm(f"Greet {name}.", model="test")
    >>> handle = greet.run("Ada")
    >>> handle.get()
    'success (no tool calls)'
    >>> kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints
    [<checkpoint llm#1: completed>]
    """
    from . import loops
    from .pydantic_ai.questions import Course, Question

    asked = Question(prompt, model, schema, tools, instructions, settings, retries, name, stream=stream)
    course = Course()
    return loops.stream(lambda: asked.stream(course)) if stream else loops.run(lambda: asked.answer(course))


def llm_async(
    prompt: Prompt,
    *,
    model: str | Model,
    schema: Any = None,
    tools: Sequence[Callable[..., Any]] = (),
    stream: bool = False,
    instructions: str | None = None,
    settings: Mapping[str, Any] | None = None,
    retries: int = 1,
    name: str = "llm",
) -> Coroutine[Any, Any, Any] | AsyncIterator[str]:
    """As `llm`, to be awaited; with ``stream=True``, to be iterated with ``async for``.

    Its place is here, where it is called, so several at once keep theirs in `asyncio.gather`.
    """
    from .pydantic_ai.questions import Question

    asked = Question(prompt, model, schema, tools, instructions, settings, retries, name, stream=stream)
    place = asked.place()
    return asked.stream(place) if stream else asked.answer(place)
