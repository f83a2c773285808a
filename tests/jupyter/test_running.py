"""Stepping through a flow in a notebook."""

from __future__ import annotations

import pytest

from kitaru_jupyter.refusal import UsageError
from kitaru_jupyter.running import parsed_call

AGENT = """
import kitaru

ran = []

@kitaru.checkpoint
def think(n):
    ran.append(f"think {n}")
    return n + 1

@kitaru.checkpoint
def act(thought, *, times=1):
    ran.append(f"act {thought}")
    return thought * 10 * times

@kitaru.flow
def agent(turns, start=0):
    seen = start
    for _ in range(turns):
        seen = act(think(seen))
    return seen
"""


@pytest.fixture
def agent(cells):
    cells(AGENT)
    return cells


def at(cells):
    return cells.shell.user_ns["step"].ref


def test_it_stops_before_the_first_step_and_its_inputs_are_bound(agent):
    ran = agent("%kitaru run agent(2)")
    exec_id = agent.notebook.get().exec_id
    assert (ran.out, ran.err, ran.error) == (f"{exec_id} paused before think#1; its inputs are in `step`\n", "", None)
    assert agent("dict(step.inputs), step.status, ran").value == ({"n": 0}, "pending", [])
    assert agent.notebook.get().status.value == "paused"


def test_next_goes_on_by_steps_and_at_the_end_gives_the_result(agent):
    agent("%kitaru run agent(2)")
    agent("%kitaru next")
    assert (at(agent), agent("dict(step.inputs)").value) == ("act#1", {"thought": 1, "times": 1})
    agent("%kitaru next 2")
    assert at(agent) == "act#2"
    ran = agent("%kitaru next 5")
    assert ran.value == 110
    assert f"{agent.notebook.get().exec_id} completed: 1 step run, 3 reused" in ran.out
    assert agent("ran").value == ["think 0", "act 1", "think 10", "act 11"]


def test_breakpoints_are_kept_and_until_is_once(agent):
    agent("%kitaru run agent(3) --break act --until think#2")
    assert at(agent) == "act#1"
    agent("%kitaru next")
    assert at(agent) == "think#2"
    agent("%kitaru continue")
    assert at(agent) == "act#2"
    agent("%kitaru continue --until think#3")
    assert at(agent) == "think#3"
    agent("%kitaru continue --break think#1")
    assert at(agent) == "act#3"
    assert agent.notebook.get().breaks == ("act", "think#1")
    assert agent("%kitaru continue").value == 1110


def test_breakpoints_can_be_cleared_and_resume_heeds_none(agent):
    agent("%kitaru run agent(3) --break act")
    agent("%kitaru resume --until act#2")
    assert (at(agent), agent.notebook.get().breaks) == ("act#2", ("act",))
    assert agent("%kitaru continue --clear").value == 1110
    agent("%kitaru run agent(2) --break act")
    assert agent("%kitaru resume").value == 110


def test_where_shows_what_is_done_and_what_comes_next(agent):
    agent("%kitaru run agent(2) --break act")
    agent("%kitaru next")
    assert agent("%kitaru where").text == (
        "agent: paused, 2 checkpoints\n"
        "\n"
        "   checkpoint  status     read            bound\n"
        "1  think#1     completed  n               output\n"
        "2  act#1       completed  thought, times  output\n"
        "\n"
        "next  think#2: pending\n"
        "  read    n  int 10\n"
        "\n"
        "stops before act"
    )
    assert "think#2" in agent("%kitaru where").html


def test_an_edit_takes_effect_when_it_goes_on(agent):
    agent("%kitaru run agent(2) --break act")
    agent("%kitaru next")
    first = agent.notebook.get().exec_id
    assert "1 step now stale" not in agent("%%kitaru_edit act#1\n7").out
    assert agent.notebook.get().exec_id != first
    assert "is a fork that has not run" in agent("%kitaru where").out
    agent("ran.clear()")
    agent("%kitaru continue")
    assert (at(agent), agent("dict(step.inputs), ran").value) == ("act#2", ({"thought": 8, "times": 1}, ["think 7"]))
    assert agent("%kitaru continue").value == 80


