"""Each command says what was recorded, to people and as JSON, and ends with the exit code that was promised."""

from __future__ import annotations

import json
import os
import time

import pytest

from kitaru import __version__, checkpoint, connect, flow, log
from kitaru.catalog import put_status
from kitaru.cli.faces import Screen, _lined_up
from kitaru.client import KitaruClient

from ..large import noise


def test_runs_lists_executions_newest_first(kitaru, here):
    @flow
    def first():
        return 1

    @flow
    def second():
        raise ValueError("no")

    one = first.run().exec_id
    with pytest.raises(ValueError, match="no"):
        second.run()
    said = kitaru("runs")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["execution", "flow", "status", "begun", "took"]
    assert [line.split()[1:3] for line in lines[1:]] == [["second", "failed"], ["first", "completed"]]
    assert kitaru("runs", "--flow", "first", "--json").document["runs"][0]["exec_id"] == one
    assert [r["flow"] for r in kitaru("runs", "--status", "failed", "--json").document["runs"]] == ["second"]


@pytest.fixture
def mixed(here):
    """Four executions, each of another flow: the oldest was begun 10,000 s ago, the newest, interrupted, just now."""
    store, now = connect(here / ".kitaru"), time.time()
    for flow_, status, ago in (
        ("audit", "completed", 10_000),
        ("audit_v2", "failed", 4_000),
        ("audit_v3", "waiting", 60),
        ("other", "interrupted", 0),
    ):
        put_status(store, f"{flow_}-1", flow_, status, begun=now - ago, at=now, n=1)


@pytest.mark.parametrize(
    ("options", "flows"),
    [
        ("", ["other", "audit_v3", "audit_v2", "audit"]),
        ("--failed", ["other", "audit_v2"]),
        ("--status failed", ["audit_v2"]),
        ("--status failed --status waiting", ["audit_v3", "audit_v2"]),
        ("--failed --status waiting", ["other", "audit_v3", "audit_v2"]),
        ("--flow audit", ["audit"]),
        ("--flow audit*", ["audit_v3", "audit_v2", "audit"]),
        ("--flow audit_v? --failed", ["audit_v2"]),
        ("--flow AUDIT*", []),
        ("--since 30min", ["other", "audit_v3"]),
        ("--since 2h", ["other", "audit_v3", "audit_v2"]),
        ("--since 2h --failed --limit 1", ["other"]),
        ("--since 2200-01-01", []),
    ],
)
def test_runs_is_narrowed_by_flow_status_and_time(kitaru, mixed, options, flows):
    assert [r["flow"] for r in kitaru("runs", "--json", *options.split()).document["runs"]] == flows


def test_runs_that_finds_nothing_says_what_it_looked_for(kitaru, mixed):
    said = kitaru("runs", "--failed", "--status", "waiting", "--flow", "x*", "--since", "2026-11-01T00:00Z")
    assert (said.code, said.out) == (0, "")
    assert "no waiting or interrupted or failed execution of x* begun since 2026-11-01T00:00Z in file:" in said.err


def test_a_since_that_says_no_moment_is_refused(kitaru, mixed):
    said = kitaru("runs", "--since", "recent\x1b[2Jly")
    assert (said.code, said.out) == (2, "")
    assert "says no moment: write 90s, 30min, 2h" in said.err
    assert "\x1b" not in said.err


def test_runs_says_when_there_are_more(kitaru, here):
    @flow
    def one():
        return 1

    for _ in range(3):
        one.run()
    said = kitaru("runs", "--limit", "2")
    assert len(said.out.splitlines()) == 3
    assert "there are more" in said.err
    document = kitaru("runs", "--limit", "2", "--json").document
    assert (len(document["runs"]), document["more"]) == (2, True)
    assert set(document["runs"][0]) == {"exec_id", "flow", "status", "begun", "took"}


def test_an_empty_store_is_no_error_and_is_not_made(kitaru, here):
    said = kitaru("runs")
    assert (said.code, said.out) == (0, "")
    assert "there is no execution" in said.err
    assert kitaru("runs", "--json").document["runs"] == []
    assert os.listdir(here) == []


