"""Failures that are no fault of this package, in one line each; faults, as a traceback without any value of the data.

Messages of other libraries may quote cells, so none is passed on: what is said is the kind of failure and the place in
this package where it came up.
"""

from __future__ import annotations

import errno
import re
import traceback
import zlib
from pathlib import Path
from typing import Final

from mmnar.errors import MmnarError

_HERE: Final = Path(__file__).resolve().parent
_FOREIGN: Final = ("polars", "pyarrow", "safetensors", "safetensors_rust", "zipfile", "yaml", "cramjam", "isal")
"""Packages whose errors are about files or tables that are not what they should be."""

_OF_A_PATIENT: Final = re.compile(r"[ps]?\d{5,}(\..*)?")
"""Folders and files of releases that are named by a patient, a stay or a study."""

_WORDS: Final = {
    errno.ENOSPC: ("room on the disk", "a full one", "free space and run it again"),
    errno.EDQUOT: ("room on the disk", "a quota that is used up", "free space and run it again"),
    errno.EFBIG: ("room for the file", "a limit of its size", "raise the limit (ulimit -f) and run it again"),
    errno.EROFS: ("a place that can be written", "a read-only file system", "choose another --out"),
    errno.EACCES: ("permission", "none", "change the permissions or choose another place"),
    errno.EPERM: ("permission", "none", "change the permissions or choose another place"),
    errno.ENOENT: ("a file or folder", "none", "check the path"),
    errno.EISDIR: ("a file", "a folder", "check the path"),
    errno.ENOTDIR: ("a folder", "a file", "check the path"),
    errno.EEXIST: ("a new name", "one that is there", "choose another place"),
    errno.ENOTEMPTY: ("an empty folder", "one with files in it", "choose another place"),
    errno.EMFILE: ("another open file", "the limit of open files", "raise it (ulimit -n) and run it again"),
    errno.ENFILE: ("another open file", "the machine's limit of open files", "close other programs"),
    errno.ENAMETOOLONG: ("a name of a length that is allowed", "a longer one", "choose a shorter one"),
    errno.ELOOP: ("a file or folder", "links that lead to themselves", "check the path"),
    errno.EIO: ("a disk that can be read and written", "an error of the device", "check the disk"),
    errno.ENOMEM: ("enough memory", "too little", "close other programs or use fewer patients"),
}


def in_one_line(error: BaseException) -> str | None:
    """What to tell of a failure that can be expected; None where it is a fault of this package.

    >>> in_one_line(OSError(28, "No space left on device", "run/model"))
    "'run/model': expected room on the disk, got a full one; free space and run it again"
    >>> in_one_line(KeyError("a cell")) is None
    True
    """
    if isinstance(error, MmnarError):
        return str(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return "memory: expected enough, got too little; close other programs or use fewer patients"
    if isinstance(error, RecursionError):
        return f"a file{_place(error)}: expected plain content, got nesting too deep to read; correct the file"
    foreign = type(error).__module__.partition(".")[0] in _FOREIGN
    if foreign or isinstance(error, (UnicodeError, zlib.error, EOFError)):
        kind = f"{type(error).__module__.partition('.')[0]} {type(error).__name__}"
        return f"a file or table{_place(error)}: expected readable content, got {kind}; check the files given"
    return None


def as_report(error: BaseException) -> str:
    """A fault of this package: its kind and where it came up; never its message, which may quote records."""
    lines = [f"a fault of mmnar: {type(error).__name__}; please report it with these lines"]
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"  {_short(frame.filename)}:{frame.lineno} in {frame.name}")
    lines.append("its message is left out, for it may quote records")
    return "\n".join(lines)


def told(error: BaseException) -> tuple[str, str]:
    """One line, and below it the places where a fault came up ("" for an expected failure)."""
    line = in_one_line(error)
    if line is not None:
        return line, ""
    report = as_report(error)
    return report.splitlines()[0], report


def _of_system(error: OSError) -> str:
    expected, got, remedy = _WORDS.get(
        error.errno or 0, ("files that can be read and written", error.strerror or type(error).__name__, "check them")
    )
    name = error.filename2 or error.filename
    subject = f"'{_without_patients(name)}'" if isinstance(name, str) else f"a file{_place(error)}"
    return f"{subject}: expected {expected}, got {got}; {remedy}"


def _without_patients(name: str) -> str:
    """A path up to its first part that may be a patient's.

    >>> _without_patients("cxr/files/p10/p10000032/s50414267/a.jpg")
    'cxr/files/p10/…'
    """
    parts = Path(name).parts
    for i, part in enumerate(parts):
        if _OF_A_PATIENT.fullmatch(part):
            return str(Path(*parts[:i], "…"))
    return name


def _place(error: BaseException) -> str:
    """Where in this package it came up."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_HERE)]
    return f" (at {_short(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""


def _short(name: str) -> str:
    path = Path(name)
    if path.is_relative_to(_HERE):
        return f"mmnar/{path.relative_to(_HERE).as_posix()}"
    return "/".join(path.parts[-2:])
