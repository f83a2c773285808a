"""The pytest plugin: a place of its own for each test, and recorded executions as tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.stores import LocalStore

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]

LICENCES = """
import os
from dataclasses import dataclass
from kitaru import checkpoint, flow

@dataclass
class Package:
    name: str

@checkpoint
def collect(wanted):
    return [package for package in wanted if package.name]

@checkpoint(type="llm_call")
def classify(package):
    with open(os.environ["MODEL"], "a") as calls:
        calls.write(package.name + "\\n")
    if package.name == "boto3" and BROKEN:
        raise ValueError("the model did not answer")
    return {"licence": "BSD" if package.name == "numpy" else "GPL"}

@checkpoint
def risk(found):
    return 9 if found["licence"] == "GPL" else 1

@checkpoint
def write_report(risks):
    return f"worst risk: {max(risks)}"

@flow
def audit(wanted):
    packages = collect(wanted)
    assert all(type(p) is Package for p in packages)
    return write_report([risk(classify(package)) for package in packages])

if __name__ == "__main__":
    print(audit.run([Package("numpy"), Package("boto3")]).get())
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A store with `audit-bad`, failed at classify#2, and `audit-7f3c`, completed: by a script that was elsewhere."""
    here = tmp_path_factory.mktemp("elsewhere")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    environment |= {"PYTHONPATH": str(ROOT), "MODEL": os.devnull, "KITARU_STORE": str(here / "recorded")}
    for exec_id, broken in (("audit-bad", "True"), ("audit-7f3c", "False")):
        (here / "licences.py").write_text(LICENCES.replace("BROKEN", broken))
        subprocess.run(
            [sys.executable, "licences.py"], cwd=here, env=environment | {"KITARU_EXEC_ID": exec_id},
            check=broken == "False", capture_output=True, timeout=60,
        )  # fmt: skip
    (here / "licences.py").unlink()
    return here / "recorded"


@pytest.fixture
def project(pytester, monkeypatch):
    """Run tests as a user's: `project(text, "-n", "2")`."""

    def run(text=None, *options, how="inprocess"):
        if text is not None:
            pytester.makepyfile(text)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        argv = ["-p", "kitaru.testing.plugin", "-W", "error", "-p", "no:cacheprovider", *options]
        return pytester.runpytest_subprocess(*argv) if how == "subprocess" else pytester.runpytest_inprocess(*argv)

    return run


@pytest.fixture
def kept(pytester, project, recordings, monkeypatch):
    """The same, in a repository with the recordings, and with the script, mended, as a module."""
    shutil.copytree(recordings, pytester.path / "recorded")
    licences = pytester.path / "licences.py"
    licences.write_text(LICENCES.replace("BROKEN", "False"))
    pytester.syspathinsert()
    monkeypatch.setenv("MODEL", str(pytester.path / "calls"))
    (pytester.path / "calls").touch()
    project.calls = lambda: (pytester.path / "calls").read_text().split()
    project.changed = lambda flow: licences.write_text(licences.read_text() + textwrap.dedent(flow))
    project.recorded = pytester.path / "recorded"
    return project


def contents(folder):
    return {str(p): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in [folder, *folder.rglob("*")]}


# ---------------------------------------------------------------- replays


@pytest.mark.process
def test_a_run_that_failed_is_a_test_that_passes_once_the_code_is_mended(kept):
    before = contents(kept.recorded)
    ran = kept("""
        import kitaru
        from licences import audit

        def test_a_silent_model(replay, kitaru_store):
            run = replay("recorded/audit-bad", audit, only={"classify#2", "risk", "write_report"})
            assert run.result == "worst risk: 9"
            assert run.reused == ["collect#1", "classify#1", "risk#1"]
            assert run.ran == ["classify#2", "risk#2", "write_report#1"]
            assert (run.status, run.failure, run.edited) == ("completed", None, [])
            assert run.origin.failed_at == "classify#2"
            assert run.execution.store is kitaru_store
            assert "classify#2" in repr(kitaru.diff(run.origin, run.execution))
    """)
    ran.assert_outcomes(passed=1)
    assert kept.calls() == ["boto3"]
    assert contents(kept.recorded) == before


