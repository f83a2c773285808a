"""`record_http` keeps what every adapter promises, with each vendor's own client."""

from __future__ import annotations

import functools
import ssl
from collections import Counter, deque

import pytest

import kitaru
from kitaru.testing.adapters import EVENTS, RESULT, TURNS, AdapterContract, World
from kitaru.testing.model_server import ModelServer, by_turns

from . import agents


def tools_of(world):
    @kitaru.checkpoint(type="tool_call")
    def look(word: str) -> str:
        return world.called("look", word)

    @kitaru.checkpoint(type="tool_call")
    def weigh(word: str) -> str:
        return world.called("weigh", word)

    return {"look": look, "weigh": weigh}


@pytest.fixture(scope="module", autouse=True)
def _certificates_are_read_once():
    """Nothing here is encrypted, and each client reads them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


class HttpContract(AdapterContract):
    """And what a server does to its clients costs no other request than the one that it was done to."""

    vendor: agents.Vendor
    faults = ()

    @pytest.mark.parametrize(
        ("fault", "stream"),
        [(fault, stream) for fault in ("429", "500", "reset", "half") for stream in (False, True)] + [("error", True)],
    )
    def test_what_a_server_does_wrong_costs_that_request_alone(self, fault, stream):
        world = World(TURNS)
        self.faults = ("", fault)
        with pytest.raises(Exception):
            self._run(world, stream=stream)
        assert self._execution().failed_at == f"{self.request}#2"
        self.faults = ()
        assert self._run(world, stream=stream) == RESULT
        was_answered = fault in {"half", "error"}
        assert Counter(world.done) == Counter(EVENTS) + Counter({"request 2": int(was_answered)})


class Async(HttpContract):
    async def talk(self, world, prompt, *, stream=False):
        with ModelServer(by_turns(world.asked)) as server, kitaru.record_http():
            server.faults = deque(self.faults)
            return await agents.talk_async(self.vendor, server.url, prompt, tools_of(world), lambda n: stream)


class Blocking(HttpContract):
    def talk(self, world, prompt, *, stream=False):
        with ModelServer(by_turns(world.asked)) as server, kitaru.record_http():
            server.faults = deque(self.faults)
            return agents.talk(self.vendor, server.url, prompt, tools_of(world), lambda n: stream)


class TestChat(Async):
    vendor, request = agents.ASYNC["chat_completions"], "chat_completions"


class TestResponses(Async):
    vendor, request = agents.ASYNC["responses"], "responses"


class TestMessages(Async):
    vendor, request = agents.ASYNC["messages"], "messages"


class TestGenerate(Async):
    vendor, request = agents.ASYNC["generate_content"], "generate_content"


class TestMistral(Async):
    vendor, request = agents.ASYNC["mistral"], "chat_completions"


class TestChatBlocking(Blocking):
    vendor, request = agents.BLOCKING["chat_blocking"], "chat_completions"


class TestConverse(Blocking):
    vendor, request = agents.BLOCKING["converse"], "converse"


class TestInvoke(Blocking):
    vendor, request = agents.BLOCKING["invoke_model"], "invoke_model"


class TestRequests(Blocking):
    vendor, request = agents.BLOCKING["requests"], "chat_completions"
