"""What every adapter promises, as one suite of tests."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from .. import KitaruClient, flow, location
from ..client import Execution
from ..errors import StoreError
from ..flows import Flow
from ..stores.memory import MemoryStore
from .faults import FaultyStore, SimulatedCrash

__all__ = ["AdapterContract", "Turn", "World"]


@dataclass(frozen=True)
class Turn:
    """What the model of a test answers: calls of tools, or a text.

    Attributes
    ----------
    calls : tuple of (str, str)
        Tools, and the word that each is called with; all at once.
    text : str
        The last answer. ``{}`` in it stands for what the tools gave in the turn before, separated by commas.
    """

    calls: tuple[tuple[str, str], ...] = ()
    text: str = ""


class World:
    """What is outside of an execution: it counts what reaches it, and goes wrong when a test says so.

    The driver of an adapter calls `asked` where its model is asked, and `called` where a tool's body runs.

    Attributes
    ----------
    begun, done : list of str
        What reached it, and what it then gave: ``request 1``, ``look a``.
    wrong : dict of str to callable
        What happens once to that request or tool call, after it has begun and before it has been done.
    """

    # No dataclass, which would be data, and count as an input of the flow that closes over it.

    def __init__(self, turns: Sequence[Turn], wrong: Mapping[str, Callable[[], object]] | None = None) -> None:
        self.turns, self.wrong = turns, dict(wrong or {})
        self.begun: list[str] = []
        self.done: list[str] = []

    def asked(self, turn: int, results: Sequence[str] = ()) -> Turn:
        """The model is asked for its answer number `turn`, from 0, and was given these results of tools."""
        self._meet(f"request {turn + 1}")
        answer = self.turns[turn]
        return Turn(answer.calls, answer.text.replace("{}", ",".join(results)))

    def called(self, tool: str, word: str) -> str:
        """A tool's body runs: what it gives."""
        self._meet(f"{tool} {word}")
        return f"{tool}({word})"

    def _meet(self, event: str) -> None:
        self.begun.append(event)
        wrong = self.wrong.pop(event, None)
        if wrong is not None:
            wrong()
        self.done.append(event)


class ToolDown(Exception):
    """What a test lets a tool, or a model, fail with."""


TURNS = (
    Turn(calls=(("look", "a"),)),
    Turn(calls=(("look", "b"), ("weigh", "b"))),
    Turn(text="so {}"),
)
EVENTS = ("request 1", "look a", "request 2", "look b", "weigh b", "request 3")
RESULT = "so look(b),weigh(b)"


