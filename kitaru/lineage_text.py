"""Lineage for a terminal: an execution step by step, or what made one value and what depends on it.

Works on the graph of `kitaru.lineage`, whoever made it; its texts come from records and are made harmless here.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InvalidNameError, NotFoundError
from .previews import preview_line, printable
from .refs import parse_ref

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["lineage_text", "node_of"]

_DEEP = 12  # levels of a tree; what lies deeper is a REF away
_LINES = 400  # of a tree, or of an execution's steps; an execution that takes more is folded
_NAMED = 3  # producers or parts that a line names
_FIRST, _LAST = 3, 2  # steps of one kind that are shown of a folded execution
_FAILED = 20  # failed steps that are shown of it
_VALUES = 20  # of one step, or of the execution itself
_TAKEN = {"part": "with", "shared": "with", "whole": "out of", "items": "out of"}
_NUMBER = re.compile(r"[#~]\d+")


class _Words(NamedTuple):
    """What is said of a step beside what its record says."""

    marks: Mapping[str, Sequence[str]]  # of a node
    varies: bool  # whether to say what is another one in each run


def lineage_text(
    graph: nx.MultiDiGraph[str],
    ref: str | None = None,
    *,
    width: int = 100,
    full: bool = False,
    marks: Mapping[str, Sequence[str]] | None = None,
    varies: bool = True,
) -> str:
    """The lineage as text of at most `width` columns: of all steps in their order, or of what `ref` names.

    It has no more than about 500 lines. Of an execution that would take more, steps of one kind are folded: the first
    and the last ones are shown, those that failed, and how many the others are.

    Parameters
    ----------
    graph
        From `kitaru.lineage`; one of its steps alone will do, too.
    ref
        A step, an output, an input (``classify#2.in.package``), a saved name, ``result``, or a node of the graph;
        the execution's name may stand in front. None, or the execution's name alone: all steps.
    full
        Fold nothing, however many steps there are.
    marks
        Words to be said of these nodes: ``{"audit-7f3c:classify#2": ["stale"]}``. Such steps do not fold.
    varies
        Whether to say what differs from run to run: the exec_id, times, and which step ended last before another one.

    Raises
    ------
    NotFoundError
        Where `ref` names nothing in the graph.
    """
    node = None if ref is None else node_of(graph, ref)
    words = _Words(marks or {}, varies)
    whole = node in {None, graph.graph["exec_id"]}
    lines = _execution(graph, words, full=full) if whole else _value(graph, f"{node}", words)
    return "\n".join(line if len(line) <= width else line[: max(width - 1, 0)] + "…" for line in lines)


def node_of(graph: nx.MultiDiGraph[str], ref: str) -> str:
    """The node that `ref` names; see `lineage_text`."""
    here = graph.graph["exec_id"]
    ref = ref.removeprefix(f"{here}:")
    if ref in graph:
        return ref
    if ref == "result" and graph.graph["result"] is not None:
        return str(graph.graph["result"])
    for role, value in _uses(graph, here):
        if ref == f"input.{role}":
            return value
    saved = [name for name, a in graph.nodes(data=True) if ref in a.get("saved_as", ())]
    if saved:
        return saved[-1]
    try:
        parsed = parse_ref(ref)
    except InvalidNameError:
        parsed = None
    if parsed is not None:
        step = "/".join(map(str, parsed.path))
        found = [
            name
            for name, a in graph.nodes(data=True)
            if a["kind"] == "checkpoint" and (a["number"] == parsed.number if parsed.number else a["label"] == step)
        ]
        if found and parsed.output is None and parsed.argument is None:
            return found[-1]
        for name in reversed(found):
            ties = _makes(graph, name) if parsed.output is not None else _uses(graph, name)
            for role, value in ties:
                if role in {parsed.output, parsed.argument} - {None}:
                    return value
    raise NotFoundError(f"the lineage of {here} has no {ref}: `kitaru lineage {here}` shows what it has")


# ---------------------------------------------------------------- what stands beside a node


def _uses(graph: nx.MultiDiGraph[str], step: str) -> list[tuple[str, str]]:
    """(role, artifact) of what a step used."""
    return [(a["role"], v) for v, _, a in graph.in_edges(step, data=True) if a["relation"] == "used"]


def _makes(graph: nx.MultiDiGraph[str], step: str) -> list[tuple[str, str]]:
    """(role, artifact) of what a step generated."""
    return [(a["role"], v) for _, v, a in graph.out_edges(step, data=True) if a["relation"] == "generated"]


def _makers(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    """(role, checkpoint) of what generated an artifact; the execution alone where no step did."""
    every = [(a["role"], s) for s, _, a in graph.in_edges(value, data=True) if a["relation"] == "generated"]
    once = {s: (role, s) for role, s in every}  # an output rather than the save before it
    steps = [found for s, found in once.items() if graph.nodes[s]["kind"] == "checkpoint"]
    return steps or list(once.values())


def _parts(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    """(role, artifact) of what an artifact was made of or taken out of."""
    return [(a["role"], v) for v, _, a in graph.in_edges(value, data=True) if a["relation"] == "part_of"]


def _origin(graph: nx.MultiDiGraph[str], value: str) -> str:
    """Where a value comes from, in a few words."""
    here = graph.graph["exec_id"]
    makers = [(role, s) for role, s in _makers(graph, value) if s != here]
    if makers:
        return _listed([_ref(graph, s, role) for role, s in makers])
    parts = _parts(graph, value)
    if parts:
        word = _TAKEN.get(parts[0][0], "out of")
        return f"{word} {_listed([_short(graph, v) for _, v in parts])}"
    if here in graph.succ[value]:
        return _listed([f"input {printable(role)}" for role, v in _uses(graph, here) if v == value])
    return "from the code around it"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ref(graph: nx.MultiDiGraph[str], step: str, role: str) -> str:
    return f"{printable(graph.nodes[step]['label'])}.{printable(role)}"


def _short(graph: nx.MultiDiGraph[str], value: str) -> str:
    """A name for a value: as whose output, or as whose input."""
    makers = _makers(graph, value)
    if makers:
        role, step = makers[-1]
        return "result" if step == graph.graph["exec_id"] and role == "result" else _ref(graph, step, role)
    ref = graph.nodes[value].get("ref")
    return printable(ref.partition(":")[2]) if ref else _origin(graph, value)


def _glimpse(graph: nx.MultiDiGraph[str], value: str, say: _Words | None = None) -> str:
    about = graph.nodes[value]
    if about["kind"] == "execution":  # a child of this one
        return printable(about["label"]) if say is not None and say.varies else "another execution"
    return preview_line(about["preview"], 60)


def _state(a: Mapping[str, Any], say: _Words, node: str | None = None) -> str:
    words = [a["status"]]
    if a.get("took") and say.varies:
        words.append(f"{a['took']:,.1f} s" if a["took"] >= 1 else f"{a['took'] * 1000:.0f} ms")
    if a.get("tokens") is not None:
        words.append(f"{a['tokens']:,} tokens")
    if a.get("cost"):
        words.append(f"${a['cost']:.4g}")
    if a.get("superseded"):
        words.append("superseded")
    words += say.marks.get(node or "", ())
    return printable(", ".join(words))


# ---------------------------------------------------------------- an execution


def _execution(graph: nx.MultiDiGraph[str], say: _Words, *, full: bool) -> Iterator[str]:
    here = graph.graph["exec_id"]
    of = graph.graph
    top = graph.nodes[here] if here in graph else {"name": of["flow"], "status": of["status"], "failure": None}
    steps = {name: a for name, a in graph.nodes(data=True) if a["kind"] == "checkpoint"}
    most = sys.maxsize if full else _VALUES
    every = (line for step, a in steps.items() for line in _step(graph, step, a, say, most))
    lines = [*islice(every, None if full else _LINES + 1)]
    folds = not full and len(lines) > _LINES
    yield f"{f'{here}  ' if say.varies else ''}{printable(top['name'])}, {printable(top['status'])}"
    used, made = (_uses(graph, here), _makes(graph, here)) if here in graph else ([], [])
    yield from _some("  input      ", used, most, lambda v: _glimpse(graph, v))
    if top.get("failure"):
        yield f"  failure    {printable(top['failure'])}"
    yield from _folded(graph, steps, say) if folds else lines
    for some in (made[:-1], made[-1:]):  # the result is the last of them
        yield from _some("", some, most, lambda v: f"{_origin(graph, v)}  {_glimpse(graph, v)}")
    if folds:
        middle = [*steps.values()][len(steps) // 2]["label"]
        yield "Where a line begins with …, steps are folded. To see"
        name = here if say.varies else "EXEC"
        yield f"  one of them  kitaru lineage {name}:{printable(middle)}"
        yield f"  all {len(steps):,}  kitaru lineage {name} --full"


def _step(
    graph: nx.MultiDiGraph[str], step: str, a: Mapping[str, Any], say: _Words, most: int = _VALUES
) -> Iterator[str]:
    indent = "  " * a["label"].count("/")
    edges = graph.in_edges(step, data=True) if say.varies else ()
    before = [graph.nodes[s]["label"] for s, _, e in edges if e["relation"] == "after"]
    yield f"{indent}{printable(a['label'])}  {_state(a, say, step)}" + "".join(
        f", after {printable(b)}" for b in before
    )
    used, made = _uses(graph, step), _makes(graph, step)
    yield from _some(f"{indent}  used       ", used, most, lambda v: f"{_origin(graph, v)}  {_glimpse(graph, v, say)}")
    yield from _some(f"{indent}  generated  ", made, most, lambda v: _glimpse(graph, v, say))
    if a.get("failure"):
        yield f"{indent}  failure    {printable(a['failure'])}"


def _some(before: str, values: list[tuple[str, str]], most: int, told: Callable[[str], str]) -> Iterator[str]:
    """A line for each of the first (role, artifact), and one that says how many more there are."""
    for role, value in values[:most]:
        yield f"{before}{printable(role)}: {told(value)}"
    if len(values) > most:
        yield f"{before}… and {len(values) - most:,} more"


@dataclass(slots=True)
class _Kind:
    """Steps of one name inside of steps of one name: ``audit/classify``, whatever their numbers."""

    steps: list[str] = field(default_factory=list)
    folded: list[Mapping[str, Any]] = field(default_factory=list)


def _folded(graph: nx.MultiDiGraph[str], steps: Mapping[str, Mapping[str, Any]], say: _Words) -> Iterator[str]:
    """The steps of a long execution: of each kind the first and the last, and those that failed or are marked."""
    kinds: dict[str, _Kind] = {}
    of: dict[str, _Kind] = {}
    for step, a in steps.items():
        of[step] = kind = kinds.setdefault(_NUMBER.sub("", a["label"]), _Kind())
        kind.steps.append(step)
    shown = {step for kind in kinds.values() for step in (*kind.steps[:_FIRST], *kind.steps[-_LAST:])}
    shown.update(islice((step for step, a in steps.items() if a["status"] == "failed"), _FAILED))
    shown.update(islice((step for step in steps if step in say.marks), _FAILED))
    for step, a in steps.items():
        if step not in shown:
            of[step].folded.append(a)
    told = 0
    for step, a in steps.items():
        folded = of[step].folded
        if step in shown or len(folded) == 1:
            lines = [*_step(graph, step, a, say)]
        elif a is folded[0]:
            lines = [_fold(folded, say)]
        else:
            continue
        told += len(lines)
        if told > _LINES:
            yield f"… and more steps of other kinds: {len(kinds):,} kinds in all"
            return
        yield from lines


def _fold(folded: list[Mapping[str, Any]], say: _Words) -> str:
    """One line for many steps: from which to which, how many, how they stand and what they took."""
    first, last = folded[0]["label"], folded[-1]["label"]
    states = Counter(a["status"] for a in folded)
    words = [f"{n:,} {status}" for status, n in states.most_common()]
    total = {
        "status": ", ".join(words) if len(words) > 1 else f"all {words[0].partition(' ')[2]}",
        "took": sum(a.get("took", 0) for a in folded),
        "tokens": sum(a.get("tokens", 0) for a in folded) or None,
        "cost": sum(a.get("cost", 0) for a in folded),
    }
    which = f"{printable(first)} to {printable(last)}"
    return f"{'  ' * first.count('/')}… {which}: {len(folded):,} steps, {_state(total, say)}"


# ---------------------------------------------------------------- a value or a step


def _value(graph: nx.MultiDiGraph[str], node: str, say: _Words) -> Iterator[str]:
    a = graph.nodes[node]
    if a["kind"] == "checkpoint":
        yield f"{printable(a['label'])}  {_state(a, say, node)}"
    else:
        saved = f"  saved as {printable(', '.join(a['saved_as']))}" if "saved_as" in a else ""
        yield f"{_short(graph, node)}  {_glimpse(graph, node)}{saved}"
    yield "made from" if a["kind"] == "checkpoint" else "made by"
    yield from _tree(graph, _made(graph, node, say), _upstream) or ["  nothing that was recorded"]
    yield "needed by"
    yield from _tree(graph, _downstream(graph, node), _downstream) or ["  nothing"]


def _made(graph: nx.MultiDiGraph[str], node: str, say: _Words) -> list[tuple[str, str]]:
    """(line, node) of what the node that was asked for came from: its steps with their state, and what it holds."""
    if graph.nodes[node]["kind"] != "artifact":
        return _upstream(graph, node)
    here = graph.graph["exec_id"]
    steps = [
        (f"{printable(graph.nodes[s]['label'])}  {_state(graph.nodes[s], say, s)}", s)
        for _, s in _makers(graph, node)
        if s != here
    ]
    return steps + _taken(graph, node)


def _upstream(graph: nx.MultiDiGraph[str], node: str) -> list[tuple[str, str]]:
    """(line, node) of what `node` came from. A value that a step made came from what that step used."""
    kind, here = graph.nodes[node]["kind"], graph.graph["exec_id"]
    if kind == "execution":
        return []
    if kind == "artifact":
        makers = [s for _, s in _makers(graph, node) if s != here]
        return list(dict.fromkeys(line for s in makers for line in _upstream(graph, s))) or _taken(graph, node)
    out = []
    for role, value in _uses(graph, node):
        steps = any(s != here for _, s in _makers(graph, value))
        origin = "" if not steps and _parts(graph, value) else f"{_origin(graph, value)}  "
        out.append((f"{printable(role)}: {origin}{_glimpse(graph, value)}", value))
    return out


def _taken(graph: nx.MultiDiGraph[str], value: str) -> list[tuple[str, str]]:
    return [
        (f"{_TAKEN.get(role, role)} {_short(graph, v)}  {_glimpse(graph, v)}", v) for role, v in _parts(graph, value)
    ]


def _downstream(graph: nx.MultiDiGraph[str], node: str) -> list[tuple[str, str]]:
    """(line, node) of what came from `node`. What needs a step's output needs the step."""
    if graph.nodes[node]["kind"] == "checkpoint":
        return list(dict.fromkeys(line for _, v in _makes(graph, node) for line in _downstream(graph, v)))
    out = []
    for _, other, a in graph.out_edges(node, data=True):
        if a["relation"] == "used" and other != graph.graph["exec_id"]:
            out.append((f"{printable(graph.nodes[other]['label'])}  as {printable(a['role'])}", other))
        elif a["relation"] == "part_of":
            out.append((f"{_short(graph, other)}  {_glimpse(graph, other)}", other))
    if node == graph.graph["result"]:
        out.append(("the result", graph.graph["exec_id"]))
    return out


def _tree(graph: nx.MultiDiGraph[str], roots: list[tuple[str, str]], beside: Any) -> list[str]:
    """A tree of lines, without recursion; what was shown once is not shown again."""
    lines: list[str] = []
    shown = set[str]()
    todo = [("", text, node, last) for text, node, last in _marked(roots)]
    while todo:
        indent, text, node, last = todo.pop()
        if len(lines) >= _LINES:
            lines.append("… and more: ask for one of these")
            break
        below = beside(graph, node) if graph.nodes[node]["kind"] != "execution" else []
        again = node in shown and bool(below)
        deep = len(indent) >= 3 * (_DEEP - 1) and bool(below)
        lines.append(f"{indent}{'└─' if last else '├─'} {text}{' (see above)' if again else ' …' if deep else ''}")
        if again or deep:
            continue
        shown.add(node)
        inner = indent + ("   " if last else "│  ")
        todo += [(inner, text, node, last) for text, node, last in _marked(below)]
    return lines


def _marked(found: list[tuple[str, str]]) -> list[tuple[str, str, bool]]:
    """In the order of a stack, with the last one marked."""
    return [(text, node, n == len(found) - 1) for n, (text, node) in enumerate(found)][::-1]
