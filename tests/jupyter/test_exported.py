"""Exported notebooks: what they hold, and that `pytest --nbval` finds it so in a fresh kernel."""

from __future__ import annotations

import ast

import nbformat
import pandas as pd
import pytest
from hypothesis import given, strategies as st

import kitaru
from kitaru import KitaruClient, Session
from kitaru.errors import UsageError
from kitaru_jupyter.exported import Checked, Edited, ExportedCell, export, literal, sanitized


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def check(variable, value, **more):
    return Checked(variable, kitaru.digest(value), value, **more)


def printed(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(value):
    data = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    return {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 77}


# ---------------------------------------------------------------- in a fresh kernel


PLAIN = [
    ExportedCell("packages = [{'name': 'numpy'}, {'name': 'boto3'}]", "collect"),
    ExportedCell(
        "print('auditing')\nimport sys\nprint('careful', file=sys.stderr)\nprint(len(packages))\nlen(packages)",
        "look",
        outputs=[printed("auditing\n"), printed("careful\n", "stderr"), printed("2\n"), shown(2)],
    ),
    ExportedCell(
        "licences = {p['name']: 'BSD' for p in packages}\ntotal, empty = 0.5 * len(licences), None",
        "classify",
        "--in packages --out licences,total,empty",
        checked=[
            check("licences", {"numpy": "BSD", "boto3": "BSD"}),
            check("total", 1.0),
            check("empty", None),
        ],
    ),
    ExportedCell("object()", outputs=[shown(object())]),
]


@pytest.mark.process
def test_plain_values_pass_and_another_value_is_seen(nbval):
    notebook = export(PLAIN)
    assert sources(notebook)[-4:-1] == [
        "assert licences == {'numpy': 'BSD', 'boto3': 'BSD'}",
        "assert total == 1.0",
        "assert empty is None",
    ]
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (8, 0), out
    notebook.cells[3].source = notebook.cells[3].source.replace("BSD", "GPL")
    notebook.cells[2].outputs[0]["text"] = "auditing\n3\n"
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (6, 2), out


@pytest.mark.process
def test_a_frame_is_checked_by_its_digest_and_an_edit_is_made_again(nbval):
    before = pd.DataFrame({"name": ["numpy", "boto3"], "risk": [1, 9]})
    after = before[before["name"] != "boto3"]
    cells = [
        ExportedCell(
            "import pandas as pd\ntable = pd.DataFrame({'name': ['numpy', 'boto3'], 'risk': [1, 9]})\ntable",
            "collect",
            outputs=[shown(before)],
            edits=[Edited("table", 'old[\n    old["name"] != "boto3"\n]', why="it is no\nlibrary of ours")],
            checked=[Checked("table", kitaru.digest(after), about="DataFrame(1 x 2)\nname\x1b[0m, risk")],
        ),
        ExportedCell("worst = int(table['risk'].max())", "judge", checked=[check("worst", 1)]),
    ]
    notebook = export(cells)
    assert sources(notebook)[0].splitlines() == ["import kitaru", "%load_ext kitaru", "%kitaru connect memory://export"]
    assert sources(notebook)[2].splitlines()[:2] == ["%%kitaru_step edit_table", "# it is no library of ours"]
    assert sources(notebook)[3].startswith("# DataFrame(1 x 2) name [0m, risk\nassert kitaru.digest(table) == ")
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (6, 0), out
    notebook.cells[2].source = notebook.cells[2].source.replace("boto3", "numpy")
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (4, 2), out


@pytest.mark.process
def test_a_cell_that_fails_must_fail_again_in_the_same_way(nbval):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no licence", "traceback": ["\x1b[31m…\x1b[0m"]}
    heard = [printed("here\n"), printed("hm\n", "stderr")]
    cells = [
        ExportedCell("n = 1", "judge"),
        ExportedCell(
            "print('here')\nimport sys; print('hm', file=sys.stderr)\nraise ValueError('no licence')",
            "judge",
            outputs=[*heard, error],
        ),
        ExportedCell("1 / 0", error=("ZeroDivisionError", "division by zero")),
        ExportedCell("raise OSError(f'at {id(n):#x}')", error=("OSError", "at 0x7f0123456789")),
    ]
    notebook = export(cells)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert tags == [[], [], ["raises-exception"], ["raises-exception"], ["nbval-ignore-output", "raises-exception"]]
    assert "judge#2" in notebook.cells[2].outputs[1]["text"]
    assert notebook.cells[2].outputs[2]["traceback"] == ["ValueError: no licence"]
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (5, 0), out
    notebook.cells[2].source = notebook.cells[2].source.replace("raise", "str")
    notebook.cells[3].source = "n / 'a'"
    passed, failed, out = nbval(notebook)
    assert (passed, failed) == (3, 2), out


# ---------------------------------------------------------------- cells


def test_the_same_cells_make_the_same_notebook_numbered_from_top_to_bottom():
    notebook = export(PLAIN)
    assert nbformat.writes(notebook) == nbformat.writes(export(PLAIN))
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.metadata.kernelspec.name) == (4, "python3")
    assert [cell.id for cell in notebook.cells] == [f"cell-{n:02}" for n in range(1, 9)]
    assert [cell.execution_count for cell in notebook.cells] == [*range(1, 9)]
    assert notebook.cells[2].outputs[-1].execution_count == 3
    assert PLAIN[1].outputs[-1]["execution_count"] == 77, "what was recorded stays as it is"
    assert sources(notebook)[3].startswith("%%kitaru_step classify --in packages --out licences,total,empty\n")
    assert sources(notebook)[-1] == "object()"


def test_where_it_records_can_be_said():
    assert sources(export([], store="s3://bucket/prefix")) == ["%load_ext kitaru\n%kitaru connect s3://bucket/prefix"]
    assert sources(export([], store=None)) == ["%load_ext kitaru"]


def test_what_has_no_digest_that_lasts_is_not_checked_and_said_to_be_so():
    checked = [
        Checked("model", "0" * 64, kind="pickle", about="Client(\n'a')"),
        Checked("n", "0" * 64, kind="reference"),
    ]
    assert sources(export([ExportedCell("", checked=checked)]))[2:] == [
        "# model is not checked: it has no data format (Client( 'a'))",
        "# n is not checked: it has no data format",
    ]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (Edited("n", "old + 1"), "n = (lambda old: old + 1)(n)"),
        (
            Edited("n", "a = 1; b = '''\n  x'''; (a,\n old)  # so"),
            "old = n\na = 1; b = '''\n  x'''\nn = (a,\n old)\ndel old",
        ),
        (Edited("n", value={"a": [1, (2,)]}), "n = {'a': [1, (2,)]}"),
        (Edited("ü", "ä = 'é'; ä"), "old = ü\nä = 'é'\nü = ä\ndel old"),
    ],
)
def test_an_edit_is_a_step_of_its_own(edit, code):
    line, _, rest = sources(export([ExportedCell("n = 0", edits=[edit])]))[2].partition("\n")
    assert (line, rest) == (f"%%kitaru_step edit_{edit.variable}", code)
    ast.parse(rest)


