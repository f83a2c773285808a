"""Values as files: each in a format of its own that other programs read, chosen by the file's suffix.

Text and bytes are written as they are. What has a format of its own is loaded: an array, a frame, an image; what has
none is written as readable JSON, without running any code of its type. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from .errors import KitaruError, UsageError

__all__ = ["Exportable", "suffixes", "write"]


class Exportable(Protocol):
    """A recorded value: what `kitaru.client.Artifact` is."""

    @property
    def ref(self) -> str:
        """How it is named within its execution."""

    @property
    def kind(self) -> str:
        """``text``, ``bytes``, ``pickle``, ``reference`` or ``data``."""

    @property
    def preview(self) -> Mapping[str, Any]:
        """As `kitaru.previews` makes them."""

    def load(self) -> Any:
        """The value."""

    def to_json(self) -> Any:
        """The value as readable plain data."""


def suffixes(value: Exportable) -> tuple[str, ...]:
    """The suffixes of the files that `value` can be written to, its usual one first.

    Text and bytes can be written to a file of any other suffix, too, unless that is another format's. Nothing is
    loaded to find out.
    """
    return tuple(_formats_of(value))


def write(value: Exportable, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write `value` to a file, in the format that the suffix says.

    Parameters
    ----------
    path
        A folder: the file gets the value's name there. Without a suffix the usual format is taken.
    force
        Replace a file that is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        There is a file already; the value cannot be written in this format, and which there are; a library is
        missing; or the file cannot be written.
    UntrustedValueError
        It must be unpickled for that, and the store is not marked as trusted.
    """
    formats = _formats_of(value)
    if not formats:
        raise UsageError(f"{value.ref} was no data when it was recorded: there is nothing to write")
    target = Path(path).expanduser()
    if "\0" in target.name:
        raise UsageError(f"{os.fspath(target)!r} cannot be the name of a file")
    if os.path.isdir(target):
        stem = re.sub(r"[^\w.-]+", "-", value.ref.removesuffix(".output")).strip("-.") or "value"
        target /= f"{stem[:100]}{next(iter(formats))}"
    suffix = target.suffix.lower()
    form = formats.get(suffix or next(iter(formats)))
    if form is None and (value.kind == "bytes" or (value.kind == "text" and suffix not in _BINARY)):
        form = next(iter(formats.values()))
    if form is None:
        raise UsageError(f"{value.ref} cannot be written as {suffix}: write it as {' or '.join(formats)}")
    if not force and os.path.lexists(target):
        raise _there_already(target)
    if not os.path.isdir(target.parent):
        raise UsageError(f"there is no folder {target.parent} to write to: make it first")
    others = [s for s, f in formats.items() if f is not form]
    instead = f"or write it as {' or '.join(others)}" if others else "or load it in Python"
    content = form.take(value)
    with _whole(target, force=force) as file:
        try:
            form.put(content, file)
        except OSError as e:  # the disk's; or what PIL says of a mode
            raise UsageError(f"{target} could not be written: {e.strerror or e}") from e
        except ImportError as e:
            missing = e.name or "a library"
            raise UsageError(f"{target} needs {missing}: pip install {missing}; {instead}") from None
        except KitaruError:
            raise
        except Exception as e:  # what a library says of what its format lacks
            raise UsageError(
                f"{value.ref} cannot be written as {suffix or next(iter(formats))}: "
                f"{' '.join(str(e).split())[:300]}; {instead}"
            ) from e
    return target


def _there_already(path: Path) -> UsageError:
    return UsageError(f"{path} is there already: name another file, or say that it is to be replaced (--force)")


