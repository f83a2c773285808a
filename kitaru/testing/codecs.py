"""What every kind of value must do, as one suite: subclass `CodecContract` and say which values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import ormsgpack

from ..codecs import decode, encode, is_opaque, kind_of, to_json
from ..errors import CodeNotFoundError, CorruptionError, UntrustedValueError
from ..previews import preview, preview_line

__all__ = ["CodecContract", "digests_elsewhere"]

_CHILD = """
import json, sys
from kitaru.codecs import decode, encode
found = []
for line in sys.stdin:
    value = decode(bytes.fromhex(line), trusted=False)
    kind = type(value).__module__ + ":" + type(value).__qualname__
    found.append([encode(value, otherwise="refer").digest.hex(), kind])
print(json.dumps(found))
"""


def digests_elsewhere(nodes: Sequence[bytes], *, paths: Sequence[str] = (), seed: int = 1) -> list[list[str]]:
    """Decode and encode `nodes` again in one other process with the hash seed `seed`.

    Returns
    -------
    list of [str, str]
        For each node the digest in hex, and "module:qualname" of the decoded value's type. `paths` are put before
        the child's `sys.path`.
    """
    where = os.pathsep.join([*paths, *filter(None, sys.path)])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _CHILD],
        input="\n".join(node.hex() for node in nodes),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": where},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[list[str]] = json.loads(done.stdout)
    return found


class CodecContract:
    """The suite. A subclass whose name begins with `Test` gives `values`, and is collected by pytest.

    All values must have a data form, and differ from each other in type, content or order.
    """

    values: Sequence[Any]
    paths: Sequence[str] = ()  # what another process needs on its sys.path to find the values' classes

    def same(self, a: Any, b: Any) -> bool:
        """Whether `a` and `b` are equal, beyond having one type. To override for a type whose `==` is not it."""
        return bool(a == b) or repr(a) == repr(b)

    def test_comes_back_equal_and_of_the_same_type(self) -> None:
        for value in self.values:
            back = decode(encode(value, otherwise="refuse").data, trusted=False)
            assert type(back) is type(value)
            assert self.same(back, value), (back, value)

    def test_has_one_spelling(self) -> None:
        for value in self.values:
            first = encode(value, otherwise="refuse")
            assert encode(decode(first.data, trusted=False), otherwise="refuse") == first
            assert encode([{"deep": value}]) == encode([{"deep": decode(first.data, trusted=False)}])

    def test_different_values_have_different_digests(self) -> None:
        assert len({encode(value).digest for value in self.values}) == len(self.values)

    def test_is_the_same_in_a_process_with_another_hash_seed(self) -> None:
        encoded = [encode(value) for value in self.values]
        for seed in (0, 4242):
            found = digests_elsewhere([e.data for e in encoded], paths=self.paths, seed=seed)
            assert [digest for digest, _ in found] == [e.digest.hex() for e in encoded]

    def test_bytes_that_were_cut_or_flipped_are_named_or_another_value(self) -> None:
        for value in self.values:
            data = encode(value).data
            damaged = [data[:n] for n in range(min(len(data), 64))] + [data + b"\0"]
            damaged += [
                data[:n] + bytes((data[n] ^ 1 << bit,)) + data[n + 1 :]
                for n in range(min(len(data), 48))
                for bit in range(8)
            ]
            for n, other in enumerate(damaged):
                try:
                    back = decode(other, trusted=False)
                except (CorruptionError, CodeNotFoundError, UntrustedValueError):
                    continue
                assert n > min(len(data), 64), f"{data!r} without its end was taken for {back!r}"

    def test_reads_without_its_code(self) -> None:
        for value in self.values:
            data = encode(value).data
            json.dumps(to_json(data))
            assert not is_opaque(data)
            assert kind_of(data) == encode(value).kind

    def test_previews_are_small_and_printable(self) -> None:
        for value in self.values:
            glimpse = preview(value)
            assert len(ormsgpack.packb(glimpse)) <= (2048 if "rows" in glimpse else 500)
            assert glimpse["text"].isprintable()
            assert len(preview_line(glimpse, 60)) <= 60
