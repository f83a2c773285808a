"""The pages in docs/deploy/: their documents are parsed, and their command lines run as they stand."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.client import ExecutionStatus
from kitaru.clock import SystemClock
from kitaru.errors import UsageError
from kitaru.flows import Flow, Options
from kitaru.stores import LocalStore

pytest_plugins = ["kitaru.testing.fixtures"]

PAGES = Path(__file__).parents[1] / "docs" / "deploy"
BIN = Path(sys.executable).parent


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (PAGES / page).read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def app(tmp_path):
    """Where the image, or /opt/review, holds the flow's code."""
    (tmp_path / "review.py").write_text(blocks("README.md", "python")[0])
    return tmp_path


@pytest.fixture
def start(app):
    """Run the command line of a document, with its environment; the store is a folder."""

    @contextmanager
    def run(words, env):
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # as in an image whose virtual environment is active
        around = {**os.environ, **env, "KITARU_STORE": str(app / "store"), "PATH": path}
        with subprocess.Popen(
            words, cwd=app, env=around, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as p:
            try:
                yield p
            finally:
                p.kill()

    return run


@pytest.fixture
def ended(start):
    def run(words, env, code=0):
        with start(words, env) as process:
            out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return out + err

    return run


@pytest.fixture
def answered(app, monkeypatch):
    """Begin the flow in this process, and answer it: `answered("r-1", "yes")`."""
    monkeypatch.syspath_prepend(app)
    monkeypatch.delitem(sys.modules, "review", raising=False)
    review = importlib.import_module("review").review
    sys.modules.pop("review")

    def run(exec_id, answer):
        client = KitaruClient(app / "store")
        Flow(review.function, Options(exec_id=exec_id, store=client.store)).run("report")
        client.executions.input(exec_id, "verdict", answer)

    return run


def until_said(process, line):
    for said in process.stderr:
        if line in said:
            return
    raise AssertionError(f"it never said {line}")


# ---------------------------------------------------------------- Kubernetes


def container(kind):
    (found,) = [d for text in blocks("kubernetes.md", "yaml") for d in [yaml.safe_load(text)] if d["kind"] == kind]
    spec = found["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else found["spec"]
    pod = spec["template"]["spec"]
    (one,) = pod["containers"]
    env = {e["name"]: e["value"] for e in one["env"]}
    assert one["workingDir"] == "/app"
    assert all(isinstance(value, str) for value in env.values()), "an unquoted number is refused"
    assert int(env.get("KITARU_GRACE", 0)) < pod["terminationGracePeriodSeconds"]
    return one["command"], env


def test_each_document_is_of_its_kind_and_names_its_pods_alike():
    found = [yaml.safe_load(text) for text in blocks("kubernetes.md", "yaml")]
    assert [(d["apiVersion"], d["kind"]) for d in found] == [
        ("batch/v1", "Job"), ("batch/v1", "CronJob"), ("apps/v1", "Deployment"),
    ]  # fmt: skip
    deployment = found[2]["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert {d["spec"].get("backoffLimit") for d in found} == {3, None}


@pytest.mark.process
def test_the_job_suspends_is_answered_and_the_cronjob_completes_it(app, ended):
    said = ended(*container("Job"))
    assert 'review-42 waits for verdict: "Publish report?"' in said
    ended(["kitaru", "answer", str(app / "store" / "review-42"), "verdict", "yes"], {})
    assert "review-42  completed" in ended(*container("CronJob"))
    assert KitaruClient(app / "store").executions.get("review-42").result == "published a draft of report"
    ended(*container("Job"))  # a pod that was started once more


@pytest.mark.process
def test_the_job_is_evicted_and_goes_on_in_another_pod(app, start, ended):
    script, draft = (app / "review.py").read_text(), 'return f"a draft of {doc}"'
    held = "import os, time; print('held', flush=True)\n    while not os.path.exists('go'): time.sleep(0.01)\n    "
    (app / "review.py").write_text(script.replace(draft, held + draft))
    words, env = container("Job")
    with start(words, env) as pod:
        assert pod.stdout.readline() == "held\n"
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(300) == 143
    (app / "go").touch()
    assert "review-42 waits for verdict" in ended(words, env)
    assert KitaruClient(app / "store").executions.get("review-42").data.attempts == 2


@pytest.mark.process
def test_the_deployment_goes_on_with_what_was_answered_and_is_stopped(app, start, answered):
    answered("review-42", False)
    words, env = container("Deployment")
    with start(words, env) as worker:
        until_said(worker, "review-42 is completed")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(300) == 0
    assert KitaruClient(app / "store").executions.get("review-42").result == "rejected"


# ---------------------------------------------------------------- systemd


def units():
    found = {}
    for text in blocks("systemd.md", "ini"):
        name, _, body = text.partition("\n")
        found[name.rpartition("/")[2]] = body
    return found


def service(name):
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(units()[name])
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0] == "/opt/review/.venv/bin/kitaru"
    env = dict(word.split("=", 1) for word in shlex.split(unit["Service"]["Environment"]))
    assert int(env.get("KITARU_GRACE", 10)) < int(unit["Service"]["TimeoutStopSec"])
    return [str(BIN / "kitaru"), *words[1:]], env


@pytest.mark.process
def test_the_units_are_what_systemd_takes(tmp_path):
    assert sorted(units()) == ["kitaru-ready.service", "kitaru-ready.timer", "kitaru-worker.service"]
    files = []
    for name, text in units().items():
        unit = ConfigParser(interpolation=None)
        unit.read_string(text)
        assert unit.sections()[:2] == ["Unit", name.rpartition(".")[2].title()]
        text = text.replace("/opt/review/.venv/bin/kitaru", str(BIN / "kitaru")).replace("/opt/review", str(tmp_path))
        files.append(tmp_path / name)
        files[-1].write_text(text.replace("User=review", "User=root"))
    if (verify := shutil.which("systemd-analyze")) is not None:  # elsewhere they are parsed as above, and run below
        done = subprocess.run([verify, "verify", *files], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path) not in done.stderr, done.stderr


@pytest.mark.process
def test_the_services_go_on_with_what_was_answered(start, ended, answered):
    answered("r-1", True)
    assert "r-1  completed" in ended(*service("kitaru-ready.service"))
    words, env = service("kitaru-worker.service")
    answered("r-2", True)
    with start(words, env) as worker:
        until_said(worker, "r-2 is completed")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(300) == 0


# ---------------------------------------------------------------- Lambda


class Context:
    """Of a call that has so many seconds."""

    def __init__(self, seconds=900.0):
        self._until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self):
        return int((self._until - time.monotonic()) * 1000)


SCHEDULED = {
    "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
    "source": "aws.events", "account": "123456789012", "time": "2026-10-08T16:53:06Z", "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/every-minute"], "detail": {},
}  # fmt: skip


