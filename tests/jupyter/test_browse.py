"""The browser without a front end: what it shows, what its buttons do, and how that is stopped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
import zipfile
from pathlib import Path

import pytest

import kitaru
import kitaru_jupyter
from kitaru import checkpoint, flow
from kitaru.errors import NotFoundError, UsageError
from kitaru_jupyter.browser import lines
from kitaru_jupyter.browser.forms import form, read
from kitaru_jupyter.browser.work import OFTEN, Progress, Worker

ROOT = Path(__file__).parents[2]
PATIENCE = 30  # seconds that nothing here takes
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e</script><script>alert(1)</script>"
STATE = ("runs", "opened", "step", "editor", "plan", "job", "lines", "current", "trouble")


@checkpoint
def collect(limit):
    return [{"name": f"p{n}", "licence": "MIT" if n < limit - 1 else "?"} for n in range(limit)]


@checkpoint
def classify(package):
    if package["licence"] == "?":
        raise ValueError(f"no licence in {package['name']}")
    return package["licence"]


@checkpoint
def report(kinds):
    return ", ".join(kinds)


@flow
def audit(limit):
    return report([classify(p) for p in collect(limit)])


@pytest.fixture
def failed(store):
    """An execution of a flow that failed at its third package."""
    return audit.options(raises=False).run(3).exec_id


@pytest.fixture
def browse(cells):
    """Makes a browser; what is asked of it has been done when `do` returns."""
    made = []

    def make(execution=None):
        browser = kitaru_jupyter.Browser(execution, magics=cells.magics)
        made.append(browser)

        def do(deed, **message):
            browser.handle({"do": deed, **message})
            rest(browser)
            assert json.loads(json.dumps({name: getattr(browser, name) for name in STATE})), "JSON can carry it"

        browser.do = do
        return browser

    yield make
    for browser in made:
        browser.close()


def rest(browser):
    """Until all is done. There is no event loop here: what is handed to the main thread is done by the next cell."""
    for _ in range(100 * PATIENCE):
        if browser.rest(0.01):
            return
        browser._between._drain()
    pytest.fail(f"it did not end: {browser.job}")


def edit(browser, ref, change, **more):
    browser.do("edit", ref=ref)
    value = change(json.loads(browser.editor["text"]))
    browser.do("record", ref=ref, mode="json", text=json.dumps(value), **more)


def mended(packages):
    return [{**p, "licence": "BSD" if p["licence"] == "?" else p["licence"]} for p in packages]


# ---------------------------------------------------------------- a failed run, from its error to its result


def test_it_opens_at_the_failed_step_with_its_error_its_inputs_and_its_code(browse, failed):
    browser = browse(failed)
    assert (browser.opened["id"], browser.opened["status"]) == (failed, "failed")
    assert [s["ref"] for s in browser.opened["steps"]] == [
        "collect#1", "classify#1", "classify#2", "classify#3",
    ]  # fmt: skip
    step = browser.step
    assert (step["ref"], step["status"]) == ("classify#3", "failed")
    assert step["failure"]["summary"] == "ValueError: no licence in p2"
    assert "in classify" in step["failure"]["traceback"]
    assert [(v["name"], v["glimpse"]) for v in step["inputs"]] == [
        ("package", "dict(2) {'name': 'p2', 'licence': '?'}")
    ]
    assert "def classify(package):" in step["code"]
    assert {"collect#1", "classify#3"} <= set(browser.opened["order"]), "each can be chosen in the picture"
    assert browser.opened["picture"].startswith("<svg ")


def test_an_edit_of_a_wrong_value_is_planned_run_and_recorded(browse, failed, client):
    browser = browse(failed)
    browser.do("choose", ref="collect#1")
    edit(browser, "collect#1.output", mended, why="it is BSD", at="collect#1")

    fork = browser.opened["id"]
    assert fork != failed
    assert browser.opened["unrun"]
    assert browser.opened["marks"] == {
        "edited": ["collect#1"], "stale": ["classify#1", "classify#2", "classify#3"], "changed": [],
    }  # fmt: skip
    assert browser.plan["again"] == 3
    assert browser.editor == {}, "the editor has closed"
    assert (browser.job["phase"], browser.job["told"]) == ("done", "collect#1.output edited: 3 steps now stale")
    assert browser.step["outputs"][0]["edited"]
    assert "'BSD'" in browser.step["outputs"][0]["glimpse"], "what the fork has there, not what its origin had"

    browser.do("resume")
    assert (browser.job["phase"], browser.job["told"]) == ("done", f"{fork} completed")
    assert browser.opened["result"]["glimpse"] == "str(13) 'MIT, MIT, BSD'"
    assert (browser.plan["done"], browser.plan["again"], browser.plan["reused"], browser.plan["edited"]) == (
        True, 2, 2, 1,
    )  # fmt: skip

    recorded = client.executions.get(fork)
    assert recorded.result == "MIT, MIT, BSD"
    assert recorded.forked_from == failed
    options = recorded.data.begun.options
    assert options["why"] == "it is BSD"
    assert [(row.step, row.decision) for row in recorded.explain()] == [
        ("collect#1", "edited"), ("classify#1", "reused"), ("classify#2", "reused"), ("classify#3", "ran"),
        ("report#1", "ran"),
    ]  # fmt: skip
    assert client.executions.get(failed).status.value == "failed", "the origin stands as it was"


def test_each_line_that_it_shows_does_what_the_button_did(browse, failed, cells, client):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended, why="it's BSD")
    by_hand = browser.job["line"]
    cells(f"%kitaru open {failed}")
    ran = cells(by_hand)
    assert ran.error is None, ran.err
    fork = cells.notebook.get()
    assert fork.forked_from == failed
    assert fork.data.begun.options["why"] == "it's BSD"
    browser.do("open", ref=fork.exec_id)
    for name in ("plan", "resume"):
        assert cells(browser.lines[name]).error is None
    assert client.executions.get(fork.exec_id).result == "MIT, MIT, BSD"


def test_an_execution_of_another_store_is_named_with_its_store(browse, store, tmp_path):
    """The notebook is connected elsewhere: a bare name would be looked for there."""
    there = kitaru.KitaruClient(kitaru.connect(tmp_path / "there"))
    failed = audit.options(raises=False).run(3).exec_id
    kitaru.connect(store)
    address = there.executions.get(failed).address
    browser = browse(address)
    assert browser.lines["resume"] == f"%kitaru open {address}\n%kitaru resume"
    assert browser.lines["debug"] == f"%kitaru debug {address}:classify#3"
    edit(browser, "collect#1.output", mended)
    assert browser.job["phase"] == "done", browser.job["told"]
    assert browser.job["line"].startswith(f"%%kitaru_edit {address}:collect#1.output --json")
    browser.do("resume")
    assert there.executions.latest().result == "MIT, MIT, BSD"
    assert kitaru.connect(store) is store


def test_a_second_edit_stands_beside_the_first(browse, failed, client):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended)
    first = browser.opened["id"]
    browser.do("edit", ref="collect#1.output")
    assert "BSD" in browser.editor["text"], "what is edited is the edit"
    browser.do("edit", ref="classify#1.output")
    browser.do("record", ref="classify#1.output", mode="text", text="Apache")
    assert browser.job["phase"] == "done", browser.job["told"]
    assert browser.opened["marks"]["edited"] == ["classify#1", "collect#1"]
    browser.do("resume")
    assert client.executions.get(browser.opened["id"]).result == "Apache, MIT, BSD"
    assert client.executions.get(first).status.value == "cancelled"


def test_undo_goes_back_to_what_was_edited(browse, failed):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended)
    browser.do("undo")
    assert browser.opened["id"] == failed
    browser.do("undo")
    assert browser.job["phase"] == "failed"
    assert "nothing to undo" in browser.job["told"]


def test_what_a_person_writes_is_checked_before_anything_is_recorded(browse, failed, client):
    browser = browse(failed)
    before = len(client.executions.list())
    browser.do("edit", ref="collect#1.output")
    browser.do("record", ref="collect#1.output", mode="json", text="[1, ")
    assert "no JSON yet" in browser.editor["error"]
    browser.do("record", ref="collect#1.output", mode="json", text='"text"')
    assert browser.editor["other_type"], "it may be meant so"
    assert browser.editor["text"], "the editor stays open"
    assert len(client.executions.list()) == before
    browser.do("record", ref="collect#1.output", mode="json", text='"text"', force=True)
    assert browser.job["phase"] == "done"
    assert len(client.executions.list()) == before + 1


def test_a_step_fails_again_and_is_chosen(browse, failed):
    browser = browse(failed)
    browser.do("choose", ref="collect#1")
    browser.do("resume")
    assert browser.job["phase"] == "failed"
    assert browser.job["told"] == f"{failed} failed: ValueError: no licence in p2"
    assert browser.step["ref"] == "classify#3"
    assert browser.step["attempts"] == 2


def test_one_step_at_a_time(browse, failed):
    browser = browse(failed)
    edit(browser, "collect#1.output", lambda packages: [{**p, "licence": "GPL"} for p in packages])
    for label in ("classify#2", "classify#3", "report#1"):
        browser.do("step")
        assert browser.job["told"] == f"{browser.opened['id']} paused before {label}"
        assert browser.opened["status"] == "paused"
    browser.do("step")
    assert browser.opened["status"] == "completed"


def test_the_step_before_which_it_paused_is_shown_with_its_inputs(browse, failed):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended)
    browser.do("step")
    assert browser.opened["next"] == "report#1"
    assert (browser.opened["steps"][-1]["ref"], browser.opened["steps"][-1]["status"]) == ("report#1", "pending")
    step = browser.step
    assert (step["ref"], step["status"], [v["glimpse"] for v in step["inputs"]]) == (
        "report#1", "pending", ["list(3) ['MIT', 'MIT', 'BSD']"],
    )  # fmt: skip
    browser.do("value", ref="report#1.in.kinds")
    assert (browser.step["ref"], "BSD" in browser.step["value"]["text"]) == ("report#1", True)
    other = browse(browser.opened["id"])
    assert other.step["ref"] == "report#1"


def test_the_step_before_which_it_paused_is_edited(browse, failed, client):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended)
    browser.do("step")
    edit(browser, "report#1.in.kinds", lambda kinds: [*kinds, "GPL"], at="report#1")
    assert browser.job["told"] == "report#1.in.kinds edited: 1 step now stale"
    assert (browser.step["ref"], browser.step["inputs"][0]["edited"]) == ("report#1", True)
    browser.do("resume")
    assert client.executions.get(browser.opened["id"]).result == "MIT, MIT, BSD, GPL"


def test_one_step_is_what_next_does_breakpoints_too(browse, client, cells):
    handle = audit.options(raises=False, until="collect#1").run(2)
    cells(f"%kitaru open {handle.exec_id}")
    cells("%kitaru continue --break classify")
    browser = browse()
    assert browser.lines["step"] == "%kitaru next"
    browser.do("step")
    assert browser.job["told"] == f"{handle.exec_id} paused before classify#2"
    assert browser.job["line"] == "%kitaru next"
    assert client.executions.get(handle.exec_id).breaks == ("classify",), "they are kept"
    assert cells("%kitaru next").error is not None, "it fails there, as the flow does"


# ---------------------------------------------------------------- the newest code, and the debugger


FIXED = """
import kitaru

