"""The report of runs: report.html and result.json, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from mmnar.evaluation.simulated import TO_BAYES
from mmnar.files import write_text, write_whole
from mmnar.privacy import in_tens
from mmnar.render.blocks import Block, Heading, Page, Paragraph, Section
from mmnar.render.page import html_of
from mmnar.report.choosing import first_named
from mmnar.report.inputs import ReportInputs, RunRecord
from mmnar.report.ordering import abstaining, tilting
from mmnar.report.parts.alerts import alerts
from mmnar.report.parts.answers import answers
from mmnar.report.parts.availability import availability, modalities
from mmnar.report.parts.calibration import calibration
from mmnar.report.parts.chosen import chosen_in_full
from mmnar.report.parts.cohort import asked_of_the_scored, cohort, source_of
from mmnar.report.parts.curves import curves
from mmnar.report.parts.decided import has_decisions
from mmnar.report.parts.gaps import groups, has_fairness
from mmnar.report.parts.groups import by_pattern, by_subgroup
from mmnar.report.parts.guide import guide
from mmnar.report.parts.missingness import CANNOT_TELL, missingness, verdicts
from mmnar.report.parts.models import cards, data, rectifiers, settings, training
from mmnar.report.parts.performance import WITHIN, comparisons, exact_risks, performance
from mmnar.report.parts.sizes import has_sizes, sizes
from mmnar.report.parts.steadiness import has_probes, steadiness
from mmnar.report.parts.summary import alarms
from mmnar.report.titles import entitled
from mmnar.report.written import shown_store, writing

JSON: Final = "result.json"
NAMED_FIRST: Final = "risks out of fold were not at hand"
REST: Final = "Not printed, but on the page on screen (open a section, and it is printed, too) and in result.json:"


def write_report(inputs: ReportInputs, out: Path) -> Path:
    """Write ``report.html`` and ``result.json`` to ``out``.

    ``result.json`` is the Result as evaluated, with everything else the report shows under ``provenance.report``.

    Raises:
        StoreError: The folder cannot be written.
    """
    choices = inputs.choices or first_named(inputs.result, NAMED_FIRST)
    inputs = replace(inputs, result=inputs.result.disclosed(), store=inputs.store.disclosed(), choices=choices)
    shown = shown_data(inputs)
    result = replace(inputs.result, provenance={**inputs.result.provenance, "report": shown})
    told = entitled(inputs)
    html, page = html_of(report_page(told, shown_data(told))), out / "report.html"
    with writing(out):
        write_whole(out / JSON, result.save)
        write_text(page, html)
    return page


def shown_data(inputs: ReportInputs) -> dict[str, Any]:
    """What the report shows beside the Result, as plain JSON with small cells removed."""
    return {
        "title": inputs.title,
        "chosen": None if inputs.choices is None else asdict(inputs.choices),
        **shown_store(inputs.store),
        "runs": [_shown_run(run) for run in inputs.runs],
        "abstentions": [asdict(of) for of in inputs.abstentions],
        "tilts": [asdict(of) for of in inputs.tilts],
        "versions": dict(inputs.versions),
    }


def _shown_run(run: RunRecord) -> dict[str, Any]:
    rectifier = None
    if run.rectifier is not None:
        rectifier = {task: shown_rectifier(fitted) for task, fitted in run.rectifier.items()}
    return {**asdict(run), "rectifier": rectifier}


def shown_rectifier(fitted: dict[str, Any]) -> dict[str, Any]:
    """Offsets of patterns with enough patients; how many patterns were withheld is said, not which."""
    offsets = fitted.get("offsets", [])
    told = sorted((o for o in offsets if o["n"] is not None and o["events"] is not None), key=lambda o: -int(o["n"]))
    # counts of the training fold, less those of the test fold and from everyone's, would tell the tune fold's
    shown = [{**_in_tens(o), **{k: round(o[k], 3) for k in ("value", "low", "high")}} for o in told]
    return {**fitted, "offsets": shown, "withheld": len(offsets) - len(shown)}


def _in_tens(offset: dict[str, Any]) -> dict[str, Any]:
    return {**offset, "n": in_tens(offset["n"]), "events": in_tens(offset["events"])}


def report_page(inputs: ReportInputs, shown: dict[str, Any]) -> Page:
    """Answers first, then the chosen model in full, then all the rest, folded; sections that have something in them."""
    manifest = inputs.store.manifest
    sections = [Section(title, tuple(blocks)) for title, blocks, wanted in _first(inputs) if wanted]
    rest = [Section(title, tuple(blocks), folded=True) for title, blocks, wanted in _rest(inputs, shown) if wanted]
    return Page(
        "Evaluation report",
        inputs.title,
        (*sections, *rest),
        source_of(manifest),
        str(manifest.get("fingerprint") or ""),
        tuple(alarms(inputs.result)),
        rest=REST,
    )


Part = tuple[str, Iterable[Block], bool]
"""A title, blocks, and whether there is anything to show."""


def _first(inputs: ReportInputs) -> list[Part]:
    """What everybody reads, and what is printed."""
    result, manifest, choices = inputs.result, inputs.store.manifest, inputs.choices
    assert choices is not None
    return [
        ("Answers", answers(result, manifest, choices), bool(result.tasks)),
        ("How to read this", guide(), True),
        ("The chosen model", chosen_in_full(result, manifest, choices, inputs.store.atlas), bool(choices.models)),
        ("Who was asked, and what is missing", _asked(inputs), True),
    ]


def _asked(inputs: ReportInputs) -> Iterator[Block]:
    manifest, atlas, signal = inputs.store.manifest, inputs.store.atlas, inputs.store.informative
    yield from cohort(manifest, atlas, asked_of_the_scored(manifest, inputs.result))
    if atlas is not None:
        yield modalities(atlas)
    if signal is not None:
        yield Heading("Is what is missing informative?")
        yield from verdicts(signal)
        yield Paragraph(CANNOT_TELL, "note")


def _rest(inputs: ReportInputs, shown: dict[str, Any]) -> list[Part]:
    """What opens on demand: every model, every group, every number."""
    result, runs, manifest = inputs.result, shown["runs"], inputs.store.manifest
    atlas, signal = inputs.store.atlas, inputs.store.informative
    entries = [m for models in result.tasks.values() for m in models.values()]
    metrics = {name for entry in entries for name in entry.metrics}
    by_patterns = bool(metrics & set(WITHIN)) or any(m.patterns for m in entries)
    drawn = any(m.roc or m.pr or m.calibration for m in entries)
    return [
        ("Availability of modalities", availability(atlas, JSON) if atlas else (), atlas is not None),
        ("Is missingness informative?", missingness(signal) if signal else (), signal is not None),
        ("Performance", performance(result), bool(result.tasks)),
        ("Comparisons with controls", comparisons(result), bool(result.comparisons)),
        ("Alerts at thresholds", alerts(result, manifest), has_decisions(result)),
        ("Do risks mean what they say?", calibration(result, manifest), has_decisions(result)),
        ("Are there enough patients?", sizes(result), has_sizes(result)),
        ("Discrimination and calibration curves", curves(result), drawn),
        ("Observation patterns", by_pattern(result, atlas), by_patterns),
        ("Subgroups", by_subgroup(result), any(m.subgroups for m in entries)),
        ("Alerts by group", groups(result, manifest), has_fairness(result)),
        ("Are risks steady, and what do they lean on?", steadiness(result, manifest), has_probes(result)),
        ("If the model may say undecided", abstaining(inputs.abstentions), bool(inputs.abstentions)),
        ("If the pattern meant something else", tilting(inputs.tilts), bool(inputs.tilts)),
        ("Pattern calibration offsets", rectifiers(runs, result, atlas), any(r["rectifier"] for r in runs)),
        ("Distance to the exact Bayes risk", exact_risks(result), bool(metrics & set(TO_BAYES))),
        ("Training", training(runs), any(r["history"] for r in runs)),
        ("Model cards", cards(runs), bool(runs)),
        ("Data", data(manifest, JSON), True),
        ("Configuration and versions", settings(result.provenance, runs, shown["versions"]), True),
    ]