def test_the_step_before_which_it_stands_is_edited(agent):
    agent("%kitaru run agent(1) --until act")
    agent("%kitaru edit act.in.thought")
    assert agent.shell.rl_next_input == "%%kitaru_edit act.in.thought\n1"
    assert agent("%%kitaru_edit act.in.thought\n5").out == "act#1.in.thought edited; 1 step now stale: act#1\n"
    agent("%%kitaru_edit act.in.times\n2")
    assert agent("%kitaru next").value == 100
    assert agent("ran").value == ["think 0", "act 5"]


def test_new_code_takes_effect_when_it_goes_on(agent):
    agent("%kitaru run agent(2) --until act")
    agent("@kitaru.checkpoint\ndef act(thought, *, times=1):\n    return -thought")
    assert agent("%kitaru continue").value == 0


def test_a_checkout_takes_effect_when_it_goes_on(agent):
    agent("%kitaru run agent(2) --until act#2")
    assert "2 steps run again" in agent("%kitaru checkout think#1").out
    agent("ran.clear()")
    agent("%kitaru next")
    assert (at(agent), agent("ran").value) == ("think#2", ["act 1"])


def test_a_failure_is_the_flows_own_and_can_be_mended(agent):
    agent("@kitaru.checkpoint\ndef act(thought, *, times=1):\n    return 1 // 0")
    agent("%kitaru run agent(1)")
    ran = agent("%kitaru continue")
    assert type(ran.error) is ZeroDivisionError
    assert "failed at act#1; %kitaru debug stops where it fails" in ran.err
    agent("@kitaru.checkpoint\ndef act(thought, *, times=1):\n    return 5")
    assert agent("%kitaru next").value == 5


def test_inner_steps_are_stopped_at_and_stepped_through(cells):
    cells(AGENT)
    cells(
        "@kitaru.checkpoint\ndef turn(n):\n    return act(think(n))\n"
        "@kitaru.flow\ndef turns(n):\n    return turn(turn(n))"
    )
    cells("%kitaru run turns(1) --break turn#1/act")
    assert at(cells) == "turn#1/act#1"
    cells("%kitaru next")
    assert at(cells) == "turn#2"
    assert cells("%kitaru next").value == 210


def test_steps_that_are_submitted_and_mapped(cells):
    cells(AGENT)
    cells("@kitaru.flow\ndef wide(n):\n    return sum(f.result() for f in think.map(range(n)))")
    cells("%kitaru run wide(3)")
    seen = [at(cells)]
    for _ in range(2):
        cells("%kitaru next")
        seen.append(at(cells))
    assert seen == ["think#1", "think#2", "think#3"]
    assert cells("%kitaru next").value == 6
    assert sorted(cells("ran").value) == ["think 0", "think 1", "think 2"]


def test_an_async_flow_with_gathered_steps(cells):
    cells(
        "import asyncio, kitaru\n@kitaru.checkpoint\nasync def fetch(n):\n    await asyncio.sleep(0)\n    return n\n"
        "@kitaru.flow\nasync def wide(n):\n    return sum(await asyncio.gather(*(fetch(i) for i in range(n))))"
    )
    ran = cells("%kitaru run wide(3)")
    assert ran.error is None
    assert at(cells) == "fetch#1"
    cells("%kitaru next")
    assert at(cells) == "fetch#2"
    assert cells("%kitaru continue").value == 3


def test_an_async_flow_in_a_cell_with_more_in_it_is_refused_before_it_runs(cells):
    cells("import kitaru\n@kitaru.flow\nasync def wide(n):\n    return n")
    ran = cells("x = 1\nasync def f(): pass\nawait f()\n%kitaru run wide(3)")
    assert "give this line a cell of its own" in ran.err


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("agent(1)", 10),
        ("agent(1, start=2)", 30),
        ("agent(*[1], **{'start': 2})", 30),
        ("agent(len('it''s'), start=len({1, 2, 3}))", None),
        ("agent( 1 , start = max(1, (2)) )", 30),
        ("flows['agent'](1)", 10),
    ],
)
def test_a_call_is_written_as_in_a_cell(agent, call, result):
    agent("flows = {'agent': agent}")
    ran = agent(f"%kitaru run {call}")
    assert ran.error is None
    if result is not None:
        assert agent("%kitaru resume").value == result