@pytest.mark.process
def test_show_of_a_failed_execution_names_the_place_and_the_two_commands(kitaru, failed):
    said = kitaru("show", "last")
    assert said.code == 0
    for text in (
        "audit-7  audit  failed",
        "list(2) ['numpy', 'boto3']",
        "failed at classify#2",
        "TimeoutError: no answer",
        "kitaru show audit-7:classify#2",
        "kitaru resume audit-7",
        "3 checkpoints",
    ):
        assert text in said.out, text
    document = kitaru("show", "audit-7", "--json").document
    assert document["kind"] == "execution"
    execution = document["execution"]
    assert (execution["status"], execution["failed_at"]) == ("failed", "classify#2")
    assert [c["label"] for c in execution["checkpoints"]] == ["collect#1", "classify#1", "classify#2"]
    assert execution["failure"]["type"] == "builtins:TimeoutError"


@pytest.mark.process
def test_show_of_a_checkpoint_has_inputs_traceback_and_source(kitaru, failed):
    for ref in ("classify#2", "@3", "audit-7:classify#2", "last-failed:classify#2", "audit:@3"):
        said = kitaru("show", ref)
        assert said.code == 0, said.err
        for text in ("classify#2  failed", "{'name': 'boto3'}", "in classify", "def classify(package):", "llm_call"):
            assert text in said.out, text
    document = kitaru("show", "@1", "--json").document["checkpoint"]
    assert document["metadata"] == {"found": 2}
    assert document["outputs"]["output"]["preview"]["len"] == 2
    assert document["inputs"]["names"]["kind"] == "data"


@pytest.mark.process
def test_show_of_a_value_in_a_pipe_is_the_value_alone(kitaru, completed):
    assert kitaru("show", "audit-7:report").out == "# Report\n\nAll well."
    assert json.loads(kitaru("show", "classify#1.in.package").out) == {"name": "numpy"}
    assert json.loads(kitaru("show", "last:result").out)[1] == {"name": "boto3", "licence": "MIT"}
    document = kitaru("show", "classify#1.output", "--json").document["value"]
    assert document["value"] == {"name": "numpy", "licence": "MIT"}
    assert document["address"].endswith("/audit-7:classify#1.output")
    assert kitaru("show", document["address"]).code == 0


@pytest.mark.process
def test_log_tells_begin_claims_failures_retries_logs_and_end(kitaru, completed):
    events = kitaru("log", "--json").document["events"]
    assert [(e["event"], e["where"]) for e in events] == [
        ("begun", ""),
        ("claimed", ""),
        ("logged", "collect#1"),
        ("failed", "classify#2"),
        ("failed", ""),
        ("claimed", ""),
        ("retried", "classify#2"),
        ("completed", ""),
    ]
    assert [e["at"] for e in events] == sorted(e["at"] for e in events)
    said = kitaru("log", "audit-7")
    assert "found=2" in said.out
    assert "TimeoutError: no answer" in said.out


@checkpoint
def one(n):
    print("one ran")
    return n + 1


@checkpoint
def two(n):
    print("two ran")
    if not os.path.exists("mended"):
        raise OSError("away")
    return n * 2


@flow
def sums(n):
    return two(one(n))


