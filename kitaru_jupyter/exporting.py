"""Keeping a session: its branch as a notebook that runs again and checks what it gives.

`exported` writes such a notebook; here stands which cells it is made of: the steps that count, in their order, before
each the plain cells that it took something from, behind each the edits of what it gave.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.magic_arguments import argument, magic_arguments

from kitaru.client import Execution, KitaruClient
from kitaru.errors import KitaruError, UsageError
from kitaru.sessions import Branch, Held, Plain, Step, verdicts

from .capture import names_of
from .capture.documents import is_document
from .capture.readable import sharing, source_of
from .commands import Room, command
from .exported import NOT_LOADED, Checked, Edited, ExportedCell, export, literal
from .outputs import recorded
from .session import KEPT

__all__ = ["Exported", "Exporting", "cells_of", "write"]

_LOADED = 4_000  # bytes of a value that may be written out
_TERMINALS = re.compile(r"^(?:Out\[\d+\]: |Traceback \(most recent call last\))", re.MULTILINE)
_LOOKS = frozenset({"display", "len", "print", "repr", "sorted", "sum", "type"})
_BUILTINS = frozenset(dir(builtins))


class Exporting(Room):
    """What was done by hand, as something that runs by itself."""

    @command("export")
    @magic_arguments()
    @argument("file", metavar="FILE", help="FILE.ipynb, in a folder that is there")
    @argument("--force", action="store_true", help="replace a file that is there")
    def export(self, args: argparse.Namespace) -> None:
        """Write the cells up to here as a clean notebook, edits in place, that checks what it gives with nbval."""
        done = self.notebook.export(args.file, force=args.force)
        lines = [f"{done.path}: {_count(done.steps, 'step')}, {_count(done.checked, 'value')} checked"]
        if done.noted:
            lines.append(f"not checked, since they are no plain values: {', '.join(done.noted)}")
        print("\n".join([*lines, *done.left_out]))  # noqa: T201 - what was asked


class Exported(NamedTuple):
    """What was written.

    Attributes
    ----------
    path : Path
    steps, checked : int
        How many steps it has, and assertions.
    noted : tuple of str
        Outputs that it does not check: functions, classes, what shares objects, what is pickled.
    left_out : tuple of str
        Steps that are not in it, and why.
    """

    path: Path
    steps: int
    checked: int
    noted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def write(execution: Execution, at: str | None, path: str | os.PathLike[str], *, force: bool = False) -> Exported:
    """Write a notebook's branch, up to the step `at`, to a file; see `Notebook.export`."""
    import nbformat

    file = Path(path).expanduser()
    if file.suffix != ".ipynb":
        raise UsageError(f"{file} is no name of a notebook: it must end with .ipynb")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}: make it first")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already: choose another name, or give --force to replace it")
    if not execution.data.begun.by_hand:
        raise UsageError(
            f"{execution.exec_id} is an execution of the flow {execution.flow}, and has no cells to export: a flow "
            "is kept as a test with what it has recorded, so that no step runs that you do not name. Copy it: "
            f"kitaru.KitaruClient({execution.store.url!r}).executions.copy({execution.exec_id!r}, 'tests/recorded'); "
            "and in a test, by the fixture `replay`: "
            f"replay('recorded/{execution.exec_id}', {execution.flow}).result. See "
            '"Keep a failed run as a test" in the README'
        )
    cells, left_out = cells_of(execution, at)
    text = nbformat.writes(export(cells))
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(f"{text}\n", encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    checks = [(cell, checked) for cell in cells for checked in cell.checked]
    noted = tuple(f"{cell.name}.{c.variable}" for cell, c in checks if not c.is_checkable)
    return Exported(file, sum(cell.name is not None for cell in cells), len(checks) - len(noted), noted, left_out)


def cells_of(execution: Execution, at: str | None = None) -> tuple[list[ExportedCell], tuple[str, ...]]:
    """The cells that a notebook's branch is made of, up to the step `at`; and what is left out of it, and why.

    Raises
    ------
    UsageError
        There is nothing yet; a step is stale; or a value that no cell has made cannot be written as code.
    """
    branch = execution.branch()
    if at is not None:
        branch = branch.upto(branch.find(at)) if at else Branch(branch.exec_id)
    if not branch.steps:
        raise UsageError("there is nothing to export yet: no step was recorded up to here")
    found = verdicts(branch)
    stale = [v.step.label for v in found if v.decision == "rerun" and v.step.data.status == "completed"]
    if stale:
        raise UsageError(
            f"{', '.join(stale)} would give something else now, and what a notebook checks must be so when it runs: "
            "%kitaru resume first"
        )
    return _Cells(execution, branch).run()


@dataclass(slots=True)
class _PlainCell:
    """A cell that was not recorded."""

    cell: Plain
    place: int  # it was run before the step at this place of the branch
    seen: Branch  # as it was then
    reads: frozenset[str]
    only_looks: bool  # it shows something, and cannot have changed it
    is_written: bool = False


class _Cells:
    """The cells so far, from the first step to the last."""

    def __init__(self, execution: Execution, branch: Branch) -> None:
        self.execution, self.branch = execution, branch
        self.order = branch.current()
        self.past = _Past(execution, branch)
        self.plain = [
            _PlainCell(cell, place, seen, *_looked_at(cell))
            for place in range(len(branch))
            for cell, seen in self.past.plain(place)
        ]
        self.last = branch.state(places=self.order)
        self.imported: dict[str, str] = {}
        self.out: list[ExportedCell] = []
        self.left_out: list[str] = []

    def run(self) -> tuple[list[ExportedCell], tuple[str, ...]]:
        for turn, place in enumerate(self.order):
            step = self.branch.steps[place]
            if step.data.status not in {"completed", "failed"}:
                self.left_out.append(f"left out: {step.label}, which is {step.data.status}")
                continue
            before = self.branch.state(places=self.order[:turn])
            self.imported |= self.branch.imports(places=self.order[:turn])
            self._what_it_takes(step, place, before)
            if step.name == KEPT and step.data.type == KEPT:
                for name, value in step.outputs:
                    self._as_it_was(name, Held(value, step.label, step.group_of(name)))
            else:
                self._step(step, place)
        return self.out, tuple(self.left_out)

    def load(self, held: Held) -> Any:
        """A recorded value, if it is small and can be had; else `NOT_LOADED`."""
        value = self.execution.data.index.full(held.value)
        if value.kind in {"pickle", "reference"} or value.size > _LOADED:
            return NOT_LOADED
        try:
            return self.execution.ref_to(held).load()
        except KitaruError:
            return NOT_LOADED

    # ------------------------------------------------------------ steps

    def _step(self, step: Step, place: int) -> None:
        shown, is_terminals = _outputs(recorded(self.execution, step.label) or ())
        failure = step.data.failure
        self.out.append(
            ExportedCell(
                step.source.rstrip("\n"),
                step.name,
                outputs=shown,
                edits=[self._edit(step, place, name, edit) for name in step.edited for edit in self._made(place, name)],
                checked=[self._checked(step, name, value) for name, value in step.outputs],
                error=None if failure is None else (failure.type.rpartition(":")[2], failure.message),
                compared=not is_terminals,
            )
        )

    def _checked(self, step: Step, name: str, value: Any) -> Checked:
        held = Held(value, step.label)
        group = () if name in step.edited else step.group_of(name)
        loaded = self.load(held)
        preview = self.execution.data.index.full(value).preview
        about = f"{preview.get('type', '')} {preview.get('text', '')}".strip()
        if group or is_document(loaded) or name in step.notes.get("unrestorable", ()):
            others = [n for n in group if n != name]
            about = f"it shares objects with {', '.join(others)}" if others else about
            return Checked(name, value.digest.hex(), kind="document", about=about)
        return Checked(name, value.digest.hex(), loaded, value.kind, about)

    # ------------------------------------------------------------ edits

    def _made(self, place: int, name: str) -> list[Mapping[str, Any]]:
        """How an edited output was made: by code, one edit after the other; or by nothing but its value."""
        made = self.past.edits(place, name)
        return made if made and all(self._can_run_again(m.get("code"), place) for m in made) else made[-1:] or [{}]

    def _edit(self, step: Step, place: int, name: str, edit: Mapping[str, Any]) -> Edited:
        why, code = f"{edit.get('why', '')}", edit.get("code")
        if isinstance(code, str) and self._can_run_again(code, place):
            return Edited(name, code.strip("\n"), why=why)
        held = Held(dict(step.outputs)[name], step.label)
        value = self.load(held)
        if value is NOT_LOADED or is_document(value) or literal(value, most=20_000) is None:
            raise UsageError(
                f"{step.label}.{name} was edited to a value that cannot be written as code. Edit it by code that reads "
                "nothing but old and what there is behind that step, and export then: %%kitaru_edit "
                f"{step.label}.{name}"
            )
        return Edited(name, value=value, why=why)

    def _can_run_again(self, code: Any, place: int) -> bool:
        """Whether the code of an edit finds what it reads where it will stand: right behind the step."""
        if not isinstance(code, str):
            return False
        try:
            tree = ast.parse(code)
            reads = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            binds = {*names_of(tree).binds}
        except SyntaxError:
            return False
        if not tree.body or not isinstance(tree.body[-1], ast.Expr) or "old" in binds:
            return False
        if len(tree.body) > 1 and binds & self.last.keys():  # the edit's own variables would take their places
            return False
        upto = self.order[: self.order.index(place) + 1]
        there = self.branch.state(places=upto)
        imports = self.branch.imports(places=upto)
        own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own |= {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)} | binds
        for name in reads - own - {"old"}:
            same = name in there and name in self.last and there[name].value.digest == self.last[name].value.digest
            if not same and name not in imports and (name not in _BUILTINS or name in self.last):
                return False
        return True

    # ------------------------------------------------------------ what no step has made

    def _what_it_takes(self, step: Step, place: int, before: Mapping[str, Held]) -> None:
        """The plain cells that a step took something from, imports among them; else what it took, as it was."""
        taken = {
            name: Held(value, step.label, step.group_of(name, read=True))
            for name, value in step.data.arguments
            if name not in before or before[name].value.digest != value.digest
        }
        imports = {n: r for n, r in step.notes.get("imports_read", {}).items() if self.imported.get(n) != r}
        upto = next((n for n, p in enumerate(self.plain) if p.place > place), len(self.plain))
        wanted: set[int] = set()
        missing = [name for name in (*taken, *imports) if not self._wants(name, upto, before, wanted)]
        for name in missing:
            if name in imports:
                self.out.append(ExportedCell(_import(name, imports[name])))
                self.imported[name] = imports[name]
            else:
                self._as_it_was(name, taken[name])
        self._write_plain(wanted, taken, before)
        self.imported |= imports

    def _wants(self, name: str, upto: int, before: Mapping[str, Held], wanted: set[int]) -> bool:
        """Note the plain cells before `upto` that a variable came from, and what those took. False: there are none."""
        held = before.get(name)
        since = self.branch.find(held.step) if held is not None else -1
        is_there = held is not None
        changed = False
        for n in range(upto - 1, -1, -1):
            plain = self.plain[n]
            if plain.place <= since:
                break
            binds = name in plain.cell.binds
            if not binds and (name not in plain.reads or plain.only_looks):
                continue
            changed = True
            if n not in wanted:
                wanted.add(n)
                for other in sorted(plain.reads - {name} - _BUILTINS):
                    self._wants(other, n, before, wanted)
            if binds:
                if name not in plain.reads:
                    return True
                is_there = True
        return is_there and changed

    def _write_plain(self, wanted: set[int], taken: Mapping[str, Held], before: Mapping[str, Held]) -> None:
        tainted: set[str] = set()  # what plain cells would make otherwise now
        for n in sorted(wanted):
            plain = self.plain[n]
            if plain.is_written:
                continue
            plain.is_written = True
            cell = ExportedCell(plain.cell.source.rstrip("\n"), compared=False)
            then = plain.seen.state(plain.place)
            others = {k for k, v in before.items() if k in then and then[k].value.digest != v.value.digest}
            if (tainted | others) & plain.reads:  # it was not run again since, and what it had made was kept
                tainted |= {*plain.cell.binds}
                kept = {k: v for k, v in taken.items() if k in plain.cell.binds}
                cell = replace(cell, edits=[Edited(k, value=self._value(k, v)) for k, v in kept.items()])
            self.out.append(cell)

    def _as_it_was(self, name: str, held: Held) -> None:
        """A variable that no known cell has made: its value, or the source of what it is."""
        self.out.append(ExportedCell(self._written(name, held)))

    def _written(self, name: str, held: Held) -> str:
        loaded = self.load(held)
        if is_document(loaded) and not sharing(loaded, name) and (source := source_of(loaded, name)) is not None:
            return source
        return f"{name} = {literal(self._value(name, held), most=20_000)}"

    def _value(self, name: str, held: Held) -> Any:
        value = self.load(held)
        if value is NOT_LOADED or is_document(value) or literal(value, most=20_000) is None:
            raise UsageError(
                f"{held.step} has {name}, which no cell that was recorded or noted has made, and which cannot be "
                f"written as code: make {name} in a cell with %%kitaru_step, run that step again, and export then"
            )
        return value


