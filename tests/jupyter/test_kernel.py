"""Cells in a real kernel, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from kitaru.client import KitaruClient

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:Kernel is running over TCP"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of kernels that were shut down
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Kernel:
    """A kernel that runs cells one by one: `kernel("x = 1")` gives its outputs."""

    def __init__(self, folder, environment):
        self._notebook = nbformat.v4.new_notebook()
        self._loop = asyncio.new_event_loop()
        where = {"metadata": {"path": str(folder)}}
        self._client = NotebookClient(self._notebook, timeout=60, kernel_name="python3", resources=where)
        self._client.create_kernel_manager()
        self._do(self._client.async_start_new_kernel(env=environment))
        self._do(self._client.async_start_new_kernel_client())
        self.failed = False

    def _do(self, work):
        return self._loop.run_until_complete(work)

    def __call__(self, source, during=None):
        cell = nbformat.v4.new_code_cell(source)
        self._notebook.cells.append(cell)
        self._do(self._run(cell, during))
        return "\n".join(map(text_of, cell.outputs))

    async def _run(self, cell, during):
        task = asyncio.ensure_future(self._client.async_execute_cell(cell, len(self._notebook.cells) - 1))
        if during is not None:
            await asyncio.to_thread(during)
        self.failed = True
        with contextlib.suppress(CellExecutionError):
            await task
            self.failed = False

    def typing(self, source, lines):
        """Run a cell whose code asks for input, and type these lines; gives what was printed and asked."""
        said, waiting = [], list(lines)
        client = self._client.kc.blocking_client() if hasattr(self._client.kc, "blocking_client") else self._client.kc

        def shown(message):
            said.append(text_of(message["content"]))

        def ask(message):
            said.append(message["content"]["prompt"])
            client.input(waiting.pop(0))

        client.start_channels()
        client.execute_interactive(source, allow_stdin=True, stdin_hook=ask, output_hook=shown, timeout=60)
        client.stop_channels()
        return "\n".join(said)

    @property
    def process(self):
        return self._client.km.provisioner.process

    def kill(self):
        self.process.kill()
        self.process.wait()

    def last_outputs(self, source):
        """The outputs of a cell as they are in the notebook."""
        self(source)
        return self._notebook.cells[-1].outputs

    def subshell(self):
        """The id of a new subshell of this kernel."""
        channel = self._client.kc.control_channel

        async def make():
            channel.send(self._client.kc.session.msg("create_subshell_request", {}))
            return await channel.get_msg(timeout=30)

        return self._do(make())["content"]["subshell_id"]

    def both(self, main, side, subshell):
        """Run a cell and, once it shows something, another one in a subshell; how each has ended."""
        client = self._client.kc

        def send(code, where=None):
            content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
            message = client.session.msg("execute_request", content)
            message["header"]["subshell_id"] = where
            client.shell_channel.send(message)
            return message["header"]["msg_id"]

        async def run():
            first = send(main)
            while (await client.iopub_channel.get_msg(timeout=30))["msg_type"] != "stream":
                pass
            ended, second = {}, send(side, subshell)
            while len(ended) < 2:
                reply = await client.shell_channel.get_msg(timeout=30)
                ended[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
            return [ended[first], ended[second]]

        return self._do(run())

    def close(self):
        self._client.kc.stop_channels()
        self._do(self._client.km.shutdown_kernel(now=True))
        self._client.km.context.destroy(0)
        self._do(self._loop.shutdown_default_executor())
        self._loop.close()


def text_of(output):
    text = output.get("text") or output.get("data", {}).get("text/plain") or "\n".join(output.get("traceback", []))
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def kernel(tmp_path):
    """Start a kernel that records in a folder: `kernel()`."""
    started = []

    def start(**environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "COV_"))}
        place = {"KITARU_STORE": str(tmp_path / "runs"), "IPYTHONDIR": str(tmp_path / "ipython")}
        own = Kernel(tmp_path, clean | place | environment)
        started.append(own)
        assert own("%load_ext kitaru") == ""
        return own

    yield start
    for own in started:
        own.close()


@pytest.fixture
def client(tmp_path):
    return KitaruClient(str(tmp_path / "runs"))


def checkpoints(client):
    return client.executions.latest().checkpoints


def until(what):
    """Wait until `what()` is true; it is about another process."""
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "this did not come about"
        time.sleep(0.02)


@pytest.mark.usefixtures("interruptible")
def test_cells_plain_and_awaiting_nested_failing_and_interrupted(kernel, client):
    run = kernel()
    # A step with an await: the kernel runs it as a task, whose context is gone when the cell has ended.
    assert "7" in run("%%kitaru_step waits\nimport asyncio\nx = await asyncio.sleep(0.01, 7)\nx")
    run("import kitaru\n@kitaru.checkpoint\nasync def inner(n): return n + 1")
    run("@kitaru.checkpoint\ndef plain(n): return n")
    run("%%kitaru_step nests\ny = [await inner(1), plain(2), *await asyncio.gather(inner(3), inner(4))]")
    run("%%kitaru_step again\nz = plain(5)")
    assert "division by zero" in (said := run("%%kitaru_step fails\n\nawait asyncio.sleep(0)\nq = 1 / 0"))
    assert "kitaru: fails#1 failed. What it had: %kitaru show fails#1" in said
    assert run.failed

    def interrupt(label):
        def when():
            until(lambda: label in [c.label for c in checkpoints(client)])
            run.process.send_signal(signal.SIGINT)

        return when

    assert "KeyboardInterrupt" in run("%%kitaru_step sleeps\nimport time\ntime.sleep(60)", interrupt("sleeps#1"))
    # What the kernel makes of an interrupt while it awaits.
    assert "CancelledError" in run("%%kitaru_step asleep\nasyncio.current_task().cancel()\nawait asyncio.sleep(60)")
    assert run("x") == "7", "the kernel is unharmed"
    run("%%kitaru_step after\nok = x")
    assert [(c.label, c.status) for c in checkpoints(client)] == [
        ("waits#1", "completed"),
        ("nests#1", "completed"),
        ("nests#1/inner#1", "completed"),
        ("nests#1/plain#1", "completed"),
        ("nests#1/inner#2", "completed"),
        ("nests#1/inner#3", "completed"),
        ("again#1", "completed"),
        ("again#1/plain#1", "completed"),
        ("fails#1", "failed"),
        ("sleeps#1", "interrupted"),
        ("asleep#1", "interrupted"),
        ("after#1", "completed"),
    ]
    assert "interrupted" in checkpoints(client)[-2].failure.message


def test_two_notebooks_on_one_execution(kernel, client):
    first, second = kernel(), kernel()
    first("%%kitaru_step s\nx = 1")
    until(lambda: client.executions.list())
    assert "is a notebook's, running, with 1 step" in second("%kitaru open last")
    said = second("%%kitaru_step s\nx = 2")
    assert "is run by" in said
    assert "looks alive" in said
    assert "%kitaru close" in said
    assert "kitaru resume" not in said, "nothing resumes a notebook's execution"
    assert "The cell was not run" in said
    assert "NameError" in second("x")
    first("%kitaru close")
    assert second("%%kitaru_step s\nx = 2\nx") == "2"
    assert [c.label for c in checkpoints(client)] == ["s#1", "s#2"]


def test_a_kernel_that_is_killed_leaves_what_was_recorded_and_another_one_goes_on(kernel, client):
    first = kernel()
    first("%%kitaru_step s\nx = 1")
    until(lambda: client.executions.list())
    first.process.kill()
    first.process.wait()
    second = kernel()
    second("%kitaru open last")
    assert second("%%kitaru_step s\nx = 2\nx") == "2"
    assert [(c.label, c.status) for c in checkpoints(client)] == [("s#1", "completed"), ("s#2", "completed")]


# ---------------------------------------------------------------- a flow, stepped through


AGENT = """
from kitaru import checkpoint, flow

