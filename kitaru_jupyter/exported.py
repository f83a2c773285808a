"""A notebook that runs a recorded branch again and checks what it gives, ready for ``pytest --nbval``.

Which cells these are, and what of their outputs is checked, is the session's to say. Here they become a notebook: with
nothing in it that differs from run to run, and the same bytes for the same cells.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pprint import pformat
from typing import TYPE_CHECKING, Any

import kitaru
from kitaru.errors import UsageError

from .recorder import failed_line

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Checked", "Edited", "ExportedCell", "export", "literal", "sanitized"]

NOT_LOADED: Any = object()
"""In the place of a value that is checked by its digest alone."""

_UNCHECKED = {
    "document": "it is no plain value",
    "pickle": "it has no data format",
    "reference": "it has no data format",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A variable, and the value that it must have after its cell.

    Attributes
    ----------
    digest : str
        Of the recorded value, as `kitaru.client.Artifact.digest`.
    value : object
        The value, where it is small and was loaded; it is written out if that reads well.
    kind : str
        As `kitaru.client.Artifact.kind`: what is ``pickle`` or ``reference`` has no digest that holds in another run;
        or ``document``: a function, a class, or something that shares objects with other variables.
    about : str
        What a person recognises it by; it stands beside a digest.
    """

    variable: str
    digest: str
    value: Any = NOT_LOADED
    kind: str = "data"
    about: str = ""

    @property
    def is_checkable(self) -> bool:
        """Whether its value can be compared at all."""
        return self.kind not in _UNCHECKED


@dataclass(frozen=True, slots=True)
class Edited:
    """An edit of a recorded output, made again after the cell that bound it.

    Attributes
    ----------
    source : str or None
        The code of the edit, in which `old` is the value before and the last expression the value after; None: it was
        edited as data, and is `value`.
    """

    variable: str
    source: str | None = None
    value: Any = NOT_LOADED
    why: str = ""


@dataclass(frozen=True, slots=True)
class ExportedCell:
    """One cell of the branch.

    Attributes
    ----------
    source : str
        Its code, without the line of `%%kitaru_step`.
    name : str or None
        Its step's name; None for a plain cell.
    options : str
        The rest of that line: ``--in a --out b``.
    outputs : sequence of mapping
        What it displayed, as nbformat has it; of a failed cell the error is among them, or `error` says it.
    edits : sequence of Edited
        What was edited of what it bound.
    checked : sequence of Checked
        What must come out, with the edits made.
    error : (str, str) or None
        The name of the exception's type and its message, of a cell that failed.
    compared : bool
        Whether nbval is to compare what the cell displays; not where that is not known, as of a plain cell.
    """

    source: str
    name: str | None = None
    options: str = ""
    outputs: Sequence[Mapping[str, Any]] = ()
    edits: Sequence[Edited] = ()
    checked: Sequence[Checked] = ()
    error: tuple[str, str] | None = None
    compared: bool = True


def export(cells: Iterable[ExportedCell], *, store: str | None = "memory://export") -> NotebookNode:
    """The notebook of these cells, in version 4 of nbformat.

    A cell that shows what differs in each run, such as an address in memory, keeps its output, sanitised, and is
    tagged so that nbval does not compare that; what it binds is checked all the same.

    Parameters
    ----------
    store
        Where the notebook records when it is run. In memory a check leaves nothing behind. None: wherever the search
        leads; nbval then passes where that is a store already, for the first step says when it makes one.

    Raises
    ------
    UsageError
        A variable or an option cannot stand in code, or the value of an edit cannot be written out.

    Examples
    --------
    >>> notebook = export([ExportedCell("total = 40 + 2", "add", checked=[Checked("total", kitaru.digest(42), 42)])])
    >>> for cell in notebook.cells:
    ...     print(f"[{cell.execution_count}] {cell.source}")
    [1] %load_ext kitaru
    %kitaru connect memory://export
    [2] %%kitaru_step add
    total = 40 + 2
    [3] assert total == 42
    """
    from nbformat import v4

    writing = _Writing()
    for cell in cells:
        writing.cell(cell)
    first = ["import kitaru"] if any("kitaru.digest(" in made.source for made in writing.made if made.is_check) else []
    first += ["%load_ext kitaru", *([f"%kitaru connect {_one_line(store, 'the store')}"] if store else [])]
    return v4.new_notebook(  # type: ignore[no-any-return]
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        cells=[made.node(n) for n, made in enumerate([_Made("\n".join(first)), *writing.made], 1)],
    )