def test_braces_are_pythons_in_a_call_and_a_variables_elsewhere(agent):
    agent("n = 1")
    agent("%kitaru run agent(len({n}), start=n)")
    assert agent("%kitaru resume").value == 20
    agent("where = agent.run(1).exec_id")
    assert "completed" in agent("%kitaru open {where}").out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("agent", "takes a call of a flow"),
        ("agent(1", "takes a call of a flow"),
        ("print(1)", "print is no flow"),
        ("agent()", "missing a required argument"),
        ("nobody(1)", "name 'nobody' is not defined: import the flow, or define it in a cell"),
        ("kitaru.nothing(1)", "import the flow, or define it in a cell"),
        ("agent(1) --frobnicate", "unrecognized arguments"),
        ("agent(1) --until a.b", "until='a.b'"),
        ("agent(1) --break x:y", "x:y"),
        ("agent(1) --exec-id a/b", "a/b"),
        ("agent(1) junk", "takes a call of a flow"),
    ],
)
def test_what_is_no_call_of_a_flow_begins_nothing(agent, line, says):
    ran = agent(f"%kitaru run {line}")
    assert ran.error is not None
    assert says in ran.err
    assert "Traceback" not in ran.out + ran.err
    assert agent.notebook.client.executions.list() == []


def test_an_argument_that_fails_shows_its_own_frames_alone(agent):
    agent("def wrong():\n    return 1 / 0")
    said = agent("%kitaru run agent(wrong())").out
    assert "ZeroDivisionError" in said
    assert "return 1 / 0" in said
    assert "kitaru_jupyter" not in said


WAITS = """
import kitaru

@kitaru.checkpoint
def think(n):
    return n + 1

@kitaru.flow
def asks(n):
    return think(n) if kitaru.wait(name="go", schema=bool) else 0
"""


def test_a_flow_that_waits_says_so_and_is_no_failure(cells):
    cells(WAITS)
    ran = cells("%kitaru run asks(1) --until think")
    assert (ran.error, ran.value) == (None, None)
    exec_id = cells.notebook.get().exec_id
    assert (ran.out, ran.text.partition("\n")[0]) == ("", f"{exec_id} waits for go")
    cells(f"kitaru.KitaruClient().executions.input({exec_id!r}, wait='go', value=True)")
    assert cells("%kitaru resume").value == 2


def test_an_execution_can_be_named(agent):
    agent("%kitaru run agent(1) --exec-id agent-by-name --until act")
    assert agent.notebook.get().exec_id == "agent-by-name"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("f(1)", ("f(1)", [])),
        (" f(1, (2)) --until a#2", ("f(1, (2))", ["--until", "a#2"])),
        ("--break a --until=b f(')')", ("f(')')", ["--break", "a", "--until=b"])),
        ("f(') --until x')", ("f(') --until x')", [])),
        ("f()(1)", ("f()(1)", [])),
    ],
)
def test_where_the_call_ends(text, found):
    assert parsed_call(text) == found


@pytest.mark.parametrize("text", ["", "f", "f(", "1 + f(1)", "f(1) g(2)"])
def test_what_is_no_call(text):
    with pytest.raises(UsageError):
        parsed_call(text)


@pytest.mark.parametrize("line", ["next", "continue", "where"])
def test_without_an_execution_nothing_goes_on(cells, line):
    assert "there is no execution yet" in cells(f"%kitaru {line}").err


@pytest.mark.parametrize("line", ["next", "continue"])
def test_a_notebooks_own_cells_are_not_stepped_through(cells, line):
    cells("%%kitaru_step s\nx = 1")
    assert "%kitaru run FLOW(ARGS) begins a flow" in cells(f"%kitaru {line}").err


def test_next_takes_a_number_of_steps(agent):
    agent("%kitaru run agent(1)")
    assert "1 or more" in agent("%kitaru next 0").err


def test_what_a_flow_writes_in_a_cells_step_is_left_alone(agent):
    agent("%%kitaru_step mine\nx = 1")
    agent("%kitaru run agent(1)")
    agent("%kitaru resume")
    agent("%kitaru close")
    agent("%%kitaru_step more\ny = x")
    assert [c.label for c in agent.checkpoints] == ["mine#1", "more#1"]
