"""Values are the same in another version of Python: in CPython 3.14, of which a build for WebAssembly is on PyPI.

`componentize-py` wraps it up with what runs in it, and `wasmtime` runs that. It has no compiled libraries, so that a
stand-in in plain Python takes the place of ormsgpack.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attr
import attrs
import msgpack
import portable
import pytest

import kitaru
from kitaru.codecs import Sharer

HERE = Path(__file__).parent / "elsewhere"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Runs a program of `elsewhere` in the other Python."""
    import wasmtime
    from wasmtime import component

    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(HERE, folder / "path")
    shutil.copy(portable.__file__, folder / "path")
    for package in (kitaru, attr, attrs, msgpack):
        where = folder / "path" / package.__name__
        shutil.copytree(Path(package.__file__).parent, where, ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.pyc"))
    tool = [sys.executable, "-c", "import componentize_py; componentize_py.script()"]
    wrap = [*tool, "-d", HERE / "reads.wit", "-w", "reads", "componentize", "app", "-p", "path", "-o", "app.wasm"]
    done = subprocess.run(wrap, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr[:2000]
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # it runs once
    engine = wasmtime.Engine(config)
    linker = component.Linker(engine)
    linker.add_wasip2()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    made = linker.instantiate(store, component.Component.from_file(engine, str(folder / "app.wasm")))
    again = made.get_func(store, "again")
    return lambda recorded: json.loads(bytes(again(store, json.dumps(recorded).encode())))


@pytest.mark.process
def test_values_are_read_and_recorded_alike_by_another_version_of_python(elsewhere):
    recorded, digests, types = {}, {}, {}
    for name, value in portable.values().items():
        shared = Sharer().encode(value, otherwise="refuse")
        recorded[name] = shared.root.hex(), {digest.hex(): part.hex() for digest, part in shared.parts}
        digests[name], types[name] = shared.digest.hex(), type(value).__name__
    there = elsewhere(recorded)
    assert there["version"] != [*sys.version_info[:2]]
    assert there["read"] == digests
    assert there["types"] == types
    assert there["made"] == digests, "made there, they are recorded alike"
