"""Where things are recorded: finding a store, opening it, and refusing one that cannot keep the promises."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import (
    CorruptionError,
    KeyMissingError,
    StoreError,
    StoreFormatError,
    StorePermissionError,
    StoreUnavailableError,
    StoreUnsupportedError,
    UsageError,
)
from .stores import LocalStore, MemoryStore, S3Store, Store

__all__ = [
    "check_format",
    "check_there",
    "connect",
    "current_store",
    "default_would_find",
    "is_trusted",
    "open_store",
    "prepare",
    "store_budget",
]

_FORMAT = 1
_FORMAT_KEY = "kitaru.json"
_DEFAULT = ".kitaru"
_S3_OPTIONS = {"endpoint_url", "profile", "region"}
_SHORT_LIVED = ("KUBERNETES_SERVICE_HOST", "AWS_LAMBDA_FUNCTION_NAME", "FUNCTION_TARGET", "K_SERVICE")


def open_store(address: str | os.PathLike[str]) -> Store:
    """Open the store at an address. Nothing is read or written yet.

    Parameters
    ----------
    address
        `s3://bucket/prefix` (with `?endpoint_url=…&region=…&profile=…` where boto3's own settings do not do),
        `file:///path`, a path, or `memory://name`.

    Raises
    ------
    UsageError
        It is no address of a store.

    Examples
    --------
    >>> open_store("s3://bucket/prefix?region=eu-north-1").url
    's3://bucket/prefix?region=eu-north-1'
    >>> open_store("/srv/runs").url
    'file:///srv/runs'
    >>> open_store("gs://bucket")
    Traceback (most recent call last):
        ...
    kitaru.errors.UsageError: 'gs://bucket' is no store: write s3://bucket/prefix, a path, or memory://name.
    """
    text = os.fspath(address)
    if "://" not in text:
        if not text:
            raise UsageError("An empty address is no store: write s3://bucket/prefix, a path, or memory://name.")
        return LocalStore(text)
    parts = urlsplit(text)
    if parts.scheme == "memory":
        return MemoryStore(parts.netloc + parts.path)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise UsageError(f"{text!r} is no folder here: write file:///path, with three slashes.")
        return LocalStore(unquote(parts.path))
    if parts.scheme == "s3":
        if "@" in parts.netloc:
            raise UsageError("An address holds no credentials: set AWS_ACCESS_KEY_ID, or name a profile.")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := options.keys() - _S3_OPTIONS:
            raise UsageError(
                f"{text!r} has an unknown option {min(unknown)!r}: there are {', '.join(sorted(_S3_OPTIONS))}."
            )
        chosen: dict[str, Any] = dict(options)
        return S3Store(parts.netloc, parts.path, **chosen)
    raise UsageError(f"{text!r} is no store: write s3://bucket/prefix, a path, or memory://name.")


# Which store: an explicit one, or the first that the search finds.

_connected: Store | None = None
_found: dict[tuple[str, str], Store] = {}  # by address, and by whether the search made it up
_choosing = threading.Lock()


def connect(store: str | os.PathLike[str] | Store | None = None) -> Store:
    """Record in this store from now on, in this process.

    Parameters
    ----------
    store
        Its address (see `open_store`) or a store. None goes back to the search: `KITARU_STORE`; `store` in
        the `[tool.kitaru]` of the nearest pyproject.toml above the working directory; the nearest `.kitaru`
        folder above it; else `.kitaru` in the working directory, which the first write makes.
    """
    global _connected  # noqa: PLW0603  # the process's current store is what this function is about
    chosen = None
    if store is not None:
        chosen = open_store(store) if isinstance(store, str | os.PathLike) else store
    with _choosing:
        _connected = chosen
    return current_store()


def current_store() -> Store:
    """The store that `connect` chose, or else what its search finds now. Nothing is made by asking."""
    if _connected is not None:
        return _connected
    address, made_up = _search()
    with _choosing:
        key = (address, "default" if made_up else "")
        if key not in _found:
            store = _found[key] = open_store(address)
            _notes_on(store).by_default = made_up
        return _found[key]


def default_would_find(store: Store) -> bool:
    """Whether a command without any option would open this same store in this working directory, in any shell.

    Neither `connect` nor this process's ``KITARU_STORE`` counts: whoever types the command may have neither.
    """
    named = os.environ.get("KITARU_STORE")
    try:
        # A shell that has the variable, too, would follow it.
        return open_store(_search_here()[0]).url == store.url and (not named or open_store(named).url == store.url)
    except UsageError:
        return False


def _search() -> tuple[str, bool]:
    """The address that the search ends at, and whether it is a `.kitaru` that nobody named."""
    if named := os.environ.get("KITARU_STORE"):
        return named, False
    return _search_here()


def _search_here() -> tuple[str, bool]:
    """The same, from the working directory alone."""
    folder, settings = _settings()
    if (named := settings.get("store")) is not None:
        if not isinstance(named, str) or not named:
            raise UsageError(f'{folder / "pyproject.toml"}: [tool.kitaru] store is no address: write store = "…".')
        return (named if "://" in named else str(folder / Path(named).expanduser())), False
    here = Path.cwd()
    for above in (here, *here.parents):
        if (above / _DEFAULT).is_dir():
            return str(above / _DEFAULT), True
    return str(here / _DEFAULT), True


def _settings() -> tuple[Path, Mapping[str, Any]]:
    """The nearest `[tool.kitaru]` above the working directory, and the folder of its pyproject.toml."""
    here = Path.cwd()
    for above in (here, *here.parents):
        file = above / "pyproject.toml"
        try:
            text = file.read_bytes()
        except OSError:
            continue
        if b"kitaru" not in text:  # spares the parsing of most
            continue
        import tomllib

        try:
            table = tomllib.loads(text.decode()).get("tool", {}).get("kitaru")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}. Mend it, or set KITARU_STORE.") from error
        if isinstance(table, dict):
            return above, table
    return here, {}


# Whether it may be used: asked once for each store object.


class _Notes:
    """What this process knows about one store object."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_default = False
        self.readable = False
        self.writable = False


_notes: weakref.WeakKeyDictionary[Store, _Notes] = weakref.WeakKeyDictionary()
_noting = threading.Lock()
_warned_short_lived = False


def _notes_on(store: Store) -> _Notes:
    with _noting:
        if store not in _notes:
            _notes[store] = _Notes()
        return _notes[store]


def check_format(store: Store) -> None:
    """Refuse a location that this version cannot read. One GET, once a process; needs no right to write.

    Raises
    ------
    StoreFormatError
        A newer Kitaru has written it.
    CorruptionError
        Its `kitaru.json` is not what Kitaru writes.
    """
    notes = _notes_on(store)
    if not notes.readable:
        with notes.lock:
            notes.readable = _has_format(store)


def check_there(store: Store) -> None:
    """Refuse to read from a folder that does not exist, where somebody named it. Raises `StoreUnavailableError`."""
    if isinstance(store, LocalStore) and not store.path.exists():
        raise StoreUnavailableError(
            f"there is no store at {store.path}: the folder does not exist. Mend the address, or record something "
            "there first"
        )


def prepare(store: Store) -> None:
    """Make sure that `store` can be recorded in; for the first write of a process. Later calls cost nothing.

    A location that was never recorded in is probed first: of two conditional writes to one new key the second
    must be refused. Then `kitaru.json` says that it was, and in which format the rest is.

    Raises
    ------
    StoreUnsupportedError
        It does not honour conditional writes. Nothing was recorded.
    StoreFormatError, CorruptionError
        As `check_format`.
    """
    notes = _notes_on(store)
    if notes.writable:
        return
    with notes.lock:
        if notes.writable:
            return
        if notes.by_default:
            _warn_where_short_lived(store)
        if not _has_format(store):
            if notes.by_default:
                _make_default(store)
            _probe(store)
            # Another process may do so too: both write the same format, and the first one stands.
            store.put_if_absent(_FORMAT_KEY, _format_text())
            _has_format(store)
        notes.readable = notes.writable = True


def _format_text() -> bytes:
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("kitaru")
    except PackageNotFoundError:  # run from a checkout that is not installed
        release = "unknown"
    return json.dumps({"format": _FORMAT, "kitaru": release}).encode() + b"\n"


def _has_format(store: Store) -> bool:
    """Whether the location says what it is; False where nothing was recorded yet."""
    try:
        data = store.get(_FORMAT_KEY)
    except KeyMissingError:
        return False
    try:
        stated = json.loads(data)
        number = stated["format"]
        if type(number) is not int or number < 0:
            raise ValueError(number)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptionError(
            f"{_FORMAT_KEY} in {store.url} is not what Kitaru writes: {data[:80]!r}. Put it back from "
            f'a copy; if all that is lost is this file, write {{"format": {_FORMAT}}} into it.'
        ) from error
    if number > _FORMAT:
        raise StoreFormatError(
            f"{store.url} was written by Kitaru {stated.get('kitaru', 'of a later version')} in format "
            f"{number}; this one knows formats up to {_FORMAT}: upgrade kitaru."
        )
    return True


def _probe(store: Store) -> None:
    key = f"probe/{os.urandom(12).hex()}"
    first, second = os.urandom(16), os.urandom(16)
    try:
        store.put_if_absent(key, first)  # a False is our own retry's, or a lie: the content tells
        refused = not store.put_if_absent(key, second)
        honoured = refused and store.get(key) == first
    finally:
        with suppress(StoreError):  # a role that may not delete leaves a few bytes, which nothing reads
            store.delete([key])
    if not honoured:
        raise StoreUnsupportedError(
            f"{store.url} does not honour conditional writes (If-None-Match: *): of two writes to one new key "
            "the second was not refused, so two processes could both believe that they own a run. Nothing was "
            "recorded. Use a server that does (AWS S3, MinIO, Ceph, SeaweedFS, R2, …), or a folder."
        )


def _make_default(store: Store) -> None:
    """Make the default folder, keep it out of git, and say where it is."""
    if not isinstance(store, LocalStore) or store.path.exists():
        return
    try:
        store.path.mkdir(parents=True, exist_ok=True)
        (store.path / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StorePermissionError(
            f"Could not make {store.path}: {error.strerror}. Say where to record: KITARU_STORE=/path or "
            "KITARU_STORE=s3://bucket/prefix."
        ) from error
    print(f"kitaru: recording in {store.path}", file=sys.stderr)  # noqa: T201  # announced once, by DESIGN


def _warn_where_short_lived(store: Store) -> None:
    global _warned_short_lived  # noqa: PLW0603  # once a process
    sign = next((name for name in _SHORT_LIVED if os.environ.get(name)), None)
    if sign is None or _warned_short_lived or not isinstance(store, LocalStore):
        return
    _warned_short_lived = True
    what = "a pod" if sign.startswith("KUBERNETES") else "a function"
    print(  # noqa: T201  # a warning that logging settings must not hide
        f"kitaru: WARNING: this is {what} ({sign} is set), and runs are recorded in {store.path}, which dies "
        "with the machine: nothing could be resumed.\n"
        "kitaru: WARNING: set KITARU_STORE=s3://bucket/prefix, or to a folder on a volume that lasts.",
        file=sys.stderr,
    )


# How long it is waited for.


def store_budget() -> float:
    """Seconds for which a store that does not answer is asked again: ``KITARU_STORE_BUDGET``, or 60.

    Raises
    ------
    UsageError
        The variable holds no number of seconds.
    """
    text = os.environ.get("KITARU_STORE_BUDGET", "")
    try:
        seconds = float(text or 60)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # "nan" is no number of seconds either
        raise UsageError(f"KITARU_STORE_BUDGET is {text!r}: write a number of seconds")
    return seconds


# Whether its pickles may be loaded.


def is_trusted(store: Store) -> bool:
    """Whether values that can only be unpickled may be loaded from this store: unpickling runs code.

    Memory is trusted, and so is a folder that belongs to this user and that not everybody may write to. Any
    other store is trusted where this user said so: by `KITARU_TRUST` (addresses that it begins with, in whole
    path components, separated by commas; or `1` for all). A file in the project cannot say so: it comes with
    whatever was cloned, and is not this user's word.
    """
    parts = urlsplit(store.url)
    if parts.scheme == "memory" or (parts.scheme == "file" and _is_own_folder(unquote(parts.path))):
        return True
    said = os.environ.get("KITARU_TRUST", "").strip()
    if said == "1":
        return True
    return any(_covers(entry.strip(), store.url) for entry in said.split(",") if entry.strip())


def _is_own_folder(path: str) -> bool:
    try:
        state = Path(path).stat()
    except FileNotFoundError:
        return True  # nothing is in it yet, and what comes will be ours
    except OSError:
        return False
    return state.st_uid == os.geteuid() and not state.st_mode & stat.S_IWOTH


def _covers(entry: str, url: str) -> bool:
    """Whether `url` lies at or below the trusted `entry`: the same server's bucket, or the same tree."""
    if "://" not in entry:
        entry = Path(entry).expanduser().absolute().as_uri()
    trusted, asked = urlsplit(entry), urlsplit(url)
    # A bucket of this name at another endpoint is another bucket.
    places = [dict(parse_qsl(each.query)).get("endpoint_url") for each in (trusted, asked)]
    if (trusted.scheme, trusted.netloc) != (asked.scheme, asked.netloc) or places[0] != places[1]:
        return False
    above, below = trusted.path.strip("/"), asked.path.strip("/")
    return not above or below == above or below.startswith(above + "/")
