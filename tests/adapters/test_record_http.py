"""`record_http` with the vendors' own clients, against a server on loopback that speaks their wire formats."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

import kitaru
from kitaru import KitaruClient
from kitaru.testing.adapters import TURNS, World
from kitaru.testing.model_server import ModelServer, by_turns

from . import agents, vendors
from .vendors import KEY, ONE, QUESTION, SAID, STEP, STREAMS


def execution(exec_id="x"):
    return KitaruClient().executions.get(exec_id)


def twice(run, crash=True):
    """What `run` gives in an execution that fails after it, and in its resume."""
    out = []
    with pytest.raises(ZeroDivisionError), kitaru.record_http(exec_id="x"):
        out.append(run())
        raise ZeroDivisionError
    with kitaru.record_http(exec_id="x"):
        out.append(run())
    return out


@pytest.mark.parametrize("vendor", ONE)
def test_an_answer_is_recorded_once(store, server, vendor):
    assert twice(lambda: ONE[vendor](server.url)) == [SAID, SAID]
    assert len(server.requests) == 1
    (step,) = execution().checkpoints
    assert (step.label, step.status, step.data.type) == (f"{STEP.get(vendor, vendor)}#1", "completed", "llm_call")
    assert step.metadata["tokens"] == 14
    assert QUESTION in str(step.inputs["messages"].load())
    assert step.metadata["model"] == step.inputs["model"].load()


@pytest.mark.parametrize("vendor", STREAMS)
def test_a_stream_is_recorded_once_and_given_again_event_by_event(store, server, vendor):
    first, again = twice(lambda: list(STREAMS[vendor](server.url)))
    assert first == again
    assert "".join(first) == SAID
    assert len([piece for piece in first if piece]) == 6
    assert len(server.requests) == 1
    (step,) = execution().checkpoints
    assert step.metadata["tokens"] == 14


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("vendor", "fault"),
    [(v, f) for v in ("chat_completions", "responses", "messages") for f in ("429", "500", "reset", "half")]
    + [("converse", "429"), ("converse", "reset"), ("invoke_model", "429"), ("invoke_model", "reset")],
)
def test_what_the_sdk_tries_again_is_an_attempt_of_one_step(store, server, vendor, fault):
    server.faults.append(fault)
    assert twice(lambda: ONE[vendor](server.url)) == [SAID, SAID]
    assert len(server.requests) == 2
    (step,) = execution().checkpoints
    assert (step.status, step.data.attempts) == ("completed", 2)


def test_a_refusal_that_the_code_goes_on_from_is_a_result(store, server):
    import openai

    server.faults.append("401")

    def run():
        try:
            return vendors.chat(server.url, "first")
        except openai.AuthenticationError as e:
            return e.status_code, vendors.chat(server.url, "second")

    assert twice(run) == [(401, "1: second")] * 2
    assert len(server.requests) == 2
    assert [c.status for c in execution().checkpoints] == ["failed", "completed"]
    assert execution().checkpoints[0].failure.message.startswith("chat_completions at http://127.0.0.1")


def test_a_refusal_that_came_out_of_the_code_is_asked_again(store, server):
    import openai

    server.faults.append("401")
    with pytest.raises(openai.AuthenticationError), kitaru.record_http(exec_id="x"):
        vendors.chat(server.url)
    assert (execution().checkpoints[0].status, execution().failed_at) == ("failed", "chat_completions#1")
    with kitaru.record_http(exec_id="x"):
        assert vendors.chat(server.url) == SAID


def test_a_connection_that_broke_and_was_gone_on_from_breaks_again(store, server):
    import openai

    server.faults.extend(["reset"] * 3)

    def run():
        try:
            return vendors.chat(server.url, "first")
        except openai.APIConnectionError as e:
            return type(e.__cause__).__name__, vendors.chat(server.url, "second")

    first, again = twice(run)
    assert first == again
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("vendor", "fault"),
    [(v, f) for v in ("chat_completions", "messages", "converse") for f in ("half", "error")] + [("requests", "half")],
)
def test_a_stream_that_breaks_off_is_asked_for_again(store, server, vendor, fault):
    server.faults.append(fault)
    seen = []
    with pytest.raises(Exception), kitaru.record_http(exec_id="x"):
        seen += STREAMS[vendor](server.url)
        raise AssertionError(seen)
    assert execution().checkpoints[0].status == "failed"
    with kitaru.record_http(exec_id="x"):
        assert "".join(STREAMS[vendor](server.url)) == SAID
    assert len(server.requests) == 2


@pytest.mark.parametrize("vendor", STREAMS)
def test_a_stream_that_ends_as_if_it_were_whole_is_what_the_code_was_given(store, server, vendor):
    def run():
        pieces = []
        with contextlib.suppress(Exception):  # what the SDK makes of it
            pieces += STREAMS[vendor](server.url)
        return "".join(pieces)

    server.faults.append("open")
    first, again = twice(run)
    assert first == again != SAID
    assert SAID.startswith(first)
    assert len(server.requests) == 1


def test_a_stream_that_its_reader_left_gives_what_was_read(store, server):
    def first_piece():
        with contextlib.closing(vendors.chat_stream(server.url)) as pieces:
            return next(pieces)

    def run():
        return first_piece(), vendors.chat(server.url, "next")

    assert twice(run) == [("1: ", "1: next")] * 2
    assert len(server.requests) == 2
    with pytest.raises(ZeroDivisionError), kitaru.record_http(exec_id="y"):
        first_piece()
        raise ZeroDivisionError
    import openai

    with pytest.raises(openai.APIConnectionError) as e, kitaru.record_http(exec_id="y"):
        list(vendors.chat_stream(server.url))
    assert "the reader of chat_completions left its stream here" in str(e.value.__cause__)


# ---------------------------------------------------------------- where it works


def test_in_a_flow_in_a_step_and_nested(store, server):
    @kitaru.checkpoint
    def inner(url):
        with kitaru.record_http():
            return vendors.chat(url, "inner")

    @kitaru.flow
    def body(url):
        with kitaru.record_http() as outer, kitaru.record_http() as again:
            assert outer.exec_id == again.exec_id
            return vendors.chat(url, "outer"), inner(url)

    handle = body.run(server.url)
    assert handle.get() == ("1: outer", "1: inner")
    labels = [c.label for c in execution(handle.exec_id).checkpoints]
    assert labels == ["chat_completions#1", "inner#1", "inner#1/chat_completions#1"]


@pytest.mark.parametrize("way", ["durable", "durable_stream", "llm", "llm_stream"])
def test_a_request_that_another_adapter_records_is_recorded_once(store, way):
    """It stands once in the record, and its tokens are counted once; what a tool asks of a model is the tool's own."""
    import asyncio

    from pydantic_ai import Agent

    from kitaru.adapters.pydantic_ai import durable

    with ModelServer(by_turns(World(TURNS).asked)) as server, ModelServer() as other:

        def look(word: str) -> str:
            return f"look({vendors.by_requests(other.url, word)})"

        def weigh(word: str) -> str:
            return f"weigh({word})"

        async def stream():
            async with durable(agent).run_stream("Begin") as answer:
                return "".join([piece async for piece in answer.stream_text(delta=True, debounce_by=None)])

        model = agents.openai_model(server.url)
        agent = Agent(model, tools=[look, weigh], name="clerk")
        ways = {
            "durable": lambda: durable(agent).run_sync("Begin").output,
            "durable_stream": lambda: asyncio.run(stream()),
            "llm": lambda: kitaru.llm("Begin", model=model, tools=[look, weigh]),
            "llm_stream": lambda: "".join(kitaru.llm("Begin", model=model, tools=[look, weigh], stream=True)),
        }
        with kitaru.record_http(exec_id="x"):
            assert ways[way]() == "so look(1: b),weigh(b)"
    request = "llm" if way.startswith("llm") else "request"
    points = execution().checkpoints
    assert Counter(p.name for p in points) == {request: 3, "look": 2, "weigh": 1, "chat_completions": 2}
    assert all(p.label.startswith("look") for p in points if p.name == "chat_completions")
    assert sum(p.metadata.get("tokens", 0) for p in points) == 5 * 14
    assert (len(server.requests), len(other.requests)) == (3, 2)