@checkpoint
def think(n):
    with open("bodies.txt", "a") as f: f.write(f"think {n}\\n")
    return n + 1

@checkpoint
def act(thought):
    with open("bodies.txt", "a") as f: f.write(f"act {thought}\\n")
    return thought * 10

@flow
def agent(turns):
    seen = 0
    for _ in range(turns):
        seen = act(think(seen))
    return seen

@checkpoint
async def fetch(n):
    return 1 / n

@flow
async def later(n):
    return await fetch(n)
"""


def test_a_kernel_that_is_killed_at_a_stop_loses_nothing(kernel, client, tmp_path):
    (tmp_path / "agents.py").write_text(AGENT)
    first = kernel()
    first("from agents import agent")
    assert "paused before act#1; its inputs are in `step`" in first("%kitaru run agent(2) --break act")
    first("%kitaru next")
    first.process.kill()
    first.process.wait()
    second = kernel()
    assert "paused before think#2; its inputs are in `step`" in second("%kitaru open last")
    assert second("dict(step.inputs)") == "{'n': 10}"
    assert "stops before act" in second("%kitaru where")
    assert "paused before act#2" in second("%kitaru continue")
    assert second("step.inputs.thought") == "11"
    assert "110" in second("%kitaru next")
    bodies = (tmp_path / "bodies.txt").read_text().splitlines()
    assert bodies == ["think 0", "act 1", "think 10", "act 11"], "each ran once"
    assert client.executions.latest().result == 110


def test_an_async_flow_in_a_kernel_and_its_step_again(kernel, client, tmp_path):
    (tmp_path / "agents.py").write_text(AGENT)
    run = kernel()
    run("from agents import later")
    assert "paused before fetch#1" in run("%kitaru run later(0)")
    said = run("%kitaru continue")
    assert run.failed
    assert "ZeroDivisionError" in said
    assert "failed at fetch#1; %kitaru debug stops where it fails" in said
    said = run("%kitaru debug")
    assert not run.failed
    assert "agents.py:23 in fetch\n    return 1 / n\n      n = int 0" in said
    run("from kitaru import checkpoint\n@checkpoint\nasync def fetch(n): return -1")
    said = run("%kitaru resume")
    assert "fetch of this notebook stands in for that of agents.py" in said
    assert "-1" in said
    assert client.executions.latest().result == -1


def test_a_step_is_resumed_with_a_bar_in_a_kernel(kernel, client, tmp_path):
    (tmp_path / "agents.py").write_text(AGENT)
    run = kernel()
    run("from agents import agent\nagent.run(2)\nNone")
    run("%kitaru open last")
    run("%%kitaru_edit think#1\n5")
    said = run("%kitaru resume")
    assert not run.failed
    assert "IntProgress" in said
    assert "completed: 3 steps run, 1 reused" in said


def test_whoever_can_be_asked_gets_the_debugger(kernel, tmp_path):
    (tmp_path / "agents.py").write_text(AGENT)
    run = kernel()
    run(
        "from agents import later\nhandle = later.options(raises=False).run(0)\n"
        "try: await handle\nexcept ZeroDivisionError: pass"
    )
    run("%kitaru open last")
    said = run.typing("%kitaru debug", ["p f'n is {n}'", "q"])
    assert "ipdb>" in said
    assert "n is 0" in said


SHOWS = """%%kitaru_step shows
from IPython.display import HTML, clear_output, display
print("gone")
clear_output()
handle = display(HTML("<b>1</b>"), display_id=True)
handle.update(HTML("<b>2</b>"))
print("kept")
clear_output(wait=True)
print("last")
display(HTML("<i>with it</i>"))
HTML("<i>the value</i>")"""
HOSTILE = """%%kitaru_step hostile
import sys
asked = []
class Bad:
    def __repr__(self):
        asked.append(1)
        raise ValueError("no repr")
