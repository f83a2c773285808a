"""The kernel's variables as a session records them, and as it puts them back.

A variable's value is recorded once; whoever reads it again names it. What shares objects is recorded together, as one
document. Imported modules, functions and classes are kept by the name that they are imported by.
"""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from kitaru import Ref
from kitaru.errors import CodeNotFoundError, UntrustedValueError
from kitaru.sessions import Document, Held, Plain, Step, looking

from .capture import Touches, names_of
from .capture.documents import code_in, is_document, restored, runs_code
from .capture.importable import found, name_of
from .capture.tracker import Changes, Tracker

__all__ = ["Inputs", "Moved", "Namespace", "Outputs"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a cell is about to read.

    Attributes
    ----------
    values : dict of str to object
        By name: a `Ref` where it is recorded as it is, else what to record.
    notes : dict of str to object
        What the step's beginning notes: plain cells, and what came from them.
    """

    values: dict[str, Any]
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a cell has left.

    Attributes
    ----------
    values : dict of str to object
        By name, as in `Inputs`.
    notes : dict of str to object
        What the step's end notes.
    """

    values: dict[str, Any]
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a checkout did to the variables, by their names.

    Attributes
    ----------
    loaded, removed, kept : tuple of str
        Put there; taken away; the user's own, which no step has recorded, and which stayed.
    lost : dict of str to str
        Those with something in them that could not be had again, and why.
    again : tuple of str or None
        Of an execution of a flow, which has no variables: the steps that run again from where it went back to.
    unsure : dict of str to str
        Those that are as they were recorded, which a cell without a record had bound since; and that cell.
    """

    loaded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)
    again: tuple[str, ...] | None = None
    unsure: dict[str, str] = field(default_factory=dict)


class Namespace:
    """The user's variables.

    Parameters
    ----------
    variables
        The kernel's namespace, as it is.
    hidden
        Names that are not the user's.
    """

    def __init__(self, variables: MutableMapping[str, Any], hidden: Collection[str] = ()) -> None:
        self.variables = variables
        self.tracker = Tracker(variables, hidden)
        self._refs: dict[object, Ref[Any]] = {}  # by the token of what is recorded
        self._documents: set[object] = set()  # those of them that are documents
        self._recorded: set[str] = set()  # variables that a step has recorded
        self._imported: set[str] = set()  # and those that a step has bound to what is imported
        self._plain: list[Plain] = []  # cells since the last step
        self._given: dict[str, str] = {}  # the digest of what a step has given or read, by the variable that has it
        self._source: dict[str, str] = {}  # the label of the plain cell that bound or changed a variable last
        self._taken: dict[str, str] = {}  # likewise, of those that are recorded, with a step that read them
        self._early: list[tuple[str, str, ast.Module]] = []  # cells before the first step

    @property
    def is_followed(self) -> bool:
        """Whether a step was recorded: from then on, what other cells do matters."""
        return bool(self._recorded or self._refs)

    # ------------------------------------------------------------ cells

    def note_early(self, label: str, source: str, tree: ast.Module) -> None:
        """A cell that runs before the first step: it is looked at when there is one, if ever."""
        self._early.append((label, source, tree))

    def _look_at_early(self) -> None:
        for label, source, tree in self._early:
            try:
                names = names_of(tree)
            except SyntaxError:
                continue
            alive = self.tracker.names()
            binds = tuple(n for n in names.binds if n in alive)
            reads = tuple(n for n in names.reads if n in alive and self._import(n) is None)
            self._plain.append(Plain(label, source, reads, binds))
            self._source.update(dict.fromkeys((*reads, *binds), label))
        self._early.clear()

    def note_plain(self, label: str, source: str, touches: Touches) -> None:
        """A cell has run that is not recorded, or that has failed."""
        self.tracker.plain(touches)
        alive = self.tracker.names()
        reads = tuple(n for n in touches.reads if n in alive and self._import(n) is None)
        binds = tuple(n for n in touches.binds if n in alive)
        self._plain.append(Plain(label, source, reads, binds, self._found(reads)))
        for name in binds:
            self._given.pop(name, None)
        # What it may have changed in place is found out when somebody reads it; then this is where that came from.
        self._source.update(dict.fromkeys((*(n for n in touches.touched if n in alive), *binds), label))

    def _found(self, reads: Iterable[str]) -> dict[str, str]:
        return {n: self._given[n] for n in reads if n in self._given}

    @contextmanager
    def plain_aside(self) -> Iterator[None]:
        """Meanwhile, earlier steps run again: the cells that no step has noted yet stand behind those."""
        cells, self._plain = self._plain, []
        try:
            yield
        finally:
            alive = self.tracker.names()
            self._plain += [cell for cell in cells if alive.intersection(cell.binds)]

    def keep_plain(self, step: Step) -> None:
        """A step is about to run again without the plain cells that stood before it: it notes them all the same."""
        self._plain = [replace(cell, found=self._found(cell.reads), kept=True) for cell in step.plain]
        sources = step.notes.get("unrecorded", {})
        self._taken |= {name: label for name, label in sources.items() if name in self._taken}

    def begin(self, touches: Touches, only: Iterable[str] | None = None) -> Inputs:
        """A cell that is recorded is about to run. `only` are its inputs where they were given by name."""
        self._look_at_early()
        before = self.tracker.before(touches)
        names = [n for n in touches.reads if n in before.reads] if only is None else list(only)
        values, imports, documents = self._recordable(names)
        unrecorded = {n: self._source.get(n, "") for n, v in values.items() if not isinstance(v, Ref)}
        unrecorded |= {n: self._taken[n] for n, v in values.items() if isinstance(v, Ref) and n in self._taken}
        notes: dict[str, Any] = {
            "plain": [cell.to_notes() for cell in self._plain],
            "unrecorded": unrecorded,
            "documents_read": documents,
            "imports_read": imports,
        }
        return Inputs(values, {key: value for key, value in notes.items() if value})

    def begun(self, inputs: Inputs, refs: Mapping[str, Ref[Any]]) -> None:
        """The step has begun: its inputs stand in the journal, and so do the notes of the plain cells before it."""
        self._learn(refs, inputs.notes.get("documents_read", ()))
        self._taken |= inputs.notes.get("unrecorded", {})
        self._plain.clear()

    def end(self, touches: Touches, only: Collection[str] | None = None) -> Outputs:
        """The cell has run. `only` are its outputs where they were given by name."""
        changes = self.tracker.after(touches)
        names = self._outputs(changes, touches.binds) if only is None else [n for n in only if n in self.variables]
        values, imports, documents = self._recordable(names)
        notes: dict[str, Any] = {
            "bound": sorted(n for n in changes.bound | changes.held if n in values or n in imports),
            "changed": sorted(n for n in changes.changed if n in values),
            "deleted": sorted(changes.deleted & (self._recorded | self._imported)),
            "documents": documents,
            "unrestorable": {n: why for n, why in sorted(changes.unrestorable.items()) if n in values},
            "imports": imports,
        }
        return Outputs(values, {key: value for key, value in notes.items() if value})

    def ended(self, outputs: Outputs, refs: Mapping[str, Ref[Any]]) -> None:
        """The outputs stand in the journal."""
        self._learn(refs, outputs.notes.get("documents", ()))
        self._recorded -= set(outputs.notes.get("deleted", ()))
        self._recorded |= refs.keys()
        self._imported -= set(outputs.notes.get("deleted", ()))
        self._imported |= set(outputs.notes.get("imports", ()))
        for name in refs:
            self._source.pop(name, None)
            self._taken.pop(name, None)

    def _outputs(self, changes: Changes, binds: Iterable[str]) -> list[str]:
        """The variables of all groups that the cell has made, changed, or regrouped; those that it binds first."""
        moved = changes.bound | changes.held | changes.changed
        names: dict[str, None] = {}
        for group in changes.groups:
            if self.tracker.token(group) is not None:
                names |= dict.fromkeys(n for n in group if n in moved)
            elif not moved.isdisjoint(group) or not self._recorded.isdisjoint(group):
                names |= dict.fromkeys(group)
        first = [name for name in binds if name in names]
        return [*dict.fromkeys((*first, *names))]

    def _recordable(self, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str], list[list[str]]]:
        """What to record for these variables: a `Ref` where that stands in the journal; what is imported instead;
        and which of them are documents.
        """
        values: dict[str, Any] = {}
        imports: dict[str, str] = {}
        made: dict[tuple[str, ...], Any] = {}
        documents: set[tuple[str, ...]] = set()
        for name in names:
            if (recipe := self._import(name)) is not None:
                imports[name] = recipe
                continue
            group = self.tracker.group_of(name)
            if group is None:  # it is hidden, and was asked for by name
                values[name] = self.variables[name]
                continue
            token = self.tracker.token(group)
            if (ref := self._refs.get(token)) is not None:
                values[name] = ref
                if token in self._documents:
                    documents.add(group)
                continue
            if group not in made:
                made[group] = self.tracker.value_of(group)
            values[name] = made[group]
            if is_document(made[group]):
                documents.add(group)
                values[name] = Document(made[group], self.variables[name])
        return values, imports, [list(group) for group in sorted(documents)]

    def _learn(self, refs: Mapping[str, Ref[Any]], documents: Iterable[Collection[str]]) -> None:
        """These variables stand in the journal, as the refs say."""
        in_documents = {name for group in documents for name in group}
        for name, ref in refs.items():
            group = self.tracker.group_of(name)
            if group is None or ref.kind == "reference":
                continue
            self._given[name] = ref.digest
            self._refs[ref.digest] = ref
            if name in in_documents:
                self._documents.add(ref.digest)
            self.tracker.record(group, ref.digest)

    def _import(self, name: str) -> str | None:
        """The name that a variable's value is imported by: a module, or a function or class in one."""
        value = self.variables.get(name)
        if isinstance(value, types.ModuleType):
            return None if value.__name__ == "__main__" else value.__name__
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type) or type(value).__module__ in _STEPS:
            return name_of(value, self.variables)
        return None

    # ------------------------------------------------------------ going elsewhere

    def unrecorded(self, state: Collection[str]) -> list[str]:
        """The variables that going to a state with these would lose: they are not what was recorded of them."""
        self.tracker.verify()
        alive = self.tracker.names()
        return sorted(
            n
            for n in self._recorded.union(state) & alive
            if self._import(n) is None and (group := self.tracker.group_of(n)) is not None
            if self.tracker.token(group) is None
        )

    def keep(self, names: Iterable[str]) -> Outputs:
        """What to record for these variables, as they are now."""
        values, _, documents = self._recordable(names)
        return Outputs(values, {"documents": documents} if documents else {})

    def go(
        self, state: Mapping[str, Held], imports: Mapping[str, str], load: Callable[[Held], Ref[Any]], *, trusted: bool
    ) -> Moved:
        """Make the variables what `state` says; those that are so already are not touched.

        Parameters
        ----------
        load
            Gives the `Ref` to what is held.
        trusted
            Whether code in documents may run: the store is one that this user trusts.

        Raises
        ------
        UntrustedValueError
            It holds code, and the store is not trusted. Nothing has changed.
        KitaruError
            A value cannot be loaded. Nothing has changed.
        """
        self.tracker.settle()
        wanted = {name: held for name, held in state.items() if held.value.kind != "reference"}
        refs = {name: load(held) for name, held in wanted.items()}
        groups: dict[tuple[str, ...], tuple[tuple[str, ...], Ref[Any]]] = {}  # the document's own variables, and it
        for name, held in wanted.items():
            names = held.names or (name,)
            together = tuple(sorted(n for n in names if n in refs and refs[n].digest == refs[name].digest))
            groups[together] = tuple(names), refs[name]
        differs = self.tracker.differing({group: ref.digest for group, (_, ref) in groups.items()})
        todo = dict(groups[group] for group in differs.load)
        with looking() as looks:  # at what was loaded, while it was verified: it need not be read again
            values = {names: ref.load() for names, ref in todo.items()}
            if not trusted:
                _check_trust(values)
            modules = _imported({n: recipe for n, recipe in imports.items() if self._import(n) != recipe})
            alive = self.tracker.names()
            imported = {n for n in self._imported if self._import(n) is not None}
            removed = sorted(((self._recorded | imported) & alive) - wanted.keys() - imports.keys())
            loaded = {n for names in todo for n in names if n in wanted and refs[n].digest == todo[names].digest}
            if looks and any(map(runs_code, values.values())):
                looks.forget()  # it may change an array that it is given
            made = self.tracker.restore(values, removed, keep=loaded)
        self.variables.update(modules)
        self._learn({n: refs[n] for n in loaded}, [held.names for held in wanted.values() if held.names])
        self._recorded = {name for name, held in wanted.items() if not held.is_taken}
        self._taken = {name: self._taken.get(name, "") for name, held in wanted.items() if held.is_taken}
        self._imported = (self._imported & set(imports)) | set(modules)
        self._source = {n: label for n, label in self._source.items() if n not in loaded and n not in removed}
        self._given = {name: refs[name].digest for name in wanted}
        kept = sorted(n for n in alive - wanted.keys() - set(removed) - imports.keys() if self._import(n) is None)
        self._plain = [cell for cell in self._plain if set(kept).intersection(cell.binds)]  # what they made is there
        lost = {n: why for n, why in made.lost.items() if n in loaded}
        return Moved(tuple(sorted({*loaded, *modules})), tuple(removed), tuple(kept), lost)

    def load(self, name: str, ref: Ref[Any], *, trusted: bool) -> Any:
        """A variable as it was recorded, as a fresh object; the namespace is left as it is."""
        value = ref.load()
        if not is_document(value):
            return value
        names = tuple(sorted(value.get("variables", {})))
        if not trusted:
            _check_trust({names: value})
        return restored({names: value}, self.variables).variables[name]

    def put(self, name: str, ref: Ref[Any], *, trusted: bool) -> None:
        """Bind one variable to what is recorded."""
        value = ref.load()
        if not trusted:
            _check_trust({(name,): value})
        names = tuple(sorted(value.get("variables", {}))) if is_document(value) else (name,)
        self.tracker.restore({names: value}, keep={name})
        self._learn({name: ref}, [names] if is_document(value) else ())
        self._source.pop(name, None)
        self._taken.pop(name, None)

    def form_of(self, name: str, value: Any) -> Any:
        """What to record for a value that is to be this variable's."""
        alone = Tracker({**{k: v for k, v in self.variables.items() if k == "__name__"}, name: value})
        alone.settle()
        form = alone.value_of((name,))
        return Document(form, value) if is_document(form) else value


_STEPS = {"kitaru.steps", "kitaru.flows"}


def _check_trust(values: Mapping[tuple[str, ...], Any]) -> None:
    for names, value in values.items():
        code = code_in(value)
        if code.needs_trust:
            what = ", ".join([*code.imports[:3], *(s.strip().partition("\n")[0] for s in code.sources[:3])])
            raise UntrustedValueError(
                f"{', '.join(names)} cannot be had again without running code ({what}), and the store that it comes "
                "from is not one that you trust. Look at it with %kitaru show; if you trust whoever wrote it, set "
                "KITARU_TRUST to the store's address, and check out again"
            )


def _imported(recipes: Mapping[str, str]) -> dict[str, Any]:
    """What is imported by these names. Raises `CodeNotFoundError`."""
    out = {}
    for name, recipe in recipes.items():
        module, _, inside = recipe.partition(":")
        try:
            out[name] = found(recipe) if inside else importlib.import_module(module)
        except (ImportError, AttributeError) as e:
            raise CodeNotFoundError(
                f"{name} was imported from {recipe}, which cannot be had here: {e}. Install it, and check out again"
            ) from e
    return out
