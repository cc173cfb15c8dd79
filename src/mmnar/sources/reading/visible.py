"""Which files of a folder were put there on purpose: not the ones that systems and editors leave beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Final

from mmnar.errors import SourceError
from mmnar.privacy import counted

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

    Raises:
        SourceError: One of them is a link that leads nowhere.
    """
    named = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(suffix)]
    there = [path for path in named if not is_hidden(path.relative_to(folder))]
    refuse_broken_links(folder, there)
    yield from (path for path in there if path.is_file())


def refuse_broken_links(folder: Path, paths: Iterable[Path]) -> None:
    """A link that leads nowhere is a file that somebody meant to be there.

    Args:
        folder: To be named, for a file's own name may name a patient.

    Raises:
        SourceError: There is one among ``paths``.
    """
    broken = sum(path.is_symlink() and not path.exists() for path in paths)
    if broken:
        fact = f"{counted(broken)} links that lead nowhere"
        raise SourceError(f"folder '{folder.name}'", "files", fact, "restore what they lead to, or remove them")
