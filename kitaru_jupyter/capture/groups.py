"""Which variables share objects. Only those that may have moved are walked again; the others are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .importable import Namespace
from .reach import Reach, reach

__all__ = ["Group", "Groups", "Update"]

Group = tuple[str, ...]
"""The variables of a group, sorted."""

_BIG = 200  # identities from which on two sets are compared in C rather than one by one


class Update(NamedTuple):
    """What an update has looked at.

    Attributes
    ----------
    groups : list of Group
        The groups that the variables are in now.
    former : dict of str to Group
        Those that they were in before.
    """

    groups: list[Group]
    former: dict[str, Group]


class Groups:
    """The groups of a namespace's variables.

    >>> groups, namespace = Groups(), {"a": [], "n": 1}
    >>> namespace["b"] = {"a": namespace["a"]}
    >>> sorted(groups.update({"a", "b", "n"}, {"a", "b", "n"}, namespace).groups)
    [('a', 'b'), ('n',)]
    """

    def __init__(self) -> None:
        self.reach: dict[str, Reach] = {}
        self._of: dict[str, Group] = {}
        self._users: dict[str, set[str]] = {}  # a class's or function's variable → who refers to it by its name

    def __iter__(self) -> Iterator[Group]:
        return iter(dict.fromkeys(self._of.values()))

    def of(self, name: str) -> Group | None:
        """The group that a variable was in at the last update."""
        return self._of.get(name)

    def members(self, names: Iterable[str]) -> set[str]:
        """`names`, and all variables of their groups."""
        found = set(names)
        for name in tuple(found):
            found.update(self._of.get(name, ()))
        return found

    def used_by(self, names: Iterable[str]) -> set[str]:
        """The variables whose classes and functions these refer to, and so on: what is reached through them moves."""
        found: set[str] = set()
        todo = list(self.members(names))
        while todo:
            name = todo.pop()
            if name in self.reach:
                new = self.reach[name].uses - found
                found |= new
                todo += new
        return found

    def users_of(self, names: Iterable[str]) -> set[str]:
        """The variables that refer to classes and functions by these names: they walk on once those are bound anew."""
        found: set[str] = set()
        for name in names:
            found |= self._users.get(name, set())
        return found

    def reaching(self, ids: frozenset[int]) -> set[str]:
        """The variables that reach one of these objects."""
        return {name for name, known in self.reach.items() if not known.ids.isdisjoint(ids)} if ids else set()

    def update(self, names: Iterable[str], alive: Iterable[str], namespace: Namespace) -> Update:
        """Walk these variables again, and all that they now share with.

        Parameters
        ----------
        names
            The variables that may have moved, those that are gone among them.
        alive
            All variables that there are.
        """
        alive = alive if isinstance(alive, (set, frozenset)) else set(alive)
        moved = self.members(names)
        todo, walked = moved & alive, {}
        while todo:
            for name in todo:
                walked[name] = reach(namespace[name], namespace)
            met = frozenset().union(*(walked[name].ids for name in todo))
            # Whoever reaches what was reached before is in the same group already.
            met -= frozenset().union(*(self.reach[name].ids for name in todo if name in self.reach))
            todo = (
                set()
                if not met
                else {
                    name
                    for name, known in self.reach.items()
                    if name not in walked and name in alive and not known.ids.isdisjoint(met)
                }
            )
            # One that was met by a way that nobody saw brings its group along.
            todo = {name for name in self.members(todo) if name not in walked and name in alive}
        former = {name: self._of[name] for name in (*walked, *(moved - alive)) if name in self._of}
        for name in moved - alive:
            self._forget(name)
        for name, known in walked.items():
            self._forget(name)
            self.reach[name] = known
            for used in known.uses:
                self._users.setdefault(used, set()).add(name)
        groups = _connected(walked)
        for group in groups:
            self._of.update(dict.fromkeys(group, group))
        return Update(groups, former)

    def _forget(self, name: str) -> None:
        self._of.pop(name, None)
        known = self.reach.pop(name, None)
        for used in known.uses if known is not None else ():
            self._users[used].discard(name)


def _connected(walked: Mapping[str, Reach]) -> list[Group]:
    """The variables whose sets overlap, directly or through others."""
    parent = {name: name for name in walked}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[int, str] = {}
    big: list[str] = []
    for name, known in walked.items():
        if len(known.ids) > _BIG:
            big.append(name)
            continue
        for i in known.ids:
            parent[root(name)] = root(first.setdefault(i, name))
    met = first.keys()
    for at, name in enumerate(big):
        ids = walked[name].ids
        for other in big[:at]:
            if root(other) != root(name) and not ids.isdisjoint(walked[other].ids):
                parent[root(name)] = root(other)
        smaller = ids & met if len(met) > len(ids) else (i for i in met if i in ids)
        for i in tuple(smaller):
            parent[root(name)] = root(first[i])
    together: dict[str, list[str]] = {}
    for name in sorted(walked):
        together.setdefault(root(name), []).append(name)
    return [tuple(group) for group in together.values()]
