"""A folder with a script in it, as a user has one, and the command line on top."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner

from kitaru.cli.app import app

AUDIT = '''
import os
from kitaru import checkpoint, flow, log, save

@checkpoint
def collect(names):
    log(found=len(names))
    return [{"name": n} for n in names]

@checkpoint(type="llm_call")
def classify(package):
    if package["name"] == "boto3" and not os.path.exists("mended"):
        raise TimeoutError("no answer")
    return {**package, "licence": "MIT"}

@flow
def audit(names):
    """Audit some packages."""
    parts = [classify(p) for p in collect(names)]
    print("the flow prints")
    save("report", "# Report\\n\\nAll well.", type="report")
    return parts

if __name__ == "__main__":
    print(audit.run(["numpy", "boto3"]).get())
'''


@dataclass
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str
    bytes: bytes = b""  # of `out`

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kitaru(here):
    """The command line in this process: `kitaru("show", "last")`."""

    def run(*args, stdin=None):
        result = CliRunner().invoke(app, list(args), input=stdin, prog_name="kitaru")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        out = result.stdout_bytes.decode(errors="replace").replace("\r\n", "\n")
        return Said(result.exit_code, out, result.stderr, result.stdout_bytes)

    return run


@pytest.fixture
def failed(here, run_script):
    """A script that failed in its second classify, in a process of its own: what that said."""
    (here / "audit.py").write_text(AUDIT)
    return run_script("audit.py", env={"KITARU_EXEC_ID": "audit-7"})


@pytest.fixture
def completed(here, failed, run_script):
    """The same, mended and completed."""
    (here / "mended").touch()
    done = run_script("audit.py", env={"KITARU_EXEC_ID": "audit-7"})
    assert done.code == 0, done.err
    return done
