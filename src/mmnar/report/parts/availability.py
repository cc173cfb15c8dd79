"""Who has which modalities, and how outcomes differ between observation patterns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mmnar.evaluation.atlas import Atlas, Breakdown, FeatureGroupRow, ModalityRow, OutcomeRate
from mmnar.evaluation.result import Estimate
from mmnar.privacy import FEW_WITHOUT
from mmnar.render.blocks import Block, Cell, Figure, Fold, Paragraph, Picture, Table, named, table_of
from mmnar.render.cells import plain_share_cell, share_cell, short, with_mark
from mmnar.render.patterns import MAX_PATTERNS, pattern_figure
from mmnar.render.svg import share_bar
from mmnar.render.wording import UNFOLDED, count, percent

TASKS_A_FIGURE: Final = 3
FIGURES: Final = 2
"""Shown unfolded."""
BEYOND_FIGURE: Final = "The figure shows the most frequent patterns. All are listed in {json}."
CAPTION: Final = (
    "Outcome rate by observation pattern. A filled dot is a modality that is present. Grey bars are numbers of "
    "samples; blue bars are outcome rates with 95 % Wilson intervals; the dotted line is the rate of everyone asked. "
    "Where rates differ between patterns, what is missing carries information."
)
HIDDEN: Final = (
    '"Few outcomes": fewer than 10 patients with or without the event. "Withheld": shown, it would give such a number '
    "away."
)


def availability(atlas: Atlas, json: str) -> Iterator[Block]:
    """Everything an atlas knows; ``json``: the file that has all of it."""
    yield modalities(atlas)
    yield from (breakdown(b, atlas) for b in atlas.breakdowns if b.over_time)
    yield from patterns(atlas)
    if len(atlas.patterns) > MAX_PATTERNS:
        yield Paragraph(BEYOND_FIGURE.format(json=json), "note")
    yield Paragraph(HIDDEN, "note")
    for b in (b for b in atlas.breakdowns if not b.over_time):
        title, table = f"Availability by {_plain(b.name)}", (breakdown(b, atlas),)
        yield Fold(title, table, look="long") if b.name == "site" else Fold(title, table, b.name == "unit")
    grouped = tuple(_groups(m, groups) for m in atlas.modalities if len(groups := _groups_of(atlas, m)) < m.features)
    if grouped:
        yield Fold("Missing values of each group of features", grouped, look="long")
    features = tuple(_features(atlas, m) for m in atlas.modalities if m.features)
    if features:
        yield Fold("Missing values of each feature", features, look="long")


def modalities(atlas: Atlas) -> Table:
    """Share of samples that have each modality."""
    body = [
        [
            named(m.name),
            Cell(m.kind or str(m.features)),
            _barred(m.present),
            Cell("", "muted") if m.kind else plain_share_cell(m.missing),
        ]
        for m in atlas.modalities
    ]
    head = ("Modality", "Features", "Present", "Values missing where present")
    return table_of("Share of samples that have each modality at prediction time.", head, body, {2: "Drawn"})


def _barred(share: Estimate) -> Cell:
    cell = plain_share_cell(share)
    return cell if share.value is None else with_mark(cell, share_bar(share.value))


def breakdown(of: Breakdown, atlas: Atlas) -> Table:
    """Share of samples that have each modality, by period or group."""
    names = [m.name for m in atlas.modalities]
    body = [[named(r.group), Cell(count(r.n)), *(_tinted(r.present[m]) for m in names)] for r in of.rows]
    what = f"over time, by {_plain(of.name)}" if of.over_time else f"by {_plain(of.name)}"
    caption = (
        f'Share of samples that have each modality, {what}. "Few" and "nearly all": fewer than 10 patients '
        "with or without it, or a cell that would give such a number away."
    )
    head = (_plain(of.name).capitalize(), "Samples", *(_plain(m) for m in names))
    return table_of(caption, head, body, look="grid")


def _tinted(share: Estimate) -> Cell:
    if share.value is None:
        return Cell("nearly all" if share.reason == FEW_WITHOUT else "few", "refused", full=share.reason)
    return Cell(percent(share.value, 0), tint=round(10 * share.value))


def patterns(atlas: Atlas) -> Iterator[Block]:
    """Patterns with their outcome rates, drawn and as a table; of many outcomes the most are folded."""
    names, tasks = [m.name for m in atlas.modalities], list(atlas.outcomes)
    chunks = [tasks[i : i + TASKS_A_FIGURE] for i in range(0, len(tasks), TASKS_A_FIGURE)]
    pictures = [Picture(pattern_figure(atlas, names, chunk)) for chunk in chunks]
    yield Figure(CAPTION, tuple(pictures[:FIGURES]), numbers=pattern_table(atlas, MAX_PATTERNS))
    if rest := tuple(pictures[FIGURES:]):
        yield Fold(
            f"{len(tasks) - FIGURES * TASKS_A_FIGURE} more outcomes by pattern", (Figure("", rest),), look="long"
        )


def pattern_table(atlas: Atlas, most: int) -> Table:
    """Everyone, then the ``most`` frequent patterns; of many outcomes the first."""
    tasks = list(atlas.outcomes)[:UNFOLDED]
    more = f" The first {len(tasks)} of {len(atlas.outcomes)} outcomes." if len(tasks) < len(atlas.outcomes) else ""
    everyone = [named("everyone"), Cell(count(atlas.samples)), Cell(count(atlas.patients))]
    body = [[*everyone, *_rates(atlas.outcomes, tasks)]]
    for p in atlas.patterns[:most]:
        body.append([named(p.label), Cell(count(p.n)), Cell(count(p.patients)), *_rates(p.outcomes, tasks)])
    return table_of(f"Outcome rate by pattern.{more}", ("Pattern", "Samples", "Patients", *tasks), body)


def _rates(outcomes: Mapping[str, OutcomeRate], tasks: Sequence[str]) -> list[Cell]:
    return [short(share_cell(outcomes[task].rate), outcomes[task].rate) for task in tasks]


def _groups_of(atlas: Atlas, modality: ModalityRow) -> list[FeatureGroupRow]:
    return sorted((g for g in atlas.feature_groups if g.modality == modality.name), key=lambda g: _most(g.missing))


def _groups(modality: ModalityRow, groups: Sequence[FeatureGroupRow]) -> Table:
    body = [[named(g.group), Cell(str(g.features)), _barred(g.missing)] for g in groups]
    caption = f"{modality.name}: share of values not observed where the modality is present."
    return table_of(caption, ("Features", "How many", "Missing"), body, {2: "Drawn"}, "narrow")


def _features(atlas: Atlas, modality: ModalityRow) -> Table:
    chosen = sorted((f for f in atlas.features if f.modality == modality.name), key=lambda f: _most(f.missing))
    body = [[named(f.feature), *map(plain_share_cell, (f.missing, f.missing_when_present))] for f in chosen]
    return table_of(
        f"{modality.name}: share of samples without a value.",
        ("Feature", "Missing, all samples", "Missing where the modality is present"),
        body,
        look="narrow",
    )


def _most(share: Estimate) -> float:
    """The most missing first."""
    return -(share.value or 0.0)


def _plain(name: str) -> str:
    return name.replace("_", " ")
