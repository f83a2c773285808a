"""`kitaru verify`: what it says of a whole execution and of a damaged one, and what it ends with."""

from __future__ import annotations

import random

import pytest

import kitaru as library
from kitaru import checkpoint, flow


@checkpoint
def noise():
    return random.Random(1).randbytes(200_000)


@pytest.fixture
def recorded(here):
    """Two runs, in the folder that the command line finds."""

    @flow
    def told():
        return len(noise())

    library.connect(None)
    told.options(exec_id="v-1").run()
    told.options(exec_id="v-2").run()
    return here / ".kitaru"


def a_blob(folder):
    return next(p for p in sorted(folder.glob("blobs/*/*")) if p.stat().st_size > 1)


def test_a_whole_execution_is_said_to_be_whole(kitaru, recorded):
    said = kitaru("verify", "v-1")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("v-1, completed: whole; ")
    assert "segments, " in said.out
    assert said.out.rstrip().endswith(" bytes")


def test_without_a_name_it_is_the_last_one(kitaru, recorded):
    assert kitaru("verify").out.startswith("v-2, completed: whole")


def test_several_and_all_are_counted(kitaru, recorded):
    for said in (kitaru("verify", "v-1", "v-2"), kitaru("verify", "--all")):
        assert said.code == 0
        assert said.out.splitlines()[-1] == "2 executions: all whole"
    assert kitaru("verify", "v-1", "--all").code == 2


def test_quiet_says_only_what_is_wrong(kitaru, recorded):
    assert kitaru("verify", "--all", "-q").out == ""
    lineage = recorded / "executions/v-1/lineage.json"
    lineage.write_bytes(lineage.read_bytes()[:-1])
    said = kitaru("verify", "--all", "-q")
    assert said.code == 1
    assert said.out.splitlines()[0].startswith("v-1, completed: 1 thing wrong; ")
    assert len(said.out.splitlines()) == 3


def test_damage_is_named_with_the_value_that_needs_it(kitaru, recorded):
    blob = a_blob(recorded)
    data = bytearray(blob.read_bytes())
    data[7] ^= 4
    blob.chmod(0o644)
    blob.write_bytes(data)
    said = kitaru("verify", "v-1")
    assert said.code == 1
    _, what, advice = said.out.splitlines()
    key = blob.relative_to(recorded).as_posix()
    assert what == f"  {key} is damaged: its SHA-256 is not its name (noise#1.output needs it)"
    assert advice == "    restore it from a copy of the store"


def test_what_is_derived_is_made_again_when_asked(kitaru, recorded):
    lineage = recorded / "executions/v-1/lineage.json"
    right = lineage.read_bytes()
    lineage.unlink()
    said = kitaru("verify", "v-1")
    assert said.code == 1
    assert said.out.splitlines()[1:] == [
        "  executions/v-1/lineage.json is missing, though the execution has ended",
        "    derived: nothing is lost; made again by kitaru verify --repair v-1",
    ]
    said = kitaru("verify", "--repair", "v-1")
    assert said.code == 0
    assert "1 thing wrong, 1 mended" in said.out
    assert lineage.read_bytes() == right
    assert kitaru("verify", "v-1").out.startswith("v-1, completed: whole")


def test_the_document_says_all_of_it(kitaru, recorded):
    a_blob(recorded).unlink()
    said = kitaru("verify", "v-1", "v-2", "--json")
    assert said.code == 1
    document = said.document
    assert document["ok"] is False
    assert [e["exec_id"] for e in document["executions"]] == ["v-1", "v-2"]
    (finding,) = document["executions"][0]["findings"]
    assert finding["what"] == "is missing"
    assert finding["needed_by"] == ["noise#1.output"]
    assert finding["derived"] is False


def test_an_execution_that_is_not_there_is_a_mistake(kitaru, recorded):
    said = kitaru("verify", "v-9")
    assert said.code == 2
    assert "there is no execution v-9" in said.err