@dataclass(slots=True)
class _Made:
    """A cell of the notebook to be."""

    source: str
    outputs: list[dict[str, Any]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    is_check: bool = False

    def node(self, n: int) -> NotebookNode:
        from nbformat import from_dict, v4

        for output in self.outputs:
            if output["output_type"] == "execute_result":
                output["execution_count"] = n
        return v4.new_code_cell(  # type: ignore[no-any-return]
            self.source,
            id=f"cell-{n:02}",
            execution_count=n,
            outputs=from_dict(self.outputs),
            metadata={"tags": self.tags} if self.tags else {},
        )


class _Writing:
    """The cells so far."""

    def __init__(self) -> None:
        self.made: list[_Made] = []
        self._steps: Counter[str] = Counter()

    def cell(self, cell: ExportedCell) -> None:
        """A cell, its edits, and its checks."""
        displayed = [*cell.outputs]
        if cell.error is not None and not any(o["output_type"] == "error" for o in displayed):
            displayed.append(_error(*cell.error))
        outputs, varies = sanitized(displayed)
        tags = ["nbval-ignore-output"] if varies or not cell.compared else []
        label = self._label(cell.name)
        error = next(((o["ename"], o["evalue"]) for o in outputs if o["output_type"] == "error"), None)
        if error is not None:
            tags.append("raises-exception")
            outputs = self._failed(outputs, error, label)
        self.made.append(_Made(_code(cell), outputs, tags))
        for edit in cell.edits:
            self._label(f"edit_{edit.variable}")
            self.made.append(_Made(_edit(edit)))
        self.made += [_Made(_check(checked), is_check=True) for checked in cell.checked]

    def _label(self, name: str | None) -> str | None:
        if name is None:
            return None
        self._steps[name] += 1
        return f"{name}#{self._steps[name]}"

    @staticmethod
    def _failed(outputs: list[dict[str, Any]], error: tuple[str, str], label: str | None) -> list[dict[str, Any]]:
        """The outputs of a cell that fails, with what the recorder will say of it."""
        kept = [output for output in outputs if output["output_type"] != "error"]
        if label is not None:
            _stream(kept, "stderr", failed_line(label))
        kind, message = error
        return [*kept, _error(kind, message)]


# ---------------------------------------------------------------- code


def _code(cell: ExportedCell) -> str:
    if cell.name is None:
        return cell.source
    line = f"%%kitaru_step {cell.name} {cell.options}".rstrip()
    return f"{_one_line(line, 'the line of a step')}\n{cell.source}"


def _edit(edit: Edited) -> str:
    """An edit as a step of its own: it reads the variable, and binds it."""
    name = _variable(edit.variable)
    lines = [f"%%kitaru_step edit_{name}"]
    if edit.why:
        lines.append(f"# {_comment(edit.why)}")
    if edit.source is None:
        text = literal(edit.value, most=20_000)
        if text is None:
            raise UsageError(
                f"the value that {name} was edited to, a {type(edit.value).__name__}, cannot be written as code: edit "
                "it by code instead, with %%kitaru_edit, whose last line is the new value"
            )
        return "\n".join([*lines, f"{name} = {text}"])
    before, expression = _last_expression(edit.source, name)
    if not before:
        return "\n".join([*lines, f"{name} = (lambda old: {expression})({name})"])
    return "\n".join([*lines, f"old = {name}", before, f"{name} = {expression}", "del old"])


def _last_expression(source: str, name: str) -> tuple[str, str]:
    """What stands before the last expression, and that."""
    try:
        body = ast.parse(source).body
    except SyntaxError as e:
        raise UsageError(f"the edit of {name} is no Python that can be written again: {e}") from e
    if not body or not isinstance(body[-1], ast.Expr):
        raise UsageError(f"the edit of {name} does not end with an expression, which would be the new value")
    lines = source.splitlines(keepends=True)
    last = body[-1]
    head = lines[last.lineno - 1].encode()[: last.col_offset].decode()
    expression = ast.get_source_segment(source, last)
    assert expression is not None
    before = "".join(lines[: last.lineno - 1]) + head
    return before.rstrip().rstrip(";"), expression


def _check(checked: Checked) -> str:
    name = _variable(checked.variable)
    about = _comment(checked.about)
    if not checked.is_checkable:
        return f"# {name} is not checked: {_UNCHECKED[checked.kind]}{f' ({about})' if about else ''}"
    text = None
    if checked.value is not NOT_LOADED:
        text = literal(checked.value, digest=checked.digest)
    if text is None:
        if not re.fullmatch("[0-9a-f]{64}", checked.digest):
            raise UsageError(f"{checked.digest!r} is no digest of {name}: it has 64 hexadecimal digits")
        return "\n".join([*([f"# {about}"] if about else []), f'assert kitaru.digest({name}) == "{checked.digest}"'])
    if text in {"None", "True", "False"}:
        return f"assert {name} is {text}"
    return f"assert {name} == {text}"


def _variable(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"{name!r} is no name of a variable")
    return name


def _one_line(text: str, what: str) -> str:
    if not text.isprintable():
        raise UsageError(f"{what} must be one line of printable characters, and this is none: {text!r}")
    return text


def _comment(text: str) -> str:
    """Recorded text as a comment: one line, whatever it holds."""
    line = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(line.split())
    return line if len(line) <= 100 else f"{line[:99]}…"


# ---------------------------------------------------------------- values as code

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_MOST_PARTS = 2000


def literal(value: Any, *, digest: str | None = None, most: int = 300) -> str | None:
    """`value` as Python that evaluates to an equal one: in type, content and order. None where there is none so short.

    Parameters
    ----------
    digest
        The value's own; what it evaluates to must have it. Found from `value` when left out.
    most
        Characters.

    Examples
    --------
    >>> literal({"a": (1, 2.5)})
    "{'a': (1, 2.5)}"
    >>> literal([float("nan")]) is None
    True
    """
    if not _is_plain(value, most):
        return None
    text = pformat(value, width=88, sort_dicts=False)
    if len(text) > most:
        return None
    try:
        again = ast.literal_eval(text)
    except ValueError:  # nan, inf
        return None
    return text if kitaru.digest(again) == (digest or kitaru.digest(value)) else None


def _is_plain(value: Any, most: int) -> bool:
    """Whether it is made of what Python has literals for, and could be short."""
    todo, parts = [value], 0
    while todo:
        part = todo.pop()
        parts += 1
        if parts > _MOST_PARTS:
            return False
        if type(part) is dict:
            todo += [*part.keys(), *part.values()][: _MOST_PARTS + 1]
        elif type(part) in {list, tuple, set}:
            todo += [*part][: _MOST_PARTS + 1]
        elif type(part) not in _ATOMS or (type(part) in {str, bytes} and len(part) > most):
            return False
    return True


# ---------------------------------------------------------------- outputs

_VARYING = (
    (re.compile(r"\b0x[0-9a-fA-F]{6,}\b"), "0x…"),  # an address in memory
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "…"),  # a UUID
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"), "…"),  # a moment
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "…"),  # a time of day
    (re.compile(r"(?<![\w.])\d+(?:[.,]\d+)* ?(?:ns|[µμ]s|us|ms|s|sec|seconds|min)\b(?:/it)?"), "…"),  # how long it took
    (re.compile(r"(?:file|memory|s3)://[^\s<>\"']+"), "…"),  # the address of a store
    (re.compile(r"(?<![\w.])(?:/tmp|/var/folders)/[^\s<>\"':,)]+"), "…"),
    (re.compile(r"\bnotebook-[0-9a-f]{4,}\b"), "…"),  # an exec_id
    (re.compile(r'(<(span|pre) class="kitaru-varies">)[^<]*'), r"\1…"),  # what Kitaru itself marks so
    (re.compile(r"\bT_[0-9a-f]{5,}"), "T_…"),  # the ids in a table that pandas has styled
    (re.compile(r"(?<=\bpid )\d+|(?<=\bpid=)\d+"), "…"),
)
_LIVE = {"application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"}
_TEXTS = {"application/javascript", "image/svg+xml"}