def test_in_the_cell_of_a_session(store, server):
    session = kitaru.Session("tour")
    cell = session.step("cell", source="…")
    cell.enter()
    with kitaru.record_http():
        said = vendors.chat(server.url)
    cell.exit()
    cell.succeed({"said": said})
    session.close()
    assert [c.label for c in execution(session.exec_id).checkpoints] == ["cell#1", "cell#1/chat_completions#1"]


def test_a_library_that_is_imported_later_is_wrapped_then(server, tmp_path):
    import os
    import subprocess
    import sys

    code = (
        "import sys, kitaru\n"
        "with kitaru.record_http(exec_id='x'):\n"
        "    assert not {'httpx', 'httpx2', 'requests', 'botocore.endpoint'} & sys.modules.keys()\n"
        "    import requests, httpx\n"
        f"    for post in (requests.post, httpx.post):\n"
        f"        post('{server.url}/v1/chat/completions', json={{'messages': [{{'content': 'a'}}]}})\n"
        "print(len(kitaru.KitaruClient().executions.get('x').checkpoints))\n"
    )
    env = {**os.environ, "KITARU_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "2\n", done.stderr


def test_a_call_over_aiohttp_is_told_not_to_be_recorded(store):
    """A stand-in for aiohttp, which no test needs otherwise."""
    import asyncio
    import types

    from kitaru.adapters.http import over_aiohttp

    class ClientSession:
        async def _request(self, method, str_or_url, **kwargs):
            return method, str_or_url

    module = types.ModuleType("aiohttp.client")
    module.ClientSession = ClientSession
    over_aiohttp.patch(module)

    async def run():
        async with kitaru.record_http(exec_id="x"):
            await ClientSession()._request("GET", "http://x/models")
            return await ClientSession()._request("post", "http://x/v1beta/models/m:generateContent", json={})

    with pytest.warns(kitaru.KitaruWarning, match="goes over aiohttp"):
        assert asyncio.run(run()) == ("post", "http://x/v1beta/models/m:generateContent")


def test_a_redirect_is_followed_again_and_an_escaped_slash_is_part_of_a_model(store, server):
    import httpx2

    asked = {"messages": [{"role": "user", "content": [{"text": "a"}]}]}

    def run():
        with httpx2.Client(follow_redirects=True) as client:
            return client.post(f"{server.url}/moved/model/arn%3Aa%2Fb/converse?key={KEY}", json=asked).json()["usage"]

    first, again = twice(run)
    assert first == again
    assert len(server.requests) == 2
    assert [c.inputs["model"].load() for c in execution().checkpoints] == ["arn:a/b"] * 2


def test_outside_of_it_nothing_is_recorded(store, server):
    @kitaru.flow
    def body(url):
        with kitaru.record_http():
            pass
        return vendors.chat(url)

    handle = body.run(server.url)
    assert execution(handle.exec_id).checkpoints == []


def test_what_calls_no_model_passes_through(store, server):
    import httpx2
    import requests

    with kitaru.record_http(exec_id="x"):
        assert httpx2.get(f"{server.url}/v1/models").json() == {"path": "/v1/models"}
        assert httpx2.post(f"{server.url}/v1/files", json={"a": 1}).json()["asked"] == {"a": 1}
        assert httpx2.post(f"{server.url}/forum/messages", json={"text": "hi"}).json()["asked"] == {"text": "hi"}
        assert requests.post(f"{server.url}/survey/9/responses", data=b"[1", timeout=5).json()["asked"] == "[1"
    assert execution().checkpoints == []


def test_threads_and_gather_each_have_their_answers(store, server):
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    questions = [f"question {n}" for n in range(8)]

    def threads():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda q: vendors.chat(server.url, q), questions))

    assert twice(threads) == [[f"1: {q}" for q in questions]] * 2
    assert len(server.requests) == 8

    async def ask(client, q):
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": q}], stream=True
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def run(crash):
        import openai

        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
            async with kitaru.record_http(exec_id="y"):
                out = await asyncio.gather(*(ask(client, q) for q in questions))
                if crash:
                    raise ZeroDivisionError
                return out

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(crash=True))
    assert asyncio.run(run(crash=False)) == [f"1: {q}" for q in questions]
    assert len(server.requests) == 16


