"""Where the code of a recorded flow is found, in processes that share nothing but the store."""

from __future__ import annotations

import pytest

from kitaru import KitaruClient, checkpoint, flow, sources
from kitaru.errors import CodeNotFoundError

SCRIPT = """\
import os, sys
from dataclasses import dataclass
from enum import Enum
import kitaru
from kitaru import checkpoint, flow
{neighbour}

class Kind(Enum):
    GOOD = 1

@dataclass
class Licence:
    name: str
    kind: Kind

class NotNowError(Exception):
    pass

@checkpoint
def classify(n):
    print("classify", n)
    return Licence(f"l{{n}}", Kind.GOOD)

@checkpoint
def risky():
    print("risky")
    raise NotNowError("x")

@checkpoint
def last(licence):
    assert type(licence) is Licence, type(licence)
    assert licence.kind is Kind.GOOD
    if os.environ.get("STOP"):
        raise ValueError("stop here")
    return licence

@flow
def audit(n):
    try:
        risky()
    except NotNowError:
        pass
    return last(classify(n))

{guard}
"""
GUARDED = """if __name__ == "__main__":
    print(audit.options(exec_id="x").run(7).get())"""
RESUME = """\
import sys
from kitaru import KitaruClient
client = KitaruClient()
client.note = print
handle = client.executions.resume("x", code=sys.argv[1] if len(sys.argv) > 1 else None)
print(handle.get())
print(client.executions.get("x").result)
"""


@pytest.fixture
def project(tmp_path, run_script):
    """A script that was stopped at its last step."""

    def write(name="audit.py", guard=GUARDED, neighbour=""):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT.format(guard=guard, neighbour=neighbour))
        (tmp_path / "go_on.py").write_text(RESUME)
        return path

    return write


def begin(run_script, path):
    done = run_script(path, env={"STOP": "1"})
    assert "ValueError: stop here" in done.err
    assert done.out == "risky\nclassify 7\n"


def test_the_script_itself_goes_on(run_script, project):
    begin(run_script, project())
    done = run_script("audit.py")
    assert done.out == "Licence(name='l7', kind=<Kind.GOOD: 1>)\n", done.err


def test_another_process_imports_the_script_under_a_name_of_its_own(run_script, project):
    path = project()
    begin(run_script, path)
    done = run_script("go_on.py")
    value = "Licence(name='l7', kind=<Kind.GOOD: 1>)"
    assert done.out.splitlines() == [f"kitaru: audit found in its script {path}", value, value], done.err


def test_then_the_script_itself_still_reads_what_the_other_wrote(run_script, project):
    begin(run_script, project())
    run_script("go_on.py")
    done = run_script("audit.py")
    assert (done.code, done.out) == (0, "Licence(name='l7', kind=<Kind.GOOD: 1>)\n"), done.err


def test_a_script_finds_its_neighbours(run_script, project, tmp_path):
    path = project("deep/audit.py", neighbour="import beside")
    (tmp_path / "deep" / "beside.py").write_text("")
    done = run_script(path, env={"STOP": "1", "KITARU_STORE": str(tmp_path / "s")})
    assert "stop here" in done.err
    done = run_script("go_on.py", env={"KITARU_STORE": str(tmp_path / "s")})
    assert done.code == 0, done.err


def test_a_script_that_moved_is_said_with_code(run_script, project, tmp_path):
    path = project()
    begin(run_script, path)
    path.rename(tmp_path / "moved.py")
    lost = run_script("go_on.py")
    assert "the code of the flow audit is not to be found here; looked at: its script" in lost.err
    assert "(no such file here)" in lost.err
    assert "Say where it is: --code PATH or --code module:flow" in lost.err
    done = run_script("go_on.py", "moved.py")
    assert done.out.startswith("kitaru: audit found in --code moved.py\n"), done.err


def test_a_run_while_a_script_is_imported_says_to_guard_it(run_script, project):
    path = project(guard='print(audit.options(exec_id="x").run(7).get())')
    begin(run_script, path)
    done = run_script("go_on.py")
    assert done.code == 1
    assert f'{path} runs the flow audit while it is imported: put that below `if __name__ == "__main__":`' in done.err


def test_code_may_be_a_module_and_name_its_flow(run_script, project, tmp_path):
    begin(run_script, project())
    assert run_script("go_on.py", "audit:audit").out.startswith("kitaru: audit found in --code audit:audit\n")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("no_such_module", "--code no_such_module: neither a file nor a module"),
        ("json", "--code json: there is no flow body in it"),
        ("json:dumps", "--code json:dumps: there is no flow dumps in it"),
        ("/no/such/file.py", "neither a file nor a module"),
    ],
)
def test_code_that_is_not_there_is_named(store, client, code, says):
    @flow
    def body():
        raise ValueError("x")

    body.options(exec_id="x", raises=False).run()
    with pytest.raises(CodeNotFoundError) as e:
        client.executions.resume("x", code=code)
    assert says in str(e.value)


def test_a_flow_that_this_process_has_is_taken_first(store, client, ran):
    @checkpoint
    def step():
        if ran("step") == 1:
            raise ValueError("x")
        return "ok"

    @flow
    def body():
        return step()

    body.options(exec_id="x", raises=False).run()
    client.note = ran
    assert client.executions.resume("x").get() == "ok"
    assert ran.names == ["step", f"kitaru: body found in this process ({__name__})", "step"]


def test_a_flow_that_is_nowhere_is_named_with_the_places(store, client, monkeypatch):
    @flow
    def body():
        raise ValueError("x")

    body.options(exec_id="x", raises=False).run()
    monkeypatch.setattr(sources, "_registered", {})
    with pytest.raises(CodeNotFoundError, match=rf"its module {__name__} \(it has no flow body\)"):
        client.executions.resume("x")
    assert KitaruClient().executions.get("x").failure.message == "x", "it can be looked at all the same"
