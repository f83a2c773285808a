"""Previews: what a person recognises a value by, small, safe, and made without asking the value anything."""

# ruff: noqa: RUF001 - shapes are written with a multiplication sign

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import io
import sys
import time
import uuid
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from pathlib import PurePosixPath

import ormsgpack
import pytest
from hypothesis import given, settings, strategies as st

from kitaru.previews import messages, preview, preview_line, table

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
pydantic = pytest.importorskip("pydantic")
image = pytest.importorskip("PIL.Image")


def size(p):
    return len(ormsgpack.packb(p))


def texts(p):
    """Every text in a preview, however deep."""
    if isinstance(p, str):
        yield p
    elif isinstance(p, dict):
        for part in p.values():
            yield from texts(part)
    elif isinstance(p, list):
        for part in p:
            yield from texts(part)


def checked(value):
    """The preview of `value`, held against what all of them must be."""
    p = preview(value)
    assert size(p) <= (2048 if "rows" in p else 500), p
    assert all(text.isprintable() for text in texts(p)), p
    assert {"type", "text"} <= set(p)
    assert len(preview_line(p, 60)) <= 60
    assert not p["text"].startswith("<no preview"), p
    return p


# ---- containers and text ---------------------------------------------------------------------------


def test_containers_say_type_length_and_what_they_begin_with():
    assert preview({"name": "numpy", "n": [1, 2]}) == {
        "type": "dict", "len": 2, "text": "{'name': 'numpy', 'n': [1, 2]}"
    }  # fmt: skip
    assert checked(list(range(10**6))) == {"type": "list", "len": 10**6, "text": "[0, 1, 2, 3, 4, …]"}
    assert checked({"b", "a"})["text"] == "{'a', 'b'}"
    assert checked((1,))["text"] == "(1,)"
    assert checked(None) == {"type": "NoneType", "text": "None"}
    assert checked("a\x1b[31m\u202e\n")["text"] == "'a\\x1b[31m\\u202e\\n'"
    assert checked("é" * 10**6)["len"] == 10**6
    assert checked(b"\x00" * 10**6)["text"].endswith("…")
    assert checked(1 << 10_000)["text"] == "<int of 10001 bits>"


def test_one_long_value_does_not_hide_the_names_of_the_others():
    shown = checked({"page": "x" * 9999, "rows": [["y" * 999] * 9] * 9, "score": 0.5, "done": True})["text"]
    assert all(name in shown for name in ("'page': ", "'rows': ", "'score': 0.5", "'done': True"))


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    why: str


class Model(pydantic.BaseModel):
    n: int
    _secret: int = 3


Pair = namedtuple("Pair", "left right")  # noqa: PYI024


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1, "a"), "Point(x=1, why='a')"),
        (Model(n=1), "Model(n=1)"),
        (Pair(1, 2), "Pair(left=1, right=2)"),
        (Colour.RED, "Colour.RED"),
        (Counter("aab"), "Counter({'a': 2, 'b': 1})"),
        (OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (deque([1, 2]), "deque([1, 2])"),
        (ValueError("no"), "ValueError('no')"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (dt.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (range(3), "range(0, 3)"),
        (int, "<class int>"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_values_are_shown_by_what_they_hold(value, text):
    assert checked(value)["text"] == text


@settings(max_examples=150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=300),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=30), inner, max_size=12),
        max_leaves=40,
    )
)
def test_any_plain_value_has_a_small_safe_preview(value):
    checked(value)


# ---- chat messages ---------------------------------------------------------------------------------


def test_chat_messages_are_shown_by_role():
    chat = [{"role": "user", "content": "Which way?"}, {"role": "assistant", "content": "North,\n\tI think."}]
    p = checked(chat)
    assert p["text"] == "user: Which way?; assistant: North, I t…"
    assert preview_line(p) == "list(2) user: Which way?; assistant: North, I think.", "the rest is told by role"
    assert messages(p) == [("user", "Which way?"), ("assistant", "North, I think.")]
    p = checked(chat * 500)
    assert preview_line(p) == "list(1000) user: Which way?; (+998); assistant: North, I think."
    assert [role for role, _ in messages(p)] == ["user", "assistant"], "the first and the last"
    assert [role for role, _ in messages(checked(chat[:1] * 3))] == ["user"] * 3
    assert p["len"] == 1000