def notified(bucket, *keys):
    """As S3 itself tells a function; keys are escaped."""
    from urllib.parse import quote_plus

    return {
        "Records": [
            {
                "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
                "eventTime": "2026-10-08T16:53:06.000Z", "eventName": "ObjectCreated:Put",
                "s3": {
                    "s3SchemaVersion": "1.0", "configurationId": "waits",
                    "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                    "object": {"key": quote_plus(key, safe="/"), "size": 200, "sequencer": "0A1B2C3D4E5F678901"},
                },
            }
            for key in keys
        ]
    }  # fmt: skip


def by_eventbridge(bucket, key):
    return {
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Created",
        "source": "aws.s3", "account": "123456789012", "time": "2026-10-08T16:53:06Z", "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0", "bucket": {"name": bucket}, "object": {"key": key, "size": 200},
            "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "reason": "PutObject",
        },
    }  # fmt: skip


@checkpoint
def slow(n):
    return n


@flow
def asked(doc):
    ok = kitaru.wait(name="ok", schema=bool)
    return [slow(n) for n in range(3)] if ok else doc


@flow
def several():
    return [slow(n) for n in range(2)]


@pytest.fixture
def waiting(moto_s3, connected):
    """A store in which `asked` waits, was answered, and nothing has gone on with it."""
    store = connected(moto_s3())
    assert asked.options(exec_id="asked-1").run("doc").status == "waiting"
    KitaruClient(store).executions.input("asked-1", "ok", True)
    return store


def keys_of(store):
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    return bucket, prefix, [entry.key for entry in store.list("")]


