"""What changed inside a value: by path, with lists aligned by what is in them, down to words, cells and items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..previews import preview, printable
from .arrays import as_array, compare_arrays
from .changes import Change, Found
from .chats import Turn, is_chat, role_of, turns_of
from .forest import Forest, Node
from .frames import compare_frames
from .sequences import gaps, matched
from .texts import compare_texts

__all__ = ["compare", "same"]

_PAIRED = 900  # items of one side times items of the other, of which the likeliest pairs are looked for
_SHOWN_BYTES = 16


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal as they are recorded; NaN equals NaN.

    >>> same([1, float("nan")], [1, float("nan")]), same(1, True)
    (True, False)
    """
    forest = Forest()
    return forest.plant(a) == forest.plant(b)


def compare(a: Any, b: Any, keys: Sequence[str] = ()) -> Found:
    """Find what changed from `a` to `b`.

    Parameters
    ----------
    keys
        Of tables, wherever they lie in the values: see `frames.compare_frames`.

    Examples
    --------
    >>> [(c.path, c.kind, c.a, c.b) for c in compare({"rows": [1, 2]}, {"rows": [0, 1, 3]}).changes]
    [('rows[0]', 'added', NOTHING, 0), ('rows[1]', 'changed', 2, 3)]
    """
    return _Comparison(tuple(keys)).run(a, b)


class _Place(NamedTuple):
    """A way into a value: the last step, and the place that it leads on from."""

    around: _Place | None = None
    step: str = ""
    role: str = ""

    def __str__(self) -> str:
        steps, at = [], self
        while at.around is not None:
            steps.append(at.step)
            at = at.around
        return "".join(reversed(steps)).removeprefix(".")

    @property
    def turn(self) -> str:
        """Whose turn this is in, or lies in."""
        at: _Place | None = self
        while at is not None:
            if at.role:
                return at.role
            at = at.around
        return ""


_Task = Callable[[], "Iterator[_Task] | None"]


