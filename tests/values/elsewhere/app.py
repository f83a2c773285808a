"""What runs elsewhere: reads values that were recorded here, and records them again."""

from __future__ import annotations

import importlib
import json
import sys

import portable
import wit_world

from kitaru.codecs import Sharer, decode

# What is loaded where it is used: there are no files any more once this is wrapped up.
for _name in ("decimal", "fractions", "importlib.util", "pathlib", "uuid", "zoneinfo"):
    importlib.import_module(_name)


class _Parts:
    def __init__(self, parts: dict[str, str]) -> None:
        self._parts = parts

    def get(self, digest: bytes) -> bytes:
        return bytes.fromhex(self._parts[digest.hex()])


class WitWorld(wit_world.WitWorld):
    def again(self, recorded: bytes) -> bytes:
        digests, types = {}, {}
        for name, (root, parts) in json.loads(recorded).items():
            value = decode(bytes.fromhex(root), source=_Parts(parts), trusted=False)
            digests[name] = Sharer().encode(value, otherwise="refuse").digest.hex()
            types[name] = type(value).__name__
        made = {name: Sharer().encode(v, otherwise="refuse").digest.hex() for name, v in portable.values().items()}
        version = [*sys.version_info[:2]]
        return json.dumps({"version": version, "read": digests, "types": types, "made": made}).encode()