class AdapterContract:
    """Subclass it, and every promise of an adapter becomes a test of yours.

    Override `talk` with a loop of a model and tools, as a user of your SDK writes it, made durable by your adapter:
    the model asks `World.asked` for its answers, and the tools ``look`` and ``weigh`` ask `World.called` for theirs.
    Each request must be a step of type ``llm_call``, each call of a tool one of type ``tool_call`` that is named after
    the tool. The SDK must not try again by itself.

    `talk` may be a plain function too: then so is the flow around it, conversations beside each other are threads, and
    what stops one is Ctrl-C. So the tests run in the main thread.

    Where the SDK sends over HTTP, `kitaru.testing.model_server.ModelServer` is such a model.

    Attributes
    ----------
    request : str
        The name of a request's step.

    Examples
    --------
    ::

        class TestMyAdapter(AdapterContract):
            async def talk(self, world, prompt, *, stream=False):
                agent = my_adapter.durable(MyAgent(model=scripted(world), tools=[...]))
                return await agent.run(prompt)

        class TestMyHttpAdapter(AdapterContract):
            async def talk(self, world, prompt, *, stream=False):
                with ModelServer(by_turns(world.asked)) as server:
                    return await my_adapter.run(prompt, base_url=server.url, tools=[...])
    """

    request = "request"

    def talk(self, world: World, prompt: str, *, stream: bool = False) -> str | Coroutine[Any, Any, str]:
        """Let the agent run to its last answer, and give that: the text, or what was streamed of it, joined."""
        raise NotImplementedError

    # ------------------------------------------------------------ what the tests need

    @pytest.fixture(autouse=True)
    def _place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each test records in a place of its own, behind a wrapper that can crash."""
        self._patch = monkeypatch
        self._inner = MemoryStore()
        self._restart()

    def _restart(self) -> None:
        """A new process: what the old one held of the store is gone."""
        self._store = FaultyStore(self._inner)
        self._patch.setattr(location, "_connected", self._store)

    def _crash(self) -> None:
        self._store.crash()
        raise SimulatedCrash

    def _flow(self, world: World, *, stream: bool = False) -> Flow[[str], Any]:
        talk: Any = self.talk

        if self._is_async():

            @flow
            async def conversation(prompt: str) -> str:
                said: str = await talk(world, prompt, stream=stream)
                return said
        else:

            @flow
            def conversation(prompt: str) -> str:
                said: str = talk(world, prompt, stream=stream)
                return said

        return conversation

    def _flow_beside(self, worlds: Sequence[World]) -> Flow[[], Any]:
        """A conversation in each of these worlds, all at once."""
        talk: Any = self.talk

        if self._is_async():

            @flow
            async def conversations() -> list[str]:
                said: list[str] = await asyncio.gather(*[talk(w, f"Begin {n}") for n, w in enumerate(worlds)])
                return said
        else:

            @flow
            def conversations() -> list[str]:
                with ThreadPoolExecutor(len(worlds)) as pool:
                    return [*pool.map(lambda n: talk(worlds[n], f"Begin {n}"), range(len(worlds)))]

        return conversations

    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.talk)

    def _run(self, world: World, *, stream: bool = False) -> str:
        made: str = self._flow(world, stream=stream).options(exec_id="x").run("Begin").get()
        return made

    def _execution(self, exec_id: str = "x") -> Execution:
        return KitaruClient().executions.get(exec_id)

    def _names(self, exec_id: str = "x") -> list[str]:
        return sorted(str(point.label) for point in self._execution(exec_id).checkpoints)

    # ------------------------------------------------------------ each is recorded, once

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_each_request_and_each_call_is_recorded_once(self, stream: bool) -> None:
        world = World(TURNS)
        assert self._run(world, stream=stream) == RESULT
        assert Counter(world.done) == Counter(EVENTS)
        points = self._execution().checkpoints
        assert Counter((p.name, p.data.type) for p in points) == Counter(
            {(self.request, "llm_call"): 3, ("look", "tool_call"): 2, ("weigh", "tool_call"): 1}
        )
        assert {p.status for p in points} == {"completed"}
        assert self._names() == sorted(
            [f"{self.request}#1", f"{self.request}#2", f"{self.request}#3", "look#1", "look#2", "weigh#1"]
        )

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_what_has_completed_is_given_back_without_a_request(self, stream: bool) -> None:
        world = World(TURNS)
        first = self._run(world, stream=stream)
        world.done.clear()
        again = self._flow(world, stream=stream).replay("x")
        assert again.get() == first
        assert world.done == []

    def test_tokens_are_logged_with_each_request(self) -> None:
        self._run(World(TURNS))
        logged = [p.metadata for p in self._execution().checkpoints if p.data.type == "llm_call"]
        assert all(isinstance(each.get("tokens"), int) for each in logged), logged

    # ------------------------------------------------------------ crashes

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    @pytest.mark.parametrize("event", EVENTS)
    def test_a_crash_at_each_resumes_without_repeating_one(self, event: str, stream: bool) -> None:
        world = World(TURNS, wrong={event: self._crash})
        with pytest.raises((SimulatedCrash, StoreError)):  # whoever comes to the dead store first, or the journal
            self._run(world, stream=stream)
        points = KitaruClient(self._inner).executions.get("x").checkpoints
        recorded = {p.label for p in points if p.status == "completed"}
        self._restart()
        assert self._run(world, stream=stream) == RESULT
        beside = {"look b", "weigh b"} if event in {"look b", "weigh b"} else set()  # it may have been in flight too
        for e in EVENTS:
            assert world.done.count(e) == 1 or (e in beside and world.done.count(e) == 2), (e, world.done)
        assert recorded <= set(self._names())

    # ------------------------------------------------------------ edits

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_an_edited_tool_result_runs_what_follows_again_and_nothing_else(self, stream: bool) -> None:
        world = World(TURNS)
        self._run(world, stream=stream)
        world.done.clear()
        fork = self._flow(world, stream=stream).replay("x", overrides={"checkpoint.look#2": "nothing"})
        assert fork.get() == "so nothing,weigh(b)"
        assert world.done == ["request 3"]

    def test_an_edit_of_the_first_result_asks_the_model_again_and_calls_no_tool_again(self) -> None:
        world = World(TURNS)
        self._run(world)
        world.done.clear()
        fork = self._flow(world).replay("x", overrides={"checkpoint.look": "nothing"})
        assert fork.get() == RESULT
        assert world.done[0] == "request 2"
        assert "look a" not in world.done
        assert "request 1" not in world.done

    # ------------------------------------------------------------ errors

    @pytest.mark.parametrize("event", EVENTS)
    def test_what_failed_runs_again_and_nothing_before_it(self, event: str) -> None:
        def fail() -> None:
            raise ToolDown(event)

        world = World(TURNS, wrong={event: fail})
        with pytest.raises(Exception, match=event):
            self._run(world)
        assert self._execution().status.value == "failed"
        assert self._run(world) == RESULT
        for e in EVENTS:
            assert world.done.count(e) in ({1, 2} if {e, event} <= {"look b", "weigh b"} else {1}), (e, world.done)

    # ------------------------------------------------------------ concurrency, cancellation

    def test_conversations_beside_each_other_are_not_mixed_up(self) -> None:
        worlds = [
            World((Turn(calls=(("look", word),)), Turn(calls=(("weigh", word),)), Turn(text=f"{word}: {{}}")))
            for word in ("a", "b", "c")
        ]
        conversations = self._flow_beside(worlds)
        made = conversations.options(exec_id="x").run().get()
        assert made == ["a: weigh(a)", "b: weigh(b)", "c: weigh(c)"]
        for world in worlds:
            world.done.clear()
        assert conversations.replay("x").get() == made
        assert [world.done for world in worlds] == [[], [], []]

    def test_a_run_that_was_stopped_goes_on(self) -> None:
        world = World(TURNS)
        if self._is_async():
            self._cancel(world)
        else:
            self._interrupt(world)
        assert self._run(world) == RESULT
        assert Counter(world.done) == Counter(EVENTS)

    def _cancel(self, world: World) -> None:
        """Its task is cancelled while the model thinks."""
        task: asyncio.Future[Any]

        def cancel() -> None:
            task.get_loop().call_soon_threadsafe(task.cancel)
            raise asyncio.CancelledError

        async def run() -> None:
            nonlocal task
            handle = self._flow(world).options(exec_id="x").run("Begin")
            task = asyncio.ensure_future(handle.result())
            await task

        world.wrong["request 2"] = cancel
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run())

    def _interrupt(self, world: World) -> None:
        """Ctrl-C while the model thinks."""

        def interrupt() -> None:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            raise KeyboardInterrupt  # in a thread of its own, which hears no signal

        world.wrong["request 2"] = interrupt
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        try:
            with pytest.raises(KeyboardInterrupt):
                self._run(world)
        finally:
            signal.signal(signal.SIGINT, before)