class _Comparison:
    """One comparison. Tasks, not recursion: values may be nested deeper than Python's stack is."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._forest, self._found, self._keys = Forest(), Found(), keys
        self._said: set[int] = set()  # what messages say: that is no message to be read once more

    def run(self, a: Any, b: Any) -> Found:
        x, y = self._forest.plant(a), self._forest.plant(b)
        todo: list[Iterator[_Task]] = [iter([self._pair(x, y, _Place(), _Place())])]
        while todo:
            task = next(todo[-1], None)
            if task is None:
                todo.pop()
            elif (inner := task()) is not None:
                todo.append(inner)
        return self._found

    def _pair(self, x: int, y: int, p: _Place, q: _Place) -> _Task:
        return lambda: None if x == y else self._compare(self._forest[x], self._forest[y], p, q)

    def _add(self, kind: str, p: _Place, q: _Place, **what: Any) -> None:
        if self._found.full:
            self._found.count += 1
            return
        path, path_b = str(p), str(q)
        self._found.add(Change(path, kind, path_b=path_b if path_b != path else "", role=q.turn or p.turn, **what))

    def _added(self, y: int, q: _Place) -> _Task:
        return lambda: self._add("added", q, q, b=self._forest[y].value)

    def _removed(self, x: int, p: _Place) -> _Task:
        return lambda: self._add("removed", p, p, a=self._forest[x].value)

    def _compare(self, x: Node, y: Node, p: _Place, q: _Place) -> Iterator[_Task] | None:
        if x.shape != y.shape or x.shape == "leaf":
            self._add("changed", p, q, a=x.value, b=y.value)
            return None
        if x.shape == "frame" and type(x.value) is not type(y.value):
            self._add("changed", p, q, a=x.value, b=y.value)
            return None
        if x.type != y.type:
            self._add("type", p, q, a=x.type, b=y.type)
        match x.shape:
            case "text":
                self._text(x.value, y.value, p, q)
            case "bytes":
                self._bytes(x.value, y.value, p, q)
            case "array":
                compare_arrays(as_array(x.value), as_array(y.value), str(p), self._found)
            case "frame":
                compare_frames(x.value, y.value, str(p), self._found, self._keys)
            case "set":
                return self._sets(x, y, p, q)
            case "list":
                return self._lists(x, y, p, q)
            case "map" if turns := self._turns(x, y):
                here, there = (at._replace(role=turn.role) for at, turn in zip((p, q), turns, strict=True))
                return iter([self._turn(x, y, *turns, here, there)])
            case _:
                return self._named(x, y, p, q)
        return None

    # ------------------------------------------------------------ each shape

    def _text(self, a: str, b: str, p: _Place, q: _Place) -> None:
        pieces = () if self._found.full else tuple(compare_texts(a, b))
        if any(piece.sign == "=" and piece.text.strip() for piece in pieces):
            self._add("text", p, q, a=a, b=b, pieces=pieces)
        else:  # no word in common
            self._add("changed", p, q, a=a, b=b)

    def _bytes(self, a: bytes, b: bytes, p: _Place, q: _Place) -> None:
        if a == b:  # one of them is a bytearray
            return
        low, high = 0, min(len(a), len(b))
        while low < high:  # the first difference, by halves: comparing slices is done in C
            middle = (low + high + 1) // 2
            low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
        piece = slice(low, low + _SHOWN_BYTES)
        detail = {"first": low, "sizes": [len(a), len(b)]}
        self._add("bytes", p, q, a=bytes(a[piece]), b=bytes(b[piece]), detail=detail)

    def _sets(self, x: Node, y: Node, p: _Place, q: _Place) -> Iterator[_Task]:
        for one, other, end, place in ((x, y, self._removed, p), (y, x, self._added, q)):
            only = [n for n in one.children if n not in set(other.children)]
            for n in sorted(only, key=lambda n: str(preview(self._forest[n].value)["text"])):
                yield end(n, place._replace(around=place, step=f"{{{self._glimpse(n)}}}", role=""))

    def _named(self, x: Node, y: Node, p: _Place, q: _Place) -> Iterator[_Task] | None:
        old, new = self._items(x), self._items(y)
        both = [key for key in old if key in new]
        if not both and old and new and x.shape == "map":
            self._add("changed", p, q, a=x.value, b=y.value)
            return None
        return self._each(x, y, old, new, both, p, q)

    def _each(self, x: Node, y: Node, old: Any, new: Any, both: list[Any], p: _Place, q: _Place) -> Iterator[_Task]:
        names_x, names_y = dict(zip(old, x.names, strict=True)), dict(zip(new, y.names, strict=True))
        order = [key for key in new if key in old]
        if x.shape == "map" and both != order:
            self._add(
                "order",
                p,
                q,
                a=[names_x[k] for k in both],
                b=[names_y[k] for k in order],
                detail={"of": "keys"},
            )
        for key, child in old.items():
            here = self._at(p, names_x[key], x)
            if key in new:
                yield self._pair(child, new[key], here, self._at(q, names_y[key], y))
            else:
                yield self._removed(child, here)
        for key, child in new.items():
            if key not in old:
                yield self._added(child, self._at(q, names_y[key], y))

    def _items(self, node: Node) -> dict[Any, int]:
        """The parts by their names; of a map by the numbers of its keys, for 1 and True are two keys."""
        keys = map(self._forest._key, node.names) if node.shape == "map" else node.names
        return dict(zip(keys, node.children, strict=True))

    def _at(self, place: _Place, name: Any, node: Node) -> _Place:
        if type(name) is str and (name.isidentifier() or node.shape == "fields"):
            return _Place(place, f".{printable(name)}")
        return _Place(place, f"[{preview(name)['text']}]")

    def _glimpse(self, n: int) -> str:
        return str(preview(self._forest[n].value)["text"])

    # ------------------------------------------------------------ lists

    def _lists(self, x: Node, y: Node, p: _Place, q: _Place) -> Iterator[_Task]:
        turns_x, turns_y = turns_of(x.value), turns_of(y.value)
        roles_x, roles_y = (
            [turn.role for turn in turns] or self._roles(node) for turns, node in ((turns_x, x), (turns_y, y))
        )
        pairs = matched(x.children, y.children)
        for xs, ys in gaps(pairs, len(x.children), len(y.children)):
            for i, j in self._likely(x, xs, y, ys, roles_x, roles_y):
                here = None if i is None else _Place(p, f"[{i}]", roles_x[i] if roles_x else "")
                there = None if j is None else _Place(q, f"[{j}]", roles_y[j] if roles_y else "")
                if i is not None and j is not None and here and there:
                    if turns_x and turns_y:
                        old, new = self._forest[x.children[i]], self._forest[y.children[j]]
                        yield self._turn(old, new, turns_x[i], turns_y[j], here, there)
                    else:
                        yield self._pair(x.children[i], y.children[j], here, there)
                elif i is not None and here:
                    yield self._removed(x.children[i], here)
                elif j is not None and there:
                    yield self._added(y.children[j], there)

    def _turns(self, x: Node, y: Node) -> tuple[Turn, Turn] | None:
        """Two messages alone, of formats that are known."""
        if not self._said.isdisjoint((id(x), id(y))):
            return None
        old, new = turns_of(x.value), turns_of(y.value)
        return (old[0], new[0]) if old and new else None

    def _turn(self, x: Node, y: Node, old: Turn, new: Turn, p: _Place, q: _Place) -> _Task:
        """By what the messages say; by their wire forms where they say the same, or where these say it as well."""

        def compare() -> Iterator[_Task] | None:
            says = [self._forest[self._forest.plant(turn.says)] for turn in (old, new)]
            nodes = [x, y] if says[0] is says[1] or (old.plain and new.plain) else says
            self._said.update(map(id, nodes))
            return None if nodes[0] is nodes[1] else self._compare(nodes[0], nodes[1], p, q)

        return compare

    def _roles(self, node: Node) -> list[str]:
        """Whose turn each item is, where the list is a chat."""
        roles = []
        for n in node.children:
            item = self._forest[n]
            named = None
            if item.shape in {"map", "fields"}:
                named = {
                    k: self._forest[c].value for k, c in zip(item.names, item.children, strict=True) if type(k) is str
                }
            role = role_of(named, plain=item.shape == "map")
            if not role:
                return []
            roles.append(role)
        return roles if is_chat(roles) else []

    def _likely(
        self, x: Node, xs: range, y: Node, ys: range, roles_x: list[str], roles_y: list[str]
    ) -> list[tuple[int | None, int | None]]:
        """Which items of a gap stand for each other, in order; those of one side alone have None on the other."""
        n, m = len(xs), len(ys)
        if not n or not m:
            return [*((i, None) for i in xs), *((None, j) for j in ys)]
        if n * m > _PAIRED or n == m == 1:
            both = min(n, m)
            rest_x, rest_y = ((i, None) for i in xs[both:]), ((None, j) for j in ys[both:])
            return [*zip(xs, ys, strict=False), *rest_x, *rest_y]
        near = [
            [
                self._likeness(x.children[i], y.children[j])
                + (0.5 if roles_x and roles_y and roles_x[i] == roles_y[j] else 0)
                for j in ys
            ]
            for i in xs
        ]
        best = [[0.0] * (m + 1) for _ in range(n + 1)]  # of what follows from here
        for i in range(n - 1, -1, -1):
            for j in range(m - 1, -1, -1):
                best[i][j] = max(near[i][j] + best[i + 1][j + 1], best[i + 1][j], best[i][j + 1])
        out: list[tuple[int | None, int | None]] = []
        i = j = 0
        while i < n and j < m:
            if best[i][j] == near[i][j] + best[i + 1][j + 1]:
                out.append((xs[i], ys[j]))
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                out.append((xs[i], None))
                i += 1
            else:
                out.append((None, ys[j]))
                j += 1
        return [*out, *((k, None) for k in xs[i:]), *((None, k) for k in ys[j:])]

    def _likeness(self, x: int, y: int) -> float:
        """How likely one is the other, changed: from nearly 0 to 1."""
        a, b = self._forest[x], self._forest[y]
        if a.shape != b.shape:
            return 0.01
        if a.shape == "text":
            words_a, words_b = set(a.value[:2000].split()), set(b.value[:2000].split())
        elif a.children and b.children:
            words_a, words_b = set(self._facts(a)), set(self._facts(b))
        else:
            return 0.1
        shared = len(words_a & words_b)
        return 0.1 + 0.9 * shared / (len(words_a | words_b) or 1)

    def _facts(self, node: Node) -> Iterator[Any]:
        if node.shape in {"map", "fields"}:
            yield from (
                zip(node.names[:50], node.children[:50], strict=True)
                if node.shape == "fields"
                else zip(map(self._forest._key, node.names[:50]), node.children[:50], strict=True)
            )
        else:
            yield from node.children[:200]
