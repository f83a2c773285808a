"""Lineage: what made which value, what depends on it; by the graph, by what is stored, and as text."""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
import time

import networkx as nx
import pytest
from click.testing import CliRunner

import kitaru
from kitaru import checkpoint, codecs, engine, flow, lineage_graph, log, save
from kitaru.cli.app import app
from kitaru.client import KitaruClient
from kitaru.codecs.spans import spans
from kitaru.errors import NotFoundError, StoreUnavailableError
from kitaru.lineage_text import lineage_text, node_of
from kitaru.location import open_store
from kitaru.stores import LocalStore
from kitaru.stores.memory import MemoryStore

from .large import noise, pages


def stored(store, exec_id):
    return json.loads(store.get(f"executions/{exec_id}/lineage.json"))


def name_of(graph, node):
    """How a person calls a node: a step's label, a value by who made it or by where it was first passed."""
    a = graph.nodes[node]
    return (
        a["ref"].partition(":")[2] if a["kind"] == "artifact" and a["ref"] else a.get("label") or a["preview"]["text"]
    )


def steps(graph, nodes):
    return {graph.nodes[n]["label"] for n in nodes if graph.nodes[n]["kind"] == "checkpoint"}


def made_by(graph, ref):
    """The steps that what `ref` names was made by, in the end."""
    return steps(graph, nx.ancestors(graph, node_of(graph, ref)))


def needed_by(graph, ref):
    return steps(graph, nx.descendants(graph, node_of(graph, ref)))


def ties(graph, relation):
    """(from, role, to) of one relation, by names."""
    return {
        (name_of(graph, u), a["role"], name_of(graph, v))
        for u, v, a in graph.edges(data=True)
        if a["relation"] == relation
    }


# ---------------------------------------------------------------- questions; test_demo_lineage.py has more


@checkpoint
def collect(limit):
    log(found=3)
    return [{"name": f"package-number-{n}", "text": f"This is licence text {n}. " * 20} for n in range(limit)]


@checkpoint(type="llm_call")
def classify(text):
    log(tokens=100, cost=0.001)
    return {"licence": "MIT", "quote": text[:25]}


@checkpoint
def classify_all(packages):
    return [classify(p["text"]) for p in packages]


@checkpoint
def conflicts(names):
    return []


@checkpoint
def heading(title):
    return f"# {title}"


@checkpoint
def notify(channel):
    return None


@checkpoint
def write_report(verdicts, heading, conflicts):
    text = f"{heading}\n{len(verdicts)} verdicts, {len(conflicts)} conflicts"
    save("report", text, type="report")
    return text


@flow
def audit(limit, title):
    packages = collect(limit)
    verdicts = classify_all(packages)
    found = conflicts([p["name"] for p in packages])
    notify("#licences")
    return write_report([v["licence"] + ": " + v["quote"] for v in verdicts] and verdicts, heading(title), found)


@pytest.fixture(scope="module")
def audited():
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitaru.location._connected", store)
        audit.options(exec_id="audit-1").run(3, "Licences of this place")
    return store


EVERY = {"collect#1", "classify_all#1", "conflicts#1", "heading#1", "notify#1", "write_report#1"}
INNER = {f"classify_all#1/classify#{n}" for n in (1, 2, 3)}

