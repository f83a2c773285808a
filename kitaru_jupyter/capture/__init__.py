"""Capture: what a cell touches, found before it runs, and what has become of it, seen afterwards.

The static side reads code. `cells` walks over a cell's own level, `names` reads the bytecode of what is compiled in it,
`commands` knows magics and shell lines, `wild` says where code cannot tell, and `callees` closes the names over what
lives in the namespace: `touches_of` is the answer. `sources` finds the text that a function or class of a cell was
defined by.

The dynamic side looks at the namespace. `tracker` follows it from cell to cell: by `groups`, the variables that share
what `reach` finds in them, and by `notice`, a fingerprint of each group. `documents` is how a group is recorded, by
`encoding`, and had again, by `decoding`; what cannot be is `unrestorable`.
"""

from __future__ import annotations

from .callees import Touches, follow, touches_of
from .cells import compile_cell, names_of
from .names import Names, names_of_code
from .sources import Source, source_of

__all__ = [
    "Names",
    "Source",
    "Touches",
    "compile_cell",
    "follow",
    "names_of",
    "names_of_code",
    "source_of",
    "touches_of",
]