def test_a_history_inside_of_a_state_is_shown_by_role_too():
    chat = [{"role": "user", "content": "hi"}] * 1000
    assert checked({"messages": chat, "n": 3})["text"] == "{'messages': [user: hi; (+998); user: hi], 'n': 3}"


class Role(str, enum.Enum):  # noqa: UP042 - as users write it
    USER = "user"


class Said(pydantic.BaseModel):
    role: Role
    content: str


class AIMessage(pydantic.BaseModel):
    content: str
    type: str = "ai"


def test_messages_of_other_forms_are_recognised():
    assert checked([Said(role=Role.USER, content="hi")])["text"] == "user: hi"
    assert checked([AIMessage(content="hi")])["text"] == "ai: hi"
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]}
    assert checked([called])["text"] == "assistant: find({})"
    blocks = [{"type": "text", "text": "see"}, {"type": "image_url"}, {"type": "tool_use", "name": "f", "input": {}}]
    assert checked([{"role": "user", "content": blocks}])["text"] == "user: see [image_url] f({})"
    assert checked([{"role": "user", "parts": [{"text": "hi"}]}])["text"] == "user: hi"
    assert checked([{"role": "assistant", "content": ""}])["text"] == "assistant: "


def test_what_is_no_chat_is_shown_as_data():
    for value in (
        [{"role": "admin", "name": "x"}],
        [{"role": 5, "content": "x"}],
        [{"role": "user", "content": "x"}, {"n": 1}],
        [{"content": "x"}],
        [1, {"role": "user", "content": "x"}],
    ):
        assert "messages" not in checked(value)
        assert checked(value)["text"].startswith("[")


def test_hostile_messages_are_escaped_and_cut():
    p = checked([{"role": "us\x1ber" * 99, "content": "\u202e\x1b[2J" * 10**5}] * 3)
    assert all("\\x1b" in said for _, said in messages(p))
    checked([{"role": "用户", "content": "你好，世界" * 10**4}] * 3)


def test_a_preview_costs_the_same_however_long_the_list_is():
    short = [{"role": "user", "content": "x" * 1000}] * 4
    many = short * 250_000

    def best(value):
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            preview(value)
            times.append(time.perf_counter() - begun)
        return min(times)

    assert best(many) < 3 * best(short)


# ---- hostile objects -------------------------------------------------------------------------------


class Hangs:
    """Whatever is asked of it takes long, and fails."""

    asked = []
    armed = False  # while a test makes its values, it is as quiet as it can be

    def _answer(self, *args, **kwargs):
        if not Hangs.armed:
            raise AttributeError
        Hangs.asked.append(args)
        time.sleep(1)
        raise RuntimeError("asked")

    __eq__ = __ne__ = __lt__ = __repr__ = __str__ = __len__ = __bool__ = __iter__ = __getitem__ = _answer
    __getattr__ = __contains__ = __format__ = __bytes__ = __int__ = __float__ = __index__ = __fspath__ = _answer
    __array__ = __dataframe__ = __call__ = __sizeof__ = __dir__ = keys = items = _answer

    def __hash__(self):
        return self._answer() if Hangs.armed else 7


class HangsAsList(Hangs, list):
    pass


class HangsAsDict(Hangs, dict):
    pass


class HangsAsText(str):  # noqa: SLOT000
    __eq__ = __repr__ = __str__ = __len__ = __getitem__ = Hangs._answer
    __hash__ = str.__hash__


class Meta(type):
    __eq__ = __instancecheck__ = __subclasscheck__ = __getattribute__ = __repr__ = __hash__ = Hangs._answer


class OfMeta(metaclass=Meta):
    pass


@dataclasses.dataclass(eq=False)
class Holds:
    role: object
    content: object
    __eq__ = __hash__ = __repr__ = Hangs._answer


