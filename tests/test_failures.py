"""A recorded failure keeps what there is to say, and the same `except` catches it again."""

from __future__ import annotations

import doctest
import json

import ormsgpack
import pydantic
import pytest

from kitaru import failures
from kitaru.errors import RecordedFailureError, StepTimeoutError
from kitaru.failures import Failure, raise_again, record


class Plain(Exception):
    pass


class OtherArguments(Exception):
    made = 0

    def __init__(self, a, b, *, c):
        type(self).made += 1
        super().__init__(f"{a}-{b}")
        self.a, self.b, self.c = a, b, c


class Slotted(Exception):
    __slots__ = ("code",)


class NewWantsMore(Exception):
    def __new__(cls, one, two):
        return super().__new__(cls, one)

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


class Unsayable(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class OwnGroup(ExceptionGroup):
    def derive(self, excs):
        return OwnGroup(self.message, excs)


class Model(pydantic.BaseModel):
    size: int


class Stop(BaseException):
    pass


def raised(exception, **kwargs):
    try:
        raise exception
    except BaseException as caught:
        return caught


def again(exception):
    """Through the bytes of a journal."""
    wire = ormsgpack.unpackb(ormsgpack.packb(record(exception).to_wire()))
    return raise_again(Failure.from_wire(wire))


def unicode_error():
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error


def syntax_error():
    try:
        compile("a b", "x.py", "exec")
    except SyntaxError as error:
        return error


def attribute_error():
    try:
        object().nothing
    except AttributeError as error:
        return error


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("a", 1, (2, None)),
        ValueError(),
        KeyError("k"),
        Plain({"a": [1]}),
        OtherArguments(1, "2", c=[3]),
        NewWantsMore("x", 2),
        FileNotFoundError(2, "No such file", "/nowhere"),
        OSError(28, "No space left"),
        OSError("odd"),
        PermissionError(13, "denied", "a", None, "b"),
        unicode_error(),
        UnicodeEncodeError("ascii", "\xff", 0, 1, "why"),
        ImportError("no", name="n", path="p"),
        StopIteration(3),
        syntax_error(),
        json.JSONDecodeError("bad", "{", 1),
        StepTimeoutError("took longer"),
        TimeoutError("…"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_failure_comes_back_as_its_own_type_and_equal(exception):
    found = again(exception)
    assert type(found) is type(exception)
    assert found.args == exception.args
    assert str(found) == str(exception)
    state = {key: value for key, value in vars(found).items() if key != "__notes__"}
    assert state == vars(exception)
    for name in (
        "errno",
        "strerror",
        "filename",
        "filename2",
        "start",
        "end",
        "object",
        "name",
        "value",
        "lineno",
    ):
        assert getattr(found, name, None) == getattr(exception, name, None)


def test_slots_and_the_name_of_a_missing_attribute_come_back():
    slotted = Slotted("x")
    slotted.code = 7
    assert again(slotted).code == 7
    error = attribute_error()
    assert again(error).name == "nothing"
    assert str(again(error)) == str(error)


def test_no_code_of_the_class_runs():
    error = OtherArguments(1, 2, c=3)
    before = OtherArguments.made
    assert again(error).c == 3
    assert OtherArguments.made == before


def test_a_group_comes_back_with_its_members():
    group = raised(OwnGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError("k"), OSError(2, "x")])]))
    found = again(group)
    assert type(found) is OwnGroup
    assert found.message == "several"
    caught = []
    try:
        raise found
    except* KeyError as keys:
        caught.append(keys.exceptions[0].exceptions[0].args)
    except* (ValueError, OSError) as rest:
        caught.append(len(rest.exceptions))
    assert caught == [("k",), 2]


def test_the_chain_of_causes_comes_back():
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise Plain("second")
        except Plain as second:
            raise OtherArguments(1, 2, c=3) from second
    except OtherArguments as third:
        failure = record(third)
        found = again(third)
    assert failure.cause.type.endswith(":Plain")
    assert failure.cause.context.message == "'first'"
    assert found.__suppress_context__
    assert type(found.__cause__) is Plain
    assert type(found.__cause__.__context__) is KeyError
    assert not found.__cause__.__suppress_context__


def test_a_suppressed_context_is_not_recorded():
    try:
        try:
            raise KeyError("secret")
        except KeyError:
            raise Plain("shown") from None
    except Plain as error:
        failure = record(error)
    assert failure.suppressed
    assert failure.context is None
    assert failure.cause is None