@pytest.mark.process
def test_a_replay_with_an_edit_runs_what_depends_on_it_and_calls_no_model(kept):
    ran = kept("""
        from licences import Package, audit

        def test_the_wrong_licence(replay):
            edit = {"checkpoint.classify#2": {"licence": "MIT"}}
            run = replay("recorded/audit-7f3c", flow=audit, overrides=edit, only={"risk", "write_report"})
            assert run.result == "worst risk: 1"
            assert (run.ran, run.edited) == (["risk#2", "write_report#1"], ["classify#2"])
            inputs = {"wanted": [Package("numpy")]}
            again = replay("recorded/audit-7f3c", audit, inputs=inputs, only={"collect", "write_report"})
            assert again.result == "worst risk: 1"

        def test_nothing_has_changed(replay):
            assert replay("recorded/audit-7f3c", audit, only=()).ran == []
    """)
    ran.assert_outcomes(passed=2)
    assert kept.calls() == []


@pytest.mark.process
def test_a_step_that_may_not_run_fails_the_test_before_it_begins_and_says_why(kept):
    ran = kept("""
        from licences import audit

        def test_one(replay):
            edit = {"checkpoint.collect": []}
            replay("recorded/audit-bad", audit, only={"risk"}, raises=False)

        def test_none(replay):
            replay("recorded/audit-7f3c", audit, overrides={"checkpoint.classify#2": {"licence": "MIT"}}, only=())
    """)
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines([
        "audit-bad, replayed: classify#2 was about to run, and only risk may. Up to there:",
        "risk *reused *the same inputs",
        "classify#2 *ran *it had no result",
        "audit-7f3c, replayed: risk#2 was about to run, and no step may. Up to there:",
        "risk#2 *ran *found was dict(1) {'licence': 'GPL'}, is dict(1) {'licence': 'MIT'}",
    ])  # fmt: skip
    ran.stdout.no_fnmatch_line("*During handling*")
    assert kept.calls() == []


@pytest.mark.process
def test_a_step_in_a_worker_that_may_not_run_ends_the_test_too(kept):
    kept.changed("""
        @flow
        def audit(wanted):
            try:
                futures = [classify.submit(package) for package in collect(wanted)]
                return write_report([risk(f.result()) for f in futures])
            except Exception:
                return "all is well"
    """)
    ran = kept("""
        from licences import audit

        def test_one(replay):
            replay("recorded/audit-bad", audit, only=())
    """)
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*classify#2 was about to run, and no step may.*"])
    assert kept.calls() == []


@pytest.mark.process
def test_an_edit_that_no_call_meets_fails_the_test(kept):
    kept.changed("""
        @flow
        def audit(wanted):
            return len(collect(wanted))
    """)
    ran = kept("""
        from licences import audit

        def test_one(replay):
            replay("recorded/audit-7f3c", audit, overrides={"checkpoint.risk#2": 1})
    """)
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["audit-7f3c, replayed: no call of this run has met the edit of risk#2.*", "collect *"])


@pytest.mark.process
def test_the_flows_own_exception_is_raised_unless_it_is_asked_for(kept):
    ran = kept("""
        import pytest
        from kitaru import flow
        from licences import audit, collect

        def test_raised(replay):
            with pytest.raises(KeyError, match="licence"):
                replay("recorded/audit-7f3c", audit, overrides={"checkpoint.classify#2": {}})

        def test_given(replay):
            run = replay("recorded/audit-7f3c", audit, overrides={"checkpoint.classify#2": {}}, raises=False)
            assert (run.status, run.failure.summary()) == ("failed", "KeyError: 'licence'")
            assert run.ran == ["risk#2"]
            with pytest.raises(KeyError):
                run.result

        def test_shown(replay):
            replay("recorded/audit-7f3c", audit, overrides={"checkpoint.classify#2": {}})
    """)
    ran.assert_outcomes(passed=2, failed=1)
    ran.stdout.fnmatch_lines(["E * KeyError: 'licence'"])
    ran.stdout.no_fnmatch_line("*recordings.py*")  # its frames are no news


