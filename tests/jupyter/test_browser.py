"""Notebooks and the browser widget in a real JupyterLab and a real browser: no complaint, and nobody else is asked.

Needs Debian's ``chromium``. ``python -m pytest -m browser`` runs it; the pictures it takes lie in the folder that
``BROWSER_PICTURES`` names, else in pytest's temporary one.
"""

from __future__ import annotations

import contextlib
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

from kitaru.client import KitaruClient
from kitaru_jupyter.display import _STATUSES

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
# One pill of each status, inside of the first picture: a run of the notebook has not all of them.
ALL_STATUSES = """(statuses) => {
    document.querySelectorAll('.every-status').forEach(old => old.remove());
    const all = document.querySelector('.kitaru').appendChild(document.createElement('div'));
    all.className = 'every-status';
    all.innerHTML = statuses.map(s => `<span class="kitaru-status kitaru-${s}">${s}</span> `).join('');
}"""
# On how many lines the name of each checkpoint stands.
LINES_OF_NAMES = """() => [...document.querySelectorAll('.kitaru-name')].map(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const middles = [...range.getClientRects()].filter(r => r.width).map(r => (r.top + r.bottom) / 2);
    return 1 + middles.filter((y, i) => i && y - middles[i - 1] > 5).length;
})"""
# How many names of checkpoints the notebook's outputs hold.
NAMES = """() => {
    const cells = window.jupyterapp.shell.currentWidget.context.model.toJSON().cells;
    const html = cells.flatMap(c => c.outputs ?? []).map(o => o.data?.['text/html'] ?? '').flat().join('');
    return new DOMParser().parseFromString(html, 'text/html').querySelectorAll('.kitaru-name').length;
}"""
OPEN = """() => { for (const d of document.querySelectorAll('.kitaru details')) { d.open = true; } }"""


@pytest.fixture(scope="module")
def chromium():
    """The path of the browser. Without one this fails: a test that is skipped proves nothing."""
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if found is None:
        pytest.fail("there is no chromium here: apt-get update && apt-get install --yes chromium")
    return found


# What a careful administrator sets. JupyterLab itself needs 'unsafe-eval', and anywidget loads what draws from a blob.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'unsafe-inline' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: data:; worker-src 'self' blob: data:"
)


