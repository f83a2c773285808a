"""REFs and addresses: parsed, printed, and refused with the form."""

from __future__ import annotations

import pytest

from kitaru.errors import InvalidNameError
from kitaru.refs import Address, Part, Ref, format_address, parse_address, parse_ref, shortened


@pytest.mark.parametrize(
    ("text", "ref", "printed"),
    [
        ("classify", Ref(None, (Part("classify"),)), "classify#1"),
        ("classify#2", Ref(None, (Part("classify", 2),)), "classify#2"),
        ("classify~3", Ref(None, (Part("classify", 3, True),)), "classify~3"),
        ("outer#2/classify", Ref(None, (Part("outer", 2), Part("classify"))), "outer#2/classify#1"),
        ("a-7:classify.output", Ref("a-7", (Part("classify"),), None, "output"), "a-7:classify#1.output"),
        (
            "a.b-7:o/c#2.in.package",
            Ref("a.b-7", (Part("o"), Part("c", 2)), None, None, "package"),
            "a.b-7:o#1/c#2.in.package",
        ),
        ("@3", Ref(None, (), 3), "@3"),
        ("a-7:@12.mean", Ref("a-7", (), 12, "mean"), "a-7:@12.mean"),
        ("a-7:report@2", Ref("a-7", (Part("report"),), version=2), "a-7:report@2"),
        ("a-7:", Ref("a-7"), "a-7"),
        ("größe#10", Ref(None, (Part("größe", 10),)), "größe#10"),
    ],
)
def test_a_ref_is_parsed_and_printed(text, ref, printed):
    assert parse_ref(text) == ref
    assert str(ref) == printed
    if ref.path or ref.number:
        assert parse_ref(printed) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":a",
        "a#0",
        "a#",
        "a#x",
        "a~0",
        "a#1~2",
        "a//b",
        "/a",
        "a/",
        "a b",
        "@",
        "@0",
        "@x",
        "@1/a",
        "a@0",
        "a@x",
        "a@1.output",
        "a@1/b",
        "a#1@1",
        "a.",
        "x:y:z",
    ],
)
def test_what_is_no_ref_is_refused_with_the_form(text):
    with pytest.raises(InvalidNameError, match=r"is not a REF: write \[EXEC:\]\[outer#N/\]step\[#N\]"):
        parse_ref(text)


@pytest.mark.parametrize(
    ("text", "store", "ref"),
    [
        ("audit-7:classify#2", None, "audit-7:classify#2"),
        ("outer#1/classify", None, "outer#1/classify"),
        ("last", None, "last"),
        ("s3://bucket/prefix/audit-7", "s3://bucket/prefix", "audit-7"),
        ("s3://bucket/prefix/audit-7:outer#1/classify#2.in.x", "s3://bucket/prefix", "audit-7:outer#1/classify#2.in.x"),
        ("s3://bucket/audit-7", "s3://bucket", "audit-7"),
        ("memory://m/audit-7:a", "memory://m", "audit-7:a"),
        ("file:///srv/runs/audit-7:a#1", "file:///srv/runs", "audit-7:a#1"),
        ("/srv/runs/audit-7", "/srv/runs", "audit-7"),
        ("./runs/audit-7:a", "./runs", "audit-7:a"),
        ("~/runs/audit-7", "~/runs", "audit-7"),
        (
            "s3://b/p/audit-7:a/b#2?endpoint_url=http://127.0.0.1:9000&region=x",
            "s3://b/p?endpoint_url=http://127.0.0.1:9000&region=x",
            "audit-7:a/b#2",
        ),
    ],
)
def test_an_address_is_split_where_the_store_ends(text, store, ref):
    assert parse_address(text) == Address(store, ref)
    if store is not None:
        assert format_address(store, ref) == text


@pytest.mark.parametrize("text", ["s3://bucket", "s3://bucket/", "memory://m", "file:///", "./"])
def test_an_address_without_an_execution_is_refused(text):
    with pytest.raises(InvalidNameError, match="names a store but no execution in it"):
        parse_address(text)


def test_a_path_is_shown_without_its_number_where_there_is_one_call_of_that_name():
    shown = shortened(["a#1/b#1", "a#1/b#2/c#1", "x#1", "x~1", "a#1", "", "y#2", "z#1", "z#1"])
    assert shown["a#1"] == "a"
    assert (shown["a#1/b#1"], shown["a#1/b#2/c#1"]) == ("a/b#1", "a/b#2/c")
    assert [shown[path] for path in ("x#1", "x~1", "", "y#2", "z#1")] == ["x#1", "x~1", "", "y#2", "z"]
    for path, short in shown.items():
        assert not path or parse_ref(path) == parse_ref(short)