@pytest.mark.process
def test_without_a_flow_the_recorded_one_is_looked_for(kept):
    ran = kept("""
        import licences

        def test_missing(replay):
            replay("recorded/audit-7f3c")

        def test_another(replay):
            from kitaru import flow

            @flow
            def other(wanted): ...

            replay("recorded/audit-7f3c", other)
    """)
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines(["*CodeNotFoundError: the code of the flow audit is not to be found here*"])
    ran.stdout.fnmatch_lines(["*audit-7f3c is an execution of the flow audit, not of other"])


def test_a_flow_that_its_test_file_defines_and_an_async_one_within_a_loop(project, pytester):
    text = """
        import asyncio
        import pytest
        from kitaru import KitaruClient, checkpoint, flow

        @checkpoint
        async def double(n):
            return 2 * n

        @flow
        async def twice(n):
            return await double(await double(n))

        def test_blocking(replay):
            assert replay("recorded/twice-1", twice, overrides={"checkpoint.double": 7}).result == 14

        def test_found(replay):
            assert replay("recorded/twice-1", only=()).result == 12

        def test_awaited(replay):
            async def main():
                run = replay("recorded/twice-1", twice, overrides={"checkpoint.double": 7})
                assert "to be awaited" in repr(run)
                assert await run is run and await run is run
                return run

            run = asyncio.run(main())
            assert (run.result, run.ran) == (14, ["double#2"])

        def test_awaited_and_unwanted(replay):
            async def main():
                await replay("recorded/twice-1", twice, overrides={"checkpoint.double": 7}, only=())

            asyncio.run(main())

        def test_awaited_and_failed(replay):
            async def main():
                await replay("recorded/twice-1", twice, overrides={"checkpoint.double": None})

            with pytest.raises(TypeError, match="unsupported operand"):
                asyncio.run(main())
    """
    recording = """

        def test_first(kitaru_store):
            twice.options(exec_id="twice-1").run(3)
            KitaruClient().executions.copy("twice-1", "recorded")
    """
    pytester.makepyfile(test_it=text + recording)
    project(None, "-k", "test_first").assert_outcomes(passed=1, deselected=5)
    ran = project(None, "-k", "not test_first")
    ran.assert_outcomes(passed=4, failed=1, deselected=1)
    ran.stdout.fnmatch_lines(["twice-1, replayed: double#2 was about to run, and no step may.*"])


@pytest.mark.process
def test_a_recording_is_found_beside_its_test_file_and_what_is_missing_is_named(kept, pytester):
    text = """
        from licences import audit

        def test_above(replay):
            replay("../recorded/audit-7f3c", audit, only=())

        def test_elsewhere(replay):
            replay("recorded/audit-7f3c", audit)

        def test_unknown(replay):
            replay("../recorded/audit-9", audit)

        def test_which(replay):
            replay("../recorded", audit)
    """
    pytester.mkdir("deep").joinpath("test_deep.py").write_text(text.replace("\n        ", "\n"))
    ran = kept(None, "deep")
    ran.assert_outcomes(passed=1, failed=3)
    ran.stdout.fnmatch_lines([
        "*NotFoundError: there is no recorded execution at */deep/recorded/audit-7f3c. `kitaru cp EXEC deep/rec*` *",
        "*NotFoundError: there is no recorded execution at */audit-9: there are audit-7f3c, audit-bad. *",
        "*NotFoundError: */recorded holds audit-7f3c, audit-bad: say which, */recorded/EXEC",
    ])  # fmt: skip


