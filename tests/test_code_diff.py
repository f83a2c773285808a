"""`client.code_diff`: the code that an execution recorded against what would run now."""

import importlib.util
import sys

import pytest

import kitaru
from kitaru.client import KitaruClient
from kitaru.errors import CodeNotFoundError

BEFORE = """\
from kitaru import checkpoint, flow

RATE = 2


def helper(n):
    return n * RATE


@checkpoint
def first(n):
    return helper(n)


@checkpoint
def second(n):
    return n + 1


@checkpoint
def third(n):
    return n


@flow
def body(n):
    return third(second(first(n)))
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a module and import it anew, as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("kitaru.sources._steps", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # else a text of the same size and second is not read again

    def load(text):
        file = tmp_path / "audited_code.py"
        file.write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("audited_code", None)
        spec = importlib.util.spec_from_file_location("audited_code", file)
        module = sys.modules["audited_code"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("audited_code", None)


def test_it_tells_what_changed_and_shows_how(load, store):
    exec_id = load(BEFORE).body.run(1).exec_id
    client = KitaruClient(store)
    assert {c.status for c in client.code_diff(exec_id)} == {"same"}
    load(BEFORE.replace("return n + 1", "return n + 2").replace("RATE = 2", "RATE = 3"))
    found = {c.name: c for c in client.code_diff(exec_id)}
    assert {name: c.status for name, c in found.items()} == {
        "body": "same",
        "first": "changed",
        "second": "changed",
        "third": "same",
    }
    assert "-    return n + 1\n+    return n + 2" in found["second"].diff
    assert found["first"].diff == ""
    assert repr(found["first"]) == "<code of first: changed in what it calls or reads>"


def test_a_step_that_is_gone_is_missing_and_its_source_is_shown(load, store, monkeypatch):
    exec_id = load(BEFORE).body.run(1).exec_id
    monkeypatch.setattr("kitaru.sources._steps", {})
    load(BEFORE.replace("def third", "def fourth").replace("third(", "fourth("))
    found = {c.name: c for c in KitaruClient(store).code_diff(exec_id)}
    assert found["third"].status == "missing"
    assert "def third(n)" in found["third"].recorded


def test_a_renamed_step_is_compared_with_the_step_that_was_it(load, store, monkeypatch):
    exec_id = load(BEFORE).body.run(1).exec_id
    monkeypatch.setattr("kitaru.sources._steps", {})
    renamed = BEFORE.replace("@checkpoint\ndef third", '@checkpoint(was="third")\ndef fourth').replace(
        "third(s", "fourth(s"
    )
    module = load(renamed)
    assert {c.name: c.status for c in KitaruClient(store).code_diff(exec_id)}["third"] == "same"
    assert {row.decision for row in kitaru.plan(exec_id, rerun="changed")} == {"reuse"}
    module = load(renamed.replace("return n\n", "return -n\n"))
    assert [row.decision for row in kitaru.plan(exec_id, rerun="changed")] == ["reuse", "reuse", "rerun"]
    assert module.body.replay(exec_id, rerun="changed").get() == -3


def test_a_plan_imports_the_code_that_it_is_to_compare(load, store, monkeypatch, tmp_path):
    exec_id = load(BEFORE).body.run(1).exec_id
    (tmp_path / "audited_code.py").write_text(BEFORE.replace("return n + 1", "return n + 2"))
    for known in ("_steps", "_registered"):
        monkeypatch.setattr(f"kitaru.sources.{known}", {})
    del sys.modules["audited_code"]
    importlib.invalidate_caches()
    plans = [kitaru.plan(exec_id, rerun=["changed"]), KitaruClient(store).executions.plan(exec_id, rerun="changed")]
    assert [[row.decision for row in plan] for plan in plans] == [["reuse", "rerun", "rerun?"]] * 2


def test_code_that_is_nowhere_is_told_by_the_step_that_misses_it(load, store, monkeypatch, tmp_path):
    exec_id = load(BEFORE).body.run(1).exec_id
    (tmp_path / "audited_code.py").unlink()
    for known in ("_steps", "_registered"):
        monkeypatch.setattr(f"kitaru.sources.{known}", {})
    del sys.modules["audited_code"]
    importlib.invalidate_caches()
    with pytest.raises(CodeNotFoundError, match="the code of the step first is not to be found"):
        kitaru.plan(exec_id, rerun="changed")
    with pytest.raises(CodeNotFoundError, match="--code nowhere"):
        KitaruClient(store).executions.plan(exec_id, rerun="changed", code="nowhere")
