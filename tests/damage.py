"""Every damage of one kind to a sample execution's objects: each bit flipped, each truncation, deletion and exchange.

The tests take some of them; here are all, which takes an hour or two of processor time::

    python -m tests.damage FOLDER                # begins, or goes on where it was stopped
    python -m tests.damage FOLDER --part 1/2     # one half of it; the other one in another process: 2/2

In FOLDER it keeps the sample, since no two executions have the same bytes, and how far it has come. After each damage
`verify` must find it and name the object, and whatever can still be loaded must be what was recorded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kitaru.stores import LocalStore, MemoryStore

from .test_verification import Damage, flipped, objects, run, small

_EVERY = 500  # cases between two notes of how far it has come
_KINDS = "flips, truncations, deletions, exchanges"

Case = tuple[str, dict[str, bytes | None]]  # of which kind, and what each object becomes


def cases(held: dict[str, bytes]) -> Iterator[Case]:
    """All of them, in an order that depends on the sample alone."""
    for key, data in sorted(held.items()):
        for at, bit in itertools.product(range(len(data)), range(8)):
            yield "flips", {key: flipped(data, at, bit)}
        for length in range(len(data)):
            yield "truncations", {key: data[:length]}
        yield "deletions", {key: None}
    for (a, x), (b, y) in itertools.combinations(sorted(held.items()), 2):
        if x != y:
            yield "exchanges", {a: y, b: x}


def sample(folder: Path) -> MemoryStore:
    """The sample's store: made at the first time, and read from the folder from then on."""
    kept = LocalStore(folder / "sample")
    if not objects(kept):
        made = run(small)
        for entry in made.list(""):
            kept.put(entry.key, made.get(entry.key))
    store = MemoryStore()
    for entry in kept.list(""):
        store.put(entry.key, kept.get(entry.key))
    return store


def campaign(folder: Path, part: int = 1, parts: int = 1, *, most: int | None = None) -> Counter[str]:
    """Do what is left, or at most so many of it; gives how many of each kind are done. Raises where one goes unseen."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"done-{part}-of-{parts}.json"
    done: Counter[str] = Counter(json.loads(note.read_text()) if note.exists() else {})
    damage = Damage(store=sample(folder))
    every = itertools.islice(cases(damage.objects), part - 1, None, parts)
    begin = done.total()
    for kind, damaged in itertools.islice(every, begin, None if most is None else begin + most):
        damage.found(damaged)
        done[kind] += 1
        if done.total() % _EVERY == 0:
            note.write_text(json.dumps(done))
    note.write_text(json.dumps(done))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="1/1", metavar="I/N")
    given = parser.parse_args()
    part, _, parts = given.part.partition("/")
    began = time.monotonic()
    done = campaign(given.folder, int(part), int(parts))
    told = ", ".join(f"{done[kind]:,} {kind}" for kind in _KINDS.split(", "))
    print(f"{told}: all found, none came back as a value; {time.monotonic() - began:,.0f} s of this process")


if __name__ == "__main__":
    main()
