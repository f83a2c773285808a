"""Kishu, with its own hooks on a real IPython shell and a real notebook file.

Its own test mode is on, since no front end is here that would save that file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cells import main


class Kishu:
    def __init__(self, ip: Any, folder: str) -> None:
        os.environ["ENV_KISHU_TEST_MODE"] = "1"
        os.environ["KISHU_PATH_ROOT"] = folder
        import nbformat
        from kishu.jupyterint import KishuForJupyter
        from kishu.notebook_id import NotebookId

        path = Path(folder) / "n.ipynb"
        nbformat.write(nbformat.v4.new_notebook(), path)
        self.kishu = KishuForJupyter(NotebookId(key="k", path=path, kernel_id="x"), ip=ip)
        self.kishu.set_session_id(1)
        self.kishu.install_kishu_hooks()

    def place(self) -> Any:
        return self.kishu._kishu_graph.head()

    def go(self, place: Any) -> None:
        self.kishu.checkout(place, skip_notebook=True)


if __name__ == "__main__":
    main(Kishu)
