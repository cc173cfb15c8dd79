"""Who may write into a folder: one process at a time. A lock goes with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmnar.errors import StoreError
from mmnar.files import is_temporary

LOCK: Final = ".lock"
"""The file that is locked, in the folder. It is removed at the end; one that a kill left holds nobody up."""

_BUSY: Final = (errno.EACCES, errno.EAGAIN)
_HELD: Final[dict[Path, tuple[int, int]]] = {}
"""Lock file → (thread that holds it, how often)."""

_ATTEMPTS: Final = 100
"""How often a folder may vanish while its lock file is opened."""

_GUARD: Final = threading.Lock()
os.register_at_fork(after_in_child=_HELD.clear)  # a record lock stays with the process that took it


@contextmanager
def alone(folder: Path, what: str = "folder", *, beside: bool = False) -> Iterator[None]:
    """Be the only one who writes into ``folder``; made where it is absent, and removed if it is still empty then.

    A POSIX record lock: children of the process do not hold it, and the system drops it when the process ends. Whoever
    comes second is refused at once. The thread that holds it may ask again.

    Args:
        what: For the message: store, run, study.
        beside: Lock a file beside the folder, for a folder that is put in its place whole.

    Raises:
        StoreError: Another process, or another thread of this one, is at work there.
        OSError: The folder cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{what} '{folder}'", "a folder", "a file", "choose another --out")
    path = Path(os.path.abspath(folder))
    path = path.with_name(f".{path.name}{LOCK}") if beside else path / LOCK
    me = threading.get_ident()
    with _GUARD:
        holder, times = _HELD.get(path, (me, 0))
        if holder != me:
            raise _busy(folder, what)
        handle, made = (None, False) if times else _take(path, folder, what)
        _HELD[path] = (me, times + 1)
    try:
        yield
    finally:
        with _GUARD:
            _HELD[path] = (me, times)
            if not times:
                del _HELD[path]
                _leave(path, handle, made)


def contents(folder: Path) -> list[str]:
    """Names in ``folder`` but for a lock and what kills left; nothing where there is no folder.

    Raises:
        OSError: It cannot be read, or is a file.
    """
    if not folder.exists():
        return []
    return [p.name for p in folder.iterdir() if p.name != LOCK and not is_temporary(p.name)]


def fresh_folder(out: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new folder beside ``out``, then rename it to ``out``: it is there whole or not at all.

    Raises:
        StoreError: ``out`` exists and is not an empty folder, or somebody else is at work on it.
        OSError: No room or no permission.
    """
    out = Path(os.path.abspath(out))
    with alone(out, "folder", beside=True):
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"folder '{out}'", "a new or empty folder", "one with files in it", "choose another --out")
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".tmp-{glob.escape(out.name)}-*"):  # by a kill
            if is_temporary(left.name):
                shutil.rmtree(left, ignore_errors=True)
        temporary = out.with_name(f".tmp-{out.name}-{uuid.uuid4().hex[:8]}")
        temporary.mkdir()
        try:
            write(temporary)
            os.replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take(path: Path, folder: Path, what: str) -> tuple[int | None, bool]:
    """An open, locked file, or None where the file system knows no locks; and whether its folder was made for it."""
    made, left = not path.parent.exists(), _ATTEMPTS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):
            left -= 1
            if not left:  # a place where no file can be made
                raise
            continue  # who held it has just removed the folder
        except OSError as error:
            error.filename = str(folder)
            raise
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in _BUSY:
                raise _busy(folder, what) from None
            warnings.warn(
                f"{what} '{folder}': this file system has no locks; see to it that nobody else writes there",
                stacklevel=4,
            )
            return None, made
        if _is_at(handle, path):
            return handle, made
        os.close(handle)  # who held it has removed it: this is a file without a name


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _leave(path: Path, handle: int | None, made: bool) -> None:
    try:
        path.unlink(missing_ok=True)
        if made:
            path.parent.rmdir()
    except OSError:
        pass  # the folder has content, as it should, or has become read-only
    if handle is not None:
        os.close(handle)


def _busy(folder: Path, what: str) -> StoreError:
    return StoreError(
        f"{what} '{folder}'", "nobody else at work on it", "another process", "wait for it, or choose another --out"
    )