@pytest.mark.parametrize("fault", ["429", "half"])
def test_an_async_client_tries_again_and_is_given_a_recorded_refusal(store, server, fault):
    import asyncio

    import openai

    async def run(crash):
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:

            async def ask(question, **options):
                messages = [{"role": "user", "content": question}]
                made = await client.with_options(**options).chat.completions.create(model="m", messages=messages)
                return made.choices[0].message.content

            async with kitaru.record_http(exec_id="x"):
                out = [await ask("first")]
                try:
                    await ask("refused", max_retries=0)
                except openai.APIError as e:
                    out.append(type(e).__name__)
                out.append(await ask("last"))
                if crash:
                    raise ZeroDivisionError
                return out

    server.faults.extend([fault, "", fault])
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(crash=True))
    refused = "RateLimitError" if fault == "429" else "APIConnectionError"
    assert asyncio.run(run(crash=False)) == ["1: first", refused, "1: last"]
    assert len(server.requests) == 4
    steps = [(c.status, c.data.attempts) for c in execution().checkpoints]
    assert steps == [("completed", 2), ("failed", 1), ("completed", 1)]


def test_a_cancelled_stream_is_asked_for_again(store, server):
    import asyncio
    import threading

    import anthropic

    cancelled = threading.Event()
    server.on_event = lambda n: cancelled.wait(30)

    async def run(cancels):
        async with (
            anthropic.AsyncAnthropic(base_url=server.url, api_key=KEY) as client,
            kitaru.record_http(exec_id="x"),
            client.messages.stream(**{**vendors.asked_of_anthropic(QUESTION), "model": "claude-x"}) as stream,
        ):
            async for event in stream:
                if cancels and event.type == "message_start":
                    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            return "".join(b.text for b in (await stream.get_final_message()).content)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run(cancels=True))
    cancelled.set()
    assert execution().status.value == "interrupted"
    assert asyncio.run(run(cancels=False)) == SAID
    (step,) = execution().checkpoints
    assert (step.status, step.data.attempts, len(server.requests)) == ("completed", 2, 2)


