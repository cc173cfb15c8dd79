"""A study's page: one offline HTML file."""

from __future__ import annotations

from pathlib import Path

from mmnar.files import write_text
from mmnar.report.template import filled
from mmnar.report.wording import metric_words
from mmnar.study.contents import contents
from mmnar.study.result import StudyResult


def write_page(result: StudyResult, out: Path) -> Path:
    """``OUT/report.html``."""
    path = out / "report.html"
    write_text(path, study_html(result))
    return path


def study_html(result: StudyResult) -> str:
    """The whole page as text."""
    known = [name for name in result.study["metrics"] if metric_words(name).meaning]
    return filled(
        "study.html",
        title=str(result.study["title"]),
        sections=contents(result),
        metrics=known if result.study["rows"] else [],
        failures=len(result.failures),
    )
