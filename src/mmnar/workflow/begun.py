"""Long work that was interrupted goes on only as what it was begun as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmnar.errors import StoreError
from mmnar.files import read_sealed, write_sealed


def begin(path: Path, identity: Mapping[str, Any], what: str, remedy: str) -> None:
    """Write down what work is begun as, or see to it that it goes on as that.

    Args:
        path: Where that is written.
        identity: All that its result depends on; plain JSON.
        what, remedy: For messages.

    Raises:
        StoreError: It was begun as something else; names what has changed.
    """
    if not path.is_file():
        write_sealed(path, identity)
        return
    before = read_sealed(path, what, remedy)
    changed = [key for key in identity if before.get(key) != json.loads(json.dumps(identity[key]))]
    if changed:
        fact = f"changed: {', '.join(changed)}"
        raise StoreError(what, "the configuration and data it was begun with", fact, remedy)