class _Past:
    """What the forks that a branch hangs together by say of its steps, the newest one first."""

    def __init__(self, execution: Execution, branch: Branch) -> None:
        executions = KitaruClient(execution.store).executions
        self._branch = branch
        self._chain: list[tuple[Branch, Any]] = []
        while True:
            self._chain.append((execution.branch(), execution.data.begun.options.get("edits", ())))
            if execution.forked_from is None:
                return
            execution = executions.get(execution.forked_from)

    def plain(self, place: int) -> list[tuple[Plain, Branch]]:
        """The plain cells before a step, and the branch as it was when they ran."""
        for branch, _ in self._chain:
            step = self._step(branch, place)
            if step is not None and step.plain and not any(cell.kept for cell in step.plain):
                return [(cell, branch) for cell in step.plain]
        return []

    def edits(self, place: int, name: str) -> list[Mapping[str, Any]]:
        """The edits of one output since its step has run last, in order. Empty: not all of them are known."""
        made: list[Mapping[str, Any]] = []
        output = f"{self._branch.steps[place].label}.{name}"
        for n, (branch, edits) in enumerate(self._chain):
            step = self._step(branch, place)
            if step is None or name not in step.edited:
                break
            own = [e for e in edits if e.get("ref") == output]
            before = self._step(self._chain[n + 1][0], place) if n + 1 < len(self._chain) else None
            inherits = before is not None and name in before.edited
            changes = not inherits or _digest(before, name) != _digest(step, name)
            if changes and not own:
                return []
            made = [*own, *made]
        return made

    def _step(self, branch: Branch, place: int) -> Step | None:
        """The step at this place as another branch has it."""
        if place >= len(branch) or self._branch.ids.get(branch.steps[place].data.id) != place:
            return None
        return branch.steps[place]