@pytest.fixture
def folder(tmp_path):
    """Where the notebooks are."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(NOTEBOOK, root)
    return root


@pytest.fixture
def environment(tmp_path):
    """Settings and folders of its own, for a server and whatever else runs beside."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "JUPYTER_", "COV_"))}
    names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
             "IPYTHONDIR": "ipython", "HOME": "home"}  # fmt: skip
    settings = tmp_path / "config/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    # All cells are in the page, however far from the window they are: so all of them can be counted.
    tracker = tmp_path / "config/lab/user-settings/@jupyterlab/notebook-extension"
    tracker.mkdir()
    (tracker / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return clean | {name: str(tmp_path / place) for name, place in names.items()}


@pytest.fixture
def lab(folder, environment):
    """A JupyterLab; gives its address."""
    with serving("jupyterlab", "--LabApp.expose_app_in_browser=True", folder, environment) as address:
        yield address


@contextlib.contextmanager
def serving(app, exposed, folder, environment):
    """A server; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    headers = {"headers": {"Content-Security-Policy": POLICY}}
    command = [
        sys.executable, "-m", app, "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", exposed,
        f"--ServerApp.tornado_settings={headers}", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    log = folder.parent / f"{app}.log"
    with log.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder) as server:
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
            lines = page.evaluate(LINES_OF_NAMES)
            assert len(lines) == page.evaluate(NAMES), "each checkpoint of each table"
            assert set(lines) == {1}, "however wide the rest is"

            # What is written must stand out from what is behind it.
            page.evaluate(ALL_STATUSES, sorted(_STATUSES))
            statuses = [f".every-status .kitaru-{status}" for status in sorted(_STATUSES)]
            for selector in (".kitaru td", ".kitaru th", ".kitaru pre", ".kitaru-error", *statuses):
                ratio = page.evaluate(CONTRAST, selector)
                assert ratio >= 4.5, f"{selector} in {theme}: {ratio:.1f}"
        browser.close()

    assert said == []
    outside = [url for url in asked if not url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))]
    assert outside == []


# The contrast of the first element's text with its background, as WCAG computes it.
CONTRAST = """(selector) => {
    const parse = (c) => {  // "rgb(230, 81, 0)", or "color(srgb 0.9 0.32 0)"
        const scale = c.startsWith('color(srgb') ? 255 : 1;
        return (c.match(/[0-9.]+/g) || []).map(Number).map((v, i) => i < 3 ? v * scale : v);
    };
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


# ---------------------------------------------------------------- the browser widget

AUDIT = """\
import os
import time

from kitaru import checkpoint, flow, wait


@checkpoint
def collect(limit):
    licences = ["MIT", "BSD-3-Clause", "<img src=x onerror='window.harmed = 1'>"]
    return [{"name": f"package-{n}", "licence": licences[n % 3]} for n in range(limit)]


@checkpoint
def classify(package):
    known = {"MIT": "permissive", "BSD-3-Clause": "permissive"}
    if package["licence"] not in known:
        raise ValueError(f"nobody knows {package['licence']}")
    return known[package["licence"]]


@checkpoint
def report(kinds):
    return f"{len(kinds)} packages, all {' or '.join(sorted(set(kinds)))}"


@flow
def audit(limit):
    return report([classify(p) for p in collect(limit)])


@checkpoint
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)
    return name


@flow
def patient():
    return wait_for("first") + wait_for("second") + wait_for("third")


@flow
def asks():
    return wait(name="verdict", schema=bool, question="Publish <img src=x onerror='window.harmed = 1'>?")


if __name__ == "__main__":
    asks.options(exec_id="asks-1", raises=False).run()
    audit.options(exec_id="audit-1", raises=False).run(3)
    patient.options(exec_id="patient-1", until="wait_for#1").run()
"""
WRITTEN = [
    ".kb-error", ".kb-completed", ".kb-failed", ".kb-paused", ".kb-dim", ".kb-title", ".kb pre", ".kb-mark",
    ".kb-debugged pre", ".kb-primary", ".kb-d-rerun .kb-decision", ".kb-d-reuse .kb-decision",
]  # fmt: skip
CELLS = ["%load_ext kitaru", "%kitaru browse audit-1"]
BUSY = "import os, time\nwhile not os.path.exists('free'): time.sleep(0.01)"
BROWSED = ".kb svg [data-ref='collect#1']"
RUN_LAST = """async (source) => {
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = panel.content.widgets.length - 1;
    await window.jupyterapp.commands.execute('notebook:insert-cell-below');
    panel.content.activeCell.model.sharedModel.setSource(source);
    window.jupyterapp.commands.execute('notebook:run-cell');
}"""
RUNNING = ".jp-InputPrompt:text-is('[*]:')"
RESTART = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
SAVE = "async () => { await window.jupyterapp.commands.execute('docmanager:save'); }"
STILL = """() => [...document.querySelectorAll('.kitaru-still img')].map(
    i => i.complete && i.naturalWidth > 100 && i.offsetParent !== null && i.src.startsWith('data:image/svg+xml'))"""


class Page:
    """A page in the browser: what its console said, and whom it asked."""

    def __init__(self, browser, address):
        self.address, self.said, self.asked = address, [], []
        page = self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda m: self.said.append(f"{m.text} ({m.location['url']})") if m.type == "error" else None)
        page.on("pageerror", lambda e: self.said.append(f"{e} {e.stack}"))
        page.on("request", lambda r: self.asked.append(r.url))
        page.on("websocket", lambda w: self.asked.append(w.url))

    def open(self, path, *, run=True):
        self.page.goto(f"{self.address}{path}")
        self.page.wait_for_selector(".jp-Notebook")
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate(READY)
        if run:
            self.page.evaluate(RUN)
            self.page.wait_for_selector(BROWSED)
        return self.page

    def outside(self):
        ours = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        return [url for url in self.asked if not url.startswith(ours)]


@pytest.fixture
def recorded(folder, environment):
    """A notebook that browses a run which failed in another process; and that run's client."""
    (folder / "audit.py").write_text(AUDIT)
    subprocess.run([sys.executable, "audit.py"], cwd=folder, env=environment, check=True, timeout=PATIENCE)
    cells = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for n, source in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "browse.ipynb").write_text(json.dumps(content))
    return KitaruClient(str(folder / ".kitaru"))