def test_cycles_and_long_chains_are_bounded():
    one, two = Plain(1), Plain(2)
    one.__cause__, two.__cause__ = two, one
    assert record(one).cause.cause is None
    last = Plain(0)
    for number in range(1, 3000):
        following = Plain(number)
        following.__cause__ = last
        last = following
    depth, failure = 0, record(last)
    while failure is not None:
        depth, failure = depth + 1, failure.cause
    assert depth == 20


def test_the_traceback_is_text_without_frames_of_kitaru():
    scope = {"__name__": "kitaru.engine"}
    exec(compile("def call(f): return f()", "engine.py", "exec"), scope)

    def inner():
        raise Plain("here")

    def outer():
        scope["call"](inner)

    try:
        scope["call"](outer)
    except Plain as error:
        text = record(error).traceback
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("\nPlain: here")
    assert "in inner" in text
    assert "in outer" in text
    assert "engine.py" not in text


def test_what_kitaru_itself_raised_keeps_its_last_frames():
    scope = {"__name__": "kitaru.engine", "Plain": Plain}
    exec(compile("def call(): raise Plain('x')", "engine.py", "exec"), scope)
    with pytest.raises(Plain) as caught:
        scope["call"]()
    assert "engine.py" in record(caught.value).traceback


def test_long_tracebacks_and_messages_are_cut_in_the_middle():
    def deep(n):
        if n:
            deep2(n - 1)
        raise Plain("x" * 1_000_000 + "END")

    def deep2(n):
        deep(n)

    try:
        deep(300)
    except Plain as error:
        failure = record(error)
    assert len(failure.traceback) <= 64 * 1024
    assert len(failure.message) <= 16 * 1024
    assert failure.message.endswith("END")
    assert "left out" in failure.traceback


def test_recording_never_raises():
    failure = record(raised(Unsayable("x")))
    assert failure.message == "<its __str__ raised RuntimeError>"
    assert type(raise_again(failure)) is Unsayable
    bad = Plain("\ud800 lone")
    ormsgpack.packb(record(raised(bad)).to_wire())
    bad.__notes__ = 3
    assert record(bad).notes == ()


def test_the_private_tag_is_never_recorded_and_notes_are():
    error = raised(Plain("x"))
    error.__kitaru_record__ = object()
    error.add_note("look here")
    found = again(error)
    assert not hasattr(found, "__kitaru_record__")
    assert found.__notes__[0] == "look here"
    assert found.__notes__[1].startswith("Recorded traceback:\nTraceback (most recent call last):")
    assert len(again(found).__notes__) == 2


def test_summaries_are_one_short_line():
    failure = record(Plain("a\nb\x1b[31m\u202e" + "c" * 500))
    assert failure.summary().startswith("Plain: a b [31m c")
    assert len(failure.summary()) == 200
    assert failure.summary().isprintable()
    assert record(Plain()).summary() == "Plain"


def local_class():
    class Local(Exception):
        pass

    return Local("x")


def validation_error():
    try:
        Model(size="many")
    except pydantic.ValidationError as error:
        return error


@pytest.mark.parametrize(
    ("exception", "why"),
    [
        (Plain(object()), "no data"),
        (local_class(), "not here"),
        (validation_error(), ""),
        (Stop("x"), "no Exception"),
        (KeyboardInterrupt(), "no Exception"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_had_again_says_so(exception, why):
    found = again(exception)
    assert type(found) is RecordedFailureError
    assert type(exception).__qualname__ in str(found)
    assert why in str(found)
    assert found.failure.message == str(exception)


@pytest.mark.parametrize("name", ["builtins:int", "builtins:print", "nowhere.at.all:X", "os:system", "", "a:b:c"])
def test_a_recorded_type_that_is_no_exception_is_never_called(name):
    value = record(Plain(1)).value
    assert type(raise_again(Failure(name, "m", value=value))) is RecordedFailureError


def test_damaged_bytes_are_no_crash():
    assert type(raise_again(Failure("builtins:ValueError", "m", value=b"\xc1"))) is RecordedFailureError


def test_a_type_of_the_script_is_found_by_its_path(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("class Mine(Exception): pass\n")
    value = record(Plain(1)).value
    found = raise_again(Failure("__main__:Mine", "m", value=value), script=str(path))
    assert type(found).__name__ == "Mine"
    assert found.args == (1,)


def test_unknown_keys_of_a_newer_writer_are_skipped():
    wire = record(Plain(1)).to_wire() | {"newer": 1}
    assert Failure.from_wire(wire).to_wire() == record(Plain(1)).to_wire()


def test_the_examples_run():
    assert doctest.testmod(failures).failed == 0
