"""Kitaru as a notebook uses it: `%load_ext kitaru`, `%kitaru record on`."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cells import main


class Cells:
    def __init__(self, ip: Any, folder: str) -> None:
        import kitaru

        kitaru.connect(f"{folder}/store")
        self.ip = ip
        self._run("%load_ext kitaru")
        self._run("%kitaru record on")

    def _run(self, line: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.ip.run_cell(line).raise_error()

    def place(self) -> str:
        from kitaru import KitaruClient

        last = KitaruClient().executions.latest(flow="notebook")
        return f"{last.exec_id}:{last.checkpoints[-1].label}"

    def go(self, place: str) -> None:
        self._run(f"%kitaru checkout {place}")


if __name__ == "__main__":
    main(Cells)