def test_a_stream_is_shown_as_it_comes(store, server):
    """The server holds everything but the first event back until that was seen."""
    import threading

    was_seen, seen = threading.Event(), []
    server.on_event = lambda n: was_seen.wait(30)
    with kitaru.record_http(exec_id="x"):
        for piece in vendors.chat_stream(server.url):
            seen.append(piece)
            was_seen.set()
    assert "".join(seen) == SAID


# ---------------------------------------------------------------- edits, and credentials


@pytest.mark.parametrize("vendor", ["chat_completions", "generate_content", "converse", "requests"])
def test_an_edited_argument_reaches_the_wire(store, server, vendor):
    @kitaru.flow
    def body(vendor, url):
        with kitaru.record_http():
            return ONE[vendor](url)

    first = body.run(vendor, server.url)
    body.replay(first.exec_id, overrides={"type.llm_call.in.model": "another-model"})
    before, after = server.requests
    asked = f"{after.path} {after.json}"
    assert "another-model" in asked
    assert "another-model" not in f"{before.path} {before.json}"
    messages = [{"role": "user", "content": "because"}]
    if vendor == "chat_completions":
        second = body.replay(first.exec_id, overrides={"checkpoint.chat_completions.in.messages": messages})
        assert second.get() == "1: because"


def test_an_edited_answer_is_what_the_sdk_is_given(store, server):
    @kitaru.flow
    def body(url):
        with kitaru.record_http():
            return vendors.chat(url)

    first = body.run(server.url)
    answer = execution(first.exec_id).checkpoints[0].artifacts[0].load()
    answer["choices"][0]["message"]["content"] = "it scatters"
    again = body.replay(first.exec_id, overrides={"checkpoint.chat_completions.response": answer})
    assert (again.get(), len(server.requests)) == ("it scatters", 1)


