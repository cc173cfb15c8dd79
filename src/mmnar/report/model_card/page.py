"""The card as a page of blocks; what a report shows of a run is shown by the report's own parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from mmnar.evaluation.result import Result
from mmnar.render.blocks import Block, Fold, Heading, Listing, Page, Paragraph, Section
from mmnar.render.wording import listed
from mmnar.report.model_card.blanks import MAINTENANCE as CARE
from mmnar.report.model_card.blanks import USE as PURPOSE
from mmnar.report.model_card.blanks import blank_table
from mmnar.report.model_card.fitting import fitting, identity, learned_table
from mmnar.report.model_card.inputs import (
    ALERTS,
    CALIBRATION,
    ELSEWHERE,
    GROUPS,
    INPUTS,
    ITEMS,
    LIMITS,
    MAINTENANCE,
    MISSING,
    OUTCOMES,
    PEOPLE,
    PERFORMANCE,
    SHORT,
    TRAINING,
    USE,
    VERSIONS,
    CardInputs,
    Judged,
)
from mmnar.report.model_card.limits import limits
from mmnar.report.model_card.population import population, side_by_side, who
from mmnar.report.model_card.traits import BY_NAME, silent, traits_table
from mmnar.report.model_card.tripod import tripod
from mmnar.report.parts.alerts import alerts
from mmnar.report.parts.availability import modalities
from mmnar.report.parts.calibration import calibration
from mmnar.report.parts.cohort import asked_of_the_scored, source_of
from mmnar.report.parts.decided import has_decisions
from mmnar.report.parts.gaps import groups, has_fairness
from mmnar.report.parts.groups import by_pattern, by_subgroup
from mmnar.report.parts.models import rectifiers
from mmnar.report.parts.performance import performance
from mmnar.report.parts.sizes import has_sizes, sizes
from mmnar.report.parts.steadiness import has_probes, steadiness
from mmnar.report.parts.summary import alarms, findings

ABOUT: Final = (
    "Research only; not a medical device. This card says what one run of mmnar knows of itself. It certifies nothing. "
    "What no run can know says by whom it is to be filled."
)
NO_FIGURES: Final = (
    "Not given: no outcome has enough patients, or all are of a panel; each outcome of a panel has its figures in the "
    "result.json of mmnar evaluate."
)
NOT_JUDGED: Final = (
    "Not done. To be filled by whoever holds records of another hospital: mmnar card RUN --on STORE judges the same "
    "model there and fits nothing on it."
)
ALIKE: Final = "All groups are too small to stand alone"
JUDGED: Final = (
    "Every patient of another store was scored by the model as it stands; nothing was fitted on them, and none of them "
    "was learned from."
)


def card_page(card: CardInputs) -> Page:
    """All sections of a card, those of blanks, too."""
    manifest = card.home.manifest
    return Page(
        "Model card",
        f"Model card: {card.name}",
        tuple(Section(title, tuple(blocks)) for title, blocks in _sections(card)),
        source_of(manifest),
        card.fingerprints.get("data", ""),
        tuple(alarms(card.home.result)),
    )


def _sections(card: CardInputs) -> Iterator[tuple[str, Iterable[Block]]]:
    home, result = card.home, card.home.result
    asked = asked_of_the_scored(home.manifest, result)
    yield SHORT, (Paragraph(ABOUT), *findings(result, home.manifest))
    yield USE, (blank_table("What the model is for is no fact of a run.", PURPOSE),)
    yield PEOPLE, population(home.store)
    yield OUTCOMES, (asked, *(sizes(result) if has_sizes(result) else ()))
    yield INPUTS, _inputs(card)
    yield TRAINING, fitting(card)
    yield PERFORMANCE, performance(result)
    yield CALIBRATION, _figures(home, calibration(result, home.manifest))
    yield ALERTS, _figures(home, alerts(result, home.manifest))
    yield GROUPS, _gaps(home)
    yield MISSING, _missing(card)
    yield ELSEWHERE, _elsewhere(card)
    yield LIMITS, (Listing(tuple(limits(card))),)
    yield MAINTENANCE, (blank_table("What happens to the model from now on.", CARE),)
    yield ITEMS, tripod(card)
    yield VERSIONS, identity(card)


def _figures(judged: Judged, blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks of decisions, or why there are none."""
    if has_decisions(judged.result):
        yield from blocks
    else:
        yield Paragraph(NO_FIGURES, "note")


def _inputs(card: CardInputs) -> Iterator[Block]:
    if card.home.atlas.modalities:
        yield modalities(card.home.atlas)
    yield traits_table(card)
    yield Paragraph(BY_NAME, "note")
    if said := silent(card):
        yield Paragraph(said, "note")
    named = tuple(Listing((f"{name}: {', '.join(features)}",)) for name, _, features in card.modalities if features)
    if named:
        yield Fold("Every feature by name", named, look="long")


def _gaps(judged: Judged) -> Iterator[Block]:
    """Alerts by group with their gaps; then figures of each group."""
    result = judged.result
    if has_fairness(result):
        yield from groups(result, judged.manifest)
    else:
        yield Paragraph(f"No alerts by group. {NO_FIGURES}", "note")
    shown, alike = _several_groups(result)
    if any(entry.subgroups for models in shown.tasks.values() for entry in models.values()):
        yield Fold("Risks and outcomes of each group", tuple(by_subgroup(shown)), look="long")
    if alike:
        yield Paragraph(f"{ALIKE}: {'; '.join(alike)}.", "note")


def _several_groups(result: Result) -> tuple[Result, list[str]]:
    """The result without attributes whose groups all share one row, and which these are."""
    alike, tasks = [], {}
    for task, models in result.tasks.items():
        base = next(iter(models))
        one = [name.replace("_", " ") for name, rows in models[base].subgroups.items() if len(rows) < 2]
        alike += [f"{task} by {listed(one)}"] if one else []
        tasks[task] = {
            name: replace(entry, subgroups={a: rows for a, rows in entry.subgroups.items() if len(rows) > 1})
            for name, entry in models.items()
        }
    return replace(result, tasks=tasks), alike


def _missing(card: CardInputs) -> Iterator[Block]:
    """What was learned from, how each pattern was judged, what is leaned on, the rectifier's offsets."""
    home, result = card.home, card.home.result
    yield learned_table(card)
    yield from by_pattern(result, home.atlas)
    if has_probes(result):
        yield from steadiness(result, home.manifest)
    if card.run.rectifier:
        shown = [{"name": card.name, "rectifier": card.run.rectifier}]
        yield Fold("Offsets of the rectifier", tuple(rectifiers(shown, result, home.atlas)), look="long")


def _elsewhere(card: CardInputs) -> Iterator[Block]:
    there = card.elsewhere
    if there is None:
        yield Paragraph(NOT_JUDGED, "warning")
        return
    yield Paragraph(f"{JUDGED} Source: {source_of(there.manifest)}.")
    yield from findings(there.result, there.manifest)
    yield asked_of_the_scored(there.manifest, there.result)
    yield side_by_side(card.home.atlas, there.atlas)
    if there.atlas.breakdowns:
        yield Fold("Who is in the other store", (who(there.atlas.breakdowns, there.atlas.samples),), look="long")
    yield Heading("Performance there")
    yield from performance(there.result)
    yield Fold("Calibration there", tuple(_figures(there, calibration(there.result, there.manifest))))
    yield Fold("Alerts at thresholds there", tuple(_figures(there, alerts(there.result, there.manifest))))
    yield Fold("Gaps between groups there", tuple(_gaps(there)))
    yield Fold("Patterns there", tuple(by_pattern(there.result, there.atlas)))
