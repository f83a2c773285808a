"""Inside values: trees, chats, arrays, frames, and what is no data."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import threading
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from pydantic import BaseModel

import kitaru
from kitaru.diffs import NOTHING
from kitaru.diffs.trees import same
from kitaru.errors import UsageError


def found(a, b, **options):
    """The changes from `a` to `b`, in short."""
    d = kitaru.diff(a, b, refs=False, **options)
    json.dumps(d.to_json())
    assert d.same == (not d.count)
    return [(c.path, c.kind, c.a, c.b) for c in d.changes]


# ---------------------------------------------------------------- trees


def test_a_changed_value_is_found_by_its_path():
    a = {"rows": [{"client": 0}, {"client": 1, "n": [1, 2]}], "two words": 1}
    b = {"rows": [{"client": 0}, {"client": 2, "n": [1, 3]}], "two words": 2}
    assert found(a, b) == [
        ("rows[1].client", "changed", 1, 2),
        ("rows[1].n[1]", "changed", 2, 3),
        ("['two words']", "changed", 1, 2),
    ]


def test_what_was_added_and_removed():
    assert found({"a": 1, "b": 2}, {"b": 2, "c": 3}) == [("a", "removed", 1, NOTHING), ("c", "added", NOTHING, 3)]


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_insert_is_one_insert(at):
    a = [{"id": i, "client": i} for i in range(6)]
    new = {"id": 99, "client": 0}
    assert found(a, [*a[:at], new, *a[at:]]) == [(f"[{at}]", "added", NOTHING, new)]


def test_an_insert_beside_a_change_is_told_apart_from_it():
    a = [{"name": "numpy", "licence": "BSD", "year": 2006}]
    b = [{"name": "boto3", "licence": "Apache", "year": 2014}, {"name": "numpy", "licence": "MIT", "year": 2006}]
    assert found(a, b) == [
        ("[0]", "added", NOTHING, b[0]),
        ("[0].licence", "changed", "BSD", "MIT"),
    ]
    assert kitaru.diff(a, b).changes[1].path_b == "[1].licence"


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, True), (1, 1.0), (0.0, -0.0), ("1", 1), (None, 0), (b"a", "a"), ((1,), [1]), ({1}, frozenset({1})), ({}, [])],
)
def test_values_of_different_types_differ(a, b):
    assert found(a, b)
    assert found({"x": [a]}, {"x": [b]})


@pytest.mark.parametrize("v", [float("nan"), [float("nan")], {"a": (1, float("nan"))}, complex("nan+1j")])
def test_nan_equals_nan(v):
    import copy

    assert found(v, copy.deepcopy(v)) == []


def test_the_order_of_keys_counts():
    assert found({"a": 1, "b": 2}, {"b": 2, "a": 1}) == [("", "order", ["a", "b"], ["b", "a"])]


def test_keys_that_python_takes_for_the_same_are_two():
    assert [kind for _, kind, *_ in found({1: "x", "k": 0}, {True: "x", "k": 0})] == ["removed", "added"]


def test_sets_by_their_members():
    assert found({1, 2}, {2, 3}) == [("{1}", "removed", 1, NOTHING), ("{3}", "added", NOTHING, 3)]


def test_text_by_word():
    d = kitaru.diff({"t": "the quick brown fox"}, {"t": "the slow brown fox"})
    assert [tuple(p) for p in d.changes[0].pieces] == [
        ("=", "the "), ("-", "quick"), ("+", "slow"), ("=", " brown fox"),
    ]  # fmt: skip
    assert repr(d) == "1 difference\n~ t: the [-quick-]{+slow+} brown fox"


def test_bytes_by_the_first_difference():
    change = kitaru.diff(b"x" * 1000 + b"abc", b"x" * 1000 + b"abd!").changes[0]
    assert (change.kind, change.detail, change.a) == ("bytes", {"first": 1002, "sizes": [1003, 1004]}, b"c")


@dataclasses.dataclass
class Package:
    name: str
    files: list = dataclasses.field(default_factory=list)


class Model(BaseModel):
    a: int
    inner: list[str] = []


class Point(NamedTuple):
    x: int
    y: int


class Slots:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Named(dict):
    pass


@pytest.mark.parametrize(
    ("a", "b", "path"),
    [
        (Package("a", [1]), Package("a", [2]), "files[0]"),
        (Model(a=1, inner=["x"]), Model(a=2, inner=["x"]), "a"),
        (Point(1, 2), Point(1, 3), "y"),
        (Slots(1), Slots(2), "x"),
        (Named(a=1), Named(a=2), "a"),
        (ValueError("x"), ValueError("y"), "args[0]"),
        ({"at": dt.date(2026, 1, 1)}, {"at": dt.date(2026, 1, 2)}, "at"),
        ([Path("a")], [Path("b")], "[0]"),
        ({"c": Colour.RED}, {"c": Colour.BLUE}, "c"),
    ],
)
def test_objects_by_their_fields(a, b, path):
    assert [p for p, *_ in found(a, b)] == [path]
    assert found(a, a) == []


def test_another_class_with_the_same_fields():
    @dataclasses.dataclass
    class Parcel:
        name: str
        files: list

    kinds = [kind for _, kind, *_ in found(Package("a", [1]), Parcel("a", [1]))]
    assert kinds == ["type"]


def test_no_code_of_a_class_is_called():
    class Mine:
        def __init__(self, x):
            self.__dict__["x"] = x

        def __eq__(self, other):
            raise AssertionError("called")

        __hash__ = __repr__ = __getattr__ = __len__ = __bool__ = __iter__ = __eq__

    assert [c.path for c in kitaru.diff([Mine(1)], [Mine(2)]).changes] == ["[0].x"]


def test_what_is_no_data_counts_by_its_type():
    assert found({"lock": threading.Lock()}, {"lock": threading.Lock()}) == []
    assert len(found({"f": len}, {"f": max})) == 1


def test_a_value_that_holds_itself():
    a, b = [1], [2]
    a.append(a)
    b.append(b)
    assert found(a, b) == [("[0]", "changed", 1, 2)]


def test_values_nested_deeper_than_the_stack():
    a, b = 1, 2
    for _ in range(20_000):
        a, b = [a], [b]
    d = kitaru.diff(a, b)
    assert d.count == 1
    assert len(repr(d)) < 1000


def test_many_changes_are_counted_and_the_first_kept():
    d = kitaru.diff(list(range(50_000)), list(range(50_000, 100_000)))
    assert (d.count, len(d.changes)) == (50_000, 1000)
    assert repr(d).endswith("… 49,940 more")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(width=16) | st.text("ab ", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=4) | st.tuples(inner)
    ),
    max_leaves=15,
)


@given(PLAIN, PLAIN)
def test_there_are_changes_exactly_where_the_recorded_bytes_would_differ(a, b):
    from kitaru import codecs

    equal = codecs.encode(a).digest == codecs.encode(b).digest
    assert kitaru.diff(a, b, refs=False).same == equal == same(a, b)
    assert kitaru.diff(a, a, refs=False).same


# ---------------------------------------------------------------- chats

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which licence has numpy?"},
    {"role": "assistant", "content": "The licence is MIT, I think."},
]


def test_a_chat_by_turn_and_by_word_inside():
    new = [CHAT[0], {"role": "user", "content": "Hello!"}, CHAT[1]]
    new.append({"role": "assistant", "content": "The licence is BSD, I think."})
    d = kitaru.diff({"messages": CHAT}, {"messages": new})
    assert [(c.path, c.path_b, c.kind, c.role) for c in d.changes] == [
        ("messages[1]", "", "added", "user"),
        ("messages[2].content", "messages[3].content", "text", "assistant"),
    ]
    assert "(assistant): The licence is [-MIT-]{+BSD+}, I think." in repr(d)


def test_a_turn_that_went_is_that_turn_even_beside_one_that_changed():
    changed = {"role": "assistant", "content": "Another answer altogether"}
    d = kitaru.diff(CHAT, [CHAT[0], changed])
    assert [(c.path, c.kind, c.role) for c in d.changes] == [
        ("[1]", "removed", "user"),
        ("[2].content", "changed", "assistant"),
    ]


def test_messages_that_are_objects():
    @dataclasses.dataclass
    class Message:
        type: str
        content: str

    d = kitaru.diff([Message("human", "a b"), Message("ai", "c d")], [Message("human", "a b"), Message("ai", "c e")])
    assert [(c.path, c.role) for c in d.changes] == [("[1].content", "ai")]


def tool_call(arguments, **more):
    function = {"name": "look", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
        **more,
    }


def model_call(arguments):
    return {"role": "model", "parts": [{"functionCall": {"name": "f", "args": arguments}}]}


@pytest.mark.parametrize(
    ("a", "b", "path", "said"),
    [
        (
            [CHAT[0], tool_call('{"p": "numpy"}')], [CHAT[0], tool_call('{"p": "scipy"}')],
            "[1].parts[0].arguments.p", "assistant",
        ),
        (
            {"message": tool_call('{"n": 1}')}, {"message": tool_call('{"n": 2}')},
            "message.parts[0].arguments.n", "assistant",
        ),
        (
            [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "a b"}]}],
            [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "a c"}]}],
            "[0].parts[0].content", "user",
        ),
        (
            [{"role": "user", "parts": [{"text": "a b"}]}, model_call({"x": 1})],
            [{"role": "user", "parts": [{"text": "a b"}]}, model_call({"x": 2})],
            "[1].parts[0].arguments.x", "assistant",
        ),
        (
            [{"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"x": 1}', "status": "done"}],
            [{"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"x": 1}', "status": "cut off"}],
            "[0].status", "assistant",
        ),
    ],
)  # fmt: skip
def test_messages_of_a_known_format_are_compared_by_their_parts(a, b, path, said):
    d = kitaru.diff(a, b)
    assert [(c.path, c.role) for c in d.changes] == [(path, said)]


def test_messages_that_say_the_same_in_other_words_still_differ():
    d = kitaru.diff([tool_call('{"p": 1}')], [tool_call('{"p":1}')])
    assert [(c.path, c.kind) for c in d.changes] == [("[0].tool_calls[0].function.arguments", "text")]
    blocks = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    d = kitaru.diff([{"role": "user", "content": "Hi"}], blocks)
    assert not d.same


def test_what_a_format_says_beyond_a_message_is_compared_too():
    d = kitaru.diff([tool_call("{}", name="a")], [tool_call('{"x": 1}', name="b")])
    assert [c.path for c in d.changes] == ["[0].parts[0].arguments.x", "[0].name"]


def test_rows_with_a_role_but_no_content_are_no_chat():
    d = kitaru.diff([{"role": "admin", "n": 1}], [{"role": "admin", "n": 2}])
    assert d.changes[0].role == ""


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.array([2**63], "u8"), np.array([2**63 + 1], "u8"), "1 of 1 item differ, by up to 1 (0.0% of the value)"),
        (np.array([-(2**63)]), np.array([2**63 - 1]), "by up to 1.84e+19 (200.0% of the value)"),
        (np.array([127, -128], "i1"), np.array([-128, -128], "i1"), "by up to 255 (200.8% of the value)"),
        (np.array([0.0, 1.0]), np.array([0.5, 1.0]), "1 of 2 items differ, by up to 0.5\n"),
        (np.array(1), np.array(2), "\n~ 1 -> 2"),
    ],
)
def test_by_how_much_arrays_differ(a, b, said):
    assert said in f"{kitaru.diff(a, b)!r}\n"


def test_an_array_by_statistics_and_its_first_differences():
    a = np.arange(2_500_000, dtype=np.float32).reshape(1000, 2500)
    b = a.copy()
    b[999, 1:9] += 2
    d = kitaru.diff({"w": a}, {"w": b})
    assert d.count == 8
    assert (d.changes[0].path, d.changes[0].kind) == ("w", "items")
    assert d.changes[0].detail["different"] == 8
    assert d.changes[0].detail["of"] == a.size
    assert d.changes[0].detail["largest"] == 2
    assert [c.path for c in d.changes[1:]] == [f"w[999, {i}]" for i in range(1, 6)]


@pytest.mark.parametrize(
    ("a", "b", "kinds"),
    [
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), []),
        (np.array(["NaT", "2026-01-01"], "M8[D]"), np.array(["NaT", "2026-01-01"], "M8[D]"), []),
        (np.array([1, 2]), np.array([1.0, 2.0]), ["dtype"]),
        (np.zeros((2, 3)), np.zeros((3, 2)), ["shape"]),
        (np.arange(3), np.arange(5), ["shape"]),
        (np.uint8([0, 255]), np.uint8([255, 0]), ["items", "changed", "changed"]),
        (np.array([1.0]), np.array([np.nan]), ["items", "changed"]),
        (np.array([{"a": 1}, None]), np.array([{"a": 2}, None]), ["items", "changed"]),
        (np.array(["a", "b"]), np.array([1, 2]), ["dtype", "items", "changed", "changed"]),
        (np.array(1.0), np.array(2.0), ["items", "changed"]),
        (np.array([]), np.array([]), []),
        (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 3.0)], "i4,f8"), ["items", "changed"]),
        (np.float32(1), np.float32(2), ["changed"]),
        (np.array([True]), np.array([False]), ["items", "changed"]),
    ],
)
def test_arrays(a, b, kinds):
    assert [kind for _, kind, *_ in found(a, b)] == kinds
    assert [kind for _, kind, *_ in found([a], [b])] == kinds


def test_the_largest_distance_of_small_unsigned_items_does_not_wrap_around():
    detail = kitaru.diff(np.uint8([0, 255]), np.uint8([255, 0])).changes[0].detail
    assert (detail["largest"], detail["largest_relative"]) == (255, 1)


# ---------------------------------------------------------------- frames

OLD = {"id": [1, 2, 3], "price": [1.0, float("nan"), 3.0], "name": ["x", "y", "z"]}
NEW = {"id": [2, 1, 4], "price": [float("nan"), 1.5, 3.0], "name": ["y", "x", "w"]}


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_frame_by_cell_where_columns_name_the_rows(frame):
    d = kitaru.diff(frame(OLD), frame(NEW), keys=["id"])
    detail = d.changes[0].detail
    assert (detail["removed"], detail["added"], detail["cells"], detail["columns"]) == (1, 1, 1, {"price": 1})
    assert [(c.path, c.kind) for c in d.changes[1:]] == [
        ("[id=3]", "removed"), ("[id=4]", "added"), ("[id=1].price", "changed"),
    ]  # fmt: skip
    assert d.count == 3


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_row_put_in_is_one_row_without_keys_too(frame):
    a = frame({"n": list(range(50)), "t": [f"t{i}" for i in range(50)]})
    b = frame({"n": [*range(10), 99, *range(10, 50)], "t": [f"t{i}" for i in [*range(10), 99, *range(10, 50)]]})
    assert [(p, kind) for p, kind, *_ in found(a, b)] == [("", "rows"), ("[10]", "added")]


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_and_types(frame):
    d = kitaru.diff(frame({"a": [1], "b": [1], "gone": [0]}), frame({"b": [1.0], "a": [1], "new": [0]}))
    assert [(c.path, c.kind) for c in d.changes] == [
        ("gone", "removed"), ("new", "added"), ("", "order"), ("b", "dtype"),
    ]  # fmt: skip


def test_rows_of_a_pandas_frame_go_by_an_index_of_its_own():
    a = pd.DataFrame({"v": [1, 2]}, index=["x", "y"])
    b = pd.DataFrame({"v": [2, 3]}, index=["y", "x"])
    assert found(a, b)[1:] == [("['x'].v", "changed", 1, 3)]


@pytest.mark.parametrize(
    ("a", "b", "cells"),
    [
        (pd.DataFrame({"v": pd.array([1, None], "Int64")}), pd.DataFrame({"v": pd.array([1, None], "Int64")}), 0),
        (pd.DataFrame({"v": pd.array([1, None], "Int64")}), pd.DataFrame({"v": pd.array([1, 2], "Int64")}), 1),
        (pd.DataFrame({"v": [[1], {"a": 1}]}), pd.DataFrame({"v": [[1], {"a": 2}]}), 1),
        (pd.DataFrame({"v": ["a", None]}), pd.DataFrame({"v": ["a", None]}), 0),
        (pd.DataFrame({"v": pd.Categorical(["a"])}), pd.DataFrame({"v": pd.Categorical(["b"])}), 1),
        (pd.DataFrame({"v": ["1"]}), pd.DataFrame({"v": [1]}), 1),
        (pd.DataFrame([[1, 2]], columns=["v", "v"]), pd.DataFrame([[1, 3]], columns=["v", "v"]), 1),
        (pd.Series([1, 2], name="v"), pd.Series([1, 3], name="v"), 1),
        (pl.Series("v", [1, None]), pl.Series("v", [1, None]), 0),
        (pl.DataFrame({"v": [[1], [2]]}), pl.DataFrame({"v": [[1], [3]]}), 1),
        (pl.DataFrame({"v": ["1"]}), pl.DataFrame({"v": [1]}), 1),
        (pd.DataFrame({"v": []}), pd.DataFrame({"v": []}), 0),
        (pd.DataFrame({"t": pd.to_datetime(["2026-01-01", None])}), pd.DataFrame({"t": [pd.Timestamp(0), pd.NaT]}), 1),
    ],
)
def test_cells(a, b, cells):
    assert len([1 for _, kind, *_ in found(a, b) if kind == "changed"]) == cells


def test_a_key_that_names_several_rows_is_said():
    old, new = pd.DataFrame({"id": [1, 1, 2], "v": [1, 2, 3]}), pd.DataFrame({"id": [1, 2, 1], "v": [1, 3, 9]})
    d = kitaru.diff(old, new, keys=["id"])
    assert [(c.path, c.a, c.b) for c in d.changes[1:]] == [("[id=1].v", 2, 9)]
    assert "1 cell changed: v 1; 1 key names several rows, paired in order" in repr(d)
    assert "several" not in repr(kitaru.diff(old.iloc[1:], new.iloc[1:], keys=["id"]))


def test_keys_that_name_no_column_are_refused():
    with pytest.raises(UsageError, match="keys=\\['uid'\\] names no column of both tables; there are: id, price, name"):
        kitaru.diff(pd.DataFrame(OLD), pd.DataFrame(NEW), keys=["uid"])
    with pytest.raises(UsageError, match="as a list"):
        kitaru.diff(pd.DataFrame(OLD), pd.DataFrame(NEW), keys="id")


def test_a_large_frame_keeps_the_first_changes_and_counts_all():
    a = pd.DataFrame({"n": range(100_000)})
    d = kitaru.diff(a, a + 1)
    assert (d.count, len(d.changes)) == (100_000, 1000)


def test_frames_of_two_libraries_are_two_values():
    assert [kind for _, kind, *_ in found(pd.DataFrame(OLD), pl.DataFrame(OLD))] == ["changed"]