bad = Bad()
bad"""
HOOKS = """
def hooks():
    import sys
    shell = get_ipython()
    formatters = shell.display_formatter.formatters
    return {
        "callbacks": {k: [*map(repr, v)] for k, v in shell.events.callbacks.items()},
        "transformers": [*map(repr, [*shell.input_transformers_cleanup, *shell.input_transformers_post])],
        "trees": [*map(repr, shell.ast_transformers)],
        "magics": {kind: sorted(names) for kind, names in shell.magics_manager.magics.items()},
        "registry": sorted(shell.magics_manager.registry),
        "configurables": sorted(type(c).__name__ for c in shell.configurables),
        "formatters": {k: (repr(f.type_printers), repr(f.deferred_printers)) for k, f in formatters.items()},
        "completers": [*map(repr, shell.Completer.custom_matchers)],
        "shown": [n for n in ("publish", "clear_output") if n in vars(shell.display_pub)]
        + [n for n in ("write_format_data",) if n in vars(shell.displayhook)],
        "streams": repr((sys.stdout, sys.stderr)),
        "excepthook": repr((sys.excepthook, sys.displayhook, shell.custom_exceptions, shell.showtraceback)),
    }
"""


def test_what_a_cell_has_shown_is_kept_as_it_was_in_the_end(kernel):
    run = kernel()
    assert run(SHOWS).endswith("HTML object>")
    shown = run.last_outputs("%kitaru outputs shows")
    assert [o.get("text") or o["data"]["text/html"] for o in shown] == [
        "last\n", "<i>with it</i>", "<i>the value</i>",
    ]  # fmt: skip
    assert run(HOSTILE).count("ValueError: no repr") == 1, "nobody asks it a second time"
    assert run("len(asked)") == "1"
    run("%%kitaru_step much\nfor n in range(20_000): print('y' * 100)")
    assert len(run("%kitaru outputs much")) <= 70_000


def test_magics_and_shell_commands_are_recorded_with_their_cell(kernel, client):
    run = kernel()
    run("%kitaru record on")
    for nothing in ("", "# a remark", "%load_ext kitaru", "%kitaru", "%kitaru log", "%kitaru help", "%kitaru_checkout"):
        run(nothing)
    run("listed = %kitaru runs")
    assert client.executions.list() == []
    run("%%time\ntimed = 1")
    assert "hello" in run("%%bash\necho hello")
    run("%%capture shown\nprint('caught')\ninside = 2")
    run("out = !echo one; echo two")
    run("%%kitaru_step named\n%%capture again\nprint('caught')\nnested = 3")
    assert [(c.label, sorted(c.data.outputs and dict(c.data.outputs))) for c in checkpoints(client)] == [
        ("cell#1", ["timed"]),
        ("cell#2", []),
        ("cell#3", ["inside", "shown"]),
        ("cell#4", ["out"]),
        ("named#1", ["again", "nested"]),
    ]
    run("%kitaru record off")
    run("%%kitaru_step alone\n%%capture third\nmore = 4")
    assert "plain" not in checkpoints(client)[-1].notes, "a cell within a cell is part of it"
    assert run("more, out.s, shown.stdout") == r"(4, 'one two', 'caught\n')"


def test_a_cell_that_ends_the_interpreter_or_asks_for_input_fails_and_says_why(kernel, client):
    run = kernel()
    assert "SystemExit: 3" in run("%%kitaru_step leaves\nimport sys\nsys.exit(3)")
    assert "does not support input requests" in run("%%kitaru_step asks\ninput('?')")
    left, asked = checkpoints(client)
    assert (left.status, left.failure.message, asked.status) == ("failed", "SystemExit: 3", "failed")
    assert run("%%kitaru_step after\nok = 1\nok") == "1"


def test_a_background_task_and_a_thread_write_what_a_later_step_reads(kernel, client):
    run = kernel()
    run(
        "%%kitaru_step begins\nimport asyncio, threading\nwent = []\nready = threading.Event()\n"
        "async def tick():\n    await asyncio.sleep(0.01)\n    went.append('task')\n"
        "def write():\n    ready.wait()\n    went.append('thread')\n"
        "task = asyncio.create_task(tick())\nthread = threading.Thread(target=write)\nthread.start()"
    )
    run("await task; ready.set(); thread.join()")
    assert run("%%kitaru_step reads\nseen = [*went]\nseen") == "['task', 'thread']"
    begins, reads = checkpoints(client)
    assert begins.artifacts[[a.name for a in begins.artifacts].index("begins#1.went")].load() == []
    assert reads.inputs["went"].load() == ["task", "thread"]
    assert {"task", "thread"} <= begins.notes["unrestorable"].keys()


def test_a_script_that_a_cell_runs_is_part_of_it_and_what_leads_to_all_is_no_value(kernel, client, tmp_path):
    (tmp_path / "script.py").write_text(
        "import kitaru\n@kitaru.checkpoint\ndef inner(n): return n + 1\ngot = inner(1)\nclass Own: pass\nown = Own()\n"
    )
    run = kernel()
    run(
        "%%kitaru_step all\nimport logging, sys\nhandler = logging.StreamHandler()\n"
        "out = sys.stdout\nip = get_ipython()"
    )
    run("%%kitaru_step runs\n%run script.py\ntwice = got * 2")
    assert [c.label for c in checkpoints(client)] == ["all#1", "runs#1", "runs#1/inner#1"]
    assert checkpoints(client)[0].notes["unrestorable"].keys() == {"handler", "out", "ip"}
    assert "inner" in checkpoints(client)[1].notes["unrestorable"]
    run("del got, own, Own, inner, twice")
    assert "inner could not be had again whole" in run("%kitaru checkout runs")
    assert run("got, twice, type(own) is Own") == "(2, 4, True)"


def test_a_module_that_changes_is_reloaded_in_a_step(kernel, client, tmp_path):
    module = tmp_path / "reloaded.py"
    module.write_text("def f(): return 1\n")
    run = kernel()
    run("%load_ext autoreload\n%autoreload 2\nimport reloaded\nfrom reloaded import f")
    assert run("%%kitaru_step a\na = reloaded.f() + f()\na") == "2"
    module.write_text("def f(): return 10  # longer than before\n")
    assert run("%%kitaru_step a\na = reloaded.f() + f()\na") == "20"
    assert [c.artifacts[0].load() for c in checkpoints(client)] == [2, 20]


def test_subshells_record_side_by_side_and_each_what_it_has_shown(kernel, client):
    run = kernel()
    subshell = run.subshell()
    main = (
        "%%kitaru_step main\nimport threading\ngo, gone = threading.Event(), threading.Event()\n"
        "print('main begins')\ngo.wait(20)\nprint('main ends')\na = 1"
    )
    side = (
        "%%kitaru_step side\nprint('side begins')\ngo.set()\nimport time\n"
        "while not [c for c in kitaru.client.KitaruClient().executions.latest().checkpoints if c.label == 'main#1' "
        "and c.status == 'completed']: time.sleep(0.02)\nprint('side ends')\nb = 2"
    )
    run("import kitaru.client")
    assert run.both(main, side, subshell) == ["ok", "ok"]
    assert run("a, b") == "(1, 2)"
    assert {c.label: c.status for c in checkpoints(client)} == {"main#1": "completed", "side#1": "completed"}
    assert run("%kitaru outputs main") == "main begins\nmain ends\n"
    assert run("%kitaru outputs side") == "side begins\nside ends\n"
    assert run("[n for n in ('publish', 'clear_output') if n in vars(get_ipython().display_pub)]") == "[]"


def test_coming_and_going_leave_no_hook(kernel):
    run = kernel()
    run("%unload_ext kitaru")
    run(HOOKS)
    run("before = hooks()")
    run("%load_ext kitaru")
    assert run("before == hooks()") == "False"
    run(SHOWS)
    run("%%kitaru_step fails\nimport nothing_of_this_name")
    run("%kitaru record on")
    run("%reload_ext kitaru")
    run("%unload_ext kitaru")
    assert run("[key for key, value in hooks().items() if value != before[key]]") == "[]"
