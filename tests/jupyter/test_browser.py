"""The first notebook in a real JupyterLab, in a real browser: it runs, complains of nothing, and asks nobody else.

Needs Debian's ``chromium``. ``python -m pytest -m browser`` runs it; the pictures it takes lie in the folder that
``BROWSER_PICTURES`` names, else in pytest's temporary one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_first_run.ipynb"
PATIENCE = 60  # seconds for a server to start; a browser to load, or to run a notebook

pytestmark = [pytest.mark.browser, pytest.mark.process]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip

READY = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const widget = app.shell.currentWidget;
    await widget.context.ready;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
}"""
# Run all, as a person would. The command ends at the failing cell; that one is tagged, so that the others still run.
RUN = """async () => {
    const app = window.jupyterapp;
    await app.commands.execute('notebook:clear-all-cell-outputs');
    await app.commands.execute('notebook:run-all-cells');
}"""
HAS_RUN = """() => {
    const cells = window.jupyterapp.shell.currentWidget.context.model.toJSON().cells;
    return cells.filter(c => c.cell_type === 'code').at(-1).execution_count !== null;
}"""
# The counts and the names of errors of the code cells.
CAME_OF_IT = """() => {
    const app = window.jupyterapp;
    const cells = app.shell.currentWidget.context.model.toJSON().cells.filter(c => c.cell_type === 'code');
    return cells.map(c => ({count: c.execution_count,
                            errors: c.outputs.filter(o => o.output_type === 'error').map(o => o.ename),
                            html: c.outputs.filter(o => o.data && o.data['text/html']).length}));
}"""
THEME = "async (name) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}); }"
OPEN = """() => { for (const d of document.querySelectorAll('.kitaru details')) { d.open = true; } }"""


@pytest.fixture(scope="module")
def chromium():
    """The path of the browser. Without one this fails: a test that is skipped proves nothing."""
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if found is None:
        pytest.fail("there is no chromium here: apt-get update && apt-get install --yes chromium")
    return found


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab with settings and folders of its own; gives its address."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(NOTEBOOK, root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "JUPYTER_", "COV_"))}
    names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
             "IPYTHONDIR": "ipython", "HOME": "home"}  # fmt: skip
    own = {name: str(tmp_path / folder) for name, folder in names.items()}
    settings = tmp_path / "config/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    log = tmp_path / "lab.log"
    with log.open("w") as out, subprocess.Popen(command, env=clean | own, stdout=out, stderr=out, cwd=root) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            _until_it_answers(f"{address}/api", server, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _until_it_answers(url, server, log):
    deadline = time.monotonic() + PATIENCE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(url, timeout=5).close()
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]  # noqa: PT018
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def pictures(tmp_path):
    folder = Path(os.environ.get("BROWSER_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_first_notebook_runs_in_jupyterlab_light_and_dark(chromium, lab, pictures):
    from playwright.sync_api import sync_playwright

    said, asked = [], []
    expected = {c["id"]: c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"}
    raising = [("raises-exception" in c["metadata"].get("tags", [])) for c in expected.values()]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda m: said.append(f"{m.text} ({m.location['url']})") if m.type == "error" else None)
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        page.on("websocket", lambda w: asked.append(w.url))
        page.goto(f"{lab}/lab/tree/{NOTEBOOK.name}?reset")
        page.wait_for_selector(".jp-Notebook")
        page.evaluate(READY)
        page.evaluate(RUN)
        page.wait_for_function(HAS_RUN)
        ran = page.evaluate(CAME_OF_IT)

        assert [c["count"] for c in ran] == list(range(1, len(expected) + 1))
        assert [bool(c["errors"]) for c in ran] == raising
        assert sum(c["html"] for c in ran) >= 6, "place, a failed step, the log, a value, an execution, a frame"

        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        for theme, name in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
            page.evaluate(THEME, theme)
            page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(name == 'light').lower()}'")
            for number, cell in enumerate(
                ("%kitaru", "%kitaru show judge#1", "%kitaru log", "%kitaru show judge#2.rulings")
            ):
                index = next(i for i, c in enumerate(json.loads(NOTEBOOK.read_text())["cells"])
                             if "".join(c["source"]) == cell)  # fmt: skip
                page.evaluate(f"() => window.jupyterapp.shell.currentWidget.content.scrollToItem({index}, 'start')")
                face = page.locator(".jp-Cell").filter(has=page.locator(".kitaru")).nth(number)
                face.scroll_into_view_if_needed()
                assert face.locator(".kitaru").is_visible()
                face.screenshot(path=str(pictures / f"{name}-{number}.png"))
            page.evaluate(OPEN)
            page.screenshot(path=str(pictures / f"{name}-page.png"))

            # What is written must stand out from what is behind it.
            for selector in (".kitaru td", ".kitaru th", ".kitaru-completed", ".kitaru-failed", ".kitaru pre"):
                ratio = page.evaluate(CONTRAST, selector)
                assert ratio >= 4.5, f"{selector} in {theme}: {ratio:.1f}"
        browser.close()

    assert said == []
    outside = [url for url in asked if not url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))]
    assert outside == []


# The contrast of the first element's text with its background, as WCAG computes it.
CONTRAST = """(selector) => {
    const parse = (c) => (c.match(/[0-9.]+/g) || []).map(Number);
    const light = (c) => {
        const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = document.querySelector(selector);
    let behind = found, colour;
    do { colour = parse(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
    while (behind && (colour.length === 4 && colour[3] < 1));
    const [a, b] = [light(parse(getComputedStyle(found).color)), light(colour)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""
