"""Files that are there whole or not at all, and whether one is what it was."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path


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
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """``write_whole`` of UTF-8 text."""
    write_whole(target, lambda path: path.write_text(text, encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Hash of a file's content, read piece by piece."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
