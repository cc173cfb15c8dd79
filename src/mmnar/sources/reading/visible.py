"""Which files of a folder were put there on purpose: not the ones that systems and editors leave beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

_LEFT_BEHIND: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})


def is_hidden(path: PurePath) -> bool:
    """Whether any part of a relative path is hidden or a system's own.

    >>> [is_hidden(PurePath(p)) for p in ("train/0.parquet", "./0.parquet", "train/._0.parquet")]
    [False, False, True]
    >>> [is_hidden(PurePath(p)) for p in (".ipynb_checkpoints/0.parquet", "__MACOSX/0.parquet", "a/.DS_Store")]
    [True, True, True]
    """
    return any((part[0] == "." and part != "..") or part.lower() in _LEFT_BEHIND for part in path.parts)


def visible_files(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Files below a folder in order of path, hidden ones and those in hidden folders passed over.

    Args:
        folder: Its own place may be hidden.
        suffix: Ending in small letters that a name must have in any letter case; "" = any.
    """
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(suffix) and not is_hidden(path.relative_to(folder)) and path.is_file():
            yield path