@pytest.mark.s3
def test_a_schedule_makes_a_pass_over_the_store_that_the_environment_names(waiting, monkeypatch):
    with pytest.raises(UsageError, match="KITARU_STORE"):
        kitaru.lambda_handler(SCHEDULED, Context())
    monkeypatch.setenv("KITARU_STORE", waiting.url)
    said = kitaru.lambda_handler(SCHEDULED, Context())
    (one,) = said["passes"]
    assert [(r["exec_id"], r["status"]) for r in one["ran"]] == [("asked-1", "completed")]
    assert json.loads(json.dumps(said)) == said  # Lambda gives it to its caller as JSON
    assert kitaru.lambda_handler(SCHEDULED, Context())["passes"][0]["ran"] == []


@pytest.mark.s3
@pytest.mark.parametrize("way", [notified, by_eventbridge])
def test_an_event_of_the_inbox_makes_a_pass_over_the_store_in_which_it_lies(waiting, way):
    bucket, prefix, keys = keys_of(waiting)
    (inbox,) = [key for key in keys if "/inbox/" in key]
    said = kitaru.lambda_handler(way(bucket, f"{prefix}/{inbox}"), Context())
    assert [one["store"] for one in said["passes"]] == [waiting.url]
    assert KitaruClient(waiting).executions.get("asked-1").status is ExecutionStatus.COMPLETED


@pytest.mark.s3
@pytest.mark.parametrize("named", [True, False])
def test_an_event_of_anything_else_makes_none(waiting, monkeypatch, named):
    bucket, prefix, keys = keys_of(waiting)
    if named:
        monkeypatch.setenv("KITARU_STORE", waiting.url)
    others = [f"{prefix}/{key}" for key in keys if "/inbox/" not in key and not key.startswith("ready/")]
    assert any("/journal/" in key for key in others)
    assert kitaru.lambda_handler(notified(bucket, *others), Context()) == {"passes": []}


@pytest.mark.s3
def test_what_does_not_fit_is_let_go_and_completed_by_the_next_call(waiting, monkeypatch):
    monkeypatch.setenv("KITARU_STORE", waiting.url)
    passed, monotonic = [0.0], SystemClock.monotonic

    def take_long(n):
        passed[0] += 600
        return n

    monkeypatch.setattr(slow, "function", take_long)
    monkeypatch.setattr(SystemClock, "monotonic", lambda self: monotonic(self) + passed[0])
    said = kitaru.lambda_handler(SCHEDULED, Context(900))
    assert [r["status"] for r in said["passes"][0]["ran"]] == ["interrupted"]
    assert kitaru.lambda_handler(SCHEDULED, Context(3600))["passes"][0]["ran"][0]["status"] == "completed"
    assert KitaruClient(waiting).executions.get("asked-1").result == [0, 1, 2]


def test_the_pattern_of_events_names_the_keys_that_make_something_ready(tmp_path, connected):
    store = connected(LocalStore(tmp_path / "prod"))
    (pattern,) = map(json.loads, blocks("lambda.md", "json"))
    wildcards = [w["wildcard"] for w in pattern["detail"]["object"]["key"]]

    def is_told(key):
        return any(re.fullmatch(".*".join(map(re.escape, w.split("*"))), f"prod/{key}") for w in wildcards)

    asked.options(exec_id="asked-1").run("doc")
    kitaru.spawn(asked, "doc")
    KitaruClient(store).executions.input("asked-1", "ok", False)
    assert several.options(exec_id="late", deadline=1e-9).run().status == "interrupted"
    told = [entry.key for entry in store.list("") if is_told(entry.key)]
    assert sorted(re.sub("asked-[0-9a-f]{12}", "CHILD", key) for key in told) == [
        "executions/asked-1/inbox/ok%231%401", "ready/CHILD/begun", "ready/late/deadline%401",
    ]  # fmt: skip


def test_what_a_flow_begins_in_the_function_is_let_go_in_time(tmp_path, connected, monkeypatch):
    connected(LocalStore(tmp_path / "store"))
    (tmp_path / "review.py").write_text(blocks("README.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "review", raising=False)
    namespace = {}
    exec(blocks("lambda.md", "python")[0], namespace)
    sys.modules.pop("review")
    assert namespace["begin"]({"id": "r-1", "doc": "x"}, Context()) == {"exec_id": "r-1", "status": "waiting"}
