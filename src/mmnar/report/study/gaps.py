"""The part of a study's page that says whether each row serves the groups of an attribute alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mmnar.evaluation.decided import Gap
from mmnar.evaluation.group_gaps import GroupGaps
from mmnar.render import marks
from mmnar.render.blocks import Block, Cell, Figure, Fold, Heading, Listing, Paragraph, Picture, named, table_of
from mmnar.render.cells import value_cell
from mmnar.render.wording import ALPHA, interval, listed, p_value
from mmnar.report.study.cells import tag_of
from mmnar.study.result import StudyResult, Table

FIGURES: Final = {
    "auprc": "AUPRC",
    "sensitivity": "sensitivity at a risk of .5",
    "false_alarms": "false alarms at a risk of .5",
    "ece": "calibration error",
}
HOW: Final = (
    "A gap is that between the group with the highest and the group with the lowest figure; some gap there always is, "
    "and it leans high because the two were picked for it. p: the attribute is dealt out anew to the patients; what "
    "remains after correction over figures and attributes of a row is marked. AUPRC follows how common the outcomes "
    "are in a group: its gap can be one between patients rather than one that a model makes. Figures of a panel are "
    "means over the outcomes of which every group has ten patients with and ten without; smaller groups share a line. "
    "First seed; risks of all folds are pooled."
)


def gaps(result: StudyResult, table: Table) -> Iterator[Block]:
    """Question by question and attribute by attribute: each row's gaps, and the figures of its groups folded."""
    yield Paragraph(HOW, "note")
    for question in dict.fromkeys(q for of in table.gaps.values() for q in of):
        found = {row: of[question] for row, of in table.gaps.items() if question in of}
        yield Heading(question)
        yield Listing(tuple(_sentences(found)))
        for attribute in dict.fromkeys(a for of in found.values() for a in of):
            yield from _attribute(result, question, attribute, {row: of[attribute] for row, of in found.items()})


def _attribute(result: StudyResult, question: str, attribute: str, rows: Mapping[str, GroupGaps]) -> Iterator[Block]:
    words = attribute.replace("_", " ")
    known = {row: of for row, of in rows.items() if of.groups}
    if not known:
        yield Paragraph(f"{words}: {next(iter(rows.values())).reason}.")
        return
    by_figure = {row: {gap.rate: gap for gap in of.gaps} for row, of in known.items()}
    head = ("Row", *(f"Gap of {name}" for name in FIGURES.values()))
    body = [
        [named(row, tag_of(result, row)), *(_gap_cell(own.get(f)) for f in FIGURES)] for row, own in by_figure.items()
    ]
    outcomes = len(next(iter(known.values())).outcomes)
    of = f", means over {outcomes} outcomes" if outcomes > 1 else ""
    yield table_of(f"{question} by {words}: gaps between groups{of}.", head, body)
    drawn = {row: own["auprc"].difference for row, own in by_figure.items() if "auprc" in own}
    if drawn:
        picture = marks.forest(f"Gap of AUPRC by {words}", drawn, {}, None, result.study["controls"])
        yield Figure(
            f"Gap of AUPRC by {words} on {question}; further left is more alike.", (Picture(picture),), "small"
        )
    folded = [_groups(question, words, row, own) for row, own in known.items()]
    yield Fold(f"Figures of each group by {words}", tuple(folded), look="long")


def _gap_cell(gap: Gap | None) -> Cell:
    if gap is None:
        return Cell("not given", "refused")
    sure = gap.p_holm is not None and gap.p_holm < ALPHA
    note = f"{gap.highest} over {gap.lowest}; p {p_value(gap.p_holm)}"
    return Cell(f"{interval(gap.difference, 2)}{'*' if sure else ''}", "sure" if sure else "num", note=note)


def _groups(question: str, words: str, row: str, of: GroupGaps) -> Block:
    head = ("Group", *FIGURES.values())
    body = [[named(g.group), *(value_cell(g.figures.get(figure), 2) for figure in FIGURES)] for g in of.groups]
    return table_of(f"{question} by {words}: {row}.", head, body)


def _sentences(found: Mapping[str, Mapping[str, GroupGaps]]) -> Iterator[str]:
    """What is shown, attribute by attribute."""
    for attribute in dict.fromkeys(a for of in found.values() for a in of):
        sure: dict[str, list[str]] = {}
        for row, of in found.items():
            for gap in of[attribute].gaps:
                if gap.p_holm is not None and gap.p_holm < ALPHA:
                    sure.setdefault(FIGURES[gap.rate], []).append(row)
        words = attribute.replace("_", " ")
        if not any(of[attribute].groups for of in found.values()):
            continue
        if not sure:
            yield f"By {words}: no gap was shown to be more than chance. That does not show that there is none."
        for figure, rows in sure.items():
            yield f"By {words}: a gap of {figure} beyond chance with {listed(rows)}."