def sanitized(outputs: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Displayed outputs without ids, times and addresses; and whether there were any.

    Streams of one name are one output, colours are taken out of tracebacks, and what only lives with its kernel is
    left out.
    """
    kept: list[dict[str, Any]] = []
    varies = False
    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            _stream(kept, output["name"], _joined(output["text"]))
        elif kind == "error":
            kept.append(_error(output["ename"], output["evalue"]))
        elif kind in {"display_data", "execute_result"}:
            live = _LIVE & output["data"].keys()
            varies |= bool(live)
            data = {mime: value for mime, value in output["data"].items() if mime not in live}
            if data:
                more = {"execution_count": None} if kind == "execute_result" else {}
                kept.append({"output_type": kind, "data": data, "metadata": {}, **more})
    for output in kept:
        if output["output_type"] == "stream":
            output["text"], found = _clean(output["text"])
            varies |= found
        elif output["output_type"] == "error":
            message, found = _clean(output["evalue"])
            output |= _error(output["ename"], message)
            varies |= found
        else:
            for mime, value in output["data"].items():
                if mime.startswith("text/") or mime in _TEXTS:
                    output["data"][mime], found = _clean(_joined(value))
                    varies |= found
    return kept, varies


def _stream(kept: list[dict[str, Any]], name: str, text: str) -> None:
    """Put `text` behind what the stream of this name has said."""
    for output in kept:
        if output["output_type"] == "stream" and output["name"] == name:
            output["text"] += text
            return
    kept.append({"output_type": "stream", "name": name, "text": text})


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": kind, "evalue": message, "traceback": [f"{kind}: {message}"]}


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _clean(text: str) -> tuple[str, bool]:
    clean = text
    for pattern, instead in _VARYING:
        clean = pattern.sub(instead, clean)
    return clean, clean != text
