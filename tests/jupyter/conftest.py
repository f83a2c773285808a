"""A shell in this process whose cells a test runs; and the S3 servers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field

import nbformat
import pytest
from IPython.core import async_helpers
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


def pytest_configure(config):
    config.pluginmanager.import_plugin("kitaru.testing.fixtures")


@dataclass
class Ran:
    """What came of a cell."""

    result: object
    out: str
    err: str
    shown: list[dict] = field(default_factory=list)

    @property
    def value(self):
        return self.result.result

    @property
    def error(self):
        return self.result.error_before_exec or self.result.error_in_exec

    @property
    def text(self):
        return "\n".join(s["data"]["text/plain"] for s in self.shown)

    @property
    def html(self):
        return "\n".join(s["data"]["text/html"] for s in self.shown)


class Cells:
    """A notebook without a front end: `cells("x = 1")` runs a cell."""

    def __init__(self, shell, capsys):
        self.shell, self._capsys = shell, capsys

    def __call__(self, cell):
        self._capsys.readouterr()
        self.shell.display_pub.outputs.clear()
        result = self.shell.run_cell(cell, store_history=True)
        out, err = self._capsys.readouterr()
        return Ran(result, out, err, list(self.shell.display_pub.outputs))

    @property
    def magics(self):
        from kitaru_jupyter.magics import _installed

        return _installed(self.shell)

    @property
    def notebook(self):
        return self.magics.notebook

    @property
    def checkpoints(self):
        return self.notebook.execution().checkpoints


@pytest.fixture
def bare_shell():
    """An IPython shell without the extension."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    shell.display_pub = CapturingDisplayPublisher()
    yield shell
    if "kitaru" in shell.extension_manager.loaded:
        shell.extension_manager.unload_extension("kitaru")
    shell.reset(new_session=False)
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    loop, async_helpers._asyncio_event_loop = async_helpers._asyncio_event_loop, None
    if loop is not None:
        loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def cells(bare_shell, capsys, store):
    """Cells in a shell with the extension loaded, recorded in memory."""
    bare_shell.run_cell("%load_ext kitaru")
    return Cells(bare_shell, capsys)


@pytest.fixture
def nbval(tmp_path):
    """Run a notebook in a kernel of its own and compare strictly; gives (passed, failed, what was printed)."""

    def run(notebook):
        nbformat.validate(notebook)
        file = tmp_path / "exported.ipynb"
        nbformat.write(notebook, file)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "AWS_", "COV_"))}
        own = {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "rt")}
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "-v", "-W", "error", "-c", os.devnull,
             str(file)],
            cwd=tmp_path, env=clean | own, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert not (tmp_path / ".kitaru").exists(), "a check leaves nothing behind"
        return ran.stdout.count(" PASSED"), ran.stdout.count(" FAILED"), ran.stdout + ran.stderr

    return run
