"""What `kitaru lineage` prints."""

from __future__ import annotations

from typing import Any

from ..client import Artifact, Checkpoint, Execution
from ..lineage_graph import build, to_networkx
from ..lineage_text import lineage_text, node_of

__all__ = ["document", "text"]


def _asked(found: Execution | Checkpoint | Artifact) -> tuple[Execution, str | None]:
    """The execution, and what of it was asked for."""
    if isinstance(found, Execution):
        return found, None
    return found._execution, found.label if isinstance(found, Checkpoint) else found.name


def text(found: Execution | Checkpoint | Artifact, width: int) -> str:
    """The steps of an execution, or what made one step or value and what needs it."""
    execution, ref = _asked(found)
    return lineage_text(to_networkx(build(execution.data)), ref, width=width)


def document(found: Execution | Checkpoint | Artifact) -> dict[str, Any]:
    """The graph in networkx' node-link form, and the node that was asked for."""
    execution, ref = _asked(found)
    graph = build(execution.data)
    return {"node": execution.exec_id if ref is None else node_of(to_networkx(graph), ref), "lineage": graph}
