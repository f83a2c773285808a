"""What a plan looks like: as text, as HTML, as a frame, as plain data; and what people type, as values."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
from dataclasses import dataclass

import pydantic
import pytest

import kitaru
from kitaru import checkpoint, flow, lineage_graph
from kitaru.errors import UsageError
from kitaru.overrides import read_overrides, typed
from kitaru.planning import Plan, Row

PLAN = Plan(
    (
        Row("collect#1", "reuse", "it started before the edit", 2.1),
        Row("classify#1", "reuse", "it started before the edit", 0.8, 1204, 0.02),
        Row("classify#1/ask#1", "reuse", "inside of classify#1", 0.7, 1204, 0.02, inner=True),
        Row("risk#2", "rerun?", "reads classify#2.output, which is edited", 0.1),
    )
)


def test_what_lies_inside_of_a_reused_step_is_saved_once():
    assert (PLAN.saved("tokens"), PLAN.count("reuse"), len(PLAN)) == (1204, 2, 4)
    assert PLAN.summary == "saves at least 2.9 s, 1,204 tokens, $0.02"


def test_the_text_holds_no_times_so_that_a_notebook_can_be_compared():
    assert repr(PLAN) == (
        "step          decision  why                                       tokens    cost\n"
        "collect       reuse     it started before the edit\n"
        "classify      reuse     it started before the edit                 1,204  $0.0200\n"
        "classify/ask  reuse     inside of classify#1                       1,204  $0.0200\n"
        "risk#2        rerun?    reads classify#2.output, which is edited\n"
        "saves at least 1,204 tokens, $0.02"
    ).replace("tokens    cost", "tokens     cost")


def test_what_costs_next_to_nothing_is_not_said_to_cost_nothing():
    plan = Plan((Row("ask#1", "reuse", "", None, 12, 0.0000468), Row("ask#2", "reuse", "", None, 0, 0.0)))
    assert [line.split()[-1] for line in repr(plan).splitlines()[1:3]] == ["$0.000047", "$0.0000"]
    assert plan.summary == "saves at least 12 tokens, $0.000047"


def test_a_plan_of_nothing():
    assert (repr(Plan()), Plan().summary, Plan().to_json()["steps"]) == ("<plan: no steps>", "", [])
    assert "<td" not in Plan()._repr_html_()


def test_the_html_holds_nothing_that_a_step_was_called_or_that_was_recorded():
    hostile = Plan((Row("a#1", "ran", "x was '<script>alert(1)</script>\x1b[2J\u202e', is 'b'"),), ("<b>note</b>",))
    html = hostile._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<b>note" not in html
    assert not {"\x1b", "\u202e"} & set(html)
    assert "\x1b" not in repr(hostile)


def test_the_html_takes_its_colours_from_the_theme_and_marks_what_varies():
    html = PLAN._repr_html_()
    assert "var(--jp-content-font-color1,inherit)" in html
    assert '<span class="kitaru-varies">2.1 s</span>' in html
    assert "1,204" in html


def test_a_plan_becomes_a_frame():
    pd = pytest.importorskip("pandas")
    frame = PLAN.to_frame()
    assert [*frame.columns] == ["step", "decision", "why", "took", "tokens", "cost"]
    assert [*frame[frame.decision == "rerun?"].step] == ["risk#2"]
    assert frame.tokens.sum() == 2408
    assert pd.isna(frame.cost[0])
    assert Plan().to_frame().empty


def test_a_plan_of_edited_inputs_looks_at_each_step_a_fixed_number_of_times(store, monkeypatch):
    @checkpoint
    def read(text):
        return len(text)

    @checkpoint(type="llm_call")
    def ask(text, model="small"):
        return read(f"{text} {model}") if model == "large" else read(text)

    @flow
    def chat(n):
        return [ask(f"question {i}") for i in range(n)]

    edges_seen = 0
    leading_from = lineage_graph.Ties.leading_from

    def counted(tied, node):
        nonlocal edges_seen
        for edge in leading_from(tied, node):
            edges_seen += 1
            yield edge

    monkeypatch.setattr(lineage_graph.Ties, "leading_from", counted)
    for n in (2, 20):
        handle = chat.run(n)
        plan = kitaru.plan(handle.exec_id, overrides={"type.llm_call.in.text": "another question"})
        assert plan.count("rerun") == n
        inner = {row.why for row in plan if row.step.endswith("read#1")}
        assert inner == {f"reads ask#{i}.in.text, which is edited" for i in range(1, n + 1)}
        times, edges_seen = edges_seen / (3 * n), 0
        assert times < 10


# ---------------------------------------------------------------- what is typed


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    tags: frozenset[str] = frozenset()


class Model(pydantic.BaseModel):
    name: str
    when: dt.date | None = None


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024 - what people have


@pytest.mark.parametrize(
    ("plain", "like", "wanted"),
    [
        (3, 1.5, 3.0),
        (3.5, 1, 3.5),
        ("red", Colour.RED, Colour.RED),
        ("blue", Colour.RED, "blue"),
        ("1.10", decimal.Decimal(1), decimal.Decimal("1.10")),
        ("2026-11-24", dt.date(2026, 1, 1), dt.date(2026, 11, 24)),
        ("soon", dt.date(2026, 1, 1), "soon"),
        ([1, 2, 3], (0,), (1, 2, 3)),
        ([1, 1], {0}, {1}),
        ([[1], [2]], {0}, [[1], [2]]),
        ([[1, 2]], [(0, 0)], [(1, 2)]),
        ([1, 2], Pair(0, 0), Pair(1, 2)),
        ({"a": 1, "b": 2}, Pair(0, 0), Pair(1, 2)),
        ({"x": 1, "tags": ["t"]}, Point(0.5), Point(1.0, frozenset({"t"}))),
        ({"p": {"x": 2}}, {"p": Point(0.5)}, {"p": Point(2.0)}),
        ({"new": [1]}, {"old": (0,)}, {"new": (1,)}),
        ({"name": "n", "when": "2026-11-24"}, Model(name="m"), Model(name="n", when=dt.date(2026, 11, 24))),
        (None, Point(0.5), None),
        ("text", Point(0.5), "text"),
        ([1], {"a": 1}, [1]),
    ],
)
def test_json_becomes_what_was_recorded_where_that_can_be(plain, like, wanted):
    found = typed(plain, like)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "write --set REF=JSON"),
        ("=1", "write --set REF=JSON"),
        ("a={", "--set a: '{' is no JSON"),
        ("a=" + "[" * 100_000, "--set a: it is nested too deeply"),
    ],
)
def test_what_is_no_json_names_its_option(text, said):
    with pytest.raises(UsageError) as refused:
        read_overrides([text], "--set")
    assert said in str(refused.value)


def test_a_place_that_is_given_twice_is_refused():
    with pytest.raises(UsageError, match="--set a is given twice"):
        read_overrides(["a=1", "a =2"], "--set")


def test_only_the_first_equals_sign_parts_name_and_value():
    assert read_overrides(['a="x=y"'], "--set") == {"a": "x=y"}
