"""The tables of ``codes/``: what items mean, in which unit, within which range."""

from __future__ import annotations

import csv
import hashlib
import io
from importlib.resources import files


def code_table(name: str) -> list[dict[str, str]]:
    """Rows of ``codes/<name>.csv``."""
    return list(csv.DictReader(io.StringIO(_text(name))))


def digest(*names: str) -> str:
    """Hash of code tables: another table makes other events."""
    return hashlib.sha256("".join(_text(name) for name in names).encode()).hexdigest()


def _text(name: str) -> str:
    return (files("mmnar.sources") / "codes" / f"{name}.csv").read_text(encoding="utf-8")
