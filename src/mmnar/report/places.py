"""Folders of this machine taken out of what a page or a file tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final


def placeless(value: Any) -> Any:
    """A structure without the folders of paths in it: names of files stay.

    >>> placeless({"weights": "/home/me/resnet.pt", "lr": 0.1, "law": ["C:\\\\my stores\\\\north", "../south/"]})
    {'weights': 'resnet.pt', 'lr': 0.1, 'law': ['north', 'south']}
    >>> placeless("hidden as patients of '/data/north' lack it, 'labs' and/or 'note', 24 h after")
    "hidden as patients of 'north' lack it, 'labs' and/or 'note', 24 h after"
    """
    if isinstance(value, Mapping):
        return {key: placeless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [placeless(item) for item in value]
    if not isinstance(value, str):
        return value
    if _PATH.match(value) or (_SLASH.search(value) and not re.search(r"\s", value)):
        return _SLASH.split(value.rstrip("\\/"))[-1]
    return _QUOTED.sub(r"'\1'", value)


_SLASH: Final = re.compile(r"[\\/]+")
_PATH: Final = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/]")
_QUOTED: Final = re.compile(r"(?<!\w)'[^']*[\\/]([^'\\/]+)[\\/]?'")
