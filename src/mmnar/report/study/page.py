"""A study as a page, as Markdown and as lines on a terminal, all from the same sections."""

from __future__ import annotations

from pathlib import Path

from mmnar.files import write_text
from mmnar.render.blocks import Block, Page, Section, Table
from mmnar.render.markdown import markdown_of
from mmnar.render.page import html_of
from mmnar.render.text import section_lines
from mmnar.report.study.contents import contents
from mmnar.study.result import StudyResult


def study_page(result: StudyResult) -> Page:
    """Everything a study's page shows."""
    failures = len(result.failures)
    alarm = f"{failures} of the study's runs failed. Their rows have no numbers; see What was run."
    return Page(
        "Study",
        str(result.study["title"]),
        contents(result),
        alarms=(alarm,) if failures else (),
        footer="Its tables as text are in tables.md beside it.",
    )


def study_html(result: StudyResult) -> str:
    return html_of(study_page(result))


def study_markdown(result: StudyResult) -> str:
    """Its tables for documents."""
    return markdown_of(study_page(result))


def write_study(result: StudyResult, out: Path) -> tuple[Path, Path]:
    """``OUT/report.html`` and ``OUT/tables.md``."""
    page, tables = out / "report.html", out / "tables.md"
    write_text(page, study_html(result))
    write_text(tables, study_markdown(result))
    return page, tables


def study_text(result: StudyResult) -> str:
    """What the study is about, compactly; then what could not run, what failed, and what must be known."""
    lines = [str(result.study["title"])]
    lines += [
        f"{t.data}{f' · {t.setting}' if t.setting else ''}: {t.samples:,} samples of {t.patients:,} patients"
        for t in result.tables
    ]
    shown = [section for section in contents(result) if section.terminal]
    for section in shown:
        lines += ["", *section_lines(section)]
    if any(_starred(section) for section in shown):
        lines += ["", "* survives Holm's correction"]
    lines += [""] if result.refused or result.failures or result.notices else []
    lines += [f"not applicable: {row} on {data}: {why}" for data, row, why in result.refused]
    lines += [f"failed: {label}: {error}" for label, error, _ in result.failures]
    return "\n".join([*lines, *result.notices])


def _starred(section: Section) -> bool:
    return any(_has_verdicts(block) for block in section.blocks)


def _has_verdicts(block: Block) -> bool:
    return isinstance(block, Table) and any(c.kind in ("better", "worse") for row in block.rows for c in row)
