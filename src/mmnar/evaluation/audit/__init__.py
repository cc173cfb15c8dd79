"""Audit: does a dataset hold what nobody could have known at prediction time? Ours, or anybody's.

A finding is a *leak* (the data cannot be right), a *suspect* (look at it) or a *note*. An audit that finds nothing has
not proved that nothing is there; what it did not look at is listed beside what it did.
"""

from __future__ import annotations

from pathlib import Path

from mmnar.errors import ConfigError, SourceError
from mmnar.evaluation.audit.cells import TABLES
from mmnar.evaluation.audit.findings import Audit, Finding, audit_text
from mmnar.evaluation.audit.meds import audit_meds
from mmnar.evaluation.audit.store import audit_store
from mmnar.evaluation.audit.table import TableColumns, audit_table

__all__ = ["Audit", "Finding", "TableColumns", "audit", "audit_meds", "audit_store", "audit_table", "audit_text"]


def audit(path: Path, columns: TableColumns | None = None) -> Audit:
    """Audit a store, a MEDS folder or a feature table, whichever ``path`` is.

    Args:
        columns: What the columns of a table are; a table cannot be judged without.

    Raises:
        SourceError: It is none of these.
        ConfigError: Columns for what is not a table, or none for one.
    """
    named = columns if columns is not None and columns != TableColumns() else None
    if path.is_file() and path.suffix.lower() in TABLES:
        if named is None:
            raise ConfigError(f"table '{path}'", "at least one of its columns named", "none", "add --label or --time")
        return audit_table(path, named)
    if named is not None:
        raise ConfigError(f"'{path}'", "a table where columns are named", "none", "leave the column options out")
    if (path / "manifest.json").is_file():
        return audit_store(path)
    if (path / "data").is_dir():
        return audit_meds(path)
    raise SourceError(
        f"'{path}'",
        f"a store, a MEDS folder (data/*.parquet) or a table ({', '.join(TABLES)})",
        "none",
        "check the path",
    )
