"""The dynamic side of capture: what a cell has read, bound, changed and deleted, at the cost of what it touched.

A variable is *clean* while its fingerprint is known, and *dirty* once a cell that is not recorded, or anybody else, may
have changed it. What is clean before a cell is looked at after it only; what is dirty is looked at before too, so that
the inputs are exact.

It sees what the cells and the notebook's functions reach. A thread that goes on after its cell, a library that kept a
reference and a pointer in C change what it believes is clean: `Tracker.verify` finds them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from .documents import Restored, document, plain_value, restored
from .groups import Group, Groups
from .notice import PLAIN, Fingerprint, fingerprint
from .reach import is_array, reach

__all__ = ["Before", "Changes", "Difference", "Touches", "Tracker", "Verified"]

_SEEN = 4096  # fingerprints whose tokens are remembered, so that a change that is taken back is known again
_AT_ONCE = 0.01  # seconds of looking that are planned together
_IPYTHONS = frozenset({"In", "Out", "exit", "quit", "get_ipython"})


class Touches(Protocol):
    """What a cell may do, from its code: names, each set a superset of what it does.

    Attributes
    ----------
    reads, binds, deletes : names that it may read before it binds them, bind, delete
    touched : all names whose objects it may reach
    wild : it may reach anything
    """

    @property
    def reads(self) -> Collection[str]: ...
    @property
    def binds(self) -> Collection[str]: ...
    @property
    def deletes(self) -> Collection[str]: ...
    @property
    def touched(self) -> Collection[str]: ...
    @property
    def wild(self) -> bool: ...


class Before(NamedTuple):
    """The variables as a cell finds them.

    Attributes
    ----------
    reads : frozenset of str
        Those that it may read, and that exist.
    moved : frozenset of str
        Those that a plain cell or somebody else has bound, changed or taken away since they were last looked at.
    """

    reads: frozenset[str]
    moved: frozenset[str]


class Changes(NamedTuple):
    """What a cell has done to the variables.

    Attributes
    ----------
    reads : frozenset of str
        What it may have read, of what existed before.
    bound : frozenset of str
        What it has bound to something else.
    held : frozenset of str
        What its code may have bound, to the very object that it was bound to before. For who asks what depends on the
        cell: another time it may be bound to another.
    changed : frozenset of str
        What it has changed in place: not bound, and no longer the same.
    deleted : frozenset of str
        What is gone.
    groups : tuple of Group
        All groups of the variables that were looked at, those of one variable too.
    unrestorable : dict of str to str
        Of those variables, the ones that hold what cannot be restored, and why.
    """

    reads: frozenset[str]
    bound: frozenset[str]
    held: frozenset[str]
    changed: frozenset[str]
    deleted: frozenset[str]
    groups: tuple[Group, ...]
    unrestorable: dict[str, str]

    @property
    def shared(self) -> tuple[Group, ...]:
        """The groups of more than one variable."""
        return tuple(group for group in self.groups if len(group) > 1)


class Difference(NamedTuple):
    """The way from the namespace as it is to a state.

    Attributes
    ----------
    load : frozenset of Group
        The groups of the state to be loaded.
    remove : frozenset of str
        The variables that the state does not have. Those that were never recorded are among them.
    """

    load: frozenset[Group]
    remove: frozenset[str]


class Verified(NamedTuple):
    """What looking again at everything that is believed unchanged has found.

    Attributes
    ----------
    changed : frozenset of str
        Variables that had changed unnoticed; they are known as they are now.
    unchecked : frozenset of str
        Variables that there was no time left to look at.
    """

    changed: frozenset[str]
    unchecked: frozenset[str]


@dataclass(slots=True)
class _Known:
    """A group as it was when it was last looked at."""

    fingerprint: Fingerprint
    took: float  # seconds
    token: object | None = None


@dataclass(slots=True)
class _Moves:
    groups: list[Group] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)  # other content, or never seen
    regrouped: set[str] = field(default_factory=set)  # the same content, in another group


class Tracker:
    """Follows the variables of a namespace from cell to cell.

    Parameters
    ----------
    namespace
        The user's namespace, as it is: it is read, and written by `restore` alone.
    hidden
        Names that are not the user's variables, beside those that begin with an underscore.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> namespace = {"rows": [1, 2]}
    >>> tracker = Tracker(namespace)
    >>> cell = SimpleNamespace(reads={"rows"}, binds=set(), deletes=set(), touched={"rows"}, wild=False)
    >>> _ = tracker.before(cell)
    >>> namespace["rows"].append(3)
    >>> tracker.after(cell).changed
    frozenset({'rows'})
    """

    def __init__(self, namespace: MutableMapping[str, Any], hidden: Collection[str] = ()) -> None:
        self.namespace, self.hidden = namespace, hidden
        self._groups = Groups()
        self._known: dict[Group, _Known] = {}
        self._ids: dict[str, int] = {}
        self._keys: list[str] = []
        self._names: frozenset[str] = frozenset()
        self._order: tuple[str, ...] = ()  # those names, as the namespace has them
        self._stamp: tuple[tuple[str, ...], list[int]] = ((), [])  # them, and identities: nothing was bound anew
        self._dirty: set[str] = set()
        self._seen: OrderedDict[tuple[Group, bytes], object] = OrderedDict()
        self._existed: frozenset[str] = frozenset()
        self._reachable: set[str] = set()

    # ------------------------------------------------------------ what there is

    def names(self) -> frozenset[str]:
        """The user's variables."""
        keys, before = list(self.namespace), self._keys
        if keys != before:  # compared in C: a kernel with many variables costs little
            is_more = keys[: len(before)] == before  # nearly always: the text of one more cell, which is not the user's
            hidden = self.hidden
            found = keys[len(before) :] if is_more else keys
            found = [n for n in found if n[:1] != "_" and n not in _IPYTHONS and n not in hidden]
            if found or not is_more:
                self._order = (*self._order, *found) if is_more else tuple(found)
                self._names = frozenset(self._order)
            self._keys = keys
        return self._names

    def groups(self) -> tuple[Group, ...]:
        """The groups of variables, as they were last looked at."""
        return tuple(self._known)

    def group_of(self, name: str) -> Group | None:
        """The group that a variable is in; None before it was looked at."""
        return self._groups.of(name)

    def pending(self) -> tuple[Group, ...]:
        """The groups without a token: what would have to be recorded to have the namespace as it is now."""
        return tuple(group for group, known in self._known.items() if known.token is None)

    def token(self, group: Group) -> object | None:
        """What `record` was given for the group as it is now; None: it was not recorded, or may have changed since."""
        known = self._known.get(group)
        if known is None or not self._dirty.isdisjoint(group) or not self._is_bound(group):
            return None
        return known.token

    def record(self, group: Group, token: object) -> None:
        """The group as it was last looked at has been recorded under `token`: its artifact's digest, for one."""
        known = self._known[group]
        known.token = token
        if known.fingerprint.digest is not None:
            self._seen[group, known.fingerprint.digest] = token
            while len(self._seen) > _SEEN:
                self._seen.popitem(last=False)

    def value_of(self, group: Group) -> Any:
        """What to record for a group: the one variable's value as it is, or a document (see `documents`)."""
        if len(group) == 1 and group[0] in self._groups.reach:
            value = self.namespace[group[0]]
            if plain_value(value, self._groups.reach[group[0]]):
                return value
        return document(group, self.namespace)

    # ------------------------------------------------------------ cells

    def before(self, touches: Touches) -> Before:
        """A cell that is recorded is about to run: bring up to date what others have changed since the last one."""
        moved = self.settle()
        self._existed = self.names()
        self._reachable = self._reached(touches)
        return Before(self._read(touches), moved)

    def after(self, touches: Touches) -> Changes:
        """The cell has run, or failed: what it has done."""
        rebound = self._rebound()
        looked_at = self._reachable | self._reached(touches) | rebound
        followers = self._groups.users_of(rebound) - looked_at
        moves = self._refresh(looked_at | followers)
        alive = self.names()
        may_bind = alive.intersection(touches.binds)
        bound = (alive & rebound) | (may_bind & moves.changed)
        lost: dict[str, str] = {}
        for group in moves.groups:
            lost.update(self._known[group].fingerprint.lost)
        return Changes(
            reads=self._read(touches),
            bound=bound,
            held=may_bind - bound,
            changed=frozenset(moves.changed) - bound - followers,
            deleted=frozenset(self._existed - alive),
            groups=tuple(sorted(moves.groups)),
            unrestorable=lost,
        )

    def plain(self, touches: Touches) -> None:
        """A cell that is not recorded has run: what it can have reached is dirty. Nothing is looked at."""
        self._dirty |= self._reached(touches)

    def settle(self) -> frozenset[str]:
        """Look at everything that is dirty. Gives the variables that were bound, changed or taken away."""
        rebound = self._rebound()
        todo = self._dirty | rebound
        if not todo:
            return frozenset()
        gone = frozenset(self._ids.keys() - self.names())
        moves = self._refresh(todo | self._groups.used_by(todo) | self._groups.users_of(rebound))
        return frozenset(moves.changed) | gone

    def verify(self, budget: float = 0.05) -> Verified:
        """Look again at what is believed unchanged: memory always, Python's objects for `budget` seconds in all.

        What was cheap to look at the last time comes first.
        """
        changed = set(self.settle())
        memory = {name for group in self._known if self._is_memory(group) for name in group}
        changed |= self._refresh(memory).changed
        objects = [group for group in self._known if memory.isdisjoint(group)]
        objects.sort(key=lambda group: self._known[group].took)
        end, todo, expected = time.perf_counter() + budget, set[str](), 0.0
        unchecked: set[str] = set()
        for at, group in enumerate(objects):
            took = self._known[group].took if group in self._known else 0.0
            if time.perf_counter() + expected + took > end:
                unchecked.update(*objects[at:])
                break
            todo.update(group)
            expected += took
            if expected > _AT_ONCE:  # in parts, so that a wrong guess costs little
                changed |= self._refresh(todo).changed
                todo, expected = set(), 0.0
        changed |= self._refresh(todo).changed
        return Verified(frozenset(changed), frozenset(unchecked & self.names()))

    # ------------------------------------------------------------ time travel

    def differing(self, state: Mapping[Group, object]) -> Difference:
        """What to load, and what to take away, to have the namespace in a state: the token of each of its groups.

        A class or function that is loaded is another object, so what refers to it by its variable is loaded too.
        """
        wanted = {name: group for group in state for name in group}
        remove = frozenset(self.names() - wanted.keys())
        load = {group for group, token in state.items() if (own := self.token(group)) is None or own != token}
        while True:
            moved = {name for group in load for name in group} | remove
            users = {wanted[name] for name in self._groups.users_of(moved) if name in wanted} - load
            if not users:
                return Difference(frozenset(load), remove)
            load |= users

    def restore(
        self,
        values: Mapping[Group, Any],
        remove: Iterable[str] = (),
        tokens: Mapping[Group, object] | None = None,
        *,
        keep: Collection[str] | None = None,
    ) -> Restored:
        """Put loaded values into the namespace, by one short update, and take the variables `remove` out of it.

        Parameters
        ----------
        values
            For each group, what `value_of` gave for it and a store gave back. Documents are carried out: their code
            runs, so ask `documents.code_in` first.
        tokens
            What these groups are recorded under.
        keep
            The variables that are put there; the others of a document stay as they are. All, when left out.

        Raises
        ------
        CorruptionError
            It is no value that `value_of` gave; the namespace is as it was.
        """
        remove = set(remove)
        made = restored(values, self.namespace, remove)
        wanted = made.variables if keep is None else {n: v for n, v in made.variables.items() if n in keep}
        self.namespace.update(wanted)
        for name in remove:
            self.namespace.pop(name, None)
        names = remove.union(wanted)
        self._refresh(names | self._groups.users_of(names))
        for group, token in (tokens or {}).items():
            if group in self._known:
                self.record(group, token)
        return made

    # ------------------------------------------------------------ looking

    def _rebound(self) -> set[str]:
        """The variables that are bound to something else than when they were last looked at, and those that are gone.

        An identity can be another object's by now; but then a cell has bound the variable, and it is looked at.
        """
        ids, names = self._ids, self.names()
        order, addresses = self._order, list(map(id, map(self.namespace.get, self._order)))
        if (order, addresses) == self._stamp:
            return set()
        rebound = {name for name, address in zip(order, addresses, strict=True) if ids.get(name) != address}
        rebound |= ids.keys() - names
        if not rebound:
            self._stamp = order, addresses
        return rebound

    def _is_bound(self, group: Group) -> bool:
        return all(name in self.namespace and self._ids.get(name) == id(self.namespace[name]) for name in group)

    def _is_memory(self, group: Group) -> bool:
        """Whether it is arrays and frames alone."""
        return all(_is_buffer(type(self.namespace[name])) for name in group if name in self.namespace)

    def _read(self, touches: Touches) -> frozenset[str]:
        """What it may read of what existed; of wild code anything."""
        return self._existed if touches.wild else self._existed.intersection(touches.reads)

    def _reached(self, touches: Touches) -> set[str]:
        names = self.names()
        if touches.wild:
            return {*names, *self._ids}
        found = {*touches.touched, *touches.reads, *touches.binds, *touches.deletes}
        aliases = [n for n in found if n in self.namespace and n not in names]
        for name in aliases:  # `_`, `Out` and their like hold what recorded variables hold too
            found |= self._groups.reaching(reach(self.namespace[name], self.namespace).ids)
        found = {n for n in found if n in names or n in self._ids}
        return found | self._groups.used_by(found)

    def _refresh(self, names: Iterable[str]) -> _Moves:
        """Look at these variables, and at all that share with them; they are clean from now on."""
        namespace, alive = self.namespace, self.names()
        names = self._groups.members(names)
        if not names:
            return _Moves()
        groups, former = self._groups.update(names, alive, namespace)
        looked_at = {name for group in groups for name in group}
        was = {group: self._known.pop(group) for group in set(former.values())}
        moves = _Moves(groups)
        for group in groups:
            self._look(group, was, former, moves)
        for name in names - alive:
            self._ids.pop(name, None)
        self._ids.update((name, id(namespace[name])) for name in looked_at)
        self._dirty -= looked_at | names
        return moves

    def _look(self, group: Group, was: Mapping[Group, _Known], former: Mapping[str, Group], moves: _Moves) -> None:
        begin = time.perf_counter()
        reached = self._groups.reach
        trees = [name for name in group if reached[name].is_tree and reached[name].types <= PLAIN]
        now = fingerprint(group, self.namespace, trees)
        took = time.perf_counter() - begin
        before = was.get(group)
        if before is not None and now.digest is not None and before.fingerprint.digest == now.digest:
            self._known[group] = _Known(now, took, before.token)
            return
        token = None if now.digest is None else self._seen.get((group, now.digest))
        self._known[group] = _Known(now, took, token)
        for name in group:
            earlier = was.get(former[name]) if name in former else None
            alone = None if earlier is None else earlier.fingerprint.each.get(name)
            if alone is not None and alone == now.each.get(name):
                moves.regrouped.add(name)
            else:
                moves.changed.add(name)


def _is_buffer(cls: type) -> bool:
    return is_array(cls) or cls.__module__.partition(".")[0] in {"pandas", "polars", "pyarrow"}