def test_the_path_of_a_store_does_where_one_execution_is_meant(pytester, project):
    @checkpoint
    def one():
        return 1

    @flow
    def count():
        return one()

    here = LocalStore(pytester.path / "recorded")
    client = KitaruClient(here)
    from kitaru.flows import Flow, Options

    origin = Flow(count.function, Options("count-1", store=here)).run()
    fork = Flow(count.function, Options(store=here)).replay(origin.exec_id, overrides={"checkpoint.one": 2})
    client.executions.copy("count-1", pytester.path / "count-1")
    client.executions.copy(fork.exec_id, pytester.path / "count-1")
    ran = project("""
        from kitaru import checkpoint, flow

        @checkpoint
        def one():
            return 1

        @flow
        def count():
            return one()

        def test_the_fork_of_two(replay):
            run = replay("recorded", count, only=())
            assert run.result == 2
            assert run.origin.forked_from == "count-1"

        def test_the_one_of_its_name(replay):
            assert replay("count-1", count, only=()).result == 1
    """)
    ran.assert_outcomes(passed=2)


@pytest.mark.process
def test_a_recording_is_trusted_as_any_folder_is(pytester, project, monkeypatch):
    text = """
        from kitaru import KitaruClient, checkpoint, flow

        @checkpoint
        def make():
            return lambda: 42

        @flow
        def answer():
            return make()()

        def test_it(replay):
            assert replay("recorded/answer-1", answer, only=()).result == 42

        def test_first(kitaru_store):
            answer.options(exec_id="answer-1").run()
            KitaruClient().executions.copy("answer-1", "recorded")
    """
    pytester.makepyfile(test_it=text)
    project(None, "-k", "test_first").assert_outcomes(passed=1, deselected=1)
    project(None, "-k", "test_it and not first").assert_outcomes(passed=1, deselected=1)
    (pytester.path / "recorded").chmod(0o777)
    ran = project(None, "-k", "test_it and not first")
    ran.assert_outcomes(failed=1, deselected=1)
    ran.stdout.fnmatch_lines(
        ["*UntrustedValueError: answer-1 in * holds values that are pickled*KITARU_TRUST=*/recorded"]
    )
    monkeypatch.setenv("KITARU_TRUST", str(pytester.path / "recorded"))
    project(None, "-k", "test_it and not first").assert_outcomes(passed=1, deselected=1)


@pytest.mark.process
def test_tests_are_spread_over_processes(kept):
    ran = kept("""
        import pytest
        from licences import audit

        @pytest.mark.parametrize("licence, worst", [("MIT", 1), ("GPL", 9), ("BSD", 1), ("Apache", 1)])
        def test_a_licence(replay, licence, worst):
            run = replay("recorded/audit-7f3c", audit, overrides={"checkpoint.classify#2": {"licence": licence}})
            assert run.result == f"worst risk: {worst}"
    """, "-n", "2", how="subprocess")  # fmt: skip
    ran.assert_outcomes(passed=4)
    assert kept.calls() == []


@pytest.mark.process
def test_the_readmes_test_passes_as_it_stands(pytester, project):
    text = (ROOT / "README.md").read_text()
    licences = text.partition("```python\n# licences.py\n")[2].partition("```")[0]
    audit = text.partition("```python\n# tests/test_audit.py\n")[2].partition("```")[0]
    assert "cp audit-7f3c tests/recorded" in text
    pytester.makepyfile(licences=licences)
    pytester.mkdir("tests").joinpath("test_audit.py").write_text(audit)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KITARU_EXEC_ID": "audit-7f3c"}
    for argv in (["licences.py"], ["-m", "kitaru", "cp", "audit-7f3c", "tests/recorded"]):
        subprocess.run([sys.executable, *argv], env=environment, check=True, capture_output=True, timeout=60)
    pytester.syspathinsert()
    project(None, "tests").assert_outcomes(passed=1)