@pytest.mark.parametrize(
    "edit",
    [
        Edited("n", "old = 1"),
        Edited("n", ""),
        Edited("n", "(((" ),
        Edited("n", value=object()),
        Edited("n", value="x" * 30_000),
        Edited("n"),
        Edited("n\nevil()", "1"),
        Edited("if", "1"),
    ],
)  # fmt: skip
def test_an_edit_that_cannot_be_written_is_refused(edit):
    with pytest.raises(UsageError):
        export([ExportedCell("n = 0", edits=[edit])])


@pytest.mark.parametrize(
    "cell",
    [
        ExportedCell("1", "s", options="--in a\nevil()"),
        ExportedCell("1", "s\nevil()"),
        ExportedCell("1", checked=[Checked("a\nevil()", "0" * 64)]),
        ExportedCell("1", checked=[Checked("a.b", "0" * 64)]),
        ExportedCell("1", checked=[Checked("a", '"\nevil()')]),
    ],
)
def test_recorded_text_becomes_no_code(cell):
    with pytest.raises(UsageError):
        export([cell])


def test_a_comment_is_one_line_whatever_was_recorded():
    hostile = "a\nevil()\r\x0c\x85\u2028evil()\x00" + "x" * 200
    cell = ExportedCell("", checked=[Checked("a", "0" * 64, about=hostile)], edits=[Edited("a", "1", why=hostile)])
    for source in sources(export([cell]))[2:]:
        tree = ast.parse(source.removeprefix("%%kitaru_step edit_a\n"))
        assert len(tree.body) == 1
        assert all(len(line) < 120 for line in source.splitlines())