def objects(*things):
    array = np.empty(len(things), dtype=object)
    for n, thing in enumerate(things):
        array[n] = thing
    return array


def numpy_impostor():
    cls = type("ndarray", (Hangs,), {"shape": property(Hangs._answer), "dtype": property(Hangs._answer)})
    cls.__module__ = "numpy"
    return cls()


def path_impostor():
    cls = type("PosixPath", (Hangs,), {})
    cls.__module__ = "pathlib"
    return cls()


@contextlib.contextmanager
def armed():
    """In here nothing may be asked."""
    Hangs.asked.clear()
    Hangs.armed = True
    try:
        yield
    finally:
        Hangs.armed = False
    assert not Hangs.asked


def test_no_object_is_ever_asked_anything():
    thing = Hangs()
    keyed = {thing: 1, "role": 2}
    in_a_set = {thing}
    array = objects(thing, None)
    with armed():
        begun = time.perf_counter()
        for value in (
            thing,
            [thing, {"a": thing}],
            keyed,
            [keyed],
            in_a_set,
            (thing,),
            HangsAsList([1, thing]),
            HangsAsDict(a=thing),
            HangsAsText("hello"),
            [HangsAsText("hello")],
            [{"role": HangsAsText("user"), "content": HangsAsText("x")}],
            [{"role": "user", "content": thing}],
            [{"role": "user", "content": [thing, {"type": thing, "text": thing, "name": thing}]}],
            [{"role": "user", "content": None, "tool_calls": thing}],
            Holds("user", thing),
            [Holds(thing, thing), Holds("user", thing)],
            OfMeta(),
            [OfMeta(), [OfMeta()]],
            {"a": OfMeta},
            OfMeta,
            ValueError(thing),
            numpy_impostor(),
            [numpy_impostor()],
            path_impostor(),
            array,
        ):
            assert "0x" not in checked(value)["text"], "an address in memory differs in each process"
        assert time.perf_counter() - begun < 1


def test_what_changes_or_refers_to_itself_is_no_failure():
    loop = []
    loop += [loop, {"loop": loop}]
    assert checked(loop)["len"] == 2
    deep = None
    for _ in range(100_000):
        deep = [deep]
    assert checked(deep)["text"] == "[[[[…]]]]"


# ---- arrays and images -----------------------------------------------------------------------------


def test_arrays_say_shape_dtype_and_their_first_numbers():
    assert checked(np.zeros((1000, 3), "float32")) == {
        "type": "numpy.ndarray", "dtype": "float32", "shape": [1000, 3], "range": [0.0, 0.0],
        "text": "1,000 × 3 float32 [0, 0, 0, 0, 0, 0, …], 0 to 0",
    }  # fmt: skip
    p = checked(np.array([1.5, np.nan, -3, np.inf][:3]))
    assert (p["range"], p["text"]) == ([-3.0, 1.5], "3 float64 [1.5, nan, -3], -3 to 1.5")
    assert "range" not in checked(np.zeros(10**6))
    assert checked(np.array([np.nan, np.nan]))["text"] == "2 float64 [nan, nan]"
    assert checked(np.array(3.5))["text"] == "float64 3.5"
    assert checked(np.array([], "int64"))["text"] == "0 int64 []"
    assert checked(np.arange(4).reshape(2, 2).T)["text"].startswith("2 × 2 int64 [0, 2, 1, 3]")
    assert checked(np.array(["a\x1b", "b"]))["text"] == "2 <U2 ['a\\x1b', 'b']"
    assert checked(np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]))["text"] == "1 (a int32, b float64) [(1, 2.5)]"
    assert checked(np.array(["2026-01-02"], "M8[D]"))["text"] == "1 datetime64[D] [2026-01-02]"
    assert checked(np.zeros((1,) * 20))["dtype"] == "float64"
    assert checked(np.zeros(3, [(f"field {i}" * 9, "f8") for i in range(99)]))
    assert checked(np.ma.array([1, 2], mask=[0, 1]))["text"] == "2 int64"
    assert checked(np.array(["x" * 10**6] * 3))


