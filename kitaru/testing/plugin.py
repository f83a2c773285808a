"""The pytest plugin: `kitaru_store`, a place of its own for each test, and `replay`, a recorded execution as a test.

pytest loads it wherever Kitaru is installed, so it imports nothing but pytest until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ..stores.base import Store
    from .recordings import Replay

__all__ = ["kitaru_store", "pytest_addoption", "replay"]

_WHERE = ("folder", "memory")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting `kitaru_store`: where the fixture of that name records."""
    parser.addini("kitaru_store", "where the fixture kitaru_store records: folder (the default) or memory", default="")


@pytest.fixture
def kitaru_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A fresh store that is the current one during this test, whatever `KITARU_*` says outside of it.

    It is a folder below `tmp_path`; or in memory, where the setting `kitaru_store` or an indirect parameter says
    ``memory``. A test that leaves an execution running in it fails.
    """
    where = getattr(request, "param", None) or request.config.getini("kitaru_store") or "folder"
    if where not in _WHERE:
        pytest.fail(f"kitaru_store is {where!r}: write {' or '.join(_WHERE)}", pytrace=False)
    from .recordings import fresh_store, left_running

    with fresh_store(None if where == "memory" else f"{tmp_path}/kitaru") as store:
        yield store
        left = left_running(store)
    if left:
        pytest.fail(
            f"this test left {', '.join(left)} running: wait for its flow's threads, await its handle, or close its "
            "session before the test ends",
            pytrace=False,
        )


@pytest.fixture
def replay(request: pytest.FixtureRequest, kitaru_store: Store) -> Iterator[Replay]:
    """Replay an execution that was copied into the repository: `replay("recorded/audit-7f3c", audit, …)`.

    See `kitaru.testing.recordings.Replay`.
    """
    from .recordings import Replay

    with Replay(kitaru_store, request.path.parent) as ready:
        yield ready
