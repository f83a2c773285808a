"""Values kept with their buffers beside them, as a store would keep them: here, and read in another process."""

from __future__ import annotations

import hashlib
import os
import pathlib
import pickle
import subprocess
import sys
from typing import NamedTuple

from kitaru.codecs import Sharer, cut, decode, join
from kitaru.codecs.encoder import written


class Kept(NamedTuple):
    digest: bytes
    root: bytes
    kind: str


class Shelf:
    """A source that holds what was laid down, and says which chunks of buffers were fetched."""

    def __init__(self):
        self.held = {}
        self.fetched = []
        self.sharer = Sharer()

    def keep(self, value):
        shared = self.sharer.encode(value, otherwise="refuse")
        by_hand = written(value, "output", "refuse", self.sharer.chunker)
        assert cut(by_hand.data)[0] == shared.root
        assert hashlib.sha256(shared.root).digest() == shared.digest
        self.held.update(shared.parts)
        self.held.update((piece.digest, self.sharer.chunker.check(piece)) for piece in shared.chunks)
        return Kept(shared.digest, shared.root, shared.kind)

    def give(self, root):
        return decode(root, source=self, trusted=False)

    def plain(self, value):
        """The node of a value with all that it shares in it again."""
        return join(self.keep(value).root, self.get)

    @property
    def size(self):
        return sum(map(len, self.held.values()))

    def get(self, digest):
        return self.held[digest]

    def fill(self, pieces, into):
        at = 0
        for digest, length in pieces:
            into[at : at + length] = self.held[digest]
            at += length
            self.fetched.append(digest)


def there_and_back(value):
    """What comes back, which must be written as it was."""
    shelf = Shelf()
    kept = shelf.keep(value)
    back = shelf.give(kept.root)
    assert type(back) is type(value)
    assert Shelf().keep(back) == kept
    return back


def digest(value):
    return Shelf().keep(value).digest


def kind(value):
    return Sharer().encode(value).kind


_CHILD = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import shelf
held, roots = pickle.load(sys.stdin.buffer)
other = shelf.Shelf()
other.held = held
print("\\n".join(other.keep(other.give(root)).digest.hex() for root in roots))
"""


def digests_elsewhere(values, seed):
    """What another process says the digests are of what it reads, and what they are here."""
    shelf = Shelf()
    kept = [shelf.keep(value) for value in values]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(pathlib.Path(__file__).parent)],
        input=pickle.dumps((shelf.held, [k.root for k in kept])),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.decode().split(), [k.digest.hex() for k in kept]