@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(1.5), np.longdouble(1.5), np.complex64(1.5)])
def test_scalars_of_numpy_are_shown_as_what_they_are(value):
    assert checked(value)["text"].startswith((f"{type(value).__name__}(1.5", f"{type(value).__name__}((1.5"))


def test_a_memory_mapped_array_is_not_read_whole(tmp_path):
    array = np.memmap(tmp_path / "a", mode="w+", dtype="f8", shape=(1 << 27,))  # 1 GB, of which nothing is on disk
    begun = time.perf_counter()
    assert checked(array)["text"] == "134,217,728 float64 [0, 0, 0, 0, 0, 0, …]"
    assert time.perf_counter() - begun < 0.5


class Odd(np.ndarray):
    shape = property(Hangs._answer)
    __getitem__ = __repr__ = __len__ = Hangs._answer

    def __array_finalize__(self, made_from):
        if Hangs.armed:
            Hangs._answer(self)


def test_a_subclass_of_an_array_is_shown_past_its_own_code():
    odd = np.ndarray.__new__(Odd, (3,), "int64", np.arange(3))
    with armed():
        assert checked(odd)["text"].startswith("3 int64 [0, 1, 2]")


def test_images_say_mode_and_size():
    picture = image.new("RGB", (640, 480))
    assert checked(picture) == {"type": "PIL.Image.Image", "mode": "RGB", "size": [640, 480], "text": "640 × 480 RGB"}
    file = io.BytesIO()
    picture.save(file, "PNG")
    assert checked(image.open(io.BytesIO(file.getvalue())))["size"] == [640, 480]


# ---- frames ----------------------------------------------------------------------------------------

DAYS = pd.date_range("2026-01-01", periods=1000, freq="D", unit="ns")
SALES = pd.DataFrame({"day": DAYS, "price": 0.5, "who": "Ada\x1b[31m<b>", "n": pd.array([1, None] * 500, "Int64")})


def test_frames_say_rows_columns_schema_and_their_first_rows():
    p = checked(SALES)
    assert p["type"] == "pandas.DataFrame"
    assert p["text"].startswith("1,000 × 4: day datetime64[ns], price float64, who ")
    found = table(p)
    assert (found.names, found.more_rows, found.more_columns) == (["day", "price", "who", "n"], 995, 0)
    assert found.rows[1] == ["2026-01-02 00:00:00", "0.5", "Ada\\x1b[31m<b>", "<NA>"]
    assert not found.labels
    assert preview_line(p, 400).startswith("pandas.DataFrame 1,000 × 4: day ")


def test_labels_duplicates_and_levels_are_shown():
    assert table(checked(SALES.set_index("day"))).labels[0] == "2026-01-01 00:00:00"
    assert table(checked(pd.DataFrame([[1, 2]], columns=["a", "a"], index=["r"]))).names == ["a", "a"]
    levels = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", 1)]))
    assert table(checked(levels)).names == ["('a', 1)"]
    mixed = pd.DataFrame({"o": [object(), [1, 2], "x" * 999]})
    assert [row[0] for row in table(checked(mixed)).rows] == ["<object>", "[1, 2]", "x" * 23 + "…"]
    category = pd.DataFrame({"c": pd.Categorical(["x", "y"])})
    assert table(checked(category)).rows == [["x"], ["y"]]


@pytest.mark.parametrize("columns", [0, 1, 17, 5000])
def test_a_wide_frame_is_cut_to_size(columns):
    wide = pd.DataFrame(np.zeros((10, columns)), columns=[f"用户列 {i}" * 20 for i in range(columns)])
    found = table(checked(wide))
    assert len(found.names) + found.more_columns == columns
    assert len(found.rows) + found.more_rows == 10