# ---------------------------------------------------------------- a place for each test


STORE = """
    import os
    import kitaru
    from kitaru import KitaruClient, flow

    @flow
    def answer():
        return 42

    def test_one(kitaru_store, tmp_path):
        assert KitaruClient().store is kitaru_store
        assert [n for n in os.environ if n.startswith("KITARU_")] == ["KITARU_TRUST", *%s]
        kitaru.connect(tmp_path / "elsewhere")
        answer.run()

    def test_two(kitaru_store):
        assert KitaruClient().store is kitaru_store
        assert KitaruClient().executions.list() == []
        answer.run()
        assert kitaru_store.url.startswith("%s")

    def test_outside(pytestconfig):
        assert os.environ["KITARU_EXEC_ID"] == "named"
        assert KitaruClient().store.url == "memory://outside"
"""


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_each_test_has_a_store_of_its_own_and_the_environment_has_no_say(project, pytester, monkeypatch, where):
    for name, value in {"STORE": "memory://outside", "EXEC_ID": "named", "TRUST": "1", "HEARTBEAT": "no"}.items():
        monkeypatch.setenv(f"KITARU_{name}", value)
    pytester.makeini(f"[pytest]\nkitaru_store = {where}\n" if where == "memory" else "[pytest]\n")
    scheme, left = ("memory://", []) if where == "memory" else ("file:///", ["KITARU_STORE"])
    project(STORE % (left, scheme)).assert_outcomes(passed=3)


def test_a_place_in_memory_can_be_chosen_for_one_test(project):
    ran = project("""
        import pytest

        @pytest.mark.parametrize("kitaru_store", ["memory"], indirect=True)
        def test_one(kitaru_store):
            assert kitaru_store.url.startswith("memory://")

        @pytest.mark.parametrize("kitaru_store", ["s3"], indirect=True)
        def test_two(kitaru_store): ...
    """)
    ran.assert_outcomes(passed=1, errors=1)
    ran.stdout.fnmatch_lines(["kitaru_store is 's3': write folder or memory"])


@pytest.mark.process
def test_a_process_that_a_test_starts_records_there_too(project):
    ran = project("""
        import subprocess
        import sys
        from kitaru import KitaruClient

        SCRIPT = "import kitaru; kitaru.Session(exec_id='tour').step('s', {}).succeed({})"

        def test_one(kitaru_store):
            subprocess.run([sys.executable, "-c", SCRIPT], check=True)
            assert KitaruClient().executions.get("tour").flow
    """)
    ran.assert_outcomes(passed=1)


def test_a_test_that_leaves_an_execution_running_fails_and_the_next_one_does_not(project):
    ran = project("""
        import kitaru

        SESSIONS = [kitaru.Session(exec_id="tour"), kitaru.Session(exec_id="walk")]

        def test_one(kitaru_store):
            for session in SESSIONS:
                session.step("s", {}).succeed({})

        def test_two(kitaru_store):
            for session in SESSIONS:
                session.close()
    """)
    ran.assert_outcomes(passed=2, errors=1)
    ran.stdout.fnmatch_lines(["this test left tour, walk running: wait for its flow's threads, *"])


# ---------------------------------------------------------------- the plugin


@pytest.mark.process
def test_loading_the_plugin_loads_nothing_else_of_kitaru():
    code = "import pytest, sys; before = {*sys.modules}; import kitaru.testing.plugin; import json; "
    code += "print(json.dumps(sorted({*sys.modules} - before - {'json'})))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    ours = [name for name in json.loads(loaded) if not name.startswith("json")]
    assert ours == ["kitaru", "kitaru.testing", "kitaru.testing.plugin"]


def test_pytest_finds_the_plugin_by_an_entry_point_of_the_modules_own_name():
    """So that `-p` and `pytest_plugins` of that name, where somebody writes them, load it once."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"kitaru.testing.plugin": "kitaru.testing.plugin"}
