"""Who is in the data, and how two stores differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mmnar.evaluation.atlas import Atlas, Breakdown
from mmnar.render.blocks import Block, Cell, Fold, Paragraph, Table, named, table_of
from mmnar.render.cells import plain_share_cell, share_cell
from mmnar.render.wording import count, percent
from mmnar.report.inputs import StoreFacts
from mmnar.report.parts.cohort import HINDSIGHT, attrition, source_of
from mmnar.report.parts.models import warnings

NO_GROUPS: Final = "The store has no attributes by which its patients could be told apart."
ABOUT: Final = (
    "Source: {source}. {samples} samples of {patients} patients; a sample is one stay at one prediction time. These "
    "are all of the store, those learned from and those judged."
)


def population(store: StoreFacts) -> Iterator[Block]:
    """Source, attrition, groups, warnings."""
    atlas = store.atlas
    assert atlas is not None
    source = source_of(store.manifest)
    yield Paragraph(ABOUT.format(source=source, samples=count(atlas.samples), patients=count(atlas.patients)))
    flows = attrition(store.manifest)
    if flows.flows:
        yield flows
        yield Paragraph(HINDSIGHT, "note")
    yield who(atlas.breakdowns, atlas.samples) if atlas.breakdowns else Paragraph(NO_GROUPS, "warning")
    yield Fold("What the preparation of the store warned of", (warnings(store.manifest),), look="long")


def who(breakdowns: Sequence[Breakdown], samples: int) -> Table:
    """Samples and patients of every group of every attribute."""
    body = []
    for of in breakdowns:
        for i, row in enumerate(of.rows):
            body.append(
                [
                    named(of.name.replace("_", " ")) if not i else Cell("", ""),
                    Cell(row.group, ""),
                    Cell(count(row.n)),
                    Cell(count(row.patients)),
                    Cell(percent(row.n / samples)) if row.n is not None else Cell("–", "muted"),
                ]
            )
    caption = "Who is in the data. Groups of fewer than 10 patients share a row with others."
    return table_of(caption, ("Attribute", "Group", "Samples", "Patients", "Share of samples"), body, look="narrow")


def side_by_side(own: Atlas, other: Atlas) -> Table:
    """The store learned from beside another: sizes, modalities, outcomes, groups."""
    rows = [[named("Samples"), Cell(count(own.samples)), Cell(count(other.samples))]]
    rows.append([named("Patients"), Cell(count(own.patients)), Cell(count(other.patients))])
    sides = [{f"{m.name} is there": plain_share_cell(m.present) for m in of.modalities} for of in (own, other)]
    for side, of in zip(sides, (own, other), strict=True):
        side.update({f"{task}, rate of those asked": share_cell(o.rate) for task, o in of.outcomes.items()})
        side.update(_groups(of))
    absent = Cell("not by itself", "muted")
    rows += [
        [named(what), *(side.get(what, absent) for side in sides)] for what in dict.fromkeys([*sides[0], *sides[1]])
    ]
    return table_of("The two stores side by side.", ("", "Its own store", "The other store"), rows, look="narrow")


def _groups(atlas: Atlas) -> dict[str, Cell]:
    """attribute: group → share of samples."""
    return {
        f"{of.name.replace('_', ' ')}: {row.group}": Cell(percent(row.n / atlas.samples))
        for of in atlas.breakdowns
        for row in of.rows
        if row.n is not None
    }
