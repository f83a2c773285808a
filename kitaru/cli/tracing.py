"""What `kitaru lineage` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..client import Artifact, Checkpoint, Execution
from ..errors import UsageError
from ..lineage_graph import graphml, to_node_link
from ..lineage_text import lineage_text, node_of

__all__ = ["document", "text", "write_graphml"]


def _asked(found: Execution | Checkpoint | Artifact) -> tuple[Execution, str | None]:
    """The execution, and what of it was asked for."""
    if isinstance(found, Execution):
        return found, None
    return found._execution, found.label if isinstance(found, Checkpoint) else found.name


def text(found: Execution | Checkpoint | Artifact, width: int, *, full: bool = False) -> str:
    """The steps of an execution, or what made one step or value and what needs it."""
    execution, ref = _asked(found)
    return lineage_text(execution.lineage(), ref, width=width, full=full)


def document(found: Execution | Checkpoint | Artifact, *, origins: bool) -> dict[str, Any]:
    """The graph in networkx' node-link form, and the node that was asked for."""
    execution, ref = _asked(found)
    asked = execution.lineage(origins=origins)
    return {"node": execution.exec_id if ref is None else node_of(asked, ref), "lineage": to_node_link(asked)}


def write_graphml(found: Execution | Checkpoint | Artifact, path: str, *, origins: bool) -> None:
    """Write the graph of the execution to a file that Gephi, yEd and others open."""
    execution, _ = _asked(found)
    text = graphml(execution.lineage(origins=origins))
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"--graphml {path}: {e.strerror or e}") from e