def test_frames_of_other_libraries():
    p = checked(pl.DataFrame({"a": [1, 2], "b": ["x", "\u202e"], "deep": [[1], [2]], "d": [dt.date(2026, 1, 1)] * 2}))
    assert p["text"] == "2 × 4: a Int64, b String, deep List(Int64), d Date"
    assert table(p).rows == [["1", "x", "…", "2026-01-01"], ["2", "\\u202e", "…", "2026-01-01"]]
    arrow = pa.table({"a": [1, 2], "t": pa.array([1, None], pa.timestamp("ns", "UTC")), "deep": [[1], [2, 3]]})
    assert table(checked(arrow)).rows == [["1", "1970-01-01 00:00:00.000…", "…"], ["2", "None", "…"]]
    assert checked(arrow.to_batches()[0])["type"] == "pyarrow.RecordBatch"
    assert checked(pl.DataFrame())["shape"] == [0, 0]
    assert "rows" not in checked(pl.LazyFrame({"a": [1]}))


def test_series_say_length_dtype_and_first_values():
    assert checked(SALES["price"])["text"] == "price: float64 [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, …]"
    assert checked(pl.Series("s", [1.5, 2]))["text"] == "s: Float64 [1.5, 2]"
    assert checked(pa.array([1, 2]))["text"] == "int64 [1, 2]"
    assert checked(SALES.index)["len"] == 1000
    assert checked(pd.array([1, None], dtype="Int64"))["text"] == "Int64 [1, <NA>]"
    assert checked(pd.Timestamp("2026-01-01"))["text"] == "2026-01-01 00:00:00"
    assert checked(pd.NA)["text"] == "<NA>"


def test_objects_in_a_frame_are_asked_nothing():
    frame = pd.DataFrame(dict.fromkeys(["o"], objects(Hangs(), HangsAsText("t"))))
    with armed():
        checked(frame)
        checked(frame["o"])
        checked({"frame": frame})


class Money(pd.api.extensions.ExtensionDtype):
    type, name = float, property(Hangs._answer)
    __str__ = __repr__ = Hangs._answer


def test_an_extension_array_of_somebodys_own_is_not_read():
    from kitaru import samples

    dtype = Money()
    with armed():
        assert samples._is_foreign(dtype)
        assert samples._dtype(dtype) == "Money"


def test_values_of_libraries_inside_of_containers_are_named_in_short():
    inside = {"frame": SALES, "array": np.zeros((3, 3)), "image": image.new("L", (2, 2)), "n": np.int64(2)}
    shown = checked(inside)["text"]
    assert "'frame': DataFrame(1,000 × 4: day " in shown
    assert "'array': ndarray(3 × 3 float64 [0, 0" in shown
    assert "'image': Image(2 × 2 L)" in shown


def test_no_library_is_imported_for_a_preview():
    import subprocess

    code = (
        "import sys, datetime, kitaru.previews as p\n"
        "p.preview({'a': [1, {'role': 'user', 'content': 'x'}], 'd': datetime.date.today()})\n"
        "print(*{'numpy', 'pandas', 'polars', 'pyarrow', 'PIL', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


# ---- previews from anywhere ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "p",
    [
        {},
        {"columns": 3, "rows": [], "shape": [1, 1]},
        {"columns": [["a", "b"]], "rows": [["1", "2"]], "shape": [1, 1]},
        {"columns": [["a", "b"]], "rows": [["1"]], "shape": None},
        {"columns": [["a", "b"]], "rows": [["1"]], "shape": ["x", 2]},
        {"columns": [["a"]], "rows": [], "shape": [0, 1]},
        {"columns": [{"a": 1, "b": 2}], "rows": [], "shape": [0, 1]},
    ],
)
def test_what_is_no_table_is_none(p):
    assert table(p) is None


def test_what_a_foreign_preview_says_is_made_harmless():
    found = table({"columns": [["\x1b", 5]], "rows": [["\n"], [None]], "shape": [-1, 9], "labels": ["\r", 3]})
    assert found == (["\\x1b"], ["?"], [["\\n"], ["?"]], ["\\r", "?"], 0, 8)
    assert messages({"messages": [["\x1b", 3]]}) == [("\\x1b", "?")]
    assert messages({"messages": [[1, 2, 3]]}) == messages({"messages": "ab"}) == []