@pytest.fixture
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_failed_run_is_opened_corrected_and_resumed_by_hand(browser, lab, folder, recorded, pictures):
    view = Page(browser, lab)
    page = view.open("/lab/tree/browse.ipynb?reset")
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")

    # The failed step, its error, and what it was called with.
    page.click(".kb svg [data-ref='classify#3']")
    page.wait_for_selector(".kb svg .kb-chosen[data-ref='classify#3']")
    assert page.inner_text(".kb-side .kb-failure .kb-error") == (
        "ValueError: nobody knows <img src=x onerror='window.harmed = 1'>"
    )
    page.screenshot(path=str(pictures / "browse-failed.png"))

    # It is run again, and its frames are shown beside it.
    page.click(".kb-side button:text-is('Debug')")
    debugged = page.inner_text(".kb-side .kb-debugged pre")
    assert debugged.startswith("classify#3 fails again: ValueError: nobody knows <img src=x")
    assert "      package = dict(2) {'name': 'package-2', 'licence': \"<img src=x" in debugged
    assert page.inner_text(".kb-code") == "%kitaru debug audit-1:classify#3"
    page.screenshot(path=str(pictures / "browse-debug.png"))
    page.focus(".kb svg [data-ref='classify#3']")
    page.keyboard.press("ArrowUp")
    page.wait_for_function("() => document.querySelector('.kb-code').textContent.startsWith('%kitaru show')")
    page.click(".kb svg [data-ref='classify#3']")
    page.wait_for_function("() => document.querySelector('.kb-code').textContent === '%kitaru show audit-1:classify#3'")

    # By arrow keys to where the wrong value was made.
    for _ in range(3):
        before = page.evaluate("() => document.activeElement.dataset.ref")
        page.keyboard.press("ArrowUp")
        page.wait_for_function("(before) => document.activeElement.dataset.ref !== before", arg=before)
    assert page.evaluate("() => document.activeElement.dataset.ref") == "collect#1"
    page.wait_for_selector(".kb-side .kb-title:text-is('collect#1')")

    page.click(".kb-side button[aria-label='Edit output']")
    text = page.input_value(".kb-text")
    packages = json.loads(text)
    packages[2]["licence"] = "MIT"
    page.fill(".kb-text", json.dumps(packages, indent=2))
    page.fill(".kb-editor input[type=text]", "it is MIT")
    assert page.inner_text(".kb-code").startswith("%%kitaru_edit audit-1:collect#1.output --json --why")
    page.screenshot(path=str(pictures / "browse-editor.png"))
    page.keyboard.press("Control+Enter")

    page.wait_for_selector(".kb-plan:visible")
    assert "3 steps would run again, 0 reused, 1 edited" in page.inner_text(".kb-plan")
    page.screenshot(path=str(pictures / "browse-plan.png"))
    page.click(".kb-main button:text-is('Resume')")
    page.wait_for_selector(".kb-result")
    assert "3 packages, all permissive" in page.inner_text(".kb-result")
    assert "2 steps ran, 2 reused, 1 edited" in page.inner_text(".kb-plan")
    page.screenshot(path=str(pictures / "browse-result.png"))

    # What this has left in the store.
    fork = recorded.executions.latest(flow="audit")
    assert fork.forked_from == "audit-1"
    assert fork.data.begun.options["why"] == "it is MIT"
    assert fork.result == "3 packages, all permissive"
    assert [(row.step, row.decision) for row in fork.explain()] == [
        ("collect#1", "edited"), ("classify#1", "reused"), ("classify#2", "reused"), ("classify#3", "ran"),
        ("report#1", "ran"),
    ]  # fmt: skip
    assert recorded.executions.get("audit-1").status.value == "failed"

    # The list: narrowed, and gone along by keys.
    page.fill(".kb-runs input", "patient")
    assert page.locator(".kb-runs [role=option]").count() == 1
    page.locator(".kb-runs [role=option]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".kb-main .kb-title:text-is('patient')")
    page.wait_for_function("() => document.querySelector('.kb-code').textContent.includes('patient-1')")

    # A stop, while a cell keeps the kernel busy.
    page.evaluate(RUN_LAST, BUSY)
    page.wait_for_selector(RUNNING)
    page.click(".kb-main button:text-is('Resume')")
    page.wait_for_selector(".kb-told:has-text('wait_for#1')")
    page.click(".kb-main button:text-is('Stop')")
    page.wait_for_selector(".kb-told:has-text('stopping')")
    (folder / "first").touch()
    page.wait_for_selector(".kb-phase-stopped")
    assert page.inner_text(".kb-told") == "patient-1 paused before wait_for#2"
    assert page.locator(RUNNING).count() == 1, "the cell runs all the while"
    (folder / "free").touch()
    page.wait_for_selector(RUNNING, state="detached")
    patient = recorded.executions.get("patient-1")
    assert (patient.status.value, [c.label for c in patient.checkpoints]) == ("paused", ["wait_for#1"])

    # One step further.
    page.wait_for_selector(".kb-side .kb-title:text-is('wait_for#2')")
    (folder / "second").touch()
    page.click(".kb-main button:text-is('Step')")
    page.wait_for_selector(".kb-side .kb-title:text-is('wait_for#3')")
    patient = recorded.executions.get("patient-1")
    assert (patient.next_step.label, [c.label for c in patient.checkpoints]) == (
        "wait_for#3",
        ["wait_for#1", "wait_for#2"],
    )

    # Light and dark: what is written must stand out from what is behind it.
    page.fill(".kb-runs input", "")
    page.click(".kb-runs [role=option][data-id='audit-1']")
    page.wait_for_selector(".kb-failure")
    page.click(".kb-main button:text-is('Plan')")
    page.wait_for_selector(".kb-plan:visible")
    page.click(".kb-side button:text-is('Debug')")
    page.wait_for_selector(".kb-debugged")
    page.evaluate(RUN_LAST, f"%kitaru diff audit-1 {fork.exec_id}")
    page.wait_for_selector(".kitaru-diff ins")
    for theme, name in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
        page.evaluate(THEME, theme)
        page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(name == 'light').lower()}'")
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.screenshot(path=str(pictures / f"browse-{name}.png"))
        for selector in (*WRITTEN, ".kitaru-diff ins", ".kitaru-diff .kitaru-chg"):
            ratio = page.evaluate(CONTRAST, selector)
            assert ratio >= 4.5, f"{selector} in {theme}: {ratio:.1f}"

    assert page.evaluate("() => window.harmed") is None
    assert page.locator(".kb img").count() == 0
    assert view.said == []
    assert view.outside() == []

    # A kernel that is gone is said to be gone.
    page.evaluate(RESTART)
    page.click(".kb-runs button")
    page.wait_for_selector(".kb-trouble:has-text('run the cell again')")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_question_is_answered_in_the_browser_and_in_a_form_below_a_cell(browser, lab, recorded, pictures):
    view = Page(browser, lab)
    page = view.open("/lab/tree/browse.ipynb?reset")
    page.click(".kb-runs [role=option][data-id='asks-1']")
    page.wait_for_selector(".kb-wait")
    assert page.inner_text(".kb-question") == "Publish <img src=x onerror='window.harmed = 1'>?"
    page.fill(".kb-wait textarea", "perhaps")
    page.click(".kb-wait button:text-is('Answer')")
    page.wait_for_selector(".kb-told:has-text('is no JSON')")
    assert page.input_value(".kb-wait textarea") == "perhaps", "what was typed stays"
    page.screenshot(path=str(pictures / "browse-wait.png"))
    page.fill(".kb-wait textarea", "no")
    page.click(".kb-wait button:text-is('Answer')")
    page.wait_for_selector(".kb-wait", state="detached")
    assert page.inner_text(".kb-code") == "%kitaru answer asks-1 verdict false"
    page.click(".kb-main button:text-is('Resume')")
    page.wait_for_selector(".kb-result")
    assert recorded.executions.get("asks-1").result is False

    page.evaluate(RUN_LAST, "from audit import asks\nhandle = asks.options(exec_id='asks-2').run()")
    page.click(".jp-OutputArea button:text-is('Yes')")
    page.click(".jp-OutputArea button:text-is('Go on')")
    page.wait_for_selector(".jp-OutputArea :text('asks-2 completed')")
    page.screenshot(path=str(pictures / "form.png"))
    page.click(".kb-runs [role=option][data-id='audit-1']")
    page.wait_for_function("() => document.querySelector('.kb-code').textContent.startsWith('%kitaru show audit-1')")
    assert recorded.executions.get("asks-2").result is True
    assert page.evaluate("() => window.harmed") is None
    assert view.said == []
    assert view.outside() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_notebook_7_opens_the_browser_too(browser, folder, environment, recorded, pictures):
    with serving("notebook", "--JupyterNotebookApp.expose_app_in_browser=True", folder, environment) as address:
        view = Page(browser, address)
        page = view.open("/notebooks/browse.ipynb")
        page.click(".kb svg [data-ref='classify#1']")
        page.wait_for_selector(".kb-side .kb-title:text-is('classify#1')")
        page.screenshot(path=str(pictures / "browse-notebook-7.png"))
        # Notebook 7.6 says this of its own shortcuts, before a cell has run: of each notebook, and without us as well.
        own = "Cannot read properties of undefined (reading 'schema')"
        said = [text for text in view.said if not (text.startswith(own) and "notebook_core" in text)]
        assert (said, view.outside()) == ([], [])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_picture_stays_where_no_kernel_is(browser, lab, folder, environment, recorded, pictures):
    page = Page(browser, lab).open("/lab/tree/browse.ipynb?reset")
    page.wait_for_function(f"() => !({STILL})().some(x => x)")  # the live view has hidden it
    page.evaluate(SAVE)
    saved = json.loads((folder / "browse.ipynb").read_text())
    assert "widgets" not in saved["metadata"], "no state of the view was saved"

    def write(name, **more):
        saved["metadata"].update(more)
        (folder / name).write_text(json.dumps(saved))

    def run(*words):
        command = [sys.executable, "-m", "jupyter", *words]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=PATIENCE)

    write("trusted.ipynb", title="trusted")
    run("trust", "trusted.ipynb")
    write("untrusted.ipynb", title="nobody has signed this")
    for name in ("trusted", "untrusted"):
        page = Page(browser, lab).open(f"/lab/tree/{name}.ipynb?reset", run=False)
        page.wait_for_function(f"() => ({STILL})().length === 1 && ({STILL})()[0]")
        assert page.locator(".kb").count() == 0
        page.screenshot(path=str(pictures / f"still-{name}.png"))
        page.close()

    run("nbconvert", "--to", "html", "browse.ipynb")
    away = browser.new_context(offline=True).new_page()
    away.goto((folder / "browse.html").as_uri())
    away.wait_for_function(f"() => ({STILL})().length === 1 && ({STILL})()[0]")
    away.screenshot(path=str(pictures / "still-html.png"))
