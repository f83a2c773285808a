"""Names: what may be one, and how new ones are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kitaru.errors import InvalidNameError
from kitaru.ids import (
    check_exec_id,
    check_step_name,
    from_key_part,
    new_exec_id,
    new_nonce,
    new_writer,
    to_key_part,
)


@pytest.mark.parametrize("name", ["a", "A9", "audit-7f3c", "a.b_c-d", "9", "x" * 100])
def test_what_may_be_an_exec_id(name):
    assert check_exec_id(name) == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "a..b", ".a", "_a", "-a", "a b", "ä", "a\n", "x" * 101, None, 7, b"a"]
)
def test_what_may_not(name):
    with pytest.raises(InvalidNameError, match="cannot be an exec_id: it must be 1 to 100 letters, digits"):
        check_exec_id(name)


@given(st.text(max_size=20), st.integers(1, 16))
def test_a_new_exec_id_is_one_whatever_the_flow_is_called(flow, digits):
    assert check_exec_id(new_exec_id(flow, digits))


@given(st.text(alphabet="._-a", max_size=200))
def test_a_flow_of_dots_and_dashes_too(flow):
    assert check_exec_id(new_exec_id(flow))


def test_new_ids_begin_with_the_flow_and_differ():
    drawn = {new_exec_id("audit", 8) for _ in range(100)}
    assert len(drawn) == 100
    assert all(name.startswith("audit-") and len(name) == 14 for name in drawn)


def test_writers_and_nonces_differ():
    assert len({new_writer() for _ in range(100)}) == 100
    assert len({new_nonce() for _ in range(100)}) == 100
    assert len(new_nonce()) == 16


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_any_text_can_be_one_part_of_a_key(text):
    part = to_key_part(text)
    assert "/" not in part
    assert part not in {".", ".."}
    assert from_key_part(part) == text


def test_a_step_name_is_checked():
    assert check_step_name("größe") == "größe"
    with pytest.raises(InvalidNameError, match="a lambda has no name"):
        check_step_name("<lambda>")
    with pytest.raises(InvalidNameError, match=r"without '/', ':', '#', '~', '@', '.', white space"):
        check_step_name("a/b")
    with pytest.raises(InvalidNameError):
        check_step_name(7)
