"""A study's page: one offline HTML file."""

from __future__ import annotations

from pathlib import Path

from mmnar.files import write_text
from mmnar.study.result import StudyResult
from mmnar.study.text import study_text


def write_page(result: StudyResult, out: Path) -> Path:
    """``OUT/report.html``."""
    path = out / "report.html"
    write_text(path, f"<pre>{study_text(result)}</pre>")
    return path