@contextlib.contextmanager
def _whole(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete, and never another file's place unless told to."""
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(beside, target)
        else:
            _name(beside, target)
    except FileExistsError:
        raise _there_already(target) from None
    except OSError as e:
        raise UsageError(f"{target} could not be written: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)


def _name(beside: Path, target: Path) -> None:
    """Give a file its name, unless somebody else has taken it since it was looked for."""
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError from None
        os.replace(beside, target)


# ---------------------------------------------------------------- formats


class _Format(NamedTuple):
    """How a value is taken, and how what was taken is put into a file."""

    take: Callable[[Exportable], Any]
    put: Callable[[Any, BinaryIO], None]


def _load(value: Exportable) -> Any:
    return value.load()


def _put_text(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8", "surrogatepass"))


def _put_bytes(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _put_json(plain: Any, file: BinaryIO) -> None:
    try:
        text = json.dumps(plain, indent=2, ensure_ascii=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    file.write(text.encode("utf-8", "surrogatepass") + b"\n")


def _put_npy(array: Any, file: BinaryIO) -> None:
    import numpy as np

    if array.dtype.hasobject:
        raise ValueError("it holds Python objects, which a .npy file can only hold as a pickle")
    np.save(file, array, allow_pickle=False)


def _put_png(image: Any, file: BinaryIO) -> None:
    from .codecs.images import png

    file.write(png(image))


def _put_pickle(value: Any, file: BinaryIO) -> None:
    import cloudpickle

    cloudpickle.dump(value, file, protocol=5)


def _put_parquet(frame: Any, file: BinaryIO) -> None:
    if _library(frame) == "polars":
        _framed(frame).write_parquet(file)
        return
    import pyarrow.parquet as pq

    pq.write_table(_arrow(frame), file)


def _put_ipc(frame: Any, file: BinaryIO) -> None:
    if _library(frame) == "polars":
        _framed(frame).write_ipc(file)
        return
    import pyarrow as pa

    table = _arrow(frame)
    with pa.ipc.new_file(file, table.schema) as to:
        to.write_table(table)


def _put_csv(frame: Any, file: BinaryIO) -> None:
    library = _library(frame)
    if library == "pandas":
        frame = _framed(frame)
        index = frame.index
        numbered = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
        frame.to_csv(file, index=not numbered)
    elif library == "polars":
        _framed(frame).write_csv(file)
    else:
        import pyarrow.csv

        pyarrow.csv.write_csv(_arrow(frame), file)


def _arrow(frame: Any) -> Any:
    """A frame or series of pandas or Arrow as an Arrow table, for other programs: what only pandas knows is lost."""
    import pyarrow as pa

    if _library(frame) == "pandas":
        return pa.Table.from_pandas(_framed(frame))
    return pa.Table.from_batches([frame]) if isinstance(frame, pa.RecordBatch) else frame


def _framed(frame: Any) -> Any:
    return frame.to_frame() if type(frame).__name__ == "Series" else frame


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


_JSON = _Format(lambda value: value.to_json(), _put_json)
_TEXT = _Format(_load, _put_text)
_BYTES = _Format(_load, _put_bytes)
_PICKLE = _Format(_load, _put_pickle)
_FRAME = {
    ".parquet": _Format(_load, _put_parquet),
    ".arrow": _Format(_load, _put_ipc),
    ".feather": _Format(_load, _put_ipc),
    ".csv": _Format(_load, _put_csv),
}
_AS_IT_IS = {"text": {".txt": _TEXT, ".md": _TEXT, ".json": _JSON}, "bytes": {".bin": _BYTES, ".json": _JSON}}
_BY_TYPE: dict[str, dict[str, _Format]] = {
    "numpy.ndarray": {".npy": _Format(_load, _put_npy)},
    "numpy.memmap": {".npy": _Format(_load, _put_npy)},
    **dict.fromkeys(
        (
            "pandas.DataFrame",
            "pandas.Series",
            "polars.DataFrame",
            "polars.Series",
            "pyarrow.RecordBatch",
            "pyarrow.Table",
        ),
        _FRAME,
    ),
}
_PNG = {".png": _Format(_load, _put_png)}
_BINARY = {".arrow", ".feather", ".npy", ".parquet", ".pkl", ".png"}
"""Where nobody expects text. Bytes may be anything."""


def _formats_of(value: Exportable) -> dict[str, _Format]:
    """What `value` can be written as, by suffix, the usual one first. Nothing is loaded for that."""
    if value.kind in _AS_IT_IS:
        return _AS_IT_IS[value.kind]
    if value.kind == "reference":
        return {}
    kind = value.preview.get("type")
    own = _PNG if "mode" in value.preview else _BY_TYPE.get(kind, {}) if isinstance(kind, str) else {}
    if ".npy" in own and value.preview.get("dtype") == "object":
        own = {".json": _JSON, **own}
    if value.kind != "pickle":
        return own or {".json": _JSON}
    # What is pickled in a container stands in its JSON as a size; of what is pickled whole there would be nothing else.
    container = {".json": _JSON} if "len" in value.preview and not own else {}
    return {**own, **container, ".pkl": _PICKLE}
