"""PIL's images: their raw pixels, and what they mean. Imported when one is met.

After the tag `pillow.image` stand its mode, [width, height], its palette, INFO and its body.

The body is a buffer with the rows from the top, no padding between them: what `Image.tobytes()` gives. The palette is
nil or [its mode, a bin with its colours]. INFO is a map of what `Image.info` holds under a text and is plain data
(texts, numbers, bytes, and tuples, lists and dicts of them), sorted by its keys. An image that was opened from a file
is its current frame, and comes back as a plain `Image`.

Not PNG: its bytes are zlib's, which differ between versions, so that equal images would have different digests
(docs/decisions/015). PNG is what an image is exported as.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from PIL import Image

from ..errors import UsageError
from .buffers import Buffer, Pieces
from .forms import Form, NoDataFormError

__all__ = ["MAKERS", "former", "png"]


_BITS = {
    "1": 1, "CMYK": 32, "F": 32, "HSV": 24, "I": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "L": 8,
    "LA": 16, "LAB": 24, "La": 16, "P": 8, "PA": 16, "RGB": 24, "RGBA": 32, "RGBX": 32, "RGBa": 32, "YCbCr": 24,
}  # fmt: skip
_NATIVE = {"F", "I", "I;16N"}  # in the byte order of the machine
_EXPORTED = {"1", "I;16", "L", "LA", "P", "RGB", "RGBA"}  # modes that PNG holds without loss
_LONGEST = 1 << 20  # side of an image without pixels: PIL makes room for each of its rows
_DEEPEST = 8


def _image(value: Any) -> Form:
    value.load()
    mode, size = value.mode, list(value.size)
    if not _is_known(mode, size):
        raise NoDataFormError
    body = memoryview(value.tobytes())
    if len(body) != _length(mode, *size):
        raise NoDataFormError
    return ["pillow.image", mode, size, _palette(value), _info(value.info), Buffer(body)]


def _is_known(mode: str, size: list[int]) -> bool:
    return (
        mode in _BITS and not (mode in _NATIVE and sys.byteorder == "big") and (min(size) > 0 or max(size) < _LONGEST)
    )


def _length(mode: str, width: int, height: int) -> int:
    return (width * _BITS[mode] + 7) // 8 * height


def _palette(value: Any) -> list[Any] | None:
    colours = value.getpalette(None)
    return [value.im.getpalettemode(), bytes(colours)] if colours else None


def _info(info: dict[Any, Any]) -> dict[str, Any]:
    kept = {}
    for key in sorted(key for key in info if type(key) is str):
        try:
            kept[key] = _data(info[key])
        except NoDataFormError:
            continue
    return kept


def _data(value: Any, depth: int = 0) -> Any:
    """`value` if it is plain data, with the texts of a PNG, which remember their language, as plain texts."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return value
    if isinstance(value, str):
        return str.__getitem__(value, slice(None))
    if depth < _DEEPEST:
        if kind in (tuple, list):
            return kind(_data(item, depth + 1) for item in value)
        if kind is dict:
            return {_data(key, depth + 1): _data(item, depth + 1) for key, item in value.items()}
    raise NoDataFormError


def _make_image(mode: Any, size: Any, palette: Any, info: Any, body: Any) -> Any:
    pieces = Pieces.of(body)
    if type(mode) is not str or type(size) is not list or type(info) is not dict:
        raise TypeError("something else than an image")
    if len(size) != 2 or not all(type(n) is int and n >= 0 for n in size) or not _is_known(mode, size):
        raise ValueError("no image is of this mode and size")
    if pieces.size != _length(mode, *size):
        raise ValueError(f"its size and mode say {_length(mode, *size)} bytes, and it has {pieces.size}")
    width, height = size
    made = Image.frombytes(mode, (width, height), pieces.read())
    if palette is not None:
        kind, colours = palette
        if type(colours) is not bytes or not colours:
            raise ValueError("a palette without colours")
        made.putpalette(colours, kind)
        made.load()
    if _palette(made) != palette or made.mode != mode:
        raise ValueError("its palette is not in its canonical form")
    if mode == "1" and made.tobytes() != pieces.read():
        raise ValueError("its rows do not end in zeros")
    made.info = info
    return made


MAKERS: dict[str, Callable[..., Any]] = {"pillow.image": _make_image}


def former(cls: type) -> Callable[[Any], Form] | None:
    """What makes the form of values of exactly this class, which is one of PIL's own; None where they have none."""
    return _image if issubclass(cls, Image.Image) else None


def png(image: Image.Image) -> bytes:
    r"""The image as a PNG file, without loss.

    Raises
    ------
    UsageError
        PNG cannot hold an image of this mode exactly.

    Examples
    --------
    >>> png(Image.new("RGB", (2, 1), (255, 0, 0)))[:4]
    b'\x89PNG'
    """
    if image.mode not in _EXPORTED:
        raise UsageError(
            f'a PNG cannot hold an image of the mode {image.mode} without loss: take a copy with .convert("RGBA"), '
            "or save it as TIFF"
        )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