QUESTIONS = {
    "which steps made the result?": (lambda g: made_by(g, "result"), (EVERY | INNER) - {"notify#1"}),
    "which steps made the saved report?": (lambda g: made_by(g, "report"), (EVERY | INNER) - {"notify#1"}),
    "is the saved report the result?": (lambda g: node_of(g, "report") == g.graph["result"], True),
    "which step made the report itself?": (
        lambda g: steps(g, g.predecessors(node_of(g, "report"))),
        {"write_report#1"},
    ),
    "under which names was it generated?": (
        lambda g: {a["role"] for s, _, a in g.in_edges(node_of(g, "report"), data=True) if s != "audit-1"},
        {"report", "output"},
    ),
    "what made the heading?": (lambda g: made_by(g, "heading.output"), {"heading#1"}),
    "what made the first inner verdict?": (
        lambda g: made_by(g, "classify_all/classify#1.output"),
        {"collect#1", "classify_all#1/classify#1"},
    ),
    "what did the second classify read?": (
        lambda g: {name_of(g, n) for n in g.predecessors("audit-1:classify_all#1/classify#2")},
        {"classify_all#1/classify#2.in.text"},
    ),
    "where was that text taken out of?": (
        lambda g: {name_of(g, n) for n in g.predecessors(node_of(g, "classify_all/classify#2.in.text"))},
        {"collect#1.output"},
    ),
    "through which role does classify_all read the packages?": (
        lambda g: g.edges[node_of(g, "collect.output"), "audit-1:classify_all#1", "used"]["role"],
        "packages",
    ),
    "through which roles does write_report read?": (
        lambda g: {a["role"] for _, _, a in g.in_edges("audit-1:write_report#1", data=True)} - {None},
        {"verdicts", "heading", "conflicts"},
    ),
    "what would a change of the packages affect?": (
        lambda g: needed_by(g, "collect.output"),
        {"classify_all#1", "conflicts#1", "write_report#1"} | INNER,
    ),
    "what would a change of the title affect?": (
        lambda g: needed_by(g, "heading.in.title"),
        {"heading#1", "write_report#1"},
    ),
    "what would a change of one text affect?": (
        lambda g: needed_by(g, "classify_all/classify#3.in.text"),
        {"classify_all#1/classify#3", "write_report#1"},
    ),
    "what would another list of conflicts affect?": (lambda g: needed_by(g, "conflicts.output"), {"write_report#1"}),
    "what depends on the notification?": (lambda g: needed_by(g, "notify#1"), set()),
    "which inputs of the flow did collect get?": (
        lambda g: [a["role"] for n in g.predecessors("audit-1:collect#1") for a in g[n]["audit-1"].values()],
        ["limit"],
    ),
    "which parts is the list of verdicts made of?": (
        lambda g: {
            name_of(g, n) for n in g.predecessors(node_of(g, "classify_all.output")) if g.nodes[n]["kind"] == "artifact"
        },
        {f"classify_all#1/classify#{n}.output" for n in (1, 2, 3)},
    ),
    "where do the names that conflicts read come from?": (
        lambda g: made_by(g, "conflicts.in.names"),
        {"collect#1"},
    ),
    "what did the model calls cost?": (
        lambda g: sum(a.get("tokens") or 0 for _, a in g.nodes(data=True) if a.get("type") == "llm_call"),
        300,
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions(audited, question):
    ask, answer = QUESTIONS[question]
    assert ask(kitaru.lineage("audit-1", store=audited, after=False)) == answer


def test_steps_are_tied_by_order_where_no_data_ties_them(audited):
    graph = kitaru.lineage("audit-1", store=audited)
    assert {(u, v) for u, _, v in ties(graph, "after")} == {
        ("classify_all#1", "conflicts#1"),
        ("conflicts#1", "notify#1"),
        ("notify#1", "heading#1"),
        ("classify_all#1/classify#1", "classify_all#1/classify#2"),
        ("classify_all#1/classify#2", "classify_all#1/classify#3"),
    }
    assert not ties(kitaru.lineage("audit-1", store=audited, after=False), "after")


def test_nodes_carry_what_their_records_say(audited):
    graph = kitaru.lineage("audit-1", store=audited)
    step = graph.nodes["audit-1:classify_all#1/classify#2"]
    assert {key: value for key, value in step.items() if key not in {"started", "ended", "took", "metadata"}} == {
        "kind": "checkpoint",
        "label": "classify_all#1/classify#2",
        "name": "classify",
        "number": 4,
        "status": "completed",
        "type": "llm_call",
        "parent": "audit-1:classify_all#1",
        "tokens": 100,
        "cost": 0.001,
    }
    assert step["ended"] >= step["started"]
    report = graph.nodes[graph.graph["result"]]
    assert report["saved_as"] == ["report"]
    assert report["preview"]["text"].startswith("'# Licences")
    assert graph.graph["result"] == f"sha256:{KitaruClient(audited).artifacts.get(report['ref']).digest}"
    assert "saved_as" not in graph.nodes[node_of(graph, "heading.output")]
    assert graph.nodes["audit-1"]["kind"] == "execution"
    assert graph.nodes["audit-1"]["status"] == graph.graph["status"] == "completed"
    kinds = {(graph.nodes[u]["kind"], a["relation"], graph.nodes[v]["kind"]) for u, v, a in graph.edges(data=True)}
    assert kinds == {
        ("artifact", "used", "checkpoint"),
        ("artifact", "used", "execution"),
        ("checkpoint", "generated", "artifact"),
        ("execution", "generated", "artifact"),
        ("artifact", "part_of", "artifact"),
        ("checkpoint", "after", "checkpoint"),
    }


# ---------------------------------------------------------------- what is stored


def the_same(store, exec_id):
    graph, told = kitaru.lineage(exec_id, store=store), stored(store, exec_id)
    assert nx.utils.graphs_equal(nx.node_link_graph(told), graph)
    assert nx.node_link_data(graph) == told
    return graph


def test_the_stored_graph_is_the_live_one(audited):
    the_same(audited, "audit-1")


def test_the_same_journal_gives_the_same_bytes(audited):
    client = KitaruClient(audited)
    first, second = (lineage_graph.dumps(lineage_graph.build(client.executions.get("audit-1").data)) for _ in range(2))
    assert first == second == audited.get("executions/audit-1/lineage.json")


@pytest.mark.process
def test_networkx_alone_opens_what_is_stored(audited, tmp_path):
    (tmp_path / "lineage.json").write_bytes(audited.get("executions/audit-1/lineage.json"))
    code = """
import json, sys, networkx
graph = networkx.node_link_graph(json.load(open("lineage.json")))
assert not any(name.startswith("kitaru") for name in sys.modules)
print(type(graph).__name__, "audit-1:collect#1" in networkx.ancestors(graph, graph.graph["result"]))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["MultiDiGraph", "True"], ran.stderr


def test_a_lineage_that_cannot_be_stored_is_no_failure(connected):
    class Full(MemoryStore):
        def put(self, key, data):
            if key.endswith("lineage.json"):
                raise StoreUnavailableError("full")
            super().put(key, data)

    store = connected(Full())
    assert audit.options(exec_id="x").run(1, "t").status == "completed"
    assert not list(store.list("executions/x/lineage.json"))
    assert "x:collect#1" in kitaru.lineage("x")


def test_a_failed_execution_has_a_lineage_up_to_its_failure(store):
    @checkpoint
    def good():
        return "a text that is long enough"

    @checkpoint
    def bad(text):
        raise ValueError("no \x1b[31m such thing")

    @flow
    def failing():
        bad(good())

    failing.options(exec_id="x", raises=False).run()
    graph = the_same(store, "x")
    assert graph.nodes["x"]["failed_at"] == "bad#1"
    assert graph.nodes["x:bad#1"]["failure"] == "ValueError: no [31m such thing"
    assert made_by(graph, "bad#1") == {"good#1"}
    assert graph.graph["result"] is None
    assert "\x1b" not in lineage_text(graph)


def test_after_a_resume_the_graph_is_that_of_one_run(store, ran):
    @checkpoint
    def first():
        return {"text": "something that was expensive"}

    @checkpoint
    def second(text):
        if ran("second") == 1:
            raise KeyboardInterrupt
        return text.upper()

    @flow
    def twice():
        return second(first()["text"])

    with pytest.raises(KeyboardInterrupt):
        twice.options(exec_id="x").run()
    assert not list(store.list("executions/x/lineage.json"))
    assert kitaru.lineage("x").nodes["x:second#1"]["status"] == "interrupted"
    twice.options(exec_id="x").run()
    graph = the_same(store, "x")
    assert made_by(graph, "result") == {"first#1", "second#1"}
    assert graph.nodes["x:second#1"]["attempts"] == 2
    assert [a["attempts"] for _, a in graph.nodes(data=True) if a["kind"] == "execution"] == [2]


# ---------------------------------------------------------------- what ties what


def test_a_list_is_tied_to_each_step_whose_output_it_holds(store):
    @checkpoint
    def square(n):
        return n * n

    @checkpoint
    def total(parts, note):
        return sum(parts)

    @flow
    def summing():
        futures = square.map([1, 2, 3])
        return total([f.result() for f in futures], {"limit": 5, "first": 1})

    summing.options(exec_id="x").run()
    graph = kitaru.lineage("x", after=False)
    assert made_by(graph, "total.in.parts") == {"square#1", "square#2", "square#3"}
    assert made_by(graph, "total.in.note") == set(), "a number is found everywhere by chance"


def test_numbers_flags_and_common_words_tie_nothing_that_they_happen_to_stand_in(store):
    @checkpoint
    def look(n):
        return {"licence": "MIT", "n": n, "ok": True}

    @checkpoint
    def use(licence, n, ok, nothing=None):
        return None

    @flow
    def common():
        look(1)
        look(2)
        use("MIT", 1, True)
        use("BSD", 2, True)

    common.options(exec_id="x").run()
    graph = kitaru.lineage("x", after=False)
    assert ties(graph, "part_of") == set()
    assert made_by(graph, "use#2") == set(), "a None that was returned is not the None of a default"


def test_a_short_text_is_tied_where_one_value_alone_holds_it(store):
    @checkpoint
    def draft():
        return {"text": "hello", "n": 1}

    @checkpoint
    def report(text):
        return text * 2

    @flow
    def short():
        return report(draft()["text"])

    short.options(exec_id="x").run()
    assert ties(kitaru.lineage("x"), "part_of") == {("draft#1.output", "whole", "report#1.in.text")}
    assert ties(kitaru.lineage("x"), "after") == set()


@pytest.mark.parametrize("kept", ["in the record", "in blobs", "in a bundle"])
def test_large_values_are_tied_wherever_they_are_kept(store, kept):
    @checkpoint
    def draft(kept):
        text = {"in the record": "long " * 20_000, "in blobs": noise(100_000), "in a bundle": pages(600_000)}[kept]
        return {"text": text, "pages": [f"page {n} " * 200 for n in range(40)]}

    @checkpoint
    def report(text):
        return len(text)

    @checkpoint
    def bind(pages):
        return len(pages)

    @flow
    def large():
        made = draft(kept)
        report(made["text"])
        return bind([made["text"], made["pages"][7]])

    large.options(exec_id="x").run()
    assert len([*store.list("blobs/")]) == (kept != "in the record")
    graph = the_same(store, "x")
    assert made_by(kitaru.lineage("x", after=False), "bind.in.pages") == {"draft#1"}
    assert ("draft#1.output", "whole", "report#1.in.text") in ties(graph, "part_of")


def test_what_was_made_again_does_not_depend_on_what_came_later(store):
    @checkpoint
    def check(n):
        return "everything is fine"

    @checkpoint
    def tell(what):
        return None

    @flow
    def loop():
        for n in range(3):
            tell(check(n))

    loop.options(exec_id="x").run()
    graph = kitaru.lineage("x", after=False)
    assert [made_by(graph, f"tell#{n}") for n in (1, 2, 3)] == [{"check#1"}, {"check#2"}, {"check#3"}]
    made = [node_of(graph, f"check#{n}.output") for n in (1, 2, 3)]
    assert made == [made[0], f"{made[0]}/2", f"{made[0]}/3"]
    assert nx.is_directed_acyclic_graph(kitaru.lineage("x"))


def test_a_step_that_gives_its_argument_back_makes_no_circle(store):
    @checkpoint
    def make():
        return {"a": "value that is long enough"}

    @checkpoint
    def check(value):
        return value

    @checkpoint
    def use(value):
        return 1

    @flow
    def identity(text):
        use(check(make()))
        return text

    identity.options(exec_id="x").run("the text that goes in and out")
    graph = kitaru.lineage("x", after=False)
    assert nx.is_directed_acyclic_graph(graph)
    assert made_by(graph, "use#1") == {"make#1", "check#1"}


def talking(go_on):
    @checkpoint
    def reply(state):
        return {"role": "assistant", "content": f"What there is to say to {len(json.dumps(state))} bytes"}

    @checkpoint
    def draft(state):
        return f"Draft number {len(json.dumps(state))} of the plan"

    @flow
    def talk(n):
        state = go_on(None, reply, draft)
        for _ in range(n):
            state = go_on(state, reply, draft)
        return 0

    return talk


def a_list(state, reply, draft):
    return [] if state is None else [*state, reply(state)]


def a_field(state, reply, draft):
    return {"said": [], "goal": "a plan"} if state is None else {**state, "said": [*state["said"], reply(state)]}


def beside_another(state, reply, draft):
    if state is None:
        return {"said": [], "draft": ""}
    return {"said": [*state["said"], reply(state)], "draft": draft(state)}


@pytest.mark.parametrize("go_on", [a_list, a_field, beside_another])
def test_a_history_has_as_many_ties_a_step_at_its_end_as_at_its_beginning(store, go_on):
    talking(go_on).options(exec_id="x").run(60)
    graph = kitaru.lineage("x", after=False)
    once = len(steps(graph, graph)) / 60
    assert sum(a["relation"] == "part_of" for _, _, a in graph.edges(data=True)) <= 60 * 4 * once
    for n in (2, 30, 59):
        came = {f"{name}#{i}" for name in ("reply", "draft")[: int(once)] for i in range(1, n)}
        assert made_by(graph, f"reply#{n}") == came, "all that was said before"
        later = {f"{name}#{i}" for name in ("reply", "draft")[: int(once)] for i in range(n + 1, 61)}
        assert needed_by(graph, f"reply#{n}.output") == later


def test_what_was_put_together_twice_does_not_depend_on_what_was_in_the_first_alone(store):
    @checkpoint
    def find(name):
        return f"what was found of {name}"

    @checkpoint
    def use(found):
        return len(found)

    @flow
    def twice():
        a, b, c = find("a"), find("b"), find("c")
        use([a, b, c])
        return use([a, b])

    twice.options(exec_id="x").run()
    graph = kitaru.lineage("x", after=False)
    assert made_by(graph, "use#1") == {"find#1", "find#2", "find#3"}
    assert made_by(graph, "use#2") == {"find#1", "find#2"}


def test_one_value_in_two_roles_is_two_edges(store):
    @checkpoint
    def compare(left, right):
        return left == right

    @flow
    def same():
        text = "the very same long text"
        return compare(text, text)

    same.options(exec_id="x").run()
    graph = kitaru.lineage("x")
    edges = graph.get_edge_data(node_of(graph, "compare.in.left"), "x:compare#1")
    assert {key: a["role"] for key, a in edges.items()} == {"used": "left", "used#2": "right"}


def test_an_outer_step_hands_on_what_its_inner_steps_made(store):
    @checkpoint
    def inner(n):
        return f"the inner value number {n}"

    @checkpoint
    def outer(n):
        made = inner(n)
        inner(made)
        return made

    @checkpoint
    def last(value):
        return value

    @flow
    def nested():
        return last(outer(7))

    nested.options(exec_id="x").run()
    graph = the_same(store, "x")
    assert made_by(graph, "last#1") == {"outer#1", "outer#1/inner#1"}
    assert graph.nodes["x:outer#1/inner#2"]["parent"] == "x:outer#1"
    assert "parent" not in graph.nodes["x:last#1"]


def test_steps_of_side_tasks_are_nodes_like_others(store):
    @checkpoint
    def side(n):
        return f"what the side task made of {n}"

    @checkpoint
    def join(parts):
        return len(parts)

    @flow
    def aside():
        found = {}
        import contextvars

        def work(n):
            found[n] = side(n)

        for n in range(3):
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work, n))
            thread.start()
            thread.join()
        return join(list(found.values()))

    aside.options(exec_id="x").run()
    graph = the_same(store, "x")
    assert made_by(graph, "join.in.parts") == {"side~1", "side~2", "side~3"}
    assert node_of(graph, "side~2") == "x:side~2"


# ---------------------------------------------------------------- hostile and large


class Rude:
    """A value whose repr raises."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


def test_a_value_whose_repr_raises_is_a_node_like_any_other(store, monkeypatch):
    monkeypatch.setenv("KITARU_TRUST", store.url)

    @checkpoint
    def make():
        return {"held": Rude("a text inside of the rude one")}

    @checkpoint
    def use(rude):
        log(rude=rude, nan=float("nan"))
        return rude.text

    @flow
    def rude():
        return use(make()["held"])

    rude.options(exec_id="x").run()
    graph = the_same(store, "x")
    assert graph.nodes["x:use#1"]["metadata"]["nan"] == "nan"
    assert graph.nodes[node_of(graph, "use.in.rude")]["format"] == "reference", "it is no data, and has no parts"
    assert ("make#1", None, "use#1") in ties(graph, "after")
    assert lineage_text(graph, "result")


def test_names_and_values_of_others_do_no_harm(store):
    @checkpoint
    def take(**things):
        return "\x1b[2J</script>\n" * 9

    @flow
    def hostile(**things):
        return take(**things)

    names = {
        "\x1b[31m": "red and long enough",
        "a\nb": 1,
        "<script>": "\u202e reversed",
        "x" * 300: "",
        "key": "source",
    }
    hostile.options(exec_id="x").run(**names)
    graph = the_same(store, "x")
    roles = {a["role"] for _, _, a in graph.in_edges("x:take#1", data=True)}
    assert roles >= set(names) or roles == {"things"}
    for text in (lineage_text(graph), lineage_text(graph, "take"), lineage_text(graph, "result", width=40)):
        assert all(line.isprintable() for line in text.splitlines())
        assert "\x1b" not in text
    assert max(map(len, lineage_text(graph, "result", width=40).splitlines())) <= 40


def test_an_execution_that_is_called_like_a_digest_is_not_taken_for_one(store):
    @checkpoint
    def step():
        return "x"

    @flow
    def odd():
        return step()

    odd.options(exec_id="sha256").run()
    graph = the_same(store, "sha256")
    assert steps(graph, graph) == {"step#1"}
    assert graph.nodes["sha256"]["kind"] == "execution"
    assert graph.nodes[graph.graph["result"]]["kind"] == "artifact"


def test_damaged_bytes_end_the_search_for_parts_and_nothing_else():
    whole = codecs.encode({"a": ["some text", {"b": (1, 2.5, b"xyz")}], "c": None}).data
    found = [whole[start:end] for start, end, _ in spans(whole)]
    assert codecs.encode("some text").data in found
    assert codecs.encode((1, 2.5, b"xyz")).data in found
    for cut in range(len(whole)):
        list(spans(whole[:cut]))
        list(spans(whole[:cut] + b"\xc1\xff\xdd\xff\xff\xff\xff" + whole[cut:]))
    assert list(spans(b"\x93" * 50_000)) == []


def test_what_a_record_keeps_of_large_values_is_bounded():
    many = codecs.Sharer().encode([[f"{n} " * 400] for n in range(5000)])
    assert len(codecs.digests_within(many)) == 256 * 8
    assert codecs.digests_within(codecs.Sharer().encode(list(range(100_000)))) == b""


@checkpoint
def advance(n, state):
    return {"n": n, "text": f"this is the state with the number {n}"}


@flow
def long(count):
    state = {"n": 0, "text": ""}
    for n in range(count):
        state = advance(n, state if n % 2 else state["text"])
    return state


def settled(exec_id):
    """Wait until the lineage of a long run is stored."""
    for thread in threading.enumerate():
        if thread.name == f"kitaru-lineage-{exec_id}":
            thread.join(60)


@pytest.fixture(scope="module")
def lengthy():
    """A chain of 10,000 steps."""
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitaru.location._connected", store)
        long.options(exec_id="long-1").run(10_000)
    settled("long-1")
    return store


def calls(function, *args):
    """How many calls of Python functions it takes: the same every time, which seconds are not."""
    count = 0

    def event(frame, what, arg):
        nonlocal count
        count += what == "call"

    before = sys.getprofile()
    sys.setprofile(event)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
    return count


def test_ten_thousand_steps_cost_ten_times_a_thousand(store, lengthy):
    long.options(exec_id="short-1").run(1000)
    settled("short-1")
    short, whole = (KitaruClient(s).executions.get(e).data for s, e in ((store, "short-1"), (lengthy, "long-1")))
    assert calls(lineage_graph.build, whole) <= 10.1 * calls(lineage_graph.build, short)


def test_the_lineage_of_ten_thousand_steps_is_whole(lengthy):
    graph = the_same(lengthy, "long-1")
    assert len(made_by(graph, "advance#10000")) == 9999
    assert graph.number_of_edges() < 4 * 10_000, "one for each use, output and part: none for each pair of steps"


def test_the_graph_takes_no_more_than_five_times_what_reading_the_records_takes(lengthy):
    """In practice about twice as long; a test on a busy machine asks for less."""
    began = time.process_time()
    execution = KitaruClient(lengthy).executions.get("long-1")
    read = time.process_time() - began
    execution.lineage()
    assert time.process_time() - began - read <= 5 * read


def test_the_collector_of_cycles_is_left_as_it_was(audited):
    assert gc.isenabled()
    kitaru.lineage("audit-1", store=audited)
    assert gc.isenabled()
    gc.disable()
    try:
        kitaru.lineage("audit-1", store=audited)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_long_lineage_does_not_hold_up_the_end(store, monkeypatch):
    monkeypatch.setattr(engine, "LINEAGE_AT_ONCE", 0)
    audit.options(exec_id="x").run(1, "t")
    settled("x")
    the_same(store, "x")


def test_a_lineage_that_comes_late_does_not_overwrite_that_of_a_resume(store, monkeypatch):
    monkeypatch.setattr(engine, "LINEAGE_AT_ONCE", 0)
    build, resumed, mended = engine.build, threading.Event(), threading.Event()

    def waits_for_the_resume(data):
        if data.state.status == "failed":
            assert resumed.wait(60)
        return build(data)

    @flow
    def fails_once():
        state = advance(0, "")
        if not mended.is_set():
            raise ValueError("at first")
        return advance(1, state)

    monkeypatch.setattr(engine, "build", waits_for_the_resume)
    fails_once.options(exec_id="x", raises=False).run()
    (late,) = [thread for thread in threading.enumerate() if thread.name == "kitaru-lineage-x"]
    mended.set()
    fails_once.options(exec_id="x").run()
    for thread in threading.enumerate():
        if thread.name == "kitaru-lineage-x" and thread is not late:
            thread.join(60)
    resumed.set()
    late.join(60)
    the_same(store, "x")


LONG = """
import sys
from kitaru import checkpoint, flow

@checkpoint
def step(n, state):
    return f"the state after step number {n}"

@flow
def long():
    state = "at first"
    for n in range(200):
        state = step(n, state)
    if sys.argv[1:]:
        raise ValueError("at last")

if __name__ == "__main__":
    long.options(exec_id="x").run()
"""


@pytest.mark.process
@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_ends_at_once_has_stored_the_lineage_of_its_long_run(tmp_path, run_script, fails):
    (tmp_path / "long.py").write_text(LONG)
    ran = run_script("long.py", *["fail"] * fails, env={"KITARU_STORE": str(tmp_path / "store")})
    assert ran.code == int(fails), ran.err
    graph = the_same(LocalStore(tmp_path / "store"), "x")
    assert graph.graph["status"] == ("failed" if fails else "completed")
    assert len(made_by(graph, "step#200")) == 199


@pytest.mark.process
@pytest.mark.s3
def test_a_process_that_ends_at_once_has_stored_it_in_a_bucket_too(tmp_path, moto_s3, run_script):
    bucket = moto_s3()
    (tmp_path / "long.py").write_text(LONG)
    ran = run_script("long.py", env={"KITARU_STORE": bucket.url})
    assert ran.code == 0, ran.err
    the_same(open_store(bucket.url), "x")


# ---------------------------------------------------------------- as text


def test_the_text_of_an_execution_tells_its_steps_in_order(audited):
    lines = lineage_text(kitaru.lineage("audit-1", store=audited)).splitlines()
    assert lines[0] == "audit-1  audit, completed"
    heads = [line.split()[0] for line in lines[1:] if "completed, " in line]
    assert heads[:3] == ["collect#1", "classify_all#1", "classify_all#1/classify#1"]
    assert any("used       packages: collect#1.output  list(3)" in line for line in lines)
    assert any("used       title: input title" in line for line in lines)
    assert lines[-1].startswith("result: write_report#1.output")


def test_the_text_of_ten_thousand_steps_is_folded_and_says_how_to_see_them(lengthy):
    graph = kitaru.lineage("long-1", store=lengthy)
    lines = lineage_text(graph).splitlines()
    assert len(lines) < 40
    heads = [line.partition("  ")[0] for line in lines if line.startswith("advance#")]
    assert heads == [f"advance#{n}" for n in (1, 2, 3, 9999, 10000)]
    folded = [line for line in lines if line.startswith("…")]
    assert len(folded) == 1
    assert folded[0].startswith("… advance#4 to advance#9998: 9,995 steps, all completed, ")
    assert lines[-4].startswith("result: advance#10000.output")
    one, every = (line.partition("  kitaru lineage ")[2] for line in lines[-2:])
    assert lineage_text(graph, one).startswith("advance#5001  completed")
    assert every == "long-1 --full"
    assert len(lineage_text(graph, full=True).splitlines()) == 3 + 4 * 10_000
    for ref in ("result", "advance#5000", "advance#1", "advance#5000.output"):
        assert len(lineage_text(graph, ref).splitlines()) < 1000


def test_the_command_folds_ten_thousand_steps_and_unfolds_them_when_asked(lengthy, monkeypatch):
    monkeypatch.setattr("kitaru.location._connected", lengthy)
    run = CliRunner().invoke
    assert len(run(app, ["lineage", "long-1"], prog_name="kitaru").stdout.splitlines()) < 40
    assert len(run(app, ["lineage", "long-1", "--full"], prog_name="kitaru").stdout.splitlines()) > 40_000


def test_folding_keeps_what_failed_and_each_kind_of_step(store):
    @checkpoint
    def inner(n):
        if n == 77:
            raise ValueError("the one that is sought")
        log(tokens=2)
        return f"the inner value of {n}"

    @checkpoint
    def outer(n):
        return inner(n)

    @checkpoint
    def last():
        return "the end of it all"

    @flow
    def folding():
        for n in range(150):
            with contextlib.suppress(ValueError):
                outer(n)
        return last()

    folding.options(exec_id="x").run()
    lines = lineage_text(kitaru.lineage("x")).splitlines()
    assert len(lines) < 80
    assert "    failure    ValueError: the one that is sought" in lines
    heads = [line.split()[0] for line in lines if "completed" in line or "failed" in line]
    assert heads.count("…") == 2
    assert "outer#78/inner#1" in heads
    assert heads[-1] == "last#1"
    inner_fold = next(line for line in lines if line.startswith("  … outer#4/inner#1 to outer#148/inner#1: 144 steps"))
    assert "all completed" in inner_fold
    assert "288 tokens" in inner_fold


def test_ten_thousand_kinds_of_steps_are_bounded_too():
    graph = nx.MultiDiGraph(exec_id="x", flow="f", status="completed", result=None)
    graph.add_node("x", kind="execution", label="x", name="f", status="completed", failure=None)
    said = {"kind": "checkpoint", "status": "completed", "took": 1.0, "tokens": None, "cost": None}
    for n in range(10_000):
        name = f"step_{n:05}".translate(str.maketrans("0123456789", "abcdefghij"))
        graph.add_node(f"x:{name}#1", label=f"{name}#1", superseded=False, failure=None, **said)
    lines = lineage_text(graph).splitlines()
    assert len(lines) < 420
    assert "… and more steps of other kinds: 10,000 kinds in all" in lines


def test_a_body_that_saved_a_thousand_values_says_how_many_and_ends_with_its_result(store):
    @flow
    def wide():
        for n in range(1000):
            save(f"value-{n}", f"the value number {n}")
        return "what it came to"

    wide.options(exec_id="x").run()
    lines = lineage_text(kitaru.lineage("x")).splitlines()
    assert len(lines) < 30
    assert "… and 980 more" in lines
    assert lines[-1].startswith("result: ")


def test_the_text_of_a_value_tells_what_made_it_and_what_needs_it(audited):
    graph = kitaru.lineage("audit-1", store=audited)
    text = lineage_text(graph, "conflicts.output")
    above, below = text.split("needed by")
    assert "conflicts#1" in above
    assert "out of collect#1.output" in above
    assert "limit: input limit" in above
    assert "write_report#1  as conflicts" in below
    assert "the result" in below
    assert "nothing" in lineage_text(graph, "notify#1").split("needed by")[1]
    assert lineage_text(graph, "audit-1:@1").startswith("collect#1  completed")


@pytest.mark.parametrize("ref", ["nothing", "collect#9", "collect.in.nothing", "collect.nothing", "@99", "a b", ""])
def test_a_ref_to_nothing_says_so(audited, ref):
    with pytest.raises(NotFoundError, match="has no"):
        lineage_text(kitaru.lineage("audit-1", store=audited), ref)


@pytest.fixture
def command(audited, monkeypatch):
    """`kitaru lineage ...` in this process."""
    monkeypatch.setattr("kitaru.location._connected", audited)

    def run(*args):
        result = CliRunner().invoke(app, ["lineage", *args], prog_name="kitaru")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def test_the_command_shows_an_execution_a_step_and_a_value(command, audited):
    assert command().stdout.startswith("audit-1  audit, completed\ncollect#1") is False
    assert command().stdout == command("audit-1").stdout == lineage_text(kitaru.lineage("audit-1"), width=10**5) + "\n"
    assert command("audit-1:conflicts").stdout.startswith("conflicts#1  completed")
    for ref in ("report", "result", "write_report#1.output"):
        assert command(f"audit-1:{ref}").stdout.startswith("write_report#1.output  str(")
    assert command("audit-1:heading.in.title").stdout.startswith("input title  str(")


def test_the_command_gives_the_graph_as_json(command, audited):
    told = json.loads(command("audit-1:heading", "--json").stdout)
    assert told["node"] == "audit-1:heading#1"
    assert told["lineage"] == stored(audited, "audit-1")
    assert json.loads(command("--json").stdout)["node"] == "audit-1"


def test_the_command_says_what_there_is_not(command):
    result = command("audit-1:nothing")
    assert result.exit_code == 2
    assert "has no checkpoint nothing" in result.stderr


def test_nothing_stays_in_memory_of_how_a_graph_was_made(store):
    @flow
    def audit(limit):
        return [classify(package["text"]) for package in collect(limit)]

    data = KitaruClient(store).executions.get(audit.run(3).exec_id).data
    gc.collect()
    gc.disable()
    try:
        for made_of in (lineage_graph.build, lineage_graph.ties):
            made_of(data)
            left = [x for x in gc.get_objects() if type(x) in {lineage_graph._Held, lineage_graph._Body}]
            assert not left, "rings: they would stay until somebody looks for them"
    finally:
        gc.enable()