def test_no_byte_of_the_store_holds_a_credential(store, server, tmp_path, capsys):
    """Neither of what went well, nor of what was refused by a server that repeats the request's credentials."""
    import httpx
    import requests

    tools = [{"type": "mcp", "server_label": "x", "server_url": "http://x", "authorization": KEY, "name": "t"}]
    for n, (vendor, ask) in enumerate(ONE.items()):
        with kitaru.record_http(exec_id=f"well-{n}"):
            assert ask(server.url) == SAID, vendor
        server.faults.extend(["401"] * 3)
        with pytest.raises(Exception) as e, kitaru.record_http(exec_id=f"refused-{n}"):
            ask(server.url)
        assert f"refused-{n}" in "".join(e.value.__notes__)
        server.faults.clear()
        assert "planted" not in execution(f"refused-{n}").failure.message
    url = f"{server.url}/v1/chat/completions?api_key={KEY}"
    asked = {"model": "m", "messages": [], "user_api_key": KEY, "tools": tools}
    server.faults.append("401")
    with pytest.raises(httpx.HTTPStatusError), kitaru.record_http(exec_id="more"):
        httpx.post(url, json=asked, auth=("me", KEY), cookies={"session": KEY}).raise_for_status()
    with pytest.raises(requests.ConnectionError), kitaru.record_http(exec_id="nobody"):
        requests.post(f"http://127.0.0.1:9/v1/chat/completions?key={KEY}", json={"messages": []}, timeout=5)
    assert server.requests[-1].json == asked
    held = [key for key, data in every_byte(store) if any(part in data for part in planted())]
    assert held == []
    assert len(server.requests) == 2 * len(ONE) + 1


def planted():
    """What must be in no byte; not in the test's own body, whose source is recorded."""
    import base64

    names = [KEY, "session-planted-0123", "AKIAPLANTED012345", "planted-cookie"]
    return [*(name.encode() for name in names), base64.b64encode(f"me:{KEY}".encode())]


def every_byte(store):
    """What the store holds, as it is and decompressed."""
    import zlib

    for entry in store.list(""):
        data = store.get(entry.key)
        yield entry.key, data
        for at in range(len(data)):
            if data[at : at + 1] == b"x":
                try:
                    yield entry.key, zlib.decompressobj().decompress(data[at:])
                except zlib.error:
                    pass


# ---------------------------------------------------------------- killed at each request

AGENT = """
import os, sys
import kitaru, openai

client = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="sk-local-agent", max_retries=0)
messages = [{"role": "user", "content": "go"}]
with kitaru.record_http():
    for turn in range(2):
        made = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        messages += [made.choices[0].message.model_dump(), {"role": "user", "content": f"turn {turn}"}]
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        messages += [{"role": "assistant", "content": said}]
print([m["content"] for m in messages])
"""


@pytest.mark.process
def test_an_agent_that_is_killed_at_each_request_goes_on_without_repeating_one(server, tmp_path):
    import os
    import subprocess
    import sys

    (tmp_path / "agent.py").write_text(AGENT)
    env = {**os.environ, "KITARU_STORE": str(tmp_path / "store"), "KITARU_EXEC_ID": "x", "MODEL_URL": server.url}
    processes = []

    def start():
        processes.append(
            subprocess.Popen(
                [sys.executable, "agent.py"],
                cwd=tmp_path,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return processes[-1].communicate(timeout=60)

    killed = set()

    def kill(n):
        if (asked := len(server.requests[-1].json["messages"])) not in killed:
            killed.add(asked)
            processes[-1].kill()

    server.on_request = kill
    for _ in range(4):
        out, said = start()
        assert (processes[-1].returncode, out) == (-9, ""), said
    out, said = start()
    assert processes[-1].returncode == 0, said
    assert out.strip() == str(["go", "1: go", "turn 0", "3: turn 0", "4: 3: turn 0", "turn 1", "6: turn 1"])
    asked = [len(request.json["messages"]) for request in server.requests]
    assert asked == [1, 1, 3, 3, 4, 4, 6, 6]  # the one that it was killed at, and that again
