"""Files written whole or not at all, hashes that tell whether one has changed, and JSON that holds its own hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from mmnar.errors import ConfigError, StoreError

SEAL: Final = "seal"
"""Key of a sealed record that holds the hash of all the rest."""

VERIFIED: Final = ".verified.json"
"""Beside the files it tells of: the stamp under which each was last found to be what it was."""

_TEMPORARY: Final = re.compile(r"\.tmp-(?:.+-)?[0-9a-f]{8,12}")
_JUST_NOW: Final = 50_000_000
"""Nanoseconds: a file may change again under the stamp of its last change while its clock has not ticked."""


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new file beside ``target``, then put it in ``target``'s place in one step.

    A kill or a full disk at any moment leaves the old file or none, never half of one.

    Raises:
        OSError: No room or no permission; ``target`` is as it was.
    """
    temporary = target.with_name(f".tmp-{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        error.filename, error.filename2 = str(target), None  # the name that the reader knows
        raise
    finally:
        with suppress(OSError):  # it is not there, or nothing can be removed here
            temporary.unlink()


def write_text(target: Path, text: str) -> None:
    """``write_whole`` of UTF-8 text."""
    write_whole(target, lambda path: path.write_text(text, encoding="utf-8"))


def is_temporary(name: str) -> bool:
    """Whether ``write_whole`` or its like gave the name; what a kill left.

    >>> is_temporary(".tmp-run.json-0a1b2c3d"), is_temporary("run.json")
    (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove what kills left of files in ``folder`` and below. For whoever alone may write there."""
    for at, folders, names in os.walk(folder):
        for name in filter(is_temporary, names):
            Path(at, name).unlink(missing_ok=True)
        for name in [*filter(is_temporary, folders)]:
            _remove(Path(at, name))
            folders.remove(name)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


# --- JSON and YAML ---------------------------------------------------------------------------------------------------


def write_sealed(target: Path, record: Mapping[str, Any]) -> None:
    """``record`` as JSON with the hash of itself, whole or not at all. ``read_sealed`` reads it."""
    plain = json.loads(json.dumps(record, ensure_ascii=False))
    write_text(target, json.dumps({**plain, SEAL: _seal(plain)}, indent=1, ensure_ascii=False))


def read_sealed(path: Path, what: str, remedy: str, version: tuple[str, Any] | None = None) -> dict[str, Any]:
    """What ``write_sealed`` wrote.

    Args:
        what: Subject of the error.
        version: Key and value that it must have; looked at before the seal, so that an older record is called so.

    Raises:
        StoreError: Not JSON, of another version, or not what was written.
        OSError: It cannot be read.
    """
    record = read_json(path, what, remedy)
    if not isinstance(record, dict):
        raise StoreError(what, f"a record in {path.name}", type(record).__name__, remedy)
    if version is not None and record.get(version[0]) != version[1]:
        key, wanted = version
        got = record.get(key)
        told = str(got) if isinstance(got, (int, str)) else "another"
        raise StoreError(what, f"{key.replace('_', ' ')} {wanted}", told, remedy)
    seal = record.pop(SEAL, None)
    if seal != _seal(record):
        raise StoreError(what, f"{path.name} as it was written", "a damaged or edited one", remedy)
    return record


def read_json(path: Path, what: str, remedy: str) -> Any:
    """JSON.

    Raises:
        StoreError: It is not JSON.
        OSError: It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(what, f"JSON in {path.name}", _fault(error), remedy) from None


def read_yaml(path: Path, what: str) -> Any:
    """A YAML file of the user's.

    Raises:
        ConfigError: It cannot be read or is not YAML; the message names the line, and quotes none.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(what, "a file that can be read", error.strerror or "none", "correct its name") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        problem = str(getattr(error, "problem", None) or "something else")
        raise ConfigError(what, "a YAML file", problem + where, "correct the file") from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(what, "a YAML file", _fault(error), "correct the file") from None


def _fault(error: Exception) -> str:
    """What is wrong with a text, without a word of it."""
    if isinstance(error, json.JSONDecodeError):
        return f"something else at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8 (at byte {error.start})"
    return "nesting too deep to read" if isinstance(error, RecursionError) else "a value that cannot be read"


def _seal(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


# --- is it what it was? ----------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Hash of a file's content, read piece by piece."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def first_changed(folder: Path, files: Mapping[str, str], *, afresh: bool = False) -> str:
    """Name of the first file that is missing or no longer has its hash; "" where all are what they were.

    Each is read once: while its size, time of change and inode stay the same it is not read again. That is remembered
    in the process and, where the folder can be written, in ``VERIFIED``.

    Args:
        folder: Where the files lie.
        files: Name below ``folder`` → sha256.
        afresh: Read all, whatever is remembered.
    """
    known = {} if afresh else {**_remembered(folder), **_HERE.get(str(folder), {})}
    stamps: dict[str, list[Any]] = {}
    try:
        for name, digest in files.items():
            stamp = _stamp(folder / name)
            if stamp is None:
                return name
            if known.get(name) != [*stamp, digest]:
                if sha256_of(folder / name) != digest:
                    return name
                if time.time_ns() - stamp[1] < _JUST_NOW:
                    continue
            stamps[name] = [*stamp, digest]
        return ""
    finally:
        _remember(folder, {**known, **stamps})


_HERE: Final[dict[str, dict[str, list[Any]]]] = {}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if path.is_file() else None


def _remembered(folder: Path) -> dict[str, list[Any]]:
    try:
        record = read_sealed(folder / VERIFIED, "", "")
    except (OSError, StoreError):
        return {}
    stamps: dict[str, list[Any]] = record.get("files", {})
    return stamps


def _remember(folder: Path, stamps: dict[str, list[Any]]) -> None:
    if not stamps or _HERE.get(str(folder)) == stamps:
        return
    _HERE[str(folder)] = stamps
    try:
        if _remembered(folder) != stamps:
            write_sealed(folder / VERIFIED, {"files": stamps})
    except OSError:
        return  # a store that may only be read, or a full disk: the process remembers


def names_below(folder: Path, hidden: Iterable[str] = (VERIFIED,)) -> set[str]:
    """Every file below ``folder``, by its path from there."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name not in hidden}
