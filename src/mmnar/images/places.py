"""Where an image lies: under the stem that its record names, as JPG, PNG or DICOM."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

ENDINGS: Final = (".jpg", ".jpeg", ".png", ".dcm")
"""Of several files with one stem, the one that the record names is read, else the first of these."""


class ImageFolder:
    """A folder of images. Records name files of one release; another has the same images in another form.

    Args:
        root: What paths are relative to.

    Attributes:
        several: How many of the images found lie there in more than one form.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.several = 0
        self._forms = lru_cache(maxsize=64)(_forms)

    def find(self, path: str) -> Path | None:
        """The file of an image, or None where none of its forms is there.

        Args:
            path: As the record has it; the letter case of the file's name and its ending may differ.
        """
        named = self._root / path
        try:
            forms = self._forms(named.parent).get(named.stem.lower(), ())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            # there is something; what reads it counts it as not readable
            return named
        if not forms:
            return named if named.exists() else None
        self.several += len({form.lower() for form in forms}) > 1
        return named.with_name(named.name if named.name in forms else forms[0])


def _forms(folder: Path) -> dict[str, tuple[str, ...]]:
    """Stem in small letters → names of its files with one of ``ENDINGS``, in that order."""
    found: dict[str, list[tuple[int, str]]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name.lower())
            if ending in ENDINGS and entry.is_file():
                found.setdefault(stem, []).append((ENDINGS.index(ending), entry.name))
    return {stem: tuple(name for _, name in sorted(names)) for stem, names in found.items()}