def _digest(step: Step | None, name: str) -> bytes | None:
    value = None if step is None else dict(step.outputs).get(name)
    return None if value is None else value.digest


def _outputs(shown: Any) -> tuple[list[dict[str, Any]], bool]:
    """What a cell has shown as nbformat has it; and whether in a terminal: a notebook would show something else."""
    out: list[dict[str, Any]] = []
    is_terminals = False
    for output in shown:
        if "stream" in output:
            is_terminals |= output["stream"] == "stdout" and bool(_TERMINALS.search(output["text"]))
            out.append({"output_type": "stream", "name": output["stream"], "text": output["text"]})
        else:
            data = output.get("data") or output["result"]
            kind = "display_data" if "data" in output else "execute_result"
            is_terminals |= kind == "display_data" and [*data] == ["text/plain"] and not _is_literal(data["text/plain"])
            out.append({"output_type": kind, "data": data, "metadata": {}})
    return out, is_terminals


def _is_literal(text: Any) -> bool:
    """Whether this is the text of a value that a notebook shows as text, too."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def _looked_at(cell: Plain) -> tuple[frozenset[str], bool]:
    """All that a plain cell reads, for its note leaves out what is imported; and whether it does nothing but show."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        names = names_of(tree)
    except (SyntaxError, ValueError):
        return frozenset(cell.reads), False
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    only_looks = all(isinstance(part, ast.Expr) for part in tree.body) and all(
        isinstance(of, ast.Name) and of.id in _LOOKS for of in calls
    )
    return frozenset({*cell.reads, *names.reads}), only_looks


def _import(name: str, recipe: str) -> str:
    """The statement that binds `name` to what is imported by this name: ``module``, or ``module:name``."""
    module, _, inside = recipe.partition(":")
    if not inside:
        outer, _, last = module.rpartition(".")
        if last == name and outer:
            return f"from {outer} import {name}"
        return f"import {module}" if module == name else f"import {module} as {name}"
    if "." in inside:
        return f"import {module}\n{name} = {module}.{inside}"
    return f"from {module} import {inside}" + ("" if inside == name else f" as {name}")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
