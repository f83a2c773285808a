"""The picture of a lineage: it shows what is there, folds what is too much, and stays what it is with hostile texts."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import example, given, settings, strategies as st

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient, lineage_text
from kitaru.errors import NotFoundError
from kitaru.stores.memory import MemoryStore
from kitaru_jupyter.picture import picture
from kitaru_jupyter.picture.layout import Size, place

from .test_browser import FLAGS, chromium  # noqa: F401 - a fixture
from .test_display import ANYTHING, HOSTILE, masked

SVG = "{http://www.w3.org/2000/svg}"
HERE = "audit-1"


def lineage_of(steps, values=(), edges=(), exec_id=HERE):
    """A graph as `kitaru.lineage` gives it. `steps`: (label, more); `values`: (id, ref, more)."""
    graph = nx.MultiDiGraph(exec_id=exec_id, flow="audit", status="completed", result=None)
    graph.add_node(exec_id, kind="execution", name="audit", label=exec_id, status="completed", failure=None)
    labels = {}
    for number, (label, more) in enumerate(steps, 1):
        outer = label.rpartition("/")[0]
        about = {
            "label": label, "name": re.sub(r"#\d+$", "", label.rpartition("/")[2]), "number": number,
            "parent": labels.get(outer, exec_id), "status": "completed", "took": 0.25, "failure": None, "tokens": None,
            "cost": None, "reused_from": None, "superseded": False,
        }  # fmt: skip
        labels[label] = f"{exec_id}:{label}"
        graph.add_node(labels[label], kind="checkpoint", **about | more)
    for node, ref, more in values:
        about = {"ref": ref and f"{exec_id}:{ref}", "preview": {"type": "int", "text": "1"}, "saved_as": []}
        graph.add_node(node, kind="artifact", **about | more)
    for source, target, relation, role in edges:
        ends = [labels.get(end, end) for end in (source, target)]
        graph.add_edge(*ends, relation, relation=relation, role=role)
    return graph


def chain(count, name="step", **more):
    labels = [f"{name}#{n}" for n in range(1, count + 1)]
    values = [(f"sha256:{n}", f"{label}.output", {}) for n, label in enumerate(labels)]
    made = [(label, f"sha256:{n}", "generated", "output") for n, label in enumerate(labels)]
    used = [(f"sha256:{n}", label, "used", "x") for n, label in enumerate(labels[1:])]
    return lineage_of([(label, more) for label in labels], values, [*made, *used])


def nodes(made):
    """The nodes of a picture by their REFs, in the order of the file."""
    return {g.get("data-ref"): g for g in ET.fromstring(made.svg).iter(f"{SVG}g") if g.get("data-ref") is not None}


def words(node):
    return " ".join("".join(text.itertext()) for text in node.iter(f"{SVG}text"))


def titles(made):
    return {ref: g.find(f"{SVG}title").text for ref, g in nodes(made).items()}


@checkpoint
def fetch(url):
    return {"url": url, "text": f"what {url} says, at some length"}


@checkpoint
def judge(page, strict):
    return f"{page['url']} is well, and this is no short text"


@flow
def audit(topic):
    return [judge(fetch(f"{topic}/{n}"), strict=True) for n in range(2)]


@pytest.fixture
def audited(store):
    return KitaruClient(store).executions.get(audit.run("https://example.org").exec_id)


# ---------------------------------------------------------------- what it shows


def test_steps_and_values_have_names_states_and_previews(audited):
    made = picture(audited.lineage())
    shown = nodes(made)
    steps = ["fetch#1", "fetch#2", "judge#1", "judge#2"]
    assert {*steps, *(f"{step}.output" for step in steps), "fetch#1.in.url"} <= {*shown}
    assert "fetch#1" in words(shown["fetch#1"])
    assert "✓ completed" in words(shown["fetch#1"])
    assert re.search(r"\d+ ms", words(shown["fetch#1"]))
    assert "dict(2)" in words(shown["fetch#1.output"])
    assert made.alt.startswith("Lineage of audit: 4 steps, ")
    assert made.order == [*shown], "the file is in reading order, too"


def test_reading_order_is_the_order_of_what_happened(audited):
    order = picture(audited.lineage()).order
    places = [order.index(ref) for ref in ("fetch#1", "fetch#1.output", "judge#1", "judge#1.output", "fetch#2")]
    assert places == sorted(places)


def test_what_a_step_makes_comes_after_the_steps_inside_of_it():
    graph = lineage_of(
        [("outer#1", {}), ("outer#1/inner#1", {})],
        [("sha256:a", "outer#1.output", {}), ("sha256:b", "outer#1/inner#1.output", {})],
        [("outer#1", "sha256:a", "generated", "output"), ("outer#1/inner#1", "sha256:b", "generated", "output")],
    )
    assert picture(graph).order == ["outer#1", "outer#1/inner#1", "outer#1/inner#1.output", "outer#1.output"]


def test_states_and_marks_are_words_not_colours_alone():
    graph = chain(4)
    graph.nodes[f"{HERE}:step#3"].update(status="failed", failure="ValueError: no")
    graph.nodes[f"{HERE}:step#4"].update(reused_from="audit-0")
    made = picture(graph, chosen="step#2", stale=["step#2"], edited=["step#1.output"], changed=["step#1"])
    shown = nodes(made)
    assert "stale" in words(shown["step#2"])
    assert "edited" in words(shown["step#1.output"])
    assert "changed" in words(shown["step#1"])
    assert "✗ failed" in words(shown["step#3"])
    assert "reused" in words(shown["step#4"])
    assert "ValueError: no" in titles(made)["step#3"]
    assert "Failed: step#3." in made.alt
    rings = [ref for ref, g in shown.items() if g.find(f"{SVG}rect[@class='k-ring']") is not None]
    assert rings == ["step#2"]


@pytest.mark.parametrize("name", ["step#2", f"{HERE}:step#2", "@2"])
def test_what_is_chosen_can_be_named_as_anywhere(name):
    made = picture(chain(3), chosen=name, inline=True)
    assert [ref for ref, g in nodes(made).items() if g.get("aria-current") == "true"] == ["step#2"]
    assert made.text.startswith("step#2  completed\nmade from")


def test_what_is_not_there_cannot_be_chosen_and_need_not_be_stale():
    with pytest.raises(NotFoundError, match="nobody"):
        picture(chain(3), chosen="nobody#1")
    assert "stale" not in words(nodes(picture(chain(3), stale=["nobody#1"]))["step#1"])


def test_the_lines_tell_their_relations_apart():
    graph = lineage_of(
        [("a#1", {}), ("b#1", {}), ("c#1", {})],
        [("sha256:1", "a#1.output", {}), ("sha256:2", "b#1.in.x", {}), ("sha256:3", None, {})],
        [
            ("a#1", "sha256:1", "generated", "output"), ("sha256:1", "sha256:2", "part_of", "whole"),
            ("sha256:2", "b#1", "used", "x"), ("b#1", "c#1", "after", None),
            ("sha256:1", "sha256:3", "edited_from", "o"),
        ],
    )  # fmt: skip
    root = ET.fromstring(picture(graph).svg)
    kinds = [g.get("class").split()[1] for g in root.iter(f"{SVG}g") if (g.get("class") or "").startswith("k-line")]
    assert {"k-generated", "k-part_of", "k-used", "k-after", "k-edited_from"} <= {*kinds}
    assert "edited" in words(nodes(picture(graph))["sha256:3"]), "without being asked for"


def test_a_graph_of_steps_alone_is_drawn_too():
    graph = chain(5)
    steps = graph.subgraph([n for n, a in graph.nodes(data=True) if a["kind"] == "checkpoint"])
    made = picture(steps)
    assert made.order == [f"step#{n}" for n in range(1, 6)]
    assert "step#5  completed" in made.text
    assert picture(lineage_of([])).order == []


def test_a_circle_through_a_value_that_was_made_twice_is_drawn():
    graph = chain(3)
    graph.add_edge("sha256:2", f"{HERE}:step#1", "used", relation="used", role="again")
    assert len(picture(graph).order) == 6


# ---------------------------------------------------------------- folding


def overlaps(made):
    boxes = []
    for g in nodes(made).values():
        x, y = map(float, re.findall(r"-?[\d.]+", g.get("transform")))
        rect = g.find(f"{SVG}rect[@class='k-shape']")
        boxes.append((x, y, x + float(rect.get("width")), y + float(rect.get("height"))))
    return [
        (a, b) for i, a in enumerate(boxes) for b in boxes[:i]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]  # fmt: skip


def test_up_to_200_nodes_each_has_a_place_of_its_own():
    made = picture(chain(100))
    assert len(made.order) == 200
    assert made.note == ""
    assert overlaps(made) == []
    wide = lineage_of([(f"s#{n}", {}) for n in range(200)])
    assert len(picture(wide).order) == 200
    assert overlaps(picture(wide)) == []


def test_beyond_that_values_fold_first():
    made = picture(chain(101))
    assert made.order == [f"step#{n}" for n in range(1, 102)]
    assert "101 of 101 values are not drawn" in made.note
    root = ET.fromstring(made.svg)
    lines = [g for g in root.iter(f"{SVG}g") if (g.get("class") or "").startswith("k-line")]
    assert len(lines) == 100, "what ran through the values ties the steps"


def test_a_run_of_similar_steps_is_one_box_and_what_failed_stands_beside_it():
    labels = ["read#1", *(f"classify#{n}" for n in range(1, 381)), "report#1"]
    failed = {"classify#18": {"status": "failed"}, "classify#94": {"status": "failed"}}
    graph = lineage_of([(label, failed.get(label, {})) for label in labels])
    made = picture(graph, stale=["classify#100"], chosen="classify#7")
    assert made.order == [
        "read#1",
        "classify#1",
        "classify#7",
        "classify#18",
        "classify#94",
        "classify#100",
        "report#1",
    ]
    assert "classify#1…#380" in words(nodes(made)["classify#1"])
    assert "376 of 380 steps" in words(nodes(made)["classify#1"])
    assert nodes(made)["classify#1"].get("data-count") == "376"


def test_steps_inside_fold_into_the_one_around_them():
    labels = [f"round#{n}" if not m else f"round#{n}/part{m}#1" for n in range(1, 51) for m in range(6)]
    graph = lineage_of([(label, {}) for label in labels])
    graph.nodes[f"{HERE}:round#7/part3#1"]["status"] = "failed"
    made = picture(graph)
    assert made.order == sorted(
        [*(f"round#{n}" for n in range(1, 51)), "round#7/part3#1"], key=lambda ref: labels.index(ref)
    )
    assert "5 inside" in words(nodes(made)["round#1"])
    assert "4 inside" in words(nodes(made)["round#7"])


def test_steps_without_likeness_fold_by_their_order():
    made = picture(lineage_of([(f"step{n}#1", {}) for n in range(1000)]))
    assert 50 < len(made.order) <= 200
    assert sum(int(g.get("data-count") or 1) for g in nodes(made).values()) == 1000


def test_more_failures_than_a_picture_holds_are_counted():
    graph = lineage_of([(f"s#{n}", {"status": "failed" if n % 2 else "completed"}) for n in range(1000)])
    made = picture(graph, chosen="s#501")
    assert len(made.order) <= 200
    assert "s#501" in made.order
    assert any("499 of 1,000 steps" in words(g) and "failed" in words(g) for g in nodes(made).values())


def test_ten_thousand_checkpoints_fold_before_they_are_laid_out():
    graph = chain(10_000)
    made = picture(graph, chosen="step#5000")
    assert {"step#5000", "step#5000.output", "step#1"} <= {*made.order}
    assert len(made.order) < 20
    assert len(made.svg) < 50_000
    assert len(made.text.splitlines()) < 1000
    assert "10,000 steps" in made.alt


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), max_size=60),
    st.integers(10, 30),
)
@settings(max_examples=60)
def test_whatever_is_drawn_counts_every_step_once_and_never_too_many(plan, most):
    labels = []
    for outer, name, inside in plan:
        base = f"{'abcd'[name]}#{len(labels) + 1}"
        labels.append(f"{labels[outer % len(labels)]}/{base}" if inside and labels else base)
    made = picture(lineage_of([(label, {}) for label in labels]), most=most)
    assert len(made.order) <= most
    total = 0
    for g in nodes(made).values():
        inside = re.search(r"([\d,]+) inside", words(g))
        total += int(g.get("data-count") or 1) + int(inside[1] if inside else 0)
    assert total <= len(labels)
    if len(labels) <= most:
        assert total == len(labels)
    assert overlaps(made) == []


# ---------------------------------------------------------------- the same each time


def test_the_same_graph_gives_the_same_bytes_in_every_process():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.jupyter.test_picture import chain, picture\n"
        "made = picture(chain(60), chosen='step#7')\n"
        "print(hashlib.sha256((made.svg + made._repr_html_() + made.text).encode()).hexdigest())"
    )
    made = picture(chain(60), chosen="step#7")
    here = hashlib.sha256((made.svg + made._repr_html_() + made.text).encode()).hexdigest()
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code, str(root)], env={"PYTHONHASHSEED": seed}, cwd=root,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        assert out.strip() == here


def test_two_runs_look_the_same_to_nbval(store):
    bundles, ids = [], []
    for _ in range(2):
        execution = KitaruClient(store).executions.get(audit.run("https://example.org").exec_id)
        bundles.append(picture(execution.lineage())._repr_mimebundle_())
        ids.append(execution.exec_id)
    one, two = bundles
    assert one["text/plain"] == two["text/plain"], "without any masking"
    assert masked(one["text/html"]) == masked(two["text/html"])
    assert ids[0] not in one["text/plain"] + masked(one["text/html"])
    assert "ms" not in re.findall(r"[a-z]+", one["text/plain"])


# ---------------------------------------------------------------- in a notebook


class Images(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.found.append(dict(attrs))


def test_the_bundle_holds_an_image_and_a_text():
    made = picture(chain(3))
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    (image,) = Images(bundle["text/html"]).found
    assert image["alt"] == made.alt
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == made.svg
    assert repr(made) == bundle["text/plain"] == made.text
    assert "<svg" not in bundle["text/html"], "inline, it is dropped where a notebook is not trusted"


def test_the_text_marks_and_tells_what_kitaru_lineage_tells():
    graph = chain(3)
    made = picture(graph, stale=["step#2"])
    assert "step#2  completed, stale" in made.text
    assert "250 ms" in lineage_text(graph)
    assert HERE in lineage_text(graph)
    assert HERE not in made.text
    assert "250 ms" not in made.text


def test_inline_nodes_are_buttons_in_the_colours_of_the_theme():
    alone, inline = picture(chain(3)), picture(chain(3), inline=True)
    assert "--jp-" not in alone.svg
    assert "prefers-color-scheme:dark" in alone.svg
    assert "var(--jp-content-font-color1" in inline.svg
    for g in nodes(inline).values():
        assert g.get("role") == "button"
        assert g.get("tabindex") == "-1"
        assert g.get("aria-label") == g.find(f"{SVG}title").text
    assert all(g.get("role") is None for g in nodes(alone).values())


def test_several_pictures_stand_on_one_page():
    assert not re.search(r'\bid="|url\(', picture(chain(10), inline=True).svg)


@pytest.mark.parametrize("dress", [False, True])
def test_there_is_no_script_and_nothing_from_elsewhere(dress):
    svg = picture(chain(5), inline=dress).svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"<script|<foreignObject|\bon\w+=|href|url\(|https?:|@import|<image", svg)


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    linear = [
        v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4
        for v in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_texts_stand_out_from_their_own_ground_and_lines_from_both_pages():
    from kitaru_jupyter.picture.svg import _DARK, _LIGHT

    for palette in (_LIGHT, _DARK):
        colours = dict(part.split(":") for part in palette.split(";"))
        for ground in ("--box", "--plate"):
            for text in ("--text", "--dim", "--bad", "--warn", "--made", "--run"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for text in ("--text", "--dim"):
            assert contrast(colours[text], colours["--pill"]) >= 4.5, text
        for page in ("#fff", "#111"):
            for line in ("--line", "--edge"):
                assert contrast(colours[line], page) >= 3 or line == "--edge", (line, page)


# ---------------------------------------------------------------- hostile


def hostile_lineage(text):
    more = {"label": text, "name": text, "status": text, "failure": text, "number": 1, "reused_from": text}
    graph = lineage_of([("a#1", more), ("b#1", {}), ("c#1", {"took": text, "parent": text, "number": text})])
    graph.graph["flow"] = text
    graph.add_node(text or "none", **graph.nodes[f"{HERE}:b#1"] | {"label": text, "number": 4})
    about = {"ref": f"{HERE}:{text}", "preview": {"type": text, "text": text, "len": text}, "saved_as": [text, text]}
    graph.add_node("sha256:1", kind="artifact", **about)
    graph.add_node("sha256:2", kind="artifact", ref=text, preview=text, saved_as=text)
    for role, target in ((text, f"{HERE}:a#1"), ("x", f"{HERE}:b#1"), (text, f"{HERE}:b#1")):
        graph.add_edge("sha256:1", target, relation="used", role=role)
    graph.add_edge("sha256:1", "sha256:2", relation="part_of", role=text)
    graph.add_edge(f"{HERE}:a#1", "sha256:1", relation=text, role=text)
    return graph


@pytest.mark.parametrize("dress", [False, True])
@given(text=ANYTHING)
@example(text=HOSTILE[0])
@example(text=HOSTILE[5])
@example(text=HOSTILE[6])
@example(text="x" * 1_000_000)
@example(text="'\"]]><!--")
@settings(max_examples=25)
def test_recorded_text_is_text_and_nothing_else(dress, text):
    made = picture(hostile_lineage(text), inline=dress)
    svg = made.svg
    root = ET.fromstring(svg)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg",
        "style",
        "g",
        "title",
        "rect",
        "path",
        "text",
        "tspan",
    }
    known = {
        "class", "width", "height", "viewBox", "role", "aria-label", "transform", "data-ref", "data-count", "x", "y",
        "rx", "d", "dx", "tabindex",
    }  # fmt: skip
    assert {name for e in root.iter() for name in e.attrib} <= known
    style = next(root.iter(f"{SVG}style")).text
    shown = "".join(root.itertext()).replace(style, "") + "".join(v for e in root.iter() for v in e.attrib.values())
    shown += made.text.replace("\n", "") + made.alt
    bad = [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert not bad, bad
    assert len(svg) < 40_000
    assert max(map(len, made.text.splitlines())) <= 100


# ---------------------------------------------------------------- layout


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    )
)
@settings(max_examples=80)
def test_no_two_nodes_touch_and_each_line_ends_at_its_nodes(graph):
    count, edges = graph
    edges = [(a, b) for a, b in edges if a != b]
    sizes = [Size(60 + 10 * (n % 7), 24 if n % 2 else 42) for n in range(count)]
    placed = place(sizes, edges, [Size(0, 0)] * count)
    boxes = [(c.x, c.y, c.x + s.width, c.y + s.height) for c, s in zip(placed.corners, sizes, strict=True)]
    for i, a in enumerate(boxes):
        assert -0.01 <= a[0] <= a[2] <= placed.size.width + 0.01
        assert -0.01 <= a[1] <= a[3] <= placed.size.height + 0.01
        for b in boxes[:i]:
            assert max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3]) > 10, (a, b)
    for (a, b), way in zip(edges, placed.ways, strict=True):
        for n, point in ((a, way[0]), (b, way[-1])):
            x0, y0, x1, y1 = boxes[n]
            assert x0 - 0.01 <= point.x <= x1 + 0.01
            assert y0 - 0.01 <= point.y <= y1 + 0.01


# ---------------------------------------------------------------- in a shell


def test_what_people_get_back_has_faces(cells):
    cells("import kitaru; from kitaru import checkpoint, flow, KitaruClient")
    cells("@checkpoint\ndef double(n):\n    return 2 * n\n@flow\ndef twice(n):\n    return double(n)")
    cells("handle = twice.run(3); client = KitaruClient(); e = client.executions.get('last')")
    formatters = cells.shell.display_formatter.formatters
    exec_id = cells.shell.user_ns["handle"].exec_id
    for code in (
        "handle", "e", "e.checkpoints", "e.checkpoints[0]", "e.artifacts", "client.executions.list()", "e.explain()",
        "kitaru.plan('last')", "kitaru.repeat('last', 'double')", "kitaru.diff(e, e)", "client.code_diff('last')",
        "client.code_diff('last')[0]", "client.executions.verify('last')", "e.lineage()", "kitaru.lineage('last')",
    ):  # fmt: skip
        thing = cells.shell.ev(code)
        page, text = (formatters[kind](thing) for kind in ("text/html", "text/plain"))
        assert page, code
        assert "<script" not in page, code
        assert exec_id not in masked(page), code
        assert exec_id not in text, code
        assert not re.search(r"0x[0-9a-f]{6,}|\d{10}|\bms\b", text), (code, text)


def test_other_lists_and_graphs_look_as_they_did(cells):
    formatters = cells.shell.display_formatter.formatters
    for thing in ([1, 2], [], [object], nx.MultiDiGraph()):
        assert formatters["text/html"](thing) is None
    assert formatters["text/plain"]([1, [2, "x"]]) == "[1, [2, 'x']]"
    loop = [1]
    loop.append(loop)
    assert formatters["text/plain"](loop) == "[1, [...]]"
    cells("%unload_ext kitaru")
    assert formatters["text/plain"]([1, [2, "x"]]) == "[1, [2, 'x']]"
    assert not any("itaru" in repr(f) for f in formatters["text/plain"].type_printers.values())
    assert list in formatters["text/plain"].type_printers, "IPython's own is back"


def test_lists_are_cut_and_say_so(cells):
    from kitaru_jupyter.listings import LISTED

    store = MemoryStore()
    session = kitaru.Session(store=store)
    for n in range(203):
        session.step("s", {}).succeed({"x": n})
    execution = session.execution()
    session.close()
    for things in (execution.artifacts, execution.checkpoints):
        face = LISTED[type(things[0])](things)
        assert "… 3 more" in face.text
        assert "… 3 more" in face.html


# ---------------------------------------------------------------- in a browser

# What is written in an inline picture and lies outside of the shape that it belongs to, in pixels.
SPILT = """() => [...document.querySelectorAll('.kitaru-picture .k-node')].flatMap(node => {
    const box = node.querySelector(':scope > .k-shape').getBoundingClientRect();
    return [...node.querySelectorAll(':scope > svg')].map(s => s.getBoundingClientRect())
        .filter(r => r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1);
})"""
# The colour in the middle of the first box of the picture in an <img>.
GROUND = """async (theme) => {
    const image = document.querySelector('img');
    await image.decode();
    return [image.naturalWidth, image.naturalHeight, getComputedStyle(image).colorScheme];
}"""


@pytest.mark.browser
@pytest.mark.process
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_browser_shows_hostile_texts_as_texts_in_light_and_dark(chromium, tmp_path):  # noqa: F811
    from playwright.sync_api import sync_playwright

    made = [
        (picture(hostile_lineage(text)), picture(hostile_lineage(text), inline=True)) for text in HOSTILE[:9] if text
    ]
    marked = chain(4)
    marked.nodes[f"{HERE}:step#3"]["status"] = "failed"
    marks = {"chosen": "step#2", "stale": ["step#2"], "edited": ["step#1.output"], "changed": ["step#1"]}
    made.append((picture(marked, **marks), picture(marked, inline=True, **marks)))
    said, asked, shots = [], [], []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        for light in (True, False):
            page = browser.new_page(viewport={"width": 1200, "height": 800}, color_scheme="light")
            page.on("console", lambda m: said.append(m.text) if m.type in {"error", "warning"} else None)
            page.on("pageerror", lambda e: said.append(str(e)))
            page.on("dialog", lambda d: said.append(d.message))
            page.on("request", lambda r: asked.append(r.url))
            ground = "#fff" if light else "#111"
            for alone, inline in made:
                body = f'<body data-jp-theme-light="{str(light).lower()}" style="background:{ground}">'
                page.set_content(f"{body}{alone._repr_html_()}{inline.svg}")
                width, height, scheme = page.evaluate(GROUND)
                assert width > 100
                assert height > 50
                assert scheme == ("light" if light else "dark"), "the image follows the theme, not the system"
                assert page.locator("h1, script, iframe, .kitaru-picture img").count() == 0
                assert page.locator(".kitaru-picture .k-node").count() == len(inline.order)
                assert page.evaluate(SPILT) == []
            for selector in (".k-name", ".k-about", ".k-word", ".k-code"):
                colour = page.evaluate(f"() => getComputedStyle(document.querySelector('{selector}')).fill")
                shape = page.evaluate("() => getComputedStyle(document.querySelector('.k-value .k-shape')).fill")
                a, b = ("#" + "".join(f"{int(n):02x}" for n in re.findall(r"\d+", c)[:3]) for c in (colour, shape))
                assert contrast(a, b) >= 4.5, (selector, a, b)
            shots.append(page.locator("img").screenshot(path=str(tmp_path / f"{light}.png")))
            page.close()
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "about:"))] == []
    assert shots[0] != shots[1]


def test_a_child_is_drawn_between_the_step_that_began_it_and_the_one_that_waited_for_it():
    graph = lineage_of(
        [("spawn-check#1", {}), ("gather#1", {})],
        edges=[("spawn-check#1", "check-7f3c", "generated", "child"), ("check-7f3c", "gather#1", "used", "child")],
    )
    graph.nodes["check-7f3c"].update(kind="execution", label="check-7f3c")
    drawn = picture(graph)
    assert drawn.order == ["spawn-check#1", "check-7f3c", "gather#1"]
    assert "another execution" in drawn.svg
    assert "used       child: spawn-check#1.child  another execution" in drawn.text