def test_resume_runs_what_is_left_and_says_what_that_came_to(kitaru, here):
    with pytest.raises(OSError, match="away"):
        sums.run(3)
    said = kitaru("resume", "last")
    assert said.code == 1
    assert "in two" in said.err
    *_, failed, look, how = said.err.splitlines()
    assert failed == "kitaru: sums failed at two#1: OSError: away"
    assert look.startswith("kitaru: look    kitaru show sums-")
    assert how.startswith("kitaru: resume  kitaru resume sums-")
    said = kitaru("resume", "last", "--json")
    assert (said.code, said.document["status"], said.document["failure"]["message"]) == (1, "failed", "away")
    (here / "mended").touch()
    said = kitaru("resume", "last-failed")
    assert said.code == 0
    assert "sums found in this process" in said.err
    lines = said.out.splitlines()
    assert lines[:-1] == ["two ran", "int 8"]
    assert lines[-1].startswith("1 reused, 1 run; ")
    assert lines[-1].endswith(" saved")
    said = kitaru("resume", "last", "--json")  # completed: nothing is left to run
    assert said.document["result"] == {"type": "int", "text": "8"}
    assert (said.document["code"], said.document["tally"]["ran"]) == (None, 0)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["show", "nobody-1"], 2, "there is no execution nobody-1"),
        (["show", "a:b:c"], 2, "a"),
        (["show", "::"], 2, "cannot be an exec_id"),
        (["show", "one-1:st ep"], 2, "is not a REF"),
        (["show", "one-1:@9"], 2, "there is no @9"),
        (["show", "one-1:step.in.nothing"], 2, "no input nothing"),
        (["show", "one"], 2, "more than one execution begins with one"),
        (["show", "gs://bucket/x"], 2, "is no store"),
        (["log", "nobody-1"], 2, "there is no execution nobody-1"),
        (["resume", "nobody-1"], 2, "there is no execution nobody-1"),
        (["resume", "one-1", "--code", "nowhere.py"], 2, "nowhere.py"),
        (["resume", "one-1", "--on-drift", "maybe"], 2, "maybe"),
        (["show", "last-failed", "--store", "empty"], 2, "no execution failed"),
        (["show", ""], 2, "an empty REF names nothing"),
        (["show", "@9"], 2, "one-2 has 1 checkpoints; there is no @9"),
        (["show", "@3", "--store", "empty"], 2, "there is no execution in file://"),
        (["show", "step#4", "--store", "empty"], 2, "there is no execution in file://"),
        (["runs", "--store", "nowhere"], 5, "there is no store at"),
        (["resume", "last", "--store", "nowhere"], 5, "there is no store at"),
        (["shw"], 2, "No such command"),
        (["runs", "--status", "odd"], 2, "odd"),
        (["runs", "--store", "a-file"], 2, "a-file"),
        (["runs", "--store", "broken"], 5, "kitaru.json"),
        (["show", "one-1", "--store", "future"], 5, "upgrade kitaru"),
        (["demo", "--store", "memory://here"], 2, "memory://"),
    ],
)
def test_an_error_is_one_paragraph_and_has_its_exit_code(kitaru, here, args, code, words):
    @checkpoint
    def step(n):
        raise ValueError(n)

    @flow
    def one():
        return step(1)

    (here / "a-file").write_text("")
    for name, text in (("broken", "{"), ("future", '{"format": 99}')):
        (here / name).mkdir()
        (here / name / "kitaru.json").write_text(text)
    (here / "empty").mkdir()
    for name in ("one-1", "one-2"):
        one.options(exec_id=name, raises=False).run()
    said = kitaru(*args)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert "Traceback" not in said.err
    if "Usage:" not in said.err:
        assert said.err.startswith("kitaru: ")
        assert len(said.err.splitlines()) == 1


def test_a_folder_that_the_environment_names_must_be_there_to_be_read(kitaru, here, monkeypatch):
    monkeypatch.setenv("KITARU_STORE", str(here / "nowhere"))
    said = kitaru("runs")
    assert (said.code, said.out) == (5, "")
    assert f"there is no store at {here / 'nowhere'}" in said.err
    assert not (here / "nowhere").exists()


@checkpoint
def blob():
    return b"\x89PNG\r\n\x1a\n\xff"


@checkpoint
def words():
    return "a\ttab, \x1b[1mbold\x1b[0m, no line break at the end"


@flow
def raw():
    return blob(), words()


@pytest.fixture
def raws(here):
    raw.options(exec_id="raw-1").run()


def test_bytes_and_text_come_out_of_a_pipe_as_they_were_recorded(kitaru, raws):
    assert kitaru("show", "raw-1:blob").code == 0
    assert kitaru("show", "raw-1:blob.output").bytes == b"\x89PNG\r\n\x1a\n\xff"
    assert kitaru("show", "raw-1:words.output").bytes == b"a\ttab, \x1b[1mbold\x1b[0m, no line break at the end"
    assert json.loads(kitaru("show", "raw-1:result").out) == {
        "$tuple": [{"$bytes": b"\x89PNG\r\n\x1a\n\xff".hex()}, "a\ttab, \x1b[1mbold\x1b[0m, no line break at the end"]
    }


def test_a_terminal_is_told_how_to_have_bytes(raws, capsys):
    screen = Screen(now=0.0)
    screen.terminal = screen.cuts = True
    screen.value(KitaruClient().artifacts.get("raw-1:blob.output"))
    out = capsys.readouterr().out
    assert "raw-1:blob#1.output -o FILE" in out
    assert "PNG" in out


def test_a_long_execution_is_cut_in_the_middle_on_a_terminal_alone(kitaru, here, capsys, monkeypatch):
    @flow
    def long():
        for _ in range(70):
            words()

    monkeypatch.setattr("shutil.get_terminal_size", lambda **_: os.terminal_size((200, 40)))
    long.options(exec_id="long-1").run()
    assert kitaru("show", "long-1").out.count("completed") == 71
    for full, rows in ((False, 40), (True, 70)):
        screen = Screen(now=0.0, full=full)
        screen.terminal, screen.cuts = True, not full
        screen.execution(KitaruClient().executions.get("long-1"))
        out = capsys.readouterr().out
        assert out.count("words#") == rows
        assert ("words#20 " in out, "words#51 " in out, "words#70 " in out) == (True, True, True)
        assert ("30 checkpoints in the middle are left out; all of it: the same command with --full" in out) is not full


