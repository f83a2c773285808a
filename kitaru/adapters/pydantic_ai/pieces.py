"""The pieces in which a streamed response came: what is recorded of them, and a stream that comes in them again.

A response is recorded whole, and beside it how long each piece was: ``[[0, 4, 3], [1, 0, 9]]`` are four characters of
the part 0, three more, and then the part 1, which began with none and went on with nine. Characters of a part are those
of its text, of its thoughts, or of its arguments where those are a text. What else there is of it, such as a signature
or the name of a tool, comes with its first piece.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    TextPartDelta,
    ThinkingPartDelta,
    ToolCallPartDelta,
)
from pydantic_ai.models import CompletedStreamedResponse, ModelRequestParameters, StreamedResponse

__all__ = ["Pieces", "Replayed", "watch"]

Pieces = list[list[int]]

_DELTAS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "text": ("content", lambda said: TextPartDelta(content_delta=said)),
    "thinking": ("content", lambda said: ThinkingPartDelta(content_delta=said)),
    "tool-call": ("args", lambda said: ToolCallPartDelta(args_delta=said)),
    "builtin-tool-call": ("args", lambda said: ToolCallPartDelta(args_delta=said)),
}
"""By the kind of a part: where its characters are, and how more of them are said."""


def watch(stream: StreamedResponse, pieces: Pieces, failures: list[Exception]) -> None:
    """Note in `pieces` how a stream comes, and in `failures` what it fails with: whoever reads it is another task."""
    events = stream._get_event_iterator

    async def watched() -> AsyncIterator[Any]:
        try:
            async for event in events():
                _note(event, pieces)
                yield event
        except Exception as e:
            failures.append(e)
            raise

    stream._get_event_iterator = watched  # type: ignore[method-assign]


def _note(event: Any, pieces: Pieces) -> None:
    if isinstance(event, PartStartEvent):
        pieces.append([event.index, len(_characters(event.part))])
    elif isinstance(event, PartDeltaEvent):
        said = getattr(event.delta, "args_delta", None) or getattr(event.delta, "content_delta", None)
        if isinstance(said, str):
            if not pieces or pieces[-1][0] != event.index:
                pieces.append([event.index])
            pieces[-1].append(len(said))


def _characters(part: ModelResponsePart) -> str:
    where, _ = _DELTAS.get(part.part_kind, ("", None))
    said = getattr(part, where, None)
    return said if isinstance(said, str) else ""


class Replayed(CompletedStreamedResponse):
    """A recorded stream, in the pieces in which it came.

    A response that was not streamed comes part by part, and so does one that has been edited to another length.
    """

    def __init__(self, response: ModelResponse, parameters: ModelRequestParameters, pieces: Pieces | None) -> None:
        super().__init__(response, model_request_parameters=parameters, replay_events=True)
        whole = [[n, len(_characters(part))] for n, part in enumerate(response.parts)]
        self._pieces = pieces if pieces and _sums(pieces) == whole else whole

    async def _get_event_iterator(self) -> AsyncIterator[Any]:
        said = [0] * len(self.response.parts)
        begun: set[int] = set()
        for index, *lengths in self._pieces:
            part = self.response.parts[index]
            characters = _characters(part)
            where, more = _DELTAS.get(part.part_kind, ("", None))
            for length in lengths:
                piece = characters[said[index] : said[index] + length]
                said[index] += length
                event: PartStartEvent | PartDeltaEvent
                if index in begun and more is not None:
                    event = PartDeltaEvent(index=index, delta=more(piece))
                else:
                    first: dict[str, Any] = {where: piece} if characters else {}
                    event = PartStartEvent(index=index, part=replace(part, **first))
                begun.add(index)
                self._parts_manager.apply_event(event)
                yield event

    def get(self) -> ModelResponse:
        """What has come so far."""
        response = super().get()
        if self._finished:
            return response
        return replace(response, parts=self._parts_manager.get_parts(), state="incomplete")


def _sums(pieces: Pieces) -> Pieces:
    """How long each part is in all, in the order in which they began."""
    sums: dict[int, int] = {}
    for index, *lengths in pieces:
        sums[index] = sums.get(index, 0) + sum(lengths)
    return [[index, n] for index, n in sums.items()]