# ---------------------------------------------------------------- values as code


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), [float("inf")], frozenset({1}), object(), pd.Timestamp(0), range(3), [[1] * 200], "x" * 400,
        type("Text", (str,), {})("a"), {1: bytearray(b"a")},
    ],
)  # fmt: skip
def test_what_has_no_literal_or_a_long_one_is_not_written_out(value):
    assert literal(value) is None


def test_a_value_that_holds_itself_or_is_endless_is_not_written_out():
    loop = []
    loop.append(loop)
    assert literal(loop) is None
    assert literal([0] * 1_000_000) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers() | st.text())
    ),
)


@given(plain)
def test_a_literal_evaluates_to_a_value_with_the_same_digest(value):
    try:
        digest = kitaru.digest(value)
    except kitaru.KitaruError:
        return
    text = literal(value)
    assert text is None or kitaru.digest(ast.literal_eval(text)) == digest


def test_a_value_that_is_not_the_recorded_one_is_checked_by_the_recorded_digest():
    recorded = kitaru.digest([1])
    assert f'"{recorded}"' in sources(export([ExportedCell("", checked=[Checked("a", recorded, [True])])]))[2]


def test_a_digest_is_the_one_that_is_recorded(store):
    table = pd.DataFrame({"a": range(50_000), "b": ["x"] * 50_000})
    values = {"n": 1, "text": "ü" * 100_000, "table": table, "nested": [{"rows": [*range(100_000)]}] * 2}
    session = Session(exec_id="tour")
    session.step("s", {}).succeed(values)
    session.close()
    artifacts = KitaruClient().executions.get("tour").checkpoints[0].artifacts
    assert {a.name.removeprefix("s#1."): a.digest for a in artifacts} == {
        n: kitaru.digest(v) for n, v in values.items()
    }


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<object object at 0x7f86b5d0c8f0>", "<object object at 0x…>"),
        ("recorded in notebook-7f3c", "recorded in …"),
        ("at 2026-11-29T06:35:07.123Z, or 2026-11-29 06:35", "at …, or …"),
        ("done at 06:35:07", "done at …"),
        ("Wall time: 12.3 ms, 1,204 tokens", "Wall time: …, 1,204 tokens"),
        ("id 0b9c1d2e-0000-4000-8000-0123456789ab.", "id …."),
        ("in file:///tmp/x/.kitaru and /tmp/kitaru-ab12/a.txt", "in … and …"),
        ('<td><span class="kitaru-varies">3 rows</span></td>', '<td><span class="kitaru-varies">…</span></td>'),
        ('<table id="T_1a2b3">', '<table id="T_…">'),
    ],
)
def test_what_differs_from_run_to_run_is_taken_out_and_not_compared(text, clean):
    display = {"output_type": "display_data", "data": {"text/html": [text], "text/plain": "same"}, "metadata": {}}
    for output in (printed(text), display):
        (kept,), varies = sanitized([output])
        assert varies
        assert clean in (kept.get("text"), kept.get("data", {}).get("text/html"))
    assert export([ExportedCell("", outputs=[printed(text)])]).cells[1].metadata.tags == ["nbval-ignore-output"]


@pytest.mark.parametrize("text", ["worst risk: 9", "version 1.2.3, 3 steps", "0x1f", "born 1990-01-01", "50 % of sums"])
def test_what_stays_the_same_is_kept_and_compared(text):
    assert sanitized([printed(text)]) == ([printed(text)], False)


def test_streams_are_joined_and_widgets_that_live_with_their_kernel_left_out():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "ab"}, "text/plain": "Browser()"}
    alone = {"application/vnd.jupyter.widget-view+json": {"model_id": "ab"}}
    picture = {"image/png": "aGFsbG8=", "text/plain": ["<Figure>"]}
    outputs = [printed(["a\n", "b"]), *[{"output_type": "display_data", "data": d, "metadata": {"x": 1}}
                                        for d in (widget, alone, picture)], printed("c\n")]  # fmt: skip
    kept, varies = sanitized(outputs)
    assert varies
    assert kept == [
        printed("a\nbc\n"),
        {"output_type": "display_data", "data": {"text/plain": "Browser()"}, "metadata": {}},
        {"output_type": "display_data", "data": {"image/png": "aGFsbG8=", "text/plain": "<Figure>"}, "metadata": {}},
    ]
