"""Values into canonical bytes and back.

`encode` gives the bytes of a value and their SHA-256, `decode` the value. Equal digests mean the same type, the
same content and the same order. The bytes are described in `kitaru.codecs.node`; the kinds of values that have a
data form in `kitaru.codecs.forms`; how types are named in `kitaru.codecs.types`.
"""

from __future__ import annotations

from .decoder import decode
from .encoder import Encoded, encode
from .forms import Reference
from .readable import is_opaque, kind_of, to_json

__all__ = ["Encoded", "Reference", "decode", "encode", "is_opaque", "kind_of", "to_json"]
