"""Random programs as plain data, the flows that carry them out, and what their results must be.

A program is a list of operations, each a list that begins with a word::

    step K          a step; its output follows from K          fan [K…]       several, submitted
    fails K         a step whose failure the flow catches      fan_wait [W…]  submitted steps that wait inside
    doubt K         a step that asks before it runs again      loop N OPS     the same operations, N times
    wait W EXPIRES  somebody is asked; EXPIRES: seconds        nest OPS       a flow inside of the flow
    sleep SECONDS   a durable sleep                            outer OPS      a step around them
    chance          a recorded random number                   fail           the flow fails
    children [OPS…] other executions, gathered                 (an async program: operations side by side)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import kitaru
from kitaru import checkpoint, flow
from kitaru.context import Frame, current
from kitaru.errors import KitaruWaitAborted, KitaruWaitExpired

Ops = list[list[Any]]

DEFAULT, ABORTED = "nobody answered", "aborted"
sink: dict[str, Callable[[Frame], None]] = {}
"""What is told of each body that begins: whoever runs the campaign puts it here."""


def tell() -> None:
    frame = current.get()
    assert frame is not None
    sink["began"](frame)


# ---------------------------------------------------------------- steps


@checkpoint
def work(k: str) -> str:
    tell()
    return f"did {k}"


@checkpoint
async def awork(k: str) -> str:
    tell()
    await asyncio.sleep(0)
    return f"did {k}"


@checkpoint
def fragile(k: str) -> str:
    tell()
    raise ValueError(f"refused {k}")


@checkpoint(in_doubt="ask")
def doubtful(k: str) -> str:
    tell()
    return f"did {k}"


@checkpoint
def asks(name: str) -> list[Any]:
    return asked(name, None)


@checkpoint
def outer(ops: Ops) -> list[Any]:
    return carry_out(ops)


# ---------------------------------------------------------------- flows


@flow
def nested(ops: Ops) -> list[Any]:
    return carry_out(ops)


@flow
def tale(ops: Ops) -> list[Any]:
    return carry_out(ops)


@flow
async def atale(ops: Ops) -> list[Any]:
    return list(await asyncio.gather(*[acarry_out(op) for op in ops]))


def asked(name: str, expires: float | None) -> list[Any]:
    try:
        default = {} if expires is None or expires % 2 else {"default": DEFAULT}
        return ["wait", name, kitaru.wait(name=name, question=f"{name}?", expires=expires, **default)]
    except KitaruWaitExpired:
        return ["wait", name, DEFAULT]
    except KitaruWaitAborted:
        return ["wait", name, None]


def unless_aborted(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except KitaruWaitAborted:
        return ABORTED


def carry_out(ops: Ops) -> list[Any]:
    return [one(*op) for op in ops]


def one(word: str, *what: Any) -> Any:
    match word:
        case "step":
            return work(*what)
        case "doubt":
            return unless_aborted(doubtful, *what)
        case "fails":
            try:
                return fragile(*what)
            except ValueError as e:
                return str(e)
        case "wait":
            return asked(*what)
        case "sleep":
            return unless_aborted(kitaru.sleep, *what)
        case "chance":
            return kitaru.random() < 1
        case "fan":
            return [future.result() for future in work.map(what[0])]
        case "fan_wait":
            return [future.result() for future in asks.map(what[0])]
        case "loop":
            return [carry_out(what[1]) for _ in range(what[0])]
        case "nest":
            return nested(what[0])
        case "outer":
            return outer(what[0])
        case "children":
            ended = kitaru.gather([kitaru.spawn(tale, ops) for ops in what[0]], return_exceptions=True)
            return [type(value).__name__ if isinstance(value, Exception) else value for value in ended]
        case "fail":
            raise ValueError("as it was told")
    raise AssertionError(word)


async def acarry_out(op: list[Any]) -> Any:
    word, *what = op
    try:
        match word:
            case "step":
                return await awork(*what)
            case "sleep":
                return await kitaru.sleep_async(*what)
        return ["wait", what[0], await kitaru.wait_async(name=what[0], expires=what[1], default=DEFAULT)]
    except KitaruWaitAborted:
        return ABORTED if word == "sleep" else ["wait", what[0], None]


# ---------------------------------------------------------------- drawing them


class Drawing:
    """Draws programs. Each step and each wait of one drawing has a name of its own."""

    def __init__(
        self,
        rng: Random,
        *,
        sleeps: tuple[float, ...] = (0, 30, 3000),
        expires: tuple[float | None, ...] = (None, None, 60, 600, 601),
    ) -> None:
        self._rng, self._count, self._sleeps, self._expires = rng, 0, sleeps, expires

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def program(self, depth: int = 0) -> tuple[str, Ops]:
        """The name of a flow, and what it carries out."""
        if self._rng.random() < 0.2:
            words = self._rng.choices(["step", "wait", "sleep"], [3, 2, 1], k=self._rng.randint(1, 5))
            return "atale", [self._simple(word) for word in words]
        return "tale", self.ops(depth)

    def ops(self, depth: int = 0) -> Ops:
        return [self._op(depth) for _ in range(self._rng.randint(1, 4 - depth))]

    def _simple(self, word: str) -> list[Any]:
        rng = self._rng
        if word == "wait":
            return [word, self._name("w"), rng.choice(self._expires)]
        if word == "sleep":
            return [word, rng.choice(self._sleeps)]
        if word == "chance":
            return [word]
        return [word, self._name("s")]

    def _op(self, depth: int) -> list[Any]:
        rng = self._rng
        words = {"step": 5, "fails": 1, "doubt": 1, "wait": 5, "sleep": 2, "chance": 1, "fan": 2, "fan_wait": 1.5}
        if depth < 2:
            words |= {"loop": 1, "nest": 1, "outer": 1, "children": 2}
        if depth:
            words["fail"] = 0.3
        (word,) = rng.choices([*words], [*words.values()])
        match word:
            case "fan":
                return [word, [self._name("s") for _ in range(rng.randint(1, 4))]]
            case "fan_wait":
                return [word, [self._name("w") for _ in range(rng.randint(1, 3))]]
            case "loop":
                return [word, rng.randint(1, 3), self._without_failing(depth)]
            case "nest" | "outer":
                return [word, self._without_failing(depth)]
            case "children":
                return [word, [self.ops(depth + 1) for _ in range(rng.randint(1, 3))]]
            case "fail":
                return [word]
        return self._simple(word)

    def _without_failing(self, depth: int) -> Ops:
        return [op for op in self.ops(depth + 1) if op[0] != "fail"]


# ---------------------------------------------------------------- what must come of them


def may_fail(ops: Ops) -> bool:
    """Whether the execution that carries these out fails; its children are others."""
    return any(op[0] == "fail" for op in ops)


def inside(ops: Ops) -> Iterator[Ops]:
    """The programs of its children."""
    for op in ops:
        if op[0] == "children":
            yield from op[1]
        elif op[0] in {"nest", "outer", "loop"}:
            yield from inside(op[-1])


def check_result(ops: Ops, result: Any, answered: Callable[[str, Any], None]) -> Counter[str]:
    """A completed execution's result is what its program says; `answered` is told what each wait came to.

    Gives how many steps of each name there must be.
    """
    steps: Counter[str] = Counter()
    assert isinstance(result, list)
    assert len(result) == len(ops), (ops, result)
    for op, got in zip(ops, result, strict=True):
        word, *what = op
        match word:
            case "step" | "doubt":
                assert got == f"did {what[0]}" or (word, got) == ("doubt", ABORTED), (op, got)
                steps["work" if word == "step" else "doubtful"] += 1
            case "fails":
                assert got == f"refused {what[0]}", (op, got)
                steps["fragile"] += 1
            case "wait":
                _check_wait(what[0], got, answered)
                assert got[2] != DEFAULT or what[1] is not None, (op, got)
            case "sleep":
                assert got in {None, ABORTED}
            case "chance":
                assert got is True
            case "fan":
                assert got == [f"did {k}" for k in what[0]], (op, got)
                steps["work"] += len(got)
            case "fan_wait":
                assert len(got) == len(what[0])
                for name, each in zip(what[0], got, strict=True):
                    _check_wait(name, each, answered)
                    assert each[2] != DEFAULT
                steps["asks"] += len(got)
            case "loop":
                assert len(got) == what[0]
                for turn in got:
                    steps += check_result(what[1], turn, answered)
            case "nest" | "outer":
                steps += check_result(what[0], got, answered) + Counter({"nested" if word == "nest" else word: 1})
            case "children":
                assert len(got) == len(what[0])
                for child, value in zip(what[0], got, strict=True):
                    if isinstance(value, list):
                        assert not may_fail(child)
                        check_result(child, value, lambda name, value: None)
                    elif value == "ChildFailedError":
                        assert may_fail(child), (child, value)
                    else:
                        assert value in {"ExecutionCancelledError", "KitaruWaitAborted"}
                steps["spawn-tale"] += len(got)
            case _:
                raise AssertionError(f"it cannot have completed: {op}")
    return steps


def _check_wait(name: str, got: Any, answered: Callable[[str, Any], None]) -> None:
    assert got[:2] == ["wait", name], (name, got)
    answered(name, got[2])
