"""Verbs that look and tell: describe, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

from mmnar.cli.apps import app


@app.command
def describe(store: Path) -> None:
    """How many patients have which modalities, and does it matter? Cohort, attrition, patterns, outcome by pattern."""
    from mmnar.dataset.store import open_store
    from mmnar.evaluation.atlas import availability, describe_text

    data = open_store(store)
    print(describe_text(availability(data), data))


@app.command
def doctor(*, root: Path | None = None, store: Path | None = None) -> None:
    """Check this machine, and a data folder or store if given, before hours are lost.

    Parameters
    ----------
    root: A folder of raw eICU records.
    store: A prepared store; every file's hash is recomputed.
    """
    from mmnar.doctor import examine

    lines, healthy = examine(root, store)
    print("\n".join(lines))
    if not healthy:
        sys.exit(1)