def test_columns_stand_below_each_other_also_of_wide_characters():
    lines = list(
        _lined_up(("@>", "name", "x"), [("1", "日本", "a"), ("10", "e\u0301t", "b"), ("2", "", "c")], head=True)
    )
    assert lines == [" @  name  x", " 1  日本  a", "10  e\u0301t    b", " 2        c"]


def test_an_error_as_json_has_a_stable_code(kitaru, here):
    said = kitaru("--json", "show", "nobody-1")
    assert said.code == 2
    assert said.document["error"]["code"] == "not-found"
    assert said.document["error"]["exit_code"] == 2
    assert said.err.startswith("kitaru: ")


def test_a_traceback_is_there_for_whoever_asks(kitaru, here, monkeypatch):
    assert "Traceback" in kitaru("show", "nobody-1", "--traceback").err
    assert "Traceback" in kitaru("--traceback", "show", "nobody-1").err
    monkeypatch.setenv("KITARU_TRACEBACK", "1")
    assert "Traceback" in kitaru("show", "nobody-1").err


def test_the_store_is_given_before_or_after_the_command(kitaru, here):
    @flow
    def one():
        return 1

    connect(here / "there")
    one.run()
    connect(None)
    assert "one-" in kitaru("--store", "there", "runs").out
    assert "one-" in kitaru("runs", "--store", "there").out
    assert kitaru("runs").out == ""
    shown = kitaru("show", "last", "--store", "there", "--json").document["execution"]
    assert kitaru("show", shown["address"]).out.startswith("one-")


def test_the_version_and_the_help(kitaru):
    assert __version__ in kitaru("--version").out
    assert all(name in kitaru("--help").out for name in ("demo", "log", "resume", "runs", "show", "143"))
    for name in ("demo", "log", "resume", "runs", "show"):
        assert "--json" in kitaru(name, "--help").out


def test_an_owned_execution_is_refused_with_4(kitaru, here):
    said = []

    @checkpoint
    def step():
        said.append(kitaru("resume", "mine"))

    @flow
    def mine():
        step()

    mine.options(exec_id="mine").run()
    assert said[0].code == 4
    assert "looks alive" in said[0].err
    assert "--take-over" in said[0].err


def test_reading_commands_write_nothing(kitaru, here):
    @checkpoint
    def step():
        log(tokens=3)
        return b"\0\1"

    @flow
    def one():
        return step()

    one.options(exec_id="one-1").run()
    store = here / ".kitaru"

    def state():
        return sorted((p.relative_to(store).as_posix(), p.stat().st_mtime_ns) for p in store.rglob("*"))

    before = state()
    for folder in [store, *(p for p in store.rglob("*") if p.is_dir())]:
        folder.chmod(0o500)
    try:
        for args in (["runs"], ["show", "last"], ["show", "@1"], ["show", "step.output"], ["log"]):
            for more in ([], ["--json"]):
                assert kitaru(*args, *more).code == 0
    finally:
        for folder in [store, *(p for p in store.rglob("*") if p.is_dir())]:
            folder.chmod(0o700)
    assert state() == before


def test_a_pickled_value_is_shown_without_unpickling_it(kitaru, here):
    class Odd:
        def __init__(self):
            self.hook = lambda: None

        def __setstate__(self, state):
            raise AssertionError("unpickled")

        def __reduce__(self):
            return (exec, ("open('unpickled', 'w')",))

    @flow
    def one():
        return Odd()

    one.options(exec_id="one-1").run()
    said = kitaru("show", "one-1:result")
    assert said.code == 0, said.err
    assert "pickled" in said.out
    assert kitaru("show", "one-1:result", "--json").document["value"]["kind"] == "pickle"
    assert not (here / "unpickled").exists()


def test_a_damaged_value_is_named_and_not_shown(kitaru, here):
    @flow
    def one():
        return noise(100_000)

    one.options(exec_id="one-1").run()
    (blob,) = (file for file in (here / ".kitaru" / "blobs").rglob("*") if file.is_file())
    blob.chmod(0o600)
    first, *rest = blob.read_bytes()
    blob.write_bytes(bytes([first ^ 1, *rest]))
    said = kitaru("show", "one-1:result")
    assert (said.code, said.out) == (5, "")
    assert blob.name in said.err
