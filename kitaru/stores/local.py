"""Bytes in a folder. Each write is whole and durable, or it is not there."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import (
    InvalidNameError,
    KeyMissingError,
    StoreError,
    StoreFullError,
    StorePermissionError,
    StoreUnavailableError,
    StoreUnsupportedError,
)
from .base import Entry
from .keys import check_key, check_range, is_key

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LocalStore"]

_SCRATCH = ".tmp"  # half-written files where the system needs a name for them; never listed
_SCRATCH_AGE = 24 * 3600.0  # seconds after which a killed process has left it there
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NAMELESS = getattr(os, "O_TMPFILE", 0)
_REMEMBERED = 4096  # folders; beyond it they are synced once more
_CHUNK = 1 << 30  # Linux writes at most 2 GiB - 4 KiB at once

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_NAMELESS = {errno.EOPNOTSUPP, errno.EINVAL, errno.EISDIR, errno.ENOSYS}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class LocalStore:
    """A folder, on a file system with hard links.

    A key is a path below the folder. `put_if_absent` writes a file that has no name yet, makes its bytes
    durable, gives it its name (`link` fails if the name is taken) and makes the name durable. So a killed
    process leaves no name that stands for half a file, and whoever reads a name reads all of it.

    Reading creates nothing, and opening a folder that does not exist lists nothing. The folder is held open
    from its first use: one that is removed meanwhile is an error (`StoreUnavailableError`), not a new, empty
    store in its place.

    Parameters
    ----------
    path
        The folder. It is made by the first write.
    nameless
        Use files without a name (`O_TMPFILE`) where the system has them. Otherwise, files in `.tmp`.

    Examples
    --------
    >>> import tempfile
    >>> store = LocalStore(tempfile.mkdtemp())
    >>> store.put_if_absent("a/b", b"first"), store.put_if_absent("a/b", b"second")
    (True, False)
    >>> [entry.key for entry in store.list("a/")]
    ['a/b']
    """

    is_near = True
    """Many small objects are read as fast as one that holds them all: no execution is packed here."""

    def __init__(self, path: str | os.PathLike[str], *, nameless: bool = True) -> None:
        self._path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self._nameless = nameless and bool(_NAMELESS)
        self._root: _Folder | None = None
        self._durable: set[str] = set()  # folders whose names this object has made, or found and synced
        self._scratch_swept = False

    def __repr__(self) -> str:
        return f"LocalStore({self._path!r})"

    @property
    def path(self) -> Path:
        """The folder, as an absolute path."""
        from pathlib import Path

        return Path(self._path)

    @property
    def url(self) -> str:
        """The folder's address, `file:///…`."""
        return self.path.as_uri()

    def get(self, key: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`. Raises `KeyMissingError` where there is none."""
        check_key(key)
        check_range(start, end)
        root = self._open_root()
        if root is None:
            raise self._missing(key)
        with self._reading(key, root) as (file, size):
            return _read(file, start or 0, size if end is None else min(end, size))

    def read_into(self, key: str, into: memoryview) -> int:
        """How many bytes `key` has; if that is the length of `into`, they stand there now. Not every store can.

        Raises `KeyMissingError` where there is none.
        """
        check_key(key)
        root = self._open_root()
        if root is None:
            raise self._missing(key)
        with self._reading(key, root) as (file, size):
            if size != len(into):
                return size
            at = 0
            while at < size and (count := os.readv(file, [into[at : at + _CHUNK]])):
                at += count
            return at  # less where it was cut off meanwhile

    @contextmanager
    def _reading(self, key: str, root: _Folder) -> Iterator[tuple[int, int]]:
        """The open file of `key`, and its size."""
        try:
            file = os.open(key, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root.fd)
            try:
                state = os.fstat(file)
                if not stat.S_ISREG(state.st_mode):
                    raise self._missing(key)
                yield file, state.st_size
            finally:
                os.close(file)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                self._check_root(root)
                raise self._missing(key) from None
            raise self._translated(error, "read", key) from error

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create `key`, whole and durable on return. False: it exists already, and durably so.

        Raises `StoreFullError` where no space is left and `StoreUnsupportedError` where the file system has
        no hard links. After any other error the file is there, whole, or it is not.
        """
        check_key(key)
        parent, _, name = key.rpartition("/")
        try:
            folder = self._folder(parent, durable=True)
            if _exists(folder, name, key):  # spares the writing of a blob that is there already
                won = False
            elif self._nameless:
                won = self._link_nameless(folder, name, data, key)
            else:
                won = self._link_named(folder, name, data, key)
            # Also for the loser: it acts on what the winner may not have synced yet.
            _sync_folder(folder)
        except StoreError:
            raise
        except OSError as error:
            raise self._translated(error, "write", key) from error
        return won

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite `key`, whole for every reader. A power cut may lose it: it is for hints."""
        check_key(key)
        parent, _, name = key.rpartition("/")
        try:
            folder = self._folder(parent, durable=False)
            scratch, temporary, file = self._named_file()
            try:
                try:
                    _write(file, data)
                finally:
                    os.close(file)
                os.rename(temporary, name, src_dir_fd=scratch.fd, dst_dir_fd=folder.fd)
            except BaseException:
                _unlink(temporary, scratch)
                raise
        except StoreError:
            raise
        except OSError as error:
            raise self._translated(error, "write", key) from error

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[Entry]:
        """The entries whose key begins with `prefix` and is greater than `after`, in the order of their keys.

        Folders that can hold none of them are not opened.
        """
        root = self._open_root()
        if root is None:
            return
        self._check_root(root)
        now = self.now()
        parent = prefix.rpartition("/")[0]
        if parent and not is_key(parent):
            return
        try:
            yield from self._walk(root, parent and parent + "/", prefix, after or "", now)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise self._translated(error, "list", prefix) from error

    def now(self) -> float:
        """Seconds since the epoch by the file system's clock; this machine's, where it may not be written."""
        root = self._open_root()
        if root is None:
            return time.time()
        try:
            if self._nameless:
                file = os.open(".", os.O_WRONLY | _NAMELESS | os.O_CLOEXEC, 0o600, dir_fd=root.fd)
            elif _is_folder(_SCRATCH, root):  # asking for the time makes no folder
                scratch, temporary, file = self._named_file()
                _unlink(temporary, scratch)
            else:
                return time.time()
        except OSError:
            return time.time()
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove `keys`; those that do not exist are no error. Their folders stay."""
        doomed = [check_key(key) for key in keys]
        root = self._open_root()
        if root is None:
            return
        self._check_root(root)
        for key in doomed:
            try:
                os.unlink(key, dir_fd=root.fd)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            except OSError as error:
                raise self._translated(error, "delete", key) from error

    # Writing: bytes first, then the name.

    def _link_nameless(self, folder: _Folder, name: str, data: bytes, key: str) -> bool:
        try:
            file = os.open(".", os.O_WRONLY | _NAMELESS | os.O_CLOEXEC, 0o666, dir_fd=folder.fd)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
            self._nameless = False
            return self._link_named(folder, name, data, key)
        try:
            _write(file, data)
            _sync(file)
            try:
                return self._link(f"/proc/self/fd/{file}", None, folder, name, key)
            except FileNotFoundError:
                if os.path.exists(f"/proc/self/fd/{file}"):
                    raise  # the folder is gone
        finally:
            os.close(file)
        self._nameless = False  # no /proc here
        return self._link_named(folder, name, data, key)

    def _link_named(self, folder: _Folder, name: str, data: bytes, key: str) -> bool:
        scratch, temporary, file = self._named_file()
        try:
            try:
                _write(file, data)
                _sync(file)
            finally:
                os.close(file)
            return self._link(temporary, scratch, folder, name, key)
        finally:
            _unlink(temporary, scratch)

    def _link(self, source: str, source_folder: _Folder | None, folder: _Folder, name: str, key: str) -> bool:
        """Give the file its name. The one moment that decides who wins."""
        try:
            os.link(
                source,
                name,
                src_dir_fd=source_folder.fd if source_folder else None,
                dst_dir_fd=folder.fd,
                follow_symlinks=True,
            )
        except FileExistsError:
            _exists(folder, name, key)
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreUnsupportedError(
                    f"The file system under {self._path} has no hard links ({error.strerror}), so two "
                    "processes could both believe that they created a file. Keep the store on another one "
                    "(ext4, xfs, btrfs, apfs, nfs), or in a bucket: KITARU_STORE=s3://bucket/prefix."
                ) from error
            raise
        return True

    def _named_file(self) -> tuple[_Folder, str, int]:
        """A new file in `.tmp`: its folder, its name there, and its descriptor, open for writing."""
        scratch = self._folder(_SCRATCH, durable=False)
        if not self._scratch_swept:
            self._scratch_swept = True
            _sweep(scratch)
        name = f"{os.getpid()}-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return scratch, name, os.open(name, flags, 0o666, dir_fd=scratch.fd)

    # Folders: opened below the root, which stays open.

    def _open_root(self) -> _Folder | None:
        """The store's folder; None where it does not exist yet."""
        if self._root is None:
            try:
                self._root = _Folder(self._path)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._translated(error, "open", "") from error
        return self._root

    def _make_root(self) -> _Folder:
        missing = [self._path]
        while not os.path.isdir(above := os.path.dirname(missing[-1])):
            missing.append(above)
        for path in reversed(missing):
            try:
                os.mkdir(path)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise
            _sync_folder(_Folder(os.path.dirname(path)))
        root = self._root = _Folder(self._path)
        return root

    def _folder(self, name: str, *, durable: bool) -> _Folder:
        """Open the folder `name` below the root, made where it is missing; `durable`: its name survives."""
        root = self._open_root() or self._make_root()
        if not name:
            return root
        if not durable or name in self._durable:
            try:
                return _Folder(name, root)
            except FileNotFoundError:
                pass
        # Another process may have made a folder and not have synced its name yet, so finding it is not
        # enough: each object syncs the chain once.
        if len(self._durable) > _REMEMBERED:
            self._durable.clear()
        folder, path = root, ""
        for part in name.split("/"):
            path = f"{path}/{part}" if path else part
            try:
                os.mkdir(part, dir_fd=folder.fd)
                self._durable.discard(path)
            except FileExistsError:
                pass
            if durable and path not in self._durable:
                _sync_folder(folder)
                self._durable.add(path)
            folder = _Folder(part, folder)
        return folder

    def _check_root(self, root: _Folder) -> None:
        if os.fstat(root.fd).st_nlink == 0:
            raise StoreUnavailableError(
                f"The store's folder {self._path} was removed while it was in use. "
                "Put it back from a copy, or open the store again (kitaru.connect) to begin an empty one."
            )

    def _walk(self, root: _Folder, base: str, prefix: str, after: str, now: float) -> Iterator[Entry]:
        """The entries in the folder `base` ("" or with a "/" at its end), depth first."""
        if base <= after and not after.startswith(base):
            return  # all that it holds comes before
        try:
            folder = _Folder(base or ".", root)  # one of its own: scandir moves its offset
        except (FileNotFoundError, NotADirectoryError):
            return
        # With a "/" at its end a folder's name sorts as its keys do: "a-b" comes before "a/b".
        names: dict[str, os.DirEntry[str]] = {}
        with os.scandir(folder.fd) as found:
            for item in found:
                key = base + item.name
                if item.name.startswith(".") and not base:
                    continue
                if item.is_dir(follow_symlinks=False):
                    key += "/"
                    if (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                        names[key] = item
                elif key.startswith(prefix) and key > after:
                    names[key] = item
        for key in sorted(names):
            if key.endswith("/"):
                yield from self._walk(root, key, prefix, after, now)
            elif is_key(key):
                try:
                    state = os.stat(names[key].name, dir_fd=folder.fd, follow_symlinks=False)
                except FileNotFoundError:  # deleted meanwhile
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield Entry(key, state.st_size, state.st_mtime, now)

    # Errors.

    def _missing(self, key: str) -> KeyMissingError:
        return KeyMissingError(f"No object {key!r} in the folder {self._path}.")

    def _translated(self, error: OSError, doing: str, key: str) -> Exception:
        if self._root is not None and error.errno in {errno.ENOENT, errno.ESTALE}:
            self._check_root(self._root)
        where = os.path.join(self._path, key) if key else self._path
        what = f"Could not {doing} {where}: {error.strerror or error}."
        if error.errno in _FULL:
            return StoreFullError(f"{what} Free some space, then resume: what was recorded before is intact.")
        if error.errno in _DENIED:
            return StorePermissionError(f"{what} Check who owns the folder, and what this user may do there.")
        if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}:
            return InvalidNameError(f"{what} A key cannot be the folder of another key.")
        return StoreUnavailableError(f"{what} Check that the disk is mounted and healthy, then resume.")


class _Folder:
    """An open folder. Closed when nobody holds it, so no thread can close it under another."""

    __slots__ = ("fd",)

    def __init__(self, name: str, below: _Folder | None = None) -> None:
        self.fd = -1
        self.fd = os.open(name, _FOLDER, dir_fd=below.fd if below else None)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _read(file: int, start: int, stop: int) -> bytes:
    pieces = []
    while start < stop:
        piece = os.pread(file, min(stop - start, _CHUNK), start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest[:_CHUNK]) :]


def _sync(file: int) -> None:
    if sys.platform == "darwin":
        import fcntl  # there, fsync stops at the disk's own cache

        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fsync(file)


def _sync_folder(folder: _Folder) -> None:
    try:
        os.fsync(folder.fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such notion keeps names by itself
            raise


def _exists(folder: _Folder, name: str, key: str) -> bool:
    try:
        state = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(state.st_mode):
        raise InvalidNameError(f"{key!r} cannot be a key: other keys begin with {key + '/'!r}.")
    return True


def _is_folder(name: str, below: _Folder) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=below.fd).st_mode)
    except OSError:
        return False


def _unlink(name: str, folder: _Folder) -> None:
    with suppress(OSError):  # swept up later
        os.unlink(name, dir_fd=folder.fd)


def _sweep(scratch: _Folder) -> None:
    """Remove what processes that were killed a day ago have left in `.tmp`."""
    oldest = time.time() - _SCRATCH_AGE
    with os.scandir(scratch.fd) as found:
        for item in found:
            try:
                if item.stat(follow_symlinks=False).st_mtime < oldest:
                    _unlink(item.name, scratch)
            except OSError:
                continue
