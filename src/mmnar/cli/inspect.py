"""Verbs that look and tell: describe, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

from mmnar.cli.apps import app


@app.command
def describe(store: Path, *, out: Path | None = None) -> None:
    """How many patients have which modalities, and does it matter? Cohort, attrition, availability over time and by
    unit, outcome by pattern, and whether missingness is informative.

    Parameters
    ----------
    store: A prepared store.
    out: Also write describe.html, one offline file, and describe.json there.
    """
    from mmnar.report.describe import describe as described

    text, page = described(store, out)
    print(text)
    if page is not None:
        print(f"\natlas: {page}")


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