@kitaru.checkpoint
def classify(package):
    return package["licence"].replace("?", "unknown")
"""


def test_it_goes_on_with_the_steps_that_the_notebook_has_defined_since(browse, failed, cells, client):
    cells(FIXED)
    browser = browse(failed)
    browser.do("resume")
    assert browser.job["told"] == f"{failed} completed"
    assert client.executions.get(failed).result == "MIT, MIT, unknown"
    assert audit.options(raises=False).run(1).status == "failed", "the module's own step is in its place again"


def test_a_step_is_run_again_and_its_frames_are_shown(browse, failed, client):
    browser = browse(failed)
    before = client.executions.get(failed).reading.n
    browser.do("debug", ref="classify#3")
    assert (browser.job["phase"], browser.job["told"]) == (
        "done", "classify#3 fails again: ValueError: no licence in p2",
    )  # fmt: skip
    assert browser.job["line"] == browser.lines["debug"] == f"%kitaru debug {failed}:classify#3"
    first, _, place, code, package = browser.step["debugged"].splitlines()
    assert first == browser.job["told"]
    assert place.startswith("test_browse.py:")
    assert place.endswith(" in classify")
    assert code == """    raise ValueError(f"no licence in {package['name']}")"""
    assert package == "      package = dict(2) {'name': 'p2', 'licence': '?'}"
    assert client.executions.get(failed).reading.n == before, "nothing of it is recorded"
    browser.do("choose", ref="classify#1")
    assert "debugged" not in browser.step
    browser.do("debug", ref="classify#1")
    assert browser.step["debugged"] == "classify#1 does not fail, and gives what is recorded: str(3) 'MIT'"


def test_its_line_prints_the_same(browse, failed, cells):
    browser = browse(failed)
    browser.do("debug", ref="classify#3")
    assert cells(browser.job["line"]).out == browser.step["debugged"] + "\n"


def test_what_the_notebook_has_defined_is_debugged(browse, failed, cells):
    cells(FIXED)
    browser = browse(failed)
    browser.do("debug", ref="classify#3")
    assert browser.step["debugged"].splitlines() == [
        "classify is the checkpoint of this notebook",
        "classify#3 does not fail this time: it gives str(7) 'unknown'",
        "recorded: ValueError: no licence in p2",
    ]
    assert browser.job["told"].startswith("classify#3 does not fail this time")


def test_a_cell_is_debugged_beside_the_variables(notebook, browse):
    notebook("%%kitaru_step share\nleft = 3\nshare = total / (left - 3)")
    notebook("total = 0")
    browser = browse()
    browser.do("debug", ref="share#1")
    assert browser.step["debugged"].splitlines() == [
        "share#1 fails again: ZeroDivisionError: division by zero", "", "<share#1>:2 in <module>",
        "    share = total / (left - 3)", "      left = int 3", "      total = int 6",
    ]  # fmt: skip
    assert notebook("total, 'left' in globals()").value == (0, True)
    notebook("%%kitaru_step timed\n%time timed = 1")
    browser.do("debug", ref="timed#1")
    assert browser.job["phase"] == "failed"
    assert browser.job["told"].startswith("timed#1 is a cell with a magic")


def test_what_is_debugged_and_waits_is_stopped(browse, store, client):
    import asyncio

    patience = [0]
    begun = threading.Event()

    @checkpoint
    async def listen(n):
        begun.set()
        await asyncio.sleep(patience[0])
        return n

    @flow
    async def hears():
        return await listen(1)

    exec_id = hears.run().exec_id
    browser = browse(exec_id)
    patience[0] = 3600
    begun.clear()
    stops = threading.Event()
    browser.observe(lambda change: change["new"]["stops"] and stops.set(), "job")
    browser.handle({"do": "debug", "ref": "listen#1"})
    assert begun.wait(PATIENCE)
    assert stops.wait(PATIENCE)
    browser.handle({"do": "stop"})
    assert browser.rest(PATIENCE)
    assert (browser.job["phase"], browser.job["told"]) == (
        "stopped", "listen#1 was stopped; nothing of it was recorded",
    )  # fmt: skip
    patience[0] = 0
    browser.do("debug", ref="listen#1")
    assert browser.step["debugged"].startswith("listen#1 does not fail, and gives what is recorded")


def test_a_flow_goes_back_to_behind_a_step_in_a_fork(browse, client, cells):
    done = audit.options(raises=False, until="report#1").run(2).exec_id
    browser = browse(done)
    browser.do("checkout", ref="collect#1")
    fork = browser.opened["id"]
    assert browser.job["told"] == "back in a fork; 2 steps run again when it goes on: classify#1, classify#2"
    assert browser.job["line"] == f"%kitaru checkout {done}:collect#1"
    assert (browser.opened["origin"], browser.opened["unrun"], browser.current) == (done, True, fork)
    assert browser.opened["marks"]["stale"] == ["classify#1", "classify#2"]


def test_what_waits_is_no_failure_and_has_not_completed(browse, store, client):
    @flow
    def asks():
        return kitaru.wait(name="go", schema=bool)

    exec_id = asks.options(raises=False).run().exec_id
    browser = browse(exec_id)
    browser.do("resume")
    assert (browser.job["phase"], browser.job["told"]) == ("done", f"{exec_id} is waiting")


@flow
def asks(schema=bool, question="Publish?"):
    return kitaru.wait(name="go", schema=schema, question=question, metadata={"draft": question})


def test_what_an_execution_waits_for_is_answered_by_hand(browse, store, client, cells):
    exec_id = asks.run().exec_id
    browser = browse(exec_id)
    (wait,) = browser.opened["waits"]
    assert (wait["name"], wait["question"], wait["takes"], wait["facts"]) == (
        "go", "Publish?", "yes or no", [["draft", "Publish?"]],
    )  # fmt: skip
    browser.do("answer", wait=wait["id"], text="perhaps")
    assert browser.job["phase"] == "failed"
    assert "is no JSON" in browser.job["told"]
    browser.do("answer", wait=wait["id"], text="3")
    assert "3 is not of type 'boolean'" in browser.job["told"]
    assert [w.name for w in client.executions.pending_waits(exec_id)] == ["go"], "nothing has changed"

    browser.do("answer", wait=wait["id"], text=" yes ")
    assert (browser.job["phase"], browser.job["told"]) == ("done", "go is answered: Resume goes on")
    assert browser.job["line"] == f"%kitaru answer {exec_id} go true"
    assert browser.opened["waits"] == []
    browser.do("answer", wait=wait["id"], text="no")
    assert "was answered by" in browser.job["told"]
    browser.do("resume")
    assert browser.opened["result"]["glimpse"] == "bool True"

    other = asks.run().exec_id
    assert "is answered" in cells(f"%kitaru answer {other} go true").out, "its line does the same"


def test_a_wait_is_closed_and_an_execution_is_cancelled_by_hand(browse, store, client):
    exec_id = asks.run().exec_id
    browser = browse(exec_id)
    browser.do("abort", wait=browser.opened["waits"][0]["id"])
    assert browser.job["line"] == f"%kitaru abort {exec_id} go"
    browser.do("resume")
    assert browser.opened["status"] == "failed"
    other = asks.run().exec_id
    browser.do("open", ref=other)
    assert browser.lines["cancel"] == f"%kitaru cancel {other}"
    browser.do("cancel")
    assert (browser.job["told"], browser.job["line"]) == (f"{other} is cancelled", f"%kitaru cancel {other}")
    assert (browser.opened["status"], browser.opened["waits"]) == ("cancelled", [])


def test_an_object_is_begun_in_the_shape_that_is_asked_for(browse, store):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    browser = browse(asks.run(schema).exec_id)
    assert json.loads(browser.opened["waits"][0]["text"]) == {"ok": True}


def test_a_moment_and_another_execution_are_not_answered(browse, store):
    @flow
    def late():
        kitaru.sleep(3600)

    browser = browse(late.run().exec_id)
    (wait,) = browser.opened["waits"]
    assert not wait["asks"]
    assert "sleeps until" in wait["said"]
    browser.do("answer", wait=wait["id"], text="1")
    assert "it takes no answer" in browser.job["told"]


def test_it_runs_to_a_step(browse, failed):
    browser = browse(failed)
    edit(browser, "collect#1.output", mended)
    browser.do("resume", until="report#1")
    assert browser.job["told"].endswith("paused before report#1")
    assert browser.job["phase"] == "done"


# ---------------------------------------------------------------- stopping


def test_a_stop_pauses_before_the_next_step_and_a_resume_goes_on(browse, store, client):
    begun, go = threading.Event(), threading.Event()

    @checkpoint
    def slow(n):
        begun.set()
        assert go.wait(PATIENCE)
        return n

    @flow
    def sums():
        return slow(1) + slow(2)

    exec_id = sums.options(until="slow#1").run().exec_id
    browser = browse(exec_id)
    browser.handle({"do": "resume"})
    assert begun.wait(PATIENCE)
    browser.handle({"do": "stop"})
    assert (browser.job["asked"], browser.job["at"]) == (True, "slow#1")
    go.set()
    assert browser.rest(PATIENCE)
    assert (browser.job["phase"], browser.job["told"]) == ("stopped", f"{exec_id} paused before slow#2")
    assert [(c.label, c.status) for c in client.executions.get(exec_id).checkpoints] == [("slow#1", "completed")]
    browser.do("resume")
    assert browser.opened["result"]["glimpse"] == "int 3"


def test_a_second_stop_ends_async_code_at_its_await(browse, store, client):
    import asyncio

    begun = threading.Event()
    patience = [3600]

    @checkpoint
    async def listen(n):
        begun.set()
        await asyncio.sleep(patience[0])
        return n

    @flow
    async def hears():
        return await listen(1)

    exec_id = hears.options(until="listen#1").run().exec_id
    browser = browse(exec_id)
    browser.handle({"do": "resume"})
    assert begun.wait(PATIENCE)
    browser.handle({"do": "stop"})
    assert browser.job["harder"], "it can be stopped now"
    browser.handle({"do": "stop"})
    assert browser.rest(PATIENCE)
    assert (browser.job["phase"], browser.opened["status"]) == ("stopped", "interrupted")
    patience[0] = 0
    browser.do("resume")
    assert client.executions.get(exec_id).result == 1


def test_one_piece_of_work_at_a_time(browse, failed, client):
    browser = browse(failed)
    held = threading.Event()
    browser._works.do(lambda: held.wait(PATIENCE))
    browser.handle({"do": "resume"})
    held.set()
    assert browser.rest(PATIENCE)
    assert browser.job["phase"] == "idle"
    assert client.executions.get(failed).checkpoints[-1].data.attempts == 1


def test_it_can_be_looked_at_while_something_runs(browse, failed):
    browser = browse(failed)
    held = threading.Event()
    browser._works.do(lambda: held.wait(PATIENCE))
    browser.handle({"do": "choose", "ref": "collect#1"})
    assert browser._looks.rest(PATIENCE)
    assert browser.step["ref"] == "collect#1"
    held.set()


# ---------------------------------------------------------------- a notebook's own cells


@pytest.fixture
def notebook(cells):
    """Three steps of cells, each of which reads what the one before has bound."""
    cells("%%kitaru_step rows\nrows = [1, 2, 3]")
    cells("%%kitaru_step total\ntotal = sum(rows)")
    cells("%%kitaru_step double\ndouble = 2 * total")
    return cells


def ask(cells, browser, **message):
    """Ask in a cell, as a handler may be run; what changes variables happens after it."""
    cells.shell.user_ns["_asked"] = lambda: browser.handle(message)
    cells("_asked()")
    rest(browser)


def test_a_checkout_takes_place_between_cells(notebook, browse):
    browser = browse()
    notebook.shell.user_ns["ask"] = browser.handle
    asked = notebook(
        "import time\n"
        "ask({'do': 'checkout', 'ref': 'rows#1'})\n"
        "while ask.__self__.job['at'] != 'waiting for the running cell': time.sleep(0.001)\n"
        "'total' in globals()"
    )
    assert asked.value is True, "a cell does not see its variables change"
    rest(browser)
    assert browser.job["phase"] == "done"
    assert "removed" in browser.job["told"]
    assert "total" not in notebook.shell.user_ns
    assert browser.job["line"] == f"%kitaru checkout {browser.opened['id']}:rows#1"


def test_what_waits_for_a_cell_can_be_stopped_while_it_runs(notebook, browse):
    browser = browse()
    notebook.shell.user_ns["browser"] = browser
    ran = notebook(
        "import time\n"
        "browser.handle({'do': 'checkout', 'ref': 'rows#1'})\n"
        "while not browser.job['stops']: time.sleep(0.001)\n"
        "browser.handle({'do': 'stop'})\n"
        f"browser.rest({PATIENCE})"
    )
    assert ran.value is True
    assert (browser.job["phase"], browser.job["told"]) == ("stopped", "nothing was checked out")
    assert notebook("total").value == 6


def test_cells_are_edited_and_resumed_with_progress(notebook, browse):
    browser = browse()
    seen = []
    browser.observe(lambda change: seen.append((change["new"]["done"], change["new"]["at"])), "job")
    browser.do("edit", ref="rows#1.rows")
    assert (browser.editor["mode"], json.loads(browser.editor["text"])) == ("json", [1, 2, 3])
    ask(notebook, browser, do="record", ref="rows#1.rows", mode="json", text="[10]", at="rows#1")
    assert browser.job["phase"] == "done", browser.job["told"]
    assert browser.opened["marks"]["stale"] == ["double#1", "total#1"]
    ask(notebook, browser, do="resume")
    assert (browser.job["phase"], browser.job["told"]) == ("done", "2 steps run")
    assert (0, "total#1") in seen
    assert (1, "double#1") in seen
    assert (notebook("total").value, notebook("double").value) == (10, 20)


def test_cells_stop_before_the_next_one(notebook, browse):
    browser = browse()
    ask(notebook, browser, do="record", ref="rows#1.rows", mode="json", text="[10]")
    browser.observe(lambda change: change["new"]["at"] == "total#1" and browser.handle({"do": "stop"}), "job")
    ask(notebook, browser, do="resume")
    assert (browser.job["phase"], browser.job["told"]) == ("stopped", "1 step run")
    assert notebook("total").value == 10
    browser.unobserve_all()
    ask(notebook, browser, do="resume")
    assert notebook("double").value == 20


def test_a_cell_that_fails_ends_the_resume_there(notebook, browse):
    browser = browse()
    ask(notebook, browser, do="record", ref="rows#1.rows", mode="json", text='["text"]')
    ask(notebook, browser, do="resume")
    assert (browser.job["phase"], browser.job["told"]) == ("failed", "stopped at total#1")


# ---------------------------------------------------------------- values in the editor


@dataclasses.dataclass
class Package:
    name: str
    since: dt.date
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    "value",
    [
        None, True, 7, 10**30, 1.0, -0.0, float("inf"), float("nan"), [], {}, (), [1, (2, 3)], {"a": ({"b": 1.5},)},
        {1, 2}, frozenset({"a"}), "", "a\r\nb", {"$tuple": [1]}, {"$": 1, "$$x": 2}, ["é", "\u202e"],
        dt.date(2026, 1, 2), Package("numpy", dt.date(2005, 1, 1), (1, 2)), [Package("x", dt.date(2020, 1, 1), ())],
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_that_nobody_changed_comes_back_as_itself(store, client, value):
    artifact = recorded(client, value)
    f = form(artifact)
    assert f.mode in {"json", "text"}, f.note
    back = read(artifact, f.mode, f.text)
    assert kitaru.digest(back) == artifact.digest
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [{1: 2}, b"bytes", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), range(3)], ids=repr)
def test_what_json_cannot_hold_whole_is_left_to_a_cell(store, client, value):
    f = form(recorded(client, value))
    assert f.mode == "cell"
    assert f.note


def test_text_is_edited_as_it_is(store, client):
    assert form(recorded(client, 'say "no"\n')) == ("text", 'say "no"\n', "")


def recorded(client, value):
    @checkpoint
    def give():
        return value

    @flow
    def gives():
        give()

    return client.executions.get(gives.run().exec_id).checkpoints[0].artifacts[0]


# ---------------------------------------------------------------- what is hostile, and what is wrong


def test_hostile_texts_are_shown_as_texts(browse, store):
    @checkpoint(type=HOSTILE)
    def give(text):
        kitaru.log(found=HOSTILE)
        raise ValueError(HOSTILE)

    @flow
    def hostile():
        return give(HOSTILE)

    browser = browse(hostile.options(raises=False).run().exec_id)
    browser.do("debug", ref="give#1")
    assert "give#1 fails again" in browser.step["debugged"]
    browser.do("value", ref="give#1.in.text")
    assert "give#1 fails again" in browser.step["debugged"], "it stays while its values are looked at"
    everything = json.dumps({name: getattr(browser, name) for name in STATE}, ensure_ascii=False)
    assert "<script>alert" in everything, "the front end puts it in as text"
    assert "\x1b" not in everything
    assert "\\u001b" not in everything
    assert "\u202e" not in everything
    assert "<script" not in browser.opened["picture"]
    assert "<img" not in browser.opened["picture"]


def test_a_hostile_question_is_shown_as_text(browse, store):
    browser = browse(asks.run([HOSTILE, "b"], HOSTILE).exec_id)

    def texts(state):
        if isinstance(state, str):
            yield state
        elif isinstance(state, dict | list):
            for part in state.values() if isinstance(state, dict) else state:
                yield from texts(part)

    said = [*texts(browser.opened["waits"])]
    assert any("<script>alert" in text for text in said), "the front end puts it in as text"
    assert all(c.isprintable() or c == "\n" for text in said for c in text)


@pytest.mark.parametrize(
    "message",
    [
        None, 5, "open", [], {}, {"do": None}, {"do": ["open"]}, {"do": "close"}, {"do": "_open"}, {"do": "open"},
        {"do": "open", "ref": {}}, {"do": "choose", "ref": "nothing#1"}, {"do": "value", "ref": "collect#1"},
        {"do": "edit", "ref": "collect#1.in.nothing"}, {"do": "record"}, {"do": "record", "ref": "x", "mode": "json"},
        {"do": "record", "ref": "collect#1.output", "mode": "cell", "text": "1"}, {"do": "checkout", "ref": ""},
        {"do": "resume", "until": 5}, {"do": "stop"}, {"do": "debug", "ref": "nothing"}, {"do": "debug"},
        {"do": "debug", "ref": ["collect#1"]}, {"do": "debug", "ref": "collect#1.output"}, {"do": "_debug"},
        {"do": "answer"}, {"do": "answer", "wait": 5, "text": "1"}, {"do": "answer", "wait": "x"}, {"do": "abort"},
    ],
    ids=repr,
)  # fmt: skip
def test_no_message_does_harm(browse, failed, client, message):
    browser = browse(failed)
    browser.handle(message)
    rest(browser)
    assert browser.opened["id"] == failed
    assert len(client.executions.list()) == 1
    browser.do("choose", ref="collect#1")
    assert browser.step["ref"] == "collect#1", "it goes on"


def test_what_goes_wrong_is_said(browse, failed):
    browser = browse(failed)
    browser.do("open", ref="nobody")
    assert "nobody" in browser.trouble
    browser.do("open", ref=failed)
    assert browser.trouble == ""


def test_the_code_that_is_missing_is_said(browse, store, client):
    code = "import kitaru\n@kitaru.checkpoint\ndef f():\n    1 / 0\n@kitaru.flow\ndef vanished():\n    f()\n"
    space = {"__name__": "no_such_module"}
    exec(code, space)
    handle = space["vanished"].options(raises=False).run()
    from kitaru import sources

    sources._registered.pop(("no_such_module", "vanished"))
    browser = browse(handle.exec_id)
    browser.do("resume")
    assert browser.job["phase"] == "failed"
    assert "vanished is not to be found here" in browser.job["told"]


def test_it_refuses_what_is_not_there_before_anything_is_made(cells):
    with pytest.raises(NotFoundError):
        kitaru_jupyter.Browser("nobody", magics=cells.magics)
    assert "nobody" in f"{cells('%kitaru browse nobody').error}"


def test_it_says_what_to_type_where_the_extension_is_not_loaded(bare_shell):
    from IPython.core.error import UsageError as Shown

    with pytest.raises((UsageError, Shown), match="%load_ext kitaru"):
        kitaru_jupyter.Browser()


def test_an_empty_store_is_no_error(browse, cells):
    browser = browse()
    assert (browser.runs["rows"], browser.opened, browser.step) == ([], {}, {})
    browser.do("plan")
    browser.do("resume")
    ran = cells("%kitaru browse")
    assert ran.error is None
    assert ran.text.startswith("Kitaru: nothing is recorded yet")


# ---------------------------------------------------------------- lines of code


def test_a_line_is_typed_as_it_stands():
    assert lines.checkout("audit-1", "outer#1/classify~2", before=True) == (
        "%kitaru checkout audit-1:outer#1/classify~2 --before"
    )
    assert lines.edit("a", "f.output", mode="json", why="it's", text="[1]") == (
        "%%kitaru_edit a:f.output --json --why 'it'\"'\"'s'\n[1]"
    )


def test_the_name_of_a_hostile_step_is_one_word():
    assert lines.show("a", "f;$(rm)#1") == "%kitaru show 'a:f;$(rm)#1'"


# ---------------------------------------------------------------- work


def test_updates_come_ten_times_a_second_and_the_last_one_always():
    now, published, owed = [0.0], [], []
    progress = Progress(published.append, lambda: now[0], lambda wait, pay: owed.append((wait, pay)), phase="running")
    progress.say(done=0)
    for n in range(1, 5):
        now[0] = n * OFTEN / 10
        progress.say(done=n)
    assert published == [{"phase": "running", "done": 0}]
    ((wait, pay),) = owed
    assert wait == pytest.approx(0.9 * OFTEN)
    pay()
    assert published[1:] == [{"phase": "running", "done": 4}], "all of it, not what changed"
    now[0] += OFTEN / 2
    progress.say(done=5)
    progress.say(now=True, phase="done")
    assert published[2:] == [{"phase": "done", "done": 5}]
    owed[-1][1]()
    assert len(published) == 3, "nothing comes after the last one"


def test_what_is_published_goes_the_way_of_the_message_that_asked():
    import contextvars

    way = contextvars.ContextVar("way", default="")
    went = []
    way.set("a subshell")
    progress = Progress(lambda state: went.append(way.get()))
    way.set("")
    worker = Worker("test")
    worker.do(lambda: progress.say(now=True))
    assert worker.rest(PATIENCE)
    worker.close()
    assert went == ["a subshell"]


# ---------------------------------------------------------------- the picture that stays, and the files


def test_a_picture_stays_where_no_kernel_is(cells, failed):
    first, view = cells(f"%kitaru browse {failed}").shown
    assert "<script" not in first["data"]["text/html"]
    assert "data:image/svg+xml;base64," in first["data"]["text/html"]
    assert "<svg" not in first["data"]["text/html"], "inline SVG is dropped where a notebook is not trusted"
    assert "audit" in first["data"]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in view["data"]
    again = cells(f"%kitaru browse {failed}").shown
    assert [s["data"]["text/plain"] for s in again] == [s["data"]["text/plain"] for s in (first, view)]


def test_the_alias_does_the_same(cells, failed):
    assert len(cells(f"%kitaru_browse {failed}").shown) == 2


def test_the_front_end_comes_with_the_package_and_asks_nobody_else(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        for name in ("browser.js", "browser.css"):
            text = wheel.read(f"kitaru_jupyter/browser/{name}").decode()
            assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
            assert "innerHTML" not in text
            assert "import " not in text
