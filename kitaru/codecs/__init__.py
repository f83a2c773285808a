"""Values into canonical bytes and back.

`encode` gives the bytes of a value and their SHA-256, `decode` the value. Equal digests mean the same type, the
same content and the same order. The bytes are described in `kitaru.codecs.node`; how a value shares its parts with
others in `kitaru.codecs.cutting`; the kinds of values that have a data form in `kitaru.codecs.forms`; how types are
named in `kitaru.codecs.types`.
"""

from __future__ import annotations

from .buffers import Buffer, Chunker, Piece, Pieces
from .cutting import PLAIN, cut
from .decoder import decode
from .encoder import Encoded, Otherwise, encode
from .forms import Reference
from .joining import Link, join, references
from .readable import is_opaque, kind_of, to_json
from .sharing import Shared, Sharer, digests_within
from .source import Source

__all__ = [
    "PLAIN",
    "Buffer",
    "Chunker",
    "Encoded",
    "Link",
    "Otherwise",
    "Piece",
    "Pieces",
    "Reference",
    "Shared",
    "Sharer",
    "Source",
    "cut",
    "decode",
    "digests_within",
    "encode",
    "is_opaque",
    "join",
    "kind_of",
    "references",
    "to_json",
]
