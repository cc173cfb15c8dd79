"""A store described: what is there, what is missing, and whether that matters. As text, and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mmnar.dataset.store import open_store
from mmnar.evaluation.atlas import Breakdown, availability
from mmnar.evaluation.informative import informativeness
from mmnar.files import write_text
from mmnar.progress import say
from mmnar.render.blocks import Page, Paragraph, Section
from mmnar.render.page import html_of
from mmnar.render.text import flow_table, section_lines
from mmnar.report.inputs import StoreFacts
from mmnar.report.parts import availability as having
from mmnar.report.parts.atlas_answers import atlas_answers
from mmnar.report.parts.cohort import asked_of_all, attrition, cohort, source_of
from mmnar.report.parts.missingness import CANNOT_TELL, missingness, sampled, tests, verdicts
from mmnar.report.parts.models import data, warnings
from mmnar.report.titles import entitled_store
from mmnar.report.written import shown_store, writing

IN_TEXT = ("unit", "site")
"""Attributes whose breakdown the terminal shows; the page shows all."""
JSON = "describe.json"


def describe(store: Path, out: Path | None = None) -> tuple[str, Path | None]:
    """Text for the terminal and, where ``out`` is given, the path of describe.html with describe.json beside it.

    Raises:
        StoreError: Not a store, or ``out`` cannot be written.
    """
    dataset = open_store(store)
    say("describing: who has which modalities, and whether missingness is informative")
    facts = StoreFacts(dataset.manifest, availability(dataset), informativeness(dataset)).disclosed()
    text = atlas_text(facts, dataset.fingerprint)
    return text, None if out is None else write_atlas(facts, out)


def write_atlas(facts: StoreFacts, out: Path) -> Path:
    """``OUT/describe.html``, and ``OUT/describe.json`` with all that it shows.

    Raises:
        StoreError: The folder cannot be written.
    """
    page, shown = atlas_page(facts), out / "describe.html"
    with writing(out):
        write_text(out / JSON, json.dumps({"title": page.title, **shown_store(facts)}, indent=1, ensure_ascii=False))
        write_text(shown, html_of(page))
    return shown


def atlas_page(facts: StoreFacts) -> Page:
    """Answers first, then the same parts as a report's on a store, with the outcome rates of everyone."""
    facts = entitled_store(facts)
    manifest, atlas, signal = facts.manifest, facts.atlas, facts.informative
    assert atlas is not None
    sections = [
        Section("In short", tuple(atlas_answers(manifest, atlas, signal))),
        Section("Cohort", tuple(cohort(manifest, atlas, asked_of_all(manifest, atlas)))),
        Section("Availability of modalities", tuple(having.availability(atlas, JSON))),
    ]
    if signal is not None:
        sections.append(Section("Is missingness informative?", tuple(missingness(signal))))
    sections.append(Section("Data", tuple(data(manifest, JSON))))
    source = source_of(manifest)
    return Page(
        "Availability atlas",
        f"Availability atlas: {source}",
        tuple(sections),
        source,
        str(manifest.get("fingerprint") or ""),
    )


def atlas_text(facts: StoreFacts, fingerprint: str, most: int = 12) -> str:
    """The same tables for a terminal.

    "few" and "nearly all" hide a cell of fewer than ten patients, or one that would give such a cell away.

    Args:
        most: How many patterns to list.
    """
    atlas = facts.atlas
    assert atlas is not None
    lines = [f"{source_of(facts.manifest)}: {atlas.samples:,} samples of {atlas.patients:,} patients"]
    lines.append(f"fingerprint {fingerprint or 'none (not stored)'}")
    for section in _in_text(facts, most):
        lines += ["", *section_lines(section)]
    return "\n".join(lines)


def _in_text(facts: StoreFacts, most: int) -> Iterator[Section]:
    atlas, signal = facts.atlas, facts.informative
    assert atlas is not None
    for flow in attrition(facts.manifest).flows:
        yield Section(f"Attrition: {flow.title.lower() if flow.title == 'Cohort' else flow.title}", (flow_table(flow),))
    yield Section("Modalities", (having.modalities(atlas),))
    for b in atlas.breakdowns:
        if b.over_time or b.name in IN_TEXT:
            yield Section(f"Availability {_by(b)} (share of samples)", (having.breakdown(b, atlas),))
    title = "Outcome by pattern (rate, 95 % interval)"
    if len(atlas.patterns) > most:
        title += f"; the {most} most frequent of {len(atlas.patterns)} rows"
    yield Section(title, (having.pattern_table(atlas, most),))
    if signal is not None:
        drawn = (Paragraph(sampled(signal)),) if sampled(signal) else ()
        yield Section("Is missingness informative?", (tests(signal), *verdicts(signal), *drawn, Paragraph(CANNOT_TELL)))
    if facts.manifest.get("warnings"):
        yield Section("Warnings", (warnings(facts.manifest),))


def _by(breakdown: Breakdown) -> str:
    return "over time" if breakdown.over_time else f"by {breakdown.name.replace('_', ' ')}"
